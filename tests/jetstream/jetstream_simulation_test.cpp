// A thousand consumers, and hours of faults, on virtual time: the client and the queues of src/jetstream over the model
// of nats_model.hpp. At the end the books must balance. docs/internals/jetstream.md says what is simulated.
//
// AIO_SIMULATION_SEEDS=N runs N seeds, AIO_SIMULATION_FIRST=K begins at seed K: ./dev simulate.
#include "aio_test.hpp"
#include "nats_model.hpp"

#include <aio/jetstream.hpp>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <set>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

namespace {

constexpr std::size_t connections = 40, consumers = 1000, producers = 20, of_dead_letters = 5;
constexpr int items_each = 40, most_deliveries = 3;
constexpr std::chrono::minutes duplicate_window{2};
constexpr auto faulty_time = std::chrono::minutes(AIO_TEST_SANITIZED ? 30 : 120);
constexpr std::size_t maxsize = 100;

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* value = std::getenv(name);
    return value && *value ? std::strtoull(value, nullptr, 10) : otherwise;
}

class simulation {
public:
    simulation(std::uint64_t seed, std::deque<std::string>& events) : seed_(seed), events_(events), model_(3, seed) {
        aio::detail::seed_random(seed);
        model_.take_over();
        model_.log = [this](const std::string& stream, const std::string& headers, const std::string& item,
                         const std::string& what) {
            stream == "work" ? happened(item, what) : happened_to_letter(headers, item, what);
        };
    }
    simulation(const simulation&) = delete;
    simulation& operator=(const simulation&) = delete;

    aio::coro<> run() {
        co_await hours_of_faults();
        co_await model_.stop();
        balance();
    }
    std::string wrong;
    std::string counts() const {
        const auto done = [this](const std::string& item) { return processed_.count(item) > 0; };
        return std::to_string(stored_.size()) + " items, " + std::to_string(buried_.size()) + " in the dead letters, " +
            std::to_string(std::count_if(buried_.begin(), buried_.end(), done)) + " of those done, too, " +
            std::to_string(late_letters_) + " there again after the duplicate_window";
    }

private:
    static std::string at_what_time() {
        const auto now = aio::get_running_loop().time().time_since_epoch();
        return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()) + " ms: ";
    }
    void note(const std::string& text) {
        if (!wrong.empty()) return;  // what led to the first fault is what counts
        events_.push_back(at_what_time() + text);
        if (events_.size() > 60) events_.pop_front();
    }
    void check(bool holds, const std::string& what) {
        if (holds || !wrong.empty()) return;
        wrong = at_what_time() + what;
    }
    void happened(const std::string& item, const std::string& what) {
        note(item + " " + what);
        if (what == "stored") {
            check(++stored_[item] == 1 || replicated_, item + " was stored twice");
        } else if (what == "forgotten") {
            forgotten_.insert(item);
        } else if (what == "uncounted") {
            uncounted_.insert(item);
        } else if (what == "acked") {
            if (++acked_[item] < stored_[item]) return;  // another message for it is left
            check(processed_.count(item) + buried_.count(item) > 0,
                item + " was acknowledged, and is neither done nor in the dead letters");
            gone_.insert(item);
        } else {
            check(seed_ % 3 == 1, item + " was dropped");
            gone_.insert(item);
            dropped_.insert(item);
        }
    }
    void happened_to_letter(const std::string& headers, const std::string& item, const std::string& what) {
        note("the dead letter " + item + " " + what);
        if (what == "stored") {
            const auto number = [&](const char* name) {
                return std::stoi(std::string(aio::detail::header_in(headers, name)));
            };
            const int sequence = number("Aio-Sequence"), deliveries = number("Aio-Deliveries");
            const aio::time_point now = aio::get_running_loop().time();
            const auto [at, is_new] = letters_.emplace(sequence, now);
            check(is_new || now - at->second >= duplicate_window, item + " is in the dead letters twice");
            if (!is_new) ++late_letters_;
            at->second = now;
            buried_.insert(item);
            burials_.emplace(item, deliveries);
            check(deliveries >= most_deliveries, item + " is in the dead letters too early");
        } else if (what == "acked") {
            check(
                letters_read_.count(item) > 0, "the dead letter " + item + " was acknowledged, and nobody has read it");
        }
    }
    /// A tenth of the items fails, whoever gets them.
    bool is_poison(const std::string& item) const { return buries_ && item.back() == '7'; }
    bool count_lost(const std::string& item) {
        return forgotten_.count(item) > 0 || uncounted_.count(item) > 0 || stored_[item] > 1;
    }
    aio::coro<> pause(std::uint64_t most_ms) {
        const std::chrono::milliseconds some(model_.below(most_ms) + 1);
        co_await aio::sleep(some);
    }

    // ---- producers and consumers

    aio::coro<> put(text_queue& q, std::string item) {
        aio::task<> t = aio::create_task(q.put(item));
        aio::callback_handle canceller;
        if (model_.chance(50)) {
            canceller = aio::get_running_loop().call_later(
                std::chrono::milliseconds(model_.below(200)), [t]() mutable { t.cancel(); });
        }
        const std::uint64_t unanswered = q.statistics().put_retries;
        bool nothing_put = true;
        try {
            co_await t;
            returned_.insert(item);
            nothing_put = false;
            check(stored_.count(item) > 0, "put() of " + item + " has returned, and it is not stored");
        } catch (const aio::cancelled_error&) {
        } catch (const aio::queue_shut_down&) {
            check(shut_, "put() throws queue_shut_down, and nobody has shut it down");
        } catch (const aio::timeout_error&) {
            note("put of " + item + " had no answer");
            nothing_put = false;
        }
        canceller.cancel();
        if (nothing_put && q.statistics().put_retries == unanswered) {
            check(stored_.count(item) == 0, "put() of " + item + " has put nothing, as it says, and it is stored");
        }
    }
    aio::coro<> produce(text_queue& q, std::size_t n) {
        for (int i = 0; i < items_each; ++i) {
            if (model_.chance(700)) co_await pause(600'000);  // else it comes with the one before
            std::string item = std::to_string(n) + "." + std::to_string(i);
            co_await put(q, std::move(item));
        }
    }

    aio::coro<> consume(text_queue& q) {
        while (!model_.chance(30)) {
            const std::string item = co_await q.get();
            const int times = q.delivery();
            // A delivery that was held up on its way may come behind a later one, but none comes twice.
            const bool again = !given_.emplace(item, times).second;
            check(!again || count_lost(item), item + " comes again, and is not marked");
            check(!buries_ || times <= most_deliveries || replicated_ || count_lost(item),
                item + " comes too often, and is not in the dead letters");
            // What was on its way when the servers forgot it may still come as the first time.
            const bool uncounted = uncounted_.count(item) > 0 || stored_[item] > 1;
            check(!again || times > 1 || uncounted, item + " was forgotten, comes again, and is not marked");
            if (model_.chance(50)) {
                co_await pause(200'000);  // longer than ack_wait
            } else {
                co_await pause(20'000);
            }
            const bool poison = is_poison(item);
            if (model_.chance(poison ? 500 : 50)) co_return;
            if (poison || model_.chance(50)) {
                const std::chrono::milliseconds rest(model_.below(30'000));
                q.retry_later(rest);
                continue;
            }
            processed_.insert(item);
            finished_.emplace(item, times);
            ++done_;
            jetstream::acknowledgement known = q.task_done();
            if (!model_.chance(100)) continue;
            try {
                co_await std::move(known);
                // Another message for the item may be left.
                check(gone_.count(item) > 0 || acked_[item] > 0,
                    item + " is known to be done, and the servers still have it");
            } catch (const aio::timeout_error&) { note(item + ": no server knows that it is done"); }
        }
        co_await q.get();  // and ends with it
    }
    aio::coro<> read_dead_letters(text_queue& q) {
        for (;;) {
            const std::string item = co_await q.get();
            co_await pause(20'000);
            check(buried_.count(item) > 0, item + " comes from the dead letters, and never went there");
            if (model_.chance(50)) {
                q.retry_later(1s);
                continue;
            }
            letters_read_.insert(item);
            q.task_done();
        }
    }
    /// A consumer that ends is followed by another one.
    aio::coro<> keep(text_queue& q) {
        for (;;) {
            aio::task<> t = aio::create_task(consume(q));
            aio::callback_handle canceller;
            if (model_.chance(100)) {
                canceller = aio::get_running_loop().call_later(
                    std::chrono::seconds(model_.below(7'200)), [t]() mutable { t.cancel(); });
            }
            bool shut = false;
            try {
                co_await t;
            } catch (const aio::cancelled_error&) {
                if (!t.done() || stopping_) throw;
            } catch (const aio::queue_shut_down&) { shut = true; }
            canceller.cancel();
            if (shut) break;
        }
        check(shut_, "get() throws queue_shut_down, and nobody has shut it down");
        check(gone_.size() >= stored_.size(), "get() says that nothing is left, and something is");
        ++ended_;
    }
    aio::coro<> join(text_queue& q) {
        const std::set<std::string> before = returned_;
        for (bool joined = false; !joined;) {
            try {
                co_await q.join();
                joined = true;
            } catch (const aio::timeout_error&) {
            } catch (const jetstream::error&) {}  // no server can say
        }
        for (const std::string& item : before) check(gone_.count(item) > 0, "join() has ended, and left " + item);
    }
    aio::coro<> join_dead_letters(text_queue& q) {
        co_await q.join();
        for (const std::string& item : buried_)
            check(letters_read_.count(item) > 0, "join() of the dead letters has ended, and left " + item);
    }
    aio::coro<> shut_down(text_queue& q) {
        for (bool known = false; !known;) {
            try {
                shut_ = true;
                co_await q.shutdown(seed_ % 3 == 1);
                known = true;
            } catch (const aio::timeout_error&) {
            } catch (const jetstream::error&) {}
            note("shutdown");
        }
    }

    // ---- faults

    aio::coro<> server_is_away(std::size_t server, bool killed) {
        note((killed ? "kills server " : "pauses server ") + std::to_string(server));
        killed ? model_.kill(server) : model_.pause(server);
        co_await pause(90'000);
        killed ? model_.start(server) : model_.go_on(server);
    }
    aio::coro<> disturb() {
        aio::background_tasks away;
        const auto end = aio::get_running_loop().time() + faulty_time;
        while (aio::get_running_loop().time() < end) {
            co_await pause(60'000);
            const std::size_t server = model_.below(3);
            switch (model_.below(6)) {
                case 0: away.create_task(server_is_away(server, true)); break;
                case 1: away.create_task(server_is_away(server, false)); break;
                case 2:
                    note("election");
                    model_.elect(std::chrono::milliseconds(model_.below(12'000)));
                    if (seed_ % 2 == 1) model_.forget();
                    break;
                case 3:
                    model_.freeze(model_.below(connections), std::chrono::milliseconds(model_.below(120'000)));
                    break;
                case 4: model_.cut(model_.below(connections)); break;
                default:
                    model_.how.cuts = static_cast<unsigned>(model_.below(10));
                    model_.how.lost_answers = static_cast<unsigned>(model_.below(50));
                    model_.how.lost_messages = static_cast<unsigned>(model_.below(500));
                    model_.how.latency = std::chrono::microseconds(model_.below(100'000));
            }
        }
        model_.how = {};
        co_await away.shutdown();
        for (std::size_t i = 0; i < 3; ++i) {
            model_.start(i);
            model_.go_on(i);
        }
        note("no fault from here on");
    }

    aio::coro<> hours_of_faults() {
        std::vector<text_queue*> queues, letters;
        constexpr jetstream::connect_options patient{.retry_first = true};
        for (std::size_t i = 0; i < connections; ++i) {
            auto& js = co_await aio::enter(jetstream::connect("nats://0,nats://1,nats://2", patient));
            jetstream::queue_options options{
                .maxsize = maxsize, .replicas = replicated_ ? 3 : 1, .prefetch = i % 4 == 0 ? 2U : 0U};
            if (buries_) {
                options.max_deliver = most_deliveries;
                options.dead_letters = "letters";
            }
            queues.push_back(&co_await aio::enter(js.queue<std::string>("work", options)));
            const jetstream::queue_options plain{};
            if (buries_ && letters.size() < of_dead_letters)
                letters.push_back(&co_await aio::enter(js.queue<std::string>("letters", plain)));
        }
        aio::background_tasks working, reading;
        for (text_queue* q : letters) reading.create_task(read_dead_letters(*q));
        for (std::size_t i = 0; i < consumers; ++i) working.create_task(keep(*queues[i % connections]));
        std::vector<aio::task<>> rest;
        for (std::size_t i = 0; i < producers; ++i) rest.push_back(aio::create_task(produce(*queues[i], i)));
        aio::task<> faults = aio::create_task(disturb());
        co_await aio::sleep(faulty_time - std::chrono::minutes(5));
        for (std::size_t i = 0; i < 3; ++i) rest.push_back(aio::create_task(join(*queues[connections - 1 - i])));
        if (seed_ % 3 != 2) co_await shut_down(*queues[seed_ % connections]);
        co_await faults;
        for (aio::task<>& t : rest) co_await t;
        co_await join(*queues[0]);
        if (seed_ % 3 != 2) {
            for (int minutes = 0; ended_ < consumers && minutes < 30; ++minutes)
                co_await aio::sleep(std::chrono::minutes(1));
            check(ended_ == consumers, std::to_string(consumers - ended_) + " get() hang after the shutdown");
        }
        if (buries_) co_await join_dead_letters(*letters[0]);
        stopping_ = true;
        co_await working.shutdown();
        co_await reading.shutdown();
        jetstream::queue_statistics sum{};
        for (const text_queue* q : queues) {
            const jetstream::queue_statistics s = q->statistics();
            sum.put += s.put;
            sum.received += s.received;
            sum.redelivered += s.redelivered;
            sum.acknowledged += s.acknowledged;
            sum.given_back += s.given_back;
            sum.dropped += s.dropped;
            sum.dead += s.dead;
            check(s.held == 0 && s.ready == 0 && s.tasks_getting == 0 && s.tasks_putting == 0, "a queue is not idle");
        }
        check(sum.put == returned_.size(), "statistics: put");
        check(sum.acknowledged == done_, "statistics: acknowledged");
        check(sum.redelivered <= sum.received, "statistics: redelivered");
        check(sum.received <= model_.find("work")->deliveries, "statistics: received");
        // What has come was done, given back, or dropped by an immediate shutdown.
        check(seed_ % 3 == 1 || sum.received == sum.acknowledged + sum.given_back + sum.dropped + sum.dead,
            "statistics: given back");
        check(sum.dead >= buried_.size(), "statistics: dead");
    }

    void balance() {
        check(model_.find("work")->size() == 0, "something is left");
        check(model_.find("work")->largest <= maxsize, "the queue was larger than maxsize");
        check(model_.peers() == 0, "a connection is left");
        for (const std::string& item : returned_) check(stored_.count(item) == 1, item + " is not stored");
        for (const auto& [item, times] : stored_) {
            check(processed_.count(item) + dropped_.count(item) + buried_.count(item) > 0, item + " is lost");
        }
        // An item is done and in the dead letters if the servers gave it again after the delivery that was done: its
        // process was cut off for ack_wait, or its acknowledgement was lost. One delivery never ends in both.
        for (const auto& [item, times] : finished_) {
            check(count_lost(item) || replicated_ || burials_.count({item, times}) == 0,
                item + " is done and in the dead letters, by the same delivery");
        }
        check(!buries_ || seed_ % 3 == 1 || !buried_.empty(), "nothing is in the dead letters");
        check(stored_.size() > 50, "too little has happened");
    }

    const std::uint64_t seed_;
    /// A queue with replicas may have two messages for an item, and still gives each item: queue_again.cpp.
    const bool replicated_ = seed_ % 4 == 2;
    /// Items that fail too often go to the dead letters.
    const bool buries_ = seed_ % 5 != 1;
    std::deque<std::string>& events_;  // the last ones
    nats_model model_;
    std::map<std::string, int> stored_, acked_;  // messages for each item
    std::set<std::pair<std::string, int>> given_;
    std::set<std::pair<std::string, int>> finished_, burials_;  // items, and the count of the delivery
    std::set<std::string> returned_, processed_, gone_, dropped_, buried_, letters_read_;
    std::map<int, aio::time_point> letters_;       // dead letters by the item's number: when it was stored last
    std::size_t late_letters_ = 0;                 // came once more after the duplicate_window
    std::set<std::string> forgotten_, uncounted_;  // by the servers: seeds that are odd
    std::uint64_t done_ = 0;
    std::size_t ended_ = 0;
    bool shut_ = false, stopping_ = false;
};

aio::coro<std::string> what_is_wrong(std::uint64_t seed, std::deque<std::string>& events, std::string& counts) {
    simulation s(seed, events);
    co_await aio::wait_for(s.run(), std::chrono::hours(24));
    counts = s.counts();
    co_return s.wrong;
}

/// Gives what was wrong, with the last events; empty if nothing was.
std::string simulate(std::uint64_t seed, std::string& counts) {
    std::deque<std::string> events;
    std::string wrong;
    try {
        wrong = aio::testing::run(
            what_is_wrong(seed, events, counts), {.seed = seed, .virtual_time = true, .debug = false});
    } catch (const std::exception& e) { wrong = e.what(); }  // a task that waits for ever is a deadlock_error
    if (wrong.empty()) return wrong;
    for (const std::string& event : events) wrong += "\n  " + event;
    return wrong;
}

}  // namespace

PLAIN_TEST("a thousand consumers, and hours of faults: the books balance") {
    const std::uint64_t first = from_environment("AIO_SIMULATION_FIRST", 0);
    const std::uint64_t seeds = from_environment("AIO_SIMULATION_SEEDS", AIO_TEST_SANITIZED ? 1 : 3);
    for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
        std::string counts;
        const std::string wrong = simulate(seed, counts);
        EXPECT_TRUE(wrong.empty()) << "seed " << seed << ": " << wrong;
        if (!wrong.empty()) break;
        if (seeds > 10) std::cout << "seed " << seed << " is right: " << counts << std::endl;
    }
}
