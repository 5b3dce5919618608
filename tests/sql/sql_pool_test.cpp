// Tests of sql::pool on virtual time, with a database that is made up here: what it does when connections are slow,
// lost or too old. The suites of the two databases test it with real ones.
#include "sql_test.hpp"

#include "sql/pool_state.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>

#include <unistd.h>

namespace aio::inline v0::sql {
/// Lets a pool make connections to something else than its URL names.
struct pool_for_tests {
    static void set_make(pool& p, std::unique_ptr<driver> (*make)(const std::string&, connect_options)) {
        p.state_->make = make;
    }
};
}  // namespace aio::inline v0::sql

namespace {

namespace sql = aio::sql;

/// The database: what it does, and what was asked of it.
struct server {
    aio::delay to_connect = 10ms;
    aio::delay to_answer = 1ms;
    bool refuses = false;  // connections
    bool silent = false;   // answers nothing
    int opened = 0;
    int open = 0;        // now
    int generation = 0;  // of the server: connections of an earlier one are lost
    std::vector<std::string> statements;
    std::vector<aio::time_point> attempts;
    std::size_t statement_cache = 0;

    int asked(const std::string& text) const {
        return static_cast<int>(std::count(statements.begin(), statements.end(), text));
    }
};
server* database = nullptr;

/// Makes a new database for each test.
struct fresh_server : server {
    fresh_server() { database = this; }
    ~fresh_server() { database = nullptr; }
    fresh_server(const fresh_server&) = delete;
    fresh_server& operator=(const fresh_server&) = delete;
};

class fake final : public sql::driver {
public:
    explicit fake(std::size_t statement_cache) { database->statement_cache = statement_cache; }
    ~fake() override {
        if (open_ && database) --database->open;
    }
    aio::coro<> open() override {
        database->attempts.push_back(aio::get_running_loop().time());
        co_await aio::sleep(database->to_connect);
        if (database->refuses) throw sql::error("the server is not there", "08001");
        generation_ = database->generation;
        ++database->opened;
        ++database->open;
        open_ = true;
    }
    aio::coro<sql::table_ptr> execute(std::string statement, std::vector<sql::parameter>, sql::on_cancel) override {
        database->statements.push_back(statement);
        if (database->silent) co_await aio::sleep_forever();
        co_await aio::sleep(database->to_answer);
        if (generation_ != database->generation) {
            lost_ = true;
            throw sql::error("the connection is lost", "57P01");
        }
        if (statement == "BEGIN") in_transaction_ = true;
        auto t = std::make_shared<sql::table>();
        co_return t;
    }
    aio::coro<> close() override {
        co_await aio::sleep(1ms);
        if (std::exchange(open_, false)) --database->open;
    }
    aio::coro<> open_stream(std::string, std::vector<sql::parameter>) override { co_return; }
    aio::coro<sql::table_ptr> fetch() override { co_return nullptr; }
    void drop_stream() noexcept override {}
    bool usable() noexcept override { return open_ && !lost_; }
    bool lost() const noexcept override { return !open_ || lost_; }
    bool in_transaction() const noexcept override { return in_transaction_; }
    std::string begin_statement(const sql::transaction_options&) const override { return "BEGIN"; }
    sql::ending ended() const noexcept override { return sql::ending::committed; }
    const char* ended_code() const noexcept override { return ""; }

private:
    bool open_ = false, lost_ = false, in_transaction_ = false;
    int generation_ = 0;
};

std::unique_ptr<sql::driver> make_fake(const std::string&, sql::connect_options o) {
    return std::make_unique<fake>(o.statement_cache);
}

/// A pool of connections to the database that is made up.
struct fake_pool : sql::pool {
    explicit fake_pool(sql::pool_options options = {}) : pool("postgresql://made@up/here", options) {
        sql::pool_for_tests::set_make(*this, &make_fake);
    }
};

aio::coro<> hold(sql::pool& pool, aio::delay d) {
    auto conn = co_await pool.acquire();
    co_await aio::sleep(d);
}

}  // namespace

AIO_TEST("acquire_timeout is a timeout_error that says what the pool is doing, and leaves the others in their order") {
    fresh_server db;
    fake_pool pool({.max_size = 1, .acquire_timeout = 1s});
    auto conn = co_await pool.acquire();
    auto also = aio::create_task(pool.query("SELECT 1"));
    std::string text;
    try {
        auto none = co_await pool.acquire(500ms);
    } catch (const aio::timeout_error& e) { text = e.what(); }
    EXPECT_EQ(text,
        "no connection of the sql::pool came free within 500 ms: 1 of at most 1 connections are in use, 0 idle, 0 "
        "being "
        "made; 1 other task waits");
    EXPECT_THROW(co_await also, aio::timeout_error);
    auto last = aio::create_task(pool.query("SELECT 1"));
    co_await aio::sleep(999ms);
    conn.release();
    co_await last;
    const sql::pool_statistics n = pool.statistics();
    EXPECT_EQ(n.timeouts, 2u);
    EXPECT_EQ(n.acquired, 2u);
    EXPECT_EQ(n.waits, 4u);  // the first one has waited for the connection to be made
    EXPECT_EQ(n.longest_wait, 1s);
    EXPECT_EQ(n.created, 1u);
    EXPECT_EQ(n.in_use, 0u);
    EXPECT_EQ(db.opened, 1);
    co_await pool.aclose();
    EXPECT_EQ(pool.statistics().closed, 1u);
}

AIO_TEST("min_size connections are made in the background, and again when one is lost") {
    fresh_server db;
    fake_pool pool({.max_size = 5, .min_size = 3, .statement_cache = 7});
    co_await aio::sleep(11ms);
    EXPECT_EQ(pool.statistics().idle, 3u);
    EXPECT_EQ(db.statement_cache, 7u);
    {
        auto conn = co_await pool.acquire();
        EXPECT_EQ(pool.statistics().waits, 0u);
        co_await conn->query("BEGIN");  // such a connection is not used again
    }
    EXPECT_EQ(pool.statistics().connecting, 1u);
    co_await aio::sleep(11ms);
    EXPECT_EQ(pool.statistics().idle, 3u);
    EXPECT_EQ(db.open, 3);
    co_await pool.aclose();
    EXPECT_EQ(db.open, 0);
}

AIO_TEST("while the server refuses, min_size is tried for at growing intervals, and callers get the error") {
    fresh_server db;
    db.refuses = true;
    fake_pool pool({.max_size = 2, .min_size = 1});
    EXPECT_THROW(co_await pool.query("SELECT 1"), sql::error);
    const std::size_t at_once = db.attempts.size();
    EXPECT_LE(at_once, 2u);
    co_await aio::sleep(2min);
    EXPECT_GE(db.attempts.size(), 7u);
    EXPECT_LE(db.attempts.size(), 12u);
    db.refuses = false;
    co_await aio::sleep(31s);
    EXPECT_EQ(pool.statistics().idle, 1u);
    EXPECT_EQ(pool.statistics().failed, db.attempts.size() - 1);
    co_await pool.aclose();
}

AIO_TEST("what is idle for too long is closed, down to min_size, and no sooner") {
    fresh_server db;
    fake_pool pool({.max_size = 4, .min_size = 1, .max_idle = 10s});
    std::vector<aio::coro<>> jobs;
    for (int i = 0; i < 4; ++i) jobs.push_back(hold(pool, 1s));
    co_await aio::gather(std::move(jobs));
    EXPECT_EQ(db.open, 4);
    co_await aio::sleep(9s);
    EXPECT_EQ(db.open, 4);
    co_await pool.query("SELECT 1");
    co_await aio::sleep(2s);
    EXPECT_EQ(db.open, 1);  // the one that was used meanwhile
    co_await aio::sleep(1h);
    EXPECT_EQ(db.open, 1);
    co_await pool.aclose();
}

AIO_TEST("connections live for max_lifetime at most, and not all of them end at the same time") {
    fresh_server db;
    fake_pool pool({.max_size = 8, .min_size = 8, .max_idle = std::nullopt, .max_lifetime = 100s});
    co_await aio::sleep(1s);
    EXPECT_EQ(db.open, 8);
    co_await aio::sleep(88s);
    EXPECT_EQ(db.opened, 8);
    std::set<int> seen;
    for (int i = 0; i < 24; ++i) {
        co_await aio::sleep(500ms);
        seen.insert(db.opened);
    }
    EXPECT_EQ(db.opened, 16);
    EXPECT_GE(seen.size(), 5u);
    EXPECT_EQ(db.open, 8);
    // One that is in use is closed when it is given back.
    auto conn = co_await pool.acquire();
    co_await aio::sleep(200s);
    const int before = db.opened;
    conn.release();
    co_await aio::sleep(1s);
    EXPECT_EQ(db.opened, before + 1);
    co_await pool.aclose();
    EXPECT_EQ(db.open, 0);
}

AIO_TEST("after a restart of the server the pool gives no connection that was lost, whatever their number") {
    fresh_server db;
    fake_pool pool({.max_size = 10, .min_size = 10});
    co_await aio::sleep(1s);
    auto conn = co_await pool.acquire();
    ++db.generation;  // the idle connections look usable
    EXPECT_THROW(co_await conn->query("SELECT 2"), sql::error);
    conn.release();
    for (int i = 0; i < 20; ++i) co_await pool.query("SELECT 3");
    std::vector<aio::coro<sql::rows>> jobs;
    for (int i = 0; i < 20; ++i) jobs.push_back(pool.query("SELECT 3"));
    co_await aio::gather(std::move(jobs));
    EXPECT_EQ(db.asked("SELECT 3"), 40);
    EXPECT_LE(pool.statistics().closed, 10u);
    co_await pool.aclose();
    EXPECT_EQ(db.open, 0);
}

AIO_TEST("a connection idle for longer than check_after is asked first, and given up if it does not answer") {
    fresh_server db;
    fake_pool pool({.max_size = 1, .check_after = 10s});
    co_await pool.query("SELECT 2");
    co_await aio::sleep(9s);
    co_await pool.query("SELECT 2");
    EXPECT_EQ(db.asked("SELECT 1"), 0);
    co_await aio::sleep(10s);
    co_await pool.query("SELECT 2");
    EXPECT_EQ(db.asked("SELECT 1"), 1);
    EXPECT_EQ(db.opened, 1);
    co_await aio::sleep(10s);
    db.silent = true;  // as behind a firewall that has forgotten the connection
    auto waiting = aio::create_task(pool.query("SELECT 2"));
    co_await aio::sleep(4s);
    db.silent = false;
    co_await waiting;
    EXPECT_EQ(db.opened, 2);
    co_await pool.aclose();
}

AIO_TEST("the set-up hook runs once for each connection; its error is the attempt's") {
    fresh_server db;
    bool fails = false;
    sql::pool_setup setup([&](sql::connection& c) -> aio::coro<> {
        co_await c.query("SET search_path = shop");
        if (fails) throw std::runtime_error("no shop");
    });
    fake_pool pool({.max_size = 2, .setup = &setup});
    co_await aio::gather(hold(pool, 1s), hold(pool, 1s));
    co_await pool.query("SELECT 1");
    EXPECT_EQ(db.asked("SET search_path = shop"), 2);
    co_await aio::sleep(10min);  // both are closed
    EXPECT_EQ(db.open, 0);
    fails = true;
    std::string text;
    try {
        co_await pool.query("SELECT 1");
    } catch (const std::runtime_error& e) { text = e.what(); }
    EXPECT_EQ(text, "no shop");
    EXPECT_EQ(db.open, 0);
    co_await pool.aclose();
}

AIO_TEST("a session that may have been changed is reset before the next one gets it, and set up again") {
    fresh_server db;
    sql::pool_setup setup([](sql::connection& c) -> aio::coro<> { co_await c.query("SET a = 1"); });
    fake_pool pool({.max_size = 1, .setup = &setup});
    const auto resets = [&db] {
        return std::count_if(db.statements.begin(), db.statements.end(),
            [](const std::string& s) { return aio_test::contains(s, "RESET ALL"); });
    };
    co_await pool.query("SELECT 2");
    co_await pool.query("INSERT INTO t VALUES (1)");
    EXPECT_EQ(resets(), 0);
    co_await pool.query("SET b = 2");
    co_await pool.query("SELECT 3");
    EXPECT_EQ(resets(), 1);
    EXPECT_EQ(db.asked("SET a = 1"), 2);
    EXPECT_EQ(db.statements.back(), "SELECT 3");
    co_await pool.query("SELECT pg_advisory_lock(1)");
    co_await pool.query("SELECT 3");
    EXPECT_EQ(resets(), 2);
    EXPECT_EQ(db.opened, 1);
    // A reset that is not answered costs the connection, and nobody waits for ever.
    co_await pool.query("LISTEN x");
    db.silent = true;
    co_await aio::sleep(2ms);
    db.silent = false;
    co_await pool.query("SELECT 3");
    EXPECT_LE(db.opened, 2);
    co_await pool.aclose();

    fake_pool never({.max_size = 1, .reset = sql::pool_reset::never});
    co_await never.query("SET b = 2");
    fake_pool always({.max_size = 1, .reset = sql::pool_reset::always});
    const auto before = resets();
    co_await always.query("SELECT 1");
    co_await never.aclose();
    co_await always.aclose();
    EXPECT_EQ(resets(), before + 1);
}

PLAIN_TEST("statements that may change a session are known from those that cannot") {
    for (const char* harmless : {"SELECT 1", " select x from t where a = $1", "INSERT INTO t VALUES (1);", "(SELECT 1)",
             "WITH a AS (SELECT 1) SELECT * FROM a", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT aio_1", "", "  "}) {
        EXPECT_FALSE(sql::may_change_session(harmless)) << harmless;
    }
    for (const char* changes : {"SET x = 1", "set local x = 1", "LISTEN a", "CREATE TEMP TABLE t (x int)",
             "PREPARE p AS "
             "SELECT 1",
             "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SELECT 1; SET x = 1", "SELECT set_config('a', 'b', false)",
             "SELECT pg_try_advisory_lock(5)", "select PG_ADVISORY_LOCK(5)", "DO $$ BEGIN END $$",
             "-- a comment\nSET x = 1", "RESET ALL", "LOAD 'auto_explain'"}) {
        EXPECT_TRUE(sql::may_change_session(changes)) << changes;
    }
}

AIO_TEST("aclose with a limit ends then, says who is in the way, and may be called again") {
    fresh_server db;
    fake_pool pool({.max_size = 2});
    auto conn = co_await pool.acquire();
    std::string text;
    try {
        co_await pool.aclose(2s);
    } catch (const aio::timeout_error& e) { text = e.what(); }
    EXPECT_CONTAINS(text, "1 of its connections are in use");
    EXPECT_THROW(static_cast<void>(co_await pool.acquire()), std::logic_error);
    conn.release();
    EXPECT_EQ(db.open, 0);
    co_await pool.aclose(2s);
}

AIO_TEST("a connection outlives the caller for whom it was made: the next waiter gets it, or it is idle") {
    fresh_server db;
    db.to_connect = 1s;
    fake_pool pool({.max_size = 3});
    auto impatient = aio::create_task(pool.query("SELECT 1"));
    co_await aio::sleep(500ms);
    impatient.cancel();
    EXPECT_THROW(co_await impatient, aio::cancelled_error);
    auto next = aio::create_task(pool.query("SELECT 2"));
    co_await aio::sleep(510ms);
    EXPECT_TRUE(next.done());
    co_await next;
    EXPECT_EQ(db.opened, 1);
    EXPECT_EQ(pool.statistics().idle, 1u);
    co_await pool.aclose();
}

AIO_TEST("waiters are served in the order in which they came, whoever comes in between") {
    fresh_server db;
    fake_pool pool({.max_size = 2});
    std::vector<int> order;
    auto job = [&](int i) -> aio::coro<> {
        auto conn = co_await pool.acquire();
        order.push_back(i);
        co_await aio::sleep(10ms);
    };
    std::vector<aio::coro<>> jobs;
    for (int i = 0; i < 20; ++i) jobs.push_back(job(i));
    co_await aio::gather(std::move(jobs));
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    EXPECT_EQ(db.opened, 2);
    co_await pool.aclose();
}

// As wait_for around an acquire() that has just succeeded has lost connections elsewhere.
AIO_TEST(
    "a connection that comes free at the moment of the timeout is not lost, nor is one whose waiter is cancelled "
    "then") {
    fresh_server db;
    fake_pool pool({.max_size = 1, .acquire_timeout = 100ms});
    for (int i = 0; i < 30; ++i) {
        auto conn = co_await pool.acquire();
        auto waiting = aio::create_task(hold(pool, 0s));
        auto cancelled = aio::create_task(hold(pool, 0s));
        co_await aio::sleep(i < 15 ? 100ms : 50ms);
        if (i % 3 == 0) co_await aio::sleep(0s);
        conn.release();
        if (i % 3 == 1) co_await aio::sleep(0s);
        cancelled.cancel();
        if (i % 2 == 0) waiting.cancel();
        co_await aio::gather(aio::return_exceptions, std::move(waiting), std::move(cancelled));
        EXPECT_EQ(pool.statistics().in_use, 0u) << i;
    }
    co_await pool.query("SELECT 1");
    EXPECT_EQ(db.opened, 1);
    co_await pool.aclose(1s);
}

AIO_TEST("a stampede: a thousand tasks and three connections, some cancelled, some failing; all numbers add up") {
    fresh_server db;
    fake_pool pool({.max_size = 3, .acquire_timeout = 200ms});
    int done = 0, cancelled = 0, late = 0, lost = 0;
    std::vector<int> order;
    const auto job = [&](int i) -> aio::coro<> {
        try {
            auto conn = co_await pool.acquire();
            order.push_back(i);
            if (i % 100 == 50) ++db.generation;  // the server restarts
            co_await conn->query("SELECT 1");
            ++done;
        } catch (const aio::cancelled_error&) {
            ++cancelled;
            throw;
        } catch (const aio::timeout_error&) { ++late; } catch (const sql::error&) {
            ++lost;
        }
    };
    std::vector<aio::task<>> jobs;
    for (int i = 0; i < 1000; ++i) jobs.push_back(aio::create_task(job(i)));
    co_await aio::sleep(12ms);
    EXPECT_EQ(pool.statistics().in_use, 3u);
    EXPECT_GT(pool.statistics().tasks_waiting, 900u);
    for (int i = 0; i < 1000; i += 7) jobs[static_cast<std::size_t>(i)].cancel();
    co_await aio::wait(jobs);
    EXPECT_EQ(done + cancelled + late + lost, 1000);
    EXPECT_GT(done, 300);
    EXPECT_GT(cancelled, 100);
    EXPECT_GT(late, 100);
    EXPECT_GT(lost, 1);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    const sql::pool_statistics n = pool.statistics();
    EXPECT_EQ(n.in_use, 0u);
    EXPECT_EQ(n.tasks_waiting, 0u);
    EXPECT_EQ(n.connecting, 0u);
    EXPECT_EQ(n.timeouts, static_cast<std::uint64_t>(late));
    EXPECT_EQ(n.acquired, order.size());
    EXPECT_LE(n.longest_wait, std::chrono::milliseconds(200));
    EXPECT_EQ(n.created - n.closed, n.idle);
    EXPECT_LE(n.idle, 3u);
    co_await pool.query("SELECT 1");
    co_await pool.aclose();
    EXPECT_EQ(pool.statistics().created, pool.statistics().closed);
    EXPECT_EQ(db.open, 0);
}

// As asyncpg 1247 reports it of a pool that is not fair: somebody waits for more than ten seconds.
AIO_TEST("a hundred workers and ten connections, each held for 200 ms: nobody waits for longer than two seconds") {
    fresh_server db;
    fake_pool pool({.max_size = 10, .acquire_timeout = 10s});
    const auto worker = [&]() -> aio::coro<> {
        for (int i = 0; i < 50; ++i) co_await hold(pool, 200ms);
    };
    std::vector<aio::coro<>> workers;
    for (int i = 0; i < 100; ++i) workers.push_back(worker());
    co_await aio::gather(std::move(workers));
    EXPECT_LE(pool.statistics().longest_wait, 2s);
    EXPECT_EQ(pool.statistics().acquired, 5000u);
    EXPECT_EQ(pool.statistics().created, 10u);
    co_await pool.aclose();
}

// As psycopg 1401 reports it of a check that swallows the cancel.
AIO_TEST("a cancel, and a timeout, of a task whose connection is being checked ends its wait at once") {
    fresh_server db;
    fake_pool pool({.max_size = 1, .check_after = 1s});
    co_await pool.query("SELECT 1");
    for (const bool by_timeout : {false, true}) {
        co_await aio::sleep(2s);
        db.silent = true;
        const auto began = aio::get_running_loop().time();
        if (by_timeout) {
            EXPECT_THROW(static_cast<void>(co_await pool.acquire(100ms)), aio::timeout_error);
        } else {
            auto waiting = aio::create_task(pool.query("SELECT 2"));
            co_await aio::sleep(100ms);
            waiting.cancel();
            EXPECT_THROW(co_await waiting, aio::cancelled_error);
        }
        EXPECT_EQ(aio::get_running_loop().time() - began, 100ms);
        EXPECT_EQ(pool.statistics().in_use, 0u);
        db.silent = false;
        co_await pool.query("SELECT 3");
    }
    co_await pool.aclose();
    EXPECT_EQ(db.open, 0);
}

AIO_TEST("a set-up hook that fails now and then, also after a reset, costs its connection, and no caller hangs") {
    fresh_server db;
    int calls = 0;
    sql::pool_setup setup([&calls](sql::connection& c) -> aio::coro<> {
        co_await c.query("SET a = 1");
        if (++calls % 3 == 0) throw std::runtime_error("not this time");
    });
    fake_pool pool({.max_size = 2, .setup = &setup});
    int good = 0, bad = 0;
    const auto job = [&]() -> aio::coro<> {
        try {
            co_await pool.query("SET b = 2");  // asks for a reset, and so for the hook
            ++good;
        } catch (const std::runtime_error& e) {
            EXPECT_STREQ(e.what(), "not this time");
            ++bad;
        }
    };
    std::vector<aio::coro<>> jobs;
    for (int i = 0; i < 60; ++i) jobs.push_back(job());
    co_await aio::gather(std::move(jobs));
    EXPECT_EQ(good + bad, 60);
    EXPECT_GT(good, 20);
    co_await aio::sleep(1s);  // the last reset
    EXPECT_EQ(pool.statistics().in_use, 0u);
    EXPECT_EQ(db.open, static_cast<int>(pool.statistics().idle));
    co_await pool.aclose();
    EXPECT_EQ(db.open, 0);
}

AIO_TEST("options that make no sense are refused") {
    EXPECT_THROW(sql::pool("sqlite::memory:", {.max_size = 0}), std::invalid_argument);
    EXPECT_THROW(sql::pool("sqlite::memory:", {.max_size = 2, .min_size = 3}), std::invalid_argument);
    co_return;
}

PLAIN_TEST("a pool that resets, checks and fills itself is whole after any cancel and any allocation that fails") {
    fresh_server db;
    auto scenario = [&]() -> aio::coro<> {
        db.generation = 0;
        sql::pool_setup setup([](sql::connection& c) -> aio::coro<> { co_await c.query("SET a = 1"); });
        fake_pool pool({.max_size = 2,
            .min_size = 1,
            .acquire_timeout = 1min,
            .max_idle = 10s,
            .setup = &setup,
            .check_after = 1s});
        std::exception_ptr error;
        try {
            co_await aio::gather(pool.query("SELECT 1"), pool.query("SET b = 1"), pool.query("SELECT 2"));
            co_await aio::sleep(2s);
            co_await pool.query("SELECT 3");
            ++db.generation;
            try {
                co_await pool.query("SELECT 4");
            } catch (const sql::error&) {}
            co_await pool.query("SELECT 5");
        } catch (...) { error = std::current_exception(); }
        co_await pool.aclose();
        const sql::pool_statistics n = pool.statistics();
        EXPECT_EQ(n.in_use, 0u);
        EXPECT_EQ(n.idle, 0u);
        EXPECT_EQ(n.connecting, 0u);
        EXPECT_EQ(n.created, n.closed);
        if (error) std::rethrow_exception(error);
    };
    const auto check = [&] { EXPECT_EQ(db.open, 0); };
    aio::testing::cancel_at_every_step(scenario, check);
    aio::testing::end_at_every_step(scenario, check);
    aio::testing::fail_every_allocation(scenario, check);
}

AIO_REAL_TEST("PostgreSQL: settings, locks and temporary tables do not reach the next user of a connection") {
    const char* url = std::getenv("AIO_TEST_POSTGRES");
    if (!url) co_return;
    sql::pool pool(url, {.max_size = 1});
    {
        auto conn = co_await pool.acquire();
        co_await conn->query("SET TIME ZONE 'Asia/Kolkata'");
        co_await conn->query("SELECT pg_advisory_lock(7)");
        co_await conn->query("CREATE TEMP TABLE mine (x int)");
        co_await conn->query("LISTEN here");
    }
    const auto rows = co_await pool.query(
        "SELECT current_setting('TimeZone') <> 'Asia/Kolkata', (SELECT count(*) FROM pg_locks WHERE locktype = "
        "'advisory' AND pid = pg_backend_pid()), to_regclass('pg_temp.mine') IS NULL, (SELECT count(*) FROM "
        "pg_listening_channels())");
    EXPECT_TRUE(rows[0][0].as<bool>());
    EXPECT_EQ(rows[0][1].as<int>(), 0);
    EXPECT_TRUE(rows[0][2].as<bool>());
    EXPECT_EQ(rows[0][3].as<int>(), 0);
    EXPECT_EQ(pool.statistics().created, 1u);
    co_await pool.aclose();
}

AIO_REAL_TEST("PostgreSQL: when the server has ended all connections, the next queries see no error") {
    const char* url = std::getenv("AIO_TEST_POSTGRES");
    if (!url) co_return;
    const std::string ours = "pool_test_" + std::to_string(::getpid());  // other tests use the server, too
    const std::string named = std::string(url) + (std::strchr(url, '?') ? "&" : "?") + "application_name=" + ours;
    sql::pool pool(named, {.max_size = 5});
    std::vector<aio::coro<sql::rows>> jobs;
    for (int i = 0; i < 5; ++i) jobs.push_back(pool.query("SELECT pg_sleep(0.05)"));
    co_await aio::gather(std::move(jobs));
    EXPECT_EQ(pool.statistics().idle, 5u);
    auto& admin = co_await aio::enter(sql::connect(url));
    co_await admin.query(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1", ours);
    std::vector<aio::coro<sql::rows>> more;
    for (int i = 0; i < 10; ++i) more.push_back(pool.query("SELECT 1"));
    EXPECT_EQ((co_await aio::gather(std::move(more))).size(), 10u);
    co_await pool.aclose();
}
