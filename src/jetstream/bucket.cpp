// Buckets: the stream behind one, reading and writing. See bucket_state.hpp; bucket_watch.cpp has the watches.
//
// Each write has an identity, Nats-Msg-Id, that stays the same over all attempts, so an attempt whose answer is lost is
// made again, for as long as the servers know identities: later it could write over what somebody else has written
// since. A compare-and-swap that is made again may be refused because its first attempt was stored: then the
// identity of what is stored says whose it is.

#include "jetstream/bucket_state.hpp"

#include <aio/errors.hpp>
#include <aio/sleep.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <unordered_map>

namespace aio::inline v0::detail {
namespace {

/// A time as in RFC 3339, in UTC: "2026-11-27T01:02:03.456789Z".
std::chrono::system_clock::time_point time_in(const std::string& text) {
    int y = 0, mo = 0, d = 0, h = 0, mi = 0;
    double s = 0;
    if (std::sscanf(text.c_str(), "%d-%d-%dT%d:%d:%lf", &y, &mo, &d, &h, &mi, &s) != 6) return {};
    const std::chrono::sys_days day(std::chrono::year(y) / mo / d);
    const auto more = std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::duration<double>(s));
    return day + std::chrono::hours(h) + std::chrono::minutes(mi) + more;
}

[[noreturn]] void differs(const std::string& name, const char* what, std::int64_t there, std::int64_t here) {
    throw jetstream::error(
        "the bucket " + name + " exists with " + what + " " + std::to_string(there) + ", not " + std::to_string(here));
}

bool plain(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

std::string checked_name(const std::string& name) {
    if (name.empty() || name.size() > 200 || !std::all_of(name.begin(), name.end(), plain)) {
        throw std::invalid_argument("jetstream::bucket: the name of a bucket has 1 to 200 letters, digits, - and _");
    }
    return name;
}

}  // namespace

nats_bucket::nats_bucket(client_ptr client, const std::string& name, const jetstream::bucket_options& options)
    : client_(std::move(client)),
      name_(checked_name(name)),
      options_(options),
      stream_("KV_" + name),
      prefix_("$KV." + name + ".") {
    const auto refuse = [](const char* why) { throw std::invalid_argument(std::string("jetstream::bucket: ") + why); };
    if (options.history < 1 || options.history > 64) refuse("history is a number from 1 to 64");
    if (options.replicas < 1 || options.replicas > 5) refuse("replicas is a number from 1 to 5");
    if (options.max_bytes < 0) refuse("max_bytes is negative");
    if (options.ttl.has_value() && options.ttl.value() < std::chrono::milliseconds(100)) {
        refuse("ttl is shorter than 100 ms");
    }
}

void nats_bucket::check_open() const {
    if (!open_) throw_logic_error("the jetstream::bucket " + name_ + " has been left");
    client_->check_open();
}

void nats_bucket::check_key(const std::string& key, bool pattern, const char* what) const {
    const auto refuse = [&](const char* why) {
        throw std::invalid_argument(std::string(what) + ": a key " + why + ": \"" + key + "\"");
    };
    if (key.empty()) refuse("is empty");
    for (const char c : key) {
        const bool allowed = plain(c) || c == '/' || c == '=' || c == '.' || (pattern && (c == '*' || c == '>'));
        if (!allowed) refuse("has letters, digits and - _ = / . in it, and nothing else");
    }
    if (key.front() == '.' || key.back() == '.' || key.find("..") != std::string::npos) refuse("has an empty part");
    check_subject(key, pattern, what);
}

time_point nats_bucket::default_limit() const {
    const delay limit = client_->settings().numbers.request_timeout;
    return limit.has_value() ? limit.from(get_running_loop().time()) : time_point::max();
}

std::string nats_bucket::wanted() const {
    constexpr std::int64_t two_minutes = 120'000'000'000;
    const std::int64_t ttl = nanoseconds_of(options_.ttl);
    json_writer config;
    config.add("name", stream_).add_json("subjects", "[" + json_string(prefix_ + ">") + "]");
    config.add("retention", "limits").add("discard", "new").add("storage", options_.in_memory ? "memory" : "file");
    config.add("num_replicas", options_.replicas).add("max_msgs_per_subject", options_.history).add("max_age", ttl);
    config.add("max_msgs", -1).add("max_consumers", -1).add("max_msg_size", -1);
    config.add("max_bytes", options_.max_bytes ? options_.max_bytes : std::int64_t(-1));
    config.add("duplicate_window", ttl > 0 ? std::min(ttl, two_minutes) : two_minutes);
    return config.add("allow_rollup_hdrs", true).add("deny_delete", true).add("allow_direct", true).text();
}

void nats_bucket::adopt(json_view config) {
    const jetstream::bucket_options none;
    const auto history = config["max_msgs_per_subject"].number(std::int64_t(-1));
    if (options_.history != none.history && history != options_.history) {
        differs(name_, "a history of", history, options_.history);
    }
    const auto replicas = config["num_replicas"].number(std::int64_t(1));
    if (options_.replicas != none.replicas && replicas != options_.replicas) {
        differs(name_, "replicas", replicas, options_.replicas);
    }
    const auto ttl = config["max_age"].number(std::int64_t(0));
    if (options_.ttl.has_value() && ttl != nanoseconds_of(options_.ttl)) {
        differs(name_, "a ttl in ns of", ttl, nanoseconds_of(options_.ttl));
    }
    const auto bytes = config["max_bytes"].number(std::int64_t(-1));
    if (options_.max_bytes && bytes != options_.max_bytes) { differs(name_, "max_bytes", bytes, options_.max_bytes); }
    ttl_ = std::chrono::nanoseconds(ttl);
    duplicate_window_ = std::chrono::nanoseconds(config["duplicate_window"].number(std::int64_t(0)));
}

coro<> nats_bucket::open() {
    if (open_) throw_logic_error("a jetstream::bucket is entered once");
    for (int tries = 0;; ++tries) {
        std::string info = co_await find_in_jetstream(client_, "STREAM.INFO." + stream_);
        if (info.empty()) {
            bool made_meanwhile = false;
            try {
                info = co_await ask_jetstream(client_, "STREAM.CREATE." + stream_, wanted());
            } catch (const jetstream::error& e) {
                if (e.code() != 10058 || tries > 3) throw;  // somebody else has made it, with other options
                made_meanwhile = true;
            }
            if (made_meanwhile) continue;
        }
        adopt(json_view::of(info)["config"]);
        open_ = true;
        co_return;
    }
}

/// Asks the servers for the message that was stored last for a key. Gives their answer; empty if there is none.
coro<std::string> nats_bucket::last_message(std::string key) {
    std::string body = json_writer().add("last_by_subj", prefix_ + key).text();
    try {
        co_return co_await ask_jetstream(client_, "STREAM.MSG.GET." + stream_, std::move(body));
    } catch (const jetstream::error& e) {
        if (e.code() != 10037) throw;
    }
    co_return std::string();
}

bool marks_erased(std::string_view headers) noexcept {
    return !header_in(headers, "KV-Operation").empty() || !header_in(headers, "Nats-Marker-Reason").empty();
}

coro<std::optional<raw_entry>> nats_bucket::last_of(std::string key) {
    check_open();
    const std::string said = co_await last_message(key);
    const json_view message = json_view::of(said)["message"];
    std::optional<raw_entry> found;
    if (!message.is_object()) co_return found;
    const std::string headers = from_base64(message["hdrs"].string());
    found.emplace();
    found->key = std::move(key);
    found->revision = message["seq"].number(std::uint64_t(0));
    found->created = time_in(message["time"].string());
    if (!marks_erased(headers)) {
        found->value = from_base64(message["data"].string());
    } else {
        found->kind = jetstream::entry_kind::erased;
    }
    co_return found;
}

/// The revision of a key's last entry, if that has this identity.
coro<std::optional<std::uint64_t>> nats_bucket::stored_as(std::string key, std::string id) {
    const std::string said = co_await last_message(std::move(key));
    const json_view message = json_view::of(said)["message"];
    std::optional<std::uint64_t> revision;
    if (message.is_object() && header_in(from_base64(message["hdrs"].string()), "Nats-Msg-Id") == id) {
        revision = message["seq"].number(std::uint64_t(0));
    }
    co_return revision;
}

// One attempt to write. Throws jetstream::error if the client is closed meanwhile.
coro<stored_reply> nats_bucket::try_to_store(
    std::string subject, std::string block, std::string data, std::chrono::nanoseconds patience) {
    client_->check_size(block.size(), data.size());
    nats_answer answer(*client_, patience, true);
    client_->send(subject, answer.inbox(), block, data);
    const nats_reply reply = co_await answer;
    if (reply.what == nats_reply::kind::closed) client_->check_open();
    co_return stored_reply_of(reply);
}

// Waits for the connection, at most until then.
coro<bool> nats_bucket::is_connected_before(time_point last) {
    if (client_->is_ready()) co_return true;
    const delay limit = last == time_point::max() ? delay(std::nullopt) : delay(last - get_running_loop().time());
    try {
        co_await wait_for(client_->ready(), limit);
    } catch (const timeout_error&) { co_return false; }
    co_return true;
}

namespace {

std::string headers_of_write(const std::string& id, std::optional<std::uint64_t> expected, write_kind kind) {
    std::string block = "NATS/1.0\r\nNats-Msg-Id: " + id + "\r\n";
    if (expected) block += "Nats-Expected-Last-Subject-Sequence: " + std::to_string(*expected) + "\r\n";
    if (kind == write_kind::erase) block += "KV-Operation: DEL\r\n";
    if (kind == write_kind::purge) block += "KV-Operation: PURGE\r\nNats-Rollup: sub\r\n";
    return block + "\r\n";
}

[[noreturn]] void throw_no_answer(const std::string& what) {
    throw timeout_error("jetstream: " + what + ": no answer came; it may be stored, or not");
}
/// There is no connection. sent: there was one.
[[noreturn]] void throw_too_late(const std::string& what, bool sent) {
    if (sent) throw_no_answer(what);
    throw timeout_error("jetstream: " + what + " was not sent: there is no connection");
}

}  // namespace

coro<std::uint64_t> nats_bucket::store(
    std::string key, std::string data, std::optional<std::uint64_t> expected, write_kind kind, time_point last) {
    using answer_kind = stored_reply::kind;
    check_open();
    const std::string id = client_->unique() + "-" + std::to_string(client_->next_number());
    const std::string block = headers_of_write(id, expected, kind);
    const std::string subject = prefix_ + key;
    const std::string what = "a write to the key " + key + " of the bucket " + name_;
    const auto left = [&] { return last - get_running_loop().time(); };
    constexpr std::chrono::seconds most_patience{8};
    std::chrono::nanoseconds patience = std::chrono::seconds(1);
    std::optional<time_point> began;  // the first attempt
    for (bool unknown = false;; patience = std::min<std::chrono::nanoseconds>(patience * 2, most_patience)) {
        const bool late = !co_await is_connected_before(last);
        if (late) throw_too_late(what, unknown);
        const time_point now = get_running_loop().time();
        if (!unknown) co_await nats_cancel_point();
        if (!began) began = now;
        // A revision that has to be there guards a late attempt as well.
        const bool guarded = expected.value_or(0) != 0;
        if (unknown && !guarded && now - *began > duplicate_window_ * 8 / 10) throw_no_answer(what);
        const stored_reply r =
            co_await try_to_store(subject, block, data, std::min<std::chrono::nanoseconds>(patience, left()));
        switch (r.what) {
            case answer_kind::stored:
            case answer_kind::duplicate: co_return r.sequence;
            case answer_kind::wrong_revision: {
                std::optional<std::uint64_t> own;  // an earlier attempt may have been stored
                if (unknown) own = co_await stored_as(key, id);
                if (own) co_return *own;
                throw jetstream::wrong_revision(what + ": somebody else has written to it", r.status, r.code);
            }
            case answer_kind::unknown: unknown = true; break;
            case answer_kind::unavailable:
            case answer_kind::nobody: break;
            default: throw jetstream::error(what + ": " + r.reason, r.status, r.code);
        }
        if (left() <= std::chrono::nanoseconds(0)) {
            if (!unknown) throw jetstream::error(what + ": nobody takes it: the bucket was removed, or has no leader");
            throw_no_answer(what);
        }
        co_await sleep(std::chrono::milliseconds(20));
    }
}

coro<std::uint64_t> nats_bucket::create(std::string key, std::string data, time_point last) {
    std::uint64_t expected = 0;
    for (;;) {
        std::exception_ptr taken;
        try {
            co_return co_await store(key, data, expected, write_kind::value, last);
        } catch (const jetstream::wrong_revision&) { taken = std::current_exception(); }
        // It may be the mark of an erased key, which somebody may just have written anew.
        const std::optional<raw_entry> there = co_await last_of(key);
        const bool has_value = there && there->kind != jetstream::entry_kind::erased;
        if (has_value || get_running_loop().time() >= last) std::rethrow_exception(taken);
        expected = there ? there->revision : 0;
    }
}

bucket_opener::bucket_opener(
    std::shared_ptr<nats_client> client, const std::string& name, const jetstream::bucket_options& options)
    : state_(std::make_shared<nats_bucket>(std::move(client), name, options)) {}
coro<std::shared_ptr<nats_bucket>> bucket_opener::open() {
    co_await state_->open();
    co_return state_;
}
void bucket_opener::close() noexcept { state_->close(); }

namespace {

coro<std::uint64_t> write(std::shared_ptr<nats_bucket> bucket, std::string key, std::string data,
    std::optional<std::uint64_t> expected, write_kind kind) {
    co_return co_await bucket->store(std::move(key), std::move(data), expected, kind, bucket->default_limit());
}
coro<std::uint64_t> write_first(std::shared_ptr<nats_bucket> bucket, std::string key, std::string data) {
    co_return co_await bucket->create(std::move(key), std::move(data), bucket->default_limit());
}
coro<std::optional<raw_entry>> value_of(std::shared_ptr<nats_bucket> bucket, std::string key) {
    std::optional<raw_entry> e = co_await bucket->last_of(std::move(key));
    if (e && e->kind == jetstream::entry_kind::erased) e.reset();
    co_return e;
}
coro<std::vector<std::string>> keys_of(std::shared_ptr<nats_bucket> bucket, std::string pattern) {
    const watch_wish wish{false, true};
    std::unordered_map<std::string, std::uint64_t> found;  // with their revisions: one may be written meanwhile
    auto entries = nats_bucket::watch(std::move(bucket), std::move(pattern), wish);
    while (auto e = co_await entries.next()) {
        if (e->kind == jetstream::entry_kind::up_to_date) break;
        if (e->kind == jetstream::entry_kind::value) {
            found[e->key] = e->revision;
        } else {
            found.erase(e->key);
        }
    }
    std::vector<std::string> all;
    all.reserve(found.size());
    for (const auto& [key, revision] : found) all.push_back(key);
    std::sort(all.begin(), all.end(), [&](const std::string& a, const std::string& b) { return found[a] < found[b]; });
    co_return all;
}

}  // namespace
}  // namespace aio::inline v0::detail

namespace aio::inline v0::jetstream {

using detail::write_kind;

bucket_base::bucket_base(std::shared_ptr<detail::nats_bucket> state) noexcept : state_(std::move(state)) {}
bucket_base::~bucket_base() = default;

const std::string& bucket_base::name() const noexcept { return state_->name(); }

coro<std::optional<detail::raw_entry>> bucket_base::get_bytes(std::string key) {
    state_->check_key(key, false, "jetstream::bucket::get");
    return detail::value_of(state_, std::move(key));
}
coro<std::uint64_t> bucket_base::put_bytes(std::string key, std::string data, std::optional<std::uint64_t> expected) {
    state_->check_key(key, false, expected ? "jetstream::bucket::update" : "jetstream::bucket::put");
    return detail::write(state_, std::move(key), std::move(data), expected, write_kind::value);
}
coro<std::uint64_t> bucket_base::create_bytes(std::string key, std::string data) {
    state_->check_key(key, false, "jetstream::bucket::create");
    return detail::write_first(state_, std::move(key), std::move(data));
}
coro<std::uint64_t> bucket_base::erase(std::string key) {
    state_->check_key(key, false, "jetstream::bucket::erase");
    return detail::write(state_, std::move(key), {}, std::nullopt, write_kind::erase);
}
coro<std::uint64_t> bucket_base::erase(std::string key, std::uint64_t revision) {
    state_->check_key(key, false, "jetstream::bucket::erase");
    return detail::write(state_, std::move(key), {}, revision, write_kind::erase);
}
coro<std::uint64_t> bucket_base::purge(std::string key) {
    state_->check_key(key, false, "jetstream::bucket::purge");
    return detail::write(state_, std::move(key), {}, std::nullopt, write_kind::purge);
}
coro<std::vector<std::string>> bucket_base::keys(std::string pattern) {
    state_->check_key(pattern, true, "jetstream::bucket::keys");
    return detail::keys_of(state_, std::move(pattern));
}
async_generator<detail::raw_entry> bucket_base::watch_bytes(std::string pattern) {
    state_->check_key(pattern, true, "jetstream::bucket::watch");
    return detail::nats_bucket::watch(state_, std::move(pattern), detail::watch_wish());
}

coro<> connection::remove_bucket(const std::string& name) {
    return detail::delete_stream(client_, "KV_" + detail::checked_name(name));
}

}  // namespace aio::inline v0::jetstream
