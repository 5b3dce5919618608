// Deadlines, retries, and sources that fail, hang or break.
//
//     async def fetch_or_none(url, seconds):
//         try:
//             async with asyncio.timeout(seconds):
//                 return await fetch(url)
//         except TimeoutError:
//             return None
//
//     async def with_retries(fetch, attempts):
//         for attempt in range(attempts):
//             try:
//                 return await fetch()
//             except OSError:
//                 await asyncio.sleep(0.01 * 2 ** attempt)
//         raise

#include "tour.hpp"

namespace tour {
namespace {

aio::coro<std::string> fetch(aio::http::session& session, std::string url) {
    aio::http::response response = co_await session.get(std::move(url));
    response.raise_for_status();
    co_return response.text();
}

// Gives std::nullopt when the time is up.
aio::coro<std::optional<std::string>> fetch_or_none(aio::http::session& session, std::string url, aio::delay limit) {
    try {
        co_return co_await aio::with(aio::timeout(limit), [&] { return fetch(session, url); });
    } catch (const aio::timeout_error&) { co_return std::nullopt; }
}

// Fetches all, and gives std::nullopt for those that did not come within the limit.
aio::coro<std::vector<std::optional<std::string>>> fetch_all_with_timeout(
    aio::http::session& session, std::vector<std::string> urls, aio::delay limit) {
    std::vector<aio::coro<std::optional<std::string>>> coros;
    for (const std::string& url : urls) coros.push_back(fetch_or_none(session, url, limit));
    co_return co_await aio::gather(std::move(coros));
}

struct outcome {
    std::string text;
    int attempts = 0;
    std::string last_error;
};

aio::coro<outcome> with_retries(aio::http::session& session, std::string url, int attempts) {
    outcome o;
    for (;;) {
        ++o.attempts;
        try {
            o.text = co_await fetch(session, url);
            co_return o;
        } catch (const std::exception& e) {  // never a cancellation, which is no std::exception
            o.last_error = e.what();
        }
        if (o.attempts == attempts) co_return o;
        co_await aio::sleep(10ms * (1 << o.attempts));
    }
}

}  // namespace

aio::coro<> timeouts(state& t) {
    const std::string base = co_await t.served();
    aio::http::session session(t.web());

    const std::string hangs = base + "/hang", health = base + "/health", flaky = base + "/flaky",
                      breaks = base + "/reset-port";
    const auto nothing = co_await fetch_or_none(session, hangs, 50ms);
    if (nothing) throw std::runtime_error("a server that hangs has answered");
    t.out.line("a source that hangs was given up after 50 ms");

    const std::vector<std::string> urls{health, hangs, health};
    const auto some = co_await fetch_all_with_timeout(session, urls, 100ms);
    t.out.line(
        "of three sources within 100 ms: " + std::string(some[0] && some[2] ? "two answered" : "too few answered") +
        (some[1] ? ", and the one that hangs" : ""));
    if (!some[0] || some[1] || !some[2]) throw std::runtime_error("a timeout hit the wrong source");

    const outcome failing = co_await with_retries(session, flaky, 5);
    if (failing.text.empty()) throw std::runtime_error("retries did not help: " + failing.last_error);
    t.out.line(
        "a source that failed (" + failing.last_error + ") answered at attempt " + std::to_string(failing.attempts));

    const std::string port = co_await fetch(session, breaks);
    const std::string broken_url = "http://127.0.0.1:" + port + "/";
    const outcome broken = co_await with_retries(session, broken_url, 2);
    if (!broken.text.empty()) throw std::runtime_error("a server that breaks its connections has answered");
    t.out.line("a source that breaks its connections was given up after " + std::to_string(broken.attempts) +
        " attempts: " + broken.last_error);

    aio::task<> slow = aio::create_task(aio::sleep(1h));
    bool timed_out = false;
    try {
        co_await aio::wait_for(slow, 5ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    if (!timed_out || !slow.cancelled()) throw std::runtime_error("wait_for did not cancel what it waited for");
    t.out.line("wait_for cancelled what it waited for, and waited until it had ended");
    t.out.number("attempts", failing.attempts + broken.attempts);
    co_await session.aclose();
}

}  // namespace tour
