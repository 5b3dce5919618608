// URLs: see url.hpp.

#include "http/client/url.hpp"

#include "http/access.hpp"

#include <aio/http/message.hpp>

#include <algorithm>
#include <functional>
#include <new>
#include <stdexcept>

namespace aio::inline v0::detail {

url_handle::url_handle() : url(curl_url()) {
    if (!url) throw std::bad_alloc();
}

std::string url_handle::get(CURLUPart part, unsigned flags) const {
    char* text = nullptr;
    const CURLUcode code = curl_url_get(url, part, &text, flags);
    const std::unique_ptr<char, void (*)(void*)> owner(text, &curl_free);
    if (code == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
    return code == CURLUE_OK ? std::string(text) : std::string();
}

std::string masked(const std::string& text) {
    const std::size_t at = text.rfind('@');
    if (at == text.npos) return text;
    const std::size_t scheme = text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    const bool has_scheme = scheme < at && text.compare(scheme, 3, "://") == 0;
    return (has_scheme ? text.substr(0, scheme + 3) : std::string()) + "***" + text.substr(at);
}

namespace {

[[noreturn]] void refuse_url(std::string_view method, const std::string& shown, const std::string& why) {
    throw std::invalid_argument(std::string(method) + " \"" + shown + "\": not a URL: " + why);
}

bool is_http(std::string_view scheme) noexcept { return scheme == "http" || scheme == "https"; }

// Encodes the characters of a part of a URL that no URL may have as they are (RFC 3986): libcurl encodes only spaces
// and what goes beyond ASCII, and servers refuse the others.
void encode(url_handle& u, CURLUPart part) {
    const std::string text = u.get(part);
    std::string encoded;
    for (const char c : text) {
        constexpr std::string_view never = "\"<>\\^`{|}";
        if (never.find(c) == never.npos) {
            encoded += c;
        } else {
            constexpr char digits[] = "0123456789abcdef";
            encoded += {'%', digits[c >> 4], digits[c & 15]};
        }
    }
    if (encoded.size() == text.size()) return;
    if (curl_url_set(u.url, part, encoded.c_str(), 0) == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
}

// Checks a URL that libcurl could read, and takes it apart. Throws std::invalid_argument.
std::shared_ptr<checked_url> parts_of(std::string_view method, url_handle& u) {
    auto checked = std::make_shared<checked_url>();
    curl_url_set(u.url, CURLUPART_FRAGMENT, nullptr, 0);  // a fragment is never sent
    encode(u, CURLUPART_PATH);
    encode(u, CURLUPART_QUERY);
    checked->url = u.get(CURLUPART_URL);
    const std::string scheme = u.get(CURLUPART_SCHEME);
    const std::string host = u.get(CURLUPART_HOST);
    curl_url_set(u.url, CURLUPART_USER, nullptr, 0);
    curl_url_set(u.url, CURLUPART_PASSWORD, nullptr, 0);
    checked->shown = u.get(CURLUPART_URL);
    if (!is_http(scheme)) {
        throw std::invalid_argument(std::string(method) + " " + checked->shown + ": unknown scheme \"" + scheme +
            "\": only http and https are known");
    }
    // libcurl would read such a name in the encoding of the locale, which is "C" unless the program sets one.
    if (std::any_of(host.begin(), host.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
        refuse_url(method, checked->shown,
            "the host's name goes beyond ASCII: give it in its ASCII form, which begins with xn--");
    }
    checked->origin = scheme + "://" + host + ":" + u.get(CURLUPART_PORT, CURLU_DEFAULT_PORT);
    for (char& c : checked->origin) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    checked->secure = scheme == "https";
    checked->local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    return checked;
}

// Browsers end the host at a backslash, and libcurl does not: a program that has checked the host of such a URL may
// have checked another host than libcurl connects to.
constexpr const char* backslash_why = "there is a backslash in front of its path";
bool has_backslash_before_path(std::string_view text) noexcept {
    const std::size_t slashes = text.find("//");
    if (slashes == text.npos || text.substr(0, slashes).find_first_of("/?#") != text.npos) return false;
    const std::string_view rest = text.substr(slashes + 2);
    return rest.substr(0, rest.find_first_of("/?#")).find('\\') != text.npos;
}

}  // namespace

checked_url_ptr check_url(std::string_view method, std::string text) {
    if (text.find('\0') != text.npos) refuse_url(method, masked(text.c_str()) + "...", "there is a NUL in it");
    if (has_backslash_before_path(text)) refuse_url(method, masked(text), backslash_why);
    url_handle u;
    const CURLUcode code = curl_url_set(u.url, CURLUPART_URL, text.c_str(), CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE);
    if (code == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
    if (code != CURLUE_OK) refuse_url(method, masked(text), curl_url_strerror(code));
    // libcurl also accepts one slash and three.
    const std::size_t slashes = text.find(':') + 1;
    const bool two = text.compare(slashes, 2, "//") == 0 && text.compare(slashes, 3, "///") != 0;
    if (!two && is_http(u.get(CURLUPART_SCHEME))) {
        refuse_url(method, masked(text), "two slashes stand between scheme and host");
    }
    auto checked = parts_of(method, u);
    checked->given = std::move(text);
    return checked;
}

checked_url_ptr redirect_target(const checked_url& from, const std::string& location, const std::string& before) {
    url_handle to;
    curl_url_set(to.url, CURLUPART_URL, from.url.c_str(), 0);
    const CURLUcode code = curl_url_set(
        to.url, CURLUPART_URL, location.c_str(), CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE | CURLU_ALLOW_SPACE);
    if (code == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
    if (code != CURLUE_OK || has_backslash_before_path(location)) {
        throw http::error(before + ": redirected to \"" + masked(location) +
            "\": not a URL: " + (has_backslash_before_path(location) ? backslash_why : curl_url_strerror(code)));
    }
    url_handle old;
    curl_url_set(old.url, CURLUPART_URL, from.url.c_str(), 0);
    const auto same = [&](CURLUPart part) {
        return equal_ignoring_case(old.get(part, CURLU_DEFAULT_PORT), to.get(part, CURLU_DEFAULT_PORT));
    };
    if (same(CURLUPART_SCHEME) && same(CURLUPART_HOST) && same(CURLUPART_PORT) && to.get(CURLUPART_USER).empty()) {
        for (const CURLUPart part : {CURLUPART_USER, CURLUPART_PASSWORD}) {
            const std::string value = old.get(part);
            if (!value.empty()) curl_url_set(to.url, part, value.c_str(), 0);
        }
    }
    try {
        return parts_of(before.substr(0, before.find(' ')), to);
    } catch (const std::invalid_argument& e) { throw http::error(before + ": redirected: " + e.what()); }
}

checked_url_ptr url_cache::check(std::string_view method, std::string text) {
    checked_url_ptr& place = places_[std::hash<std::string>()(text) % places_.size()];
    if (!place || place->given != text) place = check_url(method, std::move(text));
    return place;
}

}  // namespace aio::inline v0::detail
