// request::param(): the values stand in the request, the pattern in its route.

#include "http/app/route.hpp"

namespace aio::inline v0::http {

const std::string& request::param(std::string_view name) const {
    for (std::size_t i = params_.size(); i > 0; --i) {  // the innermost router's parameters are the last ones
        if (params_[i - 1].first == name) return params_[i - 1].second;
    }
    const std::string where = route_ ? "the pattern \"" + route_->pattern + "\"" : "a request without a route";
    throw std::out_of_range("http::request: " + where + " has no parameter \"" + std::string(name) + "\"");
}

}  // namespace aio::inline v0::http
