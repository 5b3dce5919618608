// A co_await in each branch of a conditional expression.
#include "probe.hpp"

probe_task<int> give(witness w) { co_return w.value; }
probe_task<int> probe() {
    const bool yes = witness::alive == 0;
    const int got = yes ? co_await give(witness(1)) : co_await give(witness(5));
    co_return got;
}
