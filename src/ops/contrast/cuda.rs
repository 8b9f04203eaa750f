//! `contrast` on a device.

use crate::device::abi::{ContrastArgs, LaunchShape};
use crate::device::frame::Frame;
use crate::device::op::{Bench, Cost, KernelFile, Op, Turn, Work};
use crate::device::program::{Pass, Recorder};
use crate::device::region::{Extent, Region};
use crate::error::Result;

pub(crate) static OP: Op = Op {
    name: "contrast",
    sources: &[KernelFile {
        file: "contrast",
        precise: &[],
        plain: &["contrast_logits", "contrast_lines", "contrast_total", "contrast_slopes", "contrast_backward"],
    }],
    regions: &[
        Region::f32("contrast_logits", |n| with(n) * n.positives * n.positives),
        Region::f32("contrast_lines", |n| with(n) * 4 * n.positives),
        Region::f32("contrast_part", |n| with(n) * n.positives),
    ],
    turns: &[Turn {
        place: 70,
        last: Pass::Backward,
        sums_by: &[],
        record,
        writes: |w, pass| match pass {
            Pass::Forward => {
                w.rows(&["contrast_logits", "contrast_lines", "contrast_part"]);
                w.whole(&["record"]);
            }
            _ => w.rows(&["contrast_logits", "d_x_r", "d_x_a"]),
        },
        check: |v, pass, out| match pass {
            Pass::Forward => v.contrast_forward(out),
            _ => v.contrast_backward(out),
        },
    }],
    bench: Bench { with_terms: true, tensor_cores: false, cost },
};

/// 1 in a model with the term, else 0.
fn with(n: &Extent<'_>) -> usize {
    usize::from(n.config.contrasts())
}

fn cost(w: &Work<'_>, pass: Pass) -> Cost {
    let positives = f64::from(w.sizes.positives);
    let (pairs, rows) = (positives * positives, 4.0 * f64::from(w.sizes.samples) * w.hidden());
    let each = if pass == Pass::Forward { 1.0 } else { 2.0 };
    Cost { flops: each * 2.0 * pairs * w.hidden(), bytes: each * (2.0 * rows + 8.0 * pairs) }
}

/// Records the contrastive loss of a training step. Its backward pass is the first to write `d_x_r` and `d_x_a`.
pub(crate) fn record(recorder: &mut Recorder, f: &Frame<'_>) -> Result<()> {
    if !f.contrasts() {
        return Ok(());
    }
    let (b, n) = (&f.batch, f.sizes.positives);
    let args = ContrastArgs {
        n_samples: b.n_samples,
        n_positives: b.columns.n_positives,
        positive: b.columns.positive,
        x_r: f.f32("x_r")?,
        x_a: f.f32("x_a")?,
        logits: f.f32("contrast_logits")?,
        lines: f.f32("contrast_lines")?,
        loss_part: f.f32("contrast_part")?,
        record: f.record,
        d_x_r: f.f32("d_x_r")?,
        d_x_a: f.f32("d_x_a")?,
        hidden: f.hidden(),
        weight: f.config.contrast as f32,
    };
    let pairs = |s: LaunchShape| [n.div_ceil(s.tile_x), n.div_ceil(s.tile_y), 1];
    let (samples, hidden) = (f.sizes.samples, f.hidden());
    recorder.add(
        vec![
            f.launch("contrast_logits", pairs, &args)?,
            f.launch("contrast_lines", |_| [n, 1, 1], &args)?,
            f.launch("contrast_total", |_| [1, 1, 1], &args)?,
        ],
        vec![
            f.launch("contrast_slopes", pairs, &args)?,
            f.launch("contrast_backward", |s| [samples.div_ceil(s.tile_x), hidden.div_ceil(s.tile_y), 2], &args)?,
        ],
    );
    Ok(())
}
