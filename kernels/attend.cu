// attend: masked top-k attention by chromosome blocks (docs/model.md, section 4.2, section 6.1, section 7.2).
//
// | entry point | what | one block | bound by |
// | --- | --- | --- | --- |
// | attend_forward_{f32,bf16} | logits of a tile, streaming top-k, softmax, threshold, row sums | 64 genes x all their peaks | tensor cores and the gather of K rows |
// | attend_columns | column sums, and the chosen pairs by peak | one sample and chromosome, one head | shared-memory scans |
// | attend_backward_logits | dL/dlogit of every member | 256 (gene, head) | memory |
// | attend_backward_rows | gradient of the gene table and of uk's twin uq | 8 gene rows | gathers of K rows |
// | attend_backward_columns | gradient of the peak table | 8 peak rows | gathers of Q rows |
//
// Forward: 64 genes x 64 peaks of logits are made by tensor cores in slices of 32 of the inner dimension and land in
// shared memory; each warp then streams its 16 rows through sorted lists of at most 32 places, one lane a place. An
// element that beats the last place of its list is inserted by one ballot and one shift: the lists are total orders (logit,
// then lower data set index), so the order of arrival does not matter. Masked pairs are offered first, as at most `places`
// pads of logit 0. Nothing of size genes x peaks leaves the block.
//
// Backward visits the members twice, by gene and by peak. Each table row is summed by four warps over its entries, in a
// fixed order: no atomics, the same bits every time.
#include "common/abi.h"
#include "common/product.h"  // step
#include "common/tile.h"

namespace {

using namespace scx;

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kGenes = SCX_ATTEND_GENES, kPeaks = 64, kInner = 32;
constexpr int kTileLd = kPeaks + 1;
constexpr int kPlaces = SCX_MAX_TOP_K;

// Shared memory of attend_forward: operands, logits, lists, data set indices of the peaks.
constexpr uint32_t kOperandBytes = (kGenes + kPeaks) * (kInner + 8) * 4;
constexpr uint32_t kLogitBytes = kGenes * kTileLd * 4;
constexpr uint32_t kListBytes = kGenes * kPlaces * 4;
constexpr uint32_t kForwardBytes = kOperandBytes + kLogitBytes + 3 * kListBytes + kPeaks * 4;

// The number of the thread's warp, in a way that tells the compiler that it is the same for all lanes.
__device__ __forceinline__ int warp_number() { return __shfl_sync(kAllLanes, int(threadIdx.x >> 5), 0); }

// NVRTC knows no INFINITY.
__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// Is candidate (a, i) ahead of (b, j)? A logit that is no number is ahead of nothing.
__device__ __forceinline__ bool ahead(float a, uint32_t i, float b, uint32_t j) { return a > b || (a == b && i < j); }

// Stages columns inner..inner + kInner of the effective rows (table[local] + value u) of some entries, zero outside.
template <class P>
__device__ __forceinline__ void stage(typename P::Elem* to, const Nodes& nodes, uint32_t first, uint32_t last,
                                      const float* table, const float* u, uint32_t hidden, uint32_t column,
                                      uint32_t width) {
  constexpr int kLd = kInner + P::kPad;
  for (int i = threadIdx.x; i < 64 * kInner; i += kThreads) {
    const uint32_t r = i / kInner, c = i % kInner;
    float x = 0.0f;
    if (first + r < last && c < width) {
      const uint32_t e = first + r;
      x = table[size_t(nodes.local[e]) * hidden + column + c] + nodes.value[e] * u[column + c];
    }
    to[r * kLd + c] = P::make(x);
  }
}

// Offers 32 candidates, one a lane, to a list of `places` kept by the lanes.
__device__ __forceinline__ void offer(bool valid, float logit, uint32_t index, uint32_t entry, uint32_t places,
                                      float& l, uint32_t& i, uint32_t& e) {
  const int lane = threadIdx.x & 31;
  const float worst = __shfl_sync(kAllLanes, l, places - 1);
  const uint32_t worst_index = __shfl_sync(kAllLanes, i, places - 1);
  uint32_t want = __ballot_sync(kAllLanes, valid && ahead(logit, index, worst, worst_index));
  while (want) {
    const int from = __ffs(want) - 1;
    want &= want - 1;
    const float nl = __shfl_sync(kAllLanes, logit, from);
    const uint32_t ni = __shfl_sync(kAllLanes, index, from), ne = __shfl_sync(kAllLanes, entry, from);
    const uint32_t place = __popc(__ballot_sync(kAllLanes, lane < int(places) && ahead(l, i, nl, ni)));
    const float ul = __shfl_up_sync(kAllLanes, l, 1);
    const uint32_t ui = __shfl_up_sync(kAllLanes, i, 1), ue = __shfl_up_sync(kAllLanes, e, 1);
    if (lane < int(places) && lane >= int(place)) {
      const bool here = lane == int(place);
      l = here ? nl : ul;
      i = here ? ni : ui;
      e = here ? ne : ue;
    }
  }
}

__device__ __forceinline__ float warp_max(float x) {
  for (int d = 16; d; d >>= 1) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, d));
  return x;
}

template <class P>
__device__ __forceinline__ void forward(const AttendForwardArgs& a) {
  using Elem = typename P::Elem;
  constexpr int kLd = kInner + P::kPad;
  if (blockIdx.x >= *a.n_tiles) return;
  const AttendTile t = a.tile[blockIdx.x];
  unsigned char* shared = dynamic_shared();
  Elem* q = reinterpret_cast<Elem*>(shared);
  Elem* k = q + kGenes * kLd;
  float* logits = reinterpret_cast<float*>(shared + kOperandBytes);
  float* list_logit = logits + kGenes * kTileLd;
  uint32_t* list_index = reinterpret_cast<uint32_t*>(list_logit + kGenes * kPlaces);
  uint32_t* list_entry = list_index + kGenes * kPlaces;
  uint32_t* peak_index = list_entry + kGenes * kPlaces;
  const int lane = threadIdx.x & 31, warp = warp_number();
  const int own = min(16, int(t.last_gene - t.first_gene) - warp * 16);  // rows of this warp that are there
  const uint32_t slice = a.hidden / a.heads;
  const bool empty = t.first_peak == t.last_peak;

  for (uint32_t head = 0; head < a.heads; ++head) {
    // Lists start with the pads.
    for (int i = threadIdx.x; i < kGenes * kPlaces; i += kThreads) {
      const uint32_t place = i % kPlaces;
      const bool pad = place < t.places && t.first_pad + place < t.last_pad;
      list_logit[i] = pad ? 0.0f : minus_infinity();
      list_index[i] = pad ? a.pad[t.first_pad + place] : SCX_NONE;
      list_entry[i] = SCX_NONE;
    }
    for (uint32_t first = t.first_peak; first < t.last_peak; first += kPeaks) {
      float acc[1][kPeaks / 8][4] = {};
      for (uint32_t inner = 0; inner < slice; inner += kInner) {
        __syncthreads();
        const uint32_t width = min(slice - inner, uint32_t(kInner)), column = head * slice + inner;
        stage<P>(q, a.genes, t.first_gene, t.last_gene, a.q, a.uq, a.hidden, column, width);
        stage<P>(k, a.peaks, first, t.last_peak, a.k, a.uk, a.hidden, column, width);
        if (inner == 0 && threadIdx.x < kPeaks) {
          const uint32_t e = first + threadIdx.x;
          peak_index[threadIdx.x] = e < t.last_peak ? a.peaks.row[a.peaks.local[e]] : SCX_NONE;
        }
        __syncthreads();
#pragma unroll
        for (int s = 0; s < kInner; s += 16) {
          step<P, false, false>(acc, q + warp * 16 * kLd + s, kLd, k + s, kLd);
        }
      }
      // A warp's 16 rows are its own: no other warp reads them.
#pragma unroll
      for (int n = 0; n < kPeaks / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          logits[(warp * 16 + (lane >> 2) + (i >> 1) * 8) * kTileLd + n * 8 + (lane & 3) * 2 + (i & 1)] = acc[0][n][i];
      __syncwarp();
      for (int r = 0; r < own; ++r) {
        const int row = warp * 16 + r;
        float l = list_logit[row * kPlaces + lane];
        uint32_t i = list_index[row * kPlaces + lane], e = list_entry[row * kPlaces + lane];
        for (int c = 0; c < kPeaks; c += 32) {
          const uint32_t peak = first + c + lane;
          offer(peak < t.last_peak, logits[row * kTileLd + c + lane], peak_index[c + lane], peak, t.places, l, i, e);
        }
        list_logit[row * kPlaces + lane] = l;
        list_index[row * kPlaces + lane] = i;
        list_entry[row * kPlaces + lane] = e;
      }
    }
    __syncthreads();
    for (int r = 0; r < own; ++r) {
      const int row = warp * 16 + r;
      const uint32_t gene = t.first_gene + row;
      const size_t at = size_t(gene) * a.heads + head;
      const float l = list_logit[row * kPlaces + lane];
      const uint32_t e = list_entry[row * kPlaces + lane];
      const bool there = lane < int(t.places) && l > minus_infinity();
      const float s = there ? sigmoid(l) : 0.0f;
      const bool kept = there && e != SCX_NONE && s > a.tau;
      const bool any = !empty && __any_sync(kAllLanes, kept);
      const float top = warp_max(s);
      const float x = there ? expf(s - top) : 0.0f;
      const float w = x / warp_sum(x);
      const uint32_t unmasked = __ballot_sync(kAllLanes, any && there && e != SCX_NONE);
      const float row_sum = warp_sum(kept ? w : 0.0f);
      const uint32_t place = __popc(unmasked & ((1u << lane) - 1));
      const size_t slot = at * a.top_k;
      if (lane < int(a.top_k) && lane >= int(__popc(unmasked))) {
        a.member[slot + lane] = SCX_NONE;
        a.weight[slot + lane] = 0.0f;
        a.score[slot + lane] = 0.0f;
      }
      if (unmasked >> lane & 1) {
        a.member[slot + place] = e;
        a.weight[slot + place] = w;
        a.score[slot + place] = s;
      }
      if (lane == 0) a.row_sums[at] = any ? row_sum : 0.0f;
    }
    __syncthreads();  // the lists are written again for the next head
  }
}

constexpr int kColumnThreads = 256;
constexpr uint32_t kSlots = 2048;  // members staged at a time

// Exclusive sum over the block's threads; `total` is the sum of all. Two barriers.
__device__ __forceinline__ uint32_t block_scan(uint32_t x, uint32_t* scratch, uint32_t& total) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  uint32_t sum = x;
  for (int d = 1; d < 32; d <<= 1) {
    const uint32_t y = __shfl_up_sync(kAllLanes, sum, d);
    if (lane >= d) sum += y;
  }
  if (lane == 31) scratch[warp] = sum;
  __syncthreads();
  uint32_t before = 0;
  total = 0;
  for (int w = 0; w < kColumnThreads / 32; ++w) {
    const uint32_t s = scratch[w];
    if (w < warp) before += s;
    total += s;
  }
  __syncthreads();
  return before + sum - x;
}

__device__ __forceinline__ void columns(const AttendColumnsArgs& a) {
  __shared__ uint32_t member[kSlots];
  __shared__ float weight[kSlots];  // 0 where the pair is not kept
  __shared__ uint32_t scratch[kColumnThreads / 32];
  if (blockIdx.x >= *a.n_blocks) return;
  const AttendBlock b = a.block[blockIdx.x];
  const uint32_t head = blockIdx.y;
  const uint32_t genes = b.last_gene - b.first_gene, slots = genes * a.top_k;
  uint32_t next = (b.first_gene * a.heads + head * genes) * a.top_k;
  // Member `s` of this head: gene s / top_k, place s % top_k.
  auto slot = [&](uint32_t s) { return ((b.first_gene + s / a.top_k) * a.heads + head) * a.top_k + s % a.top_k; };
  auto load = [&](uint32_t from) {
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < kSlots && from + i < slots; i += kColumnThreads) {
      const uint32_t at = slot(from + i);
      member[i] = a.member[at];
      weight[i] = a.score[at] > a.tau ? a.weight[at] : 0.0f;
    }
    __syncthreads();
  };
  for (uint32_t first = b.first_peak; first < b.last_peak; first += kColumnThreads) {
    const uint32_t peak = first + threadIdx.x;
    uint32_t count = 0;
    float sum = 0.0f;
    for (uint32_t from = 0; from < slots; from += kSlots) {
      if (slots > kSlots || first == b.first_peak) load(from);
      const uint32_t n = min(slots - from, kSlots);
      for (uint32_t i = 0; i < n; ++i)
        if (member[i] == peak) {
          ++count;
          sum += weight[i];
        }
    }
    uint32_t total;
    uint32_t place = next + block_scan(count, scratch, total);
    next += total;
    if (peak < b.last_peak) {
      const size_t at = size_t(peak) * a.heads + head;
      a.col_sums[at] = sum;
      a.pair_ptr[2 * at] = place;
      a.pair_ptr[2 * at + 1] = place + count;
    }
    for (uint32_t from = 0; from < slots; from += kSlots) {
      if (slots > kSlots) load(from);
      const uint32_t n = min(slots - from, kSlots);
      if (peak < b.last_peak && count > 0)
        for (uint32_t i = 0; i < n; ++i)
          if (member[i] == peak) a.pair[place++] = slot(from + i);
    }
  }
}

__device__ __forceinline__ void backward_logits(const AttendBackwardLogitsArgs& a) {
  const uint64_t at = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= uint64_t(*a.n_entries) * a.heads) return;
  const uint32_t head = at % a.heads;
  const size_t slot = at * a.top_k;
  auto up = [&](uint32_t m, uint32_t peak) {
    return a.score[slot + m] > a.tau ? a.d_row_sums[at] + a.d_col_sums[size_t(peak) * a.heads + head] : 0.0f;
  };
  float mean = 0.0f;
  for (uint32_t m = 0; m < a.top_k; ++m) {
    const uint32_t peak = a.member[slot + m];
    if (peak == SCX_NONE) break;
    mean += a.weight[slot + m] * up(m, peak);
  }
  for (uint32_t m = 0; m < a.top_k; ++m) {
    const uint32_t peak = a.member[slot + m];
    float d = 0.0f;
    if (peak != SCX_NONE) {
      const float s = a.score[slot + m];
      d = s * (1.0f - s) * a.weight[slot + m] * (up(m, peak) - mean);
    }
    a.d_logit[slot + m] = d;
  }
}

constexpr int kRows = 8, kColumns = 128;  // table rows a block sums; columns at a time, four a lane

// The part of one warp in a sum of rows: adds d (table[row] + value u) for the 32 pairs that the lanes hold.
__device__ __forceinline__ void add_pairs(float (&acc)[4], uint32_t n, float d, uint32_t row, float value,
                                          const float* table, const float* u, uint32_t hidden, uint32_t column,
                                          uint32_t width) {
  const int lane = threadIdx.x & 31;
  for (uint32_t i = 0; i < n; ++i) {
    const float di = __shfl_sync(kAllLanes, d, i), vi = __shfl_sync(kAllLanes, value, i);
    const uint32_t ri = __shfl_sync(kAllLanes, row, i);
    const float* x = table + size_t(ri) * hidden + column;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t c = lane + 32 * j;
      if (c < width) acc[j] += di * (x[c] + vi * u[column + c]);
    }
  }
}

// Sums, for kRows table rows, d (other row) over all pairs of the row's entries. `pairs(entry, head, count, at)` tells how
// many pairs an entry has; `pair(entry, head, at + i, d, other entry)` reads one.
template <class Count, class Pair>
__device__ __forceinline__ void sum_rows(const Nodes& own, const Nodes& other, const float* table, const float* u,
                                         float* out, float* u_part, uint32_t hidden, uint32_t heads, Count count,
                                         Pair pair) {
  __shared__ float scratch[2][kWarps][kColumns];
  const uint32_t rows = *own.n_rows, first = blockIdx.x * kRows;
  if (first >= rows) return;
  const uint32_t end = min(first + kRows, rows);
  const int lane = threadIdx.x & 31, warp = warp_number();
  const uint32_t slice = hidden / heads;
  for (uint32_t head = 0; head < heads; ++head) {
    for (uint32_t from = 0; from < slice; from += kColumns) {
      const uint32_t column = head * slice + from, width = min(slice - from, uint32_t(kColumns));
      float u_sum = 0.0f;  // of column threadIdx.x
      for (uint32_t r = first; r < end; ++r) {
        float acc[4] = {}, valued[4] = {};
        for (uint32_t at = own.row_ptr[r] + warp; at < own.row_ptr[r + 1]; at += kWarps) {
          const uint32_t e = own.by_row[at];
          uint32_t begin, stop;
          count(e, head, begin, stop);
          if (begin == stop) continue;
          float mine[4] = {};
          for (uint32_t p = begin; p < stop; p += 32) {
            float d = 0.0f, value = 0.0f;
            uint32_t row = 0;
            if (p + lane < stop) {
              uint32_t o = 0;
              pair(p + lane, d, o);
              if (o != SCX_NONE) {
                row = other.local[o];
                value = other.value[o];
              } else {
                d = 0.0f;
              }
            }
            add_pairs(mine, min(stop - p, 32u), d, row, value, table, u, hidden, column, width);
          }
          const float v = own.value[e];
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            acc[j] += mine[j];
            valued[j] += v * mine[j];
          }
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          scratch[0][warp][lane + 32 * j] = acc[j];
          scratch[1][warp][lane + 32 * j] = valued[j];
        }
        __syncthreads();
        if (threadIdx.x < width) {
          float sum = 0.0f, v = 0.0f;
          for (int w = 0; w < kWarps; ++w) {
            sum += scratch[0][w][threadIdx.x];
            v += scratch[1][w][threadIdx.x];
          }
          out[size_t(r) * hidden + column + threadIdx.x] = sum;
          u_sum += v;
        }
        __syncthreads();
      }
      if (threadIdx.x < width) u_part[size_t(blockIdx.x) * hidden + column + threadIdx.x] = u_sum;
    }
  }
}

__device__ __forceinline__ void backward_rows(const AttendBackwardRowsArgs& a) {
  auto count = [&](uint32_t e, uint32_t head, uint32_t& begin, uint32_t& stop) {
    begin = (e * a.heads + head) * a.top_k;
    stop = a.member[begin] == SCX_NONE ? begin : begin + a.top_k;
  };
  auto pair = [&](uint32_t p, float& d, uint32_t& peak) {
    d = a.d_logit[p];
    peak = a.member[p];
  };
  sum_rows(a.genes, a.peaks, a.k, a.uk, a.d_q, a.d_u_part, a.hidden, a.heads, count, pair);
}

__device__ __forceinline__ void backward_columns(const AttendBackwardColumnsArgs& a) {
  auto count = [&](uint32_t e, uint32_t head, uint32_t& begin, uint32_t& stop) {
    begin = a.pair_ptr[2 * (size_t(e) * a.heads + head)];
    stop = a.pair_ptr[2 * (size_t(e) * a.heads + head) + 1];
  };
  auto pair = [&](uint32_t p, float& d, uint32_t& gene) {
    const uint32_t slot = a.pair[p];
    d = a.d_logit[slot];
    gene = slot / (a.top_k * a.heads);
  };
  sum_rows(a.peaks, a.genes, a.q, a.uq, a.d_k, a.d_u_part, a.hidden, a.heads, count, pair);
}

}  // namespace

SCX_KERNEL(attend_forward_f32, AttendForwardArgs, kThreads, kForwardBytes, 1, 1) { forward<F32>(a); }
SCX_KERNEL(attend_forward_bf16, AttendForwardArgs, kThreads, kForwardBytes, 1, 1) { forward<Bf16>(a); }
SCX_KERNEL(attend_columns, AttendColumnsArgs, kColumnThreads, 0, 1, 1) { columns(a); }
SCX_KERNEL(attend_backward_logits, AttendBackwardLogitsArgs, 256, 0, 256, 1) { backward_logits(a); }
SCX_KERNEL(attend_backward_rows, AttendBackwardRowsArgs, kThreads, 0, kRows, 1) { backward_rows(a); }
SCX_KERNEL(attend_backward_columns, AttendBackwardColumnsArgs, kThreads, 0, kRows, 1) { backward_columns(a); }
