// A VFS of SQLite's that refuses what might wait: see no_waiting.hpp. A file of it is followed in memory by the file of
// "unix", to which the calls go.

#include "sql/sqlite/no_waiting.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>

#include <sqlite3.h>

namespace aio::inline v0::sql {
namespace {

thread_local bool refuses = false;

constexpr int change_counter = 16;  // bytes of the file's header

sqlite3_vfs* unix_files = nullptr;
sqlite3_vfs layer;
char layer_name[32];

struct file : sqlite3_file {
    sqlite3_io_methods methods;  // without those that the file below has not

    sqlite3_file* below() noexcept { return reinterpret_cast<sqlite3_file*>(this + 1); }
};
static_assert(sizeof(file) % alignof(sqlite3_int64) == 0);

sqlite3_file* below(sqlite3_file* f) noexcept { return static_cast<file*>(f)->below(); }

int read(sqlite3_file* f, void* to, int size, sqlite3_int64 at) {
    if (refuses && size > change_counter) return SQLITE_INTERRUPT;
    return below(f)->pMethods->xRead(below(f), to, size, at);
}
int write(sqlite3_file* f, const void* from, int size, sqlite3_int64 at) {
    return refuses ? SQLITE_INTERRUPT : below(f)->pMethods->xWrite(below(f), from, size, at);
}
int truncate(sqlite3_file* f, sqlite3_int64 size) {
    return refuses ? SQLITE_INTERRUPT : below(f)->pMethods->xTruncate(below(f), size);
}
int sync(sqlite3_file* f, int flags) { return refuses ? SQLITE_INTERRUPT : below(f)->pMethods->xSync(below(f), flags); }
int map_index(sqlite3_file* f, int region, int size, int extend, void volatile** at) {
    return refuses ? SQLITE_INTERRUPT : below(f)->pMethods->xShmMap(below(f), region, size, extend, at);
}
/// A page that is mapped may be on the disk: without a mapping SQLite reads it, which is refused.
int map_page(sqlite3_file* f, sqlite3_int64 at, int size, void** page) {
    if (!refuses) return below(f)->pMethods->xFetch(below(f), at, size, page);
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
    [](sqlite3_file* f, int from, int n, int flags) { return below(f)->pMethods->xShmLock(below(f), from, n, flags); },
    [](sqlite3_file*) { std::atomic_thread_fence(std::memory_order_seq_cst); },  // "unix" takes a global mutex besides
    [](sqlite3_file* f, int remove) { return below(f)->pMethods->xShmUnmap(below(f), remove); },
    &map_page,
    [](sqlite3_file* f, sqlite3_int64 at, void* page) { return below(f)->pMethods->xUnfetch(below(f), at, page); },
};

int open(sqlite3_vfs*, sqlite3_filename name, sqlite3_file* f, int flags, int* out_flags) {
    f->pMethods = nullptr;
    if (refuses) return SQLITE_INTERRUPT;
    file& opened = *static_cast<file*>(f);
    const int code = unix_files->xOpen(unix_files, name, opened.below(), flags, out_flags);
    const sqlite3_io_methods* const has = opened.below()->pMethods;
    if (!has) return code;
    opened.methods = passed_on;
    opened.methods.iVersion = std::min(passed_on.iVersion, has->iVersion);
    if (has->iVersion >= 2 && !has->xShmMap) opened.methods.xShmMap = nullptr;
    if (has->iVersion >= 3 && !has->xFetch) opened.methods.xFetch = nullptr;
    f->pMethods = &opened.methods;
    return code;
}
int remove(sqlite3_vfs*, const char* name, int sync_folder) {
    return refuses ? SQLITE_INTERRUPT : unix_files->xDelete(unix_files, name, sync_folder);
}

/// Leaves SQLite's list of VFSes when this code is unloaded.
struct registration {
    registration() noexcept {
        unix_files = sqlite3_vfs_find(nullptr);
        if (!unix_files || std::strcmp(unix_files->zName, "unix") != 0) return;
        layer = *unix_files;  // what is not about contents of files is done by the functions of "unix"
        layer.pNext = nullptr;
        layer.szOsFile = static_cast<int>(sizeof(file)) + unix_files->szOsFile;
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

no_waiting::no_waiting() noexcept { refuses = true; }
no_waiting::~no_waiting() { refuses = false; }

}  // namespace aio::inline v0::sql
