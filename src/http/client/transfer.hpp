#pragma once
// One request under way, with all redirects that it follows. http_exchange, http_opening, a streamed_response or the
// generator of a stream owns it.
//
// For libcurl a request is one message there and one back. This code follows redirects, because it decides what may go
// to another origin, and decompresses bodies.

#include "http/client/decoder.hpp"
#include "http/client/multi.hpp"
#include "http/client/upload.hpp"
#include "http/client/url.hpp"

#include <aio/http/client.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {

/// The time limits of the phases of a request. The limit of all of it is a transfer's timeout.
struct phase_limits {
    delay connect = std::nullopt;     // name, connection and TLS
    delay tls = std::nullopt;         // TLS alone
    delay first_byte = std::nullopt;  // from the last byte of the request that went out
    delay read = std::nullopt;        // between two pieces of the answer
    bool any() const noexcept { return tls.has_value() || first_byte.has_value() || read.has_value(); }
};

struct curl_transfer : list_node {
    curl_transfer() {
        deadline.owner = this;
        phase_deadline.owner = this;
    }
    ~curl_transfer();
    curl_transfer(const curl_transfer&) = delete;
    curl_transfer& operator=(const curl_transfer&) = delete;

    // what the transfer asks
    std::shared_ptr<curl_multi> multi;
    std::string method;
    checked_url_ptr target;  // null: the URL is none that we accept
    std::string body;
    std::shared_ptr<curl_upload> upload;  // a body that comes piece by piece, instead of the other one
    http::headers given;                  // the caller's, without those that say how the message ends
    curl_slist* fields = nullptr;         // the fields of the request, for libcurl
    delay timeout = std::nullopt;
    phase_limits limits;
    std::optional<http::version> version;
    std::size_t max_redirects = 0;
    std::size_t max_body_size = 0;  // 0: no limit
    bool follow_redirects = true;
    bool decompress = true;
    bool close_connection = false;    // the caller has sent "Connection: close"
    bool asks_for_encodings = false;  // the caller has sent an Accept-Encoding
    bool streaming = false;           // the body is read while it comes
    bool awaits_head = false;         // streaming: the waiter wants the header of the answer, and no piece

    // while it runs
    curl_handle* handle = nullptr;
    struct timer : timer_node {
        curl_transfer* owner = nullptr;
    } deadline, phase_deadline;
    void* waiter = nullptr;
    void (*wake)(void* waiter) noexcept = nullptr;
    bool paused = false;  // streaming: libcurl has to wait until the consumer has read what has come
    std::size_t redirects = 0;

    // of the message under way
    enum class section : std::uint8_t { status_line, header, rest } at = section::status_line;
    enum class timed : std::uint8_t { nothing, tls, first_byte, read } timed_phase = timed::nothing;
    time_point last_progress{};   // when phase_deadline was armed, or a piece has come since
    std::int64_t sent_bytes = 0;  // when phase_deadline was armed
    int tries = 0;                // how often libcurl has begun to send it
    int open_error = 0;           // errno of socket()
    // What libcurl has last asked us to watch for it; often null over HTTP/2, where another has asked for the same.
    curl_socket* connection = nullptr;
    unsigned connection_use = 0;               // the descriptor was not opened anew if this is connection->uses
    std::uint64_t ends = 0;                    // a hash of the addresses of the connection; 0: not known
    bool opened = false;                       // a new connection was made for it
    bool securing = false;                     // TLS has begun on the new connection
    bool stale = false;                        // libcurl has chosen a connection that must not be used
    bool repeated = false;                     // the message is sent again, over a new connection
    bool redirecting = false;                  // the body that comes is that of a redirect, and is thrown away
    std::optional<std::uint64_t> answer_left;  // bytes of the answer's body that have still to come, if that is known
    bool enough = false;                       // the body of a redirect is too long to wait for its end
    std::unique_ptr<http_decoder> decoder;

    // what has come
    bool begun = false;
    bool ended = false;
    bool was_lost = false;  // with the error: the connection could not be made, or was lost, or was too slow
    bool was_sent = false;  // libcurl has begun to send the request, be it the one before a redirect
    std::exception_ptr error;
    int status = 0;
    http::version answered_with = http::version::v1_1;
    http::headers answer;
    http::headers trailers;
    std::size_t header_bytes = 0;
    std::size_t body_bytes = 0;
    std::string text;

    bool begin() noexcept;  // false: the transfer has ended already, and error says why
    /// Starts the timeout anew.
    void arm_deadline();
    /// A phase begins whose time is limited; timed::nothing ends it.
    void arm_phase(timed phase);
    /// These take a piece of the answer, and throw http::error if the answer does not keep to the protocol.
    void take_header_line(std::string_view line);
    void take_body(std::string_view data);
    /// Schedules the task that waits for the transfer, if there is one.
    void notify() noexcept;
    /// Takes what has come of a streamed body, and lets libcurl go on.
    std::string take_piece();
    /// Tells libcurl which directions are paused.
    void update_pause() noexcept;
    /// The answer is known to have come whole.
    bool is_answered() const noexcept { return at == section::rest && answer_left == 0u; }
    /// The header of the final answer is there.
    bool has_head() const noexcept { return at == section::rest && !redirecting; }
    /// Gives the head of the answer.
    http::response take_head();
    void end(std::exception_ptr why) noexcept;
    void end_with(CURLcode code) noexcept;
    /// "GET http://host/": how the messages of errors begin.
    std::string what() const { return target ? method + " " + target->shown : method; }
    const char* phase() const noexcept;

private:
    delay limit_of(timed phase) const noexcept;
    std::int64_t bytes_sent() const noexcept;
    void phase_is_over();
    void take_status_line(std::string_view line);
    std::optional<std::uint64_t> checked_length() const;
    void end_of_header();
    [[noreturn]] void refuse_length() const;
    void add_text(std::string_view data);
    void decode();
    void prepare_redirect();
    void forget_body();
    bool may_repeat(CURLcode code) const noexcept;
    bool closed_early(CURLcode code) const noexcept;
    void begin_message() noexcept;
    void end_message(CURLcode code);
    std::exception_ptr failure(CURLcode code);
};

/// What a request is made of.
struct request_parts {
    std::string method;
    std::string url;
    std::string body;
    bool streaming = false;
    bool uploading = false;
    std::string content_type = {};  // unless the caller's headers have one
};

/// Makes a transfer. An error in the arguments is kept in it, and thrown where it is awaited.
curl_transfer_ptr make_transfer(
    const std::shared_ptr<curl_multi>& multi, request_parts parts, const http::request_options& options);

/// Adds the fields that a session sends unless the caller has given them.
void add_fields(curl_slist*& list, const http::headers& given, const session_settings& s, bool decompress);
/// True if a request has a body, be it an empty one.
bool sends_body(const curl_transfer& t) noexcept;
/// Makes t.fields, the fields of a request for libcurl; null if they are the usual ones of the session. Throws
/// std::bad_alloc.
void set_fields(curl_transfer& t, bool cookies);

/// True if a request may be sent twice, because it does the same as once (RFC 9110, 9.2.2).
bool is_idempotent(std::string_view method) noexcept;

}  // namespace aio::inline v0::detail
