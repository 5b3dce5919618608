#pragma once
// What the suites of follow_lines share.
#include "aio_test.hpp"

#include <aio/follow_lines.hpp>

#include <filesystem>
#include <fstream>
#include <string>

namespace aio_test {

inline void append(const std::filesystem::path& path, const std::string& text) {
    std::ofstream(path, std::ios::app | std::ios::binary) << text;
}
inline aio::coro<std::string> next(aio::async_generator<std::string>& lines) {
    auto line = co_await aio::wait_for(lines.next(), 20s);
    AIO_REQUIRE(line);
    co_return *line;
}

}  // namespace aio_test
