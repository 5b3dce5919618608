#pragma once
// A stream of JetStream and its one durable pull consumer, as nats-server has them, as far as src/jetstream uses them.
// Messages, acknowledgements and the passing of time go in; deliveries come out. It has no I/O: nats_model.hpp has.
// nats_model_test.cpp compares it with the real server.

#include <aio/delay.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>

namespace aio_test {

class model_stream {
public:
    using json = nlohmann::json;
    struct pull {
        std::string inbox;
        std::size_t left = 0;
        aio::time_point until;
    };
    struct hooks {
        std::function<bool(const std::string& inbox)> there;  // whether anybody hears it
        std::function<void(const std::string& to, const std::string& reply, const std::string& headers,
            const std::string& data, const std::string& subject)>
            send;
        // stored, acked, dropped, forgotten, uncounted
        std::function<void(const std::string& headers, const std::string& data, const char* what)> log;
    };
    model_stream(json wanted, hooks h) : config(std::move(wanted)), hooks_(std::move(h)) {}

    std::string name() const { return config.at("name"); }
    bool takes(const std::string& subject) const { return config.at("subjects").at(0) == subject; }
    std::size_t size() const { return items_.size(); }

    /// Gives the answer to a message that is to be stored.
    std::string store(const std::string& id, const std::string& subject, const std::string& headers,
        const std::string& data, aio::time_point now) {
        const std::chrono::nanoseconds window(config.value("duplicate_window", std::int64_t(0)));
        while (!order_.empty() && now - known_[order_.front()].second >= window) {
            known_.erase(order_.front());
            order_.pop_front();
        }
        json said = {{"stream", name()}};
        if (const auto found = known_.find(id); !id.empty() && found != known_.end()) {
            ++refused;
            said["seq"] = found->second.first;
            said["duplicate"] = true;
            return said.dump();
        }
        if (headers.find("Nats-Expected-Last-Msg-Id: none\r\n") != std::string::npos) {
            said["error"] = {{"code", 400}, {"err_code", 10070}, {"description", "wrong last msg ID: " + last_id_}};
            said["seq"] = 0;
            return said.dump();
        }
        const auto most = config.value("max_msgs", std::int64_t(-1));
        if (most > 0 && static_cast<std::int64_t>(items_.size()) >= most) {
            ++refused;
            said["error"] = {{"code", 503}, {"err_code", 10077}, {"description", "maximum messages exceeded"}};
            said["seq"] = 0;
            return said.dump();
        }
        items_.emplace(++last_, item{subject, headers, data});
        largest = std::max(largest, items_.size());
        last_id_ = id;
        if (!id.empty()) {
            known_[id] = {last_, now};
            order_.push_back(id);
        }
        hooks_.log(headers, data, "stored");
        said["seq"] = last_;
        deliver(now);
        return said.dump();
    }

    void ask(pull p, bool no_wait, aio::time_point now) {
        pulls_.push_back(std::move(p));
        deliver(now);
        if (no_wait && !pulls_.empty()) {
            refuse(pulls_.back(), "404 No Messages");
            pulls_.pop_back();
        }
    }

    /// An acknowledgement of any kind.
    void answer(std::uint64_t sequence, std::string_view text, aio::time_point now) {
        const auto found = pending_.find(sequence);
        if (text.empty() || text.starts_with("+ACK") || text.starts_with("+TERM")) {
            // The server takes an acknowledgement of what it has delivered at any time, also while it rests.
            if (sequence < next_ && items_.count(sequence)) remove(sequence, "acked");
        } else if (found == pending_.end()) {
            return;
        } else if (text.starts_with("+WPI")) {
            found->second = now + ack_wait();
        } else if (text.starts_with("-NAK")) {
            std::int64_t rest = 0;
            if (const std::size_t brace = text.find('{'); brace != std::string_view::npos) {
                rest = json::parse(text.substr(brace)).value("delay", std::int64_t(0));
            }
            if (rest > 0) {
                found->second = now + std::chrono::nanoseconds(rest);
            } else {
                pending_.erase(found);
                again_.push_back(sequence);
                deliver(now);
            }
        }
    }

    /// What is due: pulls that expire, items that come again.
    void tick(aio::time_point now) {
        for (auto p = pulls_.begin(); p != pulls_.end();) {
            if (p->until > now) {
                ++p;
                continue;
            }
            refuse(*p, "408 Request Timeout");
            p = pulls_.erase(p);
        }
        for (auto p = pending_.begin(); p != pending_.end();) {
            if (p->second > now) {
                ++p;
                continue;
            }
            again_.push_back(p->first);
            p = pending_.erase(p);
        }
        deliver(now);
    }
    aio::time_point due() const {
        aio::time_point first = aio::time_point::max();
        for (const pull& p : pulls_) first = std::min(first, p.until);
        for (const auto& [sequence, until] : pending_) first = std::min(first, until);
        return first;
    }

    /// Another server leads: it knows none of the questions under way.
    void forget_pulls(bool say) {
        for (const pull& p : pulls_) {
            if (say) refuse(p, "409 Leadership Change");
        }
        pulls_.clear();
    }
    std::string consumer_name() const { return consumer.at("durable_name"); }
    void make_consumer(json wanted) {
        consumer = std::move(wanted);
        ++made_;
        next_ = 1;
        consumer_sequence_ = 0;
        times_.clear();
    }
    void delete_consumer() {
        for (const pull& p : pulls_) refuse(p, "409 Consumer Deleted");
        pulls_.clear();
        pending_.clear();
        again_.clear();
        consumer = nullptr;
    }
    /// The consumer takes these items as done, and the stream keeps them.
    template<class Which>
    void forget(Which which, bool counts) {
        for (const auto& [sequence, one] : items_) {
            if (!which()) continue;
            if (sequence >= next_) continue;  // it will be given all the same
            pending_.erase(sequence);
            std::erase(again_, sequence);
            hooks_.log(one.headers, one.data, "forgotten");
        }
        if (!counts) return;
        for (auto& [sequence, times] : times_) times = 0;
        for (const auto& [sequence, one] : items_) hooks_.log(one.headers, one.data, "uncounted");
    }
    /// The consumer does not know any more what it has given, and gives it again as if it were the first time.
    void forget_given() {
        next_ = 1;
        pending_.clear();
        again_.clear();
        times_.clear();
    }
    /// The server that gives items has another message under this number than the leader of the stream.
    void give_instead(std::uint64_t number, std::string headers, std::string data) {
        instead_[number] = {config.at("subjects").at(0), std::move(headers), std::move(data)};
    }
    /// The message was given, but a majority has not stored it: the next leader does not have it.
    void lose(std::uint64_t number) { remove(number, "lost"); }
    /// The leader's message under this number, as STREAM.MSG.GET gives it; null if there is none.
    json message(std::uint64_t number) const {
        const auto found = items_.find(number);
        if (found == items_.end()) return nullptr;
        const item& one = found->second;
        return {{"subject", one.subject}, {"seq", number}, {"hdrs", base64(one.headers)}, {"data", base64(one.data)}};
    }
    int replicas() const { return config.value("num_replicas", 1); }
    std::size_t purge() {
        const std::size_t n = items_.size();
        while (!items_.empty()) remove(items_.begin()->first, "dropped");
        next_ = last_ + 1;
        return n;
    }

    json info() const {
        const std::uint64_t first = items_.empty() ? last_ + 1 : items_.begin()->first;
        json said = {
            {"config", config}, {"state", {{"messages", items_.size()}, {"first_seq", first}, {"last_seq", last_}}}};
        json replica = {{"name", "other"}, {"current", all_current}};
        said["cluster"]["replicas"].push_back(std::move(replica));
        return said;
    }
    json consumer_info() const {
        std::size_t waiting = 0;
        for (auto at = items_.lower_bound(next_); at != items_.end(); ++at) ++waiting;
        return {{"config", consumer}, {"created", std::to_string(made_)}, {"delivered", {{"stream_seq", next_ - 1}}},
            {"num_pending", waiting}, {"num_ack_pending", pending_.size() + again_.size()}};
    }

    json config;
    json consumer;            // null: none
    bool all_current = true;  // whether the other servers have caught up
    std::size_t largest = 0;
    std::size_t refused = 0;  // messages whose identity was known, or for which there was no room
    std::uint64_t deliveries = 0;

private:
    std::chrono::nanoseconds ack_wait() const {
        return std::chrono::nanoseconds(consumer.value("ack_wait", std::int64_t(30'000'000'000)));
    }
    static std::string base64(const std::string& bytes) {
        constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        std::string text;
        for (std::size_t at = 0; at < bytes.size(); at += 3) {
            std::uint32_t bits = 0;
            for (std::size_t i = at; i < at + 3; ++i) {
                bits = bits << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0U);
            }
            for (std::size_t i = 0; i < 4; ++i) {
                text += at + i <= bytes.size() ? digits[bits >> (18 - 6 * i) & 63] : '=';
            }
        }
        return text;
    }
    void refuse(const pull& p, const std::string& status) {
        if (hooks_.there(p.inbox)) hooks_.send(p.inbox, "", "NATS/1.0 " + status + "\r\n\r\n", "", p.inbox);
    }
    void remove(std::uint64_t sequence, const char* what) {
        const auto found = items_.find(sequence);
        hooks_.log(found->second.headers, found->second.data, what);
        items_.erase(found);
        pending_.erase(sequence);
        std::erase(again_, sequence);
    }
    void deliver(aio::time_point now) {
        if (consumer.is_null()) return;
        while (!pulls_.empty()) {
            pull& p = pulls_.front();
            if (!hooks_.there(p.inbox)) {
                pulls_.pop_front();
                continue;
            }
            std::uint64_t sequence = 0;
            if (!again_.empty()) {
                sequence = again_.front();
                again_.pop_front();
            } else {
                const auto found = items_.lower_bound(next_);
                if (found == items_.end()) return;
                sequence = found->first;
                next_ = sequence + 1;
            }
            pending_[sequence] = now + ack_wait();
            const int times = ++times_[sequence];
            ++deliveries;
            const std::string ack = "$JS.ACK." + name() + "." + consumer_name() + "." + std::to_string(times) + "." +
                std::to_string(sequence) + "." + std::to_string(++consumer_sequence_) + ".1." +
                std::to_string(items_.size());
            const auto other = instead_.find(sequence);
            const item& one = other == instead_.end() ? items_.at(sequence) : other->second;
            hooks_.send(p.inbox, ack, one.headers, one.data, one.subject);
            if (--p.left == 0) {
                pulls_.pop_front();
            } else {
                std::rotate(pulls_.begin(), pulls_.begin() + 1, pulls_.end());  // the questions take turns
            }
        }
    }

    hooks hooks_;
    struct item {
        std::string subject, headers, data;
    };
    std::map<std::uint64_t, item> items_, instead_;
    std::uint64_t last_ = 0, next_ = 1, consumer_sequence_ = 0, made_ = 0;
    std::string last_id_;  // of what was stored last
    std::unordered_map<std::string, std::pair<std::uint64_t, aio::time_point>> known_;
    std::deque<std::string> order_;
    std::map<std::uint64_t, aio::time_point> pending_;  // delivered, and when it comes again
    std::deque<std::uint64_t> again_;
    std::unordered_map<std::uint64_t, int> times_;
    std::deque<pull> pulls_;
};

}  // namespace aio_test
