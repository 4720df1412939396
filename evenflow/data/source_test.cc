// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/source.h"

#include <gmock/gmock.h>

namespace evenflow::data {
namespace {
using testing::ElementsAre;
using testing::HasSubstr;

template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
Array array(const Tensor& t) { return {t.sig(), t.buffer()}; }
Strings strings(std::initializer_list<std::string_view> all) {
  Strings s;
  for (auto x : all) s.push_back(x);
  return s;
}
Chunk three() {
  return {{Column(tensor(std::vector<float>{1, 2, 3, 4, 5, 6}, {3, 2})),
           Column(strings({"a", "", "long"})),
           Column(array(tensor(std::vector<int64_t>{7, 8, 9}, {3})), {0, 1, 1, 3})},
          3};
}
std::vector<std::string> texts(const Column& c) {
  std::vector<std::string> v;
  for (int64_t i = 0; i < c.rows(); ++i) v.emplace_back(c.strings()[i]);
  return v;
}
std::vector<int64_t> integers(const Column& c) {
  return tensor(c.values().sig, c.values().data).to_vector<int64_t>();
}

TEST(Chunk, GathersSlicesAndConcatenatesEveryKind) {
  const Chunk c = three();
  const Chunk g = c.gather(std::vector<int64_t>{2, 0, 2});
  EXPECT_EQ(g.rows, 3);
  EXPECT_EQ(g.columns[0].tensor().to_vector(), (std::vector<float>{5, 6, 1, 2, 5, 6}));
  EXPECT_THAT(texts(g.columns[1]), ElementsAre("long", "a", "long"));
  EXPECT_THAT(g.columns[2].splits(), ElementsAre(0, 2, 3, 5));
  EXPECT_THAT(integers(g.columns[2]), ElementsAre(8, 9, 7, 8, 9));

  const Chunk s = c.slice(1, 3);
  EXPECT_EQ(s.columns[0].tensor().to_vector(), (std::vector<float>{3, 4, 5, 6}));
  EXPECT_THAT(texts(s.columns[1]), ElementsAre("", "long"));
  EXPECT_THAT(s.columns[2].splits(), ElementsAre(0, 0, 2));

  const Chunk both = concatenate(std::vector<Chunk>{s, c});
  EXPECT_EQ(both.rows, 5);
  EXPECT_EQ(both.columns[0].tensor().sig(), (Sig{DType::f32, {5, 2}}));
  EXPECT_THAT(texts(both.columns[1]), ElementsAre("", "long", "a", "", "long"));
  EXPECT_THAT(both.columns[2].splits(), ElementsAre(0, 0, 2, 3, 3, 5));
  EXPECT_THAT(integers(both.columns[2]), ElementsAre(8, 9, 7, 8, 9));
}

TEST(Chunk, RefusesWhatDoesNotFit) {
  const Chunk a{{Column(tensor(std::vector<float>{1, 2}, {1, 2}))}, 1},
      b{{Column(tensor(std::vector<float>{1, 2, 3}, {1, 3}))}, 1};
  EXPECT_THAT(refusal([&] {
                concatenate(std::vector<Chunk>{a, b});
              }),
              HasSubstr("column 0 is f32[3] in one element and f32[2] in another"));
  EXPECT_THAT(refusal([&] { three().tensors(); }), HasSubstr("it is string, expected dense"));
  EXPECT_THAT(refusal([&] {
                Column(Array{full({}, 1).sig(), full({}, 1).buffer()});
              }),
              HasSubstr("expected a leading extent"));
  for (const Splits& s : {Splits{}, Splits{1, 2}, Splits{0, 2, 1, 2}, Splits{0, 1}})
    EXPECT_THAT(refusal([&] { Column(array(zeros({2})), s); }), HasSubstr("do not ascend"));
}

TEST(Schema, IsShown) {
  const Chunk c = three();
  Schema s{c.columns[0].field("x"), c.columns[1].field("text"), c.columns[2].field("ids")};
  EXPECT_EQ(str(s), "x f32[2], text string, ids ragged i64[]");
}

}  // namespace
}  // namespace evenflow::data
