// Runs aio::jetstream with each allocation failing in its turn: see out_of_memory.hpp. The server is a nats-server of
// its own, so that only the client is short of memory.
#include "nats_servers.hpp"
#include "short_of_memory.hpp"

using namespace aio_test;
namespace jetstream = aio::jetstream;

namespace {

constexpr jetstream::connect_options quick{
    .max_attempts = 3, .reconnect_wait = 1ms, .max_reconnect_wait = 1ms, .request_timeout = 20ms, .discover = false};

/// A name that no other run uses.
std::string own(const char* what) { return what + std::to_string(::getpid()); }

void check(bool holds, const char* what) {
    if (!holds) throw std::logic_error(what);
}

/// Calls use(connection) with a server of its own: see client_survives().
template<class Use>
void survives(Use use) {
    if (!there_is_nats()) return;
    nats_server server;
    aio::run(server.start());
    client_survives(server.url(), quick, 40, use);
}

}  // namespace

PLAIN_TEST("failing allocations: a connection that publishes, subscribes, and asks") {
    survives([](jetstream::connection& js) -> aio::coro<> {
        const std::string long_text(100, 'x');
        auto serve = [&]() -> aio::coro<> {
            auto questions = js.subscribe("a.subject.that.is.long.*", {.queue_group = "a-group-of-some-length"});
            for (;;) {
                auto question = co_await questions.next();
                if (!question) co_return;
                const counted local;
                const jetstream::headers more("Answer-To", question->data);
                co_await js.publish(question->reply_to, question->data, {.headers = more});
            }
        };
        auto ask = [&]() -> aio::coro<> {
            auto events = js.events();
            co_await js.flush();
            const jetstream::message answer = co_await js.request("a.subject.that.is.long.1", long_text);
            check(answer.data == long_text && answer.headers["answer-to"] == long_text, "another answer");
            co_await js.flush();
        };
        co_await aio::race(serve(), ask());
    });
}

PLAIN_TEST("failing allocations: a queue, from its making to its shutdown") {
    survives([](jetstream::connection& js) -> aio::coro<> {
        const jetstream::queue_options options{
            .maxsize = 10, .ack_wait = 60ms, .in_memory = true, .duplicate_window = 200ms};
        const std::string name = own("a-queue-of-some-length-");
        auto use = [&](jetstream::queue<std::string>& q) -> aio::coro<> {
            const std::string item(100, 'x');
            co_await q.put(item);
            co_await q.put(item, {.id = "an-id-that-is-rather-long"});
            auto work = [&]() -> aio::coro<> {
                const counted local;
                const std::string got = co_await q.get();
                check(got == item, "another item");
                co_await q.task_done();
                co_await q.get();
                q.retry_later(1ms);
                co_await q.get();
                q.task_done();
            };
            co_await work();
            co_await q.join();
            co_await q.shutdown();
            bool shut = false;
            try {
                co_await q.get();
            } catch (const aio::queue_shut_down&) { shut = true; }
            check(shut, "the queue is not shut down");
        };
        co_await aio::with(js.queue<std::string>(name, options), use);
        co_await js.remove_queue(name);
    });
}

PLAIN_TEST("failing allocations: a bucket that is read, written and watched") {
    survives([](jetstream::connection& js) -> aio::coro<> {
        const jetstream::bucket_options options{.history = 2, .in_memory = true};
        const std::string name = own("a-bucket-of-some-length-");
        auto use = [](jetstream::bucket<std::string>& b) -> aio::coro<> {
            const std::string key = "a.key.of.some.length", text(100, 'x');
            const std::uint64_t first = co_await b.create(key, text);
            const std::uint64_t second = co_await b.update(key, text, first);
            auto there = co_await b.get(key);
            check(there && there->value == text && there->revision == second, "another value");
            auto changes = b.watch("a.>");
            auto change = co_await changes.next();
            check(change && change->value == text, "another change");
            change = co_await changes.next();
            check(change && change->kind == jetstream::entry_kind::up_to_date, "not up to date");
            const std::vector<std::string> keys = co_await b.keys();
            check(keys.size() == 1 && keys[0] == key, "other keys");
            co_await b.purge(key);
            change = co_await changes.next();
            check(change && change->kind == jetstream::entry_kind::erased, "the key is not erased");
        };
        co_await aio::with(js.bucket<std::string>(name, options), use);
        co_await js.remove_bucket(name);
    });
}

PLAIN_TEST("failing allocations: a lock that is held, waited for, and given back") {
    survives([](jetstream::connection& js) -> aio::coro<> {
        const jetstream::bucket_options options{.in_memory = true};
        const std::string name = own("locks-of-some-length-");
        auto use = [](jetstream::bucket<std::string>& b) -> aio::coro<> {
            jetstream::lease_lock mine = b.lock("a-lock-with-a-name", {.lease = 150ms});
            jetstream::lease_lock theirs = b.lock("a-lock-with-a-name", {.lease = 150ms});
            auto hold = [&]() -> aio::coro<> {
                co_await mine.acquire();
                co_await aio::sleep(2ms);
                co_await mine.release();
            };
            auto wait = [&]() -> aio::coro<> {
                co_await aio::sleep(1ms);
                co_await theirs.acquire();
                co_await theirs.release();
            };
            try {
                co_await aio::gather(hold(), wait());
                auto body = [](jetstream::lease_lock& l) { check(l.held(), "it is not held"); };
                co_await aio::with(mine, body);
            } catch (const jetstream::lease_lost&) {}  // its renewal, or an answer, came too late
        };
        co_await aio::with(js.bucket<std::string>(name, options), use);
        co_await js.remove_bucket(name);
    });
}
