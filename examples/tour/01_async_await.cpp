// Async functions, several at once, and errors as values.
//
//     async def inspect(path: str) -> Facts:
//         text = await read_file(path)
//         return Facts(path, len(text), text.count("\n"))
//
//     async def inspect_all(paths: list[str]) -> list[Facts]:
//         return await asyncio.gather(*[inspect(p) for p in paths])
//
//     async def safe_inspect_all(paths: list[str]) -> list[Facts | None]:
//         results = await asyncio.gather(*[inspect(p) for p in paths], return_exceptions=True)
//         return [r if not isinstance(r, Exception) else None for r in results]

#include "tour.hpp"

#include <algorithm>

namespace tour {
namespace {

struct facts {
    std::string path;
    std::size_t bytes = 0;
    std::size_t lines = 0;
};

aio::coro<facts> inspect(std::string path) {
    const std::string text = co_await aio::read_file(path);
    co_return facts{path, text.size(), static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'))};
}

aio::coro<std::vector<facts>> inspect_all(std::vector<std::string> paths) {
    std::vector<aio::coro<facts>> coros;
    for (const std::string& path : paths) coros.push_back(inspect(path));
    co_return co_await aio::gather(std::move(coros));
}

aio::coro<std::vector<std::optional<facts>>> safe_inspect_all(std::vector<std::string> paths) {
    std::vector<aio::coro<facts>> coros;
    for (const std::string& path : paths) coros.push_back(inspect(path));
    std::vector<aio::result<facts>> results = co_await aio::gather(aio::return_exceptions, std::move(coros));
    std::vector<std::optional<facts>> found;
    for (aio::result<facts>& r : results) {
        found.push_back(r.has_value() ? std::optional(std::move(r.value())) : std::nullopt);
    }
    co_return found;
}

}  // namespace

aio::coro<> async_await(state& t) {
    const std::string input = t.settings.input.string();
    const facts one = co_await inspect(input);
    t.out.line(one.path + ": " + std::to_string(one.bytes) + " bytes, " + std::to_string(one.lines) + " lines");
    t.out.number("bytes", static_cast<double>(one.bytes));
    t.out.number("lines", static_cast<double>(one.lines));

    const std::vector<std::string> thrice{
        input, input, input};  // a named local: see docs/internals/compilers.md on braces in co_await
    const std::vector<facts> again = co_await inspect_all(thrice);
    t.out.line("read " + std::to_string(again.size()) + " times at once, the same each time");
    for (const facts& f : again) {
        if (f.bytes != one.bytes || f.lines != one.lines) throw std::runtime_error("two reads of " + input + " differ");
    }

    const std::vector<std::string> three{input, input + ".is-not-there", "/proc/self/status"};
    const auto safe = co_await safe_inspect_all(three);
    const auto failed = std::count_if(safe.begin(), safe.end(), [](const auto& found) { return !found; });
    t.out.line(std::to_string(safe.size()) + " files asked for, " + std::to_string(failed) +
        " could not be read, as expected");
}

}  // namespace tour
