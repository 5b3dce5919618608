// Runs the checks of the HTTP fuzzers in tests/whole/fuzz on a fixed sequence of inputs: pieces of good and bad
// messages, mixed and damaged.

#include "http_fuzz.hpp"
#include "aio_test.hpp"
#include "http_corpus.hpp"
#include "http_replay.hpp"

using http_fuzz::replay;

PLAIN_TEST("fuzz: requests") {
    std::vector<std::string> seeds;
    for (auto& [text, status] : aio_test::request_corpus()) seeds.push_back(text.substr(0, 2000));
    replay(seeds, &http_fuzz::request);
}

PLAIN_TEST("fuzz: targets, and the decoding of paths and queries") {
    replay({"/", "*", "/a%20b/c+d?a=J%C3%BCrgen+M&flag&q=&a%3Db=c&broken=%zz&a=2#part", "http://host:80/x/y?z=1",
               "https://[::1]", "/?q", "//h/..//%2e%2E/%00", "?a=1", "a=1", "/%zz", "http://u:p@h/", "h:80"},
        &http_fuzz::target);
}

PLAIN_TEST("fuzz: answers") {
    const std::string ok = "HTTP/1.1 200 OK\r\n";
    // The text "a", as gzip and as deflate.
    const std::string gzip("\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x04\0\x43\xbe\xb7\xe8\x01\0\0\0", 21);
    const std::string deflate("\x78\x9c\x4b\x04\0\0\x62\0\x62", 9);
    replay(
        {ok + "Content-Length: 4\r\nX: a\r\n b\r\n\r\nbody", "HTTP/1.1 100 Continue\r\n\r\n" + ok + "\r\nbody",
            "HTTP/2 404 \r\nx: y\r\n\r\n", ok + "Content-Encoding: gzip\r\n\r\n" + gzip + gzip + std::string(9, '\0'),
            ok + "Content-Encoding: deflate\r\n\r\n" + deflate, ok + "Content-Encoding: deflate, gzip\r\n\r\n" + gzip,
            ok + "Content-Length: 4, 4\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\nbody",
            ok + "Transfer-Encoding: chunked\r\n\r\nbody", "HTTP/1.1 999 X\r\n\r\n"},
        &http_fuzz::response);
}

PLAIN_TEST("fuzz: URLs") {
    replay({"http://host/", "https://user:word@host:8443/a/../b?c=d#e", "http://[::1]:80/",
               "http://h/b\xc3\xbc?q=\xc3\xbc", "http:/h", "http:///h", "ftp://h/", "http://%41/",
               "http://b\xc3\xbc.example/", "http://h:99999/", "http://a@b@c/", "http://127.1/", "h/x@y", "/path", "",
               ":hunter2\xac"},
        &http_fuzz::url);
}
