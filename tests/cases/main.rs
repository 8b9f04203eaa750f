//! What real files, real names and real slips do: small inputs of every kind that went wrong elsewhere, each with its right
//! result, which is that of the same data in their plain form.

#[path = "../common/mod.rs"]
mod common;

mod base;
mod files;
mod kept;
mod names;
mod places;
mod tables;
