// Reductions, shared memory, votes, shuffles, atomics.
#include "common/cuda.h"

struct Sum {
  const float* x;
  float* sum;
  uint32_t n;
};

SCX_KERNEL(block_sum, Sum, 256, 0, 256, 1) {
  __shared__ float part[8];
  float v = 0.0f;
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < a.n; i += gridDim.x * blockDim.x) v += a.x[i];
  for (int delta = 16; delta > 0; delta >>= 1) v += __shfl_down_sync(0xffffffffu, v, delta);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 32) {
    v = threadIdx.x < 8 ? part[threadIdx.x] : 0.0f;
    for (int bits = 4; bits > 0; bits >>= 1) v += __shfl_xor_sync(0xffffffffu, v, bits);
    if (threadIdx.x == 0) atomicAdd(a.sum, v);
  }
}

struct Product {
  const float* x;  // m x k
  const float* y;  // k x n
  float* z;        // m x n
  uint32_t m, n, k;
};

// Tiles of 16 x 16, all of the dynamic shared memory; 64 KiB of it, more than a launch has without asking.
SCX_KERNEL(matmul, Product, 256, 65536, 16, 16) {
  float* x = reinterpret_cast<float*>(scx::dynamic_shared());
  float* y = x + 8192;
  const uint32_t row = threadIdx.x / 16, col = threadIdx.x % 16;
  const uint32_t i = blockIdx.y * 16 + row, j = blockIdx.x * 16 + col;
  float sum = 0.0f;
  for (uint32_t k0 = 0; k0 < a.k; k0 += 16) {
    x[row * 17 + col] = i < a.m && k0 + col < a.k ? a.x[i * a.k + k0 + col] : 0.0f;
    y[row * 17 + col] = j < a.n && k0 + row < a.k ? a.y[(k0 + row) * a.n + j] : 0.0f;
    __syncthreads();
#pragma unroll
    for (uint32_t k = 0; k < 16; k++) sum += x[row * 17 + k] * y[k * 17 + col];
    __syncthreads();
  }
  if (i < a.m && j < a.n) a.z[i * a.n + j] = sum;
}

struct Compact {
  const int* x;
  int* kept;
  uint32_t* count;
  uint32_t n;
};

// The positive items, in any order.
SCX_KERNEL(compact, Compact, 256, 0, 256, 1) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
  const bool keep = i < a.n && a.x[i] > 0;
  const uint32_t kept = __ballot_sync(0xffffffffu, keep);
  uint32_t base = 0;
  if (lane == 0) base = atomicAdd(a.count, __popc(kept));
  base = __shfl_sync(0xffffffffu, base, 0);
  if (keep) a.kept[base + __popc(kept & ((1u << lane) - 1))] = a.x[i];
}

struct Out {
  uint32_t* out;
};

// One warp; what each collective gives each lane.
SCX_KERNEL(collectives, Out, 32, 0, 1, 1) {
  const uint32_t lane = threadIdx.x, full = 0xffffffffu;
  uint32_t* out = a.out + lane;
  out[0 * 32] = __shfl_sync(full, lane, 5, 8);
  out[1 * 32] = __shfl_up_sync(full, lane, 3, 16);
  out[2 * 32] = __shfl_down_sync(full, lane, 2, 4);
  out[3 * 32] = __shfl_xor_sync(full, lane, 9, 16);
  out[4 * 32] = __ballot_sync(full, lane % 3 == 0);
  out[5 * 32] = __any_sync(full, lane == 31) + 2 * __all_sync(full, lane < 31);
  out[6 * 32] = __match_any_sync(full, lane / 7);
  out[7 * 32] = __reduce_add_sync(full, lane) + __reduce_max_sync(full, lane) + __reduce_min_sync(full, lane + 1);
  // The halves of a warp may go different ways.
  if (lane < 16) {
    out[8 * 32] = __shfl_xor_sync(0x0000ffffu, lane, 1);
  } else {
    out[8 * 32] = __shfl_sync(0xffff0000u, lane, 31);
  }
  out[9 * 32] = static_cast<uint32_t>(__shfl_sync(full, static_cast<unsigned long long>(lane) << 40, 7) >> 40);
  // A lane that takes no part gives nothing one may use.
  if (lane < 8) out[10 * 32] = __shfl_sync(0x000000ffu, lane, 20);
}

// Three dimensions, predicates at barriers, threads that leave early.
SCX_KERNEL(barriers, Out, 96, 0, 1, 1) {
  const uint32_t i = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int odd = __syncthreads_count(i % 2), any = __syncthreads_or(i == 95), all = __syncthreads_and(i < 95);
  if (i >= 64) return;
  __syncthreads();
  atomicMax(a.out + 4, i);
  atomicAdd(reinterpret_cast<unsigned long long*>(a.out + 6), 1ull << 32);
  if (i != 0) return;
  a.out[0] = odd;
  a.out[1] = any;
  a.out[2] = all;
  a.out[3] = blockDim.x * 10000 + blockDim.y * 100 + blockDim.z;
}

// What nobody wrote is NaN: static and dynamic shared memory.
SCX_KERNEL(unwritten, Out, 32, 128, 1, 1) {
  __shared__ float s[64];
  a.out[threadIdx.x] = __float_as_uint(s[threadIdx.x + 8 * blockIdx.x]);
  a.out[32 + threadIdx.x] = __float_as_uint(reinterpret_cast<float*>(scx::dynamic_shared())[threadIdx.x]);
  __syncthreads();
  s[threadIdx.x] = s[threadIdx.x + 32] = 1.0f;
  reinterpret_cast<float*>(scx::dynamic_shared())[threadIdx.x] = 1.0f;
}

struct Scale {
  float* x;
  float by;
  uint32_t n;
};

SCX_KERNEL(scale, Scale, 128, 0, 128, 1) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < a.n) a.x[i] *= a.by;
}

struct Loop {
  uint32_t* out;
  uint32_t times;
};

// For measuring.
SCX_KERNEL(barrier_loop, Loop, 256, 0, 1, 1) {
  for (uint32_t i = 0; i < a.times; i++) __syncthreads();
  if (threadIdx.x == 0) a.out[blockIdx.x] = 1;
}

SCX_KERNEL(shuffle_loop, Loop, 256, 0, 1, 1) {
  uint32_t v = threadIdx.x;
  for (uint32_t i = 0; i < a.times; i++) v += __shfl_xor_sync(0xffffffffu, v, 1);
  if (threadIdx.x == 0) a.out[blockIdx.x] = v;
}
