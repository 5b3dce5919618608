#pragma once
// One HTTP/1 request after the other, from bytes as they come (RFC 9112). It is strict, because a server that reads a request otherwise
// than the proxy before it lets requests be smuggled: what can be read in two ways is refused. It takes a message line by line and
// keeps nothing but the line that is not complete yet, and each line has a limit, so the buffer of whoever feeds it is bounded, too.

#include <aio/http/message.hpp>

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace aio::detail {

class http_request_parser {
public:
    http_request_parser(std::size_t most_header_bytes, std::size_t most_body_bytes) noexcept
        : most_header_bytes_(most_header_bytes), most_body_bytes_(most_body_bytes), line_bytes_left_(most_header_bytes) {}

    /// Takes from the front of data what belongs to this request, and gives how many bytes that were. Bytes that were not taken are
    /// given again, with more behind them.
    std::size_t feed(std::string_view data);

    bool begun() const noexcept { return begun_; }  // its first byte has come; an empty line before it is none
    bool header_done() const noexcept { return at_ >= state::sized_body; }
    bool complete() const noexcept { return bad_status_ == 0 && at_ == state::end; }
    int bad_status() const noexcept { return bad_status_; }  // 0: good so far; else the status that says what is wrong
    const std::string& bad_reason() const noexcept { return bad_reason_; }

    // once the header is done
    bool expects_continue() const noexcept;
    bool keep_alive() const noexcept;
    bool is_http_1_0() const noexcept { return minor_version_ == 0; }
    /// Once it is complete. Begins anew.
    http::request take(std::string peer);

private:
    enum class state : std::uint8_t { start, fields, sized_body, chunk_size, chunk_data, chunk_end, trailers, end };

    std::optional<std::string_view> line(std::string_view data);
    void take_line(std::string_view text);
    void take_request_line(std::string_view text);
    void take_field(std::string_view text, http::headers& into);
    void take_chunk_size(std::string_view text);
    void begin_body();
    void bad(int status, std::string reason);

    std::size_t most_header_bytes_;
    std::size_t most_body_bytes_;
    std::size_t line_bytes_left_;  // of the header section, or of the trailer section
    std::size_t searched_ = 0;     // of a line that is not complete yet
    std::uint64_t body_left_ = 0;  // of the body, or of this chunk
    std::size_t chunk_overhead_ = 0;
    state at_ = state::start;
    bool begun_ = false;
    int minor_version_ = 1;
    std::string method_;
    std::string target_;
    http::headers fields_;
    http::headers trailers_;
    std::string body_;
    int bad_status_ = 0;
    std::string bad_reason_;
};

/// The head of a response as it goes over the wire: "HTTP/1.1 200 OK" with its fields, Content-Length, Date and Connection.
std::string http_response_head(const http::response& r, bool to_head_request, bool keep_alive, bool to_http_1_0);

/// "Sun, 06 Nov 1994 08:49:37 GMT"; made once for each second.
const std::string& http_date(std::time_t now);

/// True if the handler said "Connection: close".
bool http_asks_to_close(const http::response& r);

/// False for statuses that have no body, whatever the response says: 204, 205 and 304.
inline bool http_has_body(int status) noexcept { return status != 204 && status != 205 && status != 304; }

}  // namespace aio::detail
