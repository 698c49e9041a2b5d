#include <cmath>
#include <memory>

#include "guard.hpp"
#include "network.hpp"

using at::Tensor;

struct ct_trainer {
  ct_network *network;
  ct_trainer_options options;
  /// Leaves of autograd, and the moments of AdamW beside each.
  std::vector<Tensor> leaves, first, second, steps;
  /// With frozen weights: the rows of the tasks that learn; they are leaves.
  ct::TaskRows rows;

  bool frozen() const { return options.first_task >= 0; }

  ct_trainer(ct_network *n, const ct_trainer_options &o) : network(n), options(o) {
    if (frozen()) {
      TORCH_CHECK(n->shape.tasks > o.first_task, "no task learns: the network has ", n->shape.tasks, " and ",
                  o.first_task, " are frozen");
      const auto take = [&](const Tensor &t) { return learning(t).clone(); };
      rows = {take(n->rows.embedding), take(n->rows.weight), take(n->rows.bias)};
      leaves = {rows.embedding, rows.weight, rows.bias};
    } else {
      leaves = n->learnable();
    }
    for (auto &leaf : leaves) {
      leaf.requires_grad_(true);
      first.push_back(at::zeros_like(leaf));
      second.push_back(at::zeros_like(leaf));
      steps.push_back(at::zeros({}, at::kFloat));
    }
  }

  ~ct_trainer() {
    for (auto &leaf : leaves) {
      leaf.mutable_grad() = Tensor();
      leaf.requires_grad_(false);
    }
  }

  /// The part of a tensor of task rows that learns.
  Tensor learning(const Tensor &all) const {
    return all.detach().narrow(0, options.first_task, network->shape.tasks - options.first_task);
  }

  /// Takes the network's rows as they are now, e.g. after it was restored.
  void reload() {
    if (!frozen()) return;
    rows.embedding.copy_(learning(network->rows.embedding));
    rows.weight.copy_(learning(network->rows.weight));
    rows.bias.copy_(learning(network->rows.bias));
  }

  Tensor predict(const ct::Inputs &in) const {
    if (!frozen()) return network->forward(in);
    Tensor features;
    {
      at::NoGradGuard guard;
      features = network->trunk(in);
    }
    const int64_t from = options.first_task;
    const auto join = [&](const Tensor &all, const Tensor &learnt) {
      return at::cat({all.detach().narrow(0, 0, from), learnt});
    };
    return ct_network::head(features, in.tasks,
                            {join(network->rows.embedding, rows.embedding), join(network->rows.weight, rows.weight),
                             join(network->rows.bias, rows.bias)});
  }

  void update(double rate) {
    // Weight decay is for matrices and kernels; biases and normalisations keep their size.
    for (const bool decayed : {true, false}) {
      std::vector<Tensor> p, g, m, v, s;
      for (size_t i = 0; i < leaves.size(); i++) {
        if ((leaves[i].dim() >= 2) != decayed || !leaves[i].grad().defined()) continue;
        p.push_back(leaves[i]);
        g.push_back(leaves[i].grad());
        m.push_back(first[i]);
        v.push_back(second[i]);
        s.push_back(steps[i]);
      }
      if (p.empty()) continue;
      at::_foreach_add_(s, at::Scalar(1));
      at::_fused_adamw_(p, g, m, v, {}, s, rate, 0.9, 0.999, decayed ? options.weight_decay : 0.0, 1e-8, false, false);
    }
    if (!frozen()) return;
    learning(network->rows.embedding).copy_(rows.embedding);
    learning(network->rows.weight).copy_(rows.weight);
    learning(network->rows.bias).copy_(rows.bias);
  }

  int64_t state_count() const {
    int64_t values = 0;
    for (auto &leaf : leaves) values += 2 * leaf.numel() + 1;
    return values;
  }

  /// Every state tensor in the order of a saved state.
  template <class Body>
  void each(Body &&body) const {
    for (auto *list : {&first, &second, &steps})
      for (auto &tensor : *list) body(tensor);
  }
};

extern "C" {
int32_t ct_trainer_create(ct_network *network, const ct_trainer_options *options, ct_trainer **out) {
  return ct::guarded([&] { *out = new ct_trainer(network, *options); });
}

void ct_trainer_destroy(ct_trainer *trainer) { delete trainer; }

int32_t ct_trainer_step(ct_trainer *trainer, const ct_batch *batch, const ct_augmentation *augmentation, double rate,
                        double *loss, double *norm) {
  return ct::guarded([&] {
    for (auto &leaf : trainer->leaves) leaf.mutable_grad() = Tensor();
    const Tensor value =
        ct::loss(trainer->predict(trainer->network->inputs(*batch, augmentation)), *batch, trainer->options.loss);
    *loss = value.item<double>();
    TORCH_CHECK(std::isfinite(*loss), "the loss is not finite; lower the learning rate or look for bad targets");
    value.backward();
    at::NoGradGuard guard;
    std::vector<Tensor> gradients;
    for (auto &leaf : trainer->leaves)
      if (leaf.grad().defined()) gradients.push_back(leaf.grad());
    Tensor squares = at::zeros({}, at::kDouble);
    for (auto &n : at::_foreach_norm(gradients, 2)) squares += n.to(at::kDouble).square();
    *norm = std::sqrt(squares.item<double>());
    TORCH_CHECK(std::isfinite(*norm), "the gradient is not finite; lower the learning rate");
    const double clip = trainer->options.gradient_clip;
    if (clip > 0 && *norm > clip) at::_foreach_mul_(gradients, at::Scalar(clip / *norm));
    trainer->update(rate);
  });
}

int64_t ct_trainer_state_count(const ct_trainer *trainer) { return trainer->state_count(); }

int32_t ct_trainer_read_state(const ct_trainer *trainer, float *out, int64_t count) {
  return ct::guarded([&] {
    TORCH_CHECK(count == trainer->state_count(), "the optimiser has ", trainer->state_count(), " values, not ", count);
    trainer->each([&](const Tensor &tensor) {
      at::from_blob(out, tensor.sizes()).copy_(tensor);
      out += tensor.numel();
    });
  });
}

int32_t ct_trainer_write_state(ct_trainer *trainer, const float *values, int64_t count) {
  return ct::guarded([&] {
    at::NoGradGuard guard;
    TORCH_CHECK(count == trainer->state_count(), "the optimiser has ", trainer->state_count(), " values, not ", count);
    trainer->reload();
    trainer->each([&](Tensor tensor) {
      tensor.copy_(at::from_blob(const_cast<float *>(values), tensor.sizes()));
      values += tensor.numel();
    });
  });
}
}
