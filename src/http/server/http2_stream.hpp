#pragma once
// One request of an HTTP/2 connection and its response.

#include "http/body.hpp"
#include "http/server/http2_head.hpp"

#include <aio/detail/base/list.hpp>
#include <aio/detail/group/wakeup.hpp>
#include <aio/task.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace aio::detail {

class http2_connection;

/// A node of the list of all streams of a connection.
struct http2_open_stream : list_node {};
/// A node of the list of the streams for whose client a deadline runs.
struct http2_timed_stream : list_node {
    time_point deadline;
};

/// A stream of HTTP/2. While nghttp2 knows it, it keeps itself alive; its handler's task does, and so does a generator
/// that reads the request's body, which may outlive the connection.
class http2_stream final : public http_body_source, public http2_open_stream, public http2_timed_stream {
public:
    http2_stream(http2_connection& c, std::int32_t number, std::size_t most_header_bytes) noexcept
        : connection(&c), id(number), head(most_header_bytes) {}

    // ---- called by the connection, for what nghttp2 tells it

    /// The head of the request is complete. Answers it, calls the handler, or waits for the body.
    void take_head(bool body_follows);
    void take_body(std::string_view data);
    void take_trailer(std::string_view name, std::string_view value);
    /// The request is complete.
    void take_end();
    /// The client has not sent the body in time.
    void too_slow();
    /// nghttp2 has forgotten the stream, which the client or this side has reset, or with which both are through; or
    /// the connection ends. This may destroy the stream.
    void closed() noexcept;
    /// How many bytes are in the next frame of data, at most most; or NGHTTP2_ERR_DEFERRED.
    ssize_t next_frame(std::size_t most, std::uint32_t& flags);
    /// Gives n bytes that next_frame() has promised, until sent() is called.
    std::string_view to_send(std::size_t n) const noexcept { return to_send_.substr(0, n); }
    void sent(std::size_t n) noexcept;

    // ---- called by the reader of the body

    coro<std::string> next() override;

    http2_connection* const connection;  // lives as long as self is set, or the handler's task runs
    const std::int32_t id;
    http2_head head;
    std::shared_ptr<http2_stream> self;  // while nghttp2 knows the stream
    bool request_done = false;           // all of it has come
    bool response_done = false;          // all of it has been written
    std::size_t counted = 0;             // bytes of a collected body that the connection has counted
    std::size_t owed = 0;                // how much wider the connection will open the stream's window, later

private:
    /// A parameter of the handler's task: a stream whose task ends without an answer is reset, also if the task was
    /// cancelled before it began.
    class task_end;
    static coro<> handle(task_end end, http::request request);
    bool alive() const noexcept;
    void start(http::request request);
    void refuse(int status, const std::string& why);
    void say_continue();
    void respond(http::response r);
    coro<> send_special();
    coro<> send_pieces(async_generator<std::string>& pieces);
    coro<> send_file(aio::file& source, std::uint64_t offset, std::uint64_t count);
    coro<> offer(std::string piece);
    void finish();

    http::request request_;  // while its body is collected
    std::string name_;       // of the request, for reports
    std::string received_;   // of the body, and not yet given to the handler
    std::size_t body_bytes_ = 0;
    enum class reader : std::uint8_t { nobody, engine, handler } reader_ = reader::nobody;  // of the body
    bool continue_due_ = false;
    bool to_head_ = false;
    wakeup arrived_;
    any_task task_;

    http::response response_;
    std::string piece_;
    std::string_view to_send_;
    bool last_ = false;  // nothing comes after to_send_
    wakeup taken_;
};

}  // namespace aio::detail
