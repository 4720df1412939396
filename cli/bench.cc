// SPDX-License-Identifier: Apache-2.0
#include "cli/bench.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "cli/bench_data.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "evenflow/core/accelerator.h"
#include "evenflow/core/parallel.h"
#include "evenflow/format/file.h"
#include "evenflow/format/json.h"
#include "evenflow/format/npy.h"
#include "evenflow/format/npz.h"
#include "evenflow/train/memory.h"

namespace evenflow::cli {
namespace {
using Clock = std::chrono::steady_clock;
double since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}
// Of its own, so that callgrind can count within it alone: bench/check.py.
[[gnu::noinline]] void measured_work(const std::function<void()>& work) {
  work();
  asm volatile("");  // a call, and no jump
}
}  // namespace

std::vector<Timing> alternate(const std::vector<std::function<void()>>& works, double seconds,
                              int64_t min_runs) {
  Interruptible between_runs;
  for (auto& w : works) w(), w();
  std::vector<std::vector<double>> ms(works.size());
  const auto start = Clock::now();
  for (int64_t run = 0; run < min_runs || since(start) < seconds; ++run)
    for (size_t i = 0; i < works.size(); ++i) {
      const auto t = Clock::now();
      i ? works[i]() : measured_work(works[i]);
      ms[i].push_back(since(t) * 1e3);
      Interruptible::check();
    }
  std::vector<Timing> r;
  for (auto& v : ms) {
    std::sort(v.begin(), v.end());
    r.push_back({v[v.size() / 2], v[0], int64_t(v.size())});
  }
  return r;
}
double peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::atof(line.c_str() + 6) / 1024;
  return 0;
}
nlohmann::json to_json(const Timing& t) {
  return {
      {"median_ms", t.median_ms}, {"best_ms", t.best_ms}, {"runs", t.runs}, {"peak_mb", peak_mb()}};
}

namespace {
void print(const nlohmann::json& j, bool json) {
  if (json) return print_json(j);
  for (auto& [k, v] : j.items()) std::printf("%-16s %s\n", k.c_str(), v.dump().c_str());
}
void add_device(nlohmann::json& j) {
  j["device"] = str(default_device());
  if (Accelerator* on = accelerator(default_device()))
    j["device_peak_mb"] = double(on->memory().peak) / (1 << 20);
}
// Of what is large, a million numbers over and over: drawing them would take longer than the work.
Tensor normal_data(const Shape& s, uint64_t seed) {
  constexpr int64_t kDrawn = 1 << 20;
  if (s.count() <= 4 * kDrawn) return tensor(Initializer("RandomNormal", 0, 1)(s, seed), s);
  std::vector<float> v = Initializer("RandomNormal", 0, 1)({kDrawn}, seed);
  v.resize(size_t(s.count()));
  for (size_t at = kDrawn; at < v.size(); at += kDrawn)
    std::copy_n(v.begin(), std::min(size_t(kDrawn), v.size() - at), v.begin() + long(at));
  return tensor(v, s);
}

// ---- nets

constexpr int64_t kMostLayers = 1202;  // the deepest of He et al. 2016
SymbolicTensor conv_bn(const SymbolicTensor& x, int64_t filters, int64_t size, int64_t stride) {
  auto y = Conv2D({.filters = filters,
                   .kernel_size = size,
                   .strides = stride,
                   .padding = "same",
                   .use_bias = false,
                   .kernel_initializer = "he_normal"})(x);
  return BatchNormalization()(y);
}
// He et al. 2016, section 4.2, of 6n + 2 layers: n blocks a stage; 1x1 convolution and batch norm
// on the shortcut where the shape changes. The stages have width times 16, 32 and 64 channels.
Model resnet(const std::string& name, int64_t blocks, int64_t width) {
  auto in = Input({32, 32, 3});
  auto x = ReLU()(conv_bn(in, 16 * width, 3, 1));
  for (int64_t stage = 0; stage < 3; ++stage)
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t filters = (16 << stage) * width, stride = stage && !block ? 2 : 1;
      auto y = conv_bn(ReLU()(conv_bn(x, filters, 3, stride)), filters, 3, 1);
      auto skip = stride > 1 ? conv_bn(x, filters, 1, stride) : x;
      x = ReLU()(Add()({y, skip}));
    }
  return Model(in, Dense({.units = 10, .activation = "softmax"})(GlobalAveragePooling2D()(x)),
               name);
}
Model mlp() {
  auto in = Input({784});
  auto x = in;
  for (int i = 0; i < 3; ++i)
    x = Activation("sigmoid")(BatchNormalization()(Dense({.units = 100})(x)));
  return Model(in, Dense({.units = 10, .activation = "softmax"})(x), "mlp");
}
Model net(const std::string& name, int64_t width) {
  if (name == "mlp") {
    if (width != 1) fail({"bench: --width is ", width, " for mlp, expected 1: only ResNets widen"});
    return mlp();
  }
  constexpr std::string_view kResnet = "resnet";
  int64_t depth = 0;
  if (name.starts_with(kResnet)) {
    const char* const end = name.data() + name.size();
    auto [at, error] = std::from_chars(name.data() + kResnet.size(), end, depth);
    if (error != std::errc() || at != end) depth = 0;
  }
  if (depth < 8 || depth > kMostLayers || depth % 6 != 2)
    fail({"bench: --model is ", name, ", expected mlp or resnetD with D = 6n + 2 from 8 to ",
          kMostLayers});
  return resnet(name, (depth - 2) / 6, width);
}

struct Options {
  std::vector<int64_t> shape = {32, 56, 56, 64};
  std::string dtype = "f32", pass = "both", layout = "nhwc", model = "resnet20", weights,
              save_weights;
  std::string activations = "automatic", pipeline, folder;
  bool relu = false, add = false, json = false;
  int64_t batch = 0, width = 1, passes = 3;
  double seconds = 3;
};
// Layer by layer, in the order in which the net runs: that in which others build it.
std::vector<Weight> weights_of(const Model& m) {
  std::vector<Weight> r;
  std::set<const LayerImpl*> seen;
  for (auto& c : m.impl().calls)
    if (seen.insert(c.layer.get()).second)
      r.insert(r.end(), c.layer->weights.begin(), c.layer->weights.end());
  return r;
}
void load_weights(const Model& m, const std::string& path) {
  auto arrays = format::read_npz(path);
  size_t i = 0;
  for (auto& w : weights_of(m)) {
    auto it = arrays.find(concat({i++}));
    if (it == arrays.end())
      fail({"bench: ", path, " has no array ", i - 1, " for ", w.variable.name()});
    w.variable.assign(cast(tensor(it->second.sig, it->second.data), w.variable.sig().dtype));
  }
}
void save_weights(const Model& m, const std::string& path) {
  std::map<std::string, Array> arrays;
  size_t i = 0;
  for (auto& w : weights_of(m)) {
    Tensor t = w.variable.read();
    arrays[concat({i++})] = {t.sig(), t.buffer()};
  }
  format::write_file_atomically(path, format::npz_bytes(arrays));
}
void bench_bn(const Options& o) {
  std::vector<int64_t> d = o.shape;
  const DType type = parse_dtype(o.dtype);
  int64_t axis = -1;
  if (o.layout == "nchw") std::rotate(d.begin() + 1, d.end() - 1, d.end()), axis = 1;
  const Shape s(d);
  const int64_t c = s.dim(int(axis));
  Tensor x = cast(normal_data(s, 1), type), g = cast(normal_data(s, 2), type),
         r = cast(normal_data(s, 3), type);
  Variable gamma(ones({c})), beta(zeros({c}));
  Tensor mean = zeros({c}), variance = ones({c});
  const BatchNormAttrs attrs{.axis = {axis}, .activation = o.relu ? "relu" : "linear"};
  auto forward = [=](const Tensor& x, const Tensor& r) {
    return batch_norm(x, gamma, beta, attrs, o.add ? r : Tensor());
  };
  auto inference = compile([=](const Tensor& x, const Tensor& r) {
    Tensor y = batch_normalize(x, mean, variance, gamma, beta, 1e-3, {axis});
    if (o.add) y = y + r;
    return o.relu ? relu(y) : y;
  });
  auto fwd = compile([=](const Tensor& x, const Tensor& r) {
    auto b = forward(x, r);
    return Tensors{b.y, b.statistics.mean, b.statistics.m2};
  });
  auto both = compile([=](const Tensor& x, const Tensor& g, const Tensor& r) {
    auto b = forward(x, r);
    std::vector<Wrt> wrt{x, gamma, beta};
    if (o.add) wrt.push_back(r);
    Tensors d = gradient({b.y}, {g}, wrt);
    d.push_back(b.y), d.push_back(b.statistics.mean), d.push_back(b.statistics.m2);
    return d;
  });
  // The backward alone: from what the forward leaves.
  auto statistics = batch_norm_statistics(x, {axis});
  auto backward = compile([=](const Tensor& x, const Tensor& g, const Tensor& r) {
    std::vector<In> in{x, g, statistics.n, statistics.mean, statistics.m2, gamma, beta};
    if (o.add) in.emplace_back(r);
    BatchNormAttrs a = attrs;
    a.residual = o.add;
    return apply(find_op("batch_norm_grad"), std::make_shared<const BatchNormAttrs>(a), in);
  });
  std::function<void()> work;
  const double bytes = double(x.sig().bytes());
  double moved;  // what has to be read and written once, at the least
  if (o.pass == "inference")
    work = [&] { inference(x, r); }, moved = (2 + o.add) * bytes;
  else if (o.pass == "forward")
    work = [&] { fwd(x, r); }, moved = (3 + o.add) * bytes;
  else if (o.pass == "backward")
    work = [&] { backward(x, g, r); }, moved = (5 + 2 * o.add) * bytes;
  else
    work = [&] { both(x, g, r); }, moved = (8 + 3 * o.add) * bytes;
  // The machine's streaming limit: a kernel that only reads and writes as many bytes.
  Accelerator* const on = accelerator(default_device());
  BufferPtr from = make_buffer(int64_t(moved / 2), on), to = make_buffer(int64_t(moved / 2), on);
  if (!on)
    std::memset(from->data(), 1, size_t(from->bytes())),
        std::memset(to->data(), 1, size_t(to->bytes()));
  auto copy = [&] {
    if (on) return on->copy(to->data(), from->data(), from->bytes());
    parallel_for(from->bytes(), 1 << 18, [&](int64_t b, int64_t e) {
      std::memcpy(static_cast<char*>(to->data()) + b, static_cast<const char*>(from->data()) + b,
                  size_t(e - b));
    });
  };
  // An accelerator works behind our back: several runs are asked for, and waited for together.
  const int64_t queued = on ? 20 : 1;
  auto waited = [&](const std::function<void()>& f) {
    return [=] {
      for (int64_t i = 0; i < queued; ++i) f();
      if (on) on->synchronize();
    };
  };
  auto t = alternate({waited(work), waited(copy)}, o.seconds);
  for (Timing& x : t) x.median_ms /= double(queued), x.best_ms /= double(queued);
  nlohmann::json j = to_json(t[0]);
  add_device(j);
  j["bench"] = "bn", j["shape"] = d, j["dtype"] = o.dtype, j["pass"] = o.pass,
  j["layout"] = o.layout, j["relu"] = o.relu, j["add"] = o.add, j["threads"] = thread_count();
  j["gb_per_s"] = moved / t[0].median_ms / 1e6;
  j["copy_gb_per_s"] = moved / t[1].median_ms / 1e6;
  j["share_of_copy"] = t[1].median_ms / t[0].median_ms;
  print(j, o.json);
}

void bench_train(const Options& o) {
  if (o.dtype == "bf16")
    set_dtype_policy("mixed_bfloat16");
  else if (o.dtype != "f32")
    fail({"bench: --dtype is ", o.dtype, ", expected f32 or bf16"});
  set_random_seed(1);
  Model m = net(o.model, o.width);
  const bool is_mlp = o.model == "mlp";
  const int64_t batch = o.batch ? o.batch : is_mlp ? 60 : 128;
  if (!o.weights.empty()) load_weights(m, o.weights);
  if (!o.save_weights.empty()) save_weights(m, o.save_weights);
  m.compile({.optimizer = SGD({.learning_rate = 0.1, .momentum = is_mlp ? 0.0 : 0.9}),
             .loss = "sparse_categorical_crossentropy",
             .activations = parse_activations(o.activations)});
  Tensor x = normal_data(is_mlp ? Shape{batch, 784} : Shape{batch, 32, 32, 3}, 7);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < batch; ++i) labels.push_back(i % 10);
  Tensor y = tensor(labels, {batch});
  auto losses = nlohmann::json::array();  // the first ten
  auto step = [&] {
    const double loss = m.train_on_batch(x, y).at("loss");
    if (losses.size() < 10) losses.push_back(json_number(loss));
  };
  auto t = alternate({step}, o.seconds, 10);
  nlohmann::json j = to_json(t[0]);
  add_device(j);
  j["bench"] = "train", j["model"] = o.model, j["width"] = o.width, j["batch"] = batch,
  j["dtype"] = o.dtype, j["threads"] = thread_count();
  j["losses"] = losses;
  print(j, o.json);
}
void bench_infer(const Options& o) {
  if (o.dtype == "bf16") set_dtype_policy("mixed_bfloat16");
  set_random_seed(1);
  Model m = net(o.model, o.width);
  const int64_t batch = o.batch ? o.batch : 128;
  if (!o.weights.empty()) load_weights(m, o.weights);
  if (!o.save_weights.empty()) save_weights(m, o.save_weights);
  Tensor x = normal_data(o.model == "mlp" ? Shape{batch, 784} : Shape{batch, 32, 32, 3}, 7);
  auto t = alternate({[&] { m.predict(x, {.batch_size = batch}).data(); }}, o.seconds, 10);
  nlohmann::json j = to_json(t[0]);
  add_device(j);
  j["bench"] = "infer", j["model"] = o.model, j["width"] = o.width, j["batch"] = batch,
  j["dtype"] = o.dtype, j["threads"] = thread_count();
  const auto y = m.predict(x, {.batch_size = batch}).to_vector();  // of the first sample
  j["output"] = std::vector<double>(y.begin(), y.begin() + 10);
  print(j, o.json);
}
// An epoch of a shuffled data set, batch by batch.
void bench_data(const Options& o) {
  if (!o.pipeline.empty()) return print(measured_pipeline(o.pipeline, o.folder, o.passes), o.json);
  const int64_t batch = o.batch ? o.batch : 128, batches = 8;
  const Dataset epoch =
      Dataset(normal_data({batch * batches, 32, 32, 3}, 7),
              tensor(std::vector<int64_t>(size_t(batch * batches)), {batch * batches}))
          .shuffle(1)
          .batch(batch);
  int64_t number = 0;
  auto t = alternate({[&] {
                       for (int64_t i = 0; i < batches; ++i) epoch.batch_at(i, number);
                       ++number;
                     }},
                     o.seconds, 10);
  nlohmann::json j = to_json(t[0]);
  j["bench"] = "data", j["batch"] = batch, j["batches"] = batches, j["threads"] = thread_count();
  print(j, o.json);
}
void bench_eager(const Options& o) {
  Tensor a = ones({4}), b = ones({4});
  constexpr int64_t kCalls = 1000;
  auto t = alternate({[&] {
                       for (int64_t i = 0; i < kCalls; ++i) (a + b).data();
                     }},
                     std::min(o.seconds, 1.0));
  const int64_t live = Buffer::counters().live;
  Tensor s = zeros({4});
  for (int64_t i = 0; i < 1000000; ++i) s = s + b;
  nlohmann::json j = to_json(t[0]);
  j["bench"] = "eager", j["add_us"] = t[0].median_ms * 1e3 / double(kCalls),
  j["best_add_us"] = t[0].best_ms * 1e3 / double(kCalls);
  j["million_adds"] = s.to_vector()[0],
  j["million_adds_grew_bytes"] = int64_t(Buffer::counters().live) - live;
  print(j, o.json);
}
// A folder that goes with what is in it.
struct TemporaryFolder {
  std::string path = (std::filesystem::temp_directory_path() / "evenflow-XXXXXX").string();
  TemporaryFolder() {
    if (!mkdtemp(path.data()))
      fail(Code::ResourceExhausted, {"bench: no temporary folder can be made: ", path});
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};
// Runs this program with these arguments.
void run_self(std::vector<std::string> words) {
  std::vector<char*> args;
  for (auto& w : words) args.push_back(w.data());
  args.push_back(nullptr);
  pid_t pid = 0;
  int status = 0;
  if (posix_spawn(&pid, "/proc/self/exe", nullptr, nullptr, args.data(), environ) != 0 ||
      waitpid(pid, &status, 0) != pid || status != 0) {
    Interruptible::check();  // it reached the child too
    fail(Code::Internal, {"bench: `", words[0], " ", words[1], "` failed"});
  }
}
// From the start of a process to the first prediction of a small model.
void bench_startup(const Options& o) {
  const TemporaryFolder folder;
  const std::string model = folder.path + "/m.keras", in = folder.path + "/x.npy";
  set_random_seed(1);
  Sequential m({to_layer(Input({8, 8, 1})), Conv2D({.filters = 8, .kernel_size = 3}),
                BatchNormalization(), ReLU(), Flatten(), Dense({.units = 10})});
  m.save(model);
  Tensor x = normal_data({1, 8, 8, 1}, 3);
  format::write_npy(in, {x.sig(), x.buffer()});
  auto t = alternate(
      {[&] {
        run_self({"evenflow", "predict", model, "--input", in, "--output", folder.path + "/y.npy"});
      }},
      o.seconds);
  nlohmann::json j = to_json(t[0]);
  j["bench"] = "startup";
  print(j, o.json);
}
}  // namespace

void add_bench(CLI::App& app) {
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand("bench", "Measures this build on this machine");
  c->require_subcommand(1);
  auto add = [&](const char* name, const char* text, void (*run)(const Options&)) {
    auto* s = c->add_subcommand(name, text);
    s->add_flag("--json", o->json, "one JSON object on standard output");
    s->add_option("--seconds", o->seconds, "how long to measure")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->type_name("S");
    s->callback([o, run] { run(*o); });
    return s;
  };
  auto* bn = add("bn", "batch normalisation", bench_bn);
  CLI::Validator extent = CLI::Range(int64_t(1), int64_t(1) << 40);
  extent.description("");
  bn->add_option("--shape", o->shape, "extents, channels last")
      ->delimiter(',')
      ->expected(2, 8)
      ->check(extent)
      ->default_str("32,56,56,64")
      ->type_name("N,N,...");
  bn->add_option("--dtype", o->dtype, "f32 or bf16")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "f64"}));
  bn->add_option("--pass", o->pass, "forward, backward, both or inference")
      ->check(CLI::IsMember({"forward", "backward", "both", "inference"}));
  bn->add_flag("--relu", o->relu, "with a ReLU after it");
  bn->add_flag("--add", o->add, "with a residual added before the ReLU");
  bn->add_option("--layout", o->layout, "nhwc or nchw")->check(CLI::IsMember({"nhwc", "nchw"}));
  for (auto* s :
       {add("train", "a training step", bench_train), add("infer", "inference", bench_infer)}) {
    s->add_option("--model", o->model, "mlp, or resnet8, 14, 20, ...: 6n + 2 layers")
        ->capture_default_str()
        ->type_name("NET");
    s->add_option("--width", o->width, "of a ResNet: its channels are this many times 16, 32, 64")
        ->check(whole<int16_t>(1));
    s->add_option("--batch", o->batch, "samples at a time")->check(whole<int64_t>(1));
    s->add_option("--dtype", o->dtype, "f32 or bf16")->check(CLI::IsMember({"f32", "bf16"}));
    s->add_option("--weights", o->weights,
                  "weights to start from, .npz with arrays 0, 1, ... layer by layer");
    if (s->get_name() == "train")
      s->add_option("--activations", o->activations, "what the backward pass keeps")
          ->check(CLI::IsMember({"automatic", "keep", "recompute", "bitmask", "in_place"}));
    s->add_option("--save-weights", o->save_weights, "writes the first weights there");
  }
  auto* data = add("data", "an epoch of shuffled batches of images, or a pipeline", bench_data);
  data->add_option("--batch", o->batch, "samples at a time")->check(whole<int64_t>(1));
  data->add_option("--pipeline", o->pipeline,
                   "one of those that bench/data_peers.py makes files for")
      ->type_name("NAME");
  data->add_option("--folder", o->folder, "where these files are")->type_name("FOLDER");
  data->add_option("--passes", o->passes, "over the pipeline, the first not counted; 0: one batch")
      ->check(whole<int64_t>(0));
  add("startup", "from the start of a process to a prediction", bench_startup);
  add("eager", "an addition of four floats, asked for at once", bench_eager);
}

}  // namespace evenflow::cli
