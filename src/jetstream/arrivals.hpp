#pragma once
// The identities of the last items that a process has got. Others ask for them: see docs/internals/jetstream.md, "What
// a server may not be made to refuse".

#include <aio/event_loop.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {

class nats_arrivals {
public:
    void add(const std::string& id, std::uint64_t sequence) {
        if (id.empty()) return;
        const auto [at, is_new] = all_.try_emplace(id, entry{sequence, {}, false});
        at->second.last = get_running_loop().time();
        at->second.first = std::min(at->second.first, sequence);
        try {
            if (is_new) order_.push_back(id);
        } catch (...) {
            all_.erase(at);  // or nobody would forget it
            throw;
        }
        if (order_.size() <= most) return;
        all_.erase(order_.front());
        order_.pop_front();
    }
    /// The least number of a message with that identity, if one has come within this time; else 0.
    std::uint64_t first(const std::string& id, std::chrono::nanoseconds age) const {
        const auto found = all_.find(id);
        if (found == all_.end() || get_running_loop().time() - found->second.last > age) return 0;
        return found->second.first;
    }
    /// The item is done: a message for it was acknowledged.
    void done(const std::string& id) noexcept {
        const auto found = all_.find(id);
        if (found != all_.end()) found->second.done = true;
    }
    bool is_done(const std::string& id) const {
        const auto found = all_.find(id);
        return found != all_.end() && found->second.done;
    }
    bool empty() const noexcept { return order_.empty(); }
    /// The identities that came within this time, the newest first; at most n of them.
    std::vector<std::string_view> newest(std::size_t n, std::chrono::nanoseconds age) const {
        std::vector<std::string_view> ids;
        for (auto at = order_.rbegin(); at != order_.rend() && ids.size() < n; ++at) {
            if (first(*at, age) > 0) ids.push_back(*at);
        }
        return ids;
    }

private:
    static constexpr std::size_t most = 65'536;
    struct entry {
        std::uint64_t first;
        time_point last;
        bool done;
    };
    std::unordered_map<std::string, entry> all_;
    std::deque<std::string> order_;
};

/// Under which numbers the stream's leader has stored the last items: see docs/internals/jetstream.md, "Two items under
/// one number".
class nats_numbers {
public:
    void add(std::uint64_t number, const std::string& id) {
        const auto [at, is_new] = all_.insert_or_assign(number, id);
        if (!is_new) return;
        try {
            order_.emplace_back(number, get_running_loop().time());
        } catch (...) {
            all_.erase(at);  // or nobody would forget it
            throw;
        }
        if (order_.size() <= most) return;
        all_.erase(order_.front().first);
        order_.pop_front();
    }
    /// The identity of the item that was stored under the number; empty if that is not known.
    std::string_view id(std::uint64_t number) const {
        const auto found = all_.find(number);
        return found == all_.end() ? std::string_view() : found->second;
    }
    bool empty() const noexcept { return order_.empty(); }
    /// The numbers that came within this time, the newest first; at most n of them.
    std::vector<std::uint64_t> newest(std::size_t n, std::chrono::nanoseconds age) const {
        std::vector<std::uint64_t> numbers;
        const time_point since = get_running_loop().time() - age;
        for (auto at = order_.rbegin(); at != order_.rend() && at->second >= since && numbers.size() < n; ++at) {
            numbers.push_back(at->first);
        }
        return numbers;
    }

private:
    static constexpr std::size_t most = 20'000;
    std::unordered_map<std::uint64_t, std::string> all_;
    std::deque<std::pair<std::uint64_t, time_point>> order_;
};

}  // namespace aio::inline v0::detail
