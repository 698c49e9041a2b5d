#include "network.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/version.h>

#include <cmath>
#include <memory>
#include <numeric>

#include "guard.hpp"
#include "pixels.hpp"

using at::Tensor;

namespace {
at::Generator generator(uint64_t seed) { return at::detail::createCPUGenerator(seed); }

/// Uniform in ±1/sqrt(inputs), PyTorch's own initialisation of Linear and Conv2d.
Tensor uniform(at::IntArrayRef sizes, int64_t inputs, at::Generator g) {
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  return at::empty(sizes, at::kFloat).uniform_(-bound, bound, g);
}

ct::Linear linear(int64_t inputs, int64_t outputs, at::Generator g) {
  return {uniform({outputs, inputs}, inputs, g), uniform({outputs}, inputs, g)};
}

Tensor apply(const ct::Linear &l, const Tensor &x) { return at::relu(at::linear(x, l.weight, l.bias)); }

/// A clone that keeps channels_last.
Tensor copy(const Tensor &t) { return t.detach().clone(); }
}  // namespace

std::string &ct::last_error() {
  thread_local std::string text;
  return text;
}

ct_network::ct_network(const ct_shape &s, uint64_t seed) : shape(s) {
  TORCH_CHECK(s.layers >= 1 && s.layers <= CT_MAXIMUM_LAYERS, "a network has 1 to 8 convolutions, not ", s.layers);
  auto g = generator(seed);
  int64_t channels = 3, size = s.image_size;
  for (int32_t i = 0; i < s.layers; i++) {
    const int64_t out = s.channels[i], kernel = s.kernels[i], inputs = channels * kernel * kernel;
    ct::Layer l;
    l.weight = uniform({out, channels, kernel, kernel}, inputs, g).contiguous(at::MemoryFormat::ChannelsLast);
    l.bias = uniform({out}, inputs, g);
    l.scale = at::ones({out});
    l.offset = at::zeros({out});
    l.stride = s.strides[i];
    l.padding = kernel / 2;
    l.groups = std::gcd(out, int64_t{8});
    layers.push_back(l);
    channels = out;
    size = (size + 2 * l.padding - kernel) / l.stride + 1;
    TORCH_CHECK(size >= 1, "convolution ", i + 1, " leaves no pixel of an image of ", s.image_size);
  }
  vision = linear(channels * size * size, s.vision_features, g);
  joints = linear(s.joints, s.joint_features, g);
  fusion[0] = linear(s.vision_features + s.joint_features, s.fusion_features, g);
  fusion[1] = linear(s.fusion_features, s.fusion_features, g);
  joint_mean = at::zeros({s.joints});
  joint_deviation = at::ones({s.joints});
  rows = ct::make_rows(s, s.tasks, g);
}

ct_network::ct_network(const ct_network &o) : shape(o.shape), layers(o.layers) {
  for (auto &l : layers) {
    l.weight = copy(l.weight);
    l.bias = copy(l.bias);
    l.scale = copy(l.scale);
    l.offset = copy(l.offset);
  }
  vision = {copy(o.vision.weight), copy(o.vision.bias)};
  joints = {copy(o.joints.weight), copy(o.joints.bias)};
  for (int i = 0; i < 2; i++) fusion[i] = {copy(o.fusion[i].weight), copy(o.fusion[i].bias)};
  joint_mean = copy(o.joint_mean);
  joint_deviation = copy(o.joint_deviation);
  rows = {copy(o.rows.embedding), copy(o.rows.weight), copy(o.rows.bias)};
}

ct::TaskRows ct::make_rows(const ct_shape &s, int64_t tasks, at::Generator g) {
  const int64_t inputs = s.fusion_features + s.task_features;
  return {at::empty({tasks, s.task_features}).normal_(0, 1, g),
          at::empty({tasks, inputs, s.outputs}).normal_(0, 0.02, g), at::zeros({tasks, s.outputs})};
}

Tensor ct_network::trunk(const ct::Inputs &in) const {
  Tensor x = in.images;
  for (const auto &l : layers) {
    x = at::conv2d(x, l.weight, l.bias, {l.stride, l.stride}, {l.padding, l.padding});
    x = at::relu(at::group_norm(x, l.groups, l.scale, l.offset));
  }
  const Tensor seen = apply(vision, x.flatten(1));
  const Tensor felt = apply(joints, (in.joints - joint_mean) / joint_deviation);
  return apply(fusion[1], apply(fusion[0], at::cat({seen, felt}, 1)));
}

Tensor ct_network::head(const Tensor &features, const Tensor &tasks, const ct::TaskRows &rows) {
  const Tensor z = at::cat({features, rows.embedding.index_select(0, tasks)}, 1);
  return at::baddbmm(rows.bias.index_select(0, tasks).unsqueeze(1), z.unsqueeze(1), rows.weight.index_select(0, tasks))
      .squeeze(1);
}

std::vector<std::pair<std::string, Tensor>> ct_network::named() const {
  std::vector<std::pair<std::string, Tensor>> out;
  for (size_t i = 0; i < layers.size(); i++) {
    const std::string name = "convolutions." + std::to_string(i) + ".";
    out.insert(out.end(), {{name + "weight", layers[i].weight},
                           {name + "bias", layers[i].bias},
                           {name + "normalization.weight", layers[i].scale},
                           {name + "normalization.bias", layers[i].offset}});
  }
  const auto add = [&](const std::string &name, const ct::Linear &l) {
    out.insert(out.end(), {{name + ".weight", l.weight}, {name + ".bias", l.bias}});
  };
  add("vision", vision);
  out.insert(out.end(), {{"joints.mean", joint_mean}, {"joints.deviation", joint_deviation}});
  add("joints", joints);
  add("fusion.0", fusion[0]);
  add("fusion.1", fusion[1]);
  out.insert(out.end(), {{"task.embedding", rows.embedding}, {"head.weight", rows.weight}, {"head.bias", rows.bias}});
  return out;
}

std::vector<Tensor> ct_network::learnable() const {
  std::vector<Tensor> out;
  for (auto &[name, tensor] : named())
    if (name != "joints.mean" && name != "joints.deviation") out.push_back(tensor);
  return out;
}

ct::Inputs ct_network::inputs(const ct_batch &b, const ct_augmentation *augmentation) const {
  const int64_t n = b.count, size = shape.image_size;
  TORCH_CHECK(n >= 1, "a batch is empty");
  for (int64_t i = 0; i < n; i++)
    TORCH_CHECK(b.tasks[i] >= 0 && b.tasks[i] < shape.tasks, "task ", b.tasks[i], " is not one of ", shape.tasks);
  Tensor pixels = at::empty({n, size, size, 3}, at::kFloat);
  if (augmentation)
    ct::augment(b.images, b.count, shape.image_size, *augmentation, pixels.data_ptr<float>());
  else
    ct::normalise(b.images, pixels.numel(), pixels.data_ptr<float>());
  // A permuted NHWC buffer is a channels_last tensor. The rest is cloned: autograd keeps what it has seen.
  return {pixels.permute({0, 3, 1, 2}), at::from_blob(const_cast<float *>(b.joints), {n, shape.joints}).clone(),
          at::from_blob(const_cast<int64_t *>(b.tasks), {n}, at::kLong).clone()};
}

Tensor ct::loss(const Tensor &prediction, const ct_batch &b, ct_loss kind) {
  TORCH_CHECK(b.targets, "a batch has no targets");
  const Tensor target = at::from_blob(const_cast<float *>(b.targets), prediction.sizes()).clone();
  Tensor each;
  switch (kind) {
    case CT_LOSS_MSE: each = at::mse_loss(prediction, target, at::Reduction::None); break;
    case CT_LOSS_L1: each = at::l1_loss(prediction, target, at::Reduction::None); break;
    case CT_LOSS_SMOOTH_L1: each = at::smooth_l1_loss(prediction, target, at::Reduction::None, 0.1); break;
    default: TORCH_CHECK(false, "unknown loss ", static_cast<int>(kind));
  }
  each = each.mean(1);
  if (!b.weights) return each.mean();
  const Tensor weight = at::from_blob(const_cast<float *>(b.weights), {b.count}).clone();
  const Tensor total = weight.sum();
  TORCH_CHECK(total.item<float>() > 0, "the weights of a batch sum to nothing");
  return (each * weight).sum() / total;
}

struct ct_engine {
  ct_network network;
};

extern "C" {
const char *ct_last_error(void) { return ct::last_error().c_str(); }

void ct_set_threads(int32_t threads) { ct::guarded([&] { at::set_num_threads(threads); }); }

const char *ct_torch_version(void) { return TORCH_VERSION; }

int32_t ct_network_create(const ct_shape *shape, uint64_t seed, ct_network **out) {
  return ct::guarded([&] { *out = new ct_network(*shape, seed); });
}

void ct_network_destroy(ct_network *network) { delete network; }

int32_t ct_network_grow(const ct_network *network, int32_t tasks, uint64_t seed, ct_network **out) {
  return ct::guarded([&] {
    at::NoGradGuard guard;
    const int64_t added = tasks - network->shape.tasks;
    TORCH_CHECK(added >= 0, "a network of ", network->shape.tasks, " tasks cannot grow to ", tasks);
    auto grown = std::make_unique<ct_network>(*network);
    const auto rows = ct::make_rows(network->shape, added, generator(seed));
    grown->shape.tasks = tasks;
    grown->rows = {at::cat({grown->rows.embedding, rows.embedding}), at::cat({grown->rows.weight, rows.weight}),
                   at::cat({grown->rows.bias, rows.bias})};
    *out = grown.release();
  });
}

int32_t ct_network_tensor_count(const ct_network *network) { return static_cast<int32_t>(network->named().size()); }

const char *ct_network_tensor_name(const ct_network *network, int32_t index) {
  thread_local std::string name;
  name = network->named()[static_cast<size_t>(index)].first;
  return name.c_str();
}

int32_t ct_network_tensor_shape(const ct_network *network, int32_t index, int64_t *sizes) {
  const Tensor tensor = network->named()[static_cast<size_t>(index)].second;
  std::copy(tensor.sizes().begin(), tensor.sizes().end(), sizes);
  return static_cast<int32_t>(tensor.dim());
}

int32_t ct_network_read(const ct_network *network, int32_t index, float *out, int64_t count) {
  return ct::guarded([&] {
    at::NoGradGuard guard;
    const Tensor tensor = network->named().at(static_cast<size_t>(index)).second;
    TORCH_CHECK(tensor.numel() == count, "a tensor has ", tensor.numel(), " values, not ", count);
    at::from_blob(out, tensor.sizes()).copy_(tensor);
  });
}

int32_t ct_network_write(ct_network *network, int32_t index, const float *values, int64_t count) {
  return ct::guarded([&] {
    at::NoGradGuard guard;
    Tensor tensor = network->named().at(static_cast<size_t>(index)).second;
    TORCH_CHECK(tensor.numel() == count, "a tensor has ", tensor.numel(), " values, not ", count);
    tensor.copy_(at::from_blob(const_cast<float *>(values), tensor.sizes()));
  });
}

int32_t ct_network_forward(const ct_network *network, const ct_batch *batch, float *out) {
  return ct::guarded([&] {
    at::NoGradGuard guard;
    at::from_blob(out, {batch->count, network->shape.outputs}).copy_(network->forward(network->inputs(*batch, nullptr)));
  });
}

int32_t ct_network_loss(const ct_network *network, const ct_batch *batch, ct_loss loss, double *out) {
  return ct::guarded([&] {
    at::NoGradGuard guard;
    *out = ct::loss(network->forward(network->inputs(*batch, nullptr)), *batch, loss).item<double>();
  });
}

int32_t ct_engine_create(const ct_network *network, ct_engine **out) {
  return ct::guarded([&] {
    c10::InferenceMode mode;
    *out = new ct_engine{*network};
  });
}

void ct_engine_destroy(ct_engine *engine) { delete engine; }

int32_t ct_engine_run(const ct_engine *engine, const ct_batch *batch, float *out) {
  return ct::guarded([&] {
    c10::InferenceMode mode;
    const auto &network = engine->network;
    at::from_blob(out, {batch->count, network.shape.outputs}).copy_(network.forward(network.inputs(*batch, nullptr)));
  });
}
}
