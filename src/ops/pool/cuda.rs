//! `pool` on the device: launches of `kernels/pool.cu`.

use crate::device::abi::{
    Nodes, PoolBackwardRowsArgs, PoolBackwardWeightsArgs, PoolChunk, PoolFinishArgs, PoolForwardArgs, Ptr, Side,
};
use crate::device::frame::Frame;
use crate::device::op::{Bench, Cost, KernelFile, Op, Turn, Work};
use crate::device::program::{Pass, Recorder};
use crate::device::region::{Region, Writes};
use crate::error::Result;

pub(crate) static OP: Op = Op {
    name: "pool",
    sources: &[KernelFile {
        file: "pool",
        precise: &[],
        plain: &["pool_forward", "pool_finish", "pool_backward_rows", "pool_backward_weights"],
    }],
    regions: &[
        Region::f32("pool_part", |n| {
            let chunks = (n.sizes.gene_chunks as usize, n.sizes.peak_chunks as usize);
            n.heads * (chunks.0 * n.gene_bag).max(chunks.1 * n.peak_bag)
        }),
        Region::f32("bag_a", |n| n.samples * n.heads * n.peak_bag),
        Region::f32("bag_r", |n| n.samples * n.heads * n.gene_bag),
        Region::f32("mean_a", |n| n.samples * n.peak_bag),
        Region::f32("mean_r", |n| n.samples * n.gene_bag),
        Region::f32("d_bag_a", |n| n.samples * n.heads * n.peak_bag),
        Region::f32("d_bag_r", |n| n.samples * n.heads * n.gene_bag),
        Region::f32("d_mean_a", |n| n.samples * n.peak_bag),
        Region::f32("d_mean_r", |n| n.samples * n.gene_bag),
    ],
    turns: &[Turn {
        place: 50,
        last: Pass::Backward,
        sums_by: &[],
        record,
        writes,
        check: |v, pass, out| match pass {
            Pass::Forward => v.pool_forward(out),
            _ => v.pool_backward(out),
        },
    }],
    bench: Bench { with_terms: false, tensor_cores: false, cost },
};

fn writes(w: &mut Writes<'_>, pass: Pass) {
    if pass == Pass::Forward {
        w.whole(&["pool_part"]);
        w.rows(&["bag_a", "bag_r", "mean_a", "mean_r"]);
        return;
    }
    w.rows(&["d_row_sums", "d_col_sums"]);
    w.gradients(&["rna_idembedding.weight", "atac_idembedding.weight"]);
}

fn cost(w: &Work<'_>, pass: Pass) -> Cost {
    let ((ge, pe), (gr, pr), (gw, pw)) = (w.entries(), w.rows(), w.widths());
    let (d, heads, forward) = (w.dim(), w.heads(), pass == Pass::Forward);
    let rows = (ge * d + pe * (d + w.extra().1 / 4.0)) * 2.0 * (heads + 1.0);
    let bags = 4.0 * f64::from(w.sizes.samples) * (heads + 1.0) * (gw + pw);
    let more = if forward { 0.0 } else { 8.0 * d * (gr + pr) };
    Cost { flops: rows * if forward { 1.0 } else { 2.0 }, bytes: 2.0 * (w.features() + 8.0 * (ge + pe)) + bags + more }
}

/// One pooling: of whose nodes, with what weights.
struct Pool {
    peaks: bool,
    /// Weights and where their gradient goes; none: the mean.
    weights: Option<(Ptr<f32>, Ptr<f32>)>,
    bag: Ptr<f32>,
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
pub(crate) fn record(recorder: &mut Recorder, f: &Frame<'_>) -> Result<()> {
    let (b, z) = (&f.batch, &f.sizes);
    let pools = [
        Pool {
            peaks: true,
            weights: Some((f.f32("col_sums")?, f.f32("d_col_sums")?)),
            bag: f.f32("bag_a")?,
            d_bag: f.f32("d_bag_a")?,
        },
        Pool {
            peaks: false,
            weights: Some((f.f32("row_sums")?, f.f32("d_row_sums")?)),
            bag: f.f32("bag_r")?,
            d_bag: f.f32("d_bag_r")?,
        },
        Pool { peaks: true, weights: None, bag: f.f32("mean_a")?, d_bag: f.f32("d_mean_a")? },
        Pool { peaks: false, weights: None, bag: f.f32("mean_r")?, d_bag: f.f32("d_mean_r")? },
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
        let forward =
            PoolForwardArgs { side, nodes, n_chunks, chunk, emb, weight, part: f.f32("pool_part")?, heads, pad: 0 };
        let finish =
            PoolFinishArgs { n_samples: b.n_samples, chunk_ptr, part: f.f32("pool_part")?, bag: p.bag, heads, stride };
        let rows =
            PoolBackwardRowsArgs { side, nodes, weight, d_bag: p.d_bag, d_emb: (f.grad)(of.embedding)?, heads, pad: 0 };
        let mut backward = vec![f.launch("pool_backward_rows", |s| [of.rows.div_ceil(s.tile_x), 1, 1], &rows)?];
        if let Some((weight, d_weight)) = p.weights {
            let args = PoolBackwardWeightsArgs { side, nodes, emb, weight, d_bag: p.d_bag, d_weight, heads, pad: 0 };
            let grid = |s: crate::device::abi::LaunchShape| [(of.entries * heads).div_ceil(s.tile_x), 1, 1];
            backward.push(f.launch("pool_backward_weights", grid, &args)?);
        }
        recorder.add(
            vec![
                f.launch("pool_forward", |_| [of.chunks, heads, 1], &forward)?,
                f.launch("pool_finish", |_| [z.samples, heads, 1], &finish)?,
            ],
            backward,
        );
    }
    Ok(())
}
