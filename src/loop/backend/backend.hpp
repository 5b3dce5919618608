#pragma once
// What a loop needs of the kernel: be told when descriptors are ready, hand over requests, and sleep until something
// comes. epoll implements it, and so does io_uring, with an epoll inside.
//
// Readiness suits what tries a system call first: streams, and descriptors that other libraries own. A request suits
// what a kernel can do by itself: with io_uring the kernel owns it until it completes. A backend that knows only of
// readiness carries requests out as well (submit() below): it tries, and tries again when the descriptor is ready.

#include <aio/detail/loop/descriptor.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

struct sockaddr;

namespace aio::inline v0::detail {

/// A request to the kernel. From submit() until completed(), the request and what it points to belong to the backend,
/// and must stay where they are.
class io_request {
public:
    /// What has come of it: what the call gives, or an errno below 0. -ECANCELED: cancel() has ended it, or the
    /// descriptor is being closed. Called from poll(), and by a source that is detached.
    virtual void completed(int result) noexcept = 0;
    io_request(const io_request&) = delete;
    io_request& operator=(const io_request&) = delete;

protected:
    io_request() = default;
    ~io_request() = default;
    /// To accept a connection at a listening socket; gives its descriptor. The peer's address is written to where.
    void set_accept(io_source& listening, sockaddr* where, unsigned* size) noexcept {
        source_ = &listening;
        address_ = where;
        length_ = size;
    }

private:
    friend class io_backend;
    std::optional<int> attempt() noexcept;
    void attempt_again() noexcept;
    void park() noexcept;
    io_source* source_ = nullptr;
    sockaddr* address_ = nullptr;
    unsigned* length_ = nullptr;  // room for the address, and its size
};

class uring_backend;

class io_backend {
public:
    virtual ~io_backend() = default;
    /// Itself, if it is io_uring.
    virtual uring_backend* ring() noexcept { return nullptr; }
    /// Its own descriptor, which is readable while poll() has something to tell.
    virtual int descriptor() const noexcept = 0;

    /// All three throw std::system_error. events are io_entry's bits.
    virtual void add(io_entry& entry, int fd, std::uint32_t events) = 0;
    virtual void modify(io_entry& entry, int fd, std::uint32_t events) = 0;
    /// After this the entry hears nothing more, even of events that had been fetched already.
    virtual void remove(io_entry& entry, int fd) noexcept = 0;

    /// Begins a request, whose descriptor is attached to a source of this loop. Gives the result if there is one at
    /// once; completed() is not called then. A request that is under way counts as outstanding.
    virtual std::optional<int> submit(io_request& r) noexcept;
    /// A request that is under way is not wanted any more. True: the backend has forgotten it. False: the kernel still
    /// has it, and completed() will be called, with -ECANCELED or with what the kernel has done meanwhile.
    virtual bool cancel(io_request& r) noexcept;

    /// Tells the entries that are ready, and completes requests. Waits at most timeout for the first; nullopt: for
    /// ever.
    virtual void poll(std::optional<std::chrono::nanoseconds> timeout) = 0;
};

std::unique_ptr<io_backend> make_epoll_backend();
/// Puts a ring around readiness, which knows descriptors already, or around a new epoll if that is null. Null if this
/// build, the kernel or the process's limits have no io_uring: readiness is untouched then. one_thread: no other thread
/// than this one will use it. Throws std::bad_alloc and std::system_error.
std::unique_ptr<io_backend> make_uring_backend(bool one_thread, std::unique_ptr<io_backend>& readiness);

}  // namespace aio::inline v0::detail
