// fault P10
// error: aiocxx needs std::stop_token, which this libc++ does not have
// flags: -I@folder@/old_libcpp
#include <aio/aio.hpp>
