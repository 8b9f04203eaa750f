//! `attend` on the device: launches of `kernels/attend.cu`.

use crate::device::abi::{
    AttendBackwardColumnsArgs, AttendBackwardLogitsArgs, AttendBackwardRowsArgs, AttendColumnsArgs, AttendForwardArgs,
};
use crate::device::frame::Frame;
use crate::device::program::Tape;
use crate::error::Result;

/// Records the attention. Its backward pass is the first to write `d_q`, `d_k`, `d_uq` and `d_uk`.
pub(crate) fn record(tape: &mut Tape, f: &Frame<'_>) -> Result<()> {
    let (w, b, z) = (&f.w, &f.batch, &f.sizes);
    let (hidden, heads, top_k, tau) = (f.hidden(), f.heads(), f.top_k(), f.config.tau as f32);
    let forward = AttendForwardArgs {
        n_tiles: b.n_tiles,
        tile: b.tile,
        pad: b.pad,
        genes: b.genes,
        peaks: b.peaks,
        q: w.q,
        uq: w.uq,
        k: w.k,
        uk: w.uk,
        row_sums: w.row_sums,
        member: w.member,
        weight: w.weight,
        score: w.score,
        hidden,
        heads,
        top_k,
        tau,
    };
    let columns = AttendColumnsArgs {
        n_blocks: b.n_blocks,
        block: b.block,
        member: w.member,
        weight: w.weight,
        score: w.score,
        col_sums: w.col_sums,
        pair_ptr: w.pair_ptr,
        pair: w.pair,
        heads,
        top_k,
        tau,
        pad: 0,
    };
    let logits = AttendBackwardLogitsArgs {
        n_entries: b.genes.n_entries,
        member: w.member,
        weight: w.weight,
        score: w.score,
        d_row_sums: w.d_row_sums,
        d_col_sums: w.d_col_sums,
        d_logit: w.d_logit,
        heads,
        top_k,
        tau,
        pad: 0,
    };
    let rows = AttendBackwardRowsArgs {
        genes: b.genes,
        peaks: b.peaks,
        member: w.member,
        d_logit: w.d_logit,
        k: w.k,
        uk: w.uk,
        d_q: w.d_q,
        d_u_part: w.u_part,
        hidden,
        heads,
        top_k,
        pad: 0,
    };
    let peaks = AttendBackwardColumnsArgs {
        genes: b.genes,
        peaks: b.peaks,
        pair_ptr: w.pair_ptr,
        pair: w.pair,
        d_logit: w.d_logit,
        q: w.q,
        uq: w.uq,
        d_k: w.d_k,
        d_u_part: w.u_part,
        hidden,
        heads,
        top_k,
        pad: 0,
    };
    let per = |name: &str| Ok::<_, crate::error::Error>(f.kernels.get(name)?.shape().tile_x);
    tape.op(
        "attend",
        vec![
            f.launch_precise("attend_forward", |_| [z.tiles, 1, 1], &forward)?,
            f.launch("attend_columns", |_| [z.blocks, heads, 1], &columns)?,
        ],
        vec![
            f.launch("attend_backward_logits", |s| [(z.gene_entries * heads).div_ceil(s.tile_x), 1, 1], &logits)?,
            f.launch("attend_backward_rows", |s| [z.gene_rows.div_ceil(s.tile_x), 1, 1], &rows)?,
            f.reduce(b.genes.n_rows, per("attend_backward_rows")?, w.d_uq, false)?,
            f.launch("attend_backward_columns", |s| [z.peak_rows.div_ceil(s.tile_x), 1, 1], &peaks)?,
            f.reduce(b.peaks.n_rows, per("attend_backward_columns")?, w.d_uk, false)?,
        ],
    );
    Ok(())
}
