#pragma once
// JSON bodies: r.json() and request.json() give a nlohmann::json. No other header of the library includes nlohmann's.
//
//     #include <aio/http_json.hpp>
//
//     aio::http::response r = co_await s.get("https://example.org/packages.json");
//     nlohmann::json packages = r.json();
//     std::string first = packages[0]["name"];

#include <aio/detail/base/platform.hpp>

#include <aio/http.hpp>

#include <nlohmann/json.hpp>

#include <string>

template<>
struct aio::detail::http_json_reader<aio::detail::http_default_json> {
    static nlohmann::json read(const std::string& body) { return nlohmann::json::parse(body); }
};

template<class Value>
struct aio::detail::http_json_writer {
    static std::string write(const nlohmann::json& value) { return value.dump(); }
};
