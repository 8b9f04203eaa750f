//! `pool` on the device: launches of `kernels/pool.cu`.

use crate::device::abi::{
    Nodes, PoolBackwardRowsArgs, PoolBackwardWeightsArgs, PoolChunk, PoolFinishArgs, PoolForwardArgs, Ptr, Side,
};
use crate::device::frame::Frame;
use crate::device::program::Tape;
use crate::error::Result;

/// One pooling: of whose nodes, with what weights.
struct Pool {
    peaks: bool,
    /// Weights and where their gradient goes; none: the mean.
    pub(crate) weights: Option<(Ptr<f32>, Ptr<f32>)>,
    pub(crate) bag: Ptr<f32>,
    d_bag: Ptr<f32>,
}

/// Nodes of one side and their work items.
struct Of {
    side: Side,
    nodes: Nodes,
    embedding: &'static str,
    rows: u32,
    entries: u32,
    chunks: u32,
    chunk: (Ptr<u32>, Ptr<PoolChunk>, Ptr<u32>),
}

/// Records the attention bags and the means of both sides.
pub(crate) fn record(tape: &mut Tape, f: &Frame<'_>) -> Result<()> {
    let (w, b, z) = (&f.w, &f.batch, &f.sizes);
    let pools = [
        Pool { peaks: true, weights: Some((w.col_sums, w.d_col_sums)), bag: w.bag_a, d_bag: w.d_bag_a },
        Pool { peaks: false, weights: Some((w.row_sums, w.d_row_sums)), bag: w.bag_r, d_bag: w.d_bag_r },
        Pool { peaks: true, weights: None, bag: w.mean_a, d_bag: w.d_mean_a },
        Pool { peaks: false, weights: None, bag: w.mean_r, d_bag: w.d_mean_r },
    ];
    for p in pools {
        let of = if p.peaks {
            Of {
                side: f.peak_side,
                nodes: b.peaks,
                embedding: "atac_idembedding.weight",
                rows: z.peak_rows,
                entries: z.peak_entries,
                chunks: z.peak_chunks,
                chunk: b.peak_chunks,
            }
        } else {
            Of {
                side: f.gene_side,
                nodes: b.genes,
                embedding: "rna_idembedding.weight",
                rows: z.gene_rows,
                entries: z.gene_entries,
                chunks: z.gene_chunks,
                chunk: b.gene_chunks,
            }
        };
        let (side, nodes) = (of.side, of.nodes);
        let heads = if p.weights.is_some() { f.heads() } else { 1 };
        let weight = p.weights.map_or(Ptr::NULL, |w| w.0);
        let emb = (f.param)(of.embedding)?;
        let (n_chunks, chunk, chunk_ptr) = of.chunk;
        let stride = side.dim + side.chromosomes + side.extra + 2;
        let forward = PoolForwardArgs { side, nodes, n_chunks, chunk, emb, weight, part: w.pool_part, heads, pad: 0 };
        let finish = PoolFinishArgs { n_samples: b.n_samples, chunk_ptr, part: w.pool_part, bag: p.bag, heads, stride };
        let rows =
            PoolBackwardRowsArgs { side, nodes, weight, d_bag: p.d_bag, d_emb: (f.grad)(of.embedding)?, heads, pad: 0 };
        let mut backward = vec![f.launch("pool_backward_rows", |s| [of.rows.div_ceil(s.tile_x), 1, 1], &rows)?];
        if let Some((weight, d_weight)) = p.weights {
            let args = PoolBackwardWeightsArgs { side, nodes, emb, weight, d_bag: p.d_bag, d_weight, heads, pad: 0 };
            let grid = |s: crate::device::abi::LaunchShape| [(of.entries * heads).div_ceil(s.tile_x), 1, 1];
            backward.push(f.launch("pool_backward_weights", grid, &args)?);
        }
        tape.op(
            "pool",
            vec![
                f.launch("pool_forward", |_| [of.chunks, heads, 1], &forward)?,
                f.launch("pool_finish", |_| [z.samples, heads, 1], &finish)?,
            ],
            backward,
        );
    }
    Ok(())
}
