// The smallest whole program: two greetings at the same time, and a time limit around both.
//
//     hello [NAME...]
//
// It needs aio::core. In Python it would be asyncio.run(async_main()).

#include <aio/aio.hpp>

#include <cstdio>
#include <string>
#include <vector>

using namespace std::chrono_literals;

namespace {

aio::coro<> greet(std::string name) {
    std::printf("hello ...\n");
    co_await aio::sleep(100ms);  // (1)
    std::printf("... %s\n", name.c_str());
}

aio::coro<> async_main(std::vector<std::string> names) {
    co_await aio::with(aio::timeout(10s), [&]() -> aio::coro<> {  // (2)
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
            for (const std::string& name : names) tg.create_task(greet(name));  // (3)
        });
    });
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string> names(argv + 1, argv + argc);
    if (names.empty()) names = {"world", "everybody"};
    return aio::run_main(async_main(std::move(names)));  // (4)
}

// (1) While this coroutine sleeps, the others run: all greetings take 100 ms together.
// (2) If the body takes longer, it is cancelled, and aio::timeout_error is thrown here.
// (3) The group ends when all of its tasks have ended. So `names` outlives them, and no error is lost.
// (4) run_main makes the loop, handles Ctrl-C and errors, and gives the exit status.
