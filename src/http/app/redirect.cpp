// response::redirect(). Characters that no URL may have are encoded. A backslash is one of them: browsers take it for a
// slash, so "/\host" would lead to another host.

#include <aio/http/message.hpp>

#include "http/target.hpp"

namespace aio::inline v0::http {

response response::redirect(std::string_view url, int status) {
    if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308) {
        throw std::invalid_argument(
            "http::response::redirect: " + std::to_string(status) + " is no status of a redirect");
    }
    constexpr std::string_view encoded = " \"<>\\^`{|}";
    std::string location;
    location.reserve(url.size());
    for (const char c : url) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < ' ' || byte == 0x7f)
            throw std::invalid_argument("http::response::redirect: the URL has a control character in it");
        if (byte < 0x80 && encoded.find(c) == encoded.npos) {
            location += c;
        } else {
            detail::percent_encode(c, location);
        }
    }
    return response(status, {}, http::headers("Location", location));
}

}  // namespace aio::inline v0::http
