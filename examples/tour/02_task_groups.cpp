// Task groups: no task outlives its block; all errors leave together.
//
//     async def parse_all(slices: list[str]) -> list[Package]:
//         async with asyncio.TaskGroup() as tg:
//             tasks = [tg.create_task(parse(s)) for s in slices]
//         return [p for t in tasks for p in t.result()]        # all are done here
//
//     async def robust(sources: list[str]) -> list[Exception]:
//         try:
//             async with asyncio.TaskGroup() as tg:
//                 for s in sources:
//                     tg.create_task(load(s))
//         except* OSError as eg:
//             return list(eg.exceptions)

#include "tour.hpp"

#include <charconv>
#include <system_error>

namespace tour {
namespace {

// Parses the records of a slice of the file, and lets other tasks run now and then.
aio::coro<std::vector<package>> parse(std::string_view slice) {
    std::vector<package> found;
    package current;
    while (!slice.empty()) {
        const std::size_t end = slice.find('\n');
        const std::string_view line = slice.substr(0, end);
        slice.remove_prefix(end == std::string_view::npos ? slice.size() : end + 1);
        parse_line(line, current, found);
        if (line.empty() && found.size() % 64 == 0) co_await aio::sleep(0s);
    }
    parse_line("", current, found);
    co_return found;
}

// Cuts the text between records, into about n pieces.
std::vector<std::string_view> cut(std::string_view text, std::size_t n) {
    std::vector<std::string_view> slices;
    const std::size_t about = text.size() / n + 1;
    while (!text.empty()) {
        std::size_t end = text.size() <= about ? std::string_view::npos : text.find("\n\n", about);
        end = end == std::string_view::npos ? text.size() : end + 2;
        slices.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return slices;
}

aio::coro<std::size_t> load(std::string path) {
    const std::string text = co_await aio::read_file(path);
    if (text.find("Package: ") == std::string::npos) throw std::invalid_argument(path + " holds no package record");
    co_return text.size();
}

}  // namespace

aio::coro<> task_groups(state& t) {
    const std::string text = co_await aio::read_file(t.settings.input);
    std::vector<aio::task<std::vector<package>>> tasks;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        for (std::string_view slice : cut(text, 8)) tasks.push_back(tg.create_task(parse(slice)));
    });
    tally parsed;
    for (auto& task : tasks) {
        for (const package& p : task.result()) parsed.add(p);
    }
    must_agree("packages parsed by a group of tasks", t.read, parsed);
    t.out.line(
        std::to_string(parsed.count) + " packages parsed by " + std::to_string(tasks.size()) + " tasks of one group");
    t.out.number("packages", static_cast<double>(parsed.count));

    std::string missing, other;
    try {
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
            tg.create_task(load(t.settings.input.string() + ".is-not-there"));
            tg.create_task(load("/proc/self/status"));
            tg.create_task(
                []() -> aio::coro<> { co_await aio::sleep_forever(); });  // cancelled when the first one fails
        });
    } catch (const aio::exception_group& eg) {
        const auto rest = eg.handle<std::system_error>([&](const std::system_error& e) { missing = e.what(); });
        if (rest) other = rest->what();
    }
    t.out.line("a group that fails as a whole: " + missing);
    if (!other.empty()) t.out.line("and: " + other);
    if (missing.empty()) throw std::runtime_error("a missing file was not reported");
}

}  // namespace tour
