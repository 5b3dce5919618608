#pragma once
// Bodies that were compressed: Content-Encoding gzip and deflate, by zlib, piece by piece. libcurl could do it, but it
// does not tell a body that was cut short from a whole one.

#include <aio/http/headers.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace aio::detail {

/// What a request says that it takes.
inline constexpr std::string_view http_known_codings = "gzip, deflate";

class http_decoder {
public:
    /// Null if the answer is not encoded, or not in a known way: then it is given as it came if the caller asked for
    /// that, else http::error is thrown.
    static std::unique_ptr<http_decoder> of(const http::headers& answer, bool asked_by_caller);
    ~http_decoder();
    http_decoder(const http_decoder&) = delete;
    http_decoder& operator=(const http_decoder&) = delete;

    /// Keeps it; read() decodes it.
    void give(std::string_view encoded);
    /// False if all that was given has been decoded and read.
    bool has_more() const noexcept;
    /// Appends at most this many bytes. Throws http::error for garbage.
    void read(std::string& out, std::size_t most);
    /// No more will be given. Throws http::error if the body was cut short. A body that never began is an empty one.
    void finish() const;

private:
    struct stage;
    http_decoder();
    /// One more coding to undo, before the others: the server has applied it after them.
    void put_in_front(bool gzip);
    std::vector<std::unique_ptr<stage>> stages_;  // in the order in which they decode
};

}  // namespace aio::detail
