//! Attention along the peaks against where transcription factors bind.
//!
//! A TF track is made of a file of binding sites: a peak's score is the largest score of an interval that shares a base
//! with it, else 0; a peak is *bound* where its score is above 0. A track is compared with the attention of each cell
//! type, summed per peak, over all P peaks:
//!
//! | measure | of the two tracks |
//! | --- | --- |
//! | `cosine`, `pearson` | as they are |
//! | `spearman` | of their ranks, ties by average rank |
//! | `jaccard` | peaks in both tops over peaks in either; the top are the N = min(10,000, P / 10) highest, of equal ones those of lower index; a value of 0 or less is never in a top, which may so be smaller than N |
//! | `auroc`, `auprc` | bound peaks found by attention; chance is 1/2 and the share of bound peaks |
//!
//! The background: attention permuted among matched peaks, those of one accessibility decile, width tercile and, where
//! sequences are known, GC tercile (equal values share a bin; unknown values have their own). z = (value − mean) / sd of
//! the background; p = (1 + permutations that reach the value) / (1 + permutations), one-sided. A permutation moves the
//! attention of a peak with its rank and its place in the top.
//!
//! See docs/model.md, section 8.6.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::maps::{Maps, TypeMap, chromosome, field, known};
use super::null::classes;
use super::places::{Chromosomes, Overlaps, interval};
use crate::data::chromosomes::Aliases;
use crate::data::table::Rows;
use crate::error::{Error, Result};
use crate::evaluate::ranking::ranks;
use crate::files::atomic::write_atomic;
use crate::progress::Progress;
use crate::rng::Rng;
use crate::vocabulary::Vocabulary;

/// Names of the measures, in the order of [`TfRow::measures`].
pub const MEASURES: [&str; 6] = ["cosine", "pearson", "spearman", "jaccard", "auroc", "auprc"];
/// Permutations unless told otherwise.
pub const PERMUTATIONS: usize = 200;
/// Stream of random numbers of permutation 0; permutation k has the k-th from here.
const STREAM: u64 = 0x7466_0000_0000;
/// Permutations between two looks at Ctrl-C.
const TOGETHER: usize = 32;
const FIX: &str = "give a BED or narrowPeak file, plain or gzip";

/// A file of binding sites and the column of its score: `FILE` or `FILE:COLUMN`, columns numbered from 1.
///
/// ```
/// use sccrossrec::discover::tf::TfFile;
/// let f: TfFile = "sites.bed:7".parse()?;
/// assert_eq!((f.path.to_str(), f.column), (Some("sites.bed"), Some(7)));
/// # Ok::<(), sccrossrec::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TfFile {
    /// The file.
    pub path: PathBuf,
    /// Column of the score, from 1; `None`: by the form of the file.
    pub column: Option<usize>,
}

impl FromStr for TfFile {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let number = s.rsplit_once(':').filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        match number {
            Some((path, n)) if !path.is_empty() && !Path::new(s).exists() => match n.parse() {
                Ok(column) if (4..=10_000).contains(&column) => Ok(TfFile { path: path.into(), column: Some(column) }),
                _ => Err(Error::usage(format!(
                    "{s}: column {n} cannot hold scores; columns are numbered from 1 and the first three are the place"
                ))),
            },
            _ if s.is_empty() => Err(Error::usage("no name of a file; give FILE or FILE:COLUMN")),
            _ => Ok(TfFile { path: s.into(), column: None }),
        }
    }
}

/// Where a transcription factor binds, peak by peak.
#[derive(Debug, Clone, PartialEq)]
pub struct TfTrack {
    /// Name of the file without folder and endings; numbered by [`TfTrack::read_all`] where two are equal.
    pub name: String,
    /// What it was read from, and counts.
    pub summary: TfSummary,
    /// `[P]` largest score of an overlapping interval, else 0.
    pub scores: Vec<f64>,
}

/// What a TF track was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TfSummary {
    /// Name of the track.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Column of the score, from 1; `None` where the file has no scores: each interval counts 1.
    pub column: Option<usize>,
    /// Intervals of the file.
    pub intervals: u64,
    /// Intervals among them on chromosomes that the data lack.
    pub unknown_chromosome: u64,
    /// Peaks that an interval overlaps.
    pub overlapped: u64,
    /// Peaks with a score above 0.
    pub bound: u64,
}

/// The column of scores that belongs to the form of a file: 7 of narrowPeak (ten columns) and broadPeak, 5 of BED;
/// `None` of fewer columns.
fn usual_column(path: &Path, columns: usize) -> Option<usize> {
    let name = path.to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match columns {
        10 => Some(7),
        n if n >= 7 && (name.ends_with(".broadpeak") || name.ends_with(".narrowpeak")) => Some(7),
        n if n >= 5 => Some(5),
        _ => None,
    }
}

/// The score in column `c` (from 1) of a line.
fn score(path: &Path, fields: &[&str], c: usize, number: usize) -> Result<f64> {
    let field = fields.get(c - 1).ok_or_else(|| {
        Error::input(
            path,
            format!("line {number} has {} columns, so none numbered {c}", fields.len()),
            "choose the column of the score with FILE:COLUMN",
        )
    })?;
    field.parse::<f64>().ok().filter(|x| x.is_finite()).ok_or_else(|| {
        Error::input(
            path,
            format!("line {number} has {field:?} for a score in column {c}"),
            "choose a column of numbers with FILE:COLUMN",
        )
    })
}

/// Name of a track: the name of its file without folder and endings.
fn track_name(path: &Path) -> String {
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |n| n.to_string_lossy());
    let mut name = name.as_ref();
    for ending in [".gz", ".bed", ".narrowPeak", ".broadPeak", ".txt", ".tsv"] {
        name = name.strip_suffix(ending).filter(|n| !n.is_empty()).unwrap_or(name);
    }
    name.to_string()
}

impl TfTrack {
    /// Reads narrowPeak (score: column 7) or BED (column 5; of BED with three or four columns each interval counts 1),
    /// plain or gzip, in any order. Names of chromosomes are compared by alias.
    ///
    /// # Errors
    /// A line that is no interval, is empty or turned round, or lacks the column; a score that is no finite number; a
    /// file without an interval, without a score above 0, or without a chromosome of the data.
    pub fn read(file: &TfFile, v: &Vocabulary) -> Result<TfTrack> {
        Self::read_named(file, v, &Aliases::default())
    }

    fn read_named(file: &TfFile, v: &Vocabulary, aliases: &Aliases) -> Result<TfTrack> {
        let path = &file.path;
        let (mut chromosomes, peaks) = (Chromosomes::new(v, aliases), Overlaps::of_peaks(v));
        let mut scores: Vec<Option<f64>> = vec![None; v.peaks.len()];
        let mut column = file.column;
        let (mut intervals, mut unknown, mut largest) = (0u64, 0u64, f64::NEG_INFINITY);
        let mut asked = false;
        let mut rows = Rows::open(path, true)?;
        let mut names = None;
        while let Some(row) = rows.next()? {
            let number = row.line;
            let word = row.field(0).split_ascii_whitespace().next().unwrap_or("");
            if word == "track" || word == "browser" {
                continue;
            }
            let mut fields: Vec<&str> = row.fields.iter().map(String::as_str).collect();
            let is_place = |f: &[&str]| f.len() >= 3 && interval(f[1], f[2]).is_ok();
            if names.is_none() {
                // R writes a header, and numbers before the rows.
                let of_rows = !is_place(&fields) && is_place(&fields[1.min(fields.len())..]);
                let numeric = fields.iter().skip(1).any(|f| f.parse::<f64>().is_ok());
                if !of_rows && fields.len() > 2 && !numeric {
                    continue;
                }
                names = Some(of_rows);
            }
            if names == Some(true) {
                fields.remove(0);
            }
            let wrong = |what: String| Error::input(path, format!("line {number} {what}"), FIX);
            let &[chrom, start, end, ..] = fields.as_slice() else {
                return Err(wrong(format!("has {} columns, fewer than three", fields.len())));
            };
            let Some(chrom) = chromosomes.find(chrom) else {
                intervals += 1; // nobody asks what is there
                unknown += 1;
                continue;
            };
            let (start, end) = interval(start, end).map_err(wrong)?;
            if !asked {
                asked = true;
                column = column.or_else(|| usual_column(path, fields.len()));
            }
            let score = match column {
                None => 1.0,
                Some(c) => score(path, &fields, c, number)?,
            };
            intervals += 1;
            largest = largest.max(score);
            peaks.each(chrom, start, end, |p| {
                let best = &mut scores[p as usize];
                *best = Some(best.map_or(score, |b| b.max(score)));
            });
        }
        if intervals == 0 {
            return Err(Error::input(path, "no interval in it", FIX));
        }
        if unknown == intervals {
            return Err(chromosomes.none_known(path));
        }
        if let (Some(c), false) = (column, largest > 0.0) {
            return Err(Error::input(
                path,
                format!("no score above 0 in column {c}"),
                "choose another column with FILE:COLUMN",
            ));
        }
        let name = track_name(path);
        let summary = TfSummary {
            name: name.clone(),
            file: path.clone(),
            column,
            intervals,
            unknown_chromosome: unknown,
            overlapped: scores.iter().flatten().count() as u64,
            bound: scores.iter().flatten().filter(|&&x| x > 0.0).count() as u64,
        };
        Ok(TfTrack { name, summary, scores: scores.into_iter().map(|x| x.unwrap_or(0.0)).collect() })
    }

    /// Reads several; of equal names the second becomes `NAME_2`, and so on.
    ///
    /// # Errors
    /// Those of [`TfTrack::read`].
    pub fn read_all(files: &[TfFile], v: &Vocabulary) -> Result<Vec<TfTrack>> {
        Self::read_all_named(files, v, &Aliases::default())
    }

    /// [`TfTrack::read_all`] with further names of chromosomes.
    ///
    /// # Errors
    /// Those of [`TfTrack::read`].
    pub fn read_all_named(files: &[TfFile], v: &Vocabulary, aliases: &Aliases) -> Result<Vec<TfTrack>> {
        let mut tracks: Vec<TfTrack> = Vec::new();
        for file in files {
            let mut track = TfTrack::read_named(file, v, aliases)?;
            let (plain, mut k) = (track.name.clone(), 2);
            while tracks.iter().any(|t| t.name == track.name) {
                track.name = format!("{plain}_{k}");
                k += 1;
            }
            track.summary.name.clone_from(&track.name);
            tracks.push(track);
        }
        Ok(tracks)
    }
}

/// Peaks in strata of equal accessibility decile, width tercile and GC tercile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeakStrata {
    peaks: usize,
    /// Data set indices; only strata of two and more.
    members: Vec<Vec<u32>>,
    strata: u64,
    alone: u64,
}

impl PeakStrata {
    /// Sorts peaks by `[P]` the cells in which each is open (a peak open in none is alike to others of its kind only), by
    /// width and by the share of G and C of each, where known.
    ///
    /// # Errors
    /// [`Error::Internal`] where a list is not of P numbers.
    pub fn new(v: &Vocabulary, open: &[u32], gc: &[Option<f64>]) -> Result<PeakStrata> {
        let n = v.peaks.len();
        if open.len() != n || gc.len() != n {
            return Err(Error::Internal(format!("accessibilities or GC shares that are not of {n} peaks")));
        }
        let open: Vec<_> = open.iter().map(|&n| (n > 0).then_some(f64::from(n))).collect();
        let width: Vec<_> = v.peaks.iter().map(|p| (p.start >= 0).then_some((p.end - p.start) as f64)).collect();
        let (open, width, gc) = (classes(&open, 10), classes(&width, 3), classes(gc, 3));
        let mut all: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for i in 0..n {
            all.entry((open[i], width[i], gc[i])).or_default().push(i as u32);
        }
        let strata = all.len() as u64;
        let members: Vec<Vec<u32>> = all.into_values().filter(|m| m.len() > 1).collect();
        let alone = (n - members.iter().map(Vec::len).sum::<usize>()) as u64;
        Ok(PeakStrata { peaks: n, members, strata, alone })
    }

    /// Permutation number `k` of a seed: what stands at i comes from `[i]`, of the same stratum.
    fn permutation(&self, seed: u64, k: usize) -> Vec<u32> {
        let mut rng = Rng::new(seed, STREAM + k as u64);
        let mut from: Vec<u32> = (0..self.peaks as u32).collect();
        for members in &self.members {
            let mut drawn = members.clone();
            rng.shuffle(&mut drawn);
            members.iter().zip(drawn).for_each(|(&i, j)| from[i as usize] = j);
        }
        from
    }
}

/// Size of the top of P peaks.
fn top_size(peaks: usize) -> usize {
    (peaks / 10).min(10_000)
}

/// The top of a track, by index: see the module.
fn top(values: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..values.len() as u32).filter(|&i| values[i as usize] > 0.0).collect();
    order.sort_by(|&a, &b| values[b as usize].total_cmp(&values[a as usize]).then(a.cmp(&b)));
    order.truncate(top_size(values.len()));
    order.sort_unstable();
    order
}

/// Root of the sum of squares.
fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// The attention of a cell type, ready to be compared.
struct Ranked {
    values: Vec<f64>,
    rank: Vec<f64>,
    at_least: Vec<u32>,
    in_top: Vec<bool>,
    top: usize,
    mean: f64,
    norm: f64,
    spread: f64,
    rank_spread: f64,
}

impl Ranked {
    fn new(values: &[f64]) -> Self {
        // What is no number counts as no attention.
        let values: Vec<f64> = values.iter().map(|&x| if x.is_finite() { x + 0.0 } else { 0.0 }).collect();
        let n = values.len() as f64;
        let (rank, at_least) = ranks(&values);
        let mut in_top = vec![false; values.len()];
        let members = top(&values);
        members.iter().for_each(|&i| in_top[i as usize] = true);
        let mean = values.iter().sum::<f64>() / n;
        Ranked {
            norm: norm(values.iter().copied()),
            spread: norm(values.iter().map(|x| x - mean)),
            rank_spread: norm(rank.iter().map(|r| r - (n + 1.0) / 2.0)),
            top: members.len(),
            values,
            rank,
            at_least,
            in_top,
            mean,
        }
    }
}

/// A TF track, ready to be compared: mostly 0, so that only the rest is looked at.
struct Sites {
    /// Peaks of another score than 0: index, score, rank less the rank of a score of 0.
    other: Vec<(u32, f64, f64)>,
    bound: Vec<u32>,
    top: Vec<u32>,
    norm: f64,
    spread: f64,
    rank_spread: f64,
}

impl Sites {
    fn new(scores: &[f64]) -> Self {
        let scores: Vec<f64> = scores.iter().map(|x| x + 0.0).collect();
        let n = scores.len() as f64;
        let (rank, _) = ranks(&scores);
        let zero = scores.iter().position(|&x| x == 0.0).map_or(0.0, |i| rank[i]);
        let mean = scores.iter().sum::<f64>() / n;
        let indices = |f: &dyn Fn(f64) -> bool| -> Vec<u32> {
            (0..scores.len() as u32).filter(|&i| f(scores[i as usize])).collect()
        };
        let other = indices(&|x| x != 0.0);
        Sites {
            other: other.into_iter().map(|i| (i, scores[i as usize], rank[i as usize] - zero)).collect(),
            bound: indices(&|x| x > 0.0),
            top: top(&scores),
            norm: norm(scores.iter().copied()),
            spread: norm(scores.iter().map(|x| x - mean)),
            rank_spread: norm(rank.iter().map(|r| r - (n + 1.0) / 2.0)),
        }
    }

    /// The measures, the attention of peak i taken from `from(i)`; NaN where one is undefined.
    fn measures(&self, a: &Ranked, from: impl Fn(u32) -> usize) -> [f64; 6] {
        let n = a.values.len() as f64;
        let (mut dot, mut covariance, mut of_ranks) = (0.0, 0.0, 0.0);
        for &(i, score, rank) in &self.other {
            let j = from(i);
            dot += score * a.values[j];
            covariance += score * (a.values[j] - a.mean);
            of_ranks += rank * (a.rank[j] - (n + 1.0) / 2.0);
        }
        let over = |x: f64, y: f64| if y > 0.0 { x / y } else { f64::NAN };
        let both = self.top.iter().filter(|&&i| a.in_top[from(i)]).count();
        let (found, mut levels) = (self.bound.len() as f64, Vec::with_capacity(self.bound.len()));
        let mut rank_sum = 0.0;
        for &i in &self.bound {
            let j = from(i);
            rank_sum += a.rank[j];
            levels.push(a.at_least[j]);
        }
        levels.sort_unstable();
        let (mut hits, mut precision) = (0.0, 0.0);
        for same in levels.chunk_by(|x, y| x == y) {
            hits += same.len() as f64;
            precision += same.len() as f64 * hits / f64::from(same[0]);
        }
        [
            over(dot, self.norm * a.norm),
            over(covariance, self.spread * a.spread),
            over(of_ranks, self.rank_spread * a.rank_spread),
            over(both as f64, (self.top.len() + a.top - both) as f64),
            over(rank_sum - found * (found + 1.0) / 2.0, found * (n - found)),
            over(precision, found),
        ]
    }
}

/// One measure of a TF track and a cell type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TfMeasure {
    /// One of [`MEASURES`].
    pub measure: String,
    /// Its value; `None` where it is undefined (a constant track, no bound peak).
    pub value: Option<f64>,
    /// What a random order gives: of AUROC and AUPRC.
    pub chance: Option<f64>,
    /// Mean of the background.
    pub background_mean: Option<f64>,
    /// Standard deviation of the background.
    pub background_sd: Option<f64>,
    /// Standard deviations above the background; `None` where it has no spread.
    pub zscore: Option<f64>,
    /// One-sided chance of such a value under the background.
    pub pvalue: Option<f64>,
    /// Place among the cell types, 1 the highest; equal ones share a place. `None` of all cells together.
    pub rank: Option<u32>,
}

/// A TF track against the map of one cell type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TfRow {
    /// Name of the TF track.
    pub tf: String,
    /// Cell type; `all` for all cells.
    pub cell_type: String,
    /// Cells behind its map.
    pub cells: u64,
    /// One entry a measure, in the order of [`MEASURES`].
    pub measures: Vec<TfMeasure>,
}

/// TF tracks against all maps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TfComparison {
    /// N of the Jaccard index.
    pub top: u64,
    /// Permutations behind the background.
    pub permutations: u64,
    /// Strata of matched peaks.
    pub strata: u64,
    /// Peaks alone in their stratum, which no permutation moves.
    pub alone: u64,
    /// The tracks.
    pub tracks: Vec<TfSummary>,
    /// Track by track: all cells, then each cell type.
    pub rows: Vec<TfRow>,
    /// Track by track, against the genes that the evidence expects each peak to be linked to, over all cells (`cell_type` is
    /// [`EVIDENCE`]).
    #[serde(default)]
    pub evidence: Vec<TfRow>,
}

/// What stands for the cell type in rows of evidence.
pub const EVIDENCE: &str = "evidence";

fn some(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

/// Compares each track with the map of all cells and of each type. The result depends on the seed alone, not on the
/// number of threads.
///
/// # Errors
/// [`Error::Internal`] where tracks, maps and strata are not of the same peaks; [`Error::Interrupted`].
pub fn compare(
    tracks: &[TfTrack],
    maps: &Maps,
    strata: &PeakStrata,
    permutations: usize,
    seed: u64,
    progress: &dyn Progress,
) -> Result<TfComparison> {
    let n = strata.peaks;
    let all: Vec<&TypeMap> = std::iter::once(&maps.all).chain(&maps.types).collect();
    let lengths = tracks.iter().map(|t| t.scores.len()).chain(all.iter().map(|m| m.peaks.len()));
    if lengths.into_iter().any(|l| l != n) {
        return Err(Error::Internal(format!("TF tracks or maps that are not of {n} peaks")));
    }
    let sites: Vec<Sites> = tracks.par_iter().map(|t| Sites::new(&t.scores)).collect();
    let attention: Vec<Ranked> = all.par_iter().map(|m| Ranked::new(&m.peaks)).collect();
    // Rows are track by track, in each map by map.
    let measure = |from: &(dyn Fn(u32) -> usize + Sync)| -> Vec<[f64; 6]> {
        sites.iter().flat_map(|s| attention.iter().map(|a| s.measures(a, from))).collect()
    };
    let values = measure(&|i| i as usize);
    let mut background: Vec<Vec<[f64; 6]>> = Vec::with_capacity(permutations);
    for start in (0..permutations).step_by(TOGETHER) {
        progress.check("the comparison with TF tracks was not written")?;
        let some = start..(start + TOGETHER).min(permutations);
        background.par_extend(some.into_par_iter().map(|k| {
            let from = strata.permutation(seed, k);
            measure(&|i| from[i as usize] as usize)
        }));
    }
    let mut rows = Vec::with_capacity(values.len());
    for (t, track) in tracks.iter().enumerate() {
        let of_track = &values[t * all.len()..(t + 1) * all.len()];
        for (m, map) in all.iter().enumerate() {
            let row = t * all.len() + m;
            let measures = (0..MEASURES.len()).map(|k| {
                let value = of_track[m][k];
                let drawn: Vec<f64> = background.iter().map(|b| b[row][k]).filter(|x| x.is_finite()).collect();
                let count = drawn.len() as f64;
                let mean = drawn.iter().sum::<f64>() / count;
                let sd = (drawn.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (count - 1.0)).sqrt();
                // Sums of other orders of addition differ in the last digits.
                let reached = drawn.iter().filter(|&&x| x >= value - 1e-12 * value.abs()).count() as f64;
                let tested = value.is_finite() && !drawn.is_empty();
                TfMeasure {
                    measure: MEASURES[k].into(),
                    value: some(value),
                    chance: match MEASURES[k] {
                        "auroc" => some(value).map(|_| 0.5),
                        "auprc" => some(sites[t].bound.len() as f64 / n as f64),
                        _ => None,
                    },
                    background_mean: some(mean),
                    background_sd: some(sd),
                    zscore: some((value - mean) / sd).filter(|_| sd > 1e-12 * mean.abs()),
                    pvalue: tested.then(|| (1.0 + reached) / (1.0 + count)),
                    rank: (m > 0 && value.is_finite())
                        .then(|| 1 + of_track[1..].iter().filter(|other| other[k] > value).count() as u32),
                }
            });
            rows.push(TfRow {
                tf: track.name.clone(),
                cell_type: map.name.clone(),
                cells: map.cells,
                measures: measures.collect(),
            });
        }
    }
    Ok(TfComparison {
        top: top_size(n) as u64,
        permutations: permutations as u64,
        strata: strata.strata,
        alone: strata.alone,
        tracks: tracks.iter().map(|t| t.summary.clone()).collect(),
        rows,
        evidence: Vec::new(),
    })
}

impl TfComparison {
    /// Writes a table parted by tabs, a line a track, cell type and measure: tf, cell_type, cells, measure, value,
    /// chance, background_mean, background_sd, zscore, pvalue, rank, types (how many there are to rank). `NaN` where
    /// there is none. Rows of evidence come last.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let number = |x: Option<f64>| x.map_or("NaN".to_string(), |x| format!("{x:.6e}"));
        let types = self.rows.iter().filter(|r| self.rows.first().is_some_and(|f| f.tf == r.tf)).count().max(1) - 1;
        write_atomic(path, |out| {
            writeln!(
                out,
                "tf\tcell_type\tcells\tmeasure\tvalue\tchance\tbackground_mean\tbackground_sd\tzscore\tpvalue\trank\ttypes"
            )?;
            for r in self.rows.iter().chain(&self.evidence) {
                for m in &r.measures {
                    let numbers =
                        [m.value, m.chance, m.background_mean, m.background_sd, m.zscore, m.pvalue].map(number);
                    let rank = m.rank.map_or("NaN".to_string(), |r| r.to_string());
                    writeln!(
                        out,
                        "{}\t{}\t{}\t{}\t{}\t{rank}\t{types}",
                        field(&r.tf),
                        field(&r.cell_type),
                        r.cells,
                        m.measure,
                        numbers.join("\t")
                    )?;
                }
            }
            Ok(())
        })
    }
}

/// Writes the TF tracks as a table parted by tabs, a line a peak: chrom, start, end, peak, then a column a track; `.`
/// where a coordinate is unknown.
///
/// # Errors
/// A file that cannot be written.
pub fn write_tracks(path: &Path, v: &Vocabulary, tracks: &[TfTrack]) -> Result<()> {
    write_atomic(path, |out| {
        write!(out, "chrom\tstart\tend\tpeak")?;
        for t in tracks {
            write!(out, "\t{}", field(&t.name))?;
        }
        writeln!(out)?;
        for (i, p) in v.peaks.iter().enumerate() {
            let chrom = chromosome(v, p.chrom);
            write!(out, "{chrom}\t{}\t{}\t{}", known(p.start), known(p.end), field(&p.name))?;
            for t in tracks {
                write!(out, "\t{}", t.scores.get(i).copied().unwrap_or(0.0))?;
            }
            writeln!(out)?;
        }
        Ok(())
    })
}
