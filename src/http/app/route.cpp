// request::param(): the values stand in the request, the pattern in its route.

#include "http/app/route.hpp"

namespace aio::http {

const std::string& request::param(std::string_view name) const {
    for (const auto& [known, value] : params_) {
        if (known == name) return value;
    }
    const std::string where = route_ ? "the pattern \"" + route_->pattern + "\"" : "a request without a route";
    throw std::out_of_range("http::request: " + where + " has no parameter \"" + std::string(name) + "\"");
}

}  // namespace aio::http
