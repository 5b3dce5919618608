// Requests under way: what becomes of the pieces of an answer, what follows on its end, and what a request that waits
// is told. The callbacks of easy.cpp bring the pieces, and curl_multi the end.

#include "http/client/transfer.hpp"

#include "http/access.hpp"

#include <aio/errors.hpp>
#include <aio/event_loop.hpp>

#include <algorithm>
#include <cstdio>
#include <new>
#include <stdexcept>

namespace aio::inline v0::detail {

namespace {

constexpr std::size_t most_header_bytes = 256 * 1024;
constexpr std::size_t most_ignored_bytes = 64 * 1024;  // of the body of a redirect
constexpr std::size_t most_unread_bytes = 256 * 1024;  // of a streamed body
constexpr std::size_t decoded_at_once = 64 * 1024;
constexpr std::size_t most_reserved_bytes = 64 * 1024;

std::string_view without_line_end(std::string_view line) noexcept {
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

bool is_redirect(int status) noexcept {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

}  // namespace

void curl_transfer_release::operator()(curl_transfer* t) const noexcept { delete t; }

curl_transfer::~curl_transfer() {
    if (upload) upload->detach();
    if (multi) multi->remove(*this);
    curl_slist_free_all(fields);
}

bool curl_transfer::begin() noexcept {
    if (!ended && !std::exchange(begun, true)) {
        try {
            multi->add(*this);
        } catch (...) {
            error = std::current_exception();
            ended = true;
        }
    }
    return !ended;
}

// ---- time limits ----

namespace {

// "GET http://host/: timed out after 5s while connecting"
std::exception_ptr too_late(const curl_transfer& t, delay limit, const char* phase) noexcept {
    try {
        char after[48];
        std::snprintf(
            after, sizeof after, ": timed out after %gs while ", std::chrono::duration<double>(limit.value()).count());
        return std::make_exception_ptr(timeout_error(t.what() + after + phase));
    } catch (...) { return std::current_exception(); }
}

}  // namespace

void curl_transfer::arm_deadline() {
    if (!timeout.has_value()) return;
    deadline.fire = [](timer_node& node) noexcept {
        curl_transfer& t = *static_cast<timer&>(node).owner;
        t.end(too_late(t, t.timeout, t.phase()));
    };
    multi->loop->arm(deadline, timeout.from(multi->loop->now()));
}

void curl_transfer::arm_phase(timed phase) {
    multi->loop->disarm(phase_deadline);
    timed_phase = phase;
    const delay limit = limit_of(phase);
    if (!limit.has_value()) return;
    last_progress = multi->loop->now();
    sent_bytes = bytes_sent();
    phase_deadline.fire = [](timer_node& node) noexcept {
        curl_transfer& t = *static_cast<timer&>(node).owner;
        try {
            t.phase_is_over();
        } catch (...) { t.end(std::current_exception()); }
    };
    multi->loop->arm(phase_deadline, limit.from(last_progress));
}

delay curl_transfer::limit_of(timed phase) const noexcept {
    switch (phase) {
        case timed::nothing: break;
        case timed::tls: return limits.tls;
        case timed::first_byte: return limits.first_byte;
        case timed::read: return limits.read;
    }
    return std::nullopt;
}

std::int64_t curl_transfer::bytes_sent() const noexcept {
    curl_off_t sent = 0;
    if (handle) curl_easy_getinfo(handle->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    return sent;
}

// The timer of a phase fires late rather than be set anew with each piece: if there was progress, it goes on.
void curl_transfer::phase_is_over() {
    const delay limit = limit_of(timed_phase);
    const bool consumer_is_slow = timed_phase == timed::read && paused;
    const bool generator_is_slow = timed_phase == timed::first_byte && upload && upload->starved;
    if (consumer_is_slow || generator_is_slow || bytes_sent() != sent_bytes) return arm_phase(timed_phase);
    const time_point due = limit.from(last_progress);
    if (due > phase_deadline.deadline) return multi->loop->arm(phase_deadline, due);
    was_lost = true;
    end(too_late(*this, limit, phase()));
}

// ---- who waits ----

void curl_transfer::end(std::exception_ptr why) noexcept {
    if (!error) error = std::move(why);
    ended = true;
    if (upload) upload->detach();
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
    if (handle && text.empty() && std::exchange(paused, false)) update_pause();
    return piece;
}

void curl_transfer::update_pause() noexcept {
    if (!handle) return;
    const int mask = (paused ? CURLPAUSE_RECV : 0) | (upload && upload->starved ? CURLPAUSE_SEND : 0);
    const CURLcode code = curl_easy_pause(handle->easy, mask);
    if (code != CURLE_OK) end_with(code);
}

http::response curl_transfer::take_head() {
    http::response r;
    http_access::set_status(r, status);
    http_access::set_version(r, answered_with);
    r.headers() = std::move(answer);
    http_access::set_url(r, target->shown);
    return r;
}

// ---- the header ----

// Takes a line of the header of an answer, or of its trailers. An answer may come before the real one: 100 Continue.
void curl_transfer::take_header_line(std::string_view line) {
    if (header_bytes == 0 && limits.any()) arm_phase(timed::read);
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
    const bool whole = line.size() == space + 4 || (line.size() > space + 4 && line[space + 4] == ' ');
    int number = 0;
    for (const char c : digits) number = c >= '0' && c <= '9' ? number * 10 + (c - '0') : 10'000;
    if (!line.starts_with("HTTP/") || digits.size() != 3 || !whole || number < 100 || number > 599) {
        throw http::error(what() + ": the answer begins with no status from 100 to 599");
    }
    status = number;
    answered_with = line.starts_with("HTTP/2") ? http::version::v2
        : line.starts_with("HTTP/1.0")         ? http::version::v1_0
                                               : http::version::v1_1;
    if (answered_with == http::version::v2 && multi) multi->note_multiplexing();  // a test may have no multi
    answer = {};
    http_access::reserve(answer, 12);
    at = section::header;
}

// Gives the length that the header says. Two sides that read these fields differently do not agree on where the answer
// ends.
std::optional<std::uint64_t> curl_transfer::checked_length() const {
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
    if (length.empty()) return std::nullopt;
    return std::stoull(length);
}

void curl_transfer::end_of_header() {
    if (status == 101) throw http::error(what() + ": the server changes the protocol (101), which nobody asked for");
    if (status < 200) {
        at = section::status_line;
        return;
    }
    at = section::rest;
    const std::optional<std::uint64_t> length = checked_length();
    answer_left = method == "HEAD" || status == 204 || status == 304 ? 0 : length;
    if (upload && answer_left == 0u) multi->note_answered();
    redirecting = follow_redirects && is_redirect(status) && answer.contains("Location");
    if (redirecting) return;
    if (method != "HEAD" && status != 304) {
        try {
            if (decompress) decoder = http_decoder::of(answer, asks_for_encodings);
        } catch (const http::error& e) { throw http::error(what() + ": " + e.what()); }
        if (!decoder && length && max_body_size != 0 && *length > max_body_size) refuse_length();
        if (!decoder && length && !streaming && *length <= most_reserved_bytes)
            text.reserve(static_cast<std::size_t>(*length));
    }
    if (std::exchange(awaits_head, false)) notify();
}

// ---- the body ----

void curl_transfer::refuse_length() const {
    throw http::error(what() + ": the body of the answer is longer than " + std::to_string(max_body_size) + " bytes");
}

void curl_transfer::take_body(std::string_view data) {
    if (limits.read.has_value()) last_progress = multi->loop->now();
    if (answer_left) {
        *answer_left -= std::min<std::uint64_t>(*answer_left, data.size());
        if (upload && *answer_left == 0) multi->note_answered();
    }
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

// ---- what follows ----

// The next message has no body.
void curl_transfer::forget_body() {
    body.clear();
    if (upload) {
        upload->detach();
        upload.reset();
        multi->note_upload_ended();
    }
    for (const char* name : {"Content-Type", "Content-Encoding", "Content-Language", "Content-Location", "Expect"}) {
        given.remove(name);
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
    checked_url_ptr to = redirect_target(*target, location, before);
    if (to->origin != target->origin) {
        for (const char* name : {"Authorization", "Proxy-Authorization", "Cookie", "Host"}) given.remove(name);
    }
    // 303 ("See Other") turns all methods but HEAD into GET; 301 and 302 turn only POST into GET, as browsers do. Any
    // other request keeps its method and its body.
    const bool get = status == 303 ? method != "HEAD" : status <= 302 && method == "POST";
    if (get && method != "GET") {
        method = "GET";
        forget_body();
    } else if (upload && upload->taken) {
        throw http::error(before + ": redirected to " + to->shown + " (" + std::to_string(status) +
            "), which asks for the body once more: a body that a generator has given cannot be sent again");
    }
    if (upload) upload->starved = false;
    target = std::move(to);
    begin_message();
}

// True if a kept connection was lost before anything of the answer had come, and the request may be sent twice. libcurl
// repeats it by itself only if it had sent all of it.
bool curl_transfer::may_repeat(CURLcode code) const noexcept {
    if (code != CURLE_SEND_ERROR && code != CURLE_RECV_ERROR && code != CURLE_GOT_NOTHING && code != CURLE_HTTP2 &&
        code != CURLE_HTTP2_STREAM) {
        return false;
    }
    if (upload && upload->taken) return false;
    return !opened && !repeated && header_bytes == 0 && is_idempotent(method);
}

void curl_transfer::begin_message() noexcept {
    at = section::status_line;
    status = 0;
    answer = {};
    header_bytes = 0;
    body_bytes = 0;
    tries = 0;
    open_error = 0;
    connection = nullptr;
    ends = 0;
    opened = false;
    securing = false;
    stale = false;
    repeated = false;
    redirecting = false;
    enough = false;
    answer_left.reset();
    timed_phase = timed::nothing;
    multi->loop->disarm(phase_deadline);
    if (upload) upload->starved = false;
    handle->error_text[0] = '\0';
}

void curl_transfer::end_message(CURLcode code) {
    if (error) std::rethrow_exception(error);  // a callback has noted why it aborted the transfer
    if (stale) {                               // libcurl has closed the connection, and nothing was sent
        begin_message();
        return multi->ask_again(*this);
    }
    if (code != CURLE_OK) {
        if (!may_repeat(code)) std::rethrow_exception(failure(code));
        begin_message();
        repeated = true;
        return multi->ask_again(*this);
    }
    if (at != section::rest) {  // libcurl takes this for an answer without a body
        throw http::error(what() + ": the answer was cut short in its header");
    }
    if (redirecting) {
        prepare_redirect();
        return multi->ask_again(*this);
    }
    try {
        if (decoder && !decoder->has_more()) decoder->check_end();
    } catch (const http::error& e) { throw http::error(what() + ": " + e.what()); }
    end(nullptr);
}

// True if libcurl could not send more of the body, because the server has closed the stream without an error: its
// answer was whole. For a stream that was closed with an error libcurl has a text.
bool curl_transfer::closed_early(CURLcode code) const noexcept {
    return code == CURLE_HTTP2_STREAM && upload && at == section::rest && answer_left.value_or(0) == 0 &&
        handle->error_text[0] == '\0';
}

void curl_transfer::end_with(CURLcode code) noexcept {
    try {
        if (closed_early(code)) code = CURLE_OK;
        if (code == CURLE_WRITE_ERROR && enough) code = CURLE_OK;
        // After a 417 libcurl wants to repeat: see on_send and on_seek.
        if ((code == CURLE_ABORTED_BY_CALLBACK || code == CURLE_SEND_FAIL_REWIND) && at == section::rest)
            code = CURLE_OK;
        if (code == CURLE_OK) multi->note_idle(*this);
        end_message(code);
    } catch (...) { end(std::current_exception()); }
}

}  // namespace aio::inline v0::detail
