#include <aio/context_var.hpp>
#include <aio/executor.hpp>
#include <aio/race.hpp>
#include <aio/task_group.hpp>
#include <aio/thread_future.hpp>
#include <aio/timeout.hpp>
#include <aio/with.hpp>

#include "aio_test.hpp"

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include <sys/wait.h>

// Tests of awaiters as other libraries write them, awaited in our coroutines: see "Awaiters of other libraries" in
// docs/internals/design.md.

namespace {

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

/// A thread of another library, which runs the functions that it is given.
class worker {
public:
    worker() : thread_([this] { run(); }) {}
    ~worker() {
        post(nullptr);
        thread_.join();
    }
    void post(std::function<void()> job) {
        {
            const std::lock_guard guard(mutex_);
            jobs_.push_back(std::move(job));
        }
        changed_.notify_one();
    }
    std::thread::id id() const { return thread_.get_id(); }

private:
    void run() {
        for (;;) {
            std::unique_lock guard(mutex_);
            changed_.wait(guard, [this] { return !jobs_.empty(); });
            const std::function<void()> job = std::move(jobs_.front());
            jobs_.pop_front();
            guard.unlock();
            if (!job) return;
            job();
        }
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> jobs_;
    std::thread thread_;
};

/// An awaiter that another thread resumes.
struct from_thread {
    worker* on;
    int value;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) const {
        on->post([h] { h.resume(); });
    }
    int await_resume() const noexcept { return value; }
};

/// An awaiter that a callback of our loop resumes.
struct from_callback {
    aio::delay after = 0s;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) const {
        aio::get_running_loop().call_later(after, [h] { h.resume(); });
    }
    int await_resume() const noexcept { return 7; }
};

/// An awaiter that resumes inside await_suspend.
struct at_once {
    int value;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) const { h.resume(); }
    int await_resume() const noexcept { return value; }
};

/// An awaiter that says in await_suspend whether it waits at all.
struct perhaps {
    bool suspend;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> h) const {
        if (suspend) aio::get_running_loop().call_soon([h] { h.resume(); });
        return suspend;
    }
    const char* await_resume() const noexcept { return suspend ? "later" : "now"; }
};

struct throws_in {
    const char* where;
    bool await_ready() const {
        fail("await_ready");
        return false;
    }
    void await_suspend(std::coroutine_handle<> h) const {
        fail("await_suspend");
        aio::get_running_loop().call_soon([h] { h.resume(); });
    }
    void await_resume() const { fail("await_resume"); }
    void fail(const char* here) const {
        if (std::string(here) == where) throw std::runtime_error(here);
    }
};

/// A lazy coroutine of another library, started and left by symmetric transfer.
template<class T>
class lazy {
public:
    struct promise_type {
        std::coroutine_handle<> awaiting;
        T value{};
        std::exception_ptr error;
        lazy get_return_object() { return lazy(std::coroutine_handle<promise_type>::from_promise(*this)); }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        struct last {
            bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> h) const noexcept {
                return h.promise().awaiting;
            }
            void await_resume() const noexcept {}
        };
        last final_suspend() const noexcept { return {}; }
        void return_value(T v) { value = std::move(v); }
        void unhandled_exception() { error = std::current_exception(); }
    };
    lazy(lazy&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    ~lazy() {
        if (handle_) handle_.destroy();
    }
    struct awaiter {
        std::coroutine_handle<promise_type> inner;
        bool await_ready() const noexcept { return false; }
        template<class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> h) const noexcept {
            inner.promise().awaiting = h;
            return inner;
        }
        T await_resume() const {
            if (inner.promise().error) std::rethrow_exception(inner.promise().error);
            return std::move(inner.promise().value);
        }
    };
    awaiter operator co_await() && noexcept { return awaiter{handle_}; }

private:
    explicit lazy(std::coroutine_handle<promise_type> h) : handle_(h) {}
    std::coroutine_handle<promise_type> handle_;
};
lazy<std::string> lazily(worker* on, std::string text, bool fail = false) {
    if (on) static_cast<void>(co_await from_thread{on, 1});
    if (fail) throw std::runtime_error(text);
    co_return "lazy " + text;
}

}  // namespace

namespace elsewhere {
/// A class that becomes awaitable by a free operator co_await.
struct described {
    int value;
};
inline at_once operator co_await(described d) noexcept { return at_once{d.value}; }
}  // namespace elsewhere

namespace {

/// An awaiter that leaves its handle to the test, which resumes or destroys it.
struct held {
    std::vector<std::coroutine_handle<>>* handles;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) const { handles->push_back(h); }
    void await_resume() const noexcept {}
};

/// An awaiter with request_stop(), which alone resumes it.
struct stoppable {
    std::coroutine_handle<>* handle;
    int* asked;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) const { *handle = h; }
    int await_resume() const noexcept { return 9; }
    void request_stop() noexcept {
        ++*asked;
        handle->resume();
    }
};
/// An awaiter with cancel(), which throws.
struct cancellable {
    std::vector<std::coroutine_handle<>>* handles;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) const { handles->push_back(h); }
    void await_resume() const noexcept {}
    void cancel() { throw std::runtime_error("cannot be cancelled"); }
};

/// An awaiter that waits for a std::future in a thread of its own, as people write such an adapter.
template<class T>
struct in_thread_of_its_own {
    std::future<T> future;
    std::thread thread = {};
    explicit in_thread_of_its_own(std::future<T> f) : future(std::move(f)) {}
    in_thread_of_its_own(in_thread_of_its_own&&) = default;
    ~in_thread_of_its_own() {
        if (thread.joinable()) thread.join();
    }
    bool await_ready() const { return future.wait_for(0s) == std::future_status::ready; }
    void await_suspend(std::coroutine_handle<> h) {
        thread = std::thread([this, h] {
            future.wait();
            h.resume();
        });
    }
    T await_resume() { return future.get(); }
};

aio::coro<std::string> outcome_of(auto awaitable) {
    try {
        static_cast<void>(co_await aio::detail::no_void(std::move(awaitable)));
    } catch (const aio::cancelled_error& e) { co_return "cancelled " + e.message(); } catch (const std::exception& e) {
        co_return e.what();
    }
    co_return "value";
}

}  // namespace

AIO_REAL_TEST(
    "fault C16: an awaiter resumed by another thread: the task goes on on its own loop, and may wait for anything "
    "then") {
    worker other;
    const std::thread::id here = std::this_thread::get_id();
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(co_await from_thread(&other, i), i);
        EXPECT_EQ(std::this_thread::get_id(), here);
        co_await aio::sleep(0s);
        EXPECT_EQ(std::this_thread::get_id(), here);
    }
    co_await aio::sleep(1ms);
    EXPECT_NE(co_await aio::to_thread([] { return std::this_thread::get_id(); }), here);
}

AIO_TEST("fault C16: an awaiter resumed by a callback of the loop, with a delay, then sleep") {
    const auto start = aio::get_running_loop().time();
    EXPECT_EQ(co_await from_callback(5ms), 7);
    EXPECT_EQ(aio::get_running_loop().time() - start, 5ms);
    co_await aio::sleep(1ms);
    EXPECT_EQ(co_await from_callback(), 7);
    EXPECT_EQ(aio::get_running_loop().time() - start, 6ms);
}

PLAIN_TEST(
    "fault C16: nothing but a foreign awaiter that another thread will resume is no deadlock, and afterwards one is "
    "found") {
    worker other;
    auto main = [&]() -> aio::coro<int> { co_return co_await from_thread(&other, 3); };
    EXPECT_EQ(aio::run(main()), 3);
    auto stuck = []() -> aio::coro<> {
        static_cast<void>(co_await from_callback());
        aio::event never;
        co_await never.wait();
    };
    // A deadlock is found only in a process without other threads, so this runs in a child.
    const pid_t child = ::fork();
    if (child == 0) {
        try {
            aio::run(stuck());
        } catch (const aio::deadlock_error&) { ::_exit(42); }
        ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 42);
}

AIO_TEST("fault C16: inline, not suspended after all, by a free operator, ready: the task does not suspend") {
    journal log;
    auto beside = aio::create_task([&]() -> aio::coro<> {
        log("beside");
        co_return;
    });
    EXPECT_EQ(co_await at_once(4), 4);
    EXPECT_STREQ(co_await perhaps(false), "now");
    EXPECT_EQ(co_await elsewhere::described(5), 5);
    co_await std::suspend_never();
    log("first");
    EXPECT_STREQ(co_await perhaps(true), "later");
    log("last");
    EXPECT_EQ(log.text(), "first beside last");
    co_await beside;
}

AIO_TEST("fault C16: a lvalue awaiter, an immovable one, a reference and a move-only value as the result") {
    struct immovable {
        int& x;
        explicit immovable(int& r) : x(r) {}
        immovable(immovable&&) = delete;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const { h.resume(); }
        int& await_resume() const noexcept { return x; }
    };
    int x = 1;
    int& y = co_await immovable(x);
    EXPECT_EQ(&y, &x);
    at_once kept{6};
    EXPECT_EQ(co_await kept, 6);
    EXPECT_EQ(co_await kept, 6);
    struct owning {
        bool await_ready() const noexcept { return true; }
        void await_suspend(std::coroutine_handle<>) const noexcept {}
        std::unique_ptr<int> await_resume() const { return std::make_unique<int>(8); }
    };
    const std::unique_ptr<int> got = co_await owning();
    EXPECT_EQ(*got, 8);
}

AIO_REAL_TEST("fault C16: coroutines of another library, which transfer to each other and back") {
    worker other;
    EXPECT_EQ(co_await lazily(nullptr, "here"), "lazy here");
    EXPECT_EQ(co_await lazily(&other, "there"), "lazy there");
    EXPECT_EQ(co_await outcome_of(lazily(nullptr, "bad", true)), "bad");
    EXPECT_EQ(co_await outcome_of(lazily(&other, "worse", true)), "worse");
}

AIO_TEST(
    "fault C16: what await_ready, await_suspend or await_resume throw is thrown by the await, and nothing is left") {
    for (const char* where : {"await_ready", "await_suspend", "await_resume"}) {
        EXPECT_EQ(co_await outcome_of(throws_in{where}), where);
    }
    EXPECT_EQ(co_await outcome_of(throws_in{"nowhere"}), "value");
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_REAL_TEST(
    "fault C16: in gather, race, wait_for, shield, create_task, a task group, a body of with, a context and a "
    "generator") {
    worker other;
    auto both = co_await aio::gather(from_thread(&other, 1), from_callback(1ms), lazily(&other, "gathered"));
    EXPECT_EQ(std::get<0>(both), 1);
    EXPECT_EQ(std::get<1>(both), 7);
    EXPECT_EQ(std::get<2>(both), "lazy gathered");
    auto won = co_await aio::race(from_thread(&other, 2), aio::sleep_forever());
    EXPECT_EQ(std::get<0>(won), 2);
    EXPECT_EQ(co_await aio::wait_for(from_thread(&other, 3), 1h), 3);
    EXPECT_EQ(co_await aio::shield(from_thread(&other, 4)), 4);
    auto task = aio::create_task(from_thread(&other, 5));
    EXPECT_EQ(co_await task, 5);
    int in_group = 0;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        tg.create_task([&]() -> aio::coro<> { in_group = co_await from_thread(&other, 6); });
        return from_thread(&other, 7);  // a body is async if what it returns is awaitable
    });
    EXPECT_EQ(in_group, 6);
    auto manager = [&]() -> aio::context<int> {
        int entered = co_await from_thread(&other, 8);
        std::exception_ptr& error = co_yield entered;
        static_cast<void>(co_await from_thread(&other, 9));
        EXPECT_FALSE(error);
    };
    int entered = 0;
    co_await aio::with(manager(), [&](int value) { entered = value; });
    EXPECT_EQ(entered, 8);
    auto numbers = [&]() -> aio::async_generator<int> {
        for (int i = 0; i < 3; ++i) {
            const int number = co_await from_thread(&other, i);
            co_yield number;
        }
    };
    int sum = 0;
    co_await aio::for_each(numbers(), [&](int i) { sum += i; });
    EXPECT_EQ(sum, 3);
    auto from_plain = aio::create_task([&] { return from_thread(&other, 10); });
    EXPECT_EQ(co_await from_plain, 10);
}

AIO_TEST(
    "fault C16: irrevocable: a cancel while it is pending waits, its value is given, and the cancel comes at the next "
    "await") {
    std::vector<std::coroutine_handle<>> handles;
    journal log;
    auto t = aio::create_task([&]() -> aio::coro<> {
        co_await held{&handles};
        log("value");
        log(co_await outcome_of(aio::sleep(0s)));
    });
    co_await turns(2);
    AIO_REQUIRE(handles.size() == 1);
    EXPECT_TRUE(t.cancel("user"));
    co_await turns(3);
    EXPECT_FALSE(t.done());
    handles[0].resume();
    co_await t;
    EXPECT_EQ(log.text(), "value cancelled user");
    // While a cancel is pending the awaiter is not even begun.
    auto early = aio::create_task([&]() -> aio::coro<> {
        aio::current_task().cancel("early");
        co_await held{&handles};
    });
    EXPECT_EQ(co_await outcome_of(early), "cancelled early");
    EXPECT_EQ(handles.size(), 1u);
}

AIO_TEST(
    "fault C16: a loop of foreign awaiters that are ready at once can be cancelled, and does not starve the others") {
    bool ended = false;
    auto t = aio::create_task([&]() -> aio::coro<> {
        for (;;) static_cast<void>(co_await at_once(1));
    });
    co_await turns(3);
    t.cancel("enough");
    EXPECT_EQ(co_await outcome_of(t), "cancelled enough");
    const std::string timed = co_await outcome_of(aio::with(aio::timeout(10ms), [&]() -> aio::coro<> {
        for (;;) {
            static_cast<void>(co_await from_callback(1ms));
            ended = true;
        }
    }));
    EXPECT_EQ(timed, "timed out");
    EXPECT_TRUE(ended);
}

AIO_TEST("fault C16: an awaiter with request_stop() or cancel() is asked to stop, once") {
    std::coroutine_handle<> handle;
    int asked = 0;
    int got = 0;
    auto t = aio::create_task([&]() -> aio::coro<> {
        got = co_await stoppable{&handle, &asked};
        co_await aio::sleep(0s);
    });
    co_await turns(2);
    t.cancel("user");
    t.cancel("again");
    EXPECT_EQ(asked, 1);
    EXPECT_EQ(co_await outcome_of(t), "cancelled again");
    EXPECT_EQ(got, 9);
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    std::vector<std::coroutine_handle<>> handles;
    auto stubborn = aio::create_task([&]() -> aio::coro<> { co_await cancellable{&handles}; });
    co_await turns(2);
    stubborn.cancel();
    EXPECT_EQ(told.size(), 1u);
    AIO_REQUIRE(handles.size() == 1);
    handles[0].resume();
    co_await stubborn;
    aio::get_running_loop().set_exception_handler({});
}

AIO_TEST(
    "fault C16: a handle destroyed instead of resumed is an error of the await, inline, from a callback, after a "
    "suspension") {
    std::vector<std::coroutine_handle<>> handles;
    auto t = aio::create_task(outcome_of(held{&handles}));
    co_await turns(2);
    AIO_REQUIRE(handles.size() == 1);
    handles[0].destroy();
    const std::string text = co_await t;
    EXPECT_NE(text.find("has destroyed the coroutine handle"), std::string::npos) << text;
    struct destroys {
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const { h.destroy(); }
        void await_resume() const noexcept {}
    };
    const std::string inline_text = co_await outcome_of(destroys());
    EXPECT_NE(inline_text.find("has destroyed the coroutine handle"), std::string::npos) << inline_text;
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_REAL_TEST("fault C16: a handle destroyed by another thread is the same error") {
    worker other;
    struct destroyed_there {
        worker* on;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const {
            on->post([h] { h.destroy(); });
        }
        void await_resume() const noexcept {}
    };
    const std::string text = co_await outcome_of(destroyed_there{&other});
    EXPECT_NE(text.find("has destroyed the coroutine handle"), std::string::npos) << text;
}

AIO_REAL_TEST("fault C16: an adapter of a std::future, ready and not ready, with a value and an error") {
    std::promise<int> promise;
    auto adapter = aio::create_task(
        [](std::future<int> f) -> aio::coro<int> { co_return co_await in_thread_of_its_own<int>(std::move(f)); },
        promise.get_future());
    co_await turns(2);
    promise.set_value(11);
    EXPECT_EQ(co_await adapter, 11);
    std::promise<int> fails;
    fails.set_exception(std::make_exception_ptr(std::runtime_error("theirs")));
    EXPECT_EQ(co_await outcome_of(in_thread_of_its_own<int>(fails.get_future())), "theirs");
}

AIO_REAL_TEST("fault C16: 100,000 in a row, of each way, neither grow the stack nor leak") {
    worker other;
    long long sum = 0;
    for (int i = 0; i < 100'000; ++i) sum += co_await at_once(1);
    for (int i = 0; i < 100'000; ++i)
        sum += static_cast<long long>(std::string_view(co_await perhaps(i % 2 == 0)).size() > 0);
    for (int i = 0; i < 10'000; ++i) sum += co_await from_thread(&other, 1);
    for (int i = 0; i < 1'000; ++i) sum += static_cast<long long>((co_await lazily(nullptr, "x")).size() == 6);
    EXPECT_EQ(sum, 211'000);
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_REAL_TEST("fault C16: many tasks at once, resumed by two threads in any order") {
    worker a, b;
    std::vector<aio::coro<int>> all;
    auto one = [&](int i) -> aio::coro<int> {
        int sum = 0;
        for (int k = 0; k < 20; ++k) sum += co_await from_thread((i + k) % 2 == 0 ? &a : &b, i);
        co_return sum;
    };
    for (int i = 0; i < 100; ++i) all.push_back(one(i));
    const std::vector<int> sums = co_await aio::gather(std::move(all));
    for (int i = 0; i < 100; ++i) EXPECT_EQ(sums[static_cast<std::size_t>(i)], 20 * i);
}

PLAIN_TEST("fault C16: resumed after its loop has been given up: nothing happens") {
    std::vector<std::coroutine_handle<>> handles;
    const pid_t child = ::fork();  // in a child, because what run() gives up is leaked on purpose
    if (child == 0) {
        auto main = [&]() -> aio::coro<> {
            auto waits = aio::create_task([&]() -> aio::coro<> { co_await held{&handles}; });
            co_await turns(2);
            ::raise(SIGINT);
            ::raise(SIGINT);
            co_await aio::sleep_forever();
        };
        bool interrupted = false;
        try {
            aio::run(main());
        } catch (const aio::keyboard_interrupt&) { interrupted = true; }
        for (const std::coroutine_handle<> h : handles) h.resume();
        auto next = []() -> aio::coro<> { co_await aio::sleep(1ms); };
        aio::run(next());
        ::_exit(interrupted && handles.size() == 1 ? 42 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 42);
}

AIO_REAL_TEST(
    "fault C16: resumed in the child of a fork, whose loop is closed: nothing happens there, and all goes on here") {
    std::vector<std::coroutine_handle<>> handles;
    auto t = aio::create_task([&]() -> aio::coro<> { co_await held{&handles}; });
    co_await turns(2);
    AIO_REQUIRE(handles.size() == 1);
    const pid_t child = ::fork();
    if (child == 0) {
        handles[0].resume();
        ::_exit(42);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 42);
    handles[0].resume();
    co_await t;
}

AIO_TEST(
    "fault C16: the call graph says what is waited for; the context variables and the task are the awaiter's own") {
    static aio::context_var<int> number("number", 0);
    static_cast<void>(number.set(5));
    std::vector<std::coroutine_handle<>> handles;
    auto t = aio::create_task([&]() -> aio::coro<int> {
        const aio::any_task before = aio::current_task();
        co_await held{&handles};
        EXPECT_TRUE(aio::current_task() == before);
        co_return number.get();
    });
    co_await turns(2);
    EXPECT_NE(aio::capture_call_graph().to_string().find("an awaiter of another library"), std::string::npos);
    AIO_REQUIRE(handles.size() == 1);
    handles[0].resume();
    EXPECT_EQ(co_await t, 5);
}

PLAIN_TEST("fault C16: a foreign awaiter is cancelled or left behind at every step, and nothing leaks") {
    auto scenario = []() -> aio::coro<> {
        counted local;
        static_cast<void>(co_await from_callback());
        auto t = aio::create_task([](counted) -> aio::coro<int> { co_return co_await from_callback(1ms); }, counted());
        static_cast<void>(co_await t);
        static_cast<void>(co_await aio::race(from_callback(1ms), aio::sleep(1h)));
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 5u);
}

namespace {
/// An awaiter that cancels the task which awaits it while it begins, and resumes when it is asked to stop.
struct cancels_as_it_begins {
    std::coroutine_handle<> handle;
    bool asked = false;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        handle = h;
        aio::current_task().cancel("own");
    }
    void await_resume() const noexcept {}
    void request_stop() {
        asked = true;
        resume();
    }
    void resume() {
        if (handle) std::exchange(handle, {}).resume();
    }
};
}  // namespace

AIO_TEST(
    "rule 6: a cancel that comes while an await begins is offered to it, also when the step's budget was used up") {
    for (const int awaits : {0, 255, 256, 257}) {
        cancels_as_it_begins wait;
        auto t = aio::create_task([&]() -> aio::coro<> {
            aio::event set;
            set.set();
            for (int i = 0; i < awaits; ++i) co_await set.wait();
            co_await wait;
        });
        aio::get_running_loop().call_later(1s, [&] { wait.resume(); });
        co_await aio::sleep(2s);
        EXPECT_TRUE(t.done());
        EXPECT_TRUE(wait.asked) << awaits;
    }
}
