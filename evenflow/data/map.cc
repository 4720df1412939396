// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/map.h"

namespace evenflow::data::detail {

void refuse_argument(size_t argument, std::string_view takes, const Column& column) {
  fail({"map: argument ", argument, " of the function takes ", takes, ", column ", argument, " is ",
        str(Schema{column.field()})});
}
void check_arguments(size_t takes, const Chunk& chunk) {
  if (takes != chunk.columns.size())
    fail({"map: the function takes ", takes, " arguments, expected ", chunk.columns.size(),
          ", one for each column"});
}
Chunk from_tensors(const Tensors& results, int64_t rows) {
  Chunk r{{}, rows};
  for (size_t i = 0; i < results.size(); ++i) {
    const Tensor& t = results[i];
    if (!t || !t.rank() || t.sig().shape[0] != rows)
      fail({"map: result ", i, " of the function is ", t ? str(t.sig()) : "an empty tensor",
            ", expected ", rows, " rows"});
    r.columns.emplace_back(t);
  }
  return r;
}
ChunkMap tensor_map(size_t arguments, Function::Body body) {
  auto compiled = std::make_shared<Function>();
  return [=](const Chunk& c, const Place&) {
    check_arguments(arguments, c);
    return from_tensors((*compiled)(c.tensors(), body), c.rows);
  };
}

}  // namespace evenflow::data::detail
