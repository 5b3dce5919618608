// Copies of an SQLite database while it is used: the thread's part of sqlite_backup().
//
// The copy is made into a file beside the one that was asked for, which gets its name at the end: a backup that was
// there before stays until the new one is whole. SQLite begins anew whenever another connection has written; in WAL
// mode a transaction that only reads keeps the state of its beginning in view, and hinders nobody, so the copy is made
// inside one. In the other modes it would keep the writers out.

#include "sql/sqlite/database.hpp"

#include <cerrno>
#include <cstdio>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

namespace aio::inline v0::sql {

namespace {

/// What became of the name of a file is on the disk only once its folder is.
void sync_folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    ::fsync(fd);
    ::close(fd);
}

}  // namespace

void sqlite_database::begin_backup(const std::string& path) {
    if (backup_) end_backup(false);  // there was no memory to end it
    auto b = std::make_unique<backup>();
    b->path = path;
    b->partial = path + ".partial";
    ::unlink(b->partial.c_str());
    const int code = sqlite3_open_v2(
        b->partial.c_str(), &b->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    if (code != SQLITE_OK) {
        const int system_error = b->to ? sqlite3_system_errno(b->to) : 0;
        throw error("a backup to '" + path + "' cannot be begun: " +
                (system_error ? std::generic_category().message(system_error) : std::string(sqlite3_errstr(code))),
            "SQLITE_CANTOPEN");
    }
    sqlite3_exec(b->to, "PRAGMA synchronous = NORMAL", nullptr, nullptr, nullptr);
    const table_ptr mode = execute("PRAGMA journal_mode", std::vector<parameter>());
    if (!in_transaction() && mode->row_count == 1 && mode->text(mode->at(0, 0)) == "wal") {
        command("BEGIN");
        b->in_view = true;
        execute("SELECT count(*) FROM sqlite_schema", std::vector<parameter>());
    }
    b->copy = sqlite3_backup_init(b->to, "main", db_, "main");
    if (!b->copy) {
        const std::string why = sqlite3_errmsg(b->to);
        if (b->in_view) sqlite3_exec(db_, "COMMIT", nullptr, nullptr, nullptr);
        throw error("a backup to '" + path + "' cannot be begun: " + why, "SQLITE_ERROR");
    }
    backup_ = std::move(b);
}

backup_step sqlite_database::step_backup(int pages) {
    backup& b = *backup_;
    const int code = sqlite3_backup_step(b.copy, pages);
    backup_step s;
    s.total = static_cast<std::size_t>(sqlite3_backup_pagecount(b.copy));
    s.done = s.total - static_cast<std::size_t>(sqlite3_backup_remaining(b.copy));
    s.complete = code == SQLITE_DONE;
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
        if (!wait_while_busy(b.busy ? 5 : 0)) fail(code, "a backup");
        b.busy = true;
    } else if (code == SQLITE_OK || code == SQLITE_DONE) {
        b.busy = false;
        waits_until_.reset();
    } else {
        const int system_error = code == SQLITE_FULL ? ENOSPC : sqlite3_system_errno(b.to);
        throw error("the backup to '" + b.path + "' has failed: " + sqlite3_errstr(code) +
                (system_error ? ": " + std::generic_category().message(system_error) : std::string()),
            code == SQLITE_FULL ? "SQLITE_FULL" : "SQLITE_IOERR");
    }
    return s;
}

void sqlite_database::end_backup(bool complete) {
    const std::unique_ptr<backup> b = std::move(backup_);
    if (!b) return;
    const int code = sqlite3_backup_finish(std::exchange(b->copy, nullptr));
    if (b->in_view) sqlite3_exec(db_, "COMMIT", nullptr, nullptr, nullptr);
    // The copy is a file of its own: it does not depend on a -wal beside it.
    if (complete && code == SQLITE_OK) sqlite3_exec(b->to, "PRAGMA journal_mode = DELETE", nullptr, nullptr, nullptr);
    sqlite3_close(std::exchange(b->to, nullptr));
    if (!complete) {
        ::unlink(b->partial.c_str());
        return;
    }
    const int fd = code == SQLITE_OK ? ::open(b->partial.c_str(), O_RDONLY | O_CLOEXEC) : -1;
    bool good = fd >= 0 && ::fsync(fd) == 0;
    if (fd >= 0) ::close(fd);
    good = good && std::rename(b->partial.c_str(), b->path.c_str()) == 0;
    const int system_error = errno;
    if (good) {
        sync_folder_of(b->path);
        return;
    }
    ::unlink(b->partial.c_str());
    throw error("the backup to '" + b->path + "' has failed: " +
            (code != SQLITE_OK ? sqlite3_errstr(code) : std::generic_category().message(system_error)),
        "SQLITE_IOERR");
}

}  // namespace aio::inline v0::sql
