// Is the model of nats_model.hpp true? The same conversation goes to it and to the real nats-server, and what comes is
// compared. The client's own code takes no part.
#include "nats_model.hpp"
#include "nats_servers.hpp"

#include <algorithm>
#include <optional>

using namespace aio_test;
using nlohmann::json;

namespace {

/// What both have to say in the same words: sizes and times differ.
std::string essence(const std::string& data) {
    const json said = json::parse(data, nullptr, false);
    if (!said.is_object()) return data;
    json kept = json::object();
    for (const char* name :
        {"error", "seq", "duplicate", "success", "purged", "num_pending", "num_ack_pending", "consumers"}) {
        if (said.contains(name)) kept[name] = said[name];
    }
    if (said.contains("message")) {
        for (const char* name : {"subject", "seq", "hdrs", "data"}) kept["message"][name] = said["message"].at(name);
    }
    if (said.contains("state")) kept["messages"] = said["state"].at("messages");
    if (said.contains("state")) kept["subjects"] = said["config"].at("subjects");
    return kept.dump();
}

class talk {
public:
    explicit talk(aio::stream s) : line_(std::move(s)) {}
    aio::coro<> begin() {
        co_await line_.read_line();
        const std::string hello = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nPING\r\n";
        co_await send(hello);
        co_await hear(1);
    }
    aio::coro<> send(std::string text) { co_await line_.write(std::string_view(text)); }
    aio::coro<> pub(std::string subject, std::string reply, std::string data) {
        const std::string text = "PUB " + subject + " " + reply + (reply.empty() ? "" : " ") +
            std::to_string(data.size()) + "\r\n" + data + "\r\n";
        co_await send(text);
    }
    aio::coro<> put(std::string id, std::string data, std::string more = {}, std::string subject = "t.items") {
        const std::string head = "NATS/1.0\r\nNats-Msg-Id: " + id + "\r\n" + more + "\r\n";
        const std::string text = "HPUB " + subject + " box.a " + std::to_string(head.size()) + " " +
            std::to_string(head.size() + data.size()) + "\r\n" + head + data + "\r\n";
        co_await send(text);
        co_await hear(1);
    }
    aio::coro<> ask(std::string what, std::string body = {}) {
        const std::string subject = "$JS.API." + what;
        co_await pub(subject, "box.a", body);
        co_await hear(1);
    }
    aio::coro<> next(std::string body, std::size_t answers, std::string stream = "T") {
        const std::string subject = "$JS.API.CONSUMER.MSG.NEXT." + stream + ".workers";
        co_await pub(subject, "box.n", body);
        co_await hear(answers);
    }
    /// Of the nth item that came.
    aio::coro<> ack(std::size_t nth, std::string text) {
        const std::string subject = acks_.at(nth);
        co_await pub(subject, "box.a", text);
        co_await hear(1);
    }
    aio::coro<> hear(std::size_t lines) {
        for (std::size_t n = 0; n < lines;) {
            const std::string first = co_await line_.read_line();
            AIO_REQUIRE(!first.empty());
            if (first.starts_with("PING")) {
                const std::string pong = "PONG\r\n";
                co_await send(pong);
            }
            if (first.starts_with("PING") || first.starts_with("INFO")) continue;
            ++n;
            if (!first.starts_with("MSG") && !first.starts_with("HMSG")) {
                heard.push_back(first.substr(0, first.find_first_of("\r ")));
                continue;
            }
            std::vector<std::string> words;
            std::istringstream all(first);
            for (std::string w; all >> w;) words.push_back(w);
            const std::size_t size = std::stoul(words.back());
            std::string data = co_await line_.read_exactly(size + 2);
            data.resize(size);
            std::string text = words[1];
            const std::size_t with_reply = words[0] == "MSG" ? 5 : 6;
            if (words.size() == with_reply) {
                acks_.push_back(words[3]);
                std::vector<std::string> parts;
                std::istringstream dots(words[3]);
                for (std::string w; std::getline(dots, w, '.');) parts.push_back(w);
                text += " ack of " + parts.at(4) + " " + parts.at(5) + " " + parts.at(6);
            }
            if (data.starts_with("NATS/1.0 ")) data.resize(data.find("\r\n"));  // a status line
            heard.push_back(text + ": " + essence(data));
        }
    }
    /// Hears so many lines, as hear() does, and sorts them: the server may send them in any order.
    aio::coro<> hear_in_any_order(std::size_t lines) {
        const auto before = static_cast<std::ptrdiff_t>(heard.size());
        co_await hear(lines);
        std::sort(heard.begin() + before, heard.end());
    }
    std::vector<std::string> heard;

private:
    aio::stream line_;
    std::vector<std::string> acks_;
};

aio::coro<std::vector<std::string>> converse(aio::stream s) {
    talk t(std::move(s));
    co_await t.begin();
    co_await t.send("SUB box.* 1\r\nSUB t.news 2\r\nSUB t.news 2\r\nSUB box.n 3\r\nUNSUB 3\r\n");
    co_await t.pub("t.news", "", "hello");
    co_await t.hear(1);
    co_await t.pub("t.items", "box.a", "nobody listens");
    co_await t.hear(1);
    co_await t.ask("STREAM.INFO.T");
    const std::string config = R"({"name":"T","subjects":["t.items"],"retention":"workqueue","discard":"new",)"
                               R"("storage":"memory","num_replicas":1,"duplicate_window":2000000000,"max_msgs":MOST})";
    const auto with = [&](const std::string& most) {
        std::string text = config;
        return text.replace(text.find("MOST"), 4, most);
    };
    const std::string made = with("4"), other = with("5");
    co_await t.ask("STREAM.CREATE.T", made);
    co_await t.ask("STREAM.CREATE.T", made);
    co_await t.ask("STREAM.CREATE.T", other);
    co_await t.ask("CONSUMER.INFO.T.workers");
    const std::string workers = R"({"stream_name":"T","config":{"durable_name":"workers","ack_policy":"explicit",)"
                                R"("deliver_policy":"all","max_deliver":-1,"max_ack_pending":-1,)"
                                R"("ack_wait":400000000}})";
    co_await t.ask("CONSUMER.DURABLE.CREATE.T.workers", workers);
    co_await t.put("a", "A");
    co_await t.put("a", "A");                                            // a duplicate
    for (const char* id : {"b", "c", "d", "e"}) co_await t.put(id, id);  // the last one is too many
    co_await t.put("a", "A");                                            // known, while it is full
    const std::string never = "Nats-Expected-Last-Msg-Id: none\r\n";
    co_await t.put("a", "A", never);  // only asks: it is known
    co_await t.put("z", "z", never);  // it is not
    co_await t.ask("STREAM.INFO.T");
    co_await t.ask("CONSUMER.INFO.T.workers");
    co_await t.next(R"({"batch":2,"expires":5000000000})", 2);
    co_await t.ack(0, "+ACK");
    co_await t.ack(0, "+ACK");  // once more
    co_await t.ask("CONSUMER.INFO.T.workers");
    co_await t.ack(1, "-NAK");
    co_await t.next(R"({"batch":1,"expires":5000000000})", 1);  // b again, marked
    co_await t.next(R"({"batch":2,"expires":5000000000})", 2);
    co_await t.ack(2, "-NAK {\"delay\": 100000000}");
    co_await t.next(R"({"batch":1,"expires":5000000000})", 1);  // b after its rest
    co_await t.ack(3, "+TERM");
    co_await t.ack(5, "+ACK");
    co_await t.next(R"({"batch":1,"expires":5000000000})", 1);  // d, which nobody has acknowledged for ack_wait
    co_await t.ack(4, "+ACK");                                  // by who has had it before
    co_await t.ask("STREAM.INFO.T");
    co_await t.next(R"({"batch":1,"expires":100000000})", 1);  // nothing comes
    co_await t.next(R"({"batch":1,"no_wait":true})", 1);
    const std::string shut = [&] {
        std::string text = with("4");
        return text.replace(text.find("t.items"), 7, "t.shut");
    }();
    co_await t.ask("STREAM.UPDATE.T", shut);
    co_await t.put("f", "f");  // nobody takes it
    co_await t.ask("STREAM.UPDATE.T", made);
    co_await t.put("g", "g");
    co_await t.put("h", "h");
    co_await t.next(R"({"batch":1,"expires":5000000000})", 1);
    const std::string none = R"({"seq":0,"no_erase":true})";
    co_await t.ask("STREAM.MSG.DELETE.T", none);
    const std::string stored = R"({"seq":6})", not_yet = R"({"seq":99})";
    co_await t.ask("STREAM.MSG.GET.T", stored);
    co_await t.ask("STREAM.MSG.GET.T", not_yet);
    co_await t.ask("STREAM.PURGE.T");
    co_await t.ask("CONSUMER.INFO.T.workers");
    co_await t.ack(7, "+ACK");
    co_await t.ask("CONSUMER.NAMES.T");
    co_await t.ask("CONSUMER.DELETE.T.others");
    co_await t.ask("CONSUMER.DELETE.T.workers");
    co_await t.ask("CONSUMER.DELETE.T.workers");
    co_await t.ask("CONSUMER.INFO.T.workers");
    co_await t.ask("CONSUMER.NAMES.T");
    co_await t.next(R"({"batch":1,"expires":5000000000})", 0);  // nobody says that there is no such consumer
    co_await t.ask("STREAM.DELETE.T");
    co_await t.ask("CONSUMER.NAMES.T");
    co_await t.ask("STREAM.INFO.T");
    co_return std::move(t.heard);
}

/// An item that fails until it goes to the dead letters, which are another stream.
aio::coro<std::vector<std::string>> converse_of_dead_letters(aio::stream s) {
    talk t(std::move(s));
    co_await t.begin();
    co_await t.send("SUB box.* 1\r\n");
    for (const std::string name : {"T", "D"}) {
        const std::string stream = R"({"name":")" + name + R"(","subjects":[")" + (name == "T" ? "t" : "d") +
            R"(.items"],"retention":"workqueue","discard":"new","storage":"memory","num_replicas":1,)"
            R"("duplicate_window":120000000000,"max_msgs":-1})";
        co_await t.ask("STREAM.CREATE." + name, stream);
        const std::string workers = R"({"stream_name":")" + name +
            R"(","config":{"durable_name":"workers","ack_policy":"explicit","deliver_policy":"all","max_deliver":-1,)"
            R"("max_ack_pending":-1,"ack_wait":2000000000}})";
        co_await t.ask("CONSUMER.DURABLE.CREATE." + name + ".workers", workers);
    }
    const std::string one = R"({"batch":1,"expires":5000000000})";
    co_await t.put("a", "poison");
    co_await t.put("b", "good");
    co_await t.next(one, 1);
    co_await t.ack(0, "-NAK");
    co_await t.next(one, 1);  // again, before what has not been given yet
    co_await t.next(one, 1);
    co_await t.ack(2, "+ACK");
    co_await t.ack(1, "-NAK {\"delay\": 100000000}");
    co_await t.next(one, 1);  // the third time
    co_await t.next(one, 1);  // the fourth, as nobody has said anything for ack_wait
    co_await t.ask("CONSUMER.INFO.T.workers");
    co_await t.ack(3, "-NAK");  // by who had it the third time
    co_await t.next(one, 1);    // the fifth
    const std::string from = "Aio-Queue: T\r\nAio-Sequence: 1\r\nAio-Deliveries: 5\r\n";
    co_await t.put("dead-T-1", "poison", from, "d.items");
    co_await t.put("dead-T-1", "poison", from, "d.items");  // its answer was lost
    co_await t.ask("STREAM.INFO.T");
    co_await t.ask("STREAM.INFO.D");
    co_await t.ack(5, "+ACK");
    co_await t.ack(3, "-NAK");  // too late
    co_await t.ask("STREAM.INFO.T");
    co_await t.ask("CONSUMER.INFO.T.workers");
    const std::string at_once = R"({"batch":1,"no_wait":true})";
    co_await t.next(at_once, 1);
    co_await t.next(one, 1, "D");
    co_await t.ack(6, "+ACK");
    co_await t.put("dead-T-1", "poison", from, "d.items");  // by who had it the fourth time: known, although it is done
    co_await t.ask("STREAM.INFO.D");
    co_await t.ask("CONSUMER.INFO.D.workers");
    co_await t.ask("STREAM.DELETE.T");
    co_await t.ask("STREAM.INFO.D");
    co_await t.ask("STREAM.DELETE.D");
    co_return std::move(t.heard);
}

/// The stream of a bucket, and the consumers of its watches.
aio::coro<std::vector<std::string>> converse_of_a_bucket(aio::stream s) {
    talk t(std::move(s));
    co_await t.begin();
    co_await t.send("SUB box.* 1\r\nSUB w.a 2\r\nSUB w.b 3\r\n");
    const std::string bucket =
        R"({"name":"KV_b","subjects":["$KV.b.>"],"retention":"limits","discard":"new","storage":"memory",)"
        R"("num_replicas":1,"max_msgs_per_subject":2,"duplicate_window":120000000000,"allow_rollup_hdrs":true,)"
        R"("deny_delete":true,"allow_direct":true})";
    co_await t.ask("STREAM.INFO.KV_b");
    co_await t.ask("STREAM.CREATE.KV_b", bucket);
    const std::string erased = "KV-Operation: DEL\r\n";
    co_await t.put("1", "a1", {}, "$KV.b.a");
    co_await t.put("2", "b1", {}, "$KV.b.b");
    co_await t.put("3", "a2", {}, "$KV.b.a");
    co_await t.put("3", "a2", {}, "$KV.b.a");  // a duplicate
    co_await t.put("4", "", erased, "$KV.b.b");
    co_await t.put("5", "a3", {}, "$KV.b.a");
    co_await t.put("6", "c1", {}, "$KV.b.c");
    co_await t.ask("STREAM.INFO.KV_b");
    const auto consumer = [](const std::string& name, const std::string& from) {
        return R"({"stream_name":"KV_b","config":{"name":")" + name + R"(","deliver_subject":"w.)" + name +
            R"(","ack_policy":"none","replay_policy":"instant","max_deliver":1,"mem_storage":true,"num_replicas":1,)"
            R"("idle_heartbeat":2000000000,"filter_subject":"$KV.b.>","headers_only":false,)" +
            from + "}}";
    };
    const std::string last = consumer("a", R"("deliver_policy":"last_per_subject")");
    co_await t.pub("$JS.API.CONSUMER.CREATE.KV_b.a", "", last);
    co_await t.hear(3);
    co_await t.pub("$KV.b.d", "box.a", "d1");
    co_await t.hear_in_any_order(2);
    co_await t.hear(1);  // a heartbeat
    co_await t.send("UNSUB 2\r\n");
    co_await t.ask("CONSUMER.DELETE.KV_b.a");
    co_await t.ask("CONSUMER.DELETE.KV_b.a");
    const std::string behind = consumer("b", R"("deliver_policy":"by_start_sequence","opt_start_seq":5)");
    co_await t.pub("$JS.API.CONSUMER.CREATE.KV_b.b", "", behind);
    co_await t.hear(3);
    co_await t.send("UNSUB 3\r\n");
    co_await t.ask("STREAM.DELETE.KV_b");
    co_await t.ask("STREAM.INFO.KV_b");
    co_return std::move(t.heard);
}

}  // namespace

AIO_REAL_TEST("the model says what the real server says") {
    std::optional<nats_server> server;
    if (there_is_nats()) {
        server.emplace();
        co_await server->start();
    }
    for (const auto conversation : {converse, converse_of_dead_letters, converse_of_a_bucket}) {
        nats_model model(1, 1);
        aio::stream to_model = co_await model.connect(0);
        const std::vector<std::string> of_model = co_await conversation(std::move(to_model));
        co_await model.stop();
        EXPECT_GT(of_model.size(), 20u);
        if (!server) continue;
        aio::stream to_server = co_await aio::open_connection("127.0.0.1", server->port());
        const std::vector<std::string> of_server = co_await conversation(std::move(to_server));
        EXPECT_EQ(of_model.size(), of_server.size());
        for (std::size_t i = 0; i < std::min(of_model.size(), of_server.size()); ++i) {
            EXPECT_EQ(of_model[i], of_server[i]) << "answer " << i;
        }
    }
}
