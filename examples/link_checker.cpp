// Checks the links of HTML pages: which of them lead nowhere?
//
//     link_checker URL|FILE...
//
// It needs aio::http. The exit status is 1 if a link is broken.

#include <aio/aio.hpp>
#include <aio/http.hpp>

#include <cstdio>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
namespace http = aio::http;

namespace {

std::vector<std::string> links_in(std::string_view page) {  // good enough for an example: what stands in href="http..."
    std::vector<std::string> found;
    constexpr std::string_view mark = "href=\"http";
    for (std::size_t at = page.find(mark); at != std::string_view::npos; at = page.find(mark, at + 1)) {
        const std::size_t begin = at + 6;
        const std::size_t end = page.find_first_of("\"#", begin);
        if (end != std::string_view::npos) found.emplace_back(page.substr(begin, end - begin));
    }
    return found;
}

struct verdict {
    std::string url;
    std::string problem;  // empty: there is none
};

class checker {
public:
    aio::coro<std::string> read_page(std::string from) {
        if (from.starts_with("http")) {
            http::response r = co_await session_.get(from, {.timeout = 10s});
            r.raise_for_status();
            co_return std::move(r).text();
        }
        co_return co_await aio::read_file(from);
    }
    aio::coro<verdict> check(std::string url) {
        try {
            http::response r = co_await http::retry({.attempts = 3, .first = 100ms}, [&] {  // (1)
                return session_.head(url, {.timeout = 10s});
            });
            if (r.status() == 405) { r = co_await session_.get(url, {.timeout = 10s}); }  // it knows no HEAD
            if (r.status() < 400) co_return verdict(url, "");
            co_return verdict(url, std::to_string(r.status()) + " " + std::string(http::reason(r.status())));
        } catch (const std::exception& e) { co_return verdict(url, e.what()); }  // (2)
    }

private:
    http::session session_{{.max_connections_per_host = 4}};  // (3)
};

aio::coro<int> async_main(std::vector<std::string> pages) {
    checker c;
    auto read = [&c](std::string from) { return c.read_page(std::move(from)); };
    std::set<std::string> links;
    co_await aio::for_each(pages | aio::views::concurrent(4, read), [&](const std::string& page) {
        for (std::string& link : links_in(page)) links.insert(std::move(link));
    });

    auto check = [&c](std::string url) { return c.check(std::move(url)); };
    std::size_t broken = 0;
    co_await aio::for_each(links | aio::views::unordered_concurrent(50, check), [&](const verdict& v) {  // (4)
        if (v.problem.empty()) return;
        ++broken;
        std::printf("%s: %s\n", v.url.c_str(), v.problem.c_str());
    });
    std::printf("%zu links, %zu broken\n", links.size(), broken);
    co_return broken == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: link_checker URL|FILE...\n");
        return 2;
    }
    return aio::run_main(async_main(std::vector<std::string>(argv + 1, argv + argc)));
}

// (1) Repeats what failed for a while: a busy server, a lost connection. It honours Retry-After.
// (2) One link that cannot be reached is a result, and does not end the others. A cancel is no std::exception: Ctrl-C
// still ends the program. (3) One session keeps the connections of all requests. No host gets more than four at a time.
// (4) At most 50 checks run at once; results come as they are ready.
