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
struct aio::detail::http_json_text<aio::detail::include_aio_http_json_hpp> {
    using value_type = nlohmann::json;
    static value_type read(const std::string& body) { return value_type::parse(body); }
    static value_type read_request(const std::string& body) {
        try {
            return value_type::parse(body);
        } catch (const value_type::exception& e) {
            std::string why = e.what();  // quotes the client's bytes, which may be no UTF-8
            for (char& c : why) {
                if (static_cast<unsigned char>(c) > 126) c = '?';
            }
            throw http::refusal(400, "the body is not JSON: " + why + '\n');
        }
    }
    static std::string write(const value_type& value) { return value.dump(); }
};
