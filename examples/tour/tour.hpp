#pragma once
// What the sections of the tour share: the input, the database, the server, and the report.
//
// The tour is one story over real input, the machine's package database. Its records are read, stored, served page by
// page, fetched back, queued, hashed and compressed. At the end the counts and checksums agree with what went in.

#include <aio/aio.hpp>
#include <aio/http.hpp>
#include <aio/http_json.hpp>
#include <aio/sql.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tour {

using namespace std::chrono_literals;

/// One record of /var/lib/dpkg/status.
struct package {
    std::string name;
    std::string version;
    std::string section;
    std::int64_t installed_kb = 0;
    std::string summary;
};

/// How many packages, and a checksum of all their fields that does not depend on the order.
struct tally {
    std::size_t count = 0;
    std::uint64_t checksum = 0;
    void add(const package& p) noexcept;
    friend bool operator==(const tally&, const tally&) = default;
};

/// What each section prints, for people or as JSON.
class report {
public:
    explicit report(bool json);
    void begin(int number, std::string title);
    /// line() says what was done, number() gives a figure of it.
    void line(std::string text);
    void number(std::string name, double value);
    /// Shows a progress bar if stdout is a terminal.
    void progress(std::size_t done, std::size_t of);
    void end();
    /// Prints the last line, or the JSON document. interrupted: says that a signal has ended the tour.
    void finish(bool interrupted);

private:
    struct entry {
        int number = 0;
        std::string title;
        std::vector<std::string> lines;
        std::vector<std::pair<std::string, double>> numbers;
        double milliseconds = 0;
        const char* backend = "";  // that it ran on
    };
    void clear_bar();
    bool json_;
    bool terminal_;
    bool bar_ = false;
    std::vector<entry> sections_;
    std::chrono::steady_clock::time_point started_;
};

struct options {
    std::filesystem::path input;
    std::string database;  // URL
    std::string queue;     // URL of a NATS server, for section 7; none: a queue of this program
    int section = 0;       // all if 0
    int workers = 0;       // for section 12, which is left out if 0
    aio::backend backend = aio::backend::automatic;
    bool json = false;
    bool tls = false;    // of the tour's own server
    std::string folder;  // temporary
};

/// Throws std::runtime_error, which names what, if two counts or checksums do not agree.
void must_agree(const std::string& what, const tally& expected, const tally& actual);

/// What the sections hand on to each other. Each section asks for what it builds on, so that --section N works alone.
class state {
public:
    state(options o, report& r) : settings(std::move(o)), out(r) {}

    options settings;
    report& out;
    tally read;  // the tally of the input

    /// Stores the packages of the input in the database, unless they are there, and gives its connections.
    aio::coro<aio::sql::pool&> stored();
    /// Starts the HTTP server, unless it runs, and gives its address, "http://localhost:PORT".
    aio::coro<std::string> served();
    /// For the clients of that server: they trust its certificate.
    aio::http::session_options web() const { return {.ca_file = certificate_}; }
    /// Closes the server and the database.
    aio::coro<> aclose();

private:
    aio::http::router routes();
    aio::coro<> make_certificate();

    std::optional<aio::sql::pool> pool_;
    bool filled_ = false;
    std::optional<aio::http::server> server_;
    std::optional<aio::server> resetting_;  // a server that breaks every connection
    std::string certificate_;               // a file; none without --tls
    int flaky_failures_ = 0;
};

/// Feeds one line of a package database: the record that ends with it, if there is one, goes to found.
void parse_line(std::string_view line, package& current, std::vector<package>& found);
nlohmann::json package_to_json(const package& p);
package package_from_json(const nlohmann::json& p);
std::vector<package> packages_from_json(const nlohmann::json& json);

/// The records of a package database, one by one, as the file is read (section 4).
aio::async_generator<package> read_packages(std::filesystem::path path);
/// Stores packages in one transaction (section 3).
aio::coro<> store_batch(aio::sql::connection& db, const std::vector<package>& batch);
aio::coro<> create_table(aio::sql::connection& db);
/// The pages of a server, until one is empty (section 4).
aio::async_generator<std::vector<package>> fetch_pages(
    aio::http::session_options web, std::string base, std::size_t page_size);

constexpr std::size_t page_size = 50;

aio::coro<> async_await(state& t);         // 01
aio::coro<> task_groups(state& t);         // 02
aio::coro<> context_managers(state& t);    // 03
aio::coro<> async_generators(state& t);    // 04
aio::coro<> comprehensions(state& t);      // 05
aio::coro<> synchronisation(state& t);     // 06
aio::coro<> queues(state& t);              // 07
aio::coro<> queues_over_nats(state& t);    // 07, with --queue
aio::coro<> timeouts(state& t);            // 08
aio::coro<> background_tasks(state& t);    // 09
aio::coro<> iteration_protocol(state& t);  // 10
aio::coro<> sync_and_async(state& t);      // 11
aio::coro<> all_cores(state& t);           // 12

}  // namespace tour
