#pragma once
// JetStream's JSON API, asked over requests: streams, consumers, and what the answers say.

#include "jetstream/client.hpp"
#include "jetstream/json.hpp"

#include <memory>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {

using client_ptr = std::shared_ptr<nats_client>;

/// Asks $JS.API.<what>, and gives the answer: the text of a JSON object. body: JSON, or empty. It is asked again while
/// nobody can answer (no leader, a lost connection), for the connection's request_timeout in all and once more: only
/// for what may be done twice. what must be text of ours. Throws jetstream::error with the server's reason,
/// timeout_error.
coro<std::string> ask_jetstream(client_ptr client, std::string what, std::string body = {});
/// The same, but gives an empty text where the server says that there is no such thing (404).
coro<std::string> find_in_jetstream(client_ptr client, std::string what);

/// Deletes a stream, if there is one.
coro<> delete_stream(client_ptr client, std::string stream);

/// The name of a stream for a name that users give: what a stream's name cannot hold is written as =2E. Throws
/// std::invalid_argument for a name that is empty, or longer than 200 bytes.
std::string stream_name(const std::string& name, const char* what);

/// The status that the server itself says to a consumer; 0 for a message of a stream, whose headers are whatever its
/// publisher has written.
inline nats_status status_of_server(const nats_incoming& m) noexcept {
    return m.reply_to.starts_with("$JS.ACK.") ? nats_status{} : status_of(m);
}

/// The bytes for a text in base64, up to the first character that is none: the padding.
std::string from_base64(std::string_view text);

std::int64_t nanoseconds_of(delay d, std::int64_t without = 0) noexcept;

/// What a server has said to a message that it was to store.
struct stored_reply {
    enum class kind : std::uint8_t { stored, duplicate, full, wrong_revision, nobody, unknown, unavailable, refused };
    kind what = kind::unknown;  // unknown: it may be stored, or not
    std::uint64_t sequence = 0;
    int status = 0, code = 0;
    std::string reason;
};
stored_reply stored_reply_of(const nats_reply& reply);

}  // namespace aio::inline v0::detail
