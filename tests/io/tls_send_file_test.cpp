#include <aio/file.hpp>
#include <aio/tls.hpp>

#include "aio_test.hpp"
#include "certificates.hpp"
#include "tls_ends.hpp"

#include <string>

namespace {
using namespace aio_test;
}

AIO_REAL_TEST("a file is sent over TLS, in its turn among the writes, whole and to its count") {
    const folder dir;
    std::string data(900'000, '\0');
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761u >> 9);
    dir.write("a", data);
    tls_ends e = co_await secured(aio::tls_version::v1_3, 5000);
    aio::file f = co_await aio::open_file(dir.path("a"));
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task([&]() -> aio::coro<> { co_await e.client.write("before"); });
        tg.create_task([&]() -> aio::coro<> { EXPECT_EQ(co_await e.client.send_file(f), data.size()); });
        tg.create_task([&]() -> aio::coro<> { co_await e.client.write("between"); });
        tg.create_task([&]() -> aio::coro<> {
            EXPECT_EQ(co_await e.client.send_file(f, 7, 300'000), 300'000u);
            e.client.write_eof();
        });
        EXPECT_TRUE(co_await e.server.read() == "before" + data + "between" + data.substr(7, 300'000));
    });
    co_await f.aclose();
}
