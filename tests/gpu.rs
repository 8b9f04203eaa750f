//! Truth on a GPU: golden files, every op, training beside the CPU's, bf16 beside f32, and that nothing but the data and
//! the seed has a say in the result.
//!
//! Without a GPU every test says so and passes. `SCCROSSREC_GPU_REHEARSAL=1` runs them all on the CPU, on the driver that
//! stands in for a GPU, at a small shape. The program runs in any folder: `SCCROSSREC_GOLDEN` names the golden files.

#[path = "../benches/common/mod.rs"]
mod bench;
mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bench::{Cells, rehearsing, shape};
use common::compare::{Pass, check, deciding, vectors};
use common::golden::{Golden, error, f64s};
use common::tiny;
use sccrossrec::device::abi::StepRecord;
use sccrossrec::device::gpu::Kernels;
use sccrossrec::device::{BatchSizes, Gpu};
use sccrossrec::engine::{CudaDevice, Device, Engine, PassOptions};
use sccrossrec::model::output::{Output, Selection, Want};
use sccrossrec::model::{Batch, Decisions, Dropout, Features, Init, Model, ModelConfig, Precision};
use sccrossrec::ops::adam::AdamConfig;
use sccrossrec::ops::{adam, registry};
use sccrossrec::parity::{Cases, check_ops};
use sccrossrec::progress::Progress;
use sccrossrec::train;
use sccrossrec::train::{Observer, TrainConfig, TrainingStep};

/// The device, for one test at a time; none, and a word about it, where there is no GPU.
struct Rig {
    gpu: Arc<Gpu>,
    kernels: Kernels,
    _alone: MutexGuard<'static, ()>,
}

impl Rig {
    fn open() -> Option<Rig> {
        static ALONE: Mutex<()> = Mutex::new(());
        static DEVICE: OnceLock<Result<(Arc<Gpu>, Kernels), String>> = OnceLock::new();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        match DEVICE.get_or_init(bench::device) {
            Ok((gpu, kernels)) => Some(Rig { gpu: gpu.clone(), kernels: kernels.clone(), _alone: alone }),
            Err(why) => {
                println!("SKIPPED: no GPU here ({why})");
                None
            }
        }
    }

    fn engine(&self, model: &Model<f32>, precision: Precision) -> Engine {
        Engine::new(self.gpu.clone(), self.kernels.clone(), model, precision).unwrap()
    }

    fn device(&self, precision: Precision) -> Device {
        Device::Cuda(CudaDevice { gpu: self.gpu.clone(), kernels: self.kernels.clone(), precision })
    }
}

const BOTH: [Precision; 2] = [Precision::F32, Precision::Bf16];
const CHOICES: Want =
    Want { attention: true, translation: true, counts: false, nodes: false, decisions: true, cis: false };

fn all(g: &Golden) -> Vec<usize> {
    (0..g.usize("data.label").len()).collect()
}

/// The model's numbers, and parameters changed by `f`, in f64.
fn wide(model: &Model<f32>, f: impl Fn(f32) -> f32) -> Model<f64> {
    let s = model.features();
    let features = Features {
        gene_chrom: s.gene_chrom.clone(),
        peak_chrom: s.peak_chrom.clone(),
        chromosomes: s.chromosomes,
        unknown: s.unknown,
        gene_extra: f64s(&s.gene_extra),
        peak_dna: s.peak_dna.clone(),
    };
    let init = Init::PyTorch { embedding_std: 1.0 };
    let mut wide = Model::<f64>::new(model.config().clone(), Arc::new(features), init, 0).unwrap();
    let to = wide.params.as_mut_slice().iter_mut();
    to.zip(model.params.as_slice()).for_each(|(to, &x)| *to = f64::from(f(x)));
    wide
}

fn wide_batch(b: &Batch<f32>) -> Batch<f64> {
    let mut out = Batch::new();
    for i in 0..b.len() {
        let row = |(index, value): (&[u32], &[f32])| -> Vec<(u32, f64)> {
            index.iter().zip(value).map(|(&i, &v)| (i, f64::from(v))).collect()
        };
        out.push(b.label[i], b.sample[i], row(b.rna.row(i)), row(b.atac.row(i)));
    }
    out
}

/// A pass in f64 that follows these decisions.
fn following(model: &Model<f64>, batch: &Batch<f64>, given: &Decisions<f64>) -> (Output<f64>, Vec<f64>) {
    let mut grads = vec![0.0; model.params.layout().len()];
    let run = PassOptions { grads: Some(&mut grads), given: Some(given), want: CHOICES, ..PassOptions::default() };
    let output = model.run(batch, run).unwrap();
    (output, grads)
}

/// Samples `from..from + n`, every other one a positive.
fn samples(model: &Model<f32>, cells: &Cells, from: usize, n: usize) -> Batch<f32> {
    let mut batch = Batch::new();
    for i in from..from + n {
        let (genes, peaks) = cells.cell(model, i as u64);
        batch.push((i % 2 == 0).into(), i as u64, genes, peaks);
    }
    batch
}

/// Every golden file: loss, logits, embedding, attention, translation and every gradient within 1e-4 of the tensor's
/// largest magnitude. Where a decision hangs on a limit, the comparison is with the CPU's f64 (the oracle to 1e-9), told to
/// decide likewise.
fn golden_file(rig: &Rig, g: &Golden) {
    let model = g.model::<f32>();
    let (batch, orders) = g.batch(&model, &all(g));
    let mut engine = rig.engine(&model, Precision::F32);
    let output = engine.gradients(&batch, None, CHOICES).unwrap();
    let grads = engine.grads().unwrap();
    let exact = g.model::<f64>();
    let (exact_batch, _) = g.batch(&exact, &all(g));
    let mut scratch = vec![0.0; grads.len()];
    let free = exact
        .run(&exact_batch, PassOptions { want: CHOICES, grads: Some(&mut scratch), ..PassOptions::default() })
        .unwrap();
    let own = output.decisions.clone().unwrap();
    let differing = deciding(g, &free.decisions.unwrap(), &own);
    let mut worst = 0.0f64;
    if differing == 0 {
        check(g, &Pass { output, grads, orders }, 1e-4, &mut worst);
    } else {
        let (want, want_grads) = following(&exact, &exact_batch, &own.cast());
        let mut near = |what: &str, got: &[f32], want: &[f64]| {
            let e = error(&f64s(got), want);
            worst = worst.max(e);
            assert!(e <= 1e-4, "{}: {what} is off by {e:.2e} of its largest magnitude", g.name);
        };
        near("loss", &[output.loss], &[want.loss]);
        near("logits", &output.logits, &want.logits);
        near("embedding", &output.embedding, &want.embedding);
        for e in model.params.layout().entries() {
            near(&format!("gradient of {}", e.name), &grads[e.range.clone()], &want_grads[e.range.clone()]);
        }
    }
    println!("{:<22} f32 worst {worst:.1e}, decisions that differ: {differing}", g.name);
}

#[test]
fn golden_files() {
    let Some(rig) = Rig::open() else { return };
    vectors().iter().for_each(|g| golden_file(&rig, g));
}

/// Every op of the registry against the op on the CPU, pass by pass.
fn every_op(precision: Precision) {
    let Some(rig) = Rig::open() else { return };
    let cases = if rehearsing() { Cases::Quick } else { Cases::Full };
    let report = check_ops(&rig.gpu, &rig.kernels, &registry::names(), precision, cases, &()).unwrap();
    println!("{}", report.table());
    for op in registry::names() {
        assert!(report.rows.iter().any(|r| r.op == op), "{op} was not checked");
    }
    assert!(report.passed(), "{}", report.first_failure().map_or("other bits in the second run".into(), |r| r.line()));
}

#[test]
fn every_op_f32() {
    every_op(Precision::F32);
}

#[test]
fn every_op_bf16() {
    every_op(Precision::Bf16);
}

/// Small, and through every kernel: what the sanitizers are run on.
#[test]
fn quick_parity() {
    let Some(rig) = Rig::open() else { return };
    for g in vectors().iter().filter(|g| ["few_peaks_two_heads", "gene_features", "wide"].contains(&&*g.name)) {
        golden_file(&rig, g);
        for precision in BOTH {
            let model = g.model::<f32>();
            let (batch, _) = g.batch(&model, &all(g));
            let mut engine = rig.engine(&model, precision);
            for step in 0..3 {
                let record = engine.train_step(&batch, Some(Dropout { seed: 906, step })).unwrap();
                assert!(record.loss.is_finite() && record.applied == 1, "{}: {record:?}", g.name);
            }
            engine.forward(&batch, Want { counts: true, ..CHOICES }).unwrap();
        }
    }
}

/// Ten steps with dropout and Adam, on the CPU and on the GPU, both in f32: each loss within 1e-3.
#[test]
fn ten_steps_as_on_the_cpu() {
    let Some(rig) = Rig::open() else { return };
    let shape = shape();
    let (mut model, cells) = (bench::model(&shape), Cells::new(&shape));
    let size = if rehearsing() { 6 } else { 16 };
    let batches: Vec<Batch<f32>> = (0..3).map(|i| samples(&model, &cells, i * size, size)).collect();
    let mut engine = rig.engine(&model, Precision::F32);
    let n = model.params.layout().len();
    let (mut grads, mut m, mut v) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let mut worst = 0.0f64;
    for step in 0..10 {
        let (batch, dropout) = (&batches[step as usize % 3], Dropout { seed: 906, step });
        let cpu = model.train_step(batch, Some(dropout), &mut grads).unwrap();
        adam::step(model.params.as_mut_slice(), &mut grads, &mut m, &mut v, &AdamConfig::default(), step + 1);
        let gpu = engine.train_step(batch, Some(dropout)).unwrap();
        for (name, a, b) in [
            ("loss", cpu.loss, gpu.loss),
            ("matching loss", cpu.match_loss, gpu.match_loss),
            ("translation loss", cpu.translation_loss, gpu.translation_loss),
        ] {
            let off = f64::from((a - b).abs() / a.abs().max(1e-3));
            worst = worst.max(off);
            assert!(off <= 1e-3, "step {}: {name} {a} on the CPU, {b} on the GPU", step + 1);
        }
    }
    println!("ten steps of {size} samples: losses within {worst:.1e}");
}

/// Root mean square.
fn rms(x: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = x.fold((0.0, 0usize), |(s, n), x| (s + x * x, n + 1));
    (sum / n.max(1) as f64).sqrt()
}

/// The error of bf16 is measured in the error of the plain thing to do: f64 arithmetic on parameters rounded to bf16, told
/// to decide likewise. Outputs may have twice that, each gradient tensor three times, in root mean square; a share of
/// 1e-5 of the tensor's own size is granted besides.
#[test]
fn bf16_is_as_good_as_bf16_can_be() {
    let Some(rig) = Rig::open() else { return };
    let shape = shape();
    let (model, cells) = (bench::model(&shape), Cells::new(&shape));
    let batch = samples(&model, &cells, 0, if rehearsing() { 6 } else { 4 });
    let mut engine = rig.engine(&model, Precision::Bf16);
    let got = engine.gradients(&batch, None, CHOICES).unwrap();
    let grads = engine.grads().unwrap();
    let (given, batch) = (got.decisions.clone().unwrap().cast(), wide_batch(&batch));
    let (exact, exact_grads) = following(&wide(&model, |x| x), &batch, &given);
    let rounded = wide(&model, |x| half::bf16::from_f32(x).to_f32());
    let (plain, plain_grads) = following(&rounded, &batch, &given);
    let mut failed = Vec::new();
    let mut compare = |what: &str, times: f64, got: &[f32], exact: &[f64], plain: &[f64]| {
        let off = rms(got.iter().zip(exact).map(|(a, b)| f64::from(*a) - b));
        let limit = rms(plain.iter().zip(exact).map(|(a, b)| a - b));
        let size = rms(exact.iter().copied());
        println!("{what:<60} size {size:.1e}, off by {off:.1e}, plain bf16 by {limit:.1e}");
        if off.is_nan() || off > times * limit + 1e-5 * size {
            failed.push(what.to_string());
        }
    };
    compare("logits", 2.0, &got.logits, &exact.logits, &plain.logits);
    compare("embedding", 2.0, &got.embedding, &exact.embedding, &plain.embedding);
    for e in model.params.layout().entries() {
        let r = e.range.clone();
        let what = format!("gradient of {}", e.name);
        compare(&what, 3.0, &grads[r.clone()], &exact_grads[r.clone()], &plain_grads[r]);
    }
    assert!(failed.is_empty(), "too far off: {}", failed.join(", "));
}

/// Places and passing pairs of two selections: (common, in either).
fn agreement(a: &[Selection<f32>], b: &[Selection<f32>]) -> [(usize, usize); 2] {
    let set = |all: &[Selection<f32>], passing: bool| -> std::collections::BTreeSet<(usize, u8, u32, u32)> {
        let mut out = std::collections::BTreeSet::new();
        for (i, s) in all.iter().enumerate() {
            for (r, &(head, gene)) in s.rows.iter().enumerate() {
                let members = s.start[r] as usize..s.start[r + 1] as usize;
                out.extend(members.filter(|&m| !passing || s.kept[m]).map(|m| (i, head, gene, s.peak[m])));
            }
        }
        out
    };
    [false, true].map(|passing| {
        let (a, b) = (set(a, passing), set(b, passing));
        (a.intersection(&b).count(), a.union(&b).count())
    })
}

/// How often bf16 decides as f32 does: at least 97 % of the places and of the passing pairs, 98 % of the predicted genes.
#[test]
fn bf16_decides_as_f32() {
    let Some(rig) = Rig::open() else { return };
    let shape = shape();
    let (model, cells) = (bench::model(&shape), Cells::new(&shape));
    let batch = samples(&model, &cells, 0, 16);
    let [a, b] = BOTH.map(|p| rig.engine(&model, p).forward(&batch, CHOICES).unwrap().decisions.unwrap());
    let [places, passing] = agreement(&a.attend, &b.attend);
    let same = a.translate.iter().zip(&b.translate).filter(|(x, y)| x == y).count();
    for (what, (same, of), floor) in [
        ("places", places, 0.97),
        ("passing pairs", passing, 0.97),
        ("predicted genes", (same, a.translate.len()), 0.98),
    ] {
        let rate = same as f64 / of.max(1) as f64;
        println!("bf16 decides as f32: {what} {:.3} % of {of}", 100.0 * rate);
        assert!(of > 0 && rate >= floor, "{what}: {same} of {of}");
    }
}

fn bits(records: &[StepRecord]) -> Vec<[u32; 4]> {
    records.iter().map(|r| [r.loss, r.match_loss, r.translation_loss, r.norm].map(f32::to_bits)).collect()
}

/// `n` pipelined steps from step number `first`, on batches that are a function of the step.
fn train_steps(engine: &mut Engine, model: &Model<f32>, cells: &Cells, first: usize, n: usize) -> Vec<StepRecord> {
    let size = if rehearsing() { 5 } else { 32 };
    let make = |i: usize| samples(model, cells, (first + i) % 4 * size, size);
    let mut room = BatchSizes::default();
    for i in 0..4 {
        let batch = make(i);
        let most = |rows: &sccrossrec::csr::Csr<f32>| (0..rows.rows()).map(|r| rows.row(r).0.len()).max().unwrap_or(0);
        room = room.max(&BatchSizes::bound(model.config(), size, most(&batch.rna), most(&batch.atac), 1).unwrap());
    }
    engine.reserve(&room, |_, _| None).unwrap();
    let mut records = Vec::new();
    let told = |i: usize, r: &StepRecord| {
        assert!(i == records.len() && r.applied == 1, "step {i}: {r:?}");
        records.push(*r);
        true
    };
    engine.train_batches(n, make, Dropout { seed: 906, step: first as u64 }, told).unwrap();
    assert_eq!(records.len(), n);
    records
}

/// All of a device's state.
fn state(engine: &Engine) -> [Vec<u32>; 3] {
    let (m, v) = engine.moments().unwrap();
    [engine.params().unwrap(), m, v].map(|x| x.iter().map(|x| x.to_bits()).collect())
}

/// Twenty steps in one go, and ten, the state read back and given to another engine, and ten: bit for bit the same.
#[test]
fn reloaded_state_goes_on_bit_for_bit() {
    let Some(rig) = Rig::open() else { return };
    let (mut model, cells) = (bench::model(&shape()), Cells::new(&shape()));
    for precision in BOTH {
        let mut straight = rig.engine(&model, precision);
        let want = train_steps(&mut straight, &model, &cells, 0, 20);
        let mut first = rig.engine(&model, precision);
        let mut got = train_steps(&mut first, &model, &cells, 0, 10);
        let (params, (m, v)) = (first.params().unwrap(), first.moments().unwrap());
        drop(first);
        let fresh = model.params.as_slice().to_vec();
        model.params.as_mut_slice().copy_from_slice(&params);
        let mut second = rig.engine(&model, precision);
        second.set_moments(&m, &v, 10, true).unwrap();
        got.extend(train_steps(&mut second, &model, &cells, 10, 10));
        assert_eq!(bits(&got), bits(&want), "{precision:?}");
        assert!(state(&second) == state(&straight), "{precision:?}: other parameters or moments");
        model.params.as_mut_slice().copy_from_slice(&fresh);
    }
}

/// Graphs or launches, one thread that packs or several, and the same again: bit for bit the same.
#[test]
fn graphs_and_threads_change_no_bit() {
    let Some(rig) = Rig::open() else { return };
    let (model, cells) = (bench::model(&shape()), Cells::new(&shape()));
    for precision in BOTH {
        let run = |graphs: bool, threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut engine = rig.engine(&model, precision);
                engine.set_graphs(graphs);
                let records = train_steps(&mut engine, &model, &cells, 0, 12);
                (bits(&records), state(&engine))
            })
        };
        let want = run(true, 2);
        for (graphs, threads) in [(false, 2), (true, 1), (true, 7), (true, 2)] {
            let got = run(graphs, threads);
            assert_eq!(got.0, want.0, "{precision:?}, graphs {graphs}, {threads} threads");
            assert!(got.1 == want.1, "{precision:?}, graphs {graphs}, {threads} threads: other parameters");
        }
    }
}

/// Asks to stop after this many steps.
struct StopAfter(u64);

impl Observer for StopAfter {
    fn step(&mut self, _: &TrainingStep) {
        self.0 = self.0.saturating_sub(1);
    }
}

impl Progress for StopAfter {
    fn stop(&self) -> Option<i32> {
        (self.0 == 0).then_some(130)
    }
}

/// All files of a run's checkpoints.
fn checkpoints(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().path());
    files.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&p).unwrap())).collect()
}

/// A run on files: interrupted and resumed, or with other numbers of threads, its checkpoints are the same to the byte.
#[test]
fn runs_resume_and_take_any_threads() {
    let Some(rig) = Rig::open() else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    for (precision, recipe) in BOTH.into_iter().flat_map(|p| ["large-batch", "default"].map(|r| (p, r))) {
        let device = rig.device(precision);
        let base = train::recipe(recipe).unwrap();
        let model = ModelConfig { hidden: 16, embedding_dim: 16, heads: 2, ..base.model };
        let config = TrainConfig { epochs: 3, batch_size: 8, model, checkpoint_minutes: None, precision, ..base };
        let straight = |name: &str, threads: usize| {
            let out = dir.path().join(format!("{name}-{recipe}-{precision:?}"));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train::train_on(&device, &data, &set, &config, &out, &mut ())).unwrap();
            checkpoints(&out)
        };
        let want = straight("one", 1);
        assert!(want == straight("five", 5), "{recipe}, {precision:?}: the number of threads has a say");
        let out = dir.path().join(format!("stopped-{recipe}-{precision:?}"));
        let stopped = train::train_on(&device, &data, &set, &config, &out, &mut StopAfter(5));
        assert!(matches!(stopped, Err(sccrossrec::Error::Interrupted { .. })));
        train::resume_on(&device, &data, &set, &config, &out, &mut ()).unwrap();
        assert!(want == checkpoints(&out), "{recipe}, {precision:?}: resuming has a say");
    }
}
