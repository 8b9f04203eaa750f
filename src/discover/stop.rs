//! Long tables end soon once they are asked to.

use super::evidence::KEPT;
use crate::error::Result;

/// An error once it has been asked to stop.
pub(super) fn go_on() -> Result<()> {
    crate::interrupt::check(KEPT)
}
