#pragma once
// A connection of HTTP/2: nghttp2's session with its callbacks, the task that reads, the task that writes, and the
// limits that hold for the connection as a whole. http2_connection.cpp says how they work together.

#include "http/server/http2.hpp"
#include "http/server/http2_limits.hpp"
#include "http/server/http2_memory.hpp"
#include "http/server/http2_stream.hpp"

#include <aio/background_tasks.hpp>
#include <aio/detail/loop/loop_core.hpp>
#include <aio/detail/loop/timer.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nghttp2/nghttp2.h>

namespace aio::inline v0::detail {

class http2_connection final : public served_connection {
public:
    http2_connection(http_server_state& server, stream client);
    ~http2_connection() override;
    void server_closes() noexcept override { drain(); }

    /// Reads until the connection ends.
    coro<> run(std::string first);
    /// The client has gone. Unless that cancels them, waits for the handlers to finish what they do.
    coro<> let_handlers_finish();
    /// Cancels the handlers and the writer, and completes when all have ended.
    background_shutdown end_tasks() noexcept { return tasks_.shutdown(); }
    stream& client() noexcept { return client_; }

    // ---- for its streams

    http_server_state& server() const noexcept { return *server_; }
    time_point now() const noexcept { return loop_->now(); }
    time_point last_look() const noexcept { return now_; }
    /// A handler begins, or ends.
    void count_handler(bool begins) noexcept;
    /// A request has got its handler. The last one of the connection ends it.
    void count_request() noexcept;
    const std::string& peer() const noexcept { return peer_; }
    nghttp2_session* session() const noexcept { return session_; }
    /// Nothing is to be asked of nghttp2 any more: the connection ends.
    bool failed() const noexcept { return failed_; }
    /// Runs a stream's handler in a task.
    any_task begin_task(coro<> c) { return tasks_.create_task(std::move(c)); }
    std::size_t handlers() const noexcept { return handlers_; }
    /// Ends the connection as soon as the requests under way are answered, and takes no new ones.
    void leave() noexcept { drain(); }
    /// There is something to write: the writer looks.
    void wake_writer() noexcept { to_write_.set(); }
    /// Throws std::bad_alloc if nghttp2 had no memory, which is the end of the connection; other errors of its
    /// functions come too late to matter.
    void check(int error);
    /// For a callback, in its catch: keeps the error, and gives what tells nghttp2 of it.
    int caught() noexcept;
    /// Gives an error to the loop's exception handler.
    static void report(std::string what, std::exception_ptr error);
    /// As report(), and counts it as an error of a handler.
    void tell_of_error(std::string what, std::exception_ptr error);
    /// nghttp2 has deferred the stream's data: now there are some.
    void resume(http2_stream& s);
    void reset(http2_stream& s, std::uint32_t code) noexcept;
    /// The client has to take what is sent, or to send more of a body, before the deadline: counted from now on.
    void expect_progress(http2_stream& s) noexcept;
    void expect_body(http2_stream& s) noexcept;
    void expect_nothing(http2_stream& s) noexcept;
    /// The response is complete, and the request is not. The client need not send the rest (RFC 9113, 8.1): it is told
    /// so a little later, because some clients drop a response that comes together with the reset (curl 7.88).
    void reset_soon(http2_stream& s) noexcept;
    /// Gives the client n bytes of the stream's window back.
    void open_window(http2_stream& s, std::size_t n);
    /// A collected body has grown by n bytes: the client may send more, now or later.
    void count_collected(http2_stream& s, std::size_t n);
    /// A collected body is complete; whole: its handler has ended, too.
    void end_collected(http2_stream& s, bool forgotten) noexcept;

private:
    friend struct http2_callbacks;
    static constexpr std::size_t most_collected = 128 * 1024;  // of frames, for one write
    static constexpr std::int64_t nuisance_at_once = 2000;
    static constexpr std::uint8_t drain_ping[8] = {'a', 'i', 'o', 'd', 'r', 'a', 'i', 'n'};
    /// A parameter of the writer: without a writer the connection fails, also if it was cancelled before it began.
    class writer_end {
    public:
        explicit writer_end(http2_connection& c) noexcept : connection_(&c) {}
        writer_end(writer_end&& other) noexcept : connection_(std::exchange(other.connection_, nullptr)) {}
        writer_end& operator=(writer_end&&) = delete;
        ~writer_end() {
            if (connection_ && !connection_->failed_) connection_->fail(nullptr);
        }

    private:
        http2_connection* connection_;
    };
    struct deadline_timer : timer_node {
        http2_connection* owner = nullptr;
    };

    void drain() noexcept;
    void make_session();
    void end_session() noexcept;
    void note(int error) noexcept;
    void feed(std::string_view data);
    coro<> write_all(writer_end);
    bool collect();
    bool congested() const noexcept;
    void fail(std::exception_ptr error) noexcept;
    void terminate(std::uint32_t code) noexcept;
    void finish() noexcept;
    void final_goaway() noexcept;
    void close_streams(bool cancel_handlers) noexcept;
    void add_stream(std::int32_t id);
    void remove_stream(http2_stream& s) noexcept;
    bool tolerates(std::int64_t cost) noexcept;
    bool tolerates_data(const nghttp2_frame& frame) noexcept;
    void pay_owed() noexcept;

    void due(std::optional<time_point> when) noexcept;
    std::optional<time_point> next_deadline() const noexcept;
    void on_deadline() noexcept;
    void reset_overdue(list<http2_timed_stream>& streams, std::uint32_t code) noexcept;
    std::optional<time_point> after(delay d) const noexcept;

    stream client_;
    http_server_state* server_;
    loop_core* loop_;
    std::string peer_;
    background_tasks tasks_;
    http2_memory memory_;  // of the session
    nghttp2_session* session_ = nullptr;

    std::string out_;  // frames that are written next
    wakeup to_write_;
    wakeup room_;  // the reader waits for the writer

    list<http2_open_stream> open_;
    std::size_t open_count_ = 0;
    std::size_t handlers_ = 0;
    std::size_t requests_ = 0;
    wakeup handler_ended_;
    list<http2_timed_stream> sending_;     // those whose response the client has to take; the earliest deadline first
    list<http2_timed_stream> collecting_;  // those whose body the client has to send
    list<http2_timed_stream> answered_;    // those that will be reset, because their request is not complete
    list<http2_timed_stream> stalled_;     // those whose client cannot send, because collected bodies are too large
    http2_stream* favoured_ = nullptr;     // the one that may send nevertheless
    std::size_t collected_ = 0;            // bytes of collected bodies
    std::exception_ptr error_;
    bool failed_ = false;      // nothing is read or written any more
    bool terminated_ = false;  // a last GOAWAY is on its way: what comes is dropped
    bool finished_ = false;    // all is written; the client reads the end
    bool draining_ = false;
    bool greeted_ = false;  // the client's first SETTINGS have come

    http2_allowance given_up_;
    http2_allowance nuisance_;
    int continuations_ = 0;

    time_point now_;
    deadline_timer timer_;
    std::optional<time_point> idle_until_;
    std::optional<time_point> head_until_;
    std::optional<time_point> goaway_at_;
    std::optional<time_point> linger_until_;
};

}  // namespace aio::inline v0::detail
