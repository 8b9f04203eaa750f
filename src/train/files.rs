//! Files that are whole or not there: written to a temporary name in their folder, synced, renamed, folder synced.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::graph::files::beside;

/// Removes the temporary file unless it was renamed away.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Already renamed in the usual case; and nothing can be done about one that does not go away.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes `path` through `fill`. After an error or a crash the old file, if any, is as it was.
pub(crate) fn write_atomic(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    let temporary = Temporary(beside(path, "tmp")?);
    let file = File::create(&temporary.0).map_err(|e| Error::io(path, "create", e))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    fill(&mut out).map_err(|e| Error::io(path, "write", e))?;
    let file = out.into_inner().map_err(|e| Error::io(path, "write", e.into_error()))?;
    file.sync_all().map_err(|e| Error::io(path, "write", e))?;
    drop(file);
    std::fs::rename(&temporary.0, path).map_err(|e| Error::io(path, "rename to", e))?;
    sync_folder(path)
}

/// Makes a rename in the folder of `path` durable.
fn sync_folder(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    match File::open(parent).and_then(|f| f.sync_all()) {
        Ok(()) => Ok(()),
        // Some file systems have no such call; the rename itself has succeeded.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::Unsupported) => Ok(()),
        Err(e) => Err(Error::io(parent, "sync", e)),
    }
}

/// Reads a whole text file.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))
}

/// Writes a text file whole.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, |out| out.write_all(text.as_bytes()))
}

/// Removes what a killed program has left of a write to `path`, by any process.
pub(crate) fn remove_leftovers(path: &Path) -> Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return Ok(()) };
    let begins = format!(".{name}.");
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(folder, "read", e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(folder, "read", e))?;
        let found = entry.file_name();
        let process = found.to_str().and_then(|f| f.strip_prefix(&begins)).and_then(|f| f.strip_suffix(".tmp"));
        if process.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit())) {
            std::fs::remove_file(entry.path()).map_err(|e| Error::io(entry.path(), "remove", e))?;
        }
    }
    Ok(())
}
