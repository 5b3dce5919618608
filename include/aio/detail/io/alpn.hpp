#pragma once
// What a protocol above TLS adds to the context of a user, who need not know how the protocol is called in handshakes.

#include <aio/tls.hpp>

#include <string>

namespace aio::inline v0::detail {

/// Which of two lists of protocols holds: the one that the user has given to the context, if there is one, or the
/// other.
enum class alpn_list : bool { of_the_context_first, of_the_handle };

/// Gives another handle to a server's context. Its handshakes choose among protocols (each behind its length, the
/// preferred one first), unless the context has its own list and that one comes first. What is changed in the context
/// later, and reload(), holds for this handle, too. Throws std::bad_alloc.
tls_context_ref with_protocols(tls_context_ref context, std::string protocols, alpn_list which);

}  // namespace aio::inline v0::detail
