// contrast: which ATAC profile of a batch goes with which RNA profile, by what each modality says alone.
//
// Entry points (abi.h has the formulas)
//   contrast_logits, contrast_slopes  32 x 32 pairs
//   contrast_lines                    one positive: its row and its column
//   contrast_total                    one block
//   contrast_backward                 32 samples x 32 hidden columns of one side
//
// What bounds it: latency. With n positives, products of n x n x H: 0.1 GFLOP at 512. They are done in f32 from shared
// tiles, 32 of the inner dimension at a time, four sums a thread. Columns of the logits are read from L2.
//
// See docs/model.md, section 5.4, section 6.4.
#include "common/abi.h"
#include "common/product.h"
#include "common/tile.h"  // find, block_sum

namespace {

using namespace scx;

constexpr uint32_t kThreads = 256, kTile = 32, kRows = kThreads / kTile, kOwn = kTile / kRows;

__device__ __forceinline__ float by_root(const ContrastArgs& a) { return 1.0f / sqrtf(float(a.hidden)); }

// Row of a positive in x_r or x_a, its second half.
__device__ __forceinline__ const float* row_of(const ContrastArgs& a, const float* x, uint32_t positive) {
  return x + size_t(a.positive[positive]) * 2 * a.hidden + a.hidden;
}

// max and sum of exp of n numbers, `stride` apart.
__device__ __forceinline__ float2 line(const float* from, uint32_t n, uint32_t stride, float (&sums)[kThreads]) {
  float most = -3.4e38f;
  float bad = 0.0f;  // what is no number stays that
  for (uint32_t i = threadIdx.x; i < n; i += kThreads) {
    const float x = from[size_t(i) * stride];
    if (x != x) bad = x;
    most = fmaxf(most, x);
  }
  __syncthreads();
  sums[threadIdx.x] = most;
  __syncthreads();
  for (uint32_t half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] = fmaxf(sums[threadIdx.x], sums[threadIdx.x + half]);
    __syncthreads();
  }
  most = sums[0];
  __syncthreads();
  float sum = bad;
  for (uint32_t i = threadIdx.x; i < n; i += kThreads) sum += expf(from[size_t(i) * stride] - most);
  return make_float2(most, block_sum(sum, sums));
}

}  // namespace

SCX_KERNEL(contrast_logits, ContrastArgs, kThreads, 0, kTile, kTile) {
  const uint32_t n = *a.n_positives, first = blockIdx.x * kTile, column0 = blockIdx.y * kTile;
  if (first >= n || column0 >= n) return;
  float sum[kOwn] = {};
  product_plain<kTile>(
      sum, a.hidden, [&](uint32_t m, uint32_t k) { return first + m < n ? row_of(a, a.x_r, first + m)[k] : 0.0f; },
      [&](uint32_t k, uint32_t j) { return column0 + j < n ? row_of(a, a.x_a, column0 + j)[k] : 0.0f; });
  const uint32_t column = column0 + threadIdx.x % kTile;
#pragma unroll
  for (uint32_t j = 0; j < kOwn; ++j) {
    const uint32_t row = first + threadIdx.x / kTile + j * kRows;
    if (row < n && column < n) a.logits[size_t(row) * n + column] = by_root(a) * sum[j];
  }
}

SCX_KERNEL(contrast_lines, ContrastArgs, kThreads, 0, 1, 1) {
  __shared__ float sums[kThreads];
  const uint32_t n = *a.n_positives, i = blockIdx.x;
  if (i >= n) return;
  const float2 row = line(a.logits + size_t(i) * n, n, 1, sums), column = line(a.logits + i, n, n, sums);
  if (threadIdx.x != 0) return;
  a.lines[4 * i] = row.x;
  a.lines[4 * i + 1] = row.y;
  a.lines[4 * i + 2] = column.x;
  a.lines[4 * i + 3] = column.y;
  const float own = a.logits[size_t(i) * n + i];
  a.loss_part[i] = 0.5f / float(n) * ((logf(row.y) + row.x - own) + (logf(column.y) + column.x - own));
}

SCX_KERNEL(contrast_total, ContrastArgs, kThreads, 0, 1, 1) {
  __shared__ float sums[kThreads];
  float loss = 0.0f;
  for (uint32_t i = threadIdx.x; i < *a.n_positives; i += kThreads) loss += a.loss_part[i];
  loss = block_sum(loss, sums);
  if (threadIdx.x != 0) return;
  a.record->contrast_loss = loss;
  a.record->loss += a.weight * loss;
}

SCX_KERNEL(contrast_slopes, ContrastArgs, kThreads, 0, kTile, kTile) {
  const uint32_t n = *a.n_positives, column = blockIdx.y * kTile + threadIdx.x % kTile;
  const float f = a.weight * 0.5f / float(n) * by_root(a);
#pragma unroll
  for (uint32_t j = 0; j < kOwn; ++j) {
    const uint32_t row = blockIdx.x * kTile + threadIdx.x / kTile + j * kRows;
    if (row >= n || column >= n) continue;
    float* const at = a.logits + size_t(row) * n + column;
    const float l = *at;
    const float shares = expf(l - a.lines[4 * row]) / a.lines[4 * row + 1] +
                         expf(l - a.lines[4 * column + 2]) / a.lines[4 * column + 3];
    *at = f * (shares - (row == column ? 2.0f : 0.0f));
  }
}

SCX_KERNEL(contrast_backward, ContrastArgs, kThreads, 0, kTile, kTile) {
  __shared__ uint32_t own[kTile];  // number of each sample among the positives
  const uint32_t samples = *a.n_samples, n = *a.n_positives, first = blockIdx.x * kTile, h0 = blockIdx.y * kTile;
  const bool rna = blockIdx.z == 0;
  if (first >= samples || h0 >= a.hidden) return;
  if (threadIdx.x < kTile) {
    own[threadIdx.x] = find(a.positive, n, first + threadIdx.x, SCX_NONE);
  }
  __syncthreads();
  float sum[kOwn] = {};
  product_plain<kTile>(
      sum, n,
      [&](uint32_t m, uint32_t k) {
        if (own[m] == SCX_NONE) return 0.0f;
        return rna ? a.logits[size_t(own[m]) * n + k] : a.logits[size_t(k) * n + own[m]];
      },
      [&](uint32_t k, uint32_t j) { return h0 + j < a.hidden ? row_of(a, rna ? a.x_a : a.x_r, k)[h0 + j] : 0.0f; });
  const uint32_t h = h0 + threadIdx.x % kTile;
#pragma unroll
  for (uint32_t j = 0; j < kOwn; ++j) {
    const uint32_t sample = first + threadIdx.x / kTile + j * kRows;
    if (sample >= samples || h >= a.hidden) continue;
    float* const to = (rna ? a.d_x_r : a.d_x_a) + size_t(sample) * 2 * a.hidden;
    to[h] = 0.0f;
    to[a.hidden + h] = sum[j];
  }
}
