#pragma once
// How a connection to PostgreSQL is made: libpq reads the URL, speaks to the server until it has let the user in, and
// never blocks.

#include "sql/driver.hpp"
#include "sql/postgres/errand.hpp"

#include <aio/detail/loop/timer.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <libpq-fe.h>

namespace aio::inline v0::sql {

struct connection_closer {
    void operator()(PGconn* c) const noexcept { PQfinish(c); }
};
using connection_ptr = std::unique_ptr<PGconn, connection_closer>;

std::string trimmed(std::string text);
std::string one_line(std::string text);

class io_wait;

class opener final : errand_owner {
public:
    /// Throws std::invalid_argument.
    explicit opener(const std::string& url);
    ~opener() { shut(); }
    opener(const opener&) = delete;
    opener& operator=(const opener&) = delete;
    /// Connects to the first target that lets the user in. A cancel ends it at once.
    coro<connection_ptr> open();

private:
    friend class io_wait;
    using options = std::vector<std::pair<std::string, std::string>>;
    coro<> resolve();
    std::vector<options> targets();
    coro<std::optional<error>> connect_to(const options& target);
    error no_answer(const options& target) const;
    void errand_done() noexcept override;
    void shut() noexcept;
    bool cancelled() noexcept;
    bool late() const;

    options options_;                           // as libpq has read the URL
    std::chrono::seconds connect_timeout_{30};  // 0: none
    connection_ptr conn_;
    std::shared_ptr<errand> errand_;
    io_wait* wait_ = nullptr;
    time_point deadline_ = time_point::max();
    bool cancel_seen_ = false;
};

}  // namespace aio::inline v0::sql
