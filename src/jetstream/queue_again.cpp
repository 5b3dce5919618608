// How a queue with replicas gives a server nothing to refuse: see docs/internals/jetstream.md.
//
// Before 2.10 nats-server decides at each copy of the stream whether a message is refused: because its identity is
// known or because there is no room. A server that was killed knows fewer identities, and skips other messages when it
// replays its log. Then the copies have other numbers for the same items, and items are lost (nats-server's change
// 4365). So a put that is in doubt asks first, the leader and the processes that get items. If nobody knows the item it
// is sent in another message, which no server refuses; and who gets two messages for an item drops the second.

#include "jetstream/queue_state.hpp"

#include <aio/sleep.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <charconv>

namespace aio::inline v0::detail {
namespace {

constexpr std::chrono::milliseconds leader_limit{1000};
constexpr std::chrono::milliseconds others_limit{250};  // for an answer of another process, which may never come
constexpr int questions = 2;                            // to the others: one of them may just be connecting

}  // namespace

bool nats_queue::refusals_harm() const noexcept { return replicated_ && client_->server_version() < std::pair(2, 10); }

/// What the stream's leader answers, a JSON object; empty if there is none. Completes soon.
coro<std::string> nats_queue::ask_the_leader(std::string what, std::string body, bool must_know) {
    if (!client_->is_ready()) co_await client_->ready();
    std::string said;
    {
        nats_answer answer(*client_, leader_limit, must_know);
        client_->send("$JS.API." + what, answer.inbox(), {}, body);
        nats_reply reply = co_await answer;
        if (reply.what == nats_reply::kind::closed) client_->check_open();
        if (reply.what == nats_reply::kind::answered) said = std::move(reply.data);
    }
    const json_view object = json_view::of(said);
    const bool there = object.is_object() && object["error"]["code"].number(0) != 503;
    if (there) co_return said;
    co_await sleep(std::chrono::milliseconds(20));
    co_return std::string();
}

/// A barrier: asks the leader to delete message 0, which does not exist. It answers once a majority has stored that
/// request, and all that came before it. Gives its answer; empty if nobody answers, as ask_the_leader() does.
coro<std::string> nats_queue::ask_a_majority() {
    std::string question = "STREAM.MSG.DELETE." + stream_;
    std::string none = R"({"seq":0,"no_erase":true})";
    co_return co_await ask_the_leader(std::move(question), std::move(none), true);
}

/// The headers and the data of the message that a majority of the servers has under that number; of a message that they
/// do not have, they are empty. A leader that was cut off may have another one.
coro<nats_queue::stored_message> nats_queue::stored_under(std::uint64_t number) {
    for (;;) {
        check_open();
        std::string said = co_await ask_a_majority();
        if (said.empty()) continue;
        std::string question = "STREAM.MSG.GET." + stream_;
        std::string body = json_writer().add("seq", number).text();
        said = co_await ask_the_leader(std::move(question), std::move(body), true);
        if (said.empty()) continue;
        const json_view message = json_view::of(said)["message"];
        co_return stored_message{from_base64(message["hdrs"].string()), from_base64(message["data"].string())};
    }
}

/// Whether an item whose put is in doubt is known to be stored; nothing while nobody can say. What this process sent
/// before has reached the leader by then, or never will, unless it is held up in a server that stands still.
coro<std::optional<bool>> nats_queue::known_to_be_stored(const std::string& block, time_point since) {
    const std::string id = id_in(block);
    const std::string said = co_await ask_a_majority();
    if (said.empty()) co_return std::nullopt;
    for (int i = 0; i < questions; ++i) {
        const std::uint64_t first = co_await first_known(id, get_running_loop().time() - since + others_limit);
        if (first > 0) co_return true;
    }
    co_return false;
}

/// Whether the queue is full, by what the leader has said of its stream. Notes when it has become half empty.
bool nats_queue::is_full(json_view stream_info) {
    const auto items = stream_info["state"]["messages"].number(std::uint64_t(0));
    if (items <= maxsize_ / 2) was_full_ = false;
    return maxsize_ > 0 && items >= maxsize_;
}

/// Asks all processes, this one included, for an item that somebody has got within the time `age`. Gives the number of
/// the first message under that identity that the one has got who answers; 0 if nobody answers. held: it is not done.
coro<std::uint64_t> nats_queue::first_got(const std::string& id, std::chrono::nanoseconds age, bool& held) {
    if (!client_->is_ready()) co_await client_->ready();
    nats_answer answer(*client_, others_limit, true);
    const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(age).count();
    client_->send(news_subject_, answer.inbox(), {}, "asked " + std::to_string(milliseconds) + " " + id);
    const nats_reply reply = co_await answer;
    if (reply.what == nats_reply::kind::closed) client_->check_open();
    std::uint64_t first = 0;
    if (reply.what == nats_reply::kind::answered && reply.status == 0) {
        std::from_chars(reply.data.data(), reply.data.data() + reply.data.size(), first);
    }
    held = reply.data.ends_with(" held");
    co_return first;
}

/// The same, but only of a message that nobody can lose any more: it is done, or a majority of the servers has it. Who
/// has got it but not done it may have it from a leader that was cut off, and that has stored it alone.
coro<std::uint64_t> nats_queue::first_known(const std::string& id, std::chrono::nanoseconds age) {
    for (int tries = 0; tries < 2; ++tries) {
        bool held = false;
        const std::uint64_t first = co_await first_got(id, age, held);
        if (first == 0 || !held) co_return first;
        const stored_message there = co_await stored_under(first);
        if (id_in(there.headers) == id) co_return first;
        // it is not stored, or it was done meanwhile
    }
    co_return 0;
}

/// Another process asks.
void nats_queue::asked(const nats_incoming& m) {
    const std::string_view words = m.data.substr(m.data.find(' ') + 1);
    std::int64_t milliseconds = 0;
    const auto [end, error] = std::from_chars(words.data(), words.data() + words.size(), milliseconds);
    if (m.reply_to.empty() || error != std::errc() || end == words.data() + words.size()) return;
    const std::string id(words.substr(static_cast<std::size_t>(end - words.data()) + 1));
    const std::uint64_t first = arrivals_.first(id, std::chrono::milliseconds(milliseconds));
    if (first > 0) client_->send(m.reply_to, {}, {}, std::to_string(first) + (arrivals_.is_done(id) ? "" : " held"));
}

/// The headers of another message for an item whose put is in doubt, under an identity of its own: no server refuses
/// it. All processes are told that there may be two messages for the item.
std::string nats_queue::block_of_another(const std::string& block) {
    const std::string id = id_in(block);
    client_->send(news_subject_, {}, {}, "doubted " + id);
    return "NATS/1.0\r\nNats-Msg-Id: " + client_->unique() + "-" + std::to_string(client_->next_number()) +
        "\r\nAio-Id: " + id + "\r\n\r\n";
}

/// Drops an item if an earlier message for it is done, or somebody has it and it is stored; else a task may have it.
/// A message with a lesser number is never dropped because of one with a greater number: so one of them is kept.
coro<> nats_queue::compare(kept_item kept) {
    nats_queue* const self = kept.queue.get();
    nats_item_ptr& item = kept.item;
    item->held = true;
    try {
        if (self->hides_another(*item)) co_await self->keep_hidden(item->sequence, item->id);
        std::uint64_t first = self->arrivals_.first(item->id, self->duplicate_window_);
        if (first == 0 || first >= item->sequence || !self->arrivals_.is_done(item->id)) {
            first = co_await self->first_known(item->id, self->duplicate_window_);
        }
        if (first > 0 && first < item->sequence) {
            self->client_->send(item->ack_subject, {}, {}, "+ACK");
            item->settled = true;
            ++self->numbers_.dropped;
            self->acknowledged_.set();
            self->demand_later(std::chrono::milliseconds(0));  // the task that has waited for it goes on waiting
            co_return;
        }
    } catch (const std::exception&) {
        // nobody can say: a task gets it, marked
    }
    item->held = false;
    if (self->open_) self->offer(std::move(item));
}

}  // namespace aio::inline v0::detail
