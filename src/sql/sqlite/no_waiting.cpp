// A VFS of SQLite's that refuses what might wait: see no_waiting.hpp. A file of it is followed in memory by the file of
// "unix", to which the calls go.

#include "sql/sqlite/no_waiting.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>

#include <sqlite3.h>

namespace aio::inline v0::sql {

using std::chrono::steady_clock;

struct layered_file : sqlite3_file {
    sqlite3_io_methods methods;         // without those that the file below has not
    kept_locks* keeper;                 // not null: this file has a lock that is kept
    layered_file* next;                 // of the same keeper
    int lock;                           // the reader's lock of the WAL's index that was taken last
    int times;                          // how often it was kept in a row
    steady_clock::time_point quiet_at;  // whether somebody writes now is known then

    sqlite3_file* below() noexcept { return reinterpret_cast<sqlite3_file*>(this + 1); }
    void keep(kept_locks& k) noexcept {
        keeper = &k;
        next = k.first_;
        k.first_ = this;
    }
    /// SQLite has the lock again.
    void hand_over() noexcept {
        layered_file** at = &keeper->first_;
        while (*at != this) at = &(*at)->next;
        *at = next;
        keeper = nullptr;
    }
    void release() noexcept {
        hand_over();
        times = 0;
        below()->pMethods->xShmLock(below(), lock, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED);
    }
};
static_assert(sizeof(layered_file) % alignof(sqlite3_int64) == 0);

void kept_locks::release() noexcept {
    while (first_) first_->release();
}

namespace {

thread_local kept_locks* keeps = nullptr;  // not null: this thread is inside no_waiting
thread_local steady_clock::time_point entered;

constexpr int change_counter = 16;   // bytes of the file's header
constexpr int first_read_lock = 3;   // WAL_READ_LOCK(0) of SQLite's wal.c
constexpr int most_times_kept = 64;  // then others have their turn for certain

sqlite3_vfs* unix_files = nullptr;
sqlite3_vfs layer;
char layer_name[32];

sqlite3_file* below(sqlite3_file* f) noexcept { return static_cast<layered_file*>(f)->below(); }

int read(sqlite3_file* f, void* to, int size, sqlite3_int64 at) {
    if (keeps && size > change_counter) return SQLITE_INTERRUPT;
    return below(f)->pMethods->xRead(below(f), to, size, at);
}
int write(sqlite3_file* f, const void* from, int size, sqlite3_int64 at) {
    return keeps ? SQLITE_INTERRUPT : below(f)->pMethods->xWrite(below(f), from, size, at);
}
int truncate(sqlite3_file* f, sqlite3_int64 size) {
    return keeps ? SQLITE_INTERRUPT : below(f)->pMethods->xTruncate(below(f), size);
}
int sync(sqlite3_file* f, int flags) { return keeps ? SQLITE_INTERRUPT : below(f)->pMethods->xSync(below(f), flags); }
int map_index(sqlite3_file* f, int region, int size, int extend, void volatile** at) {
    return keeps ? SQLITE_INTERRUPT : below(f)->pMethods->xShmMap(below(f), region, size, extend, at);
}
// A reader takes the same lock again as long as nobody has written. A lock that is kept while the system runs others on
// this core holds up a checkpoint, and a WAL that grows makes each commit try one. So it is kept only when there was no
// write for a while.
int lock_index(sqlite3_file* f, int from, int n, int flags) {
    constexpr std::chrono::milliseconds a_while{50};
    layered_file& self = *static_cast<layered_file*>(f);
    if (flags == (SQLITE_SHM_LOCK | SQLITE_SHM_SHARED) && from == self.lock) {
        if (self.keeper) {
            self.hand_over();
            return SQLITE_OK;
        }
    } else if ((flags & SQLITE_SHM_LOCK) != 0) {
        if (self.keeper) self.release();
        self.quiet_at = (keeps ? entered : steady_clock::now()) + a_while;
        if ((flags & SQLITE_SHM_SHARED) != 0) self.lock = from;
    } else if (keeps && flags == (SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED) && from == self.lock &&
        from >= first_read_lock && entered >= self.quiet_at) {
        if (++self.times <= most_times_kept) {
            self.keep(*keeps);
            return SQLITE_OK;
        }
        self.times = 0;
    }
    return below(f)->pMethods->xShmLock(below(f), from, n, flags);
}
int unmap_index(sqlite3_file* f, int remove) {
    layered_file& self = *static_cast<layered_file*>(f);
    if (self.keeper) self.release();
    return below(f)->pMethods->xShmUnmap(below(f), remove);
}
/// A page that is mapped may be on the disk: without a mapping SQLite reads it, which is refused.
int map_page(sqlite3_file* f, sqlite3_int64 at, int size, void** page) {
    if (!keeps) return below(f)->pMethods->xFetch(below(f), at, size, page);
    *page = nullptr;
    return SQLITE_OK;
}

constexpr sqlite3_io_methods passed_on{
    3,
    [](sqlite3_file* f) { return below(f)->pMethods->xClose(below(f)); },
    &read,
    &write,
    &truncate,
    &sync,
    [](sqlite3_file* f, sqlite3_int64* size) { return below(f)->pMethods->xFileSize(below(f), size); },
    [](sqlite3_file* f, int lock) { return below(f)->pMethods->xLock(below(f), lock); },
    [](sqlite3_file* f, int lock) { return below(f)->pMethods->xUnlock(below(f), lock); },
    [](sqlite3_file* f, int* reserved) { return below(f)->pMethods->xCheckReservedLock(below(f), reserved); },
    [](sqlite3_file* f, int what, void* value) { return below(f)->pMethods->xFileControl(below(f), what, value); },
    [](sqlite3_file* f) { return below(f)->pMethods->xSectorSize(below(f)); },
    [](sqlite3_file* f) { return below(f)->pMethods->xDeviceCharacteristics(below(f)); },
    &map_index,
    &lock_index,
    [](sqlite3_file*) { std::atomic_thread_fence(std::memory_order_seq_cst); },  // "unix" takes a global mutex besides
    &unmap_index,
    &map_page,
    [](sqlite3_file* f, sqlite3_int64 at, void* page) { return below(f)->pMethods->xUnfetch(below(f), at, page); },
};

int open(sqlite3_vfs*, sqlite3_filename name, sqlite3_file* f, int flags, int* out_flags) {
    f->pMethods = nullptr;
    if (keeps) return SQLITE_INTERRUPT;
    layered_file& opened = *static_cast<layered_file*>(f);
    const int code = unix_files->xOpen(unix_files, name, opened.below(), flags, out_flags);
    const sqlite3_io_methods* const has = opened.below()->pMethods;
    if (!has) return code;
    opened.keeper = nullptr;
    opened.lock = -1;
    opened.times = 0;
    opened.quiet_at = {};
    opened.methods = passed_on;
    opened.methods.iVersion = std::min(passed_on.iVersion, has->iVersion);
    if (has->iVersion >= 2 && !has->xShmMap) opened.methods.xShmMap = nullptr;
    if (has->iVersion >= 3 && !has->xFetch) opened.methods.xFetch = nullptr;
    f->pMethods = &opened.methods;
    return code;
}
int remove(sqlite3_vfs*, const char* name, int sync_folder) {
    return keeps ? SQLITE_INTERRUPT : unix_files->xDelete(unix_files, name, sync_folder);
}

/// Leaves SQLite's list of VFSes when this code is unloaded.
struct registration {
    registration() noexcept {
        unix_files = sqlite3_vfs_find(nullptr);
        if (!unix_files || std::strcmp(unix_files->zName, "unix") != 0) return;
        layer = *unix_files;  // what is not about contents of files is done by the functions of "unix"
        layer.pNext = nullptr;
        layer.szOsFile = static_cast<int>(sizeof(layered_file)) + unix_files->szOsFile;
        // A process may hold this code twice, in two libraries.
        std::snprintf(layer_name, sizeof layer_name, "aiocxx-%p", static_cast<void*>(&layer));
        layer.zName = layer_name;
        layer.xOpen = &open;
        layer.xDelete = &remove;
        good = sqlite3_vfs_register(&layer, 0) == SQLITE_OK;
    }
    ~registration() {
        if (good) sqlite3_vfs_unregister(&layer);
    }
    registration(const registration&) = delete;
    registration& operator=(const registration&) = delete;
    bool good = false;
};

}  // namespace

const char* no_waiting_vfs() noexcept {
    static const registration done;
    return done.good ? layer_name : nullptr;
}

no_waiting::no_waiting(kept_locks& k, steady_clock::time_point now) noexcept {
    keeps = &k;
    entered = now;
}
no_waiting::~no_waiting() { keeps = nullptr; }

}  // namespace aio::inline v0::sql
