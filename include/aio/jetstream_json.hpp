#pragma once
// Items of queues and values of buckets as JSON: whatever nlohmann's to_json() and from_json() know. A type with
// to_bytes() and from_bytes() of its own keeps them.
//
//     auto& q = co_await aio::enter(js.queue<nlohmann::json>("orders"));
//     nlohmann::json order = {{"number", 7}};
//     co_await q.put(order);

#include <aio/detail/base/platform.hpp>

#include <aio/jetstream/codec.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

/// decode() throws nlohmann's errors for bytes that are no JSON, or not of the type.
template<class T>
    requires(!std::is_same_v<T, std::string> && !aio::jetstream::has_to_bytes<T> &&
        std::is_constructible_v<nlohmann::json, const T&>)
struct aio::jetstream::codec<T> {
    static std::string encode(const T& value) { return nlohmann::json(value).dump(); }
    static T decode(std::string_view bytes) { return nlohmann::json::parse(bytes).template get<T>(); }
};
