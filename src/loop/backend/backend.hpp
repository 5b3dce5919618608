#pragma once
// What a loop needs of the kernel: be told when descriptors are ready, and sleep until then. epoll implements it;
// io_uring will stand beside it behind the same five functions.

#include <aio/detail/loop/descriptor.hpp>

#include <chrono>
#include <memory>
#include <optional>

namespace aio::detail {

class io_backend {
public:
    virtual ~io_backend() = default;
    virtual const char* name() const noexcept = 0;
    /// All three throw std::system_error. events are io_entry's bits.
    virtual void add(io_entry& entry, int fd, std::uint32_t events) = 0;
    virtual void modify(io_entry& entry, int fd, std::uint32_t events) = 0;
    /// After this the entry hears nothing more, even of events that had been fetched already.
    virtual void remove(io_entry& entry, int fd) noexcept = 0;
    /// Tells the entries that are ready. Waits at most timeout for the first; nullopt: for ever.
    virtual void poll(std::optional<std::chrono::nanoseconds> timeout) = 0;
};

std::unique_ptr<io_backend> make_epoll_backend();

}  // namespace aio::detail
