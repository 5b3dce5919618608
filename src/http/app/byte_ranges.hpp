#pragma once
// The ranges of bytes that a request asks for, and the body that has several of them (RFC 9110, 14).

#include <aio/async_generator.hpp>
#include <aio/file.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aio::inline v0::detail {

/// Bytes of a file; never none.
struct byte_span {
    std::uint64_t offset = 0;
    std::uint64_t count = 0;
};

/// Gives the parts of a file of this size that a Range asks for, in its order; those that lie behind the file's end are
/// left out, so there may be none (416). Gives nothing if the Range is to be ignored: because it is malformed, or asks
/// for more work than the whole file would be (more than 32 parts, or parts that have more bytes together than the file
/// has).
std::optional<std::vector<byte_span>> parts_asked_for(std::string_view range, std::uint64_t size);

/// A body of type multipart/byteranges.
class parts_body {
public:
    parts_body(std::vector<byte_span> parts, std::uint64_t file_size, std::string_view content_type);

    /// The value of Content-Type.
    std::string content_type() const { return "multipart/byteranges; boundary=" + boundary_; }
    /// How long the body is.
    std::uint64_t size() const noexcept { return size_; }
    const std::vector<byte_span>& parts() const noexcept { return parts_; }
    /// What stands before a part; or behind the last one, for parts().size().
    std::string before(std::size_t part) const;

private:
    std::vector<byte_span> parts_;
    std::string boundary_;
    std::string content_type_;
    std::uint64_t file_size_;
    std::uint64_t size_ = 0;
};

/// Gives the body piece by piece from a file. Throws http::error if the file has become shorter.
async_generator<std::string> pieces_of_parts(file source, parts_body body);

/// "bytes 0-9/100"
std::string content_range(const byte_span& part, std::uint64_t file_size);

}  // namespace aio::inline v0::detail
