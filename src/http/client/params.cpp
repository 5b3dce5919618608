// The parameters of a URL's query, and the values of Authorization.

#include <aio/http/params.hpp>

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

std::string base64(std::string_view text) {
    constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t i = 0; i < text.size(); i += 3) {
        unsigned long group = 0;
        for (std::size_t j = i; j < i + 3; ++j)
            group = group << 8 | (j < text.size() ? static_cast<unsigned char>(text[j]) : 0u);
        for (std::size_t j = 0; j < 4; ++j) out += i + j <= text.size() ? digits[group >> (18 - 6 * j) & 63] : '=';
    }
    return out;
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
    return "Basic " + base64(std::string(user) + ":" + std::string(password));
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
