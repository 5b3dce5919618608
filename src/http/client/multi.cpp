// libcurl on our loop; multi.hpp says how it is driven. easy.cpp sets up the handles of requests, transfer.cpp takes
// what comes.

#include "http/client/multi.hpp"

#include "http/client/transfer.hpp"

#include <aio/event_loop.hpp>
#include <aio/stream.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <stdexcept>

namespace aio::inline v0::detail {

namespace {

constexpr std::size_t most_idle_handles = 128;
constexpr auto quiet_time = std::chrono::milliseconds(1);  // after which HTTP/2 is looked after: see end_stall

void initialise_curl() {
    static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (code != CURLE_OK) throw std::runtime_error(std::string("http::session: libcurl: ") + curl_easy_strerror(code));
}

void set_limit(CURLM* multi, CURLMoption option, std::size_t limit) {
    curl_multi_setopt(multi, option, static_cast<long>(std::min<std::size_t>(limit, INT_MAX)));
}

std::string text_of(std::string_view text, const char* option) {
    if (text.find('\0') != text.npos)
        throw std::invalid_argument(std::string("http::session: there is a NUL in ") + option);
    return std::string(text);
}

}  // namespace

// ---- what a session says ----

session_settings::session_settings(const http::session_options& o)
    : timeout(o.timeout),
      connect_timeout(o.connect_timeout),
      tls_timeout(o.tls_timeout),
      first_byte_timeout(o.first_byte_timeout),
      read_timeout(o.read_timeout),
      ca_file(text_of(o.ca_file, "ca_file")),
      proxy(text_of(o.proxy, "proxy")),
      no_proxy(text_of(o.no_proxy, "no_proxy")),
      unix_socket(text_of(o.unix_socket, "unix_socket")),
      client_certificate(text_of(o.client_certificate, "client_certificate")),
      client_key(text_of(o.client_key, "client_key")),
      base_url(text_of(o.base_url, "base_url")),
      http_version(o.http_version),
      cookies(o.cookies),
      trust_env(o.trust_env),
      verify(o.verify) {
    http::headers checked;
    checked.add("User-Agent", o.user_agent);
    user_agent = checked["User-Agent"];
    if (o.headers.get()) fields = *o.headers.get();
    checked.add("Authorization", o.auth);
    auth = checked["Authorization"];
    if (base_url.empty()) return;
    base_origin = check_url("http::session: base_url:", base_url)->origin;
    if (base_url.find_first_of("?#") != base_url.npos)
        throw std::invalid_argument("http::session: base_url has a query or a fragment");
    if (!base_url.ends_with('/')) base_url += '/';
}

// ---- making and closing ----

curl_multi::curl_multi(const http::session_options& options) : settings(options) {
    initialise_curl();
    try {
        multi_ = curl_multi_init();
        if (settings.cookies) cookies_ = curl_share_init();
        if (!multi_ || (settings.cookies && !cookies_)) throw std::bad_alloc();
        add_fields(usual_fields_, {}, settings, true);
        idle_handles_.reserve(most_idle_handles);  // remove() must not fail
    } catch (...) {
        close();
        throw;
    }
    if (cookies_) curl_share_setopt(cookies_, CURLSHOPT_SHARE, CURL_LOCK_DATA_COOKIE);
    timer_.owner = this;
    timer_.fire = [](timer_node& t) noexcept { static_cast<timer&>(t).owner->act(CURL_SOCKET_TIMEOUT, 0); };
    quiet_.owner = this;
    quiet_.fire = [](timer_node& t) noexcept { static_cast<timer&>(t).owner->end_stall(); };
    curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &socket_function);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &timer_function);
    curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    set_limit(multi_, CURLMOPT_MAX_TOTAL_CONNECTIONS, options.max_connections);
    set_limit(multi_, CURLMOPT_MAX_HOST_CONNECTIONS, options.max_connections_per_host);
    if (options.max_connections) set_limit(multi_, CURLMOPT_MAXCONNECTS, options.max_connections);
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
    idle_handles_.clear();
    curl_multi_cleanup(std::exchange(multi_, nullptr));  // its callbacks do nothing, because there is no loop any more
    if (cookies_) curl_share_cleanup(std::exchange(cookies_, nullptr));
    curl_slist_free_all(std::exchange(usual_fields_, nullptr));
}

void curl_multi::clear_cookies() noexcept {
    if (!cookies_) return;
    CURL* const easy = curl_easy_init();
    if (!easy) return;
    curl_easy_setopt(easy, CURLOPT_SHARE, cookies_);
    curl_easy_setopt(easy, CURLOPT_COOKIELIST, "ALL");
    curl_easy_cleanup(easy);
}

// ---- requests ----

void curl_multi::bind(curl_transfer& t) {
    loop_core& here = require_loop();
    if (!running.empty()) {
        if (loop != &here) throw_logic_error(t.what() + ": the session has requests running on another loop");
        return;
    }
    loop = &here;
    for (const auto& s : sockets_) {
        if (!s || s->wanted == 0) continue;
        try {
            s->watch.watch(s->fd, s->wanted);
        } catch (const std::system_error&) {  // the descriptor was closed meanwhile
            s->wanted = 0;
        }
    }
}

void curl_multi::unbind() noexcept {
    for (const auto& s : sockets_) {
        if (s) s->watch.stop();
    }
    loop->disarm(timer_);
    loop->disarm(quiet_);
    multiplexes_ = acted_ = false;
    loop = nullptr;
}

void curl_multi::begin(curl_transfer& t) {
    set_up(t);
    const CURLMcode code = curl_multi_add_handle(multi_, t.handle->easy);
    if (code == CURLM_OUT_OF_MEMORY) throw std::bad_alloc();
    if (code != CURLM_OK) throw std::runtime_error(t.what() + ": libcurl: " + curl_multi_strerror(code));
}

void curl_multi::add(curl_transfer& t) {
    if (!multi_) throw_logic_error(t.what() + ": the session has been closed");
    bind(t);
    std::unique_ptr<curl_handle> handle;
    if (idle_handles_.empty()) {
        handle = make_handle();
    } else {
        handle = std::move(idle_handles_.back());
        idle_handles_.pop_back();
    }
    t.handle = handle.get();
    handle->transfer = &t;
    handle->error_text[0] = '\0';
    try {
        if (!t.streaming) t.arm_deadline();
        begin(t);
    } catch (...) {
        loop->disarm(t.deadline);
        t.handle = nullptr;
        handle.reset();
        if (running.empty()) unbind();
        throw;
    }
    static_cast<void>(handle.release());  // running has it
    running.push_back(t);
    if (t.version == http::version::v2) note_multiplexing();
    uploads_ += t.upload ? 1 : 0;
    ++count;
    ++loop->outstanding;
}

void curl_multi::ask_again(curl_transfer& t) {
    curl_multi_remove_handle(multi_, t.handle->easy);
    begin(t);
}

void curl_multi::remove(curl_transfer& t) noexcept {
    if (!t.handle) return;
    t.unlink();
    uploads_ -= t.upload ? 1 : 0;
    --count;
    --loop->outstanding;
    loop->disarm(t.deadline);
    loop->disarm(t.phase_deadline);
    std::unique_ptr<curl_handle> handle(std::exchange(t.handle, nullptr));
    // Over HTTP/2 libcurl resets the stream of a request that is stopped, but sends that only with what comes next over
    // the connection. So a connection that nobody else uses is closed, and for the others it is called soon.
    const bool stopped = !t.ended || t.error;
    if (stopped) curl_easy_setopt(handle->easy, CURLOPT_FORBID_REUSE, 1L);
    curl_multi_remove_handle(multi_, handle->easy);
    handle->transfer = nullptr;
    if (stopped) note_act();
    // A handle that was stopped on its way is not used again: that would show what libcurl has left in it.
    if (t.ended && !t.error && !(t.upload && t.upload->starved) && idle_handles_.size() < most_idle_handles)
        idle_handles_.push_back(std::move(handle));
    handle.reset();
    if (running.empty()) unbind();
}

// ---- connections ----

curl_socket& curl_multi::socket_of(curl_socket_t fd) {
    const auto index = static_cast<std::size_t>(fd);
    if (index >= sockets_.size()) sockets_.resize(index + 1);
    if (!sockets_[index]) {
        sockets_[index] =
            std::make_unique<curl_socket>([this, index](std::uint32_t came) { on_event(*sockets_[index], came); }, fd);
    }
    return *sockets_[index];
}

bool curl_socket::has_talked() const noexcept {
    char byte;
    return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

void curl_multi::note_open(int fd) {
    curl_socket& s = socket_of(fd);
    s.watch.stop();
    s.wanted = 0;
    s.connection = true;
    s.idle = false;
    ++s.uses;
}

void curl_multi::note_close(int fd) noexcept {
    const auto index = static_cast<std::size_t>(fd);
    if (index >= sockets_.size() || !sockets_[index]) return;
    curl_socket& s = *sockets_[index];
    s.watch.stop();
    s.wanted = 0;
    s.connection = s.idle = false;
    const auto known = by_ends_.find(s.ends);
    if (known != by_ends_.end() && known->second == &s) by_ends_.erase(known);
    s.ends = 0;
}

void curl_multi::note_idle(const curl_transfer& t) noexcept {
    if (!t.connection || t.connection->uses != t.connection_use || !t.connection->connection) return;
    t.connection->idle = t.answered_with != http::version::v2;
}

bool curl_multi::is_stale(std::uint64_t ends) noexcept {
    if (ends != 0) {
        const auto known = by_ends_.find(ends);
        return known != by_ends_.end() && known->second->idle && known->second->has_talked();
    }
    bool any = false;
    for (const auto& s : sockets_) {
        if (!s || !s->idle || !s->has_talked()) continue;
        ::shutdown(s->fd, SHUT_RDWR);
        s->idle = false;
        any = true;
    }
    return any;
}

// ---- what libcurl and the loop tell each other ----

int curl_multi::socket_function(CURL* easy, curl_socket_t fd, int what, void* self, void*) noexcept {
    curl_multi& c = *static_cast<curl_multi*>(self);
    std::uint32_t events = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) events |= io_entry::readable;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) events |= io_entry::writable;
    try {
        curl_socket& s = c.socket_of(fd);
        s.wanted = events;
        if (events != 0) {
            s.idle = false;
            curl_handle* handle = nullptr;
            curl_easy_getinfo(easy, CURLINFO_PRIVATE, &handle);
            if (handle && handle->transfer) c.note_use(*handle->transfer, s, events);
        } else if (s.connection) {
            return 0;  // it is probably used again soon: see on_event
        }
        if (c.loop) s.watch.watch(fd, events);
        return 0;
    } catch (...) {
        c.watch_error_ = std::current_exception();
        return -1;
    }
}

void curl_multi::note_use(curl_transfer& t, curl_socket& s, std::uint32_t events) {
    t.connection = &s;
    t.connection_use = s.uses;
    if (t.ends != 0 && s.connection && s.ends != t.ends) {
        by_ends_.erase(s.ends);
        by_ends_[t.ends] = &s;
        s.ends = t.ends;
    }
    // A connection that is being made is waited for until it can be written to. libcurl tells of it only once TLS is
    // there, too.
    if (t.target->secure && t.tries == 0 && s.connection && (events & io_entry::readable) && !t.securing) {
        t.securing = true;
        if (t.limits.tls.has_value()) t.arm_phase(curl_transfer::timed::tls);
    }
}

void curl_multi::on_event(curl_socket& s, std::uint32_t came) noexcept {
    came &= s.wanted;
    if (came == 0) {  // the connection is idle
        s.watch.stop();
        return;
    }
    act(s.fd, (came & io_entry::readable ? CURL_CSELECT_IN : 0) | (came & io_entry::writable ? CURL_CSELECT_OUT : 0));
    if (uploads_ > 0 && (came & io_entry::readable)) resume_uploads(s);
}

// An answer may be whole before the body of its request is: a refusal. libcurl then stops to send, but not while it
// waits for a piece of the body, and so would never end. Therefore whatever comes has it look again.
void curl_multi::resume_uploads(const curl_socket& s) noexcept {
    for (curl_transfer* t = running.front(); t;) {
        curl_transfer* const next = running.after(*t);
        const bool here = t->connection == &s || !t->connection;  // see curl_transfer::connection
        if (here && t->upload && t->has_head() && std::exchange(t->upload->starved, false)) t->update_pause();
        t = next;
    }
}

void curl_multi::note_multiplexing() noexcept {
    multiplexes_ = true;
    note_act();
}

void curl_multi::note_answered() noexcept {
    answered_ = true;
    note_act();  // nobody may be calling libcurl just now: it has been told to go on (update_pause)
}

void curl_multi::note_act() noexcept {
    if (!multiplexes_ || running.empty()) return;
    acted_ = true;
    if (!quiet_.armed()) loop->arm(quiet_, delay(quiet_time).from(loop->now()));
}

// libcurl 7.88 keeps what it has read from a connection of HTTP/2, or what TLS has, and forgets to ask for a call: when
// a stream whose buffer was full lets the connection go on, and then ends, the other streams wait for bytes that are no
// longer in the socket. So once libcurl has been quiet for a moment, it is told that its connections can be read, which
// costs little if it is not so. It is told again as long as that brings something.
void curl_multi::end_stall() noexcept {
    if (std::exchange(acted_, false)) {
        loop->arm(quiet_, delay(quiet_time).from(loop->now()));
        return;
    }
    const std::uint64_t before = pieces;
    for (std::size_t i = 0; i < sockets_.size() && !running.empty(); ++i) {
        const curl_socket* const s = sockets_[i].get();
        if (s && s->connection && (s->wanted & io_entry::readable)) tell(s->fd, CURL_CSELECT_IN);
    }
    if (std::exchange(answered_, false)) end_answered();
    if (pieces != before) note_act();
}

// Over HTTP/2 libcurl does not stop to send after an answer that is whole, because the connection goes on: it would see
// that the stream is closed only when it sends the next piece, and sometimes not even then. Nobody wants that piece,
// also if the answer says that all is well: the server has ended its side of the stream. So the transfer ends here,
// which resets the stream.
void curl_multi::end_answered() noexcept {
    for (curl_transfer* t = running.front(); t;) {
        curl_transfer* const next = running.after(*t);
        if (t->upload && !t->upload->all_given() && t->answered_with == http::version::v2 && t->is_answered())
            t->end_with(CURLE_OK);
        t = next;
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
    tell(fd, events);
    note_act();
}

void curl_multi::tell(curl_socket_t fd, int events) noexcept {
    int still_running = 0;
    const CURLMcode code = curl_multi_socket_action(multi_, fd, events, &still_running);
    collect();
    if (std::exchange(answered_, false)) end_answered();
    if (code == CURLM_OK) return;
    std::exception_ptr why;
    if (watch_error_) {
        why = std::exchange(watch_error_, nullptr);
    } else {
        try {
            throw std::runtime_error(std::string("http::session: libcurl: ") + curl_multi_strerror(code));
        } catch (...) { why = std::current_exception(); }
    }
    while (curl_transfer* t = running.front()) t->end(why);
}

void curl_multi::collect() noexcept {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        const CURLcode code = message->data.result;
        ++pieces;
        curl_handle* handle = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &handle);
        handle->transfer->end_with(code);
    }
}

}  // namespace aio::inline v0::detail
