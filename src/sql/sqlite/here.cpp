// Short SELECTs on the loop's thread.
//
// A query by way of the connection's thread costs some ten microseconds for the two switches between threads; the
// SELECT of one row costs one or two. So a SELECT whose last run on the thread was short runs on the loop's thread
// instead. That is only an attempt: it ends without a trace, and the thread does it all anew, as soon as it is not what
// it is usually, because it
//
//  - needs a page of the file that SQLite has not cached (no_waiting.hpp), or a lock that another connection has;
//  - takes more than one to two thousand steps of SQLite's virtual machine, or gives many rows or a large value;
//  - fails, for whatever reason: the thread finds the error again.
//
// After an attempt that was in vain, or two in sixteen that took longer than they should, the statement stays on the
// thread for its next runs, twice as many each time. The connection does one thing at a time, so that the two threads
// never use it together.
//
// The time is the clock's, because a statement that waits (for a slow file system, for a mutex of SQLite's) holds the
// loop as much as one that computes. But the clock also counts while the system runs another process on this core,
// which says nothing of the statement: hence one slow run is forgiven. The time of the processor would miss the waits,
// and costs two system calls.

#include "sql/sqlite/database.hpp"
#include "sql/sqlite/no_waiting.hpp"

#include <chrono>
#include <utility>

namespace aio::inline v0::sql {
namespace {

using std::chrono::microseconds;
using std::chrono::steady_clock;

constexpr microseconds short_on_the_thread{30};
constexpr microseconds too_long_here{100};
constexpr std::size_t most_rows = 128;
constexpr int most_bytes = 16 * 1024;  // of a value
constexpr int most_looks = 2;          // of the progress handler
constexpr std::uint8_t doubtful_runs = 16;

}  // namespace

void statement_speed::ran_on_the_thread(steady_clock::duration time) noexcept {
    is_short = time <= short_on_the_thread;
    if (stays > 0) --stays;
}

void statement_speed::ran_here(steady_clock::duration time) noexcept {
    if (time > too_long_here) {
        if (std::exchange(doubt, doubtful_runs) > 0) failed_here();
        return;
    }
    if (doubt > 0) --doubt;
    if (vain > 0) --vain;
}

void statement_speed::failed_here() noexcept {
    vain = vain < 512 ? 2 * vain + 1 : 1023;
    stays = vain;
    doubt = 0;
}

/// While a statement runs on the loop's thread.
class sqlite_database::visit {
public:
    visit(sqlite_database& db, steady_clock::time_point now) noexcept
        : db_(db), now_(db.kept_, now), limit_(sqlite3_limit(db.db_, SQLITE_LIMIT_LENGTH, most_bytes)) {
        db_.looks_left_ = most_looks;
    }
    ~visit() {
        db_.looks_left_ = 0;
        sqlite3_limit(db_.db_, SQLITE_LIMIT_LENGTH, limit_);
    }
    visit(const visit&) = delete;
    visit& operator=(const visit&) = delete;

private:
    sqlite_database& db_;
    const no_waiting now_;
    int limit_;
};

table_ptr sqlite_database::execute_here(const std::string& text, const std::vector<parameter>& parameters) {
    if (!cache_.on() || !layered_) return nullptr;
    prepared_statement* const s = cache_.find(text);
    if (!s || !s->speed.may_run_here() || s->needed != parameters.size()) return nullptr;
    allow();
    const bool inside = in_transaction();
    if (inside) rolled_back_ = false;
    auto t = std::make_shared<table>();
    const auto began = steady_clock::now();
    int code = SQLITE_DONE;
    {
        const statement_use use(s->handle.get());
        bind(*s, parameters, text);
        const visit now(*this, began);
        code = sqlite3_step(s->handle.get());
        name_columns(s->handle.get(), *t);
        for (; code == SQLITE_ROW && t->row_count < most_rows; code = sqlite3_step(s->handle.get()))
            add_row(s->handle.get(), *t);
        if (code != SQLITE_DONE && inside && !in_transaction()) fail(code, text);  // no memory
    }
    if (code != SQLITE_DONE) {
        s->speed.failed_here();
        return nullptr;
    }
    s->speed.ran_here(steady_clock::now() - began);
    return t;
}

}  // namespace aio::inline v0::sql
