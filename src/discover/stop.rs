//! Long tables end soon once they are asked to.

use crate::error::Result;

/// An error once it has been asked to stop.
pub(super) fn go_on() -> Result<()> {
    crate::interrupt::check(KEPT)
}

/// What is kept of a discovery that is stopped at its tables.
pub(super) const KEPT: &str = "all attention is there; the same command with --resume makes the tables";
