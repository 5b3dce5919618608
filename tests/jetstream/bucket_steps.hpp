#pragma once
// What the tests of buckets have in common: a bucket on a server of its own, and the entries of a watch in words.
#include "nats_servers.hpp"

#include <string>

namespace aio_test {

using text_bucket = aio::jetstream::bucket<std::string>;

inline constexpr aio::jetstream::connect_options quick{.reconnect_wait = 5ms, .max_reconnect_wait = 50ms};

template<class Body>
aio::coro<> with_bucket(aio::jetstream::bucket_options options, Body body) {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    auto talk = [&](aio::jetstream::connection& js) -> aio::coro<> {
        auto use = [&](text_bucket& b) -> aio::coro<> { co_await body(server, js, b); };
        co_await aio::with(js.bucket<std::string>("prices", options), use);
    };
    co_await aio::with(aio::jetstream::connect(server.url(), quick), talk);
}

/// The next entry of a watch as text: "key=value", "-key", "|" for up_to_date.
inline aio::coro<std::string> next_of(aio::async_generator<aio::jetstream::entry<std::string>>& watch) {
    auto e = co_await watch.next();
    std::string text = "end";
    if (e) {
        switch (e->kind) {
            case aio::jetstream::entry_kind::value: text = e->key + "=" + *e->value; break;
            case aio::jetstream::entry_kind::erased: text = "-" + e->key; break;
            case aio::jetstream::entry_kind::up_to_date: text = "|"; break;
        }
    }
    co_return text;
}

}  // namespace aio_test
