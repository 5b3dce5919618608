#pragma once
// What users are shown of a coroutine: their own functions, by the names that a person writes.

#include <aio/detail/task/call_frame.hpp>
#include <aio/detail/task/promise.hpp>

#include <source_location>
#include <string>
#include <string_view>
#include <unordered_map>

namespace aio::detail {

/// A function's name, of what std::source_location says. For the body of a coroutine g++ 12 to 15 give the name of the
/// function that they have made of it: "void ns::f(f(int)::_ZN2ns1fEi.Frame*)" becomes "ns::f(int)".
std::string readable_function(std::string_view name);

/// Whether a function is one of namespace aio: a coroutine of the library, which is shown to nobody.
bool is_of_the_library(std::string_view name) noexcept;
inline bool is_of_the_library(const std::source_location& place) noexcept {
    return is_of_the_library(std::string_view(place.function_name()));
}

/// The innermost coroutine of the user's, of this one and those that await it; the innermost of all where there is
/// none.
const promise_base& innermost_shown(const promise_base& innermost) noexcept;

/// Makes frames to be shown; remembers the names, as long as it lives.
class frame_reader {
public:
    call_frame operator()(const std::source_location& place);

private:
    std::unordered_map<const char*, const char*> names_;
};

}  // namespace aio::detail
