#pragma once
// Helpers that the suites of both databases share.

#include "aio_test.hpp"
#include "folder.hpp"

#include <aio/sql.hpp>
#include <aio/with.hpp>

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

namespace aio_test {

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
#define EXPECT_CONTAINS(text, part) EXPECT_PRED2(aio_test::contains, text, part)

/// The URL of a SQLite database in this folder.
inline std::string url_of(const folder& f, const std::string& name) { return "sqlite:///" + f.path(name); }

/// How an operation has failed.
struct sql_failure {
    std::string code = "nothing", what;
};
template<class Awaitable>
aio::coro<sql_failure> sql_failure_of(Awaitable operation) {
    try {
        co_await std::move(operation);
    } catch (const aio::sql::error& e) { co_return sql_failure{e.code(), e.what()}; } catch (const std::exception& e) {
        co_return sql_failure{"exception", e.what()};
    }
    co_return sql_failure{};
}

/// How many rows a table has.
inline aio::coro<std::int64_t> count(aio::sql::connection& db, std::string table) {
    const aio::sql::rows rows = co_await db.query("SELECT count(*) FROM " + table);
    co_return rows[0][0].as<std::int64_t>();
}

/// Cancels a transaction inside another one at every step. The outer one must be whole or not there, and the connection
/// must be usable afterwards.
inline void cancel_transactions_at_every_step(const std::string& url) {
    aio::run([](std::string u) -> aio::coro<> {
        co_await aio::with(aio::sql::connect(u), [](aio::sql::connection& db) {
            return db.query("DROP TABLE IF EXISTS steps; CREATE TABLE steps (x int)");
        });
    }(url));
    std::int64_t seen = 0;
    const auto scenario = [&]() -> aio::coro<> {
        auto& db = co_await aio::enter(aio::sql::connect(url));
        auto nested = [&]() -> aio::coro<> { co_await db.query("INSERT INTO steps VALUES ($1)", 2); };
        auto body = [&]() -> aio::coro<> {
            co_await db.query("INSERT INTO steps VALUES (1)");
            co_await aio::with(db.transaction(), nested);
            co_await db.query("SELECT * FROM steps");
        };
        std::exception_ptr cancelled;
        try {
            co_await aio::with(db.transaction(), body);
        } catch (const aio::cancelled_error&) { cancelled = std::current_exception(); }
        EXPECT_EQ((co_await db.query("SELECT 5"))[0][0].as<int>(), 5);  // the connection is usable
        if (cancelled) std::rethrow_exception(cancelled);
    };
    const auto check = [&] {
        aio::run([](std::string u, std::int64_t& before) -> aio::coro<> {
            auto& db = co_await aio::enter(aio::sql::connect(u));
            const std::int64_t now = co_await count(db, "steps");
            EXPECT_TRUE(now == before || now == before + 2) << before << " became " << now;
            before = now;
        }(url, seen));
    };
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, check);
    EXPECT_GT(runs, 8u);
    EXPECT_GE(seen, 2);
}

}  // namespace aio_test
