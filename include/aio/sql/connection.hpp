#pragma once
// A connection to PostgreSQL or SQLite.
//
//     auto& db = co_await aio::enter(aio::sql::connect("postgresql://user@host/db"));   // or "sqlite:///file.db"
//     co_await db.query("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)");
//     co_await aio::with(db.transaction(), [&]() -> aio::coro<> {
//         co_await db.query("INSERT INTO users VALUES ($1, $2)", 1, "Ann");
//         co_await db.query("INSERT INTO users VALUES ($1, $2)", 2, "Bob");
//     });                                                  // committed; rolled back if the body throws or is cancelled
//     auto found = co_await db.query("SELECT * FROM users WHERE id = $1", 2);
//
// A PostgreSQL connection runs on the loop, without a thread; an SQLite connection has a thread of its own. The
// statement's text is the database's own dialect; $1, $2 ... work in both.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/future.hpp>
#include <aio/sql/rows.hpp>

#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace aio::sql {

class driver;  // src/sql/driver.hpp
class pool;
class transaction;

template<class T>
concept parameter_like = std::is_constructible_v<parameter, T>;
template<parameter_like... Args>
std::vector<parameter> parameters_of(Args&&... args) {
    std::vector<parameter> parameters;
    parameters.reserve(sizeof...(Args));
    (parameters.emplace_back(std::forward<Args>(args)), ...);
    return parameters;
}

/// Made by connect() and by pool. A connection does one operation at a time: a second task that queries meanwhile gets
/// std::logic_error; take a connection for each task, from a pool. A connection belongs to its loop. When it is
/// destroyed, no operation may be under way on it.
///
/// The library drops the notices of a PostgreSQL server and the notifications that a LISTEN brings. NOTIFY works.
class connection {
public:
    explicit connection(std::unique_ptr<driver> d) noexcept;
    ~connection();
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;

    /// Runs a statement and gives all of its rows. Without parameters it may be several statements, separated by
    /// semicolons: the rows are those of the last one.
    ///
    /// Irrevocable, but it can be asked to stop: a cancel interrupts the statement in the database, waits until the
    /// connection is idle again and then throws cancelled_error; a statement that completed in spite of it gives its
    /// rows, and the cancel stays pending. A PostgreSQL connection that does not become idle within 5 seconds is
    /// closed.
    ///
    /// Throws sql::error; std::invalid_argument for what the database cannot take (a statement with a NUL byte, for
    /// PostgreSQL a text with one, too many bytes or parameters); std::logic_error for a second operation at the same
    /// time, or after the connection was closed.
    template<parameter_like... Args>
    AIO_DETAIL_WRAPPER coro<rows> query(std::string statement, Args&&... args) {
        return run(std::move(statement), parameters_of(std::forward<Args>(args)...));
    }
    /// The same with parameters whose number is known only when the program runs.
    AIO_DETAIL_WRAPPER coro<rows> query(std::string statement, std::vector<parameter> parameters) {
        return run(std::move(statement), std::move(parameters));
    }

    /// The same, but gives the rows one by one, and reads them from the database in small batches as they are asked
    /// for. A generator that is closed or dropped before its end stops the statement; until then nothing else can be
    /// done on this connection. next() throws std::logic_error if the connection, or the transaction around it, was
    /// ended meanwhile. A row that has come is given in spite of a cancel; but the server may have been asked to stop
    /// by then, and the next row is a sql::error (57014).
    template<parameter_like... Args>
    AIO_DETAIL_WRAPPER async_generator<row> stream(std::string statement, Args&&... args) {
        return run_stream(std::move(statement), parameters_of(std::forward<Args>(args)...));
    }
    AIO_DETAIL_WRAPPER async_generator<row> stream(std::string statement, std::vector<parameter> parameters) {
        return run_stream(std::move(statement), std::move(parameters));
    }

    /// Gives a manager that begins a transaction, commits it when the body has ended, and rolls it back when the body
    /// threw or was cancelled. Inside another transaction it is a savepoint. In SQLite it begins IMMEDIATE, so that it
    /// never fails half-way because another connection writes. A rollback cannot be cancelled, and a cancel does
    /// not interrupt a commit that has begun. But PostgreSQL has 5 seconds for a rollback, or for a commit after a
    /// cancel; then the connection is closed, and the outcome is not known. If the body
    /// ends the transaction by a COMMIT or ROLLBACK of its own, the exit throws sql::error, which says which of the two
    /// has happened.
    sql::transaction transaction();

    /// Closes the connection, once the operation under way has ended; an open transaction is rolled back. A second call
    /// does nothing. A connection of connect() is closed by its manager.
    coro<> aclose();

    /// False once the connection was closed, or was lost (the server went away, or did not answer to a cancel), or a
    /// transaction on it could not be ended.
    bool usable() const noexcept;

private:
    friend class sql::transaction;
    friend class pool;
    friend class pool_state;
    struct running;
    struct use;
    struct open_stream;

    coro<rows> run(std::string statement, std::vector<parameter> parameters);
    async_generator<row> run_stream(std::string statement, std::vector<parameter> parameters);
    coro<> begin(std::size_t level);
    coro<> commit(std::size_t level);
    coro<> roll_back(std::size_t level);
    coro<bool> reset();  // for the pool: false if it cannot be used again
    void check_free() const;
    void check_statement(const std::string& statement) const;
    void end_stream() noexcept;

    std::unique_ptr<driver> driver_;
    std::size_t level_ = 0;  // how many transactions are open, each inside the one before
    open_stream* stream_ = nullptr;
    bool running_ = false;  // an operation is under way
    bool closed_ = false;
    bool poisoned_ = false;           // a transaction could not be ended: never to be used again
    std::unique_ptr<future<>> idle_;  // while aclose() waits for the operation under way
};

/// What connection::transaction() gives: a manager for with() and enter(). Used once.
class [[nodiscard("give it to with() or enter()")]] transaction {
public:
    /// Gives the connection. Throws sql::error, or std::logic_error if the connection is in a transaction begun by
    /// hand.
    coro<connection&> enter();
    /// Throws sql::error if the commit failed; everything is rolled back then.
    coro<> exit(std::exception_ptr error);

private:
    friend class connection;
    explicit transaction(connection& db) noexcept : db_(&db) {}
    connection* db_;
    std::size_t level_ = 0;
    enum class state : std::uint8_t { unused, open, ended } state_ = state::unused;
};

/// What connect() gives: a manager for with() and enter().
class [[nodiscard("give it to with() or enter()")]] connector {
public:
    explicit connector(std::string url);
    connector(connector&&) noexcept = default;
    connector& operator=(connector&&) noexcept = default;
    /// Connects, and gives the connection. A cancel ends the attempt at once. Throws sql::error, which says where to
    /// and why not.
    coro<connection&> enter();
    coro<> exit(std::exception_ptr error);

private:
    std::string url_;
    std::unique_ptr<connection> connection_;
};

/// url: "postgresql://user:password@host:port/database?option=value", as libpq has it (also postgres://);
/// "sqlite:///relative/path", "sqlite:////absolute/path" (the rest is the path as it stands) or "sqlite::memory:".
/// PostgreSQL has 30 seconds to answer at each of its addresses; the option connect_timeout=SECONDS says otherwise, and
/// 0 lifts the limit. Throws std::invalid_argument for another scheme or a URL that makes no sense; no error ever shows
/// the password.
inline connector connect(std::string url) { return connector(std::move(url)); }

}  // namespace aio::sql
