//! `attend` on the device: launches of `kernels/attend.cu`.

use crate::device::abi::{
    AttendBackwardColumnsArgs, AttendBackwardLogitsArgs, AttendBackwardRowsArgs, AttendColumnsArgs, AttendForwardArgs,
};
use crate::device::frame::Frame;
use crate::device::op::{Bench, Cost, KernelFile, Op, Turn, Work};
use crate::device::program::{Pass, Recorder};
use crate::device::region::Region;
use crate::error::Result;
use crate::model::nodes::NodeSet;
use crate::ops::head::cuda::reduce;

pub(crate) static OP: Op = Op {
    name: "attend",
    sources: &[KernelFile {
        file: "attend",
        precise: &["attend_forward"],
        plain: &["attend_columns", "attend_backward_logits", "attend_backward_rows", "attend_backward_columns"],
    }],
    regions: &[
        Region::f32("u_part", |n| {
            let rows = n.blocks("attend_backward_rows", n.gene_rows);
            rows.max(n.blocks("attend_backward_columns", n.peak_rows)).max(1) * n.hidden
        }),
        Region::f32("row_sums", |n| n.gene_entries * n.heads),
        Region::f32("col_sums", |n| n.peak_entries * n.heads),
        Region::f32("d_row_sums", |n| n.gene_entries * n.heads),
        Region::f32("d_col_sums", |n| n.peak_entries * n.heads),
        Region::u32("member", |n| n.gene_entries * n.heads * n.top_k),
        Region::f32("weight", |n| n.gene_entries * n.heads * n.top_k),
        Region::f32("score", |n| n.gene_entries * n.heads * n.top_k),
        Region::f32("d_logit", |n| n.gene_entries * n.heads * n.top_k),
        Region::u32("pair", |n| n.gene_entries * n.heads * n.top_k),
        Region::u32("pair_ptr", |n| 2 * n.peak_entries * n.heads),
    ],
    turns: &[Turn {
        place: 40,
        last: Pass::Backward,
        sums_by: &["head"],
        record,
        writes: |w, pass| match pass {
            Pass::Forward => w.rows(&["row_sums", "member", "weight", "score", "col_sums", "pair_ptr", "pair"]),
            _ => {
                w.rows(&["d_q", "d_k", "d_uq", "d_uk", "d_logit"]);
                w.whole(&["u_part"]);
            }
        },
        check: |v, pass, out| match pass {
            Pass::Forward => v.attend_forward(out),
            _ => v.attend_backward(out),
        },
    }],
    bench: Bench { with_terms: false, tensor_cores: true, cost },
};

fn cost(w: &Work<'_>, pass: Pass) -> Cost {
    let ((genes, peaks), heads, members) = (w.entries(), w.heads(), w.members());
    if pass == Pass::Forward {
        let flops = 2.0 * pairs(w) * w.hidden();
        let bytes = w.tables() + 8.0 * (genes + peaks) + 16.0 * members + 12.0 * heads * (genes + peaks);
        return Cost { flops, bytes };
    }
    Cost {
        flops: 4.0 * members * w.hidden() / heads,
        bytes: 2.0 * w.tables() + 20.0 * members + 8.0 * heads * (genes + peaks),
    }
}

/// Pairs of a gene and a peak of one sample and chromosome.
fn pairs(w: &Work<'_>) -> f64 {
    let chrom = &w.model.features;
    let genes = NodeSet::new(&w.batch.rna, &chrom.gene_chrom, false);
    let peaks = NodeSet::new(&w.batch.atac, &chrom.peak_chrom, false);
    let mut pairs = 0.0;
    for b in 0..genes.samples() {
        for &(chromosome, g0, g1) in &genes.segments[b] {
            let own = peaks.segments[b].iter().find(|s| s.0 == chromosome && chrom.unknown != Some(chromosome));
            pairs += (g1 - g0) as f64 * own.map_or(0.0, |s| (s.2 - s.1) as f64);
        }
    }
    pairs
}

/// Records the attention. Its backward pass is the first to write `d_q`, `d_k`, `d_uq` and `d_uk`.
pub(crate) fn record(recorder: &mut Recorder, f: &Frame<'_>) -> Result<()> {
    let (b, z) = (&f.batch, &f.sizes);
    let (hidden, heads, top_k, tau) = (f.hidden(), f.heads(), f.top_k(), f.config.tau as f32);
    let forward = AttendForwardArgs {
        n_tiles: b.n_tiles,
        tile: b.tile,
        pad: b.pad,
        genes: b.genes,
        peaks: b.peaks,
        q: f.f32("q")?,
        uq: f.f32("uq")?,
        k: f.f32("k")?,
        uk: f.f32("uk")?,
        row_sums: f.f32("row_sums")?,
        member: f.u32("member")?,
        weight: f.f32("weight")?,
        score: f.f32("score")?,
        hidden,
        heads,
        top_k,
        tau,
    };
    let columns = AttendColumnsArgs {
        n_blocks: b.n_blocks,
        block: b.block,
        member: f.u32("member")?,
        weight: f.f32("weight")?,
        score: f.f32("score")?,
        col_sums: f.f32("col_sums")?,
        pair_ptr: f.u32("pair_ptr")?,
        pair: f.u32("pair")?,
        heads,
        top_k,
        tau,
        pad: 0,
    };
    let logits = AttendBackwardLogitsArgs {
        n_entries: b.genes.n_entries,
        member: f.u32("member")?,
        weight: f.f32("weight")?,
        score: f.f32("score")?,
        d_row_sums: f.f32("d_row_sums")?,
        d_col_sums: f.f32("d_col_sums")?,
        d_logit: f.f32("d_logit")?,
        heads,
        top_k,
        tau,
        pad: 0,
    };
    let rows = AttendBackwardRowsArgs {
        genes: b.genes,
        peaks: b.peaks,
        member: f.u32("member")?,
        d_logit: f.f32("d_logit")?,
        k: f.f32("k")?,
        uk: f.f32("uk")?,
        d_q: f.f32("d_q")?,
        d_u_part: f.f32("u_part")?,
        hidden,
        heads,
        top_k,
        pad: 0,
    };
    let peaks = AttendBackwardColumnsArgs {
        genes: b.genes,
        peaks: b.peaks,
        pair_ptr: f.u32("pair_ptr")?,
        pair: f.u32("pair")?,
        d_logit: f.f32("d_logit")?,
        q: f.f32("q")?,
        uq: f.f32("uq")?,
        d_k: f.f32("d_k")?,
        d_u_part: f.f32("u_part")?,
        hidden,
        heads,
        top_k,
        pad: 0,
    };
    recorder.add(
        vec![
            f.launch_precise("attend_forward", |_| [z.tiles, 1, 1], &forward)?,
            f.launch("attend_columns", |_| [z.blocks, heads, 1], &columns)?,
        ],
        vec![
            f.launch("attend_backward_logits", |s| [(z.gene_entries * heads).div_ceil(s.tile_x), 1, 1], &logits)?,
            f.launch("attend_backward_rows", |s| [z.gene_rows.div_ceil(s.tile_x), 1, 1], &rows)?,
            reduce(f, b.genes.n_rows, f.tile("attend_backward_rows")?, f.f32("d_uq")?, false)?,
            f.launch("attend_backward_columns", |s| [z.peak_rows.div_ceil(s.tile_x), 1, 1], &peaks)?,
            reduce(f, b.peaks.n_rows, f.tile("attend_backward_columns")?, f.f32("d_uk")?, false)?,
        ],
    );
    Ok(())
}
