#pragma once
// Transports for descriptors that this process shares with others, so that O_NONBLOCK cannot be set, or that the kernel
// cannot wait for. Each has one direction. standard_streams.cpp uses them.

#include "io/transport.hpp"

#include <cstddef>

namespace aio::inline v0::detail {

/// Both belong to the running loop, take the descriptor over, and close it if they throw.

/// For what can be polled: sockets, pipes, terminals. Throws std::system_error: EPERM if it cannot.
transport_ptr make_shared_transport(int fd, direction d);
/// For files: reads and writes on a thread. left_over gets what a thread has read when the transport is gone; on that
/// thread, or on the loop's.
using left_over = void (*)(const char* data, std::size_t size) noexcept;
transport_ptr make_blocking_transport(int fd, direction d, left_over keep);

}  // namespace aio::inline v0::detail
