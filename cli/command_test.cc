// SPDX-License-Identifier: Apache-2.0
// Every sub-command, as its users run it: exit status, texts, files, JSON.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/command_testing.h"
#include "evenflow/evenflow.h"
#include "evenflow/format/file.h"
#include "evenflow/format/image.h"
#include "evenflow/format/npy.h"
#include "evenflow/format/npz.h"
#include "evenflow/graph/manual.h"

namespace evenflow::cli {
namespace {
using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

void save_array(const std::string& path, const Tensor& t) {
  format::write_npy(path, {t.sig(), t.buffer()});
}
Array load_array(const std::string& path) { return format::read_npy(path); }

// A small net of every kind that matters here, and data for it.
struct Files {
  Folder folder;
  std::string model = folder / "m.keras", x = folder / "x.npy", y = folder / "y.npy",
              out = folder / "out.npy";
  Model net;
  Tensor digits, labels;
  Files() {
    set_random_seed(7);
    net = Sequential(
        {to_layer(Input({8, 8, 1}, "digit")),
         Conv2D({.filters = 4, .kernel_size = 3, .use_bias = false}),
         BatchNormalization({.momentum = 0.9, .name = "norm"}), ReLU(), Flatten(),
         Dropout({.rate = 0.5}), Dense({.units = 10, .activation = "softmax", .name = "class"})},
        "small");
    const Tensors some = data::digits().take(96).all();
    digits = some[0], labels = some[1];
    net.compile({.optimizer = "sgd", .loss = "sparse_categorical_crossentropy"});
    net.fit(digits, labels, {.epochs = 2, .verbose = 0});  // so that the averages are somewhere
    net.save(model);
    save_array(x, digits), save_array(y, labels);
  }
};

TEST(Command, says_its_version_and_its_help) {
  const Said version = evenflow({"--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_EQ(version.out, "evenflow " EVENFLOW_VERSION "\n");
  const Said help = evenflow({"--help"});
  EXPECT_EQ(help.status, 0);
  for (const char* name :
       {"demo", "data", "train", "evaluate", "predict", "inspect", "doctor", "recalibrate", "fold",
        "bank", "lab", "export", "devices", "profile", "bench", "ops"}) {
    EXPECT_THAT(help.out, HasSubstr(name));
    const Said s = evenflow({name, "--help"});
    EXPECT_EQ(s.status, 0);
    EXPECT_THAT(s.out, HasSubstr("--help"));
    EXPECT_THAT(s.err, IsEmpty());
  }
}
TEST(Command, usage_errors_end_with_2) {
  expect_usage_error({}, "subcommand is required");
  expect_usage_error({"fly"}, "fly");
  expect_usage_error({"devices", "--fast"}, "--fast");
  expect_usage_error({"predict", "m.keras"}, "--input is required");
  expect_usage_error({"--device", "abacus", "devices"}, "abacus");
}
TEST(Command, a_device_that_is_not_there_is_refused_with_the_reason) {
  expect_refusal({"--device", "cuda", "devices"}, "cuda");
  expect_refusal({"devices", "--device", "cuda"}, "cuda");
  EXPECT_EQ(evenflow({"--device", "cpu", "devices"}).status, 0);
}
TEST(Command, what_the_environment_asks_for_and_is_not_there_is_refused) {
  Files f;
  for (const char* setting : {"EVENFLOW_DEVICE=cuda", "EVENFLOW_DEVICE=abacus", "EVENFLOW_ISA=mmx",
                              "EVENFLOW_CHECK=sums", "EVENFLOW_VIZ=/no/folder/graphs.html"}) {
    const Said s = run({"/usr/bin/env", setting, EVENFLOW_COMMAND, "predict", f.model, "--input",
                        f.x, "--output", f.out});
    EXPECT_EQ(s.status, 1) << setting;
    const std::string value = std::string(setting).substr(std::string(setting).find('=') + 1);
    EXPECT_THAT(s.err, AllOf(StartsWith("evenflow: "), HasSubstr(value))) << setting;
    EXPECT_FALSE(std::filesystem::exists(f.out)) << setting;
  }
}
TEST(Command, a_reader_that_leaves_early_does_not_matter) {
  const Said s = run({"/bin/sh", "-c", "{ '" EVENFLOW_COMMAND "' ops; echo $? >&2; } | head -n 1"});
  EXPECT_EQ(s.err, "0\n");
  EXPECT_THAT(s.out, StartsWith("abs "));
}
TEST(Command, a_full_disk_is_told) {
  Process p({EVENFLOW_COMMAND, "ops"}, "/dev/full");
  const Said s = p.wait();
  EXPECT_EQ(s.status, 1);
  EXPECT_THAT(s.err, HasSubstr("standard output cannot be written"));
}

TEST(Data, shows_what_a_file_holds_and_what_to_beware_of) {
  const Folder folder;
  std::string table = "length,same,kind\n";
  for (int i = 0; i < 40; ++i)
    table += std::to_string(i % 20) + ",7," + (i < 20 ? "iris" : "rose") + "\n";
  const std::string csv = folder / "flowers.csv", page = folder / "page.html";
  format::write_file_atomically(csv, table);
  const Said s = evenflow({"data", csv, "--html", page});
  EXPECT_EQ(s.status, 0) << s.err;
  for (const char* words : {"length i64[], same i64[], kind string", "40 rows", "iris", "50 %",
                            "the rows are sorted by \"kind\": the class changes 1 times"})
    EXPECT_THAT(s.out, HasSubstr(words));
  const std::string html = format::read_file(page);
  for (const char* words : {"flowers.csv", "<svg", "sorted by"})
    EXPECT_THAT(html, HasSubstr(words));

  const Said j = evenflow({"data", csv, "--label", "kind", "--html", "", "--json"});
  const auto v = nlohmann::json::parse(j.out);
  EXPECT_NEAR(v["columns"][0]["mean"][0].get<double>(), 9.5, 1e-12);
  EXPECT_EQ(v["columns"][0]["mean"][1], 7);
  EXPECT_THAT(v["warnings"].dump(), HasSubstr("1 of 2 channels of \\\"x\\\" is constant"));

  for (const char* kind : {"pictures/a", "pictures/b"}) {
    std::filesystem::create_directories(folder / kind);
    const Array picture = make_array({DType::u8, {4, 6, 3}});
    std::fill_n(static_cast<uint8_t*>(picture.data->data()), 72, uint8_t(kind[9] == 'a' ? 9 : 200));
    format::write_file_atomically(folder / (std::string(kind) + "/1.png"),
                                  format::png_bytes(picture));
  }
  const Said p = evenflow({"data", folder / "pictures", "--size", "8", "--html", page});
  EXPECT_EQ(p.status, 0) << p.err;
  EXPECT_THAT(p.out, HasSubstr("x f32[8,8,3], y i64[]"));
  EXPECT_THAT(format::read_file(page), HasSubstr("Pictures"));

  const Said records = evenflow(
      {"data", std::string(EVENFLOW_SOURCE_DIR) + "/tests/reference/data/examples.tfrecord",
       "--html", ""});
  EXPECT_EQ(records.status, 0) << records.err;
  EXPECT_THAT(records.out,
              HasSubstr("ids ragged i64[], label i64[], name string, x f32[4]\n7 rows"));
  EXPECT_THAT(evenflow({"data", folder / "nothing.csv"}).err, HasSubstr("there is no"));
  EXPECT_THAT(evenflow({"data", folder / "*.none"}).err, HasSubstr("is no folder of pictures"));
  EXPECT_THAT(evenflow({"data", folder / "page.html"}).err, HasSubstr("is no folder of pictures"));
  EXPECT_THAT(evenflow({"data", folder / "pictures", "--rows", "0"}).err, HasSubstr("--rows"));
}

TEST(Doctor, ends_with_0_1_or_2) {
  Files f;
  const Said well = evenflow(
      {"doctor", f.model, "--x", f.x, "--y", f.y, "--loss", "sparse_categorical_crossentropy"});
  EXPECT_EQ(well.status, 0) << well.out;
  EXPECT_THAT(well.out, HasSubstr("model \"small\": healthy"));
  auto& norm = static_cast<BatchNormalizationImpl&>(*f.net.get_layer("norm").impl());
  norm.moving_mean.assign(norm.moving_mean.read() + 5.f);
  f.net.save(f.model);
  const std::string page = f.folder / "page.html";
  const Said ill = evenflow({"doctor", f.model, "--x", f.x, "--json", "--html", page});
  EXPECT_EQ(ill.status, 1) << ill.err;
  const json j = json::parse(ill.out);
  EXPECT_EQ(j["healthy"], false);
  EXPECT_EQ(j["findings"][0]["layer"], "norm");
  EXPECT_THAT(contents(page), AllOf(StartsWith("<!DOCTYPE html>"), HasSubstr("not healthy"),
                                    HasSubstr("D3 domain_shift"), Not(HasSubstr("http"))));
  for (const std::vector<std::string>& words : {std::vector<std::string>{"doctor"},
                                                {"doctor", "none.keras"},
                                                {"doctor", f.model, "--only", "Q7"},
                                                {"doctor", f.model, "--y", f.y},
                                                {"doctor", f.model, "--x", f.model}}) {
    const Said s = evenflow(words);
    EXPECT_EQ(s.status, 2) << s.err;
    EXPECT_THAT(s.err, StartsWith("evenflow: "));
  }
}
TEST(Doctor, fixes_what_is_safe) {
  Files f;
  auto& norm = static_cast<BatchNormalizationImpl&>(*f.net.get_layer("norm").impl());
  norm.moving_mean.assign(norm.moving_mean.read() + 5.f);
  f.net.save(f.model);
  const std::string out = f.folder / "fixed.keras";
  const Said s = evenflow({"doctor", f.model, "--x", f.x, "--fix", out});
  EXPECT_EQ(s.status, 0) << s.out << s.err;
  EXPECT_THAT(s.out, AllOf(HasSubstr("not healthy"), HasSubstr("fixed: norm is recalibrated")));
  EXPECT_EQ(evenflow({"doctor", out, "--x", f.x}).status, 0);
}
TEST(Fold, writes_a_model_that_predicts_the_same_and_a_certificate) {
  Files f;
  const std::string out = f.folder / "folded.keras";
  const Said s = evenflow({"fold", f.model, "-o", out, "--x", f.x, "--json"});
  ASSERT_EQ(s.status, 0) << s.err;
  const json j = json::parse(s.out);
  EXPECT_EQ(j["folds"][0]["norm"], "norm");
  EXPECT_LE(j["relative"].get<double>(), 1e-5);
  const Model folded = load_model(out);
  EXPECT_EQ(folded.layers().size(), f.net.layers().size() - 1);
  const auto want = f.net.predict(f.digits).to_vector(), got = folded.predict(f.digits).to_vector();
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5);
  EXPECT_THAT(evenflow({"fold", f.model, "-o", out}).out, HasSubstr("folded norm into conv2d"));
}
TEST(Recalibrate, writes_a_model_with_new_averages) {
  Files f;
  const std::string out = f.folder / "new.keras";
  const Said s = evenflow({"recalibrate", f.model, "--x", f.x, "-o", out, "--json"});
  ASSERT_EQ(s.status, 0) << s.err;
  EXPECT_EQ(json::parse(s.out)["layers"][0]["n"], 96 * 36);
  const Model want = load_model(f.model), got = load_model(out);
  doctor::recalibrate(want, f.digits);
  auto mean = [](const Model& m) {
    return static_cast<BatchNormalizationImpl&>(*m.get_layer("norm").impl())
        .moving_mean.read()
        .to_vector();
  };
  EXPECT_EQ(mean(got), mean(want));
  EXPECT_NE(mean(got), mean(f.net));
}

struct BankFiles : Files {
  std::string bank = folder / "bank.npz", dark = folder / "dark.npy",
              new_model = folder / "new.keras";
  Tensor night = digits * 0.3f + 0.5f;
  BankFiles() { save_array(dark, night); }
  Said add(const std::string& name, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"bank", model, "--bank", bank, "--add", name};
    words.insert(words.end(), more.begin(), more.end());
    return evenflow(words);
  }
};
TEST(Bank, a_set_from_unlabelled_data_is_used_by_predict_and_evaluate) {
  BankFiles f;
  ASSERT_EQ(f.add("day").status, 0);
  const Said s = f.add("night", {"--x", f.dark, "--prior", "8", "--json"});
  ASSERT_EQ(s.status, 0) << s.err;
  const Model model = load_model(f.model);
  doctor::StatisticsBank want;
  const auto moved = want.adapt("night", model, f.night, {.prior = 8});
  EXPECT_EQ(json::parse(s.out)["layers"][0]["layer"], "norm");
  EXPECT_EQ(json::parse(s.out)["layers"][0]["divergence"], moved[0].divergence);
  const doctor::StatisticsBank bank = doctor::StatisticsBank::load(f.bank);
  EXPECT_THAT(bank.names(), ElementsAre("day", "night"));
  EXPECT_EQ(bank.at("night").at("norm").mean, want.at("night").at("norm").mean);

  const std::vector<std::string> chosen{"--bank", f.bank, "--set", "night"};
  auto with_set = [&](std::vector<std::string> words) {
    words.insert(words.end(), chosen.begin(), chosen.end());
    return evenflow(words);
  };
  ASSERT_EQ(with_set({"predict", f.model, "--input", f.dark, "--output", f.out}).status, 0);
  auto output = [&] {
    const Array a = load_array(f.out);
    return tensor(a.sig, a.data).to_vector();
  };
  EXPECT_EQ(output(), doctor::predict(model, f.night, want, "night").to_vector());
  EXPECT_NE(output(), model.predict(f.night).to_vector());

  ASSERT_EQ(
      evenflow({"bank", f.model, "--bank", f.bank, "--apply", "night", "-o", f.new_model}).status,
      0);
  const std::vector<std::string> data{
      "--x", f.dark, "--y", f.y, "--loss", "sparse_categorical_crossentropy", "--json"};
  std::vector<std::string> by_set{"evaluate", f.model}, by_model{"evaluate", f.new_model};
  for (auto* w : {&by_set, &by_model}) w->insert(w->end(), data.begin(), data.end());
  const json a = json::parse(with_set(by_set).out), b = json::parse(evenflow(by_model).out);
  EXPECT_NEAR(a.at("loss"), b.at("loss"), 1e-6);
  EXPECT_NE(a.at("loss"), json::parse(evenflow(by_set).out).at("loss"));
}
TEST(Bank, lists_begins_and_drops_sets) {
  BankFiles f;
  const std::vector<std::string> list{"bank", f.model, "--bank", f.bank};
  expect_refusal(list, "bank.npz");
  ASSERT_EQ(f.add("day", {"--affine"}).status, 0);
  ASSERT_EQ(f.add("night", {"--x", f.dark}).status, 0);
  EXPECT_EQ(evenflow(list).out,
            "day: 1 layers, 4 channels, with gamma and beta\n"
            "night: 1 layers, 4 channels\n");
  ASSERT_EQ(f.add("dusk", {"--x", f.x, "--from", "night"}).status, 0);
  ASSERT_EQ(evenflow({"bank", f.model, "--bank", f.bank, "--remove", "day"}).status, 0);
  EXPECT_THAT(doctor::StatisticsBank::load(f.bank).names(), ElementsAre("dusk", "night"));

  const Sequential other({to_layer(Input({4})), BatchNormalization({.name = "norm"})});
  other.save(f.model);
  std::vector<std::string> as_json = list;
  as_json.push_back("--json");
  EXPECT_EQ(json::parse(evenflow(as_json).out)["sets"][0]["fits"], true) << "four channels, too";
  const Sequential wider({to_layer(Input({5})), BatchNormalization({.name = "norm"})});
  wider.save(f.model);
  EXPECT_EQ(json::parse(evenflow(as_json).out)["sets"][0]["fits"], false);
  EXPECT_THAT(evenflow(list).out, HasSubstr("dusk: 1 layers, 4 channels; not of this model: "));
}
TEST(Bank, refuses_with_the_reason) {
  BankFiles f;
  ASSERT_EQ(f.add("day").status, 0);
  const std::string before = contents(f.bank);
  auto words = [&](const std::vector<std::string>& more) {
    std::vector<std::string> w{"bank", f.model, "--bank", f.bank};
    w.insert(w.end(), more.begin(), more.end());
    return w;
  };
  expect_refusal(words({"--apply", "dawn", "-o", f.new_model}), "\"dawn\"");
  expect_refusal(words({"--remove", "dawn"}), "day");
  expect_refusal(words({"--add", "n", "--x", f.dark, "--from", "dawn"}), "\"dawn\"");
  expect_refusal(words({"--add", ""}), "the name");
  expect_refusal(words({"--add", "n", "--x", f.y}), "expected");
  expect_refusal(
      {"predict", f.model, "--input", f.x, "--output", f.out, "--bank", f.bank, "--set", "dawn"},
      "\"dawn\"");
  expect_refusal(
      {"predict", f.model, "--input", f.x, "--output", f.out, "--bank", f.x, "--set", "d"},
      "x.npy");
  EXPECT_FALSE(std::filesystem::exists(f.out));
  EXPECT_FALSE(std::filesystem::exists(f.new_model));
  EXPECT_EQ(contents(f.bank), before);
  expect_usage_error({"bank", f.model}, "--bank is required");
  expect_usage_error(words({"--apply", "day"}), "--output");
  expect_usage_error(words({"--add", "n", "--remove", "day"}), "excludes");
  expect_usage_error(words({"--add", "n", "--x", f.dark, "--prior", "-1"}), "at least 0");
  expect_usage_error({"predict", f.model, "--input", f.x, "--output", f.out, "--bank", f.bank},
                     "--set");
  expect_usage_error({"predict", f.model, "--input", f.x, "--output", f.out, "--set", "day"},
                     "--bank");
}

TEST(Predict, gives_what_the_library_gives) {
  Files f;
  const Said s = evenflow({"predict", f.model, "--input", f.x, "--output", f.out});
  ASSERT_EQ(s.status, 0) << s.err;
  const Array got = load_array(f.out);
  const Tensor want = load_model(f.model).predict(f.digits, {.batch_size = 256});
  ASSERT_EQ(got.sig, want.sig());
  EXPECT_EQ(std::memcmp(got.data->data(), want.data(), size_t(want.sig().bytes())), 0);
}
TEST(Predict, exact_gives_the_bits_of_the_net_as_it_was_written) {
  Files f;
  ASSERT_EQ(evenflow({"predict", f.model, "--input", f.x, "--output", f.out, "--exact"}).status, 0);
  const Array got = load_array(f.out);
  const Passes before = default_passes();
  set_default_passes(Passes::none);
  const Tensor want = load_model(f.model).predict(f.digits, {.batch_size = 256});
  set_default_passes(before);
  EXPECT_EQ(std::memcmp(got.data->data(), want.data(), size_t(want.sig().bytes())), 0);
}
TEST(Predict, takes_batches_of_any_size_integers_and_nothing) {
  Files f;
  save_array(f.x, cast(f.digits * 16, DType::u8));
  ASSERT_EQ(
      evenflow({"predict", f.model, "--input", f.x, "--output", f.out, "--batch-size", "7"}).status,
      0);
  EXPECT_EQ(load_array(f.out).sig, (Sig{DType::f32, {96, 10}}));
  save_array(f.x, zeros({0, 8, 8, 1}));
  const Said s = evenflow({"predict", f.model, "--input", f.x, "--output", f.out});
  ASSERT_EQ(s.status, 0) << s.err;
  EXPECT_EQ(load_array(f.out).sig, (Sig{DType::f32, {0, 10}}));
}
TEST(Predict, refuses_what_does_not_fit_and_keeps_the_old_file) {
  Files f;
  format::write_file_atomically(f.out, "old");
  auto refused = [&](const std::string& model, const std::string& x, const std::string& text) {
    expect_refusal({"predict", model, "--input", x, "--output", f.out}, text);
    EXPECT_EQ(contents(f.out), "old");
  };
  refused(f.folder / "none.keras", f.x, "none.keras");
  refused(f.model, f.folder / "none.npy", "none.npy");
  save_array(f.x, zeros({4, 8, 8}));
  refused(f.model, f.x, "expected (None, 8, 8, 1)");
  save_array(f.x, zeros({}));
  refused(f.model, f.x, "expected a batch");
  format::write_file_atomically(f.x, "\x93NUMPY and then nothing");
  refused(f.model, f.x, "x.npy");
  const std::string complex_header =
      "{'descr': '<c8', 'fortran_order': False, 'shape': (0,), }        \n";
  format::write_file_atomically(f.x, std::string("\x93NUMPY\x01\x00", 8) +
                                         char(complex_header.size()) + '\0' + complex_header);
  refused(f.model, f.x, "<c8");
  const std::string bytes = contents(f.model);
  format::write_file_atomically(f.model, bytes.substr(0, bytes.size() / 2));
  refused(f.model, f.x, "m.keras");
}
TEST(Predict, refuses_a_place_where_nothing_can_be_written) {
  Files f;
  expect_refusal({"predict", f.model, "--input", f.x, "--output", f.folder / "no/where.npy"},
                 "there is no folder");
  expect_refusal({"predict", f.model, "--input", f.x, "--output", f.folder / "."}, "is a folder");
}

TEST(Evaluate, gives_what_the_library_gives) {
  Files f;
  const Said s = evenflow({"evaluate", f.model, "--x", f.x, "--y", f.y, "--loss",
                           "sparse_categorical_crossentropy", "--json"});
  ASSERT_EQ(s.status, 0) << s.err;
  const json j = json::parse(s.out);
  const Model m = load_model(f.model);
  m.compile({.loss = "sparse_categorical_crossentropy", .metrics = {"accuracy"}});
  const Logs logs = m.evaluate(f.digits, f.labels, {});
  EXPECT_EQ(j.at("loss"), logs.at("loss"));
  EXPECT_EQ(j.at("accuracy"), logs.at("accuracy"));
  EXPECT_EQ(j.at("samples"), 96);
  const Said plain = evenflow(
      {"evaluate", f.model, "--x", f.x, "--y", f.y, "--loss", "sparse_categorical_crossentropy"});
  EXPECT_THAT(plain.out, AllOf(StartsWith("loss: "), HasSubstr("\naccuracy: ")));
}
TEST(Evaluate, refuses_labels_that_do_not_fit) {
  Files f;
  const std::vector<std::string> words{
      "evaluate", f.model, "--x", f.x, "--y", f.y, "--loss", "sparse_categorical_crossentropy"};
  save_array(f.y, f.labels + 10);
  expect_refusal(words, "label");
  save_array(f.y, zeros({5}, DType::i64));
  expect_refusal(words, "96");
  expect_usage_error({"evaluate", f.model, "--x", f.x, "--y", f.y, "--loss", "fun"}, "fun");
}

std::vector<std::string> train_words(const Files& f, const std::vector<std::string>& more) {
  std::vector<std::string> w{"train",  f.model,
                             "--x",    f.x,
                             "--y",    f.y,
                             "--loss", "sparse_categorical_crossentropy",
                             "--save", f.folder / "out.keras"};
  w.insert(w.end(), more.begin(), more.end());
  return w;
}
TEST(Train, trains_saves_and_writes_its_history) {
  Files f;
  const Said s = evenflow(train_words(
      f, {"--optimizer", "sgd", "--learning-rate", "0.05", "--epochs", "3", "--batch-size", "16",
          "--seed", "5", "--validation-split", "0.25", "--json", f.folder / "log.json"}));
  ASSERT_EQ(s.status, 0) << s.err;
  EXPECT_THAT(s.out, AllOf(StartsWith("Epoch 1/3\n5/5 "), HasSubstr(" - val_accuracy: ")));
  const json j = json::parse(contents(f.folder / "log.json"));
  EXPECT_EQ(j.at("optimizer"), "SGD");
  EXPECT_FLOAT_EQ(j.at("learning_rate"), 0.05f);
  EXPECT_EQ(j.at("loss"), "sparse_categorical_crossentropy");
  EXPECT_EQ(j.at("epochs"), 3);
  EXPECT_EQ(j.at("batch_size"), 16);
  EXPECT_EQ(j.at("samples"), 96);
  EXPECT_EQ(j.at("seed"), 5);
  EXPECT_EQ(j.at("skipped_steps"), json({0, 0, 0}));
  EXPECT_EQ(j.at("shuffle"), true);
  EXPECT_EQ(j.at("device"), "cpu");
  for (const char* name : {"loss", "accuracy", "val_loss", "val_accuracy"})
    EXPECT_EQ(j.at("history").at(name).size(), 3u) << name;
  const double loss = j["history"]["loss"][2];
  EXPECT_LT(loss, j["history"]["loss"][0]);
  const Model trained = load_model(f.folder / "out.keras");
  EXPECT_NE(trained.weights()[0].variable.read().to_vector(),
            f.net.weights()[0].variable.read().to_vector());
}
TEST(Train, the_same_seed_gives_the_same_weights) {
  Files f;
  std::vector<std::vector<float>> weights;
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(evenflow(train_words(f, {"--seed", "3"})).status, 0);
    weights.push_back(load_model(f.folder / "out.keras").weights()[0].variable.read().to_vector());
  }
  EXPECT_EQ(weights[0], weights[1]);
}
TEST(Train, validates_on_arrays) {
  Files f;
  const Said s = evenflow(train_words(f, {"--no-shuffle", "--val-x", f.x, "--val-y", f.y}));
  ASSERT_EQ(s.status, 0) << s.err;
  EXPECT_THAT(s.out, HasSubstr("val_loss"));
}
TEST(Train, refuses_before_it_trains) {
  Files f;
  expect_usage_error(train_words(f, {"--epochs", "0"}), "--epochs");
  expect_usage_error(train_words(f, {"--optimizer", "magic"}), "magic");
  for (const char* rate : {"-1", "nan", "inf", "0.1x"})
    expect_usage_error(train_words(f, {"--learning-rate", rate}),
                       "expected a finite number, at least 0");
  for (const char* option : {"--epochs", "--batch-size", "--seed"})
    for (const char* number : {"-1", "1.5", "x", "99999999999999999999"})
      expect_usage_error(train_words(f, {option, number}), "expected a whole number");
  expect_usage_error(train_words(f, {"--validation-split", "1.5"}), "--validation-split");
  expect_usage_error(train_words(f, {"--val-x", f.x}), "--val-y");
  expect_refusal(train_words(f, {"--validation-split", "1"}), "validation_split");
  expect_refusal(train_words(f, {"--json", f.folder / "no/log.json"}), "there is no folder");
  expect_refusal({"train", f.model, "--x", f.x, "--y", f.y, "--loss", "mse", "--save",
                  f.folder / "no/out.keras"},
                 "there is no folder");
  expect_refusal(
      {"train", f.model, "--x", f.x, "--y", f.y, "--loss", "mse", "--save", f.folder / "out.h5"},
      "ends in .keras");
  save_array(f.y, f.labels - 1);
  const Said s = evenflow(train_words(f, {}));
  EXPECT_EQ(s.status, 1);
  EXPECT_THAT(s.err, HasSubstr("label"));
  EXPECT_FALSE(std::filesystem::exists(f.folder / "out.keras"));
}
TEST(Train, targets_that_are_not_finite_are_refused_with_their_place) {
  Files f;
  Tensor targets = cast(f.labels, DType::f32);
  for (const float bad : {NAN, INFINITY}) {
    std::vector<float> v = targets.to_vector();
    v[17] = bad;
    save_array(f.y, tensor(v, targets.sig().shape));
    for (const char* loss : {"sparse_categorical_crossentropy", "mse", "binary_crossentropy"}) {
      expect_refusal({"train", f.model, "--x", f.x, "--y", f.y, "--loss", loss, "--save",
                      f.folder / "out.keras"},
                     "sample 17");
      expect_refusal({"evaluate", f.model, "--x", f.x, "--y", f.y, "--loss", loss}, "sample 17");
    }
  }
}
TEST(Train, an_interrupt_ends_it_and_saves_nothing) {
  Files f;
  std::vector<std::string> words = train_words(f, {"--epochs", "1000000"});
  words.insert(words.begin(), EVENFLOW_COMMAND);
  Process p(words);
  ASSERT_TRUE(p.await("Epoch 2/"));
  p.interrupt();
  const Said s = p.wait();
  EXPECT_EQ(s.signal, SIGINT);
  EXPECT_THAT(s.err, HasSubstr("interrupted"));
  EXPECT_FALSE(std::filesystem::exists(f.folder / "out.keras"));
}

TEST(Inspect, shows_layers_and_batch_normalization) {
  Files f;
  const Said s = evenflow({"inspect", f.model});
  ASSERT_EQ(s.status, 0) << s.err;
  EXPECT_THAT(s.out, StartsWith(load_model(f.model).summary()));
  EXPECT_THAT(s.out, testing::ContainsRegex("norm +train +exponential +0.9 +0.001 +6 +yes"));
  expect_refusal({"inspect", f.x}, "x.npy");
}
TEST(Inspect, draws_the_inference) {
  Files f;
  const std::string page = f.folder / "graph.html";
  ASSERT_EQ(evenflow({"inspect", f.model, "--graph", page}).status, 0);
  EXPECT_THAT(contents(page),
              AllOf(HasSubstr("conv2d"), HasSubstr("batch_normalize"), Not(HasSubstr("http"))));
  expect_refusal({"inspect", f.model, "--graph", f.folder / "no/graph.html"}, "there is no folder");
}

TEST(Export, the_runtime_alone_predicts_the_same_bits) {
  Files f;
  const std::string graph = f.folder / "m.efg", again = f.folder / "again.npy";
  const Said s = evenflow({"export", f.model, graph});
  ASSERT_EQ(s.status, 0) << s.err;
  const std::string program = EVENFLOW_EXAMPLES "/04_saved_graph";
  for (const Tensor& x : {f.digits, Dataset(Tensors{f.digits}).take(1).all()[0]}) {
    save_array(f.x, x);
    ASSERT_EQ(evenflow({"predict", f.model, "--input", f.x, "--output", f.out, "--exact"}).status,
              0);
    const Said r = run({program, graph, f.x, again});
    ASSERT_EQ(r.status, 0) << r.err;
    EXPECT_EQ(r.out, "predict: digit f32[2,8,8,1] -> class f32[2,10]\n");
    EXPECT_EQ(contents(again), contents(f.out));
  }
  // What it is linked with: no name of a class of model/ or train/, and no library that has them.
  const std::string bytes = contents(program);
  EXPECT_THAT(bytes, HasSubstr("evenflow10load_graph"));
  EXPECT_THAT(bytes, Not(HasSubstr("evenflow5ModelC")));
  EXPECT_THAT(bytes, Not(HasSubstr("libevenflow.so")));
}
TEST(Export, is_shown_by_inspect_and_refuses_damage) {
  Files f;
  const std::string graph = f.folder / "m.efg";
  ASSERT_EQ(evenflow({"export", f.model, graph}).status, 0);
  const Said s = evenflow({"inspect", graph, "--graph", f.folder / "graph.html"});
  ASSERT_EQ(s.status, 0) << s.err;
  EXPECT_THAT(s.out, AllOf(HasSubstr("model: small"), HasSubstr("in  digit f32[2,8,8,1]"),
                           HasSubstr("out class f32[2,10]")));
  EXPECT_THAT(contents(f.folder / "graph.html"), HasSubstr("conv2d"));
  const std::string bytes = contents(graph);
  format::write_file_atomically(graph, bytes.substr(0, bytes.size() - 100));
  expect_refusal({"inspect", graph}, "");
  expect_refusal({"export", f.model, f.folder / "no/m.efg"}, "there is no folder");
  expect_refusal({"export", f.folder / "none.keras", graph}, "none.keras");
}

TEST(Devices, are_listed_with_what_is_missing) {
  const json j = json::parse(evenflow({"devices", "--json"}).out);
  ASSERT_EQ(j.at(0).at("name"), "cpu");
  EXPECT_EQ(j[0].at("available"), true);
  for (auto& d : j) EXPECT_TRUE(d.contains(d.at("available") ? "description" : "reason"));
  EXPECT_THAT(evenflow({"devices"}).out, StartsWith("cpu "));
}

TEST(Bench, prints_one_json_object) {
  struct Case {
    std::vector<std::string> words, keys;
  };
  for (const Case& c : std::vector<Case>{
           {{"bn", "--shape", "2,4,4,8", "--pass", "forward", "--relu"},
            {"gb_per_s", "share_of_copy"}},
           {{"bn", "--shape", "2,4,4,8", "--pass", "backward", "--add", "--dtype", "bf16"},
            {"gb_per_s"}},
           {{"bn", "--shape", "2,4,4,8", "--pass", "inference", "--layout", "nchw"}, {"gb_per_s"}},
           {{"train", "--model", "mlp", "--batch", "4"}, {"losses"}},
           {{"infer", "--model", "resnet20", "--batch", "1"}, {"batch"}},
           {{"train", "--model", "resnet8", "--width", "2", "--batch", "2"}, {"losses", "width"}},
           {{"eager"}, {"add_us", "million_adds_grew_bytes"}},
           {{"startup"}, {}}}) {
    std::vector<std::string> words{"bench"};
    words.insert(words.end(), c.words.begin(), c.words.end());
    words.insert(words.end(), {"--json", "--seconds", "0.01"});
    const Said s = evenflow(words);
    ASSERT_EQ(s.status, 0) << c.words[0] << s.err;
    const json j = json::parse(s.out);
    EXPECT_EQ(j.at("bench"), c.words[0]);
    for (const char* key : {"median_ms", "best_ms", "runs", "peak_mb"})
      EXPECT_GT(j.at(key).get<double>(), 0) << c.words[0] << " " << key;
    EXPECT_LE(j["best_ms"], j["median_ms"]);
    for (auto& key : c.keys) EXPECT_TRUE(j.contains(key)) << c.words[0] << " " << key;
  }
}
TEST(Bench, a_ResNet_has_the_layers_and_the_channels_that_are_asked_for) {
  const auto arrays = [](const std::string& net, const std::string& width) {
    const Folder folder;
    const std::string path = folder / "w.npz";
    EXPECT_EQ(evenflow({"bench", "infer", "--model", net, "--width", width, "--batch", "1",
                        "--seconds", "0.01", "--save-weights", path})
                  .status,
              0);
    return format::read_npz(path);
  };
  for (int64_t n : {1, 3, 5}) {
    const auto found = arrays(concat({"resnet", 6 * n + 2}), "1");
    // A convolution, two of them on shortcuts, has one array, its batch norm four, the dense layer
    // two.
    EXPECT_EQ(found.size(), size_t(5 * (6 * n + 1 + 2) + 2));
  }
  EXPECT_EQ(arrays("resnet8", "3").at("0").sig.shape, Shape({3, 3, 3, 48}));
}
TEST(Bench, refuses_nonsense) {
  expect_usage_error({"bench"}, "subcommand is required");
  expect_usage_error({"bench", "bn", "--pass", "sideways"}, "--pass");
  expect_usage_error({"bench", "train", "--dtype", "i32"}, "--dtype");
  for (const char* net : {"", "resnet", "resnet2", "resnet10", "resnet20x", "resnet-20",
                          "resnet1208", "resnet99999999999999999998", "vgg"}) {
    expect_refusal({"bench", "infer", "--model", net},
                   concat({"--model is ", net, ", expected mlp"}));
    expect_refusal({"bench", "train", "--model", net}, "D = 6n + 2 from 8 to 1202");
  }
  expect_refusal({"bench", "train", "--model", "mlp", "--width", "2"}, "--width is 2 for mlp");
  for (const char* width : {"0", "-1", "1.5", "40000"})
    expect_usage_error({"bench", "train", "--width", width}, "--width");
  for (const char* shape : {"", "3", "2,x", "2,0", "2,-4", "4,4x", "99999999999999999999,2"})
    expect_usage_error({"bench", "bn", "--shape", shape}, "--shape");
}

TEST(Ops, are_listed_and_explained) {
  const Said all = evenflow({"ops"});
  EXPECT_EQ(all.status, 0);
  EXPECT_THAT(all.out, HasSubstr("\nbatch_norm "));
  EXPECT_EQ(evenflow({"ops", "batch_norm"}).out, manual_page(find_op("batch_norm")));
  expect_refusal({"ops", "batch_gnome"}, "batch_gnome");
}

}  // namespace
}  // namespace evenflow::cli
