// Translate, forward: effective tables, masks of scores above the limit, counts, predictions, gradient of the loss.
//
// Predicted cost on an H100 (132 SMs) at 512 positives: genes 13,431, U = 110,000 columns, 2.05 M entries, H = 128.
//   masks_bf16  1.48 G pairs, 378 GFLOP: 0.65 ms at 580 TFLOP/s (what mma.sync reaches). Keys are read once a block of
//               256 genes, 1.5 GB from L2 (0.3 ms, beside the products); masks written 186 MB (0.06 ms). A pair's bit
//               costs about two instructions against 1/16 of a tensor-core instruction of 6 cycles a lane: hidden.
//   masks_f32   three TF32 products: 1.13 TFLOP, near 4 ms; 1,000 other instructions beside 384 products of 6 cycles.
//   count       53 x 2.05 M sectors of 32 bytes: 3.5 GB from L2, 0.65 ms; 2.2 logic instructions a word and column
//               (carry-save adders), 0.1 ms. Positives run fastest over the grid, so that the 3.5 MB of masks of a
//               block of genes stay in L2 while all positives read them.
//   effective   56 MB read, 28 MB (bf16) or 56 MB written: 0.04 ms.   gradient, flags: 28 MB each: 0.02 ms.
// At one positive (U = 4,000) masks and count are one wave: 25 us and 10 us.
//
// See docs/model.md, section 4.6, section 7.4.
#include "common/abi.h"
#include "common/tensor.h"
#include "common/tile.h"

namespace {

using namespace scx;

// ---------------------------------------------------------------- effective tables

constexpr int kEffectiveThreads = 256, kEffectiveItems = 32;

// A thread makes four elements at a time; `padded` is a multiple of 16.
template <class P>
__device__ __forceinline__ void effective(const TranslateEffectiveArgs& a) {
  const uint32_t n = *a.n_items;
  const uint32_t first = blockIdx.x * kEffectiveItems;
  if (first >= n) return;
  const uint32_t items = min(n - first, uint32_t(kEffectiveItems));
  const uint32_t quads = a.heads * a.padded / 4, slice = a.hidden / a.heads;
  auto* out = static_cast<Four<typename P::Elem>*>(a.out) + size_t(first) * quads;
  for (uint32_t i = threadIdx.x; i < items * quads; i += kEffectiveThreads) {
    const uint32_t item = first + i / quads, at = i % quads * 4;
    const uint32_t head = at / a.padded, k = at % a.padded;
    const float value = a.value ? a.value[item] : 1.0f;
    const float* row = a.table + size_t(a.row ? a.row[item] : item) * a.hidden + head * slice;
    const float* u = a.u + head * slice;
    Four<typename P::Elem> made;
#pragma unroll
    for (int e = 0; e < 4; ++e) made.v[e] = P::make(k + e < slice ? row[k + e] + value * u[k + e] : 0.0f);
    out[i] = made;
  }
}

// ---------------------------------------------------------------- masks

// A block holds SCX_MASK_GENES genes in registers and streams kMaskColumns columns past them, kCols at a time.
// Columns are the rows (M) of the products, genes the columns (N). Gene number 8 (n / 2) + 2 i + n % 2 of a word is
// column n of its i-th 16 x 8 tile, so that lane t of a quad holds byte t of the word.
template <class P>
struct MaskShape;
template <>
struct MaskShape<Bf16> {
  static constexpr int kWarps = 4, kMt = 1, kNt = 8, kCols = 64;
};
template <>
struct MaskShape<F32> {
  static constexpr int kWarps = 8, kMt = 2, kNt = 4, kCols = 64;
};
constexpr int kMaskColumns = 1024;  // a block
constexpr int kMaskK = 128;         // inner dimension held in registers, or staged at a time

template <class P>
constexpr int mask_shared() {
  using S = MaskShape<P>;
  return 2 * S::kCols * (kMaskK + P::kPad) * int(sizeof(typename P::Elem)) + 2 * S::kCols * 32;
}

// Hides from the compiler that a register does not change in a loop: what is made of it is made again, not kept.
__device__ __forceinline__ float renewed(float x) {
#if !defined(SCX_HOST)
  asm volatile("" : "+f"(x));
#endif
  return x;
}

// What a lane keeps of a gene tile for 16 of the inner dimension, and how 16 of a column tile are multiplied with it.
template <class P>
struct Kept;

template <>
struct Kept<Bf16> {
  uint32_t r[2];
  // row: the lane's gene, from k; null: zeros
  __device__ __forceinline__ void load(const __nv_bfloat16* row) {
    const int t = threadIdx.x & 3;
#pragma unroll
    for (int i = 0; i < 2; ++i) r[i] = row ? *reinterpret_cast<const uint32_t*>(row + 2 * t + 8 * i) : 0u;
  }
  template <int MT, int NT>
  static __device__ __forceinline__ void step(float (&c)[MT][NT][4], const __nv_bfloat16* columns, int ld,
                                              const Kept (&genes)[NT]) {
#pragma unroll
    for (int m = 0; m < MT; ++m) {
      Bf16::A x;
      Bf16::load_a(x, columns + m * 16 * ld, ld);
#pragma unroll
      for (int n = 0; n < NT; ++n) mma_bf16(c[m][n], x.r, genes[n].r);
    }
  }
};

template <>
struct Kept<F32> {
  float v[2][2];
  __device__ __forceinline__ void load(const float* row) {
    const int t = threadIdx.x & 3;
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i >> 1][i & 1] = row ? row[t + 4 * i] : 0.0f;
  }
  template <int MT, int NT>
  static __device__ __forceinline__ void step(float (&c)[MT][NT][4], const float* columns, int ld,
                                              const Kept (&genes)[NT]) {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      uint32_t xb[MT][4], xs[MT][4], yb[NT][2], ys[NT][2];
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          F32::split(columns[(m * 16 + g + (i & 1) * 8) * ld + s * 8 + t + (i >> 1) * 4], xb[m][i], xs[m][i]);
#pragma unroll
      for (int n = 0; n < NT; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) F32::split(renewed(genes[n].v[s][i]), yb[n][i], ys[n][i]);
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < NT; ++n) mma_tf32(c[m][n], xs[m], yb[n]);
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < NT; ++n) mma_tf32(c[m][n], xb[m], ys[n]);
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < NT; ++n) mma_tf32(c[m][n], xb[m], yb[n]);
    }
  }
};

template <class P>
struct MaskBlock {
  using S = MaskShape<P>;
  using Elem = typename P::Elem;
  static constexpr int kThreads = 32 * S::kWarps, kMt = S::kMt, kNt = S::kNt, kCols = S::kCols;
  static constexpr int kEach = 16 / int(sizeof(Elem));  // elements of an asynchronous copy
  static_assert(S::kWarps * kNt * 8 == int(SCX_MASK_GENES), "a block is SCX_MASK_GENES genes");

  const TranslateMasksArgs& a;
  uint32_t head, gene0, columns, first, last;

  __device__ __forceinline__ explicit MaskBlock(const TranslateMasksArgs& args) : a(args) {
    head = blockIdx.z;
    gene0 = blockIdx.x * SCX_MASK_GENES;
    columns = *a.n_columns;
    first = blockIdx.y * kMaskColumns;
    last = min(columns, first + kMaskColumns);
  }

  // The lane's gene of tile n of its warp, or null.
  __device__ __forceinline__ const Elem* gene_row(int n) const {
    const int warp = threadIdx.x >> 5, g = (threadIdx.x & 31) >> 2;
    const uint32_t gene = gene0 + (warp * kNt + n / 4 * 4) * 8 + 8 * (g >> 1) + 2 * (n % 4) + (g & 1);
    if (gene >= a.genes) return nullptr;
    return static_cast<const Elem*>(a.genes_eff) + (size_t(gene) * a.heads + head) * a.padded;
  }

  // Columns col0 ... of the keys, elements k0 ... k0 + width; zeros past the last column.
  __device__ __forceinline__ void stage(Elem* to, int ld, uint32_t col0, uint32_t k0, uint32_t width) const {
    const uint32_t pieces = width / kEach;
    const Elem* keys = static_cast<const Elem*>(a.keys_eff);
    for (uint32_t i = threadIdx.x; i < kCols * pieces; i += kThreads) {
      const uint32_t row = i / pieces, at = i % pieces * kEach;
      const bool valid = col0 + row < last;
      const Elem* from = valid ? keys + (size_t(col0 + row) * a.heads + head) * a.padded + k0 + at : keys;
      cp_async16(to + row * ld + at, from, valid);
    }
  }

  // Bits of columns row ... row + 16 kMt of the tile: bytes[column][32].
  __device__ __forceinline__ void decide(const float (&c)[kMt][kNt][4], unsigned char* bytes, int row) const {
    const int warp = threadIdx.x >> 5, g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
    for (int m = 0; m < kMt; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int w = 0; w < kNt / 4; ++w) {
          uint32_t byte = 0;
#pragma unroll
          for (int i = 0; i < 8; ++i) byte |= (c[m][w * 4 + i / 2][half * 2 + i % 2] > a.limit ? 1u : 0u) << i;
          bytes[(row + m * 16 + half * 8 + g) * 32 + (warp * (kNt / 4) + w) * 4 + t] = static_cast<unsigned char>(byte);
        }
  }

  // The tile's words, 16 bytes a thread: 32 contiguous bytes a column.
  __device__ __forceinline__ void write(const unsigned char* bytes, uint32_t col0) const {
    const uint32_t blocks = ceil_div(a.genes, SCX_MASK_GENES);
    uint32_t* to = a.mask + (size_t(head * blocks + blockIdx.x) * columns + col0) * 8;
    for (uint32_t i = threadIdx.x; i < kCols * 2; i += kThreads) {
      if (col0 + i / 2 >= last) continue;
      uint4 words = reinterpret_cast<const uint4*>(bytes)[i];
      const uint32_t gene = gene0 + (i & 1) * 128;
      words.x &= below(gene);
      words.y &= below(gene + 32);
      words.z &= below(gene + 64);
      words.w &= below(gene + 96);
      reinterpret_cast<uint4*>(to)[i] = words;
    }
  }
  // The bits of the word at `gene` that are genes.
  __device__ __forceinline__ uint32_t below(uint32_t gene) const {
    return gene + 32 <= a.genes ? 0xffffffffu : gene >= a.genes ? 0u : (1u << (a.genes - gene)) - 1u;
  }

  // padded <= 16 KS: the genes stay in registers, column tiles are double-buffered.
  template <int KS>
  __device__ __forceinline__ void run_kept() const {
    constexpr int kLd = KS * 16 + P::kPad;
    Elem* keys = reinterpret_cast<Elem*>(dynamic_shared());
    unsigned char* bytes = reinterpret_cast<unsigned char*>(keys + 2 * kCols * kLd);
    const uint32_t rest = KS * 16 - a.padded;
    for (uint32_t i = threadIdx.x; i < 2 * kCols * rest; i += kThreads) {
      keys[i / rest * kLd + a.padded + i % rest] = P::make(0.0f);
    }
    stage(keys, kLd, first, 0, a.padded);
    cp_async_commit();
    Kept<P> genes[KS][kNt];
#pragma unroll
    for (int n = 0; n < kNt; ++n) {
      const Elem* row = gene_row(n);
#pragma unroll
      for (int s = 0; s < KS; ++s) genes[s][n].load(row != nullptr && s * 16 < int(a.padded) ? row + s * 16 : nullptr);
    }
    uint32_t turn = 0;
    for (uint32_t col0 = first; col0 < last; col0 += kCols, turn ^= 1) {
      cp_async_wait<0>();
      __syncthreads();  // this tile is there, the other buffer is free, the bytes of the tile before are complete
      if (col0 + kCols < last) stage(keys + (turn ^ 1) * kCols * kLd, kLd, col0 + kCols, 0, a.padded);
      cp_async_commit();
      if (col0 != first) write(bytes + (turn ^ 1) * kCols * 32, col0 - kCols);
#pragma unroll 1
      for (int row = 0; row < kCols; row += 16 * kMt) {
        float c[kMt][kNt][4] = {};
#pragma unroll
        for (int s = 0; s < KS; ++s) Kept<P>::step(c, keys + (turn * kCols + row) * kLd + s * 16, kLd, genes[s]);
        decide(c, bytes + turn * kCols * 32, row);
      }
    }
    __syncthreads();
    const uint32_t tail = (last - first - 1) / kCols * kCols;
    write(bytes + (turn ^ 1) * kCols * 32, first + tail);
  }

  // Any width: both sides come 16 of the inner dimension at a time, genes from the caches.
  __device__ __forceinline__ void run_long() const {
    constexpr int kLd = kMaskK + P::kPad, kSteps = kCols / (16 * kMt);
    Elem* keys = reinterpret_cast<Elem*>(dynamic_shared());
    unsigned char* bytes = reinterpret_cast<unsigned char*>(keys + kCols * kLd);
#pragma unroll 1
    for (uint32_t col0 = first; col0 < last; col0 += kCols) {
      float c[kSteps][kMt][kNt][4] = {};
#pragma unroll 1
      for (uint32_t k0 = 0; k0 < a.padded; k0 += kMaskK) {
        const uint32_t width = min(a.padded - k0, uint32_t(kMaskK));
        __syncthreads();
        stage(keys, kLd, col0, k0, width);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
#pragma unroll 1
        for (uint32_t k = 0; k < width; k += 16) {
          Kept<P> genes[kNt];
#pragma unroll
          for (int n = 0; n < kNt; ++n) {
            const Elem* row = gene_row(n);
            genes[n].load(row ? row + k0 + k : nullptr);
          }
#pragma unroll
          for (int s = 0; s < kSteps; ++s) Kept<P>::step(c[s], keys + s * 16 * kMt * kLd + k, kLd, genes);
        }
      }
#pragma unroll
      for (int s = 0; s < kSteps; ++s) decide(c[s], bytes, s * 16 * kMt);
      __syncthreads();
      write(bytes, col0);
    }
  }

  __device__ __forceinline__ void run() const {
    if (gene0 >= a.genes || first >= columns) return;
    if (a.padded > kMaskK) {
      run_long();
    } else if (a.padded > 64) {
      run_kept<8>();
    } else if (a.padded > 32) {
      run_kept<4>();
    } else {
      run_kept<2>();
    }
  }
};

// ---------------------------------------------------------------- count

// One block an item (positive, head, block of genes), positives fastest. kCountStreams pairs of threads take every
// kCountStreams-th column; a thread counts 128 genes in binary, bit b of all their counts in planes[b]. The first
// stream starts at 2^BITS - (min_peaks + 1): a carry out of the last plane, in a stream or in their sum, is "more than
// min_peaks".
constexpr int kCountThreads = 128, kCountStreams = kCountThreads / 2, kCountWarps = kCountThreads / 32;
constexpr int kCountBits = 24;  // of counts that must be exact, or thresholds above 63

constexpr int count_shared(int bits) { return kCountWarps * (bits + 1) * 8 * 4; }

// (sum, carry) of three bits in every position
__device__ __forceinline__ uint32_t add_bits(uint32_t& sum, uint32_t x, uint32_t y) {
  const uint32_t carry = (sum & x) | (sum & y) | (x & y);
  sum ^= x ^ y;
  return carry;
}

struct CountItem {
  uint32_t positive, head, block;
  uint32_t first, last;  // entries of `col`
  const uint32_t* mask;  // [U, 8]
};

__device__ __forceinline__ bool count_item(CountItem& item, const TranslateCountArgs& a) {
  const uint32_t n = *a.columns.n_positives, blocks = ceil_div(a.genes, SCX_MASK_GENES);
  if (blockIdx.x >= uint64_t(n) * a.heads * blocks) return false;
  item.positive = blockIdx.x % n;
  item.block = blockIdx.x / n % blocks;
  item.head = blockIdx.x / n / blocks;
  item.first = a.columns.indptr[item.positive];
  item.last = a.columns.indptr[item.positive + 1];
  item.mask = a.mask + size_t(item.head * blocks + item.block) * *a.columns.n_columns * 8;
  return true;
}

// WORDS (4 or 1) words from `word` of each of the thread's columns, eight columns at a time.
template <int WORDS, int BITS>
__device__ __forceinline__ void count_columns(const CountItem& item, const uint32_t* col, int word,
                                              uint32_t (&planes)[BITS][WORDS], uint32_t (&over)[WORDS]) {
  static_assert(BITS > 3, "eight columns carry into plane 3");
  constexpr int kEach = 8;
  for (uint32_t i = item.first + (threadIdx.x >> 1); i < item.last; i += kEach * kCountStreams) {
    uint32_t x[kEach][WORDS];
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const uint32_t at = i + e * kCountStreams;
#pragma unroll
      for (int w = 0; w < WORDS; ++w) x[e][w] = 0;
      if (at < item.last) {
        const uint32_t* from = item.mask + size_t(col[at]) * 8 + word;
        if constexpr (WORDS == 4) {
          const uint4 v = *reinterpret_cast<const uint4*>(from);
          x[e][0] = v.x, x[e][1] = v.y, x[e][2] = v.z, x[e][3] = v.w;
        } else {
          x[e][0] = *from;
        }
      }
    }
#pragma unroll
    for (int w = 0; w < WORDS; ++w) {
      uint32_t ones[4], twos[2];
#pragma unroll
      for (int e = 0; e < 4; ++e) ones[e] = add_bits(planes[0][w], x[2 * e][w], x[2 * e + 1][w]);
#pragma unroll
      for (int e = 0; e < 2; ++e) twos[e] = add_bits(planes[1][w], ones[2 * e], ones[2 * e + 1]);
      uint32_t carry = add_bits(planes[2][w], twos[0], twos[1]);
#pragma unroll
      for (int b = 3; b < BITS; ++b) {
        const uint32_t next = planes[b][w] & carry;
        planes[b][w] ^= carry;
        carry = next;
      }
      over[w] |= carry;
    }
  }
}

// Adds the streams. On return the planes of word w of the block lie at shared[b * 8 + w], "over" at b = BITS, b < BITS
// as counted. All threads of the block call it, once a kernel.
template <int BITS, int WORDS, bool EXACT>
__device__ __forceinline__ void count_block(const CountItem& item, const TranslateCountArgs& a, uint32_t* shared) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  uint64_t start = 0;
  if (!EXACT && a.min_peaks < (1u << BITS) && threadIdx.x < 2) start = (1u << BITS) - (a.min_peaks + 1);
#pragma unroll 1
  for (int pass = 0; pass < 4 / WORDS; ++pass) {
    const int word = (threadIdx.x & 1) * 4 + pass;
    uint32_t planes[BITS][WORDS], over[WORDS];
#pragma unroll
    for (int w = 0; w < WORDS; ++w) {
      over[w] = 0;
#pragma unroll
      for (int b = 0; b < BITS; ++b) planes[b][w] = (start >> b & 1) ? 0xffffffffu : 0u;
    }
    count_columns(item, a.columns.col, word, planes, over);
#pragma unroll
    for (int step = 2; step < 32; step *= 2) {
#pragma unroll
      for (int w = 0; w < WORDS; ++w) {
        uint32_t carry = 0;
#pragma unroll
        for (int b = 0; b < BITS; ++b) {
          const uint32_t other = __shfl_xor_sync(kAllLanes, planes[b][w], step);
          carry = add_bits(planes[b][w], other, carry);
        }
        over[w] |= carry | __shfl_xor_sync(kAllLanes, over[w], step);
      }
    }
    if (lane < 2) {
#pragma unroll
      for (int w = 0; w < WORDS; ++w) {
#pragma unroll
        for (int b = 0; b < BITS; ++b) shared[(warp * (BITS + 1) + b) * 8 + word + w] = planes[b][w];
        shared[(warp * (BITS + 1) + BITS) * 8 + word + w] = over[w];
      }
    }
  }
  __syncthreads();
  if (threadIdx.x < 8) {
    uint32_t over = shared[BITS * 8 + threadIdx.x];
    for (int other = 1; other < kCountWarps; ++other) {
      const uint32_t* from = shared + other * (BITS + 1) * 8 + threadIdx.x;
      uint32_t carry = 0;
      for (int b = 0; b < BITS; ++b) {
        uint32_t sum = shared[b * 8 + threadIdx.x];
        carry = add_bits(sum, from[b * 8], carry);
        shared[b * 8 + threadIdx.x] = sum;
      }
      over |= carry | from[BITS * 8];
    }
    shared[BITS * 8 + threadIdx.x] = over;
  }
  __syncthreads();
}

__device__ __forceinline__ void count_threshold(const TranslateCountArgs& a) {
  CountItem item;
  if (!count_item(item, a)) return;
  uint32_t* shared = reinterpret_cast<uint32_t*>(dynamic_shared());
  const uint32_t* over;
  if (a.min_peaks < 16) {
    count_block<4, 4, false>(item, a, shared);
    over = shared + 4 * 8;
  } else if (a.min_peaks < 64) {
    count_block<6, 4, false>(item, a, shared);
    over = shared + 6 * 8;
  } else {
    count_block<kCountBits, 1, false>(item, a, shared);
    over = shared + kCountBits * 8;
  }
  const uint32_t words = ceil_div(a.genes, SCX_MASK_GENES) * 8;
  uint32_t* to = a.predicted + (size_t(item.positive) * a.heads + item.head) * words + item.block * 8;
  if (threadIdx.x < 8) to[threadIdx.x] = over[threadIdx.x];
}

__device__ __forceinline__ void count_exact(const TranslateCountArgs& a) {
  CountItem item;
  if (!count_item(item, a)) return;
  uint32_t* shared = reinterpret_cast<uint32_t*>(dynamic_shared());
  count_block<kCountBits, 1, true>(item, a, shared);
  uint32_t* to = a.count + (size_t(item.positive) * a.heads + item.head) * a.genes;
  for (uint32_t g = threadIdx.x; g < SCX_MASK_GENES; g += kCountThreads) {
    const uint32_t gene = item.block * SCX_MASK_GENES + g;
    if (gene >= a.genes) break;
    uint32_t count = 0;
    for (int b = 0; b < kCountBits; ++b) count |= (shared[b * 8 + g / 32] >> g % 32 & 1) << b;
    to[gene] = count;
  }
}

// ---------------------------------------------------------------- gradient

constexpr int kGradientThreads = 256;

// The loss is a sum over the cell's entries, and a count of the other predicted genes: each contributes 1.
__device__ __forceinline__ void gradient(const TranslateGradientArgs& a) {
  const uint32_t positive = blockIdx.x, head = blockIdx.y;
  if (positive >= *a.columns.n_positives) return;
  const Nodes& nodes = a.genes_nodes;
  const uint32_t sample = a.columns.positive[positive];
  const uint32_t first = nodes.indptr[sample], last = nodes.indptr[sample + 1];
  const uint32_t words = ceil_div(a.genes, SCX_MASK_GENES) * 8;
  const uint32_t* predicted = a.predicted + (size_t(positive) * a.heads + head) * words;
  float* d_pred = a.d_pred + (size_t(positive) * a.heads + head) * a.genes;
  const float share = float(1.0 / (double(a.genes) * a.heads * *nodes.n_samples));
  const float slope = 2.0f * a.alpha * share;

  int others = 0;
  for (uint32_t g = threadIdx.x; g < a.genes; g += kGradientThreads) {
    const uint32_t p = predicted[g / 32] >> g % 32 & 1;
    others += int(p);
    d_pred[g] = p ? slope : 0.0f;
  }
  __syncthreads();
  float sum = 0.0f;
  for (uint32_t e = first + threadIdx.x; e < last; e += kGradientThreads) {
    const uint32_t g = nodes.row[nodes.local[e]];
    const uint32_t p = predicted[g / 32] >> g % 32 & 1;
    const float miss = float(p) - nodes.value[e];
    others -= int(p);
    sum += miss * miss;
    d_pred[g] = slope * miss;
  }
  struct Partial {
    float sum;
    int others;
  };
  Partial* part = reinterpret_cast<Partial*>(dynamic_shared());
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    sum += __shfl_down_sync(kAllLanes, sum, step);
    others += __shfl_down_sync(kAllLanes, others, step);
  }
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = {sum, others};
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < kGradientThreads / 32; ++w) sum += part[w].sum, others += part[w].others;
    a.loss_part[size_t(positive) * a.heads + head] = (sum + float(others)) * share;
  }
}

// ---------------------------------------------------------------- genes with a gradient

constexpr int kFlagThreads = 256, kFlagGenes = 32, kActiveThreads = 1024;

// A lane a gene; the warps share the positives.
__device__ __forceinline__ void flags(const TranslateActiveArgs& a) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y;
  const uint32_t gene = blockIdx.x * kFlagGenes + lane, n = *a.n_positives;
  if (blockIdx.x * kFlagGenes >= a.genes) return;
  uint32_t* found = reinterpret_cast<uint32_t*>(dynamic_shared());
  bool any = false;
  if (gene < a.genes) {
#pragma unroll 8
    for (uint32_t i = warp; i < n; i += kFlagThreads / 32) {
      any |= a.d_pred[(size_t(i) * a.heads + head) * a.genes + gene] != 0.0f;
    }
  }
  const uint32_t bits = __ballot_sync(kAllLanes, any);
  if (lane == 0) found[warp] = bits;
  __syncthreads();
  if (warp == 0 && gene < a.genes) {
    uint32_t all = 0;
    for (int w = 0; w < kFlagThreads / 32; ++w) all |= found[w];
    a.flag[head * a.genes + gene] = all >> lane & 1;
  }
}

__device__ __forceinline__ void active(const TranslateActiveArgs& a) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.x;
  uint32_t* found = reinterpret_cast<uint32_t*>(dynamic_shared());  // [2][warps]
  const uint32_t* flag = a.flag + size_t(head) * a.genes;
  uint32_t* list = a.active + size_t(head) * a.genes;
  uint32_t total = 0, turn = 0;
  for (uint32_t base = 0; base < a.genes; base += kActiveThreads, turn ^= 1) {
    const uint32_t gene = base + threadIdx.x;
    const bool is = gene < a.genes && flag[gene] != 0;
    const uint32_t bits = __ballot_sync(kAllLanes, is);
    if (lane == 0) found[turn * 32 + warp] = __popc(bits);
    __syncthreads();
    uint32_t before = found[turn * 32 + lane];  // of the warps up to `lane`
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const uint32_t other = __shfl_up_sync(kAllLanes, before, step);
      if (lane >= uint32_t(step)) before += other;
    }
    const uint32_t all = __shfl_sync(kAllLanes, before, 31);
    const uint32_t own = __shfl_sync(kAllLanes, before, warp) - __popc(bits);
    if (is) list[total + own + __popc(bits & ((1u << lane) - 1u))] = gene;
    total += all;
  }
  if (threadIdx.x == 0) a.n_active[head] = total;
}

}  // namespace

SCX_KERNEL(translate_effective_f32, TranslateEffectiveArgs, kEffectiveThreads, 0, kEffectiveItems, 1) {
  effective<F32>(a);
}
SCX_KERNEL(translate_effective_bf16, TranslateEffectiveArgs, kEffectiveThreads, 0, kEffectiveItems, 1) {
  effective<Bf16>(a);
}
SCX_KERNEL(translate_masks_f32, TranslateMasksArgs, MaskBlock<F32>::kThreads, mask_shared<F32>(),
           SCX_MASK_GENES, kMaskColumns) {
  MaskBlock<F32>(a).run();
}
SCX_KERNEL(translate_masks_bf16, TranslateMasksArgs, MaskBlock<Bf16>::kThreads, mask_shared<Bf16>(),
           SCX_MASK_GENES, kMaskColumns) {
  MaskBlock<Bf16>(a).run();
}
SCX_KERNEL(translate_count, TranslateCountArgs, kCountThreads, count_shared(kCountBits), 1, 1) {
  count_threshold(a);
}
SCX_KERNEL(translate_count_exact, TranslateCountArgs, kCountThreads, count_shared(kCountBits), 1, 1) {
  count_exact(a);
}
SCX_KERNEL(translate_gradient, TranslateGradientArgs, kGradientThreads, 64, 1, 1) { gradient(a); }
SCX_KERNEL(translate_flags, TranslateActiveArgs, kFlagThreads, 32, kFlagGenes, 1) { flags(a); }
SCX_KERNEL(translate_active, TranslateActiveArgs, kActiveThreads, 256, 1, 1) { active(a); }
