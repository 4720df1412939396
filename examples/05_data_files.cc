// SPDX-License-Identifier: Apache-2.0
// Lesson 5: data from files. The digits are written as pictures in a folder for each class, as a
// CSV table and as TFRecords; then the same small net is trained from each of them.
#include <evenflow/evenflow.h>

#include <cstdio>
#include <filesystem>

#include "evenflow/format/example.h"
#include "evenflow/format/image.h"
#include "evenflow/format/tfrecord.h"

using namespace evenflow;
namespace fs = std::filesystem;

namespace {
constexpr int64_t kPixels = 64;

// What other programs would have written.
void write_files(const fs::path& folder) {
  const Tensors digits = data::digits().all();
  const std::vector<float> x = digits[0].to_vector();
  const std::vector<int64_t> y = digits[1].to_vector<int64_t>();
  std::string table;
  for (int64_t k = 0; k < kPixels; ++k) table += "p" + std::to_string(k) + ",";
  table += "digit\n";
  for (size_t i = 0; i < y.size(); ++i) {
    const float* pixels = &x[i * kPixels];
    const Array picture = make_array({DType::u8, {8, 8, 1}});
    for (int64_t k = 0; k < kPixels; ++k) {
      static_cast<uint8_t*>(picture.data->data())[k] = uint8_t(pixels[k] * 255 + .5f);
      table += std::to_string(pixels[k]) + ",";
    }
    table += std::to_string(y[i]) + "\n";
    const fs::path of_class = folder / "pictures" / std::to_string(y[i]);
    fs::create_directories(of_class);
    format::write_file_atomically((of_class / (std::to_string(i) + ".png")).string(),
                                  format::png_bytes(picture));
  }
  format::write_file_atomically((folder / "digits.csv").string(), table);
  format::write_tfrecord((folder / "digits.tfrecord").string(), [&](format::TfRecordWriter& w) {
    for (size_t i = 0; i < y.size(); ++i) {
      format::ExampleWriter example;
      example.floats("x", std::span(&x[i * kPixels], kPixels)).integers("y", std::span(&y[i], 1));
      w.write(example.finish());
    }
  });
}

// Of x f32 [64] in 0..1 and y i64.
double accuracy(const Dataset& digits) {
  set_random_seed(1);
  // Read once; then every element is known by its index, and can be mixed and split.
  auto [train, test] = digits.cache().split(.8);
  Sequential model({to_layer(Input({kPixels})), Dense({.units = 32, .use_bias = false}),
                    BatchNormalization(), ReLU(), Dense({.units = 10, .activation = "softmax"})});
  model.compile({.optimizer = Adam({.learning_rate = 1e-2}),
                 .loss = "sparse_categorical_crossentropy",
                 .metrics = {"accuracy"}});
  model.fit(train.shuffle().batch(32), {.epochs = 4, .verbose = 0});
  return model.evaluate(test.batch(64), {}).at("accuracy");
}
}  // namespace

int main() {
  const fs::path folder = fs::temp_directory_path() / "evenflow_lesson_5";
  write_files(folder);

  const Dataset pictures = data::image_folder((folder / "pictures").string(),
                                              {.picture = {.height = 8, .width = 8, .channels = 1}})
                               .map([](std::span<const float> levels, int64_t digit) {
                                 std::array<float, kPixels> x;
                                 for (size_t k = 0; k < x.size(); ++k) x[k] = levels[k] / 255;
                                 return std::pair(x, digit);
                               });
  const Dataset table = data::csv({(folder / "digits.csv").string()}, {.label = "digit"});
  const Dataset records =
      data::tfrecord({(folder / "*.tfrecord").string()},
                     {{.name = "x", .dims = {kPixels}}, {.name = "y", .dtype = DType::i64}});

  double worst = 1;
  for (auto& [name, digits] :
       {std::pair("pictures", pictures), {"table", table}, {"records", records}}) {
    const double a = accuracy(digits);
    std::printf("%-9s %s: accuracy %.3f\n", name, str(digits.schema()).c_str(), a);
    worst = std::min(worst, a);
  }

  // A pass may stop anywhere and go on elsewhere: where it stands is a few bytes.
  const Dataset endless = records.shuffle_window(500, 7).repeat().batch(32);
  Iterator pass(endless);
  for (int i = 0; i < 70; ++i) pass.next();
  const std::string state = pass.state();
  Iterator resumed(endless);
  resumed.restore(state);
  const bool same = pass.next()[0].to_vector() == resumed.next()[0].to_vector();
  std::printf("after 70 batches the state has %zu bytes, and the next batch is %s\n", state.size(),
              same ? "the same" : "another");
  fs::remove_all(folder);
  return same && worst > .9 ? 0 : 1;
}
