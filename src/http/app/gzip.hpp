#pragma once
// A gzip body that is made piece by piece.

#include <memory>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {

class gzip_writer {
public:
    enum class flush : std::uint8_t { no, yes, finish };

    /// Throws std::bad_alloc.
    explicit gzip_writer(int level);
    ~gzip_writer();
    gzip_writer(gzip_writer&&) noexcept;
    gzip_writer& operator=(gzip_writer&&) = delete;

    /// Gives what text becomes, and after a flush all that came before it.
    std::string write(std::string_view text, flush how);

private:
    struct state;
    std::unique_ptr<state> state_;
};

}  // namespace aio::inline v0::detail
