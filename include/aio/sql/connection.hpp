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
#include <aio/delay.hpp>
#include <aio/detail/base/config.hpp>
#include <aio/detail/base/list.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/future.hpp>
#include <aio/sql/rows.hpp>

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0::sql {

class driver;  // src/sql/driver.hpp
class pool;
class transaction;

/// T can be given as a parameter of a query.
template<class T>
concept parameter_like = std::is_constructible_v<parameter, T>;
/// Gives the arguments as a vector of parameters.
template<parameter_like... Args>
std::vector<parameter> parameters_of(Args&&... args) {
    std::vector<parameter> parameters;
    parameters.reserve(sizeof...(Args));
    (parameters.emplace_back(std::forward<Args>(args)), ...);
    return parameters;
}

/// A tuple, pair or array of values as parameters; a vector of parameters as it is.
template<class Tuple>
std::vector<parameter> parameters_in(Tuple&& values) {
    if constexpr (std::is_same_v<std::remove_cvref_t<Tuple>, std::vector<parameter>>) {
        return std::forward<Tuple>(values);
    } else {
        return std::apply(
            [](auto&&... v) { return parameters_of(std::forward<decltype(v)>(v)...); }, std::forward<Tuple>(values));
    }
}

/// How an SQLite database is opened. Without these the file keeps its journal mode, and SQLite does not enforce foreign
/// keys, as elsewhere; but a pool of several connections turns WAL on, so that they can read while one of them writes.
struct sqlite_options {
    bool read_only = false;                        // a statement that would write fails
    bool create = true;                            // the file, if there is none
    bool immutable = false;                        // read only, and nobody changes the file: SQLite takes no locks
    delay busy_timeout = std::chrono::seconds(5);  // how long a statement waits for the lock of another connection
    std::string_view pragmas = {};                 // run first: "PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL"
};

/// The options of connect().
struct connect_options {
    /// How many statements a connection keeps prepared: those used last. PostgreSQL prepares a statement when it is
    /// used for the second time. 0 prepares none, which a pooler such as PgBouncer in transaction mode asks for.
    std::size_t statement_cache = 100;
    sqlite_options sqlite = {};  // For an SQLite database alone.
};

/// How a transaction sees what others do meanwhile. standard: as the database is set up.
enum class isolation : std::uint8_t { standard, read_committed, repeatable_read, serializable };

/// The options of a transaction.
struct transaction_options {
    sql::isolation isolation = sql::isolation::standard;  // what it sees of others
    bool read_only = false;                               // a statement that would write fails
    bool deferrable = false;  // PostgreSQL: a serializable, read-only transaction waits until it cannot fail
};

/// What NOTIFY sends to those who listen().
struct notification {
    std::string channel;  // as NOTIFY names it
    std::string payload;  // the second argument of NOTIFY; may be empty
    int backend = 0;      // the number of the server's process whose connection has sent it
};

/// What the server says beside its answers, such as RAISE NOTICE or a warning.
struct notice {
    std::string severity;  // "NOTICE", "WARNING"
    std::string code;      // the SQLSTATE
    std::string message;   // the text
    std::string detail;    // more about it; may be empty
    std::string hint;      // what to do about it; may be empty
};

/// Made by connect() and by pool. Several tasks may use a connection at the same time: their operations line up, first
/// come first served. Queries to PostgreSQL are pipelined: they are sent at once, and answered in their order, each
/// with its own result or error; SQLite does one after the other. All else has the connection for itself, after those
/// before it: the beginning and the end of a transaction, several statements in one text, execute_many() and COPY. A
/// stream has it until its end: meanwhile other operations throw std::logic_error.
///
/// A transaction belongs to the connection, not to a task: what other tasks query meanwhile is part of it. A connection
/// belongs to its loop. When it is destroyed, no operation may be under way on it.
class connection {
public:
    explicit connection(std::unique_ptr<driver> d) noexcept;  // For drivers: takes a connection that is open.
    ~connection();
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;

    /// Runs a statement and gives all of its rows. Without parameters it may be several statements, separated by
    /// semicolons: the rows are those of the last one.
    ///
    /// A query that was not sent yet is withdrawn by a cancel. One that was sent is irrevocable, but can be asked to
    /// stop: a cancel interrupts the statement in the database, waits for its end and then throws cancelled_error; a
    /// statement that completed in spite of it gives its rows, and the cancel stays pending. A PostgreSQL connection
    /// whose statement does not end within 5 seconds then is closed. PostgreSQL cannot stop one query in a pipeline
    /// without the risk of stopping another task's: if other queries are under way on the connection, the cancelled one
    /// throws cancelled_error at once, and its answer is dropped when it comes. The server may still carry it out.
    ///
    /// Throws sql::error; std::invalid_argument for what the database cannot take (a statement with a NUL byte, for
    /// PostgreSQL a text with one, too many bytes or parameters); std::logic_error while a stream is open, or after the
    /// connection was closed.
    template<parameter_like... Args>
    AIO_DETAIL_WRAPPER coro<rows> query(std::string statement, Args&&... args) {
        return run(std::move(statement), parameters_of(std::forward<Args>(args)...));
    }
    /// Runs a statement as query() does, with parameters whose number is known only when the program runs.
    AIO_DETAIL_WRAPPER coro<rows> query(std::string statement, std::vector<parameter> parameters) {
        return run(std::move(statement), std::move(parameters));
    }

    /// Runs a statement, and gives its rows one by one: it reads them from the database in small batches as they are
    /// asked for. Errors are those of query(), thrown by next(). A generator that is closed or dropped before its end
    /// stops the statement; until then nothing else can be done on this connection. next() throws std::logic_error if
    /// the connection, or the transaction around it, was ended meanwhile. A row that has come is given in spite of a
    /// cancel; but the server may have been asked to stop by then, and the next row is a sql::error (57014).
    template<parameter_like... Args>
    AIO_DETAIL_WRAPPER async_generator<row> stream(std::string statement, Args&&... args) {
        return run_stream(std::move(statement), parameters_of(std::forward<Args>(args)...));
    }
    AIO_DETAIL_WRAPPER async_generator<row> stream(std::string statement, std::vector<parameter> parameters) {
        return run_stream(std::move(statement), std::move(parameters));
    }

    /// Runs a statement once for each tuple of the range, in one round trip: all or nothing, as one transaction, or as
    /// a part of the transaction that is open. The rows have no fields; affected() is that of all together. Tuples,
    /// pairs, arrays and std::vector<sql::parameter> are taken, and copied before the call returns. A cancel interrupts
    /// it, and nothing has happened then. Throws the errors of query(). Source: asyncpg's executemany.
    template<class Range>
    AIO_DETAIL_WRAPPER coro<rows> execute_many(std::string statement, Range&& tuples) {
        std::vector<std::vector<parameter>> all;
        for (auto&& values : tuples) all.push_back(parameters_in(values));
        return run_many(std::move(statement), std::move(all));
    }

    /// PostgreSQL: runs a COPY ... FROM STDIN, and sends it what the generator gives, in the format that the statement
    /// names. affected() says how many rows were copied. If the generator throws, or the task is cancelled, nothing is
    /// copied. Throws the errors of query(), and what the generator throws.
    AIO_DETAIL_WRAPPER coro<rows> copy_in(std::string statement, async_generator<std::string> pieces) {
        return run_copy_in(std::move(statement), std::move(pieces));
    }
    /// Runs a COPY ... FROM STDIN, and sends it a line for each tuple of the range; the statement must ask for the text
    /// format, which is the default. Tuples, pairs, arrays and std::vector<sql::parameter> are taken, with any element
    /// that query() takes as a parameter: numbers, text, std::optional, times. A range that is no temporary has to live
    /// until the copy has ended.
    template<class Range>
        requires(!std::is_same_v<std::remove_cvref_t<Range>, async_generator<std::string>>)
    AIO_DETAIL_WRAPPER coro<rows> copy_in(std::string statement, Range&& tuples) {
        return run_copy_in(std::move(statement), copy_lines<Range>(std::forward<Range>(tuples)));
    }
    /// PostgreSQL: runs a COPY ... TO STDOUT, and gives what the server sends, a row or more at a time. It has the
    /// connection for itself, and is cancelled and fails, as stream().
    AIO_DETAIL_WRAPPER async_generator<std::string> copy_out(std::string statement) {
        return run_copy_out(std::move(statement));
    }

    /// PostgreSQL: hears what NOTIFY sends to a channel from the first next() on. The connection can be used meanwhile.
    /// Notifications are kept until they are asked for. next() is revertible; it throws sql::error once the connection
    /// is lost, and the generator ends when the connection is closed.
    async_generator<notification> listen(std::string channel);
    /// PostgreSQL: sends a notification to those who listen() on the channel: at once, or when the transaction that is
    /// open has been committed. Completes, is cancelled and fails as query().
    coro<> notify(std::string channel, std::string payload = {});
    /// PostgreSQL: fn is called with each sql::notice of the server. What it throws goes to the loop's exception
    /// handler. Without a handler notices are dropped.
    template<class Fn>
    void set_notice_handler(Fn fn) {
        handle_notices(aio::detail::function<void(const notice&)>(std::move(fn)));
    }

    /// Gives a manager that begins a transaction, commits it when the body has ended, and rolls it back when the body
    /// threw or was cancelled. Inside another transaction it is a savepoint. In SQLite it begins IMMEDIATE, so that it
    /// never fails half-way because another connection writes. A rollback cannot be cancelled, and a cancel does
    /// not interrupt a commit that has begun. But PostgreSQL has 5 seconds for a rollback, or for a commit after a
    /// cancel; then the connection is closed, and the outcome is not known. If the body
    /// ends the transaction by a COMMIT or ROLLBACK of its own, the exit throws sql::error, which says which of the two
    /// has happened. The options are those of the outermost transaction: inside another one they are ignored, because
    /// PostgreSQL cannot change them any more. SQLite's transactions are serializable; read_only begins one that takes
    /// no lock before it needs one.
    sql::transaction transaction(transaction_options options = {});

    /// Closes the connection, once the operations under way have ended; an open transaction is rolled back. A cancel
    /// does not interrupt it, and is thrown when the connection is closed. A second call does nothing. A connection of
    /// connect() is closed by its manager.
    coro<> aclose();

    /// False once the connection was closed, or was lost (the server went away, or did not answer to a cancel), or a
    /// transaction on it could not be ended.
    bool usable() const noexcept;

    /// Words of other libraries: these are no functions, and say to the compiler's user what to write.
    // clang-format off: g++ shows the line of the name alone
    template<class... Args>
    void execute(Args&&...) = AIO_DETAIL_DELETE("query(sql, args...) runs a statement, execute_many(sql, tuples) runs it once for each tuple");
    template<class... Args>
    void fetch(Args&&...) = AIO_DETAIL_DELETE("query(sql, args...) gives all rows, stream(sql, args...) gives them one by one");
    void commit() = AIO_DETAIL_DELETE("a statement is committed by itself; with(db.transaction(), body) commits several at once");
    // clang-format on

private:
    friend class sql::transaction;
    friend class pool;
    friend class pool_state;
    friend coro<> sqlite_backup(
        connection& db, std::string path, aio::detail::function<void(std::size_t, std::size_t)> progress);
    class turn;
    struct turn_node;
    class turn_taker;
    struct open_stream;

    coro<rows> run(std::string statement, std::vector<parameter> parameters);
    async_generator<row> run_stream(std::string statement, std::vector<parameter> parameters);
    coro<rows> run_many(std::string statement, std::vector<std::vector<parameter>> sets);
    coro<rows> run_copy_in(std::string statement, async_generator<std::string> pieces);
    async_generator<std::string> run_copy_out(std::string statement);
    template<class Range>
    static async_generator<std::string> copy_lines(Range tuples) {
        std::string lines;
        for (auto&& values : tuples) {
            append_copy_line(lines, parameters_in(values));
            if (lines.size() < 65536) continue;
            co_yield std::exchange(lines, std::string());
        }
        if (!lines.empty()) co_yield std::move(lines);
    }
    static void append_copy_line(std::string& lines, const std::vector<parameter>& values);
    void handle_notices(aio::detail::function<void(const notice&)> fn);

    coro<> back_up(std::string path, aio::detail::function<void(std::size_t, std::size_t)> progress);

    coro<> begin(std::size_t level, transaction_options options);
    coro<> commit(std::size_t level);
    coro<> roll_back(std::size_t level);
    coro<bool> reset();  // for the pool: false if it cannot be used again
    void check_free() const;
    void check_statement(const std::string& statement) const;
    void end_stream() noexcept;
    bool admits(bool alone) const noexcept;
    void leave(bool alone) noexcept;
    void leave_line() noexcept;

    std::unique_ptr<driver> driver_;
    std::size_t level_ = 0;  // how many transactions are open, each inside the one before
    open_stream* stream_ = nullptr;
    aio::detail::list<turn_node> line_;  // the operations that wait for their turn
    std::size_t running_ = 0;            // operations that have their turn
    bool alone_ = false;                 // the one that has its turn has the connection for itself
    bool closed_ = false;
    bool poisoned_ = false;           // a transaction could not be ended: never to be used again
    std::unique_ptr<future<>> idle_;  // while aclose() waits for the operations under way
};

/// Copies an SQLite database into a file while it is used: other connections read and write meanwhile, and in WAL mode
/// the copy shows the database as it was at the beginning. The file gets its name once the copy is whole and on the
/// disk; until then it is path + ".partial", and what path was before stays. progress(done, total), a plain function,
/// is told of the pages copied. The connection does nothing else meanwhile. A cancel ends it soon, and the part is
/// removed. Throws sql::error; std::logic_error for another database. Source: aiosqlite's Connection.backup.
coro<> sqlite_backup(
    connection& db, std::string path, aio::detail::function<void(std::size_t, std::size_t)> progress = nullptr);

/// What connection::transaction() gives: a manager for with() and enter(). Used once.
class [[nodiscard("give it to with() or enter()")]] transaction {
public:
    /// Begins the transaction, and gives the connection. Throws sql::error, or std::logic_error if the connection is in
    /// a transaction begun by hand.
    coro<connection&> enter();
    /// Commits, or rolls back if error is not null. A cancel interrupts neither a rollback nor a commit that has begun:
    /// see connection::transaction(). Throws sql::error if the commit failed; everything is rolled back then.
    coro<> exit(std::exception_ptr error);

private:
    friend class connection;
    transaction(connection& db, transaction_options options) noexcept : db_(&db), options_(options) {}
    connection* db_;
    transaction_options options_;
    std::size_t level_ = 0;
    enum class state : std::uint8_t { unused, open, ended } state_ = state::unused;
};

/// What connect() gives: a manager for with() and enter().
class [[nodiscard("give it to with() or enter()")]] connector {
public:
    explicit connector(std::string url, connect_options options = {});  // connect() makes it.
    connector(connector&&) noexcept = default;
    connector& operator=(connector&&) noexcept = default;
    /// Connects, and gives the connection. A cancel ends the attempt at once. Throws sql::error, which says where to
    /// and why not.
    coro<connection&> enter();
    coro<> exit(std::exception_ptr error);

private:
    std::string url_;
    connect_options options_;
    std::string pragmas_;  // a copy of what the options refer to
    std::unique_ptr<connection> connection_;
};

/// url: "postgresql://user:password@host:port/database?option=value", as libpq has it (also postgres://);
/// "sqlite:///relative/path", "sqlite:////absolute/path" (the rest is the path as it stands) or "sqlite::memory:".
/// PostgreSQL has 30 seconds to answer at each of its addresses; the option connect_timeout=SECONDS says
/// otherwise, and 0 lifts the limit. Throws std::invalid_argument for another scheme or a URL that makes no sense; no
/// error ever shows the password.
inline connector connect(std::string url, connect_options options = {}) { return connector(std::move(url), options); }

}  // namespace aio::inline v0::sql
