// What a user writes with <aio/lowlevel.hpp> alone: an operation, primitives, a library with callbacks. The page
// docs/internals/own_operation.md shows this code.
#include <aio/lowlevel.hpp>

#include "brute_force.hpp"

#include <list>
#include <thread>

#include <sys/timerfd.h>
#include <unistd.h>

using aio_test::counted;
using aio_test::turns;

namespace {

class door {
public:
    class pass : public aio::lowlevel::revertible<pass> {
    public:
        explicit pass(door& d) : door_(&d) {}
        bool start() noexcept {
            if (door_->open_) return true;  // takes effect now
            door_->waiting_ = this;         // or somebody will call wake()
            return false;
        }
        void unpark() noexcept { door_->waiting_ = nullptr; }  // cancelled while it is registered
        void revert() noexcept {}                              // woken and cancelled: an open door stays open
        void finish() {}                                       // what co_await gives
        void describe(std::string& out) const override { out += "a door that is closed"; }

    private:
        door* door_;
    };

    pass wait() { return pass(*this); }
    void open() {
        open_ = true;
        if (waiting_) std::exchange(waiting_, nullptr)->wake();
    }

private:
    bool open_ = false;
    pass* waiting_ = nullptr;  // one task may wait
};

class latch {
public:
    explicit latch(int count) : count_(count) {}

    class wait_operation : public aio::lowlevel::queued<wait_operation> {
    public:
        explicit wait_operation(latch& l) : queued(l.waiting_), latch_(&l) {}
        bool start() noexcept { return latch_->count_ == 0 || park(); }
        void finish() {}
        void describe(std::string& out) const override { out += "a latch"; }

    private:
        latch* latch_;
    };

    wait_operation wait() { return wait_operation(*this); }
    void count_down() {
        waiting_.check_thread("latch::count_down");  // in debug mode
        if (count_ > 0 && --count_ == 0) waiting_.wake_all();
    }

private:
    int count_;
    aio::lowlevel::wait_queue<wait_operation> waiting_{"latch"};
};

template<class T>
class mailbox {
public:
    class get_operation : public aio::lowlevel::queued<get_operation> {
    public:
        explicit get_operation(mailbox& box) : aio::lowlevel::queued<get_operation>(box.waiting_), box_(&box) {}
        bool start() noexcept {
            if (box_->items_.empty()) return this->park();
            item_.splice(item_.begin(), box_->items_, box_->items_.begin());
            return true;
        }
        void give_to_next() noexcept { box_->deliver(item_, box_->items_.begin()); }
        T finish() {
            std::list<T> item = std::move(item_);
            return std::move(item.front());
        }
        void describe(std::string& out) const override { out += "a mailbox"; }

    private:
        friend mailbox;
        mailbox* box_;
        std::list<T> item_;  // what it was woken with
    };

    get_operation get() { return get_operation(*this); }
    void put(T item) {
        std::list<T> one;
        one.push_back(std::move(item));
        deliver(one, items_.end());
    }
    std::size_t size() const { return items_.size(); }

private:
    void deliver(std::list<T>& one, typename std::list<T>::iterator where) noexcept {
        if (get_operation* first = waiting_.front()) {
            first->item_.splice(first->item_.begin(), one);
            waiting_.wake(*first);
        } else {
            items_.splice(where, one);
        }
    }
    std::list<T> items_;
    aio::lowlevel::wait_queue<get_operation> waiting_{"mailbox"};
};

// A library with callbacks, as C has them.

struct device {
    std::thread worker;
    std::atomic<bool> cancelled = false, slow = false, answered = false;
};
using device_callback = void (*)(void* user_data, int error, int bytes);

void device_read(device& d, char* into, int size, device_callback callback, void* user_data) {
    d.worker = std::thread([&d, into, size, callback, user_data] {
        for (int i = 0; i < size; ++i) {
            while (d.slow && !d.cancelled) std::this_thread::yield();
            if (d.cancelled) {
                d.answered = true;
                return callback(user_data, ECANCELED, 0);
            }
            into[i] = static_cast<char>('a' + i);
        }
        callback(user_data, 0, size);
    });
}
void device_cancel(device& d) { d.cancelled = true; }

void on_read(void* user_data, int error, int bytes) {  // on a thread of the library's
    auto done = aio::lowlevel::completion_handle<int>::adopt(user_data);
    if (error == ECANCELED) {
        done.fail(aio::cancelled_error());
    } else if (error) {
        done.fail(std::system_error(error, std::generic_category()));
    } else {
        done.complete(bytes);
    }
}

aio::coro<int> read(device& d, char* into, int size) {
    aio::lowlevel::completion<int> done("a read of the device");
    done.on_cancel([&] { device_cancel(d); });
    device_read(d, into, size, &on_read, done.handle().release());
    co_return co_await done;
}

// A descriptor of one's own.

class ticker {
public:
    explicit ticker(std::chrono::nanoseconds period) : fd_(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)) {
        itimerspec spec{};
        spec.it_interval.tv_sec = spec.it_value.tv_sec = period.count() / 1'000'000'000;
        spec.it_interval.tv_nsec = spec.it_value.tv_nsec = period.count() % 1'000'000'000;
        ::timerfd_settime(fd_, 0, &spec, nullptr);
    }
    ticker(const ticker&) = delete;
    ~ticker() {
        aio::lowlevel::notify_closing(fd_);
        ::close(fd_);
    }
    aio::coro<std::uint64_t> next() {
        std::uint64_t ticks = 0;
        while (::read(fd_, &ticks, sizeof ticks) < 0) {
            if (errno != EAGAIN) throw std::system_error(errno, std::generic_category(), "read of a timerfd");
            co_await aio::lowlevel::wait_readable(fd_);
        }
        co_return ticks;
    }

private:
    int fd_;
};

}  // namespace

AIO_TEST("own operation: it completes at once, or when it is woken, and not before") {
    door d;
    int passed = 0;
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        co_await d.wait();
        ++passed;
    });
    co_await turns(3);
    EXPECT_EQ(passed, 0);
    d.open();
    EXPECT_EQ(passed, 0);  // never inside open()
    co_await t;
    co_await d.wait();
    EXPECT_EQ(passed, 1);
}

AIO_TEST("own operation: a cancel ends the wait, and the door knows of no task any more") {
    door d;
    aio::task<> t = aio::create_task(d.wait());
    co_await turns();
    EXPECT_TRUE(t.cancel());
    co_await turns(2);
    EXPECT_TRUE(t.cancelled());
    d.open();
    co_await d.wait();
}

PLAIN_TEST("own operation: a deadlock names what the task waits for") {
    try {
        aio::run([]() -> aio::coro<> {
            door d;
            co_await d.wait();
        }());
        FAIL() << "no deadlock";
    } catch (const aio::deadlock_error& e) {
        EXPECT_NE(std::string(e.what()).find("a door that is closed"), std::string::npos) << e.what();
    }
}

AIO_TEST("own operation: a latch lets all go on, in the order in which they came") {
    latch l(2);
    aio_test::journal log;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 3; ++i) {
        tasks.push_back(aio::create_task([&, i]() -> aio::coro<> {
            co_await l.wait();
            log(std::to_string(i));
        }));
    }
    co_await turns(2);
    l.count_down();
    co_await turns(2);
    EXPECT_EQ(log.text(), "");
    l.count_down();
    for (auto& t : tasks) co_await t;
    co_await l.wait();
    EXPECT_EQ(log.text(), "0 1 2");
}

PLAIN_TEST("own operation: debug mode tells of a primitive that is used on another thread") {
    std::string what;
    aio::run(
        [](std::string& out) -> aio::coro<> {
            latch l(1);
            aio::task<> t = aio::create_task(l.wait());
            co_await aio::sleep(0s);
            std::thread([&] {
                try {
                    l.count_down();
                } catch (const std::logic_error& e) { out = e.what(); }
            }).join();
            l.count_down();
            co_await t;
        }(what),
        {.debug = true});
    EXPECT_NE(what.find("latch::count_down is called on another thread"), std::string::npos) << what;
}

AIO_TEST("own operation: what waits on a primitive that is destroyed gets a cancelled_error that names it") {
    std::optional<latch> l(std::in_place, 1);
    std::string message;
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        try {
            co_await l->wait();
        } catch (const aio::cancelled_error& e) { message = e.message(); }
    });
    co_await turns(2);
    l.reset();
    co_await t;
    EXPECT_EQ(message, "latch was destroyed while this task waited on it");
}

AIO_TEST("own operation: a waiter that was woken before the primitive was destroyed has what it waited for") {
    std::optional<mailbox<counted>> box(std::in_place);
    aio::task<counted> t = aio::create_task(box->get());
    aio::task<counted> second = aio::create_task(box->get());
    co_await turns(2);
    box->put(counted(7));
    box.reset();
    const counted got = co_await std::move(t);
    EXPECT_EQ(got.value, 7);
    try {
        co_await std::move(second);
        ADD_FAILURE() << "the second waiter was not cancelled";
    } catch (const aio::cancelled_error&) {}
}

AIO_TEST(
    "own operation: a waiter that was woken, and cancelled after the primitive was destroyed, touches it no more") {
    std::optional<mailbox<counted>> box(std::in_place);
    aio::task<counted> t = aio::create_task(box->get());
    co_await turns(2);
    box->put(counted(7));
    box.reset();
    t.cancel();
    co_await aio::gather(aio::return_exceptions, t);
    EXPECT_TRUE(t.cancelled());
    t = {};
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("own operation: what a cancelled waiter was woken with goes to the next, before what came later") {
    mailbox<int> box;
    aio::task<int> first = aio::create_task(box.get());
    aio::task<int> second = aio::create_task(box.get());
    aio::task<int> third = aio::create_task(box.get());
    co_await turns(2);
    box.put(1);
    box.put(2);
    first.cancel();
    EXPECT_EQ(co_await second, 2);
    EXPECT_EQ(co_await third, 1);
    EXPECT_TRUE(first.cancelled());

    aio::task<int> alone = aio::create_task(box.get());
    co_await turns(2);
    box.put(3);
    box.put(4);
    alone.cancel();
    co_await turns(2);
    EXPECT_EQ(co_await box.get(), 3);
    EXPECT_EQ(co_await box.get(), 4);
}

PLAIN_TEST("own operation: a primitive that was waited on belongs to that loop") {
    latch l(1);
    aio::run([](latch& shared) -> aio::coro<> {
        aio::task<> t = aio::create_task(shared.wait());
        co_await aio::sleep(0s);
        t.cancel();
        co_await aio::gather(aio::return_exceptions, t);
    }(l));
    bool refused = false;
    aio::run([](latch& shared, bool& threw) -> aio::coro<> {
        try {
            co_await shared.wait();
        } catch (const std::logic_error& e) {
            threw = true;
            EXPECT_EQ(std::string(e.what()), "this latch belongs to another event loop: it was waited on there");
        }
    }(l, refused));
    EXPECT_TRUE(refused);
}

AIO_TEST(
    "own operation: one that begins after the budget of its step is in line, and hears of the end of its primitive") {
    std::optional<mailbox<int>> box(std::in_place);
    std::string how;
    aio::task<> t = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0; i < 300; ++i) box->put(i);
        try {
            for (int i = 0; i < 300; ++i) {
                const int item = co_await box->get();
                EXPECT_EQ(item, i);
            }
        } catch (const aio::cancelled_error& e) { how = e.message(); }
    });
    co_await turns();
    box.reset();
    co_await t;
    EXPECT_EQ(how, "mailbox was destroyed while this task waited on it");
}

PLAIN_TEST("own operation: a latch and a mailbox withstand cancels, ends and failing allocations at every step") {
    aio_test::withstands_as_a_whole([]() -> aio::coro<> {
        mailbox<counted> box;
        latch all_got(2);
        auto getter = [&]() -> aio::coro<> {
            for (int i = 0; i < 2; ++i) {
                const counted item = co_await box.get();
                co_await aio::sleep(0s);
            }
            all_got.count_down();
        };
        co_await aio::with(aio::task_group(), [&](aio::task_group& group) -> aio::coro<> {
            group.create_task(getter);
            group.create_task(getter);
            for (int i = 0; i < 4; ++i) {
                box.put(counted(i));
                co_await aio::sleep(0s);
            }
            co_await all_got.wait();
        });
        EXPECT_EQ(box.size(), 0u);
    });
}

PLAIN_TEST("own operation: no item is lost, whichever getter is cancelled") {
    aio_test::withstands([]() -> aio::coro<> {
        mailbox<counted> box;
        int got = 0;
        auto getter = [&]() -> aio::coro<> {
            const counted item = co_await box.get();
            ++got;
        };
        co_await aio::with(aio::task_group(), [&](aio::task_group& group) -> aio::coro<> {
            group.create_task(getter);
            group.create_task(getter);
            co_await aio::sleep(0s);
            box.put(counted(1));
            box.put(counted(2));
        });
        EXPECT_EQ(got + static_cast<int>(box.size()), 2);
    });
}

AIO_REAL_TEST("own operation: a library with callbacks gives its result, on the loop's thread") {
    device d;
    std::string text(8, ' ');
    const int n = co_await read(d, text.data(), 8);
    d.worker.join();
    EXPECT_EQ(n, 8);
    EXPECT_EQ(text, "abcdefgh");
}

AIO_REAL_TEST("own operation: a library with callbacks is told of a cancel, and waited for") {
    device d;
    d.slow = true;
    std::string text(8, ' ');
    bool timed_out = false;
    try {
        co_await aio::wait_for(read(d, text.data(), 8), 1ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    EXPECT_TRUE(d.answered);
    d.worker.join();
}

AIO_REAL_TEST("own operation: a timer of the kernel ticks") {
    ticker t(1ms);
    std::uint64_t ticks = 0;
    while (ticks < 3) ticks += co_await t.next();
    EXPECT_GE(ticks, 3u);
}

AIO_REAL_TEST("own operation: a timer that is destroyed ends the wait with EBADF") {
    std::optional<ticker> t(std::in_place, 100s);
    aio::task<std::uint64_t> waiting = aio::create_task(t->next());
    co_await turns(3);
    t.reset();
    try {
        co_await waiting;
        ADD_FAILURE() << "the wait goes on";
    } catch (const std::system_error& e) { EXPECT_EQ(e.code().value(), EBADF); }
}
