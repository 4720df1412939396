// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/log.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace evenflow {
namespace {
constexpr std::string_view kTopics[] = {"dispatch", "pass", "exec", "memory", "trace", "data"};

using Sink = std::function<void(std::string_view)>;

void say(const Sink& sink, const std::string& text) {
  if (sink)
    sink(text);
  else
    std::fprintf(stderr, "%s\n", text.c_str());
}
// A word that is no topic is told: nothing would ever be heard of it.
uint32_t parse(std::string_view list, const Sink& sink) {
  uint32_t mask = 0;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    const std::string_view word = list.substr(at, end - at);
    uint32_t meant = word == "all" ? ~0u : 0;
    std::string topics;
    for (size_t i = 0; i < std::size(kTopics); ++i) {
      if (word == kTopics[i]) meant = 1u << i;
      topics += std::string(kTopics[i]) + ", ";
    }
    if (!meant && !word.empty())
      say(sink,
          "evenflow log: \"" + std::string(word) + "\" is no topic, expected " + topics + "all");
    mask |= meant;
    at = end + 1;
  }
  return mask;
}
struct Log {
  std::atomic<uint32_t> mask{
      parse(std::getenv("EVENFLOW_LOG") ? std::getenv("EVENFLOW_LOG") : "", {})};
  std::mutex mutex;
  Sink sink;
};
Log& state() {
  static Log l;
  return l;
}
}  // namespace

bool logs(Topic topic) { return state().mask.load(std::memory_order_relaxed) >> int(topic) & 1; }
void log(Topic topic, std::string_view line) {
  if (!logs(topic)) return;
  Log& l = state();
  std::lock_guard lock(l.mutex);
  say(l.sink, "evenflow " + std::string(kTopics[int(topic)]) + ": " + std::string(line));
}
void set_log(std::string_view topics, std::function<void(std::string_view)> sink) {
  Log& l = state();
  std::lock_guard lock(l.mutex);
  l.mask = parse(topics, sink);
  l.sink = std::move(sink);
}

}  // namespace evenflow
