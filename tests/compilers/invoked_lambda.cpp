// The same with a capturing lambda that is called on the spot.
#include "probe.hpp"

probe_task<int> probe() {
    witness w(1);
    const int got = co_await [w]() -> probe_task<int> { co_return w.value; }();
    co_return got;
}
