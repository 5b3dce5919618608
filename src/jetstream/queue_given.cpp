// The processes of a queue tell each other what was given before an election: see docs/internals/jetstream.md, "What
// an election forgets".
//
// A consumer of a queue with replicas has a leader, and the next one may not know which items the last one gave in the
// end. It gives them again as if it were the first time. But it gives items in the order of their numbers, so one whose
// number is not above that of an item which anybody has got was given before. After an election the processes tell each
// other the greatest number that they have got, and ask for items when they have heard it.

#include "jetstream/queue_sinks.hpp"
#include "jetstream/servers.hpp"

#include <algorithm>
#include <charconv>

namespace aio::inline v0::detail {
namespace {

constexpr std::chrono::milliseconds listening{50};
constexpr std::chrono::microseconds until_told{5'000};  // at most: so that one may hear that another knows more
constexpr std::size_t most_doubted = 500;               // identities that are told

}  // namespace

/// The new leader knows none of the questions for items.
void nats_queue::elected() {
    forget_pulls();
    listen_until_ = get_running_loop().time() + listening;
    try {
        tell_what_was_given();
        demand();
    } catch (const std::bad_alloc&) { demand_later(listening); }  // then others may not know it
}

/// A process that has just come, or come back, has not heard of elections.
void nats_queue::ask_what_was_given() {
    if (!replicated_) return;
    client_->send(news_subject_, {}, {}, "given?");
    listen_until_ = get_running_loop().time() + listening;
}

/// Tells the others what this process knows: of the items that were given, and of those with perhaps two messages.
void nats_queue::tell_what_was_given() {
    if (telling_ || (given_ == 0 && doubted_.empty() && stored_.empty())) return;
    const std::chrono::microseconds pause(random_below(until_told.count()));
    get_running_loop().call_later(pause, [weak = weak_from_this()] {
        const std::shared_ptr<nats_queue> self = weak.lock();
        if (!self) return;
        self->telling_ = false;
        if (!self->open_ || self->told_) return;
        try {
            std::string text = "given " + std::to_string(self->given_);
            for (const std::string_view id : self->doubted_.newest(most_doubted, self->duplicate_window_)) {
                text.append(" ").append(id);
            }
            self->client_->send(self->news_subject_, {}, {}, text);
            self->tell_numbers_again();
        } catch (const std::bad_alloc&) {
            // then others may not know it
        }
    });
    telling_ = true;
    told_ = false;
}

/// NUMBER ID ID...: the identities are those of items that there may be two messages for.
void nats_queue::heard_what_was_given(std::string_view words) {
    std::uint64_t n = 0;
    std::from_chars(words.data(), words.data() + words.size(), n);
    if (n >= given_) told_ = true;
    // At another time an item below that number may still be on its way here for the first time.
    if (get_running_loop().time() < listen_until_) given_ = std::max(given_, n);
    for (std::size_t space = words.find(' '); space != std::string_view::npos; space = words.find(' ')) {
        words.remove_prefix(space + 1);
        const std::string id(words.substr(0, words.find(' ')));
        if (doubted_.first(id, duplicate_window_) == 0) doubted_.add(id, 1);
    }
}

}  // namespace aio::inline v0::detail
