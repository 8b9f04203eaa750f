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

    /// Moves the folder to its target. What is there is replaced only with `replace`, which tells by its name as seen from
    /// the folder what of it goes; all else is moved over.
    pub(crate) fn keep(mut self, replace: Option<IsOurs<'_>>) -> Result<()> {
        let sync = |p: &Path| File::open(p).and_then(|f| f.sync_all()).map_err(|e| Error::io(p, "write", e));
        sync(&self.path)?;
        let old = match replace {
            Some(is_ours) if self.target.exists() => {
                let old = beside(&self.target, "old")?;
                std::fs::rename(&self.target, &old).map_err(|e| Error::io(&self.target, "replace", e))?;
                Some((old, is_ours))
            }
            _ => None,
        };
        if let Err(e) = std::fs::rename(&self.path, &self.target) {
            if let Some((old, _)) = &old {
                // Put back what was there; if even that fails, the first error still names the place.
                let _ = std::fs::rename(old, &self.target);
            }
            return Err(Error::io(&self.target, "create", e));
        }
        self.kept = true;
        sync_folder(&self.target)?;
        match old {
            Some((old, is_ours)) => carry_over(&old, &self.target, is_ours),
            None => Ok(()),
        }
    }
}

/// Tells of a file, named as seen from its folder, whether the program made it.
pub(crate) type IsOurs<'a> = &'a dyn Fn(&Path) -> bool;

/// Moves what is not ours from the folder `old` to `new`, and removes what is. What `new` has already under that name stays
/// in `old`, which then stays, too.
fn carry_over(old: &Path, new: &Path, is_ours: IsOurs<'_>) -> Result<()> {
    carry_below(old, new, Path::new(""), is_ours)?;
    sync_folder(new)
}

fn carry_below(old: &Path, new: &Path, at: &Path, is_ours: IsOurs<'_>) -> Result<()> {
    let folder = old.join(at);
    let entries = std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, "read", e))?;
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(&folder, "read", e))?;
        let inner = at.join(entry.file_name());
        let (from, to) = (old.join(&inner), new.join(&inner));
        let is_folder = entry.file_type().map_err(|e| Error::io(&from, "read", e))?.is_dir();
        let left = entry.file_name().to_str().and_then(temporary_of).is_some();
        let holds_ours = || {
            std::fs::read_dir(&from).is_ok_and(|mut d| d.any(|e| e.is_ok_and(|e| is_ours(&inner.join(e.file_name())))))
        };
        if is_folder && (to.is_dir() || holds_ours()) {
            carry_below(old, new, &inner, is_ours)?;
        } else if !is_folder && (left || is_ours(&inner)) {
            std::fs::remove_file(&from).map_err(|e| Error::io(&from, "remove", e))?;
        } else if to.symlink_metadata().is_err() {
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, "create", e))?;
            }
            std::fs::rename(&from, &to).map_err(|e| Error::io(&from, "move", e))?;
        }
    }
    // Stays where it holds anything.
    let _ = std::fs::remove_dir(&folder);
    Ok(())
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
/// killed thereafter has left of it, but for what was not ours.
pub(crate) fn put_back(target: &Path, is_ours: IsOurs<'_>) -> Result<()> {
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
            carry_over(&path, target, is_ours)?;
        } else {
            std::fs::rename(&path, target).map_err(|e| Error::io(target, "restore", e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        for file in ["a.tsv", "shards/0.shard", "shards/notes", "run/run.json", "run/deep/x", "both", "gone/1.shard"] {
            let path = old.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        std::fs::create_dir_all(new.join("shards")).unwrap();
        std::fs::write(new.join("both"), "new").unwrap();
        let is_ours = |f: &Path| f == Path::new("a.tsv") || f.extension().is_some_and(|e| e == "shard");
        carry_over(&old, &new, &is_ours).unwrap();
        let there = |at: &Path, f: &str| at.join(f).exists();
        assert!(there(&new, "shards/notes") && there(&new, "run/run.json") && there(&new, "run/deep/x"));
        assert!(!there(&new, "a.tsv") && !there(&new, "shards/0.shard") && !there(&new, "gone"));
        // Of two of one name none is lost.
        assert_eq!(std::fs::read_to_string(new.join("both")).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(old.join("both")).unwrap(), "both");
        assert!(!there(&old, "run") && !there(&old, "shards") && !there(&old, "gone"));
    }
}
