// As capturing_lambda.cpp, with a lambda that is a coroutine itself.
#include "probe.hpp"

template<class F>
probe_task<int> call(F fn) {
    const int got = co_await fn();
    co_return got;
}
probe_task<int> probe() {
    witness w(1);
    const int got = co_await call([w]() -> probe_task<int> { co_return w.value; });
    co_return got;
}
