// The mailbox of a loop, through which other threads reach it: they push nodes, and the loop delivers them in its next
// look outside (scheduler::poll_outside). It takes no lock, and writes to the eventfd only if the loop sleeps.

#include "loop/loop_state.hpp"
#include "loop/running_loops.hpp"

#include <aio/detail/loop/mailbox.hpp>
#include <aio/errors.hpp>

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace aio::inline v0::detail {

// A stack: producers push to it, and the loop takes it whole. Before it blocks, the loop sets sleeping and looks at
// the stack once more; a producer pushes, and then looks at sleeping. With sequentially consistent order one of the
// two sees the other.
//
// A thread that sleeps as an idle one leaves that count when its sleep ends, and whoever ends the sleep takes it out: a
// producer does so before it goes on. So a loop with a node in its mailbox is never counted, and no deadlock is seen
// where a message is under way.
enum class sleep : std::uint8_t { no, yes, idle };
struct mailbox::state {
    std::atomic<mailbox_node*> head{nullptr};
    std::atomic<sleep> sleeping{sleep::no};
    mailbox_node closed_mark;
    const unsigned generation = fork_generation();
};

mailbox::mailbox() : state_(std::make_unique<state>()), wake_fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (wake_fd_ < 0) throw_system_error(errno, "eventfd");
}

mailbox::~mailbox() { ::close(wake_fd_); }

bool mailbox::push(mailbox_node& node) noexcept {
    if (forked()) return false;
    mailbox_node* head = state_->head.load(std::memory_order_relaxed);
    do {
        if (head == &state_->closed_mark) return false;
        node.next = head;
    } while (!state_->head.compare_exchange_weak(head, &node, std::memory_order_seq_cst, std::memory_order_relaxed));
    if (state_->sleeping.load(std::memory_order_seq_cst) != sleep::no) {
        const sleep before = state_->sleeping.exchange(sleep::no);
        if (before == sleep::idle) remove_idle_loop();
        if (before != sleep::no) wake();
    }
    return true;
}

bool mailbox::forked() const noexcept { return state_->generation != fork_generation(); }

bool mailbox::closed() const noexcept { return state_->head.load(std::memory_order_acquire) == &state_->closed_mark; }

bool mailbox::empty() const noexcept { return state_->head.load(std::memory_order_relaxed) == nullptr; }

namespace {
void deliver_all(mailbox_node* newest) noexcept {
    mailbox_node* oldest = nullptr;
    while (newest) {
        mailbox_node* next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        mailbox_node* next = oldest->next;
        oldest->deliver(*oldest);
        oldest = next;
    }
}
}  // namespace

bool mailbox::drain() noexcept {
    if (empty()) return false;
    deliver_all(state_->head.exchange(nullptr, std::memory_order_acquire));
    return true;
}

// It counts itself only when it has seen that the mailbox is empty. A producer that comes between the two takes it out
// of the count before it is in: the number is one too low then for a moment.
bool mailbox::prepare_to_block(bool idle) noexcept {
    state_->sleeping.store(idle ? sleep::idle : sleep::yes, std::memory_order_seq_cst);
    if (state_->head.load(std::memory_order_seq_cst) == nullptr) {
        if (idle) add_idle_loop();
        return true;
    }
    if (state_->sleeping.exchange(sleep::no) == sleep::no && idle) add_idle_loop();  // a producer has taken it out
    return false;
}

void mailbox::awake() noexcept {
    // If a producer has set this, its node must be seen from here on: the loop's next look is at its mailbox.
    if (state_->sleeping.load(std::memory_order_acquire) == sleep::no) return;
    if (state_->sleeping.exchange(sleep::no) == sleep::idle) remove_idle_loop();
}

void mailbox::close() noexcept {
    mailbox_node* rest = state_->head.exchange(&state_->closed_mark, std::memory_order_acq_rel);
    if (rest != &state_->closed_mark) deliver_all(rest);
}

void mailbox::wake() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_fd_, &one, sizeof one);  // full: it was woken already
}

}  // namespace aio::inline v0::detail
