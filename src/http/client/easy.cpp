// libcurl's easy handles: what each is told once, what changes from request to request, and the functions that libcurl
// calls. No exception may pass through libcurl: a callback keeps it in the transfer, which ends with that error.

#include "http/client/transfer.hpp"

#include <aio/errors.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace aio::inline v0::detail {

constexpr std::size_t most_unread_bytes = 256 * 1024;  // of a streamed body

void check(CURLcode code) {
    if (code == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
    if (code != CURLE_OK) throw std::runtime_error(std::string("http::session: libcurl: ") + curl_easy_strerror(code));
}

curl_handle::curl_handle() : easy(curl_easy_init()) {
    if (!easy) throw std::bad_alloc();
}

namespace {

curl_transfer& transfer_of(void* handle) noexcept { return *static_cast<curl_handle*>(handle)->transfer; }

std::size_t on_header(char* data, std::size_t, std::size_t size, void* self) noexcept {
    curl_transfer& t = transfer_of(self);
    ++t.multi->pieces;
    try {
        if (size > 0) t.take_header_line({data, size});
        return size;
    } catch (...) {
        t.error = std::current_exception();
        return 0;
    }
}

std::size_t on_body(char* data, std::size_t, std::size_t size, void* self) noexcept {
    curl_transfer& t = transfer_of(self);
    if (t.streaming && (t.text.size() >= most_unread_bytes || (t.decoder && t.decoder->has_more()))) {
        t.paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    ++t.multi->pieces;
    try {
        t.take_body({data, size});
        return t.enough ? 0 : size;
    } catch (...) {
        t.error = std::current_exception();
        return 0;
    }
}

std::size_t on_read(char* into, std::size_t, std::size_t size, void* self) noexcept {
    curl_transfer& t = transfer_of(self);
    ++t.multi->pieces;
    try {
        return t.upload ? t.upload->read(into, size) : 0;
    } catch (...) {
        t.error = std::current_exception();
        return CURL_READFUNC_ABORT;
    }
}

// libcurl wants to send a body from its beginning, because it repeats the message.
int on_seek(void* self, curl_off_t offset, int) noexcept {
    const curl_transfer& t = transfer_of(self);
    return offset == 0 && t.upload && !t.upload->taken ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}

curl_socket_t on_open(void* self, curlsocktype, curl_sockaddr* address) noexcept {
    const int fd = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    curl_transfer& t = transfer_of(self);
    t.opened = true;
    if (fd < 0) {
        t.open_error = errno;  // libcurl does not keep this errno
        return CURL_SOCKET_BAD;
    }
    try {
        t.multi->note_open(fd);
    } catch (...) {
        t.open_error = ENOMEM;
        ::close(fd);
        return CURL_SOCKET_BAD;
    }
    return fd;
}

// self is the curl_multi: a connection may live longer than the handle that has made it.
int on_close(void* self, curl_socket_t fd) noexcept {
    static_cast<curl_multi*>(self)->note_close(fd);
    return ::close(fd);
}

#if LIBCURL_VERSION_NUM >= 0x075000
// A hash of both ends of a connection (FNV-1a); 0 if they have no ports, as those of Unix sockets.
std::uint64_t hash_of(const char* peer, const char* local, int peer_port, int local_port) noexcept {
    if (local_port == 0 || peer_port == 0) return 0;
    std::uint64_t hash = 14695981039346656037u;
    const auto add = [&hash](unsigned char byte) { hash = (hash ^ byte) * 1099511628211u; };
    for (const char* text : {peer, local}) {
        for (; text && *text; ++text) add(static_cast<unsigned char>(*text));
        add(0);
    }
    for (const int port : {peer_port, local_port}) {
        add(static_cast<unsigned char>(port & 255));
        add(static_cast<unsigned char>(port >> 8));
    }
    return hash | 1;
}

// libcurl calls this before it sends a request, and again before it repeats one. It repeats when a kept connection ends
// without an answer, whatever the method is, and when a 417 answers an Expect.
int on_send(void* self, char* peer, char* local, int peer_port, int local_port) noexcept {
    curl_transfer& t = transfer_of(self);
    if (++t.tries > 1) {
        if (t.at == curl_transfer::section::rest) return CURL_PREREQFUNC_ABORT;  // the 417 is the answer
        if (!is_idempotent(t.method)) {
            try {
                t.was_lost = true;
                throw_system_error(ECONNRESET,
                    t.what() + ": the server closed the connection without an answer; " + t.method +
                        " is not sent again, because the server may have done it");
            } catch (...) { t.error = std::current_exception(); }
            return CURL_PREREQFUNC_ABORT;
        }
    }
    t.ends = hash_of(peer, local, peer_port, local_port);
    t.stale = t.multi->is_stale(t.ends);
    if (t.stale) return CURL_PREREQFUNC_ABORT;
    t.was_sent = true;
    try {
        if (t.limits.any()) t.arm_phase(curl_transfer::timed::first_byte);
    } catch (...) {
        t.error = std::current_exception();
        return CURL_PREREQFUNC_ABORT;
    }
    return CURL_PREREQFUNC_OK;
}
#endif

// A time limit as libcurl takes it: milliseconds in a long, where 0 would mean "the default".
long milliseconds(delay d) noexcept {
    if (!d.has_value()) return INT_MAX;
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(d.value()).count();
    return static_cast<long>(std::clamp<long long>(ms, 1, INT_MAX));
}

long version_for_curl(const curl_transfer& t) noexcept {
    if (!t.version) return CURL_HTTP_VERSION_NONE;
    switch (*t.version) {
        case http::version::v1_0: return CURL_HTTP_VERSION_1_0;
        case http::version::v1_1: return CURL_HTTP_VERSION_1_1;
        case http::version::v2: break;
    }
    return t.target->secure ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
}

template<class T>
void set(CURL* easy, CURLoption option, T value) {
    check(curl_easy_setopt(easy, option, value));
}
void set_text(CURL* easy, CURLoption option, const std::string& text) {
    if (!text.empty()) set(easy, option, text.c_str());
}

}  // namespace

void curl_callbacks::set(CURL* easy, curl_handle& h, curl_multi& m) {
    const auto option = [easy](CURLoption o, auto value) { detail::set(easy, o, value); };
    option(CURLOPT_PRIVATE, &h);
    option(CURLOPT_ERRORBUFFER, h.error_text);
#if LIBCURL_VERSION_NUM >= 0x075000
    option(CURLOPT_PREREQFUNCTION, &on_send);
    option(CURLOPT_PREREQDATA, &h);
#endif
    option(CURLOPT_OPENSOCKETFUNCTION, &on_open);
    option(CURLOPT_OPENSOCKETDATA, &h);
    option(CURLOPT_CLOSESOCKETFUNCTION, &on_close);
    option(CURLOPT_CLOSESOCKETDATA, &m);
    option(CURLOPT_HEADERFUNCTION, &on_header);
    option(CURLOPT_HEADERDATA, &h);
    option(CURLOPT_WRITEFUNCTION, &on_body);
    option(CURLOPT_WRITEDATA, &h);
    option(CURLOPT_READFUNCTION, &on_read);
    option(CURLOPT_READDATA, &h);
    option(CURLOPT_SEEKFUNCTION, &on_seek);
    option(CURLOPT_SEEKDATA, &h);
}

// What is the same for all requests of a session.
std::unique_ptr<curl_handle> curl_multi::make_handle() {
    auto made = std::make_unique<curl_handle>();
    CURL* const easy = made->easy;
    curl_callbacks::set(easy, *made, *this);
    set(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
    set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    set(easy, CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    set(easy, CURLOPT_QUICK_EXIT, 1L);  // without this the removal of a request waits for its getaddrinfo's thread
#endif
    set(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    set(easy, CURLOPT_BUFFERSIZE, 65536L);
    set(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    const session_settings& s = settings;
    set_text(easy, CURLOPT_CAINFO, s.ca_file);
    set_text(easy, CURLOPT_SSLCERT, s.client_certificate);
    set_text(easy, CURLOPT_SSLKEY, s.client_key.empty() ? s.client_certificate : s.client_key);
    if (!s.verify) {
        set(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        set(easy, CURLOPT_SSL_VERIFYHOST, 0L);
        set(easy, CURLOPT_PROXY_SSL_VERIFYPEER, 0L);
        set(easy, CURLOPT_PROXY_SSL_VERIFYHOST, 0L);
    }
    set_text(easy, CURLOPT_PROXY, s.proxy);
    set_text(easy, CURLOPT_NOPROXY, s.no_proxy);
    if (!s.trust_env && s.proxy.empty()) set(easy, CURLOPT_PROXY, "");
    if (s.unix_socket.starts_with('@')) {
        set(easy, CURLOPT_ABSTRACT_UNIX_SOCKET, s.unix_socket.c_str() + 1);
    } else {
        set_text(easy, CURLOPT_UNIX_SOCKET_PATH, s.unix_socket);
    }
    if (cookies_) {
        set(easy, CURLOPT_SHARE, cookies_);
        set(easy, CURLOPT_COOKIEFILE, "");  // turns the cookies on
    }
    return made;
}

namespace {

// Sets what has another value than for the handle's last request.
template<class T>
void change(CURL* easy, CURLoption option, T& known, T wanted) {
    if (known == wanted) return;
    set(easy, option, wanted);
    known = wanted;
}

curl_handle::kind kind_of(const curl_transfer& t) noexcept {
    using kind = curl_handle::kind;
    if (t.upload) return kind::upload;
    if (t.method == "HEAD") return kind::head;
    return sends_body(t) ? kind::body : kind::get;
}

// Tells libcurl what is sent, and gives the method that it uses for that.
std::string_view set_kind(curl_handle& h, curl_handle::kind sends) {
    CURL* const easy = h.easy;
    if (sends != h.sends) set(easy, CURLOPT_HTTPGET, 1L);  // takes back what the others have set
    const bool changes = std::exchange(h.sends, sends) != sends;
    switch (sends) {
        case curl_handle::kind::get: break;
        case curl_handle::kind::head:
            if (changes) set(easy, CURLOPT_NOBODY, 1L);
            return "HEAD";
        case curl_handle::kind::body:
            if (changes) set(easy, CURLOPT_POST, 1L);
            return "POST";
        case curl_handle::kind::upload:
            if (changes) set(easy, CURLOPT_UPLOAD, 1L);
            return "PUT";
    }
    return "GET";
}

void set_body(curl_handle& h, const curl_transfer& t) {
    const std::string_view usual = set_kind(h, kind_of(t));
    if (h.sends == curl_handle::kind::body) {
        set(h.easy, CURLOPT_POSTFIELDS, t.body.data());
        set(h.easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(t.body.size()));
    } else if (h.sends == curl_handle::kind::upload) {
        const curl_off_t unknown = -1;
        set(h.easy, CURLOPT_INFILESIZE_LARGE, t.upload->length ? static_cast<curl_off_t>(*t.upload->length) : unknown);
    }
    const std::string custom = t.method == usual ? std::string() : t.method;
    if (custom != h.method) {
        set(h.easy, CURLOPT_CUSTOMREQUEST, custom.empty() ? nullptr : custom.c_str());
        h.method = custom;
    }
}

}  // namespace

void curl_multi::set_up(curl_transfer& t) {
    curl_handle& h = *t.handle;
    CURL* const easy = h.easy;
    if (h.url != t.target) {
        h.url.reset();
        set(easy, CURLOPT_URL, t.target->url.c_str());
        h.url = t.target;
    }
    bool fresh = t.repeated;
#if LIBCURL_VERSION_NUM < 0x075000
    fresh = fresh || !is_idempotent(t.method);  // libcurl may repeat what goes over a kept one
#endif
    // libcurl 7.88 sends no body over a kept connection of HTTP/2 without TLS: "Error in the HTTP2 framing layer".
    const bool has_body = t.upload || !t.body.empty();
    fresh = fresh || (has_body && t.version == http::version::v2 && !t.target->secure);
    change(easy, CURLOPT_FRESH_CONNECT, h.fresh, fresh ? 1L : 0L);
    change(easy, CURLOPT_FORBID_REUSE, h.forbid_reuse, t.close_connection ? 1L : 0L);
    change(easy, CURLOPT_CONNECTTIMEOUT_MS, h.connect_timeout, milliseconds(t.limits.connect));
    change(easy, CURLOPT_HTTP_VERSION, h.http_version, version_for_curl(t));
    // One connection for all requests, from the first on, where HTTP/2 is asked for.
    change(easy, CURLOPT_PIPEWAIT, h.pipe_wait, t.version == http::version::v2 ? 1L : 0L);
    const bool no_proxy = t.target->local && settings.proxy.empty() && settings.trust_env;
    if (no_proxy != h.without_proxy) {
        set(easy, CURLOPT_PROXY, no_proxy ? "" : nullptr);
        h.without_proxy = no_proxy;
    }
    if (cookies_ && h.cookie != t.given["Cookie"]) {
        h.cookie = t.given["Cookie"];
        set(easy, CURLOPT_COOKIE, h.cookie.empty() ? nullptr : h.cookie.c_str());
    }
    set_fields(t, cookies_ != nullptr);
    if (t.fields || h.fields != usual_fields_) {
        h.fields = t.fields ? t.fields : usual_fields_;
        set(easy, CURLOPT_HTTPHEADER, h.fields);
    }
    set_body(h, t);
}

}  // namespace aio::inline v0::detail
