// TLS when the world does not behave: connections cut at every byte, cancels at every step, no memory, peers that break
// the rules. All of it is in memory; the peers that break the rules are driven by hand.

#include <aio/tls.hpp>

#include "aio_test.hpp"
#include "brute_force.hpp"
#include "out_of_memory.hpp"
#include "tls_ends.hpp"

#include <cerrno>
#include <cstdlib>

#include <openssl/crypto.h>
#include <openssl/err.h>

namespace {

using namespace aio_test;

/// Passes on bytes one way, and cuts both ends after a number of them.
aio::coro<> pass_on(aio::stream& from, aio::stream& to, std::size_t most, bool reset) {
    try {
        for (; most > 0; --most) {
            const std::string one = co_await from.read(1);
            if (one.empty()) {
                to.write_eof();
                co_return;
            }
            co_await to.write(one);
        }
    } catch (const std::system_error&) {}
    from.detail_state()->close(reset);
    to.detail_state()->close(reset);
}

constexpr std::size_t never = std::size_t(-1);

/// What both ends of an exchange have got, over a relay that cuts the connection. "text" was read to a clean end.
struct exchange_result {
    std::string client, server;
};

aio::coro<std::string> client_side(aio::stream& s, aio::tls_context context) {
    std::string got;
    try {
        co_await s.start_tls(context, "localhost");
        co_await s.write("a question\n");
        s.write_eof();
        got = co_await s.read();
        co_await s.aclose();
    } catch (const aio::tls_error& e) { got = e.what(); }
    co_return got;
}
aio::coro<std::string> server_side(aio::stream& s, aio::tls_context context) {
    std::string got;
    try {
        co_await s.start_tls(context);
        got = co_await s.read_line();
        co_await s.write("the answer to " + got);
        got += co_await s.read();
        co_await s.aclose();
    } catch (const aio::tls_error& e) { got = e.what(); }
    co_return got;
}

/// There and back: after how many bytes the relay cuts that way.
aio::coro<exchange_result> exchange_over(
    aio::tls_context client, aio::tls_context server, std::size_t there, std::size_t back, bool reset) {
    auto [c, c_peer] = aio::testing::stream_pair();
    auto [s, s_peer] = aio::testing::stream_pair();
    exchange_result result;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        auto one = tg.create_task(pass_on(c_peer, s_peer, there, reset));
        auto other = tg.create_task(pass_on(s_peer, c_peer, back, reset));
        auto asking = tg.create_task(client_side(c, client));
        result.server = co_await server_side(s, server);
        s.abort();
        result.client = co_await asking;
        c.abort();
        one.cancel();
        other.cancel();
    });
    co_return result;
}

/// A peer that is OpenSSL alone, driven by hand: it can break the rules.
class raw_peer {
public:
    raw_peer(SSL_CTX* context, aio::stream& carrier, bool server) : carrier_(&carrier), ssl_(SSL_new(context)) {
        in_ = BIO_new(BIO_s_mem());
        out_ = BIO_new(BIO_s_mem());
        BIO_set_mem_eof_return(in_, -1);
        SSL_set_bio(ssl_, in_, out_);
        server ? SSL_set_accept_state(ssl_) : SSL_set_connect_state(ssl_);
    }
    ~raw_peer() { SSL_free(ssl_); }
    raw_peer(const raw_peer&) = delete;
    raw_peer& operator=(const raw_peer&) = delete;
    SSL* ssl() const { return ssl_; }
    /// Takes what OpenSSL wants to send.
    std::string output() {
        char* data = nullptr;
        const long size = BIO_get_mem_data(out_, &data);
        std::string all(data, static_cast<std::size_t>(size));
        static_cast<void>(BIO_reset(out_));
        return all;
    }
    aio::coro<> flush() {
        const std::string all = output();
        if (!all.empty()) co_await carrier_->write(all);
    }
    aio::coro<bool> fill() {
        const std::string more = co_await carrier_->read(65536);
        BIO_write(in_, more.data(), static_cast<int>(more.size()));
        co_return !more.empty();
    }
    aio::coro<> handshake(bool keep_output = false) {
        while (SSL_do_handshake(ssl_) != 1) {
            co_await flush();
            const bool more = co_await fill();
            require(more, "an answer in the handshake");
        }
        if (!keep_output) co_await flush();
    }
    aio::coro<> send(std::string text) {
        require(SSL_write(ssl_, text.data(), static_cast<int>(text.size())) > 0, "a write");
        co_await flush();
    }
    aio::coro<std::string> receive(std::size_t size) {
        std::string got(size, '\0');
        for (std::size_t at = 0; at < size;) {
            const int n = SSL_read(ssl_, got.data() + at, static_cast<int>(size - at));
            if (n > 0) {
                at += static_cast<std::size_t>(n);
                continue;
            }
            co_await flush();
            const bool more = co_await fill();
            require(more, "data");
        }
        co_return got;
    }

private:
    aio::stream* carrier_;
    SSL* ssl_;
    BIO* in_;
    BIO* out_;
};

SSL_CTX* raw(const aio::tls_context& context) { return context.detail_state()->setup()->context.get(); }

}  // namespace

// ---- cuts

AIO_TEST("a peer that is cut at any byte is told from one that has ended") {
    const std::string whole = "the answer to a question\n";
    int cuts = 0;
    for (const bool older_version : {false, true}) {
        const aio::tls_context client = certificates().client();
        client.detail_state()->setup();
        aio::tls_context server = older_version ? old_server() : certificates().server();
        for (const bool reset : {false, true}) {
            for (const bool back : {false, true}) {
                const std::size_t step = AIO_TEST_SANITIZED ? 41 : 7;
                for (std::size_t at = 0; at < 5000; at += at < 40 ? 1 : step) {
                    // A new client each time, so that no session is resumed and each run has the same bytes.
                    const exchange_result r = co_await exchange_over(
                        certificates().client(), server, back ? never : at, back ? at : never, reset);
                    const bool client_well = r.client == whole, server_well = r.server == "a question\n";
                    if (client_well && server_well) break;
                    ++cuts;
                    if (!client_well) { EXPECT_EQ(r.client.find("TLS "), 0u) << r.client << " at byte " << at; }
                    if (!server_well) { EXPECT_EQ(r.server.find("TLS "), 0u) << r.server << " at byte " << at; }
                    if (testing::Test::HasFailure()) co_return;
                }
            }
        }
    }
    EXPECT_GT(cuts, AIO_TEST_SANITIZED ? 300 : 1000);
}

AIO_TEST("an end without close_notify is an error, after the bytes that came before it") {
    tls_ends e = co_await secured();
    co_await e.client.write("all of it?");
    auto [mine, peer] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client();
    raw_peer other(raw(certificates().server()), peer, true);
    auto serving = aio::create_task(other.handshake());
    co_await mine.start_tls(here, "localhost");
    co_await serving;
    co_await other.send("all of it?");
    peer.write_eof();  // the connection ends, TLS does not
    EXPECT_EQ(co_await mine.read(100), "all of it?");
    for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(co_await message_of([&]() -> aio::coro<> { static_cast<void>(co_await mine.read(100)); }),
            "TLS read from localhost: the connection was cut: it has ended without a close_notify");
    }
    std::array<std::byte, 4096> block;
    EXPECT_EQ(
        co_await errno_of([&]() -> aio::coro<> { static_cast<void>(co_await mine.read_some(block)); }), ECONNRESET);
}

AIO_TEST("a byte that was changed on the way ends both sides") {
    auto [mine, peer] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client();
    raw_peer other(raw(certificates().server()), peer, true);
    auto serving = aio::create_task(other.handshake());
    co_await mine.start_tls(here, "localhost");
    co_await serving;
    SSL_write(other.ssl(), "money", 5);
    std::string record = other.output();
    record[8] = static_cast<char>(record[8] ^ 1);
    co_await peer.write(record);
    EXPECT_EQ(co_await message_of([&]() -> aio::coro<> { static_cast<void>(co_await mine.read(100)); }),
        "TLS read from localhost: decryption failed or bad record mac");
    const std::string write = co_await message_of([&]() -> aio::coro<> { co_await mine.write("x"); });
    EXPECT_EQ(write.find("TLS write to localhost: "), 0u) << write;
}

// ---- cancels, ends of the loop, and no memory

namespace {

aio::coro<> an_exchange() {
    static const aio::tls_context client = certificates().client(), server = certificates().server();
    const counted here(1);
    auto [c, s] = aio::testing::stream_pair({.capacity = 700});
    auto serve = [](aio::stream& side) -> aio::coro<> {
        co_await side.start_tls(server);
        const std::string line = co_await side.read_line();
        co_await side.write(line + std::string(2000, 'x'));
        co_await side.aclose();
    };
    auto ask = [](aio::stream& side) -> aio::coro<> {
        co_await side.start_tls(client, "localhost");
        co_await side.write("a question\n");
        const std::string all = co_await side.read();
        require(all.size() == 2011, "all of the answer");
        co_await side.aclose();
    };
    co_await aio::gather(serve(s), ask(c));
}

}  // namespace

PLAIN_TEST("cancelled at every step, left at every step, and without memory: nothing is lost or left") {
    aio::testing::run(an_exchange(), {.virtual_time = true});
    withstands_as_a_whole([] { return an_exchange(); });
}

PLAIN_TEST("without the standard library's memory, too") {
    aio::testing::run(an_exchange(), {.virtual_time = true});
    survives_without_memory([]() -> aio::coro<> { co_await an_exchange(); });
}

// ---- OpenSSL's own memory

namespace {

std::ptrdiff_t fail_at = -1;  // the allocation of OpenSSL's that fails; -1: none
std::ptrdiff_t allocations = 0;
bool and_all_after = false;
std::ptrdiff_t blocks = 0;

bool fails() {
    const std::ptrdiff_t n = allocations++;
    return fail_at >= 0 && (n == fail_at || (and_all_after && n > fail_at));
}
void* allocate(std::size_t size, const char*, int) {
    if (fails()) return nullptr;
    void* const block = std::malloc(size);
    blocks += block != nullptr;
    return block;
}
void* reallocate(void* block, std::size_t size, const char*, int) {
    if (fails()) return nullptr;
    blocks += block == nullptr;
    return std::realloc(block, size);
}
void release(void* block, const char*, int) {
    blocks -= block != nullptr;
    std::free(block);
}
const bool replaced = CRYPTO_set_mem_functions(&allocate, &reallocate, &release) == 1;  // before the first allocation

}  // namespace

AIO_TEST("an allocation of OpenSSL's that fails is std::bad_alloc or a tls_error, and nothing hangs or leaks") {
    AIO_REQUIRE(replaced);
    const aio::tls_context client = certificates().client(), server = certificates().server();
    auto attempt = [&]() -> aio::coro<bool> {  // true if all went well
        auto [c, s] = aio::testing::stream_pair();
        auto serve = [&](aio::stream side) -> aio::coro<bool> {
            try {
                co_await side.start_tls(server);
                co_await side.write(co_await side.read_line());
                co_await side.aclose();
            } catch (const aio::tls_error&) { co_return false; } catch (const std::bad_alloc&) {
                co_return false;
            }
            co_return true;
        };
        auto ask = [&](aio::stream side) -> aio::coro<bool> {
            std::string all;
            try {
                co_await side.start_tls(client, "localhost");
                co_await side.write("a question\n");
                all = co_await side.read();
                co_await side.aclose();
            } catch (const aio::tls_error&) { co_return false; } catch (const std::bad_alloc&) {
                co_return false;
            }
            co_return all == "a question\n";
        };
        auto both = co_await aio::gather(serve(std::move(s)), ask(std::move(c)));
        co_return std::get<0>(both) && std::get<1>(both);
    };
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(co_await attempt());  // what OpenSSL keeps for ever is there now
    allocations = 0;
    EXPECT_TRUE(co_await attempt());
    const std::ptrdiff_t all = allocations;
    EXPECT_GT(all, 500);
    int failed = 0;
    for (const bool after : {false, true}) {
        const std::ptrdiff_t before = blocks;
        for (std::ptrdiff_t at = 0; at < all; at += AIO_TEST_SANITIZED ? 23 : 3) {
            and_all_after = after;
            allocations = 0;
            fail_at = at;
            const bool well = co_await attempt();
            fail_at = -1;
            failed += !well;
        }
        and_all_after = false;
        const bool well = co_await attempt();
        EXPECT_TRUE(well);
        EXPECT_LT(blocks - before, 400) << "sessions that are kept may differ";
    }
    EXPECT_GT(failed, 50);
}

// ---- peers that break the rules, or use them

AIO_TEST("a key update is answered, in both directions and with data around it") {
    auto [mine, peer] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client();
    raw_peer other(raw(certificates().server()), peer, true);
    auto serving = aio::create_task(other.handshake());
    co_await mine.start_tls(here, "localhost");
    co_await serving;
    for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(SSL_key_update(other.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
        co_await other.send("before");
        EXPECT_EQ(co_await mine.read_exactly(6), "before");
        co_await mine.write("after");
        EXPECT_EQ(co_await other.receive(5), "after");
    }
}

AIO_TEST("a peer that sends nothing but key updates is cut off") {
    auto [mine, peer] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client();
    raw_peer other(raw(certificates().server()), peer, true);
    auto serving = aio::create_task(other.handshake());
    co_await mine.start_tls(here, "localhost");
    co_await serving;
    auto reading = aio::create_task(message_of([&]() -> aio::coro<> { static_cast<void>(co_await mine.read(1)); }));
    for (int i = 0; i < 100 && !reading.done(); ++i) {
        SSL_key_update(other.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
        SSL_do_handshake(other.ssl());
        co_await other.flush();
        co_await turns(2);
    }
    EXPECT_EQ(co_await reading, "TLS read from localhost: the peer sends records without data, again and again");
}

AIO_TEST("renegotiation is refused, and the connection goes on") {
    auto [mine, peer] = aio::testing::stream_pair();
    const aio::tls_context there = certificates().server();
    aio::tls_context client = older(certificates().client());
    raw_peer other(raw(client), peer, false);
    SSL_set_tlsext_host_name(other.ssl(), "localhost");
    SSL_clear_options(other.ssl(), SSL_OP_NO_RENEGOTIATION);
    auto serving = aio::create_task(mine.start_tls(there));
    co_await other.handshake();
    co_await serving;
    EXPECT_EQ(mine.tls()->version, aio::tls_version::v1_2);
    EXPECT_EQ(SSL_renegotiate(other.ssl()), 1);
    SSL_do_handshake(other.ssl());
    co_await other.flush();
    auto reading = aio::create_task(mine.read(100));
    co_await turns(3);
    EXPECT_FALSE(reading.done());
    const bool answered = co_await other.fill();  // the warning: no_renegotiation
    EXPECT_TRUE(answered);
    EXPECT_NE(SSL_do_handshake(other.ssl()), 1);
    co_await mine.write("still here");
    reading.cancel();
    EXPECT_THROW(co_await reading, aio::cancelled_error);
}

AIO_TEST("a write goes on when a message that came in pieces is complete, whether or not somebody reads") {
    static const int with_data = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    static_cast<void>(with_data);
    for (const bool somebody_reads : {false, true}) {
        auto [mine, peer] = aio::testing::stream_pair();
        const aio::tls_context here = certificates().client();
        aio::tls_context there = certificates().server();
        SSL_CTX* const context = raw(there);
        // Long tickets, in short records.
        SSL_CTX_set_session_ticket_cb(
            context,
            [](SSL* ssl, void*) {
                const std::string data(2000, 'x');
                return SSL_SESSION_set1_ticket_appdata(SSL_get0_session(ssl), data.data(), data.size());
            },
            [](SSL*, SSL_SESSION*, const unsigned char*, std::size_t, SSL_TICKET_STATUS, void*) -> SSL_TICKET_RETURN {
                return SSL_TICKET_RETURN_USE;
            },
            nullptr);
        raw_peer other(context, peer, true);
        SSL_set_max_send_fragment(other.ssl(), 512);
        auto serving = aio::create_task(other.handshake(true));
        co_await mine.start_tls(here, "localhost");
        co_await serving;
        const std::string tickets = other.output();
        EXPECT_GT(tickets.size(), 4000u);
        co_await peer.write(tickets.substr(0, 700));
        auto reading = aio::create_task(mine.read(100));  // reads the beginning of the ticket
        co_await turns(3);
        if (!somebody_reads) {
            reading.cancel();
            EXPECT_THROW(co_await reading, aio::cancelled_error);
        }
        auto writing = aio::create_task(mine.write("a question"));
        co_await turns(3);
        EXPECT_FALSE(writing.done());
        co_await peer.write(tickets.substr(700));
        co_await writing;
        EXPECT_EQ(co_await other.receive(10), "a question");
        if (somebody_reads) {
            co_await other.send("an answer");
            EXPECT_EQ(co_await reading, "an answer");
        }
    }
}

AIO_TEST("a warning of the peer's that is no end is passed over, and a fatal one is told") {
    auto [mine, peer] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client();
    auto connecting =
        aio::create_task(message_of([&]() -> aio::coro<> { co_await mine.start_tls(here, "localhost"); }));
    co_await turns(3);
    co_await peer.write(std::string("\x15\x03\x03\x00\x02\x02\x50", 7));  // fatal, internal_error
    EXPECT_EQ(co_await connecting, "TLS handshake with localhost: the peer refuses: internal error");
}

// openssl/openssl#11388: a client that had said goodbye sent an alert when the peer was gone.
AIO_TEST("nothing is sent behind our goodbye, also if the peer leaves without one") {
    auto [mine, peer] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client();
    raw_peer other(raw(certificates().server()), peer, true);
    auto serving = aio::create_task(other.handshake());
    co_await mine.start_tls(here, "localhost");
    co_await serving;
    mine.write_eof();
    const std::string goodbye = co_await peer.read(1000);
    EXPECT_EQ(goodbye.size(), 24u);
    peer.write_eof();
    EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { static_cast<void>(co_await mine.read()); }), ECONNRESET);
    co_await mine.aclose();
    EXPECT_EQ(co_await peer.read(), "");
}

AIO_TEST("a close_notify in the middle of the handshake is no success") {
    auto [mine, peer] = aio::testing::stream_pair();
    const aio::tls_context here = certificates().client();
    auto connecting =
        aio::create_task(message_of([&]() -> aio::coro<> { co_await mine.start_tls(here, "localhost"); }));
    co_await turns(3);
    co_await peer.write(std::string("\x15\x03\x03\x00\x02\x01\x00", 7));
    peer.write_eof();
    EXPECT_EQ((co_await connecting).find("TLS handshake with localhost: "), 0u);
}
