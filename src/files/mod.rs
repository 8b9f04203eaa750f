//! Files of our own: written whole or not at all, checked when they are read.

pub mod atomic;
pub mod bytes;
pub mod folder;
pub mod text;
