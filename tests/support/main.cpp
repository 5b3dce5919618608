#include "aio_test.hpp"

#include <csignal>
#include <cstring>

namespace aio_test {
namespace {

template<class Body>
class registered_test : public testing::Test {
public:
    explicit registered_test(Body body) : body_(body) {}
    void TestBody() override { body_(); }

private:
    Body body_;
};

template<class Body>
bool add_test(const char* file, int line, const char* sentence, Body body) {
    std::string suite = std::strrchr(file, '/') ? std::strrchr(file, '/') + 1 : file;
    suite.resize(suite.rfind("_test.cpp") == std::string::npos ? suite.size() : suite.rfind("_test.cpp"));
    testing::RegisterTest(suite.c_str(), sentence, nullptr, nullptr, file, line,
        [body]() -> testing::Test* { return new registered_test<Body>(body); });
    return true;
}

}  // namespace

bool add(const char* file, int line, const char* sentence, aio::coro<> (*body)(), time_of time) {
    return add_test(file, line, sentence, [body, time] {
        try {
            aio::testing::run(body(), {.virtual_time = time == time_of::virtual_clock});
        } catch (const aio::cancelled_error& e) {
            ADD_FAILURE() << "the test's coroutine ended with cancelled_error " << e.message();
        }
    });
}

bool add(const char* file, int line, const char* sentence, void (*body)()) {
    return add_test(file, line, sentence, body);
}

}  // namespace aio_test

// The last reference to an exception that two threads have seen destroys it. libstdc++ counts these references
// atomically, but ThreadSanitizer does not see that, because libstdc++ is not built with it.
extern "C" const char* __tsan_default_suppressions() {
    return "race:std::__exception_ptr::exception_ptr::_M_release\n"
           "race:std::runtime_error::~runtime_error\n"
           "race:std::logic_error::~logic_error\n";
}

int main(int argc, char** argv) {
    // A shell starts programs in the background with SIGINT ignored, and run() does not touch a signal that is ignored.
    std::signal(SIGINT, SIG_DFL);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
