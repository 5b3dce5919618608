// aio::lowlevel::completion and work_guard: a result that any thread may bring, once.
#include <aio/lowlevel.hpp>

#include "brute_force.hpp"
#include "hostile.hpp"

#include <array>
#include <csignal>
#include <random>
#include <thread>

#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

using aio::lowlevel::after_cancel;
using aio::lowlevel::completion;
using aio::lowlevel::completion_handle;
using aio::lowlevel::work_guard;
using aio_test::counted;
using aio_test::hostile;
using aio_test::turns;

namespace {

template<class Error, class F>
std::string what_of(F fn) {
    try {
        fn();
    } catch (const Error& e) { return e.what(); }
    return "nothing thrown";
}

aio::coro<int> value_of(completion<int> c) { co_return co_await std::move(c); }

}  // namespace

AIO_TEST("completion: what is completed before the await is given at once") {
    completion<int> c;
    EXPECT_TRUE(c.handle().complete(7));
    const int v = co_await c;
    EXPECT_EQ(v, 7);
}

AIO_TEST("completion: what is completed on the loop's own thread while a task waits wakes it in its turn") {
    completion<std::string> c;
    auto h = c.handle();
    bool done = false;
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        const std::string text = co_await c;
        EXPECT_EQ(text, "xxx");
        done = true;
    });
    co_await turns(2);
    EXPECT_TRUE(h.complete(3u, 'x'));
    EXPECT_FALSE(done);
    co_await t;
    EXPECT_TRUE(done);
}

AIO_REAL_TEST("completion: another thread completes it") {
    for (int i = 0; i < 100; ++i) {
        completion<int> c;
        std::thread thread([h = c.handle(), i] { h.complete(i); });
        if (i % 2) co_await aio::sleep(0s);
        const int v = co_await c;
        thread.join();
        EXPECT_EQ(v, i);
    }
}

AIO_REAL_TEST("completion: another thread fails it") {
    completion<> c;
    std::thread thread([h = c.handle()] { EXPECT_TRUE(h.fail(std::runtime_error("no paper"))); });
    std::string what;
    try {
        co_await c;
    } catch (const std::runtime_error& e) { what = e.what(); }
    thread.join();
    EXPECT_EQ(what, "no paper");
}

AIO_TEST("completion: the first decides, and every later one hears so and keeps its value") {
    completion<std::unique_ptr<int>> c;
    auto h = c.handle();
    auto copy = h;
    EXPECT_TRUE(h.pending());
    EXPECT_TRUE(copy.complete(std::make_unique<int>(1)));
    EXPECT_FALSE(h.pending());
    auto mine = std::make_unique<int>(2);
    EXPECT_FALSE(h.complete(std::move(mine)));
    EXPECT_TRUE(mine);
    EXPECT_FALSE(h.fail(std::runtime_error("late")));
    const std::unique_ptr<int> got = co_await c;
    EXPECT_EQ(*got, 1);
    EXPECT_FALSE(h.complete(std::move(mine)));
}

AIO_TEST("completion: references and nothing can be given") {
    int n = 1;
    completion<int&> r;
    r.handle().complete(n);
    int& same = co_await r;
    EXPECT_EQ(&same, &n);
    completion<> nothing;
    nothing.handle().complete();
    co_await nothing;
}

AIO_TEST("completion: when the last handle is dropped the await says so") {
    completion<int> c("the answer of a printer");
    auto h = c.handle();
    aio::task<int> t = aio::create_task(std::move(c));
    co_await turns(2);
    auto copy = h;
    h = {};
    co_await turns(2);
    EXPECT_FALSE(t.done());
    copy = {};
    co_await aio::wait(std::vector<aio::task<int>>(1, t));
    EXPECT_EQ(what_of<std::logic_error>([&] { t.result(); }),
        "the answer of a printer: every handle of this completion was dropped, and none has completed it");
    completion<int> early;
    early.handle() = {};
    EXPECT_FALSE(early.handle().complete(1));
    bool threw = false;
    try {
        co_await early;
    } catch (const std::logic_error&) { threw = true; }
    EXPECT_TRUE(threw);
}

AIO_TEST("completion: one without a handle, one moved from, and a second await are refused") {
    completion<int> c;
    std::string what;
    try {
        co_await c;
    } catch (const std::logic_error& e) { what = e.what(); }
    EXPECT_NE(what.find("has given no handle"), std::string::npos) << what;

    completion<int> other;
    other.handle().complete(1);
    completion<int> moved = std::move(other);
    what.clear();
    try {
        co_await other;
    } catch (const std::logic_error& e) { what = e.what(); }
    EXPECT_NE(what.find("moved from"), std::string::npos) << what;
    EXPECT_FALSE(other.handle());
    const int one = co_await moved;
    EXPECT_EQ(one, 1);
    what.clear();
    try {
        co_await moved;
    } catch (const std::logic_error& e) { what = e.what(); }
    EXPECT_NE(what.find("awaited already"), std::string::npos) << what;
}

AIO_TEST("completion: a null error and an empty on_cancel function are refused") {
    completion<int> c;
    auto h = c.handle();
    EXPECT_EQ(what_of<std::invalid_argument>([&] { h.fail(std::exception_ptr()); }), "fail() was given no exception");
    void (*none)() = nullptr;
    EXPECT_NE(what_of<std::invalid_argument>([&] { c.on_cancel(none); }), "nothing thrown");
    EXPECT_TRUE(h.pending());
    completion_handle<int> empty;
    EXPECT_FALSE(empty);
    EXPECT_FALSE(empty.complete(1));
    EXPECT_FALSE(empty.fail(std::runtime_error("")));
    EXPECT_FALSE(empty.pending());
    EXPECT_EQ(empty.release(), nullptr);
    co_return;
}

AIO_TEST("completion: a handle goes through a C callback as a pointer") {
    completion<int> c;
    void* user_data = c.handle().release();
    aio::get_running_loop().call_soon([user_data] { completion_handle<int>::adopt(user_data).complete(3); });
    const int v = co_await c;
    EXPECT_EQ(v, 3);
}

AIO_TEST("completion: without an on_cancel function a cancel waits for the answer, which is not lost") {
    completion<int> c;
    auto h = c.handle();
    int got = 0;
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        got = co_await c;
        co_await aio::sleep_forever();  // the cancel is delivered here
    });
    co_await turns(2);
    EXPECT_TRUE(t.cancel());
    co_await turns(2);
    EXPECT_FALSE(t.done());
    EXPECT_TRUE(h.complete(5));
    co_await aio::gather(aio::return_exceptions, t);
    EXPECT_EQ(got, 5);
    EXPECT_TRUE(t.cancelled());
}

AIO_TEST(
    "completion: an on_cancel function that gives up ends the await at once, and no handle completes it any more") {
    completion<int> c;
    auto h = c.handle();
    int calls = 0;
    c.on_cancel([&] {
        ++calls;
        return after_cancel::give_up;
    });
    aio::task<int> t = aio::create_task(std::move(c));
    co_await turns(2);
    t.cancel("enough");
    EXPECT_EQ(calls, 1);
    EXPECT_FALSE(h.pending());
    EXPECT_FALSE(h.complete(5));
    co_await aio::gather(aio::return_exceptions, t);
    EXPECT_TRUE(t.cancelled());
    EXPECT_FALSE(h.complete(5));
}

AIO_TEST("completion: an on_cancel function is called once, and the answer is waited for") {
    completion<int> c;
    auto h = c.handle();
    int calls = 0;
    c.on_cancel([&] { ++calls; });
    aio::task<int> t = aio::create_task(std::move(c));
    co_await turns(2);
    t.cancel();
    t.cancel();
    co_await turns(2);
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(h.fail(std::system_error(ECANCELED, std::generic_category())));
    co_await aio::wait(std::vector<aio::task<int>>(1, t));
    EXPECT_NE(what_of<std::system_error>([&] { t.result(); }), "nothing thrown");
}

AIO_TEST("completion: an on_cancel function may complete it, and what it then says of giving up does not count") {
    for (const bool give_up : {false, true}) {
        completion<int> c;
        auto h = c.handle();
        c.on_cancel([&] {
            h.complete(9);
            return give_up ? after_cancel::give_up : after_cancel::wait;
        });
        aio::task<int> t = aio::create_task(std::move(c));
        co_await turns(2);
        t.cancel();
        EXPECT_EQ(co_await t, 9);
    }
}

AIO_TEST("completion: an on_cancel function that throws is told to the exception handler, and the await goes on") {
    std::string told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told = c.message; });
    completion<int> c;
    auto h = c.handle();
    c.on_cancel([]() -> after_cancel { throw std::runtime_error("broken"); });
    aio::task<int> t = aio::create_task(std::move(c));
    co_await turns(2);
    t.cancel();
    EXPECT_EQ(told, "exception in the on_cancel() function of a completion");
    co_await turns(2);
    EXPECT_FALSE(t.done());
    h.complete(1);
    EXPECT_EQ(co_await t, 1);
    aio::get_running_loop().set_exception_handler({});
}

AIO_TEST("completion: an on_cancel function may cancel its own task, replace itself, and drop the handle") {
    completion<int> c;
    auto h = std::make_shared<completion_handle<int>>(c.handle());
    aio::any_task self;
    int calls = 0;
    c.on_cancel([&, h] {
        ++calls;
        self.cancel();
        c.on_cancel([&] { ++calls; });
        *h = {};
    });
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        self = aio::current_task();
        co_await c;
    });
    co_await turns(2);
    t.cancel();
    co_await aio::gather(aio::return_exceptions, t);
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(t.cancelled());
}

AIO_TEST("completion: a library that drops its callback when it is told to stop ends the await with the cancel") {
    std::shared_ptr<completion_handle<int>> callback;
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        completion<int> c;
        callback = std::make_shared<completion_handle<int>>(c.handle());
        c.on_cancel([&] { callback.reset(); });
        co_await c;
    });
    co_await turns(2);
    t.cancel("enough");
    std::string message;
    try {
        co_await t;
    } catch (const aio::cancelled_error& e) { message = e.message(); }
    EXPECT_EQ(message, "enough");
    EXPECT_TRUE(t.cancelled());
}

AIO_TEST("completion: a library that answers a cancel with a cancelled_error delivers the task's cancel, once") {
    completion_handle<int> h;
    bool cleaned_up = false;
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        completion<int> c;
        h = c.handle();
        std::string message;
        try {
            co_await c;
        } catch (const aio::cancelled_error& e) { message = e.message(); }
        EXPECT_EQ(message, "enough");
        co_await aio::sleep(1ms);  // is not cancelled again
        cleaned_up = true;
    });
    co_await turns(2);
    t.cancel("enough");
    h.fail(aio::cancelled_error("the library's"));
    co_await t;
    EXPECT_TRUE(cleaned_up);

    aio::task<int> alone = aio::create_task([&]() -> aio::coro<int> {
        completion<int> c;
        h = c.handle();
        co_return co_await c;
    });
    co_await turns(2);
    h.fail(aio::cancelled_error("the library's"));
    co_await aio::gather(aio::return_exceptions, alone);
    EXPECT_TRUE(alone.cancelled());
}

AIO_TEST("completion: a cancel that is pending before the await calls the on_cancel function, too") {
    completion<int> c;
    auto h = c.handle();
    int calls = 0;
    c.on_cancel([&] {
        ++calls;
        return after_cancel::give_up;
    });
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        aio::current_task().cancel();
        co_await c;
    });
    co_await aio::gather(aio::return_exceptions, t);
    EXPECT_TRUE(t.cancelled());
    EXPECT_EQ(calls, 1);
    EXPECT_FALSE(h.complete(1));
}

AIO_TEST("completion: a value that is there is given although a cancel is pending, which stays") {
    int got = 0;
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        completion<int> c;
        EXPECT_TRUE(c.handle().complete(4));
        aio::current_task().cancel();
        got = co_await c;
        co_await aio::sleep(0s);
        ADD_FAILURE() << "the cancel was lost";
    });
    co_await aio::gather(aio::return_exceptions, t);
    EXPECT_TRUE(t.cancelled());
    EXPECT_EQ(got, 4);
}

AIO_TEST("completion: a value and a cancel in the same step: the value wins, and the cancel stays pending") {
    completion<int> c;
    auto h = c.handle();
    c.on_cancel([] { return after_cancel::give_up; });
    aio::task<int> t = aio::create_task(std::move(c));
    co_await turns(2);
    EXPECT_TRUE(h.complete(6));
    EXPECT_TRUE(t.cancel());
    EXPECT_EQ(co_await t, 6);
}

AIO_TEST("completion: many that are completed already do not starve other tasks") {
    int others = 0;
    aio::task<> other = aio::create_task([&]() -> aio::coro<> {
        for (;;) {
            ++others;
            co_await aio::sleep(0s);
        }
    });
    for (int i = 0; i < 10'000; ++i) {
        completion<int> c;
        c.handle().complete(i);
        const int v = co_await c;
        EXPECT_EQ(v, i);
    }
    EXPECT_GT(others, 10);
    other.cancel();
    co_await aio::gather(aio::return_exceptions, other);
}

AIO_TEST("completion: race, gather, wait_for and timeout take it") {
    completion<int> slow;
    auto keep = slow.handle();
    slow.on_cancel([] { return after_cancel::give_up; });
    bool timed_out = false;
    try {
        co_await aio::wait_for(std::move(slow), 10ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);

    completion<int> a, b;
    a.handle().complete(1);
    auto hb = b.handle();
    b.on_cancel([] { return after_cancel::give_up; });
    auto winner = co_await aio::race(std::move(a), std::move(b));
    EXPECT_EQ(std::get<0>(winner), 1);
    EXPECT_FALSE(hb.pending());

    completion<int> c, d;
    c.handle().complete(1);
    d.handle().complete(2);
    auto both = co_await aio::gather(std::move(c), std::move(d));
    EXPECT_EQ(std::get<0>(both) + std::get<1>(both), 3);
}

PLAIN_TEST("completion: it is made and completed where no loop runs, and awaited on another") {
    completion<int> c;
    c.handle().complete(8);
    EXPECT_EQ(aio::run(value_of(std::move(c))), 8);
    completion<int> later;
    std::thread thread([h = later.handle()] { h.complete(9); });
    EXPECT_EQ(aio::run(value_of(std::move(later))), 9);
    thread.join();
}

PLAIN_TEST("completion: a handle may be used after the loop has ended, and after the completion is gone") {
    completion_handle<counted> h, unawaited;
    aio::run([](completion_handle<counted>& outer, completion_handle<counted>& never) -> aio::coro<> {
        completion<counted> c;
        outer = c.handle();
        c.on_cancel([] { return after_cancel::give_up; });
        aio::create_task(std::move(c));
        completion<counted> dropped;
        never = dropped.handle();
        co_await aio::sleep(0s);
    }(h, unawaited));
    EXPECT_FALSE(h.pending());
    EXPECT_FALSE(h.complete(1));
    EXPECT_FALSE(unawaited.complete(1));
    h = {};
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("completion: one that is completed at the loop's end, and never awaited, leaks nothing") {
    completion_handle<counted> h;
    {
        completion<counted> c;
        h = c.handle();
        EXPECT_TRUE(h.complete(1));
        EXPECT_EQ(counted::alive, 1);
    }
    EXPECT_EQ(counted::alive, 0);  // the value goes with the completion, not with the last handle
}

PLAIN_TEST("completion: a task that is left behind by a forced end hears nothing of a late handle") {
    completion_handle<int> h;
    try {
        aio::run([](completion_handle<int>& outer) -> aio::coro<> {
            auto task = aio::create_task([&outer]() -> aio::coro<> {
                for (;;) {  // ends never
                    completion<int> c;
                    outer = c.handle();
                    co_await c;
                }
            });
            co_await aio::sleep(0s);
            std::raise(SIGINT);
            aio::get_running_loop().call_later(1ms, [] { std::raise(SIGINT); });
            co_await aio::sleep_forever();
        }(h));
        ADD_FAILURE() << "no interrupt";
    } catch (const aio::keyboard_interrupt&) {}
    static_cast<void>(h.complete(1));
    h = {};
}

AIO_REAL_TEST("completion: in the child of a fork a handle completes nothing, and the parent's await is undisturbed") {
    completion<int> c;
    auto h = c.handle();
    aio::task<int> t = aio::create_task(std::move(c));
    co_await turns(2);
    const pid_t child = ::fork();
    if (child == 0) {
        static_cast<void>(h.complete(1));
        h = {};
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    co_await turns(5);
    EXPECT_FALSE(t.done());
    EXPECT_TRUE(h.complete(2));
    EXPECT_EQ(co_await t, 2);
}

// ---- hostile values

AIO_TEST("completion: a value whose constructor throws makes the await throw") {
    auto script = std::make_shared<aio_test::script>();
    completion<hostile> c;
    auto h = c.handle();
    aio::task<hostile> t = aio::create_task(std::move(c));
    co_await turns(2);
    script->on_move = [] { throw std::runtime_error("cannot be moved"); };
    EXPECT_TRUE(h.complete(hostile(1, script)));
    EXPECT_FALSE(h.complete(hostile(2)));
    std::string what;
    try {
        co_await std::move(t);
    } catch (const std::runtime_error& e) { what = e.what(); }
    EXPECT_EQ(what, "cannot be moved");
}

AIO_TEST("completion: a value whose move out throws is destroyed with the completion") {
    auto script = std::make_shared<aio_test::script>();
    {
        completion<hostile> c;
        EXPECT_TRUE(c.handle().complete(1, script));
        script->on_move = [] { throw std::runtime_error("stays"); };
        std::string what;
        try {
            const hostile got = co_await c;
        } catch (const std::runtime_error& e) { what = e.what(); }
        EXPECT_EQ(what, "stays");
        EXPECT_EQ(script->destroyed, 0);
    }
    EXPECT_EQ(script->destroyed, 1);
}

AIO_TEST("completion: a value whose move drops the handle and completes again decides once") {
    auto script = std::make_shared<aio_test::script>();
    completion<hostile> c;
    auto h = std::make_unique<completion_handle<hostile>>(c.handle());
    bool second = true;
    script->on_move = [&] {
        second = h->complete(2);
        h.reset();
    };
    hostile value(1, script);
    completion_handle<hostile>* used = h.get();
    EXPECT_TRUE(used->complete(std::move(value)));
    EXPECT_FALSE(second);
    const hostile got = co_await c;
    EXPECT_EQ(got.value, 1);
}

AIO_TEST("completion: a value whose destructor cancels the task that drops it") {
    auto script = std::make_shared<aio_test::script>();
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        aio::any_task self = aio::current_task();
        script->on_destroy = [self]() mutable { self.cancel(); };
        {
            completion<hostile> c;
            c.handle().complete(1, script);
        }
        co_await aio::sleep(0s);
        ADD_FAILURE() << "not cancelled";
    });
    co_await aio::gather(aio::return_exceptions, t);
    EXPECT_TRUE(t.cancelled());
    EXPECT_EQ(script->destroyed, 1);
}

// ---- brute force

PLAIN_TEST("completion: it withstands cancels, ends and failing allocations at every step") {
    aio_test::withstands_as_a_whole([]() -> aio::coro<> {
        completion<counted> c;
        c.on_cancel([] { return after_cancel::give_up; });
        aio::task<> other = aio::create_task([h = c.handle()]() -> aio::coro<> {
            co_await aio::sleep(0s);
            const bool was_pending = h.pending();
            counted mine(1);
            EXPECT_EQ(h.complete(std::move(mine)), was_pending);
            EXPECT_FALSE(h.pending());
        });
        try {
            const counted got = co_await c;
        } catch (const std::logic_error&) {}  // the other task had no memory, and dropped the handle
        co_await other;
    });
    aio_test::withstands([]() -> aio::coro<> {
        completion<counted> c;
        auto h = c.handle();
        c.on_cancel([h] { h.fail(std::make_exception_ptr(aio::cancelled_error())); });
        aio::get_running_loop().call_soon([h] { h.complete(counted(2)); });
        const counted got = co_await std::move(c);
        co_await aio::sleep(0s);
    });
}

PLAIN_TEST("completion: a value that complete() has taken is given, whenever the task is cancelled") {
    bool taken = false, given = false;
    aio_test::withstands(
        [&]() -> aio::coro<> {
            taken = given = false;
            completion<counted> c;
            c.on_cancel([] { return after_cancel::give_up; });
            auto h = c.handle();
            aio::get_running_loop().call_soon([h, &taken] { taken = h.complete(3); });
            const counted got = co_await c;
            given = true;
        },
        {},
        [&] {
            EXPECT_EQ(taken, given);
            aio_test::nothing_is_left();
            taken = given = false;
        });
}

// ---- threads

PLAIN_TEST("completion: eight threads complete, fail and drop while tasks are cancelled at random") {
    const int rounds = AIO_TEST_SANITIZED ? 300 : 2000;
    aio::run([](int count) -> aio::coro<> {
        std::atomic<int> taken = 0;
        int given = 0, failed = 0, cancelled = 0, abandoned = 0;
        std::mutex mutex;
        std::vector<std::vector<completion_handle<counted>>> work(8);
        std::atomic<bool> stop = false;
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < 8; ++i) {
            threads.emplace_back([&, i] {
                std::minstd_rand random(i + 1);
                while (!stop) {
                    std::vector<completion_handle<counted>> mine;
                    {
                        const std::lock_guard guard(mutex);
                        mine.swap(work[i]);
                    }
                    if (mine.empty()) std::this_thread::yield();
                    for (auto& h : mine) {
                        switch (random() % 4) {
                            case 0:
                            case 1: taken += h.complete(static_cast<int>(i)); break;
                            case 2: taken += h.fail(std::runtime_error("no")); break;
                            default: break;  // dropped
                        }
                    }
                }
            });
        }
        std::minstd_rand random(42);
        auto one = [&](bool gives_up) -> aio::coro<> {
            completion<counted> c;
            if (gives_up) c.on_cancel([] { return after_cancel::give_up; });
            {
                const std::lock_guard guard(mutex);
                for (int copies = 0; copies < 3; ++copies) work[random() % 8].push_back(c.handle());
            }
            if (random() % 8 == 0) co_return;  // never awaited
            if (random() % 3 == 0) co_await aio::sleep(0s);
            try {
                const counted got = co_await c;
                ++given;
            } catch (const std::runtime_error&) { ++failed; } catch (const std::logic_error&) {
                ++abandoned;
            } catch (const aio::cancelled_error&) {
                ++cancelled;
                throw;
            }
        };
        for (int i = 0; i < count; ++i) {
            std::vector<aio::task<>> tasks;
            for (int n = 0; n < 10; ++n) tasks.push_back(aio::create_task(one(n % 2 == 0)));
            co_await aio::sleep(0s);
            for (auto& t : tasks) {
                if (random() % 3 == 0) t.cancel();
            }
            co_await aio::gather(aio::return_exceptions, std::move(tasks));
        }
        stop = true;
        for (auto& t : threads) t.join();
        work.clear();
        EXPECT_GT(given, 0);
        EXPECT_GT(failed, 0);
        EXPECT_GT(cancelled, 0);
        EXPECT_LE(given + failed, taken.load());  // the rest was never awaited
    }(rounds / 10));
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("completion: threads complete while the loop ends under them") {
    for (int i = 0; i < (AIO_TEST_SANITIZED ? 50 : 300); ++i) {
        std::vector<std::thread> threads;
        aio::run([](std::vector<std::thread>& out) -> aio::coro<> {
            for (int n = 0; n < 4; ++n) {
                completion<counted> c;
                if (n % 2) c.on_cancel([] { return after_cancel::give_up; });
                out.emplace_back([h = c.handle()] { static_cast<void>(h.complete(1)); });
                aio::create_task(std::move(c));
            }
            co_return;
        }(threads));
        for (auto& t : threads) t.join();
        EXPECT_EQ(counted::alive, 0);
    }
}

// ---- deadlocks, work guards

PLAIN_TEST(
    "completion: a task that waits for one is no deadlock, in a process with one thread, until its handle is gone") {
    std::string what;
    try {
        aio::run([]() -> aio::coro<> {
            completion<int> c;
            auto h = c.handle();
            aio::event_loop& loop = aio::get_running_loop();
            loop.call_later(20ms, [h = std::make_shared<completion_handle<int>>(std::move(h))] { h->complete(1); });
            const int one = co_await c;
            EXPECT_EQ(one, 1);
            co_await aio::future<>();
        }());
    } catch (const aio::deadlock_error& e) { what = e.what(); }
    EXPECT_NE(what, "");
}

PLAIN_TEST("work_guard: while one lives no deadlock is told, and then it is") {
    // The world outside is a signal, which comes while the loop has nothing to do: with a deadlock, none would come.
    std::signal(SIGALRM, [](int) { ::raise(SIGINT); });
    EXPECT_THROW(aio::run([]() -> aio::coro<> {
        work_guard guard;
        work_guard other = std::move(guard);
        EXPECT_FALSE(guard);
        EXPECT_TRUE(other);
        itimerval soon{};
        soon.it_value.tv_usec = 5'000;
        ::setitimer(ITIMER_REAL, &soon, nullptr);
        co_await aio::future<>();
    }()),
        aio::keyboard_interrupt);
    std::signal(SIGALRM, SIG_DFL);
    EXPECT_THROW(aio::run([]() -> aio::coro<> {
        { work_guard guard; }
        work_guard second;
        second = work_guard();
        second.release();
        second.release();
        co_await aio::future<>();
    }()),
        aio::deadlock_error);
}

PLAIN_TEST("work_guard: another thread wakes the loop, and drops the guard") {
    aio::run([]() -> aio::coro<> {
        aio::future<> woken;
        std::thread thread([handle = aio::get_running_loop().handle(), &woken, guard = work_guard()]() mutable {
            handle.call_soon_threadsafe([&woken] { woken.set_result(); });
            guard.release();
        });
        co_await woken;
        thread.join();
    }());
}

PLAIN_TEST("work_guard: it may be dropped after its loop, on another thread, and in a child") {
    EXPECT_THROW(work_guard(), std::logic_error);
    std::optional<work_guard> kept;
    std::optional<work_guard> of_child;
    aio::run([](std::optional<work_guard>& out, std::optional<work_guard>& forked) -> aio::coro<> {
        out.emplace();
        forked.emplace();
        const pid_t child = ::fork();
        if (child == 0) {
            forked.reset();
            ::_exit(0);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        EXPECT_EQ(status, 0);
        co_await aio::sleep(0s);
    }(kept, of_child));
    kept.reset();
    std::thread([&] { of_child.reset(); }).join();
}

PLAIN_TEST("work_guard: eight threads drop guards of a loop that runs, and of one that ends") {
    for (int i = 0; i < 20; ++i) {
        std::vector<std::thread> threads;
        aio::run([](std::vector<std::thread>& out) -> aio::coro<> {
            for (int n = 0; n < 8; ++n) out.emplace_back([guard = work_guard()]() mutable { guard.release(); });
            co_await aio::sleep(0s);
        }(threads));
        for (auto& t : threads) t.join();
    }
}

AIO_TEST("work_guard: on virtual time the clock goes on while a guard lives") {
    work_guard guard;
    aio::event_loop& loop = aio::get_running_loop();
    const aio::time_point before = loop.time();
    co_await aio::sleep(1h);
    EXPECT_EQ(loop.time() - before, 1h);
}

// What others have stumbled over, in their own doors.

AIO_TEST("peers: a callback comes inside the call that starts the operation (cppwinrt#1329)") {
    auto start = [](completion_handle<int> h) { h.complete(1); };
    completion<int> c;
    start(c.handle());
    const int v = co_await c;
    EXPECT_EQ(v, 1);
}

AIO_TEST("peers: an error reaches the await after the start has returned (boostorg/cobalt#276)") {
    completion<int> c;
    aio::get_running_loop().call_later(1ms, [h = c.handle()] { h.fail(std::runtime_error("async")); });
    std::string what;
    try {
        co_await c;
    } catch (const std::runtime_error& e) { what = e.what(); }
    EXPECT_EQ(what, "async");
}

AIO_TEST("peers: it can be awaited again and again in a loop, and the program ends (boostorg/cobalt#171)") {
    int sum = 0;
    for (int i = 0; i < 3; ++i) {
        completion<int> c;
        aio::get_running_loop().call_later(1ms, [h = c.handle(), i] { h.complete(i); });
        sum += co_await c;
    }
    EXPECT_EQ(sum, 3);
}

PLAIN_TEST(
    "peers: a thread completes after the loop has ended, and nothing throws there (python/asyncio#258, anyio#1245)") {
    std::thread late;
    std::atomic<bool> ended = false;
    bool accepted = true;
    aio::run([](std::thread& out, std::atomic<bool>& over, bool& was) -> aio::coro<> {
        completion<int> c;
        c.on_cancel([] { return after_cancel::give_up; });
        out = std::thread([h = c.handle(), &over, &was] {
            while (!over) std::this_thread::yield();
            was = h.complete(1);
        });
        aio::create_task(std::move(c));
        co_await aio::sleep(0s);
    }(late, ended, accepted));
    ended = true;
    late.join();
    EXPECT_FALSE(accepted);
}

AIO_REAL_TEST("peers: a thread completes what has timed out meanwhile, and hears so (omnilib/aiosqlite#80)") {
    completion<int> c;
    auto h = c.handle();
    c.on_cancel([] { return after_cancel::give_up; });
    bool timed_out = false;
    try {
        co_await aio::wait_for(std::move(c), 1ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    bool taken = true;
    std::thread([&] { taken = h.complete(1); }).join();
    EXPECT_FALSE(taken);
}

AIO_TEST("peers: a sender that is dropped wakes the receiver (austinjones/postage-rs#44)") {
    completion<int> c;
    { const auto h = c.handle(); }
    bool threw = false;
    try {
        co_await c;
    } catch (const std::logic_error&) { threw = true; }
    EXPECT_TRUE(threw);
}

AIO_TEST("peers: memory that a library writes to lives until it has answered the cancel (lewissbaker/cppcoro#68)") {
    std::weak_ptr<std::string> buffer;
    completion_handle<int> h;
    bool asked = false;
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        const auto mine = std::make_shared<std::string>(10, ' ');
        buffer = mine;
        completion<int> c;
        h = c.handle();
        c.on_cancel([&] { asked = true; });
        co_await c;
    });
    co_await turns(2);
    t.cancel();
    co_await turns(5);
    EXPECT_TRUE(asked);
    EXPECT_FALSE(buffer.expired());
    h.fail(std::system_error(ECANCELED, std::generic_category()));
    co_await aio::gather(aio::return_exceptions, t);
    EXPECT_TRUE(buffer.expired());
}

AIO_TEST("peers: what sent says of a value is true: taken values are given (tokio-rs/tokio#6558)") {
    completion<std::unique_ptr<int>> c;
    auto h = c.handle();
    c.on_cancel([] { return after_cancel::give_up; });
    aio::task<std::unique_ptr<int>> t = aio::create_task(std::move(c));
    co_await turns(2);
    t.cancel();
    auto value = std::make_unique<int>(1);
    EXPECT_FALSE(h.complete(std::move(value)));
    EXPECT_TRUE(value) << "a value that was not taken stays with its sender";
    co_await aio::wait(std::vector<aio::any_task>(1, t));
}

AIO_TEST("peers: a cancel after the await has ended calls no on_cancel function (asio#1400)") {
    int calls = 0;
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        completion<int> c;
        c.on_cancel([&] { ++calls; });
        aio::get_running_loop().call_soon([h = c.handle()] { h.complete(1); });
        const int one = co_await c;
        EXPECT_EQ(one, 1);
        co_await aio::sleep_forever();
    });
    co_await turns(4);
    t.cancel();
    co_await aio::gather(aio::return_exceptions, t);
    EXPECT_TRUE(t.cancelled());
    EXPECT_EQ(calls, 0);
}

AIO_REAL_TEST("peers: the task goes on on its own thread, after a value and after a timeout (qcoro#215)") {
    const std::thread::id mine = std::this_thread::get_id();
    completion<int> c;
    std::thread thread([h = c.handle()] { h.complete(1); });
    const int one = co_await c;
    thread.join();
    EXPECT_EQ(one, 1);
    EXPECT_EQ(std::this_thread::get_id(), mine);
    completion<int> slow;
    auto h = slow.handle();
    std::thread::id hook_ran_on;
    slow.on_cancel([&] {
        hook_ran_on = std::this_thread::get_id();
        return after_cancel::give_up;
    });
    bool timed_out = false;
    try {
        co_await aio::wait_for(std::move(slow), 1ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    EXPECT_EQ(std::this_thread::get_id(), mine);
    EXPECT_EQ(hook_ran_on, mine);
}
