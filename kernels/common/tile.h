// Matrix fragments of the two precisions, and how they are read from shared memory; small helpers of all kernels.
//
// F32 keeps f32 in shared memory and splits each number into two TF32 parts as it loads a fragment; a product is three
// tensor-core products (big x big, big x small, small x big): accurate like f32. Bf16 keeps bf16 and needs one.
// A step covers 16 of the inner dimension in both. Shared tiles are row-major; `ld` is in elements: F32 wants
// ld % 8 == 4, Bf16 wants ld % 8 == 0 and ld % 64 != 0 (both: no bank conflicts); rows start 16-byte aligned.
//
// Lanes hold c[0..3] of a 16 x 8 accumulator at (row g, columns 2t, 2t + 1) and (row g + 8, the same columns),
// g = lane / 4, t = lane % 4.
#pragma once
#include "cuda.h"
#include "tensor.h"

namespace scx {

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

// `bytes` is a power of two.
__device__ __forceinline__ bool aligned(const void* p, uint32_t bytes) {
  return (reinterpret_cast<size_t>(p) & (bytes - 1)) == 0;
}

// The first number of from ... to that is not `below`, which all before it are, and none behind; `to` where all are.
template <class Below>
__device__ __forceinline__ uint32_t first_not(uint32_t from, uint32_t to, Below below) {
  while (from < to) {
    const uint32_t middle = (from + to) / 2;
    if (below(middle)) {
      from = middle + 1;
    } else {
      to = middle;
    }
  }
  return from;
}

// Place of x in an ascending list of n numbers, or `none`.
__device__ __forceinline__ uint32_t find(const uint32_t* list, uint32_t n, uint32_t x, uint32_t none) {
  const uint32_t at = first_not(0, n, [&](uint32_t i) { return list[i] < x; });
  return at < n && list[at] == x ? at : none;
}

// The sum of every lane's x, in a fixed order, in every lane. The whole warp calls it.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) x += __shfl_xor_sync(kAllLanes, x, bits);
  return x;
}

// The sum of every thread's x, in a fixed order. The whole block calls it; the result is in thread 0.
template <uint32_t THREADS>
__device__ __forceinline__ float block_sum(float x, float (&sums)[THREADS]) {
  sums[threadIdx.x] = x;
  __syncthreads();
  for (uint32_t half = THREADS / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  return sums[0];
}

// Four numbers that are read or written at once.
template <class E>
struct alignas(4 * sizeof(E)) Four {
  E v[4];
};

struct F32 {
  using Elem = float;
  static constexpr int kPad = 4;  // added to a multiple of 16 for ld
  struct A { uint32_t big[2][4], small[2][4]; };
  struct B { uint32_t big[2][2], small[2][2]; };

  static __device__ __forceinline__ float make(float x) { return x; }
  static __device__ __forceinline__ float value(float x) { return x; }

  // big: x rounded to TF32; small: the rest, which the tensor core cuts to TF32 (it ignores the low 13 bits). Three
  // instructions; the conversion instruction becomes six. A NaN stays one in `small`.
  static __device__ __forceinline__ void split(float x, uint32_t& big, uint32_t& small) {
    big = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
    small = __float_as_uint(x - __uint_as_float(big));
  }
  // A[m][k], 16 x 16, row-major at `tile`
  static __device__ __forceinline__ void load_a(A& f, const float* tile, int ld) {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
    for (int s = 0; s < 2; ++s)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        split(tile[(g + (i & 1) * 8) * ld + s * 8 + t + (i >> 1) * 4], f.big[s][i], f.small[s][i]);
  }
  // the same A, stored as [k][m]
  static __device__ __forceinline__ void load_a_t(A& f, const float* tile, int ld) {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
    for (int s = 0; s < 2; ++s)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        split(tile[(s * 8 + t + (i >> 1) * 4) * ld + g + (i & 1) * 8], f.big[s][i], f.small[s][i]);
  }
  // B[k][n], 16 x 8, stored as [n][k]
  static __device__ __forceinline__ void load_b(B& f, const float* tile, int ld) {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
    for (int s = 0; s < 2; ++s)
#pragma unroll
      for (int i = 0; i < 2; ++i) split(tile[g * ld + s * 8 + t + i * 4], f.big[s][i], f.small[s][i]);
  }
  // the same B, stored as [k][n]
  static __device__ __forceinline__ void load_b_t(B& f, const float* tile, int ld) {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
    for (int s = 0; s < 2; ++s)
#pragma unroll
      for (int i = 0; i < 2; ++i) split(tile[(s * 8 + t + i * 4) * ld + g], f.big[s][i], f.small[s][i]);
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const A& a, const B& b) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      mma_tf32(c, a.small[s], b.big[s]);
      mma_tf32(c, a.big[s], b.small[s]);
      mma_tf32(c, a.big[s], b.big[s]);
    }
  }
};

struct Bf16 {
  using Elem = __nv_bfloat16;
  static constexpr int kPad = 8;
  struct A { uint32_t r[4]; };
  struct B { uint32_t r[2]; };

  static __device__ __forceinline__ __nv_bfloat16 make(float x) { return __float2bfloat16_rn(x); }
  static __device__ __forceinline__ float value(__nv_bfloat16 x) { return __bfloat162float(x); }

  static __device__ __forceinline__ void load_a(A& f, const __nv_bfloat16* tile, int ld) {
    const int lane = threadIdx.x & 31;
    ldmatrix_x4(f.r, tile + (lane & 15) * ld + (lane >> 4) * 8);
  }
  static __device__ __forceinline__ void load_a_t(A& f, const __nv_bfloat16* tile, int ld) {
    const int lane = threadIdx.x & 31;
    ldmatrix_x4_trans(f.r, tile + ((lane & 7) + (lane >> 4) * 8) * ld + ((lane >> 3) & 1) * 8);
  }
  static __device__ __forceinline__ void load_b(B& f, const __nv_bfloat16* tile, int ld) {
    const int lane = threadIdx.x & 31;
    ldmatrix_x2(f.r, tile + (lane & 7) * ld + ((lane >> 3) & 1) * 8);
  }
  static __device__ __forceinline__ void load_b_t(B& f, const __nv_bfloat16* tile, int ld) {
    const int lane = threadIdx.x & 31;
    ldmatrix_x2_trans(f.r, tile + (lane & 15) * ld);
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const A& a, const B& b) { mma_bf16(c, a.r, b.r); }
};

}  // namespace scx
