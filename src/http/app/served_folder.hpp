#pragma once
// The handlers behind router::files().

#include <aio/http/message.hpp>

#include <memory>
#include <string>

namespace aio::inline v0::detail {

struct folder_settings;

/// Sends the file that the parameter "path" of a request names, below a folder.
class served_folder {
public:
    /// Throws std::system_error if folder is none.
    served_folder(std::string folder, http::files_options options);
    coro<http::response> operator()(const http::request& request) const;

private:
    std::shared_ptr<const folder_settings> settings_;  // shared by requests under way
};

/// Sends the client from "/a/folder?query" to "/a/folder/?query".
http::response redirect_to_folder(const http::request& request);

}  // namespace aio::inline v0::detail
