#pragma once
// A server listens for connections, and gives each one to a handler, in a task of its own. Source:
// asyncio.start_server.
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
// A server is a manager that gives itself: use with(server, body), or enter(co_await start_server(...)) for the rest of
// a coroutine. However that scope is left, the server is closed, its handlers are cancelled, and they have ended before
// the next statement. So a handler may refer to the locals around with(). After enter() it may refer to the coroutine's
// parameters, but not to its locals, which are gone when the server is left. To let the handlers finish, await drain()
// at the end of the body.
//
// If a handle is dropped without that, the loop keeps the server going until close() or the end of run(). run() then
// cancels the handlers, when what they refer to may be gone; debug mode reports such a server. The handler is kept,
// with what it captures, until the server is closed and no call of it runs any more. Its exception goes to the loop's
// exception handler, and its cancellation is silent. Both close the connection, and so does its return, unless the
// handler has moved the stream elsewhere.
//
// With .threads = n, n loops serve: that of the caller, and those of n - 1 further threads, which end with the server.
// Each connection stays on one loop, and the handler is called there, so several threads may call it at once. An object
// that belongs to a loop (a lock, a queue, a session, a stream of another connection) must not be shared by them: the
// handler makes one on each thread, as a thread_local, for instance, or uses a shared_queue. Errors of handlers on the
// further threads go to the exception handlers of those loops, which print them.
//
// The handle belongs to the loop that has started the server. Its functions act on all threads, and its numbers count
// all threads. close() ends listening at once on this thread, and on the others as soon as their loops hear of it;
// wait_closed(), drain() and exit wait until they have ended. If a thread cannot be started, the others are ended, and
// the error is thrown. If the loop of a thread ends by itself, because the kernel refuses to wait for it, the exception
// handler is told at once, and the server is closed. Over TCP each thread has a listening socket, and the kernel
// spreads the connections (SO_REUSEPORT); no other process may listen on the port, unless reuse_port says so. All
// threads accept from a unix socket, or from a socket that is taken over: an idle thread takes the connection.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/base/state_ptr.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/stream.hpp>
#include <aio/tls.hpp>
#include <aio/with.hpp>

#include <string>
#include <type_traits>
#include <vector>

namespace aio::inline v0 {

/// limit: as in stream_options. backlog: how many connections the kernel holds until they are accepted. reuse_port:
/// several processes share the port. context: connections are encrypted (tls_context::server); it is read before the
/// call returns. handshake_timeout: a connection that has not completed the handshake of TLS by then is closed.
/// threads: how many loops serve, each on a thread of its own; the loop that starts the server is one of them. 0: as
/// many as workers has, which refuses too many, too. The others are those of stream_options, for each connection.
struct server_options {
    std::size_t limit = 65536;
    int backlog = 100;
    bool reuse_port = false;
    const tls_context* context = nullptr;
    delay handshake_timeout = std::chrono::seconds(60);
    bool no_delay = true;  // TCP sends small writes at once (TCP_NODELAY)
    /// After this much silence TCP asks whether the peer is there; std::nullopt: never.
    delay keep_alive = std::nullopt;
    delay keep_alive_interval = std::nullopt;  // between two questions; std::nullopt: 75 s
    int keep_alive_count = 0;                  // how many questions without an answer end the connection; 0: nine
    std::size_t send_buffer = 0;               // bytes of the socket (SO_SNDBUF); 0: the system's default
    std::size_t receive_buffer = 0;            // bytes of the socket (SO_RCVBUF); 0: the system's default
    std::size_t max_descriptors = 0;           // of unix sockets: how many received descriptors are kept; 0: none
    std::size_t threads = 1;
};

namespace detail {

class server_state;

class server_leaving;

template<>
struct references_of<server_state> {
    static void retain(server_state& state) noexcept;
    static void release(server_state& state) noexcept;
};
/// Points to the server_state, which src/io/server.cpp defines.
using server_ref = state_ptr<server_state>;

/// What server::exit gives. Irrevocable, and begun even under a pending cancel: a cancel meanwhile stays pending.
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

/// A handle; movable. If it is empty, is_serving() gives false, and all other functions throw std::logic_error.
class server {
public:
    server() noexcept = default;
    explicit server(detail::server_ref state) noexcept : state_(std::move(state)) {}

    /// The port that the server listens on: the real one if it was asked for 0. Gives 0 for a unix socket.
    int port() const;
    /// As a manager: enter gives the server itself. exit closes the server, cancels the handlers, waits until they have
    /// ended, and then closes the connections that they have moved elsewhere. A cancel neither prevents nor interrupts
    /// exit: it stays pending.
    detail::ready<server&> enter() { return detail::ready<server&>((get(), *this)); }
    detail::server_leaving exit(const std::exception_ptr& error);
    /// Waits until it is cancelled; then ends the server as exit does, and throws the cancelled_error. close() ends the
    /// wait with a cancelled_error, too, as in asyncio. Throws std::logic_error if the server is closed or another task
    /// is in serve_forever().
    coro<> serve_forever();
    /// Stops listening, at once. Connections go on. A second call does nothing. The file of a unix socket is removed if
    /// it is still the one that this server made.
    void close();
    /// Waits until the server is closed, all connections are gone and their handlers have ended (rule 178). Revertible:
    /// a cancel ends the wait alone.
    coro<> wait_closed();
    /// Closes all connections as stream::aclose() does, after what is being written now.
    void close_clients();
    /// Closes all connections at once, as stream::abort() does: the peers see a reset, and the handlers get
    /// std::system_error (ECONNABORTED).
    void abort_clients();
    /// Closes the server, and gives true when its connections are gone and their handlers have ended. When d has
    /// passed, aborts the connections and cancels the handlers that are left, waits until these have ended, and gives
    /// false. std::nullopt: waits as long as it takes. A cancel ends the wait; the server stays closed, and its
    /// handlers go on.
    coro<bool> drain(delay d);
    /// False once the server is closed.
    bool is_serving() const noexcept;
    /// How many connections are open.
    std::size_t connections() const;
    /// How many connections never came to the handler, because the handshake of TLS has failed. Scanners and plain HTTP
    /// are everyday life of a public port, so a failed handshake is counted, and only debug mode reports it, too.
    std::size_t failed_handshakes() const;

    /// False for a default-constructed or moved-from object.
    explicit operator bool() const noexcept { return state_.get() != nullptr; }

private:
    detail::server_state& get() const;
    detail::server_ref state_;
};

namespace detail {
/// What serves the connections of one thread. closing, if there is one, is called on that thread when the server is
/// closed; leaving: its handlers are cancelled next.
struct connection_service {
    connection_handler handler;
    function<void(bool leaving)> closing;
};
/// One for each thread.
std::vector<connection_service> services_of(connection_handler handler, std::size_t threads);
/// The number of threads for this option, as workers counts and checks it.
std::size_t threads_to_serve(std::size_t wanted);

coro<server> listen_on(std::vector<connection_service> services, std::string host, int port, server_options options,
    tls_context_ref context);
coro<server> listen_on_path(
    std::vector<connection_service> services, std::string path, server_options options, tls_context_ref context);
coro<server> listen_on_descriptor(
    std::vector<connection_service> services, descriptor listening, server_options options, tls_context_ref context);
}  // namespace detail

/// Gives a server that listens on all addresses of host (a name or address; "" is every interface) and port (0: a free
/// one, the same for all addresses), and calls handler(stream) for each connection. handler is a plain or async
/// function. A cancel while the host's name is looked up, or while threads start, ends the call, and nothing listens.
/// When the process has no descriptors left, the server reports that to the exception handler, and tries
/// again a little later (rule 151). With TLS each connection's handshake runs in its own task, and the handler is
/// called after it. Throws std::system_error that names the address (EADDRINUSE, EACCES), or has an error of
/// resolver_category().
template<class F>
AIO_DETAIL_WRAPPER coro<server> start_server(F&& handler, std::string host, int port, server_options options = {}) {
    return detail::listen_on(detail::services_of(detail::make_handler(std::forward<F>(handler)), options.threads),
        std::move(host), port, options, detail::context_of(options.context));
}
/// Takes over a socket that listens already, TCP or unix: an inherited one (inherited_sockets()), or one of another
/// library. It is made close-on-exec, and does not block any more, for all processes that share it. backlog, reuse_port
/// and the buffers are what they are; a unix socket's file stays when the server is closed. Throws std::system_error
/// that says what it is: EBADF or ENOTSOCK, EPROTOTYPE for a socket of datagrams, EINVAL for one that does not listen.
/// Source: asyncio.start_server(sock=...).
template<class F>
AIO_DETAIL_WRAPPER coro<server> start_server(F&& handler, descriptor listening, server_options options = {}) {
    return detail::listen_on_descriptor(
        detail::services_of(detail::make_handler(std::forward<F>(handler)), options.threads), std::move(listening),
        options, detail::context_of(options.context));
}
/// Gives a server that listens on a unix socket at path, and calls handler(stream) for each connection. Completes and
/// is cancelled as start_server(). The file of a socket on which nobody listens any more is replaced. Throws
/// std::system_error that names the path (EADDRINUSE if somebody listens there, EACCES, ENOENT). Source:
/// asyncio.start_unix_server.
template<class F>
AIO_DETAIL_WRAPPER coro<server> start_unix_server(F&& handler, std::string path, server_options options = {}) {
    return detail::listen_on_path(detail::services_of(detail::make_handler(std::forward<F>(handler)), options.threads),
        std::move(path), options, detail::context_of(options.context));
}

}  // namespace aio::inline v0
