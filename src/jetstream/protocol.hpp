#pragma once
// The text protocol of NATS, without any I/O: what a server sends, cut into messages, and headers.

#include <aio/jetstream/message.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace aio::inline v0::detail {

/// A message as it stands in the reader's memory, for as long as deliver() runs.
struct nats_incoming {
    std::uint64_t sid = 0;
    std::string_view subject;
    std::string_view reply_to;
    std::string_view headers;  // "NATS/1.0 ...\r\n\r\n", or empty
    std::string_view data;
};

/// What stands in the first line of the headers: 100, 404, 408, 409, 503; 0 if it is an ordinary message.
struct nats_status {
    int code = 0;
    std::string_view text;
};
nats_status status_of(const nats_incoming& m) noexcept;
/// The value of a header in the block; empty if it is not there.
std::string_view header_in(std::string_view block, std::string_view name) noexcept;
/// The headers of a message that came. What a client may not send but a server passes on, such as a name with a space,
/// is kept as it stands; a header with a lone line break in it is left out.
jetstream::headers parse_headers(std::string_view block);
/// The block of these headers; empty if there are none.
std::string headers_block(const jetstream::headers* all);

/// Takes out of what has not been sent yet whatever is meant for one server only: SUB, UNSUB, PING and PONG. The
/// messages stay.
void keep_messages(std::string& out) noexcept;

/// Cuts what comes into what it means. A fault is a std::runtime_error.
class nats_parser {
public:
    class handler {
    public:
        virtual void on_message(const nats_incoming& m) = 0;
        virtual void on_info(std::string_view json) = 0;
        virtual void on_ping() = 0;
        virtual void on_pong() = 0;
        virtual void on_error(std::string_view text) = 0;  // without its quotes

    protected:
        ~handler() = default;
    };

    /// Where the next bytes go.
    std::span<std::byte> room();
    /// n bytes have been put there: tells the handler of all that is complete.
    void parse(std::size_t n, handler& to);
    void clear() noexcept { begin_ = end_ = wanted_ = searched_ = 0; }

private:
    bool parse_one(handler& to);
    void parse_message(std::string_view line, std::size_t line_size, handler& to);

    std::vector<char> buffer_ = std::vector<char>(std::size_t(64) * 1024);
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::size_t wanted_ = 0;    // bytes that the message which is not complete has in all
    std::size_t searched_ = 0;  // bytes of the line which is not complete, in which there is no line break
};

}  // namespace aio::inline v0::detail
