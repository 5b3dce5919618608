// Tests of what SQLite has of its own: options, the statement cache, writers that line up, execute_many, backups, and
// faults of the disk, the file and the memory.
#include "folder.hpp"
#include "in_a_fork.hpp"
#include "sql_test.hpp"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <map>

#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace {

namespace sql = aio::sql;
using aio_test::contains;
using aio_test::count;
using aio_test::sql_failure;
using aio_test::sql_failure_of;
using aio_test::url_of;

#define SKIP_WITHOUT_THREADS_AFTER_FORK() \
    if (AIO_TEST_TSAN) GTEST_SKIP() << "a child of fork() cannot start threads under ThreadSanitizer"

constexpr const char* numbers =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT $1) SELECT x FROM c";

/// A connection that the library does not know, as another process has one.
class stranger {
public:
    explicit stranger(const std::string& file) { sqlite3_open(file.c_str(), &db_); }
    ~stranger() { sqlite3_close(db_); }
    stranger(const stranger&) = delete;
    stranger& operator=(const stranger&) = delete;
    int run(const char* text) { return sqlite3_exec(db_, text, nullptr, nullptr, nullptr); }

private:
    sqlite3* db_ = nullptr;
};

aio::coro<std::string> integrity(std::string url) {
    auto& db = co_await aio::enter(sql::connect(std::move(url)));
    co_return (co_await db.query("PRAGMA integrity_check"))[0][0].as<std::string>();
}

}  // namespace

// ---- options ----

AIO_REAL_TEST("options of SQLite: read only, no new file, immutable, pragmas, busy timeout") {
    const aio_test::folder folder;
    const std::string url = url_of(folder, "o?p#t%41.db");
    EXPECT_EQ(
        (co_await sql_failure_of(sql::connect(url, {.sqlite = {.create = false}}).enter())).code, "SQLITE_CANTOPEN");
    EXPECT_EQ(
        (co_await sql_failure_of(sql::connect(url, {.sqlite = {.read_only = true}}).enter())).code, "SQLITE_CANTOPEN");
    std::string pragmas = "PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL";
    auto connecting = sql::connect(url, {.sqlite = {.pragmas = pragmas}});
    pragmas.assign(pragmas.size(), '!');  // the options were copied
    auto& db = co_await aio::enter(std::move(connecting));
    EXPECT_EQ((co_await db.query("PRAGMA foreign_keys"))[0][0].as<int>(), 1);
    EXPECT_EQ((co_await db.query("PRAGMA synchronous"))[0][0].as<int>(), 1);
    EXPECT_EQ((co_await db.query("PRAGMA journal_mode"))[0][0].as<std::string>(), "delete");
    co_await db.query("CREATE TABLE t (x)");
    auto& reader = co_await aio::enter(sql::connect(url, {.sqlite = {.read_only = true}}));
    EXPECT_EQ((co_await sql_failure_of(reader.query("INSERT INTO t VALUES (1)"))).code, "SQLITE_READONLY");
    auto& fixed = co_await aio::enter(sql::connect(url, {.sqlite = {.immutable = true}}));
    EXPECT_EQ(co_await count(fixed, "t"), 0);
    EXPECT_EQ((co_await sql_failure_of(sql::connect(url, {.sqlite = {.pragmas = "PRAGMA nonsense("}}).enter())).code,
        "SQLITE_ERROR");

    co_await db.query("BEGIN EXCLUSIVE");
    auto& hasty = co_await aio::enter(sql::connect(url, {.sqlite = {.busy_timeout = 20ms}}));
    const sql_failure busy = co_await sql_failure_of(hasty.query("INSERT INTO t VALUES (1)"));
    EXPECT_EQ(busy.code, "SQLITE_BUSY");
    EXPECT_CONTAINS(busy.what, "o?p#t%41.db': database is locked (SQLITE_BUSY)");
    co_await db.query("COMMIT");
    EXPECT_EQ((co_await sql_failure_of(hasty.query("INSERT INTO t VALUES (1)"))).code, "nothing");
}

AIO_REAL_TEST("a pool of several connections turns WAL on; one of a single connection leaves the file as it is") {
    const aio_test::folder folder;
    {
        sql::pool one(url_of(folder, "one.db"), {.max_size = 1});
        EXPECT_EQ((co_await one.query("PRAGMA journal_mode"))[0][0].as<std::string>(), "delete");
        sql::pool two(url_of(folder, "two.db"), {.max_size = 2, .sqlite = {.pragmas = "PRAGMA synchronous = NORMAL"}});
        EXPECT_EQ((co_await two.query("PRAGMA journal_mode"))[0][0].as<std::string>(), "wal");
        EXPECT_EQ((co_await two.query("PRAGMA synchronous"))[0][0].as<int>(), 1);
        co_await one.aclose();
        co_await two.aclose();
    }
    sql::pool readers(url_of(folder, "two.db"), {.max_size = 2, .sqlite = {.read_only = true}});
    EXPECT_EQ((co_await sql_failure_of(readers.query("CREATE TABLE t (x)"))).code, "SQLITE_READONLY");
    co_await readers.aclose();
}

// ---- statements ----

AIO_REAL_TEST("statements that are kept see changed tables, whatever the size of the cache") {
    for (const std::size_t size : {std::size_t(0), std::size_t(1), std::size_t(100)}) {
        auto& db = co_await aio::enter(sql::connect("sqlite::memory:", {.statement_cache = size}));
        co_await db.query("CREATE TABLE t (a)");
        co_await db.query("INSERT INTO t VALUES ($1)", 1);
        EXPECT_EQ((co_await db.query("SELECT * FROM t")).columns().size(), 1u);
        EXPECT_EQ((co_await db.query("SELECT * FROM t")).columns().size(), 1u);
        co_await db.query("ALTER TABLE t ADD COLUMN b DEFAULT 'new'");
        const sql::rows rows = co_await db.query("SELECT * FROM t");
        EXPECT_EQ(rows.columns(), (std::vector<std::string>{"a", "b"}));
        EXPECT_EQ(rows[0]["b"].as<std::string>(), "new");
        co_await db.query("DROP TABLE t");
        EXPECT_EQ((co_await sql_failure_of(db.query("SELECT * FROM t"))).code, "SQLITE_ERROR");
        co_await db.query("CREATE TABLE t (c)");
        EXPECT_EQ((co_await db.query("SELECT * FROM t")).columns().at(0), "c");
        for (int i = 0; i < 300; ++i) {
            EXPECT_EQ((co_await db.query("SELECT $1 + " + std::to_string(i % 150), 1))[0][0].as<int>(), 1 + i % 150);
        }
        // A statement that fails, and one that was cancelled, are as new afterwards.
        EXPECT_EQ((co_await sql_failure_of(db.query("SELECT abs($1)", std::numeric_limits<std::int64_t>::min()))).code,
            "SQLITE_ERROR");
        EXPECT_EQ((co_await db.query("SELECT abs($1)", -5))[0][0].as<int>(), 5);
        // No value of one query is left for the next.
        EXPECT_EQ((co_await sql_failure_of(db.query("SELECT $1"))).code, "SQLITE_RANGE");
    }
}

AIO_REAL_TEST("a statement that is kept sees what another connection has changed about its table") {
    const aio_test::folder folder;
    auto& a = co_await aio::enter(sql::connect(url_of(folder, "s.db")));
    auto& b = co_await aio::enter(sql::connect(url_of(folder, "s.db")));
    co_await a.query("CREATE TABLE t (x)");
    co_await a.query("INSERT INTO t VALUES (1)");
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ((co_await a.query("SELECT * FROM t")).columns().size(), static_cast<std::size_t>(i) + 1);
        co_await b.query("ALTER TABLE t ADD COLUMN y" + std::to_string(i) + " DEFAULT 5");
    }
    auto rows = a.stream("SELECT * FROM t");
    const auto row = co_await rows.next();
    EXPECT_EQ(row->size(), 4u);
}

AIO_REAL_TEST("? and $1 in one statement are refused; ?2 goes with ? as SQLite defines it") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const sql_failure f = co_await sql_failure_of(db.query("SELECT $2, ?", 1, 2));
    EXPECT_EQ(f.code, "SQLITE_RANGE");
    EXPECT_CONTAINS(f.what, "both ? and $1");
    const auto rows = co_await db.query("SELECT ?2, ?, ?1", 1, 2, 3);
    using three = std::tuple<int, int, int>;
    EXPECT_EQ(rows[0].as<three>(), three(2, 3, 1));
}

AIO_REAL_TEST("STRICT tables, text with NUL, large blobs and empty ones") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE s (id INTEGER, data BLOB, name TEXT) STRICT");
    EXPECT_EQ((co_await sql_failure_of(db.query("INSERT INTO s VALUES ($1, NULL, NULL)", "five"))).code,
        "SQLITE_CONSTRAINT_DATATYPE");
    const std::vector<std::byte> large(20'000'000, std::byte{7});
    const std::string with_zero("a\0b", 3);
    co_await db.query("INSERT INTO s VALUES ($1, $2, $3)", 1, large, with_zero);
    const sql::rows rows = co_await db.query("SELECT data, name, length(data) FROM s");
    EXPECT_TRUE(rows[0][0].as<std::vector<std::byte>>() == large);
    EXPECT_EQ(rows[0][1].as<std::string>(), with_zero);
    EXPECT_EQ(rows[0][2].as<int>(), 20'000'000);
}

// ---- several at once ----

AIO_REAL_TEST("many writers on one file line up: none of them is told that the database is locked") {
    const aio_test::folder folder;
    sql::pool pool(url_of(folder, "w.db"), {.max_size = 8, .sqlite = {.pragmas = "PRAGMA synchronous = OFF"}});
    co_await pool.query("CREATE TABLE t (writer, n)");
    auto writer = [&](int me) -> aio::coro<> {
        for (int i = 0; i < 25; ++i) {
            auto db = co_await pool.acquire();
            auto body = [&]() -> aio::coro<> {
                co_await db->query("INSERT INTO t VALUES ($1, $2)", me, i);
                co_await db->query("INSERT INTO t VALUES ($1, $2)", me, -i);
            };
            if (i % 2 == 0) {
                co_await aio::with(db->transaction(), body);
            } else {
                co_await body();
            }
        }
    };
    std::vector<aio::coro<>> jobs;
    for (int i = 0; i < 8; ++i) jobs.push_back(writer(i));
    co_await aio::gather(std::move(jobs));
    EXPECT_EQ((co_await pool.query("SELECT count(*) FROM t"))[0][0].as<int>(), 8 * 50);
    co_await pool.aclose();
}

AIO_REAL_TEST("readers go on while one writes, and who is cancelled in the line of writers leaves it") {
    const aio_test::folder folder;
    sql::pool pool(url_of(folder, "r.db"), {.max_size = 4});
    co_await pool.query("CREATE TABLE t (x)");
    auto writer = co_await pool.acquire();
    auto begun = writer->transaction();
    co_await begun.enter();
    co_await writer->query("INSERT INTO t VALUES (1)");
    EXPECT_EQ((co_await pool.query("SELECT count(*) FROM t"))[0][0].as<int>(), 0);
    auto cancelled = aio::create_task(pool.query("INSERT INTO t VALUES (2)"));
    auto next = aio::create_task(pool.query("INSERT INTO t VALUES (3)"));
    EXPECT_EQ((co_await pool.query("SELECT count(*) FROM t"))[0][0].as<int>(), 0);
    cancelled.cancel();
    EXPECT_THROW(co_await cancelled, aio::cancelled_error);
    EXPECT_FALSE(next.done());
    co_await begun.exit(nullptr);
    co_await next;
    EXPECT_EQ((co_await pool.query("SELECT sum(x) FROM t"))[0][0].as<int>(), 4);
    writer.release();
    co_await pool.aclose();
}

AIO_REAL_TEST("a transaction that has read and then writes is told at once when another has written: no deadlock") {
    const aio_test::folder folder;
    auto& a = co_await aio::enter(sql::connect(url_of(folder, "d.db")));
    auto& b = co_await aio::enter(sql::connect(url_of(folder, "d.db")));
    co_await a.query("PRAGMA journal_mode = WAL");
    co_await a.query("CREATE TABLE t (x)");
    co_await a.query("BEGIN");
    co_await a.query("SELECT * FROM t");
    co_await b.query("INSERT INTO t VALUES (1)");
    EXPECT_EQ((co_await sql_failure_of(a.query("INSERT INTO t VALUES (2)"))).code, "SQLITE_BUSY_SNAPSHOT");
    co_await a.query("ROLLBACK");
    EXPECT_EQ((co_await sql_failure_of(a.query("INSERT INTO t VALUES (2)"))).code, "nothing");
}

AIO_REAL_TEST("the lock of another process is waited for, and a cancel ends the wait") {
    const aio_test::folder folder;
    auto& db = co_await aio::enter(sql::connect(url_of(folder, "p.db")));
    co_await db.query("CREATE TABLE t (x)");
    stranger other(folder.path("p.db"));
    EXPECT_EQ(other.run("BEGIN IMMEDIATE"), SQLITE_OK);
    auto waiting = aio::create_task(db.query("INSERT INTO t VALUES (1)"));
    co_await aio::sleep(3ms);
    EXPECT_FALSE(waiting.done());
    EXPECT_EQ(other.run("COMMIT"), SQLITE_OK);
    co_await waiting;
    EXPECT_EQ(other.run("BEGIN IMMEDIATE"), SQLITE_OK);
    auto cancelled = aio::create_task(db.query("INSERT INTO t VALUES (1)"));
    co_await aio::sleep(3ms);
    cancelled.cancel();
    EXPECT_THROW(co_await cancelled, aio::cancelled_error);
    EXPECT_EQ(other.run("COMMIT"), SQLITE_OK);
    EXPECT_EQ(co_await count(db, "t"), 1);
}

// ---- execute_many ----

AIO_REAL_TEST("execute_many is all or nothing, alone and inside a transaction") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    std::vector<std::tuple<int, std::string>> people;
    for (int i = 0; i < 5000; ++i) people.emplace_back(i, "name " + std::to_string(i));
    EXPECT_EQ((co_await db.execute_many("INSERT INTO t VALUES ($1, $2)", people)).affected(), 5000u);
    EXPECT_EQ((co_await sql_failure_of(db.execute_many("INSERT INTO t VALUES ($1, $2)", people))).code,
        "SQLITE_CONSTRAINT_PRIMARYKEY");
    EXPECT_EQ(co_await count(db, "t"), 5000);
    const std::vector<std::tuple<int, std::string>> some{{6000, "a"}, {6001, "b"}, {5, "double"}};
    auto body = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (7000, 'kept')");
        EXPECT_EQ((co_await sql_failure_of(db.execute_many("INSERT INTO t VALUES ($1, $2)", some))).code,
            "SQLITE_CONSTRAINT_PRIMARYKEY");
    };
    co_await aio::with(db.transaction(), body);
    EXPECT_EQ(co_await count(db, "t"), 5001);
    const std::vector<std::tuple<int>> none;
    EXPECT_EQ((co_await db.execute_many("INSERT INTO t (id) VALUES ($1)", none)).affected(), 0u);
    EXPECT_EQ((co_await sql_failure_of(db.execute_many("INSERT INTO t (id) VALUES ($1)", some))).code, "SQLITE_RANGE");
    EXPECT_EQ(co_await count(db, "t"), 5001);
}

PLAIN_TEST("execute_many, cancelled at every step, happens whole or not at all") {
    const aio_test::folder folder;
    const std::string url = url_of(folder, "m.db");
    auto count_now = [&]() -> aio::coro<std::int64_t> {
        auto& db = co_await aio::enter(sql::connect(url));
        co_await db.query("CREATE TABLE IF NOT EXISTS t (x)");
        co_return co_await count(db, "t");
    };
    std::int64_t before = aio::run(count_now());
    const std::vector<std::tuple<int>> values{{1}, {2}, {3}, {4}};
    auto scenario = [&]() -> aio::coro<> {
        auto& db = co_await aio::enter(sql::connect(url));
        std::exception_ptr cancelled;
        try {
            co_await db.execute_many("INSERT INTO t VALUES ($1)", values);
        } catch (const aio::cancelled_error&) { cancelled = std::current_exception(); }
        co_await db.query("SELECT 1");
        if (cancelled) std::rethrow_exception(cancelled);
    };
    auto check = [&] {
        const std::int64_t now = aio::run(count_now());
        EXPECT_TRUE(now == before || now == before + 4) << before << " became " << now;
        before = now;
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, check), 3u);
}

// ---- backups ----

AIO_REAL_TEST("a backup is a whole copy, made while others write, and tells how far it has come") {
    const aio_test::folder folder;
    sql::pool pool(url_of(folder, "live.db"), {.max_size = 2, .sqlite = {.pragmas = "PRAGMA synchronous = OFF"}});
    co_await pool.query("CREATE TABLE t (x INTEGER, pad TEXT)");
    const std::string pad(1000, 'p');
    const std::string fill = std::string("INSERT INTO t SELECT x, $2 FROM (") + numbers + ")";
    co_await pool.query(fill, 3000, pad);
    std::size_t reports = 0, last = 0, all = 0;
    bool stop = false;
    auto write = [&]() -> aio::coro<int> {
        int written = 0;
        while (!stop) {
            co_await pool.query("INSERT INTO t VALUES (0, $1)", pad);
            ++written;
        }
        co_return written;
    };
    auto writing = aio::create_task(write());
    {
        auto db = co_await pool.acquire();
        co_await sql::sqlite_backup(*db, folder.path("copy.db"), [&](std::size_t done, std::size_t total) {
            ++reports;
            last = done;
            all = total;
        });
        EXPECT_EQ((co_await db->query("SELECT 1")).size(), 1u);
        EXPECT_EQ((co_await sql_failure_of(db->transaction().enter())).code, "nothing");
    }
    stop = true;
    EXPECT_GT(co_await writing, 0);
    EXPECT_GT(reports, 2u);
    EXPECT_EQ(last, all);
    EXPECT_GT(all, 700u);
    EXPECT_EQ(co_await integrity(url_of(folder, "copy.db")), "ok");
    auto& copy = co_await aio::enter(sql::connect(url_of(folder, "copy.db"), {.sqlite = {.read_only = true}}));
    EXPECT_GE(co_await count(copy, "t"), 3000);
    EXPECT_FALSE(std::filesystem::exists(folder / "copy.db.partial"));
    co_await pool.aclose();
}

AIO_REAL_TEST("a backup of a database in memory; one that fails leaves the backup that was there") {
    const aio_test::folder folder;
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE t (x)");
    co_await db.query("INSERT INTO t VALUES (7)");
    co_await sql::sqlite_backup(db, folder.path("m.db"));
    co_await db.query("INSERT INTO t VALUES (8)");
    const sql_failure f = co_await sql_failure_of(sql::sqlite_backup(db, folder.path("none/m.db")));
    EXPECT_EQ(f.code, "SQLITE_CANTOPEN");
    EXPECT_CONTAINS(f.what, "none/m.db");
    auto task = aio::create_task(sql::sqlite_backup(db, folder.path("m.db")));
    task.cancel();
    EXPECT_THROW(co_await task, aio::cancelled_error);
    auto& copy = co_await aio::enter(sql::connect(url_of(folder, "m.db")));
    EXPECT_EQ(co_await count(copy, "t"), 1);
    EXPECT_EQ(folder.files(), 1u);
}

PLAIN_TEST("a backup, cancelled at every step, leaves the old copy or the new one, and no part") {
    const aio_test::folder folder;
    auto scenario = [&]() -> aio::coro<> {
        auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
        co_await db.query("CREATE TABLE t AS SELECT 1 AS x");
        std::exception_ptr cancelled;
        try {
            co_await sql::sqlite_backup(db, folder.path("c.db"));
        } catch (const aio::cancelled_error&) { cancelled = std::current_exception(); }
        co_await db.query("INSERT INTO t VALUES (2)");
        if (cancelled) std::rethrow_exception(cancelled);
    };
    auto check = [&] {
        EXPECT_FALSE(std::filesystem::exists(folder / "c.db.partial"));
        if (std::filesystem::exists(folder / "c.db")) { EXPECT_EQ(aio::run(integrity(url_of(folder, "c.db"))), "ok"); }
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, check), 3u);
    EXPECT_TRUE(std::filesystem::exists(folder / "c.db"));
}

// ---- streams ----

AIO_REAL_TEST("a stream of a million rows needs no more memory than one of a thousand") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const auto read = [&db](int rows) -> aio::coro<std::size_t> {
        std::size_t most = 0;
        int n = 0;
        auto all = db.stream(numbers, rows);
        while (co_await all.next()) {
            if (++n % 1000 == 0) most = std::max(most, static_cast<std::size_t>(::mallinfo2().uordblks));
        }
        EXPECT_EQ(n, rows);
        co_return most;
    };
    const std::size_t few = co_await read(2000);
    const std::size_t many = co_await read(300'000);
    EXPECT_LT(many, few + 2'000'000);
}

// ---- faults ----

PLAIN_TEST("a full disk is SQLITE_FULL or an I/O error that names the file, and what was committed stays") {
    SKIP_WITHOUT_THREADS_AFTER_FORK();
    const aio_test::folder folder;
    const std::string url = url_of(folder, "full.db");
    const int status = aio_test::in_a_fork([&] {
        std::signal(SIGXFSZ, SIG_IGN);
        const struct ::rlimit most{200'000, 200'000};
        ::setrlimit(RLIMIT_FSIZE, &most);
        auto fill = [&]() -> aio::coro<int> {
            auto& db = co_await aio::enter(sql::connect(url));
            co_await db.query("CREATE TABLE t (x)");
            const std::string value(10'000, 'v');
            sql_failure f;
            int stored = 0;
            while (f.code == "nothing") {
                f = co_await sql_failure_of(db.query("INSERT INTO t VALUES ($1)", value));
                if (f.code == "nothing") ++stored;
                if (stored > 100) co_return 1;
            }
            if (f.code != "SQLITE_FULL" && f.code != "SQLITE_IOERR_WRITE") co_return 2;
            if (!contains(f.what, "full.db")) co_return 3;
            const std::int64_t there = co_await count(db, "t");  // the connection goes on
            co_return there == stored ? 0 : 4;
        };
        return aio::run(fill());
    });
    EXPECT_EQ(status, 0);
    EXPECT_EQ(aio::run(integrity(url)), "ok");
}

PLAIN_TEST("a process that is killed in the middle of a transaction leaves a whole file, with all that was committed") {
    SKIP_WITHOUT_THREADS_AFTER_FORK();
    const aio_test::folder folder;
    for (const char* mode : {"DELETE", "WAL"}) {
        const std::string url = url_of(folder, mode);
        const int status = aio_test::in_a_fork([&] {
            auto work = [&]() -> aio::coro<int> {
                auto& db = co_await aio::enter(sql::connect(url));
                co_await db.query(std::string("PRAGMA journal_mode = ") + mode);
                co_await db.query("PRAGMA cache_size = 5");  // so that pages are written before the commit
                co_await db.query("CREATE TABLE t (x, pad)");
                for (int i = 0;; ++i) {
                    auto body = [&]() -> aio::coro<> {
                        for (int k = 0; k < 50; ++k) {
                            co_await db.query("INSERT INTO t VALUES ($1, $2)", i, std::string(500, 'x'));
                            if (i == 3 && k == 30) ::kill(::getpid(), SIGKILL);
                        }
                    };
                    co_await aio::with(db.transaction(), body);
                }
            };
            return aio::run(work());
        });
        EXPECT_EQ(status, -SIGKILL);
        EXPECT_EQ(aio::run(integrity(url)), "ok");
        auto rows = [&]() -> aio::coro<std::int64_t> {
            auto& db = co_await aio::enter(sql::connect(url));
            co_return co_await count(db, "t");
        };
        EXPECT_EQ(aio::run(rows()), 150);
    }
}

AIO_REAL_TEST("a file that is no database, or a damaged one, is an error that names it") {
    const aio_test::folder folder;
    folder.write("text.db", std::string(5000, 't'));
    const sql_failure no_database = co_await sql_failure_of(sql::connect(url_of(folder, "text.db")).enter());
    EXPECT_EQ(no_database.code, "SQLITE_NOTADB");
    EXPECT_CONTAINS(no_database.what, "text.db");
    {
        auto& db = co_await aio::enter(sql::connect(url_of(folder, "bad.db")));
        co_await db.query("CREATE TABLE t (x)");
        co_await db.query(std::string("INSERT INTO t SELECT hex(randomblob(500)) FROM (") + numbers + ")", 200);
    }
    co_await aio::sleep(0s);
    {
        std::fstream file(folder / "bad.db", std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(8192);
        file << std::string(60'000, '\xff');
    }
    auto& db = co_await aio::enter(sql::connect(url_of(folder, "bad.db")));
    const sql_failure damaged = co_await sql_failure_of(db.query("SELECT sum(length(x)) FROM t"));
    EXPECT_CONTAINS(damaged.code, "SQLITE_CORRUPT");
    EXPECT_CONTAINS(damaged.what, "bad.db");
    auto stream = db.stream("SELECT x FROM t");
    EXPECT_THROW(co_await aio::for_each(std::move(stream), [](const sql::row&) {}), sql::error);
    EXPECT_EQ((co_await db.query("SELECT 1")).size(), 1u);
}

PLAIN_TEST("in a folder that cannot be written a file can be read, and a write says why not") {
    SKIP_WITHOUT_THREADS_AFTER_FORK();
    const aio_test::folder folder;
    const std::string url = url_of(folder, "ro.db");
    auto make = [&]() -> aio::coro<> {
        auto& db = co_await aio::enter(sql::connect(url));
        co_await db.query("CREATE TABLE t (x)");
    };
    aio::run(make());
    std::filesystem::permissions(folder / "", std::filesystem::perms(0555));
    std::filesystem::permissions(folder / "ro.db", std::filesystem::perms(0444));
    const int status = aio_test::in_a_fork([&] {
        if (::geteuid() == 0 && ::seteuid(65534) != 0) return 77;
        auto use = [&]() -> aio::coro<int> {
            auto& db = co_await aio::enter(sql::connect(url));
            const std::int64_t there = co_await count(db, "t");
            if (there != 0) co_return 1;
            const sql_failure f = co_await sql_failure_of(db.query("INSERT INTO t VALUES (1)"));
            if (!contains(f.code, "SQLITE_READONLY") || !contains(f.what, "ro.db")) co_return 2;
            sql::pool pool(url, {.max_size = 2});
            co_await pool.query("SELECT * FROM t");
            co_await pool.aclose();
            auto none = sql::connect(url + "2");
            co_return (co_await sql_failure_of(none.enter())).code == "SQLITE_CANTOPEN" ? 0 : 3;
        };
        return aio::run(use());
    });
    std::filesystem::permissions(folder / "", std::filesystem::perms(0755));
    EXPECT_EQ(status, 0);
}

namespace {
sqlite3_mem_methods real_methods;
std::atomic<long> allocations_left{-1};  // then each one fails; -1: none does
bool fails() {
    if (allocations_left < 0) return false;
    if (allocations_left == 0) return true;
    --allocations_left;
    return false;
}
void* failing_malloc(int n) { return fails() ? nullptr : real_methods.xMalloc(n); }
void* failing_realloc(void* p, int n) { return fails() ? nullptr : real_methods.xRealloc(p, n); }
}  // namespace

PLAIN_TEST("every allocation of SQLite's own that fails is an error, and nothing is half done") {
    SKIP_WITHOUT_THREADS_AFTER_FORK();
    const int status = aio_test::in_a_fork([] {
        sqlite3_shutdown();
        sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_methods);
        sqlite3_mem_methods mine = real_methods;
        mine.xMalloc = &failing_malloc;
        mine.xRealloc = &failing_realloc;
        sqlite3_config(SQLITE_CONFIG_MALLOC, &mine);
        sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
        sqlite3_initialize();
        const std::vector<std::tuple<int>> values{{1}, {2}, {3}};
        auto attempt = [&](long after) -> aio::coro<bool> {
            bool failed = false;
            auto use = [&](sql::connection& db) -> aio::coro<> {
                co_await db.query("CREATE TABLE t (x)");
                co_await db.execute_many("INSERT INTO t VALUES ($1)", values);
                auto rows = db.stream("SELECT x FROM t ORDER BY x");
                while (co_await rows.next()) {}
                std::exception_ptr error;
                allocations_left = after;
                try {
                    co_await db.execute_many("INSERT INTO t VALUES ($1 || 'x')", values);
                    co_await db.query("SELECT group_concat(x, $1) FROM t", std::string(1000, ','));
                    auto more = db.stream("SELECT hex(x) FROM t ORDER BY hex(x)");
                    while (co_await more.next()) {}
                } catch (...) { error = std::current_exception(); }
                failed = allocations_left == 0;
                allocations_left = -1;
                if (error && !failed) std::rethrow_exception(error);
                const std::int64_t n = co_await count(db, "t");
                if (n != 3 && n != 6) throw std::logic_error("half done");
            };
            co_await aio::with(sql::connect("sqlite::memory:"), use);
            co_return failed;
        };
        for (long i = 0; i < 100'000; ++i) {
            if (!aio::run(attempt(i))) return i > 50 ? 0 : 1;
        }
        return 2;
    });
    EXPECT_EQ(status, 0);
}
