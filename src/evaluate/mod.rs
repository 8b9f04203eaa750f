//! Metrics, one file a task, each beside its trivial baselines; and [`evaluate`], which applies them to a model.
//!
//! See docs/model.md, section 8.7.

pub mod detection;
pub mod matching;
pub mod ranking;
pub mod translation;

use serde::{Deserialize, Serialize};

use crate::dataset::means::gene_means;
use crate::dataset::{Cell, DataSet, SampleSet};
use crate::engine::Runner;
use crate::error::{Error, Result};
use crate::model::CisTarget;
use crate::model::output::Want;
use crate::table::{aligned, number};
use detection::{Detection, Frequencies};

pub use detection::{DetectionMetrics, DetectionReport};
pub use matching::{Matching, MatchingMetrics, majority_baseline};
pub use ranking::{Ranking, RankingMetrics, ranking};
pub use translation::{BitRows, Translation, TranslationMetrics, foscttm, pearson_of};

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

/// Matching of a model and of the trivial baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatchingReport {
    /// The model.
    pub model: MatchingMetrics,
    /// Every sample predicted as the class that most training samples have (0 where they are even or there are none).
    pub majority: MatchingMetrics,
    /// That class.
    pub majority_class: u8,
}

/// Translation of a model and of the trivial baselines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TranslationReport {
    /// The model; the mean of `heads`.
    pub model: TranslationMetrics,
    /// Each head of the model.
    pub heads: Vec<TranslationMetrics>,
    /// No gene is expressed.
    pub all_zeros: TranslationMetrics,
    /// Each gene as its mean over the training cells: of `[expression > 0]`, and of the expression as stored for the
    /// metrics named `_expression`. `None` without training cells.
    pub gene_mean: Option<TranslationMetrics>,
    /// Each gene expressed in all cells or in none, as in most training cells. `None` without training cells.
    pub gene_majority: Option<TranslationMetrics>,
    /// Cells behind `gene_mean` and `gene_majority`: those of the positive training samples.
    pub training_cells: u64,
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
}

/// Evaluates a model on a part of a sample set, `batch_size` samples at a time. `progress` is told the samples done.
/// Memory: a batch, nine bytes a sample, and a bit a gene and positive sample for the truth and for each head.
///
/// # Errors
/// No samples in the part; a set that does not fit the data ([`SampleSet::check`]); logits that are not numbers.
pub fn evaluate<'m>(
    model: impl Into<Runner<'m>>,
    data: &DataSet,
    set: &SampleSet,
    part: Part,
    batch_size: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Evaluation> {
    data.need_both("evaluation")?;
    let numbers = part.numbers(set);
    if numbers.is_empty() {
        return Err(Error::usage(format!(
            "--part {}: the sample set has no such samples; choose another part or sample set",
            part.name()
        )));
    }
    set.check(data.vocabulary())?;
    let mut runner = model.into();
    crate::engine::room::check_memory("an evaluation", runner.model(), data, batch_size, 0)?;
    let config = &runner.model().config;
    let (genes, heads) = (config.genes, if config.translates_by_cis() { 1 } else { config.heads });
    // Counts of a translation that was not trained say nothing.
    let counts = config.cis.is_none() || config.alpha != 0.0;
    let means = gene_means(data, set, genes);
    data.check()?;
    let (rate, mean, training_cells) = (&means.rate, &means.mean, means.cells);
    let target = config.cis.as_ref().map(|c| c.target);
    let positives = numbers.iter().filter(|&&i| set.samples[i as usize].label == 1).count();
    let every = Detection::stride(genes, positives);
    let mut detection = Detection::new(genes);

    let mut matching = Matching::new();
    let mut of_head = vec![Translation::new(genes); heads];
    let [mut zeros, mut by_rate, mut by_mean, mut by_majority] = [(); 4].map(|()| Translation::new(genes));
    let mut truth_bits = BitRows::new(genes);
    let mut head_bits = vec![BitRows::new(genes); heads];
    let mut expression = vec![0f32; genes];
    let mut cell = Cell::default();
    let mut done = 0;
    for chunk in numbers.chunks(batch_size.max(1)) {
        crate::interrupt::check("nothing was written")?;
        let batch = data.batch(set, chunk);
        data.check()?;
        let want = Want { translation: true, counts, cis: target.is_some(), ..Want::default() };
        let out = runner.forward(&batch, want)?;
        for (b, &number) in chunk.iter().enumerate() {
            let logits = [f64::from(out.logits[2 * b]), f64::from(out.logits[2 * b + 1])];
            if logits.iter().any(|x| x.is_nan()) {
                return Err(Error::Internal(format!(
                    "the model's logits for sample {number} are not numbers; its parameters may be damaged"
                )));
            }
            let sample = set.samples[number as usize];
            matching.add_logits(sample.label, logits);
            if sample.label != 1 {
                continue;
            }
            let predicted = &out.translation[b];
            if predicted.len() != heads * genes {
                return Err(Error::Internal(format!("translation of sample {number}: {} numbers", predicted.len())));
            }
            data.rna_into(sample.rna as usize, &mut cell);
            data.check()?;
            for (i, &g) in cell.genes.iter().enumerate() {
                expression[g as usize] = cell.expr.get(i);
            }
            truth_bits.push((0..genes).filter(|&g| expression[g] > 0.0))?;
            for (h, p) in predicted.chunks(genes).enumerate() {
                of_head[h].add_dense(|g| f64::from(p[g]), &expression);
                head_bits[h].push((0..genes).filter(|&g| p[g] != 0))?;
            }
            if (truth_bits.rows() - 1).is_multiple_of(every) {
                let v = data.vocabulary();
                let cell_type = v.cell_type.get(sample.rna as usize).copied().unwrap_or(0);
                let cis = [&out.cis, &out.cis_blind].map(|of| of.get(b).map_or(&[][..], Vec::as_slice));
                let counts = out.counts.get(b).map_or(&[][..], Vec::as_slice);
                detection.add(expression.iter().map(|&x| x > 0.0), cis, counts, cell_type);
            }
            zeros.add_dense(|_| 0.0, &expression);
            by_rate.add_dense(|g| rate[g], &expression);
            by_mean.add_dense(|g| mean[g], &expression);
            by_majority.add_dense(|g| f64::from(u8::from(rate[g] > 0.5)), &expression);
            cell.genes.iter().for_each(|&g| expression[g as usize] = 0.0);
        }
        done += chunk.len() as u64;
        progress(done);
    }

    let labels = |n: &[u32]| n.iter().map(|&s| set.samples[s as usize].label).collect::<Vec<_>>();
    let positive = labels(&set.train).iter().filter(|&&l| l == 1).count();
    let majority_class = u8::from(2 * positive > set.train.len());
    let translation = (truth_bits.rows() > 0).then(|| {
        let heads: Vec<TranslationMetrics> = of_head
            .iter()
            .zip(&head_bits)
            .map(|(t, bits)| {
                let (closer, tied) = foscttm(bits, &truth_bits).unzip();
                TranslationMetrics { foscttm: closer, foscttm_ties: tied, ..t.finish() }
            })
            .collect();
        let (r, m) = (by_rate.finish(), by_mean.finish());
        let gene_mean = TranslationMetrics {
            rmse_expression: m.rmse_expression,
            mae_expression: m.mae_expression,
            pearson_expression: m.pearson_expression,
            pearson_expression_undefined: m.pearson_expression_undefined,
            ..r
        };
        TranslationReport {
            model: TranslationMetrics::mean(&heads),
            heads,
            all_zeros: zeros.finish(),
            gene_mean: (training_cells > 0).then_some(gene_mean),
            gene_majority: (training_cells > 0).then(|| by_majority.finish()),
            training_cells,
        }
    });
    let (all, of_types) = Frequencies::new(&means.found, &means.of_type);
    let of_types = (!data.vocabulary().cell_types.is_empty()).then_some(&of_types);
    let detection = detection.finish(target != Some(CisTarget::Level), &all, of_types).filter(|_| training_cells > 0);
    Ok(Evaluation {
        detection,
        part,
        matching: MatchingReport {
            model: matching.finish(),
            majority: majority_baseline(labels(&numbers), majority_class),
            majority_class,
        },
        translation,
    })
}

impl Evaluation {
    /// The tables that `evaluate` prints: metric, model, baselines. Undefined numbers are `NaN`; a dash is where a
    /// baseline has no such number.
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
        let mut out = format!(
            "{} samples of part `{}`, {} of them positive\n\n{}",
            m.model.samples,
            self.part.name(),
            m.model.positives,
            aligned(&rows)
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
