//! `contrast` on a device.

use crate::device::abi::{ContrastArgs, LaunchShape};
use crate::device::frame::Frame;
use crate::device::program::Tape;
use crate::error::Result;

/// Records the contrastive loss of a training step. Its backward pass is the first to write `d_x_r` and `d_x_a`.
pub(crate) fn record(tape: &mut Tape, f: &Frame<'_>) -> Result<()> {
    if !f.contrasts() {
        return Ok(());
    }
    let (w, b, n) = (&f.w, &f.batch, f.sizes.positives);
    let args = ContrastArgs {
        n_samples: b.n_samples,
        n_positives: b.columns.n_positives,
        positive: b.columns.positive,
        x_r: w.x_r,
        x_a: w.x_a,
        logits: w.contrast_logits,
        lines: w.contrast_lines,
        loss_part: w.contrast_part,
        record: f.record,
        d_x_r: w.d_x_r,
        d_x_a: w.d_x_a,
        hidden: f.hidden(),
        weight: f.config.contrast as f32,
    };
    let pairs = |s: LaunchShape| [n.div_ceil(s.tile_x), n.div_ceil(s.tile_y), 1];
    let (samples, hidden) = (f.sizes.samples, f.hidden());
    tape.op(
        "contrast",
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
