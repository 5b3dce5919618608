// Getting from a queue, and ending an item: see queue_state.hpp.

#include "jetstream/queue_sinks.hpp"

#include <aio/errors.hpp>
#include <aio/sleep.hpp>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace aio::inline v0::detail {
namespace {

constexpr std::chrono::seconds pull_expires{30};
constexpr std::chrono::seconds pull_grace{5};
constexpr std::chrono::milliseconds between_questions{50};
constexpr const char* no_memory = "cannot be used: there is no memory left to ask for items";

/// Where an acknowledgement goes says which item it is: $JS.ACK.stream.consumer.deliveries.sequence.sequence of the
/// consumer.time.pending, and newer servers put two words in front of the stream, and one more at the end.
struct ack_words {
    int deliveries = 0;
    std::uint64_t sequence = 0;
    std::uint64_t stored_at = 0;
};
ack_words read_ack_subject(std::string_view subject) {
    std::array<std::string_view, 12> words;
    std::size_t count = 0;
    while (count < words.size()) {
        const std::size_t dot = subject.find('.');
        words[count++] = subject.substr(0, dot);
        if (dot == std::string_view::npos) break;
        subject.remove_prefix(dot + 1);
    }
    ack_words w;
    if (count < 9 || words[0] != "$JS" || words[1] != "ACK") return w;
    const std::size_t at = count > 9 ? 6 : 4;
    w.deliveries = static_cast<int>(number_in(words[at]));
    w.sequence = number_in(words[at + 1]);
    w.stored_at = number_in(words[at + 3]);
    // A consumer that was made anew is called workers-TIMES-LAST: what was stored until then may have been given
    // before.
    const std::string_view consumer = words[at - 1];
    const std::size_t dash = consumer.rfind('-');
    if (dash != std::string_view::npos && w.sequence <= number_in(consumer.substr(dash + 1))) ++w.deliveries;
    return w;
}

}  // namespace

// ---- items ----

nats_item::nats_item(nats_queue& q, const nats_incoming& m)
    : queue(&q),
      data(m.data),
      ack_subject(m.reply_to),
      id(id_in(m.headers)),
      item_id(header_in(m.headers, "Aio-Item")),
      another(!header_in(m.headers, "Aio-Id").empty()),
      came(get_running_loop().time()) {
    const ack_words words = read_ack_subject(m.reply_to);
    if (q.doubted_.first(id, q.duplicate_window_) > 0) another = true;
    deliveries = std::max(words.deliveries, 1);
    sequence = words.sequence;
    stored_at = words.stored_at;
    forgotten = words.deliveries == 1 && sequence <= q.given_;
    q.given_ = std::max(q.given_, sequence);
    at = q.items_.insert(q.items_.end(), this);
}

std::string id_in(std::string_view headers) {
    const std::string_view id = header_in(headers, "Aio-Id");
    return std::string(id.empty() ? header_in(headers, "Nats-Msg-Id") : id);
}

nats_item::~nats_item() {
    queue->give_back(*this, nanoseconds_of(queue->options_.retry_delay));
    queue->items_.erase(at);
}

void nats_queue::give_back(nats_item& item, std::int64_t rest) noexcept {
    if (std::exchange(item.settled, true)) return;
    ++numbers_.given_back;
    try {
        const std::string text = rest > 0 ? "-NAK {\"delay\": " + std::to_string(rest) + "}" : std::string("-NAK");
        client_->send(item.ack_subject, {}, {}, text);
    } catch (const std::bad_alloc&) {
        // then the servers give it to somebody else after ack_wait
    }
}

/// Gives the item back, or up if it has been delivered often enough.
void nats_queue::give_up_or_back(nats_item_ptr item) noexcept {
    if (options_.max_deliver == 0 || item->deliveries < options_.max_deliver || !open_) return;
    try {
        item->held = true;
        create_task(bury(kept_item(shared_from_this(), std::move(item))), {.name = "jetstream::queue buries"})
            .detail_state()
            ->set_internal();
    } catch (...) {
        // it has been given back, and comes again
    }
}

// ---- asking for items ----

/// Asks for as many items as tasks wait for, and prefetch more. The question is sent at the loop's next turn, for all
/// that have come by then.
void nats_queue::demand() {
    const std::size_t target = wanting_ + options_.prefetch;
    if (pull_soon_ || !open_ || target <= ready_.size() + asked_ + options_.prefetch / 2) return;
    const auto ask = [weak = weak_from_this()] {
        const std::shared_ptr<nats_queue> self = weak.lock();
        if (!self) return;
        self->pull_soon_ = false;
        try {
            self->pull_now();
        } catch (const std::bad_alloc&) { self->demand_later(between_questions); }
    };
    if (listen_until_ > get_running_loop().time()) {
        get_running_loop().call_at(listen_until_, ask);
    } else {
        get_running_loop().call_soon(ask);
    }
    pull_soon_ = true;
}

/// Asks again after a pause. Without the memory for that nobody would ask for the tasks that wait, so they are told.
void nats_queue::demand_later(std::chrono::milliseconds pause) noexcept {
    try {
        get_running_loop().call_later(pause, [weak = weak_from_this()] {
            const std::shared_ptr<nats_queue> self = weak.lock();
            if (!self) return;
            try {
                self->demand();
            } catch (const std::bad_alloc&) { self->fail(no_memory); }
        });
    } catch (const std::bad_alloc&) { fail(no_memory); }
}

void nats_queue::pull_now() {
    const std::size_t target = wanting_ + options_.prefetch;
    const std::size_t here = ready_.size() + asked_;
    const auto slot = std::find_if(pulls_.begin(), pulls_.end(), [](const pull& p) { return p.left == 0; });
    if (!open_ || target <= here || slot == pulls_.end()) return;
    if (client_->status() != jetstream::connection_status::connected) return;  // reconnected() comes
    const std::size_t n = target - here;
    arm();
    const std::string question = "{\"batch\":" + std::to_string(n) +
        ",\"expires\":" + std::to_string(std::chrono::nanoseconds(pull_expires).count()) + "}";
    const std::uint64_t number = ++last_question_;
    client_->send("$JS.API.CONSUMER.MSG.NEXT." + consumer_path(), slot->sink->subject_of(number), {}, question);
    slot->question = number;
    slot->left = n;
    slot->until = get_running_loop().time() + pull_expires + pull_grace;
    asked_ += n;
}

void nats_queue::pull_ended(std::size_t slot) noexcept { asked_ -= std::exchange(pulls_[slot].left, 0); }

/// No question is under way any more: the one who had them does not know them.
void nats_queue::forget_pulls() noexcept {
    for (std::size_t slot = 0; slot < pulls_.size(); ++slot) pull_ended(slot);
}

bool nats_queue::pulls() const noexcept {
    return std::any_of(pulls_.begin(), pulls_.end(), [](const pull& p) { return p.left > 0; });
}

void nats_queue::delivered(std::size_t slot, const nats_incoming& m) {
    const int status = status_of_server(m).code;
    if (status == 0) {
        if (pulls_[slot].left > 0) {
            --pulls_[slot].left;
            --asked_;
        }
        took(m);
        return;
    }
    // A refusal of an earlier question, which comes late, does not end the one that is under way now.
    if (m.subject != pulls_[slot].sink->subject_of(pulls_[slot].question)) return;
    switch (status) {
        case 100: break;  // a sign of life
        case 404:
        case 408:
            pull_ended(slot);
            demand();
            look_soon();  // the message of a shutdown may be lost, so a get() that waits for long asks itself
            break;
        default:  // no leader, a leader that changes, a consumer that was deleted, too many that wait
            pull_ended(slot);
            demand_later(between_questions + std::chrono::milliseconds(random_below(100)));
            look_soon();
            check_soon();
    }
}

/// Looks whether the queue is shut down or gone, beside everything else.
void nats_queue::look_soon() {
    if (looking_ || !open_) return;
    task<> t = create_task(look_once(shared_from_this()), {.name = "jetstream::queue looks"});
    t.detail_state()->set_internal();
    looking_ = true;
}

coro<> nats_queue::look_once(std::shared_ptr<nats_queue> self) {
    struct at_end {
        bool& looking;
        ~at_end() { looking = false; }
    } ending{self->looking_};
    try {
        co_await self->look();
    } catch (const std::logic_error&) {
        // the connection was closed meanwhile
    }
}

void nats_queue::took(const nats_incoming& m) {
    if (m.reply_to.empty()) return;
    auto item = std::make_unique<nats_item>(*this, m);
    ++numbers_.received;
    if (item->deliveries > 1) ++numbers_.redelivered;
    arm();
    if (refusals_harm() && (item->another || hides_another(*item))) {
        create_task(compare(kept_item(shared_from_this(), std::move(item))), {.name = "jetstream::queue compares"})
            .detail_state()
            ->set_internal();
        return;
    }
    offer(std::move(item));
}

void nats_queue::offer(nats_item_ptr item) {
    if (refusals_harm()) arrivals_.add(item->id, item->sequence);
    if (options_.max_deliver > 0 && item->deliveries > options_.max_deliver) {
        give_up_or_back(std::move(item));
        demand();  // the task that has waited for it goes on waiting
    } else if (!ready_.statistics().shut_down) {
        ready_.put_nowait(std::move(item));
    }
}

void nats_queue::reconnected() noexcept {
    forget_pulls();
    numbers_may_be_doubled();
    try {
        ask_what_was_given();  // an election may have been missed
        demand();
        look_soon();  // what others have said meanwhile was not heard
        check_soon();
    } catch (const std::bad_alloc&) { demand_later(between_questions); }
}

void nats_queue::client_closed() noexcept { fail("cannot be used, because its connection is closed"); }

// ---- tasks ----

nats_queue::holder& nats_queue::holder_of_this_task(bool make) {
    static holder nothing;
    const any_task self = current_task();
    if (!self) throw_logic_error("a jetstream::queue is used in a task");
    task_base* const key = self.detail_state();
    const auto found = holders_.find(key);
    if (found != holders_.end()) return found->second;
    if (!make) return nothing;
    any_task(self).add_done_callback([weak = weak_from_this(), key] {
        if (const std::shared_ptr<nats_queue> queue = weak.lock()) queue->task_ended(key);
    });
    return holders_[key];
}

nats_queue::holder& nats_queue::holder_with_item(const char* what) {
    holder& h = holder_of_this_task(false);
    if (h.items.empty()) {
        throw std::invalid_argument(
            std::string("jetstream::queue::") + what + ": this task has got nothing that is not acknowledged");
    }
    return h;
}

void nats_queue::task_ended(task_base* task) noexcept {
    const auto found = holders_.find(task);
    if (found == holders_.end()) return;
    const auto ended = holders_.extract(found);  // to move the deque out would take memory
    for (nats_item_ptr& item : ended.mapped().items) give_up_or_back(std::move(item));
}

coro<std::string> nats_queue::get() {
    check_open();
    holder& mine = holder_of_this_task(true);
    nats_item_ptr item;
    {
        struct waits {
            nats_queue& q;
            holder& h;
            waits(nats_queue& queue_, holder& mine_) noexcept : q(queue_), h(mine_) {
                ++q.wanting_;
                ++h.getting;
            }
            waits(const waits&) = delete;
            waits& operator=(const waits&) = delete;
            ~waits() {
                --q.wanting_;
                --h.getting;
            }
        } const waiting(*this, mine);
        demand();
        try {
            item = co_await ready_.get();
        } catch (const queue_shut_down&) {
            if (!shut_) check_open();
            if (!stuck_.empty()) throw jetstream::error(stuck_);
            throw;
        }
    }
    item->held = true;
    // What may have to go to the dead letters is kept.
    std::string data = options_.max_deliver > 0 ? item->data : std::move(item->data);
    mine.items.push_back(std::move(item));
    demand();
    co_return data;
}

std::string nats_queue::task_done() {
    holder& mine = holder_with_item("task_done");
    nats_item& item = *mine.items.front();
    client_->send(item.ack_subject, {}, {}, "+ACK");
    item.settled = true;
    arrivals_.done(item.id);
    std::string subject = std::move(item.ack_subject);
    mine.items.pop_front();
    ++numbers_.acknowledged;
    acknowledged_.set();
    return subject;
}

/// Acknowledges once more, and waits until the servers say that they have it.
coro<> nats_queue::confirm(std::string subject) {
    const time_point last = get_running_loop().time() + ack_wait_;
    for (;;) {
        if (!client_->is_ready()) co_await client_->ready();
        {
            nats_answer answer(*client_, std::chrono::seconds(1));  // while there is no leader nobody answers
            client_->send(subject, answer.inbox(), {}, "+ACK");
            const nats_reply reply = co_await answer;
            if (reply.what == nats_reply::kind::answered && reply.status == 0) co_return;
            if (reply.what == nats_reply::kind::closed) client_->check_open();
        }
        if (get_running_loop().time() >= last) {
            throw timeout_error("jetstream: task_done of the queue " + name_ + ": no server has said that it knows");
        }
        co_await sleep(std::chrono::milliseconds(20));
    }
}

void nats_queue::retry_later(delay d) {
    holder& mine = holder_with_item("retry_later");
    const nats_item_ptr item = std::move(mine.items.front());
    mine.items.pop_front();
    give_back(*item, std::max(std::int64_t(0), nanoseconds_of(d)));
}

int nats_queue::delivery() {
    const nats_item& item = *holder_with_item("delivery").items.front();
    return item.deliveries + (item.another || item.forgotten ? 1 : 0);
}
const std::string& nats_queue::id() {
    const nats_item& item = *holder_with_item("id").items.front();
    return item.item_id.empty() ? item.id : item.item_id;
}

// ---- keeping items ----

/// A timer runs while something is here, or is asked for.
void nats_queue::arm() {
    if (armed_ || !open_) return;
    const auto pause = std::clamp(ack_wait_ / 3, std::chrono::nanoseconds(std::chrono::milliseconds(3)),
        std::chrono::nanoseconds(std::chrono::seconds(10)));
    timer_ = get_running_loop().call_later(pause, [weak = weak_from_this()] {
        const std::shared_ptr<nats_queue> self = weak.lock();
        if (!self) return;
        self->armed_ = false;
        try {
            self->keep_alive();
        } catch (const std::bad_alloc&) { self->demand_later(between_questions); }
    });
    armed_ = true;
}

/// Tells the servers that the items here are being worked on. What has waited for ack_wait without a task that takes it
/// goes to others. A pull that the servers have forgotten is forgotten here, too.
void nats_queue::keep_alive() {
    if (!open_) return;
    if (!items_.empty() || pulls()) arm();
    const time_point now = get_running_loop().time();
    std::size_t stale = 0;
    for (const nats_item* item : items_) {
        if (!item->held && now - item->came >= ack_wait_) ++stale;
    }
    for (; stale > 0 && !ready_.empty(); --stale) static_cast<void>(ready_.get_nowait());  // the oldest first
    const bool connected = client_->status() == jetstream::connection_status::connected;
    for (const nats_item* item : items_) {  // without a connection they would pile up
        if (!item->settled && connected) client_->send(item->ack_subject, {}, {}, "+WPI");
    }
    for (std::size_t slot = 0; slot < pulls_.size(); ++slot) {
        if (pulls_[slot].left == 0 || pulls_[slot].until > now) continue;
        pull_ended(slot);
        look_soon();
    }
    if (shut_) was_shut();  // when it was heard there was no memory for a task
    if (wanting_ > 0 && now - checked_ >= std::chrono::seconds(1)) {  // tasks wait: is there nothing for them?
        checked_ = now;
        check_soon();
    }
    demand();
}

jetstream::queue_statistics nats_queue::statistics() const noexcept {
    jetstream::queue_statistics s = numbers_;
    s.ready = ready_.size();
    for (const nats_item* item : items_) s.held += item->held ? 1 : 0;
    s.tasks_getting = wanting_;
    s.tasks_putting = putting_;
    s.unburied = unburied_.numbers.size();
    s.shut_down = shut_;
    return s;
}

}  // namespace aio::inline v0::detail
