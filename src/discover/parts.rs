//! Attention on its way: cells in parts, each a file that appears whole, so that stopped work goes on where it stopped.
//!
//! A part (little-endian): magic `SCXATTEN`, version u32, cells n u32, pairs u64, fingerprint u64; then n + 1 pointers
//! u64, the gene and the peak of each pair u32, its weight and its score f32, and the XXH3-64 of all before. The
//! fingerprint is that of the parameters, the data and the cells: a part of something else is not taken.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::attention::Pair;
use crate::dataset::DataSet;
use crate::engine::Runner;
use crate::error::{Error, Result};
use crate::files::atomic::write_whole;
use crate::files::bytes::{Fields, checksum};
use crate::model::output::{Attention, Want};
use crate::progress::Progress;

/// The attention of one sample as pairs sorted by (gene, peak), averaged over heads.
fn pairs_of(a: &Attention<f32>, genes: &[u32], peaks: &[u32], heads: usize) -> Vec<Pair> {
    let mut all: Vec<(u32, u32, f32, f32)> = (0..a.weight.len())
        .map(|i| (genes[a.gene_row[i] as usize], peaks[a.peak_row[i] as usize], a.weight[i], a.score[i]))
        .collect();
    all.sort_by_key(|p| (p.0, p.1)); // stable: heads stay in order
    all.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .map(|same| Pair {
            gene: same[0].0,
            peak: same[0].1,
            weight: same.iter().map(|p| p.2).sum::<f32>() / heads as f32,
            score: same.iter().map(|p| p.3).sum::<f32>() / same.len() as f32,
        })
        .collect()
}

const MAGIC: &[u8; 8] = b"SCXATTEN";
const VERSION: u32 = 1;
/// Bytes before the pointers.
const HEAD: u64 = 32;
/// What progress calls the passes over cells.
const STAGE: &str = "discover";
/// Folder of the parts of a discovery on its way, in the folder of the discovery.
pub(crate) const PARTS: &str = ".attention";
/// What is kept of a discovery that is stopped at its tables.
pub(super) const KEPT: &str = "all attention is there; the same command with --resume makes the tables";
/// Cells a part.
const CELLS: usize = 1024;

/// RNA of one cell and ATAC of one cell (the same, unless pairings are shuffled).
pub(super) type Pairing = (u32, u32);

/// The parts of some cells: where they are, and what is in each.
pub(super) struct Parts {
    dir: PathBuf,
    /// Group and pairings of each part.
    parts: Vec<(usize, Vec<Pairing>)>,
    fingerprint: u64,
}

impl Parts {
    /// Parts of `groups` in the folder `dir`; none holds cells of two groups.
    pub(super) fn new(dir: PathBuf, groups: &[Vec<Pairing>], runner: &Runner<'_>, data: &DataSet) -> Self {
        let part = |i: usize| move |cells: &[Pairing]| (i, cells.to_vec());
        let parts = groups.iter().enumerate().flat_map(|(i, g)| g.chunks(CELLS).map(part(i))).collect();
        let model = runner.model();
        let numbers = checksum(bytemuck::cast_slice(model.params.as_slice()));
        let config = format!("{:?} {numbers:016x} {}", model.config, data.hash());
        Parts { dir, parts, fingerprint: checksum(config.as_bytes()) }
    }

    fn path(&self, i: usize) -> PathBuf {
        self.dir.join(format!("{i:06}.part"))
    }

    fn fingerprint(&self, i: usize) -> u64 {
        let cells: Vec<u8> =
            self.parts[i].1.iter().flat_map(|p| [p.0.to_le_bytes(), p.1.to_le_bytes()]).flatten().collect();
        self.fingerprint ^ checksum(&cells)
    }

    /// Computes the parts that are not there yet. `progress` is told the cells done, among them those found done, and
    /// `before` of `of` that other parts have. Returns the cells found done.
    pub(super) fn compute(
        &self,
        runner: &mut Runner<'_>,
        data: &DataSet,
        batch_size: usize,
        (before, of): (u64, u64),
        progress: &dyn Progress,
    ) -> Result<u64> {
        std::fs::create_dir_all(&self.dir).map_err(|e| Error::io(&self.dir, "create", e))?;
        let heads = runner.model().config.heads;
        let want = Want { attention: true, ..Want::default() };
        let (mut done, mut found) = (0, 0);
        for (i, (_, cells)) in self.parts.iter().enumerate() {
            if self.read(i).is_ok() {
                found += cells.len() as u64;
            } else {
                let mut rows: Vec<Vec<Pair>> = Vec::with_capacity(cells.len());
                for chunk in cells.chunks(batch_size.max(1)) {
                    progress.check(&format!(
                        "{done} cells are done; the same command with --resume goes on with the others"
                    ))?;
                    // Attention needs no label, and 0 spares the translation.
                    let batch = data.batch_of_pairs(chunk);
                    data.check()?;
                    let attended = runner.forward(&batch, want)?.attention;
                    if attended.len() != chunk.len() {
                        return Err(Error::Internal(format!(
                            "attention of {} samples for {}",
                            attended.len(),
                            chunk.len()
                        )));
                    }
                    let row = |(b, a)| pairs_of(a, batch.rna.row(b).0, batch.atac.row(b).0, heads);
                    rows.extend(attended.iter().enumerate().map(row));
                    progress.at(STAGE, before + done + rows.len() as u64, of);
                }
                self.write(i, &rows)?;
            }
            done += cells.len() as u64;
            progress.at(STAGE, before + done, of);
        }
        Ok(found)
    }

    fn write(&self, i: usize, rows: &[Vec<Pair>]) -> Result<()> {
        let pairs: Vec<Pair> = rows.concat();
        let mut bytes = Vec::with_capacity(48 + rows.len() * 8 + pairs.len() * 16);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((rows.len() as u32).to_le_bytes());
        bytes.extend((pairs.len() as u64).to_le_bytes());
        bytes.extend(self.fingerprint(i).to_le_bytes());
        let mut end = 0u64;
        bytes.extend(end.to_le_bytes());
        for row in rows {
            end += row.len() as u64;
            bytes.extend(end.to_le_bytes());
        }
        bytes.extend(pairs.iter().flat_map(|p| p.gene.to_le_bytes()));
        bytes.extend(pairs.iter().flat_map(|p| p.peak.to_le_bytes()));
        bytes.extend(pairs.iter().flat_map(|p| p.weight.to_le_bytes()));
        bytes.extend(pairs.iter().flat_map(|p| p.score.to_le_bytes()));
        let sum = checksum(&bytes);
        write_whole(&self.path(i), &[&bytes, &sum.to_le_bytes()])
    }

    /// The rows of part `i`; an error where it is not there, or is not that of these cells and parameters.
    fn read(&self, i: usize) -> Result<Vec<Vec<Pair>>> {
        let path = self.path(i);
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, "read", e))?;
        self.decode(i, &bytes).ok_or_else(|| {
            Error::input(&path, "is not a whole part of this discovery", "run it again without --resume")
        })
    }

    fn decode(&self, i: usize, bytes: &[u8]) -> Option<Vec<Vec<Pair>>> {
        let (body, sum) = bytes.split_last_chunk::<8>()?;
        if u64::from_le_bytes(*sum) != checksum(body) {
            return None;
        }
        let mut f = Fields(body);
        let head = f.take(8) == Some(MAGIC) && f.u32() == Some(VERSION);
        let n = f.u32()? as usize;
        let pairs = usize::try_from(f.u64()?).ok()?;
        if !head || n != self.parts.get(i)?.1.len() || f.u64()? != self.fingerprint(i) {
            return None;
        }
        let mut ends = (0..=n).map(|_| f.u64().and_then(|e| usize::try_from(e).ok())).collect::<Option<Vec<_>>>()?;
        let mut column = || Some(words(f.take(pairs.checked_mul(4)?)?));
        let (gene, peak, weight, score) = (column()?, column()?, column()?, column()?);
        if !f.0.is_empty() || ends.first() != Some(&0) || ends.last() != Some(&pairs) || !ends.is_sorted() {
            return None;
        }
        let starts = ends.clone();
        ends.remove(0);
        let columns = [&gene[..], &peak, &weight, &score];
        Some(starts.iter().zip(&ends).map(|(&from, &to)| pairs_in(columns, from..to)).collect())
    }

    /// Hands on every cell of all groups with its pairs, by the number of its RNA. The parts have been read whole before;
    /// of each group one is open at a time.
    pub(super) fn in_order(
        &self,
        progress: &dyn Progress,
        mut take: impl FnMut(u32, &[Pair]) -> Result<()>,
    ) -> Result<()> {
        let of_part = |(i, part): (usize, &(usize, Vec<Pairing>))| {
            let row = |(r, p): (usize, &Pairing)| (p.0, i, r);
            part.1.iter().enumerate().map(row).collect::<Vec<_>>()
        };
        let mut order: Vec<(u32, usize, usize)> = self.parts.iter().enumerate().flat_map(of_part).collect();
        order.sort_unstable();
        let groups = self.parts.iter().map(|p| p.0 + 1).max().unwrap_or(0);
        let mut open: Vec<Option<(usize, OpenPart)>> = (0..groups).map(|_| None).collect();
        for (cell, i, row) in order {
            let at = &mut open[self.parts[i].0];
            let part = match at.take().filter(|(there, _)| *there == i) {
                Some((_, part)) => part,
                None => {
                    progress.check(KEPT)?;
                    OpenPart::open(self.path(i), self.parts[i].1.len())?
                }
            };
            take(cell, &part.row(row)?)?;
            *at = Some((i, part));
        }
        Ok(())
    }

    /// Hands on every cell of a group with its pairs, in order: (RNA cell, pairs).
    pub(super) fn for_each(
        &self,
        group: usize,
        progress: &dyn Progress,
        mut take: impl FnMut(u32, &[Pair]) -> Result<()>,
    ) -> Result<()> {
        for (i, (_, cells)) in self.parts.iter().enumerate().filter(|(_, p)| p.0 == group) {
            progress.check(KEPT)?;
            for (pairing, row) in cells.iter().zip(&self.read(i)?) {
                take(pairing.0, row)?;
            }
        }
        Ok(())
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Some pairs of the columns of a part: genes, peaks, weights and scores.
fn pairs_in([gene, peak, weight, score]: [&[u32]; 4], range: Range<usize>) -> Vec<Pair> {
    let pair = |k: usize| Pair {
        gene: gene[k],
        peak: peak[k],
        weight: f32::from_bits(weight[k]),
        score: f32::from_bits(score[k]),
    };
    range.map(pair).collect()
}

/// A part that was found whole, from which single rows are read.
struct OpenPart {
    path: PathBuf,
    file: File,
    /// Where the pairs of each row begin and end.
    ends: Vec<u64>,
}

impl OpenPart {
    fn words(&self, from: u64, n: usize) -> Result<Vec<u32>> {
        let mut bytes = vec![0u8; 4 * n];
        self.file.read_exact_at(&mut bytes, from).map_err(|e| Error::io(&self.path, "read", e))?;
        Ok(words(&bytes))
    }

    fn open(path: PathBuf, rows: usize) -> Result<OpenPart> {
        let file = File::open(&path).map_err(|e| Error::io(&path, "read", e))?;
        let mut part = OpenPart { path, file, ends: Vec::new() };
        let halves = part.words(HEAD, 2 * (rows + 1))?;
        part.ends = halves.chunks_exact(2).map(|h| u64::from(h[0]) | u64::from(h[1]) << 32).collect();
        Ok(part)
    }

    fn row(&self, row: usize) -> Result<Vec<Pair>> {
        let (from, to) = (self.ends[row], self.ends[row + 1]);
        let (first, all) = (HEAD + 8 * self.ends.len() as u64, self.ends[self.ends.len() - 1]);
        let column = |k: u64| self.words(first + 4 * (k * all + from), (to - from) as usize);
        let (gene, peak, weight, score) = (column(0)?, column(1)?, column(2)?, column(3)?);
        Ok(pairs_in([&gene, &peak, &weight, &score], 0..gene.len()))
    }
}

/// Removes parts, finished or not.
pub(super) fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(dir, "remove", e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_averaged() {
        let a = Attention {
            head: vec![0, 0, 1],
            gene_row: vec![0, 1, 1],
            peak_row: vec![1, 0, 0],
            weight: vec![0.5f32, 0.25, 0.75],
            score: vec![0.9f32, 0.8, 1.0],
        };
        let pair = |gene, peak, weight, score| Pair { gene, peak, weight, score };
        let p = pairs_of(&a, &[7, 3], &[4, 9], 2);
        assert_eq!(p[0], pair(3, 4, 0.5, 0.9));
        assert_eq!(p[1], pair(7, 9, 0.25, 0.9));
    }
}
