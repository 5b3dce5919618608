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

/// Sends the item once, and gives what the servers have said. most: how long it waits for that at most.
coro<stored_reply> nats_queue::ask_to_store(const std::string& data, const std::string& block,
    const std::string& subject, int tries, std::chrono::nanoseconds most) {
    if (!client_->is_ready()) co_await client_->ready();
    client_->check_size(block.size(), data.size());
    delay limit = client_->settings().numbers.request_timeout;
    const std::chrono::nanoseconds wanted =
        std::min<std::chrono::nanoseconds>(first_limit * (1 << std::min(tries, 10)), most);
    if (!limit.has_value() || wanted < limit.value()) limit = wanted;
    nats_answer answer(*client_, limit, true);
    client_->send(subject, answer.inbox(), block, data);
    const nats_reply reply = co_await answer;
    if (reply.what == nats_reply::kind::closed) client_->check_open();
    stored_reply said = stored_reply_of(reply);
    if (said.what == stored_reply::kind::duplicate) ++numbers_.duplicates;
    if (said.what == stored_reply::kind::unknown) ++numbers_.put_retries;
    co_return said;
}

/// Sends the item once, and says what became of it.
coro<nats_queue::judged> nats_queue::attempt(const std::string& data, const std::string& block, int tries) {
    const stored_reply r = co_await ask_to_store(data, block, subject_, tries, duplicate_window_);
    switch (r.what) {
        case stored_reply::kind::duplicate: ++numbers_.put; co_return judged::stored;
        case stored_reply::kind::stored:
            ++numbers_.put;
            tell_number(block, r.sequence);
            co_return judged::stored;
        case stored_reply::kind::full: co_return judged::full;
        case stored_reply::kind::nobody:
            co_await look();
            if (shut_) co_return judged::shut;
            check_open();
            break;
        case stored_reply::kind::unknown:
            numbers_may_be_doubled();  // the server that has not answered may not lead any more
            co_return judged::again;
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

/// A put, over all its attempts.
struct nats_queue::whole_put {
    const std::string &data, &block;
    bool again;  // it may have been put by a program that has died
    place_in_line line;
    std::chrono::milliseconds pause{1};            // while there is no room
    std::optional<time_point> first_unknown = {};  // when the first attempt began whose answer did not come
    int unanswered = 0;
    bool full = false;  // there was no room for the last attempt
    std::vector<std::string> others =
        {};  // the headers of further messages that were sent for the item: queue_again.cpp

    bool in_doubt() const noexcept { return first_unknown || again; }
    const std::string& last_block() const noexcept { return others.empty() ? block : others.back(); }
};

/// The queue was shut down: true if the item is stored, false if somebody has to be asked again. Throws queue_shut_down
/// if it is not stored.
coro<bool> nats_queue::stored_before_the_end(whole_put& p) {
    if (!p.first_unknown) throw queue_shut_down();
    const stored_reply before = co_await ask_whether_stored(p.last_block());
    if (before.what == stored_reply::kind::duplicate) co_return true;
    if (before.code != wrong_last_id) {
        co_await sleep(std::chrono::milliseconds(20));
    } else if (p.others.empty()) {
        throw queue_shut_down();
    } else {
        p.others.pop_back();
    }
    co_return false;
}

/// Sees to it that the servers will not refuse what is sent next. Says if the item is stored already, or if this has to
/// be done again.
coro<nats_queue::asked_first> nats_queue::ask_before_sending(whole_put& p, time_point now) {
    if (p.in_doubt()) {
        const time_point since = p.again ? now - duplicate_window_ : *p.first_unknown;
        const std::optional<bool> stored = co_await known_to_be_stored(p.block, since);
        if (!stored) co_return asked_first::ask_again;
        if (*stored) {
            ++numbers_.known;
            ++numbers_.put;
            co_return asked_first::stored;
        }
    }
    if (p.line.first) {
        std::string question = info_subject(), nothing;
        const std::string said = co_await ask_the_leader(std::move(question), std::move(nothing), p.in_doubt());
        if (said.empty()) co_return asked_first::ask_again;
        if (is_full(json_view::of(said))) {
            co_await wait_for_room(p.pause);
            co_return asked_first::ask_again;
        }
    }
    if (p.in_doubt()) p.others.push_back(block_of_another(p.block));
    co_return asked_first::may_send;
}

/// Throws if the servers may have forgotten the identity under which the item is tried.
void nats_queue::check_window(const whole_put& p, time_point now) const {
    if (!p.first_unknown || now - *p.first_unknown <= duplicate_window_ * 8 / 10) return;
    throw timeout_error("jetstream: put into the queue " + name_ +
        ": no answer came for most of the duplicate_window: the item may be stored, or not");
}

/// Tries until the item is stored. While the queue is full, the tasks of this process line up, and the first one asks.
coro<> nats_queue::put_until_stored(const std::string& data, const std::string& block, bool again) {
    whole_put p{data, block, again, place_in_line(full_)};
    for (;;) {
        check_open();
        const time_point now = get_running_loop().time();
        check_window(p, now);
        if (shut_) {
            const bool stored = co_await stored_before_the_end(p);
            if (stored) co_return;
            continue;
        }
        if (has_to_line_up(p)) {
            co_await full_.acquire();
            p.line.first = true;
            continue;
        }
        if (!p.first_unknown) co_await nats_cancel_point();
        if (refusals_harm()) {
            const asked_first asked = co_await ask_before_sending(p, now);
            if (asked == asked_first::stored) co_return;
            if (asked == asked_first::ask_again) continue;
        }
        const judged j = co_await attempt(data, p.last_block(), p.unanswered);
        if (j == judged::stored) co_return;
        co_await note_failure(p, j, now);
    }
}

bool nats_queue::has_to_line_up(const whole_put& p) const noexcept {
    return !p.line.first && (p.full || full_.locked() || (was_full_ && refusals_harm()));
}

/// An attempt that began then has not stored the item.
coro<> nats_queue::note_failure(whole_put& p, judged outcome, time_point began) {
    p.full = outcome == judged::full;
    if (outcome == judged::again) {
        p.first_unknown = p.first_unknown.value_or(began);
        ++p.unanswered;
    } else if (p.full) {
        was_full_ = true;
        if (p.line.first) co_await wait_for_room(p.pause);
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
    co_await put_until_stored(data, block, again);
}

}  // namespace aio::inline v0::detail
