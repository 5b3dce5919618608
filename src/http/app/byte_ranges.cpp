// Whatever a client asks for, the work is bounded by that of the whole file, and linear in the text. Ranges have been
// used to make servers work (CVE-2011-3192, CVE-2025-62727): many of them, or ranges that overlap, are answered with
// the whole file, which RFC 9110, 14.2 allows. So nobody has to sort or join them, and those that are sent have the
// order of the request.

#include "http/app/byte_ranges.hpp"

#include "http/access.hpp"
#include "http/app/media_type.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace aio::inline v0::detail {

namespace {

constexpr std::size_t most_parts = 32;

/// "10-19", "10-" or "-10": the bytes from first to last, or the last ones.
struct byte_range {
    std::optional<std::uint64_t> first;  // nothing: the last bytes
    std::optional<std::uint64_t> last;   // or how many of the last bytes
};

std::optional<std::uint64_t> number(std::string_view text) noexcept {
    std::uint64_t n = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') return std::nullopt;
        const auto digit = static_cast<std::uint64_t>(c - '0');
        constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
        n = n > (most - digit) / 10 ? most : n * 10 + digit;
    }
    return text.empty() ? std::nullopt : std::optional<std::uint64_t>(n);
}

std::optional<byte_range> parse_range(std::string_view text) noexcept {
    const std::size_t hyphen = text.find('-');
    if (hyphen == text.npos) return std::nullopt;
    byte_range range;
    range.first = number(text.substr(0, hyphen));
    range.last = number(text.substr(hyphen + 1));
    if (!range.first && (hyphen > 0 || !range.last)) return std::nullopt;
    if (!range.last && hyphen + 1 < text.size()) return std::nullopt;
    if (range.first && range.last && *range.first > *range.last) return std::nullopt;
    return range;
}

// A part without bytes if the range lies behind the end of the file.
byte_span part_of(const byte_range& range, std::uint64_t size) noexcept {
    if (!range.first) {
        const std::uint64_t count = std::min(*range.last, size);
        return {size - count, count};
    }
    if (*range.first >= size) return {};
    const std::uint64_t last = std::min(range.last.value_or(size - 1), size - 1);
    return {*range.first, last - *range.first + 1};
}

}  // namespace

std::optional<std::vector<byte_span>> parts_asked_for(std::string_view range, std::uint64_t size) {
    const std::size_t equals = range.find('=');
    if (equals == range.npos || !equal_ignoring_case(trimmed(range.substr(0, equals)), "bytes")) return std::nullopt;
    std::vector<byte_span> parts;
    bool good = true;
    std::size_t asked = 0;
    std::uint64_t bytes_left = size;
    for_each_element(range.substr(equals + 1), [&](std::string_view element) {
        if (!good || element.empty()) return;  // empty elements are to be ignored (RFC 9110, 5.6.1)
        const std::optional<byte_range> one = parse_range(element);
        const byte_span part = one ? part_of(*one, size) : byte_span();
        good = one && ++asked <= most_parts && part.count <= bytes_left;
        if (!good || part.count == 0) return;
        bytes_left -= part.count;
        parts.push_back(part);
    });
    if (!good || asked == 0) return std::nullopt;
    return parts;
}

std::string content_range(const byte_span& part, std::uint64_t file_size) {
    return "bytes " + std::to_string(part.offset) + "-" + std::to_string(part.offset + part.count - 1) + "/" +
        std::to_string(file_size);
}

parts_body::parts_body(std::vector<byte_span> parts, std::uint64_t file_size, std::string_view content_type)
    : parts_(std::move(parts)), boundary_(random_boundary()), content_type_(content_type), file_size_(file_size) {
    for (std::size_t i = 0; i < parts_.size(); ++i) size_ += before(i).size() + parts_[i].count;
    size_ += before(parts_.size()).size();
}

std::string parts_body::before(std::size_t part) const {
    std::string text = part == 0 ? "--" : "\r\n--";
    text += boundary_;
    if (part == parts_.size()) return text + "--\r\n";
    text.append("\r\nContent-Type: ").append(content_type_);
    text.append("\r\nContent-Range: ").append(content_range(parts_[part], file_size_)).append("\r\n\r\n");
    return text;
}

async_generator<std::string> pieces_of_parts(file source, parts_body body) {
    constexpr std::uint64_t most = 256 * 1024;
    for (std::size_t i = 0; i < body.parts().size(); ++i) {
        std::string piece = body.before(i);
        std::uint64_t at = body.parts()[i].offset, left = body.parts()[i].count;
        while (left > 0) {
            const std::size_t size = static_cast<std::size_t>(std::min(most, left));
            const std::string bytes = co_await source.read_at(static_cast<std::int64_t>(at), size);
            if (bytes.empty()) throw http::error("the file " + source.path() + " has become shorter while it was sent");
            at += bytes.size();
            left -= bytes.size();
            piece += bytes;
            co_yield std::move(piece);
            piece = {};
        }
    }
    std::string last = body.before(body.parts().size());
    co_yield std::move(last);
    co_await source.aclose();
}

}  // namespace aio::inline v0::detail
