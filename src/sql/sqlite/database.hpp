#pragma once
// An SQLite database as its thread sees it: sqlite.cpp has the thread, and the driver.

#include "sql/sqlite/no_waiting.hpp"
#include "sql/sqlite/settings.hpp"
#include "sql/sqlite/statement_cache.hpp"
#include "sql/sqlite/write_queue.hpp"

#include <aio/detail/threads/blocking.hpp>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>

#include <sqlite3.h>

namespace aio::inline v0::sql {

/// Thrown in the thread when a statement was stopped because of a cancel.
struct interrupted {};

/// How far a backup has come, in pages.
struct backup_step {
    std::size_t done = 0, total = 0;
    bool complete = false;
};

/// The database. Its functions run in its thread, except those that say otherwise.
class sqlite_database {
public:
    explicit sqlite_database(sqlite_settings settings);
    ~sqlite_database() { close(); }
    sqlite_database(const sqlite_database&) = delete;
    sqlite_database& operator=(const sqlite_database&) = delete;

    void open();
    void close() noexcept;
    table_ptr execute(const std::string& text, const std::vector<parameter>& parameters);
    /// On the loop's thread, while no job is queued: runs a SELECT that is known to be short; null if the thread has to
    /// run it.
    table_ptr execute_here(const std::string& text, const std::vector<parameter>& parameters);
    table_ptr execute_many(const std::string& text, const std::vector<std::vector<parameter>>& sets);
    void open_stream(std::string text, const std::vector<parameter>& parameters);
    table_ptr fetch();
    bool in_transaction() const noexcept { return db_ && !sqlite3_get_autocommit(db_); }
    /// SQLite tells of each rollback, but of a commit only if something was written.
    ending ended() const noexcept { return rolled_back_ ? ending::rolled_back : ending::committed; }
    bool read_only() const noexcept { return sqlite3_db_readonly(db_, "main") == 1; }

    /// Copies the database into a file beside path; the end gives it the name.
    void begin_backup(const std::string& path);
    backup_step step_backup(int pages);
    void end_backup(bool complete);

    // These are called from the loop's thread, the next two while no job is queued.
    bool keeps_locks() const noexcept { return !kept_.empty(); }
    void release_locks() noexcept { kept_.release(); }
    void prefer_wal() noexcept { settings_.prefers_wal = true; }
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
    struct drop_job : detail::blocking_job {
        sqlite_database* db = nullptr;
    };
    class visit;
    /// Leaves a statement as it was before it was used.
    struct statement_use {
        sqlite3_stmt* s;
        explicit statement_use(sqlite3_stmt* statement) noexcept : s(statement) {}
        ~statement_use() {
            sqlite3_reset(s);
            sqlite3_clear_bindings(s);
        }
        statement_use(const statement_use&) = delete;
        statement_use& operator=(const statement_use&) = delete;
    };
    struct backup {
        std::string path, partial;
        sqlite3* to = nullptr;
        sqlite3_backup* copy = nullptr;
        bool in_view = false;  // inside a transaction of its own
        bool busy = false;
        backup() = default;
        ~backup() {
            if (copy) sqlite3_backup_finish(copy);
            sqlite3_close(to);
        }
        backup(const backup&) = delete;
        backup& operator=(const backup&) = delete;
    };

    static void name_columns(sqlite3_stmt* s, table& t);
    static void add_row(sqlite3_stmt* s, table& t);
    int look() noexcept;
    [[noreturn]] void fail(int code, const std::string& text) const;
    void set_pragmas();
    sqlite_statement_ptr prepare(const char*& at, const char* end, const std::string& text, unsigned flags);
    bool has_rest(const char* at, const char* end, const std::string& text);
    prepared_statement& prepared(const std::string& text);
    void execute_all(const std::string& text, std::shared_ptr<table>& result);
    void run(prepared_statement& s, const std::vector<parameter>& parameters, const std::string& text, table* t);
    void bind(prepared_statement& s, const std::vector<parameter>& parameters, const std::string& text);
    void bind_one(sqlite3_stmt* s, int index, const parameter& p, const std::string& text);
    void command(const char* text);
    void begin_write(sqlite3_stmt* s, const std::string& text);
    void end_write() noexcept;
    bool wait_while_busy(int attempt) noexcept;
    std::chrono::steady_clock::time_point wait_deadline() noexcept;

    sqlite_settings settings_;
    sqlite3* db_ = nullptr;
    drop_job drop_;
    bool rolled_back_ = false;  // a rollback has happened since a statement last began inside a transaction
    sqlite_statement_cache cache_;
    bool layered_ = false;  // over no_waiting_vfs(), so that statements may run on the loop's thread
    kept_locks kept_;       // by statements on the loop's thread
    int looks_left_ = 0;    // for a statement that does, until it has taken too long
    std::optional<prepared_statement> stream_;
    std::string stream_text_;
    std::exception_ptr stream_error_;  // thrown once the rows before it have been given
    std::unique_ptr<backup> backup_;
    std::shared_ptr<write_queue> queue_;
    bool writes_ = false;  // it is this connection's turn to write
    std::optional<std::chrono::steady_clock::time_point>
        waits_until_;  // of the job's wait for locks, once it has waited
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::condition_variable stopped_;
};

}  // namespace aio::inline v0::sql
