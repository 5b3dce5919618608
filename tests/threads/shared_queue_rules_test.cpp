// The tests of queue, each over shared_queue: on one loop both keep the same rules.
#include <aio/shared_queue.hpp>

#define AIO_TEST_SHARED_QUEUE
#include "../sync/queue_test.cpp"
