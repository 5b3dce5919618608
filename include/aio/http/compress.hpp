#pragma once
// A middleware that compresses responses with gzip, for clients that take it.
//
//     aio::http::router app;
//     app.use(aio::http::compress());
//     app.use(aio::http::compress({.level = 9, .minimum_size = 200, .types = "application/x-my-format"}));   // or so
//
// Texts, JSON, XML and the like are compressed; images, sounds and archives are compressed already. Responses are left
// alone if they have a Content-Encoding, are a part of a file (206), or say Cache-Control: no-transform. Streams are
// compressed piece by piece, and each piece goes out at once, so that server-sent events still come in time. Large
// bodies are compressed on a thread. The ETag becomes a weak one, and Vary says Accept-Encoding.
//
// A page that has a secret beside text that the client chooses must not be compressed: its size tells of the secret
// (BREACH). Source: RFC 9110, 8.4 and 12.5.3; RFC 1952.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/http/router.hpp>

#include <cstddef>
#include <memory>
#include <string_view>

namespace aio::inline v0::detail {
struct compress_settings;
}

namespace aio::inline v0::http {

/// The options of compress().
struct compress_options {
    int level = 6;                    // 1: fast, to 9: small
    std::size_t minimum_size = 1024;  // bytes; smaller bodies are sent as they are, streams are always compressed
    std::string_view types = {};      // further media types, with commas between them
};

class compress {
public:
    /// Makes the middleware, which router::use() takes. Throws std::invalid_argument for a level that is not 1 to 9.
    explicit compress(compress_options options = {});
    /// What a router calls: the response of the rest of the chain, compressed if it should be.
    coro<response> operator()(http::request request, http::next next) const;

private:
    std::shared_ptr<const detail::compress_settings> settings_;
};

}  // namespace aio::inline v0::http
