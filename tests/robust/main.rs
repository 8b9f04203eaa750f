//! What may go wrong: damaged and malformed inputs, what is no number, kills, signals, full disks.

#[path = "../common/mod.rs"]
mod common;

mod damaged;
mod finite;
mod interrupted;
#[cfg(unix)]
mod kept;
#[cfg(unix)]
mod killed;
mod malformed;
