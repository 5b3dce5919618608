// An answer names the codings of its body in the order in which the server applied them. Each coding becomes a stage
// with a stream of zlib's, and the stages stand in a row, the last coding first. read() asks the last stage, and each
// stage asks the one before it when its input is used up. So no stage decodes more than is asked for, however much a
// few bytes would grow into.
//
// curl_transfer feeds a decoder as libcurl receives the body, and has it check the end of the body.

#include "http/client/decoder.hpp"

#include "http/access.hpp"

#include <aio/http/message.hpp>

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>

namespace aio::inline v0::detail {

namespace {

constexpr std::size_t most_stages = 3;
constexpr std::size_t piece_size = 16 * 1024;

enum class coding : std::uint8_t { identity, gzip, deflate, unknown };

coding coding_of(std::string_view name) noexcept {
    if (name.empty() || equal_ignoring_case(name, "identity")) return coding::identity;
    if (equal_ignoring_case(name, "gzip") || equal_ignoring_case(name, "x-gzip")) return coding::gzip;
    if (equal_ignoring_case(name, "deflate")) return coding::deflate;
    return coding::unknown;
}

}  // namespace

struct http_decoder::stage {
    enum class state : std::uint8_t {
        empty,    // no byte has come
        inside,   // a stream of zlib's has begun
        between,  // a member of a gzip body has ended: another one may come (RFC 1952, 2.2), or zeros
        padding,  // zeros have come behind a gzip body: tar and tapes leave some
        ended,    // a deflate body has ended
    };

    explicit stage(bool is_gzip) noexcept : gzip(is_gzip) {}
    ~stage() {
        if (at != state::empty) ::inflateEnd(&z);
    }
    stage(const stage&) = delete;
    stage& operator=(const stage&) = delete;

    bool has_input() const noexcept { return used < input.size() || output_waits; }
    bool has_more() const noexcept { return has_input() || (before && before->has_more()); }

    std::size_t read(char* out, std::size_t most) {
        std::size_t made = 0;
        while (made < most) {
            if (used == input.size()) {
                input.clear();
                used = 0;
                if (before && before->has_more()) {
                    input.resize(piece_size);
                    input.resize(before->read(input.data(), piece_size));
                }
            }
            if (!has_input()) break;
            if (!begin_member()) continue;
            z.next_in = reinterpret_cast<Bytef*>(input.data() + used);
            z.avail_in = static_cast<uInt>(input.size() - used);
            z.next_out = reinterpret_cast<Bytef*>(out + made);
            z.avail_out = static_cast<uInt>(std::min<std::size_t>(most - made, 1U << 30));
            const uInt room = z.avail_out;
            const int code = ::inflate(&z, Z_NO_FLUSH);
            used = input.size() - z.avail_in;
            made += room - z.avail_out;
            output_waits = z.avail_out == 0 && code != Z_STREAM_END;
            if (code == Z_STREAM_END) {
                at = gzip ? state::between : state::ended;
            } else if (code == Z_MEM_ERROR) {
                throw std::bad_alloc();
            } else if (code != Z_OK && code != Z_BUF_ERROR) {  // Z_BUF_ERROR: zlib wants more input
                bad(z.msg ? z.msg : "no stream of zlib's");
            }
        }
        return made;
    }

    // Looks at the next byte, and begins a stream of zlib's if none is under way. False if the byte was padding, which
    // is skipped.
    bool begin_member() {
        if (at == state::inside) return true;
        const char first = input[used];
        if (at == state::ended) bad("there is more behind its end");
        if (at == state::empty) {
            // "deflate" is the format of zlib (RFC 9110, 8.4.1.2), which begins with a byte 0x?8; but many servers send
            // the compressed data without it.
            const bool bare = !gzip && (first & 0x8f) != 0x08;
            if (::inflateInit2(&z, gzip ? 16 + MAX_WBITS : bare ? -MAX_WBITS : MAX_WBITS) != Z_OK)
                throw std::bad_alloc();
            at = state::inside;
            return true;
        }
        if (first == '\0') {
            at = state::padding;
            ++used;
            return false;
        }
        if (at == state::padding) bad("there is more behind its end");
        ::inflateReset(&z);
        at = state::inside;
        return true;
    }

    [[noreturn]] void bad(const char* why) const {
        throw http::error(
            std::string("the body is not what Content-Encoding says (") + (gzip ? "gzip" : "deflate") + "): " + why);
    }

    void check_end() const {
        if (at == state::inside)
            throw http::error(std::string("the body was cut short (Content-Encoding ") + (gzip ? "gzip)" : "deflate)"));
    }

    const bool gzip;
    stage* before = nullptr;  // the stage that decodes first; its output is this stage's input
    state at = state::empty;
    bool output_waits = false;  // zlib may have more output without more input
    std::string input;
    std::size_t used = 0;
    z_stream z{};
};

http_decoder::http_decoder() = default;
http_decoder::~http_decoder() = default;

std::unique_ptr<http_decoder> http_decoder::of(const http::headers& answer, bool asked_by_caller) {
    std::unique_ptr<http_decoder> d;
    bool known = true;
    for (const auto& [name, value] : answer) {
        if (!equal_ignoring_case(name, "Content-Encoding")) continue;
        for_each_element(value, [&](std::string_view named) {
            const coding c = coding_of(named);
            if (c == coding::identity) return;
            if (c == coding::unknown) {
                known = false;
                if (asked_by_caller) return;
                throw http::error("the body has a Content-Encoding that was not asked for: " + std::string(named));
            }
            if (!d) d.reset(new http_decoder);
            d->put_in_front(c == coding::gzip);
        });
    }
    return known ? std::move(d) : nullptr;
}

void http_decoder::put_in_front(bool gzip) {
    if (stages_.size() == most_stages) throw http::error("the body has too many Content-Encodings");
    stages_.insert(stages_.begin(), std::make_unique<stage>(gzip));
    if (stages_.size() > 1) stages_[1]->before = stages_[0].get();
}

void http_decoder::give(std::string_view encoded) {
    stage& first = *stages_.front();
    first.input.erase(0, std::exchange(first.used, 0));
    first.input += encoded;
}

bool http_decoder::has_more() const noexcept { return stages_.back()->has_more(); }

void http_decoder::read(std::string& out, std::size_t most) {
    const std::size_t before = out.size();
    out.resize(before + most);
    std::size_t made = 0;
    try {
        made = stages_.back()->read(out.data() + before, most);
    } catch (...) {
        out.resize(before);
        throw;
    }
    out.resize(before + made);
}

void http_decoder::check_end() const {
    for (const auto& s : stages_) s->check_end();
}

}  // namespace aio::inline v0::detail
