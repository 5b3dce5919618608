// Giving an item up that was delivered max_deliver times: it goes to the dead letters, and is acknowledged once it is
// stored there. See docs/internals/jetstream.md, "Dead letters".
//
// The dead-letter queue may take nothing: it was shut down or removed, it is full, or the servers refuse. Then the item
// stays in its queue and comes again after a pause, and that is told: to the exception handler of the loop, to the
// other processes, and to join() and get(), which would wait for ever.

#include "jetstream/queue_state.hpp"

#include <aio/errors.hpp>
#include <aio/event_loop.hpp>
#include <aio/sleep.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <optional>
#include <utility>

namespace aio::inline v0::detail {
namespace {

constexpr const char* letters_full = "is full";
constexpr std::chrono::seconds patience_while_full{5};
constexpr std::chrono::seconds first_pause{1};  // before an item that could not be buried comes again
constexpr int most_doublings = 4;

}  // namespace

/// Why a dead-letter queue takes nothing now, as the servers see it; empty if it seems to take items. Throws as
/// find_in_jetstream().
coro<std::string> nats_queue::what_bars(std::string letters) {
    const std::string stream = stream_name(letters, "jetstream::queue, dead_letters");
    const std::string said = co_await find_in_jetstream(client_, "STREAM.INFO." + stream);
    if (said.empty()) co_return "was removed";
    const json_view info = json_view::of(said), config = info["config"];
    if (letters == dead_letters_) adopt_dead_letters(config);
    if (config["subjects"].is_only("aio.queue." + stream + ".shut")) co_return "was shut down";
    if (!config["subjects"].is_only("aio.queue." + stream + ".items")) co_return "is no queue of aio any more";
    const auto most = config["max_msgs"].number(std::int64_t(-1));
    if (most > 0 && info["state"]["messages"].number(std::int64_t(0)) >= most) co_return letters_full;
    co_return std::string();
}

void nats_queue::adopt_dead_letters(json_view config) {
    dead_window_ = std::chrono::nanoseconds(config["duplicate_window"].number(dead_window_.count()));
}

/// Tries until the item is stored among the dead letters, and gives an empty text; or why they take nothing now. Throws
/// jetstream::error if the servers refuse it, timeout_error if they may have forgotten the identity under which it is
/// tried.
coro<std::string> nats_queue::send_dead_letter(const nats_item& item) {
    const std::string sequence = std::to_string(item.sequence);
    // A queue that was removed and made anew numbers its items from 1 again, so the time is a part of the identity.
    std::string block =
        "NATS/1.0\r\nNats-Msg-Id: dead-" + stream_ + "-" + sequence + "-" + std::to_string(item.stored_at);
    const std::string& id = item.item_id.empty() ? item.id : item.item_id;
    if (!id.empty()) block += "\r\nAio-Item: " + id;
    block += "\r\nAio-Queue: " + stream_ + "\r\nAio-Sequence: " + sequence +
        "\r\nAio-Deliveries: " + std::to_string(item.deliveries) + "\r\n\r\n";
    const std::chrono::nanoseconds most = dead_window_ / 8;  // so that some attempts fit into the window
    std::optional<time_point> first_failure;
    for (int unanswered = 0;;) {
        check_open();
        const time_point now = get_running_loop().time();
        if (first_failure && now - *first_failure > dead_window_ * 8 / 10) {
            throw timeout_error("no answer came for most of its duplicate_window");
        }
        const stored_reply r = co_await ask_to_store(item.data, block, dead_subject_, unanswered, most);
        first_failure = first_failure.value_or(now);
        switch (r.what) {
            case stored_reply::kind::stored:
            case stored_reply::kind::duplicate: co_return std::string();
            case stored_reply::kind::full: co_return letters_full;
            case stored_reply::kind::unknown: ++unanswered; continue;
            case stored_reply::kind::unavailable: break;
            case stored_reply::kind::nobody: {
                std::string bar;
                try {
                    bar = co_await what_bars(dead_letters_);
                } catch (const std::runtime_error&) {
                    // nobody can say: there may be an election
                }
                if (!bar.empty()) co_return bar;
                break;
            }
            default: throw jetstream::error(r.reason, r.status, r.code);
        }
        co_await sleep(std::chrono::milliseconds(20));
    }
}

/// The item cannot be buried now. It is given back, and comes again after a pause that grows with its deliveries.
/// refused: the servers have said this, and asking for the state of the dead-letter queue would not tell it.
void nats_queue::stays_unburied(nats_item& item, const std::string& why, bool refused) {
    const std::string text = sentence_of(
        "an item that was delivered " + std::to_string(item.deliveries) + " times stays", dead_letters_, why);
    const std::chrono::nanoseconds pause =
        first_pause * (1 << std::clamp(item.deliveries - options_.max_deliver, 0, most_doublings));
    give_back(item, std::max(pause.count(), nanoseconds_of(options_.retry_delay)));
    unburied_.letters = dead_letters_;
    unburied_.refused = refused ? why : std::string();
    unburied_.numbers.insert(item.sequence);
    client_->send(news_subject_, {}, {},
        "unburied " + std::to_string(item.sequence) + "\n" + dead_letters_ + "\n" + unburied_.refused);
    if (std::exchange(unburied_.told, true)) return;
    get_running_loop().call_exception_handler(
        {"jetstream: an item cannot go to the dead letters", std::make_exception_ptr(jetstream::error(text)), {}});
}

/// NUMBER\nLETTERS\nREFUSED: another process could not bury that item.
void nats_queue::heard_of_unburied(std::string_view words) {
    const std::uint64_t n = number_in(words);
    const std::size_t name = words.find('\n');
    const std::size_t reason = words.find('\n', name + 1);
    if (n == 0 || name == std::string_view::npos || reason == std::string_view::npos) return;
    unburied_.letters = words.substr(name + 1, reason - name - 1);
    unburied_.refused = words.substr(reason + 1);
    unburied_.numbers.insert(n);
}

/// The item is buried, here or elsewhere.
void nats_queue::was_buried(std::uint64_t sequence) noexcept {
    unburied_.numbers.erase(sequence);
    if (unburied_.numbers.empty()) unburied_.told = false;
}

/// Items with a number below that of the stream's first message are done.
void nats_queue::forget_unburied_before(std::uint64_t first) noexcept {
    unburied_.numbers.erase(unburied_.numbers.begin(), unburied_.numbers.lower_bound(first));
    if (unburied_.numbers.empty()) unburied_.told = false;
}

std::string nats_queue::sentence_of(
    const std::string& what_stays, const std::string& letters, const std::string& why) const {
    return "the queue " + name_ + ": " + what_stays + " in it: the dead-letter queue " + letters + " " + why;
}

/// Whether the items that are left wait for nothing but a dead-letter queue that takes nothing: a sentence, or empty. A
/// queue that is full may soon have room, so that counts after a while, in the course of which this is asked again.
coro<std::string> nats_queue::what_hinders(std::size_t left, std::optional<time_point>& full_since) {
    const std::size_t n = unburied_.numbers.size();
    std::string bar;
    if (left > 0 && left <= n) {
        bar = co_await what_bars(unburied_.letters);
        if (bar.empty()) bar = unburied_.refused;
    }
    const time_point now = get_running_loop().time();
    const bool full = bar == letters_full;
    if (!full) full_since.reset();
    if (full && !full_since) full_since = now;
    if (full && now - *full_since < patience_while_full) bar.clear();
    if (bar.empty()) co_return bar;
    co_return sentence_of(std::to_string(left) + (left == 1 ? " item stays" : " items stay"), unburied_.letters, bar);
}

/// Its identity at the dead letters is that of the item, so it goes there once, also if this process dies half-way.
coro<> nats_queue::bury(kept_item kept) {
    nats_queue& q = *kept.queue;
    const nats_item_ptr& item = kept.item;
    if (!q.dead_subject_.empty()) {
        std::string why;
        bool refused = false;
        try {
            try {
                why = co_await q.send_dead_letter(*item);
            } catch (const std::runtime_error& e) {  // timeout_error, jetstream::error
                why = std::string("does not take it: ") + e.what();
                refused = true;
            }
            if (!why.empty()) {
                if (q.open_ && !q.failure_) q.stays_unburied(*item, why, refused);
                co_return;
            }
        } catch (const std::exception&) {
            co_return;  // there is no memory, or the queue is left: it is given back, and buried when it comes again
        }
    }
    item->settled = true;
    q.arrivals_.done(item->id);
    ++q.numbers_.dead;
    q.client_->send(item->ack_subject, {}, {}, q.dead_subject_.empty() ? "+TERM" : "+ACK");
    q.acknowledged_.set();
    if (q.unburied_.numbers.count(item->sequence) == 0) co_return;
    q.was_buried(item->sequence);
    q.client_->send(q.news_subject_, {}, {}, "buried " + std::to_string(item->sequence));
}

}  // namespace aio::inline v0::detail
