#pragma once
// The heads of HTTP/2: that of a request, put together from its fields, and that of a response, as fields.

#include <aio/detail/base/memory.hpp>
#include <aio/http/message.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nghttp2/nghttp2.h>

namespace aio::inline v0::detail {

/// The fields of a request as they come. nghttp2 has checked each of them, and which pseudo-header fields there are;
/// the rest is checked here, as the parser of HTTP/1 checks it.
class http2_head {
public:
    http2_head(std::size_t most_bytes, std::size_t most_fields) noexcept
        : most_bytes_(most_bytes), most_fields_(most_fields) {}

    /// Counts a field. False if it is beyond the limit.
    bool count(std::string_view name, std::string_view value) noexcept;
    /// Takes a field. False if the list has become so long that the client can only be hostile.
    bool add(std::string_view name, std::string_view value);
    /// Looks whether this is a request: gives the status that refuses it, or 0.
    int check();
    const std::string& why() const noexcept { return why_; }

    // These require check() to have given 0.
    bool expects_continue() const noexcept { return expects_continue_; }
    std::optional<std::uint64_t> content_length() const noexcept { return content_length_; }
    /// Gives the request without its body.
    http::request take(const std::string& peer);

    bool to_head() const noexcept { return method_ == "HEAD"; }
    std::string name() const { return method_ + " " + path_; }  // for reports; before take()

private:
    void add_pseudo(std::string_view name, std::string_view value);
    void add_cookie(std::string_view value);
    int refuse(int status, std::string why);

    std::size_t most_bytes_;
    std::size_t most_fields_;
    std::size_t bytes_ = 0;
    std::size_t count_ = 0;  // of the fields; a Cookie in parts is one
    std::string method_;
    std::string path_;
    std::string scheme_;
    std::string authority_;
    http::headers fields_;
    std::size_t cookie_ = static_cast<std::size_t>(-1);  // its place among the fields
    std::size_t hosts_ = 0;
    std::optional<std::uint64_t> content_length_;
    bool expects_continue_ = false;
    std::string why_;
};

/// How long the body of a response is: a length, or nothing if that is not known before its end.
using http2_length = std::optional<std::uint64_t>;

/// What is sent as the header or the trailers of a response at most. Peers end the connection over more: nghttp2 1.52
/// takes 8 CONTINUATION frames, and fields of 64 KiB.
inline constexpr std::size_t most_http2_fields = 128 * 1024;
inline constexpr std::size_t most_http2_field = 64 * 1024;
/// Throws std::length_error if these are too long to be sent.
void check_http2_fields(const http::headers& fields, const char* what);

/// The head of a response for nghttp2, which copies it. It refers to the response.
class http2_fields {
public:
    /// with_trailers: no length is said, because clients stop to read there (libcurl 7.88).
    http2_fields(const http::response& r, bool to_head, http2_length length, bool with_trailers);
    explicit http2_fields(const http::headers& trailers);
    http2_fields(const http2_fields&) = delete;
    http2_fields& operator=(const http2_fields&) = delete;

    const nghttp2_nv* data() const noexcept { return all_.data(); }
    std::size_t size() const noexcept { return all_.size(); }

private:
    void add(std::string_view name, std::string_view value);
    std::vector<nghttp2_nv, pool_allocator<nghttp2_nv>> all_;
    char status_[4];
    char length_[24];
};

}  // namespace aio::inline v0::detail
