//! Computing on a GPU: context and streams, planned memory, kernels, the engine that trains a model there.
//!
//! [`kernels`] holds the kernels that come with the program and compiles others at run time. [`host`] compiles the same
//! CUDA sources for the CPU and provides a CUDA driver that runs them there, so that the GPU path can be tested, and a
//! replaced kernel checked, on a machine without a GPU.

pub mod abi;
pub(crate) mod arena;
pub mod bench;
pub mod check;
#[cfg(feature = "cust")]
pub mod cust;
pub mod engine;
pub mod gpu;
pub mod host;
pub mod kernels;
mod nvrtc;
pub(crate) mod pack;
pub mod registry;
pub mod select;
pub mod tape;
#[allow(dead_code)] // half of it is the build script's
mod toolchain;
pub mod trust;
pub(crate) mod workspace;

pub use engine::{Engine, Precision};
pub use gpu::Gpu;
pub use pack::Sizes;
pub use select::{CudaDevice, Device, Runner};
