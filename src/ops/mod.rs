//! The ops of the model. Each states its contract, its shapes, its forward and its backward pass.

pub mod adam;
#[forbid(unsafe_code)]
pub mod attend;
#[forbid(unsafe_code)]
pub mod cis;
#[forbid(unsafe_code)]
pub mod linear;
#[forbid(unsafe_code)]
pub mod matmul;
#[forbid(unsafe_code)]
pub mod nodes;
pub mod pool;
pub mod project;
#[forbid(unsafe_code)]
pub mod rows;
pub mod translate;
