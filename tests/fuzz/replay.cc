// SPDX-License-Identifier: Apache-2.0
// Where libFuzzer is not: the fuzzed function over the seeds and the inputs that once failed, then
// over some thousands of mutations of them, the same ones every time.
//   hdf5_fuzz [--mutations=N] FILE_OR_FOLDER...
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {
namespace fs = std::filesystem;

std::vector<std::string> seeds;
std::mt19937_64 generator(1);

size_t below(size_t n) { return n ? generator() % n : 0; }

void run(const std::string& bytes) {
  // A copy of just this size, so that the address sanitizer sees what is read behind its end.
  const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

std::string mutated(std::string s) {
  constexpr uint64_t odd[] = {0,
                              1,
                              2,
                              7,
                              8,
                              9,
                              127,
                              128,
                              255,
                              256,
                              0x7fff,
                              0xffff,
                              0x7fffffff,
                              0xffffffff,
                              uint64_t(1) << 40,
                              uint64_t(1) << 61,
                              ~uint64_t(0) >> 1,
                              ~uint64_t(0)};
  for (size_t times = 1 + below(4); times--;) {
    const size_t at = below(s.size() + 1), n = 1 + below(std::min<size_t>(s.size() - at + 1, 32));
    switch (below(8)) {
      case 0:  // a bit
        if (at < s.size()) s[at] = char(s[at] ^ 1 << below(8));
        break;
      case 1:  // a byte
        if (at < s.size()) s[at] = char(below(256));
        break;
      case 2: {  // a number of 1, 2, 4 or 8 bytes
        const uint64_t v = odd[below(std::size(odd))];
        const size_t bytes = size_t(1) << below(4);
        if (at + bytes <= s.size()) std::memcpy(s.data() + at, &v, bytes);
        break;
      }
      case 3:
        s.erase(at, n);
        break;
      case 4:  // a piece again, elsewhere
        s.insert(below(s.size() + 1), s.substr(at, n));
        break;
      case 5: {  // a piece over another
        const size_t to = below(s.size() + 1);
        s.replace(to, n, s.substr(at, n));
        break;
      }
      case 6: {  // a piece of another seed
        const std::string& other = seeds[below(seeds.size())];
        const size_t from = below(other.size() + 1);
        s.replace(at, n, other.substr(from, 1 + below(64)));
        break;
      }
      case 7:
        if (below(4) == 0) s.resize(at);
        break;
    }
  }
  return s;
}
}  // namespace

int main(int argc, char** argv) {
  size_t mutations = 20000;
  std::vector<fs::path> files;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--mutations=", 12) == 0)
      mutations = size_t(std::atoll(argv[i] + 12));
    else if (fs::is_directory(argv[i]))
      for (auto& entry : fs::recursive_directory_iterator(argv[i])) files.push_back(entry.path());
    else
      files.push_back(argv[i]);
  }
  std::sort(files.begin(), files.end());
  for (auto& file : files)
    if (fs::is_regular_file(file)) {
      std::ifstream in(file, std::ios::binary);
      seeds.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
  if (seeds.empty()) return std::fprintf(stderr, "no seeds\n"), 1;
  run("");
  for (auto& s : seeds) run(s);
  for (size_t i = 0; i < mutations; ++i) run(mutated(seeds[i % seeds.size()]));
  std::printf("%zu seeds, %zu mutations\n", seeds.size(), mutations);
}
