// attend, forward, f32, the plain way: variant `plain` of the op, and the worked example of kernels/README.md.
//
// One thread has one gene of the tile. It walks through the peaks of its chromosome, makes each logit with a plain
// loop, and keeps the best places in a sorted array of its own. Nothing is shared, nothing is staged: slow on a GPU, and
// easy to read. All other entry points of the op stay the built-in ones.
#include "common/abi.h"
#include "common/tile.h"

namespace {

using namespace scx;

struct Place {
  float logit;
  uint32_t index;  // data set index of the peak: the lower one goes first among equal logits
  uint32_t entry;  // its entry in the batch, or SCX_NONE for a masked peak
};

__device__ __forceinline__ bool ahead(const Place& p, const Place& q) {
  return p.logit > q.logit || (p.logit == q.logit && p.index < q.index);
}

// The best `limit` candidates that were offered, best first.
struct Places {
  Place list[SCX_MAX_TOP_K];
  uint32_t count, limit;

  __device__ __forceinline__ void offer(const Place& p) {
    uint32_t at = count;
    while (at > 0 && ahead(p, list[at - 1])) --at;
    if (at >= limit) return;
    if (count < limit) ++count;
    for (uint32_t i = count - 1; i > at; --i) list[i] = list[i - 1];
    list[at] = p;
  }
};

// q . k of one head, from the tables: q = Q[row] + value uq, k likewise.
__device__ __forceinline__ float logit_of(const AttendForwardArgs& a, uint32_t gene, uint32_t peak, uint32_t head) {
  const uint32_t slice = a.hidden / a.heads, first = head * slice;
  const float* q = a.q + size_t(a.genes.local[gene]) * a.hidden + first;
  const float* k = a.k + size_t(a.peaks.local[peak]) * a.hidden + first;
  const float e = a.genes.value[gene], c = a.peaks.value[peak];
  float sum = 0.0f;
  for (uint32_t i = 0; i < slice; ++i) sum += (q[i] + e * a.uq[first + i]) * (k[i] + c * a.uk[first + i]);
  return sum;
}

}  // namespace

// Threads a block: one a gene of a tile. No dynamic shared memory. One tile a block (abi.h: "one block a tile").
SCX_KERNEL(attend_forward_f32, AttendForwardArgs, SCX_ATTEND_GENES, 0, 1, 1) {
  if (blockIdx.x >= *a.n_tiles) return;  // the grid may be larger than the batch
  const AttendTile t = a.tile[blockIdx.x];
  const uint32_t gene = t.first_gene + threadIdx.x;
  if (gene >= t.last_gene) return;
  for (uint32_t head = 0; head < a.heads; ++head) {
    Places best;
    best.count = 0;
    best.limit = t.places;
    for (uint32_t i = t.first_pad; i < t.last_pad; ++i) best.offer({0.0f, a.pad[i], SCX_NONE});
    for (uint32_t peak = t.first_peak; peak < t.last_peak; ++peak)
      best.offer({logit_of(a, gene, peak, head), a.peaks.row[a.peaks.local[peak]], peak});

    // Softmax of the scores of all places; is any unmasked score above tau?
    float top = 0.0f, sum = 0.0f;
    bool any = false;
    for (uint32_t i = 0; i < best.count; ++i) {
      const float s = sigmoid(best.list[i].logit);
      top = fmaxf(top, s);
      any = any || (best.list[i].entry != SCX_NONE && s > a.tau);
    }
    for (uint32_t i = 0; i < best.count; ++i) sum += expf(sigmoid(best.list[i].logit) - top);

    // Unmasked members, best first; the rest of the places is empty. Every place is written.
    const size_t at = size_t(gene) * a.heads + head;
    uint32_t place = 0;
    float kept = 0.0f;
    for (uint32_t i = 0; any && i < best.count; ++i) {
      if (best.list[i].entry == SCX_NONE) continue;
      const float s = sigmoid(best.list[i].logit), w = expf(s - top) / sum;
      a.member[at * a.top_k + place] = best.list[i].entry;
      a.weight[at * a.top_k + place] = w;
      a.score[at * a.top_k + place] = s;
      if (s > a.tau) kept += w;
      ++place;
    }
    for (; place < a.top_k; ++place) {
      a.member[at * a.top_k + place] = SCX_NONE;
      a.weight[at * a.top_k + place] = 0.0f;
      a.score[at * a.top_k + place] = 0.0f;
    }
    a.row_sums[at] = kept;
  }
}
