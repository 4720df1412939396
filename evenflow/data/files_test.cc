// SPDX-License-Identifier: Apache-2.0
// Datasets of files: their values by those who made the files, stops at every element, shards, and
// what bad files get.
#include "evenflow/data/files.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <random>

#include "evenflow/format/example.h"
#include "evenflow/format/format_testing.h"
#include "evenflow/format/gzip.h"
#include "evenflow/format/npy.h"
#include "evenflow/format/npz.h"
#include "evenflow/format/tfrecord.h"

namespace evenflow::data {
namespace {
using format::expect_refused;
using format::Folder;
using format::made_by_others;
using format::values_of_others;
using testing::ElementsAre;
using testing::HasSubstr;

std::string gzipped(const std::string& bytes) {
  const Folder folder;
  format::write_file_atomically(folder("x"), [&](format::FileWriter& out) {
    format::GzipWriter gzip(out);
    gzip.append(bytes);
    gzip.finish();
  });
  return format::read_file(folder("x"));
}
// A text for each row.
std::vector<std::string> shown(const Chunk& c) {
  std::vector<std::string> r(size_t(c.rows));
  for (auto& column : c.columns)
    for (int64_t i = 0; i < c.rows; ++i) {
      const Column one = column.slice(i, i + 1);
      std::string& s = r[size_t(i)];
      s += '|';
      if (one.kind() == ColumnKind::strings)
        s += one.strings()[0];
      else
        s.append(static_cast<const char*>(one.values().data->data()),
                 size_t(one.values().sig.bytes()));
    }
  return r;
}
std::vector<std::string> rest(Iterator& it, int64_t at_most = 3) {
  std::vector<std::string> all;
  for (Chunk c; (c = it.next_chunk(at_most)).rows;)
    for (auto& s : shown(c)) all.push_back(s);
  return all;
}
std::vector<std::string> rows(const Dataset& d) {
  Iterator it(d, {.threads = 0});
  return rest(it);
}
// A pass that stops at each element goes on with the next, and shards have each element once.
void expect_resumes(const Dataset& d) {
  const std::vector<std::string> whole = rows(d);
  for (size_t stop = 0; stop <= whole.size(); ++stop) {
    std::vector<std::string> seen;
    Iterator it(d, {.threads = 0});
    while (seen.size() < stop) seen.push_back(shown(it.next_chunk(1))[0]);
    Iterator again(d, {.threads = 0});
    again.restore(it.state());
    EXPECT_LE(it.state().size(), 200u);
    for (auto& s : rest(again)) seen.push_back(s);
    EXPECT_EQ(seen, whole) << "stopped at " << stop;
  }
  std::vector<std::string> sorted = whole;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t shards = 1; shards <= 5; ++shards) {
    std::vector<std::string> all;
    for (int64_t k = 0; k < shards; ++k)
      for (auto& s : rows(d.shard(shards, k))) all.push_back(s);
    std::sort(all.begin(), all.end());
    EXPECT_EQ(all, sorted) << shards << " shards";
  }
}
Chunk all_of(const Dataset& d) {
  std::vector<Chunk> parts;
  Iterator it(d);
  for (Chunk c; (c = it.next_chunk(7)).rows;) parts.push_back(c);
  return concatenate(parts);
}

// ---- arrays

TEST(Arrays, Ranges) {
  EXPECT_THAT(all_of(range(4)).columns[0].tensor().to_vector<int64_t>(), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(all_of(range(5, 0, -2)).columns[0].tensor().to_vector<int64_t>(),
              ElementsAre(5, 3, 1));
  EXPECT_THAT(all_of(range(-3, 4, 3)).columns[0].tensor().to_vector<int64_t>(),
              ElementsAre(-3, 0, 3));
  EXPECT_EQ(range(3, 3).size(), 0);
  EXPECT_EQ(range(3, 1).size(), 0);
  expect_refused(Code::InvalidArgument, {"step is 0"}, [] { range(0, 1, 0); });
  EXPECT_EQ(range(10).shuffle(1).batch(3).batches(), 4);
}
TEST(Arrays, NpyAndNpz) {
  const Folder folder;
  const Tensor x = tensor(std::vector<float>{1, 2, 3, 4, 5, 6}, {3, 2});
  const Tensor y = tensor(std::vector<int64_t>{7, 8, 9}, {3});
  const Array ax{x.sig(), x.buffer()}, ay{y.sig(), y.buffer()};
  folder.put("x.npy", format::npy_bytes(ax));
  folder.put("both.npz", format::npz_bytes({{"x", ax}, {"y", ay}}));
  EXPECT_EQ(npy(folder("x.npy")).batch(2).batch_at(1)[0].to_vector(), (std::vector<float>{5, 6}));
  const Dataset d = npz(folder("both.npz"), {"y", "x"});
  EXPECT_EQ(d.all()[0].to_vector<int64_t>(), y.to_vector<int64_t>());
  EXPECT_EQ(npz(folder("both.npz")).all()[0].to_vector(), x.to_vector());
  expect_refused(Code::NotFound, {"no array \"z\"", "it has x, y"},
                 [&] { npz(folder("both.npz"), {"z"}); });
}
TEST(Arrays, IdxAndCifar) {
  const Folder folder;
  std::string images("\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x03", 16),
      labels("\0\0\x08\x01\0\0\0\x02", 8);
  images += std::string("\1\2\3\4\5\6", 6), labels += std::string("\7\x09", 2);
  const Dataset d = idx(folder.put("i", images), folder.put("l", labels));
  EXPECT_EQ(d.element_sig(0).shape, (Shape{2, 1, 3}));
  EXPECT_THAT(d.all()[1].to_vector<int64_t>(), ElementsAre(7, 9));

  std::string record(3073, 'a'), second(3073, 'b');
  record[0] = 3, second[0] = 9;
  folder.put("one.bin", record + second);
  folder.put("two.bin", second);
  const Dataset c = cifar10({folder("*.bin")});
  EXPECT_EQ(c.size(), 3);
  EXPECT_EQ(str(c.schema()), "x u8[32,32,3], y i64[]");
  EXPECT_THAT(c.all()[1].to_vector<int64_t>(), ElementsAre(3, 9, 9));
  record[0] = 10;
  folder.put("bad.bin", record);
  expect_refused(Code::DataLoss, {"bad.bin", "label is 10"},
                 [&] { cifar10({folder("bad.bin")}).all(); });
  folder.put("short.bin", record.substr(1));
  expect_refused(Code::DataLoss, {"short.bin", "multiple of 3073"},
                 [&] { cifar10({folder("short.bin")}); });
  expect_refused(Code::NotFound, {"no file matches"}, [&] { cifar10({folder("*.none")}); });
}

// ---- tables

TEST(Csv, IsWhatPythonReads) {
  const Dataset d = csv({made_by_others("quotes.csv")});
  const auto& expected = values_of_others()["quotes"];
  EXPECT_EQ(str(d.schema()), "text string, n i64[], a \"name\", odd string");
  const Chunk c = all_of(d);
  ASSERT_EQ(c.rows, int64_t(expected.size()) - 1);
  for (int64_t i = 0; i < c.rows; ++i) {
    const auto& row = expected[size_t(i) + 1];
    EXPECT_EQ(c.columns[0].strings()[i], row[0].get<std::string>());
    EXPECT_EQ(std::to_string(c.columns[1].tensor().to_vector<int64_t>()[size_t(i)]),
              row[1].get<std::string>());
    EXPECT_EQ(c.columns[2].strings()[i], row[2].get<std::string>());
  }
  expect_resumes(d);
}
TEST(Csv, OfSeveralFilesPlainAndGzip) {
  const Folder folder;
  std::string text = "a,b,kind\n", more = text;
  for (int i = 0; i < 20; ++i) {
    text += std::to_string(i) + "," + std::to_string(i * .5) + ",k" + std::to_string(i % 3) + "\n";
    more += std::to_string(i + 100) + ",,k1\r\n";
  }
  folder.put("one.csv", text);
  folder.put("two.csv.gz", gzipped(more));
  const std::vector<std::string> paths{folder("*.csv*")};
  const Dataset d = csv(paths);
  EXPECT_EQ(str(d.schema()), "a i64[], b f32[], kind string");
  const Chunk c = all_of(d);
  EXPECT_EQ(c.rows, 40);
  EXPECT_TRUE(std::isnan(c.columns[1].tensor().to_vector()[30]));
  expect_resumes(d);

  const Dataset labelled = csv(paths, {.label = "kind"});
  EXPECT_EQ(str(labelled.schema()), "x f32[2], kind i64[]");
  EXPECT_EQ(csv_classes(paths, "kind"), (std::vector<std::string>{"k0", "k1", "k2"}));
  const Tensors batch = Iterator(labelled.batch(4)).next();
  EXPECT_THAT(batch[0].to_vector(), ElementsAre(0, 0, 1, .5, 2, 1, 3, 1.5));
  EXPECT_THAT(batch[1].to_vector<int64_t>(), ElementsAre(0, 1, 2, 0));
  expect_resumes(labelled);
  // Selected, typed, a value for what is missing.
  const Dataset typed = csv(paths, {.columns = {{"a", format::CsvType::f64},
                                                {"b", format::CsvType::f32, -1.},
                                                {"kind", format::CsvType::string}},
                                    .select = {"b", "a"}});
  EXPECT_EQ(str(typed.schema()), "b f32[], a f64[]");
  EXPECT_EQ(all_of(typed).columns[0].tensor().to_vector()[30], -1);
}
TEST(Csv, RefusesOrSkipsBadRows) {
  const Folder folder;
  const std::string path =
      folder.put("bad.csv", "x,y,kind\n1,2,a\n3,oops,a\n5,6,b\n7,8,9,10\n11,12,c\n13,14,a\n");
  CsvOptions o{.columns = {{"x"}, {"y"}, {"kind", format::CsvType::string}},
               .label = "kind",
               .class_names = {"a", "b"}};
  expect_refused(Code::DataLoss, {"bad.csv", "record 2", "byte 15"},
                 [&] { all_of(csv({path}, o)); });
  o.skipped = std::make_shared<std::atomic<int64_t>>(0);
  const Chunk c = all_of(csv({path}, o));
  EXPECT_THAT(c.columns[0].tensor().to_vector(), ElementsAre(1, 2, 5, 6, 13, 14));
  EXPECT_THAT(c.columns[1].tensor().to_vector<int64_t>(), ElementsAre(0, 1, 0));
  EXPECT_EQ(*o.skipped, 3);
  // A label that is none of the classes.
  o.skipped = nullptr;
  const std::string other = folder.put("other.csv", "x,y,kind\n1,2,z\n");
  expect_refused(Code::OutOfRange, {"other.csv", "\"z\" is none of the 2 class_names"},
                 [&] { all_of(csv({other}, o)); });
  // Another header, a column that is not there, text beside a label, nothing.
  const std::string header = folder.put("header.csv", "x,z,kind\n1,2,a\n");
  expect_refused(Code::InvalidArgument, {"column 1 of", "is \"z\", expected \"y\""},
                 [&] { all_of(csv({header}, o)); });
  expect_refused(Code::NotFound, {"no column \"q\"", "\"x\", \"z\", \"kind\""},
                 [&] { csv({header}, {.label = "q"}); });
  expect_refused(Code::InvalidArgument, {"\"kind\" holds text"},
                 [&] { csv({header}, {.label = "x"}); });
  expect_refused(Code::DataLoss, {"is empty"}, [&] { csv({folder.put("empty.csv", "")}); });
  // One endless line, and a quote that is never closed.
  CsvOptions narrow{.columns = {{"x"}}, .header = false};
  narrow.format.max_row_bytes = 1 << 20;
  for (const char* front : {"", "\""}) {
    const std::string endless = folder.put("endless.csv", front + std::string(3 << 20, '7'));
    expect_refused(Code::ResourceExhausted, {"endless.csv", "more than 1048576 bytes"},
                   [&] { all_of(csv({endless}, narrow)); });
  }
}
TEST(Sqlite, TablesAndQueries) {
  const std::string path = made_by_others("table.sqlite");
  const Dataset d = sqlite(path, "select length, kind, n, raw from flowers order by n desc");
  EXPECT_EQ(str(d.schema()), "length f32[], kind string, n i64[], raw string");
  const Chunk c = all_of(d);
  EXPECT_EQ(c.rows, 8);
  EXPECT_EQ(c.columns[2].tensor().to_vector<int64_t>()[0], 8'000'000'000'000);
  EXPECT_EQ(c.columns[0].tensor().to_vector()[7], 0);
  EXPECT_EQ(c.columns[1].strings()[1], "kind 1");
  EXPECT_EQ(c.columns[3].strings()[7], std::string("\0\0\xff", 3));
  expect_resumes(d);
  EXPECT_THAT(all_of(sqlite(path, "pairs")).columns[1].tensor().to_vector(), ElementsAre(.5, .25));
  expect_refused(Code::InvalidArgument, {"row 4", "\"width\" is NULL, expected width f32[]"},
                 [&] { all_of(sqlite(path, "flowers")); });
  expect_refused(Code::InvalidArgument, {"nowhere"}, [&] { sqlite(path, "nowhere"); });
}

// ---- records

const std::vector<FeatureSpec> kFeatures{
    {.name = "x", .dims = {2, 2}},
    {.name = "label", .dtype = DType::i64},
    {.name = "name", .kind = ColumnKind::strings},
    {.name = "ids", .kind = ColumnKind::ragged, .dtype = DType::i64},
    {.name = "absent", .missing = 2.5}};
TEST(TfRecord, IsWhatTensorFlowWrote) {
  const auto& expected = values_of_others()["examples"];
  for (const char* name : {"examples.tfrecord", "examples.tfrecord.gz"}) {
    const Dataset d = tfrecord({made_by_others(name)}, kFeatures);
    EXPECT_EQ(str(d.schema()),
              "x f32[2,2], label i64[], name string, ids ragged i64[], absent f32[]");
    const Chunk c = all_of(d);
    ASSERT_EQ(c.rows, int64_t(expected.size()));
    for (int64_t i = 0; i < c.rows; ++i) {
      const auto& row = expected[size_t(i)];
      EXPECT_EQ(c.columns[0].slice(i, i + 1).tensor().to_vector(),
                row["x"].get<std::vector<float>>());
      EXPECT_EQ(c.columns[1].tensor().to_vector<int64_t>()[size_t(i)], row["label"][0]);
      EXPECT_EQ(c.columns[2].strings()[i], row["name"].get<std::string>());
      const Column ids = c.columns[3].slice(i, i + 1);
      EXPECT_EQ(evenflow::tensor(ids.values().sig, ids.values().data).to_vector<int64_t>(),
                row["ids"].get<std::vector<int64_t>>());
      EXPECT_EQ(c.columns[4].tensor().to_vector()[size_t(i)], 2.5f);
    }
    expect_resumes(d);
    const Dataset labels = tfrecord({made_by_others(name)}, {kFeatures[1]});
    EXPECT_EQ(labels.all()[0].size(), c.rows);  // room is not made for what might be asked for
    EXPECT_EQ(labels.batch(1 << 30).cache().all()[0].size(), c.rows);
    expect_resumes(tfrecord_bytes({made_by_others(name)}));
  }
  expect_resumes(tfrecord({made_by_others("examples.tfrecord*")}, kFeatures));
}
TEST(TfRecord, RefusesOrSkipsWhatIsDamaged) {
  const Folder folder;
  auto example = [](int i) {
    format::ExampleWriter w;
    const std::vector<float> v(i == 6 ? 3 : 2, float(i));
    const std::vector<int64_t> n{i};
    w.floats("x", v);
    if (i != 4) w.integers("y", n);
    return w.finish();
  };
  const std::string path = folder("damaged.tfrecord");
  std::vector<size_t> ends;
  size_t at = 0;
  format::write_tfrecord(path, [&](format::TfRecordWriter& w) {
    for (int i = 0; i < 9; ++i) {
      w.write(example(i));
      ends.push_back(at += example(i).size() + 16);
    }
  });
  std::string bytes = format::read_file(path);
  bytes[ends[1] + 20] ^= 1;  // in the data of record 2
  folder.put("damaged.tfrecord", bytes);
  const std::vector<FeatureSpec> features{{.name = "x", .dims = {2}},
                                          {.name = "y", .dtype = DType::i64}};
  auto labels = [&](const TfRecordOptions& o) {
    return all_of(tfrecord({path}, features, o)).columns[1].tensor().to_vector<int64_t>();
  };
  expect_refused(Code::DataLoss, {"damaged.tfrecord", "record 2"}, [&] { labels({}); });
  TfRecordOptions o{std::make_shared<std::atomic<int64_t>>(0)};
  EXPECT_THAT(labels(o), ElementsAre(0, 1, 3, 5, 7, 8));  // 4 lacks y, 6 has an x too many
  EXPECT_EQ(*o.skipped, 3);
  folder.put("damaged.tfrecord", bytes.substr(0, ends[7] + 5));  // and it ends within record 8
  EXPECT_THAT(labels(o), ElementsAre(0, 1, 3, 5, 7));
  folder.put("damaged.tfrecord", bytes.substr(0, ends[1]));
  EXPECT_THAT(labels({}), ElementsAre(0, 1));
  const std::vector<FeatureSpec> wrong{{.name = "x", .dtype = DType::i64, .dims = {2}}};
  expect_refused(Code::DataLoss, {"record 0", "feature \"x\" holds floats, expected integers"},
                 [&] { all_of(tfrecord({path}, wrong)); });
  expect_refused(Code::InvalidArgument, {"feature \"x\" is f64"},
                 [&] { tfrecord({path}, {{.name = "x", .dtype = DType::f64}}); });
}

// ---- pictures

TEST(Images, OfAFolderForEachClass) {
  const Folder folder;
  const std::string jpeg = format::read_file(made_by_others("420.jpg")),
                    png = format::read_file(made_by_others("rgb.png"));
  folder.put("b_dogs/2.jpg", jpeg);
  folder.put("b_dogs/deep/1.PNG", png);
  folder.put("a_cats/x.jpg", png);  // by its content
  folder.put("a_cats/notes.txt", "no picture");
  folder.put(".hidden/y.jpg", jpeg);
  const PictureOptions small{.height = 5, .width = 7};
  const Dataset d = image_folder(folder(""), {.picture = small});
  EXPECT_EQ(str(d.schema()), "x f32[5,7,3], y i64[]");
  EXPECT_THAT(image_folder_classes(folder("")), ElementsAre("a_cats", "b_dogs"));
  EXPECT_THAT(d.all()[1].to_vector<int64_t>(), ElementsAre(0, 1, 1));
  EXPECT_THAT(image_folder(folder(""), {.picture = small, .label_mode = LabelMode::categorical})
                  .all()[1]
                  .to_vector(),
              ElementsAre(1, 0, 0, 1, 0, 1));
  EXPECT_EQ(image_folder(folder(""), {.picture = small, .label_mode = LabelMode::binary})
                .element_sig(1)
                .shape,
            (Shape{3, 1}));
  EXPECT_THAT(image_folder(folder(""), {.picture = small, .class_names = {"b_dogs"}})
                  .all()[1]
                  .to_vector<int64_t>(),
              ElementsAre(0, 0));
  EXPECT_EQ(images({folder("*/*.jpg")}, small).columns(), 1u);
  // In the size of the file it is what TensorFlow decodes.
  const Array whole = format::read_npy(made_by_others("420_jpg_3.npy"));
  const Tensor x = images({made_by_others("420.jpg")},
                          {.height = whole.sig.shape[0], .width = whole.sig.shape[1]})
                       .all()[0];
  EXPECT_EQ(x.to_vector(), tensor(whole.sig, whole.data).to_vector());
  // The middle of it alone: the columns that a square leaves out on both sides.
  const int64_t h = whole.sig.shape[0], w = whole.sig.shape[1], side = std::min(h, w);
  const Tensor square = images({made_by_others("420.jpg")},
                               {.height = side, .width = side, .crop_to_aspect_ratio = true})
                            .all()[0];
  const std::vector<float> all = x.to_vector(), middle = square.to_vector();
  for (int64_t r = 0; r < side; ++r)
    for (int64_t k = 0; k < side * 3; ++k)
      ASSERT_EQ(middle[size_t(r * side * 3 + k)],
                all[size_t(((h - side) / 2 + r) * w * 3 + (w - side) / 2 * 3 + k)]);

  folder.put("b_dogs/3.jpg", jpeg.substr(0, jpeg.size() / 2));
  folder.put("b_dogs/4.png", "not a picture");
  const Dataset damaged = image_folder(folder(""), {.picture = small});
  expect_refused(Code::DataLoss, {"3.jpg"}, [&] { damaged.all(); });
  auto skipped = std::make_shared<std::atomic<int64_t>>(0);
  EXPECT_EQ(rows(damaged.skip_errors(skipped)).size(), 3u);
  EXPECT_EQ(*skipped, 2);
  std::filesystem::remove(folder("a_cats/x.jpg"));
  expect_refused(Code::NotFound, {"x.jpg"}, [&] { d.all(); });
  expect_refused(Code::NotFound, {"no folder"}, [&] { image_folder(folder("nowhere")); });
  expect_refused(Code::NotFound, {"in the 1 class folders"},
                 [&] { image_folder(folder(""), {.class_names = {"a_cats"}}); });
  expect_refused(Code::InvalidArgument, {"height is 0"},
                 [&] { images({folder("*")}, {.height = 0}); });
}
// A header of ustar and the bytes of a file, padded.
std::string tar_entry(const std::string& name, const std::string& bytes) {
  std::string h(512, '\0');
  auto put = [&](size_t at, const std::string& s) {
    std::copy(s.begin(), s.end(), h.begin() + long(at));
  };
  auto octal = [](size_t v, int digits) {
    char s[16];
    std::snprintf(s, sizeof s, "%0*zo", digits, v);
    return std::string(s);
  };
  put(0, name), put(100, "0000644"), put(108, "0000000"), put(116, "0000000");
  put(124, octal(bytes.size(), 11)), put(136, "00000000000"), put(148, "        ");
  h[156] = '0', put(257, std::string("ustar\00000", 8));
  size_t sum = 0;
  for (unsigned char c : h) sum += c;
  put(148, octal(sum, 6)), h[154] = '\0';
  return h + bytes + std::string((512 - bytes.size() % 512) % 512, '\0');
}
TEST(WebDataset, GroupsFilesIntoSamples) {
  const Folder folder;
  const std::string jpeg = format::read_file(made_by_others("420.jpg")),
                    png = format::read_file(made_by_others("rgb.png"));
  std::string tar;
  for (int i = 0; i < 5; ++i) {
    const std::string key = "part/" + std::to_string(i);
    tar += tar_entry(key + ".cls", std::to_string(i * 3) + "\n");
    tar += tar_entry(key + ".info.txt", "text " + std::to_string(i));
    tar += tar_entry(key + ".jpg", i % 2 ? jpeg : png);
  }
  const std::string end(1024, '\0');
  folder.put("a.tar", tar + end);
  folder.put("b.tar.gz", gzipped(tar + end));
  const std::vector<WebField> fields{
      {"jpg"}, {"cls", WebField::Kind::integer}, {"info.txt", WebField::Kind::text}};
  const PictureOptions small{.height = 3, .width = 4};
  const Dataset d = webdataset({folder("*.tar*")}, fields, {.picture = small});
  EXPECT_EQ(str(d.schema()), "jpg f32[3,4,3], cls i64[], info.txt string");
  const Chunk c = all_of(d);
  EXPECT_THAT(c.columns[1].tensor().to_vector<int64_t>(),
              ElementsAre(0, 3, 6, 9, 12, 0, 3, 6, 9, 12));
  EXPECT_EQ(c.columns[2].strings()[6], "text 1");
  EXPECT_EQ(c.columns[0].slice(1, 2).tensor().to_vector(),
            images({made_by_others("420.jpg")}, small).all()[0].to_vector());
  expect_resumes(d);

  folder.put("c.tar", tar_entry("x.cls", "7") + tar_entry("x.jpg", jpeg) +
                          tar_entry("x.info.txt", "t") + tar_entry("y.cls", "many") +
                          tar_entry("y.jpg", jpeg) + tar_entry("y.info.txt", "t") +
                          tar_entry("z.cls", "8") + tar_entry("z.jpg", jpeg) + end);
  WebDatasetOptions o{.picture = small};
  expect_refused(Code::DataLoss, {"c.tar", "y.cls is \"many\", expected a whole number"},
                 [&] { all_of(webdataset({folder("c.tar")}, fields, o)); });
  o.skipped = std::make_shared<std::atomic<int64_t>>(0);
  EXPECT_EQ(all_of(webdataset({folder("c.tar")}, fields, o)).rows, 1);
  EXPECT_EQ(*o.skipped, 2);
  expect_refused(Code::DataLoss, {".."},
                 [&] { all_of(webdataset({made_by_others("above.tar")}, fields, {})); });
}

// ---- of your own

TEST(Generator, GivesWhatAFunctionGives) {
  const Dataset d = generator([] {
    return [i = 0]() mutable -> std::optional<std::pair<int64_t, std::string>> {
      if (i == 23) return {};
      const int64_t now = i++;
      return std::pair(now, "text " + std::to_string(now));
    };
  });
  EXPECT_EQ(str(d.schema()), "i64[], string");
  EXPECT_EQ(all_of(d).columns[1].strings()[22], "text 22");
  expect_resumes(d);
  const Dataset chunks = generator_chunks({{.name = "n", .dtype = DType::i64}}, [] {
    return [i = int64_t(0)]() mutable {
      std::vector<int64_t> v(i < 6 ? 5 : 0, i);
      ++i;
      if (v.empty()) return Chunk();
      return Chunk{{Column(tensor(v, {5}))}, 5};
    };
  });
  EXPECT_EQ(rows(chunks).size(), 30u);
  expect_resumes(chunks);
}

}  // namespace
}  // namespace evenflow::data
