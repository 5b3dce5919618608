#pragma once
// Calls the check of a fuzzer with a fixed sequence of inputs: seeds, mixed and damaged.

#include "aio_test.hpp"

#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace http_fuzz {

inline constexpr int inputs = AIO_TEST_SANITIZED ? 1500 : 6000;

// Gives a seed, or the head of one and the tail of another, with a few bytes changed, taken out, or put in twice.
inline std::string mutated(const std::vector<std::string>& seeds, std::mt19937& random) {
    const auto below = [&random](std::size_t n) { return n == 0 ? 0 : random() % n; };
    std::string text = seeds[below(seeds.size())];
    if (below(3) == 0) {
        const std::string& other = seeds[below(seeds.size())];
        text = text.substr(0, below(text.size() + 1)) + other.substr(below(other.size() + 1));
    }
    static constexpr std::string_view special(
        "\r\n\0 \t:;,/?#%@[]*=\x7f\xff\x80"
        "0aF+-.",
        26);
    for (std::size_t changes = below(4); changes > 0; --changes) {
        const std::size_t at = below(text.size());
        switch (below(4)) {
            case 0: text.insert(at, 1, special[below(special.size())]); break;
            case 1: text.erase(at, 1 + below(4)); break;
            case 2: text.insert(at, text.substr(at, below(20))); break;
            default:
                if (!text.empty()) text[at] = special[below(special.size())];
        }
    }
    return text.substr(0, 2000);
}

inline void replay(const std::vector<std::string>& seeds, std::string (*check)(std::string_view)) {
    std::mt19937 random(42);  // a fixed seed: the same inputs everywhere
    for (const std::string& seed : seeds) EXPECT_EQ(check(seed), "") << seed.substr(0, 300);
    for (int i = 0; i < inputs; ++i) {
        const std::string text = mutated(seeds, random);
        const std::string wrong = check(text);
        EXPECT_EQ(wrong, "") << "input " << i << ":\n" << text;
        if (!wrong.empty()) return;
    }
}

}  // namespace http_fuzz
