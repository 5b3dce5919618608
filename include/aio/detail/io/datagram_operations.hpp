#pragma once
// The operations of aio::datagrams; src/io/datagrams.cpp has what they do, and the state that they share.
//
// Those that receive stand in a line, and so do those that send: the first one of each line tries, and waits at the
// descriptor where that would block.

#include <aio/address.hpp>
#include <aio/detail/base/state_ptr.hpp>
#include <aio/detail/loop/timer.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/detail/task/task_state.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace aio::inline v0 {

struct datagram;

namespace detail {

class datagrams_state;

template<>
struct references_of<datagrams_state> {
    static void retain(datagrams_state& state) noexcept;
    static void release(datagrams_state& state) noexcept;
};
/// Points to the datagrams_state, which src/io/datagrams.cpp defines. The handle and its operations share it.
using datagrams_ref = state_ptr<datagrams_state>;

/// The mistake of the caller's for which an operation was not begun.
enum class datagram_misuse : std::uint8_t { none, no_socket, other_loop, no_peer, other_family };

/// datagrams::receive. The datagram stays with the socket until the awaiter takes it.
class [[nodiscard("co_await it")]] receive_operation final : public revertible<receive_operation>, public list_node {
public:
    explicit receive_operation(datagrams_ref socket) noexcept : socket_(std::move(socket)) {}
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept { unpark(); }
    datagram finish();
    void describe(std::string& out) const override;

private:
    friend class datagrams_state;
    datagrams_ref socket_;
    datagram_misuse misuse_ = datagram_misuse::none;
    bool no_memory_ = false;
    int error_ = 0;
};

/// datagrams::send and datagrams::aclose: both wait for the sends that began before.
class [[nodiscard("co_await it")]] send_operation : public irrevocable<send_operation>, public list_node {
public:
    send_operation(datagrams_ref socket, const void* data, std::size_t size, const address* to) noexcept
        : data_(static_cast<const char*>(data)), size_(size), socket_(std::move(socket)), addressed_(to != nullptr) {
        if (to) to_ = *to;
    }
    explicit send_operation(datagrams_ref socket) noexcept : socket_(std::move(socket)), close_(true) {}
    static constexpr bool awaited_once = true;
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept { unpark(); }
    void finish();
    void describe(std::string& out) const override;
    cancel_reply cancel(const std::string& message) noexcept override;

protected:
    const char* data_ = nullptr;
    std::size_t size_ = 0;

private:
    friend class datagrams_state;
    struct retry_timer : timer_node {
        send_operation* owner = nullptr;
    };
    bool refused() noexcept;
    std::string whom() const;
    datagrams_ref socket_;
    address to_;
    retry_timer timer_;
    std::chrono::milliseconds pause_{1};
    bool addressed_ = false;
    bool close_ = false;
    bool by_timer_ = false;  // it stands beside the line: its receiver has no room
    datagram_misuse misuse_ = datagram_misuse::none;
    int error_ = 0;
};

/// A send of a temporary. The operation may be awaited after the expression that made it, so it owns the text.
class [[nodiscard("co_await it")]] owned_send_operation final : public send_operation {
public:
    owned_send_operation(datagrams_ref socket, std::string text, const address* to) noexcept
        : send_operation(std::move(socket), nullptr, 0, to), text_(std::move(text)) {}
    bool await_ready() {
        data_ = text_.data();  // set only here: until now the operation may have been moved
        size_ = text_.size();
        return send_operation::await_ready();
    }

private:
    std::string text_;
};

}  // namespace detail
}  // namespace aio::inline v0
