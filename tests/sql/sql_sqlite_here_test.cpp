// Tests of short SELECTs, which SQLite's driver runs on the loop's thread: that they do, that nothing which may wait
// does, and that an attempt in vain leaves no trace. here() is a function of SQL that these tests add.
#include "folder.hpp"
#include "sql_test.hpp"

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include <sqlite3.h>

namespace {

namespace sql = aio::sql;
using aio_test::url_of;

std::atomic<std::thread::id> loop_thread;
std::atomic<bool> here_was_asked{false};

/// SQL's here() in each connection that is opened from now on: 1 on the loop's thread, else 0.
struct with_here {
    with_here() {
        loop_thread = std::this_thread::get_id();
        sqlite3_auto_extension(reinterpret_cast<void (*)()>(&add));
    }
    ~with_here() { sqlite3_reset_auto_extension(); }
    with_here(const with_here&) = delete;
    with_here& operator=(const with_here&) = delete;

    static int add(sqlite3* db, const char**, const sqlite3_api_routines*) {
        return sqlite3_create_function(db, "here", 0, SQLITE_UTF8, nullptr, &here, nullptr, nullptr);
    }
    static void here(sqlite3_context* context, int, sqlite3_value**) {
        here_was_asked = true;
        sqlite3_result_int(context, std::this_thread::get_id() == loop_thread.load());
    }
};

/// Runs a SELECT, whose first column is here(), until it runs on the loop's thread. False if it never does: the thread
/// may take longer than it should on a machine that is busy, but not each time. Under a sanitizer all may be so slow
/// that it never does.
template<class... Args>
aio::coro<bool> runs_here(sql::connection& db, std::string text, Args... args) {
    for (int i = 0; i < (AIO_TEST_SANITIZED ? 300 : 3000); ++i) {
        const sql::rows rows = co_await db.query(text, args...);
        if (rows[0][0].template as<bool>()) co_return true;
    }
    co_return AIO_TEST_SANITIZED;
}

/// Runs it after a while in which nobody writes, so that the connection keeps its lock of the WAL at the end.
template<class Connection>
aio::coro<> keep_lock(Connection& db, std::string text) {
    EXPECT_TRUE(co_await runs_here(db, text));
    co_await aio::sleep(60ms);
    EXPECT_TRUE(co_await runs_here(db, text));
    EXPECT_TRUE(co_await runs_here(db, text));
}

constexpr const char* numbers =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT $1) SELECT max(here()), max(x) FROM c";

template<class Awaitable>
aio::coro<std::string> error_of(Awaitable operation) {
    try {
        co_await std::move(operation);
    } catch (const std::exception& e) { co_return e.what(); }
    co_return "nothing";
}

/// A connection that the library does not know, as another process has one.
class stranger {
public:
    explicit stranger(const std::string& file, int busy_timeout = 5000) {
        sqlite3_open(file.c_str(), &db_);
        sqlite3_busy_timeout(db_, busy_timeout);
    }
    ~stranger() { sqlite3_close(db_); }
    stranger(const stranger&) = delete;
    stranger& operator=(const stranger&) = delete;
    void run(const char* text) { EXPECT_EQ(sqlite3_exec(db_, text, nullptr, nullptr, nullptr), SQLITE_OK) << text; }
    /// True if everything in the WAL could be moved into the file, and the WAL be emptied: no reader has a lock.
    bool empties_wal() {
        return sqlite3_wal_checkpoint_v2(db_, "main", SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr) == SQLITE_OK;
    }

private:
    sqlite3* db_ = nullptr;
};

}  // namespace

AIO_REAL_TEST("a SELECT that was short runs on the loop's thread; other statements, and one not kept, never do") {
    const with_here function;
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    EXPECT_FALSE((co_await db.query("SELECT here()"))[0][0].as<bool>());
    EXPECT_TRUE(co_await runs_here(db, "SELECT here()"));
    EXPECT_TRUE(co_await runs_here(db, " \n with a as (values (1)) SELECT here(), $1", 5));
    EXPECT_EQ((co_await db.query(" \n with a as (values (1)) SELECT here(), $1", 6))[0][1].as<int>(), 6);
    co_await db.query("CREATE TABLE t (x)");
    for (int i = 0; i < 50; ++i) co_await db.query("INSERT INTO t VALUES (here())");
    for (int i = 0; i < 50; ++i)
        EXPECT_FALSE((co_await db.query("INSERT INTO t VALUES (0) RETURNING here()"))[0][0].as<bool>());
    EXPECT_EQ((co_await db.query("SELECT max(x) FROM t"))[0][0].as<int>(), 0);
    auto& plain = co_await aio::enter(sql::connect("sqlite::memory:", {.statement_cache = 0}));
    for (int i = 0; i < 50; ++i) EXPECT_FALSE((co_await plain.query("SELECT here()"))[0][0].as<bool>());
}

AIO_REAL_TEST("a SELECT that turns out long, large or wide goes to the thread, and gives the same") {
    const with_here function;
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    for (int round = 0; round < 3; ++round) {
        EXPECT_TRUE(co_await runs_here(db, numbers, 3));
        const sql::rows many = co_await db.query(numbers, 100'000);
        EXPECT_FALSE(many[0][0].as<bool>());
        EXPECT_EQ(many[0][1].as<int>(), 100'000);

        constexpr const char* value = "SELECT here(), zeroblob($1)";
        EXPECT_TRUE(co_await runs_here(db, value, 10));
        const sql::rows large = co_await db.query(value, 5'000'000);
        EXPECT_FALSE(large[0][0].as<bool>());
        EXPECT_EQ(large[0][1].as<std::vector<std::byte>>().size(), 5'000'000u);

        constexpr const char* parameter = "SELECT here(), $1";
        EXPECT_TRUE(co_await runs_here(db, parameter, "small"));
        const sql::rows text = co_await db.query(parameter, std::string(1'000'000, 'x'));
        EXPECT_FALSE(text[0][0].as<bool>());
        EXPECT_EQ(text[0][1].as<std::string>().size(), 1'000'000u);

        constexpr const char* rows = "SELECT here(), value FROM json_each($1)";
        EXPECT_TRUE(co_await runs_here(db, rows, "[1,2,3]"));
        std::string list = "[0";
        for (int i = 1; i < 500; ++i) list += "," + std::to_string(i);
        const sql::rows all = co_await db.query(rows, list + "]");
        EXPECT_FALSE(all[0][0].as<bool>());
        EXPECT_EQ(all.size(), 500u);
        EXPECT_EQ(all[499][1].as<int>(), 499);
    }
}

AIO_REAL_TEST("a SELECT that fails on the loop's thread has the error that it has on the other") {
    const with_here function;
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    constexpr const char* text = "SELECT here(), abs($1)";
    const auto most = std::numeric_limits<std::int64_t>::min();
    const std::string on_the_thread = co_await error_of(db.query(text, most));
    EXPECT_TRUE(co_await runs_here(db, text, -5));
    EXPECT_EQ(co_await error_of(db.query(text, most)), on_the_thread);
    EXPECT_TRUE(co_await runs_here(db, text, -5));
    EXPECT_CONTAINS(co_await error_of(db.query(text)), "the statement has 1 parameters, but 0 were given");
    EXPECT_CONTAINS(co_await error_of(db.query(text, std::nan(""))), "NaN");
    EXPECT_EQ((co_await db.query(text, -7))[0][1].as<int>(), 7);
}

AIO_REAL_TEST("what SQLite has not cached is never read on the loop's thread, in either journal mode") {
    const with_here function;
    for (const std::string mode : {"DELETE", "WAL"}) {
        const aio_test::folder folder;
        auto& db = co_await aio::enter(sql::connect(url_of(folder, "t.db")));
        co_await db.query("PRAGMA journal_mode = " + mode);
        co_await db.query("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
        co_await db.query(
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 1000) "
            "INSERT INTO t SELECT i, hex(randomblob(2000)) FROM c");  // 4 MB; the cache takes 2
        constexpr const char* text = "SELECT here(), id, length(x) FROM t WHERE id = $1";
        EXPECT_TRUE(co_await runs_here(db, text, 1));
        int wrong = 0, here = 0;
        for (int i = 0; i < 3000; ++i) {
            const int id = i * 617 % 1000 + 1;
            const sql::rows rows = co_await db.query(text, id);
            here += rows[0][0].as<int>();
            wrong += rows[0][1].as<int>() != id || rows[0][2].as<int>() != 4000;
        }
        EXPECT_EQ(wrong, 0);
        EXPECT_LT(here, 2900);
        // Another process writes, so that nothing is cached any more; and in the end all is well.
        EXPECT_TRUE(co_await runs_here(db, text, 1));
        stranger other(folder.path("t.db"));
        other.run("UPDATE t SET x = 'new' WHERE id = 1");
        const sql::rows changed = co_await db.query(text, 1);
        EXPECT_FALSE(changed[0][0].as<bool>());
        EXPECT_EQ(changed[0][2].as<int>(), 3);
        EXPECT_TRUE(co_await runs_here(db, text, 1));
        other.run("CREATE TABLE u (y)");
        EXPECT_EQ((co_await db.query(text, 1))[0][2].as<int>(), 3);  // prepared anew
        EXPECT_EQ((co_await db.query("PRAGMA integrity_check"))[0][0].as<std::string>(), "ok");
    }
}

AIO_REAL_TEST("while another process holds the lock the loop goes on, and a short SELECT waits on the thread") {
    const with_here function;
    const aio_test::folder folder;
    auto& db = co_await aio::enter(sql::connect(url_of(folder, "t.db")));
    co_await db.query("CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    constexpr const char* text = "SELECT here(), x FROM t";
    EXPECT_TRUE(co_await runs_here(db, text));
    stranger other(folder.path("t.db"));
    other.run("BEGIN EXCLUSIVE; UPDATE t SET x = 2");
    auto waiting = aio::create_task(db.query(text));
    co_await aio::sleep(1ms);  // the loop's thread is not held
    EXPECT_FALSE(waiting.done());
    other.run("COMMIT");
    const sql::rows rows = co_await waiting;
    EXPECT_FALSE(rows[0][0].as<bool>());
    EXPECT_EQ(rows[0][1].as<int>(), 2);
}

AIO_REAL_TEST("an attempt in vain leaves the transaction around it as it was") {
    const with_here function;
    const aio_test::folder folder;
    auto& db = co_await aio::enter(sql::connect(url_of(folder, "t.db")));
    co_await db.query("CREATE TABLE t (x)");
    EXPECT_TRUE(co_await runs_here(db, numbers, 3));
    EXPECT_TRUE(co_await runs_here(db, "SELECT here(), zeroblob($1)", 10));
    EXPECT_TRUE(co_await runs_here(db, "SELECT here(), abs($1)", 1));
    const auto body = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (1)");
        EXPECT_EQ((co_await db.query(numbers, 50'000))[0][1].as<int>(), 50'000);
        EXPECT_EQ((co_await db.query("SELECT here(), zeroblob($1)", 100'000)).size(), 1u);
        EXPECT_NE(
            co_await error_of(db.query("SELECT here(), abs($1)", std::numeric_limits<std::int64_t>::min())), "nothing");
        co_await db.query("INSERT INTO t VALUES (2)");
        EXPECT_TRUE(co_await runs_here(db, "SELECT here(), count(*) FROM t"));
    };
    co_await aio::with(db.transaction(), body);
    EXPECT_EQ(co_await aio_test::count(db, "t"), 2);
}

// As others have given old columns for a statement that was kept: go-sqlite3 1447, bun 921.
AIO_REAL_TEST("a short SELECT sees tables that were changed, here and by another process") {
    const with_here function;
    const aio_test::folder folder;
    auto& db = co_await aio::enter(sql::connect(url_of(folder, "t.db")));
    co_await db.query("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    constexpr const char* text = "SELECT here(), * FROM t";
    EXPECT_TRUE(co_await runs_here(db, text));
    co_await db.query("ALTER TABLE t ADD COLUMN b DEFAULT 'new'");
    const sql::rows wider = co_await db.query(text);
    EXPECT_EQ(wider.columns(), (std::vector<std::string>{"here()", "a", "b"}));
    EXPECT_TRUE(co_await runs_here(db, text));
    stranger(folder.path("t.db")).run("ALTER TABLE t RENAME COLUMN b TO c");
    const sql::rows renamed = co_await db.query(text);
    EXPECT_EQ(renamed.columns(), (std::vector<std::string>{"here()", "a", "c"}));
    EXPECT_EQ(renamed[0]["c"].as<std::string>(), "new");
    EXPECT_TRUE(co_await runs_here(db, text));
    co_await db.query("DROP TABLE t");
    EXPECT_CONTAINS(co_await error_of(db.query(text)), "no such table: t");
}

AIO_REAL_TEST("a stream that was dropped ends before the next short SELECT") {
    const with_here function;
    const aio_test::folder folder;
    auto& db = co_await aio::enter(sql::connect(url_of(folder, "t.db")));
    co_await db.query("CREATE TABLE t (x)");
    EXPECT_TRUE(co_await runs_here(db, "SELECT here()"));
    for (int i = 0; i < 200; ++i) {
        {
            auto stream = db.stream("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c");
            EXPECT_NE(co_await stream.next(), nullptr);
        }
        EXPECT_EQ((co_await db.query("SELECT here()")).size(), 1u);
        if (i % 20 == 0) co_await db.query("INSERT INTO t VALUES (1)");
    }
    EXPECT_EQ(co_await aio_test::count(db, "t"), 10);
}

AIO_REAL_TEST("a task of nothing but short SELECTs starves no other task, and can be cancelled") {
    const with_here function;
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    EXPECT_TRUE(co_await runs_here(db, "SELECT here()"));
    bool ended = false;
    const auto endless = [&]() -> aio::coro<> {
        try {
            for (;;) co_await db.query("SELECT here()");
        } catch (const aio::cancelled_error&) {
            ended = true;
            throw;
        }
    };
    auto busy = aio::create_task(endless);
    int turns = 0;
    for (; turns < 100; ++turns) co_await aio::sleep(0s);
    busy.cancel();
    const std::vector all{busy};
    co_await aio::wait(all);
    EXPECT_TRUE(busy.cancelled());
    EXPECT_TRUE(ended);
    // A query is not even begun under a pending cancel.
    int asked = 0;
    const auto one = [&]() -> aio::coro<> {
        aio::current_task().cancel();
        co_await db.query("SELECT here()");
        ++asked;
    };
    auto cancelled = aio::create_task(one);
    const std::vector only{cancelled};
    co_await aio::wait(only);
    EXPECT_TRUE(cancelled.cancelled());
    EXPECT_EQ(asked, 0);
}

AIO_REAL_TEST("many tasks and connections, readers and writers: short SELECTs see whole transactions alone") {
    const with_here function;
    const aio_test::folder folder;
    sql::pool pool(url_of(folder, "t.db"), {.max_size = 4});
    co_await pool.query("CREATE TABLE t (id INTEGER PRIMARY KEY, x INT)");
    co_await pool.query("INSERT INTO t VALUES (1, 500), (2, 500)");
    int here = 0, wrong = 0, done = 0;
    const auto writer = [&]() -> aio::coro<> {
        for (int i = 0; i < 30; ++i) {
            auto conn = co_await pool.acquire();
            const auto body = [&]() -> aio::coro<> {
                co_await conn->query("UPDATE t SET x = x - 1 WHERE id = 1");
                co_await conn->query("UPDATE t SET x = x + 1 WHERE id = 2");
            };
            co_await aio::with(conn->transaction(), body);
        }
        ++done;
    };
    const auto reader = [&]() -> aio::coro<> {
        while (done < 2) {
            const sql::rows rows = co_await pool.query("SELECT here(), sum(x) FROM t");
            here += rows[0][0].as<int>();
            wrong += rows[0][1].as<int>() != 1000;
            co_await aio::sleep(0s);
        }
    };
    co_await aio::gather(writer(), writer(), reader(), reader(), reader());
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ((co_await pool.query("SELECT x FROM t WHERE id = 1"))[0][0].as<int>(), 440);
    co_await pool.aclose();
}

AIO_REAL_TEST(
    "the lock that short SELECTs keep is given back when the loop has nothing to do, and before other statements") {
    const with_here function;
    const aio_test::folder folder;
    auto& db = co_await aio::enter(sql::connect(url_of(folder, "t.db")));
    co_await db.query("PRAGMA journal_mode = WAL");
    co_await db.query("CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    stranger other(folder.path("t.db"));
    constexpr const char* text = "SELECT here(), x FROM t";
    for (int i = 0; i < 6; ++i) {
        other.run("UPDATE t SET x = x + 1");
        co_await keep_lock(db, text);
        EXPECT_EQ((co_await db.query(text))[0][1].as<int>(), i + 2);  // what another has written is seen at once
        other.run("UPDATE t SET x = x + 0");
        if (i % 2 == 0)
            co_await aio::sleep(1ms);
        else
            co_await db.query("INSERT INTO t VALUES (1)");
        EXPECT_TRUE(other.empties_wal()) << i;
    }
    EXPECT_TRUE(co_await runs_here(db, text));
    auto stream = db.stream("SELECT x FROM t");
    EXPECT_NE(co_await stream.next(), nullptr);
}

AIO_REAL_TEST("a connection that is closed after a short SELECT leaves no lock, and nor does one that is dropped") {
    const with_here function;
    const aio_test::folder folder;
    stranger other(folder.path("t.db"));
    other.run("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    constexpr const char* text = "SELECT here(), x FROM t";
    for (int i = 0; i < 6; ++i) {
        sql::pool pool(url_of(folder, "t.db"), {.max_size = 1});
        {
            auto conn = co_await pool.acquire();
            co_await keep_lock(*conn, text);
        }
        if (i % 2 == 0)
            co_await pool.aclose();
        else
            continue;
        other.run("UPDATE t SET x = 2");
        EXPECT_TRUE(other.empties_wal()) << i;
    }
    other.run("UPDATE t SET x = 3");
    EXPECT_TRUE(other.empties_wal());
}

AIO_REAL_TEST("readers that never pause do not keep the WAL from being emptied") {
    const with_here function;
    const aio_test::folder folder;
    auto& db = co_await aio::enter(sql::connect(url_of(folder, "t.db")));
    co_await db.query("PRAGMA journal_mode = WAL");
    co_await db.query("CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    constexpr const char* text = "SELECT here(), x FROM t";
    EXPECT_TRUE(co_await runs_here(db, text));
    stranger other(folder.path("t.db"), 0);
    for (int i = 0; i < 4; ++i) {
        other.run("UPDATE t SET x = x + 1");
        co_await keep_lock(db, text);
        bool emptied = false;
        for (int n = 0; n < 1000 && !emptied; ++n) {
            co_await db.query(text);
            emptied = other.empties_wal();
        }
        EXPECT_TRUE(emptied);
    }
}

AIO_REAL_TEST(
    "a cancel that is withdrawn while a statement is interrupted is an error of its own, no cancelled_error") {
    const with_here function;
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    here_was_asked = false;
    auto job = aio::create_task(error_of(
        db.query("WITH RECURSIVE c(x) AS (SELECT here() UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c")));
    while (!here_was_asked) co_await aio::sleep(1ms);
    job.cancel();
    job.uncancel();
    EXPECT_CONTAINS(co_await job, "interrupted by a cancel that was withdrawn (SQLITE_INTERRUPT)");
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

TEST(sqlite_here, the_lock_is_given_back_at_the_end_of_the_loop) {
    const with_here function;
    const aio_test::folder folder;
    stranger other(folder.path("t.db"));
    other.run("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    std::optional<sql::pool> pool;
    const auto body = [&]() -> aio::coro<> {
        pool.emplace(url_of(folder, "t.db"), sql::pool_options{.max_size = 1});
        auto conn = co_await pool->acquire();
        co_await keep_lock(*conn, "SELECT here(), x FROM t");
    };
    aio::run(body());
    other.run("UPDATE t SET x = 2");
    EXPECT_TRUE(other.empties_wal());
    pool.reset();
}
