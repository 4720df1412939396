// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/profile.h"

#include <algorithm>
#include <cmath>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "evenflow/backends/cpu/limits.h"
#include "evenflow/doctor/net.h"
#include "evenflow/format/file.h"
#include "evenflow/train/report.h"

namespace evenflow::cli {
namespace {

struct Options {
  std::string model, x, y, loss, optimizer = "sgd", trace, html;
  int64_t batch_size = 32, steps = 10;
  bool train = false, json = false;
};
constexpr int64_t kUntimed = 2;  // the first traces and plans, the second fills caches and pools

struct Measured {
  std::vector<Execution> executions, spans;
  std::vector<KernelTime> kernels, calls;
  MachineLimits limits;
  int64_t batch = 0;
  double step_us = 0;     // median
  double steps_us = 0;    // all together
  double kernels_us = 0;  // of them, in kernels
};

// The first samples of x, or noise where there is none.
Tensor input_of(const Options& o, const Model& model) {
  if (!o.x.empty()) return Dataset(Tensors{read_input(o.x)}).take(o.batch_size).all()[0];
  const std::vector<Dims> inputs = model.input_dims();
  if (inputs.size() != 1)
    fail({"profile: model \"", model.name(), "\" has ", inputs.size(), " inputs, expected one"});
  for (size_t i = 1; i < inputs[0].size(); ++i)
    if (inputs[0][i] < 0)
      fail({"profile: model \"", model.name(),
            "\" has an open extent besides the batch, expected inputs by --x"});
  return doctor::random_inputs(doctor::Net(model), o.batch_size)[0];
}
// Targets that any loss takes: classes in turn, as numbers or as rows with a one.
Tensor targets_of(const Options& o, const Model& model, int64_t n) {
  if (!o.y.empty()) return Dataset(Tensors{read_targets(o.y)}).take(n).all()[0];
  const Dims dims = model.output_dims().at(0);
  const int64_t classes = dims.back();
  std::vector<int64_t> extents(dims.begin(), dims.end());
  extents[0] = n;
  const bool sparse = Loss(o.loss).name().find("sparse") != std::string::npos;
  if (sparse) extents.pop_back();
  const Shape shape(extents);
  std::vector<float> v(size_t(shape.count()));
  for (size_t i = 0; i < v.size(); ++i) {
    const int64_t at = int64_t(i);
    v[i] = sparse ? float(at % classes) : float(at % classes == at / classes % classes);
  }
  return cast(tensor(v, shape), sparse ? DType::i64 : DType::f32);
}

Measured measure(const Options& o) {
  const Model model = load_model(o.model);
  const Tensor x = input_of(o, model);
  Measured m;
  m.batch = x.sig().shape[0];
  if (!m.batch) fail({"profile: there are no samples, expected at least one"});
  std::function<void()> step = [&] { model.predict(x, {.batch_size = m.batch}).data(); };
  Tensor y;
  if (o.train) {
    y = targets_of(o, model, m.batch);
    model.compile({.optimizer = Optimizer(o.optimizer), .loss = o.loss});
    step = [&] { model.train_on_batch(x, y); };
  }
  Interruptible between_steps;
  for (int64_t i = 0; i < kUntimed; ++i) step();
  {
    Recorder recorder;
    for (int64_t i = 0; i < o.steps; ++i) {
      recorder.span(concat({o.train ? "training step " : "inference ", i}), step);
      Interruptible::check();
    }
    m.executions = recorder.executions(), m.spans = recorder.spans();
  }
  auto machine = std::make_shared<cpu::Limits>();
  m.limits = {machine->threads, machine->flops_per_s,
              [machine](double bytes) { return machine->copy_bytes_per_s(bytes); }};
  m.kernels = kernel_times(m.executions, m.limits, false);
  m.calls = kernel_times(m.executions, m.limits, true);
  std::vector<double> us;
  for (auto& s : m.spans) us.push_back(double(s.end_ns - s.begin_ns) / 1e3);
  std::sort(us.begin(), us.end());
  m.step_us = us[us.size() / 2];
  for (double t : us) m.steps_us += t;
  for (auto& k : m.kernels) m.kernels_us += k.us;
  return m;
}

std::string number(double v, const char* format = "%.3g") {
  char text[40];
  std::snprintf(text, sizeof text, v >= 1000 ? "%.0f" : format, v);
  return text;
}
// Of a call with many inputs the beginning.
std::string shortened(const std::string& s) { return s.size() > 90 ? s.substr(0, 87) + "..." : s; }
// A heading, then a row a kernel; all of a step.
std::vector<std::vector<std::string>> table(const Measured& m, const std::vector<KernelTime>& times,
                                            bool each_layer) {
  std::vector<std::vector<std::string>> rows{{"kernel"}};
  if (each_layer) rows[0].push_back("layer");
  rows[0].insert(rows[0].end(), {"ms a step", "% of step", "calls", "MB", "GB/s", "MFLOP",
                                 "GFLOP/s", "% of limit"});
  if (each_layer) rows[0].push_back("shapes");
  const double steps = double(m.spans.size());
  for (auto& t : times) {
    std::vector<std::string> row{t.op + " [" + t.kernel + "]"};
    if (each_layer) row.push_back(t.name);
    const bool known = t.us > 0 && t.bytes > 0;
    row.insert(row.end(),
               {number(t.us / steps / 1e3), number(100 * t.us / m.steps_us, "%.1f"),
                number(double(t.calls) / steps), known ? number(t.bytes / steps / 1e6) : "",
                known ? number(t.bytes / t.us / 1e3) : "",
                t.flops > 0 ? number(t.flops / steps / 1e6) : "",
                t.flops > 0 ? number(t.flops / t.us / 1e3) : "",
                known ? number(100 * t.limit_us / t.us, "%.0f") : ""});
    if (each_layer) row.push_back(shortened(t.shapes));
    rows.push_back(std::move(row));
  }
  return rows;
}

nlohmann::json to_json(const KernelTime& t, const Measured& m) {
  nlohmann::json j{
      {"op", t.op},       {"kernel", t.kernel}, {"calls", t.calls},          {"us", t.us},
      {"bytes", t.bytes}, {"flops", t.flops},   {"share", t.us / m.steps_us}};
  if (!t.shapes.empty()) j["name"] = t.name, j["shapes"] = t.shapes;
  if (t.limit_us > 0 && t.us > 0) j["share_of_limit"] = t.limit_us / t.us;
  return j;
}
nlohmann::json to_json(const Options& o, const Measured& m) {
  nlohmann::json j{{"model", o.model},
                   {"mode", o.train ? "train" : "infer"},
                   {"batch", m.batch},
                   {"steps", m.spans.size()},
                   {"threads", m.limits.threads},
                   {"step_us", m.step_us},
                   {"kernels_us", m.kernels_us / double(m.spans.size())},
                   {"limits",
                    {{"gflop_per_s", m.limits.flops_per_s / 1e9},
                     {"copy_gb_per_s", m.limits.copy_bytes_per_s(1e12) / 1e9}}}};
  for (auto& [key, times] : {std::pair{"kernels", &m.kernels}, std::pair{"calls", &m.calls}}) {
    j[key] = nlohmann::json::array();
    for (auto& t : *times) j[key].push_back(to_json(t, m));
  }
  return j;
}

std::string what_of(const Options& o, const Measured& m) {
  return concat({o.train ? "A training step" : "Inference", " of ", o.model, ", batch ", m.batch});
}
std::string page(const Options& o, const Measured& m) {
  double least = 0;
  for (auto& k : m.kernels) least += k.limit_us;
  Report page(what_of(o, m),
              concat({m.spans.size(), " of them on ", m.limits.threads, " thread",
                      m.limits.threads == 1 ? "" : "s", ", by Evenflow " EVENFLOW_VERSION "."}));
  page.facts({{number(m.step_us / 1e3) + " ms", "a step, the median"},
              {number(100 * m.kernels_us / m.steps_us, "%.0f") + " %",
               "of that in kernels; the rest plans, locks, makes results"},
              {number(100 * least / m.steps_us, "%.0f") + " %", "of the limit, all in all"},
              {number(m.limits.flops_per_s / 1e9) + " GFLOP/s",
               "this machine's multiply-adds of f32, measured"},
              {number(m.limits.copy_bytes_per_s(1e12) / 1e9) + " GB/s",
               "its memory, read and written by a copy, measured"}});
  page.section(
      "Kernels",
      "Press a heading to sort. Of calls that ran side by side inside another (tiles of a "
      "batch) each has its part of that one's time, so that the column adds up; that one has "
      "what is left: merging, and threads that wait. The limit "
      "is what the bytes, each read or written once, and the FLOPs take at the least: at "
      "the speed of a copy of as many bytes, in the caches where they fit, and at the "
      "multiply-adds of f32; 16-bit products may be beyond that.");
  page.table(table(m, m.kernels, false), true);
  page.section("Layer by layer", "The same calls, apart by layer and shapes.");
  page.table(table(m, m.calls, true), true);
  return page.html();
}

void run(const Options& o) {
  for (auto* path : {&o.trace, &o.html})
    if (!path->empty()) check_writable(*path);
  const Measured m = measure(o);
  if (!o.trace.empty()) format::write_file_atomically(o.trace, chrome_trace(m.executions, m.spans));
  if (!o.html.empty()) format::write_file_atomically(o.html, page(o, m));
  if (o.json) return print_json(to_json(o, m));
  std::printf("%s: %s ms, of which %s %% in kernels\n\n", what_of(o, m).c_str(),
              number(m.step_us / 1e3).c_str(),
              number(100 * m.kernels_us / m.steps_us, "%.0f").c_str());
  print_table(table(m, m.kernels, false));
}

}  // namespace

void add_profile(CLI::App& app) {
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand("profile", "Where the time of a model goes, kernel by kernel");
  c->add_option("model", o->model, "the model")->required()->type_name("MODEL.keras");
  c->add_option("--batch-size", o->batch_size, "samples of a step")
      ->check(whole<int64_t>(1))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--steps", o->steps, "how many are measured")
      ->check(CLI::Range(int64_t(1), int64_t(100000)))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--x", o->x, "inputs, of which the first are taken, instead of noise")
      ->type_name("X.npy");
  auto* train = c->add_flag("--train", o->train, "steps of training instead of inference");
  auto* loss = c->add_option("--loss", o->loss, "Keras's name of the loss to train with")
                   ->check(makes<Loss>())
                   ->type_name("NAME");
  train->needs(loss), loss->needs(train);
  c->add_option("--y", o->y, "targets, of which the first are taken, instead of classes in turn")
      ->needs(train)
      ->type_name("Y.npy");
  c->add_option("--optimizer", o->optimizer, "sgd, rmsprop, adam or adamw")
      ->needs(train)
      ->check(makes<Optimizer>())
      ->capture_default_str()
      ->type_name("NAME");
  c->add_option("--trace", o->trace,
                "writes every call here, for chrome://tracing or ui.perfetto.dev")
      ->type_name("TRACE.json");
  c->add_option("--html", o->html, "writes the table here, with a line a layer")
      ->type_name("PROFILE.html");
  c->add_flag("--json", o->json, "one JSON object on standard output");
  c->callback([o] { run(*o); });
}

}  // namespace evenflow::cli
