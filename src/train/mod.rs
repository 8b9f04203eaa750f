//! Training: settings and recipes, the loop, checkpoints, and runs on disk.

pub mod config;
pub mod cuda;
pub mod fit;
pub mod log;
pub mod meet;
pub mod observe;
pub mod run;
pub mod schedule;
pub mod start;
pub mod state;
pub mod steps;
pub mod tensors;
pub mod validate;
pub mod weights;

pub use config::{AUTO_BATCH, AUTO_STEPS, CisOptions, OnNan, RECIPES, TrainConfig, auto_batch, recipe};
pub use fit::{Outcome, resume, resume_on, train, train_on};
pub use log::EpochRecord;
pub use observe::{Observer, Plan, Step};
pub use run::{Checkpoint, Run};
pub use schedule::{Scaling, Schedule};
