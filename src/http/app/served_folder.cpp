// router::files(). What a path may lead to is decided in two steps: names that no client has to ask for are refused by
// their text, and everything else is opened below the folder (beneath.hpp). A redirect to a folder names the last
// segment alone ("./name/"), so that no path, "//host/" say, can make it lead to another host.

#include "http/app/served_folder.hpp"

#include "http/access.hpp"
#include "http/app/accept_encoding.hpp"
#include "http/app/file_request.hpp"
#include "http/app/pattern.hpp"

#include <aio/http/router.hpp>

#include <cerrno>
#include <system_error>

#include <sys/stat.h>

namespace aio::inline v0::detail {

struct folder_settings {
    std::string folder;
    std::string cache_control;
    std::string index;
    bool precompressed = false;
    bool dot_files = false;
};

namespace {

/// True for a path that may be looked for: no empty segment but at the end, no "." and "..", no NUL.
bool is_clean(std::string_view path, bool dot_files) noexcept {
    if (path.find('\0') != path.npos) return false;
    while (!path.empty()) {
        const std::size_t slash = path.find('/');
        const std::string_view name = path.substr(0, slash);
        if (name.empty() || name == "." || name == ".." || (name.starts_with('.') && !dot_files)) return false;
        if (slash == path.npos) break;
        path.remove_prefix(slash + 1);
    }
    return true;
}

bool has_encoded_slash(std::string_view raw) noexcept {
    return raw.find("%2F") != raw.npos || raw.find("%2f") != raw.npos;
}

http::response not_found() { return http::response(404, "Not Found\n", http::headers("Content-Type", "text/plain")); }

}  // namespace

served_folder::served_folder(std::string folder, http::files_options options) {
    auto settings = std::make_shared<folder_settings>();
    settings->folder = std::move(folder);
    settings->cache_control = options.cache_control;
    settings->index = options.index;
    settings->precompressed = options.precompressed;
    settings->dot_files = options.dot_files;
    check_field("Cache-Control", settings->cache_control);
    struct stat status{};
    int error = ::stat(settings->folder.c_str(), &status) == 0 ? 0 : errno;
    if (error == 0 && !S_ISDIR(status.st_mode)) error = ENOTDIR;
    if (error != 0) throw std::system_error(error, std::generic_category(), "http::router::files: " + settings->folder);
    settings_ = std::move(settings);
}

coro<http::response> served_folder::operator()(const http::request& request) const {
    const std::shared_ptr<const folder_settings> settings = settings_;
    const std::string& path = request.param("path");
    if (has_encoded_slash(raw_path(request.method(), request.target())) || !is_clean(path, settings->dot_files))
        co_return not_found();
    file_request what;
    what.folder = settings->folder;
    what.path = path;
    const bool names_folder = path.empty() || path.ends_with('/');
    if (names_folder) {
        if (settings->index.empty()) co_return not_found();
        what.path += settings->index;
    }
    what.cache_control = settings->cache_control;
    what.precompressed = settings->precompressed;
    what.takes_gzip = what.precompressed && accepted_encodings(request.headers()).gzip;
    what.asked = file_conditions(request);
    bool is_folder = false;
    http::response r = co_await send_file_of(std::move(what), &is_folder);
    if (is_folder && !names_folder && !settings->index.empty()) co_return redirect_to_folder(request);
    co_return r;
}

http::response redirect_to_folder(const http::request& request) {
    const std::string_view target = request.target();
    const std::string_view path = raw_path(request.method(), target);
    const std::size_t mark = target.find('?');
    std::string to = "./" + std::string(path.substr(path.rfind('/') + 1)) + "/";
    if (mark != target.npos) to.append(target.substr(mark, target.find('#') - mark));
    return http::response::redirect(to, 301);
}

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

router& router::files(std::string prefix, std::string folder, files_options options) {
    if (prefix.ends_with('/')) prefix.pop_back();
    detail::served_folder served(std::move(folder), options);
    if (!prefix.empty()) get(prefix, detail::redirect_to_folder);
    return get(prefix + "/{path...}", std::move(served));
}

}  // namespace aio::inline v0::http
