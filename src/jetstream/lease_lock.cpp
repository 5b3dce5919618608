// A lock over machines: a key of a bucket that its holder writes again and again. See docs/internals/jetstream.md, "The
// lock".
//
// Nobody compares clocks of two machines. A holder counts its lease from before it has sent the write; who waits counts
// it from when it saw that write, which is later. After a lease without another write it takes over, by a
// compare-and-swap with the revision that it saw: if the holder has written meanwhile, that fails.

#include "jetstream/bucket_state.hpp"

#include <aio/errors.hpp>
#include <aio/event.hpp>
#include <aio/jetstream/lease_lock.hpp>
#include <aio/lock.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <stdexcept>

namespace aio::inline v0::detail {

class nats_lease final : public std::enable_shared_from_this<nats_lease> {
public:
    nats_lease(std::shared_ptr<nats_bucket> bucket, std::string key, std::chrono::nanoseconds lease)
        : key_(std::move(key)), bucket_(std::move(bucket)), lease_(lease) {}

    coro<> acquire();
    coro<> release();
    coro<> enter();
    coro<> exit(std::exception_ptr error);
    bool held() const noexcept { return task_ && !lost_ && get_running_loop().time() < until_; }
    std::uint64_t token() const noexcept { return task_ ? token_ : 0; }
    void abandon() noexcept {
        scope_ = nullptr;
        stop_.set();
    }

    const std::string key_;

private:
    coro<bool> take(std::uint64_t expected);
    coro<std::uint64_t> until_free();
    static coro<> keep(std::shared_ptr<nats_lease> self);
    void lose() noexcept;
    std::chrono::nanoseconds lease_in(const std::string& value) const;
    std::string value() const;
    time_point now() const { return get_running_loop().time(); }
    [[noreturn]] void throw_lost() const {
        throw jetstream::lease_lost("the lock " + key_ + " of the bucket " + bucket_->name() + " was lost");
    }

    const std::shared_ptr<nats_bucket> bucket_;
    const std::chrono::nanoseconds lease_;
    lock line_;  // of this process's tasks
    std::uint64_t revision_ = 0, token_ = 0;
    time_point until_;  // the lease runs out
    bool lost_ = false;
    task<> task_;  // renews it, and gives it back in the end
    event stop_, stopped_;
    std::optional<timeout> entered_;
    timeout* scope_ = nullptr;
};

std::chrono::nanoseconds nats_lease::lease_in(const std::string& value) const {
    const auto ms = json_view::of(value)["lease_ms"].number(std::int64_t(0));
    return ms > 0 ? std::chrono::nanoseconds(std::chrono::milliseconds(std::min<std::int64_t>(ms, 86'400'000)))
                  : lease_;
}

std::string nats_lease::value() const {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(lease_).count();
    return json_writer().add("owner", bucket_->client()->unique()).add("lease_ms", ms).text();
}

/// Tries once. The key must have this revision.
coro<bool> nats_lease::take(std::uint64_t expected) {
    const std::string text = value();
    const time_point began = now();
    try {
        revision_ = co_await bucket_->store(key_, text, expected, write_kind::value, bucket_->default_limit());
    } catch (const jetstream::wrong_revision&) { co_return false; }
    if (now() >= began + lease_) co_return false;  // the answer came too late; it runs out like any other
    token_ = revision_;
    until_ = began + lease_;
    co_return true;
}

/// Gives the revision with which the lock may be taken.
coro<std::uint64_t> nats_lease::until_free() {
    const watch_wish wish{true, false};
    auto changes = nats_bucket::watch(bucket_, key_, wish);
    std::uint64_t seen = 0;
    time_point until = time_point::max();
    for (;;) {
        std::optional<raw_entry> e;
        try {
            const delay rest = until == time_point::max() ? delay(std::nullopt) : delay(until - now());
            auto next = co_await wait_for(changes.next(), rest);
            if (next) e = std::move(*next);
        } catch (const timeout_error&) {
            if (now() < until) throw;
            co_return seen;  // the holder has not renewed it
        }
        if (!e) throw jetstream::error("the lock " + key_ + ": the bucket was left, or the connection closed");
        if (e->kind == jetstream::entry_kind::up_to_date) {
            if (seen == 0) co_return 0;
            continue;
        }
        seen = e->revision;
        if (e->kind == jetstream::entry_kind::erased) co_return seen;
        until = now() + lease_in(*e->value);
    }
}

coro<> nats_lease::acquire() {
    co_await line_.acquire();
    try {
        std::uint64_t expected = 0;
        for (;;) {
            const bool taken = co_await take(expected);
            if (taken) break;
            expected = co_await until_free();
        }
        lost_ = false;
        stop_.clear();
        stopped_.clear();
        task_ = create_task(keep(shared_from_this()), {.name = "jetstream::lease_lock"});
        task_.detail_state()->set_internal();
        task_.add_done_callback([self = shared_from_this()] { self->stopped_.set(); });
    } catch (...) {
        if (task_) task_.cancel();  // it runs out
        task_ = task<>();
        line_.release();
        throw;
    }
}

void nats_lease::lose() noexcept {
    lost_ = true;
    try {
        if (scope_) scope_->reschedule(now());
    } catch (const std::exception&) {
        // it has ended, or is about to expire
    }
}

/// The task that alone knows the revision while the lock is held.
coro<> nats_lease::keep(std::shared_ptr<nats_lease> self) {
    nats_lease& l = *self;
    for (;;) {
        try {
            co_await wait_for(l.stop_.wait(), l.lease_ / 3);
        } catch (const timeout_error&) {
            // it is time to renew it
        }
        if (l.stop_.is_set()) break;
        const time_point began = l.now();
        bool lost = began >= l.until_;
        if (!lost) {
            try {
                const std::string value = l.value();
                l.revision_ = co_await l.bucket_->store(l.key_, value, l.revision_, write_kind::value, l.until_);
                l.until_ = began + l.lease_;
                if (l.scope_ && !l.scope_->expired()) l.scope_->reschedule(l.until_);
            } catch (const jetstream::wrong_revision&) { lost = true; } catch (const std::exception&) {
                lost = l.now() >= l.until_;
            }
        }
        if (lost) {
            l.lose();
            co_return;
        }
    }
    if (l.lost_ || l.now() >= l.until_) co_return;
    try {
        co_await l.bucket_->store(l.key_, std::string(), l.revision_, write_kind::erase, l.until_);
    } catch (const std::exception&) {
        // it runs out
    }
}

/// Completes when the lock has been given back, also if it is cancelled meanwhile, or when no server can be reached for
/// the request_timeout: then it runs out.
coro<> nats_lease::release() {
    if (!task_) throw_logic_error("a jetstream::lease_lock was released that was not acquired");
    const bool lost = !held();
    stop_.set();
    std::exception_ptr cancelled;
    const delay limit = bucket_->client()->settings().numbers.request_timeout;
    while (!stopped_.is_set()) {
        try {
            co_await wait_for(stopped_.wait(), limit);
        } catch (const timeout_error&) { task_.cancel(); } catch (const cancelled_error&) {
            cancelled = std::current_exception();
        }
    }
    task_ = task<>();
    line_.release();
    if (cancelled) std::rethrow_exception(cancelled);
    if (lost) throw_lost();
}

coro<> nats_lease::enter() {
    co_await acquire();
    std::exception_ptr failed;
    try {
        entered_.emplace(delay(until_ - now()));
        static_cast<void>(entered_->enter());
        scope_ = &*entered_;
    } catch (...) { failed = std::current_exception(); }
    if (!failed) co_return;
    entered_.reset();
    co_await release();
    std::rethrow_exception(failed);
}

coro<> nats_lease::exit(std::exception_ptr error) {
    bool expired = false;
    scope_ = nullptr;
    try {
        co_await entered_->exit(error);
    } catch (const timeout_error&) { expired = true; }
    entered_.reset();
    try {
        co_await release();
    } catch (const jetstream::lease_lost&) {
        if (!error) expired = true;
    }
    if (expired) throw_lost();
}

}  // namespace aio::inline v0::detail

namespace aio::inline v0::jetstream {
namespace {

std::shared_ptr<detail::nats_lease> lease_of(
    std::shared_ptr<detail::nats_bucket> bucket, std::string key, delay lease) {
    bucket->check_key(key, false, "jetstream::bucket::lock");
    constexpr std::chrono::hours most{24};
    if (!lease.has_value() || lease.value() < std::chrono::milliseconds(100) || lease.value() > most) {
        throw std::invalid_argument("jetstream::bucket::lock: a lease is 100 ms to 24 hours long");
    }
    if (bucket->ttl().count() > 0 && bucket->ttl() < lease.value()) {
        throw std::invalid_argument("jetstream::bucket::lock: the bucket " + bucket->name() +
            " keeps a value for a shorter time than the lease: the lock would be free while it is held");
    }
    return std::make_shared<detail::nats_lease>(std::move(bucket), std::move(key), lease.value());
}

}  // namespace

lease_lock::lease_lock(std::shared_ptr<detail::nats_bucket> bucket, std::string key, const lease_options& options)
    : state_(lease_of(std::move(bucket), std::move(key), options.lease)) {}
lease_lock::lease_lock(lease_lock&&) noexcept = default;
lease_lock::~lease_lock() {
    if (state_) state_->abandon();
}

coro<> lease_lock::acquire() { return state_->acquire(); }
coro<> lease_lock::release() { return state_->release(); }

coro<lease_lock&> lease_lock::enter() {
    co_await state_->enter();
    co_return *this;
}
coro<> lease_lock::exit(std::exception_ptr error) { return state_->exit(error); }

bool lease_lock::held() const noexcept { return state_->held(); }
std::uint64_t lease_lock::fencing_token() const noexcept { return state_->token(); }
const std::string& lease_lock::key() const noexcept { return state_->key_; }

}  // namespace aio::inline v0::jetstream
