#pragma once
// The stream behind a bucket and its push consumers, as nats-server has them, as far as the watches of src/jetstream
// use them: see nats_model.hpp.

#include <aio/aio.hpp>

#include <jetstream/protocol.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace aio_test {

class model_bucket {
public:
    using json = nlohmann::json;
    /// Sends a message to who has subscribed to `to`, and says whether anybody has.
    using sender = std::function<bool(const std::string& to, const std::string& reply, const std::string& headers,
        const std::string& data, const std::string& subject)>;
    model_bucket(json wanted, sender send) : config(std::move(wanted)), send_(std::move(send)) {}
    model_bucket(const model_bucket&) = delete;
    model_bucket& operator=(const model_bucket&) = delete;
    ~model_bucket() {
        for (auto& [name, c] : consumers_) c->timer.cancel();
    }

    /// Gives the answer to a message that is to be stored.
    std::string store(const std::string& subject, const std::string& headers, const std::string& data) {
        const std::string id(aio::detail::header_in(headers, "Nats-Msg-Id"));
        json said = {{"stream", config.at("name")}};
        if (const auto found = known_.find(id); !id.empty() && found != known_.end()) {
            said["seq"] = found->second;
            said["duplicate"] = true;
            return said.dump();
        }
        items_.emplace(++last_, item{subject, headers, data});
        if (!id.empty()) known_.emplace(id, last_);
        const auto of_this_key = [&](const auto& one) { return one.second.subject == subject; };
        if (std::count_if(items_.begin(), items_.end(), of_this_key) > config.value("max_msgs_per_subject", 1)) {
            items_.erase(std::find_if(items_.begin(), items_.end(), of_this_key));
        }
        for (auto& [name, c] : consumers_) arm(*c, pace);
        said["seq"] = last_;
        return said.dump();
    }

    json info() const {
        const std::uint64_t first = items_.empty() ? last_ + 1 : items_.begin()->first;
        return {
            {"config", config}, {"state", {{"messages", items_.size()}, {"first_seq", first}, {"last_seq", last_}}}};
    }
    /// A consumer of that name may be there already: the answer to who made it was lost.
    json make_consumer(const std::string& name, const json& wanted) {
        auto& c = consumers_[name];
        if (!c) {
            c = std::make_unique<consumer>();
            c->name = name;
            c->config = wanted;
            c->next = wanted.value("opt_start_seq", std::uint64_t(1));
            if (wanted.at("deliver_policy") == "last_per_subject") {
                std::map<std::string, std::uint64_t> last;
                for (const auto& [revision, one] : items_) {
                    if (filters(*c, one.subject)) last[one.subject] = revision;
                }
                for (const auto& [subject, revision] : last) c->first.push_back(revision);
                std::sort(c->first.begin(), c->first.end());
                c->next = last_ + 1;
            }
            c->spoke = aio::get_running_loop().time();
            arm(*c, pace);
        }
        return {{"name", name}, {"config", c->config}, {"num_pending", pending(*c)},
            {"delivered", {{"consumer_seq", c->number}}}};
    }
    bool delete_consumer(const std::string& name) {
        const auto found = consumers_.find(name);
        if (found == consumers_.end()) return false;
        found->second->timer.cancel();
        consumers_.erase(found);
        return true;
    }
    std::size_t consumers() const { return consumers_.size(); }
    /// The keys, with what they have now.
    std::map<std::string, std::string> values() const {
        std::map<std::string, std::string> all;
        for (const auto& [revision, one] : items_) {
            const std::string key = one.subject.substr(one.subject.find('.', 4) + 1);
            all[key] = one.data;
            if (!aio::detail::header_in(one.headers, "KV-Operation").empty()) all.erase(key);
        }
        return all;
    }

    json config;
    std::chrono::nanoseconds pace{0};  // between what a consumer delivers
    std::size_t loses = 0;             // of what is delivered from now on, this one is lost on its way; 0: none

private:
    struct item {
        std::string subject, headers, data;
    };
    struct consumer {
        std::string name;
        json config;
        std::deque<std::uint64_t> first;  // each key's last entry, when the consumer was made
        std::uint64_t next = 1, number = 0;
        aio::time_point spoke;
        aio::callback_handle timer;
    };

    static bool filters(const consumer& c, const std::string& subject) {
        const std::string filter = c.config.at("filter_subject");
        return filter == subject || (filter.ends_with('>') && subject.starts_with(filter.substr(0, filter.size() - 1)));
    }
    std::size_t pending(const consumer& c) const {
        std::size_t n = 0;
        for (const std::uint64_t revision : c.first) n += items_.count(revision);
        for (auto at = items_.lower_bound(c.next); at != items_.end(); ++at) n += filters(c, at->second.subject);
        return n;
    }
    static std::chrono::nanoseconds heartbeat(const consumer& c) {
        return std::chrono::nanoseconds(c.config.at("idle_heartbeat").get<std::int64_t>());
    }
    void arm(consumer& c, std::chrono::nanoseconds pause) {
        c.timer.cancel();
        c.timer = aio::get_running_loop().call_later(pause, [this, name = c.name] { step(name); });
    }
    /// Delivers one entry, or a heartbeat if there is none and the consumer has said nothing for long.
    void step(const std::string& name) {
        consumer& c = *consumers_.at(name);
        while (!c.first.empty() && !items_.count(c.first.front())) c.first.pop_front();  // written over meanwhile
        std::uint64_t revision = 0;
        if (!c.first.empty()) {
            revision = c.first.front();
            c.first.pop_front();
        } else {
            auto at = items_.lower_bound(c.next);
            while (at != items_.end() && !filters(c, at->second.subject)) ++at;
            if (at != items_.end()) revision = at->first;
            if (at != items_.end()) c.next = revision + 1;
        }
        const std::string to = c.config.at("deliver_subject");
        const aio::time_point now = aio::get_running_loop().time();
        bool heard = true;
        if (revision > 0) {
            const item& one = items_.at(revision);
            const std::string ack = "$JS.ACK." + config.at("name").get<std::string>() + "." + name + ".1." +
                std::to_string(revision) + "." + std::to_string(++c.number) + ".1." + std::to_string(pending(c));
            if (loses == 0 || --loses > 0) heard = send_(to, ack, one.headers, one.data, one.subject);
        } else if (now - c.spoke >= heartbeat(c)) {
            const std::string number = std::to_string(c.number);
            heard = send_(to, "", "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: " + number + "\r\n\r\n", "", to);
        } else {
            arm(c, c.spoke + heartbeat(c) - now);
            return;
        }
        c.spoke = now;
        if (heard) {
            arm(c, revision > 0 ? pace : heartbeat(c));
        } else {
            consumers_.erase(name);
        }
    }

    sender send_;
    std::map<std::uint64_t, item> items_;
    std::map<std::string, std::uint64_t> known_;
    std::uint64_t last_ = 0;
    std::map<std::string, std::unique_ptr<consumer>> consumers_;
};

}  // namespace aio_test
