// A co_await in the condition of an if without braces (PR106188).
#include "probe.hpp"

probe_task<int> two() { co_return 2; }
probe_task<int> probe() {
    if (co_await two() == 2) co_return 1;
    co_return 0;
}
