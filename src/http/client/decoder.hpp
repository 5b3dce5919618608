#pragma once
// Decodes compressed bodies piece by piece: Content-Encoding gzip and deflate, by zlib. libcurl could decode them, too,
// but it does not tell a body that was cut short from a whole one.

#include <aio/http/headers.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace aio::inline v0::detail {

/// The Accept-Encoding of a request.
inline constexpr std::string_view http_known_codings = "gzip, deflate";

/// Decodes one body: give() it pieces, read() from it while has_more(), and check_end() at the end.
class http_decoder {
public:
    /// Makes the decoder for an answer. Gives null if the answer is not encoded; also if it has an unknown coding and
    /// the caller has asked for codings himself, so that the body is given as it came. Throws http::error for an
    /// unknown coding that nobody has asked for, and for more than three codings.
    static std::unique_ptr<http_decoder> of(const http::headers& answer, bool asked_by_caller);
    ~http_decoder();
    http_decoder(const http_decoder&) = delete;
    http_decoder& operator=(const http_decoder&) = delete;

    /// Keeps a piece of the body for read().
    void give(std::string_view encoded);
    /// False if all that was given has been decoded and read.
    bool has_more() const noexcept;
    /// Decodes at most `most` bytes and appends them to out. Throws http::error for a body that is not so encoded.
    void read(std::string& out, std::size_t most);
    /// Checks the end of the body, after the last give(). Throws http::error if the body was cut short. A body without
    /// a byte is an empty one.
    void check_end() const;

private:
    struct stage;
    http_decoder();
    /// Adds a coding that is undone before the others: the server has applied it after them.
    void put_in_front(bool gzip);
    std::vector<std::unique_ptr<stage>> stages_;  // in the order in which they decode
};

}  // namespace aio::inline v0::detail
