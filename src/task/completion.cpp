// The parts of completion and work_guard that do not depend on the type of the result. Both are in aio/lowlevel.hpp.

#include "loop/loop_state.hpp"

#include <aio/detail/task/completion.hpp>
#include <aio/errors.hpp>

#include <memory>
#include <stdexcept>
#include <string>

namespace aio::inline v0::detail {

void completion_base::drop_handle() noexcept {
    if (handles_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (claim()) wake.end();
    release();
}

void throw_completion_without_handle() {
    throw_logic_error(
        "a completion is awaited that has given no handle: nobody could complete it. Call handle() first, and give the "
        "handle to whoever completes it");
}

void throw_completion_moved_from() { throw_logic_error("this completion has been moved from"); }

void throw_completion_abandoned(const char* what) {
    throw_logic_error(std::string(what) + ": every handle of this completion was dropped, and none has completed it");
}

void require_completion_error(const std::exception_ptr& error) {
    if (!error) throw std::invalid_argument("fail() was given no exception");
}

void report_cancel_hook(std::exception_ptr error) noexcept {
    if (loop_core* loop = local().loop)
        loop->report("exception in the on_cancel() function of a completion", std::move(error), local().task);
}

class work_token : public pooled, public mailbox_node {
public:
    explicit work_token(loop_core& loop) noexcept : loop_(&loop), home_(mailbox_of(loop)) { count(+1); }
    void drop() noexcept {
        if (loop_core* here = local().loop; here && here->state().mail == home_) return end();
        deliver = [](mailbox_node& node) noexcept { static_cast<work_token&>(node).end(); };
        const std::shared_ptr<mailbox> home = home_;
        if (!home->push(*this)) delete this;  // the loop has ended
    }

private:
    void count(int by) noexcept {
        loop_->outstanding += static_cast<std::size_t>(by);
        loop_->foreign += static_cast<std::size_t>(by);
    }
    void end() noexcept {
        count(-1);
        delete this;
    }
    loop_core* loop_;
    std::shared_ptr<mailbox> home_;
};

work_token* take_work_token() { return new work_token(require_loop()); }
void drop_work_token(work_token& token) noexcept { token.drop(); }

}  // namespace aio::inline v0::detail
