//! (see submodules)
