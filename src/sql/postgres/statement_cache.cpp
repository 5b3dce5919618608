#include "sql/postgres/statement_cache.hpp"

namespace aio::inline v0::sql {

prepared_ptr statement_cache::find(std::string_view key) {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return nullptr;
    used_.splice(used_.begin(), used_, found->second);
    return *found->second;
}

prepared_ptr statement_cache::add(std::string key) {
    auto p = std::make_shared<prepared>();
    p->key = std::move(key);
    used_.push_front(p);
    try {
        by_key_.emplace(p->key, used_.begin());
    } catch (...) {
        used_.pop_front();
        throw;
    }
    if (used_.size() <= most_) return nullptr;
    prepared_ptr last = used_.back();
    drop(*last);
    return last;
}

void statement_cache::drop(prepared& p) noexcept {
    p.at = prepared::stage::dropped;
    const auto found = by_key_.find(p.key);
    if (found == by_key_.end() || found->second->get() != &p) return;
    const place at = found->second;
    by_key_.erase(found);
    used_.erase(at);
}

void statement_cache::clear() noexcept {
    for (const prepared_ptr& p : used_) p->at = prepared::stage::dropped;
    by_key_.clear();
    used_.clear();
}

}  // namespace aio::inline v0::sql
