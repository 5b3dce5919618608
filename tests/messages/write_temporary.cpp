// clean
#include <aio/file.hpp>
#include <aio/stream.hpp>

void start(aio::stream& s, aio::file& f, const std::string& name) {
    aio::create_task(s.write("a" + name));
    aio::create_task(f.write("a" + name));
}
