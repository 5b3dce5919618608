// As aggregate.cpp, with a parameter that is a const reference.
#include "probe.hpp"

struct options {
    witness w;
    int n = 0;
};
probe_task<int> take(const options& o) { co_return o.w.value + o.n; }
probe_task<int> probe() {
    const int got = co_await take(options{witness(1), 0});
    co_return got;
}
