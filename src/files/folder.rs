//! Files that appear whole or not at all, and the checksums that tell damage.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::atomic::{beside, sweep, sync_folder, temporary_of};
use crate::error::{Error, Result};

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
