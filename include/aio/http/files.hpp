#pragma once
// Files as responses: response::file() sends one, router::files() a folder. They answer HEAD, ranges (several of them
// as multipart/byteranges; the whole file where ranges would be more work), and the conditions of caches and browsers
// (ETag, Last-Modified; 304, 206, 412, 416); what is large is sent from the file without being in memory.
//
//     aio::coro<aio::http::response> report_page(aio::http::request request) {
//         co_return co_await aio::http::response::file("/reports/2026.pdf", request, {.download_name = "report.pdf"});
//     }
//
//     aio::http::router app;
//     app.files("/static", "www", {.precompressed = true, .cache_control = "max-age=3600"});
//
// files() sends nothing that lies outside of its folder, whatever the path says and wherever links lead. Source: RFC
// 9110, sections 13 and 14.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>

#include <memory>
#include <string_view>

namespace aio::inline v0::http {

class request;
class response;

/// The options of response::file().
struct file_options {
    std::string_view content_type = {};   // empty: by the name's extension
    std::string_view download_name = {};  // tells a browser to save the file under this name
    std::string_view cache_control = {};  // the field Cache-Control, if any
    bool precompressed = false;           // sends NAME.gz to who takes gzip, where there is one
};

/// The options of files().
struct files_options {
    bool precompressed = false;             // as in file_options
    std::string_view cache_control = {};    // the field Cache-Control, if any
    bool dot_files = false;                 // sends files and folders whose names begin with a dot, too
    std::string_view index = "index.html";  // of a folder; empty: folders are 404
};

}  // namespace aio::inline v0::http

namespace aio::inline v0::detail {

struct file_request;

/// The result of response::file(). Awaiting it gives an http::response; converting it to one without a co_await does,
/// too.
class [[nodiscard("co_await it")]] file_answer {
public:
    explicit file_answer(std::unique_ptr<file_request> what) noexcept;
    file_answer(file_answer&&) noexcept;
    file_answer& operator=(file_answer&&) = delete;
    ~file_answer();
    coro_awaiter<http::response> operator co_await() &&;
    operator http::response() &&;

private:
    std::unique_ptr<file_request> what_;
};

}  // namespace aio::inline v0::detail
