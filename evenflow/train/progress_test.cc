// SPDX-License-Identifier: Apache-2.0
// The progress bar against Keras's, byte for byte: tests/reference/texts.json has scripts with
// their own clock.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <thread>

#include "evenflow/train/callbacks.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;

// What a script makes a bar write to this file.
void play(const json& c, std::FILE* out) {
  double clock = 0;
  const CallbackPtr bar = ProgbarLogger([&] { return clock; });
  TrainingState s;
  s.steps = c["steps"].is_null() ? -1 : c["steps"].get<int64_t>();
  s.epochs = c["epochs"], s.verbose = c["verbose"], s.out = out;
  bar->on_train_begin(s);
  for (const json& call : c["script"]) {
    const std::string what = call[0];
    clock = 1000 + call[1].get<double>();
    const int64_t n = call[2];
    Logs logs;
    if (!call[3].is_null())
      for (auto& [name, v] : call[3].items()) logs.set(name, v);
    if (what == "epoch_begin")
      bar->on_epoch_begin(s, n);
    else if (what == "train_batch_end")
      bar->on_train_batch_end(s, n, logs);
    else
      bar->on_epoch_end(s, n, logs);
  }
  bar->on_train_end(s);
  std::fflush(out);
}
std::string on_a_file(const json& c) {
  std::FILE* f = std::tmpfile();
  play(c, f);
  std::string text(size_t(std::ftell(f)), ' ');
  std::rewind(f);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), f), text.size());
  std::fclose(f);
  return text;
}
// Nothing where the system gives no terminal: a chroot may have no /dev/pts.
std::optional<std::string> on_a_terminal(const json& c) {
  const int master = posix_openpt(O_RDWR | O_NOCTTY);
  const bool given = master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0;
  const int slave = given ? open(ptsname(master), O_RDWR | O_NOCTTY) : -1;
  if (slave < 0) {
    if (master >= 0) close(master);
    return {};
  }
  termios raw{};
  tcgetattr(slave, &raw);
  cfmakeraw(&raw);
  tcsetattr(slave, TCSANOW, &raw);
  std::string text;
  std::thread reader([&] {
    char b[4096];
    for (ssize_t n; (n = read(master, b, sizeof b)) > 0;) text.append(b, size_t(n));
  });
  std::FILE* f = fdopen(slave, "w");
  play(c, f);
  tcdrain(slave);
  std::fclose(f);  // the reader meets the end when nobody holds the terminal
  reader.join();
  close(master);
  return text;
}

TEST(Progress, OnATerminalItIsKerass) {
  int n = 0;
  for (const json& c : reference::document("texts.json")["progress"]) {
    SCOPED_TRACE(n++);
    const std::optional<std::string> text = on_a_terminal(c);
    if (!text) GTEST_SKIP() << "needs a pseudo-terminal: is /dev/pts mounted?";
    EXPECT_EQ(*text, c["text"].get<std::string>());
  }
  EXPECT_EQ(n, 16);
}

// A file gets the last picture of each epoch's bar, without colours and ways back.
std::string last_pictures(const std::string& text) {
  std::string r, line;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' || text[i] == '\b')
      line.clear();
    else if (text[i] == '\x1b')
      i = text.find('m', i);
    else if (line += text[i]; text[i] == '\n') {
      while (line.size() > 1 && line[line.size() - 2] == ' ') line.erase(line.size() - 2, 1);
      r += line, line.clear();
    }
  }
  return r;
}

TEST(Progress, InAFileItIsALineAnEpoch) {
  int bars = 0;
  for (const json& c : reference::document("texts.json")["progress"]) {
    SCOPED_TRACE(c["verbose"].dump() + " " + c["steps"].dump());
    const std::string text = on_a_file(c);
    EXPECT_EQ(text, last_pictures(c["text"]));
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    bars += text.find("━") != std::string::npos;
  }
  EXPECT_EQ(bars, 7);
}

TEST(Progress, NumbersThatAreNone) {
  json c{{"epochs", 1}, {"steps", 1}, {"verbose", 2}};
  c["script"] = json::array({json::array({"epoch_begin", 0, 0, nullptr})});
  const CallbackPtr bar = ProgbarLogger([] { return 0.; });
  std::FILE* f = std::tmpfile();
  TrainingState s;
  s.steps = 1, s.verbose = 2, s.out = f;
  bar->on_train_begin(s), bar->on_epoch_begin(s, 0);
  Logs logs;
  logs.set("loss", NAN), logs.set("huge", INFINITY);
  bar->on_epoch_end(s, 0, logs);
  std::string text(size_t(std::ftell(f)), ' ');
  std::rewind(f);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), f), text.size());
  std::fclose(f);
  EXPECT_THAT(text, testing::HasSubstr(" - huge: inf - loss: nan\n"));
}

}  // namespace
}  // namespace evenflow
