//! How long the launches of one op take, against the built-in ones, and what share of the device that is.
//!
//! A training step fills the memory; then the op's launches are repeated, those of a replacement and the built-in ones in
//! turn, with the L2 cache flushed before each. Flops and bytes are counted from the batch: bytes are what has to move at
//! least, every number read or written once. Ceilings (a copy kernel, loops of tensor-core products) are measured in the
//! same run; `f32` is three TF32 products, so a third of the TF32 ceiling is all it can reach.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::cases::{Case, shape};
use crate::device::abi::{Args, Ptr};
use crate::device::gpu::{Kernels, Launch, Memory};
use crate::device::program::{Pass, Step};
use crate::device::registry::Replacement;
use crate::device::{Gpu, Sizes, kernels as sources, registry};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::nodes::NodeSet;
use crate::model::{ModelConfig, Precision};

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
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
pub struct Report {
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
}

impl Report {
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
                    match self.op.as_str() {
                        "pool" | "adam" | "cis" | "contrast" => "-".into(),
                        _ => or_dash(l.flops, format!("{:.0}", 100.0 * tf / most.max(1.0))),
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
    plan: &Plan,
    mut say: impl FnMut(&str),
) -> Result<Report> {
    let rehearsal = gpu.is_host();
    let (genes, peaks, cell, samples, repeats) = match rehearsal {
        true => (300, 900, (40, 120), plan.samples.min(4), plan.repeats.min(3)),
        false => (13_431, 116_490, (1000, 4000), plan.samples, plan.repeats),
    };
    let terms = matches!(plan.op.as_str(), "cis" | "contrast");
    let case = shape(genes, peaks, samples, cell, if rehearsal { 32 } else { 128 }, terms)?;
    let built_in = registry::load(gpu)?;
    let mut mine = built_in.clone();
    let replaced = match replacement {
        Some(r) => registry::apply_for(&mut mine, gpu, r, plan.precision)?,
        None => Vec::new(),
    };
    let flush = Memory::new(gpu, if rehearsal { 1 << 16 } else { 512 << 20 }, "a buffer that flushes the L2 cache")?;
    say("measuring what the device can do at most");
    let (copy, tensor) = ceilings(gpu, &flush, repeats)?;
    say("a training step to fill the memory");
    let (engine_a, a) = steps(gpu, &built_in, &case, plan)?;
    let b = replacement.map(|_| steps(gpu, &mine, &case, plan)).transpose()?;
    let of = |steps: &[Step], pass: Pass| -> Vec<Launch> {
        let own = steps.iter().filter(|s| s.op == plan.op && s.pass == pass);
        own.flat_map(|s| s.launches.clone()).collect()
    };
    let sizes = engine_a.1;
    let mut lines = Vec::new();
    for (pass, what) in [(Pass::Forward, "forward"), (Pass::Backward, "backward"), (Pass::Update, "update")] {
        let (one, two) = (of(&a, pass), b.as_ref().map(|b| of(&b.1, pass)));
        if one.is_empty() {
            continue;
        }
        say(&format!("{} {what}", plan.op));
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
            let (built_in, replaced) = time(gpu, &flush, &one, two.as_deref(), repeats)?;
            let (flops, bytes) = if i == 0 { work(&plan.op, pass, &case, &sizes, engine_a.2) } else { (0.0, 0.0) };
            lines.push(Line { what, built_in, replaced, flops, bytes });
        }
    }
    let z = &sizes;
    let shape = format!(
        "{genes} genes x {peaks} peaks, {} samples ({} positives), {} gene and {} peak nodes, {} distinct columns",
        z.samples, z.positives, z.gene_entries, z.peak_entries, z.columns
    );
    Ok(Report {
        op: plan.op.clone(),
        device: gpu.name().into(),
        precision: plan.precision,
        rehearsal,
        shape,
        replaced,
        copy,
        tensor,
        lines,
    })
}

/// An engine whose memory holds a finished training step, its sizes and the genes with a gradient; and the program's steps.
#[allow(clippy::type_complexity)]
fn steps(gpu: &Arc<Gpu>, kernels: &Kernels, case: &Case, plan: &Plan) -> Result<((Engine, Sizes, u64), Vec<Step>)> {
    let mut engine = Engine::new(gpu.clone(), kernels.clone(), &case.model, plan.precision)?;
    let (program, sizes, active) = engine.rehearse(&case.batch, case.dropout)?;
    Ok(((engine, sizes, active), program.steps().to_vec()))
}

/// Times of some launches and of their replacements, in turn.
fn time(
    gpu: &Arc<Gpu>,
    flush: &Memory,
    one: &[Launch],
    two: Option<&[Launch]>,
    repeats: usize,
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
        crate::interrupt::check("nothing was written")?;
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
    let module = registry::embedded_module(gpu, file)?;
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

/// Flops and bytes of a pass, counted. `active` is the number of genes with a translation gradient, over all heads.
fn work(op: &str, pass: Pass, case: &Case, z: &Sizes, active: u64) -> (f64, f64) {
    let c: &ModelConfig = &case.model.config;
    let forward = pass == Pass::Forward;
    let n = |x: u32| f64::from(x);
    let (h, d, heads) = (c.hidden as f64, c.embedding_dim as f64, c.heads as f64);
    let (gr, pr, ge, pe) = (n(z.gene_rows), n(z.peak_rows), n(z.gene_entries), n(z.peak_entries));
    let (xg, xp) = (c.gene_extra as f64, c.dna_length as f64);
    let (gw, pw) = (d + 1.0 + c.gene_features() as f64, d + 1.0 + c.peak_features() as f64);
    let tables = 4.0 * h * (gr + pr);
    // Embedding rows, extra features and weights, each once.
    let features = gr * 4.0 * (d + xg) + pr * (4.0 * d + xp);
    let weights = 4.0 * h * (gw + pw);
    let members = ge * heads * c.top_k as f64;
    match (op, forward) {
        ("project", true) => (2.0 * h * (gr * (d + xg) + pr * (d + xp)), features + weights + tables),
        ("project", false) => (
            2.0 * h * (gr * (2.0 * d + xg) + pr * (2.0 * d + xp)),
            features + 8.0 * d * (gr + pr) + 3.0 * weights + tables,
        ),
        ("attend", true) => {
            let chrom = &case.model.features;
            let genes = NodeSet::new(&case.batch.rna, &chrom.gene_chrom, false);
            let peaks = NodeSet::new(&case.batch.atac, &chrom.peak_chrom, false);
            let mut pairs = 0.0;
            for b in 0..genes.samples() {
                for &(chromosome, g0, g1) in &genes.segments[b] {
                    let own = peaks.segments[b].iter().find(|s| s.0 == chromosome && chrom.unknown != Some(chromosome));
                    pairs += (g1 - g0) as f64 * own.map_or(0.0, |s| (s.2 - s.1) as f64);
                }
            }
            (2.0 * pairs * h, tables + 8.0 * (ge + pe) + 16.0 * members + 12.0 * heads * (ge + pe))
        }
        ("attend", false) => (4.0 * members * h / heads, 2.0 * tables + 20.0 * members + 8.0 * heads * (ge + pe)),
        ("pool", forward) => {
            let rows = (ge * d + pe * (d + xp / 4.0)) * 2.0 * (heads + 1.0);
            let bags = 4.0 * n(z.samples) * (heads + 1.0) * (gw + pw);
            let more = if forward { 0.0 } else { 8.0 * d * (gr + pr) };
            (rows * if forward { 1.0 } else { 2.0 }, 2.0 * (features + 8.0 * (ge + pe)) + bags + more)
        }
        ("head", forward) => {
            let maps = 2.0 * h * (gw + pw)
                + 4.0 * h * h
                + 2.0 * h * h
                + h * h / 2.0
                + h
                + if c.heads > 1 { 2.0 * h * h } else { 0.0 };
            let bytes = 4.0 * maps + 4.0 * n(z.samples) * (heads + 1.0) * (gw + pw);
            if forward { (2.0 * n(z.samples) * maps, bytes) } else { (4.0 * n(z.samples) * maps, 3.0 * bytes) }
        }
        ("translate", forward) => {
            let (genes, u, element) = (c.genes as f64, n(z.columns), 4.0);
            if forward {
                let mask = heads * genes * u / 8.0;
                (
                    2.0 * genes * u * h,
                    3.0 * element * h * (genes + u) + 2.0 * mask + 4.0 * n(z.positives) * genes * heads,
                )
            } else {
                let genes = active as f64;
                (6.0 * genes * u * h / heads, 4.0 * element * h * (genes / heads + u) + 4.0 * n(z.positives) * genes)
            }
        }
        ("cis", forward) => {
            let edges = case.model.cis.as_ref().map_or(0, |g| g.len()) as f64;
            let numbers = c.cis.as_ref().map_or(0, |c| c.components) as f64 + 2.0;
            let y = n(z.positives) * c.genes as f64;
            // Scores, sums over cells (an addition an edge and cell that has it), the map of every gene. Each table and row once.
            let each = if forward { 1.0 } else { 2.0 };
            let flops = each * (2.0 * edges * h + 2.0 * y * numbers)
                + 2.0 * edges * n(z.column_entries) / n(z.columns).max(1.0);
            (flops, each * (tables + 16.0 * edges + 8.0 * y + 4.0 * c.genes as f64 * (numbers + 1.0)))
        }
        ("contrast", forward) => {
            let (pairs, rows) = (n(z.positives) * n(z.positives), 4.0 * n(z.samples) * h);
            let each = if forward { 1.0 } else { 2.0 };
            (each * 2.0 * pairs * h, each * (2.0 * rows + 8.0 * pairs))
        }
        _ => {
            let n = case.model.params.layout().len() as f64;
            (14.0 * n, 36.0 * n)
        }
    }
}
