#pragma once
// The HTTP server: HTTP/1.1, 1.0 and HTTP/2, one handler for all requests, keep-alive, limits and deadlines that an
// open port needs.
//
//     aio::coro<aio::http::response> hello(aio::http::request request) {
//         co_return aio::http::response(200, "hello, " + request.query("name").value_or("you") + "\n");
//     }
//     co_await aio::http::serve(hello, "127.0.0.1", 8080);                       // until it is cancelled
//
//     auto server = co_await aio::http::start_server(hello, "127.0.0.1", 0);     // or beside something else
//     co_await aio::with(server, [&]() -> aio::coro<> {
//         std::printf("listening on port %d\n", server.port());
//         ...
//         bool all_done = co_await server.drain(30s);
//     });
//
// The server is a manager as aio::server is: when its scope is left, it is closed, and its handlers have been cancelled
// and have ended.
//
// Requests of one connection are handled one after the other, in order, pipelined ones too. Connections are served at
// the same time, each in a task of its own. The server itself answers a request that is malformed (400), too long (431,
// 413), too slow (408), or not supported (501, 505), and closes the connection. Before that it reads and drops for a
// while what the client still sends, so that the client reads the answer. CONNECT is not supported. Every part of a
// request has a limit, chunks and trailers too. HEAD is given to the handler; the body of its response is not sent. An
// exception of the handler goes to the loop's exception handler, and the client gets a 500.
//
// A body may be larger than memory: unbuffered(handler) reads one while it comes, and response::stream() sends one
// while it is made. With .context, connections are encrypted.
//
// HTTP/2 is spoken with clients that agree on it in TLS, and with those that know it beforehand and begin with it; with
// .http2 = false it is not. In TLS the server prefers "h2", then "http/1.1", unless the context has a list of its own
// (tls_context::alpn). The requests of one connection are handled at the same time, each in a task of its own. A client
// that cancels a request (RST_STREAM) cancels its handler. A response that cannot be completed resets its request
// alone; max_requests_per_connection, "Connection: close" and close() let the client know by GOAWAY, and what is under
// way is finished. Windows, and so memory, are bounded by what handlers read and clients take.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/descriptor.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/http/access_log.hpp>
#include <aio/http/message.hpp>
#include <aio/server.hpp>
#include <aio/tls.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace aio::inline v0::http {

/// The options of serve().
struct server_options {
    std::size_t max_header_size = 32 * 1024;          // bytes, request line included; trailers have as much again
    std::size_t max_body_size = 8 * 1024 * 1024;      // bytes
    delay header_timeout = std::chrono::seconds(10);  // from a request's first byte to the end of its header
    delay body_timeout = std::chrono::seconds(30);    // between two pieces of its body
    delay write_timeout =
        std::chrono::seconds(30);  // for 256 KiB of a response; a client that does not take them is reset
    delay idle_timeout = std::chrono::seconds(60);   // for the first byte of a request
    delay drain_timeout = std::chrono::seconds(30);  // of serve(), once it is cancelled
    int backlog = 100;                               // connections that the kernel holds until they are accepted
    bool reuse_port = false;                         // other processes may listen on the same port
    delay linger_timeout =
        std::chrono::seconds(30);          // after a refusal: for the client to end its sending and read the answer
    const tls_context* context = nullptr;  // connections are encrypted; it is read before the call returns
    delay handshake_timeout = std::chrono::seconds(60);  // of TLS; then the connection is closed
    std::size_t max_connections = 0;                     // a client beyond that gets a 503; 0: no limit
    std::size_t max_requests_per_connection = 0;         // the last one's response closes the connection; 0: no limit
    std::size_t max_header_count = 100;                  // fields of a header; trailers have as many again
    std::uint64_t max_stream_size = 0;   // bytes of a body that an unbuffered handler reads; 0: no limit
    delay max_body_time = std::nullopt;  // for which the server waits for all of a body
    // Bytes a second that a body has to bring, on an average, while the server waits for it, once body_timeout has
    // passed; 0: a client may send a byte in each body_timeout. Source: Kestrel's MinRequestBodyDataRate.
    std::size_t min_body_rate = 240;
    // A client that closes its connection, or its sending half, cancels its handler, if the request's body had come
    // when the handler was called. Without it a handler that has begun finishes what it does: a payment, a write to two
    // tables. A generator of stream() is closed in both cases. Source: aiohttp's handler_cancellation.
    bool cancel_on_disconnect = false;
    const access_log* log = nullptr;             // is told of each response; it is copied before the call returns
    std::uint32_t max_concurrent_streams = 100;  // HTTP/2: how many requests of a connection may be under way
    bool http2 = true;  // false: HTTP/1 alone is spoken, even where the context says alpn("h2")
    // How many loops serve, each on a thread of its own; that of the caller is one of them. 0: one for each core. The
    // handler, and the log, are called on all threads at once, and each connection stays on one of them. What belongs
    // to a loop (a session, a database's connection) is not captured, but made by the handler on each thread, as a
    // thread_local, for instance: see aio/server.hpp.
    std::size_t threads = 1;
};

/// What a server has done since its start.
struct server_statistics {
    std::size_t connections = 0;            // that are open
    std::uint64_t accepted = 0;             // connections, ever
    std::uint64_t refused_connections = 0;  // beyond max_connections
    std::size_t failed_handshakes = 0;      // of TLS
    std::uint64_t requests = 0;             // that a handler has got
    std::size_t active = 0;                 // of them, those that are not answered yet
    std::uint64_t refused_requests = 0;     // malformed, too large, too slow: a handler did not get them, or not whole
    std::uint64_t handler_errors = 0;       // exceptions of handlers and of bodies
    std::uint64_t lost_clients = 0;         // that went away, or were too slow, before their response was sent
    std::uint64_t bytes_received = 0;       // without TLS's own
    std::uint64_t bytes_sent = 0;           // without TLS's own
};

}  // namespace aio::inline v0::http

namespace aio::inline v0::detail {

class http_server_state;

/// What a server calls for each request. If a request's body has not come whole with its head, unbuffered says whether
/// the handler reads it piece by piece (request::stream()); an empty function says no.
struct http_handler {
    function<coro<http::response>(http::request)> call;
    function<bool(const http::request&)> unbuffered;
};

// The request lives here: a handler may take it by reference.
template<class F>
coro<http::response> call_http_handler(F& handler, http::request request) {
    using gives = final_result_t<F&, http::request>;
    static_assert(
        std::is_convertible_v<gives, http::response>, "the handler of an HTTP server gives an http::response");
    try {
        if constexpr (awaitable<std::invoke_result_t<F&, http::request>>) {
            co_return co_await detail::invoke(handler, std::move(request));
        } else {
            co_return detail::invoke(handler, std::move(request));
        }
    } catch (const http::refusal& refusal) { co_return http_response_of(refusal); }
}

template<class F>
struct http_handler_of {
    F fn;
    AIO_DETAIL_WRAPPER coro<http::response> operator()(http::request request) {
        return call_http_handler(fn, std::move(request));
    }
};

/// A handler that can be asked for whom it reads bodies piece by piece.
template<class F>
concept asked_for_unbuffered = requires(const F& handler, const http::request& request) {
    { handler.unbuffered(request) } -> std::convertible_to<bool>;
};

template<class F>
struct shared_http_handler {
    std::shared_ptr<F> fn;
    AIO_DETAIL_WRAPPER coro<http::response> operator()(http::request request) {
        return call_http_handler(*fn, std::move(request));
    }
};

/// True if F takes the request by value and gives a coroutine: then nothing has to keep the request for it.
template<class F>
inline constexpr bool takes_by_value = false;
template<class F>
    requires(std::is_class_v<F> && requires { &F::operator(); })
inline constexpr bool takes_by_value<F> = takes_by_value<decltype(&F::operator())>;
template<>
inline constexpr bool takes_by_value<coro<http::response> (*)(http::request)> = true;
template<class C>
inline constexpr bool takes_by_value<coro<http::response> (C::*)(http::request)> = true;
template<class C>
inline constexpr bool takes_by_value<coro<http::response> (C::*)(http::request) const> = true;

/// A handler that wants to know nothing of the request.
template<class F>
struct http_handler_of_nothing {
    F fn;
    AIO_DETAIL_WRAPPER decltype(auto) operator()(const http::request&) { return detail::invoke(fn); }
};

/// A handler is a function of a request or of nothing, or an object that makes the http_handler itself: a router, what
/// unbuffered() gives, or a std::ref of one of them.
template<class F>
http_handler make_http_handler(F&& handler, const char* where = "http::start_server()") {
    using stored = std::decay_t<F>;
    if constexpr (requires { std::forward<F>(handler).to_http_handler(); }) {
        return std::forward<F>(handler).to_http_handler();
    } else if constexpr (requires { handler.get().to_http_handler(); }) {
        return handler.get().to_http_handler();
    } else if constexpr (!std::is_invocable_v<stored&, http::request> && std::is_invocable_v<stored&>) {
        require_function<stored>(handler, where);
        return http_handler{
            http_handler_of<http_handler_of_nothing<stored>>{http_handler_of_nothing<stored>{std::forward<F>(handler)}},
            {}};
    } else if constexpr (takes_by_value<stored> && !asked_for_unbuffered<stored>) {
        require_function<stored>(handler, where);
        return http_handler{std::forward<F>(handler), {}};
    } else if constexpr (asked_for_unbuffered<stored>) {
        auto shared = std::make_shared<stored>(std::forward<F>(handler));
        auto asks = [shared](const http::request& request) -> bool { return shared->unbuffered(request); };
        return http_handler{shared_http_handler<stored>{shared}, std::move(asks)};
    } else {
        static_assert(std::is_invocable_v<stored&, http::request>,
            "the handler of an HTTP server is a function of an http::request, or of nothing");
        require_function<stored>(handler, where);
        return http_handler{http_handler_of<stored>{std::forward<F>(handler)}, {}};
    }
}

template<class F>
struct unbuffered_handler {
    F fn;
    http_handler to_http_handler() const& { return unbuffered_handler{fn}.made(); }
    http_handler to_http_handler() && { return made(); }

private:
    http_handler made() {
        http_handler h = make_http_handler(std::move(fn), "http::unbuffered()");
        h.unbuffered = [](const http::request&) { return true; };
        return h;
    }
};

/// The options of a server, and copies of what they refer to.
struct http_server_settings {
    explicit http_server_settings(const http::server_options& o)
        : options(o), tls(context_of(o.context)), log(o.log ? o.log->detail_function() : nullptr) {
        options.context = nullptr;
        options.log = nullptr;
    }
    http::server_options options;
    tls_context_ref tls;
    std::shared_ptr<function<void(const http::access_record&)>> log;
};

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

/// Gives a handler that is called as soon as the head of a request is there, and reads the body itself, piece by piece
/// as it comes: request.stream(), request.parts(). request.body() is empty, unless the body has come with the head.
/// handler is a function, as start_server() takes it; it is moved in.
///
/// While the handler does not read, the client has to wait, so bodies may be larger than memory; their limit is
/// server_options::max_stream_size. A client that has sent "Expect: 100-continue" is asked for the body when the
/// handler first reads. What the handler does not read is dropped; if that is more than 256 KiB, the connection is
/// closed. An error of the body that the handler lets through is the client's: it gets 400, 408 or 413.
template<class F>
auto unbuffered(F&& handler) {
    return detail::unbuffered_handler<std::decay_t<F>>{std::forward<F>(handler)};
}

/// A handle; movable. If it is dropped, the server runs until the end of run().
class server {
public:
    server() noexcept = default;
    server(aio::server listening, std::shared_ptr<detail::http_server_state> state) noexcept;

    /// The port that the server listens on: the real one if it was asked for 0.
    int port() const { return listening_.port(); }
    /// Stops listening, and closes the connections that have no request under way; the others are closed after their
    /// request.
    void close();
    /// Waits until the server is closed and all connections are gone. Revertible.
    AIO_DETAIL_WRAPPER coro<> wait_closed() { return listening_.wait_closed(); }
    /// Closes the server and waits for the requests under way, whose responses say "Connection: close": gives true when
    /// they are done. When d has passed, aborts the rest and gives false. A cancel ends the wait; the server stays
    /// closed. WebSockets and other connections that were
    /// upgraded are told at once that the server goes away, and http::events() come to their end.
    coro<bool> drain(delay d);
    /// As a manager: enter gives the server itself; exit closes the server, cancels the handlers of the requests under
    /// way, and waits until they have ended. To let them finish, await drain() before. A cancel neither prevents nor
    /// interrupts exit: it stays pending.
    detail::ready<server&> enter() noexcept { return detail::ready<server&>(*this); }
    detail::server_leaving exit(const std::exception_ptr& error);
    /// Waits until it is cancelled; then drains for drain_timeout, and throws the cancelled_error. A second cancel
    /// aborts the connections that are left.
    coro<> serve_forever();
    bool is_serving() const noexcept { return listening_.is_serving(); }  // True until the server is closed.
    /// How many connections are open, idle ones included.
    std::size_t connections() const { return listening_.connections(); }
    server_statistics statistics() const;  // The counts of all its threads together.

private:
    aio::server listening_;
    std::shared_ptr<detail::http_server_state> state_;
};

}  // namespace aio::inline v0::http

namespace aio::inline v0::detail {
coro<http::server> start_http_server(http_handler handler, std::string host, int port, http_server_settings settings);
coro<http::server> start_http_server(http_handler handler, descriptor listening, http_server_settings settings);
coro<http::server> start_unix_http_server(http_handler handler, std::string path, http_server_settings settings);
coro<> serve_http(coro<http::server> starting);
}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

/// Listens on host and port (0: a free one), as aio::start_server does, and answers requests with what handler(request)
/// gives. handler is a plain or async function, which is called for many requests at once. The server keeps it, with
/// what it captures, until the last connection is gone. Throws std::system_error that names the address (EADDRINUSE,
/// EACCES); std::invalid_argument for a context that is a client's.
template<class F>
AIO_DETAIL_WRAPPER coro<server> start_server(F&& handler, std::string host, int port, server_options options = {}) {
    return detail::start_http_server(detail::make_http_handler(std::forward<F>(handler)), std::move(host), port,
        detail::http_server_settings(options));
}
/// Takes over a socket that listens already, TCP or unix: an inherited one (inherited_sockets()), for instance. Throws
/// as aio::start_server does.
template<class F>
AIO_DETAIL_WRAPPER coro<server> start_server(F&& handler, descriptor listening, server_options options = {}) {
    return detail::start_http_server(detail::make_http_handler(std::forward<F>(handler)), std::move(listening),
        detail::http_server_settings(options));
}
/// Listens on a unix socket at path, as aio::start_unix_server does: for a proxy on the same machine. Completes and is
/// cancelled as start_server(). Throws std::system_error that names the path.
template<class F>
AIO_DETAIL_WRAPPER coro<server> start_unix_server(F&& handler, std::string path, server_options options = {}) {
    return detail::start_unix_http_server(
        detail::make_http_handler(std::forward<F>(handler)), std::move(path), detail::http_server_settings(options));
}

/// Calls start_server() and serve_forever(): runs until it is cancelled, then finishes the requests under way, and
/// throws the cancelled_error.
template<class F>
AIO_DETAIL_WRAPPER coro<> serve(F&& handler, std::string host, int port, server_options options = {}) {
    return detail::serve_http(start_server(std::forward<F>(handler), std::move(host), port, options));
}
template<class F>
AIO_DETAIL_WRAPPER coro<> serve(F&& handler, descriptor listening, server_options options = {}) {
    return detail::serve_http(start_server(std::forward<F>(handler), std::move(listening), options));
}
/// Listens on a unix socket at path, and serves as serve() does until it is cancelled.
template<class F>
AIO_DETAIL_WRAPPER coro<> serve_unix(F&& handler, std::string path, server_options options = {}) {
    return detail::serve_http(start_unix_server(std::forward<F>(handler), std::move(path), options));
}

}  // namespace aio::inline v0::http
