#pragma once
// What a client takes (RFC 9110, 12.5.3).

#include <aio/http/headers.hpp>

namespace aio::inline v0::detail {

/// Which codings of a response a client takes: gzip, and none at all.
struct accepted_encodings {
    explicit accepted_encodings(const http::headers& fields);

    bool gzip = false;     // it takes gzip, and does not like it less than a plain body
    bool identity = true;  // it takes a plain body
};

/// Adds Accept-Encoding to the field Vary, so that caches keep the codings apart.
void vary_by_encoding(http::headers& fields);

}  // namespace aio::inline v0::detail
