//! `translate` on the device: launches of `kernels/translate.cu`.

use crate::device::abi::{
    LaunchShape, MASK_GENES, Ptr, TRANSLATE_CHUNK, TranslateActiveArgs, TranslateBackwardArgs, TranslateColumnsArgs,
    TranslateCountArgs, TranslateEffectiveArgs, TranslateGenesReduceArgs, TranslateGradientArgs, TranslateMasksArgs,
};
use crate::device::frame::Frame;
use crate::device::gpu::Launch;
use crate::device::op::{Bench, Cost, KernelFile, Op, Turn, Work};
use crate::device::program::{Pass, Recorder};
use crate::device::region::{Extent, Region};
use crate::error::Result;
use crate::ops::head::cuda::reduce;

pub(crate) static OP: Op = Op {
    name: "translate",
    sources: &[
        KernelFile {
            file: "translate",
            precise: &["translate_effective", "translate_masks"],
            plain: &[
                "translate_count",
                "translate_count_exact",
                "translate_gradient",
                "translate_flags",
                "translate_active",
            ],
        },
        KernelFile {
            file: "translate_backward",
            precise: &["translate_backward_keys", "translate_backward_genes"],
            plain: &["translate_backward_genes_reduce", "translate_backward_columns"],
        },
    ],
    regions: &[
        Region::f32("u_part", |n| {
            let genes = n.blocks("translate_backward_genes_reduce", n.genes);
            genes.max(n.blocks("translate_backward_columns", n.peak_rows)) * n.hidden
        }),
        Region::f32("genes_eff", |n| if n.positives == 0 { 0 } else { n.genes * row(n) }),
        Region::f32("keys_eff", |n| n.columns * row(n)),
        Region::u32("mask", |n| n.heads * mask_words(n.genes) * n.columns),
        Region::u32("predicted", |n| n.positives * n.heads * mask_words(n.genes)),
        Region::u32("count", |n| n.positives * n.heads * n.genes),
        Region::f32("d_pred", |n| n.positives * n.heads * n.genes),
        Region::f32("loss_part", |n| n.positives * n.heads),
        Region::u32("flag", |n| n.heads * n.genes),
        Region::u32("active", |n| n.heads * n.genes),
        Region::u32("n_active", |n| n.heads),
        Region::f32("d_keys", |n| n.columns * n.hidden),
        Region::f32("translate_part", |n| n.columns.div_ceil(TRANSLATE_CHUNK as usize) * n.genes * n.hidden),
    ],
    turns: &[Turn {
        place: 30,
        last: Pass::Backward,
        sums_by: &["head"],
        record,
        writes: |w, pass| match pass {
            Pass::Forward => {
                w.precise(&["genes_eff", "keys_eff"]);
                w.rows(&["mask", "predicted", "count", "d_pred", "loss_part"]);
            }
            _ => {
                w.rows(&["d_q", "d_k", "d_uq", "d_uk", "d_keys"]);
                w.whole(&["u_part", "flag", "active", "n_active", "translate_part"]);
            }
        },
        check: |v, pass, out| match pass {
            Pass::Forward => v.translate_forward(out),
            _ => v.translate_backward(out),
        },
    }],
    bench: Bench { with_terms: false, tensor_cores: true, cost },
};

/// Words of a row of mask bits.
pub(crate) fn mask_words(genes: usize) -> usize {
    genes.div_ceil(MASK_GENES as usize) * (MASK_GENES as usize / 32)
}

/// Numbers of a padded row of all heads.
fn row(n: &Extent<'_>) -> usize {
    n.heads * padded(n.hidden as u32, n.heads as u32) as usize
}

fn cost(w: &Work<'_>, pass: Pass) -> Cost {
    let (genes, columns, positives) =
        (w.config().genes as f64, f64::from(w.sizes.columns), f64::from(w.sizes.positives));
    let (h, heads, element) = (w.hidden(), w.heads(), 4.0);
    if pass == Pass::Forward {
        let mask = heads * genes * columns / 8.0;
        let flops = 2.0 * genes * columns * h;
        let bytes = 3.0 * element * h * (genes + columns) + 2.0 * mask + 4.0 * positives * genes * heads;
        return Cost { flops, bytes };
    }
    let active = w.active as f64;
    Cost {
        flops: 6.0 * active * columns * h / heads,
        bytes: 4.0 * element * h * (active / heads + columns) + 4.0 * positives * active,
    }
}

/// Records the translation of the positives; without any, nothing. Its backward pass adds to what `attend` has written.
pub(crate) fn record(recorder: &mut Recorder, f: &Frame<'_>) -> Result<()> {
    if f.translates() {
        recorder.add(forward(f)?, backward(f)?);
    }
    Ok(())
}

/// Numbers of a query or a key, all heads, each filled up to what tiles take.
fn padded(hidden: u32, heads: u32) -> u32 {
    (hidden / heads).next_multiple_of(16)
}

fn forward(f: &Frame<'_>) -> Result<Vec<Launch>> {
    let (b, z) = (&f.batch, &f.sizes);
    let (hidden, heads, genes) = (f.hidden(), f.heads(), f.genes());
    let (padded, mask_blocks) = (padded(hidden, heads), genes.div_ceil(MASK_GENES));
    let queries = TranslateEffectiveArgs {
        n_items: b.n_genes,
        row: Ptr::NULL,
        value: Ptr::NULL,
        table: f.f32("q")?,
        u: f.f32("uq")?,
        out: f.f32("genes_eff")?.cast(),
        hidden,
        heads,
        padded,
        pad: 0,
    };
    let keys = TranslateEffectiveArgs {
        n_items: b.columns.n_columns,
        row: b.columns.row,
        value: b.columns.value,
        table: f.f32("k")?,
        u: f.f32("uk")?,
        out: f.f32("keys_eff")?.cast(),
        ..queries
    };
    let masks = TranslateMasksArgs {
        n_columns: b.columns.n_columns,
        genes_eff: f.f32("genes_eff")?.cast(),
        keys_eff: f.f32("keys_eff")?.cast(),
        mask: f.u32("mask")?,
        genes,
        heads,
        padded,
        limit: super::logit_limit(f.config.tau),
    };
    let count = TranslateCountArgs {
        columns: b.columns,
        mask: f.u32("mask")?,
        predicted: f.u32("predicted")?,
        count: f.u32("count")?,
        genes,
        heads,
        min_peaks: u32::try_from(f.config.min_peaks).unwrap_or(u32::MAX),
        pad: 0,
    };
    let gradient = TranslateGradientArgs {
        columns: b.columns,
        genes_nodes: b.genes,
        predicted: f.u32("predicted")?,
        d_pred: f.f32("d_pred")?,
        loss_part: f.f32("loss_part")?,
        genes,
        heads,
        alpha: f.config.alpha as f32,
        pad: 0,
    };
    let count_grid = |s: LaunchShape| [(z.positives * heads * mask_blocks).div_ceil(s.tile_x), 1, 1];
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
    Ok(forward)
}

fn backward(f: &Frame<'_>) -> Result<Vec<Launch>> {
    let (b, z) = (&f.batch, &f.sizes);
    let (hidden, heads, genes) = (f.hidden(), f.heads(), f.genes());
    let padded = padded(hidden, heads);
    let active = TranslateActiveArgs {
        n_positives: b.columns.n_positives,
        d_pred: f.f32("d_pred")?,
        flag: f.u32("flag")?,
        active: f.u32("active")?,
        n_active: f.u32("n_active")?,
        genes,
        heads,
    };
    let back = TranslateBackwardArgs {
        columns: b.columns,
        genes_eff: f.f32("genes_eff")?.cast(),
        keys_eff: f.f32("keys_eff")?.cast(),
        d_pred: f.f32("d_pred")?,
        active: f.u32("active")?,
        n_active: f.u32("n_active")?,
        d_keys: f.f32("d_keys")?,
        part: f.f32("translate_part")?,
        genes,
        heads,
        hidden,
        padded,
    };
    let sums = TranslateGenesReduceArgs {
        n_columns: b.columns.n_columns,
        active: f.u32("active")?,
        n_active: f.u32("n_active")?,
        part: f.f32("translate_part")?,
        d_q: f.f32("d_q")?,
        d_u_part: f.f32("u_part")?,
        genes,
        heads,
        hidden,
        pad: 0,
    };
    let columns = TranslateColumnsArgs {
        columns: b.columns,
        n_rows: b.peaks.n_rows,
        d_keys: f.f32("d_keys")?,
        d_k: f.f32("d_k")?,
        d_u_part: f.f32("u_part")?,
        hidden,
        pad: 0,
    };
    Ok(vec![
        f.launch("translate_flags", |s| [genes.div_ceil(s.tile_x), heads, 1], &active)?,
        f.launch("translate_active", |_| [heads, 1, 1], &active)?,
        f.launch_precise("translate_backward_keys", |s| [z.columns.div_ceil(s.tile_x), heads, 1], &back)?,
        f.launch_precise(
            "translate_backward_genes",
            |s| [genes.div_ceil(s.tile_x), z.columns.div_ceil(TRANSLATE_CHUNK), heads],
            &back,
        )?,
        f.launch("translate_backward_genes_reduce", |s| [genes.div_ceil(s.tile_x), 1, 1], &sums)?,
        reduce(f, b.n_genes, f.tile("translate_backward_genes_reduce")?, f.f32("d_uq")?, true)?,
        f.launch("translate_backward_columns", |s| [z.peak_rows.div_ceil(s.tile_x), 1, 1], &columns)?,
        reduce(f, b.peaks.n_rows, f.tile("translate_backward_columns")?, f.f32("d_uk")?, true)?,
    ])
}
