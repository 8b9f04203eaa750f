//! `kernels`: the GPU kernels and their variants. `list` shows them, `check` compares kernels with the CPU, `bench`
//! measures them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::context::Context;
use crate::device::image::cache_dir;
use crate::device::{Gpu, gpu, host, kernels};
use crate::error::{Error, Result};
use crate::model::Precision;
use crate::ops::registry;
use crate::ops::registry::Replacement;
use crate::parity::{Cases, bench, check_ops, trust};
use crate::simd;

/// Flags of `kernels`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Every kernel: op, entry point, variant, precisions, and what it takes of a GPU
    List,
    /// Compare the kernels of an op with the CPU op, number by number
    Check(CheckArgs),
    /// Measure the kernels of an op against the built-in ones
    Bench(BenchArgs),
}

/// Flags of `kernels check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// A .cu, .ptx, .cubin or .fatbin file, or the name of a variant [default: the built-in kernels]
    #[arg(value_name = "FILE", requires = "op")]
    file: Option<PathBuf>,
    /// The op it belongs to [without FILE: all ops]
    #[arg(long, value_name = "OP")]
    op: Option<String>,
    /// Where to run: host (on the CPU, no GPU needed), auto or cuda[:N]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    on: String,
    /// How matrices are multiplied [default: both for built-in kernels, f32 for a file]
    #[arg(long, value_name = "f32|bf16")]
    precision: Option<Precision>,
    /// Small cases only, also on a GPU
    #[arg(long)]
    quick: bool,
}

/// Flags of `kernels bench`.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// A .cu, .ptx, .cubin or .fatbin file, or the name of a variant [default: the built-in kernels alone]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The op
    #[arg(long, value_name = "OP")]
    op: String,
    /// Where to run: auto or cuda[:N]; host is a rehearsal whose times mean nothing
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    on: String,
    /// How matrices are multiplied
    #[arg(long, value_name = "f32|bf16", default_value = "f32")]
    precision: Precision,
    /// Pairs of the batch, half of them positives
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Times everything is measured
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
}

/// Runs the sub-verb.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    match &args.verb {
        Verb::List => list(ctx),
        Verb::Check(args) => check(args, ctx),
        Verb::Bench(args) => measure(args, ctx),
    }
}

fn list(ctx: &Context) -> Result<()> {
    let head = ["op", "entry point", "variant", "source", "precision", "same bits"].map(String::from).to_vec();
    let mut rows = vec![head];
    let head = ["entry point", "source", "target", "registers", "shared", "spill stores", "spill loads"];
    let mut taken = vec![head.map(String::from).to_vec()];
    let mut found = Vec::new();
    for v in registry::variants() {
        // Every output has one owner and sums run in a fixed order; of a file of a user's, nothing is promised.
        let same = if v.built_in { "yes" } else { "kernels check tells" };
        for (entry, name) in registry::defined(&v) {
            let source = format!("kernels/{}", v.file.path);
            let precision = match name.strip_prefix(entry.stem) {
                Some("_f32") => "f32",
                Some("_bf16") => "bf16",
                _ => "both",
            };
            rows.push([v.op, &name, v.name, &source, precision, same].map(String::from).to_vec());
            let own: Vec<_> = v.file.resources.iter().filter(|r| r.kernel == name).collect();
            for r in &own {
                let numbers = [r.registers, r.shared, r.spill_stores, r.spill_loads].map(|n| n.to_string());
                let names = [&name, &source, &*r.target].map(String::from);
                taken.push(names.into_iter().chain(numbers).collect());
            }
            let resources: Vec<_> = own
                .iter()
                .map(|r| {
                    json!({ "target": r.target, "registers": r.registers, "shared": r.shared, "stack": r.stack,
                        "spill_stores": r.spill_stores, "spill_loads": r.spill_loads })
                })
                .collect();
            found.push(json!({
                "op": v.op, "entry": name, "variant": v.name, "source": source, "precision": precision,
                "deterministic": v.built_in, "resources": resources,
            }));
        }
    }
    let isa = format!("{:?}", simd::isa()).to_lowercase();
    let mut text = columns(&rows);
    text += &match kernels::compiler() {
        Some(v) => format!(
            "\ncompiled by nvcc {v}; shared memory (without the dynamic part) and spills in bytes\n{}",
            columns(&taken)
        ),
        None => "\nbuilt without nvcc: sources only, compiled where they are used\n".to_string(),
    };
    text += "\nOn the CPU (--device cpu), each op is one Rust function, f32; f64 for checks; same bits on any number of \
             threads:\n";
    let cpu: Vec<_> = registry::names()
        .into_iter()
        .map(|op| {
            let source = format!("src/ops/{op}");
            text += &format!("  {op:<10} {source} ({isa}; SCCROSSREC_ISA chooses scalar, avx2, avx512 or vnni)\n");
            json!({ "op": op, "source": source, "isa": isa })
        })
        .collect();
    ctx.result(&text, &json!({ "kernels": found, "cpu": cpu, "compiler": kernels::compiler() }));
    Ok(())
}

/// A table of words, all to the left.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.len()).max().unwrap_or(0);
    let line = |r: &Vec<String>| {
        let cells: String = r.iter().enumerate().map(|(c, s)| format!("{s:<0$}  ", width(c))).collect();
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

/// The device that was asked for with `--on`.
fn open(on: &str) -> Result<Arc<Gpu>> {
    let on_host = || {
        host::install(&cache_dir().join("host"))?;
        let gpu = Gpu::open(0)?;
        if !gpu.is_host() {
            return Err(Error::usage(
                "--on host: the driver of a GPU was loaded already, which cannot be undone; use --on cuda",
            ));
        }
        Ok(gpu)
    };
    let number = |n: &str| if n.is_empty() { Some(0) } else { n.strip_prefix(':')?.parse::<u16>().ok() };
    match (on, on.strip_prefix("cuda").and_then(number)) {
        ("host", _) => on_host(),
        ("auto", _) if gpu::driver_present() => match Gpu::open(0) {
            Ok(gpu) => Ok(gpu),
            Err(e) => Err(Error::usage(format!("--on auto: {e}; use --on host to run kernels on the CPU"))),
        },
        ("auto", _) => on_host(),
        (_, Some(n)) => Gpu::open(usize::from(n)),
        _ => Err(Error::usage(format!("--on {on}: not a device; use host, auto or cuda[:N]"))),
    }
}

fn known(op: &str) -> Result<()> {
    match registry::names().contains(&op) {
        true => Ok(()),
        false => {
            Err(Error::usage(format!("--op {op}: no op of that name; there are {}", registry::names().join(", "))))
        }
    }
}

fn check(args: &CheckArgs, ctx: &Context) -> Result<()> {
    args.op.as_deref().map_or(Ok(()), known)?;
    if let Some(file) = &args.file {
        is_there(file, args.op.as_deref().unwrap_or_default())?;
    }
    let gpu = open(&args.on)?;
    let cases = if args.quick || gpu.is_host() { Cases::Quick } else { Cases::Full };
    let mut loaded = registry::load(&gpu)?;
    let replacement = match (&args.file, &args.op) {
        (Some(file), Some(op)) => Some(Replacement { op: op.clone(), source: file.clone() }),
        _ => None,
    };
    let mut replaced = Vec::new();
    if let Some(r) = &replacement {
        replaced = match args.precision {
            Some(p) => registry::apply_for(&mut loaded, &gpu, r, p)?,
            None => registry::apply(&mut loaded, &gpu, r)?,
        };
    }
    let precisions = match (args.precision, &replacement) {
        (Some(p), _) => vec![p],
        // Entry points of one precision only are checked in that one.
        (None, Some(_)) if replaced.iter().all(|n| n.ends_with("_bf16")) => vec![Precision::Bf16],
        (None, Some(_)) => vec![Precision::F32],
        (None, None) => vec![Precision::F32, Precision::Bf16],
    };
    let ops: Vec<&str> = args.op.as_deref().map_or(registry::names(), |op| vec![op]);
    let mut text = String::new();
    if let Some(r) = &replacement {
        text += &format!("{} replaces {}\n", r.source.display(), replaced.join(", "));
    }
    let mut reports = Vec::new();
    for precision in precisions {
        let report = check_ops(&gpu, &loaded, &ops, precision, cases, &ctx.follow())?;
        text += &report.table();
        if let (Some(r), true) = (&replacement, report.passed()) {
            trust::remember(&gpu, r, &trust::bytes(r)?, &report);
        }
        let failed = !report.passed();
        reports.push(report);
        if failed {
            break;
        }
    }
    let passed = reports.iter().all(|r| r.passed());
    ctx.result(
        &text,
        &json!({ "passed": passed, "file": args.file, "replaces": replaced, "on_host": gpu.is_host(), "reports": reports }),
    );
    match reports.iter().find_map(|r| r.first_failure()) {
        None => Ok(()),
        Some(row) => {
            let what = args.file.as_ref().map_or("the built-in kernels".into(), |f| f.display().to_string());
            Err(Error::usage(format!("{what}: {}", row.line())))
        }
    }
}

/// A file, or a variant's name?
fn is_there(file: &Path, op: &str) -> Result<()> {
    let names: Vec<&str> =
        registry::variants().into_iter().filter(|v| v.op == op && !v.built_in).map(|v| v.name).collect();
    if file.exists() || names.iter().any(|n| Path::new(n) == file) {
        return Ok(());
    }
    let known = if names.is_empty() { "no variant".into() } else { format!("the variants {}", names.join(", ")) };
    Err(Error::input(file, format!("no file of that name, and no variant of `{op}`"), format!("`{op}` has {known}")))
}

fn measure(args: &BenchArgs, ctx: &Context) -> Result<()> {
    known(&args.op)?;
    if let Some(file) = &args.file {
        is_there(file, &args.op)?;
    }
    if args.on == "auto" && !gpu::driver_present() {
        return Err(Error::usage(
            "kernels bench: there is no GPU here (no NVIDIA driver); --on host is a rehearsal whose times mean nothing",
        ));
    }
    let gpu = open(&args.on)?;
    let replacement = args.file.as_ref().map(|f| Replacement { op: args.op.clone(), source: f.clone() });
    let plan = bench::BenchPlan {
        op: args.op.clone(),
        precision: args.precision,
        samples: args.batch as usize,
        repeats: args.repeats as usize,
    };
    let report = bench::run(&gpu, replacement.as_ref(), &plan, &ctx.follow())?;
    ctx.result(&report.table(), &serde_json::to_value(&report).unwrap_or_default());
    Ok(())
}
