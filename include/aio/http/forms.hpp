#pragma once
// Forms, both ways: a client makes a form or a multipart of its fields and sends it; a handler reads them from a
// request.
//
//     aio::http::form search("q", "coroutines", "page", "2");           // q=coroutines&page=2
//     aio::http::multipart upload("title", "A cat");
//     upload.add_file("picture", "cat.png", co_await aio::read_file("cat.png"), "image/png");
//     upload.add_path("film", "/films/cat.mp4", "video/mp4");           // read while it is sent
//
//     aio::coro<aio::http::response> sign_in(aio::http::request request) {
//         aio::http::form fields = request.form();
//         co_return aio::http::response(200, "hello, " + fields.at("user") + "\n");
//     }
//
// A handler in http::unbuffered() takes the parts of an upload while they come, however large they are:
//
//     aio::coro<aio::http::response> upload_page(aio::http::request request) {
//         auto parts = request.parts();
//         while (auto part = co_await parts.next()) {
//             auto pieces = part->stream();
//             while (auto piece = co_await pieces.next()) { use(part->name(), *piece); }
//         }
//         co_return aio::http::response(204);
//     }
//
// Names and file names come from the client: never use one as a path. Source: the URL Standard, RFC 7578.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/http/headers.hpp>
#include <aio/http/values.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace aio::inline v0::detail {
class multipart_reader;
}

namespace aio::inline v0::http {

/// The limits of request::form().
struct form_options {
    std::size_t max_fields = 1000;  // more of them are a refusal (413)
};

/// The limits of request::parts() and request::multipart().
struct multipart_options {
    std::size_t max_parts = 1000;                               // more of them are a refusal (413)
    std::size_t max_header_size = 16 * 1024;                    // bytes, of one part
    std::optional<std::uint64_t> max_part_size = std::nullopt;  // bytes, of one part's body; std::nullopt: no limit
    std::size_t max_memory = 8 * 1024 * 1024;                   // bytes that part::text() or multipart() collects
};

/// The fields of an HTML form, as its values. They travel as application/x-www-form-urlencoded.
class form : public values {
public:
    using values::values;      // form("name", "Ann", "age", "7"), and whatever else makes http::values.
    std::string body() const;  // The fields as they travel: "name=Ann&age=7".
    static std::string content_type() { return "application/x-www-form-urlencoded"; }  // The media type of body().
};

/// Fields and files, as multipart/form-data: what a client sends, and what request::multipart() has collected.
class multipart {
public:
    struct part {
        std::string name;
        std::optional<std::string> filename;  // of a file
        std::string content_type;             // of a file
        std::string body;
        std::string path;  // of add_path(): read when it is sent, instead of the body
    };

    multipart();
    /// Name, value, name, value, ...
    template<class... More>
        requires(std::is_convertible_v<const More&, std::string_view> && ...)
    multipart(std::string_view name, std::string_view value, const More&... more) : multipart() {
        static_assert(sizeof...(More) % 2 == 0, "multipart(name, value, name, value, ...): a name lacks its value");
        add_pairs(name, value, more...);
    }

    void add(std::string name, std::string value);  // Adds a field that is no file.
    /// Adds a file. Throws std::invalid_argument for a content type with a line break in it.
    void add_file(std::string name, std::string filename, std::string content,
        std::string content_type = "application/octet-stream");
    /// Adds a file that is read while it is sent; its last name is its file name.
    void add_path(std::string name, std::string path, std::string content_type = "application/octet-stream");

    /// Gives the body of the first part of this name that is no file.
    std::optional<std::string> get(std::string_view name) const;
    /// Gives the first file of this name, or null.
    const part* file(std::string_view name) const noexcept;
    std::size_t size() const noexcept { return parts_.size(); }  // The number of parts, files included.
    bool empty() const noexcept { return parts_.empty(); }       // True if there are none.
    auto begin() const noexcept { return parts_.begin(); }       // The parts, in their order.
    auto end() const noexcept { return parts_.end(); }           // Their end.

    /// Gives "multipart/form-data; boundary=...". The boundary has 128 random bits.
    std::string content_type() const;
    /// True if no part comes of add_path(), so that body() gives everything.
    bool in_memory() const noexcept;
    /// Throws std::logic_error unless in_memory().
    std::string body() const;
    /// Gives the body piece by piece, and reads the files of add_path() meanwhile. The generator owns what it gives.
    /// Throws std::system_error for a file that cannot be read.
    async_generator<std::string> stream() const;

private:
    template<class... More>
    void add_pairs(std::string_view name, std::string_view value, const More&... more) {
        add(std::string(name), std::string(value));
        if constexpr (sizeof...(More) > 0) add_pairs(more...);
    }

    std::string boundary_;
    std::vector<part> parts_;
};

/// A part of a request's body, of request::parts(), while it comes. It is read once, by text() or by stream(), before
/// the generator is asked for the next part; a later read throws std::logic_error. What is not read is skipped.
class part {
public:
    part(std::shared_ptr<detail::multipart_reader> reader, std::size_t number, http::headers fields, std::string name,
        std::optional<std::string> filename);

    const std::string& name() const noexcept { return name_; }  // The name of the form's field.
    /// The file name that the client gives, if this is a file. Never use it as a path.
    const std::optional<std::string>& filename() const noexcept { return filename_; }
    /// The media type that the client gives; "text/plain" if it gives none.
    std::string content_type() const;
    const http::headers& headers() const noexcept { return headers_; }  // The header fields of this part.
    /// Gives the whole body of the part. Throws http::refusal (413) beyond multipart_options::max_memory, and the
    /// errors of request::stream(). Revertible.
    coro<std::string> text();
    /// Gives the body piece by piece, none of them empty. next() throws the errors of request::stream(). The generator
    /// needs the part no more.
    async_generator<std::string> stream();

private:
    std::shared_ptr<detail::multipart_reader> reader_;
    std::size_t number_;
    http::headers headers_;
    std::string name_;
    std::optional<std::string> filename_;
};

}  // namespace aio::inline v0::http
