#pragma once
// What is behind a jetstream::bucket: a stream KV_<name> whose subjects are $KV.<name>.<key>, as in every client of
// NATS. See docs/internals/jetstream.md, "The bucket".

#include "jetstream/api.hpp"

#include <aio/async_generator.hpp>
#include <aio/jetstream/bucket.hpp>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

namespace aio::inline v0::detail {

class watch_feed;

enum class write_kind : std::uint8_t { value, erase, purge };

/// Whether a message says that its key was erased, by a client, or by a newer server because its time was over.
bool marks_erased(std::string_view headers) noexcept;

/// What a watch gives besides the values: the lock wants to see erased keys, keys() needs no values.
struct watch_wish {
    bool erased_at_first = false;
    bool headers_only = false;
};

class nats_bucket final : public std::enable_shared_from_this<nats_bucket> {
public:
    nats_bucket(client_ptr client, const std::string& name, const jetstream::bucket_options& options);

    coro<> open();
    void close() noexcept;

    /// The last entry of a key, also if that says that it was erased.
    coro<std::optional<raw_entry>> last_of(std::string key);
    /// Writes until an answer comes, at most until `last`. expected: see bucket::update().
    coro<std::uint64_t> store(
        std::string key, std::string data, std::optional<std::uint64_t> expected, write_kind kind, time_point last);
    coro<std::uint64_t> create(std::string key, std::string data, time_point last);
    static async_generator<raw_entry> watch(std::shared_ptr<nats_bucket> self, std::string pattern, watch_wish wish);

    coro<std::uint64_t> last_revision();  // of all keys

    time_point default_limit() const;
    void check_open() const;
    void check_key(const std::string& key, bool pattern, const char* what) const;
    const std::string& name() const noexcept { return name_; }
    const client_ptr& client() const noexcept { return client_; }
    /// How long the servers keep a value; 0: for ever. Known once the bucket is open.
    std::chrono::nanoseconds ttl() const noexcept { return ttl_; }

private:
    friend class watch_feed;
    std::string wanted() const;
    void adopt(json_view config);
    coro<stored_reply> try_to_store(
        std::string subject, std::string block, std::string data, std::chrono::nanoseconds patience);
    coro<bool> is_connected_before(time_point last);
    coro<std::optional<std::uint64_t>> stored_as(std::string key, std::string id);
    coro<std::string> last_message(std::string key);

    const client_ptr client_;
    const std::string name_;
    const jetstream::bucket_options options_;
    const std::string stream_, prefix_;
    std::chrono::nanoseconds ttl_{0};
    std::chrono::nanoseconds duplicate_window_{0};
    bool open_ = false;
    std::unordered_set<watch_feed*> feeds_;
};

}  // namespace aio::inline v0::detail
