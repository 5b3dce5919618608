#pragma once
// Listening for connections: each one is given to a handler, in a task of its own. Source: asyncio.start_server.
//
//     aio::coro<> echo(aio::stream client) {
//         for (;;) {
//             const std::string line = co_await client.read_line();
//             if (line.empty()) break;
//             co_await client.write(line);
//         }
//     }
//     aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
//     co_await aio::with(v, [&]() -> aio::coro<> {
//         std::printf("listening on port %d\n", v.port());
//         co_await v.serve_forever();             // until it is cancelled
//     });
//
// A server is a manager, which gives itself: with(server, body), or enter(co_await start_server(...)) for the rest of a
// coroutine. However that is left, the server is closed, its handlers are cancelled, and they have ended before the
// next statement: a handler may refer to the locals around with(). After enter() it may not refer to those of the same
// coroutine, which are gone when the server is left, only to its parameters. To let the handlers finish, await drain()
// at the end of the body. The loop keeps a server going when its handle is dropped, until close() or the end of run(),
// which cancels its handlers when what they refer to may be gone; debug mode tells of one that was not left. The
// handler is kept, with what it captures, until the server is closed and no call of it runs any more. Its exception
// goes to the loop's exception handler and its cancellation is silent; both close the connection, and so does its
// return, unless it has moved the stream elsewhere.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/function.hpp>
#include <aio/stream.hpp>
#include <aio/with.hpp>

#include <string>
#include <type_traits>

namespace aio {

/// limit: as stream_options'. backlog: how many connections the kernel holds until they are accepted. reuse_port:
/// several processes share the port.
struct server_options {
    std::size_t limit = 65536;
    int backlog = 100;
    bool reuse_port = false;
};

namespace detail {

class server_state;

class server_leaving;

/// The state, held without its definition.
class server_ref {
public:
    server_ref() noexcept = default;
    explicit server_ref(server_state* state) noexcept;
    server_ref(const server_ref& other) noexcept : server_ref(other.state_) {}
    server_ref(server_ref&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    server_ref& operator=(server_ref other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~server_ref();
    server_state* get() const noexcept { return state_; }
    server_state* operator->() const noexcept { return state_; }

private:
    server_state* state_ = nullptr;
};

/// server::exit. Irrevocable, and begun even under a pending cancel: a cancel meanwhile stays pending.
class [[nodiscard("co_await it")]] server_leaving final : public irrevocable<server_leaving>, public list_node {
public:
    explicit server_leaving(server_ref server) noexcept : server_(std::move(server)) {}
    bool await_ready();
    bool start() noexcept;
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    void unpark() noexcept {}
    void revert() noexcept {}
    void finish() noexcept {}
    void describe(std::string& out) const override;

private:
    server_ref server_;
};

using connection_handler = function<coro<>(stream)>;

template<class F>
coro<> call_handler(F& handler, stream client) {
    using gives = std::invoke_result_t<F&, stream>;
    if constexpr (awaitable<gives>) {
        static_cast<void>(co_await detail::invoke(handler, std::move(client)));
    } else {
        detail::invoke(handler, std::move(client));
        co_return;
    }
}
template<class F>
struct handler_of {
    F fn;
    AIO_DETAIL_WRAPPER coro<> operator()(stream client) { return call_handler(fn, std::move(client)); }
};
template<class F>
connection_handler make_handler(F&& handler) {
    using stored = std::decay_t<F>;
    static_assert(std::is_invocable_v<stored&, stream>, "the handler of a server takes an aio::stream");
    require_function<stored>(handler, "start_server()");
    if constexpr (std::is_same_v<std::invoke_result_t<stored&, stream>, coro<>>) {
        return connection_handler(std::forward<F>(handler));
    } else {
        return connection_handler(handler_of<stored>{std::forward<F>(handler)});
    }
}

}  // namespace detail

/// A handle; movable. All its functions throw std::logic_error if it is empty.
class server {
public:
    server() noexcept = default;
    explicit server(detail::server_ref state) noexcept : state_(std::move(state)) {}

    /// The port it listens on: the real one where 0 was asked for. 0 for unix sockets.
    int port() const;
    /// As a manager: enter gives the server itself; exit closes it, cancels the handlers, waits until they have ended,
    /// and then closes the connections that they have moved elsewhere. A cancel neither prevents nor interrupts that:
    /// it stays pending.
    detail::ready<server&> enter() { return detail::ready<server&>((get(), *this)); }
    detail::server_leaving exit(const std::exception_ptr& error);
    /// Waits until it is cancelled; then ends the server as exit does. close() ends it with
    /// cancelled_error, as in asyncio. Throws std::logic_error if the server is closed or somebody else is in here.
    coro<> serve_forever();
    /// Stops listening, at once. Connections go on. Harmless the second time. A unix socket's file is removed if it is
    /// still ours.
    void close();
    /// Waits until the server is closed, all connections are gone and their handlers have ended (rule 178).
    coro<> wait_closed();
    /// Closes all connections as stream::aclose() does: what is being written now still is.
    void close_clients();
    /// Closes all connections at once, as stream::abort() does: the peers see a reset, the handlers ECONNABORTED.
    void abort_clients();
    /// Closes the server and waits until its connections are gone and their handlers have ended: true. When d has
    /// passed: aborts and cancels the rest, waits until they have ended, and gives false. std::nullopt: waits as long
    /// as it takes.
    coro<bool> drain(delay d);
    /// False once it is closed.
    bool is_serving() const noexcept;
    /// How many connections are open.
    std::size_t connections() const;

    /// False for a default-constructed or moved-from one.
    explicit operator bool() const noexcept { return state_.get() != nullptr; }

private:
    detail::server_state& get() const;
    detail::server_ref state_;
};

namespace detail {
coro<server> listen_on(connection_handler handler, std::string host, int port, server_options options);
coro<server> listen_on_path(connection_handler handler, std::string path, server_options options);
}  // namespace detail

/// Listens on all addresses of host (a name or address; "" is every interface) and port (0: a free one, the same for
/// all of them), and calls handler(stream) for each connection: a plain or async function. Accepting is revertible.
/// Where the process has no descriptors left it says so to the exception handler, and tries again a little later (rule
/// 151). Throws std::system_error naming the address (EADDRINUSE, EACCES), or of resolver_category().
template<class F>
AIO_DETAIL_WRAPPER coro<server> start_server(F&& handler, std::string host, int port, server_options options = {}) {
    return detail::listen_on(detail::make_handler(std::forward<F>(handler)), std::move(host), port, options);
}
/// Listens on a unix socket at path; a socket that nobody listens on any more is replaced. Source:
/// asyncio.start_unix_server.
template<class F>
AIO_DETAIL_WRAPPER coro<server> start_unix_server(F&& handler, std::string path, server_options options = {}) {
    return detail::listen_on_path(detail::make_handler(std::forward<F>(handler)), std::move(path), options);
}

}  // namespace aio
