#include <aio/sql/pool.hpp>

#include "driver.hpp"

#include <aio/lock.hpp>
#include <aio/semaphore.hpp>

namespace aio::sql {

class pool_state {
public:
    pool_state(std::string u, std::size_t most)
        : url(std::move(u)),
          in_memory(is_memory(url)),
          max_size(in_memory ? 1 : most),
          permits(static_cast<std::ptrdiff_t>(max_size)) {}

    void check_open() const {
        if (closing) detail::throw_logic_error("this sql::pool is closed");
    }
    /// From a lease.
    void give_back(std::unique_ptr<connection> c) noexcept {
        c->end_stream();
        // One in a transaction holds locks, so it is not kept; but with a database in memory the database would go.
        const bool keep = !closing && c->usable() && (in_memory || !c->driver_->in_transaction());
        if (keep) {
            try {
                idle.push_back(std::move(c));
            } catch (const std::bad_alloc&) {}
        }
        c.reset();
        permits.release();
    }
    coro<std::unique_ptr<connection>> take();

    const std::string url;
    const bool in_memory;
    const std::size_t max_size;
    semaphore permits;
    lock close_lock;
    std::vector<std::unique_ptr<connection>> idle;  // the last one used is the first to be used again
    bool closing = false;

private:
    static bool is_memory(const std::string& url) {
        return url == "sqlite::memory:" || url == "sqlite://" || url == "sqlite:///:memory:";
    }
};

coro<std::unique_ptr<connection>> pool_state::take() {
    while (!idle.empty()) {
        std::unique_ptr<connection> c = std::move(idle.back());
        idle.pop_back();
        const bool good = co_await c->reset();
        if (good) co_return c;
    }
    std::unique_ptr<driver> d = make_driver(url);
    co_await d->open();
    co_return std::make_unique<connection>(std::move(d));
}

pool::pool(std::string url, pool_options options) {
    if (options.max_size == 0) throw std::invalid_argument("a sql::pool of no connections: max_size is 0");
    static_cast<void>(make_driver(url));
    state_ = std::make_shared<pool_state>(std::move(url), options.max_size);
}

pool::~pool() {
    state_->closing = true;
    state_->idle.clear();
}

namespace {
/// A permit, until a lease has it.
class permit {
public:
    explicit permit(pool_state& state) noexcept : state_(&state) {}
    ~permit() {
        if (state_) state_->permits.release();
    }
    permit(const permit&) = delete;
    permit& operator=(const permit&) = delete;
    void keep() noexcept { state_ = nullptr; }

private:
    pool_state* state_;
};
}  // namespace

coro<pool::lease> pool::acquire() {
    const std::shared_ptr<pool_state> state = state_;
    state->check_open();
    co_await state->permits.acquire();
    permit held(*state);
    state->check_open();
    std::unique_ptr<connection> c = co_await state->take();
    held.keep();
    co_return lease(state, std::move(c));
}

coro<rows> pool::run(std::string statement, std::vector<parameter> parameters) {
    const lease conn = co_await acquire();
    rows result = co_await conn->run(std::move(statement), std::move(parameters));
    co_return result;
}

void pool::lease::release() noexcept {
    if (!connection_) return;
    const std::shared_ptr<pool_state> state = std::move(state_);
    state->give_back(std::move(connection_));
}

coro<> pool::aclose() {
    const std::shared_ptr<pool_state> state = state_;
    state->closing = true;
    const auto alone = co_await state->close_lock.scoped();
    // With all permits in hand no lease is out: acquire() gives none any more, and who waits in it is sent away.
    struct all_permits {
        pool_state& state;
        std::size_t count = 0;
        ~all_permits() {
            for (; count > 0; --count) state.permits.release();
        }
    } taken{*state};
    for (; taken.count < state->max_size; ++taken.count) co_await state->permits.acquire();
    while (!state->idle.empty()) {
        const std::unique_ptr<connection> c = std::move(state->idle.back());
        state->idle.pop_back();
        co_await c->aclose();
    }
}

pool_statistics pool::statistics() const noexcept {
    const semaphore_statistics permits = state_->permits.statistics();
    return {state_->max_size, state_->max_size - static_cast<std::size_t>(permits.value), state_->idle.size(),
        permits.tasks_waiting};
}

}  // namespace aio::sql
