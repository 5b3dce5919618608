#pragma once
// The statements that an SQLite connection keeps prepared: those used last.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <sqlite3.h>

namespace aio::inline v0::sql {

struct sqlite_finalizer {
    void operator()(sqlite3_stmt* s) const noexcept { sqlite3_finalize(s); }
};
using sqlite_statement_ptr = std::unique_ptr<sqlite3_stmt, sqlite_finalizer>;

/// Whether a statement runs on the loop's thread: see here.cpp.
struct statement_speed {
    bool only_reads = false;  // a SELECT
    bool is_short = false;    // its last run on the thread was
    std::uint16_t stays = 0;  // how many times more it runs on the thread in any case
    std::uint16_t vain = 0;   // grows with the attempts in vain
    std::uint8_t doubt = 0;   // after a slow run on the loop's thread: how many runs more another one counts as a fault

    bool may_run_here() const noexcept { return only_reads && is_short && stays == 0; }
    void ran_on_the_thread(std::chrono::steady_clock::duration time) noexcept;
    void ran_here(std::chrono::steady_clock::duration time) noexcept;
    void failed_here() noexcept;
};

struct prepared_statement {
    sqlite_statement_ptr handle;
    std::vector<std::size_t> numbers;  // of the parameters in SQLite's order: 1 for $1
    std::size_t needed = 0;            // the largest of them
    statement_speed speed = {};
};

class sqlite_statement_cache {
public:
    explicit sqlite_statement_cache(std::size_t most) noexcept : most_(most) {}

    /// Gives the statement of a text, which is the last to go then, or null.
    prepared_statement* find(std::string_view text) noexcept {
        const auto found = by_text_.find(text);
        if (found == by_text_.end()) return nullptr;
        used_.splice(used_.begin(), used_, found->second);
        return &found->second->statement;
    }
    /// Keeps a statement, and drops the one that was used longest ago if there are too many. With a size of 0 it keeps
    /// this one until the next.
    prepared_statement& add(std::string text, prepared_statement s) {
        while (!used_.empty() && used_.size() >= (most_ == 0 ? 1 : most_)) {
            by_text_.erase(used_.back().text);
            used_.pop_back();
        }
        used_.push_front(entry{std::move(text), std::move(s)});
        try {
            by_text_.emplace(used_.front().text, used_.begin());
        } catch (...) {
            used_.pop_front();
            throw;
        }
        return used_.front().statement;
    }
    void clear() noexcept {
        by_text_.clear();
        used_.clear();
    }
    bool on() const noexcept { return most_ > 0; }

private:
    struct entry {
        std::string text;
        prepared_statement statement;
    };
    std::size_t most_;
    std::list<entry> used_;
    std::unordered_map<std::string_view, std::list<entry>::iterator> by_text_;
};

}  // namespace aio::inline v0::sql
