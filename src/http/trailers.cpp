// The fields behind the body of a response. A recipient may merge trailers into the header, or drop them, so what
// decides how a message is read must not be one of them (RFC 9110, 6.5.1). The list follows Go's net/http.

#include "http/access.hpp"
#include "http/body.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace aio::inline v0::detail {

namespace {

bool may_come_last(std::string_view name) noexcept {
    static constexpr std::array<std::string_view, 25> first = {"Age", "Authorization", "Cache-Control", "Connection",
        "Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "Date", "Expect", "Expires", "Host",
        "Keep-Alive", "Location", "Max-Forwards", "Pragma", "Proxy-Authenticate", "Proxy-Connection", "Range",
        "Set-Cookie", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "WWW-Authenticate"};
    return std::none_of(first.begin(), first.end(), [&](std::string_view f) { return equal_ignoring_case(f, name); });
}

void check(const http::headers& trailers) {
    for (const auto& [name, value] : trailers) {
        if (!may_come_last(name))
            throw std::invalid_argument("http::response: " + name + " cannot be a trailer, because it comes too late");
    }
}

}  // namespace

bool http_may_have_trailers(const http::response& r) noexcept {
    if (!r.trailers().empty()) return true;
    const http_special_body* const special = http_access::special(r);
    return special && special->trailers;
}

void http_check_trailers(const http::response& r) { check(r.trailers()); }

void http_take_trailers(http::response& r) {
    const http_special_body* const special = http_access::special(r).get();
    if (!special || !special->trailers) return;
    check(*special->trailers);
    for (const auto& [name, value] : *special->trailers) http_access::append(r.trailers(), name, value);
}

}  // namespace aio::inline v0::detail
