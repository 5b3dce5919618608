// The parameters of a URL's query, and the values of Authorization.

#include <aio/http/params.hpp>

#include "http/access.hpp"

#include <aio/http/authorization.hpp>

#include <cstddef>
#include <stdexcept>

namespace aio::http {

namespace {

// Encodes all but the unreserved characters (RFC 3986, 2.3).
void encode(std::string& out, std::string_view text) {
    constexpr char digits[] = "0123456789ABCDEF";
    for (const char c : text) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
            c == '.' || c == '_' || c == '~';
        if (plain) {
            out += c;
        } else {
            const auto byte = static_cast<unsigned char>(c);
            out += {'%', digits[byte >> 4], digits[byte & 15]};
        }
    }
}

}  // namespace

params& params::add(std::string_view name, std::string_view value) {
    std::string more = encoded_.empty() ? "" : "&";
    encode(more, name);
    more += '=';
    encode(more, value);
    encoded_ += more;
    return *this;
}

std::string basic(std::string_view user, std::string_view password) {
    if (user.find(':') != user.npos) throw std::invalid_argument("http::basic: there is a colon in the user's name");
    return "Basic " + detail::base64(std::string(user) + ":" + std::string(password));
}

std::string bearer(std::string_view token) {
    for (const char c : token) {
        if (c <= ' ' || c == 127)
            throw std::invalid_argument("http::bearer: there is a character in the token that no token has");
    }
    if (token.empty()) throw std::invalid_argument("http::bearer: the token is empty");
    return "Bearer " + std::string(token);
}

}  // namespace aio::http
