// The task that feeds libcurl: see upload.hpp.

#include "http/client/upload.hpp"

#include "http/client/transfer.hpp"

#include <aio/errors.hpp>

#include <algorithm>
#include <cstring>
#include <exception>

namespace aio::inline v0::detail {

std::size_t curl_upload::read(char* into, std::size_t size) {
    const std::size_t left = piece.size() - at;
    if (left > 0) {
        const std::size_t n = std::min(left, size);
        std::memcpy(into, piece.data() + at, n);
        at += n;
        taken = true;
        if (at == piece.size()) used_up.set();
        return n;
    }
    if (ended) return 0;
    starved = true;
    if (transfer && transfer->is_answered()) transfer->multi->note_answered();
    return CURL_READFUNC_PAUSE;
}

void curl_upload::detach() noexcept {
    transfer = nullptr;
    used_up.set();
}

namespace {

void check_length(const curl_upload& u, bool at_end) {
    if (!u.length || u.given == *u.length || (!at_end && u.given < *u.length)) return;
    throw http::error(u.transfer->what() + ": the body of the request has " + (at_end ? "" : "at least ") +
        std::to_string(u.given) + " bytes, and its Content-Length is " + std::to_string(*u.length));
}

void give(curl_upload& u, std::string piece) {
    u.given += piece.size();
    check_length(u, false);
    u.piece = std::move(piece);
    u.at = 0;
    u.used_up.clear();
    if (std::exchange(u.starved, false)) u.transfer->update_pause();
}

void give_end(curl_upload& u) {
    check_length(u, true);
    u.ended = true;
    if (std::exchange(u.starved, false)) u.transfer->update_pause();
}

coro<> feed_all(curl_upload& u, async_generator<std::string>& body) {
    while (u.transfer) {
        auto piece = co_await body.next();
        if (!u.transfer) break;
        if (!piece) co_return give_end(u);
        if (piece->empty()) continue;
        give(u, std::move(*piece));
        co_await u.used_up.wait();
    }
}

}  // namespace

feeder_upload::~feeder_upload() {
    if (!upload_ || !upload_->transfer || upload_->transfer->ended || upload_->ended) return;
    if (std::uncaught_exceptions() > exceptions_) return;
    std::exception_ptr why;
    try {
        throw cancelled_error("the task that reads a request's body was cancelled");
    } catch (...) { why = std::current_exception(); }  // that error, or std::bad_alloc
    upload_->transfer->end(std::move(why));
}

coro<> feed(feeder_upload upload, async_generator<std::string> body) {
    std::exception_ptr error;
    try {
        co_await feed_all(*upload, body);
    } catch (...) { error = std::current_exception(); }
    if (error && upload->transfer && !upload->transfer->ended) upload->transfer->end(error);
    co_await body.aclose();
}

}  // namespace aio::inline v0::detail
