// The part of gather that does not depend on the type of the results: it waits for the children, and throws the first
// error or the cancel.

#include <aio/gather.hpp>

namespace aio::inline v0::detail {

coro<> gather_all(children& set, bool return_exceptions) {
    co_await set.wait(return_exceptions ? children::until::all : children::until::error);
    if (return_exceptions || !set.has_error()) {
        if (set.cancel_requested()) set.throw_cancelled();  // although the children may have swallowed it (rule 91)
        co_return;
    }
    set.first_error()->mark_retrieved();
    throw_error_of(*set.first_error());
}

}  // namespace aio::inline v0::detail
