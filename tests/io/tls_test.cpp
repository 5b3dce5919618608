// TLS in memory: two streams that are connected in memory, or over a relay that cuts the connection at a given byte.
// No descriptor and no real time is needed. tls_socket_test.cpp and tls_peers_test.cpp have the rest.

#include <aio/tls.hpp>

#include "aio_test.hpp"
#include "certificates.hpp"
#include "tls_ends.hpp"

#include <array>
#include <cerrno>
#include <fstream>
#include <random>

namespace {

using namespace aio_test;

std::string pattern(std::size_t size, unsigned seed = 1) {
    std::minstd_rand random(seed);
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>('a' + random() % 26);
    return bytes;
}

}  // namespace

// ---- data

AIO_TEST("lines go there and back, and the end comes after the last one") {
    for (const aio::tls_version version : {aio::tls_version::v1_2, aio::tls_version::v1_3}) {
        tls_ends e = co_await secured(version);
        co_await e.client.write("one\ntwo\nth");
        EXPECT_EQ(co_await e.server.read_line(), "one\n");
        EXPECT_EQ(co_await e.server.read_line(), "two\n");
        co_await e.server.write("back\n");
        co_await e.client.write("ree");
        e.client.write_eof();
        EXPECT_EQ(co_await e.server.read_line(), "three");
        EXPECT_EQ(co_await e.server.read_line(), "");
        co_await e.server.write("still\n");  // the other direction is open
        EXPECT_EQ(co_await e.client.read_line(), "back\n");
        EXPECT_EQ(co_await e.client.read_line(), "still\n");
        co_await e.server.aclose();
        EXPECT_EQ(co_await e.client.read(100), "");
        EXPECT_EQ(co_await e.client.read(100), "");
    }
}

AIO_TEST("much goes both ways at the same time, through little room, and arrives whole") {
    for (const std::size_t capacity : {std::size_t(1), std::size_t(5000), std::size_t(1 << 20)}) {
        const std::size_t size = capacity == 1 ? 20'000 : 700'000;
        tls_ends e = co_await secured(aio::tls_version::v1_3, capacity);
        const std::string question = pattern(size, 1), answer = pattern(size + 1000, 2);
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            tg.create_task([&]() -> aio::coro<> {
                co_await e.client.write(question);
                e.client.write_eof();
            });
            tg.create_task([&]() -> aio::coro<> {
                co_await e.server.write(answer);
                e.server.write_eof();
            });
            EXPECT_TRUE(co_await e.server.read() == question);
            EXPECT_TRUE(co_await e.client.read() == answer);
        });
    }
}

AIO_TEST("writes of many tasks come in the order in which they began, each whole") {
    tls_ends e = co_await secured(aio::tls_version::v1_3, 3000);
    std::string all;
    std::vector<std::string> texts;
    for (unsigned i = 0; i < 60; ++i) all += texts.emplace_back(pattern(i % 7 == 0 ? 30'000 : i, i + 1));
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        for (const std::string& t : texts) tg.create_task(e.client.write(t));
        EXPECT_TRUE(co_await e.server.read_exactly(all.size()) == all);
    });
}

AIO_TEST("a write completes when its last encrypted byte has gone out, and not before") {
    tls_ends e = co_await secured(aio::tls_version::v1_3, 1000);
    const std::string text = pattern(3000);
    auto writing = aio::create_task(e.client.write(text));
    co_await turns(5);
    EXPECT_FALSE(writing.done());
    EXPECT_TRUE(co_await e.server.read_exactly(text.size()) == text);
    co_await writing;
    co_await e.client.aclose();
    EXPECT_EQ(co_await e.server.read(), "");
}

AIO_TEST("a reader that is cancelled leaves every byte to the next one") {
    tls_ends e = co_await secured();
    auto reading = aio::create_task(e.server.read_exactly(10));
    co_await turns(2);
    co_await e.client.write("01234");
    co_await turns(2);
    reading.cancel();
    EXPECT_THROW(co_await reading, aio::cancelled_error);
    co_await e.client.write("56789");
    EXPECT_EQ(co_await e.server.read_exactly(10), "0123456789");
}

AIO_TEST("a write that is cancelled half-way tears the stream, and the peer reads no clean end") {
    tls_ends e = co_await secured(aio::tls_version::v1_3, 5000);
    const std::string much = pattern(1 << 20);
    auto first = aio::create_task(e.client.write(much));
    auto second = aio::create_task(e.client.write("behind"));
    co_await turns(3);
    first.cancel();
    EXPECT_THROW(co_await first, aio::cancelled_error);
    EXPECT_THROW(co_await second, std::logic_error);
    co_await e.client.aclose();
    EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { static_cast<void>(co_await e.server.read()); }), ECONNRESET);
}

AIO_TEST("a write that is cancelled before its first byte leaves the line as it was") {
    tls_ends e = co_await secured(aio::tls_version::v1_3, 5000);
    const std::string much = pattern(200'000);
    auto first = aio::create_task(e.client.write(much));
    auto second = aio::create_task(e.client.write("never"));
    auto third = aio::create_task(e.client.write("third"));
    co_await turns(3);
    second.cancel();
    EXPECT_THROW(co_await second, aio::cancelled_error);
    EXPECT_TRUE(co_await e.server.read_exactly(much.size()) == much);
    co_await first;
    co_await third;
    EXPECT_EQ(co_await e.server.read(100), "third");
}

AIO_REAL_TEST("a file is sent, encrypted") {
    const folder f;
    const std::string much = pattern(1'000'000);
    f.write("file", much);
    tls_ends e = co_await secured();
    aio::file file = co_await aio::open_file(f.path("file"));
    auto sending = aio::create_task([&]() -> aio::coro<> {
        EXPECT_EQ(co_await e.client.send_file(file, 0), much.size());
        co_await e.client.aclose();
    });
    EXPECT_TRUE(co_await e.server.read() == much);
    co_await sending;
    co_await file.aclose();
}

AIO_TEST("an end that came together with the last data is seen, although the connection stays open") {
    tls_ends e = co_await secured();
    co_await e.client.write("all of it");
    e.client.write_eof();  // close_notify, and no end of the transport
    std::array<std::byte, 65536> block;
    EXPECT_EQ(co_await e.server.read_some(block), 9u);
    EXPECT_EQ(co_await e.server.read_some(block), 0u);
    co_await e.server.write("answer");
    e.server.write_eof();
    EXPECT_EQ(co_await e.client.read(), "answer");
}

AIO_TEST("an empty read and an empty write complete at once") {
    tls_ends e = co_await secured();
    EXPECT_EQ(co_await e.client.read(0), "");
    std::array<std::byte, 1> none{};
    EXPECT_EQ(co_await e.client.read_some(std::span(none).first(0)), 0u);
    co_await e.client.write("");
    co_await e.client.write("x");
    EXPECT_EQ(co_await e.server.read(0), "");
    EXPECT_EQ(co_await e.server.read(10), "x");
}

// bumptech/stud#149, libevent#854, curl#17596: what OpenSSL holds is not told by the kernel.
AIO_TEST("a record that is read in small pieces comes whole, without a further word of the peer's") {
    tls_ends e = co_await secured();
    const std::string text = pattern(40'000);
    co_await e.client.write(text);
    std::string got;
    std::array<std::byte, 3000> block;
    while (got.size() < text.size()) {
        if (got.size() % 2 == 0) got += co_await e.server.read(7);
        if (got.size() == text.size()) break;
        const std::size_t n = co_await e.server.read_some(block);
        got.append(reinterpret_cast<const char*>(block.data()), n);
        if (got.size() < text.size()) got += co_await e.server.read_exactly(1);
    }
    EXPECT_TRUE(got == text);
}

AIO_TEST("a second reader is told of its mistake") {
    tls_ends e = co_await secured();
    auto reading = aio::create_task(e.client.read_line());
    co_await turns(2);
    EXPECT_THROW(co_await e.client.read(1), std::logic_error);
    co_await e.server.write("x\n");
    EXPECT_EQ(co_await reading, "x\n");
}

AIO_TEST("aclose comes after what is being written, and does not wait for the peer's goodbye") {
    tls_ends e = co_await secured(aio::tls_version::v1_3, 5000);
    const std::string much = pattern(100'000);
    auto writing = aio::create_task(e.client.write(much));
    auto closing = aio::create_task(e.client.aclose());
    EXPECT_TRUE(co_await e.server.read() == much);
    co_await writing;
    co_await closing;
    EXPECT_TRUE(e.client.detail_state()->closed());
    EXPECT_EQ(e.client.tls(), std::nullopt);
}

// boostorg/asio#164, apple/swift-nio-ssl#96, aiohttp#11091: a close that waits for the peer's answer may wait for ever.
AIO_TEST("aclose takes no time if the peer says nothing at all any more") {
    tls_ends e = co_await secured();
    const auto began = aio::get_running_loop().time();
    co_await e.client.write("good night");
    co_await e.client.aclose();
    EXPECT_EQ(aio::get_running_loop().time(), began);
    EXPECT_EQ(co_await e.server.read(), "good night");
}

AIO_TEST("aclose waits for room for its goodbye, but not for ever") {
    tls_ends e = co_await secured(aio::tls_version::v1_3, 100);
    auto writing = aio::create_task(e.client.write(pattern(78)));  // with what TLS adds, there is no room left
    co_await turns(3);
    EXPECT_TRUE(writing.done());
    const auto began = aio::get_running_loop().time();
    co_await e.client.aclose();
    EXPECT_EQ(aio::get_running_loop().time() - began, 30s);
    EXPECT_NE(co_await message_of([&]() -> aio::coro<> { static_cast<void>(co_await e.server.read()); }), "nothing");
}

AIO_TEST("closing while others read and write ends them") {
    tls_ends e = co_await secured(aio::tls_version::v1_3, 5000);
    auto reading = aio::create_task(e.client.read_line());
    auto writing = aio::create_task(message_of([&]() -> aio::coro<> { co_await e.client.write(pattern(1 << 20)); }));
    auto closing = aio::create_task(e.client.aclose());
    co_await turns(3);
    closing.cancel();
    EXPECT_THROW(co_await closing, aio::cancelled_error);
    EXPECT_EQ(co_await reading, "");
    EXPECT_NE((co_await writing).find("Broken pipe"), std::string::npos);
}

AIO_TEST("abort ends everything with ECONNABORTED, and the peer sees no clean end") {
    tls_ends e = co_await secured(aio::tls_version::v1_3, 5000);
    auto reading = aio::create_task(errno_of([&]() -> aio::coro<> { static_cast<void>(co_await e.client.read(1)); }));
    auto writing = aio::create_task(errno_of([&]() -> aio::coro<> { co_await e.client.write(pattern(1 << 20)); }));
    co_await turns(3);
    e.client.abort();
    EXPECT_EQ(co_await reading, ECONNABORTED);
    EXPECT_EQ(co_await writing, ECONNABORTED);
    EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { static_cast<void>(co_await e.server.read()); }), ECONNRESET);
}

AIO_TEST("a stream that is dropped says goodbye, so the peer reads a clean end") {
    tls_ends e = co_await secured();
    co_await e.client.write("last words");
    e.client = aio::stream();
    EXPECT_EQ(co_await e.server.read(), "last words");
}

// ---- what was agreed on

AIO_TEST("tls() says what was agreed on") {
    pki& p = certificates();
    aio::tls_context client = p.client();
    client.alpn("h2", "http/1.1").certificate(p.user.chain, p.user.key);
    aio::tls_context server = p.server();
    server.alpn("http/1.1", "h2").request_client_certificate(p.root.pem());
    tls_ends e = co_await secured_by(client, server);
    const auto here = e.client.tls(), there = e.server.tls();
    AIO_REQUIRE(here && there);
    EXPECT_EQ(here->version, aio::tls_version::v1_3);
    EXPECT_EQ(here->cipher, "TLS_AES_256_GCM_SHA384");
    EXPECT_EQ(here->alpn, "http/1.1");  // the server's choice
    EXPECT_EQ(here->peer_subject, "CN=localhost");
    EXPECT_EQ(there->alpn, "http/1.1");
    EXPECT_EQ(there->peer_subject, "CN=a user\\, Grüße");
    EXPECT_FALSE(here->resumed);
    aio::stream plain = aio::testing::stream_pair().first;
    EXPECT_EQ(plain.tls(), std::nullopt);
}

AIO_TEST("the older version is spoken where one side knows no newer one, and refused below the minimum") {
    tls_ends e = co_await secured(aio::tls_version::v1_2);
    EXPECT_EQ(e.client.tls()->version, aio::tls_version::v1_2);
    pki& p = certificates();
    aio::tls_context strict = p.client();
    strict.minimum_version(aio::tls_version::v1_3);
    const auto [here, there] = co_await failures(strict, old_server());
    EXPECT_EQ(here, "TLS handshake with localhost: the peer refuses: protocol version");
    EXPECT_EQ(there, "TLS handshake with a stream in memory: the peers have no version of TLS in common");
}

AIO_TEST("a server refuses a client that offers other protocols only") {
    aio::tls_context client = certificates().client(), server = certificates().server();
    client.alpn("spdy/1");
    server.alpn("h2");
    const auto [here, there] = co_await failures(client, server);
    EXPECT_EQ(here, "TLS handshake with localhost: the peer refuses: no application protocol in common");
    EXPECT_EQ(there, "TLS handshake with a stream in memory: the peers have no application protocol in common");
    tls_ends e = co_await secured_by(certificates().client(), server);  // one that offers none is served
    EXPECT_EQ(e.client.tls()->alpn, "");
}

AIO_TEST("the second connection of a client resumes the first one's session") {
    for (const aio::tls_version version : {aio::tls_version::v1_2, aio::tls_version::v1_3}) {
        const aio::tls_context client = certificates().client();
        const aio::tls_context server = version == aio::tls_version::v1_3 ? certificates().server() : old_server();
        for (int i = 0; i < 4; ++i) {
            tls_ends e = co_await secured_by(client, server);
            EXPECT_EQ(e.client.tls()->resumed, i > 0);
            EXPECT_EQ(e.server.tls()->resumed, i > 0);
            EXPECT_EQ(e.client.tls()->peer_subject, "CN=localhost");
            co_await e.client.write("x");
            EXPECT_EQ(co_await e.server.read(1), "x");
            co_await e.server.aclose();
            EXPECT_EQ(co_await e.client.read(), "");
        }
    }
}

AIO_TEST("a session is resumed with the host that it was made with, and not once the context has changed") {
    aio::tls_context client = certificates().client();
    const aio::tls_context server = certificates().server();
    {
        tls_ends e = co_await secured_by(client, server);
        co_await e.server.aclose();
        EXPECT_EQ(co_await e.client.read(), "");
    }
    {
        tls_ends other = co_await secured_by(client, server, "127.0.0.1");
        EXPECT_FALSE(other.client.tls()->resumed);
    }
    client.reload();
    tls_ends e = co_await secured_by(client, server);
    EXPECT_FALSE(e.client.tls()->resumed);
}

// ---- certificates

AIO_TEST("each reason for which a certificate is refused is told in a sentence") {
    pki& p = certificates();
    struct row {
        const char* why;
        identity shown;
        const char* name;
        const char* message;
    };
    const authority other("another root"), middle("a middle authority", p.root);
    const certificate_wish expired = {.not_after = "20260101120000Z"}, early = {.not_before = "20980203000000Z"};
    const certificate_wish elsewhere = {.alternatives = "DNS:a.example,DNS:*.b.example,IP:10.0.0.1"};
    const certificate_wish ordinary;
    identity headless = middle.issue(ordinary);
    headless.chain.resize(headless.chain.find("-----END CERTIFICATE-----") + 26);  // without the middle authority's
    const row rows[] = {
        {"expired", p.root.issue(expired), "localhost", "certificate has expired on 2026-01-01"},
        {"early", p.root.issue(early), "localhost", "certificate is not valid before 2098-02-03"},
        {"another host", p.root.issue(elsewhere), "localhost",
            "certificate is for a.example, *.b.example, 10.0.0.1, not for localhost"},
        {"another address", p.root.issue(elsewhere), "10.0.0.2",
            "certificate is for a.example, *.b.example, 10.0.0.1, not for 10.0.0.2"},
        {"a wildcard has one label", p.root.issue(elsewhere), "x.y.b.example",
            "certificate is for a.example, *.b.example, 10.0.0.1, not for x.y.b.example"},
        {"self-signed", authority::self_signed(ordinary), "localhost",
            "certificate is self-signed, and not trusted here"},
        {"another root", other.issue(ordinary), "localhost",
            "certificate is signed by \"another root\", whose certificate is neither trusted here nor sent by the "
            "peer"},
        {"no intermediate", headless, "localhost",
            "certificate is signed by \"a middle authority\", whose certificate is neither trusted here nor sent by "
            "the "
            "peer"},
    };
    for (const row& r : rows) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, r.why);
        const auto [here, there] =
            co_await failures(p.client(), aio::tls_context::server(r.shown.chain, r.shown.key), r.name);
        EXPECT_EQ(here, "TLS handshake with " + std::string(r.name) + ": " + r.message);
        EXPECT_EQ(there.find("TLS handshake with a stream in memory: the peer refuses: "), 0u) << there;
    }
}

AIO_TEST("certificates are accepted for their names, wildcards and addresses, and over intermediate authorities") {
    pki& p = certificates();
    const authority middle("a middle authority", p.root);
    const certificate_wish wish = {.alternatives = "DNS:a.example,DNS:*.b.example,IP:10.0.0.1,IP:2001:db8::1"};
    const identity shown = middle.issue(wish);
    const aio::tls_context server = aio::tls_context::server(shown.chain, shown.key);
    for (const char* name : {"a.example", "A.Example", "a.example.", "x.b.example", "10.0.0.1", "2001:db8::1"}) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, name);
        tls_ends e = co_await secured_by(p.client(), server, name);
        EXPECT_EQ(e.client.tls()->peer_subject, "CN=localhost");
    }
    const identity own = authority::self_signed(wish);
    aio::tls_context pinned = aio::tls_context::client();
    pinned.trust_file(own.chain);
    tls_ends e = co_await secured_by(pinned, aio::tls_context::server(own.chain, own.key), "a.example");
    aio::tls_context careless = aio::tls_context::client();
    careless.verify(false);
    tls_ends f = co_await secured_by(careless, server, "anybody.example");
    tls_ends g = co_await secured_by(careless, server, "");
}

AIO_TEST("a server that asks for a certificate refuses a client without one, or with a stranger's") {
    pki& p = certificates();
    for (const aio::tls_version version : {aio::tls_version::v1_2, aio::tls_version::v1_3}) {
        aio::tls_context picky = p.server();
        picky.request_client_certificate(p.root.pem());
        if (version == aio::tls_version::v1_2) picky = older(picky);
        aio::tls_context stranger = p.client();
        const authority other("another root");
        const identity unknown = other.issue({});
        stranger.certificate(unknown.chain, unknown.key);
        const bool late = version == aio::tls_version::v1_3;  // the client's handshake has ended when the server looks
        const auto [none, no_certificate] = co_await failures(p.client(), picky);
        EXPECT_EQ(no_certificate, "TLS handshake with a stream in memory: the peer has shown no certificate");
        EXPECT_EQ(none,
            late ? "TLS read from localhost: the peer refuses: a certificate is required"
                 : "TLS handshake with localhost: the peer refuses: handshake failure");
        const auto [refused, wrong] = co_await failures(stranger, picky);
        EXPECT_EQ(wrong,
            "TLS handshake with a stream in memory: certificate is signed by \"another root\", whose certificate is "
            "neither trusted here nor sent by the peer");
        EXPECT_EQ(refused,
            std::string(late ? "TLS read from" : "TLS handshake with") +
                " localhost: the peer refuses: the certificate's issuer is unknown to it");
    }
}

AIO_TEST("new certificates are for new connections") {
    pki& p = certificates();
    const folder f;
    const authority new_root("a new root");
    f.write("chain.pem", p.host.chain);
    f.write("key.pem", p.host.key);
    aio::tls_context server = aio::tls_context::server(f.path("chain.pem"), f.path("key.pem"));
    tls_ends before = co_await secured_by(p.client(), server);
    const identity fresh = new_root.issue({});
    f.write("chain.pem", fresh.chain);
    EXPECT_THROW(server.reload(), aio::tls_error);  // the key does not fit yet
    tls_ends between = co_await secured_by(p.client(), server);
    f.write("key.pem", fresh.key);
    server.reload();
    EXPECT_EQ((co_await failures(p.client(), server)).first,
        "TLS handshake with localhost: certificate is signed by \"a new root\", whose certificate is neither trusted "
        "here "
        "nor sent by the peer");
    aio::tls_context modern = aio::tls_context::client();
    modern.trust_file(new_root.pem());
    tls_ends after = co_await secured_by(modern, server);
    co_await before.client.write("old\n");
    EXPECT_EQ(co_await before.server.read_line(), "old\n");
}

// ---- contexts

PLAIN_TEST("what cannot be used for a context is refused clearly, without a secret in the message") {
    pki& p = certificates();
    const folder f;
    auto message = [](auto fn) {
        try {
            fn();
        } catch (const aio::tls_error& e) {
            EXPECT_EQ(e.phase(), "configuration");
            EXPECT_EQ(std::string(e.what()), "TLS configuration of " + e.host() + ": " + e.reason());
            return std::string(e.what());
        }
        return std::string("nothing");
    };
    f.write("chain", p.host.chain);
    f.write("key", p.host.key);
    f.write("other key", p.user.key);
    f.write("empty", "");
    f.write("secret", authority::encrypted_key("open sesame"));
    f.write("broken", p.host.chain.substr(0, 200) + "@@@" + p.host.chain.substr(203));
    f.write("broken key", p.host.key.substr(0, 60) + "@" + p.host.key.substr(61));
    auto server = [&](const char* chain, const char* key) {
        return message([&] { aio::tls_context::server(f.path(chain), f.path(key)); });
    };
    const std::string of = "TLS configuration of " + f.path("");
    EXPECT_EQ(server("chain", "key"), "nothing");
    EXPECT_EQ(server("missing", "key"), of + "missing: No such file or directory");
    EXPECT_EQ(server("chain", "missing"), of + "missing: No such file or directory");
    EXPECT_EQ(server("", "key"), of + ": Is a directory");
    EXPECT_EQ(server("empty", "key"), of + "empty: no certificate in PEM format is in it");
    EXPECT_EQ(server("key", "key"), of + "key: no certificate in PEM format is in it");
    EXPECT_EQ(server("chain", "empty"), of + "empty: no private key in PEM format is in it");
    EXPECT_EQ(server("chain", "chain"), of + "chain: no private key in PEM format is in it");
    EXPECT_EQ(server("chain", "other key"),
        of + "other key: the private key does not belong to the certificate in " + f.path("chain"));
    EXPECT_EQ(server("chain", "secret"),
        of + "secret: the private key is encrypted; decrypt it, for example with openssl pkey");
    EXPECT_EQ(server("broken", "key").find(of + "broken: certificate 1 is broken: "), 0u) << server("broken", "key");
    EXPECT_EQ(
        server("chain", "broken key").find(of + "broken key: the private key is broken, or of an unknown kind"), 0u);
    EXPECT_EQ(server("chain", "broken key").find(p.host.key.substr(40, 8)), std::string::npos);
    EXPECT_EQ(message([&] { aio::tls_context::server(p.host.chain, p.user.key); }),
        "TLS configuration of the PEM text: the private key does not belong to the certificate in the PEM text");

    aio::tls_context client = p.client();
    EXPECT_EQ(message([&] { client.trust_file(f.path("missing")); }), of + "missing: No such file or directory");
    EXPECT_EQ(
        message([&] { client.trust_file(f.path("empty")); }), of + "empty: no certificate in PEM format is in it");
    EXPECT_THROW(client.request_client_certificate(p.root.pem()), std::logic_error);
    EXPECT_THROW(client.alpn(""), std::invalid_argument);
    EXPECT_THROW(client.alpn(std::string(256, 'x')), std::invalid_argument);
    EXPECT_THROW(client.trust_file(std::string("a\0b", 3)), std::invalid_argument);
    aio::tls_context own = p.server();
    EXPECT_THROW(own.trust_file(p.root.pem()), std::logic_error);
    EXPECT_THROW(own.verify(false), std::logic_error);
    EXPECT_THROW(aio::tls_context::server("", ""), std::invalid_argument);
    const aio::tls_context gone = std::move(own);
    EXPECT_FALSE(own);
    EXPECT_THROW(own.reload(), std::logic_error);
    EXPECT_TRUE(gone);
    EXPECT_THROW(aio::tls_context().verify(true), std::logic_error);
}

PLAIN_TEST("a tls_error keeps its texts when it is copied, and its code can be compared") {
    const aio::tls_error e(std::make_error_code(std::errc::permission_denied), "handshake", "a.example:443", "no");
    const aio::tls_error copy = e;
    EXPECT_STREQ(copy.what(), "TLS handshake with a.example:443: no");
    EXPECT_EQ(copy.phase(), "handshake");
    EXPECT_EQ(copy.host(), "a.example:443");
    EXPECT_EQ(copy.reason(), "no");
    EXPECT_TRUE(copy.code() == std::errc::permission_denied);
}

// ---- start_tls

AIO_TEST("start_tls goes on where plain text has ended") {
    auto [client, server] = aio::testing::stream_pair();
    co_await client.write("STARTTLS\r\n");
    EXPECT_EQ(co_await server.read_line(), "STARTTLS\r\n");
    co_await server.write("220 go ahead\r\n");
    EXPECT_EQ(co_await client.read_line(), "220 go ahead\r\n");
    const aio::tls_context here = certificates().client(), there = certificates().server();
    co_await aio::gather(client.start_tls(here, "localhost"), server.start_tls(there));
    co_await client.write("EHLO\r\n");
    EXPECT_EQ(co_await server.read_line(), "EHLO\r\n");
    EXPECT_TRUE(client.tls());
}

// CVE-2011-0411: commands that were sent in plain text behind STARTTLS ran as if they had come encrypted.
AIO_TEST("plain text behind STARTTLS is refused") {
    auto [client, server] = aio::testing::stream_pair();
    co_await client.write("STARTTLS\r\nRCPT TO:<x>\r\n");
    EXPECT_EQ(co_await server.read_line(), "STARTTLS\r\n");
    const aio::tls_context there = certificates().server();
    EXPECT_EQ(co_await message_of([&]() -> aio::coro<> { co_await server.start_tls(there); }),
        "TLS handshake with a stream in memory: the peer has sent 13 bytes of plain text behind the beginning of TLS");
    EXPECT_TRUE(server.detail_state()->closed());
    EXPECT_EQ(co_await server.read(), "");
}

// python/cpython#142352: the ClientHello comes in one segment with what a proxy sends before it.
AIO_TEST("a ClientHello that was read ahead begins the handshake") {
    auto [client, client_side] = aio::testing::stream_pair();
    auto [server, server_side] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client(), there = certificates().server();
    auto connecting = aio::create_task(client.start_tls(here, "localhost"));
    const std::string hello = co_await client_side.read(4096);
    co_await server_side.write("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + hello);
    EXPECT_EQ(co_await server.read_line(), "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n");
    auto accepting = aio::create_task(server.start_tls(there));
    co_await client_side.write(co_await server_side.read(8192));
    co_await server_side.write(co_await client_side.read(8192));
    co_await accepting;
    co_await connecting;
    EXPECT_EQ(server.tls()->version, aio::tls_version::v1_3);
}

AIO_TEST("start_tls is refused while the stream is in use, and without a name to verify") {
    auto [client, server] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client();
    auto reading = aio::create_task(client.read_line());
    co_await turns(2);
    EXPECT_THROW(co_await client.start_tls(here, "localhost"), std::logic_error);
    reading.cancel();
    EXPECT_THROW(co_await reading, aio::cancelled_error);
    EXPECT_THROW(co_await client.start_tls(here), std::invalid_argument);
    co_await client.write("still plain\n");
    EXPECT_EQ(co_await server.read_line(), "still plain\n");
    client.write_eof();
    EXPECT_THROW(co_await client.start_tls(here, "localhost"), std::logic_error);
    aio::stream empty;
    EXPECT_THROW(co_await empty.start_tls(here, "localhost"), std::logic_error);
    co_await server.aclose();
    EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { co_await server.start_tls(here, "localhost"); }), EPIPE);
}

AIO_TEST("during the handshake others can write behind it, and cannot read") {
    auto [client, server] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client(), there = certificates().server();
    auto upgrading = aio::create_task(client.start_tls(here, "localhost"));
    co_await turns(3);
    auto writing = aio::create_task(client.write("early\n"));
    EXPECT_THROW(co_await client.read(1), std::logic_error);
    co_await turns(3);
    EXPECT_FALSE(writing.done());
    co_await server.start_tls(there);
    co_await upgrading;
    EXPECT_EQ(co_await server.read_line(), "early\n");
    co_await writing;
}

AIO_TEST("TLS runs over TLS") {
    tls_ends e = co_await secured();
    const aio::tls_context here = certificates().client(), there = certificates().server();
    co_await aio::gather(e.client.start_tls(here, "localhost"), e.server.start_tls(there));
    const std::string much = pattern(300'000);
    auto writing = aio::create_task(e.client.write(much));
    EXPECT_TRUE(co_await e.server.read_exactly(much.size()) == much);
    co_await writing;
    co_await e.client.aclose();
    EXPECT_EQ(co_await e.server.read(), "");
}

AIO_TEST("TLS over TLS: a write completes when the lower one has sent it") {
    tls_ends e = co_await secured(aio::tls_version::v1_3, 1000);
    const aio::tls_context here = certificates().client(), there = certificates().server();
    co_await aio::gather(e.client.start_tls(here, "localhost"), e.server.start_tls(there));
    auto writing = aio::create_task(e.client.write(pattern(1000)));
    co_await turns(5);
    EXPECT_FALSE(writing.done());
    EXPECT_EQ((co_await e.server.read_exactly(1000)).size(), 1000u);
    co_await writing;
}

// ---- time

AIO_TEST("a peer that never answers ends the handshake when its time is up") {
    auto [client, server] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client();
    const auto began = aio::get_running_loop().time();
    EXPECT_EQ(co_await message_of([&]() -> aio::coro<> { co_await client.start_tls(here, "localhost"); }),
        "TLS handshake with localhost: the peer has not completed it within 60 s");
    EXPECT_EQ(aio::get_running_loop().time() - began, 60s);
    EXPECT_TRUE(client.detail_state()->closed());
    static_cast<void>(server);
}

AIO_TEST("a peer that sends a byte now and then does not stretch the handshake's time") {
    auto [client, server] = aio::testing::stream_pair();
    const aio::tls_context there = certificates().server();
    auto accepting = aio::create_task(errno_of([&]() -> aio::coro<> { co_await server.start_tls(there, {}, 5s); }));
    const std::string hello("\x16\x03\x01\x40\x00", 5);
    const auto began = aio::get_running_loop().time();
    for (std::size_t i = 0; !accepting.done(); ++i) {
        try {
            co_await client.write(hello.substr(std::min(i, hello.size() - 1), 1));
        } catch (const std::system_error&) { break; }
        co_await aio::sleep(400ms);
    }
    EXPECT_EQ(co_await accepting, ETIMEDOUT);
    EXPECT_LE(aio::get_running_loop().time() - began, 5400ms);
}

AIO_TEST("a handshake that is cancelled closes the stream, and the peer is told") {
    auto [client, server] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client();
    auto upgrading = aio::create_task(client.start_tls(here, "localhost"));
    co_await turns(3);
    upgrading.cancel();
    EXPECT_THROW(co_await upgrading, aio::cancelled_error);
    EXPECT_TRUE(client.detail_state()->closed());
    EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { static_cast<void>(co_await server.read()); }), ECONNRESET);
}

// ---- peers that do not speak TLS

AIO_TEST("what is no TLS is told in a sentence") {
    const aio::tls_context here = certificates().client(), there = certificates().server();
    auto answer = [&](bool as_server, std::string text) -> aio::coro<std::string> {
        auto [mine, peer] = aio::testing::stream_pair();
        auto doing = aio::create_task(message_of([&]() -> aio::coro<> {
            if (as_server) {
                co_await mine.start_tls(there);
            } else {
                co_await mine.start_tls(here, "localhost");
            }
        }));
        if (!text.empty()) co_await peer.write(text);
        peer.write_eof();
        co_return co_await doing;
    };
    const std::string client = "TLS handshake with localhost: ", server = "TLS handshake with a stream in memory: ";
    EXPECT_EQ(co_await answer(true, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        server + "the peer speaks plain HTTP, not TLS");
    EXPECT_EQ(co_await answer(false, "HTTP/1.1 400 Bad Request\r\n\r\n"),
        client + "the peer does not speak TLS: what it has sent is no TLS record");
    EXPECT_EQ(co_await answer(true, "SSH-2.0-OpenSSH_9.2\r\n"),
        server + "the peer does not speak TLS: what it has sent is no TLS record");
    EXPECT_EQ(co_await answer(true, ""), server + "the peer has closed the connection");
    EXPECT_EQ(co_await answer(false, ""), client + "the peer has closed the connection");
    EXPECT_EQ(co_await answer(true, "\x16\x03"), server + "the peer has closed the connection");
    for (unsigned seed = 1; seed < 200; ++seed) {  // garbage of all kinds ends, and is an error
        std::minstd_rand random(seed);
        std::string garbage(random() % 600, '\0');
        for (char& c : garbage) c = static_cast<char>(random());
        if (seed % 2) garbage.replace(0, std::min<std::size_t>(3, garbage.size()), "\x16\x03\x03");
        EXPECT_NE(co_await answer(seed % 4 < 2, garbage), "nothing") << seed;
    }
}
