// The parameters of a URL's query, and the values of Authorization.

#include <aio/http/params.hpp>

#include "http/access.hpp"
#include "http/target.hpp"

#include <aio/http/authorization.hpp>

#include <stdexcept>

namespace aio::inline v0::http {

params& params::add(std::string_view name, std::string_view value) {
    std::string more = encoded_.empty() ? "" : "&";
    detail::percent_encode(name, more);
    more += '=';
    detail::percent_encode(value, more);
    encoded_ += more;
    return *this;
}

std::string basic(std::string_view user, std::string_view password) {
    if (user.find(':') != user.npos) throw std::invalid_argument("http::basic: there is a colon in the user's name");
    return "Basic " + detail::base64(std::string(user) + ":" + std::string(password));
}

std::string bearer(std::string_view token) {
    for (const char c : token) {
        if (c <= ' ' || c > '~')  // a char above 127 is negative, or above '~'
            throw std::invalid_argument("http::bearer: there is a character in the token that no token has");
    }
    if (token.empty()) throw std::invalid_argument("http::bearer: the token is empty");
    return "Bearer " + std::string(token);
}

}  // namespace aio::inline v0::http
