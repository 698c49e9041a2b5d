// Images as bytes into images as floats.
#pragma once
#include "CTorch.h"

namespace ct {
/// count x size x size x 3 bytes into floats in [-0.5, 0.5], in the same order.
void normalise(const uint8_t *source, int64_t values, float *target);

/// The same after a random shift (edges repeated), brightness and contrast of each image.
void augment(const uint8_t *source, int32_t count, int32_t size, const ct_augmentation &options, float *target);
}  // namespace ct
