// The listening sockets of a server: on all addresses of a host, on a unix socket's path, or one that listens already.
// With several threads each of them has sockets of its own on the same port, or a copy of the one socket.

#include "io/resolver.hpp"
#include "io/server_state.hpp"
#include "io/tls.hpp"

#include <cerrno>

#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

namespace aio::inline v0::detail {

namespace {

server_ref make_server(
    std::vector<connection_service> services, const server_options& options, const tls_context_ref& tls) {
    if (tls && !is_server_side(tls)) {
        throw std::invalid_argument("start_server: the context is a client's; take tls_context::server()");
    }
    server_ref server(new server_state(std::move(services.front()), options, tls));
    if (services.size() > 1) server->others = std::make_unique<server_threads>(std::move(services), options, tls);
    return server;
}

// Gives 0, or the errno of the step that failed, whose name is in what then. several: more sockets of this process will
// listen on the address. Only the first one's bind() refuses to share it, so that a second process that serves on
// several threads finds the address taken.
int try_to_listen(listener& l, const server_options& options, bool several, const char*& what) {
    what = "socket";
    l.close();
    l.fd = ::socket(l.where.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l.fd < 0) return errno;
    const int on = 1;
    if (l.where.family() != AF_UNIX) ::setsockopt(l.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (options.reuse_port && ::setsockopt(l.fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) return errno;
    if (l.where.family() == AF_INET6) ::setsockopt(l.fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (const int error = socket_options(options).apply(l.fd, l.where.family())) return error;
    what = "listen";
    if (::bind(l.fd, l.where.native(), l.where.native_size()) != 0) return errno;
    l.file.note(l.where);
    if (several && ::setsockopt(l.fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) return errno;
    if (::listen(l.fd, options.backlog) != 0) return errno;
    l.where = address_of_socket(l.fd, false);
    return l.where.native_size() == 0 ? errno : 0;
}

// Listens on all addresses, on one port. False if the kernel chose the port for the first address and it is taken at
// another one.
bool listen_on_all(server_state& server, const std::vector<address>& where, const server_options& options) {
    int port = where.front().port();
    const bool any_port = port == 0;
    int last_error = 0;
    for (address a : where) {
        if (a.port() == 0) a.detail_set_port(port);
        auto l = std::make_unique<listener>(a);
        const char* what = "";
        const int error = try_to_listen(*l, options, server.others != nullptr, what);
        if (error == 0) {
            if (any_port) port = l->where.port();
            server.listeners.push_back(std::move(l));
            continue;
        }
        last_error = error;
        // This machine does not have the address's family (bpo-30945): the other addresses suffice.
        if (error == EADDRNOTAVAIL || error == EAFNOSUPPORT) {
            if (where.size() > 1) continue;
        }
        server.listeners.clear();
        if (error == EADDRINUSE && any_port && port != 0) return false;
        throw_system_error(error, std::string(what) + " on " + a.to_string());
    }
    if (server.listeners.empty())
        throw_system_error(last_error, "listen on " + where.front().to_string() + " and its other addresses");
    return true;
}

// Each of the other threads listens on the addresses of the server, too.
void listen_beside(server_state& server, server_options options) {
    if (!server.others) return;
    options.reuse_port = true;
    for (const auto& part : server.others->parts()) {
        for (const auto& first : server.listeners) {
            auto l = std::make_unique<listener>(first->where);
            const char* what = "";
            const int error = try_to_listen(*l, options, false, what);
            if (error != 0) throw_system_error(error, std::string(what) + " on " + first->where.to_string());
            part->listeners.push_back(std::move(l));
        }
    }
}

// The other threads accept from the one socket.
void share_socket(server_state& server) {
    if (!server.others) return;
    listener& first = *server.listeners.front();
    first.shared = true;
    for (const auto& part : server.others->parts()) {
        auto l = std::make_unique<listener>(first.where);
        l->shared = true;
        l->fd = ::fcntl(first.fd, F_DUPFD_CLOEXEC, 0);
        if (l->fd < 0) throw_system_error(errno, "a copy of the listening socket of " + first.where.to_string());
        part->listeners.push_back(std::move(l));
    }
}

coro<> begin_serving(server_ref server) {
    if (server->others) co_await start_other_threads(server);
    start_accepting(server);
}

}  // namespace

coro<server> listen_on(std::vector<connection_service> services, std::string host, int port, server_options options,
    tls_context_ref context) {
    check_port(port);
    const server_ref state = make_server(std::move(services), options, context);
    const std::vector<address> where = co_await resolve(std::move(host), port, true);
    for (int attempts = 10; !listen_on_all(*state.get(), where, options); --attempts) {
        if (attempts == 0) throw_system_error(EADDRINUSE, "listen on one free port of all addresses");
    }
    listen_beside(*state.get(), options);
    co_await begin_serving(state);
    co_return server(state);
}

coro<server> listen_on_descriptor(
    std::vector<connection_service> services, descriptor listening, server_options options, tls_context_ref context) {
    const server_ref state = make_server(std::move(services), options, context);
    const address where = require_socket(listening, SOCK_STREAM, "start_server");
    int listens = 0;
    socklen_t size = sizeof listens;
    if (::getsockopt(listening.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) {
        throw_system_error(EINVAL, "start_server: the socket of " + where.to_string() + " does not listen");
    }
    const socket_options of_connections(options);
    if (const int error = of_connections.apply(listening.get(), where.family()))
        throw_system_error(error, "start_server: the options of the socket of " + where.to_string());
    auto l = std::make_unique<listener>(where);
    l->fd = listening.release();
    state->listeners.push_back(std::move(l));
    share_socket(*state.get());
    co_await begin_serving(state);
    co_return server(state);
}

coro<server> listen_on_path(
    std::vector<connection_service> services, std::string path, server_options options, tls_context_ref context) {
    const server_ref state = make_server(std::move(services), options, context);
    auto l = std::make_unique<listener>(unix_address(path, "start_unix_server: the path"));
    const char* what = "";
    function<int()> bind = [&] { return try_to_listen(*l, options, false, what); };
    const int error = co_await bind_unix(l->where, bind);
    if (error != 0) throw_system_error(error, std::string(what) + " on " + l->where.to_string());
    state->listeners.push_back(std::move(l));
    share_socket(*state.get());
    co_await begin_serving(state);
    co_return server(state);
}

}  // namespace aio::inline v0::detail
