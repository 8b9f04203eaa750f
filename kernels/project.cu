// project: rows of the tables Q and K, and their gradients.
//
// A feature row is x = [E (dim) | value (1) | one-hot chromosome | extra]; the value column is applied later (u), the
// one-hot is a gather of columns of W, and what is left is a matrix product over k = dim + extra:
//   forward             table[r] = [E | extra][r] W_k^T + b + W[:, chromosome of r]
//   backward_embedding  d_emb[row[r]] += d_table[r] W_E
//   backward_weight     d_W_k: d_table^T [E | extra], one partial sum for SCX_PROJECT_CHUNK rows
//   backward_chromosome d_W of the one-hot, the same chunks: sums of d_table rows by chromosome
//   backward_reduce     adds the partial sums of the chunks to d_w and d_b
//
// Entry points
//   project_forward_{f32,bf16}             64 rows x 128 hidden columns
//   project_backward_embedding_{f32,bf16}  64 rows x 128 embedding columns
//   project_backward_weight_{f32,bf16}     64 hidden rows x 128 columns of [E | extra] of one chunk
//   project_backward_chromosome            one chunk
//   project_backward_reduce                256 elements of [H, width]
//
// What bounds it. At 100,000 rows, k 512 and H 128 a product is 13 GFLOP over 180 MB: 3xTF32 is bound by the tensor
// cores, bf16 by memory. The three products share one block tile, 64 x 128 with steps of 32: all of H = 128 in one
// tile, so that gathered rows are read once, and still 16 blocks for the 1,000 genes of a single sample. 8 warps, each
// 32 x 32. The next step's numbers are loaded into registers while this one is multiplied, then stored in the other of
// two shared buffers: one barrier a step; conversion to bf16 and from base codes happens on the way. Blocks that share
// rows are neighbours in launch order (see `place`), so that the second one finds them in L2. The chromosome and reduce
// kernels are bound by memory.
//
// See docs/model.md, section 7.1, section 6.5.
#include "common/abi.h"
#include "common/product.h"
#include "common/rows.h"
#include "common/tile.h"

namespace {

using namespace scx;

constexpr int kThreads = 256;
constexpr int kM = 64, kN = 128, kK = 32;  // block tile, and the step along the inner dimension
using Block = Tile<kThreads, kM, kN, kK>;

__device__ __forceinline__ float base(uint32_t code) { return 0.25f * float(code & 0xff); }

// A quad of features on its way to shared memory: four numbers, or four base codes, which fill the first. Codes become
// numbers only when they are stored, so that nothing waits for them while the tiles before are multiplied.
__device__ __forceinline__ float4 numbers(float4 raw, bool codes) {
  if (!codes) return raw;
  const uint32_t c = __float_as_uint(raw.x);
  return make_float4(base(c), base(c >> 8), base(c >> 16), base(c >> 24));
}

// The work of this block: the grid's (x, y), but dealt so that blocks of one x follow each other in launch order.
struct Place {
  uint32_t x, y;
};
__device__ __forceinline__ Place place() {
  const uint32_t number = blockIdx.y * gridDim.x + blockIdx.x;
  return {number / gridDim.y, number % gridDim.y};
}

// The quad at..at + 3 of a row of `width`, zeros past its end. `whole`: quad_rows holds, and at is a multiple of 4.
__device__ __forceinline__ float4 quad(const float* row, uint32_t at, uint32_t width, bool whole) {
  return whole ? quad_whole(row, at, width) : quad_rolled(row, at, width);
}
__device__ __forceinline__ float4 quad(const uint8_t* row, uint32_t at, uint32_t width, bool whole) {
  const uint32_t codes = whole ? quad_whole(row, at, width) : quad_rolled(row, at, width);
  return make_float4(__uint_as_float(codes), 0.0f, 0.0f, 0.0f);
}

// [E | extra] of a side, by data set index.
struct Features {
  const float* emb;
  const float* dense;
  const uint8_t* bases;
  uint32_t dim, extra;
  bool whole_emb, whole_extra;

  __device__ __forceinline__ Features(const Side& side, const float* e)
      : emb(e), dense(side.dense), bases(side.bases), dim(side.dim), extra(side.extra) {
    whole_emb = quad_rows(e, dim);
    whole_extra = bases != nullptr ? quad_rows(bases, extra) : quad_rows(dense, extra);
  }
  __device__ __forceinline__ float4 of_emb(uint32_t id, uint32_t at) const {
    return quad(emb + size_t(id) * dim, at, dim, whole_emb);
  }
  __device__ __forceinline__ float4 of_extra(uint32_t id, uint32_t at) const {
    if (bases != nullptr) return quad(bases + size_t(id) * extra, at, extra, whole_extra);
    return quad(dense + size_t(id) * extra, at, extra, whole_extra);
  }
  // Column `at` of [E | extra]; 0 past its end.
  __device__ __forceinline__ float one(uint32_t id, uint32_t at) const {
    if (at < dim) return emb[size_t(id) * dim + at];
    at -= dim;
    if (at >= extra) return 0.0f;
    const size_t place = size_t(id) * extra + at;
    return bases != nullptr ? base(bases[place]) : dense[place];
  }
  // How columns at..at + 3 of [E | extra] (at a multiple of 4) can be read: a choice for all rows.
  enum Kind : uint32_t { kNothing, kEmb, kBases, kDense, kSingly };
  __device__ __forceinline__ Kind kind(uint32_t at) const {
    if (at >= dim + extra) return kNothing;
    if (at + 3 < dim) return whole_emb ? kEmb : kSingly;
    if (at < dim || dim % 4 != 0 || !whole_extra) return kSingly;
    return bases != nullptr ? kBases : kDense;
  }
  __device__ __forceinline__ float4 of_both(Kind kind, uint32_t id, uint32_t at) const {
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (kind == kEmb) {
      v = *reinterpret_cast<const float4*>(emb + size_t(id) * dim + at);
    } else if (kind == kBases) {
      v.x = *reinterpret_cast<const float*>(bases + (size_t(id) * extra + at - dim));
    } else if (kind == kDense) {
      v = *reinterpret_cast<const float4*>(dense + (size_t(id) * extra + at - dim));
    } else if (kind == kSingly) {
#pragma unroll 1
      for (uint32_t k = 0; k < 4; ++k) v = make_float4(v.y, v.z, v.w, one(id, at + k));  // a loop: few registers
    }
    return v;
  }
};

// ---------------------------------------------------------------- forward

template <class P>
using ForwardLayout = Layout<P, Block, false, false>;

template <class P>
__device__ __forceinline__ void forward(const ProjectForwardArgs& a) {
  using L = ForwardLayout<P>;
  const Place at = place();
  const uint32_t rows = *a.n_rows, h = a.hidden, width = width_of(a.side);
  const uint32_t first = at.x * kM, column0 = at.y * kN;
  if (at.x == 0) {
    const uint32_t j = column0 + threadIdx.x;
    if (threadIdx.x < uint32_t(kN) && j < h) a.u[j] = a.w[size_t(j) * width + a.side.dim];
  }
  if (first >= rows || column0 >= h) return;

  const Features features(a.side, a.emb);
  const uint32_t dim = a.side.dim, extra = a.side.extra, tail = dim + 1 + a.side.chromosomes;
  const uint32_t emb_steps = ceil_div(dim, kK), steps = emb_steps + ceil_div(extra, kK);
  __shared__ uint32_t one_hot[kM];  // column of W of each row's chromosome; seen after the first barrier of `product`
  if (threadIdx.x < uint32_t(kM) && first + threadIdx.x < rows) {
    one_hot[threadIdx.x] = dim + 1 + a.side.chrom[a.row[first + threadIdx.x]];
  }
  uint32_t ids[2];  // data set indices of the rows that this thread stages
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t r = first + i * (kThreads / (kK / 4)) + threadIdx.x / (kK / 4);
    ids[i] = r < rows ? a.row[r] : SCX_NONE;
  }
  const float* const w = a.w + size_t(column0) * width;
  float c[2][4][4] = {};
  product_by_tile<P, Block, false, false, Quads<P, kThreads, kM, kK / 4, L::kLda>, Singles<P, kThreads, kN, kK, L::kLdb>>(
      c, steps,
      [&](uint32_t step, int i, int, int column) {
        const uint32_t id = ids[i];
        if (id == SCX_NONE) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (step < emb_steps) return features.of_emb(id, step * kK + column);
        return features.of_extra(id, (step - emb_steps) * kK + column);
      },
      [&](uint32_t step) {
        const bool of_emb = step < emb_steps;
        const uint32_t k = (of_emb ? step : step - emb_steps) * kK;
        return Source{w + (of_emb ? 0 : tail) + k, width, h - column0, (of_emb ? dim : extra) - k};
      },
      [&](uint32_t step, float4 x) { return numbers(x, step >= emb_steps && features.bases != nullptr); }, AsRead());
  const auto add = [&](int row, int column, float& x0, float& x1) {
    const uint32_t r = first + row, j = column0 + column;
    if (r >= rows || j >= h) return;
    const uint32_t at = j * width + one_hot[row];
    x0 += a.b[j] + a.w[at];
    x1 += a.b[j + 1] + a.w[at + width];
  };
  each_pair<Block>(c, add, [&](int row, int column, float x0, float x1) {
    const uint32_t r = first + row, j = column0 + column;
    if (r < rows && j < h) *reinterpret_cast<float2*>(a.table + size_t(r) * h + j) = make_float2(x0, x1);
  });
}

// ---------------------------------------------------------------- gradient of the embeddings

template <class P>
using EmbeddingLayout = Layout<P, Block, false, true>;

template <class P>
__device__ __forceinline__ void backward_embedding(const ProjectBackwardEmbeddingArgs& a) {
  using L = EmbeddingLayout<P>;
  const Place at = place();
  const uint32_t rows = *a.n_rows, h = a.hidden, width = width_of(a.side), dim = a.side.dim;
  const uint32_t first = at.x * kM, column0 = at.y * kN;
  if (first >= rows || column0 >= dim) return;

  const bool whole = quad_rows(a.d_table, h);
  float c[2][4][4] = {};
  product_by_tile<P, Block, false, true, Quads<P, kThreads, kM, kK / 4, L::kLda>, Singles<P, kThreads, kK, kN, L::kLdb>>(
      c, ceil_div(h, kK),
      [&](uint32_t step, int, int row, int column) {
        const uint32_t r = first + row;
        if (r >= rows) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        return quad(a.d_table + size_t(r) * h, step * kK + column, h, whole);
      },
      [&](uint32_t step) {
        const uint32_t k = step * kK;
        return Source{a.w + size_t(k) * width + column0, width, h - k, dim - column0};
      },
      AsRead(), AsRead());
  const bool pairs = dim % 2 == 0 && aligned(a.d_emb, 8);
  const auto add = [&](int row, int column, float& x0, float& x1) {
    const uint32_t r = first + row, j = column0 + column;
    if (r >= rows || j >= dim) return;
    const float* const from = a.d_emb + size_t(a.row[r]) * dim + j;
    if (pairs) {
      const float2 y = *reinterpret_cast<const float2*>(from);
      x0 += y.x, x1 += y.y;
    } else {
      x0 += from[0];
      if (j + 1 < dim) x1 += from[1];
    }
  };
  each_pair<Block>(c, add, [&](int row, int column, float x0, float x1) {
    const uint32_t r = first + row, j = column0 + column;
    if (r >= rows || j >= dim) return;
    float* const to = a.d_emb + size_t(a.row[r]) * dim + j;
    if (pairs) {
      *reinterpret_cast<float2*>(to) = make_float2(x0, x1);
    } else {
      to[0] = x0;
      if (j + 1 < dim) to[1] = x1;
    }
  });
}

// ---------------------------------------------------------------- gradient of the weights

template <class P>
using WeightLayout = Layout<P, Block, true, true>;

template <class P>
__device__ __forceinline__ void backward_weight(const ProjectBackwardWeightArgs& a) {
  using L = WeightLayout<P>;
  __shared__ uint32_t ids[SCX_PROJECT_CHUNK];  // data set indices of the chunk's rows
  const Place at = place();
  const uint32_t rows = *a.n_rows, h = a.hidden, columns = a.side.dim + a.side.extra;
  const uint32_t first = at.x * SCX_PROJECT_CHUNK, tiles = ceil_div(columns, kN);
  const uint32_t row0 = at.y / tiles * kM, column0 = at.y % tiles * kN;
  if (first >= rows || row0 >= h) return;

  const uint32_t count = rows - first < SCX_PROJECT_CHUNK ? rows - first : SCX_PROJECT_CHUNK;
  for (uint32_t i = threadIdx.x; i < count; i += kThreads) ids[i] = a.row[first + i];
  __syncthreads();
  const Features features(a.side, a.emb);
  const Features::Kind kind = features.kind(column0 + threadIdx.x % (kN / 4) * 4);  // of this thread's columns
  const bool whole = quad_rows(a.d_table, h);
  const float* const d_table = a.d_table + size_t(first) * h;
  float c[2][4][4] = {};
  product_by_tile<P, Block, true, true, Quads<P, kThreads, kK, kM / 4, L::kLda>, Quads<P, kThreads, kK, kN / 4, L::kLdb>>(
      c, ceil_div(count, kK),
      [&](uint32_t step, int, int row, int column) {
        const uint32_t r = step * kK + row;
        if (r >= count) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        return quad(d_table + size_t(r) * h, row0 + column, h, whole);
      },
      [&](uint32_t step, int, int row, int column) {
        const uint32_t r = step * kK + row;
        if (r >= count) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        return features.of_both(kind, ids[r], column0 + column);
      },
      AsRead(), [&](uint32_t, float4 x) { return numbers(x, kind == Features::kBases); });
  float* const part = a.part + size_t(at.x) * h * columns;
  const bool pairs = columns % 2 == 0 && aligned(a.part, 8);
  each_pair<Block>(c, [](int, int, float&, float&) {}, [&](int row, int column, float x0, float x1) {
    const uint32_t i = row0 + row, j = column0 + column;
    if (i >= h || j >= columns) return;
    float* const to = part + size_t(i) * columns + j;
    if (pairs) {
      *reinterpret_cast<float2*>(to) = make_float2(x0, x1);
    } else {
      to[0] = x0;
      if (j + 1 < columns) to[1] = x1;
    }
  });
}

}  // namespace

SCX_KERNEL(project_forward_f32, ProjectForwardArgs, kThreads, 2 * ForwardLayout<F32>::kBytes, kM, kN) { forward<F32>(a); }
SCX_KERNEL(project_forward_bf16, ProjectForwardArgs, kThreads, 2 * ForwardLayout<Bf16>::kBytes, kM, kN) { forward<Bf16>(a); }

SCX_KERNEL(project_backward_embedding_f32, ProjectBackwardEmbeddingArgs, kThreads, 2 * EmbeddingLayout<F32>::kBytes, kM,
           kN) {
  backward_embedding<F32>(a);
}
SCX_KERNEL(project_backward_embedding_bf16, ProjectBackwardEmbeddingArgs, kThreads, 2 * EmbeddingLayout<Bf16>::kBytes, kM,
           kN) {
  backward_embedding<Bf16>(a);
}

SCX_KERNEL(project_backward_weight_f32, ProjectBackwardWeightArgs, kThreads, 2 * WeightLayout<F32>::kBytes, kM, kN) {
  backward_weight<F32>(a);
}
SCX_KERNEL(project_backward_weight_bf16, ProjectBackwardWeightArgs, kThreads, 2 * WeightLayout<Bf16>::kBytes, kM, kN) {
  backward_weight<Bf16>(a);
}

// The rows of the chunk are sorted by chromosome (stable, so that sums run in row order); then four groups of threads
// share the rows of each chromosome. One thread a row while sorting, one a column while adding.
SCX_KERNEL(project_backward_chromosome, ProjectBackwardWeightArgs, SCX_PROJECT_CHUNK, 0, 1, 1) {
  constexpr uint32_t kColumns = 128, kGroups = SCX_PROJECT_CHUNK / kColumns;
  __shared__ __align__(16) uint32_t key[SCX_PROJECT_CHUNK];  // chromosome of each row
  __shared__ uint32_t order[SCX_PROJECT_CHUNK];              // rows, sorted
  __shared__ uint32_t sorted[SCX_PROJECT_CHUNK];             // their chromosomes
  __shared__ uint32_t same[SCX_PROJECT_CHUNK];               // how many rows have that chromosome
  __shared__ float sums[2][kGroups][kColumns];
  const uint32_t rows = *a.n_rows, first = blockIdx.x * SCX_PROJECT_CHUNK;
  const uint32_t h = a.hidden, chromosomes = a.side.chromosomes;
  if (first >= rows) return;
  const uint32_t count = rows - first < SCX_PROJECT_CHUNK ? rows - first : SCX_PROJECT_CHUNK;
  const uint32_t me = threadIdx.x;
  const uint32_t mine = me < count ? a.side.chrom[a.row[first + me]] : SCX_NONE;
  key[me] = mine;
  __syncthreads();
  if (me < count) {
    uint32_t less = 0, equal = 0, before = 0;
    for (uint32_t j = 0; j < count; j += 4) {
      const uint4 k = *reinterpret_cast<const uint4*>(key + j);
      const uint32_t four[4] = {k.x, k.y, k.z, k.w};
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        less += four[i] < mine;
        equal += four[i] == mine;
        before += four[i] == mine && j + i < me;
      }
    }
    order[less + before] = me;
    sorted[less + before] = mine;
    same[less + before] = equal;
  }
  __syncthreads();

  const uint32_t group = me / kColumns, place = me % kColumns;
  uint32_t flip = 0;
  for (uint32_t column = place; column - place < h; column += kColumns) {
    const bool live = column < h;
    const float* const from = a.d_table + size_t(first) * h + column;
    float* const to = a.part_chrom + size_t(blockIdx.x) * chromosomes * h + column;
    for (uint32_t c = 0, p = 0;; ++c) {
      const uint32_t next = p < count ? sorted[p] : chromosomes;
      for (; c < next; ++c)
        if (live && c % kGroups == group) to[size_t(c) * h] = 0.0f;
      if (p >= count) break;
      const uint32_t end = p + same[p];
      float sum = 0.0f;
      if (live) {
#pragma unroll 8
        for (uint32_t q = p + group; q < end; q += kGroups) sum += from[size_t(order[q]) * h];
      }
      sums[flip][group][place] = sum;
      __syncthreads();
      if (live && group == 0) {
        for (uint32_t g = 1; g < kGroups; ++g) sum += sums[flip][g][place];
        to[size_t(c) * h] = sum;
      }
      flip ^= 1;
      p = end;
    }
  }
}

SCX_KERNEL(project_backward_reduce, ProjectBackwardReduceArgs, kThreads, 0, kThreads, 1) {
  __shared__ float sums[kThreads];
  const uint32_t h = a.hidden, dim = a.side.dim, chromosomes = a.side.chromosomes, width = width_of(a.side);
  const uint32_t columns = dim + a.side.extra, chunks = ceil_div(*a.n_rows, SCX_PROJECT_CHUNK);
  const uint32_t first = blockIdx.x * kThreads, at = first + threadIdx.x;
  if (at < h * width) {
    const uint32_t j = at / width, i = at % width;
    float sum = 0.0f;
    if (i == dim) {
      sum = a.d_u[j];
    } else if (i > dim && i <= dim + chromosomes) {
      const float* const from = a.part_chrom + size_t(i - dim - 1) * h + j;
#pragma unroll 8
      for (uint32_t c = 0; c < chunks; ++c) sum += from[size_t(c) * chromosomes * h];
    } else {
      const float* const from = a.part + size_t(j) * columns + (i < dim ? i : i - 1 - chromosomes);
#pragma unroll 8
      for (uint32_t c = 0; c < chunks; ++c) sum += from[size_t(c) * h * columns];
    }
    a.d_w[at] += sum;
  }
  // d_b[j], by the block that has the value column of row j: all its threads add the parts of all chromosomes.
  for (uint32_t j = first <= dim ? 0 : ceil_div(first - dim, width); j < h && j * width + dim < first + kThreads; ++j) {
    float sum = 0.0f;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < chunks * chromosomes; i += kThreads) sum += a.part_chrom[size_t(i) * h + j];
    sum = block_sum(sum, sums);
    if (threadIdx.x == 0) a.d_b[j] += sum;
  }
}
