//! Training: settings and recipes, the loop, checkpoints, and runs on disk.

mod config;

pub use config::{OnNan, RECIPES, TrainConfig, recipe};
