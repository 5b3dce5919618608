// The servers of further threads: see server_threads.hpp. What runs on which thread is said at each function.

#include "io/server_state.hpp"
#include "loop/loop_state.hpp"

#include <aio/event_loop.hpp>
#include <aio/exception_group.hpp>
#include <aio/task_group.hpp>
#include <aio/with.hpp>

#include <exception>
#include <stdexcept>

namespace aio::inline v0::detail {

std::size_t threads_to_serve(std::size_t wanted) { return workers({.threads = wanted}).size(); }

std::vector<connection_service> services_of(connection_handler handler, std::size_t threads) {
    std::vector<connection_service> services(threads_to_serve(threads));
    if (services.size() == 1) {
        services.front().handler = std::move(handler);
    } else {
        const auto shared = std::make_shared<connection_handler>(std::move(handler));
        for (connection_service& s : services)
            s.handler = [shared](stream client) { return (*shared)(std::move(client)); };
    }
    return services;
}

server_part::server_part(connection_service s, const server_options& o, tls_context_ref context)
    : service_(std::move(s)), options_(o), tls_(std::move(context)) {
    node_.part = this;
    node_.deliver = [](mailbox_node& n) noexcept { static_cast<order_node&>(n).part->obey(); };
}

server_part::~server_part() = default;

// ---- on the thread of the part

coro<> server_part::begin(server_part* self) {
    const server_ref state(new server_state(std::move(self->service_), self->options_, self->tls_));
    state->counts = &self->counts;
    state->told = true;  // the owner tells of a server that was not left
    state->listeners = std::move(self->listeners);
    start_accepting(state);
    self->mail_ = mailbox_of(require_loop());
    self->there_ = state;
    co_return;
}

coro<> server_part::stay(server_part* self) {
    const server_ref state = self->there_;
    std::exception_ptr error;
    try {
        co_await wait_until_gone(state);
    } catch (...) { error = std::current_exception(); }
    if (error) co_await server_leaving(state);
    self->there_ = {};
    if (error) std::rethrow_exception(error);
}

void server_part::obey() noexcept {
    const unsigned all = orders_.exchange(0, std::memory_order_acq_rel);
    const server_ref state = there_;
    if (!state.get()) return;
    if (all & close) state->close();
    if (all & close_clients) state->close_clients();
    if (all & abort_clients) state->abort_all();
}

// ---- on the thread of the owner

void server_part::give(order what) noexcept {
    if (orders_.fetch_or(what, std::memory_order_acq_rel) == 0) mail_->push(node_);
}

server_threads::server_threads(
    std::vector<connection_service> services, const server_options& options, const tls_context_ref& tls)
    : workers_({.threads = services.size() - 1}) {
    parts_.reserve(services.size() - 1);
    for (std::size_t i = 1; i < services.size(); ++i)
        parts_.push_back(std::make_unique<server_part>(std::move(services[i]), options, tls));
}

void server_threads::give(server_part::order what) noexcept {
    if (!started_ || ended_) return;
    for (const auto& part : parts_) part->give(what);
}

void server_threads::leave() noexcept {
    if (!ended_) keeper_.cancel();
}

std::size_t server_threads::connections() const noexcept {
    std::size_t all = 0;
    for (const auto& part : parts_) all += part->counts.connections;
    return all;
}

std::size_t server_threads::failed_handshakes() const noexcept {
    std::size_t all = 0;
    for (const auto& part : parts_) all += part->counts.failed_handshakes;
    return all;
}

/// The frame of the keeper owns it, so it tells the end of the parts even if the keeper never takes its first step.
class server_parts_ending {
public:
    server_parts_ending(server_ref o, future<> s) noexcept : owner(std::move(o)), started(std::move(s)) {
        owner->others->ended_ = false;
    }
    ~server_parts_ending() {
        owner->others->ended_ = true;
        if (!started.done()) started.cancel();
        owner->changed();
    }
    server_parts_ending(const server_parts_ending&) = delete;
    server_parts_ending& operator=(const server_parts_ending&) = delete;

    const server_ref owner;
    future<> started;
};

namespace {

/// Makes a call for each part, calls all_made(), and waits until all have ended. The first error cancels the others,
/// and is thrown.
template<class Call, class AllMade>
coro<> on_each(const std::vector<std::unique_ptr<server_part>>& parts, Call call, AllMade all_made) {
    std::exception_ptr first;
    try {
        co_await with(task_group(), [&](task_group& g) {
            for (std::size_t i = 0; i < parts.size(); ++i) g.create_task(call(i, parts[i].get()));
            all_made();
        });
    } catch (const exception_group& errors) { first = errors.exceptions().front(); }
    if (first) std::rethrow_exception(first);
}

void report_end_of_thread(server_state& owner, const std::exception_ptr& error) noexcept {
    get_running_loop().core().report(
        [&] { return "a thread of the server on " + owner.name() + " has ended: the server is closed"; }, error,
        nullptr);
    owner.close();
}

}  // namespace

// A loop that ends by itself takes its connections with it. The server is closed at once; those of the other threads
// go on until they end, or the server is left.
coro<> server_threads::stay_on(std::size_t i, server_part* part, server_state* owner) {
    std::exception_ptr error;
    try {
        co_await workers_.run_on(i, &server_part::stay, part);
    } catch (...) { error = std::current_exception(); }
    if (!error) co_return;
    if (is_cancelled(error)) std::rethrow_exception(error);
    report_end_of_thread(*owner, error);
}

// The threads have ended when this is over, whatever happens.
coro<> server_threads::keep(std::unique_ptr<server_parts_ending> self) {
    server_state& owner = *self->owner;
    server_threads& threads = *owner.others;
    std::exception_ptr error;
    try {
        const auto begin = [&threads](std::size_t i, server_part* part) {
            return to_coro(threads.workers_.run_on(i, &server_part::begin, part));
        };
        co_await on_each(threads.parts_, begin, [] {});
        threads.started_ = true;
        const auto stay = [&](std::size_t i, server_part* part) { return threads.stay_on(i, part, &owner); };
        const auto tell = [&self] {
            if (!self->started.done()) self->started.set_result();
        };
        co_await on_each(threads.parts_, stay, tell);
    } catch (...) { error = std::current_exception(); }
    const bool cancelled = error && is_cancelled(error);
    if (error && !cancelled && self->started.done()) report_end_of_thread(owner, error);
    co_await threads.workers_.shutdown();
    if (!error) co_return;
    if (!self->started.done()) {
        self->started.set_exception(error);
    } else if (cancelled) {
        std::rethrow_exception(error);
    }
}

coro<> start_other_threads(server_ref owner) {
    server_threads& threads = *owner->others;
    std::exception_ptr error;
    try {
        future<> started;
        auto ending = std::make_unique<server_parts_ending>(owner, started);
        threads.keeper_ = create_task(server_threads::keep(std::move(ending)), {.name = "threads of a server"});
        threads.keeper_.detail_state()->set_internal();
        co_await started;
        if (owner->closed) throw std::runtime_error("a thread of the server has ended at once");
    } catch (...) { error = std::current_exception(); }
    if (!error) co_return;
    co_await server_leaving(owner);
    std::rethrow_exception(error);
}

}  // namespace aio::inline v0::detail
