#pragma once
// Parses one HTTP/1 request after the other, from bytes as they come (RFC 9112). The parser is strict: it refuses what
// can be read in two ways, because requests can be smuggled past a proxy that reads them differently from its server.
// Boost.Beast reads the grammar; the .cpp says what is added to it. Each line and each section has a limit, so the
// buffer of the caller is bounded, too.

#include <aio/http/message.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {

/// Reads requests one by one: feed() it until complete() or bad_status(), then take() the request. Bytes behind a
/// request stay with the caller. A body that is read piece by piece: feed_head() until header_done(), take_head(),
/// limit_body(), and then feed() and take_piece() by turns, until complete(); next() begins with the next request.
class http_request_parser {
public:
    http_request_parser(std::size_t most_header_bytes, std::size_t most_body_bytes, std::size_t most_fields = 100);
    ~http_request_parser();
    http_request_parser(const http_request_parser&) = delete;
    http_request_parser& operator=(const http_request_parser&) = delete;

    /// Takes from the front of data what belongs to this request, and gives the number of these bytes. The caller keeps
    /// the other bytes, and passes them again with more behind them.
    std::size_t feed(std::string_view data);
    /// Works like feed(), but takes nothing of the body.
    std::size_t feed_head(std::string_view data);

    bool begun() const noexcept;  // the first byte of the request has come; empty lines before it do not count
    bool header_done() const noexcept;
    bool complete() const noexcept;
    int bad_status() const noexcept;  // 0: the request is good so far; else the status of the answer that refuses it
    const std::string& bad_reason() const noexcept;
    /// Refuses the request, unless it is refused already.
    void refuse(int status, std::string why);

    // These require header_done().
    bool expects_continue() const noexcept;
    bool keep_alive() const noexcept;
    bool is_http_1_0() const noexcept;
    /// How long the body may be, in place of the constructor's number.
    void limit_body(std::uint64_t most_bytes) noexcept;
    /// How much of the body has not come; at least that, if it comes in chunks and is not complete().
    std::uint64_t body_bytes_left() const noexcept;
    bool is_chunked() const noexcept;
    /// Gives the request without its body.
    http::request take_head(std::string peer);
    /// Gives what feed() has taken of the body since the last call.
    std::string take_piece() noexcept;
    /// True if all of these bytes belong to the body as they are: then they count as fed and taken.
    bool pass_piece(std::size_t bytes) noexcept;
    /// Gives the trailers. Requires complete().
    http::headers take_trailers() noexcept;
    /// Begins with the next request.
    void next() noexcept;

    /// Gives the request, and begins with the next one. Requires complete().
    http::request take(std::string peer);

private:
    class reader;

    std::size_t most_header_bytes_;
    std::size_t most_body_bytes_;
    std::size_t most_fields_;
    std::unique_ptr<reader> reader_;  // of this request: Beast's parser reads only one, and is made anew in its place
};

}  // namespace aio::inline v0::detail
