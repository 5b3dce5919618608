#pragma once
// Frames of WebSockets, as wslay makes and reads them. wslay's contexts have buffers of 4 KiB, so no WebSocket keeps
// one: one context of the thread makes all frames, and a WebSocket borrows one to read only while bytes of an
// incomplete frame lie in it.
//
// Of wslay this uses its frames alone. Its messages (wslay_event) copy what is sent, allocate what a peer announces,
// and answer pings without a bound, which is why the rules of messages are in state.cpp.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct wslay_frame_context;

namespace aio::inline v0::detail {

namespace websocket_opcode {
inline constexpr std::uint8_t continuation = 0, text = 1, bytes = 2, close = 8, ping = 9, pong = 10;
}

/// Gives a whole message or control frame. Throws std::bad_alloc.
std::string websocket_frame(std::uint8_t opcode, std::string_view payload, bool masked);

/// A part of a frame's payload, unmasked, or an empty frame. The data is valid until the next call.
struct websocket_chunk {
    std::uint8_t opcode = 0;
    std::uint8_t reserved_bits = 0;
    bool final_frame = false;
    bool masked = false;
    bool begins = false;  // it is the first part of its frame
    bool ends = false;
    std::uint64_t length = 0;  // of the frame's payload
    std::string_view data;
};

enum class websocket_read : std::uint8_t { chunk, need_more, malformed };

struct websocket_reading;  // a context, and what it reads from
struct websocket_reading_back {
    void operator()(websocket_reading* reading) const noexcept;  // gives it back to the thread
};

class websocket_reader {
public:
    /// Takes the next part out of input, whose front is removed. Throws std::bad_alloc.
    websocket_read next(std::string_view& input, websocket_chunk& chunk);
    /// The last chunk has been used: what is not needed between frames goes back.
    void let_go() noexcept;
    /// No byte of a frame is kept: the next one begins a frame.
    bool between_frames() const noexcept { return reading_ == nullptr; }

private:
    std::unique_ptr<websocket_reading, websocket_reading_back> reading_;
};

}  // namespace aio::inline v0::detail
