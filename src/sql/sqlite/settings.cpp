// URLs of SQLite: sqlite:///path. The path is taken as it stands, so that every file can be named.

#include "sql/sqlite/settings.hpp"

namespace aio::inline v0::sql {

sqlite_settings read_sqlite_url(const std::string& url, const connect_options& options) {
    sqlite_settings s;
    s.immutable = options.sqlite.immutable;
    s.read_only = options.sqlite.read_only || s.immutable;
    s.create = options.sqlite.create && !s.read_only;
    s.busy_timeout = options.sqlite.busy_timeout;
    s.pragmas = options.sqlite.pragmas;
    s.statement_cache = options.statement_cache;
    std::string_view rest = std::string_view(url).substr(7);
    if (rest == ":memory:" || rest == "//" || rest == "///:memory:") {
        s.path = ":memory:";
        return s;
    }
    if (!rest.starts_with("///") || rest.size() == 3) {
        throw std::invalid_argument("the URL '" + without_password(url) +
            "' names no file: it is sqlite:///relative/path, sqlite:////absolute/path or sqlite::memory:");
    }
    rest.remove_prefix(3);
    // A path that begins with ':' or "file:" would be a name or a URI of SQLite's own: "./" makes it a path again.
    s.path = (rest.starts_with(':') || rest.starts_with("file:") ? "./" : "") + std::string(rest);
    return s;
}

bool is_in_memory(const std::string& url) {
    return url.starts_with("sqlite:") && read_sqlite_url(url, connect_options()).in_memory();
}

std::string sqlite_settings::uri() const {
    constexpr char digits[] = "0123456789ABCDEF";
    std::string name = "file:";
    for (const char c : path) {
        if (c == '%' || c == '?' || c == '#') {
            name += '%';
            name += digits[static_cast<unsigned char>(c) >> 4];
            name += digits[static_cast<unsigned char>(c) & 0x0F];
        } else {
            name += c;
        }
    }
    return name + "?immutable=1";
}

}  // namespace aio::inline v0::sql
