#include "request_parser.hpp"

#include "access.hpp"

#include <ostream>  // Boost 1.74 forgets it

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <ctime>

namespace aio::detail {

namespace beast = boost::beast::http;

struct http_request_parser::inside {
    std::optional<beast::request_parser<beast::string_body>> parser;
};

namespace {

std::string text(boost::beast::string_view view) { return {view.data(), view.size()}; }

}  // namespace

http_request_parser::http_request_parser(std::size_t most_header_bytes, std::size_t most_body_bytes)
    : most_header_bytes_(most_header_bytes), most_body_bytes_(most_body_bytes), inside_(std::make_unique<inside>()) {}

http_request_parser::~http_request_parser() = default;

void http_request_parser::bad(int status, std::string reason) {
    bad_status_ = status;
    bad_reason_ = std::move(reason);
}

bool http_request_parser::header_done() const noexcept { return begun_ && inside_->parser->is_header_done(); }
bool http_request_parser::complete() const noexcept { return begun_ && bad_status_ == 0 && inside_->parser->is_done(); }

std::size_t http_request_parser::feed(std::string_view data) {
    std::size_t taken = 0;
    if (!begun_) {
        // Empty lines before a request are to be ignored (RFC 9112, 2.2).
        while (taken < data.size() && (data[taken] == '\r' || data[taken] == '\n')) ++taken;
        if (taken == data.size()) return taken;
        auto& parser = inside_->parser.emplace();
        parser.eager(true);
        parser.header_limit(static_cast<std::uint32_t>(std::min<std::size_t>(most_header_bytes_, UINT32_MAX)));
        parser.body_limit(most_body_bytes_);
        begun_ = true;
        header_checked_ = false;
    }
    auto& parser = *inside_->parser;
    while (taken < data.size() && bad_status_ == 0 && !parser.is_done()) {
        boost::system::error_code code;
        const std::size_t n = parser.put(boost::asio::const_buffer(data.data() + taken, data.size() - taken), code);
        taken += n;
        if (code && code != beast::error::need_more) {
            if (code == beast::error::header_limit) {
                bad(431, "the header is longer than " + std::to_string(most_header_bytes_) + " bytes");
            } else if (code == beast::error::body_limit) {
                bad(413, "the body is longer than " + std::to_string(most_body_bytes_) + " bytes");
            } else if (code == beast::error::bad_version) {
                bad(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
            } else {
                bad(400, code.message());
            }
            break;
        }
        check_header();
        if (n == 0 || code == beast::error::need_more) break;
    }
    return taken;
}

void http_request_parser::check_header() {
    if (header_checked_ || !header_done()) return;
    header_checked_ = true;
    const auto& message = inside_->parser->get();
    const bool old = message.version() < 11;
    const std::size_t hosts = message.count(beast::field::host);
    if (hosts > 1 || (hosts == 0 && !old)) bad(400, "a request has one Host");
    const std::size_t encodings = message.count(beast::field::transfer_encoding);
    if (encodings > 0 && old) bad(400, "HTTP/1.0 knows no Transfer-Encoding");
    if (encodings > 0 && !inside_->parser->chunked())
        bad(501, "the only Transfer-Encoding that is known here is chunked");
    for (const auto& field : message) {
        if (field.name() == beast::field::transfer_encoding && !equal_ignoring_case(text(field.value()), "chunked")) {
            bad(501, "the only Transfer-Encoding that is known here is chunked");
        }
    }
}

bool http_request_parser::expects_continue() const {
    const auto& message = inside_->parser->get();
    return message.version() >= 11 && equal_ignoring_case(text(message[beast::field::expect]), "100-continue");
}

bool http_request_parser::keep_alive() const { return inside_->parser->keep_alive(); }
bool http_request_parser::is_http_1_0() const { return inside_->parser->get().version() < 11; }

http::request http_request_parser::take(std::string peer) {
    auto message = inside_->parser->release();
    begun_ = false;
    http::headers fields;
    for (const auto& field : message) http_access::append(fields, text(field.name_string()), text(field.value()));
    return http::request(text(message.method_string()), text(message.target()), std::move(fields),
        std::move(message.body()), std::move(peer));
}

namespace {

// "Sun, 06 Nov 1994 08:49:37 GMT", made once a second.
const std::string& http_date() {
    thread_local std::time_t last = 0;
    thread_local std::string formatted;
    const std::time_t now = std::time(nullptr);
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

}  // namespace

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
    bool measured = !http_has_body(r.status());
    for (const auto& [name, value] : r.headers()) {
        // How the message ends is decided here; only the answer to HEAD may tell a length that is not its body's.
        if (equal_ignoring_case(name, "Transfer-Encoding") || equal_ignoring_case(name, "Connection")) continue;
        if (equal_ignoring_case(name, "Content-Length")) {
            if (!to_head_request || measured || !r.text().empty()) continue;
            measured = true;
        }
        dated = dated || equal_ignoring_case(name, "Date");
        out.append(name).append(": ").append(value).append("\r\n");
    }
    if (!dated) out.append("Date: ").append(http_date()).append("\r\n");
    if (!measured) out.append("Content-Length: ").append(std::to_string(r.text().size())).append("\r\n");
    if (!keep_alive) {
        out += "Connection: close\r\n";
    } else if (to_http_1_0) {
        out += "Connection: keep-alive\r\n";
    }
    out += "\r\n";
    return out;
}

}  // namespace aio::detail
