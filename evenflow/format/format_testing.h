// SPDX-License-Identifier: Apache-2.0
// What the tests of file formats share.
#pragma once
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "evenflow/core/error.h"
#include "evenflow/format/file.h"

namespace evenflow::format {

/// A file of tests/reference/data, made by others.
inline std::string made_by_others(const std::string& name) {
  return std::string(EVENFLOW_SOURCE_DIR) + "/tests/reference/data/" + name;
}
/// What they read from it.
inline const nlohmann::json& values_of_others() {
  static const auto values = nlohmann::json::parse(read_file(made_by_others("values.json")));
  return values;
}

/// A folder that goes when the test ends.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "evenflow_format_XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  std::string operator()(const std::string& name) const { return path_ + "/" + name; }
  /// A file of these bytes; its path.
  std::string put(const std::string& name, std::string_view bytes) const {
    const std::filesystem::path path = path_ + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    write_file_atomically(path.string(), bytes);
    return path.string();
  }

 private:
  std::string path_;
};

/// The code of the error that f throws, and its message.
struct Refusal {
  Code code = Code::Internal;
  std::string message = "nothing was refused";
};
template <class F>
Refusal refusal(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return {e.code(), e.what()};
  }
  return {};
}
/// That f is refused by this code, with these words in the message.
template <class F>
void expect_refused(Code code, std::initializer_list<std::string> words, F&& f) {
  const Refusal r = refusal(std::forward<F>(f));
  EXPECT_EQ(str(r.code), str(code)) << r.message;
  for (const std::string& word : words) EXPECT_THAT(r.message, testing::HasSubstr(word));
}

}  // namespace evenflow::format
