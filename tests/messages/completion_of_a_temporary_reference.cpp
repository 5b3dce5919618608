// error: the T of a completion<T> cannot be made of these arguments of complete()
#include <aio/lowlevel.hpp>

void done(const aio::lowlevel::completion_handle<int&>& h) { h.complete(5); }
