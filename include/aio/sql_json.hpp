#pragma once
// JSON both ways: a nlohmann::json is a parameter, and as<nlohmann::json>() reads a field of PostgreSQL's json and
// jsonb, or a text. No other header of the library includes nlohmann's but <aio/http_json.hpp>.
//
//     #include <aio/sql_json.hpp>
//
//     nlohmann::json settings = {{"theme", "dark"}, {"size", 12}};
//     co_await db.query("UPDATE users SET settings = $1 WHERE id = $2", settings, 7);
//     aio::sql::rows rows = co_await db.query("SELECT settings FROM users WHERE id = $1", 7);
//     auto theme = rows[0]["settings"].as<nlohmann::json>()["theme"].get<std::string>();
//
// A JSON null is a value, the text "null"; NULL of SQL is std::optional<nlohmann::json>().

#include <aio/detail/base/platform.hpp>

#include <aio/sql.hpp>

#include <nlohmann/json.hpp>

#include <string>

/// Text that is no UTF-8 throws nlohmann's error; a text that is no JSON is std::invalid_argument, as for any field.
template<>
struct aio::sql::converter<nlohmann::json> {
    static aio::sql::parameter to_parameter(const nlohmann::json& value) {
        return aio::sql::parameter(value.dump(), aio::sql::parameter::meaning::json);
    }
    static nlohmann::json from_field(const aio::sql::field& f) {
        nlohmann::json value = nlohmann::json::parse(f.as<std::string>(), nullptr, false);
        if (value.is_discarded()) f.refuse("is no JSON");
        return value;
    }
};
