// Runs the checks of the fuzzer of WebSockets on a fixed sequence of inputs: good and bad ones, mixed and damaged.

#include "websocket_ends.hpp"
#include "websocket_fuzz.hpp"

#include <random>

using aio_test::raw_frame;

namespace {

constexpr int inputs = AIO_TEST_SANITIZED ? 500 : 3000;

void replay(const std::vector<std::string>& seeds, std::string (*check)(std::string_view)) {
    std::mt19937 random(42);  // a fixed seed: the same inputs everywhere
    const auto below = [&random](std::size_t n) { return n == 0 ? 0 : random() % n; };
    for (int i = 0; i < inputs; ++i) {
        std::string text = seeds[below(seeds.size())];
        for (std::size_t n = below(4); n > 0; --n) text += seeds[below(seeds.size())];
        for (std::size_t changes = below(4); changes > 0; --changes) {
            const std::size_t at = below(text.size());
            switch (below(4)) {
                case 0: text.insert(at, 1, static_cast<char>(random())); break;
                case 1: text.erase(at, 1 + below(4)); break;
                case 2: text.insert(at, text.substr(at, below(20))); break;
                default: text[at] = static_cast<char>(random());
            }
            if (text.empty()) break;
        }
        const std::string wrong = check(text);
        EXPECT_EQ(wrong, "") << "input " << i << ":\n" << text;
        if (!wrong.empty()) return;
    }
}

}  // namespace

PLAIN_TEST("fuzz: the handshake of WebSockets") {
    const std::string ok = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    replay(
        {ok + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
            ok + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nHost: h\r\n\r\n",
            ok +
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: https://h:443\r\n"
                "Host: h\r\nSec-WebSocket-Protocol: chat, superchat\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n", "\r\n", "HTTP/1.1 200\r\nA:b\r\n\r\n"},
        &websocket_fuzz::handshake);
}

PLAIN_TEST("fuzz: frames of WebSockets, in pieces of all sizes") {
    std::vector<std::string> seeds;
    for (const int opcode : {1, 2, 0, 9, 10}) {
        seeds.push_back(raw_frame{.opcode = opcode,
            .payload = "payl\xc3\xb6"
                       "ad"}
                .bytes());
        seeds.push_back(raw_frame{.opcode = opcode}.bytes());
        if (opcode < 8)
            seeds.push_back(raw_frame{.opcode = opcode, .payload = "part \xe2\x82", .final_frame = false}.bytes());
    }
    seeds.push_back(raw_frame{.opcode = 0, .payload = "\xac rest"}.bytes());
    seeds.push_back(raw_frame{.opcode = 1, .payload = std::string(300, 'x')}.bytes());
    seeds.push_back(raw_frame{.opcode = 2, .payload = std::string(999, '\xff')}.bytes());
    seeds.push_back(raw_frame{.opcode = 8, .payload = aio_test::close_payload(1000, "bye")}.bytes());
    replay(seeds, &websocket_fuzz::frames);
}
