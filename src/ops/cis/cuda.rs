//! `cis` on the device: launches of `kernels/cis.cu`, with maps of `kernels/head.cu` between them.

use crate::device::abi::{CIS_BINS, CisArgs, CisGraph, LaunchShape, Ptr};
use crate::device::frame::Frame;
use crate::device::gpu::Launch;
use crate::device::op::{Bench, Cost, KernelFile, Op, Turn, Work};
use crate::device::program::{Pass, Recorder};
use crate::device::region::{Extent, Region, Writes};
use crate::error::{Error, Result};
use crate::model::{CisConfig, CisTarget};
use crate::ops::head::cuda::{Map, Matrix, reduce, reduce_from};

pub(crate) static OP: Op = Op {
    name: "cis",
    sources: &[KernelFile {
        file: "cis",
        precise: &[],
        plain: &[
            "cis_place",
            "cis_open",
            "cis_values",
            "cis_scores",
            "cis_near",
            "cis_sums",
            "cis_whole",
            "cis_covariates",
            "cis_loss",
            "cis_size",
            "cis_total",
            "cis_covariates_backward",
            "cis_backward_edges",
            "cis_backward_sums",
            "cis_backward_rows",
            "cis_backward_genes",
        ],
    }],
    regions: &[
        Region::f32("u_part", |n| gene_blocks(n) * n.hidden),
        Region::u32("cis_place", |n| with(n) * n.config.peaks),
        Region::u32("cis_open", |n| with(n) * n.columns * n.positives.div_ceil(32)),
        Region::f32("cis_value_score", |n| with(n) * n.genes),
        Region::f32("cis_score", edges),
        Region::f32("cis_d_score", edges),
        Region::f32("cis_d_value", edges),
        Region::f32("cis_sums", sums),
        Region::f32("cis_d_sums", sums),
        Region::f32("cis_near", |n| with(n) * n.positives * n.genes),
        Region::f32("cis_y", |n| with(n) * n.positives * n.genes),
        Region::f32("cis_blind", |n| with(n) * n.positives * n.genes),
        Region::f32("cis_d_y", |n| with(n) * n.positives * n.genes),
        Region::f32("cis_cell", |n| n.samples * components(n)),
        Region::f32("cis_d_cell", |n| n.samples * components(n)),
        Region::f32("cis_x", |n| with(n) * n.positives * (components(n) + 2)),
        Region::f32("cis_x_blind", |n| with(n) * n.positives * (components(n) + 2)),
        Region::f32("cis_d_x", |n| with(n) * n.positives * (components(n) + 2)),
        Region::f32("cis_loss_part", |n| with(n) * n.positives),
        Region::f32("cis_size_part", size_blocks),
        Region::u32("cis_edge_part", size_blocks),
        Region::u32("cis_edges", with),
        Region::f32("cis_v_part", |n| blocks(n) * n.hidden),
        Region::f32("cis_decay_part", |n| blocks(n) * CIS_BINS as usize),
    ],
    turns: &[
        Turn {
            place: 80,
            last: Pass::Backward,
            sums_by: &[],
            record,
            writes,
            check: |v, pass, out| match pass {
                Pass::Forward => v.cis_forward(out),
                _ => v.cis_backward(out),
            },
        },
        // Behind `project` alone, so that of the backward passes it is the last but that.
        Turn {
            place: 20,
            last: Pass::Backward,
            sums_by: &["head"],
            record: record_tables,
            writes: |w, _| {
                w.rows(&["d_q", "d_k", "d_uq", "d_uk", "cis_d_sums"]);
                w.whole(&["u_part", "cis_d_score", "cis_d_value", "cis_v_part", "cis_decay_part"]);
                w.gradients(&["cis.decay"]);
            },
            check: |v, _, out| v.cis_backward_tables(out),
        },
    ],
    bench: Bench { with_terms: true, tensor_cores: false, cost },
};

/// 1 in a model with the term, else 0.
fn with(n: &Extent<'_>) -> usize {
    usize::from(n.graph.is_some())
}

fn edges(n: &Extent<'_>) -> usize {
    n.graph.map_or(0, |g| g.len())
}

/// Numbers of a cell.
fn components(n: &Extent<'_>) -> usize {
    n.config.cis.as_ref().map_or(0, |c| c.components)
}

/// Sums for genes that take their whole chromosome, where there are any.
fn sums(n: &Extent<'_>) -> usize {
    let any = n.graph.is_some_and(|g| g.whole.contains(&true));
    if any { n.positives * n.config.chromosomes * n.hidden } else { 0 }
}

/// Blocks that write partial gradients, over genes and over all.
fn gene_blocks(n: &Extent<'_>) -> usize {
    with(n) * n.blocks("cis_backward_genes", n.genes)
}

fn blocks(n: &Extent<'_>) -> usize {
    let rows = n.blocks("cis_backward_rows", n.peak_rows).max(n.blocks("cis_backward_edges", n.peak_rows));
    gene_blocks(n).max(with(n) * rows)
}

/// Blocks that write partial sums of the size.
fn size_blocks(n: &Extent<'_>) -> usize {
    with(n) * n.blocks("cis_size", n.peak_rows)
}

fn writes(w: &mut Writes<'_>, pass: Pass) {
    if pass == Pass::Forward {
        w.rows(&["cis_place", "cis_open", "cis_value_score", "cis_sums", "cis_near", "cis_cell", "cis_x", "cis_y"]);
        w.rows(&["cis_d_y", "cis_loss_part"]);
        w.whole(&["cis_score", "cis_size_part", "cis_edge_part", "cis_edges", "record"]);
        return;
    }
    w.rows(&["cis_d_x"]);
    w.gradients(&["cis.gene.weight", "cis.gene.bias"]);
    if components(w.n) > 0 {
        w.rows(&["cis_d_cell", "d_mean_a"]);
        w.gradients(&["cis.cell.weight", "cis.cell.bias"]);
    }
}

fn cost(w: &Work<'_>, pass: Pass) -> Cost {
    let edges = w.model.cis.as_ref().map_or(0, |g| g.len()) as f64;
    let numbers = w.config().cis.as_ref().map_or(0, |c| c.components) as f64 + 2.0;
    let (genes, z) = (w.config().genes as f64, w.sizes);
    let y = f64::from(z.positives) * genes;
    // Scores, sums over cells (an addition an edge and cell that has it), the map of every gene. Each table and row once.
    let each = if pass == Pass::Forward { 1.0 } else { 2.0 };
    let flops = each * (2.0 * edges * w.hidden() + 2.0 * y * numbers)
        + 2.0 * edges * f64::from(z.column_entries) / f64::from(z.columns).max(1.0);
    Cost { flops, bytes: each * (w.tables() + 16.0 * edges + 8.0 * y + 4.0 * genes * (numbers + 1.0)) }
}

/// The term and its arguments.
fn arguments<'a>(f: &Frame<'a>, graph: CisGraph) -> Result<(&'a CisConfig, CisArgs)> {
    let b = &f.batch;
    let term = f.config.cis.as_ref().ok_or_else(|| Error::Internal("a cis graph and no cis term".into()))?;
    let only = |there: bool, p: Ptr<f32>| if there { p } else { Ptr::NULL };
    let [genes, peaks] = term.depth.map(|d| d.map(|x| x as f32));
    let args = CisArgs {
        graph,
        columns: b.columns,
        genes: b.genes,
        peaks: b.peaks,
        gene_chrom: f.gene_side.chrom,
        peak_chrom: f.peak_side.chrom,
        q: f.f32("q")?,
        uq: f.f32("uq")?,
        k: f.f32("k")?,
        uk: f.f32("uk")?,
        decay: (f.param)("cis.decay")?,
        place: f.u32("cis_place")?,
        open: f.u32("cis_open")?,
        value_score: f.f32("cis_value_score")?,
        score: f.f32("cis_score")?,
        sums: f.f32("cis_sums")?,
        near: f.f32("cis_near")?,
        cell: f.f32("cis_cell")?,
        x: f.f32("cis_x")?,
        x_blind: only(f.terms.blind, f.f32("cis_x_blind")?),
        y: f.f32("cis_y")?,
        blind: only(f.terms.blind, f.f32("cis_blind")?),
        d_y: f.f32("cis_d_y")?,
        loss_part: f.f32("cis_loss_part")?,
        size_part: f.f32("cis_size_part")?,
        edge_part: f.u32("cis_edge_part")?,
        edges: f.u32("cis_edges")?,
        record: f.record,
        d_x: f.f32("cis_d_x")?,
        d_cell: f.f32("cis_d_cell")?,
        d_score: f.f32("cis_d_score")?,
        d_value: f.f32("cis_d_value")?,
        d_sums: f.f32("cis_d_sums")?,
        d_q: f.f32("d_q")?,
        d_k: f.f32("d_k")?,
        u_part: f.f32("u_part")?,
        v_part: f.f32("cis_v_part")?,
        decay_part: f.f32("cis_decay_part")?,
        hidden: f.hidden(),
        components: term.components as u32,
        level: u32::from(term.target == CisTarget::Level),
        pad: 0,
        weight: term.weight as f32,
        sparsity: term.sparsity as f32,
        gene_mean: genes[0],
        gene_sd: genes[1],
        peak_mean: peaks[0],
        peak_sd: peaks[1],
    };
    Ok((term, args))
}

/// Records the backward pass of the scores, which adds to what `attend` has written of `d_q` and `d_k`. Recorded behind
/// `project` alone, so that it comes last but that.
pub(crate) fn record_tables(recorder: &mut Recorder, f: &Frame<'_>) -> Result<()> {
    let Some(graph) = f.predicts().filter(|_| f.training) else { return Ok(()) };
    let (b, z) = (&f.batch, &f.sizes);
    let (_, args) = arguments(f, graph)?;
    let whole = graph.n_whole > 0;
    let rows = |s: LaunchShape| [z.peak_rows.div_ceil(s.tile_x), 1, 1];
    let decay_part = f.f32("cis_decay_part")?;
    let v_part = (f.f32("cis_v_part")?, f.hidden());
    let decay = |n: Ptr<u32>, per: u32| reduce_from(f, (decay_part, CIS_BINS), n, per, (f.grad)("cis.decay")?, true);
    let mut launches =
        vec![f.launch("cis_backward_edges", rows, &args)?, decay(b.peaks.n_rows, f.tile("cis_backward_edges")?)?];
    if whole {
        launches.push(f.launch("cis_backward_sums", |_| [z.positives, graph.chromosomes, 1], &args)?);
    }
    launches.push(f.launch("cis_backward_rows", rows, &args)?);
    if whole {
        launches.push(reduce_from(f, v_part, b.peaks.n_rows, f.tile("cis_backward_rows")?, f.f32("d_uk")?, true)?);
    }
    let genes = f.tile("cis_backward_genes")?;
    launches.push(f.launch("cis_backward_genes", |s| [graph.genes.div_ceil(s.tile_x), 1, 1], &args)?);
    launches.push(reduce(f, b.n_genes, genes, f.f32("d_uq")?, true)?);
    launches.push(reduce_from(f, v_part, b.n_genes, genes, f.f32("d_uk")?, true)?);
    if whole {
        launches.push(decay(b.n_genes, genes)?);
    }
    recorder.add(Vec::new(), launches);
    Ok(())
}

/// Records the prediction of the positives' genes, its loss, and the backward pass of all but the scores, which is the
/// first to write `d_mean_a` (where there are numbers of the cell).
pub(crate) fn record(recorder: &mut Recorder, f: &Frame<'_>) -> Result<()> {
    let Some(graph) = f.predicts() else { return Ok(()) };
    let (b, z) = (&f.batch, &f.sizes);
    let (term, args) = arguments(f, graph)?;
    let (genes, numbers) = (f.genes(), args.components);
    let width = numbers + 2;
    let peak_width = (f.config.embedding_dim + 1 + f.config.peak_features()) as u32;
    let whole = graph.n_whole > 0;
    let cell = Map {
        name: "cis.cell".into(),
        x: Matrix::new(f.f32("mean_a")?, f.f32("d_mean_a")?, peak_width + 1),
        y: Matrix::new(f.f32("cis_cell")?, f.f32("cis_d_cell")?, numbers),
        inp: peak_width,
        out: numbers,
        bag: true,
        ..Map::of(b.n_samples, z.samples)
    };
    let (d_x, d_y) = (f.f32("cis_d_x")?, f.f32("cis_d_y")?);
    let gene = |x, y| Map {
        name: "cis.gene".into(),
        x: Matrix::new(x, d_x, width),
        y: Matrix::new(y, d_y, genes),
        inp: width,
        out: genes,
        ..Map::of(b.columns.n_positives, z.positives)
    };
    let over = |n: u32| move |s: LaunchShape| [n.div_ceil(s.tile_x), 1, 1];
    let one = |_: LaunchShape| [1, 1, 1];
    let mut forward: Vec<Launch> = vec![
        f.launch("cis_place", over(graph.peaks), &args)?,
        f.launch("cis_open", over(z.columns), &args)?,
        f.launch("cis_values", over(genes), &args)?,
        f.launch("cis_scores", over(z.peak_rows), &args)?,
        f.launch("cis_near", |s| [genes.div_ceil(s.tile_x), z.positives.div_ceil(s.tile_y), 1], &args)?,
    ];
    if whole {
        forward.push(f.launch("cis_sums", |_| [z.positives, graph.chromosomes, 1], &args)?);
        forward.push(f.launch("cis_whole", |_| [graph.n_whole, 1, 1], &args)?);
    }
    if numbers > 0 {
        forward.push(cell.forward(f)?);
    }
    forward.push(f.launch("cis_covariates", over(z.positives * width), &args)?);
    forward.push(gene(f.f32("cis_x")?, f.f32("cis_y")?).forward(f)?);
    if f.terms.blind {
        forward.push(gene(f.f32("cis_x_blind")?, f.f32("cis_blind")?).forward(f)?);
    }
    forward.push(f.launch("cis_loss", |_| [z.positives, 1, 1], &args)?);
    if term.sparsity != 0.0 {
        forward.push(f.launch("cis_size", over(z.peak_rows), &args)?);
    }
    forward.push(f.launch("cis_total", one, &args)?);
    let mut backward = Vec::new();
    if f.training {
        backward = gene(f.f32("cis_x")?, f.f32("cis_y")?).backward(f)?;
        if numbers > 0 {
            backward.push(f.launch("cis_covariates_backward", over(z.samples * numbers), &args)?);
            backward.extend(cell.backward(f)?);
        }
    }
    recorder.add(forward, backward);
    Ok(())
}
