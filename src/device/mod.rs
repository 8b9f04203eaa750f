//! What computing on a GPU rests on: context and streams, planned memory, kernels, programs of launches. It knows no op:
//! [`op`] says what one is, and the rest works on lists of them.
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
pub mod image;
pub mod kernels;
pub mod nvrtc;
#[forbid(unsafe_code)]
pub mod op;
pub mod program;
#[forbid(unsafe_code)]
pub mod region;
#[forbid(unsafe_code)]
pub mod sink;
pub mod slot;
#[allow(dead_code)] // half of it is the build script's
pub mod toolchain;
#[forbid(unsafe_code)]
pub mod view;
pub mod workspace;

pub use gpu::Gpu;
pub use nvrtc::Nvrtc;
pub use slot::BatchSizes;
pub use toolchain::{Resource, TARGETS};
