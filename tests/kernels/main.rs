//! CUDA kernels without a GPU: what the build made of them, the driver that runs them on the CPU, and the verb `kernels`.

#[path = "../common/mod.rs"]
mod common;

mod build_kernels;
mod host_runtime;
mod kernels_cli;
