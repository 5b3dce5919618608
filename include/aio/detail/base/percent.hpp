#pragma once
// Percent-encoded text, as URLs have it (RFC 3986, 2.1), decoded: for HTTP, and for the URLs of databases and servers.

#include <cstddef>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {

inline int hex_value(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/// Replaces %XX by the byte that it stands for, and '+' by a space if in_query. What cannot be decoded stays as it is.
inline void percent_decode(std::string_view text, bool in_query, std::string& out) {
    out.clear();
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '%') {
            const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
            const int low = high >= 0 ? hex_value(text[i + 2]) : -1;
            if (low >= 0) {
                out.push_back(static_cast<char>(high * 16 + low));
                i += 2;
                continue;
            }
        }
        out.push_back(in_query && c == '+' ? ' ' : c);
    }
}
inline std::string percent_decoded(std::string_view text) {
    std::string plain;
    percent_decode(text, false, plain);
    return plain;
}

}  // namespace aio::inline v0::detail
