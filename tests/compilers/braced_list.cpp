// A braced list that fills a container: g++ 12 does not compile it.
#include "probe.hpp"

#include <vector>

probe_task<int> take(std::vector<std::string> words) { co_return static_cast<int>(words.size()) - 1; }
probe_task<int> probe() {
    const int got = co_await take({"a", "b"});
    co_return got;
}
