// SPDX-License-Identifier: Apache-2.0
// Model: layers connected into one function. Sequential is a chain; the functional style connects
// symbolic tensors.
//   Sequential model({Conv2D({.filters = 8, .kernel_size = 3}), BatchNormalization(), ReLU(),
//   Flatten(), Dense({.units = 10})}); auto x = Input({8, 8, 1}); Model model(x, Dense({.units =
//   10})(Flatten()(x)));
// compile, fit, evaluate and predict are the train room's: declared here, so that a model is one
// thing to its user.
#pragma once
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "evenflow/model/layer.h"

namespace evenflow {

class Dataset;
class Function;
struct CompileModelOptions;
struct FitOptions;
struct EvaluateOptions;
struct PredictOptions;
struct History;
struct Logs;
struct Training;  // what compile() made: optimizer, loss, metrics, compiled steps

struct ModelImpl {
  struct Call {  ///< one use of a layer
    std::shared_ptr<LayerImpl> layer;
    std::vector<int> inputs;  ///< numbers of calls
    Dims dims;                ///< of the output
    int64_t number = 0;       ///< among the uses of this layer
  };
  ModelImpl();
  std::string name, class_name;                    ///< class "Sequential" or "Functional"
  std::vector<std::shared_ptr<LayerImpl>> layers;  ///< in Keras's order, inputs included
  std::vector<Call> calls;                         ///< in order of execution
  std::vector<int> inputs, outputs;
  Setting trainable{1};
  std::shared_ptr<Training> training;
  std::shared_ptr<Function> predict_step;     ///< what predict() compiles; there from the beginning
  std::vector<Variable> optimizer_variables;  ///< for the summary; train/ fills it

  /// A layer that is no model, and the names of the models and wrappers that lead to it.
  struct Leaf {
    std::string path;  ///< "inner/dense"
    std::shared_ptr<LayerImpl> layer;
    bool trainable;  ///< it and all around it are, and no mode holds it
  };
  /// All of them, each once.
  std::vector<Leaf> leaves() const;
  /// Puts a functional model's layers in Keras's order: by distance from the outputs, then as a
  /// walk from the outputs meets them. The weights in a file are numbered in this order. Throws
  /// InvalidArgument for a layer that leads to no output.
  void order_layers();
};

class Model {
 public:
  Model() = default;
  Model(const SymbolicTensor& input, const SymbolicTensor& output, std::string name = {})
      : Model(std::vector{input}, std::vector{output}, std::move(name)) {}
  /// Throws InvalidArgument when an output does not come from the inputs, or two layers share a
  /// name.
  Model(const std::vector<SymbolicTensor>& inputs, const std::vector<SymbolicTensor>& outputs,
        std::string name = {});
  explicit Model(std::shared_ptr<ModelImpl> impl) : impl_(std::move(impl)) {}

  /// Runs the layers in order; builds a Sequential without Input first.
  Tensors call(const Tensors& inputs, CallContext context = {}) const;
  Tensor operator()(const Tensor& x, CallContext context = {}) const;
  /// Makes the weights of a Sequential for inputs of these extents (the batch, -1, first).
  void build(const Dims& input) const;
  bool built() const;

  const std::string& name() const;
  std::vector<Layer> layers() const;
  /// By name; throws NotFound.
  Layer get_layer(std::string_view name) const;
  /// In Keras's order: trainable ones of all layers, then the others, when `trainable` is left out.
  std::vector<Weight> weights() const;
  std::vector<Weight> trainable_weights() const;
  std::vector<Weight> non_trainable_weights() const;
  int64_t count_params() const;
  void set_trainable(bool trainable) const;
  std::vector<Dims> input_dims() const;
  std::vector<Dims> output_dims() const;

  /// Keras's table: layers, output shapes, parameters; and the mode of those that have one.
  std::string summary() const;

  // ---- model/keras_file.cc ----
  /// Writes a .keras file that Keras 3 opens; an old file stays when this fails.
  void save(const std::string& path) const;

  // ---- train/ ----
  void compile(CompileModelOptions options) const;
  History fit(const Dataset& data, FitOptions options) const;
  History fit(const Tensor& x, const Tensor& y, FitOptions options) const;
  Logs evaluate(const Dataset& data, EvaluateOptions options) const;
  Logs evaluate(const Tensor& x, const Tensor& y, EvaluateOptions options) const;
  /// The outputs of all elements [elements, ...]; of a dataset, whose first column is x.
  Tensor predict(const Dataset& data, PredictOptions options) const;
  Tensor predict(const Tensor& x, PredictOptions options) const;
  Tensor predict(const Tensor& x) const;
  /// One step of training, by the step that fit uses; returns loss and metrics of this batch.
  Logs train_on_batch(const Tensor& x, const Tensor& y) const;

  ModelImpl& impl() const;

 protected:
  std::shared_ptr<ModelImpl> impl_;
};

class Sequential : public Model {
 public:
  Sequential(std::initializer_list<Layer> layers, std::string name = {})
      : Sequential(std::vector<Layer>(layers), std::move(name)) {}
  explicit Sequential(const std::vector<Layer>& layers = {}, std::string name = {});
  /// Adds a layer at the end; throws FailedPrecondition when the model was built.
  void add(const Layer& layer);
};

/// A symbolic input as the first layer of a Sequential.
Layer to_layer(const SymbolicTensor& input);
/// A model with one output as a layer of another; it shares its weights.
Layer to_layer(const Model& model);

/// Opens a .keras file of Keras 3 or of Evenflow. Files are data: a class that is not in the fixed
/// table of layers is refused by name.
Model load_model(const std::string& path);

}  // namespace evenflow
