//! Sequences of peaks: one FASTA record a peak, its first bases as codes A 1, T 2, G 3, C 4, anything else 0.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, Read};
use std::path::Path;

use super::chromosomes::chrom_key;
use super::region::{Region, parse_region};
use crate::error::{Error, Result};
use crate::files::text::{open_long_text, text_error};

/// The code of a base; lower case is read as upper.
pub fn base_code(base: u8) -> u8 {
    match base.to_ascii_uppercase() {
        b'A' => 1,
        b'T' | b'U' => 2,
        b'G' => 3,
        b'C' => 4,
        _ => 0,
    }
}

/// Bytes of a line that are read at a time.
const PIECE: u64 = 1 << 16;

/// Sequences of peaks, matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeakSequences {
    /// `[P, length]` codes; a shorter sequence ends in 0.
    pub codes: Vec<u8>,
    /// Numbers of the peaks without a record (all 0). Only by header; by position every peak has one.
    pub missing: Vec<usize>,
    /// Matched by header (`chrom:start-end`), not by position.
    pub by_header: bool,
}

/// Reads the sequences of `peaks` from a FASTA (plain or gzip): by header where the headers have the form
/// `chrom:start-end` (a `name::` before it and text after a blank are ignored), else by position, the counts being
/// equal. `length` bases a peak are kept.
///
/// # Errors
/// [`Error::Input`] where it is no FASTA, or its records are neither of these peaks nor as many as they are; [`Error::Io`].
pub fn read_peak_sequences(path: &Path, peaks: &[Option<Region>], length: usize) -> Result<PeakSequences> {
    let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
    let mut reader = open_long_text(path, file)?;
    let mut headers: Vec<Option<Region>> = Vec::new();
    let mut codes: Vec<u8> = Vec::new();
    let mut filled = 0;
    // A line may be a whole chromosome: it is read in pieces, of which a header needs the first.
    let (mut line, mut number, mut whole, mut is_header) = (Vec::new(), 1, true, false);
    loop {
        line.clear();
        let piece = reader.by_ref().take(PIECE).read_until(b'\n', &mut line);
        if piece.map_err(|e| text_error(path, number, e))? == 0 {
            break;
        }
        let begins = std::mem::replace(&mut whole, line.ends_with(b"\n"));
        number += usize::from(whole);
        if begins {
            is_header = line.starts_with(b">");
        } else if is_header {
            continue;
        }
        let text = line.trim_ascii_end();
        if let Some(header) = text.strip_prefix(b">").filter(|_| begins) {
            codes.resize(headers.len() * length, 0);
            filled = 0;
            headers.push(header_region(&String::from_utf8_lossy(header)));
        } else if text.is_empty() {
            continue;
        } else if headers.is_empty() {
            return Err(Error::input(path, "the first record has no `>` header", "give a FASTA file, plain or gzip"));
        } else {
            let take = text.len().min(length - filled);
            codes.extend(text[..take].iter().map(|&b| base_code(b)));
            filled += take;
        }
    }
    codes.resize(headers.len() * length, 0);
    if headers.is_empty() {
        return Err(Error::input(path, "no record in it", "give a FASTA file with one record a peak"));
    }
    if headers.iter().any(Option::is_none) {
        if headers.len() != peaks.len() {
            return Err(Error::input(
                path,
                format!(
                    "{} records for {} peaks, and the headers are not all of the form chrom:start-end",
                    headers.len(),
                    peaks.len()
                ),
                "give one record a peak in the order of the peaks, or headers that tell which",
            ));
        }
        return Ok(PeakSequences { codes, missing: Vec::new(), by_header: false });
    }
    let mut place: HashMap<(Cow<'_, str>, i64, i64), usize> = HashMap::new();
    for (i, region) in headers.iter().enumerate() {
        if let Some(r) = region {
            place.entry((chrom_key(&r.chrom), r.start, r.end)).or_insert(i);
        }
    }
    let mut out = vec![0; peaks.len() * length];
    let mut missing = Vec::new();
    for (p, (peak, out)) in peaks.iter().zip(out.chunks_mut(length.max(1))).enumerate() {
        match peak.as_ref().and_then(|r| place.get(&(chrom_key(&r.chrom), r.start, r.end))) {
            Some(&i) => out.copy_from_slice(&codes[i * length..(i + 1) * length]),
            None => missing.push(p),
        }
    }
    if missing.len() == peaks.len() {
        let shown = |r: Option<&Region>| r.map_or("?".into(), |r| format!("{}:{}-{}", r.chrom, r.start, r.end));
        return Err(Error::input(
            path,
            format!(
                "no header names a peak of the data; the first header is {}, the first peak {}",
                shown(headers[0].as_ref()),
                shown(peaks.iter().flatten().next())
            ),
            "give the sequences of these peaks",
        ));
    }
    Ok(PeakSequences { codes: out, missing, by_header: true })
}

fn header_region(header: &str) -> Option<Region> {
    let word = header.split_whitespace().next()?;
    let word = word.rsplit_once("::").map_or(word, |(_, place)| place);
    let word = word.strip_suffix("(+)").or(word.strip_suffix("(-)")).or(word.strip_suffix("(.)")).unwrap_or(word);
    if word.contains(':') { parse_region(word) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, peaks: &[&str], length: usize) -> Result<PeakSequences> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.fa");
        std::fs::write(&path, text).unwrap();
        read_peak_sequences(&path, &peaks.iter().map(|p| parse_region(p)).collect::<Vec<_>>(), length)
    }

    #[test]
    fn by_header_in_any_order() {
        let s = read(">chr1:5-9\nacgt\nNN\n>2:1-4 x\nTTT\n", &["chr2-1-4", "chr1-5-9", "chr3-1-2"], 5).unwrap();
        assert_eq!(s.codes, [2, 2, 2, 0, 0, 1, 4, 3, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!((s.missing.as_slice(), s.by_header), ([2].as_slice(), true));
    }

    #[test]
    fn by_position_with_equal_counts_only() {
        let s = read(">a\nAC\nGT\n>b\n\n", &["chr2-1-4", "chr1-5-9"], 3).unwrap();
        assert_eq!((s.codes.as_slice(), s.by_header), ([1, 4, 3, 0, 0, 0].as_slice(), false));
        let e = read(">a\nA\n", &["chr2-1-4", "chr1-5-9"], 3).unwrap_err().to_string();
        assert!(e.contains("1 records for 2 peaks"), "{e}");
    }

    #[test]
    fn what_is_no_fasta_is_refused() {
        assert!(read("", &["chr1-1-2"], 3).unwrap_err().to_string().contains("no record"));
        assert!(read("ACGT\n", &["chr1-1-2"], 3).unwrap_err().to_string().contains("header"));
        let e = read(">chr9:1-2\nA\n", &["chr1-1-2"], 3).unwrap_err().to_string();
        assert!(e.contains("chr9:1-2") && e.contains("chr1:1-2"), "{e}");
    }
}
