#pragma once
// What a request asks of a file: its conditions and ranges, and what they come to (RFC 9110, 13 and 14).

#include "http/app/byte_ranges.hpp"

#include <aio/http/message.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aio::inline v0::detail {

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
    std::vector<byte_span> parts = {};  // of a 206 with two or more of them, instead of offset and count
};

file_verdict judge(const file_conditions& asked, const file_facts& facts);

/// True if a list of entity tags has this one, or is "*". weak: a tag that is weak fits, too.
bool tags_have(std::string_view list, std::string_view tag, bool weak) noexcept;

}  // namespace aio::inline v0::detail
