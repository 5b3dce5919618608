#pragma once
// Mutual exclusion between tasks of all machines: a lock that is a key of a bucket, held for a lease that is renewed.
//
//     auto& locks = co_await aio::enter(js.bucket<std::string>("locks", {.replicas = 3}));
//     aio::jetstream::lease_lock l = locks.lock("nightly", {.lease = 10s});
//     co_await aio::with(l, [&]() -> aio::coro<> {
//         co_await update(5);                     // cancelled if the lease is lost: then with() throws lease_lost
//     });
//
// While it is held, a task renews it three times in a lease. If its process dies or stands still, somebody else gets it
// once the lease has run out. No lock over machines can keep a process that has stood still from going on for a moment:
// whatever it writes to should refuse a fencing_token() that is smaller than one it has seen.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/jetstream/bucket.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>

namespace aio::inline v0::detail {
class nats_lease;
}

namespace aio::inline v0::jetstream {

/// The options of a lease_lock. The lease is how long the lock outlives a holder that dies or is cut off. A shorter one
/// frees the lock sooner; a longer one survives a longer silence of the servers. It is renewed three times in that time
/// while the lock is held, so it does not limit how long a body may take.
struct lease_options {
    /// How long others wait for a silent holder: 100 ms to 24 hours, and at most the bucket's ttl; otherwise
    /// std::invalid_argument. By default 10 s.
    delay lease = std::chrono::seconds(10);
};

/// Made by bucket_base::lock(). A manager, which may be used again. Any number of tasks may wait for one lease_lock: of
/// those the first comes first. Among processes, who asks first when it becomes free gets it. Destroyed while it is
/// held, it is released.
class [[nodiscard("give it to with()")]] lease_lock {
public:
    lease_lock(std::shared_ptr<detail::nats_bucket> bucket, std::string key, const lease_options& options);
    lease_lock(lease_lock&&) noexcept;
    lease_lock& operator=(lease_lock&&) = delete;
    ~lease_lock();

    /// Waits until the lock is free, and takes it. It waits for what the servers tell, and asks for nothing meanwhile.
    /// Irrevocable while the answer is under way that says whose it is; otherwise revertible. If no answer comes, a
    /// cancelled acquire() may leave it taken for a lease. Throws timeout_error, jetstream::error.
    coro<> acquire();
    /// Gives the lock back, which the servers tell the others. A cancel waits for that, and both for at most about the
    /// request_timeout: if no server answers, the lock runs out. Throws lease_lost if it was not
    /// held to the end; std::logic_error if it was not acquired.
    coro<> release();

    /// Does what acquire() does. If the lease is lost, the body is cancelled where it waits, as by a timeout.
    coro<lease_lock&> enter();
    /// Does what release() does. A body that was cancelled because the lease was lost throws lease_lost.
    coro<> exit(std::exception_ptr error);

    /// False once the lease has run out by this process's clock, which is before anybody else takes the lock.
    bool held() const noexcept;
    /// The revision with which the lock was taken: greater than that of everybody who had it before. 0: not acquired.
    std::uint64_t fencing_token() const noexcept;
    const std::string& key() const noexcept;  // The key that the lock is.

    static constexpr bool bound_to_task = true;

private:
    std::shared_ptr<detail::nats_lease> state_;
};

}  // namespace aio::inline v0::jetstream
