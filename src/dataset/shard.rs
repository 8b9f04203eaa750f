//! The shard: cells of a data set in one memory-mapped file, packed.
//!
//! All numbers are little-endian. The file is a header of 256 bytes and six sections; each section starts at the next
//! multiple of 64 after the one before (the gap is zeros), and the file ends at a multiple of 64. Sections have no
//! stored offsets: their lengths follow from the header, and the sum must be the length of the file, so that nothing
//! can overlap or point outside.
//!
//! | offset | type | field |
//! | --- | --- | --- |
//! | 0 | 8 bytes | magic `SCXSHARD` |
//! | 8 | u32 | version, 2 |
//! | 12 | u32 | header bytes, 256 |
//! | 16 | u64 | total length of the file |
//! | 24 | u64 | number of the first cell |
//! | 32 | u64 | cells in this shard, n |
//! | 40 | u64 | G, genes of the data set |
//! | 48 | u64 | P, peaks of the data set |
//! | 56 | u32 | flags: 1 expression values are stored (else all are 1), 2 accessibility values are stored |
//! | 60 | u32 | number of the shard |
//! | 64 | u64 | gene entries, R |
//! | 72 | u64 | peak entries, A |
//! | 80 | u64 | bytes of the gene rows |
//! | 88 | u64 | bytes of the peak rows |
//! | 96 | u64 | fingerprint of the vocabulary the ranks refer to |
//! | 104 | 6 × u64 | XXH3-64 of each section |
//! | 152 | 96 bytes | zero |
//! | 248 | u64 | XXH3-64 of the 248 bytes before |
//!
//! | section | type | length | content |
//! | --- | --- | --- | --- |
//! | 0 | u64 | n + 1 | where the gene row of each cell starts in section 2; from 0 to its end, never falling |
//! | 1 | u32 | n | genes of each cell; R in all |
//! | 2 | bytes | | gene rows |
//! | 3, 4, 5 | | | the same of the peaks, A in all |
//!
//! # Rows
//! Genes, and peaks, are ranked over the data set by (chromosome, index); a cell names them by rank, ascending. A row is
//! their gaps (the first rank, then each less the one before less 1) as *packed numbers*, then, where values are stored
//! and the row is not empty, a byte that says how, and the values:
//!
//! | coding | content |
//! | --- | --- |
//! | 0 | whole numbers from 1 to 2²⁴: packed numbers, each less 1 |
//! | 1 | a dictionary: u16 size, that many f32, ascending; packed numbers, which index it |
//! | 2 | f32, one each |
//!
//! The smallest is taken, the first of equals. All are exact. Values are finite and above 0. A row of no entries has no
//! bytes: a cell may lack either modality as far as this format goes.
//!
//! *Packed numbers* are blocks of 128 u32, and one of what is left over. A block is a byte (its low bits the width w, at
//! most 32; 128 is added if patches follow), and the low w bits of each number: a block of 128 as the four-lane layout of
//! the crate `bitpacking` (number 4 i + j is element i of lane j), a shorter one as one string of bits, lowest first,
//! filled up to a byte. Patches are the numbers wider than w: a byte each for their count and for the width h of what
//! is above w (at most 32 − w), a byte each for their places in the block, and what is above, h bits each, as one string
//! of bits. A writer takes the w that makes the block smallest.
//!
//! # Why so
//! `cargo bench --bench shards`, medians, two shared cores of an EPYC of family 25; raw is what version 1 held in memory,
//! without the sums of base codes, and its batches are assembled as version 1 did.
//!
//! | | NeurIPS-like (1,063 genes, 3,669 peaks a cell) | SNARE-seq cortex (106 genes, 99 peaks) |
//! | --- | --- | --- |
//! | bytes a cell, raw | 23,200 | 1,658 |
//! | bytes a cell, packed | 4,298 (7.3 bits an entry) | 285 (11.1 bits an entry) |
//! | the same without patches | 8.1 bits an entry | 13.4 bits an entry |
//! | decoded, one thread | 8.0 µs a cell (600 M entries/s, 2.9 GB/s raw) | 0.83 µs a cell (250 M entries/s) |
//! | raw, copied | 1.7 µs a cell | 0.13 µs a cell |
//! | batch of 256 | 2.0 ms, raw 2.7 ms | 0.16 ms, raw 0.13 ms |
//!
//! NeurIPS-like cells are simulated: 13,431 genes, 116,490 peaks, binary ATAC, RNA of log1p(count × scale of the cell).
//!
//! - Patches let a few wide gaps, and the few large counts among ones, keep to themselves: a tenth to a sixth of the bytes.
//! - A cell normalised by its own total has as many values as it has distinct counts: the dictionary is short, and being
//!   sorted gives the most frequent values, which are the smallest, the narrowest codes.
//! - What is left of 128 is packed by itself, so that small cells stay small. It is unpacked number by number, which is
//!   why they decode more slowly an entry.
//! - A training step waits for none of this. A batch of 256 takes 2 ms of one thread where a step on the CPU takes 8 s
//!   (0.03 %). For a device that took 20 ms a step of 1,024 it would be 8 ms of one thread, 11 ms from raw arrays; several
//!   threads pack ahead of it.
//! - Opening decodes every row once, in parallel: 69,249 NeurIPS-like cells (330 million entries, 300 MB, in the page
//!   cache) in 0.8 s on two busy cores, a fifth of which is the vocabulary. So nothing need be checked later.
//!
//! Base codes of peaks are in `features.bin`, a byte each: read and compared with its checksum as a whole whenever the
//! data set is opened, and held by the model in just that form.
//!
//! # Version history
//! - 1: indices u32 and values f32, raw; sums of the base codes of each cell's peaks.
//! - 2: packed rows; the sums, which nothing read, are gone.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::access::Io;
use super::codec;
use super::mmap::Bytes;
use crate::error::{Error, Result};
use crate::files::atomic::write_whole;
use crate::files::bytes::{Fields, checksum};

#[cfg(target_endian = "big")]
compile_error!("shards are read in place and are little-endian");

const MAGIC: &[u8; 8] = b"SCXSHARD";
const VERSION: u32 = 2;
const HEADER: usize = 256;
const ALIGN: usize = 64;
const SECTIONS: usize = 6;
const DAMAGED: &str = "the data set is damaged; run `prepare` again, or restore the file";

/// One of the two halves of a cell. The number is that of its flag and of its third of the sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// Genes and expression.
    Rna = 0,
    /// Peaks and accessibility.
    Atac = 1,
}

impl Half {
    fn flag(self) -> u32 {
        1 << self as u32
    }

    fn section(self) -> usize {
        3 * self as usize
    }

    fn what(self) -> &'static str {
        ["gene", "peak"][self as usize]
    }
}

/// What all shards of a data set share: the vocabulary that their ranks refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VocabularySizes {
    pub genes: u64,
    pub peaks: u64,
    /// Fingerprint of the vocabulary.
    pub fingerprint: u64,
}

/// Rows of cells, encoded.
#[derive(Debug)]
pub(crate) struct RowData {
    stored: bool,
    starts: Vec<u64>,
    counts: Vec<u32>,
    bytes: Vec<u8>,
}

impl RowData {
    /// No rows yet, whose values are to be `stored` (else all are 1).
    pub(crate) fn new(stored: bool) -> Self {
        RowData { stored, starts: vec![0], counts: Vec::new(), bytes: Vec::new() }
    }

    /// Appends a row of `count` entries, encoded.
    pub(crate) fn push(&mut self, count: usize, row: &[u8]) {
        self.bytes.extend(row);
        self.starts.push(self.bytes.len() as u64);
        self.counts.push(count as u32); // ranks are u32 and differ
    }

    /// Entries of all rows.
    pub(crate) fn entries(&self) -> u64 {
        self.counts.iter().map(|&n| u64::from(n)).sum()
    }
}

/// Cells to be written.
#[derive(Debug)]
pub(crate) struct ShardData {
    pub number: u32,
    pub first: u64,
    pub genes: RowData,
    pub peaks: RowData,
}

/// What the manifest remembers of a written shard.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ShardEntry {
    pub file: String,
    pub first: u64,
    pub cells: u64,
    pub bytes: u64,
    /// Checksum in its header, which covers those of the sections.
    pub header: String,
}

/// Where the sections of a shard lie in its file.
struct SectionPlaces {
    sections: [Range<usize>; SECTIONS],
    total: usize,
}

/// Places of the sections, from the counts; `None` where they overflow.
fn section_places(cells: u64, gene_bytes: u64, peak_bytes: u64) -> Option<SectionPlaces> {
    let n = usize::try_from(cells).ok()?;
    let (starts, counts) = (n.checked_add(1)?.checked_mul(8)?, n.checked_mul(4)?);
    let (genes, peaks) = (usize::try_from(gene_bytes).ok()?, usize::try_from(peak_bytes).ok()?);
    let mut at = HEADER;
    let mut sections: [Range<usize>; SECTIONS] = Default::default();
    for (section, length) in sections.iter_mut().zip([starts, counts, genes, starts, counts, peaks]) {
        let end = at.checked_add(length)?;
        *section = at..end;
        at = end.checked_next_multiple_of(ALIGN)?;
    }
    Some(SectionPlaces { sections, total: at })
}

/// Writes a shard: temporary name, flush, rename.
pub(crate) fn write(dir: &Path, file: &str, sizes: VocabularySizes, d: &ShardData) -> Result<ShardEntry> {
    let cells = d.genes.counts.len() as u64;
    let halves = [(Half::Rna, &d.genes), (Half::Atac, &d.peaks)];
    let flags = halves.iter().filter(|h| h.1.stored).fold(0, |f, h| f | h.0.flag());
    let (gene_bytes, peak_bytes) = (d.genes.bytes.len() as u64, d.peaks.bytes.len() as u64);
    let places = section_places(cells, gene_bytes, peak_bytes)
        .ok_or_else(|| Error::Internal(format!("shard {}: its length overflows", d.number)))?;
    let bytes: [&[u8]; SECTIONS] = [
        bytemuck::cast_slice(&d.genes.starts),
        bytemuck::cast_slice(&d.genes.counts),
        &d.genes.bytes,
        bytemuck::cast_slice(&d.peaks.starts),
        bytemuck::cast_slice(&d.peaks.counts),
        &d.peaks.bytes,
    ];
    if bytes.iter().zip(&places.sections).any(|(b, s)| b.len() != s.len()) {
        return Err(Error::Internal(format!("shard {}: a section does not have the length of its counts", d.number)));
    }
    let sums: Vec<u64> = bytes.par_iter().map(|b| checksum(b)).collect();
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend((HEADER as u32).to_le_bytes());
    for word in [places.total as u64, d.first, cells, sizes.genes, sizes.peaks] {
        header.extend(word.to_le_bytes());
    }
    header.extend(flags.to_le_bytes());
    header.extend(d.number.to_le_bytes());
    for word in [d.genes.entries(), d.peaks.entries(), gene_bytes, peak_bytes, sizes.fingerprint] {
        header.extend(word.to_le_bytes());
    }
    for sum in &sums {
        header.extend(sum.to_le_bytes());
    }
    header.resize(HEADER - 8, 0);
    let sum = checksum(&header);
    header.extend(sum.to_le_bytes());
    let gap = [0u8; ALIGN];
    let mut parts: Vec<&[u8]> = vec![&header];
    for (i, b) in bytes.iter().enumerate() {
        parts.push(b);
        let next = places.sections.get(i + 1).map_or(places.total, |s| s.start);
        parts.push(&gap[..next - places.sections[i].end]);
    }
    write_whole(&dir.join(file), &parts)?;
    Ok(ShardEntry {
        file: file.to_string(),
        first: d.first,
        cells,
        bytes: places.total as u64,
        header: format!("{sum:016x}"),
    })
}

/// Room for rows that are read one after another.
#[derive(Default)]
struct RowBuffers {
    index: Vec<u32>,
    values: Vec<f32>,
    bytes: Vec<u8>,
}

/// A shard, opened. Every row in it has been decoded once.
#[derive(Debug)]
pub(crate) struct Shard {
    path: PathBuf,
    bytes: Bytes,
    /// Sections 0, 1, 3 and 4: where rows start and their entries, of genes and of peaks.
    starts: [Vec<u64>; 2],
    counts: [Vec<u32>; 2],
    /// Why a row could not be read, the first time.
    failed: OnceLock<String>,
    sections: [Range<usize>; SECTIONS],
    sums: [u64; SECTIONS],
    first: u64,
    cells: usize,
    entries: [u64; 2],
    flags: u32,
    orders: Arc<[Vec<u32>; 2]>,
}

impl Shard {
    /// Opens a shard and proves that nothing read later can lead outside: header, lengths, row pointers, and every row,
    /// which is decoded; and that it is what was written: every checksum. `orders` are the genes and the peaks in order of
    /// rank.
    pub(crate) fn open(
        dir: &Path,
        entry: &ShardEntry,
        number: usize,
        sizes: VocabularySizes,
        orders: &Arc<[Vec<u32>; 2]>,
        io: Io,
    ) -> Result<Self> {
        let path = dir.join(&entry.file);
        let bad = |found: String| Error::input(&path, found, DAMAGED);
        let bytes = Bytes::open(&path, io)?;
        let io_error = |e| Error::io(&path, "read", e);
        if bytes.len() != entry.bytes {
            return Err(bad(format!("the shard is {} bytes long instead of {}", bytes.len(), entry.bytes)));
        }
        let short = || bad(format!("the shard is {} bytes long, less than its header", bytes.len()));
        if bytes.len() < HEADER as u64 {
            return Err(short());
        }
        let header = bytes.copy(0..HEADER).map_err(io_error)?;
        let header = header.as_slice();
        let mut f = Fields(header);
        if f.take(8) != Some(MAGIC) {
            return Err(bad("not a shard (its first bytes are not SCXSHARD)".into()));
        }
        let mut word = || f.u64().ok_or_else(short);
        let version = word()?;
        let (version, header_bytes) = (version as u32, (version >> 32) as u32);
        if version != VERSION {
            return Err(Error::input(
                &path,
                format!("version {version} of the shard format; this program reads version {VERSION}"),
                "prepare the data again, or use the program that made it",
            ));
        }
        if checksum(&header[..HEADER - 8]).to_le_bytes() != header[HEADER - 8..] {
            return Err(bad("the checksum of the header does not match".into()));
        }
        let (total, first, cells, genes, peaks, flags) = (word()?, word()?, word()?, word()?, word()?, word()?);
        let (flags, stored_number) = (flags as u32, (flags >> 32) as u32);
        let entries = [word()?, word()?];
        let (gene_bytes, peak_bytes, fingerprint) = (word()?, word()?, word()?);
        let mut sums = [0; SECTIONS];
        for sum in &mut sums {
            *sum = word()?;
        }
        if format!("{:016x}", checksum(&header[..HEADER - 8])) != entry.header
            || header_bytes as usize != HEADER
            || flags & !(Half::Rna.flag() | Half::Atac.flag()) != 0
            || stored_number as usize != number
            || (first, cells) != (entry.first, entry.cells)
            || (VocabularySizes { genes, peaks, fingerprint }) != sizes
        {
            return Err(bad("the shard does not belong to this data set".into()));
        }
        let places = section_places(cells, gene_bytes, peak_bytes)
            .filter(|p| p.total as u64 == bytes.len() && total == entry.bytes);
        let places =
            places.ok_or_else(|| bad("the counts in the header do not add up to the length of the file".into()))?;
        let section = |i: usize| bytes.copy(places.sections[i].clone()).map_err(io_error);
        let starts = |i: usize| -> Result<Vec<u64>> {
            Ok(section(i)?.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).collect())
        };
        let counts = |i: usize| -> Result<Vec<u32>> {
            Ok(section(i)?.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
        };
        let (starts, counts) = ([starts(0)?, starts(3)?], [counts(1)?, counts(4)?]);
        let shard = Shard {
            path: path.clone(),
            starts,
            counts,
            failed: OnceLock::new(),
            sections: places.sections,
            sums,
            first,
            cells: cells as usize, // n + 1 pointers of 8 bytes fit the map
            entries,
            flags,
            orders: orders.clone(),
            bytes,
        };
        shard.verify()?;
        shard.check_rows(Half::Rna)?;
        shard.check_rows(Half::Atac)?;
        Ok(shard)
    }

    fn check_rows(&self, half: Half) -> Result<()> {
        let bad = |cell: usize, found: String| {
            Error::input(&self.path, format!("cell {}: {found}", self.first + cell as u64), DAMAGED)
        };
        let what = half.what();
        let (starts, counts) = (self.starts(half), self.counts(half));
        let rows = self.sections[half.section() + 2].len();
        if starts.first() != Some(&0) || starts.last() != Some(&(rows as u64)) {
            return Err(bad(0, format!("the {what} rows do not run from byte 0 to {rows}")));
        }
        let entries: u64 = counts.iter().map(|&n| u64::from(n)).sum();
        if entries != self.entries[half as usize] {
            return Err(bad(0, format!("{entries} {what}s in all instead of {}", self.entries[half as usize])));
        }
        (0..self.cells).into_par_iter().try_for_each_init(
            RowBuffers::default,
            |RowBuffers { index, values, bytes }, i| {
                let (from, to) = (starts[i], starts[i + 1]);
                if from > to || to > rows as u64 {
                    return Err(bad(i, format!("its {what}s are bytes {from} to {to} of {rows}")));
                }
                index.clear();
                values.clear();
                match self.decode(i, half, index, values, bytes) {
                    Ok(decoded) => decoded.map_err(|wrong| bad(i, format!("its {what}s cannot be read: {wrong}"))),
                    Err(e) => Err(Error::io(&self.path, "read", e)),
                }
            },
        )
    }

    fn starts(&self, half: Half) -> &[u64] {
        &self.starts[half as usize]
    }

    fn counts(&self, half: Half) -> &[u32] {
        &self.counts[half as usize]
    }

    /// Appends row `i`; `bytes` is room for what is not mapped.
    fn decode(
        &self,
        i: usize,
        half: Half,
        index: &mut Vec<u32>,
        values: &mut Vec<f32>,
        bytes: &mut Vec<u8>,
    ) -> std::io::Result<std::result::Result<(), codec::Wrong>> {
        let (starts, rows) = (self.starts(half), &self.sections[half.section() + 2]);
        let range = rows.start + starts[i] as usize..rows.start + starts[i + 1] as usize;
        let (n, order, stored) = (self.len(i, half), &self.orders[half as usize], self.stored(half));
        self.bytes.with(range, bytes, |row| codec::decode(row, n, order, stored, index, values))
    }

    /// Number of the first cell.
    pub(crate) fn first(&self) -> usize {
        self.first as usize
    }

    /// Cells in it.
    pub(crate) fn cells(&self) -> usize {
        self.cells
    }

    /// Entries of genes and of peaks.
    pub(crate) fn entries(&self) -> (u64, u64) {
        (self.entries[0], self.entries[1])
    }

    /// Are values stored, or are all 1?
    pub(crate) fn stored(&self, half: Half) -> bool {
        self.flags & half.flag() != 0
    }

    /// Entries of cell `i` of this shard. Nothing is decoded.
    pub(crate) fn len(&self, i: usize, half: Half) -> usize {
        self.counts(half)[i] as usize
    }

    /// Appends the entries of cell `i` of this shard to `index` and, where they are stored, to `values`.
    ///
    /// `open` has decoded every row: one that fails here was changed since. It then comes out empty, which no batch may be,
    /// and [`Shard::check`] tells.
    pub(crate) fn append(&self, i: usize, half: Half, index: &mut Vec<u32>, values: &mut Vec<f32>) {
        thread_local! {
            static ROOM: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        let before = (index.len(), values.len());
        let failed = match ROOM.with_borrow_mut(|room| self.decode(i, half, index, values, room)) {
            Ok(Ok(())) => return,
            Ok(Err(wrong)) => format!("cell {}: its {}s cannot be read: {wrong}", self.first + i as u64, half.what()),
            Err(e) => e.to_string(),
        };
        let _ = self.failed.set(failed); // the first is told
        index.truncate(before.0);
        values.truncate(before.1);
    }

    /// Could every row be read so far?
    pub(crate) fn check(&self) -> Result<()> {
        match self.failed.get() {
            Some(why) => Err(Error::input(&self.path, format!("has changed while it was read: {why}"), DAMAGED)),
            None => Ok(()),
        }
    }

    /// Compares every section with its checksum, and the gaps with zero.
    pub(crate) fn verify(&self) -> Result<()> {
        let names = ["gene pointers", "gene counts", "genes", "peak pointers", "peak counts", "peaks"];
        let io = |e| Error::io(&self.path, "read", e);
        let compare = |i: usize| match self.bytes.with(self.sections[i].clone(), &mut Vec::new(), checksum) {
            Ok(sum) if sum == self.sums[i] => Ok(()),
            Ok(_) => Err(Error::input(&self.path, format!("the checksum of the {} does not match", names[i]), DAMAGED)),
            Err(e) => Err(io(e)),
        };
        let compared: Vec<Result<()>> = (0..SECTIONS).into_par_iter().map(compare).collect();
        compared.into_iter().collect::<Result<()>>()?;
        let ends = self.sections[1..].iter().map(|s| s.start).chain([self.bytes.len() as usize]);
        for (section, next) in self.sections.iter().zip(ends) {
            if self.bytes.copy(section.end..next).map_err(io)?.iter().any(|b| *b != 0) {
                return Err(Error::input(&self.path, "a gap between sections is not zero", DAMAGED));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const SIZES: VocabularySizes = VocabularySizes { genes: 300, peaks: 700, fingerprint: 0x5ca1e };
    const FILE: &str = "00003.shard";
    type Row = Vec<(u32, f32)>;

    /// Ranks and indices differ: chromosomes alternate.
    fn orders() -> Arc<[Vec<u32>; 2]> {
        let chrom = |n: u64| (0..n as u32).map(|i| i % 3).collect::<Vec<_>>();
        Arc::new([codec::order(&chrom(SIZES.genes)), codec::order(&chrom(SIZES.peaks))])
    }

    fn cells() -> Vec<[Row; 2]> {
        let mut r = Rng::new(5, 0);
        let mut row = |size: u64, share: f64, value: &dyn Fn(usize) -> f32| -> Row {
            let ranks = (0..size as u32).filter(|_| r.uniform() < share).collect::<Vec<_>>();
            ranks.into_iter().map(|k| (k, value(r.below(9)))).collect()
        };
        (0..40)
            .map(|i| match i {
                7 => [Row::new(), row(SIZES.peaks, 1.0, &|_| 1.0)],
                8 => [row(SIZES.genes, 1.0, &|x| x as f32 + 1.0), Row::new()],
                9 => [Row::new(), Row::new()],
                _ => {
                    let scale = 0.1 + i as f32;
                    let genes = row(SIZES.genes, 0.3, &|x| {
                        if i % 3 == 0 { 1.0 + x as f32 } else { (scale * (1 + x) as f32).ln_1p() }
                    });
                    [genes, row(SIZES.peaks, 0.5, &|_| 1.0)]
                }
            })
            .collect()
    }

    fn data(cells: &[[Row; 2]]) -> ShardData {
        let mut d = ShardData { number: 3, first: 120, genes: RowData::new(true), peaks: RowData::new(false) };
        for [genes, peaks] in cells {
            for (rows, row) in [(&mut d.genes, genes), (&mut d.peaks, peaks)] {
                let mut bytes = Vec::new();
                codec::encode(row, rows.stored, &mut bytes);
                rows.push(row.len(), &bytes);
            }
        }
        d
    }

    fn open(dir: &Path, entry: &ShardEntry) -> Result<Shard> {
        Shard::open(dir, entry, 3, SIZES, &orders(), Io::Mmap)
    }

    /// The line that refuses these cells.
    fn refused(d: &ShardData) -> String {
        let dir = tempfile::tempdir().unwrap();
        let e = open(dir.path(), &write(dir.path(), FILE, SIZES, d).unwrap()).unwrap_err();
        assert_eq!(e.exit_code(), 2);
        let text = e.to_string();
        assert!(text.contains(FILE) && text.contains("run `prepare` again"), "{text}");
        text
    }

    /// All that can be read: in range and in order, whatever the bytes are.
    fn read_all(shard: &Shard) -> Vec<[Row; 2]> {
        let orders = orders();
        let ranks = [codec::ranks(&orders[0]), codec::ranks(&orders[1])];
        (0..shard.cells())
            .map(|i| {
                [Half::Rna, Half::Atac].map(|half| {
                    let (mut index, mut values) = (Vec::new(), Vec::new());
                    shard.append(i, half, &mut index, &mut values);
                    assert_eq!(index.len(), shard.len(i, half));
                    values.resize(index.len(), 1.0);
                    let row: Row = index.iter().map(|&k| ranks[half as usize][k as usize]).zip(values).collect();
                    assert!(row.is_sorted_by(|a, b| a.0 < b.0) && row.iter().all(|e| e.1.is_finite() && e.1 > 0.0));
                    row
                })
            })
            .collect()
    }

    #[test]
    fn cells_come_back_and_may_lack_a_half() {
        let dir = tempfile::tempdir().unwrap();
        let cells = cells();
        let entry = write(dir.path(), FILE, SIZES, &data(&cells)).unwrap();
        let shard = open(dir.path(), &entry).unwrap();
        assert_eq!((shard.first(), shard.cells()), (120, 40));
        assert_eq!((shard.stored(Half::Rna), shard.stored(Half::Atac)), (true, false));
        assert_eq!(read_all(&shard), cells);
        let sum = |half: usize| cells.iter().map(|c| c[half].len() as u64).sum::<u64>();
        assert_eq!(shard.entries(), (sum(0), sum(1)));
        assert_eq!(shard.len(8, Half::Rna), 300);
        shard.verify().unwrap();
    }

    /// Rows that lie, under checksums that are right.
    #[test]
    fn lies_are_refused_where_checksums_match() {
        let good = data(&cells());
        let change = |row: usize, count: usize, bytes: &[u8]| {
            let mut d = ShardData { number: 3, first: 120, genes: RowData::new(true), peaks: RowData::new(false) };
            for i in 0..good.genes.counts.len() {
                let rows = [(&good.genes, &mut d.genes), (&good.peaks, &mut d.peaks)];
                for (from, to) in rows {
                    let range = from.starts[i] as usize..from.starts[i + 1] as usize;
                    to.push(from.counts[i] as usize, &from.bytes[range]);
                }
            }
            // The last row of either half is this one.
            d.genes.push(1, &[0, 0, 0]);
            d.peaks.push(1, &[0]);
            let rows = if row == 0 { &mut d.genes } else { &mut d.peaks };
            rows.starts.pop();
            rows.counts.pop();
            rows.bytes.truncate(rows.starts.last().map_or(0, |&n| n as usize));
            rows.push(count, bytes);
            refused(&d)
        };
        for (row, count, bytes, parts) in [
            (0, 1, &[0][..], ["cell 160: its genes", "end too early"]),
            (0, 301, &[0, 0, 0], ["cell 160: its genes", "more than the vocabulary"]),
            (0, u32::MAX as usize, &[0, 0, 0], ["cell 160: its genes", "more than the vocabulary"]),
            (0, 0, &[0], ["cell 160: its genes", "left over"]),
            (0, 1, &[33, 1, 1, 1, 1, 1, 0, 0], ["cell 160: its genes", "32 bits"]),
            (0, 1, &[16, 44, 1, 0, 0], ["cell 160: its genes", "beyond the vocabulary"]),
            (0, 1, &[0, 2, 0, 0, 192, 127], ["cell 160: its genes", "not a number above 0"]),
            (0, 1, &[0, 3, 0], ["cell 160: its genes", "unknown way"]),
            (1, 1, &[16, 188, 2], ["cell 160: its peaks", "beyond the vocabulary"]),
            (1, 2, &[128, 1, 1, 9, 1], ["cell 160: its peaks", "outside its block"]),
        ] {
            let text = change(row, count, bytes);
            assert!(parts.iter().all(|p| text.contains(p)), "{bytes:?}: {text}");
        }
        let mut d = data(&cells());
        d.peaks.starts.swap(4, 5);
        assert!(refused(&d).contains("its peaks"));
        let mut d = data(&cells());
        *d.genes.starts.last_mut().unwrap() -= 1;
        assert!(refused(&d).contains("do not run from byte 0"));
        let mut d = data(&cells());
        d.genes.starts[0] = 1;
        assert!(refused(&d).contains("do not run from byte 0"));
        let mut d = data(&cells());
        d.peaks.starts[6] = u64::MAX;
        assert!(refused(&d).contains("its peaks are bytes"));
    }

    /// Makes all checksums of a shard right again.
    fn seal(bytes: &mut [u8], entry: &ShardEntry) -> ShardEntry {
        let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        if let Some(places) =
            section_places(word(bytes, 32), word(bytes, 80), word(bytes, 88)).filter(|p| p.total == bytes.len())
        {
            for (i, section) in places.sections.into_iter().enumerate() {
                let sum = checksum(&bytes[section]);
                bytes[104 + 8 * i..][..8].copy_from_slice(&sum.to_le_bytes());
            }
        }
        let sum = checksum(&bytes[..HEADER - 8]);
        bytes[HEADER - 8..HEADER].copy_from_slice(&sum.to_le_bytes());
        ShardEntry { header: format!("{sum:016x}"), bytes: bytes.len() as u64, ..entry.clone() }
    }

    #[test]
    fn no_byte_leads_outside_where_checksums_match() {
        let dir = tempfile::tempdir().unwrap();
        let entry = write(dir.path(), FILE, SIZES, &data(&cells())).unwrap();
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let mut r = Rng::new(8, 0);
        let (mut read, mut refused) = (0, 0);
        for at in (0..HEADER - 8).chain((HEADER..whole.len()).step_by(3)) {
            let mut bytes = whole.clone();
            let x = bytes[at];
            bytes[at] = [x ^ (1 << (at % 8)), r.below(256) as u8, 255 - x][at % 3];
            let sealed = seal(&mut bytes, &entry);
            std::fs::write(&path, &bytes).unwrap();
            match open(dir.path(), &sealed) {
                Ok(shard) => {
                    read_all(&shard);
                    read += 1;
                }
                Err(e) => {
                    assert_eq!(e.exit_code(), 2, "{e}");
                    refused += 1;
                }
            }
        }
        assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
        for n in (0..whole.len()).step_by(61).chain([whole.len() - 1, whole.len() - 64]) {
            let mut bytes = whole[..n].to_vec();
            let sealed =
                if n < HEADER { ShardEntry { bytes: n as u64, ..entry.clone() } } else { seal(&mut bytes, &entry) };
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(open(dir.path(), &sealed).unwrap_err().exit_code(), 2, "cut to {n}");
            assert_eq!(open(dir.path(), &entry).unwrap_err().exit_code(), 2, "cut to {n}");
        }
    }

    #[test]
    fn other_counts_and_versions_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let entry = write(dir.path(), FILE, SIZES, &data(&cells())).unwrap();
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let line = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = whole.clone();
            change(&mut bytes);
            let sealed = seal(&mut bytes, &entry);
            std::fs::write(&path, &bytes).unwrap();
            open(dir.path(), &sealed).unwrap_err().to_string()
        };
        let first = line(&|b| b[8] = 1);
        assert!(first.contains("version 1 of the shard format; this program reads version 2"), "{first}");
        assert!(first.contains("prepare the data again"), "{first}");
        assert!(line(&|b| b[64] ^= 1).contains("genes in all instead of"));
        assert!(line(&|b| b[72] ^= 1).contains("peaks in all instead of"));
        assert!(line(&|b| b[80] = b[80].wrapping_add(64)).contains("do not add up"));
        assert!(line(&|b| b[95] = 255).contains("do not add up"));
        assert!(line(&|b| b[39] = 255).contains("does not belong"), "cells");
        assert!(line(&|b| b[56] |= 4).contains("does not belong"), "flags");
        assert!(line(&|b| b[96] ^= 1).contains("does not belong"), "fingerprint");
        assert!(line(&|b| b.extend([0; 64])).contains("do not add up"));
    }
}
