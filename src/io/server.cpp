// The server behind aio::start_server and start_unix_server: its listening sockets, an accept loop (an internal task)
// for each of them, and a task for each connection, which runs the user's handler.
//
// server_state is shared by all of these, and lists the open connections and the running handlers, because drain()
// waits for both, and exit() ends both. changed() wakes the tasks that wait whenever one of them has ended.
//
// A unix socket needs more care, because its file outlives the process: unix_file.hpp.

#include "io/server_state.hpp"
#include "io/tls.hpp"
#include "loop/loop_state.hpp"

#include <aio/event_loop.hpp>
#include <aio/sleep.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include <unistd.h>

namespace aio::inline v0 {
namespace detail {

namespace {

using namespace std::chrono_literals;

constexpr auto accept_pause = 100ms;  // after a failed accept: long enough not to spin

/// The outcome of an accept: a descriptor, or an errno.
struct accepted {
    int fd = -1;
    int error = 0;  // ECANCELED: the listener is closed
    address peer;
};

/// Waits for a connection and accepts it. Revertible: a connection that was accepted just before a cancel is closed.
/// The listener must live until the end of the await; when it is closed, the error is ECANCELED.
class [[nodiscard]] accept_operation final : public revertible<accept_operation>, private io_request {
public:
    accept_operation(listener& l, loop_core& loop) noexcept : listener_(&l), backend_(loop.state().io.get()) {}
    bool start() noexcept {
        if (listener_->fd < 0) {
            take(-ECANCELED);
            return true;
        }
        sockaddr* const room = result_.peer.detail_room();
        set_accept(listener_->source, room, result_.peer.detail_size());
        const std::optional<int> result = backend_->submit(*this);
        if (result) take(*result);
        return result.has_value();
    }
    cancel_reply cancel(const std::string& message) noexcept override {
        if (parked() && !backend_->cancel(*this)) {  // the kernel has the request until it has answered
            unwanted_ = true;
            return cancel_reply::handed_on;
        }
        return revertible<accept_operation>::cancel(message);
    }
    void unpark() noexcept {}
    void revert() noexcept {
        if (result_.fd >= 0) ::close(std::exchange(result_.fd, -1));
    }
    accepted finish() {
        if (unwanted_) {
            revert();
            throw cancelled_error();
        }
        return result_;
    }
    void describe(std::string& out) const override { out += "a connection to " + listener_->where.to_string(); }

private:
    void completed(int result) noexcept override {
        take(result);
        wake();
    }
    void take(int result) noexcept {
        result_.fd = std::max(result, -1);
        result_.error = result < 0 ? -result : 0;
    }

    listener* listener_;
    io_backend* backend_;
    bool unwanted_ = false;
    accepted result_;
};

}  // namespace

void listener::close() noexcept {
    if (fd < 0) return;
    const bool of_parent = source.attached() && source.loop()->state().forked();
    source.detach();
    ::close(std::exchange(fd, -1));
    if (of_parent) return;
    file.remove(where);
}

void references_of<server_state>::retain(server_state& state) noexcept { state.retain(); }
void references_of<server_state>::release(server_state& state) noexcept { state.release(); }

running_handler::running_handler(server_ref s, stream_ptr c) noexcept : server(std::move(s)), connection(std::move(c)) {
    server->handlers.push_back(*this);
}
running_handler::~running_handler() {
    unlink();
    connection = {};
    server->changed();
}

void connection_closed(stream_state& connection) noexcept {
    const server_ref server(connection.server);
    connection.server->release();
    connection.server = nullptr;
    connection.unlink();
    --server->counts->connections;
    server->changed();
}

void server_state::close(bool cancels) noexcept {
    if (closed) return;
    closed = true;
    for (auto& l : listeners) l->close();
    for (task<>& t : accepting) t.cancel();
    if (serving_forever) serving_forever->cancel();
    if (closing) closing(cancels);
    if (others && !cancels) others->close();
    changed();
}

void server_state::changed() noexcept {
    for (future<>& f : std::exchange(waiters, {})) {
        if (!f.done()) f.set_result();
    }
    if (closed && handled()) {
        while (server_leaving* l = leaving.pop_front()) l->wake_to_retry();
        // The handler may hold streams of this server (a chat's room, say), and each of them keeps the server alive.
        const connection_handler gone_now = std::exchange(handler, nullptr);
    }
}

// This begins even under a pending cancel: a task that leaves a scope has to be sure that no handler refers to the
// scope any more.
bool server_leaving::await_ready() {
    begin(&require_task());
    server_->close(true);
    server_->cancel_handlers();
    phase_ = phase::parked;
    if (!start()) return false;
    phase_ = phase::idle;
    return true;
}

bool server_leaving::start() noexcept {
    if (!server_->handled()) {
        server_->leaving.push_back(*this);
        return false;
    }
    while (stream_state* s = server_->connections.front()) s->close(false);  // handlers have moved these elsewhere
    return true;
}

void server_leaving::describe(std::string& out) const { out += "the handlers of the server on " + server_->name(); }

future<> server_state::next_change() {
    std::erase_if(waiters, [](const future<>& f) { return f.done(); });
    return waiters.emplace_back();
}

void server_state::close_clients() noexcept {
    if (others) others->close_clients();
    for (stream_state* c = connections.front(); c;) {
        stream_state* const next = connections.after(*c);
        c->close_when_written();
        c = next;
    }
}

void server_state::abort_all() noexcept {
    if (others) others->abort_clients();
    while (stream_state* s = connections.front()) s->abort();
}

void server_state::cancel_handlers() noexcept {
    if (others) others->leave();
    for (running_handler* h = handlers.front(); h; h = handlers.after(*h)) {
        if (h->task) h->task->cancel({});
    }
}

namespace {

// Reports a server that was not left, in debug mode and at the end of run(): its handlers are cancelled only then, when
// what they refer to may be gone.
void tell_not_left(server_state& server, loop_core& loop, const char* how) {
    if (!loop.debug || std::exchange(server.told, true)) return;
    loop.report(
        [&] {
            return "the server on " + server.name() + how +
                ": its handlers may use what is gone by then; leave it with aio::with(server, body) or aio::enter, or "
                "await its drain()";
        },
        nullptr, nullptr);
}

// Gives false if the handshake has failed.
coro<bool> secured(running_handler& of) {
    server_state& server = *of.server;
    if (of.connection->closed()) co_return false;  // abort_clients() came before this task's first step
    std::exception_ptr failure;
    try {
        co_await begin_tls(of.connection, tls_settings(server.tls, {}, server.handshake_timeout), of.connection->peer);
    } catch (const tls_error&) { failure = std::current_exception(); }
    if (!failure) co_return true;
    ++server.counts->failed_handshakes;
    loop_core& loop = *of.task->loop();
    if (loop.debug) {
        loop.report([&] { return "a connection to the server on " + server.name() + " could not be secured"; }, failure,
            of.task);
    }
    co_return false;
}

// The task of one connection. It runs the user's handler and ends with it; an error or a cancel closes the connection.
coro<> run_handler(std::unique_ptr<running_handler> self, stream client) {
    self->task = local().task;
    std::exception_ptr error;
    try {
        if (self->server->tls) {
            const bool ready = co_await secured(*self);
            if (!ready) co_return;
        }
        co_await self->server->handler(std::move(client));
    } catch (...) { error = std::current_exception(); }
    if (error) {
        self->connection->close(false);
        if (is_cancelled(error)) {
            loop_core& loop = *self->task->loop();
            if (loop.state().closing && self->server->closed) {
                tell_not_left(
                    *self->server.get(), loop, " was closed, but its handlers went on until the end of run()");
            }
            std::rethrow_exception(error);
        }
        self->task->loop()->report(
            [&] { return "exception in the handler of a connection from " + self->connection->peer; }, error,
            self->task);
    }
}

void report_accept_error(const listener& from, int error) noexcept try {
    const bool exhausted = error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
    const std::string what = "accept on " + from.where.to_string();
    get_running_loop().core().report(
        what + (exhausted ? ": out of system resources; connections wait until there are some" : " failed; it goes on"),
        std::make_exception_ptr(std::system_error(error, std::generic_category(), what)), nullptr);
} catch (...) { get_running_loop().core().report("accept failed; it goes on", std::current_exception(), nullptr); }

coro<> accept_loop(server_ref server, listener& from) {
    loop_core& loop = require_loop();
    bool told = false;
    try {
        for (;;) {
            const accepted a = co_await accept_operation(from, loop);
            if (server->closed) {
                if (a.fd >= 0) ::close(a.fd);
                co_return;
            }
            if (a.error == 0) {
                told = false;
                server->begin(a.fd, a.peer);
                continue;
            }
            if (!told) report_accept_error(from, a.error);
            told = true;
            co_await sleep(accept_pause);
        }
    } catch (const cancelled_error&) {
        if (server->closed) co_return;
        // This is the end of run(): the server is still open.
        tell_not_left(*server.get(), loop, " was never closed");
        server->close(true);
        throw;
    }
}

}  // namespace

void server_state::begin(int fd, const address& peer) {
    stream_ptr connection;
    try {
        transport_ptr io = make_socket_transport(fd, peer.family(), max_descriptors);
        connection = stream_ptr(new stream_state(std::move(io), peer.to_string(), limit));
    } catch (...) {
        get_running_loop().core().report("a connection could not be served", std::current_exception(), nullptr);
        return;
    }
    try {
        retain();
        connection->server = this;
        connections.push_back(*connection);
        ++counts->connections;
        auto self = std::make_unique<running_handler>(server_ref(this), connection);
        running_handler& handler_of = *self;
        const task<> t = create_task(run_handler(std::move(self), stream(connection)));
        handler_of.task = t.detail_state();
    } catch (...) {
        connection->close(true);
        get_running_loop().core().report(
            [&] { return "a connection from " + connection->peer + " could not be served"; }, std::current_exception(),
            nullptr);
    }
}

void start_accepting(const server_ref& server) {
    try {
        for (auto& l : server->listeners) l->source.attach(l->fd, l->shared);
        for (auto& l : server->listeners) {
            server->accepting.push_back(create_task(accept_loop(server, *l), {.name = "accept"}));
            server->accepting.back().detail_state()->set_internal();
        }
    } catch (...) {
        server->close();
        throw;
    }
}

coro<> wait_until_gone(server_ref server) {
    while (!server->gone()) {
        future<> change = server->next_change();
        co_await change;
    }
}

namespace {

coro<> serve(server_ref server) {
    if (server->closed) throw_logic_error("serve_forever: the server on " + server->name() + " is closed");
    if (server->serving_forever)
        throw_logic_error("serve_forever: the server on " + server->name() + " is being served already");
    future<> until = server->serving_forever.emplace();
    std::exception_ptr cancelled;
    try {
        co_await until;
    } catch (...) { cancelled = std::current_exception(); }
    co_await server_leaving(server);
    std::rethrow_exception(cancelled);
}

coro<bool> drain_server(server_ref server, delay d) {
    server->close();
    struct armed {
        bool passed = false;
        callback_handle timer;
        ~armed() { timer.cancel(); }
    } deadline;
    deadline.timer = get_running_loop().call_later(d, [&] {
        deadline.passed = true;
        server->changed();
    });
    while (!server->gone()) {
        if (deadline.passed) {
            server->abort_all();
            server->cancel_handlers();
            co_await wait_until_gone(server);
            co_return false;
        }
        future<> change = server->next_change();
        co_await change;
    }
    co_return true;
}

}  // namespace
}  // namespace detail

detail::server_state& server::get() const {
    if (!state_.get()) detail::throw_logic_error("this server is empty: it was default-constructed or moved from");
    return *state_.get();
}

int server::port() const {
    const auto& listeners = get().listeners;
    return listeners.empty() ? 0 : listeners.front()->where.port();
}
coro<> server::serve_forever() { return detail::serve(detail::server_ref(&get())); }
void server::close() { get().close(); }
detail::server_leaving server::exit(const std::exception_ptr&) {
    return detail::server_leaving(detail::server_ref(&get()));
}
coro<> server::wait_closed() { return detail::wait_until_gone(detail::server_ref(&get())); }
coro<bool> server::drain(delay d) { return detail::drain_server(detail::server_ref(&get()), d); }
void server::abort_clients() { get().abort_all(); }
void server::close_clients() { get().close_clients(); }
bool server::is_serving() const noexcept { return state_.get() && !state_->closed; }
std::size_t server::connections() const {
    const detail::server_state& s = get();
    return s.counts->connections + (s.others ? s.others->connections() : 0);
}
std::size_t server::failed_handshakes() const {
    const detail::server_state& s = get();
    return s.counts->failed_handshakes + (s.others ? s.others->failed_handshakes() : 0);
}

}  // namespace aio::inline v0
