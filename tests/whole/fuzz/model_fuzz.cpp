// Runs the random programs of model.hpp from a fuzzer's bytes: the first two are the schedule, the rest is the program.

#include "model.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    model::choices decisions(data, size);
    const std::uint64_t schedule = decisions.number();
    const model::program p = model::generate(decisions);
    const std::string what = model::check(p, schedule);
    if (what.empty()) return 0;
    std::fprintf(stderr, "%s; schedule %llu of\n%s", what.c_str(), static_cast<unsigned long long>(schedule),
        model::to_string(p).c_str());
    const model::program smallest = model::shrink(p, [&](const model::program& smaller) {
        for (std::uint64_t s = schedule; s < schedule + 100; ++s) {
            if (!model::check(smaller, s).empty()) return true;
        }
        return false;
    });
    std::fprintf(stderr, "a small program that fails:\n%s", model::to_string(smallest).c_str());
    std::abort();
}
