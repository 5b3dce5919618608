#include "aio_test.hpp"
#include "hostile.hpp"

#include <aio/context_var.hpp>

#include <memory>
#include <optional>
#include <unordered_set>

namespace {

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

template<class T>
aio::coro<T> value_of(aio::future<T> f) {
    co_return co_await f;
}

/// Collects what the loop's exception handler is told. It is made before the loop, so that it outlives the loop.
struct reports {
    std::vector<std::string> messages;
    std::vector<std::exception_ptr> errors;
    std::vector<std::string> tasks;
    void listen() {
        aio::get_running_loop().set_exception_handler([this](const aio::exception_context& c) {
            messages.push_back(c.message);
            errors.push_back(c.error);
            tasks.push_back(c.task ? c.task.name() : "");
        });
    }
};

AIO_TEST("rule 28: a future completes once; a second set, also after cancel(), is an invalid_state_error") {
    aio::future<int> f;
    EXPECT_FALSE(f.done());
    f.set_result(1);
    EXPECT_TRUE(f.done());
    EXPECT_THROW(f.set_result(2), aio::invalid_state_error);
    EXPECT_THROW(f.set_exception(std::runtime_error("x")), aio::invalid_state_error);
    EXPECT_FALSE(f.cancel());
    EXPECT_EQ(f.result(), 1);
    aio::future<int> g;
    EXPECT_TRUE(g.cancel());
    EXPECT_FALSE(g.cancel());
    EXPECT_THROW(g.set_result(2), aio::invalid_state_error);
    EXPECT_THROW(g.set_exception(std::runtime_error("x")), aio::invalid_state_error);
    EXPECT_TRUE(g.cancelled());
    EXPECT_THROW(g.set_exception(std::exception_ptr()), std::logic_error);
    co_return;
}

AIO_TEST("rule 28: set_exception refuses a null exception") {
    aio::future<int> f;
    EXPECT_THROW(f.set_exception(std::exception_ptr()), std::invalid_argument);
    EXPECT_FALSE(f.done());
    co_return;
}

AIO_TEST("rule 29: done callbacks are scheduled, never called inline, and come in order of registration") {
    journal log;
    aio::future<int> f;
    auto waiter = aio::create_task([&]() -> aio::coro<> {
        co_await f;
        log("awaiter");
    });
    f.add_done_callback([&] { log("1"); });
    f.add_done_callback([&](aio::future<int> done) { log("2=" + std::to_string(done.result())); });
    co_await turns();  // now the task awaits f
    f.add_done_callback([&] { log("3"); });
    f.set_result(5);
    log("set");
    co_await turns(2);
    EXPECT_EQ(log.text(), "set 1 2=5 awaiter 3");
    EXPECT_TRUE(waiter.done());
}

AIO_TEST("rule 29: after set_exception and after cancel(), too") {
    journal log;
    aio::future<int> f, g;
    f.add_done_callback([&](aio::future<int> done) { log(done.exception() ? "failed" : "wrong"); });
    g.add_done_callback([&](aio::future<int> done) { log(done.cancelled() ? "cancelled" : "wrong"); });
    f.set_exception(std::runtime_error("x"));
    g.cancel();
    EXPECT_EQ(log.text(), "");
    co_await turns();
    EXPECT_EQ(log.text(), "failed cancelled");
}

AIO_TEST("rule 30: a callback added after completion is scheduled, too") {
    journal log;
    aio::future<> f;
    f.set_result();
    f.add_done_callback([&] { log("callback"); });
    log("added");
    co_await turns();
    EXPECT_EQ(log.text(), "added callback");
}

AIO_TEST("rule 31: remove_done_callback removes the callback of that id, once") {
    journal log;
    aio::future<> f;
    const std::uint64_t first = f.add_done_callback([&] { log("first"); });
    const std::uint64_t second = f.add_done_callback([&] { log("second"); });
    EXPECT_NE(first, second);
    EXPECT_TRUE(f.remove_done_callback(first));
    EXPECT_FALSE(f.remove_done_callback(first));
    EXPECT_FALSE(f.remove_done_callback(123456789));
    f.set_result();
    EXPECT_FALSE(f.remove_done_callback(second)) << "it is scheduled already";
    co_await turns();
    EXPECT_EQ(log.text(), "second");
}

AIO_TEST("rule 32: callbacks may add and remove callbacks while they are called") {
    journal log;
    aio::future<> f;
    std::uint64_t third = 0;
    f.add_done_callback([&](aio::future<> done) {
        log("1");
        done.add_done_callback([&] { log("added"); });
        EXPECT_FALSE(done.remove_done_callback(third));  // the third is scheduled already
    });
    f.add_done_callback([&] { log("2"); });
    third = f.add_done_callback([&] { log("3"); });
    f.set_result();
    co_await turns(3);
    EXPECT_EQ(log.text(), "1 2 3 added");
}

AIO_TEST("rule 32: the last handle may go in a callback; the callback owns what it was given") {
    journal log;
    {
        auto f = std::make_unique<aio::future<counted>>();
        f->add_done_callback([&log, &f, c = counted(1)](aio::future<counted> done) {
            f.reset();
            log(std::to_string(done.result().value));
        });
        f->set_result(9);
        co_await turns();
        EXPECT_FALSE(f);
    }
    EXPECT_EQ(log.text(), "9");
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("a callback of a future that never completes is destroyed with it") {
    auto main = []() -> aio::coro<> {
        aio::future<> f;
        f.add_done_callback([c = counted(1)] {});
        EXPECT_EQ(counted::alive, 1);
        co_return;
    };
    aio::run(main());
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("rule 29: an exception of a callback goes to the exception handler; the others are called") {
    reports told;
    journal log;
    auto main = [&]() -> aio::coro<> {
        told.listen();
        aio::future<> f;
        f.add_done_callback([] { throw std::runtime_error("in callback"); });
        f.add_done_callback([&] { log("second"); });
        f.set_result();
        co_await turns();
    };
    aio::run(main());
    EXPECT_EQ(log.text(), "second");
    AIO_REQUIRE(told.errors.size() == 1);
    EXPECT_THROW(std::rethrow_exception(told.errors[0]), std::runtime_error);
}

aio::coro<> fails() {
    throw std::runtime_error("nobody looks");
    co_return;
}

PLAIN_TEST("rule 33: an exception that nobody fetched is told once, when the last handle goes") {
    reports told;
    auto main = [&]() -> aio::coro<> {
        told.listen();
        {
            aio::future<int> f;
            f.set_exception(std::runtime_error("future"));
            auto copy = f;
        }
        EXPECT_EQ(told.messages.size(), 1u);
        {
            auto t = aio::create_task(fails(), {.name = "loser"});
            co_await turns(2);
            EXPECT_TRUE(t.done());
            EXPECT_EQ(told.messages.size(), 1u);
        }
        EXPECT_EQ(told.messages.size(), 2u);
        aio::create_task({.name = "dropped"}, fails);
        co_await turns(2);
        EXPECT_EQ(told.messages.size(), 3u);
    };
    aio::run(main());
    AIO_REQUIRE(told.messages.size() == 3);
    EXPECT_EQ(told.tasks[1], "loser");
    EXPECT_EQ(told.tasks[2], "dropped");
    EXPECT_NE(told.messages[0].find("never retrieved"), std::string::npos);
    EXPECT_THROW(std::rethrow_exception(told.errors[0]), std::runtime_error);
}

PLAIN_TEST("rule 33: result(), exception() and an await count as fetched") {
    reports told;
    auto main = [&]() -> aio::coro<> {
        told.listen();
        {
            aio::future<int> f;
            f.set_exception(std::runtime_error("a"));
            EXPECT_THROW(static_cast<void>(f.result()), std::runtime_error);
        }
        {
            aio::future<int> f;
            f.set_exception(std::runtime_error("b"));
            EXPECT_NE(f.exception(), nullptr);
        }
        {
            auto t = aio::create_task(fails());
            bool caught = false;
            try {
                co_await t;
            } catch (const std::runtime_error&) { caught = true; }
            EXPECT_TRUE(caught);
        }
        {
            auto t = aio::create_task(fails());
            co_await turns(2);
            aio::any_task any = t;
            EXPECT_NE(any.exception(), nullptr);
        }
    };
    aio::run(main());
    EXPECT_TRUE(told.messages.empty()) << told.messages[0];
}

PLAIN_TEST("rule 33: the handler may keep the task's handle, and is not told again") {
    std::vector<aio::any_task> kept;
    int told = 0;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) {
            ++told;
            kept.push_back(c.task);
        });
        aio::create_task(fails());
        co_await turns(2);
        AIO_REQUIRE(kept.size() == 1);
        EXPECT_TRUE(kept[0].done());
        EXPECT_THROW(kept[0].result(), std::runtime_error);
        kept.clear();
        EXPECT_EQ(told, 1);
    };
    aio::run(main());
    EXPECT_EQ(told, 1);
}

PLAIN_TEST("rule 33: a task's error that is still unread when run() ends is told there, though a handle is held") {
    reports told;
    aio::task<> kept;
    auto main = [&]() -> aio::coro<> {
        told.listen();
        kept = aio::create_task(fails());
        co_await turns(2);
        EXPECT_TRUE(told.messages.empty());
    };
    aio::run(main());
    EXPECT_EQ(told.messages.size(), 1u);
    EXPECT_THROW(kept.result(), std::runtime_error);
    kept = {};
    EXPECT_EQ(told.messages.size(), 1u);
}

PLAIN_TEST("rule 33: handles of failed futures may go after their loop: told without it") {
    std::optional<aio::future<int>> f;
    auto main = [&]() -> aio::coro<> {
        f.emplace();
        f->set_exception(std::runtime_error("after the loop"));
        co_return;
    };
    aio::run(main());
    testing::internal::CaptureStderr();
    f.reset();
    const std::string printed = testing::internal::GetCapturedStderr();
    EXPECT_NE(printed.find("never retrieved"), std::string::npos) << printed;
    EXPECT_NE(printed.find("after the loop"), std::string::npos) << printed;
}

PLAIN_TEST("rule 33: without a handler it is printed, with its type and text") {
    testing::internal::CaptureStderr();
    auto main = [&]() -> aio::coro<> {
        aio::create_task({.name = "printer"}, fails);
        co_await turns(2);
    };
    aio::run(main());
    const std::string printed = testing::internal::GetCapturedStderr();
    EXPECT_NE(printed.find("printer"), std::string::npos) << printed;
    EXPECT_NE(printed.find("std::runtime_error: nobody looks"), std::string::npos) << printed;
}

PLAIN_TEST("rule 34: a cancelled future or task is never told as an unread exception") {
    reports told;
    auto main = [&]() -> aio::coro<> {
        told.listen();
        {
            aio::future<int> f;
            f.cancel();
        }
        aio::create_task(aio::sleep(1h)).cancel();
        auto t = aio::create_task(aio::sleep(1h));
        co_await turns();
        t.cancel();
        t = {};
        co_await turns(2);
    };
    aio::run(main());
    EXPECT_TRUE(told.messages.empty());
}

AIO_TEST("rule 35: result() of a pending future is an invalid_state_error, of a cancelled one its cancelled_error") {
    aio::future<int> f;
    EXPECT_THROW(static_cast<void>(f.result()), aio::invalid_state_error);
    EXPECT_THROW(static_cast<void>(f.exception()), aio::invalid_state_error);
    f.cancel("m");
    const void* object = nullptr;
    try {
        static_cast<void>(f.result());
        ADD_FAILURE();
    } catch (const aio::cancelled_error& e) {
        EXPECT_EQ(e.message(), "m");
        object = &e;
    }
    try {
        static_cast<void>(f.exception());
        ADD_FAILURE();
    } catch (const aio::cancelled_error& e) { EXPECT_EQ(&e, object); }
    co_return;
}

AIO_TEST("an await of a failed future throws the very object that was set") {
    aio::future<int> f;
    std::exception_ptr set;
    const void* object = nullptr;
    try {
        throw std::runtime_error("set");
    } catch (const std::runtime_error& e) {
        set = std::current_exception();
        object = &e;
    }
    f.set_exception(set);
    for (int i = 0; i < 2; ++i) {
        try {
            co_await f;
            ADD_FAILURE();
        } catch (const std::runtime_error& e) { EXPECT_EQ(&e, object); }
    }
    EXPECT_EQ(f.exception(), set);
}

AIO_TEST("decision (b): a cancel wins over a result that has just arrived; the result stays in the future") {
    aio::future<int> f;
    auto t = aio::create_task(value_of(f));
    co_await turns();
    f.set_result(3);
    EXPECT_TRUE(t.cancel("later"));
    bool cancelled = false;
    try {
        co_await t;
    } catch (const aio::cancelled_error& e) { cancelled = e.message() == "later"; }
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(f.result(), 3);
}

aio::context_var<int> ctx("ctx", 0);

PLAIN_TEST("rule 38: the exception handler runs in the context of the callback that failed") {
    int seen = -1;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([&](const aio::exception_context&) { seen = ctx.get(); });
        static_cast<void>(ctx.set(4));
        aio::get_running_loop().call_soon([] { throw std::runtime_error("x"); });
        static_cast<void>(ctx.set(5));
        co_await turns(2);
    };
    aio::run(main());
    EXPECT_EQ(seen, 4);
}

PLAIN_TEST("rule 38: the exception handler runs in the context of the task that failed") {
    std::vector<int> seen;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context&) { seen.push_back(ctx.get()); });
        auto body = []() -> aio::coro<> {
            static_cast<void>(ctx.set(7));
            co_await aio::sleep(0s);
            throw std::runtime_error("x");
        };
        aio::create_task(body());  // the last handle goes at once
        co_await turns(3);
        EXPECT_EQ(seen.size(), 1u);
        {
            auto t = aio::create_task(body());
            co_await turns(3);
        }  // the last handle goes here
        EXPECT_EQ(ctx.get(), 0);
    };
    aio::run(main());
    EXPECT_EQ(seen, (std::vector<int>{7, 7}));
}

AIO_TEST("done callbacks see the context variables of who added them") {
    aio::future<> f;
    int seen = -1;
    static_cast<void>(ctx.set(1));
    f.add_done_callback([&] { seen = ctx.get(); });
    static_cast<void>(ctx.set(2));
    f.set_result();
    co_await turns();
    EXPECT_EQ(seen, 1);
}

// ---- ordinary use

static_assert(aio::detail::awaitable<aio::future<int>&>);
static_assert(!aio::detail::awaitable<aio::future<std::unique_ptr<int>>&>);
static_assert(aio::detail::awaitable<aio::future<std::unique_ptr<int>>>);

AIO_TEST("futures of values, references, nothing and move-only types") {
    aio::future<std::string> text;
    text.set_result(3, 'x');
    EXPECT_EQ(co_await text, "xxx");
    int n = 1;
    aio::future<int&> ref;
    ref.set_result(n);
    EXPECT_EQ(&(co_await ref), &n);
    aio::future<> nothing;
    nothing.set_result();
    co_await nothing;
    nothing.result();
    aio::future<std::unique_ptr<int>> owner;
    owner.set_result(std::make_unique<int>(2));
    std::unique_ptr<int> p = co_await std::move(owner);
    EXPECT_EQ(*p, 2);
}

AIO_TEST("a callback of the loop completes a future that several tasks await") {
    aio::future<int> answer;
    aio::get_running_loop().call_later(10ms, [answer]() mutable {
        if (!answer.done()) answer.set_result(42);
    });
    auto a = aio::create_task(value_of(answer));
    auto b = aio::create_task(value_of(answer));
    EXPECT_EQ(co_await answer, 42);
    EXPECT_EQ(co_await a, 42);
    EXPECT_EQ(co_await b, 42);
}

AIO_TEST("a done callback of a task: its handle, removal, order with awaiters, called once") {
    journal log;
    auto t = aio::create_task([]() -> aio::coro<int> { co_return 1; });
    const std::uint64_t removed = t.add_done_callback([&] { log("removed"); });
    t.add_done_callback([&](aio::task<int> done) { log("task " + std::to_string(done.result())); });
    t.add_done_callback([&](aio::any_task done) { log(done.done() ? "any" : "wrong"); });
    EXPECT_TRUE(t.remove_done_callback(removed));
    co_await t;
    co_await turns();
    EXPECT_EQ(log.text(), "task 1 any");
}

AIO_TEST("hash and ==") {
    aio::future<int> a, b;
    auto c = a;
    EXPECT_TRUE(a == c);
    EXPECT_FALSE(a == b);
    std::unordered_set<aio::future<int>> set{a, b, c};
    EXPECT_EQ(set.size(), 2u);
    aio::future<int> moved = std::move(a);
    EXPECT_FALSE(a);
    EXPECT_THROW(static_cast<void>(a.done()), std::logic_error);
    EXPECT_TRUE(moved == c);
    co_return;
}

PLAIN_TEST("rule 30: a callback added to a done future after its loop's end is an error, not a leak") {
    std::optional<aio::future<int>> f;
    auto main = [&]() -> aio::coro<> {
        f.emplace();
        f->set_result(1);
        co_return;
    };
    aio::run(main());
    EXPECT_EQ(f->result(), 1);
    EXPECT_THROW(f->add_done_callback([c = counted(1)] {}), std::logic_error);
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("a pending future may be completed after its loop's end; its callbacks are dropped") {
    std::optional<aio::future<int>> f;
    auto main = [&]() -> aio::coro<> {
        f.emplace();
        f->add_done_callback([c = counted(1)] { ADD_FAILURE(); });
        co_return;
    };
    aio::run(main());
    f->set_result(2);
    EXPECT_EQ(f->result(), 2);
    f.reset();
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("fault C26: set_exception(nullptr) is a null exception, not an exception that is a nullptr_t") {
    aio::future<int> f;
    EXPECT_THROW(f.set_exception(nullptr), std::invalid_argument);
    EXPECT_FALSE(f.done());
    f.set_exception(std::runtime_error("real"));
    EXPECT_THROW(f.result(), std::runtime_error);
    co_return;
}

/// A value whose constructor runs an action.
struct made {
    int value;
    made(int v, const std::function<void()>& action) : value(v) { action(); }
    explicit made(aio_test::hostile h) : value(h.value) {}
};

AIO_TEST("fault C3: a value whose constructor cancels or sets its own future again is what the future gives") {
    aio::future<made> f;
    bool accepted = true;
    std::string told;
    auto waiter =
        aio::create_task([](aio::future<made> g) -> aio::coro<int> { co_return (co_await std::move(g)).value; }, f);
    co_await turns();
    f.set_result(7, [&] {
        accepted = f.cancel("late");
        try {
            f.set_result(8, [] {});
        } catch (const aio::invalid_state_error& e) { told = e.what(); }
        EXPECT_THROW(f.set_exception(std::runtime_error("x")), aio::invalid_state_error);
        EXPECT_FALSE(f.done());
        EXPECT_THROW(f.result(), aio::invalid_state_error);
    });
    EXPECT_FALSE(accepted);
    EXPECT_NE(told.find("is being set already"), std::string::npos) << told;
    EXPECT_TRUE(f.done());
    EXPECT_EQ(co_await waiter, 7);
}

AIO_TEST("fault C3: a value whose constructor throws leaves its future pending, to be set or cancelled") {
    aio::future<made> f;
    EXPECT_THROW(f.set_result(1, [] { throw std::runtime_error("constructor"); }), std::runtime_error);
    EXPECT_FALSE(f.done());
    EXPECT_TRUE(f.cancel());
    aio::future<made> g;
    EXPECT_THROW(g.set_result(1, [] { throw std::runtime_error("constructor"); }), std::runtime_error);
    g.set_result(2, [] {});
    EXPECT_EQ(g.result().value, 2);
    co_return;
}

AIO_TEST("fault C3: a value whose constructor drops the last handle of its future") {
    auto f = std::make_unique<aio::future<made>>();
    aio::future<made>& handle = *f;
    handle.set_result(7, [&] { f.reset(); });
    EXPECT_EQ(f, nullptr);
    co_return;
}

AIO_TEST("fault C3: a value whose move throws where it is awaited leaves the future as it was, for the next") {
    auto script = std::make_shared<aio_test::script>();
    aio::future<aio_test::hostile> f;
    f.set_result(aio_test::hostile(5, script));
    script->on_copy = [] { throw std::runtime_error("copy"); };
    std::string error;
    try {
        static_cast<void>(co_await f);
    } catch (const std::runtime_error& e) { error = e.what(); }
    EXPECT_EQ(error, "copy");
    const aio_test::hostile again = co_await f;
    EXPECT_EQ(again.value, 5);
}

AIO_TEST("fault C3: the value of a future that dies may cancel another future, which wakes its waiter") {
    auto script = std::make_shared<aio_test::script>();
    aio::future<> other;
    script->on_destroy = [&] { other.cancel("by a destructor"); };
    std::string message;
    auto waiter = aio::create_task([&]() -> aio::coro<> {
        try {
            co_await other;
        } catch (const aio::cancelled_error& e) { message = e.message(); }
    });
    co_await turns();
    {
        aio::future<aio_test::hostile> f;
        f.set_result(aio_test::hostile(1, script));
    }
    co_await waiter;
    EXPECT_EQ(message, "by a destructor");
}

AIO_TEST("callbacks that cancel, set, add and remove while others of the same future wait for their turn") {
    journal log;
    aio::future<int> f;
    aio::future<int> other;
    auto waiting = aio::create_task([](aio::future<int> g) -> aio::coro<int> { co_return co_await g; }, other);
    std::uint64_t third = 0;
    f.add_done_callback([&] {
        log("1");
        EXPECT_FALSE(f.cancel());
        EXPECT_THROW(f.set_result(2), aio::invalid_state_error);
        other.set_result(3);
        f.add_done_callback([&] { log("4"); });
    });
    f.add_done_callback([&, drop = std::make_shared<aio_test::at_exit>([&] { log("dropped"); })] {
        log("2");
        static_cast<void>(f.remove_done_callback(third));  // the third is scheduled already
    });
    third = f.add_done_callback([&] { log("3"); });
    co_await turns();
    f.set_result(1);
    EXPECT_EQ(co_await waiting, 3);
    co_await turns(2);
    EXPECT_EQ(log.text(), "1 2 dropped 3 4");
}

AIO_TEST("a callback that drops the last handle of its future, and one that throws what it holds") {
    journal log;
    auto f = std::make_unique<aio::future<counted>>();
    f->add_done_callback([&](aio::future<counted> done) {
        f.reset();
        log(std::to_string(done.result().value));
    });
    f->set_result(5);
    co_await turns(2);
    EXPECT_EQ(log.text(), "5");
    EXPECT_EQ(counted::alive, 0);
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    aio::future<> g;
    auto last = std::make_shared<aio_test::at_exit>([&] { log("gone"); });
    g.add_done_callback([held = std::move(last)]() mutable { throw std::move(held); });
    g.set_result();
    co_await turns(2);
    EXPECT_EQ(told.size(), 1u);
    EXPECT_EQ(log.text(), "5 gone");
    aio::get_running_loop().set_exception_handler({});
}

}  // namespace
