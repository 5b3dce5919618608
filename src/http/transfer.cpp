#include "transfer.hpp"

#include "access.hpp"

#include <aio/event_loop.hpp>
#include <aio/stream.hpp>

#include <netdb.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>

namespace aio::detail {

namespace {

constexpr std::size_t most_header_bytes = 256 * 1024;
constexpr std::size_t most_unread_bytes = 256 * 1024;  // of a streamed body

void initialise_curl() {
    static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (code != CURLE_OK) throw std::runtime_error(std::string("http::session: libcurl: ") + curl_easy_strerror(code));
}

struct url_handle {
    CURLU* url = curl_url();
    url_handle() {
        if (!url) throw std::bad_alloc();
    }
    ~url_handle() { curl_url_cleanup(url); }
    url_handle(const url_handle&) = delete;
    url_handle& operator=(const url_handle&) = delete;
    std::string get(CURLUPart part) const {
        char* text = nullptr;
        std::string out;
        if (curl_url_get(url, part, &text, 0) == CURLUE_OK) out = text;
        curl_free(text);
        return out;
    }
};

// The URL without user and password. Throws std::invalid_argument if it is none that we take.
std::string check_url(const std::string& method, const std::string& text, bool& local) {
    if (text.find('\0') != text.npos) {
        throw std::invalid_argument(method + " \"" + text.c_str() + "...\": not a URL: there is a NUL in it");
    }
    url_handle u;
    const CURLUcode code = curl_url_set(u.url, CURLUPART_URL, text.c_str(), CURLU_NON_SUPPORT_SCHEME);
    if (code != CURLUE_OK) {
        throw std::invalid_argument(method + " \"" + text + "\": not a URL: " + curl_url_strerror(code));
    }
    curl_url_set(u.url, CURLUPART_USER, nullptr, 0);
    curl_url_set(u.url, CURLUPART_PASSWORD, nullptr, 0);
    std::string shown = u.get(CURLUPART_URL);
    const std::string scheme = u.get(CURLUPART_SCHEME);
    if (scheme != "http" && scheme != "https") {
        throw std::invalid_argument(
            method + " " + shown + ": unknown scheme \"" + scheme + "\": only http and https are known");
    }
    const std::string host = u.get(CURLUPART_HOST);
    local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    return shown;
}

void append(curl_slist*& list, const std::string& line) {
    curl_slist* longer = curl_slist_append(list, line.c_str());
    if (!longer) throw std::bad_alloc();
    list = longer;
}

void copy_headers(http_transfer& t, const http::headers* given) {
    if (given) {
        for (const auto& [name, value] : *given) { append(t.fields, value.empty() ? name + ";" : name + ": " + value); }
    }
    // libcurl's own ideas: a body is a form, and a large one waits a second for a leave to be sent.
    if (!given || !given->contains("Content-Type")) append(t.fields, "Content-Type:");
    if (!given || !given->contains("Expect")) append(t.fields, "Expect:");
}

void check(CURLcode code) {
    if (code == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
    if (code != CURLE_OK) throw std::runtime_error(std::string("http::session: libcurl: ") + curl_easy_strerror(code));
}

std::string_view stripped(std::string_view line) noexcept {
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n' || line.back() == ' ' || line.back() == '\t')) {
        line.remove_suffix(1);
    }
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
    return line;
}

// A line of the headers of an answer; one answer follows the other: 100 Continue, redirects.
void take_header_line(http_transfer& t, std::string_view line) {
    t.header_bytes += line.size();
    if (t.header_bytes > most_header_bytes) {
        throw http::error(
            t.what() + ": the headers of the answer are longer than " + std::to_string(most_header_bytes) + " bytes");
    }
    if (line.starts_with("HTTP/")) {
        t.answer = {};
        t.text.clear();
        t.body_bytes = 0;
        t.status = 0;
        for (std::size_t at = line.find(' '); at < line.size() && t.status < 1000; ++at) {
            if (line[at] >= '0' && line[at] <= '9') {
                t.status = t.status * 10 + (line[at] - '0');
            } else if (t.status) {
                break;
            }
        }
        // "See Other" means GET, whatever was asked; libcurl keeps a method that it does not know itself.
        if (t.status == 303 && t.method != "GET" && t.method != "HEAD" && t.method != "POST") {
            check(curl_easy_setopt(t.easy, CURLOPT_CUSTOMREQUEST, nullptr));
            check(curl_easy_setopt(t.easy, CURLOPT_POSTREDIR, 0L));
        }
        return;
    }
    if (line.front() == ' ' || line.front() == '\t') {
        http_access::extend_last(t.answer, stripped(line));
        return;
    }
    const std::size_t colon = line.find(':');
    if (colon == line.npos || colon == 0) return;  // the empty line at the end
    http_access::append(
        t.answer, std::string(stripped(line.substr(0, colon))), std::string(stripped(line.substr(colon + 1))));
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* self) noexcept {
    http_transfer& t = *static_cast<http_transfer*>(self);
    try {
        if (size > 0) take_header_line(t, {data, size});
        return size;
    } catch (...) {
        t.error = std::current_exception();
        return 0;
    }
}

std::size_t on_body(char* data, std::size_t, std::size_t size, void* self) noexcept {
    http_transfer& t = *static_cast<http_transfer*>(self);
    if (t.streaming && t.text.size() >= most_unread_bytes) {
        t.paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    try {
        t.body_bytes += size;
        if (t.max_body_size != 0 && t.body_bytes > t.max_body_size) {
            throw http::error(
                t.what() + ": the body of the answer is longer than " + std::to_string(t.max_body_size) + " bytes");
        }
        t.text.append(data, size);
        if (t.streaming && size > 0) t.notify();
        return size;
    } catch (...) {
        t.error = std::current_exception();
        return 0;
    }
}

// libcurl takes milliseconds in a long, and 0 as "the default".
long milliseconds(delay d) noexcept {
    if (!d.has_value()) return INT_MAX;
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(d.value()).count();
    return static_cast<long>(std::clamp<long long>(ms, 1, INT_MAX));
}

}  // namespace

// ---- the client ----

http_client::http_client(const http::session_options& options)
    : timeout(options.timeout),
      connect_timeout_(options.connect_timeout),
      user_agent_(options.user_agent),
      ca_file_(options.ca_file) {
    initialise_curl();
    multi_ = curl_multi_init();
    if (!multi_) throw std::bad_alloc();
    timer_.owner = this;
    timer_.fire = [](timer_node& t) noexcept { static_cast<timer&>(t).owner->act(CURL_SOCKET_TIMEOUT, 0); };
    curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &socket_function);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &timer_function);
    curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_MAX_TOTAL_CONNECTIONS,
        static_cast<long>(std::min<std::size_t>(options.max_connections, INT_MAX)));
    curl_multi_setopt(multi_, CURLMOPT_MAX_HOST_CONNECTIONS,
        static_cast<long>(std::min<std::size_t>(options.max_connections_per_host, INT_MAX)));
    if (options.max_connections)
        curl_multi_setopt(
            multi_, CURLMOPT_MAXCONNECTS, static_cast<long>(std::min<std::size_t>(options.max_connections, INT_MAX)));
}

http_client::~http_client() { close(); }

void http_client::close() noexcept {
    while (http_transfer* t = running.front()) {
        std::exception_ptr why;
        try {
            throw_system_error(ECANCELED, t->what() + ": the session was closed");
        } catch (...) { why = std::current_exception(); }
        t->end(std::move(why));
    }
    if (!multi_) return;
    curl_multi_cleanup(std::exchange(multi_, nullptr));  // its callbacks find no loop
}

void http_client::enter(http_transfer& t) {
    if (!multi_) throw_logic_error(t.what() + ": the session has been closed");
    loop_core& here = require_loop();
    if (running.empty()) {
        loop = &here;
        for (auto& [fd, s] : sockets_) {
            try {
                s.watch.watch(fd, s.events);
            } catch (const std::system_error&) {  // closed meanwhile
                s.events = 0;
            }
        }
    } else if (loop != &here) {
        throw_logic_error(t.what() + ": the session has requests running on another loop");
    }
    t.easy = curl_easy_init();
    if (!t.easy) throw std::bad_alloc();
    try {
        set_up(t);
        if (!t.streaming) t.arm_deadline();
        const CURLMcode code = curl_multi_add_handle(multi_, t.easy);
        if (code != CURLM_OK) throw std::runtime_error(t.what() + ": libcurl: " + curl_multi_strerror(code));
    } catch (...) {
        here.disarm(t.deadline);
        curl_easy_cleanup(std::exchange(t.easy, nullptr));
        throw;
    }
    running.push_back(t);
    ++count;
    ++loop->outstanding;
}

void http_client::set_up(http_transfer& t) {
    const auto set = [&t](CURLoption option, auto value) { check(curl_easy_setopt(t.easy, option, value)); };
    set(CURLOPT_PRIVATE, &t);
    set(CURLOPT_ERRORBUFFER, t.error_text);
    set(CURLOPT_URL, t.url.c_str());
    set(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
    set(CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    set(CURLOPT_REDIR_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    set(CURLOPT_QUICK_EXIT, 1L);  // else the removal of a request waits for getaddrinfo to end in its thread
#endif
    set(CURLOPT_FOLLOWLOCATION, t.follow_redirects ? 1L : 0L);
    set(CURLOPT_MAXREDIRS, static_cast<long>(std::min<std::size_t>(t.max_redirects, INT_MAX)));
    set(CURLOPT_CONNECTTIMEOUT_MS, milliseconds(connect_timeout_));
    set(CURLOPT_ACCEPT_ENCODING, "");  // all that this libcurl can decode
    set(CURLOPT_BUFFERSIZE, 65536L);
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (!user_agent_.empty()) set(CURLOPT_USERAGENT, user_agent_.c_str());
    if (!ca_file_.empty()) set(CURLOPT_CAINFO, ca_file_.c_str());
    if (t.local) set(CURLOPT_PROXY, "");
    set(CURLOPT_HTTPHEADER, t.fields);
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, &t);
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, &t);

    if (t.method == "HEAD") {
        set(CURLOPT_NOBODY, 1L);
        return;
    }
    if (!t.body.empty() || t.method == "POST" || t.method == "PUT" || t.method == "PATCH") {
        set(CURLOPT_POST, 1L);
        set(CURLOPT_POSTFIELDS, t.body.data());
        set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(t.body.size()));
        // 301 and 302 turn a POST into a GET, as everywhere; any other method is repeated, with its body.
        if (t.method != "POST") set(CURLOPT_POSTREDIR, static_cast<long>(CURL_REDIR_POST_ALL));
    }
    if (t.method != "GET" && t.method != "POST") set(CURLOPT_CUSTOMREQUEST, t.method.c_str());
    if (t.method == "GET" && !t.body.empty()) set(CURLOPT_CUSTOMREQUEST, "GET");
}

void http_client::leave(http_transfer& t) noexcept {
    if (!t.easy) return;
    t.unlink();
    --count;
    --loop->outstanding;
    loop->disarm(t.deadline);
    curl_multi_remove_handle(multi_, t.easy);
    curl_easy_cleanup(std::exchange(t.easy, nullptr));
    if (!running.empty()) return;
    for (auto& [fd, s] : sockets_) s.watch.stop();
    loop->disarm(timer_);
    loop = nullptr;
}

int http_client::socket_function(CURL*, curl_socket_t fd, int what, void* self, void*) noexcept {
    http_client& c = *static_cast<http_client*>(self);
    std::uint32_t events = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) events |= io_entry::readable;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) events |= io_entry::writable;
    try {
        auto found = c.sockets_.find(fd);
        if (found == c.sockets_.end()) {
            if (events == 0) return 0;
            found = c.sockets_
                        .try_emplace(fd,
                            [&c, fd](std::uint32_t came) {
                                c.act(fd,
                                    (came & io_entry::readable ? CURL_CSELECT_IN : 0) |
                                        (came & io_entry::writable ? CURL_CSELECT_OUT : 0));
                            })
                        .first;
        }
        found->second.events = events;
        if (c.loop) found->second.watch.watch(fd, events);
        return 0;
    } catch (...) {
        c.watch_error_ = std::current_exception();
        return -1;
    }
}

int http_client::timer_function(CURLM*, long milliseconds, void* self) noexcept {
    http_client& c = *static_cast<http_client*>(self);
    if (!c.loop) return 0;
    c.loop->disarm(c.timer_);
    if (milliseconds < 0) return 0;
    try {
        c.loop->arm(c.timer_, delay(std::chrono::milliseconds(milliseconds)).from(c.loop->now()));
        return 0;
    } catch (...) {
        c.watch_error_ = std::current_exception();
        return -1;
    }
}

void http_client::act(curl_socket_t fd, int events) noexcept {
    int still_running = 0;
    const CURLMcode code = curl_multi_socket_action(multi_, fd, events, &still_running);
    collect();
    if (code == CURLM_OK) return;
    const std::exception_ptr why = watch_error_
        ? std::exchange(watch_error_, nullptr)
        : std::make_exception_ptr(
              std::runtime_error(std::string("http::session: libcurl: ") + curl_multi_strerror(code)));
    while (http_transfer* t = running.front()) t->end(why);
}

void http_client::collect() noexcept {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        const CURLcode code = message->data.result;
        http_transfer* t = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &t);
        t->end_with(code);
    }
}

// ---- a transfer ----

http_transfer::~http_transfer() {
    if (client) client->leave(*this);
    curl_slist_free_all(fields);
}

bool http_transfer::begin() noexcept {
    if (!ended) {
        try {
            client->enter(*this);
        } catch (...) {
            error = std::current_exception();
            ended = true;
        }
    }
    return !ended;
}

void http_transfer::arm_deadline() {
    if (!timeout.has_value()) return;
    deadline.fire = [](timer_node& node) noexcept {
        http_transfer& t = *static_cast<timer&>(node).owner;
        char after[48];
        std::snprintf(after, sizeof after, ": timed out after %gs while ",
            std::chrono::duration<double>(t.timeout.value()).count());
        t.end(std::make_exception_ptr(timeout_error(t.what() + after + t.phase())));
    };
    client->loop->arm(deadline, timeout.from(client->loop->now()));
}

void http_transfer::end(std::exception_ptr why) noexcept {
    if (!error) error = std::move(why);
    ended = true;
    client->leave(*this);
    notify();
}

void http_transfer::notify() noexcept {
    if (!waiter) return;
    if (streaming && client->loop) client->loop->disarm(deadline);
    wake(std::exchange(waiter, nullptr));
}

std::string http_transfer::take_piece() {
    std::string piece = std::exchange(text, {});
    if (easy && std::exchange(paused, false)) {
        const CURLcode code = curl_easy_pause(easy, CURLPAUSE_CONT);
        if (code != CURLE_OK) end_with(code);
    }
    return piece;
}

void http_transfer::end_with(CURLcode code) noexcept {
    std::exception_ptr why;
    try {
        if (code == CURLE_OK) {
            const char* last = nullptr;
            curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &last);
            bool ignored;
            from = last ? check_url(method, last, ignored) : shown;
        } else if (!error) {
            why = failure(code);
        }
    } catch (...) { why = std::current_exception(); }
    end(std::move(why));
}

const char* http_transfer::phase() const noexcept {
    if (!easy) return "waiting to begin";
    const auto reached = [this](CURLINFO what) {
        curl_off_t microseconds = 0;
        curl_easy_getinfo(easy, what, &microseconds);
        return microseconds > 0;
    };
    if (body_bytes > 0) return "reading the body";
    if (header_bytes > 0) return "reading the answer";
    if (reached(CURLINFO_PRETRANSFER_TIME_T)) {
        curl_off_t sent = 0;
        curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &sent);
        return sent < static_cast<curl_off_t>(body.size()) ? "sending the request" : "waiting for the answer";
    }
    if (reached(CURLINFO_CONNECT_TIME_T)) return "securing the connection";
    if (reached(CURLINFO_NAMELOOKUP_TIME_T)) return "connecting";
    return "resolving the host's name or waiting for a free connection";
}

std::exception_ptr http_transfer::failure(CURLcode code) const {
    const std::string message = what() + ": " + (error_text[0] ? error_text : curl_easy_strerror(code));
    long number = 0;
    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
    const auto system = [&](int otherwise) {
        return std::make_exception_ptr(
            std::system_error(number ? static_cast<int>(number) : otherwise, std::generic_category(), message));
    };
    switch (code) {
        case CURLE_OUT_OF_MEMORY: return std::make_exception_ptr(std::bad_alloc());
        case CURLE_OPERATION_TIMEDOUT:
            return std::make_exception_ptr(
                timeout_error(what() + ": timed out while " + phase() + " (" + error_text + ")"));
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
            return std::make_exception_ptr(std::system_error(EAI_NONAME, resolver_category(), message));
        case CURLE_COULDNT_CONNECT: return system(ECONNREFUSED);
        case CURLE_SEND_ERROR: return system(EPIPE);
        case CURLE_RECV_ERROR:
        case CURLE_GOT_NOTHING: return system(ECONNRESET);
        case CURLE_PARTIAL_FILE:
            return std::make_exception_ptr(http::error(what() + ": the body was cut short: " + error_text));
        default: return std::make_exception_ptr(http::error(message));
    }
}

std::unique_ptr<http_transfer> make_transfer(const std::shared_ptr<http_client>& client, std::string method,
    std::string url, std::string body, const http::request_options& options) {
    if (!client) throw_logic_error("this http::session was moved from");
    auto t = std::make_unique<http_transfer>();
    t->client = client;
    t->method = std::move(method);
    t->url = std::move(url);
    t->body = std::move(body);
    t->timeout = options.timeout.has_value() ? options.timeout : client->timeout;
    t->follow_redirects = options.follow_redirects;
    t->max_redirects = options.max_redirects;
    t->max_body_size = options.max_body_size;
    try {
        if (!is_http_token(t->method)) throw std::invalid_argument("\"" + t->method + "\" is no HTTP method");
        t->shown = check_url(t->method, t->url, t->local);
        copy_headers(*t, options.headers.get());
    } catch (...) {
        t->error = std::current_exception();
        t->ended = true;
    }
    return t;
}

}  // namespace aio::detail
