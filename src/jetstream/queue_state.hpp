#pragma once
// What is behind a jetstream::queue in one process: see docs/internals/jetstream.md, "The queue".
//
// An item comes by a pull request, waits in ready_ for a task, is held by that task, and ends by an acknowledgement, by
// being given back, or by being buried (given up, after max_deliver). While it is here, a timer tells the servers that
// it is being worked on.

#include "jetstream/api.hpp"
#include "jetstream/arrivals.hpp"

#include <aio/detail/base/list.hpp>
#include <aio/event.hpp>
#include <aio/jetstream/queue.hpp>
#include <aio/lock.hpp>
#include <aio/queue.hpp>
#include <aio/task.hpp>

#include <array>
#include <charconv>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace aio::inline v0::detail {

class nats_queue;

inline std::uint64_t number_in(std::string_view text) noexcept {
    std::uint64_t n = 0;
    std::from_chars(text.data(), text.data() + text.size(), n);
    return n;
}

/// An item that this process has got. Whoever drops it gives it back, unless it was settled.
struct nats_item {
    nats_item(nats_queue& q, const nats_incoming& m);
    nats_item(const nats_item&) = delete;
    nats_item& operator=(const nats_item&) = delete;
    ~nats_item();

    nats_queue* queue;
    std::string data;
    std::string ack_subject;
    std::string id;       // in this queue
    std::string item_id;  // of a dead letter: the id of the item in its first queue
    std::uint64_t sequence = 0;
    std::uint64_t stored_at = 0;  // nanoseconds, of the servers' clocks
    int deliveries = 1;
    bool another = false;    // there may be two messages for it
    bool forgotten = false;  // it was given before, and the servers do not know it
    time_point came;
    bool held = false;
    bool settled = false;
    std::list<nats_item*>::iterator at;
};
using nats_item_ptr = std::unique_ptr<nats_item>;

/// An item that a task of the library has, and its queue, which has to be there as long: compilers destroy parameters
/// in either order.
struct kept_item {
    kept_item(std::shared_ptr<nats_queue> q, nats_item_ptr i) noexcept : queue(std::move(q)), item(std::move(i)) {}
    std::shared_ptr<nats_queue> queue;
    nats_item_ptr item;
};

/// The identity of an item, by the headers of one of its messages.
std::string id_in(std::string_view headers);

class nats_queue final : public std::enable_shared_from_this<nats_queue> {
public:
    nats_queue(client_ptr client, std::string name, const jetstream::queue_options& options);
    ~nats_queue();
    nats_queue(const nats_queue&) = delete;
    nats_queue& operator=(const nats_queue&) = delete;

    coro<> open();
    coro<> close();

    coro<> put(std::string data, std::string id, bool again);  // an empty id: it makes one
    coro<std::string> get();
    std::string task_done();  // gives the subject that was acknowledged to
    coro<> confirm(std::string subject);
    void retry_later(delay d);
    int delivery();
    const std::string& id();
    coro<> join();
    coro<> shutdown(bool immediate);
    coro<std::size_t> size();

    std::size_t maxsize() const noexcept { return maxsize_; }
    const std::string& name() const noexcept { return name_; }
    jetstream::queue_statistics statistics() const noexcept;

private:
    friend struct nats_item;
    class pull_sink;
    class news_sink;
    class election_sink;
    class stream_election_sink;
    struct holder {
        std::deque<nats_item_ptr> items;
        int getting = 0;  // calls of get() of this task that wait: at most one
    };
    /// A question for items. An item comes with the subject of its stream, so each question that may be under way has a
    /// subscription of its own, which says what is answered. A refusal has the subject that the question gave.
    struct pull {
        std::unique_ptr<pull_sink> sink;
        std::uint64_t question = 0;  // its number
        std::size_t left = 0;        // items that may still come; 0: none is under way
        time_point until;
    };
    enum class judged : std::uint8_t { stored, again, full, shut };

    void check_open() const;
    std::string info_subject() const { return "STREAM.INFO." + stream_; }
    std::string consumer_path() const { return stream_ + "." + consumer_; }

    // Making it: queue_open.cpp.
    std::string wanted_stream(const std::string& stream) const;
    coro<std::string> ensure_stream(std::string stream);
    void adopt(json_view config);
    coro<> set_shut(bool shut);
    void stop_hearing() noexcept;

    // The consumer on the servers: queue_consumer.cpp.
    coro<std::string> find_consumer();
    coro<std::string> ensure_consumer(bool anew);
    void use_consumer(std::string name, json_view info);
    coro<> check_consumer();
    static coro<> check_once(std::shared_ptr<nats_queue> self);
    void check_soon();
    std::string next_consumer(std::uint64_t last) const;

    // Putting: queue_put.cpp.
    coro<stored_reply> ask_to_store(const std::string& data, const std::string& block, const std::string& subject,
        int tries, std::chrono::nanoseconds most);
    coro<judged> attempt(const std::string& data, const std::string& block, int tries);
    coro<stored_reply> ask_whether_stored(const std::string& block);
    coro<> wait_for_room(std::chrono::milliseconds& pause);
    struct whole_put;
    enum class asked_first : std::uint8_t { may_send, stored, ask_again };
    coro<bool> stored_before_the_end(whole_put& p);
    coro<asked_first> ask_before_sending(whole_put& p, time_point now);
    void check_window(const whole_put& p, time_point now) const;
    bool has_to_line_up(const whole_put& p) const noexcept;
    coro<> note_failure(whole_put& p, judged outcome, time_point began);
    coro<> put_until_stored(const std::string& data, const std::string& block, bool again);
    coro<> look();  // whether the queue is shut down, or gone
    static coro<> look_once(std::shared_ptr<nats_queue> self);
    void look_soon();

    // A put in doubt: queue_again.cpp.
    bool refusals_harm() const noexcept;
    coro<std::string> ask_the_leader(std::string what, std::string body, bool must_know);
    coro<std::optional<bool>> known_to_be_stored(const std::string& block, time_point since);
    struct stored_message {
        std::string headers, data;
    };
    coro<std::string> ask_a_majority();
    coro<stored_message> stored_under(std::uint64_t number);
    coro<std::uint64_t> first_got(const std::string& id, std::chrono::nanoseconds age, bool& held);
    coro<std::uint64_t> first_known(const std::string& id, std::chrono::nanoseconds age);
    void asked(const nats_incoming& m);
    std::string block_of_another(const std::string& block);
    bool is_full(json_view stream_info);
    static coro<> compare(kept_item kept);

    // Processes tell each other what was given before an election: queue_given.cpp.
    void elected();
    void ask_what_was_given();
    void tell_what_was_given();
    void heard_what_was_given(std::string_view words);

    // Two items under one number: queue_numbers.cpp.
    void numbers_may_be_doubled() noexcept;
    void tell_number(const std::string& block, std::uint64_t number) noexcept;
    void add_to_news(std::uint64_t number, std::string_view id);
    void send_numbers();
    void tell_numbers_again();
    void heard_numbers(std::string_view words);
    bool hides_another(const nats_item& item) const;
    coro<> keep_hidden(std::uint64_t number, std::string id);
    static coro<> put_hidden(std::shared_ptr<nats_queue> self, std::string data, std::string block);
    static coro<> keep_hidden_once(std::shared_ptr<nats_queue> self, std::uint64_t number, std::string id);

    // Getting.
    void demand();
    void pull_now();
    void delivered(std::size_t slot, const nats_incoming& m);
    void pull_ended(std::size_t slot) noexcept;
    void forget_pulls() noexcept;
    bool pulls() const noexcept;  // one is under way
    void took(const nats_incoming& m);
    void offer(nats_item_ptr item);
    void reconnected() noexcept;
    void client_closed() noexcept;
    holder& holder_of_this_task(bool make);
    holder& holder_with_item(const char* what);
    void task_ended(task_base* task) noexcept;

    // Ending an item.
    void give_back(nats_item& item, std::int64_t rest) noexcept;
    void give_up_or_back(nats_item_ptr item) noexcept;
    void keep_alive();
    void arm();
    void demand_later(std::chrono::milliseconds pause) noexcept;

    // Dead letters: queue_bury.cpp.
    static coro<> bury(kept_item kept);
    coro<std::string> send_dead_letter(const nats_item& item);
    coro<std::string> what_bars(std::string letters);
    coro<std::string> what_hinders(std::size_t left, std::optional<time_point>& full_since);
    void adopt_dead_letters(json_view config);
    void stays_unburied(nats_item& item, const std::string& why, bool refused);
    void heard_of_unburied(std::string_view words);
    void was_buried(std::uint64_t sequence) noexcept;
    void forget_unburied_before(std::uint64_t first) noexcept;
    std::string sentence_of(const std::string& what_stays, const std::string& letters, const std::string& why) const;

    // The end.
    void news(const nats_incoming& m);
    void was_shut();
    static coro<> watch_the_end(std::shared_ptr<nats_queue> self);
    coro<bool> nothing_comes(std::optional<time_point>& full_since);
    void drop_ready() noexcept;
    std::uint64_t held_by_getters() const noexcept;
    void fail(const char* why) noexcept;

    const client_ptr client_;
    const std::string name_;
    const jetstream::queue_options options_;  // without what refers to something
    const std::string dead_letters_;
    const std::string stream_, subject_, shut_subject_, news_subject_;
    std::string dead_subject_;
    std::size_t maxsize_ = 0;
    bool replicated_ = false;
    std::chrono::nanoseconds ack_wait_{std::chrono::seconds(30)};
    std::chrono::nanoseconds duplicate_window_{std::chrono::minutes(2)}, dead_window_{std::chrono::minutes(2)};

    std::unique_ptr<news_sink> news_come_;
    std::unique_ptr<election_sink> elections_come_;
    std::unique_ptr<stream_election_sink> stream_elections_come_;
    static constexpr std::size_t most_pulls = 8;  // at the same time
    std::array<pull, most_pulls> pulls_;
    std::uint64_t last_question_ = 0;
    std::size_t asked_ = 0;  // items that may still come, by all pulls
    bool pull_soon_ = false;
    std::size_t wanting_ = 0;  // calls of get() that have no item yet

    std::list<nats_item*> items_;  // all that are here
    queue<nats_item_ptr> ready_;
    std::unordered_map<task_base*, holder> holders_;
    /// What the consumer may have forgotten: the oldest item, as long as it stays the oldest although nothing is worked
    /// on.
    struct suspicion {
        std::uint64_t oldest = 0;
        int seen = 0;
        time_point since, last;
    };
    std::string consumer_ = "workers";  // workers-TIMES-LAST, once it was made anew
    std::string consumer_created_;      // the time, as the servers write it
    suspicion suspicion_;
    bool checking_ = false;
    time_point checked_{};

    /// Items that were delivered max_deliver times, and that a dead-letter queue did not take, as far as this process
    /// knows.
    struct unburied_items {
        std::set<std::uint64_t> numbers;
        std::string letters;  // the name of the dead-letter queue
        std::string refused;  // what the servers have said to the last one; empty if its state is the reason
        bool told = false;    // to the exception handler
    };
    unburied_items unburied_;
    std::string stuck_;  // why get() cannot end as it should, though the queue is shut down

    // Of a queue with replicas: what came here, and of which items there may be two messages (queue_again.cpp).
    nats_arrivals arrivals_, doubted_;

    // This process knows what was given before an election (queue_given.cpp).
    std::uint64_t given_ = 0;    // the greatest number of an item that was given, as far as this process knows
    bool telling_ = false;       // this process is about to tell what it knows
    bool told_ = false;          // somebody who knows as much has told it meanwhile
    time_point listen_until_{};  // until then it asks for no items

    // Where the leader has stored items, so that one is noticed that a server gives in place of another
    // (queue_numbers.cpp).
    nats_numbers stored_;
    std::size_t to_tell_ = 0;      // puts of this process whose numbers are told
    std::string numbers_to_tell_;  // at the loop's next turn

    callback_handle timer_;
    bool armed_ = false;

    lock full_;              // of a full queue one task at a time asks whether there is room
    bool was_full_ = false;  // and it has not been half empty since
    event acknowledged_;     // by this process
    std::size_t putting_ = 0;
    bool open_ = false;
    bool shut_ = false;
    bool looking_ = false;
    const char* failure_ = nullptr;  // why it cannot be used any more
    task<> watch_;
    jetstream::queue_statistics numbers_{};
};

}  // namespace aio::inline v0::detail
