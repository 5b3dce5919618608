#include "loop/loop.hpp"

#include <aio/exception_group.hpp>
#include <aio/testing.hpp>

#include <utility>

namespace aio::testing {

void set_step_hook(detail::function<void()> fn) {
    detail::loop_core& loop = detail::require_loop();
    const auto before = std::exchange(loop.cold().step_hook, std::move(fn));
    loop.look_who_watches();
}

any_task next_task() noexcept {
    detail::task_base* const next = detail::require_loop().cold().next;
    return next && !next->internal() ? any_task(detail::state_ptr<detail::task_base>(next)) : any_task();
}

namespace detail_ {

bool is_bad_alloc(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const std::bad_alloc&) {
        return true;
    } catch (const exception_group& group) {
        for (const std::exception_ptr& inner : group.exceptions()) {
            if (!is_bad_alloc(inner)) return false;
        }
        return true;
    } catch (...) {
        return false;
    }
}

void check_nothing_is_left(std::ptrdiff_t before, const char* how, std::size_t at) {
    if (!detail::only_thread()) return;  // blocks may be in the hands of others
    const std::ptrdiff_t left = live_blocks() - before;
    if (left == 0) return;
    throw std::logic_error(std::string(how) + ": after run " + std::to_string(at) + " " + std::to_string(left) +
                           " blocks (coroutine frames, tasks, futures) are left");
}

void throw_not_ended() { throw std::logic_error("end_at_every_step: the scenario did not end when it was cancelled by the end of run()"); }

void throw_endless(const char* how) {
    throw std::logic_error(std::string(how) + ": the scenario has not ended after 100000 runs");
}

}  // namespace detail_

}  // namespace aio::testing
