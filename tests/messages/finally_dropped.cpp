// warning: keep it in a variable: its function is called when that goes out of scope
#include <aio/finally.hpp>

void work() {
    aio::finally([] {});
}
