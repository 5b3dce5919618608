// The database and the server of the tour, which the sections fill and fetch from: a router over a pool of connections.
// With --tls the server speaks TLS, and HTTP/2 with clients that can.

#include "tour.hpp"

#include <charconv>

namespace tour {

namespace {

// One page as JSON: /packages?size=50&page=1.
aio::coro<aio::http::response> page(aio::sql::pool& pool, aio::http::request request) {
    const auto number = [&](const char* name, std::int64_t otherwise) {
        const std::string text = request.query(name).value_or("");
        std::int64_t n = otherwise;
        std::from_chars(text.data(), text.data() + text.size(), n);
        return n;
    };
    const std::int64_t size = number("size", page_size), page = number("page", 1);
    if (size < 1 || size > 1000 || page < 1) co_return aio::http::response(400, "size is 1 to 1000, page 1 or more\n");
    aio::sql::rows rows = co_await pool.query(
        "SELECT name, version, section, installed_kb, summary FROM packages ORDER BY name "
        "LIMIT $1 OFFSET $2",
        size, (page - 1) * size);
    nlohmann::json list = nlohmann::json::array();
    for (const package& p : rows.as<package>()) list.push_back(package_to_json(p));
    co_return aio::http::response::json(list);
}

// All packages, a line each, as the database gives them: nothing is collected.
aio::async_generator<std::string> lines_of_json(aio::sql::pool& pool) {
    auto db = co_await pool.acquire();
    auto rows = db->stream("SELECT name, version, section, installed_kb, summary FROM packages ORDER BY name");
    while (auto row = co_await rows.next()) { co_yield package_to_json(row->as<package>()).dump() + "\n"; }
}

// Sends half an answer, and then closes the connection.
aio::coro<> reset(aio::stream client) {
    co_await client.read_until("\r\n\r\n");
    co_await client.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it");
    co_await client.aclose();
}

}  // namespace

aio::coro<aio::sql::pool&> state::stored() {
    if (!pool_) pool_.emplace(settings.database, aio::sql::pool_options{.max_size = 4});
    if (!filled_) {
        auto db = co_await pool_->acquire();
        co_await create_table(*db);
        std::vector<package> batch;
        tally stored;
        auto packages = read_packages(settings.input);
        while (auto p = co_await packages.next()) {
            stored.add(*p);
            batch.push_back(std::move(*p));
            if (batch.size() == page_size) {
                co_await store_batch(*db, batch);
                batch.clear();
                out.progress(stored.count, read.count);
            }
        }
        co_await store_batch(*db, batch);
        must_agree("packages stored", read, stored);
        filled_ = true;
    }
    co_return *pool_;
}

aio::http::router state::routes() {
    using aio::http::request, aio::http::response;
    aio::http::router app;
    app.get("/packages", [this](request r) { return page(*pool_, std::move(r)); });
    app.get("/packages.ndjson", [this] {
        return response::stream(200, lines_of_json(*pool_), aio::http::headers("Content-Type", "application/x-ndjson"));
    });
    app.get("/health", [] { return response(200, "ok\n"); });
    app.get("/hang", []() -> aio::coro<response> {
        co_await aio::sleep_forever();
        co_return response(200);
    });
    app.get("/flaky", [this] {  // fails twice, then answers
        const bool fails = ++flaky_failures_ % 3 != 0;
        return fails ? response(503, "not yet\n") : response(200, "at last\n");
    });
    app.get("/reset-port", [this] { return response(200, std::to_string(resetting_->port())); });
    return app;
}

// The openssl program makes a certificate of two days for the server, and the clients trust that one alone.
aio::coro<> state::make_certificate() {
    const std::string chain = settings.folder + "/chain.pem", key = settings.folder + "/key.pem";
    aio::subprocess openssl = co_await aio::create_subprocess_exec(
        aio::argv("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
            "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", chain),
        {.err = aio::stdio::pipe});
    const auto said = co_await openssl.communicate();
    if (co_await openssl.wait() != 0) { throw std::runtime_error("openssl made no certificate: " + said.err); }
    certificate_ = chain;
}

aio::coro<std::string> state::served() {
    co_await stored();
    if (!server_) {
        resetting_ = co_await aio::start_server(reset, "127.0.0.1", 0);
        std::optional<aio::tls_context> tls;
        aio::http::server_options how;
        if (settings.tls) {
            co_await make_certificate();
            tls = aio::tls_context::server(certificate_, settings.folder + "/key.pem");
            how.context = &*tls;
        }
        server_ = co_await aio::http::start_server(routes(), "127.0.0.1", 0, how);
    }
    co_return (settings.tls ? "https://localhost:" : "http://localhost:") + std::to_string(server_->port());
}

aio::coro<> state::aclose() {
    if (server_) co_await server_->drain(0s);
    if (resetting_) co_await resetting_->drain(0s);
    if (pool_) co_await pool_->aclose();
    server_.reset();
    resetting_.reset();
    pool_.reset();
}

}  // namespace tour
