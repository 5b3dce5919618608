#pragma once
// The producers and consumers of chaos.cpp. Each is a process that may be killed at any time, and writes into a journal
// what it knows: the kernel has a line as soon as write() returns, so that a kill loses none.
//
// A producer's lines: "b NUMBER TIME" a put begins, "s NUMBER TIME" it is stored. A consumer's: "g ITEM DELIVERY TIME"
// it has got an item, "d ITEM DELIVERY TIME" it has worked on it, "a ITEM" the servers know that it is done. TIME is
// when it came.
#include <aio/aio.hpp>
#include <aio/jetstream.hpp>

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

namespace chaos {

using namespace std::chrono_literals;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

inline constexpr jetstream::connect_options patient{.connect_timeout = 1s,
    .reconnect_wait = 10ms,
    .max_reconnect_wait = 200ms,
    .request_timeout = 120s,  // the consumer may have no leader for a minute
    .ping_interval = 500ms,
    .retry_first = true};
inline constexpr const char* queue_name = "chaos";
inline constexpr const char* dead_name = "chaos-dead";
inline constexpr jetstream::queue_options queue_options{.replicas = 3,
    .ack_wait = 3s,
    .max_deliver = 100,
    .dead_letters = dead_name,
    .prefetch = 8,
    .duplicate_window = 10min};  // longer than any outage here

/// Nanoseconds of the clock that all processes of a machine share.
inline std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

/// What a worker is told on its command line.
struct orders {
    std::string role, urls, journal;
    int index = 0, count = 0;  // of a producer: its number, and how many items it puts
    std::int64_t begin = 0;    // when the items begin
    double seconds = 0;        // over how much time they are spread

    std::vector<std::string> words() const {
        return {role, urls, journal, std::to_string(index), std::to_string(count), std::to_string(begin),
            std::to_string(seconds)};
    }
    static orders read(char** argv) {
        return {
            argv[0], argv[1], argv[2], std::atoi(argv[3]), std::atoi(argv[4]), std::atoll(argv[5]), std::atof(argv[6])};
    }
};

class journal {
public:
    explicit journal(const std::string& path)
        : fd_(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)) {
        if (fd_ < 0) throw std::runtime_error("cannot open " + path);
    }
    journal(const journal&) = delete;
    journal& operator=(const journal&) = delete;
    ~journal() { ::close(fd_); }
    void line(const std::string& text) {
        const std::string whole = text + "\n";
        if (::write(fd_, whole.data(), whole.size()) != static_cast<ssize_t>(whole.size())) {
            throw std::runtime_error("cannot write a journal");
        }
    }

private:
    int fd_;
};

/// The numbers that a producer knows to be stored, and since when; or with "b" those that it began to put.
inline std::map<int, std::int64_t> numbers_in(const std::string& path, const std::string& kind) {
    std::map<int, std::int64_t> numbers;
    std::ifstream in(path);
    std::string word;
    int number = 0;
    std::int64_t time = 0;
    while (in >> word >> number >> time) {
        if (word == kind) numbers.emplace(number, time);
    }
    return numbers;
}

/// Puts one item after the other. Several tasks of a producer share `next`.
inline aio::coro<> put_items(text_queue& q, journal& log, const orders& o, const std::vector<int>& numbers,
    const std::map<int, std::int64_t>& begun, std::size_t& next) {
    while (next < numbers.size()) {
        const int number = numbers[next++];
        const auto due = o.begin + static_cast<std::int64_t>(o.seconds * 1e9 * number / o.count);
        if (due > now()) co_await aio::sleep(std::chrono::nanoseconds(due - now()));
        const std::string item = std::to_string(o.index) + ":" + std::to_string(number);
        log.line("b " + std::to_string(number) + " " + std::to_string(now()));
        bool again = begun.count(number) > 0;
        for (bool stored = false; !stored;) {
            try {
                const jetstream::put_options options{.id = item, .again = again};
                co_await q.put(item, options);
                stored = true;
            } catch (const aio::timeout_error&) {
                again = true;  // it may be stored, or not: it is put once more under the same identity
            }
        }
        log.line("s " + std::to_string(number) + " " + std::to_string(now()));
    }
}

inline aio::coro<> work_on_items(text_queue& q, journal& log) {
    std::minstd_rand random(static_cast<unsigned>(now()));
    for (;;) {
        const std::string item = co_await q.get();
        const std::string words = " " + item + " " + std::to_string(q.delivery()) + " " + std::to_string(now());
        if (q.id() != item) throw std::runtime_error("the id of " + item + " is " + q.id());
        log.line("g" + words);
        co_await aio::sleep(std::chrono::microseconds(random() % 3000));
        log.line("d" + words);
        try {
            co_await q.task_done();
            log.line("a " + item);
        } catch (const aio::timeout_error&) {
            // It comes again, to somebody.
        }
    }
}

inline aio::coro<> work(orders o) {
    journal log(o.journal);
    std::vector<int> numbers;
    std::map<int, std::int64_t> begun;  // by this producer, before it was killed
    std::size_t next = 0;
    if (o.role == "produce") {
        begun = numbers_in(o.journal, "b");
        const std::map<int, std::int64_t> stored = numbers_in(o.journal, "s");
        for (int i = 0; i < o.count; ++i) {
            if (stored.count(i) == 0) numbers.push_back(i);
        }
    }
    auto use = [&](text_queue& q) -> aio::coro<> {
        aio::task_group tasks;
        auto all = [&](aio::task_group& group) {
            for (int i = 0; i < 16; ++i) {
                if (o.role == "produce") {
                    group.create_task(put_items(q, log, o, numbers, begun, next));
                } else {
                    group.create_task(work_on_items(q, log));
                }
            }
        };
        co_await aio::with(tasks, all);
    };
    auto talk = [&](jetstream::connection& js) -> aio::coro<> {
        co_await aio::with(js.queue<std::string>(queue_name, queue_options), use);
    };
    co_await aio::with(jetstream::connect(o.urls, patient), talk);
}

}  // namespace chaos
