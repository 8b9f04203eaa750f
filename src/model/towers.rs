//! The towers: what RNA says alone and what ATAC says alone, as unit vectors of one space, and the expression of every gene
//! told from ATAC.
//!
//! See docs/model.md, section 4.10.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::params::{Building, Entry, LinearAt};
use crate::csr::Csr;
use crate::error::{Error, Result};
use crate::real::Real;
use crate::rng::Rng;

/// Hidden numbers of the map of depths.
const DEPTH_HIDDEN: usize = 16;
/// Length of a cell's weighted peaks; that of genes follows from their values.
const PEAK_LENGTH: f64 = 3.0;
/// Share of depth in the similarity of two cells at the start: its vectors have this length beside 1.
const DEPTH_LENGTH: f64 = 0.5;
/// Temperature at the start: similarities are multiplied by e to this.
const LOG_SCALE: f64 = 2.3;

/// Sizes and constants of the towers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerConfig {
    /// Genes of the data.
    pub genes: usize,
    /// Peaks of the data.
    pub peaks: usize,
    /// Width of a tower: numbers of a row of its table.
    pub width: usize,
    /// Numbers of a cell in the common space.
    pub size: usize,
    /// Numbers that stand for its depth beside them.
    pub depth_size: usize,
    /// Numbers between the tower of ATAC and the genes; 0: no prediction.
    pub factors: usize,
    /// Are values of RNA counts? Else they are taken as they are.
    pub counts: bool,
    /// Median number of counts of a training cell, to which cells are scaled; 1 where values are no counts.
    pub median: f64,
    /// Mean and standard deviation of ln(1 + genes) and of ln(1 + peaks) over training cells.
    pub depth: [[f64; 2]; 2],
}

/// The tensors of one tower, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TowerAt {
    pub table: usize,
    /// Scale and shift of the layer norm.
    pub norm: LinearAt,
    pub out: LinearAt,
    pub depth: [LinearAt; 2],
}

/// The tensors of the prediction, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecoderAt {
    pub factors: LinearAt,
    /// To the level of each gene.
    pub level: LinearAt,
    /// To the log rate of its counts, or to its logit of detection.
    pub rate: LinearAt,
}

/// Which tensor is what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TowersAt {
    pub rna: TowerAt,
    pub atac: TowerAt,
    /// Logs of the length of the depth part and of the temperature.
    pub length: usize,
    pub scale: usize,
    pub decoder: Option<DecoderAt>,
}

/// Names, shapes and places of the tensors of towers.
#[derive(Debug, Clone, PartialEq)]
pub struct TowerLayout {
    entries: Vec<Entry>,
    at: TowersAt,
    len: usize,
}

impl TowerLayout {
    /// The tensors, in the order of the file.
    pub fn new(c: &TowerConfig) -> Self {
        let mut l = Building::default();
        let mut tower = |name: &str, rows: usize| TowerAt {
            table: l.tensor(&format!("towers.{name}.table"), &[rows, c.width]),
            norm: LinearAt {
                weight: l.tensor(&format!("towers.{name}.norm.weight"), &[c.width]),
                bias: l.tensor(&format!("towers.{name}.norm.bias"), &[c.width]),
            },
            out: l.linear(&format!("towers.{name}.out"), c.size, c.width),
            depth: [
                l.linear(&format!("towers.{name}.depth.0"), DEPTH_HIDDEN, 1),
                l.linear(&format!("towers.{name}.depth.1"), c.depth_size, DEPTH_HIDDEN),
            ],
        };
        let (rna, atac) = (tower("rna", c.genes), tower("atac", c.peaks));
        let (length, scale) = (l.tensor("towers.depth_length", &[1]), l.tensor("towers.scale", &[1]));
        let decoder = (c.factors > 0).then(|| DecoderAt {
            factors: l.linear("towers.predict.factors", c.factors, c.width),
            level: l.linear("towers.predict.level", c.genes, c.factors + 1),
            rate: l.linear("towers.predict.rate", c.genes, c.factors + 1),
        });
        let (entries, len) = l.finish();
        TowerLayout { entries, at: TowersAt { rna, atac, length, scale, decoder }, len }
    }

    /// All tensors, in order; their ranges cover `0..len()`.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn at(&self) -> &TowersAt {
        &self.at
    }

    /// Numbers in the arena.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No tensors?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What scores of pairs mean, learned on validation cells (docs/model.md, eq. 104 and 105).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Cells it was learned on.
    pub cells: u64,
    /// Factor of scores before a softmax over candidates, under which the true ones are likeliest.
    pub scale: f64,
    /// The factor under which the mean probability of the true ones is largest: that of the match score.
    pub match_scale: f64,
    /// Log odds that a pair is of one cell, one in two being so: slope × score + intercept.
    pub slope: f64,
    /// See `slope`.
    pub intercept: f64,
    /// Scores of cells with themselves: quantiles from 0 to 1 in steps of a hundredth.
    pub own: Vec<f64>,
}

impl Calibration {
    /// Probability that a pair of this score is one cell, where one in two is.
    pub fn pair(&self, score: f64) -> f64 {
        1.0 / (1.0 + (-(self.slope * score + self.intercept)).exp())
    }

    /// Share of cells whose own pair scores so low or lower: a p-value of "these two are one cell". At least a hundredth of a
    /// cell's worth: 1 / (cells + 1).
    pub fn as_low(&self, score: f64) -> f64 {
        let n = self.own.len();
        let least = 1.0 / (self.cells as f64 + 1.0);
        if n < 2 {
            return 1.0;
        }
        let above = self.own.partition_point(|&q| q <= score);
        let share = match above {
            0 => 0.0,
            a if a == n => 1.0,
            a => {
                let (low, high) = (self.own[a - 1], self.own[a]);
                let part = if high > low { (score - low) / (high - low) } else { 0.0 };
                (a as f64 - 1.0 + part) / (n as f64 - 1.0)
            }
        };
        share.max(least)
    }
}

/// Two towers and the prediction of expression: sizes, constants of the training cells, parameters.
#[derive(Debug, Clone)]
pub struct Towers<T> {
    /// To read only: sizes and constants.
    pub(crate) config: TowerConfig,
    layout: Arc<TowerLayout>,
    params: Vec<T>,
    /// `[P]` ln(1 + N / (1 + cells with the peak)) over N training cells.
    pub(crate) idf: Vec<T>,
    /// What scores mean; `None` without validation cells.
    pub(crate) calibration: Option<Calibration>,
}

/// What training cells say of the genes, for the start of the prediction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GeneStart<'a> {
    /// `[G]` mean level.
    pub level: &'a [f64],
    /// `[G]` mean count at the median depth, or share of cells with the gene where values are no counts.
    pub rate: &'a [f64],
}

impl TowerConfig {
    /// Checks what would be no model: sizes of 0, depths without spread.
    ///
    /// # Errors
    /// [`Error::Usage`], naming the field.
    pub fn validate(&self) -> Result<()> {
        let bad = |field: &str| Err(Error::usage(format!("towers: `{field}` is not what towers can have")));
        let sizes = [("width", self.width), ("size", self.size), ("depth_size", self.depth_size)];
        if let Some((field, _)) = sizes.iter().find(|s| s.1 == 0 || s.1 > 1 << 16) {
            return bad(field);
        }
        if self.factors > 1 << 16 {
            return bad("factors");
        }
        if !self.median.is_finite() || self.median <= 0.0 {
            return bad("median");
        }
        if self.depth.iter().flatten().any(|x| !x.is_finite()) || self.depth.iter().any(|d| d[1] <= 0.0) {
            return bad("depth");
        }
        Ok(())
    }

    /// Level of a stored value of a cell with so many counts in all.
    pub(crate) fn level(&self, value: f64, total: f64) -> f64 {
        if self.counts { (value * self.median / total.max(1.0)).ln_1p() } else { value }
    }
}

impl<T: Real> Towers<T> {
    /// Towers with seeded parameters.
    ///
    /// # Errors
    /// As [`TowerConfig::validate`]; an `idf` of another number of peaks.
    pub(crate) fn new(config: TowerConfig, idf: Vec<T>, start: GeneStart<'_>, seed: u64) -> Result<Self> {
        let mut t = Self::of_params(config, idf, None)?;
        let layout = t.layout.clone();
        let mut bound = 0.0;
        for (i, e) in layout.entries().iter().enumerate() {
            let mut rng = Rng::new(seed, 0x2000 + i as u64);
            let out = &mut t.params[e.range.clone()];
            let of = |values: &[f64], f: &dyn Fn(f64) -> f64| values.iter().map(|&x| T::of(f(x))).collect::<Vec<T>>();
            match e.name.as_str() {
                "towers.depth_length" => out[0] = T::of(DEPTH_LENGTH.ln()),
                "towers.scale" => out[0] = T::of(LOG_SCALE),
                "towers.predict.level.bias" => out.copy_from_slice(&of(start.level, &|x| x)),
                "towers.predict.rate.bias" => {
                    let counts = t.config.counts;
                    let f = |x: f64| if counts { (x + 1e-4).ln() } else { ((x + 1e-4) / (1.0 - x + 1e-4)).ln() };
                    out.copy_from_slice(&of(start.rate, &f));
                }
                name if name.ends_with(".table") => out.iter_mut().for_each(|x| *x = T::of(0.05 * rng.normal())),
                name if name.ends_with("norm.weight") => out.fill(T::of(1.0)),
                name if name.ends_with("norm.bias") => {}
                "towers.predict.level.weight" | "towers.predict.rate.weight" => {
                    out.iter_mut().for_each(|x| *x = T::of(0.01 * rng.normal()));
                }
                _ => {
                    if e.shape.len() == 2 {
                        bound = 1.0 / (e.shape[1] as f64).sqrt();
                    }
                    out.iter_mut().for_each(|x| *x = T::of((2.0 * rng.uniform() - 1.0) * bound));
                }
            }
        }
        Ok(t)
    }

    /// Towers of parameters that are there; none: zeros.
    ///
    /// # Errors
    /// As [`Towers::new`]; parameters of another length.
    pub(crate) fn of_params(config: TowerConfig, idf: Vec<T>, params: Option<Vec<T>>) -> Result<Self> {
        config.validate()?;
        if idf.len() != config.peaks {
            return Err(Error::usage(format!("towers: {} weights of {} peaks", idf.len(), config.peaks)));
        }
        let layout = Arc::new(TowerLayout::new(&config));
        let params = params.unwrap_or_else(|| vec![T::of(0.0); layout.len()]);
        if params.len() != layout.len() {
            return Err(Error::usage(format!("towers: {} parameters of {}", params.len(), layout.len())));
        }
        Ok(Towers { config, layout, params, idf, calibration: None })
    }

    /// Sizes and constants.
    pub fn config(&self) -> &TowerConfig {
        &self.config
    }

    /// Names, shapes and places.
    pub fn layout(&self) -> &Arc<TowerLayout> {
        &self.layout
    }

    /// The whole arena.
    pub fn as_slice(&self) -> &[T] {
        &self.params
    }

    /// The whole arena, to write.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.params
    }

    /// Exchanges the arena with another of the same length.
    pub(crate) fn swap(&mut self, params: &mut Vec<T>) {
        debug_assert_eq!(params.len(), self.params.len());
        std::mem::swap(&mut self.params, params);
    }

    /// Where a tensor is in the arena.
    pub(crate) fn range(&self, entry: usize) -> Range<usize> {
        self.layout.entries[entry].range.clone()
    }

    /// What scores mean; `None` where there were no validation cells to learn it on.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// What similarities are multiplied by before a softmax: as calibrated, else as trained.
    pub fn scale(&self) -> f64 {
        if let Some(c) = &self.calibration {
            return c.scale;
        }
        let log = self.params[self.range(self.layout.at.scale).start].f64();
        log.exp().min(100.0)
    }

    /// Weighted genes of cells: levels (docs/model.md, eq. 87 and 91), those of no weight left out.
    pub(crate) fn weigh_rna(&self, rna: &Csr<T>) -> Csr<T> {
        let mut out = Csr::new();
        for i in 0..rna.rows() {
            let (index, value) = rna.row(i);
            let total: f64 = value.iter().map(|v| v.f64()).sum();
            let of = |(&g, v): (&u32, &T)| (g, T::of(self.config.level(v.f64(), total)));
            out.push_row(index.iter().zip(value).map(of));
        }
        out
    }

    /// Weighted peaks of cells (docs/model.md, eq. 91): a peak is open or not.
    pub(crate) fn weigh_atac(&self, atac: &Csr<T>) -> Csr<T> {
        let mut out = Csr::new();
        for i in 0..atac.rows() {
            let (index, _) = atac.row(i);
            let share = 1e4 / index.len().max(1) as f64;
            let w: Vec<f64> = index.iter().map(|&p| (share * self.idf[p as usize].f64()).ln_1p()).collect();
            let length = w.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
            out.push_row(index.iter().zip(&w).map(|(&p, x)| (p, T::of(PEAK_LENGTH * x / length))));
        }
        out
    }

    /// Depths of cells, standardised: of the RNA (side 0) or of the ATAC (side 1). `[B]`.
    pub(crate) fn depths(&self, cells: &Csr<T>, side: usize) -> Vec<T> {
        let [mean, sd] = self.config.depth[side];
        let n = |i: usize| (cells.indptr[i + 1] - cells.indptr[i]) as f64;
        (0..cells.rows()).map(|i| T::of((n(i).ln_1p() - mean) / sd)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TowerConfig {
        let depth = [[1.0, 0.5], [2.0, 0.25]];
        let (width, size, depth_size, factors) = (4, 3, 2, 2);
        TowerConfig { genes: 3, peaks: 5, width, size, depth_size, factors, counts: true, median: 10.0, depth }
    }

    #[test]
    fn entries_are_weighted_as_written() {
        let idf = vec![1.0f64, 2.0, 0.5, 1.0, 1.0];
        let t = Towers::of_params(config(), idf, None).unwrap();
        let mut rna = Csr::new();
        rna.push_row([(0u32, 3.0), (2, 1.0)]);
        let w = t.weigh_rna(&rna);
        // Four counts, scaled to ten.
        assert!((w.values[0] - 8.5f64.ln()).abs() < 1e-12 && (w.values[1] - 3.5f64.ln()).abs() < 1e-12);
        let mut atac = Csr::new();
        atac.push_row([(1u32, 7.0), (2, 1.0)]);
        let w = t.weigh_atac(&atac);
        let length = w.values.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((length - 3.0).abs() < 1e-12);
        let ratio = (1.0 + 1e4f64).ln() / (1.0 + 2500.0f64).ln();
        assert!((w.values[0] / w.values[1] - ratio).abs() < 1e-12);
        assert!((t.depths(&atac, 1)[0] - (3f64.ln() - 2.0) / 0.25).abs() < 1e-12);
    }

    #[test]
    fn scores_are_read_off_their_calibration() {
        let own = (0..101).map(|i| f64::from(i) / 100.0).collect();
        let c = Calibration { cells: 999, scale: 5.0, match_scale: 9.0, slope: 2.0, intercept: -1.0, own };
        assert_eq!(c.pair(0.5), 0.5);
        assert!((c.as_low(0.255) - 0.255).abs() < 1e-12 && c.as_low(-3.0) == 0.001 && c.as_low(2.0) == 1.0);
    }

    #[test]
    fn tensors_cover_the_arena_and_start_where_they_should() {
        let start = GeneStart { level: &[0.1, 0.2, 0.3], rate: &[1.0, 2.0, 0.0] };
        let t = Towers::<f64>::new(config(), vec![1.0; 5], start, 7).unwrap();
        let mut at = 0;
        for e in t.layout().entries() {
            assert_eq!((e.range.start, e.range.len()), (at, e.shape.iter().product()));
            at = e.range.end;
        }
        assert_eq!(at, t.layout().len());
        let of = |name: &str| {
            let e = t.layout().entries().iter().find(|e| e.name == name).unwrap();
            t.as_slice()[e.range.clone()].to_vec()
        };
        assert_eq!(of("towers.predict.level.bias"), [0.1, 0.2, 0.3]);
        assert!((of("towers.predict.rate.bias")[1] - 2.0001f64.ln()).abs() < 1e-12);
        assert_eq!(of("towers.rna.norm.weight"), [1.0; 4]);
        assert!((t.scale() - 2.3f64.exp()).abs() < 1e-9);
        assert!(Towers::<f64>::of_params(config(), vec![1.0; 4], None).is_err());
        assert!(TowerConfig { width: 0, ..config() }.validate().is_err());
        assert!(TowerConfig { depth: [[0.0, 0.0], [0.0, 1.0]], ..config() }.validate().is_err());
    }
}
