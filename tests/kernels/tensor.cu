// Tensor-core products and asynchronous copies.
#include "common/cuda.h"
#include "common/tensor.h"

struct Product {
  const void* x;  // m x k, row by row
  const void* y;  // n x k, row by row: the product is x times y transposed
  float* z;       // m x n
  uint32_t m, n, k, wait;
};

// One warp a 16 x 8 tile; a pipeline of two stages of shared memory. m, n, k are multiples of 16, 8, 16. `wait` 0
// leaves the wait out.
SCX_KERNEL(product_bf16, Product, 32, 1536, 16, 8) {
  const uint32_t lane = threadIdx.x, row = blockIdx.y * 16, col = blockIdx.x * 8;
  auto* shared = reinterpret_cast<__nv_bfloat16*>(scx::dynamic_shared());
  auto* gx = static_cast<const __nv_bfloat16*>(a.x);
  auto* gy = static_cast<const __nv_bfloat16*>(a.y);
  auto stage = [&](uint32_t k0) {
    __nv_bfloat16* x = shared + k0 / 16 % 2 * 384;
    __nv_bfloat16* y = x + 256;
    const uint32_t r = lane / 2, half = lane % 2 * 8;
    scx::cp_async16(x + r * 16 + half, gx + (row + r) * a.k + k0 + half);
    scx::cp_async16(y + r % 8 * 16 + half, gy + (col + r % 8) * a.k + k0 + half);
    scx::cp_async_commit();
  };
  float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  stage(0);
  for (uint32_t k0 = 0; k0 < a.k; k0 += 16) {
    if (k0 + 16 < a.k) {
      stage(k0 + 16);
      if (a.wait != 0) scx::cp_async_wait<1>();
    } else if (a.wait != 0) {
      scx::cp_async_wait<0>();
    }
    __syncthreads();
    const __nv_bfloat16* x = shared + k0 / 16 % 2 * 384;
    const __nv_bfloat16* y = x + 256;
    uint32_t fa[4], fb[2];
    scx::ldmatrix_x4(fa, x + lane % 16 * 16 + lane / 16 * 8);
    scx::ldmatrix_x2(fb, y + lane % 8 * 16 + lane / 8 % 2 * 8);
    scx::mma_bf16(c, fa, fb);
    __syncthreads();
  }
  const uint32_t g = lane / 4, t = lane % 4;
  float* z = a.z + (row + g) * a.n + col + 2 * t;
  z[0] = c[0];
  z[1] = c[1];
  z[8 * a.n] = c[2];
  z[8 * a.n + 1] = c[3];
}

// k is a multiple of 8; rows past m and n are not read.
SCX_KERNEL(product_tf32, Product, 32, 768, 16, 8) {
  const uint32_t lane = threadIdx.x, row = blockIdx.y * 16, col = blockIdx.x * 8;
  float* x = reinterpret_cast<float*>(scx::dynamic_shared());
  float* y = x + 128;
  auto* gx = static_cast<const float*>(a.x);
  auto* gy = static_cast<const float*>(a.y);
  const uint32_t g = lane / 4, t = lane % 4;
  float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (uint32_t k0 = 0; k0 < a.k; k0 += 8) {
    for (uint32_t i = lane; i < 128; i += 32) {
      const bool valid = row + i / 8 < a.m;
      scx::cp_async4(x + i, valid ? gx + (row + i / 8) * a.k + k0 + i % 8 : gx, valid);
    }
    for (uint32_t i = lane; i < 64; i += 32) {
      const bool valid = col + i / 8 < a.n;
      scx::cp_async4(y + i, valid ? gy + (col + i / 8) * a.k + k0 + i % 8 : gy, valid);
    }
    scx::cp_async_commit();
    scx::cp_async_wait<0>();
    __syncthreads();
    const uint32_t fa[4] = {scx::to_tf32(x[g * 8 + t]), scx::to_tf32(x[(g + 8) * 8 + t]),
                            scx::to_tf32(x[g * 8 + t + 4]), scx::to_tf32(x[(g + 8) * 8 + t + 4])};
    const uint32_t fb[2] = {scx::to_tf32(y[g * 8 + t]), scx::to_tf32(y[g * 8 + t + 4])};
    scx::mma_tf32(c, fa, fb);
    __syncthreads();
  }
  for (uint32_t r = 0; r < 4; r++) {
    const uint32_t i = row + g + r / 2 * 8, j = col + 2 * t + r % 2;
    if (i < a.m && j < a.n) a.z[i * a.n + j] = c[r];
  }
}

struct Convert {
  const float* x;
  uint32_t* out;  // bf16 pairs (x, -x), tf32, and what transposed loads give, 4 x 32
  uint32_t n;
};

SCX_KERNEL(convert, Convert, 32, 512, 1, 1) {
  for (uint32_t i = threadIdx.x; i < a.n; i += 32) {
    a.out[i] = scx::pack_bf16(a.x[i], -a.x[i]);
    a.out[a.n + i] = scx::to_tf32(a.x[i]);
  }
  // A 16 x 16 matrix of the numbers 0 to 255.
  auto* items = reinterpret_cast<unsigned short*>(scx::dynamic_shared());
  for (uint32_t i = threadIdx.x; i < 256; i += 32) items[i] = static_cast<unsigned short>(i);
  __syncwarp();
  uint32_t r[4];
  scx::ldmatrix_x4_trans(r, items + threadIdx.x % 16 * 16 + threadIdx.x / 16 * 8);
  for (uint32_t m = 0; m < 4; m++) a.out[2 * a.n + m * 32 + threadIdx.x] = r[m];
}
