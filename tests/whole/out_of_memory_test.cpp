// Runs every primitive with each allocation failing in its turn, the standard library's, too: see out_of_memory.hpp.
#include "out_of_memory.hpp"
#include "loop/timers.hpp"

#include <aio/lowlevel.hpp>

#include <algorithm>
#include <filesystem>
#include <random>

#include <sys/eventfd.h>
#include <unistd.h>

using aio_test::counted;
using aio_test::survives_without_memory;

namespace {

const std::string long_text(60, 'y');  // too long for the small buffer of a string

aio::coro<> nap() {
    const counted local;
    co_await aio::sleep(1ms);
}
aio::coro<int> number(int n) {
    const counted local;
    co_await aio::sleep(1ms);
    co_return n;
}
aio::coro<> fails() {
    const counted local;
    co_await aio::sleep(1ms);
    throw std::runtime_error("x");
}

}  // namespace

PLAIN_TEST("fault C11: sleep, a timeout around it, wait_for") {
    survives_without_memory([]() -> aio::coro<> {
        co_await aio::sleep(0s);
        co_await nap();
        try {
            co_await aio::with(aio::timeout(1ms), [](aio::timeout& t) -> aio::coro<> {
                t.reschedule(aio::get_running_loop().time() - 1s);
                t.reschedule(aio::get_running_loop().time() + 2ms);
                co_await aio::sleep_forever();
            });
        } catch (const aio::timeout_error&) {}
        try {
            co_await aio::wait_for(aio::sleep_forever(), 1ms);
        } catch (const aio::timeout_error&) {}
    });
}

PLAIN_TEST("completion, work_guard: made, completed, failed, given up, dropped") {
    survives_without_memory([]() -> aio::coro<> {
        const aio::lowlevel::work_guard guard;
        aio::event_loop& loop = aio::get_running_loop();
        aio::lowlevel::completion<counted> c;
        loop.call_soon([h = c.handle()] { h.complete(1); });
        const counted got = co_await c;
        aio::lowlevel::completion<counted> failed;
        loop.call_soon([h = failed.handle()] {
            try {
                h.fail(std::runtime_error(long_text));
            } catch (const std::bad_alloc&) {}  // the handle is dropped then
        });
        try {
            co_await failed;
        } catch (const std::runtime_error&) {
        } catch (const std::logic_error&) {}
        aio::lowlevel::completion<counted> slow;
        const std::string text = long_text;
        slow.on_cancel([text] {
            static_cast<void>(text);
            return aio::lowlevel::after_cancel::give_up;
        });
        const auto unused = slow.handle();
        try {
            co_await aio::wait_for(std::move(slow), 1ms);
        } catch (const aio::timeout_error&) {}
    });
}

PLAIN_TEST("wait_readable: waiting, refused, given up") {
    const int fd = ::eventfd(0, EFD_NONBLOCK);
    survives_without_memory(
        [fd]() -> aio::coro<> {
            try {
                co_await aio::wait_for(aio::lowlevel::wait_readable(fd), 1ms);
            } catch (const aio::timeout_error&) {}
            try {
                co_await aio::lowlevel::wait_readable(-1);
            } catch (const std::system_error&) {}
            aio::get_running_loop().call_soon([fd] { aio::lowlevel::notify_closing(fd); });
            try {
                co_await aio::lowlevel::wait_readable(fd);
            } catch (const std::system_error&) {}
        },
        {.real_time = true});
    ::close(fd);
}

PLAIN_TEST("fault C11: a nested coroutine, and a task that is named, cancelled with a message, and joined") {
    survives_without_memory([]() -> aio::coro<> {
        auto t = aio::create_task(nap(), {.name = long_text});
        co_await aio::sleep(0s);
        t.cancel(long_text);
        try {
            co_await t;
        } catch (const aio::cancelled_error&) {}
        auto joined =
            aio::create_task([](aio::task<> inner) -> aio::coro<> { co_await inner; }, aio::create_task(nap()));
        co_await aio::sleep(0s);
        const auto canceller = joined.canceller();
        canceller.cancel(long_text);
        try {
            co_await joined;
        } catch (const aio::cancelled_error&) {}
    });
}

PLAIN_TEST("fault C11: a cancel that is handed on through a chain and a tree of tasks reaches all of them") {
    survives_without_memory([]() -> aio::coro<> {
        auto leaf = aio::create_task(aio::sleep_forever());
        auto chain = [](aio::task<> inner) -> aio::coro<> { co_await inner; };
        auto outer = aio::create_task(chain, aio::create_task(chain, leaf));
        auto tree = []() -> aio::coro<> {
            co_await aio::gather(nap(), aio::gather(nap(), nap()), aio::race(nap(), nap()));
        };
        auto wide = aio::create_task(tree);
        co_await aio::sleep(0s);
        co_await aio::sleep(0s);
        std::exception_ptr error;
        for (auto* t : {&outer, &wide}) {
            t->cancel(t == &outer ? long_text : std::string());
            try {
                co_await *t;
            } catch (const aio::cancelled_error&) {
            } catch (...) {  // a task of the chain could not begin
                error = std::current_exception();
            }
        }
        if (outer.cancelled() && !leaf.done()) throw std::logic_error("a cancel was not handed on");
        if (error) std::rethrow_exception(error);
    });
}

PLAIN_TEST("fault C11: gather, whole and failing") {
    survives_without_memory([]() -> aio::coro<> {
        const auto [a, b] = co_await aio::gather(number(1), number(2));
        EXPECT_EQ(a + b, 3);
        try {
            co_await aio::gather(fails(), nap(), aio::sleep_forever());
        } catch (const std::runtime_error&) {}
        auto kept = aio::create_task(nap());
        try {
            co_await aio::gather(fails(), kept);
        } catch (const std::runtime_error&) {}
        std::vector<aio::coro<int>> many;
        for (int i = 0; i < 3; ++i) many.push_back(number(i));
        co_await aio::gather(aio::return_exceptions, std::move(many));
        co_await kept;
    });
}

PLAIN_TEST("fault C11: race") {
    survives_without_memory([]() -> aio::coro<> {
        co_await aio::race(nap(), aio::sleep_forever());
        try {
            co_await aio::race(fails(), aio::sleep_forever());
        } catch (const std::runtime_error&) {}
    });
}

PLAIN_TEST("fault C11: shield, with and without a deadline, cancelled and not") {
    survives_without_memory([]() -> aio::coro<> {
        co_await aio::shield(nap(), 1s);
        auto inner = aio::create_task(fails());
        auto outer = aio::create_task([](aio::task<> t) -> aio::coro<> { co_await aio::shield(t); }, inner);
        co_await aio::sleep(0s);
        co_await aio::sleep(0s);
        outer.cancel(long_text);
        try {
            co_await outer;
        } catch (const aio::cancelled_error&) {}
        try {
            co_await inner;
        } catch (const std::runtime_error&) {}
        auto held = aio::create_task(aio::shield(nap(), 1s));
        co_await aio::sleep(0s);
        held.cancel(long_text);
        try {
            co_await held;
        } catch (const aio::cancelled_error&) {}
        try {
            co_await aio::shield(aio::sleep_forever(), 1ms);
        } catch (const aio::timeout_error&) {}
    });
}

PLAIN_TEST("fault C11: a task group, and one in which a task fails") {
    survives_without_memory([]() -> aio::coro<> {
        co_await aio::with(aio::task_group({.max_running = 1}), [](aio::task_group& tg) {
            tg.create_task(nap(), {.name = long_text});
            tg.create_task(nap());
        });
        try {
            co_await aio::with(aio::task_group(), [](aio::task_group& tg) -> aio::coro<> {
                for (int i = 0; i < 12; ++i) tg.create_task(fails);
                tg.create_task(aio::sleep_forever());
                co_await aio::sleep_forever();
            });
        } catch (const aio::exception_group& group) {
            if (!group.find<std::runtime_error>()) throw;
        }
    });
}

PLAIN_TEST("fault C11: an exception group is made, looked at, split and handled") {
    survives_without_memory([]() -> aio::coro<> {
        std::vector<std::exception_ptr> inner{
            std::make_exception_ptr(std::runtime_error("a")), std::make_exception_ptr(1)};
        std::vector<std::exception_ptr> outer{
            std::make_exception_ptr(aio::exception_group("inner", inner)), inner.front()};
        const aio::exception_group group(long_text, outer);
        EXPECT_TRUE(group.what());
        const auto parts = group.split<std::runtime_error>();
        EXPECT_TRUE(parts.matching && parts.rest);
        static_cast<void>(group.handle<std::runtime_error>([](const std::runtime_error&) {}));
        co_await aio::sleep(0s);
    });
}

PLAIN_TEST("fault C11: queues") {
    survives_without_memory([]() -> aio::coro<> {
        aio::queue<std::string> q(1);
        auto puts = [](aio::queue<std::string>& to) -> aio::coro<> {
            for (int i = 0; i < 3; ++i) co_await to.put(std::string(40, 'x'));
        };
        auto putter = aio::create_task(puts, std::ref(q));
        std::exception_ptr error;
        try {
            for (int i = 0; i < 3; ++i) co_await aio::wait_for(q.get(), 1s);
        } catch (const aio::timeout_error&) {  // the failed allocation was the putter's
        } catch (...) { error = std::current_exception(); }
        putter.cancel();
        try {
            co_await putter;
        } catch (const aio::cancelled_error&) {
        } catch (const std::bad_alloc&) {}
        if (error) std::rethrow_exception(error);
        aio::priority_queue<std::string> p;
        for (int i = 0; i < 9; ++i) p.put_nowait(std::string(40, static_cast<char>('a' + i)));
        EXPECT_EQ(p.size(), 9u);
    });
}

PLAIN_TEST("fault C11: locks, events, conditions, semaphores and barriers, one destroyed while a task waits on it") {
    survives_without_memory([]() -> aio::coro<> {
        aio::get_running_loop().set_debug(true);
        aio::lock lock;
        aio::semaphore one(1);
        aio::condition changed;
        aio::barrier both(2);
        aio::event go;
        std::vector<aio::task<>> tasks;
        auto works = [&]() -> aio::coro<> {
            const counted local;
            const auto guard = co_await lock.scoped();
            const auto permit = co_await one.scoped();
            co_await go.wait();
        };
        auto meets = [&]() -> aio::coro<> { co_await aio::wait_for(both.wait(), 1s); };
        auto notified = [&]() -> aio::coro<> {
            co_await changed.acquire();
            struct released {
                aio::condition& c;
                ~released() { c.release(); }
            } const at_end{changed};
            co_await changed.wait();
        };
        std::exception_ptr error;
        try {
            tasks.reserve(6);
            tasks.push_back(aio::create_task(works));
            tasks.push_back(aio::create_task(works));
            tasks.push_back(aio::create_task(meets));
            tasks.push_back(aio::create_task(notified));
            co_await aio::sleep(1ms);
            tasks.back().cancel(long_text);
            go.set();
            co_await meets();
            auto orphan = std::make_unique<aio::event>();
            auto waits = [](aio::event& e) -> aio::coro<> { co_await e.wait(); };
            tasks.push_back(aio::create_task(waits, std::ref(*orphan)));
            co_await aio::sleep(0s);
        } catch (const aio::timeout_error&) {
        } catch (...) { error = std::current_exception(); }
        for (auto& t : tasks) {
            t.cancel();
            try {
                co_await t;
            } catch (const aio::cancelled_error&) {
            } catch (const aio::timeout_error&) {
            } catch (const std::bad_alloc&) {}
        }
        if (error) std::rethrow_exception(error);
    });
}

PLAIN_TEST("fault C11: wait and as_completed") {
    survives_without_memory([]() -> aio::coro<> {
        std::vector<aio::task<>> tasks;
        tasks.push_back(aio::create_task(nap()));
        tasks.push_back(aio::create_task(nap()));
        co_await aio::wait(tasks, {.timeout = 1s});
        std::vector<aio::coro<int>> some;
        some.push_back(number(1));
        some.push_back(number(2));
        co_await aio::for_each(aio::as_completed(std::move(some), {.timeout = 1s}), [](const aio::task<int>&) {});
    });
}

PLAIN_TEST("fault C11: enter, defer, context and their exits") {
    static int deferred;
    static int entered;
    survives_without_memory([]() -> aio::coro<> {
        struct manager {
            counted local;
            aio::coro<> enter() { co_await aio::sleep(0s); }
            aio::detail::ready<> exit(std::exception_ptr) noexcept {
                --entered;
                return {};
            }
        };
        auto whole = []() -> aio::coro<> {
            co_await aio::enter(manager());
            ++entered;
            co_await aio::defer([](const std::string&) { --deferred; }, long_text);
            ++deferred;
            co_await aio::defer(
                [](std::string) -> aio::coro<> {
                    co_await aio::sleep(0s);
                    --deferred;
                },
                std::string(40, 'y'));
            ++deferred;
            co_await aio::sleep(1ms);
        };
        entered = deferred = 0;
        std::exception_ptr error;
        try {
            co_await whole();
        } catch (...) { error = std::current_exception(); }
        if (entered != 0 || deferred > 1) throw std::logic_error("an exit was skipped");
        if (error) std::rethrow_exception(error);
    });
}

PLAIN_TEST("fault C11: async generators, views over them, and one that is dropped with clean-up left") {
    survives_without_memory([]() -> aio::coro<> {
        auto counts = [](int n) -> aio::async_generator<std::string> {
            const counted local;
            co_await aio::defer([](std::string) -> aio::coro<> { co_await aio::sleep(1ms); }, std::string(40, 'y'));
            for (int i = 0; i < n; ++i) {
                co_await aio::sleep(0s);
                co_yield std::string(40, 'z');
            }
        };
        std::size_t length = 0;
        co_await aio::for_each(counts(3), [&](const std::string& s) { length += s.size(); });
        {
            auto dropped = counts(3);
            co_await dropped.next();
        }
        auto mapped = [](std::string s) -> aio::coro<std::string> {
            co_await aio::sleep(0s);
            co_return s + "!";
        };
        co_await aio::for_each(
            counts(3) | aio::views::concurrent(2, mapped), [&](const std::string& s) { length += s.size(); });
        co_await aio::sleep(5ms);
    });
}

PLAIN_TEST("fault C11: callbacks, futures and context variables") {
    static aio::context_var<std::string> variable("v", "-");
    survives_without_memory([]() -> aio::coro<> {
        auto& loop = aio::get_running_loop();
        aio::future<std::string> f;
        f.add_done_callback([text = long_text] { static_cast<void>(text.size()); });
        loop.call_later(1ms, [text = std::string(40, 'z')] {});
        auto cancelled = loop.call_later(1h, [text = std::string(40, 'z')] {});
        cancelled.cancel();
        loop.handle().call_soon_threadsafe([f, text = long_text]() mutable {
            if (!f.done()) f.set_result(std::move(text));
        });
        const auto token = variable.set(std::string(50, 'c'));
        co_await aio::create_task(nap());
        co_await f;
        co_await aio::sleep(2ms);
        variable.reset(token);
    });
}

PLAIN_TEST("fault C11: background tasks and their shutdown") {
    survives_without_memory([]() -> aio::coro<> {
        aio::background_tasks bg;
        std::exception_ptr error;
        try {
            for (int i = 0; i < 3; ++i) bg.create_task(aio::sleep_forever(), {.name = long_text});
            bg.create_task(fails);
            co_await aio::sleep(0s);
        } catch (...) { error = std::current_exception(); }
        co_await bg.shutdown();
        EXPECT_EQ(bg.size(), 0u);
        if (error) std::rethrow_exception(error);
    });
}

PLAIN_TEST("fault C11: what is left at the end of run() is cancelled and awaited") {
    survives_without_memory([]() -> aio::coro<> {
        auto cleans_up = []() -> aio::coro<> {
            const counted local;
            std::exception_ptr cancelled;
            try {
                co_await aio::sleep_forever();
            } catch (...) { cancelled = std::current_exception(); }
            co_await aio::sleep(1ms);
            std::rethrow_exception(cancelled);
        };
        auto inner = [cleans_up]() -> aio::coro<> {
            for (int i = 0; i < 3; ++i) aio::create_task(cleans_up);
            co_await aio::sleep(1ms);
        };
        co_await inner();
    });
}

PLAIN_TEST("fault C11: threads: to_thread, an executor and its shutdown, a coroutine from another thread") {
    survives_without_memory(
        []() -> aio::coro<> {
            auto measures = [text = long_text] { return text.size(); };
            EXPECT_EQ(co_await aio::to_thread(measures), 60u);
            EXPECT_EQ(co_await aio::to_thread(aio::abandon_on_cancel, measures), 60u);
            aio::thread_pool_executor pool(2);
            std::exception_ptr error;
            try {
                auto job = [] { return std::string(40, 'p'); };
                co_await aio::run_in_executor(pool, job);
                const auto loop = aio::get_running_loop().handle();
                auto calls = [loop] {
                    try {
                        aio::run_coroutine_threadsafe(loop, [] { return number(3); }).get();
                    } catch (const std::bad_alloc&) {}
                };
                co_await aio::run_in_executor(pool, calls);
            } catch (...) { error = std::current_exception(); }
            co_await pool.shutdown();
            if (error) std::rethrow_exception(error);
        },
        {.real_time = true, .threads = true});
}

PLAIN_TEST("fault C11: files") {
    const std::string folder = testing::TempDir() + "aio_out_of_memory_" + std::to_string(::getpid());
    std::filesystem::create_directory(folder);
    survives_without_memory(
        [&]() -> aio::coro<> {
            const std::string path = folder + "/a file whose name is rather long";
            co_await aio::write_file(path, "one\ntwo\n");
            EXPECT_EQ(co_await aio::read_file(path), "one\ntwo\n");
            aio::file f = co_await aio::open_file(path, "r+");
            co_await f.write("x");
            EXPECT_EQ(co_await f.read(), "ne\ntwo\n");
            co_await f.aclose();
            co_await aio::for_each(aio::read_lines(path), [](const std::string&) {});
        },
        {.real_time = true, .threads = true});
    std::filesystem::remove_all(folder);
}

PLAIN_TEST("fault C11: streams and a server") {
    survives_without_memory(
        []() -> aio::coro<> {
            auto handler = [](aio::stream s) -> aio::coro<> {
                const counted local;
                const std::string line = co_await s.read_line();
                co_await s.write(line);
            };
            auto server = co_await aio::start_server(handler, "127.0.0.1", 0);
            std::exception_ptr error;
            try {
                auto s = co_await aio::open_connection("127.0.0.1", server.port());
                co_await s.write("hi\n");
                co_await aio::wait_for(s.read_line(), 10s);
                co_await s.aclose();
            } catch (const std::system_error& e) {  // the failed allocation was the server's
                EXPECT_NE(e.code(), std::errc::not_enough_memory) << e.what();  // want of memory is std::bad_alloc
            } catch (const aio::incomplete_read_error&) {
            } catch (...) { error = std::current_exception(); }
            server.close();
            std::exception_ptr at_end;
            try {
                co_await server.drain(1h);
            } catch (...) { at_end = std::current_exception(); }
            if (at_end) co_await server.wait_closed();
            if (error) std::rethrow_exception(error);
            if (at_end) std::rethrow_exception(at_end);
        },
        {.real_time = true});
}

PLAIN_TEST("fault C11: a look-up of a name, a unix socket") {
    const std::string folder = testing::TempDir() + "aio_out_of_memory_unix_" + std::to_string(::getpid());
    std::filesystem::create_directory(folder);
    survives_without_memory(
        [&]() -> aio::coro<> {
            auto handler = [](aio::stream s) -> aio::coro<> { co_await s.read(); };
            auto server = co_await aio::start_unix_server(handler, folder + "/socket");
            std::exception_ptr error;
            try {
                auto s = co_await aio::open_unix_connection(folder + "/socket");
                co_await s.aclose();
                co_await aio::open_connection("localhost", 1);
            } catch (const std::system_error&) {
            } catch (...) { error = std::current_exception(); }
            server.close();
            if (error) std::rethrow_exception(error);
        },
        {.real_time = true, .threads = true});
    std::filesystem::remove_all(folder);
}

PLAIN_TEST("fault C11: errors with traces, replaced at exits, reported and printed") {
    survives_without_memory([]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [](const aio::exception_context& c) { static_cast<void>(aio::async_trace(c.error).to_string()); });
        auto replaces = []() -> aio::coro<> {
            co_await aio::defer([] { throw std::runtime_error("at the exit"); });
            co_await fails();
        };
        std::string text;
        try {
            co_await replaces();
        } catch (const std::runtime_error&) { text = aio::async_trace(std::current_exception()).to_string(); }
        aio::create_task(fails);
        co_await aio::sleep(5ms);
        static_cast<void>(aio::capture_call_graph().to_string());
    });
}

PLAIN_TEST("fault C11: a deadlock is told, also without memory for the report") {
    survives_without_memory([]() -> aio::coro<> {
        auto waits = []() -> aio::coro<> {
            aio::event never;
            co_await never.wait();
        };
        try {
            aio::event never;
            co_await aio::wait_for(aio::create_task(waits), 1ms);
        } catch (const aio::timeout_error&) {}
        static_cast<void>(aio::capture_call_graph().to_string());
    });
}

PLAIN_TEST("fault C11: timers that are armed without memory fire in order, and those that are disarmed do not") {
#if AIO_TEST_TSAN
    GTEST_SKIP() << "ThreadSanitizer does not let operator new fail";
#endif
    struct node : aio::detail::timer_node {
        int number = 0;
        std::vector<int>* fired = nullptr;
    };
    constexpr int count = 300;
    std::vector<int> fired, expected;
    fired.reserve(count);
    std::vector<node> nodes(count);
    std::vector<aio::time_point> deadlines;
    std::mt19937 random(7);
    for (int i = 0; i < count; ++i) {
        nodes[static_cast<std::size_t>(i)].number = i;
        nodes[static_cast<std::size_t>(i)].fired = &fired;
        nodes[static_cast<std::size_t>(i)].fire = [](aio::detail::timer_node& t) noexcept {
            static_cast<node&>(t).fired->push_back(static_cast<node&>(t).number);
        };
        deadlines.push_back(aio::time_point(std::chrono::seconds(random() % 50)));
    }
    aio::detail::timers timers;
    aio::testing::testing_detail::fail_allocation(0, true);
    for (std::size_t i = 0; i < count; ++i) timers.arm(nodes[i], deadlines[i]);
    EXPECT_TRUE(aio::testing::testing_detail::allocation_failed());
    aio::testing::testing_detail::fail_allocation(std::nullopt);
    EXPECT_EQ(timers.count(), static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < count; ++i) {
        if (i % 3 == 0) {
            timers.disarm(nodes[i]);
        } else {
            expected.push_back(static_cast<int>(i));
        }
    }
    std::sort(expected.begin(), expected.end(), [&](int a, int b) {
        return std::pair(deadlines[static_cast<std::size_t>(a)], a) <
            std::pair(deadlines[static_cast<std::size_t>(b)], b);
    });
    EXPECT_TRUE(timers.fire_due(aio::time_point(std::chrono::hours(1))));
    EXPECT_EQ(fired, expected);
    EXPECT_TRUE(timers.empty());
}
