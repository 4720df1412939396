// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

namespace evenflow::format {
namespace {

/// nlohmann's own message without its "[json.exception.parse_error.101] ".
std::string_view reason(const std::exception& e) {
  const std::string_view what = e.what();
  const size_t end = what.find("] ");
  return end == what.npos ? what : what.substr(end + 2);
}

std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return concat({"an array of ", value.size()});
  if (!value.is_string()) return value.dump();
  const auto& s = value.get_ref<const std::string&>();
  std::string out = "\"";
  for (const char c : s.substr(0, 60)) out += uint8_t(c) < 32 ? '?' : c;
  return out + (s.size() > 60 ? "...\"" : "\"");
}

/// Builds the value while it counts: nlohmann has no limits of its own, and lets the last of equal
/// keys win.
class Builder : public nlohmann::detail::json_sax_dom_parser<Json> {
  using Base = nlohmann::detail::json_sax_dom_parser<Json>;

 public:
  Builder(Json& root, const std::string& name, const JsonLimits& limits)
      : Base(root, true), name_(name), limits_(limits) {}

  bool null() { return count(), Base::null(); }
  bool boolean(bool v) { return count(), Base::boolean(v); }
  bool number_integer(int64_t v) { return count(), Base::number_integer(v); }
  bool number_unsigned(uint64_t v) { return count(), Base::number_unsigned(v); }
  bool number_float(double v, const std::string& s) { return count(), Base::number_float(v, s); }
  bool string(std::string& v) { return count(), Base::string(v); }
  bool start_array(size_t n) { return enter(), Base::start_array(n); }
  bool end_array() { return keys_.pop_back(), Base::end_array(); }
  bool start_object(size_t n) { return enter(), Base::start_object(n); }
  bool end_object() { return keys_.pop_back(), Base::end_object(); }
  bool key(std::string& k) {
    if (!keys_.back().insert(k).second) {
      fail(Code::DataLoss, {"json \"", name_, "\": key ", shown(k), " is there twice"});
    }
    return Base::key(k);
  }

 private:
  void count() {
    if (++values_ > limits_.max_values) {
      fail(Code::ResourceExhausted,
           {"json \"", name_, "\": has more than ", limits_.max_values, " values"});
    }
  }
  void enter() {
    count();
    if (int(keys_.size()) >= limits_.max_depth) {
      fail(Code::ResourceExhausted,
           {"json \"", name_, "\": is nested deeper than ", limits_.max_depth});
    }
    keys_.emplace_back();
  }

  const std::string& name_;
  const JsonLimits& limits_;
  int64_t values_ = 0;
  std::vector<std::set<std::string>> keys_;
};

bool is_finite(const Json& json) {
  if (json.is_number_float()) return std::isfinite(json.get<double>());
  if (!json.is_structured()) return true;
  for (const Json& item : json) {
    if (!is_finite(item)) return false;
  }
  return true;
}

}  // namespace

JsonValue parse_json(std::string_view text, std::string name, const JsonLimits& limits) {
  if (int64_t(text.size()) > limits.max_bytes) {
    fail(Code::ResourceExhausted,
         {"json \"", name, "\": has ", text.size(), " bytes, expected at most ", limits.max_bytes});
  }
  auto document = std::make_shared<Json>();
  try {
    Builder builder(*document, name, limits);
    Json::sax_parse(text, &builder);
  } catch (const Json::exception& e) {
    fail(Code::DataLoss, {"json \"", name, "\": ", reason(e)});
  } catch (const std::bad_alloc&) {
    fail(Code::ResourceExhausted, {"json \"", name, "\": no memory"});
  }
  return JsonValue(std::move(document), std::move(name));
}

std::string json_text(const Json& json, int indent) {
  if (!is_finite(json)) fail({"json: a number is not finite, which JSON cannot hold"});
  try {
    return json.dump(indent);
  } catch (const Json::exception& e) {
    fail({"json: ", reason(e)});
  }
}

JsonValue::JsonValue(std::shared_ptr<const Json> document, std::string name)
    : document_(std::move(document)), value_(document_.get()), name_(std::move(name)) {}

JsonValue::JsonValue(const JsonValue& parent, const Json& value, std::string step)
    : document_(parent.document_), value_(&value), name_(parent.name_), path_(parent.path_) {
  if (!path_.empty() && step.front() != '[') path_ += '.';
  path_ += step;
}

bool JsonValue::is_null() const { return value_->is_null(); }
bool JsonValue::is_boolean() const { return value_->is_boolean(); }
bool JsonValue::is_integer() const { return value_->is_number_integer(); }
bool JsonValue::is_number() const { return value_->is_number(); }
bool JsonValue::is_string() const { return value_->is_string(); }
bool JsonValue::is_array() const { return value_->is_array(); }
bool JsonValue::is_object() const { return value_->is_object(); }

std::string JsonValue::place() const {
  return concat({name_, ": ", path_.empty() ? "the document" : path_});
}
void JsonValue::refuse(std::string_view expected, Code code) const {
  fail(code, {place(), " is ", shown(*value_), ", expected ", expected});
}

bool JsonValue::boolean() const {
  if (!is_boolean()) refuse("true or false");
  return value_->get<bool>();
}
int64_t JsonValue::integer() const {
  if (!is_integer()) refuse("an integer");
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > uint64_t(INT64_MAX)) {
    refuse("an integer of 64 bits");
  }
  return value_->get<int64_t>();
}
int64_t JsonValue::integer(int64_t least, int64_t most) const {
  const int64_t v = integer();
  if (v < least || v > most) {
    refuse(most == std::numeric_limits<int64_t>::max()
               ? concat({"an integer of at least ", least})
               : concat({"an integer from ", least, " to ", most}));
  }
  return v;
}
double JsonValue::number() const {
  if (!is_number()) refuse("a number");
  return value_->get<double>();
}
const std::string& JsonValue::string() const {
  if (!is_string()) refuse("a string");
  return value_->get_ref<const std::string&>();
}
std::vector<int64_t> JsonValue::integers() const {
  std::vector<int64_t> out;
  if (!is_array()) refuse("an array of integers");
  for (int64_t i = 0; i < size(); ++i) out.push_back((*this)[i].integer());
  return out;
}

int64_t JsonValue::size() const {
  if (!value_->is_structured()) refuse("an array or an object");
  return int64_t(value_->size());
}
JsonValue JsonValue::operator[](int64_t index) const {
  if (!is_array()) refuse("an array");
  if (index < 0 || index >= size()) {
    fail(Code::DataLoss, {place(), " has ", size(), " elements, expected one at ", index});
  }
  return {*this, (*value_)[size_t(index)], concat({"[", index, "]"})};
}
JsonValue JsonValue::operator[](std::string_view key) const {
  if (!is_object()) refuse("an object");
  const auto found = value_->find(key);
  if (found == value_->end()) fail(Code::DataLoss, {place(), " lacks \"", key, "\""});
  return {*this, *found, std::string(key)};
}
std::optional<JsonValue> JsonValue::find(std::string_view key) const {
  if (!is_object()) refuse("an object");
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return JsonValue(*this, *found, std::string(key));
}
std::vector<std::string> JsonValue::keys() const {
  if (!is_object()) refuse("an object");
  std::vector<std::string> out;
  for (const auto& item : value_->items()) out.push_back(item.key());
  return out;
}

}  // namespace evenflow::format
