// A named aggregate whose initialiser awaits, in its braces.
#include "probe.hpp"

struct options {
    witness w;
    int n = 0;
};
probe_task<int> number(int n) { co_return n; }
probe_task<int> probe() {
    const options o{.w = witness(1), .n = co_await number(0)};
    co_return o.w.value + o.n;
}
