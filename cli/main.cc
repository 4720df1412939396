// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "cli/commands.h"
#include "evenflow/format/npy.h"

namespace evenflow::cli {
Tensor read_tensor(const std::string& path) {
  Array a = format::read_npy(path);
  return tensor(a.sig, a.data);
}
Tensor read_input(const std::string& path) {
  Tensor x = read_tensor(path);
  if (!x.rank()) fail({path, ": the array is ", str(x.sig()), ", expected a batch"});
  return cast(x, DType::f32);
}
Tensor read_targets(const std::string& path) {
  Tensor y = read_tensor(path);
  if (!y.rank()) fail({path, ": the array is ", str(y.sig()), ", expected a batch"});
  return is_floating(y.dtype()) ? cast(y, DType::f32) : cast(y, DType::i64);
}
}  // namespace evenflow::cli

int main(int argc, char** argv) {
  CLI::App app("Trains, runs and looks at batch-normalised networks");
  app.name("evenflow");
  app.require_subcommand(1);
  app.set_version_flag("--version", EVENFLOW_VERSION);
  app.add_option_function<std::string>("--device", [](const std::string& name) { evenflow::Device{name}; }, "cpu (what this build has)");
  using namespace evenflow::cli;
  for (auto* add : {add_predict, add_train, add_evaluate, add_inspect, add_export, add_devices, add_demo, add_bench}) add(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "evenflow: %s\n", e.what());
    return 1;
  }
  return 0;
}
