// http::websocket: its operations, over the rules in state.cpp.

#include <aio/http/websocket.hpp>

#include "http/access.hpp"
#include "http/websocket/state.hpp"

#include <stdexcept>

namespace aio::inline v0::detail {

namespace {

constexpr std::size_t read_size = 256 * 1024;
constexpr std::size_t most_control = 125;

/// A task is in receive().
class one_receiver {
public:
    explicit one_receiver(websocket_state& ws) : ws_(ws) {
        if (ws.receiving) {
            throw std::logic_error(
                "a second task receives from the WebSocket to " + ws.peer() + " while another one waits");
        }
        ws.receiving = true;
    }
    ~one_receiver() { ws_.receiving = false; }
    one_receiver(const one_receiver&) = delete;
    one_receiver& operator=(const one_receiver&) = delete;

private:
    websocket_state& ws_;
};

/// For keep-alive: a task waits for bytes.
struct wait_for_bytes {
    explicit wait_for_bytes(websocket_state& s) noexcept : ws(s) { ws.begin_to_read(); }
    ~wait_for_bytes() { ws.end_to_read(); }
    wait_for_bytes(const wait_for_bytes&) = delete;
    wait_for_bytes& operator=(const wait_for_bytes&) = delete;
    websocket_state& ws;
};

// Closes the connection once the end has been decided. The server closes first (RFC 6455, 7.1.1), and the client waits
// for that. Whoever has failed the peer reads and drops what still comes: a connection that is closed with bytes unread
// is reset, and the reset overtakes the close frame, which says why. The deadline of the close bounds all of it.
coro<> finish(websocket_state& ws) {
    try {
        if (ws.failed()) ws.io.write_eof();
        if (ws.failed() || !ws.is_server()) {
            for (;;) {
                const std::string dropped = co_await ws.io.read(read_size);
                if (dropped.empty()) break;
            }
        }
        co_await ws.io.aclose();
    } catch (const std::system_error&) {  // the connection is gone, which is what is wanted
    }
    ws.settle();
}

// Gives the next message, or, if messages are dropped, nothing; nothing means that the connection is closed.
coro<std::optional<http::websocket::message>> pull(std::shared_ptr<websocket_state> kept, bool dropping) {
    websocket_state& ws = *kept;
    std::optional<one_receiver> mark;
    if (!dropping) mark.emplace(ws);
    const auto turn = co_await ws.reading.scoped();
    while (!ws.over()) {
        const websocket_step step = ws.advance();
        if (step == websocket_step::ended) break;
        if (step == websocket_step::message) {
            http::websocket::message m = ws.take_message();
            if (!dropping) co_return m;
            continue;
        }
        try {
            const wait_for_bytes waiting(ws);
            ws.has_come(co_await ws.io.read(read_size));
        } catch (const std::system_error& e) { ws.lost(e.what()); }
    }
    if (!ws.over()) co_await finish(ws);
    co_return std::nullopt;
}

void check_close(int code, std::string_view reason) {
    if (!websocket_code_may_be_sent(code)) {
        throw std::invalid_argument("websocket::close: " + std::to_string(code) + " is no code that may be sent");
    }
    if (reason.size() > most_control - 2 || !is_utf8(reason)) {
        throw std::invalid_argument("websocket::close: the reason is longer than 123 bytes, or no UTF-8");
    }
}

}  // namespace

coro<std::optional<http::websocket::message>> receive_message(std::shared_ptr<websocket_state> ws) {
    return pull(std::move(ws), false);
}

coro<> close_websocket(std::shared_ptr<websocket_state> ws, int code, std::string reason) {
    if (ws->over()) co_return;
    ws->send_close(code, reason);
    static_cast<void>(co_await pull(std::move(ws), true));
}

// ---- sending ----

websocket_send::websocket_send(std::shared_ptr<websocket_state> ws, int opcode, std::string_view payload)
    : write_operation(ws->io.detail_state(), nullptr, 0), ws_(std::move(ws)), frame_(ws_->frame(opcode, payload)) {}

websocket_send::websocket_send(websocket_send&& other) noexcept = default;  // it is not awaited yet

websocket_send::~websocket_send() { leave(); }

void websocket_send::leave() noexcept {
    if (waits_) ws_->leave_wait(*this);
}

bool websocket_send::await_ready() {
    ws_->check_open();
    data_ = frame_.data();  // set only here: until now the operation may have been moved
    size_ = frame_.size();
    const bool done = write_operation::await_ready();
    if (!done && phase_ == phase::postponed) ws_->wait_for_step(*this);
    return done;
}

void websocket_send::await_resume() {
    leave();
    std::string why;
    try {
        write_operation::await_resume();
    } catch (const std::system_error& e) { why = e.what(); }
    if (!why.empty()) ws_->throw_closed(why.c_str());
    if (overtaken_) ws_->throw_closed();
}

cancel_reply websocket_send::cancel(const std::string& message) noexcept {
    if (linked()) {
        ws_->io.detail_state()->send_collected();
        if (linked() && sent() > 0) ws_->keep_rest(*this);
    }
    return write_operation::cancel(message);
}

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

std::vector<std::string> names_ref::get() const {
    if (names_) return *names_;
    std::vector<std::string> names;
    if (!list_.empty()) detail::for_each_element(list_, [&](std::string_view name) { names.emplace_back(name); });
    return names;
}

websocket& websocket::operator=(websocket&& other) noexcept {
    if (this != &other) {
        drop();
        state_ = std::move(other.state_);
    }
    return *this;
}

// A server's connection belongs to what runs the handler.
void websocket::drop() noexcept {
    if (state_ && !state_->is_server()) state_->lost("the WebSocket was destroyed");
    state_.reset();
}

const std::shared_ptr<detail::websocket_state>& websocket::state() const {
    if (!state_) throw std::logic_error("this http::websocket is empty: it was default-constructed or moved from");
    return state_;
}

coro<std::optional<websocket::message>> websocket::receive() { return detail::receive_message(state()); }

detail::websocket_send websocket::send(std::string_view text) {
    if (!detail::is_utf8(text)) throw std::invalid_argument("websocket::send: the text is no UTF-8; send bytes");
    return {state(), detail::websocket_opcode::text, text};
}

detail::websocket_send websocket::send_bytes(std::string_view bytes) {
    return {state(), detail::websocket_opcode::bytes, bytes};
}

detail::websocket_send websocket::ping(std::string_view payload) {
    if (payload.size() > detail::most_control) throw std::invalid_argument("websocket::ping: more than 125 bytes");
    return {state(), detail::websocket_opcode::ping, payload};
}

coro<> websocket::close(int code, std::string reason) {
    detail::check_close(code, reason);
    return detail::close_websocket(state(), code, std::move(reason));
}

int websocket::close_code() const noexcept { return state_ ? state_->code() : 0; }

const std::string& websocket::close_reason() const noexcept {
    static const std::string none;
    return state_ && state_->over() ? state_->reason() : none;
}

const std::string& websocket::subprotocol() const noexcept {
    static const std::string none;
    return state_ ? state_->subprotocol() : none;
}

std::string websocket::peer() const { return state()->peer(); }

}  // namespace aio::inline v0::http
