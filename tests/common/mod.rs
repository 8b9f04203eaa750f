//! What the integration tests share; each test program mounts it once.
#![allow(dead_code)] // each uses its own part

pub mod compare;
pub mod forms;
pub mod golden;
pub mod parsers;
pub mod program;
pub mod python;
pub mod runs;
pub mod tiny;
pub mod toy;
