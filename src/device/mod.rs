//! Computing on a GPU: context and streams, planned memory, kernels, the engine that trains a model there.
//!
//! [`kernels`] holds the kernels that come with the program and compiles others at run time. [`host`] compiles the same
//! CUDA sources for the CPU and provides a CUDA driver that runs them there, so that the GPU path can be tested, and a
//! replaced kernel checked, on a machine without a GPU.

pub mod abi;
pub mod arena;
#[cfg(feature = "cust")]
pub mod cust;
pub mod frame;
pub mod gpu;
#[cfg(test)] // the build script's; here for its tests
mod header;
pub mod host;
pub mod kernels;
pub mod nvrtc;
pub mod program;
pub mod registry;
pub mod slot;
#[allow(dead_code)] // half of it is the build script's
pub mod toolchain;
pub mod workspace;

pub use gpu::Gpu;
pub use nvrtc::Nvrtc;
pub use slot::Sizes;
pub use toolchain::{Resource, TARGETS};
