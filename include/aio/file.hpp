#pragma once
// Files: opened, read and written on a few threads of their own, because the kernel has no readiness for them. Each
// call is one job, however much it moves: prefer large blocks. Bytes are std::string; nothing is buffered or
// translated, so what a write has completed other processes see.
//
// A FIFO, a terminal, a device or a socket may have nothing to read for ever. Such a file is read and written piece by
// piece, and the loop waits for it where the kernel can tell when it is ready, so it holds no thread and can be
// cancelled at any time. Opening a FIFO does not wait for the other end: the first read waits for a writer; open_file
// for writing and write_file look every 1 to 50 ms whether somebody reads. A regular file on a device that does not
// answer (a dead network file system) holds a thread until the kernel gives up: nothing can be done about that, and a
// cancel waits for it, too.
//
//     std::string text = co_await aio::read_file("in.txt");
//     co_await aio::write_file("out.txt", text);                 // all of it, or the old content stays
//     aio::async_generator<std::string> lines = aio::read_lines("large.txt");
//     while (auto line = co_await lines.next()) { use(*line); }
//     aio::file log = co_await aio::open_file("log.txt", "a");
//     co_await log.write("once more\n");
//     co_await log.aclose();
//
// Errors are std::system_errors that name the operation and the path; an empty file object or a mode that is none are
// the caller's mistakes, and so is a path with a NUL in it (std::invalid_argument). A job that a thread has begun is
// irrevocable: a cancel waits for it, its value is delivered (semantics 15b). Reads of what is no regular file are
// revertible: what has come is kept for the next read.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/detail/io/bytes.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace aio {

namespace detail {
class file_state;

/// The state, held without its definition; shared with the operations under way.
class file_ref {
public:
    file_ref() noexcept = default;
    explicit file_ref(file_state* state) noexcept;
    file_ref(const file_ref& other) noexcept : file_ref(other.state_) {}
    file_ref(file_ref&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    file_ref& operator=(file_ref other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~file_ref();
    file_state* get() const noexcept { return state_; }
    file_state* operator->() const noexcept { return state_; }

private:
    file_state* state_ = nullptr;
};
}  // namespace detail

/// An open file; movable. Several tasks may use it: their operations take turns, first come first served. The
/// destructor closes it (on a thread); only aclose() tells of an error in that. All operations throw std::logic_error
/// if the object is empty, and std::system_error (EBADF) once it is closed.
class file {
public:
    file() noexcept = default;
    explicit file(detail::file_ref state) noexcept : state_(std::move(state)) {}

    /// n bytes from the current position; fewer only at the end of the file.
    coro<std::string> read(std::size_t n);
    /// Everything up to the end of the file.
    coro<std::string> read();
    /// One read(2): as many bytes as it gives, at least one; 0 at the end. `into` must live until then.
    coro<std::size_t> read_some(std::span<std::byte> into);
    /// All of data, which must live until then, unless it is a temporary that owns its bytes, like "a" + name: that one
    /// is kept. Gives its size. In mode "a" always at the end of the file. One that is cancelled half-way, which only
    /// happens with what is no regular file, leaves a file that can only be closed, and later writes say so.
    coro<std::size_t> write(std::string_view data);
    coro<std::size_t> write(std::span<const std::byte> data);
    template<detail::owned_bytes D>
    AIO_DETAIL_WRAPPER coro<std::size_t> write(D&& data) {
        return write_owned(detail::take_bytes(data));
    }
    /// Moves the position, counted from whence (SEEK_SET, SEEK_CUR, SEEK_END), and gives it.
    coro<std::int64_t> seek(std::int64_t offset, int whence = SEEK_SET);
    /// The position.
    coro<std::int64_t> tell();
    /// Makes the file size bytes long, without moving the position; without an argument it ends at the position. Gives
    /// the size.
    coro<std::int64_t> truncate(std::int64_t size);
    coro<std::int64_t> truncate();
    /// Returns when the device has it: fsync.
    coro<> sync();
    /// Closes it, after the operations of other tasks. Harmless the second time. std::system_error if what was written
    /// is lost.
    coro<> aclose();

    const std::string& path() const;
    /// False for a default-constructed or moved-from one.
    explicit operator bool() const noexcept { return state_.get() != nullptr; }

private:
    coro<std::size_t> write_owned(std::string data);
    const detail::file_ref& ref() const;
    detail::file_ref state_;
};

/// Opens path as Python's open does: "r" reads, "w" truncates or creates, "a" appends, "x" creates and must not exist;
/// "+" adds the other direction, "b" and "t" change nothing. std::invalid_argument for another mode; std::system_error
/// (ENOENT, EACCES, EISDIR). A FIFO is opened for reading at once, for writing when somebody reads from it.
coro<file> open_file(std::filesystem::path path, std::string mode = "r");

/// The whole content.
coro<std::string> read_file(std::filesystem::path path);

/// Makes data the whole content of path. A regular file is replaced when the new content is complete, so that an error
/// (ENOSPC) leaves the old one; what is not one of ours alone (a device, a link, another owner) is written in place.
coro<> write_file(std::filesystem::path path, std::string data);

/// The lines of path without their ending ("\n" or "\r\n"), whatever their length; read in large blocks. An error is
/// thrown by next(), that of opening by the first one.
async_generator<std::string> read_lines(std::filesystem::path path);

}  // namespace aio
