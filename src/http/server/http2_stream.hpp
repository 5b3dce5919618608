#pragma once
// One request of an HTTP/2 connection and its response.

#include "http/body.hpp"
#include "http/server/engine.hpp"
#include "http/server/http2_head.hpp"

#include <aio/detail/base/list.hpp>
#include <aio/detail/group/wakeup.hpp>
#include <aio/task.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {

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
    http2_stream(http2_connection& c, std::int32_t number, const http::server_options& options) noexcept
        : connection(&c), id(number), head(options.max_header_size, options.max_header_count) {}

    // ---- called by the connection, for what nghttp2 tells it

    /// The head of the request is complete. Answers it, calls the handler, or waits for the body.
    void take_head(bool body_follows);
    void take_body(std::string_view data);
    void take_trailer(std::string_view name, std::string_view value);
    /// The request is complete.
    void take_end();
    /// The client has not sent the body in time.
    void too_slow() { refuse(408, "the request did not come in time"); }
    /// nghttp2 has forgotten the stream: one of the sides has reset it, or both are through. Or the connection ends.
    /// Cancels the task that sends the response, and if cancel_handler, the handler, too. May destroy the stream.
    void closed(bool cancel_handler) noexcept;
    /// The server closes: a response that wants to know is told.
    void server_closes() noexcept;
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
    bool response_done = false;          // all of it has been handed to the writer
    std::uint64_t bytes_received = 0, bytes_sent = 0;
    std::size_t counted = 0;  // bytes of a collected body that the connection has counted
    std::size_t owed = 0;     // how much wider the connection will open the stream's window, later

private:
    /// A parameter of the handler's task: a stream whose task ends without an answer is reset, also if the task was
    /// cancelled before it began.
    class task_end;
    static coro<> handle(task_end end, http::request request);
    bool alive() const noexcept;
    void start(http::request request);
    void refuse(int status, const std::string& why);
    void refuse_length();
    std::uint64_t most_body() const noexcept;
    void say_continue();
    [[noreturn]] void throw_bad_body() const;
    void tell_log() noexcept;

    http::response answer_to(const std::exception_ptr& error);
    void prepare(http::response& r);
    void respond(http::response r);
    coro<> send_special();
    coro<> send_pieces(async_generator<std::string> pieces);
    coro<> send_all(async_generator<std::string>& pieces);
    coro<> send_file(aio::file& source, std::uint64_t offset, std::uint64_t count);
    coro<> offer(std::string piece);
    void finish();

    http::request request_;  // while its body is collected
    std::string name_;       // of the request, for reports and the log: "GET /path"
    std::string received_;   // of the body, and not yet given to the handler
    std::uint64_t body_bytes_ = 0;
    body_pace pace_;
    time_point last_arrival_;  // of a part of a collected body
    time_point begin_;         // when the head had come, for the log
    enum class reader : std::uint8_t { nobody, engine, handler } reader_ = reader::nobody;  // of the body
    int bad_body_ = 0;  // the status that refuses a body which the handler reads
    bool continue_due_ = false;
    bool to_head_ = false;
    wakeup arrived_;
    any_task task_;

    http::response response_;
    http2_length promised_;  // the length of the body, if its fields have one
    std::string piece_;
    std::string_view to_send_;
    std::size_t since_progress_ = 0;  // bytes sent since the deadline was set
    bool handled_ = false;            // the handler has given its response
    bool begun_ = false;              // nghttp2 has the head of the response
    bool last_ = false;               // nothing comes after to_send_
    bool cut_ = false;                // by this side: the body is not whole
    wakeup taken_;
};

}  // namespace aio::inline v0::detail
