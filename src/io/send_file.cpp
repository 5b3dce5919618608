// stream::send_file.
//
// The file is sent in parts, all in one place of the line of writers (write_operation::holder). Where the kernel can
// copy to the transport, a part is a sendfile(2) of the loop's thread. That call waits for the disk where the file is
// not in memory, and cannot be told not to; so the loop first asks for the first and the last byte of the part without
// waiting (RWF_NOWAIT), and where they are not there a thread of the pool reads the part, and with it the kernel
// fetches what follows. Otherwise a thread reads the part into a buffer, and the buffer is written.

#include "io/file_state.hpp"
#include "io/place_in_line.hpp"

#include <aio/sleep.hpp>
#include <aio/stream.hpp>

#include <chrono>
#include <memory>

#include <sys/uio.h>

namespace aio::inline v0 {
namespace detail {
namespace {

constexpr int parts_in_a_row = 4;  // then other tasks have their turn

/// What is known of a part without waiting for the disk: 0 if it is in memory, EAGAIN if not, or why nothing is known.
int look_for(int fd, std::int64_t offset, std::size_t size) noexcept {
    char byte = 0;
    iovec one{&byte, 1};
    for (const std::int64_t at : {offset, offset + static_cast<std::int64_t>(size) - 1}) {
        ssize_t n;
        do { n = ::preadv2(fd, &one, 1, at, RWF_NOWAIT); } while (n < 0 && errno == EINTR);
        if (n < 0) return errno;
    }
    return 0;
}

/// Has the kernel read a part from the disk.
void fetch(int fd, std::int64_t offset, std::size_t size) noexcept {
    char piece[16 * 1024];
    for (std::size_t done = 0; done < size;) {
        const outcome o =
            read_fully(fd, piece, std::min(sizeof piece, size - done), offset + static_cast<std::int64_t>(done));
        if (o.error != 0 || o.count == 0) return;
        done += static_cast<std::size_t>(o.count);
    }
}

coro<std::uint64_t> send(stream_ptr stream, file_ref file, std::int64_t offset, std::uint64_t count) {
    const auto open = co_await file->open.shared();
    require_open(*file.get(), "send");
    place_in_line place(stream);
    co_await place.first;
    bool kernel_copies = stream->sends_files() && !file->in_pieces;
    std::unique_ptr<char[]> block;
    for (int parts = 1; place.sent < count; ++parts) {
        const std::int64_t at = offset + static_cast<std::int64_t>(place.sent);
        const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(block_size, count - place.sent));
        if (parts % parts_in_a_row == 0) co_await sleep(std::chrono::seconds(0));
        if (const int known = kernel_copies ? look_for(file->fd, at, size) : 0; known == EAGAIN) {
            auto job = [=, fd = file->fd]() noexcept { fetch(fd, at, size); };
            co_await on_thread("read " + file->path, std::move(job));
        } else if (known != 0) {
            kernel_copies = false;
        }
        if (kernel_copies) {
            file_part part{file->fd, at, size};
            write_operation copy(stream, write_operation::holder(), part);
            co_await copy;
            place.sent += copy.sent();
            kernel_copies = !part.refused;
            if (part.ended) break;
            continue;
        }
        if (!block) block.reset(new char[block_size]);
        auto job = [=, fd = file->fd, into = block.get()]() noexcept { return read_fully(fd, into, size, at); };
        const outcome read = co_await on_thread("read " + file->path, std::move(job));
        if (read.error != 0) throw_system_error(read.error, "read " + file->path);
        const auto got = static_cast<std::size_t>(read.count);
        write_operation copy(stream, write_operation::holder(), block.get(), got);
        co_await copy;
        place.sent += got;
        if (got < size) break;
    }
    place.finished = true;
    co_return place.sent;
}

}  // namespace
}  // namespace detail

coro<std::uint64_t> stream::send_file(const file& f, std::int64_t offset, std::optional<std::uint64_t> count) {
    if (!state_) detail::throw_stream_misuse(detail::stream_misuse::no_stream, nullptr);
    if (offset < 0) { throw std::invalid_argument("send_file: the offset " + std::to_string(offset) + " is negative"); }
    return detail::send(state_, f.ref(), offset, count.value_or(std::uint64_t(-1)));
}

}  // namespace aio::inline v0
