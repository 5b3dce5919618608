#pragma once
// For what writes to a stream in several parts between which nobody else may write: send_file(), send_descriptors().

#include <aio/detail/io/stream_state.hpp>

#include <cstddef>
#include <cstdint>

namespace aio::inline v0::detail {

/// The place in the line of writers. If it is left before everything was sent, the peer has a part that nothing may
/// follow.
class place_in_line {
public:
    explicit place_in_line(const stream_ptr& stream) noexcept : first(stream, write_operation::holder()) {}
    ~place_in_line() { first.leave(finished ? 0 : static_cast<std::size_t>(sent)); }
    place_in_line(const place_in_line&) = delete;
    place_in_line& operator=(const place_in_line&) = delete;

    write_operation first;
    std::uint64_t sent = 0;
    bool finished = false;
};

}  // namespace aio::inline v0::detail
