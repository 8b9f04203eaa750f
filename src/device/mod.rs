//! Computing on a GPU: context and streams, planned memory, kernels, the engine that trains a model there.
//!
//! [`host`] compiles the same CUDA kernel sources for the CPU and provides a CUDA driver that runs them there, so that
//! the GPU path can be tested, and a replaced kernel checked, on a machine without a GPU.

pub mod abi;
pub(crate) mod arena;
pub mod engine;
pub mod gpu;
pub mod host;
pub(crate) mod pack;
pub mod tape;
pub(crate) mod workspace;

pub use engine::{Engine, Precision};
pub use gpu::Gpu;
pub use pack::Sizes;
