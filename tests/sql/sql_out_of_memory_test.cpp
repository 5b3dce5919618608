// Runs SQLite with each allocation failing in its turn: see out_of_memory.hpp.
#include "out_of_memory.hpp"

#include <aio/sql.hpp>

PLAIN_TEST("fault C11: SQLite, a transaction, a stream of rows and a pool") {
    aio_test::survives_without_memory(
        []() -> aio::coro<> {
            aio::sql::pool pool("sqlite::memory:", {.max_size = 1});
            std::exception_ptr error;
            try {
                auto db = co_await pool.acquire();
                co_await db->query("CREATE TABLE t (n INTEGER, name TEXT)");
                co_await aio::with(db->transaction(), [&]() -> aio::coro<> {
                    co_await db->query(
                        "INSERT INTO t VALUES (?, ?)", 1, "a name that is too long for a string to hold it in itself");
                    co_await db->query("INSERT INTO t VALUES (2, 'b')");
                });
                const aio::sql::rows rows = co_await db->query("SELECT n, name FROM t ORDER BY n");
                if (rows.size() != 2) throw std::logic_error("rows are lost");
                std::size_t length = 0;
                for (const auto& row : rows) length += row["name"].as<std::string>().size();
                static_cast<void>(length);
            } catch (...) { error = std::current_exception(); }
            co_await pool.aclose();
            if (error) std::rethrow_exception(error);
        },
        {.real_time = true, .threads = true, .at_least = 10});
}
