//! Files that are whole or not there: written to a temporary name in their folder, synced, renamed, folder synced.

use std::fs::{File, TryLockError};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};

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

/// A hidden file beside its target, on its way there: it goes unless it is kept. It is locked while it is written, so that
/// [`sweep`] tells it from what a killed program has left.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    target: PathBuf,
    file: File,
}

impl Temporary {
    /// Makes an empty file beside `target`, where what killed programs have left on the way to it goes.
    pub(crate) fn new(target: &Path) -> Result<Self> {
        sweep(target)?;
        Self::in_new_folder(target)
    }

    /// The same in a folder that no other program knows: nothing is swept.
    fn in_new_folder(target: &Path) -> Result<Self> {
        let path = beside(target, "tmp")?;
        let file = File::create(&path).map_err(|e| Error::io(target, "create", e))?;
        // Where files cannot be locked, none is swept either.
        let _ = file.try_lock();
        Ok(Temporary { path, target: target.to_path_buf(), file })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Brings it to the disk and to its target, which it replaces.
    pub(crate) fn keep(self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io(&self.target, "write", e))?;
        std::fs::rename(&self.path, &self.target).map_err(|e| Error::io(&self.target, "rename to", e))?;
        sync_folder(&self.target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Already renamed in the usual case; and nothing can be done about one that does not go away.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Writes `path` through `fill`. After an error or a crash the old file, if any, is as it was.
pub(crate) fn write_atomic(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    filled(Temporary::new(path)?, fill)?.keep()
}

/// [`write_atomic`] of `parts`, one after another, in a folder of which many files are written and that is swept as a whole.
pub(crate) fn write_part(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let fill = |out: &mut BufWriter<File>| parts.iter().try_for_each(|part| out.write_all(part));
    filled(Temporary::in_new_folder(path)?, fill)?.keep()
}

fn filled(temporary: Temporary, fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<Temporary> {
    let path = &temporary.target;
    let file = temporary.file.try_clone().map_err(|e| Error::io(path, "create", e))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    fill(&mut out).map_err(|e| Error::io(path, "write", e))?;
    out.into_inner().map_err(|e| Error::io(path, "write", e.into_error()))?;
    Ok(temporary)
}

/// Writes `parts`, one after another, on the way to `path`, brings them to the disk and reads them back.
///
/// # Errors
/// Besides those of writing: what is read back is not what was written.
pub(crate) fn verified(path: &Path, parts: &[&[u8]]) -> Result<Temporary> {
    let temporary = filled(Temporary::new(path)?, |out| {
        parts.iter().try_for_each(|part| out.write_all(part))?;
        out.flush()?;
        out.get_ref().sync_all()
    })?;
    let mut wrote = Xxh3::new();
    parts.iter().for_each(|part| wrote.update(part));
    let mut read = Xxh3::new();
    let mut back = File::open(&temporary.path).map_err(|e| Error::io(path, "read back", e))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match back.read(&mut buffer).map_err(|e| Error::io(path, "read back", e))? {
            0 => break,
            n => read.update(&buffer[..n]),
        }
    }
    if wrote.digest() != read.digest() {
        return Err(Error::input(
            path,
            "what was read back is not what was written",
            "check the disk, or choose another",
        ));
    }
    Ok(temporary)
}

/// Makes a rename in the folder of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
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

/// A folder that one process at a time works in.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code)] Option<File>);

impl Lock {
    /// Takes the folder, which exists. It is free again when this goes, or the process, however it ends.
    ///
    /// # Errors
    /// Another process has it; `doing` says what it does there. Where folders cannot be locked nothing is.
    pub(crate) fn take(folder: &Path, doing: &str) -> Result<Self> {
        let Ok(file) = File::open(folder) else { return Ok(Lock(None)) };
        let mut taken = file.try_lock();
        // A child of this process that is just being started has all its files, and a lock that was given back, for an instant.
        for _ in 0..20 {
            if !matches!(taken, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            taken = file.try_lock();
        }
        match taken {
            Ok(()) => Ok(Lock(Some(file))),
            Err(TryLockError::WouldBlock) => {
                let fix = "wait for it, stop it, or choose another --out";
                Err(Error::input(folder, format!("another process {doing} in this folder"), fix))
            }
            Err(TryLockError::Error(_)) => Ok(Lock(None)),
        }
    }
}

/// Removes what killed programs have left on the way to `path`: hidden files, and folders, beside it. What a program at
/// work has locked stays, and so does what cannot be locked.
pub(crate) fn sweep(path: &Path) -> Result<()> {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return Ok(()) };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // Nothing can be there, or nothing can be done about it: writing says what is wrong.
        Err(_) => return Ok(()),
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(folder, "read", e))?;
        if entry.file_name().to_str().and_then(temporary_of) == Some(name) {
            remove_unlocked(&entry.path())?;
        }
    }
    Ok(())
}

/// Of the name of a temporary file or folder, `.NAME.PROCESS.tmp`, the name it is on the way to.
pub(crate) fn temporary_of(name: &str) -> Option<&str> {
    let (target, process) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    (!process.is_empty() && process.bytes().all(|b| b.is_ascii_digit())).then_some(target)
}

/// A link is never followed: only what a program of ours makes is taken away.
fn remove_unlocked(path: &Path) -> Result<()> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
    if !(meta.is_file() || meta.is_dir()) {
        return Ok(());
    }
    let Ok(file) = File::open(path) else { return Ok(()) };
    if file.try_lock().is_err() {
        return Ok(());
    }
    let removed = if meta.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        // another program has swept it
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove", e)),
        _ => Ok(()),
    }
}
