//! What the integration tests share.
#![allow(dead_code)] // each test program uses its own part

pub mod forms;
pub mod python;
pub mod toy;
