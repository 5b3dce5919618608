#pragma once
// The statements that the server keeps prepared for a connection: those used last.

#include "sql/postgres/protocol.hpp"

#include <aio/delay.hpp>

#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace aio::inline v0::sql {

/// A statement that was used on the connection. Queries under way share it with the cache.
struct prepared {
    enum class stage : std::uint8_t {
        seen,       // used once, and not prepared: the next use prepares it
        preparing,  // the Parse has been sent, and the answer to it and its Describe has not come
        ready,
        dropped,  // it is in the cache no more
    };
    std::string key;
    std::string name;  // on the server
    stage at = stage::seen;
    std::vector<std::uint32_t> types;  // of the parameters
    row_shape shape;
    bool has_rows = false;
    bool reads = false;  // it changes nothing: see only_reads()
    time_point slow_until = time_point::min();
};
/// True if the statement certainly changes nothing, so that it can be carried out together with others, and once more.
bool only_reads(std::string_view text);

using prepared_ptr = std::shared_ptr<prepared>;

class statement_cache {
public:
    explicit statement_cache(std::size_t most) : most_(most) {}

    bool on() const noexcept { return most_ > 0; }
    /// Finds a statement, which is the last to go then, or null.
    prepared_ptr find(std::string_view key);
    /// Notes a statement that was not found. Gives the one that has to go for it, or null.
    prepared_ptr add(std::string key);
    void drop(prepared& p) noexcept;
    /// The server has forgotten all of them (DISCARD ALL).
    void clear() noexcept;
    /// Prepares nothing any more.
    void switch_off() noexcept {
        clear();
        most_ = 0;
    }

private:
    using place = std::list<prepared_ptr>::iterator;
    std::size_t most_;
    std::list<prepared_ptr> used_;  // the one used last is the first
    std::unordered_map<std::string_view, place> by_key_;
};

}  // namespace aio::inline v0::sql
