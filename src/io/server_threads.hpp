#pragma once
// A server on several threads: the loop that owns the server accepts connections, and so do the loops of workers. Each
// of them has a server_state of its own, with its connections and handlers, so that nothing is shared but the handler.
//
// A server_part is what the owner and one of those threads have in common. The owner gives it orders, which travel
// through the mailbox of the part's loop in a node of the part, so that an order allocates nothing and cannot fail. The
// parts end one way: start_other_threads() makes the keeper, a task of the owner's loop. It starts the parts, waits
// until each is gone, and ends the threads. A cancel of the keeper cancels the handlers on all of them.

#include <aio/detail/base/counter.hpp>
#include <aio/detail/base/list.hpp>
#include <aio/detail/loop/mailbox.hpp>
#include <aio/server.hpp>
#include <aio/task.hpp>
#include <aio/workers.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

namespace aio::inline v0::detail {

struct listener;
class server_parts_ending;

/// What a server counts, on one thread.
struct server_counts {
    counter connections;  // that are open
    counter failed_handshakes;
};

/// The part of a server that another thread has.
class alignas(64) server_part {
public:
    enum order : unsigned { close = 1, close_clients = 2, abort_clients = 4 };
    server_part(connection_service s, const server_options& o, tls_context_ref context);
    ~server_part();
    server_part(const server_part&) = delete;
    server_part& operator=(const server_part&) = delete;

    /// On the owner's thread, once begin() has run.
    void give(order what) noexcept;

    // These run on the part's own thread, as calls of the owner's.
    static coro<> begin(server_part* self);
    static coro<> stay(server_part* self);

    server_counts counts;
    std::vector<std::unique_ptr<listener>> listeners;  // until begin()

private:
    struct order_node : mailbox_node {
        server_part* part = nullptr;
    };
    void obey() noexcept;
    connection_service service_;
    const server_options options_;
    const tls_context_ref tls_;
    std::shared_ptr<mailbox> mail_;
    server_ref there_;  // used on the part's own thread
    std::atomic<unsigned> orders_ = 0;
    order_node node_;
};

/// All parts of a server but the owner's. It is for the owner's thread.
class server_threads {
public:
    /// The first of the services is the owner's.
    server_threads(std::vector<connection_service> services, const server_options& options, const tls_context_ref& tls);

    const std::vector<std::unique_ptr<server_part>>& parts() const noexcept { return parts_; }
    void close() noexcept { give(server_part::close); }
    void close_clients() noexcept { give(server_part::close_clients); }
    void abort_clients() noexcept { give(server_part::abort_clients); }
    /// Closes the parts and cancels their handlers.
    void leave() noexcept;
    /// True when the threads have ended, or none was ever started.
    bool ended() const noexcept { return ended_; }
    std::size_t connections() const noexcept;
    std::size_t failed_handshakes() const noexcept;

private:
    friend coro<> start_other_threads(server_ref owner);
    friend class server_parts_ending;
    static coro<> keep(std::unique_ptr<server_parts_ending> self);
    coro<> stay_on(std::size_t i, server_part* part, server_state* owner);
    void give(server_part::order what) noexcept;

    std::vector<std::unique_ptr<server_part>> parts_;
    workers workers_;
    task<> keeper_;
    bool started_ = false;
    bool ended_ = true;
};

/// Starts the other threads of a server, whose parts have their listening sockets. If one cannot be started, or on a
/// cancel, the server and all of the threads are ended before the error is thrown.
coro<> start_other_threads(server_ref owner);

}  // namespace aio::inline v0::detail
