//! Training: its options, stop and resume, weights in and out.

#[path = "../common/mod.rs"]
mod common;

mod resume;
mod towers;
mod train_options;
mod weights;
