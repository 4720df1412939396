// SPDX-License-Identifier: Apache-2.0
// Layers: a handle (Layer) to shared state and mode (LayerImpl). A layer makes its weights when it
// first sees the extents of its input.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/graph/variable.h"
#include "evenflow/model/config.h"

namespace evenflow {

struct Weight {
  std::string name;  ///< "kernel", "moving_mean"
  Variable variable;
  bool trainable = true;
  Regularizer regularizer = {};
  Constraint constraint = {};
};

/// What a call needs to know. A model hands it to all its layers.
struct CallContext {
  bool training = false;
  /// Which places of the input count for statistics (BatchNormalization), as Keras's: not 0 where
  /// they do, of the input's shape without the channels; extents of 1 broadcast.
  Tensor mask = {};
  /// How much they count: [batch], or as the mask. Multiplied with it.
  Tensor sample_weight = {};
  /// Which elements of the data the batch has, i64 [batch]: augmentation draws by them. Empty
  /// stands for 0, 1, ...
  Tensor index = {};
};

class LayerImpl {
 public:
  virtual ~LayerImpl() = default;
  virtual std::string_view class_name() const = 0;
  /// Refuses a configuration that no input could make right.
  virtual void check() const {}
  /// The extents of the output; throws InvalidArgument when the layer does not take such inputs.
  virtual Dims output_dims(const std::vector<Dims>& inputs) const = 0;
  /// Makes the weights.
  virtual void build(const std::vector<Dims>&) {}
  virtual Tensor call(const Tensors& inputs, const CallContext& context) = 0;
  virtual void visit(ConfigVisitor&) {}
  /// Named numbers beyond Keras's weights, kept in evenflow.json: update counts and the like.
  virtual std::vector<Weight> extra_state() const { return {}; }
  /// What the summary says of the layer behind its class, such as its mode; or "".
  virtual std::string summary_note() const { return {}; }
  /// Settings that Keras has no word for, kept in evenflow.json; they can be read when the layer
  /// is built already. Throws InvalidArgument for a value that is none.
  virtual void settings(ConfigVisitor&) {}
  /// Whether a mode holds the weights, as if the layer were not trainable.
  virtual bool holds_weights() const { return false; }
  /// Whether Keras's configuration of the class has the word "trainable".
  virtual bool says_trainable() const { return true; }
  /// Why Keras would not predict the same, or "": then the model is not saved as a .keras file.
  virtual std::string only_here() const { return {}; }
  /// Throws DataLoss for weights, read from a file, that no training makes.
  virtual void check_weights() const {}
  /// Called when weights were read from a file that Evenflow did not write.
  virtual void adopt_keras_weights() {}
  virtual bool takes_many_inputs() const { return false; }
  virtual void set_trainable(bool t) { trainable.set(t); }
  /// The model that this layer is, where a model is a layer of another.
  virtual struct ModelImpl* model() const { return nullptr; }
  /// The layer that this one wraps, where it wraps one; wrap() is for readers of files.
  virtual std::shared_ptr<LayerImpl> wrapped() const { return {}; }
  virtual bool wraps() const { return false; }
  virtual void wrap(std::shared_ptr<LayerImpl>) {}
  /// What a .keras file holds as this layer's own, in Keras's order.
  virtual std::vector<Weight> stored_weights() const { return weights; }

  void ensure_built(const std::vector<Dims>& inputs);
  /// call() with the name scope and the cast to the compute type.
  Tensor operator()(const Tensors& inputs, const CallContext& context);

  std::string name;
  bool built = false;
  Setting trainable{1};
  std::string dtype =
      "float32";                ///< Keras's policy: float32, float64, mixed_bfloat16, mixed_float16
  std::vector<Weight> weights;  ///< in Keras's order
  std::vector<Dims> input_dims;  ///< what it was built for
  uint64_t seed = 0;             ///< of its initialisers

  DType compute_dtype() const;
  DType variable_dtype() const;

 protected:
  Variable add_weight(const std::string& weight_name, const Shape& shape, const Initializer& init,
                      bool weight_trainable = true, Regularizer regularizer = {},
                      const Constraint& constraint = {}, std::optional<DType> weight_dtype = {});
  [[noreturn]] void refuse(std::string_view what, const Dims& found,
                           std::string_view expected) const;
};

/// While one is alive, layers that this thread builds have weights of at most so many elements in
/// all, and these are zeros: for readers of files, whose weights come afterwards. Building more
/// throws InvalidArgument, before anything is allocated.
class BuildLimit {
 public:
  explicit BuildLimit(int64_t elements);
  ~BuildLimit();
  BuildLimit(const BuildLimit&) = delete;

 private:
  friend class LayerImpl;
  static thread_local BuildLimit* current;
  int64_t left_;
};

/// The symbolic output of a layer in the functional style.
struct SymbolicTensor {
  struct Source {
    std::shared_ptr<LayerImpl> layer;
    std::vector<SymbolicTensor> inputs;
  };
  std::shared_ptr<const Source> source;
  Dims dims;
};

class Layer {
 public:
  Layer() = default;
  explicit Layer(std::shared_ptr<LayerImpl> impl) : impl_(std::move(impl)) {}
  SymbolicTensor operator()(const SymbolicTensor& x) const {
    return (*this)(std::vector<SymbolicTensor>{x});
  }
  SymbolicTensor operator()(const std::vector<SymbolicTensor>& xs) const;
  /// Runs the layer, building it on first use.
  Tensor operator()(const Tensor& x, CallContext context = {}) const {
    return (*this)(Tensors{x}, context);
  }
  Tensor operator()(const Tensors& xs, CallContext context = {}) const;

  const std::string& name() const;
  Layer& set_name(std::string name);
  bool trainable() const;
  void set_trainable(bool trainable);
  const std::vector<Weight>& weights() const;
  const std::shared_ptr<LayerImpl>& impl() const { return impl_; }

 protected:
  std::shared_ptr<LayerImpl> impl_;
};

/// Layers by Keras's class name: an intrusive list, like the operations. Nothing else is ever made
/// from a file.
struct LayerEntry {
  const char* name;
  std::shared_ptr<LayerImpl> (*make)();
  const LayerEntry* next;
  LayerEntry(const char* name, std::shared_ptr<LayerImpl> (*make)());
  static const LayerEntry*& head();
};
/// A layer with default configuration; throws InvalidArgument for an unknown class, by name.
std::shared_ptr<LayerImpl> make_layer(std::string_view class_name);

/// Seeds what is random from now on in this process: initialisers, dropout
/// (keras.utils.set_random_seed).
void set_random_seed(uint64_t seed);
/// The next seed of the process-wide sequence.
uint64_t next_seed();
/// The policy of layers made from now on that state none (keras.mixed_precision.set_global_policy):
/// "float32", "mixed_bfloat16", ...
void set_dtype_policy(std::string policy);
/// Throws InvalidArgument for what is no policy here.
void check_policy(std::string_view what, std::string_view policy);
const std::string& dtype_policy();
/// "conv2d", "conv2d_1", ...: Keras's automatic names.
std::string automatic_name(std::string_view class_name);
/// Throws InvalidArgument for what Keras would not take as a name of a layer or a model: an empty
/// one, and a slash; further for more than 500 bytes, a zero byte and what is not UTF-8.
void check_name(std::string_view what, std::string_view name);
/// Keras's snake case: "BatchNormalization" -> "batch_normalization", "Conv2D" -> "conv2d".
std::string snake_case(std::string_view class_name);

namespace detail {
/// A layer class from its configuration struct.
template <class Impl>
class LayerOf : public Layer {
 public:
  using Config = typename Impl::Config;
  LayerOf(Config config = Config())
      : Layer(make(std::move(config))) {}  // NOLINT: implicit on purpose

 private:
  static std::shared_ptr<LayerImpl> make(Config config) {
    auto impl = std::make_shared<Impl>();
    impl->config = std::move(config);
    impl->name = impl->config.name.empty() ? automatic_name(impl->class_name()) : impl->config.name;
    check_name(impl->class_name(), impl->name);
    impl->dtype = impl->config.dtype.empty() ? dtype_policy() : impl->config.dtype;
    check_policy(impl->class_name(), impl->dtype);
    impl->seed = next_seed();
    impl->check();
    return impl;
  }
};
}  // namespace detail

/// Base of a layer with a configuration. Every configuration ends with `name` and `dtype`, which
/// stand for automatic_name() and dtype_policy().
template <class C>
class ConfiguredLayer : public LayerImpl {
 public:
  using Config = C;
  C config;
  void visit(ConfigVisitor& v) override { config.fields(v); }
};

}  // namespace evenflow
