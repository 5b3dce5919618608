// fault P10
// error: aiocxx needs exceptions: compile without -fno-exceptions
// flags: -fno-exceptions
#include <aio/aio.hpp>
