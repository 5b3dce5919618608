#pragma once
// A pool of connections, for tasks that query at the same time: each task takes a connection for as long as it needs
// it.
//
//     aio::sql::pool pool("postgresql://user@host/db", {.max_size = 10});
//     auto rows = co_await pool.query("SELECT 1");              // one statement, on whichever connection is free
//     {
//         auto conn = co_await pool.acquire();                  // several, on the same one
//         co_await conn->query("SELECT 2");
//     }                                                         // given back
//     co_await pool.aclose();                                   // or with(pool, body), enter(std::ref(pool))

#include <aio/detail/base/platform.hpp>

#include <aio/sql/connection.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace aio::sql {

struct pool_options {
    std::size_t max_size = 10;  // connections at the same time
};

struct pool_statistics {
    std::size_t max_size;
    std::size_t in_use;
    std::size_t idle;
    std::size_t tasks_waiting;
};

class pool_state;

/// A pool makes connections when they are needed, and keeps them. A connection that was lost, or is given back in the
/// middle of a transaction, is closed; the pool makes a new one when it needs one. Settings made on a connection (SET,
/// temporary tables) stay with it. "sqlite::memory:" is a database of a single connection: then the pool has one,
/// whatever max_size says.
class pool {
public:
    class lease;

    /// Throws std::invalid_argument as connect() does, or if max_size is 0 or more than a million.
    explicit pool(std::string url, pool_options options = {});
    /// Closes the connections that are idle; those in use are closed when they are given back.
    ~pool();
    pool(const pool&) = delete;
    pool& operator=(const pool&) = delete;

    /// Waits for a connection, first come first served; if none is idle, the pool makes one. Revertible: if a waiter is
    /// cancelled, its place goes to the next waiter, and so does a connection that is being made for it. Throws
    /// sql::error if connecting fails; std::logic_error once the pool is closed. Source: asyncpg's Pool.acquire.
    coro<lease> acquire();

    /// Takes a connection by acquire(), calls connection::query(), and gives the connection back.
    template<parameter_like... Args>
    AIO_DETAIL_WRAPPER coro<rows> query(std::string statement, Args&&... args) {
        return run(std::move(statement), parameters_of(std::forward<Args>(args)...));
    }
    AIO_DETAIL_WRAPPER coro<rows> query(std::string statement, std::vector<parameter> parameters) {
        return run(std::move(statement), std::move(parameters));
    }

    /// Closes the pool: acquire() throws std::logic_error from now on, attempts to connect end. Waits until all
    /// connections have been given back, and closes them. After a cancel it may be called again. Does nothing once all
    /// is closed.
    coro<> aclose();

    pool_statistics statistics() const noexcept;

private:
    coro<rows> run(std::string statement, std::vector<parameter> parameters);
    std::shared_ptr<pool_state> state_;
};

/// A connection in use. It is used like a pointer, and its destructor gives the connection back. It may outlive the
/// pool.
class [[nodiscard]] pool::lease {
public:
    lease(lease&&) noexcept = default;
    lease& operator=(lease&& other) noexcept {
        if (this != &other) {
            release();
            state_ = std::move(other.state_);
            connection_ = std::move(other.connection_);
        }
        return *this;
    }
    ~lease() { release(); }

    connection& operator*() const noexcept { return *connection_; }
    connection* operator->() const noexcept { return connection_.get(); }
    explicit operator bool() const noexcept { return connection_ != nullptr; }
    /// Gives the connection back now; the lease is empty afterwards.
    void release() noexcept;

private:
    friend class pool;
    lease(std::shared_ptr<pool_state> state, std::unique_ptr<connection> c) noexcept
        : state_(std::move(state)), connection_(std::move(c)) {}
    std::shared_ptr<pool_state> state_;
    std::unique_ptr<connection> connection_;
};

}  // namespace aio::sql
