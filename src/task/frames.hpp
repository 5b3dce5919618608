#pragma once
// What users are shown of a coroutine: their own functions, by the names that a person writes. Call graphs, traces
// and reports ask here.

#include <aio/detail/task/call_frame.hpp>
#include <aio/detail/task/promise.hpp>

#include <source_location>
#include <string>
#include <string_view>
#include <unordered_map>

namespace aio::inline v0::detail {

/// The readable name of a function, made of the name that std::source_location gives. For the body of a coroutine g++
/// 12 to 15 give the name of the function that they have made of it: "void ns::f(f(int)::_ZN2ns1fEi.Frame*)" becomes
/// "ns::f(int)".
std::string readable_function(std::string_view name);

/// True for a function of namespace aio: coroutines of the library are not shown to users.
bool is_of_the_library(std::string_view name) noexcept;
inline bool is_of_the_library(const std::source_location& place) noexcept {
    return is_of_the_library(std::string_view(place.function_name()));
}

/// The innermost coroutine that is the user's own, among this one and those that await it. This one, if none is.
const promise_base& innermost_shown(const promise_base& innermost) noexcept;

/// Makes the frames that are shown. Remembers the readable names, so that each is made once.
class frame_reader {
public:
    call_frame operator()(const std::source_location& place);

private:
    std::unordered_map<const char*, const char*> names_;
};

}  // namespace aio::inline v0::detail
