// The tests of queue, each over shared_queue: on one loop both keep the same rules.
#include <aio/shared_queue.hpp>

// The tests' coroutines have types of the unnamed namespace, of which g++ warns where a file is included.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wsubobject-linkage"
#endif

#define AIO_TEST_SHARED_QUEUE
#include "../sync/queue_test.cpp"
