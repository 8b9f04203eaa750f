//! Files that appear whole or not at all, and the checksums that tell damage.

use std::fs::File;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::error::{Error, Result};
use crate::train::files::{sweep, sync_folder, temporary_of, write_part};

/// Checksum of `bytes` (XXH3, 64 bits).
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Name of some content (XXH3, 128 bits, hex).
pub(crate) fn content_hash(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// Writes `parts`, one after another, as the file `path`: whole or not at all.
pub(crate) fn write_whole(path: &Path, parts: &[&[u8]]) -> Result<()> {
    write_part(path, parts)
}

/// A hidden name in the same folder, of this process.
pub(crate) fn beside(path: &Path, end: &str) -> Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::input(path, "is not a name that can be written", "give another output"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.{end}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

/// A folder in the making: it goes when this goes, unless it was moved into place. It is locked meanwhile, so that a
/// later program tells it from what a killed one has left.
pub(crate) struct NewFolder {
    path: PathBuf,
    target: PathBuf,
    kept: bool,
    _lock: Option<File>,
}

impl NewFolder {
    /// Makes an empty hidden folder beside `target`, where those that killed programs have left go.
    pub(crate) fn new(target: &Path) -> Result<Self> {
        sweep(target)?;
        let path = beside(target, "tmp")?;
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(|e| Error::io(&path, "remove", e))?;
        }
        if let Some(parent) = target.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, "create", e))?;
        }
        std::fs::create_dir(&path).map_err(|e| Error::io(target, "create", e))?;
        let lock = File::open(&path).ok().filter(|f| f.try_lock().is_ok());
        Ok(NewFolder { path, target: target.to_path_buf(), kept: false, _lock: lock })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the folder to its target. What is there is replaced only with `replace`, and then as a whole.
    pub(crate) fn keep(mut self, replace: bool) -> Result<()> {
        let sync = |p: &Path| File::open(p).and_then(|f| f.sync_all()).map_err(|e| Error::io(p, "write", e));
        sync(&self.path)?;
        let old = if replace && self.target.exists() {
            let old = beside(&self.target, "old")?;
            std::fs::rename(&self.target, &old).map_err(|e| Error::io(&self.target, "replace", e))?;
            Some(old)
        } else {
            None
        };
        if let Err(e) = std::fs::rename(&self.path, &self.target) {
            if let Some(old) = &old {
                // Put back what was there; if even that fails, the first error still names the place.
                let _ = std::fs::rename(old, &self.target);
            }
            return Err(Error::io(&self.target, "create", e));
        }
        self.kept = true;
        sync_folder(&self.target)?;
        if let Some(old) = old {
            std::fs::remove_dir_all(&old).map_err(|e| Error::io(&old, "remove", e))?;
        }
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.kept {
            // A folder that cannot be removed cannot be helped here; the error that led here is being told.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Brings back what a program that was killed while it replaced `target` had put aside, and removes what one that was
/// killed thereafter has left of it.
pub(crate) fn put_back(target: &Path) -> Result<()> {
    let Some(name) = target.file_name().and_then(|n| n.to_str()) else { return Ok(()) };
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let aside = found.to_str().and_then(|f| f.strip_suffix(".old")).map(|f| format!("{f}.tmp"));
        if aside.as_deref().and_then(temporary_of) != Some(name) {
            continue;
        }
        let path = entry.path();
        if target.exists() {
            std::fs::remove_dir_all(&path).map_err(|e| Error::io(&path, "remove", e))?;
        } else {
            std::fs::rename(&path, target).map_err(|e| Error::io(target, "restore", e))?;
        }
    }
    Ok(())
}

/// Reads little-endian numbers one after another; `None` past the end.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(head)
    }
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}
