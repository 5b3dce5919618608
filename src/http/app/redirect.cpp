// response::redirect(). Characters that no URL may have are encoded. A backslash is one of them: browsers take it for a
// slash, so "/\host" would lead to another host.

#include <aio/http/message.hpp>

namespace aio::http {

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
            constexpr char digits[] = "0123456789ABCDEF";
            location.append(1, '%').append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
        }
    }
    return response(status, {}, http::headers("Location", location));
}

}  // namespace aio::http
