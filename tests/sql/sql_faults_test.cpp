// What breaks between a program and its PostgreSQL server: processes killed, servers that start
// again, passwords that are wrong. tests/with_postgres starts the server that all share; who kills one starts its own.
#include "own_postgres.hpp"
#include "postgres_test.hpp"

namespace {

namespace sql = aio::sql;
using aio_test::backend_of;
using aio_test::code_of;
using aio_test::contains;
using aio_test::expect_whole_or_lost;
using aio_test::outcome;
using aio_test::until_active;

}  // namespace

// ---- the server's processes ----

AIO_REAL_TEST("a backend that is terminated is the error of whatever is under way, and of nothing else") {
    auto& observer = co_await aio::enter(sql::connect(aio_test::postgres_url()));
    co_await observer.query("DROP TABLE IF EXISTS ended; CREATE TABLE ended (x INTEGER)");
    const auto pieces = [](aio::event& begun) -> aio::async_generator<std::string> {
        co_yield "1\n";
        begun.set();
        for (;;) {
            co_await aio::sleep(0s);
            std::string line = "2\n";
            co_yield std::move(line);
        }
    };
    for (int what = 0; what < 5; ++what) {
        SCOPED_TRACE(what);
        auto connecting = sql::connect(aio_test::postgres_url());
        sql::connection& db = co_await connecting.enter();
        const int backend = co_await backend_of(db);
        aio::event begun;
        auto work = [&]() -> aio::coro<> {
            if (what == 0) {
                auto rows =
                    db.stream("SELECT x, pg_sleep(CASE WHEN x = 300 THEN 60 END) FROM generate_series(1, 400) x");
                while (co_await rows.next()) { begun.set(); }
            } else if (what == 1) {
                auto out = db.copy_out(
                    "COPY (SELECT x, pg_sleep(CASE WHEN x > 3000 THEN 60 END) FROM "
                    "generate_series(1, 4000) x) TO STDOUT");
                while (co_await out.next()) { begun.set(); }
            } else if (what == 2) {
                co_await db.copy_in("COPY ended FROM STDIN", pieces(begun));
            } else if (what == 3) {
                const std::vector<std::tuple<int>> tuples{{1}, {60}};
                begun.set();
                co_await db.execute_many("INSERT INTO ended SELECT 1 FROM pg_sleep($1::int - 1)", tuples);
            } else {
                auto body = [&]() -> aio::coro<> {
                    co_await db.query("INSERT INTO ended VALUES (3)");
                    begun.set();
                    co_await db.query("SELECT pg_sleep(60)");
                };
                co_await aio::with(db.transaction(), body);
            }
        };
        auto job = aio::create_task(code_of(work()));
        co_await begun.wait();
        if (what >= 3) co_await until_active(observer, backend, "wait_event = 'PgSleep'");
        co_await observer.query("SELECT pg_terminate_backend($1, 10000)", backend);
        const std::string code = co_await aio::wait_for(std::move(job), 30s);
        EXPECT_TRUE(code == "57P01" || code == "08006") << code;
        EXPECT_FALSE(db.usable());
        EXPECT_EQ(co_await code_of(db.query("SELECT 1")), "08003");
        co_await connecting.exit(nullptr);
    }
    EXPECT_EQ(co_await aio_test::count(observer, "ended"), 0);
    co_await observer.query("DROP TABLE ended");
}

AIO_REAL_TEST(
    "a backend that is killed, and a server that starts again, cost what was under way, and the pool goes on") {
    aio_test::own_postgres server;
    co_await server.make();
    co_await server.start();
    sql::pool pool(server.url() + "?sslmode=disable", {.max_size = 5});
    const auto sleepers = [&](sql::connection& db) -> aio::coro<std::vector<aio::task<std::string>>> {
        const int backend = co_await backend_of(db);
        std::vector<aio::task<std::string>> jobs;
        for (int i = 0; i < 3; ++i) jobs.push_back(aio::create_task(code_of(db.query("SELECT pg_sleep(60)"))));
        auto& observer = co_await aio::enter(sql::connect(server.url()));
        co_await until_active(observer, backend, "wait_event = 'PgSleep'");
        co_return jobs;
    };
    {
        const auto conn = co_await pool.acquire();
        const int backend = co_await backend_of(*conn);
        auto jobs = co_await sleepers(*conn);
        AIO_REQUIRE(::kill(backend, SIGKILL) == 0);
        for (auto& job : jobs) expect_whole_or_lost(co_await aio::wait_for(std::move(job), 30s), "57P02");
        EXPECT_FALSE(conn->usable());
    }
    co_await server.until_ready();  // the server has ended all its processes, and recovered
    EXPECT_EQ(co_await outcome(pool.query("SELECT 1")), "1");
    for (const int how : {SIGINT, SIGQUIT}) {
        std::vector<aio::coro<sql::rows>> some;
        for (int i = 0; i < 4; ++i) some.push_back(pool.query("SELECT pg_sleep(0.01)"));
        co_await aio::gather(std::move(some));
        {
            const auto conn = co_await pool.acquire();
            auto jobs = co_await sleepers(*conn);
            co_await server.stop(how);
            const char* const code = how == SIGINT ? "57P01" : "57P02";
            for (auto& job : jobs) expect_whole_or_lost(co_await aio::wait_for(std::move(job), 30s), code);
        }
        EXPECT_EQ(co_await outcome(pool.query("SELECT 1")), "08001");  // nobody is there
        co_await server.start();
        std::vector<aio::coro<std::string>> more;
        for (int i = 0; i < 10; ++i) more.push_back(outcome(pool.query("SELECT $1::int", i)));
        const std::vector<std::string> got = co_await aio::gather(std::move(more));
        for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(got[i], std::to_string(i));
        EXPECT_EQ(pool.statistics().in_use, 0u);
    }
    co_await pool.aclose();
}

// ---- passwords ----

AIO_REAL_TEST("no error of a password that is wrong, missing or not readable shows it, from a connection or a pool") {
    const std::string url = aio_test::postgres_url();
    const std::size_t at = url.find("aio:secret@");
    AIO_REQUIRE(at != std::string::npos);
    const auto with = [&](const std::string& user) { return std::string(url).replace(at, 11, user); };
    const struct {
        std::string url;
        std::string code;
    } cases[] = {
        {with("aio:secret%20two@"), "28P01"},
        {with("aio:secret%00@"), ""},
        {with("aio@") + "?password=secret2", "28P01"},
        {with("aio@") + "?passfile=/nowhere/secret", "08001"},
        {with("nobody:secret@"), "28P01"},
    };
    for (const auto& c : cases) {
        std::string code, what;
        try {
            sql::pool pool(c.url, {.max_size = 1});
            try {
                co_await pool.query("SELECT 1");
            } catch (const sql::error& e) {
                code = e.code();
                what = e.what() + e.message() + e.detail();
            }
        } catch (const std::invalid_argument& e) { what = e.what(); }
        EXPECT_EQ(code, c.code) << what;
        EXPECT_FALSE(what.empty());
        EXPECT_FALSE(contains(what, "secret")) << what;
    }
}
