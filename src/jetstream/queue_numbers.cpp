// Two items under one number: see docs/internals/jetstream.md.
//
// A server that leads the stream and is cut off still takes messages, which it cannot have stored. The next leader
// gives their numbers to other messages. nats-server 2.9.10 may keep the first ones in its copy all the same when it
// comes back. If it leads the consumer, it gives them in place of those that the others have, and the acknowledgement
// ends both. So after an election of the stream each process tells the others under which numbers its items were
// stored. A process that gets another item under such a number asks the leader for the hidden one, and puts it again.

#include "jetstream/queue_sinks.hpp"

#include <aio/wait.hpp>

#include <array>
#include <charconv>

namespace aio::inline v0::detail {
namespace {

constexpr std::size_t puts_told = 500;     // after an election; a leader that is cut off takes fewer
constexpr std::size_t told_again = 1'000;  // to a process that comes
constexpr std::chrono::minutes news_age{1};
constexpr std::size_t longest_news = 64 * 1024;
constexpr std::chrono::seconds room_limit{1};  // the hidden item waits for room, which this one may take

}  // namespace

/// The stream has another leader, or may have one.
void nats_queue::numbers_may_be_doubled() noexcept {
    if (refusals_harm()) to_tell_ = puts_told;
}

/// An item of this process was stored under that number.
void nats_queue::tell_number(const std::string& block, std::uint64_t number) noexcept {
    if (to_tell_ == 0 || !refusals_harm()) return;
    --to_tell_;
    try {
        add_to_news(number, id_in(block));
    } catch (const std::bad_alloc&) {
        // then others may not know it
    }
}

/// Tells NUMBER ID at the loop's next turn, with the others of this turn.
void nats_queue::add_to_news(std::uint64_t number, std::string_view id) {
    if (numbers_to_tell_.size() > longest_news) send_numbers();
    const bool is_first = numbers_to_tell_.empty();
    const std::string pair = " " + std::to_string(number) + " " + std::string(id);
    if (is_first) {
        get_running_loop().call_soon([weak = weak_from_this()] {
            const std::shared_ptr<nats_queue> self = weak.lock();
            if (!self || !self->open_) return;
            try {
                self->send_numbers();
            } catch (const std::bad_alloc&) {
                // then others may not know it
            }
        });
    }
    numbers_to_tell_ += pair;
}

void nats_queue::send_numbers() {
    if (numbers_to_tell_.empty()) return;
    const std::string text = "stored" + std::exchange(numbers_to_tell_, {});
    client_->send(news_subject_, {}, {}, text);
}

/// A process has come, or come back.
void nats_queue::tell_numbers_again() {
    for (const std::uint64_t number : stored_.newest(told_again, news_age)) add_to_news(number, stored_.id(number));
}

/// NUMBER ID NUMBER ID...
void nats_queue::heard_numbers(std::string_view words) {
    if (!refusals_harm()) return;
    while (!words.empty()) {
        std::uint64_t number = 0;
        const auto [end, error] = std::from_chars(words.data(), words.data() + words.size(), number);
        words.remove_prefix(static_cast<std::size_t>(end - words.data()));
        if (error != std::errc() || words.size() < 2 || words[0] != ' ') return;
        words.remove_prefix(1);
        const std::string_view id = words.substr(0, words.find(' '));
        words.remove_prefix(std::min(words.size(), id.size() + 1));
        if (stored_.id(number) == id) continue;  // told again
        stored_.add(number, std::string(id));
        for (const nats_item* item : items_) {
            if (item->sequence != number || item->id == id || item->settled) continue;
            create_task(keep_hidden_once(shared_from_this(), number, item->id), {.name = "jetstream::queue keeps"})
                .detail_state()
                ->set_internal();
        }
    }
}

/// Whether the leader has another item under this one's number.
bool nats_queue::hides_another(const nats_item& item) const {
    const std::string_view id = stored_.id(item.sequence);
    return !id.empty() && id != item.id;
}

/// Somebody has got the item `id` under that number. If the leader has another one there, it is put again.
coro<> nats_queue::keep_hidden(std::uint64_t number, std::string id) {
    stored_message hidden = co_await stored_under(number);
    const std::string other = id_in(hidden.headers);
    if (other.empty() || other == id) co_return;  // it is done, or there is no other
    const std::string plain = "NATS/1.0\r\nNats-Msg-Id: " + other + "\r\n\r\n";
    std::string block = block_of_another(plain);
    const std::string_view of_letter = header_in(hidden.headers, "Aio-Item");
    if (!of_letter.empty()) block.insert(block.size() - 2, "Aio-Item: " + std::string(of_letter) + "\r\n");
    stored_.add(number, id);
    task<> puts = create_task(put_hidden(shared_from_this(), std::move(hidden.data), std::move(block)),
        {.name = "jetstream::queue puts again"});
    puts.detail_state()->set_internal();
    const std::array<task<>, 1> all{puts};
    const wait_options options{.timeout = room_limit};
    co_await wait(all, options);
}

coro<> nats_queue::put_hidden(std::shared_ptr<nats_queue> self, std::string data, std::string block) {
    try {
        co_await self->put_until_stored(data, block, false);
        --self->numbers_.put;
    } catch (const std::exception&) {
        // the queue is shut down or left: nobody can keep the item
    }
}

/// For an item that a task has got meanwhile.
coro<> nats_queue::keep_hidden_once(std::shared_ptr<nats_queue> self, std::uint64_t number, std::string id) {
    try {
        co_await self->keep_hidden(number, std::move(id));
    } catch (const std::exception&) {
        // the queue was left
    }
}

}  // namespace aio::inline v0::detail
