#pragma once
// Reads the parts of a request's body one after the other. The generator of request::parts() and the parts share it.

#include "http/app/multipart_parser.hpp"

namespace aio::inline v0::detail {

class multipart_reader {
public:
    multipart_reader(async_generator<std::string> body, const std::string& boundary, http::multipart_options options)
        : parser(boundary, options.max_header_size), limits(options), body_(std::move(body)) {}

    /// Goes on to the next part, and skips what nobody has read of the one before. False if there is none; then the
    /// whole body has been read. Throws http::refusal and the errors of the body.
    coro<bool> next_part();
    /// Gives the next piece of a part; an empty one at its end.
    coro<std::string> next_piece(std::size_t part);
    /// Throws std::logic_error if another part has begun, or if this one was taken already.
    void take(std::size_t part);
    std::size_t part() const noexcept { return part_; }

    multipart_parser parser;
    http::multipart_options limits;

private:
    coro<multipart_parser::event> next_event();
    coro<> drop_rest();

    async_generator<std::string> body_;
    std::size_t part_ = 0;    // counted from 1
    std::uint64_t size_ = 0;  // of what has come of its body
    bool in_part_ = false;
    bool taken_ = false;
    bool at_end_ = false;
};

}  // namespace aio::inline v0::detail
