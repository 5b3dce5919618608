// Async generators: items as they come, and clean-up when the loop ends.
//
//     async def read_packages(path: str) -> AsyncIterator[Package]:
//         async for line in read_lines(path):
//             if package := parser.feed(line):
//                 yield package
//
//     async def fetch_pages(base: str) -> AsyncIterator[list[Package]]:
//         session = await create_session()
//         try:
//             number = 1
//             while page := await session.get(f"{base}/packages?page={number}"):
//                 yield page
//                 number += 1
//         finally:
//             await session.close()

#include "tour.hpp"

namespace tour {

aio::async_generator<package> read_packages(std::filesystem::path path) {
    auto lines = aio::read_lines(std::move(path));
    package current;
    std::vector<package> found;
    while (auto line = co_await lines.next()) {
        parse_line(*line, current, found);
        for (package& p : found) co_yield p;
        found.clear();
    }
    parse_line("", current, found);
    for (package& p : found) co_yield p;
}

aio::async_generator<std::vector<package>> fetch_pages(
    aio::http::session_options web, std::string base, std::size_t size) {
    aio::http::session& session = co_await aio::enter(aio::http::session(web));  // closed when the generator ends
    for (std::size_t number = 1;; ++number) {
        const std::string url = base + "/packages?size=" + std::to_string(size) + "&page=" + std::to_string(number);
        aio::http::response response = co_await session.get(url, {.timeout = 10s});
        response.raise_for_status();
        std::vector<package> page = packages_from_json(response.json());
        if (page.empty()) break;
        co_yield page;
    }
}

namespace {

// The packages of a streamed answer, a line of JSON each, as they come.
aio::async_generator<package> fetch_stream(aio::http::session_options web, std::string url) {
    aio::http::session& session = co_await aio::enter(aio::http::session(web));
    auto pieces = session.stream(std::move(url));
    std::string rest;
    while (auto piece = co_await pieces.next()) {
        rest += *piece;
        for (std::size_t end; (end = rest.find('\n')) != rest.npos; rest.erase(0, end + 1)) {
            co_yield package_from_json(nlohmann::json::parse(rest.substr(0, end)));
        }
    }
}

}  // namespace

aio::coro<> async_generators(state& t) {
    tally streamed;
    auto packages = read_packages(t.settings.input);
    while (auto p = co_await packages.next()) {
        streamed.add(*p);
        t.out.progress(streamed.count, t.read.count);
    }
    must_agree("packages streamed from the file", t.read, streamed);
    t.out.line(std::to_string(streamed.count) + " packages streamed from the file, line by line");

    const std::string base = co_await t.served();
    tally fetched;
    std::size_t pages = 0;
    co_await aio::for_each(fetch_pages(t.web(), base, page_size), [&](const std::vector<package>& page) {
        ++pages;
        for (const package& p : page) fetched.add(p);
        t.out.progress(fetched.count, t.read.count);
    });
    must_agree("packages fetched page by page", t.read, fetched);
    t.out.line(
        std::to_string(fetched.count) + " packages fetched back in " + std::to_string(pages) + " pages over HTTP");
    t.out.number("pages", static_cast<double>(pages));

    tally flowed;
    co_await aio::for_each(fetch_stream(t.web(), base + "/packages.ndjson"), [&](const package& p) { flowed.add(p); });
    must_agree("packages in a streamed answer", t.read, flowed);
    aio::http::session session(t.web());
    const auto spoken = co_await session.get(base + "/health");
    t.out.line("the same in one answer that streams from the database to here, over " +
        std::string(aio::http::name(spoken.version())) + (t.settings.tls ? " and TLS" : ""));
    co_await session.aclose();

    // Leaves early: aclose() leaves what was entered in the generator.
    auto first_page = fetch_pages(t.web(), base, 5);
    const auto page = co_await first_page.next();
    const std::string first = page ? page->front().name : "nothing";
    co_await first_page.aclose();
    t.out.line("the first page alone begins with " + first + "; its session is closed");
}

}  // namespace tour
