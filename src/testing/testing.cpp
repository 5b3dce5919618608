// What tests ask of a loop: a hook before each step, allocations that fail, busy tasks beside a scenario. The loops
// over every step are templates, in testing.hpp.

#include "loop/loop_state.hpp"
#include "loop/process_threads.hpp"

#include <aio/exception_group.hpp>
#include <aio/sleep.hpp>
#include <aio/testing.hpp>

#include <chrono>
#include <memory>
#include <unordered_set>
#include <utility>

namespace aio::inline v0::testing {

void set_step_hook(detail::function<void()> fn) {
    detail::loop_core& loop = detail::require_loop();
    const auto before =
        std::exchange(loop.state().step_hook, fn ? std::make_shared<detail::function<void()>>(std::move(fn)) : nullptr);
    loop.look_who_watches();
}

any_task next_task() noexcept {
    detail::task_base* const next = detail::require_loop().state().next;
    return next && !next->internal() ? any_task(detail::state_ptr<detail::task_base>(next)) : any_task();
}

void allocation() { detail::count_allocation(); }

namespace testing_detail {

void fail_allocation(std::optional<std::size_t> n, bool and_all_after) noexcept {
    detail::fail_allocation_after(n.value_or(detail::no_failure), and_all_after);
}
bool allocation_failed() noexcept { return detail::allocation_has_failed(); }
std::ptrdiff_t live_blocks() noexcept { return detail::live_blocks(); }

struct busy_tasks::shared {
    any_task subject;
    bool over = false;
    std::unordered_set<const detail::task_base*> tasks;
    std::size_t running = 0;
};

busy_tasks::busy_tasks(std::size_t count) : shared_(std::make_shared<shared>()) {
    for (std::size_t i = 0; i < count; ++i)
        shared_->tasks.insert(create_task(spin(shared_), {.name = "busy"}).detail_state());
}

busy_tasks::~busy_tasks() {
    if (!shared_->subject) shared_->over = true;
}

coro<> busy_tasks::begin() {
    if (shared_->tasks.empty()) co_return;
    bool hooked = false;
    set_step_hook([&hooked] { hooked = true; });
    while (!hooked || shared_->running < shared_->tasks.size()) co_await sleep(std::chrono::seconds(0));
    set_step_hook(nullptr);
}

void busy_tasks::run_beside(const any_task& subject) { shared_->subject = subject; }

bool busy_tasks::come_next() const noexcept {
    return !shared_->tasks.empty() && shared_->tasks.contains(detail::require_loop().state().next);
}

coro<> busy_tasks::spin(std::shared_ptr<shared> with) {
    ++with->running;
    const time_point latest = clock::now() + std::chrono::minutes(1);
    for (std::size_t n = 1; !with->over && !(with->subject && with->subject.done()); ++n) {
        if (n % 256 == 0 && clock::now() > latest) break;
        try {
            co_await sleep(std::chrono::seconds(0));
        } catch (const cancelled_error&) {  // of the end of run(), which has to cope with the load, too
        }
    }
}

bool is_bad_alloc(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const std::bad_alloc&) { return true; } catch (const exception_group& group) {
        for (const std::exception_ptr& inner : group.exceptions()) {
            if (!is_bad_alloc(inner)) return false;
        }
        return true;
    } catch (...) { return false; }
}

void check_nothing_is_left(std::ptrdiff_t before, const char* how, std::size_t at) {
    if (!detail::only_thread()) return;  // other threads may hold blocks
    const std::ptrdiff_t left = live_blocks() - before;
    if (left == 0) return;
    throw std::logic_error(std::string(how) + ": after run " + std::to_string(at) + " " + std::to_string(left) +
        " blocks (coroutine frames, tasks, futures) are left");
}

void check_options(const brute_force_options& options) {
    if (options.every == 0)
        throw std::invalid_argument("brute_force_options: every is 0, so it would be the same step for ever");
}

void throw_not_ended() {
    throw std::logic_error("end_at_every_step: the scenario did not end when it was cancelled by the end of run()");
}

void throw_endless(const char* how) {
    throw std::logic_error(std::string(how) + ": the scenario has not ended after 100000 runs");
}

}  // namespace testing_detail

}  // namespace aio::inline v0::testing
