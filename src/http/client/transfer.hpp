#pragma once
// libcurl's multi interface on our loop. curl_multi is what is inside a session: the CURLM, the descriptors that
// libcurl asks us to watch and its one timer. curl_transfer is one request under way.
//
// libcurl never waits: it names the descriptors and the time that it wants to hear of (socket_function,
// timer_function), and hears of them through curl_multi_socket_action, which the backend and our timers call, always
// outside of libcurl's own callbacks. Transfers that have ended are collected after each such call; that only schedules
// the tasks that wait for them.
//
// For libcurl a request is one message there and one back. This code follows redirects, because it decides what may go
// to another origin, and decompresses bodies.
//
// A curl_multi is bound to a loop only while transfers run, so a session may be made before run() and destroyed after
// it. Idle connections are not watched: they are looked at when libcurl takes one for a request (is_stale). libcurl
// itself notices that a connection was closed, but takes bytes on it for a sign of life: what the server has said
// unasked would become the answer to the next request.

#include "http/client/decoder.hpp"

#include <aio/detail/io/descriptor_wait.hpp>
#include <aio/http/client.hpp>

#include <curl/curl.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

namespace aio::detail {

/// What is inside a session; the session and its transfers share it.
class curl_multi {
public:
    explicit curl_multi(const http::session_options& options);
    ~curl_multi();
    curl_multi(const curl_multi&) = delete;
    curl_multi& operator=(const curl_multi&) = delete;

    /// Binds this to the running loop, sets up the transfer's handle and gives it to libcurl. If it throws, the
    /// transfer has not begun.
    void add(curl_transfer& t);
    /// Takes a transfer away from libcurl, which closes its connection unless the transfer has ended well.
    void remove(curl_transfer& t) noexcept;
    /// Sends the transfer's next message, after a redirect or to repeat one. If it throws, the transfer has still to
    /// be removed.
    void ask_again(curl_transfer& t);
    void close() noexcept;
    /// A transfer has ended well. From now on its connection, if it is kept, is stale as soon as the server says
    /// something.
    void note_idle(const curl_transfer& t) noexcept;
    /// True if an idle connection was closed meanwhile, or the server has said something on it. The two ports of the
    /// connection tell which one is meant.
    bool is_stale(int local_port, int peer_port) const noexcept;

    list<curl_transfer> running;
    std::size_t count = 0;
    delay timeout = std::nullopt;
    loop_core* loop = nullptr;  // while transfers run

private:
    struct socket {
        fd_watch watch;
        std::uint32_t events = 0;
        int idle_port = 0;  // the local port of the HTTP/1 connection that was kept on this descriptor last
        explicit socket(function<void(std::uint32_t)> fn) noexcept : watch(std::move(fn)) {}
    };
    struct timer : timer_node {
        curl_multi* owner = nullptr;
    };
    static int socket_function(CURL*, curl_socket_t fd, int what, void* self, void*) noexcept;
    static int timer_function(CURLM*, long milliseconds, void* self) noexcept;
    void set_up(curl_transfer& t);
    void act(curl_socket_t fd, int events) noexcept;
    void collect() noexcept;

    CURLM* multi_ = nullptr;
    timer timer_;
    std::unordered_map<curl_socket_t, socket> sockets_;  // by descriptor; never erased, as numbers come again
    delay connect_timeout_ = std::nullopt;
    http::headers fields_;  // sent with each request that has no field of the same name
    std::string ca_file_;
    std::exception_ptr watch_error_;  // why socket_function or timer_function failed
};

/// One request under way, with all redirects that it follows. http_exchange, or the generator of a stream, owns it.
struct curl_transfer : list_node {
    curl_transfer() { deadline.owner = this; }
    ~curl_transfer();
    curl_transfer(const curl_transfer&) = delete;
    curl_transfer& operator=(const curl_transfer&) = delete;

    // what the transfer asks
    std::shared_ptr<curl_multi> multi;
    std::string method;
    std::string url;
    std::string shown;  // the URL without user and password, for messages
    std::string body;
    http::headers given;           // the caller's, without those that say how the message ends
    curl_slist* fields = nullptr;  // all fields of the request, for libcurl
    delay timeout = std::nullopt;
    bool follow_redirects = true;
    std::size_t max_redirects = 0;
    std::size_t max_body_size = 0;    // 0: no limit
    bool local = false;               // to this machine: not through a proxy
    bool close_connection = false;    // the caller has sent "Connection: close"
    bool asks_for_encodings = false;  // the caller has sent an Accept-Encoding
    bool streaming = false;           // the body is read while it comes: see session::stream

    // while it runs
    CURL* easy = nullptr;
    char error_text[CURL_ERROR_SIZE] = {};
    struct timer : timer_node {
        curl_transfer* owner = nullptr;
    } deadline;
    void* waiter = nullptr;
    void (*wake)(void* waiter) noexcept = nullptr;
    bool paused = false;  // streaming: libcurl has to wait until the consumer has read what has come
    std::size_t redirects = 0;

    // of the message under way
    enum class section : std::uint8_t { status_line, header, rest } at = section::status_line;
    int tries = 0;             // how often libcurl has begun to send it
    int open_error = 0;        // errno of socket()
    bool stale = false;        // libcurl has chosen a connection that must not be used
    bool repeated = false;     // the message is sent again, over a new connection
    bool redirecting = false;  // the body that comes is that of a redirect, and is thrown away
    bool enough = false;       // the body of a redirect is too long to wait for its end
    std::unique_ptr<http_decoder> decoder;

    // what has come
    bool ended = false;
    std::exception_ptr error;
    int status = 0;
    http::headers answer;
    http::headers trailers;
    std::size_t header_bytes = 0;
    std::size_t body_bytes = 0;
    std::string text;
    std::string from;  // the URL that has answered in the end

    bool begin() noexcept;  // false: the transfer has ended already, and error says why
    /// Starts the timeout anew.
    void arm_deadline();
    /// These take a piece of the answer, and throw http::error if the answer does not keep to the protocol.
    void take_header_line(std::string_view line);
    void take_body(std::string_view data);
    /// Schedules the task that waits for the transfer, if there is one.
    void notify() noexcept;
    /// Takes what has come of a streamed body, and lets libcurl go on.
    std::string take_piece();
    void end(std::exception_ptr why) noexcept;
    void end_with(CURLcode code) noexcept;
    /// "GET http://host/": how the messages of errors begin.
    std::string what() const { return method + " " + shown; }
    const char* phase() const noexcept;

private:
    void take_status_line(std::string_view line);
    void end_of_header();
    [[noreturn]] void refuse_length() const;
    void add_text(std::string_view data);
    void decode();
    void prepare_redirect();
    bool may_repeat(CURLcode code) const noexcept;
    void begin_message() noexcept;
    std::exception_ptr failure(CURLcode code) const;
};

/// Makes a transfer. An error in the arguments is kept in it, and thrown where it is awaited.
std::unique_ptr<curl_transfer> make_transfer(const std::shared_ptr<curl_multi>& multi, std::string method,
    std::string url, std::string body, const http::request_options& options, bool streaming = false);

}  // namespace aio::detail
