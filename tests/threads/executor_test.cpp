#include <aio/context_var.hpp>
#include <aio/executor.hpp>

#include "aio_test.hpp"

#include <csignal>
#include <cstdlib>
#include <future>
#include <latch>
#include <memory>
#include <numeric>
#include <string>
#include <thread>

using aio_test::counted;

namespace {

/// A job that says when it has begun, and that ends when the gate is opened.
struct gate {
    std::promise<void> begun_promise, open_promise;
    std::shared_future<void> opened{open_promise.get_future()};
    std::atomic<bool> said = false;
    aio::loop_handle loop = aio::get_running_loop().handle();
    aio::future<> begun;

    int operator()() {
        loop.call_soon_threadsafe([this] { begun.set_result(); });
        opened.wait();
        return 7;
    }
    void open() { open_promise.set_value(); }
};

aio::coro<int> pass(aio::thread_pool_executor& pool, gate& g) {
    co_return co_await aio::run_in_executor(pool, std::ref(g));
}

int add(int a, int b) { return a + b; }

struct accumulator {
    int sum = 0;
    int add(int n) { return sum += n; }
};

/// An argument of a job whose destructor fulfils a promise.
struct last_words {
    std::shared_ptr<std::promise<void>> gone;
    explicit last_words(std::shared_ptr<std::promise<void>> p) : gone(std::move(p)) {}
    last_words(last_words&&) = default;
    ~last_words() {
        if (gone) gone->set_value();
    }
};

template<class E, class A>
aio::coro<std::string> error_of(A awaitable) {
    try {
        co_await std::move(awaitable);
    } catch (const E& e) { co_return e.what(); }
    co_return "none";
}

}  // namespace

// ---- to_thread ----

AIO_TEST("rule 165: to_thread carries arguments, exceptions and context variables") {
    aio::context_var<std::string> user("user", "nobody");
    auto token = user.set("ada");
    EXPECT_EQ(co_await aio::to_thread(&add, 2, 3), 5);
    auto fails = [](const std::string& text) -> int { throw std::runtime_error(text); };
    EXPECT_EQ(co_await error_of<std::runtime_error>(aio::to_thread(fails, "from the thread")), "from the thread");
    auto reads = [&] { return user.get(); };
    EXPECT_EQ(co_await aio::to_thread(reads), "ada");
    auto writes = [&] {
        static_cast<void>(user.set("a thread"));
        return user.get();
    };
    EXPECT_EQ(co_await aio::to_thread(writes), "a thread");
    EXPECT_EQ(user.get(), "ada");  // the thread changed its copy
    user.reset(token);
    EXPECT_EQ(co_await aio::to_thread(reads), "nobody");
}

AIO_TEST("a job runs on another thread") {
    const auto here = std::this_thread::get_id();
    const auto there = co_await aio::to_thread([] { return std::this_thread::get_id(); });
    EXPECT_NE(here, there);
}

AIO_TEST("functions, references, members and move-only things go to a thread") {
    co_await aio::to_thread([] {});
    int n = 1;
    co_await aio::to_thread([](int& i) { ++i; }, std::ref(n));
    EXPECT_EQ(n, 2);
    accumulator a;
    EXPECT_EQ(co_await aio::to_thread(&accumulator::add, &a, 5), 5);
    EXPECT_EQ(co_await aio::to_thread(&accumulator::add, std::ref(a), 5), 10);
    auto owned = std::make_unique<int>(4);
    auto back = co_await aio::to_thread([](std::unique_ptr<int> p) { return p; }, std::move(owned));
    EXPECT_EQ(*back, 4);
    auto holder = [p = std::move(back)]() mutable { return std::move(p); };
    EXPECT_EQ(*co_await aio::to_thread(std::move(holder)), 4);
    int& same = co_await aio::to_thread([](int& i) -> int& { return i; }, std::ref(n));
    EXPECT_EQ(&same, &n);
    const std::string text = co_await aio::to_thread([](const std::string& s) { return s + "!"; }, "text");
    EXPECT_EQ(text, "text!");
    aio::task<int> task = aio::create_task(aio::to_thread(&add, 1, 1));
    EXPECT_EQ(co_await task, 2);
}

AIO_TEST("an error that is no std::exception comes through, too") {
    int caught = 0;
    try {
        co_await aio::to_thread([] { throw 42; });
    } catch (int value) { caught = value; }
    EXPECT_EQ(caught, 42);
}

PLAIN_TEST("to_thread outside of a loop is a logic_error") {
    EXPECT_THROW(static_cast<void>(aio::to_thread([] {})), std::logic_error);
}

AIO_TEST("to_async makes a coroutine function of a plain one") {
    auto twice = aio::to_async([](int n) { return 2 * n; });
    aio::coro<int> first = twice(4);
    EXPECT_EQ(co_await std::move(first), 8);
    EXPECT_EQ(co_await twice(5), 10);
    auto task = aio::create_task(twice, 6);
    EXPECT_EQ(co_await task, 12);
    auto fails = aio::to_async([] { throw std::runtime_error("no"); });
    EXPECT_EQ(co_await error_of<std::runtime_error>(fails()), "no");
    counted::alive = 0;
    {
        auto keeps = aio::to_async([c = counted(3)] { return c.value; });
        EXPECT_EQ(co_await keeps(), 3);
        EXPECT_EQ(counted::alive, 1);
    }
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("a job that is never awaited never runs") {
    bool ran = false;
    {
        [[maybe_unused]] auto job = aio::to_thread([&] { ran = true; });
    }
    co_await aio::to_thread([] {});
    EXPECT_FALSE(ran);
}

AIO_TEST("virtual time stands still while a job is under way") {
    auto& loop = aio::get_running_loop();
    const auto start = loop.time();
    aio::thread_pool_executor pool(1);
    gate g;
    auto job = aio::create_task(pass(pool, g));
    auto sleeper = aio::create_task(aio::sleep(1h));
    co_await g.begun;
    EXPECT_EQ(loop.time(), start);
    g.open();
    EXPECT_EQ(co_await job, 7);
    EXPECT_EQ(loop.time(), start);
    EXPECT_FALSE(sleeper.done());
    co_await sleeper;
    EXPECT_EQ(loop.time(), start + 1h);
}

// ---- cancellation ----

AIO_TEST("decision (k): a job not begun is withdrawn") {
    counted::alive = 0;
    aio::thread_pool_executor pool(1);
    gate g;
    auto first = aio::create_task(pass(pool, g));
    co_await g.begun;
    bool ran = false;
    auto second = aio::create_task(aio::run_in_executor(pool, [&ran](counted) { ran = true; }, counted(1)));
    co_await aio_test::turns(2);
    second.cancel("not needed");
    co_await aio_test::turns(2);
    EXPECT_TRUE(second.cancelled());
    EXPECT_EQ(counted::alive, 0);
    g.open();
    EXPECT_EQ(co_await first, 7);
    co_await pool.shutdown();
    EXPECT_FALSE(ran);
}

AIO_TEST(
    "decision (k): a job begun is irrevocable: its stop_token is requested, its value delivered, and the cancel stays "
    "pending") {
    aio::thread_pool_executor pool(1);
    aio::future<> begun;
    auto loop = aio::get_running_loop().handle();
    auto job = [&](std::stop_token stop, int value) {
        std::promise<void> stopped;
        std::stop_callback on_stop(stop, [&] { stopped.set_value(); });
        loop.call_soon_threadsafe([&] { begun.set_result(); });
        stopped.get_future().wait();
        return value;
    };
    int got = 0;
    bool interrupted = false;
    auto waits = [&]() -> aio::coro<> {
        got = co_await aio::run_in_executor(pool, std::ref(job), 5);
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error& e) { interrupted = e.message() == "enough"; }
    };
    auto task = aio::create_task(waits);
    co_await begun;
    task.cancel("enough");
    co_await task;
    EXPECT_EQ(got, 5);
    EXPECT_TRUE(interrupted);
    EXPECT_EQ(task.cancelling(), 1u);
    co_await pool.shutdown();
}

AIO_TEST("decision (k): what a job begun throws is delivered although a cancel is pending") {
    aio::thread_pool_executor pool(1);
    gate g;
    auto fails = [&g]() -> int {
        g();
        throw std::runtime_error("the job's own");
    };
    auto task = aio::create_task(aio::run_in_executor(pool, std::move(fails)));
    co_await g.begun;
    task.cancel();
    task.cancel();
    g.open();
    EXPECT_EQ(co_await error_of<std::runtime_error>(task), "the job's own");
    EXPECT_FALSE(task.cancelled());
    co_await pool.shutdown();
}

AIO_TEST("decision (b): a task that ends with the value of a job begun keeps it") {
    aio::thread_pool_executor pool(1);
    gate g;
    auto task = aio::create_task(pass(pool, g));
    co_await g.begun;
    task.cancel();
    co_await aio_test::turns(3);
    EXPECT_FALSE(task.done());
    g.open();
    EXPECT_EQ(co_await task, 7);
    co_await pool.shutdown();
}

AIO_TEST("decision (f2): uncancel withdraws a cancel that a job has overtaken") {
    aio::thread_pool_executor pool(1);
    gate g;
    bool slept = false;
    auto waits = [&]() -> aio::coro<int> {
        const int value = co_await pass(pool, g);
        aio::current_task().uncancel();
        co_await aio::sleep(0s);
        slept = true;
        co_return value;
    };
    auto task = aio::create_task(waits);
    co_await g.begun;
    task.cancel();
    g.open();
    EXPECT_EQ(co_await task, 7);
    EXPECT_TRUE(slept);
    co_await pool.shutdown();
}

AIO_TEST("a job is not begun under a pending cancel") {
    aio::thread_pool_executor pool(1);
    bool ran = false;
    auto waits = [&]() -> aio::coro<> {
        aio::current_task().cancel();
        co_await aio::run_in_executor(pool, [&ran] { ran = true; });
    };
    auto task = aio::create_task(waits);
    co_await aio_test::turns(3);
    EXPECT_TRUE(task.cancelled());
    co_await pool.shutdown();
    EXPECT_FALSE(ran);
}

AIO_REAL_TEST("a job that is abandoned before a thread takes it is none that the pool still has to do") {
    const auto& pool = aio::detail::default_pool();
    std::promise<void> open;
    std::shared_future<void> opened(open.get_future());
    std::vector<aio::task<>> running;
    for (std::size_t i = 0; i < aio::thread_pool_executor::default_threads(); ++i) {
        running.push_back(aio::create_task(aio::to_thread([opened] { opened.wait(); })));
    }
    co_await aio_test::turns(2);
    const std::size_t before = pool.unfinished();
    auto queued = aio::create_task(aio::to_thread(aio::abandon_on_cancel, [] {}));
    co_await aio_test::turns(2);
    EXPECT_EQ(pool.unfinished(), before + 1);
    queued.cancel();
    co_await aio_test::turns(2);
    EXPECT_TRUE(queued.cancelled());
    EXPECT_EQ(pool.unfinished(), before);
    open.set_value();
    for (auto& task : running) co_await task;
}

PLAIN_TEST("rule 167: an abandoned job does not hold up its task, nor the loop; its late completion touches neither") {
    std::promise<void> open;
    std::shared_future<void> opened(open.get_future());
    auto gone = std::make_shared<std::promise<void>>();
    auto over = gone->get_future();
    std::atomic<bool> asked = false;
    auto main = [&]() -> aio::coro<> {
        aio::future<> begun;
        auto loop = aio::get_running_loop().handle();
        auto job = [&asked, opened, loop, &begun](std::stop_token stop, last_words) {
            loop.call_soon_threadsafe([&begun] { begun.set_result(); });
            opened.wait();
            asked = stop.stop_requested();
            return 1;
        };
        auto task =
            aio::create_task(aio::to_thread(aio::abandon_on_cancel, std::move(job), last_words(std::move(gone))));
        co_await begun;
        task.cancel();
        co_await aio_test::turns(2);
        EXPECT_TRUE(task.cancelled());
        EXPECT_EQ(co_await aio::to_thread(&add, 1, 2), 3);  // the pool goes on with another thread
    };
    aio::run(main());
    EXPECT_EQ(over.wait_for(0s), std::future_status::timeout);  // run() did not wait for it
    open.set_value();
    over.wait();
    EXPECT_TRUE(asked);
}

AIO_TEST("to_thread(abandon_on_cancel) that is not cancelled gives its value, error and context") {
    aio::context_var<int> v("v", 0);
    static_cast<void>(v.set(3));
    auto reads = [&](std::unique_ptr<int> p) { return v.get() + *p; };
    EXPECT_EQ(co_await aio::to_thread(aio::abandon_on_cancel, reads, std::make_unique<int>(4)), 7);
    auto fails = [] { throw std::runtime_error("its error"); };
    EXPECT_EQ(co_await error_of<std::runtime_error>(aio::to_thread(aio::abandon_on_cancel, fails)), "its error");
}

AIO_TEST("an abandoned job that was done already is dropped: the cancel wins") {
    counted::alive = 0;
    auto task = aio::create_task(aio::to_thread(aio::abandon_on_cancel, [](counted c) { return c; }, counted(1)));
    co_await aio_test::turns(1);
    while (!task.done()) {
        task.cancel();
        co_await aio_test::turns(1);
    }
    EXPECT_TRUE(task.cancelled());
    co_await aio::to_thread([] {});
    while (counted::alive != (task.cancelled() ? 0 : 1)) co_await aio::to_thread([] { std::this_thread::yield(); });
}

PLAIN_TEST("nothing is lost when jobs are cancelled at every step") {
    counted::alive = 0;
    std::atomic<int> ran = 0;
    int delivered = 0;
    auto job = [&ran](counted c, int n) {
        ++ran;
        return c.value + n;
    };
    auto scenario = [&]() -> aio::coro<> {
        aio::thread_pool_executor pool(2);
        std::exception_ptr error;
        try {
            for (int i = 0; i < 3; ++i) {
                auto call = aio::run_in_executor(pool, job, counted(1), i);
                EXPECT_EQ(co_await std::move(call), 1 + i);
                ++delivered;
            }
            auto light = [](counted c) { return c.value; };
            EXPECT_EQ(co_await aio::to_thread(aio::abandon_on_cancel, light, counted(1)), 1);
        } catch (...) { error = std::current_exception(); }
        co_await pool.shutdown();
        if (error) std::rethrow_exception(error);
    };
    const auto runs = aio::testing::cancel_at_every_step(scenario, [&] {
        EXPECT_EQ(ran.load(), delivered);  // the result of each job that began was delivered
        ran = delivered = 0;
    });
    EXPECT_GT(runs, 5u);
    while (counted::alive != 0) std::this_thread::yield();  // abandoned jobs end by themselves
}

// ---- thread_pool_executor ----

AIO_TEST("a pool runs as many jobs at once as it has threads, the others in order") {
    aio::thread_pool_executor pool(2);
    std::latch both(2);
    auto meets = [&both] { both.arrive_and_wait(); };
    auto a = aio::create_task(aio::run_in_executor(pool, meets));
    auto b = aio::create_task(aio::run_in_executor(pool, meets));
    co_await a;
    co_await b;
    co_await pool.shutdown();

    aio::thread_pool_executor one(1);
    std::vector<int> order;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 20; ++i)
        tasks.push_back(aio::create_task(aio::run_in_executor(one, [&order, i] { order.push_back(i); })));
    for (auto& task : tasks) co_await task;
    std::vector<int> expected(20);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(order, expected);
    co_await one.shutdown();
}

AIO_TEST("shutdown waits for the jobs, queued ones too, and then the pool takes no more") {
    aio::thread_pool_executor pool(1);
    gate g;
    auto running = aio::create_task(pass(pool, g));
    co_await g.begun;
    auto queued = aio::create_task(aio::run_in_executor(pool, &add, 1, 1));
    co_await aio_test::turns();
    auto closing = aio::create_task(pool.shutdown());
    auto closing_too = aio::create_task(pool.shutdown());
    co_await aio_test::turns(3);
    EXPECT_FALSE(closing.done());
    EXPECT_NE((co_await error_of<std::logic_error>(aio::run_in_executor(pool, &add, 1, 1))).find("shut down"),
        std::string::npos);
    g.open();
    co_await closing;
    co_await closing_too;
    EXPECT_EQ(co_await running, 7);
    EXPECT_EQ(co_await queued, 2);
    co_await pool.shutdown();
    EXPECT_NE((co_await error_of<std::logic_error>(aio::run_in_executor(pool, &add, 1, 1))).find("shut down"),
        std::string::npos);
}

AIO_TEST("a pool is not shut down from one of its own threads, which would wait for itself") {
    aio::thread_pool_executor pool(2), other(1);
    auto shut_down = [](aio::thread_pool_executor& p) {
        aio::run([](aio::thread_pool_executor& q) -> aio::coro<> { co_await q.shutdown(); }(p));
    };
    const std::string what = co_await error_of<std::logic_error>(aio::run_in_executor(pool, shut_down, std::ref(pool)));
    EXPECT_NE(what.find("would wait for itself"), std::string::npos) << what;
    co_await aio::run_in_executor(pool, shut_down, std::ref(other));
    EXPECT_EQ(co_await aio::run_in_executor(pool, &add, 1, 1), 2);
    co_await pool.shutdown();
}

AIO_TEST("a cancel neither prevents nor interrupts a shutdown: it stays pending") {
    aio::thread_pool_executor pool(1);
    gate g;
    auto job = aio::create_task(pass(pool, g));
    co_await g.begun;
    bool closed = false;
    auto closes = [&]() -> aio::coro<> {
        aio::current_task().cancel();
        co_await pool.shutdown();
        closed = true;
        co_await aio::sleep(1h);
    };
    auto closing = aio::create_task(closes);
    co_await aio_test::turns(3);
    closing.cancel();
    co_await aio_test::turns(3);
    EXPECT_FALSE(closed);
    g.open();
    EXPECT_EQ(co_await job, 7);
    bool cancelled = false;
    try {
        co_await closing;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(closed && cancelled);
}

PLAIN_TEST("a pool has at least one thread") {
    EXPECT_THROW(aio::thread_pool_executor(0), std::invalid_argument);
    EXPECT_GE(aio::thread_pool_executor::default_threads(), 5u);
    EXPECT_LE(aio::thread_pool_executor::default_threads(), 32u);
}

AIO_TEST("a pool can be moved; the one moved from is refused") {
    aio::thread_pool_executor first(1);
    EXPECT_EQ(co_await aio::run_in_executor(first, &add, 1, 1), 2);
    aio::thread_pool_executor second(std::move(first));
    EXPECT_EQ(co_await aio::run_in_executor(second, &add, 1, 1), 2);
    EXPECT_THROW(static_cast<void>(aio::run_in_executor(first, &add, 1, 1)), std::logic_error);
    EXPECT_NE((co_await error_of<std::logic_error>(first.shutdown())).find("moved"), std::string::npos);
}

AIO_TEST("a pool with idle threads may be dropped without a shutdown") {
    {
        aio::thread_pool_executor pool(3);
        EXPECT_EQ(co_await aio::run_in_executor(pool, &add, 1, 1), 2);
    }
    aio::thread_pool_executor never_used(3);
}

PLAIN_TEST("decision (l): a pool destroyed with jobs left terminates, naming their tasks") {
    auto main = []() -> aio::coro<> {
        gate g;
        auto pool = std::make_unique<aio::thread_pool_executor>(1);
        auto task = aio::create_task(aio::run_in_executor(*pool, std::ref(g)), {.name = "counter"});
        co_await g.begun;
        pool.reset();
    };
    EXPECT_DEATH(aio::run(main()), "destroyed with jobs left: counter \\(.*:[0-9]+\\)");
}

// ---- with the rest of the library ----

AIO_TEST("a pool is a context manager that gives itself, and is shut down at the end") {
    int seen = 0;
    auto body = [&](aio::thread_pool_executor& pool) -> aio::coro<int> {
        static_cast<void>(aio::create_task(aio::run_in_executor(pool, [&seen] { seen = 1; })));
        co_await aio_test::turns(1);
        co_return co_await aio::run_in_executor(pool, &add, 1, 2);
    };
    EXPECT_EQ(co_await aio::with(aio::thread_pool_executor(1), body), 3);
    EXPECT_EQ(seen, 1);
    auto scope = [&]() -> aio::coro<int> {
        auto& pool = co_await aio::enter(aio::thread_pool_executor(2));
        co_return co_await aio::run_in_executor(pool, &add, 2, 2);
    };
    EXPECT_EQ(co_await scope(), 4);
    aio::thread_pool_executor pool(1);
    EXPECT_EQ(co_await aio::with(pool, [](aio::thread_pool_executor& p) { return &p; }), &pool);
    EXPECT_NE((co_await error_of<std::logic_error>(aio::run_in_executor(pool, &add, 1, 1))).find("shut down"),
        std::string::npos);
}

AIO_TEST("jobs are gathered, raced, shielded and waited for as anything else") {
    auto [a, b] = co_await aio::gather(aio::to_thread(&add, 1, 1), aio::to_thread(&add, 2, 2));
    EXPECT_EQ(a + b, 6);
    EXPECT_EQ(co_await aio::wait_for(aio::to_thread(&add, 3, 4), 1h), 7);
    EXPECT_EQ(co_await aio::shield(aio::to_thread(&add, 4, 4)), 8);
    auto winner = co_await aio::race(aio::sleep_forever(), aio::to_thread(&add, 5, 5));
    EXPECT_EQ(std::get<1>(winner), 10);
}

AIO_TEST("a timeout asks a job to stop and takes its value; one that may be abandoned it leaves at once") {
    auto gone = std::make_shared<std::promise<void>>();
    auto over = gone->get_future();
    auto handle = aio::get_running_loop().handle();
    auto until_stopped = [handle](std::stop_token stop, aio::timeout& t) {
        std::promise<void> stopped;
        std::stop_callback on_stop(stop, [&] { stopped.set_value(); });
        // The job has begun: lets the timeout expire.
        handle.call_soon_threadsafe([&t] { t.reschedule(aio::get_running_loop().time()); });
        stopped.get_future().wait();
        return 5;
    };
    auto takes = [&](aio::timeout& t) -> aio::coro<int> {
        co_return co_await aio::to_thread(until_stopped, std::ref(t));
    };
    EXPECT_EQ(co_await aio::with(aio::timeout(std::nullopt), takes), 5);

    auto leaves = [&](aio::timeout& t) -> aio::coro<int> {
        auto stubborn = [until_stopped](std::stop_token stop, aio::timeout& inner, last_words) {
            return until_stopped(stop, inner);
        };
        auto job =
            aio::to_thread(aio::abandon_on_cancel, stubborn, std::ref(t), last_words(std::exchange(gone, nullptr)));
        co_return co_await std::move(job);
    };
    EXPECT_EQ(co_await error_of<aio::timeout_error>(aio::with(aio::timeout(std::nullopt), leaves)), "timed out");
    over.wait();
}

// ---- the loop around it ----

PLAIN_TEST("decision (i): idle threads of the pool do not hide a deadlock, and a job is no deadlock") {
    auto main = []() -> aio::coro<> {
        EXPECT_EQ(co_await aio::to_thread(&add, 1, 2), 3);
        aio::future<> never;
        co_await never;
    };
    EXPECT_THROW(aio::run(main()), aio::deadlock_error);
}

PLAIN_TEST("rule 144: run() ends the tasks first and then the default executor") {
    aio_test::journal log;
    std::promise<void> open;
    std::shared_future<void> opened(open.get_future());
    auto left = [&](aio::future<>& begun) -> aio::coro<> {
        auto loop = aio::get_running_loop().handle();
        auto job = [&, loop] {
            loop.call_soon_threadsafe([&begun] { begun.set_result(); });
            opened.wait();
        };
        co_await aio::to_thread(std::move(job));
        log("job");
        co_await aio::to_thread([] {});  // never begins, since the task is cancelled
        log("never");
    };
    auto opens = [&]() -> aio::coro<> {
        std::exception_ptr error;
        try {
            co_await aio::sleep_forever();
        } catch (...) { error = std::current_exception(); }
        open.set_value();
        log("cancelled");
        bool ran = false;
        co_await aio::to_thread([&] { ran = true; });
        if (ran) log("clean-up");
        std::rethrow_exception(error);
    };
    auto main = [&]() -> aio::coro<int> {
        aio::future<> begun;
        aio::create_task(left, std::ref(begun));
        aio::create_task(opens);
        co_await begun;
        co_return 3;
    };
    EXPECT_EQ(aio::run(main()), 3);
    EXPECT_EQ(log.entries.size(), 3u);
    EXPECT_EQ(log.entries.at(0), "cancelled");
}

PLAIN_TEST("after a forced end a job that still runs is left to itself") {
    auto main = []() -> aio::coro<> {
        std::promise<void>& open = *new std::promise<void>;
        aio::future<> begun;
        auto loop = aio::get_running_loop().handle();
        auto job = [&begun, &open, loop] {
            loop.call_soon_threadsafe([&begun] { begun.set_result(); });
            open.get_future().wait();
        };
        auto task = aio::create_task(aio::to_thread(std::move(job)));
        co_await begun;
        ::raise(SIGINT);
        ::raise(SIGINT);
        co_await aio::sleep_forever();
    };
    // A pool's thread of an earlier test may be at its end, and ThreadSanitizer lets the fork of several threads start
    // none.
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(
        {
            int code = 1;
            try {
                aio::run(main());
            } catch (const aio::keyboard_interrupt&) { code = 3; }
            std::_Exit(code);
        },
        testing::ExitedWithCode(3), "leaked");
}

PLAIN_TEST("one pool serves the loops of several threads") {
    aio::thread_pool_executor pool(4);
    std::atomic<int> total = 0;
    auto main = [&](int n) -> aio::coro<> {
        std::vector<aio::task<int>> tasks;
        for (int i = 0; i < 100; ++i) tasks.push_back(aio::create_task(aio::run_in_executor(pool, &add, n, i)));
        for (auto& task : tasks) total += co_await task;
    };
    std::vector<std::thread> threads;
    for (int n = 0; n < 4; ++n) threads.emplace_back([&main, n] { aio::run(main(n)); });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(total, 4 * 4950 + 100 * 6);
}

AIO_TEST("eight threads: jobs, cancels and abandons in any order lose nothing") {
    counted::alive = 0;
    std::atomic<int> abandoned = 0;
    {
        aio::thread_pool_executor pool(8);
        std::atomic<int> ran = 0;
        int values = 0, cancelled = 0;
        auto worker = [&](int seed) -> aio::coro<> {
            for (int i = 0; i < 60; ++i) {
                auto job = [&ran, i](std::stop_token stop, counted c) {
                    if (i % 5 == 0 && !stop.stop_requested()) std::this_thread::yield();
                    ++ran;
                    return c.value;
                };
                auto task = aio::create_task(aio::run_in_executor(pool, std::move(job), counted(i)));
                auto light = [&abandoned](counted c) {
                    ++abandoned;
                    return c.value;
                };
                auto other = aio::create_task(aio::to_thread(aio::abandon_on_cancel, std::move(light), counted(i)));
                co_await aio_test::turns((seed + i) % 3);
                if ((seed + i) % 2 == 0) task.cancel();
                if ((seed + i) % 3 == 0) other.cancel();
                try {
                    EXPECT_EQ(co_await task, i);
                    ++values;
                } catch (const aio::cancelled_error&) { ++cancelled; }
                try {
                    EXPECT_EQ(co_await other, i);
                } catch (const aio::cancelled_error&) {}
            }
        };
        std::vector<aio::task<>> workers;
        for (int i = 0; i < 16; ++i) workers.push_back(aio::create_task(worker, i));
        for (auto& task : workers) co_await task;
        EXPECT_EQ(values + cancelled, 16 * 60);
        EXPECT_EQ(values, ran.load());
        co_await pool.shutdown();
    }
    while (counted::alive != 0) co_await aio::to_thread([] { std::this_thread::yield(); });
}
