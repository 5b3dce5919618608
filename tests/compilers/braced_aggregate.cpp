// As aggregate.cpp, with braces alone, without the name of the type.
#include "probe.hpp"

struct options {
    witness w;
    int n = 0;
};
probe_task<int> take(options o) { co_return o.w.value + o.n; }
probe_task<int> probe() {
    const int got = co_await take({witness(1), 0});
    co_return got;
}
