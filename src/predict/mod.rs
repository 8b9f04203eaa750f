//! Predictions for all cells of a data set, written as AnnData: embeddings, translated RNA, node-level outputs.
//!
//! Node-level outputs (`nodes`) lie in `uns/sccrossrec/nodes`, for the chosen cells in the order of `cells`:
//!
//! | field | shape | what |
//! | --- | --- | --- |
//! | `cells` | `[n]` | row of the cell in `obs` |
//! | `rna/names`, `atac/names` | `[G]`, `[P]` | names that `indices` count |
//! | `rna/indptr`, `atac/indptr` | `[n + 1]` | where the nodes of a cell begin and end |
//! | `rna/indices`, `atac/indices` | `[nnz]` | the gene (peak) of a node |
//! | `rna/values` | `[nnz, H]` | r_i |
//! | `atac/values` | `[nnz, H]` | p_j |
//!
//! See docs/model.md, sections 8.2 and 8.3.

pub(crate) mod chosen;
pub mod partners;
pub mod towers;

use std::path::Path;

use crate::csr::Csr;
use crate::data::anndata::{AnnDataWriter, Column, DenseSink, Frame, UnsArray};
use crate::dataset::DataSet;
use crate::engine::Runner;
use crate::engine::budget::check_memory;
use crate::error::{Error, Result};
use crate::evaluate::{Points, UmapOptions, umap};
use crate::model::output::{Output, Want};
use crate::model::{Batch, CisTarget};
use crate::progress::Progress;
use crate::real::sigmoid;
use crate::train::Run;

pub use chosen::Chosen;
use chosen::{NOTHING, all_cells, origin};

/// What is written besides the predictions, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictOptions<'a> {
    /// Cells a forward pass; 0 counts as 1.
    pub batch_size: usize,
    /// Cells (numbers in the data set) whose node-level outputs are written, all of them among `chosen`; none: no node group.
    pub nodes: &'a [u32],
    /// The cells that are written; `None`: all.
    pub chosen: Option<&'a Chosen>,
    /// Write what the attention model says of cells beside the places by the towers.
    pub attention: bool,
}

impl Default for PredictOptions<'_> {
    /// 64 cells a forward pass, no node-level outputs.
    fn default() -> Self {
        PredictOptions { batch_size: 64, nodes: &[], chosen: None, attention: false }
    }
}

/// Cells (numbers in the data set) by barcode, in the order of `names`.
///
/// # Errors
/// A barcode that the data set lacks; the message names it.
pub fn cells_by_name(data: &DataSet, names: &[String]) -> Result<Vec<u32>> {
    let cells = &data.vocabulary().cells;
    let index: std::collections::HashMap<&str, u32> =
        cells.iter().enumerate().map(|(i, n)| (n.as_str(), i as u32)).collect();
    names
        .iter()
        .map(|n| {
            index.get(n.as_str()).copied().ok_or_else(|| {
                Error::input(data.dir(), format!("has no cell named {n:?}"), "give barcodes of its cells")
            })
        })
        .collect()
}

/// One side of the node group.
struct Side {
    name: &'static str,
    values: DenseSink,
    indptr: Vec<i64>,
    indices: Vec<i64>,
}

impl Side {
    fn new(writer: &mut AnnDataWriter, name: &'static str, names: Vec<String>, hidden: usize) -> Result<Self> {
        writer.uns_array(&format!("sccrossrec/nodes/{name}/names"), &UnsArray::Strings(&names))?;
        let values = writer.uns_matrix(&format!("sccrossrec/nodes/{name}/values"), hidden)?;
        Ok(Side { name, values, indptr: vec![0], indices: Vec::new() })
    }

    fn add(&mut self, index: &[u32], values: &[f32]) -> Result<()> {
        self.indices.extend(index.iter().map(|&i| i64::from(i)));
        self.indptr.push(self.indices.len() as i64);
        self.values.append(values)
    }

    fn finish(self, writer: &mut AnnDataWriter) -> Result<()> {
        let at = |field: &str| format!("sccrossrec/nodes/{}/{field}", self.name);
        writer.uns_array(&at("indptr"), &UnsArray::Ints(&self.indptr))?;
        writer.uns_array(&at("indices"), &UnsArray::Ints(&self.indices))
    }
}

/// Writes the node group for `options.nodes`.
fn write_nodes(
    writer: &mut AnnDataWriter,
    runner: &mut Runner<'_>,
    data: &DataSet,
    options: &PredictOptions<'_>,
    chosen: &Chosen,
    progress: &dyn Progress,
) -> Result<()> {
    let cells = options.nodes;
    let v = data.vocabulary();
    let hidden = runner.model().config.hidden;
    let row = |c: &u32| chosen.cells.binary_search(c).map(|i| i as i64);
    let rows = cells.iter().map(row).collect::<std::result::Result<Vec<i64>, usize>>();
    let rows = rows.map_err(|_| Error::usage("--cells: one of them is not in --part"))?;
    writer.uns_array("sccrossrec/nodes/cells", &UnsArray::Ints(&rows))?;
    let mut rna = Side::new(writer, "rna", v.genes.iter().map(|g| g.name.clone()).collect(), hidden)?;
    let mut atac = Side::new(writer, "atac", v.peaks.iter().map(|p| p.name.clone()).collect(), hidden)?;
    for chunk in cells.chunks(options.batch_size.max(1)) {
        progress.check(NOTHING)?;
        let (batch, out) = pass(runner, data, chunk, Want { nodes: true, ..Want::default() }, 0)?;
        for (i, nodes) in out.nodes.iter().enumerate() {
            rna.add(batch.rna.row(i).0, &nodes.gene)?;
            atac.add(batch.atac.row(i).0, &nodes.peak)?;
        }
    }
    rna.finish(writer)?;
    atac.finish(writer)
}

/// A forward pass over cells, each with itself. Label 0 spares the translation, which only positives have.
fn pass(
    runner: &mut Runner<'_>,
    data: &DataSet,
    cells: &[u32],
    want: Want,
    label: u8,
) -> Result<(Batch<f32>, Output<f32>)> {
    let mut batch = match data.kinds().0 {
        Some(_) => data.batch_of_cells(cells),
        None => stand_ins(data, cells),
    };
    data.check()?;
    batch.label.fill(label);
    let out = runner.forward(&batch, want)?;
    Ok((batch, out))
}

/// Cells of data without RNA, each with the first gene for all its RNA: translation never looks at it, and what does is
/// refused before ([`DataSet::need_both`]).
fn stand_ins(data: &DataSet, cells: &[u32]) -> Batch<f32> {
    let mut batch = Batch::new();
    for &c in cells {
        let cell = data.cell(c as usize);
        batch.push(1, u64::from(c), [(0, 1.0)], cell.atac());
    }
    batch
}

/// z of every cell, `[N, 2H]`: the RNA half, then the ATAC half of each (docs/model.md, section 8.3). Both halves have seen
/// both modalities, through the attention: how near they are to each other says nothing of matching. `progress` is told
/// the cells done, as stage `embed`.
///
/// # Errors
/// Data without RNA or without ATAC, or too large for the memory; a batch that does not fit the model;
/// [`Error::Interrupted`].
pub fn embeddings<'m>(
    model: impl Into<Runner<'m>>,
    data: &DataSet,
    options: &PredictOptions<'_>,
    progress: &dyn Progress,
) -> Result<Vec<f32>> {
    all_embeddings(&mut model.into(), data, options.batch_size, progress)
}

/// [`embeddings`] with a runner that goes on being used.
pub(crate) fn all_embeddings(
    runner: &mut Runner<'_>,
    data: &DataSet,
    batch_size: usize,
    progress: &dyn Progress,
) -> Result<Vec<f32>> {
    embeddings_of(runner, data, &all_cells(data)?, batch_size, progress)
}

/// z of some cells.
fn embeddings_of(
    runner: &mut Runner<'_>,
    data: &DataSet,
    cells: &[u32],
    batch_size: usize,
    progress: &dyn Progress,
) -> Result<Vec<f32>> {
    data.need_both("an embedding")?;
    let width = 2 * runner.model().config.hidden;
    // Both halves of all, and one of them once more while it is written.
    let kept = 4 * cells.len() as u64 * (width + width / 2) as u64;
    check_memory("an embedding", runner.model(), data, batch_size, kept)?;
    let mut z = Vec::with_capacity(cells.len() * width);
    for chunk in cells.chunks(batch_size.max(1)) {
        progress.check(NOTHING)?;
        z.extend(pass(runner, data, chunk, Want::default(), 0)?.1.embedding);
        progress.at("embed", (z.len() / width) as u64, cells.len() as u64);
    }
    Ok(z)
}

/// The joint embedding of every cell and its width: that of the run's towers, or z where it has none.
///
/// # Errors
/// As [`embeddings`] and [`Run::towers`].
pub fn joint_embedding<'m>(
    run: &Run,
    model: impl Into<Runner<'m>>,
    data: &DataSet,
    progress: &dyn Progress,
) -> Result<(Vec<f32>, usize)> {
    if let Some(t) = run.towers(data)? {
        let v = towers::vectors(&t, data, &all_cells(data)?, progress)?;
        return Ok((v.joint(), v.size));
    }
    let runner = &mut model.into();
    let width = 2 * runner.model().config.hidden;
    Ok((all_embeddings(runner, data, PredictOptions::default().batch_size, progress)?, width))
}

/// Writes the embeddings of cells to `out` (replaced), all f32; no `X`, no `var`. `progress` is told the cells done, as stage
/// `embed`.
///
/// With towers: obsm `X_sccrossrec` (both modalities), `X_sccrossrec_rna`, `X_sccrossrec_atac` `[n, size]`, one space, rows at
/// length 1, without depth, which has `X_sccrossrec_rna_depth` and `X_sccrossrec_atac_depth`; data of one modality have what it
/// tells. With `plane` the joint one as two numbers, `X_umap` `[n, 2]`. With [`PredictOptions::attention`] z besides, as `X_sccrossrec_attention` `[n, 2H]`. Without towers z is
/// `X_sccrossrec`, and its halves are `X_sccrossrec_rna`, `X_sccrossrec_atac` `[n, H]`. Memory: the numbers, and a batch.
///
/// Brings back how many numbers a cell has in `X_sccrossrec`.
///
/// # Errors
/// As [`embeddings`] and [`Run::towers`]; a file that cannot be written. Nothing is then left of it.
pub fn embed<'m>(
    run: &Run,
    model: impl Into<Runner<'m>>,
    data: &DataSet,
    out: &Path,
    (options, plane): (&PredictOptions<'_>, Option<&UmapOptions>),
    progress: &dyn Progress,
) -> Result<usize> {
    let runner = &mut model.into();
    let h = runner.model().config.hidden;
    let chosen = &*Chosen::or_all(options.chosen, run, data)?;
    let n = chosen.cells.len();
    let found = run.towers(data)?;
    let places = match &found {
        Some(t) => Some(towers::vectors(t, data, &chosen.cells, progress)?),
        None => None,
    };
    let z = match (&places, options.attention) {
        (Some(_), false) => Vec::new(),
        _ => embeddings_of(runner, data, &chosen.cells, options.batch_size, progress)?,
    };
    let flat: Option<Vec<[f32; 2]>> = match (plane, &places) {
        (Some(how), Some(v)) => Some(umap(Points { rows: &v.joint(), width: v.size }, how, progress)?),
        (Some(how), None) => Some(umap(Points { rows: &z, width: 2 * h }, how, progress)?),
        (None, _) => None,
    };
    let mut writer = AnnDataWriter::create(out, &chosen.obs(data), &Frame::default())?;
    origin(&mut writer, run, data)?;
    if let Some(flat) = flat {
        writer.dense_f32("obsm/X_umap", n, 2, &flat.concat())?;
    }
    match &places {
        Some(v) => {
            towers::write_vectors(&mut writer, v)?;
            if options.attention {
                writer.dense_f32("obsm/X_sccrossrec_attention", n, 2 * h, &z)?;
            }
        }
        None => {
            writer.dense_f32("obsm/X_sccrossrec", n, 2 * h, &z)?;
            for (name, from) in [("rna", 0), ("atac", h)] {
                let half: Vec<f32> = z.chunks_exact(2 * h).flat_map(|z| &z[from..from + h]).copied().collect();
                writer.dense_f32(&format!("obsm/X_sccrossrec_{name}"), n, h, &half)?;
            }
        }
    }
    if !options.nodes.is_empty() {
        write_nodes(&mut writer, runner, data, options, chosen, progress)?;
    }
    writer.finish()?;
    Ok(places.map_or(2 * h, |v| v.size))
}

/// Writes the RNA that the attention model predicts from the ATAC of cells to `out` (replaced), cells × genes; the data need
/// no RNA. Of a run with towers [`towers::write_expression`] is the better prediction. Memory: a batch. `progress` is told the cells done, as stage `translate`.
///
/// Of a model without cis term layer `count` holds n_i, with more heads their mean; `X` is 1 where that is above the model's
/// `min_peaks`, else absent. Of one whose cis term tells detection layer `probability` holds that of a gene to be detected at
/// a mean depth of RNA, and `X` is 1 where it is above a half; of one whose cis term tells levels `X` holds these.
/// What is below
/// 0.01 is left out. See docs/model.md, section 8.2.
///
/// # Errors
/// Data without ATAC; node-level outputs asked for of data without RNA; else as [`embed`].
pub fn translate<'m>(
    run: &Run,
    model: impl Into<Runner<'m>>,
    data: &DataSet,
    out: &Path,
    options: &PredictOptions<'_>,
    progress: &dyn Progress,
) -> Result<()> {
    if !options.nodes.is_empty() {
        data.need_both("a node-level output")?;
    }
    if data.kinds().1.is_none() {
        return Err(Error::input(data.dir(), "has no ATAC to translate from", "prepare it with --atac"));
    }
    let runner = &mut model.into();
    let model = runner.model();
    check_memory("a translation", model, data, options.batch_size, 0)?;
    let v = data.vocabulary();
    let chromosome = |c: u32| v.chromosomes.get(c as usize).cloned().unwrap_or_default();
    let var = Frame {
        index: v.genes.iter().map(|g| g.name.clone()).collect(),
        columns: vec![("chrom".into(), Column::Strings(v.genes.iter().map(|g| chromosome(g.chrom)).collect()))],
    };
    let genes = v.genes.len();
    let chosen = &*Chosen::or_all(options.chosen, run, data)?;
    let mut writer = AnnDataWriter::create(out, &chosen.obs(data), &var)?;
    origin(&mut writer, run, data)?;
    let mut x = writer.csr("X", genes)?;
    let target = model.config.cis.as_ref().map(|c| c.target);
    let mut layer = match target {
        None => Some(writer.csr("layers/count", genes)?),
        Some(CisTarget::Detection) => Some(writer.csr("layers/probability", genes)?),
        Some(CisTarget::Level) => None,
    };
    let limit = model.config.min_peaks as f64;
    let mut done = 0;
    for chunk in chosen.cells.chunks(options.batch_size.max(1)) {
        progress.check(NOTHING)?;
        let want = Want { counts: target.is_none(), cis: target.is_some(), ..Want::default() };
        let (_, output) = pass(runner, data, chunk, want, 1)?;
        let (mut predicted, mut counts) = (Csr::new(), Csr::new());
        for row in &output.cis_blind {
            let told = row.iter().map(|&y| if target == Some(CisTarget::Level) { y } else { sigmoid(y) });
            let told: Vec<(u32, f32)> = (0..).zip(told).filter(|x| x.1 >= 0.01).collect();
            if target == Some(CisTarget::Level) {
                predicted.push_row(told);
            } else {
                predicted.push_row(told.iter().filter(|x| x.1 > 0.5).map(|x| (x.0, 1.0)));
                counts.push_row(told);
            }
        }
        for heads in &output.counts {
            let n = (heads.len() / genes).max(1) as f64;
            let mean = |g: usize| heads.iter().skip(g).step_by(genes).map(|&c| f64::from(c)).sum::<f64>() / n;
            let means: Vec<f64> = (0..genes).map(mean).collect();
            let entries = || means.iter().enumerate();
            predicted.push_row(entries().filter(|(_, m)| **m > limit).map(|(g, _)| (g as u32, 1.0)));
            counts.push_row(entries().filter(|(_, m)| **m > 0.0).map(|(g, m)| (g as u32, *m as f32)));
        }
        x.append(&predicted)?;
        if let Some(layer) = &mut layer {
            layer.append(&counts)?;
        }
        done += chunk.len() as u64;
        progress.at("translate", done, chosen.cells.len() as u64);
    }
    x.finish()?;
    if let Some(layer) = layer {
        layer.finish()?;
    }
    if !options.nodes.is_empty() {
        write_nodes(&mut writer, runner, data, options, chosen, progress)?;
    }
    writer.finish()
}
