// Regular files on io_uring: a read, a write or an fsync is a request in the ring, and most of them are over when the
// system call that takes them comes back. A job on a thread costs the way to the thread and back. Without io_uring, and
// on a loop without a ring, it is a job all the same.

#include "io/file_state.hpp"
#include "loop/loop_state.hpp"

#ifdef AIO_IO_URING
#include "loop/backend/io_uring.hpp"
#endif

namespace aio::detail {

#ifdef AIO_IO_URING

namespace {

/// Moves all bytes, by as many requests as it takes. The kernel has the memory of a request, so a cancel waits.
class ring_file_call final : public irrevocable<ring_file_call>, public ring_request {
public:
    enum class kind : std::uint8_t { read, write, sync };
    ring_file_call(kind k, std::string what, int fd, char* data, std::size_t size, std::int64_t at) noexcept
        : kind_(k), fd_(fd), data_(data), size_(size), at_(at), what_(std::move(what)) {}

    bool start() noexcept {
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
        --task_->loop()->outstanding;
        wake();
    }
    void dropped() noexcept override {}

private:
    void ask() noexcept {
        uring_backend& ring = *task_->loop()->state().io->ring();
        const std::int64_t at = at_ < 0 ? at_ : at_ + static_cast<std::int64_t>(done_);
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
    std::string what_;
};

coro<outcome> in_ring(
    ring_file_call::kind kind, std::string what, int fd, char* data, std::size_t size, std::int64_t at) {
    ring_file_call call(kind, std::move(what), fd, data, size, at);
    co_return co_await std::move(call);
}

}  // namespace

bool loop_has_ring() noexcept { return require_loop().state().io->ring() != nullptr; }

coro<outcome> read_fully_aside(std::string what, int fd, char* into, std::size_t size, std::int64_t at) {
    if (loop_has_ring()) return in_ring(ring_file_call::kind::read, std::move(what), fd, into, size, at);
    return on_thread(std::move(what), [=]() noexcept { return read_fully(fd, into, size, at); });
}
coro<outcome> write_fully_aside(std::string what, int fd, const char* data, std::size_t size, std::int64_t at) {
    if (loop_has_ring()) {
        char* const bytes = const_cast<char*>(data);  // they are only read
        return in_ring(ring_file_call::kind::write, std::move(what), fd, bytes, size, at);
    }
    return on_thread(std::move(what), [=]() noexcept { return write_fully(fd, data, size, at); });
}
coro<outcome> sync_aside(std::string what, int fd) {
    if (loop_has_ring()) return in_ring(ring_file_call::kind::sync, std::move(what), fd, nullptr, 0, 0);
    return on_thread(std::move(what), [fd]() noexcept { return outcome{::fsync(fd) == 0 ? 0 : errno, 0}; });
}

#else

bool loop_has_ring() noexcept { return false; }

coro<outcome> read_fully_aside(std::string what, int fd, char* into, std::size_t size, std::int64_t at) {
    return on_thread(std::move(what), [=]() noexcept { return read_fully(fd, into, size, at); });
}
coro<outcome> write_fully_aside(std::string what, int fd, const char* data, std::size_t size, std::int64_t at) {
    return on_thread(std::move(what), [=]() noexcept { return write_fully(fd, data, size, at); });
}
coro<outcome> sync_aside(std::string what, int fd) {
    return on_thread(std::move(what), [fd]() noexcept { return outcome{::fsync(fd) == 0 ? 0 : errno, 0}; });
}

#endif

}  // namespace aio::detail
