// Crawls a site from a page on: follows links on the same host, at most so deep, with so many requests at once.
//
//     crawler URL [DEPTH [WORKERS]]
//
// It needs aio::http. It prints each page with its size, and a sum at the end.

#include <aio/aio.hpp>
#include <aio/http.hpp>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>

using namespace std::chrono_literals;
namespace http = aio::http;

namespace {

struct page {
    std::string path;
    int depth = 0;
};

class crawl {
public:
    crawl(std::string base, int most) : base_(std::move(base)), most_(most) {}

    aio::coro<> run(std::string first, int workers) {
        find(std::move(first), 0);
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            for (int n = 0; n < workers; ++n) tg.create_task(work());
            co_await queue_.join();  // (1)
            queue_.shutdown();       // (2)
        });
        std::printf("%zu pages, %zu bytes, %zu failed\n", seen_.size(), bytes_, failed_);
    }

private:
    void find(std::string path, int depth) {
        if (depth > most_ || !seen_.insert(path).second) return;  // (3)
        queue_.put_nowait(page{std::move(path), depth});
    }
    aio::coro<> work() {
        try {
            for (;;) {
                page p = co_await queue_.get();
                auto done = aio::finally([this] { queue_.task_done(); });
                co_await visit(std::move(p));
            }
        } catch (const aio::queue_shut_down&) {
            // all pages have been visited
        }
    }
    aio::coro<> visit(page p) {
        try {
            http::response r = co_await session_.get(base_ + p.path, {.timeout = 10s, .max_body_size = 10'000'000});
            r.raise_for_status();
            bytes_ += r.text().size();
            std::printf("%zu %s\n", r.text().size(), p.path.c_str());
            if (r.headers()["Content-Type"].starts_with("text/html")) find_links(r.text(), p.depth + 1);
        } catch (const std::exception& e) {
            ++failed_;
            std::printf("failed: %s\n", e.what());
        }
    }
    void find_links(std::string_view text, int depth) {  // good enough for an example: what stands in href="/..."
        constexpr std::string_view mark = "href=\"/";
        for (std::size_t at = text.find(mark); at != std::string_view::npos; at = text.find(mark, at + 1)) {
            const std::size_t begin = at + 6;
            const std::size_t end = text.find_first_of("\"#?", begin);
            if (end != std::string_view::npos) find(std::string(text.substr(begin, end - begin)), depth);
        }
    }

    std::string base_;
    int most_;
    http::session session_;
    aio::queue<page> queue_;
    std::set<std::string> seen_;
    std::size_t bytes_ = 0, failed_ = 0;
};

aio::coro<> async_main(std::string url, int depth, int workers) {
    const std::size_t host = url.find("://");
    if (host == std::string::npos) throw std::invalid_argument("this is no URL: " + url);
    const std::size_t path = url.find('/', host + 3);
    crawl c(url.substr(0, path), depth);
    std::string first = path == std::string::npos ? "/" : url.substr(path);
    co_await c.run(std::move(first), workers);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: crawler URL [DEPTH [WORKERS]]\n");
        return 2;
    }
    const int depth = argc > 2 ? std::atoi(argv[2]) : 3;
    const int workers = argc > 3 ? std::atoi(argv[3]) : 8;
    return aio::run_main(async_main(argv[1], depth, workers));
}

// (1) Every page that was put into the queue has been visited, those that were found meanwhile included.
// (2) The workers wait for the next page: now get() throws queue_shut_down.
// (3) All workers use `seen_` without a lock: they run on one thread, and no co_await stands between the look and the
// entry.
