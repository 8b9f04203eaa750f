// Kernels with mistakes that a test run must notice. `fixed` not 0 mends them.
#include "common/cuda.h"

struct Out {
  float* out;
  uint32_t fixed;
};

// A block turns 64 numbers around in shared memory, but does not wait for the writers.
SCX_KERNEL(missing_barrier, Out, 64, 0, 1, 1) {
  __shared__ float s[64];
  s[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (a.fixed != 0) __syncthreads();
  a.out[threadIdx.x] = s[63 - threadIdx.x];
}

// Lanes of a warp do the same without __syncwarp.
SCX_KERNEL(missing_syncwarp, Out, 32, 0, 1, 1) {
  __shared__ float s[32];
  s[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (a.fixed != 0) __syncwarp();
  a.out[threadIdx.x] = s[31 - threadIdx.x];
}

// Half the block goes to another barrier.
SCX_KERNEL(divergent_barrier, Out, 64, 0, 1, 1) {
  if (threadIdx.x < 32 || a.fixed != 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  a.out[threadIdx.x] = 1.0f;
}

// Half the block goes to no barrier, but waits in a collective for lanes that are at the barrier.
SCX_KERNEL(unreached_barrier, Out, 32, 0, 1, 1) {
  if (threadIdx.x < 16 || a.fixed != 0) __syncthreads();  // the mistake: unreached
  if (threadIdx.x >= 16) __syncwarp();
  if (threadIdx.x < 16 && a.fixed != 0) __syncwarp();
  a.out[threadIdx.x] = 1.0f;
}

// Lanes of one warp call different shuffles.
SCX_KERNEL(mixed_collectives, Out, 32, 0, 1, 1) {
  float v = static_cast<float>(threadIdx.x);
  if (threadIdx.x < 16 || a.fixed != 0) {
    v = __shfl_xor_sync(0xffffffffu, v, 1);
  } else {
    v = __shfl_down_sync(0xffffffffu, v, 1);
  }
  a.out[threadIdx.x] = v;
}

SCX_KERNEL(own_mask, Out, 32, 0, 1, 1) {
  a.out[threadIdx.x] = __shfl_sync(a.fixed != 0 ? 0xffffffffu : 0x7fffffffu, 1.0f, 0);
}

SCX_KERNEL(behind_shared, Out, 32, 64, 1, 1) {
  float* s = reinterpret_cast<float*>(scx::dynamic_shared());
  if (a.fixed == 0 || threadIdx.x < 16) s[threadIdx.x] = 1.0f;  // the mistake: dynamic
  a.out[threadIdx.x] = 1.0f;
}

// Writes 64 numbers and one more.
SCX_KERNEL(behind_global, Out, 128, 0, 1, 1) {
  if (threadIdx.x < (a.fixed != 0 ? 64 : 65)) {
    a.out[threadIdx.x] = 1.0f;  // the mistake: global
  }
}

// Reads one number behind an array in static shared memory.
SCX_KERNEL(behind_static, Out, 64, 0, 1, 1) {
  __shared__ float s[64];
  s[threadIdx.x] = 1.0f;
  __syncthreads();
  a.out[threadIdx.x] = s[threadIdx.x + (a.fixed != 0 ? 0 : 1)];  // the mistake: static
}

// Reads four numbers at once where they are not aligned: a fault on a device, not on this CPU.
SCX_KERNEL(misaligned, Out, 32, 0, 1, 1) {
  const float* from = a.out + (a.fixed != 0 ? 4 : 5);
  const float4 v = *reinterpret_cast<const float4*>(from);  // the mistake: vector
  a.out[threadIdx.x == 0 ? 0 : 1] = v.x;
}

SCX_KERNEL(wild_pointer, Out, 32, 0, 1, 1) {
  float* out = a.fixed != 0 || threadIdx.x != 7 ? a.out : nullptr;
  out[threadIdx.x] = 1.0f;
}

SCX_KERNEL(division_by_zero, Out, 32, 0, 1, 1) {
  a.out[threadIdx.x] = static_cast<float>(100u / (threadIdx.x + a.fixed));
}

// More than a fiber's stack holds.
SCX_KERNEL(deep_stack, Out, 32, 0, 1, 1) {
  volatile float local[100000];
  const uint32_t step = a.fixed != 0 ? 1000000 : 100;
  for (uint32_t i = 0; i < 100000; i += step) local[99999 - i] = 1.0f;
  a.out[threadIdx.x] = local[99999];
}
