// Follows a log that grows and is rotated, and counts its lines by level. Every few seconds, and at the end, it prints
// the counts.
//
//     follow_log FILE [SECONDS]
//
// It needs aio::core. Ctrl-C ends it.

#include <aio/aio.hpp>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

using namespace std::chrono_literals;

namespace {

std::string level_of(const std::string& line) {
    for (const char* level : {"ERROR", "WARN", "INFO", "DEBUG"}) {
        if (line.find(level) != std::string::npos) return level;
    }
    return "other";
}

void print(const std::map<std::string, int>& counts) {
    std::string text;
    for (const auto& [level, count] : counts) text += level + " " + std::to_string(count) + "  ";
    std::printf("%s\n", text.empty() ? "nothing yet" : text.c_str());
    std::fflush(stdout);
}

aio::coro<> count(std::string path, std::map<std::string, int>& counts) {
    auto lines = aio::follow_lines(path, {.from_start = true});  // (1)
    while (auto line = co_await lines.next()) { ++counts[level_of(*line)]; }
}

aio::coro<> print_every(aio::delay period, const std::map<std::string, int>& counts) {
    auto ticks = aio::interval(period);
    while (co_await ticks.next()) { print(counts); }  // (2)
}

aio::coro<> async_main(std::string path, aio::delay period) {
    std::map<std::string, int> counts;
    auto at_the_end = aio::finally([&] { print(counts); });  // (3)
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        tg.create_task(count(path, counts));
        tg.create_task(print_every(period, counts));
    });
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: follow_log FILE [SECONDS]\n");
        return 2;
    }
    const double seconds = argc > 2 ? std::atof(argv[2]) : 5;
    return aio::run_main(async_main(argv[1], std::chrono::duration<double>(seconds)));
}

// (1) Gives what the file has already, waits for more, and goes on in the new file after a rotation. The kernel
// tells of changes: nothing polls. (2) Two tasks use `counts`, without a lock: they run on one thread, and no co_await
// stands between reading and writing it. (3) The group has ended by then, so nobody counts any more.
