#pragma once
// The parser of multipart/form-data (RFC 7578, RFC 2046), from pieces as they come.

#include <aio/http/message.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {

/// Gives the boundary that a Content-Type names. Throws http::refusal: 415 if it is no multipart/form-data, 400 if it
/// has no boundary that RFC 2046 allows.
std::string multipart_boundary(std::string_view content_type);

/// feed() it and ask next(), until that wants more. It throws http::refusal for what breaks the format (400) or is
/// beyond the limit of a header (413), and cannot be used after that.
class multipart_parser {
public:
    multipart_parser(const std::string& boundary, std::size_t max_header_size);

    enum class event : std::uint8_t {
        need_more,
        part,      // headers(), name() and filename() are those of a part that begins
        data,      // data() is a piece of its body, valid until the following call
        part_end,  // the part ends
        end        // the last part has ended; what comes behind is dropped
    };
    void feed(std::string_view piece);
    /// No more bytes will come.
    void finish() noexcept { finished_ = true; }
    event next();

    std::string_view data() const noexcept { return data_; }
    http::headers& headers() noexcept { return headers_; }
    std::string& name() noexcept { return name_; }
    std::optional<std::string>& filename() noexcept { return filename_; }

private:
    enum class state : std::uint8_t { preamble, header, body, end };
    struct delimiter {
        enum class kind : std::uint8_t { none, partial, next, last } what = kind::none;
        std::size_t at = 0;   // where it begins; of none, where one may begin that has not come whole
        std::size_t end = 0;  // the first byte behind it
    };
    delimiter find_delimiter() const noexcept;
    delimiter look_behind(std::size_t at) const noexcept;
    event next_of_preamble();
    event next_of_header();
    event next_of_body();
    event want_more() const;
    void go_to(const delimiter& d) noexcept;
    void read_header(std::string_view lines);
    void read_disposition();

    std::string delimiter_;  // "\r\n--boundary"
    std::size_t max_header_size_;
    std::string buffer_;
    std::size_t at_ = 0;       // bytes of the buffer that are done with
    std::size_t scanned_ = 0;  // bytes of the buffer in which no header ends
    state state_ = state::preamble;
    bool finished_ = false;
    std::string_view data_;
    http::headers headers_;
    std::string name_;
    std::optional<std::string> filename_;
};

}  // namespace aio::inline v0::detail
