// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/device.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace evenflow {
namespace {

Code code_of(std::string_view name) {
  try {
    Device d(name);
  } catch (const Error& e) {
    return e.code();
  }
  return Code::Internal;
}

TEST(Device, Names) {
  EXPECT_EQ(Device("cpu"), Device());
  EXPECT_EQ(Device("cpu:0"), Device());
  EXPECT_EQ(str(Device()), "cpu");
  for (const char* bad :
       {"", "tpu", "CPU", "cpu:", "cpu:x", "cpu:-1", "cpu:0x", "cuda:99999999999999999999"})
    EXPECT_EQ(code_of(bad), Code::InvalidArgument) << bad;
  for (const char* absent : {"cuda:1000", "sycl", "sycl:3", "cpu:1"})
    EXPECT_EQ(code_of(absent), Code::Unimplemented) << absent;
  // A CUDA device, or the reason why there is none.
  for (auto& d : devices())
    if (d.name == "cuda") {
      EXPECT_EQ(code_of("cuda"), Code::Unimplemented);
      try {
        Device cuda("cuda:0");
      } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find(d.reason), std::string::npos) << e.what();
      }
    }
  EXPECT_NO_THROW(Device("auto"));
}

TEST(Device, Default) {
  const char* before = std::getenv("EVENFLOW_DEVICE");
  const std::string kept = before ? before : "";
  unsetenv("EVENFLOW_DEVICE");
  EXPECT_EQ(default_device(), Device());
  setenv("EVENFLOW_DEVICE", "cpu", 1);
  EXPECT_EQ(default_device(), Device());
  setenv("EVENFLOW_DEVICE", "abacus", 1);
  EXPECT_THROW(default_device(), Error);
  if (before)
    setenv("EVENFLOW_DEVICE", kept.c_str(), 1);
  else
    unsetenv("EVENFLOW_DEVICE");
}

TEST(Device, List) {
  const auto all = devices();
  ASSERT_GE(all.size(), 3u);
  EXPECT_TRUE(all[0].available);
  EXPECT_NE(all[0].description.find("threads"), std::string::npos) << all[0].description;
  for (size_t i = 1; i < all.size(); ++i)
    EXPECT_NE(all[i].available, !all[i].reason.empty()) << all[i].name;
}

TEST(Device, TheDefaultIsWhatWasSet) {
  set_default_device(Device("cpu"));
  EXPECT_EQ(default_device(), Device());
}

}  // namespace
}  // namespace evenflow
