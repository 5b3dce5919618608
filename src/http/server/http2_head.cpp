// What nghttp2 leaves to us of a request's head: nghttp2 refuses names and values that are none, pseudo-header fields
// that are missing, repeated or late, the fields of connections (Connection, Transfer-Encoding and the like), and a
// body that has not the length of its Content-Length. Here a request has one host, whether it is called :authority or
// Host, a target as HTTP/1 has it, and a limited size; a Cookie that was sent in parts is joined (RFC 9113, 8.2.3).

#include "http/server/http2_head.hpp"

#include "http/access.hpp"
#include "http/server/response_head.hpp"
#include "http/target.hpp"

#include <charconv>
#include <ctime>
#include <stdexcept>
#include <utility>

namespace aio::inline v0::detail {

namespace {

constexpr std::size_t field_overhead = 32;  // RFC 9113, 6.5.2: what a field counts beyond its name and value
// A list of fields may be a few bytes on the wire and megabytes here (HPACK). A client that goes so far beyond the
// limit, which it was told in our SETTINGS, loses its connection; a smaller excess is answered.
constexpr std::size_t hopeless = 8;

// The fields that belong to a connection of HTTP/1, and must not be in a message of HTTP/2 (RFC 9113, 8.2.2).
bool is_of_connection(std::string_view name) noexcept {
    switch (name.size()) {
        case 2: return equal_ignoring_case(name, "TE");
        case 7: return equal_ignoring_case(name, "Upgrade");
        case 10: return equal_ignoring_case(name, "Connection") || equal_ignoring_case(name, "Keep-Alive");
        case 14: return equal_ignoring_case(name, "HTTP2-Settings");
        case 16: return equal_ignoring_case(name, "Proxy-Connection");
        case 17: return equal_ignoring_case(name, "Transfer-Encoding");
        default: return false;
    }
}

std::uint8_t* bytes_of(std::string_view text) noexcept {
    return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));  // nghttp2 only reads them
}

}  // namespace

int http2_head::refuse(int status, std::string why) {
    why_ = std::move(why);
    return status;
}

bool http2_head::count(std::string_view name, std::string_view value) noexcept {
    bytes_ += name.size() + value.size() + field_overhead;
    if (!name.starts_with(':') && name != "cookie") ++count_;
    return bytes_ <= most_bytes_ && count_ <= most_fields_;
}

bool http2_head::add(std::string_view name, std::string_view value) {
    if (!count(name, value))
        return bytes_ / hopeless <= most_bytes_ &&
            count_ / hopeless <= most_fields_;  // it will be refused: nothing is kept any more
    if (name.starts_with(':')) {
        add_pseudo(name, value);
        return true;
    }
    if (name == "cookie") {
        add_cookie(value);
        return true;
    }
    if (name == "host") ++hosts_;
    if (name == "content-length") {
        std::uint64_t length = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
        if (error == std::errc() && end == value.data() + value.size()) content_length_ = length;
    }
    if (name == "expect") expects_continue_ = equal_ignoring_case(value, "100-continue");
    http_access::append(fields_, name, value);
    return true;
}

void http2_head::add_pseudo(std::string_view name, std::string_view value) {
    if (name == ":method") {
        method_ = value;
    } else if (name == ":path") {
        path_ = value;
    } else if (name == ":scheme") {
        scheme_ = value;
    } else if (name == ":authority") {
        authority_ = value;
        http_access::append(fields_, "host", value);  // handlers find it where HTTP/1 has it
    }
}

void http2_head::add_cookie(std::string_view value) {
    if (cookie_ == static_cast<std::size_t>(-1)) {
        cookie_ = fields_.size();
        http_access::append(fields_, "cookie", value);
    } else {
        http_access::value_at(fields_, cookie_).append("; ").append(value);
    }
}

int http2_head::check() {
    if (bytes_ > most_bytes_) return refuse(431, "the header is longer than " + std::to_string(most_bytes_) + " bytes");
    if (count_ > most_fields_)
        return refuse(431, "the header has more than " + std::to_string(most_fields_) + " fields");
    if (method_ == "CONNECT") return refuse(501, "this server is no proxy");
    if (!equal_ignoring_case(scheme_, "http") && !equal_ignoring_case(scheme_, "https"))
        return refuse(400, "the scheme is neither http nor https");
    if (path_.empty() || (path_.front() != '/' && path_ != "*") || !parse_target(method_, path_))
        return refuse(400, "this is no target of a request");
    if (hosts_ > 1) return refuse(400, "a request has one host");
    const std::string& host = fields_["host"];
    if (!is_authority(host)) return refuse(400, "the host is no host");
    if (hosts_ == 1 && !authority_.empty()) {
        const auto both = fields_.get_all("host");
        if (!equal_ignoring_case(both.front(), both.back())) return refuse(400, ":authority and Host differ");
        fields_.set("host", authority_);
        cookie_ = static_cast<std::size_t>(-1);  // the places have changed; all fields are there
    }
    return 0;
}

http::request http2_head::take(const std::string& peer) {
    http::request r(std::move(method_), std::move(path_), std::move(fields_), {}, peer);
    http_access::set_version(r, http::version::v2);
    return r;
}

// It counts as nghttp2 does, with room for the fields that the library adds.
void check_http2_fields(const http::headers& fields, const char* what) {
    std::size_t size = 200;
    for (const auto& [name, value] : fields) {
        if (value.size() > most_http2_field)
            throw std::length_error(name + " is longer than " + std::to_string(most_http2_field) + " bytes");
        size += 12 + name.size() + value.size();
    }
    if (size > most_http2_fields) {
        throw std::length_error(std::string(what) + " is longer than " + std::to_string(most_http2_fields) + " bytes");
    }
}

void http2_fields::add(std::string_view name, std::string_view value) {
    all_.push_back({bytes_of(name), bytes_of(value), name.size(), value.size(), std::uint8_t(NGHTTP2_NV_FLAG_NONE)});
}

http2_fields::http2_fields(const http::response& r, bool to_head, http2_length length, bool with_trailers) {
    all_.reserve(r.headers().size() + 3);
    const int status = r.status();
    for (int i = 2, rest = status; i >= 0; --i, rest /= 10) status_[i] = static_cast<char>('0' + rest % 10);
    add(":status", std::string_view(status_, 3));
    bool dated = false;
    bool measured = status == 204 || status == 304 || with_trailers;  // these have none at all
    for (const auto& [name, value] : r.headers()) {
        if (is_of_connection(name)) continue;
        if (equal_ignoring_case(name, "Content-Length")) {
            // The library measures a body that it knows. An answer to HEAD may have the handler's length.
            if (measured || (length && !(to_head && *length == 0))) continue;
            measured = true;
        }
        dated = dated || equal_ignoring_case(name, "Date");
        add(name, value);
    }
    if (!dated) add("date", http_date(std::time(nullptr)));
    if (!measured && length) {
        const auto [end, error] = std::to_chars(length_, length_ + sizeof length_, *length);
        static_cast<void>(error);
        add("content-length", std::string_view(length_, static_cast<std::size_t>(end - length_)));
    }
}

http2_fields::http2_fields(const http::headers& trailers) {
    all_.reserve(trailers.size());
    for (const auto& [name, value] : trailers) {
        if (!is_of_connection(name) && !equal_ignoring_case(name, "Content-Length")) add(name, value);
    }
}

}  // namespace aio::inline v0::detail
