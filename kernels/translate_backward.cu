// Translate, backward: scores are computed again, tile by tile, and never stored.
//
// For a tile of columns x active genes: sum = M D, where M is 0/1 (which positive has which column) and D is d_pred of the
// tile's genes; d = s (1 - s) sum with s = sigmoid(q . k); then d q is added to d_keys, or d k to the genes' part.
// M D is a dense tensor-core product. A column has 20 of 512 positives, so it does 25 times the additions needed, yet a
// gather reads 20 x 4 bytes a pair from L2 (1.48 G pairs, 118 GB, 21 ms a kernel on an H100), and this 2 x 512 flops of
// bf16 (1.5 TFLOP, 2.6 ms). With few positives it costs next to nothing: 64 flops a pair up to 32 of them.
// M is exact in bf16. _bf16 rounds D to bf16; _f32 splits D into three bf16 parts, which hold all 24 bits of a float.
//
// Predicted cost on an H100, 13,431 genes, all active, U = 110,000, H = 128, 512 positives, each of the two kernels:
//   bf16  256 (scores) + 1,024 (sums) + 256 (second product) flops a pair, 2.3 TFLOP: 4 ms at 580 TFLOP/s; near 6 ms with
//         the barriers between phases. d_pred is read once a column tile: 128 KB a tile of 128 x 64, 24 GB from L2, beside it.
//   f32   3 TF32 products of 256 twice and 3 bf16 of 1,024: 3.5 times that.
// At one positive (U = 4,000, 1,000 active genes): 32 column tiles in keys, 16 gene tiles in genes: 35 us and 65 us, latency.
//
// See docs/model.md, section 6.2, section 7.4, section 7.5.
#include "common/abi.h"
#include "common/tensor.h"
#include "common/tile.h"

namespace {

using namespace scx;

constexpr int kBackThreads = 256, kBackWarps = kBackThreads / 32;
constexpr int kBackGenes = 64;           // active genes of a tile
constexpr int kBackK = 128;              // of the inner dimension in shared memory at a time, and of a result
constexpr int kBackSpan = 512;           // positives whose incidence is in shared memory at a time
constexpr int kBitsLd = kBackSpan / 32 + 4;  // 16-byte pieces of eight rows lie in different banks
constexpr int kStageLd = kBackGenes + 8;  // rows t of four lanes lie 8 banks apart

// kCols: columns of a tile. kWords: positives staged at a time, in words of 32. kParts: bf16 numbers a d_pred is split into.
template <class P>
struct BackShape;
template <>
struct BackShape<Bf16> {
  static constexpr int kCols = 128, kWords = 4, kParts = 1;
};
template <>
struct BackShape<F32> {
  static constexpr int kCols = 64, kWords = 1, kParts = 3;
};

// b[n] = B tiles at columns 8 n; load_columns: stored as [n][k], load_columns_t: as [k][n]. NT is even.
template <int NT>
__device__ __forceinline__ void load_columns(Bf16::B (&b)[NT], const __nv_bfloat16* tile, int ld) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int n = 0; n < NT; n += 2) {
    uint32_t r[4];
    ldmatrix_x4(r, tile + (n * 8 + (lane & 7) + (lane >> 4) * 8) * ld + (lane >> 3 & 1) * 8);
    b[n].r[0] = r[0], b[n].r[1] = r[1], b[n + 1].r[0] = r[2], b[n + 1].r[1] = r[3];
  }
}
template <int NT>
__device__ __forceinline__ void load_columns(F32::B (&b)[NT], const float* tile, int ld) {
#pragma unroll
  for (int n = 0; n < NT; ++n) F32::load_b(b[n], tile + n * 8 * ld, ld);
}
// Two tiles at a time, so that a caller can stop at any width that is a multiple of 16.
__device__ __forceinline__ void load_pair_t(Bf16::B (&b)[2], const __nv_bfloat16* tile, int ld) {
  const int lane = threadIdx.x & 31;
  uint32_t r[4];
  ldmatrix_x4_trans(r, tile + (lane & 15) * ld + (lane >> 4) * 8);
  b[0].r[0] = r[0], b[0].r[1] = r[1], b[1].r[0] = r[2], b[1].r[1] = r[3];
}
__device__ __forceinline__ void load_pair_t(F32::B (&b)[2], const float* tile, int ld) {
  F32::load_b_t(b[0], tile, ld);
  F32::load_b_t(b[1], tile + 8, ld);
}

// c[m][n] += a[m] b[n], neighbouring instructions on different sums.
template <int MT, int NT>
__device__ __forceinline__ void products(float (&c)[MT][NT][4], const Bf16::A (&a)[MT], const Bf16::B (&b)[NT]) {
#pragma unroll
  for (int n = 0; n < NT; ++n)
#pragma unroll
    for (int m = 0; m < MT; ++m) mma_bf16(c[m][n], a[m].r, b[n].r);
}
template <int MT, int NT>
__device__ __forceinline__ void products(float (&c)[MT][NT][4], const F32::A (&a)[MT], const F32::B (&b)[NT]) {
#pragma unroll
  for (int s = 0; s < 2; ++s)
#pragma unroll
    for (int part = 0; part < 3; ++part)
#pragma unroll
      for (int n = 0; n < NT; ++n)
#pragma unroll
        for (int m = 0; m < MT; ++m)
          mma_tf32(c[m][n], part == 0 ? a[m].small[s] : a[m].big[s], part == 1 ? b[n].small[s] : b[n].big[s]);
}

__device__ __forceinline__ void load_words(uint32_t (&to)[4], const uint32_t* from) {
  const uint4 v = *reinterpret_cast<const uint4*>(from);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
__device__ __forceinline__ void load_words(uint32_t (&to)[1], const uint32_t* from) { to[0] = *from; }

// Two neighbours of a row of d.
__device__ __forceinline__ void store_pair(__nv_bfloat16* to, float x, float y) {
  *reinterpret_cast<uint32_t*>(to) = pack_bf16(x, y);
}
__device__ __forceinline__ void store_pair(float* to, float x, float y) { *reinterpret_cast<float2*>(to) = {x, y}; }

// s (1 - s) for s = sigmoid(x), without the cancellation of 1 - s.
__device__ __forceinline__ float sigmoid_slope(float x) {
  const float e = __expf(-fabsf(x)), r = __fdividef(1.0f, 1.0f + e);
  return e * r * r;
}

// The tiles of one block. KEYS: the block owns a column tile and goes through the active genes, sums of d q by column.
// Else it owns a tile of active genes and goes through a chunk of columns, sums of d k by gene.
// FULL: `padded` is a multiple of kBackK.
template <class P, bool KEYS, bool FULL>
struct Backward {
  using Elem = typename P::Elem;
  static constexpr int kCols = BackShape<P>::kCols, kWords = BackShape<P>::kWords, kParts = BackShape<P>::kParts;
  static constexpr int kLd = kBackK + P::kPad, kDLd = kBackGenes + P::kPad;
  static constexpr int kEach = 16 / int(sizeof(Elem));
  // warps of the tile: rows of 32 columns, and the genes shared among the warps of a row
  static constexpr int kRows = kCols / 32, kNt = kBackGenes / (kBackWarps / kRows) / 8;
  // warps of the result: rows of 32 columns (genes), and the kBackK columns shared among the warps of a row
  static constexpr int kOutRows = (KEYS ? kCols : kBackGenes) / 32, kOutNt = kBackK / (kBackWarps / kOutRows) / 8;
  static constexpr int kStage = kParts * kWords * 16 * kStageLd;  // words of one buffer of d_pred
  static constexpr int kLoads = kWords * 4;                      // pairs of d_pred a thread stages at a time
  static_assert(kBackThreads == 4 * kBackGenes, "a thread stages every fourth pair of a gene");

  static constexpr int kKeysBytes = kCols * kLd * int(sizeof(Elem)), kGenesBytes = kBackGenes * kLd * int(sizeof(Elem));
  static constexpr int kStageBytes = 2 * kStage * 4, kBitsBytes = kCols * kBitsLd * 4;
  static constexpr int kShared = kKeysBytes + kGenesBytes + kStageBytes + kBitsBytes;
  static_assert(kCols * kDLd * int(sizeof(Elem)) <= kStageBytes, "d takes the place of the staged d_pred");
  static_assert(kShared <= 99 * 1024, "a block's shared memory on every device");

  const TranslateBackwardArgs& a;
  uint32_t head, columns, positives, genes;  // genes: active ones
  Elem *keys_tile, *genes_tile;              // [kCols][kLd], [kBackGenes][kLd]
  uint32_t* stage;                           // [2][kParts][kWords * 16][kStageLd]: positives i and i + 16 of a word
  Elem* d;                                   // [kCols][kDLd], in the place of `stage`
  uint32_t* bits;                            // [kCols][kBitsLd]: bit i % 32 of word i / 32: positive i of the span

  __device__ __forceinline__ explicit Backward(const TranslateBackwardArgs& args) : a(args) {
    unsigned char* shared = dynamic_shared();
    keys_tile = reinterpret_cast<Elem*>(shared);
    genes_tile = reinterpret_cast<Elem*>(shared + kKeysBytes);
    stage = reinterpret_cast<uint32_t*>(shared + kKeysBytes + kGenesBytes);
    d = reinterpret_cast<Elem*>(stage);
    bits = stage + 2 * kStage;
    head = KEYS ? blockIdx.y : blockIdx.z;
    columns = *a.columns.n_columns;
    positives = *a.columns.n_positives;
    genes = a.n_active[head];
  }

  __device__ __forceinline__ uint32_t width(uint32_t chunk) const {
    return FULL ? kBackK : min(a.padded - chunk * kBackK, uint32_t(kBackK));
  }

  // Elements of K chunk `chunk` of a tile of columns, of active genes: asynchronous; zeros past the end.
  __device__ __forceinline__ void load_keys(uint32_t col0, uint32_t chunk) const {
    const Elem* from = static_cast<const Elem*>(a.keys_eff);
    const uint32_t pieces = width(chunk) / kEach;
    for (uint32_t i = threadIdx.x; i < kCols * pieces; i += kBackThreads) {
      const uint32_t row = i / pieces, at = i % pieces * kEach;
      const bool valid = col0 + row < columns;
      const size_t index = valid ? (size_t(col0 + row) * a.heads + head) * a.padded + chunk * kBackK + at : 0;
      cp_async16(keys_tile + row * kLd + at, from + index, valid);
    }
  }
  __device__ __forceinline__ void load_genes(uint32_t gene0, uint32_t chunk) const {
    const Elem* from = static_cast<const Elem*>(a.genes_eff);
    const uint32_t* active = a.active + size_t(head) * a.genes;
    const uint32_t pieces = width(chunk) / kEach;
    for (uint32_t i = threadIdx.x; i < kBackGenes * pieces; i += kBackThreads) {
      const uint32_t row = i / pieces, at = i % pieces * kEach;
      const bool valid = gene0 + row < genes;
      const size_t gene = valid ? active[gene0 + row] : 0;
      cp_async16(genes_tile + row * kLd + at, from + (gene * a.heads + head) * a.padded + chunk * kBackK + at, valid);
    }
  }

  // Which of the positives first ... first + kBackSpan have which columns of the tile. Begins after a barrier that all
  // readers of the old bits have passed, and needs one before the new are read.
  __device__ __forceinline__ void mark(uint32_t col0, uint32_t first) const {
    constexpr int kOwn = kCols / kBackWarps, kAtOnce = 8;  // columns of a warp
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const uint32_t at = min(col0 + warp * kOwn + min(lane, kOwn), columns);
    const uint32_t ptr = a.columns.by_ptr[at];
    for (int i = lane; i < kOwn * kBitsLd; i += 32) bits[warp * kOwn * kBitsLd + i] = 0;
    __syncwarp();
#pragma unroll
    for (int c0 = 0; c0 < kOwn; c0 += kAtOnce) {
      uint32_t begin[kAtOnce], end[kAtOnce], positive[kAtOnce];
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
        begin[c] = __shfl_sync(kAllLanes, ptr, c0 + c) + lane;
        end[c] = __shfl_sync(kAllLanes, ptr, c0 + c + 1);
        positive[c] = begin[c] < end[c] ? a.columns.by_sample[begin[c]] : SCX_NONE;
      }
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
        uint32_t* row = bits + (warp * kOwn + c0 + c) * kBitsLd;
        for (uint32_t i = begin[c]; i < end[c]; i += 32) {
          const uint32_t p = (i == begin[c] ? positive[c] : a.columns.by_sample[i]) - first;
          if (p < kBackSpan) atomicOr(row + p / 32, 1u << p % 32);
        }
      }
    }
  }

  // d_pred of the positives of stage `number` and the thread's gene: pairs i, i + 16.
  __device__ __forceinline__ void fetch(float (&x)[kLoads][2], uint32_t gene0, uint32_t number) const {
    const uint32_t gene = gene0 + threadIdx.x % kBackGenes, own = threadIdx.x / kBackGenes;
    const uint32_t first = number * kWords * 32 + own, stride = a.heads * a.genes;
    const uint32_t left = gene < genes && first < positives ? positives - first : 0;
    const float* from = a.d_pred + size_t(first) * stride + size_t(head) * a.genes;
    if (gene < genes) from += a.active[size_t(head) * a.genes + gene];
#pragma unroll
    for (int j = 0; j < kLoads; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const uint32_t i = j / 4 * 32 + j % 4 * 4 + 16 * e;
        x[j][e] = i < left ? from[size_t(i) * stride] : 0.0f;
      }
  }
  __device__ __forceinline__ void put(const float (&x)[kLoads][2], uint32_t* buffer) const {
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const uint32_t pair = threadIdx.x / kBackGenes + j * 4;
      float rest[2] = {x[j][0], x[j][1]};
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const uint32_t packed = pack_bf16(rest[0], rest[1]);
        buffer[(part * kWords * 16 + pair) * kStageLd + threadIdx.x % kBackGenes] = packed;
        rest[0] -= __uint_as_float(packed << 16);
        rest[1] -= __uint_as_float(packed & 0xffff0000u);
      }
    }
  }

  // sum += M D over the staged positives; `word`: the first of their words in `bits`. A pair of neighbouring k of a
  // fragment is positives i and i + 16 of a word: i = t + 4 (2 step + half).
  __device__ __forceinline__ void add_staged(float (&sum)[2][kNt][4], const uint32_t* buffer, uint32_t word,
                                             uint32_t words) const {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3, warp = threadIdx.x >> 5;
    const uint32_t* rows = bits + ((warp % kRows) * 32 + g) * kBitsLd + word;
    const uint32_t* from = buffer + t * kStageLd + warp / kRows * kNt * 8 + g;
    uint32_t has[2][2][kWords];
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) load_words(has[m][half], rows + (m * 16 + half * 8) * kBitsLd);
#pragma unroll
    for (int w = 0; w < kWords; ++w, from += 16 * kStageLd) {
      if (w >= int(words)) break;
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        uint32_t x[2][4];
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
          for (int i = 0; i < 4; ++i) x[m][i] = (has[m][i & 1][w] >> (t + 8 * step + 4 * (i >> 1)) & 0x00010001u) * 0x3f80u;
#pragma unroll
        for (int part = 0; part < kParts; ++part)
#pragma unroll
          for (int n = 0; n < kNt; ++n) {
            uint32_t y[2];
#pragma unroll
            for (int i = 0; i < 2; ++i) y[i] = from[(part * kWords * 16 + 4 * (2 * step + i)) * kStageLd + n * 8];
#pragma unroll
            for (int m = 0; m < 2; ++m) mma_bf16(sum[m][n], x[m], y);
          }
      }
    }
  }

  // score += K Q^T over the K chunk in shared memory.
  __device__ __forceinline__ void add_scores(float (&score)[2][kNt][4], uint32_t chunk) const {
    const int warp = threadIdx.x >> 5, row = warp % kRows * 32, gene = warp / kRows * kNt * 8;
    auto step = [&](int k) {
      typename P::A x[2];
      typename P::B y[kNt];
#pragma unroll
      for (int m = 0; m < 2; ++m) P::load_a(x[m], keys_tile + (row + m * 16) * kLd + k, kLd);
      load_columns(y, genes_tile + gene * kLd + k, kLd);
      products(score, x, y);
    };
    if constexpr (FULL) {
#pragma unroll
      for (int k = 0; k < kBackK; k += 16) step(k);
    } else {
      const int last = int(width(chunk));
#pragma unroll 1
      for (int k = 0; k < last; k += 16) step(k);
    }
  }

  // out += d Q (KEYS), d^T K (else), over the K chunk in shared memory.
  __device__ __forceinline__ void add_result(float (&out)[2][kOutNt][4], uint32_t chunk) const {
    const int warp = threadIdx.x >> 5, row = warp % kOutRows * 32, column = warp / kOutRows * kOutNt * 8;
    const Elem* other = KEYS ? genes_tile : keys_tile;
#pragma unroll
    for (int k = 0; k < (KEYS ? kBackGenes : kCols); k += 16) {
      typename P::A x[2];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        if constexpr (KEYS) {
          P::load_a(x[m], d + (row + m * 16) * kDLd + k, kDLd);
        } else {
          P::load_a_t(x[m], d + k * kDLd + row + m * 16, kDLd);
        }
      }
#pragma unroll
      for (int n = 0; n < kOutNt; n += 2) {
        if (FULL || column + n * 8 < int(width(chunk))) {
          typename P::B y[2];
          load_pair_t(y, other + k * kLd + column + n * 8, kLd);
          float(&c)[2][kOutNt][4] = out;
          float part[2][2][4];
#pragma unroll
          for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int j = 0; j < 2; ++j)
#pragma unroll
              for (int i = 0; i < 4; ++i) part[m][j][i] = c[m][n + j][i];
          products(part, x, y);
#pragma unroll
          for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int j = 0; j < 2; ++j)
#pragma unroll
              for (int i = 0; i < 4; ++i) c[m][n + j][i] = part[m][j][i];
        }
      }
    }
  }

  // What `out` holds for K chunk `chunk`: rows of `to`, which is [.., hidden], from row `first`; fewer than `rows` of them.
  __device__ __forceinline__ void store(const float (&out)[2][kOutNt][4], float* to, uint32_t rows, uint32_t chunk) const {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3, warp = threadIdx.x >> 5;
    const uint32_t slice = a.hidden / a.heads;
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int n = 0; n < kOutNt; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint32_t row = warp % kOutRows * 32 + m * 16 + g + 8 * (i >> 1);
          const uint32_t k = chunk * kBackK + (warp / kOutRows * kOutNt + n) * 8 + 2 * t + (i & 1);
          if (row < rows && k < slice) to[size_t(row) * a.hidden + head * slice + k] = out[m][n][i];
        }
  }

  // The block's tile begins at `own` (a column, or an active gene); the others are first ... last.
  __device__ __forceinline__ void run(uint32_t own, uint32_t first, uint32_t last, float* to, uint32_t rows) const {
    constexpr uint32_t kStep = KEYS ? kBackGenes : kCols;
    const uint32_t chunks = ceil_div(a.padded, kBackK), stages = ceil_div(positives, 32 * kWords);
    constexpr uint32_t kSpanStages = kBackSpan / (32 * kWords);
    const bool one_span = stages <= kSpanStages;
    const int warp = threadIdx.x >> 5, g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll 1
    for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
      float out[2][kOutNt][4] = {};
      if (chunks == 1) {
        if (KEYS) load_keys(own, 0); else load_genes(own, 0);
        cp_async_commit();
      }
      if (KEYS && one_span) mark(own, 0);
      float x[kLoads][2];
      fetch(x, KEYS ? first : own, 0);
#pragma unroll 1
      for (uint32_t other = first; other < last; other += kStep) {
        const uint32_t col0 = KEYS ? own : other, gene0 = KEYS ? other : own;
        if (chunks == 1) {
          if (KEYS) load_genes(gene0, 0); else load_keys(col0, 0);
          cp_async_commit();
        }
        if (!KEYS && one_span) mark(col0, 0);
        float sum[2][kNt][4] = {};
#pragma unroll 1
        for (uint32_t number = 0; number < stages; ++number) {
          uint32_t* buffer = stage + number % 2 * kStage;
          put(x, buffer);
          if (!one_span && number % kSpanStages == 0) {
            __syncthreads();
            mark(col0, number * kWords * 32);
          }
          if (number + 1 < stages) fetch(x, gene0, number + 1);
          __syncthreads();  // this stage is there, the other buffer is free
          const uint32_t left = ceil_div(positives, 32) - number * kWords;
          add_staged(sum, buffer, number % kSpanStages * kWords, min(left, uint32_t(kWords)));
        }
        bool any = false;
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
          for (int n = 0; n < kNt; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) any |= sum[m][n][i] != 0.0f;
        cp_async_wait<0>();
        const bool skip = !__syncthreads_or(any);  // and: the tiles are there, nobody reads `stage`
        if (!skip) {
          float score[2][kNt][4] = {};
#pragma unroll 1
          for (uint32_t i = 0; i < chunks; ++i) {
            const uint32_t now = (chunk + 1 + i) % chunks;  // the last is `chunk`, and stays
            if (chunks > 1) {
              __syncthreads();
              load_keys(col0, now);
              load_genes(gene0, now);
              cp_async_commit();
              cp_async_wait<0>();
              __syncthreads();
            }
            add_scores(score, now);
          }
#pragma unroll
          for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int n = 0; n < kNt; ++n)
#pragma unroll
              for (int half = 0; half < 2; ++half) {
                const float* c = &score[m][n][half * 2];
                Elem* at = d + (warp % kRows * 32 + m * 16 + half * 8 + g) * kDLd + (warp / kRows * kNt + n) * 8 + 2 * t;
                store_pair(at, sigmoid_slope(c[0]) * sum[m][n][half * 2], sigmoid_slope(c[1]) * sum[m][n][half * 2 + 1]);
              }
        }
        if (other + kStep < last) fetch(x, KEYS ? gene0 + kStep : own, 0);
        if (!skip) {
          __syncthreads();
          add_result(out, chunk);
          __syncthreads();  // nobody reads the tiles, nor d
        }
      }
      store(out, to, rows, chunk);
      cp_async_wait<0>();
      __syncthreads();
    }
  }
};

template <class P, bool FULL>
__device__ __forceinline__ void backward_keys(const TranslateBackwardArgs& a) {
  const Backward<P, true, FULL> tiles(a);
  const uint32_t col0 = blockIdx.x * tiles.kCols;
  if (col0 >= tiles.columns) return;
  tiles.run(col0, 0, tiles.genes, a.d_keys + size_t(col0) * a.hidden, min(tiles.columns - col0, uint32_t(tiles.kCols)));
}

template <class P, bool FULL>
__device__ __forceinline__ void backward_genes(const TranslateBackwardArgs& a) {
  const Backward<P, false, FULL> tiles(a);
  const uint32_t gene0 = blockIdx.x * kBackGenes, first = blockIdx.y * SCX_TRANSLATE_CHUNK;
  if (gene0 >= tiles.genes || first >= tiles.columns) return;
  float* to = a.part + (size_t(blockIdx.y) * a.genes + gene0) * a.hidden;
  tiles.run(gene0, first, min(tiles.columns, first + SCX_TRANSLATE_CHUNK), to,
            min(tiles.genes - gene0, uint32_t(kBackGenes)));
}

// ---------------------------------------------------------------- sums of the parts

constexpr int kReduceThreads = 128, kReduceGenes = 16, kReduceRows = 16;

// A thread a hidden column. Blocks without active genes write their zeros to d_u_part too.
__device__ __forceinline__ void genes_reduce(const TranslateGenesReduceArgs& a) {
  const uint32_t first = blockIdx.x * kReduceGenes;
  if (first >= a.genes) return;
  const uint32_t chunks = ceil_div(*a.n_columns, SCX_TRANSLATE_CHUNK), slice = a.hidden / a.heads;
  for (uint32_t k = threadIdx.x; k < a.hidden; k += kReduceThreads) {
    const uint32_t head = k / slice, last = min(first + kReduceGenes, a.n_active[head]);
    float total = 0.0f;
    for (uint32_t i = first; i < last; ++i) {
      float sum = 0.0f;
#pragma unroll 4
      for (uint32_t c = 0; c < chunks; ++c) sum += a.part[(size_t(c) * a.genes + i) * a.hidden + k];
      a.d_q[size_t(a.active[size_t(head) * a.genes + i]) * a.hidden + k] += sum;
      total += sum;
    }
    a.d_u_part[size_t(blockIdx.x) * a.hidden + k] = total;
  }
}

// A thread a hidden column, key rows in order, their columns in order.
__device__ __forceinline__ void key_columns(const TranslateColumnsArgs& a) {
  const uint32_t first = blockIdx.x * kReduceRows;
  if (first >= *a.n_rows) return;
  const uint32_t last = min(first + kReduceRows, *a.n_rows);
  for (uint32_t k = threadIdx.x; k < a.hidden; k += kReduceThreads) {
    float total = 0.0f;
    uint32_t c = a.columns.row_ptr[first];
    for (uint32_t row = first; row < last; ++row) {
      const uint32_t end = a.columns.row_ptr[row + 1];
      if (c == end) continue;
      float sum = 0.0f;
#pragma unroll 4
      for (; c < end; ++c) {
        const float x = a.d_keys[size_t(c) * a.hidden + k];
        sum += x;
        total += a.columns.value[c] * x;
      }
      a.d_k[size_t(row) * a.hidden + k] += sum;
    }
    a.d_u_part[size_t(blockIdx.x) * a.hidden + k] = total;
  }
}

}  // namespace

#define SCX_BACKWARD(name, P, keys, tile_x, tile_y)                                                                    \
  SCX_KERNEL(name, TranslateBackwardArgs, kBackThreads, (Backward<P, true, true>::kShared), tile_x, tile_y) { \
    if (a.padded % kBackK == 0) {                                                                                 \
      keys<P, true>(a);                                                                                           \
    } else {                                                                                                           \
      keys<P, false>(a);                                                                                          \
    }                                                                                                                  \
  }

SCX_BACKWARD(translate_backward_keys_f32, F32, backward_keys, BackShape<F32>::kCols, 1)
SCX_BACKWARD(translate_backward_keys_bf16, Bf16, backward_keys, BackShape<Bf16>::kCols, 1)
SCX_BACKWARD(translate_backward_genes_f32, F32, backward_genes, kBackGenes, SCX_TRANSLATE_CHUNK)
SCX_BACKWARD(translate_backward_genes_bf16, Bf16, backward_genes, kBackGenes, SCX_TRANSLATE_CHUNK)

SCX_KERNEL(translate_backward_genes_reduce, TranslateGenesReduceArgs, kReduceThreads, 0, kReduceGenes, 1) {
  genes_reduce(a);
}
SCX_KERNEL(translate_backward_columns, TranslateColumnsArgs, kReduceThreads, 0, kReduceRows, 1) {
  key_columns(a);
}
