// The table has what web sites consist of. Texts are taken for UTF-8.

#include "http/app/content_types.hpp"

#include "http/access.hpp"

namespace aio::inline v0::detail {

namespace {

struct known_type {
    std::string_view extension;
    std::string_view type;
};
constexpr known_type known_types[] = {
    {"html", "text/html; charset=utf-8"},
    {"htm", "text/html; charset=utf-8"},
    {"css", "text/css; charset=utf-8"},
    {"js", "text/javascript; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"map", "application/json"},
    {"webmanifest", "application/manifest+json"},
    {"txt", "text/plain; charset=utf-8"},
    {"log", "text/plain; charset=utf-8"},
    {"md", "text/markdown; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"xml", "application/xml"},
    {"rss", "application/rss+xml"},
    {"atom", "application/atom+xml"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"ics", "text/calendar; charset=utf-8"},
    {"svg", "image/svg+xml"},
    {"png", "image/png"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"webp", "image/webp"},
    {"avif", "image/avif"},
    {"bmp", "image/bmp"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"ico", "image/x-icon"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"ttf", "font/ttf"},
    {"otf", "font/otf"},
    {"mp3", "audio/mpeg"},
    {"m4a", "audio/mp4"},
    {"ogg", "audio/ogg"},
    {"opus", "audio/ogg"},
    {"wav", "audio/wav"},
    {"flac", "audio/flac"},
    {"mp4", "video/mp4"},
    {"m4v", "video/mp4"},
    {"webm", "video/webm"},
    {"mov", "video/quicktime"},
    {"mkv", "video/x-matroska"},
    {"pdf", "application/pdf"},
    {"wasm", "application/wasm"},
    {"zip", "application/zip"},
    {"gz", "application/gzip"},
    {"tar", "application/x-tar"},
    {"xz", "application/x-xz"},
    {"zst", "application/zstd"},
    {"7z", "application/x-7z-compressed"},
    {"doc", "application/msword"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"xls", "application/vnd.ms-excel"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"odt", "application/vnd.oasis.opendocument.text"},
    {"epub", "application/epub+zip"},
};

}  // namespace

std::string_view content_type_of(std::string_view path) noexcept {
    const std::string_view name = path.substr(path.rfind('/') + 1);
    const std::size_t dot = name.rfind('.');
    if (dot != name.npos) {
        for (const known_type& known : known_types) {
            if (equal_ignoring_case(known.extension, name.substr(dot + 1))) return known.type;
        }
    }
    return "application/octet-stream";
}

bool is_compressible(std::string_view content_type) noexcept {
    const std::string_view type = trimmed(content_type.substr(0, content_type.find(';')));
    if (equal_ignoring_case(type.substr(0, 5), "text/")) return true;
    for (const std::string_view ending : {"+json", "+xml", "+text"}) {
        if (type.size() > ending.size() && equal_ignoring_case(type.substr(type.size() - ending.size()), ending))
            return true;
    }
    for (const std::string_view known :
        {"application/json", "application/javascript", "application/xml", "application/yaml", "application/wasm",
            "application/x-ndjson", "application/graphql", "image/bmp", "image/x-icon", "font/ttf", "font/otf"}) {
        if (equal_ignoring_case(type, known)) return true;
    }
    return false;
}

}  // namespace aio::inline v0::detail
