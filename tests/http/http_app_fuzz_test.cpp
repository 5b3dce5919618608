// Runs the checks of http_app_fuzz.hpp on a fixed sequence of inputs, as http_fuzz_test.cpp does those of
// http_fuzz.hpp.

#include "http_app_fuzz.hpp"
#include "aio_test.hpp"
#include "http_replay.hpp"

using http_fuzz::replay;

PLAIN_TEST("fuzz: multipart bodies") {
    const std::string part = "Content-Disposition: form-data; name=\"a\"; filename=\"b\\\"c\"\r\n\r\nbody";
    replay({"--XYZ\r\n" + part + "\r\n--XYZ\r\n" + part + "\r\n--XYZ--\r\n", "--XYZ--", "pre\r\n--XYZ \t\r\n" + part,
               "--XYZ\r\n" + part + "\r\n--XY\r\n--XYZ-\r\n\r\r\n--XYZ--end\r\n--XYZ\r\n", "\r\n--XYZ\r\n\r\n",
               "--XYZ\r\nContent-Disposition: form-data; name=a; filename*=UTF-8''%e2%82%ac\r\nX:y\r\n\r\n\r\n--XYZ--",
               "form-data; name=\"x\"; a=b; A=c;;d=\"\\\\\""},
        &http_fuzz::multipart);
}

PLAIN_TEST("fuzz: cookies, and where redirects lead") {
    replay({"a=1; b=\"2\"; c", "=x;; =", "n=v; Path=/; Domain=x", "/path/;x", "sub.example.org",
               "https://example.org/\\ x?y#z", "__Host-a=b=c"},
        &http_fuzz::cookie);
}

PLAIN_TEST("fuzz: ranges, tags, dates and encodings") {
    replay({"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=0-0,-1", "bytes=18446744073709551615-18446744073709551616",
               "\"tag\"", "W/\"tag\", \"a,b\"", "*", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
               "Sun Nov  6 08:49:37 1994", "gzip;q=0.5, *;q=0, identity;q=1.000", "x-gzip ; q=0.1,,br"},
        &http_fuzz::conditions);
}

PLAIN_TEST("fuzz: patterns, and the search for a route") {
    replay({"/", "/a/{x}/b", "/c/{t...}", "/a b/{x}", "/{x}/{y}/", "", "/a/b/c", "/a/%62/b", "/x/b/y", "/c/", "/a//b",
               "http://h/a/x?y#z", "/%61/x%2Fy/z/", "/a/b/", "/{x...}/", "/}{"},
        &http_fuzz::route);
}
