//! The ops of the model. Each states its contract, its shapes, its forward and its backward pass.

pub mod adam;
#[forbid(unsafe_code)]
pub mod attend;
#[forbid(unsafe_code)]
pub mod cis;
#[forbid(unsafe_code)]
pub mod contrast;
#[forbid(unsafe_code)]
pub mod head;
#[forbid(unsafe_code)]
pub mod losses;
#[forbid(unsafe_code)]
pub mod matmul;
pub mod pool;
pub mod project;
#[forbid(unsafe_code)]
pub mod rows;
pub mod translate;
