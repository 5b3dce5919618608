#pragma once
// What is in a folder, and in the folders within. Source: Python's os.walk and os.scandir.
//
//     auto entries = aio::walk("src");
//     while (auto entry = co_await entries.next()) {
//         if (entry->path.filename() == ".git") entry->descend = false;   // its content is left out
//         if (entry->type == std::filesystem::file_type::regular) { use(entry->path); }
//     }
//     for (const auto& entry : co_await aio::list_directory("src")) { use(entry.path); }
//
// A thread reads the folders, in blocks of 1,000 entries, so a folder of any size does not stop the loop.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>

#include <filesystem>
#include <system_error>
#include <vector>

namespace aio::inline v0 {

/// path begins with the path that was asked for. type: a link is a symlink, whatever it leads to. descend: false keeps
/// walk() from what is in this folder; set before the following next(). error: only with .give_errors.
struct directory_entry {
    std::filesystem::path path;  // the entry's path
    std::filesystem::file_type type = std::filesystem::file_type::unknown;
    bool descend = true;
    std::error_code error;
};

/// follow_links: links to folders are walked like folders, each folder once, so a loop of links ends. give_errors: a
/// folder below path that cannot be read is given a second time, with its error, and the walk goes on; otherwise it
/// ends with the error. If path itself is missing or cannot be read, next() throws in both cases.
struct walk_options {
    bool follow_links = false;
    bool give_errors = false;
};

/// Gives everything below path, a folder before what is in it, in no particular order otherwise; not path itself. What
/// is removed meanwhile is left out. Throws, from next(): std::system_error that names the folder. A cancel waits for
/// the block that a thread reads.
async_generator<directory_entry> walk(std::filesystem::path path, walk_options options = {});

/// Gives what is in a folder, not below.
coro<std::vector<directory_entry>> list_directory(std::filesystem::path path);

}  // namespace aio::inline v0
