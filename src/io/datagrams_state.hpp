#pragma once
// What is behind an aio::datagrams: the socket, and the lines of the operations that receive and send.
// datagram_sockets.cpp makes it; datagrams.cpp has what it does.

#include "io/unix_file.hpp"
#include "loop/loop_state.hpp"

#include <aio/datagrams.hpp>
#include <aio/detail/base/memory.hpp>
#include <aio/detail/loop/descriptor.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace aio::inline v0::detail {

/// What is known of a socket from its making on.
struct datagram_traits {
    int family = 0;
    bool both_families = false;  // an IPv6 socket that takes IPv4, too
    std::size_t limit = 0;
    address local;
    address peer;  // none unless the socket is connected
    unix_file file;
};

class datagrams_state final : public pooled {
public:
    /// Takes the descriptor over, and closes it if it throws.
    datagrams_state(int fd, const datagram_traits& t);
    ~datagrams_state() { close(); }
    datagrams_state(const datagrams_state&) = delete;
    datagrams_state& operator=(const datagrams_state&) = delete;
    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) delete this;
    }

    bool closed() const noexcept { return source_.fd() < 0; }
    loop_core* loop() const noexcept { return source_.loop(); }
    int descriptor() const noexcept { return source_.fd(); }
    std::string name() const;
    std::string where_to_receive() const;  // "from" a peer, or "on" an address
    /// Closes the socket, and ends the waits of all operations.
    void close() noexcept;

    /// Both give true if the operation is over. Otherwise it waits in its line, or is the first there and waits at the
    /// descriptor, or at its timer.
    bool join_receivers(receive_operation& op) noexcept;
    bool join_senders(send_operation& op) noexcept;
    /// The operation gives up, or is over: it is the turn of the next one.
    void leave_receivers(receive_operation& op) noexcept;
    void leave_senders(send_operation& op) noexcept;
    void serve_next_receiver() noexcept;
    /// What a receiver that has completed takes. Throws std::system_error (EMSGSIZE) if it was cut.
    datagram take_arrived();

    datagram_traits traits;
    bool closing = false;  // aclose() was called: no new sends

private:
    template<class Operation>
    void end_wait(Operation& op) noexcept;
    bool receive(receive_operation& op) noexcept;
    int try_to_send(const char* data, std::size_t size, const address* to) noexcept;
    bool must_wait_for(const send_operation& op) const noexcept;
    void wait_beside_line(send_operation& op) noexcept;
    void try_again_later(send_operation& op) noexcept;
    void serve_next_sender() noexcept;

    io_source source_;
    struct arrival {
        aio::datagram datagram;
        std::size_t size = 0;  // as it was sent
        bool no_memory = false;
    };
    static constexpr std::size_t batch = 4;
    std::array<arrival, batch> arrived_;  // from taken_ to count_: nobody has taken them yet
    std::size_t taken_ = 0, count_ = 0;
    list<receive_operation> receivers_;
    list<send_operation> senders_;
    list<send_operation> waits_for_receiver_;
    std::uint32_t references_ = 0;
};

}  // namespace aio::inline v0::detail
