// Sync code from async code, and the other way round.
//
//     async def run_blocking(func, *args):
//         return await asyncio.get_running_loop().run_in_executor(None, func, *args)
//
//     def sync_wrapper(coro):
//         return asyncio.run(coro)
//
//     def to_async(func):
//         @functools.wraps(func)
//         async def wrapper(*args):
//             return await run_blocking(func, *args)
//         return wrapper

#include "tour.hpp"

#include <openssl/evp.h>
#include <zlib.h>

namespace tour {
namespace {

// Plain functions that take long.
std::string sha256(const std::string& data) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    if (EVP_Digest(data.data(), data.size(), digest, &size, EVP_sha256(), nullptr) != 1) {
        throw std::runtime_error("SHA-256 failed");
    }
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (unsigned int i = 0; i < size; ++i) {
        text += digits[digest[i] >> 4];
        text += digits[digest[i] & 15];
    }
    return text;
}

std::string compressed(const std::string& data) {
    uLongf size = compressBound(static_cast<uLong>(data.size()));
    std::string out(size, '\0');
    const int status = compress2(reinterpret_cast<Bytef*>(out.data()), &size,
        reinterpret_cast<const Bytef*>(data.data()), static_cast<uLong>(data.size()), Z_BEST_COMPRESSION);
    if (status != Z_OK) throw std::runtime_error("zlib: compress2 failed with " + std::to_string(status));
    out.resize(size);
    return out;
}

std::string decompressed(const std::string& data, std::size_t size) {
    std::string out(size, '\0');
    uLongf got = static_cast<uLongf>(size);
    const int status = uncompress(reinterpret_cast<Bytef*>(out.data()), &got,
        reinterpret_cast<const Bytef*>(data.data()), static_cast<uLong>(data.size()));
    if (status != Z_OK || got != size)
        throw std::runtime_error("zlib: uncompress failed with " + std::to_string(status));
    return out;
}

// A plain function that runs async code inside.
std::size_t count_packages_sync(const std::filesystem::path& input) {
    auto count = [](std::filesystem::path path) -> aio::coro<std::size_t> {
        std::size_t n = 0;
        auto packages = read_packages(std::move(path));
        while (co_await packages.next()) { ++n; }
        co_return n;
    };
    return aio::run(count(input));
}

}  // namespace

aio::coro<> sync_and_async(state& t) {
    const std::string text = co_await aio::read_file(t.settings.input);
    aio::thread_pool_executor& pool = co_await aio::enter(aio::thread_pool_executor(2));

    // Both run in a pool of threads, while the loop goes on.
    auto both =
        co_await aio::gather(aio::run_in_executor(pool, sha256, text), aio::run_in_executor(pool, compressed, text));
    const auto& [hash, small] = both;
    t.out.line("hashed in a thread: " + hash.substr(0, 16) + "...");
    t.out.line(
        "compressed in another: " + std::to_string(text.size()) + " to " + std::to_string(small.size()) + " bytes");
    t.out.number("compressed", static_cast<double>(small.size()));

    // to_async() makes an async function of a plain one.
    auto async_decompressed = aio::to_async(decompressed);
    const std::string back = co_await async_decompressed(small, text.size());
    const std::string same_hash = co_await aio::to_thread(sha256, back);
    if (back != text || same_hash != hash) {
        throw std::runtime_error("what was decompressed is not what was compressed");
    }

    // A thread that runs a loop of its own, and one that asks this loop.
    const std::size_t counted = co_await aio::to_thread(count_packages_sync, t.settings.input);
    if (counted != t.read.count) throw std::runtime_error("packages were lost in another thread");
    const aio::loop_handle loop = aio::get_running_loop().handle();
    auto ask_the_loop = [loop, &t] {
        auto ask = [](state& s) -> aio::coro<std::size_t> { co_return s.read.count; };
        return aio::run_coroutine_threadsafe(loop, ask(t)).get();
    };
    const std::size_t asked = co_await aio::to_thread(ask_the_loop);
    t.out.line(std::to_string(counted) + " packages counted by async code inside a plain function, " +
        std::to_string(asked) + " by a thread that asked this loop");
}

}  // namespace tour
