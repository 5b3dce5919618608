#pragma once
// Checks of the HTTP parsers that hold for all bytes. Each function gives what is wrong, or an empty string. libFuzzer
// calls them in http_*_fuzz.cpp, and http_fuzz_test.cpp with a fixed sequence of inputs.

#include <aio/http.hpp>

#include "http/client/transfer.hpp"
#include "http/server/request_parser.hpp"
#include "http/target.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

namespace http_fuzz {

using namespace std::string_view_literals;

inline std::string fields_wrong(const aio::http::headers& fields) {
    for (const auto& [name, value] : fields) {
        if (name.empty() || name.find_first_of("\r\n\0 :"sv) != name.npos) return "a bad name: " + name;
        if (value.find_first_of("\r\n\0"sv) != value.npos) return "a bad value: " + value;
    }
    return {};
}

/// Takes a request as the server does whose handler reads the body while it comes: whole bodies are put together here.
/// False while it is not complete.
struct piecewise {
    bool head_taken = false, keep_alive = false;
    aio::http::request head;
    std::string body;

    bool go_on(aio::detail::http_request_parser& parser, std::string& buffer) {
        if (!head_taken) {
            buffer.erase(0, parser.feed_head(buffer));
            if (!parser.header_done() || parser.bad_status() != 0) return false;
            keep_alive = parser.keep_alive();
            head = parser.take_head("peer");
            head_taken = true;
        }
        if (!parser.complete() && !body.empty() && parser.pass_piece(buffer.size())) {
            body += std::exchange(buffer, {});
        } else {
            buffer.erase(0, parser.feed(buffer));
            body += parser.take_piece();
        }
        return parser.complete();
    }
};

/// Works like transcript(), but takes the bodies piece by piece.
inline std::string piecewise_transcript(std::string_view bytes, std::size_t piece) {
    aio::detail::http_request_parser parser(300, 200);
    std::string all, buffer;
    piecewise request;
    while (parser.bad_status() == 0) {
        if (request.go_on(parser, buffer)) {
            const aio::http::request& r = request.head;
            all += request.keep_alive ? "kept " : "closed ";
            all += r.method() + " " + r.target() + " " + r.path() + " " + request.body + "\n";
            for (const auto& [name, value] : r.headers()) all += name + "=" + value + "\n";
            for (const auto& [name, value] : parser.take_trailers()) all += name + "=" + value + "\n";
            parser.next();
            request = piecewise();
            continue;
        }
        if (parser.bad_status() != 0 || bytes.empty()) break;
        buffer += bytes.substr(0, piece);
        bytes.remove_prefix(std::min(piece, bytes.size()));
    }
    if (parser.bad_status() != 0) all += std::to_string(parser.bad_status());
    return all;
}

/// Feeds one connection in pieces of this size. Gives its requests, and how it ends.
inline std::string transcript(std::string_view bytes, std::size_t piece, std::string& wrong) {
    constexpr std::size_t most_header = 300, most_body = 200;
    aio::detail::http_request_parser parser(most_header, most_body);
    std::string all, buffer;
    while (parser.bad_status() == 0) {
        const std::size_t taken = parser.feed(buffer);
        if (taken > buffer.size()) wrong = "more taken than there is";
        buffer.erase(0, taken);
        if (parser.complete()) {
            all += parser.keep_alive() ? "kept " : "closed ";
            const aio::http::request r = parser.take("peer");
            all += r.method() + " " + r.target() + " " + r.path() + " " + r.body() + "\n";
            for (const aio::http::headers* fields : {&r.headers(), &r.trailers()}) {
                for (const auto& [name, value] : *fields) all += name + "=" + value + "\n";
                if (wrong.empty()) wrong = fields_wrong(*fields);
            }
            if (r.path().empty()) wrong = "an empty path";
            if (r.body().size() > most_body) wrong = "the body is beyond the limit";
            if (r.headers().get_all("Host").size() > 1) wrong = "two hosts";
            if (r.headers().contains("Content-Length") && r.headers().contains("Transfer-Encoding"))
                wrong = "two lengths";
            continue;
        }
        if (parser.bad_status() != 0 || bytes.empty()) break;
        if (buffer.size() > 5000 + piece) wrong = "the buffer is beyond all limits";
        buffer += bytes.substr(0, piece);
        bytes.remove_prefix(std::min(piece, bytes.size()));
    }
    if (parser.bad_status() != 0) all += std::to_string(parser.bad_status());
    return all;
}

/// Checks the parser of requests. It gives the same whatever the pieces are, keeps its limits, and lets no field
/// through that a response could not have.
inline std::string request(std::string_view bytes) {
    std::string wrong;
    const std::string whole = transcript(bytes, bytes.size() + 1, wrong);
    for (const std::size_t piece : {std::size_t(1), std::size_t(2), std::size_t(5), std::size_t(64)}) {
        if (wrong.empty() && transcript(bytes, piece, wrong) != whole) {
            wrong = "other requests in pieces of " + std::to_string(piece);
        }
        if (wrong.empty() && piecewise_transcript(bytes, piece) != whole)
            wrong = "other bodies in pieces of " + std::to_string(piece);
    }
    return wrong;
}

/// Checks path() and query(). Every target is understood or refused, and its path means the same when it is encoded
/// again.
inline std::string target(std::string_view text) {
    const std::string method = text.starts_with('*') ? "OPTIONS" : "GET";
    aio::http::request r;
    try {
        r = aio::http::request(method, std::string(text));
    } catch (const std::invalid_argument&) { return text == "/" || text == "*" ? "a good target is refused" : ""; }
    if (r.path() == "*") return text.substr(0, text.find('#')) == "*" ? "" : "another target is the asterisk";
    if (!r.path().starts_with('/')) return "a path that does not begin with a slash";
    if (text.find_first_of("\r\n\0 "sv) != text.npos && text.find_first_of("\r\n\0 "sv) < text.find('#'))
        return "a separator in a target";
    std::string encoded;
    for (const char c : r.path()) {
        constexpr char digits[] = "0123456789ABCDEF";
        const auto byte = static_cast<unsigned char>(c);
        if (c == '/') {
            encoded += c;
        } else {
            encoded.append(1, '%').append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
        }
    }
    if (aio::http::request("GET", encoded).path() != r.path()) return "the path is another one when encoded again";
    std::size_t names = 0;
    for (const std::string_view name : {"a"sv, ""sv, "q"sv}) {
        const std::optional<std::string> value = r.query(name);
        names += value.has_value();
        if (value && value->size() > text.size()) return "a value longer than the target";
    }
    return names > 0 && text.find('?') == text.npos ? "a value without a query" : "";
}

/// Checks what our client makes of an answer: lines up to an empty one, and then a body.
inline std::string response(std::string_view bytes) {
    aio::detail::curl_transfer t;
    t.method = "GET";
    t.target = aio::detail::check_url("GET", "http://h/");
    t.max_body_size = 100'000;
    try {
        bool header = true;
        while (!bytes.empty()) {
            const std::size_t size =
                header ? std::min(bytes.find('\n'), bytes.size() - 1) + 1 : std::min<std::size_t>(bytes.size(), 7);
            const std::string_view piece = bytes.substr(0, size);
            bytes.remove_prefix(size);
            if (header) {
                t.take_header_line(piece);
                header = t.at != aio::detail::curl_transfer::section::rest;
            } else {
                t.take_body(piece);
                if (t.enough) break;
            }
        }
        if (t.decoder && !t.decoder->has_more()) t.decoder->check_end();
    } catch (const aio::http::error&) {}
    if (t.status != 0 && (t.status < 100 || t.status > 599)) return "status " + std::to_string(t.status);
    if (t.text.size() > t.max_body_size) return "the body is beyond the limit";
    const std::string wrong = fields_wrong(t.answer);
    return wrong.empty() ? fields_wrong(t.trailers) : wrong;
}

/// Checks URLs. Each is taken, or refused as std::invalid_argument. A URL that is taken is ASCII and means the same
/// when it is read again. No message has a password.
inline std::string url(std::string_view text) {
    static const auto multi = std::make_shared<aio::detail::curl_multi>(aio::http::session_options());
    const auto read = [](std::string u, std::string& refused) {
        auto t = aio::detail::make_transfer(multi, {"GET", std::move(u), {}}, {});
        if (!t->error) return t;
        try {
            std::rethrow_exception(t->error);
        } catch (const std::invalid_argument& e) { refused = e.what(); }
        return t;
    };
    std::string refused;
    const auto first = read(std::string(text), refused);
    if (!first->error) {
        // The user name is not part of it and may have any bytes: it goes into a header in base64.
        for (const char c : first->target->shown) {
            if (c <= ' ' || c > '~') return "a URL with a byte beyond ASCII: " + first->target->shown;
        }
        if (!first->target->url.starts_with("http://") && !first->target->url.starts_with("https://"))
            return "another scheme: " + first->target->url;
        const auto again = read(first->target->url, refused);
        if (again->error) return "refused when read again: " + refused;
        if (again->target->url != first->target->url || again->target->shown != first->target->shown)
            return "another URL when read again: " + again->target->url;
    }
    if (text.find("hunter2") != text.npos) return {};  // no secret then: it may stand where it is shown
    for (const char* before :
        {"http://me:hunter2@", "https://hunter2@", "me:hunter2@", "//me:hunter2@", "ftp://me:hunter2@"}) {
        refused.clear();
        const auto t = read(before + std::string(text), refused);
        if (refused.find("hunter2") != refused.npos) return "a password in a message: " + refused;
        if (!t->error && t->target->shown.find("hunter2") != t->target->shown.npos)
            return "a password is shown: " + t->target->shown;
    }
    return {};
}

}  // namespace http_fuzz
