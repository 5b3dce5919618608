// core_workload NAME OPERATIONS: runs one workload once (W1, W2, ...; see workloads.hpp) and prints its wall and processor time and the
// memory it took, as JSON. For callgrind, and for the comparison with other runtimes.

#include "workloads.hpp"

#include <sys/resource.h>

#include <cstring>

namespace {

double seconds_of(const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; }

int usage() {
    std::fputs("usage: core_workload NAME OPERATIONS\n  NAME: W6a", stderr);
    for (const workloads::workload& w : workloads::all)
        std::fprintf(stderr, ", %.*s", static_cast<int>(std::strcspn(w.name, "_")), w.name);
    std::fputs("\n  W1 and W5 round OPERATIONS down, to a multiple of 1000 and 100\n", stderr);
    return 2;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return usage();
    const std::string_view name = argv[1];
    std::size_t operations = std::strtoull(argv[2], nullptr, 10);
    if (operations == 0) return usage();
    if (name == "W1") operations = operations / 1000 * 1000;
    if (name == "W5") operations = operations / 100 * 100;

    double bytes = 0;
    bool found = name == "W6a";
    const auto start = std::chrono::steady_clock::now();
    if (found) bytes = aio::run(workloads::sleepers(operations));
    for (const workloads::workload& w : workloads::all) {
        if (name != std::string_view(w.name, std::strcspn(w.name, "_"))) continue;
        found = true;
        aio::run(w.run(operations));
    }
    if (!found) return usage();
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    std::printf(
        "{\"workload\": \"%s\", \"operations\": %zu, \"seconds\": %.9f, \"cpu_seconds\": %.6f, \"bytes_per_task\": "
        "%.1f}\n",
        argv[1], operations, wall, seconds_of(used.ru_utime) + seconds_of(used.ru_stime), bytes);
}
