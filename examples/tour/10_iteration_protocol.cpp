// The iteration protocol: whatever has an awaitable next() can be iterated, filtered and collected.
//
//     class PageRange:
//         def __aiter__(self): return self
//         async def __anext__(self) -> Page:
//             if self.current >= self.end:
//                 raise StopAsyncIteration
//             page = await self.fetch(self.current)
//             self.current += 1
//             return page

#include "tour.hpp"

namespace tour {
namespace {

class page_range {
public:
    page_range(aio::http::session_options web, std::string base, std::size_t begin, std::size_t end)
        : base_(std::move(base)), current_(begin), end_(end), session_(web) {}

    /// Gives something that is false at the end: here, an optional.
    aio::coro<std::optional<std::vector<package>>> next() {
        if (current_ >= end_) co_return std::nullopt;
        const std::string url =
            base_ + "/packages?size=" + std::to_string(page_size) + "&page=" + std::to_string(current_ + 1);
        aio::http::response response = co_await session_.get(url, {.timeout = 10s});
        response.raise_for_status();
        ++current_;
        co_return packages_from_json(response.json());
    }
    /// With aclose(), for_each, with, enter and the views close the object.
    aio::coro<> aclose() { co_await session_.aclose(); }

private:
    std::string base_;
    std::size_t current_, end_;
    aio::http::session session_;
};

}  // namespace

aio::coro<> iteration_protocol(state& t) {
    const std::string base = co_await t.served();
    const std::size_t count = (t.read.count + page_size - 1) / page_size;

    tally by_hand;
    page_range pages(t.web(), base, 0, count);
    while (auto page = co_await pages.next()) {
        for (const package& p : *page) by_hand.add(p);
    }
    co_await pages.aclose();
    must_agree("packages by next()", t.read, by_hand);

    tally composed;
    co_await aio::for_each(
        page_range(t.web(), base, 0, count) | aio::views::flatten(), [&](const package& p) { composed.add(p); });
    must_agree("packages by for_each", t.read, composed);
    const auto chunks = co_await (page_range(t.web(), base, 0, count) | aio::views::flatten() | aio::views::chunk(100) |
        aio::views::enumerate() | aio::to<std::vector>());
    t.out.line(std::to_string(by_hand.count) + " packages by a class with next(), the same by for_each");
    t.out.line("cut into " + std::to_string(chunks.size()) + " numbered chunks of 100");
    t.out.number("chunks", static_cast<double>(chunks.size()));
}

}  // namespace tour
