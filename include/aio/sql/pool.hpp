#pragma once
// A pool of connections, for tasks that query at the same time: each task takes a connection for as long as it needs
// it.
//
//     aio::sql::pool pool("postgresql://user@host/db", {.max_size = 10, .acquire_timeout = 5s});
//     auto rows = co_await pool.query("SELECT 1");              // one statement, on whichever connection is free
//     {
//         auto conn = co_await pool.acquire();                  // several, on the same one
//         co_await conn->query("SELECT 2");
//     }                                                         // given back
//     co_await pool.aclose();                                   // or with(pool, body), enter(std::ref(pool))

#include <aio/detail/base/platform.hpp>

#include <aio/delay.hpp>
#include <aio/sql/connection.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace aio::inline v0::sql {

/// What a pool does with each new connection before anybody gets it, such as SET or a type's registration; also after
/// the pool has reset one. fn is an async function that takes the connection. It is copied; if it throws, the attempt
/// to connect has failed with its error.
class pool_setup {
public:
    /// fn is called as fn(connection), once for each connection.
    template<class F>
        requires std::is_invocable_r_v<coro<>, F&, connection&>
    pool_setup(F fn) : fn_(std::make_shared<holder<F>>(std::move(fn))) {}
    /// Calls fn(db). The pool does that with each new connection, and with each that it has reset.
    AIO_DETAIL_WRAPPER coro<> operator()(connection& db) const { return fn_->call(db); }

private:
    struct base {
        virtual ~base() = default;
        virtual coro<> call(connection& db) = 0;
    };
    template<class F>
    struct holder : base {
        explicit holder(F f) : fn(std::move(f)) {}
        AIO_DETAIL_WRAPPER coro<> call(connection& db) override { return fn(db); }
        F fn;
    };
    std::shared_ptr<base> fn_;
};

/// When a pool takes back what a task has set for its session: SET, LISTEN, advisory locks, temporary tables, cursors.
enum class pool_reset : std::uint8_t {
    if_needed,  // after a statement that looks as if it sets something; not after a function that sets something
    always,     // each time: one more round trip, without anybody waiting for it
    never,      // settings stay with their connection
};

/// The options of a pool.
struct pool_options {
    std::size_t max_size = 10;                 // connections at the same time
    std::size_t min_size = 0;                  // connections that are kept, made in the background
    delay acquire_timeout = std::nullopt;      // how long acquire() and query() wait for a connection
    delay max_idle = std::chrono::minutes(5);  // then a connection that nobody uses is closed, down to min_size
    delay max_lifetime = std::nullopt;         // of a connection, less up to a tenth, so that not all end at once
    std::size_t statement_cache = 100;         // prepared statements that each connection keeps; 0: none
    const pool_setup* setup = nullptr;         // copied
    delay check_after =
        std::chrono::seconds(30);              // PostgreSQL: a connection idle for longer is asked if it still answers
    pool_reset reset = pool_reset::if_needed;  // PostgreSQL
    sqlite_options sqlite = {};                // of an SQLite database alone
};

/// A snapshot of a pool.
struct pool_statistics {
    std::size_t max_size;                   // as in pool_options
    std::size_t in_use;                     // leases, and tasks for which a connection is being made
    std::size_t idle;                       // connections that are open and that nobody uses
    std::size_t tasks_waiting;              // for a connection to come free
    std::size_t connecting;                 // attempts to connect that are under way
    std::uint64_t acquired;                 // leases given so far
    std::uint64_t waits;                    // calls that had to wait for a connection
    std::uint64_t timeouts;                 // waits that ended by acquire_timeout
    std::uint64_t created;                  // connections made so far
    std::uint64_t failed;                   // attempts to connect that failed
    std::uint64_t closed;                   // connections closed so far
    std::chrono::nanoseconds wait_time;     // of all waits together
    std::chrono::nanoseconds longest_wait;  // the longest wait of one task
};

class pool_state;
struct pooled;

/// A pool makes connections when they are needed, and keeps them. A connection that was lost, or is given back in the
/// middle of a transaction, is closed, and the pool makes a new one when it needs one. Once a connection was lost,
/// those idle at that time are asked whether they still answer before anybody gets them, so a restart of the database
/// costs only the statements that were under way. "sqlite::memory:" is a database of a single connection: then the pool
/// has one, which it keeps, whatever the options say. A pool belongs to its loop.
class pool {
public:
    class lease;

    /// Throws std::invalid_argument as connect() does, or if max_size is 0 or more than a million, or min_size more
    /// than max_size. Inside a running loop it begins to make min_size connections; otherwise the first acquire() does.
    explicit pool(std::string url, pool_options options = {});
    /// Closes the connections that are idle; those in use are closed when they are given back.
    ~pool();
    pool(const pool&) = delete;
    pool& operator=(const pool&) = delete;

    /// Waits for a connection, first come first served; if none is idle, the pool makes one. Revertible: if a waiter is
    /// cancelled, its place goes to the next waiter, and so does a connection that is being made for it. Throws
    /// sql::error if connecting fails; timeout_error after acquire_timeout, or the limit given here instead, which says
    /// what the pool is doing; std::logic_error once the pool is closed. Source: asyncpg's Pool.acquire.
    coro<lease> acquire();
    coro<lease> acquire(delay limit);

    /// Takes a connection by acquire(), calls connection::query(), and gives the connection back. Nothing is tried
    /// again: the pool cannot know whether a statement whose answer was lost has happened. SQLite has one writer at a
    /// time: of the statements given here that are no SELECT one has a connection at a time, and the others line up
    /// without one, first come first served, so that readers find a connection free. acquire_timeout counts the time in
    /// the line. Is cancelled and fails as acquire(), and then as connection::query().
    template<parameter_like... Args>
    AIO_DETAIL_WRAPPER coro<rows> query(std::string statement, Args&&... args) {
        return run(std::move(statement), parameters_of(std::forward<Args>(args)...));
    }
    AIO_DETAIL_WRAPPER coro<rows> query(std::string statement, std::vector<parameter> parameters) {
        return run(std::move(statement), std::move(parameters));
    }

    /// Words of other libraries, as in connection.
    // clang-format off: g++ shows the line of the name alone
    template<class... Args>
    void execute(Args&&...) = AIO_DETAIL_DELETE("query(sql, args...) runs a statement on whichever connection is free");
    template<class... Args>
    void fetch(Args&&...) = AIO_DETAIL_DELETE("query(sql, args...) gives all rows; for a stream take a connection by acquire()");
    // clang-format on

    /// Closes the pool: acquire() throws std::logic_error from now on, attempts to connect end. Waits until all
    /// connections have been given back, and closes them. After a cancel it may be called again. Does nothing once all
    /// is closed. Throws timeout_error, which says how many connections are in use, if that is still so after the
    /// limit: they are closed when they are given back.
    coro<> aclose(delay limit = std::nullopt);

    pool_statistics statistics() const noexcept;  // A snapshot of the pool: see pool_statistics.

private:
    friend struct pool_for_tests;
    static coro<lease> take(std::shared_ptr<pool_state> state, delay limit);
    coro<rows> run(std::string statement, std::vector<parameter> parameters);
    std::shared_ptr<pool_state> state_;
};

/// A connection in use, as acquire() gives it. Its destructor gives the connection back. A lease may be moved, into a
/// task for example: the lease that was moved from is empty. It may outlive the pool, and aclose() waits for it.
class [[nodiscard]] pool::lease {
public:
    lease(lease&& other) noexcept
        : state_(std::move(other.state_)),
          pooled_(std::exchange(other.pooled_, nullptr)),
          connection_(std::exchange(other.connection_, nullptr)) {}
    lease& operator=(lease&& other) noexcept {
        if (this != &other) {
            release();
            state_ = std::move(other.state_);
            pooled_ = std::exchange(other.pooled_, nullptr);
            connection_ = std::exchange(other.connection_, nullptr);
        }
        return *this;
    }
    ~lease() { release(); }

    connection& operator*() const noexcept { return *connection_; }  // The connection; the lease must not be empty.
    connection* operator->() const noexcept { return connection_; }  // The same; null if the lease is empty.
    explicit operator bool() const noexcept { return connection_ != nullptr; }  // False if the lease is empty.
    /// Gives the connection back now, before the lease is destroyed; the lease is empty afterwards. Does nothing if the
    /// lease is empty.
    void release() noexcept;

private:
    friend class pool;
    lease(std::shared_ptr<pool_state> state, std::unique_ptr<pooled> c) noexcept;
    std::shared_ptr<pool_state> state_;
    pooled* pooled_;
    connection* connection_;
};

}  // namespace aio::inline v0::sql
