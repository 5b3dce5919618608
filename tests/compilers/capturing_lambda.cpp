// A lambda that captures by value something with a destructor: g++ 12 destroys the capture twice (PR99576, PR101367).
#include "probe.hpp"

template<class F>
probe_task<int> call(F fn) {
    co_return fn();
}
probe_task<int> probe() {
    witness w(1);
    const int got = co_await call([w] { return w.value; });
    co_return got;
}
