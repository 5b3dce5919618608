#pragma once
// What blocks on the network: resolving a host's name, and asking the server to cancel. It runs on a thread of a pool.

#include <aio/detail/loop/loop_core.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/detail/threads/blocking.hpp>

#include <memory>

namespace aio::inline v0::sql {

class errand_owner {
public:
    virtual void errand_done() noexcept = 0;

protected:
    ~errand_owner() = default;
};

/// A blocking call on a thread of the pool. The driver and the pool share it, so that neither has to wait for the
/// other.
class errand final : public detail::blocking_job {
public:
    /// Calls fn() in the thread, and then owner.errand_done() in the loop, unless the errand was abandoned.
    static std::shared_ptr<errand> start(errand_owner& owner, detail::function<void()> fn);
    /// Nobody waits for the errand any more. It may hang for ever, so its thread leaves the pool.
    void abandon() noexcept;

private:
    errand(errand_owner& owner, detail::loop_core& loop, detail::function<void()> fn);
    errand_owner* owner_;
    detail::loop_core* loop_;
    std::shared_ptr<detail::mailbox> loop_mail_;  // the loop's; the pool moves from home
    detail::function<void()> fn_;
    std::shared_ptr<errand> self_;  // keeps the errand alive until it is delivered
};

}  // namespace aio::inline v0::sql
