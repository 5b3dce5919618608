#pragma once
// Checks of what WebSockets read that hold for all bytes. Each function gives what is wrong, or an empty string.
// libFuzzer calls them in http_websocket_fuzz.cpp, and http_websocket_fuzz_test.cpp with a fixed sequence of inputs.

#include "http/access.hpp"
#include "http/websocket/handshake.hpp"
#include "http/websocket/state.hpp"

#include <aio/http.hpp>
#include <aio/testing.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

namespace websocket_fuzz {

/// A head of an answer, and the same fields as those of a request.
inline std::string handshake(std::string_view text) {
    using namespace std::string_view_literals;
    const std::optional<aio::detail::response_head> head = aio::detail::parse_response_head(text);
    if (!head) return {};
    if (head->status < 100 || head->status > 999) return "a status that is none";
    for (const auto& [name, value] : head->fields) {
        if (name.empty() || name.find_first_of("\r\n\0 :"sv) != name.npos) return "a bad name: " + name;
        if (value.find_first_of("\r\n\0"sv) != value.npos) return "a bad value: " + value;
    }
    const std::string key = "dGhlIHNhbXBsZSBub25jZQ==";
    try {
        const std::string chosen = aio::detail::check_handshake(*head, key, {"chat"}, "fuzz");
        if (!chosen.empty() && chosen != "chat") return "a subprotocol that nobody asked for";
        if (head->fields["Sec-WebSocket-Accept"] != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") return "a wrong answer was taken";
    } catch (const aio::http::error&) {  // refused
    }
    std::string chosen;
    const aio::http::request request("GET", "/", head->fields);
    const aio::http::response answer = aio::detail::answer_handshake(request, {{"chat"}, {}}, chosen);
    const int status = answer.status();
    if (status != 101 && status != 400 && status != 403 && status != 426) return "a status of no refusal";
    if (status == 101 && head->fields["Sec-WebSocket-Key"].size() != 24) return "a bad key was taken";
    if (status == 101 && head->fields["Sec-WebSocket-Version"] != "13") return "another version was taken";
    return {};
}

/// What a server makes of a client's bytes that come in pieces of this size.
inline aio::coro<std::string> transcript(std::string bytes, std::size_t piece) {
    auto [here, there] = aio::testing::stream_pair({.capacity = 1 << 20});
    aio::http::websocket_options options;
    options.max_message_size = 1000;
    options.close_timeout = std::chrono::seconds(1);
    aio::http::websocket ws(std::make_shared<aio::detail::websocket_state>(
        std::move(there), aio::detail::websocket_settings(true, options), std::string()));
    auto writer = [](aio::stream& s, std::string_view all, std::size_t n) -> aio::coro<> {
        try {
            for (; !all.empty(); all.remove_prefix(std::min(n, all.size()))) {
                co_await s.write(all.substr(0, n));
                co_await aio::sleep(std::chrono::seconds(0));
            }
            s.write_eof();
        } catch (const std::system_error&) {  // refused
        }
    };
    auto writing = aio::create_task(writer(here, bytes, piece));
    std::string all;
    while (auto m = co_await ws.receive()) {
        all += (m->is_text() ? "text " : "bytes ") + m->text() + "\n";
        if (m->size() > 1000) all += "TOO LONG";
        if (m->is_text() && !aio::detail::is_utf8(m->text())) all += "NO UTF-8";
    }
    all += std::to_string(ws.close_code()) + " " + ws.close_reason();
    co_await writing;
    here.abort();
    co_return all;
}

inline std::string frames(std::string_view bytes) {
    const std::string whole = aio::testing::run(transcript(std::string(bytes), 1 << 20), {.virtual_time = true});
    if (whole.find("TOO LONG") != whole.npos || whole.find("NO UTF-8") != whole.npos) return whole;
    for (const std::size_t piece : {1, 3, 64}) {
        const std::string again = aio::testing::run(transcript(std::string(bytes), piece), {.virtual_time = true});
        if (again != whole) return "in pieces of " + std::to_string(piece) + ":\n" + again + "\ninstead of\n" + whole;
    }
    return {};
}

}  // namespace websocket_fuzz
