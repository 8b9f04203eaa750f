//! The command line as its users meet it: verbs, the demo, the report.

#[path = "../common/mod.rs"]
mod common;

mod cli;
mod demo;
mod docs;
mod messages;
mod reference;
mod report;
