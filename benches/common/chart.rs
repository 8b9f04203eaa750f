//! Pictures of measurements.

use std::path::{Path, PathBuf};

use sccrossrec::Result;

pub fn plot(_out: &Path, _csv: &[PathBuf]) -> Result<()> {
    Ok(())
}
