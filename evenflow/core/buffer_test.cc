// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/buffer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace evenflow {
namespace {

TEST(Buffer, is_aligned_at_any_size_and_counted) {
  Buffer::Counters& c = Buffer::counters();
  const int64_t live = c.live, made = c.made;
  for (int64_t bytes : {0, 1, 63, 64, 65, 4096, (4 << 20) - 1, 4 << 20, (8 << 20) + 1}) {
    BufferPtr b = make_buffer(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b->data()) % Buffer::kAlignment, 0u) << bytes;
    EXPECT_EQ(b->bytes(), bytes);
    EXPECT_FALSE(b->imported());
    EXPECT_EQ(c.live, live + bytes);
    EXPECT_GE(c.peak, c.live);
    std::memset(b->data(), 1, size_t(bytes));
  }
  EXPECT_EQ(c.live, live);
  EXPECT_EQ(c.made, made + 9);
}

TEST(Buffer, that_is_not_to_be_had_is_a_typed_error) {
  const int64_t live = Buffer::counters().live;
  for (int64_t bytes : {int64_t(1) << 62, INT64_MAX, INT64_MAX - 100}) {
    try {
      make_buffer(bytes);
      FAIL() << bytes;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::ResourceExhausted);
    }
  }
  try {
    make_buffer(-1);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::InvalidArgument);
  }
  EXPECT_EQ(Buffer::counters().live, live);
}

TEST(Buffer, of_somebody_else_keeps_the_owner_and_counts_nothing) {
  const int64_t live = Buffer::counters().live;
  auto owner = std::make_shared<std::vector<float>>(1000, 3.f);
  std::weak_ptr<std::vector<float>> alive = owner;
  auto b = std::make_shared<Buffer>(owner->data(), 4000, owner);
  owner.reset();
  EXPECT_FALSE(alive.expired());
  EXPECT_TRUE(b->imported());
  EXPECT_EQ(Buffer::counters().live, live);
  const BufferPtr mine = copy_of(*b, 8);
  b.reset();
  EXPECT_TRUE(alive.expired());
  EXPECT_FALSE(mine->imported());
  EXPECT_EQ(static_cast<const float*>(mine->data())[1], 3);
}

}  // namespace
}  // namespace evenflow
