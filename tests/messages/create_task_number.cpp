// error: create_task() takes an awaitable, or a function and the arguments that it is called with
#include <aio/task.hpp>

void work() { aio::create_task(5); }
