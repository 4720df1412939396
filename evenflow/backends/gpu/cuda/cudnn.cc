// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/gpu/cuda/cudnn.h"

#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "evenflow/backends/gpu/cuda/driver.h"
#include "evenflow/core/buffer.h"
#include "evenflow/core/log.h"

namespace evenflow::gpu::cuda {
namespace {
using Descriptor = void*;

// Numbers of cudnn_graph.h, version 9.
enum Type : int {
  kHandle = 0,
  kDataType = 1,
  kBoolean = 2,
  kInt64 = 3,
  kFloat = 4,
  kPointer = 6,
  kMode = 7,
  kHeuristic = 8,
  kNote = 11,
  kDescriptor = 15
};
enum DescriptorType : int {
  dConvolution = 1,
  dEngine = 2,
  dEngineConfig = 3,
  dHeuristics = 4,
  dPlan = 5,
  dForward = 10,
  dKernelGrad = 11,
  dInputGrad = 12,
  dGraph = 15,
  dVariants = 16,
  dTensor = 17
};
enum Attribute : int {
  aComputeType = 100,
  aMode = 101,
  aDilations = 102,
  aStrides = 103,
  aPostPadding = 104,
  aPrePadding = 105,
  aSpatialDims = 106,
  aHeuristicsMode = 200,
  aHeuristicsGraph = 201,
  aHeuristicsResults = 202,
  aConfigEngine = 300,
  aPlanHandle = 400,
  aPlanConfig = 401,
  aPlanWorkspace = 402,
  aGraphHandle = 800,
  aGraphOperations = 801,
  aTensorAlignment = 900,
  aTensorType = 901,
  aTensorExtents = 902,
  aTensorStrides = 903,
  aTensorId = 906,
  aVariantIds = 1000,
  aVariantPointers = 1001,
  aVariantWorkspace = 1003,
  aEngineNote = 1303
};
constexpr int kNoteTensorCore = 0, kNoteNondeterministic = 4;
constexpr int kHeuristicA = 3, kHeuristicFallback = 2;
constexpr int64_t kMostWorkspace = int64_t(1) << 30;
constexpr int64_t kIdX = 'x', kIdKernel = 'k', kIdY = 'y';

struct Api {
  Library library{"libcudnn.so.9", "libcudnn.so"};
  Result (*create)(Handle*);
  Result (*set_stream)(Handle, Handle);
  Result (*create_descriptor)(int, Descriptor*);
  Result (*destroy_descriptor)(Descriptor);
  Result (*finalize)(Descriptor);
  Result (*set)(Descriptor, int, int, int64_t, const void*);
  Result (*get)(Descriptor, int, int, int64_t, int64_t*, void*);
  Result (*execute)(Handle, Descriptor, Descriptor);
  void (*last_error)(char*, size_t);
  Api() {
    library.bind(create, "cudnnCreate"), library.bind(set_stream, "cudnnSetStream");
    library.bind(create_descriptor, "cudnnBackendCreateDescriptor");
    library.bind(destroy_descriptor, "cudnnBackendDestroyDescriptor");
    library.bind(finalize, "cudnnBackendFinalize");
    library.bind(set, "cudnnBackendSetAttribute"), library.bind(get, "cudnnBackendGetAttribute");
    library.bind(execute, "cudnnBackendExecute");
    library.bind(last_error, "cudnnGetLastErrorString");
  }
};
const Api& api() {
  static const Api a;
  return a;
}
// Throws Unimplemented: what cuDNN cannot do is done by others.
void must(Result r, const char* what) {
  if (!r) return;
  char text[512] = "";
  api().last_error(text, sizeof text);
  fail(Code::Unimplemented, {"cudnn: ", what, ": status ", r, " ", text});
}

// A descriptor that is let go with its owner.
class Owned {
 public:
  Owned() = default;
  explicit Owned(int type) { must(api().create_descriptor(type, &d_), "create a descriptor"); }
  Owned(Owned&& o) noexcept : d_(std::exchange(o.d_, nullptr)) {}
  Owned& operator=(Owned&& o) noexcept {
    std::swap(d_, o.d_);
    return *this;
  }
  ~Owned() {
    if (d_) api().destroy_descriptor(d_);
  }
  Descriptor get() const { return d_; }
  Owned& set(int attribute, int type, int64_t count, const void* values, const char* what) {
    must(api().set(d_, attribute, type, count, values), what);
    return *this;
  }
  Owned& number(int attribute, int type, int value, const char* what) {
    return set(attribute, type, 1, &value, what);
  }
  Owned& integers(int attribute, std::initializer_list<int64_t> v, const char* what) {
    return set(attribute, kInt64, int64_t(v.size()), v.begin(), what);
  }
  Owned& other(int attribute, const Owned& o, const char* what) {
    const Descriptor d = o.get();
    return set(attribute, kDescriptor, 1, &d, what);
  }
  void finish(const char* what) { must(api().finalize(d_), what); }

 private:
  Descriptor d_ = nullptr;
};

int data_type(DType d) {
  switch (d) {
    case DType::f64:
      return 1;
    case DType::f16:
      return 2;
    case DType::bf16:
      return 9;
    default:
      return 0;
  }
}
Owned tensor(DType d, int64_t id, std::initializer_list<int64_t> extents,
             std::initializer_list<int64_t> strides) {
  Owned t(dTensor);
  t.number(aTensorType, kDataType, data_type(d), "type of a tensor");
  t.integers(aTensorExtents, extents, "extents").integers(aTensorStrides, strides, "strides");
  t.integers(aTensorId, {id}, "number").integers(aTensorAlignment, {64}, "alignment");
  t.finish("a tensor");
  return t;
}

struct Shared {
  std::mutex mutex;  // a handle serves one caller at a time
  Handle handle = nullptr;
};
Shared& shared(Gpu& on) {
  static std::mutex mutex;
  static auto& all = *new std::map<Gpu*, std::unique_ptr<Shared>>;
  std::lock_guard lock(mutex);
  auto& s = all[&on];
  if (!s) {
    on.synchronize();  // makes this thread the device's
    auto made = std::make_unique<Shared>();
    must(api().create(&made->handle), "cudnnCreate");
    must(api().set_stream(made->handle, on.stream()), "cudnnSetStream");
    s = std::move(made);
  }
  return *s;
}

class Planned : public Convolution {
 public:
  Planned(Gpu& on, const ConvolutionShape& s, ConvolutionPass pass) : on_(on), shared_(shared(on)) {
    std::lock_guard lock(shared_.mutex);
    const int64_t depth = s.c / s.groups;
    x_ = tensor(s.dtype, kIdX, {s.n, s.c, s.h, s.w}, {s.h * s.w * s.c, 1, s.w * s.c, s.c});
    kernel_ = tensor(s.dtype, kIdKernel, {s.filters, depth, s.kh, s.kw},
                     {s.kh * s.kw * depth, 1, s.kw * depth, depth});
    y_ = tensor(s.dtype, kIdY, {s.n, s.filters, s.oh, s.ow},
                {s.oh * s.ow * s.filters, 1, s.ow * s.filters, s.filters});
    convolution_ = Owned(dConvolution);
    convolution_.number(aComputeType, kDataType, s.dtype == DType::f64, "type of sums")
        .number(aMode, kMode, 1, "correlation")
        .integers(aSpatialDims, {2}, "dimensions")
        .integers(aPrePadding, {s.top, s.left}, "padding before")
        .integers(aPostPadding, {s.bottom, s.right}, "padding behind")
        .integers(aStrides, {s.stride_h, s.stride_w}, "strides")
        .integers(aDilations, {s.dilation_h, s.dilation_w}, "dilations")
        .finish("the convolution");
    // alpha, beta, convolution, then the tensors, in the order of the attributes' numbers
    struct Form {
      int type, first;
      const Owned* tensors[3];
    };
    const Form form = pass == ConvolutionPass::forward ? Form{dForward, 700, {&kernel_, &x_, &y_}}
                      : pass == ConvolutionPass::input_grad
                          ? Form{dInputGrad, 706, {&kernel_, &x_, &y_}}
                          : Form{dKernelGrad, 712, {&kernel_, &x_, &y_}};
    operation_ = Owned(form.type);
    const float one = 1, zero = 0;
    operation_.set(form.first, kFloat, 1, &one, "alpha")
        .set(form.first + 1, kFloat, 1, &zero, "beta")
        .other(form.first + 2, convolution_, "the convolution");
    for (int i = 0; i < 3; ++i) operation_.other(form.first + 3 + i, *form.tensors[i], "a tensor");
    operation_.finish("the operation");
    graph_ = Owned(dGraph);
    graph_.set(aGraphHandle, kHandle, 1, &shared_.handle, "handle")
        .other(aGraphOperations, operation_, "operations");
    graph_.finish("the graph");
    choose(s, pass);
  }
  int64_t workspace_bytes() const override { return workspace_; }
  void run(void* x, void* kernel, void* y, void* workspace) const override {
    std::lock_guard lock(shared_.mutex);
    execute(plan_, x, kernel, y, workspace);
  }

 private:
  void execute(const Owned& plan, void* x, void* kernel, void* y, void* workspace) const {
    Owned pack(dVariants);
    void* pointers[] = {x, kernel, y};
    pack.integers(aVariantIds, {kIdX, kIdKernel, kIdY}, "numbers")
        .set(aVariantPointers, kPointer, 3, pointers, "pointers")
        .set(aVariantWorkspace, kPointer, 1, &workspace, "workspace");
    pack.finish("the arguments");
    if (const Result r = api().execute(shared_.handle, plan.get(), pack.get())) {
      char text[512] = "";
      api().last_error(text, sizeof text);
      fail(Code::Internal, {"cudnn: a convolution: status ", r, " ", text});
    }
  }
  // What an engine says of itself.
  static bool allowed(const Owned& config, DType d) {
    Owned engine(dEngine);
    Descriptor e = engine.get();
    int64_t n = 0;
    must(api().get(config.get(), aConfigEngine, kDescriptor, 1, &n, &e), "engine");
    int notes[16];
    if (api().get(engine.get(), aEngineNote, kNote, 16, &n, notes)) return true;
    const char* tf32 = std::getenv("EVENFLOW_TF32");
    for (int64_t i = 0; i < n; ++i) {
      if (notes[i] == kNoteNondeterministic) return false;
      if (notes[i] == kNoteTensorCore && d == DType::f32 && tf32 && *tf32 == '0') return false;
    }
    return true;
  }
  void choose(const ConvolutionShape& s, ConvolutionPass pass) {
    constexpr int64_t kAsked = 12, kTried = 6;
    std::string last;
    std::vector<std::pair<Owned, int64_t>> plans;
    for (int mode : {kHeuristicA, kHeuristicFallback}) {
      Owned heuristics(dHeuristics);
      heuristics.other(aHeuristicsGraph, graph_, "graph")
          .number(aHeuristicsMode, kHeuristic, mode, "mode");
      if (api().finalize(heuristics.get())) continue;
      std::vector<Owned> configs;
      std::vector<Descriptor> raw;
      for (int64_t i = 0; i < kAsked; ++i)
        configs.emplace_back(dEngineConfig), raw.push_back(configs.back().get());
      int64_t found = 0;
      if (api().get(heuristics.get(), aHeuristicsResults, kDescriptor, kAsked, &found, raw.data()))
        continue;
      for (int64_t i = 0; i < found && int64_t(plans.size()) < kTried; ++i) {
        try {
          if (!allowed(configs[size_t(i)], s.dtype)) continue;
          Owned plan(dPlan);
          plan.set(aPlanHandle, kHandle, 1, &shared_.handle, "handle")
              .other(aPlanConfig, configs[size_t(i)], "configuration");
          plan.finish("the plan");
          int64_t bytes = 0, n = 0;
          must(api().get(plan.get(), aPlanWorkspace, kInt64, 1, &n, &bytes), "workspace");
          if (bytes <= kMostWorkspace) plans.emplace_back(std::move(plan), bytes);
        } catch (const Error& e) {
          last = e.what();
        }
      }
      if (!plans.empty()) break;
    }
    if (plans.empty())
      fail(Code::Unimplemented,
           {"cudnn has no engine for this convolution", last.empty() ? "" : ": ", last});
    size_t best = 0;
    if (plans.size() > 1) best = fastest(plans, s);
    plan_ = std::move(plans[best].first), workspace_ = plans[best].second;
    if (logs(Topic::dispatch))
      log(Topic::dispatch, concat({"cudnn: engine ", best, " of ", plans.size(), ", pass ",
                                   int(pass), ", workspace ", workspace_}));
  }
  size_t fastest(const std::vector<std::pair<Owned, int64_t>>& plans, const ConvolutionShape& s) {
    const int64_t size = size_of(s.dtype);
    int64_t most = 1;
    for (auto& p : plans) most = std::max(most, p.second);
    const BufferPtr x = make_buffer(s.n * s.h * s.w * s.c * size, &on_),
                    kernel = make_buffer(s.filters * s.kh * s.kw * (s.c / s.groups) * size, &on_),
                    y = make_buffer(s.n * s.oh * s.ow * s.filters * size, &on_),
                    workspace = make_buffer(most, &on_);
    for (const BufferPtr& b : {x, kernel, y}) on_.zero(b->data(), b->bytes());
    size_t best = 0;
    double least = 1e300;
    for (size_t i = 0; i < plans.size(); ++i) try {
        auto once = [&] {
          execute(plans[i].first, x->data(), kernel->data(), y->data(), workspace->data());
        };
        once();
        on_.synchronize();
        const auto start = std::chrono::steady_clock::now();
        for (int k = 0; k < 8; ++k) once();
        on_.synchronize();
        const double t =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (t < least) least = t, best = i;
      } catch (const Error&) {  // an engine that does not run is not the fastest
      }
    return best;
  }

  Gpu& on_;
  Shared& shared_;
  Owned x_, kernel_, y_, convolution_, operation_, graph_, plan_;
  int64_t workspace_ = 0;
};
}  // namespace

ConvolutionPtr convolution(Gpu& on, const ConvolutionShape& s, ConvolutionPass pass,
                           std::string* why) {
  if (const std::string& missing = api().library.why(); !missing.empty()) {
    *why = "cuDNN: " + missing;
    return nullptr;
  }
  struct Made {
    ConvolutionPtr plan;
    std::string why;
  };
  static std::mutex mutex;
  static auto& all = *new std::map<std::tuple<Gpu*, ConvolutionShape, ConvolutionPass>, Made>;
  std::lock_guard lock(mutex);
  auto [it, fresh] = all.try_emplace({&on, s, pass});
  if (fresh) try {
      it->second.plan = std::make_shared<Planned>(on, s, pass);
    } catch (const Error& e) {
      if (e.code() != Code::Unimplemented) {
        all.erase(it);
        throw;
      }
      it->second.why = e.what();
    }
  *why = it->second.why;
  return it->second.plan;
}

}  // namespace evenflow::gpu::cuda
