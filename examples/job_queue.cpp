// A job queue in memory: jobs with priorities, workers, retries with growing pauses, a limit of time, and a health
// check.
//
//     job_queue [JOBS [WORKERS]]
//
// It needs aio::core. On SIGTERM or Ctrl-C the jobs that run are cancelled, and unwind.

#include <aio/aio.hpp>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;

namespace {

struct job {
    int priority = 0;  // the smallest comes first
    int id = 0;
    int attempts = 0;
};
bool operator<(const job& a, const job& b) { return a.priority < b.priority; }

aio::coro<> process(const job& j) {  // stands for the real work
    co_await aio::sleep(std::chrono::milliseconds(1 + j.id % 5));
    if (j.id % 10 == 3 && j.attempts < 2) throw std::runtime_error("job " + std::to_string(j.id) + " has failed");
}

class service {
public:
    aio::coro<> add(job j) { co_await jobs_.put(j); }
    aio::coro<> all_done() { co_await jobs_.join(); }
    int done() const { return done_; }
    int given_up() const { return given_up_; }

    aio::coro<> work() {
        for (;;) {
            job j = co_await jobs_.get();
            busy_ += 1;
            auto ended = aio::finally([this] {
                busy_ -= 1;
                jobs_.task_done();
            });
            co_await attempt(j);
        }
    }
    aio::coro<> report_health(aio::delay period) {
        auto ticks = aio::interval(period);
        while (co_await ticks.next()) {
            std::printf("health: %zu waiting, %d busy, %d done\n", jobs_.size(), busy_, done_);
        }
    }

private:
    aio::coro<> attempt(job j) {
        for (;;) {
            bool failed = false;
            try {
                co_await aio::wait_for(process(j), 1s);  // (1)
            } catch (const std::exception& e) {          // (2)
                failed = true;
                if (++j.attempts == 3) std::printf("given up: %s\n", e.what());
            }
            if (!failed) {
                ++done_;
                co_return;
            }
            if (j.attempts == 3) {
                ++given_up_;
                co_return;
            }
            co_await aio::sleep(10ms * (1 << j.attempts));
        }
    }
    aio::priority_queue<job> jobs_{100};  // (3)
    int busy_ = 0, done_ = 0, given_up_ = 0;
};

aio::coro<> async_main(int jobs, int workers) {
    service s;
    aio::background_tasks helpers;  // (4)
    helpers.create_task([&] { return s.report_health(50ms); });
    co_await aio::with(helpers, [&]() -> aio::coro<> {
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            for (int n = 0; n < workers; ++n) tg.create_task(s.work());
            for (int id = 0; id < jobs; ++id) {
                job j{id % 3, id};
                co_await s.add(j);
            }
            co_await s.all_done();
            tg.cancel();  // (5)
        });
    });
    std::printf("%d jobs done, %d given up\n", s.done(), s.given_up());
}

}  // namespace

int main(int argc, char** argv) {
    const int jobs = argc > 1 ? std::atoi(argv[1]) : 200;
    const int workers = argc > 2 ? std::atoi(argv[2]) : 8;
    return aio::run_main(async_main(jobs, workers));
}

// (1) A job that hangs is cancelled after a second; what it held is released, because its coroutine unwinds.
// (2) A cancel is no std::exception, so this does not swallow the end of the program.
// (3) The producer waits while 100 jobs are in the queue: memory stays flat, however many jobs come.
// (4) Runs beside the service, and is cancelled and awaited at the end of the block.
// (5) The workers wait for jobs that will not come. tg.cancel() ends them; it is no error.
