// fault P10
// error: aiocxx refuses g++ 12
// flags: -UAIO_ALLOW_GCC_12 -U__GNUC__ -D__GNUC__=12
// only: g++
#include <aio/aio.hpp>
