// Filled with rollout's tests.
