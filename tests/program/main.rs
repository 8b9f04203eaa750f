//! The command line as its users meet it: verbs, the demo, the report.

#[path = "../common/mod.rs"]
mod common;

mod check;
mod cli;
mod demo;
mod docs;
mod help;
mod messages;
mod reference;
mod region;
mod report;
