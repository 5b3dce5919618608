#pragma once
// A request's body that comes piece by piece. libcurl takes it in its own time: curl_upload stands between it and the
// task that asks the caller's generator for pieces. At most one piece waits here, so a slow server makes the generator
// wait, and a slow generator makes libcurl pause.

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/event.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace aio::inline v0::detail {

struct curl_transfer;

struct curl_upload {
    curl_transfer* transfer = nullptr;    // null once nobody wants the rest of the body
    std::optional<std::uint64_t> length;  // what the caller's Content-Length says
    std::uint64_t given = 0;              // bytes that the generator has given
    std::string piece;
    std::size_t at = 0;    // where in piece libcurl is
    bool taken = false;    // libcurl has got some of the body, which therefore cannot be sent once more
    bool ended = false;    // the generator has
    bool starved = false;  // libcurl waits for a piece
    event used_up;         // piece has been sent, or nobody wants the rest

    curl_upload() = default;
    curl_upload(const curl_upload&) = delete;
    curl_upload& operator=(const curl_upload&) = delete;

    /// For libcurl: copies what there is, at most size bytes; 0 at the end; CURL_READFUNC_PAUSE.
    std::size_t read(char* into, std::size_t size);
    /// Nothing is left to ask the generator for, but its end.
    bool all_given() const noexcept { return ended || (length && given == *length); }
    /// Nobody wants the rest of the body.
    void detach() noexcept;
};

/// The feeder's hold on its upload. If the feeder goes without having given all, because somebody has cancelled it even
/// before its first step, the transfer ends, too: nobody would give the rest. If it goes because there is no memory for
/// it, whoever wanted to start it has that error.
class feeder_upload {
public:
    explicit feeder_upload(std::shared_ptr<curl_upload> upload) noexcept : upload_(std::move(upload)) {}
    feeder_upload(feeder_upload&&) noexcept = default;
    feeder_upload& operator=(feeder_upload&&) = delete;
    ~feeder_upload();
    curl_upload& operator*() const noexcept { return *upload_; }
    curl_upload* operator->() const noexcept { return upload_.get(); }

private:
    std::shared_ptr<curl_upload> upload_;
    int exceptions_ = std::uncaught_exceptions();
};

/// Asks the generator for pieces until it or the transfer has ended. An error of the generator's ends the transfer.
coro<> feed(feeder_upload upload, async_generator<std::string> body);

}  // namespace aio::inline v0::detail
