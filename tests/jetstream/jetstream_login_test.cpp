// How a connection proves who it is, and checks who the server is: TLS, keys and JWTs, against a real server; and how
// it leaves one that is about to end.
#include "nats_servers.hpp"

#include "certificates.hpp"

#include <array>
#include <set>

using namespace aio_test;
namespace jetstream = aio::jetstream;

namespace {

std::string base32(const std::string& bytes) {
    std::string text;
    std::uint32_t bits = 0;
    int count = 0;
    for (const char c : bytes) {
        bits = bits << 8 | static_cast<unsigned char>(c);
        for (count += 8; count >= 5;) {
            count -= 5;
            text += "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[bits >> count & 31];
        }
    }
    if (count > 0) text += "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[bits << (5 - count) & 31];
    return text;
}

std::string base64url(const std::string& bytes) {
    std::string text;
    std::uint32_t bits = 0;
    int count = 0;
    for (const char c : bytes) {
        bits = bits << 8 | static_cast<unsigned char>(c);
        for (count += 8; count >= 6;) {
            count -= 6;
            text += "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[bits >> count & 63];
        }
    }
    if (count > 0) text += "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[bits << (6 - count) & 63];
    return text;
}

/// The text of a key: its bytes, and CRC-16/XMODEM of them.
std::string with_checksum(std::string bytes) {
    std::uint32_t crc = 0;
    for (const char c : bytes) {
        crc ^= static_cast<std::uint32_t>(static_cast<unsigned char>(c)) << 8;
        for (int i = 0; i < 8; ++i) crc = (crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1) & 0xffff;
    }
    bytes += static_cast<char>(crc & 0xff);
    bytes += static_cast<char>(crc >> 8);
    return base32(bytes);
}

/// An Ed25519 key of an operator ('O'), an account ('A') or a user ('U'), in NATS's words.
class nkey {
public:
    explicit nkey(unsigned char role) : role_(role), key_(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")) {
        AIO_REQUIRE(key_);
    }
    nkey(const nkey&) = delete;
    nkey& operator=(const nkey&) = delete;
    ~nkey() { EVP_PKEY_free(key_); }
    std::string id() const { return with_checksum(std::string(1, static_cast<char>(role_)) + raw(true)); }
    std::string seed() const {
        std::string head;
        head += static_cast<char>(18 << 3 | role_ >> 5);
        head += static_cast<char>((role_ & 31) << 3);
        return with_checksum(head + raw(false));
    }
    std::string sign(const std::string& text) const {
        EVP_MD_CTX* const context = EVP_MD_CTX_new();
        std::string signature(64, '\0');
        std::size_t size = signature.size();
        AIO_REQUIRE(EVP_DigestSignInit(context, nullptr, nullptr, nullptr, key_) == 1);
        AIO_REQUIRE(EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &size,
                        reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1);
        EVP_MD_CTX_free(context);
        return signature;
    }
    /// A JWT about another key, or this one.
    std::string says(const nkey& about, const std::string& type, const std::string& more = "") const {
        const std::string head = base64url(R"({"typ":"JWT","alg":"ed25519-nkey"})");
        const std::string body =
            base64url(R"({"jti":"test","iat":1700000000,"iss":")" + id() + R"(","name":"test","sub":")" + about.id() +
                R"(","nats":{"type":")" + type + R"(","version":2)" + more + "}}");
        return head + "." + body + "." + base64url(sign(head + "." + body));
    }

private:
    std::string raw(bool is_public) const {
        std::array<unsigned char, 32> bytes{};
        std::size_t size = bytes.size();
        const int ok = is_public ? EVP_PKEY_get_raw_public_key(key_, bytes.data(), &size)
                                 : EVP_PKEY_get_raw_private_key(key_, bytes.data(), &size);
        AIO_REQUIRE(ok == 1);
        return std::string(reinterpret_cast<const char*>(bytes.data()), size);
    }
    unsigned char role_;
    EVP_PKEY* key_;
};

constexpr unsigned char operator_role = 14 << 3, account_role = 0, user_role = 20 << 3;

std::string credentials_of(const std::string& jwt, const std::string& seed) {
    return "-----BEGIN NATS USER JWT-----\n" + jwt +
        "\n------END NATS USER JWT------\n\n************************* IMPORTANT *************************\n\n"
        "-----BEGIN USER NKEY SEED-----\n" +
        seed + "\n------END USER NKEY SEED------\n";
}

/// Connects, says something, and gives the error; empty: it went well.
aio::coro<std::string> talk(std::string url, jetstream::connect_options options) {
    std::string what;
    try {
        auto body = [](jetstream::connection& js) -> aio::coro<> {
            auto heard = js.subscribe("x");
            co_await js.publish("x", "y");
            co_await heard.next();
        };
        co_await aio::with(jetstream::connect(url, options), body);
    } catch (const std::exception& e) { what = e.what(); }
    co_return what;
}

std::string tls_lines(const folder& files, const identity& own, const std::string& root, bool verify) {
    files.write("own.pem", own.chain);
    files.write("key.pem", own.key);
    files.write("root.pem", root);
    return "tls { cert_file: \"" + files.path("own.pem") + "\", key_file: \"" + files.path("key.pem") +
        "\", ca_file: \"" + files.path("root.pem") + "\", verify: " + (verify ? "true" : "false") + " }";
}

}  // namespace

AIO_REAL_TEST("TLS: a server that proves who it is is believed, and no other one") {
    if (!there_is_nats()) co_return;
    const authority root("a root of the tests"), other("another root");
    const identity own = root.issue({.name = "localhost", .alternatives = "DNS:localhost"});
    const folder files;
    nats_server server(tls_lines(files, own, root.pem(), false));
    co_await server.start();
    const std::string port = std::to_string(server.port());
    const aio::tls_context trusting = aio::tls_context::client().trust_file(root.pem());
    const aio::tls_context wrong = aio::tls_context::client().trust_file(other.pem());
    EXPECT_EQ(co_await talk("tls://localhost:" + port, {.context = &trusting}), "");
    EXPECT_EQ(co_await talk("nats://localhost:" + port, {.context = &trusting}), "");
    EXPECT_NE(co_await talk("tls://127.0.0.1:" + port, {.context = &trusting}), "");  // another name
    EXPECT_NE(co_await talk("tls://localhost:" + port, {.context = &wrong}), "");     // another root
    EXPECT_NE(co_await talk("nats://localhost:" + port, {}), "");                     // the system's roots
    nats_server plain;
    co_await plain.start();
    const std::string refusal =
        co_await talk("tls://localhost:" + std::to_string(plain.port()), {.context = &trusting});
    EXPECT_NE(refusal.find("speaks no TLS"), std::string::npos) << refusal;
}

AIO_REAL_TEST("TLS: a server that asks for a certificate takes one of its root, and no other one") {
    if (!there_is_nats()) co_return;
    const authority root("a root of the tests"), other("another root");
    const identity own = root.issue({.name = "localhost", .alternatives = "DNS:localhost"});
    const identity mine = root.issue({.name = "a client", .alternatives = ""});
    const identity foreign = other.issue({.name = "a client", .alternatives = ""});
    const folder files;
    nats_server server(tls_lines(files, own, root.pem(), true));
    co_await server.start();
    const std::string url = "tls://localhost:" + std::to_string(server.port());
    const aio::tls_context with_one =
        aio::tls_context::client().trust_file(root.pem()).certificate(mine.chain, mine.key);
    const aio::tls_context with_foreign =
        aio::tls_context::client().trust_file(root.pem()).certificate(foreign.chain, foreign.key);
    const aio::tls_context without = aio::tls_context::client().trust_file(root.pem());
    EXPECT_EQ(co_await talk(url, {.context = &with_one}), "");
    EXPECT_NE(co_await talk(url, {.context = &with_foreign}), "");
    EXPECT_NE(co_await talk(url, {.context = &without}), "");
}

AIO_REAL_TEST("credentials: a user's JWT and key log in, and a wrong key, account or text does not") {
    if (!there_is_nats()) co_return;
    const nkey op(operator_role), account(account_role), user(user_role), stranger(user_role), no_account(account_role);
    const std::string limits =
        R"(,"limits":{"subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,"wildcards":true,)"
        R"("conn":-1,"leaf":-1})";
    const std::string user_limits = R"(,"subs":-1,"data":-1,"payload":-1)";
    const std::string account_jwt = op.says(account, "account", limits);
    nats_server server("operator: " + op.says(op, "operator") + "\nresolver: MEMORY\nsystem_account: " + account.id() +
        "\nresolver_preload: { " + account.id() + ": " + account_jwt + " }");
    co_await server.start();
    const std::string url = server.url();
    const std::string jwt = account.says(user, "user", user_limits);
    const std::string good = credentials_of(jwt, user.seed());
    EXPECT_EQ(co_await talk(url, {.credentials = good}), "");
    const folder files;
    files.write("user.creds", good);
    const std::string path = files.path("user.creds");
    EXPECT_EQ(co_await talk(url, {.credentials = path}), "");
    const std::string wrong_key = credentials_of(jwt, stranger.seed());
    const std::string wrong_account = credentials_of(no_account.says(user, "user", user_limits), user.seed());
    const std::string no_seed = credentials_of(jwt, "SUAA");
    for (const std::string& bad : {wrong_key, wrong_account}) {
        const std::string what = co_await talk(url, {.credentials = bad});
        EXPECT_NE(what.find("Authorization Violation"), std::string::npos) << what;
        EXPECT_EQ(what.find(jwt.substr(0, 20)), std::string::npos) << what;
    }
    EXPECT_NE(co_await talk(url, {}), "");
    const std::string bad_seed = co_await talk(url, {.credentials = no_seed});
    EXPECT_NE(bad_seed.find("seed"), std::string::npos) << bad_seed;
    EXPECT_EQ(bad_seed.find("SUAA"), std::string::npos) << bad_seed;
    const std::string no_file = files.path("none.creds");
    EXPECT_NE(co_await talk(url, {.credentials = no_file}), "");
}

AIO_REAL_TEST("a wrong token is refused, and stands in no message") {
    if (!there_is_nats()) co_return;
    nats_server server("authorization { token: \"t0ken\" }");
    co_await server.start();
    const std::string port = std::to_string(server.port());
    for (const std::string& url : {"nats://wr0ng@127.0.0.1:" + port, "nats://me:wr0ng@127.0.0.1:" + port}) {
        const std::string what = co_await talk(url, {});
        EXPECT_EQ(what, "jetstream: 127.0.0.1:" + port + " refuses the log-in: 'Authorization Violation'");
    }
    const std::string what = co_await talk("127.0.0.1:" + port, {.token = "wr0ng"});
    EXPECT_EQ(what.find("wr0ng"), std::string::npos) << what;
}

AIO_REAL_TEST("a server that is about to end is left for another one, and no publish is lost") {
    if (!there_is_nats()) co_return;
    nats_cluster cluster;
    co_await cluster.start();
    auto listen = [&](jetstream::connection& listener) -> aio::coro<> {
        auto heard = listener.subscribe("numbers", {.max_pending = 10'000'000});
        // Until each other server knows the subscriber.
        for (std::size_t i = 0; i < 2; ++i) {
            const std::string hello = "hello" + std::to_string(i);
            bool came = false;
            auto ask = [&](jetstream::connection& js) -> aio::coro<> {
                while (!came) {
                    co_await js.publish("numbers", hello);
                    co_await aio::sleep(5ms);
                }
            };
            auto asks = [&]() -> aio::coro<> {
                co_await aio::with(jetstream::connect(cluster[i].url(), {.discover = false}), ask);
            };
            aio::task<> asking = aio::create_task(asks());
            while (!came) {
                auto m = co_await heard.next();
                came = m->data == hello;
            }
            co_await asking;
        }
        int sent = 0;
        auto publish = [&](jetstream::connection& js) -> aio::coro<> {
            const std::string before = js.server();
            for (int more = 500; more > 0; ++sent) {
                const std::string number = std::to_string(sent);
                co_await js.publish("numbers", number);
                if (sent % 10 == 0) co_await aio::sleep(1ms);
                if (sent == 500) cluster[before == cluster[0].url().substr(7) ? 0 : 1].lame_duck();
                if (js.server() != before && !js.server().empty()) --more;
            }
            co_await js.flush();
        };
        const std::string urls = cluster[0].url() + "," + cluster[1].url();
        co_await aio::with(jetstream::connect(urls, {.discover = false}), publish);
        std::set<int> numbers;
        while (numbers.size() < static_cast<std::size_t>(sent)) {
            auto m = co_await aio::wait_for(heard.next(), 60s);
            AIO_REQUIRE(m);
            EXPECT_EQ(m->missed, 0u);
            if (!m->data.starts_with("hello")) { EXPECT_TRUE(numbers.insert(std::stoi(m->data)).second); }
        }
    };
    co_await aio::with(jetstream::connect(cluster[2].url(), {.discover = false}), listen);
}
