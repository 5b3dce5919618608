// What the thread of an SQLite connection does.
//
// A cancel sets a flag that SQLite looks at every thousand steps of its virtual machine and while it waits for a lock.
// sqlite3_interrupt() would not do: SQLite forgets it if it comes between the beginning of a job and its first step,
// and keeps it if it comes after the last.

#include "sql/sqlite/database.hpp"

#include "sql/sqlite/errors.hpp"
#include "sql/sqlite/no_waiting.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace aio::inline v0::sql {
namespace {

constexpr int steps_between_looks = 1000;
constexpr std::size_t batch_rows = 256;
constexpr std::size_t batch_bytes = 256 * 1024;
constexpr std::size_t most_bytes = 1'000'000'000;  // SQLITE_MAX_LENGTH and SQLITE_MAX_SQL_LENGTH, as SQLite is built
constexpr std::size_t most_cached = 16 * 1024;     // a longer text is hardly used again
constexpr size_limits limits{"SQLite", most_bytes, most_bytes, std::size_t(-1), 32766};

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n;") == std::string_view::npos; }

}  // namespace

sqlite_database::sqlite_database(sqlite_settings settings)
    : settings_(std::move(settings)), cache_(settings_.statement_cache) {
    drop_.db = this;
    drop_.run = [](detail::blocking_job& job) noexcept {
        sqlite_database& db = *static_cast<drop_job&>(job).db;
        db.stream_.reset();
        db.end_write();
    };
}

void sqlite_database::close() noexcept {
    stream_.reset();
    cache_.clear();
    try {
        if (backup_) end_backup(false);
    } catch (const std::exception&) {  // the half of a copy stays behind
        backup_.reset();
    }
    sqlite3_close(db_);
    db_ = nullptr;
    if (std::exchange(writes_, false)) queue_->release();
}

// ---- errors and locks ----

void sqlite_database::fail(int code, const std::string& text) const {
    if (stop_.load(std::memory_order_relaxed) && ((code & 0xFF) == SQLITE_INTERRUPT || (code & 0xFF) == SQLITE_BUSY))
        throw interrupted{};
    error::parts p;
    p.message = db_ ? sqlite3_errmsg(db_) : sqlite3_errstr(code);
    p.code = sqlite_code_name(code);
    p.statement = text;
    std::string what = sqlite_error_text(code, p);
    const int primary = code & 0xFF;
    if (primary == SQLITE_CANTOPEN || primary == SQLITE_IOERR || primary == SQLITE_FULL || primary == SQLITE_NOTADB ||
        primary == SQLITE_CORRUPT || primary == SQLITE_READONLY || primary == SQLITE_BUSY) {
        what = "'" + settings_.path + "': " + what;
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

std::chrono::steady_clock::time_point sqlite_database::wait_deadline() noexcept {
    if (!waits_until_) {
        const auto now = std::chrono::steady_clock::now();
        waits_until_ = settings_.busy_timeout.has_value() ? settings_.busy_timeout.from(now) : time_point::max();
    }
    return *waits_until_;
}

// Waits while another connection holds a lock, a little longer at each attempt. False once busy_timeout has passed or a
// cancel has come.
bool sqlite_database::wait_while_busy(int attempt) noexcept {
    if (looks_left_ > 0) return false;
    using namespace std::chrono;
    const auto deadline = wait_deadline();
    const auto now = steady_clock::now();
    if (now >= deadline) return false;
    const auto span = std::min<steady_clock::duration>(milliseconds(1) * (1 << std::min(attempt, 5)), milliseconds(25));
    std::unique_lock lock(mutex_);
    return !stopped_.wait_until(
        lock, std::min(now + span, deadline), [this] { return stop_.load(std::memory_order_relaxed); });
}

// What SQLite does every thousand steps. Not 0: the statement is to stop.
int sqlite_database::look() noexcept {
    if (looks_left_ > 0) return --looks_left_ == 0 ? 1 : 0;
    return stop_.load(std::memory_order_relaxed) ? 1 : 0;
}

// A statement that writes, outside a transaction, waits for its turn among the connections of this process. Inside a
// transaction that has only read it does not: it holds a lock that the others may need, and SQLite knows what to do.
void sqlite_database::begin_write(sqlite3_stmt* s, const std::string& text) {
    if (!queue_ || writes_ || !sqlite3_get_autocommit(db_) || sqlite3_stmt_readonly(s)) return;
    write_queue::waiter w{mutex_, stopped_};
    const auto stop = [this] { return stop_.load(std::memory_order_relaxed); };
    writes_ = queue_->take(w, wait_deadline(), stop);
    if (writes_) return;
    if (stop()) throw interrupted{};
    error::parts p;
    p.message = sqlite3_errstr(SQLITE_BUSY);
    p.code = "SQLITE_BUSY";
    p.statement = text;
    throw error("'" + settings_.path + "': database is locked (SQLITE_BUSY): another connection of this process writes",
        std::move(p));
}

void sqlite_database::end_write() noexcept {
    waits_until_.reset();
    if (writes_ && !stream_ && sqlite3_get_autocommit(db_)) {
        writes_ = false;
        queue_->release();
    }
}

// ---- opening ----

void sqlite_database::open() {
    int flags = settings_.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    if (settings_.create && !settings_.read_only) flags |= SQLITE_OPEN_CREATE;
    if (settings_.immutable) flags |= SQLITE_OPEN_URI;
    const std::string name = settings_.immutable ? settings_.uri() : settings_.path;
    const char* const vfs = no_waiting_vfs();
    layered_ = vfs != nullptr;
    int code = sqlite3_open_v2(name.c_str(), &db_, flags | SQLITE_OPEN_NOMUTEX, vfs);
    if (code == SQLITE_OK) {
        sqlite3_extended_result_codes(db_, 1);
        sqlite3_busy_handler(
            db_,
            [](void* self, int attempt) {
                return static_cast<sqlite_database*>(self)->wait_while_busy(attempt) ? 1 : 0;
            },
            this);
        sqlite3_progress_handler(
            db_, steps_between_looks, [](void* self) { return static_cast<sqlite_database*>(self)->look(); }, this);
        sqlite3_rollback_hook(db_, [](void* self) { static_cast<sqlite_database*>(self)->rolled_back_ = true; }, this);
        // SQLite opens a file only when it needs it: this finds out now whether it is a database.
        code = sqlite3_exec(db_, "PRAGMA schema_version", nullptr, nullptr, nullptr);
        if ((code & 0xFF) == SQLITE_BUSY) code = SQLITE_OK;
    }
    try {
        if (code != SQLITE_OK) fail(db_ ? sqlite3_extended_errcode(db_) : code, {});
        if (!settings_.in_memory() && !settings_.read_only) queue_ = write_queue::of(settings_.path);
        set_pragmas();
    } catch (...) {
        close();
        throw;
    }
    waits_until_.reset();
}

void sqlite_database::set_pragmas() {
    // A file that is locked or cannot be written keeps the mode that it has.
    if (settings_.prefers_wal && !settings_.in_memory() && !settings_.read_only)
        sqlite3_exec(db_, "PRAGMA journal_mode = WAL", nullptr, nullptr, nullptr);
    if (!settings_.pragmas.empty()) execute(settings_.pragmas, std::vector<parameter>());
}

// ---- statements ----

sqlite_statement_ptr sqlite_database::prepare(
    const char*& at, const char* end, const std::string& text, unsigned flags) {
    sqlite3_stmt* s = nullptr;
    const int code = sqlite3_prepare_v3(db_, at, static_cast<int>(end - at), flags, &s, &at);
    if (code != SQLITE_OK) fail(code, text);
    return sqlite_statement_ptr(s);
}

/// True if there is another statement behind the first one.
bool sqlite_database::has_rest(const char* at, const char* end, const std::string& text) {
    while (at != end) {
        if (is_blank(std::string_view(at, static_cast<std::size_t>(end - at)))) return false;
        if (prepare(at, end, text, 0)) return true;
    }
    return false;
}

namespace {

// $1, ?1, :1 and @1 are the first parameter, wherever and however often they stand; a bare ? is the one with the number
// that SQLite gives to it, which is one more than the largest before it. SQLite does not count $1 as a number, so the
// two do not go together.
void number_parameters(prepared_statement& s, const std::string& text) {
    const int count = sqlite3_bind_parameter_count(s.handle.get());
    bool bare = false, named = false;
    for (int i = 1; i <= count; ++i) {
        const char* name = sqlite3_bind_parameter_name(s.handle.get(), i);
        std::size_t number = static_cast<std::size_t>(i);
        if (name) {
            char* end = nullptr;
            number = std::strtoul(name + 1, &end, 10);
            if (number == 0 || *end != '\0') {
                throw error("a parameter has a name: parameters are $1, $2 ...", "SQLITE_RANGE", text);
            }
        }
        bare = bare || !name;
        named = named || (name && name[0] != '?');
        s.numbers.push_back(number);
        s.needed = std::max(s.needed, number);
    }
    if (bare && named)
        throw error("the statement has both ? and $1: it is not clear which parameter is meant", "SQLITE_RANGE", text);
}

}  // namespace

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

void sqlite_database::bind_one(sqlite3_stmt* s, int index, const parameter& p, const std::string& text) {
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

void sqlite_database::bind(prepared_statement& s, const std::vector<parameter>& parameters, const std::string& text) {
    if (s.needed != parameters.size()) {
        throw error("the statement has " + std::to_string(s.needed) + " parameters, but " +
                std::to_string(parameters.size()) + " were given",
            "SQLITE_RANGE", text);
    }
    for (std::size_t i = 0; i < s.numbers.size(); ++i)
        bind_one(s.handle.get(), static_cast<int>(i) + 1, parameters[s.numbers[i] - 1], text);
}

void sqlite_database::name_columns(sqlite3_stmt* s, table& t) {
    const int columns = sqlite3_column_count(s);
    t.columns.reserve(static_cast<std::size_t>(columns));
    for (int i = 0; i < columns; ++i) {
        const char* name = sqlite3_column_name(s, i);
        if (!name) throw std::bad_alloc();
        t.columns.emplace_back(name);
    }
}

void sqlite_database::add_row(sqlite3_stmt* s, table& t) {
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

/// Runs a statement whose rows go to t; without t they are dropped.
void sqlite_database::run(
    prepared_statement& s, const std::vector<parameter>& parameters, const std::string& text, table* t) {
    sqlite3_stmt* const handle = s.handle.get();
    begin_write(handle, text);
    const statement_use use(handle);
    bind(s, parameters, text);
    const auto began = std::chrono::steady_clock::now();
    const sqlite3_int64 before = sqlite3_total_changes64(db_);
    int code = sqlite3_step(handle);
    // The names are asked for only now, because the first step prepares a statement anew if the tables have changed.
    if (t) name_columns(handle, *t);
    for (; code == SQLITE_ROW; code = sqlite3_step(handle)) {
        if (t) add_row(handle, *t);
    }
    if (code != SQLITE_DONE) fail(code, text);
    if (s.speed.only_reads) s.speed.ran_on_the_thread(std::chrono::steady_clock::now() - began);
    if (t && sqlite3_total_changes64(db_) != before) t->affected = static_cast<std::size_t>(sqlite3_changes64(db_));
}

void sqlite_database::command(const char* text) {
    const int code = sqlite3_exec(db_, text, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) fail(code, text);
}

/// Several statements in one text, or one that is not kept.
void sqlite_database::execute_all(const std::string& text, std::shared_ptr<table>& result) {
    const char* at = text.data();
    const char* const end = at + text.size();
    const std::vector<parameter> none;
    while (at != end) {
        prepared_statement s{prepare(at, end, text, 0), {}, 0, {}};
        if (!s.handle) continue;  // the text was a comment, or empty
        number_parameters(s, text);
        auto t = std::make_shared<table>();
        run(s, none, text, t.get());
        result = std::move(t);
        if (!stream_) end_write();  // each is a transaction of its own, unless one is open
    }
}

/// The one statement of a text, from the cache or for it. Its handle is null if the text is empty, or a comment.
prepared_statement& sqlite_database::prepared(const std::string& text) {
    if (prepared_statement* const known = cache_.find(text)) return *known;
    const char* at = text.data();
    const char* const end = at + text.size();
    prepared_statement s;
    while (!s.handle && at != end) s.handle = prepare(at, end, text, cache_.on() ? SQLITE_PREPARE_PERSISTENT : 0);
    if (has_rest(at, end, text))
        throw error("several statements at once can have no parameters", "SQLITE_MISUSE", text);
    if (s.handle) {
        number_parameters(s, text);
        s.speed.only_reads = sqlite3_stmt_readonly(s.handle.get()) && is_select(text);
    }
    return cache_.add(text, std::move(s));
}

namespace {
struct at_end {
    sqlite_database* db;
    void (sqlite_database::*call)() noexcept;
    ~at_end() { (db->*call)(); }
};
}  // namespace

table_ptr sqlite_database::execute(const std::string& text, const std::vector<parameter>& parameters) {
    check_sizes(text, parameters, limits);
    const at_end finish{this, &sqlite_database::end_write};
    if (in_transaction()) rolled_back_ = false;
    auto result = std::make_shared<table>();
    prepared_statement* const known = cache_.find(text);
    if (!known && parameters.empty()) {
        const bool one = text.size() <= most_cached &&
            is_blank(std::string_view(text).substr(std::min(text.find(';'), text.size())));
        if (!one) {
            execute_all(text, result);
            return result;
        }
    }
    prepared_statement& s = known ? *known : prepared(text);
    if (s.handle) run(s, parameters, text, result.get());
    return result;
}

table_ptr sqlite_database::execute_many(const std::string& text, const std::vector<std::vector<parameter>>& sets) {
    for (const std::vector<parameter>& set : sets) check_sizes(text, set, limits);
    const at_end finish{this, &sqlite_database::end_write};
    auto result = std::make_shared<table>();
    const bool inside = in_transaction();
    if (inside) rolled_back_ = false;
    prepared_statement& s = prepared(text);
    if (!s.handle || sets.empty()) return result;
    // It is one transaction, of a statement that writes: its lock is taken at the beginning.
    begin_write(s.handle.get(), text);
    command(inside ? "SAVEPOINT aio_many" : sqlite3_stmt_readonly(s.handle.get()) ? "BEGIN" : "BEGIN IMMEDIATE");
    try {
        for (const std::vector<parameter>& set : sets) {
            if (stop_.load(std::memory_order_relaxed)) throw interrupted{};
            table t;
            run(s, set, text, &t);
            result->affected += t.affected;
        }
        command(inside ? "RELEASE aio_many" : "COMMIT");
    } catch (...) {
        stop_.store(false, std::memory_order_relaxed);  // what follows must not be interrupted
        if (in_transaction())
            sqlite3_exec(
                db_, inside ? "ROLLBACK TO aio_many; RELEASE aio_many" : "ROLLBACK", nullptr, nullptr, nullptr);
        throw;
    }
    return result;
}

// ---- streams ----

void sqlite_database::open_stream(std::string text, const std::vector<parameter>& parameters) {
    check_sizes(text, parameters, limits);
    const at_end finish{this, &sqlite_database::end_write};
    const char* at = text.data();
    const char* const end = at + text.size();
    prepared_statement s;
    while (!s.handle && at != end) s.handle = prepare(at, end, text, 0);
    if (has_rest(at, end, text)) throw error("a stream is of one statement", "SQLITE_MISUSE", text);
    stream_error_ = nullptr;
    stream_.reset();
    if (!s.handle) return;
    number_parameters(s, text);
    begin_write(s.handle.get(), text);
    bind(s, parameters, text);
    stream_ = std::move(s);
    stream_text_ = std::move(text);
}

table_ptr sqlite_database::fetch() {
    if (stream_error_) std::rethrow_exception(std::exchange(stream_error_, nullptr));
    if (!stream_) return nullptr;
    const at_end finish{this, &sqlite_database::end_write};
    sqlite3_stmt* const handle = stream_->handle.get();
    auto t = std::make_shared<table>();
    while (t->row_count < batch_rows && t->bytes.size() < batch_bytes) {
        const int code = sqlite3_step(handle);
        if (t->columns.empty()) name_columns(handle, *t);
        if (code == SQLITE_ROW) {
            add_row(handle, *t);
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

}  // namespace aio::inline v0::sql
