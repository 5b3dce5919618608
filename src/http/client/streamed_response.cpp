// A response whose body is read while it comes. The transfer does the work: this owns it.

#include <aio/http/streamed_response.hpp>

#include "http/access.hpp"
#include "http/client/transfer.hpp"

#include <aio/wait.hpp>

namespace aio::inline v0::http {

constexpr std::size_t most_read = std::size_t(1) << 30;

streamed_response::streamed_response(http::response head, detail::curl_transfer_ptr transfer, task<> feeder) noexcept
    : head_(std::move(head)), transfer_(std::move(transfer)), feeder_(std::move(feeder)) {}
streamed_response::streamed_response(streamed_response&& other) noexcept = default;
streamed_response& streamed_response::operator=(streamed_response&& other) noexcept {
    drop();
    head_ = std::move(other.head_);
    transfer_ = std::move(other.transfer_);
    feeder_ = std::exchange(other.feeder_, {});
    return *this;
}
streamed_response::~streamed_response() { drop(); }

void streamed_response::drop() noexcept {
    transfer_.reset();
    if (feeder_) feeder_.cancel();
}

const http::headers& streamed_response::trailers() const noexcept {
    return transfer_ ? transfer_->trailers : head_.trailers();
}

detail::http_piece streamed_response::next() { return detail::http_piece(transfer_.get()); }

coro<std::string> streamed_response::read() {
    std::string all;
    while (auto piece = co_await next()) {
        if (all.size() + piece->size() > most_read)
            throw http::error("the body of " + url() + " is longer than " + std::to_string(most_read) + " bytes");
        if (all.empty()) {
            all = std::move(*piece);
        } else {
            all += *piece;
        }
    }
    co_return all;
}

coro<> streamed_response::aclose() {
    if (transfer_) detail::http_access::trailers(head_) = std::move(transfer_->trailers);
    drop();
    task<> feeder = std::exchange(feeder_, {});
    if (!feeder) co_return;
    std::vector<task<>> tasks{feeder};
    co_await wait(tasks);
}

}  // namespace aio::inline v0::http
