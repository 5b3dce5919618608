// fault P6
// error: should be marked with [[clang::coro_wrapper]]
// flags: -DAIO_CHECK_LIFETIMES
// only: clang
#include <aio/coro.hpp>

aio::coro<> greet(const std::string& name);

aio::coro<> wrapped(const std::string& name) { return greet(name); }
