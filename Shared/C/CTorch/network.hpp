// The network of capability 1 as named tensors and one forward pass.
#pragma once
#if !__has_include(<ATen/ATen.h>)
#error "LibTorch is missing: run deploy/setup (it unpacks LibTorch into .libtorch), or set LIBTORCH_DIR."
#endif
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <string>
#include <vector>

#include "CTorch.h"

namespace ct {
/// The rows that belong to tasks, apart from the trunk that all tasks share.
struct TaskRows {
  at::Tensor embedding;  // [tasks, task features]
  at::Tensor weight;     // [tasks, fusion + task features, outputs]
  at::Tensor bias;       // [tasks, outputs]
};

struct Layer {
  at::Tensor weight, bias, scale, offset;
  int64_t stride, padding, groups;
};

struct Linear {
  at::Tensor weight, bias;
};

/// images [n, 3, size, size] float channels_last; joints [n, joints]; tasks [n].
struct Inputs {
  at::Tensor images, joints, tasks;
};
}  // namespace ct

struct ct_network {
  ct_shape shape{};
  std::vector<ct::Layer> layers;
  ct::Linear vision, joints, fusion[2];
  at::Tensor joint_mean, joint_deviation;
  ct::TaskRows rows;

  ct_network(const ct_shape &shape, uint64_t seed);
  ct_network(const ct_network &other);  // deep

  /// Features of the trunk, [n, fusion features].
  at::Tensor trunk(const ct::Inputs &in) const;
  /// Actions from features, [n, outputs].
  static at::Tensor head(const at::Tensor &features, const at::Tensor &tasks, const ct::TaskRows &rows);
  at::Tensor forward(const ct::Inputs &in) const { return head(trunk(in), in.tasks, rows); }

  /// Every tensor by its name in a weights file, trunk first; the last three are the task rows.
  std::vector<std::pair<std::string, at::Tensor>> named() const;
  ct::Inputs inputs(const ct_batch &batch, const ct_augmentation *augmentation) const;
  /// What a step changes when everything learns.
  std::vector<at::Tensor> learnable() const;
};

namespace ct {
/// Weighted mean over samples of the mean over outputs.
at::Tensor loss(const at::Tensor &prediction, const ct_batch &batch, ct_loss kind);
/// New task rows, drawn from a generator.
TaskRows make_rows(const ct_shape &shape, int64_t tasks, at::Generator generator);
}  // namespace ct
