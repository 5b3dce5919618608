#pragma once
// Files are opened, read and written on a few threads of their own, because the kernel cannot tell when a file is
// ready. Each call is one job, however many bytes it moves: prefer large blocks. Bytes are std::string. Nothing is
// buffered or translated, so other processes see what a completed write has written.
//
// A FIFO, a terminal, a device or a socket may have nothing to read for ever. Such a file is read and written piece by
// piece, and the loop waits for it where the kernel can tell when it is ready, so it holds no thread and can be
// cancelled at any time. Opening a FIFO does not wait for the other end: the first read waits for a writer; open_file
// for writing and write_file look every 1 to 50 ms whether there is a reader. A regular file on a device that does not
// answer (a dead network file system) holds a thread until the kernel gives up: nothing can be done about that, and a
// cancel waits for it, too.
//
//     std::string text = co_await aio::read_file("in.txt");
//     co_await aio::write_file("out.txt", text, {.atomic = true});  // the old text or the new one, never half
//     aio::async_generator<std::string> lines = aio::read_lines("large.txt");
//     while (auto line = co_await lines.next()) { use(*line); }
//     aio::file log = co_await aio::open_file("log.txt", "a");
//     co_await log.write("once more\n");
//     co_await log.aclose();
//
// An error of the system is a std::system_error that names the operation and the path. A mistake of the caller is a
// std::logic_error (an empty file object) or a std::invalid_argument (an unknown mode, a path with a NUL in it). A job
// that a thread has begun is irrevocable: a cancel waits for it, and its value is delivered. Reads of a file that is
// not regular are revertible: bytes that have arrived are kept for the next read.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/detail/base/state_ptr.hpp>
#include <aio/detail/io/bytes.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace aio::inline v0 {

class stream;

namespace detail {
class file_state;

template<>
struct references_of<file_state> {
    static void retain(file_state& state) noexcept;
    static void release(file_state& state) noexcept;
};
/// Points to the file_state, which src/io/file.cpp defines. The handle and the operations under way share it.
using file_ref = state_ptr<file_state>;
}  // namespace detail

/// An open file; movable. Several tasks may use it: their operations take turns, first come first served (read_at and
/// write_at need none). The destructor closes the file (on a thread); only aclose() reports an error of closing.
///
/// All operations of a regular file are irrevocable once a thread has begun them: a cancel waits for them. All of them
/// throw std::logic_error if the object is empty, std::system_error (EBADF) once the file is closed, and
/// std::system_error for what the system refuses (EIO, ENOSPC).
class file {
public:
    file() noexcept = default;
    explicit file(detail::file_ref state) noexcept : state_(std::move(state)) {}

    /// Gives n bytes from the current position, fewer only at the end of the file.
    coro<std::string> read(std::size_t n);
    /// Gives everything from the current position to the end of the file.
    coro<std::string> read();
    /// Fills `into` and gives how many bytes it has read: fewer only at the end of the file, or from a file that is not
    /// regular; 0 at the end. `into` must live until the read completes.
    coro<std::size_t> read_some(std::span<std::byte> into);
    /// Writes all of data, and gives its size. data must live until the write completes, unless it is a temporary that
    /// owns its bytes, like "a" + name: the operation keeps that one. In mode "a" the bytes always go to the end of the
    /// file. A cancel can stop a write half-way only if the file is not regular; later writes to that file throw
    /// std::logic_error, and it can only be closed.
    coro<std::size_t> write(std::string_view data);
    coro<std::size_t> write(std::span<const std::byte> data);
    template<detail::owned_bytes D>
    AIO_DETAIL_WRAPPER coro<std::size_t> write(D&& data) {
        return write_owned(detail::take_bytes(data));
    }
    /// Moves the position, counted from whence (SEEK_SET, SEEK_CUR, SEEK_END), and gives the new one.
    coro<std::int64_t> seek(std::int64_t offset, int whence = SEEK_SET);
    /// Gives the position.
    coro<std::int64_t> tell();
    /// Gives n bytes from offset on, fewer only at the end of the file. Neither read_at nor write_at uses or moves the
    /// position, so they take no turn: they run in parallel, and beside the other operations. Throws
    /// std::invalid_argument for a negative offset, std::system_error (ESPIPE) for what has no positions, as a FIFO.
    coro<std::string> read_at(std::int64_t offset, std::size_t n);
    /// Writes all of data at offset, and gives its size; beyond the end the file grows, with zeros between. data must
    /// live as long as for write(). In mode "a" the kernel ignores the offset: the bytes go to the end of the file.
    coro<std::size_t> write_at(std::int64_t offset, std::string_view data);
    coro<std::size_t> write_at(std::int64_t offset, std::span<const std::byte> data);
    template<detail::owned_bytes D>
    AIO_DETAIL_WRAPPER coro<std::size_t> write_at(std::int64_t offset, D&& data) {
        return write_owned_at(offset, detail::take_bytes(data));
    }
    /// Makes the file size bytes long, without moving the position; without an argument, the file ends at the position.
    /// Gives the new size.
    coro<std::int64_t> truncate(std::int64_t size);
    coro<std::int64_t> truncate();
    /// Completes when the device has stored what was written (fsync).
    coro<> sync();
    /// Closes the file, after the operations of other tasks. Irrevocable. A second call does nothing. Throws
    /// std::system_error if bytes that were written are lost.
    coro<> aclose();

    /// The path as open_file() was given it. Throws std::logic_error for an empty object.
    const std::string& path() const;
    /// False for a default-constructed or moved-from object.
    explicit operator bool() const noexcept { return state_.get() != nullptr; }

private:
    friend class stream;  // send_file
    coro<std::size_t> write_owned(std::string data);
    coro<std::size_t> write_owned_at(std::int64_t offset, std::string data);
    const detail::file_ref& ref() const;
    detail::file_ref state_;
};

/// Opens path as Python's open does: "r" reads, "w" truncates or creates, "a" appends, "x" creates a file that must not
/// exist yet; "+" adds the other direction, "b" and "t" change nothing. Throws std::invalid_argument for another mode;
/// std::system_error (ENOENT, EACCES, EISDIR). A FIFO is opened for reading at once, for writing when there is a
/// reader.
coro<file> open_file(std::filesystem::path path, std::string mode = "r");

/// Gives the whole content of path, as bytes. A cancel waits for a thread that reads a regular file, and ends the read
/// of any other file. Throws std::system_error (ENOENT, EACCES, EISDIR).
coro<std::string> read_file(std::filesystem::path path);

/// atomic: the path has the old content or the new one, never a part, whatever fails: this process, another one that
/// reads, the power. The new content is written to a temporary file in the same folder, which is stored on the disk
/// (fsync), renamed to path, and stored under that name before write_file completes. Where that cannot be done the call
/// fails, and never writes in place.
struct write_options {
    bool atomic = false;
};

/// Makes data the whole content of path. A regular file is replaced once the new content is complete, so an error
/// (ENOSPC) leaves the old content. A file that is not this process's alone (a device, a link, a file of another owner)
/// is written in place.
///
/// With .atomic, a link is followed, and the file that it leads to is replaced; of several hard links only this name
/// gets the new content. The permissions stay, and owner and group where this process may set them; access lists and
/// extended attributes do not. The temporary file is removed if anything fails; a process that is killed leaves it
/// behind (.aio-*.tmp). Throws std::system_error: EACCES if the old file may not be written or the folder takes no new
/// file, EISDIR, EINVAL for what is no regular file, ENOSPC.
coro<> write_file(std::filesystem::path path, std::string data, write_options options = {});

/// Gives the lines of path without their ending ("\n" or "\r\n"), however long they are; the file is read in large
/// blocks, and a line that nobody moves away lends its memory to the next one. A cancel is delivered between two
/// blocks. Errors are thrown by next(), an error of opening by the first next().
async_generator<std::string> read_lines(std::filesystem::path path);

/// Gives the lines of path as read_lines() does, but as views of the block: nothing is copied, and a view is valid
/// until the following next().
async_generator<std::string_view> read_line_views(std::filesystem::path path);

}  // namespace aio::inline v0
