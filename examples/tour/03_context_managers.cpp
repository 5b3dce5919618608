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

#include <cmath>
#include <tuple>

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

double per_second(std::size_t count, std::chrono::steady_clock::time_point since) {
    return static_cast<double>(count) / std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

// PostgreSQL takes rows in bulk by COPY, and queries of one connection without waiting for the answers in between: they
// are prepared once, sent at once, and answered in their order.
aio::coro<> in_bulk(state& t) {
    auto& db = co_await aio::enter(aio::sql::connect(t.settings.database));
    std::vector<std::tuple<std::string, std::string, std::string, std::int64_t, std::string>> all;
    co_await aio::for_each(read_packages(t.settings.input),
        [&](const package& p) { all.emplace_back(p.name, p.version, p.section, p.installed_kb, p.summary); });
    co_await db.query("CREATE TEMPORARY TABLE copied (LIKE packages)");
    auto begun = std::chrono::steady_clock::now();
    const aio::sql::rows copied = co_await db.copy_in("COPY copied FROM STDIN", all);
    if (copied.affected() != t.read.count) throw std::runtime_error("COPY has lost packages");
    const double copies = per_second(copied.affected(), begun);

    constexpr std::size_t queries = 2000;
    const auto ask = [&](std::size_t i) {
        return db.query("SELECT installed_kb FROM copied WHERE name = $1", std::get<0>(all[i % all.size()]));
    };
    co_await db.query("CREATE INDEX ON copied (name)");
    begun = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < queries; ++i) co_await ask(i);
    const double one_by_one = per_second(queries, begun);

    std::vector<aio::coro<aio::sql::rows>> asked;
    for (std::size_t i = 0; i < queries; ++i) asked.push_back(ask(i));
    begun = std::chrono::steady_clock::now();
    const std::vector<aio::sql::rows> answers = co_await aio::gather(std::move(asked));
    const double at_once = per_second(queries, begun);
    for (std::size_t i = 0; i < queries; ++i) {
        if (answers[i][0][0].as<std::int64_t>() != std::get<3>(all[i % all.size()])) {
            throw std::runtime_error("a query in the pipeline got the answer of another");
        }
    }
    const auto thousands = [](double n) { return std::to_string(std::lround(n / 1000)) + ",000"; };
    t.out.line(std::to_string(copied.affected()) + " packages by COPY, " + thousands(copies) + " a second");
    t.out.line(std::to_string(queries) + " prepared queries on one connection: " + thousands(one_by_one) +
        " a second one after the other, " + thousands(at_once) + " in a pipeline");
    t.out.number("copied_per_second", copies);
    t.out.number("queries_per_second", one_by_one);
    t.out.number("pipelined_per_second", at_once);
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
    std::vector<std::tuple<std::string, std::string, std::string, std::int64_t, std::string>> rows;
    for (const package& p : batch) rows.emplace_back(p.name, p.version, p.section, p.installed_kb, p.summary);
    co_await aio::with(db.transaction(),
        [&]() -> aio::coro<> { co_await db.execute_many("INSERT INTO packages VALUES ($1, $2, $3, $4, $5)", rows); });
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
    if (t.settings.database.starts_with("postgres")) co_await in_bulk(t);
}

}  // namespace tour
