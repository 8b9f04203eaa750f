//! How long the launches of one op take, against the built-in ones, and what share of the device that is.
//!
//! A training step fills the memory; then the op's launches are repeated, those of a replacement and the built-in ones in
//! turn, with the L2 cache flushed before each. Flops and bytes are counted from the batch: bytes are what has to move at
//! least, every number read or written once. Ceilings (a copy kernel, loops of tensor-core products) are measured in the
//! same run; `f32` is three TF32 products, so a third of the TF32 ceiling is all it can reach.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::cases::shape;
use crate::device::abi::{Args, Ptr};
use crate::device::gpu::{Kernels, Launch, Memory};
use crate::device::image::embedded_module;
use crate::device::op::{Cost, Work};
use crate::device::program::{Pass, Step};
use crate::device::view::Case;
use crate::device::{BatchSizes, Gpu, kernels as sources};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::Precision;
use crate::ops;
use crate::ops::registry;
use crate::ops::registry::Replacement;
use crate::progress::Progress;

/// What is measured.
#[derive(Debug, Clone)]
pub struct BenchPlan {
    /// The op.
    pub op: String,
    /// How matrices are multiplied.
    pub precision: Precision,
    /// Samples of the batch, half of them positives.
    pub samples: usize,
    /// Times everything is measured.
    pub repeats: usize,
}

/// Times of one kind of launch, milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Times {
    /// The middle one.
    pub median: f64,
    /// Half of all lie between these two.
    pub quartiles: (f64, f64),
}

impl Times {
    fn new(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let at = |share: f64| all.get(((all.len().max(1) - 1) as f64 * share).round() as usize).copied().unwrap_or(0.0);
        Times { median: at(0.5), quartiles: (at(0.25), at(0.75)) }
    }
}

/// One pass of the op, or one entry point in it.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// `forward`, `backward`, `update` or the entry point.
    pub what: String,
    /// The built-in launches.
    pub built_in: Times,
    /// Those of the replacement.
    pub replaced: Option<Times>,
    /// Counted work of a pass; 0 for a single entry point.
    pub flops: f64,
    /// Counted bytes of a pass; 0 for a single entry point.
    pub bytes: f64,
}

/// What came of a bench.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The op.
    pub op: String,
    /// The device.
    pub device: String,
    /// How matrices were multiplied.
    pub precision: Precision,
    /// Was it a rehearsal on the CPU? Then the times mean nothing.
    pub rehearsal: bool,
    /// The batch, in words.
    pub shape: String,
    /// Entry points that were replaced.
    pub replaced: Vec<String>,
    /// Bytes a second of a copy, read and written both counted.
    pub copy: f64,
    /// Flops a second of tensor cores, bf16 and TF32, by `mma.sync`.
    pub tensor: (f64, f64),
    /// Passes and entry points.
    pub lines: Vec<Line>,
    /// Are the op's products work for tensor cores?
    #[serde(skip)]
    pub tensor_cores: bool,
}

impl BenchReport {
    /// A table for reading.
    pub fn table(&self) -> String {
        let mut text = String::new();
        if self.rehearsal {
            text += "REHEARSAL on the CPU at toy shape: the times below mean nothing\n";
        }
        let _ = writeln!(text, "{} on {} ({}), {}", self.op, self.device, self.precision.name(), self.shape);
        if !self.replaced.is_empty() {
            let _ = writeln!(text, "replaced: {}", self.replaced.join(", "));
        }
        let (bf16, tf32) = self.tensor;
        let _ = writeln!(
            text,
            "ceilings: copy {:.0} GB/s, bf16 {:.1} TFLOP/s, TF32 {:.1} TFLOP/s (mma.sync)",
            self.copy / 1e9,
            bf16 / 1e12,
            tf32 / 1e12
        );
        let _ = writeln!(
            text,
            "{:<32} {:<10} {:>10} {:>19} {:>9} {:>7} {:>9} {:>8} {:>7}",
            "launches", "kernels", "median ms", "quartiles", "GB/s", "% copy", "TFLOP/s", "% tensor", "ratio"
        );
        let most = if self.precision == Precision::Bf16 { bf16 } else { tf32 / 3.0 };
        for l in &self.lines {
            for (name, times) in [("built-in", Some(&l.built_in)), ("replaced", l.replaced.as_ref())] {
                let Some(t) = times else { continue };
                let per = |work: f64| if t.median > 0.0 { work / (t.median * 1e-3) } else { 0.0 };
                let (gb, tf) = (per(l.bytes), per(l.flops));
                let or_dash = |work: f64, x: String| if work > 0.0 { x } else { "-".into() };
                let ratio = match name {
                    "replaced" if l.built_in.median > 0.0 => format!("{:.2}", t.median / l.built_in.median),
                    _ => String::new(),
                };
                let _ = writeln!(
                    text,
                    "{:<32} {name:<10} {:>10.4} {:>19} {:>9} {:>7} {:>9} {:>8} {ratio:>7}",
                    l.what,
                    t.median,
                    format!("{:.4}-{:.4}", t.quartiles.0, t.quartiles.1),
                    or_dash(l.bytes, format!("{:.0}", gb / 1e9)),
                    or_dash(l.bytes, format!("{:.0}", 100.0 * gb / self.copy.max(1.0))),
                    or_dash(l.flops, format!("{:.2}", tf / 1e12)),
                    // The others have no products for tensor cores.
                    match self.tensor_cores {
                        true => or_dash(l.flops, format!("{:.0}", 100.0 * tf / most.max(1.0))),
                        false => "-".into(),
                    },
                );
            }
        }
        text
    }
}

/// Arguments of `kernels/examples/ceiling.cu`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct CeilingArgs {
    from: Ptr<f32>,
    to: Ptr<f32>,
    n: u64,
    rounds: u32,
    pad: u32,
}

// SAFETY: a `repr(C)` mirror of the struct of that name in `ceiling.cu`, without holes.
#[allow(unsafe_code)]
unsafe impl Args for CeilingArgs {}

/// Measures.
///
/// # Errors
/// A replacement that does not compile or has no entry point of the op; no memory.
pub fn run(
    gpu: &Arc<Gpu>,
    replacement: Option<&Replacement>,
    plan: &BenchPlan,
    progress: &dyn Progress,
) -> Result<BenchReport> {
    let rehearsal = gpu.is_host();
    let (genes, peaks, cell, samples, repeats) = match rehearsal {
        true => (300, 900, (40, 120), plan.samples.min(4), plan.repeats.min(3)),
        false => (13_431, 116_490, (1000, 4000), plan.samples, plan.repeats),
    };
    let none = || Error::usage(format!("{:?} is no op; there are {}", plan.op, registry::names().join(", ")));
    let op = ops::find(&plan.op).ok_or_else(none)?;
    let case = shape(genes, peaks, samples, cell, if rehearsal { 32 } else { 128 }, op.bench.with_terms)?;
    let built_in = registry::load(gpu)?;
    let mut mine = built_in.clone();
    let replaced = match replacement {
        Some(r) => registry::apply_for(&mut mine, gpu, r, plan.precision)?,
        None => Vec::new(),
    };
    let flush = Memory::new(gpu, if rehearsal { 1 << 16 } else { 512 << 20 }, "a buffer that flushes the L2 cache")?;
    progress.note("measuring what the device can do at most");
    let (copy, tensor) = ceilings(gpu, &flush, repeats)?;
    progress.note("a training step to fill the memory");
    let a = Rehearsed::new(gpu, &built_in, &case, plan.precision)?;
    let b = replacement.map(|_| Rehearsed::new(gpu, &mine, &case, plan.precision)).transpose()?;
    let work = Work { model: &case.model, batch: &case.batch, sizes: &a.sizes, active: a.active };
    let mut lines = Vec::new();
    for (pass, what) in [(Pass::Forward, "forward"), (Pass::Backward, "backward"), (Pass::Update, "update")] {
        let (one, two) = (a.launches(op.name, pass), b.as_ref().map(|b| b.launches(op.name, pass)));
        if one.is_empty() {
            continue;
        }
        progress.note(&format!("{} {what}", plan.op));
        let mut groups = vec![(what.to_string(), one.clone(), two.clone())];
        let mut names: Vec<String> = Vec::new();
        for l in one.iter().map(|l| l.name().to_string()) {
            if !names.contains(&l) {
                names.push(l);
            }
        }
        for name in names {
            let pick = |all: &[Launch]| all.iter().filter(|l| l.name() == name).cloned().collect::<Vec<_>>();
            groups.push((format!("  {name}"), pick(&one), two.as_deref().map(pick)));
        }
        for (i, (what, one, two)) in groups.into_iter().enumerate() {
            let (built_in, replaced) = time(gpu, &flush, (&one, two.as_deref()), repeats, progress)?;
            let cost = if i == 0 { (op.bench.cost)(&work, pass) } else { Cost { flops: 0.0, bytes: 0.0 } };
            let Cost { flops, bytes } = cost;
            lines.push(Line { what, built_in, replaced, flops, bytes });
        }
    }
    let z = &a.sizes;
    let shape = format!(
        "{genes} genes x {peaks} peaks, {} samples ({} positives), {} gene and {} peak nodes, {} distinct columns",
        z.samples, z.positives, z.gene_entries, z.peak_entries, z.columns
    );
    Ok(BenchReport {
        op: plan.op.clone(),
        device: gpu.name().into(),
        precision: plan.precision,
        rehearsal,
        shape,
        replaced,
        copy,
        tensor,
        lines,
        tensor_cores: op.bench.tensor_cores,
    })
}

/// An engine whose memory holds a finished training step; its program's steps point there.
struct Rehearsed {
    _engine: Engine,
    steps: Vec<Step>,
    sizes: BatchSizes,
    /// Genes with a gradient of the translation, over all heads.
    active: u64,
}

impl Rehearsed {
    fn new(gpu: &Arc<Gpu>, kernels: &Kernels, case: &Case, precision: Precision) -> Result<Self> {
        let mut engine = Engine::new(gpu.clone(), kernels.clone(), &case.model, precision)?;
        let (program, sizes, active) = engine.rehearse(&case.batch, case.dropout)?;
        Ok(Rehearsed { _engine: engine, steps: program.steps().to_vec(), sizes, active })
    }

    /// Launches of a pass of an op.
    fn launches(&self, op: &str, pass: Pass) -> Vec<Launch> {
        let own = self.steps.iter().filter(|s| s.op == op && s.pass == pass);
        own.flat_map(|s| s.launches.clone()).collect()
    }
}

/// Times of some launches and of their replacements, in turn.
fn time(
    gpu: &Arc<Gpu>,
    flush: &Memory,
    (one, two): (&[Launch], Option<&[Launch]>),
    repeats: usize,
    progress: &dyn Progress,
) -> Result<(Times, Option<Times>)> {
    let (start, end) = (gpu.event(true)?, gpu.event(true)?);
    let once = |launches: &[Launch]| -> Result<f64> {
        flush.fill(0, flush.bytes(), 0x5a)?;
        start.record(gpu.compute())?;
        launches.iter().try_for_each(|l| l.run(gpu.compute()))?;
        end.record(gpu.compute())?;
        end.synchronize()?;
        Ok(end.since(&start)? * 1e3)
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for i in 0..repeats + 2 {
        progress.check("nothing was written")?;
        let first = once(one)?;
        let second = two.map(once).transpose()?;
        // The first rounds warm up.
        if i >= 2 {
            a.push(first);
            b.extend(second);
        }
    }
    Ok((Times::new(a), two.map(|_| Times::new(b))))
}

/// Bytes a second of a copy, and flops a second of tensor cores (bf16, TF32).
fn ceilings(gpu: &Arc<Gpu>, buffer: &Memory, repeats: usize) -> Result<(f64, (f64, f64))> {
    let file = sources::embedded().iter().find(|k| k.name == "ceiling");
    let file = file.ok_or_else(|| Error::Internal("the kernels lack `ceiling`".into()))?;
    let module = embedded_module(gpu, file)?;
    let kernel = |name: &str| module.kernel(name)?.ok_or_else(|| Error::Internal(format!("no kernel `{name}`")));
    let half = buffer.bytes() / 2;
    let blocks = if gpu.is_host() { 2 } else { 8 * gpu.multiprocessors()? };
    let (start, end) = (gpu.event(true)?, gpu.event(true)?);
    let best = |name: &str, rounds: u32, work: f64| -> Result<f64> {
        let from = Ptr::new(buffer.address());
        let to = Ptr::new(buffer.address() + half as u64);
        let args = CeilingArgs { from, to, n: (half / 16) as u64, rounds, pad: 0 };
        let launch = Launch::new(&kernel(name)?, [blocks, 1, 1], &args);
        let mut all = Vec::new();
        for i in 0..repeats.max(5) + 2 {
            start.record(gpu.compute())?;
            launch.run(gpu.compute())?;
            end.record(gpu.compute())?;
            end.synchronize()?;
            if i >= 2 {
                all.push(end.since(&start)?);
            }
        }
        let median = Times::new(all).median;
        Ok(if median > 0.0 { work / median } else { 0.0 })
    };
    let rounds = if gpu.is_host() { 8 } else { 20_000 };
    let products = f64::from(blocks) * 8.0 * f64::from(rounds) * 8.0; // warps a block, products a round
    Ok((
        best("ceiling_copy", 0, (half / 16 * 32) as f64)?,
        (best("ceiling_bf16", rounds, products * 4096.0)?, best("ceiling_tf32", rounds, products * 2048.0)?),
    ))
}
