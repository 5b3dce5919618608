#pragma once
// Descriptors that unix sockets pass along with bytes (SCM_RIGHTS): the two system calls.

#include "io/transport.hpp"

#include <cstddef>
#include <vector>

#include <sys/types.h>

namespace aio::inline v0::detail {

/// How many descriptors Linux passes with one message.
constexpr std::size_t most_passed_at_once = 253;

/// recv(), which keeps the descriptors that come along. It allocates nothing: passed.all has room for passed.most.
ssize_t receive_passed(int fd, void* into, std::size_t size, passed_descriptors& passed) noexcept;
/// send(), with at most most_passed_at_once descriptors.
ssize_t send_passing(int fd, const void* data, std::size_t size, const std::vector<int>& descriptors) noexcept;
/// Gives what has come. Throws std::system_error if some are lost, and then the others stay for the next call.
std::vector<descriptor> take_passed(passed_descriptors& passed, const std::string& peer);

}  // namespace aio::inline v0::detail
