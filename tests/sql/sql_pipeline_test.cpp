// Tests of what a PostgreSQL connection does for several tasks, and of COPY, LISTEN and prepared statements.
// tests/with_postgres starts the server.
#include "faulty_proxy.hpp"
#include "loop/loop_state.hpp"
#include "sql_test.hpp"

#include <aio/sql/retry.hpp>

#include <csignal>
#include <cstdlib>
#include <numeric>

namespace {

namespace sql = aio::sql;
using aio_test::contains;
using aio_test::count;

std::string server() {
    const char* url = std::getenv("AIO_TEST_POSTGRES");
    if (!url) throw std::runtime_error("AIO_TEST_POSTGRES is not set: run this with tests/with_postgres COMMAND");
    return url;
}
int port_number() {
    const std::string url = server();
    return std::atoi(url.c_str() + url.find("127.0.0.1:") + 10);
}
std::string through(const faulty_proxy& proxy) {
    std::string url = server();
    const std::string port = std::to_string(port_number());
    return url.replace(url.find(port + "/"), port.size(), std::to_string(proxy.port()));
}

template<class Awaitable>
aio::coro<std::string> code_of(Awaitable operation) {
    try {
        co_await std::move(operation);
    } catch (const sql::error& e) { co_return e.code(); } catch (const std::exception& e) {
        co_return e.what();
    }
    co_return "nothing";
}

aio::coro<int> backend_of(sql::connection& db) {
    const sql::rows rows = co_await db.query("SELECT pg_backend_pid()");
    co_return rows[0][0].as<int>();
}
aio::coro<> until_active(sql::connection& observer, int backend, std::string condition) {
    for (;;) {
        const sql::rows rows =
            co_await observer.query("SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND " + condition, backend);
        if (!rows.empty()) co_return;
        co_await aio::sleep(1ms);
    }
}
constexpr const char* sleeping = "wait_event = 'PgSleep'";

aio::coro<std::int64_t> prepared(sql::connection& db) {
    const sql::rows rows = co_await db.query("SELECT count(*) FROM pg_prepared_statements");
    co_return rows[0][0].as<std::int64_t>();
}

}  // namespace

// ---- pipelines ----

AIO_REAL_TEST("queries of a thousand tasks are answered in order, and the failure of one is nobody else's") {
    auto& db = co_await aio::enter(sql::connect(server()));
    std::vector<aio::task<sql::rows>> jobs;
    for (int i = 0; i < 1000; ++i) {
        jobs.push_back(aio::create_task(i % 7 == 3 ? db.query("SELECT 1 / ($1::int - $1::int)", i)
                                                   : db.query("SELECT $1::int, repeat('x', $1)", i)));
    }
    for (int i = 0; i < 1000; ++i) {
        auto& job = jobs[static_cast<std::size_t>(i)];
        if (i % 7 == 3) {
            EXPECT_EQ(co_await code_of(job), "22012");
        } else {
            const sql::rows rows = co_await job;
            EXPECT_EQ(rows[0][0].as<int>(), i);
            EXPECT_EQ(rows[0][1].as<std::string>().size(), static_cast<std::size_t>(i));
        }
    }
}

AIO_REAL_TEST("each query of a pipeline is a transaction of its own") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER PRIMARY KEY)");
    std::vector<aio::task<sql::rows>> jobs;
    for (const int x : {1, 2, 2, 3}) jobs.push_back(aio::create_task(db.query("INSERT INTO t VALUES ($1)", x)));
    std::string codes;
    for (auto& job : jobs) codes += co_await code_of(job) + " ";
    EXPECT_EQ(codes, "nothing nothing 23505 nothing ");
    EXPECT_EQ(co_await count(db, "t"), 3);
}

AIO_REAL_TEST("queries are on their way together: the second comes to the server while the first is at work") {
    faulty_proxy proxy("127.0.0.1", port_number());
    co_await aio::enter(std::ref(proxy));
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(through(proxy)));
    const int backend = co_await backend_of(db);
    co_await observer.query("SELECT pg_advisory_lock(11)");
    auto first = aio::create_task(db.query("SELECT pg_advisory_lock(11)::text"));
    co_await until_active(observer, backend, "wait_event_type = 'Lock'");
    const std::size_t sent = proxy.bytes_to_server();
    auto second = aio::create_task(db.query("SELECT $1::text", std::string(1000, 'x')));
    while (proxy.bytes_to_server() < sent + 1000) co_await aio::sleep(1ms);
    EXPECT_FALSE(first.done());
    co_await observer.query("SELECT pg_advisory_unlock(11)");
    EXPECT_EQ((co_await second)[0][0].as<std::string>().size(), 1000u);
    EXPECT_TRUE(first.done());
}

AIO_REAL_TEST("large queries and large answers in both directions at once do not block each other") {
    auto& db = co_await aio::enter(sql::connect(server()));
    std::vector<aio::task<sql::rows>> jobs;
    for (int i = 0; i < 30; ++i)
        jobs.push_back(aio::create_task(db.query("SELECT $1 || 'x'", std::string(3'000'000, 'y'))));
    for (auto& job : jobs) EXPECT_EQ((co_await job)[0][0].as<std::string>().size(), 3'000'001u);
}

AIO_REAL_TEST("a cancelled query with a neighbour behind it ends at once, and hits nobody") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(server()));
    const int backend = co_await backend_of(db);
    co_await observer.query("SELECT pg_advisory_lock(12)");
    auto first = aio::create_task(db.query("SELECT pg_advisory_lock_shared(12)::text"));
    co_await until_active(observer, backend, "wait_event_type = 'Lock'");
    auto second = aio::create_task(db.query("SELECT 2"));
    auto third = aio::create_task(db.query("SELECT 3"));
    co_await aio_test::turns(3);
    second.cancel();
    first.cancel();
    EXPECT_THROW(co_await first, aio::cancelled_error);
    EXPECT_THROW(co_await second, aio::cancelled_error);
    EXPECT_FALSE(third.done());
    co_await observer.query("SELECT pg_advisory_unlock(12)");
    EXPECT_EQ((co_await third)[0][0].as<int>(), 3);
    EXPECT_EQ((co_await db.query("SELECT 4"))[0][0].as<int>(), 4);
}

AIO_REAL_TEST("what was left in a pipeline is stopped on the server once nobody wants any of it") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(server()));
    const int backend = co_await backend_of(db);
    std::vector<aio::task<sql::rows>> jobs;
    for (int i = 0; i < 3; ++i) jobs.push_back(aio::create_task(db.query("SELECT pg_sleep(60)")));
    co_await until_active(observer, backend, sleeping);
    for (auto& job : jobs) job.cancel();
    for (auto& job : jobs) EXPECT_THROW(co_await job, aio::cancelled_error);
    EXPECT_EQ((co_await aio::wait_for(db.query("SELECT 4"), 30s))[0][0].as<int>(), 4);
    EXPECT_TRUE(db.usable());
}

AIO_REAL_TEST("a query that is cancelled before it is sent is never carried out") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    const auto looks = [] { return aio::detail::local().loop->state().looks; };
    std::uint64_t begun = 0, cancelled = 1;
    // The first query is sent at once, and the second when the loop looks outside. A loop on a busy machine may look
    // between two of the tasks.
    for (int round = 0; begun != cancelled && round < 100; ++round) {
        co_await db.query("TRUNCATE t");
        co_await aio_test::turns(200);  // quick steps, after which the loop looks outside less often
        auto first = aio::create_task([&]() -> aio::coro<> {
            begun = looks();
            co_await db.query("INSERT INTO t VALUES (1)");
        });
        auto second = aio::create_task(db.query("INSERT INTO t VALUES (2)"));
        auto canceller = aio::create_task([&]() -> aio::coro<> {
            cancelled = looks();
            second.cancel();
            co_return;
        });
        co_await first;
        co_await canceller;
        while (!second.done()) co_await aio_test::turns(1);
        if (begun != cancelled) continue;
        EXPECT_TRUE(second.cancelled());
        EXPECT_EQ((co_await db.query("SELECT sum(x) FROM t"))[0][0].as<int>(), 1);
    }
    EXPECT_EQ(begun, cancelled);
}

AIO_REAL_TEST("cancelled at any moment, a query among neighbours leaves them whole") {
    auto& db = co_await aio::enter(sql::connect(server()));
    for (int round = 0; round < 200; ++round) {
        std::vector<aio::task<sql::rows>> jobs;
        for (int i = 0; i < 8; ++i)
            jobs.push_back(aio::create_task(db.query("SELECT $1::int FROM pg_sleep(0.0002)", i)));
        const auto victim = static_cast<std::size_t>(round % 8);
        if (round % 3 == 0) co_await aio_test::turns(static_cast<int>(round % 5));
        if (round % 3 == 1) co_await aio::sleep(std::chrono::microseconds(round * 10));
        jobs[victim].cancel();
        for (std::size_t i = 0; i < 8; ++i) {
            if (i == victim) {
                try {
                    co_await jobs[i];
                } catch (const aio::cancelled_error&) {}
            } else {
                EXPECT_EQ((co_await jobs[i])[0][0].as<std::size_t>(), i);
            }
        }
    }
    EXPECT_TRUE(db.usable());
}

AIO_REAL_TEST("a server that goes away is an error for each query of the pipeline") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto connecting = sql::connect(server());
    sql::connection& db = co_await connecting.enter();
    const int backend = co_await backend_of(db);
    std::vector<aio::task<sql::rows>> jobs;
    for (int i = 0; i < 20; ++i) jobs.push_back(aio::create_task(db.query("SELECT pg_sleep(60)")));
    co_await until_active(observer, backend, sleeping);
    co_await observer.query("SELECT pg_terminate_backend($1)", backend);
    for (auto& job : jobs) EXPECT_EQ(co_await code_of(job), "57P01");
    EXPECT_FALSE(db.usable());
    co_await connecting.exit(nullptr);
}

AIO_REAL_TEST("a transaction belongs to the connection: what other tasks query meanwhile is part of it") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    auto body = [&]() -> aio::coro<> {
        co_await aio::gather(db.query("INSERT INTO t VALUES (1)"), db.query("INSERT INTO t VALUES (2)"));
        throw std::runtime_error("back");
    };
    auto before = aio::create_task(db.query("INSERT INTO t VALUES (0)"));
    co_await aio::sleep(0s);
    EXPECT_THROW(co_await aio::with(db.transaction(), body), std::runtime_error);
    co_await before;
    EXPECT_EQ(co_await count(db, "t"), 1);
}

AIO_REAL_TEST("begin and commit wait for the queries before them, and those behind wait for both") {
    auto& db = co_await aio::enter(sql::connect(server()));
    auto slow = aio::create_task(db.query("SELECT 1 FROM pg_sleep(0.05)"));
    co_await aio::sleep(0s);
    std::string states;
    auto body = [&]() -> aio::coro<> {
        states += slow.done() ? "after " : "before ";
        co_await db.query("SELECT 2");
    };
    co_await aio::with(db.transaction(), body);
    EXPECT_EQ(states, "after ");
    co_await slow;
}

// ---- prepared statements ----

AIO_REAL_TEST("a statement is prepared at its second use, and those not used for long are given up") {
    auto& db = co_await aio::enter(sql::connect(server(), {.statement_cache = 3}));
    co_await db.query("SELECT $1::int", 1);
    EXPECT_EQ(co_await prepared(db), 0);
    co_await db.query("SELECT $1::int", 2);
    EXPECT_EQ(co_await prepared(db), 2);  // this one as well
    for (int i = 0; i < 10; ++i) {
        for (int use = 0; use < 3; ++use)
            EXPECT_EQ((co_await db.query("SELECT $1::int + " + std::to_string(i), 1))[0][0].as<int>(), i + 1);
    }
    EXPECT_LE(co_await prepared(db), 4);
    auto& none = co_await aio::enter(sql::connect(server(), {.statement_cache = 0}));
    for (int i = 0; i < 5; ++i) co_await none.query("SELECT $1::int", i);
    EXPECT_EQ(co_await prepared(none), 0);
}

AIO_REAL_TEST("every type comes back the same from the first use of a statement and from later ones") {
    auto& db = co_await aio::enter(sql::connect(server()));
    const std::vector<std::byte> bytes{std::byte{0}, std::byte{255}, std::byte{'\\'}};
    for (const char* escape : {"hex", "escape"}) {
        co_await db.query(std::string("SET bytea_output = ") + escape);
        for (int use = 0; use < 4; ++use) {
            const sql::rows rows = co_await db.query(
                "SELECT $1::int2, $2::int4, $3::int8, $4::bool, $5::bytea, $6::text, $7::float8, $8::float4, "
                "$9::numeric, "
                "NULL::int, ARRAY[1,2]::int[], '2024-02-29 12:00:00.5'::timestamp, '2024-02-29'::date, "
                "'b5a0a8e0-0000-4000-8000-00000000000f'::uuid",
                -32768, 2147483647, std::numeric_limits<std::int64_t>::min(), true, bytes, "text", 1e5, 0.1, "12.50");
            const sql::row row = rows[0];
            EXPECT_EQ(row[0].as<int>(), -32768);
            EXPECT_EQ(row[1].as<int>(), 2147483647);
            EXPECT_EQ(row[2].as<std::int64_t>(), std::numeric_limits<std::int64_t>::min());
            EXPECT_TRUE(row[3].as<bool>());
            EXPECT_EQ(row[4].as<std::vector<std::byte>>(), bytes);
            EXPECT_EQ(row[5].as<std::string>(), "text");
            EXPECT_EQ(row[6].as<double>(), 1e5);
            EXPECT_EQ(row[6].as<std::string>(), "100000");
            EXPECT_EQ(row[7].as<std::string>(), "0.1");
            EXPECT_EQ(row[8].as<std::string>(), "12.50");
            EXPECT_TRUE(row[9].is_null());
            EXPECT_EQ(row[10].as<std::string>(), "{1,2}");
            EXPECT_EQ(row[11].as<std::string>(), "2024-02-29 12:00:00.5");
            EXPECT_EQ(row[12].as<std::string>(), "2024-02-29");
            EXPECT_EQ(row[13].as<std::string>(), "b5a0a8e0-0000-4000-8000-00000000000f");
        }
    }
}

AIO_REAL_TEST("prepared statements survive DISCARD ALL, DEALLOCATE ALL and tables that change") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER); INSERT INTO t VALUES (1)");
    const std::string all = "SELECT * FROM t WHERE x = $1";
    for (int i = 0; i < 3; ++i) EXPECT_EQ((co_await db.query(all, 1))[0].size(), 1u);
    co_await db.query("ALTER TABLE t ADD COLUMN y TEXT DEFAULT 'new'");
    for (int i = 0; i < 3; ++i) EXPECT_EQ((co_await db.query(all, 1))[0]["y"].as<std::string>(), "new");
    co_await db.query("ALTER TABLE t ALTER COLUMN x TYPE bigint");
    for (int i = 0; i < 3; ++i) EXPECT_EQ((co_await db.query(all, 1))[0]["x"].as<int>(), 1);
    co_await db.query("DEALLOCATE ALL");
    for (int i = 0; i < 3; ++i) EXPECT_EQ((co_await db.query(all, 1))[0].size(), 2u);
    // Behind our back: in a function.
    co_await db.query("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$");
    for (int i = 0; i < 3; ++i) EXPECT_EQ((co_await db.query(all, 1))[0].size(), 2u);
    std::vector<aio::task<sql::rows>> jobs;
    jobs.push_back(aio::create_task(db.query("DEALLOCATE ALL")));
    for (int i = 0; i < 20; ++i) jobs.push_back(aio::create_task(db.query(all, 1)));
    for (auto& job : jobs) EXPECT_EQ(co_await code_of(job), "nothing");
    co_await db.query("DISCARD ALL");
    EXPECT_EQ(co_await code_of(db.query(all, 1)), "42P01");  // the temporary table is gone
}

AIO_REAL_TEST("in a transaction a changed table is the error of the query; outside it works again") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    for (int i = 0; i < 3; ++i) co_await db.query("SELECT * FROM t WHERE x = $1", 1);
    auto body = [&]() -> aio::coro<> {
        co_await db.query("ALTER TABLE t ADD COLUMN y INTEGER");
        co_await db.query("SELECT * FROM t WHERE x = $1", 1);
    };
    EXPECT_EQ(co_await code_of(aio::with(db.transaction(), body)), "0A000");
    co_await db.query("ALTER TABLE t ADD COLUMN y INTEGER");
    EXPECT_EQ((co_await db.query("SELECT * FROM t WHERE x = $1", 1)).columns().size(), 2u);
}

AIO_REAL_TEST("many tasks that use one new statement at once share its preparation") {
    auto& db = co_await aio::enter(sql::connect(server()));
    std::vector<aio::task<sql::rows>> jobs;
    for (int i = 0; i < 100; ++i) jobs.push_back(aio::create_task(db.query("SELECT $1::int + 1", i)));
    for (int i = 0; i < 100; ++i) EXPECT_EQ((co_await jobs[static_cast<std::size_t>(i)])[0][0].as<int>(), i + 1);
    EXPECT_LE(co_await prepared(db), 2);
    std::vector<aio::task<sql::rows>> wrong;
    for (int i = 0; i < 20; ++i) wrong.push_back(aio::create_task(db.query("SELECT $1::int FROM nowhere", i)));
    for (auto& job : wrong) EXPECT_EQ(co_await code_of(job), "42P01");
}

// ---- many, COPY, LISTEN ----

AIO_REAL_TEST("execute_many is one transaction: all or nothing") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER PRIMARY KEY, y TEXT)");
    std::vector<std::tuple<int, std::string>> some;
    for (int i = 0; i < 20'000; ++i) some.emplace_back(i, std::string(50, 'y'));
    EXPECT_EQ((co_await db.execute_many("INSERT INTO t VALUES ($1, $2)", some)).affected(), 20'000u);
    std::get<0>(some[0]) = 1'000'000;
    EXPECT_EQ(co_await code_of(db.execute_many("INSERT INTO t VALUES ($1, $2)", some)), "23505");
    EXPECT_EQ(co_await count(db, "t"), 20'000);
    EXPECT_EQ(
        (co_await db.execute_many("INSERT INTO t VALUES ($1, $2)", std::vector<std::pair<int, int>>())).affected(), 0u);
    std::string code;
    auto body = [&]() -> aio::coro<> {
        co_await db.query("DELETE FROM t");
        co_await db.execute_many("INSERT INTO t VALUES ($1, $2)", some);
    };
    co_await aio::with(db.transaction(), body);
    EXPECT_EQ(co_await count(db, "t"), 20'000);
}

AIO_REAL_TEST("a cancelled execute_many has done nothing") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    std::vector<std::tuple<int>> some(200'000, std::tuple<int>(1));
    for (int turns = 0; turns < 60; turns += 7) {
        auto job = aio::create_task(db.execute_many("INSERT INTO t VALUES ($1)", some));
        co_await aio_test::turns(turns);
        job.cancel();
        bool cancelled = false;
        try {
            co_await job;
        } catch (const aio::cancelled_error&) { cancelled = true; }
        if (cancelled) { EXPECT_EQ(co_await count(db, "t"), 0); }
        co_await db.query("DELETE FROM t");
    }
}

AIO_REAL_TEST("copy_in takes text and tuples, copy_out gives them back") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER, y TEXT, z BYTEA)");
    auto lines = []() -> aio::async_generator<std::string> {
        co_yield "1\tone\t\\\\x01\n2\t";
        co_yield "two\t\\N\n";
    };
    EXPECT_EQ((co_await db.copy_in("COPY t FROM STDIN", lines())).affected(), 2u);
    std::vector<std::tuple<int, std::optional<std::string>, std::vector<std::byte>>> tuples;
    tuples.emplace_back(3, "a\tb\nc\\d", std::vector<std::byte>{std::byte{0}, std::byte{255}});
    tuples.emplace_back(4, std::nullopt, std::vector<std::byte>());
    EXPECT_EQ((co_await db.copy_in("COPY t FROM STDIN", tuples)).affected(), 2u);
    const sql::rows rows = co_await db.query("SELECT * FROM t ORDER BY x");
    EXPECT_EQ(rows[2]["y"].as<std::string>(), "a\tb\nc\\d");
    EXPECT_EQ(rows[2]["z"].as<std::vector<std::byte>>(), std::get<2>(tuples[0]));
    EXPECT_TRUE(rows[3]["y"].is_null());
    std::string all;
    auto out = db.copy_out("COPY (SELECT x, y FROM t ORDER BY x) TO STDOUT");
    while (auto piece = co_await out.next()) { all += *piece; }
    EXPECT_EQ(all, "1\tone\n2\ttwo\n3\ta\\tb\\nc\\\\d\n4\t\\N\n");
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("a copy_in that fails on either side copies nothing, and the connection goes on") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    auto throws = []() -> aio::async_generator<std::string> {
        co_yield "1\n";
        throw std::runtime_error("no more");
    };
    EXPECT_EQ(co_await code_of(db.copy_in("COPY t FROM STDIN", throws())), "no more");
    auto wrong = []() -> aio::async_generator<std::string> {
        for (int i = 0; i < 1000; ++i) {
            std::string line = i == 500 ? "x\n" : "1\n";
            co_yield std::move(line);
        }
    };
    EXPECT_EQ(co_await code_of(db.copy_in("COPY t FROM STDIN", wrong())), "22P02");
    aio::event at_work;
    auto endless = [&at_work]() -> aio::async_generator<std::string> {
        for (int lines = 0;; ++lines) {
            std::string line = "1\n";
            co_yield std::move(line);
            co_await aio::sleep(0s);
            if (lines == 100) at_work.set();
        }
    };
    auto job = aio::create_task(db.copy_in("COPY t FROM STDIN", endless()));
    co_await at_work.wait();
    job.cancel();
    EXPECT_THROW(co_await job, aio::cancelled_error);
    EXPECT_EQ(co_await code_of(db.copy_in("COPY nowhere FROM STDIN", throws())), "42P01");
    EXPECT_EQ(co_await count(db, "t"), 0);
}

AIO_REAL_TEST("a copy_out that is left is stopped; one that is slow holds the server back") {
    auto& db = co_await aio::enter(sql::connect(server()));
    {
        auto out = db.copy_out("COPY (SELECT generate_series(1, 1000000000)) TO STDOUT");
        EXPECT_TRUE(co_await out.next());
        EXPECT_CONTAINS(co_await code_of(db.query("SELECT 1")), "a stream of this sql::connection is open");
    }
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
    const std::size_t before = aio_test::bytes_in_use();
    auto out = db.copy_out("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT");
    std::size_t bytes = 0;
    while (auto piece = co_await out.next()) {
        bytes += piece->size();
        EXPECT_LT(aio_test::bytes_in_use(), before + 4'000'000);
        co_await aio::sleep(0s);
    }
    EXPECT_EQ(bytes, 100'100'000u);
}

AIO_REAL_TEST("listen hears what notify sends, while the connection is used and while it is idle") {
    auto& db = co_await aio::enter(sql::connect(server()));
    auto& other = co_await aio::enter(sql::connect(server()));
    std::vector<std::string> got;
    auto hearing = aio::create_task([&]() -> aio::coro<> {
        auto news = db.listen("ne\"ws");
        while (auto n = co_await news.next()) {
            got.push_back(n->channel + ":" + n->payload);
            if (n->payload == "end") break;
        }
    });
    while ((co_await db.query("SELECT count(*) FROM pg_listening_channels()"))[0][0].as<int>() == 0) {
        co_await aio::sleep(1ms);
    }
    co_await other.notify("ne\"ws", "one");
    co_await db.query("SELECT 1");
    co_await other.notify("other", "not heard");
    co_await other.notify("ne\"ws", "end");
    co_await hearing;
    EXPECT_EQ(got, (std::vector<std::string>{"ne\"ws:one", "ne\"ws:end"}));
    EXPECT_EQ((co_await db.query("SELECT count(*) FROM pg_listening_channels()"))[0][0].as<int>(), 0);
}

AIO_REAL_TEST("listen ends with the connection: by an error if it was lost") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto connecting = sql::connect(server());
    sql::connection& db = co_await connecting.enter();
    const int backend = co_await backend_of(db);
    auto news = db.listen("news");
    auto hearing = aio::create_task([&]() -> aio::coro<> { co_await news.next(); });
    co_await until_active(observer, backend, "query LIKE 'LISTEN%' AND state = 'idle'");
    co_await observer.query("SELECT pg_terminate_backend($1)", backend);
    EXPECT_EQ(co_await code_of(hearing), "08003");
    co_await connecting.exit(nullptr);
}

AIO_REAL_TEST("notices go to the handler") {
    auto& db = co_await aio::enter(sql::connect(server()));
    std::vector<std::string> heard;
    db.set_notice_handler([&](const sql::notice& n) { heard.push_back(n.severity + " " + n.code + " " + n.message); });
    co_await db.query("DO $$ BEGIN RAISE NOTICE 'a note'; RAISE WARNING 'a warning'; END $$");
    EXPECT_EQ(heard, (std::vector<std::string>{"NOTICE 00000 a note", "WARNING 01000 a warning"}));
}

// ---- transactions ----

AIO_REAL_TEST("a transaction has the isolation that was asked for") {
    auto& db = co_await aio::enter(sql::connect(server()));
    std::string seen;
    auto body = [&]() -> aio::coro<> {
        const sql::rows rows = co_await db.query(
            "SELECT current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only') || ' ' "
            "|| "
            "current_setting('transaction_deferrable')");
        seen += rows[0][0].as<std::string>() + ";";
    };
    co_await aio::with(
        db.transaction({.isolation = sql::isolation::serializable, .read_only = true, .deferrable = true}), body);
    co_await aio::with(db.transaction({.isolation = sql::isolation::repeatable_read}), body);
    co_await aio::with(db.transaction(), body);
    EXPECT_EQ(seen, "serializable on on;repeatable read off off;read committed off off;");
}

AIO_REAL_TEST("retry_serialization repeats what failed only because of others") {
    auto& one = co_await aio::enter(sql::connect(server()));
    auto& two = co_await aio::enter(sql::connect(server()));
    co_await one.query("CREATE TABLE retries (x INTEGER); INSERT INTO retries VALUES (0)");
    int attempts = 0;
    auto body = [&]() -> aio::coro<int> {
        ++attempts;
        const int x = (co_await one.query("SELECT x FROM retries"))[0][0].as<int>();
        if (attempts == 1) { co_await two.query("UPDATE retries SET x = 10"); }
        co_await one.query("UPDATE retries SET x = $1", x + 1);
        co_return x + 1;
    };
    EXPECT_EQ(co_await sql::retry_serialization(one, body), 11);
    EXPECT_EQ(attempts, 2);
    auto wrong = [&]() -> aio::coro<> { co_await one.query("SELECT 1 / 0"); };
    EXPECT_EQ(co_await code_of(sql::retry_serialization(one, wrong)), "22012");
    co_await one.query("DROP TABLE retries");
}

// ---- faults ----

AIO_REAL_TEST("statement_timeout and a transaction that idles too long are errors of their own") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("SET statement_timeout = 50");
    auto slow = aio::create_task(db.query("SELECT pg_sleep(60)"));
    auto quick = aio::create_task(db.query("SELECT 1"));
    EXPECT_EQ(co_await code_of(slow), "57014");
    EXPECT_EQ((co_await quick)[0][0].as<int>(), 1);
    auto& idle = co_await aio::enter(sql::connect(server()));
    co_await idle.query("SET idle_in_transaction_session_timeout = 20");
    auto body = [&]() -> aio::coro<> {
        co_await idle.query("SELECT 1");
        while (idle.usable()) co_await aio::sleep(1ms);
        co_await idle.query("SELECT 2");
    };
    const std::string code = co_await code_of(aio::with(idle.transaction(), body));
    EXPECT_TRUE(code == "25P03" || code == "08003") << code;
}

// ---- what users of other drivers have reported ----

AIO_REAL_TEST(
    "asyncpg #72, #458, pgjdbc #496: types that change to and fro, and tables of one name in several schemas") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query(
        "DROP SCHEMA IF EXISTS a CASCADE; DROP SCHEMA IF EXISTS b CASCADE; CREATE SCHEMA a; CREATE SCHEMA b; CREATE "
        "TABLE a.t (x int); CREATE TABLE b.t (x text, y int); INSERT INTO a.t VALUES (1); INSERT INTO b.t VALUES ('b', "
        "2)");
    for (int i = 0; i < 6; ++i) {
        co_await db.query(i % 2 == 0 ? "SET search_path = a" : "SET search_path = b");
        for (int use = 0; use < 3; ++use) {
            const sql::rows rows = co_await db.query("SELECT * FROM t WHERE $1::int IS NOT NULL", 1);
            EXPECT_EQ(rows.columns().size(), i % 2 == 0 ? 1u : 2u);
            EXPECT_EQ(rows[0]["x"].as<std::string>(), i % 2 == 0 ? "1" : "b");
        }
    }
    co_await db.query("SET search_path = a");
    for (const char* type : {"bigint", "int", "text", "int USING x::int"}) {
        co_await db.query("SELECT * FROM t WHERE $1::int IS NOT NULL", 1);
        co_await db.query(std::string("ALTER TABLE t ALTER COLUMN x TYPE ") + type);
        EXPECT_EQ((co_await db.query("SELECT * FROM t WHERE $1::int IS NOT NULL", 1))[0][0].as<int>(), 1);
    }
    co_await db.query("DROP SCHEMA a CASCADE; DROP SCHEMA b CASCADE");
}

AIO_REAL_TEST("psycopg #267: a transaction whose pipeline has failed is rolled back, and the connection goes on") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    auto body = [&]() -> aio::coro<> {
        std::vector<aio::task<sql::rows>> jobs;
        jobs.push_back(aio::create_task(db.query("INSERT INTO t VALUES ($1)", 1)));
        jobs.push_back(aio::create_task(db.query("INSERT INTO t VALUES ($1 / 0)", 1)));
        jobs.push_back(aio::create_task(db.query("INSERT INTO t VALUES ($1)", 3)));
        std::string codes;
        for (auto& job : jobs) codes += co_await code_of(job) + " ";
        EXPECT_EQ(codes, "nothing 22012 25P02 ");
        throw std::runtime_error("back");
    };
    EXPECT_EQ(co_await code_of(aio::with(db.transaction(), body)), "back");
    EXPECT_EQ(co_await count(db, "t"), 0);
}

AIO_REAL_TEST("lib/pq #892: a COPY that fails in a transaction leaves a rollback that does not hang") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    auto pieces = []() -> aio::async_generator<std::string> {
        co_yield "1\n";
        co_await aio_test::turns(20);
        throw std::runtime_error("some other error");
    };
    auto body = [&]() -> aio::coro<> { co_await db.copy_in("COPY t FROM STDIN", pieces()); };
    EXPECT_EQ(co_await code_of(aio::wait_for(aio::with(db.transaction(), body), 30s)), "some other error");
    EXPECT_EQ(co_await count(db, "t"), 0);
}

AIO_REAL_TEST("a query that reads and is slow, or fails, is nobody else's trouble") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER); INSERT INTO t SELECT generate_series(1, 100)");
    const std::string text = "SELECT 100 / (x - $1) FROM t WHERE x = $2";
    for (int i = 0; i < 3; ++i) co_await db.query(text, 1, 2);
    for (int round = 0; round < 20; ++round) {
        std::vector<aio::task<sql::rows>> jobs;
        for (int i = 0; i < 100; ++i) jobs.push_back(aio::create_task(db.query(text, i % 10 == round % 10 ? 5 : 4, 5)));
        for (int i = 0; i < 100; ++i) {
            auto& job = jobs[static_cast<std::size_t>(i)];
            if (i % 10 == round % 10) {
                EXPECT_EQ(co_await code_of(job), "22012");
            } else {
                EXPECT_EQ((co_await job)[0][0].as<int>(), 100);
            }
        }
    }
}

AIO_REAL_TEST("cancelled at any moment, a query that shares its Sync leaves its neighbours whole") {
    auto& db = co_await aio::enter(sql::connect(server()));
    for (int i = 0; i < 3; ++i) co_await db.query("SELECT $1::int", i);
    for (int round = 0; round < 100; ++round) {
        std::vector<aio::task<sql::rows>> jobs;
        for (int i = 0; i < 50; ++i) jobs.push_back(aio::create_task(db.query("SELECT $1::int", i)));
        co_await aio_test::turns(round % 7);
        for (std::size_t i = static_cast<std::size_t>(round % 5); i < 50; i += 5) jobs[i].cancel();
        for (std::size_t i = 0; i < 50; ++i) {
            bool cancelled = false;
            try {
                EXPECT_EQ((co_await jobs[i])[0][0].as<std::size_t>(), i);
            } catch (const aio::cancelled_error&) { cancelled = true; }
            EXPECT_TRUE(!cancelled || i % 5 == static_cast<std::size_t>(round % 5));
        }
    }
    EXPECT_TRUE(db.usable());
}
