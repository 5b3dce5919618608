// What sql::connection, transaction and connector do for every database; the drivers behind driver.hpp do the rest.
// URLs are read here, as far as they name a driver, and their passwords are hidden for messages.
//
// The operations of a connection line up (turn): those that the driver pipelines have their turn together, each other
// one has it alone. A connection counts how deep its transactions are nested: the outermost is a transaction of the
// database, the others are savepoints (level_).

#include <aio/sql/connection.hpp>

#include "sql/driver.hpp"

#include <aio/detail/base/percent.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/with.hpp>

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace aio::inline v0::sql {

// ---- addresses ----

namespace {

/// True if key names an option with a secret, "password" or "sslpassword", in any case and however it is encoded.
bool is_secret(std::string_view key) {
    std::string name = aio::detail::percent_decoded(key);
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

}  // namespace

std::unique_ptr<driver> make_driver(const std::string& url, connect_options options) {
    if (url.find('\0') != std::string::npos) throw std::invalid_argument("a database URL holds a NUL byte");
    if (url.starts_with("postgresql://") || url.starts_with("postgres://")) return make_postgres(url, options);
    if (url.starts_with("sqlite:")) return make_sqlite(url, options);
    const std::size_t colon = url.find(':');
    if (colon == std::string::npos) {
        throw std::invalid_argument("the database URL has no scheme; " + std::string(known_urls));
    }
    throw std::invalid_argument(
        "unknown scheme '" + url.substr(0, colon) + "' in a database URL; " + std::string(known_urls));
}

// ---- connection ----

/// An operation that waits for its turn.
struct connection::turn_node : aio::detail::list_node {
    bool alone = false;
    void (*wake)(turn_node&) noexcept = nullptr;
};

/// The turn of an operation, until the end of the block.
class connection::turn {
public:
    turn(connection& db, bool alone) noexcept : db_(&db), alone_(alone) {}
    turn(turn&& other) noexcept : db_(std::exchange(other.db_, nullptr)), alone_(other.alone_) {}
    ~turn() {
        if (db_) db_->leave(alone_);
    }
    turn& operator=(const turn&) = delete;

private:
    connection* db_;
    bool alone_;
};

/// Waits for the turn. Revertible; but if it cannot be cancelled (a rollback), it begins and goes on in spite of
/// cancels.
class connection::turn_taker final : public aio::detail::revertible<turn_taker>, turn_node {
    using base = aio::detail::revertible<turn_taker>;

public:
    turn_taker(connection& db, bool wants_alone, bool cancellable = true) noexcept
        : db_(&db), cancellable_(cancellable) {
        alone = wants_alone;
        turn_node::wake = [](turn_node& node) noexcept { static_cast<turn_taker&>(node).base::wake(); };
    }
    bool await_ready() {
        if (cancellable_) return base::await_ready();
        begin(&aio::detail::require_task());
        if (start()) return true;
        phase_ = aio::detail::phase::parked;
        return false;
    }
    bool start() noexcept {
        if (db_->line_.empty() && db_->admits(alone)) {
            take();
            return true;
        }
        db_->line_.push_back(*this);
        return false;
    }
    bool unpark() noexcept {
        if (!cancellable_) return false;
        unlink();
        db_->leave_line();
        return true;
    }
    void revert() noexcept { db_->leave(alone); }
    turn finish() { return turn(*db_, alone); }
    turn await_resume() {
        if (!cancellable_ && phase_ != aio::detail::phase::idle && task_->must_cancel()) {
            phase_ = aio::detail::phase::idle;
            task_->overtake_cancel();
            return finish();
        }
        return base::await_resume();
    }
    void describe(std::string& out) const override { out += "its turn on a sql::connection"; }
    void take() noexcept {
        ++db_->running_;
        db_->alone_ = alone;
    }

private:
    connection* db_;
    bool cancellable_;
};

bool connection::admits(bool alone) const noexcept { return running_ == 0 || (!alone && !alone_); }

/// Lets those at the head of the line have their turn.
void connection::leave_line() noexcept {
    while (turn_node* const first = line_.front()) {
        if (!admits(first->alone)) return;
        line_.pop_front();
        ++running_;
        alone_ = first->alone;
        first->wake(*first);
    }
    if (running_ == 0 && idle_ && !idle_->done()) idle_->set_result();
}

void connection::leave(bool alone) noexcept {
    --running_;
    if (alone) alone_ = false;
    leave_line();
}

/// Lies in the generator of a stream. The connection and the stream point to each other until one of them ends.
struct connection::open_stream {
    connection* db;
    explicit open_stream(connection& c) noexcept : db(&c) {}
    void open() {
        db->check_free();
        db->stream_ = this;
    }
    ~open_stream() {
        if (db && db->stream_ == this) db->end_stream();
    }
    open_stream(const open_stream&) = delete;
    open_stream& operator=(const open_stream&) = delete;
};

connection::connection(std::unique_ptr<driver> d) noexcept : driver_(std::move(d)) {}

connection::~connection() {
    if (running_ > 0 || !line_.empty()) {
        std::fputs("aiocxx: a sql::connection was destroyed while an operation was under way on it\n", stderr);
        std::terminate();
    }
    if (stream_) stream_->db = nullptr;
}

bool connection::usable() const noexcept { return !closed_ && !poisoned_ && driver_->usable(); }

void connection::check_free() const {
    if (closed_) detail::throw_logic_error("this sql::connection is closed");
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
    if (level_ > 0 && !driver_->in_transaction() && driver_->usable()) throw already_ended(*driver_, statement);
    if (!driver_->session_changed) driver_->session_changed = may_change_session(statement);
}

void connection::end_stream() noexcept {
    if (!stream_) return;
    std::exchange(stream_, nullptr)->db = nullptr;
    driver_->drop_stream();
}

coro<rows> connection::run(std::string statement, std::vector<parameter> parameters) {
    check_free();
    const turn mine = co_await turn_taker(*this, !driver_->pipelines(statement, parameters));
    check_free();
    check_statement(statement);
    table_ptr t = co_await driver_->execute(std::move(statement), std::move(parameters), on_cancel::interrupt);
    co_return rows(std::move(t));
}

coro<rows> connection::run_many(std::string statement, std::vector<std::vector<parameter>> sets) {
    check_free();
    const turn mine = co_await turn_taker(*this, true);
    check_free();
    check_statement(statement);
    table_ptr t = co_await driver_->execute_many(std::move(statement), std::move(sets));
    co_return rows(std::move(t));
}

namespace {
[[noreturn]] void throw_stream_ended() {
    detail::throw_logic_error("this stream was ended before its end: its connection or its transaction has ended");
}
}  // namespace

async_generator<row> connection::run_stream(std::string statement, std::vector<parameter> parameters) {
    open_stream stream(*this);
    check_free();
    {
        const turn mine = co_await turn_taker(*this, true);
        stream.open();
        check_statement(statement);
        co_await driver_->open_stream(std::move(statement), std::move(parameters));
    }
    for (;;) {
        table_ptr t;
        if (stream.db) {
            const turn mine = co_await turn_taker(*this, true);
            if (!stream.db) throw_stream_ended();
            t = co_await driver_->fetch();
            if (!t) co_return;
        }
        for (std::size_t i = 0; t && i < t->row_count; ++i) {
            co_yield row(t, i);
            if (!stream.db) break;
        }
        if (!stream.db) throw_stream_ended();
    }
}

coro<> connection::aclose() {
    if (closed_) co_return;
    closed_ = true;
    // A cancel of the task that closes does not interrupt the wait: the operations under way refer to this connection.
    std::exception_ptr cancelled;
    while (running_ > 0 || !line_.empty()) {
        idle_ = std::make_unique<future<>>();
        try {
            co_await *idle_;
        } catch (const cancelled_error&) { cancelled = std::current_exception(); }
    }
    end_stream();
    {
        const turn mine = co_await turn_taker(*this, true, false);
        co_await driver_->close();
    }
    if (cancelled) std::rethrow_exception(cancelled);
}

// ---- what PostgreSQL alone has ----

coro<rows> connection::run_copy_in(std::string statement, async_generator<std::string> pieces) {
    check_free();
    const turn mine = co_await turn_taker(*this, true);
    check_free();
    check_statement(statement);
    struct copy {
        driver& d;
        ~copy() { d.drop_stream(); }
    };
    const copy left{*driver_};  // what is left of it when this ends
    co_await driver_->open_copy(std::move(statement), true);
    std::exception_ptr failed;
    std::string why;
    try {
        while (auto piece = co_await pieces.next()) { co_await driver_->send_copy(std::move(*piece)); }
    } catch (...) {
        failed = std::current_exception();
        why = "the data could not be given";
    }
    table_ptr t;
    try {
        t = co_await driver_->end_copy(std::move(why));
    } catch (const sql::error&) {
        if (!failed) failed = std::current_exception();  // else the server's error is the answer to ours
    }
    if (failed) std::rethrow_exception(failed);
    co_return rows(std::move(t));
}

async_generator<std::string> connection::run_copy_out(std::string statement) {
    open_stream stream(*this);
    check_free();
    {
        const turn mine = co_await turn_taker(*this, true);
        stream.open();
        check_statement(statement);
        co_await driver_->open_copy(std::move(statement), false);
    }
    for (;;) {
        std::string piece;
        {
            if (!stream.db) throw_stream_ended();
            const turn mine = co_await turn_taker(*this, true);
            if (!stream.db) throw_stream_ended();
            piece = co_await driver_->fetch_copy();
        }
        if (piece.empty()) co_return;
        co_yield std::move(piece);
    }
}

namespace {
void append_copy_value(std::string& line, const parameter& p) {
    const auto escaped = [&line](std::string_view text) {
        for (const char c : text) {
            switch (c) {
                case '\\': line += "\\\\"; break;
                case '\t': line += "\\t"; break;
                case '\n': line += "\\n"; break;
                case '\r': line += "\\r"; break;
                default: line += c;
            }
        }
    };
    static constexpr const char* digits = "0123456789abcdef";
    switch (p.type()) {
        case parameter::kind::null: line += "\\N"; break;
        case parameter::kind::boolean: line += p.integer() ? 't' : 'f'; break;
        case parameter::kind::integer: line += std::to_string(p.integer()); break;
        case parameter::kind::real: line += format_real(p.real()); break;
        case parameter::kind::blob:
            line += "\\\\x";
            for (const char c : p.bytes()) {
                line += digits[static_cast<unsigned char>(c) >> 4];
                line += digits[static_cast<unsigned char>(c) & 15];
            }
            break;
        default: escaped(p.bytes());
    }
}
}  // namespace

// COPY's text format: columns between tabs, a row a line, \N for NULL, and a backslash before what would end either.
void connection::append_copy_line(std::string& lines, const std::vector<parameter>& values) {
    bool first = true;
    for (const parameter& p : values) {
        if (!std::exchange(first, false)) lines += '\t';
        append_copy_value(lines, p);
    }
    lines += '\n';
}

async_generator<notification> connection::listen(std::string channel) {
    if (closed_) detail::throw_logic_error("this sql::connection is closed");
    return driver_->listen(std::move(channel));
}

coro<> connection::notify(std::string channel, std::string payload) {
    driver_->check_notifies();
    co_await run("SELECT pg_notify($1, $2)", parameters_of(std::move(channel), std::move(payload)));
}

void connection::handle_notices(aio::detail::function<void(const notice&)> fn) {
    driver_->handle_notices(std::move(fn));
}

namespace {
[[noreturn]] void throw_postgres_only(const char* what) {
    throw std::logic_error(std::string("SQLite has no ") + what + ": this is for PostgreSQL alone");
}
}  // namespace

// NOLINTBEGIN(performance-unnecessary-value-param): coroutines own their parameters
coro<> driver::open_copy(std::string, bool) { throw_postgres_only("COPY"); }
coro<> driver::send_copy(std::string) { throw_postgres_only("COPY"); }
coro<table_ptr> driver::end_copy(std::string) { throw_postgres_only("COPY"); }
coro<std::string> driver::fetch_copy() { throw_postgres_only("COPY"); }
async_generator<notification> driver::listen(std::string) { throw_postgres_only("LISTEN"); }
void driver::handle_notices(aio::detail::function<void(const notice&)>) { throw_postgres_only("notices"); }
void driver::check_notifies() const { throw_postgres_only("NOTIFY"); }
coro<> driver::back_up(std::string, detail::function<void(std::size_t, std::size_t)>) {
    detail::throw_logic_error("sqlite_backup() copies SQLite databases: for PostgreSQL there is pg_dump");
}
// NOLINTEND(performance-unnecessary-value-param)

// One after the other, in a transaction or a savepoint. SQLite and PostgreSQL have faster ways of their own.
coro<table_ptr> driver::execute_many(std::string statement, std::vector<std::vector<parameter>> sets) {
    const bool inside = in_transaction();
    const std::string first = inside ? std::string("SAVEPOINT aio_many") : begin_statement(transaction_options());
    const std::string last = inside ? "RELEASE aio_many" : "COMMIT";
    const std::vector<parameter> none;
    auto together = std::make_shared<table>();
    std::exception_ptr failed;
    co_await execute(first, none, on_cancel::interrupt);
    try {
        for (std::vector<parameter>& set : sets) {
            const table_ptr t = co_await execute(statement, std::move(set), on_cancel::interrupt);
            together->affected += t->affected;
        }
        co_await execute(last, none, on_cancel::complete);
    } catch (...) { failed = std::current_exception(); }
    if (failed) {
        if (usable() && in_transaction()) {
            if (inside) { co_await execute("ROLLBACK TO aio_many", none, on_cancel::shield); }
            const std::string end = inside ? last : "ROLLBACK";
            co_await execute(end, none, on_cancel::shield);
        }
        std::rethrow_exception(failed);
    }
    co_return together;
}

coro<> connection::back_up(std::string path, detail::function<void(std::size_t, std::size_t)> progress) {
    check_free();
    const turn mine = co_await turn_taker(*this, true);
    check_free();
    co_await driver_->back_up(std::move(path), std::move(progress));
}

coro<> sqlite_backup(connection& db, std::string path, detail::function<void(std::size_t, std::size_t)> progress) {
    return db.back_up(std::move(path), std::move(progress));
}

coro<bool> connection::reset() {
    if (!usable()) co_return false;
    level_ = 0;
    if (!driver_->in_transaction()) co_return true;
    try {
        const turn mine = co_await turn_taker(*this, true, false);
        co_await driver_->execute("ROLLBACK", std::vector<parameter>(), on_cancel::shield);
    } catch (const error&) { co_return false; }
    co_return true;
}

// ---- transactions ----

namespace {
std::string savepoint(std::size_t level) { return "aio_" + std::to_string(level); }
}  // namespace

coro<> connection::begin(std::size_t level, transaction_options options) {
    check_free();
    const turn mine = co_await turn_taker(*this, true);
    check_free();
    if (level == 0 && driver_->in_transaction()) {
        detail::throw_logic_error("this sql::connection is in a transaction that was begun by hand: end it first");
    }
    std::string statement = level == 0 ? driver_->begin_statement(options) : "SAVEPOINT " + savepoint(level);
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
        const turn mine = co_await turn_taker(*this, true);
        end_stream();
        check_free();
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
        const turn mine = co_await turn_taker(*this, true, false);
        end_stream();
        check_free();
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

sql::transaction connection::transaction(transaction_options options) { return sql::transaction(*this, options); }

coro<connection&> transaction::enter() {
    if (state_ != state::unused)
        detail::throw_logic_error("this sql::transaction has been entered already: take a new one");
    level_ = db_->level_;
    co_await db_->begin(level_, options_);
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

connector::connector(std::string url, connect_options options)
    : url_(std::move(url)), options_(options), pragmas_(options.sqlite.pragmas) {
    static_cast<void>(make_driver(url_, options_));
}

coro<connection&> connector::enter() {
    if (connection_) detail::throw_logic_error("this sql::connector is connected already: take a new one");
    options_.sqlite.pragmas = pragmas_;
    std::unique_ptr<driver> d = make_driver(url_, options_);
    co_await d->open();
    connection_ = std::make_unique<connection>(std::move(d));
    co_return *connection_;
}

coro<> connector::exit(std::exception_ptr) {
    if (!connection_) co_return;
    const std::unique_ptr<connection> leaving = std::move(connection_);
    co_await leaving->aclose();
}

}  // namespace aio::inline v0::sql
