// A co_await in the condition of an if with braces, and of a while with a declaration.
#include "probe.hpp"

probe_task<int> count_down(int& n) { co_return n--; }
probe_task<int> probe() {
    int n = 3, rounds = 0;
    while (const int left = co_await count_down(n)) {
        witness w(left);
        rounds += w.value;
    }
    if (co_await count_down(n) < 0) {
        witness w;
        co_return rounds == 6 ? 1 : 0;
    }
    co_return 0;
}
