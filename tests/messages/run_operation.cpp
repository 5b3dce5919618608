// error: run() takes a coroutine
#include <aio/run.hpp>
#include <aio/sleep.hpp>

using namespace std::chrono_literals;

int main() { aio::run(aio::sleep(1s)); }
