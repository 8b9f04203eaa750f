//! The ops of the model. Each states its contract, its shapes, its forward and its backward pass.

pub mod adam;
