#include "loop/loop.hpp"
#include "task/frames.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace aio::detail {

std::atomic<int> interrupts::count{0};
std::atomic<int> interrupts::last_signal{0};
idle_threads idle_library_threads;

namespace {
#if defined(__SANITIZE_THREAD__)
constexpr bool thread_sanitizer = true;
#elif defined(__has_feature)
constexpr bool thread_sanitizer = __has_feature(thread_sanitizer);
#else
constexpr bool thread_sanitizer = false;
#endif

// The kernel's own count, taken in one look. 0: cannot know.
int count_threads() noexcept {
    char text[1024];
    const int fd = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    const ssize_t size = ::read(fd, text, sizeof text - 1);
    ::close(fd);
    if (size <= 0) return 0;
    text[size] = '\0';
    const char* at = std::strrchr(text, ')');  // the program's name may contain anything
    for (int field = 2; at && field < 20; ++field) at = std::strchr(at + 1, ' ');
    int threads = at ? std::atoi(at) : 0;
    if (thread_sanitizer && threads > 1) --threads;  // its own, which comes with the first thread that is started
    return threads;
}
}  // namespace

// Never a false alarm: an idle thread counts only while it is there and can do nothing, and where one of them has come,
// gone, taken a job or ended one while we counted, the answer is yes.
bool foreign_threads_alive() noexcept {
    const std::uint64_t before = idle_library_threads.state();
    const int threads = count_threads();
    return threads == 0 || threads > 1 + idle_library_threads.load() || idle_library_threads.state() != before;
}

bool only_thread() noexcept { return count_threads() == 1; }

void wake_entry::on_events(std::uint32_t) noexcept {}

namespace {
std::atomic<std::uint64_t> last_loop_id{0};
}

loop_core::loop_core()
    : id(1 + last_loop_id.fetch_add(1, std::memory_order_relaxed)), cold_(std::make_unique<loop_cold>()) {
    cold_->in = std::make_shared<inbox>();
    cold_->io = make_epoll_reactor();
    cold_->waker.fd = cold_->in->wake_fd();
    cold_->io->add(cold_->waker, cold_->waker.fd, io_entry::readable | io_entry::edge);
}

loop_core::~loop_core() = default;

void loop_core::close() noexcept {
    abandon_generators(*this);
    cold_->in->close();
    if (cold_->default_pool) cold_->default_pool->let_go();  // it has threads only after a forced end
    cold_->default_pool.reset();
    if (cold_->closing_pool) cold_->closing_pool->close();
    cold_->exception_handler = nullptr;  // what it refers to may be gone by the time of a late report
    cold_->step_hook = nullptr;
    closed = true;
    if (debug) note_debug_loop(*this, false);
    ready.append(cold_->arrived);
    while (!ready.empty()) {
        ready_link batch = ready.take_all();
        while (batch != ready_link::end()) {
            const ready_link item = ready_queue::take_first(batch);
            if (item.is_callback()) item.callback().run(item.callback());  // which sees that it is too late
        }
    }
    drop_callbacks(*this);
    while (unread.pop_front()) {}
    cold_->io->remove(cold_->waker, cold_->waker.fd);
    cold_->io.reset();
}

void loop_core::destroy() noexcept { delete cold_->face; }

std::atomic<int> debug_loops{0};

namespace {
struct debug_registry {
    std::mutex mutex;
    std::vector<loop_core*> loops;
};
debug_registry& debugging() {
    static auto* registry = new debug_registry;  // for loops that end with the process
    return *registry;
}
[[noreturn]] void throw_wrong_thread(const char* what) {
    throw_logic_error(std::string(what) +
        " is called on another thread than its loop's: use loop_handle::call_soon_threadsafe or a task_canceller");
}
}  // namespace

void note_debug_loop(loop_core& loop, bool on) {
    debug_registry& registry = debugging();
    const std::lock_guard guard(registry.mutex);
    if (on) {
        registry.loops.push_back(&loop);
        ++debug_loops;
    } else if (std::erase(registry.loops, &loop) != 0) {
        --debug_loops;
    }
}

void require_thread_of(std::uint64_t loop_id, const char* what) {
    if (loop_id == 0 || (local().loop && local().loop->id == loop_id)) return;
    debug_registry& registry = debugging();
    const std::lock_guard guard(registry.mutex);
    for (loop_core* loop : registry.loops) {
        if (loop->id == loop_id && loop->cold().thread != std::this_thread::get_id()) throw_wrong_thread(what);
    }
}

void loop_core::require_own_thread(const char* what) {
    if (!closed && cold_->thread != std::this_thread::get_id()) { throw_wrong_thread(what); }
}

time_point loop_core::now() noexcept { return cold_->testing.virtual_time ? cold_->virtual_now : clock::now(); }

void loop_core::look_who_watches() noexcept { watched = debug || cold_->testing.seeded || cold_->step_hook; }

void loop_core::arm(timer_node& timer, time_point deadline) noexcept { cold_->timer_heap.arm(timer, deadline); }
void loop_core::disarm(timer_node& timer) noexcept { cold_->timer_heap.disarm(timer); }

std::shared_ptr<inbox> inbox_of(loop_core& loop) noexcept { return loop.cold().in; }

void loop_core::report(const char* message, std::exception_ptr error, task_base* task) noexcept {
    report([message] { return std::string(message); }, std::move(error), task);
}
void loop_core::report(std::string message, std::exception_ptr error, task_base* task) noexcept {
    report([&message] { return std::move(message); }, std::move(error), task);
}

void loop_core::report_made(message_maker& message, std::exception_ptr error, task_base* task) noexcept {
    thread_state& t = local();
    task_base* const running = t.task;
    context_map* const outer = t.context;
    if (task) {  // the handler runs in the context of the task that failed (rule 38)
        t.task = nullptr;
        t.context = share_context(task->context());
    }
    try {
        std::string text;
        try {
            text = message();
        } catch (...) {
            text = "(out of memory)";  // short enough to need none
        }
        cold_->face->call_exception_handler(
            exception_context{std::move(text), std::move(error), any_task(state_ptr<task_base>(task))});
    } catch (...) { std::fputs("aiocxx: out of memory while reporting an error\n", stderr); }
    look_for_replaced_errors();
    if (task) {
        drop_context(std::exchange(t.context, outer));
        t.task = running;
    }
}

// One step of a task: resumes its innermost coroutine until the task suspends or ends.
[[gnu::always_inline]] inline bool loop_core::step(thread_state& t, task_base& task) noexcept {
    t.task = &task;
    t.budget = step_budget;
    if (task.flags_ & future_base::flag_prepare) [[unlikely]] {
        if (!task.prepare_step()) return true;
    }
    task.waiting_ = nullptr;
    promise_base* coroutine = task.leaf_;
    for (;;) {
        coroutine->handle().resume();
        if (task.waiting_) return false;
        promise_base* const next = t.next;
        if (!next) break;
        t.next = nullptr;
        task.leaf_ = coroutine = next;  // its child has just ended: a call graph must not look at that any more
        if (next->state == progress::ended) break;
    }
    if (!coroutine->handle().done()) return false;  // suspended by something that has told the task of nothing
    task.finish(*coroutine);
    return true;
}

namespace {

// A slow step in debug mode: names the task and where it went on.
void step_timed(loop_core& core, task_base& task) noexcept {
    std::string name;
    try {
        name = task.name();
    } catch (...) {  // no memory: reported without its name
    }
    const promise_base* leaf = task.leaf();
    const std::source_location place = leaf ? innermost_shown(*leaf).place : std::source_location();
    const time_point start = clock::now();
    core.step(local(), task);
    const auto took = clock::now() - start;
    if (took > std::chrono::milliseconds(100)) {
        core.report(
            [&] {
                return "a step of " + (name.empty() ? "a task" : name) + " took " +
                    std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) +
                    " ms; it went on from " + place.file_name() + ":" + std::to_string(place.line());
            },
            nullptr, nullptr);
    }
}

void call_timed(loop_core& core, ready_callback& item) noexcept {
    const time_point start = clock::now();
    item.run(item);
    const auto took = clock::now() - start;
    if (took > std::chrono::milliseconds(100)) {
        core.report(
            [&] {
                return "a callback took " +
                    std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) + " ms";
            },
            nullptr, nullptr);
    }
}

// Tasks change places with tasks. Callbacks stay where they are: their order is promised (rule 29).
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

// Runs a callback or a step; true if what the loop runs for may have come to its end with it.
[[gnu::always_inline]] inline bool run_one(loop_core& core, thread_state& t, ready_link item) noexcept {
    if (item.is_callback()) {
        t.task = nullptr;
        t.budget = 0;
        item.callback().run(item.callback());
        return true;
    }
    return core.step(t, item.task());
}

// What is ready now, and not what becomes ready meanwhile.
void turns::turn(thread_state& t) {
    core_.ready.append(cold_.arrived);
    ready_link batch = core_.ready.take_all();
    if (core_.watched) {
        watched_turn(t, batch);
        return;
    }
    while (batch != ready_link::end()) run_one(core_, t, ready_queue::take_first(batch));
    t.task = nullptr;
}

void turns::tell_hook(ready_link next) {
    cold_.next = next.is_callback() ? nullptr : &next.task();
    const auto hook = cold_.step_hook;  // it may set another one
    (*hook)();
}

void turns::watched_turn(thread_state& t, ready_link batch) {
    if (cold_.testing.seeded) batch = shuffled(batch, cold_.random);
    while (batch != ready_link::end()) {
        if (cold_.step_hook) tell_hook(batch);  // it is in the queue still
        const ready_link item = ready_queue::take_first(batch);
        if (!core_.debug) {
            run_one(core_, t, item);
        } else if (item.is_callback()) {
            call_timed(core_, item.callback());
        } else {
            step_timed(core_, item.task());
        }
        t.task = nullptr;
    }
}

// What looks have made ready comes in the order in which it became so, whatever the load (15k3): each source keeps its
// order. It may overtake what was merely ready: a timer that is due, or a descriptor, does not wait for ten thousand
// busy tasks. So it waits in a line of its own, and of that no more is let into the queue than is taken before the next
// look: behind a short line of those that were ready, as in CPython, and before a long one, but for half of the steps,
// which are the others'.
void turns::line_up(ready_queue& earlier) noexcept {
    constexpr std::size_t short_line = 64, shorter_line = 16;
    ready_queue& arrived = cold_.arrived;
    cold_.next_look = cold_.look_interval;
    if (arrived.empty()) return core_.ready.append(earlier);
    if (cold_.in_order) {
        core_.ready.append(earlier);
        return core_.ready.append(arrived);
    }
    const auto steps = static_cast<std::size_t>(cold_.look_interval);
    const std::size_t room = std::max(steps, shorter_line);
    const std::size_t before = earlier.count(std::min(room, short_line + 1));
    if (before < room && before <= short_line) {
        core_.ready.append(earlier);
        const std::size_t taken = core_.ready.append(arrived, room - before);
        cold_.next_look = static_cast<std::int32_t>(std::max(steps, before + taken));
    } else {
        core_.ready.append(arrived, std::max<std::size_t>(1, steps / 2));
        core_.ready.append(earlier);
    }
}

// Timers, the inbox and the kernel. While there is work the clock is looked at only every so many steps, as many as
// take some 5 to 20 us, and the kernel every 50 us: both cost more than a short step.
void turns::look() {
    if (core_.closed) [[unlikely]]
        throw_forked();
    if (signals_ && interrupts::count.load(std::memory_order_relaxed) != seen_) [[unlikely]]
        on_interrupt();
    // While it lives, what becomes ready is kept apart from what was.
    struct apart {
        turns& self;
        ready_queue earlier;
        explicit apart(turns& t) noexcept : self(t) { earlier.append(t.core_.ready); }
        ~apart() {
            self.cold_.arrived.append(self.core_.ready);
            self.line_up(earlier);
        }
        apart(const apart&) = delete;
        apart& operator=(const apart&) = delete;
        bool alone() const noexcept {
            return earlier.empty() && self.core_.ready.empty() && self.cold_.arrived.empty();
        }
    } heard(*this);
    const bool in_order = cold_.testing.virtual_time || by_turns();
    if (std::exchange(cold_.in_order, in_order) && !in_order)
        cold_.arrived.append(heard.earlier);  // some of it has come by looks
    cold_.in->drain();
    const bool may_block = heard.alone();
    if (!may_block) cold_.patience = std::chrono::milliseconds(1);
    timers& heap = cold_.timer_heap;
    if (cold_.testing.virtual_time) {
        if (!heap.empty()) heap.fire_due(cold_.virtual_now);
        cold_.io->poll(std::chrono::nanoseconds(0));
        cold_.in->drain();
        if (!heard.alone() || !may_block) return;
        // That has taken the wake-up of a signal that came after the look at it.
        if (signals_ && interrupts::count.load() != seen_) return;
        if (core_.outstanding == core_.foreign && !heap.empty() && heap.next() != time_point::max()) {
            hear_threads();
            if (!heard.alone()) return;
            cold_.virtual_now = std::max(cold_.virtual_now, heap.next());
            static_cast<void>(tidy(cold_.virtual_now, true));
            heap.fire_due(cold_.virtual_now);
            return;
        }
    }
    const time_point now = clock::now();
    const auto since = now - cold_.last_look;
    cold_.last_look = now;
    if (since < std::chrono::microseconds(5)) {
        if (cold_.look_interval < 4096) cold_.look_interval *= 2;
    } else if (since > std::chrono::microseconds(20)) {
        cold_.look_interval = since > std::chrono::milliseconds(1) ? 2 : std::max(2, cold_.look_interval / 2);
    }

    const bool untidy = !cold_.testing.virtual_time && tidy(now, may_block);
    std::optional<std::chrono::nanoseconds> timeout = std::chrono::nanoseconds(0);
    if (may_block) {
        if (heap.empty() || heap.next() == time_point::max() || cold_.testing.virtual_time) {
            timeout.reset();
        } else {
            timeout = time_left(heap.next(), now);
        }
        if (!timeout && !may_be_woken()) {  // by a foreign thread alone: it may end without doing so
            timeout = cold_.patience;
            cold_.patience = std::min(cold_.patience * 2, std::chrono::milliseconds(1000));
        }
        if (untidy)
            timeout =
                std::min(timeout.value_or(std::chrono::seconds(1)), std::chrono::nanoseconds(cold_.tidy_at - now));
        if (core_.outstanding != 0 && (!timeout || *timeout > spinner::most) &&
            cold_.for_threads.until([this] { return !cold_.in->empty(); })) {
            timeout = std::chrono::nanoseconds(0);
        }
        if ((!timeout || timeout->count() > 0) && !cold_.in->prepare_to_block()) timeout = std::chrono::nanoseconds(0);
        // A signal may have come since the last look: its handler writes to the inbox's eventfd, so the poll returns at
        // once.
    }
    const bool slept = !timeout || timeout->count() > 0;
    bool by_thread = false;
    if (may_block || now - cold_.last_poll >= std::chrono::microseconds(50)) {
        cold_.io->poll(timeout);
        cold_.in->awake();
        by_thread = cold_.in->drain();
        cold_.last_poll = now;
    }
    const time_point later = slept ? clock::now() : now;
    if (slept && by_thread) cold_.for_threads.slept(later - now);
    if (slept) cold_.last_look = later;
    if (!heap.empty() && !cold_.testing.virtual_time) heap.fire_due(later);
}

// On virtual time. An awaiter of another library may be resumed by a timer of this loop, or by a thread: that has a
// little of the real clock's time before the timer's comes.
void turns::hear_threads() {
    if (core_.foreign == 0 || !foreign_threads_alive()) return;
    if (cold_.in->prepare_to_block()) cold_.io->poll(std::chrono::milliseconds(10));
    cold_.in->awake();
    cold_.in->drain();
}

// The free lists and the room for timers, when their time has come. True if it will have to come again, whether
// something happens until then or not.
bool turns::tidy(time_point now, bool idle) noexcept {
    if (now < cold_.tidy_at) return has_many_blocks();
    cold_.timer_heap.shrink();
    const tidied how = tidy_free_lists(idle);
    cold_.tidy_at = how == tidied::partly ? now : delay(std::chrono::seconds(1)).from(now);
    return how != tidied::wholly;
}

// Throws deadlock_error where nothing can ever happen. False if only a thread that is not ours could make something
// happen.
bool turns::may_be_woken() {
    if (core_.outstanding != 0 || !cold_.timer_heap.empty() || core_.tasks.empty()) return true;
    if (foreign_threads_alive()) {
        if (core_.debug && cold_.patience.count() >= 1000 && !std::exchange(cold_.told_of_foreign_threads, true)) {
            core_.report(
                [] {
                    return "every task waits for another; only a thread of the program's own could wake one\n" +
                        capture_call_graph().to_string();
                },
                nullptr, nullptr);
        }
        return false;
    }
    if (!cold_.in->empty() || (signals_ && interrupts::count.load() != seen_)) return true;
    std::string text = "deadlock: every task waits for another, and nothing outside can wake one\n";
    try {
        text += capture_call_graph().to_string();
    } catch (const std::bad_alloc&) { text.back() = '.'; }
    throw deadlock_error(text);
}

// A hook alone changes nothing: on the real clock a test sees the steps as they are taken without it.
bool turns::by_turns() const noexcept {
    return core_.watched && (core_.debug || cold_.testing.seeded || cold_.testing.virtual_time);
}

// As many as may be taken before the next look. True if the end has come.
template<bool Hooked, class Done>
[[gnu::always_inline]] inline bool turns::steps(thread_state& t, Done& done) {
    loop_core& core = core_;
    std::int32_t left = cold_.next_look;
    while (!core.ready.empty()) {
        if constexpr (Hooked) {
            if (cold_.step_hook) tell_hook(core.ready.front());
        }
        if (run_one(core, t, core.ready.pop()) && done()) [[unlikely]]
            return true;
        if (--left <= 0) break;
    }
    return false;
}

// Steps are taken from the queue one by one: turns would not show, but where something watches. When the end has come,
// what is ready then has a step, too, as in CPython, whose loop stops at the end of the next turn.
template<class Done>
void turns::run(Done done) {
    thread_state& t = local();
    while (!done()) {
        if (core_.watched) [[unlikely]] {
            if (by_turns()) {
                turn(t);
                if (done()) return turn(t);
            } else if (steps<true>(t, done)) {
                return turn(t);
            }
            t.task = nullptr;
            look();
            continue;
        }
        if (steps<false>(t, done)) return turn(t);
        t.task = nullptr;
        look();
    }
}

void turns::run_until(const future_base& task) {
    run([&task] { return task.done(); });
}

void turns::run_while_tasks() {
    run([this] { return core_.tasks.empty(); });
}

void turns::run_while_some_end(const loop_owner& owner) {
    run([&] { return !owner.some_end() || core_.tasks.empty(); });
}

void turns::drain_ready() {
    for (int limit = 0; limit < 10000 && !(core_.ready.empty() && cold_.arrived.empty()); ++limit) turn(local());
}

void turns::on_interrupt() {
    seen_ = interrupts::count.load();
    if (main_ && !interrupted_) interrupted_ = main_->cancel({});
    if (seen_ > 1) throw forced_end{};
}

// ---- descriptors ----

void io_source::attach(int fd) {
    loop_ = &require_loop();
    loop_->cold().io->add(*this, fd, readable | writable | edge);
    loop_->hold();
    fd_ = fd;
}

void io_source::detach() noexcept {
    if (fd_ < 0) return;
    if (!loop_->closed) {  // else closing the descriptor has taken it out of epoll
        wake_all();
        loop_->cold().io->remove(*this, fd_);
    }
    fd_ = -1;
    loop_->let_go();
}

void io_source::park_slot(int direction, slot s) noexcept {
    slots_[direction] = s;
    ++loop_->outstanding;
}

void io_source::unpark(int direction) noexcept {
    if (!slots_[direction].operation) return;
    slots_[direction] = slot{};
    --loop_->outstanding;
}

void io_source::on_events(std::uint32_t events) noexcept {
    for (int direction = 0; direction < 2; ++direction) {
        if (!(events & (direction == 0 ? readable : writable))) continue;
        const slot s = slots_[direction];
        if (!s.operation) continue;
        unpark(direction);
        s.ready(s.operation);
    }
}

void fd_watch::watch(int fd, std::uint32_t events) {
    if (fd_ == fd && events_ == events) return;
    if (fd_ >= 0 && (fd != fd_ || events == 0)) stop();
    if (events == 0) return;
    if (fd_ < 0) {
        loop_ = &require_loop();
        loop_->cold().io->add(*this, fd, events);
        ++loop_->outstanding;
        loop_->hold();
        fd_ = fd;
    } else {
        loop_->cold().io->modify(*this, fd, events);
    }
    events_ = events;
}

void fd_watch::stop() noexcept {
    if (fd_ < 0) return;
    if (!loop_->closed) loop_->cold().io->remove(*this, fd_);
    --loop_->outstanding;
    fd_ = -1;
    events_ = 0;
    loop_->let_go();
}

void fd_watch::on_events(std::uint32_t events) noexcept {
    try {
        fn_(events);
    } catch (...) { loop_->report("exception in a callback of a descriptor", std::current_exception(), nullptr); }
}

fd_ready::fd_ready(int fd, std::uint32_t events) noexcept
    : fd_(fd), events_(events), watch_([this](std::uint32_t came) {
          came_ = came;
          watch_.stop();
          wake();
      }) {}

bool fd_ready::start() noexcept {
    try {
        watch_.watch(fd_, events_);
        return false;
    } catch (const std::system_error& e) {
        error_ = e.code().value();
        return true;
    }
}

std::uint32_t fd_ready::finish() {
    if (error_) throw_system_error(error_, "waiting for descriptor " + std::to_string(fd_));
    return came_;
}

void fd_ready::describe(std::string& out) const {
    out += "descriptor " + std::to_string(fd_) + (events_ & io_entry::writable ? " to be writable" : " to be readable");
}

}  // namespace aio::detail
