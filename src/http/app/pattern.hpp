#pragma once
// The patterns of routes, taken apart, and paths taken apart in the same way.

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace aio::inline v0::detail {

/// The first segment of a path that begins with a slash, and the rest, which begins with a slash, too, or is empty.
struct first_segment {
    explicit first_segment(std::string_view path) noexcept {
        const std::size_t end = std::min(path.find('/', 1), path.size());
        text = path.substr(1, end - 1);
        rest = path.substr(end);
    }
    std::string_view text;
    std::string_view rest;
};

struct http_pattern {
    /// Throws std::invalid_argument, which says what is wrong with the pattern.
    explicit http_pattern(const std::string& pattern);

    struct segment {
        std::string text;  // or the name of a parameter
        bool is_parameter = false;
    };
    std::vector<segment> segments;
    std::vector<std::string> names;
    bool has_tail = false;  // its name is the last of names
};

/// The path of a request's target as it was sent, without the query: "/a%20b". Empty if there is none.
std::string_view raw_path(std::string_view method, std::string_view target) noexcept;

}  // namespace aio::inline v0::detail
