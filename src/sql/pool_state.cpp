// The workings of sql::pool: see pool_state.hpp.

#include "sql/pool_state.hpp"

#include <aio/timeout.hpp>

#include <algorithm>

namespace aio::inline v0::sql {
namespace {

constexpr std::chrono::seconds answer_deadline{5};  // for a check, and for a reset
constexpr std::chrono::milliseconds first_pause{500};
constexpr std::chrono::milliseconds longest_pause{30'000};

// All that DISCARD ALL does, except for prepared statements, which the connection's cache needs.
constexpr const char* reset_statements =
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); "
    "DISCARD TEMP; DISCARD SEQUENCES";

time_point now_on_loop() noexcept { return get_running_loop().time(); }

/// The time a delay after t; time_point::max() for no delay.
time_point later(time_point t, delay d) { return d.has_value() ? d.from(t) : time_point::max(); }

}  // namespace

/// A call of take() that waits for a connection.
class pool_state::taker {
public:
    explicit taker(pool_state& state) : state_(&state) { state.takers_.push_back(this); }
    ~taker() {
        std::erase(state_->takers_, this);
        if (got) state_->offer(std::move(got));  // the call was cancelled meanwhile
    }
    taker(const taker&) = delete;
    taker& operator=(const taker&) = delete;

    event served;
    pooled_ptr got;
    std::exception_ptr error;

private:
    pool_state* state_;
};

/// An attempt's place in the list. It is an argument of the attempt's coroutine, so its destructor runs even where
/// the body never does.
class pool_state::place {
public:
    explicit place(std::shared_ptr<pool_state> s)
        : state(std::move(s)), at_(state->attempts.emplace(state->attempts.end())) {}
    place(place&& other) noexcept : state(std::move(other.state)), failed(std::move(other.failed)), at_(other.at_) {}
    ~place() {
        if (state) state->ended(at_, std::move(failed));
    }
    place(const place&) = delete;
    place& operator=(const place&) = delete;

    std::shared_ptr<pool_state> state;
    std::exception_ptr failed;

private:
    std::list<task<>>::iterator at_;
};

/// A connection that is reset after a lease; an argument of the coroutine, as place is. At its end the lease's permit
/// is given back.
class pool_state::cleaning {
public:
    cleaning(std::shared_ptr<pool_state> s, pooled_ptr p) noexcept : state(std::move(s)), c(std::move(p)) {}
    cleaning(cleaning&&) noexcept = default;
    ~cleaning() {
        if (!state) return;
        --state->lent_;
        c.reset();
        state->permits.release();
    }
    cleaning(const cleaning&) = delete;
    cleaning& operator=(const cleaning&) = delete;

    std::shared_ptr<pool_state> state;
    pooled_ptr c;
};

pool_state::pool_state(std::string u, const pool_options& o)
    : url(std::move(u)),
      in_memory(is_in_memory(url)),
      postgres(url.starts_with("postgres")),
      read_only(o.sqlite.read_only || o.sqlite.immutable),
      options(in_memory ? for_memory(o) : o),
      setup(o.setup ? std::optional(*o.setup) : std::nullopt),
      pragmas(o.sqlite.pragmas),
      permits(static_cast<std::ptrdiff_t>(options.max_size)) {}

pool_state::~pool_state() { timer_.cancel(); }

pool_state::taker& pool_state::next_taker() noexcept {
    taker& t = *takers_.front();
    takers_.erase(takers_.begin());
    t.served.set();
    return t;
}

// ---- taking ----

pooled_ptr pool_state::take_idle() noexcept {
    if (idle.empty()) return nullptr;
    const time_point now = now_on_loop();
    while (!idle.empty()) {
        pooled& last = *idle.back();
        const bool good = last.db.usable() && now < last.dies;
        const bool unsure =
            postgres && (now >= later(last.idle_since, options.check_after) || last.idle_since < suspect_);
        if (good && unsure) return nullptr;
        pooled_ptr c = std::move(idle.back());
        idle.pop_back();
        if (good) return c;
        if (!c->db.usable()) suspect_ = now;
    }
    return nullptr;
}

coro<pooled_ptr> pool_state::take(permit& p) {
    if (!p.held) {
        co_await permits.acquire();
        p.held = true;
        check_open();
    }
    for (;;) {
        pooled_ptr c = take_idle();
        if (c) co_return c;
        if (!idle.empty()) {  // it has to be asked whether it still answers
            c = std::move(idle.back());
            idle.pop_back();
            const bool good = co_await answers(*c);
            if (good) co_return c;
            suspect_ = now_on_loop();
            continue;
        }
        taker me(*this);
        if (attempts.size() < takers_.size()) begin_attempt();
        co_await me.served.wait();
        if (me.error) std::rethrow_exception(me.error);
        if (me.got->db.usable()) co_return std::move(me.got);
        me.got.reset();
    }
}

coro<bool> pool_state::answers(pooled& c) {
    try {
        co_await wait_for(c.db.run("SELECT 1", std::vector<parameter>()), answer_deadline);
    } catch (const std::exception&) { co_return false; }
    co_return c.db.usable();
}

coro<pooled_ptr> pool_state::wait(permit& p, delay limit) {
    const time_point began = now_on_loop();
    ++numbers.waits;
    pooled_ptr c;
    bool expired = false;
    if (limit.has_value()) {
        timeout deadline(limit);
        const auto body = [&]() -> coro<> { c = co_await take(p); };
        try {
            co_await with(deadline, body);
        } catch (const timeout_error&) {
            if (!deadline.expired()) throw;
            expired = true;
        }
    } else {
        c = co_await take(p);
    }
    const auto waited = std::chrono::duration_cast<std::chrono::nanoseconds>(now_on_loop() - began);
    numbers.wait_time += waited;
    numbers.longest_wait = std::max(numbers.longest_wait, waited);
    if (expired) give_up(began);
    co_return c;
}

void pool_state::give_up(time_point began) {
    ++numbers.timeouts;
    const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(now_on_loop() - began);
    throw timeout_error(
        "no connection of the sql::pool came free within " + std::to_string(waited.count()) + " ms: " + doing());
}

bool pool_state::lines_up(std::string_view statement) const noexcept {
    return !postgres && !read_only && options.max_size > 1 && !is_select(statement);
}

coro<delay> pool_state::line_up(permit& turn) {
    check_open();
    const delay limit = options.acquire_timeout;
    if (!write_turn.locked() || !limit.has_value()) {
        co_await write_turn.acquire();
        turn.held = true;
        co_return limit;
    }
    const time_point began = now_on_loop();
    timeout deadline(limit);
    const auto body = [&]() -> coro<> {
        co_await write_turn.acquire();
        turn.held = true;
    };
    bool expired = false;
    try {
        co_await with(deadline, body);
    } catch (const timeout_error&) {
        if (!deadline.expired()) throw;
        expired = true;
    }
    if (expired) give_up(began);
    co_return std::max(limit.value() - (now_on_loop() - began), std::chrono::nanoseconds(0));
}

/// What the pool does, in words: "10 of at most 10 connections are in use, 3 more tasks wait".
std::string pool_state::doing() const {
    std::string text = std::to_string(lent_) + " of at most " + std::to_string(options.max_size) +
        " connections are in use, " + std::to_string(idle.size()) + " idle, " + std::to_string(attempts.size()) +
        " being made";
    const std::size_t others =
        permits.statistics().tasks_waiting + takers_.size() + write_turn.statistics().tasks_waiting;
    if (others > 0) text += "; " + std::to_string(others) + (others == 1 ? " other task waits" : " other tasks wait");
    return text;
}

// ---- connecting ----

void pool_state::begin_attempt() {
    place p(shared_from_this());
    const auto at = std::prev(attempts.end());
    // The attempt counts as failed until it succeeds: a cancel may come before its body runs.
    p.failed = std::make_exception_ptr(error("the attempt to connect was cancelled", "08001"));
    task<> t = create_task(attempt(std::move(p)), {.name = "sql::pool connects"});
    t.detail_state()->set_internal();
    *at = std::move(t);
}

coro<pooled_ptr> pool_state::connected() {
    connect_options how{.statement_cache = options.statement_cache, .sqlite = options.sqlite};
    how.sqlite.pragmas = pragmas;
    std::unique_ptr<driver> d = make(url, how);
    if (options.max_size > 1) d->for_pool();
    co_await d->open();
    auto c = std::make_unique<pooled>(std::move(d), numbers);
    if (options.max_lifetime.has_value()) {
        // The lifetimes are spread evenly over a tenth, because the connections may have been made at the same time.
        const auto share = static_cast<std::int64_t>(numbers.created * 0x9E3779B97F4A7C15 >> 54);  // 0 to 1023
        const std::int64_t all = options.max_lifetime.value().count();
        c->dies = later(now_on_loop(), std::chrono::nanoseconds(all - all / 10240 * share));
    }
    if (setup) co_await (*setup)(c->db);
    c->db.driver_->session_changed = false;
    co_return c;
}

coro<> pool_state::attempt(place p) {
    pool_state& state = *p.state;
    pooled_ptr c;
    try {
        c = co_await state.connected();
        p.failed = nullptr;
    } catch (const std::exception&) { p.failed = std::current_exception(); }
    if (p.failed) co_return;
    if (state.closing) {
        co_await c->db.aclose();
    } else {
        state.offer(std::move(c));
    }
}

/// An attempt has ended. Its error goes to the first call of take() that waits, if more of them wait than attempts are
/// left; otherwise it is dropped, and the next call begins another attempt.
void pool_state::ended(std::list<task<>>::iterator attempt, std::exception_ptr failed) noexcept {
    attempts.erase(attempt);
    if (failed) {
        ++numbers.failed;
        if (!closing && detail::local().loop) {
            refill_pause_ = std::clamp(refill_pause_ * 2, first_pause, longest_pause);
            refill_after_ = now_on_loop() + refill_pause_;
        }
    } else {
        refill_pause_ = std::chrono::milliseconds(0);
    }
    if (failed && takers_.size() > attempts.size()) next_taker().error = std::move(failed);
    attempt_ended.set();
    tidy();
}

// ---- giving back ----

void pool_state::give_back(pooled_ptr c) noexcept {
    c->db.end_stream();
    // A connection is looked at when it is taken: here it is enough not to keep one that is known to be lost.
    const connection& db = c->db;
    const bool usable = !db.closed_ && !db.poisoned_ && !db.driver_->lost();
    if (!usable && postgres && detail::local().loop) suspect_ = now_on_loop();
    // A connection in a transaction holds locks, so it is not kept; but a database in memory would go with it.
    const bool keep = !closing && usable && (in_memory || !c->db.driver_->in_transaction());
    if (keep && must_be_reset(*c) && begin_cleaning(c)) return;
    --lent_;
    if (keep && c) {
        offer(std::move(c));
    } else {
        c.reset();
        tidy();
    }
    permits.release();
}

bool pool_state::must_be_reset(const pooled& c) const noexcept {
    if (c.db.driver_->in_transaction()) return true;  // of a database in memory
    if (!postgres || options.reset == pool_reset::never) return false;
    return options.reset == pool_reset::always || c.db.driver_->session_changed;
}

/// False, with a null c, if there is no memory for it, or no loop any more.
bool pool_state::begin_cleaning(pooled_ptr& c) noexcept {
    if (!detail::local().loop) {
        c.reset();
        return false;
    }
    try {
        cleaning job(shared_from_this(), std::move(c));
        task<> t = create_task(clean(std::move(job)), {.name = "sql::pool resets"});
        t.detail_state()->set_internal();
    } catch (const std::bad_alloc&) {  // the connection is closed, and the permit given back, by the destructor
    }
    return true;
}

coro<> pool_state::clean(cleaning job) {
    pool_state& state = *job.state;
    try {
        co_await wait_for(state.reset(*job.c), answer_deadline);
    } catch (const std::exception&) {
        job.c.reset();
        co_return;
    }
    state.offer(std::move(job.c));
}

coro<> pool_state::reset(pooled& c) {
    const bool rolled_back = co_await c.db.reset();
    if (!rolled_back) throw error("a connection cannot be used again", "08006");
    if (!postgres) co_return;
    co_await c.db.run(reset_statements, std::vector<parameter>());
    if (setup) co_await (*setup)(c.db);
    c.db.driver_->session_changed = false;
}

void pool_state::offer(pooled_ptr c) noexcept {
    const bool loop = detail::local().loop != nullptr;
    const time_point now = loop ? now_on_loop() : time_point::min();
    if (closing || !loop || now >= c->dies) {
        c.reset();
        if (loop) tidy();
        return;
    }
    if (!takers_.empty()) {
        next_taker().got = std::move(c);
        return;
    }
    c->idle_since = now;
    try {
        idle.push_back(std::move(c));
    } catch (const std::bad_alloc&) {  // no memory: the connection is closed instead
    }
    if (timer_at_ == time_point::max()) tidy();
}

// ---- in the background ----

void pool_state::tidy() noexcept {
    if (closing || !detail::local().loop) return;
    try {
        const time_point now = now_on_loop();
        close_old(now);
        refill(now);
        arm(now);
    } catch (const std::bad_alloc&) {  // it is done again when the next connection comes back
    }
}

void pool_state::close_old(time_point now) noexcept {
    std::size_t all = connections();
    for (std::size_t i = 0; i < idle.size();) {
        pooled& c = *idle[i];
        const bool idle_too_long = all > options.min_size && now >= later(c.idle_since, options.max_idle);
        if (now < c.dies && !idle_too_long) {
            ++i;
            continue;
        }
        idle.erase(idle.begin() + static_cast<std::ptrdiff_t>(i));
        --all;
    }
}

void pool_state::refill(time_point now) {
    if (now < refill_after_) return;
    while (connections() < options.min_size) begin_attempt();
}

void pool_state::arm(time_point now) {
    time_point next = time_point::max();
    const bool spare = connections() > options.min_size;
    for (const pooled_ptr& c : idle) {
        next = std::min(next, c->dies);
        if (spare) next = std::min(next, later(c->idle_since, options.max_idle));
    }
    if (connections() < options.min_size) next = std::min(next, refill_after_);
    if (next == timer_at_) return;
    timer_.cancel();
    timer_at_ = next;
    if (next == time_point::max()) return;
    timer_at_ = std::max(next, now);
    timer_ = get_running_loop().call_at(timer_at_, [weak = weak_from_this()] {
        const std::shared_ptr<pool_state> state = weak.lock();
        if (!state) return;
        state->timer_at_ = time_point::max();
        state->tidy();
    });
}

// ---- closing ----

/// From here on nobody waits for a connection, and none is made.
void pool_state::close() noexcept {
    closing = true;
    timer_.cancel();
    while (!takers_.empty()) {
        next_taker().error = std::make_exception_ptr(std::logic_error("this sql::pool is closed"));
    }
    for (task<>& attempt : attempts) {
        if (attempt) attempt.cancel();
    }
}

coro<> pool_state::close_idle() {
    const auto alone = co_await close_lock.scoped();
    while (!attempts.empty()) {
        attempt_ended.clear();
        co_await attempt_ended.wait();
    }
    // Holding all permits means that no lease is out. acquire() gives none any more: it throws in those that wait
    // there.
    struct taken {
        semaphore& permits;
        std::size_t count = 0;
        ~taken() {
            for (; count > 0; --count) permits.release();
        }
    } all{permits};
    for (; all.count < options.max_size; ++all.count) co_await permits.acquire();
    while (!idle.empty()) {
        const pooled_ptr c = std::move(idle.back());
        idle.pop_back();
        co_await c->db.aclose();
    }
}

}  // namespace aio::inline v0::sql
