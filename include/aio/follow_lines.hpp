#pragma once
// The lines that are appended to a log, as `tail -F` gives them.
//
//     auto lines = aio::follow_lines("/var/log/syslog");
//     while (auto line = co_await lines.next()) { use(*line); }        // until it is cancelled
//     auto all = aio::follow_lines("service.log", {.from_start = true});  // what is there already, too
//
// It waits for the kernel's notices (inotify), and polls nothing.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>

#include <filesystem>
#include <string>

namespace aio::inline v0 {

/// from_start: the lines that the file has at the call are given, too.
struct follow_lines_options {
    bool from_start = false;
};

/// Gives each line that is appended to path after the call, without its ending ("\n" or "\r\n"), once that has come.
/// Never ends by itself.
///
/// A file that does not exist yet is waited for, and read from its start; its folder has to exist. When another file
/// gets the name (rotation by renaming), the old one is read to its end first, then the new one from its start; what is
/// appended to the old one later is not seen. A removed file is read to its end, too, and closed, so that its space on
/// the disk becomes free. When the file is truncated (copytruncate), it is read from its start again; if it has grown
/// beyond its old size before that is noticed, the new lines up to that size are lost, as with tail. The NULs are left
/// out that a writer which does not append leaves at the start of a truncated file. A last line without an ending is
/// given when its file is replaced, removed or truncated. path may be a link, and its target may lead through links:
/// another target is another file. A line may have any length; it is held in memory as a whole. Two renames in quick
/// succession hide the file between them. Other tasks run while a long backlog is read.
///
/// Throws, from next(): std::system_error that names the path: EISDIR for a folder, EINVAL for another thing that is no
/// regular file, ENOSPC and EMFILE with the limit of the system that was reached. ENOENT: the folder is missing, was
/// removed or renamed, or is another one now, because a name above it or a link to it was changed; the lines of the
/// file that is open come before the error. The kernel gives no notice of what another machine changes on a network
/// file system, of a file system that is mounted over a part of the path, and of folders that may not be read.
/// Revertible: a cancel ends the generator; no line is taken that was not given. Source: tail -F of the GNU coreutils.
async_generator<std::string> follow_lines(std::filesystem::path path, follow_lines_options options = {});

}  // namespace aio::inline v0
