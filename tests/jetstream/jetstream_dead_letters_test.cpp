// Dead letters: what becomes of an item that was delivered too often while the dead-letter queue takes nothing, who is
// told, and what a dead letter keeps of its item.
#include "nats_model.hpp"
#include "nats_servers.hpp"

#include <set>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

namespace {

const jetstream::queue_options plain{};
const jetstream::queue_options with_letters{.max_deliver = 1, .dead_letters = "dead"};

/// The errors that the loop's exception handler is told.
class reports {
public:
    reports() {
        aio::get_running_loop().set_exception_handler([all = all_](const aio::exception_context& c) {
            try {
                std::rethrow_exception(c.error);
            } catch (const jetstream::error& e) { all->push_back(e.what()); }
        });
    }
    const std::vector<std::string>& all() const { return *all_; }

private:
    std::shared_ptr<std::vector<std::string>> all_ = std::make_shared<std::vector<std::string>>();
};

/// Gets items until the queue ends, each in a task of its own: one that begins with "bad" fails. Gives the error.
aio::coro<std::string> work(text_queue& q) {
    const auto one = [](text_queue& from) -> aio::coro<> {
        const std::string item = co_await from.get();
        if (!item.starts_with("bad")) from.task_done();
    };
    for (;;) {
        try {
            co_await aio::create_task(one(q));
        } catch (const jetstream::error& e) { co_return e.what(); } catch (const aio::queue_shut_down&) {
            co_return "shut down";
        }
    }
}

/// The tasks that work on a queue end before it does.
aio::coro<> stop(aio::task<std::string>& works) {
    works.cancel();
    try {
        co_await works;
    } catch (const aio::cancelled_error&) {}
}

/// Why join() cannot end; empty if it has ended.
aio::coro<std::string> join(text_queue& q) {
    try {
        co_await q.join();
    } catch (const jetstream::error& e) { co_return e.what(); }
    co_return std::string();
}

std::string text_of(const std::set<std::string>& all) {
    std::string text;
    for (const std::string& one : all) text += one + ";";
    return text;
}

/// All letters of the queue in order, each as ID=ITEM;
aio::coro<std::string> letters_in(jetstream::connection& js, const char* name) {
    std::set<std::string> all;
    auto take = [&](text_queue& q) -> aio::coro<> {
        for (std::size_t left = co_await q.size(); left > 0; --left) {
            const std::string item = co_await q.get();
            EXPECT_TRUE(all.insert(q.id() + "=" + item).second) << item;
            co_await q.task_done();
        }
    };
    co_await aio::with(js.queue<std::string>(name), take);
    co_return text_of(all);
}

aio::coro<> put(text_queue& q, const char* item, const char* id) {
    const std::string text = item;
    co_await q.put(text, {.id = id});
}

/// Shuts the dead-letter queue down, or opens it again.
aio::coro<> open_letters(jetstream::connection& js, bool open) {
    const jetstream::queue_options again{.reopen = true};
    auto change = [open](text_queue& q) -> aio::coro<> {
        if (!open) co_await q.shutdown();
    };
    co_await aio::with(js.queue<std::string>("dead", again), change);
}

template<class Body>
aio::coro<> with_server(Body body) {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    auto talk = [&](jetstream::connection& js) -> aio::coro<> { co_await body(server, js); };
    co_await aio::with(jetstream::connect(server.url()), talk);
}

void expect_word(const std::string& text, const char* word) {
    EXPECT_NE(text.find(word), std::string::npos) << word << " is not in: " << text;
}
template<class... Words>
void expect_says(const std::string& text, const Words*... words) {
    (expect_word(text, words), ...);
}

}  // namespace

AIO_REAL_TEST("a dead letter whose queue was shut down before stays, is told, and is buried once that is open") {
    co_await with_server([](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        const reports told;
        co_await open_letters(js, true);
        co_await open_letters(js, false);
        text_queue& q = co_await aio::enter(js.queue<std::string>("orders", with_letters));
        co_await put(q, "bad", "order-7");
        co_await put(q, "good", "order-8");
        aio::task<std::string> works = aio::create_task(work(q));
        const std::string why = co_await join(q);
        expect_says(why, "orders", "1 item", "dead-letter queue dead was shut down");
        EXPECT_EQ(co_await q.size(), 1u);
        EXPECT_EQ(q.statistics().unburied, 1u);
        EXPECT_EQ(q.statistics().dead, 0u);
        // Another process, which knows nothing of dead letters, is told as well.
        auto other = [](jetstream::connection& second) -> aio::coro<> {
            text_queue& same = co_await aio::enter(second.queue<std::string>("orders", plain));
            const std::string said = co_await join(same);
            expect_says(said, "orders", "1 item", "dead-letter queue dead was shut down");
        };
        co_await aio::with(jetstream::connect(server.url()), other);

        co_await open_letters(js, true);
        EXPECT_EQ(co_await join(q), "");
        EXPECT_EQ(q.statistics().unburied, 0u);
        EXPECT_EQ(q.statistics().dead, 1u);
        EXPECT_EQ(co_await letters_in(js, "dead"), "order-7=bad;");
        EXPECT_EQ(told.all().size(), 1u);
        if (!told.all().empty()) expect_says(told.all()[0], "orders", "1 times", "dead was shut down");
        co_await stop(works);
    });
}

AIO_REAL_TEST("a dead-letter queue that is shut down during burials, or removed and made anew, costs no item") {
    co_await with_server([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        const reports told;
        text_queue& q = co_await aio::enter(js.queue<std::string>("orders", with_letters));
        aio::task<std::string> works = aio::create_task(work(q));
        std::set<std::string> put_items;
        auto put_some = [&](int from, int to) -> aio::coro<> {
            for (int i = from; i < to; ++i) {
                const std::string item = "bad " + std::to_string(i), id = std::to_string(i);
                put_items.insert(id + "=" + item);
                co_await put(q, item.c_str(), id.c_str());
            }
        };
        co_await put_some(0, 10);
        while (q.statistics().dead < 3) co_await aio::sleep(1ms);
        co_await open_letters(js, false);
        co_await put_some(10, 12);
        std::string why = co_await join(q);
        expect_says(why, "orders", "dead-letter queue dead was shut down");
        const std::size_t left = co_await q.size();
        EXPECT_GE(left, 2u);
        co_await open_letters(js, true);
        EXPECT_EQ(co_await join(q), "");
        EXPECT_EQ(co_await letters_in(js, "dead"), text_of(put_items));

        put_items.clear();
        co_await js.remove_queue("dead");
        co_await put_some(20, 25);
        why = co_await join(q);
        expect_says(why, "orders", "5 items", "dead-letter queue dead was removed");
        EXPECT_EQ(co_await letters_in(js, "dead"), "");  // it is made anew
        EXPECT_EQ(co_await join(q), "");
        EXPECT_EQ(co_await letters_in(js, "dead"), text_of(put_items));
        EXPECT_EQ(told.all().size(), 2u);
        co_await stop(works);
    });
}

AIO_REAL_TEST("a dead letter waits for room in a full dead-letter queue, and join() says so after a while") {
    co_await with_server([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        const reports told;
        const jetstream::queue_options small{.maxsize = 1};
        co_await aio::with(js.queue<std::string>("dead", small), [](text_queue&) {});
        text_queue& q = co_await aio::enter(js.queue<std::string>("orders", with_letters));
        aio::task<std::string> works = aio::create_task(work(q));
        co_await put(q, "bad 1", "1");
        co_await put(q, "bad 2", "2");
        const std::string why = co_await join(q);
        expect_says(why, "orders", "1 item", "dead-letter queue dead is full");
        EXPECT_EQ(told.all().size(), 1u);
        const std::string first = co_await letters_in(js, "dead");
        EXPECT_EQ(co_await join(q), "");
        const std::string second = co_await letters_in(js, "dead");
        EXPECT_EQ(std::min(first, second) + std::max(first, second), "1=bad 1;2=bad 2;");
        co_await stop(works);
    });
}

AIO_REAL_TEST("what the servers refuse for the dead letters stays, and their words are told") {
    co_await with_server([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        const reports told;
        const auto config = [](const std::string& most) {
            return R"({"name":"dead","subjects":["aio.queue.dead.items"],"retention":"workqueue","discard":"new",)"
                   R"("storage":"memory","num_replicas":1,"duplicate_window":120000000000,"max_msg_size":)" +
                most + "}";
        };
        const std::string small = config("10"), any = config("-1"), long_item = "bad " + std::string(100, 'x');
        co_await js.request("$JS.API.STREAM.CREATE.dead", small);
        text_queue& q = co_await aio::enter(js.queue<std::string>("orders", with_letters));
        aio::task<std::string> works = aio::create_task(work(q));
        co_await put(q, long_item.c_str(), "1");
        const std::string why = co_await join(q);
        expect_says(why, "orders", "1 item", "dead-letter queue dead does not take it", "size");
        co_await js.request("$JS.API.STREAM.UPDATE.dead", any);
        // The servers' last word counts until the item comes again.
        while (q.statistics().unburied > 0) co_await aio::sleep(5ms);
        EXPECT_EQ(co_await join(q), "");
        EXPECT_EQ(co_await letters_in(js, "dead"), "1=" + long_item + ";");
        EXPECT_EQ(told.all().size(), 1u);
        co_await stop(works);
    });
}

AIO_REAL_TEST("get() of a queue that is shut down throws if nothing is left but what cannot be buried") {
    co_await with_server([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        const reports told;
        text_queue& q = co_await aio::enter(js.queue<std::string>("orders", with_letters));
        co_await js.remove_queue("dead");
        co_await put(q, "bad", "1");
        co_await put(q, "good", "2");
        co_await q.shutdown();
        aio::task<std::string> works = aio::create_task(work(q));
        const std::string why = co_await works;
        expect_says(why, "orders", "1 item", "dead-letter queue dead was removed");
        EXPECT_EQ(co_await q.size(), 1u);
        EXPECT_EQ(co_await work(q), why);
    });
}

AIO_REAL_TEST("a stream that is no queue is refused as a dead-letter queue") {
    co_await with_server([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        const std::string log = R"({"name":"dead","subjects":["log.>"],"storage":"memory"})";
        co_await js.request("$JS.API.STREAM.CREATE.dead", log);
        std::string why;
        try {
            co_await aio::with(js.queue<std::string>("orders", with_letters), [](text_queue&) {});
        } catch (const jetstream::error& e) { why = e.what(); }
        expect_says(why, "dead", "no queue");
    });
}

AIO_REAL_TEST("a dead letter has the id of its item, also the letter of a letter") {
    co_await with_server([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        const jetstream::queue_options onward{.max_deliver = 1, .dead_letters = "buried"};
        text_queue& q = co_await aio::enter(js.queue<std::string>("orders", with_letters));
        text_queue& dead = co_await aio::enter(js.queue<std::string>("dead", onward));
        std::string made;  // the id that put() makes
        auto look = [&]() -> aio::coro<> {
            co_await q.get();
            made = q.id();
        };
        const std::string item = "bad 1";
        co_await q.put(item);
        co_await aio::create_task(look());
        EXPECT_NE(made, "");
        co_await put(q, "bad 2", "order-7");
        aio::task<std::string> works = aio::create_task(work(q));
        aio::task<std::string> works_on = aio::create_task(work(dead));
        EXPECT_EQ(co_await join(q), "");
        EXPECT_EQ(co_await join(dead), "");
        std::set<std::string> both;
        both.insert(made + "=bad 1");
        both.insert("order-7=bad 2");
        EXPECT_EQ(co_await letters_in(js, "buried"), text_of(both));
        co_await stop(works);
        co_await stop(works_on);
    });
}

AIO_REAL_TEST("the first items of a queue that is removed and made anew are dead letters of their own") {
    co_await with_server([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        for (const char* id : {"1", "2"}) {
            auto use = [id](text_queue& q) -> aio::coro<> {
                co_await put(q, "bad", id);
                aio::task<std::string> works = aio::create_task(work(q));
                EXPECT_EQ(co_await join(q), "");
                co_await stop(works);
            };
            co_await aio::with(js.queue<std::string>("orders", with_letters), use);
            co_await js.remove_queue("orders");
        }
        EXPECT_EQ(co_await letters_in(js, "dead"), "1=bad;2=bad;");
    });
}

AIO_TEST("a burial whose answers are lost is tried again within the duplicate_window of the dead letters") {
    nats_model model(1, 1);
    model.take_over();
    int stored = 0;
    model.log = [&](const std::string& stream, const std::string&, const std::string&, const std::string& what) {
        if (stream == "dead" && what == "stored") ++stored;
    };
    jetstream::connection& js = co_await aio::enter(jetstream::connect("nats://0"));
    const jetstream::queue_options short_window{.duplicate_window = 10s};
    co_await aio::with(js.queue<std::string>("dead", short_window), [](text_queue&) {});
    text_queue& q = co_await aio::enter(js.queue<std::string>("orders", with_letters));
    co_await put(q, "bad", "1");
    model.how.lost_answers = 1000;
    aio::task<std::string> works = aio::create_task(work(q));
    while (stored == 0) co_await aio::sleep(1ms);
    co_await aio::sleep(7100ms);
    model.how.lost_answers = 0;
    EXPECT_EQ(co_await join(q), "");
    EXPECT_EQ(stored, 1);
    EXPECT_EQ(co_await letters_in(js, "dead"), "1=bad;");
    co_await stop(works);
    co_await model.stop();
}

AIO_TEST("dead letters that no server answers for are told, are tried again, and are buried at last") {
    nats_model model(1, 1);
    model.take_over();
    const reports told;
    jetstream::connection& js = co_await aio::enter(jetstream::connect("nats://0"));
    text_queue& q = co_await aio::enter(js.queue<std::string>("orders", with_letters));
    co_await put(q, "bad", "1");
    model.how.lost_answers = 1000;
    aio::task<std::string> works = aio::create_task(work(q));
    const std::string why = co_await join(q);
    expect_says(why, "orders", "1 item", "dead-letter queue dead does not take it", "no answer");
    EXPECT_EQ(told.all().size(), 1u);
    model.how.lost_answers = 0;
    while (q.statistics().unburied > 0) co_await aio::sleep(1s);
    EXPECT_EQ(co_await join(q), "");
    EXPECT_EQ(co_await letters_in(js, "dead"), "1=bad;");
    co_await stop(works);
    co_await model.stop();
}
