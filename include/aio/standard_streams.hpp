#pragma once
// The standard streams of this process as streams, whatever they are connected to. Source: sys.stdin and
// loop.connect_read_pipe, which takes no file and changes what it shares with the shell.
//
//     aio::coro<> number_lines() {
//         for (int n = 1;; ++n) {
//             const std::string line = co_await aio::std_in().read_line();
//             if (line.empty()) break;
//             co_await aio::std_out().write(std::to_string(n) + " " + line);
//         }
//     }
//
// None of them blocks the loop. A pipe or a terminal is opened once more, for this loop alone; a socket is asked
// without waiting; a file is read and written on a thread. Nothing is changed that other processes share, as O_NONBLOCK
// would be: the shell finds its terminal as it was.
//
// A stream belongs to the running loop and lives as long as that. What std_in() has read ahead and nobody has taken is
// there for the next run(), but not for children, nor for C's stdin and std::cin. A write has been handed to the system
// when it completes; what printf and std::cout have buffered is not flushed before it. aclose() closes the stream, and
// leaves the process's descriptor open.

#include <aio/detail/base/platform.hpp>

#include <aio/stream.hpp>

namespace aio::inline v0 {

/// Gives the standard input as a stream of the running loop, which is made at the first call and lives as long as the
/// loop. Its reads are those of stream: revertible, and empty at the end of the input. Two loops that read at the same
/// time share what comes. Throws std::logic_error if no loop runs; std::system_error if the descriptor is closed or
/// cannot be read (EBADF), or none is free for the loop (EMFILE).
stream& std_in();
/// Gives the standard output as a stream of the running loop, which is made at the first call and lives as long as the
/// loop. A write completes when its bytes have been handed to the system. It is cancelled as a write of a stream, with
/// one difference: a write to a file that a thread has begun is not given up; a cancel waits for it. Errors of a file
/// (ENOSPC, EIO) are errors of the write that met them and of those after it. Throws std::logic_error if no loop runs;
/// std::system_error if the descriptor is closed or cannot be written (EBADF), or none is free for the loop (EMFILE).
stream& std_out();
/// Gives the standard error output as a stream of the running loop. Lifetime, writes and errors are those of std_out().
stream& std_err();

}  // namespace aio::inline v0
