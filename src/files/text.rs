//! Lines of text files, plain or gzip, with a limit to their length and errors that name the line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};

/// Longest line of a table, in bytes. Nothing that is read here has lines like that, and a file of a few kilobytes may
/// unpack to one that fills the memory.
const LONGEST: usize = 1 << 20;

/// A reader that fails where a line becomes longer than [`LONGEST`].
struct Lines<R> {
    inner: R,
    /// Bytes of the line so far.
    line: usize,
}

impl<R: BufRead> BufRead for Lines<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.line > LONGEST {
            let why = format!("it is longer than {} MiB", LONGEST >> 20);
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
        }
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        if n > 0 {
            // What is consumed has been shown, so that nothing is read here.
            let shown = self.inner.fill_buf().unwrap_or_default();
            self.line = match memchr::memrchr(b'\n', &shown[..n.min(shown.len())]) {
                Some(at) => n - at - 1,
                None => self.line + n,
            };
            self.inner.consume(n);
        }
    }
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

/// What went wrong in a line of a text file, by its number: damage to gzip or UTF-8, or the system's own word.
pub(crate) fn text_error(path: &Path, line: usize, e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput | std::io::ErrorKind::UnexpectedEof => {
            Error::input(
                path,
                format!("line {line} cannot be read ({e})"),
                "the file is truncated or damaged; make or fetch it again",
            )
        }
        _ => Error::io(path, "read", e),
    }
}

/// A table as text, plain or gzip (told by its first two bytes, not by its name). Reading a line of more than 1 MiB
/// fails.
pub(crate) fn open_text(path: &Path, file: File) -> Result<Box<dyn BufRead>> {
    Ok(Box::new(Lines { inner: open_long_text(path, file)?, line: 0 }))
}

/// [`open_text`], with lines of any length.
pub(crate) fn open_long_text(path: &Path, file: File) -> Result<Box<dyn BufRead>> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let head = reader.fill_buf().map_err(|e| Error::io(path, "read", e))?;
    if head.starts_with(&[0x1f, 0x8b]) {
        let plain: Box<dyn Read> = Box::new(MultiGzDecoder::new(reader));
        return Ok(Box::new(BufReader::with_capacity(1 << 16, plain)));
    }
    Ok(Box::new(reader))
}
