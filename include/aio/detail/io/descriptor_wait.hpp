#pragma once
// Waiting for descriptors that this library does not read or write itself. fd_watch: those of libcurl and libpq, which
// say what they want to hear. fd_ready: those of users (wait_readable and wait_writable of aio/lowlevel.hpp), FIFOs,
// terminals, timers of the kernel.

#include <aio/detail/loop/descriptor.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/detail/task/operation.hpp>

#include <cstdint>
#include <string>

namespace aio::inline v0::detail {

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

struct descriptor_entry;

/// Waits until a descriptor that somebody else owns is readable or writable. wait_readable says the rest.
class [[nodiscard("co_await it")]] fd_ready final : public revertible<fd_ready> {
public:
    /// events: io_entry::readable or io_entry::writable.
    fd_ready(int fd, std::uint32_t events) noexcept : fd_(fd), events_(events) {}
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept {}
    void finish();
    void describe(std::string& out) const override;

private:
    friend struct descriptor_entry;
    int direction() const noexcept { return events_ == io_entry::writable; }
    bool end(int error) noexcept {  // 0: it is ready
        error_ = error;
        return true;
    }
    int fd_;
    std::uint32_t events_;
    int error_ = 0;
    descriptor_entry* entry_ = nullptr;  // while it waits there
};

void notify_closing(int fd) noexcept;

}  // namespace aio::inline v0::detail
