// Runs SQLite with each allocation failing in its turn: see out_of_memory.hpp.
#include "folder.hpp"
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

PLAIN_TEST("fault C11: execute_many, a stream, values of every kind, and a backup of SQLite") {
    const aio_test::folder folder;
    const std::string copy = folder.path("copy.db");
    aio_test::survives_without_memory(
        [&copy]() -> aio::coro<> {
            auto& db = co_await aio::enter(aio::sql::connect("sqlite::memory:"));
            co_await db.query("CREATE TABLE t (n NUMERIC, name TEXT, at TEXT)");
            std::vector<std::tuple<int, std::string, std::chrono::sys_seconds>> people;
            for (int i = 0; i < 3; ++i) people.emplace_back(i, std::string(50, 'x'), std::chrono::sys_seconds());
            co_await db.execute_many("INSERT INTO t VALUES ($1, $2, $3)", people);
            struct person {
                aio::sql::numeric n;
                std::string name;
                std::chrono::sys_seconds at;
            };
            const auto rows = co_await db.query("SELECT * FROM t");
            if (rows.as<person>().size() != 3) throw std::logic_error("rows are lost");
            auto stream = db.stream("SELECT * FROM t");
            std::size_t streamed = 0;
            while (co_await stream.next()) { ++streamed; }
            if (streamed != 3) throw std::logic_error("rows are lost");
            co_await aio::sql::sqlite_backup(db, copy);
            co_await db.query("INSERT INTO t VALUES (1, 'a', NULL)");
        },
        {.real_time = true, .threads = true, .at_least = 10});
}
