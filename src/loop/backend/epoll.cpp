// The backend on epoll: one descriptor of the kernel's that knows all others, one system call for each look at it. A
// loop makes it at its start, and the scheduler polls it. Timeouts are in nanoseconds where the kernel can
// (epoll_pwait2).
#include "loop/backend/backend.hpp"

#include <aio/errors.hpp>

#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

namespace aio::inline v0::detail {
namespace {

class epoll_backend final : public io_backend {
public:
    epoll_backend() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        if (epoll_ < 0) throw_system_error(errno, "epoll_create1");
    }
    ~epoll_backend() override { ::close(epoll_); }
    epoll_backend(const epoll_backend&) = delete;
    epoll_backend& operator=(const epoll_backend&) = delete;

    int descriptor() const noexcept override { return epoll_; }

    void add(io_entry& entry, int fd, std::uint32_t events) override { control(EPOLL_CTL_ADD, entry, fd, events); }
    void modify(io_entry& entry, int fd, std::uint32_t events) override { control(EPOLL_CTL_MOD, entry, fd, events); }
    void remove(io_entry& entry, int fd) noexcept override {
        ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);  // may fail: the descriptor may be closed already
        for (int i = current_; i < count_; ++i) {
            if (events_[i].data.ptr == &entry) events_[i].data.ptr = nullptr;
        }
    }

    void poll(std::optional<std::chrono::nanoseconds> timeout) override {
        count_ = wait(timeout);
        for (current_ = 0; current_ < count_;) {
            const epoll_event event = events_[current_++];
            if (!event.data.ptr) continue;
            std::uint32_t came = 0;
            if (event.events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) came |= io_entry::readable;
            if (event.events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) came |= io_entry::writable;
            if (event.events & (EPOLLRDHUP | EPOLLPRI | EPOLLERR | EPOLLHUP)) came |= io_entry::ending;
            static_cast<io_entry*>(event.data.ptr)->on_events(came);
        }
        count_ = current_ = 0;
    }

private:
    void control(int operation, io_entry& entry, int fd, std::uint32_t events) {
        epoll_event event{};
        if (events & io_entry::readable) event.events |= EPOLLIN | EPOLLRDHUP;
        if (events & io_entry::writable) event.events |= EPOLLOUT;
        if (events & io_entry::edge) event.events |= EPOLLET | EPOLLPRI;
        if (events & io_entry::exclusive) event.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE;  // it goes with no other
        event.data.ptr = &entry;
        if (::epoll_ctl(epoll_, operation, fd, &event) != 0) {
            throw_system_error(errno, "epoll_ctl of descriptor " + std::to_string(fd));
        }
    }

    int wait(std::optional<std::chrono::nanoseconds> timeout) {
        int n;
        if (!timeout) {
            n = ::epoll_wait(epoll_, events_, most, -1);
        } else if (timeout->count() <= 0) {
            n = ::epoll_wait(epoll_, events_, most, 0);
        } else if (precise_) {
            const timespec span{static_cast<time_t>(timeout->count() / 1'000'000'000),
                static_cast<long>(timeout->count() % 1'000'000'000)};
            n = ::epoll_pwait2(epoll_, events_, most, &span, nullptr);
            if (n < 0 &&
                (errno == ENOSYS || errno == EPERM)) {  // Linux before 5.11, or a sandbox that does not know it
                precise_ = false;
                return wait(timeout);
            }
        } else {
            const auto most_time = std::chrono::hours(1);
            const auto rounded =
                std::chrono::ceil<std::chrono::milliseconds>(*timeout < most_time ? *timeout : most_time);
            n = ::epoll_wait(epoll_, events_, most, static_cast<int>(rounded.count()));
        }
        if (n < 0) {
            if (errno == EINTR) return 0;
            throw_system_error(errno, "epoll_wait");
        }
        return n;
    }

    static constexpr int most = 256;
    int epoll_;
    bool precise_ = true;
    int current_ = 0;
    int count_ = 0;
    epoll_event events_[most];
};

}  // namespace

std::unique_ptr<io_backend> make_epoll_backend() { return std::make_unique<epoll_backend>(); }

#ifndef AIO_IO_URING
std::unique_ptr<io_backend> make_uring_backend(bool, std::unique_ptr<io_backend>&) { return nullptr; }
#endif

}  // namespace aio::inline v0::detail
