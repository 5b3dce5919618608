// Locks, semaphores, events.
//
//     class Totals:                                  class RateLimiter:
//         def __init__(self):                            def __init__(self, most):
//             self._lock = asyncio.Lock()                    self._semaphore = asyncio.Semaphore(most)
//         async def add(self, key, n):                   async def get(self, url):
//             async with self._lock:                         async with self._semaphore:
//                 now = self.data.get(key, 0)                    return await session.get(url)
//                 await asyncio.sleep(0)
//                 self.data[key] = now + n               class Worker:
//                                                            ready = asyncio.Event(); shutdown = asyncio.Event()

#include "tour.hpp"

#include <algorithm>
#include <map>

namespace tour {
namespace {

class totals {
public:
    aio::coro<> add(std::string key, std::int64_t n) {
        auto guard = co_await lock_.scoped();
        const std::int64_t now = data_[key];
        co_await aio::sleep(0s);  // other tasks run here, but none of them inside the lock
        data_[key] = now + n;
    }
    const std::map<std::string, std::int64_t>& data() const { return data_; }

private:
    aio::lock lock_;
    std::map<std::string, std::int64_t> data_;
};

class rate_limiter {
public:
    rate_limiter(aio::http::session& session, int most) : session_(session), semaphore_(most) {}
    aio::coro<std::vector<package>> get(std::string url) {
        auto permit = co_await semaphore_.scoped();
        most_ = std::max(most_, ++running_);
        aio::http::response response = co_await session_.get(std::move(url), {.timeout = 10s});
        --running_;
        response.raise_for_status();
        co_return packages_from_json(response.json());
    }
    int most() const { return most_; }

private:
    aio::http::session& session_;
    aio::semaphore semaphore_;
    int running_ = 0;
    int most_ = 0;
};

class worker {
public:
    explicit worker(aio::http::session_options web) : session_(web) {}
    aio::coro<> run(std::string base) {
        const std::string health = base + "/health";
        aio::http::response response = co_await session_.get(health, {.timeout = 10s});
        response.raise_for_status();
        ready_.set();
        co_await shutdown_.wait();
        co_await session_.aclose();
    }
    aio::coro<> wait_ready() { co_await ready_.wait(); }
    void stop() { shutdown_.set(); }

private:
    aio::http::session session_;
    aio::event ready_, shutdown_;
};

}  // namespace

aio::coro<> synchronisation(state& t) {
    const std::string base = co_await t.served();
    worker w(t.web());
    aio::task<> running = aio::create_task(w.run(base), {.name = "worker"});
    co_await w.wait_ready();
    t.out.line("the worker is ready: the server answers");

    totals kb_by_section;
    tally seen;
    aio::http::session session(t.web());
    rate_limiter limited(session, 4);
    const std::size_t pages = (t.read.count + page_size - 1) / page_size;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        for (std::size_t number = 1; number <= pages; ++number) {
            tg.create_task([&, number]() -> aio::coro<> {
                const std::string url =
                    base + "/packages?size=" + std::to_string(page_size) + "&page=" + std::to_string(number);
                const std::vector<package> page = co_await limited.get(url);
                for (const package& p : page) {
                    seen.add(p);
                    co_await kb_by_section.add(p.section, p.installed_kb);
                }
            });
        }
    });
    co_await session.aclose();
    w.stop();
    co_await running;

    must_agree("packages fetched under a rate limit", t.read, seen);
    if (limited.most() > 4) throw std::runtime_error("the rate limiter let " + std::to_string(limited.most()) + " in");
    std::int64_t sum = 0;
    for (const auto& [section, kb] : kb_by_section.data()) sum += kb;
    t.out.line(std::to_string(pages) + " pages fetched by as many tasks, at most " + std::to_string(limited.most()) +
        " at once");
    t.out.line(std::to_string(sum / 1024) + " MB installed in " + std::to_string(kb_by_section.data().size()) +
        " sections, added up under a lock");
    t.out.number("most_at_once", limited.most());
}

}  // namespace tour
