// As capturing_coroutine_lambda.cpp, with the lambda called on the spot.
#include "probe.hpp"

probe_task<int> probe() {
    witness w(1);
    const int got = co_await [w]() -> probe_task<int> { co_return w.value; }();
    co_return got;
}
