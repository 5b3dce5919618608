// JetStream's JSON API: see api.hpp. The numbers of its errors are in the server's server/errors.json.

#include "jetstream/api.hpp"

#include <aio/errors.hpp>
#include <aio/sleep.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <charconv>

namespace aio::inline v0::detail {
namespace {

constexpr int system_unavailable = 503;

struct api_error {
    int status = 0, code = 0;
    std::string reason;
};

api_error error_in(json_view body) {
    const json_view error = body["error"];
    if (!error.is_object()) return {};
    api_error e{error["code"].number(500), error["err_code"].number(0), error["description"].string()};
    if (e.reason.empty()) e.reason = "error " + std::to_string(e.status);
    return e;
}

/// The server says 503 for what comes back (no leader yet) and for what does not (JetStream is not enabled). With
/// 10005, "no suitable peers for placement", a cluster has too few servers for the replicas: one may be just starting.
bool may_come_back(const api_error& e) noexcept {
    if (e.code == 10005) return true;
    return e.status == system_unavailable && e.code != 10039 && e.code != 10076 && e.code != 10023;
}

/// The answer; empty, and the reason, if there is none but may be one later. Throws what a server has refused.
std::string said_by(nats_reply& reply, const std::string& what, std::string& why) {
    if (reply.what != nats_reply::kind::answered) {
        why = reply.what == nats_reply::kind::lost ? "the connection was lost" : "no answer";
        return {};
    }
    if (reply.status != 0) {
        why = "nobody answers: JetStream is not enabled there, or has no leader";
        return {};
    }
    const json_view said = json_view::of(reply.data);
    if (!said.is_object()) throw jetstream::error("the answer to " + what + " is no JSON");
    const api_error e = error_in(said);
    if (e.status == 0) return std::move(reply.data);
    if (!may_come_back(e)) throw jetstream::error(what + ": " + e.reason, e.status, e.code);
    why = e.reason;
    return {};
}

}  // namespace

coro<std::string> ask_jetstream(client_ptr client, std::string what, std::string body) {
    const std::string subject = "$JS.API." + what;
    const delay limit = client->settings().numbers.request_timeout;
    const time_point began = get_running_loop().time();
    const time_point last = limit.has_value() ? limit.from(began) : time_point::max();
    std::string why = "no answer";
    std::chrono::milliseconds pause{10};
    std::chrono::nanoseconds patience = std::chrono::seconds(1);
    for (;;) {
        if (!client->is_ready()) co_await wait_for(client->ready(), limit);
        // A cluster without a leader does not answer at all: it is asked again before the limit.
        const delay wait = limit.has_value() ? std::min(patience, limit.value()) : patience;
        nats_answer answer(*client, wait);
        patience *= 2;
        client->send(subject, answer.inbox(), {}, body);
        nats_reply reply = co_await answer;
        if (reply.what == nats_reply::kind::closed) client->check_open();
        std::string said = said_by(reply, what, why);
        if (!said.empty()) co_return said;
        if (get_running_loop().time() >= last) {
            if (reply.what == nats_reply::kind::timed_out) throw timeout_error("jetstream: " + what + ": " + why);
            throw jetstream::error(what + ": " + why, system_unavailable);
        }
        co_await sleep(pause);
        pause = std::min(pause * 2, std::chrono::milliseconds(250));
    }
}

coro<std::string> find_in_jetstream(client_ptr client, std::string what) {
    try {
        co_return co_await ask_jetstream(client, std::move(what));
    } catch (const jetstream::error& e) {
        if (e.status() != 404) throw;
    }
    co_return std::string();
}

coro<> delete_stream(client_ptr client, std::string stream) {
    std::string what = "STREAM.DELETE." + stream;
    co_await find_in_jetstream(std::move(client), std::move(what));
}

std::string stream_name(const std::string& name, const char* what) {
    if (name.empty() || name.size() > 200) {
        throw std::invalid_argument(std::string(what) + ": the name is empty, or longer than 200 bytes");
    }
    static constexpr char digits[] = "0123456789ABCDEF";
    std::string encoded;
    for (const char c : name) {
        const bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        if (plain) {
            encoded += c;
        } else {
            const auto byte = static_cast<unsigned char>(c);
            encoded.append(1, '=').append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
        }
    }
    return encoded;
}

std::string from_base64(std::string_view text) {
    std::string bytes;
    bytes.reserve(text.size() / 4 * 3);
    std::uint32_t bits = 0;
    int count = 0;
    for (const char c : text) {
        std::uint32_t value = 0;
        if (c >= 'A' && c <= 'Z') {
            value = static_cast<std::uint32_t>(c - 'A');
        } else if (c >= 'a' && c <= 'z') {
            value = static_cast<std::uint32_t>(c - 'a' + 26);
        } else if (c >= '0' && c <= '9') {
            value = static_cast<std::uint32_t>(c - '0' + 52);
        } else if (c == '+' || c == '/') {
            value = c == '+' ? 62 : 63;
        } else {
            break;  // the padding
        }
        bits = bits << 6 | value;
        count += 6;
        if (count < 8) continue;
        count -= 8;
        bytes += static_cast<char>(bits >> count & 0xff);
    }
    return bytes;
}

std::int64_t nanoseconds_of(delay d, std::int64_t without) noexcept {
    return d.has_value() ? std::chrono::nanoseconds(d.value()).count() : without;
}

stored_reply stored_reply_of(const nats_reply& reply) {
    using kind = stored_reply::kind;
    stored_reply r;
    if (reply.what != nats_reply::kind::answered) return r;
    if (reply.status != 0) {
        r.what = reply.status == system_unavailable ? kind::nobody : kind::refused;
        r.status = reply.status;
        r.reason = "status " + std::to_string(reply.status);
        return r;
    }
    // The usual answer is {"stream":"orders","seq":7}: it is read without building anything.
    const std::size_t at = reply.data.find("\"seq\":");
    if (at != std::string::npos && reply.data.find("\"error\"") == std::string::npos) {
        const char* const end = reply.data.data() + reply.data.size();
        const char* digits = reply.data.data() + at + 6;
        while (digits != end && *digits == ' ') ++digits;
        std::from_chars(digits, end, r.sequence);
        const bool again = reply.data.find("\"duplicate\":", at) != std::string::npos &&
            reply.data.find("true", at) != std::string::npos;
        r.what = again ? kind::duplicate : kind::stored;
        return r;
    }
    const json_view said = json_view::of(reply.data);
    const api_error e = said.is_object() ? error_in(said) : api_error{500, 0, "the answer is no JSON"};
    r.status = e.status;
    r.code = e.code;
    r.reason = e.reason;
    if (e.code == 10077 || e.reason.find("maximum messages exceeded") != std::string::npos) {
        r.what = kind::full;
    } else if (e.code == 10071) {
        r.what = kind::wrong_revision;
    } else if (may_come_back(e) || e.code == 10158) {  // 10158: the same message is being stored right now
        r.what = kind::unavailable;
    } else {
        r.what = kind::refused;
    }
    return r;
}

}  // namespace aio::inline v0::detail
