// read_lines and read_line_views; line_source.hpp does the work.

#include "io/line_source.hpp"

namespace aio::inline v0 {

async_generator<std::string> read_lines(std::filesystem::path path) {
    detail::require_no_nul(path.native(), "read_lines: the path");
    detail::line_source lines(co_await detail::open_path(path.native(), O_RDONLY));
    std::string line;
    while (co_await lines.more()) {
        while (lines.next()) {
            line.clear();
            line.append(lines.line().data(), lines.line().size());  // less work than assign() in libstdc++
            co_yield std::move(line);
        }
    }
    if (!lines.rest().empty()) {
        line.assign(lines.rest());
        co_yield std::move(line);
    }
    co_await lines.close();
}

async_generator<std::string_view> read_line_views(std::filesystem::path path) {
    detail::require_no_nul(path.native(), "read_line_views: the path");
    detail::line_source lines(co_await detail::open_path(path.native(), O_RDONLY));
    while (co_await lines.more()) {
        while (lines.next()) { co_yield lines.line(); }
    }
    if (!lines.rest().empty()) { co_yield lines.rest(); }
    co_await lines.close();
}

}  // namespace aio::inline v0
