//! Every op and variant of the registry on a GPU, forward and backward, f32 and bf16, at NeurIPS-2021 shape, batch 1 and
//! 256, between CUDA events; the CPU's variants beside them: `cargo bench --bench kernels`.
//!
//! With `--quick` batch 1 only, and few rounds. The CPU is timed at batch 1, and at 32 without `--quick`. What a
//! measurement repeats is all launches of one pass of one op of a training step, on that step's own data; at batch 1 many
//! of them are shorter than a launch takes.

mod common;
#[path = "common/cpu.rs"]
mod cpu;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use sccrossrec::device::program::Pass;
use sccrossrec::engine::CudaDevice;
use sccrossrec::model::{Dropout, Precision};
use sccrossrec::ops::registry;
use sccrossrec::ops::registry::Replacement;

fn main() {
    let quick = std::env::args().any(|a| a == "--quick" || a == "--test") || common::rehearsing();
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(if quick { 100 } else { 300 }))
        .measurement_time(Duration::from_millis(if quick { 300 } else { 1000 }))
        .configure_from_args();
    let shape = common::shape();
    let (cells, model) = (common::Cells::new(&shape), common::model(&shape));
    match common::device() {
        Ok((gpu, kernels)) => {
            eprintln!("{}, shape {}", gpu.name(), shape.name);
            let device = |precision| CudaDevice { gpu: gpu.clone(), kernels: kernels.clone(), precision };
            for n in if quick { vec![1] } else { vec![1, 256] } {
                let batch = cells.batch(&model, n, |i| (i % 2 == 0).into());
                for precision in [Precision::F32, Precision::Bf16] {
                    for op in registry::names() {
                        for v in registry::variants().iter().filter(|v| v.op == op) {
                            // `translate` comes as two built-in files: one measurement has both.
                            if v.built_in && v.file.name != op {
                                continue;
                            }
                            let mut device = device(precision);
                            if !v.built_in {
                                let r = Replacement { op: op.into(), source: v.name.into() };
                                let names = registry::apply(&mut device.kernels, &gpu, &r).unwrap();
                                let other = if precision == Precision::F32 { "_bf16" } else { "_f32" };
                                if names.iter().all(|n| n.ends_with(other)) {
                                    continue; // it has nothing of its own in this precision
                                }
                            }
                            ops(&mut c, &device, &model, &batch, op, v.name);
                        }
                    }
                }
            }
        }
        Err(why) => eprintln!("no GPU here ({why}): the CPU's variants only"),
    }
    for n in if quick { vec![1] } else { vec![1, 32] } {
        cpu::ops(&mut c, &shape, &cells, &model, n, "cpu f32 ");
    }
    cpu::adam(&mut c, &model, "cpu f32 update");
}

/// All passes of one op.
fn ops(
    c: &mut Criterion,
    device: &CudaDevice,
    model: &sccrossrec::model::Model<f32>,
    batch: &sccrossrec::model::Batch<f32>,
    op: &'static str,
    variant: &str,
) {
    let mut engine = device.engine(model).unwrap();
    let staged = engine.stage(batch, Some(Dropout { seed: 906, step: 0 })).unwrap();
    let mut group = c.benchmark_group(op);
    for pass in [Pass::Forward, Pass::Backward, Pass::Update] {
        if !staged.steps().iter().any(|s| s.op == op && s.pass == pass && !s.launches.is_empty()) {
            continue;
        }
        let precision = device.precision.name();
        let name = format!("cuda {precision} {} {variant}", format!("{pass:?}").to_lowercase());
        group.bench_function(BenchmarkId::new(name, batch.len()), |b| {
            b.iter_custom(|rounds| {
                Duration::from_secs_f64(staged.seconds(|s| s.op == op && s.pass == pass, rounds).unwrap())
            });
        });
    }
    group.finish();
}
