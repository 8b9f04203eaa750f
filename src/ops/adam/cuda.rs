//! `adam` on the device: launches of `kernels/adam.cu`.

use crate::device::abi::{AdamGuardArgs, AdamNormArgs, AdamStepArgs, NORM_PARTS};
use crate::device::frame::Frame;
use crate::device::op::{Bench, Cost, KernelFile, Op, Turn, Work};
use crate::device::program::{Pass, Recorder};
use crate::error::Result;

pub(crate) static OP: Op = Op {
    name: "adam",
    sources: &[KernelFile { file: "adam", precise: &[], plain: &["adam_norm", "adam_guard", "adam_step"] }],
    regions: &[],
    turns: &[Turn {
        place: 100,
        last: Pass::Update,
        sums_by: &[],
        record,
        writes: |w, _| w.whole(&["p", "g", "m", "v", "norm_part", "control", "record"]),
        check: |v, _, out| v.adam(out),
    }],
    bench: Bench { with_terms: false, tensor_cores: false, cost },
};

fn cost(w: &Work<'_>, _: Pass) -> Cost {
    let n = w.model.params.layout().len() as f64;
    Cost { flops: 14.0 * n, bytes: 36.0 * n }
}

/// Records the norm of the gradient, the guard against what is not finite, and the step.
pub(crate) fn record(recorder: &mut Recorder, f: &Frame<'_>) -> Result<()> {
    let (a, c) = (&f.arenas, &f.constants);
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
    recorder.update(vec![
        f.launch("adam_norm", |_| [NORM_PARTS, 1, 1], &norm)?,
        f.launch("adam_guard", |_| [1, 1, 1], &guard)?,
        f.launch("adam_step", |s| [(a.n as u64).div_ceil(u64::from(s.tile_x)) as u32, 1, 1], &step)?,
    ]);
    Ok(())
}
