// SPDX-License-Identifier: Apache-2.0
// Convolutions by cuDNN 9's graph interface, loaded while the program runs. Images are channels
// last, kernels [filters, kh, kw, c / groups].
#pragma once
#include <memory>
#include <string>

#include "evenflow/backends/gpu/gpu.h"
#include "evenflow/core/dtype.h"

namespace evenflow::gpu::cuda {

struct ConvolutionShape {
  DType dtype = DType::f32;
  int64_t n, h, w, c, oh, ow, filters, groups, kh, kw;
  int64_t stride_h, stride_w, dilation_h, dilation_w, top, left, bottom, right;
  bool operator==(const ConvolutionShape&) const = default;
  auto operator<=>(const ConvolutionShape&) const = default;
};
enum class ConvolutionPass : uint8_t { forward, input_grad, kernel_grad };

/// The fastest of the engines that cuDNN proposes, found by trying them. f32 may go
/// through tensor cores, as in TensorFlow and PyTorch, with factors of 10 bits of fraction
/// (EVENFLOW_TF32=0 forbids it); no engine is taken that gives other bits each time.
class Convolution {
 public:
  virtual ~Convolution() = default;
  virtual int64_t workspace_bytes() const = 0;
  /// The pass writes one of the three and reads the others.
  virtual void run(void* x, void* kernel, void* y, void* workspace) const = 0;
};
using ConvolutionPtr = std::shared_ptr<const Convolution>;
/// Made once for a device, a shape and a pass; null, with the reason, where cuDNN has no engine or
/// is not there.
ConvolutionPtr convolution(Gpu& on, const ConvolutionShape& shape, ConvolutionPass pass,
                           std::string* why);

}  // namespace evenflow::gpu::cuda
