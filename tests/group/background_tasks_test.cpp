#include <aio/background_tasks.hpp>

#include "aio_test.hpp"

#include <memory>
#include <optional>

using aio_test::counted;
using aio_test::journal;

namespace {

aio::coro<int> number(int n) {
    co_await aio::sleep(1s);
    co_return n;
}

aio::coro<> fails_after(aio::delay d, std::string text) {
    co_await aio::sleep(d);
    throw std::runtime_error(text);
}

/// Collects what the exception handler is told.
struct told {
    std::vector<std::string> errors;
    told() {
        aio::get_running_loop().set_exception_handler([this](const aio::exception_context& c) {
            try {
                if (c.error) std::rethrow_exception(c.error);
            } catch (const std::exception& e) { errors.push_back(e.what()); }
        });
    }
    ~told() { aio::get_running_loop().set_exception_handler(nullptr); }
};

aio::coro<> ignores_a_cancel(aio::future<> end, journal& log) {
    try {
        co_await aio::sleep_forever();
    } catch (const aio::cancelled_error&) { log("cancelled"); }
    co_await end;
    log("ended");
}

}  // namespace

AIO_TEST("background tasks run, are counted, and are discarded when they are done") {
    aio::background_tasks bg;
    EXPECT_TRUE(bg.empty());
    aio::task<int> a = bg.create_task(number(1));
    aio::task<int> b = bg.create_task(number(2), {.name = "second"});
    EXPECT_EQ(b.name(), "second");
    EXPECT_EQ(bg.size(), 2u);
    EXPECT_EQ(co_await a, 1);
    EXPECT_EQ(co_await b, 2);
    EXPECT_EQ(bg.size(), 0u);
    co_await bg.shutdown();
}

AIO_TEST("background tasks take functions with arguments, which live in the task") {
    aio::background_tasks bg;
    int sum = 0;
    for (int i = 0; i < 3; ++i) {
        auto held = std::make_unique<int>(i);
        auto body = [&sum, held = std::move(held)](int more) -> aio::coro<> {
            co_await aio::sleep(1s);
            sum += *held + more;
        };
        bg.create_task(std::move(body), 10);
    }
    auto named = bg.create_task({.name = "plain"}, [](int n) { return n; }, 5);
    EXPECT_EQ(named.name(), "plain");
    auto slept = bg.create_task(aio::sleep(2s));
    co_await slept;
    EXPECT_EQ(sum, 33);
    EXPECT_EQ(co_await named, 5);
    EXPECT_EQ(bg.size(), 0u);
}

AIO_TEST("shutdown cancels all and waits until they have ended") {
    aio::background_tasks bg;
    journal log;
    aio::future<> end;
    bg.create_task(ignores_a_cancel, end, std::ref(log));
    auto other = bg.create_task(number(1));
    co_await aio_test::turns(2);
    auto closing = aio::create_task(bg.shutdown());
    co_await aio_test::turns(5);
    auto closing_too = aio::create_task(bg.shutdown());  // the clean-up that is under way goes on (rule 12)
    co_await aio_test::turns(5);
    EXPECT_TRUE(other.cancelled());
    EXPECT_FALSE(closing.done());
    EXPECT_EQ(bg.size(), 1u);
    end.set_result();
    co_await closing;
    co_await closing_too;
    EXPECT_EQ(log.text(), "cancelled ended");
    EXPECT_EQ(bg.size(), 0u);
    co_await bg.shutdown();
}

AIO_TEST("a background task that was not started when shutdown came never runs") {
    aio::background_tasks bg;
    bool ran = false;
    auto t = bg.create_task([&ran] { ran = true; });
    co_await bg.shutdown();
    EXPECT_TRUE(t.cancelled());
    EXPECT_FALSE(ran);
}

AIO_TEST("rule 33: an error of a background task goes to the exception handler, unless its handle fetches it") {
    told handler;
    aio::background_tasks bg;
    bg.create_task(fails_after(1s, "nobody looks"));
    auto watched = bg.create_task(fails_after(1s, "somebody looks"));
    std::string caught;
    try {
        co_await watched;
    } catch (const std::runtime_error& e) { caught = e.what(); }
    EXPECT_EQ(caught, "somebody looks");
    EXPECT_EQ(handler.errors, std::vector<std::string>{"nobody looks"});
    EXPECT_EQ(bg.size(), 0u);
}

AIO_TEST("errors during shutdown go to the exception handler, handle or not") {
    told handler;
    aio::background_tasks bg;
    auto fails = [](std::string text) -> aio::coro<> {
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) {}
        throw std::runtime_error(text);
    };
    auto a = bg.create_task(fails, "first");
    bg.create_task(fails, "second");
    co_await aio_test::turns(2);
    co_await bg.shutdown();
    EXPECT_EQ(handler.errors, (std::vector<std::string>{"first", "second"}));
    EXPECT_TRUE(a.done());
}

AIO_TEST("after a shutdown, and during it, no task is taken; the coroutine is closed") {
    counted::alive = 0;
    aio::background_tasks bg;
    std::string error;
    auto body = [&]() -> aio::coro<> {
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) {
            try {
                bg.create_task([](counted) {}, counted(1));
            } catch (const std::logic_error& e) { error = e.what(); }
        }
    };
    bg.create_task(body);
    co_await aio_test::turns(2);
    co_await bg.shutdown();
    EXPECT_NE(error.find("shut down"), std::string::npos);
    EXPECT_THROW(bg.create_task(number(1)), std::logic_error);
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("a background task cannot shut down its own set") {
    aio::background_tasks bg;
    auto body = [&bg]() -> aio::coro<std::string> {
        try {
            co_await bg.shutdown();
        } catch (const std::logic_error& e) { co_return e.what(); }
        co_return "";
    };
    auto t = bg.create_task(body);
    const std::string error = co_await t;
    EXPECT_NE(error.find("cannot shut down"), std::string::npos);
}

AIO_TEST("a cancel neither prevents nor interrupts a shutdown of background tasks: it stays pending") {
    aio::background_tasks bg;
    journal log;
    aio::future<> end;
    bg.create_task(ignores_a_cancel, end, std::ref(log));
    co_await aio_test::turns(2);
    auto closes = [&]() -> aio::coro<> {
        aio::current_task().cancel();
        co_await bg.shutdown();
        log("closed");
        co_await aio::sleep(1h);
        log("never");
    };
    auto closing = aio::create_task(closes);
    co_await aio_test::turns(3);
    closing.cancel();
    co_await aio_test::turns(3);
    EXPECT_FALSE(closing.done());
    end.set_result();
    co_await aio_test::turns(4);
    EXPECT_TRUE(closing.cancelled());
    EXPECT_EQ(log.text(), "cancelled ended closed");
}

AIO_TEST("background tasks destroyed with tasks left let them go on") {
    int done = 0;
    aio::task<int> kept;
    {
        aio::background_tasks bg;
        kept = bg.create_task(number(4));
        bg.create_task([&done]() -> aio::coro<> {
            co_await aio::sleep(1s);
            ++done;
        });
    }
    EXPECT_EQ(co_await kept, 4);
    co_await aio_test::turns(2);
    EXPECT_EQ(done, 1);
}

AIO_TEST("background tasks destroyed while a shutdown waits: it still ends") {
    std::optional<aio::background_tasks> bg(std::in_place);
    journal log;
    aio::future<> end;
    bg->create_task(ignores_a_cancel, end, std::ref(log));
    co_await aio_test::turns(2);
    auto closing = aio::create_task(bg->shutdown());
    co_await aio_test::turns(2);
    bg.reset();
    end.set_result();
    co_await closing;
    EXPECT_EQ(log.text(), "cancelled ended");
}

AIO_TEST("background tasks are a context manager that gives itself, and are shut down at the end") {
    aio::task<> inside;
    auto body = [&inside](aio::background_tasks& bg) {
        inside = bg.create_task(aio::sleep_forever());
        return bg.size();
    };
    EXPECT_EQ(co_await aio::with(aio::background_tasks(), body), 1u);
    EXPECT_TRUE(inside.cancelled());
    auto scope = []() -> aio::coro<aio::task<>> {
        auto& bg = co_await aio::enter(aio::background_tasks());
        co_return bg.create_task(aio::sleep_forever());
    };
    aio::task<> left = co_await scope();
    EXPECT_TRUE(left.cancelled());
}

AIO_TEST("background tasks can be moved") {
    aio::background_tasks first;
    first.create_task(number(1));
    aio::background_tasks second(std::move(first));
    EXPECT_EQ(second.size(), 1u);
    EXPECT_EQ(first.size(), 0u);
    EXPECT_THROW(first.create_task(number(2)), std::logic_error);
    co_await second.shutdown();
}

AIO_TEST("a thousand background tasks leave nothing behind") {
    counted::alive = 0;
    aio::background_tasks bg;
    for (int i = 0; i < 1000; ++i) {
        auto body = [](counted c, int n) -> aio::coro<> {
            co_await aio::sleep(1ms * (n % 7));
            static_cast<void>(c);
        };
        bg.create_task(body, counted(i), i);
        if (i % 10 == 0) co_await aio_test::turns(1);
    }
    co_await aio::sleep(3ms);
    co_await bg.shutdown();
    EXPECT_EQ(counted::alive, 0);
    EXPECT_EQ(bg.size(), 0u);
}

PLAIN_TEST("a scope of background tasks cancelled at every step ends all of them") {
    counted::alive = 0;
    auto scenario = []() -> aio::coro<> {
        aio::background_tasks bg;
        std::exception_ptr error;
        auto body = [](counted) -> aio::coro<> {
            co_await aio_test::turns(2);
            co_await aio::sleep(1s);
        };
        try {
            for (int i = 0; i < 3; ++i) {
                bg.create_task(body, counted(i));
                co_await aio_test::turns(1);
            }
        } catch (...) { error = std::current_exception(); }
        co_await bg.shutdown();
        EXPECT_EQ(bg.size(), 0u);
        if (error) std::rethrow_exception(error);
    };
    const auto runs = aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); });
    EXPECT_GT(runs, 5u);
}

AIO_TEST("background_tasks that were moved from say so") {
    aio::background_tasks bg;
    const aio::background_tasks other = std::move(bg);
    EXPECT_THROW(co_await bg.shutdown(), std::logic_error);
    EXPECT_THROW(bg.create_task(number(1)), std::logic_error);
    EXPECT_EQ(bg.size(), 0u);
}
