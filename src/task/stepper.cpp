// The parts of running a loop that are rare: whole turns, which debug mode and tests take, what runs when a loop
// ends, and signals. The hot path is in stepper.hpp.

#include "task/stepper.hpp"
#include "task/frames.hpp"

#include <aio/detail/task/function.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {

namespace {

// Debug mode: reports what has taken long. describe() gives the words for a time.
template<class Describe>
void report_if_slow(loop_core& core, time_point start, Describe describe) noexcept {
    const auto took = clock::now() - start;
    if (took <= std::chrono::milliseconds(100)) return;
    const auto count = std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
    core.report([&] { return describe(std::to_string(count) + " ms"); }, nullptr, nullptr);
}

// The report has the task's name and the place from which the step went on. On a worker the first step is not timed:
// to compute there is what workers are for, and a function that does has no other step.
void step_timed(loop_core& core, task_base& task) noexcept {
    if (core.state().is_worker && !task.started()) {
        task.step(local());
        return;
    }
    std::string name;
    try {
        name = task.name();
    } catch (...) {  // no memory: reported without its name
    }
    const promise_base* leaf = task.leaf();
    const std::source_location place = leaf ? innermost_shown(*leaf).place : std::source_location();
    const time_point start = clock::now();
    task.step(local());
    report_if_slow(core, start, [&](const std::string& time) {
        return "a step of " + (name.empty() ? "a task" : name) + " took " + time + "; it went on from " +
            place.file_name() + ":" + std::to_string(place.line());
    });
}

void call_timed(loop_core& core, ready_callback& item) noexcept {
    const time_point start = clock::now();
    item.run(item);
    report_if_slow(core, start, [](const std::string& time) { return "a callback took " + time; });
}

// Shuffles the tasks of a turn. Callbacks stay where they are: their order is promised (rule 29).
ready_link shuffled(ready_link batch, std::mt19937_64& random) {
    std::vector<ready_link> items;
    std::vector<std::size_t> places;  // of tasks
    for (; batch != ready_link::end(); batch = batch.item().next_ready) {
        if (!batch.is_callback()) places.push_back(items.size());
        items.push_back(batch);
    }
    for (std::size_t i = places.size(); i > 1; --i) std::swap(items[places[i - 1]], items[places[random() % i]]);
    ready_link next = ready_link::end();
    for (std::size_t i = items.size(); i-- > 0;) {
        items[i].item().next_ready = next;
        next = items[i];
    }
    return next;
}

}  // namespace

// Runs what is ready now, but not what becomes ready meanwhile.
void stepper::turn(thread_state& t) {
    core_.ready.append(state_.arrived);
    ready_link batch = core_.ready.take_all();
    if (core_.watched) {
        watched_turn(t, batch);
        return;
    }
    while (batch != ready_link::end()) run_one(t, ready_queue::take_first(batch));
    t.task = nullptr;
}

void stepper::tell_hook(ready_link next) {
    state_.next = next.is_callback() ? nullptr : &static_cast<task_base&>(next.item());
    const auto hook = state_.step_hook;  // the hook may set another one
    (*hook)();
}

void stepper::watched_turn(thread_state& t, ready_link batch) {
    if (state_.seeded) batch = shuffled(batch, state_.random);
    while (batch != ready_link::end()) {
        if (state_.step_hook) tell_hook(batch);  // before it is taken from the batch
        const ready_link item = ready_queue::take_first(batch);
        if (!core_.debug) {
            run_one(t, item);
        } else if (item.is_callback()) {
            call_timed(core_, item.callback());
        } else {
            step_timed(core_, static_cast<task_base&>(item.item()));
        }
        t.task = nullptr;
    }
}

void stepper::run_while_tasks() {
    run_until([this] { return core_.tasks.empty(); });
}

void stepper::drain_ready() {
    for (int limit = 0; limit < 10000 && !(core_.ready.empty() && state_.arrived.empty()); ++limit) turn(local());
}

void stepper::on_interrupt() {
    seen_ = interrupt_count();
    if (main_ && !interrupted_) interrupted_ = main_->cancel({});
    if (seen_ > 1) throw forced_end{};
}

}  // namespace aio::inline v0::detail
