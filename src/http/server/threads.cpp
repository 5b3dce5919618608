// http::serve with several threads: the caller's loop serves, and so do the loops of workers, each with a server of its
// own. Over TCP each has a listening socket (SO_REUSEPORT), and the kernel spreads the connections; a socket that was
// taken over is accepted from by all. Nothing is shared but the handler. A cancel goes to all of them, and each drains.

#include <aio/gather.hpp>
#include <aio/http/server.hpp>
#include <aio/with.hpp>
#include <aio/workers.hpp>

#include <cerrno>
#include <stdexcept>
#include <vector>

#include <fcntl.h>

namespace aio::detail {

namespace {

using shared_handler = std::shared_ptr<http_handler>;

/// A handler of one thread, which calls that of all.
http_handler calls(const shared_handler& all) {
    http_handler one;
    one.call = [all](http::request request) { return all->call(std::move(request)); };
    if (all->unbuffered) one.unbuffered = [all](const http::request& request) { return all->unbuffered(request); };
    return one;
}

// These run on the loop of a worker.
coro<> serve_port_there(shared_handler handler, std::string host, int port, http_server_settings settings) {
    co_await serve_http(start_http_server(calls(handler), std::move(host), port, std::move(settings)));
}
coro<> serve_socket_there(shared_handler handler, descriptor socket, http_server_settings settings) {
    co_await serve_http(start_http_server(calls(handler), std::move(socket), std::move(settings)));
}

/// How many threads serve beside that of the caller. The settings are those of one thread from here on.
std::size_t take_other_threads(http_server_settings& settings) {
    const std::size_t all = std::exchange(settings.options.threads, 1);
    return (all == 0 ? workers().size() : all) - 1;
}

/// Serves until it is cancelled. The first error ends all.
coro<> serve_together(http::server& mine, std::vector<coro<>> others) {
    others.push_back(mine.serve_forever());
    co_await gather(std::move(others));
}

descriptor copy_of(const descriptor& socket) {
    descriptor copy(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
    if (!copy) throw std::system_error(errno, std::generic_category(), "dup of a listening socket");
    return copy;
}

}  // namespace

void refuse_threads(const http_server_settings& settings, const char* function) {
    if (settings.options.threads == 1) return;
    throw std::invalid_argument(std::string(function) +
        ": .threads is for http::serve() over TCP, or with a listening socket; this server has the thread of its loop");
}

coro<> serve_on_threads(http_handler handler, std::string host, int port, http_server_settings settings) {
    const std::size_t count = take_other_threads(settings);
    if (count == 0) {
        co_await serve_http(start_http_server(std::move(handler), std::move(host), port, std::move(settings)));
        co_return;
    }
    settings.options.reuse_port = true;
    const auto shared = std::make_shared<http_handler>(std::move(handler));
    workers threads({.threads = count});
    co_await with(threads, [&](workers& w) -> coro<> {
        http::server first = co_await start_http_server(calls(shared), host, port, settings);
        co_await with(first, [&](http::server& mine) -> coro<> {
            std::vector<coro<>> others;
            others.reserve(count + 1);
            for (std::size_t i = 0; i < count; ++i)
                others.push_back(to_coro(w.run_on(i, &serve_port_there, shared, host, mine.port(), settings)));
            co_await serve_together(mine, std::move(others));
        });
    });
}

coro<> serve_on_threads(http_handler handler, descriptor socket, http_server_settings settings) {
    const std::size_t count = take_other_threads(settings);
    if (count == 0) {
        co_await serve_http(start_http_server(std::move(handler), std::move(socket), std::move(settings)));
        co_return;
    }
    const auto shared = std::make_shared<http_handler>(std::move(handler));
    workers threads({.threads = count});
    co_await with(threads, [&](workers& w) -> coro<> {
        std::vector<coro<>> others;
        others.reserve(count + 1);
        for (std::size_t i = 0; i < count; ++i)
            others.push_back(to_coro(w.run_on(i, &serve_socket_there, shared, copy_of(socket), settings)));
        http::server first = co_await start_http_server(calls(shared), std::move(socket), settings);
        co_await with(first, [&](http::server& mine) -> coro<> { co_await serve_together(mine, std::move(others)); });
    });
}

}  // namespace aio::detail
