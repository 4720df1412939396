// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/gpu/cache.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "evenflow/core/checksum.h"

namespace evenflow::gpu {
namespace {
namespace fs = std::filesystem;
constexpr char kMagic[8] = {'e', 'v', 'f', 'l', 'o', 'w', 'K', '1'};
struct Header {
  char magic[8];
  uint64_t key_bytes, binary_bytes;
  uint32_t crc, unused;
};

uint64_t fnv(const std::string& s, uint64_t h) {
  for (const char c : s) h = (h ^ uint8_t(c)) * 0x100000001b3u;
  return h;
}
std::string path_of(const std::string& key) {
  const std::string folder = cache_folder();
  if (folder.empty()) return {};
  char name[40];
  std::snprintf(name, sizeof name, "%016llx%016llx",
                static_cast<unsigned long long>(fnv(key, 0xcbf29ce484222325u)),
                static_cast<unsigned long long>(fnv(key, 0x9ae16a3b2f90404fu)));
  return folder + "/kernels/" + name;
}
uint32_t crc_of(const std::string& key, const std::string& binary) {
  const std::string both = key + binary;
  return crc32c(both.data(), both.size());
}
}  // namespace

std::string cache_folder() {
  if (const char* own = std::getenv("EVENFLOW_CACHE")) return own;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg)
    return std::string(xdg) + "/evenflow";
  if (const char* home = std::getenv("HOME"); home && *home)
    return std::string(home) + "/.cache/evenflow";
  return {};
}

std::optional<std::string> cached_binary(const std::string& key) {
  const std::string path = path_of(key);
  if (path.empty()) return {};
  std::ifstream in(path, std::ios::binary);
  const std::string all(std::istreambuf_iterator<char>(in), {});
  Header h;
  if (all.size() < sizeof h) return {};
  std::memcpy(&h, all.data(), sizeof h);
  const uint64_t rest = all.size() - sizeof h;
  if (std::memcmp(h.magic, kMagic, sizeof kMagic) || h.key_bytes != key.size() ||
      h.binary_bytes > rest || h.key_bytes != rest - h.binary_bytes)
    return {};
  if (all.compare(sizeof h, key.size(), key)) return {};
  std::string binary = all.substr(sizeof h + key.size());
  if (crc_of(key, binary) != h.crc) return {};
  return binary;
}

void keep_binary(const std::string& key, const std::string& binary) {
  const std::string path = path_of(key);
  if (path.empty()) return;
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  const std::string temporary = path + "." + std::to_string(getpid());
  Header h{{}, key.size(), binary.size(), crc_of(key, binary), 0};
  std::memcpy(h.magic, kMagic, sizeof kMagic);
  {
    std::ofstream out(temporary, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&h), sizeof h);
    out << key << binary;
    if (!out.flush()) {
      fs::remove(temporary, error);
      return;
    }
  }
  fs::rename(temporary, path, error);
  if (error) fs::remove(temporary, error);
}

}  // namespace evenflow::gpu
