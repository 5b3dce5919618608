// The consumer that a queue has on the servers, and what is done about its faults: see docs/internals/jetstream.md.
//
// A consumer may forget items. Where a server's copy of the stream differs from the others' (nats-server's change
// 4365), or an election loses what a leader knew, the consumer counts items as done that the stream still has, and
// nobody gets them. So a process whose tasks wait in vain compares the two. If the oldest item stays where it is
// although nothing is being worked on, it deletes the consumer, and makes another one, which begins with the oldest
// item again. It does so only when all servers are there: one that is away or behind may know what seems forgotten, and
// a consumer that is made without it may not catch up there.

#include "jetstream/queue_state.hpp"

#include <aio/errors.hpp>
#include <aio/timeout.hpp>

#include <charconv>
#include <stdexcept>

namespace aio::inline v0 {
namespace detail {
namespace {

constexpr int looks_before =
    3;  // so often, a second or more apart, the oldest item is seen before it counts as forgotten
constexpr std::chrono::seconds between_looks{1};
constexpr std::chrono::seconds api_patience{3};  // who waits for longer would act on what was true long ago
constexpr int other_consumer_there = 10099;      // a work queue has one

/// Whether all servers with a copy are there and have caught up. An answer without a list has one copy alone.
bool all_current(json_view info) {
    bool all = true;
    info["cluster"]["replicas"].each([&](json_view replica) {
        all = replica["current"].boolean(false) && !replica["offline"].boolean(false);
        return all;
    });
    return all;
}

}  // namespace

/// Another consumer, if its name is another, or it was made at another time: the questions to the one before are not
/// answered any more, and the servers do not always say so.
void nats_queue::use_consumer(std::string name, json_view info) {
    std::string created = info["created"].string();
    const bool same = name == consumer_ && (consumer_created_.empty() || created == consumer_created_);
    consumer_created_ = std::move(created);
    if (same) return;
    consumer_ = std::move(name);
    suspicion_ = {};
    forget_pulls();
    demand();
}

/// What the servers say of the consumer; empty if there is none. It may have another name by now.
coro<std::string> nats_queue::find_consumer() {
    std::string info = co_await find_in_jetstream(client_, "CONSUMER.INFO." + consumer_path());
    if (!info.empty()) {
        use_consumer(consumer_, json_view::of(info));
        co_return info;
    }
    const std::string all = co_await find_in_jetstream(client_, "CONSUMER.NAMES." + stream_);
    std::string name;
    json_view::of(all)["consumers"].each([&](json_view one) {
        name = one.string();
        return !name.starts_with("workers");
    });
    if (!name.starts_with("workers")) co_return std::string();
    info = co_await find_in_jetstream(client_, "CONSUMER.INFO." + stream_ + "." + name);
    if (!info.empty()) use_consumer(std::move(name), json_view::of(info));
    co_return info;
}

/// workers-TIMES-LAST. All that make it anew at once call it the same, and none deletes a newer one by mistake.
std::string nats_queue::next_consumer(std::uint64_t last) const {
    int times = 0;
    const std::size_t dash = consumer_.find('-');
    if (dash != std::string::npos) {
        std::from_chars(consumer_.data() + dash + 1, consumer_.data() + consumer_.size(), times);
    }
    return "workers-" + std::to_string(times + 1) + "-" + std::to_string(last);
}

/// Gives what the servers say of the consumer, and makes it if there is none. anew: there has been one.
coro<std::string> nats_queue::ensure_consumer(bool anew) {
    for (int tries = 0;; ++tries) {
        std::string info = co_await find_consumer();
        if (!info.empty()) co_return info;
        std::string name = "workers";
        if (anew) {
            const std::string stream = co_await ask_jetstream(client_, info_subject());
            name = next_consumer(json_view::of(stream)["state"]["last_seq"].number(std::uint64_t(0)));
        }
        json_writer config;
        config.add("durable_name", name).add("ack_policy", "explicit").add("deliver_policy", "all");
        config.add("replay_policy", "instant").add("max_deliver", -1).add("max_ack_pending", -1);
        config.add("max_waiting", 8192);
        config.add("ack_wait", anew ? ack_wait_.count() : nanoseconds_of(options_.ack_wait, ack_wait_.count()));
        std::string body = json_writer().add("stream_name", stream_).add_json("config", config.text()).text();
        bool made_meanwhile = false;
        try {
            info = co_await ask_jetstream(client_, "CONSUMER.DURABLE.CREATE." + stream_ + "." + name, std::move(body));
        } catch (const jetstream::error& e) {
            if (e.code() != other_consumer_there || tries > 3) throw;
            made_meanwhile = true;
        }
        if (made_meanwhile) continue;
        use_consumer(std::move(name), json_view::of(info));
        co_return info;
    }
}

/// One look at whether the consumer has forgotten something. The consumer is asked first: what it says was done before
/// is no longer in the stream afterwards.
coro<> nats_queue::check_consumer() {
    constexpr std::uint64_t none = 0;
    const std::string of_consumer = co_await ensure_consumer(true);
    const std::string of_stream = co_await ask_jetstream(client_, info_subject());
    const json_view consumer = json_view::of(of_consumer), stream = json_view::of(of_stream), state = stream["state"];
    const std::uint64_t oldest = state["messages"].number(none) > 0 ? state["first_seq"].number(none) : none;
    const std::uint64_t given = consumer["delivered"]["stream_seq"].number(none);
    const bool nothing_pending = consumer["num_pending"].number(none) == 0;
    const bool worked_on = consumer["num_ack_pending"].number(none) > 0;
    const time_point now = get_running_loop().time();
    if (!all_current(consumer) || !all_current(stream)) {
        suspicion_ = {};
        co_return;
    }
    given_ = std::min(given_, state["last_seq"].number(given_));  // the queue was removed and made anew
    if (oldest == 0 || oldest != suspicion_.oldest || (!worked_on && oldest > given && !nothing_pending)) {
        suspicion_ = {oldest, 0, now, now};
    }
    if (oldest == 0 || worked_on || (oldest > given && !nothing_pending)) co_return;
    if (suspicion_.seen > 0 && now - suspicion_.last < between_looks) co_return;
    suspicion_.last = now;
    if (++suspicion_.seen < looks_before || !open_) co_return;
    suspicion_ = {};
    ++numbers_.forgotten;
    co_await find_in_jetstream(client_, "CONSUMER.DELETE." + consumer_path());
    co_await ensure_consumer(true);
    client_->send(news_subject_, {}, {}, "consumer");
}

/// Looks after the consumer, beside everything else.
void nats_queue::check_soon() {
    if (checking_ || !open_) return;
    task<> t = create_task(check_once(shared_from_this()), {.name = "jetstream::queue checks"});
    t.detail_state()->set_internal();
    checking_ = true;
}

coro<> nats_queue::check_once(std::shared_ptr<nats_queue> self) {
    struct at_end {
        bool& checking;
        ~at_end() { checking = false; }
    } ending{self->checking_};
    try {
        co_await wait_for(self->check_consumer(), api_patience);
    } catch (const std::runtime_error&) {
        // nobody can say: the next one asks again
    } catch (const std::logic_error&) {
        // the connection has been closed
    }
}

}  // namespace detail
}  // namespace aio::inline v0
