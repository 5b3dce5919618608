// Regular files on io_uring: a read, a write or an fsync is a request in the ring, and most of them are over when the
// system call that takes them comes back. A job on a thread costs the way to the thread and back. Without io_uring, and
// on a loop without a ring, it is a job all the same.

#include "io/file_state.hpp"
#include "loop/loop_state.hpp"

#ifdef AIO_IO_URING
#include "loop/backend/io_uring.hpp"
#endif

#include <fcntl.h>

namespace aio::inline v0::detail {

#ifdef AIO_IO_URING

namespace {

/// Moves all bytes, by as many requests as it takes. The kernel has the memory of a request, so a cancel waits.
class ring_file_call final : public irrevocable<ring_file_call>, public ring_request {
public:
    enum class kind : std::uint8_t { read, write, sync };
    ring_file_call(kind k, std::string what, int fd, char* data, std::size_t size, std::int64_t at) noexcept
        : kind_(k), fd_(fd), data_(data), size_(size), at_(at), what_(std::move(what)) {}

    bool start() noexcept {
        if (at_ < 0 && kind_ != kind::sync) {
            moves_position_ = true;
            at_ = ::lseek(fd_, 0, SEEK_CUR);
            if (at_ < 0) error_ = errno;
            if (at_ < 0) return true;
        }
        ++task_->loop()->outstanding;
        ask();
        return false;
    }
    bool unpark() noexcept { return false; }
    void revert() noexcept {}
    outcome finish() noexcept { return {error_, static_cast<std::int64_t>(done_)}; }
    void describe(std::string& out) const override { out += what_; }
    void ended(int result, std::uint32_t) noexcept override {
        if (result > 0) done_ += static_cast<std::size_t>(result);
        if (result == -EINTR || result == -EAGAIN || (result > 0 && done_ < size_)) return ask();
        if (result < 0) error_ = -result;
        if (moves_position_) move_position();
        --task_->loop()->outstanding;
        wake();
    }
    void dropped() noexcept override {}

private:
    // The file's own position is read and set here, because the kernel (6.18) forgets it where a request ends early.
    void move_position() noexcept {
        const bool appends = kind_ == kind::write && (::fcntl(fd_, F_GETFL) & O_APPEND) != 0;
        ::lseek(fd_, appends ? 0 : at_ + static_cast<std::int64_t>(done_), appends ? SEEK_END : SEEK_SET);
    }
    void ask() noexcept {
        uring_backend& ring = *task_->loop()->state().io->ring();
        const std::int64_t at = at_ + static_cast<std::int64_t>(done_);
        const std::size_t size = std::min(size_ - done_, most_at_once);
        switch (kind_) {
            case kind::read: return ring.read(*this, fd_, data_ + done_, size, at);
            case kind::write: return ring.write(*this, fd_, data_ + done_, size, at);
            default: return ring.sync(*this, fd_);
        }
    }
    kind kind_;
    int fd_;
    int error_ = 0;
    char* data_;
    std::size_t size_;
    std::int64_t at_;
    std::size_t done_ = 0;
    bool moves_position_ = false;
    std::string what_;
};

coro<outcome> in_ring(ring_file_call::kind kind, const file_state& file, const char* operation, char* data,
    std::size_t size, std::int64_t at) {
    ring_file_call call(kind, operation + (" " + file.path), file.fd, data, size, at);
    co_return co_await std::move(call);
}

}  // namespace

#endif

namespace {

bool by_ring(const file_state& file) noexcept { return !file.in_pieces && require_loop().state().io->ring(); }

}  // namespace

bool read_by_ring(const file_state& file, std::size_t size) noexcept {
    return size <= (std::size_t{1} << 20) && by_ring(file);
}

coro<outcome> read_fully_aside(
    const file_state& file, const char* operation, char* into, std::size_t size, std::int64_t at) {
#ifdef AIO_IO_URING
    if (by_ring(file)) return in_ring(ring_file_call::kind::read, file, operation, into, size, at);
#endif
    return on_thread(
        operation + (" " + file.path), [=, fd = file.fd]() noexcept { return read_fully(fd, into, size, at); });
}

coro<outcome> write_fully_aside(
    const file_state& file, const char* operation, const char* data, std::size_t size, std::int64_t at) {
#ifdef AIO_IO_URING
    if (by_ring(file)) {
        char* const bytes = const_cast<char*>(data);  // they are only read
        return in_ring(ring_file_call::kind::write, file, operation, bytes, size, at);
    }
#endif
    return on_thread(
        operation + (" " + file.path), [=, fd = file.fd]() noexcept { return write_fully(fd, data, size, at); });
}

coro<outcome> sync_aside(const file_state& file, const char* operation) {
#ifdef AIO_IO_URING
    if (by_ring(file)) return in_ring(ring_file_call::kind::sync, file, operation, nullptr, 0, 0);
#endif
    return on_thread(
        operation + (" " + file.path), [fd = file.fd]() noexcept { return outcome{::fsync(fd) == 0 ? 0 : errno, 0}; });
}

}  // namespace aio::inline v0::detail
