#pragma once
// Declarations of the names that the examples in the headers use and do not declare.

#include <aio/aio.hpp>
#include <aio/http.hpp>
#include <aio/jetstream.hpp>
#include <aio/sql.hpp>
#include <aio/testing.hpp>

#include <array>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace context {

using namespace std::chrono_literals;

struct page {};
struct job {
    explicit job(int) {}
};
struct settings {};
struct user {
    bool active;
};
struct session {
    aio::coro<> commit();
    aio::coro<> rollback();
};
struct pet_shop {
    explicit pet_shop(std::string);
    pet_shop(pet_shop&&) = delete;
    aio::coro<pet_shop&> enter();
    aio::coro<> exit(std::exception_ptr);
};
struct device {};
void device_read(device&, char* into, int size, void (*callback)(void* user_data, int error, int bytes), void*);
void device_cancel(device&);
struct screen {
    int raw_mode();
    void set_mode(int);
};
struct lockable {
    aio::lock& lock();
};
struct writer {
    aio::coro<> write(int);
    template<class... T>
    void operator()(T&&...);
};

struct whatever {  // the body of a request, or of a block
    operator std::string() const;
    template<class T>
    aio::coro<> operator()(T&&) const;
};

template<class... T>
void use(T&&...);
template<class... T>
void print(T&&...);
void report(std::exception_ptr);
aio::coro<> report(std::uint64_t);
extern writer log;
template<class... T>
void consume(T&&...);
template<class... T>
void take(T&&...);

inline int a, b, primary, mirror, account, document, table;
inline std::string name, path, url;
inline std::vector<int> items, ids;
inline std::vector<std::string> urls;
inline std::vector<job> jobs;
extern std::vector<aio::task<page>> tasks;
extern std::vector<aio::coro<page>> coros;
extern screen terminal;
extern lockable resource;
extern aio::http::response r;
extern aio::coro<> cleanup;

aio::coro<page> fetch(int);
aio::coro<std::string> fetch_text(std::string);
aio::coro<int> process(int);
aio::coro<int> count(std::string);
aio::coro<int> answer();
aio::coro<int> async_main();
aio::coro<int> compute();
settings read_settings();
aio::coro<> prepare();
aio::coro<> work();
aio::coro<> load();
aio::coro<> serve();
aio::coro<> serve_client(aio::stream);
int number_from_elsewhere();
aio::coro<> connect();
aio::coro<> download();
aio::coro<> download(std::string);
aio::coro<> refresh_cache();
aio::coro<> send(int);
aio::coro<> notify(int);
aio::coro<> update(int);
aio::coro<> save(int);
aio::coro<> run(job&);
aio::coro<> scenario();
aio::coro<> talk(screen&);
aio::coro<session> create_session();
aio::coro<> show(page);
void check_that_nothing_is_lost();
std::string slurp(std::string);
int count_words(std::string);
int add_up(std::vector<int>);
std::pair<int, user> id_and_user(user);
aio::async_generator<user> fetch_users(std::vector<int>);

}  // namespace context

// Names that an example may capture or declare itself, and which are therefore parameters of its coroutine.
#define CONTEXT_NAMES                                                                                    \
    writer log, int id, whatever body, aio::future<> stop, aio::event_loop &loop, aio::http::session &s, \
        aio::async_generator<std::string> lines, aio::jetstream::connection &js,                         \
        aio::detail::entered_t<decltype(aio::sql::connect(""))> db
