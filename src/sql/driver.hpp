#pragma once
// What sql::connection asks of a database. postgres.cpp and sqlite.cpp implement it; connection sees to it that only
// one operation is under way at a time, but for calls of execute() by the rule interrupt where the driver pipelines.

#include "sql/table.hpp"

#include <aio/coro.hpp>
#include <aio/sql/connection.hpp>

#include <chrono>

namespace aio::inline v0::sql {

/// What a cancel does to a statement.
enum class on_cancel : std::uint8_t {
    interrupt,  // the statement does not begin, or the database is asked to stop it
    complete,   // a statement that has begun is not stopped: COMMIT, whose outcome must be known
    shield,     // the statement begins even under a pending cancel, and runs to its end: ROLLBACK, closing
};

/// How long PostgreSQL may take for a rollback, or for any statement after a cancel, until its connection is given up.
inline constexpr std::chrono::seconds cancel_deadline{5};

/// How the last transaction has ended, if a statement of the user's has ended it.
enum class ending : std::uint8_t { committed, rolled_back };

class driver {
public:
    virtual ~driver() = default;

    virtual coro<> open() = 0;
    /// True if the statement can be pipelined: several such calls of execute() may be under way at the same time.
    virtual bool pipelines(const std::string& /*statement*/, const std::vector<parameter>& /*parameters*/) const {
        return false;
    }
    virtual coro<table_ptr> execute(std::string statement, std::vector<parameter> parameters, on_cancel rule) = 0;
    /// Executes it once for each set, all or nothing; gives what was affected by all together.
    virtual coro<table_ptr> execute_many(std::string statement, std::vector<std::vector<parameter>> sets);
    virtual coro<> close() = 0;

    /// Begins a statement whose rows fetch() gives in batches, one after the other, and null after the last.
    virtual coro<> open_stream(std::string statement, std::vector<parameter> parameters) = 0;
    virtual coro<table_ptr> fetch() = 0;
    /// Drops the rest of the rows. The driver ends the statement before the next operation.
    virtual void drop_stream() noexcept = 0;

    virtual bool usable() noexcept = 0;  // false: it is closed or lost; may look at the socket for that
    /// True if it is known to be lost, without a look at the socket.
    virtual bool lost() const noexcept { return false; }
    virtual bool in_transaction() const noexcept = 0;
    virtual std::string begin_statement(const transaction_options& options) const = 0;
    /// For a transaction that is no longer open although connection has not ended it: how it has ended, and the error
    /// code for a further statement in it.
    virtual ending ended() const noexcept = 0;
    virtual const char* ended_code() const noexcept = 0;

    /// What PostgreSQL alone has. Without it the functions below throw std::logic_error.
    virtual coro<> open_copy(std::string statement, bool in);
    virtual coro<> send_copy(std::string piece);  // waits for room
    /// Ends a COPY FROM STDIN: makes it fail if why_not is not empty.
    virtual coro<table_ptr> end_copy(std::string why_not);
    virtual coro<std::string> fetch_copy();  // empty: the end; drop_stream() drops the rest
    virtual async_generator<notification> listen(std::string channel);
    virtual void handle_notices(aio::detail::function<void(const notice&)> fn);
    virtual void check_notifies() const;

    /// What SQLite alone has. progress gets the pages done and all pages, on the loop.
    virtual coro<> back_up(std::string path, aio::detail::function<void(std::size_t, std::size_t)> progress);
    /// Called before open(): the connection is one of several of a pool.
    virtual void for_pool() noexcept {}

    /// A statement may have set something for the session (may_change_session()), so a pool resets it.
    bool session_changed = false;

    driver() = default;
    driver(const driver&) = delete;
    driver& operator=(const driver&) = delete;
};

/// The most that a database accepts: bytes of a statement, of one value and of all values together, and the number of
/// parameters.
struct size_limits {
    const char* database;
    std::size_t statement, value, together, parameters;
};
/// The most that a parameter costs beside its bytes(): numbers are sent as text.
inline constexpr std::size_t parameter_overhead = 48;
/// Throws std::invalid_argument, which names the limit, if a statement or its parameters are too large.
void check_sizes(const std::string& statement, const std::vector<parameter>& parameters, const size_limits& most);

/// PostgreSQL's name for a SQLSTATE: "unique_violation" for 23505.
std::string condition_of(std::string_view sqlstate);

/// For a syntax error: what to say if the statement marks its parameters as other libraries do, by ?, %s or :name; else
/// nothing. SQLite knows ? itself.
const char* advice_on_parameters(std::string_view statement) noexcept;

/// True for what begins as a SELECT: the words SELECT, WITH and VALUES, after comments. Only the database knows whether
/// it reads alone.
bool is_select(std::string_view statement) noexcept;

/// True unless a statement leaves a PostgreSQL session as it was; errs on the side of true.
bool may_change_session(std::string_view statement) noexcept;

std::unique_ptr<driver> make_sqlite(const std::string& url, connect_options options);  // throws std::invalid_argument
/// True for the URL of an SQLite database in memory, which is gone with its connection.
bool is_in_memory(const std::string& url);
std::unique_ptr<driver> make_postgres(const std::string& url, connect_options options);  // throws std::invalid_argument
/// Makes the driver for the URL's scheme; it connects in open(). Throws std::invalid_argument.
std::unique_ptr<driver> make_driver(const std::string& url, connect_options options = {});
/// The URL with *** for passwords.
std::string without_password(const std::string& url);

}  // namespace aio::inline v0::sql
