//! What computing on a GPU rests on: context and streams, planned memory, kernels, programs of launches. It knows no op:
//! `op` says what one is, and the rest works on lists of them.
//!
//! [`kernels`] holds the kernels that come with the program and compiles others at run time. [`host`] compiles the same
//! CUDA sources for the CPU and provides a CUDA driver that runs them there, so that the GPU path can be tested, and a
//! replaced kernel checked, on a machine without a GPU.

pub mod abi;
pub(crate) mod arena;
#[cfg(feature = "cust")]
pub mod cust;
pub(crate) mod frame;
pub mod gpu;
#[cfg(test)] // the build script's; here for its tests
mod header;
pub mod host;
pub mod image;
pub mod kernels;
pub(crate) mod nvrtc;
#[forbid(unsafe_code)]
pub(crate) mod op;
pub mod program;
#[forbid(unsafe_code)]
pub(crate) mod region;
#[forbid(unsafe_code)]
pub(crate) mod sink;
pub(crate) mod slot;
#[allow(dead_code)] // half of it is the build script's
pub(crate) mod toolchain;
#[forbid(unsafe_code)]
pub(crate) mod view;
pub(crate) mod workspace;

pub use gpu::Gpu;
pub use nvrtc::Nvrtc;
pub use slot::BatchSizes;
pub use toolchain::{Resource, TARGETS};
