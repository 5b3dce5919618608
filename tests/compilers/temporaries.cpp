// Temporaries that every compiler handles: strings, classes with a constructor, captures by reference and of integers,
// results as arguments.
#include "probe.hpp"

#include <vector>

class request {
public:
    request(std::string n, int v) : name_(std::move(n)), w_(v) {}
    int value() const { return w_.value + static_cast<int>(name_.size()); }

private:
    std::string name_;
    witness w_;
};
probe_task<int> send(request r) { co_return r.value(); }
probe_task<int> length(std::string s) { co_return static_cast<int>(s.size()); }
template<class F>
probe_task<int> call(F fn) {
    co_return fn();
}
probe_task<int> probe() {
    witness w(1);
    int ok = 1, one = 1;
    if (co_await send(request("four", 2)) != 6) { ok = 0; }
    const int n = co_await length(std::string("a string that is too long for the buffer inside"));
    if (n != 47) ok = 0;
    const int by_reference = co_await call([&] { return w.value; });
    const int of_an_int = co_await call([one] { return one; });
    if (by_reference + of_an_int != 2) ok = 0;
    std::vector<int> v;
    v.push_back(co_await length("x"));
    if (v.back() != 1) ok = 0;
    co_return ok;
}
