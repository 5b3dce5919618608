#pragma once
// File access that never waits for the disk: with it a short SELECT can run on the loop's thread (here.cpp).
//
// This is a VFS of SQLite's, a thin layer over its "unix". While a thread is inside no_waiting, whatever might wait for
// the disk (a page that SQLite has not cached, all writing, opening and removing of files, growing of the WAL's index)
// fails at once with SQLITE_INTERRUPT, which leaves a statement that only reads, and its transaction, as they were.
// What remains are locks, which SQLite tries without waiting, the size of the file, and the 16 bytes that show whether
// another process has changed it.

namespace aio::inline v0::sql {

/// The name of the VFS for sqlite3_open_v2(); null if the process has made another one than "unix" the default.
const char* no_waiting_vfs() noexcept;

class no_waiting {
public:
    no_waiting() noexcept;
    ~no_waiting();
    no_waiting(const no_waiting&) = delete;
    no_waiting& operator=(const no_waiting&) = delete;
};

}  // namespace aio::inline v0::sql
