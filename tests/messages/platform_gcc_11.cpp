// fault P10
// error: aiocxx needs g++ 13 or later
// flags: -U__GNUC__ -D__GNUC__=11
// only: g++
#include <aio/aio.hpp>
