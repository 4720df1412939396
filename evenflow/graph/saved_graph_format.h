// SPDX-License-Identifier: Apache-2.0
// What the writer and the reader of saved graphs share.
#pragma once
#include <cstring>
#include <mutex>

#include "evenflow/graph/saved_graph.h"

namespace evenflow {

namespace efg {
inline constexpr std::string_view kMagic = "EVENFLOW";
inline constexpr int kFormat = 1;
inline constexpr int64_t kAlign = 64;  ///< where the weights and each of them begin
inline constexpr size_t kStart =
    kMagic.size() + 4 + 4 + 8;  ///< magic, format, checksum and size of the header

template <class T>
void put(std::string& to, T v) {
  to.append(reinterpret_cast<const char*>(&v), sizeof v);
}
template <class T>
T get(std::string_view from, size_t at) {
  T v;
  std::memcpy(&v, from.data() + at, sizeof v);
  return v;
}

struct Loaded {
  SavedFunction function;
  std::mutex mutex;
  std::vector<std::pair<Key, std::shared_ptr<const Plan>>> plans;  ///< most recently used first
  std::shared_ptr<const Plan> plan(const Sigs& sigs, const LoadLimits& limits);
  SavedGraph::Signature signature() const;
};
}  // namespace efg

struct SavedGraph::Impl {
  std::vector<std::unique_ptr<efg::Loaded>> functions;
  std::map<std::string, std::string> metadata;
  int64_t weight_bytes = 0;
  LoadLimits limits;
  efg::Loaded& find(std::string_view name);
};

}  // namespace evenflow
