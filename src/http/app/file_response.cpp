// response::file(), and what router::files() shares with it. All that may block is done in one job on a thread of the
// file pool: open, fstat, and for a small file the read. What is larger is sent from its descriptor by the engine.

#include "http/app/file_request.hpp"

#include "http/access.hpp"
#include "http/app/accept_encoding.hpp"
#include "http/app/beneath.hpp"
#include "http/app/content_types.hpp"
#include "http/app/date.hpp"
#include "http/body.hpp"
#include "http/target.hpp"

#include <aio/detail/io/adopted_file.hpp>
#include <aio/detail/threads/blocking.hpp>

#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <system_error>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace aio::inline v0::detail {

namespace {

constexpr std::uint64_t small_size = 64 * 1024;

descriptor open_path_of(const file_request& what, const std::string& path) noexcept {
    if (what.folder.empty()) return descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    const descriptor folder(::open(what.folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    return folder ? open_beneath(folder.get(), path) : descriptor();
}

/// Opens one path. False, with the reason in found.error, if it is no regular file.
bool open_one(const file_request& what, const std::string& path, opened_file& found) {
    found.fd = open_path_of(what, path);
    struct stat status{};
    if (!found.fd || ::fstat(found.fd.get(), &status) != 0) {
        found.error = errno;
        return false;
    }
    if (!S_ISREG(status.st_mode)) {
        found.error = S_ISDIR(status.st_mode) ? EISDIR : ENXIO;
        found.fd = {};
        return false;
    }
    found.error = 0;
    found.facts.size = static_cast<std::uint64_t>(status.st_size);
    found.facts.modified = status.st_mtim.tv_sec;
    found.facts.is_fresh = std::time(nullptr) - status.st_mtim.tv_sec < 2;
    std::array<char, 64> tag{};
    std::snprintf(tag.data(), tag.size(), "\"%llx.%lx-%llx\"", static_cast<unsigned long long>(status.st_mtim.tv_sec),
        static_cast<unsigned long>(status.st_mtim.tv_nsec), static_cast<unsigned long long>(status.st_size));
    found.facts.tag = tag.data();
    return true;
}

// Appends a part of the file to the text, and gives how many bytes that were: fewer if the file has become shorter.
std::size_t append_part(opened_file& found, const byte_span& part) {
    const std::size_t before = found.text.size();
    found.text.resize(before + static_cast<std::size_t>(part.count));
    std::size_t have = 0;
    while (have < part.count) {
        const ssize_t n = ::pread(found.fd.get(), found.text.data() + before + have,
            static_cast<std::size_t>(part.count) - have, static_cast<off_t>(part.offset + have));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) found.error = errno;
        if (n <= 0) break;
        have += static_cast<std::size_t>(n);
    }
    found.text.resize(before + have);
    return have;
}

// A file that has become shorter meanwhile is sent as short as it is.
void read_small(opened_file& found) {
    found.verdict.count = append_part(found, {found.verdict.offset, found.verdict.count});
    found.fd = {};
}

void read_small_parts(opened_file& found) {
    const parts_body& body = *found.parts;
    for (std::size_t i = 0; i < body.parts().size(); ++i) {
        found.text += body.before(i);
        if (append_part(found, body.parts()[i]) < body.parts()[i].count && found.error == 0) found.error = EIO;
    }
    found.text += body.before(body.parts().size());
    found.fd = {};
}

std::string type_of(const file_request& what) {
    return what.content_type.empty() ? std::string(content_type_of(what.path)) : what.content_type;
}

// Several parts of a compressed file are sent as all of it: nobody agrees on what the coding would be of.
void plan_parts(const file_request& what, opened_file& found) {
    if (found.verdict.parts.empty()) return;
    if (found.gzip) {
        found.verdict = {200, 0, found.facts.size, {}};
    } else {
        found.parts.emplace(std::move(found.verdict.parts), found.facts.size, type_of(what));
        found.verdict.count = found.parts->size();
    }
}

bool is_not_there(int error) noexcept {
    return error == ENOENT || error == ENOTDIR || error == EISDIR || error == ENXIO || error == ELOOP ||
        error == EXDEV || error == ENAMETOOLONG || error == EINVAL || error == ENODEV;
}

http::response plain_answer(int status) {
    return http::response(
        status, std::string(http::reason(status)) + "\n", http::headers("Content-Type", "text/plain"));
}

/// RFC 6266: a name in ASCII for old clients, and the whole of it.
std::string attachment(const std::string& name) {
    std::string plain, encoded;
    for (const char c : name) {
        const auto byte = static_cast<unsigned char>(c);
        plain += byte < ' ' || byte > '~' || c == '"' || c == '\\' || c == '%' || c == '/' ? '_' : c;
    }
    percent_encode(name, encoded);
    std::string out = "attachment; filename=\"" + plain + "\"";
    if (plain != name) out += "; filename*=UTF-8''" + encoded;
    return out;
}

http::headers fields_of(const file_request& what, const opened_file& found) {
    http::headers fields("ETag", found.facts.tag, "Last-Modified",
        http_date_of(std::chrono::system_clock::time_point(std::chrono::seconds(found.facts.modified))));
    if (!what.cache_control.empty()) fields.add("Cache-Control", what.cache_control);
    if (what.precompressed) fields.add("Vary", "Accept-Encoding");
    if (found.verdict.status == 304 || found.verdict.status == 412) return fields;
    fields.add("Accept-Ranges", "bytes");
    if (found.verdict.status == 416) {
        fields.add("Content-Range", "bytes */" + std::to_string(found.facts.size));
        return fields;
    }
    fields.add("Content-Type", found.parts ? found.parts->content_type() : type_of(what));
    if (found.gzip) fields.add("Content-Encoding", "gzip");
    if (!what.download_name.empty()) fields.add("Content-Disposition", attachment(what.download_name));
    if (found.verdict.status == 206 && found.verdict.count > 0 && !found.parts)
        fields.add("Content-Range", content_range({found.verdict.offset, found.verdict.count}, found.facts.size));
    return fields;
}

}  // namespace

opened_file open_for_response(const file_request& what) {
    opened_file found;
    if (what.path.find('\0') != what.path.npos) {
        found.error = ENOENT;
        return found;
    }
    const bool zipped = what.precompressed && what.takes_gzip && open_one(what, what.path + ".gz", found);
    found.gzip = zipped;
    if (!zipped && !open_one(what, what.path, found)) return found;
    found.verdict = judge(what.asked, found.facts);
    plan_parts(what, found);
    const bool sends = found.verdict.status == 200 || found.verdict.status == 206;
    if (!sends || what.asked.is_head) {
        found.fd = {};
    } else if (found.verdict.count <= small_size && found.parts) {
        read_small_parts(found);
    } else if (found.verdict.count <= small_size) {
        read_small(found);
    }
    return found;
}

http::response response_of(const file_request& what, opened_file found) {
    if (is_not_there(found.error)) return plain_answer(404);
    if (found.error == EACCES || found.error == EPERM) return plain_answer(403);
    if (found.error != 0) throw std::system_error(found.error, std::generic_category(), "open " + what.path);
    http::headers fields = fields_of(what, found);
    const int status = found.verdict.status;
    if (status != 200 && status != 206) {
        http::response r = status == 304 ? http::response(304) : plain_answer(status);
        for (const auto& [name, value] : fields) r.headers().add(name, value);
        return r;
    }
    if (found.parts && found.fd) {
        fields.add("Content-Length", std::to_string(found.verdict.count));
        file source = adopted_file(std::move(found.fd), what.path);
        return http::response::stream(
            status, pieces_of_parts(std::move(source), std::move(*found.parts)), std::move(fields));
    }
    if (what.asked.is_head) fields.add("Content-Length", std::to_string(found.verdict.count));
    http::response r(status, std::move(found.text), std::move(fields));
    if (found.fd) {
        auto special = std::make_shared<http_special_body>();
        special->source = adopted_file(std::move(found.fd), what.path);
        special->offset = found.verdict.offset;
        special->count = found.verdict.count;
        http_access::special(r) = std::move(special);
    }
    return r;
}

coro<http::response> send_file_of(file_request what, bool* is_folder) {
    auto job = [&what] { return open_for_response(what); };
    blocking_call<decltype(job)> call(file_pool(), "open " + what.path, std::move(job));
    opened_file found = co_await std::move(call);
    if (is_folder) *is_folder = found.error == EISDIR;
    co_return response_of(what, std::move(found));
}

file_answer::file_answer(std::unique_ptr<file_request> what) noexcept : what_(std::move(what)) {}
file_answer::file_answer(file_answer&&) noexcept = default;
file_answer::~file_answer() = default;

coro_awaiter<http::response> file_answer::operator co_await() && {
    return send_file_of(std::move(*what_), nullptr).operator co_await();
}

file_answer::operator http::response() && { return response_of(*what_, open_for_response(*what_)); }

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

detail::file_answer response::file(std::string path, const http::request& request, file_options options) {
    auto what = std::make_unique<detail::file_request>();
    what->path = std::move(path);
    what->content_type = options.content_type;
    what->download_name = options.download_name;
    what->cache_control = options.cache_control;
    what->precompressed = options.precompressed;
    what->takes_gzip = options.precompressed && detail::accepted_encodings(request.headers()).gzip;
    what->asked = detail::file_conditions(request);
    detail::check_field("Content-Type", what->content_type);
    detail::check_field("Cache-Control", what->cache_control);
    return detail::file_answer(std::move(what));
}

}  // namespace aio::inline v0::http
