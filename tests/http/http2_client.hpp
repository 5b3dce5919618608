#pragma once
// A client of HTTP/2 on a stream of ours, through nghttp2's own client, for well-behaved requests; and frames made by
// hand, for others.

#include "aio_test.hpp"

#include "http/server/http2.hpp"

#include <aio/http.hpp>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nghttp2/nghttp2.h>

namespace aio_test {

namespace http = aio::http;

/// A server for serve_http2(), as a test wants it.
class http2_test_host {
public:
    using function = std::function<aio::coro<http::response>(http::request)>;
    explicit http2_test_host(function h) : handler(std::move(h)) {}

    /// On the heap, because it is aligned to a cache line, which clang does not do in a coroutine frame.
    std::unique_ptr<aio::detail::http_server_state> state() const {
        settings.max_concurrent_streams = streams;
        aio::detail::http_handler made = aio::detail::make_http_handler(handler);
        if (streamed) made.unbuffered = [](const http::request&) { return true; };
        return std::make_unique<aio::detail::http_server_state>(
            std::move(made), aio::detail::http_server_settings(settings));
    }

    function handler;
    mutable http::server_options settings;
    std::uint32_t streams = 100;
    bool streamed = false;
};

/// An answer, or what has come of it.
struct http2_answer {
    int status = 0;
    std::vector<int> interim;
    http::headers headers;
    http::headers trailers;
    std::string body;
    bool ended = false;      // with END_STREAM
    bool closed = false;     // by whichever side
    std::uint32_t code = 0;  // of the reset
};

class http2_client {
public:
    using fields = std::vector<std::pair<std::string, std::string>>;
    struct settings {
        std::uint32_t window = 65535;
        bool by_hand = false;  // windows are opened by consume()
    };

    explicit http2_client(aio::stream s) : http2_client(std::move(s), settings()) {}
    http2_client(aio::stream s, settings how) : stream_(std::move(s)), how_(how) {
        nghttp2_session_callbacks* callbacks = nullptr;
        AIO_REQUIRE(nghttp2_session_callbacks_new(&callbacks) == 0);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
        nghttp2_option* options = nullptr;
        nghttp2_option_new(&options);
        nghttp2_option_set_no_auto_window_update(options, how.by_hand ? 1 : 0);
        nghttp2_session_client_new2(&session_, callbacks, this, options);
        nghttp2_option_del(options);
        nghttp2_session_callbacks_del(callbacks);
        const nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, how.window};
        nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &entry, 1);
    }
    http2_client(const http2_client&) = delete;
    http2_client& operator=(const http2_client&) = delete;
    ~http2_client() { nghttp2_session_del(session_); }

    /// Submits a request; its body is given by body(), unless it has none.
    std::int32_t request(
        const std::string& method, const std::string& path, const fields& more = {}, const char* body = nullptr) {
        fields all = {{":method", method}, {":scheme", "http"}, {":path", path}, {":authority", "localhost"}};
        all.insert(all.end(), more.begin(), more.end());
        return request(all, body);
    }
    std::int32_t request(const fields& all, const char* body = nullptr) {
        std::vector<nghttp2_nv> nva;
        for (const auto& [name, value] : all) {
            nva.push_back({bytes(name), bytes(value), name.size(), value.size(), std::uint8_t(NGHTTP2_NV_FLAG_NONE)});
        }
        nghttp2_data_provider provider{};
        provider.read_callback = read_body;
        const std::int32_t id =
            nghttp2_submit_request(session_, nullptr, nva.data(), nva.size(), body ? &provider : nullptr, nullptr);
        AIO_REQUIRE(id > 0);
        answers[id];
        if (body) bodies_[id] = {std::string(body), true};
        return id;
    }
    /// More of a request's body.
    void more_body(std::int32_t id, const std::string& data, bool last) {
        bodies_[id].data += data;
        bodies_[id].last = last;
        nghttp2_session_resume_data(session_, id);
    }
    /// The body goes on with more_body().
    void open_body(std::int32_t id) { bodies_[id].last = false; }
    void reset(std::int32_t id, std::uint32_t code = NGHTTP2_CANCEL) {
        nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, code);
    }
    void consume(std::int32_t id, std::size_t n) { nghttp2_session_consume(session_, id, n); }
    nghttp2_session* session() { return session_; }
    aio::stream& stream() { return stream_; }

    aio::coro<> send() {
        for (;;) {
            const std::uint8_t* data = nullptr;
            const ssize_t n = nghttp2_session_mem_send(session_, &data);
            AIO_REQUIRE(n >= 0);
            if (n == 0) co_return;
            co_await stream_.write(std::string(reinterpret_cast<const char*>(data), static_cast<std::size_t>(n)));
        }
    }
    /// Reads once. False at the end.
    aio::coro<bool> receive() {
        const std::string data = co_await stream_.read(65536);
        if (data.empty()) {
            ended = true;
            co_return false;
        }
        const ssize_t n =
            nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(data.data()), data.size());
        if (n < 0) error = static_cast<int>(n);
        co_return n >= 0;
    }
    /// Sends and receives until done() or the end of the connection.
    template<class Done>
    aio::coro<> until(Done done) {
        for (;;) {
            co_await send();
            if (done()) co_return;
            const bool more = co_await receive();
            if (!more) co_return;
        }
    }
    /// Gives the answer to a request once its stream is closed, or the connection.
    aio::coro<http2_answer> answer(std::int32_t id) {
        co_await until([&] { return answers[id].closed; });
        co_await send();
        co_return answers[id];
    }
    aio::coro<http2_answer> get(std::string path) { return answer(request("GET", path)); }

    std::map<std::int32_t, http2_answer> answers;
    std::vector<std::pair<std::int32_t, std::uint32_t>> goaways;  // last stream and code
    int pings = 0;                                                // acknowledged
    int error = 0;
    bool ended = false;

private:
    struct source {
        std::string data;
        bool last = true;
    };
    static std::uint8_t* bytes(const std::string& text) {
        return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
    }
    static http2_client& self(void* p) { return *static_cast<http2_client*>(p); }
    static ssize_t read_body(nghttp2_session*, std::int32_t id, std::uint8_t* buffer, std::size_t most,
        std::uint32_t* flags, nghttp2_data_source*, void* p) {
        source& body = self(p).bodies_[id];
        if (body.data.empty() && !body.last) return NGHTTP2_ERR_DEFERRED;
        const std::size_t n = std::min(most, body.data.size());
        std::memcpy(buffer, body.data.data(), n);
        body.data.erase(0, n);
        if (body.data.empty() && body.last) *flags |= NGHTTP2_DATA_FLAG_EOF;
        return static_cast<ssize_t>(n);
    }
    static int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
        const std::uint8_t* value, std::size_t value_size, std::uint8_t, void* p) {
        http2_answer& a = self(p).answers[frame->hd.stream_id];
        const std::string n(reinterpret_cast<const char*>(name), name_size);
        const std::string v(reinterpret_cast<const char*>(value), value_size);
        if (n == ":status") {
            if (a.status >= 100 && a.status < 200) a.interim.push_back(a.status);
            a.status = std::stoi(v);
        } else if (frame->headers.cat == NGHTTP2_HCAT_HEADERS && a.status >= 200 && !a.headers.empty()) {
            a.trailers.add(n, v);
        } else {
            a.headers.add(n, v);
        }
        return 0;
    }
    static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* p) {
        http2_client& c = self(p);
        if (frame->hd.type == NGHTTP2_GOAWAY)
            c.goaways.emplace_back(frame->goaway.last_stream_id, frame->goaway.error_code);
        if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK)) ++c.pings;
        if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
            (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
            c.answers[frame->hd.stream_id].ended = true;
        return 0;
    }
    static int on_data(
        nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data, std::size_t n, void* p) {
        self(p).answers[id].body.append(reinterpret_cast<const char*>(data), n);
        return 0;
    }
    static int on_close(nghttp2_session*, std::int32_t id, std::uint32_t code, void* p) {
        self(p).answers[id].closed = true;
        self(p).answers[id].code = code;
        return 0;
    }

    aio::stream stream_;
    settings how_;
    nghttp2_session* session_ = nullptr;
    std::map<std::int32_t, source> bodies_;
};

/// A frame, made by hand.
inline std::string http2_frame(std::uint8_t type, std::uint8_t flags, std::uint32_t id, const std::string& payload) {
    std::string f;
    f += static_cast<char>(payload.size() >> 16);
    f += static_cast<char>(payload.size() >> 8);
    f += static_cast<char>(payload.size());
    f += static_cast<char>(type);
    f += static_cast<char>(flags);
    for (int shift = 24; shift >= 0; shift -= 8) f += static_cast<char>(id >> shift);
    return f + payload;
}
/// A header block without compression: literal fields, never indexed, short names and values.
inline std::string http2_block(const http2_client::fields& all) {
    std::string block;
    for (const auto& [name, value] : all) {
        block += '\x10';
        block += static_cast<char>(name.size());
        block += name;
        if (value.size() < 127) {
            block += static_cast<char>(value.size());
        } else {
            block += '\x7f';
            std::size_t rest = value.size() - 127;
            for (; rest >= 128; rest /= 128) block += static_cast<char>(rest % 128 + 128);
            block += static_cast<char>(rest);
        }
        block += value;
    }
    return block;
}
/// What a client sends first.
inline std::string http2_hello() { return std::string(aio::detail::http2_preface) + http2_frame(4, 0, 0, ""); }
inline http2_client::fields http2_get(const std::string& path = "/") {
    return {{":method", "GET"}, {":scheme", "http"}, {":path", path}, {":authority", "localhost"}};
}

/// Serves one end of a pair, and runs body with the other one. Gives what serve_http2() has thrown, if anything.
template<class Body>
aio::coro<std::exception_ptr> with_http2(
    http2_test_host& host, Body body, aio::testing::stream_pair_options pair = {}) {
    auto [here, there] = aio::testing::stream_pair(pair);
    const auto owned = host.state();
    aio::detail::http_server_state& server = *owned;
    std::exception_ptr error, of_body;
    aio::task<> serving = aio::create_task(aio::detail::serve_http2(server, std::move(there), {}));
    try {
        co_await body(std::move(here), server);
    } catch (...) { of_body = std::current_exception(); }
    try {
        co_await serving;
    } catch (...) { error = std::current_exception(); }
    if (of_body) std::rethrow_exception(of_body);
    EXPECT_EQ(server.counts.active, 0u);
    co_return error;
}

}  // namespace aio_test
