// SPDX-License-Identifier: Apache-2.0
// `evenflow data`: what a file or a folder of data holds.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "cli/commands.h"
#include "evenflow/data/files.h"
#include "evenflow/data/survey.h"
#include "evenflow/format/example.h"
#include "evenflow/format/file.h"
#include "evenflow/format/input.h"
#include "evenflow/format/tfrecord.h"
#include "evenflow/train/report.h"

namespace evenflow::cli {
namespace {
namespace fs = std::filesystem;

struct Options {
  std::string path, label, table, html = "data.html";
  int64_t batch_size = 32, rows = 100'000, size = 64;
  bool json = false;
};
constexpr size_t kMostShown = 40;  // channels and classes, in a table
constexpr int64_t kPictures = 24;
constexpr size_t kFewClasses = 10;  // are told by their table alone

bool ends(const std::string& path, std::initializer_list<const char*> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](const char* e) { return path.ends_with(e); });
}

// The features of the first Examples: dense where all have as many values, else ragged. Lists of
// texts are no column, and left out.
Dataset tfrecords(const std::string& path) {
  constexpr int64_t kLooked = 100;
  format::TfRecordReader reader{format::InputStream(data::matching_files({path})[0])};
  std::map<std::string, data::FeatureSpec> specs;
  std::map<std::string, int64_t> counts;
  std::string_view record;
  for (int64_t i = 0; i < kLooked && reader.next(&record); ++i)
    for (auto& [name, f] : format::example_features(record)) {
      if (f.kind == format::FeatureKind::none) continue;
      data::FeatureSpec s{.name = name};
      if (f.kind == format::FeatureKind::bytes) s.kind = data::ColumnKind::strings;
      if (f.kind == format::FeatureKind::integers) s.dtype = DType::i64;
      const int64_t n = f.count();
      if (const auto [at, is_new] = counts.emplace(name, n); !is_new && at->second != n)
        at->second = -1;
      specs.emplace(name, std::move(s));
    }
  std::vector<data::FeatureSpec> all;
  for (auto& [name, s] : specs) {
    const int64_t n = counts[name];
    if (s.kind == data::ColumnKind::strings && n != 1) continue;
    if (s.kind != data::ColumnKind::strings) {
      if (n < 0) s.kind = data::ColumnKind::ragged;
      if (n > 1) s.dims = {n};
    }
    all.push_back(s);
  }
  if (all.empty())
    fail(Code::DataLoss,
         {"data: the first Examples of ", path, " have no feature that is a column"});
  return data::tfrecord({path}, all);
}
Dataset opened(const Options& o) {
  const std::string& p = o.path;
  if (p.find_first_of("*?[") == std::string::npos && !fs::exists(p))
    fail(Code::NotFound, {"data: there is no \"", p, "\""});
  if (fs::is_directory(p))
    return data::image_folder(p, {.picture = {.height = o.size, .width = o.size}});
  if (ends(p, {".csv", ".csv.gz", ".tsv", ".tsv.gz"})) {
    data::CsvOptions c{.label = o.label};
    if (ends(p, {".tsv", ".tsv.gz"})) c.format.delimiter = '\t';
    return data::csv({p}, c);
  }
  if (ends(p, {".tfrecord", ".tfrecord.gz", ".tfrecords"})) return tfrecords(p);
  if (ends(p, {".npz"})) return data::npz(p);
  if (ends(p, {".npy"})) return data::npy(p);
  if (ends(p, {".db", ".sqlite", ".sqlite3"})) {
    if (o.table.empty()) fail({"data: ", p, " is a database, expected --table NAME or a SELECT"});
    return data::sqlite(p, o.table);
  }
  if (ends(p, {".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"}))
    return data::images({p}, {.height = o.size, .width = o.size});
  fail({"data: ", p,
        " is no folder of pictures and no .csv, .tsv (.gz), .tfrecord (.gz), .npz, .npy, .sqlite, "
        ".db, .jpg or .png file"});
}

std::string number_text(double v) {
  char s[32];
  std::snprintf(s, sizeof s, "%.4g", v);
  return s;
}
std::string name_of(const data::ColumnSurvey& s, size_t k) {
  return s.field.name.empty() ? std::to_string(k) : s.field.name;
}
using Rows = std::vector<std::vector<std::string>>;
Rows column_rows(const data::Survey& s) {
  Rows rows{{"column", "channel", "mean", "deviation", "least", "greatest"}};
  for (size_t k = 0; k < s.columns.size(); ++k) {
    const data::ColumnSurvey& c = s.columns[k];
    for (size_t i = 0; i < std::min(c.channels.size(), kMostShown); ++i)
      rows.push_back({name_of(c, k), c.channels.size() == 1 ? "" : std::to_string(i),
                      number_text(c.channels[i].mean),
                      number_text(std::sqrt(population_variance(c.channels[i]))),
                      number_text(c.low[i]), number_text(c.high[i])});
    if (c.channels.size() > kMostShown)
      rows.push_back({name_of(c, k), concat({"and ", c.channels.size() - kMostShown, " more"}), "",
                      "", "", ""});
  }
  return rows;
}
Rows class_rows(const data::ColumnSurvey& c, int64_t rows) {
  Rows r{{"class", "rows", "share"}};
  for (size_t i = 0; i < std::min(c.classes.size(), kMostShown); ++i)
    r.push_back({c.classes[i].first, std::to_string(c.classes[i].second),
                 number_text(100 * double(c.classes[i].second) / double(rows)) + " %"});
  if (c.classes.size() > kMostShown)
    r.push_back({concat({"and ", c.classes.size() - kMostShown, " more"}), "", ""});
  return r;
}

// The class names of a folder of pictures stand for its numbers.
void name_classes(const Options& o, data::Survey& s) {
  if (!fs::is_directory(o.path) || s.columns.size() < 2) return;
  const std::vector<std::string> names = data::image_folder_classes(o.path);
  for (auto& [name, n] : s.columns[1].classes) name = names[size_t(std::stoll(name))];
}

// ---- the page

LineChart histogram(const data::ColumnSurvey& c, const std::string& name) {
  constexpr size_t kBins = 40;
  const auto [low, high] = std::minmax_element(c.sample.begin(), c.sample.end());
  const double width = (double(*high) - double(*low)) / double(kBins);
  Series bars;
  bars.name = name;
  std::vector<double> counts(kBins);
  for (float v : c.sample)
    ++counts[width > 0 ? std::min(size_t((double(v) - double(*low)) / width), kBins - 1) : 0];
  // Steps, so that one sees that these are counts.
  for (size_t b = 0; b < kBins; ++b)
    for (size_t side : {b, b + 1}) {
      bars.x.push_back(double(*low) + width * double(side));
      bars.y.push_back(counts[b] / double(c.sample.size()));
    }
  return {.title = name,
          .x_label = "value",
          .y_label = "share of values",
          .series = {bars},
          .y_min = 0,
          .percent = true};
}
// Pictures [h, w, c] in grey, ink on paper.
std::vector<Image> pictures(const Options& o, const Dataset& d, const data::Survey& s) {
  const data::Field& f = d.schema()[0];
  if (f.kind != data::ColumnKind::dense || f.dims.size() != 3 || !d.indexed()) return {};
  std::vector<Image> all;
  const double low = *std::min_element(s.columns[0].low.begin(), s.columns[0].low.end()),
               high = *std::max_element(s.columns[0].high.begin(), s.columns[0].high.end());
  // All over the data, since it may be sorted.
  for (const Tensors& one : d.shuffle(1).take(kPictures)) {
    const Shape& shape = one[0].shape();
    Image image;
    image.height = shape[1], image.width = shape[2];
    const std::vector<float> v = one[0].to_vector();
    const int64_t channels = shape[3], colors = std::min<int64_t>(channels, 3);
    for (int64_t i = 0; i < image.height * image.width; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < colors; ++k) sum += double(v[size_t(i * channels + k)]);
      image.pixels.push_back(float(1 - (sum / double(colors) - low) / std::max(high - low, 1e-30)));
    }
    if (one.size() > 1 && one[1].size() == 1) {
      const auto label = int64_t(one[1].item());
      image.label = std::to_string(label);
      if (fs::is_directory(o.path)) image.label = data::image_folder_classes(o.path)[size_t(label)];
    }
    all.push_back(std::move(image));
  }
  return all;
}
void write_page(const Options& o, const Dataset& d, const data::Survey& s) {
  Report page("The data of " + o.path, str(d.schema()));
  page.facts({{std::to_string(s.rows), s.is_whole ? "rows" : "rows looked at, there are more"},
              {std::to_string(s.columns.size()), "columns"},
              {std::to_string(s.warnings.size()), "warnings"}});
  if (!s.warnings.empty()) {
    page.section("What to look at", "What batch normalisation would suffer from.");
    for (auto& w : s.warnings) page.paragraph(concat({w.what, "; ", w.advice, "."}));
  }
  for (size_t k = 0; k < s.columns.size(); ++k)
    if (s.columns[k].classes.size() > 1) {
      page.section("Classes: " + name_of(s.columns[k], k), "How many rows each has.");
      page.table(class_rows(s.columns[k], s.rows), true);
    }
  std::vector<LineChart> charts;
  for (size_t k = 0; k < s.columns.size() && charts.size() < kMostShown; ++k)
    if (const size_t classes = s.columns[k].classes.size();
        !s.columns[k].sample.empty() && (!classes || classes > kFewClasses))
      charts.push_back(histogram(s.columns[k], name_of(s.columns[k], k)));
  if (!charts.empty()) {
    page.section("Values", "How often they come, by a sample of up to 8,192 of each column.");
    page.charts(charts);
  }
  page.section("Statistics", "Of each channel: along the last axis of a column.");
  page.table(column_rows(s), true);
  if (const std::vector<Image> images = pictures(o, d, s); !images.empty()) {
    page.section("Pictures", "Some of them, in grey.");
    page.images(images);
  }
  format::write_file_atomically(o.html, page.html());
}

nlohmann::json to_json(const data::Survey& s) {
  nlohmann::json columns = nlohmann::json::array();
  for (size_t k = 0; k < s.columns.size(); ++k) {
    const data::ColumnSurvey& c = s.columns[k];
    nlohmann::json j{{"name", name_of(c, k)}, {"type", str(data::Schema{c.field})}};
    for (size_t i = 0; i < c.channels.size(); ++i) {
      j["mean"].push_back(json_number(c.channels[i].mean));
      j["deviation"].push_back(json_number(std::sqrt(population_variance(c.channels[i]))));
    }
    j["not_finite"] = c.not_finite;
    for (auto& [name, n] : c.classes) j["classes"][name] = n;
    columns.push_back(std::move(j));
  }
  nlohmann::json warnings = nlohmann::json::array();
  for (auto& w : s.warnings) warnings.push_back(w.what);
  return {{"rows", s.rows}, {"whole", s.is_whole}, {"columns", columns}, {"warnings", warnings}};
}

void run(const Options& o) {
  const Dataset d = opened(o);
  data::Survey s = data::survey(d, {.rows = o.rows, .batch_size = o.batch_size});
  name_classes(o, s);
  if (!o.html.empty()) write_page(o, d, s);
  if (o.json) return print_json(to_json(s));
  std::printf("%s\n%lld rows%s\n\n", str(d.schema()).c_str(), static_cast<long long>(s.rows),
              s.is_whole ? "" : ", and there are more");
  print_table(column_rows(s));
  for (size_t k = 0; k < s.columns.size(); ++k)
    if (s.columns[k].classes.size() > 1) {
      std::printf("\n%s\n", name_of(s.columns[k], k).c_str());
      print_table(class_rows(s.columns[k], s.rows));
    }
  for (auto& w : s.warnings) std::printf("\nwarning: %s\n  %s\n", w.what.c_str(), w.advice.c_str());
  if (!o.html.empty()) std::printf("\n%s has histograms and pictures\n", o.html.c_str());
}

}  // namespace

void add_data(CLI::App& app) {
  auto o = std::make_shared<Options>();
  auto* c =
      app.add_subcommand("data", "Looks at data: schema, classes, statistics, what to beware of");
  c->add_option(
       "PATH", o->path,
       "a folder of pictures, or a .csv, .tfrecord, .npz, .npy, .sqlite, .jpg or .png file")
      ->required();
  c->add_option("--label", o->label, "the column of a CSV file that is the label")
      ->type_name("NAME");
  c->add_option("--table", o->table, "of a database, or a SELECT")->type_name("NAME");
  c->add_option("--batch-size", o->batch_size, "of the training that is planned")
      ->check(whole<int64_t>(1))
      ->capture_default_str();
  c->add_option("--rows", o->rows, "at most so many are read")
      ->check(whole<int64_t>(1))
      ->capture_default_str();
  c->add_option("--size", o->size, "pictures are resized to so many pixels a side")
      ->check(whole<int16_t>(1))
      ->capture_default_str();
  c->add_option("--html", o->html, "the page; empty: none")
      ->type_name("FILE")
      ->capture_default_str();
  c->add_flag("--json", o->json, "one JSON object on standard output");
  c->callback([o] { run(*o); });
}

}  // namespace evenflow::cli
