#pragma once
// WebSockets (RFC 6455): messages both ways, of a server and of a client.
//
//     aio::coro<> echo(aio::http::websocket ws) {
//         while (auto message = co_await ws.receive()) { co_await ws.send(*message); }
//     }
//     aio::coro<aio::http::response> handler(aio::http::request request) {
//         co_return aio::http::upgrade_websocket(request, echo);
//     }
//     co_await aio::http::serve(handler, "127.0.0.1", 8080);
//
//     aio::http::session s;
//     aio::http::websocket ws = co_await s.websocket("ws://localhost:8080/");
//     co_await ws.send("hello");
//     auto answer = co_await ws.receive();                         // false: the WebSocket is closed
//     if (answer) use(answer->text());
//     co_await ws.close();
//
// One task at a time receives. Whoever receives also answers pings and the peer's close, so a handler that only sends
// runs a task beside it that receives. Any number of tasks send: each message goes out whole, in the order of the
// sends, and a send waits while the peer does not take what was sent before. Extensions are not negotiated, so there is
// no compression (permessage-deflate). Source: the websockets package of Python.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/detail/base/config.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/http/message.hpp>
#include <aio/stream.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {

class websocket_state;

/// websocket::send and websocket::ping. It owns its frame.
class [[nodiscard("co_await it")]] websocket_send final : public write_operation {
public:
    websocket_send(std::shared_ptr<websocket_state> ws, int opcode, std::string_view payload);
    websocket_send(websocket_send&& other) noexcept;
    ~websocket_send();
    bool await_ready();
    void await_resume();
    cancel_reply cancel(const std::string& message) noexcept override;

private:
    friend class websocket_state;
    void leave() noexcept;
    std::shared_ptr<websocket_state> ws_;
    std::string frame_;
    websocket_send* later_ = nullptr;  // the next one that has not begun, because its step's budget was used up
    bool waits_ = false;               // stands among those
    bool overtaken_ = false;           // by the close
};

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

/// Thrown by a send over a WebSocket that is closed, is being closed or has lost its connection.
class AIO_API websocket_closed : public error {
public:
    websocket_closed(int code, const std::string& what) : error(what), code_(code) {}  // code is what code() gives.
    /// Gives what websocket::close_code() gives; 0 while the peer has not answered the close.
    int code() const noexcept { return code_; }

private:
    int code_;
};

/// The names that an option takes: "chat, superchat", or a std::vector<std::string>. It refers to them; they are read
/// only during the call that takes the option.
class names_ref {
public:
    /// No names; a list with commas between them; or a vector, which must live as long as the call.
    names_ref() = default;
    template<class Text>
        requires std::convertible_to<const Text&, std::string_view>
    names_ref(const Text& list) : list_(list) {}
    names_ref(const std::vector<std::string>& names) noexcept : names_(&names) {}
    std::vector<std::string> get() const;  // The names, without the spaces around them.

private:
    std::string_view list_;
    const std::vector<std::string>* names_ = nullptr;
};

/// The options of a WebSocket.
struct websocket_options {
    names_ref subprotocols = {};                 // those of this side, the preferred one first
    std::size_t max_message_size = 1024 * 1024;  // bytes of a message that is received; 0: no limit
    // After this time without a ping, one is sent; std::nullopt: none. If nothing comes from the peer within
    // ping_timeout while a task receives, the connection is cut.
    delay ping_interval = std::nullopt;
    delay ping_timeout = std::chrono::seconds(20);   // see ping_interval
    delay close_timeout = std::chrono::seconds(10);  // from this side's close to the end of the connection
    headers_ref headers = {};                        // of a client's request, or of a server's response
    // Of a server: the web pages that may connect, "https://example.org"; "*" is all of them. Without any, only pages
    // of the server's own host may: the Origin's host and port have to be those of the Host field. Programs, which
    // send no Origin, always may.
    names_ref origins = {};
    delay open_timeout = std::chrono::seconds(10);  // of a client: connection, TLS and handshake together
};

/// A WebSocket; movable. A client's destructor cuts the connection, and sends that are under way throw
/// websocket_closed: await close() before. In a server's handler there is nothing to close: when the handler ends, the
/// WebSocket is closed with 1000, and with 1011 if the handler throws.
class websocket {
public:
    /// A message: text, which is valid UTF-8, or bytes.
    class message {
    public:
        /// Makes a message, for a test.
        message(std::string data, bool is_text) noexcept : data_(std::move(data)), is_text_(is_text) {}
        bool is_text() const noexcept { return is_text_; }     // True if the peer has sent text.
        bool is_binary() const noexcept { return !is_text_; }  // True if the peer has sent bytes.
        /// The content of either kind. `std::move(m).text()` moves it out.
        const std::string& text() const& noexcept { return data_; }
        std::string text() && noexcept { return std::move(data_); }
        /// The content of either kind as bytes, which live as long as the message.
        std::span<const std::byte> bytes() const noexcept { return std::as_bytes(std::span(data_)); }
        std::size_t size() const noexcept { return data_.size(); }  // The number of bytes.
        friend bool operator==(const message&, const message&) = default;

    private:
        std::string data_;
        bool is_text_;
    };

    websocket() noexcept = default;
    explicit websocket(std::shared_ptr<detail::websocket_state> state) noexcept : state_(std::move(state)) {}
    websocket(websocket&&) noexcept = default;
    websocket& operator=(websocket&& other) noexcept;
    ~websocket() { drop(); }

    /// Gives the next message; nothing at the end, whatever it is: a close by either side, a lost connection, a peer
    /// that breaks the protocol (which is told so and cut off). close_code() says which, and the connection is closed
    /// by then. Pings are answered meanwhile. Revertible: a message that has come, or a part of one, stays for the next
    /// call. A second receiver at the same time gets std::logic_error.
    coro<std::optional<message>> receive();
    /// Does what receive() does. With this name for_each and the views take a WebSocket.
    AIO_DETAIL_WRAPPER coro<std::optional<message>> next() { return receive(); }

    /// Sends a message when awaited, and completes when all of it has been handed to the kernel. The text or bytes are
    /// copied before send() returns. Messages of several tasks go out one after the other. Irrevocable: a cancel of a
    /// message that has begun to go out gives the wait up, and the rest goes out all the same. Throws websocket_closed;
    /// std::invalid_argument for text that is no UTF-8 (send bytes instead).
    detail::websocket_send send(std::string_view text);
    detail::websocket_send send(std::span<const std::byte> bytes) { return send_bytes(as_text(bytes)); }
    detail::websocket_send send(std::span<const unsigned char> bytes) { return send_bytes(as_text(bytes)); }
    detail::websocket_send send(const message& m) { return m.is_text() ? send(m.text()) : send_bytes(m.text()); }
    /// Sends a message of bytes. Completes, is cancelled and fails as send().
    detail::websocket_send send_bytes(std::string_view bytes);
    /// Sends a ping, with a payload that the peer sends back. Throws std::invalid_argument for more than 125 bytes.
    /// Completes, is cancelled and fails as send().
    detail::websocket_send ping(std::string_view payload = {});

    /// Closes the WebSocket: sends the code and the reason behind what is being sent, waits for the peer's answer, and
    /// closes the connection. Messages that come before the answer go to the task that receives; without one they are
    /// dropped. After close_timeout the connection is cut. Completes when the connection is closed, at once if it is. A
    /// cancel gives the wait up. Throws std::invalid_argument for a code that no side may send (1000 to 1003, 1007 to
    /// 1014 and 3000 to 4999 are allowed), and for a reason of more than 123 bytes, or that is no UTF-8.
    coro<> close(int code = 1000, std::string reason = {});
    /// Calls close(1000), and is cancelled as that. It makes a WebSocket a manager, which with() and enter() close.
    AIO_DETAIL_WRAPPER coro<> aclose() { return close(); }

    /// Once it is closed, the code that the peer has sent; 1005 if it has sent none; 1006 if the connection was lost or
    /// cut; the code that this side sent if the peer broke the protocol (1002, 1007, 1009). 0 until then.
    int close_code() const noexcept;
    /// What came with the code; for 1006 and for a peer that broke the protocol, what has happened.
    const std::string& close_reason() const noexcept;
    bool closed() const noexcept { return close_code() != 0; }  // True once close_code() is not 0.
    /// What both sides have agreed on; empty if that is nothing.
    const std::string& subprotocol() const noexcept;
    /// The peer's address.
    std::string peer() const;
    /// False for a default-constructed or moved-from object.
    explicit operator bool() const noexcept { return static_cast<bool>(state_); }

private:
    template<class Byte>
    static std::string_view as_text(std::span<const Byte> bytes) noexcept {
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
    void drop() noexcept;
    const std::shared_ptr<detail::websocket_state>& state() const;  // std::logic_error if there is none
    std::shared_ptr<detail::websocket_state> state_;
};

}  // namespace aio::inline v0::http

namespace aio::inline v0::detail {

http::response websocket_response(
    const http::request& request, function<coro<>(http::websocket)> handler, const http::websocket_options& options);

template<class F>
struct websocket_handler_of {
    F fn;
    coro<> operator()(http::websocket ws) {
        if constexpr (awaitable<std::invoke_result_t<F&, http::websocket>>) {
            co_await detail::invoke(fn, std::move(ws));
        } else {
            detail::invoke(fn, std::move(ws));
        }
        co_return;
    }
};

/// True if F takes the WebSocket by value and gives a coroutine: then no other coroutine has to keep it for the
/// handler.
template<class F>
inline constexpr bool takes_websocket_by_value = false;
template<class F>
    requires(std::is_class_v<F> && requires { &F::operator(); })
inline constexpr bool takes_websocket_by_value<F> = takes_websocket_by_value<decltype(&F::operator())>;
template<>
inline constexpr bool takes_websocket_by_value<coro<> (*)(http::websocket)> = true;
template<class C>
inline constexpr bool takes_websocket_by_value<coro<> (C::*)(http::websocket)> = true;
template<class C>
inline constexpr bool takes_websocket_by_value<coro<> (C::*)(http::websocket) const> = true;

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

/// Gives the response that accepts a WebSocket: 101, and then handler(websocket) runs in the connection's task. A
/// request that is no proper handshake gets a refusal instead: 426 for one that asks for no upgrade, or another version
/// of the protocol than 13; 400 for a malformed one; 403 for an Origin that is not allowed. Of the options'
/// subprotocols the first one that the client offers is chosen; none, if it offers no such one. handler is a plain or
/// async function, and is kept until it has ended. Its exceptions go to the loop's exception handler, but for the
/// websocket_closed of a peer that has gone. When the server drains, the WebSocket is closed with 1001: receive() gives
/// the end. Throws std::invalid_argument for subprotocols that are no tokens.
template<class F>
response upgrade_websocket(const request& r, F&& handler, websocket_options options = {}) {
    using stored = std::decay_t<F>;
    static_assert(std::is_invocable_v<stored&, websocket>, "the handler of a WebSocket takes an http::websocket");
    detail::require_function<stored>(handler, "http::upgrade_websocket()");
    if constexpr (detail::takes_websocket_by_value<stored>) {
        return detail::websocket_response(r, std::forward<F>(handler), options);
    } else {
        return detail::websocket_response(r, detail::websocket_handler_of<stored>{std::forward<F>(handler)}, options);
    }
}

}  // namespace aio::inline v0::http
