#include "aio_test.hpp"

#include <aio/async_generator.hpp>

#include <memory>
#include <optional>

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

namespace {

aio::async_generator<int> count(int n) {
    for (int i = 0; i < n; ++i) co_yield i;
}

aio::async_generator<int> slowly(int n) {
    for (int i = 0; i < n; ++i) {
        co_await aio::sleep(1s);
        co_yield i;
    }
}

aio::coro<> note_later(std::reference_wrapper<journal> j, std::string what) {
    co_await aio::sleep(0s);
    j.get()(what + "-closed");
}

// A generator whose clean-up awaits.
aio::async_generator<int> with_cleanup(journal& j, std::string name, int n = 1000) {
    co_await aio::defer(&note_later, std::ref(j), name);
    for (int i = 0; i < n; ++i) co_yield i;
}

/// Collects what the loop's exception handler is told while this object lives.
struct told {
    std::vector<std::string> messages;
    told() {
        aio::get_running_loop().set_exception_handler([this](const aio::exception_context& c) {
            std::string text = c.message;
            if (c.error) {
                try {
                    std::rethrow_exception(c.error);
                } catch (const std::exception& e) { text += std::string(": ") + e.what(); }
            }
            messages.push_back(text);
        });
    }
    ~told() { aio::get_running_loop().set_exception_handler(nullptr); }
};

// ---- items ----

AIO_TEST("next() gives the items one after another, and null at the end, again and again") {
    auto numbers = count(3);
    int sum = 0;
    while (auto n = co_await numbers.next()) { sum += *n + 1; }
    EXPECT_EQ(sum, 6);
    EXPECT_TRUE(co_await numbers.next() == nullptr);
    EXPECT_TRUE(co_await numbers.next() == nullptr);
}

AIO_TEST("a generator awaits between its items, and others run meanwhile") {
    auto other = aio::create_task([]() -> aio::coro<int> {
        int turns = 0;
        for (; turns < 3; ++turns) co_await aio::sleep(500ms);
        co_return turns;
    });
    std::vector<int> seen;
    auto numbers = slowly(3);
    while (auto n = co_await numbers.next()) { seen.push_back(*n); }
    EXPECT_EQ(seen, (std::vector<int>{0, 1, 2}));
    EXPECT_TRUE(other.done());
}

AIO_TEST("an item that is an lvalue is copied: the consumer may move it away, the generator's variable stays") {
    auto growing = []() -> aio::async_generator<std::string> {
        std::string text;
        for (int i = 0; i < 3; ++i) {
            text += "a long text that is on the heap, ";
            co_yield text;
        }
    };
    auto texts = growing();
    std::vector<std::size_t> sizes;
    while (auto text = co_await texts.next()) {
        const std::string taken = std::move(*text);
        sizes.push_back(taken.size());
    }
    EXPECT_EQ(sizes, (std::vector<std::size_t>{33, 66, 99}));
}

AIO_TEST(
    "a small item is the consumer's own copy; it needs no default constructor, and may be converted, aligned or "
    "braced") {
    struct alignas(16) point {
        point(int x_, int y_) : x(x_), y(y_) {}
        int x, y;
    };
    auto walk = []() -> aio::async_generator<point> {
        point here(1, 2);
        co_yield here;
        co_yield here;  // the consumer has changed its own copy
        co_yield {5, 6};
    };
    auto points = walk();
    point* p = co_await points.next();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % 16, 0u);
    p->x = 10;
    p = co_await points.next();
    EXPECT_EQ(p->x, 1);
    p = co_await points.next();
    EXPECT_EQ(p->x + p->y, 11);
    EXPECT_TRUE(co_await points.next() == nullptr);

    auto widened = []() -> aio::async_generator<long> {
        co_yield 1;
        const long two = 2;
        co_yield two;
    };
    auto longs = widened();
    std::vector<long> seen;
    while (const long* n = co_await longs.next()) { seen.push_back(*n); }
    EXPECT_EQ(seen, (std::vector<long>{1, 2}));
}

AIO_TEST("items may be move-only, converted, references and const references") {
    auto owned = []() -> aio::async_generator<std::unique_ptr<int>> {
        co_yield std::make_unique<int>(7);
        auto second = std::make_unique<int>(8);
        co_yield std::move(second);
    };
    auto pointers = owned();
    auto first = co_await pointers.next();
    std::unique_ptr<int> taken = std::move(*first);
    EXPECT_EQ(*taken, 7);
    auto second = co_await pointers.next();
    EXPECT_EQ(**second, 8);

    auto words = []() -> aio::async_generator<std::string> {
        co_yield "one";
        co_yield std::string("two");
    };
    auto w = words();
    auto one = co_await w.next();
    EXPECT_EQ(one->size(), 3u);
    EXPECT_EQ(*one, "one");

    std::vector<int> numbers{1, 2, 3};
    auto refer = [](std::vector<int>& v) -> aio::async_generator<int&> {
        for (int& n : v) co_yield n;
    };
    auto r = refer(numbers);
    while (auto n = co_await r.next()) { *n *= 2; }
    EXPECT_EQ(numbers, (std::vector<int>{2, 4, 6}));

    auto constant = [](const std::vector<int>& v) -> aio::async_generator<const int&> {
        for (const int& n : v) co_yield n;
    };
    auto c = constant(numbers);
    const int* at = co_await c.next();
    EXPECT_EQ(at, numbers.data());
}

AIO_TEST("nothing runs before the first next(), and arguments live as long as the generator") {
    bool ran = false;
    {
        auto lazy = [](bool& r, counted) -> aio::async_generator<int> {
            r = true;
            co_yield 1;
        };
        auto never = lazy(ran, counted(1));
        EXPECT_EQ(counted::alive.load(), 1);
        auto moved = std::move(never);
        EXPECT_TRUE(co_await never.next() == nullptr);
        EXPECT_EQ(counted::alive.load(), 1);
        EXPECT_FALSE(ran);
    }
    EXPECT_EQ(counted::alive.load(), 0);
    EXPECT_FALSE(ran);
}

AIO_TEST("a generator may be moved between two items, and while its next item is awaited") {
    auto numbers = slowly(3);
    EXPECT_EQ(*co_await numbers.next(), 0);
    auto moved = std::move(numbers);
    auto waiting = aio::create_task([&]() -> aio::coro<int> {
        auto n = co_await moved.next();
        co_return *n;
    });
    co_await turns(2);
    auto again = std::move(moved);
    EXPECT_EQ(co_await waiting, 1);
    EXPECT_EQ(*co_await again.next(), 2);
    EXPECT_TRUE(co_await again.next() == nullptr);
}

AIO_TEST("an empty generator has ended already") {
    aio::async_generator<int> none;
    EXPECT_TRUE(co_await none.next() == nullptr);
    co_await none.aclose();
}

AIO_TEST("next() can be given to create_task and to another task") {
    auto numbers = slowly(2);
    auto first = aio::create_task(numbers.next());
    int* n = co_await first;
    EXPECT_EQ(*n, 0);
    auto second = aio::create_task([&]() -> aio::coro<int> { co_return *co_await numbers.next(); });
    EXPECT_EQ(co_await second, 1);
}

AIO_TEST("decision (j): a million items neither grow the stack nor starve others") {
    int others = 0;
    auto other = aio::create_task([&]() -> aio::coro<> {
        for (;;) {
            ++others;
            co_await aio::sleep(0s);
        }
    });
    long sum = 0;
    auto numbers = count(1'000'000);
    while (auto n = co_await numbers.next()) { sum += *n; }
    EXPECT_EQ(sum, 499999500000L);
    EXPECT_GT(others, 1000);
    other.cancel();
}

aio::async_generator<int> nested(int depth) {
    if (depth == 0) {
        for (int i = 0; i < 3; ++i) co_yield i;
    } else {
        auto inner = nested(depth - 1);
        while (auto n = co_await inner.next()) { co_yield *n; }
    }
}

AIO_TEST("decision (j): generators in generators, deeper than the budget of a step") {
    auto deep = nested(1000);
    int sum = 0;
    while (auto n = co_await deep.next()) { sum += *n; }
    EXPECT_EQ(sum, 3);
}

AIO_TEST("a next() beyond the step's budget is no checkpoint: a pending cancel waits for the next one") {
    auto subject = aio::create_task([]() -> aio::coro<int> {
        aio::current_task().cancel();
        int last = 0;
        auto numbers = count(1000);
        while (auto n = co_await numbers.next()) { last = *n; }
        EXPECT_EQ(last, 999);
        co_await aio::sleep(0s);
        co_return last;
    });
    co_await aio::sleep(0s);
    while (!subject.done()) co_await aio::sleep(0s);
    EXPECT_TRUE(subject.cancelled());
}

// ---- errors ----

aio::async_generator<int> failing() {
    co_yield 1;
    throw std::runtime_error("broken");
}

AIO_TEST("rule 159: an exception leaves through the iteration and ends the generator: the next next() is the end") {
    auto g = failing();
    EXPECT_EQ(*co_await g.next(), 1);
    std::string what;
    try {
        co_await g.next();
    } catch (const std::runtime_error& e) { what = e.what(); }
    EXPECT_EQ(what, "broken");
    EXPECT_TRUE(co_await g.next() == nullptr);
    EXPECT_TRUE(co_await g.next() == nullptr);
    co_await g.aclose();
}

AIO_TEST(
    "rule 159: an exception after an await, and one before the first item, leave too; the arguments are gone then") {
    auto late = [](counted) -> aio::async_generator<int> {
        co_await aio::sleep(1s);
        throw std::runtime_error("late");
        co_yield 1;
    };
    auto g = late(counted(1));
    std::string what;
    try {
        co_await g.next();
    } catch (const std::runtime_error& e) { what = e.what(); }
    EXPECT_EQ(what, "late");
    EXPECT_EQ(counted::alive.load(), 0);
}

AIO_TEST("rule 158: two next() at the same time are an error; the first is not disturbed") {
    auto numbers = slowly(2);
    auto first = aio::create_task([&]() -> aio::coro<int> { co_return *co_await numbers.next(); });
    co_await turns(2);
    std::string next_error, close_error;
    try {
        co_await numbers.next();
    } catch (const std::logic_error& e) { next_error = e.what(); }
    try {
        co_await numbers.aclose();
    } catch (const std::logic_error& e) { close_error = e.what(); }
    EXPECT_NE(next_error.find("running already"), std::string::npos);
    EXPECT_NE(close_error.find("running already"), std::string::npos);
    EXPECT_EQ(co_await first, 0);
    EXPECT_EQ(*co_await numbers.next(), 1);
}

AIO_TEST("a cancel reaches what the generator awaits, and ends it") {
    journal j;
    auto g = [](journal& log) -> aio::async_generator<int> {
        co_await aio::defer(&note_later, std::ref(log), std::string("g"));
        co_await aio::sleep(1h);
        co_yield 1;
    }(j);
    auto waiting = aio::create_task([&]() -> aio::coro<> { co_await g.next(); });
    co_await turns(2);
    waiting.cancel();
    bool cancelled = false;
    try {
        co_await waiting;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(j.text(), "g-closed");
    EXPECT_TRUE(co_await g.next() == nullptr);
}

// ---- aclose ----

AIO_TEST("rule 153: aclose() runs the generator's clean-up, awaits included") {
    journal j;
    auto g = with_cleanup(j, "g");
    EXPECT_EQ(*co_await g.next(), 0);
    co_await g.aclose();
    EXPECT_EQ(j.text(), "g-closed");
    EXPECT_TRUE(co_await g.next() == nullptr);
}

AIO_TEST("rule 153: clean-up runs at the end of the iteration, before next() gives null, last entered first") {
    journal j;
    auto two = [](journal& log) -> aio::async_generator<int> {
        co_await aio::defer(&note_later, std::ref(log), std::string("outer"));
        co_await aio::defer(&note_later, std::ref(log), std::string("inner"));
        co_yield 1;
        log("end");
    };
    auto g = two(j);
    while (auto n = co_await g.next()) { j(*n == 1 ? "item" : "?"); }
    EXPECT_EQ(j.text(), "item end inner-closed outer-closed");
}

AIO_TEST("decision (e): aclose() of a generator with nothing entered destroys it where it stands") {
    auto holds = []() -> aio::async_generator<int> {
        counted local(1);
        for (;;) {
            try {
                co_yield 1;
            } catch (...) {
                ADD_FAILURE() << "nothing is thrown into it";
                throw;
            }
        }
    };
    auto g = holds();
    co_await g.next();
    EXPECT_EQ(counted::alive.load(), 1);
    co_await g.aclose();
    EXPECT_EQ(counted::alive.load(), 0);
    EXPECT_TRUE(co_await g.next() == nullptr);
}

AIO_TEST("rule 154: yielding while being closed is an error; the clean-up runs all the same") {
    journal j;
    auto stubborn = [](journal& log) -> aio::async_generator<int> {
        co_await aio::defer(&note_later, std::ref(log), std::string("g"));
        counted local(1);
        for (;;) {
            try {
                co_yield 1;
            } catch (...) { log("caught"); }
        }
    };
    auto g = stubborn(j);
    co_await g.next();
    std::string what;
    try {
        co_await g.aclose();
    } catch (const std::logic_error& e) { what = e.what(); }
    EXPECT_NE(what.find("yielded an item while it was being closed"), std::string::npos);
    EXPECT_EQ(j.text(), "caught g-closed");
    EXPECT_EQ(counted::alive.load(), 0);
    EXPECT_TRUE(co_await g.next() == nullptr);
}

AIO_TEST("rule 154: catching the close and returning is fine") {
    journal j;
    auto graceful = [](journal& log) -> aio::async_generator<int> {
        co_await aio::defer(&note_later, std::ref(log), std::string("g"));
        try {
            co_yield 1;
        } catch (...) { log("caught"); }
        co_await aio::sleep(1s);
        log("returned");
    };
    auto g = graceful(j);
    co_await g.next();
    co_await g.aclose();
    EXPECT_EQ(j.text(), "caught returned g-closed");
}

AIO_TEST("rule 155: aclose() twice, after exhaustion, or of one that never began is harmless") {
    journal j;
    auto g = with_cleanup(j, "g", 1);
    while (auto n = co_await g.next()) { EXPECT_EQ(*n, 0); }
    co_await g.aclose();
    co_await g.aclose();
    EXPECT_EQ(j.text(), "g-closed");

    auto unstarted = with_cleanup(j, "unstarted");
    co_await unstarted.aclose();
    co_await unstarted.aclose();
    EXPECT_TRUE(co_await unstarted.next() == nullptr);
    EXPECT_EQ(j.text(), "g-closed");
}

aio::coro<> fail_later() {
    co_await aio::sleep(0s);
    throw std::runtime_error("the clean-up failed");
}

AIO_TEST("decision (m): an error of the clean-up leaves through aclose()") {
    auto g = []() -> aio::async_generator<int> {
        co_await aio::defer(&fail_later);
        co_yield 1;
    }();
    co_await g.next();
    std::string what;
    try {
        co_await g.aclose();
    } catch (const std::runtime_error& e) { what = e.what(); }
    EXPECT_EQ(what, "the clean-up failed");
    co_await g.aclose();
}

struct recording_manager {
    journal* log;
    aio::coro<int> enter() { co_return 5; }
    aio::coro<bool> exit(std::exception_ptr error) {
        co_await aio::sleep(0s);
        (*log)(error ? "exit-with-error" : "exit");
        co_return false;
    }
};

AIO_TEST("enter() works inside a generator; closed early, the manager sees that it did not come to its end") {
    journal j;
    auto entered = [](journal& log) -> aio::async_generator<int> {
        int& five = co_await aio::enter(recording_manager{&log});
        co_yield five;
    };
    auto whole = entered(j);
    int sum = 0;
    while (auto n = co_await whole.next()) { sum += *n; }
    EXPECT_EQ(sum, 5);
    auto early = entered(j);
    co_await early.next();
    co_await early.aclose();
    EXPECT_EQ(j.text(), "exit exit-with-error");
}

AIO_TEST("with and enter close a generator at a known place") {
    journal j;
    auto g = with_cleanup(j, "lvalue");
    co_await aio::with(g, [&](aio::async_generator<int>& numbers) -> aio::coro<> {
        EXPECT_EQ(*co_await numbers.next(), 0);
        j("body");
    });
    auto entering = [](journal& log) -> aio::coro<> {
        auto& numbers = co_await aio::enter(with_cleanup(log, "rvalue"));
        EXPECT_EQ(*co_await numbers.next(), 0);
    };
    co_await entering(j);
    EXPECT_EQ(j.text(), "body lvalue-closed rvalue-closed");
}

// ---- dropped ----

AIO_TEST("decision (e): a dropped generator with nothing entered is destroyed there and then") {
    {
        auto g = [](counted) -> aio::async_generator<int> {
            counted local(1);
            co_yield 1;
        }(counted(1));
        co_await g.next();
        EXPECT_EQ(counted::alive.load(), 2);
    }
    EXPECT_EQ(counted::alive.load(), 0);
}

AIO_TEST("rule 156: a dropped, unfinished generator with clean-up is closed later, by the loop") {
    journal j;
    {
        auto g = with_cleanup(j, "g");
        co_await g.next();
    }
    j("dropped");
    EXPECT_EQ(aio::all_tasks().size(), 1u);  // all_tasks() does not show the loop's own tasks
    co_await turns(3);
    EXPECT_EQ(j.text(), "dropped g-closed");
}

AIO_TEST("rule 156: debug mode tells of a dropped generator once, and names it") {
    aio::get_running_loop().set_debug(true);
    told t;
    journal j;
    {
        auto g = with_cleanup(j, "g");
        co_await g.next();
    }
    co_await turns(3);
    EXPECT_EQ(t.messages.size(), 1u);
    EXPECT_NE(t.messages.at(0).find("with_cleanup"), std::string::npos);
    EXPECT_NE(t.messages.at(0).find("async_generator_test.cpp"), std::string::npos);
    aio::get_running_loop().set_debug(false);
}

AIO_TEST("rule 156: an error of a dropped generator's clean-up goes to the exception handler") {
    told t;
    {
        auto g = []() -> aio::async_generator<int> {
            co_await aio::defer(&fail_later);
            co_yield 1;
        }();
        co_await g.next();
    }
    co_await turns(3);
    EXPECT_EQ(t.messages.size(), 1u);
    EXPECT_NE(t.messages.at(0).find("the clean-up failed"), std::string::npos);
}

AIO_TEST("a generator that is destroyed while its next item is awaited ends there, with an error") {
    auto g = std::make_unique<aio::async_generator<int>>(slowly(3));
    auto waiting = aio::create_task([&]() -> aio::coro<> { co_await g->next(); });
    co_await turns(2);
    g.reset();
    std::string what;
    try {
        co_await waiting;
    } catch (const std::logic_error& e) { what = e.what(); }
    EXPECT_NE(what.find("destroyed while its next item was awaited"), std::string::npos);
}

AIO_TEST("a generator that ends of itself after it was destroyed gives the end") {
    auto ends = [](journal& log) -> aio::async_generator<int> {
        co_await aio::defer(&note_later, std::ref(log), std::string("g"));
        co_await aio::sleep(1s);
    };
    journal j;
    auto g = std::make_unique<aio::async_generator<int>>(ends(j));
    auto waiting = aio::create_task([&]() -> aio::coro<bool> { co_return co_await g->next() == nullptr; });
    co_await turns(2);
    g.reset();
    EXPECT_TRUE(co_await waiting);
    EXPECT_EQ(j.text(), "g-closed");
}

// ---- the loop's end ----

PLAIN_TEST("rule 157: the end of run() closes all generators concurrently and reports each error") {
    journal j;
    std::vector<std::string> told_errors;
    std::optional<aio::async_generator<int>> kept[3];
    auto closes = [](journal& log, std::string name, std::chrono::seconds takes) -> aio::async_generator<int> {
        auto clean_up = [](std::reference_wrapper<journal> out, std::string who,
                            std::chrono::seconds d) -> aio::coro<> {
            co_await aio::sleep(d);
            out.get()(who);
            throw std::runtime_error(who + " failed");
        };
        co_await aio::defer(clean_up, std::ref(log), name, takes);
        for (;;) co_yield 1;
    };
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) {
            try {
                std::rethrow_exception(c.error);
            } catch (const std::exception& e) { told_errors.push_back(e.what()); }
        });
        kept[0].emplace(closes(j, "slow", 3s));
        kept[1].emplace(closes(j, "quick", 1s));
        kept[2].emplace([](counted) -> aio::async_generator<int> { co_yield 1; }(counted(1)));
        for (auto& g : kept) co_await g->next();
    };
    aio::testing::run(main(), {.virtual_time = true});
    EXPECT_EQ(j.text(), "quick slow");
    EXPECT_EQ(told_errors, (std::vector<std::string>{"quick failed", "slow failed"}));
    EXPECT_EQ(counted::alive.load(), 0);
}

PLAIN_TEST("rule 144: generators are closed after the tasks that run() cancels have ended") {
    journal j;
    std::optional<aio::async_generator<int>> kept;
    auto hanging = [](journal& log) -> aio::coro<> {
        co_await aio::defer(&note_later, std::ref(log), std::string("task"));
        co_await aio::sleep_forever();
    };
    auto main = [&]() -> aio::coro<> {
        kept.emplace(with_cleanup(j, "generator"));
        co_await kept->next();
        aio::create_task(hanging(j));
        co_await aio::sleep(0s);
    };
    aio::testing::run(main(), {.virtual_time = true});
    EXPECT_EQ(j.text(), "task-closed generator-closed");
}

PLAIN_TEST(
    "rule 156: a generator that was dropped at the last moment is closed although run() cancels the task that would") {
    journal j;
    auto main = [&]() -> aio::coro<> {
        auto g = with_cleanup(j, "g");
        co_await g.next();
    };
    aio::testing::run(main(), {.virtual_time = true});
    EXPECT_EQ(j.text(), "g-closed");
}

PLAIN_TEST("a generator that another one owns is closed once, whoever comes first at the end of run()") {
    journal j;
    std::vector<std::string> told_errors;
    std::optional<aio::async_generator<int>> kept;
    auto outer = [](journal& log) -> aio::async_generator<int> {
        auto& inner = co_await aio::enter(with_cleanup(log, "inner"));
        while (auto n = co_await inner.next()) { co_yield *n; }
    };
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { told_errors.push_back(c.message); });
        kept.emplace(outer(j));
        co_await kept->next();
    };
    aio::testing::run(main(), {.virtual_time = true});
    EXPECT_EQ(j.text(), "inner-closed");
    EXPECT_TRUE(told_errors.empty());
}

PLAIN_TEST("a generator that a runner keeps between two runs goes on, or is closed with the runner") {
    journal j;
    {
        aio::runner r;
        std::optional<aio::async_generator<int>> goes_on, dropped;
        auto first = [&]() -> aio::coro<> {
            goes_on.emplace(with_cleanup(j, "goes-on"));
            dropped.emplace(with_cleanup(j, "dropped"));
            co_await goes_on->next();
            co_await dropped->next();
        };
        r.run(first());
        dropped.reset();
        auto second = [&]() -> aio::coro<int> {
            auto n = co_await goes_on->next();
            co_return *n;
        };
        EXPECT_EQ(r.run(second()), 1);
        EXPECT_EQ(j.text(), "");
        r.close();
    }
    EXPECT_EQ(j.entries.size(), 2u);
}

PLAIN_TEST("decision (l): after a forced end what is not closed is told, and left alone; its owner may go later") {
    journal j;
    std::optional<aio::async_generator<int>> kept;
    auto main = [&]() -> aio::coro<> {
        kept.emplace(with_cleanup(j, "g"));
        co_await kept->next();
        aio::future<int> never;
        co_await never;
    };
    testing::internal::CaptureStderr();
    EXPECT_THROW(aio::testing::run(main(), {.virtual_time = true}), aio::deadlock_error);
    const std::string told = testing::internal::GetCapturedStderr();
    EXPECT_NE(told.find("its clean-up has not run"), std::string::npos);
    EXPECT_NE(told.find("with_cleanup"), std::string::npos);
    kept.reset();
    EXPECT_EQ(j.text(), "");
}

// ---- for_each ----

AIO_TEST("for_each calls a plain or async function, with what it likes to take") {
    std::string seen;
    co_await aio::for_each(count(3), [&](int n) { seen += std::to_string(n); });
    co_await aio::for_each(count(3), [&](const int& n) -> aio::coro<> {
        co_await aio::sleep(0s);
        seen += std::to_string(n);
    });
    co_await aio::for_each(count(3), [&](auto& n) { seen += std::to_string(++n); });
    co_await aio::for_each(count(3), [&](auto&& n) { seen += std::to_string(n); });
    co_await aio::for_each(count(2), [&](int&& n) { seen += std::to_string(n); });
    auto owned = []() -> aio::async_generator<std::unique_ptr<int>> { co_yield std::make_unique<int>(9); };
    co_await aio::for_each(owned(), [&](std::unique_ptr<int> p) { seen += std::to_string(*p); });
    EXPECT_EQ(seen, "012012123012019");
}

AIO_TEST("for_each closes an rvalue and an lvalue at the end, by an error of the body, and when it is cancelled") {
    journal j;
    co_await aio::for_each(with_cleanup(j, "end", 2), [](int) {});
    EXPECT_EQ(j.text(), "end-closed");
    j.entries.clear();

    auto lvalue = with_cleanup(j, "error");
    std::string what;
    try {
        co_await aio::for_each(lvalue, [](int) { throw std::runtime_error("body"); });
    } catch (const std::runtime_error& e) { what = e.what(); }
    j(what);
    EXPECT_EQ(j.text(), "error-closed body");
    j.entries.clear();

    auto cancelled = aio::create_task([&]() -> aio::coro<> {
        co_await aio::for_each(with_cleanup(j, "cancel"), [](int) -> aio::coro<> { co_await aio::sleep(1h); });
    });
    co_await turns(2);
    cancelled.cancel();
    co_await turns(4);
    EXPECT_TRUE(cancelled.cancelled());
    EXPECT_EQ(j.text(), "cancel-closed");
}

// An iterable of the user's own: a class that has next().
class countdown {
public:
    explicit countdown(int from) : left_(from) {}
    aio::coro<std::optional<int>> next() {
        co_await aio::sleep(0s);
        if (left_ == 0) co_return std::nullopt;
        co_return left_--;
    }

private:
    int left_;
};
static_assert(aio::async_iterable<countdown>);
static_assert(aio::async_iterable<aio::async_generator<int>&>);
static_assert(!aio::async_iterable<std::vector<int>>);

AIO_TEST("for_each takes whatever has an awaitable next()") {
    int sum = 0;
    co_await aio::for_each(countdown(4), [&](int n) { sum += n; });
    EXPECT_EQ(sum, 10);
}

// ---- cancelled at every step ----

PLAIN_TEST("cancelled at every step, a generator and what it entered are closed, and nothing is left") {
    int opened = 0, closed = 0;
    auto source = [&](counted) -> aio::async_generator<counted> {
        ++opened;
        auto close = [](std::reference_wrapper<int> c) -> aio::coro<> {
            ++c.get();
            co_await aio::sleep(0s);
        };
        co_await aio::defer(close, std::ref(closed));
        for (int i = 0; i < 3; ++i) {
            co_await aio::sleep(1s);
            counted item(i);
            co_yield item;
        }
    };
    auto scenario = [&]() -> aio::coro<> {
        co_await aio::for_each(source(counted(1)), [](counted) -> aio::coro<> { co_await aio::sleep(10ms); });
        auto by_hand = source(counted(2));
        while (auto item = co_await by_hand.next()) { co_await aio::sleep(item->value * 1ms); }
        auto dropped = source(counted(3));
        co_await dropped.next();
    };
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [&] {
        EXPECT_EQ(opened, closed);
        EXPECT_EQ(counted::alive.load(), 0);
    });
    EXPECT_GT(runs, 15u);
}

// ---- a timeout or a task group may not span a co_yield ----

const char* const spans = "a task group or a timeout must not span a co_yield";

aio::context<int> limited() {
    co_await aio::enter(aio::timeout(20ms));
    int v = 1;
    co_yield v;
}
aio::context<int> grouped() {
    aio::task_group& tg = co_await aio::enter(aio::task_group());
    tg.create_task(aio::sleep_forever());
    int v = 1;
    co_yield v;
}
// Managers of the user's own around a timeout: enter() is a coroutine, or gives what the timeout's enter() gives.
struct limit_by_coroutine {
    aio::timeout t{20ms};
    aio::coro<> enter() { co_await t.enter(); }
    aio::coro<bool> exit(std::exception_ptr error) { co_return co_await t.exit(error); }
};
struct limit_by_hand {
    aio::timeout t{20ms};
    auto enter() { return t.enter(); }
    auto exit(std::exception_ptr error) { return t.exit(error); }
};

template<class Make>
aio::async_generator<int> inside(Make make) {
    auto manager = make();
    co_await aio::enter(std::move(manager));
    for (int i = 0;; ++i) co_yield i;
}
aio::async_generator<int> by_hand(std::shared_ptr<aio::timeout> t) {
    co_await t->enter();
    for (int i = 0;; ++i) co_yield i;
}

aio::coro<std::string> error_of_next(aio::async_generator<int>& g) {
    try {
        co_await g.next();
    } catch (const std::logic_error& e) {
        co_return e.what();
    } catch (const aio::exception_group& group) {  // what the task group throws
        co_return aio::detail::describe(group.exceptions().front());
    }
    co_return "no error";
}

AIO_TEST("fault C21: a timeout or task group inside something that a generator entered: the co_yield throws") {
    auto a = inside(&limited);
    auto b = inside(&grouped);
    auto c = inside([] { return limit_by_coroutine(); });
    auto d = inside([] { return limit_by_hand(); });
    auto e = by_hand(std::make_shared<aio::timeout>(20ms));
    for (auto* g : {&a, &b, &c, &d, &e}) {
        const std::string error = co_await error_of_next(*g);
        EXPECT_NE(error.find(spans), std::string::npos) << error;
        EXPECT_NE(error.find("async_generator_test.cpp"), std::string::npos) << error;
        EXPECT_EQ(co_await g->next(), nullptr);  // the generator has ended
    }
    co_await aio::sleep(1s);  // no timeout fires
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST(
    "fault C21: a task that goes on with a generator is not cancelled by a timeout that another one entered in it") {
    auto g = std::make_shared<aio::async_generator<int>>(inside(&limited));
    auto work = [g](bool first) -> aio::coro<> {
        if (!first) {
            co_await aio::sleep(60ms);
            co_return;
        }
        const std::string error = co_await error_of_next(*g);
        EXPECT_NE(error.find(spans), std::string::npos) << error;
    };
    co_await aio::create_task(work, true);
    co_await aio::create_task(work, false);
    co_await g->aclose();
}

AIO_TEST("fault C21: between two co_yields timeouts and groups are free, also in a context and in nested coroutines") {
    auto nested = [](aio::async_generator<int>& inner) -> aio::coro<int> {
        aio::timeout t(1s);
        co_await t.enter();
        auto item = co_await inner.next();  // inner yields inside the timeout, which is not in inner
        co_await t.exit(nullptr);
        co_return *item;
    };
    auto items = [&]() -> aio::async_generator<int> {
        auto inner = count(10);
        for (int i = 0; i < 3; ++i) {
            co_await aio::with(limited(), [] {});
            co_await aio::with(aio::task_group(), [](aio::task_group& tg) { tg.create_task(aio::sleep(1ms)); });
            co_await aio::wait_for(aio::sleep(1ms), 1s);
            const int value = co_await nested(inner);
            co_yield value;
            limit_by_hand manager;
            co_await aio::with(manager, [] {});
        }
    };
    auto g = items();
    for (int i = 0; i < 3; ++i) {  // each item is asked for by another task, inside its own timeout
        const int value = co_await aio::create_task(aio::wait_for(
            aio::create_task([](auto* from) -> aio::coro<int> { co_return *co_await from->next(); }, &g), 1s));
        EXPECT_EQ(value, i);
    }
    EXPECT_EQ(co_await g.next(), nullptr);
}

AIO_TEST("fault C21: a generator that catches the error and leaves the timeout may go on") {
    auto items = []() -> aio::async_generator<int> {
        aio::timeout t(1s);
        co_await t.enter();
        bool refused = false;
        try {
            co_yield 1;
        } catch (const std::logic_error&) { refused = true; }
        EXPECT_TRUE(refused);
        co_await t.exit(nullptr);
        co_yield 2;
        co_yield 3;
    };
    std::vector<int> got;
    co_await aio::for_each(items(), [&](int i) { got.push_back(i); });
    EXPECT_EQ(got, (std::vector<int>{2, 3}));
}

AIO_TEST("fault C21: a timeout that is entered by hand in a generator may outlive it") {
    auto t = std::make_shared<aio::timeout>(20ms);
    {
        auto g = by_hand(t);
        EXPECT_NE((co_await error_of_next(g)).find(spans), std::string::npos);
    }
    co_await t->exit(nullptr);  // exit() runs in the task that has entered the timeout
    co_await aio::sleep(1s);
    EXPECT_FALSE(t->expired());
}

}  // namespace
