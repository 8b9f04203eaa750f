// Feature rows of a side, read four columns at a time.
//
// A quad is columns at .. at + 3 of a row of `width`, zeros past its end: four floats, or four base codes as the bytes of a
// word, the first lowest. Which reader fits depends on the row and on what else the kernel needs registers for:
//   quad_whole   one read: quad_rows holds, and `at` is a multiple of 4
//   quad_apart   a read a column, all under way together
//   quad_rolled  a read a column, one after the other: fewest registers
#pragma once
#include "abi.h"
#include "tile.h"

namespace scx {

// Numbers of a feature row: [E | value | one-hot chromosome | extra].
__device__ __forceinline__ uint32_t width_of(const Side& s) { return s.dim + 1 + s.chromosomes + s.extra; }

// Whether rows of `width` floats (codes) from p on can be read in quads.
__device__ __forceinline__ bool quad_rows(const float* p, uint32_t width) { return width % 4 == 0 && aligned(p, 16); }
__device__ __forceinline__ bool quad_rows(const uint8_t* p, uint32_t width) { return width % 4 == 0 && aligned(p, 4); }

__device__ __forceinline__ float4 quad_whole(const float* row, uint32_t at, uint32_t width) {
  float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (at < width) v = *reinterpret_cast<const float4*>(row + at);
  return v;
}
__device__ __forceinline__ uint32_t quad_whole(const uint8_t* row, uint32_t at, uint32_t width) {
  uint32_t codes = 0;
  if (at < width) codes = *reinterpret_cast<const uint32_t*>(row + at);
  return codes;
}

__device__ __forceinline__ float4 quad_apart(const float* row, uint32_t at, uint32_t width) {
  float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (at < width) v.x = row[at];
  if (at + 1 < width) v.y = row[at + 1];
  if (at + 2 < width) v.z = row[at + 2];
  if (at + 3 < width) v.w = row[at + 3];
  return v;
}
__device__ __forceinline__ uint32_t quad_apart(const uint8_t* row, uint32_t at, uint32_t width) {
  uint32_t codes = 0;
  if (at < width) codes = row[at];
  if (at + 1 < width) codes |= uint32_t(row[at + 1]) << 8;
  if (at + 2 < width) codes |= uint32_t(row[at + 2]) << 16;
  if (at + 3 < width) codes |= uint32_t(row[at + 3]) << 24;
  return codes;
}

__device__ __forceinline__ float4 quad_rolled(const float* row, uint32_t at, uint32_t width) {
  float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 1
  for (uint32_t k = at; k < at + 4; ++k) v = make_float4(v.y, v.z, v.w, k < width ? row[k] : 0.0f);
  return v;
}
__device__ __forceinline__ uint32_t quad_rolled(const uint8_t* row, uint32_t at, uint32_t width) {
  uint32_t codes = 0;
#pragma unroll 1
  for (uint32_t k = at; k < at + 4; ++k) codes = codes >> 8 | (k < width ? uint32_t(row[k]) << 24 : 0);
  return codes;
}

}  // namespace scx
