// fault P10
// error: aiocxx runs on Linux only
// flags: -U__linux__
#include <aio/aio.hpp>
