// Shows that a jetstream::queue loses and doubles nothing while things die. Three servers run as a cluster; producers
// and consumers are processes of this same program. For the given time servers are killed with -9, stopped, and cut off
// from the others, and workers are killed in the middle of a put or of an item, and started again. At the end every
// item is accounted for: chaos_tally.hpp. The exit status is 0 only if all is as it has to be.
//
//     chaos [SECONDS [ITEMS [SEED [KINDS]]]]      0 seconds: a short one, one fault of each kind
//
// KINDS are the faults of servers: k(illed with -9), s(topped), c(ut off), h(eld back: cut off without a word).
#include "chaos_tally.hpp"
#include "faulty_proxy.hpp"
#include "nats_servers.hpp"

#include <nlohmann/json.hpp>

#include <sys/prctl.h>

using namespace aio_test;
using namespace chaos;

namespace {

constexpr int producers = 4;
constexpr int consumers = 3;

/// A process of this program, which dies with it.
class worker {
public:
    explicit worker(orders o) : orders_(std::move(o)) {}
    worker(worker&&) = delete;
    ~worker() { kill(); }
    void start() {
        std::vector<std::string> words = orders_.words();
        words.insert(words.begin(), {"/proc/self/exe", "work"});
        std::vector<char*> argv;
        for (std::string& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        AIO_REQUIRE(::posix_spawn(&pid_, argv[0], nullptr, nullptr, argv.data(), environ) == 0);
    }
    /// Kills it with -9. False if it had ended by itself.
    bool kill() {
        if (pid_ == 0) return false;
        ::kill(pid_, SIGKILL);
        int status = 0;
        ::waitpid(std::exchange(pid_, 0), &status, 0);
        note(status);
        return WIFSIGNALED(status);
    }
    bool running() {
        int status = 0;
        if (pid_ == 0 || ::waitpid(pid_, &status, WNOHANG) == 0) return pid_ != 0;
        pid_ = 0;
        note(status);
        return false;
    }
    /// Whether it was killed in the middle of a put, or of an item. What it has not ended may be ended by others.
    bool died_in_the_middle() {
        const bool puts = orders_.role == "produce";
        const std::size_t ended = deliveries_in({orders_.journal}, puts ? "s" : "a").size();
        const std::size_t open = deliveries_in({orders_.journal}, puts ? "b" : "g").size() - ended;
        return open > (puts ? 0 : std::exchange(left_open_, open));
    }
    const std::string& journal_path() const { return orders_.journal; }
    bool finished() const { return finished_; }
    std::size_t failed() const { return failed_; }

private:
    void note(int status) {
        if (WIFEXITED(status)) (WEXITSTATUS(status) == 0 ? finished_ : failing_) = true;
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0) ++failed_;
    }
    orders orders_;
    pid_t pid_ = 0;
    bool finished_ = false, failing_ = false;
    std::size_t failed_ = 0, left_open_ = 0;
};

struct counts {
    int killed = 0, stopped = 0, cut = 0, held = 0;
    int consumers_killed = 0, in_mid_item = 0, producers_killed = 0, in_mid_put = 0;
};

class controller {
public:
    controller(double seconds, int items, unsigned seed, std::string kinds)
        : seconds_(seconds), kinds_(std::move(kinds)), per_producer_(items / producers), random_(seed) {
        open_.resize(3);
        for (std::size_t i = 0; i < 3; ++i) {
            open_[i] = std::make_unique<aio::event>();
            open_[i]->set();
            proxies_.push_back(std::make_unique<faulty_proxy>("127.0.0.1", cluster_.route_port(i == 0 ? 1 : 2)));
            proxies_[i]->plan = [hold = open_[i].get()](std::size_t) {
                faulty_proxy::faults f;
                f.hold_to_server = f.hold_to_client = hold;
                f.reset = true;
                return f;
            };
            cluster_[i].time_limit = static_cast<int>(seconds) + 600;
        }
    }

    aio::coro<bool> run() {
        std::vector<std::uint16_t> ports;
        for (auto& proxy : proxies_) {
            co_await aio::enter(std::ref(*proxy));
            ports.push_back(static_cast<std::uint16_t>(proxy->port()));
        }
        cluster_.route_through(ports);
        cluster_.extra = "debug: true";  // then the logs tell what is refused
        co_await cluster_.start();
        auto talk = [this](jetstream::connection& js) -> aio::coro<> {
            co_await aio::with(js.queue<std::string>(queue_name, queue_options),
                [this, &js](text_queue& q) { return torment(js, q); });
        };
        co_await aio::with(jetstream::connect(cluster_.urls(), patient), talk);
        for (auto& one : workers_) one->kill();
        if (is_short()) outages_.push_back({begin_, now()});  // leaders change on a loaded machine without a fault, too
        tally t;
        t.stored = stored_;
        t.copies_differ = copies_differ_;
        t.kept = kept_;
        t.dead = dead_;
        std::vector<std::string> put, got;
        for (std::size_t i = 0; i < workers_.size(); ++i) {
            (i < producers ? put : got).push_back(workers_[i]->journal_path());
            t.failed_workers += workers_[i]->failed();
        }
        read_journals(t, put, per_producer_, got, outages_, leaders_);
        // The servers' logs tell what they have refused, and when one has thrown its copy of the stream away.
        for (std::size_t i = 0; i < 3; ++i) {
            std::ifstream log(cluster_[i].log());
            for (std::string line; std::getline(log, line);) {
                if (line.find("Resetting stream") != std::string::npos) ++t.resets;
                if (line.find("got error processing message") != std::string::npos) ++t.refused;
            }
        }
        print(t);
        const counts& n = n_;
        std::printf("  servers: %d killed with -9, %d stopped, %d cut off, %d cut off silently\n", n.killed, n.stopped,
            n.cut, n.held);
        std::printf("  consumers: %d killed with -9, %d of them in mid item; producers: %d killed, %d in mid put\n",
            n.consumers_killed, n.in_mid_item, n.producers_killed, n.in_mid_put);
        co_return t.holds();
    }

private:
    int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
    bool time_is_up() const { return now() >= end_; }
    bool is_short() const { return seconds_ <= 0; }

    aio::coro<> torment(jetstream::connection& js, text_queue& q) {
        begin_ = now();
        const double spread = is_short() ? 4 : seconds_;
        end_ = begin_ + static_cast<std::int64_t>(seconds_ * 1e9);
        for (int i = 0; i < producers + consumers; ++i) {
            const bool puts = i < producers;
            orders o{puts ? "produce" : "consume", cluster_.urls(), place_.path("journal" + std::to_string(i)), i,
                per_producer_, begin_, spread};
            workers_.push_back(std::make_unique<worker>(std::move(o)));
            workers_.back()->start();
        }
        auto both = [&](aio::task_group& tasks) {
            tasks.create_task(torment_servers(js));
            tasks.create_task(torment_workers());
        };
        aio::background_tasks watching;
        watching.create_task(watch_leader(js));
        aio::task_group tasks;
        co_await aio::with(tasks, both);
        std::printf("  the faults are over after %.1f s\n", since_begin());
        co_await finish(js, q);
        co_await watching.shutdown();
    }

    /// Notes who leads the stream, so that a loss can be explained.
    aio::coro<> watch_leader(jetstream::connection& js) {
        const std::string question = std::string("$JS.API.STREAM.INFO.") + queue_name;
        for (;; co_await aio::sleep(200ms)) {
            nlohmann::json said;
            try {
                const jetstream::message m = co_await js.request(question, "", {.timeout = 1s});
                said = nlohmann::json::parse(m.data, nullptr, false);
            } catch (const aio::timeout_error&) {
            } catch (const jetstream::error&) {}
            if (!said.is_object() || !said.contains("cluster")) continue;
            const std::string name = said["cluster"].value("leader", "");
            if (leaders_.empty() || leaders_.back().name != name) leaders_.push_back({now(), name});
        }
    }

    double since_begin() const { return static_cast<double>(now() - begin_) / 1e9; }

    /// Waits until all is done, and asks the servers what there was.
    aio::coro<> finish(jetstream::connection& js, text_queue& q) {
        for (int i = 0; i < producers; ++i) {
            worker& one = *workers_[static_cast<std::size_t>(i)];
            while (!one.finished()) {
                if (!one.running() && !one.finished()) one.start();
                co_await aio::sleep(10ms);
                AIO_REQUIRE(since_begin() < seconds_ + 250);
            }
        }
        std::printf("  the producers have put all after %.1f s\n", since_begin());
        try {
            co_await aio::wait_for(q.join(), 150s);
            std::printf("  the consumers have done all after %.1f s\n", since_begin());
        } catch (const aio::timeout_error&) { std::puts("  join() has waited for 150 s, and not ended"); }
        kept_ = static_cast<std::int64_t>(co_await q.size());
        auto count_dead = [this](text_queue& dead) -> aio::coro<> {
            dead_ = static_cast<std::int64_t>(co_await dead.size());
        };
        co_await aio::with(js.queue<std::string>(dead_name), count_dead);
        // Each server is asked how many messages its own copy has ever had; one may still be behind.
        for (int tries = 0; tries < 300; ++tries) {
            copies_differ_ = false;
            for (std::size_t i = 0; i < 3; ++i) {
                const std::string said = co_await cluster_[i].streams();
                const std::int64_t last = last_sequence(said);
                if (i > 0 && last != stored_) copies_differ_ = true;
                stored_ = i == 0 ? last : std::min(stored_, last);
            }
            if (!copies_differ_) co_return;
            co_await aio::sleep(100ms);
        }
        if (is_short() && !settled_) copies_differ_ = false;  // one may be behind for minutes on a loaded machine
    }

    // ---- servers: one fault at a time, and the next one when all three have caught up

    aio::coro<> torment_servers(jetstream::connection& js) {
        const auto many = static_cast<int>(kinds_.size());
        for (int turn = 0; is_short() ? turn < many : !time_is_up(); ++turn) {
            co_await aio::sleep(std::chrono::milliseconds(300 + below(1000)));
            const std::int64_t from = now();
            const auto who = static_cast<std::size_t>(below(3));
            const auto away = std::chrono::milliseconds(is_short() ? 700 : 200 + below(6000));
            const int kind = is_short() ? turn : below(many);
            switch (kinds_[static_cast<std::size_t>(kind)]) {
                case 'k': co_await kill_server(who, away); break;
                case 's': co_await stop_server(who, away); break;
                case 'c': co_await cut_off(who, away, true); break;
                default: co_await cut_off(who, away, false);
            }
            const bool settled = co_await until_settled(js);
            outages_.push_back({from, now()});
            settled_ = settled;
            if (!settled) co_return;
        }
    }
    /// Waits until all three have said, again and again, that they have all. A leader that has just lost the others
    /// says so, too, for a moment; and a second loss before they have all is more than a cluster of three survives.
    /// False if they do not catch up for a minute after the time of the faults.
    aio::coro<bool> until_settled(jetstream::connection& js) {
        const std::int64_t enough = now() + (is_short() ? 1'000'000'000 : 6'000'000'000);
        for (int current = 0; current < 5 || now() < enough;) {
            co_await aio::sleep(100ms);
            const bool all = co_await is_current(js, queue_name);
            if (all) ++current;
            if (since_begin() > seconds_ + 60) {
                std::puts("  a server has not caught up with the others: that was the last fault");
                co_return false;
            }
        }
        co_return true;
    }
    static std::int64_t last_sequence(const std::string& said) {
        const nlohmann::json all = nlohmann::json::parse(said);
        for (const nlohmann::json& stream : all.at("account_details").at(0).at("stream_detail")) {
            if (stream.at("name") == queue_name) return stream.at("state").at("last_seq");
        }
        throw std::runtime_error("a server has no copy of the stream");
    }
    aio::coro<> kill_server(std::size_t who, std::chrono::milliseconds away) {
        ++n_.killed;
        cluster_[who].kill();
        co_await aio::sleep(away);
        co_await cluster_[who].start();
    }
    aio::coro<> stop_server(std::size_t who, std::chrono::milliseconds away) {
        ++n_.stopped;
        cluster_[who].pause();
        co_await aio::sleep(away);
        cluster_[who].go_on();
    }
    /// Cuts a server off from the other two: with a reset of the connections, or so that the bytes are only held back,
    /// and come late.
    aio::coro<> cut_off(std::size_t who, std::chrono::milliseconds away, bool reset) {
        ++(reset ? n_.cut : n_.held);
        for (std::size_t i = 0; i < 3; ++i) {
            if (i == 2 - who) continue;  // the way between the other two
            open_[i]->clear();
            if (reset) proxies_[i]->cut();
        }
        co_await aio::sleep(away);
        for (auto& way : open_) way->set();
    }

    // ---- workers: at any time

    aio::coro<> torment_workers() {
        for (int turn = 0; is_short() ? turn < 4 : !time_is_up(); ++turn) {
            co_await aio::sleep(std::chrono::milliseconds(100 + below(900)));
            const bool puts = is_short() ? turn % 2 == 0 : below(2) == 0;
            const int number = puts ? below(producers) : producers + below(consumers);
            worker& one = *workers_[static_cast<std::size_t>(number)];
            if (one.finished() || !one.kill()) continue;
            const bool in_the_middle = one.died_in_the_middle();
            ++(puts ? n_.producers_killed : n_.consumers_killed);
            if (in_the_middle) ++(puts ? n_.in_mid_put : n_.in_mid_item);
            co_await aio::sleep(std::chrono::milliseconds(below(500)));
            one.start();
        }
    }

    const double seconds_;
    const std::string kinds_;
    const int per_producer_;
    std::minstd_rand random_;
    folder place_;
    nats_cluster cluster_;
    std::vector<std::unique_ptr<aio::event>> open_;  // of each way between two servers
    std::vector<std::unique_ptr<faulty_proxy>> proxies_;
    std::vector<std::unique_ptr<worker>> workers_;
    std::vector<outage> outages_;
    std::vector<leader> leaders_;
    counts n_;
    std::int64_t begin_ = 0, end_ = 0;
    std::int64_t stored_ = 0, kept_ = 0, dead_ = 0;
    bool copies_differ_ = false, settled_ = true;
};

int work_as_told(char** words) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
        aio::run(work(orders::read(words)));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "chaos: %s: %s\n", words[0], e.what());
        return 1;
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 9 && std::string(argv[1]) == "work") return work_as_told(argv + 2);
    if (std::system("PATH=$PATH:/usr/sbin; command -v nats-server >/dev/null") != 0) {
        std::puts("nats-server is not installed");
        return 77;
    }
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const double seconds = argc > 1 ? std::atof(argv[1]) : 0;
    const int items = (argc > 2 ? std::atoi(argv[2]) : 3000) / producers * producers;
    const unsigned seed = argc > 3 ? static_cast<unsigned>(std::atoi(argv[3])) : 1;
    std::printf("chaos, seed %u: %d items, 3 replicas, faults for %.0f s\n", seed, items, seconds);
    try {
        const std::string kinds = argc > 4 ? argv[4] : "schk";
        controller chaos_of(seconds, items, seed, kinds);
        bool holds = false;
        auto all = [&]() -> aio::coro<> { holds = co_await chaos_of.run(); };
        aio::run(all());
        std::puts(holds ? "every item is accounted for" : "NOT every item is accounted for");
        return holds ? 0 : 1;
    } catch (const std::exception& e) {
        std::printf("chaos: %s\n", e.what());
        return 1;
    }
}
