// Pools of SQLite connections: one writes and the others read, whoever holds what; read-only files, memory, files that
// are moved away; and another process as the peer.
#include "folder.hpp"
#include "other_program.hpp"
#include "sql_test.hpp"

namespace {

namespace sql = aio::sql;
using aio_test::sql_failure;
using aio_test::sql_failure_of;
using aio_test::url_of;

/// Begins a transaction that writes, and ends it at the end of the block's exit().
aio::coro<> begin(sql::transaction& t, sql::connection& db) {
    co_await t.enter();
    co_await db.query("INSERT INTO t VALUES (-1)");
}

}  // namespace

AIO_REAL_TEST("however many writers wait, readers find a connection, and the writers go in their order") {
    const aio_test::folder folder;
    sql::pool pool(url_of(folder, "w.db"), {.max_size = 3});
    co_await pool.query("CREATE TABLE t (x)");
    auto holder = co_await pool.acquire();
    auto transaction = holder->transaction();
    co_await begin(transaction, *holder);
    std::vector<aio::task<sql::rows>> writers;
    for (int i = 0; i < 10; ++i)
        writers.push_back(aio::create_task(pool.query("/* a writer */ INSERT INTO t VALUES ($1)", i)));
    for (int i = 0; i < 5; ++i) {
        const auto rows = co_await aio::wait_for(pool.query("-- a reader\nSELECT count(*) FROM t"), 30s);
        EXPECT_EQ(rows[0][0].as<int>(), 0);
    }
    EXPECT_EQ(pool.statistics().in_use, 2u);
    EXPECT_EQ(pool.statistics().tasks_waiting, 9u);
    // One that waits in the line leaves it when it is cancelled; the one with the connection stops to wait for the
    // lock.
    writers[4].cancel();
    writers[0].cancel();
    const std::vector leaving{writers[0], writers[4]};
    co_await aio::wait(leaving);
    co_await transaction.exit(nullptr);
    co_await aio::wait(writers);
    EXPECT_TRUE(writers[0].cancelled());
    EXPECT_TRUE(writers[4].cancelled());
    const auto order = (co_await pool.query("SELECT x FROM t ORDER BY rowid")).as<int>();
    EXPECT_EQ(order, (std::vector<int>{-1, 1, 2, 3, 5, 6, 7, 8, 9}));
    holder.release();
    EXPECT_EQ(pool.statistics().in_use, 0u);
    EXPECT_EQ(pool.statistics().tasks_waiting, 0u);
    co_await pool.aclose();
}

AIO_REAL_TEST("acquire_timeout counts the time in the line of writers, and its error says who waits") {
    const aio_test::folder folder;
    sql::pool pool(url_of(folder, "w.db"), {.max_size = 3, .acquire_timeout = 2s});
    co_await pool.query("CREATE TABLE t (x)");
    auto holder = co_await pool.acquire();
    auto transaction = holder->transaction();
    co_await begin(transaction, *holder);
    auto first = aio::create_task(pool.query("INSERT INTO t VALUES (1)"));
    co_await aio::sleep(0s);
    const sql_failure late = co_await sql_failure_of(pool.query("INSERT INTO t VALUES (2)"));
    EXPECT_EQ(late.code, "exception");
    EXPECT_CONTAINS(late.what, "no connection of the sql::pool came free within");
    EXPECT_CONTAINS(late.what, "2 of at most 3 connections are in use");
    EXPECT_EQ(pool.statistics().timeouts, 1u);
    co_await transaction.exit(nullptr);
    co_await first;
    co_await pool.query("INSERT INTO t VALUES (3)");
    EXPECT_EQ((co_await pool.query("SELECT sum(x) FROM t"))[0][0].as<int>(), 3);
    holder.release();
    // Who waits in the line when the pool is closed is sent away.
    auto again = co_await pool.acquire();
    auto second = again->transaction();
    co_await begin(second, *again);
    auto one = aio::create_task(pool.query("INSERT INTO t VALUES (4)"));
    auto two = aio::create_task(sql_failure_of(pool.query("INSERT INTO t VALUES (5)")));
    co_await aio::sleep(5ms);
    auto closing = aio::create_task(pool.aclose());
    co_await aio::sleep(0s);
    co_await second.exit(nullptr);
    again.release();
    co_await closing;
    co_await one;
    EXPECT_CONTAINS((co_await two).what, "this sql::pool is closed");
}

AIO_REAL_TEST("a statement of a pool that writes behind WITH or RETURNING is right, too, and so are pragmas") {
    const aio_test::folder folder;
    sql::pool pool(url_of(folder, "w.db"), {.max_size = 4});
    co_await pool.query("CREATE TABLE t (x INTEGER)");
    std::vector<aio::coro<sql::rows>> jobs;
    for (int i = 0; i < 20; ++i) {
        jobs.push_back(pool.query("WITH n(v) AS (VALUES ($1)) INSERT INTO t SELECT v FROM n", i));
        jobs.push_back(pool.query("INSERT INTO t VALUES ($1) RETURNING x", i));
        jobs.push_back(pool.query("SELECT count(*) FROM t"));
        jobs.push_back(pool.query("PRAGMA user_version"));
    }
    co_await aio::gather(std::move(jobs));
    const sql::rows sums = co_await pool.query("SELECT count(*), sum(x) FROM t");
    EXPECT_EQ(sums[0][0].as<int>(), 40);
    EXPECT_EQ(sums[0][1].as<int>(), 380);
    co_await pool.aclose();
}

AIO_REAL_TEST("a pool of a file that is read only reads at once, and refuses to write with the file's name") {
    const aio_test::folder folder;
    {
        sql::pool pool(url_of(folder, "r.db"), {.max_size = 2});
        co_await pool.query("CREATE TABLE t (x)");
        co_await pool.query("INSERT INTO t VALUES (7)");
        co_await pool.aclose();
    }
    sql::pool pool(url_of(folder, "r.db"), {.max_size = 4, .sqlite = {.read_only = true}});
    std::vector<aio::coro<sql::rows>> jobs;
    for (int i = 0; i < 50; ++i) jobs.push_back(pool.query("SELECT x FROM t"));
    for (const sql::rows& rows : co_await aio::gather(std::move(jobs))) EXPECT_EQ(rows[0][0].as<int>(), 7);
    const sql_failure f = co_await sql_failure_of(pool.query("INSERT INTO t VALUES (1)"));
    EXPECT_EQ(f.code, "SQLITE_READONLY");
    EXPECT_CONTAINS(f.what, "r.db");
    co_await pool.aclose();
}

AIO_REAL_TEST("a pool in memory: a transaction and queries of others take turns, and the data stays") {
    sql::pool pool("sqlite::memory:", {.max_size = 8, .max_idle = 1ms});
    co_await pool.query("CREATE TABLE t (x)");
    const auto job = [&](int i) -> aio::coro<> {
        auto conn = co_await pool.acquire();
        const auto body = [&]() -> aio::coro<> {
            co_await conn->query("INSERT INTO t VALUES ($1)", i);
            if (i % 3 == 0) throw std::runtime_error("no");
        };
        try {
            co_await aio::with(conn->transaction(), body);
        } catch (const std::runtime_error&) {}
    };
    std::vector<aio::coro<>> jobs;
    for (int i = 0; i < 30; ++i) jobs.push_back(job(i));
    co_await aio::gather(std::move(jobs));
    co_await aio::sleep(5ms);
    EXPECT_EQ((co_await pool.query("SELECT count(*) FROM t"))[0][0].as<int>(), 20);
    EXPECT_EQ(pool.statistics().created, 1u);
    co_await pool.aclose();
}

AIO_REAL_TEST(
    "another process that holds the lock is waited for, and killed in its transaction it leaves a whole file") {
    if (!aio_test::there_is("python3", "python3 -c 'import sqlite3'")) co_return;
    for (const std::string mode : {"delete", "wal"}) {
        const aio_test::folder folder;
        auto& db = co_await aio::enter(sql::connect(url_of(folder, "p.db"), {.sqlite = {.busy_timeout = 30s}}));
        co_await db.query("PRAGMA journal_mode = " + mode);
        co_await db.query("CREATE TABLE t (x)");
        const std::string script =
            "import os, sqlite3, sys\n"
            "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "db.execute('BEGIN IMMEDIATE'); db.execute('INSERT INTO t VALUES (1)'); print('locked', flush=True)\n"
            "sys.stdin.readline(); db.execute('COMMIT'); print('free', flush=True)\n"
            "db.execute('BEGIN IMMEDIATE'); db.execute('INSERT INTO t VALUES (2)'); print('again', flush=True)\n"
            "sys.stdin.readline(); os.kill(os.getpid(), 9)\n";
        aio_test::other_program python({"python3", "-c", script, folder.path("p.db")});
        EXPECT_EQ(co_await python.line(), "locked");
        EXPECT_EQ(co_await aio_test::count(db, "t"), 0);
        auto waiting = aio::create_task(db.query("INSERT INTO t VALUES (10)"));
        co_await aio::sleep(2ms);
        EXPECT_FALSE(waiting.done());
        python.write("go\n");
        EXPECT_EQ(co_await python.line(), "free");
        EXPECT_EQ(co_await python.line(), "again");
        python.write("die\n");
        co_await waiting;
        EXPECT_EQ((co_await db.query("SELECT sum(x) FROM t"))[0][0].as<int>(), 11);
        EXPECT_EQ((co_await db.query("PRAGMA integrity_check"))[0][0].as<std::string>(), "ok");
    }
}

AIO_REAL_TEST("a file that is moved away while it is open: the error of a write says so") {
    const aio_test::folder folder;
    auto& db = co_await aio::enter(sql::connect(url_of(folder, "m.db")));
    co_await db.query("CREATE TABLE t (x)");
    for (int i = 0; i < 5; ++i) EXPECT_EQ(co_await aio_test::count(db, "t"), 0);
    std::filesystem::rename(folder / "m.db", folder / "elsewhere.db");
    EXPECT_EQ(co_await aio_test::count(db, "t"), 0);
    const sql_failure f = co_await sql_failure_of(db.query("INSERT INTO t VALUES (1)"));
    EXPECT_EQ(f.code, "SQLITE_READONLY_DBMOVED");
    EXPECT_CONTAINS(f.what, "m.db': the file was moved or removed while it was open");
    std::filesystem::rename(folder / "elsewhere.db", folder / "m.db");
    EXPECT_EQ((co_await sql_failure_of(db.query("INSERT INTO t VALUES (1)"))).code, "nothing");
}

PLAIN_TEST("cancelled at any step, a pool whose writers line up loses no connection, no turn and no row") {
    const aio_test::folder folder;
    const std::string url = url_of(folder, "c.db");
    const auto make = [&]() -> aio::coro<> {
        auto& db = co_await aio::enter(sql::connect(url));
        co_await db.query("CREATE TABLE t (x)");
    };
    aio::run(make());
    std::size_t completed = 0;
    auto scenario = [&]() -> aio::coro<> {
        sql::pool pool(url, {.max_size = 2});
        std::exception_ptr error;
        const auto write = [&]() -> aio::coro<> {
            co_await pool.query("INSERT INTO t VALUES (1)");
            ++completed;
        };
        try {
            co_await aio::gather(write(), pool.query("SELECT count(*) FROM t"), write(), write());
        } catch (...) { error = std::current_exception(); }
        co_await pool.query("INSERT INTO t VALUES (2)");  // the turn is free
        co_await pool.aclose();
        const sql::pool_statistics n = pool.statistics();
        EXPECT_EQ(n.in_use, 0u);
        EXPECT_EQ(n.tasks_waiting, 0u);
        EXPECT_EQ(n.created, n.closed);
        if (error) std::rethrow_exception(error);
    };
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [] {});
    EXPECT_GT(runs, 5u);
    const auto rows = [&]() -> aio::coro<std::size_t> {
        auto& db = co_await aio::enter(sql::connect(url));
        const sql::rows found = co_await db.query("SELECT count(*) FROM t WHERE x = 1");
        co_return found[0][0].as<std::size_t>();
    };
    EXPECT_GE(aio::run(rows()), completed);
}
