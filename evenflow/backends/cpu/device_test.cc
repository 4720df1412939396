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
  for (const char* absent : {"cuda", "cuda:0", "sycl", "sycl:3", "cpu:1"})
    EXPECT_EQ(code_of(absent), Code::Unimplemented) << absent;
  try {
    Device d("cuda:0");
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "device cuda:0: this build has no CUDA plug-in");
  }
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
  ASSERT_EQ(all.size(), 3u);
  EXPECT_TRUE(all[0].available);
  EXPECT_NE(all[0].description.find("threads"), std::string::npos) << all[0].description;
  for (int i : {1, 2}) {
    EXPECT_FALSE(all[i].available);
    EXPECT_FALSE(all[i].reason.empty());
  }
}

}  // namespace
}  // namespace evenflow
