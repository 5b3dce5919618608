// What users of asyncpg, pgx, tokio-postgres and other drivers of PostgreSQL have reported, replayed.
// tests/with_postgres starts the server.
#include "postgres_test.hpp"

#include <csignal>

namespace {

namespace sql = aio::sql;
using aio_test::backend_of;
using aio_test::code_of;
using aio_test::outcome;
using aio_test::postgres_url;
using aio_test::until_active;

}  // namespace

AIO_REAL_TEST("tokio-postgres #834, sqlx #4393: a cancel while BEGIN is under way leaves nobody in a transaction") {
    sql::pool pool(postgres_url(), {.max_size = 1});
    auto work = [&]() -> aio::coro<> {
        auto conn = co_await pool.acquire();
        auto body = [&]() -> aio::coro<> { co_await conn->query("SELECT 1"); };
        co_await aio::with(conn->transaction(), body);
    };
    co_await work();
    int cancelled = 0;
    for (int turn = 0; turn < 60; ++turn) {
        auto job = aio::create_task(work());
        co_await aio_test::turns(turn);
        job.cancel();
        try {
            co_await job;
        } catch (const aio::cancelled_error&) { ++cancelled; }
        // Inside a transaction both would be the time at which it began.
        const auto conn = co_await pool.acquire();
        const std::string first = co_await outcome(conn->query("SELECT now()"));
        EXPECT_NE(co_await outcome(conn->query("SELECT now()")), first) << turn;
    }
    EXPECT_GT(cancelled, 5);
    co_await pool.aclose();
}

AIO_REAL_TEST("porsager #1186, node-postgres #1454, #3736: what waits in a transaction ends with its connection") {
    auto& observer = co_await aio::enter(sql::connect(postgres_url()));
    auto& db = co_await aio::enter(sql::connect(postgres_url()));
    const int backend = co_await backend_of(db);
    std::vector<aio::task<std::string>> jobs;
    auto body = [&]() -> aio::coro<> {
        for (int i = 0; i < 5; ++i) jobs.push_back(aio::create_task(code_of(db.query("SELECT pg_sleep(60)"))));
        const std::vector<std::tuple<int>> tuples{{1}, {2}};
        jobs.push_back(aio::create_task(code_of(db.execute_many("SELECT $1::int", tuples))));  // waits for its turn
        jobs.push_back(aio::create_task(code_of(db.query("SELECT 1; SELECT 2"))));
        co_await until_active(observer, backend, "wait_event = 'PgSleep'");
        co_await observer.query("SELECT pg_terminate_backend($1)", backend);
        for (auto& job : jobs) {
            const std::string code = co_await aio::wait_for(std::move(job), 30s);
            EXPECT_TRUE(code == "57P01" || code.starts_with("08")) << code;
        }
        co_await db.query("SELECT 1");
    };
    EXPECT_EQ(co_await code_of(aio::wait_for(aio::with(db.transaction(), body), 30s)), "08003");
}

AIO_REAL_TEST("asyncpg #1356: to close a connection whose server is frozen takes no longer than a cancel may take") {
    auto& observer = co_await aio::enter(sql::connect(postgres_url()));
    auto connecting = sql::connect(postgres_url());
    sql::connection& db = co_await connecting.enter();
    const int backend = co_await backend_of(db);
    auto job = aio::create_task(db.query("SELECT pg_sleep(60)"));
    auto neighbour = aio::create_task(db.query("SELECT 1"));
    co_await until_active(observer, backend, "wait_event = 'PgSleep'");
    AIO_REQUIRE(::kill(backend, SIGSTOP) == 0);
    job.cancel();
    neighbour.cancel();
    co_await aio::wait_for(connecting.exit(nullptr), 30s);
    EXPECT_THROW(co_await job, aio::cancelled_error);
    EXPECT_THROW(co_await neighbour, aio::cancelled_error);
    AIO_REQUIRE(::kill(backend, SIGCONT) == 0);
}

AIO_REAL_TEST("pgx #1847: a statement whose preparation went wrong is prepared or not, and never fails for ever") {
    auto& db = co_await aio::enter(sql::connect(postgres_url()));
    const std::string text = "SELECT x + $1::int FROM later";
    for (int i = 0; i < 3; ++i) {
        std::vector<aio::task<std::string>> jobs;
        for (int n = 0; n < 4; ++n) jobs.push_back(aio::create_task(code_of(db.query(text, n))));
        for (auto& job : jobs) EXPECT_EQ(co_await job, "42P01");
    }
    co_await db.query("CREATE TEMP TABLE later (x INTEGER); INSERT INTO later VALUES (40)");
    for (int i = 0; i < 4; ++i) EXPECT_EQ(co_await outcome(db.query(text, i)), std::to_string(40 + i));
    co_await db.query("DEALLOCATE ALL");
    for (int i = 0; i < 4; ++i) EXPECT_EQ(co_await outcome(db.query(text, i)), std::to_string(40 + i));
}

AIO_REAL_TEST("pgx #841, #2360: a table that changes while a pipeline reads it gives old rows or new, and no error") {
    auto& db = co_await aio::enter(sql::connect(postgres_url()));
    auto& other = co_await aio::enter(sql::connect(postgres_url()));
    co_await other.query("DROP TABLE IF EXISTS drop_cols; CREATE TABLE drop_cols (a INTEGER, b INTEGER, c INTEGER)");
    co_await other.query("INSERT INTO drop_cols VALUES (1, 2, 3)");
    const std::string text = "SELECT * FROM drop_cols WHERE a = $1";
    for (int i = 0; i < 3; ++i) co_await db.query(text, 1);
    for (const char* change : {"DROP COLUMN b", "ADD COLUMN d TEXT", "ALTER COLUMN c TYPE TEXT"}) {
        std::vector<aio::task<sql::rows>> jobs;
        for (int i = 0; i < 20; ++i) jobs.push_back(aio::create_task(db.query(text, 1)));
        co_await other.query(std::string("ALTER TABLE drop_cols ") + change);
        for (int i = 0; i < 20; ++i) jobs.push_back(aio::create_task(db.query(text, 1)));
        for (auto& job : jobs) {
            const sql::rows rows = co_await job;
            EXPECT_EQ(rows[0]["c"].as<std::string>(), "3");
            EXPECT_EQ(rows[0]["a"].as<int>(), 1);
        }
    }
    co_await other.query("DROP TABLE drop_cols");
}

AIO_REAL_TEST("bun #30494: more statements than are kept, by many tasks at once, never get each other's rows") {
    sql::connect_options few{.statement_cache = 3};
    auto& db = co_await aio::enter(sql::connect(postgres_url(), few));
    for (int round = 0; round < 30; ++round) {
        std::vector<aio::task<std::string>> jobs;
        for (int i = 0; i < 40; ++i) {
            const int which = (i * 7 + round) % 8;
            jobs.push_back(aio::create_task(outcome(
                db.query("SELECT $1::int * 100 + " + std::to_string(which) + (which % 2 == 0 ? "" : " AS other"), i))));
        }
        for (int i = 0; i < 40; ++i) {
            const int which = (i * 7 + round) % 8;
            EXPECT_EQ(co_await jobs[static_cast<std::size_t>(i)], std::to_string(i * 100 + which));
        }
    }
}

AIO_REAL_TEST("pgjdbc #194: a flood of notices and notifications while much is sent holds nobody up") {
    auto& db = co_await aio::enter(sql::connect(postgres_url()));
    co_await db.query(
        "CREATE FUNCTION pg_temp.shout(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..200 LOOP "
        "RAISE NOTICE '%', repeat('n', 1000); END LOOP; RETURN length($1); END $$");
    std::size_t heard = 0;
    db.set_notice_handler([&heard](const sql::notice& n) { heard += n.message.size(); });
    std::vector<aio::task<std::string>> jobs;
    for (int i = 0; i < 30; ++i) {
        jobs.push_back(aio::create_task(outcome(db.query("SELECT pg_temp.shout($1)", std::string(100'000, 'x')))));
        jobs.push_back(aio::create_task(code_of(db.notify("flood", std::string(7000, 'y')))));
    }
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        EXPECT_EQ(co_await aio::wait_for(std::move(jobs[i]), 60s), i % 2 == 0 ? "100000" : "nothing");
    }
    EXPECT_EQ(heard, 30u * 200 * 1000);
}

AIO_REAL_TEST(
    "asyncpg #112, #886, vertx #800, pgtype #134: enums, domains and values without an end come as they are") {
    auto& db = co_await aio::enter(sql::connect(postgres_url()));
    co_await db.query("CREATE TYPE pg_temp.mood AS ENUM ('sad', 'so so'); CREATE DOMAIN pg_temp.amounts AS numeric[]");
    const std::string text =
        "SELECT ARRAY['sad', 'so so']::pg_temp.mood[], '{1.50,2}'::pg_temp.amounts, "
        "'infinity'::timestamptz, '-infinity'::date, 'Infinity'::numeric, 'NaN'::float8, $1::int";
    for (int use = 0; use < 4; ++use) {
        const sql::rows rows = co_await db.query(text, use);
        EXPECT_EQ(rows[0][0].as<std::string>(), "{sad,\"so so\"}");
        EXPECT_EQ(rows[0][1].as<std::string>(), "{1.50,2}");
        EXPECT_EQ(rows[0][2].as<std::string>(), "infinity");
        EXPECT_EQ(rows[0][3].as<std::string>(), "-infinity");
        EXPECT_EQ(rows[0][4].as<std::string>(), "Infinity");
        EXPECT_EQ(rows[0][5].as<std::string>(), "NaN");
        EXPECT_EQ(rows[0][6].as<int>(), use);
    }
}

AIO_REAL_TEST(
    "tokio-postgres #772: many statements at once whose types the server has to be asked for do not deadlock") {
    auto& db = co_await aio::enter(sql::connect(postgres_url()));
    co_await db.query("CREATE TYPE pg_temp.colour AS ENUM ('red', 'blue'); CREATE TEMP TABLE t (c pg_temp.colour)");
    std::vector<aio::task<std::string>> jobs;
    for (int i = 0; i < 50; ++i) {
        jobs.push_back(aio::create_task(code_of(db.query("INSERT INTO t VALUES ($1)",
            i % 10 == 9      ? "green"
                : i % 2 == 0 ? "red"
                             : "blue"))));
    }
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        EXPECT_EQ(co_await aio::wait_for(std::move(jobs[i]), 30s), i % 10 == 9 ? "22P02" : "nothing");
    }
    EXPECT_EQ(co_await aio_test::count(db, "t"), 45);
}

AIO_REAL_TEST(
    "sqlx #3139, #3699, tokio-postgres #1337: a COPY that fails, also in a transaction, leaves the connection in "
    "step") {
    auto& db = co_await aio::enter(sql::connect(postgres_url()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    const auto copy_out = [&](const char* statement) -> aio::coro<> {
        auto pieces = db.copy_out(statement);
        while (co_await pieces.next()) {}
    };
    const std::vector<std::tuple<int>> tuples{{1}, {2}};
    EXPECT_EQ(co_await code_of(db.copy_in("COPY nowhere FROM STDIN", tuples)), "42P01");
    EXPECT_EQ(co_await outcome(db.query("SELECT $1::int", 5)), "5");
    auto body = [&]() -> aio::coro<> {
        co_await db.copy_in("COPY t FROM STDIN", tuples);
        co_await copy_out("COPY (SELECT 1 / (x - 500) FROM generate_series(1, 1000) x) TO STDOUT");
    };
    EXPECT_EQ(co_await code_of(aio::with(db.transaction(), body)), "22012");
    EXPECT_EQ(co_await aio_test::count(db, "t"), 0);
    co_await db.copy_in("COPY t FROM STDIN", tuples);
    EXPECT_EQ(co_await aio_test::count(db, "t"), 2);
}

AIO_REAL_TEST(
    "r2dbc-pool #198, asyncpg #537: a query that is cancelled because its neighbour failed gives its connection back") {
    sql::pool pool(postgres_url(), {.max_size = 3});
    for (int round = 0; round < 10; ++round) {
        auto both = aio::gather(pool.query("SELECT pg_sleep(60)"), pool.query("SELECT 1 / $1::int", 0));
        const std::string code = co_await code_of(std::move(both));
        EXPECT_EQ(code, "22012");
        EXPECT_EQ(co_await outcome(pool.query("SELECT 3")), "3");
        const auto a = co_await pool.acquire(), b = co_await pool.acquire();
        EXPECT_EQ(co_await outcome(a->query("SELECT 4")), "4");
        EXPECT_EQ(co_await outcome(b->query("SELECT 5")), "5");
    }
    co_await pool.aclose();
}
