//! Lines of text files, plain or gzip, in any of the encodings and line ends that spreadsheets and R write, with a limit to
//! their length and errors that name the line.
//!
//! | what | told by |
//! | --- | --- |
//! | gzip | its first two bytes |
//! | UTF-8 with a mark, UTF-16 of either order | the mark; UTF-16 without one by its zeros |
//! | Windows-1252 (Latin-1) | a line that is not UTF-8 |
//! | line ends `\n`, `\r\n`, `\r` | the first of them |

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};
use encoding_rs_io::DecodeReaderBytesBuilder;
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
    let read = |e| Error::io(path, "read", e);
    let mut reader = BufReader::with_capacity(1 << 16, file);
    if !reader.fill_buf().map_err(read)?.starts_with(&[0x1f, 0x8b]) {
        return Ok(plain(reader));
    }
    Ok(plain(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(reader))))
}

/// Text in UTF-8 with `\n` at the ends of its lines, made of what is read; bytes that need no change are not copied.
fn plain<R: Read + 'static>(mut reader: BufReader<R>) -> Box<dyn BufRead> {
    // What goes wrong here goes wrong again where it can be told.
    let head = reader.fill_buf().unwrap_or_default();
    let marked = head.starts_with(&[0xef, 0xbb, 0xbf]);
    let wide = wide(head);
    let bare = |head: &[u8]| head.contains(&b'\r') && !head.contains(&b'\n');
    let old = bare(head);
    let reader: Box<dyn BufRead> = if marked || wide.is_some() {
        let mut builder = DecodeReaderBytesBuilder::new();
        builder.encoding(wide).utf8_passthru(true).strip_bom(true);
        Box::new(BufReader::with_capacity(1 << 16, builder.build(reader)))
    } else {
        Box::new(reader)
    };
    match old {
        true => Box::new(BufReader::with_capacity(1 << 16, OldEnds(reader))),
        false => reader,
    }
}

/// UTF-16, by its mark or by the zeros of letters that need one byte.
fn wide(head: &[u8]) -> Option<&'static Encoding> {
    let zero = |i: usize| head.get(i) == Some(&0);
    let letter = |i: usize| head.get(i).is_some_and(|&b| b != 0);
    match head {
        [0xff, 0xfe, ..] => Some(UTF_16LE),
        [0xfe, 0xff, ..] => Some(UTF_16BE),
        _ if letter(0) && zero(1) && letter(2) && zero(3) => Some(UTF_16LE),
        _ if zero(0) && letter(1) && zero(2) && letter(3) => Some(UTF_16BE),
        _ => None,
    }
}

/// Text whose lines end in `\r`, as old spreadsheets write it.
struct OldEnds<R>(R);

impl<R: Read> Read for OldEnds<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(out)?;
        out[..n].iter_mut().filter(|b| **b == b'\r').for_each(|b| *b = b'\n');
        Ok(n)
    }
}

/// A line as text: UTF-8, else Windows-1252; `None` where it holds a zero byte and is no text at all.
pub(crate) fn decoded(line: &[u8]) -> Option<Cow<'_, str>> {
    if line.contains(&0) {
        return None;
    }
    Some(match std::str::from_utf8(line) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(line).0,
    })
}

/// The lines of a text file, one after another.
pub(crate) struct TextLines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    number: usize,
}

impl TextLines {
    /// Opens a file, plain or gzip.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
        Ok(TextLines { path: path.into(), reader: open_text(path, file)?, line: Vec::new(), number: 0 })
    }

    /// The next line without its end, and its number from 1.
    ///
    /// # Errors
    /// A line that is no text or too long; damage to gzip; [`Error::Io`].
    pub(crate) fn next(&mut self) -> Result<Option<(usize, Cow<'_, str>)>> {
        self.line.clear();
        self.number += 1;
        let (path, number) = (&self.path, self.number);
        if self.reader.read_until(b'\n', &mut self.line).map_err(|e| text_error(path, number, e))? == 0 {
            return Ok(None);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = decoded(line).ok_or_else(|| {
            Error::input(path, format!("line {number} is not text"), "give a text file, plain or gzip")
        })?;
        Ok(Some((number, text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.txt");
        std::fs::write(&path, bytes).unwrap();
        let mut text = TextLines::open(&path).unwrap();
        let mut out = Vec::new();
        while let Some((number, line)) = text.next().unwrap() {
            out.push(line.into_owned());
            assert_eq!(number, out.len());
        }
        out
    }

    #[test]
    fn one_text_in_every_encoding_and_with_every_line_end() {
        for text in ["é,b\nc,d\n", "é,b\r\nc,d\r\n", "é,b\rc,d\r", "é,b\nc,d"] {
            let wide: Vec<u16> = text.encode_utf16().collect();
            let le = |v: &[u16]| v.iter().flat_map(|u| u.to_le_bytes()).collect::<Vec<_>>();
            let be = |v: &[u16]| v.iter().flat_map(|u| u.to_be_bytes()).collect::<Vec<_>>();
            for bytes in [
                text.as_bytes().to_vec(),
                [b"\xef\xbb\xbf", text.as_bytes()].concat(),
                [vec![0xff, 0xfe], le(&wide)].concat(),
                [vec![0xfe, 0xff], be(&wide)].concat(),
                text.chars().map(|c| c as u8).collect(), // Latin-1
                le(&wide),
                be(&wide),
            ] {
                assert_eq!(lines(&bytes), ["é,b", "c,d"], "{bytes:x?}");
            }
        }
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_zero_byte_is_no_text() {
        assert_eq!(decoded(b"a\0b"), None);
        assert_eq!(decoded(b"\x80").as_deref(), Some("\u{20ac}"));
    }
}
