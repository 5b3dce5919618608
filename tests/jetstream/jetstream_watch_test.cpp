// What a watch of a bucket gives first, all that there is, while it is disturbed at each of its steps: over the model
// of nats_model.hpp, on virtual time.
#include "aio_test.hpp"
#include "nats_model.hpp"

#include <aio/jetstream.hpp>

#include <map>
#include <string>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_bucket = jetstream::bucket<std::string>;
using values = std::map<std::string, std::string>;

namespace {

constexpr jetstream::connect_options quick{.reconnect_wait = 5ms, .max_reconnect_wait = 50ms};

/// Writes, or erases if the value is empty, until a server has said that it is stored.
aio::coro<> write(text_bucket& b, std::string key, std::string value) {
    for (bool known = false; !known;) {
        try {
            if (value.empty()) {
                co_await b.erase(key);
            } else {
                co_await b.put(key, value);
            }
            known = true;
        } catch (const aio::timeout_error&) {}
    }
}

/// What is written while the watch begins: over keys that it has given, over keys that are still to come, new ones.
aio::coro<> write_beside(text_bucket& b) {
    for (const char* key : {"k0", "k6", "n0", "k1", "k2", "k5", "n1", "n0", "k6", "end"}) {
        co_await aio::sleep(1500us);
        const bool erases = std::string(key) == "k1" || std::string(key) == "k5";
        std::string name = key, value = erases ? "" : "new";
        co_await write(b, std::move(name), std::move(value));
    }
}

/// Reads a watch until it is up to date and the last key has come.
aio::coro<> read_all(text_bucket& b, model_bucket& there) {
    values state;
    std::uint64_t last = 0;
    bool up_to_date = false;
    const values before = there.values();
    auto changes = b.watch();
    while (!up_to_date || state.count("end") == 0) {
        auto e = co_await changes.next();
        AIO_REQUIRE(e);
        if (e->kind == jetstream::entry_kind::up_to_date) {
            EXPECT_FALSE(up_to_date);
            up_to_date = true;
            for (const auto& [key, value] : before) {
                EXPECT_TRUE(state.count(key) > 0 || there.values().count(key) == 0) << key;
            }
            continue;
        }
        EXPECT_GT(e->revision, last) << e->key;
        EXPECT_NE(e->value, "oldest") << e->key;  // it was written over before
        last = e->revision;
        if (e->kind == jetstream::entry_kind::erased) {
            EXPECT_NE(e->key, "k7");  // it was erased before
            state.erase(e->key);
        } else {
            state[e->key] = *e->value;
        }
    }
    EXPECT_EQ(state, there.values());
}

struct outcome {
    std::chrono::nanoseconds took{};  // until all was read
    bool failed = false;              // the watch threw
    bool cancelled = false;
};

/// Watches a bucket of eight keys while others are written, and calls disturb(model, task that reads) beside. If the
/// watch threw or was cancelled, another one reads all.
template<class Disturb>
aio::coro<outcome> disturbed(Disturb disturb) {
    nats_model model(1, 1);
    model.take_over();
    jetstream::connection& js = co_await aio::enter(jetstream::connect("nats://0", quick));
    const jetstream::bucket_options some{.history = 3};
    text_bucket& b = co_await aio::enter(js.bucket<std::string>("prices", some));
    for (char n = '0'; n <= '7'; ++n) {
        for (const char* text : {"oldest", "old"}) {
            std::string key = std::string("k") + n, value = text;
            co_await write(b, std::move(key), std::move(value));
        }
    }
    co_await b.erase("k7");
    model_bucket& there = *model.bucket("prices");
    there.pace = 1ms;
    const aio::time_point start = aio::get_running_loop().time();
    outcome o;
    aio::task<> reads = aio::create_task(read_all(b, there));
    aio::task<> writes = aio::create_task(write_beside(b));
    co_await disturb(model, reads);
    try {
        co_await reads;
    } catch (const aio::cancelled_error&) { o.cancelled = true; } catch (const std::runtime_error&) {
        o.failed = true;
    }
    o.took = aio::get_running_loop().time() - start;
    co_await writes;
    if (o.cancelled || o.failed) co_await read_all(b, there);
    EXPECT_EQ(js.statistics().requests, 0u);
    EXPECT_EQ(js.statistics().subscriptions, 0u);
    co_await aio::sleep(5s);  // a consumer that nobody hears any more
    EXPECT_EQ(there.consumers(), 0u);
    co_await model.stop();
    co_return o;
}

aio::coro<std::chrono::nanoseconds> undisturbed() {
    const auto nothing = [](nats_model&, aio::task<>&) -> aio::coro<> { co_return; };
    const outcome o = co_await disturbed(nothing);
    EXPECT_FALSE(o.failed || o.cancelled);
    EXPECT_GT(o.took, 15ms);
    EXPECT_LT(o.took, 10s);
    co_return o.took;
}

/// Disturbs the watch every 0.7 ms, which is less than its pace, until it has read all. Gives how often it threw.
template<class Disturb>
aio::coro<int> disturbed_at_every_step(Disturb disturb) {
    const std::chrono::nanoseconds whole = co_await undisturbed();
    int failed = 0;
    for (std::chrono::nanoseconds after = 0s; after < std::min<std::chrono::nanoseconds>(whole, 40ms); after += 700us) {
        const auto later = [&](nats_model& model, aio::task<>& reads) -> aio::coro<> {
            co_await aio::sleep(after);
            co_await disturb(model, reads);
        };
        const outcome o = co_await disturbed(later);
        failed += o.failed ? 1 : 0;
        if (testing::Test::HasFailure()) {
            ADD_FAILURE() << "disturbed after " << after.count() << " ns";
            co_return failed;
        }
    }
    co_return failed;
}

}  // namespace

AIO_TEST("a cancel at every step of a watch's first state leaves nothing, and the next watch gives all") {
    const auto cancel = [](nats_model&, aio::task<>& reads) -> aio::coro<> {
        reads.cancel();
        co_return;
    };
    EXPECT_EQ(co_await disturbed_at_every_step(cancel), 0);
}

AIO_TEST("a connection that is lost at every step of a watch's first state costs no key and doubles none") {
    const auto cut = [](nats_model& model, aio::task<>&) -> aio::coro<> {
        model.cut(0);
        co_return;
    };
    EXPECT_EQ(co_await disturbed_at_every_step(cut), 0);
}

AIO_TEST("a connection that is lost after any byte of a watch's first state costs no key and doubles none") {
    co_await undisturbed();
    for (std::size_t bytes = 1; bytes < 3000; bytes += 23) {
        const auto cut = [bytes](nats_model& model, aio::task<>&) -> aio::coro<> {
            model.how.cut_after = bytes;
            co_return;
        };
        const outcome o = co_await disturbed(cut);
        EXPECT_FALSE(o.failed || o.cancelled) << bytes;
        if (testing::Test::HasFailure()) {
            ADD_FAILURE() << "after " << bytes << " bytes";
            co_return;
        }
    }
}

AIO_TEST("a message that the server loses at every step of a watch's first state costs no key and doubles none") {
    for (std::size_t nth = 1; nth < 20; ++nth) {
        const auto lose = [nth](nats_model& model, aio::task<>&) -> aio::coro<> {
            model.bucket("prices")->loses = nth;
            co_return;
        };
        const outcome o = co_await disturbed(lose);
        EXPECT_FALSE(o.failed || o.cancelled) << nth;
    }
}

AIO_TEST("a server that is away at every step of a watch's first state: all comes, or an error does") {
    for (const std::chrono::milliseconds away : {200ms, 9000ms}) {
        const auto kill = [away](nats_model& model, aio::task<>&) -> aio::coro<> {
            model.kill(0);
            co_await aio::sleep(away);
            model.start(0);
        };
        const int failed = co_await disturbed_at_every_step(kill);
        if (away < 1s) { EXPECT_EQ(failed, 0); }
    }
}

AIO_TEST("a cluster without a leader at every step of a watch's first state: all comes, or an error does") {
    for (const std::chrono::milliseconds away : {200ms, 9000ms}) {
        const auto elect = [away](nats_model& model, aio::task<>&) -> aio::coro<> {
            model.elect(away);
            co_return;
        };
        const int failed = co_await disturbed_at_every_step(elect);
        if (away < 1s) { EXPECT_EQ(failed, 0); }
    }
}
