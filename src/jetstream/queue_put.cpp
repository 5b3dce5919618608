// Putting into a queue: see queue_state.hpp.
//
// Each item has an identity, Nats-Msg-Id, that stays the same over all attempts: the servers store it once within their
// duplicate_window. So an attempt whose answer is lost is made again.
//
// A queue with replicas asks first whether the item is stored, or whether there is room: queue_again.cpp.

#include "jetstream/queue_state.hpp"

#include <aio/errors.hpp>
#include <aio/sleep.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <optional>
#include <vector>

namespace aio::inline v0::detail {
namespace {

struct counted_in {
    std::size_t& count;
    explicit counted_in(std::size_t& c) noexcept : count(c) { ++count; }
    counted_in(const counted_in&) = delete;
    counted_in& operator=(const counted_in&) = delete;
    ~counted_in() { --count; }
};

/// Of the tasks that wait for room, the first one has this.
struct place_in_line {
    lock& l;
    bool first = false;
    explicit place_in_line(lock& line) noexcept : l(line) {}
    place_in_line(const place_in_line&) = delete;
    place_in_line& operator=(const place_in_line&) = delete;
    ~place_in_line() {
        if (first) l.release();
    }
};

constexpr int wrong_last_id = 10070;                    // the server's number for "wrong last msg ID"
constexpr std::chrono::milliseconds first_limit{1000};  // for an answer; twice as long each time it does not come

}  // namespace

/// Sends the item once, and says what became of it.
coro<nats_queue::judged> nats_queue::attempt(
    const std::string& data, const std::string& block, const std::string& subject, int tries) {
    if (!client_->is_ready()) co_await client_->ready();
    client_->check_size(block.size(), data.size());
    delay limit = client_->settings().numbers.request_timeout;
    const std::chrono::nanoseconds wanted(first_limit * (1 << std::min(tries, 10)));
    if (!limit.has_value() || wanted < limit.value()) limit = wanted;
    stored_reply r;
    {
        nats_answer answer(*client_, limit, true);
        client_->send(subject, answer.inbox(), block, data);
        const nats_reply reply = co_await answer;
        if (reply.what == nats_reply::kind::closed) client_->check_open();
        r = stored_reply_of(reply);
    }
    switch (r.what) {
        case stored_reply::kind::duplicate: ++numbers_.duplicates; [[fallthrough]];
        case stored_reply::kind::stored: ++numbers_.put; co_return judged::stored;
        case stored_reply::kind::full: co_return judged::full;
        case stored_reply::kind::nobody:
            if (&subject == &subject_) co_await look();
            if (&subject == &subject_ && shut_) co_return judged::shut;
            check_open();
            break;
        case stored_reply::kind::unknown: ++numbers_.put_retries; co_return judged::again;
        case stored_reply::kind::unavailable: break;
        default: throw jetstream::error("put into the queue " + name_ + ": " + r.reason, r.status, r.code);
    }
    co_await sleep(std::chrono::milliseconds(20));
    co_return judged::again;
}

/// The queue was shut down after an attempt whose answer did not come. The servers know the identities of what was put,
/// and are asked by another attempt, which a condition that cannot be met keeps from being stored.
coro<stored_reply> nats_queue::ask_whether_stored(const std::string& block) {
    if (!client_->is_ready()) co_await client_->ready();
    const std::string never = block.substr(0, block.size() - 2) + "Nats-Expected-Last-Msg-Id: none\r\n\r\n";
    nats_answer answer(*client_, first_limit, true);
    client_->send(shut_subject_, answer.inbox(), never, {});
    const nats_reply reply = co_await answer;
    if (reply.what == nats_reply::kind::closed) client_->check_open();
    stored_reply said = stored_reply_of(reply);
    if (said.what == stored_reply::kind::duplicate) {
        ++numbers_.duplicates;
        ++numbers_.put;
    }
    co_return said;
}

/// Tries until the item is stored. While the queue is full, the tasks of this process line up, and the first one asks.
coro<> nats_queue::put_until_stored(
    const std::string& data, const std::string& block, const std::string& subject, bool again) {
    place_in_line line(full_);
    const bool own = &subject == &subject_;
    std::chrono::milliseconds pause{1};
    std::optional<time_point> first_unknown;  // when the first attempt began whose answer did not come
    int unanswered = 0;
    std::vector<std::string> others;  // the headers of further messages that were sent for the item: queue_again.cpp
    for (;;) {
        check_open();
        const time_point now = get_running_loop().time();
        if (first_unknown && now - *first_unknown > duplicate_window_ * 8 / 10) {
            throw timeout_error("jetstream: put into the queue " + name_ +
                ": no answer came for most of the duplicate_window: the item may be stored, or not");
        }
        if (own && shut_) {
            if (!first_unknown) throw queue_shut_down();
            const std::string& last = others.empty() ? block : others.back();
            const stored_reply before = co_await ask_whether_stored(last);
            if (before.what == stored_reply::kind::duplicate) co_return;
            if (before.code != wrong_last_id) {
                co_await sleep(std::chrono::milliseconds(20));
                continue;
            }
            if (others.empty()) throw queue_shut_down();
            others.pop_back();
            continue;
        }
        if (own && !line.first && (full_.locked() || (was_full_ && refusals_harm()))) {
            co_await full_.acquire();
            line.first = true;
            continue;
        }
        if (!first_unknown) co_await nats_cancel_point();
        const bool in_doubt = first_unknown || again;
        if (own && refusals_harm() && in_doubt) {
            const time_point since = again ? now - duplicate_window_ : *first_unknown;
            const std::optional<bool> stored = co_await known_to_be_stored(block, since);
            if (!stored) continue;
            if (*stored) {
                ++numbers_.known;
                ++numbers_.put;
                co_return;
            }
        }
        if (own && refusals_harm() && line.first) {
            std::string question = info_subject(), nothing;
            const std::string said = co_await ask_the_leader(std::move(question), std::move(nothing), in_doubt);
            if (said.empty()) continue;
            if (is_full(json_view::of(said))) {
                co_await wait_for_room(pause);
                continue;
            }
        }
        if (own && refusals_harm() && in_doubt) others.push_back(block_of_another(block));
        const std::string& last = others.empty() ? block : others.back();
        const judged j = co_await attempt(data, last, subject, unanswered);
        if (j == judged::stored) co_return;
        if (j == judged::shut) continue;
        if (j == judged::again) {
            if (!first_unknown) first_unknown = now;
            ++unanswered;
            continue;
        }
        was_full_ = was_full_ || own;
        if (own && !line.first) {
            co_await full_.acquire();
            line.first = true;
            continue;
        }
        co_await wait_for_room(pause);
    }
}

/// Waits until this process has acknowledged something, or for a while.
coro<> nats_queue::wait_for_room(std::chrono::milliseconds& pause) {
    acknowledged_.clear();
    try {
        co_await wait_for(acknowledged_.wait(), pause);
        pause = std::chrono::milliseconds(1);
    } catch (const timeout_error&) { pause = std::min(pause * 2, std::chrono::milliseconds(50)); }
}

coro<> nats_queue::put(std::string data, std::string id, bool again) {
    check_open();
    if (shut_) throw queue_shut_down();
    const counted_in putting(putting_);
    if (id.empty()) id = client_->unique() + "-" + std::to_string(client_->next_number());
    const std::string block = "NATS/1.0\r\nNats-Msg-Id: " + id + "\r\n\r\n";
    co_await put_until_stored(data, block, subject_, again);
}

/// Gives an item up: it goes to the dead letters, and is acknowledged once it is stored there. Its identity is that of
/// the item, so it goes there once, also if this process dies half-way.
coro<> nats_queue::bury(std::shared_ptr<nats_queue> self, std::shared_ptr<nats_item> item) {
    nats_queue& q = *self;
    if (!q.dead_subject_.empty()) {
        const std::string block = "NATS/1.0\r\nNats-Msg-Id: dead-" + q.stream_ + "-" + std::to_string(item->sequence) +
            "\r\nAio-Queue: " + q.stream_ + "\r\nAio-Sequence: " + std::to_string(item->sequence) +
            "\r\nAio-Deliveries: " + std::to_string(item->deliveries) + "\r\n\r\n";
        try {
            co_await q.put_until_stored(item->data, block, q.dead_subject_);
        } catch (const std::exception&) {
            co_return;  // it is given back, and buried when it comes again
        }
        --q.numbers_.put;
    }
    item->settled = true;
    ++q.numbers_.dead;
    q.client_->send(item->ack_subject, {}, {}, q.dead_subject_.empty() ? "+TERM" : "+ACK");
    q.acknowledged_.set();
}

}  // namespace aio::inline v0::detail
