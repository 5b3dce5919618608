#pragma once
// libcurl's multi interface on our loop. http_client is a session's inside: the CURLM, the descriptors that it asks us to watch
// and its one timer. http_transfer is one request under way.
//
// libcurl never waits: it tells which descriptors and which time it wants to hear of (socket_function, timer_function), and is
// told through curl_multi_socket_action, from the reactor and from our timers, always outside of its own callbacks. Transfers that
// have ended are collected after each such call; that only schedules the tasks that wait for them.
//
// A client is bound to a loop only while transfers run. Idle connections are not watched: libcurl looks at one when it takes it.
// So a session may be made before run(), and destroyed after it.

#include <aio/detail/io.hpp>
#include <aio/http/client.hpp>

#include <curl/curl.h>

#include <exception>
#include <memory>
#include <string>
#include <unordered_map>

namespace aio::detail {

class http_client {
public:
    explicit http_client(const http::session_options& options);
    ~http_client();
    http_client(const http_client&) = delete;
    http_client& operator=(const http_client&) = delete;

    /// Binds it to the running loop, sets up the transfer's handle and gives it to libcurl. Throws; then nothing has happened.
    void enter(http_transfer& t);
    /// Takes it away from libcurl: closes its connection unless it has ended well.
    void leave(http_transfer& t) noexcept;
    void close() noexcept;

    list<http_transfer> running;
    std::size_t count = 0;
    delay timeout = std::nullopt;
    loop_core* loop = nullptr;  // while transfers run

private:
    struct socket {
        fd_watch watch;
        std::uint32_t events = 0;
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
    std::string user_agent_;
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
    curl_slist* fields = nullptr;
    delay timeout = std::nullopt;
    bool follow_redirects = true;
    std::size_t max_redirects = 0;
    std::size_t max_body_size = 0;
    bool local = false;      // to this machine: not through a proxy
    bool streaming = false;  // text is read while it comes: see session::stream

    // while it runs
    CURL* easy = nullptr;
    char error_text[CURL_ERROR_SIZE] = {};
    struct timer : timer_node {
        http_transfer* owner = nullptr;
    } deadline;
    void* waiter = nullptr;
    void (*wake)(void* waiter) noexcept = nullptr;
    bool paused = false;  // streaming: nobody reads what has come

    // what has come
    bool ended = false;
    std::exception_ptr error;
    int status = 0;
    http::headers answer;
    std::size_t header_bytes = 0;
    std::size_t body_bytes = 0;
    std::string text;
    std::string from;  // the URL in the end

    bool begin() noexcept;  // false: it has ended already, error says why
    /// The time that is allowed begins now.
    void arm_deadline();
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
    std::exception_ptr failure(CURLcode code) const;
};

/// An error in the arguments is kept in the transfer, for whoever awaits it.
std::unique_ptr<http_transfer> make_transfer(const std::shared_ptr<http_client>& client, std::string method,
    std::string url, std::string body, const http::request_options& options);

}  // namespace aio::detail
