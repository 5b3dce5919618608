#pragma once
// libcurl's multi interface on our loop. http_client is a session's inside: the CURLM, the descriptors that it asks us
// to watch and its one timer. http_transfer is one request under way.
//
// libcurl never waits: it tells which descriptors and which time it wants to hear of (socket_function, timer_function),
// and is told through curl_multi_socket_action, from the reactor and from our timers, always outside of its own
// callbacks. Transfers that have ended are collected after each such call; that only schedules the tasks that wait for
// them.
//
// One request of libcurl's is one message there and one back: redirects are followed here, which decides what goes to
// another origin, and bodies are decompressed here.
//
// A client is bound to a loop only while transfers run. Idle connections are not watched: they are looked at when they
// are taken. libcurl sees that one was closed, but takes bytes for life: what has come before anything was asked would
// be the answer to the next request. So a session may be made before run(), and destroyed after it.

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

class http_client {
public:
    explicit http_client(const http::session_options& options);
    ~http_client();
    http_client(const http_client&) = delete;
    http_client& operator=(const http_client&) = delete;

    /// Binds it to the running loop, sets up the transfer's handle and gives it to libcurl. Throws; then nothing has
    /// happened.
    void enter(http_transfer& t);
    /// Takes it away from libcurl: closes its connection unless it has ended well.
    void leave(http_transfer& t) noexcept;
    /// What it asks now, after a redirect. Throws; then it has still to leave.
    void ask_again(http_transfer& t);
    void close() noexcept;
    /// The exchange has ended well. Its connection, if it is kept, has nothing more to say until it is asked again.
    void note_idle(const http_transfer& t) noexcept;
    /// True if that connection has come to its end meanwhile, or has said something. The ports are its own.
    bool is_stale(int local_port, int peer_port) const noexcept;

    list<http_transfer> running;
    std::size_t count = 0;
    delay timeout = std::nullopt;
    loop_core* loop = nullptr;  // while transfers run

private:
    struct socket {
        fd_watch watch;
        std::uint32_t events = 0;
        int idle_port = 0;  // our port of the HTTP/1 connection that was kept here last
        explicit socket(function<void(std::uint32_t)> fn) noexcept : watch(std::move(fn)) {}
    };
    struct timer : timer_node {
        http_client* owner = nullptr;
    };
    static int socket_function(CURL*, curl_socket_t fd, int what, void* self, void*) noexcept;
    static int timer_function(CURLM*, long milliseconds, void* self) noexcept;
    void set_up(http_transfer& t);
    void act(curl_socket_t fd, int events) noexcept;
    void collect() noexcept;

    CURLM* multi_ = nullptr;
    timer timer_;
    std::unordered_map<curl_socket_t, socket> sockets_;  // by number, for good: a number comes again
    delay connect_timeout_ = std::nullopt;
    http::headers fields_;  // of each request that has none of that name
    std::string ca_file_;
    std::exception_ptr watch_error_;  // why socket_function or timer_function failed
};

struct http_transfer : list_node {
    http_transfer() { deadline.owner = this; }
    ~http_transfer();
    http_transfer(const http_transfer&) = delete;
    http_transfer& operator=(const http_transfer&) = delete;

    // what is asked
    std::shared_ptr<http_client> client;
    std::string method;
    std::string url;
    std::string shown;  // the URL without user and password, for messages
    std::string body;
    http::headers given;           // by the caller; without what says how the message ends
    curl_slist* fields = nullptr;  // what libcurl sends of them
    delay timeout = std::nullopt;
    bool follow_redirects = true;
    std::size_t max_redirects = 0;
    std::size_t max_body_size = 0;    // 0: no limit
    bool local = false;               // to this machine: not through a proxy
    bool close_connection = false;    // the caller asks for it
    bool asks_for_encodings = false;  // the caller does, with a header
    bool streaming = false;           // text is read while it comes: see session::stream

    // while it runs
    CURL* easy = nullptr;
    char error_text[CURL_ERROR_SIZE] = {};
    struct timer : timer_node {
        http_transfer* owner = nullptr;
    } deadline;
    void* waiter = nullptr;
    void (*wake)(void* waiter) noexcept = nullptr;
    bool paused = false;  // streaming: nobody reads what has come
    std::size_t redirects = 0;

    // of the message under way
    enum class section : std::uint8_t { status_line, header, rest } at = section::status_line;
    int tries = 0;             // how often libcurl has begun to send it
    int open_error = 0;        // errno of socket()
    bool stale = false;        // the connection that libcurl has chosen is not to be used
    bool repeated = false;     // it is, over a connection of its own
    bool redirecting = false;  // what comes is not the answer
    bool enough = false;       // the rest of its body is not waited for
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
    std::string from;  // the URL in the end

    bool begin() noexcept;  // false: it has ended already, error says why
    /// The time that is allowed begins now.
    void arm_deadline();
    /// Of the answer. They throw http::error for one that does not keep to the protocol.
    void take_header_line(std::string_view line);
    void take_body(std::string_view data);
    /// Schedules who waits for it.
    void notify() noexcept;
    /// Takes what has come of a streamed body; lets more come.
    std::string take_piece();
    void end(std::exception_ptr why) noexcept;
    void end_with(CURLcode code) noexcept;
    /// "GET http://host/", as messages begin.
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

/// An error in the arguments is kept in the transfer, for whoever awaits it.
std::unique_ptr<http_transfer> make_transfer(const std::shared_ptr<http_client>& client, std::string method,
    std::string url, std::string body, const http::request_options& options, bool streaming = false);

}  // namespace aio::detail
