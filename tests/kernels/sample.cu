// Sums of 128 numbers, for the tests of compilation.
#include "common/cuda.h"

struct SampleArgs {
  const __nv_bfloat16* x;
  float* sums;
  uint32_t n;
};

SCX_KERNEL(sample_sum, SampleArgs, 128, 0, 128, 1) {
  __shared__ float part[128];
  const uint32_t i = blockIdx.x * 128 + threadIdx.x;
  part[threadIdx.x] = i < a.n ? __bfloat162float(a.x[i]) : 0.0f;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0.0f;
    for (uint32_t j = 0; j < 128; ++j) sum += part[j];
    a.sums[blockIdx.x] = sum;
  }
}
