// Buckets: what is put is got, by revision; a watch gives what there is and then each change once, whatever happens.
#include "bucket_steps.hpp"
#include "jetstream_steps.hpp"

#include <set>

using namespace aio_test;
namespace jetstream = aio::jetstream;

namespace shop {

struct price {
    int cents = 0;
};
std::string to_bytes(const price& p) { return std::to_string(p.cents); }
void from_bytes(std::string_view bytes, price& p) { p.cents = std::stoi(std::string(bytes)); }

}  // namespace shop

namespace {

template<class Awaitable>
aio::coro<bool> refused(Awaitable write) {
    bool lost_the_race = false;
    try {
        co_await std::move(write);
    } catch (const jetstream::wrong_revision&) { lost_the_race = true; }
    co_return lost_the_race;
}

}  // namespace

AIO_REAL_TEST("what is put is got, with its revision, and is gone once it is erased") {
    co_await with_bucket({.history = 5}, [](nats_server&, jetstream::connection&, text_bucket& b) -> aio::coro<> {
        EXPECT_FALSE(co_await b.get("tea"));
        const std::uint64_t first = co_await b.put("tea", "42");
        const std::uint64_t second = co_await b.put("tea", "43");
        EXPECT_GT(second, first);
        auto e = co_await b.get("tea");
        AIO_REQUIRE(e);
        EXPECT_EQ(*e->value, "43");
        EXPECT_EQ(e->revision, second);
        EXPECT_EQ(e->key, "tea");
        EXPECT_GT(e->created.time_since_epoch(), std::chrono::hours(24 * 365 * 50));
        co_await b.erase("tea");
        EXPECT_FALSE(co_await b.get("tea"));
        std::string every;
        for (int i = 0; i < 256; ++i) every += static_cast<char>(i);
        for (std::size_t size : {0u, 1u, 2u, 3u, 256u}) {
            const std::string bytes = every.substr(256 - size);
            co_await b.put("a/b=c.D-_9", bytes);
            auto same = co_await b.get("a/b=c.D-_9");
            EXPECT_TRUE(same && *same->value == bytes) << size;
        }
        co_await b.purge("a/b=c.D-_9");
        EXPECT_FALSE(co_await b.get("a/b=c.D-_9"));
    });
}

AIO_REAL_TEST("create and update write only where nobody else has written") {
    co_await with_bucket({}, [](nats_server&, jetstream::connection&, text_bucket& b) -> aio::coro<> {
        const std::uint64_t first = co_await b.create("tea", "1");
        EXPECT_TRUE(co_await refused(b.create("tea", "2")));
        const std::uint64_t second = co_await b.update("tea", "2", first);
        EXPECT_TRUE(co_await refused(b.update("tea", "3", first)));
        EXPECT_TRUE(co_await refused(b.update("tea", "3", 0)));
        EXPECT_TRUE(co_await refused(b.erase("tea", first)));
        auto e = co_await b.get("tea");
        EXPECT_EQ(*e->value, "2");
        co_await b.erase("tea", second);
        co_await b.create("tea", "4");  // over the marker
        // Of many that count up at the same time, each one counts.
        co_await b.put("count", "0");
        auto count_up = [&]() -> aio::coro<> {
            for (bool done = false; !done;) {
                auto now = co_await b.get("count");
                const std::string next = std::to_string(std::stoi(*now->value) + 1);
                const bool lost = co_await refused(b.update("count", next, now->revision));
                done = !lost;
            }
        };
        std::vector<aio::coro<>> all;
        for (int i = 0; i < 10; ++i) all.push_back(count_up());
        co_await aio::gather(std::move(all));
        auto sum = co_await b.get("count");
        EXPECT_EQ(*sum->value, "10");
    });
}

AIO_REAL_TEST("keys() has the keys that have a value, by pattern") {
    co_await with_bucket({.history = 3}, [](nats_server&, jetstream::connection&, text_bucket& b) -> aio::coro<> {
        auto keys = co_await b.keys();
        EXPECT_TRUE(keys.empty());
        for (const char* key : {"tea.green", "tea.black", "coffee", "gone"}) co_await b.put(key, "x");
        co_await b.put("coffee", "y");
        co_await b.erase("gone");
        keys = co_await b.keys();
        EXPECT_EQ(keys, (std::vector<std::string>{"tea.green", "tea.black", "coffee"}));
        keys = co_await b.keys("tea.*");
        EXPECT_EQ(keys.size(), 2u);
    });
}

AIO_REAL_TEST("a watch gives what there is, says so, and gives each change") {
    co_await with_bucket({}, [](nats_server&, jetstream::connection&, text_bucket& b) -> aio::coro<> {
        auto empty = b.watch();
        EXPECT_EQ(co_await next_of(empty), "|");
        co_await b.put("tea", "1");
        co_await b.put("tea", "2");
        co_await b.put("gone", "x");
        co_await b.erase("gone");
        auto tea = b.watch("tea");
        EXPECT_EQ(co_await next_of(tea), "tea=2");
        EXPECT_EQ(co_await next_of(tea), "|");
        co_await b.put("coffee", "1");
        co_await b.erase("tea");
        EXPECT_EQ(co_await next_of(tea), "-tea");
        auto all = b.watch();
        EXPECT_EQ(co_await next_of(all), "coffee=1");
        EXPECT_EQ(co_await next_of(all), "|");
    });
}

AIO_REAL_TEST("a watch goes on over restarts of the server, and gives each revision once") {
    co_await with_bucket(
        {.history = 64}, [](nats_server& server, jetstream::connection&, text_bucket& b) -> aio::coro<> {
            constexpr int many = 60;
            auto changes = b.watch("n");
            EXPECT_EQ(co_await next_of(changes), "|");
            auto write = [&]() -> aio::coro<> {
                for (int i = 0; i < many; ++i) {
                    const std::string text = std::to_string(i);
                    co_await b.put("n", text);
                    if (i % 20 == 10) {
                        server.kill();
                        co_await server.start();
                    }
                }
            };
            aio::task<> writer = aio::create_task(write());
            for (int i = 0; i < many; ++i) {
                const std::string got = co_await next_of(changes);
                EXPECT_EQ(got, "n=" + std::to_string(i));
            }
            co_await writer;
        });
}

AIO_REAL_TEST("a watcher that does not read for long is given everything all the same") {
    co_await with_bucket({}, [](nats_server&, jetstream::connection&, text_bucket& b) -> aio::coro<> {
        auto changes = b.watch();
        EXPECT_EQ(co_await next_of(changes), "|");
        constexpr int many = 20'000;  // more than a watch holds
        auto write = [&](int from) -> aio::coro<> {
            for (int i = from; i < many; i += 50) {
                const std::string key = "k" + std::to_string(i);
                co_await b.put(key, "x");
            }
        };
        std::vector<aio::coro<>> all;
        for (int i = 0; i < 50; ++i) all.push_back(write(i));
        co_await aio::gather(std::move(all));
        std::set<std::string> keys;
        std::uint64_t last = 0;
        while (keys.size() < many) {
            auto e = co_await changes.next();
            AIO_REQUIRE(e);
            EXPECT_GT(e->revision, last);
            last = e->revision;
            EXPECT_TRUE(keys.insert(e->key).second);
        }
    });
}

AIO_REAL_TEST("keys and names that cannot be are refused before anything is sent") {
    co_await with_bucket({}, [](nats_server&, jetstream::connection& js, text_bucket& b) -> aio::coro<> {
        for (const char* key : {"", "a b", "a..b", ".a", "a.", "a.*", ">", "a\r\nb", "\xc3\xa4", "a$"}) {
            EXPECT_THROW(static_cast<void>(b.get(key)), std::invalid_argument) << key;
            EXPECT_THROW(static_cast<void>(b.put(key, "")), std::invalid_argument) << key;
        }
        EXPECT_THROW(static_cast<void>(b.watch("a.>.b")), std::invalid_argument);
        for (const char* name : {"", "a.b", "a b", "\xc3\xa4"}) {
            EXPECT_THROW(static_cast<void>(js.bucket<std::string>(name)), std::invalid_argument) << name;
        }
        EXPECT_THROW(static_cast<void>(js.bucket<std::string>("b", jetstream::bucket_options{.history = 65})),
            std::invalid_argument);
        EXPECT_THROW(static_cast<void>(b.lock("a b")), std::invalid_argument);
        EXPECT_THROW(static_cast<void>(b.lock("a", jetstream::lease_options{.lease = 1ms})), std::invalid_argument);
        co_return;
    });
}

AIO_REAL_TEST("a bucket is found again with what it has, other options are refused, and a removed one says so") {
    co_await with_bucket({.history = 2}, [](nats_server&, jetstream::connection& js, text_bucket& b) -> aio::coro<> {
        co_await b.put("tea", "42");
        auto read = [](jetstream::bucket<shop::price>& other) -> aio::coro<> {
            auto e = co_await other.get("tea");
            EXPECT_EQ(e->value->cents, 42);
            const shop::price dear{50};
            co_await other.update("tea", dear, e->revision);
            auto all = other.watch();
            auto first = co_await all.next();
            EXPECT_EQ(first->value->cents, 50);
        };
        co_await aio::with(js.bucket<shop::price>("prices"), read);
        std::string what;
        try {
            co_await aio::with(js.bucket<std::string>("prices", {.history = 3}), [](text_bucket&) {});
        } catch (const jetstream::error& e) { what = e.what(); }
        EXPECT_NE(what.find("a history of 2, not 3"), std::string::npos) << what;
        co_await js.remove_bucket("prices");
        co_await js.remove_bucket("prices");
        int status = 0;
        try {
            co_await b.get("tea");
        } catch (const jetstream::error& e) { status = e.status(); }
        EXPECT_EQ(status, 404);
    });
}

AIO_REAL_TEST("what other clients write is read: the stream and the headers are those of the NATS key-value store") {
    co_await with_bucket({.history = 3}, [](nats_server&, jetstream::connection& js, text_bucket& b) -> aio::coro<> {
        const jetstream::message m = co_await js.request("$JS.API.STREAM.INFO.KV_prices", "");
        for (const char* part : {R"("subjects":["$KV.prices.)", R"("max_msgs_per_subject":3)",
                 R"("allow_rollup_hdrs":true)", R"("deny_delete":true)", R"("allow_direct":true)"}) {
            EXPECT_NE(m.data.find(part), std::string::npos) << part << m.data;
        }
        co_await js.request("$KV.prices.tea", "7");
        auto e = co_await b.get("tea");
        EXPECT_EQ(*e->value, "7");
        const jetstream::headers marker("KV-Operation", "DEL");
        co_await js.request("$KV.prices.tea", "", {.headers = marker});
        EXPECT_FALSE(co_await b.get("tea"));
        co_await b.put("tea", "8");
        co_await b.put("tea", "9");
        co_await b.purge("tea");
        const jetstream::message after = co_await js.request("$JS.API.STREAM.INFO.KV_prices", "");
        EXPECT_NE(after.data.find("\"messages\":1,"), std::string::npos) << after.data;
    });
}

AIO_REAL_TEST("watches end when their bucket is left") {
    co_await with_bucket({}, [](nats_server&, jetstream::connection& js, text_bucket&) -> aio::coro<> {
        std::optional<aio::task<std::string>> waits;
        std::optional<aio::async_generator<jetstream::entry<std::string>>> watch;
        auto use = [&](text_bucket& other) -> aio::coro<> {
            watch.emplace(other.watch());
            EXPECT_EQ(co_await next_of(*watch), "|");
            waits.emplace(aio::create_task(next_of(*watch)));
            co_await aio::sleep(0s);
        };
        co_await aio::with(js.bucket<std::string>("other"), use);
        EXPECT_EQ(co_await *waits, "end");
    });
}

AIO_REAL_TEST("a cancel at every step of put, get, update, keys and watch leaves the bucket usable") {
    co_await with_bucket({}, [](nats_server&, jetstream::connection& js, text_bucket& b) -> aio::coro<> {
        auto work = [&b]() -> aio::coro<> {
            const std::uint64_t revision = co_await b.put("tea", "1");
            co_await b.get("tea");
            co_await b.update("tea", "2", revision);
            co_await b.keys();
            auto changes = b.watch("tea");
            co_await next_of(changes);
        };
        auto after = [&js](int step) -> aio::coro<> {
            EXPECT_EQ(js.statistics().requests, 0u) << step;
            EXPECT_EQ(js.statistics().subscriptions, 0u) << step;
            co_return;
        };
        co_await cancelled_at_every_step(work, after);
        const std::uint64_t revision = co_await b.put("tea", "3");
        auto e = co_await b.get("tea");
        EXPECT_EQ(e->revision, revision);
    });
}
