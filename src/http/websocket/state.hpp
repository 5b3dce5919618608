#pragma once
// The state behind http::websocket: the messages that come, the writes of the library's own (pongs, pings, the close),
// and how far the end has come.
//
// The end has three steps. It is decided when a close frame has come, when the peer has broken the protocol, or when
// the connection is lost: receive() gives nothing more. Then, unless it is lost, both sides close the connection, the
// server first (finish_websocket). Then it is over, and close_code() says so. From the moment at which this side has
// sent its close frame a timer runs (close_timeout), which cuts the connection: so nothing else needs a deadline.

#include "http/websocket/frames.hpp"
#include "http/websocket/utf8.hpp"

#include <aio/event_loop.hpp>
#include <aio/http/websocket.hpp>
#include <aio/lock.hpp>
#include <aio/stream.hpp>

#include <list>
#include <memory>
#include <optional>
#include <string>

namespace aio::inline v0::detail {

/// A write that no task waits for. It stands in the stream's line as others do, and stays whole.
class detached_write final : public write_operation {
public:
    detached_write(stream_ptr stream, std::uint8_t opcode, std::string frame)
        : write_operation(std::move(stream), nullptr, 0), frame_(std::move(frame)), opcode_(opcode) {
        data_ = frame_.data();
        size_ = frame_.size();
    }
    /// What is left of a frame whose sender has been cancelled. It takes the sender's place in the line.
    detached_write(stream_ptr stream, std::string frame, std::size_t sent)
        : write_operation(std::move(stream), holder{}, nullptr, 0), frame_(std::move(frame)) {
        data_ = frame_.data() + sent;
        size_ = frame_.size() - sent;
    }
    /// True if it is a pong that has not begun to go out.
    bool replaceable(std::uint8_t opcode) const noexcept { return linked() && opcode_ == opcode && sent() == 0; }
    void replace(std::string frame) noexcept {
        frame_ = std::move(frame);
        data_ = frame_.data();
        size_ = frame_.size();
    }

private:
    std::string frame_;
    std::uint8_t opcode_ = websocket_opcode::continuation;
};

struct websocket_settings {
    bool server = false;
    std::size_t max_message_size = 0;
    delay ping_interval = std::nullopt;
    delay ping_timeout = std::nullopt;
    delay close_timeout = std::nullopt;

    websocket_settings(bool is_server, const http::websocket_options& o) noexcept
        : server(is_server),
          max_message_size(o.max_message_size),
          ping_interval(o.ping_interval),
          ping_timeout(o.ping_timeout),
          close_timeout(o.close_timeout) {}
};

enum class websocket_step : std::uint8_t { message, need_more, ended };

class websocket_state : public std::enable_shared_from_this<websocket_state> {
public:
    websocket_state(stream connection, const websocket_settings& settings, std::string subprotocol);
    ~websocket_state();
    websocket_state(const websocket_state&) = delete;
    websocket_state& operator=(const websocket_state&) = delete;

    // ---- receiving: for whoever holds `reading`

    /// Looks at the bytes that have come. Throws std::bad_alloc, and cuts the connection then.
    websocket_step advance();
    http::websocket::message take_message() noexcept;
    void begin_to_read() noexcept;
    void end_to_read() noexcept { reading_since_.reset(); }
    /// What a read has brought; nothing is the end of the stream.
    void has_come(std::string bytes) noexcept;

    // ---- sending

    /// Throws websocket_closed once a close is under way.
    void check_open() const;
    [[noreturn]] void throw_closed(const char* why = nullptr) const;
    std::string frame(int opcode, std::string_view payload) const;
    void wait_for_step(websocket_send& send) noexcept;
    void leave_wait(websocket_send& send) noexcept;
    /// A message is half sent, and its sender is cancelled: keeps the rest.
    void keep_rest(websocket_send& send) noexcept;

    // ---- the end

    void start_keep_alive();
    /// Sends a close frame, if none was sent. code 0: one without a code.
    void send_close(int code, std::string_view reason) noexcept;
    void lost(std::string_view why) noexcept;
    /// The connection is closed.
    void settle() noexcept;
    bool over() const noexcept { return over_; }
    bool ended() const noexcept { return over_ || close_received_ || failed_; }
    bool closing() const noexcept {
        return close_sent_ || ended() || io.detail_state()->closed() || io.detail_state()->write_error != 0;
    }
    bool failed() const noexcept { return failed_; }
    bool is_server() const noexcept { return settings_.server; }
    int code() const noexcept { return over_ ? code_ : 0; }
    const std::string& reason() const noexcept { return reason_; }
    const std::string& subprotocol() const noexcept { return subprotocol_; }
    const std::string& peer() const noexcept { return peer_; }

private:
    std::list<detached_write> detached_;  // outlives the connection, whose line they stand in

public:
    stream io;
    lock reading;            // who receives, or waits for the end
    bool receiving = false;  // a task is in receive()

private:
    bool may_begin(const websocket_chunk& chunk);
    bool begin_message(const websocket_chunk& chunk);
    bool take_chunk(const websocket_chunk& chunk);
    void take_control(std::uint8_t opcode);
    void take_close();
    void fail(int code, std::string_view why) noexcept;
    void set_code(int code, std::string_view reason) noexcept;
    void send_detached(std::uint8_t opcode, std::string_view payload);
    void start_deadline();
    void cut(std::string_view why) noexcept;
    void free_what_is_idle() noexcept;
    void ping_after(delay d);
    void look_whether_alive();

    const websocket_settings settings_;
    std::string subprotocol_;
    std::string peer_;

    std::string inbox_;
    std::string_view rest_;  // of inbox_
    websocket_reader reader_;
    std::string message_;
    std::string control_;  // the payload of a control frame
    utf8_checker utf8_;
    bool in_message_ = false;
    bool text_ = false;

    bool close_sent_ = false, close_received_ = false, failed_ = false, over_ = false;
    int code_ = 0;
    std::string reason_;
    websocket_send* postponed_ = nullptr;

    callback_handle deadline_;
    callback_handle keep_alive_;
    std::optional<time_point> reading_since_;  // kept for pings alone
    std::optional<time_point> pinged_;
    bool heard_ = false;  // since then
};

/// True for the codes that an endpoint may send (RFC 6455, 7.4).
bool websocket_code_may_be_sent(int code) noexcept;
/// Gives the next message, or nothing once the connection is closed.
coro<std::optional<http::websocket::message>> receive_message(std::shared_ptr<websocket_state> ws);
coro<> close_websocket(std::shared_ptr<websocket_state> ws, int code, std::string reason);

}  // namespace aio::inline v0::detail
