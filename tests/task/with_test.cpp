#include <aio/task_group.hpp>
#include <aio/timeout.hpp>
#include <aio/wait.hpp>
#include <aio/with.hpp>

#include "aio_test.hpp"
#include "hostile.hpp"

#include <functional>
#include <memory>
#include <optional>

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

namespace {

aio::coro<> sleeps(aio::delay d) { co_await aio::sleep(d); }

std::string words(const std::exception_ptr& error) {
    if (!error) return "none";
    try {
        std::rethrow_exception(error);
    } catch (const aio::cancelled_error& e) {
        return "cancelled" + (e.message().empty() ? "" : ":" + e.message());
    } catch (const std::exception& e) { return e.what(); } catch (...) {
        return "something else";
    }
}
template<class A>
aio::coro<std::string> outcome_of(A awaitable) {
    try {
        co_await std::move(awaitable);
    } catch (...) { co_return words(std::current_exception()); }
    co_return "done";
}

/// The journal into which the managers below write, and how they behave.
struct settings {
    journal* log;
    std::string name = "m";
    bool enter_fails = false;
    bool exit_fails = false;
    bool swallows = false;
    aio::delay takes = 0s;
    // A constructor, because g++ 12 miscompiles a temporary of an aggregate in a co_await expression.
    explicit settings(journal* j, std::string n = "m") : log(j), name(std::move(n)) {}
};

struct resource {
    settings how;
    counted count;
    explicit resource(settings s) : how(std::move(s)) {}
    void use() { (*how.log)("use:" + how.name); }
};

/// A manager whose enter() gives a reference to its resource, and whose exit() says whether to swallow the error.
class manager {
public:
    explicit manager(settings s) : resource_(std::move(s)) {}
    aio::coro<resource&> enter() {
        co_await aio::sleep(resource_.how.takes);
        log("enter");
        if (resource_.how.enter_fails) throw std::runtime_error("enter failed");
        co_return resource_;
    }
    aio::coro<bool> exit(std::exception_ptr error) {
        const std::string seen = words(error);
        co_await aio::sleep(resource_.how.takes);
        log("exit(" + seen + ")");
        if (resource_.how.exit_fails) throw std::runtime_error("exit failed:" + resource_.how.name);
        co_return resource_.how.swallows;
    }

private:
    void log(const std::string& what) { (*resource_.how.log)(what + ":" + resource_.how.name); }
    resource resource_;
};

/// A manager whose enter() gives a value, and whose exit() gives nothing.
struct value_manager {
    journal* log;
    explicit value_manager(journal& j) : log(&j) {}
    aio::coro<std::unique_ptr<int>> enter() { co_return std::make_unique<int>(5); }
    aio::coro<> exit(std::exception_ptr error) {
        (*log)("exit(" + words(error) + ")");
        co_return;
    }
};

/// A manager whose enter() gives nothing.
struct void_manager {
    journal* log;
    explicit void_manager(journal& j) : log(&j) {}
    aio::coro<> enter() {
        (*log)("enter");
        co_return;
    }
    aio::detail::ready<bool> exit(std::exception_ptr error) {
        (*log)("exit(" + words(error) + ")");
        return aio::detail::ready<bool>(true);
    }
};

struct with_aclose {
    int closed = 0;
    aio::coro<> aclose() {
        ++closed;
        co_return;
    }
};
struct with_shutdown {
    int closed = 0;
    aio::coro<> shutdown() {
        ++closed;
        co_return;
    }
};

}  // namespace

// ---- with ----

AIO_TEST("with enters, calls the body with what was entered, leaves, and gives what the body gave") {
    journal log;
    auto body = [&](resource& r) -> aio::coro<int> {
        co_await aio::sleep(1s);
        r.use();
        co_return 7;
    };
    EXPECT_EQ(co_await aio::with(manager(settings(&log)), body), 7);
    EXPECT_EQ(log.text(), "enter:m use:m exit(none):m");
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("with: an lvalue manager is referred to, and can be used afterwards; an rvalue is owned") {
    journal log;
    manager m{settings(&log)};
    co_await aio::with(m, [](resource& r) { r.use(); });
    EXPECT_EQ(counted::alive, 1);
    with_aclose a;
    co_await aio::with(a, [&](with_aclose& same) { EXPECT_EQ(&same, &a); });
    co_await aio::with(a, [] {});
    EXPECT_EQ(a.closed, 2);
    with_shutdown s;
    co_await aio::with(s, [](with_shutdown& same) { EXPECT_EQ(same.closed, 0); });
    EXPECT_EQ(s.closed, 1);
    // A with() may be made, moved, and awaited later.
    auto w = aio::with(manager(settings(&log, "later")), [](resource& r) { r.use(); });
    EXPECT_EQ(log.text(), "enter:m use:m exit(none):m");
    co_await std::move(w);
    EXPECT_EQ(log.text(), "enter:m use:m exit(none):m enter:later use:later exit(none):later");
}

AIO_TEST("with: plain and async bodies, with and without the argument, giving void, T, T&, optional") {
    journal log;
    int x = 1;
    manager a{settings(&log)}, b{settings(&log)}, c{settings(&log)}, d{settings(&log)}, e{settings(&log)},
        f{settings(&log)};
    co_await aio::with(a, [] {});
    EXPECT_EQ(co_await aio::with(b, [] { return std::string("text"); }), "text");
    int& plain = co_await aio::with(c, [&]() -> int& { return x; });
    EXPECT_EQ(&plain, &x);
    auto refers = [&](resource&) -> aio::coro<int&> { co_return x; };
    int& async = co_await aio::with(d, refers);
    EXPECT_EQ(&async, &x);
    auto optional = []() -> aio::coro<std::optional<int>> { co_return 3; };
    EXPECT_EQ(co_await aio::with(e, optional), 3);
    auto owner = []() -> aio::coro<std::unique_ptr<int>> { co_return std::make_unique<int>(4); };
    EXPECT_EQ(*co_await aio::with(f, owner), 4);
    EXPECT_EQ(*co_await aio::with(value_manager(log), [](std::unique_ptr<int> p) { return p; }), 5);
    EXPECT_EQ(co_await aio::with(value_manager(log), [](std::unique_ptr<int>& p) { return *p; }), 5);
    EXPECT_EQ(co_await aio::with(value_manager(log), [](const std::unique_ptr<int>& p) { return *p; }), 5);
    EXPECT_EQ(co_await aio::with(value_manager(log), [](auto&& p) { return *p; }), 5);
    EXPECT_EQ(co_await aio::with(value_manager(log), [](auto& p) { return *p; }), 5);
    co_await aio::with(void_manager(log), [] {});
    co_await aio::with(void_manager(log), [] { return sleeps(1s); });  // is awaited, since it is awaitable
    co_await aio::with(void_manager(log), [] { return aio::sleep(1s); });
}

AIO_TEST("with: a capturing body lives as long as the block; one that is moved in may own what it captures") {
    journal log;
    auto own = std::make_unique<int>(9);
    auto body = [own = std::move(own)]() -> aio::coro<int> {
        co_await aio::sleep(1s);
        co_return *own;
    };
    EXPECT_EQ(co_await aio::with(manager(settings(&log)), std::move(body)), 9);
    auto mutates = [n = 0]() mutable { return ++n; };
    EXPECT_EQ(co_await aio::with(manager(settings(&log)), mutates), 1);
}

AIO_TEST("with: the body's error is given to exit, and goes on") {
    journal log;
    auto sync = [] { throw std::runtime_error("body"); };
    EXPECT_EQ(co_await outcome_of(aio::with(manager(settings(&log)), sync)), "body");
    auto async = []() -> aio::coro<int> {
        co_await aio::sleep(1s);
        throw std::runtime_error("async body");
    };
    EXPECT_EQ(co_await outcome_of(aio::with(manager(settings(&log)), async)), "async body");
    EXPECT_EQ(log.text(), "enter:m exit(body):m enter:m exit(async body):m");
}

AIO_TEST("with: an exit that throws replaces the body's error, and the body's value") {
    journal log;
    settings s(&log);
    s.exit_fails = true;
    EXPECT_EQ(co_await outcome_of(aio::with(manager(s), [] { throw std::runtime_error("body"); })), "exit failed:m");
    EXPECT_EQ(co_await outcome_of(aio::with(manager(s), [] { return counted(); })), "exit failed:m");
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST(
    "with: a swallowed error gives nothing for void, nullopt for an optional, a logic_error with it as context for the "
    "rest") {
    journal log;
    settings s(&log);
    s.swallows = true;
    co_await aio::with(manager(s), [] { throw std::runtime_error("swallowed"); });
    auto optional = []() -> aio::coro<std::optional<int>> {
        co_await aio::sleep(0s);
        throw std::runtime_error("swallowed");
    };
    EXPECT_EQ(co_await aio::with(manager(s), optional), std::nullopt);
    auto value = []() -> int { throw std::runtime_error("swallowed"); };
    std::exception_ptr context;
    try {
        co_await aio::with(manager(s), value);
    } catch (const std::logic_error& e) {
        const auto* swallowed = dynamic_cast<const aio::swallowed_error*>(&e);
        AIO_REQUIRE(swallowed);
        context = swallowed->context();
    }
    EXPECT_EQ(words(context), "swallowed");
    EXPECT_EQ(co_await aio::with(manager(s), [] { return 3; }), 3);        // nothing to swallow
    auto delayed = []() -> aio::delay { throw std::runtime_error("x"); };  // made from nullopt, but no optional
    EXPECT_NE(co_await outcome_of(aio::with(manager(s), delayed)), "done");
    co_await aio::with(void_manager(log), [] { throw std::runtime_error("swallowed"); });
}

AIO_TEST("with: a failing enter enters nothing: neither body nor exit") {
    journal log;
    settings s(&log);
    s.enter_fails = true;
    EXPECT_EQ(co_await outcome_of(aio::with(manager(s), [&] { log("body"); })), "enter failed");
    EXPECT_EQ(log.text(), "enter:m");
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("with: cancelled in enter, body or exit") {
    journal log;
    settings s(&log);
    s.takes = 10s;
    auto whole = [&]() -> aio::coro<> {
        co_await aio::with(manager(s), [&](resource& r) -> aio::coro<> {
            r.use();
            co_await aio::sleep(10s);
            log("body ended");
        });
    };
    auto cancelled_after = [&](aio::delay d) -> aio::coro<std::string> {
        log.entries.clear();
        auto t = aio::create_task(whole());
        co_await aio::sleep(d);
        t.cancel();
        const std::string outcome = co_await outcome_of(t);
        co_return log.text() + " -> " + outcome;
    };
    EXPECT_EQ(co_await cancelled_after(5s), " -> cancelled");
    EXPECT_EQ(co_await cancelled_after(15s), "enter:m use:m exit(cancelled):m -> cancelled");
    EXPECT_EQ(
        co_await cancelled_after(25s), "enter:m use:m body ended -> cancelled");  // the exit was interrupted (rule 12)
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("nested blocks are left innermost first") {
    journal log;
    auto inner = [&] { return aio::with(manager(settings(&log, "in")), [](resource& r) { r.use(); }); };
    co_await aio::with(manager(settings(&log, "out")), inner);
    EXPECT_EQ(log.text(), "enter:out enter:in use:in exit(none):in exit(none):out");
}

// ---- enter and defer ----

AIO_TEST("rule 162: exits run last first; each sees the previous one's error; suppression works") {
    journal log;
    auto f = [&]() -> aio::coro<> {
        settings first(&log, "1"), second(&log, "2"), third(&log, "3");
        first.swallows = true;
        second.exit_fails = true;
        co_await aio::enter(manager(first));
        co_await aio::enter(manager(second));
        auto& r = co_await aio::enter(manager(third));
        r.use();
        throw std::runtime_error("body");
    };
    co_await f();
    EXPECT_EQ(log.text(), "enter:1 enter:2 enter:3 use:3 exit(body):3 exit(body):2 exit(exit failed:2):1");
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("rule 162: after one exit has swallowed the error the next ones see none") {
    journal log;
    auto f = [&]() -> aio::coro<std::optional<int>> {
        settings inner(&log, "in");
        inner.swallows = true;
        co_await aio::enter(manager(settings(&log, "out")));
        co_await aio::enter(manager(inner));
        throw std::runtime_error("body");
    };
    EXPECT_EQ(co_await f(), std::nullopt);
    EXPECT_EQ(log.text(), "enter:out enter:in exit(body):in exit(none):out");
    auto value = [&]() -> aio::coro<int> {
        settings s(&log);
        s.swallows = true;
        co_await aio::enter(manager(s));
        throw std::runtime_error("body");
    };
    std::exception_ptr context;
    try {
        co_await value();
    } catch (const aio::swallowed_error& e) { context = e.context(); }
    EXPECT_EQ(words(context), "body");
}

AIO_TEST("rule 162: an exit that throws replaces the value, and what is thrown next replaces that") {
    journal log;
    auto f = [&]() -> aio::coro<counted> {
        settings a(&log, "a"), b(&log, "b");
        a.exit_fails = b.exit_fails = true;
        co_await aio::enter(manager(a));
        co_await aio::enter(manager(b));
        co_return counted();
    };
    EXPECT_EQ(co_await outcome_of(f()), "exit failed:a");
    EXPECT_EQ(log.text(), "enter:a enter:b exit(none):b exit(exit failed:b):a");
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("rule 163: a failed enter registers nothing") {
    journal log;
    auto f = [&]() -> aio::coro<> {
        settings s(&log, "bad");
        s.enter_fails = true;
        co_await aio::enter(manager(settings(&log, "good")));
        co_await aio::enter(manager(s));
    };
    EXPECT_EQ(co_await outcome_of(f()), "enter failed");
    EXPECT_EQ(log.text(), "enter:good enter:bad exit(enter failed):good");
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("rule 164: what has aclose() is closed when the coroutine ends, also if it throws") {
    with_aclose a;
    auto f = [&](bool fails) -> aio::coro<int> {
        with_aclose& same = co_await aio::enter(std::ref(a));
        EXPECT_EQ(&same, &a);
        if (fails) throw std::runtime_error("bad");
        co_return a.closed;
    };
    EXPECT_EQ(co_await f(false), 0);
    EXPECT_EQ(a.closed, 1);
    EXPECT_EQ(co_await outcome_of(f(true)), "bad");
    EXPECT_EQ(a.closed, 2);
    EXPECT_EQ(co_await outcome_of(aio::with(a, [] { throw std::runtime_error("body"); })), "body");
    EXPECT_EQ(a.closed, 3);
}

AIO_TEST("enter gives values and references, which live until the coroutine ends") {
    journal log;
    auto f = [&]() -> aio::coro<int> {
        std::unique_ptr<int>& p = co_await aio::enter(value_manager(log));
        co_await aio::sleep(1s);
        co_await aio::enter(void_manager(log));
        with_shutdown& s = co_await aio::enter(with_shutdown());
        EXPECT_EQ(s.closed, 0);
        co_return *p;
    };
    EXPECT_EQ(co_await f(), 5);
    EXPECT_EQ(log.text(), "enter exit(none) exit(none)");
}

AIO_TEST("exits run before the awaiter goes on, and after the locals are gone") {
    journal log;
    struct tells {
        journal* log;
        explicit tells(journal& j) : log(&j) {}
        ~tells() { (*log)("local gone"); }
    };
    auto f = [&]() -> aio::coro<> {
        settings s(&log);
        s.takes = 1s;
        co_await aio::enter(manager(s));
        tells local(log);
        log("body");
    };
    co_await f();
    log("awaiter");
    EXPECT_EQ(log.text(), "enter:m body local gone exit(none):m awaiter");
}

AIO_TEST("exits of a task run before its done callbacks and its waiters, also when it is cancelled") {
    journal log;
    auto f = [&]() -> aio::coro<> {
        settings s(&log);
        s.takes = 1s;
        co_await aio::enter(manager(s));
        co_await aio::sleep(10s);
    };
    auto t = aio::create_task(f());
    t.add_done_callback([&] { log("callback"); });
    co_await aio::sleep(5s);
    t.cancel("x");
    EXPECT_EQ(co_await outcome_of(t), "cancelled:x");
    log("awaiter");
    EXPECT_TRUE(t.cancelled());
    co_await turns(2);
    EXPECT_EQ(log.text(), "enter:m exit(cancelled:x):m callback awaiter");
}

AIO_TEST("a cancel during the exits interrupts the one that waits; the others still run") {
    journal log;
    auto f = [&]() -> aio::coro<> {
        settings fast(&log, "fast"), slow(&log, "slow");
        slow.takes = 100s;
        fast.takes = 1s;
        co_await aio::enter(manager(fast));
        co_await aio::enter(manager(slow));
    };
    auto t = aio::create_task(f());
    co_await aio::sleep(150s);
    t.cancel();
    EXPECT_EQ(co_await outcome_of(t), "cancelled");
    EXPECT_EQ(log.text(), "enter:fast enter:slow exit(cancelled):fast");
}

AIO_TEST("defer runs a function, plain or async, with its arguments; parameters are alive in it") {
    journal log;
    struct file {
        std::string name;
        explicit file(std::string n) : name(std::move(n)) {}
        aio::coro<> close(journal& j) {
            co_await aio::sleep(1s);
            j("closed " + name);
        }
    };
    auto f = [](journal& j, file parameter, std::string text) -> aio::coro<int> {
        co_await aio::defer([](journal& to, std::string s) { to("plain " + s); }, std::ref(j), text);
        co_await aio::defer(
            [](journal& to, file& p) -> aio::coro<> {
                co_await aio::sleep(1s);
                to("async " + p.name);
            },
            std::ref(j), std::ref(parameter));
        co_await aio::defer(&file::close, std::ref(parameter), std::ref(j));
        j("body");
        co_return 1;
    };
    EXPECT_EQ(co_await f(log, file("a.txt"), "text"), 1);
    EXPECT_EQ(log.text(), "body closed a.txt async a.txt plain text");
}

AIO_TEST("defer: move-only arguments, function pointers; an error replaces the outcome, and the next ones run") {
    static journal log;
    log.entries.clear();
    struct functions {
        static void plain(std::unique_ptr<int> p) { log("plain " + std::to_string(*p)); }
        static aio::coro<> fails(int n) {
            co_await aio::sleep(0s);
            throw std::runtime_error("deferred " + std::to_string(n));
        }
    };
    auto f = []() -> aio::coro<> {
        auto p = std::make_unique<int>(1);
        co_await aio::defer(&functions::plain, std::move(p));
        co_await aio::defer(&functions::fails, 2);
        co_await aio::defer(functions::plain, std::make_unique<int>(3));
        throw std::runtime_error("body");
    };
    EXPECT_EQ(co_await outcome_of(f()), "deferred 2");
    EXPECT_EQ(log.text(), "plain 3 plain 1");
}

AIO_TEST("exits of nested coroutines, deep and at the end of the budget") {
    int exits = 0;
    struct chain {
        static aio::coro<int> link(int depth, int& left) {
            co_await aio::defer([](int& n) { ++n; }, std::ref(left));
            if (depth == 0) co_return 0;
            co_return 1 + co_await link(depth - 1, left);
        }
    };
    EXPECT_EQ(co_await chain::link(1000, exits), 1000);
    EXPECT_EQ(exits, 1001);
    for (int i = 0; i < 1000; ++i) EXPECT_EQ(co_await chain::link(0, exits), 0);
    EXPECT_EQ(exits, 2001);
}

template<class M>
concept can_enter = requires(M m) { aio::enter(static_cast<M>(m)); };
static_assert(can_enter<manager&&>);
static_assert(!can_enter<manager&>, "an lvalue manager could be a local: std::ref says that it outlives the coroutine");
static_assert(!can_enter<const manager&>);
static_assert(can_enter<std::reference_wrapper<with_aclose>>);
static_assert(!can_enter<int>);
template<class M, class B>
concept can_with = requires(M m, B b) { aio::with(static_cast<M>(m), b); };
static_assert(can_with<with_aclose&, void (*)()>);
static_assert(!can_with<int, void (*)()>);
template<class F, class... Args>
concept can_defer = requires(F f, Args... args) { aio::defer(f, args...); };
inline constexpr auto captureless = [](int) {};
static_assert(can_defer<decltype(captureless), int>);
static_assert(!can_defer<decltype(captureless)>);
static_assert(can_defer<void (*)(int), int>);

// ---- context ----

namespace {

struct session {
    journal* log;
    std::string name;
    counted count;
    session(journal& j, std::string n) : log(&j), name(std::move(n)) {}
    aio::coro<> commit() {
        co_await aio::sleep(0s);
        (*log)("commit");
    }
    aio::coro<> rollback() {
        co_await aio::sleep(0s);
        (*log)("rollback");
    }
    aio::coro<> close() {
        co_await aio::sleep(0s);
        (*log)("close");
    }
};
aio::coro<session> create_session(journal& log) {
    co_await aio::sleep(0s);
    log("create");
    co_return session(log, "s");
}
aio::context<session&> get_session(journal& log) {
    auto s = co_await create_session(log);
    std::exception_ptr& error = co_yield s;
    if (error) {
        co_await s.rollback();
    } else {
        co_await s.commit();
    }
    co_await s.close();
}
aio::context<int> by_value() { co_yield 42; }
aio::context<int> no_yield(bool yields) {
    if (yields) co_yield 1;
}
aio::context<int> two_yields(journal& log) {
    co_await aio::defer([](journal& j) { j("deferred"); }, std::ref(log));
    co_yield 1;
    co_yield 2;
    log("not reached");
}
aio::context<int> yields_after_error(journal& log) {
    counted local;
    std::exception_ptr& error = co_yield 1;
    if (error) co_yield 2;
    log("not reached");
}
aio::context<int> swallows(std::string which) {
    std::exception_ptr& error = co_yield 1;
    if (error && words(error) == which) error = nullptr;
}
aio::context<int> replaces(std::string with) {
    std::exception_ptr& error = co_yield 1;
    if (error) throw std::runtime_error(with + " for " + words(error));
}
aio::context<int> rethrows() {
    std::exception_ptr& error = co_yield 1;
    if (error) std::rethrow_exception(error);
}

}  // namespace

AIO_TEST("rule 160: a context is a manager: up to its co_yield, the body, and from there with the body's error") {
    journal log;
    auto fine = [&](session& s) -> aio::coro<std::string> {
        co_await aio::sleep(0s);
        log("body");
        co_return s.name;
    };
    EXPECT_EQ(co_await aio::with(get_session(log), fine), "s");
    EXPECT_EQ(log.text(), "create body commit close");
    log.entries.clear();
    auto fails = [&](session&) { throw std::runtime_error("body"); };
    EXPECT_EQ(co_await outcome_of(aio::with(get_session(log), fails)), "body");
    EXPECT_EQ(log.text(), "create rollback close");
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("rule 160: an error that is left alone goes on, as the same object; nullptr swallows; another replaces") {
    const void* thrown = nullptr;
    auto body = [&] {
        try {
            throw std::runtime_error("body");
        } catch (const std::exception& e) {
            thrown = &e;
            throw;
        }
    };
    const void* caught = nullptr;
    try {
        co_await aio::with(by_value(), body);
    } catch (const std::exception& e) { caught = &e; }
    EXPECT_EQ(thrown, caught);
    EXPECT_EQ(co_await outcome_of(aio::with(rethrows(), body)), "body");
    EXPECT_EQ(co_await outcome_of(aio::with(swallows("body"), body)), "done");
    EXPECT_EQ(co_await outcome_of(aio::with(swallows("another"), body)), "body");
    EXPECT_EQ(co_await outcome_of(aio::with(replaces("new"), body)), "new for body");
    auto value = []() -> std::optional<int> { throw std::runtime_error("body"); };
    EXPECT_EQ(co_await aio::with(swallows("body"), value), std::nullopt);
    EXPECT_EQ(co_await aio::with(swallows("body"), [] { return 5; }), 5);
}

AIO_TEST("rule 161: no co_yield, a second one, and one after the error, are errors") {
    journal log;
    EXPECT_NE((co_await outcome_of(aio::with(no_yield(false), [] {}))).find("did not co_yield"), std::string::npos);
    EXPECT_EQ(co_await outcome_of(aio::with(no_yield(true), [] {})), "done");
    EXPECT_NE((co_await outcome_of(aio::with(two_yields(log), [] {}))).find("second time"), std::string::npos);
    EXPECT_EQ(log.text(), "deferred");
    auto fails = [] { throw std::runtime_error("body"); };
    EXPECT_NE((co_await outcome_of(aio::with(yields_after_error(log), fails))).find("second time"), std::string::npos);
    EXPECT_EQ(log.text(), "deferred");
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("a context that throws before its co_yield enters nothing") {
    struct failing {
        static aio::context<int> open() {
            counted local;
            co_await aio::sleep(0s);
            if (local.value == 0) throw std::runtime_error("cannot open");
            co_yield 1;
        }
    };
    bool body = false;
    EXPECT_EQ(co_await outcome_of(aio::with(failing::open(), [&] { body = true; })), "cannot open");
    EXPECT_FALSE(body);
    EXPECT_EQ(counted::alive, 0);
    auto f = []() -> aio::coro<> { co_await aio::enter(failing::open()); };
    EXPECT_EQ(co_await outcome_of(f()), "cannot open");
}

AIO_TEST("a context gives values, references, const references; it is entered once") {
    EXPECT_EQ(co_await aio::with(by_value(), [](int v) { return v; }), 42);
    EXPECT_EQ(co_await aio::with(by_value(), [](int& v) { return ++v; }), 43);
    struct givers {
        static aio::context<const std::string&> constant() {
            const std::string s = "const";
            co_yield s;
        }
        static aio::context<std::unique_ptr<int>> owner() { co_yield std::make_unique<int>(3); }
        static aio::context<std::string> lvalue() {
            std::string s = "lvalue";
            co_yield s;
            EXPECT_EQ(s, "changed");
        }
    };
    EXPECT_EQ(co_await aio::with(givers::constant(), [](const std::string& s) { return s; }), "const");
    EXPECT_EQ(co_await aio::with(givers::owner(), [](std::unique_ptr<int>& p) { return *p; }), 3);
    co_await aio::with(givers::lvalue(), [](std::string& s) { s = "changed"; });
    auto c = by_value();
    co_await aio::with(c, [] {});
    EXPECT_NE((co_await outcome_of(aio::with(c, [] {}))).find("once"), std::string::npos);
}

AIO_TEST("contexts are entered in coroutines and in contexts, and left last first") {
    journal log;
    struct stack {
        static aio::context<int> outer(journal& j) {
            j("outer in");
            co_yield 1;
            j("outer out");
        }
        static aio::context<int> both(journal& j) {
            int& one = co_await aio::enter(outer(j));
            co_await aio::defer([](journal& to) { to("deferred"); }, std::ref(j));
            j("both in");
            std::exception_ptr& error = co_yield one + 1;
            j("both out " + words(error));
        }
    };
    auto f = [&]() -> aio::coro<int> {
        int& two = co_await aio::enter(stack::both(log));
        log("body");
        co_return two;
    };
    EXPECT_EQ(co_await f(), 2);
    EXPECT_EQ(log.text(), "outer in both in body both out none deferred outer out");
    log.entries.clear();
    EXPECT_EQ(co_await outcome_of(aio::with(stack::both(log), [] { throw std::runtime_error("x"); })), "x");
    EXPECT_EQ(log.text(), "outer in both in both out x deferred outer out");
}

AIO_TEST("what is entered in a context sees the body's error, and may swallow it for the context") {
    journal log;
    struct inner {
        static aio::context<int> outside(journal& j) {
            settings s(&j, "in");
            s.swallows = true;
            co_await aio::enter(manager(s));
            co_yield 1;
        }
    };
    co_await aio::with(inner::outside(log), [] { throw std::runtime_error("body"); });
    EXPECT_EQ(log.text(), "enter:in exit(body):in");
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("a cancel in the body is seen by the context; one in its clean-up interrupts that") {
    journal log;
    struct slow {
        static aio::context<int> make(journal& j) {
            std::exception_ptr& error = co_yield 1;
            j(words(error));
            co_await aio::sleep(10s);
            j("cleaned");
        }
    };
    auto whole = [&]() -> aio::coro<> { co_await aio::with(slow::make(log), [] { return sleeps(10s); }); };
    auto t = aio::create_task(whole());
    co_await aio::sleep(1s);
    t.cancel("one");
    log(co_await outcome_of(t));
    EXPECT_EQ(log.text(), "cancelled:one cleaned cancelled:one");
    log.entries.clear();
    auto again = aio::create_task(whole());
    co_await aio::sleep(1s);
    again.cancel("one");
    co_await aio::sleep(1s);
    again.cancel("two");
    log(co_await outcome_of(again));
    EXPECT_EQ(log.text(), "cancelled:one cancelled:two");
}

AIO_TEST("a context destroyed without having been entered never runs") {
    journal log;
    {
        auto c = get_session(log);
        auto moved = std::move(c);
        static_cast<void>(moved);
    }
    EXPECT_EQ(log.text(), "");
    co_return;
}

AIO_TEST("a timeout in a context that is entered covers the body") {
    struct limited {
        static aio::context<int> make() {
            co_await aio::enter(aio::timeout(1s));
            co_yield 1;
        }
    };
    EXPECT_EQ(co_await outcome_of(aio::with(limited::make(), [] { return sleeps(1h); })), "timed out");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("a million blocks grow neither stack nor memory") {
    with_aclose a;
    for (int i = 0; i < 100'000; ++i) co_await aio::with(a, [] {});
    EXPECT_EQ(a.closed, 100'000);
}

// ---- brute force ----

PLAIN_TEST("cancelled at any step, every manager that was entered is left, and nothing leaks") {
    static int entered, left;
    struct balanced {
        counted count;
        aio::coro<int> enter() {
            co_await turns(2);
            ++entered;
            co_return 1;
        }
        aio::coro<> exit(std::exception_ptr) {
            ++left;  // before a cancel can interrupt it
            co_await turns(2);
        }
    };
    struct contexts {
        static aio::context<counted> make() {
            counted c;
            co_await turns(1);
            co_await aio::enter(balanced());
            co_await aio::defer([](counted) { ++left; }, counted());
            ++entered;
            co_yield c;
            co_await turns(1);
        }
    };
    auto scenario = []() -> aio::coro<> {
        entered = left = 0;
        auto function = []() -> aio::coro<counted> {
            co_await aio::enter(balanced());
            co_await aio::enter(contexts::make());
            co_await turns(1);
            co_return counted();
        };
        co_await function();
        auto body = [&](int) -> aio::coro<counted> {
            co_await turns(1);
            co_return co_await aio::with(contexts::make(), [&](counted& c) { return c; });
        };
        co_await aio::with(balanced(), body);
        co_await aio::create_task(function());
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario,
                  [] {
                      EXPECT_EQ(counted::alive, 0);
                      EXPECT_EQ(entered, left);
                  }),
        30u);
}

// ---- managers, bodies and values whose special members act ----

namespace {

/// A manager that holds a hostile value; enter() and exit() do not wait.
struct hostile_manager {
    aio_test::hostile held;
    journal* log;
    bool exit_throws = false;
    aio::coro<int> enter() { co_return held.value; }
    aio::coro<> exit(std::exception_ptr error) {
        (*log)("exit:" + words(error));
        if (exit_throws) throw std::runtime_error("exit");
        co_return;
    }
};

}  // namespace

AIO_TEST(
    "a manager whose destructor, and a body's value whose move, cancels the task: what was entered is left, once") {
    journal log;
    for (int what = 0; what < 3; ++what) {
        auto script = std::make_shared<aio_test::script>();
        aio::any_task self;
        auto cancel = [&] { self.cancel("by a value"); };
        auto whole = [&]() -> aio::coro<> {
            hostile_manager manager{aio_test::hostile(1, what == 0 ? script : nullptr), &log};
            auto body = [&](int) -> aio::coro<aio_test::hostile> {
                co_return aio_test::hostile(2, what == 0 ? nullptr : script);
            };
            const aio_test::hostile got = co_await aio::with(std::move(manager), body);
            log("got " + std::to_string(got.value));
            co_await aio::sleep(0s);
            log("not reached");  // the first two rounds end before this
        };
        (what == 1 ? script->on_move : script->on_destroy) = cancel;
        auto t = aio::create_task(whole());
        self = t;
        const std::string end = co_await outcome_of(std::move(t));
        EXPECT_EQ(end, "cancelled:by a value") << what;
    }
    // In the third round the value, a local of the task, cancels the task when it is destroyed at the end (rule 7).
    EXPECT_EQ(log.text(), "exit:none got 2 exit:none got 2 exit:none got 2 not reached");
}

AIO_TEST("a body's value whose move throws: the manager is left without an error, or with it, and the error leaves") {
    journal log;
    auto script = std::make_shared<aio_test::script>();
    hostile_manager manager{aio_test::hostile(1), &log};
    auto body = [&](int) -> aio::coro<aio_test::hostile> {
        aio_test::hostile value(2, script);
        script->on_move = [] { throw std::runtime_error("move"); };
        co_return std::move(value);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(std::ref(manager).get(), body)), "move");
    EXPECT_EQ(log.text(), "exit:move");
}

AIO_TEST("what was entered and deferred is left in order although each of them cancels the task, and throws") {
    journal log;
    aio::any_task self;
    auto function = [&]() -> aio::coro<> {
        co_await aio::defer(
            [](journal* l, aio_test::at_exit) -> aio::coro<> {
                (*l)("first");
                co_return;
            },
            &log, aio_test::at_exit([&] { self.cancel("first"); }));
        co_await aio::defer(
            [](journal* l, aio_test::at_exit) -> aio::coro<> {
                (*l)("second");
                throw std::runtime_error("second");
                co_return;
            },
            &log, aio_test::at_exit([&] { self.cancel("second"); }));
        aio_test::at_exit local([&] { log("local"); });
        co_return;
    };
    auto t = aio::create_task([&]() -> aio::coro<> {
        self = aio::current_task();
        log(co_await outcome_of(function()));
        log(co_await outcome_of(aio::sleep(0s)));
    });
    co_await t;
    EXPECT_EQ(log.text().substr(0, 27), "local second first second c");
    EXPECT_EQ(t.cancelling(), 2u);
}

// ---- made in place ----

struct immovable {
    std::string name;
    std::unique_ptr<int> owned;
    int* left;
    immovable(std::string n, std::unique_ptr<int> o, int& l) : name(std::move(n)), owned(std::move(o)), left(&l) {}
    immovable(immovable&&) = delete;
    aio::coro<immovable&> enter() {
        if (name == "refuses") throw std::runtime_error("refused");
        co_return *this;
    }
    aio::coro<> exit(std::exception_ptr) {
        co_await turns(1);
        ++*left;
    }
};

AIO_TEST("enter<type>(args...) makes the manager in place, also one that cannot be moved") {
    int left = 0;
    auto uses = [](int& l) -> aio::coro<int> {
        immovable& m = co_await aio::enter<immovable>("shop", std::make_unique<int>(7), l);
        EXPECT_EQ(m.name, "shop");
        EXPECT_EQ(l, 0);
        co_return *m.owned;
    };
    EXPECT_EQ(co_await uses(left), 7);
    EXPECT_EQ(left, 1);
    auto refused = [](int& l) -> aio::coro<> { co_await aio::enter<immovable>("refuses", nullptr, l); };
    bool threw = false;
    try {
        co_await refused(left);
    } catch (const std::runtime_error&) { threw = true; }
    EXPECT_TRUE(threw);
    EXPECT_EQ(left, 1);  // an enter that fails registers nothing (rule 163)
}

AIO_TEST("enter<type>() in a generator and by its moved value") {
    int left = 0;
    auto items = [](int& l) -> aio::async_generator<int> {
        immovable& m = co_await aio::enter<immovable>("g", std::make_unique<int>(1), l);
        co_yield *m.owned;
        co_await aio::enter<aio::background_tasks>();
        aio::background_tasks moved;
        co_await aio::enter<aio::background_tasks>(std::move(moved));
        co_yield 2;
    };
    int sum = 0;
    co_await aio::for_each(items(left), [&](int i) { sum += i; });
    EXPECT_EQ(sum, 3);
    EXPECT_EQ(left, 1);
}

// ---- finally ----

AIO_TEST(
    "fault P5: finally runs its function when the block is left, however, and the locals above it are still there") {
    journal log;
    auto leaves = [&](std::string how) -> aio::coro<> {
        std::string local = how;
        auto first = aio::finally([&] { log(local); });
        auto second = aio::finally([&] { log("inner"); });
        if (how == "return") co_return;
        if (how == "throw") throw std::runtime_error("thrown");
        co_await aio::sleep_forever();
    };
    co_await leaves("return");
    EXPECT_EQ(log.text(), "inner return");
    try {
        co_await leaves("throw");
    } catch (const std::runtime_error&) { log("caught"); }
    EXPECT_EQ(log.text(), "inner return inner throw caught");
    auto t = aio::create_task(leaves("cancel"));
    co_await turns(1);
    t.cancel();
    const std::vector<aio::task<>> cancelled{t};
    co_await aio::wait(cancelled);
    EXPECT_EQ(log.text(), "inner return inner throw caught inner cancel");
    {
        auto in_block = aio::finally([&, owned = std::make_unique<int>(1)] { log("block"); });
        EXPECT_EQ(log.text(), "inner return inner throw caught inner cancel");
    }
    EXPECT_EQ(log.text(), "inner return inner throw caught inner cancel block");
}

AIO_TEST("fault P5: an exception of finally's function goes to the exception handler, the one under way goes on") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler(
        [&](const aio::exception_context& c) { told.push_back(c.message + ": " + aio::detail::describe(c.error)); });
    auto fails = []() -> aio::coro<> {
        auto guard = aio::finally([] { throw std::runtime_error("clean-up"); });
        throw std::logic_error("body");
        co_return;
    };
    std::string left;
    try {
        co_await fails();
    } catch (const std::logic_error& e) { left = e.what(); }
    EXPECT_EQ(left, "body");
    EXPECT_EQ(told, (std::vector<std::string>{"exception in the function of finally(): std::runtime_error: clean-up"}));
    void (*const null)() = nullptr;
    EXPECT_THROW(static_cast<void>(aio::finally(null)), std::invalid_argument);
}

PLAIN_TEST("fault P5: where no loop runs an exception of finally's function terminates") {
    const auto outside = [] { const auto guard = aio::finally([] { throw std::runtime_error("nobody is there"); }); };
    EXPECT_DEATH(outside(), "nobody is there");
}
