// The HTTP server behind http::serve and http::start_server: an aio::server whose handler is serve_connection
// (connection.cpp), one task for each connection. This file starts servers and ends them.
//
// When the server is closed, connections that wait for a request, linger or are upgraded are cancelled, and the others
// end with the response that is under way.

#include "http/server/engine.hpp"

#include <aio/detail/io/alpn.hpp>
#include <aio/event_loop.hpp>
#include <aio/sleep.hpp>

namespace aio::detail {

void http_server_state::close() noexcept {
    draining = true;
    for (served_connection* c = connections.front(); c; c = connections.after(*c)) c->server_closes();
}

namespace {

// What clients and the server agree on in TLS. HTTP/2 is spoken with who can, as Go's and Python's servers do. A list
// that the user has given to the context holds, unless HTTP/2 is switched off.
tls_context_ref with_versions_of_http(const http_server_state& state) {
    if (!state.tls) return {};
    const std::string http1 = "\x08http/1.1\x08http/1.0";
    if (!state.options.http2) return with_protocols(state.tls, http1, alpn_list::of_the_handle);
    return with_protocols(state.tls, "\x02h2" + http1, alpn_list::of_the_context_first);
}

/// What the server below is told.
struct listening {
    explicit listening(const http_server_state& state) : tls(with_versions_of_http(state)) {
        options.backlog = state.options.backlog;
        options.reuse_port = state.options.reuse_port;
        options.handshake_timeout = state.options.handshake_timeout;
        options.limit = read_size;
    }
    server_options options;
    tls_context_ref tls;
};

connection_handler connections_of(const std::shared_ptr<http_server_state>& state) {
    return [state](stream client) { return serve_connection(state, std::move(client)); };
}

}  // namespace

coro<http::server> start_http_server(http_handler handler, std::string host, int port, http_server_settings settings) {
    refuse_threads(settings, "http::start_server()");
    auto state = std::make_shared<http_server_state>(std::move(handler), std::move(settings));
    const listening how(*state);
    aio::server listener = co_await listen_on(connections_of(state), std::move(host), port, how.options, how.tls);
    co_return http::server(std::move(listener), std::move(state));
}

coro<http::server> start_http_server(http_handler handler, descriptor socket, http_server_settings settings) {
    refuse_threads(settings, "http::start_server()");
    auto state = std::make_shared<http_server_state>(std::move(handler), std::move(settings));
    const listening how(*state);
    aio::server listener =
        co_await listen_on_descriptor(connections_of(state), std::move(socket), how.options, how.tls);
    co_return http::server(std::move(listener), std::move(state));
}

coro<http::server> start_unix_http_server(http_handler handler, std::string path, http_server_settings settings) {
    refuse_threads(settings, "http::start_unix_server()");
    auto state = std::make_shared<http_server_state>(std::move(handler), std::move(settings));
    const listening how(*state);
    aio::server listener = co_await listen_on_path(connections_of(state), std::move(path), how.options, how.tls);
    co_return http::server(std::move(listener), std::move(state));
}

coro<> serve_http(coro<http::server> starting) {
    http::server server = co_await std::move(starting);
    co_await server.serve_forever();
}

}  // namespace aio::detail

namespace aio::http {

server::server(aio::server listening, std::shared_ptr<detail::http_server_state> state) noexcept
    : listening_(std::move(listening)), state_(std::move(state)) {}

void server::close() {
    listening_.close();
    state_->close();
}

detail::server_leaving server::exit(const std::exception_ptr& error) {
    if (state_) state_->draining = true;
    return listening_.exit(error);
}

coro<bool> server::drain(delay d) {
    close();
    return listening_.drain(d);
}

coro<> server::serve_forever() {
    const delay limit = state_->options.drain_timeout;
    std::exception_ptr cancelled;
    try {
        co_await sleep_forever();
    } catch (const cancelled_error&) { cancelled = std::current_exception(); }
    bool drained = false;
    try {
        co_await drain(limit);
        drained = true;
    } catch (const cancelled_error&) {  // a second cancel: the clients are aborted
    }
    if (!drained) {
        listening_.abort_clients();
        co_await listening_.exit(nullptr);  // a handler may be waiting for something else than its client
    }
    std::rethrow_exception(cancelled);
}

server_statistics server::statistics() const {
    server_statistics all = state_->counts;
    all.connections = listening_.connections();
    all.failed_handshakes = listening_.failed_handshakes();
    return all;
}

}  // namespace aio::http
