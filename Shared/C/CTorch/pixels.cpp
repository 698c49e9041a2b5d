#include "pixels.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace {
/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same everywhere.
struct Random {
  uint64_t state;
  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  /// In [-1, 1).
  float symmetric() { return static_cast<float>(next() >> 40) * (2.0f / (1 << 24)) - 1.0f; }
  /// In [-bound, bound].
  int32_t within(int32_t bound) {
    return static_cast<int32_t>(next() % static_cast<uint64_t>(2 * bound + 1)) - bound;
  }
};

void mean_squares(const uint8_t *source, int32_t width, uint8_t *target, int32_t size, int32_t factor_y,
                  int32_t factor_x) {
  const int32_t area = factor_y * factor_x;
  for (int32_t y = 0; y < size; y++)
    for (int32_t x = 0; x < size; x++) {
      int32_t sum[3] = {0, 0, 0};
      for (int32_t dy = 0; dy < factor_y; dy++) {
        const uint8_t *p = source + (static_cast<int64_t>(y * factor_y + dy) * width + x * factor_x) * 3;
        for (int32_t dx = 0; dx < factor_x; dx++, p += 3) {
          sum[0] += p[0];
          sum[1] += p[1];
          sum[2] += p[2];
        }
      }
      for (int32_t c = 0; c < 3; c++) *target++ = static_cast<uint8_t>((sum[c] + area / 2) / area);
    }
}

struct Tap {
  int32_t first, second;
  float share;  // of the second
};

std::vector<Tap> taps(int32_t from, int32_t to) {
  std::vector<Tap> out(static_cast<size_t>(to));
  const float scale = static_cast<float>(from) / static_cast<float>(to);
  for (int32_t i = 0; i < to; i++) {
    const float at = std::max(0.0f, (static_cast<float>(i) + 0.5f) * scale - 0.5f);
    const int32_t first = std::min(static_cast<int32_t>(at), from - 1);
    out[static_cast<size_t>(i)] = {first, std::min(first + 1, from - 1), at - static_cast<float>(first)};
  }
  return out;
}
}  // namespace

void ct::normalise(const uint8_t *source, int64_t values, float *target) {
  for (int64_t i = 0; i < values; i++) target[i] = static_cast<float>(source[i]) * (1.0f / 255) - 0.5f;
}

void ct::augment(const uint8_t *source, int32_t count, int32_t size, const ct_augmentation &options, float *target) {
  Random random{options.seed};
  const int64_t image = static_cast<int64_t>(size) * size * 3;
  for (int32_t n = 0; n < count; n++, source += image, target += image) {
    const int32_t dx = options.shift > 0 ? random.within(options.shift) : 0;
    const int32_t dy = options.shift > 0 ? random.within(options.shift) : 0;
    const float contrast = 1.0f + options.jitter * random.symmetric();
    float brightness[3];
    for (float &b : brightness) b = 0.25f * options.jitter * random.symmetric();
    const float scale = contrast / 255;
    for (int32_t y = 0; y < size; y++) {
      const uint8_t *row = source + static_cast<int64_t>(std::clamp(y + dy, 0, size - 1)) * size * 3;
      float *out = target + static_cast<int64_t>(y) * size * 3;
      for (int32_t x = 0; x < size; x++, out += 3) {
        const uint8_t *p = row + std::clamp(x + dx, 0, size - 1) * 3;
        for (int32_t c = 0; c < 3; c++) out[c] = static_cast<float>(p[c]) * scale - 0.5f * contrast + brightness[c];
      }
    }
  }
}

void ct_resize(const uint8_t *source, int32_t height, int32_t width, uint8_t *target, int32_t size) {
  if (height == size && width == size) {
    std::copy_n(source, static_cast<int64_t>(size) * size * 3, target);
    return;
  }
  if (height % size == 0 && width % size == 0) {
    mean_squares(source, width, target, size, height / size, width / size);
    return;
  }
  const std::vector<Tap> columns = taps(width, size), rows = taps(height, size);
  for (const Tap &row : rows) {
    const uint8_t *top = source + static_cast<int64_t>(row.first) * width * 3;
    const uint8_t *bottom = source + static_cast<int64_t>(row.second) * width * 3;
    for (const Tap &column : columns)
      for (int32_t c = 0; c < 3; c++) {
        const int32_t left = column.first * 3 + c, right = column.second * 3 + c;
        const float above = static_cast<float>(top[left]) * (1 - column.share) + static_cast<float>(top[right]) * column.share;
        const float below =
            static_cast<float>(bottom[left]) * (1 - column.share) + static_cast<float>(bottom[right]) * column.share;
        *target++ = static_cast<uint8_t>(std::lround(above * (1 - row.share) + below * row.share));
      }
  }
}
