//! Parity: the kernels of an op against the op on the CPU.
//!
//! A training step of small models runs pass by pass on the device ([`check()`]). What a pass of the op has written is
//! compared with the CPU op in f64, computed from the very inputs that the pass has read, so that errors of other ops do
//! not matter. All memory is looked at: what a pass must not write must be as before, and what it must write is NaN
//! before. Everything runs twice, on a host with threads in another order, and must give the same bits.
//!
//! Errors are relative to the largest magnitude of a tensor. Choices (places of the attention, scores above the
//! threshold, genes predicted on) are the device's; they may differ from the CPU's only where the logits that decide are
//! nearer to each other, or to the threshold, than 1e-5 (`f32`) or 2⁻⁸ (`bf16`) of |q| |k|. In `bf16`,
//! a product may be wrong by 2 times (gradients 3 times) what comes of rounding its operands, or that share of 2⁻⁹; else by
//! 1e-4, and the gradients of the translation by 2⁻²³ |q| |k| where that is more.

pub(crate) mod bench;
#[forbid(unsafe_code)]
pub(crate) mod cases;
#[forbid(unsafe_code)]
pub(crate) mod check;
#[forbid(unsafe_code)]
pub(crate) mod report;
#[forbid(unsafe_code)]
pub(crate) mod trust;

pub use check::{check, check_ops};
pub use report::{Cases, CheckReport};

pub use crate::device::sink::Row;
