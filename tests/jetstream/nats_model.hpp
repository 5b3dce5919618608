#pragma once
// A model of some nats-servers with one replicated state, over streams in memory: what src/jetstream needs of them, and
// the faults that a test wants. It runs on the loop of its clients, so also on virtual time, and the same seed gives
// the same run.
#include "nats_model_bucket.hpp"
#include "nats_model_stream.hpp"

#include <aio/aio.hpp>
#include <aio/testing.hpp>

#include <jetstream/client.hpp>

#include <cerrno>
#include <charconv>
#include <memory>
#include <random>
#include <system_error>
#include <vector>

namespace aio_test {

class nats_model {
public:
    using json = nlohmann::json;

    /// Of a thousand: how often bytes are lost and the connection with them, answers to what was stored, and messages
    /// that no stream keeps.
    struct faults {
        unsigned cuts = 0, lost_answers = 0, lost_messages = 0;
        std::chrono::microseconds latency{0};  // the most; each piece takes a part of it at random
        std::size_t cut_after = 0;             // so many more bytes for clients a connection is lost, once; 0: never
    };

    nats_model(std::size_t servers, std::uint64_t seed) : random_(seed), servers_(servers) {}
    nats_model(const nats_model&) = delete;
    nats_model& operator=(const nats_model&) = delete;
    ~nats_model() {
        timer_.cancel();
        aio::detail::this_threads_dialer() = nullptr;
    }

    /// The client's end of a new connection.
    aio::coro<aio::stream> connect(std::size_t server) {
        if (!servers_.at(server).up) throw std::system_error(ECONNREFUSED, std::generic_category(), "the model");
        auto [ours, theirs] = aio::testing::stream_pair({.limit = std::size_t(4) * 1024 * 1024});
        auto p = std::make_shared<peer>(++last_peer_, server, std::move(theirs));
        peers_.emplace(p->id, p);
        p->out = "INFO {\"server_id\":\"model\",\"version\":\"2.9.10\",\"headers\":true,\"max_payload\":1048576}\r\n";
        p->more.set();
        running_.create_task(serve(p));
        aio::stream end = std::move(ours);
        co_return end;
    }
    /// Makes the connections of this thread, to nats://N: N is a server's number.
    void take_over() {
        aio::detail::this_threads_dialer() = [this](const aio::detail::nats_server& s) {
            return connect(static_cast<std::size_t>(std::stoi(s.host)));
        };
    }
    aio::coro<> stop() { co_await running_.shutdown(); }

    // Faults.
    faults how;
    void kill(std::size_t server) {
        servers_[server].up = false;
        for (auto& [id, p] : peers_) {
            if (p->server == server) p->cut();
        }
    }
    void start(std::size_t server) { servers_[server].up = true; }
    void pause(std::size_t server) { servers_[server].go.clear(); }
    void go_on(std::size_t server) { servers_[server].go.set(); }
    /// For this time nobody answers for the streams; the next leader knows no questions for items.
    void elect(std::chrono::milliseconds time) {
        leader_from_ = now() + time;
        for (auto& [name, s] : streams_) s->forget_pulls(chance(500));
        running_.create_task(announce(time));
    }
    /// A new leader counts some items as done that the streams still have, and how often an item was given, it may not
    /// know: what nats-server does after some elections.
    void forget() {
        for (auto& [name, s] : streams_) s->forget([this] { return chance(200); }, chance(500));
    }
    /// A connection's bytes stand still for this time: beyond two pings its client leaves it.
    void freeze(std::uint64_t which, std::chrono::milliseconds time) {
        if (!peers_.empty()) nth(which).frozen_until = now() + time;
    }
    void cut(std::uint64_t which) {
        if (!peers_.empty()) nth(which).cut();
    }

    model_stream* find(const std::string& name) {
        const auto found = streams_.find(name);
        return found == streams_.end() ? nullptr : found->second.get();
    }
    model_bucket* bucket(const std::string& name) {
        const auto found = buckets_.find("KV_" + name);
        return found == buckets_.end() ? nullptr : found->second.get();
    }
    std::size_t peers() const { return peers_.size(); }
    /// What happens to the messages of the streams.
    std::function<void(
        const std::string& stream, const std::string& headers, const std::string& data, const char* what)>
        log = [](const std::string&, const std::string&, const std::string&, const char*) {};
    std::uint64_t below(std::uint64_t n) { return random_() % n; }
    bool chance(unsigned of_a_thousand) { return of_a_thousand > 0 && below(1000) < of_a_thousand; }

private:
    struct server_state {
        bool up = true;
        aio::event go;
        server_state() { go.set(); }
    };
    struct peer {
        peer(std::uint64_t id_, std::size_t server_, aio::stream s) : id(id_), server(server_), line(std::move(s)) {}
        void cut() {
            gone = true;
            line.abort();
            more.set();
        }
        const std::uint64_t id;
        const std::size_t server;
        aio::stream line;
        std::string in, out;
        aio::event more;
        std::map<std::string, std::string> subjects;  // by sid
        aio::time_point frozen_until{};
        bool gone = false;
    };
    using peer_ptr = std::shared_ptr<peer>;

    static aio::time_point now() { return aio::get_running_loop().time(); }
    peer& nth(std::uint64_t which) {
        return *std::next(peers_.begin(), static_cast<std::ptrdiff_t>(which % peers_.size()))->second;
    }

    aio::coro<> serve(peer_ptr p) {
        try {
            co_await aio::race(read(p), write(p));
        } catch (const std::system_error&) {}  // it was cut
        p->cut();
        for (const auto& [sid, subject] : p->subjects) unsubscribe(*p, sid, subject);
        peers_.erase(p->id);
    }
    aio::coro<> held_up(peer_ptr p) {
        if (how.latency.count() > 0) {
            const std::chrono::microseconds part(below(static_cast<std::uint64_t>(how.latency.count())));
            co_await aio::sleep(part);
        }
        while (p->frozen_until > now()) {
            const auto left = p->frozen_until - now();
            co_await aio::sleep(left);
        }
        while (!servers_[p->server].go.is_set()) co_await servers_[p->server].go.wait();
    }
    aio::coro<> write(peer_ptr p) {
        while (!p->gone) {
            while (p->out.empty() && !p->gone) {
                p->more.clear();
                co_await p->more.wait();
            }
            co_await held_up(p);
            std::string piece = std::exchange(p->out, {});
            bool ends = chance(how.cuts);
            if (ends) piece.resize(below(piece.size() + 1));
            if (how.cut_after > 0 && how.cut_after <= piece.size()) {
                ends = true;
                piece.resize(how.cut_after);
            }
            if (how.cut_after > 0) how.cut_after -= piece.size();
            co_await p->line.write(std::string_view(piece));
            if (ends) co_return;
        }
    }
    aio::coro<> read(peer_ptr p) {
        std::vector<std::byte> room(16384);
        for (;;) {
            std::size_t n = co_await p->line.read_some(std::span(room));
            if (n == 0) co_return;
            co_await held_up(p);
            const bool ends = chance(how.cuts);
            if (ends) n = below(n + 1);
            p->in.append(reinterpret_cast<const char*>(room.data()), n);
            while (!p->gone && take_one(*p)) {}
            if (ends) co_return;
        }
    }

    static std::size_t number(const std::string& text) { return static_cast<std::size_t>(std::stoull(text)); }
    bool take_one(peer& p) {
        const std::size_t end = p.in.find("\r\n");
        if (end == std::string::npos) return false;
        std::vector<std::string> words;
        for (std::size_t at = 0; at < end;) {
            const std::size_t space = std::min(p.in.find(' ', at), end);
            if (space > at) words.push_back(p.in.substr(at, space - at));
            at = space + 1;
        }
        std::size_t size = end + 2;
        if (words.at(0) == "PUB" || words[0] == "HPUB") {
            const bool with_headers = words[0] == "HPUB";
            const std::size_t body = number(words.back());
            if (p.in.size() < size + body + 2) return false;
            const std::size_t head = with_headers ? number(words[words.size() - 2]) : 0;
            const std::string headers = p.in.substr(size, head);
            const std::string data = p.in.substr(size + head, body - head);
            p.in.erase(0, size + body + 2);
            const bool asks = words.size() == (with_headers ? 5U : 4U);
            published(words[1], asks ? words[2] : "", headers, data);
            return true;
        }
        if (words[0] == "PING") {
            say(p, "PONG\r\n");
        } else if (words[0] == "SUB") {
            // A second SUB of the same number changes nothing, as with the real server.
            if (p.subjects.emplace(words.back(), words[1]).second) {
                subscribers_.emplace(words[1], std::pair(p.id, words.back()));
            }
        } else if (words[0] == "UNSUB") {
            unsubscribe(p, words[1], p.subjects[words[1]]);
            p.subjects.erase(words[1]);
        } else if (words[0] != "CONNECT" && words[0] != "PONG") {
            throw std::runtime_error("the model does not know " + words[0]);
        }
        p.in.erase(0, size);
        return true;
    }
    void unsubscribe(const peer& p, const std::string& sid, const std::string& subject) {
        const auto [first, last] = subscribers_.equal_range(subject);
        for (auto at = first; at != last; ++at) {
            if (at->second == std::pair(p.id, sid)) {
                subscribers_.erase(at);
                return;
            }
        }
    }
    static void say(peer& p, const std::string& text) {
        if (p.gone) return;
        p.out += text;
        p.more.set();
    }
    /// Calls fn(peer, number) for each subscription of this subject, or of its last part by *.
    template<class F>
    void each_subscriber(const std::string& to, F fn) {
        for (const std::string& pattern : {to, to.substr(0, to.rfind('.') + 1) + "*"}) {
            const auto [first, last] = subscribers_.equal_range(pattern);
            for (auto at = first; at != last; ++at) {
                const auto found = peers_.find(at->second.first);
                if (found != peers_.end() && !found->second->gone) fn(*found->second, at->second.second);
            }
        }
    }
    bool is_heard(const std::string& subject) {
        bool any = false;
        each_subscriber(subject, [&any](const peer&, const std::string&) { any = true; });
        return any;
    }
    /// Gives a message to all that have subscribed to this. It says that it has the subject.
    bool route(const std::string& to, const std::string& reply, const std::string& headers, const std::string& data,
        const std::string& subject) {
        bool any = false;
        each_subscriber(to, [&](peer& p, const std::string& number) {
            std::string text = (headers.empty() ? "MSG " : "HMSG ") + subject + " " + number + " ";
            if (!reply.empty()) text += reply + " ";
            if (!headers.empty()) text += std::to_string(headers.size()) + " ";
            text += std::to_string(headers.size() + data.size()) + "\r\n" + headers + data + "\r\n";
            say(p, text);
            any = true;
        });
        return any;
    }

    void published(
        const std::string& subject, const std::string& reply, const std::string& headers, const std::string& data) {
        if (subject.starts_with("$JS.")) {
            if (leader_from_ > now()) return;  // an election: nobody answers
            if (subject.starts_with("$JS.ACK.")) {
                acknowledged(subject, reply, data);
            } else {
                const std::string said = api(subject.substr(8), reply, data);
                if (!said.empty()) answer(reply, said);
            }
            arm();
            return;
        }
        for (auto& [name, s] : streams_) {
            if (!s->takes(subject)) continue;
            if (leader_from_ > now()) return;
            const std::string said =
                s->store(std::string(aio::detail::header_in(headers, "Nats-Msg-Id")), subject, headers, data, now());
            arm();
            if (!chance(how.lost_answers)) answer(reply, said);
            return;
        }
        for (auto& [name, b] : buckets_) {
            if (!subject.starts_with("$KV." + name.substr(3) + ".")) continue;
            if (leader_from_ <= now()) answer(reply, b->store(subject, headers, data));
            return;
        }
        if (chance(how.lost_messages)) return;
        if (!route(subject, reply, headers, data, subject) && !reply.empty()) {
            route(reply, "", "NATS/1.0 503\r\n\r\n", "", reply);
        }
    }
    /// What a new leader of a stream and of its consumer with replicas says, before it gives anything.
    aio::coro<> announce(std::chrono::milliseconds after) {
        co_await aio::sleep(after);
        for (auto& [name, s] : streams_) {
            if (s->replicas() < 2 || s->consumer.is_null()) continue;
            const std::string of_stream = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED." + name;
            route(of_stream, "", "", "{}", of_stream);
            const std::string to = "$JS.EVENT.ADVISORY.CONSUMER.LEADER_ELECTED." + name + "." + s->consumer_name();
            route(to, "", "", "{}", to);
        }
    }
    void answer(const std::string& reply, const std::string& said) {
        if (!reply.empty()) route(reply, "", "", said, reply);
    }
    void acknowledged(const std::string& subject, const std::string& reply, const std::string& text) {
        std::vector<std::string> words;
        for (std::size_t at = 0; at <= subject.size();) {
            const std::size_t dot = std::min(subject.find('.', at), subject.size());
            words.push_back(subject.substr(at, dot - at));
            at = dot + 1;
        }
        model_stream* const s = find(words.at(2));
        if (!s || s->consumer.is_null() || words.at(3) != s->consumer_name()) return;
        s->answer(number(words.at(5)), text, now());
        answer(reply, "");
    }

    static std::string refusal(int code, int err_code, const char* why) {
        return json{{"error", {{"code", code}, {"err_code", err_code}, {"description", why}}}}.dump();
    }
    /// what: STREAM.INFO.orders, CONSUMER.MSG.NEXT.orders.workers, ...
    std::string api(const std::string& what, const std::string& reply, const std::string& text) {
        const auto is = [&](const std::string& begin) { return what.starts_with(begin); };
        const auto word = [&](std::size_t from) { return what.substr(from, what.find('.', from) - from); };
        const json body = text.empty() ? json::object() : json::parse(text);
        if (what.find(".KV_") != std::string::npos) return api_of_bucket(what, body);
        if (is("STREAM.CREATE.")) {
            const std::string name = word(14);
            if (model_stream* const s = find(name)) {
                if (s->config == body) return s->info().dump();
                return refusal(400, 10058, "stream name already in use with a different configuration");
            }
            model_stream::hooks h{[this](const std::string& inbox) { return is_heard(inbox); },
                [this](const std::string& to, const std::string& reply_to, const std::string& headers,
                    const std::string& sent,
                    const std::string& subject) { route(to, reply_to, headers, sent, subject); },
                [this, name](const std::string& headers, const std::string& item, const char* happened) {
                    log(name, headers, item, happened);
                }};
            streams_.emplace(name, std::make_unique<model_stream>(body, std::move(h)));
            return find(name)->info().dump();
        }
        const bool of_stream = is("STREAM.");
        const std::size_t at = is("STREAM.MSG.DELETE.") ? 18
            : is("STREAM.MSG.GET.")                     ? 15
            : of_stream                                 ? what.find('.', 7) + 1
            : is("CONSUMER.INFO.")                      ? 14
            : is("CONSUMER.NAMES.")                     ? 15
            : is("CONSUMER.DELETE.")                    ? 16
            : is("CONSUMER.MSG.NEXT.")                  ? 18
                                                        : std::string("CONSUMER.DURABLE.CREATE.").size();
        model_stream* const s = find(word(at));
        if (!s && is("CONSUMER.MSG.NEXT.")) return "";
        if (!s) {
            const std::string said = refusal(404, 10059, "stream not found");
            return is("CONSUMER.NAMES.") ? R"({"consumers":[],)" + said.substr(1) : said;
        }
        if (is("STREAM.INFO.")) return s->info().dump();
        if (is("STREAM.MSG.GET.")) {
            json message = s->message(body.at("seq"));
            if (message.is_null()) return refusal(404, 10037, "no message found");
            return json{{"message", std::move(message)}}.dump();
        }
        if (is("STREAM.MSG.DELETE.")) return refusal(400, 10043, "sequence 0 not found");
        if (is("STREAM.UPDATE.")) {
            s->config = body;
            return s->info().dump();
        }
        if (is("STREAM.PURGE.")) return json{{"success", true}, {"purged", s->purge()}}.dump();
        if (is("STREAM.DELETE.")) {
            streams_.erase(word(at));
            return json{{"success", true}}.dump();
        }
        if (is("CONSUMER.NAMES.")) {
            json names = json::array();
            if (!s->consumer.is_null()) names.push_back(s->consumer_name());
            return json{{"consumers", names}}.dump();
        }
        const std::string consumer = what.substr(what.rfind('.') + 1);
        if (is("CONSUMER.DURABLE.CREATE.")) {
            if (s->consumer.is_null()) {
                s->make_consumer(body.at("config"));
            } else if (s->consumer_name() != consumer) {
                return refusal(400, 10099, "multiple non-filtered consumers not allowed on workqueue stream");
            }
        } else if (s->consumer.is_null() || s->consumer_name() != consumer) {
            if (is("CONSUMER.MSG.NEXT.")) return "";  // nobody says that there is no such consumer
            return refusal(404, 10014, "consumer not found");
        } else if (is("CONSUMER.DELETE.")) {
            s->delete_consumer();
            return json{{"success", true}}.dump();
        } else if (is("CONSUMER.MSG.NEXT.")) {
            const std::chrono::nanoseconds expires(body.value("expires", std::int64_t(0)));
            const aio::time_point until = expires.count() > 0 ? now() + expires : aio::time_point::max();
            s->ask({reply, body.value("batch", std::size_t(1)), until}, body.value("no_wait", false), now());
            return "";
        }
        return s->consumer_info().dump();
    }

    std::string api_of_bucket(const std::string& what, const json& body) {
        const std::size_t at = what.find(".KV_") + 1;
        const std::string verb = what.substr(0, at - 1), name = what.substr(at, what.find('.', at) - at);
        const std::string consumer = what.substr(what.rfind('.') + 1);
        auto found = buckets_.find(name);
        if (found == buckets_.end()) {
            if (verb != "STREAM.CREATE") return refusal(404, 10059, "stream not found");
            auto send = [this](const std::string& to, const std::string& reply, const std::string& headers,
                            const std::string& data,
                            const std::string& subject) { return route(to, reply, headers, data, subject); };
            found = buckets_.emplace(name, std::make_unique<model_bucket>(body, std::move(send))).first;
        }
        model_bucket& b = *found->second;
        if (verb == "STREAM.DELETE") {
            buckets_.erase(found);
            return json{{"success", true}}.dump();
        }
        if (verb == "CONSUMER.CREATE") return b.make_consumer(consumer, body.at("config")).dump();
        if (verb != "CONSUMER.DELETE") return b.info().dump();
        if (!b.delete_consumer(consumer)) return refusal(404, 10014, "consumer not found");
        return json{{"success", true}}.dump();
    }

    /// One timer serves all streams. It is armed for what was due first; what is due later by now costs a vain look.
    void arm() {
        aio::time_point first = aio::time_point::max();
        for (const auto& [name, s] : streams_) first = std::min(first, s->due());
        if (first >= timer_at_) return;
        timer_.cancel();
        timer_at_ = first;
        timer_ = aio::get_running_loop().call_at(first, [this] {
            timer_at_ = aio::time_point::max();
            for (const auto& [name, s] : streams_) s->tick(now());
            arm();
        });
    }

    std::mt19937_64 random_;
    std::vector<server_state> servers_;
    std::map<std::uint64_t, peer_ptr> peers_;
    std::uint64_t last_peer_ = 0;
    std::multimap<std::string, std::pair<std::uint64_t, std::string>> subscribers_;  // subject -> peer, sid
    std::map<std::string, std::unique_ptr<model_stream>> streams_;
    std::map<std::string, std::unique_ptr<model_bucket>> buckets_;
    aio::time_point leader_from_{};
    aio::callback_handle timer_;
    aio::time_point timer_at_ = aio::time_point::max();
    aio::background_tasks running_;
};

}  // namespace aio_test
