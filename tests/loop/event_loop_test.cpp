#include "loop/loop_state.hpp"

#include <aio/context_var.hpp>
#include <aio/detail/io/descriptor_wait.hpp>
#include <aio/event_loop.hpp>

#include "aio_test.hpp"

#include <algorithm>
#include <csignal>
#include <deque>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include <sys/eventfd.h>
#include <unistd.h>

using aio_test::counted;
using aio_test::journal;

namespace {

std::string what_of(const std::exception_ptr& error) { return error ? aio::detail::describe(error) : ""; }

}  // namespace

// ---- call_soon, call_later, call_at ----

AIO_TEST("call_soon calls in order, at the next turn, and never inline") {
    journal log;
    auto& loop = aio::get_running_loop();
    loop.call_soon([&] { log("a"); });
    loop.call_soon([&] { log("b"); });
    log("here");
    co_await aio_test::turns(1);
    EXPECT_EQ(log.text(), "here a b");
}

AIO_TEST("rule 136: a callback scheduled by a callback runs in the next turn") {
    journal log;
    auto& loop = aio::get_running_loop();
    loop.call_soon([&] {
        log("a1");
        loop.call_soon([&] { log("a2"); });
    });
    loop.call_soon([&] { log("b1"); });
    co_await aio_test::turns(1);
    EXPECT_EQ(log.text(), "a1 b1");
    co_await aio_test::turns(1);
    EXPECT_EQ(log.text(), "a1 b1 a2");
}

AIO_REAL_TEST(
    "rule 136: callbacks that schedule each other for ever starve neither descriptors, nor timers, nor other threads") {
    auto& loop = aio::get_running_loop();
    const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    AIO_REQUIRE(fd >= 0);
    bool stop = false;
    struct spinner {
        aio::event_loop& loop;
        bool& stop;
        void operator()() const {
            if (!stop) loop.call_soon(*this);
        }
    };
    loop.call_soon(spinner{loop, stop});
    loop.call_later(1ms, [fd] { EXPECT_EQ(::eventfd_write(fd, 1), 0); });
    co_await aio::detail::fd_ready(fd, aio::detail::io_entry::readable);
    ::close(fd);
    aio::future<> timer, thread_called;
    loop.call_later(1ms, [&] { timer.set_result(); });
    co_await timer;
    std::thread thread([h = loop.handle(), &thread_called] {
        h.call_soon_threadsafe([&thread_called] { thread_called.set_result(); });
    });
    co_await thread_called;
    thread.join();
    stop = true;
    co_await aio_test::turns(2);
}

AIO_TEST("call_later and call_at call at their time, on the loop's clock") {
    auto& loop = aio::get_running_loop();
    const auto start = loop.time();
    std::vector<aio::time_point> at;
    loop.call_later(2s, [&] { at.push_back(loop.time()); });
    loop.call_at(start + 1s, [&] { at.push_back(loop.time()); });
    loop.call_later(1.5s, [&] { at.push_back(loop.time()); });
    co_await aio::sleep(3s);
    EXPECT_EQ(at, (std::vector<aio::time_point>{start + 1s, start + 1500ms, start + 2s}));
    auto never = loop.call_later(std::nullopt, [] { ADD_FAILURE() << "called"; });
    co_await aio::sleep(1h);
    never.cancel();
}

AIO_TEST("rule 137: cancelled timers leave nothing in the heap") {
    auto& loop = aio::get_running_loop();
    auto& timers = loop.core().state().timer_heap;
    const std::size_t before = timers.count();
    std::vector<aio::callback_handle> handles;
    for (int i = 0; i < 1000; ++i) handles.push_back(loop.call_later(1h + i * 1ms, [] { ADD_FAILURE() << "called"; }));
    EXPECT_EQ(timers.count(), before + 1000);
    for (std::size_t i = 0; i < handles.size(); i += 2) handles[i].cancel();
    EXPECT_EQ(timers.count(), before + 500);
    for (auto& handle : handles) handle.cancel();
    EXPECT_EQ(timers.count(), before);
    co_return;
}

PLAIN_TEST("timers fire in the order of (deadline, sequence), whatever is armed and cancelled meanwhile") {
    struct node : aio::detail::timer_node {
        int number = 0;
        std::vector<int>* fired = nullptr;
    };
    for (unsigned seed = 1; seed <= 200; ++seed) {
        std::mt19937 random(seed);
        const auto below = [&](unsigned n) { return static_cast<int>(random() % n); };
        const unsigned spread = seed % 2 == 0 ? 1000 : 5;  // nearly all deadlines differ, or many are equal
        aio::detail::timers timers;
        std::vector<int> fired, expected;
        std::set<std::tuple<aio::time_point, int>> armed;
        std::deque<node> nodes;
        aio::time_point now{};
        for (int step = 0; step < 300; ++step) {
            if (const int what = below(10); what < 6) {
                node& n = nodes.emplace_back();
                n.number = step;
                n.fired = &fired;
                n.fire = [](aio::detail::timer_node& t) noexcept {
                    static_cast<node&>(t).fired->push_back(static_cast<node&>(t).number);
                };
                const auto deadline =
                    now + std::chrono::milliseconds(below(spread)) + std::chrono::milliseconds(below(3) * 1000);
                timers.arm(n, deadline);
                armed.emplace(deadline, step);
            } else if (what < 8 && !nodes.empty()) {
                node& n = nodes[static_cast<std::size_t>(below(static_cast<unsigned>(nodes.size())))];
                if (n.armed()) armed.erase({n.deadline, n.number});
                timers.disarm(n);
                EXPECT_FALSE(n.armed());
            } else {
                now += std::chrono::milliseconds(below(spread));
                timers.fire_due(now);
                while (!armed.empty() && std::get<0>(*armed.begin()) <= now) {
                    expected.push_back(std::get<1>(*armed.begin()));
                    armed.erase(armed.begin());
                }
            }
            ASSERT_EQ(fired, expected) << "seed " << seed << ", step " << step;
            ASSERT_EQ(timers.count(), armed.size());
            if (!armed.empty()) { ASSERT_EQ(timers.earliest(), std::get<0>(*armed.begin())); }
        }
    }
}

AIO_TEST("rule 138: negative delays run in deadline order") {
    journal log;
    auto& loop = aio::get_running_loop();
    loop.call_later(-1s, [&] { log("-1"); });
    loop.call_later(-3s, [&] { log("-3"); });
    loop.call_later(-2s, [&] { log("-2"); });
    co_await aio::sleep(1ms);
    EXPECT_EQ(log.text(), "-3 -2 -1");
}

AIO_TEST("decision (a): timers of the same deadline are first come first served (instead of rule 139)") {
    auto& loop = aio::get_running_loop();
    const auto when = loop.time() + 1s;
    std::vector<int> order, expected;
    for (int i = 0; i < 200; ++i) {
        loop.call_at(when, [&order, i] { order.push_back(i); });
        expected.push_back(i);
    }
    co_await aio::sleep(2s);
    EXPECT_EQ(order, expected);
}

AIO_TEST("a callback that is cancelled is not called, and what it holds goes at once") {
    counted::alive = 0;
    auto& loop = aio::get_running_loop();
    auto soon = loop.call_soon([c = counted()] { ADD_FAILURE() << "called " << c.value; });
    auto later = loop.call_later(1s, [c = counted()] { ADD_FAILURE() << "called " << c.value; });
    EXPECT_FALSE(soon.cancelled());
    soon.cancel();
    later.cancel();
    later.cancel();
    EXPECT_TRUE(soon.cancelled() && later.cancelled());
    EXPECT_EQ(counted::alive, 0);
    co_await aio::sleep(2s);
    aio::callback_handle empty;
    empty.cancel();
    EXPECT_FALSE(empty.cancelled());
}

AIO_TEST("a callback may cancel itself, or others that are due in the same turn") {
    journal log;
    auto& loop = aio::get_running_loop();
    std::optional<aio::callback_handle> first, second;
    auto text = std::make_shared<std::string>("kept until it returns");
    first = loop.call_soon([&log, &first, &second, text = std::move(text)] {
        first->cancel();
        second->cancel();
        log(*text);
    });
    second = loop.call_soon([&] { log("never"); });
    co_await aio_test::turns(2);
    EXPECT_EQ(log.text(), "kept until it returns");
}

AIO_TEST("rule 25: a callback sees the context variables of who scheduled it") {
    aio::context_var<int> v("v", 0);
    auto& loop = aio::get_running_loop();
    std::vector<int> seen;
    auto token = v.set(1);
    loop.call_soon([&] {
        seen.push_back(v.get());
        static_cast<void>(v.set(5));
        loop.call_soon([&] { seen.push_back(v.get()); });
    });
    loop.call_later(1s, [&] { seen.push_back(v.get()); });
    loop.handle().call_soon_threadsafe([&] { seen.push_back(v.get()); });
    v.reset(token);
    co_await aio::sleep(2s);
    EXPECT_EQ(seen, (std::vector<int>{1, 1, 5, 1}));
    EXPECT_EQ(v.get(), 0);
}

PLAIN_TEST("rule 141: callbacks scheduled in the last step of main run; later ones are dropped, not leaked") {
    counted::alive = 0;
    journal log;
    aio::callback_handle kept;
    auto main = [&]() -> aio::coro<> {
        auto& loop = aio::get_running_loop();
        loop.call_soon([&] { log("soon"); });
        loop.call_later(1h, [c = counted()] { ADD_FAILURE() << "called " << c.value; });
        kept = loop.call_later(2h, [c = counted()] { ADD_FAILURE() << "called " << c.value; });
        co_return;
    };
    aio::run(main());
    EXPECT_EQ(log.text(), "soon");
    EXPECT_EQ(counted::alive, 1);  // the callback whose handle is kept
    kept.cancel();                 // harmless, although the loop has ended
    EXPECT_EQ(counted::alive, 0);
}

// ---- the exception handler ----

AIO_TEST("an exception of a callback goes to the exception handler, with a message, and the loop goes on") {
    std::vector<std::string> told;
    auto& loop = aio::get_running_loop();
    loop.set_exception_handler(
        [&](const aio::exception_context& c) { told.push_back(c.message + ": " + what_of(c.error)); });
    journal log;
    loop.call_soon([] { throw std::runtime_error("one"); });
    loop.call_soon([&] { log("after"); });
    loop.call_later(1s, [] { throw std::runtime_error("two"); });
    co_await aio::sleep(2s);
    EXPECT_EQ(log.text(), "after");
    EXPECT_EQ(told.size(), 2u);
    if (told.size() == 2) {
        EXPECT_NE(told[0].find("callback"), std::string::npos);
        EXPECT_NE(told[0].find("one"), std::string::npos);
        EXPECT_NE(told[1].find("two"), std::string::npos);
    }
    loop.set_exception_handler(nullptr);
}

AIO_TEST("the exception handler is told of the task") {
    auto& loop = aio::get_running_loop();
    aio::any_task told;
    loop.set_exception_handler([&](const aio::exception_context& c) { told = c.task; });
    {
        auto task = aio::create_task([]() -> aio::coro<> {
            throw std::runtime_error("unseen");
            co_return;
        });
        task.set_name("thrower");
        co_await aio_test::turns(2);
    }
    AIO_REQUIRE(told);
    EXPECT_EQ(told.name(), "thrower");
    loop.set_exception_handler(nullptr);
}

AIO_TEST("rule 140: a broken exception handler is contained and reported through the default one") {
    auto& loop = aio::get_running_loop();
    loop.set_exception_handler([](const aio::exception_context&) { throw std::runtime_error("broken handler"); });
    testing::internal::CaptureStderr();
    loop.call_soon([] { throw std::runtime_error("the first error"); });
    co_await aio_test::turns(2);
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_NE(text.find("broken handler"), std::string::npos);
    EXPECT_NE(text.find("the first error"), std::string::npos);
    loop.set_exception_handler(nullptr);
}

AIO_TEST("without an exception handler errors are printed; an empty one restores that") {
    auto& loop = aio::get_running_loop();
    loop.set_exception_handler([](const aio::exception_context&) {});
    loop.set_exception_handler(nullptr);
    testing::internal::CaptureStderr();
    loop.call_exception_handler(
        {"something went wrong", std::make_exception_ptr(std::runtime_error("an error")), aio::current_task()});
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_NE(text.find("something went wrong"), std::string::npos);
    EXPECT_NE(text.find("an error"), std::string::npos);
    EXPECT_NE(text.find(aio::current_task().name()), std::string::npos);
    co_return;
}

AIO_TEST("an exception handler may replace itself, and call itself") {
    auto& loop = aio::get_running_loop();
    journal log;
    auto text = std::make_shared<std::string>("first");
    loop.set_exception_handler([&, text](const aio::exception_context& c) {
        if (c.message == "again") return log("again");
        loop.call_exception_handler({"again", nullptr, {}});
        loop.set_exception_handler([&](const aio::exception_context&) { log("second"); });
        log(*text);
    });
    text.reset();
    loop.call_exception_handler({"a", nullptr, {}});
    loop.call_exception_handler({"b", nullptr, {}});
    EXPECT_EQ(log.text(), "again first second");
    loop.set_exception_handler(nullptr);
    co_return;
}

AIO_REAL_TEST("rule 142: in debug mode slow steps are told with the task's name, and slow callbacks") {
    auto& loop = aio::get_running_loop();
    std::vector<std::string> told;
    loop.set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    loop.set_debug(true);
    const auto busy = [] {
        const auto end = std::chrono::steady_clock::now() + 101ms;  // debug mode measures the time spent
        while (std::chrono::steady_clock::now() < end) {}
    };
    auto task = aio::create_task([&busy] { busy(); });
    task.set_name("hog");
    co_await task;
    loop.call_soon(busy);
    co_await aio_test::turns(2);
    loop.set_debug(false);
    loop.set_exception_handler(nullptr);
    EXPECT_EQ(told.size(), 2u);
    if (told.size() == 2) {
        EXPECT_NE(told[0].find("hog"), std::string::npos);
        EXPECT_NE(told[1].find("callback"), std::string::npos);
    }
}

// ---- other threads ----

AIO_REAL_TEST("rule 149: call_soon_threadsafe wakes a blocked poll") {
    aio::loop_handle h = aio::get_running_loop().handle();
    const auto here = std::this_thread::get_id();
    for (int i = 0; i < 100; ++i) {
        aio::future<> called;
        std::thread::id there;
        std::thread thread([&] {
            h.call_soon_threadsafe([&] {
                there = std::this_thread::get_id();
                called.set_result();
            });
        });
        co_await called;  // the loop has nothing else to do, so it blocks
        thread.join();
        EXPECT_EQ(there, here);
    }
}

AIO_TEST("rule 149: call_soon_threadsafe on the loop's own thread") {
    aio::loop_handle h = aio::get_running_loop().handle();
    EXPECT_TRUE(h.running());
    journal log;
    h.call_soon_threadsafe([&] { log("a"); });
    h.call_soon_threadsafe([&] { log("b"); });
    EXPECT_EQ(log.text(), "");
    co_await aio_test::turns(3);
    EXPECT_EQ(log.text(), "a b");
    h.call_soon_threadsafe([] { throw std::runtime_error("told"); });
    std::string told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told = what_of(c.error); });
    co_await aio_test::turns(3);
    EXPECT_NE(told.find("told"), std::string::npos);
    aio::get_running_loop().set_exception_handler(nullptr);
}

PLAIN_TEST("eight threads post at once: nothing is lost, and each thread's order is kept") {
    constexpr int threads = 8, calls = 500;
    std::vector<std::vector<int>> seen(threads);
    auto main = [&]() -> aio::coro<> {
        aio::loop_handle h = aio::get_running_loop().handle();
        aio::future<> over;
        int left = threads;
        std::latch start(threads);
        std::vector<std::thread> posters;
        for (int t = 0; t < threads; ++t) {
            posters.emplace_back([&, t] {
                start.arrive_and_wait();
                for (int i = 0; i < calls; ++i)
                    h.call_soon_threadsafe([&seen, t, i] { seen[static_cast<std::size_t>(t)].push_back(i); });
                h.call_soon_threadsafe([&] {
                    if (--left == 0) over.set_result();
                });
            });
        }
        co_await over;
        for (auto& thread : posters) thread.join();
    };
    aio::run(main());
    for (const auto& calls_seen : seen) {
        EXPECT_EQ(calls_seen.size(), static_cast<std::size_t>(calls));
        EXPECT_TRUE(std::is_sorted(calls_seen.begin(), calls_seen.end()));
    }
}

PLAIN_TEST("threads that post while the loop ends get a logic_error or are served; nothing leaks") {
    for (int round = 0; round < 20; ++round) {
        counted::alive = 0;
        aio::loop_handle h;
        std::latch ready(9);
        std::vector<std::thread> threads;
        auto main = [&]() -> aio::coro<> {
            h = aio::get_running_loop().handle();
            ready.arrive_and_wait();
            co_await aio_test::turns(3);
        };
        for (int t = 0; t < 8; ++t) {
            threads.emplace_back([&] {
                ready.arrive_and_wait();
                try {
                    while (h.running()) {
                        if (counted::alive > 200) {  // lets the loop catch up
                            std::this_thread::yield();
                        } else {
                            h.call_soon_threadsafe([c = counted()] { static_cast<void>(c); });
                        }
                    }
                } catch (const std::logic_error&) {}
            });
        }
        aio::run(main());
        EXPECT_FALSE(h.running());
        for (auto& thread : threads) thread.join();
        EXPECT_EQ(counted::alive, 0);
    }
}

PLAIN_TEST("a loop_handle outlives its loop: its calls are logic_errors then") {
    aio::loop_handle h;
    EXPECT_FALSE(h.running());
    EXPECT_THROW(h.call_soon_threadsafe([] {}), std::logic_error);
    auto main = [&]() -> aio::coro<> {
        h = aio::get_running_loop().handle();
        co_return;
    };
    aio::run(main());
    EXPECT_FALSE(h.running());
    EXPECT_THROW(h.call_soon_threadsafe([] {}), std::logic_error);
    EXPECT_THROW(aio::get_running_loop(), std::logic_error);
}

PLAIN_TEST("rule 148: where signals cannot be installed, run() goes on without") {
    int value = 0;
    auto main = []() -> aio::coro<int> {
        co_await aio::sleep(0s);
        co_return 4;
    };
    std::thread([&] { value = aio::run(main()); }).join();  // outside the main thread no handler is installed
    EXPECT_EQ(value, 4);
    const auto before = std::signal(SIGINT, SIG_IGN);  // run() leaves a handler alone that is not the default
    EXPECT_EQ(aio::run(main()), 4);
    EXPECT_EQ(std::signal(SIGINT, before), SIG_IGN);
}

PLAIN_TEST("decision (i): a foreign thread that ends without a word does not hide the deadlock") {
    auto main = []() -> aio::coro<> {
        auto go = std::make_shared<std::promise<void>>();
        std::thread([go] { go->get_future().wait(); }).detach();
        aio::future<> never;
        go->set_value();
        co_await never;
    };
    EXPECT_THROW(aio::run(main()), aio::deadlock_error);
}

// ---- the order of sources

AIO_REAL_TEST("a timer that is due does not wait behind ten thousand busy tasks") {
    using clock = std::chrono::steady_clock;
    constexpr std::size_t busy = 10'000;
    std::size_t steps = 0, fired_at = 0;
    std::vector<aio::task<>> tasks;
    clock::time_point due = clock::time_point::max();
    std::optional<std::size_t> due_at;
    for (std::size_t i = 0; i < busy; ++i) {
        tasks.push_back(aio::create_task([&]() -> aio::coro<> {
            while (!fired_at) {
                ++steps;
                if (!due_at && clock::now() >= due) due_at = steps;
                co_await aio::sleep(0s);
            }
        }));
    }
    while (steps < 10 * busy) co_await aio::sleep(0s);  // afterwards the loop knows how long a step takes
    aio::get_running_loop().call_later(2ms, [&] { fired_at = steps; });
    due = clock::now() + 2ms;
    for (auto& task : tasks) co_await task;
    // Measured in steps, so that the time for which the process did not run does not count.
    EXPECT_LT(fired_at - due_at.value_or(fired_at), busy / 2);
}

AIO_REAL_TEST("timers that are always due leave the others their turn") {
    constexpr std::size_t most = 1'000'000;  // far more steps than they take if the others have their turn
    bool stop = false;
    std::size_t steps = 0;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 300; ++i) {
        const auto how_long = i % 3 == 0 ? 0ns : 1ns;  // some are due at once, the others would overtake them
        tasks.push_back(aio::create_task([&stop, &steps, how_long]() -> aio::coro<> {
            while (!stop && ++steps < most) co_await aio::sleep(how_long);
        }));
    }
    for (int i = 0; i < 300; ++i) co_await aio::sleep(0s);
    EXPECT_LT(steps, most) << "they had to end before anybody else had a turn";
    stop = true;
    for (auto& task : tasks) co_await task;
}

namespace {
aio::coro<> extreme_callbacks() {
    aio::event_loop& loop = aio::get_running_loop();
    journal log;
    loop.call_later(1ms, [&] { log("soon"); });
    loop.call_later(std::chrono::hours::min(), [&] { log("shortest"); });
    loop.call_later(-1ms, [&] { log("past"); });
    loop.call_at(aio::time_point::min(), [&] { log("first"); });
    loop.call_at(aio::time_point::min() + 1ns, [&] { log("second"); });
    loop.call_at(aio::time_point(), [&] { log("epoch"); });
    aio::callback_handle never = loop.call_at(aio::time_point::max(), [&] { log("never"); });
    aio::callback_handle late = loop.call_at(aio::time_point::max() - 1ns, [&] { log("late"); });
    aio::callback_handle latest = loop.call_later(std::chrono::hours::max(), [&] { log("latest"); });
    co_await aio::sleep(2ms);
    EXPECT_EQ(log.text(), "first second shortest epoch past soon");
    co_await aio::sleep(std::chrono::hours::min());
    never.cancel();
    late.cancel();
    latest.cancel();
}
}  // namespace

AIO_REAL_TEST("fault C10: callbacks at the ends of time are called at once, or never, and the loop goes on") {
    co_await extreme_callbacks();
    aio::get_running_loop().call_at(aio::time_point::min(), [] {});
    aio::future<> never;
    aio::get_running_loop().call_later(1ms, [&] { never.cancel(); });
    EXPECT_THROW(co_await never, aio::cancelled_error);  // nothing is ready, so the loop sleeps
}
AIO_TEST("fault C10: callbacks at the ends of time, on virtual time") {
    aio::event_loop& loop = aio::get_running_loop();
    journal log;
    loop.call_at(aio::time_point::min(), [&] { log("first"); });
    loop.call_later(std::chrono::hours::min(), [&] { log("shortest"); });
    loop.call_at(aio::time_point(), [&] { log("epoch"); });
    co_await aio::sleep(1ms);
    EXPECT_EQ(log.text(), "first shortest epoch");
}
PLAIN_TEST("fault C10: the arithmetic of delays and of the time that is left saturates") {
    using aio::detail::time_left;
    constexpr aio::time_point first = aio::time_point::min(), last = aio::time_point::max(), zero{};
    static_assert(time_left(first, last) == 0ns && time_left(first, first) == 0ns && time_left(zero, last) == 0ns);
    static_assert(time_left(last, first) == std::chrono::nanoseconds::max() &&
        time_left(last, zero - 1ns) == std::chrono::nanoseconds::max());
    static_assert(
        time_left(zero + 2ns, zero - 3ns) == 5ns && time_left(zero, first + 1ns) == std::chrono::nanoseconds::max());
    for (const aio::time_point start : {first, first + 1ns, zero, last - 1ns, last}) {
        EXPECT_LE(aio::delay(std::chrono::hours::min()).from(start), std::max(start, first + 2ns));
        EXPECT_GE(aio::delay(std::chrono::hours::max()).from(start), start == last ? last - 1ns : start);
        EXPECT_EQ(aio::delay(0s).from(start), start);
    }
    EXPECT_LE(aio::delay(-1.0e300 * 1s).from(zero), zero - std::chrono::hours(24 * 365 * 290));
    EXPECT_GE(aio::delay(1.0e300 * 1s).from(zero), zero + std::chrono::hours(24 * 365 * 290));
}

// ---- empty functions ----

AIO_TEST("fault C17: an empty function is refused where it is given") {
    auto& loop = aio::get_running_loop();
    void (*const null)() = nullptr;
    const std::function<void()> empty;
    EXPECT_THROW(loop.call_soon(null), std::invalid_argument);
    EXPECT_THROW(loop.call_soon(empty), std::invalid_argument);
    EXPECT_THROW(loop.call_soon(nullptr), std::invalid_argument);
    EXPECT_THROW(loop.call_later(1ms, null), std::invalid_argument);
    EXPECT_THROW(loop.call_at(loop.time(), empty), std::invalid_argument);
    EXPECT_THROW(loop.handle().call_soon_threadsafe(null), std::invalid_argument);
    EXPECT_THROW(loop.handle().call_soon_threadsafe(empty), std::invalid_argument);

    aio::future<int> f;
    std::string (aio::task<int>::* const no_member)() const = nullptr;
    EXPECT_THROW(f.add_done_callback(null), std::invalid_argument);
    EXPECT_THROW(f.add_done_callback(empty), std::invalid_argument);
    auto sleeper = aio::create_task(aio::sleep(1ms));
    EXPECT_THROW(aio::any_task(sleeper).add_done_callback(empty), std::invalid_argument);
    EXPECT_THROW(aio::create_task(null), std::invalid_argument);
    EXPECT_THROW(aio::create_task(aio::task_options{}, empty), std::invalid_argument);
    EXPECT_THROW(aio::create_task(no_member, aio::task<int>()), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::run_coroutine_threadsafe(loop.handle(), empty)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::to_thread(null)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::to_thread(aio::abandon_on_cancel, null)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::to_async(empty)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::defer(null)), std::invalid_argument);
    aio::lock lock;
    EXPECT_THROW(static_cast<void>(aio::with(lock, null)), std::invalid_argument);
    void (*const no_handler)(aio::stream) = nullptr;
    EXPECT_THROW(static_cast<void>(aio::start_server(no_handler, "localhost", 0)), std::invalid_argument);
    bool (*const no_predicate)(int) = nullptr;
    EXPECT_THROW(static_cast<void>(aio::views::filter(no_predicate)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::views::concurrent(2, no_predicate)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::for_each(std::vector<int>{1} | aio::views::take(1), no_predicate)),
        std::invalid_argument);
    try {
        loop.call_soon(null);
    } catch (const std::invalid_argument& e) { EXPECT_STREQ(e.what(), "call_soon() was given an empty function"); }
    co_await sleeper;
}

AIO_TEST("fault C17: an empty exception handler restores the default, also an empty std::function") {
    auto& loop = aio::get_running_loop();
    int told = 0;
    loop.set_exception_handler([&](const aio::exception_context&) { ++told; });
    loop.call_exception_handler({"one", nullptr, {}});
    EXPECT_EQ(told, 1);
    loop.set_exception_handler(std::function<void(const aio::exception_context&)>());
    testing::internal::CaptureStderr();
    loop.call_exception_handler({"the default prints this", nullptr, {}});
    EXPECT_NE(testing::internal::GetCapturedStderr().find("the default prints this"), std::string::npos);
    EXPECT_EQ(told, 1);
    co_return;
}

AIO_TEST("a callback may be a member pointer, or start a task and drop its handle") {
    struct counter {
        int calls = 0;
        void see(aio::future<int>) { ++calls; }
    } seen;
    aio::future<int> f;
    f.add_done_callback([&](aio::future<int> done) { seen.see(done); });
    f.set_result(1);
    bool ran = false;
    aio::get_running_loop().call_soon([&] {  // allowed, as call_soon(lambda: create_task(...)) is in asyncio
        return aio::create_task([&]() -> aio::coro<> {
            ran = true;
            co_return;
        });
    });
    co_await aio_test::turns(3);
    EXPECT_EQ(seen.calls, 1);
    EXPECT_TRUE(ran);
}
