//! HDF5 files opened: whole ones, and such as were compressed as a whole (`.h5ad.gz`), which are unpacked to a temporary
//! file. What is no HDF5 is told by its name.

use std::fs::File as Plain;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use hdf5::File;

use super::filters;
use super::heaps::{MarkedCopy, endless};
use crate::data::sniff::{HEAD, of_bytes};
use crate::error::{Error, Result};
use crate::memory::size;
use crate::progress::Progress;

/// The first bytes of an HDF5 file, which may lie behind a block of the user's.
const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// Bytes that are unpacked between two looks whether to stop.
const STEP: u64 = 64 << 20;

/// Where an HDF5 file may begin, as far as is looked.
fn is_hdf5(file: &mut Plain) -> std::io::Result<bool> {
    let mut bytes = [0; 8];
    for at in [0, 512, 1024, 2048, 4096, 8192] {
        file.seek(SeekFrom::Start(at))?;
        match file.read_exact(&mut bytes) {
            Ok(()) if bytes == *SIGNATURE => return Ok(true),
            Err(e) if e.kind() != ErrorKind::UnexpectedEof => return Err(e),
            _ => {}
        }
    }
    Ok(false)
}

/// Opens an HDF5 file read-only and without its locks; brings the bytes it has along (of one that was compressed as a whole,
/// when unpacked). `give` says what to give instead.
///
/// The file is read through once (see the module [`heaps`](super::heaps)), while `progress` is asked whether to stop.
pub(crate) fn open_hdf5(path: &Path, give: &str, progress: &dyn Progress) -> Result<(File, u64)> {
    filters::register();
    let read = |e| Error::io(path, "read", e);
    // Before it is opened: that of a pipe would wait for who writes to it.
    let meta = std::fs::metadata(path).map_err(read)?;
    if !meta.is_file() {
        return Err(Error::input(path, if meta.is_dir() { "is a folder" } else { "is no file" }, give));
    }
    let mut file = Plain::open(path).map_err(read)?;
    if meta.len() == 0 {
        return Err(Error::input(path, "is empty", give));
    }
    let mut head = vec![0; HEAD.min(meta.len() as usize)];
    file.read_exact(&mut head).map_err(read)?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return packed(path, give, progress);
    }
    if !is_hdf5(&mut file).map_err(read)? {
        return Err(match of_bytes(&head) {
            Some(found) => Error::input(path, format!("{}, not HDF5", found.what), found.fix),
            None => {
                Error::input(path, "is no HDF5 file", format!("{give}; one that was damaged is to be fetched again"))
            }
        });
    }
    file.rewind().map_err(read)?;
    Ok((whole(path, path, &mut file, meta.len(), progress)?, meta.len()))
}

/// Opens the HDF5 file `at`, called `path` in messages.
fn whole(path: &Path, at: &Path, file: &mut Plain, bytes: u64, progress: &dyn Progress) -> Result<File> {
    let still = endless(path, file, bytes, progress)?;
    let copy = if still.is_empty() { None } else { Some(MarkedCopy::new(path, file, &still)?) };
    let at = copy.as_ref().map_or(at, MarkedCopy::path);
    let opened = File::with_options().with_fapl(|p| p.file_locking(false)).open_as(at, hdf5::OpenMode::Read);
    opened.map_err(|e| {
        let why = super::plain_words(&e);
        Error::input(
            path,
            format!("is HDF5, but not whole (HDF5: {why})"),
            "it is truncated or damaged: make or fetch it again",
        )
    })
}

/// Opens an HDF5 file that was compressed with gzip as a whole.
fn packed(path: &Path, give: &str, progress: &dyn Progress) -> Result<(File, u64)> {
    let damaged = |e: std::io::Error| match e.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => Error::input(
            path,
            format!("is gzip that cannot be unpacked ({e})"),
            "it is truncated or damaged: make or fetch it again",
        ),
        _ => Error::io(path, "read", e),
    };
    let open = || Plain::open(path).map_err(|e| Error::io(path, "read", e));
    let mut unpacked = BufReader::with_capacity(1 << 20, MultiGzDecoder::new(BufReader::new(open()?)));
    let head = unpacked.fill_buf().map_err(damaged)?;
    if !head.starts_with(SIGNATURE) {
        return Err(match of_bytes(&head[..head.len().min(HEAD)]) {
            Some(found) => Error::input(path, format!("{} (compressed with gzip), not HDF5", found.what), found.fix),
            None => Error::input(path, "is gzip, and what is in it is no HDF5", format!("unpack it and see; {give}")),
        });
    }
    let place = Temporary::new();
    let failed = |e: std::io::Error| {
        Error::input(
            path,
            format!("is gzip, and cannot be unpacked to {} ({e})", place.0.display()),
            "gunzip it first, or set TMPDIR to a folder with room",
        )
    };
    let mut file = Plain::options().read(true).write(true).create_new(true).open(&place.0).map_err(failed)?;
    let mut block = vec![0; 1 << 20];
    let (mut bytes, mut since) = (0u64, 0u64);
    loop {
        let n = match unpacked.read(&mut block) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(damaged(e)),
        };
        file.write_all(&block[..n]).map_err(failed)?;
        bytes += n as u64;
        since += n as u64;
        if since > STEP {
            since = 0;
            progress.check("nothing was written")?;
        }
    }
    progress.note(&format!(
        "{} is gzip: unpacked to a temporary file of {} (gunzip it once to spare that)",
        path.display(),
        size(bytes)
    ));
    file.rewind().map_err(failed)?;
    Ok((whole(path, &place.0, &mut file, bytes, progress)?, bytes))
}

/// A temporary file that loses its name when this goes; HDF5 holds it open.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Temporary(std::env::temp_dir().join(format!("sccrossrec-{}-gz{number}.h5", std::process::id())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may not have been made; and nothing can be done about one that does not go away.
        let _ = std::fs::remove_file(&self.0);
    }
}
