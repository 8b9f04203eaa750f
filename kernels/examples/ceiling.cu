// What the device can do at most, measured beside a bench: copies and tensor-core products. Not part of any op.
//
// Entry points
//   ceiling_copy  out = in, 16 bytes at a time
//   ceiling_bf16  rounds x 8 products mma_bf16 a warp, nothing read: 8 * 4,096 flops each round
//   ceiling_tf32  rounds x 8 products mma_tf32 a warp: 8 * 2,048 flops each round
#include "common/abi.h"
#include "common/tensor.h"

struct CeilingArgs {
  const float4* in;
  float4* out;
  uint64_t n;  // groups of four floats
  uint32_t rounds;
  uint32_t pad;
};

namespace {

using namespace scx;

constexpr uint32_t kThreads = 256;

// Eight independent sums keep the tensor cores busy.
template <class Mma>
__device__ __forceinline__ void products(const CeilingArgs& a, Mma mma) {
  float c[8][4] = {};
  for (uint32_t i = 0; i < a.rounds; ++i) {
#pragma unroll
    for (int j = 0; j < 8; ++j) mma(c[j]);
  }
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < 8; ++j) sum += c[j][0] + c[j][1] + c[j][2] + c[j][3];
  if (sum == 1.0f) a.out[0].x = sum;  // never; keeps the sums alive
}

}  // namespace

SCX_KERNEL(ceiling_copy, CeilingArgs, kThreads, 0, kThreads, 1) {
  const uint64_t step = uint64_t(gridDim.x) * kThreads;
  for (uint64_t i = uint64_t(blockIdx.x) * kThreads + threadIdx.x; i < a.n; i += step) a.out[i] = a.in[i];
}

SCX_KERNEL(ceiling_bf16, CeilingArgs, kThreads, 0, 1, 1) {
  const uint32_t x = 0x3c003c00u + threadIdx.x;
  const uint32_t fa[4] = {x, x, x, x}, fb[2] = {x, x};
  products(a, [&](float (&c)[4]) { mma_bf16(c, fa, fb); });
}

SCX_KERNEL(ceiling_tf32, CeilingArgs, kThreads, 0, 1, 1) {
  const uint32_t x = 0x3c000000u + (threadIdx.x << 13);
  const uint32_t fa[4] = {x, x, x, x}, fb[2] = {x, x};
  products(a, [&](float (&c)[4]) { mma_tf32(c, fa, fb); });
}
