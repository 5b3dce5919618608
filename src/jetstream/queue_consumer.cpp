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

#include <algorithm>
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
bool all_current(const nlohmann::json& info) {
    const nlohmann::json cluster = info.value("cluster", nlohmann::json::object());
    const nlohmann::json replicas = cluster.value("replicas", nlohmann::json::array());
    return std::all_of(replicas.begin(), replicas.end(), [](const nlohmann::json& replica) {
        return replica.value("current", false) && !replica.value("offline", false);
    });
}

}  // namespace

/// Another consumer, if its name is another: the questions to the one before are not answered any more.
void nats_queue::use_consumer(std::string name) {
    if (name == consumer_) return;
    consumer_ = std::move(name);
    suspicion_ = {};
    for (std::size_t slot = 0; slot < pulls_.size(); ++slot) pull_ended(slot);
    demand();
}

/// What the servers say of the consumer; null if there is none. It may have another name by now.
coro<nlohmann::json> nats_queue::find_consumer() {
    nlohmann::json info = co_await find_in_jetstream(client_, "CONSUMER.INFO." + consumer_path());
    if (!info.is_null()) co_return info;
    const nlohmann::json all = co_await find_in_jetstream(client_, "CONSUMER.NAMES." + stream_);
    if (all.is_null()) co_return nullptr;
    const nlohmann::json names = all.value("consumers", nlohmann::json::array());
    for (const nlohmann::json& name : names) {
        if (!name.is_string() || !name.get<std::string>().starts_with("workers")) continue;
        use_consumer(name.get<std::string>());
        info = co_await find_in_jetstream(client_, "CONSUMER.INFO." + consumer_path());
        co_return info;
    }
    co_return nullptr;
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
coro<nlohmann::json> nats_queue::ensure_consumer(bool anew) {
    for (int tries = 0;; ++tries) {
        nlohmann::json info = co_await find_consumer();
        if (!info.is_null()) co_return info;
        std::string name = "workers";
        if (anew) {
            const nlohmann::json stream = co_await ask_jetstream(client_, info_subject(), nullptr);
            const nlohmann::json state = stream.value("state", nlohmann::json::object());
            name = next_consumer(state.value("last_seq", std::uint64_t(0)));
        }
        nlohmann::json config = {{"durable_name", name}, {"ack_policy", "explicit"}, {"deliver_policy", "all"},
            {"replay_policy", "instant"}, {"max_deliver", -1}, {"max_ack_pending", -1}, {"max_waiting", 8192},
            {"ack_wait", anew ? ack_wait_.count() : nanoseconds_of(options_.ack_wait, ack_wait_.count())}};
        nlohmann::json body = {{"stream_name", stream_}, {"config", std::move(config)}};
        bool made_meanwhile = false;
        try {
            info = co_await ask_jetstream(client_, "CONSUMER.DURABLE.CREATE." + stream_ + "." + name, std::move(body));
        } catch (const jetstream::error& e) {
            if (e.code() != other_consumer_there || tries > 3) throw;
            made_meanwhile = true;
        }
        if (made_meanwhile) continue;
        use_consumer(std::move(name));
        co_return info;
    }
}

/// One look at whether the consumer has forgotten something. The consumer is asked first: what it says was done before
/// is no longer in the stream afterwards.
coro<> nats_queue::check_consumer() {
    const nlohmann::json consumer = co_await ensure_consumer(true);
    const nlohmann::json stream = co_await ask_jetstream(client_, info_subject(), nullptr);
    const nlohmann::json state = stream.value("state", nlohmann::json::object());
    const auto oldest =
        state.value("messages", std::uint64_t(0)) > 0 ? state.value("first_seq", std::uint64_t(0)) : std::uint64_t(0);
    const auto given = consumer.value("delivered", nlohmann::json::object()).value("stream_seq", std::uint64_t(0));
    const bool nothing_pending = consumer.value("num_pending", std::uint64_t(0)) == 0;
    const bool worked_on = consumer.value("num_ack_pending", std::uint64_t(0)) > 0;
    const time_point now = get_running_loop().time();
    if (!all_current(consumer) || !all_current(stream)) {
        suspicion_ = {};
        co_return;
    }
    if (oldest == 0 || oldest != suspicion_.oldest || (!worked_on && oldest > given && !nothing_pending)) {
        suspicion_ = {oldest, 0, now, now};
    }
    if (oldest == 0 || worked_on || (oldest > given && !nothing_pending)) co_return;
    if (suspicion_.seen > 0 && now - suspicion_.last < between_looks) co_return;
    suspicion_.last = now;
    if (++suspicion_.seen < looks_before || !open_) co_return;
    suspicion_ = {};
    ++numbers_.forgotten;
    const nlohmann::json gone = co_await find_in_jetstream(client_, "CONSUMER.DELETE." + consumer_path());
    const nlohmann::json made = co_await ensure_consumer(true);
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
