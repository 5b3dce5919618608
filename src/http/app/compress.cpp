// http::compress. What is decided here is decided from the response alone, after the handler: whether it may be
// compressed, whether that is worth it, and whether this client takes it. The first two settle Vary, because a cache
// must not give a compressed response to somebody else.

#include <aio/http/compress.hpp>

#include "http/access.hpp"
#include "http/app/accept_encoding.hpp"
#include "http/app/content_types.hpp"
#include "http/app/gzip.hpp"
#include "http/body.hpp"

#include <aio/detail/threads/blocking.hpp>

#include <algorithm>

namespace aio::inline v0::detail {

struct compress_settings {
    int level = 6;
    std::size_t minimum_size = 0;
    std::string types;
};

namespace {

using flush = gzip_writer::flush;

constexpr std::size_t size_for_a_thread = 128 * 1024;  // compressing so much takes some milliseconds

// The writer outlives the call, because a job on a thread is waited for.
coro<std::string> squeeze(gzip_writer& writer, std::string text, flush how) {
    if (text.size() < size_for_a_thread) co_return writer.write(text, how);
    auto job = [&] { return writer.write(text, how); };
    blocking_call<decltype(job)> call(default_pool(), "compress a response", std::move(job));
    co_return co_await std::move(call);
}

async_generator<std::string> squeezed_pieces(async_generator<std::string> pieces, int level) {
    gzip_writer writer(level);
    for (;;) {
        std::string* const piece = co_await pieces.next();
        if (!piece) break;
        if (piece->empty()) continue;
        std::string out = co_await squeeze(writer, std::move(*piece), flush::yes);
        co_yield std::move(out);
    }
    std::string last = writer.write({}, flush::finish);
    co_yield std::move(last);
}

async_generator<std::string> squeezed_file(std::shared_ptr<http_special_body> body, int level) {
    constexpr std::uint64_t piece_size = 256 * 1024;
    gzip_writer writer(level);
    std::uint64_t at = body->offset, left = body->count;
    while (left > 0) {
        const std::size_t size = static_cast<std::size_t>(std::min(piece_size, left));
        std::string piece = co_await body->source->read_at(static_cast<std::int64_t>(at), size);
        if (piece.empty())
            throw http::error("the file " + body->source->path() + " has become shorter while it was sent");
        at += piece.size();
        left -= piece.size();
        std::string out = co_await squeeze(writer, std::move(piece), flush::no);
        if (!out.empty()) co_yield std::move(out);
    }
    std::string last = writer.write({}, flush::finish);
    co_yield std::move(last);
    co_await body->source->aclose();
}

async_generator<std::string> no_pieces() { co_return; }

bool is_listed(std::string_view types, std::string_view content_type) {
    return list_has(types, trimmed(content_type.substr(0, content_type.find(';'))));
}

/// True if a response is one that other codings than its own may be made of.
bool may_be_changed(const http::response& r, const http_special_body* special) {
    const int status = r.status();
    if (status == 204 || status == 205 || status == 206 || status == 304) return false;
    if (special && special->upgrade) return false;
    if (r.headers().contains("Content-Encoding") || r.headers().contains("Content-Range")) return false;
    for (const std::string& value : r.headers().get_all("Cache-Control")) {
        if (list_has(value, "no-transform")) return false;
    }
    return true;
}

bool is_worth_it(const compress_settings& settings, const http::response& r, const http_special_body* special) {
    const std::string& type = r.headers()["Content-Type"];
    if (!is_compressible(type) && !is_listed(settings.types, type)) return false;
    if (special) return !special->source || special->count >= settings.minimum_size;
    return r.text().empty() ? r.headers().contains("Content-Length") : r.text().size() >= settings.minimum_size;
}

void change_fields(http::response& r) {
    http::headers& fields = r.headers();
    fields.set("Content-Encoding", "gzip");
    fields.remove("Content-Length");
    fields.remove("Accept-Ranges");
    const std::string tag = fields["ETag"];
    if (tag.starts_with('"')) fields.set("ETag", "W/" + tag);
}

coro<> change_body(const compress_settings& settings, http::response& r) {
    std::shared_ptr<http_special_body>& special = http_access::special(r);
    if (!special && !r.text().empty()) {
        gzip_writer writer(settings.level);
        std::string out = co_await squeeze(writer, std::move(http_access::body(r)), flush::finish);
        http_access::body(r) = std::move(out);
        co_return;
    }
    auto changed = std::make_shared<http_special_body>();
    if (special) changed->trailers = special->trailers;
    if (!special) {
        changed->pieces.emplace(no_pieces());  // the answer to HEAD: nobody knows how long the body would be
    } else if (special->pieces) {
        changed->pieces.emplace(squeezed_pieces(std::move(*special->pieces), settings.level));
        changed->going_away = std::move(special->going_away);
    } else {
        changed->pieces.emplace(squeezed_file(std::move(special), settings.level));
    }
    special = std::move(changed);
}

coro<http::response> compressed(
    std::shared_ptr<const compress_settings> settings, http::request request, http::next next) {
    const accepted_encodings accepted(request.headers());
    http::response r = co_await next(std::move(request));
    if (r.status() == 304) vary_by_encoding(r.headers());  // it says what the 200 would say
    const http_special_body* const special = http_access::special(r).get();
    if (!may_be_changed(r, special)) co_return r;
    const bool has_body = special || !r.text().empty();
    const bool must = !accepted.identity && accepted.gzip && has_body;
    if (!must && !is_worth_it(*settings, r, special)) co_return r;
    vary_by_encoding(r.headers());
    if (!accepted.gzip) co_return r;
    change_fields(r);
    co_await change_body(*settings, r);
    co_return r;
}

}  // namespace

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

compress::compress(compress_options options) {
    if (options.level < 1 || options.level > 9)
        throw std::invalid_argument("http::compress: the level is from 1 to 9, not " + std::to_string(options.level));
    auto settings = std::make_shared<detail::compress_settings>();
    settings->level = options.level;
    settings->minimum_size = options.minimum_size;
    settings->types = options.types;
    settings_ = std::move(settings);
}

coro<response> compress::operator()(http::request request, http::next next) const {
    return detail::compressed(settings_, std::move(request), std::move(next));
}

}  // namespace aio::inline v0::http
