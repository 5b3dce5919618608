#include "websocket_fuzz.hpp"

#include <cstdio>
#include <cstdlib>

// The first byte says what the rest is: an answer to a handshake, or frames.
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::string wrong = data[0] % 2 ? websocket_fuzz::handshake(text) : websocket_fuzz::frames(text);
    if (wrong.empty()) return 0;
    std::fprintf(stderr, "%s\n", wrong.c_str());
    std::abort();
}
