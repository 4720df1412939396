// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "cli/commands.h"
#include "cli/interrupt.h"

namespace {

using namespace evenflow::cli;

// Work that is done is not undone because nobody reads the end of what it says (`| head`); a disk
// that took only half of it is told.
int flushed(int status) {
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return status;
  pollfd out{STDOUT_FILENO, POLLOUT, 0};
  if (poll(&out, 1, 0) == 1 && (out.revents & POLLERR)) return status;
  std::fprintf(stderr, "evenflow: standard output cannot be written\n");
  return status ? status : 1;
}

// A usage error, in the words of the parser but for a command that there is not.
std::string usage_error(const CLI::App* app, const CLI::Error& e) {
  std::string what = e.what(), command = "evenflow";
  if (const auto words = app->remaining(); !words.empty() && app->get_subcommands().empty())
    what = "there is no command \"" + words[0] + "\"";
  for (auto subs = app->get_subcommands(); !subs.empty(); subs = subs[0]->get_subcommands())
    command += " " + subs[0]->get_name();
  return "evenflow: " + what + "\n`" + command + " --help` says what there is.\n";
}

int run(int argc, char** argv) {
  CLI::App app("Trains, runs and looks at batch-normalised networks");
  app.name("evenflow");
  app.require_subcommand(1);
  app.fallthrough();  // --device may stand behind the command
  app.set_version_flag("--version", "evenflow " EVENFLOW_VERSION);
  app.failure_message(usage_error);
  std::string device;
  app.add_option("--device", device,
                 "what to run on: cpu, cuda, sycl, one of several as in cuda:1, or auto")
      ->type_name("NAME");
  app.parse_complete_callback([&device] { check_device(device); });
  for (auto* add : {add_demo, add_lab, add_data, add_train, add_evaluate, add_predict, add_inspect,
                    add_doctor, add_recalibrate, add_fold, add_bank, add_export, add_devices,
                    add_profile, add_bench, add_ops})
    add(app);
  app.footer(
      "`evenflow COMMAND --help` says what a command takes. `evenflow demo` is a good start.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const Ended& e) {
    return e.status;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "evenflow: out of memory\n");
    return 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "evenflow: %s\n", e.what());
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  catch_interrupts();
  try {
    return flushed(run(argc, argv));
  } catch (const Interrupted&) {
    flushed(0);
    std::fprintf(stderr, "\nevenflow: interrupted\n");
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
    return 130;
  }
}
