// What sql::connection, transaction and connector do for every database; the drivers behind driver.hpp do the rest.
// URLs are read here, as far as they name a driver, and their passwords are hidden for messages.
//
// A connection does one operation at a time and says so to a second task (check_free). It counts how deep its
// transactions are nested: the outermost is a transaction of the database, the others are savepoints (level_).

#include <aio/sql/connection.hpp>

#include "sql/driver.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>

namespace aio::sql {

// ---- addresses ----

namespace {

/// Decodes %40 and so on; what is malformed stays as it is.
std::string decoded(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned value = 0;
        const char* const digits = text.data() + i + 1;
        if (text[i] == '%' && text.size() - i > 2 && std::from_chars(digits, digits + 2, value, 16).ptr == digits + 2) {
            plain += static_cast<char>(value);
            i += 2;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

/// True if key names an option with a secret, "password" or "sslpassword", in any case and however it is encoded.
bool is_secret(std::string_view key) {
    std::string name = decoded(key);
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return name.find("password") != std::string::npos;
}

}  // namespace

// This also gets URLs that make no sense: where it is in doubt what belongs to a password, it hides more rather than
// less.
std::string without_password(const std::string& url) {
    const std::size_t start = url.find("://");
    // All is hidden from the first secret option to the end of the URL: its value may hold unencoded & and @.
    std::size_t end = url.size();
    for (std::size_t key = url.find_first_of("?&"); key != std::string::npos; key = url.find_first_of("?&", key + 1)) {
        const std::size_t equals = url.find_first_of("=?&", key + 1);
        if (equals == std::string::npos || url[equals] != '=') continue;
        if (!is_secret(std::string_view(url).substr(key + 1, equals - key - 1))) continue;
        end = equals + 1;
        break;
    }
    std::string shown = url.substr(0, end) + (end < url.size() ? "***" : "");
    // The user's part ends at the last @: a password that was not percent-encoded may hold anything.
    const std::size_t at = url.rfind('@');
    if (start == std::string::npos || at == std::string::npos) return shown;
    const std::size_t colon = url.find(':', start + 3);
    if (colon >= at) return shown;
    if (at >= end) return url.substr(0, colon + 1) + "***";
    return shown.replace(colon + 1, at - colon - 1, "***");
}

namespace {

constexpr std::string_view known_urls =
    "the known ones are postgresql://user:password@host:port/database, sqlite:///relative/path, "
    "sqlite:////absolute/path and sqlite::memory:";

std::string sqlite_path(const std::string& url) {
    std::string_view rest = std::string_view(url).substr(7);
    if (rest == ":memory:" || rest == "//" || rest == "///:memory:") return ":memory:";
    if (!rest.starts_with("///") || rest.size() == 3) {
        throw std::invalid_argument("the URL '" + without_password(url) +
            "' names no file: it is sqlite:///relative/path, sqlite:////absolute/path " + "or sqlite::memory:");
    }
    rest.remove_prefix(3);
    // A path that begins with ':' or "file:" would be a name or a URI of SQLite's own: "./" makes it a path again.
    return (rest.starts_with(':') || rest.starts_with("file:") ? "./" : "") + std::string(rest);
}

}  // namespace

std::unique_ptr<driver> make_driver(const std::string& url) {
    if (url.find('\0') != std::string::npos) throw std::invalid_argument("a database URL holds a NUL byte");
    if (url.starts_with("postgresql://") || url.starts_with("postgres://")) return make_postgres(url);
    if (url.starts_with("sqlite:")) return make_sqlite(sqlite_path(url));
    const std::size_t colon = url.find(':');
    if (colon == std::string::npos) {
        throw std::invalid_argument("the database URL has no scheme; " + std::string(known_urls));
    }
    throw std::invalid_argument(
        "unknown scheme '" + url.substr(0, colon) + "' in a database URL; " + std::string(known_urls));
}

// ---- connection ----

/// Lives while an operation is under way; its end wakes an aclose() that waits for the operation.
struct connection::running {
    connection& db;
    explicit running(connection& c) noexcept : db(c) { db.running_ = true; }
    ~running() {
        db.running_ = false;
        if (db.idle_ && !db.idle_->done()) db.idle_->set_result();
    }
    running(const running&) = delete;
    running& operator=(const running&) = delete;
};

/// The same for an operation that requires a free connection: throws std::logic_error if it is not free.
struct connection::use : running {
    explicit use(connection& c) : running((c.check_free(), c)) {}
};

/// Lies in the generator of a stream. The connection and the stream point to each other until one of them ends.
struct connection::open_stream {
    connection* db;
    explicit open_stream(connection& c) : db(&c) {
        db->check_free();
        db->stream_ = this;
    }
    ~open_stream() {
        if (db) db->end_stream();
    }
    open_stream(const open_stream&) = delete;
    open_stream& operator=(const open_stream&) = delete;
};

connection::connection(std::unique_ptr<driver> d) noexcept : driver_(std::move(d)) {}

connection::~connection() {
    if (running_) {
        std::fputs("aiocxx: a sql::connection was destroyed while an operation was under way on it\n", stderr);
        std::terminate();
    }
    if (stream_) stream_->db = nullptr;
}

bool connection::usable() const noexcept { return !closed_ && !poisoned_ && driver_->usable(); }

void connection::check_free() const {
    if (closed_) detail::throw_logic_error("this sql::connection is closed");
    if (running_) {
        detail::throw_logic_error(
            "another operation is under way on this sql::connection: it does one at a time; take a connection for each "
            "task, from a sql::pool");
    }
    if (stream_) {
        detail::throw_logic_error(
            "a stream of this sql::connection is open: read it to its end or close it first, or take another "
            "connection");
    }
    if (poisoned_) detail::throw_logic_error("a transaction of this sql::connection could not be ended: close it");
}

namespace {
error already_ended(const driver& d, const std::string& statement) {
    const bool committed = d.ended() == ending::committed;
    return error(committed
            ? "the transaction has been committed already, by a statement in it: nothing more can be done in it"
            : "the transaction has been rolled back already: nothing more can be done in it",
        d.ended_code(), statement);
}
}  // namespace

void connection::check_statement(const std::string& statement) const {
    if (statement.find('\0') != std::string::npos) throw std::invalid_argument("a statement holds a NUL byte");
    if (level_ > 0 && driver_->usable() && !driver_->in_transaction()) throw already_ended(*driver_, statement);
}

void connection::end_stream() noexcept {
    if (!stream_) return;
    std::exchange(stream_, nullptr)->db = nullptr;
    driver_->drop_stream();
}

coro<rows> connection::run(std::string statement, std::vector<parameter> parameters) {
    const use in_use(*this);
    check_statement(statement);
    table_ptr t = co_await driver_->execute(std::move(statement), std::move(parameters), on_cancel::interrupt);
    co_return rows(std::move(t));
}

async_generator<row> connection::run_stream(std::string statement, std::vector<parameter> parameters) {
    const open_stream stream(*this);
    check_statement(statement);
    {
        const running now(*this);
        co_await driver_->open_stream(std::move(statement), std::move(parameters));
    }
    for (;;) {
        table_ptr t;
        if (stream.db) {
            const running now(*this);
            t = co_await driver_->fetch();
            if (!t) co_return;
        }
        for (std::size_t i = 0; t && i < t->row_count; ++i) {
            co_yield row(t, i);
            if (!stream.db) break;
        }
        if (!stream.db)
            detail::throw_logic_error(
                "this stream was ended before its end: its connection or its transaction has ended");
    }
}

coro<> connection::aclose() {
    if (closed_) co_return;
    closed_ = true;
    // A cancel of the task that closes does not interrupt the wait: the operation under way refers to this connection.
    std::exception_ptr cancelled;
    while (running_) {
        idle_ = std::make_unique<future<>>();
        try {
            co_await *idle_;
        } catch (const cancelled_error&) { cancelled = std::current_exception(); }
    }
    end_stream();
    {
        const running now(*this);
        co_await driver_->close();
    }
    if (cancelled) std::rethrow_exception(cancelled);
}

coro<bool> connection::reset() {
    if (!usable()) co_return false;
    level_ = 0;
    if (!driver_->in_transaction()) co_return true;
    try {
        const use in_use(*this);
        co_await driver_->execute("ROLLBACK", std::vector<parameter>(), on_cancel::shield);
    } catch (const error&) { co_return false; }
    co_return true;
}

// ---- transactions ----

namespace {
std::string savepoint(std::size_t level) { return "aio_" + std::to_string(level); }
}  // namespace

coro<> connection::begin(std::size_t level) {
    const use in_use(*this);
    if (level == 0 && driver_->in_transaction()) {
        detail::throw_logic_error("this sql::connection is in a transaction that was begun by hand: end it first");
    }
    std::string statement = level == 0 ? driver_->begin_statement() : "SAVEPOINT " + savepoint(level);
    check_statement(statement);
    std::vector<parameter> none;
    std::exception_ptr failed;
    try {
        co_await driver_->execute(statement, none, on_cancel::interrupt);
    } catch (...) { failed = std::current_exception(); }
    if (failed) {
        if (level == 0 && driver_->usable() && driver_->in_transaction()) {
            statement = "ROLLBACK";
            co_await driver_->execute(statement, none, on_cancel::shield);
        }
        std::rethrow_exception(failed);
    }
    level_ = level + 1;
}

coro<> connection::commit(std::size_t level) {
    std::exception_ptr failed;
    try {
        if (!running_) end_stream();
        const use in_use(*this);
        std::string statement = level == 0 ? "COMMIT" : "RELEASE SAVEPOINT " + savepoint(level);
        if (!driver_->in_transaction() && driver_->usable()) throw already_ended(*driver_, statement);
        const table_ptr done = co_await driver_->execute(statement, std::vector<parameter>(), on_cancel::complete);
        // PostgreSQL answers a COMMIT with ROLLBACK if a statement of the transaction has failed.
        if (done->tag == "ROLLBACK") {
            throw error("nothing was committed: a statement in the transaction had failed, so it was rolled back",
                "25P02", statement);
        }
    } catch (...) { failed = std::current_exception(); }
    if (failed) {
        co_await roll_back(level);
        std::rethrow_exception(failed);
    }
    level_ = level;
}

// This throws no error, because the caller has one to throw already. If the rollback fails, the connection cannot be
// used again (poisoned_), and closing it rolls the transaction back.
coro<> connection::roll_back(std::size_t level) {
    level_ = level;
    try {
        if (!running_) end_stream();
        const use in_use(*this);
        if (driver_->usable() && driver_->in_transaction()) {
            std::string statement = "ROLLBACK";
            if (level > 0) statement += " TO SAVEPOINT " + savepoint(level);
            co_await driver_->execute(statement, std::vector<parameter>(), on_cancel::shield);
            if (level > 0) {
                statement = "RELEASE SAVEPOINT " + savepoint(level);
                co_await driver_->execute(statement, std::vector<parameter>(), on_cancel::shield);
            }
        }
    } catch (const std::exception&) { poisoned_ = true; }
}

sql::transaction connection::transaction() { return sql::transaction(*this); }

coro<connection&> transaction::enter() {
    if (state_ != state::unused)
        detail::throw_logic_error("this sql::transaction has been entered already: take a new one");
    level_ = db_->level_;
    co_await db_->begin(level_);
    state_ = state::open;
    co_return *db_;
}

coro<> transaction::exit(std::exception_ptr error) {
    if (state_ != state::open) detail::throw_logic_error("this sql::transaction is not open");
    state_ = state::ended;
    if (db_->level_ != level_ + 1) {
        db_->poisoned_ = true;
        detail::throw_logic_error("transactions of a sql::connection must end in the reverse order of their beginning");
    }
    if (error) {
        co_await db_->roll_back(level_);
    } else {
        co_await db_->commit(level_);
    }
}

// ---- connect ----

connector::connector(std::string url) : url_(std::move(url)) { static_cast<void>(make_driver(url_)); }

coro<connection&> connector::enter() {
    if (connection_) detail::throw_logic_error("this sql::connector is connected already: take a new one");
    std::unique_ptr<driver> d = make_driver(url_);
    co_await d->open();
    connection_ = std::make_unique<connection>(std::move(d));
    co_return *connection_;
}

coro<> connector::exit(std::exception_ptr) {
    if (!connection_) co_return;
    const std::unique_ptr<connection> leaving = std::move(connection_);
    co_await leaving->aclose();
}

}  // namespace aio::sql
