#include "http/websocket/frames.hpp"

#include <wslay/wslay.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include <sys/random.h>

namespace aio::inline v0::detail {

namespace {

constexpr std::size_t most_of_a_head = 14;

struct context_deleter {
    void operator()(wslay_frame_context* context) const noexcept { wslay_frame_context_free(context); }
};
using context_ptr = std::unique_ptr<wslay_frame_context, context_deleter>;

context_ptr make_context(const wslay_frame_callbacks& callbacks, void* user_data) {
    wslay_frame_context_ptr context = nullptr;
    if (wslay_frame_context_init(&context, &callbacks, user_data) != 0) throw std::bad_alloc();
    return context_ptr(context);
}

/// Makes frames. It is between two frames whenever nobody uses it.
struct writer {
    context_ptr context;
    std::string* out = nullptr;  // it has room, so nothing here throws

    static ssize_t send(const std::uint8_t* data, std::size_t size, int, void* self) {
        static_cast<writer*>(self)->out->append(reinterpret_cast<const char*>(data), size);
        return static_cast<ssize_t>(size);
    }
    // Masks must not be foreseen by those who choose the text (RFC 6455, 5.3).
    static int make_mask(std::uint8_t* into, std::size_t size, void*) {
        ssize_t n;
        do { n = ::getrandom(into, size, 0); } while (n < 0 && errno == EINTR);
        return n == static_cast<ssize_t>(size) ? 0 : -1;
    }
};

// wslay 1.1.1 masks every payload after a frame that was masked, without saying so in the head: a context is either for
// clients or for servers.
writer& writer_of_this_thread(bool masked) {
    thread_local std::array<writer, 2> both;
    writer& w = both[masked ? 1 : 0];
    if (!w.context) w.context = make_context({&writer::send, nullptr, &writer::make_mask}, &w);
    return w;
}

}  // namespace

std::string websocket_frame(std::uint8_t opcode, std::string_view payload, bool masked) {
    std::string frame;
    frame.reserve(payload.size() + most_of_a_head);
    writer& w = writer_of_this_thread(masked);
    w.out = &frame;
    wslay_frame_iocb part{};
    part.fin = 1;
    part.opcode = opcode;
    part.mask = masked ? 1 : 0;
    part.payload_length = payload.size();
    part.data = reinterpret_cast<const std::uint8_t*>(payload.data());
    part.data_length = payload.size();
    const ssize_t n = wslay_frame_send(w.context.get(), &part);
    if (n != static_cast<ssize_t>(payload.size())) {
        w.context.reset();  // it is in the middle of a frame
        throw std::system_error(errno, std::generic_category(), "a WebSocket's frame could not be made");
    }
    return frame;
}

struct websocket_reading {
    context_ptr context;
    std::string_view input;
    std::uint64_t inside = 0;      // bytes that wslay has taken and not given yet
    std::uint64_t frame_left = 0;  // bytes of the frame's payload that are still to come
    bool broken = false;

    bool between_frames() const noexcept { return inside == 0 && frame_left == 0 && !broken; }

    static ssize_t receive(std::uint8_t* into, std::size_t size, int, void* self) {
        websocket_reading& r = *static_cast<websocket_reading*>(self);
        const std::size_t n = std::min(size, r.input.size());
        if (n == 0) return -1;
        std::memcpy(into, r.input.data(), n);
        r.input.remove_prefix(n);
        r.inside += n;
        return static_cast<ssize_t>(n);
    }
};

namespace {

// One that is between two frames, so that a message need not allocate it.
std::unique_ptr<websocket_reading>& spare() {
    thread_local std::unique_ptr<websocket_reading> one;
    return one;
}

std::uint64_t size_of_head(const wslay_frame_iocb& part) noexcept {
    std::uint64_t size = part.mask ? 6 : 2;
    if (part.payload_length > 125) size += part.payload_length > 0xffff ? 8 : 2;
    return size;
}

}  // namespace

void websocket_reading_back::operator()(websocket_reading* reading) const noexcept {
    std::unique_ptr<websocket_reading> owner(reading);
    if (reading->between_frames() && !spare()) spare() = std::move(owner);
}

void websocket_reader::let_go() noexcept {
    if (reading_ && reading_->between_frames()) reading_.reset();
}

websocket_read websocket_reader::next(std::string_view& input, websocket_chunk& chunk) {
    if (!reading_) {
        if (input.empty()) return websocket_read::need_more;
        std::unique_ptr<websocket_reading> reading = std::move(spare());
        if (!reading) {
            reading = std::make_unique<websocket_reading>();
            reading->context = make_context({nullptr, &websocket_reading::receive, nullptr}, reading.get());
        }
        reading_.reset(reading.release());
    }
    websocket_reading& r = *reading_;
    r.input = input;
    wslay_frame_iocb part{};
    const ssize_t n = wslay_frame_recv(r.context.get(), &part);
    input = std::exchange(r.input, {});
    if (n == WSLAY_ERR_WANT_READ) {
        if (r.between_frames()) reading_.reset();
        return websocket_read::need_more;
    }
    if (n < 0) {
        r.broken = true;
        return websocket_read::malformed;
    }
    chunk.opcode = part.opcode;
    chunk.reserved_bits = part.rsv;
    chunk.final_frame = part.fin != 0;
    chunk.masked = part.mask != 0;
    chunk.length = part.payload_length;
    chunk.data = {reinterpret_cast<const char*>(part.data), part.data_length};
    chunk.begins = r.frame_left == 0;
    if (chunk.begins) {
        r.frame_left = part.payload_length;
        r.inside -= size_of_head(part);
    }
    r.frame_left -= part.data_length;
    r.inside -= part.data_length;
    chunk.ends = r.frame_left == 0;
    return websocket_read::chunk;
}

}  // namespace aio::inline v0::detail
