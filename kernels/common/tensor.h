// Tensor cores and asynchronous copies: the PTX instructions kernels use, and their twins on the host.
//
// Fragments are those of the PTX manual. With g = lane / 4 and t = lane % 4:
//   mma_bf16 (16 x 8 x 16): a[0..3] hold rows g, g+8, g, g+8 at columns 2t,2t+1 (0, 1) and 2t+8,2t+9 (2, 3), the lower
//     column in the lower half; b[0..1] hold column g at rows 2t,2t+1 and 2t+8,2t+9.
//   mma_tf32 (16 x 8 x 8): a[0..3] hold rows g, g+8, g, g+8 at columns t (0, 1) and t+4 (2, 3); b[0..1] hold column g
//     at rows t and t+4.
//   both: c[0..3] hold rows g, g, g+8, g+8 at columns 2t, 2t+1, 2t, 2t+1.
// All but to_tf32 and pack_bf16 and the copies are warp collectives: all 32 lanes call them together.
#pragma once

#include "cuda.h"

namespace scx {

#if !defined(SCX_HOST)

// c += a b; bf16 products, f32 sums.
__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// c += a b; tf32 products (the low 13 bits of a and b are ignored), f32 sums.
__device__ __forceinline__ void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// A float rounded to tf32: to nearest, ties away from zero.
__device__ __forceinline__ uint32_t to_tf32(float v) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(r) : "f"(v));
  return r;
}

// Two floats as bf16, `lo` in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Four 8 x 8 matrices of 16-bit items from shared memory. Lane 8 m + i gives the address of row i of matrix m (16
// bytes, 16-byte aligned); r[m] gets items 2t, 2t+1 of row g of matrix m: the fragment of a, if the matrices are its
// quarters (top left, bottom left, top right, bottom right).
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// Two matrices; lanes 0 to 15 give the rows.
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// Four matrices, each transposed: r[m] gets rows 2t, 2t+1 of column g of matrix m.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// Two matrices, each transposed.
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// Starts a copy of 16 bytes from global to shared memory, both 16-byte aligned; zeros where not `valid`, and then
// `global` is not read (but must be an address: give the start of the array).
__device__ __forceinline__ void cp_async16(void* smem, const void* global, bool valid = true) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(smem)), "l"(global), "r"(bytes)
               : "memory");
}

// The same of 4 bytes, 4-byte aligned.
__device__ __forceinline__ void cp_async4(void* smem, const void* global, bool valid = true) {
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(smem)), "l"(global), "r"(bytes)
               : "memory");
}

// Ends a group of this thread's copies.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// Waits for all but this thread's N latest groups. Other threads see the copies after a barrier.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

#else

namespace host {

struct Mma {
  float* c;
  const uint32_t* a;
  const uint32_t* b;
};

// Adds the products to c one k after the other, in f32. A product of two bf16 or tf32 is exact in f32, so that a fused
// multiply-add does not differ.
template <int K, class Load>
inline void mma_lanes(void** lanes, Load load) {
  float a[16][K], b[K][8], c[16][8];
  load(lanes, a, b);
  for (int lane = 0; lane < 32; lane++) {
    const Mma& m = *static_cast<const Mma*>(lanes[lane]);
    const int g = lane >> 2, t = lane & 3;
    c[g][2 * t] = m.c[0];
    c[g][2 * t + 1] = m.c[1];
    c[g + 8][2 * t] = m.c[2];
    c[g + 8][2 * t + 1] = m.c[3];
  }
  for (int i = 0; i < 16; i++) {
    for (int k = 0; k < K; k++) {
      for (int j = 0; j < 8; j++) c[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int lane = 0; lane < 32; lane++) {
    const Mma& m = *static_cast<const Mma*>(lanes[lane]);
    const int g = lane >> 2, t = lane & 3;
    m.c[0] = c[g][2 * t];
    m.c[1] = c[g][2 * t + 1];
    m.c[2] = c[g + 8][2 * t];
    m.c[3] = c[g + 8][2 * t + 1];
  }
}

inline void whole_warp(uint32_t lanes, const char* what) {
  if (lanes != kAllLanes) scx_host::block().fail("%s with lanes 0x%08x only", what, lanes);
}

inline void mma_bf16_lanes(void** lanes, uint32_t present) {
  whole_warp(present, "mma_bf16");
  mma_lanes<16>(lanes, [](void** lanes, float (&a)[16][16], float (&b)[16][8]) {
    auto low = [](uint32_t v) { return __uint_as_float(v << 16); };
    auto high = [](uint32_t v) { return __uint_as_float(v & 0xffff0000u); };
    for (int lane = 0; lane < 32; lane++) {
      const Mma& m = *static_cast<const Mma*>(lanes[lane]);
      const int g = lane >> 2, t = lane & 3;
      for (int r = 0; r < 4; r++) {
        a[g + 8 * (r & 1)][2 * t + 8 * (r >> 1)] = low(m.a[r]);
        a[g + 8 * (r & 1)][2 * t + 8 * (r >> 1) + 1] = high(m.a[r]);
      }
      for (int r = 0; r < 2; r++) {
        b[2 * t + 8 * r][g] = low(m.b[r]);
        b[2 * t + 8 * r + 1][g] = high(m.b[r]);
      }
    }
  });
}

inline void mma_tf32_lanes(void** lanes, uint32_t present) {
  whole_warp(present, "mma_tf32");
  mma_lanes<8>(lanes, [](void** lanes, float (&a)[16][8], float (&b)[8][8]) {
    auto tf32 = [](uint32_t v) { return __uint_as_float(v & 0xffffe000u); };
    for (int lane = 0; lane < 32; lane++) {
      const Mma& m = *static_cast<const Mma*>(lanes[lane]);
      const int g = lane >> 2, t = lane & 3;
      for (int r = 0; r < 4; r++) a[g + 8 * (r & 1)][t + 4 * (r >> 1)] = tf32(m.a[r]);
      for (int r = 0; r < 2; r++) b[t + 4 * r][g] = tf32(m.b[r]);
    }
  });
}

struct Rows {
  uint32_t* r;
  const void* row;
};

template <int MATRICES, bool TRANSPOSED>
inline void ldmatrix_lanes(void** lanes, uint32_t present) {
  whole_warp(present, "ldmatrix");
  uint16_t item[MATRICES][8][8];
  for (int i = 0; i < 8 * MATRICES; i++) {
    const void* row = static_cast<const Rows*>(lanes[i])->row;
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
      scx_host::block().fail("ldmatrix: lane %d gives a misaligned row", i);
    }
    memcpy(item[i / 8][i % 8], row, 16);
  }
  for (int lane = 0; lane < 32; lane++) {
    const int g = lane >> 2, t = lane & 3;
    for (int m = 0; m < MATRICES; m++) {
      const uint32_t low = TRANSPOSED ? item[m][2 * t][g] : item[m][g][2 * t];
      const uint32_t high = TRANSPOSED ? item[m][2 * t + 1][g] : item[m][g][2 * t + 1];
      static_cast<const Rows*>(lanes[lane])->r[m] = high << 16 | low;
    }
  }
}

}  // namespace host

__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SCX_HOST_AT) {
  host::Mma argument = {c, a, b};
  scx_host::block().collective(kAllLanes, host::mma_bf16_lanes, &argument, {"mma_bf16", file, line});
}

__device__ __forceinline__ void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SCX_HOST_AT) {
  host::Mma argument = {c, a, b};
  scx_host::block().collective(kAllLanes, host::mma_tf32_lanes, &argument, {"mma_tf32", file, line});
}

__device__ __forceinline__ uint32_t to_tf32(float v) {
  const uint32_t u = __float_as_uint(v);
  return (u & 0x7fffffffu) > 0x7f800000u ? 0x7fffffffu : (u + 0x1000u) & 0xffffe000u;
}

__device__ __forceinline__ uint32_t pack_bf16(float lo, float hi) {
  return uint32_t(scx_host::to_bf16(hi)) << 16 | scx_host::to_bf16(lo);
}

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row, SCX_HOST_AT) {
  host::Rows argument = {r, row};
  scx_host::block().collective(kAllLanes, host::ldmatrix_lanes<4, false>, &argument, {"ldmatrix_x4", file, line});
}

__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row, SCX_HOST_AT) {
  host::Rows argument = {r, row};
  scx_host::block().collective(kAllLanes, host::ldmatrix_lanes<2, false>, &argument, {"ldmatrix_x2", file, line});
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, SCX_HOST_AT) {
  host::Rows argument = {r, row};
  scx_host::block().collective(kAllLanes, host::ldmatrix_lanes<4, true>, &argument,
                               {"ldmatrix_x4_trans", file, line});
}

__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, SCX_HOST_AT) {
  host::Rows argument = {r, row};
  scx_host::block().collective(kAllLanes, host::ldmatrix_lanes<2, true>, &argument,
                               {"ldmatrix_x2_trans", file, line});
}

// Copies land when they are waited for, and their target holds NaN until then: a missing wait is always wrong.
__device__ __forceinline__ void cp_async16(void* smem, const void* global, bool valid = true, SCX_HOST_AT) {
  scx_host::block().copy_async(smem, global, 16, valid, {"cp_async16", file, line});
}

__device__ __forceinline__ void cp_async4(void* smem, const void* global, bool valid = true, SCX_HOST_AT) {
  scx_host::block().copy_async(smem, global, 4, valid, {"cp_async4", file, line});
}

__device__ __forceinline__ void cp_async_commit() { scx_host::block().commit_copies(); }

template <int N>
__device__ __forceinline__ void cp_async_wait() {
  scx_host::block().land_copies(N);
}

#endif

}  // namespace scx
