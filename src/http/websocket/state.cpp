// The rules of messages (RFC 6455, 5.4 to 5.6 and 7), over the frames that wslay reads. wslay checks the form of
// frames: shortest lengths, and control frames that are short and whole. Reserved bits, opcodes, masks, UTF-8, the
// order of fragments, the size of messages and the codes of a close are checked here.

#include "http/websocket/state.hpp"

#include <algorithm>

namespace aio::inline v0::detail {

namespace {

constexpr std::size_t most_reserved = 64 * 1024;  // before the bytes of a message have come

}  // namespace

bool websocket_code_may_be_sent(int code) noexcept {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

websocket_state::websocket_state(stream connection, const websocket_settings& settings, std::string subprotocol)
    : io(std::move(connection)), settings_(settings), subprotocol_(std::move(subprotocol)), peer_(io.peer()) {}

websocket_state::~websocket_state() {
    deadline_.cancel();
    keep_alive_.cancel();
}

// ---- receiving ----

websocket_step websocket_state::advance() {
    try {
        while (!ended()) {
            websocket_chunk chunk;
            switch (reader_.next(rest_, chunk)) {
                case websocket_read::need_more: free_what_is_idle(); return websocket_step::need_more;
                case websocket_read::malformed: fail(1002, "a frame is malformed"); break;
                case websocket_read::chunk:
                    if (take_chunk(chunk)) return websocket_step::message;
            }
        }
    } catch (...) {  // no memory
        cut("there was no memory for what has come");
        settle();
        throw;
    }
    return websocket_step::ended;
}

// True if a message is complete.
bool websocket_state::take_chunk(const websocket_chunk& chunk) {
    if (chunk.begins && !may_begin(chunk)) return false;
    if (chunk.opcode >= websocket_opcode::close) {
        control_.append(chunk.data);
        if (chunk.ends) take_control(chunk.opcode);
        return false;
    }
    const bool complete = chunk.ends && chunk.final_frame;
    if (text_ && (!utf8_.feed(chunk.data) || (complete && !utf8_.complete()))) {
        fail(1007, "a text is no UTF-8");
        return false;
    }
    message_.append(chunk.data);
    if (complete) in_message_ = false;
    return complete;
}

bool websocket_state::may_begin(const websocket_chunk& chunk) {
    const char* wrong = nullptr;
    if (chunk.reserved_bits != 0) wrong = "a frame has a reserved bit";
    if (chunk.masked != settings_.server) wrong = settings_.server ? "a frame is not masked" : "a frame is masked";
    switch (chunk.opcode) {
        case websocket_opcode::continuation:
            if (!in_message_) wrong = "a continuation without a beginning";
            break;
        case websocket_opcode::text:
        case websocket_opcode::bytes:
            if (in_message_) wrong = "a message begins inside of another one";
            break;
        case websocket_opcode::close:
        case websocket_opcode::ping:
        case websocket_opcode::pong:
            if (!chunk.final_frame || chunk.length > 125) wrong = "a control frame is too long, or a fragment";
            break;
        default: wrong = "a frame of an unknown kind";
    }
    if (wrong) {
        fail(1002, wrong);
        return false;
    }
    return chunk.opcode >= websocket_opcode::close || begin_message(chunk);
}

bool websocket_state::begin_message(const websocket_chunk& chunk) {
    if (chunk.opcode != websocket_opcode::continuation) {
        in_message_ = true;
        text_ = chunk.opcode == websocket_opcode::text;
        utf8_ = {};
        message_.clear();
    }
    const std::size_t limit = settings_.max_message_size;
    if (limit != 0 && chunk.length > limit - message_.size()) {
        fail(1009, "a message of more than " + std::to_string(limit) + " bytes");
        return false;
    }
    if (message_.empty()) message_.reserve(std::min<std::uint64_t>(chunk.length, most_reserved));
    return true;
}

void websocket_state::take_control(std::uint8_t opcode) {
    if (opcode == websocket_opcode::close) {
        take_close();
    } else if (opcode == websocket_opcode::ping && !close_sent_) {
        send_detached(websocket_opcode::pong, control_);
    }
    control_.clear();
}

void websocket_state::take_close() {
    if (control_.empty()) {
        set_code(1005, {});
        close_received_ = true;
        return send_close(0, {});
    }
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(control_[i]); };
    const int code = control_.size() < 2 ? 0 : byte(0) << 8 | byte(1);
    if (!websocket_code_may_be_sent(code)) return fail(1002, "a close with a code that no side may send");
    const std::string_view reason = std::string_view(control_).substr(2);
    if (!is_utf8(reason)) return fail(1007, "the reason of a close is no UTF-8");
    set_code(code, reason);
    close_received_ = true;
    send_close(code, {});
}

http::websocket::message websocket_state::take_message() noexcept {
    reader_.let_go();
    if (rest_.empty()) free_what_is_idle();
    return http::websocket::message(std::exchange(message_, {}), text_);
}

void websocket_state::begin_to_read() noexcept {
    if (settings_.ping_interval) reading_since_ = get_running_loop().time();
}

void websocket_state::has_come(std::string bytes) noexcept {
    if (bytes.empty()) return lost("the peer has ended the connection without a close");
    heard_ = true;
    inbox_ = std::move(bytes);
    rest_ = inbox_;
}

// A WebSocket that waits keeps as little as it can.
void websocket_state::free_what_is_idle() noexcept {
    rest_ = {};
    if (inbox_.capacity() > 64) inbox_ = std::string();
    if (control_.capacity() > 64 && control_.empty()) control_ = std::string();
    std::erase_if(detached_, [](const detached_write& w) { return !w.linked(); });
}

// ---- sending ----

void websocket_state::check_open() const {
    if (closing()) throw_closed();
}

void websocket_state::throw_closed(const char* why) const {
    std::string what =
        "the WebSocket to " + peer_ + (close_sent_ && !over_ && !why ? " is being closed" : " is closed");
    if (why) {
        what += std::string(": ") + why;
    } else if (code_ != 0) {
        what += ": " + std::to_string(code_) + (reason_.empty() ? "" : " (" + reason_ + ")");
    }
    const bool asked = close_sent_ || ended();
    throw http::websocket_closed(code_ != 0 || (asked && !why) ? code_ : 1006, what);
}

std::string websocket_state::frame(int opcode, std::string_view payload) const {
    return websocket_frame(static_cast<std::uint8_t>(opcode), payload, !settings_.server);
}

void websocket_state::wait_for_step(websocket_send& send) noexcept {
    send.waits_ = true;
    send.later_ = std::exchange(postponed_, &send);
}

void websocket_state::leave_wait(websocket_send& send) noexcept {
    send.waits_ = false;
    for (websocket_send** place = &postponed_; *place; place = &(*place)->later_) {
        if (*place == &send) {
            *place = send.later_;
            return;
        }
    }
}

// What the kernel has taken of a frame cannot be taken back, so the rest has to follow. Only the first write in the
// line can be half sent, and an earlier rest that is still in the line has been taken whole: it waits for TLS to send
// what it holds, as the new one will.
void websocket_state::keep_rest(websocket_send& send) noexcept {
    try {
        const std::size_t sent = send.sent();
        detached_write& rest = detached_.emplace_back(io.detail_state(), std::move(send.frame_), sent);
        send.unlink();
        io.detail_state()->join_writers(rest);
    } catch (...) { io.abort(); }  // no memory
}

// Joins the line, unless the connection is broken: whoever reads finds that out. Of pongs that have not gone out only
// the last one is kept (RFC 6455, 5.5.3), so a peer that sends pings, and reads nothing, costs no memory.
void websocket_state::send_detached(std::uint8_t opcode, std::string_view payload) {
    stream_state& s = *io.detail_state();
    if (s.closed() || s.write_error != 0 || s.torn_at != 0 || s.write_eof) return;
    std::erase_if(detached_, [](const detached_write& w) { return !w.linked(); });
    std::string text = frame(opcode, payload);
    if (opcode == websocket_opcode::pong) {
        const auto old = std::find_if(
            detached_.begin(), detached_.end(), [&](const detached_write& w) { return w.replaceable(opcode); });
        if (old != detached_.end()) return old->replace(std::move(text));
    }
    s.join_writers(detached_.emplace_back(io.detail_state(), opcode, std::move(text)));
}

// ---- the end ----

void websocket_state::set_code(int code, std::string_view reason) noexcept {
    if (code_ != 0) return;
    code_ = code;
    try {
        reason_ = reason;
    } catch (...) {  // no memory: then there is no reason
    }
}

void websocket_state::fail(int code, std::string_view why) noexcept {
    set_code(code, why);
    failed_ = true;
    send_close(code, why);
}

void websocket_state::send_close(int code, std::string_view reason) noexcept {
    if (std::exchange(close_sent_, true) || over_) return;
    for (websocket_send* send = postponed_; send; send = send->later_) {
        send->overtaken_ = true;  // nothing may follow the close
        send->size_ = 0;
    }
    try {
        std::string payload;
        if (code != 0) {
            payload += static_cast<char>(code >> 8);
            payload += static_cast<char>(code & 0xff);
            payload += reason;
        }
        send_detached(websocket_opcode::close, payload);
        start_deadline();
    } catch (...) {  // no memory
        cut("there was no memory to close it");
    }
}

void websocket_state::start_deadline() {
    deadline_ = get_running_loop().call_later(settings_.close_timeout, [weak = weak_from_this()] {
        if (const std::shared_ptr<websocket_state> ws = weak.lock()) ws->cut("the peer has not answered the close");
    });
}

// Those who read or write hear of it, and settle the end.
void websocket_state::cut(std::string_view why) noexcept {
    if (over_) return;
    set_code(1006, why);
    io.detail_state()->abort();
}

void websocket_state::lost(std::string_view why) noexcept {
    set_code(1006, why);
    settle();
}

void websocket_state::settle() noexcept {
    if (std::exchange(over_, true)) return;
    io.detail_state()->close(code_ == 1006);
    deadline_.cancel();
    keep_alive_.cancel();
    message_ = inbox_ = control_ = std::string();
    rest_ = {};
}

// ---- keep-alive ----

void websocket_state::ping_after(delay d) {
    keep_alive_ = get_running_loop().call_later(d, [weak = weak_from_this()] {
        if (const std::shared_ptr<websocket_state> ws = weak.lock()) ws->look_whether_alive();
    });
}

// Bytes are read only while a task receives. So the peer counts as gone only if a task has waited for bytes since the
// ping went out.
void websocket_state::look_whether_alive() {
    if (closing()) return;
    const time_point now = get_running_loop().time();
    if (pinged_) {
        const bool silent = !heard_ && reading_since_ && *reading_since_ <= *pinged_;
        if (silent) return cut("the peer has not answered a ping");
        const time_point next = settings_.ping_interval.from(*pinged_);
        pinged_.reset();
        if (next > now) return ping_after(next - now);
    }
    send_detached(websocket_opcode::ping, {});
    pinged_ = now;
    heard_ = false;
    ping_after(settings_.ping_timeout ? settings_.ping_timeout : settings_.ping_interval);
}

void websocket_state::start_keep_alive() {
    if (settings_.ping_interval) ping_after(settings_.ping_interval);
}

}  // namespace aio::inline v0::detail
