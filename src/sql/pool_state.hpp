#pragma once
// What a pool and its leases share. Leases may outlive the pool.
//
// A semaphore counts the connections that may still be lent (permits); a caller of acquire() that has a permit takes an
// idle connection, or waits for the first one that comes free or is made.
//
// An attempt to connect is a task of the pool's own: the caller of acquire() may be cancelled meanwhile, and then
// another one gets the connection. A caller does not wait for the attempt that it has caused, but for the first
// connection that comes, first come first served.
//
// What is due at a time (closing idle connections, min_size after a failure) hangs on a single timer of the loop, which
// is armed only while something is due: so an idle pool costs nothing, and virtual time does not run away.

#include "sql/driver.hpp"

#include <aio/event.hpp>
#include <aio/event_loop.hpp>
#include <aio/lock.hpp>
#include <aio/semaphore.hpp>
#include <aio/sql/pool.hpp>
#include <aio/task.hpp>

#include <list>
#include <memory>
#include <optional>

namespace aio::inline v0::sql {

/// A connection of a pool.
struct pooled {
    pooled(std::unique_ptr<driver> d, pool_statistics& n) noexcept : db(std::move(d)), numbers(n) { ++numbers.created; }
    ~pooled() { ++numbers.closed; }
    pooled(const pooled&) = delete;
    pooled& operator=(const pooled&) = delete;
    connection db;
    pool_statistics& numbers;  // of the pool's state, which all that have a connection of it share
    time_point idle_since{};
    time_point dies = time_point::max();
};
using pooled_ptr = std::unique_ptr<pooled>;

class pool_state : public std::enable_shared_from_this<pool_state> {
public:
    pool_state(std::string u, const pool_options& o);
    ~pool_state();
    pool_state(const pool_state&) = delete;
    pool_state& operator=(const pool_state&) = delete;

    void check_open() const {
        if (closing) detail::throw_logic_error("this sql::pool is closed");
    }
    /// A permit that is given back at the end of a block, unless a lease has taken it over.
    struct permit {
        semaphore& of;
        bool held = false;
        explicit permit(semaphore& s) noexcept : of(s) {}
        ~permit() {
            if (held) of.release();
        }
        permit(const permit&) = delete;
        permit& operator=(const permit&) = delete;
    };
    /// SQLite has one writer at a time: then a statement of pool::query() that may write waits for its turn before it
    /// takes a connection, so that the others are left for those who read.
    bool lines_up(std::string_view statement) const noexcept;
    /// Waits for that turn. Gives what is left of the time for a connection.
    coro<delay> line_up(permit& turn);
    /// Gives an idle connection that needs no check, or null.
    pooled_ptr take_idle() noexcept;
    /// The same, but waits. A limit that passes is a timeout_error.
    coro<pooled_ptr> wait(permit& p, delay limit);
    /// Takes a connection back from a lease, with its permit.
    void give_back(pooled_ptr c) noexcept;
    void lent() noexcept {
        ++lent_;
        ++numbers.acquired;
    }
    coro<> close_idle();
    void close() noexcept;
    /// Closes what has been idle or has lived for too long, makes connections up to min_size, and arms the timer for
    /// the next time.
    void tidy() noexcept;
    std::size_t lent_now() const noexcept { return lent_; }

    const std::string url;
    const bool in_memory;
    const bool postgres;
    const bool read_only;  // SQLite
    const pool_options options;
    const std::optional<pool_setup> setup;
    const std::string pragmas;  // a copy of what the options refer to
    semaphore permits;
    semaphore write_turn{1};
    lock close_lock;
    pool_statistics numbers{};
    std::vector<pooled_ptr> idle;  // the one used last is the last, and is used again first
    std::list<task<>> attempts;
    event attempt_ended;
    bool closing = false;
    std::unique_ptr<driver> (*make)(const std::string&, connect_options) = &make_driver;

private:
    class taker;
    class place;
    class cleaning;

    static pool_options for_memory(pool_options o) {
        o.max_size = 1;
        o.min_size = 0;
        o.max_idle = std::nullopt;
        o.max_lifetime = std::nullopt;
        return o;
    }
    coro<pooled_ptr> take(permit& p);
    coro<bool> answers(pooled& c);
    coro<pooled_ptr> connected();
    coro<> reset(pooled& c);
    static coro<> attempt(place p);
    static coro<> clean(cleaning c);
    void begin_attempt();
    bool begin_cleaning(pooled_ptr& c) noexcept;
    void ended(std::list<task<>>::iterator attempt, std::exception_ptr failed) noexcept;
    void offer(pooled_ptr c) noexcept;
    bool must_be_reset(const pooled& c) const noexcept;
    void close_old(time_point now) noexcept;
    void refill(time_point now);
    void arm(time_point now);
    std::string doing() const;
    [[noreturn]] void give_up(time_point began);
    /// Those that are there, and those that are being made; one that is being set up counts as both.
    std::size_t connections() const noexcept {
        return static_cast<std::size_t>(numbers.created - numbers.closed) + attempts.size();
    }
    taker& next_taker() noexcept;

    std::vector<taker*> takers_;
    std::size_t lent_ = 0;                    // connections with leases, or being cleaned after one
    time_point suspect_ = time_point::min();  // what has been idle since before is checked: a connection was lost then
    time_point refill_after_ = time_point::min();
    std::chrono::milliseconds refill_pause_{0};
    callback_handle timer_;
    time_point timer_at_ = time_point::max();
};

}  // namespace aio::inline v0::sql
