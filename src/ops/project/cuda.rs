//! `project` on the device: launches of `kernels/project.cu`.

use crate::device::abi::{
    Nodes, PROJECT_CHUNK, ProjectBackwardEmbeddingArgs, ProjectBackwardReduceArgs, ProjectBackwardWeightArgs,
    ProjectForwardArgs, Ptr, Side,
};
use crate::device::frame::Frame;
use crate::device::program::Tape;
use crate::error::Result;
use crate::model::PREFIX;

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
pub(crate) fn record(tape: &mut Tape, f: &Frame<'_>) -> Result<()> {
    let w = &f.w;
    let tables = [
        Table {
            layer: "rna_query",
            embedding: "rna_idembedding.weight",
            side: f.gene_side,
            nodes: f.batch.genes,
            rows: f.sizes.gene_rows,
            table: w.q,
            u: w.uq,
            d_table: w.d_q,
            d_u: w.d_uq,
        },
        Table {
            layer: "atac_key",
            embedding: "atac_idembedding.weight",
            side: f.peak_side,
            nodes: f.batch.peaks,
            rows: f.sizes.peak_rows,
            table: w.k,
            u: w.uk,
            d_table: w.d_k,
            d_u: w.d_uk,
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
        let (part, part_chrom) = (w.weight_part, w.chromosome_part);
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
        tape.op(
            "project",
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
