// SPDX-License-Identifier: Apache-2.0
// Pictures in files: a folder for each class, or a list; and in the tar files of a WebDataset.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>

#include "evenflow/data/file_stream.h"
#include "evenflow/format/file.h"
#include "evenflow/format/image.h"
#include "evenflow/format/resize.h"
#include "evenflow/format/tar.h"

namespace evenflow::data {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kMaxPictureBytes = int64_t(1) << 30;

void check(const PictureOptions& o) {
  if (o.height < 1 || o.width < 1 || o.height > 65536 || o.width > 65536)
    fail({"pictures: height is ", o.height, " and width ", o.width, ", expected 1..65536"});
  if (o.channels != 1 && o.channels != 3 && o.channels != 4)
    fail({"pictures: channels is ", o.channels, ", expected 1, 3 or 4"});
}
Field field_of(const PictureOptions& o) {
  return {.name = "x", .dims = {o.height, o.width, int64_t(o.channels)}};
}
// The part in the middle with the ratio of the wanted sides (Keras's smart_resize).
void cropped_picture(std::string_view bytes, const std::string& name, const PictureOptions& o,
                     float* to) {
  const Array a = format::decode_image(bytes, name, {.channels = o.channels});
  const int64_t h = a.sig.shape[0], w = a.sig.shape[1];
  const int64_t crop_h = std::min(h, std::max<int64_t>(1, w * o.height / o.width));
  const int64_t crop_w = std::min(w, std::max<int64_t>(1, h * o.width / o.height));
  const int64_t top = (h - crop_h) / 2, left = (w - crop_w) / 2;
  format::BilinearRows rows(crop_h, crop_w, o.channels, o.height, o.width, to);
  for (int64_t y = 0; y < crop_h; ++y)
    rows.push(static_cast<const uint8_t*>(a.data->data()) + ((top + y) * w + left) * o.channels);
}
void picture(std::string_view bytes, const std::string& name, const PictureOptions& o, float* to) {
  if (o.crop_to_aspect_ratio) return cropped_picture(bytes, name, o, to);
  format::decode_image_resized(bytes, name, {.channels = o.channels}, o.height, o.width, to);
}
Array pictures_array(const PictureOptions& o, int64_t rows) {
  return make_array({DType::f32, {rows, o.height, o.width, int64_t(o.channels)}});
}

class Pictures final : public Source {
 public:
  Pictures(std::vector<std::string> paths, std::vector<int64_t> labels, int64_t classes,
           PictureOptions picture, LabelMode mode)
      : paths_(std::move(paths)),
        labels_(std::move(labels)),
        classes_(classes),
        picture_(picture),
        mode_(mode),
        schema_{field_of(picture)} {
    if (mode == LabelMode::none) return;
    schema_.push_back({.name = "y", .dtype = mode == LabelMode::integer ? DType::i64 : DType::f32});
    if (mode != LabelMode::integer) schema_.back().dims = {mode == LabelMode::binary ? 1 : classes};
  }
  const Schema& schema() const override { return schema_; }
  int64_t size() const override { return int64_t(paths_.size()); }
  std::string_view name() const override { return "images"; }
  Chunk read(std::span<const int64_t> indices) const override {
    const int64_t n = int64_t(indices.size());
    Array x = pictures_array(picture_, n);
    auto* to = static_cast<float*>(x.data->data());
    for (int64_t i : indices) {
      const std::string& path = paths_[size_t(i)];
      picture(format::read_file(path, kMaxPictureBytes), path, picture_, to);
      to += picture_.height * picture_.width * picture_.channels;
    }
    Chunk c{{Column(std::move(x))}, n};
    if (mode_ != LabelMode::none) c.columns.push_back(labels(indices));
    return c;
  }

 private:
  Column labels(std::span<const int64_t> indices) const {
    const int64_t n = int64_t(indices.size());
    if (mode_ == LabelMode::integer) {
      std::vector<int64_t> y;
      for (int64_t i : indices) y.push_back(labels_[size_t(i)]);
      return Column(tensor(y, {n}));
    }
    const int64_t width = mode_ == LabelMode::binary ? 1 : classes_;
    std::vector<float> y(size_t(n * width));
    for (size_t r = 0; r < indices.size(); ++r) {
      const int64_t label = labels_[size_t(indices[r])];
      if (mode_ == LabelMode::binary)
        y[r] = float(label);
      else
        y[r * size_t(width) + size_t(label)] = 1;
    }
    return Column(tensor(y, {n, width}));
  }

  const std::vector<std::string> paths_;
  const std::vector<int64_t> labels_;
  const int64_t classes_;
  const PictureOptions picture_;
  const LabelMode mode_;
  Schema schema_;
};

bool is_picture(const fs::path& p) {
  std::string e = p.extension().string();
  std::transform(e.begin(), e.end(), e.begin(), [](unsigned char c) { return std::tolower(c); });
  return e == ".jpg" || e == ".jpeg" || e == ".png";
}
void check_folder(const std::string& path) {
  if (!fs::is_directory(path))
    fail(Code::NotFound, {"image_folder: there is no folder \"", path, "\""});
}

// ---- WebDataset

// "a/b/0001.seg.png": the sample "a/b/0001" and its field "seg.png".
std::pair<std::string, std::string> key_of(const std::string& name) {
  const size_t slash = name.rfind('/');
  const size_t dot = name.find('.', slash == std::string::npos ? 0 : slash + 1);
  return {name.substr(0, dot), dot == std::string::npos ? "" : name.substr(dot + 1)};
}

class WebFeed final : public Feed {
 public:
  WebFeed(const std::string& path, std::vector<WebField> fields, WebDatasetOptions options)
      : reader_(format::InputStream(path)), fields_(std::move(fields)), o_(std::move(options)) {}
  Chunk next(int64_t at_most) override {
    std::vector<Chunk> rows;
    while (int64_t(rows.size()) < at_most) {
      if (!has_entry_ && !(has_entry_ = next_entry())) break;
      const int64_t number = begin_.first, offset = begin_.second;
      std::vector<std::string> files = sample();
      try {
        rows.push_back(row(files));
      } catch (const Error& e) {
        skip_or_throw(
            o_.skipped,
            {e.code(), concat({"webdataset: ", format::place(reader_.name(), number, offset), ": ",
                               e.what()})});
      }
    }
    return rows.empty() ? Chunk() : concatenate(rows);
  }
  void save(StateWriter& to) const override {
    // Before the entry that was looked at already.
    to.number(has_entry_ ? begin_.first : reader_.entry());
    to.number(has_entry_ ? begin_.second : reader_.offset());
  }
  void load(StateReader& from) override {
    const int64_t entry = from.number(kInfinite);
    reader_.seek(entry, from.number(kInfinite));
    has_entry_ = false;
  }

 private:
  bool next_entry() {
    begin_ = {reader_.entry(), reader_.offset()};
    return reader_.next(&entry_);
  }
  // The files of the wanted fields, of all entries with the key of this one.
  std::vector<std::string> sample() {
    std::vector<std::string> files(fields_.size());
    key_ = key_of(entry_.name).first;
    do {
      const std::string field = key_of(entry_.name).second;
      for (size_t k = 0; k < fields_.size(); ++k)
        if (fields_[k].extension == field) files[k] = reader_.read();
    } while ((has_entry_ = next_entry()) && key_of(entry_.name).first == key_);
    return files;
  }
  Chunk row(const std::vector<std::string>& files) const {
    Chunk c{{}, 1};
    for (size_t k = 0; k < fields_.size(); ++k) {
      const WebField& f = fields_[k];
      const std::string name = key_ + "." + f.extension;
      if (files[k].empty()) fail(Code::DataLoss, {"sample ", key_, " has no ", f.extension});
      if (f.kind == WebField::Kind::text) {
        Strings s;
        s.push_back(files[k]);
        c.columns.emplace_back(std::move(s));
      } else if (f.kind == WebField::Kind::integer) {
        c.columns.emplace_back(tensor(std::vector<int64_t>{integer(files[k], name)}, {1}));
      } else {
        Array x = pictures_array(o_.picture, 1);
        picture(files[k], name, o_.picture, static_cast<float*>(x.data->data()));
        c.columns.emplace_back(std::move(x));
      }
    }
    return c;
  }
  static int64_t integer(std::string_view text, const std::string& name) {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
      text.remove_suffix(1);
    int64_t v = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
    if (error != std::errc() || end != text.data() + text.size() || text.empty())
      fail(Code::DataLoss,
           {name, " is \"", std::string(text.substr(0, 40)), "\", expected a whole number"});
    return v;
  }

  format::TarReader reader_;
  const std::vector<WebField> fields_;
  const WebDatasetOptions o_;
  bool has_entry_ = false;
  format::TarEntry entry_;             // the one that comes next, if it was looked at
  std::pair<int64_t, int64_t> begin_;  // its number and offset
  std::string key_;
};

}  // namespace

std::vector<std::string> image_folder_classes(const std::string& path) {
  check_folder(path);
  std::vector<std::string> names;
  for (auto& e : fs::directory_iterator(path))
    if (e.is_directory() && e.path().filename().string()[0] != '.')
      names.push_back(e.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}
Dataset image_folder(const std::string& path, ImageFolderOptions o) {
  check(o.picture);
  check_folder(path);
  std::vector<std::string> classes = o.class_names, paths;
  std::vector<int64_t> labels;
  if (classes.empty() && o.label_mode != LabelMode::none) classes = image_folder_classes(path);
  auto add = [&](const fs::path& folder, int64_t label) {
    if (!fs::is_directory(folder))
      fail(Code::NotFound, {"image_folder: there is no folder \"", folder.string(),
                            "\", expected one for each of class_names"});
    std::vector<std::string> found;
    for (auto& e : fs::recursive_directory_iterator(folder))
      if (e.is_regular_file() && is_picture(e.path())) found.push_back(e.path().string());
    std::sort(found.begin(), found.end());
    paths.insert(paths.end(), found.begin(), found.end());
    labels.resize(paths.size(), label);
  };
  for (size_t k = 0; k < classes.size(); ++k) add(fs::path(path) / classes[k], int64_t(k));
  if (o.label_mode == LabelMode::none && classes.empty()) add(path, 0);
  if (paths.empty())
    fail(Code::NotFound, {"image_folder: there is no .jpg, .jpeg or .png file in the ",
                          classes.size(), " class folders of \"", path, "\""});
  if (o.label_mode == LabelMode::binary && classes.size() != 2)
    fail({"image_folder: label_mode is binary with ", classes.size(), " classes, expected 2"});
  return Dataset::from(std::make_shared<Pictures>(
      std::move(paths), std::move(labels), int64_t(classes.size()), o.picture, o.label_mode));
}
Dataset images(const std::vector<std::string>& paths, PictureOptions o) {
  check(o);
  return Dataset::from(std::make_shared<Pictures>(matching_files(paths), std::vector<int64_t>(), 0,
                                                  o, LabelMode::none));
}

Dataset webdataset(const std::vector<std::string>& paths, std::vector<WebField> fields,
                   WebDatasetOptions o) {
  check(o.picture);
  if (fields.empty()) fail({"webdataset: fields are missing, expected at least one"});
  Schema schema;
  for (auto& f : fields) {
    Field s = f.kind == WebField::Kind::picture ? field_of(o.picture) : Field{.dtype = DType::i64};
    if (f.kind == WebField::Kind::text) s = {.kind = ColumnKind::strings};
    s.name = f.extension;
    schema.push_back(s);
  }
  return Dataset::from(file_stream(
      "webdataset", std::move(schema), matching_files(paths),
      [fields, o](const std::string& path) { return std::make_unique<WebFeed>(path, fields, o); }));
}

}  // namespace evenflow::data
