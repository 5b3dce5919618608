// nghttp2's session of a connection: how it is made, and the functions that it calls. No exception may pass through
// nghttp2: guarded() keeps it in the connection, which ends with it.

#include "http/server/http2_connection.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <utility>

namespace aio::inline v0::detail {

namespace {

constexpr std::int32_t window_of_stream = 256 * 1024;  // what a client may send before the handler reads it
constexpr std::int32_t window_of_connection = 1024 * 1024;
constexpr int most_continuations = 16;

std::string_view view(const std::uint8_t* bytes, std::size_t size) noexcept {
    return {reinterpret_cast<const char*>(bytes), size};
}

constexpr std::size_t frame_head = 9;
std::size_t frame_size(const nghttp2_frame_hd& head) noexcept { return frame_head + head.length; }
bool ends_stream(const nghttp2_frame_hd& head) noexcept { return (head.flags & NGHTTP2_FLAG_END_STREAM) != 0; }

}  // namespace

/// The functions that nghttp2 calls.
struct http2_callbacks {
    static http2_connection& connection(void* user_data) noexcept { return *static_cast<http2_connection*>(user_data); }
    static http2_stream* stream(nghttp2_session* session, std::int32_t id) noexcept {
        return static_cast<http2_stream*>(nghttp2_session_get_stream_user_data(session, id));
    }
    /// Runs fn(connection), which gives 0 or an error of nghttp2's.
    template<class F>
    static int guarded(void* user_data, F&& fn) noexcept {
        http2_connection& c = connection(user_data);
        try {
            return fn(c);
        } catch (...) { return c.caught(); }
    }

    static int on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* head, void* user_data) noexcept;
    static int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user_data) noexcept;
    static int on_header(nghttp2_session* session, const nghttp2_frame* frame, const std::uint8_t* name,
        std::size_t name_size, const std::uint8_t* value, std::size_t value_size, std::uint8_t,
        void* user_data) noexcept;
    static int on_invalid_header(nghttp2_session*, const nghttp2_frame*, const std::uint8_t*, std::size_t,
        const std::uint8_t*, std::size_t, std::uint8_t, void*) noexcept {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // the request is malformed; without this the field is ignored
    }
    static int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) noexcept;
    static void take_headers(http2_stream& s, const nghttp2_frame& frame);
    static void take_data(http2_stream& s, const nghttp2_frame& frame);
    static void take_settings(http2_connection& c, const nghttp2_frame& frame) noexcept;
    static void take_ping(http2_connection& c, const nghttp2_frame& frame) noexcept;
    static int on_data(nghttp2_session* session, std::uint8_t, std::int32_t id, const std::uint8_t* data,
        std::size_t size, void* user_data) noexcept;
    static int on_close(nghttp2_session* session, std::int32_t id, std::uint32_t error, void* user_data) noexcept;
    static int on_sent(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) noexcept;
    static int send_data(nghttp2_session* session, nghttp2_frame* frame, const std::uint8_t* head, std::size_t length,
        nghttp2_data_source* source, void* user_data) noexcept;
};

int http2_callbacks::on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* head, void* user_data) noexcept {
    http2_connection& c = connection(user_data);
    std::int64_t cost = 0;
    switch (head->type) {
        case NGHTTP2_HEADERS:
            c.continuations_ = 0;
            c.nuisance_.give(4);
            c.head_until_ = c.after(c.server_->options.header_timeout);
            c.due(c.head_until_);
            return 0;
        case NGHTTP2_CONTINUATION:
            if (++c.continuations_ > most_continuations) cost = http2_connection::nuisance_at_once * 2;
            break;
        case NGHTTP2_DATA: return 0;  // see on_frame: only then is the padding known
        case NGHTTP2_SETTINGS: cost = 5; break;
        case NGHTTP2_PING: cost = 2; break;
        default: cost = 1; break;
    }
    return c.tolerates(cost) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

int http2_callbacks::on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user_data) noexcept {
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    return guarded(user_data, [frame](http2_connection& c) {
        c.add_stream(frame->hd.stream_id);
        return 0;
    });
}

int http2_callbacks::on_header(nghttp2_session* session, const nghttp2_frame* frame, const std::uint8_t* name,
    std::size_t name_size, const std::uint8_t* value, std::size_t value_size, std::uint8_t, void* user_data) noexcept {
    http2_stream* const s = stream(session, frame->hd.stream_id);
    if (!s) return 0;
    return guarded(user_data, [&](http2_connection& c) -> int {
        if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
            s->take_trailer(view(name, name_size), view(value, value_size));
            return 0;
        }
        if (s->head.add(view(name, name_size), view(value, value_size))) return 0;
        c.terminate(NGHTTP2_ENHANCE_YOUR_CALM);
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    });
}

int http2_callbacks::on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) noexcept {
    return guarded(user_data, [&](http2_connection& c) -> int {
        switch (frame->hd.type) {
            case NGHTTP2_HEADERS:
                c.head_until_.reset();
                if (http2_stream* const s = stream(session, frame->hd.stream_id)) take_headers(*s, *frame);
                return 0;
            case NGHTTP2_DATA:
                if (!c.tolerates_data(*frame)) return NGHTTP2_ERR_CALLBACK_FAILURE;
                if (http2_stream* const s = stream(session, frame->hd.stream_id)) take_data(*s, *frame);
                return 0;
            case NGHTTP2_SETTINGS: take_settings(c, *frame); return 0;
            case NGHTTP2_PING: take_ping(c, *frame); return 0;
            default: return 0;
        }
    });
}

void http2_callbacks::take_headers(http2_stream& s, const nghttp2_frame& frame) {
    s.bytes_received += frame_size(frame.hd);
    if (frame.headers.cat == NGHTTP2_HCAT_REQUEST) {
        s.take_head(!ends_stream(frame.hd));
    } else if (ends_stream(frame.hd)) {
        s.take_end();
    }
}

void http2_callbacks::take_data(http2_stream& s, const nghttp2_frame& frame) {
    s.bytes_received += frame_size(frame.hd);
    if (ends_stream(frame.hd)) s.take_end();
}

void http2_callbacks::take_settings(http2_connection& c, const nghttp2_frame& frame) noexcept {
    if ((frame.hd.flags & NGHTTP2_FLAG_ACK) == 0 && !std::exchange(c.greeted_, true)) c.head_until_.reset();
}

// The answer to the PING of drain().
void http2_callbacks::take_ping(http2_connection& c, const nghttp2_frame& frame) noexcept {
    if ((frame.hd.flags & NGHTTP2_FLAG_ACK) == 0 || !c.goaway_at_) return;
    if (std::memcmp(frame.ping.opaque_data, c.drain_ping, sizeof c.drain_ping) == 0) c.final_goaway();
}

int http2_callbacks::on_data(nghttp2_session* session, std::uint8_t, std::int32_t id, const std::uint8_t* data,
    std::size_t size, void* user_data) noexcept {
    return guarded(user_data, [&](http2_connection& c) {
        // A stream's own window is opened when its bytes are read; the connection's is opened at once, so that a
        // handler that does not read holds up nobody else.
        c.check(nghttp2_session_consume_connection(session, size));
        if (http2_stream* const s = stream(session, id)) s->take_body(view(data, size));
        return 0;
    });
}

int http2_callbacks::on_close(nghttp2_session* session, std::int32_t id, std::uint32_t, void* user_data) noexcept {
    if (http2_stream* const s = stream(session, id)) connection(user_data).remove_stream(*s);
    return 0;
}

int http2_callbacks::on_sent(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) noexcept {
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    http2_stream* const s = stream(session, frame->hd.stream_id);
    if (!s) return 0;
    s->bytes_sent += frame_size(frame->hd);
    if (!ends_stream(frame->hd)) return 0;
    s->response_done = true;
    if (!s->request_done) connection(user_data).reset_soon(*s);
    return 0;
}

int http2_callbacks::send_data(nghttp2_session*, nghttp2_frame*, const std::uint8_t* head, std::size_t length,
    nghttp2_data_source* source, void* user_data) noexcept {
    http2_stream& s = *static_cast<http2_stream*>(source->ptr);
    return guarded(user_data, [&](http2_connection& c) -> int {
        c.out_.append(view(head, frame_head)).append(s.to_send(length));
        s.sent(length);
        if (length >= 512) c.nuisance_.give(4);
        return c.out_.size() < http2_connection::most_collected ? 0 : NGHTTP2_ERR_PAUSE;
    });
}

namespace {

// What all sessions have in common.
struct session_setup {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_option* options = nullptr;
    session_setup() {
        if (nghttp2_session_callbacks_new(&callbacks) != 0) throw std::bad_alloc();
        if (nghttp2_option_new(&options) != 0) {
            nghttp2_session_callbacks_del(callbacks);
            throw std::bad_alloc();
        }
        using all = http2_callbacks;
        nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, all::on_begin_frame);
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, all::on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, all::on_header);
        nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, all::on_invalid_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, all::on_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, all::on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, all::on_close);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, all::on_sent);
        nghttp2_session_callbacks_set_send_data_callback(callbacks, all::send_data);
        nghttp2_option_set_no_auto_window_update(options, 1);
        nghttp2_option_set_no_closed_streams(options, 1);
        nghttp2_option_set_max_send_header_block_length(options, most_http2_fields);
    }
    ~session_setup() {
        nghttp2_option_del(options);
        nghttp2_session_callbacks_del(callbacks);
    }
    session_setup(const session_setup&) = delete;
    session_setup& operator=(const session_setup&) = delete;
};

}  // namespace

void http2_connection::make_session() {
    static const session_setup setup;
    nghttp2_mem functions = memory_.functions();
    nghttp2_session* made = nullptr;
    if (nghttp2_session_server_new3(&made, setup.callbacks, this, setup.options, &functions) != 0)
        throw std::bad_alloc();
    session_ = made;
    const std::uint32_t most_header =
        static_cast<std::uint32_t>(std::min<std::size_t>(server_->options.max_header_size, UINT32_MAX));
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, server_->options.max_concurrent_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window_of_stream},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, most_header},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    check(nghttp2_submit_settings(made, NGHTTP2_FLAG_NONE, settings, std::size(settings)));
    check(nghttp2_session_set_local_window_size(made, NGHTTP2_FLAG_NONE, 0, window_of_connection));
}

}  // namespace aio::inline v0::detail
