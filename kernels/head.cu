// head: the small maps around the ops, and the losses.
//
// Entry points
//   linear_forward     y = act(scale (x w^T + b s)); 16 samples x 32 outputs
//   linear_backward_x  dx = scale dy w;              16 samples x 32 inputs
//   linear_backward_w  dw += (scale dy)^T x, db;     16 outputs x 32 inputs
//   head_gate          backward of relu and dropout; 1,024 numbers
//   cross_entropy      mean loss of logits [B, 2] and its gradient; one block
//   loss_total         adds up the losses of a step; one block
//   reduce_parts       adds partial sums; 8 columns
//
// What bounds it: latency. The products are B x 500 x 128: at B = 1,024 some 0.1 GFLOP, at B = 1 nothing, and an epoch
// of B = 1 launches them millions of times. So tiles are small (16 x 32: 8 to 256 blocks), and the 8 warps of a block
// share the inner dimension: a step is 128 of it, 16 a warp, in 3xTF32 on the tensor cores; the warps' sums are added
// at the end in order. The next step is loaded while this one is multiplied. All rows are read number by number: bags
// and weights have odd widths.
//
// Dropout. Column o of sample s is dropped where number o % 4 of the Philox block with counter (o / 4, step low, s low,
// step high) and key (seed low ^ layer * 0x9E3779B9, seed high) is below `drop_below`: a function of (seed, step,
// sample, layer, column) alone, the same as on the CPU.
//
// See docs/model.md, section 4.5, section 5.1, eq. 21.
#include "common/abi.h"
#include "common/product.h"
#include "common/tile.h"

namespace {

using namespace scx;

constexpr uint32_t kThreads = 256, kWarps = kThreads / 32;
constexpr uint32_t kM = 16, kN = 32, kK = 16 * kWarps;  // block tile, and the step along the inner dimension
using Block = Tile<kThreads, kM, kN, kK>;

// Rows of a matrix as the maps need them.
struct Rows : Source {
  const float* last;       // or null; column number `columns`: one number a row
  const uint32_t* indptr;  // or null; from the tile's first row on: rows are divided by its steps
};

__device__ __forceinline__ float scale_of(const uint32_t* indptr, uint32_t sample) {
  return indptr == nullptr ? 1.0f : 1.0f / float(indptr[sample + 1] - indptr[sample]);
}

// Singles of Rows.
template <int ROWS, int COLUMNS, int LD>
struct Stage : Singles<F32, int(kThreads), ROWS, COLUMNS, LD> {
  template <class Get>
  __device__ __forceinline__ void load(uint32_t first, Get get) {
    const Rows s = get(first);
    const uint32_t row = threadIdx.x / COLUMNS, column = threadIdx.x % COLUMNS;
    const bool last = s.last != nullptr && column == s.columns;
    const uint32_t stride = last ? 1 : s.stride, rows = last || column < s.columns ? s.rows : 0;
    this->read(last ? s.last + row : s.from + size_t(row) * stride + column, stride, rows);
    if (s.indptr != nullptr) {
#pragma unroll
      for (int i = 0; i < this->kCount; ++i)
        if (row + i * this->kApart < rows) this->v[i] *= scale_of(s.indptr, row + i * this->kApart);
    }
  }
};

// product_by_inner of Rows: get_a(first), get_b(first).
template <bool AT, bool BT, class GetA, class GetB, class Seen, class Put>
__device__ __forceinline__ void product(uint32_t inner, GetA get_a, GetB get_b, Seen seen, Put put) {
  using L = Layout<F32, Block, AT, BT>;
  using StageA = Stage<AT ? kK : kM, AT ? kM : kK, L::kLda>;
  using StageB = Stage<BT ? kK : kN, BT ? kN : kK, L::kLdb>;
  product_by_inner<F32, Block, AT, BT, StageA, StageB>(inner, get_a, get_b, seen, put);
}

// Number `which` of the Philox 4x32-10 block of a counter and a key.
__device__ __forceinline__ uint32_t philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1,
                                           uint32_t which) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t x = uint64_t(c0) * 0xD2511F53u, y = uint64_t(c2) * 0xCD9E8D57u;
    c0 = uint32_t(y >> 32) ^ c1 ^ k0;
    c1 = uint32_t(y);
    c2 = uint32_t(x >> 32) ^ c3 ^ k1;
    c3 = uint32_t(x);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return which == 0 ? c0 : which == 1 ? c1 : which == 2 ? c2 : c3;
}

}  // namespace

SCX_KERNEL(linear_forward, LinearForwardArgs, kThreads, (inner_bytes<F32, Block, false, false>()), kM, kN) {
  const uint32_t samples = *a.n_samples, slice = a.out / a.heads, head = blockIdx.z;
  const uint32_t sample0 = blockIdx.x * kM, out0 = blockIdx.y * kN;
  if (sample0 >= samples || out0 >= slice) return;
  const auto row_of = [&](uint32_t sample) { return a.x + (size_t(sample) * a.heads + head) * a.ldx; };
  product<false, false>(
      a.in,
      [&](uint32_t k) {
        return Rows{{row_of(sample0) + k, a.heads * a.ldx, samples - sample0, a.in - k}, nullptr, nullptr};
      },
      [&](uint32_t k) {
        return Rows{{a.w + size_t(head * slice + out0) * a.in + k, a.in, slice - out0, a.in - k}, nullptr, nullptr};
      },
      [](uint32_t, const float*) {},
      [&](uint32_t m, uint32_t n, float sum) {
        const uint32_t sample = sample0 + m;
        if (sample >= samples || out0 + n >= slice) return;
        const uint32_t o = head * slice + out0 + n;
        float y = sum + a.b[o] * (a.bias_column ? row_of(sample)[a.in] : 1.0f);
        y *= scale_of(a.indptr, sample);
        if (a.relu) y = y > 0.0f ? y : 0.0f;
        if (a.drop_below != 0) {
          const uint32_t draw = philox(o / 4, a.step_key[0], a.sample_key[2 * sample], a.step_key[1],
                                       a.seed_low ^ a.layer * 0x9E3779B9u, a.seed_high, o % 4);
          y = draw < a.drop_below ? 0.0f : y * a.keep;
        }
        a.y[size_t(sample) * a.ldy + o] = y;
      });
}

SCX_KERNEL(linear_backward_x, LinearBackwardXArgs, kThreads, (inner_bytes<F32, Block, false, true>()), kM, kN) {
  const uint32_t samples = *a.n_samples, slice = a.out / a.heads, head = blockIdx.z;
  const uint32_t sample0 = blockIdx.x * kM, in0 = blockIdx.y * kN, columns = a.in + a.bias_column;
  if (sample0 >= samples || in0 >= columns) return;
  product<false, true>(
      slice,
      [&](uint32_t k) {
        const float* const from = a.dy + size_t(sample0) * a.ldy + head * slice + k;
        return Rows{{from, a.ldy, samples - sample0, slice - k}, nullptr, nullptr};
      },
      [&](uint32_t k) {
        const uint32_t o = head * slice + k;
        const float* const bias = a.bias_column ? a.b + o : nullptr;
        return Rows{{a.w + size_t(o) * a.in + in0, a.in, slice - k, a.in - in0}, bias, nullptr};
      },
      [](uint32_t, const float*) {},
      [&](uint32_t m, uint32_t n, float sum) {
        const uint32_t sample = sample0 + m, i = in0 + n;
        if (sample >= samples || i >= columns) return;
        float* const to = a.dx + (size_t(sample) * a.heads + head) * a.ldx + i;
        const float more = scale_of(a.indptr, sample) * sum;
        *to = a.add ? *to + more : more;
      });
}

SCX_KERNEL(linear_backward_w, LinearBackwardWArgs, kThreads, (inner_bytes<F32, Block, true, true>()), kM, kN) {
  constexpr uint32_t kShares = kThreads / kM;  // threads that share the sum of one element of db
  __shared__ float shares[kShares][kM];
  const uint32_t samples = *a.n_samples, slice = a.out / a.heads, head = blockIdx.z;
  const uint32_t out0 = blockIdx.x * kM, in0 = blockIdx.y * kN;
  if (out0 >= slice || in0 >= a.in || samples == 0) return;
  const uint32_t me = threadIdx.x % kM, share = threadIdx.x / kM;
  const auto row_of = [&](uint32_t sample) { return a.x + (size_t(sample) * a.heads + head) * a.ldx; };
  float db = 0.0f;
  product<true, true>(
      samples,
      [&](uint32_t k) {
        const float* const from = a.dy + size_t(k) * a.ldy + head * slice + out0;
        return Rows{{from, a.ldy, samples - k, slice - out0}, nullptr, a.indptr == nullptr ? nullptr : a.indptr + k};
      },
      [&](uint32_t k) {
        return Rows{{row_of(k) + in0, a.heads * a.ldx, samples - k, a.in - in0}, nullptr, nullptr};
      },
      [&](uint32_t first, const float* tile) {
        if (blockIdx.y != 0) return;
        for (uint32_t k = share; k < kK && first + k < samples; k += kShares) {
          db += tile[k * (Layout<F32, Block, true, true>::kLda) + me] * (a.bias_column ? row_of(first + k)[a.in] : 1.0f);
        }
      },
      [&](uint32_t m, uint32_t n, float sum) {
        if (out0 + m < slice && in0 + n < a.in) a.dw[size_t(head * slice + out0 + m) * a.in + in0 + n] += sum;
      });
  if (blockIdx.y != 0) return;
  shares[share][me] = db;
  __syncthreads();
  if (threadIdx.x < kM && out0 + me < slice) {
    for (uint32_t i = 1; i < kShares; ++i) db += shares[i][me];
    a.db[head * slice + out0 + me] += db;
  }
}

SCX_KERNEL(head_gate, HeadGateArgs, kThreads, 0, 4 * kThreads, 1) {
  const size_t count = size_t(*a.n_samples) * a.width, first = size_t(blockIdx.x) * (4 * kThreads) + threadIdx.x;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    const size_t at = first + i * kThreads;
    if (at < count) a.dy[at] = a.y[at] > 0.0f ? a.dy[at] * a.keep : 0.0f;
  }
}

SCX_KERNEL(cross_entropy, CrossEntropyArgs, kThreads, 0, 1, 1) {
  __shared__ float sums[kThreads];
  const uint32_t samples = *a.n_samples;
  const float inverse = 1.0f / float(samples);
  float loss = 0.0f;
  for (uint32_t i = threadIdx.x; i < samples; i += kThreads) {
    const float x0 = a.logits[2 * i], x1 = a.logits[2 * i + 1], most = x1 > x0 ? x1 : x0;
    const bool one = a.label[i] != 0;
    const float e0 = expf(x0 - most), e1 = expf(x1 - most), sum = e0 + e1;
    loss += (logf(sum) - ((one ? x1 : x0) - most)) * inverse;
    a.d_logits[2 * i] = a.weight * inverse * (e0 / sum - (one ? 0.0f : 1.0f));
    a.d_logits[2 * i + 1] = a.weight * inverse * (e1 / sum - (one ? 1.0f : 0.0f));
  }
  loss = block_sum(loss, sums);
  if (threadIdx.x == 0) a.record->match_loss = loss;
}

SCX_KERNEL(loss_total, LossTotalArgs, kThreads, 0, 1, 1) {
  __shared__ float sums[kThreads];
  const uint32_t parts = a.part == nullptr ? 0 : *a.n_parts * a.heads;
  float loss = 0.0f;
  for (uint32_t i = threadIdx.x; i < parts; i += kThreads) loss += a.part[i];
  loss = block_sum(loss, sums);
  if (threadIdx.x == 0) {
    a.record->translation_loss = loss;
    a.record->cis_loss = 0.0f;
    a.record->contrast_loss = 0.0f;
    a.record->loss = a.match_weight * a.record->match_loss + a.alpha * loss;
  }
}

// 64 threads share a column: thread t of them adds parts t, t + 64, ..., then their sums are added in order.
SCX_KERNEL(reduce_parts, ReducePartsArgs, 512, 0, 8, 1) {
  constexpr uint32_t kColumns = 8, kShares = 512 / kColumns;
  __shared__ float sums[512];
  const uint32_t parts = (*a.n + a.per - 1) / a.per;
  const uint32_t column = blockIdx.x * kColumns + threadIdx.x % kColumns, share = threadIdx.x / kColumns;
  float sum = 0.0f;
  if (column < a.width) {
#pragma unroll 8
    for (uint32_t p = share; p < parts; p += kShares) sum += a.part[size_t(p) * a.width + column];
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x >= kColumns || column >= a.width) return;
  for (uint32_t i = 1; i < kShares; ++i) sum += sums[i * kColumns + threadIdx.x];
  a.out[column] = a.add ? a.out[column] + sum : sum;
}
