// What happens to a bucket under its watches and locks: keys are purged, and the bucket itself is removed.
#include "bucket_steps.hpp"

using namespace aio_test;
namespace jetstream = aio::jetstream;

namespace {

/// The error with which this ends, after "404: " if there is no such thing any more.
template<class Work>
aio::coro<std::string> error_of(Work work) {
    std::string what = "none";
    try {
        co_await work();
    } catch (const jetstream::error& e) { what = (e.status() == 404 ? "404: " : "") + std::string(e.what()); }
    co_return what;
}

}  // namespace

AIO_REAL_TEST("keys that are purged or erased during a watch come once, and what they had before does not come") {
    co_await with_bucket({.history = 3}, [](nats_server&, jetstream::connection&, text_bucket& b) -> aio::coro<> {
        for (const char* text : {"1", "2", "3", "4", "5"}) {
            for (const char* key : {"a", "b", "gone"}) co_await b.put(key, text);
        }
        co_await b.purge("gone");
        auto changes = b.watch();
        EXPECT_EQ(co_await next_of(changes), "a=5");
        co_await b.purge("a");  // before the watch has given all that there is
        co_await b.erase("b");
        co_await b.put("a", "6");
        std::vector<std::string> seen;
        for (bool all = false; !all;) {
            const std::string next = co_await next_of(changes);
            all = next == "a=6";
            if (next != "|") seen.push_back(next);
        }
        // What was in the consumer's hands already when b was erased may have come.
        if (seen.front() == "b=5") seen.erase(seen.begin());
        EXPECT_EQ(seen, (std::vector<std::string>{"-a", "-b", "a=6"}));
        for (const char* expected : {"-a", "-a", "b=7"}) {
            if (expected[0] == '-') {
                co_await b.purge("a");  // which removes the mark that the purge before has left
            } else {
                co_await b.create("b", "7");
            }
            std::string next = co_await next_of(changes);
            if (next == "|") next = co_await next_of(changes);
            EXPECT_EQ(next, expected);
        }
    });
}

AIO_REAL_TEST("a bucket keeps as many values of a key as its history says, and a watch begins with the last one") {
    co_await with_bucket({.history = 2}, [](nats_server&, jetstream::connection& js, text_bucket& b) -> aio::coro<> {
        for (const char* text : {"1", "2", "3"}) co_await b.put("tea", text);
        co_await b.put("coffee", "1");
        const jetstream::message info = co_await js.request("$JS.API.STREAM.INFO.KV_prices", "");
        EXPECT_NE(info.data.find("\"messages\":3,"), std::string::npos) << info.data;
        auto changes = b.watch("tea");
        EXPECT_EQ(co_await next_of(changes), "tea=3");
        EXPECT_EQ(co_await next_of(changes), "|");
    });
}

AIO_REAL_TEST("a bucket that is removed under a watch and under a lock that is waited for says so") {
    co_await with_bucket({}, [](nats_server&, jetstream::connection& js, text_bucket& b) -> aio::coro<> {
        jetstream::lease_lock held = b.lock("x", {.lease = 60s});
        co_await held.acquire();
        auto watch = [&]() -> aio::coro<> {
            auto changes = b.watch("tea");
            EXPECT_EQ(co_await next_of(changes), "|");
            co_await js.remove_bucket("prices");
            co_await next_of(changes);
        };
        jetstream::lease_lock other = b.lock("x", {.lease = 60s});
        auto wait = [&]() -> aio::coro<> { co_await other.acquire(); };
        aio::task<std::string> waits = aio::create_task(error_of(wait));
        aio::task<std::string> watches = aio::create_task(error_of(watch));
        EXPECT_EQ(co_await watches, "404: jetstream: the bucket prices was removed");
        const std::string said = co_await waits;
        EXPECT_TRUE(said.starts_with("404: ")) << said;
        EXPECT_FALSE(other.held());
        const std::string keys = co_await error_of([&]() -> aio::coro<> { co_await b.keys(); });
        EXPECT_EQ(keys, "404: jetstream: the bucket prices was removed");
    });
}
