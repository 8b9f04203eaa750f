//! What the sources themselves keep to: imports that run down, sizes, citations, and where `unsafe` is.

mod citations;
mod layers;
mod sizes;
mod source;
mod surface;
mod unsafe_code;
