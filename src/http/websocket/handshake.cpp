#include "http/websocket/handshake.hpp"

#include "http/access.hpp"
#include "http/target.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include <sys/random.h>

namespace aio::inline v0::detail {

namespace {

constexpr std::string_view base64_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// SHA-1 (FIPS 180-4), for a text that fits in two blocks. Here it protects nothing: it shows that the server has read
// the key. So aio::http needs no OpenSSL for it.
std::string sha1(std::string_view text) {
    std::array<std::uint8_t, 128> blocks{};
    std::memcpy(blocks.data(), text.data(), text.size());
    blocks[text.size()] = 0x80;
    const std::size_t size = text.size() + 9 <= 64 ? 64 : 128;
    const std::uint64_t bits = text.size() * 8;
    for (std::size_t i = 0; i < 8; ++i) blocks[size - 1 - i] = static_cast<std::uint8_t>(bits >> (8 * i));

    std::array<std::uint32_t, 5> h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    for (std::size_t at = 0; at < size; at += 64) {
        std::array<std::uint32_t, 80> w{};
        for (std::size_t i = 0; i < 64; ++i) w[i / 4] = w[i / 4] << 8 | blocks[at + i];
        for (std::size_t i = 16; i < 80; ++i) w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        auto [a, b, c, d, e] = h;
        for (std::size_t i = 0; i < 80; ++i) {
            const std::uint32_t f = i < 20 ? ((b & c) | (~b & d))
                : i < 40 || i >= 60        ? b ^ c ^ d
                                           : (b & c) | (d & (b | c));
            constexpr std::array<std::uint32_t, 4> constants = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
            const std::uint32_t next = std::rotl(a, 5) + f + e + constants[i / 20] + w[i];
            e = d;
            d = c;
            c = std::rotl(b, 30);
            b = a;
            a = next;
        }
        h = {h[0] + a, h[1] + b, h[2] + c, h[3] + d, h[4] + e};
    }
    std::string digest;
    for (const std::uint32_t word : h) {
        for (int shift = 24; shift >= 0; shift -= 8) digest += static_cast<char>(word >> shift);
    }
    return digest;
}

// 16 bytes in base64.
bool is_key(std::string_view text) noexcept {
    return text.size() == 24 && text.ends_with("==") && text.find_first_not_of(base64_digits) == 22;
}

http::response refusal(int status, const std::string& why, http::headers fields = {}) {
    fields.set("Content-Type", "text/plain");
    return http::response(status, std::string(http::reason(status)) + ": " + why + "\n", std::move(fields));
}

// "HOST:80" and "host" are the same for http.
std::string normal_authority(std::string_view authority, std::string_view scheme) {
    std::string text(authority);
    for (char& c : text) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    const std::string_view port = scheme == "https" ? ":443" : ":80";
    if (text.ends_with(port)) text.resize(text.size() - port.size());
    return text;
}

bool origin_allowed(const http::request& request, const std::vector<std::string>& allowed) {
    const std::vector<std::string> origins = request.headers().get_all("Origin");
    if (origins.empty()) return true;
    if (origins.size() > 1) return false;
    const std::string& origin = origins.front();
    if (!allowed.empty()) {
        return std::any_of(allowed.begin(), allowed.end(),
            [&](const std::string& one) { return one == "*" || equal_ignoring_case(one, origin); });
    }
    const std::size_t end = origin.find("://");
    if (end == origin.npos) return false;  // "null"
    const std::string scheme = origin.substr(0, end);
    return normal_authority(std::string_view(origin).substr(end + 3), scheme) ==
        normal_authority(request.headers()["Host"], scheme);
}

// Gives the first name of ours that the client offers.
std::string choose(const http::request& request, const std::vector<std::string>& ours) {
    for (const std::string& name : ours) {
        bool offered = false;
        for (const std::string& list : request.headers().get_all("Sec-WebSocket-Protocol")) {
            for_each_element(list, [&](std::string_view element) { offered = offered || element == name; });
        }
        if (offered) return name;
    }
    return {};
}

bool any_list_has(const http::headers& fields, std::string_view name, std::string_view element) {
    const std::vector<std::string> lists = fields.get_all(name);
    return std::any_of(lists.begin(), lists.end(), [&](const std::string& list) { return list_has(list, element); });
}

}  // namespace

std::string websocket_accept(std::string_view key) {
    return base64(sha1(std::string(key.substr(0, 24)) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
}

std::string websocket_key() {
    std::string bytes(16, '\0');
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
        throw std::system_error(errno, std::generic_category(), "getrandom for a WebSocket's key");
    }
    return base64(bytes);
}

void check_subprotocols(const std::vector<std::string>& names, const char* where) {
    for (std::size_t i = 0; i < names.size(); ++i) {
        const auto end = names.begin() + static_cast<std::ptrdiff_t>(i);
        if (!is_http_token(names[i]) || std::find(names.begin(), end, names[i]) != end) {
            throw std::invalid_argument(
                std::string(where) + ": the subprotocol \"" + names[i] + "\" is no token, or stands there twice");
        }
    }
}

http::response answer_handshake(const http::request& request, const websocket_terms& terms, std::string& subprotocol) {
    const http::headers& fields = request.headers();
    if (request.version() != http::version::v1_1) return refusal(400, "a WebSocket begins with a request of HTTP/1.1");
    if (!any_list_has(fields, "Upgrade", "websocket") || !any_list_has(fields, "Connection", "upgrade")) {
        return refusal(426, "this is a WebSocket", http::headers("Upgrade", "websocket", "Connection", "Upgrade"));
    }
    if (request.method() != "GET") return refusal(400, "a WebSocket begins with a GET");
    const std::vector<std::string> versions = fields.get_all("Sec-WebSocket-Version");
    if (versions.size() != 1 || versions.front() != "13") {
        return refusal(426, "only version 13 of the protocol is known",
            http::headers("Sec-WebSocket-Version", "13", "Upgrade", "websocket", "Connection", "Upgrade"));
    }
    const std::vector<std::string> keys = fields.get_all("Sec-WebSocket-Key");
    if (keys.size() != 1 || !is_key(keys.front())) return refusal(400, "Sec-WebSocket-Key is not 16 bytes in base64");
    if (!origin_allowed(request, terms.origins)) return refusal(403, "pages of this origin may not connect");

    http::response accepted(200, {},
        http::headers(
            "Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Accept", websocket_accept(keys.front())));
    http_access::set_status(accepted, 101);
    subprotocol = choose(request, terms.subprotocols);
    if (!subprotocol.empty()) accepted.headers().add("Sec-WebSocket-Protocol", subprotocol);
    return accepted;
}

std::optional<response_head> parse_response_head(std::string_view text) {
    const auto take_line = [&]() -> std::optional<std::string_view> {
        const std::size_t end = text.find("\r\n");
        if (end == text.npos) return std::nullopt;
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(end + 2);
        return line;
    };
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    const std::optional<std::string_view> first = take_line();
    if (!first || !first->starts_with("HTTP/1.1 ") || first->size() < 12) return std::nullopt;
    const std::string_view status = first->substr(9, 3);
    if (!std::all_of(status.begin(), status.end(), is_digit) || status[0] == '0') return std::nullopt;
    if (first->size() > 12 && (*first)[12] != ' ') return std::nullopt;
    response_head head;
    head.status = (status[0] - '0') * 100 + (status[1] - '0') * 10 + (status[2] - '0');
    for (;;) {
        const std::optional<std::string_view> line = take_line();
        if (!line) return std::nullopt;
        if (line->empty()) return text.empty() ? std::optional(std::move(head)) : std::nullopt;
        const std::size_t colon = line->find(':');
        if (colon == line->npos) return std::nullopt;
        try {
            head.fields.add(line->substr(0, colon), trimmed(line->substr(colon + 1)));
        } catch (const std::invalid_argument&) { return std::nullopt; }
    }
}

std::string check_handshake(
    const response_head& head, std::string_view key, const std::vector<std::string>& offered, const std::string& what) {
    const auto refuse = [&](const char* why) {
        throw http::error(what + ": the server's answer to the handshake is wrong: " + why);
    };
    if (!any_list_has(head.fields, "Upgrade", "websocket")) refuse("it has no \"Upgrade: websocket\"");
    if (!any_list_has(head.fields, "Connection", "upgrade")) refuse("it has no \"Connection: Upgrade\"");
    const std::vector<std::string> accepts = head.fields.get_all("Sec-WebSocket-Accept");
    if (accepts.size() != 1 || accepts.front() != websocket_accept(key)) {
        refuse("its Sec-WebSocket-Accept does not belong to the key");
    }
    if (head.fields.contains("Sec-WebSocket-Extensions")) refuse("it has an extension that nobody asked for");
    const std::vector<std::string> chosen = head.fields.get_all("Sec-WebSocket-Protocol");
    if (chosen.size() > 1) refuse("it has two subprotocols");
    if (chosen.empty()) return {};
    if (std::find(offered.begin(), offered.end(), chosen.front()) == offered.end()) {
        refuse("it has a subprotocol that nobody asked for");
    }
    return chosen.front();
}

}  // namespace aio::inline v0::detail
