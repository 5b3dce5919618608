#pragma once
// What is behind an aio::server. server.cpp accepts connections and runs their handlers, listen.cpp makes the listening
// sockets, and server_threads.cpp has the servers of further threads.

#include "io/server_threads.hpp"
#include "io/transport.hpp"
#include "io/unix_file.hpp"

#include <aio/future.hpp>
#include <aio/server.hpp>
#include <aio/task.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace aio::inline v0::detail {

/// A listening socket.
struct listener {
    int fd = -1;
    address where;
    io_source source;
    unix_file file;
    bool shared = false;  // other loops of this process accept from the same socket

    explicit listener(const address& a) : where(a) {}
    ~listener() { close(); }
    listener(const listener&) = delete;
    listener& operator=(const listener&) = delete;
    void close() noexcept;
};

/// A running handler. The frame of its task owns it.
struct running_handler : list_node, pooled {
    server_ref server;
    stream_ptr connection;
    task_base* task = nullptr;

    running_handler(server_ref s, stream_ptr c) noexcept;
    ~running_handler();
};

/// What is behind a server. Its handles, its accept loops, its connections and their handlers keep it alive.
class server_state final : public pooled {
public:
    server_state(connection_service service, const server_options& options, tls_context_ref context)
        : handler(std::move(service.handler)),
          closing(std::move(service.closing)),
          limit(options.limit),
          max_descriptors(options.max_descriptors),
          tls(std::move(context)),
          handshake_timeout(options.handshake_timeout) {}
    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) delete this;
    }

    /// cancels: the handlers are cancelled next, here and on the other threads.
    void close(bool cancels = false) noexcept;
    void begin(int fd, const address& peer);
    /// True if no handler runs any more, here and on the other threads.
    bool handled() const noexcept { return handlers.empty() && (!others || others->ended()); }
    bool gone() const noexcept { return closed && connections.empty() && handled(); }
    /// A connection or a handler has ended, or the server was closed: the tasks that wait for that look again.
    void changed() noexcept;
    /// A future that is done at the next call of changed().
    future<> next_change();
    void close_clients() noexcept;
    void abort_all() noexcept;
    void cancel_handlers() noexcept;
    std::string name() const { return listeners.empty() ? std::string("?") : listeners.front()->where.to_string(); }

    connection_handler handler;
    function<void(bool leaving)> closing;
    std::size_t limit;
    std::size_t max_descriptors;
    const tls_context_ref tls;  // null: no TLS
    const delay handshake_timeout;
    server_counts own_counts;
    server_counts* counts = &own_counts;  // those of a part are in its server_part
    std::vector<std::unique_ptr<listener>> listeners;
    std::vector<task<>> accepting;
    list<stream_state> connections;
    list<running_handler> handlers;
    std::vector<future<>> waiters;
    list<server_leaving> leaving;
    std::optional<future<>> serving_forever;
    std::unique_ptr<server_threads> others;  // null: one thread serves
    bool closed = false;
    bool told = false;  // debug mode has reported that the server was not left

private:
    std::uint32_t references_ = 0;
};

/// Accepts connections from all listeners. If that fails, the server is closed.
void start_accepting(const server_ref& server);
/// Waits until the server is closed, all connections are gone, and their handlers have ended.
coro<> wait_until_gone(server_ref server);

}  // namespace aio::inline v0::detail
