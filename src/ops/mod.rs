//! The ops of the model. Each states its contract, its shapes, its forward and its backward pass.

pub mod adam;
pub mod attend;
pub mod cis;
pub mod linear;
pub mod matmul;
pub mod nodes;
pub mod pool;
pub mod project;
pub mod rows;
pub mod translate;
