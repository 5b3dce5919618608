// Checks thousands of random programs against the model of model.hpp. AIO_MODEL_SEEDS=N runs N of them,
// AIO_MODEL_FIRST=K begins at seed K.

#include "model.hpp"
#include "aio_test.hpp"
#include "planted.hpp"

#include <cstdlib>

namespace {

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* value = std::getenv(name);
    return value && *value ? std::strtoull(value, nullptr, 10) : otherwise;
}

constexpr std::uint64_t usual_seeds = AIO_TEST_SANITIZED ? 1'000 : 10'000;  // sanitizers make it some ten times slower

struct found {
    std::uint64_t seed = 0;
    std::string what;  // empty if nothing was wrong
    model::program smallest;
};

// Runs the program of each seed until one fails, and makes that one small.
template<class P>
found search(std::uint64_t first, std::uint64_t seeds) {
    for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
        model::choices decisions(seed);
        const model::program p = model::generate(decisions);
        found f;
        f.what = model::check<P>(p, seed);
        if (f.what.empty()) continue;
        f.seed = seed;
        // A smaller program has other schedules: any that fails will do.
        f.smallest = model::shrink(p, [&](const model::program& smaller) {
            for (std::uint64_t schedule = seed; schedule < seed + 100; ++schedule) {
                if (!model::check<P>(smaller, schedule).empty()) return true;
            }
            return false;
        });
        return f;
    }
    return {};
}

}  // namespace

PLAIN_TEST("random programs, cancelled at random, do what the model says") {
    const std::uint64_t first = from_environment("AIO_MODEL_FIRST", 0);
    const found f = search<model::primitives>(first, from_environment("AIO_MODEL_SEEDS", usual_seeds));
    EXPECT_EQ(f.what, "") << "seed " << f.seed << ", a small program that fails:\n" << model::to_string(f.smallest);
}

namespace {
struct with_forgetful_lock : model::primitives {
    using lock = planted::forgetful_lock;
};
}  // namespace

PLAIN_TEST("a lock that forgets to pass its wake-up on is found, by a small program") {
    const found f = search<with_forgetful_lock>(0, 10'000);
    EXPECT_TRUE(f.what == "a lock is free, and a task still waits for it" ||
        f.what.ends_with("got a lock before one that came first"))
        << "seed " << f.seed << ": " << f.what;
    EXPECT_LE(model::size(f.smallest), 10u) << model::to_string(f.smallest);
}
