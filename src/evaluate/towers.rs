//! The towers as users judge them: partners, expression, labels and embedding of cells they were not trained on, each beside
//! what would be fitted in a minute.
//!
//! See docs/model.md, section 8.7.

use serde::{Deserialize, Serialize};

use super::baselines::{BaselineOptions, BaselineReport, Baselines, thin};
use super::expression::{ExpressionMetrics, GeneTold, expression, expression_by_gene};
use super::levels::LogExpression;
use super::neighbours::Points;
use super::partners::{Dot, PartnerMetrics, partners};
use super::space::{LabelTransfer, SpaceInput, SpaceMetrics, label_transfer, space};
use super::{Part, PartCells};
use crate::dataset::means::training_cells;
use crate::dataset::{DataSet, SampleSet};
use crate::error::{Error, Result};
use crate::memory;
use crate::model::Towers;
use crate::progress::Progress;
use crate::table::{aligned, number};

/// Cells read and passed at a time.
const CHUNK: usize = 256;
/// Cells whose partners are ranked at most, those that an embedding is measured on, and numbers of an expression matrix.
const MOST_PARTNERS: usize = 20_000;
const MOST_SPACE: usize = 5_000;
const MOST_NUMBERS: usize = 60_000_000;

/// Cells in the space of the towers.
#[derive(Debug, Clone, Default)]
pub struct TowerVectors {
    /// `[n, width]` from RNA; empty where it was not asked for.
    pub rna: Vec<f32>,
    /// `[n, width]` from ATAC.
    pub atac: Vec<f32>,
    /// Numbers of a vector: `size`, and those of depth behind them.
    pub width: usize,
    /// Numbers that are not of depth: together at length 1.
    pub size: usize,
}

/// Which modality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Rna,
    Atac,
}

impl TowerVectors {
    /// Vectors of `cells`. `progress` is told the cells done, as stage `embed`.
    ///
    /// # Errors
    /// Data that cannot be read; [`Error::Interrupted`].
    pub(crate) fn of(
        towers: &Towers<f32>,
        data: &DataSet,
        cells: &[u32],
        sides: &[Side],
        progress: &dyn Progress,
    ) -> Result<Self> {
        let size = towers.config().size;
        let numbers = cells.len() as u64 * (sides.len() as u64 + 2) * (size + towers.config().depth_size) as u64;
        let parts = [("towers", 4 * towers.layout().len() as u64), ("vectors", 4 * numbers)];
        memory::check("placing cells", &parts, data.access().memory_limit, |_| {
            "choose fewer cells with --part".into()
        })?;
        let mut v = TowerVectors { width: size + towers.config().depth_size, size, ..Default::default() };
        let mut done = 0;
        for chunk in cells.chunks(CHUNK) {
            progress.check("nothing was written")?;
            let batch = data.batch_of_cells(chunk);
            data.check()?;
            if sides.contains(&Side::Rna) {
                v.rna.extend(towers.of_rna(&batch.rna));
            }
            if sides.contains(&Side::Atac) {
                v.atac.extend(towers.of_atac(&batch.atac));
            }
            done += chunk.len() as u64;
            progress.at("embed", done, cells.len() as u64);
        }
        Ok(v)
    }

    /// Vectors of one side without depth, `[n, size]`.
    pub(crate) fn plain(&self, side: Side) -> Vec<f32> {
        let rows = if side == Side::Rna { &self.rna } else { &self.atac };
        rows.chunks_exact(self.width).flat_map(|r| &r[..self.size]).copied().collect()
    }

    /// What they say of depth, `[n, width - size]`.
    pub(crate) fn depth(&self, side: Side) -> Vec<f32> {
        let rows = if side == Side::Rna { &self.rna } else { &self.atac };
        rows.chunks_exact(self.width).flat_map(|r| &r[self.size..]).copied().collect()
    }

    /// The joint embedding, `[n, size]`: the mean of both sides at length 1; the side that is there where one is not.
    pub(crate) fn joint(&self) -> Vec<f32> {
        let (rna, atac) = (self.plain(Side::Rna), self.plain(Side::Atac));
        if rna.is_empty() || atac.is_empty() {
            return if rna.is_empty() { atac } else { rna };
        }
        let mut joint: Vec<f32> = rna.iter().zip(&atac).map(|(a, b)| a + b).collect();
        for row in joint.chunks_exact_mut(self.size) {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|x| *x /= length);
            }
        }
        joint
    }
}

/// What [`evaluate_towers`] is to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TowerEvaluationOptions {
    /// Fit and measure the baselines, too.
    pub baselines: bool,
    /// Seed of clusters, of draws and of the baselines.
    pub seed: u64,
}

/// An embedding, and what it is called in tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedSpace {
    /// Its name.
    pub name: String,
    /// Its measures.
    pub measures: SpaceMetrics,
}

/// The towers on some cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TowerEvaluation {
    /// Cells of the part.
    pub cells: u64,
    /// Partners among at most 20,000 of them.
    pub partners: PartnerMetrics,
    /// Expression told from ATAC; `None` for towers that do not predict.
    pub expression: Option<ExpressionMetrics>,
    /// Types told from the RNA of training cells to the RNA of these. `None` without types.
    pub labels_rna: Option<LabelTransfer>,
    /// From ATAC to ATAC.
    pub labels_atac: Option<LabelTransfer>,
    /// From the RNA of training cells to the ATAC of these.
    pub labels_across: Option<LabelTransfer>,
    /// Embeddings of at most 5,000 cells, of the part and of training: the joint one first.
    pub spaces: Vec<NamedSpace>,
    /// What would be fitted in a minute; `None` where it was not asked for, or without training cells.
    pub baselines: Option<BaselineReport>,
    /// Where a baseline that is told no labels is better, in words.
    pub below: Vec<String>,
}

/// Measures towers on the cells of a part. `progress` is told the cells embedded. Memory: the vectors of these and of the
/// training cells, and three expression matrices of at most 60 million numbers.
///
/// # Errors
/// No cells in the part; data without RNA or ATAC; [`Error::Interrupted`].
pub fn evaluate_towers(
    towers: &Towers<f32>,
    data: &DataSet,
    set: &SampleSet,
    part: Part,
    options: TowerEvaluationOptions,
    progress: &dyn Progress,
) -> Result<TowerEvaluation> {
    data.need_both("evaluation")?;
    let parts = PartCells::new(data, set);
    let cells = parts.of(part);
    if cells.is_empty() {
        let name = part.name();
        return Err(Error::usage(format!("--part {name}: no cell is in it; choose another part or other pairs")));
    }
    let genes = towers.config().genes;
    let few = thin(&cells, MOST_PARTNERS);
    let shown = thin(&few, (MOST_NUMBERS / genes.max(1)).max(1));
    let numbers = 4 * (3 * shown.len() * genes) as u64;
    memory::check("an evaluation", &[("expression", numbers)], data.access().memory_limit, |_| {
        "choose a smaller --part, or leave baselines out with --no-baselines".into()
    })?;
    let v = data.vocabulary();
    let types_of = |cells: &[u32]| {
        (!v.cell_types.is_empty()).then(|| cells.iter().map(|&c| v.cell_type[c as usize]).collect::<Vec<u32>>())
    };
    let both = [Side::Rna, Side::Atac];
    let vectors = TowerVectors::of(towers, data, &few, &both, progress)?;
    progress.begin("partners");
    let types = types_of(&few);
    let dot = Dot { rna: &vectors.rna, atac: &vectors.atac, width: vectors.width };
    let scale = towers.calibration().map_or(towers.scale(), |c| c.match_scale);
    let found = partners(&dot, types.as_deref(), Some(scale as f32));
    let told = if towers.predicts() { Some(told_expression(towers, data, set, &shown, progress)?) } else { None };
    // Labels and embeddings: from training cells to these.
    let train = thin(&training_cells(set), MOST_PARTNERS);
    let known = TowerVectors::of(towers, data, &train, &both, progress)?;
    progress.begin("cell types");
    let width = vectors.size;
    let transfer = |from: Side, to: Side| {
        let (labels, truth) = (types_of(&train)?, types.as_ref()?);
        let (from, to) = (known.plain(from), vectors.plain(to));
        (!labels.is_empty())
            .then(|| label_transfer(Points { rows: &from, width }, &labels, Points { rows: &to, width }, truth))
    };
    let joint = [known.joint(), vectors.joint()].concat();
    let mut spaces = vec![measured("towers, joint", &joint, width, data, [&train, &few], options.seed)];
    let mut out = TowerEvaluation {
        cells: cells.len() as u64,
        partners: found,
        expression: told,
        labels_rna: transfer(Side::Rna, Side::Rna),
        labels_atac: transfer(Side::Atac, Side::Atac),
        labels_across: transfer(Side::Rna, Side::Atac),
        spaces: Vec::new(),
        baselines: None,
        below: Vec::new(),
    };
    if options.baselines && train.len() > 1 {
        let val = parts.of(Part::Val);
        progress.begin("baselines");
        let how = BaselineOptions { seed: options.seed, ..BaselineOptions::default() };
        let fitted = Baselines::fit(data, &train, &val, &how, progress)?;
        progress.check("nothing was written")?;
        out.baselines = Some(fitted.report(data, &train, &shown)?);
        let all = [&train[..], &few[..]].concat();
        for ((rows, width), name) in fitted.embeddings(data, &all)?.into_iter().zip(["PCA of RNA", "LSI of ATAC"]) {
            progress.check("nothing was written")?;
            spaces.push(measured(name, &rows, width, data, [&train, &few], options.seed));
        }
    }
    out.spaces = spaces;
    out.below = out.weaknesses();
    Ok(out)
}

/// Expression of `cells` told from their ATAC, against the truth.
fn told_expression(
    towers: &Towers<f32>,
    data: &DataSet,
    set: &SampleSet,
    cells: &[u32],
    progress: &dyn Progress,
) -> Result<ExpressionMetrics> {
    let (told, truth) = told_and_true(towers, data, set, cells, progress)?;
    Ok(expression(&told, &truth, towers.config().genes, None))
}

/// How well the expression of each gene of the cells of a part is told from ATAC: of the cells that [`evaluate_towers`] looks at.
/// None for towers that do not predict.
///
/// # Errors
/// As [`evaluate_towers`].
pub fn genes_told(
    towers: &Towers<f32>,
    data: &DataSet,
    set: &SampleSet,
    part: Part,
    progress: &dyn Progress,
) -> Result<Vec<GeneTold>> {
    let (cells, genes) = (PartCells::new(data, set).of(part), towers.config().genes);
    if cells.is_empty() || !towers.predicts() {
        return Ok(Vec::new());
    }
    let shown = thin(&thin(&cells, MOST_PARTNERS), (MOST_NUMBERS / genes.max(1)).max(1));
    let (told, truth) = told_and_true(towers, data, set, &shown, progress)?;
    Ok(expression_by_gene(&told, &truth, genes, None))
}

/// Levels `[cells, genes]` told from ATAC, and measured.
fn told_and_true(
    towers: &Towers<f32>,
    data: &DataSet,
    set: &SampleSet,
    cells: &[u32],
    progress: &dyn Progress,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut told = Vec::with_capacity(cells.len() * towers.config().genes);
    for chunk in cells.chunks(CHUNK) {
        progress.check("nothing was written")?;
        let batch = data.batch_of_cells(chunk);
        data.check()?;
        told.extend(towers.expression(&batch.atac).level);
    }
    let train = training_cells(set);
    let log = LogExpression::fit(data, if train.is_empty() { cells } else { &train })?;
    Ok((told, log.dense(data, cells)?))
}

/// An embedding of training cells and of the cells looked at, measured on at most 5,000 of them.
fn measured(name: &str, rows: &[f32], width: usize, data: &DataSet, of: [&[u32]; 2], seed: u64) -> NamedSpace {
    let [train, cells] = of;
    let every = (train.len() + cells.len()).div_ceil(MOST_SPACE).max(1);
    // The cells looked at are all there as far as that goes.
    let mut places: Vec<usize> = (0..train.len()).step_by(every).collect();
    let reference: Vec<u32> = (0..places.len() as u32).collect();
    let left = MOST_SPACE.saturating_sub(places.len()).max(1);
    places.extend((train.len()..train.len() + cells.len()).step_by(cells.len().div_ceil(left).max(1)));
    let query: Vec<u32> = (reference.len() as u32..places.len() as u32).collect();
    let kept: Vec<f32> = places.iter().flat_map(|&i| &rows[i * width..(i + 1) * width]).copied().collect();
    let number = |i: usize| if i < train.len() { train[i] } else { cells[i - train.len()] } as usize;
    let v = data.vocabulary();
    let types: Vec<u32> = places.iter().filter_map(|&i| v.cell_type.get(number(i)).copied()).collect();
    let column = v.obs.iter().find(|o| ["batch", "donor", "site", "sample", "library"].contains(&o.name.as_str()));
    let batches: Option<Vec<u32>> = column.map(|c| places.iter().map(|&i| c.codes[number(i)]).collect());
    let depth: Vec<f64> = places.iter().map(|&i| (data.cell_sizes(number(i)).0 as f64).ln_1p()).collect();
    let measures = space(&SpaceInput {
        points: Points { rows: &kept, width },
        types: (types.len() == places.len()).then_some(&types),
        batches: batches.as_deref(),
        depth: Some(&depth),
        reference: &reference,
        query: &query,
        seed,
    });
    NamedSpace { name: name.into(), measures }
}

pub(crate) type Partner = fn(&PartnerMetrics) -> Option<f64>;
/// Rows of the table, and whether less is better.
pub(crate) const PARTNERS: [(&str, Partner, bool); 11] = [
    ("FOSCTTM", |m| m.foscttm, true),
    ("  among cells of the type", |m| m.foscttm_same_type, true),
    ("true one first", |m| m.first, false),
    ("  among the first 5", |m| m.among_5, false),
    ("  among the first 10", |m| m.among_10, false),
    ("  among the first 50", |m| m.among_50, false),
    ("match score", |m| m.match_score, false),
    ("AUROC, any other cell", |m| m.auroc_any, false),
    ("  cell of another type", |m| m.auroc_other_type, false),
    ("  cell of the same type", |m| m.auroc_same_type, false),
    ("first has the cell's type", |m| m.type_of_first, false),
];
pub(crate) type Told = fn(&ExpressionMetrics) -> Option<f64>;
pub(crate) const EXPRESSION: [(&str, Told, bool); 8] = [
    ("Pearson by gene", |m| m.pearson_gene, false),
    ("Spearman by gene", |m| m.spearman_gene, false),
    ("AUROC by gene", |m| m.auroc_gene, false),
    ("Pearson by cell", |m| m.pearson_cell, false),
    ("  gene means taken out", |m| m.pearson_cell_centred, false),
    ("RMSE", |m| m.rmse, true),
    ("MAE", |m| m.mae, true),
    ("R²", |m| m.r2, false),
];
/// Less of it is better.
pub(crate) const DEPTH: &str = "depth explained, R²";
pub(crate) type Spaced = fn(&SpaceMetrics) -> Option<f64>;
pub(crate) const SPACE: [(&str, Spaced); 8] = [
    ("types by 15 neighbours", |m| m.labels.and_then(|l| l.accuracy)),
    ("ARI, Louvain", |m| m.ari_louvain),
    ("NMI, Louvain", |m| m.nmi_louvain),
    ("ARI, k-means", |m| m.ari),
    ("NMI, k-means", |m| m.nmi),
    ("silhouette of types", |m| m.silhouette),
    ("mixing of batches", |m| m.batch_mixing),
    (DEPTH, |m| m.depth_r2),
];

impl TowerEvaluation {
    fn labels(&self) -> [(&'static str, Option<f64>, &'static str, Option<f64>); 3] {
        let of = |l: Option<LabelTransfer>| l.and_then(|l| l.accuracy);
        let b = self.baselines.as_ref();
        [
            ("RNA", of(self.labels_rna), "PCA", of(b.and_then(|b| b.labels_rna))),
            ("ATAC", of(self.labels_atac), "LSI and depth", of(b.and_then(|b| b.labels_atac))),
            ("ATAC by RNA", of(self.labels_across), "CCA", of(b.and_then(|b| b.labels_cca))),
        ]
    }

    /// Where what would be fitted in a minute is better.
    fn weaknesses(&self) -> Vec<String> {
        let Some(b) = &self.baselines else { return Vec::new() };
        let mut found = Vec::new();
        let mut weigh = |name: &str, ours: Option<f64>, less: bool, other: &str, theirs: Option<f64>| {
            if let (Some(x), Some(y)) = (ours, theirs)
                && (if less { y < x } else { y > x })
            {
                found.push(format!("{}: {}, {other} {}", name.trim(), number(Some(x)), number(Some(y))));
            }
        };
        for (name, f, less) in PARTNERS {
            weigh(name, f(&self.partners), less, "CCA", f(&b.cca_partners));
            weigh(name, f(&self.partners), less, "depth alone", f(&b.depth_partners));
        }
        if let Some(e) = &self.expression {
            for (name, f, less) in EXPRESSION {
                weigh(name, f(e), less, "ridge on LSI", f(&b.ridge));
                weigh(name, f(e), less, "gene mean", f(&b.gene_mean));
                weigh(name, f(e), less, "gene × type (told)", b.type_mean.as_ref().and_then(f));
            }
        }
        for (name, ours, other, theirs) in self.labels() {
            weigh(&format!("types told from {name}"), ours, false, other, theirs);
        }
        if let Some((ours, others)) = self.spaces.split_first() {
            for (name, f) in SPACE {
                others.iter().for_each(|s| weigh(name, f(&ours.measures), name == DEPTH, &s.name, f(&s.measures)));
            }
        }
        found
    }

    /// The tables that `evaluate` prints first.
    pub fn table(&self) -> String {
        let line = |c: &[&str]| c.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let (p, b) = (&self.partners, self.baselines.as_ref());
        let mut rows = vec![line(&["partners", "towers", "CCA", "depth alone", "chance"])];
        for (name, f, _) in PARTNERS {
            let of = |m: Option<&PartnerMetrics>| m.map_or("-".into(), |m| number(f(m)));
            let others = [b.map(|b| &b.cca_partners), b.map(|b| &b.depth_partners), b.map(|b| &b.chance)];
            let mut row = line(&[name, &number(f(p))]);
            row.extend(others.into_iter().map(of));
            rows.push(row);
        }
        let mut out = format!("{} cells, partners among {} of them\n\n{}", self.cells, p.cells, aligned(&rows));
        if let Some(e) = &self.expression {
            let mut rows = vec![line(&["expression", "towers", "ridge on LSI", "gene mean", "gene × type (told)"])];
            for (name, f, _) in EXPRESSION {
                let others = [b.map(|b| &b.ridge), b.map(|b| &b.gene_mean), b.and_then(|b| b.type_mean.as_ref())];
                let mut row = line(&[name, &number(f(e))]);
                row.extend(others.into_iter().map(|m| m.map_or("-".into(), |m| number(f(m)))));
                rows.push(row);
            }
            out += &format!("\n{}\nLevels of {} cells; by gene: over {} genes.\n", aligned(&rows), e.cells, e.genes);
        }
        let labels = self.labels();
        if labels.iter().any(|l| l.1.is_some()) {
            let mut rows = vec![line(&["types told from", "towers", "baseline", ""])];
            for (name, ours, other, theirs) in labels {
                let theirs = if b.is_some() { number(theirs) } else { "-".into() };
                rows.push(line(&[name, &number(ours), &theirs, other]));
            }
            out += &format!("\n{}", aligned(&rows));
        }
        let mut head = line(&["embedding"]);
        head.extend(self.spaces.iter().map(|s| s.name.clone()));
        let mut rows = vec![head];
        for (name, f) in SPACE {
            let values: Vec<Option<f64>> = self.spaces.iter().map(|s| f(&s.measures)).collect();
            if values.iter().any(Option::is_some) {
                let mut row = line(&[name]);
                row.extend(values.into_iter().map(number));
                rows.push(row);
            }
        }
        out += &format!("\n{}", aligned(&rows));
        match (b.is_some(), self.below.as_slice()) {
            (false, _) => {}
            (true, []) => out += "\nNo baseline is better anywhere.\n",
            (true, below) => out += &format!("\nA baseline is better in\n  {}\n", below.join("\n  ")),
        }
        out
    }
}
