//! The numbers: golden files, gradients, properties, counted work, metrics, real data, the baseline in PyTorch.

#[path = "../common/mod.rs"]
mod common;

mod baseline;
mod golden;
mod gradients;
mod metrics;
mod profile;
mod properties;
mod real_data;
