// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/preprocess.h"

#include <memory>

#include "evenflow/graph/compile.h"

namespace evenflow {

Dataset preprocess(const Dataset& data, const Layer& layer, bool training) {
  // Built here, since several threads will call it.
  const Sig x = data.element_sig(0);
  layer(zeros(x.shape.with(0, 1), x.dtype));
  auto compiled = std::make_shared<Function>();
  return data.map_chunks(
      [=](const data::Chunk& c, const data::Place& place) {
        // An element is another one in each epoch.
        constexpr int64_t kEpoch = int64_t(1) << 40;
        Array index = make_array({DType::i64, {c.rows}});
        for (int64_t i = 0; i < c.rows; ++i)
          static_cast<int64_t*>(index.data->data())[i] = int64_t(
              uint64_t(place.epoch) * uint64_t(kEpoch) + uint64_t(place.indices[size_t(i)]));
        const Tensors y = (*compiled)(
            {c.columns[0].tensor(), tensor(index.sig, index.data)}, [&](const Tensors& args) {
              return Tensors{layer(args[0], {.training = training, .index = args[1]})};
            });
        data::Chunk r = c;
        r.columns[0] = data::Column(y[0]);
        return r;
      },
      "preprocess");
}

}  // namespace evenflow
