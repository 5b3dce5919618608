// The tour: all sections as one program. `./dev tour --help` says how to call it.

#include "tour.hpp"

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tour {

// ---- records ----

namespace {
std::uint64_t mix(std::uint64_t hash, std::string_view text) noexcept {  // FNV-1a
    for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    return (hash ^ 0xff) * 0x100000001b3U;
}
}  // namespace

void tally::add(const package& p) noexcept {
    ++count;
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (std::string_view field : {std::string_view(p.name), std::string_view(p.version), std::string_view(p.section),
             std::string_view(p.summary)}) {
        hash = mix(hash, field);
    }
    checksum += mix(hash, std::to_string(p.installed_kb));
}

void must_agree(const std::string& what, const tally& expected, const tally& actual) {
    if (expected == actual) return;
    throw std::runtime_error(what + ": " + std::to_string(actual.count) + " with checksum " +
        std::to_string(actual.checksum) + ", but the input holds " + std::to_string(expected.count) +
        " with checksum " + std::to_string(expected.checksum));
}

void parse_line(std::string_view line, package& current, std::vector<package>& found) {
    if (line.empty()) {
        if (!current.name.empty()) found.push_back(std::exchange(current, {}));
        return;
    }
    const auto value_of = [line](std::string_view key) -> std::optional<std::string_view> {
        if (!line.starts_with(key)) return std::nullopt;
        return line.substr(key.size());
    };
    if (const auto name = value_of("Package: ")) {
        current.name = *name;
    } else if (const auto version = value_of("Version: ")) {
        current.version = *version;
    } else if (const auto section = value_of("Section: ")) {
        current.section = *section;
    } else if (const auto summary = value_of("Description: ")) {
        current.summary = *summary;
    } else if (const auto size = value_of("Installed-Size: ")) {
        std::from_chars(size->data(), size->data() + size->size(), current.installed_kb);
    } else if (const auto architecture = value_of("Architecture: ")) {
        // A package may be installed for several architectures, and each has a record of its own.
        static const std::string native = [] {
#if defined(__x86_64__)
            return "amd64";
#elif defined(__aarch64__)
            return "arm64";
#else
            return "all";
#endif
        }();
        if (*architecture != "all" && *architecture != native) current.name += ":" + std::string(*architecture);
    }
}

nlohmann::json package_to_json(const package& p) {
    return {{"name", p.name}, {"version", p.version}, {"section", p.section}, {"installed_kb", p.installed_kb},
        {"summary", p.summary}};
}

package package_from_json(const nlohmann::json& p) {
    return {p.at("name"), p.at("version"), p.at("section"), p.at("installed_kb"), p.at("summary")};
}

std::vector<package> packages_from_json(const nlohmann::json& json) {
    std::vector<package> packages;
    for (const nlohmann::json& p : json) packages.push_back(package_from_json(p));
    return packages;
}

// ---- the report ----

report::report(bool json) : json_(json), terminal_(!json && ::isatty(STDOUT_FILENO) == 1) {}

void report::begin(int number, std::string title) {
    entry e;
    e.number = number;
    e.title = std::move(title);
    sections_.push_back(std::move(e));
    started_ = std::chrono::steady_clock::now();
    if (!json_) std::printf("%2d. %s\n", number, sections_.back().title.c_str());
}

void report::line(std::string text) {
    clear_bar();
    if (!json_) std::printf("      %s\n", text.c_str());
    sections_.back().lines.push_back(std::move(text));
}

void report::number(std::string name, double value) { sections_.back().numbers.emplace_back(std::move(name), value); }

void report::progress(std::size_t done, std::size_t of) {
    if (!terminal_ || of == 0 || (done % 16 != 0 && done != of)) return;
    constexpr std::size_t width = 40;
    const std::size_t filled = done >= of ? width : done * width / of;
    std::printf("\r      [%-40s] %3zu %%", std::string(filled, '#').c_str(), done * 100 / of);
    std::fflush(stdout);
    bar_ = true;
}

void report::clear_bar() {
    if (bar_) std::fputs("\r\033[K", stdout);
    bar_ = false;
}

void report::end() {
    clear_bar();
    sections_.back().backend = aio::get_running_loop().backend() == aio::backend::io_uring ? "io_uring" : "epoll";
    sections_.back().milliseconds =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started_).count();
    const entry& now = sections_.back();
    const bool changed = sections_.size() > 1 && sections_[sections_.size() - 2].backend != now.backend;
    const char* why = changed ? ", which a loop takes with its first TCP connection" : "";
    if (!json_) std::printf("      %.1f ms on %s%s\n", now.milliseconds, now.backend, why);
    std::fflush(stdout);
}

void report::finish(bool interrupted) {
    clear_bar();
    if (json_) {
        nlohmann::json document = {{"interrupted", interrupted}, {"sections", nlohmann::json::array()}};
        for (const entry& e : sections_) {
            document["sections"].push_back({{"number", e.number}, {"title", e.title}, {"lines", e.lines},
                {"numbers", e.numbers}, {"ms", e.milliseconds}, {"backend", e.backend}});
        }
        std::printf("%s\n", document.dump(2).c_str());
    } else if (interrupted) {
        std::printf("\ninterrupted: %zu sections begun, everything that was open has been closed\n", sections_.size());
    } else {
        std::printf("all %zu sections done; nothing was lost: counts and checksums agree\n", sections_.size());
    }
    std::fflush(stdout);
}

namespace {

struct section {
    const char* title;
    aio::coro<> (*run)(state&);
};

constexpr section sections[] = {
    {"async/await and gather", async_await},
    {"task groups and exception groups", task_groups},
    {"async context managers", context_managers},
    {"async generators", async_generators},
    {"async comprehensions", comprehensions},
    {"synchronisation primitives", synchronisation},
    {"queues", queues},
    {"timeouts", timeouts},
    {"background tasks", background_tasks},
    {"the iteration protocol", iteration_protocol},
    {"sync and async code together", sync_and_async},
    {"all cores: loops on several threads", all_cores},
};
constexpr int section_count = sizeof sections / sizeof *sections;

bool is_wanted(const options& o, int number) {
    if (o.section != 0) return o.section == number;
    return number < section_count || o.workers != 0;  // the last one only with --workers
}

aio::coro<> run_sections(state& t) {
    co_await aio::for_each(read_packages(t.settings.input), [&](const package& p) { t.read.add(p); });
    if (t.read.count == 0) throw std::invalid_argument(t.settings.input.string() + " holds no package record");
    for (int number = 1; number <= section_count; ++number) {
        if (!is_wanted(t.settings, number)) continue;
        t.out.begin(number, sections[number - 1].title);
        co_await sections[number - 1].run(t);
        t.out.end();
    }
}

constexpr const char* usage =
    "usage: aiocxx_tour [--input FILE] [--db URL] [--queue URL] [--section N] [--backend NAME] [--workers N] [--tls] "
    "[--json]\n"
    "  --input FILE   a package database (default: /var/lib/dpkg/status, or the sample that ships)\n"
    "  --db URL       sqlite:///FILE or postgresql://USER@HOST/DB (default: SQLite in a temporary file)\n"
    "  --queue URL    section 7 over a JetStream queue of this server, nats://HOST:PORT; ./dev tour --queue nats "
    "starts "
    "one\n"
    "  --section N    only section N, 1 to 12\n"
    "  --backend NAME epoll or io_uring: what waits for descriptors (default: what AIO_BACKEND says, or automatic)\n"
    "  --workers N    also section 12, which computes on the loops of N threads, 1 to 256\n"
    "  --tls          the tour's own server speaks TLS and HTTP/2, with a certificate that openssl makes\n"
    "  --json         the report as JSON\n";

[[noreturn]] void refuse(const std::string& why) {
    std::fprintf(stderr, "aiocxx_tour: %s\n%s", why.c_str(), usage);
    std::exit(2);
}

int number_of(std::string_view option, std::string_view value, int most) {
    int number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < 1 || number > most)
        refuse(std::string(option) + " is 1 to " + std::to_string(most) + ", not '" + std::string(value) + "'");
    return number;
}

aio::backend backend_of(std::string_view value) {
    if (value == "epoll") return aio::backend::epoll;
    if (value == "io_uring") return aio::backend::io_uring;
    refuse("--backend is epoll or io_uring, not '" + std::string(value) + "'");
}

std::string nats_url(std::string_view value) {
#ifdef AIO_TOUR_NATS
    if (value == "nats") refuse("--queue nats is for ./dev tour, which starts a server; here it is nats://HOST:PORT");
    if (!value.starts_with("nats://") && !value.starts_with("tls://"))
        refuse("--queue is nats://HOST:PORT, not '" + std::string(value) + "'");
    return std::string(value);
#else
    refuse("--queue " + std::string(value) + ": this tour was built without aio::jetstream");
#endif
}

/// True if it is one of the options without a value.
bool set_switch(options& o, std::string_view name) {
    if (name == "--help" || name == "-h") {
        std::fputs(usage, stdout);
        std::exit(0);
    }
    if (name == "--json") o.json = true;
    if (name == "--tls") o.tls = true;
    return name == "--json" || name == "--tls";
}

void set_value(options& o, std::string_view name, std::string_view value) {
    if (name == "--input") o.input = value;
    if (name == "--db") o.database = value;
    if (name == "--queue") o.queue = nats_url(value);
    if (name == "--section") o.section = number_of(name, value, section_count);
    if (name == "--workers") o.workers = number_of(name, value, 256);
    if (name == "--backend") o.backend = backend_of(value);
}

options parse(int argc, char** argv) {
    options o;
    for (int i = 1; i < argc; ++i) {
        const std::string_view name = argv[i];
        if (set_switch(o, name)) continue;
        if (name != "--input" && name != "--db" && name != "--queue" && name != "--section" && name != "--backend" &&
            name != "--workers")
            refuse("unknown option '" + std::string(name) + "'");
        if (i + 1 == argc) refuse(std::string(name) + " needs a value");
        set_value(o, name, argv[++i]);
    }
    if (o.input.empty()) {
        o.input = "/var/lib/dpkg/status";
        if (!std::filesystem::exists(o.input)) o.input = AIO_TOUR_SAMPLE;
    }
    return o;
}

/// A temporary folder for the database and the certificate, removed at the end.
class scratch {
public:
    scratch() {
        std::string pattern = (std::filesystem::temp_directory_path() / "aiocxx-tour-XXXXXX").string();
        if (!::mkdtemp(pattern.data()))
            throw std::system_error(errno, std::generic_category(), "mkdtemp of " + pattern);
        path_ = pattern;
    }
    ~scratch() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    scratch(const scratch&) = delete;
    scratch& operator=(const scratch&) = delete;
    std::string path() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

// However the tour ends, its folder is removed before the program ends.
aio::coro<> async_main(options settings) {
    const scratch folder;
    settings.folder = folder.path();
    if (settings.database.empty()) settings.database = "sqlite:///" + settings.folder + "/packages.db";
    report out(settings.json);
    state t(std::move(settings), out);
    try {
        // with() calls t.aclose() at the end: the servers are closed, and their handlers have ended, before what they
        // refer to is destroyed.
        co_await aio::with(t, run_sections);
    } catch (const aio::cancelled_error&) {  // by SIGINT or SIGTERM
        out.finish(true);
        throw;
    }
    out.finish(false);
}

}  // namespace
}  // namespace tour

int main(int argc, char** argv) {
    tour::options settings = tour::parse(argc, argv);
    const aio::run_options how = {.io = settings.backend, .handle_sigterm = true};
    return aio::run_main(tour::async_main(std::move(settings)), how);
}
