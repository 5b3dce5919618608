#pragma once
// Parses one HTTP/1 request after the other, from bytes as they come (RFC 9112). The parser is strict: it refuses what
// can be read in two ways, because requests can be smuggled past a proxy that reads them differently from its server.
// Boost.Beast reads the grammar; the .cpp says what is added to it. Each line and each section has a limit, so the
// buffer of the caller is bounded, too.

#include <aio/http/message.hpp>

#include <cstddef>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>

namespace aio::detail {

/// Reads requests one by one: feed() it until complete() or bad_status(), then take() the request. Bytes behind a
/// request stay with the caller.
class http_request_parser {
public:
    http_request_parser(std::size_t most_header_bytes, std::size_t most_body_bytes);
    ~http_request_parser();
    http_request_parser(const http_request_parser&) = delete;
    http_request_parser& operator=(const http_request_parser&) = delete;

    /// Takes from the front of data what belongs to this request, and gives the number of these bytes. The caller keeps
    /// the other bytes, and passes them again with more behind them.
    std::size_t feed(std::string_view data);

    bool begun() const noexcept;  // the first byte of the request has come; empty lines before it do not count
    bool header_done() const noexcept;
    bool complete() const noexcept;
    int bad_status() const noexcept;  // 0: the request is good so far; else the status of the answer that refuses it
    const std::string& bad_reason() const noexcept;

    // These require header_done().
    bool expects_continue() const noexcept;
    bool keep_alive() const noexcept;
    bool is_http_1_0() const noexcept;
    /// Gives the request, and begins with the next one. Requires complete().
    http::request take(std::string peer);

private:
    class reader;

    std::size_t most_header_bytes_;
    std::size_t most_body_bytes_;
    std::unique_ptr<reader> reader_;  // of this request: Beast's parser reads only one
};

/// The head of a response as it goes over the wire: "HTTP/1.1 200 OK" with its fields, Content-Length, Date and
/// Connection.
std::string http_response_head(const http::response& r, bool to_head_request, bool keep_alive, bool to_http_1_0);

/// "Sun, 06 Nov 1994 08:49:37 GMT"; made once for each second.
const std::string& http_date(std::time_t now);

/// True if the handler said "Connection: close".
bool http_asks_to_close(const http::response& r);

/// False for statuses that have no body, whatever the response says: 204, 205 and 304.
inline bool http_has_body(int status) noexcept { return status != 204 && status != 205 && status != 304; }

}  // namespace aio::detail
