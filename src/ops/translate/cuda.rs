//! `translate` on the device: launches of `kernels/translate.cu`.

use crate::device::abi::{
    MASK_GENES, Ptr, TRANSLATE_CHUNK, TranslateActiveArgs, TranslateBackwardArgs, TranslateColumnsArgs,
    TranslateCountArgs, TranslateEffectiveArgs, TranslateGenesReduceArgs, TranslateGradientArgs, TranslateMasksArgs,
};
use crate::device::frame::Frame;
use crate::device::program::Tape;
use crate::error::Result;

/// Records the translation of the positives; without any, nothing. Its backward pass adds to what `attend` has written.
pub(crate) fn record(tape: &mut Tape, f: &Frame<'_>) -> Result<()> {
    let (w, b, z) = (&f.w, &f.batch, &f.sizes);
    if !f.translates() {
        return Ok(());
    }
    let (hidden, heads, genes) = (f.hidden(), f.heads(), f.genes());
    let padded = (hidden / heads).next_multiple_of(16);
    let mask_blocks = genes.div_ceil(MASK_GENES);
    let queries = TranslateEffectiveArgs {
        n_items: b.n_genes,
        row: Ptr::NULL,
        value: Ptr::NULL,
        table: w.q,
        u: w.uq,
        out: w.genes_eff.cast(),
        hidden,
        heads,
        padded,
        pad: 0,
    };
    let keys = TranslateEffectiveArgs {
        n_items: b.columns.n_columns,
        row: b.columns.row,
        value: b.columns.value,
        table: w.k,
        u: w.uk,
        out: w.keys_eff.cast(),
        ..queries
    };
    let masks = TranslateMasksArgs {
        n_columns: b.columns.n_columns,
        genes_eff: w.genes_eff.cast(),
        keys_eff: w.keys_eff.cast(),
        mask: w.mask,
        genes,
        heads,
        padded,
        limit: super::logit_limit(f.config.tau),
    };
    let count = TranslateCountArgs {
        columns: b.columns,
        mask: w.mask,
        predicted: w.predicted,
        count: w.count,
        genes,
        heads,
        min_peaks: u32::try_from(f.config.min_peaks).unwrap_or(u32::MAX),
        pad: 0,
    };
    let gradient = TranslateGradientArgs {
        columns: b.columns,
        genes_nodes: b.genes,
        predicted: w.predicted,
        d_pred: w.d_pred,
        loss_part: w.loss_part,
        genes,
        heads,
        alpha: f.config.alpha as f32,
        pad: 0,
    };
    let active = TranslateActiveArgs {
        n_positives: b.columns.n_positives,
        d_pred: w.d_pred,
        flag: w.flag,
        active: w.active,
        n_active: w.n_active,
        genes,
        heads,
    };
    let back = TranslateBackwardArgs {
        columns: b.columns,
        genes_eff: w.genes_eff.cast(),
        keys_eff: w.keys_eff.cast(),
        d_pred: w.d_pred,
        active: w.active,
        n_active: w.n_active,
        d_keys: w.d_keys,
        part: w.translate_part,
        genes,
        heads,
        hidden,
        padded,
    };
    let reduce = TranslateGenesReduceArgs {
        n_columns: b.columns.n_columns,
        active: w.active,
        n_active: w.n_active,
        part: w.translate_part,
        d_q: w.d_q,
        d_u_part: w.u_part,
        genes,
        heads,
        hidden,
        pad: 0,
    };
    let columns = TranslateColumnsArgs {
        columns: b.columns,
        n_rows: b.peaks.n_rows,
        d_keys: w.d_keys,
        d_k: w.d_k,
        d_u_part: w.u_part,
        hidden,
        pad: 0,
    };
    let count_grid =
        |s: crate::device::abi::LaunchShape| [(z.positives * heads * mask_blocks).div_ceil(s.tile_x), 1, 1];
    let mut forward = vec![
        f.launch_precise("translate_effective", |s| [genes.div_ceil(s.tile_x), 1, 1], &queries)?,
        f.launch_precise("translate_effective", |s| [z.columns.div_ceil(s.tile_x), 1, 1], &keys)?,
        f.launch_precise(
            "translate_masks",
            |s| [genes.div_ceil(s.tile_x), z.columns.div_ceil(s.tile_y), heads],
            &masks,
        )?,
        f.launch("translate_count", count_grid, &count)?,
        f.launch("translate_gradient", |_| [z.positives, heads, 1], &gradient)?,
    ];
    if f.terms.counts {
        forward.push(f.launch("translate_count_exact", count_grid, &count)?);
    }
    let per = |name: &str| Ok::<_, crate::error::Error>(f.kernels.get(name)?.shape().tile_x);
    tape.op(
        "translate",
        forward,
        vec![
            f.launch("translate_flags", |s| [genes.div_ceil(s.tile_x), heads, 1], &active)?,
            f.launch("translate_active", |_| [heads, 1, 1], &active)?,
            f.launch_precise("translate_backward_keys", |s| [z.columns.div_ceil(s.tile_x), heads, 1], &back)?,
            f.launch_precise(
                "translate_backward_genes",
                |s| [genes.div_ceil(s.tile_x), z.columns.div_ceil(TRANSLATE_CHUNK), heads],
                &back,
            )?,
            f.launch("translate_backward_genes_reduce", |s| [genes.div_ceil(s.tile_x), 1, 1], &reduce)?,
            f.reduce(b.n_genes, per("translate_backward_genes_reduce")?, w.d_uq, true)?,
            f.launch("translate_backward_columns", |s| [z.peak_rows.div_ceil(s.tile_x), 1, 1], &columns)?,
            f.reduce(b.peaks.n_rows, per("translate_backward_columns")?, w.d_uk, true)?,
        ],
    );
    Ok(())
}
