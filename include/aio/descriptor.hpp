#pragma once
// The owner of a file descriptor: it closes the descriptor unless that is given away. What hands descriptors over, and
// what takes them, says so by this type.
//
//     aio::descriptor listening(number_from_elsewhere());
//     if (listening) {
//         std::printf("descriptor %d\n", listening.get());
//         aio::server v = co_await aio::start_server(serve_client, std::move(listening));
//     }

#include <aio/detail/base/platform.hpp>

#include <utility>

namespace aio::inline v0 {

/// Movable; empty if it is default-constructed, moved from, or made of a negative number, as failed calls give.
class descriptor {
public:
    descriptor() noexcept = default;
    /// Takes the number over: it is closed with this object.
    explicit descriptor(int fd) noexcept : fd_(fd < 0 ? -1 : fd) {}
    descriptor(descriptor&& other) noexcept : fd_(other.release()) {}
    descriptor& operator=(descriptor&& other) noexcept {
        descriptor old(std::exchange(fd_, other.release()));
        return *this;
    }
    ~descriptor() {
        if (fd_ >= 0) close_now();
    }

    /// The number, which stays this object's; -1 if it is empty.
    int get() const noexcept { return fd_; }
    /// Gives the number away.
    [[nodiscard("somebody has to close it")]] int release() noexcept { return std::exchange(fd_, -1); }
    explicit operator bool() const noexcept { return fd_ >= 0; }  // False if it is empty.

private:
    void close_now() noexcept;
    int fd_ = -1;
};

}  // namespace aio::inline v0
