// http::session, and the awaiters of a request. http_exchange waits for a whole answer, and a cancel ends the request.
// http_opening waits for the head of an answer, and http_piece for one piece of a body at a time; the request goes on
// between the pieces, and ends with the streamed_response or the generator that owns it.
//
// Transfers do the work (transfer.cpp): an awaiter begins one, and leaves itself in it as its waiter.

#include "http/access.hpp"
#include "http/client/retry.hpp"
#include "http/client/transfer.hpp"

#include <aio/http/forms.hpp>
#include <aio/wait.hpp>

namespace aio::inline v0::detail {

namespace {

void describe_transfer(const curl_transfer& t, std::string& out) {
    out += t.what();
    out += ": ";
    out += t.phase();
}

template<class Operation>
void wait_in(curl_transfer& t, Operation& op) noexcept {
    t.waiter = &op;
    t.wake = [](void* self) noexcept {
        static_cast<basic_operation<Operation, true>*>(static_cast<Operation*>(self))->wake();
    };
}

// A streamed transfer is waited for: its timeout begins. False: it has ended.
bool wait_for_piece(curl_transfer& t) noexcept {
    try {
        t.arm_deadline();
        return true;
    } catch (...) {
        t.end(std::current_exception());
        return false;
    }
}

[[noreturn]] void refuse_second_reader(const curl_transfer& t) {
    throw_logic_error(t.what() + ": two tasks read the body of one answer");
}

}  // namespace

// ---- the whole of an answer ----

http_exchange::http_exchange(curl_transfer_ptr transfer) noexcept : transfer_(std::move(transfer)) {}
http_exchange::http_exchange(http_exchange&& other) noexcept = default;
http_exchange::~http_exchange() = default;

bool http_exchange::start() noexcept {
    if (!transfer_->begin()) return true;
    wait_in(*transfer_, *this);
    return false;
}

void http_exchange::unpark() noexcept {
    transfer_->waiter = nullptr;
    transfer_->multi->remove(*transfer_);
}

http::response http_exchange::finish() {
    curl_transfer& t = *transfer_;
    if (t.error || is_passing_status(t.status)) note_failed_request(t);
    if (t.error) std::rethrow_exception(t.error);
    http::response r = t.take_head();
    http_access::body(r) = std::move(t.text);
    http_access::trailers(r) = std::move(t.trailers);
    return r;
}

void http_exchange::describe(std::string& out) const { describe_transfer(*transfer_, out); }

// ---- the head of an answer ----

http_opening::http_opening(curl_transfer_ptr transfer, std::optional<async_generator<std::string>> body) noexcept
    : transfer_(std::move(transfer)), body_(std::move(body)) {}
http_opening::http_opening(http_opening&& other) noexcept = default;
http_opening::~http_opening() {
    if (feeder_) feeder_.cancel();
}

bool http_opening::start() noexcept {
    curl_transfer& t = *transfer_;
    t.awaits_head = true;
    if (!t.begin()) return true;
    try {
        if (body_) feeder_ = create_task(feed(feeder_upload(t.upload), std::move(*body_)));
    } catch (...) { t.end(std::current_exception()); }
    if (t.ended || !wait_for_piece(t)) return true;
    wait_in(t, *this);
    return false;
}

void http_opening::unpark() noexcept {
    transfer_->waiter = nullptr;
    transfer_->multi->remove(*transfer_);
    if (transfer_->upload) transfer_->upload->detach();
    if (feeder_) feeder_.cancel();
}

http::streamed_response http_opening::finish() {
    curl_transfer& t = *transfer_;
    if (t.error || is_passing_status(t.status)) note_failed_request(t);
    if (t.error && !t.has_head()) std::rethrow_exception(t.error);
    return http::streamed_response(t.take_head(), std::move(transfer_), std::exchange(feeder_, {}));
}

void http_opening::describe(std::string& out) const { describe_transfer(*transfer_, out); }

// ---- a piece of an answer ----

bool http_piece::start() noexcept {
    if (!transfer_) return true;
    curl_transfer& t = *transfer_;
    if (t.waiter || !t.begin() || !t.text.empty() || !wait_for_piece(t)) return true;
    wait_in(t, *this);
    return false;
}

void http_piece::unpark() noexcept {
    transfer_->waiter = nullptr;
    transfer_->multi->loop->disarm(transfer_->deadline);
}

std::optional<std::string> http_piece::finish() {
    if (!transfer_) return std::nullopt;
    curl_transfer& t = *transfer_;
    if (t.waiter) refuse_second_reader(t);
    if (refuses_errors_ && t.status >= 400) throw http::status_error(t.status, t.target->shown);
    if (t.text.empty() && t.error) {
        note_failed_request(t);
        std::rethrow_exception(t.error);
    }
    // Nothing ends a wait but a piece and the end: another task has taken the piece before this one ran.
    if (t.text.empty() && !t.ended) refuse_second_reader(t);
    std::string piece = t.take_piece();
    if (piece.empty()) return std::nullopt;
    return piece;
}

void http_piece::describe(std::string& out) const { describe_transfer(*transfer_, out); }

namespace {

async_generator<std::string> read_pieces(curl_transfer_ptr t) {
    for (;;) {
        std::optional<std::string> piece = co_await http_piece(t.get(), true);
        if (!piece) co_return;
        co_yield std::move(*piece);
    }
}

// The feeder of a request that has ended: its generator gets a cancel where it waits, and is closed.
coro<> end_feeder(task<> feeder) {
    feeder.cancel();
    std::vector<task<>> both{feeder};
    co_await wait(both);
}

coro<http::response> upload_all(curl_transfer_ptr transfer, async_generator<std::string> body) {
    if (transfer->error) std::rethrow_exception(transfer->error);
    task<> feeder = create_task(feed(feeder_upload(transfer->upload), std::move(body)));
    http_exchange exchange(std::move(transfer));
    http::response r;
    std::exception_ptr error;
    try {
        r = co_await exchange;
    } catch (...) { error = std::current_exception(); }
    co_await end_feeder(feeder);
    if (error) std::rethrow_exception(error);
    co_return r;
}

coro<http::response> exchange_all(http_exchange exchange) { co_return co_await exchange; }

}  // namespace

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

session::session(session_options options) : multi_(std::make_shared<detail::curl_multi>(options)) {}
session::session(session&&) noexcept = default;
session& session::operator=(session&&) noexcept = default;
session::~session() = default;

detail::http_exchange session::request(std::string method, std::string url, std::string body, request_options options) {
    return detail::http_exchange(
        detail::make_transfer(multi_, {std::move(method), std::move(url), std::move(body)}, options));
}
detail::http_exchange session::get(std::string url, request_options options) {
    return request("GET", std::move(url), {}, options);
}
detail::http_exchange session::head(std::string url, request_options options) {
    return request("HEAD", std::move(url), {}, options);
}
detail::http_exchange session::post(std::string url, std::string body, request_options options) {
    return request("POST", std::move(url), std::move(body), options);
}
detail::http_exchange session::put(std::string url, std::string body, request_options options) {
    return request("PUT", std::move(url), std::move(body), options);
}
detail::http_exchange session::del(std::string url, request_options options) {
    return request("DELETE", std::move(url), {}, options);
}

async_generator<std::string> session::stream(std::string url, request_options options) {
    return detail::read_pieces(detail::make_transfer(multi_, {"GET", std::move(url), {}, /*streaming=*/true}, options));
}

coro<response> session::upload(
    std::string method, std::string url, async_generator<std::string> body, request_options options) {
    detail::request_parts parts{std::move(method), std::move(url), {}, false, /*uploading=*/true};
    return detail::upload_all(detail::make_transfer(multi_, std::move(parts), options), std::move(body));
}

detail::http_opening session::open(std::string method, std::string url, request_options options) {
    return open(std::move(method), std::move(url), std::string(), options);
}
detail::http_opening session::open(std::string method, std::string url, std::string body, request_options options) {
    detail::request_parts parts{std::move(method), std::move(url), std::move(body), /*streaming=*/true};
    return detail::http_opening(detail::make_transfer(multi_, std::move(parts), options), std::nullopt);
}
detail::http_opening session::open(
    std::string method, std::string url, async_generator<std::string> body, request_options options) {
    detail::request_parts parts{std::move(method), std::move(url), {}, true, /*uploading=*/true};
    return detail::http_opening(detail::make_transfer(multi_, std::move(parts), options), std::move(body));
}

detail::http_exchange session::send_form(
    std::string method, std::string url, const form& fields, const request_options& options) {
    detail::request_parts parts{std::move(method), std::move(url), fields.body(), false, false, fields.content_type()};
    return detail::http_exchange(detail::make_transfer(multi_, std::move(parts), options));
}

coro<response> session::send_multipart(
    std::string method, std::string url, const multipart& parts, const request_options& options) {
    const std::string type = parts.content_type();
    const bool whole = parts.in_memory();
    detail::request_parts made{
        std::move(method), std::move(url), whole ? parts.body() : std::string(), false, !whole, type};
    detail::curl_transfer_ptr transfer = detail::make_transfer(multi_, std::move(made), options);
    if (!whole) return detail::upload_all(std::move(transfer), parts.stream());
    return detail::exchange_all(detail::http_exchange(std::move(transfer)));
}

void session::clear_cookies() noexcept {
    if (multi_) multi_->clear_cookies();
}

coro<> session::aclose() {
    if (multi_) multi_->close();
    co_return;
}

std::size_t session::running() const noexcept { return multi_ ? multi_->count : 0; }

}  // namespace aio::inline v0::http
