//! The GPU, and what stands in for it.
//!
//! [`host`] compiles the same CUDA kernel sources for the CPU and provides a CUDA driver that runs them there, so that
//! the GPU path can be tested, and a replaced kernel checked, on a machine without a GPU.

pub mod host;
