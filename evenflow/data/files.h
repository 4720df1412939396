// SPDX-License-Identifier: Apache-2.0
// Datasets that come from files: tables, records, archives, pictures, arrays, databases.
//
// What all have in common: `paths` may hold patterns (*, ?, [a-z]), whose matches are sorted;
// NotFound is thrown where none matches. What is damaged throws DataLoss with file, record and byte
// when it is read; where `skipped` is given, such records are left out and counted there instead.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "evenflow/data/dataset.h"
#include "evenflow/data/map.h"
#include "evenflow/format/csv.h"

namespace evenflow::data {

using Skipped = std::shared_ptr<std::atomic<int64_t>>;

/// The files that patterns match, in order. Throws NotFound for a pattern without a match.
std::vector<std::string> matching_files(const std::vector<std::string>& patterns);

// ---- arrays

/// begin, begin + step, ... below (step < 0: above) end: i64.
Dataset range(int64_t begin, int64_t end, int64_t step = 1);
inline Dataset range(int64_t n) { return range(0, n); }
/// The rows of one .npy file.
Dataset npy(const std::string& path);
/// The rows of arrays of an .npz file side by side; without names of all, in the order of names.
Dataset npz(const std::string& path, const std::vector<std::string>& names = {});
/// The elements of IDX files (MNIST), gzip too: images as they are in the file, and labels i64.
Dataset idx(const std::string& images, const std::string& labels);
/// The binary files of CIFAR-10, or CIFAR-100 with its fine labels: u8 [32,32,3] and a label i64.
Dataset cifar10(const std::vector<std::string>& paths);
Dataset cifar100(const std::vector<std::string>& paths);

// ---- tables

struct CsvOptions {
  /// All columns of the file; none: named by the first row (or 0, 1, ... without a header) and
  /// typed by the first rows of the first file.
  std::vector<format::CsvColumn> columns = {};
  bool header = true;
  std::vector<std::string> select = {};  ///< columns to keep, in this order; none: all
  /// With it the dataset has two columns: x f32 [features], the others, which must hold numbers;
  /// and this one, a class i64 where it holds text.
  std::string label = {};
  std::vector<std::string> class_names = {};  ///< of a label of text; none: those there are, sorted
  format::CsvFormat format = {};
  Skipped skipped = {};
};
/// Rows of CSV files, gzip too: a column each, f32, i64 or text.
Dataset csv(const std::vector<std::string>& paths, CsvOptions options = {});
/// The classes that csv() finds in a column of text, sorted; at most 10,000.
std::vector<std::string> csv_classes(const std::vector<std::string>& paths,
                                     const std::string& column, const CsvOptions& options = {});

/// Rows of an SQLite table or of a SELECT: integers as i64, reals as f32, text and blobs as text,
/// by the first row. Throws InvalidArgument for a value of another type, NULL too.
Dataset sqlite(const std::string& path, const std::string& table_or_query);

// ---- records

/// A feature of tf.train.Example.
struct FeatureSpec {
  std::string name;
  ColumnKind kind = ColumnKind::dense;
  DType dtype = DType::f32;            ///< f32 or i64, of dense and ragged ones
  std::vector<int64_t> dims = {};      ///< of a dense one; empty: one number
  std::optional<double> missing = {};  ///< what stands for a dense feature that an example lacks
};
struct TfRecordOptions {
  Skipped skipped = {};
};
/// Examples of TFRecord files, gzip too: a column a feature.
Dataset tfrecord(const std::vector<std::string>& paths, std::vector<FeatureSpec> features,
                 TfRecordOptions options = {});
/// The records as byte strings.
Dataset tfrecord_bytes(const std::vector<std::string>& paths, TfRecordOptions options = {});

// ---- pictures

/// How pictures become elements: decoded by their content, whatever the file's name says, and
/// resized bilinearly as tf.image.resize does: f32 [height,width,channels] in 0..255.
struct PictureOptions {
  int64_t height = 256, width = 256;
  int channels = 3;  ///< 1 grey, 3 RGB, 4 RGB with alpha (PNG)
  /// The largest part in the middle with the wanted ratio of sides, instead of the whole picture
  /// out of shape.
  bool crop_to_aspect_ratio = false;
};
enum class LabelMode : uint8_t {
  integer,      ///< i64
  categorical,  ///< f32 [classes], one of them 1
  binary,       ///< f32 [1], of two classes
  none,         ///< no second column
};
struct ImageFolderOptions {
  PictureOptions picture = {};
  LabelMode label_mode = LabelMode::integer;
  std::vector<std::string> class_names = {};  ///< folders, in this order; none: all, sorted
};
/// JPEG and PNG files in a folder for each class, at any depth in it, in the order of paths:
/// keras.utils.image_dataset_from_directory without its batches and its shuffle.
Dataset image_folder(const std::string& path, ImageFolderOptions options = {});
/// The folders that image_folder takes for classes.
std::vector<std::string> image_folder_classes(const std::string& path);
/// These pictures, without labels.
Dataset images(const std::vector<std::string>& paths, PictureOptions options = {});

/// A file of each sample of a WebDataset: <key>.<extension>.
struct WebField {
  std::string extension;
  enum class Kind : uint8_t { picture, integer, text } kind = Kind::picture;
};
struct WebDatasetOptions {
  PictureOptions picture = {};
  Skipped skipped = {};
};
/// Samples of tar files, gzip too: files that follow each other with the same name up to the first
/// dot behind the last slash. Throws DataLoss for a sample that lacks a field.
Dataset webdataset(const std::vector<std::string>& paths, std::vector<WebField> fields,
                   WebDatasetOptions options = {});

// ---- of your own

/// start() gives a function for each pass, which gives chunks until one without rows. A pass is
/// resumed by giving it all again; who can do better writes a Stream.
Dataset generator_chunks(Schema schema, std::function<std::function<Chunk()>()> start);
namespace detail {
Dataset generator_rows(std::function<std::function<Chunk(int64_t at_most)>()> start);

template <class R>
struct Optional;
template <class R>
struct Optional<std::optional<R>> {
  using Value = R;
};
template <class F, class... R>
Chunk generated(F& next, int64_t at_most, std::tuple<R...>*) {
  using Value = typename Optional<std::invoke_result_t<F&>>::Value;
  std::vector<std::tuple<R...>> rows;
  while (int64_t(rows.size()) < at_most) {
    std::optional<Value> v = next();
    if (!v) break;
    rows.push_back(Results<Value>::tuple(std::move(*v)));
  }
  Chunk c{{}, int64_t(rows.size())};
  if (rows.empty()) return c;
  [&]<size_t... I>(std::index_sequence<I...>) {
    auto column = [&](auto index) {
      constexpr size_t k = decltype(index)::value;
      Writer<std::tuple_element_t<k, std::tuple<R...>>> w(c.rows);
      for (auto& row : rows) w.add(std::get<k>(row));
      c.columns.push_back(w.column());
    };
    (column(std::integral_constant<size_t, I>{}), ...);
  }
  (std::index_sequence_for<R...>{});
  return c;
}
}  // namespace detail
/// start() gives a function for each pass, which returns std::optional of what map's functions
/// return, and nothing at the end:
///   generator([] { return [i = 0]() mutable -> std::optional<float> {
///     return i < 9 ? std::optional(float(i++)) : std::nullopt; }; })
template <class Start>
Dataset generator(Start start) {
  return detail::generator_rows([start = std::move(start)] {
    using F = std::invoke_result_t<const Start&>;
    using Value = typename detail::Optional<std::invoke_result_t<F&>>::Value;
    auto next = std::make_shared<F>(start());
    return [next](int64_t at_most) {
      return detail::generated(*next, at_most,
                               static_cast<typename detail::Results<Value>::Tuple*>(nullptr));
    };
  });
}

}  // namespace evenflow::data
