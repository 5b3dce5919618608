// Runs SQLite as tests/whole/brute_force_test.cpp runs the core.

#include "brute_force.hpp"

#include <aio/sql.hpp>

#include <cstdio>

#include <unistd.h>

PLAIN_TEST("SQLite: a transaction happens or does not, and a pool gets its connections back") {
    const std::string file = testing::TempDir() + "aio_brute_force_" + std::to_string(::getpid()) + ".db";
    const std::string url = "sqlite:///" + file;
    auto prepare = [&]() -> aio::coro<> {
        auto& db = co_await aio::enter(aio::sql::connect(url));
        co_await db.query("CREATE TABLE IF NOT EXISTS t (n INTEGER)");
    };
    aio::run(prepare());
    auto scenario = [&]() -> aio::coro<> {
        aio::sql::pool pool(url, {.max_size = 1});
        std::exception_ptr error;
        try {
            auto db = co_await pool.acquire();
            co_await aio::with(db->transaction(), [&]() -> aio::coro<> {
                co_await db->query("INSERT INTO t VALUES (1)");
                co_await db->query("INSERT INTO t VALUES (2)");
            });
            const auto rows = co_await db->query("SELECT n FROM t");
            EXPECT_EQ(rows.size() % 2, 0u);
        } catch (...) { error = std::current_exception(); }
        co_await pool.aclose();
        if (error) std::rethrow_exception(error);
    };
    std::size_t rows_then = 0;
    auto whole_transactions = [&] {
        auto count = [&]() -> aio::coro<std::size_t> {
            auto& db = co_await aio::enter(aio::sql::connect(url));
            const aio::sql::rows rows = co_await db.query("SELECT n FROM t");
            co_return rows.size();
        };
        rows_then = aio::run(count());
        EXPECT_EQ(rows_then % 2, 0u);
    };
    aio_test::withstands(scenario, {.real_time = true}, whole_transactions);
    EXPECT_GT(rows_then, 0u);
    std::remove(file.c_str());
}
