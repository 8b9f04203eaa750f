// Products of matrices, tile by tile: the parts, and three ways to put them together.
//
// A block owns a tile of C = A B, M x N, and walks the inner dimension in steps of K. The numbers of a step go from global
// memory to registers (Quads, Singles) and from there to shared tiles (Layout), which warps multiply (step). The next
// step's numbers are on their way while this one is multiplied.
//   product_by_tile   warps share the tile, two buffers: for tiles that keep all warps busy
//   product_by_inner  warps share the inner dimension, one buffer, sums added at the end: for small tiles, few blocks
//   product_plain     without tensor cores: small products in f32
// Each of them adds in one order, whatever the grid: the same bits every time. `translate` has its own, which keep one
// side in registers or make it of bits.
#pragma once
#include "tile.h"

namespace scx {

// A block's tile of C, and the step along the inner dimension.
template <int THREADS, int M, int N, int K>
struct Tile {
  static constexpr int kThreads = THREADS, kM = M, kN = N, kK = K;
  static constexpr int kWarps = THREADS / 32;
};

// Shared tiles of A (M x K) and B (N x K): row-major, or k-major where AT, BT. No bank conflicts: row-major with kPad; F32
// reads k-major tiles with ld % 16 == 8.
template <class P, class T, bool AT, bool BT>
struct Layout {
  static constexpr int kLda = AT ? T::kM + 8 : T::kK + P::kPad;
  static constexpr int kLdb = BT ? T::kN + 8 : T::kK + P::kPad;
  static constexpr int kA = (AT ? T::kK : T::kM) * kLda;  // elements
  static constexpr int kB = (BT ? T::kK : T::kN) * kLdb;
  static constexpr int kBytes = (kA + kB) * int(sizeof(typename P::Elem));
};

// ---------------------------------------------------------------- from global memory to a tile

// What Quads stores of a quad where it stays as it was read.
struct AsRead {
  __device__ __forceinline__ float4 operator()(uint32_t, float4 x) const { return x; }
};

// A tile of ROWS rows of 4 * QUADS elements on its way to shared memory. get(step, i, row, column) gives the quad from
// `column` on; i is its number within the thread. finish(step, quad) is what is stored of it: what takes time after the
// read belongs there, so that nothing waits for it while the tiles before are multiplied.
template <class P, int THREADS, int ROWS, int QUADS, int LD>
struct Quads {
  static constexpr int kCount = ROWS * QUADS / THREADS;
  float4 v[kCount];

  template <class Get>
  __device__ __forceinline__ void load(uint32_t step, Get get) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int item = i * THREADS + int(threadIdx.x);
      v[i] = get(step, i, item / QUADS, item % QUADS * 4);
    }
  }
  template <class Finish>
  __device__ __forceinline__ void store(typename P::Elem* tile, uint32_t step, Finish finish) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int item = i * THREADS + int(threadIdx.x);
      const float4 x = finish(step, v[i]);
      Four<typename P::Elem> f;
      f.v[0] = P::make(x.x), f.v[1] = P::make(x.y), f.v[2] = P::make(x.z), f.v[3] = P::make(x.w);
      *reinterpret_cast<Four<typename P::Elem>*>(tile + item / QUADS * LD + item % QUADS * 4) = f;
    }
  }
};

// Where the numbers of a tile come from: rows of a matrix.
struct Source {
  const float* from;       // the tile's first number
  uint32_t stride;         // of the matrix
  uint32_t rows, columns;  // of the tile that exist; the others are 0
};

// The same number by number, for a matrix whose rows are not aligned: a warp loads consecutive columns. get(step) gives
// the Source.
template <class P, int THREADS, int ROWS, int COLUMNS, int LD>
struct Singles {
  static constexpr int kCount = ROWS * COLUMNS / THREADS, kApart = THREADS / COLUMNS;
  float v[kCount];

  // This thread's numbers of its column: those of the first `rows` rows; `from` is the first of them.
  __device__ __forceinline__ void read(const float* from, uint32_t stride, uint32_t rows) {
    const uint32_t row = threadIdx.x / COLUMNS;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      v[i] = row + i * kApart < rows ? *from : 0.0f;
      from += kApart * stride;
    }
  }
  template <class Get>
  __device__ __forceinline__ void load(uint32_t step, Get get) {
    const Source s = get(step);
    const uint32_t row = threadIdx.x / COLUMNS, column = threadIdx.x % COLUMNS;
    read(s.from + size_t(row) * s.stride + column, s.stride, column < s.columns ? s.rows : 0);
  }
  template <class Finish>
  __device__ __forceinline__ void store(typename P::Elem* tile, uint32_t, Finish) const {
    tile += threadIdx.x / COLUMNS * LD + threadIdx.x % COLUMNS;
#pragma unroll
    for (int i = 0; i < kCount; ++i) tile[i * kApart * LD] = P::make(v[i]);
  }
};

// ---------------------------------------------------------------- the products

// c += A B over 16 of the inner dimension, for the MT x NT tiles of 16 x 8 of a warp; `a` and `b` are where they begin.
template <class P, bool AT, bool BT, int MT, int NT>
__device__ __forceinline__ void step(float (&c)[MT][NT][4], const typename P::Elem* a, int lda,
                                     const typename P::Elem* b, int ldb) {
  typename P::A fa[MT];
#pragma unroll
  for (int i = 0; i < MT; ++i) {
    if (AT) {
      P::load_a_t(fa[i], a + i * 16, lda);
    } else {
      P::load_a(fa[i], a + i * 16 * lda, lda);
    }
  }
#pragma unroll
  for (int j = 0; j < NT; ++j) {
    typename P::B fb;
    if (BT) {
      P::load_b_t(fb, b + j * 8, ldb);
    } else {
      P::load_b(fb, b + j * 8 * ldb, ldb);
    }
#pragma unroll
    for (int i = 0; i < MT; ++i) P::mma(c[i][j], fa[i], fb);
  }
}

// First row and column of this warp's 32 x 32 of the tile, in product_by_tile.
template <class T>
__device__ __forceinline__ int warp_m() {
  return int(threadIdx.x / 32 / (T::kN / 32)) * 32;
}
template <class T>
__device__ __forceinline__ int warp_n() {
  return int(threadIdx.x / 32 % (T::kN / 32)) * 32;
}

// c += sum over `steps` (>= 1) of A B, a warp 32 x 32 of it. StageA and StageB are Quads or Singles with their get and
// finish. Takes two buffers, 2 Layout::kBytes of dynamic shared memory; one barrier a step. All threads of the block take
// part.
template <class P, class T, bool AT, bool BT, class StageA, class StageB, class GetA, class GetB, class FinishA,
          class FinishB>
__device__ __forceinline__ void product_by_tile(float (&c)[2][4][4], uint32_t steps, GetA get_a, GetB get_b,
                                                FinishA finish_a, FinishB finish_b) {
  static_assert(T::kWarps == T::kM / 32 * (T::kN / 32), "a warp has 32 x 32");
  using L = Layout<P, T, AT, BT>;
  auto* const shared_a = reinterpret_cast<typename P::Elem*>(dynamic_shared());
  auto* const shared_b = shared_a + 2 * L::kA;
  StageA stage_a;
  StageB stage_b;
#pragma unroll 1
  for (uint32_t now = 0; now <= steps; ++now) {  // one round more than there are steps
    const uint32_t own = now & 1, other = own ^ 1;
    if (now < steps) {
      stage_a.load(now, get_a);
      stage_b.load(now, get_b);
    }
    if (now > 0) {
      const int m = warp_m<T>(), n = warp_n<T>();
      const typename P::Elem* const a = shared_a + other * L::kA;
      const typename P::Elem* const b = shared_b + other * L::kB;
#pragma unroll
      for (int k = 0; k < T::kK; k += 16) {
        step<P, AT, BT>(c, AT ? a + k * L::kLda + m : a + m * L::kLda + k, L::kLda,
                        BT ? b + k * L::kLdb + n : b + n * L::kLdb + k, L::kLdb);
      }
    }
    if (now < steps) {
      stage_a.store(shared_a + own * L::kA, now, finish_a);
      stage_b.store(shared_b + own * L::kB, now, finish_b);
      __syncthreads();
    }
  }
}

// For the pairs of its accumulators: add(row, column, x0, x1), which may add to them, then put(row, column, x0, x1). Places
// are within the tile; column is even. Sixteen rows' reads come before their writes: one that waits for a write before it
// would wait for all of it.
template <class T, class Add, class Put>
__device__ __forceinline__ void each_pair(float (&c)[2][4][4], Add add, Put put) {
  const int lane = int(threadIdx.x & 31), m = warp_m<T>() + lane / 4, n = warp_n<T>() + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      add(m + i * 16 + k / 4 * 8, n + k % 4 * 8, c[i][k % 4][k / 4 * 2], c[i][k % 4][k / 4 * 2 + 1]);
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      put(m + i * 16 + k / 4 * 8, n + k % 4 * 8, c[i][k % 4][k / 4 * 2], c[i][k % 4][k / 4 * 2 + 1]);
    }
  }
}

// Dynamic shared memory of product_by_inner: the tiles, then in their place the warps' sums.
template <class P, class T, bool AT, bool BT>
constexpr int inner_bytes() {
  constexpr int kSums = T::kWarps * T::kM * T::kN * int(sizeof(float));
  return Layout<P, T, AT, BT>::kBytes > kSums ? Layout<P, T, AT, BT>::kBytes : kSums;
}

// The tile (M = 16) of A B over an inner dimension of `inner`, 16 of each step a warp, then put(m, n, sum) for each of its
// places. get_a(first) and get_b(first) are of the step whose first k is `first`. seen(first, tile) is called for every step
// with the shared tile of A. All threads of the block take part.
template <class P, class T, bool AT, bool BT, class StageA, class StageB, class GetA, class GetB, class Seen, class Put>
__device__ __forceinline__ void product_by_inner(uint32_t inner, GetA get_a, GetB get_b, Seen seen, Put put) {
  static_assert(T::kM == 16 && T::kK == 16 * T::kWarps, "a warp has 16 rows and 16 of the inner dimension");
  using L = Layout<P, T, AT, BT>;
  auto* const shared_a = reinterpret_cast<typename P::Elem*>(dynamic_shared());
  auto* const shared_b = shared_a + L::kA;
  StageA stage_a;
  StageB stage_b;
  const int warp = int(threadIdx.x / 32), lane = int(threadIdx.x % 32);
  float c[1][T::kN / 8][4] = {};
#pragma unroll 1
  for (uint32_t first = 0; first < inner + T::kK; first += T::kK) {  // one round more than there are steps
    if (first < inner) {
      stage_a.load(first, get_a);
      stage_b.load(first, get_b);
    }
    if (first > 0) {
      step<P, AT, BT>(c, shared_a + warp * 16 * (AT ? L::kLda : 1), L::kLda,
                      shared_b + warp * 16 * (BT ? L::kLdb : 1), L::kLdb);
      seen(first - T::kK, shared_a);
      __syncthreads();
    }
    if (first >= inner) break;
    stage_a.store(shared_a, first, AsRead());
    stage_b.store(shared_b, first, AsRead());
    __syncthreads();
  }
  float* const sums = reinterpret_cast<float*>(shared_a);  // [warp][M][N]
#pragma unroll
  for (int j = 0; j < T::kN / 8; ++j)
#pragma unroll
    for (int k = 0; k < 4; ++k)
      sums[(warp * T::kM + lane / 4 + k / 2 * 8) * T::kN + j * 8 + lane % 4 * 2 + k % 2] = c[0][j][k];
  __syncthreads();
  constexpr uint32_t kItems = T::kM * T::kN;
#pragma unroll
  for (uint32_t i = 0; i < kItems / T::kThreads; ++i) {
    const uint32_t item = i * T::kThreads + threadIdx.x;
    float sum = sums[item];
#pragma unroll
    for (uint32_t w = 1; w < uint32_t(T::kWarps); ++w) sum += sums[w * kItems + item];
    put(item / T::kN, item % T::kN, sum);
  }
}

// sum[j] += product of row threadIdx.x / N + j * (threads / N) and column threadIdx.x % N of a tile of N x N, in the order of
// the inner dimension; left(m, k) and right(k, n) give the factors within the tile, 0 outside the matrices. All threads of
// the block take part.
template <uint32_t N, uint32_t OWN, class Left, class Right>
__device__ __forceinline__ void product_plain(float (&sum)[OWN], uint32_t inner, Left left, Right right) {
  constexpr uint32_t kRows = N / OWN;  // rows that a thread's sums are apart
  __shared__ float x[N][N + 1], y[N][N + 1];
  const uint32_t row = threadIdx.x / N, column = threadIdx.x % N;
  for (uint32_t first = 0; first < inner; first += N) {
#pragma unroll
    for (uint32_t j = 0; j < OWN; ++j) {
      x[row + j * kRows][column] = first + column < inner ? left(row + j * kRows, first + column) : 0.0f;
      y[row + j * kRows][column] = first + row + j * kRows < inner ? right(first + row + j * kRows, column) : 0.0f;
    }
    __syncthreads();
#pragma unroll 8
    for (uint32_t k = 0; k < N; ++k) {
#pragma unroll
      for (uint32_t j = 0; j < OWN; ++j) sum[j] += x[row + j * kRows][k] * y[k][column];
    }
    __syncthreads();
  }
}

}  // namespace scx
