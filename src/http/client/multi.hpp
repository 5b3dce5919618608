#pragma once
// libcurl's multi interface on our loop. curl_multi is what is inside a session: the CURLM, the descriptors that
// libcurl asks us to watch, its one timer, and the easy handles that wait for their next request.
//
// libcurl never waits: it names the descriptors and the time that it wants to hear of (socket_function,
// timer_function), and hears of them through curl_multi_socket_action, which the backend and our timers call, always
// outside of libcurl's own callbacks. Transfers that have ended are collected after each such call; that only schedules
// the tasks that wait for them.
//
// What costs time is avoided where it can be: an easy handle is set up once, and changed only where the next request
// differs; a connection that becomes idle stays registered with the backend until it says something, because most of
// them are used again at once.
//
// A curl_multi is bound to a loop only while transfers run, so a session may be made before run() and destroyed after
// it. Idle connections are looked at when libcurl takes one for a request (is_stale). libcurl itself notices that a
// connection was closed, but takes bytes on it for a sign of life: what the server has said unasked would become the
// answer to the next request.

#include "http/client/url.hpp"

#include <aio/detail/io/descriptor_wait.hpp>
#include <aio/http/client.hpp>

#include <curl/curl.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace aio::inline v0::detail {

/// A descriptor that libcurl has asked us to watch. Its number comes again and again, so it is kept.
struct curl_socket {
    fd_watch watch;
    int fd;
    std::uint32_t wanted = 0;  // what libcurl wants to hear of
    unsigned uses = 0;         // how often a connection with this number was made
    bool connection = false;   // of a connection, which tells when it is closed
    bool idle = false;         // of an HTTP/1 connection that no request uses
    std::uint64_t ends = 0;    // its addresses, for curl_multi's by_ends
    curl_socket(function<void(std::uint32_t)> fn, int number) noexcept : watch(std::move(fn)), fd(number) {}
    /// An idle connection on which something has come, be it the end.
    bool has_talked() const noexcept;
};

/// An easy handle, and what it was told last.
struct curl_handle {
    CURL* easy = nullptr;
    curl_transfer* transfer = nullptr;  // the one that uses it
    char error_text[CURL_ERROR_SIZE] = {};
    checked_url_ptr url;
    enum class kind : std::uint8_t { get, head, body, upload } sends = kind::get;
    std::string method;  // if it is another one than that kind's
    std::string cookie;
    curl_slist* fields = nullptr;  // only compared, never read
    long fresh = 0, forbid_reuse = 0, http_version = 0, connect_timeout = -1, pipe_wait = 0;
    bool without_proxy = false;

    curl_handle();
    ~curl_handle() { curl_easy_cleanup(easy); }
    curl_handle(const curl_handle&) = delete;
    curl_handle& operator=(const curl_handle&) = delete;
};

/// What a session's options say.
struct session_settings {
    explicit session_settings(const http::session_options& o);
    delay timeout, connect_timeout, tls_timeout, first_byte_timeout, read_timeout;
    std::string user_agent, ca_file, proxy, no_proxy, unix_socket, client_certificate, client_key, auth, base_url;
    std::string base_origin;
    http::headers fields;  // sent with each request that has no field of the same name
    std::optional<http::version> http_version;
    bool cookies, trust_env, verify;
};

/// What is inside a session; the session and its transfers share it.
class curl_multi {
public:
    explicit curl_multi(const http::session_options& options);
    ~curl_multi();
    curl_multi(const curl_multi&) = delete;
    curl_multi& operator=(const curl_multi&) = delete;

    /// Binds this to the running loop, gives the transfer a handle and the handle to libcurl. If it throws, the
    /// transfer has not begun.
    void add(curl_transfer& t);
    /// Takes a transfer away from libcurl, which closes its connection unless the transfer has ended well.
    void remove(curl_transfer& t) noexcept;
    /// Sends the transfer's next message, after a redirect or to repeat one. If it throws, the transfer has still to
    /// be removed.
    void ask_again(curl_transfer& t);
    void close() noexcept;
    bool is_closed() const noexcept { return !multi_; }
    /// A transfer has ended well. From now on its connection, if it is kept, is stale as soon as the server says
    /// something.
    void note_idle(const curl_transfer& t) noexcept;
    /// True if the connection between these ends was idle, and was closed meanwhile or has something to say. ends: 0 if
    /// they are not known; then all idle connections that have something to say are shut down, so that libcurl takes
    /// none of them.
    bool is_stale(std::uint64_t ends) noexcept;
    /// A connection is about to be made on this descriptor; it is about to be closed. note_open throws std::bad_alloc.
    void note_open(int fd);
    void note_close(int fd) noexcept;
    void clear_cookies() noexcept;
    void note_upload_ended() noexcept { --uploads_; }
    /// An upload has its answer, and may still have a part of its body to send.
    void note_answered() noexcept;
    /// An answer comes, or will, over HTTP/2.
    void note_multiplexing() noexcept;

    session_settings settings;
    url_cache urls;
    list<curl_transfer> running;
    std::size_t count = 0;
    std::uint64_t pieces = 0;   // how often libcurl has brought or taken something
    loop_core* loop = nullptr;  // while transfers run

private:
    friend struct curl_callbacks;
    struct timer : timer_node {
        curl_multi* owner = nullptr;
    };
    static int socket_function(CURL* easy, curl_socket_t fd, int what, void* self, void*) noexcept;
    static int timer_function(CURLM*, long milliseconds, void* self) noexcept;
    void bind(curl_transfer& t);
    void unbind() noexcept;
    curl_socket& socket_of(curl_socket_t fd);
    void on_event(curl_socket& s, std::uint32_t came) noexcept;
    void resume_uploads(const curl_socket& s) noexcept;
    void note_use(curl_transfer& t, curl_socket& s, std::uint32_t events);
    std::unique_ptr<curl_handle> make_handle();
    void set_up(curl_transfer& t);
    void begin(curl_transfer& t);
    void act(curl_socket_t fd, int events) noexcept;
    void tell(curl_socket_t fd, int events) noexcept;
    void note_act() noexcept;
    void end_stall() noexcept;
    void end_answered() noexcept;
    void collect() noexcept;

    CURLM* multi_ = nullptr;
    CURLSH* cookies_ = nullptr;
    curl_slist* usual_fields_ = nullptr;  // of a request without headers of its own
    timer timer_;
    timer quiet_;               // while a connection may be multiplexed: looks whether libcurl goes on
    bool multiplexes_ = false;  // since the first of the running transfers began
    bool answered_ = false;     // an upload may have its answer: see end_answered
    bool acted_ = false;        // libcurl was called since quiet_ has last fired
    std::size_t uploads_ = 0;   // of the running transfers, those whose body comes piece by piece
    std::vector<std::unique_ptr<curl_socket>> sockets_;  // by descriptor; never erased, as numbers come again
    std::unordered_map<std::uint64_t, curl_socket*> by_ends_;
    std::vector<std::unique_ptr<curl_handle>> idle_handles_;
    std::exception_ptr watch_error_;  // why socket_function or timer_function failed
};

/// The functions that libcurl calls for a handle.
struct curl_callbacks {
    static void set(CURL* easy, curl_handle& h, curl_multi& m);
};

/// Throws what a code of libcurl means for a setting.
void check(CURLcode code);

}  // namespace aio::inline v0::detail
