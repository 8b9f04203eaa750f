// pool: weighted sums of feature rows over the entries of each sample, and their gradients.
//
// A bag is sum of w [E (dim) | value (1) | one-hot chromosome | extra | 1], `width + 1` numbers: a sparse matrix
// product over gathered rows, a KiB of E and 256 base codes an entry.
//
// Entry points
//   pool_forward           one chunk (up to SCX_POOL_ENTRIES entries of a sample) and head: a partial bag
//   pool_finish            one sample and head: adds its chunks
//   pool_backward_rows     8 table rows, a warp each; rows with many entries by all 8 warps one after the other
//   pool_backward_weights  64 (entry, head) pairs, 8 a warp
//
// What bounds it: memory. Four million entries gather about 5 GB of E and codes (DRAM and L2) in pool_forward and in
// pool_backward_weights, and read as much of d_bag (a few MB: L2) in pool_backward_rows. So every kernel reads whole
// rows with consecutive lanes, 16 bytes of E and 4 codes a lane where alignment allows, has several rows under way at
// once, and touches only entries whose weight is not 0: the weights of message passing are sparse.
//
// See docs/model.md, section 7.3, eq. 57.
#include "common/abi.h"
#include "common/rows.h"
#include "common/tile.h"  // warp_sum

namespace {

using namespace scx;

constexpr uint32_t kThreads = 256, kWarps = kThreads / 32;

// Whether all of E and the extra features may be read in quads.
__device__ __forceinline__ bool whole_quads(const Side& side, const float* emb) {
  const bool extra = side.bases != nullptr ? quad_rows(side.bases, side.extra) : quad_rows(side.dense, side.extra);
  return quad_rows(emb, side.dim) && extra;
}

__device__ __forceinline__ float weight_of(const Nodes& n, const float* weight, uint32_t heads, uint32_t entry,
                                           uint32_t head, uint32_t sample) {
  if (weight != nullptr) return weight[size_t(entry) * heads + head];
  return 1.0f / float(n.indptr[sample + 1] - n.indptr[sample]);
}

// What the extra features are.
enum Extra : int { kNone, kBases, kDense };

// Base code k of four as a number, exactly, without a conversion: codes are small.
__device__ __forceinline__ float code(uint32_t codes, int k) {
  return __uint_as_float(0x4b000000u | (codes >> (8 * k) & 0xffu)) - 8388608.0f;
}

// Columns at..at + 3 of a row of `width`, zeros past its end; base codes as they are (not times 0.25).
template <bool WHOLE>
__device__ __forceinline__ float4 quad(const float* row, uint32_t at, uint32_t width) {
  return WHOLE ? quad_whole(row, at, width) : quad_apart(row, at, width);
}
template <bool WHOLE>
__device__ __forceinline__ float4 quad(const uint8_t* row, uint32_t at, uint32_t width) {
  const uint32_t codes = WHOLE ? quad_whole(row, at, width) : quad_apart(row, at, width);
  return make_float4(code(codes, 0), code(codes, 1), code(codes, 2), code(codes, 3));
}

__device__ __forceinline__ void add(float4& sum, float w, const float4& x) {
  sum.x += w * x.x, sum.y += w * x.y, sum.z += w * x.z, sum.w += w * x.w;
}

// Numbers at..at + 3 of `to` that lie before `width` are written, times `factor`.
__device__ __forceinline__ void put(float* to, uint32_t at, uint32_t width, const float4& v, float factor) {
  if (at < width) to[at] = v.x * factor;
  if (at + 1 < width) to[at + 1] = v.y * factor;
  if (at + 2 < width) to[at + 2] = v.z * factor;
  if (at + 3 < width) to[at + 3] = v.w * factor;
}

// ---------------------------------------------------------------- forward

constexpr uint32_t kQuads = 64;                   // quads of columns a block takes at once
constexpr uint32_t kGroups = kThreads / kQuads;   // groups of threads that share the entries

// The entries of a chunk with a weight, in order.
struct Kept {
  float weight[SCX_POOL_ENTRIES];
  float value[SCX_POOL_ENTRIES];
  uint32_t id[SCX_POOL_ENTRIES];  // data set index
  uint32_t chrom[SCX_POOL_ENTRIES];
  uint32_t count[SCX_POOL_ENTRIES / 32];  // of each warp
};

// The sums of columns of E and of extra features of `n` kept entries, to `part`. Ends behind a barrier.
template <int EXTRA, bool WHOLE>
__device__ __forceinline__ void sum_columns(const PoolForwardArgs& a, const Kept& kept, uint32_t n,
                                            float4 (&sums)[kGroups][kQuads][2], float* part) {
  const uint32_t dim = a.side.dim, extra = EXTRA == kNone ? 0 : a.side.extra;
  const uint32_t group = threadIdx.x / kQuads, lane = threadIdx.x % kQuads;
  const uint32_t columns = EXTRA != kNone && extra > dim ? extra : dim;
  for (uint32_t first = 0; first < columns; first += 4 * kQuads) {
    const uint32_t at = first + 4 * lane;
    float4 of_emb = make_float4(0.0f, 0.0f, 0.0f, 0.0f), of_extra = of_emb;
#pragma unroll 4
    for (uint32_t i = group; i < n; i += kGroups) {
      const float w = kept.weight[i];
      const size_t id = kept.id[i];
      add(of_emb, w, quad<WHOLE>(a.emb + id * dim, at, dim));
      if (EXTRA == kBases) add(of_extra, w, quad<WHOLE>(a.side.bases + id * extra, at, extra));
      if (EXTRA == kDense) add(of_extra, w, quad<WHOLE>(a.side.dense + id * extra, at, extra));
    }
    sums[group][lane][0] = of_emb;
    sums[group][lane][1] = of_extra;
    __syncthreads();
    if (group < 2) {  // the first adds the groups of E, the second those of the extra features
      float4 sum = sums[0][lane][group];
      for (uint32_t g = 1; g < kGroups; ++g) add(sum, 1.0f, sums[g][lane][group]);
      if (group == 0) {
        put(part, at, dim, sum, 1.0f);
      } else {
        put(part + dim + 1 + a.side.chromosomes, at, extra, sum, EXTRA == kBases ? 0.25f : 1.0f);
      }
    }
    __syncthreads();
  }
}

}  // namespace

SCX_KERNEL(pool_forward, PoolForwardArgs, kThreads, 0, 1, 1) {
  __shared__ Kept kept;
  __shared__ __align__(16) float4 sums[kGroups][kQuads][2];
  if (blockIdx.x >= *a.n_chunks) return;
  const PoolChunk chunk = a.chunk[blockIdx.x];
  const uint32_t head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t width = width_of(a.side), chromosomes = a.side.chromosomes;
  float* const part = a.part + (size_t(blockIdx.x) * a.heads + head) * (width + 1);

  float w = 0.0f;
  const uint32_t entry = chunk.first + threadIdx.x;
  if (threadIdx.x < SCX_POOL_ENTRIES && entry < chunk.last) {
    w = weight_of(a.nodes, a.weight, a.heads, entry, head, chunk.sample);
  }
  const bool keep = w != 0.0f;
  const uint32_t kept_lanes = __ballot_sync(kAllLanes, keep);
  if (lane == 0 && warp < SCX_POOL_ENTRIES / 32) kept.count[warp] = uint32_t(__popc(kept_lanes));
  __syncthreads();
  uint32_t n = 0, before = uint32_t(__popc(kept_lanes & ((1u << lane) - 1)));
  for (uint32_t i = 0; i < SCX_POOL_ENTRIES / 32; ++i) {
    if (i < warp) before += kept.count[i];
    n += kept.count[i];
  }
  if (keep) {
    const uint32_t id = a.nodes.row[a.nodes.local[entry]];
    kept.weight[before] = w;
    kept.value[before] = a.nodes.value[entry];
    kept.id[before] = id;
    kept.chrom[before] = a.side.chrom[id];
  }
  __syncthreads();

  // The one-hot columns, the value column and the last, eight threads each.
  for (uint32_t first = 0; first < chromosomes + 2; first += kThreads / 8) {
    const uint32_t item = first + threadIdx.x / 8;
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x % 8; i < n; i += 8) {
      const float x = kept.weight[i];
      if (item < chromosomes) {
        sum += kept.chrom[i] == item ? x : 0.0f;
      } else {
        sum += item == chromosomes ? x * kept.value[i] : x;
      }
    }
    for (int apart = 4; apart > 0; apart /= 2) sum += __shfl_xor_sync(kAllLanes, sum, apart);
    if (threadIdx.x % 8 == 0 && item < chromosomes + 2) {
      part[item < chromosomes ? a.side.dim + 1 + item : item == chromosomes ? a.side.dim : width] = sum;
    }
  }

  const bool whole = whole_quads(a.side, a.emb);
  if (a.side.extra == 0) {
    whole ? sum_columns<kNone, true>(a, kept, n, sums, part) : sum_columns<kNone, false>(a, kept, n, sums, part);
  } else if (a.side.bases != nullptr) {
    whole ? sum_columns<kBases, true>(a, kept, n, sums, part) : sum_columns<kBases, false>(a, kept, n, sums, part);
  } else {
    whole ? sum_columns<kDense, true>(a, kept, n, sums, part) : sum_columns<kDense, false>(a, kept, n, sums, part);
  }
}

SCX_KERNEL(pool_finish, PoolFinishArgs, 512, 0, 1, 1) {
  const uint32_t sample = blockIdx.x, head = blockIdx.y;
  if (sample >= *a.n_samples) return;
  const uint32_t first = a.chunk_ptr[sample], last = a.chunk_ptr[sample + 1];
  for (uint32_t j = threadIdx.x; j < a.stride; j += 512) {
    const float* const from = a.part + size_t(head) * a.stride + j;
    float sum = 0.0f;
#pragma unroll 8
    for (uint32_t c = first; c < last; ++c) sum += from[size_t(c) * a.heads * a.stride];
    a.bag[(size_t(sample) * a.heads + head) * a.stride + j] = sum;
  }
}

namespace {

// ---------------------------------------------------------------- gradient of the embeddings

constexpr uint32_t kColumns = 256;        // columns of E a warp holds at once, 8 a lane
constexpr uint32_t kLongRow = 8 * 32;     // (entry, head) pairs from which on the whole block takes a row

// Adds w * d_bag of pairs first, first + 1, ... of a row's `pairs`, in batches of 32 `apart`, in columns column0 + lane
// + 32 i. Pairs are numbered entry by entry, heads innermost.
__device__ __forceinline__ void gather_row(const PoolBackwardRowsArgs& a, uint32_t row_first, uint32_t first,
                                           uint32_t pairs, uint32_t apart, uint32_t column0, float (&sum)[8]) {
  const uint32_t lane = threadIdx.x % 32, dim = a.side.dim, stride = width_of(a.side) + 1;
  uint32_t column[8];  // those past the end read the last one
#pragma unroll
  for (int i = 0; i < 8; ++i) column[i] = column0 + lane + 32 * i < dim ? column0 + lane + 32 * i : dim - 1;
  for (uint32_t batch = first; batch < pairs; batch += apart) {
    const uint32_t pair = batch + lane;
    float w = 0.0f;
    uint32_t bag = 0;
    if (pair < pairs) {
      const uint32_t entry = a.nodes.by_row[row_first + pair / a.heads], head = pair % a.heads;
      const uint32_t sample = a.nodes.sample[entry];
      w = weight_of(a.nodes, a.weight, a.heads, entry, head, sample);
      bag = sample * a.heads + head;
    }
    uint32_t left = __ballot_sync(kAllLanes, w != 0.0f);
    while (left != 0) {  // two at a time
      const int one = __ffs(int(left)) - 1;
      left &= left - 1;
      const int two = left != 0 ? __ffs(int(left)) - 1 : one;
      const float w1 = __shfl_sync(kAllLanes, w, one), w2 = __shfl_sync(kAllLanes, w, two);
      const float* const from1 = a.d_bag + size_t(__shfl_sync(kAllLanes, bag, one)) * stride;
      const float* const from2 = a.d_bag + size_t(__shfl_sync(kAllLanes, bag, two)) * stride;
      float x1[8], x2[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) x1[i] = from1[column[i]];
#pragma unroll
      for (int i = 0; i < 8; ++i) x2[i] = from2[column[i]];
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += w1 * x1[i];
      if (two != one) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] += w2 * x2[i];
        left &= left - 1;
      }
    }
  }
}

}  // namespace

SCX_KERNEL(pool_backward_rows, PoolBackwardRowsArgs, kThreads, 0, kWarps, 1) {
  __shared__ float sums[kWarps][kColumns];
  const uint32_t rows = *a.nodes.n_rows, dim = a.side.dim, first_row = blockIdx.x * kWarps;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (first_row >= rows) return;

  const uint32_t mine = first_row + warp;
  if (mine < rows) {
    const uint32_t first = a.nodes.row_ptr[mine], pairs = (a.nodes.row_ptr[mine + 1] - first) * a.heads;
    if (pairs > 0 && pairs <= kLongRow) {
      float* const to = a.d_emb + size_t(a.nodes.row[mine]) * dim;
      for (uint32_t column0 = 0; column0 < dim; column0 += kColumns) {
        float sum[8] = {};
        gather_row(a, first, 0, pairs, 32, column0, sum);
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (column0 + lane + 32 * i < dim) sum[i] += to[column0 + lane + 32 * i];
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (column0 + lane + 32 * i < dim) to[column0 + lane + 32 * i] = sum[i];
      }
    }
  }
  for (uint32_t r = first_row; r < first_row + kWarps && r < rows; ++r) {
    const uint32_t first = a.nodes.row_ptr[r], pairs = (a.nodes.row_ptr[r + 1] - first) * a.heads;
    if (pairs <= kLongRow) continue;
    for (uint32_t column0 = 0; column0 < dim; column0 += kColumns) {
      float sum[8] = {};
      gather_row(a, first, warp * 32, pairs, kThreads, column0, sum);
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[warp][lane + 32 * i] = sum[i];
      __syncthreads();
      const uint32_t column = column0 + threadIdx.x;
      if (column < dim) {
        float total = sums[0][threadIdx.x];
        for (uint32_t i = 1; i < kWarps; ++i) total += sums[i][threadIdx.x];
        a.d_emb[size_t(a.nodes.row[r]) * dim + column] += total;
      }
      __syncthreads();
    }
  }
}

namespace {

// ---------------------------------------------------------------- gradient of the weights

constexpr uint32_t kPairs = 8;  // a warp

__device__ __forceinline__ float dot(const float4& x, const float4& y) {
  return x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
}

// One (entry, head) pair of each lane below kPairs: where its row and its bag's gradient are.
struct Pair {
  float weight;   // 0: no such pair, or nothing to do
  float tail;     // its share of the value, one-hot and last columns
  uint32_t id;    // data set index
  uint32_t bag;   // row of d_bag
};

// The gradient of this lane's pair, where dim and extra are at most 256: a lane holds eight columns of E and eight
// extra ones of the bag's gradient, as long as the bag is the same.
template <int EXTRA, bool WHOLE>
__device__ __forceinline__ float weights_held(const PoolBackwardWeightsArgs& a, const Pair& pair) {
  const uint32_t lane = threadIdx.x % 32, dim = a.side.dim, extra = EXTRA == kNone ? 0 : a.side.extra;
  const uint32_t stride = width_of(a.side) + 1;
  float4 g[2] = {}, gx[2] = {};
  uint32_t held = SCX_NONE;
  float result = 0.0f;
  for (uint32_t k = 0; k < kPairs; ++k) {
    if (__shfl_sync(kAllLanes, pair.weight, k) == 0.0f) continue;
    const uint32_t bag = __shfl_sync(kAllLanes, pair.bag, k);
    const size_t id = __shfl_sync(kAllLanes, pair.id, k);
    if (bag != held) {
      const float* const from = a.d_bag + size_t(bag) * stride;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        g[i] = quad<false>(from, 4 * lane + 128 * i, dim);
        if (EXTRA != kNone) gx[i] = quad<false>(from + dim + 1 + a.side.chromosomes, 4 * lane + 128 * i, extra);
        if (EXTRA == kBases) gx[i].x *= 0.25f, gx[i].y *= 0.25f, gx[i].z *= 0.25f, gx[i].w *= 0.25f;
      }
      held = bag;
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum += dot(g[i], quad<WHOLE>(a.emb + id * dim, 4 * lane + 128 * i, dim));
      if (EXTRA == kBases) sum += dot(gx[i], quad<WHOLE>(a.side.bases + id * extra, 4 * lane + 128 * i, extra));
      if (EXTRA == kDense) sum += dot(gx[i], quad<WHOLE>(a.side.dense + id * extra, 4 * lane + 128 * i, extra));
    }
    sum = warp_sum(sum);
    if (lane == k) result = sum;
  }
  return result;
}

// The same for any width.
__device__ __forceinline__ float weights_any(const PoolBackwardWeightsArgs& a, const Pair& pair) {
  const uint32_t lane = threadIdx.x % 32, dim = a.side.dim, extra = a.side.extra, stride = width_of(a.side) + 1;
  float result = 0.0f;
  for (uint32_t k = 0; k < kPairs; ++k) {
    if (__shfl_sync(kAllLanes, pair.weight, k) == 0.0f) continue;
    const float* const from = a.d_bag + size_t(__shfl_sync(kAllLanes, pair.bag, k)) * stride;
    const float* const from_extra = from + dim + 1 + a.side.chromosomes;
    const size_t id = __shfl_sync(kAllLanes, pair.id, k);
    float sum = 0.0f, codes = 0.0f;
    for (uint32_t i = lane; i < dim; i += 32) sum += from[i] * a.emb[id * dim + i];
    for (uint32_t i = lane; i < extra; i += 32) {
      if (a.side.bases != nullptr) {
        codes += from_extra[i] * float(a.side.bases[id * extra + i]);
      } else {
        sum += from_extra[i] * a.side.dense[id * extra + i];
      }
    }
    sum += 0.25f * codes;
    sum = warp_sum(sum);
    if (lane == k) result = sum;
  }
  return result;
}

}  // namespace

SCX_KERNEL(pool_backward_weights, PoolBackwardWeightsArgs, kThreads, 0, kPairs * kWarps, 1) {
  const uint32_t pairs = *a.nodes.n_entries * a.heads, lane = threadIdx.x % 32;
  const uint32_t mine = (blockIdx.x * kWarps + threadIdx.x / 32) * kPairs + lane;  // this lane's pair
  if (blockIdx.x * kWarps * kPairs >= pairs) return;
  const bool exists = lane < kPairs && mine < pairs;
  Pair pair = {0.0f, 0.0f, 0, 0};
  if (exists) pair.weight = a.weight[mine];
  if (pair.weight != 0.0f) {
    const uint32_t entry = mine / a.heads;
    pair.id = a.nodes.row[a.nodes.local[entry]];
    pair.bag = a.nodes.sample[entry] * a.heads + mine % a.heads;
    const uint32_t width = width_of(a.side), dim = a.side.dim;
    const float* const from = a.d_bag + size_t(pair.bag) * (width + 1);
    pair.tail = from[dim] * a.nodes.value[entry] + from[dim + 1 + a.side.chrom[pair.id]] + from[width];
  }
  float result;
  if (a.side.dim > 256 || a.side.extra > 256 || !whole_quads(a.side, a.emb)) {
    result = weights_any(a, pair);
  } else if (a.side.extra == 0) {
    result = weights_held<kNone, true>(a, pair);
  } else if (a.side.bases != nullptr) {
    result = weights_held<kBases, true>(a, pair);
  } else {
    result = weights_held<kDense, true>(a, pair);
  }
  if (exists) a.d_weight[mine] = pair.weight != 0.0f ? result + pair.tail : 0.0f;
}
