
#include "aio_test.hpp"

#include <cstdlib>
#include <string_view>
#include <thread>

#include <dlfcn.h>
#include <unistd.h>

using aio_test::counted;
using aio_test::turns;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
std::size_t count_of(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}
std::string words(const std::exception_ptr& error) { return error ? aio::detail::describe(error) : "none"; }

/// The lines of this file in a trace, the outermost first.
std::string lines_in(const aio::async_trace& trace) {
    std::string all;
    for (const aio::call_frame& f : trace.frames()) {
        if (std::string_view(f.file).ends_with("async_trace_test.cpp"))
            all += (all.empty() ? "" : " ") + std::to_string(f.line);
    }
    return all;
}
std::string lines_in(const std::exception_ptr& error) { return lines_in(aio::async_trace(error)); }
std::string lines(auto... line) {
    std::string all;
    ((all += (all.empty() ? "" : " ") + std::to_string(line)), ...);
    return all;
}

/// Collects what the exception handler is told while this object lives.
struct ears {
    std::vector<std::string> told;
    ears() {
        aio::get_running_loop().set_exception_handler(
            [this](const aio::exception_context& c) { told.push_back(words(c.error)); });
    }
    ears(const ears&) = delete;
    ears& operator=(const ears&) = delete;
    ~ears() { aio::get_running_loop().set_exception_handler(nullptr); }
    std::size_t count(const std::string& what) const {
        std::size_t n = 0;
        for (const std::string& t : told) n += contains(t, what) ? 1 : 0;
        return n;
    }
};

template<class A>
aio::coro<std::exception_ptr> error_of(A awaitable) {
    try {
        co_await std::move(awaitable);
    } catch (...) { co_return std::current_exception(); }
    co_return nullptr;
}

aio::coro<> fails(std::string what = "boom") {
    co_await aio::sleep(0s);
    throw std::runtime_error(what);
}
constexpr int fails_line = __LINE__ - 3;
aio::coro<> outer() { co_await fails(); }
constexpr int outer_line = __LINE__ - 1;

/// A manager whose exit throws an error with this text, unless the text is empty.
struct failing_exit {
    std::string what;
    explicit failing_exit(std::string w) : what(std::move(w)) {}
    aio::coro<> enter() { co_return; }
    aio::coro<> exit(std::exception_ptr) {
        co_await aio::sleep(0s);
        if (!what.empty()) throw std::runtime_error(what);
    }
};
constexpr int exit_line = __LINE__ - 4;

AIO_TEST("the trace of an error is the chain of co_awaits that it came through, in the order of Python's tracebacks") {
    const std::exception_ptr error = co_await error_of(outer());
    const aio::async_trace trace(error);
    EXPECT_EQ(trace.error(), error);
    EXPECT_EQ(trace.left_out(), 0u);
    EXPECT_EQ(trace.context(), nullptr);
    AIO_REQUIRE(trace.frames().size() == 2);  // error_of() is not in it, because it has caught the error
    EXPECT_EQ(lines_in(trace), lines(outer_line, fails_line));
    EXPECT_TRUE(contains(trace.frames()[0].function, "outer")) << trace.frames()[0].function;
    EXPECT_TRUE(contains(trace.frames()[1].function, "fails")) << trace.frames()[1].function;
    const std::string text = trace.to_string();
    EXPECT_EQ(text.find("Traceback (most recent co_await last):\n    "), 0u) << text;
    EXPECT_TRUE(contains(text, "async_trace_test.cpp:" + std::to_string(outer_line) + " in ")) << text;
    EXPECT_LT(text.find(":" + std::to_string(outer_line)), text.find(":" + std::to_string(fails_line)));
    EXPECT_TRUE(text.ends_with("\nstd::runtime_error: boom\n")) << text;
}

AIO_TEST("errors without a trace: null, never thrown, thrown where there is no coroutine") {
    const aio::async_trace null{std::exception_ptr()};
    EXPECT_TRUE(null.frames().empty());
    EXPECT_EQ(null.to_string(), "no error\n");
    const aio::async_trace made(std::make_exception_ptr(std::runtime_error("made")));
    EXPECT_TRUE(made.frames().empty());
    EXPECT_EQ(made.context(), nullptr);
    EXPECT_EQ(made.to_string(), "std::runtime_error: made\n");
    co_return;
}

AIO_TEST("a coroutine that has awaited nothing stands with its definition, and completes at once or later alike") {
    const int line = __LINE__ + 2;
    // clang-format off: one line, because g++ names the last of several
    auto at_once = []() -> aio::coro<> { throw std::logic_error("at once"); co_return; };
    // clang-format on
    EXPECT_EQ(lines_in(co_await error_of(at_once())), lines(line));
    auto task = aio::create_task(at_once());
    EXPECT_EQ(lines_in(co_await error_of(task)), lines(line));
}

AIO_TEST("rule 24: the trace of a cancelled task names the line that was interrupted") {
    const int line = __LINE__ + 1;
    auto waits = []() -> aio::coro<> { co_await aio::sleep(1h); };
    const int middle = __LINE__ + 1;
    auto calls = [](auto inner) -> aio::coro<> { co_await inner(); };
    auto task = aio::create_task(calls(waits));
    co_await turns(2);
    task.cancel("enough");
    const std::exception_ptr error = co_await error_of(task);
    EXPECT_TRUE(task.cancelled());
    EXPECT_EQ(lines_in(error), lines(middle, line));
    EXPECT_TRUE(contains(aio::async_trace(error).to_string(), "aio::cancelled_error: enough"));
}

AIO_TEST("rule 24: whatever is interrupted, by whom, stands in the trace: a future, a timeout, gather's children") {
    const int awaits = __LINE__ + 1;
    auto join = [](aio::future<> f) -> aio::coro<> { co_await f; };
    aio::future<> f;
    auto joins = aio::create_task(join(f));
    co_await turns();
    f.cancel();
    EXPECT_EQ(lines_in(co_await error_of(joins)), lines(awaits));

    const int sleeps = __LINE__ + 1;
    auto sleep = []() -> aio::coro<> { co_await aio::sleep(1h); };
    const std::exception_ptr late = co_await error_of(aio::wait_for(sleep(), 1s));
    EXPECT_TRUE(contains(aio::async_trace(late).to_string(), ":" + std::to_string(sleeps) + " in "))
        << "by its context()";
    EXPECT_TRUE(aio::detail::is_cancelled(aio::async_trace(late).context()));

    const int gathers = __LINE__ + 1;
    auto gather = [](auto child) -> aio::coro<> { co_await aio::gather(child(), child()); };
    auto both = aio::create_task(gather(sleep));
    co_await turns(2);
    both.cancel();
    EXPECT_TRUE(contains(lines_in(co_await error_of(both)), lines(gathers)));
}

AIO_TEST("an error that is caught, kept and thrown on in one coroutine has one frame of it") {
    const int line = __LINE__ + 4;
    auto keeps = []() -> aio::coro<> {
        std::exception_ptr error;
        try {
            co_await fails();
        } catch (...) { error = std::current_exception(); }
        std::rethrow_exception(error);
    };
    EXPECT_EQ(lines_in(co_await error_of(keeps())), lines(line, fails_line));
    auto caught_only = []() -> aio::coro<std::string> {
        std::string text;
        try {
            co_await outer();
        } catch (...) { text = lines_in(std::current_exception()); }
        co_return text;
    };
    EXPECT_EQ(co_await caught_only(), lines(outer_line, fails_line));
}

AIO_TEST("from a task to who joins it the trace goes on; each of several goes on in a way of its own") {
    auto task = aio::create_task(outer());
    const int first = __LINE__ + 1;
    auto joins = [](aio::task<> t) -> aio::coro<> { co_await t; };
    const int second = __LINE__ + 1;
    auto joins_too = [](aio::task<> t) -> aio::coro<> { co_await t; };
    auto a = aio::create_task(joins(task));
    auto b = aio::create_task(joins_too(task));
    const std::vector<aio::task<>> both{a, b};
    co_await aio::wait(both);
    const std::string way = lines(outer_line, fails_line);
    EXPECT_EQ(lines_in(a.exception()), lines(first) + " " + way);
    EXPECT_EQ(lines_in(b.exception()), lines(second) + " " + way);
    EXPECT_EQ(lines_in(task.exception()), way);
    EXPECT_EQ(a.exception(), b.exception());  // every awaiter gets the same object (rule 13)
    EXPECT_EQ(lines_in(a.exception()), lines(first) + " " + way);
    const int third = __LINE__ + 2;
    auto of_result = [](aio::task<> t) -> aio::coro<> {
        co_await aio::sleep(0s);
        t.result();
    };
    EXPECT_EQ(lines_in(co_await error_of(of_result(b))), lines(third, second) + " " + way);
    EXPECT_EQ(lines_in(co_await error_of(of_result(a))), lines(third, first) + " " + way);
    EXPECT_EQ(lines_in(co_await error_of(aio::any_task(b))), lines(second) + " " + way);
}

AIO_TEST("a future's error starts at each of its waiters") {
    aio::future<> f;
    const int line = __LINE__ + 1;
    auto joins = [](aio::future<> awaited) -> aio::coro<> { co_await awaited; };
    auto a = aio::create_task(joins(f));
    auto b = aio::create_task(joins(f));
    co_await turns();
    f.set_exception(std::runtime_error("given"));
    EXPECT_EQ(lines_in(co_await error_of(a)), lines(line));
    EXPECT_EQ(lines_in(co_await error_of(b)), lines(line));
    EXPECT_EQ(lines_in(co_await error_of(joins(f))), lines(line));
}

AIO_TEST("through gather, race and wait_for the trace goes on") {
    const int gathers = __LINE__ + 1;
    auto gather = []() -> aio::coro<> { co_await aio::gather(outer(), aio::sleep(1h)); };
    EXPECT_EQ(lines_in(co_await error_of(gather())), lines(gathers, outer_line, fails_line));
    const int races = __LINE__ + 1;
    auto race = []() -> aio::coro<> { co_await aio::race(outer(), aio::sleep(1h)); };
    EXPECT_EQ(lines_in(co_await error_of(race())), lines(races, outer_line, fails_line));
    const int waits = __LINE__ + 1;
    auto wait = []() -> aio::coro<> { co_await aio::wait_for(outer(), 1h); };
    EXPECT_EQ(lines_in(co_await error_of(wait())), lines(waits, outer_line, fails_line));
    auto results = co_await aio::gather(aio::return_exceptions, outer(), fails());
    EXPECT_EQ(lines_in(std::get<0>(results).error()), lines(outer_line, fails_line));
    EXPECT_EQ(lines_in(std::get<1>(results).error()), lines(fails_line));
}

AIO_TEST("each error in a group has its trace, and all are written out with it") {
    auto body = [](aio::task_group& tg) {
        for (int i = 0; i < 21; ++i) tg.create_task(fails("error " + std::to_string(i)));
    };
    const int line = __LINE__ + 1;  // one line, because g++ names the last of several
    auto group = [&]() -> aio::coro<> { co_await aio::with(aio::task_group(), body); };
    const std::exception_ptr error = co_await error_of(group());
    const aio::async_trace trace(error);
    EXPECT_EQ(lines_in(trace), lines(line));
    try {
        std::rethrow_exception(error);
    } catch (const aio::exception_group& eg) {
        AIO_REQUIRE(eg.exceptions().size() == 21);
        EXPECT_EQ(lines_in(eg.exceptions()[0]), lines(fails_line));
    }
    const std::string text = trace.to_string();
    EXPECT_TRUE(contains(text, "(21 sub-exceptions)")) << text;
    EXPECT_TRUE(contains(text, "  - 1 of 21:\n    Traceback")) << text;
    EXPECT_TRUE(contains(text, "    std::runtime_error: error 0\n")) << text;
    EXPECT_TRUE(contains(text, "... and 6 more\n")) << text;
    EXPECT_EQ(count_of(text, ":" + std::to_string(fails_line) + " in "), 15u) << text;

    const std::exception_ptr of_body = co_await error_of(aio::with(aio::task_group(), [] { return outer(); }));
    EXPECT_EQ(aio::async_trace(of_body).context(), nullptr);  // nothing is replaced: the group has the body's error
    EXPECT_TRUE(contains(aio::async_trace(of_body).to_string(), ":" + std::to_string(fails_line) + " in "));
}

AIO_TEST("through generators and contexts") {
    const int in_generator = __LINE__ + 2;
    auto items = []() -> aio::async_generator<int> {
        co_await outer();
        co_yield 1;
    };
    const int next = __LINE__ + 3;
    auto takes = [&]() -> aio::coro<> {
        auto all = items();
        co_await all.next();
    };
    EXPECT_EQ(lines_in(co_await error_of(takes())), lines(next, in_generator, outer_line, fails_line));

    const int in_context = __LINE__ + 2;
    auto fails_to_enter = []() -> aio::context<int> {
        co_await outer();
        int value = 0;
        co_yield value;
    };
    const int enters = __LINE__ + 1;
    auto with = [&]() -> aio::coro<> { co_await aio::with(fails_to_enter(), [](int) {}); };
    EXPECT_EQ(lines_in(co_await error_of(with())), lines(enters, in_context, outer_line, fails_line));
}

AIO_TEST(
    "a generator that is closed leaves no trace of generator_exit, and one that yields while it is closed stands in "
    "it") {
    const int line = __LINE__ + 4;
    auto stubborn = []() -> aio::async_generator<int> {
        co_await aio::defer([] {});
        try {
            co_await aio::sleep(0s);
            co_yield 1;
        } catch (...) {}
        co_yield 2;
    };
    auto all = stubborn();
    co_await all.next();
    EXPECT_EQ(lines_in(co_await error_of(all.aclose())), lines(line));
}

AIO_TEST(
    "decision (m): an error that with's exit throws replaces the body's, which is its context and is written before "
    "it") {
    ears e;
    const int line = __LINE__ + 2;
    auto uses = []() -> aio::coro<> {
        co_await aio::with(failing_exit("exit failed"), [] { return fails("body failed"); });
    };
    const std::exception_ptr error = co_await error_of(uses());
    EXPECT_EQ(words(error), "std::runtime_error: exit failed");
    EXPECT_EQ(lines_in(error), lines(line, exit_line));
    const std::exception_ptr context = aio::async_trace(error).context();
    EXPECT_EQ(words(context), "std::runtime_error: body failed");
    EXPECT_EQ(lines_in(context), lines(fails_line));
    const std::string text = aio::async_trace(error).to_string();
    EXPECT_TRUE(contains(
        text, "std::runtime_error: body failed\n\nDuring handling of the above error, another came:\n\nTraceback"))
        << text;
    EXPECT_TRUE(text.ends_with("std::runtime_error: exit failed\n")) << text;
}

aio::coro<> entered_twice() {
    co_await aio::enter(failing_exit("outer exit"));
    co_await aio::enter(failing_exit("inner exit"));
    co_await fails("body failed");
}
constexpr int entered_line = __LINE__ - 2;
aio::coro<> deferred() {
    co_await aio::defer([]() -> aio::coro<> { co_await fails("deferred failed"); });
    co_await fails("body failed");
}
aio::context<int> context_that_replaces() {
    int value = 1;
    std::exception_ptr& error = co_yield value;
    if (error) co_await fails("context failed");
}
aio::context<int> context_with_exit() {
    co_await aio::enter(failing_exit("inner exit"));
    int value = 1;
    co_yield value;
}

AIO_TEST(
    "decision (m): exits of enter and defer, one after the other, and of contexts: each replaced error stays in the "
    "chain") {
    ears e;
    const std::exception_ptr last = co_await error_of(entered_twice());
    EXPECT_EQ(words(last), "std::runtime_error: outer exit");
    EXPECT_EQ(lines_in(last), lines(entered_line, exit_line));
    const std::exception_ptr middle = aio::async_trace(last).context();
    EXPECT_EQ(words(middle), "std::runtime_error: inner exit");
    const std::exception_ptr first = aio::async_trace(middle).context();
    EXPECT_EQ(words(first), "std::runtime_error: body failed");
    EXPECT_EQ(lines_in(first), lines(entered_line, fails_line));
    EXPECT_EQ(aio::async_trace(first).context(), nullptr);
    const std::string text = aio::async_trace(last).to_string();
    EXPECT_LT(text.find("body failed"), text.find("inner exit"));
    EXPECT_LT(text.find("inner exit"), text.find("outer exit"));
    EXPECT_EQ(count_of(text, "During handling"), 2u) << text;

    EXPECT_EQ(words(aio::async_trace(co_await error_of(deferred())).context()), "std::runtime_error: body failed");

    auto body = [] { return fails("body failed"); };
    std::exception_ptr error = co_await error_of(aio::with(context_that_replaces(), body));
    EXPECT_EQ(words(error), "std::runtime_error: context failed");
    EXPECT_EQ(words(aio::async_trace(error).context()), "std::runtime_error: body failed");
    error = co_await error_of(aio::with(context_with_exit(), body));
    EXPECT_EQ(words(error), "std::runtime_error: inner exit");
    EXPECT_EQ(words(aio::async_trace(error).context()), "std::runtime_error: body failed");
    auto enters = []() -> aio::coro<> {
        co_await aio::enter(context_that_replaces());
        co_await fails("body failed");
    };
    error = co_await error_of(enters());
    EXPECT_EQ(words(error), "std::runtime_error: context failed");
    EXPECT_EQ(words(aio::async_trace(error).context()), "std::runtime_error: body failed");
    co_await turns(3);
    EXPECT_EQ(e.told.size(), 0u) << e.told.front();
}

AIO_TEST("decision (m): a replaced error that nobody reads is told to the exception handler, once") {
    ears e;
    auto uses = []() -> aio::coro<> {
        try {
            co_await aio::with(failing_exit("exit failed"), [] { return fails("body failed"); });
        } catch (const std::runtime_error& error) { EXPECT_STREQ(error.what(), "exit failed"); }
    };
    co_await uses();
    co_await turns(2);
    EXPECT_EQ(e.told.size(), 1u);
    EXPECT_EQ(e.count("body failed"), 1u);
    co_await error_of(fails());
    co_await turns(2);
    EXPECT_EQ(e.told.size(), 1u);
}

AIO_TEST(
    "decision (m): of several replaced errors that nobody reads each is told, with enter, defer and contexts, too") {
    ears e;
    co_await error_of(entered_twice());
    co_await turns(2);
    EXPECT_EQ(e.count("inner exit"), 1u);
    EXPECT_EQ(e.count("body failed"), 1u);
    co_await error_of(deferred());
    co_await turns(2);
    EXPECT_EQ(e.count("body failed"), 2u);
    auto body = [] { return fails("body failed"); };
    co_await error_of(aio::with(context_that_replaces(), body));
    co_await turns(2);
    EXPECT_EQ(e.count("body failed"), 3u);
    EXPECT_EQ(e.told.size(), 4u);
}

AIO_TEST("decision (m): a replaced error that is read, by context() or to_string(), is not told") {
    ears e;
    {
        const std::exception_ptr error = co_await error_of(entered_twice());
        co_await turns(2);
        EXPECT_EQ(e.told.size(), 0u);  // error still holds it, so it may be read
        static_cast<void>(aio::async_trace(error).to_string());
    }
    co_await turns(2);
    EXPECT_EQ(e.told.size(), 0u);
    {
        const std::exception_ptr error = co_await error_of(deferred());
        static_cast<void>(aio::async_trace(error).context());
    }
    co_await turns(2);
    co_await error_of(fails());
    co_await turns(2);
    EXPECT_EQ(e.told.size(), 0u);
}

AIO_TEST(
    "decision (m): what is no loss is not told: a cancellation, what the new error carries, the same error, a "
    "swallowed one") {
    ears e;
    {  // a cancellation
        auto task = aio::create_task(entered_twice());
        co_await turns(1);
        task.cancel();
        const std::exception_ptr error = co_await error_of(task);
        const std::exception_ptr middle = aio::async_trace(error).context();
        EXPECT_TRUE(aio::detail::is_cancelled(aio::async_trace(middle).context()));
    }
    {  // timeout_error, with the cancellation
        const std::exception_ptr error = co_await error_of(aio::with(aio::timeout(1s), [] { return aio::sleep(1h); }));
        EXPECT_TRUE(aio::detail::is_cancelled(aio::async_trace(error).context()));
    }
    co_await error_of(aio::with(aio::task_group(), [] { return fails(); }));
    {  // an error that is nested in the new one
        struct nests {
            aio::coro<> enter() { co_return; }
            aio::coro<> exit(std::exception_ptr error) {
                try {
                    if (error) std::rethrow_exception(error);
                } catch (...) { std::throw_with_nested(std::logic_error("nesting")); }
                co_return;
            }
        };
        const std::exception_ptr error = co_await error_of(aio::with(nests(), [] { return fails("nested"); }));
        EXPECT_EQ(words(aio::async_trace(error).context()), "std::runtime_error: nested");
    }
    struct throws_on {
        aio::coro<> enter() { co_return; }
        aio::coro<> exit(std::exception_ptr error) {
            if (error) std::rethrow_exception(error);
            co_return;
        }
    };
    EXPECT_EQ(aio::async_trace(co_await error_of(aio::with(throws_on(), [] { return fails(); }))).context(), nullptr);
    struct swallows {
        aio::coro<> enter() { co_return; }
        aio::coro<bool> exit(std::exception_ptr) { co_return true; }
    };
    co_await aio::with(swallows(), [] { return fails(); });
    EXPECT_EQ(co_await error_of(aio::with(failing_exit("alone"), [] {})) == nullptr, false);
    co_await turns(3);
    EXPECT_EQ(e.told.size(), 0u) << e.told.front();
}

AIO_TEST("decision (m): it is told, too, if the error of its task went to a handler that did not look further") {
    ears e;
    aio::create_task(entered_twice());
    co_await turns(10);
    EXPECT_EQ(e.count("outer exit"), 1u);
    EXPECT_EQ(e.count("inner exit"), 1u);
    EXPECT_EQ(e.count("body failed"), 1u);
    EXPECT_EQ(e.told.size(), 3u);
}

struct slow_exit {
    aio::coro<> enter() { co_return; }
    aio::coro<> exit(std::exception_ptr) { co_await aio::sleep(1s); }
};

AIO_TEST(
    "decision (m): an error that a cancelled exit replaces is told where a group swallows the cancel, and is a "
    "timeout's context (trio 455)") {
    auto fails = []() -> aio::coro<> {
        co_await aio::sleep(0s);
        throw std::runtime_error("the body's");
    };
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler(
        [&told](const aio::exception_context& c) { told.push_back(aio::detail::describe(c.error)); });
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        aio::get_running_loop().call_later(500ms, [&tg] { tg.cancel(); });
        co_await aio::with(slow_exit(), fails);
    });
    co_await turns(2);
    EXPECT_EQ(told.size(), 1u);
    EXPECT_NE(told.empty() ? std::string::npos : told[0].find("the body's"), std::string::npos);
    told.clear();
    std::string text;
    try {
        co_await aio::with(aio::timeout(500ms), [&]() -> aio::coro<> { co_await aio::with(slow_exit(), fails); });
    } catch (const aio::timeout_error&) { text = aio::async_trace(std::current_exception()).to_string(); }
    co_await turns(2);
    aio::get_running_loop().set_exception_handler(nullptr);
    EXPECT_NE(text.find("the body's"), std::string::npos) << text;
    EXPECT_TRUE(told.empty());
}

AIO_TEST("the trace of an error that is awaited again and again does not grow") {
    auto fails = []() -> aio::coro<> {
        co_await aio::sleep(0s);
        throw std::runtime_error("once");
    };
    const auto t = aio::create_task(fails);
    std::string first, last;
    for (int i = 0; i < 100; ++i) {
        try {
            co_await t;
        } catch (const std::runtime_error&) { last = aio::async_trace(std::current_exception()).to_string(); }
        if (i == 0) first = last;
    }
    EXPECT_NE(first.find("once"), std::string::npos);
    EXPECT_EQ(last, first);
}

AIO_TEST("decision (m): a chain of replaced errors is no circle, and loses none") {
    ears e;
    {
        const std::exception_ptr a = co_await error_of(fails("a"));
        const std::exception_ptr b = co_await error_of(fails("b"));
        struct throws {
            std::exception_ptr error;
            explicit throws(std::exception_ptr t) : error(std::move(t)) {}
            aio::coro<> enter() { co_return; }
            aio::coro<> exit(std::exception_ptr) {
                std::rethrow_exception(error);
                co_return;
            }
        };
        auto again = [](std::exception_ptr error) -> aio::coro<> {
            std::rethrow_exception(error);
            co_return;
        };
        co_await error_of(aio::with(throws(b), [&] { return again(a); }));
        EXPECT_EQ(aio::async_trace(b).context(), a);
        co_await error_of(aio::with(throws(a), [&] { return again(b); }));
        EXPECT_EQ(aio::async_trace(a).context(), b);
        EXPECT_EQ(aio::async_trace(b).context(), nullptr);
        const std::exception_ptr c = co_await error_of(fails("c"));
        co_await error_of(aio::with(throws(a), [&] { return again(c); }));
        EXPECT_EQ(count_of(aio::async_trace(a).to_string(), "During handling"), 2u);
        EXPECT_EQ(aio::async_trace(b).context(), c);
    }
    co_await turns(2);
    EXPECT_EQ(e.told.size(), 0u);
}

AIO_TEST("decision (m): a second cancel in an exit replaces the body's error, which is told") {
    ears e;
    struct slow {
        aio::coro<> enter() { co_return; }
        aio::coro<> exit(std::exception_ptr) { co_await aio::sleep(1h); }
    };
    {
        auto task = aio::create_task(aio::with(slow(), [] { return fails("body failed"); }));
        co_await turns(3);
        task.cancel();
        co_await error_of(std::move(task));
    }
    co_await turns(2);
    EXPECT_EQ(e.count("body failed"), 1u);
    EXPECT_EQ(e.told.size(), 1u);
}

PLAIN_TEST(
    "decision (m): what is unread when run() ends is told there; the error that leaves run() is not, and has its "
    "trace") {
    std::vector<std::string> told;
    auto listen = [&] {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { told.push_back(words(c.error)); });
    };
    auto catches = [&]() -> aio::coro<> {
        listen();
        co_await error_of(entered_twice());
    };
    aio::run(catches());
    EXPECT_EQ(told.size(), 2u);
    told.clear();
    const int line = __LINE__ + 3;
    auto throws = [&]() -> aio::coro<> {
        listen();
        co_await entered_twice();
    };
    try {
        aio::run(throws());
        ADD_FAILURE();
    } catch (...) {
        const aio::async_trace trace(std::current_exception());
        EXPECT_EQ(lines_in(trace), lines(line, entered_line, exit_line));
        EXPECT_EQ(count_of(trace.to_string(), "During handling"), 2u);
    }
    EXPECT_EQ(told.size(), 0u);
}

PLAIN_TEST("decision (m): told on stderr where no loop runs: an error that left run() and was dropped unread") {
    testing::internal::CaptureStderr();
    std::thread([] {
        try {
            aio::run(entered_twice());
        } catch (const std::runtime_error&) {}
    }).join();
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_EQ(count_of(text, "aiocxx: an error was replaced by another at an exit"), 2u) << text;
    EXPECT_TRUE(contains(text, "std::runtime_error: body failed\n")) << text;
}

PLAIN_TEST("decision (m): what an earlier run() left unread is not told to the exception handler of the next") {
    EXPECT_THROW(aio::run(entered_twice()), std::runtime_error);
    testing::internal::CaptureStderr();
    std::size_t told = 1;
    auto listens = [&]() -> aio::coro<> {
        ears e;
        co_await error_of(fails());
        co_await turns(3);
        told = e.told.size();
    };
    aio::run(listens());
    EXPECT_EQ(told, 0u);
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_EQ(count_of(text, "an error was replaced by another at an exit"), 1u) << text;
    EXPECT_TRUE(contains(text, "body failed\n\nDuring handling") && text.ends_with("inner exit\n")) << text;
}

AIO_TEST("the default exception handler prints the trace, with what was replaced") {
    testing::internal::CaptureStderr();
    aio::create_task(entered_twice(), {.name = "Lost"});
    co_await turns(10);
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_TRUE(contains(text, "aiocxx: exception of a task was never retrieved (Lost)\n    Traceback")) << text;
    EXPECT_TRUE(contains(text, "        ")) << text;
    EXPECT_TRUE(contains(text, ":" + std::to_string(entered_line) + " in ")) << text;
    EXPECT_TRUE(contains(text, "\n    std::runtime_error: body failed\n")) << text;
    EXPECT_TRUE(text.ends_with("\n    std::runtime_error: outer exit\n")) << text;
    EXPECT_EQ(count_of(text, "aiocxx:"), 1u) << text;
}

aio::coro<> dive(int depth, std::string what) {
    if (depth == 0) throw std::runtime_error(what);
    co_await dive(depth - 1, what);
}

AIO_TEST("of a long way 32 frames at each end are kept, and it says how many are left out") {
    const int line = __LINE__ + 1;
    auto calls = []() -> aio::coro<> { co_await dive(1000, "deep"); };
    const std::exception_ptr error = co_await error_of(calls());
    const aio::async_trace trace(error);
    EXPECT_EQ(trace.frames().size(), 64u);
    EXPECT_EQ(trace.left_out(), 1002u - 64u);
    EXPECT_EQ(static_cast<int>(trace.frames().front().line), line);
    EXPECT_NE(trace.frames().back().line, trace.frames()[1].line);  // the innermost coroutine awaits nothing
    const std::string text = trace.to_string();
    EXPECT_TRUE(contains(text, "    ... 938 more frames ...\n")) << text;
    EXPECT_EQ(count_of(text, "more frames"), 1u);
    EXPECT_EQ(count_of(text, " in "), 64u);
    for (int depth = 60; depth < 70; ++depth) {
        const std::exception_ptr e = co_await error_of(dive(depth, "deep"));
        const aio::async_trace t(e);
        EXPECT_EQ(t.frames().size() + t.left_out(), static_cast<std::size_t>(depth) + 1);
        EXPECT_EQ(t.frames().size(), static_cast<std::size_t>(std::min(depth + 1, 64)));
    }
}

AIO_TEST("a long way that is taken up again where a task ended says what it has lost of it") {
    auto task = aio::create_task(dive(50, "deep"));
    auto climbs = [](auto& self, aio::task<> t, int depth) -> aio::coro<> {
        if (depth == 0) {
            co_await t;
        } else {
            co_await self(self, t, depth - 1);
        }
    };
    for (int i = 0; i < 3; ++i) {
        const std::exception_ptr error = co_await error_of(climbs(climbs, task, 200));
        const aio::async_trace far(error);
        EXPECT_EQ(far.frames().size() + far.left_out(), 51u + 201u);
        const aio::async_trace near(task.exception());
        EXPECT_EQ(near.frames().size() + near.left_out(), 51u);
        EXPECT_GE(near.frames().size(), 32u);
    }
}

struct counting_error : std::runtime_error {
    counted count;
    using std::runtime_error::runtime_error;
};
aio::coro<> fails_counted(std::string what) {
    co_await aio::sleep(0s);
    throw counting_error(what);
}

AIO_TEST("traces are kept while somebody holds the error") {
    const int before = counted::alive;
    {
        std::vector<aio::task<>> held;
        for (int i = 0; i < 1000; ++i) held.push_back(aio::create_task(fails_counted(std::to_string(i))));
        for (int i = 0; i < 1000; ++i) co_await error_of(fails_counted("in between"));
        EXPECT_EQ(counted::alive, before + 1000);
        for (auto& t : held) EXPECT_EQ(aio::async_trace(t.exception()).frames().size(), 1u);
        const std::exception_ptr kept = held[7].exception();
        held.clear();
        EXPECT_EQ(counted::alive, before + 1);
        for (int i = 0; i < 5000; ++i) co_await error_of(fails_counted("later"));
        EXPECT_EQ(aio::async_trace(kept).frames().size(), 1u);
    }
    EXPECT_EQ(counted::alive, before);
}

AIO_TEST("fault C5: an exception that is caught and dropped is gone at once, whatever it has come through") {
    const int before = counted::alive;
    const auto none_is_left = [&](const char* through) { EXPECT_EQ(counted::alive, before) << through; };
    try {
        co_await fails_counted("plain");
    } catch (const counting_error&) { EXPECT_EQ(counted::alive, before + 1); }
    none_is_left("a co_await");
    co_await error_of(aio::create_task(fails_counted("task")));
    none_is_left("a task");
    co_await error_of(aio::gather(fails_counted("a"), fails_counted("b"), aio::sleep_forever()));
    none_is_left("gather");
    co_await error_of(aio::race(fails_counted("a"), aio::sleep_forever()));
    none_is_left("race");
    co_await error_of(aio::wait_for(fails_counted("a"), 1h));
    none_is_left("wait_for");
    co_await error_of(aio::shield(fails_counted("a"), 1h));
    none_is_left("shield");
    const auto body = [](aio::task_group& tg) {
        tg.create_task(fails_counted("a"));
        tg.create_task(fails_counted("b"));
    };
    co_await error_of(aio::with(aio::task_group(), body));
    none_is_left("a task group");
    auto generates = []() -> aio::async_generator<int> {
        co_await fails_counted("generator");
        co_yield 1;
    };
    co_await error_of(aio::for_each(generates(), [](int) {}));
    none_is_left("a generator");
    co_await error_of(aio::with(failing_exit(""), [] { return fails_counted("with"); }));
    none_is_left("with");
    aio::future<> f;
    f.set_exception(counting_error("future"));
    co_await error_of(f);
    f = aio::future<>();
    none_is_left("a future");
}

AIO_TEST("fault C5: what an error has replaced is gone at the loop's next turn") {
    ears e;
    const int before = counted::alive;
    const auto replaced_error = [] {
        return aio::with(failing_exit("exit failed"), [] { return fails_counted("body failed"); });
    };
    co_await error_of(replaced_error());
    co_await turns(1);
    EXPECT_EQ(e.count("body failed"), 1u);
    EXPECT_EQ(counted::alive, before);
    static_cast<void>(aio::async_trace(co_await error_of(replaced_error())).to_string());
    EXPECT_EQ(counted::alive, before);  // the replaced error was read, so it is not told
    co_await turns(2);
    EXPECT_EQ(e.told.size(), 1u);
}

AIO_TEST("fault C5: a group that is replaced by its own member and that member do not keep each other") {
    ears e;
    const int before = counted::alive;
    struct throws_first {
        aio::coro<> enter() { co_return; }
        aio::coro<> exit(std::exception_ptr error) {
            std::exception_ptr first;
            try {
                std::rethrow_exception(error);
            } catch (const aio::exception_group& group) { first = group.exceptions().front(); }
            std::rethrow_exception(first);
            co_return;
        }
    };
    for (const int members : {1, 2}) {
        auto group = [members]() -> aio::coro<> {
            std::vector<std::exception_ptr> errors;
            for (int i = 0; i < members; ++i) errors.push_back(std::make_exception_ptr(counting_error("member")));
            throw aio::exception_group("group", std::move(errors));
            co_return;
        };
        co_await error_of(aio::with(throws_first(), group));
        co_await turns(2);
        EXPECT_EQ(counted::alive, before);
        EXPECT_EQ(e.told.size(), static_cast<std::size_t>(members - 1));  // the second member is lost
    }
}

AIO_TEST("fault C5: a chain of 20,000 errors that replaced each other goes without recursion") {
    const int before = counted::alive;
    {
        std::exception_ptr last = co_await error_of(fails_counted("first"));
        struct throws {
            std::exception_ptr error;
            explicit throws(std::exception_ptr t) : error(std::move(t)) {}
            aio::coro<> enter() { co_return; }
            aio::coro<> exit(std::exception_ptr) {
                std::rethrow_exception(error);
                co_return;
            }
        };
        for (int i = 0; i < 20'000; ++i) {
            const std::exception_ptr next = std::make_exception_ptr(counting_error("next"));
            const auto again = [&]() -> aio::coro<> {
                std::rethrow_exception(last);
                co_return;
            };
            co_await error_of(aio::with(throws(next), again));
            static_cast<void>(aio::async_trace(next).context());
            last = next;
        }
        EXPECT_EQ(counted::alive, before + 20'001);
    }
    EXPECT_EQ(counted::alive, before);
}

AIO_REAL_TEST("fault C5: another thread may be the last to hold an exception, also when that of its trace has ended") {
    const int before = counted::alive;
    for (int i = 0; i < 50; ++i) {
        std::exception_ptr error = co_await error_of(aio::with(failing_exit(""), [] { return fails_counted("here"); }));
        co_await aio::to_thread([&] { error = nullptr; });
        EXPECT_EQ(counted::alive, before);
    }
    std::exception_ptr from_thread;
    std::thread([&] {
        try {
            aio::run(fails_counted("there"));
        } catch (...) { from_thread = std::current_exception(); }
    }).join();
    EXPECT_EQ(counted::alive, before + 1);
    EXPECT_TRUE(aio::async_trace(from_thread).frames().empty());
    from_thread = nullptr;
    EXPECT_EQ(counted::alive, before);
}

AIO_TEST("fault C5: nothing refers to a plugin whose exception was caught, when it is unloaded") {
    std::string path(4096, '\0');
    const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
    AIO_REQUIRE(size > 0);
    path.resize(path.rfind('/', static_cast<std::size_t>(size)) + 1);
    path += "libtest_plugin_throws.so";
    void* const plugin = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    AIO_REQUIRE(plugin);
    const auto throws = reinterpret_cast<void (*)()>(::dlsym(plugin, "test_plugin_throws"));
    AIO_REQUIRE(throws);
    auto calls = [throws]() -> aio::coro<> {
        co_await aio::sleep(0s);
        throws();
    };
    {
        const std::exception_ptr error = co_await error_of(calls());
        EXPECT_EQ(words(error).substr(words(error).find(": ")), ": from a plugin");
        EXPECT_EQ(aio::async_trace(error).frames().size(), 1u);
    }
    ::dlclose(plugin);
    EXPECT_EQ(::dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD), nullptr) << "it is still loaded";
    for (int i = 0; i < 100; ++i) EXPECT_EQ(aio::async_trace(co_await error_of(fails())).frames().size(), 1u);
}

struct own_manager {
    aio::coro<own_manager&> enter() {
        co_await aio::sleep(0s);
        co_return *this;
    }
    aio::coro<> exit(std::exception_ptr) { co_await aio::sleep(0s); }
};
aio::async_generator<int> gives_and_fails() {
    co_yield 1;
    co_await fails();
}
aio::coro<int> fails_with(int) {
    co_await fails();
    co_return 0;
}
aio::coro<> enters_and_fails() {
    co_await aio::enter(own_manager());
    co_await aio::defer([] {});
    co_await fails();
}
aio::context<int> own_context() {
    co_yield 1;
    co_await fails();
}

AIO_REAL_TEST("fault P14: what is shown of a trace is the user's, whatever of the library it came through") {
    const auto only_ours = [](const std::exception_ptr& error, const char* through) {
        const aio::async_trace trace(error);
        EXPECT_GE(trace.frames().size(), 1u) << through;
        for (const aio::call_frame& f : trace.frames()) {
            EXPECT_TRUE(std::string_view(f.file).ends_with("async_trace_test.cpp"))
                << through << ": " << f.file << " in " << f.function;
            EXPECT_FALSE(contains(f.function, "Frame*") || contains(f.function, "_Z")) << f.function;
        }
    };
    only_ours(co_await error_of(aio::create_task([] { return fails(); })), "create_task(f)");
    only_ours(co_await error_of(aio::create_task([](std::string s) { return fails(s); }, std::string("x"))),
        "create_task(f, arg)");
    only_ours(co_await error_of(aio::with(own_manager(), [] { return fails(); })), "with");
    only_ours(co_await error_of(aio::with(aio::timeout(1h), [] { return fails(); })), "a timeout");
    only_ours(co_await error_of(aio::with(own_context(), [] {})), "a context");
    only_ours(co_await error_of(aio::gather(fails(), fails())), "gather");
    only_ours(co_await error_of(aio::race(fails(), aio::sleep_forever())), "race");
    only_ours(co_await error_of(aio::wait_for(fails(), 1h)), "wait_for");
    only_ours(co_await error_of(aio::shield(fails())), "shield");
    only_ours(co_await error_of(aio::shield(fails(), 1h)), "shield with a deadline");
    only_ours(co_await error_of(aio::for_each(gives_and_fails(), [](int) {})), "for_each");
    const auto transformed = [] {
        return aio::for_each(gives_and_fails() | aio::views::transform([](int n) { return n; }), [](int) {});
    };
    only_ours(co_await error_of(transformed()), "a view");
    const auto concurrent = [] {
        return aio::for_each(gives_and_fails() | aio::views::concurrent(2, fails_with), [](int) {});
    };
    only_ours(co_await error_of(concurrent()), "a concurrent view");
    const auto merged = [] {
        return aio::for_each(aio::views::merge(gives_and_fails(), gives_and_fails()), [](int) {});
    };
    only_ours(co_await error_of(merged()), "merge");
    only_ours(co_await error_of(enters_and_fails()), "enter and defer");
    const std::exception_ptr group = co_await error_of(
        aio::with(aio::task_group(), [](aio::task_group& tg) { tg.create_task([] { return fails(); }); }));
    try {
        std::rethrow_exception(group);
    } catch (const aio::exception_group& errors) { only_ours(errors.exceptions().front(), "a task group"); }
    const std::string text = aio::async_trace(group).to_string();
    EXPECT_FALSE(contains(text, "aio::detail")) << text;
}

AIO_TEST("an error on its way through a slow exit keeps its trace, whatever fails meanwhile") {
    auto noisy = [](std::string) -> aio::coro<> {
        for (int i = 0; i < 300; ++i) co_await error_of(fails("noise"));
    };
    auto uses = [&]() -> aio::coro<> {
        co_await aio::defer(+[]() -> aio::coro<> {
            for (int i = 0; i < 300; ++i) co_await error_of(fails("noise"));
        });
        struct slow {
            aio::coro<> enter() { co_return; }
            aio::coro<> exit(std::exception_ptr) {
                for (int i = 0; i < 300; ++i) co_await error_of(fails("noise"));
            }
        };
        co_await aio::with(slow(), [] { return outer(); });
    };
    EXPECT_TRUE(contains(lines_in(co_await error_of(uses())), lines(outer_line, fails_line)));
    co_await noisy("");
}

AIO_TEST("an address that comes again is no old trace") {
    for (int i = 0; i < 1000; ++i) {
        const std::exception_ptr made = std::make_exception_ptr(std::runtime_error("made"));
        EXPECT_TRUE(aio::async_trace(made).frames().empty());
        EXPECT_EQ(aio::async_trace(co_await error_of(fails())).frames().size(), 1u);
    }
}

AIO_REAL_TEST(
    "another thread has traces of its own: an error that came there by thread_future has none, and nothing races") {
    const auto handle = aio::get_running_loop().handle();
    std::thread other([handle] {
        auto expect_no_trace = [&handle] {
            try {
                aio::run_coroutine_threadsafe(handle, outer()).get();
                ADD_FAILURE();
            } catch (...) {
                const aio::async_trace trace(std::current_exception());
                EXPECT_TRUE(trace.frames().empty());
                EXPECT_EQ(trace.to_string(), "std::runtime_error: boom\n");
            }
        };
        for (int i = 0; i < 100; ++i) expect_no_trace();
        auto own = []() -> aio::coro<> { co_await outer(); };
        try {
            aio::run(own());
        } catch (...) { EXPECT_EQ(aio::async_trace(std::current_exception()).frames().size(), 3u); }
        expect_no_trace();  // the same after this thread has had traces
    });
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(lines_in(co_await error_of(outer())), lines(outer_line, fails_line));
        co_await aio::sleep(100us);
    }
    co_await aio::to_thread([&] { other.join(); });
}

aio::coro<> many_exits() {
    co_await aio::enter(failing_exit("exit"));
    co_await aio::defer([]() -> aio::coro<> { co_await aio::sleep(1ms); });
    co_await aio::with(failing_exit(""), []() -> aio::coro<> {
        co_await aio::gather(aio::sleep(1ms), aio::sleep(2ms));
        co_await aio::sleep(1ms);
    });
}

PLAIN_TEST("rule 24: cancelled at every step, each trace ends with a line that was waited at, and nothing is told") {
    const int before = counted::alive;
    int told = 0;
    auto scenario = [&told]() -> aio::coro<> {
        const counted c;
        aio::get_running_loop().set_exception_handler([&](const aio::exception_context&) { ++told; });
        std::exception_ptr error;
        try {
            co_await many_exits();
        } catch (...) { error = std::current_exception(); }
        AIO_REQUIRE(error != nullptr);
        const aio::async_trace trace(error);
        EXPECT_GE(trace.frames().size(), 1u);
        if (aio::detail::is_cancelled(error)) std::rethrow_exception(error);
        EXPECT_EQ(words(error), "std::runtime_error: exit");
        EXPECT_TRUE(!trace.context() || aio::detail::is_cancelled(trace.context()));
    };
    const auto runs = aio::testing::cancel_at_every_step(scenario, [] {});
    EXPECT_GT(runs, 5u);
    EXPECT_EQ(told, 0);
    EXPECT_EQ(counted::alive, before);
}

PLAIN_TEST("decisions (l), (m): a forced end in the midst of an exit leaves nothing behind but what it names") {
    testing::internal::CaptureStderr();
    struct stuck {
        aio::event never;
        aio::coro<> enter() { co_return; }
        aio::coro<> exit(std::exception_ptr) { co_await never.wait(); }
    };
    static stuck manager;
    auto main = []() -> aio::coro<> { co_await aio::with(manager, [] { return fails("body failed"); }); };
    std::string what;
    try {
        aio::run(main());
    } catch (const aio::deadlock_error& e) { what = e.what(); }
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_TRUE(contains(what, "waiting for event to be set")) << what;
    EXPECT_EQ(count_of(text, "aiocxx:"), 1u) << text;  // a forced end's cancel replaced it
    EXPECT_TRUE(text.ends_with("std::runtime_error: body failed\n")) << text;
}

PLAIN_TEST("what nobody catches of run() is printed with its trace before the program ends") {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    auto uncaught = [] { std::thread([] { aio::run(outer()); }).join(); };
    EXPECT_DEATH(
        uncaught(), "nobody catches this error(.|\n)*most recent co_await last(.|\n)*fails(.|\n)*runtime_error: boom");
    const auto handler = std::get_terminate();
    EXPECT_THROW(aio::run(outer()), std::runtime_error);
    EXPECT_EQ(std::get_terminate(), handler);
}

}  // namespace

AIO_TEST("what an exit's error replaces without a loss is not told: nothing, a cancellation, the end of a generator") {
    ears e;
    EXPECT_EQ(words(co_await error_of(aio::with(failing_exit("exit failed"), []() -> aio::coro<> { co_return; }))),
        "std::runtime_error: exit failed");
    auto cancelled = aio::create_task(aio::with(failing_exit("exit failed"), [] { return aio::sleep_forever(); }));
    co_await turns(2);
    cancelled.cancel();
    EXPECT_EQ(words(co_await error_of(std::move(cancelled))), "std::runtime_error: exit failed");
    auto numbers = []() -> aio::async_generator<int> {
        co_await aio::enter(failing_exit("exit failed"));
        co_yield 1;
    };
    auto generator = numbers();
    co_await generator.next();
    EXPECT_EQ(words(co_await error_of(generator.aclose())), "std::runtime_error: exit failed");
    co_await turns(2);
    EXPECT_EQ(e.told.size(), 0u) << e.told.front();
}
