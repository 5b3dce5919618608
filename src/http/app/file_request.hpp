#pragma once
// A file that is to be a response, before it is opened.

#include "http/app/conditions.hpp"

#include <aio/descriptor.hpp>

#include <optional>
#include <string>

namespace aio::inline v0::detail {

struct file_request {
    std::string folder;  // of a served folder: path is relative to it, and must not lead out of it; else empty
    std::string path;
    std::string content_type;  // empty: by the extension
    std::string download_name;
    std::string cache_control;
    bool precompressed = false;  // PATH.gz may be sent instead, if it is there
    bool takes_gzip = false;
    file_conditions asked;
};

/// What a thread has found. A small content is read at once.
struct opened_file {
    int error = 0;  // an errno; EISDIR for a folder, ENXIO for what is neither a folder nor a regular file
    bool gzip = false;
    file_facts facts;
    file_verdict verdict;
    descriptor fd;                    // of a content that is not in text
    std::string text;                 // what is to be sent of it
    std::optional<parts_body> parts;  // of several ranges; their bytes are in text, or come from fd
};

/// Opens and reads. It blocks, and is called on a thread.
opened_file open_for_response(const file_request& what);
/// Makes the response. Throws std::system_error for an error other than that the file is not there.
http::response response_of(const file_request& what, opened_file found);
/// The two, the first of them on a thread. Gives the error of a folder to whoever asked, as EISDIR in `error`.
coro<http::response> send_file_of(file_request what, bool* is_folder);

}  // namespace aio::inline v0::detail
