// SPDX-License-Identifier: Apache-2.0
// What needs no GPU: sources, the cache on disk, the allocator, the compiler.
#include "evenflow/backends/gpu/gpu.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "evenflow/backends/gpu/allocator.h"
#include "evenflow/backends/gpu/cache.h"
#include "evenflow/backends/gpu/cuda/driver.h"
#include "evenflow/core/buffer.h"
#include "tests/emulated_gpu.h"

namespace evenflow::gpu {
namespace {
namespace fs = std::filesystem;

TEST(GpuSource, DefinitionsComeBehindTheShimAndIncludesOnce) {
  const std::string s = source_of("ops/batch_norm.gpu.h", {{"T", "float"}});
  const size_t shim = s.find("struct bf16"), define = s.find("#define T float\n"),
               body = s.find("KERNEL(statistics");
  EXPECT_LT(shim, define);
  EXPECT_LT(define, body);
  EXPECT_EQ(s.find("struct bf16", shim + 1), s.npos);
  EXPECT_EQ(s.find("#include \"evenflow/"), s.npos);
  // What one kernel's file takes of another's sees the definitions too; scalar.h has names of its
  // own.
  const std::string c = source_of("ops/conv.gpu.h", {{"T", "float"}});
  EXPECT_LT(c.find("#define T float\n"), c.find("KERNEL(product"));
  EXPECT_LT(c.find("KERNEL(product"), c.find("KERNEL(conv_forward"));
  EXPECT_THROW(source_of("ops/nothing.gpu.h", {}), Error);
}

class Cache : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/evenflow_cache_XXXXXX";
    ASSERT_TRUE(mkdtemp(name));
    folder_ = name;
    if (const char* old = std::getenv("EVENFLOW_CACHE")) before_ = old;
    setenv("EVENFLOW_CACHE", folder_.c_str(), 1);
  }
  void TearDown() override {
    before_.empty() ? unsetenv("EVENFLOW_CACHE") : setenv("EVENFLOW_CACHE", before_.c_str(), 1);
    fs::remove_all(folder_);
  }
  fs::path file() const {
    for (auto& e : fs::recursive_directory_iterator(folder_))
      if (e.is_regular_file()) return e.path();
    return {};
  }
  std::string folder_, before_;
};
TEST_F(Cache, GivesWhatWasKept) {
  EXPECT_FALSE(cached_binary("key"));
  const std::string binary("a\0b", 3);
  keep_binary("key", binary);
  EXPECT_EQ(cached_binary("key"), binary);
  EXPECT_FALSE(cached_binary("another key"));
}
TEST_F(Cache, ADamagedEntryIsNotTrusted) {
  keep_binary("key", std::string(1000, 'x'));
  const auto size = fs::file_size(file());
  for (size_t at : {size_t(0), size_t(8), size_t(17), size_t(25), size - 1}) {
    keep_binary("key", std::string(1000, 'x'));
    std::fstream f(file(), std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(long(at));
    f.put('\x7f');
    f.close();
    EXPECT_FALSE(cached_binary("key")) << at;
  }
  keep_binary("key", std::string(1000, 'x'));
  fs::resize_file(file(), size / 2);
  EXPECT_FALSE(cached_binary("key"));
}
TEST_F(Cache, AFolderThatCannotBeWrittenIsNoError) {
  setenv("EVENFLOW_CACHE", "/proc/nothing", 1);
  keep_binary("key", "binary");
  EXPECT_FALSE(cached_binary("key"));
}

TEST(CachingAllocator, GivesTheSameBlockAgainAndFreesBeforeItGivesUp) {
  int64_t used = 0, most = 8 << 20;
  std::map<void*, int64_t> sizes;
  CachingAllocator a(
      [&](int64_t n) -> void* {
        if (used + n > most) return nullptr;
        used += n;
        void* p = std::malloc(size_t(n));
        sizes[p] = n;
        return p;
      },
      [&](void* p) {
        used -= sizes.at(p);
        sizes.erase(p);
        std::free(p);
      });
  void* p = a.allocate(3000);
  a.release(p);
  EXPECT_EQ(a.allocate(2900), p);
  a.release(p);
  void* large = a.allocate(3 << 20);
  EXPECT_EQ(a.memory().live, 4 << 20);
  a.release(large);
  void* larger = a.allocate(7 << 20);  // only after all that is kept was freed
  EXPECT_EQ(used, 8 << 20);
  try {
    a.allocate(3 << 20);
    ADD_FAILURE() << "expected no memory";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::ResourceExhausted);
  }
  EXPECT_THROW(a.allocate(INT64_MAX), Error);
  a.release(larger);
  EXPECT_NE(a.allocate(100), nullptr);  // it goes on
  EXPECT_EQ(a.memory().peak, 8 << 20);
}

// Each source for the architectures that are to be served, with the compiler that is there.
TEST(Nvrtc, CompilesBatchNormForEachArchitecture) {
  try {
    cuda::compiler_version();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::Unimplemented);
    GTEST_SKIP() << e.what();
  }
  for (const char* architecture : {"sm_80", "sm_90", "sm_100"})
    for (const char* type : {"float", "bf16"}) {
      const std::string source = source_of("ops/batch_norm.gpu.h", {{"T", type},
                                                                    {"P", "float"},
                                                                    {"N", "4"},
                                                                    {"U", "4"},
                                                                    {"AHEAD", "1"},
                                                                    {"LAST", "1"},
                                                                    {"RELU", "1"},
                                                                    {"RESIDUAL", "1"},
                                                                    {"GAMMA", "1"},
                                                                    {"BETA", "1"}});
      EXPECT_GT(cuda::compile(source, architecture).size(), 1000u) << architecture;
    }
  try {
    cuda::compile("KERNEL(", "sm_90");
    ADD_FAILURE() << "expected an error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::Internal);
    EXPECT_NE(std::string(e.what()).find("kernel.cu"), std::string::npos) << e.what();
  }
}

TEST(EmulatedGpu, MemoryThatRunsOutIsATypedErrorAndTheDeviceGoesOn) {
  Accelerator* on = accelerator(emulated::emulated_gpu());
  emulated::emulated_gpu_memory(4 << 20);
  try {
    make_buffer(64 << 20, on);
    ADD_FAILURE() << "expected no memory";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::ResourceExhausted);
  }
  const BufferPtr small = make_buffer(1 << 10, on);
  const std::vector<char> ones(1 << 10, 1);
  on->upload(small->data(), ones.data(), 1 << 10);
  EXPECT_EQ(*static_cast<const char*>(placed(small, nullptr)->data()), 1);
  emulated::emulated_gpu_memory(INT64_MAX);
}

}  // namespace
}  // namespace evenflow::gpu
