//! `cis` on the device: launches of `kernels/cis.cu`, with maps of `kernels/head.cu` between them.

use crate::device::abi::{CIS_BINS, CisArgs, CisGraph, LaunchShape, Ptr};
use crate::device::frame::Frame;
use crate::device::gpu::Launch;
use crate::device::program::Tape;
use crate::error::{Error, Result};
use crate::model::{CisConfig, CisTarget};
use crate::ops::head::cuda::{Map, Matrix};

/// The term and its arguments.
fn arguments<'a>(f: &Frame<'a>, graph: CisGraph) -> Result<(&'a CisConfig, CisArgs)> {
    let (w, b) = (&f.w, &f.batch);
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
        q: w.q,
        uq: w.uq,
        k: w.k,
        uk: w.uk,
        decay: (f.param)("cis.decay")?,
        place: w.cis_place,
        open: w.cis_open,
        value_score: w.cis_value_score,
        score: w.cis_score,
        sums: w.cis_sums,
        near: w.cis_near,
        cell: w.cis_cell,
        x: w.cis_x,
        x_blind: only(f.terms.blind, w.cis_x_blind),
        y: w.cis_y,
        blind: only(f.terms.blind, w.cis_blind),
        d_y: w.cis_d_y,
        loss_part: w.cis_loss_part,
        size_part: w.cis_size_part,
        edge_part: w.cis_edge_part,
        edges: w.cis_edges,
        record: f.record,
        d_x: w.cis_d_x,
        d_cell: w.cis_d_cell,
        d_score: w.cis_d_score,
        d_value: w.cis_d_value,
        d_sums: w.cis_d_sums,
        d_q: w.d_q,
        d_k: w.d_k,
        u_part: w.u_part,
        v_part: w.cis_v_part,
        decay_part: w.cis_decay_part,
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
pub(crate) fn record_tables(tape: &mut Tape, f: &Frame<'_>) -> Result<()> {
    let Some(graph) = f.predicts().filter(|_| f.training) else { return Ok(()) };
    let (w, b, z) = (&f.w, &f.batch, &f.sizes);
    let (_, args) = arguments(f, graph)?;
    let whole = graph.n_whole > 0;
    let per = |name: &str| Ok::<_, Error>(f.kernels.get(name)?.shape().tile_x);
    let rows = |s: LaunchShape| [z.peak_rows.div_ceil(s.tile_x), 1, 1];
    let decay = |n: Ptr<u32>, per: u32| f.reduce_from(w.cis_decay_part, CIS_BINS, n, per, (f.grad)("cis.decay")?, true);
    let mut launches =
        vec![f.launch("cis_backward_edges", rows, &args)?, decay(b.peaks.n_rows, per("cis_backward_edges")?)?];
    if whole {
        launches.push(f.launch("cis_backward_sums", |_| [z.positives, graph.chromosomes, 1], &args)?);
    }
    launches.push(f.launch("cis_backward_rows", rows, &args)?);
    if whole {
        launches.push(f.reduce_from(
            w.cis_v_part,
            f.hidden(),
            b.peaks.n_rows,
            per("cis_backward_rows")?,
            w.d_uk,
            true,
        )?);
    }
    let genes = per("cis_backward_genes")?;
    launches.push(f.launch("cis_backward_genes", |s| [graph.genes.div_ceil(s.tile_x), 1, 1], &args)?);
    launches.push(f.reduce(b.n_genes, genes, w.d_uq, true)?);
    launches.push(f.reduce_from(w.cis_v_part, f.hidden(), b.n_genes, genes, w.d_uk, true)?);
    if whole {
        launches.push(decay(b.n_genes, genes)?);
    }
    tape.op("cis", Vec::new(), launches);
    Ok(())
}

/// Records the prediction of the positives' genes, its loss, and the backward pass of all but the scores, which is the
/// first to write `d_mean_a` (where there are numbers of the cell).
pub(crate) fn record(tape: &mut Tape, f: &Frame<'_>) -> Result<()> {
    let Some(graph) = f.predicts() else { return Ok(()) };
    let (w, b, z) = (&f.w, &f.batch, &f.sizes);
    let (term, args) = arguments(f, graph)?;
    let (genes, numbers) = (f.genes(), args.components);
    let width = numbers + 2;
    let peak_width = (f.config.embedding_dim + 1 + f.config.peak_features()) as u32;
    let whole = graph.n_whole > 0;
    let cell = Map {
        name: "cis.cell".into(),
        x: Matrix::new(w.mean_a, w.d_mean_a, peak_width + 1),
        y: Matrix::new(w.cis_cell, w.cis_d_cell, numbers),
        inp: peak_width,
        out: numbers,
        bag: true,
        ..Map::of(b.n_samples, z.samples)
    };
    let gene = |x, y| Map {
        name: "cis.gene".into(),
        x: Matrix::new(x, w.cis_d_x, width),
        y: Matrix::new(y, w.cis_d_y, genes),
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
    forward.push(gene(w.cis_x, w.cis_y).forward(f)?);
    if f.terms.blind {
        forward.push(gene(w.cis_x_blind, w.cis_blind).forward(f)?);
    }
    forward.push(f.launch("cis_loss", |_| [z.positives, 1, 1], &args)?);
    if term.sparsity != 0.0 {
        forward.push(f.launch("cis_size", over(z.peak_rows), &args)?);
    }
    forward.push(f.launch("cis_total", one, &args)?);
    let mut backward = Vec::new();
    if f.training {
        backward = gene(w.cis_x, w.cis_y).backward(f)?;
        if numbers > 0 {
            backward.push(f.launch("cis_covariates_backward", over(z.samples * numbers), &args)?);
            backward.extend(cell.backward(f)?);
        }
    }
    tape.op("cis", forward, backward);
    Ok(())
}
