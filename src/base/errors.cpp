// Throws that stand out of line, and looks at what a std::exception_ptr holds. The throwing functions are here so
// that inline code of the headers holds only a call; describe() gives reports and exception groups the text of an
// error. Every layer calls these.

#include "base/names.hpp"

#include <aio/delay.hpp>
#include <aio/errors.hpp>
#include <aio/result.hpp>

#include <cxxabi.h>

#include <cstdlib>
#include <typeinfo>

namespace aio::inline v0::detail {

void throw_logic_error(const char* message) { throw std::logic_error(message); }
void throw_logic_error(const std::string& message) { throw std::logic_error(message); }
void throw_system_error(int error, const std::string& operation) {
    throw std::system_error(error, std::generic_category(), operation);
}
void require_no_nul(const std::string& text, const char* what) {
    const std::size_t at = text.find('\0');
    if (at == std::string::npos) return;
    std::string shown = text;
    for (std::size_t i = at; i != std::string::npos; i = shown.find('\0', i)) shown.replace(i, 1, "\\0");
    throw std::invalid_argument(std::string(what) + " \"" + shown + "\" has a NUL at byte " + std::to_string(at) +
        ", where the system would end it");
}
void throw_nan_delay() { throw std::invalid_argument("a delay must be a number (NaN was given)"); }
void throw_empty_function(const char* where) {
    throw std::invalid_argument(std::string(where) + " was given an empty function");
}
void throw_empty_result() { throw invalid_state_error("this result is empty"); }

namespace {
template<class E>
bool holds(const std::exception_ptr& error) noexcept {
    if (!error) return false;
#ifdef __GLIBCXX__
    return *error.__cxa_exception_type() == typeid(E);  // E is final
#else
    try {
        std::rethrow_exception(error);
    } catch (const E&) { return true; } catch (...) {
        return false;
    }
#endif
}
}  // namespace

bool is_cancelled(const std::exception_ptr& error) noexcept { return holds<cancelled_error>(error); }
bool is_keyboard_interrupt(const std::exception_ptr& error) noexcept { return holds<keyboard_interrupt>(error); }
bool is_generator_exit(const std::exception_ptr& error) noexcept { return holds<generator_exit>(error); }

namespace {
// The type of the exception that is being handled. typeid(e) would not do: an object of a class that was compiled with
// -fno-rtti does not know its type, but whoever throws it says the type.
std::string thrown_type() {
    const std::type_info* const type = abi::__cxa_current_exception_type();
    if (!type) return "an unknown exception";
    int status = 0;
    struct freed {
        char* name;
        ~freed() { std::free(name); }
    } const demangled{abi::__cxa_demangle(type->name(), nullptr, nullptr, &status)};
    return as_written(demangled.name ? demangled.name : type->name());
}
}  // namespace

std::string describe(const std::exception_ptr& error) noexcept {
    try {
        if (!error) return "no error";
        try {
            std::rethrow_exception(error);
        } catch (const std::exception& e) { return thrown_type() + ": " + e.what(); } catch (const cancelled_error& e) {
            return e.message().empty() ? "aio::cancelled_error" : "aio::cancelled_error: " + e.message();
        } catch (const keyboard_interrupt&) { return "aio::keyboard_interrupt"; } catch (...) {
            return thrown_type();
        }
    } catch (...) {
        return "(out of memory)";  // short enough to need no memory
    }
}

}  // namespace aio::inline v0::detail
