//! The shard: cells of a data set in one memory-mapped file.
//!
//! All numbers are little-endian. The file is a header of 256 bytes and seven sections; each section starts at the
//! next multiple of 64 after the one before (the gap is zeros), and the file ends at a multiple of 64. Sections
//! have no stored offsets: their lengths follow from the counts in the header, and the sum must be the length of the
//! file, so that nothing can overlap or point outside.
//!
//! | offset | type | field |
//! | --- | --- | --- |
//! | 0 | 8 bytes | magic `SCXSHARD` |
//! | 8 | u32 | version, 1 |
//! | 12 | u32 | header bytes, 256 |
//! | 16 | u64 | total length of the file |
//! | 24 | u64 | number of the first cell |
//! | 32 | u64 | cells in this shard, n |
//! | 40 | u64 | G, genes of the data set |
//! | 48 | u64 | P, peaks of the data set |
//! | 56 | u64 | L, bases of DNA a peak; 0 where there are no sequences |
//! | 64 | u32 | flags: 1 expression values are stored (else all are 1), 2 accessibility values are stored |
//! | 68 | u32 | number of the shard |
//! | 72 | u64 | gene entries, R |
//! | 80 | u64 | peak entries, A |
//! | 88 | u64 | fingerprint of the vocabulary the indices refer to |
//! | 96 | 7 × u64 | XXH3-64 of each section |
//! | 152 | 96 bytes | zero |
//! | 248 | u64 | XXH3-64 of the 248 bytes before |
//!
//! | section | type | length | content |
//! | --- | --- | --- | --- |
//! | 0 | u64 | n + 1 | where the genes of each cell start; from 0 to R, rising |
//! | 1 | u32 | R | gene of each entry; within a cell ascending by (chromosome, index) |
//! | 2 | f32 | R or 0 | expression of each entry, above 0 |
//! | 3 | u64 | n + 1 | where the peaks of each cell start |
//! | 4 | u32 | A | peak of each entry; within a cell ascending by (chromosome, index) |
//! | 5 | f32 | A or 0 | accessibility of each entry, above 0 |
//! | 6 | u32 | n × L | for each cell and base position, the sum of the base codes of the cell's peaks |
//!
//! A cell without genes, or without peaks, is one of data of one modality alone.
//!
//! # Version history
//! - 1: first version.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::dataset::{CellView, Values};
use super::files::{Fields, checksum, write_whole};
use super::mmap::Map;
use crate::error::{Error, Result};

#[cfg(target_endian = "big")]
compile_error!("shards are read in place and are little-endian");

const MAGIC: &[u8; 8] = b"SCXSHARD";
const VERSION: u32 = 1;
const HEADER: usize = 256;
const ALIGN: usize = 64;
const SECTIONS: usize = 7;
const EXPR_STORED: u32 = 1;
const ACC_STORED: u32 = 2;

/// Sizes that a shard shares with its data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub genes: u64,
    pub peaks: u64,
    pub dna_length: u64,
    /// Fingerprint of the vocabulary.
    pub fingerprint: u64,
}

/// Cells to be written.
#[derive(Debug, Default)]
pub(crate) struct ShardData {
    pub number: u32,
    pub first: u64,
    pub gene_indptr: Vec<u64>,
    pub genes: Vec<u32>,
    /// Empty where all are 1.
    pub expr: Vec<f32>,
    pub peak_indptr: Vec<u64>,
    pub peaks: Vec<u32>,
    /// Empty where all are 1.
    pub acc: Vec<f32>,
    pub dna_sums: Vec<u32>,
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

struct Plan {
    sections: [Range<usize>; SECTIONS],
    total: usize,
}

/// Places of the sections, from the counts; `None` where they overflow.
fn plan(cells: u64, genes: u64, peaks: u64, dna_length: u64, flags: u32) -> Option<Plan> {
    let n = usize::try_from(cells).ok()?;
    let (r, a) = (usize::try_from(genes).ok()?, usize::try_from(peaks).ok()?);
    let pointers = n.checked_add(1)?.checked_mul(8)?;
    let stored = |flag: u32, n: usize| if flags & flag != 0 { n.checked_mul(4) } else { Some(0) };
    let lengths = [
        pointers,
        r.checked_mul(4)?,
        stored(EXPR_STORED, r)?,
        pointers,
        a.checked_mul(4)?,
        stored(ACC_STORED, a)?,
        n.checked_mul(usize::try_from(dna_length).ok()?)?.checked_mul(4)?,
    ];
    let mut at = HEADER;
    let mut sections: [Range<usize>; SECTIONS] = Default::default();
    for (section, length) in sections.iter_mut().zip(lengths) {
        let end = at.checked_add(length)?;
        *section = at..end;
        at = end.checked_next_multiple_of(ALIGN)?;
    }
    Some(Plan { sections, total: at })
}

/// Writes a shard: temporary name, flush, rename.
pub(crate) fn write(dir: &Path, file: &str, sizes: Sizes, d: &ShardData) -> Result<ShardEntry> {
    let cells = (d.gene_indptr.len() as u64).saturating_sub(1);
    let flags = if d.expr.is_empty() { 0 } else { EXPR_STORED } | if d.acc.is_empty() { 0 } else { ACC_STORED };
    let (r, a) = (d.genes.len() as u64, d.peaks.len() as u64);
    let plan = plan(cells, r, a, sizes.dna_length, flags)
        .ok_or_else(|| Error::Internal(format!("shard {}: its length overflows", d.number)))?;
    let bytes: [&[u8]; SECTIONS] = [
        bytemuck::cast_slice(&d.gene_indptr),
        bytemuck::cast_slice(&d.genes),
        bytemuck::cast_slice(&d.expr),
        bytemuck::cast_slice(&d.peak_indptr),
        bytemuck::cast_slice(&d.peaks),
        bytemuck::cast_slice(&d.acc),
        bytemuck::cast_slice(&d.dna_sums),
    ];
    if bytes.iter().zip(&plan.sections).any(|(b, s)| b.len() != s.len()) {
        return Err(Error::Internal(format!("shard {}: a section does not have the length of its counts", d.number)));
    }
    let sums: Vec<u64> = bytes.par_iter().map(|b| checksum(b)).collect();
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend((HEADER as u32).to_le_bytes());
    for word in [plan.total as u64, d.first, cells, sizes.genes, sizes.peaks, sizes.dna_length] {
        header.extend(word.to_le_bytes());
    }
    header.extend(flags.to_le_bytes());
    header.extend(d.number.to_le_bytes());
    for word in [r, a, sizes.fingerprint] {
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
        let next = plan.sections.get(i + 1).map_or(plan.total, |s| s.start);
        parts.push(&gap[..next - plan.sections[i].end]);
    }
    write_whole(&dir.join(file), &parts)?;
    Ok(ShardEntry {
        file: file.to_string(),
        first: d.first,
        cells,
        bytes: plan.total as u64,
        header: format!("{sum:016x}"),
    })
}

/// A shard, opened. Every index in it has been found to be in range and in order.
#[derive(Debug)]
pub(crate) struct Shard {
    path: PathBuf,
    map: Map,
    sections: [Range<usize>; SECTIONS],
    sums: [u64; SECTIONS],
    first: u64,
    cells: usize,
    dna_length: usize,
    flags: u32,
}

impl Shard {
    /// Opens a shard and proves that no index in it can lead outside: header, lengths, row pointers, and every gene
    /// and peak against `gene_chrom` and `peak_chrom` (range and order). Checksums of the sections: see `verify`.
    pub(crate) fn open(
        dir: &Path,
        entry: &ShardEntry,
        number: usize,
        sizes: Sizes,
        gene_chrom: &[u32],
        peak_chrom: &[u32],
    ) -> Result<Self> {
        let path = dir.join(&entry.file);
        let bad = |found: String| {
            Error::input(&path, found, "the data set is damaged; run `prepare` again, or restore the file")
        };
        let map = Map::open(&path)?;
        let bytes = map.bytes();
        if bytes.len() as u64 != entry.bytes {
            return Err(bad(format!("the shard is {} bytes long instead of {}", bytes.len(), entry.bytes)));
        }
        let short = || bad(format!("the shard is {} bytes long, less than its header", bytes.len()));
        let header = bytes.get(..HEADER).ok_or_else(short)?;
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
        let total = word()?;
        let (first, cells, genes, peaks, dna_length) = (word()?, word()?, word()?, word()?, word()?);
        let flags = word()?;
        let (flags, stored_number) = (flags as u32, (flags >> 32) as u32);
        let (r, a, fingerprint) = (word()?, word()?, word()?);
        let mut sums = [0; SECTIONS];
        for sum in &mut sums {
            *sum = word()?;
        }
        if format!("{:016x}", checksum(&header[..HEADER - 8])) != entry.header
            || header_bytes as usize != HEADER
            || flags & !(EXPR_STORED | ACC_STORED) != 0
            || stored_number as usize != number
            || (first, cells) != (entry.first, entry.cells)
            || (Sizes { genes, peaks, dna_length, fingerprint }) != sizes
        {
            return Err(bad("the shard does not belong to this data set".into()));
        }
        let plan = plan(cells, r, a, dna_length, flags).filter(|p| p.total == bytes.len() && total == entry.bytes);
        let plan =
            plan.ok_or_else(|| bad("the counts in the header do not add up to the length of the file".into()))?;
        let shard = Shard {
            path: path.clone(),
            sections: plan.sections,
            sums,
            first,
            cells: cells as usize, // n + 1 pointers of 8 bytes fit the map
            dna_length: dna_length as usize,
            flags,
            map,
        };
        shard.check_entries("gene", 0, gene_chrom)?;
        shard.check_entries("peak", 3, peak_chrom)?;
        Ok(shard)
    }

    fn check_entries(&self, what: &str, section: usize, chrom: &[u32]) -> Result<()> {
        let bad = |cell: usize, found: String| {
            Error::input(
                &self.path,
                format!("cell {}: {found}", self.first + cell as u64),
                "the data set is damaged; run `prepare` again, or restore the file",
            )
        };
        let (indptr, index) = (self.u64s(section), self.u32s(section + 1));
        if indptr.first() != Some(&0) || indptr.last() != Some(&(index.len() as u64)) {
            return Err(bad(0, format!("the {what} pointers do not run from 0 to {}", index.len())));
        }
        (0..self.cells).into_par_iter().try_for_each(|i| {
            let (from, to) = (indptr[i], indptr[i + 1]);
            if from > to || to > index.len() as u64 {
                return Err(bad(i, format!("its {what}s are entries {from} to {to} of {}", index.len())));
            }
            let row = &index[from as usize..to as usize];
            if let Some(k) = row.iter().find(|&&k| k as usize >= chrom.len()) {
                return Err(bad(i, format!("it names {what} {k} of {}", chrom.len())));
            }
            let key = |k: u32| (chrom[k as usize], k);
            if !row.is_sorted_by(|a, b| key(*a) < key(*b)) {
                return Err(bad(i, format!("its {what}s are not in order of (chromosome, index)")));
            }
            Ok(())
        })
    }

    fn section(&self, i: usize) -> &[u8] {
        &self.map.bytes()[self.sections[i].clone()]
    }

    // Sections start at multiples of 64 of a page-aligned map and have whole elements: the casts cannot fail.
    fn u64s(&self, i: usize) -> &[u64] {
        bytemuck::try_cast_slice(self.section(i)).unwrap_or(&[])
    }

    fn u32s(&self, i: usize) -> &[u32] {
        bytemuck::try_cast_slice(self.section(i)).unwrap_or(&[])
    }

    fn f32s(&self, i: usize) -> &[f32] {
        bytemuck::try_cast_slice(self.section(i)).unwrap_or(&[])
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
        (self.u32s(1).len() as u64, self.u32s(4).len() as u64)
    }

    /// Cell `i` of this shard.
    pub(crate) fn cell(&self, i: usize) -> CellView<'_> {
        let row = |section: usize, flag: u32| {
            let indptr = self.u64s(section);
            let range = indptr[i] as usize..indptr[i + 1] as usize;
            let values = if self.flags & flag == 0 {
                Values::Ones(range.len())
            } else {
                Values::F32(&self.f32s(section + 2)[range.clone()])
            };
            (&self.u32s(section + 1)[range], values)
        };
        let (genes, expr) = row(0, EXPR_STORED);
        let (peaks, acc) = row(3, ACC_STORED);
        CellView { genes, expr, peaks, acc }
    }

    /// `[L]` sums of base codes over the peaks of cell `i`; `None` without sequences.
    pub(crate) fn dna_sums(&self, i: usize) -> Option<&[u32]> {
        let n = self.dna_length;
        if n == 0 { None } else { self.u32s(6).get(i * n..(i + 1) * n) }
    }

    /// Compares every section with its checksum, the gaps with zero, and the values with what is allowed.
    pub(crate) fn verify(&self) -> Result<()> {
        let fix = "the data set is damaged; run `prepare` again, or restore the file";
        let names = ["gene pointers", "genes", "expression", "peak pointers", "peaks", "accessibility", "DNA sums"];
        let wrong = (0..SECTIONS).into_par_iter().find_first(|&i| checksum(self.section(i)) != self.sums[i]);
        if let Some(i) = wrong {
            return Err(Error::input(&self.path, format!("the checksum of the {} does not match", names[i]), fix));
        }
        let ends = self.sections[1..].iter().map(|s| s.start).chain([self.map.bytes().len()]);
        if self.sections.iter().zip(ends).any(|(s, next)| self.map.bytes()[s.end..next].iter().any(|b| *b != 0)) {
            return Err(Error::input(&self.path, "a gap between sections is not zero", fix));
        }
        if [2, 5].iter().any(|&i| self.f32s(i).iter().any(|v| !(v.is_finite() && *v > 0.0))) {
            return Err(Error::input(&self.path, "a stored value is not a number above 0", fix));
        }
        Ok(())
    }
}
