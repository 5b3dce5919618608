// http::session, and the two awaiters of a request. http_exchange waits for a whole answer, and a cancel ends the
// request. next_piece, which session::stream is made of, waits for one piece of a body at a time; the request goes on
// between the pieces, and ends with the generator that owns it.
//
// Transfers do the work (transfer.cpp): an awaiter begins one, and leaves itself in it as its waiter.

#include "http/access.hpp"
#include "http/client/transfer.hpp"

namespace aio::detail {

http_exchange::http_exchange(std::unique_ptr<curl_transfer> transfer) noexcept : transfer_(std::move(transfer)) {}
http_exchange::http_exchange(http_exchange&& other) noexcept = default;
http_exchange::~http_exchange() = default;

bool http_exchange::start() noexcept {
    if (!transfer_->begin()) return true;
    transfer_->waiter = this;
    transfer_->wake = [](void* self) noexcept { static_cast<http_exchange*>(self)->basic_operation::wake(); };
    return false;
}

void http_exchange::unpark() noexcept {
    transfer_->waiter = nullptr;
    transfer_->multi->remove(*transfer_);
}

http::response http_exchange::finish() {
    curl_transfer& t = *transfer_;
    if (t.error) std::rethrow_exception(t.error);
    http::response r;
    http_access::set_status(r, t.status);
    http_access::body(r) = std::move(t.text);
    r.headers() = std::move(t.answer);
    http_access::trailers(r) = std::move(t.trailers);
    http_access::set_url(r, std::move(t.from));
    return r;
}

void http_exchange::describe(std::string& out) const {
    out += transfer_->what();
    out += ": ";
    out += transfer_->phase();
}

/// Waits for a piece of a streamed body; the timeout counts for each piece. Irrevocable: a piece that has come is given
/// in spite of a cancel. The first one sends the request.
class [[nodiscard]] next_piece final : public irrevocable<next_piece> {
public:
    explicit next_piece(curl_transfer& t) noexcept : transfer_(&t) {}
    bool start() noexcept {
        curl_transfer& t = *transfer_;
        if (!t.streaming) {
            t.streaming = true;
            if (!t.begin()) return true;
        }
        if (t.ended || !t.text.empty()) return true;
        try {
            t.arm_deadline();
        } catch (...) {
            t.end(std::current_exception());
            return true;
        }
        t.waiter = this;
        t.wake = [](void* self) noexcept { static_cast<next_piece*>(self)->basic_operation::wake(); };
        return false;
    }
    void unpark() noexcept {
        transfer_->waiter = nullptr;
        transfer_->multi->loop->disarm(transfer_->deadline);
    }
    void revert() noexcept {}
    /// Gives the next piece; an empty one is the end of the body.
    std::string finish() {
        curl_transfer& t = *transfer_;
        if (t.status >= 400) throw http::status_error(t.status, t.shown);
        if (t.text.empty() && t.error) std::rethrow_exception(t.error);
        return t.take_piece();
    }
    void describe(std::string& out) const override {
        out += transfer_->what();
        out += ": ";
        out += transfer_->phase();
    }

private:
    curl_transfer* transfer_;
};

static async_generator<std::string> read_pieces(std::unique_ptr<curl_transfer> t) {
    for (;;) {
        std::string piece = co_await next_piece(*t);
        if (piece.empty()) co_return;
        co_yield std::move(piece);
    }
}

}  // namespace aio::detail

namespace aio::http {

session::session(session_options options) : multi_(std::make_shared<detail::curl_multi>(options)) {}
session::session(session&&) noexcept = default;
session& session::operator=(session&&) noexcept = default;
session::~session() = default;

detail::http_exchange session::request(std::string method, std::string url, std::string body, request_options options) {
    return detail::http_exchange(
        detail::make_transfer(multi_, std::move(method), std::move(url), std::move(body), options));
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
    return detail::read_pieces(detail::make_transfer(multi_, "GET", std::move(url), {}, options, true));
}

coro<> session::aclose() {
    if (multi_) multi_->close();
    co_return;
}

std::size_t session::running() const noexcept { return multi_ ? multi_->count : 0; }

}  // namespace aio::http
