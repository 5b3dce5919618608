// sql::pool. A semaphore counts the connections that may still be lent (permits); a caller of acquire() that has a
// permit takes an idle connection, or waits for the first one that comes free or is made. Leases share the state, so
// they may outlive the pool.

#include <aio/sql/pool.hpp>

#include "sql/driver.hpp"

#include <aio/event.hpp>
#include <aio/lock.hpp>
#include <aio/semaphore.hpp>
#include <aio/task.hpp>

#include <algorithm>
#include <list>

namespace aio::sql {

constexpr std::size_t most_connections = 1'000'000;

// An attempt to connect is a task of the pool's own: the caller of acquire() may be cancelled meanwhile, and then
// another one gets the connection. A caller does not wait for the attempt that it has caused, but for the first
// connection that comes, first come first served.
class pool_state : public std::enable_shared_from_this<pool_state> {
public:
    pool_state(std::string u, std::size_t most)
        : url(std::move(u)),
          in_memory(is_memory(url)),
          max_size(in_memory ? 1 : most),
          permits(static_cast<std::ptrdiff_t>(max_size)) {}

    void check_open() const {
        if (closing) detail::throw_logic_error("this sql::pool is closed");
    }
    /// Takes a connection back from a lease, with its permit.
    void give_back(std::unique_ptr<connection> c) noexcept {
        c->end_stream();
        // A connection in a transaction holds locks, so it is not kept; but a database in memory would go with it.
        const bool keep = !closing && c->usable() && (in_memory || !c->driver_->in_transaction());
        if (keep) offer(std::move(c));
        c.reset();
        permits.release();
    }
    /// Gives an idle connection, or waits for one. The caller has a permit, so the connections that are lent, idle or
    /// being made are never more than max_size.
    coro<std::unique_ptr<connection>> take();
    void close() noexcept;

    const std::string url;
    const bool in_memory;
    const std::size_t max_size;
    semaphore permits;
    lock close_lock;
    std::vector<std::unique_ptr<connection>> idle;  // the one used last is used again first
    std::list<task<>> attempts;
    event attempt_ended;
    bool closing = false;

private:
    /// A call of take() that waits for a connection.
    class taker {
    public:
        explicit taker(pool_state& state) : state_(&state) { state.takers_.push_back(this); }
        ~taker() {
            std::erase(state_->takers_, this);
            if (got) state_->offer(std::move(got));  // the call was cancelled meanwhile
        }
        taker(const taker&) = delete;
        taker& operator=(const taker&) = delete;

        event served;
        std::unique_ptr<connection> got;
        std::exception_ptr error;

    private:
        pool_state* state_;
    };
    /// An attempt's place in the list. It is an argument of the attempt's coroutine, so its destructor runs even where
    /// the body never does.
    class place {
    public:
        explicit place(std::shared_ptr<pool_state> s)
            : state(std::move(s)), at_(state->attempts.emplace(state->attempts.end())) {}
        place(place&& other) noexcept
            : state(std::move(other.state)), failed(std::move(other.failed)), at_(other.at_) {}
        ~place() {
            if (state) state->ended(at_, std::move(failed));
        }

        std::shared_ptr<pool_state> state;
        std::exception_ptr failed;

    private:
        std::list<task<>>::iterator at_;
    };

    static bool is_memory(const std::string& url) {
        return url == "sqlite::memory:" || url == "sqlite://" || url == "sqlite:///:memory:";
    }
    static coro<> attempt(place p);
    void begin_attempt();
    void ended(std::list<task<>>::iterator attempt, std::exception_ptr failed) noexcept;
    void offer(std::unique_ptr<connection> c) noexcept;
    taker& next_taker() noexcept {
        taker& t = *takers_.front();
        takers_.erase(takers_.begin());
        t.served.set();
        return t;
    }

    std::vector<taker*> takers_;
};

coro<std::unique_ptr<connection>> pool_state::take() {
    for (;;) {
        std::unique_ptr<connection> c;
        if (!idle.empty()) {
            c = std::move(idle.back());
            idle.pop_back();
        } else {
            taker me(*this);
            if (attempts.size() < takers_.size()) begin_attempt();
            co_await me.served.wait();
            if (me.error) std::rethrow_exception(me.error);
            c = std::move(me.got);
        }
        const bool good = co_await c->reset();
        if (good) co_return c;
    }
}

void pool_state::begin_attempt() {
    place p(shared_from_this());
    const auto at = std::prev(attempts.end());
    // The attempt counts as failed until it succeeds: a cancel may come before its body runs.
    p.failed = std::make_exception_ptr(error("the attempt to connect was cancelled", "08001"));
    task<> t = create_task(attempt(std::move(p)), {.name = "sql::pool connects"});
    t.detail_state()->set_internal();
    *at = std::move(t);
}

coro<> pool_state::attempt(place p) {
    pool_state& state = *p.state;
    std::unique_ptr<connection> c;
    try {
        std::unique_ptr<driver> d = make_driver(state.url);
        co_await d->open();
        c = std::make_unique<connection>(std::move(d));
        p.failed = nullptr;
    } catch (const std::exception&) { p.failed = std::current_exception(); }
    if (p.failed) co_return;
    if (state.closing) {
        co_await c->aclose();
    } else {
        state.offer(std::move(c));
    }
}

/// An attempt has ended. Its error goes to the first call of take() that waits, if more of them wait than attempts are
/// left; otherwise it is dropped, and the next call begins another attempt.
void pool_state::ended(std::list<task<>>::iterator attempt, std::exception_ptr failed) noexcept {
    attempts.erase(attempt);
    if (failed && takers_.size() > attempts.size()) next_taker().error = std::move(failed);
    attempt_ended.set();
}

void pool_state::offer(std::unique_ptr<connection> c) noexcept {
    if (closing) return;
    if (!takers_.empty()) {
        next_taker().got = std::move(c);
        return;
    }
    try {
        idle.push_back(std::move(c));
    } catch (const std::bad_alloc&) {  // no memory: the connection is closed instead
    }
}

/// From here on nobody waits for a connection, and none is made.
void pool_state::close() noexcept {
    closing = true;
    while (!takers_.empty()) {
        next_taker().error = std::make_exception_ptr(std::logic_error("this sql::pool is closed"));
    }
    for (task<>& attempt : attempts) {
        if (attempt) attempt.cancel();
    }
}

pool::pool(std::string url, pool_options options) {
    if (options.max_size == 0) throw std::invalid_argument("a sql::pool of no connections: max_size is 0");
    if (options.max_size > most_connections) {
        throw std::invalid_argument("a sql::pool of " + std::to_string(options.max_size) +
            " connections: max_size is at most " + std::to_string(most_connections));
    }
    static_cast<void>(make_driver(url));
    state_ = std::make_shared<pool_state>(std::move(url), options.max_size);
}

pool::~pool() {
    if (detail::local().loop) {
        state_->close();
    } else {
        state_->closing = true;  // the loop has ended, and with it the tasks that waited
    }
    state_->idle.clear();
}

namespace {
/// Permits that are released at the end of a block, unless a lease has taken them over.
struct taken_permits {
    pool_state& state;
    std::size_t count = 0;
    explicit taken_permits(pool_state& s) noexcept : state(s) {}
    ~taken_permits() {
        for (; count > 0; --count) state.permits.release();
    }
    taken_permits(const taken_permits&) = delete;
};
}  // namespace

coro<pool::lease> pool::acquire() {
    const std::shared_ptr<pool_state> state = state_;
    state->check_open();
    co_await state->permits.acquire();
    taken_permits taken(*state);
    taken.count = 1;
    state->check_open();
    std::unique_ptr<connection> c = co_await state->take();
    taken.count = 0;
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
    state->close();
    const auto alone = co_await state->close_lock.scoped();
    while (!state->attempts.empty()) {
        state->attempt_ended.clear();
        co_await state->attempt_ended.wait();
    }
    // Holding all permits means that no lease is out. acquire() gives none any more: it throws in those that wait
    // there.
    taken_permits taken(*state);
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
