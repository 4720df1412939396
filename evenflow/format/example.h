// SPDX-License-Identifier: Apache-2.0
// tf.train.Example: what TensorFlow puts into TFRecord files. A protocol buffer of named features,
// each a list of floats, integers or byte strings (core/example/feature.proto). Decoded by hand,
// so that values go from the record straight to where they are wanted.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "evenflow/core/parallel.h"

namespace evenflow::format {

/// The field numbers of feature.proto; `none` is a feature without values.
enum class FeatureKind : uint8_t { none = 0, bytes = 1, floats = 2, integers = 3 };
std::string_view str(FeatureKind kind);

/// The encoded values of one feature of one example: a view into its bytes. All of its functions
/// throw DataLoss for bytes that are no such list.
struct Feature {
  FeatureKind kind = FeatureKind::none;
  std::string_view encoded;

  int64_t count() const;                                   ///< values
  void read(float* to) const;                              ///< count() values; of kind floats
  void read(int64_t* to) const;                            ///< of kind integers
  void read(FunctionRef<void(std::string_view)> f) const;  ///< calls f with each; of kind bytes
};

/// Finds features in examples.
class ExampleReader {
 public:
  /// Throws InvalidArgument for a name that is there twice.
  explicit ExampleReader(std::vector<std::string> names);
  ExampleReader(const ExampleReader&) = delete;
  ExampleReader& operator=(const ExampleReader&) = delete;
  const std::vector<std::string>& names() const { return names_; }

  /// The features of these names (kind none where the example lacks one). Of a name that is twice
  /// in the example the last one counts, as everywhere in protocol buffers. Throws DataLoss for
  /// what is no Example.
  void find(std::string_view example, std::span<Feature> found) const;

 private:
  std::vector<std::string> names_;
  std::unordered_map<std::string_view, size_t> index_;
};

/// All features of an example by name; throws as ExampleReader does.
std::map<std::string, Feature, std::less<>> example_features(std::string_view example);

/// The bytes of an Example in the making. Features are written in the order of their names.
class ExampleWriter {
 public:
  ExampleWriter& floats(std::string_view name, std::span<const float> values);
  ExampleWriter& integers(std::string_view name, std::span<const int64_t> values);
  ExampleWriter& bytes(std::string_view name, std::span<const std::string_view> values);
  ExampleWriter& bytes(std::string_view name, std::string_view value) {
    return bytes(name, std::span(&value, 1));
  }
  std::string finish() const;

 private:
  std::map<std::string, std::string, std::less<>> features_;  // encoded
};

}  // namespace evenflow::format
