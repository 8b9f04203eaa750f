//! Metrics, one file a task, each beside its trivial baselines; and [`evaluate`], which applies them to a model.
//!
//! See docs/model.md, section 8.7.

pub(crate) mod baselines;
pub(crate) mod clusters;
pub(crate) mod detection;
pub(crate) mod expression;
pub(crate) mod health;
pub(crate) mod levels;
pub(crate) mod linear;
pub(crate) mod louvain;
pub(crate) mod matching;
pub(crate) mod neighbours;
pub(crate) mod partners;
pub(crate) mod ranking;
pub(crate) mod space;
pub(crate) mod tally;
pub(crate) mod towers;
pub(crate) mod translation;
pub(crate) mod umap;

use serde::{Deserialize, Serialize};

use crate::dataset::means::{GeneMeans, gene_means};
use crate::dataset::{Cell, DataSet, Sample, SampleSet};
use crate::engine::Runner;
use crate::engine::budget::check_memory;
use crate::error::{Error, Result};
use crate::model::CisTarget;
use crate::model::output::{Output, Want};
use crate::progress::Progress;
use crate::table::{aligned, number};
use detection::{Detection, Frequencies};
use tally::TranslationTally;

pub use baselines::{BaselineChoice, BaselineOptions, BaselineReport, Baselines, TwoViews};
pub use clusters::{Agreement, Clusters, agreement, best_k_means};
pub use detection::{DetectionMetrics, DetectionReport};
pub use expression::{ExpressionMetrics, GeneTold, expression, expression_by_gene};
pub use levels::LogExpression;
pub use louvain::{SharedNeighbours, best_louvain};
pub use matching::{MatchingMetrics, MatchingReport, MatchingTally, majority_baseline};
pub use neighbours::{Points, nearest};
pub use partners::{Dot, PairScores, PartnerMetrics, Stored, partners};
pub use ranking::{Ranking, RankingMetrics, ranking};
pub use space::{LabelTransfer, SpaceInput, SpaceMetrics, batch_mixing, depth_r2, label_transfer, silhouette, space};
pub use towers::{NamedSpace, TowerEvaluation, TowerEvaluationOptions, TowerVectors, evaluate_towers, genes_told};
pub use translation::{BitRows, Translation, TranslationMetrics, TranslationReport, foscttm, pearson_of};
pub use umap::{UmapOptions, umap};

/// The part of a sample set that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Training samples.
    Train,
    /// Validation samples.
    Val,
    /// Test samples.
    Test,
    /// All of them.
    All,
}

impl Part {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Val => "val",
            Part::Test => "test",
            Part::All => "all",
        }
    }

    /// Numbers of the samples of this part.
    pub fn numbers(self, set: &SampleSet) -> Vec<u32> {
        match self {
            Part::Train => set.train.clone(),
            Part::Val => set.val.clone(),
            Part::Test => set.test.clone(),
            Part::All => (0..set.samples.len() as u32).collect(),
        }
    }
}

/// The cells of the parts of a sample set, as [`SampleSet::part_of_cells`] deals them.
#[derive(Debug, Clone)]
pub struct PartCells {
    /// `[N]` part of each cell.
    of: Vec<&'static str>,
}

impl PartCells {
    /// Of a sample set of `data`.
    pub fn new(data: &DataSet, set: &SampleSet) -> Self {
        PartCells { of: set.part_of_cells(data.n_cells()) }
    }

    /// The cells of a part, ascending; of [`Part::All`] every cell of the data.
    pub fn of(&self, part: Part) -> Vec<u32> {
        let among = |p: &&str| part == Part::All || *p == part.name();
        (0..).zip(&self.of).filter(|x| among(x.1)).map(|x| x.0).collect()
    }

    /// The part of a cell, in a word: `train`, `val`, `test`, or `none`.
    pub fn name(&self, cell: u32) -> &'static str {
        self.of.get(cell as usize).copied().unwrap_or("none")
    }
}

/// What [`evaluate`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The part that was looked at.
    pub part: Part,
    /// Matching, over all samples of the part.
    pub matching: MatchingReport,
    /// Translation, over the positive samples of the part; `None` where it has none.
    pub translation: Option<TranslationReport>,
    /// Detection of genes, gene by gene over the same samples.
    #[serde(default)]
    pub detection: Option<DetectionReport>,
    /// The towers, where the run has them: filled in by whoever measures them ([`evaluate_towers`]).
    #[serde(default)]
    pub towers: Option<TowerEvaluation>,
}

/// Evaluates a model on a part of a sample set, `batch_size` samples at a time (0 counts as 1). `progress` is told the
/// samples done, as stage `evaluate`. Memory: a batch, nine bytes a sample, and a bit a gene and positive sample for the
/// truth and for each head. See docs/model.md, section 8.7.
///
/// # Errors
/// No samples in the part; a set that does not fit the data ([`SampleSet::check`]); data without RNA or without ATAC, or
/// too large for the memory; logits that are not numbers; [`Error::Interrupted`].
pub fn evaluate<'m>(
    model: impl Into<Runner<'m>>,
    data: &DataSet,
    set: &SampleSet,
    part: Part,
    batch_size: usize,
    progress: &dyn Progress,
) -> Result<Evaluation> {
    data.need_both("evaluation")?;
    let numbers = part.numbers(set);
    if numbers.is_empty() {
        return Err(Error::usage(format!(
            "--part {}: no pair is in it; choose another part or other pairs",
            part.name()
        )));
    }
    set.check(data.vocabulary())?;
    let mut runner = model.into();
    check_memory("an evaluation", runner.model(), data, batch_size, 0)?;
    let config = &runner.model().config;
    let (genes, heads) = (config.genes, if config.translates_by_cis() { 1 } else { config.heads });
    let target = config.cis.as_ref().map(|c| c.target);
    // Counts of a translation that was not trained say nothing.
    let counts = config.cis.is_none() || config.trains_translation();
    let want = Want { translation: true, counts, cis: target.is_some(), ..Want::default() };
    let means = gene_means(data, set, genes);
    data.check()?;
    let positives = numbers.iter().filter(|&&i| set.samples[i as usize].label == 1).count();
    let mut seen = Seen {
        data,
        means: &means,
        every: Detection::stride(genes, positives),
        matching: MatchingTally::new(),
        translation: TranslationTally::new(genes, heads),
        detection: Detection::new(genes),
        cell: Cell::default(),
        expression: vec![0.0; genes],
    };
    let mut done = 0;
    for chunk in numbers.chunks(batch_size.max(1)) {
        progress.check("nothing was written")?;
        let batch = data.batch(set, chunk);
        data.check()?;
        let out = runner.forward(&batch, want)?;
        for (b, &number) in chunk.iter().enumerate() {
            seen.add(number, set.samples[number as usize], &out, b)?;
        }
        done += chunk.len() as u64;
        progress.at("evaluate", done, numbers.len() as u64);
    }
    Ok(seen.finish(set, part, &numbers, target))
}

/// What is collected over the samples.
struct Seen<'a> {
    data: &'a DataSet,
    means: &'a GeneMeans,
    /// Every how many positives go into `detection`.
    every: usize,
    matching: MatchingTally,
    translation: TranslationTally,
    detection: Detection,
    cell: Cell,
    /// `[G]` expression of the sample at hand; zeros between samples.
    expression: Vec<f32>,
}

impl Seen<'_> {
    /// Adds sample `number`, which is number `b` of its batch.
    fn add(&mut self, number: u32, sample: Sample, out: &Output<f32>, b: usize) -> Result<()> {
        let logits = [f64::from(out.logits[2 * b]), f64::from(out.logits[2 * b + 1])];
        if logits.iter().any(|x| x.is_nan()) {
            return Err(Error::Internal(format!(
                "the model's logits for pair {number} are not numbers; its parameters may be damaged"
            )));
        }
        self.matching.add_logits(sample.label, logits);
        if sample.label != 1 {
            return Ok(());
        }
        let predicted = &out.translation[b];
        if predicted.len() != self.translation.numbers() {
            return Err(Error::Internal(format!("translation of pair {number}: {} numbers", predicted.len())));
        }
        self.data.rna_into(sample.rna as usize, &mut self.cell);
        self.data.check()?;
        for (i, &g) in self.cell.genes.iter().enumerate() {
            self.expression[g as usize] = self.cell.expr.get(i);
        }
        self.translation.add(predicted, &self.expression, self.means)?;
        if (self.translation.cells() - 1).is_multiple_of(self.every) {
            let v = self.data.vocabulary();
            let cell_type = v.cell_type.get(sample.rna as usize).copied().unwrap_or(0);
            let cis = [&out.cis, &out.cis_blind].map(|of| of.get(b).map_or(&[][..], Vec::as_slice));
            let counts = out.counts.get(b).map_or(&[][..], Vec::as_slice);
            self.detection.add(self.expression.iter().map(|&x| x > 0.0), cis, counts, cell_type);
        }
        self.cell.genes.iter().for_each(|&g| self.expression[g as usize] = 0.0);
        Ok(())
    }

    /// The metrics over the samples `numbers` of `part`; `target` is what the cis term tells.
    fn finish(self, set: &SampleSet, part: Part, numbers: &[u32], target: Option<CisTarget>) -> Evaluation {
        let labels = |n: &[u32]| n.iter().map(|&s| set.samples[s as usize].label).collect::<Vec<_>>();
        let positive = labels(&set.train).iter().filter(|&&l| l == 1).count();
        let majority_class = u8::from(2 * positive > set.train.len());
        let (all, of_types) = Frequencies::new(&self.means.found, &self.means.of_type);
        let of_types = (!self.data.vocabulary().cell_types.is_empty()).then_some(&of_types);
        let detection = self.detection.finish(target != Some(CisTarget::Level), &all, of_types);
        Evaluation {
            part,
            matching: MatchingReport {
                model: self.matching.finish(),
                majority: majority_baseline(labels(numbers), majority_class),
                majority_class,
            },
            translation: self.translation.finish(self.means.cells),
            detection: detection.filter(|_| self.means.cells > 0),
            towers: None,
        }
    }
}

impl Evaluation {
    /// The tables that `evaluate` prints: metric, model, baselines. A dash is where a number is undefined, or a
    /// baseline has none.
    pub fn table(&self) -> String {
        let cells = |c: &[&str]| c.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let m = &self.matching;
        type Matched = fn(&MatchingMetrics) -> Option<f64>;
        let lines: [(&str, Matched); 7] = [
            ("accuracy", |m| m.accuracy),
            ("precision, label 1", |m| m.precision_1),
            ("recall, label 1", |m| m.recall_1),
            ("precision, label 0", |m| m.precision_0),
            ("recall, label 0", |m| m.recall_0),
            ("AUROC", |m| m.auroc),
            ("AUPRC", |m| m.auprc),
        ];
        let majority = format!("all {}", m.majority_class);
        let mut rows = vec![cells(&["matching", "model", &majority])];
        rows.extend(lines.iter().map(|(name, f)| cells(&[name, &number(f(&m.model)), &number(f(&m.majority))])));
        let mut out = self.towers.as_ref().map_or(String::new(), |t| t.table() + "\nThe attention model\n\n");
        out += &format!(
            "{} pairs of part `{}`, {} of them positive\n\n{}",
            m.model.samples,
            self.part.name(),
            m.model.positives,
            match m.model.samples - m.model.positives {
                0 => "matching: –, no negatives: of pairs of one cell alone nothing can be told\n".into(),
                _ => aligned(&rows),
            }
        );
        let Some(t) = &self.translation else { return out };
        type Translated = fn(&TranslationMetrics) -> Option<f64>;
        let lines: [(&str, Translated); 9] = [
            ("RMSE", |m| m.rmse),
            ("MAE", |m| m.mae),
            ("precision", |m| m.precision),
            ("recall", |m| m.recall),
            ("F1", |m| m.f1),
            ("Pearson per cell", |m| m.pearson),
            ("RMSE, as stored", |m| m.rmse_expression),
            ("MAE, as stored", |m| m.mae_expression),
            ("Pearson per cell, as stored", |m| m.pearson_expression),
        ];
        let baselines = [Some(&t.all_zeros), t.gene_mean.as_ref(), t.gene_majority.as_ref()];
        let mut rows = vec![cells(&["translation", "model", "all zeros", "gene mean", "gene majority"])];
        for (name, f) in lines {
            let mut row = cells(&[name, &number(f(&t.model))]);
            row.extend(baselines.iter().map(|b| b.map_or("-".into(), |b| number(f(b)))));
            rows.push(row);
        }
        rows.push(cells(&["FOSCTTM (chance 0.5)", &number(t.model.foscttm), "-", "-", "-"]));
        rows.push(cells(&["FOSCTTM, exact ties", &number(t.model.foscttm_ties), "-", "-", "-"]));
        out += &format!(
            "\n{}\nTruth is [expression > 0], or the expression as stored where said so. Pearson is undefined for {} of \
             {} cells.\nGene means are over {} training cells.\n",
            aligned(&rows),
            t.model.pearson_undefined,
            t.model.cells,
            t.training_cells
        );
        let Some(d) = &self.detection else { return out };
        let mut rows = vec![cells(&["detection", "AUROC by gene", "log loss"])];
        let contestants = [
            ("cis term", d.cis),
            ("cis term, told the depth", d.cis_and_depth),
            ("peaks that pass", d.counts),
            ("gene mean", Some(d.gene_mean)),
            ("gene × type mean", d.type_mean),
        ];
        for (name, metrics) in contestants.into_iter().filter_map(|(n, m)| Some((n, m?))) {
            let loss = metrics.log_loss.map_or("-".into(), |x| number(Some(x)));
            rows.push(cells(&[name, &number(metrics.auroc), &loss]));
        }
        out += &format!("\n{}\nOver {} cells: the mean AUROC of {} genes.\n", aligned(&rows), d.cells, d.genes);
        out
    }
}
