#pragma once
// More than one machine: NATS, and queues, buckets and locks over JetStream. This header brings all of aio::jetstream.
//
//     auto& js = co_await aio::enter(aio::jetstream::connect("nats://localhost:4222"));
//     co_await js.publish("greetings", "hello");

#include <aio/detail/base/platform.hpp>

#include <aio/jetstream/bucket.hpp>
#include <aio/jetstream/connection.hpp>
#include <aio/jetstream/error.hpp>
#include <aio/jetstream/lease_lock.hpp>
#include <aio/jetstream/message.hpp>
#include <aio/jetstream/queue.hpp>
