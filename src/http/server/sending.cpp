// Sends responses: text with its head in one write where it is small, the pieces of a generator one by one, parts of
// files without copies where the kernel can do that.
//
// The generator of a response is asked for the next piece when the client has taken the one before, so a response of
// any length needs the memory of one piece. While a generator waits for something, nobody reads from the connection:
// client_watch does, so that a generator which waits for ever does not outlive its client.

#include "http/server/engine.hpp"

#include "http/access.hpp"

#include <aio/errors.hpp>
#include <aio/event_loop.hpp>
#include <aio/sleep.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <stdexcept>

namespace aio::inline v0::detail {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t most_chunk = 128 * 1024;
constexpr std::size_t most_held = 16 * 1024;
constexpr auto after_end_of_sending = 1s;  // a client that sends no more, and takes nothing for so long, has gone

}  // namespace

void tell_of_error(http_server_state& server, const std::string& what, std::exception_ptr error) {
    ++server.counts.handler_errors;
    get_running_loop().call_exception_handler({what, std::move(error), current_task()});
}

coro<bool> write_all(http_connection& c, std::string_view text) {
    const std::string held = c.take_held();  // it was counted when it was held
    bool taken = false;
    ++c.writing;
    try {
        if (!held.empty()) co_await wait_for(c.client.write(std::string_view(held)), c.server.options.write_timeout);
        while (!text.empty()) {
            const std::string_view piece = text.substr(0, write_size);
            co_await wait_for(c.client.write(piece), c.server.options.write_timeout);
            text.remove_prefix(piece.size());
            c.sent(piece.size());
        }
        taken = true;
    } catch (const timeout_error&) { c.client.abort(); } catch (const std::system_error&) {  // it has gone
    }
    --c.writing;
    if (!taken) ++c.server.counts.lost_clients;
    co_return taken;
}

coro<> write_held(std::shared_ptr<http_connection*> self) {
    http_connection* c = *self;
    if (!c || c->held.empty()) co_return;
    const std::string held = c->take_held();
    bool taken = false, in_time = true;
    ++c->writing;
    try {
        co_await wait_for(c->client.write(std::string_view(held)), c->server.options.write_timeout);
        taken = true;
    } catch (const timeout_error&) { in_time = false; } catch (const std::system_error&) {  // it has gone
    }
    c = *self;
    if (!c) co_return;
    --c->writing;
    if (!in_time) c->client.abort();
    if (!taken) ++c->server.counts.lost_clients;
}

bool may_hold(const http_connection& c, const http::response& r, const response_form& form) noexcept {
    return !c.unread().empty() && form.keep_alive && form.framing == body_framing::text && !c.body &&
        r.text().size() <= most_held && c.held.size() <= most_held;
}

void hold_text(http_connection& c, const http::response& r, const response_form& form) {
    const std::size_t before = c.held.size();
    append_response_head(c.held, r, form);
    if (!form.head_only && http_has_body(r.status())) c.held += r.text();
    c.head_sent = true;
    c.sent(c.held.size() - before);
    c.flush_later();
}

// Most responses are small: head and body are one text then, and one write, which is write_all()'s without a frame of
// its own.
coro<bool> send_text(http_connection& c, const http::response& r, response_form form) {
    std::string_view body;
    if (!form.head_only && http_has_body(r.status())) body = r.text();
    const bool small = body.size() <= write_size / 4;
    std::string head;
    head.reserve(256 + (small ? body.size() : 0));
    append_response_head(head, r, form);
    c.head_sent = true;
    if (!small || head.size() > write_size / 2) {
        const bool sent = co_await write_all(c, head);
        if (!sent || body.empty()) co_return sent;
        const bool whole = co_await write_all(c, body);
        co_return whole;
    }
    head += body;
    const std::size_t own = head.size();
    if (!c.held.empty()) head.insert(0, c.take_held());
    bool taken = false;
    try {
        co_await wait_for(c.client.write(std::string_view(head)), c.server.options.write_timeout);
        taken = true;
    } catch (const timeout_error&) { c.client.abort(); } catch (const std::system_error&) {  // it has gone
    }
    if (taken) {
        c.sent(own);
    } else {
        ++c.server.counts.lost_clients;
    }
    co_return taken;
}

namespace {

async_generator<std::string> one_piece(std::string text) {
    if (!text.empty()) co_yield std::move(text);
}

}  // namespace

void make_pieces(http::response& r) {
    auto special = std::make_shared<http_special_body>();
    special->pieces.emplace(one_piece(std::exchange(http_access::body(r), {})));
    http_access::special(r) = std::move(special);
}

void choose_framing(const http::response& r, const http_special_body& body, response_form& form) {
    if (body.upgrade) {
        if (form.http_1_0) throw std::logic_error("a request in HTTP/1.0 cannot upgrade its connection");
        form.framing = body_framing::upgrade;
        return;
    }
    if (!body.pieces && !body.source) throw std::logic_error("the body of this response has been sent already");
    if (!http_has_body(r.status())) return;
    form.length = body.source ? body.count : http_content_length(r);
    const bool chunked = body.pieces && http_may_have_trailers(r) && !form.http_1_0 && !form.head_only;
    if (form.length && !chunked) {
        form.framing = body_framing::counted;
    } else if (form.head_only) {
        form.framing = body_framing::until_close;  // nothing is said of the length
    } else if (form.http_1_0) {
        form.framing = body_framing::until_close;
        form.keep_alive = false;
    } else {
        form.framing = body_framing::chunked;
    }
}

// ---- the client goes away

namespace {

coro<> watch_client(http_connection& c, time_point::duration after_end) {
    read_outcome what = read_outcome::bytes;
    while (what == read_outcome::bytes && c.unread().size() < read_size) what = co_await read_more(c, std::nullopt);
    if (what == read_outcome::bytes) co_return;  // it has sent much in advance, which has to wait
    if (what == read_outcome::end && after_end > 0s) {
        std::uint64_t before = c.bytes_sent;
        do {
            before = c.bytes_sent;
            co_await sleep(after_end);
        } while (c.writing || c.bytes_sent != before);
    }
    c.gone = true;
    c.task.cancel("the client has gone");
}

}  // namespace

client_watch::client_watch(http_connection& c, time_point::duration after_end)
    : connection_(c), watcher_(create_task(watch_client(c, after_end))) {}

bool client_watch::stop() noexcept {
    watcher_.cancel();
    if (!std::exchange(connection_.gone, false)) return false;
    return connection_.task.uncancel() == 0;
}

// ---- special bodies

namespace {

// Writes a piece. Large ones are cut, so that the memory for a chunk with its frame is bounded.
coro<bool> write_piece(http_connection& c, std::string_view piece, body_framing framing, std::string& chunk) {
    if (framing != body_framing::chunked) {
        const bool sent = co_await write_all(c, piece);
        co_return sent;
    }
    while (!piece.empty()) {
        const std::string_view part = piece.substr(0, most_chunk);
        piece.remove_prefix(part.size());
        char size[20];
        chunk.assign(size, std::to_chars(size, size + sizeof size, part.size(), 16).ptr);
        chunk.append("\r\n").append(part).append("\r\n");
        const bool sent = co_await write_all(c, chunk);
        if (!sent) co_return false;
    }
    co_return true;
}

// Sends all pieces. False if the client does not take them. Throws what the generator throws, and std::length_error if
// they are more or less than the response has promised.
coro<bool> send_all(
    http_connection& c, http::response& r, async_generator<std::string>& pieces, const response_form& form) {
    std::string chunk;
    std::uint64_t sent = 0;
    const std::optional<std::uint64_t> length = form.length;
    while (auto piece = co_await pieces.next()) {
        if (piece->empty()) continue;
        sent += piece->size();
        if (length && sent > *length)
            throw std::length_error("the body is longer than its Content-Length, " + std::to_string(*length));
        const bool taken = co_await write_piece(c, *piece, form.framing, chunk);
        if (!taken) co_return false;
    }
    if (length && sent < *length) {
        throw std::length_error(
            "the body has " + std::to_string(sent) + " bytes, and its Content-Length is " + std::to_string(*length));
    }
    if (form.framing != body_framing::chunked) co_return true;
    http_take_trailers(r);
    chunk.clear();
    append_last_chunk(chunk, r);
    const bool taken = co_await write_all(c, chunk);
    co_return taken;
}

coro<bool> send_pieces(http_connection& c, http::response& r, async_generator<std::string> pieces,
    const response_form& form, const std::string& what) {
    bool sent = false, client_left = false;
    std::exception_ptr error;
    {
        std::optional<client_watch> watch;
        if (c.parser.complete()) watch.emplace(c, after_end_of_sending);
        try {
            sent = co_await send_all(c, r, pieces, form);
        } catch (...) { error = std::current_exception(); }
        client_left = watch && watch->stop();
    }
    try {
        co_await pieces.aclose();
    } catch (...) {
        if (!error) error = std::current_exception();
    }
    if (client_left) {
        ++c.server.counts.lost_clients;
        if (!error || is_cancelled(error)) co_return false;
    }
    if (!error) co_return sent;
    if (is_cancelled(error)) std::rethrow_exception(error);
    // Without chunks and a length only a reset tells that the body is not whole.
    if (form.framing == body_framing::until_close) c.client.abort();
    const bool of_the_client = c.body && c.parser.bad_status() != 0;  // the response was made of the request's body
    if (!of_the_client) tell_of_error(c, "the response to " + what + " was cut", error);
    co_return false;
}

// True for the error of a client that has gone; false for one of a file.
bool is_of_connection(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const tls_error&) { return true; } catch (const std::system_error& e) {
        for (const std::errc code : {std::errc::broken_pipe, std::errc::connection_reset, std::errc::connection_aborted,
                 std::errc::not_connected, std::errc::timed_out}) {
            if (e.code() == code) return true;
        }
        return false;
    } catch (...) { return false; }
}

coro<bool> send_part_of_file(http_connection& c, const http_special_body& body, const std::string& what) {
    const file& source = *body.source;
    std::uint64_t sent = 0;
    std::exception_ptr error;
    ++c.writing;
    bool in_time = true;
    try {
        while (sent < body.count) {
            const std::uint64_t part = std::min<std::uint64_t>(body.count - sent, write_size);
            const std::uint64_t n =
                co_await wait_for(c.client.send_file(source, static_cast<std::int64_t>(body.offset + sent), part),
                    c.server.options.write_timeout);
            sent += n;
            c.sent(n);
            if (n < part) throw std::length_error(source.path() + " has become shorter");
        }
    } catch (const timeout_error&) { in_time = false; } catch (const cancelled_error&) {
        throw;
    } catch (...) { error = std::current_exception(); }
    --c.writing;
    if (!in_time) c.client.abort();
    if (!in_time || error) ++c.server.counts.lost_clients;
    if (error && !is_of_connection(error)) tell_of_error(c, "the response to " + what + " was cut", error);
    co_return in_time && !error;
}

}  // namespace

coro<bool> send_special(http_connection& c, http::response& r, response_form form, std::string what) {
    http_special_body& body = *http_access::special(r);
    std::string head;
    append_response_head(head, r, form);
    c.head_sent = true;
    const bool sent = co_await write_all(c, head);
    if (!sent || form.head_only || !http_has_body(r.status())) co_return sent;
    if (body.source) {
        const bool whole = co_await send_part_of_file(c, body, what);
        co_return whole;
    }
    async_generator<std::string> pieces = std::move(*body.pieces);
    body.pieces.reset();
    const bool whole = co_await send_pieces(c, r, std::move(pieces), form, what);
    co_return whole;
}

}  // namespace aio::inline v0::detail
