// Connections to PostgreSQL that are cut, at every byte. tests/with_postgres starts the server.
#include "own_postgres.hpp"
#include "postgres_test.hpp"

#include <algorithm>

namespace {

namespace sql = aio::sql;
using aio_test::code_of;
using aio_test::expect_whole_or_lost;
using aio_test::outcome;

/// The lowest free descriptor once what the process opens only once is open.
aio::coro<int> descriptor_before() {
    co_await aio::with(
        sql::connect(aio_test::postgres_url()), [](sql::connection& db) { return db.query("SELECT 1"); });
    co_return aio_test::lowest_free_descriptor();
}

constexpr std::size_t step = AIO_TEST_SANITIZED ? 7 : 1;

/// Lets through to the client the first `most` bytes of each connection, whatever most is when it begins. Every other
/// connection is cut by a reset.
void cut_after(faulty_proxy& proxy, const std::size_t& most) {
    proxy.plan = [&most](std::size_t number) {
        faulty_proxy::faults f;
        f.to_client = most;
        f.reset = number % 2 == 1;
        return f;
    };
}

/// Runs a scenario on connections of which the client gets only the first n bytes, for n from the first byte behind the
/// beginning of the session to the last of the scenario. Every other connection is cut by a reset.
template<class Scenario>
aio::coro<> cut_at_every_byte(Scenario scenario) {
    faulty_proxy proxy("127.0.0.1", aio_test::postgres_port());
    std::size_t most = faulty_proxy::never, connected = 0, lost = 0;
    cut_after(proxy, most);
    co_await aio::enter(std::ref(proxy));
    const std::string url = aio_test::with_port(aio_test::postgres_url(), proxy.port()) + "?sslmode=disable";
    auto run = [&]() -> aio::coro<> {
        auto connecting = sql::connect(url);
        sql::connection* db = nullptr;
        auto enter = [&]() -> aio::coro<> { db = &co_await connecting.enter(); };
        const std::string code = co_await code_of(enter());
        if (db) {
            if (connected == 0) connected = proxy.bytes_to_client();
            co_await scenario(*db);
            if (!db->usable()) ++lost;
        } else {
            EXPECT_EQ(code, "08001");
        }
        co_await connecting.exit(nullptr);
    };
    co_await run();
    EXPECT_EQ(lost, 0u);
    const std::size_t total = proxy.bytes_to_client();
    std::size_t runs = 0;
    for (most = connected; most < total; most += step, ++runs) {
        SCOPED_TRACE(most);
        co_await aio::wait_for(run(), 30s);
    }
    // Nobody misses the last messages, and how many of them there are depends on which operations share a Sync.
    EXPECT_GE(lost * 10, runs * 9);
}

/// The statements of several tasks: unnamed, being prepared, and prepared with a Sync for all of them.
aio::coro<> in_a_pipeline(sql::connection& db) {
    for (int round = 0; round < 2; ++round) {
        std::vector<aio::task<sql::rows>> jobs;
        for (int i = 0; i < 3; ++i) jobs.push_back(aio::create_task(db.query("SELECT $1::int, 'seven'", i)));
        jobs.push_back(aio::create_task(db.query("SELECT 1 / $1::int", 0)));
        for (std::size_t i = 0; i < 3; ++i) expect_whole_or_lost(co_await outcome(jobs[i]), std::to_string(i));
        expect_whole_or_lost(co_await code_of(jobs[3]), "22012");
    }
}

aio::coro<> read_stream(sql::connection& db) {
    auto rows = db.stream("SELECT generate_series(1, 3)");
    int next = 0;
    while (auto row = co_await rows.next()) { EXPECT_EQ((*row)[0].as<int>(), ++next); }
    EXPECT_EQ(next, 3);
}
aio::coro<> read_copy(sql::connection& db) {
    auto pieces = db.copy_out("COPY (SELECT 5) TO STDOUT");
    std::string all;
    while (auto piece = co_await pieces.next()) { all += *piece; }
    EXPECT_EQ(all, "5\n");
}

}  // namespace

AIO_REAL_TEST("an answer to a pipeline that is cut at any byte is an error, and never a wrong result") {
    const int descriptor = co_await descriptor_before();
    co_await cut_at_every_byte(in_a_pipeline);
    co_await aio_test::turns(5);
    EXPECT_LE(aio_test::lowest_free_descriptor(), descriptor);
}

AIO_REAL_TEST("an answer to one operation after the other that is cut at any byte loses nothing that was committed") {
    const int descriptor = co_await descriptor_before();
    auto body = [&]() -> aio::coro<> {
        auto& observer = co_await aio::enter(sql::connect(aio_test::postgres_url()));
        co_await observer.query("DROP TABLE IF EXISTS cut; CREATE TABLE cut (run INTEGER)");
        int run = 0;
        std::set<int> committed;
        auto one_by_one = [&](sql::connection& db) -> aio::coro<> {
            ++run;
            expect_whole_or_lost(co_await outcome(db.query("SELECT 7")), "7");
            auto both = [&]() -> aio::coro<> {
                co_await db.query("INSERT INTO cut VALUES ($1)", run);
                co_await db.query("INSERT INTO cut VALUES ($1)", run);
            };
            const std::string code = co_await code_of(aio::with(db.transaction(), both));
            expect_whole_or_lost(code, "nothing");
            if (code == "nothing") committed.insert(run);
            expect_whole_or_lost(co_await code_of(read_stream(db)), "nothing");
            expect_whole_or_lost(co_await code_of(read_copy(db)), "nothing");
            const std::vector<std::tuple<int>> tuples{{-run}, {-run}};
            expect_whole_or_lost(co_await code_of(db.copy_in("COPY cut FROM STDIN", tuples)), "nothing");
            expect_whole_or_lost(co_await code_of(db.execute_many("INSERT INTO cut VALUES ($1)", tuples)), "nothing");
        };
        co_await cut_at_every_byte(one_by_one);
        // What was sent last before a cut may still be at work.
        while (!(co_await observer.query("SELECT 1 FROM pg_locks WHERE relation = 'cut'::regclass")).empty()) {
            co_await aio::sleep(1ms);
        }
        const sql::rows rows = co_await observer.query("SELECT run, count(*) FROM cut GROUP BY run");
        std::set<int> found;
        for (const sql::row& row : rows) {
            const int who = row[0].as<int>();
            EXPECT_EQ(row[1].as<int>() % 2, 0) << who;  // each operation is whole or not there
            if (who > 0) found.insert(who);
        }
        EXPECT_TRUE(std::includes(found.begin(), found.end(), committed.begin(), committed.end()));
        EXPECT_FALSE(committed.empty());
        co_await observer.query("DROP TABLE cut");
    };
    co_await body();
    co_await aio_test::turns(5);
    EXPECT_LE(aio_test::lowest_free_descriptor(), descriptor);
}

AIO_REAL_TEST("a connection that is cut before it is let in is an error that says where, and no password") {
    const int descriptor = co_await descriptor_before();
    auto body = [&]() -> aio::coro<> {
        faulty_proxy proxy("127.0.0.1", aio_test::postgres_port());
        std::size_t most = 0;
        cut_after(proxy, most);
        co_await aio::enter(std::ref(proxy));
        const std::string url = aio_test::with_port(aio_test::postgres_url(), proxy.port()) + "?sslmode=disable";
        for (std::string code; code != "nothing"; most += 3) {
            auto connecting = sql::connect(url);
            auto enter = [&]() -> aio::coro<> { static_cast<void>(co_await connecting.enter()); };
            code = co_await code_of(aio::wait_for(enter(), 30s));
            EXPECT_TRUE(code == "08001" || code == "nothing") << code << " after " << most << " bytes";
            co_await connecting.exit(nullptr);
            AIO_REQUIRE(most < 5000);
        }
        EXPECT_GT(most, 200u);
    };
    co_await body();
    co_await aio_test::turns(5);
    EXPECT_LE(aio_test::lowest_free_descriptor(), descriptor);
}

AIO_REAL_TEST("over TLS, a connection that is cut anywhere is an error, in a pipeline and in a stream") {
    aio_test::own_postgres server;
    co_await server.make();
    co_await server.start();
    faulty_proxy proxy("127.0.0.1", server.port());
    std::size_t most = faulty_proxy::never;
    cut_after(proxy, most);
    co_await aio::enter(std::ref(proxy));
    const std::string url = aio_test::with_port(server.url(), proxy.port()) + "?sslmode=require";
    std::size_t whole = 0, refused = 0, lost = 0;
    auto run = [&]() -> aio::coro<> {
        auto connecting = sql::connect(url);
        sql::connection* db = nullptr;
        auto enter = [&]() -> aio::coro<> { db = &co_await connecting.enter(); };
        const std::string code = co_await code_of(enter());
        if (db) {
            co_await in_a_pipeline(*db);
            expect_whole_or_lost(co_await code_of(read_stream(*db)), "nothing");
            ++(db->usable() ? whole : lost);
        } else {
            EXPECT_EQ(code, "08001");
            ++refused;
        }
        co_await connecting.exit(nullptr);
    };
    co_await run();
    EXPECT_EQ(whole, 1u);
    const std::size_t total = proxy.bytes_to_client();
    for (most = 0; most < total; most += AIO_TEST_SANITIZED ? 197 : 61) {
        SCOPED_TRACE(most);
        co_await aio::wait_for(run(), 30s);
    }
    EXPECT_GT(refused, 5u);
    EXPECT_GT(lost, 2u);
}
