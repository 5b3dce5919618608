#pragma once
// Waiting for descriptors that other libraries own: libcurl's, libpq's, timers of the kernel.

#include <aio/detail/loop/descriptor.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/detail/task/operation.hpp>

#include <cstdint>
#include <string>

namespace aio::detail {

/// A descriptor that another library owns (libcurl, libpq): level-triggered, calls fn(events) from the loop.
class fd_watch final : public io_entry {
public:
    explicit fd_watch(function<void(std::uint32_t events)> fn) noexcept
        : fn_(static_cast<function<void(std::uint32_t)>&&>(fn)) {}
    ~fd_watch() { stop(); }
    /// Watches fd of the running loop for events (0: for nothing). Throws std::system_error.
    void watch(int fd, std::uint32_t events);
    void stop() noexcept;

private:
    void on_events(std::uint32_t events) noexcept override;
    function<void(std::uint32_t)> fn_;
    int fd_ = -1;
    std::uint32_t events_ = 0;
    loop_core* loop_ = nullptr;
};

/// Waits until a descriptor that another library owns is readable or writable. Revertible. Gives the events that came.
class [[nodiscard("co_await it")]] fd_ready final : public revertible<fd_ready> {
public:
    fd_ready(int fd, std::uint32_t events) noexcept;
    fd_ready(fd_ready&& other) noexcept : fd_ready(other.fd_, other.events_) {}
    bool start() noexcept;
    void unpark() noexcept { watch_.stop(); }
    void revert() noexcept {}
    std::uint32_t finish();
    void describe(std::string& out) const override;

private:
    int fd_;
    std::uint32_t events_;
    std::uint32_t came_ = 0;
    int error_ = 0;
    fd_watch watch_;
};

}  // namespace aio::detail
