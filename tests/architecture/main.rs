//! What the sources themselves must keep to: the order of layers, sizes, citations, where `unsafe` is.

mod unsafe_code;
