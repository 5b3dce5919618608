// What users call of sql::pool; its workings are in pool_state.cpp.

#include "sql/pool_state.hpp"

#include <aio/timeout.hpp>

namespace aio::inline v0::sql {

constexpr std::size_t most_connections = 1'000'000;

pool::pool(std::string url, pool_options options) {
    if (options.max_size == 0) throw std::invalid_argument("a sql::pool of no connections: max_size is 0");
    if (options.max_size > most_connections) {
        throw std::invalid_argument("a sql::pool of " + std::to_string(options.max_size) +
            " connections: max_size is at most " + std::to_string(most_connections));
    }
    if (options.min_size > options.max_size) {
        throw std::invalid_argument("a sql::pool that keeps " + std::to_string(options.min_size) +
            " connections (min_size) of at most " + std::to_string(options.max_size) + " (max_size)");
    }
    static_cast<void>(make_driver(url, connect_options()));
    state_ = std::make_shared<pool_state>(std::move(url), options);
    state_->tidy();
}

pool::~pool() {
    if (detail::local().loop) {
        state_->close();
    } else {
        state_->closing = true;  // the loop has ended, and with it the tasks that waited
    }
    state_->idle.clear();
}

coro<pool::lease> pool::acquire() { return take(state_, state_->options.acquire_timeout); }
coro<pool::lease> pool::acquire(delay limit) { return take(state_, limit); }

// The state is an argument, because the pool may be gone before this ends.
coro<pool::lease> pool::take(std::shared_ptr<pool_state> state, delay limit) {
    state->check_open();
    pool_state::permit p(state->permits);
    std::unique_ptr<pooled> c;
    if (!state->permits.locked()) {
        co_await state->permits.acquire();
        p.held = true;
        state->check_open();
        c = state->take_idle();
    }
    if (!c) c = co_await state->wait(p, limit);
    p.held = false;
    state->lent();
    co_return lease(state, std::move(c));
}

coro<rows> pool::run(std::string statement, std::vector<parameter> parameters) {
    const std::shared_ptr<pool_state> state = state_;
    pool_state::permit turn(state->write_turn);
    delay limit = state->options.acquire_timeout;
    if (state->lines_up(statement)) limit = co_await state->line_up(turn);
    const lease conn = co_await take(state, limit);
    rows result = co_await conn->run(std::move(statement), std::move(parameters));
    co_return result;
}

pool::lease::lease(std::shared_ptr<pool_state> state, std::unique_ptr<pooled> c) noexcept
    : state_(std::move(state)), pooled_(c.release()), connection_(&pooled_->db) {}

void pool::lease::release() noexcept {
    if (!pooled_) return;
    const std::shared_ptr<pool_state> state = std::move(state_);
    connection_ = nullptr;
    state->give_back(pooled_ptr(std::exchange(pooled_, nullptr)));
}

coro<> pool::aclose(delay limit) {
    const std::shared_ptr<pool_state> state = state_;
    state->close();
    bool expired = false;
    timeout deadline(limit);
    const auto body = [&state] { return state->close_idle(); };
    try {
        co_await with(deadline, body);
    } catch (const timeout_error&) {
        if (!deadline.expired()) throw;
        expired = true;
    }
    if (expired) {
        throw timeout_error("the sql::pool is not closed: " + std::to_string(state->lent_now()) +
            " of its connections are in use, and are closed when they are given back");
    }
}

pool_statistics pool::statistics() const noexcept {
    const pool_state& s = *state_;
    const semaphore_statistics permits = s.permits.statistics();
    pool_statistics n = s.numbers;
    n.max_size = s.options.max_size;
    n.in_use = s.options.max_size - static_cast<std::size_t>(permits.value);
    n.idle = s.idle.size();
    n.tasks_waiting = permits.tasks_waiting + s.write_turn.statistics().tasks_waiting;
    n.connecting = s.attempts.size();
    return n;
}

}  // namespace aio::inline v0::sql
