#pragma once
// Checks of the parsers above the HTTP engines that hold for all bytes, as http_fuzz.hpp has them for the engines.

#include <aio/http.hpp>

#include "http/app/accept_encoding.hpp"
#include "http/app/conditions.hpp"
#include "http/app/date.hpp"
#include "http/app/media_type.hpp"
#include "http/app/multipart_parser.hpp"
#include "http/app/pattern.hpp"
#include "http/target.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace http_fuzz {

/// What a multipart parser makes of a body in pieces of this size.
inline std::string multipart_transcript(std::string_view body, std::size_t piece, std::string& wrong) {
    using event = aio::detail::multipart_parser::event;
    constexpr std::size_t most_header = 200;
    aio::detail::multipart_parser parser("XYZ", most_header);
    const std::size_t size = body.size();
    std::size_t given = 0;
    bool inside = false;
    std::string all;
    try {
        for (;;) {
            const event what = parser.next();
            if (what == event::end) return all + "end";
            if ((what == event::data || what == event::part_end) != inside && what != event::need_more)
                wrong = "data outside of a part, or a part in a part";
            switch (what) {
                case event::need_more:
                    if (body.empty()) parser.finish();
                    parser.feed(body.substr(0, piece));
                    body.remove_prefix(std::min(piece, body.size()));
                    break;
                case event::part:
                    inside = true;
                    all += "\n" + parser.name() + "|" + parser.filename().value_or("-") + "=";
                    for (const auto& [name, value] : parser.headers()) {
                        if ((name + value).find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos)
                            wrong = "a header with a line break";
                    }
                    break;
                case event::data:
                    if (parser.data().empty()) wrong = "an empty piece";
                    given += parser.data().size();
                    all += parser.data();
                    break;
                default: inside = false;
            }
            if (given > size) wrong = "more given than there was";
        }
    } catch (const aio::http::refusal& r) { return all + std::to_string(r.status()); }
}

/// Checks the multipart parser: it gives the same whatever the pieces are.
inline std::string multipart(std::string_view bytes) {
    std::string wrong;
    const std::string whole = multipart_transcript(bytes, bytes.size() + 1, wrong);
    for (const std::size_t piece : {std::size_t(1), std::size_t(2), std::size_t(3), std::size_t(7), std::size_t(64)}) {
        if (wrong.empty() && multipart_transcript(bytes, piece, wrong) != whole)
            wrong = "other parts in pieces of " + std::to_string(piece);
    }
    if (const auto parsed = aio::detail::parse_with_parameters(bytes)) {
        for (const auto& [name, value] : parsed->parameters) {
            if (parsed->find(name) != &value) wrong = "a parameter that comes twice";
        }
    }
    return wrong;
}

/// Checks cookies: what is read has no separator in it, and what may be set is read as it was set.
inline std::string cookie(std::string_view text) {
    aio::http::request r;
    try {
        r = aio::http::request("GET", "/", aio::http::headers("Cookie", text));
    } catch (const std::invalid_argument&) {}  // a line break: no field
    for (const auto& [name, value] : r.cookies()) {
        if (name.empty() || name.find_first_of(";=") != name.npos || value.find(';') != value.npos)
            return "a cookie with a separator in it";
    }
    aio::http::response answer;
    try {
        answer.set_cookie("n", text);
        if (answer.headers()["Set-Cookie"] != "n=" + std::string(text) + "; Path=/; SameSite=Lax")
            return "another field than was set";
        const aio::http::headers sent("Cookie", "a=b; n=" + std::string(text) + "; c=d");
        if (aio::http::request("GET", "/", sent).cookies()["n"] != text)
            return "the value is another one when it is read";
    } catch (const std::invalid_argument&) {}  // no value of a cookie
    try {
        answer.set_cookie("n", "v", {.path = text, .domain = text});
        if (text.find_first_of(std::string_view(";\r\n\0", 4)) != text.npos) return "an attribute with a separator";
    } catch (const std::invalid_argument&) {}  // no path, or no domain
    try {
        const aio::http::response to = aio::http::response::redirect(text);
        for (const char c : to.headers()["Location"]) {
            if (c <= ' ' || c > '~' || c == '\\') return "a redirect to what is no URL";
        }
    } catch (const std::invalid_argument&) {}  // a control character
    return {};
}

/// Checks what a request may ask of a file: a range lies inside of it, and a tag fits only where it stands.
inline std::string conditions(std::string_view text) {
    aio::detail::file_facts facts;
    facts.modified = 784111777;
    facts.tag = "\"tag\"";
    for (const std::uint64_t size : {0ull, 1ull, 10ull, 1ull << 40}) {
        facts.size = size;
        aio::detail::file_conditions asked;
        asked.range = text;
        aio::detail::file_verdict v = aio::detail::judge(asked, facts);
        const auto lies_inside = [size](std::uint64_t offset, std::uint64_t count) {
            return count > 0 && offset < size && count <= size - offset;
        };
        bool inside = v.parts.empty() ? lies_inside(v.offset, v.count) : v.parts.size() > 1;
        for (const auto& part : v.parts) inside = inside && lies_inside(part.offset, part.count);
        if (v.status == 206 && !inside) return "a range outside of the file";
        if (v.status == 200 && (v.offset != 0 || v.count != size)) return "not the whole file";
        if (v.status != 200 && v.status != 206 && v.status != 416) return "a range gives another status";
        asked.if_range = text;
        if (aio::detail::judge(asked, facts).status != 200 && text != facts.tag &&
            aio::detail::parse_http_date(text) != facts.modified) {
            return "a range of another file";
        }
        asked = {};
        asked.if_none_match = text;
        if (aio::detail::judge(asked, facts).status == 304 && text.find("\"tag\"") == text.npos &&
            text.find('*') == text.npos) {
            return "a tag that does not fit";
        }
    }
    if (const auto when = aio::detail::parse_http_date(text)) {
        const std::chrono::system_clock::time_point point{std::chrono::seconds(*when)};
        if (aio::detail::parse_http_date(aio::detail::http_date_of(point)) != when)
            return "another date when it is read";
    }
    try {
        const aio::detail::accepted_encodings accepted(aio::http::headers("Accept-Encoding", text));
        const bool named = text.find('*') != text.npos ||
            std::any_of(text.begin(), text.end(), [](char c) { return c == 'g' || c == 'G'; });
        if (accepted.gzip && !named) return "gzip for who does not ask for it";
    } catch (const std::invalid_argument&) {}  // a line break: no field
    return {};
}

/// True if a pattern fits a path, by a plainer way than that of the router: segment for segment.
inline bool fits(const std::string& pattern, std::string_view path) {
    const aio::detail::http_pattern parts(pattern);
    std::size_t at = 0;
    while (!path.empty() && at < parts.segments.size()) {
        const aio::detail::first_segment first(path);
        std::string decoded;
        aio::detail::percent_decode(first.text, false, decoded);
        if (parts.segments[at].is_parameter ? first.text.empty() : parts.segments[at].text != decoded) return false;
        path = first.rest;
        ++at;
    }
    return at == parts.segments.size() && (parts.has_tail ? !path.empty() : path.empty());
}

/// Checks patterns and the search for a route. The bytes are a target, or a pattern.
inline std::string route(std::string_view text) {
    const auto handler = aio::http::unbuffered([] { return aio::http::response(); });
    try {
        const std::string pattern(text);
        aio::http::router app;
        app.get(pattern, handler);
        const aio::detail::http_pattern parts(pattern);
        std::string target;
        for (const auto& segment : parts.segments) {
            target += '/';
            for (const char c : segment.is_parameter ? std::string("v") : segment.text) {
                constexpr char digits[] = "0123456789ABCDEF";
                const auto byte = static_cast<unsigned char>(c);
                target.append(1, '%').append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
            }
        }
        if (parts.has_tail) target += "/x/y";
        if (target.empty()) return pattern.empty() ? "" : "a pattern without segments";
        if (!app.to_http_handler().unbuffered(aio::http::request("GET", target)))
            return "a pattern does not fit itself";
    } catch (const std::invalid_argument&) {}  // no pattern
    const std::vector<std::string> patterns = {
        "/", "/a", "/a/{x}", "/a/{x}/b", "/a/b/c", "/{x}/b/{y}", "/c/{t...}", "/a/{x}/{y}/{t...}"};
    aio::http::router app, mounted;
    for (const std::string& p : patterns) app.get(p, handler);
    aio::http::request r;
    try {
        r = aio::http::request("GET", std::string(text));
    } catch (const std::invalid_argument&) { return {}; }
    const std::string_view path = aio::detail::raw_path("GET", text);
    const bool expected =
        std::any_of(patterns.begin(), patterns.end(), [&](const std::string& p) { return fits(p, path); });
    if (app.to_http_handler().unbuffered(r) != expected) return expected ? "no route is found" : "a route too many";
    return {};
}

}  // namespace http_fuzz
