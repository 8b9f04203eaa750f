// cis: what the open peaks near a gene, the depth of the cell and the cell as a whole say of the gene, and the loss of it.
//
// A score q_g . (k_row + value uk) splits into s_e, one number an edge of the graph, and value t_g, one a gene. So all
// weights of a batch are two small tables, however many columns a peak has, and only sums over cells are left.
//
// Entry points (abi.h has the formulas)
//   cis_place, cis_open, cis_values, cis_scores    where peaks are, who has which; the tables t and s
//   cis_near                                       32 genes x 32 positives; a warp has a gene, a lane a positive
//   cis_sums, cis_whole                            genes that take their whole chromosome
//   cis_covariates, cis_loss, cis_size, cis_total  y, its loss and slope
//   cis_backward_edges                             8 rows, a warp each: sums over the positives of a column
//   cis_backward_rows, cis_backward_genes          8 rows or genes, a warp each: gradients of k and q
//   cis_covariates_backward, cis_backward_sums
//
// What bounds it: gathered reads from L2. At NeurIPS-2021 shape half a million edges read a row of q (7 MB in all) or k of
// 512 bytes each in cis_scores and in both backward kernels, 0.25 GB a pass; cis_near reads a word of `open` for every
// edge and 32 positives. Chains of dependent loads (edge, peak, row, columns) are walked by 32 lanes at once and handed
// round by shuffles. No kernel has products for tensor cores.
//
// See docs/model.md, section 4.7, section 5.3, section 6.3, section 7.6.
#include "common/abi.h"
#include "common/tile.h"  // sigmoid, find, warp_sum, block_sum

namespace {

using namespace scx;

constexpr uint32_t kThreads = 256, kWarps = kThreads / 32, kBins = SCX_CIS_BINS;
constexpr uint32_t kGenes = 32, kCells = 32;  // tile of cis_near
static_assert(kBins <= 32, "a lane a bin");

__device__ __forceinline__ float by_root(const CisArgs& a) { return 1.0f / sqrtf(float(a.hidden)); }

// f of a distance bin.
__device__ __forceinline__ float factor(const CisArgs& a, uint32_t bin) { return expf(a.decay[bin]) * by_root(a); }

// Element h of the query of a gene, and of the key of an entry or column.
__device__ __forceinline__ float query(const CisArgs& a, uint32_t gene, uint32_t h) {
  return a.q[size_t(gene) * a.hidden + h] + a.uq[h];
}

__device__ __forceinline__ bool has_columns(const CisArgs& a, uint32_t row) {
  return a.columns.row_ptr[row] < a.columns.row_ptr[row + 1];
}

// 32 edges of a gene, one a lane: those whose peak the batch has.
struct GeneEdge {
  uint32_t edge, row;  // row: SCX_NONE where there is none
  __device__ __forceinline__ GeneEdge(const CisArgs& a, uint32_t at, uint32_t end) : edge(0), row(SCX_NONE) {
    if (at < end) {
      edge = a.graph.by_gene[at];
      row = a.place[a.graph.peak[edge]];
    }
  }
};

}  // namespace

SCX_KERNEL(cis_place, CisArgs, kThreads, 0, kThreads, 1) {
  const uint32_t peak = blockIdx.x * kThreads + threadIdx.x;
  if (peak >= a.graph.peaks) return;
  const uint32_t row = find(a.peaks.row, *a.peaks.n_rows, peak, SCX_NONE);
  a.place[peak] = row != SCX_NONE && has_columns(a, row) ? row : SCX_NONE;
}

SCX_KERNEL(cis_open, CisArgs, kThreads, 0, kWarps, 1) {
  const uint32_t column = blockIdx.x * kWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (column >= *a.columns.n_columns) return;
  const uint32_t words = ceil_div(*a.columns.n_positives, 32);
  const uint32_t first = a.columns.by_ptr[column], last = a.columns.by_ptr[column + 1];
  for (uint32_t word = lane; word < words; word += 32) {
    uint32_t bits = 0;
    for (uint32_t i = first; i < last; ++i) {
      const uint32_t positive = a.columns.by_sample[i];
      if (positive / 32 == word) bits |= 1u << (positive % 32);
    }
    a.open[size_t(column) * words + word] = bits;
  }
}

SCX_KERNEL(cis_values, CisArgs, kThreads, 0, kWarps, 1) {
  const uint32_t gene = blockIdx.x * kWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (gene >= a.graph.genes) return;
  float sum = 0.0f;
  for (uint32_t h = lane; h < a.hidden; h += 32) sum += query(a, gene, h) * a.uk[h];
  sum = warp_sum(sum);
  if (lane == 0) a.value_score[gene] = sum;
}

SCX_KERNEL(cis_scores, CisArgs, kThreads, 0, kWarps, 1) {
  const uint32_t row = blockIdx.x * kWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= *a.peaks.n_rows || !has_columns(a, row)) return;
  const uint32_t peak = a.peaks.row[row];
  const float* const key = a.k + size_t(row) * a.hidden;
#pragma unroll 2
  for (uint32_t e = a.graph.peak_ptr[peak]; e < a.graph.peak_ptr[peak + 1]; ++e) {
    const uint32_t gene = a.graph.gene[e];
    float sum = 0.0f;
    for (uint32_t h = lane; h < a.hidden; h += 32) sum += query(a, gene, h) * key[h];
    sum = warp_sum(sum);
    if (lane == 0) a.score[e] = sum;
  }
}

SCX_KERNEL(cis_near, CisArgs, kThreads, 0, kGenes, kCells) {
  __shared__ float tile[kGenes][kCells + 1];
  __shared__ float factors[kBins];
  const uint32_t positives = *a.columns.n_positives, words = ceil_div(positives, 32), word = blockIdx.y;
  const uint32_t gene0 = blockIdx.x * kGenes, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (gene0 >= a.graph.genes || word >= words) return;
  if (threadIdx.x < kBins) factors[threadIdx.x] = factor(a, threadIdx.x);
  __syncthreads();
  for (uint32_t j = warp; j < kGenes; j += kWarps) {
    const uint32_t gene = gene0 + j;
    float sum = 0.0f;
    if (gene < a.graph.genes) {
      const float t = a.value_score[gene];
      const uint32_t end = a.graph.gene_ptr[gene + 1];
      for (uint32_t first = a.graph.gene_ptr[gene]; first < end; first += 32) {
        const GeneEdge own(a, first + lane, end);
        uint32_t from = 0, to = 0;
        float s = 0.0f, f = 0.0f;
        if (own.row != SCX_NONE) {
          from = a.columns.row_ptr[own.row], to = a.columns.row_ptr[own.row + 1];
          s = a.score[own.edge], f = factors[a.graph.bin[own.edge]];
        }
        for (uint32_t left = __ballot_sync(kAllLanes, own.row != SCX_NONE); left != 0; left &= left - 1) {
          const int i = __ffs(int(left)) - 1;
          const uint32_t last = __shfl_sync(kAllLanes, to, i);
          const float score = __shfl_sync(kAllLanes, s, i), f_i = __shfl_sync(kAllLanes, f, i);
          for (uint32_t u = __shfl_sync(kAllLanes, from, i); u < last; ++u) {
            const uint32_t bits = a.open[size_t(u) * words + word];
            if (bits >> lane & 1) sum += f_i * (score + a.columns.value[u] * t);
          }
        }
      }
    }
    tile[j][lane] = sum;
  }
  __syncthreads();
  for (uint32_t i = warp; i < kCells; i += kWarps) {
    const uint32_t positive = word * 32 + i, gene = gene0 + lane;
    if (positive < positives && gene < a.graph.genes) a.near[size_t(positive) * a.graph.genes + gene] = tile[lane][i];
  }
}

SCX_KERNEL(cis_sums, CisArgs, kThreads, 0, 1, 1) {
  const uint32_t positive = blockIdx.x, chromosome = blockIdx.y;
  if (positive >= *a.columns.n_positives) return;
  const uint32_t sample = a.columns.positive[positive];
  const auto chrom = [&](uint32_t entry) { return a.peak_chrom[a.peaks.row[a.peaks.local[entry]]]; };
  // Entries are sorted by chromosome: the first that is not below.
  const auto bound = [&](uint32_t least) {
    return first_not(a.peaks.indptr[sample], a.peaks.indptr[sample + 1], [&](uint32_t e) { return chrom(e) < least; });
  };
  const uint32_t first = bound(chromosome), last = bound(chromosome + 1);
  float* const to = a.sums + (size_t(positive) * a.graph.chromosomes + chromosome) * a.hidden;
  for (uint32_t h = threadIdx.x; h < a.hidden; h += kThreads) {
    const float u = a.uk[h];
    float sum = 0.0f;
#pragma unroll 4
    for (uint32_t e = first; e < last; ++e) {
      sum += a.k[size_t(a.peaks.local[e]) * a.hidden + h] + a.peaks.value[e] * u;
    }
    to[h] = sum;
  }
}

SCX_KERNEL(cis_whole, CisArgs, kThreads, 0, 1, 1) {
  if (blockIdx.x >= a.graph.n_whole) return;
  const uint32_t gene = a.graph.whole[blockIdx.x], chromosome = a.gene_chrom[gene], lane = threadIdx.x % 32;
  const float f = factor(a, kBins - 1);
  for (uint32_t i = threadIdx.x / 32; i < *a.columns.n_positives; i += kWarps) {
    const float* const keys = a.sums + (size_t(i) * a.graph.chromosomes + chromosome) * a.hidden;
    float sum = 0.0f;
    for (uint32_t h = lane; h < a.hidden; h += 32) sum += query(a, gene, h) * keys[h];
    sum = warp_sum(sum);
    if (lane == 0) a.near[size_t(i) * a.graph.genes + gene] = f * sum;
  }
}

SCX_KERNEL(cis_covariates, CisArgs, kThreads, 0, kThreads, 1) {
  const uint32_t width = a.components + 2, at = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t positive = at / width, column = at % width;
  if (positive >= *a.columns.n_positives) return;
  const uint32_t sample = a.columns.positive[positive];
  float x;
  if (column < a.components) {
    x = a.cell[size_t(sample) * a.components + column];
  } else {
    const bool rna = column == a.components;
    const uint32_t* const indptr = (rna ? a.genes : a.peaks).indptr + sample;
    x = (log1pf(float(indptr[1] - indptr[0])) - (rna ? a.gene_mean : a.peak_mean)) / (rna ? a.gene_sd : a.peak_sd);
  }
  a.x[at] = x;
  if (a.x_blind != nullptr) a.x_blind[at] = column == a.components ? 0.0f : x;
}

SCX_KERNEL(cis_loss, CisArgs, kThreads, 0, 1, 1) {
  __shared__ float sums[kThreads];
  const uint32_t positive = blockIdx.x;
  if (positive >= *a.columns.n_positives) return;
  const float share = 1.0f / float(*a.genes.n_samples), f = a.weight * share;
  const size_t row = size_t(positive) * a.graph.genes;
  float loss = 0.0f;
  // As if nothing were expressed; then what is.
  for (uint32_t g = threadIdx.x; g < a.graph.genes; g += kThreads) {
    const float more = a.near[row + g], y = a.y[row + g] + more;
    a.y[row + g] = y;
    if (a.blind != nullptr) a.blind[row + g] += more;
    if (a.level) {
      loss += 0.5f * y * y;
      a.d_y[row + g] = f * y;
    } else {
      loss += log1pf(expf(-fabsf(y))) + fmaxf(y, 0.0f);
      a.d_y[row + g] = f * sigmoid(y);
    }
  }
  __syncthreads();
  const uint32_t sample = a.columns.positive[positive];
  for (uint32_t e = a.genes.indptr[sample] + threadIdx.x; e < a.genes.indptr[sample + 1]; e += kThreads) {
    const size_t at = row + a.genes.row[a.genes.local[e]];
    const float v = a.genes.value[e], y = a.y[at];
    const float target = a.level ? v : v > 0.0f ? 1.0f : 0.0f;
    loss += a.level ? (0.5f * v - y) * v : -y * target;
    a.d_y[at] -= f * target;
  }
  loss = block_sum(loss, sums);
  if (threadIdx.x == 0) a.loss_part[positive] = share * loss;
}

SCX_KERNEL(cis_size, CisArgs, kThreads, 0, kWarps, 1) {
  __shared__ float sums[kThreads];
  __shared__ float counts[kThreads];
  if (blockIdx.x * kWarps >= *a.peaks.n_rows) return;
  const uint32_t row = blockIdx.x * kWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
  float size = 0.0f;
  uint32_t count = 0;
  if (row < *a.peaks.n_rows && has_columns(a, row)) {
    const uint32_t peak = a.peaks.row[row], first = a.columns.row_ptr[row], last = a.columns.row_ptr[row + 1];
    for (uint32_t e = a.graph.peak_ptr[peak] + lane; e < a.graph.peak_ptr[peak + 1]; e += 32) {
      const float f = factor(a, a.graph.bin[e]), s = a.score[e], t = a.value_score[a.graph.gene[e]];
      for (uint32_t u = first; u < last; ++u) size += fabsf(f * (s + a.columns.value[u] * t));
      count += last - first;
    }
  }
  size = block_sum(size, sums);
  const float all = block_sum(float(count), counts);  // exact: few thousands
  if (threadIdx.x == 0) {
    a.size_part[blockIdx.x] = size;
    a.edge_part[blockIdx.x] = uint32_t(all);
  }
}

SCX_KERNEL(cis_total, CisArgs, kThreads, 0, 1, 1) {
  __shared__ float sums[kThreads];
  __shared__ uint32_t counts[kThreads];
  float loss = 0.0f, size = 0.0f;
  uint32_t count = 0;
  for (uint32_t i = threadIdx.x; i < *a.columns.n_positives; i += kThreads) loss += a.loss_part[i];
  if (a.sparsity != 0.0f) {
    for (uint32_t i = threadIdx.x; i < ceil_div(*a.peaks.n_rows, kWarps); i += kThreads) {
      size += a.size_part[i];
      count += a.edge_part[i];
    }
  }
  counts[threadIdx.x] = count;
  loss = block_sum(loss, sums);
  size = block_sum(size, sums);
  if (threadIdx.x != 0) return;
  for (uint32_t i = 1; i < kThreads; ++i) count += counts[i];
  a.record->cis_loss = loss;
  a.record->loss += a.weight * loss;
  if (a.sparsity != 0.0f) {
    *a.edges = count;
    if (count != 0) a.record->loss += a.sparsity * (size / float(count));
  }
}

SCX_KERNEL(cis_covariates_backward, CisArgs, kThreads, 0, kThreads, 1) {
  const uint32_t at = blockIdx.x * kThreads + threadIdx.x;
  if (a.components == 0 || at / a.components >= *a.genes.n_samples) return;
  const uint32_t sample = at / a.components, column = at % a.components;
  const uint32_t positive = find(a.columns.positive, *a.columns.n_positives, sample, SCX_NONE);
  a.d_cell[at] = positive == SCX_NONE ? 0.0f : a.d_x[size_t(positive) * (a.components + 2) + column];
}

SCX_KERNEL(cis_backward_edges, CisArgs, kThreads, 0, kWarps, 1) {
  __shared__ float of_bins[kWarps][kBins];
  __shared__ float factors[kBins], sparse;
  if (blockIdx.x * kWarps >= *a.peaks.n_rows) return;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = blockIdx.x * kWarps + warp;
  if (threadIdx.x < kBins) factors[threadIdx.x] = factor(a, threadIdx.x);
  if (threadIdx.x == 0) sparse = a.sparsity != 0.0f ? a.sparsity / float(*a.edges) : 0.0f;
  __syncthreads();
  float decay = 0.0f;  // of the bin that is the lane's number
  if (row < *a.peaks.n_rows && has_columns(a, row)) {
    const uint32_t peak = a.peaks.row[row], first = a.columns.row_ptr[row], last = a.columns.row_ptr[row + 1];
    for (uint32_t e = a.graph.peak_ptr[peak]; e < a.graph.peak_ptr[peak + 1]; ++e) {
      const uint32_t gene = a.graph.gene[e], bin = a.graph.bin[e];
      const float f = factors[bin], s = a.score[e], t = a.value_score[gene];
      const float* const d_y = a.d_y + gene;
      float d_score = 0.0f, d_value = 0.0f;
      for (uint32_t u = first; u < last; ++u) {
        float d = 0.0f;
        for (uint32_t i = a.columns.by_ptr[u] + lane; i < a.columns.by_ptr[u + 1]; i += 32) {
          d += d_y[size_t(a.columns.by_sample[i]) * a.graph.genes];
        }
        d = warp_sum(d);
        const float value = a.columns.value[u], w = f * (s + value * t);
        d += w > 0.0f ? sparse : w < 0.0f ? -sparse : 0.0f;
        d_score += f * d;
        d_value += value * f * d;
        if (lane == bin) decay += w * d;
      }
      if (lane == 0) {
        a.d_score[e] = d_score;
        a.d_value[e] = d_value;
      }
    }
  }
  if (lane < kBins) of_bins[warp][lane] = decay;
  __syncthreads();
  if (threadIdx.x >= kBins) return;
  float sum = 0.0f;
  for (uint32_t w = 0; w < kWarps; ++w) sum += of_bins[w][threadIdx.x];
  a.decay_part[size_t(blockIdx.x) * kBins + threadIdx.x] = sum;
}

SCX_KERNEL(cis_backward_sums, CisArgs, kThreads, 0, 1, 1) {
  const uint32_t positive = blockIdx.x, chromosome = blockIdx.y;
  if (positive >= *a.columns.n_positives) return;
  const float f = factor(a, kBins - 1);
  const float* const d_y = a.d_y + size_t(positive) * a.graph.genes;
  float* const to = a.d_sums + (size_t(positive) * a.graph.chromosomes + chromosome) * a.hidden;
  for (uint32_t h = threadIdx.x; h < a.hidden; h += kThreads) {
    float sum = 0.0f;
#pragma unroll 4
    for (uint32_t i = a.graph.whole_ptr[chromosome]; i < a.graph.whole_ptr[chromosome + 1]; ++i) {
      const uint32_t gene = a.graph.whole[i];
      sum += f * d_y[gene] * query(a, gene, h);
    }
    to[h] = sum;
  }
}

SCX_KERNEL(cis_backward_rows, CisArgs, kThreads, 0, kWarps, 1) {
  __shared__ float of_rows[kWarps][32];
  if (blockIdx.x * kWarps >= *a.peaks.n_rows) return;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = blockIdx.x * kWarps + warp;
  const bool any = row < *a.peaks.n_rows && has_columns(a, row), whole = a.graph.n_whole != 0;
  const uint32_t peak = any ? a.peaks.row[row] : 0;
  const uint32_t first = any ? a.graph.peak_ptr[peak] : 0, last = any ? a.graph.peak_ptr[peak + 1] : 0;
  for (uint32_t h0 = 0; h0 < a.hidden; h0 += 32) {
    const uint32_t h = h0 + lane;
    float sum = 0.0f, by_value = 0.0f;
    if (any && h < a.hidden) {
#pragma unroll 4
      for (uint32_t e = first; e < last; ++e) sum += a.d_score[e] * query(a, a.graph.gene[e], h);
      if (whole) {
        for (uint32_t u = a.columns.row_ptr[row]; u < a.columns.row_ptr[row + 1]; ++u) {
          float d = 0.0f;
          for (uint32_t i = a.columns.by_ptr[u]; i < a.columns.by_ptr[u + 1]; ++i) {
            const size_t of = size_t(a.columns.by_sample[i]) * a.graph.chromosomes + a.peak_chrom[peak];
            d += a.d_sums[of * a.hidden + h];
          }
          sum += d;
          by_value += a.columns.value[u] * d;
        }
      }
      a.d_k[size_t(row) * a.hidden + h] += sum;
    }
    if (!whole) continue;
    of_rows[warp][lane] = by_value;
    __syncthreads();
    if (warp == 0 && h < a.hidden) {
      for (uint32_t w = 1; w < kWarps; ++w) by_value += of_rows[w][lane];
      a.v_part[size_t(blockIdx.x) * a.hidden + h] = by_value;
    }
    __syncthreads();
  }
}

SCX_KERNEL(cis_backward_genes, CisArgs, kThreads, 0, kWarps, 1) {
  __shared__ float of_u[kWarps][32], of_v[kWarps][32], of_decay[kWarps];
  if (blockIdx.x * kWarps >= a.graph.genes) return;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, gene = blockIdx.x * kWarps + warp;
  const bool any = gene < a.graph.genes, whole = a.graph.n_whole != 0;
  const uint32_t first = any ? a.graph.gene_ptr[gene] : 0, last = any ? a.graph.gene_ptr[gene + 1] : 0;
  // Sums of keys of the first positive on its chromosome, of a gene that takes that whole.
  const float* keys = nullptr;
  if (any && whole) {
    const uint32_t chromosome = a.gene_chrom[gene], from = a.graph.whole_ptr[chromosome];
    if (find(a.graph.whole + from, a.graph.whole_ptr[chromosome + 1] - from, gene, SCX_NONE) != SCX_NONE) {
      keys = a.sums + size_t(chromosome) * a.hidden;
    }
  }
  float dt = 0.0f, decay = 0.0f;
  for (uint32_t at = first; at < last; at += 32) {
    const GeneEdge own(a, at + lane, last);
    if (own.row != SCX_NONE) dt += a.d_value[own.edge];
  }
  dt = warp_sum(dt);
  for (uint32_t h0 = 0; h0 < a.hidden; h0 += 32) {
    const uint32_t h = h0 + lane;
    const bool inside = any && h < a.hidden;
    float sum = inside ? dt * a.uk[h] : 0.0f;
    const float q = inside ? query(a, gene, h) : 0.0f;
    for (uint32_t at = first; at < last; at += 32) {
      const GeneEdge own(a, at + lane, last);
      const float d = own.row != SCX_NONE ? a.d_score[own.edge] : 0.0f;
      for (uint32_t left = __ballot_sync(kAllLanes, own.row != SCX_NONE); left != 0; left &= left - 1) {
        const int i = __ffs(int(left)) - 1;
        const uint32_t row = __shfl_sync(kAllLanes, own.row, i);
        const float d_i = __shfl_sync(kAllLanes, d, i);
        if (inside) sum += d_i * a.k[size_t(row) * a.hidden + h];
      }
    }
    if (keys != nullptr && inside) {
      const size_t apart = size_t(a.graph.chromosomes) * a.hidden;
      const float* const d_y = a.d_y + gene;
      float d = 0.0f;
#pragma unroll 1  // more take registers from the edges, which most genes have
      for (uint32_t i = 0; i < *a.columns.n_positives; ++i) d += d_y[size_t(i) * a.graph.genes] * keys[i * apart + h];
      d *= factor(a, kBins - 1);
      sum += d;
      decay += q * d;
    }
    if (inside) a.d_q[size_t(gene) * a.hidden + h] += sum;
    of_u[warp][lane] = inside ? sum : 0.0f;
    of_v[warp][lane] = dt * q;
    __syncthreads();
    if (warp == 0 && h < a.hidden) {
      float u = 0.0f, v = 0.0f;
      for (uint32_t w = 0; w < kWarps; ++w) {
        u += of_u[w][lane];
        v += of_v[w][lane];
      }
      a.u_part[size_t(blockIdx.x) * a.hidden + h] = u;
      a.v_part[size_t(blockIdx.x) * a.hidden + h] = v;
    }
    __syncthreads();
  }
  if (!whole) return;
  decay = warp_sum(decay);
  if (lane == 0) of_decay[warp] = decay;
  __syncthreads();
  if (threadIdx.x >= kBins) return;
  float sum = 0.0f;
  if (threadIdx.x == kBins - 1) {
    for (uint32_t w = 0; w < kWarps; ++w) sum += of_decay[w];
  }
  a.decay_part[size_t(blockIdx.x) * kBins + threadIdx.x] = sum;
}
