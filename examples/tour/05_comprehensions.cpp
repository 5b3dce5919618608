// Async comprehensions.
//
//     async def all_names(base): return [p.name async for p in packages(base)]
//     async def by_name(base): return {p.name: p async for p in packages(base)}
//     async def large(base): return [p async for p in packages(base) if p.installed_kb > 10_000]

#include "tour.hpp"

#include <map>
#include <set>

namespace tour {
namespace {

// The packages of all pages.
auto packages(state& t, const std::string& base) { return fetch_pages(t.web(), base, 200) | aio::views::flatten(); }

std::string name_of(const package& p) { return p.name; }
std::pair<std::string, package> name_and_package(const package& p) { return {p.name, p}; }
bool is_large(const package& p) { return p.installed_kb > 10'000; }

}  // namespace

aio::coro<> comprehensions(state& t) {
    const std::string base = co_await t.served();
    const std::vector<std::string> names =
        co_await (packages(t, base) | aio::views::transform(name_of) | aio::to<std::vector>());
    const std::map<std::string, package> by_name =
        co_await (packages(t, base) | aio::views::transform(name_and_package) | aio::to<std::map>());
    const std::vector<package> large =
        co_await (packages(t, base) | aio::views::filter(is_large) | aio::to<std::vector>());
    const std::set<std::string> sections =
        co_await (packages(t, base) | aio::views::transform(&package::section) | aio::to<std::set>());

    tally mapped;
    std::int64_t most = 0;
    std::string largest = "none";
    for (const auto& [name, p] : by_name) mapped.add(p);
    for (const package& p : large) {
        if (p.installed_kb > most) {
            most = p.installed_kb;
            largest = p.name;
        }
    }
    must_agree("packages in a map", t.read, mapped);
    t.out.line(std::to_string(names.size()) + " names in a list, " + std::to_string(by_name.size()) +
        " packages in a map, " + std::to_string(sections.size()) + " sections in a set");
    t.out.line(std::to_string(large.size()) + " packages are larger than 10 MB; the largest is " + largest + " with " +
        std::to_string(most / 1024) + " MB");
    t.out.number("large", static_cast<double>(large.size()));
}

}  // namespace tour
