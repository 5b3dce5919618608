#pragma once
// A route of http::router. A request that was routed refers to its route.

#include <aio/http/server.hpp>

#include <string>
#include <vector>

namespace aio::inline v0::detail {

struct http_route {
    std::string pattern;
    std::vector<std::string> names;  // of its parameters, in order
    http_handler handler;
};

}  // namespace aio::inline v0::detail
