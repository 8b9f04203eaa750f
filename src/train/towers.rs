//! The towers' part of a training: cells in batches, RNA against ATAC and the prediction of expression; a running mean of the
//! parameters is what is kept. It comes before the steps of the attention model and shares no parameter with it.
//!
//! See docs/model.md, section 5.9.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::config::TrainConfig;
use super::observe::Observer;
use super::state::Bits;
use super::tensors;
use super::tensors::{Out, TensorFile};
use super::tower_settings::{DEPTH_SIZE, FACTORS, TowerSettings};
use crate::csr::Csr;
use crate::data::anndata::MatrixKind;
use crate::dataset::means::{cells_of, training_cells};
use crate::dataset::{Cell, DataSet, SampleSet};
use crate::engine::towers::{PairedCells, TowerDropout, TowerLosses, TowerWeights};
use crate::error::{Error, Result, quoted};
use crate::files::atomic::{read_text, write_text};
use crate::model::towers::{Calibration, GeneStart, TowerConfig, TowerLayout, Towers};
use crate::ops::adam;
use crate::ops::adam::{AdamConfig, Decay};
use crate::ops::matmul::{View, product};
use crate::rng::Rng;
use crate::vocabulary::ObsColumn;

/// Streams of the shuffle: this plus the epoch.
const SHUFFLE: u64 = 0x544F_5753_0000_0000;
/// Decay of the running mean of the parameters.
const MEAN_DECAY: f64 = 0.998;
/// Steps that a training has at least, where its epochs are chosen, and the epochs that are chosen among.
const STEPS: usize = 800;
const EPOCHS: [u32; 2] = [15, 100];
/// Batch sizes among which is chosen, and steps that an epoch then has at least.
const BATCHES: [usize; 2] = [32, 1024];
const STEPS_AN_EPOCH: usize = 32;
/// Validation cells that are looked at after each epoch.
const MOST_VALIDATION: usize = 2000;

/// The parameters that are kept.
pub(crate) const TOWERS: &str = "towers.safetensors";
/// What `--resume` needs.
pub(crate) const TOWERS_STATE: &str = "towers-state.safetensors";
/// A record an epoch.
pub(crate) const TOWERS_LOG: &str = "towers.jsonl";

/// One epoch of the towers: a line of `towers.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerRecord {
    /// Number, from 1.
    pub epoch: u32,
    /// Steps done in all.
    pub step: u64,
    /// Mean loss of its steps.
    pub loss: Option<f64>,
    /// Its contrast of RNA and ATAC.
    pub contrast: Option<f64>,
    /// Squared error of levels over that of the gene means.
    pub level: Option<f64>,
    /// FOSCTTM among validation cells.
    pub val_foscttm: Option<f64>,
    /// Pearson over validation cells of predicted and true level, mean over genes.
    pub val_pearson: Option<f64>,
    /// 1 − FOSCTTM + Pearson: what the parameters that are kept are chosen by.
    pub score: Option<f64>,
    /// The best so far?
    pub best: bool,
    /// Seconds.
    pub seconds: f64,
}

/// Where the training of the towers is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    epoch: u32,
    /// Batches of the epoch that are done.
    batch: usize,
    step: u64,
    loss: Bits,
    contrast: Bits,
    level: Bits,
    best: Option<Bits>,
    logged: usize,
}

/// What the training cells say.
struct Statistics {
    config: TowerConfig,
    idf: Vec<f32>,
    level: Vec<f64>,
    rate: Vec<f64>,
    weights: TowerWeights,
}

/// Sums over cells of RNA as levels.
fn statistics(data: &DataSet, settings: &TowerSettings, cells: &[u32]) -> Result<Statistics> {
    let v = data.vocabulary();
    let (genes, peaks) = (v.genes.len(), v.peaks.len());
    let counts = data.kinds().0 == Some(MatrixKind::Counts);
    let n = cells.len().max(1) as f64;
    let mut cell = Cell::default();
    let mut totals = Vec::with_capacity(cells.len());
    let mut open = vec![0u32; peaks];
    let mut logs = [Vec::with_capacity(cells.len()), Vec::with_capacity(cells.len())];
    for &c in cells {
        data.cell_into(c as usize, &mut cell);
        totals.push(cell.rna().map(|x| f64::from(x.1)).sum::<f64>());
        cell.peaks.iter().for_each(|&p| open[p as usize] += 1);
        logs[0].push((cell.genes.len() as f64).ln_1p());
        logs[1].push((cell.peaks.len() as f64).ln_1p());
    }
    data.check()?;
    let mut sorted = totals.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(1.0);
    let middle = (at(sorted.len() / 2) + at(sorted.len().saturating_sub(1) / 2)) / 2.0;
    let median = if counts { middle.max(1.0) } else { 1.0 };
    let depth = logs.map(|x| {
        let mean = x.iter().sum::<f64>() / n;
        let sd = (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        [mean, if sd > 1e-6 { sd } else { 1.0 }]
    });
    let (width, size) = (settings.width, settings.size);
    let factors = if settings.predict > 0.0 { FACTORS } else { 0 };
    let config = TowerConfig { genes, peaks, width, size, depth_size: DEPTH_SIZE, factors, counts, median, depth };
    let (mut level, mut square, mut rate) = (vec![0.0; genes], vec![0.0; genes], vec![0.0; genes]);
    for (&c, &total) in cells.iter().zip(&totals) {
        data.rna_into(c as usize, &mut cell);
        for (g, x) in cell.rna() {
            let (g, x) = (g as usize, f64::from(x));
            let l = config.level(x, total);
            level[g] += l / n;
            square[g] += l * l / n;
            rate[g] += (if counts { x * median / total.max(1.0) } else { f64::from(u8::from(x > 0.0)) }) / n;
        }
    }
    data.check()?;
    let variance: f64 = square.iter().zip(&level).map(|(s, l)| (s - l * l).max(0.0)).sum();
    let entropy = |f: f64| if f > 0.0 && f < 1.0 { -f * f.ln() - (1.0 - f) * (1.0 - f).ln() } else { 0.0 };
    let by: f64 = if counts { rate.iter().sum() } else { rate.iter().map(|&f| entropy(f)).sum() };
    let weights = TowerWeights { predict: settings.predict, level: variance.max(1e-6), rate: by.max(1e-6) };
    let idf = open.iter().map(|&k| (n / (1.0 + f64::from(k))).ln_1p() as f32).collect();
    Ok(Statistics { config, idf, level, rate, weights })
}

/// Cells a step, and epochs, for so many training cells.
fn course(settings: &TowerSettings, cells: usize) -> (usize, u32) {
    let sizes = std::iter::successors(Some(BATCHES[1]), |n| Some(n / 2)).take_while(|&n| n > BATCHES[0]);
    let chosen = sizes.into_iter().find(|n| cells / n >= STEPS_AN_EPOCH).unwrap_or(BATCHES[0]);
    let size = settings.batch_size.unwrap_or(chosen).max(2);
    let steps = (cells / size).max(1);
    let epochs = (STEPS.div_ceil(steps) as u32).clamp(EPOCHS[0], EPOCHS[1]);
    (size, settings.epochs.unwrap_or(epochs))
}

/// Cells by what they share, for batches: the numbers of the groups.
struct Groups {
    /// `[cells]` code of the column; one where none is asked for.
    column: Vec<u32>,
    /// `[cells]` the type, too.
    types: Vec<u32>,
}

impl Groups {
    fn new(data: &DataSet, settings: &TowerSettings, cells: &[u32]) -> Result<Self> {
        let v = data.vocabulary();
        let column = match settings.batch.as_deref() {
            None => vec![0; cells.len()],
            Some("cell_type") if !v.cell_types.is_empty() => cells.iter().map(|&c| v.cell_type[c as usize]).collect(),
            Some(name) => {
                let Some(column) = v.obs.iter().find(|o| o.name == name) else {
                    let names: Vec<&str> = v.obs.iter().map(|o| o.name.as_str()).collect();
                    let there = if names.is_empty() { "none".into() } else { names.join(", ") };
                    return Err(Error::usage(format!(
                        "--batch {name}: the data have no such column; there are {there}"
                    )));
                };
                let lacking = column.categories.len() as u32;
                cells
                    .iter()
                    .map(|&c| column.codes[c as usize])
                    .map(|c| if c == ObsColumn::MISSING { lacking } else { c })
                    .collect()
            }
        };
        if settings.hard_negatives > 0.0 && v.cell_types.is_empty() {
            return Err(Error::usage(
                "--hard-negatives: the data have no cell types; prepare them with --obs or --cell-type-column",
            ));
        }
        let types = cells.iter().map(|&c| v.cell_type.get(c as usize).copied().unwrap_or(0)).collect();
        Ok(Groups { column, types })
    }

    /// The batches of an epoch: places in the list of cells. Each holds cells of one group, `size` of them or up to half more.
    fn batches(&self, size: usize, hard: f64, seed: u64, epoch: u32) -> Vec<Vec<u32>> {
        let mut rng = Rng::new(seed, SHUFFLE | u64::from(epoch));
        let mut order: Vec<u32> = (0..self.column.len() as u32).collect();
        rng.shuffle(&mut order);
        let alike = (hard * order.len() as f64).round() as usize;
        let key = |at: usize, i: u32| {
            let i = i as usize;
            (self.column[i], if at < alike { self.types[i] + 1 } else { 0 })
        };
        let mut keyed: Vec<((u32, u32), u32)> = order.iter().enumerate().map(|(at, &i)| (key(at, i), i)).collect();
        keyed.sort_by_key(|x| x.0); // stable: shuffled within a group
        let mut batches = Vec::new();
        for group in keyed.chunk_by(|a, b| a.0 == b.0) {
            // As many as hold about `size` each; what is alone is no batch.
            let n = ((group.len() as f64 / size as f64).round() as usize).max(1);
            for k in 0..n {
                let part = &group[k * group.len() / n..(k + 1) * group.len() / n];
                if part.len() > 1 {
                    batches.push(part.iter().map(|x| x.1).collect());
                }
            }
        }
        rng.shuffle(&mut batches);
        batches
    }
}

/// RNA and ATAC of cells.
fn read(data: &DataSet, cells: &[u32]) -> Result<(Csr<f32>, Csr<f32>)> {
    let batch = data.batch_of_cells(cells);
    data.check()?;
    Ok((batch.rna, batch.atac))
}

/// FOSCTTM of cells by dot products of their vectors `[n, width]`, ties half (docs/model.md, eq. 77).
fn foscttm(rna: &[f32], atac: &[f32], width: usize) -> Option<f64> {
    let n = rna.len() / width.max(1);
    if n < 2 {
        return None;
    }
    let mut scores = vec![0f32; n * n];
    product(&mut scores, View::new(rna, n, width), View::new(atac, n, width).t(), false);
    let own: Vec<f32> = (0..n).map(|i| scores[i * n + i]).collect();
    let twice: Vec<u64> = scores
        .par_chunks(n)
        .enumerate()
        .map(|(i, row)| {
            let closer = |x: f32, own: f32| if x > own { 2 } else { u64::from(x == own) };
            let others = row.iter().enumerate().filter(|x| x.0 != i);
            others.map(|(j, &x)| closer(x, own[i]) + closer(x, own[j])).sum()
        })
        .collect();
    Some(twice.iter().sum::<u64>() as f64 / (4 * n * (n - 1)) as f64)
}

/// What scores of cells `[n, width]` mean: of RNA with the own ATAC against RNA with that of others.
fn calibrate(rna: &[f32], atac: &[f32], width: usize) -> Option<Calibration> {
    let n = rna.len() / width.max(1);
    if n < 10 {
        return None;
    }
    let mut scores = vec![0f32; n * n];
    product(&mut scores, View::new(rna, n, width), View::new(atac, n, width).t(), false);
    let mut own: Vec<f64> = (0..n).map(|i| f64::from(scores[i * n + i])).collect();
    // The factor that makes the partner likeliest among all, by golden section on its logarithm.
    let cost = |log: f64, sharp: bool| -> f64 {
        let by = log.exp();
        let of = |(i, row): (usize, &[f32])| {
            let most = row.iter().fold(f32::MIN, |m, &x| m.max(x));
            let sum: f64 = row.iter().map(|&x| (by * f64::from(x - most)).exp()).sum();
            let surprise = sum.ln() - by * f64::from(row[i] - most);
            if sharp { -(-surprise).exp() } else { surprise }
        };
        scores.par_chunks(n).enumerate().map(of).collect::<Vec<f64>>().into_iter().sum()
    };
    let best = |sharp: bool| {
        let golden = (5f64.sqrt() - 1.0) / 2.0;
        let (mut low, mut high) = (-2.0, 5.0);
        for _ in 0..24 {
            let (a, b) = (high - golden * (high - low), low + golden * (high - low));
            if cost(a, sharp) < cost(b, sharp) {
                high = b;
            } else {
                low = a;
            }
        }
        ((low + high) / 2.0f64).exp()
    };
    let (scale, match_scale) = (best(false), best(true));
    // Logistic regression by Newton's method: own pairs and others, each weighing one half, with a slight pull to 0.
    let others = scores.iter().enumerate().filter(|(k, _)| k / n != k % n).map(|x| f64::from(*x.1));
    let every = (n * (n - 1)).div_ceil(200_000).max(1);
    let others: Vec<f64> = others.step_by(every).collect();
    let pairs: Vec<(f64, f64, f64)> = own
        .iter()
        .map(|&s| (s, 1.0, 0.5 / own.len() as f64))
        .chain(others.iter().map(|&s| (s, 0.0, 0.5 / others.len() as f64)))
        .collect();
    let (mut slope, mut intercept) = (0.0f64, 0.0f64);
    for _ in 0..50 {
        let (mut g, mut h) = ([1e-6 * slope, 1e-6 * intercept], [1e-6, 0.0, 1e-6]);
        for &(s, label, w) in &pairs {
            let p = 1.0 / (1.0 + (-(slope * s + intercept)).exp());
            let (d, c) = (w * (p - label), w * p * (1.0 - p));
            g = [g[0] + d * s, g[1] + d];
            h = [h[0] + c * s * s, h[1] + c * s, h[2] + c];
        }
        let det = h[0] * h[2] - h[1] * h[1];
        let step = [(h[2] * g[0] - h[1] * g[1]) / det, (h[0] * g[1] - h[1] * g[0]) / det];
        // No further than the logits of one step can be trusted.
        let by = (10.0 / step[0].abs().max(step[1].abs()).max(1e-12)).min(1.0);
        (slope, intercept) = (slope - by * step[0], intercept - by * step[1]);
        if !(slope.is_finite() && intercept.is_finite()) {
            return None;
        }
        if step[0].abs().max(step[1].abs()) < 1e-9 {
            break;
        }
    }
    own.sort_unstable_by(f64::total_cmp);
    let quantile = |q: usize| {
        let at = q as f64 / 100.0 * (n as f64 - 1.0);
        let (i, part) = (at.floor() as usize, at.fract());
        own[i] + part * (own[(i + 1).min(n - 1)] - own[i])
    };
    let own = (0..=100).map(quantile).collect();
    Some(Calibration { cells: n as u64, scale, match_scale, slope, intercept, own })
}

/// Sums of a correlation.
#[derive(Clone, Copy, Default)]
struct Along {
    x: f64,
    y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

/// The validation cells.
struct Validation {
    cells: Vec<u32>,
}

impl Validation {
    fn new(set: &SampleSet) -> Self {
        let cells = cells_of(set, &set.val);
        let every = cells.len().div_ceil(MOST_VALIDATION).max(1);
        Validation { cells: cells.into_iter().step_by(every).collect() }
    }

    /// What scores mean.
    fn calibrate(&self, towers: &Towers<f32>, data: &DataSet) -> Result<Option<Calibration>> {
        let (mut rna, mut atac) = (Vec::new(), Vec::new());
        for chunk in self.cells.chunks(256) {
            let (r, a) = read(data, chunk)?;
            rna.extend(towers.of_rna(&r));
            atac.extend(towers.of_atac(&a));
        }
        Ok(calibrate(&rna, &atac, towers.config.size + towers.config.depth_size))
    }

    /// FOSCTTM, and the mean over genes of Pearson over cells (0 for a prediction that does not vary).
    fn look(&self, towers: &Towers<f32>, data: &DataSet) -> Result<[Option<f64>; 2]> {
        let width = towers.config.size + towers.config.depth_size;
        let genes = towers.config.genes;
        let (mut rna, mut atac) = (Vec::new(), Vec::new());
        let mut sums = vec![Along::default(); if towers.predicts() { genes } else { 0 }];
        let mut truth = vec![0f32; genes];
        for chunk in self.cells.chunks(256) {
            let (r, a) = read(data, chunk)?;
            rna.extend(towers.of_rna(&r));
            atac.extend(towers.of_atac(&a));
            let told = towers.expression(&a).level;
            let levels = towers.weigh_rna(&r);
            for (i, told) in told.chunks_exact(genes).enumerate() {
                truth.fill(0.0);
                let (index, value) = levels.row(i);
                index.iter().zip(value).for_each(|(&g, &x)| truth[g as usize] = x);
                for ((s, &x), &y) in sums.iter_mut().zip(told).zip(&truth) {
                    let (x, y) = (f64::from(x), f64::from(y));
                    *s = Along { x: s.x + x, y: s.y + y, xx: s.xx + x * x, yy: s.yy + y * y, xy: s.xy + x * y };
                }
            }
        }
        let n = self.cells.len() as f64;
        let of = |s: &Along| {
            let (vx, vy) = (s.xx - s.x * s.x / n, s.yy - s.y * s.y / n);
            (vy > 1e-9).then(|| if vx > 1e-12 { (s.xy - s.x * s.y / n) / (vx * vy).sqrt() } else { 0.0 })
        };
        let known: Vec<f64> = sums.iter().filter_map(of).collect();
        let pearson = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
        Ok([foscttm(&rna, &atac, width), pearson])
    }
}

/// A training of towers under way.
struct Fit<'a> {
    data: &'a DataSet,
    config: &'a TrainConfig,
    out: &'a Path,
    observer: &'a mut dyn Observer,
    cells: Vec<u32>,
    groups: Groups,
    validation: Validation,
    towers: Towers<f32>,
    weights: TowerWeights,
    grads: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    /// Running mean of the parameters.
    mean: Vec<f32>,
    place: Place,
    log: Vec<TowerRecord>,
    batch_size: usize,
    epochs: u32,
}

/// Trains the towers of a run, or goes on; nothing is done where the settings ask for none, or where they are there.
///
/// # Errors
/// A column that the data lack; a loss that is no number; files that cannot be written; [`Error::Interrupted`], once all is
/// saved.
pub(crate) fn fit(
    data: &DataSet,
    set: &SampleSet,
    config: &TrainConfig,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<()> {
    let settings = &config.towers;
    let folder = out.join("checkpoints");
    let state = folder.join(TOWERS_STATE);
    if settings.epochs == Some(0) || finished(&folder.join(TOWERS))? {
        return Ok(());
    }
    let cells = training_cells(set);
    if cells.len() < 2 {
        observer.note("towers: fewer than two training cells, so there is nothing to tell apart; left out");
        return Ok(());
    }
    let groups = Groups::new(data, settings, &cells)?;
    let (batch_size, epochs) = course(settings, cells.len());
    let found = statistics(data, settings, &cells)?;
    let start = GeneStart { level: &found.level, rate: &found.rate };
    let towers = Towers::new(found.config, found.idf, start, config.seed)?;
    let n = towers.layout().len();
    let mean = towers.as_slice().to_vec();
    let validation = Validation::new(set);
    let [grads, m, v] = [(); 3].map(|()| vec![0f32; n]);
    let place = Place::default();
    let weights = found.weights;
    let log = Vec::new();
    let mut fit = Fit {
        data,
        config,
        out,
        observer,
        cells,
        groups,
        validation,
        towers,
        weights,
        grads,
        m,
        v,
        mean,
        place,
        log,
        batch_size,
        epochs,
    };
    if state.exists() {
        fit.load(&state)?;
    }
    fit.run()
}

impl Fit<'_> {
    fn run(&mut self) -> Result<()> {
        self.observer.note(&format!(
            "towers: {} cells, {} a step, {} epochs, {} parameters; {} validation cells",
            self.cells.len(),
            self.batch_size,
            self.epochs,
            self.towers.layout().len(),
            self.validation.cells.len()
        ));
        let began = Instant::now();
        while self.place.epoch < self.epochs {
            self.epoch()?;
        }
        let (state, kept) = (self.path(TOWERS_STATE), self.path(TOWERS));
        if !kept.exists() {
            self.keep()?;
        }
        let mut best = open(&kept)?;
        best.calibration = self.validation.calibrate(&best, self.data)?;
        write(&kept, &best, &[("", best.as_slice())], &Kept::Finished)?;
        if state.exists() {
            std::fs::remove_file(&state).map_err(|e| Error::io(&state, "remove", e))?;
        }
        if let Some(best) = self.log.iter().rev().find(|r| r.best) {
            let number = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.4}"));
            self.observer.note(&format!(
                "towers: epoch {} is kept: FOSCTTM {}, Pearson by gene {} on validation cells; {:.0} s",
                best.epoch,
                number(best.val_foscttm),
                number(best.val_pearson),
                began.elapsed().as_secs_f64()
            ));
        }
        Ok(())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.out.join("checkpoints").join(file)
    }

    fn epoch(&mut self) -> Result<()> {
        let began = Instant::now();
        let batches =
            self.groups.batches(self.batch_size, self.config.towers.hard_negatives, self.config.seed, self.place.epoch);
        if batches.is_empty() {
            return Err(Error::usage("--batch: no value of the column has two training cells; leave it out"));
        }
        let all = batches.len() as u64 * u64::from(self.epochs);
        for batch in &batches[self.place.batch.min(batches.len())..] {
            if let Some(code) = self.observer.stop() {
                self.save()?;
                let saved = format!(
                    "saved after step {} of the towers (epoch {}); go on with: sccrossrec train --resume --out {}",
                    self.place.step,
                    self.place.epoch + 1,
                    quoted(self.out)
                );
                return Err(Error::Interrupted { code, saved });
            }
            self.step(batch, all)?;
            self.place.batch += 1;
            self.observer.at("towers", self.place.step, all);
        }
        self.close_epoch(batches.len() as f64, began)
    }

    fn step(&mut self, batch: &[u32], all: u64) -> Result<()> {
        let numbers: Vec<u32> = batch.iter().map(|&i| self.cells[i as usize]).collect();
        let (rna, atac) = read(self.data, &numbers)?;
        let numbers: Vec<u64> = numbers.into_iter().map(u64::from).collect();
        let s = &self.config.towers;
        let share = [s.drop_genes, s.drop_peaks, s.dropout];
        let drop = TowerDropout { seed: self.config.seed, step: self.place.step, share };
        let cells = PairedCells { numbers: &numbers, rna: &rna, atac: &atac };
        let TowerLosses { loss, contrast, level } =
            self.towers.train_step(cells, &drop, self.weights, &mut self.grads)?;
        if !loss.is_finite() {
            let found = format!("the loss of step {} of the towers is {loss}", self.place.step + 1);
            return Err(Error::input(self.out, found, "train again with a smaller --tower-lr"));
        }
        self.place.step += 1;
        let t = self.place.step;
        let warm = (all / 10).clamp(1, 100);
        let rates = adam::Rates { rate: s.lr, warmup: warm, decay: Decay::Cosine, last: 0.0, steps: all };
        let constants = AdamConfig { lr: rates.at(t - 1), weight_decay: 0.0, ..AdamConfig::default() };
        adam::step(self.towers.as_mut_slice(), &mut self.grads, &mut self.m, &mut self.v, &constants, t);
        let by = 1.0 - MEAN_DECAY.min((1 + t) as f64 / (10 + t) as f64) as f32;
        self.mean.par_chunks_mut(1 << 14).zip(self.towers.as_slice().par_chunks(1 << 14)).for_each(|(mean, p)| {
            mean.iter_mut().zip(p).for_each(|(m, &p)| *m += by * (p - *m));
        });
        self.place.loss.add(loss);
        self.place.contrast.add(contrast);
        self.place.level.add(level);
        Ok(())
    }

    fn close_epoch(&mut self, batches: f64, began: Instant) -> Result<()> {
        self.towers.swap(&mut self.mean);
        let looked = self.validation.look(&self.towers, self.data);
        self.towers.swap(&mut self.mean);
        let [val_foscttm, val_pearson] = looked?;
        let score = val_foscttm.map(|f| 1.0 - f + val_pearson.unwrap_or(0.0));
        // Without validation cells the last one is kept.
        let best = score.is_none() || self.place.best.is_none_or(|b| score.is_some_and(|s| s > b.get()));
        let mean = |x: Bits| Some(x.get() / batches).filter(|x| x.is_finite());
        let p = &self.place;
        self.log.push(TowerRecord {
            epoch: p.epoch + 1,
            step: p.step,
            loss: mean(p.loss),
            contrast: mean(p.contrast),
            level: mean(p.level).filter(|_| self.towers.predicts()),
            val_foscttm,
            val_pearson,
            score,
            best,
            seconds: began.elapsed().as_secs_f64(),
        });
        let (epoch, step, logged) = (p.epoch + 1, p.step, self.log.len());
        let number = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.4}"));
        self.observer.note(&format!(
            "towers {epoch:>3}/{}  loss {}  val FOSCTTM {}, Pearson by gene {}{}",
            self.epochs,
            number(mean(p.loss)),
            number(val_foscttm),
            number(val_pearson),
            if best { "  best" } else { "" }
        ));
        let kept = if best { score.map(Bits::of) } else { p.best };
        self.place = Place { epoch, step, best: kept, logged, ..Place::default() };
        if best {
            self.keep()?;
        }
        self.write_log()?;
        // A state of every epoch would cost more than the epoch of few cells.
        if self.log.iter().rev().take(5).map(|r| r.seconds).sum::<f64>() > 60.0 && self.place.epoch < self.epochs {
            self.save()?;
        }
        Ok(())
    }

    fn write_log(&self) -> Result<()> {
        let line = |r: &TowerRecord| serde_json::to_string(r).map_err(|e| Error::Internal(format!("log: {e}")));
        let lines = self.log.iter().map(line).collect::<Result<Vec<_>>>()?;
        write_text(&self.out.join(TOWERS_LOG), &(lines.join("\n") + "\n"))
    }

    /// Writes the running mean as the run's towers.
    fn keep(&self) -> Result<()> {
        write(&self.path(TOWERS), &self.towers, &[("", &self.mean)], &Kept::SoFar)
    }

    fn save(&self) -> Result<()> {
        let arenas =
            [("params", self.towers.as_slice()), ("adam.m", &self.m), ("adam.v", &self.v), ("mean", &self.mean)];
        write(&self.path(TOWERS_STATE), &self.towers, &arenas, &Kept::State(&self.place))?;
        if self.log.is_empty() { Ok(()) } else { self.write_log() }
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        let mut file = TensorFile::read(path)?;
        let bad = |found: &str| Error::input(path, found, "train again, to another --out");
        if config_of(&file).as_ref() != Some(&self.towers.config) {
            return Err(bad("its towers are not of these data and settings"));
        }
        let place = file.metadata.get("state").ok_or_else(|| bad("the place in the training is missing"))?;
        self.place =
            serde_json::from_str(place).map_err(|e| bad(&format!("the place in the training is damaged ({e})")))?;
        let n = [self.towers.layout().len()];
        self.towers.as_mut_slice().copy_from_slice(&file.take(path, "params", &n)?.values);
        self.m = file.take(path, "adam.m", &n)?.values;
        self.v = file.take(path, "adam.v", &n)?.values;
        self.mean = file.take(path, "mean", &n)?.values;
        self.log = read_log(&self.out.join(TOWERS_LOG))?;
        self.log.truncate(self.place.logged);
        Ok(())
    }
}

/// The records of a run's towers; none where it has none.
///
/// # Errors
/// A line that is no record.
pub(crate) fn read_log(path: &Path) -> Result<Vec<TowerRecord>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = read_text(path)?;
    let bad =
        |i: usize, e| Error::input(path, format!("line {} is no epoch of towers ({e})", i + 1), "restore the file");
    text.lines().enumerate().map(|(i, l)| serde_json::from_str(l).map_err(|e| bad(i, e))).collect()
}

/// What a file of towers is.
enum Kept<'a> {
    /// The best epoch so far.
    SoFar,
    /// The best epoch of all.
    Finished,
    /// All that `--resume` needs.
    State(&'a Place),
}

/// Key in the metadata of the towers of a training that came to its end.
const FINISHED: &str = "finished";

/// Are the towers of a run there, and trained to their end?
fn finished(path: &Path) -> Result<bool> {
    Ok(path.exists() && TensorFile::read(path)?.metadata.contains_key(FINISHED))
}

/// Writes arenas: under the names of the tensors where there is one without a name, else whole.
fn write(path: &Path, towers: &Towers<f32>, arenas: &[(&str, &[f32])], kept: &Kept<'_>) -> Result<()> {
    let text = |e: serde_json::Error| Error::Internal(format!("towers: {e}"));
    let mut metadata = std::collections::BTreeMap::from([
        ("towers", serde_json::to_string(&towers.config).map_err(text)?),
        ("format", "pt".to_string()),
        ("sccrossrec", env!("CARGO_PKG_VERSION").to_string()),
    ]);
    if let Some(c) = &towers.calibration {
        metadata.insert("calibration", serde_json::to_string(c).map_err(text)?);
    }
    match kept {
        Kept::SoFar => {}
        Kept::Finished => drop(metadata.insert(FINISHED, "true".into())),
        Kept::State(place) => drop(metadata.insert("state", serde_json::to_string(place).map_err(text)?)),
    }
    let mut tensors = Vec::new();
    for (name, values) in arenas {
        if name.is_empty() {
            let of = |e: &'_ crate::model::Entry| (e.shape.clone(), e.range.clone());
            for e in towers.layout().entries() {
                let (shape, range) = of(e);
                tensors.push(Out { name: &e.name, shape, values: &values[range] });
            }
        } else {
            tensors.push(Out { name, shape: vec![values.len()], values });
        }
    }
    tensors.push(Out { name: "towers.idf", shape: vec![towers.idf.len()], values: &towers.idf });
    tensors::write(path, &tensors, metadata)
}

fn config_of(file: &TensorFile) -> Option<TowerConfig> {
    serde_json::from_str(file.metadata.get("towers")?).ok()
}

/// The towers of a file.
///
/// # Errors
/// A file that cannot be read, or is damaged.
pub(crate) fn open(path: &Path) -> Result<Towers<f32>> {
    let mut file = TensorFile::read(path)?;
    let again = "restore the file or train again";
    let config = config_of(&file).ok_or_else(|| Error::input(path, "says nothing of towers", again))?;
    config.validate().map_err(|e| Error::input(path, e.to_string(), again))?;
    let layout = TowerLayout::new(&config);
    let mut params = Vec::with_capacity(layout.len());
    for e in layout.entries() {
        params.extend(file.take(path, &e.name, &e.shape)?.values);
    }
    let idf = file.take(path, "towers.idf", &[config.peaks])?.values;
    let mut towers = Towers::of_params(config, idf, Some(params))?;
    if let Some(text) = file.metadata.get("calibration") {
        let bad = |e| Error::input(path, format!("its calibration is damaged ({e})"), again);
        towers.calibration = Some(serde_json::from_str(text).map_err(bad)?);
    }
    Ok(towers)
}

/// The same towers for data of other genes and peaks: rows by number, `None` for what they do not know.
pub(crate) fn rearranged(towers: Towers<f32>, genes: &[Option<usize>], peaks: &[Option<usize>]) -> Result<Towers<f32>> {
    let config = TowerConfig { genes: genes.len(), peaks: peaks.len(), ..towers.config.clone() };
    let layout = TowerLayout::new(&config);
    let mut params = Vec::with_capacity(layout.len());
    for (e, old) in layout.entries().iter().zip(towers.layout().entries()) {
        let values = &towers.as_slice()[old.range.clone()];
        let rows = match e.name.as_str() {
            "towers.rna.table" => Some(genes),
            "towers.atac.table" => Some(peaks),
            name if name.starts_with("towers.predict.level") || name.starts_with("towers.predict.rate") => Some(genes),
            _ => None,
        };
        let width = e.shape.get(1).copied().unwrap_or(1);
        match rows {
            None => params.extend_from_slice(values),
            Some(rows) => rows.iter().for_each(|row| match row {
                Some(i) => params.extend_from_slice(&values[i * width..(i + 1) * width]),
                None => params.extend(std::iter::repeat_n(0f32, width)),
            }),
        }
    }
    let idf = peaks.iter().map(|p| p.map_or(0.0, |i| towers.idf[i])).collect();
    let calibration = towers.calibration.clone();
    let mut met = Towers::of_params(config, idf, Some(params))?;
    met.calibration = calibration;
    Ok(met)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_one_group_and_every_cell_once() {
        let column: Vec<u32> = (0..300).map(|i| u32::from(i % 3 == 0)).collect();
        let types: Vec<u32> = (0..300).map(|i| i % 5).collect();
        let g = Groups { column: column.clone(), types: types.clone() };
        for hard in [0.0, 1.0] {
            let b = g.batches(16, hard, 1, 2);
            let mut all: Vec<u32> = b.iter().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..300).collect::<Vec<u32>>());
            for batch in &b {
                assert!(batch.iter().all(|&i| column[i as usize] == column[batch[0] as usize]));
                assert!(hard == 0.0 || batch.iter().all(|&i| types[i as usize] == types[batch[0] as usize]));
                assert!((2..=24).contains(&batch.len()), "{}", batch.len());
            }
            assert_eq!(b, g.batches(16, hard, 1, 2));
            assert_ne!(b, g.batches(16, hard, 1, 3));
        }
    }

    #[test]
    fn foscttm_by_hand() {
        // Cells at 1, 2, 3 on a line; the ATAC of the second is that of the third: its own is tied.
        let (rna, atac) = ([1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]);
        assert_eq!(foscttm(&rna, &atac, 2), Some(1.0));
        assert_eq!(foscttm(&rna, &rna, 2), Some(0.0));
        assert_eq!(foscttm(&[1.0, 1.0], &[1.0, 1.0], 1), Some(0.5));
        assert_eq!(foscttm(&rna[..2], &atac[..2], 2), None);
    }

    /// Scores of a known law: the log odds of own against other are 2 × 3 × score, the densities being N(±1.5, 1) / 0.5.
    #[test]
    fn calibration_finds_the_law_of_scores() {
        let mut rng = Rng::new(3, 3);
        let n = 400;
        // RNA i is the unit vector i, so that scores are whatever the ATAC holds.
        let rna: Vec<f32> = (0..n * n).map(|k| f32::from(u8::from(k / n == k % n))).collect();
        let atac: Vec<f32> =
            (0..n * n).map(|k| (rng.normal() + if k / n == k % n { 1.5 } else { -1.5 }) as f32).collect();
        let c = calibrate(&rna, &atac, n).unwrap();
        assert!((c.slope - 3.0).abs() < 0.35 && c.intercept.abs() < 0.35, "{c:?}");
        assert!((c.own[50] - 1.5).abs() < 0.2 && c.own.is_sorted());
        // Of a softmax over scores of equal variance the right factor is the same slope.
        assert!((c.scale - 3.0).abs() < 0.5, "{}", c.scale);
        assert!(calibrate(&rna[..9], &atac[..9], 3).is_none());
    }

    #[test]
    fn the_course_follows_the_cells() {
        let s = TowerSettings::default();
        assert_eq!(course(&s, 400), (32, 67));
        assert_eq!(course(&s, 8249), (256, 25));
        assert_eq!(course(&s, 55_399), (1024, 15));
        assert_eq!(course(&s, 3), (32, 100));
        let s = TowerSettings { batch_size: Some(64), epochs: Some(3), ..s };
        assert_eq!(course(&s, 8249), (64, 3));
    }
}
