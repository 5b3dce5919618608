// A program that is compiled with -fno-rtti. The objects of its classes do not know their types; the library names the
// errors by their types all the same.

#include <aio/aio.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#ifdef __cpp_rtti
#error "this is to be compiled with -fno-rtti"
#endif

namespace shop {

struct refused : std::runtime_error {
    using runtime_error::runtime_error;
};
struct closed {};
struct several : aio::exception_group {
    using exception_group::exception_group;
    const char* what() const noexcept override { return "several orders"; }
};

template<class E>
aio::coro<> fail(E error) {
    co_await aio::sleep(std::chrono::seconds(0));
    throw error;
}

aio::coro<> orders() {
    several inner("inner", {std::make_exception_ptr(closed())});
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        tg.create_task(fail(refused("no tea")));
        tg.create_task(fail(closed()));
        tg.create_task(fail(inner));
    });
}

}  // namespace shop

int main() {
    std::string text;
    try {
        aio::run(shop::orders());
    } catch (const aio::exception_group& group) { text = group.what(); }
    std::puts(text.c_str());
    for (const char* part : {"shop::refused: no tea", "shop::closed", "shop::several: several orders"}) {
        if (text.find(part) == std::string::npos) {
            std::printf("this is missing: %s\n", part);
            return EXIT_FAILURE;
        }
    }
}
