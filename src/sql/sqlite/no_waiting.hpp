#pragma once
// File access that never waits for the disk: with it a short SELECT can run on the loop's thread (here.cpp).
//
// This is a VFS of SQLite's, a thin layer over its "unix". While a thread is inside no_waiting, whatever might wait for
// the disk (a page that SQLite has not cached, all writing, opening and removing of files, growing of the WAL's index)
// fails at once with SQLITE_INTERRUPT, which leaves a statement that only reads, and its transaction, as they were.
// What remains are locks, which SQLite tries without waiting, the size of the file, and the 16 bytes that show whether
// another process has changed it.
//
// The layer also keeps the lock of a reader of the WAL that such a statement would give back at its end, so that the
// next one need not take it. Taking and giving back are two system calls under a mutex that all connections of the
// process to this file share: a third of what a SELECT of one row costs, and two threads that meet there put each other
// to sleep. To others it looks like a reader that takes longer. SQLite still finds out at each statement whether
// anything was written, and takes another lock then; for 50 ms after that none is kept.

#include <chrono>

namespace aio::inline v0::sql {

/// The name of the VFS for sqlite3_open_v2(); null if the process has made another one than "unix" the default.
const char* no_waiting_vfs() noexcept;

struct layered_file;

/// The locks that a connection keeps.
class kept_locks {
public:
    kept_locks() = default;
    kept_locks(const kept_locks&) = delete;
    kept_locks& operator=(const kept_locks&) = delete;
    bool empty() const noexcept { return !first_; }
    /// Gives them back, while the connection does nothing else.
    void release() noexcept;

private:
    friend struct layered_file;
    layered_file* first_ = nullptr;
};

class no_waiting {
public:
    no_waiting(kept_locks& keeps, std::chrono::steady_clock::time_point now) noexcept;
    ~no_waiting();
    no_waiting(const no_waiting&) = delete;
    no_waiting& operator=(const no_waiting&) = delete;
};

}  // namespace aio::inline v0::sql
