//! Computing on a GPU: context and streams, planned memory, kernels, the engine that trains a model there.

pub mod abi;
pub(crate) mod arena;
pub mod engine;
pub mod gpu;
pub(crate) mod pack;
pub mod tape;
pub(crate) mod workspace;

pub use engine::{Engine, Precision};
pub use gpu::Gpu;
pub use pack::Sizes;
