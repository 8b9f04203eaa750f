//! Files of our own: written whole or not at all, checked when they are read.

pub(crate) mod atomic;
pub(crate) mod bytes;
pub(crate) mod folder;
pub(crate) mod text;
