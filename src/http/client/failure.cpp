// What has gone wrong with a request, in words and with the right type: libcurl's codes become errors that name the
// request, the errno and the phase.

#include "http/client/transfer.hpp"

#include <aio/errors.hpp>
#include <aio/stream.hpp>

#include <netdb.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>

namespace aio::inline v0::detail {

const char* curl_transfer::phase() const noexcept {
    if (!handle) return "waiting to begin";
    CURL* const easy = handle->easy;
    const auto reached = [easy](CURLINFO what) {
        curl_off_t microseconds = 0;
        curl_easy_getinfo(easy, what, &microseconds);
        return microseconds > 0;
    };
    if (body_bytes > 0) return "reading the body";
    if (header_bytes > 0) return "reading the answer";
    if (reached(CURLINFO_PRETRANSFER_TIME_T)) {
        if (upload) return upload->ended ? "waiting for the answer" : "sending the request";
        curl_off_t sent = 0;
        curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &sent);
        return sent < static_cast<curl_off_t>(body.size()) ? "sending the request" : "waiting for the answer";
    }
    if (securing || reached(CURLINFO_CONNECT_TIME_T)) return "securing the connection";
    if (reached(CURLINFO_NAMELOOKUP_TIME_T)) return "connecting";
    return "resolving the host's name or waiting for a free connection";
}

namespace {

// The same request may well succeed the next time.
bool is_loss(CURLcode code, long error_number) noexcept {
    switch (code) {
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
        case CURLE_COULDNT_CONNECT:
        case CURLE_OPERATION_TIMEDOUT:  // of the connection: the other limits are ours
        case CURLE_SEND_ERROR:
        case CURLE_GOT_NOTHING:
        case CURLE_PARTIAL_FILE:
        case CURLE_HTTP2:
        case CURLE_HTTP2_STREAM: return true;
        case CURLE_RECV_ERROR:
        case CURLE_SSL_CONNECT_ERROR: return error_number != 0;
        default: return false;
    }
}

// libcurl 7.88 says "out of memory" for a line that is longer than it wants to keep, too. Then there is memory for
// more than such a line.
bool is_there_memory() noexcept {
    void* volatile probe = std::malloc(1024 * 1024);  // volatile: compilers leave out a malloc that nobody sees
    std::free(probe);
    return probe;
}

}  // namespace

std::exception_ptr curl_transfer::failure(CURLcode code) {
    const char* const error_text = handle->error_text;
    std::string why = error_text[0] ? error_text : curl_easy_strerror(code);
    const bool bad_proxy = why.starts_with("Unsupported proxy");
    if (const std::size_t quote = why.find('\'');
        bad_proxy && quote != why.npos) {  // the quotes hold the proxy's URL, with its password
        why = why.substr(0, quote + 1) + masked(why.substr(quote + 1));
    }
    const std::string message = what() + ": " + why;
    if (bad_proxy) return std::make_exception_ptr(http::error(message));
    long number = 0;
    curl_easy_getinfo(handle->easy, CURLINFO_OS_ERRNO, &number);
    was_lost = is_loss(code, number);
    const auto system = [&](int otherwise) {
        return std::make_exception_ptr(
            std::system_error(number ? static_cast<int>(number) : otherwise, std::generic_category(), message));
    };
    const auto lost = [&] {
        if (number == EPIPE) number = ECONNRESET;  // EPIPE comes from the farewell to a TLS peer that has gone
        return system(ECONNRESET);
    };
    switch (code) {
        case CURLE_OUT_OF_MEMORY:
            if (at != section::rest && was_sent && is_there_memory())
                return std::make_exception_ptr(
                    http::error(what() + ": a line in the header of the answer is longer than 100 KiB"));
            return std::make_exception_ptr(std::bad_alloc());
        case CURLE_OPERATION_TIMEDOUT:
            return std::make_exception_ptr(
                timeout_error(what() + ": timed out while " + phase() + " (" + error_text + ")"));
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
            return std::make_exception_ptr(std::system_error(EAI_NONAME, resolver_category(), message));
        case CURLE_COULDNT_CONNECT: return system(open_error ? open_error : ECONNREFUSED);
        case CURLE_SEND_ERROR:
            if (std::strncmp(error_text, "Recv", 4) == 0) return lost();  // TLS may have to read in order to write
            return system(EPIPE);
        case CURLE_RECV_ERROR:
            if (std::strstr(error_text, "Out of memory in chunked"))  // libcurl's words for this, too
                return std::make_exception_ptr(http::error(what() + ": a trailer of the answer is longer than 4 KiB"));
            // This code also means malformed chunks, or a proxy that refuses a tunnel. Then no system call has failed.
            if (number == 0 && (std::strstr(error_text, "chunk") || std::strstr(error_text, "CONNECT")))
                return std::make_exception_ptr(http::error(message));
            return lost();
        case CURLE_GOT_NOTHING: return system(ECONNRESET);
        case CURLE_PARTIAL_FILE:
            return std::make_exception_ptr(http::error(what() + ": the body was cut short: " + error_text));
        default: return std::make_exception_ptr(http::error(message));
    }
}

}  // namespace aio::inline v0::detail
