// SPDX-License-Identifier: Apache-2.0
// A plain value: what is read from a file, written to one, or handed across a room's border.
#pragma once
#include "evenflow/core/buffer.h"
#include "evenflow/core/shape.h"

namespace evenflow {

/// Element type, shape, and sig.bytes() bytes in row-major order and host byte order.
struct Array {
  Sig sig;
  BufferPtr data;
};

/// An array of that signature with its own uninitialised memory; throws ResourceExhausted.
inline Array make_array(Sig sig) {
  const int64_t bytes = sig.bytes();
  return {std::move(sig), make_buffer(bytes)};
}

}  // namespace evenflow
