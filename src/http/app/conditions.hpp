#pragma once
// What a request asks of a file: its conditions and ranges, and what they come to (RFC 9110, 13 and 14).

#include <aio/http/message.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace aio::detail {

/// The fields of a request that decide how a file is sent.
struct file_conditions {
    file_conditions() = default;
    explicit file_conditions(const http::request& request);

    bool is_head = false;
    std::optional<std::string> if_match;
    std::optional<std::string> if_none_match;
    std::optional<std::string> if_modified_since;
    std::optional<std::string> if_unmodified_since;
    std::optional<std::string> if_range;
    std::optional<std::string> range;
};

struct file_facts {
    std::uint64_t size = 0;
    std::int64_t modified = 0;  // seconds since 1970
    std::string tag;            // with its quotes
    bool is_fresh = false;      // modified a moment ago: another change may get the same date
};

/// How to answer: with 200, 206, 304, 412 or 416, and these bytes of the file.
struct file_verdict {
    int status = 200;
    std::uint64_t offset = 0;
    std::uint64_t count = 0;
};

file_verdict judge(const file_conditions& asked, const file_facts& facts);

/// A range of bytes as it is asked for. Nothing for a text that is no single range of bytes, which is ignored: several
/// ranges are answered with all.
struct byte_range {
    std::optional<std::uint64_t> first;  // nothing: the last bytes
    std::optional<std::uint64_t> last;   // or how many of the last bytes
};
std::optional<byte_range> parse_range(std::string_view text) noexcept;

/// True if a list of entity tags has this one, or is "*". weak: a tag that is weak fits, too.
bool tags_have(std::string_view list, std::string_view tag, bool weak) noexcept;

}  // namespace aio::detail
