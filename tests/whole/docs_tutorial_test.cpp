// The code of docs/tutorial/echo.md and docs/tutorial/job_queue.md: `./dev rules` checks that each C++ block there
// stands here, or in a program of examples/, word for word. The programs are compiled in here, too, so that their
// classes can be tested without a process.

#include "aio_test.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>

namespace chat_program {
#define main chat_main
#include "../../examples/chat.cpp"
#undef main
}  // namespace chat_program
namespace queue_program {
#define main job_queue_main
#include "../../examples/job_queue.cpp"
#undef main
}  // namespace queue_program

namespace {

// ---- echo.md

aio::coro<> patient_echo(aio::stream client) {
    for (;;) {
        std::string line = co_await aio::wait_for(client.read_line(), 60s);
        if (line.empty()) co_return;
        co_await client.write(line);
    }
}

aio::coro<std::string> conversation() {
    auto [client, server] = aio::testing::stream_pair();
    auto serving = aio::create_task(patient_echo, std::move(server));
    co_await client.write("hello\n");
    std::string answer = co_await client.read_line();
    client.write_eof();  // the server reads the end
    co_await serving;
    co_return answer;
}

aio::coro<bool> idle_client_is_dropped() {
    auto [client, server] = aio::testing::stream_pair();
    auto serving = aio::create_task(patient_echo, std::move(server));
    bool dropped = false;
    try {
        co_await serving;  // nobody writes; a minute passes at once
    } catch (const aio::timeout_error&) { dropped = true; }
    std::string rest = co_await client.read();  // to the end: the server has closed the connection
    co_return (dropped && rest.empty());
}

aio::coro<> say_good_bye(aio::stream& client) {
    co_await client.write("good-bye\n");
    client.write_eof();  // the client reads the end, and closes its own side
    auto read_the_rest = [&]() -> aio::coro<> {
        std::array<std::byte, 4096> block;
        for (std::size_t bytes = 1; bytes != 0;) bytes = co_await client.read_some(block);
    };
    co_await aio::wait_for(read_the_rest(), 2s);
}

// ---- job_queue.md

struct job {
    int id = 0;
};

aio::coro<> process(job) {
    co_await aio::sleep(10ms);  // stands for the real work
}

aio::coro<> worker(aio::queue<job>& jobs, int& done) {
    for (;;) {
        job j = co_await jobs.get();
        auto ended = aio::finally([&] { jobs.task_done(); });
        co_await process(j);
        ++done;
    }
}

aio::coro<int> do_all(int count, int workers) {
    aio::queue<job> jobs(100);
    int done = 0;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        for (int n = 0; n < workers; ++n) tg.create_task(worker(jobs, done));
        for (int id = 0; id < count; ++id) {
            job j{id};
            co_await jobs.put(j);  // waits while 100 jobs are in the queue
        }
        co_await jobs.join();  // until each job has been marked by task_done()
        tg.cancel();           // the workers wait for jobs that will not come
    });
    co_return done;
}

aio::coro<bool> ten_workers_take_a_tenth_of_the_time() {
    const aio::time_point start = aio::get_running_loop().time();
    const int done = co_await do_all(100, 10);
    co_return done == 100 && aio::get_running_loop().time() - start == 100ms;
}

aio::coro<> last_worker(aio::queue<job>& jobs, int& done) {
    try {
        co_await worker(jobs, done);
    } catch (const aio::queue_shut_down&) {
        // the queue is shut down, and empty
    }
}

aio::coro<> run_until_stopped(aio::queue<job>& jobs, int workers, int& done) {
    std::exception_ptr stopped;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        for (int n = 0; n < workers; ++n) tg.create_task(last_worker(jobs, done));
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) { stopped = std::current_exception(); }
        jobs.shutdown();  // no more jobs come in; those that are there are done
    });
    if (stopped) std::rethrow_exception(stopped);
}

}  // namespace

AIO_TEST("the tutorial's echo answers, and drops an idle client") {
    EXPECT_EQ(co_await conversation(), "hello\n");
    EXPECT_TRUE(co_await idle_client_is_dropped());
}

AIO_TEST("the tutorial's good-bye drops what the client still sends, and waits for its end") {
    auto [client, server] = aio::testing::stream_pair();
    auto leaving = aio::create_task(say_good_bye(server));
    co_await client.write("one more thing\n");
    EXPECT_EQ(co_await client.read(), "good-bye\n");
    EXPECT_FALSE(leaving.done());
    co_await client.aclose();
    co_await leaving;
    auto [silent, other] = aio::testing::stream_pair();
    EXPECT_THROW(co_await say_good_bye(other), aio::timeout_error);
}

AIO_TEST("the tutorial's chat passes on what is said, and says who has left") {
    chat_program::room r;
    auto [ann, ann_server] = aio::testing::stream_pair();
    auto [bob, bob_server] = aio::testing::stream_pair();
    auto first = aio::create_task(r.welcome(std::move(ann_server)));
    co_await ann.write("Ann\n");
    EXPECT_EQ(co_await ann.read_line(), "your name? *: Ann is here\n");
    auto second = aio::create_task(r.welcome(std::move(bob_server)));
    co_await bob.write("Bob\ngood morning\n");
    EXPECT_EQ(co_await ann.read_line(), "*: Bob is here\n");
    EXPECT_EQ(co_await ann.read_line(), "Bob: good morning\n");
    second.cancel();
    EXPECT_EQ(co_await ann.read_line(), "*: Bob has left\n");
    r.close();
    EXPECT_EQ(co_await ann.read_line(), "*: the room is closed\n");
    co_await first;
}

AIO_TEST("the tutorial's chat drops nobody when a client says much at once") {
    chat_program::room r;
    auto [ann, ann_server] = aio::testing::stream_pair();
    auto [bob, bob_server] = aio::testing::stream_pair();
    auto first = aio::create_task(r.welcome(std::move(ann_server)));
    co_await ann.write("Ann\n");
    EXPECT_EQ(co_await ann.read_line(), "your name? *: Ann is here\n");
    auto second = aio::create_task(r.welcome(std::move(bob_server)));
    std::string much = "Bob\n";
    for (int i = 0; i < 500; ++i) much += "x\n";
    co_await bob.write(much);
    EXPECT_EQ(co_await ann.read_line(), "*: Bob is here\n");
    for (int i = 0; i < 500; ++i) EXPECT_EQ(co_await ann.read_line(), "Bob: x\n") << i;
    r.close();
    EXPECT_EQ(co_await ann.read_line(), "*: the room is closed\n");
    co_await first;
    co_await second;
}

AIO_TEST("the tutorial's workers share the work") { EXPECT_TRUE(co_await ten_workers_take_a_tenth_of_the_time()); }

AIO_TEST("the tutorial's workers finish what is queued when the program is stopped") {
    aio::queue<job> jobs;
    int done = 0;
    for (int id = 0; id < 20; ++id) jobs.put_nowait(job{id});
    auto running = aio::create_task(run_until_stopped(jobs, 2, done));
    co_await aio::sleep(15ms);
    EXPECT_LT(done, 20);
    running.cancel();
    EXPECT_THROW(co_await running, aio::cancelled_error);
    EXPECT_EQ(done, 20);
}

AIO_TEST("the tutorial's service tries a job three times") {
    queue_program::service s;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(s.work());
        queue_program::job j{0, 13};  // fails twice
        co_await s.add(j);
        co_await s.all_done();
        tg.cancel();
    });
    EXPECT_EQ(s.done(), 1);
    EXPECT_EQ(s.given_up(), 0);
}
