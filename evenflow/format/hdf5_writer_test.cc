// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/hdf5_writer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "evenflow/format/hdf5_reader.h"

namespace evenflow::format {
namespace {

Array sample(Sig sig) {
  Array a = make_array(sig);
  auto* p = static_cast<char*>(a.data->data());
  for (int64_t i = 0; i < a.sig.bytes(); ++i) p[i] = char(sig.dtype == DType::boolean ? i & 1 : i);
  return a;
}

std::string model() {
  Hdf5Writer w;
  w.group("layers/flatten/vars");
  w.dataset("layers/dense/vars/0", sample({DType::f32, {3, 4}}));
  w.dataset("layers/dense/vars/1", sample({DType::bf16, {4}}));
  w.attribute("layers/dense/vars", "name", "dense");
  w.attribute("", "empty", "");
  for (int i = 0; i < 40; ++i) w.dataset(concat({"many/", i}), sample({DType::i64, {2}}));
  return w.finish();
}

TEST(Hdf5Writer, RoundTripOfEveryType) {
  for (const Shape& shape : {Shape{}, Shape{3}, Shape{0}, Shape{2, 1, 3}}) {
    Hdf5Writer w;
    for (int d = 0; d < kDTypes; ++d) w.dataset(concat({"a/", d}), sample({DType(d), shape}));
    const Hdf5File f(w.finish());
    for (int d = 0; d < kDTypes; ++d) {
      const Array want = sample({DType(d), shape}), got = f.read(concat({"a/", d}));
      EXPECT_EQ(got.sig, want.sig);
      EXPECT_EQ(std::memcmp(got.data->data(), want.data->data(), size_t(want.sig.bytes())), 0);
    }
  }
}

TEST(Hdf5Writer, GroupsAndAttributes) {
  const Hdf5File f(model());
  EXPECT_TRUE(f.has_group("layers/flatten/vars"));
  EXPECT_EQ(f.datasets("many").size(), 40u);
  EXPECT_EQ(f.attribute("layers/dense/vars", "name"), "dense");
  EXPECT_EQ(f.attribute("", "empty"), "");
  EXPECT_EQ(f.attribute("layers/dense/vars/1", "dtype"), "bfloat16");
}

TEST(Hdf5Writer, TheSameCallsGiveTheSameBytes) { EXPECT_EQ(model(), model()); }

TEST(Hdf5Writer, FromManyThreads) {
  const std::string want = model();
  std::vector<std::string> got(4);
  std::vector<std::thread> threads;
  for (auto& g : got) threads.emplace_back([&g] { g = model(); });
  for (auto& t : threads) t.join();
  for (const auto& g : got) EXPECT_EQ(g, want);
}

TEST(Hdf5Writer, Refusals) {
  const Array a = sample({DType::f32, {1}});
  const auto code_of = [](auto&& f) {
    try {
      f();
    } catch (const Error& e) {
      return e.code();
    }
    return Code::Internal;
  };
  Hdf5Writer w;
  w.dataset("a/0", a);
  EXPECT_EQ(code_of([&] { w.dataset("a/0", a); }), Code::InvalidArgument);
  EXPECT_EQ(code_of([&] { w.dataset("a", a); }), Code::InvalidArgument);
  EXPECT_EQ(code_of([&] { w.dataset("a/0/1", a); }), Code::InvalidArgument);
  EXPECT_EQ(code_of([&] { w.group("a/0"); }), Code::InvalidArgument);
  EXPECT_EQ(code_of([&] { w.dataset("", a); }), Code::InvalidArgument);
  EXPECT_EQ(code_of([&] { w.dataset("../x", a); }), Code::InvalidArgument);
  EXPECT_EQ(code_of([&] {
              w.dataset("b", {{DType::f32, {2, 100}}, a.data});
            }),
            Code::InvalidArgument);
  EXPECT_EQ(code_of([&] { w.attribute("b", "x", "y"); }), Code::NotFound);
  EXPECT_EQ(code_of([&] { w.attribute("a", "", "y"); }), Code::InvalidArgument);
  w.attribute("a", "x", "y");
  EXPECT_EQ(code_of([&] { w.attribute("a", "x", "z"); }), Code::InvalidArgument);
  const std::string bytes = w.finish();
  EXPECT_EQ(code_of([&] { w.finish(); }), Code::FailedPrecondition);
  EXPECT_EQ(Hdf5File(bytes).attribute("a", "x"), "y");
}

}  // namespace
}  // namespace evenflow::format
