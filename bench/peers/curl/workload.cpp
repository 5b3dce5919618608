// W13 of bench/io_workload.cpp with nothing but libcurl: its multi interface, an epoll, and 100 easy handles that are
// used again and again. It shows what a session adds to the library under it. It takes the status and the body of an
// answer, and none of its headers.
//
// Usage: curl_workload W13 OPERATIONS ADDRESS

#include <curl/curl.h>

#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

void require(bool done) {
    if (!done) {
        std::fputs("the workload has not done its work\n", stderr);
        std::abort();
    }
}

double cpu_seconds() {
    timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct client {
    CURL* easy = nullptr;
    std::string body;
    std::size_t left = 0;
};

class clients {
public:
    explicit clients(std::string url) : url_(std::move(url)), all_(100) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
        multi_ = curl_multi_init();
        curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &on_socket);
        curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
        curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &on_timer);
        curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
        curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, 100L);
        for (client& c : all_) {
            c.easy = curl_easy_init();
            curl_easy_setopt(c.easy, CURLOPT_PRIVATE, &c);
            curl_easy_setopt(c.easy, CURLOPT_NOSIGNAL, 1L);
            curl_easy_setopt(c.easy, CURLOPT_WRITEFUNCTION, &on_body);
            curl_easy_setopt(c.easy, CURLOPT_WRITEDATA, &c.body);
        }
    }
    ~clients() {
        for (client& c : all_) curl_easy_cleanup(c.easy);
        curl_multi_cleanup(multi_);
        ::close(epoll_);
    }
    clients(const clients&) = delete;
    clients& operator=(const clients&) = delete;

    void get_all(std::size_t operations) {
        bytes_ = 0;
        for (client& c : all_) {
            c.left = operations / all_.size();
            begin(c);
        }
        while (running_ > 0) wait();
        require(bytes_ == operations * 1024);
    }

private:
    void begin(client& c) {
        if (c.left == 0) return;
        --c.left;
        ++running_;
        c.body.clear();
        curl_easy_setopt(c.easy, CURLOPT_URL, url_.c_str());
        require(curl_multi_add_handle(multi_, c.easy) == CURLM_OK);
    }

    void wait() {
        epoll_event events[256];
        const int n = ::epoll_wait(epoll_, events, 256, static_cast<int>(timeout_));
        int still_running = 0;
        for (int i = 0; i < n; ++i) {
            const int what = (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0) |
                (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0);
            curl_multi_socket_action(multi_, events[i].data.fd, what, &still_running);
        }
        if (n == 0 || timeout_ == 0) curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &still_running);
        int more = 0;
        while (CURLMsg* message = curl_multi_info_read(multi_, &more)) {
            CURL* const easy = message->easy_handle;
            require(message->data.result == CURLE_OK);
            client* c = nullptr;
            long status = 0;
            curl_easy_getinfo(easy, CURLINFO_PRIVATE, &c);
            curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
            require(status == 200);
            bytes_ += c->body.size();
            curl_multi_remove_handle(multi_, easy);
            --running_;
            begin(*c);
        }
    }

    static std::size_t on_body(char* data, std::size_t, std::size_t size, void* body) {
        static_cast<std::string*>(body)->append(data, size);
        return size;
    }
    static int on_socket(CURL*, curl_socket_t fd, int what, void* self, void* known) {
        clients& c = *static_cast<clients*>(self);
        if (what == CURL_POLL_REMOVE) {
            ::epoll_ctl(c.epoll_, EPOLL_CTL_DEL, fd, nullptr);
            curl_multi_assign(c.multi_, fd, nullptr);
            return 0;
        }
        epoll_event event{};
        event.events =
            (what & CURL_POLL_IN ? unsigned(EPOLLIN) : 0u) | (what & CURL_POLL_OUT ? unsigned(EPOLLOUT) : 0u);
        event.data.fd = fd;
        ::epoll_ctl(c.epoll_, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
        curl_multi_assign(c.multi_, fd, self);
        return 0;
    }
    static int on_timer(CURLM*, long milliseconds, void* self) {
        static_cast<clients*>(self)->timeout_ = milliseconds;
        return 0;
    }

    std::string url_;
    std::vector<client> all_;
    CURLM* multi_ = nullptr;
    int epoll_ = -1;
    long timeout_ = -1;
    std::size_t running_ = 0;
    std::size_t bytes_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4 || argv[1] != std::string_view("W13"))
        return std::fputs("usage: curl_workload W13 OPERATIONS ADDRESS\n", stderr), 2;
    const std::size_t operations = std::strtoull(argv[2], nullptr, 10) / 100 * 100;
    require(operations > 0);
    clients all(argv[3]);
    all.get_all(100);  // makes the connections

    const double cpu_start = cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    all.get_all(operations);
    const double cpu = cpu_seconds() - cpu_start;
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("{\"workload\": \"W13\", \"operations\": %zu, \"seconds\": %.9f, \"cpu_seconds\": %.9f}\n", operations,
        wall, cpu);
}
