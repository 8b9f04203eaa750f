//! `adam` on the device: launches of `kernels/adam.cu`.

use super::AdamConfig;
use crate::device::abi::{AdamGuardArgs, AdamNormArgs, AdamStepArgs, Control, NORM_PARTS, Ptr};
use crate::device::frame::Frame;
use crate::device::program::Tape;
use crate::error::Result;

/// The arenas Adam works on, `[n]` each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arenas {
    pub p: Ptr<f32>,
    pub g: Ptr<f32>,
    pub m: Ptr<f32>,
    pub v: Ptr<f32>,
    pub n: usize,
    pub part: Ptr<f32>,
    pub control: Ptr<Control>,
}

/// Records the norm of the gradient, the guard against what is not finite, and the step.
pub(crate) fn record(tape: &mut Tape, f: &Frame<'_>, a: &Arenas, c: &AdamConfig) -> Result<()> {
    let norm = AdamNormArgs { g: a.g, part: a.part, n: a.n as u64 };
    let guard = AdamGuardArgs {
        part: a.part,
        record: f.record,
        control: a.control,
        rate: f.batch.rate,
        beta1: c.beta1,
        beta2: c.beta2,
    };
    let step = AdamStepArgs {
        p: a.p,
        g: a.g,
        m: a.m,
        v: a.v,
        control: a.control,
        n: a.n as u64,
        beta1: c.beta1 as f32,
        rest1: (1.0 - c.beta1) as f32,
        beta2: c.beta2 as f32,
        rest2: (1.0 - c.beta2) as f32,
        eps: c.eps as f32,
        weight_decay: c.weight_decay as f32,
    };
    tape.update(
        "adam",
        vec![
            f.launch("adam_norm", |_| [NORM_PARTS, 1, 1], &norm)?,
            f.launch("adam_guard", |_| [1, 1, 1], &guard)?,
            f.launch("adam_step", |s| [(a.n as u64).div_ceil(u64::from(s.tile_x)) as u32, 1, 1], &step)?,
        ],
    );
    Ok(())
}
