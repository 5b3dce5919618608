// core_workload NAME OPERATIONS [FILE]: runs one workload once (W1, W2, ...; see workloads.hpp) and prints its wall and
// processor time and, of W6a, the memory of a task, as JSON. callgrind and the comparison with other runtimes
// (peers/compare.py) use it.

#include "workloads.hpp"

#include <cstring>
#include <ctime>

namespace {

/// The processor time of all threads of this process.
double cpu_seconds() {
    timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::string_view short_name(const workloads::workload& w) { return {w.name, std::strcspn(w.name, "_")}; }

int usage() {
    std::fputs(
        "usage: core_workload NAME OPERATIONS [FILE]\n  NAME: W6a, W10, W10t (with the certificate in "
        "the folder FILE), W12 (of FILE, which has OPERATIONS lines), tail (OPERATIONS milliseconds)",
        stderr);
    for (const workloads::workload& w : workloads::all)
        std::fprintf(stderr, ", %.*s", static_cast<int>(short_name(w).size()), w.name);
    std::fputs("\n  W1 rounds OPERATIONS down to a multiple of 1000; W5, W7r, W10 and W10t, of 100\n", stderr);
    return 2;
}

void print_tail(const workloads::lateness& found) {
    const auto& us = found.sorted_us;
    const auto at = [&](double share) {
        return us[std::min(us.size() - 1, static_cast<std::size_t>(static_cast<double>(us.size()) * share))];
    };
    std::printf(
        ", \"ticks\": %zu, \"yields\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f",
        us.size(), found.yields, at(0.5), at(0.99), at(0.999), us.back());
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3 && argc != 4) return usage();
    const std::string_view name = argv[1];
    std::size_t operations = std::strtoull(argv[2], nullptr, 10);
    if (name == "W1") operations = operations / 1000 * 1000;
    if (name == "W2") operations = operations / 2 * 2;
    if (name == "W5" || name == "W7r" || name == "W10" || name == "W10t") operations = operations / 100 * 100;
    if (operations == 0 || (name == "W12" || name == "W10t") != (argc == 4)) return usage();

    double bytes_per_task = 0;
    std::size_t bytes = 0;
    workloads::lateness late;
    const workloads::workload* found = nullptr;
    for (const workloads::workload& w : workloads::all)
        if (name == short_name(w)) found = &w;

    double cpu_start = cpu_seconds();
    auto start = std::chrono::steady_clock::now();
    if (found) {
        aio::run(found->run(operations));
    } else if (name == "W6a") {
        bytes_per_task = aio::run(workloads::sleepers(operations));
    } else if (name == "W10") {
        aio::run(workloads::echo(operations));
    } else if (name == "W10t") {
        auto started = [&] {
            cpu_start = cpu_seconds();
            start = std::chrono::steady_clock::now();
        };
        aio::run(workloads::secure_echo(operations, argv[3], started));
    } else if (name == "W12") {
        bytes = aio::run(workloads::read_lines(argv[3], operations));
    } else if (name == "tail") {
        late = aio::run(workloads::tail(operations));
    } else {
        return usage();
    }
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double cpu = cpu_seconds() - cpu_start;

    std::printf(
        "{\"workload\": \"%s\", \"operations\": %zu, \"seconds\": %.9f, \"cpu_seconds\": %.9f, \"bytes_per_task\": "
        "%.1f",
        argv[1], operations, wall, cpu, bytes_per_task);
    if (bytes) std::printf(", \"bytes\": %zu", bytes);
    if (!late.sorted_us.empty()) print_tail(late);
    std::puts("}");
}
