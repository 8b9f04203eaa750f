//! Training: settings and recipes, the loop, checkpoints, and runs on disk.

pub mod checkpoint;
mod config;
pub(crate) mod files;
mod run;

pub use config::{OnNan, RECIPES, TrainConfig, recipe};
pub use run::{Checkpoint, Run};
