// Requests under way, and the callbacks through which libcurl tells of them; transfer.hpp says how libcurl is driven.
// session.cpp makes transfers (make_transfer) and waits for them.
//
// libcurl is lenient where we are not: this file refuses URLs and headers that two sides would read differently,
// decides what may be sent twice, and turns libcurl's codes into errors that name the request, the errno and the phase.
// No exception may pass through libcurl: a callback keeps it in the transfer, which ends with that error.

#include "http/client/transfer.hpp"

#include "http/access.hpp"
#include "http/target.hpp"

#include <aio/event_loop.hpp>
#include <aio/stream.hpp>

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

namespace aio::detail {

namespace {

constexpr std::size_t most_header_bytes = 256 * 1024;
constexpr std::size_t most_unread_bytes = 256 * 1024;  // of a streamed body
constexpr std::size_t most_ignored_bytes = 64 * 1024;  // of the body of a redirect
constexpr std::size_t decoded_at_once = 64 * 1024;
constexpr std::size_t default_max_body_size = std::size_t(1) << 30;

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
    std::string get(CURLUPart part, unsigned flags = 0) const {
        char* text = nullptr;
        const CURLUcode code = curl_url_get(url, part, &text, flags);
        const std::unique_ptr<char, void (*)(void*)> owner(text, &curl_free);
        return code == CURLUE_OK ? std::string(text) : std::string();
    }
};

// Makes a URL that could not be read fit for a message: what stands before the last @ may hold a password.
std::string masked(const std::string& text) {
    const std::size_t at = text.rfind('@');
    if (at == text.npos) return text;
    const std::size_t scheme = text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    const bool has_scheme = scheme < at && text.compare(scheme, 3, "://") == 0;
    return (has_scheme ? text.substr(0, scheme + 3) : std::string()) + "***" + text.substr(at);
}

struct checked_url {
    std::string url;    // characters beyond ASCII are encoded
    std::string shown;  // without user and password
    bool local = false;
};

[[noreturn]] void refuse_url(const std::string& method, const std::string& shown, const std::string& why) {
    throw std::invalid_argument(method + " \"" + shown + "\": not a URL: " + why);
}

bool is_http(std::string_view scheme) noexcept { return scheme == "http" || scheme == "https"; }

// Encodes the characters of a part of a URL that no URL may have as they are (RFC 3986): libcurl encodes only spaces
// and what goes beyond ASCII, and servers refuse the others.
void encode(url_handle& u, CURLUPart part) {
    const std::string text = u.get(part);
    std::string encoded;
    for (const char c : text) {
        constexpr std::string_view never = "\"<>\\^`{|}";
        if (never.find(c) == never.npos) {
            encoded += c;
        } else {
            constexpr char digits[] = "0123456789abcdef";
            encoded += {'%', digits[c >> 4], digits[c & 15]};
        }
    }
    if (encoded.size() == text.size()) return;
    if (curl_url_set(u.url, part, encoded.c_str(), 0) == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
}

// Checks a URL that libcurl could read, and takes it apart. Throws std::invalid_argument.
checked_url parts_of(const std::string& method, url_handle& u) {
    checked_url checked;
    curl_url_set(u.url, CURLUPART_FRAGMENT, nullptr, 0);  // a fragment is never sent
    encode(u, CURLUPART_PATH);
    encode(u, CURLUPART_QUERY);
    checked.url = u.get(CURLUPART_URL);
    const std::string scheme = u.get(CURLUPART_SCHEME);
    const std::string host = u.get(CURLUPART_HOST);
    curl_url_set(u.url, CURLUPART_USER, nullptr, 0);
    curl_url_set(u.url, CURLUPART_PASSWORD, nullptr, 0);
    checked.shown = u.get(CURLUPART_URL);
    if (!is_http(scheme)) {
        throw std::invalid_argument(
            method + " " + checked.shown + ": unknown scheme \"" + scheme + "\": only http and https are known");
    }
    // libcurl would read such a name in the encoding of the locale, which is "C" unless the program sets one.
    if (std::any_of(host.begin(), host.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
        refuse_url(method, checked.shown,
            "the host's name goes beyond ASCII: give it in its ASCII form, which begins with xn--");
    }
    checked.local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    return checked;
}

// Browsers end the host at a backslash, and libcurl does not: a program that has checked the host of such a URL may
// have checked another host than libcurl connects to.
constexpr const char* backslash_why = "there is a backslash in front of its path";
bool has_backslash_before_path(std::string_view text) noexcept {
    const std::size_t slashes = text.find("//");
    if (slashes == text.npos || text.substr(0, slashes).find_first_of("/?#") != text.npos) return false;
    const std::string_view rest = text.substr(slashes + 2);
    return rest.substr(0, rest.find_first_of("/?#")).find('\\') != text.npos;
}

// Throws std::invalid_argument if text is no URL that we accept.
checked_url check_url(const std::string& method, const std::string& text) {
    if (text.find('\0') != text.npos) refuse_url(method, masked(text.c_str()) + "...", "there is a NUL in it");
    if (has_backslash_before_path(text)) refuse_url(method, masked(text), backslash_why);
    url_handle u;
    const CURLUcode code = curl_url_set(u.url, CURLUPART_URL, text.c_str(), CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE);
    if (code == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
    if (code != CURLUE_OK) refuse_url(method, masked(text), curl_url_strerror(code));
    // libcurl also accepts one slash and three.
    const std::size_t slashes = text.find(':') + 1;
    const bool two = text.compare(slashes, 2, "//") == 0 && text.compare(slashes, 3, "///") != 0;
    if (!two && is_http(u.get(CURLUPART_SCHEME))) {
        refuse_url(method, masked(text), "two slashes stand between scheme and host");
    }
    return parts_of(method, u);
}

void append(curl_slist*& list, const std::string& line) {
    curl_slist* longer = curl_slist_append(list, line.c_str());
    if (!longer) throw std::bad_alloc();
    list = longer;
}

[[noreturn]] void refuse_header(std::string_view name, const char* why) {
    throw std::invalid_argument("the header " + std::string(name) + " " + why);
}

// Reads a Connection header. "close" is kept apart from the other fields, because libcurl has to be told of it, too.
void take_connection(curl_transfer& t, std::string_view name, std::string_view value) {
    for_each_element(value, [&](std::string_view option) {
        if (equal_ignoring_case(option, "close")) {
            t.close_connection = true;
        } else if (!equal_ignoring_case(option, "keep-alive")) {
            refuse_header(name, "may say \"close\" or \"keep-alive\"");
        }
    });
}

void check_field(const curl_transfer& t, std::string_view name, std::string_view value) {
    for (const char* ours :
        {"Transfer-Encoding", "Trailer", "Upgrade", "Keep-Alive", "Proxy-Connection", "HTTP2-Settings"}) {
        if (equal_ignoring_case(name, ours)) refuse_header(name, "is the library's to send");
    }
    if (equal_ignoring_case(name, "TE") && !equal_ignoring_case(value, "trailers")) {
        refuse_header(name, "may say \"trailers\"");
    }
    if (equal_ignoring_case(name, "Expect") && !equal_ignoring_case(value, "100-continue")) {
        refuse_header(name, "may say \"100-continue\"");
    }
    if (equal_ignoring_case(name, "Host")) {
        if (t.given.contains("Host")) refuse_header(name, "is given twice");
        if (!is_authority(value)) refuse_header(name, "is no host");
    }
}

// Checks and takes the caller's headers. The library alone says how a message ends and what becomes of its connection:
// a wrong header there makes two requests of one, or lets a server wait for ever.
void take_headers(curl_transfer& t, const http::headers& given) {
    for (const auto& [name, value] : given) {
        if (equal_ignoring_case(name, "Content-Length")) {  // libcurl sends it
            if (value != std::to_string(t.body.size())) refuse_header(name, "is not the length of the body");
        } else if (equal_ignoring_case(name, "Connection")) {
            take_connection(t, name, value);
        } else {
            check_field(t, name, value);
            t.given.add(name, value);
        }
    }
    t.asks_for_encodings = t.given.contains("Accept-Encoding");
}

void append_fields(curl_transfer& t, const http::headers& more) {
    for (const auto& [name, value] : t.given) append(t.fields, value.empty() ? name + ";" : name + ": " + value);
    for (const auto& [name, value] : more) {
        if (!t.given.contains(name)) append(t.fields, name + ": " + value);
    }
    if (t.close_connection) append(t.fields, "Connection: close");
    // These turn off two habits of libcurl: to call a body a form, and to wait a second for a 100 before a large one.
    if (!t.given.contains("Content-Type")) append(t.fields, "Content-Type:");
    if (!t.given.contains("Expect")) append(t.fields, "Expect:");
}

// True if a request may be sent twice, because it does the same as once (RFC 9110, 9.2.2).
bool is_idempotent(std::string_view method) noexcept {
    for (const char* known : {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"}) {
        if (method == known) return true;
    }
    return false;
}

void check(CURLcode code) {
    if (code == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
    if (code != CURLE_OK) throw std::runtime_error(std::string("http::session: libcurl: ") + curl_easy_strerror(code));
}

std::string_view without_line_end(std::string_view line) noexcept {
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

bool is_redirect(int status) noexcept {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* self) noexcept {
    curl_transfer& t = *static_cast<curl_transfer*>(self);
    try {
        if (size > 0) t.take_header_line({data, size});
        return size;
    } catch (...) {
        t.error = std::current_exception();
        return 0;
    }
}

std::size_t on_body(char* data, std::size_t, std::size_t size, void* self) noexcept {
    curl_transfer& t = *static_cast<curl_transfer*>(self);
    if (t.streaming && (t.text.size() >= most_unread_bytes || (t.decoder && t.decoder->has_more()))) {
        t.paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    try {
        t.take_body({data, size});
        return t.enough ? 0 : size;
    } catch (...) {
        t.error = std::current_exception();
        return 0;
    }
}

curl_socket_t on_open(void* self, curlsocktype, curl_sockaddr* address) noexcept {
    const int fd = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0) static_cast<curl_transfer*>(self)->open_error = errno;  // libcurl does not keep this errno
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

#if LIBCURL_VERSION_NUM >= 0x075000
// libcurl calls this before it sends a request, and again before it repeats one. It repeats when a kept connection ends
// without an answer, whatever the method is, and when a 417 answers an Expect.
int on_send(void* self, char*, char*, int peer_port, int local_port) noexcept {
    curl_transfer& t = *static_cast<curl_transfer*>(self);
    if (++t.tries > 1) {
        if (t.at == curl_transfer::section::rest) return CURL_PREREQFUNC_ABORT;  // the 417 is the answer
        if (!is_idempotent(t.method)) {
            try {
                throw_system_error(ECONNRESET,
                    t.what() + ": the server closed the connection without an answer; " + t.method +
                        " is not sent again, because the server may have done it");
            } catch (...) { t.error = std::current_exception(); }
            return CURL_PREREQFUNC_ABORT;
        }
    }
    t.stale = t.multi->is_stale(local_port, peer_port);
    return t.stale ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}
#endif

int port_of(curl_socket_t fd, int (*name)(int, sockaddr*, socklen_t*)) noexcept {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (name(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
    if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
    if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
    return 0;
}

// A time limit as libcurl takes it: milliseconds in a long, where 0 would mean "the default".
long milliseconds(delay d) noexcept {
    if (!d.has_value()) return INT_MAX;
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(d.value()).count();
    return static_cast<long>(std::clamp<long long>(ms, 1, INT_MAX));
}

}  // namespace

// ---- the multi handle ----

curl_multi::curl_multi(const http::session_options& options)
    : timeout(options.timeout), connect_timeout_(options.connect_timeout), ca_file_(options.ca_file) {
    if (ca_file_.find('\0') != ca_file_.npos) throw std::invalid_argument("http::session: there is a NUL in ca_file");
    if (!options.user_agent.empty()) fields_.add("User-Agent", options.user_agent);
    fields_.add("Accept-Encoding", http_known_codings);
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

curl_multi::~curl_multi() { close(); }

void curl_multi::close() noexcept {
    while (curl_transfer* t = running.front()) {
        std::exception_ptr why;
        try {
            throw_system_error(ECANCELED, t->what() + ": the session was closed");
        } catch (...) { why = std::current_exception(); }
        t->end(std::move(why));
    }
    if (!multi_) return;
    curl_multi_cleanup(std::exchange(multi_, nullptr));  // its callbacks do nothing, because there is no loop any more
}

void curl_multi::add(curl_transfer& t) {
    if (!multi_) throw_logic_error(t.what() + ": the session has been closed");
    loop_core& here = require_loop();
    if (running.empty()) {
        loop = &here;
        for (auto& [fd, s] : sockets_) {
            try {
                s.watch.watch(fd, s.events);
            } catch (const std::system_error&) {  // the descriptor was closed meanwhile
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

void curl_multi::set_up(curl_transfer& t) {
    const auto set = [&t](CURLoption option, auto value) { check(curl_easy_setopt(t.easy, option, value)); };
    set(CURLOPT_PRIVATE, &t);
    set(CURLOPT_ERRORBUFFER, t.error_text);
    set(CURLOPT_URL, t.url.c_str());
    set(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    set(CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    set(CURLOPT_QUICK_EXIT, 1L);  // without this the removal of a request waits for the thread of its getaddrinfo
#endif
#if LIBCURL_VERSION_NUM >= 0x075000
    set(CURLOPT_PREREQFUNCTION, &on_send);
    set(CURLOPT_PREREQDATA, &t);
    const bool fresh = t.repeated;
#else
    const bool fresh = t.repeated || !is_idempotent(t.method);  // libcurl may repeat what goes over a kept one
#endif
    set(CURLOPT_OPENSOCKETFUNCTION, &on_open);
    set(CURLOPT_OPENSOCKETDATA, &t);
    set(CURLOPT_FRESH_CONNECT, fresh ? 1L : 0L);
    set(CURLOPT_FORBID_REUSE, t.close_connection ? 1L : 0L);
    set(CURLOPT_CONNECTTIMEOUT_MS, milliseconds(connect_timeout_));
    set(CURLOPT_HTTP_CONTENT_DECODING, 0L);
    set(CURLOPT_BUFFERSIZE, 65536L);
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (!ca_file_.empty()) set(CURLOPT_CAINFO, ca_file_.c_str());
    if (t.local) set(CURLOPT_PROXY, "");
    curl_slist_free_all(std::exchange(t.fields, nullptr));
    append_fields(t, fields_);
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
    }
    if (t.method != "GET" && t.method != "POST") set(CURLOPT_CUSTOMREQUEST, t.method.c_str());
    if (t.method == "GET" && !t.body.empty()) set(CURLOPT_CUSTOMREQUEST, "GET");
}

void curl_multi::ask_again(curl_transfer& t) {
    curl_multi_remove_handle(multi_, t.easy);
    curl_easy_reset(t.easy);
    set_up(t);
    const CURLMcode code = curl_multi_add_handle(multi_, t.easy);
    if (code != CURLM_OK) throw std::runtime_error(t.what() + ": libcurl: " + curl_multi_strerror(code));
}

void curl_multi::note_idle(const curl_transfer& t) noexcept {
    curl_socket_t fd = CURL_SOCKET_BAD;
    curl_easy_getinfo(t.easy, CURLINFO_ACTIVESOCKET, &fd);
    const auto found = sockets_.find(fd);
    if (found == sockets_.end()) return;  // the connection is closed
    long version = 0, port = 0;
    curl_easy_getinfo(t.easy, CURLINFO_HTTP_VERSION, &version);
    curl_easy_getinfo(t.easy, CURLINFO_LOCAL_PORT, &port);
    const bool one_at_a_time = version == CURL_HTTP_VERSION_1_0 || version == CURL_HTTP_VERSION_1_1;
    found->second.idle_port = one_at_a_time ? static_cast<int>(port) : 0;
}

bool curl_multi::is_stale(int local_port, int peer_port) const noexcept {
    for (const auto& [fd, s] : sockets_) {
        if (s.idle_port != local_port || port_of(fd, &::getsockname) != local_port)
            continue;  // a later socket has the same descriptor
        if (port_of(fd, &::getpeername) != peer_port) continue;
        char byte;
        return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }
    return false;
}

void curl_multi::remove(curl_transfer& t) noexcept {
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

int curl_multi::socket_function(CURL*, curl_socket_t fd, int what, void* self, void*) noexcept {
    curl_multi& c = *static_cast<curl_multi*>(self);
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

int curl_multi::timer_function(CURLM*, long milliseconds, void* self) noexcept {
    curl_multi& c = *static_cast<curl_multi*>(self);
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

void curl_multi::act(curl_socket_t fd, int events) noexcept {
    int still_running = 0;
    const CURLMcode code = curl_multi_socket_action(multi_, fd, events, &still_running);
    collect();
    if (code == CURLM_OK) return;
    const std::exception_ptr why = watch_error_
        ? std::exchange(watch_error_, nullptr)
        : std::make_exception_ptr(
              std::runtime_error(std::string("http::session: libcurl: ") + curl_multi_strerror(code)));
    while (curl_transfer* t = running.front()) t->end(why);
}

void curl_multi::collect() noexcept {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        const CURLcode code = message->data.result;
        curl_transfer* t = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &t);
        t->end_with(code);
    }
}

// ---- a transfer ----

curl_transfer::~curl_transfer() {
    if (multi) multi->remove(*this);
    curl_slist_free_all(fields);
}

bool curl_transfer::begin() noexcept {
    if (!ended) {
        try {
            multi->add(*this);
        } catch (...) {
            error = std::current_exception();
            ended = true;
        }
    }
    return !ended;
}

void curl_transfer::arm_deadline() {
    if (!timeout.has_value()) return;
    deadline.fire = [](timer_node& node) noexcept {
        curl_transfer& t = *static_cast<timer&>(node).owner;
        char after[48];
        std::snprintf(after, sizeof after, ": timed out after %gs while ",
            std::chrono::duration<double>(t.timeout.value()).count());
        t.end(std::make_exception_ptr(timeout_error(t.what() + after + t.phase())));
    };
    multi->loop->arm(deadline, timeout.from(multi->loop->now()));
}

void curl_transfer::end(std::exception_ptr why) noexcept {
    if (!error) error = std::move(why);
    ended = true;
    multi->remove(*this);
    notify();
}

void curl_transfer::notify() noexcept {
    if (!waiter) return;
    if (streaming && multi->loop) multi->loop->disarm(deadline);
    wake(std::exchange(waiter, nullptr));
}

std::string curl_transfer::take_piece() {
    std::string piece = std::exchange(text, {});
    if (decoder && !error) {
        try {
            decode();
            if (ended && !decoder->has_more()) decoder->check_end();
        } catch (...) { end(std::current_exception()); }
    }
    if (easy && text.empty() && std::exchange(paused, false)) {
        const CURLcode code = curl_easy_pause(easy, CURLPAUSE_CONT);
        if (code != CURLE_OK) end_with(code);
    }
    return piece;
}

// Takes a line of the header of an answer, or of its trailers. An answer may come before the real one: 100 Continue.
void curl_transfer::take_header_line(std::string_view line) {
    header_bytes += line.size();
    if (header_bytes > most_header_bytes) {
        throw http::error(
            what() + ": the headers of the answer are longer than " + std::to_string(most_header_bytes) + " bytes");
    }
    line = without_line_end(line);
    if (at == section::status_line) return take_status_line(line);
    if (line.empty()) {
        if (at == section::header) end_of_header();
        return;
    }
    http::headers& into = at == section::header ? answer : trailers;
    try {
        if (line.front() == ' ' || line.front() == '\t') {
            if (into.empty()) throw std::invalid_argument("the first line is the rest of another");
            return http_access::extend_last(into, trimmed(line));
        }
        const std::size_t colon = line.find(':');
        if (colon == line.npos) throw std::invalid_argument("a line has no colon");
        into.add(trimmed(line.substr(0, colon)), line.substr(colon + 1));
    } catch (const std::invalid_argument& e) {
        throw http::error(what() + ": the header of the answer is malformed: " + e.what());
    }
}

void curl_transfer::take_status_line(std::string_view line) {
    const std::size_t space = line.find(' ');
    const std::string_view digits = space == line.npos ? std::string_view() : line.substr(space + 1, 3);
    const bool ends = line.size() == space + 4 || (line.size() > space + 4 && line[space + 4] == ' ');
    int number = 0;
    for (const char c : digits) number = c >= '0' && c <= '9' ? number * 10 + (c - '0') : 10'000;
    if (!line.starts_with("HTTP/") || digits.size() != 3 || !ends || number < 100 || number > 599) {
        throw http::error(what() + ": the answer begins with no status from 100 to 599");
    }
    status = number;
    answer = {};
    at = section::header;
}

void curl_transfer::end_of_header() {
    if (status == 101) throw http::error(what() + ": the server changes the protocol (101), which nobody asked for");
    if (status < 200) {
        at = section::status_line;
        return;
    }
    at = section::rest;
    // Two sides that read these fields differently do not agree on where the answer ends.
    std::string length;
    bool chunked = false;
    for (const auto& [name, value] : answer) {
        if (equal_ignoring_case(name, "Content-Length")) {
            for_each_element(value, [&](std::string_view element) {
                const bool good = !element.empty() && element.size() <= 18 &&
                    element.find_first_not_of("0123456789") == element.npos && (length.empty() || length == element);
                if (!good)
                    throw http::error(what() + ": Content-Length of the answer is no length, or several: " + value);
                length = element;
            });
        } else if (equal_ignoring_case(name, "Transfer-Encoding") &&
            (std::exchange(chunked, true) || !equal_ignoring_case(value, "chunked"))) {
            throw http::error(what() + ": the answer has a Transfer-Encoding that was not asked for: " + value);
        }
    }
    redirecting = follow_redirects && is_redirect(status) && answer.contains("Location");
    if (redirecting || method == "HEAD" || status == 304) return;
    try {
        decoder = http_decoder::of(answer, asks_for_encodings);
    } catch (const http::error& e) { throw http::error(what() + ": " + e.what()); }
    if (!decoder && !length.empty() && max_body_size != 0 && std::stoull(length) > max_body_size) refuse_length();
}

void curl_transfer::refuse_length() const {
    throw http::error(what() + ": the body of the answer is longer than " + std::to_string(max_body_size) + " bytes");
}

void curl_transfer::take_body(std::string_view data) {
    if (redirecting) {  // nobody wants this body, but reading a small one keeps the connection
        body_bytes += data.size();
        enough = body_bytes > most_ignored_bytes;
        return;
    }
    if (decoder) {
        decoder->give(data);
        decode();
    } else {
        add_text(data);
    }
    if (streaming && !text.empty()) notify();
}

void curl_transfer::add_text(std::string_view data) {
    body_bytes += data.size();
    if (max_body_size != 0 && body_bytes > max_body_size) refuse_length();
    text += data;
}

void curl_transfer::decode() {
    std::string piece;
    while (decoder->has_more() && (!streaming || text.size() < most_unread_bytes)) {
        piece.clear();
        try {
            decoder->read(piece, decoded_at_once);
        } catch (const http::error& e) { throw http::error(what() + ": " + e.what()); }
        add_text(piece);
    }
}

// Sets up the next message, after an answer that redirects.
void curl_transfer::prepare_redirect() {
    const std::string location = answer["Location"];
    const std::string before = what();
    if (redirects == max_redirects) {
        throw http::error(before + ": more than " + std::to_string(max_redirects) + " redirects; the next one is to " +
            masked(location));
    }
    ++redirects;
    url_handle from_url, to_url;
    curl_url_set(from_url.url, CURLUPART_URL, url.c_str(), 0);
    curl_url_set(to_url.url, CURLUPART_URL, url.c_str(), 0);
    const CURLUcode code = curl_url_set(
        to_url.url, CURLUPART_URL, location.c_str(), CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE | CURLU_ALLOW_SPACE);
    if (code == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
    if (code != CURLUE_OK || has_backslash_before_path(location)) {
        throw http::error(before + ": redirected to \"" + masked(location) +
            "\": not a URL: " + (has_backslash_before_path(location) ? backslash_why : curl_url_strerror(code)));
    }
    const auto same = [&](CURLUPart part) {
        return equal_ignoring_case(from_url.get(part, CURLU_DEFAULT_PORT), to_url.get(part, CURLU_DEFAULT_PORT));
    };
    const bool same_origin = same(CURLUPART_SCHEME) && same(CURLUPART_HOST) && same(CURLUPART_PORT);
    if (same_origin && to_url.get(CURLUPART_USER).empty()) {
        for (const CURLUPart part : {CURLUPART_USER, CURLUPART_PASSWORD}) {
            const std::string value = from_url.get(part);
            if (!value.empty()) curl_url_set(to_url.url, part, value.c_str(), 0);
        }
    }
    if (!same_origin) {
        for (const char* name : {"Authorization", "Proxy-Authorization", "Cookie", "Host"}) given.remove(name);
    }
    // 303 ("See Other") turns all methods but HEAD into GET; 301 and 302 turn only POST into GET, as browsers do. Any
    // other request keeps its method and its body.
    const bool get = status == 303 ? method != "HEAD" : status <= 302 && method == "POST";
    if (get && method != "GET") {
        method = "GET";
        body.clear();
        for (const char* name :
            {"Content-Type", "Content-Encoding", "Content-Language", "Content-Location", "Expect"}) {
            given.remove(name);
        }
    }
    checked_url asked;
    try {
        asked = parts_of(method, to_url);
    } catch (const std::invalid_argument& e) { throw http::error(before + ": redirected: " + e.what()); }
    url = std::move(asked.url);
    shown = std::move(asked.shown);
    local = asked.local;
    begin_message();
}

// True if a kept connection was lost before anything of the answer had come, and the request may be sent twice. libcurl
// repeats it by itself only if it had sent all of it.
bool curl_transfer::may_repeat(CURLcode code) const noexcept {
    if (code != CURLE_SEND_ERROR && code != CURLE_RECV_ERROR && code != CURLE_GOT_NOTHING && code != CURLE_HTTP2 &&
        code != CURLE_HTTP2_STREAM) {
        return false;
    }
    long connections_made = 1;
    curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connections_made);
    return connections_made == 0 && !repeated && header_bytes == 0 && is_idempotent(method);
}

void curl_transfer::begin_message() noexcept {
    at = section::status_line;
    status = 0;
    answer = {};
    header_bytes = 0;
    body_bytes = 0;
    tries = 0;
    open_error = 0;
    stale = false;
    repeated = false;
    error_text[0] = '\0';
    redirecting = false;
    enough = false;
}

void curl_transfer::end_with(CURLcode code) noexcept {
    std::exception_ptr why;
    try {
        if (code == CURLE_WRITE_ERROR && enough) code = CURLE_OK;
        if (code == CURLE_ABORTED_BY_CALLBACK && at == section::rest) code = CURLE_OK;  // see on_send
        if (code == CURLE_OK) multi->note_idle(*this);
        if (error) {
            // a callback has noted why it aborted the transfer
        } else if (stale) {  // libcurl has closed the connection, and nothing was sent
            begin_message();
            multi->ask_again(*this);
            return;
        } else if (code != CURLE_OK) {
            if (may_repeat(code)) {
                begin_message();
                repeated = true;
                multi->ask_again(*this);
                return;
            }
            why = failure(code);
        } else if (at != section::rest) {  // libcurl takes this for an answer without a body
            throw http::error(what() + ": the answer was cut short in its header");
        } else if (redirecting) {
            prepare_redirect();
            multi->ask_again(*this);
            return;
        } else {
            from = shown;
            try {
                if (decoder && !decoder->has_more()) decoder->check_end();
            } catch (const http::error& e) { throw http::error(what() + ": " + e.what()); }
        }
    } catch (...) { why = std::current_exception(); }
    end(std::move(why));
}

const char* curl_transfer::phase() const noexcept {
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

std::exception_ptr curl_transfer::failure(CURLcode code) const {
    std::string why = error_text[0] ? error_text : curl_easy_strerror(code);
    const bool bad_proxy = why.starts_with("Unsupported proxy");
    if (const std::size_t quote = why.find('\'');
        bad_proxy && quote != why.npos) {  // the quotes hold the proxy's URL, with its password
        why = why.substr(0, quote + 1) + masked(why.substr(quote + 1));
    }
    const std::string message = what() + ": " + why;
    if (bad_proxy) return std::make_exception_ptr(http::error(message));
    long number = 0;
    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
    const auto system = [&](int otherwise) {
        return std::make_exception_ptr(
            std::system_error(number ? static_cast<int>(number) : otherwise, std::generic_category(), message));
    };
    const auto lost = [&] {
        if (number == EPIPE) number = ECONNRESET;  // EPIPE comes from the farewell to a TLS peer that has gone
        return system(ECONNRESET);
    };
    switch (code) {
        case CURLE_OUT_OF_MEMORY: return std::make_exception_ptr(std::bad_alloc());
        case CURLE_OPERATION_TIMEDOUT:
            return std::make_exception_ptr(
                timeout_error(what() + ": timed out while " + phase() + " (" + error_text + ")"));
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
            return std::make_exception_ptr(std::system_error(EAI_NONAME, resolver_category(), message));
        case CURLE_COULDNT_CONNECT: return system(open_error ? open_error : ECONNREFUSED);
        case CURLE_SEND_ERROR:
            if (std::strncmp(error_text, "Recv", 4) == 0) return lost();  // TLS may have to read in order to write
            return system(EPIPE);
        case CURLE_RECV_ERROR:
            // This code also means malformed chunks, or a proxy that refuses a tunnel. Then no system call has failed.
            if (number == 0 && (std::strstr(error_text, "chunk") || std::strstr(error_text, "CONNECT")))
                return std::make_exception_ptr(http::error(message));
            return lost();
        case CURLE_GOT_NOTHING: return system(ECONNRESET);
        case CURLE_PARTIAL_FILE:
            return std::make_exception_ptr(http::error(what() + ": the body was cut short: " + error_text));
        default: return std::make_exception_ptr(http::error(message));
    }
}

std::unique_ptr<curl_transfer> make_transfer(const std::shared_ptr<curl_multi>& multi, std::string method,
    std::string url, std::string body, const http::request_options& options, bool streaming) {
    if (!multi) throw_logic_error("this http::session was moved from");
    auto t = std::make_unique<curl_transfer>();
    t->multi = multi;
    t->method = std::move(method);
    t->url = std::move(url);
    t->body = std::move(body);
    t->timeout = options.timeout.has_value() ? options.timeout : multi->timeout;
    t->follow_redirects = options.follow_redirects;
    t->max_redirects = options.max_redirects;
    t->max_body_size = options.max_body_size.value_or(streaming ? 0 : default_max_body_size);
    try {
        if (!is_http_token(t->method)) throw std::invalid_argument("\"" + t->method + "\" is no HTTP method");
        if (t->method == "CONNECT")
            throw std::invalid_argument("CONNECT asks for a tunnel, which an http::session does not make");
        checked_url checked = check_url(t->method, t->url);
        t->url = std::move(checked.url);
        t->shown = std::move(checked.shown);
        t->local = checked.local;
        try {
            if (options.headers.get()) take_headers(*t, *options.headers.get());
        } catch (const std::invalid_argument& e) { throw std::invalid_argument(t->what() + ": " + e.what()); }
    } catch (...) {
        t->error = std::current_exception();
        t->ended = true;
    }
    return t;
}

}  // namespace aio::detail
