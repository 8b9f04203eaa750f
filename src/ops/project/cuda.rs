//! `project` on the device: launches of `kernels/project.cu`.

use crate::device::abi::{
    Nodes, PROJECT_CHUNK, ProjectBackwardEmbeddingArgs, ProjectBackwardReduceArgs, ProjectBackwardWeightArgs,
    ProjectForwardArgs, Ptr, Side,
};
use crate::device::frame::Frame;
use crate::device::op::{Bench, Cost, KernelFile, Op, Turn, Work};
use crate::device::program::{Pass, Recorder};
use crate::device::region::{Region, Writes};
use crate::error::Result;
use crate::model::PREFIX;

pub(crate) static OP: Op = Op {
    name: "project",
    sources: &[KernelFile {
        file: "project",
        precise: &["project_forward", "project_backward_embedding", "project_backward_weight"],
        plain: &["project_backward_chromosome", "project_backward_reduce"],
    }],
    regions: &[
        Region::f32("q", |n| n.gene_rows * n.hidden),
        Region::f32("k", |n| n.peak_rows * n.hidden),
        Region::f32("uq", |n| n.hidden),
        Region::f32("uk", |n| n.hidden),
        Region::f32("d_q", |n| n.gene_rows * n.hidden),
        Region::f32("d_k", |n| n.peak_rows * n.hidden),
        Region::f32("d_uq", |n| n.hidden),
        Region::f32("d_uk", |n| n.hidden),
        Region::f32("weight_part", |n| {
            let of = |rows: usize, extra| chunks(rows) * n.hidden * (n.config.embedding_dim + extra);
            of(n.gene_rows, n.config.gene_extra).max(of(n.peak_rows, n.config.dna_length))
        }),
        Region::f32("chromosome_part", |n| chunks(n.gene_rows.max(n.peak_rows)) * n.config.chromosomes * n.hidden),
    ],
    turns: &[Turn {
        place: 10,
        last: Pass::Backward,
        sums_by: &[],
        record,
        writes,
        check: |v, pass, out| match pass {
            Pass::Forward => v.project_forward(out),
            _ => v.project_backward(out),
        },
    }],
    bench: Bench { with_terms: false, tensor_cores: true, cost },
};

/// Partial gradients of so many rows.
fn chunks(rows: usize) -> usize {
    rows.div_ceil(PROJECT_CHUNK as usize)
}

fn writes(w: &mut Writes<'_>, pass: Pass) {
    if pass == Pass::Forward {
        w.rows(&["q", "k", "uq", "uk"]);
        return;
    }
    w.whole(&["weight_part", "chromosome_part"]);
    w.gradients(&[
        "rna_idembedding.weight",
        "atac_idembedding.weight",
        "cross_attention_layer.rna_query.weight",
        "cross_attention_layer.rna_query.bias",
        "cross_attention_layer.atac_key.weight",
        "cross_attention_layer.atac_key.bias",
    ]);
}

fn cost(w: &Work<'_>, pass: Pass) -> Cost {
    let ((genes, peaks), (xg, xp), (h, d)) = (w.rows(), w.extra(), (w.hidden(), w.dim()));
    if pass == Pass::Forward {
        let flops = 2.0 * h * (genes * (d + xg) + peaks * (d + xp));
        return Cost { flops, bytes: w.features() + w.weights() + w.tables() };
    }
    Cost {
        flops: 2.0 * h * (genes * (2.0 * d + xg) + peaks * (2.0 * d + xp)),
        bytes: w.features() + 8.0 * d * (genes + peaks) + 3.0 * w.weights() + w.tables(),
    }
}

/// One table: whose nodes, and which parameters.
struct Table {
    pub(crate) layer: &'static str,
    pub(crate) embedding: &'static str,
    pub(crate) side: Side,
    pub(crate) nodes: Nodes,
    rows: u32,
    table: Ptr<f32>,
    u: Ptr<f32>,
    d_table: Ptr<f32>,
    d_u: Ptr<f32>,
}

/// Records the tables of queries and keys.
pub(crate) fn record(recorder: &mut Recorder, f: &Frame<'_>) -> Result<()> {
    let tables = [
        Table {
            layer: "rna_query",
            embedding: "rna_idembedding.weight",
            side: f.gene_side,
            nodes: f.batch.genes,
            rows: f.sizes.gene_rows,
            table: f.f32("q")?,
            u: f.f32("uq")?,
            d_table: f.f32("d_q")?,
            d_u: f.f32("d_uq")?,
        },
        Table {
            layer: "atac_key",
            embedding: "atac_idembedding.weight",
            side: f.peak_side,
            nodes: f.batch.peaks,
            rows: f.sizes.peak_rows,
            table: f.f32("k")?,
            u: f.f32("uk")?,
            d_table: f.f32("d_k")?,
            d_u: f.f32("d_uk")?,
        },
    ];
    for t in tables {
        let (weight, bias) = (format!("{PREFIX}{}.weight", t.layer), format!("{PREFIX}{}.bias", t.layer));
        let (hidden, n_rows, row, side) = (f.hidden(), t.nodes.n_rows, t.nodes.row, t.side);
        let (emb, weights) = ((f.param)(t.embedding)?, (f.param)(&weight)?);
        let forward = ProjectForwardArgs {
            side,
            n_rows,
            row,
            emb,
            w: weights,
            b: (f.param)(&bias)?,
            table: t.table,
            u: t.u,
            hidden,
            pad: 0,
        };
        let embedding = ProjectBackwardEmbeddingArgs {
            side,
            n_rows,
            row,
            d_table: t.d_table,
            w: weights,
            d_emb: (f.grad)(t.embedding)?,
            hidden,
            pad: 0,
        };
        let (part, part_chrom) = (f.f32("weight_part")?, f.f32("chromosome_part")?);
        let parts =
            ProjectBackwardWeightArgs { side, n_rows, row, emb, d_table: t.d_table, part, part_chrom, hidden, pad: 0 };
        let reduce = ProjectBackwardReduceArgs {
            side,
            n_rows,
            part,
            part_chrom,
            d_u: t.d_u,
            d_w: (f.grad)(&weight)?,
            d_b: (f.grad)(&bias)?,
            hidden,
            pad: 0,
        };
        let chunks = t.rows.div_ceil(PROJECT_CHUNK);
        let inner = side.dim + side.extra;
        let width = inner + 1 + side.chromosomes;
        let tiles =
            |n: u32| move |s: crate::device::abi::LaunchShape| [t.rows.div_ceil(s.tile_x), n.div_ceil(s.tile_y), 1];
        recorder.add(
            vec![f.launch_precise("project_forward", tiles(hidden), &forward)?],
            vec![
                f.launch_precise("project_backward_embedding", tiles(side.dim), &embedding)?,
                f.launch_precise(
                    "project_backward_weight",
                    |s| [chunks, hidden.div_ceil(s.tile_x) * inner.div_ceil(s.tile_y), 1],
                    &parts,
                )?,
                f.launch("project_backward_chromosome", |_| [chunks, 1, 1], &parts)?,
                f.launch("project_backward_reduce", |s| [(hidden * width).div_ceil(s.tile_x), 1, 1], &reduce)?,
            ],
        );
    }
    Ok(())
}
