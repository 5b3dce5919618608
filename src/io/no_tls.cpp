// What stands in for TLS where the library was built without it (AIO_TLS=OFF): every use says so.

#ifndef AIO_TLS

#include "io/tls.hpp"

#include <aio/detail/io/alpn.hpp>
#include <aio/errors.hpp>

#include <cerrno>

namespace aio::inline v0 {
namespace detail {

class tls_context_state {};

namespace {
[[noreturn]] void refuse() { throw_system_error(ENOTSUP, "TLS: this aiocxx was built without OpenSSL (AIO_TLS=OFF)"); }
}  // namespace

void references_of<tls_context_state>::retain(tls_context_state&) noexcept {}
void references_of<tls_context_state>::release(tls_context_state&) noexcept {}
tls_context_ref default_client_context() { refuse(); }
bool is_server_side(const tls_context_ref&) noexcept { return false; }
tls_context_ref with_protocols(tls_context_ref, std::string, alpn_list) { refuse(); }
std::unique_ptr<tls_transport> make_tls_transport(transport_ptr&, const tls_settings&, tls_report&) { refuse(); }

}  // namespace detail

tls_context tls_context::client() { detail::refuse(); }
tls_context tls_context::server(std::string, std::string) { detail::refuse(); }
const detail::tls_context_ref& tls_context::detail_state() const { detail::refuse(); }
tls_context& tls_context::trust_file(std::string) { detail::refuse(); }
tls_context& tls_context::certificate(std::string, std::string) { detail::refuse(); }
void tls_context::add_protocol(std::string&, std::string_view) {}
tls_context& tls_context::set_alpn(std::string) { detail::refuse(); }
tls_context& tls_context::minimum_version(tls_version) { detail::refuse(); }
tls_context& tls_context::verify(bool) { detail::refuse(); }
tls_context& tls_context::request_client_certificate(std::string) { detail::refuse(); }
void tls_context::reload() { detail::refuse(); }

}  // namespace aio::inline v0

#endif
