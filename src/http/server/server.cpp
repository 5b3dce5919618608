// The HTTP server behind http::serve and http::start_server: an aio::server whose handler is serve_connection
// (connection.cpp), one task for each connection. This file starts servers and ends them.
//
// With several threads each has an http_server_state, made here and used there alone, but for what it counts.
//
// When the server is closed, connections that wait for a request, linger or are upgraded are cancelled, and the others
// end with the response that is under way.

#include "http/server/engine.hpp"

#include <aio/detail/io/alpn.hpp>
#include <aio/event_loop.hpp>
#include <aio/sleep.hpp>

namespace aio::inline v0::detail {

void http_server_state::close(bool leaving) noexcept {
    draining = true;
    if (leaving) return;  // the tasks of the connections are cancelled next
    for (served_connection* c = connections.front(); c; c = connections.after(*c)) c->server_closes();
}

void http_server_counts::add_to(http::server_statistics& all) const noexcept {
    all.accepted += accepted;
    all.refused_connections += refused_connections;
    all.requests += requests;
    all.active += active;
    all.refused_requests += refused_requests;
    all.handler_errors += handler_errors;
    all.lost_clients += lost_clients;
    all.bytes_received += bytes_received;
    all.bytes_sent += bytes_sent;
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
        options.threads = state.options.threads;
    }
    server_options options;
    tls_context_ref tls;
};

/// A handler of one thread, which calls that of all.
http_handler calls(const std::shared_ptr<http_handler>& all) {
    http_handler one;
    one.call = [all](http::request request) { return all->call(std::move(request)); };
    if (all->unbuffered) one.unbuffered = [all](const http::request& request) { return all->unbuffered(request); };
    return one;
}

/// The state of the server on the caller's thread. It knows those of the other threads.
std::shared_ptr<http_server_state> make_state(http_handler handler, http_server_settings settings) {
    const std::size_t threads = threads_to_serve(settings.options.threads);
    if (threads == 1) return std::make_shared<http_server_state>(std::move(handler), std::move(settings));
    const auto shared = std::make_shared<http_handler>(std::move(handler));
    auto first = std::make_shared<http_server_state>(calls(shared), settings);
    for (std::size_t i = 1; i < threads; ++i) {
        first->others.push_back(std::make_shared<http_server_state>(calls(shared), settings));
        first->others.back()->open = first->open;
    }
    return first;
}

connection_service service_of(const std::shared_ptr<http_server_state>& state) {
    connection_service service;
    service.handler = [state](stream client) { return serve_connection(state, std::move(client)); };
    service.closing = [state](bool leaving) { state->close(leaving); };
    return service;
}

std::vector<connection_service> services_of(const std::shared_ptr<http_server_state>& state) {
    std::vector<connection_service> services;
    services.push_back(service_of(state));
    for (const auto& other : state->others) services.push_back(service_of(other));
    return services;
}

}  // namespace

coro<http::server> start_http_server(http_handler handler, std::string host, int port, http_server_settings settings) {
    auto state = make_state(std::move(handler), std::move(settings));
    const listening how(*state);
    aio::server listener = co_await listen_on(services_of(state), std::move(host), port, how.options, how.tls);
    co_return http::server(std::move(listener), std::move(state));
}

coro<http::server> start_http_server(http_handler handler, descriptor socket, http_server_settings settings) {
    auto state = make_state(std::move(handler), std::move(settings));
    const listening how(*state);
    aio::server listener = co_await listen_on_descriptor(services_of(state), std::move(socket), how.options, how.tls);
    co_return http::server(std::move(listener), std::move(state));
}

coro<http::server> start_unix_http_server(http_handler handler, std::string path, http_server_settings settings) {
    auto state = make_state(std::move(handler), std::move(settings));
    const listening how(*state);
    aio::server listener = co_await listen_on_path(services_of(state), std::move(path), how.options, how.tls);
    co_return http::server(std::move(listener), std::move(state));
}

coro<> serve_http(coro<http::server> starting) {
    http::server server = co_await std::move(starting);
    co_await server.serve_forever();
}

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

server::server(aio::server listening, std::shared_ptr<detail::http_server_state> state) noexcept
    : listening_(std::move(listening)), state_(std::move(state)) {}

void server::close() { listening_.close(); }

detail::server_leaving server::exit(const std::exception_ptr& error) { return listening_.exit(error); }

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
    server_statistics all;
    state_->counts.add_to(all);
    for (const auto& other : state_->others) other->counts.add_to(all);
    all.connections = listening_.connections();
    all.failed_handshakes = listening_.failed_handshakes();
    return all;
}

}  // namespace aio::inline v0::http
