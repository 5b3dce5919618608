// fault P10
// error: aiocxx needs clang 16 or later
// flags: -Wno-builtin-macro-redefined -U__clang_major__ -D__clang_major__=15
// only: clang
#include <aio/aio.hpp>
