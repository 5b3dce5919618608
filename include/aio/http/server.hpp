#pragma once
// The HTTP server: HTTP/1.1 and 1.0, one handler for all requests, keep-alive, limits and deadlines that an open port
// needs.
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

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/http/message.hpp>
#include <aio/server.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace aio::http {

struct server_options {
    std::size_t max_header_size = 32 * 1024;          // bytes, request line included; trailers have as much again
    std::size_t max_body_size = 8 * 1024 * 1024;      // bytes
    delay header_timeout = std::chrono::seconds(10);  // from a request's first byte to the end of its header
    delay body_timeout = std::chrono::seconds(30);    // between two pieces of its body
    delay write_timeout =
        std::chrono::seconds(30);  // for 256 KiB of a response; a client that does not take them is reset
    delay idle_timeout = std::chrono::seconds(60);   // for the first byte of a request
    delay drain_timeout = std::chrono::seconds(30);  // of serve(), once it is cancelled
    int backlog = 100;
    bool reuse_port = false;
    delay linger_timeout =
        std::chrono::seconds(30);  // after a refusal: for the client to end its sending and read the answer
};

}  // namespace aio::http

namespace aio::detail {

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
    if constexpr (awaitable<std::invoke_result_t<F&, http::request>>) {
        co_return co_await detail::invoke(handler, std::move(request));
    } else {
        co_return detail::invoke(handler, std::move(request));
    }
}

template<class F>
struct http_handler_of {
    F fn;
    AIO_DETAIL_WRAPPER coro<http::response> operator()(http::request request) {
        return call_http_handler(fn, std::move(request));
    }
};

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

}  // namespace aio::detail

namespace aio::http {

/// Gives a handler that is called as soon as the head of a request is there, and reads the body itself, piece by piece
/// as it comes: request.stream(), request.parts(). request.body() is empty. handler is a function, as start_server()
/// takes it; it is moved in.
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
    /// Closes the server and waits for the requests under way: gives true when they are done. When d has passed, aborts
    /// the rest and gives false.
    coro<bool> drain(delay d);
    /// As a manager: enter gives the server itself; exit closes the server, cancels the handlers of the requests under
    /// way, and waits until they have ended. To let them finish, await drain() before. A cancel neither prevents nor
    /// interrupts exit: it stays pending.
    detail::ready<server&> enter() noexcept { return detail::ready<server&>(*this); }
    detail::server_leaving exit(const std::exception_ptr& error);
    /// Waits until it is cancelled; then drains for drain_timeout, and throws the cancelled_error. A second cancel
    /// aborts the connections that are left.
    coro<> serve_forever();
    bool is_serving() const noexcept { return listening_.is_serving(); }
    /// How many connections are open, idle ones included.
    std::size_t connections() const { return listening_.connections(); }

private:
    aio::server listening_;
    std::shared_ptr<detail::http_server_state> state_;
};

}  // namespace aio::http

namespace aio::detail {
coro<http::server> start_http_server(http_handler handler, std::string host, int port, http::server_options options);
coro<> serve_http(http_handler handler, std::string host, int port, http::server_options options);
}  // namespace aio::detail

namespace aio::http {

/// Listens on host and port (0: a free one), as aio::start_server does, and answers requests with what handler(request)
/// gives. handler is a plain or async function, which is called for many requests at once. The server keeps it, with
/// what it captures, until the last connection is gone. Throws std::system_error that names the address (EADDRINUSE,
/// EACCES).
template<class F>
AIO_DETAIL_WRAPPER coro<server> start_server(F&& handler, std::string host, int port, server_options options = {}) {
    return detail::start_http_server(
        detail::make_http_handler(std::forward<F>(handler)), std::move(host), port, options);
}

/// Calls start_server() and serve_forever(): runs until it is cancelled, then finishes the requests under way, and
/// throws the cancelled_error.
template<class F>
AIO_DETAIL_WRAPPER coro<> serve(F&& handler, std::string host, int port, server_options options = {}) {
    return detail::serve_http(detail::make_http_handler(std::forward<F>(handler)), std::move(host), port, options);
}

}  // namespace aio::http
