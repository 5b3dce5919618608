// A trivially destructible aggregate from braces, as the library's options are.
#include "probe.hpp"

struct options {
    int limit = 0;
    bool strict = false;
};
probe_task<int> take(options o) { co_return o.strict ? o.limit : 0; }
probe_task<int> probe() {
    const int got = co_await take({.limit = 1, .strict = true});
    co_return got;
}
