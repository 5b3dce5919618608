#pragma once
// Hearing of changes to files and folders (inotify): for caches of configuration, build tools, uploads that arrive in a
// folder. To read what is appended to a log, take follow_lines.
//
//     auto events = aio::watch_files("config", {.recursive = true});
//     while (auto event = co_await events.next()) {
//         if (event->change == aio::file_change::removed) continue;
//         std::printf("%s has changed\n", event->path.c_str());
//     }
//
// The kernel queues what happens; nobody polls. It does not hear of changes that another machine makes on a network's
// file system, nor of writes through mmap.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>

#include <cstdint>
#include <filesystem>

namespace aio::inline v0 {

/// What has happened to a file.
enum class file_change : std::uint8_t {
    created,   // also: moved here from outside of what is watched
    modified,  // its content or its attributes; of several in a row only one is told
    removed,   // also: moved to outside of what is watched
    moved,     // from another name, which may have replaced a file at this one
    overflow,  // more has happened than the kernel keeps: look at everything
};

/// path begins with the path that is watched. from: the old path of what was moved.
struct file_event {
    std::filesystem::path path;                  // what has changed
    file_change change = file_change::modified;  // what has happened to it
    std::filesystem::path from;
};

/// recursive: the folders in the folder are watched, too, and theirs, and those that are made or moved there later;
/// links are not followed.
struct watch_files_options {
    bool recursive = false;
};

/// Gives what happens to path from the call on; in folders within it, from the first next() on.
///
/// Of a folder it tells what happens to the files and folders in it. A new folder may have got files before it is
/// watched: these are looked for, and told as created, none twice. One that is moved before that may be told as removed
/// and created; whoever applies all events to what was there at the first next() has what is there. If path itself is
/// removed or moved away, the last event says that it is removed. Of a file it tells what happens to the name: a file
/// that is renamed to it, as editors do, is created; after removed it waits for the next one. A link is such a name,
/// too: what it leads to is not watched.
///
/// After an overflow the watch goes on, and misses nothing that happens after the event. A cancel loses no event: the
/// generator ends. Throws, from next(): std::system_error that names the path (ENOENT, EACCES); ENOSPC and EMFILE name
/// the limit of the system that was reached. Folders within that may not be read are left out. Revertible.
async_generator<file_event> watch_files(std::filesystem::path path, watch_files_options options = {});

}  // namespace aio::inline v0
