// The driver of SQLite, which connection.cpp makes for a URL. Each connection has a thread, and everything that touches
// the database runs there; a call is a job of that thread.
//
// A cancel sets a flag that SQLite looks at every thousand steps of its virtual machine and while it waits for a lock.
// sqlite3_interrupt() would not do: SQLite forgets it if it comes between the beginning of a job and its first step,
// and keeps it if it comes after the last.

#include "sql/driver.hpp"

#include <aio/detail/threads/blocking.hpp>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <mutex>

#include <sqlite3.h>

namespace aio::sql {
namespace {

constexpr std::chrono::milliseconds busy_timeout{5000};
constexpr int steps_between_looks = 1000;
constexpr std::size_t batch_rows = 256;
constexpr std::size_t batch_bytes = 256 * 1024;
constexpr std::size_t most_bytes = 1'000'000'000;  // SQLITE_MAX_LENGTH and SQLITE_MAX_SQL_LENGTH, as SQLite is built
constexpr size_limits limits{"SQLite", most_bytes, most_bytes, std::size_t(-1), 32766};

struct code_name {
    int code;
    const char* name;
};
// clang-format off
#define AIO_CODE(name) {name, #name}
constexpr code_name code_names[] = {
    AIO_CODE(SQLITE_ERROR), AIO_CODE(SQLITE_INTERNAL), AIO_CODE(SQLITE_PERM), AIO_CODE(SQLITE_ABORT),
    AIO_CODE(SQLITE_BUSY), AIO_CODE(SQLITE_LOCKED), AIO_CODE(SQLITE_NOMEM), AIO_CODE(SQLITE_READONLY),
    AIO_CODE(SQLITE_INTERRUPT), AIO_CODE(SQLITE_IOERR), AIO_CODE(SQLITE_CORRUPT), AIO_CODE(SQLITE_NOTFOUND),
    AIO_CODE(SQLITE_FULL), AIO_CODE(SQLITE_CANTOPEN), AIO_CODE(SQLITE_PROTOCOL), AIO_CODE(SQLITE_EMPTY),
    AIO_CODE(SQLITE_SCHEMA), AIO_CODE(SQLITE_TOOBIG), AIO_CODE(SQLITE_CONSTRAINT), AIO_CODE(SQLITE_MISMATCH),
    AIO_CODE(SQLITE_MISUSE), AIO_CODE(SQLITE_NOLFS), AIO_CODE(SQLITE_AUTH), AIO_CODE(SQLITE_FORMAT),
    AIO_CODE(SQLITE_RANGE), AIO_CODE(SQLITE_NOTADB), AIO_CODE(SQLITE_ERROR_MISSING_COLLSEQ),
    AIO_CODE(SQLITE_ERROR_RETRY), AIO_CODE(SQLITE_ERROR_SNAPSHOT), AIO_CODE(SQLITE_ABORT_ROLLBACK),
    AIO_CODE(SQLITE_BUSY_RECOVERY), AIO_CODE(SQLITE_BUSY_SNAPSHOT), AIO_CODE(SQLITE_BUSY_TIMEOUT),
    AIO_CODE(SQLITE_LOCKED_SHAREDCACHE), AIO_CODE(SQLITE_LOCKED_VTAB), AIO_CODE(SQLITE_READONLY_RECOVERY),
    AIO_CODE(SQLITE_READONLY_CANTLOCK), AIO_CODE(SQLITE_READONLY_ROLLBACK), AIO_CODE(SQLITE_READONLY_DBMOVED),
    AIO_CODE(SQLITE_READONLY_CANTINIT), AIO_CODE(SQLITE_READONLY_DIRECTORY), AIO_CODE(SQLITE_CORRUPT_VTAB),
    AIO_CODE(SQLITE_CORRUPT_SEQUENCE), AIO_CODE(SQLITE_CORRUPT_INDEX), AIO_CODE(SQLITE_CANTOPEN_NOTEMPDIR),
    AIO_CODE(SQLITE_CANTOPEN_ISDIR), AIO_CODE(SQLITE_CANTOPEN_FULLPATH), AIO_CODE(SQLITE_CANTOPEN_CONVPATH),
    AIO_CODE(SQLITE_CANTOPEN_SYMLINK), AIO_CODE(SQLITE_CONSTRAINT_CHECK), AIO_CODE(SQLITE_CONSTRAINT_COMMITHOOK),
    AIO_CODE(SQLITE_CONSTRAINT_FOREIGNKEY), AIO_CODE(SQLITE_CONSTRAINT_FUNCTION), AIO_CODE(SQLITE_CONSTRAINT_NOTNULL),
    AIO_CODE(SQLITE_CONSTRAINT_PRIMARYKEY), AIO_CODE(SQLITE_CONSTRAINT_TRIGGER), AIO_CODE(SQLITE_CONSTRAINT_UNIQUE),
    AIO_CODE(SQLITE_CONSTRAINT_VTAB), AIO_CODE(SQLITE_CONSTRAINT_ROWID), AIO_CODE(SQLITE_CONSTRAINT_PINNED),
    AIO_CODE(SQLITE_CONSTRAINT_DATATYPE), AIO_CODE(SQLITE_IOERR_READ), AIO_CODE(SQLITE_IOERR_SHORT_READ),
    AIO_CODE(SQLITE_IOERR_WRITE), AIO_CODE(SQLITE_IOERR_FSYNC), AIO_CODE(SQLITE_IOERR_DIR_FSYNC),
    AIO_CODE(SQLITE_IOERR_TRUNCATE), AIO_CODE(SQLITE_IOERR_FSTAT), AIO_CODE(SQLITE_IOERR_UNLOCK),
    AIO_CODE(SQLITE_IOERR_RDLOCK), AIO_CODE(SQLITE_IOERR_DELETE), AIO_CODE(SQLITE_IOERR_NOMEM),
    AIO_CODE(SQLITE_IOERR_ACCESS), AIO_CODE(SQLITE_IOERR_CHECKRESERVEDLOCK), AIO_CODE(SQLITE_IOERR_LOCK),
    AIO_CODE(SQLITE_IOERR_CLOSE), AIO_CODE(SQLITE_IOERR_SHMOPEN), AIO_CODE(SQLITE_IOERR_SHMSIZE),
    AIO_CODE(SQLITE_IOERR_SHMLOCK), AIO_CODE(SQLITE_IOERR_SHMMAP), AIO_CODE(SQLITE_IOERR_SEEK),
    AIO_CODE(SQLITE_IOERR_DELETE_NOENT), AIO_CODE(SQLITE_IOERR_MMAP), AIO_CODE(SQLITE_IOERR_GETTEMPPATH),
    AIO_CODE(SQLITE_IOERR_CONVPATH), AIO_CODE(SQLITE_IOERR_DATA), AIO_CODE(SQLITE_IOERR_CORRUPTFS),
    AIO_CODE(SQLITE_AUTH_USER),
};
#undef AIO_CODE
// clang-format on

std::string name_of(int code) {
    for (const int wanted : {code, code & 0xFF}) {
        for (const code_name& c : code_names) {
            if (c.code == wanted) return c.name;
        }
    }
    return "SQLITE_" + std::to_string(code);
}

/// Thrown in the thread when a statement was stopped because of a cancel.
struct interrupted {};

struct finalizer {
    void operator()(sqlite3_stmt* s) const noexcept { sqlite3_finalize(s); }
};
using statement_ptr = std::unique_ptr<sqlite3_stmt, finalizer>;

/// The database. Its functions run in its thread, except those that say otherwise.
class database {
public:
    explicit database(std::string path) : path_(std::move(path)) {
        drop_.db = this;
        drop_.run = [](detail::blocking_job& job) noexcept { static_cast<drop_job&>(job).db->stream_.reset(); };
    }
    ~database() { close(); }
    database(const database&) = delete;
    database& operator=(const database&) = delete;

    void open();
    void close() noexcept {
        stream_.reset();
        sqlite3_close(db_);
        db_ = nullptr;
    }
    table_ptr execute(const std::string& text, const std::vector<parameter>& parameters);
    void open_stream(std::string text, const std::vector<parameter>& parameters);
    table_ptr fetch();
    bool in_transaction() const noexcept { return db_ && !sqlite3_get_autocommit(db_); }
    /// SQLite tells of each rollback, but of a commit only if something was written.
    ending ended() const noexcept { return rolled_back_ ? ending::rolled_back : ending::committed; }
    bool read_only() const noexcept { return sqlite3_db_readonly(db_, "main") == 1; }

    // These are called from the loop's thread.
    /// Ends the stream before the thread's next job, and soon, because the stream may hold a lock on the file.
    void drop_stream(detail::blocking_pool& thread) { thread.submit(drop_); }
    void allow() noexcept { stop_.store(false, std::memory_order_relaxed); }
    void interrupt() noexcept {
        {
            const std::lock_guard lock(mutex_);
            stop_.store(true, std::memory_order_relaxed);
        }
        stopped_.notify_all();
    }

private:
    [[noreturn]] void fail(int code, const std::string& text) const;
    statement_ptr prepare(const char*& at, const char* end, const std::string& text);
    void bind(sqlite3_stmt* s, const std::vector<parameter>& parameters, const std::string& text);
    void bind_one(sqlite3_stmt* s, int index, const parameter& p, const std::string& text);
    static void name_columns(sqlite3_stmt* s, table& t);
    static void add_row(sqlite3_stmt* s, table& t);
    bool wait_while_busy(int attempt) noexcept;

    struct drop_job : detail::blocking_job {
        database* db = nullptr;
    };
    std::string path_;
    sqlite3* db_ = nullptr;
    drop_job drop_;
    bool rolled_back_ = false;  // a rollback has happened since a statement last began inside a transaction
    statement_ptr stream_;
    std::string stream_text_;
    std::exception_ptr stream_error_;  // thrown once the rows before it have been given
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::condition_variable stopped_;
};

namespace {

// SQLite's messages quote literals and parameters ("near "secret"", and what functions say), which errors must not
// show. These functions give SQLite's own words if they quote only names, and otherwise the meaning of the code.

/// The text for a broken constraint: "UNIQUE constraint failed: t.name". Fills in the names of p, too.
std::string constraint_text(int code, error::parts& p) {
    const std::string_view message = p.message;
    constexpr std::string_view failed = " constraint failed: ";
    const std::size_t at = message.find(failed);
    const bool of_columns =
        code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY || code == SQLITE_CONSTRAINT_NOTNULL;
    if (at == std::string_view::npos || (!of_columns && code != SQLITE_CONSTRAINT_CHECK)) return sqlite3_errstr(code);
    const std::string_view what = message.substr(at + failed.size());
    const std::size_t point = what.find('.');
    if (what.find('\'') != std::string_view::npos) {
        // This is "index 'name'", or a check without a name, whose text may hold literals.
        if (!of_columns) return std::string(message.substr(0, at)) + " constraint failed";
        const std::size_t quote = what.find('\'') + 1;
        p.constraint = what.substr(quote, what.rfind('\'') - quote);
    } else if (!of_columns) {
        p.constraint = what;
    } else if (point != std::string_view::npos) {
        p.table = what.substr(0, point);
        p.column = what.substr(point + 1, what.find(',') - point - 1);
    }
    return std::string(message);
}

/// True for "no such table: name" and the like if the name is a word of the statement and not in quotes, so no literal.
bool misses_a_name(std::string_view message, std::string_view statement) {
    for (const std::string_view about : {"no such table: ", "no such column: ", "no such function: "}) {
        if (!message.starts_with(about)) continue;
        const std::string_view name = message.substr(about.size());
        const std::size_t at = statement.find(name);
        if (at == std::string_view::npos || name.find_first_of("'\" ") != std::string_view::npos) return false;
        return at == 0 || std::string_view("'\"`[").find(statement[at - 1]) == std::string_view::npos;
    }
    return false;
}

std::string text_of(int code, error::parts& p) {
    const std::string_view message = p.message;
    if ((code & 0xFF) == SQLITE_CONSTRAINT) return constraint_text(code, p);
    if ((code & 0xFF) == SQLITE_ERROR) {
        if (misses_a_name(message, p.statement) || message == "integer overflow") return p.message;
        if (message.ends_with(": syntax error") || message == "incomplete input") return "syntax error";
    }
    return sqlite3_errstr(code);
}

}  // namespace

void database::fail(int code, const std::string& text) const {
    if (stop_.load(std::memory_order_relaxed) && ((code & 0xFF) == SQLITE_INTERRUPT || (code & 0xFF) == SQLITE_BUSY))
        throw interrupted{};
    error::parts p;
    p.message = db_ ? sqlite3_errmsg(db_) : sqlite3_errstr(code);
    p.code = name_of(code);
    p.statement = text;
    std::string what = text_of(code, p);
    const int primary = code & 0xFF;
    if (primary == SQLITE_CANTOPEN || primary == SQLITE_IOERR || primary == SQLITE_FULL || primary == SQLITE_NOTADB ||
        primary == SQLITE_CORRUPT || primary == SQLITE_READONLY || primary == SQLITE_BUSY) {
        what = "'" + path_ + "': " + what;
        const int system_error =
            db_ && (primary == SQLITE_CANTOPEN || primary == SQLITE_IOERR) ? sqlite3_system_errno(db_) : 0;
        if (system_error != 0) what += ": " + std::generic_category().message(system_error);
    }
    what += " (" + p.code + ")";
#if SQLITE_VERSION_NUMBER >= 3038000
    const int offset = db_ && !text.empty() ? sqlite3_error_offset(db_) : -1;
    if (offset >= 0) what += " at byte " + std::to_string(offset + 1);
#endif
    throw error(what, std::move(p));
}

// Waits while another connection holds a lock, a little longer at each attempt. False once busy_timeout has passed or a
// cancel has come.
bool database::wait_while_busy(int attempt) noexcept {
    using namespace std::chrono;
    milliseconds waited{0};
    milliseconds span{1};
    for (int i = 0; i < attempt && waited < busy_timeout; ++i) {
        waited += span;
        span = std::min(span * 2, milliseconds(50));
    }
    if (waited >= busy_timeout) return false;
    std::unique_lock lock(mutex_);
    return !stopped_.wait_for(lock, span, [this] { return stop_.load(std::memory_order_relaxed); });
}

void database::open() {
    int code =
        sqlite3_open_v2(path_.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    if (code == SQLITE_OK) {
        sqlite3_extended_result_codes(db_, 1);
        sqlite3_busy_handler(
            db_, [](void* self, int attempt) { return static_cast<database*>(self)->wait_while_busy(attempt) ? 1 : 0; },
            this);
        sqlite3_progress_handler(
            db_, steps_between_looks,
            [](void* self) { return static_cast<database*>(self)->stop_.load(std::memory_order_relaxed) ? 1 : 0; },
            this);
        sqlite3_rollback_hook(db_, [](void* self) { static_cast<database*>(self)->rolled_back_ = true; }, this);
        // SQLite opens a file only when it needs it: this finds out now whether it is a database.
        code = sqlite3_exec(db_, "PRAGMA schema_version", nullptr, nullptr, nullptr);
        if ((code & 0xFF) == SQLITE_BUSY) code = SQLITE_OK;
    }
    if (code == SQLITE_OK) return;
    if (db_) code = sqlite3_extended_errcode(db_);
    try {
        fail(code, {});
    } catch (...) {
        close();
        throw;
    }
}

statement_ptr database::prepare(const char*& at, const char* end, const std::string& text) {
    sqlite3_stmt* s = nullptr;
    const int code = sqlite3_prepare_v2(db_, at, static_cast<int>(end - at), &s, &at);
    if (code != SQLITE_OK) fail(code, text);
    return statement_ptr(s);
}

namespace {
/// How much of a text is given to SQLite. Throws std::invalid_argument for what SQLite has no text for.
std::size_t text_size(const parameter& p) {
    using meaning = parameter::meaning;
    const std::string& text = p.bytes();
    if (p.stands_for() == meaning::array) {
        throw std::invalid_argument(
            "SQLite has no arrays: give a text of JSON, and read it in the statement by json_each($1)");
    }
    if (p.stands_for() != meaning::time && p.stands_for() != meaning::date) return text.size();
    // SQLite compares times as text, and its functions take the years 0000 to 9999.
    if (text[4] != '-' || text.ends_with('C'))
        throw std::invalid_argument("a time for SQLite lies in the years 1 to 9999, not " + text);
    return p.stands_for() == meaning::time ? text.size() - 3 : text.size();  // without the "+00"
}
}  // namespace

void database::bind_one(sqlite3_stmt* s, int index, const parameter& p, const std::string& text) {
    const auto size = static_cast<sqlite3_uint64>(p.bytes().size());
    int code = SQLITE_OK;
    switch (p.type()) {
        case parameter::kind::null: code = sqlite3_bind_null(s, index); break;
        case parameter::kind::boolean:
        case parameter::kind::integer: code = sqlite3_bind_int64(s, index, p.integer()); break;
        case parameter::kind::real:
            if (std::isnan(p.real()))
                throw std::invalid_argument("a parameter is NaN, which SQLite would store as NULL");
            code = sqlite3_bind_double(s, index, p.real());
            break;
        case parameter::kind::text:
            code = sqlite3_bind_text64(s, index, p.bytes().data(), text_size(p), SQLITE_STATIC, SQLITE_UTF8);
            break;
        case parameter::kind::blob: code = sqlite3_bind_blob64(s, index, p.bytes().data(), size, SQLITE_STATIC); break;
    }
    if (code != SQLITE_OK) fail(code, text);
}

// $1, ?1, :1 and @1 are the first parameter, wherever and however often they stand; a bare ? is the one with the
// number that SQLite gives to it, which is one more than the largest that SQLite has given before.
void database::bind(sqlite3_stmt* s, const std::vector<parameter>& parameters, const std::string& text) {
    const int count = sqlite3_bind_parameter_count(s);
    std::size_t needed = 0;
    for (int i = 1; i <= count; ++i) {
        const char* name = sqlite3_bind_parameter_name(s, i);
        std::size_t number = static_cast<std::size_t>(i);
        if (name) {
            char* end = nullptr;
            number = std::strtoul(name + 1, &end, 10);
            if (number == 0 || *end != '\0') {
                throw error("a parameter has a name: parameters are $1, $2 ...", "SQLITE_RANGE", text);
            }
        }
        if (number > needed) needed = number;
        if (number <= parameters.size()) bind_one(s, i, parameters[number - 1], text);
    }
    if (needed != parameters.size()) {
        throw error("the statement has " + std::to_string(needed) + " parameters, but " +
                std::to_string(parameters.size()) + " were given",
            "SQLITE_RANGE", text);
    }
}

void database::name_columns(sqlite3_stmt* s, table& t) {
    const int columns = sqlite3_column_count(s);
    t.columns.reserve(static_cast<std::size_t>(columns));
    for (int i = 0; i < columns; ++i) {
        const char* name = sqlite3_column_name(s, i);
        if (!name) throw std::bad_alloc();
        t.columns.emplace_back(name);
    }
}

void database::add_row(sqlite3_stmt* s, table& t) {
    for (int i = 0; i < static_cast<int>(t.columns.size()); ++i) {
        switch (sqlite3_column_type(s, i)) {
            case SQLITE_INTEGER: t.add_integer(sqlite3_column_int64(s, i)); break;
            case SQLITE_FLOAT: t.add_real(sqlite3_column_double(s, i)); break;
            case SQLITE_NULL: t.add_null(); break;
            default: {
                const bool text = sqlite3_column_type(s, i) == SQLITE_TEXT;
                const void* data = text ? sqlite3_column_text(s, i) : sqlite3_column_blob(s, i);
                const auto size = static_cast<std::size_t>(sqlite3_column_bytes(s, i));
                if (!data && size > 0) throw std::bad_alloc();
                t.add_bytes(data ? data : "", size, text ? parameter::kind::text : parameter::kind::blob);
            }
        }
    }
    ++t.row_count;
}

table_ptr database::execute(const std::string& text, const std::vector<parameter>& parameters) {
    check_sizes(text, parameters, limits);
    if (in_transaction()) rolled_back_ = false;
    const char* at = text.data();
    const char* const end = at + text.size();
    auto result = std::make_shared<table>();
    for (bool first = true; at != end; first = false) {
        const statement_ptr s = prepare(at, end, text);
        if (!s) continue;  // the text was a comment, or empty
        if (first && !parameters.empty()) {
            for (const char* rest = at; rest != end;) {
                if (prepare(rest, end, text))
                    throw error("several statements at once can have no parameters", "SQLITE_MISUSE", text);
            }
        }
        bind(s.get(), parameters, text);
        auto t = std::make_shared<table>();
        name_columns(s.get(), *t);
        const sqlite3_int64 before = sqlite3_total_changes64(db_);
        int code;
        while ((code = sqlite3_step(s.get())) == SQLITE_ROW) add_row(s.get(), *t);
        if (code != SQLITE_DONE) fail(code, text);
        if (sqlite3_total_changes64(db_) != before) t->affected = static_cast<std::size_t>(sqlite3_changes64(db_));
        result = std::move(t);
    }
    return result;
}

void database::open_stream(std::string text, const std::vector<parameter>& parameters) {
    check_sizes(text, parameters, limits);
    const char* at = text.data();
    const char* const end = at + text.size();
    statement_ptr s;
    while (!s && at != end) s = prepare(at, end, text);
    while (at != end) {
        if (prepare(at, end, text)) throw error("a stream is of one statement", "SQLITE_MISUSE", text);
    }
    if (s) bind(s.get(), parameters, text);
    stream_ = std::move(s);
    stream_error_ = nullptr;
    stream_text_ = std::move(text);
}

table_ptr database::fetch() {
    if (stream_error_) std::rethrow_exception(std::exchange(stream_error_, nullptr));
    if (!stream_) return nullptr;
    auto t = std::make_shared<table>();
    name_columns(stream_.get(), *t);
    while (t->row_count < batch_rows && t->bytes.size() < batch_bytes) {
        const int code = sqlite3_step(stream_.get());
        if (code == SQLITE_ROW) {
            add_row(stream_.get(), *t);
            continue;
        }
        if (code != SQLITE_DONE) {
            try {
                fail(code, stream_text_);
            } catch (const error&) { stream_error_ = std::current_exception(); }
        }
        stream_.reset();
        break;
    }
    if (t->row_count > 0) return t;
    if (stream_error_) std::rethrow_exception(std::exchange(stream_error_, nullptr));
    return nullptr;
}

/// Runs fn() in the database's thread and waits for its end. The rule says what a cancel does: see on_cancel.
template<class F>
class [[nodiscard]] database_call final : public detail::blocking_base {
public:
    using value_type = std::invoke_result_t<F&>;

    database_call(detail::blocking_pool& thread, database& db, on_cancel rule, F fn)
        : blocking_base(thread, "SQLite", &call), db_(&db), rule_(rule), fn_(std::move(fn)) {}

    bool await_ready() {
        db_->allow();
        if (rule_ != on_cancel::shield) return blocking_base::await_ready();
        begin(&detail::require_task());
        return start();
    }
    detail::cancel_reply cancel(const std::string& message) noexcept override {
        if (rule_ == on_cancel::shield) return detail::cancel_reply::refused;
        const detail::cancel_reply reply = blocking_base::cancel(message);
        if (reply == detail::cancel_reply::refused && rule_ == on_cancel::interrupt && parked()) db_->interrupt();
        return reply;
    }
    value_type await_resume() {
        blocking_base::await_resume();
        if (interrupted_) {
            if (task_->must_cancel()) task_->throw_cancelled();
            throw error("the statement was interrupted by a cancel that was withdrawn", "SQLITE_INTERRUPT");
        }
        return std::move(outcome_).value();
    }

private:
    static void call(detail::blocking_job& job) noexcept {
        auto& self = static_cast<database_call&>(job);
        try {
            detail::keep_value(self.outcome_, self.fn_);
        } catch (const interrupted&) { self.interrupted_ = true; } catch (...) {
            self.outcome_.set_error(std::current_exception());
        }
    }
    database* db_;
    on_cancel rule_;
    bool interrupted_ = false;
    F fn_;
    result<value_type> outcome_;
};

/// Closes a database whose driver was destroyed without close(), on a thread of the file pool, so that nobody waits for
/// it.
struct late_close : detail::blocking_job {
    std::unique_ptr<detail::blocking_pool> thread;
    std::unique_ptr<database> db;
};

class sqlite final : public driver {
    template<class F>
    auto call(on_cancel rule, F fn) {
        return database_call<F>(*thread_, *db_, rule, std::move(fn));
    }

public:
    explicit sqlite(std::string path)
        : db_(std::make_unique<database>(std::move(path))),
          thread_(std::make_unique<detail::blocking_pool>(1, "aio-sqlite")) {}
    ~sqlite() override {
        if (!open_) return;
        late_close* const job = late_.release();
        job->thread = std::move(thread_);
        job->db = std::move(db_);
        job->run = [](detail::blocking_job& j) noexcept {
            auto& self = static_cast<late_close&>(j);
            self.thread->join_threads();
            self.db->close();
        };
        job->orphaned = [](detail::blocking_job& j) noexcept { delete &static_cast<late_close&>(j); };
        try {
            detail::file_pool().submit(*job);
        } catch (...) {  // no thread can be started: then the loop's thread waits
            job->run(*job);
            delete job;
        }
    }

    coro<> open() override {
        bool read_only = false;
        auto fn = [&] {
            db_->open();
            read_only = db_->read_only();
            open_ = true;
        };
        auto opening = call(on_cancel::complete, fn);
        co_await opening;
        read_only_ = read_only;
    }

    coro<table_ptr> execute(std::string statement, std::vector<parameter> parameters, on_cancel rule) override {
        auto fn = [&] {
            const noting note{*this};
            return db_->execute(statement, parameters);
        };
        auto executing = call(rule, fn);
        co_return co_await executing;
    }

    coro<> open_stream(std::string statement, std::vector<parameter> parameters) override {
        stream_parameters_ = std::move(parameters);  // bound without a copy: they live as long as the stream
        auto fn = [&] { db_->open_stream(std::move(statement), stream_parameters_); };
        auto opening = call(on_cancel::interrupt, fn);
        co_await opening;
        streaming_ = true;
    }

    coro<table_ptr> fetch() override {
        auto fn = [&] {
            const noting note{*this};
            return db_->fetch();
        };
        auto fetching = call(on_cancel::interrupt, fn);
        table_ptr rows = co_await fetching;
        if (!rows) streaming_ = false;
        co_return rows;
    }

    void drop_stream() noexcept override {
        if (std::exchange(streaming_, false)) db_->drop_stream(*thread_);
    }

    coro<> close() override {
        if (!open_) co_return;
        auto fn = [&] { db_->close(); };
        auto closing = call(on_cancel::shield, fn);
        co_await closing;
        open_ = false;
        thread_->join_threads();  // the thread is idle, so this takes no time
    }

    bool usable() noexcept override { return open_; }
    bool in_transaction() const noexcept override { return in_transaction_; }
    std::string begin_statement(const transaction_options& options) const override {
        return read_only_ || options.read_only ? "BEGIN" : "BEGIN IMMEDIATE";
    }
    ending ended() const noexcept override { return ended_; }
    const char* ended_code() const noexcept override {
        return ended_ == ending::committed ? "SQLITE_MISUSE" : "SQLITE_ABORT_ROLLBACK";
    }

private:
    /// Notes, in the thread, how a statement has left the transaction; the loop's thread reads that after the job.
    struct noting {
        sqlite& self;
        ~noting() {
            self.in_transaction_ = self.db_->in_transaction();
            self.ended_ = self.db_->ended();
        }
    };

    std::unique_ptr<database> db_;
    std::unique_ptr<detail::blocking_pool> thread_;
    std::unique_ptr<late_close> late_ = std::make_unique<late_close>();  // for the destructor, which may not fail
    std::vector<parameter> stream_parameters_;
    bool open_ = false;
    bool read_only_ = false;
    bool in_transaction_ = false;
    ending ended_ = ending::committed;
    bool streaming_ = false;
};

}  // namespace

std::unique_ptr<driver> make_sqlite(std::string path) { return std::make_unique<sqlite>(std::move(path)); }

}  // namespace aio::sql
