#pragma once
// One HTTP/1 request after the other, from bytes as they come. Boost.Beast's parser inside; what is left to the application by it
// is decided here, strictly, because a server that reads a request otherwise than the proxy before it lets requests be smuggled.

#include <aio/http/message.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace aio::detail {

class http_request_parser {
public:
    http_request_parser(std::size_t most_header_bytes, std::size_t most_body_bytes);
    ~http_request_parser();
    http_request_parser(const http_request_parser&) = delete;
    http_request_parser& operator=(const http_request_parser&) = delete;

    /// Takes from the front of data what belongs to this request, and gives how many bytes that were. Bytes that were not taken are
    /// given again, with more behind them.
    std::size_t feed(std::string_view data);

    bool begun() const noexcept { return begun_; }  // its first byte has come
    bool header_done() const noexcept;
    bool complete() const noexcept;
    int bad_status() const noexcept { return bad_status_; }  // 0: good so far; else the status that says what is wrong
    const std::string& bad_reason() const noexcept { return bad_reason_; }

    // once the header is done
    bool expects_continue() const;
    bool keep_alive() const;
    bool is_http_1_0() const;
    /// Once it is complete. Begins anew.
    http::request take(std::string peer);

private:
    struct inside;
    void check_header();
    void bad(int status, std::string reason);
    std::size_t most_header_bytes_;
    std::size_t most_body_bytes_;
    std::unique_ptr<inside> inside_;
    bool begun_ = false;
    bool header_checked_ = false;
    int bad_status_ = 0;
    std::string bad_reason_;
};

/// The head of a response as it goes over the wire: "HTTP/1.1 200 OK" with its fields, Content-Length, Date and Connection.
std::string http_response_head(const http::response& r, bool to_head_request, bool keep_alive, bool to_http_1_0);

/// True if the handler said "Connection: close".
bool http_asks_to_close(const http::response& r);

/// False for statuses that have no body, whatever the response says: 204 and 304.
inline bool http_has_body(int status) noexcept { return status != 204 && status != 304; }

}  // namespace aio::detail
