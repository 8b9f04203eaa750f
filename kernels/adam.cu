// adam: one pass over the flat arena of parameters, and what decides whether it may happen.
//
// Entry points
//   adam_norm   sums of squares of SCX_NORM_PARTS pieces of the gradient
//   adam_guard  their sum, whether loss and gradient are finite, the constants of this step; one block
//   adam_step   p, m, v of 2,048 elements a block; the gradient becomes 0
//
// What bounds it: memory. A step reads p, g, m, v and writes them: 32 bytes an element, a GB at 34 million parameters.
// Elements are taken 16 bytes at a time, two groups of four a thread, all eight loads before the first store. Arenas
// that are not 16-byte aligned are taken one element at a time.
//
// See docs/model.md, section 5.6.
#include "common/abi.h"
#include "common/tile.h"  // aligned, block_sum

namespace {

using namespace scx;

constexpr uint32_t kThreads = 256, kGroups = 2;             // groups of four elements a thread
constexpr uint32_t kElements = 4 * kThreads * kGroups;      // a block

__device__ __forceinline__ float square(const float4& x) { return x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w; }

struct Constants {
  float beta1, rest1, beta2, rest2, size, root, eps, weight_decay;
};

__device__ __forceinline__ void step(const Constants& c, float& p, float g, float& m, float& v) {
  const float d = g + c.weight_decay * p;
  m = c.beta1 * m + c.rest1 * d;
  v = c.beta2 * v + c.rest2 * d * d;
  p -= c.size * m / (sqrtf(v) * c.root + c.eps);
}

__device__ __forceinline__ bool finite(float x) { return x - x == 0.0f; }

}  // namespace

SCX_KERNEL(adam_norm, AdamNormArgs, kThreads, 0, 1, 1) {
  __shared__ float sums[kThreads];
  const uint64_t piece = ((a.n + SCX_NORM_PARTS - 1) / SCX_NORM_PARTS + 3) / 4 * 4;
  const uint64_t first = blockIdx.x * piece;
  uint64_t last = first + piece < a.n ? first + piece : a.n;
  if (last < first) last = first;
  float sum = 0.0f;
  uint64_t rest = first;  // what is not taken four at a time starts here
  if (aligned(a.g, 16)) {
    rest = first + (last - first) / 4 * 4;
    const float4* const g = reinterpret_cast<const float4*>(a.g);
#pragma unroll 4
    for (uint64_t i = first / 4 + threadIdx.x; i < rest / 4; i += kThreads) sum += square(g[i]);
  }
  for (uint64_t i = rest + threadIdx.x; i < last; i += kThreads) sum += a.g[i] * a.g[i];
  sum = block_sum(sum, sums);
  if (threadIdx.x == 0) a.part[blockIdx.x] = sum;
}

SCX_KERNEL(adam_guard, AdamGuardArgs, kThreads, 0, 1, 1) {
  __shared__ float sums[kThreads];
  float sum = 0.0f;
  for (uint32_t i = threadIdx.x; i < SCX_NORM_PARTS; i += kThreads) sum += a.part[i];
  sum = block_sum(sum, sums);
  if (threadIdx.x != 0) return;
  Control c = *a.control;
  const float norm = sqrtf(sum);
  const bool is_finite = finite(a.record->loss) && finite(norm);
  if (!is_finite && c.stop_on_nan != 0) c.halted = 1;
  c.apply = is_finite && c.halted == 0;
  if (c.apply != 0) {
    c.updates += 1;
    c.size = float(*a.rate / (1.0 - pow(a.beta1, double(c.updates))));
    c.root = float(1.0 / sqrt(1.0 - pow(a.beta2, double(c.updates))));
  }
  *a.control = c;
  a.record->norm = norm;
  a.record->finite = is_finite;
  a.record->applied = c.apply;
  a.record->updates = c.updates;
}

SCX_KERNEL(adam_step, AdamStepArgs, kThreads, 0, kElements, 1) {
  const uint64_t first = uint64_t(blockIdx.x) * kElements;
  if (first >= a.n) return;
  const bool apply = a.control->apply != 0;
  const Constants c = {a.beta1, a.rest1, a.beta2, a.rest2, a.control->size, a.control->root, a.eps, a.weight_decay};
  if (a.n - first >= kElements && aligned(a.p, 16) && aligned(a.g, 16) && aligned(a.m, 16) && aligned(a.v, 16)) {
    const uint64_t at = first / 4 + threadIdx.x;
    float4* const g = reinterpret_cast<float4*>(a.g) + at;
    if (apply) {
      float4* const p = reinterpret_cast<float4*>(a.p) + at;
      float4* const m = reinterpret_cast<float4*>(a.m) + at;
      float4* const v = reinterpret_cast<float4*>(a.v) + at;
      float4 pp[kGroups], gg[kGroups], mm[kGroups], vv[kGroups];
#pragma unroll
      for (uint32_t i = 0; i < kGroups; ++i) {
        pp[i] = p[i * kThreads], gg[i] = g[i * kThreads], mm[i] = m[i * kThreads], vv[i] = v[i * kThreads];
      }
#pragma unroll
      for (uint32_t i = 0; i < kGroups; ++i) {
        step(c, pp[i].x, gg[i].x, mm[i].x, vv[i].x);
        step(c, pp[i].y, gg[i].y, mm[i].y, vv[i].y);
        step(c, pp[i].z, gg[i].z, mm[i].z, vv[i].z);
        step(c, pp[i].w, gg[i].w, mm[i].w, vv[i].w);
        p[i * kThreads] = pp[i], m[i * kThreads] = mm[i], v[i * kThreads] = vv[i];
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < kGroups; ++i) g[i * kThreads] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return;
  }
  for (uint32_t i = threadIdx.x; i < kElements; i += kThreads) {
    const uint64_t at = first + i;
    if (at >= a.n) break;
    if (apply) step(c, a.p[at], a.g[at], a.m[at], a.v[at]);
    a.g[at] = 0.0f;
  }
}
