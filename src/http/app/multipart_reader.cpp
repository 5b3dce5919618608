// The parts of a request: request::parts(), request::multipart() and http::part.

#include "http/app/multipart_reader.hpp"

#include <stdexcept>

namespace aio::inline v0::detail {

coro<multipart_parser::event> multipart_reader::next_event() {
    for (;;) {
        const multipart_parser::event what = parser.next();
        if (what != multipart_parser::event::need_more) co_return what;
        std::string* const piece = co_await body_.next();
        if (piece) {
            parser.feed(*piece);
        } else {
            parser.finish();
        }
    }
}

// Nothing stands behind the last part, as a rule, but the connection goes on only if everything was read.
coro<> multipart_reader::drop_rest() {
    for (;;) {
        const std::string* const piece = co_await body_.next();
        if (!piece) co_return;
    }
}

coro<bool> multipart_reader::next_part() {
    while (!at_end_) {
        const multipart_parser::event what = co_await next_event();
        if (what == multipart_parser::event::part) {
            if (part_ == limits.max_parts) throw http::refusal(413, "the multipart body has too many parts");
            ++part_;
            size_ = 0;
            in_part_ = true;
            taken_ = false;
            co_return true;
        }
        in_part_ = false;
        at_end_ = what == multipart_parser::event::end;
    }
    co_await drop_rest();
    co_return false;
}

coro<std::string> multipart_reader::next_piece(std::size_t part) {
    if (part != part_) throw std::logic_error("http::part: the part is over, and another one has begun");
    if (!in_part_) co_return std::string();
    const multipart_parser::event what = co_await next_event();
    if (what != multipart_parser::event::data) {
        in_part_ = false;
        co_return std::string();
    }
    size_ += parser.data().size();
    if (limits.max_part_size && size_ > *limits.max_part_size)
        throw http::refusal(413, "a part of the multipart body is too large");
    co_return std::string(parser.data());
}

void multipart_reader::take(std::size_t part) {
    if (part != part_) throw std::logic_error("http::part: the part is over, and another one has begun");
    if (taken_) throw std::logic_error("http::part: the part has been read already");
    taken_ = true;
}

namespace {

async_generator<std::string> pieces_of(std::shared_ptr<multipart_reader> reader, std::size_t part) {
    for (;;) {
        std::string piece = co_await reader->next_piece(part);
        if (piece.empty()) break;
        co_yield std::move(piece);
    }
}

coro<std::string> text_of(std::shared_ptr<multipart_reader> reader, std::size_t part, std::size_t most) {
    std::string all;
    for (;;) {
        std::string piece = co_await reader->next_piece(part);
        if (piece.empty()) break;
        if (piece.size() > most - all.size())
            throw http::refusal(413, "a part of the multipart body is too large to be kept in memory");
        all = all.empty() ? std::move(piece) : std::move(all) + piece;
    }
    co_return all;
}

async_generator<http::part> parts_of(std::shared_ptr<multipart_reader> reader) {
    for (;;) {
        const bool there_is_one = co_await reader->next_part();
        if (!there_is_one) break;
        http::part part(reader, reader->part(), std::move(reader->parser.headers()), std::move(reader->parser.name()),
            std::move(reader->parser.filename()));
        co_yield std::move(part);
    }
}

coro<http::multipart> collect(std::shared_ptr<multipart_reader> reader) {
    http::multipart all;
    std::size_t left = reader->limits.max_memory;
    for (;;) {
        const bool there_is_one = co_await reader->next_part();
        if (!there_is_one) break;
        multipart_parser& parser = reader->parser;
        std::string name = std::move(parser.name());
        std::optional<std::string> filename = std::move(parser.filename());
        std::string type = parser.headers()["Content-Type"];
        std::string body = co_await text_of(reader, reader->part(), left);
        left -= body.size();
        if (filename) {
            all.add_file(std::move(name), std::move(*filename), std::move(body), std::move(type));
        } else {
            all.add(std::move(name), std::move(body));
        }
    }
    co_return all;
}

}  // namespace

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

part::part(std::shared_ptr<detail::multipart_reader> reader, std::size_t number, http::headers fields, std::string name,
    std::optional<std::string> filename)
    : reader_(std::move(reader)),
      number_(number),
      headers_(std::move(fields)),
      name_(std::move(name)),
      filename_(std::move(filename)) {}

std::string part::content_type() const { return headers_.get("Content-Type").value_or("text/plain"); }

coro<std::string> part::text() {
    reader_->take(number_);
    return detail::text_of(reader_, number_, reader_->limits.max_memory);
}

async_generator<std::string> part::stream() {
    reader_->take(number_);
    return detail::pieces_of(reader_, number_);
}

async_generator<part> request::parts(multipart_options options) {
    const std::string boundary = detail::multipart_boundary(headers_["Content-Type"]);
    return detail::parts_of(std::make_shared<detail::multipart_reader>(stream(), boundary, options));
}

coro<http::multipart> request::multipart(multipart_options options) {
    const std::string boundary = detail::multipart_boundary(headers_["Content-Type"]);
    return detail::collect(std::make_shared<detail::multipart_reader>(stream(), boundary, options));
}

}  // namespace aio::inline v0::http
