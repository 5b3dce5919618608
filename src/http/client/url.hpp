#pragma once
// The URLs that a session accepts. libcurl is lenient where we are not: what two programs would read differently is
// refused here, and what no URL may have is encoded.

#include <aio/http/headers.hpp>

#include <curl/curl.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {

/// A URL in libcurl's parser.
struct url_handle {
    CURLU* url;
    url_handle();
    ~url_handle() { curl_url_cleanup(url); }
    url_handle(const url_handle&) = delete;
    url_handle& operator=(const url_handle&) = delete;
    /// Gives a part; empty if there is none.
    std::string get(CURLUPart part, unsigned flags = 0) const;
};

/// A URL that was checked, and never changes: requests share it.
struct checked_url {
    std::string given;   // as the caller wrote it
    std::string url;     // characters beyond ASCII are encoded
    std::string shown;   // without user and password, for messages
    std::string origin;  // "https://host:443"
    bool secure = false;
    bool local = false;  // of this machine
};
using checked_url_ptr = std::shared_ptr<const checked_url>;

/// Makes a URL that could not be read fit for a message: what stands before the last @ may hold a password.
std::string masked(const std::string& text);

/// Throws std::invalid_argument if text is no URL that we accept. method is for the message.
checked_url_ptr check_url(std::string_view method, std::string text);

/// Where an answer redirects to. Throws http::error, whose message begins with `before`, for what is no URL. User and
/// password go along within an origin.
checked_url_ptr redirect_target(const checked_url& from, const std::string& location, const std::string& before);

/// The URLs that were asked for last: most programs ask for a few again and again.
class url_cache {
public:
    checked_url_ptr check(std::string_view method, std::string text);

private:
    std::array<checked_url_ptr, 32> places_;  // by hash
};

}  // namespace aio::inline v0::detail
