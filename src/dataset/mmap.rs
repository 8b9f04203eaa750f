//! Files that are read in place: mapped, or read piece by piece. The one place of the data path with `unsafe` code.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memmap2::Mmap;

use super::access::Io;
use crate::error::{Error, Result};

/// A file whose bytes are fetched by range.
#[derive(Debug)]
pub(crate) struct Bytes {
    file: File,
    len: u64,
    map: Option<Mmap>,
}

impl Bytes {
    /// Opens a file. Contract of a mapped one: nobody shortens or rewrites it meanwhile. The program writes shards under a
    /// temporary name and renames them, so that a finished shard never changes.
    pub(crate) fn open(path: &Path, io: Io) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
        let len = file.metadata().map_err(|e| Error::io(path, "read", e))?.len();
        let map = match io {
            // SAFETY: the map is read-only, and files of a data set are immutable once renamed into place (see above). Lost
            // pages end in SIGBUS: `expect_loss`.
            Io::Mmap => Some(unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, "map", e))?),
            Io::Pread => None,
        };
        Ok(Bytes { file, len, map })
    }

    /// Its length when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Is it as long as it was? What lies behind the end of a mapped file must not be touched.
    pub(crate) fn is_whole(&self) -> std::io::Result<()> {
        let now = self.file.metadata()?.len();
        if now >= self.len {
            return Ok(());
        }
        Err(std::io::Error::other(format!("it is {now} bytes long, and was {} when it was opened", self.len)))
    }

    /// Calls `with` on the bytes of `range`, which is within the length; read into `buffer` where they are not mapped.
    pub(crate) fn with<R>(
        &self,
        range: std::ops::Range<usize>,
        buffer: &mut Vec<u8>,
        with: impl FnOnce(&[u8]) -> R,
    ) -> std::io::Result<R> {
        if let Some(map) = &self.map {
            self.is_whole()?;
            return map.get(range).map(with).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer.resize(range.len(), 0);
        match self.file.read_exact_at(buffer, range.start as u64) {
            Ok(()) => Ok(with(buffer)),
            Err(e) => Err(self.is_whole().err().unwrap_or(e)),
        }
    }

    /// The bytes of `range`, of one's own.
    pub(crate) fn copy(&self, range: std::ops::Range<usize>) -> std::io::Result<Vec<u8>> {
        let mut buffer = Vec::new();
        self.with(range, &mut buffer, <[u8]>::to_vec)
    }
}

/// What is said where pages of a mapped file are gone.
const LOST: &[u8] =
    b"error: a file of a data set was cut short, or its disk failed, while it was read (SIGBUS); restore it, or \
prepare the data again; --io pread reads files that may change\n";

/// From now on a lost page of a mapped file ends the process with a line and exit code 1, instead of a signal. For the
/// program, never for the library.
pub(crate) fn expect_loss() {
    extern "C" fn lost(_: libc::c_int) {
        // SAFETY: both calls are safe in a signal handler; the bytes are static.
        unsafe {
            libc::write(2, LOST.as_ptr().cast(), LOST.len());
            libc::_exit(1);
        }
    }
    // SAFETY: the action is valid (zeroed, then its handler and flags set), and the handler does only what is safe in one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = lost as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}
