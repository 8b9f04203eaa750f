// The launch ABI: the argument struct of every kernel the engine launches, what it reads and writes, and its grid.
//
// Rules
// - Every kernel takes one struct by value. Pointers are device addresses. The build writes the Rust structs from this
//   file (src/device/header.rs, which says what may stand here), and every compilation asserts that sizes and offsets agree.
// - Counts that change from batch to batch are *pointers* (`n_...`): a kernel reads them from device memory. The grid
//   covers the bucket the batch falls into, which may be larger, so blocks past the end return at once. That is what
//   lets one captured CUDA graph serve many batches.
// - "=": every element is written. "+=": added to what is there. No kernel uses floating-point atomics; each output
//   has one owner, and sums run in a fixed order: results are the same from run to run.
// - Tables are row-major. `hidden` is H, `heads` h, slice = H / h. Per-entry arrays of heads are [entries, heads];
//   members are [entries, heads, top_k].
// - Entry points that multiply matrices come in two precisions, `_f32` (3xTF32: accurate like f32) and `_bf16`. All
//   tables are f32 in memory; `_bf16` rounds when it stages them. Sums are f32 in both.
// - Grids are one block a `tile_x` (and `tile_y`) items of the kernel's `NAME_shape`, unless said otherwise.
#pragma once
#include "cuda.h"

#define SCX_NONE 0xffffffffu           // no member, no row
#define SCX_ATTEND_GENES 64u           // genes an AttendTile holds at most
#define SCX_POOL_ENTRIES 128u          // entries a PoolChunk holds at most
#define SCX_PROJECT_CHUNK 512u         // table rows of one partial weight gradient
#define SCX_MASK_GENES 256u            // genes of one mask block: eight words
#define SCX_TRANSLATE_CHUNK 8192u      // columns of one partial gradient of the gene side
#define SCX_NORM_PARTS 1024u           // partial sums of the gradient norm
#define SCX_MAX_TOP_K 32u              // places a gene can have: one lane each
#define SCX_CIS_BINS 8u                // distance bins of the cis graph

// ---------------------------------------------------------------- what batches are made of

// Gene nodes or peak nodes of a batch. A *table row* is a distinct gene (peak) of the batch, rows ascend by data set
// index; an *entry* is one node of one sample. Entries of a sample are sorted by (chromosome, index).
struct Nodes {
  const uint32_t* n_samples;  // B
  const uint32_t* n_entries;  // nnz
  const uint32_t* n_rows;     // R
  const uint32_t* indptr;     // [B + 1] entries of each sample
  const uint32_t* local;      // [nnz] table row of each entry
  const uint32_t* sample;     // [nnz] sample of each entry
  const float* value;         // [nnz] expression or accessibility
  const uint32_t* row;        // [R] data set index of each table row
  const uint32_t* row_ptr;    // [R + 1] entries of each table row, in by_row
  const uint32_t* by_row;     // [nnz] entries by table row, ascending within it: the order of gradient sums
};

// What is constant of one side. A feature row is [E (dim) | value (1) | one-hot chromosome | extra],
// width = dim + 1 + chromosomes + extra.
struct Side {
  const uint32_t* chrom;  // [N]
  const float* dense;     // [N, extra], or null
  const uint8_t* bases;   // [N, extra] base codes 0 to 4, or null; the feature is code * 0.25
  uint32_t count;         // N
  uint32_t chromosomes;
  uint32_t extra;
  uint32_t dim;
};

// ---------------------------------------------------------------- project: rows of the tables Q and K

// table[r] = E[row] W_E^T + extra W_X^T + W[:, dim + 1 + chrom] + b  (=);  u = W[:, dim]  (=, by the blocks of y with x = 0)
// project_forward_{f32,bf16}: x = table rows, y = hidden columns
struct ProjectForwardArgs {
  Side side;
  const uint32_t* n_rows;
  const uint32_t* row;  // [R]
  const float* emb;     // [N, dim]
  const float* w;       // [H, width]
  const float* b;       // [H]
  float* table;         // [R, H]
  float* u;             // [H]
  uint32_t hidden;
  uint32_t pad;
};

// d_emb[row[r]] += d_table[r] W_E
// project_backward_embedding_{f32,bf16}: x = table rows, y = embedding columns
struct ProjectBackwardEmbeddingArgs {
  Side side;
  const uint32_t* n_rows;
  const uint32_t* row;
  const float* d_table;  // [R, H]
  const float* w;        // [H, width]
  float* d_emb;          // [N, dim] +=
  uint32_t hidden;
  uint32_t pad;
};

// Partial sums over SCX_PROJECT_CHUNK table rows (chunk c: rows c * CHUNK ...).
// project_backward_weight_{f32,bf16}: part (=); x = chunks, y = tiles of (tile_x hidden rows x tile_y columns of dim + extra),
//   tile number = (hidden tile) * ceil((dim + extra) / tile_y) + column tile
// project_backward_chromosome: part_chrom (=); x = chunks, one block each
struct ProjectBackwardWeightArgs {
  Side side;
  const uint32_t* n_rows;
  const uint32_t* row;
  const float* emb;
  const float* d_table;
  float* part;        // [chunks, H, dim + extra]
  float* part_chrom;  // [chunks, chromosomes, H]
  uint32_t hidden;
  uint32_t pad;
};

// d_w += sum of the parts, in order, and d_u in the value column;  d_b += sums of d_table rows (from part_chrom).
// project_backward_reduce: x = elements of [H, width]
struct ProjectBackwardReduceArgs {
  Side side;
  const uint32_t* n_rows;
  const float* part;
  const float* part_chrom;
  const float* d_u;  // [H]
  float* d_w;        // [H, width] +=
  float* d_b;        // [H] +=
  uint32_t hidden;
  uint32_t pad;
};

// ---------------------------------------------------------------- attend: masked top-k attention

// Up to SCX_ATTEND_GENES genes of one sample and chromosome, and all its peaks there (none: first_peak == last_peak).
struct AttendTile {
  uint32_t first_gene, last_gene;  // gene entries
  uint32_t first_peak, last_peak;  // peak entries
  uint32_t first_pad, last_pad;    // masked peaks that may take a place, ascending data set indices, in `pad`
  uint32_t places;                 // min(top_k, peaks of the sample)
  uint32_t zero;
};

// One sample and chromosome: its peaks, and its genes there (none: first_gene == last_gene). All peak entries occur.
struct AttendBlock {
  uint32_t first_gene, last_gene;
  uint32_t first_peak, last_peak;
};

// For each gene entry and head: logits q.k with the tile's peaks (q = Q[local] + value uq, k likewise), the best `places`
// of them and of the pads (logit 0), ordered by logit, then lower data set index; softmax of their scores sigmoid(logit);
// a score above tau is kept. Where none is kept all members are SCX_NONE. Else the unmasked ones are listed best first.
// attend_forward_{f32,bf16}: one block a tile
struct AttendForwardArgs {
  const uint32_t* n_tiles;
  const AttendTile* tile;
  const uint32_t* pad;
  Nodes genes;
  Nodes peaks;
  const float* q;   // [R_g, H]
  const float* uq;  // [H]
  const float* k;   // [R_p, H]
  const float* uk;  // [H]
  float* row_sums;   // [nnz_g, heads] = sum of the kept weights
  uint32_t* member;  // [nnz_g, heads, top_k] = peak entry or SCX_NONE
  float* weight;     // [nnz_g, heads, top_k] = softmax weight over all places (0 where SCX_NONE)
  float* score;      // [nnz_g, heads, top_k] = sigmoid(logit) (0 where SCX_NONE)
  uint32_t hidden;
  uint32_t heads;
  uint32_t top_k;
  float tau;
};

// Members by peak. Pairs of block (g0..g1) and head fill pair[(g0 * heads + head * (g1 - g0)) * top_k ...], peak by peak,
// genes ascending; a pair is the member's place in `member`.
// attend_columns: x = blocks, y = heads, one block each
struct AttendColumnsArgs {
  const uint32_t* n_blocks;
  const AttendBlock* block;
  const uint32_t* member;
  const float* weight;
  const float* score;
  float* col_sums;     // [nnz_p, heads] = sum of the kept weights
  uint32_t* pair_ptr;  // [nnz_p, heads, 2] = first pair, one past the last
  uint32_t* pair;      // [nnz_g * heads * top_k]
  uint32_t heads;
  uint32_t top_k;
  float tau;
  uint32_t pad;
};

// d_logit = s (1 - s) w (up - sum_m w_m up_m), up = kept ? d_row_sums + d_col_sums : 0; 0 where there is no member.
// attend_backward_logits: x = gene entries x heads
struct AttendBackwardLogitsArgs {
  const uint32_t* n_entries;
  const uint32_t* member;
  const float* weight;
  const float* score;
  const float* d_row_sums;  // [nnz_g, heads]
  const float* d_col_sums;  // [nnz_p, heads]
  float* d_logit;           // [nnz_g, heads, top_k] =
  uint32_t heads;
  uint32_t top_k;
  float tau;
  uint32_t pad;
};

// d_q[r] = sum over entries of row r and members of d_logit (K[local] + value uk);
// d_u_part[block] = sum over the block's entries of value * that (the share of uq).
// attend_backward_rows: x = gene table rows
struct AttendBackwardRowsArgs {
  Nodes genes;
  Nodes peaks;
  const uint32_t* member;
  const float* d_logit;
  const float* k;
  const float* uk;
  float* d_q;       // [R_g, H] =
  float* d_u_part;  // [blocks, H] =
  uint32_t hidden;
  uint32_t heads;
  uint32_t top_k;
  uint32_t pad;
};

// The same for peaks, through pair_ptr and pair.
// attend_backward_columns: x = peak table rows
struct AttendBackwardColumnsArgs {
  Nodes genes;
  Nodes peaks;
  const uint32_t* pair_ptr;
  const uint32_t* pair;
  const float* d_logit;
  const float* q;
  const float* uq;
  float* d_k;       // [R_p, H] =
  float* d_u_part;  // [blocks, H] =
  uint32_t hidden;
  uint32_t heads;
  uint32_t top_k;
  uint32_t pad;
};

// ---------------------------------------------------------------- pool: bag sums

// Up to SCX_POOL_ENTRIES entries of one sample.
struct PoolChunk {
  uint32_t sample;
  uint32_t first, last;
  uint32_t zero;
};

// part[chunk, head] = sum over the chunk's entries of w [E | value | one-hot | extra | 1]; w = weight[entry, head], or
// 1 / (entries of the sample) where weight is null. Entries of weight 0 are skipped.
// pool_forward: x = chunks, y = heads, one block each
struct PoolForwardArgs {
  Side side;
  Nodes nodes;
  const uint32_t* n_chunks;
  const PoolChunk* chunk;
  const float* emb;     // [N, dim]
  const float* weight;  // [nnz, heads] or null
  float* part;          // [chunks, heads, width + 1] =
  uint32_t heads;
  uint32_t pad;
};

// bag[sample, head] = sum of its chunks, in order.
// pool_finish: x = samples, y = heads, one block each
struct PoolFinishArgs {
  const uint32_t* n_samples;
  const uint32_t* chunk_ptr;  // [B + 1] chunks of each sample
  const float* part;
  float* bag;  // [B, heads, width + 1] =
  uint32_t heads;
  uint32_t stride;  // width + 1
};

// d_emb[row[r]] += sum over entries of row r (by_row order), heads innermost, of w * d_bag[sample, head, 0..dim].
// pool_backward_rows: x = table rows
struct PoolBackwardRowsArgs {
  Side side;
  Nodes nodes;
  const float* weight;  // [nnz, heads] or null
  const float* d_bag;   // [B, heads, width + 1]
  float* d_emb;         // [N, dim] +=
  uint32_t heads;
  uint32_t pad;
};

// d_weight[entry, head] = d_bag[sample, head] . [E | value | one-hot | extra | 1] where the weight is not 0, else 0.
// pool_backward_weights: x = entries x heads
struct PoolBackwardWeightsArgs {
  Side side;
  Nodes nodes;
  const float* emb;
  const float* weight;  // [nnz, heads]
  const float* d_bag;
  float* d_weight;  // [nnz, heads] =
  uint32_t heads;
  uint32_t pad;
};

// ---------------------------------------------------------------- head: the small maps

// y[b, o] = act(scale_b (sum_i x[b, head, i] w[o, i] + b[o] s)), head = o / (out / heads), x row of (b, head) at
// x + (b * heads + head) * ldx. scale_b = 1 / (indptr[b + 1] - indptr[b]), or 1 where indptr is null.
// s = x[b, head, in] where bias_column is 1 (the bag's sum of weights), else 1.
// act: relu where relu is 1, then dropout where keep is not 1: y *= keep or 0 by Philox (see head.cu).
// linear_forward: x = samples, y = out columns of one head, z = heads
struct LinearForwardArgs {
  const uint32_t* n_samples;
  const float* x;
  const float* w;  // [out, in]
  const float* b;  // [out]
  const uint32_t* indptr;
  float* y;                      // [B, ldy] =, its first `out` columns
  const uint32_t* sample_key;    // [B, 2] low and high word of the sample number (dropout)
  const uint32_t* step_key;      // [2] low and high word of the step (dropout)
  uint32_t ldx, ldy;
  uint32_t in, out;
  uint32_t heads, bias_column;
  uint32_t relu, layer;          // layer: the dropout's number
  uint32_t seed_low, seed_high;
  uint32_t drop_below, pad;      // a draw below this is dropped; 0: no dropout
  float keep;                    // 1 / (1 - p), or 1
  uint32_t pad2;
};

// dx[b, head, i] = scale_b sum_o dy[b, o] w[o, i]  over the o of the head; and, where bias_column is 1,
// dx[b, head, in] = scale_b sum_o dy[b, o] b[o]. (+= where add is 1)
// linear_backward_x: x = samples, y = in columns (the bias column included), z = heads
struct LinearBackwardXArgs {
  const uint32_t* n_samples;
  const float* dy;
  const float* w;
  const float* b;
  const uint32_t* indptr;
  float* dx;  // =, or += where add is 1
  uint32_t ldy, ldx;
  uint32_t in, out;
  uint32_t heads, bias_column;
  uint32_t add, pad;
};

// dw[o, i] += sum_b scale_b dy[b, o] x[b, head, i];  db[o] += sum_b scale_b dy[b, o] s.
// linear_backward_w: x = out rows of one head, y = in columns, z = heads (db by the blocks with y = 0)
struct LinearBackwardWArgs {
  const uint32_t* n_samples;
  const float* dy;
  const float* x;
  const uint32_t* indptr;
  float* dw;
  float* db;
  uint32_t ldy, ldx;
  uint32_t in, out;
  uint32_t heads, bias_column;
};

// dy = y > 0 ? dy * keep : 0: backward of relu and dropout together.
// head_gate: x = samples x width
struct HeadGateArgs {
  const uint32_t* n_samples;
  const float* y;
  float* dy;
  uint32_t width;
  float keep;
};

// Losses of a step, and what became of it.
struct StepRecord {
  float loss;              // match_weight * match + alpha * translation, and the terms below by their weights
  float match_loss;        // mean cross-entropy
  float translation_loss;  // sum over positives of the mean squared error / B
  float cis_loss;          // sum over positives and genes / B
  float contrast_loss;     // mean over positives
  float norm;              // of the gradient
  uint32_t finite;         // 1: loss and gradient are finite
  uint32_t applied;        // 1: Adam took the step
  uint32_t updates;        // optimiser steps taken so far
  uint32_t zero;
};

// record->match_loss = mean cross-entropy of logits [B, 2]; d_logits = weight (softmax - onehot) / B.
// cross_entropy: one block
struct CrossEntropyArgs {
  const uint32_t* n_samples;
  const float* logits;
  const uint32_t* label;  // [B]
  float* d_logits;        // [B, 2] =
  StepRecord* record;
  float weight;
  uint32_t pad;
};

// record->translation_loss = sum of the parts, in order (0 where part is null);
// record->loss = match_weight * match_loss + alpha * translation_loss; record->cis_loss, contrast_loss = 0.
// loss_total: one block, after cross_entropy
struct LossTotalArgs {
  const uint32_t* n_parts;    // positives
  const float* part;          // [positives, heads], or null
  StepRecord* record;
  uint32_t heads;
  float alpha;
  float match_weight;
  uint32_t pad;
};

// out[j] (+)= sum over parts of part[p, j], in order; parts = ceil(*n / per).
// reduce_parts: x = width
struct ReducePartsArgs {
  const uint32_t* n;
  const float* part;  // [parts, width]
  float* out;         // [width]
  uint32_t per;
  uint32_t width;
  uint32_t add;  // 1: +=, 0: =
  uint32_t pad;
};

// ---------------------------------------------------------------- translate: the hot spot

// The distinct (peak, accessibility) columns of the positives of a batch, and who has which.
struct Columns {
  const uint32_t* n_columns;    // U
  const uint32_t* n_positives;  // n
  const uint32_t* row;          // [U] row of the key table
  const float* value;           // [U] accessibility
  const uint32_t* indptr;       // [n + 1] columns of each positive, in col
  const uint32_t* col;          // [nnz] ascending within a positive
  const uint32_t* by_ptr;       // [U + 1] positives of each column, in by_sample
  const uint32_t* by_sample;    // [nnz] ascending within a column
  const uint32_t* row_ptr;      // [R_p + 1] columns of each key table row (columns are sorted by row)
  const uint32_t* positive;     // [n] sample of each positive
};

// out[i, head, 0..slice] = table[row[i]] + value[i] u (row null: i; value null: 1), zero up to `padded`, which is slice
// rounded up to 16. Elements are float (_f32) or bf16 (_bf16).
// translate_effective_{f32,bf16}: x = items
struct TranslateEffectiveArgs {
  const uint32_t* n_items;
  const uint32_t* row;
  const float* value;
  const float* table;  // [R, H]
  const float* u;      // [H]
  void* out;           // [items, heads, padded] =
  uint32_t hidden;
  uint32_t heads;
  uint32_t padded;
  uint32_t pad;
};

// Bit g % 32 of mask[head, g / 256, u, g % 256 / 32] = [q_g . k_u > limit]; bits past the last gene are 0. Index:
// ((head * ceil(genes / 256) + g / 256) * U + u) * 8 + g % 256 / 32, with U = *n_columns.
// translate_masks_{f32,bf16}: x = genes (tile_x a multiple of 32 that divides 256), y = columns, z = heads
struct TranslateMasksArgs {
  const uint32_t* n_columns;
  const void* genes_eff;  // [genes, heads, padded]
  const void* keys_eff;   // [U, heads, padded]
  uint32_t* mask;
  uint32_t genes;
  uint32_t heads;
  uint32_t padded;
  float limit;
};

// predicted[positive, head, g / 32] bit g % 32 = [number of the positive's columns with the bit set > min_peaks];
// words a row: ceil(genes / 256) * 8.
// translate_count: x = positives x heads x mask blocks
// translate_count_exact: the same grid; count [positives, heads, genes] = that number
struct TranslateCountArgs {
  Columns columns;
  const uint32_t* mask;
  uint32_t* predicted;
  uint32_t* count;  // translate_count_exact only
  uint32_t genes;
  uint32_t heads;
  uint32_t min_peaks;
  uint32_t pad;
};

// d_pred[positive, head, g] = 2 alpha (predicted - expression) / (genes heads B) (=);
// loss_part[positive, head] = sum_g (predicted - expression)^2 / (genes heads B).
// translate_gradient: x = positives, y = heads, one block each
struct TranslateGradientArgs {
  Columns columns;
  Nodes genes_nodes;
  const uint32_t* predicted;
  float* d_pred;     // [n, heads, genes]
  float* loss_part;  // [n, heads]
  uint32_t genes;
  uint32_t heads;
  float alpha;
  uint32_t pad;
};

// The genes of a head with a gradient in any positive, ascending.
// translate_flags: flag (=), x = genes, y = heads
// translate_active: active, n_active (=), x = heads, one block each
struct TranslateActiveArgs {
  const uint32_t* n_positives;
  const float* d_pred;
  uint32_t* flag;      // [heads, genes]
  uint32_t* active;    // [heads, genes]
  uint32_t* n_active;  // [heads]
  uint32_t genes;
  uint32_t heads;
};

// The backward pass recomputes s = sigmoid(q_g . k_u) tile by tile, d = s (1 - s) sum over the column's positives of d_pred.
// translate_backward_keys_{f32,bf16}: d_keys[u, head slice] = sum over active genes of d q_g (=); x = columns, y = heads
// translate_backward_genes_{f32,bf16}: part[chunk, a, head slice] = sum over the chunk's columns of d k_u (=) for active gene
//   number a of the head (a < n_active[head] only); x = active genes, y = chunks of SCX_TRANSLATE_CHUNK columns, z = heads
struct TranslateBackwardArgs {
  Columns columns;
  const void* genes_eff;
  const void* keys_eff;
  const float* d_pred;
  const uint32_t* active;
  const uint32_t* n_active;
  float* d_keys;  // [U, H]
  float* part;    // [chunks, genes, H]
  uint32_t genes;
  uint32_t heads;
  uint32_t hidden;
  uint32_t padded;
};

// d_q[active gene, head slice] += sum of its parts, in order (q rows are all genes);
// d_u_part[block, head slice] = sum over the block's genes of that sum.
// translate_backward_genes_reduce: x = active genes (of each head)
struct TranslateGenesReduceArgs {
  const uint32_t* n_columns;
  const uint32_t* active;
  const uint32_t* n_active;
  const float* part;
  float* d_q;       // [genes, H]
  float* d_u_part;  // [ceil(genes / tile_x), H] =
  uint32_t genes;
  uint32_t heads;
  uint32_t hidden;
  uint32_t pad;
};

// d_k[r] += sum over the columns of key row r of d_keys;  d_u_part[block] = sum over the block's columns of value * d_keys.
// translate_backward_columns: x = peak table rows
struct TranslateColumnsArgs {
  Columns columns;
  const uint32_t* n_rows;  // R_p
  const float* d_keys;
  float* d_k;
  float* d_u_part;
  uint32_t hidden;
  uint32_t pad;
};

// ---------------------------------------------------------------- cis: genes from the open peaks near them

// The cis graph of a data set: the peaks near each gene. Constant.
struct CisGraph {
  const uint32_t* peak_ptr;   // [P + 1] edges of each peak
  const uint32_t* gene;       // [E] gene of each edge, ascending within a peak
  const uint32_t* peak;       // [E] peak of each edge
  const uint32_t* bin;        // [E] distance bin, below SCX_CIS_BINS
  const uint32_t* gene_ptr;   // [G + 1] edges of each gene, in by_gene
  const uint32_t* by_gene;    // [E] edges by gene, ascending within it
  const uint32_t* whole_ptr;  // [chromosomes + 1] in whole
  const uint32_t* whole;      // [W] genes that take their whole chromosome and have no edges, by chromosome
  uint32_t genes;             // G
  uint32_t peaks;             // P
  uint32_t chromosomes;
  uint32_t n_whole;           // W
};

// The cis term of the positives. With f = exp(decay[bin]) / sqrt(H), q_g = q[g] + uq, s_e = q_g . k[row of e's peak],
// t_g = q_g . uk, an edge e of gene g at a column u of its peak weighs w = f (s_e + value_u t_g), and
//   near[i, g] = sum of w over the edges of g and the columns of positive i
//                (a gene of `whole`: f of the last bin, q_g . sum of the positive's keys on the gene's chromosome)
//   y[i, g]    = near + b_g + v_g . x_i, with x_i = [cell (R) | depth of RNA | depth of ATAC]; depths: (log(1 + n) - mean) / sd
// Loss: sum over g of the cross-entropy of detection (level 0), or (y - expression)^2 / 2 (level 1), sum over positives / B.
// Gene rows are all genes of the data set. "rows" are peak table rows; those without columns are left out.
//
// Forward, in this order; `cell` and b + v . x (into y and blind) come from linear_forward in between:
// cis_place      place[p] = table row of peak p where it has columns, else SCX_NONE; x = peaks of the data set
// cis_open       bit i % 32 of open[u, i / 32] = positive i has column u; x = columns
// cis_values     value_score[g] = t_g; x = genes
// cis_scores     score[e] = s_e of the edges of rows; x = rows
// cis_near       near (=); x = genes, y = positives (tile_y 32)
// cis_sums       sums[i, c] = sum of the keys of positive i on chromosome c; x = positives, y = chromosomes, one block each;
//                where there are whole genes
// cis_whole      near of whole genes (=); x = whole genes, one block each
// cis_covariates x (=), x_blind (=, with 0 for the depth of RNA; where not null); x = elements of [positives, R + 2]
// cis_loss       y += near, blind += near (where not null), d_y = weight / B slope, loss_part[i]; x = positives, one block each
// cis_size       size_part[block], edge_part[block] = sum of |w|, number of (edge, column); x = rows; where sparsity is not 0
// cis_total      record->cis_loss = sum of loss_part; record->loss += weight cis_loss + sparsity mean |w|;
//                *edges = sum of edge_part (where sparsity is not 0); one block
//
// Backward, with D = sum over the positives of column u of d_y[i, g] + sparsity sign(w) / *edges:
// cis_covariates_backward  d_cell[b] = d_x of the positive, or 0; x = elements of [B, R]
// cis_backward_edges       d_score[e] = sum over u of f D, d_value[e] = sum over u of value f D;
//                          decay_part[block, bin] = sum of w D; x = rows
// cis_backward_sums        d_sums[i, c] = sum over the whole genes of c of f d_y[i, g] q_g; x = positives, y = chromosomes
// cis_backward_rows        d_k[row] += sum over e of d_score q_g, and the d_sums of its columns' positives;
//                          v_part[block] = sum over columns of value times those (=; where there are whole genes); x = rows
// cis_backward_genes       d_q[g] += sum over e of d_score k + dt uk, dt = sum over e of d_value, and f d_y sums of whole genes;
//                          u_part[block] = sum of that over genes; v_part[block] = sum of dt q_g;
//                          decay_part[block, last bin] = sum of w d_y of whole genes, other bins 0; x = genes
struct CisArgs {
  CisGraph graph;
  Columns columns;
  Nodes genes;
  Nodes peaks;
  const uint32_t* gene_chrom;  // [G]
  const uint32_t* peak_chrom;  // [P]
  const float* q;              // [G, H]
  const float* uq;             // [H]
  const float* k;              // [R_p, H]
  const float* uk;             // [H]
  const float* decay;          // [SCX_CIS_BINS]
  uint32_t* place;             // [P]
  uint32_t* open;              // [U, ceil(positives / 32)]
  float* value_score;          // [G]
  float* score;                // [E]
  float* sums;                 // [positives, chromosomes, H]
  float* near;                 // [positives, G]
  const float* cell;           // [B, R]
  float* x;                    // [positives, R + 2]
  float* x_blind;              // the same, or null
  float* y;                    // [positives, G]
  float* blind;                // the same, or null
  float* d_y;                  // the same
  float* loss_part;            // [positives]
  float* size_part;            // [ceil(R_p / tile_x)]
  uint32_t* edge_part;         // the same
  uint32_t* edges;             // [1]
  StepRecord* record;
  const float* d_x;            // [positives, R + 2]
  float* d_cell;               // [B, R]
  float* d_score;              // [E]
  float* d_value;              // [E]
  float* d_sums;               // [positives, chromosomes, H]
  float* d_q;                  // [G, H]
  float* d_k;                  // [R_p, H]
  float* u_part;               // [ceil(G / tile_x), H]
  float* v_part;               // [ceil(R_p or G / tile_x), H]
  float* decay_part;           // [ceil(R_p or G / tile_x), SCX_CIS_BINS]
  uint32_t hidden;
  uint32_t components;         // R
  uint32_t level;
  uint32_t pad;
  float weight, sparsity;
  float gene_mean, gene_sd;    // of log(1 + genes of a cell)
  float peak_mean, peak_sd;    // of log(1 + peaks of a cell)
};

// ---------------------------------------------------------------- contrast: RNA and ATAC of a cell against all others

// With a_i, b_i rows of positive i in the second halves of x_r and x_a [B, 2 H] and l = a b^T / sqrt(H): the loss is the mean over
// positives of (lse(l[i, :]) + lse(l[:, i])) / 2 - l[i, i]. Nothing but 0 comes of a single positive.
// contrast_logits    logits (=); x, y = positives
// contrast_lines     lines[i] = (max, sum of exp) of row i, then of column i; loss_part[i]; x = positives, one block each
// contrast_total     record->contrast_loss = sum of loss_part; record->loss += weight contrast_loss; one block
// contrast_slopes    logits = weight d loss / d l / sqrt(H), in place; x, y = positives
// contrast_backward  d_x_r, d_x_a (=): 0 in first halves; in second halves of positives slopes b and slopes^T a, of others 0;
//                    x = samples, y = hidden columns, z = 0 for RNA, 1 for ATAC
struct ContrastArgs {
  const uint32_t* n_samples;
  const uint32_t* n_positives;
  const uint32_t* positive;  // [n], ascending
  const float* x_r;          // [B, 2 H]
  const float* x_a;
  float* logits;             // [n, n]
  float* lines;              // [n, 4]
  float* loss_part;          // [n]
  StepRecord* record;
  float* d_x_r;              // [B, 2 H]
  float* d_x_a;
  uint32_t hidden;
  float weight;
};

// ---------------------------------------------------------------- adam

// State of the optimiser on the device.
struct Control {
  uint32_t updates;      // optimiser steps taken
  uint32_t halted;       // 1: a step was not finite and stop_on_nan is 1; nothing is applied until it is cleared
  uint32_t stop_on_nan;
  uint32_t apply;        // written by adam_guard, read by adam_step
  float size;            // lr / (1 - beta1^t)
  float root;            // 1 / sqrt(1 - beta2^t)
  uint32_t pad[2];
};

// part[i] = sum of squares of the i-th of SCX_NORM_PARTS equal pieces of the gradient.
// adam_norm: SCX_NORM_PARTS blocks
struct AdamNormArgs {
  const float* g;
  float* part;
  uint64_t n;
};

// Adds the parts; fills record->norm, finite, applied, updates and control for this step.
// adam_guard: one block
struct AdamGuardArgs {
  const float* part;
  StepRecord* record;
  Control* control;
  const double* rate;  // learning rate of this step
  double beta1, beta2;
};

// One Adam step over the arena where control->apply is 1; the gradient is set to 0 in any case.
// d = g + weight_decay p; m = beta1 m + (1 - beta1) d; v = beta2 v + (1 - beta2) d d; p -= size m / (sqrt(v) root + eps)
// adam_step: x = elements
struct AdamStepArgs {
  float* p;
  float* g;
  float* m;
  float* v;
  const Control* control;
  uint64_t n;
  float beta1, rest1;  // rest = 1 - beta, rounded from f64
  float beta2, rest2;
  float eps, weight_decay;
};
