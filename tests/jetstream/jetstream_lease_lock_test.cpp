// A lock over machines: one holder at a time, whoever dies, and a holder that loses it hears of it.
#include "jetstream_steps.hpp"
#include "nats_servers.hpp"

#include <sys/wait.h>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_bucket = jetstream::bucket<std::string>;
using jetstream::lease_lock;

namespace {

constexpr jetstream::connect_options quick{.reconnect_wait = 5ms, .max_reconnect_wait = 50ms, .discover = false};

template<class Body>
aio::coro<> with_locks(const std::string& url, Body body) {
    auto talk = [&](jetstream::connection& js) -> aio::coro<> {
        auto use = [&](text_bucket& locks) -> aio::coro<> { co_await body(locks); };
        co_await aio::with(js.bucket<std::string>("locks"), use);
    };
    co_await aio::with(jetstream::connect(url, quick), talk);
}

/// Two connections, and so two programs as far as the server knows.
template<class Body>
aio::coro<> with_two(Body body) {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    const std::string url = server.url();
    auto first = [&](text_bucket& a) -> aio::coro<> {
        auto second = [&](text_bucket& b) -> aio::coro<> { co_await body(a, b); };
        co_await with_locks(url, second);
    };
    co_await with_locks(url, first);
}

aio::coro<> until_next(aio::async_generator<jetstream::entry<std::string>>& watch, jetstream::entry_kind kind) {
    for (;;) {
        auto e = co_await watch.next();
        AIO_REQUIRE(e);
        if (e->kind == kind) co_return;
    }
}

// The code of docs/guide/machines.md.
aio::coro<std::uint64_t> count_up(jetstream::bucket<std::string>& counts) {
    for (;;) {
        auto now = co_await counts.get("visits");
        const std::uint64_t seen = now ? now->revision : 0;  // 0: nobody has written it yet
        const std::string next = std::to_string(now ? std::stoi(*now->value) + 1 : 1);
        try {
            co_return co_await counts.update("visits", next, seen);
        } catch (const jetstream::wrong_revision&) {
            // somebody else was faster: once more, with what is there now
        }
    }
}

aio::coro<> nightly_report(jetstream::bucket<std::string>& locks, jetstream::bucket<std::string>& reports) {
    lease_lock nightly = locks.lock("nightly", {.lease = 10s});
    co_await aio::with(nightly, [&](lease_lock& held) -> aio::coro<> {
        const std::string token = std::to_string(held.fencing_token());
        co_await reports.put("latest", token);
    });
}

}  // namespace

AIO_REAL_TEST("the code of the guide: a counter by compare-and-swap, and a report under a lock") {
    co_await with_two([](text_bucket& a, text_bucket& b) -> aio::coro<> {
        co_await aio::gather(count_up(a), count_up(b), count_up(a));
        auto visits = co_await b.get("visits");
        EXPECT_EQ(*visits->value, "3");
        co_await aio::gather(nightly_report(a, a), nightly_report(b, b));
        EXPECT_TRUE(co_await a.get("latest"));
    });
}

AIO_REAL_TEST("one task of two connections holds a lock at a time, with growing fencing tokens") {
    co_await with_two([](text_bucket& a, text_bucket& b) -> aio::coro<> {
        int inside = 0, turns_had = 0;
        std::uint64_t last_token = 0;
        auto work = [&](text_bucket& locks) -> aio::coro<> {
            lease_lock own = locks.lock("nightly", {.lease = 60s});
            for (int i = 0; i < 5; ++i) {
                auto body = [&](lease_lock& l) -> aio::coro<> {
                    EXPECT_EQ(++inside, 1);
                    EXPECT_TRUE(l.held());
                    EXPECT_GT(l.fencing_token(), last_token);
                    last_token = l.fencing_token();
                    ++turns_had;
                    co_await aio::sleep(1ms);
                    --inside;
                };
                co_await aio::with(own, body);
                EXPECT_FALSE(own.held());
            }
        };
        co_await aio::gather(work(a), work(b), work(a), work(b));
        EXPECT_EQ(turns_had, 20);
    });
}

AIO_REAL_TEST("a lock goes to a waiter when it is released, and tasks of one lock take turns") {
    co_await with_two([](text_bucket& a, text_bucket& b) -> aio::coro<> {
        lease_lock mine = a.lock("x", {.lease = 60s});
        lease_lock theirs = b.lock("x", {.lease = 60s});
        co_await mine.acquire();
        std::vector<int> order;
        auto wait = [&](int who) -> aio::coro<> {
            co_await theirs.acquire();
            order.push_back(who);
            co_await theirs.release();
        };
        aio::task<> first = aio::create_task(wait(1));
        aio::task<> cancelled = aio::create_task(wait(2));
        aio::task<> third = aio::create_task(wait(3));
        co_await turns(3);
        cancelled.cancel();
        co_await mine.release();
        co_await first;
        co_await third;
        EXPECT_EQ(order, (std::vector<int>{1, 3}));
        EXPECT_THROW(co_await mine.release(), std::logic_error);
    });
}

AIO_REAL_TEST("a lock is renewed while it is held, and a lock that is dropped is given back") {
    co_await with_two([](text_bucket& a, text_bucket& b) -> aio::coro<> {
        auto changes = b.watch("x");
        co_await until_next(changes, jetstream::entry_kind::up_to_date);
        {
            lease_lock l = a.lock("x", {.lease = 3s});
            co_await l.acquire();
            co_await until_next(changes, jetstream::entry_kind::value);
            co_await until_next(changes, jetstream::entry_kind::value);  // the renewal
        }
        co_await until_next(changes, jetstream::entry_kind::erased);
        lease_lock other = b.lock("x");
        co_await other.acquire();
        co_await other.release();
    });
}

AIO_REAL_TEST("who is cut off loses the lock: its body is cancelled, and the other one gets it") {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    holding_proxy proxy(server.port());
    auto through = [&]() -> aio::coro<> {
        const std::string behind = proxy.url();
        bool lost = false, cancelled = false;
        auto cut_off = [&](text_bucket& a) -> aio::coro<> {
            auto other = [&](text_bucket& b) -> aio::coro<> {
                lease_lock l = a.lock("x", {.lease = 1s});
                std::uint64_t token = 0;
                auto body = [&]() -> aio::coro<> {
                    token = l.fencing_token();
                    proxy.to_server.clear();
                    try {
                        co_await aio::sleep_forever();
                    } catch (const aio::cancelled_error&) {
                        cancelled = true;
                        EXPECT_FALSE(l.held());
                        throw;
                    }
                };
                lease_lock next = b.lock("x");
                try {
                    co_await aio::with(l, body);
                } catch (const jetstream::lease_lost&) { lost = true; }
                co_await next.acquire();
                EXPECT_GT(next.fencing_token(), token);
                proxy.to_server.set();
                co_await next.release();
            };
            co_await with_locks(server.url(), other);
        };
        co_await with_locks(behind, cut_off);
        EXPECT_TRUE(lost);
        EXPECT_TRUE(cancelled);
    };
    co_await aio::with(proxy, through);
}

AIO_REAL_TEST("a holder whose key somebody else writes hears that the lock is lost") {
    co_await with_two([](text_bucket& a, text_bucket& b) -> aio::coro<> {
        lease_lock l = a.lock("x", {.lease = 1s});
        bool lost = false;
        auto body = [&]() -> aio::coro<> {
            co_await b.put("x", "mine now");
            co_await aio::sleep_forever();
        };
        try {
            co_await aio::with(l, body);
        } catch (const jetstream::lease_lost&) { lost = true; }
        EXPECT_TRUE(lost);
        auto e = co_await b.get("x");
        AIO_REQUIRE(e);
        EXPECT_EQ(*e->value, "mine now");
    });
}

AIO_REAL_TEST("a lease that is longer than the bucket keeps a value is refused, also by who has not made the bucket") {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    auto talk = [](jetstream::connection& js) -> aio::coro<> {
        auto& made = co_await aio::enter(js.bucket<std::string>("short", {.ttl = 2s}));
        auto& found = co_await aio::enter(js.bucket<std::string>("short"));
        for (text_bucket* b : {&made, &found}) {
            EXPECT_THROW(static_cast<void>(b->lock("x", jetstream::lease_options{.lease = 3s})), std::invalid_argument);
            lease_lock l = b->lock("x", jetstream::lease_options{.lease = 2s});
            co_await l.acquire();
            co_await l.release();
        }
    };
    co_await aio::with(jetstream::connect(server.url(), quick), talk);
}

AIO_REAL_TEST("a release without a server ends, and the lock runs out") {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    auto talk = [&](jetstream::connection& js) -> aio::coro<> {
        auto& locks = co_await aio::enter(js.bucket<std::string>("locks"));
        lease_lock l = locks.lock("x", {.lease = std::chrono::hours(24)});
        co_await l.acquire();
        server.kill();
        co_await l.release();  // a day later, if it waited for the lease
        EXPECT_FALSE(l.held());
        EXPECT_EQ(l.fencing_token(), 0u);
    };
    jetstream::connect_options options = quick;
    options.request_timeout = 200ms;
    co_await aio::with(jetstream::connect(server.url(), options), talk);
}

AIO_REAL_TEST("an error of the body leaves with() as it is, and the lock is free") {
    co_await with_two([](text_bucket& a, text_bucket& b) -> aio::coro<> {
        lease_lock l = a.lock("x", {.lease = 60s});
        std::string what;
        try {
            co_await aio::with(l, []() { throw std::runtime_error("of the body"); });
        } catch (const std::runtime_error& e) { what = e.what(); }
        EXPECT_EQ(what, "of the body");
        EXPECT_FALSE(co_await b.get("x"));
    });
}

PLAIN_TEST("the lock of a process that is killed goes to another one after the lease") {
    if (!there_is_nats()) return;
    nats_server server;
    server.start_only();
    int taken[2];
    ASSERT_EQ(::pipe(taken), 0);
    const std::string url = server.url();
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        auto hold = [&](text_bucket& locks) -> aio::coro<> {
            lease_lock l = locks.lock("x", {.lease = 3s});
            auto body = [&]() -> aio::coro<> {
                const std::uint64_t token = l.fencing_token();
                if (::write(taken[1], &token, sizeof token) != sizeof token) ::_exit(1);
                co_await aio::sleep_forever();
            };
            co_await aio::with(l, body);
        };
        auto talk = [&](jetstream::connection& js) -> aio::coro<> {
            co_await aio::with(js.bucket<std::string>("locks"), hold);
        };
        auto all = [&]() -> aio::coro<> {
            co_await aio::with(jetstream::connect(url, {.reconnect_wait = 5ms, .retry_first = true}), talk);
        };
        try {
            aio::run(all());
        } catch (...) {}
        ::_exit(0);
    }
    ::close(taken[1]);
    auto waits = [&]() -> aio::coro<> {
        co_await server.answers();
        std::uint64_t token = 0;
        co_await aio::lowlevel::wait_readable(taken[0]);
        EXPECT_EQ(::read(taken[0], &token, sizeof token), static_cast<ssize_t>(sizeof token));
        EXPECT_GT(token, 0u);
        auto get = [&](text_bucket& locks) -> aio::coro<> {
            lease_lock l = locks.lock("x", {.lease = 60s});
            aio::task<> acquired = aio::create_task(l.acquire());
            ::kill(child, SIGKILL);
            co_await acquired;
            EXPECT_GT(l.fencing_token(), token);
            co_await l.release();
        };
        co_await with_locks(url, get);
    };
    aio::run(waits());
    ::close(taken[0]);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status));
}

PLAIN_TEST("a holder whose process stands still loses the lock, and hears of it when it goes on") {
    if (!there_is_nats()) return;
    nats_server server;
    server.start_only();
    int said[2];
    ASSERT_EQ(::pipe(said), 0);
    const std::string url = server.url();
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(100);
        const auto say = [&](std::uint64_t what) {
            if (::write(said[1], &what, sizeof what) != sizeof what) ::_exit(1);
        };
        auto hold = [&](text_bucket& locks) -> aio::coro<> {
            lease_lock l = locks.lock("x", {.lease = 2s});
            auto body = [&]() -> aio::coro<> {
                say(l.fencing_token());
                co_await aio::sleep_forever();
            };
            try {
                co_await aio::with(l, body);
            } catch (const jetstream::lease_lost&) { say(l.held() ? 1 : 0); }
        };
        auto all = [&]() -> aio::coro<> {
            auto talk = [&](jetstream::connection& js) -> aio::coro<> {
                co_await aio::with(js.bucket<std::string>("locks"), hold);
            };
            co_await aio::with(jetstream::connect(url, {.reconnect_wait = 5ms, .retry_first = true}), talk);
        };
        try {
            aio::run(all());
        } catch (...) {}
        ::_exit(0);
    }
    ::close(said[1]);
    auto hears = [&]() -> aio::coro<std::uint64_t> {
        std::uint64_t what = 99;
        co_await aio::lowlevel::wait_readable(said[0]);
        EXPECT_EQ(::read(said[0], &what, sizeof what), static_cast<ssize_t>(sizeof what));
        co_return what;
    };
    auto waits = [&]() -> aio::coro<> {
        co_await server.answers();
        const std::uint64_t token = co_await hears();
        auto get = [&](text_bucket& locks) -> aio::coro<> {
            lease_lock l = locks.lock("x", {.lease = 60s});
            ::kill(child, SIGSTOP);
            co_await l.acquire();
            const std::uint64_t newer = l.fencing_token();
            EXPECT_GT(newer, token);
            ::kill(child, SIGCONT);
            EXPECT_EQ(co_await hears(), 0u);  // it has lost the lock
            EXPECT_TRUE(l.held());            // and has not taken it from the one that holds it now
            auto there = co_await locks.get("x");
            EXPECT_TRUE(there && there->revision == newer);
            co_await l.release();
        };
        co_await with_locks(url, get);
    };
    aio::run(waits());
    ::close(said[0]);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
}

AIO_REAL_TEST("a cancel at every step of a lock leaves it free") {
    co_await with_two([](text_bucket& a, text_bucket& b) -> aio::coro<> {
        auto work = [&a]() -> aio::coro<> {
            lease_lock l = a.lock("x", {.lease = 60s});
            co_await aio::with(l, []() -> aio::coro<> { co_await aio::sleep(0s); });
        };
        auto after = [&b](int step) -> aio::coro<> {
            auto left = co_await b.get("x");
            EXPECT_FALSE(left) << step;
        };
        co_await cancelled_at_every_step(work, after);
    });
}

AIO_REAL_TEST("a cancel at every step of a wait for a lock leaves it to the next one") {
    co_await with_two([](text_bucket& a, text_bucket& b) -> aio::coro<> {
        lease_lock held = a.lock("x", {.lease = 60s});
        for (int step = 0; step < 60; ++step) {
            co_await held.acquire();
            auto work = [&b]() -> aio::coro<> {
                lease_lock l = b.lock("x", {.lease = 60s});
                co_await l.acquire();
                co_await l.release();
            };
            aio::task<> t = aio::create_task(work());
            co_await turns(step);
            aio::task<> freed = aio::create_task(held.release());
            co_await turns(step);
            t.cancel();
            try {
                co_await t;
            } catch (const aio::cancelled_error&) {}
            co_await freed;
        }
        EXPECT_FALSE(co_await b.get("x"));
    });
}
