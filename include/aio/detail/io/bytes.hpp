#pragma once
// Tells apart what write() of streams and files may be given: a view, or a temporary whose bytes have to be kept.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace aio::inline v0::detail {

/// A temporary that owns its bytes, as std::string and std::vector<std::byte> do: a view of it would dangle once the
/// expression ends.
template<class D>
concept owned_bytes = !std::is_reference_v<D> &&
    (std::is_convertible_v<D, std::string_view> || std::is_convertible_v<D, std::span<const std::byte>>) &&
    requires(const D& constant) {
        constant.size();
        requires std::is_const_v<std::remove_pointer_t<decltype(constant.data())>>;
    } && (std::is_const_v<D> || requires(D& data) {
        requires !std::is_const_v<std::remove_pointer_t<decltype(data.data())>>;
    });
/// The bytes of data: moved if data is a std::string, copied otherwise.
template<owned_bytes D>
std::string take_bytes(D& data) {
    if constexpr (std::is_same_v<D, std::string>) {
        return std::move(data);
    } else {
        return std::string(reinterpret_cast<const char*>(data.data()), data.size());
    }
}

}  // namespace aio::inline v0::detail
