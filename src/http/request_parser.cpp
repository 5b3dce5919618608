#include "request_parser.hpp"

#include "access.hpp"
#include "target.hpp"

#include <algorithm>

namespace aio::detail {

namespace {

// A chunk's first line has a size and perhaps extensions, which nobody uses.
constexpr std::size_t most_chunk_line_bytes = 4096;
// What chunks may cost beyond their data, so that tiny chunks with long extensions do not keep a server busy: 16 bytes for each are
// free, each byte of data pays for another.
constexpr std::size_t most_chunk_overhead = 16 * 1024;

constexpr std::string_view line_end = "\r\n";

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

}  // namespace

void http_request_parser::bad(int status, std::string reason) {
    if (bad_status_ != 0) return;
    bad_status_ = status;
    bad_reason_ = std::move(reason);
}

std::size_t http_request_parser::feed(std::string_view data) {
    std::size_t taken = 0;
    while (bad_status_ == 0 && at_ != state::end) {
        const std::string_view rest = data.substr(taken);
        if (at_ == state::sized_body || at_ == state::chunk_data) {
            const std::string_view piece = rest.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(body_left_, rest.size())));
            body_ += piece;
            taken += piece.size();
            body_left_ -= piece.size();
            if (body_left_ > 0) break;
            at_ = at_ == state::sized_body ? state::end : state::chunk_end;
            continue;
        }
        const std::optional<std::string_view> text = line(rest);
        if (!text) break;
        taken += text->size() + line_end.size();
        take_line(*text);
    }
    return taken;
}

// The line that data begins with, without its end; nothing if it is not complete, or bad.
std::optional<std::string_view> http_request_parser::line(std::string_view data) {
    const bool of_a_chunk = at_ == state::chunk_size || at_ == state::chunk_end;
    const std::size_t most = at_ == state::chunk_size ? most_chunk_line_bytes
        : at_ == state::chunk_end                     ? line_end.size()
                                                      : line_bytes_left_;
    if (at_ == state::start && !data.empty() && !line_end.starts_with(data.substr(0, line_end.size()))) begun_ = true;
    const std::size_t size = std::min(data.size(), most);
    for (; searched_ < size; ++searched_) {
        const char c = data[searched_];
        if (c == '\r') {
            if (searched_ + 1 == data.size()) return std::nullopt;
            if (data[searched_ + 1] != '\n') {
                bad(400, "a carriage return without a line feed");
                return std::nullopt;
            }
            if (searched_ + line_end.size() > most) break;
            const std::string_view text = data.substr(0, searched_);
            searched_ = 0;
            if (!of_a_chunk) line_bytes_left_ -= text.size() + line_end.size();
            return text;
        }
        if ((c >= 0 && c < ' ' && c != '\t') || c == '\x7f') {
            bad(400, c == '\n' ? "a line feed without a carriage return" : "a control character");
            return std::nullopt;
        }
    }
    if (data.size() < most) return std::nullopt;
    if (at_ == state::chunk_end) {
        bad(400, "a chunk is longer than it says");
    } else if (of_a_chunk) {
        bad(400, "the first line of a chunk is longer than " + std::to_string(most_chunk_line_bytes) + " bytes");
    } else {
        bad(431, std::string(at_ == state::trailers ? "the trailer section" : "the header") + " is longer than " +
                std::to_string(most_header_bytes_) + " bytes");
    }
    return std::nullopt;
}

void http_request_parser::take_line(std::string_view text) {
    switch (at_) {
        case state::start:
            if (text.empty()) return;  // empty lines before a request are to be ignored (RFC 9112, 2.2)
            take_request_line(text);
            at_ = state::fields;
            return;
        case state::fields:
            if (!text.empty()) return take_field(text, fields_);
            return begin_body();
        case state::chunk_size: return take_chunk_size(text);
        case state::chunk_end:
            at_ = state::chunk_size;  // the line is empty: it has no room for more
            return;
        case state::trailers:
            if (!text.empty()) return take_field(text, trailers_);
            at_ = state::end;
            return;
        default: return;
    }
}

void http_request_parser::take_request_line(std::string_view text) {
    const std::size_t first = text.find(' ');
    const std::size_t last = text.rfind(' ');
    if (first == text.npos || first == last) return bad(400, "the first line is not: method, space, target, space, HTTP/1.1");
    const std::string_view version = text.substr(last + 1);
    constexpr std::string_view name = "HTTP/";
    if (version.size() != name.size() + 3 || !version.starts_with(name) || !is_digit(version[name.size()]) ||
        version[name.size() + 1] != '.' || !is_digit(version[name.size() + 2])) {
        return bad(400, "the first line does not end with a version of HTTP");
    }
    if (version[name.size()] != '1') return bad(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    minor_version_ = version.back() == '0' ? 0 : 1;  // a later HTTP/1.x is read as HTTP/1.1 (RFC 9110, 2.5)
    method_ = text.substr(0, first);
    target_ = text.substr(first + 1, last - first - 1);
    if (!is_http_token(method_)) return bad(400, "the method is no token");
    if (!parse_target(method_, target_)) return bad(400, "this is no target of a request");
    if (method_ == "CONNECT") return bad(501, "this server is no proxy");
}

void http_request_parser::take_field(std::string_view text, http::headers& into) {
    const std::size_t colon = text.find(':');
    if (colon == text.npos) return bad(400, "a line of the header has no colon");
    const std::string_view name = text.substr(0, colon);
    if (!is_http_token(name)) return bad(400, "the name of a header is no token");  // a folded line, too: it begins with a space
    into.add(name, text.substr(colon + 1));
}

void http_request_parser::begin_body() {
    const auto hosts = fields_.get_all("Host");
    if (hosts.size() > 1 || (hosts.empty() && minor_version_ > 0)) return bad(400, "a request has one Host");
    if (!hosts.empty() && !hosts[0].empty() && !is_authority(hosts[0])) return bad(400, "Host is no host");

    const auto lengths = fields_.get_all("Content-Length");
    const auto encodings = fields_.get_all("Transfer-Encoding");
    if (!encodings.empty()) {
        if (minor_version_ == 0) return bad(400, "HTTP/1.0 knows no Transfer-Encoding");
        if (!lengths.empty()) return bad(400, "both Content-Length and Transfer-Encoding");
        if (encodings.size() > 1 || !equal_ignoring_case(encodings[0], "chunked")) {
            std::string all;
            for (const std::string& e : encodings) all.append(all.empty() ? "" : ",").append(e);
            const std::size_t comma = all.rfind(',');
            const std::string_view before = std::string_view(all).substr(0, comma == all.npos ? 0 : comma);
            // Chunked twice, or before another: the end of the body cannot be known (RFC 9112, 6.3).
            if (list_has(before, "chunked")) return bad(400, "chunked is not the last Transfer-Encoding");
            return bad(501, "the only Transfer-Encoding that is known here is chunked");
        }
        at_ = state::chunk_size;
        return;
    }
    if (lengths.size() > 1) return bad(400, "more than one Content-Length");
    body_left_ = 0;
    if (!lengths.empty()) {
        const std::string& digits = lengths[0];
        if (digits.empty() || digits.size() > 18 || !std::all_of(digits.begin(), digits.end(), is_digit)) {
            return bad(400, "Content-Length is no length");
        }
        for (const char c : digits) body_left_ = body_left_ * 10 + static_cast<unsigned>(c - '0');
        if (body_left_ > most_body_bytes_) {
            return bad(413, "the body is longer than " + std::to_string(most_body_bytes_) + " bytes");
        }
    }
    at_ = body_left_ > 0 ? state::sized_body : state::end;
}

void http_request_parser::take_chunk_size(std::string_view text) {
    std::size_t digits = 0;
    std::uint64_t size = 0;
    for (; digits < text.size(); ++digits) {
        const char c = text[digits];
        const int value = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (value < 0) break;
        size = size * 16 + static_cast<unsigned>(value);
    }
    if (digits == 0 || digits > 15) return bad(400, "the size of a chunk is no hexadecimal number, or an endless one");
    const std::string_view extension = text.substr(digits);
    if (!extension.empty() && !trimmed(extension).starts_with(';')) return bad(400, "garbage after the size of a chunk");

    const std::size_t cost = text.size() + 2 * line_end.size();
    chunk_overhead_ += cost > 16 ? cost - 16 : 0;
    if (chunk_overhead_ > most_chunk_overhead) return bad(400, "the extensions of the chunks are longer than what they bring");
    chunk_overhead_ -= static_cast<std::size_t>(std::min<std::uint64_t>(chunk_overhead_, size));
    if (size > most_body_bytes_ - body_.size()) {
        return bad(413, "the body is longer than " + std::to_string(most_body_bytes_) + " bytes");
    }
    body_left_ = size;
    at_ = size > 0 ? state::chunk_data : state::trailers;
    if (size == 0) line_bytes_left_ = most_header_bytes_;
}

bool http_request_parser::expects_continue() const noexcept {
    return minor_version_ > 0 && equal_ignoring_case(fields_["Expect"], "100-continue");
}

bool http_request_parser::keep_alive() const noexcept {
    bool kept = minor_version_ > 0;
    for (const auto& [name, value] : fields_) {
        if (!equal_ignoring_case(name, "Connection")) continue;
        if (list_has(value, "close")) return false;
        kept = kept || list_has(value, "keep-alive");
    }
    return kept;
}

http::request http_request_parser::take(std::string peer) {
    // A target with a host of its own overrules Host (RFC 9112, 3.2.2).
    const std::string_view authority = parse_target(method_, target_)->authority;
    if (!authority.empty()) fields_.set("Host", authority);
    http::request r(std::move(method_), std::move(target_), std::move(fields_), std::move(body_), std::move(peer));
    http_access::trailers(r) = std::move(trailers_);
    *this = http_request_parser(most_header_bytes_, most_body_bytes_);
    return r;
}

const std::string& http_date(std::time_t now) {
    thread_local std::time_t last = 0;
    thread_local std::string formatted;
    if (now == last && !formatted.empty()) return formatted;
    last = now;
    static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* months[] = {
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm t{};
    ::gmtime_r(&now, &t);
    char rest[40];
    std::strftime(rest, sizeof rest, " %Y %H:%M:%S GMT", &t);
    char day[16];
    std::snprintf(day, sizeof day, "%s, %02d ", days[t.tm_wday], t.tm_mday);  // strftime's names depend on the locale
    formatted = std::string(day) + months[t.tm_mon] + rest;
    return formatted;
}

bool http_asks_to_close(const http::response& r) { return list_has(r.headers()["Connection"], "close"); }

std::string http_response_head(const http::response& r, bool to_head_request, bool keep_alive, bool to_http_1_0) {
    std::string out;
    out.reserve(256);
    out.append("HTTP/1.1 ")
        .append(std::to_string(r.status()))
        .append(" ")
        .append(http::reason(r.status()))
        .append("\r\n");
    bool dated = false;
    bool measured = r.status() == 204 || r.status() == 304;  // no length at all; 205 has the length 0
    for (const auto& [name, value] : r.headers()) {
        // How the message ends is decided here; only the answer to HEAD may tell a length that is not its body's.
        if (equal_ignoring_case(name, "Transfer-Encoding") || equal_ignoring_case(name, "Connection")) continue;
        if (equal_ignoring_case(name, "Content-Length")) {
            if (!to_head_request || measured || r.status() == 205 || !r.text().empty()) continue;
            measured = true;
        }
        dated = dated || equal_ignoring_case(name, "Date");
        out.append(name).append(": ").append(value).append("\r\n");
    }
    if (!dated) out.append("Date: ").append(http_date(std::time(nullptr))).append("\r\n");
    if (!measured) out.append("Content-Length: ").append(std::to_string(http_has_body(r.status()) ? r.text().size() : 0)).append("\r\n");
    if (!keep_alive) {
        out += "Connection: close\r\n";
    } else if (to_http_1_0) {
        out += "Connection: keep-alive\r\n";
    }
    out += "\r\n";
    return out;
}

}  // namespace aio::detail
