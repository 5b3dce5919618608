#pragma once
// What servers in the tests of the client do with a connection, well-behaved and not, for raw_server; and what the
// tests ask of requests that fail.

#include "http_raw.hpp"

#include <aio/http.hpp>
#include <aio/sleep.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

namespace aio_test {

inline std::string header_of(const std::string& request, const std::string& name) {
    const std::size_t at = request.find("\r\n" + name + ": ");
    if (at == request.npos) return {};
    const std::size_t begin = at + name.size() + 4;
    return request.substr(begin, request.find("\r\n", begin) - begin);
}

inline aio::coro<std::string> read_request(raw_connection& c) {
    std::string head = co_await c.read_until("\r\n\r\n");
    const std::string length = header_of(head, "Content-Length");
    if (!length.empty()) head += co_await c.read_exactly(std::stoul(length));
    co_return head;
}

inline std::string answer(const std::string& body, const std::string& more = {}, const std::string& status = "200 OK") {
    return "HTTP/1.1 " + status + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + more + "\r\n" + body;
}

/// Answers each request with the request's own text.
inline aio::coro<> echoes(raw_connection c) {
    for (;;) {
        const std::string request = co_await read_request(c);
        if (request.empty()) co_return;
        co_await c.write(answer(request, "X-Twice: a\r\nx-twice: b\r\nContent-Type: text/plain\r\n"));
    }
}

inline int connections_made = 0;
inline aio::coro<> counts_connections(raw_connection c) {
    ++connections_made;
    co_await echoes(std::move(c));
}

inline aio::coro<> hangs(raw_connection c) { co_await c.read_to_end(); }
inline aio::coro<> hangs_in_the_header(raw_connection c) {
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\nContent-Len");
    co_await c.read_to_end();
}
inline aio::coro<> hangs_in_the_body(raw_connection c) {
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning");
    co_await c.read_to_end();
}
inline aio::coro<> resets(raw_connection c) {
    co_await read_request(c);
    c.reset();
}
inline aio::coro<> says_nothing(raw_connection c) { co_await read_request(c); }
inline aio::coro<> cuts_the_body_short(raw_connection c) {
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!");
}
inline aio::coro<> cuts_the_chunks_short(raw_connection c) {
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nfive!");
}
inline aio::coro<> talks_garbage(raw_connection c) {
    co_await read_request(c);
    co_await c.write("\x01\x02 this is no HTTP\r\n\r\n");
}
inline aio::coro<> never_ends_its_headers(raw_connection c) {
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\n");
    for (;;) co_await c.write("X-Filler: " + std::string(1000, 'x') + "\r\n");
}
inline aio::coro<> never_ends_its_body(raw_connection c) {
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\n\r\n");
    for (;;) co_await c.write(std::string(10000, 'x'));
}
inline aio::coro<> redirects(raw_connection c) {
    for (;;) {
        const std::string request = co_await read_request(c);
        if (request.empty()) co_return;
        const std::size_t space = request.find(' ');
        const std::string path = request.substr(space + 1, request.find(' ', space + 1) - space - 1);
        const auto to = [](const char* status, const std::string& where) {
            return answer("elsewhere", "Location: " + where + "\r\n", status);
        };
        if (path == "/loop") {
            co_await c.write(to("302 Found", "/loop"));
        } else if (path == "/ftp") {
            co_await c.write(to("302 Found", "ftp://127.0.0.1/file"));
        } else if (path == "/302") {
            co_await c.write(to("302 Found", "/end"));
        } else if (path == "/303") {
            co_await c.write(to("303 See Other", "/end"));
        } else if (path == "/307") {
            co_await c.write(to("307 Temporary Redirect", "/end"));
        } else {
            co_await c.write(answer(request));
        }
    }
}
inline aio::coro<> answers_with_status(raw_connection c) {
    for (;;) {
        const std::string request = co_await read_request(c);
        if (request.empty()) co_return;
        co_await c.write(answer("gone\n", {}, request.substr(request.find('/') + 1, 3) + " Whatever"));
    }
}
inline aio::coro<> serves_large(raw_connection c) {
    const std::string request = co_await read_request(c);
    co_await c.write(answer(std::string(10'000'000, 'x')));
}
inline aio::coro<> counts_the_body(raw_connection c) {
    const std::string request = co_await read_request(c);
    const std::size_t body = request.find("\r\n\r\n") + 4;
    const auto good =
        static_cast<std::size_t>(std::count(request.begin() + static_cast<std::ptrdiff_t>(body), request.end(), 'y'));
    co_await c.write(answer(std::to_string(good)));
}
inline aio::coro<> speaks_json(raw_connection c) {
    co_await read_request(c);
    co_await c.write(answer(R"({"packages": [{"name": "zlib"}], "total": 1})"));
}

inline std::string what_of(const std::exception& e) { return e.what(); }
inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

/// Awaits what has to throw an E, and gives its message.
template<class E, class A>
aio::coro<std::string> error_of(A awaited) {
    std::string what = "nothing was thrown";
    try {
        static_cast<void>(co_await std::move(awaited));
        ADD_FAILURE() << what;
    } catch (const E& e) { what = e.what(); } catch (const std::exception& e) {
        ADD_FAILURE() << "another error: " << e.what();
    }
    co_return what;
}

/// Runs the loop until something is so.
template<class Condition>
aio::coro<> until(Condition condition) {
    auto wait = [&]() -> aio::coro<> {
        while (!condition()) co_await aio::sleep(0s);
    };
    co_await aio::wait_for(wait(), 10s);
}

}  // namespace aio_test
