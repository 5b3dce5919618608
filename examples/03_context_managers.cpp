// Async context managers: what is entered is left, however the block ends.
//
//     class Database:
//         async def __aenter__(self) -> Self:
//             self.connection = await connect(self.url)
//             return self
//         async def __aexit__(self, exc_type, exc, tb) -> None:
//             await self.connection.close()
//
//     @asynccontextmanager
//     async def unit_of_work(db: Database) -> AsyncIterator[Database]:
//         await db.execute("BEGIN")
//         try:
//             yield db
//         except Exception:
//             await db.execute("ROLLBACK")
//             raise
//         await db.execute("COMMIT")

#include "tour.hpp"

namespace tour {
namespace {

// A class with enter() and exit().
class database {
public:
    explicit database(std::string url) : connector_(aio::sql::connect(std::move(url))) {}

    aio::coro<database&> enter() {
        connection_ = &co_await connector_.enter();
        co_return *this;
    }
    aio::coro<> exit(std::exception_ptr error) { co_await connector_.exit(error); }

    aio::coro<std::int64_t> count() {
        aio::sql::rows rows = co_await connection_->query("SELECT COUNT(*) FROM packages");
        co_return rows[0][0].as<std::int64_t>();
    }
    aio::sql::connection& connection() { return *connection_; }

private:
    aio::sql::connector connector_;
    aio::sql::connection* connection_ = nullptr;
};

// The same pattern as a coroutine, which stands at its co_yield while the block runs.
aio::context<database&> unit_of_work(database& db) {
    co_await db.connection().query("BEGIN");
    std::exception_ptr& error = co_yield db;
    if (error) {
        co_await db.connection().query("ROLLBACK");
    } else {
        co_await db.connection().query("COMMIT");
    }
}

// With enter() the connection is open until this coroutine ends.
aio::coro<std::int64_t> count_packages(std::string url) {
    database& db = co_await aio::enter(database(std::move(url)));
    co_return co_await db.count();
}

}  // namespace

aio::coro<> create_table(aio::sql::connection& db) {
    co_await db.query("DROP TABLE IF EXISTS packages");
    co_await db.query(
        "CREATE TABLE packages (name TEXT PRIMARY KEY, version TEXT NOT NULL, section TEXT NOT NULL, "
        "installed_kb BIGINT NOT NULL, summary TEXT NOT NULL)");
}

aio::coro<> store_batch(aio::sql::connection& db, const std::vector<package>& batch) {
    co_await aio::with(db.transaction(), [&]() -> aio::coro<> {
        for (const package& p : batch) {
            co_await db.query("INSERT INTO packages VALUES ($1, $2, $3, $4, $5)", p.name, p.version, p.section,
                p.installed_kb, p.summary);
        }
    });
}

aio::coro<> context_managers(state& t) {
    co_await t.stored();
    const std::int64_t before = co_await count_packages(t.settings.database);
    t.out.line(std::to_string(before) + " packages are in " +
        t.settings.database.substr(0, t.settings.database.find(':')) + ", stored in transactions of " +
        std::to_string(page_size));
    t.out.number("rows", static_cast<double>(before));

    std::string refused;
    co_await aio::with(database(t.settings.database), [&](database& db) -> aio::coro<> {
        try {
            co_await aio::with(unit_of_work(db), [&]() -> aio::coro<> {
                co_await db.connection().query("DELETE FROM packages");
                // Fails, because the summary is NOT NULL.
                co_await db.connection().query("INSERT INTO packages VALUES ('a', '1', 's', 1, NULL)");
            });
        } catch (const aio::sql::error& e) { refused = e.what(); }
        if (co_await db.count() != before) {
            throw std::runtime_error("a transaction that failed has changed the table");
        }
    });
    if (refused.empty()) throw std::runtime_error("a row that breaks a constraint was accepted");
    t.out.line("a transaction that failed was rolled back: " + refused);
    if (static_cast<std::size_t>(before) != t.read.count)
        throw std::runtime_error("packages were lost on the way to the database");
}

}  // namespace tour
