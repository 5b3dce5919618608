#pragma once
// WebSockets in memory, and a peer that writes and reads frames byte by byte, so that it can break every rule.

#include "aio_test.hpp"

#include "http/access.hpp"
#include "http/body.hpp"
#include "http/websocket/state.hpp"

#include <aio/http.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace aio_test {

inline aio::http::websocket websocket_on(aio::stream s, bool server, const aio::http::websocket_options& options = {}) {
    auto state = std::make_shared<aio::detail::websocket_state>(
        std::move(s), aio::detail::websocket_settings(server, options), std::string());
    state->start_keep_alive();
    return aio::http::websocket(std::move(state));
}

/// Two WebSockets that are connected in memory.
struct websocket_ends {
    aio::http::websocket client, server;
    explicit websocket_ends(const aio::http::websocket_options& options = {}, std::size_t capacity = 65536) {
        auto [here, there] = aio::testing::stream_pair({.capacity = capacity});
        client = websocket_on(std::move(here), false, options);
        server = websocket_on(std::move(there), true, options);
    }
};

struct raw_frame {
    int opcode = 0;
    std::string payload = {};
    bool final_frame = true;
    int reserved = 0;
    bool masked = true;
    int length_bytes = -1;  // 0, 2 or 8 behind the 7 bits; -1: the shortest form
    std::uint64_t announced = std::uint64_t(-1);

    std::string bytes() const {
        const std::uint64_t length = announced != std::uint64_t(-1) ? announced : payload.size();
        const int form = length_bytes >= 0 ? length_bytes : length < 126 ? 0 : length < 65536 ? 2 : 8;
        std::string out;
        out += static_cast<char>((final_frame ? 0x80 : 0) | reserved << 4 | opcode);
        const std::uint64_t seven = form == 0 ? length : form == 2 ? 126 : 127;
        out += static_cast<char>((masked ? 0x80 : 0) | static_cast<int>(seven));
        for (int i = form - 1; i >= 0; --i) out += static_cast<char>(length >> (8 * i));
        const std::string mask = "\x12\x34\x56\x78";
        if (masked) out += mask;
        for (std::size_t i = 0; i < payload.size(); ++i) {
            out += static_cast<char>(masked ? payload[i] ^ mask[i % 4] : payload[i]);
        }
        return out;
    }
};

inline std::string close_payload(int code, std::string_view reason = {}) {
    return std::string{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)} + std::string(reason);
}

/// One end of a connection, byte by byte.
class raw_peer {
public:
    raw_peer(aio::stream s, bool client) noexcept : io(std::move(s)), client_(client) {}
    aio::coro<> send(raw_frame f) {
        f.masked = f.masked && client_;
        co_await io.write(f.bytes());
    }
    aio::coro<> send(int opcode, std::string payload, bool final_frame = true) {
        raw_frame f;
        f.opcode = opcode;
        f.payload = std::move(payload);
        f.final_frame = final_frame;
        co_await send(std::move(f));
    }
    /// The next frame; its opcode is -1 at the end of the connection.
    aio::coro<raw_frame> read() {
        raw_frame f;
        f.opcode = -1;
        std::string head;
        try {
            head = co_await io.read_exactly(2);
            const auto at = [&](std::size_t i) { return static_cast<unsigned char>(head[i]); };
            f.final_frame = at(0) & 0x80;
            f.reserved = at(0) >> 4 & 7;
            f.masked = at(1) & 0x80;
            std::uint64_t length = at(1) & 0x7f;
            const int more = length == 126 ? 2 : length == 127 ? 8 : 0;
            if (more > 0) {
                const std::string bytes = co_await io.read_exactly(static_cast<std::size_t>(more));
                length = 0;
                for (const char c : bytes) length = length << 8 | static_cast<unsigned char>(c);
            }
            std::string mask;
            if (f.masked) mask = co_await io.read_exactly(4);
            f.payload = co_await io.read_exactly(length);
            for (std::size_t i = 0; f.masked && i < f.payload.size(); ++i) {
                f.payload[i] = static_cast<char>(f.payload[i] ^ mask[i % 4]);
            }
            f.opcode = at(0) & 15;
        } catch (const aio::incomplete_read_error&) {}
        EXPECT_TRUE(f.opcode == -1 || f.masked != client_) << "a client masks, a server does not";
        co_return f;
    }
    /// The code of the close frame that comes next, behind pongs and messages: 0 for one without a code, -1 for none.
    aio::coro<int> closed_with() {
        for (;;) {
            const raw_frame f = co_await read();
            if (f.opcode == -1) co_return -1;
            if (f.opcode != 8) continue;
            if (f.payload.size() < 2) co_return 0;
            co_return static_cast<unsigned char>(f.payload[0]) << 8 | static_cast<unsigned char>(f.payload[1]);
        }
    }
    aio::stream io;

private:
    bool client_;
};

/// A WebSocket whose peer is raw.
struct raw_ends {
    aio::http::websocket ws;
    raw_peer peer;
    explicit raw_ends(
        bool server = true, const aio::http::websocket_options& options = {}, std::size_t capacity = 65536)
        : raw_ends(aio::testing::stream_pair({.capacity = capacity}), server, options) {}

private:
    raw_ends(std::pair<aio::stream, aio::stream> both, bool server, const aio::http::websocket_options& options)
        : ws(websocket_on(std::move(both.first), server, options)), peer(std::move(both.second), server) {}
};

/// A proper handshake of a client.
inline aio::http::request websocket_request(aio::http::headers more = {}, std::string target = "/chat") {
    aio::http::headers fields("Host", "example.org", "Upgrade", "websocket", "Connection", "keep-alive, Upgrade",
        "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version", "13");
    for (const auto& [name, value] : more) fields.set(name, value);
    return aio::http::request("GET", std::move(target), std::move(fields));
}

/// What a server's engine does with an accepted WebSocket.
inline aio::coro<> upgrade(aio::http::response answer, aio::stream s) {
    auto special = std::move(aio::detail::http_access::special(answer));
    AIO_REQUIRE(special && special->upgrade);
    co_await special->upgrade(std::move(s));
}

}  // namespace aio_test
