//! The device side: kernels that come with the program, and compilation of others at run time.

pub mod kernels;
mod nvrtc;
#[allow(dead_code)] // half of it is the build script's
mod toolchain;

#[cfg(feature = "cust")]
pub mod cust;
