// Translate, backward: scores are computed again, tile by tile, and never stored.
//
// For a tile of columns x active genes: sum = M D, where M is 0/1 (which positive has which column) and D is d_pred of
// the tile's genes; d = s (1 - s) sum with s = sigmoid(q . k); then d q is added to d_keys, or d k to the genes' part.
// M D is a dense tensor-core product. A column has 20 of 512 positives, so it does 25 times the additions needed, yet a
// gather reads 20 x 4 bytes a pair from L2 (1.48 G pairs, 118 GB, 21 ms a kernel on an H100), and this 2 x 512 flops of
// bf16 (1.5 TFLOP, 2.6 ms). With few positives it costs next to nothing: 64 flops a pair up to 32 of them.
// M is exact in bf16. _bf16 rounds D to bf16; _f32 splits D into three bf16 parts, which hold all 24 bits of a float.
//
// Two ways to D: the plain kernels gather d_pred tile by tile, round it, and mark the incidence from by_ptr; the packed
// ones (translate_incidence, translate_pack_P first) stage both by asynchronous copies. Their results are the same, bit
// for bit.
//
// Predicted cost on an H100, 13,431 genes, all active, U = 110,000, H = 128, 512 positives, each of the two kernels:
//   bf16  256 (scores) + 1,024 (sums) + 256 (second product) flops a pair, 2.3 TFLOP: 4 ms at 580 TFLOP/s. A tile of
//         128 x 64 keeps a scheduler's tensor core busy for 4,700 cycles, shared memory for 4,900, and issues 3,700
//         instructions (packed; 5,500 plain): near 5.5 ms packed, 7 ms plain, with the barriers between phases. D is
//         read once a column tile: from L2 12 GB packed, 24 GB plain.
//   f32   3 TF32 products of 256 twice and 3 bf16 of 1,024: 6,144 flops of bf16 a pair, 9 TFLOP: 16 to 20 ms.
//   incidence, pack: 7 MB and 14 MB (f32: 41 MB) written, 0.03 ms. Reduce, columns: 56 MB and 95 MB read, 0.06 ms.
// At one positive (U = 4,000, 1,000 active genes): 32 column tiles in keys, 16 gene tiles in genes: 35 us and 65 us,
// latency.
#include "common/abi.h"
#include "common/cuda.h"
#include "common/tensor.h"
#include "common/tile.h"

namespace scx {

constexpr int BACK_THREADS = 256, BACK_WARPS = BACK_THREADS / 32;
constexpr int BACK_GENES = 64;           // active genes of a tile
constexpr int BACK_K = 128;              // of the inner dimension in shared memory at a time, and of a result
constexpr int BACK_SPAN = 512;           // positives whose incidence is in shared memory at a time
constexpr int BITS_LD = BACK_SPAN / 32 + 4;  // 16-byte pieces of eight rows lie in different banks
constexpr int STAGE_WORD = BACK_GENES * 16;  // words of one word of positives of a tile's d_pred

// COLS: columns of a tile. WORDS: positives staged at a time, in words of 32. PARTS: bf16 numbers a d_pred is split
// into.
template <class P>
struct BackShape;
template <>
struct BackShape<Bf16> {
  static constexpr int COLS = 128, WORDS = 4, PARTS = 1;
};
template <>
struct BackShape<F32> {
  static constexpr int COLS = 64, WORDS = 1, PARTS = 3;
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

// Bits BIT and BIT + 16 as two bf16, 1 or 0.
template <int BIT>
__device__ __forceinline__ uint32_t one_at(uint32_t bits) {
  return (bits & (0x00010001u << BIT)) * (0x3f80u >> BIT);
}

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

template <class Args>
struct IsPacked {
  static constexpr bool value = false;
};
template <>
struct IsPacked<TranslateBackwardPackedArgs> {
  static constexpr bool value = true;
};

// Words a row of the incidence.
__device__ __forceinline__ uint32_t incidence_words(uint32_t positives) { return ceil_div(positives, 128) * 4; }
// Genes a row of packed d_pred.
__device__ __forceinline__ uint32_t packed_genes(uint32_t genes) { return ceil_div(genes, BACK_GENES) * BACK_GENES; }

// Where the first of the pairs (i, i + 16), i = t, t + 4, t + 8, t + 12, of a word of positives lies in a gene's 16
// words: a lane t reads its four at once. The order of the four places depends on the gene, for writes without bank
// conflicts.
__device__ __forceinline__ int pair_place(int gene, int t) { return (t ^ (gene >> 1 & 3)) * 4; }

// Two floats as PARTS pairs of bf16 whose sums they are (as near as PARTS allow).
template <int PARTS>
__device__ __forceinline__ void split_pair(uint32_t (&packed)[PARTS], float x, float y) {
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
    packed[part] = pack_bf16(x, y);
    x -= __uint_as_float(packed[part] << 16);
    y -= __uint_as_float(packed[part] & 0xffff0000u);
  }
}

// The tiles of one block. KEYS: the block owns a column tile and goes through the active genes, sums of d q by column.
// Else it owns a tile of active genes and goes through a chunk of columns, sums of d k by gene.
// FULL: `padded` is a multiple of BACK_K. Args: TranslateBackwardArgs, or TranslateBackwardPackedArgs.
template <class P, bool KEYS, bool FULL, class Args>
struct Backward {
  using Elem = typename P::Elem;
  static constexpr int COLS = BackShape<P>::COLS, WORDS = BackShape<P>::WORDS, PARTS = BackShape<P>::PARTS;
  static constexpr int LD = BACK_K + P::PAD, D_LD = BACK_GENES + P::PAD;
  static constexpr int EACH = 16 / int(sizeof(Elem));
  // warps of the tile: rows of 32 columns, and the genes shared among the warps of a row
  static constexpr int ROWS = COLS / 32, NT = BACK_GENES / (BACK_WARPS / ROWS) / 8;
  // warps of the result: rows of 32 columns (genes), and the BACK_K columns shared among the warps of a row
  static constexpr int OUT_ROWS = (KEYS ? COLS : BACK_GENES) / 32, OUT_NT = BACK_K / (BACK_WARPS / OUT_ROWS) / 8;
  static constexpr int STAGE = PARTS * WORDS * STAGE_WORD;     // words of one buffer of d_pred
  static constexpr int LOADS = WORDS * 4;                      // pairs of d_pred a thread stages at a time
  static_assert(BACK_THREADS == 4 * BACK_GENES, "a thread stages every fourth pair of a gene");

  static constexpr int KEYS_BYTES = COLS * LD * int(sizeof(Elem)), GENES_BYTES = BACK_GENES * LD * int(sizeof(Elem));
  static constexpr bool PACKED = IsPacked<Args>::value;
  // bits a row of `bits`: of a span, of one buffer of a stage
  static constexpr int ROW_LD = PACKED ? WORDS : BITS_LD, BITS = COLS * ROW_LD;
  // Packed: the bits of a stage follow its d_pred, in both buffers. Else all bits follow the buffers.
  static constexpr int BUFFER = STAGE + (PACKED ? BITS : 0), D_BYTES = COLS * D_LD * int(sizeof(Elem));
  // d takes the place of the second buffer only, so that the first can be filled again while d is in use
  static constexpr bool EARLY = D_BYTES <= BUFFER * 4;
  static constexpr int SHARED = KEYS_BYTES + GENES_BYTES + (2 * BUFFER + (PACKED ? 0 : BITS)) * 4;
  static_assert(D_BYTES <= 2 * BUFFER * 4, "d takes the place of the buffers");
  static_assert(SHARED <= 99 * 1024, "a block's shared memory on every device");

  const Args& a;
  uint32_t head, columns, positives, genes;  // genes: active ones
  Elem *keys_tile, *genes_tile;              // [COLS][LD], [BACK_GENES][LD]
  uint32_t* stage;                           // [2] buffers of [PARTS][WORDS][BACK_GENES][16], see pair_place
  Elem* d;                                   // [COLS][D_LD], in the place of `stage`
  uint32_t* bits;                            // [COLS][ROW_LD]: bit i % 32 of word i / 32: positive i of the span;
                                             // packed: of the stage, in each buffer

  __device__ __forceinline__ explicit Backward(const Args& args) : a(args) {
    unsigned char* shared = dynamic_shared();
    keys_tile = reinterpret_cast<Elem*>(shared);
    genes_tile = reinterpret_cast<Elem*>(shared + KEYS_BYTES);
    stage = reinterpret_cast<uint32_t*>(shared + KEYS_BYTES + GENES_BYTES);
    d = reinterpret_cast<Elem*>(PACKED && EARLY ? stage + BUFFER : stage);
    bits = stage + (PACKED ? STAGE : 2 * BUFFER);
    head = KEYS ? blockIdx.y : blockIdx.z;
    columns = *a.columns.n_columns;
    positives = *a.columns.n_positives;
    genes = a.n_active[head];
  }

  __device__ __forceinline__ uint32_t width(uint32_t chunk) const {
    return FULL ? BACK_K : min(a.padded - chunk * BACK_K, uint32_t(BACK_K));
  }

  // Elements of K chunk `chunk` of a tile of columns, of active genes: asynchronous; zeros past the end.
  __device__ __forceinline__ void load_keys(uint32_t col0, uint32_t chunk) const {
    const Elem* from = static_cast<const Elem*>(a.keys_eff);
    const uint32_t pieces = width(chunk) / EACH;
    for (uint32_t i = threadIdx.x; i < COLS * pieces; i += BACK_THREADS) {
      const uint32_t row = i / pieces, at = i % pieces * EACH;
      const bool valid = col0 + row < columns;
      const size_t index = valid ? (size_t(col0 + row) * a.heads + head) * a.padded + chunk * BACK_K + at : 0;
      cp_async16(keys_tile + row * LD + at, from + index, valid);
    }
  }
  __device__ __forceinline__ void load_genes(uint32_t gene0, uint32_t chunk) const {
    const Elem* from = static_cast<const Elem*>(a.genes_eff);
    const uint32_t* active = a.active + size_t(head) * a.genes;
    const uint32_t pieces = width(chunk) / EACH;
    for (uint32_t i = threadIdx.x; i < BACK_GENES * pieces; i += BACK_THREADS) {
      const uint32_t row = i / pieces, at = i % pieces * EACH;
      const bool valid = gene0 + row < genes;
      const size_t gene = valid ? active[gene0 + row] : 0;
      cp_async16(genes_tile + row * LD + at, from + (gene * a.heads + head) * a.padded + chunk * BACK_K + at, valid);
    }
  }

  // Which of the positives first ... first + BACK_SPAN have which columns of the tile. Begins after a barrier that all
  // readers of the old bits have passed, and needs one before the new are read.
  __device__ __forceinline__ void mark(uint32_t col0, uint32_t first) const {
    constexpr int OWN = COLS / BACK_WARPS, AT_ONCE = 8;  // columns of a warp
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const uint32_t at = min(col0 + warp * OWN + min(lane, OWN), columns);
    const uint32_t ptr = a.columns.by_ptr[at];
    for (int i = lane; i < OWN * BITS_LD; i += 32) bits[warp * OWN * BITS_LD + i] = 0;
    __syncwarp();
#pragma unroll
    for (int c0 = 0; c0 < OWN; c0 += AT_ONCE) {
      uint32_t begin[AT_ONCE], end[AT_ONCE], positive[AT_ONCE];
#pragma unroll
      for (int c = 0; c < AT_ONCE; ++c) {
        begin[c] = __shfl_sync(0xffffffffu, ptr, c0 + c) + lane;
        end[c] = __shfl_sync(0xffffffffu, ptr, c0 + c + 1);
        positive[c] = begin[c] < end[c] ? a.columns.by_sample[begin[c]] : SCX_NONE;
      }
#pragma unroll
      for (int c = 0; c < AT_ONCE; ++c) {
        uint32_t* row = bits + (warp * OWN + c0 + c) * BITS_LD;
        for (uint32_t i = begin[c]; i < end[c]; i += 32) {
          const uint32_t p = (i == begin[c] ? positive[c] : a.columns.by_sample[i]) - first;
          if (p < BACK_SPAN) atomicOr(row + p / 32, 1u << p % 32);
        }
      }
    }
  }

  // d_pred of the positives of stage `number` and the thread's gene: pairs i, i + 16.
  __device__ __forceinline__ void fetch(float (&x)[LOADS][2], uint32_t gene0, uint32_t number) const {
    const uint32_t gene = gene0 + threadIdx.x % BACK_GENES, own = threadIdx.x / BACK_GENES;
    const uint32_t first = number * WORDS * 32 + own, stride = a.heads * a.genes;
    const uint32_t left = gene < genes && first < positives ? positives - first : 0;
    const float* from = a.d_pred + size_t(first) * stride + size_t(head) * a.genes;
    if (gene < genes) from += a.active[size_t(head) * a.genes + gene];
#pragma unroll
    for (int j = 0; j < LOADS; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const uint32_t i = j / 4 * 32 + j % 4 * 4 + 16 * e;
        x[j][e] = i < left ? from[size_t(i) * stride] : 0.0f;
      }
  }
  __device__ __forceinline__ void put(const float (&x)[LOADS][2], uint32_t* buffer) const {
    const int gene = threadIdx.x % BACK_GENES, own = threadIdx.x / BACK_GENES;
    buffer += gene * 16 + pair_place(gene, own);
#pragma unroll
    for (int w = 0; w < WORDS; ++w) {
      uint32_t packed[4][PARTS];
#pragma unroll
      for (int j = 0; j < 4; ++j) split_pair(packed[j], x[w * 4 + j][0], x[w * 4 + j][1]);
#pragma unroll
      for (int part = 0; part < PARTS; ++part) {
        const uint4 v = {packed[0][part], packed[1][part], packed[2][part], packed[3][part]};
        *reinterpret_cast<uint4*>(buffer + (part * WORDS + w) * STAGE_WORD) = v;
      }
    }
  }

  // Packed: stage `number` of a tile into buffer number % 2, asynchronous. Rows past the last word are zeros.
  __device__ __forceinline__ void load_stage(uint32_t col0, uint32_t gene0, uint32_t number) const {
    constexpr int PIECES = STAGE_WORD / 4;
    const uint32_t words = incidence_words(positives), row_genes = packed_genes(a.genes), word = number * WORDS;
    const uint32_t left = ceil_div(positives, 32) - word;
    uint32_t* buffer = stage + number % 2 * BUFFER;
    const uint32_t stride = 16 * row_genes, own = threadIdx.x * 4;
    const uint32_t* from = a.packed + (size_t(head) * PARTS * words + word) * stride + gene0 * 16 + own;
    static_assert(PIECES == BACK_THREADS, "a thread copies a piece of each word");
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
      const uint32_t* at = from + size_t(part) * words * stride;
#pragma unroll
      for (int w = 0; w < WORDS; ++w) {
        cp_async16(buffer + (part * WORDS + w) * STAGE_WORD + own, at, uint32_t(w) < left);
        if (uint32_t(w) + 1 < left) at += stride;
      }
    }
    uint32_t* mine = buffer + STAGE;
    for (uint32_t i = threadIdx.x; i < COLS; i += BACK_THREADS) {
      const bool valid = col0 + i < columns;
      const uint32_t* row = a.incidence + (valid ? size_t(col0 + i) * words + word : 0);
      if constexpr (WORDS == 4) {
        cp_async16(mine + i * ROW_LD, row, valid);
      } else {
        cp_async4(mine + i * ROW_LD, row, valid);
      }
    }
  }

  // sum += M D over `words` words of positives, staged in `buffer`, their bits at `columns_bits`. A pair of
  // neighbouring k of a fragment is positives i and i + 16 of a word: i = t + 4 (2 step + half).
  __device__ __forceinline__ void add_staged(float (&sum)[2][NT][4], const uint32_t* buffer,
                                             const uint32_t* columns_bits, uint32_t words) const {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3, warp = threadIdx.x >> 5;
    const uint32_t* rows = columns_bits + ((warp % ROWS) * 32 + g) * ROW_LD;
    const uint32_t* from = buffer + (warp / ROWS * NT * 8 + g) * 16 + pair_place(g, t);
    uint32_t has[2][2][WORDS];
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) load_words(has[m][half], rows + (m * 16 + half * 8) * ROW_LD);
#pragma unroll
    for (int w = 0; w < WORDS; ++w, from += STAGE_WORD) {
      if (w >= int(words)) break;
      uint32_t x[2][2][4];  // of two steps
#pragma unroll
      for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint32_t low = has[m][half][w] >> t, high = low >> 8;
          x[m][0][half] = one_at<0>(low), x[m][0][half + 2] = one_at<4>(low);
          x[m][1][half] = one_at<0>(high), x[m][1][half + 2] = one_at<4>(high);
        }
#pragma unroll
      for (int part = 0; part < PARTS; ++part)
#pragma unroll
        for (int n = 0; n < NT; ++n) {
          const uint4 v = *reinterpret_cast<const uint4*>(from + part * WORDS * STAGE_WORD + n * 8 * 16);
          const uint32_t y[2][2] = {{v.x, v.y}, {v.z, v.w}};
#pragma unroll
          for (int step = 0; step < 2; ++step)
#pragma unroll
            for (int m = 0; m < 2; ++m) mma_bf16(sum[m][n], x[m][step], y[step]);
        }
    }
  }

  // score += K Q^T over the K chunk in shared memory.
  __device__ __forceinline__ void add_scores(float (&score)[2][NT][4], uint32_t chunk) const {
    const int warp = threadIdx.x >> 5, row = warp % ROWS * 32, gene = warp / ROWS * NT * 8;
    auto step = [&](int k) {
      typename P::A x[2];
      typename P::B y[NT];
#pragma unroll
      for (int m = 0; m < 2; ++m) P::load_a(x[m], keys_tile + (row + m * 16) * LD + k, LD);
      load_columns(y, genes_tile + gene * LD + k, LD);
      products(score, x, y);
    };
    if constexpr (FULL) {
#pragma unroll
      for (int k = 0; k < BACK_K; k += 16) step(k);
    } else {
      const int last = int(width(chunk));
#pragma unroll 1
      for (int k = 0; k < last; k += 16) step(k);
    }
  }

  // out += d Q (KEYS), d^T K (else), over the K chunk in shared memory.
  __device__ __forceinline__ void add_result(float (&out)[2][OUT_NT][4], uint32_t chunk) const {
    const int warp = threadIdx.x >> 5, row = warp % OUT_ROWS * 32, column = warp / OUT_ROWS * OUT_NT * 8;
    const Elem* other = KEYS ? genes_tile : keys_tile;
    [[maybe_unused]] constexpr int UNROLL = FULL ? 4 : 1;
#pragma unroll UNROLL
    for (int k = 0; k < (KEYS ? BACK_GENES : COLS); k += 16) {
      typename P::A x[2];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        if constexpr (KEYS) {
          P::load_a(x[m], d + (row + m * 16) * D_LD + k, D_LD);
        } else {
          P::load_a_t(x[m], d + k * D_LD + row + m * 16, D_LD);
        }
      }
#pragma unroll
      for (int n = 0; n < OUT_NT; n += 2) {
        if (FULL || column + n * 8 < int(width(chunk))) {
          typename P::B y[2];
          load_pair_t(y, other + k * LD + column + n * 8, LD);
          float(&c)[2][OUT_NT][4] = out;
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

  // What `out` holds for K chunk `chunk`, to the first `rows` rows of `to`, [.., hidden].
  __device__ __forceinline__ void store(const float (&out)[2][OUT_NT][4], float* to, uint32_t rows,
                                        uint32_t chunk) const {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3, warp = threadIdx.x >> 5;
    const uint32_t slice = a.hidden / a.heads;
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int n = 0; n < OUT_NT; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint32_t row = warp % OUT_ROWS * 32 + m * 16 + g + 8 * (i >> 1);
          const uint32_t k = chunk * BACK_K + (warp / OUT_ROWS * OUT_NT + n) * 8 + 2 * t + (i & 1);
          if (row < rows && k < slice) to[size_t(row) * a.hidden + head * slice + k] = out[m][n][i];
        }
  }

  // d of the tile from its sums; the first K chunk is in shared memory (if it is the only one).
  __device__ __forceinline__ void make_d(const float (&sum)[2][NT][4], uint32_t col0, uint32_t gene0, uint32_t chunk,
                                         uint32_t chunks) const {
    const int warp = threadIdx.x >> 5, g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
    float score[2][NT][4] = {};
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
      for (int n = 0; n < NT; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float* c = &score[m][n][half * 2];
          Elem* at = d + (warp % ROWS * 32 + m * 16 + half * 8 + g) * D_LD + (warp / ROWS * NT + n) * 8 + 2 * t;
          store_pair(at, sigmoid_slope(c[0]) * sum[m][n][half * 2], sigmoid_slope(c[1]) * sum[m][n][half * 2 + 1]);
        }
  }

  static __device__ __forceinline__ bool any(const float (&sum)[2][NT][4]) {
    bool found = false;
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int n = 0; n < NT; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) found |= sum[m][n][i] != 0.0f;
    return found;
  }

  // The block's tile begins at `own` (a column, or an active gene); the others are first ... last.
  __device__ __forceinline__ void run(uint32_t own, uint32_t first, uint32_t last, float* to, uint32_t rows) const {
    constexpr uint32_t STEP = KEYS ? BACK_GENES : COLS, SPAN_STAGES = BACK_SPAN / (32 * WORDS);
    const uint32_t chunks = ceil_div(a.padded, BACK_K), stages = ceil_div(positives, 32 * WORDS);
    [[maybe_unused]] const bool one_span = stages <= SPAN_STAGES;
    const uint32_t words = ceil_div(positives, 32);
#pragma unroll 1
    for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
      float out[2][OUT_NT][4] = {};
      [[maybe_unused]] float x[LOADS][2];
      if (chunks == 1) {
        if (KEYS) load_keys(own, 0); else load_genes(own, 0);
      }
      if constexpr (PACKED) {
        if (first < last) load_stage(KEYS ? own : first, KEYS ? first : own, 0);
      } else {
        if (KEYS && one_span) mark(own, 0);
        fetch(x, KEYS ? first : own, 0);
      }
      cp_async_commit();
#pragma unroll 1
      for (uint32_t other = first; other < last; other += STEP) {
        const uint32_t col0 = KEYS ? own : other, gene0 = KEYS ? other : own;
        const bool more = other + STEP < last;
        const uint32_t next_col0 = KEYS ? own : other + STEP, next_gene0 = KEYS ? other + STEP : own;
        if (chunks == 1) {
          if (KEYS) load_genes(gene0, 0); else load_keys(col0, 0);
        }
        cp_async_commit();
        float sum[2][NT][4] = {};
        if constexpr (PACKED) {
#pragma unroll 1
          for (uint32_t number = 0; number < stages; ++number) {
            if (number == 0) {
              cp_async_wait<1>();  // all but the tile for the scores
            } else {
              cp_async_wait<0>();
            }
            __syncthreads();  // this stage is there, the other buffer is free
            if (number + 1 < stages) load_stage(col0, gene0, number + 1);
            cp_async_commit();
            const uint32_t at = number % 2 * BUFFER;
            add_staged(sum, stage + at, bits + at, min(words - number * WORDS, uint32_t(WORDS)));
          }
        } else {
          if (!KEYS && one_span) mark(col0, 0);
#pragma unroll 1
          for (uint32_t number = 0; number < stages; ++number) {
            uint32_t* buffer = stage + number % 2 * BUFFER;
            put(x, buffer);
            if (!one_span && number % SPAN_STAGES == 0) {
              __syncthreads();
              mark(col0, number * WORDS * 32);
            }
            if (number + 1 < stages) fetch(x, gene0, number + 1);
            __syncthreads();  // this stage is there, the other buffer is free
            add_staged(sum, buffer, bits + number % SPAN_STAGES * WORDS, min(words - number * WORDS, uint32_t(WORDS)));
          }
        }
        cp_async_wait<0>();
        const bool skip = !__syncthreads_or(any(sum));  // and: the tiles are there, nobody reads `stage`
        if constexpr (PACKED && EARLY) {
          if (more) load_stage(next_col0, next_gene0, 0);
          cp_async_commit();
        }
        if (!skip) make_d(sum, col0, gene0, chunk, chunks);
        if constexpr (!PACKED) {
          if (more) fetch(x, next_gene0, 0);
        }
        if (!skip) {
          __syncthreads();
          add_result(out, chunk);
          __syncthreads();  // nobody reads the tiles, nor d
        }
        if constexpr (PACKED && !EARLY) {
          if (more) load_stage(next_col0, next_gene0, 0);
          cp_async_commit();
        }
      }
      store(out, to, rows, chunk);
      cp_async_wait<0>();
      __syncthreads();
    }
  }
};

template <class P, bool FULL, class Args>
__device__ __forceinline__ void backward_keys(const Args& a) {
  const Backward<P, true, FULL, Args> tiles(a);
  const uint32_t col0 = blockIdx.x * tiles.COLS;
  if (col0 >= tiles.columns) return;
  tiles.run(col0, 0, tiles.genes, a.d_keys + size_t(col0) * a.hidden, min(tiles.columns - col0, uint32_t(tiles.COLS)));
}

template <class P, bool FULL, class Args>
__device__ __forceinline__ void backward_genes(const Args& a) {
  const Backward<P, false, FULL, Args> tiles(a);
  const uint32_t gene0 = blockIdx.x * BACK_GENES, first = blockIdx.y * SCX_TRANSLATE_CHUNK;
  if (gene0 >= tiles.genes || first >= tiles.columns) return;
  float* to = a.part + (size_t(blockIdx.y) * a.genes + gene0) * a.hidden;
  tiles.run(gene0, first, min(tiles.columns, first + SCX_TRANSLATE_CHUNK), to,
            min(tiles.genes - gene0, uint32_t(BACK_GENES)));
}

// ---------------------------------------------------------------- packed

constexpr int INCIDENCE_COLUMNS = 64;

// A warp a column; lane w of it makes words w, w + 32, ...
__device__ __forceinline__ void incidence(const TranslatePackArgs& a) {
  const uint32_t columns = *a.columns.n_columns, words = incidence_words(*a.columns.n_positives);
  const uint32_t lane = threadIdx.x % 32, first = blockIdx.x * INCIDENCE_COLUMNS;
  if (first >= columns) return;
  for (uint32_t u = first + threadIdx.x / 32; u < min(columns, first + INCIDENCE_COLUMNS); u += BACK_WARPS) {
    const uint32_t begin = a.columns.by_ptr[u], end = a.columns.by_ptr[u + 1];
    for (uint32_t w = 0; w < words; w += 32) {
      uint32_t made = 0;
      for (uint32_t i = begin; i < end; i += 32) {
        const uint32_t positive = i + lane < end ? a.columns.by_sample[i + lane] : SCX_NONE;
        for (int j = 0; j < int(min(end - i, 32u)); ++j) {
          const uint32_t p = __shfl_sync(0xffffffffu, positive, j);
          if (p / 32 == w + lane) made |= 1u << p % 32;
        }
      }
      if (w + lane < words) a.incidence[size_t(u) * words + w + lane] = made;
    }
  }
}

// A thread every fourth pair of positives of a gene.
template <class P>
__device__ __forceinline__ void pack(const TranslatePackArgs& a) {
  constexpr int PARTS = BackShape<P>::PARTS;
  const uint32_t head = blockIdx.z, word = blockIdx.y, positives = *a.columns.n_positives, genes = a.n_active[head];
  if (blockIdx.x * BACK_GENES >= genes || word * 32 >= positives) return;
  const uint32_t gene = threadIdx.x % BACK_GENES, own = threadIdx.x / BACK_GENES, at = blockIdx.x * BACK_GENES + gene;
  const uint32_t words = incidence_words(positives), row_genes = packed_genes(a.genes);
  const float* from = a.d_pred + size_t(head) * a.genes + (at < genes ? a.active[size_t(head) * a.genes + at] : 0);
  uint32_t packed[4][PARTS];
#pragma unroll
  for (uint32_t j = 0; j < 4; ++j) {
    float x[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const uint32_t i = word * 32 + own + 4 * j + 16 * e;
      x[e] = at < genes && i < positives ? from[size_t(i) * a.heads * a.genes] : 0.0f;
    }
    split_pair(packed[j], x[0], x[1]);
  }
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
    uint32_t* to = a.packed + ((size_t(head) * PARTS + part) * words + word) * 16 * row_genes;
    const uint4 v = {packed[0][part], packed[1][part], packed[2][part], packed[3][part]};
    *reinterpret_cast<uint4*>(to + at * 16 + pair_place(gene, own)) = v;
  }
}

// ---------------------------------------------------------------- sums of the parts

constexpr int REDUCE_THREADS = 128, REDUCE_GENES = 16, REDUCE_ROWS = 16;

// A thread a hidden column. Blocks without active genes write their zeros to d_u_part too.
__device__ __forceinline__ void genes_reduce(const TranslateGenesReduceArgs& a) {
  const uint32_t first = blockIdx.x * REDUCE_GENES;
  if (first >= a.genes) return;
  const uint32_t chunks = ceil_div(*a.n_columns, SCX_TRANSLATE_CHUNK), slice = a.hidden / a.heads;
  for (uint32_t k = threadIdx.x; k < a.hidden; k += REDUCE_THREADS) {
    const uint32_t head = k / slice, last = min(first + REDUCE_GENES, a.n_active[head]);
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
  const uint32_t first = blockIdx.x * REDUCE_ROWS;
  if (first >= *a.n_rows) return;
  const uint32_t last = min(first + REDUCE_ROWS, *a.n_rows);
  for (uint32_t k = threadIdx.x; k < a.hidden; k += REDUCE_THREADS) {
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

}  // namespace scx

#define SCX_BACKWARD(name, Args, P, body, tile_x, tile_y)                                                             \
  SCX_KERNEL(name, Args, scx::BACK_THREADS, (scx::Backward<P, true, true, Args>::SHARED), tile_x, tile_y) {           \
    if (a.padded % scx::BACK_K == 0) {                                                                                \
      scx::body<P, true>(a);                                                                                          \
    } else {                                                                                                          \
      scx::body<P, false>(a);                                                                                         \
    }                                                                                                                 \
  }
#define SCX_BACKWARD_KEYS(name, Args, P) SCX_BACKWARD(name, Args, P, backward_keys, scx::BackShape<P>::COLS, 1)
#define SCX_BACKWARD_GENES(name, Args, P) \
  SCX_BACKWARD(name, Args, P, backward_genes, scx::BACK_GENES, SCX_TRANSLATE_CHUNK)

SCX_BACKWARD_KEYS(translate_backward_keys_f32, TranslateBackwardArgs, scx::F32)
SCX_BACKWARD_KEYS(translate_backward_keys_bf16, TranslateBackwardArgs, scx::Bf16)
SCX_BACKWARD_GENES(translate_backward_genes_f32, TranslateBackwardArgs, scx::F32)
SCX_BACKWARD_GENES(translate_backward_genes_bf16, TranslateBackwardArgs, scx::Bf16)
SCX_BACKWARD_KEYS(translate_backward_keys_packed_f32, TranslateBackwardPackedArgs, scx::F32)
SCX_BACKWARD_KEYS(translate_backward_keys_packed_bf16, TranslateBackwardPackedArgs, scx::Bf16)
SCX_BACKWARD_GENES(translate_backward_genes_packed_f32, TranslateBackwardPackedArgs, scx::F32)
SCX_BACKWARD_GENES(translate_backward_genes_packed_bf16, TranslateBackwardPackedArgs, scx::Bf16)

SCX_KERNEL(translate_incidence, TranslatePackArgs, scx::BACK_THREADS, 0, scx::INCIDENCE_COLUMNS, 1) {
  scx::incidence(a);
}
SCX_KERNEL(translate_pack_f32, TranslatePackArgs, scx::BACK_THREADS, 0, scx::BACK_GENES, 1) { scx::pack<scx::F32>(a); }
SCX_KERNEL(translate_pack_bf16, TranslatePackArgs, scx::BACK_THREADS, 0, scx::BACK_GENES, 1) {
  scx::pack<scx::Bf16>(a);
}

SCX_KERNEL(translate_backward_genes_reduce, TranslateGenesReduceArgs, scx::REDUCE_THREADS, 0, scx::REDUCE_GENES, 1) {
  scx::genes_reduce(a);
}
SCX_KERNEL(translate_backward_columns, TranslateColumnsArgs, scx::REDUCE_THREADS, 0, scx::REDUCE_ROWS, 1) {
  scx::key_columns(a);
}
