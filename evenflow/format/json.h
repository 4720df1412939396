// SPDX-License-Identifier: Apache-2.0
// JSON from strangers, over nlohmann-json: parsed under limits, read by getters whose errors name
// the place. Who builds JSON includes <nlohmann/json.hpp> in his source.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/core/error.h"

namespace evenflow::format {

using Json = nlohmann::json;

struct JsonLimits {
  int64_t max_bytes = int64_t(64) << 20;
  int64_t max_values = 10'000'000;
  int max_depth = 100;
};

/// A value somewhere in a document, with the path that leads to it: "config.json: layers[3].name".
/// Cheap to copy; keeps the document alive. The getters throw DataLoss with path, found, expected:
/// `config.json: layers[3].config.filters is "x", expected an integer`.
class JsonValue {
 public:
  /// `name` stands for the document in errors.
  JsonValue(std::shared_ptr<const Json> document, std::string name);

  bool is_null() const;
  bool is_boolean() const;
  bool is_integer() const;  ///< written without fraction or exponent
  bool is_number() const;
  bool is_string() const;
  bool is_array() const;
  bool is_object() const;

  bool boolean() const;
  int64_t integer() const;
  /// An integer from least to most.
  int64_t integer(int64_t least, int64_t most = std::numeric_limits<int64_t>::max()) const;
  double number() const;
  const std::string& string() const;
  std::vector<int64_t> integers() const;  ///< an array of them

  /// Elements of an array, members of an object.
  int64_t size() const;
  /// An element, from 0; a member that must be there.
  JsonValue operator[](int64_t index) const;
  JsonValue operator[](std::string_view key) const;
  /// A member that may be missing; null is the same as missing.
  std::optional<JsonValue> find(std::string_view key) const;
  std::vector<std::string> keys() const;  ///< sorted

  /// Throws DataLoss: "<name>: <path> is <value>, expected <expected>".
  [[noreturn]] void refuse(std::string_view expected, Code code = Code::DataLoss) const;
  /// "config.json: layers[3]", for errors of the caller's own.
  std::string place() const;
  const Json& json() const { return *value_; }

 private:
  JsonValue(const JsonValue& parent, const Json& value, std::string step);

  std::shared_ptr<const Json> document_;
  const Json* value_;
  std::string name_, path_;
};

/// Parses a whole text. Throws ResourceExhausted beyond the limits; DataLoss for what is not JSON
/// (RFC 8259), for invalid UTF-8, numbers that no double holds, and keys that are there twice.
JsonValue parse_json(std::string_view text, std::string name, const JsonLimits& limits = {});

/// The text of a value: on one line, or indented. Throws InvalidArgument for strings that are not
/// UTF-8 and for numbers that are not finite, which JSON has not.
std::string json_text(const Json& json, int indent = -1);

}  // namespace evenflow::format
