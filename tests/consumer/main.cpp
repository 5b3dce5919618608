// A user's program, which uses every section of the core's interface. It is compiled with the installed headers, and
// with warnings as errors.

#include <aio/aio.hpp>
#include <aio/lowlevel.hpp>
#include <aio/testing.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <unordered_set>
#include <variant>
#include <vector>

using namespace std::chrono_literals;

namespace {

void check(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "consumer: %s\n", what);
    std::exit(1);
}

struct user {
    int id;
    bool active;
};

// ---- 1. coroutines and running them ----

aio::coro<int> twice(int n) {
    co_await aio::sleep(1ms);
    co_return 2 * n;
}
aio::coro<> nap() { co_await aio::sleep(0s); }
aio::coro<int> fail(std::string why) {
    co_await aio::sleep(1ms);
    throw std::runtime_error(why);
}
aio::coro<int&> reference(int& n) { co_return n; }

aio::coro<> coroutines_and_tasks() {
    check(co_await twice(4) == 8, "a coroutine gives its value");
    aio::task<int> t = aio::create_task(twice(5), {.name = "five"});
    check(t.name() == "five" && !t.done(), "a task has its name");
    std::string seen;
    const std::uint64_t id = t.add_done_callback([&seen](const aio::task<int>& done) { seen = done.name(); });
    const std::uint64_t removed = t.add_done_callback([] { std::abort(); });
    check(t.remove_done_callback(removed) && id != removed, "callbacks can be removed");
    const int ten = co_await t;  // in a statement of its own, for g++ 12
    check(ten == 10 && t.result() == 10 && !t.exception(), "a task can be awaited by many");
    co_await aio::sleep(0s);
    check(seen == "five", "callbacks are called");

    std::string text = "captured";
    aio::task<std::string> lambda =
        aio::create_task([text](int n) -> aio::coro<std::string> { co_return text + std::to_string(n); }, 1);
    aio::task<> named = aio::create_task({.name = "nap"}, nap);
    check(co_await std::move(lambda) == "captured1", "lambdas live in their task");
    co_await named;

    aio::task<> sleeper = aio::create_task(aio::sleep(1h));
    co_await aio::sleep(0s);
    const aio::task_canceller canceller = sleeper.canceller();
    check(sleeper.cancel("enough") && sleeper.cancelling() == 1, "a task can be cancelled");
    try {
        co_await sleeper;
        check(false, "a cancelled task throws");
    } catch (const aio::cancelled_error& e) { check(e.message() == "enough", "the message travels"); }
    check(sleeper.cancelled(), "a cancelled task says so");
    canceller.cancel();

    aio::future<int> f;
    aio::get_running_loop().call_later(1ms, [f]() mutable { f.set_result(42); });
    check(co_await f == 42, "a future gives what is set");
    int n = 1;
    int& r = co_await reference(n);
    r = 2;
    check(n == 2, "coroutines give references");

    std::unordered_set<aio::task<int>> handles{t, t};
    check(handles.size() == 1 && t == *handles.begin() && aio::task<int>() != t, "handles have == and hash");
    aio::any_task me = aio::current_task();
    check(!aio::all_tasks().empty() && me && me.uncancel() == 0, "there is a current task");
}

// ---- 2. several at once ----

aio::coro<> several() {
    auto both = co_await aio::gather(twice(1), nap());
    check(std::get<0>(both) == 2 && std::get<1>(both) == std::monostate(), "gather of several");
    std::vector<aio::coro<int>> coros;
    for (int i = 0; i < 10; ++i) coros.push_back(twice(i));
    std::vector<int> values = co_await aio::gather(std::move(coros), {.limit = 3});
    check(values.size() == 10 && values[9] == 18, "gather of a range");
    coros.clear();
    coros.push_back(twice(1));
    coros.push_back(fail("no"));
    std::vector<aio::result<int>> results = co_await aio::gather(aio::return_exceptions, std::move(coros));
    check(results[0].has_value() && results[0].value() == 2 && results[1].error(), "return_exceptions");
    auto pair = co_await aio::gather(aio::return_exceptions, twice(1), fail("no"));
    check(std::get<0>(pair).has_value() && !std::get<1>(pair).has_value(), "return_exceptions of several");

    std::vector<aio::task<int>> tasks{aio::create_task(twice(1)), aio::create_task(twice(2))};
    auto sets = co_await aio::wait(tasks, {.timeout = 1s, .return_when = aio::first_completed});
    check(!sets.done.empty() && sets.done.size() + sets.pending.size() == 2, "wait");
    int sum = 0;
    co_await aio::for_each(
        aio::as_completed(tasks, {.timeout = 10s}), [&](const aio::task<int>& done) { sum += done.result(); });
    check(sum == 6, "as_completed");
    const int six = co_await aio::shield(twice(3));
    const int two = co_await aio::shield(tasks[0], 5s);
    check(six == 6 && two == 2, "shield");
    std::variant<int, std::monostate> winner = co_await aio::race(twice(1), aio::sleep(1h));
    check(winner.index() == 0 && std::get<0>(winner) == 2, "race");
}

// ---- 3. task groups ----

aio::coro<> groups() {
    std::vector<aio::task<int>> tasks;
    co_await aio::with(aio::task_group({.max_running = 2}), [&](aio::task_group& tg) {
        for (int i = 0; i < 5; ++i) tasks.push_back(tg.create_task(twice(i), {.name = "child"}));
    });
    check(tasks.size() == 5 && tasks[4].result() == 8, "a group waits for its tasks");
    try {
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            tg.create_task(fail("one"));
            tg.create_task([]() -> aio::coro<> { co_await aio::sleep(1h); });
            co_await aio::sleep(1h);
        });
        check(false, "a group throws");
    } catch (const aio::exception_group& eg) {
        check(eg.exceptions().size() == 1 && !eg.message().empty(), "always a group");
        check(eg.find<std::runtime_error>() != nullptr && !eg.find<std::logic_error>(), "find");
        int handled = 0;
        auto rest = eg.handle<std::runtime_error>([&](const std::runtime_error&) { ++handled; });
        check(handled == 1 && !rest, "handle");
        auto parts = eg.split<std::logic_error>();
        check(!parts.matching && parts.rest && eg.subgroup<std::exception>(), "split");
        try {
            eg.rethrow_single();
        } catch (const std::runtime_error& e) { check(e.what() == std::string("one"), "rethrow_single"); }
    }
    co_await aio::with(aio::task_group(), [](aio::task_group& tg) {
        tg.create_task(aio::sleep(1h));
        tg.cancel();
    });
}

// ---- 4. context managers ----

struct connection {
    explicit connection(std::vector<std::string>& journal) : log(&journal) {}
    aio::coro<connection&> enter() {
        co_await aio::sleep(0s);
        log->push_back("connect");
        co_return *this;
    }
    aio::coro<> exit(std::exception_ptr error) {
        co_await aio::sleep(0s);
        log->push_back(error ? "close after an error" : "close");
    }
    std::vector<std::string>* log;
};

aio::context<int&> session(std::vector<std::string>& log) {
    int number = 7;
    std::exception_ptr& error = co_yield number;
    log.push_back(error ? "rollback" : "commit");
    error = nullptr;
}

aio::coro<int> function_scope(std::vector<std::string>& log) {
    connection& c = co_await aio::enter(connection(log));
    co_await aio::defer([](std::vector<std::string>& l) { l.push_back("deferred"); }, std::ref(log));
    int& number = co_await aio::enter(session(log));
    co_return c.log == &log ? number : 0;
}

aio::coro<> managers() {
    std::vector<std::string> log;
    const int given = co_await aio::with(connection(log), [](connection&) { return 5; });
    check(given == 5 && log.back() == "close", "with gives what its body gives");
    check(co_await function_scope(log) == 7, "enter");
    check(log[log.size() - 3] == "commit" && log[log.size() - 2] == "deferred" && log.back() == "close",
        "last in, first out");
    co_await aio::with(session(log), []() -> aio::coro<> {
        co_await aio::sleep(0s);
        throw std::runtime_error("swallowed");
    });
    check(log.back() == "rollback", "a context sees the error");
}

// ---- 5. generators, iteration, comprehensions ----

aio::async_generator<user> fetch_users(std::vector<int> ids) {
    for (int id : ids) {
        co_await aio::sleep(0s);
        user found{id, id % 2 == 0};
        co_yield found;
    }
}

struct countdown {
    int left;
    aio::coro<std::optional<int>> next() {
        co_await aio::sleep(0s);
        if (left == 0) co_return std::nullopt;
        co_return left--;
    }
};

aio::coro<> iteration() {
    const std::vector<int> ids{1, 2, 3, 4};
    auto users = fetch_users(ids);
    int seen = 0;
    while (auto next = co_await users.next()) { seen += next->id; }
    check(seen == 10, "a loop over a generator");
    co_await users.aclose();
    std::vector<user> active = co_await (fetch_users(ids) | aio::views::filter(&user::active) | aio::to<std::vector>());
    check(active.size() == 2, "filter");
    auto id_and_user = [](const user& u) { return std::pair(u.id, u); };
    std::map<int, user> by_id = co_await (fetch_users(ids) | aio::views::transform(id_and_user) | aio::to<std::map>());
    check(by_id.size() == 4 && by_id.at(3).id == 3, "a map");
    std::vector<int> few = co_await (countdown{5} | aio::views::drop(1) | aio::views::take(2) | aio::to<std::vector>());
    check(few == std::vector<int>({4, 3}), "whatever has next() composes");
    int pairs = 0;
    co_await aio::for_each(fetch_users(ids) | aio::views::enumerate(), [&](auto&&) { ++pairs; });
    check(pairs == 4, "for_each");
    std::vector<int> doubled =
        co_await (countdown{4} | aio::views::concurrent(2, [](int n) { return twice(n); }) | aio::to<std::vector>());
    check(doubled == std::vector<int>({8, 6, 4, 2}), "concurrent");
}

// ---- 6. synchronisation and queues ----

aio::coro<> primitives() {
    aio::lock l;
    {
        auto guard = co_await l.scoped();
        check(l.locked(), "a guard holds");
    }
    check(!l.locked(), "a guard releases");
    co_await aio::with(l, [&] { check(l.locked(), "a lock is a manager"); });
    aio::semaphore two(2);
    co_await two.acquire();
    two.release();
    aio::bounded_semaphore one(1);
    co_await aio::with(one, []() -> aio::coro<> { co_await aio::sleep(0s); });
    aio::event ready;
    ready.set();
    co_await ready.wait();
    ready.clear();
    aio::condition changed;
    int value = 0;
    auto waiting = aio::create_task([&]() -> aio::coro<> {
        auto guard = co_await changed.scoped();
        co_await changed.wait_for([&] { return value == 1; });
    });
    co_await aio::sleep(0s);
    co_await aio::with(changed, [&] {
        value = 1;
        changed.notify_all();
    });
    co_await waiting;
    aio::barrier door(2);
    auto other = aio::create_task(door.wait());
    co_await door.wait();
    co_await other;

    aio::queue<int> q(10);
    auto worker = aio::create_task([&]() -> aio::coro<> {
        for (;;) {
            const int item = co_await q.get();
            value += item;
            q.task_done();
        }
    });
    for (int i = 0; i < 20; ++i) co_await q.put(i);
    co_await q.join();
    q.put_nowait(1);
    co_await q.join();
    check(value == 192 && q.empty() && !q.full() && q.size() == 0 && q.maxsize() == 10, "a queue");
    q.shutdown();
    co_await aio::gather(aio::return_exceptions, worker);
    aio::priority_queue<int> smallest;
    smallest.put_nowait(2);
    smallest.put_nowait(1);
    check(smallest.get_nowait() == 1, "a priority queue");
    aio::lifo_queue<int> stack;
    co_await stack.put(1);
    co_await stack.put(2);
    check(co_await stack.get() == 2, "a stack");
}

// ---- 7. timeouts ----

aio::coro<> timeouts() {
    bool expired = false;
    try {
        co_await aio::with(aio::timeout(1h), [&](aio::timeout& t) -> aio::coro<> {
            t.reschedule(*t.when() - 1h);
            co_await aio::sleep(2h);
        });
    } catch (const aio::timeout_error&) { expired = true; }
    check(expired, "a timeout fires");
    co_await aio::with(aio::timeout(std::nullopt), [] { return nap(); });
    co_await aio::with(aio::timeout_at(aio::get_running_loop().time() + 1h), [] { return nap(); });
    check(co_await aio::wait_for(twice(2), 1h) == 4, "wait_for");
}

// ---- 8. background tasks, threads, sync code ----

int blocking(int n) { return n + 1; }

aio::coro<> threads() {
    aio::background_tasks background;
    background.create_task(nap());
    background.create_task(aio::sleep(1h));
    co_await background.shutdown();
    aio::thread_pool_executor pool(2);
    check(co_await aio::run_in_executor(pool, blocking, 1) == 2, "an executor");
    check(co_await aio::to_thread([](std::stop_token, int n) { return n; }, 3) == 3, "to_thread");
    co_await aio::to_thread(aio::abandon_on_cancel, blocking, 1);
    auto async_blocking = aio::to_async(blocking);
    check(co_await async_blocking(4) == 5, "to_async");
    co_await pool.shutdown();

    aio::event_loop& loop = aio::get_running_loop();
    const aio::loop_handle handle = loop.handle();
    int called = 0;
    loop.call_soon([&] { ++called; });
    loop.call_at(loop.time() + 1ms, [&] { ++called; });
    auto from_another_thread = [handle, &called] {  // a named local: g++ 12 destroys a capture inside a co_await twice
        handle.call_soon_threadsafe([&called] { ++called; });
        aio::thread_future<int> f = aio::run_coroutine_threadsafe(handle, twice(21));
        check(f.get() == 42, "run_coroutine_threadsafe");
    };
    co_await aio::to_thread(from_another_thread);
    co_await aio::sleep(5ms);
    check(called == 3, "callbacks");
    aio::context_var<std::string> request("request", "none");
    auto token = request.set("mine");
    check(co_await aio::create_task([&]() -> aio::coro<std::string> { co_return request.get(); }) == "mine",
        "context variables");
    request.reset(token);
    check(request.get() == "none", "a token takes back");
}

// ---- 12. any awaitable ----

class gate {
public:
    class pass : public aio::lowlevel::queued<pass> {
    public:
        explicit pass(gate& g) : queued(g.waiting_), gate_(&g) {}
        bool start() noexcept { return gate_->open_ || park(); }
        int finish() { return 1; }
        void describe(std::string& out) const override { out += "a gate"; }

    private:
        gate* gate_;
    };
    pass wait() { return pass(*this); }
    void open() {
        open_ = true;
        waiting_.wake_all();
    }

private:
    bool open_ = false;
    aio::lowlevel::wait_queue<pass> waiting_{"gate"};
};

aio::coro<> lowlevel() {
    aio::lowlevel::completion<int> answer;
    answer.on_cancel([] { return aio::lowlevel::after_cancel::give_up; });
    std::thread([h = answer.handle()] { h.complete(42); }).detach();
    check(co_await answer == 42, "another thread completes");
    gate g;
    auto passed = aio::create_task(g.wait());
    const aio::lowlevel::work_guard guard;
    co_await aio::sleep(0s);
    g.open();
    check(co_await passed == 1, "an operation of a user's");
    bool refused = false;
    try {
        co_await aio::lowlevel::wait_readable(-1);
    } catch (const std::system_error&) { refused = true; }
    check(refused && guard, "no descriptor");
}

aio::coro<int> async_main() {
    aio::get_running_loop().set_exception_handler([](const aio::exception_context& c) {
        std::fprintf(stderr, "consumer: unexpected: %s\n", c.message.c_str());
        std::exit(1);
    });
    co_await coroutines_and_tasks();
    co_await several();
    co_await groups();
    co_await managers();
    co_await iteration();
    co_await primitives();
    co_await timeouts();
    co_await threads();
    co_await lowlevel();
    check(!aio::capture_call_graph().to_string().empty(), "a call graph");
    co_return 9;
}

}  // namespace

int main() {
    const int sections = aio::run(async_main(), {.debug = true});
    aio::runner runner;
    check(runner.run(twice(1)) == 2 && runner.run(twice(2)) == 4, "a runner runs several");
    runner.close();
    check(aio::testing::run(twice(3), {.seed = 42, .virtual_time = true}) == 6, "virtual time");
    try {
        aio::run([]() -> aio::coro<> {
            aio::future<> never;
            co_await never;
        }());
        check(false, "a deadlock is an error");
    } catch (const aio::deadlock_error&) {}
    std::printf("consumer: %d sections work\n", sections);
}
