// thread_pool_executor, and the await of a job that can be given up (to_thread with abandon_on_cancel). The threads
// are those of a blocking_pool, in blocking.cpp.

#include <aio/executor.hpp>

#include <cstdio>
#include <stdexcept>

namespace aio::inline v0 {
namespace detail {

void throw_moved_from_executor() { throw_logic_error("this thread_pool_executor has been moved from"); }

abandonable_base::abandonable_base(blocking_pool& pool, job_base& job) noexcept : pool_(&pool), job_(&job) {
    job.deliver = [](mailbox_node& node) noexcept {
        auto& self = static_cast<job_base&>(node);
        if (!self.waiting) return self.destroy(self);  // it was given up when it was done already
        --self.waiting->task_->loop()->outstanding;
        self.waiting->wake();
    };
    job.orphaned = [](blocking_job& orphan) noexcept {
        auto& self = static_cast<job_base&>(orphan);
        self.destroy(self);
    };
}

bool abandonable_base::start() noexcept {
    job_->waiting = this;
    error_ = pool_->submit_for(*task_, *job_);
    return error_ != nullptr;
}

void abandonable_base::unpark() noexcept {
    --task_->loop()->outstanding;
    job_base& job = *std::exchange(job_, nullptr);
    job.waiting = nullptr;
    job.request_stop(job);  // before give_up(): after that the job may be gone
    if (pool_->give_up(job) == blocking_pool::given_up::withdrawn) job.destroy(job);
}

void abandonable_base::finish() {
    if (error_) std::rethrow_exception(error_);
}

}  // namespace detail

thread_pool_executor::thread_pool_executor(std::size_t threads) {
    if (threads == 0) throw std::invalid_argument("thread_pool_executor: there must be at least one thread");
    pool_ = std::make_unique<detail::blocking_pool>(threads, "aio-executor");
}

thread_pool_executor::~thread_pool_executor() {
    if (!pool_ || pool_->unfinished() == 0) return;
    const std::string jobs = pool_->describe_unfinished();
    std::fprintf(stderr, "aiocxx: a thread_pool_executor is destroyed with jobs left: %s; co_await shutdown() before\n",
        jobs.c_str());
    std::terminate();
}

std::size_t thread_pool_executor::default_threads() noexcept { return detail::default_pool_threads(); }

}  // namespace aio::inline v0
