// Watches of a bucket: see bucket_state.hpp.
//
// A watch reads from a consumer that acknowledges nothing and numbers what it delivers. If a number is missing, the
// consumer is silent, or the connection was made anew, the watch makes another consumer, which begins behind the last
// revision that was given: so nothing is lost and nothing comes twice. Before all that was there has been given, that
// is a consumer of each key's last entry again, of which the watch skips what it has given.

#include "jetstream/bucket_state.hpp"

#include <aio/errors.hpp>
#include <aio/event.hpp>
#include <aio/sleep.hpp>
#include <aio/timeout.hpp>

#include <array>
#include <charconv>

namespace aio::inline v0::detail {
namespace {

constexpr std::chrono::seconds heartbeat{2};  // what the consumer says something in, whatever happens
constexpr std::chrono::seconds silence{7};    // after which it is taken for gone
constexpr std::size_t most_waiting = 16384;   // entries; beyond, the consumer is given up and made anew later

template<class Number>
Number number_in(std::string_view text) noexcept {
    Number n = 0;
    std::from_chars(text.data(), text.data() + text.size(), n);
    return n;
}

/// How far a watch has come.
struct watch_progress {
    std::uint64_t last = 0;  // the revision that was given last
    std::optional<std::uint64_t>
        old;               // the bucket's last revision before the watch: a key erased by then was never given
    bool current = false;  // up_to_date has been given

    /// The first revision of the next consumer. Empty: each key's last entry again.
    std::optional<std::uint64_t> next() const { return current ? std::optional(last + 1) : std::nullopt; }
};

}  // namespace

/// What a consumer has delivered. A new consumer has a new one, with a subject of its own.
class watch_feed final : public nats_sink {
public:
    struct item {
        raw_entry entry;
        std::string consumer;
        std::uint64_t number = 0;   // the consumer's own
        std::uint64_t pending = 0;  // entries that come after it
        bool heartbeat = false;
    };

    watch_feed(nats_bucket& bucket, std::shared_ptr<nats_bucket> keeps)
        : nats_sink(bucket.client_->new_inbox() + ".watch", ""), bucket_(std::move(keeps)) {
        bucket_->feeds_.insert(this);
        try {
            bucket_->client_->add(*this);
        } catch (...) {
            bucket_->feeds_.erase(this);
            throw;
        }
    }
    watch_feed(const watch_feed&) = delete;
    watch_feed& operator=(const watch_feed&) = delete;
    ~watch_feed() override {
        bucket_->feeds_.erase(this);
        nats_client& client = *bucket_->client_;
        client.remove(*this);
        if (consumer.empty() || !client.is_ready()) return;  // then the server forgets it, which is of no use any more
        try {
            client.send("$JS.API.CONSUMER.DELETE." + bucket_->stream_ + "." + consumer, {}, {}, {});
        } catch (const std::bad_alloc&) {
            // the same
        }
    }

    static coro<std::unique_ptr<watch_feed>> make(
        std::shared_ptr<nats_bucket> bucket, std::string pattern, bool headers_only, watch_progress progress);
    static coro<std::unique_ptr<watch_feed>> make_again(
        std::shared_ptr<nats_bucket> bucket, std::string pattern, bool headers_only, watch_progress progress);
    coro<std::optional<item>> next();

    void deliver(const nats_incoming& m) override;
    void reconnected() noexcept override { break_off(); }
    void refused(const std::string&) noexcept override { break_off(); }
    void closed() noexcept override {
        ended = true;
        there.set();
    }
    void break_off() noexcept {
        broken = true;
        there.set();
    }

    std::string consumer;
    std::uint64_t at_first = 0;  // entries that there were when the consumer was made
    std::uint64_t old = 0;       // the bucket's last revision before that
    std::deque<item> waiting;
    event there;
    bool broken = false;  // what waits is good; nothing is to come behind it
    bool ended = false;   // the bucket was left, or the connection closed

private:
    std::shared_ptr<nats_bucket> bucket_;
};

void watch_feed::deliver(const nats_incoming& m) {
    if (broken) return;
    there.set();
    if (waiting.size() >= most_waiting) return break_off();
    item one;
    const int status = status_of_server(m).code;
    if (status != 0) {
        if (status != 100) return break_off();
        one.heartbeat = true;
        one.number = number_in<std::uint64_t>(header_in(m.headers, "Nats-Last-Consumer"));
    } else {
        // $JS.ACK.stream.consumer.deliveries.revision.number.time.pending; newer servers put two words before "stream".
        std::array<std::string_view, 12> words;
        std::size_t n = 0;
        std::string_view rest = m.reply_to;
        for (; n < words.size() && !rest.empty(); ++n) {
            const std::size_t dot = std::min(rest.find('.'), rest.size());
            words[n] = rest.substr(0, dot);
            rest.remove_prefix(std::min(dot + 1, rest.size()));
        }
        if (n < 9) return break_off();
        const std::size_t from = n >= 11 ? 4 : 2;
        one.consumer = words[from + 1];
        one.entry.revision = number_in<std::uint64_t>(words[from + 3]);
        one.number = number_in<std::uint64_t>(words[from + 4]);
        const auto time = std::chrono::nanoseconds(number_in<std::int64_t>(words[from + 5]));
        one.entry.created = std::chrono::system_clock::time_point(
            std::chrono::duration_cast<std::chrono::system_clock::duration>(time));
        one.pending = number_in<std::uint64_t>(words[from + 6]);
        one.entry.key = m.subject.substr(std::min(bucket_->prefix_.size(), m.subject.size()));
        if (!marks_erased(m.headers)) {
            one.entry.value = std::string(m.data);
        } else {
            one.entry.kind = jetstream::entry_kind::erased;
        }
    }
    try {
        waiting.push_back(std::move(one));
    } catch (...) {
        break_off();
        throw;
    }
}

coro<std::uint64_t> nats_bucket::last_revision() {
    const std::string info = co_await find_in_jetstream(client_, "STREAM.INFO." + stream_);
    if (info.empty()) throw jetstream::error("the bucket " + name_ + " was removed", 404);
    co_return json_view::of(info)["state"]["last_seq"].number(std::uint64_t(0));
}

void nats_bucket::close() noexcept {
    open_ = false;
    for (watch_feed* feed : feeds_) feed->closed();
}

// Makes a consumer of the bucket, and the feed that it delivers into. from: the first revision; if it is empty, each
// key's last entry.
coro<std::unique_ptr<watch_feed>> watch_feed::make(
    std::shared_ptr<nats_bucket> bucket, std::string pattern, bool headers_only, watch_progress progress) {
    const client_ptr client = bucket->client_;
    if (!client->is_ready()) co_await client->ready();
    const std::uint64_t now_last = co_await bucket->last_revision();
    if (now_last < progress.last) {  // its revisions begin anew
        throw jetstream::error("the bucket " + bucket->name_ + " was removed, and another one has its name");
    }
    const std::optional<std::uint64_t> from = progress.next();
    auto feed = std::make_unique<watch_feed>(*bucket, bucket);
    json_writer config;
    config.add("deliver_subject", feed->subject).add("ack_policy", "none").add("replay_policy", "instant");
    config.add("max_deliver", 1).add("mem_storage", true).add("num_replicas", 1);
    config.add("idle_heartbeat", std::chrono::nanoseconds(heartbeat).count());
    config.add("filter_subject", bucket->prefix_ + pattern).add("headers_only", headers_only);
    config.add("deliver_policy", from ? "by_start_sequence" : "last_per_subject");
    if (from) config.add("opt_start_seq", *from);
    // It has a name of ours, so that it is made once, also if the answer is lost and it is asked for again.
    feed->consumer = client->unique() + "-" + std::to_string(client->next_number());
    config.add("name", feed->consumer);
    std::string body = json_writer().add("stream_name", bucket->stream_).add_json("config", config.text()).text();
    const std::string made =
        co_await ask_jetstream(client, "CONSUMER.CREATE." + bucket->stream_ + "." + feed->consumer, std::move(body));
    feed->old = now_last;
    // What is on its way already is not pending any more.
    const json_view said = json_view::of(made);
    feed->at_first =
        said["num_pending"].number(std::uint64_t(0)) + said["delivered"]["consumer_seq"].number(std::uint64_t(0));
    co_return feed;
}

// As make(), again and again while the bucket may come back. Empty if it was left, or the connection is closed.
coro<std::unique_ptr<watch_feed>> watch_feed::make_again(
    std::shared_ptr<nats_bucket> bucket, std::string pattern, bool headers_only, watch_progress progress) {
    for (;;) {
        try {
            co_return co_await make(bucket, pattern, headers_only, progress);
        } catch (const std::exception& e) {
            if (!bucket->open_ || bucket->client_->status() == jetstream::connection_status::closed) co_return nullptr;
            const auto* const refusal = dynamic_cast<const jetstream::error*>(&e);
            const bool may_come_back = dynamic_cast<const timeout_error*>(&e) || (refusal && refusal->status() == 503);
            if (!may_come_back) throw;
        }
        co_await sleep(std::chrono::milliseconds(100));
    }
}

// Gives what comes next. Empty if the feed has ended, or nothing more is to be expected of this consumer.
coro<std::optional<watch_feed::item>> watch_feed::next() {
    for (;;) {
        if (ended) co_return std::nullopt;
        if (!waiting.empty()) {
            std::optional<item> one(std::move(waiting.front()));
            waiting.pop_front();
            // A consumer whose making was not answered in time may deliver, too.
            if (one->heartbeat || one->consumer == consumer) co_return one;
            continue;
        }
        if (broken) co_return std::nullopt;
        there.clear();
        bool silent = false;
        try {
            co_await wait_for(there.wait(), silence);
        } catch (const timeout_error&) { silent = true; }
        if (silent && waiting.empty()) co_return std::nullopt;
    }
}

namespace {

/// True if it has not been given yet, and is to be given.
bool shows(watch_progress& progress, const watch_feed::item& one, const watch_wish& wish) noexcept {
    if (one.heartbeat || one.entry.revision <= progress.last) return false;
    progress.last = one.entry.revision;
    return wish.erased_at_first || one.entry.kind != jetstream::entry_kind::erased || one.entry.revision > progress.old;
}

/// True if nothing is missing before it. number: the consumer's, of what came last.
bool follows(std::uint64_t& number, const watch_feed::item& one) noexcept {
    if (one.heartbeat) return one.number == number;
    if (one.number != number + 1) return false;
    ++number;
    return true;
}

/// Whether each key that there was when the consumer was made has come. The server's counts do not say it while others
/// write: a key that is written meanwhile comes with its new revision only, behind all the old ones. So it goes by
/// revisions. Once one has come that is newer than the consumer, the old ones are over, and what was written meanwhile
/// goes up to the bucket's last revision as it is then. An idle consumer has nothing more in any case.
class completeness {
public:
    completeness(std::uint64_t at_first, std::uint64_t old, bool one_key) noexcept
        : at_first_(at_first), old_(old), one_key_(one_key) {}
    /// Whether the bucket's last revision has to be asked for, for reached().
    bool asks(const watch_feed::item& one, std::uint64_t number) const noexcept {
        if (one.heartbeat || one_key_ || enough_) return false;
        return one.entry.revision > old_ || (number >= at_first_ && one.pending == 0);
    }
    bool reached(const watch_feed::item& one, std::uint64_t number, std::optional<std::uint64_t> last) noexcept {
        if (one.heartbeat || (one_key_ && number >= at_first_)) return true;
        if (last && *last == old_) return true;  // nobody has written since
        if (last && one.entry.revision > old_) enough_ = last;
        return enough_ && one.entry.revision >= *enough_;
    }

private:
    std::uint64_t at_first_, old_;
    bool one_key_;
    std::optional<std::uint64_t> enough_;
};

raw_entry up_to_date() {
    raw_entry mark;
    mark.kind = jetstream::entry_kind::up_to_date;
    return mark;
}

/// One step of a watch: the entry that it gives, if any, and whether it is up to date after that.
struct watch_step {
    std::optional<raw_entry> entry;
    bool up_to_date = false;
};

/// Empty if nothing more is to be expected of this feed. number: the consumer's, of what came last.
coro<std::optional<watch_step>> step_of(std::shared_ptr<nats_bucket> bucket, watch_feed& feed, watch_progress& progress,
    completeness& complete, std::uint64_t& number, watch_wish wish) {
    std::optional<watch_step> step;
    std::optional<watch_feed::item> one = co_await feed.next();
    if (!one || !follows(number, *one)) co_return step;
    std::optional<std::uint64_t> newest;
    if (!progress.current && complete.asks(*one, number)) {
        try {
            newest = co_await bucket->last_revision();
        } catch (const std::runtime_error&) {
            // another consumer is made, or says why not
        }
        if (!newest) co_return step;
    }
    step.emplace();
    if (shows(progress, *one, wish)) step->entry = std::move(one->entry);
    step->up_to_date = !progress.current && complete.reached(*one, number, newest);
    if (step->up_to_date) progress.current = true;
    co_return step;
}

}  // namespace

async_generator<raw_entry> nats_bucket::watch(std::shared_ptr<nats_bucket> self, std::string pattern, watch_wish wish) {
    self->check_open();
    const bool one_key = pattern.find_first_of("*>") == std::string::npos;
    watch_progress progress;
    std::unique_ptr<watch_feed> feed = co_await watch_feed::make(self, pattern, wish.headers_only, progress);
    while (feed) {
        if (!progress.old) progress.old = feed->old;
        std::optional<watch_step> step(std::in_place);
        step->up_to_date = !progress.current && feed->at_first == 0;
        if (step->up_to_date) progress.current = true;
        std::uint64_t number = 0;
        completeness complete(feed->at_first, feed->old, one_key);
        while (step) {
            if (step->entry) co_yield std::move(*step->entry);
            if (step->up_to_date) {
                raw_entry mark = up_to_date();
                co_yield std::move(mark);
            }
            step = co_await step_of(self, *feed, progress, complete, number, wish);
        }
        if (feed->ended) co_return;
        feed.reset();  // first, so that the servers forget its consumer
        feed = co_await watch_feed::make_again(self, pattern, wish.headers_only, progress);
    }
}

}  // namespace aio::inline v0::detail
