// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/bank.h"

#include <filesystem>

#include "cli/commands.h"

namespace evenflow::cli {
namespace {

struct Options {
  std::string model, bank, add, x, apply, remove, out;
  doctor::CaptureOptions capture;
  doctor::AdaptOptions adapt;
  bool json = false;
};

// Why a set is not of this model, or "".
std::string misfit(const doctor::StatisticsBank& bank, const std::string& name,
                   const Model& model) {
  try {
    const doctor::UseStatistics use(bank, name, model);
    return {};
  } catch (const Error& e) {
    return e.what();
  }
}
void list(const doctor::StatisticsBank& bank, const Model& model, bool as_json) {
  nlohmann::json sets = nlohmann::json::array();
  for (auto& name : bank.names()) {
    int64_t channels = 0;
    bool affine = false;
    for (auto& [path, l] : bank.at(name))
      channels += int64_t(l.mean.size()), affine |= !l.gamma.empty() || !l.beta.empty();
    const std::string why = misfit(bank, name, model);
    const size_t layers = bank.at(name).size();
    sets.push_back({{"name", name},
                    {"layers", layers},
                    {"channels", channels},
                    {"affine", affine},
                    {"fits", why.empty()}});
    if (as_json) continue;
    std::printf("%s: %zu layers, %lld channels%s%s%s\n", name.c_str(), layers,
                static_cast<long long>(channels), affine ? ", with gamma and beta" : "",
                why.empty() ? "" : "; not of this model: ", why.c_str());
  }
  if (as_json) print_json({{"sets", sets}});
}
void add(doctor::StatisticsBank& bank, const Model& model, const Options& o) {
  std::vector<doctor::Recalibrated> moved;
  if (o.x.empty())
    bank.capture(o.add, model, o.capture);
  else
    moved = bank.adapt(o.add, model, read_input(o.x), o.adapt);
  bank.save(o.bank);
  nlohmann::json layers = nlohmann::json::array();
  for (auto& l : moved) {
    layers.push_back({{"layer", l.layer}, {"divergence", json_number(l.divergence)}});
    if (!o.json)
      std::printf("%s: divergence from the old averages %.4g\n", l.layer.c_str(), l.divergence);
  }
  if (o.json) print_json({{"name", o.add}, {"layers", layers}});
}

}  // namespace

void add_bank(CLI::App& app) {
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand(
      "bank", "Keeps named sets of statistics for a model, one for each domain of its inputs");
  c->add_option("model", o->model, "the model")->required()->type_name("MODEL.keras");
  c->add_option("--bank", o->bank, "the sets; without another option they are listed")
      ->required()
      ->type_name("BANK.npz");
  auto* added = c->add_option("--add", o->add,
                              "adds or replaces a set: the model's own averages, or with --x "
                              "those of data; begins the file if there is none")
                    ->type_name("NAME");
  auto* x = c->add_option("--x", o->x, "inputs of the domain, without labels")
                ->needs(added)
                ->type_name("X.npy");
  c->add_flag("--affine", o->capture.affine, "the set has gamma and beta of its own, too")
      ->needs(added)
      ->excludes(x);
  c->add_option("--prior", o->adapt.prior, "samples that the averages to start from count for")
      ->check(rate)
      ->needs(x)
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--from", o->adapt.source, "the set to start from; without: the model's own")
      ->needs(x)
      ->type_name("NAME");
  c->add_option("--batch-size", o->adapt.batch_size, "samples at a time; changes no result")
      ->check(whole<int64_t>(1))
      ->needs(x)
      ->capture_default_str()
      ->type_name("N");
  auto* removed =
      c->add_option("--remove", o->remove, "drops a set")->excludes(added)->type_name("NAME");
  auto* applied = c->add_option("--apply", o->apply, "writes the model with a set for its own")
                      ->excludes(added)
                      ->excludes(removed)
                      ->type_name("NAME");
  auto* out = c->add_option("-o,--output", o->out, "where that model goes")
                  ->needs(applied)
                  ->type_name("OUT.keras");
  applied->needs(out);
  c->add_flag("--json", o->json, "one JSON object on standard output")
      ->excludes(removed)
      ->excludes(applied);
  c->callback([o, added, removed, applied] {
    if (*applied) check_model_writable(o->out);
    if (*added || *removed) check_writable(o->bank);
    const Model model = load_model(o->model);
    doctor::StatisticsBank bank;
    if (!*added || std::filesystem::exists(o->bank)) bank = doctor::StatisticsBank::load(o->bank);
    if (*added) {
      add(bank, model, *o);
    } else if (*removed) {
      bank.erase(o->remove), bank.save(o->bank);
    } else if (*applied) {
      bank.apply(o->apply, model), model.save(o->out);
    } else {
      list(bank, model, o->json);
    }
  });
}

void BankSet::add_to(CLI::App& command) {
  auto* file = command.add_option("--bank", bank, "sets of statistics, made by `evenflow bank`")
                   ->type_name("BANK.npz");
  auto* set = command.add_option("--set", name, "the one of them to use")->type_name("NAME");
  file->needs(set), set->needs(file);
}
std::unique_ptr<doctor::UseStatistics> BankSet::use(const Model& model) const {
  if (bank.empty()) return {};
  return std::make_unique<doctor::UseStatistics>(doctor::StatisticsBank::load(bank), name, model);
}

}  // namespace evenflow::cli
