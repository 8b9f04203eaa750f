//! The CUDA engine, run on the CPU: the same kernel sources, launched by the same code through a stand-in driver. Golden
//! files end to end, training steps equal to the CPU's, resume, failures of the driver.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard};

use common::compare::{Pass, attention, check, deciding, vectors};
use common::golden::{self, Golden, error, f64s};
use common::program::{one_test, passed};
use common::runs::stopped_and_resumed;
use common::tiny;
use sccrossrec::dataset::DataSet;
use sccrossrec::device::gpu::{Kernels, Launch};
use sccrossrec::device::{BatchSizes, Gpu, abi, host, image};
use sccrossrec::engine::{CudaDevice, Device, Engine, PassOptions};
use sccrossrec::model::output::Want;
use sccrossrec::model::{
    Batch, CisConfig, CisGraph, CisTarget, Decisions, Dropout, Features, Init, Model, ModelConfig, Precision,
};
use sccrossrec::ops::adam::{AdamConfig, Decay};
use sccrossrec::ops::registry;
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::progress::Progress;
use sccrossrec::rng::Rng;
use sccrossrec::train;
use sccrossrec::train::{Checkpoint, Observer, OnNan, Schedule, TrainConfig, TrainingStep};
use sccrossrec::vocabulary::{Gene, Peak, Vocabulary};
use std::sync::Mutex;

/// Held by tests that share the driver; whoever counts what the driver does holds it alone.
static DRIVER: RwLock<()> = RwLock::new(());

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("device-cache")
}

/// The host-run device, with all kernels.
fn open() -> (Arc<Gpu>, Kernels) {
    static DEVICE: OnceLock<(Arc<Gpu>, Kernels)> = OnceLock::new();
    DEVICE
        .get_or_init(|| {
            host::install(&cache().join("host")).unwrap();
            let gpu = Gpu::open(0).unwrap();
            assert!(gpu.is_host());
            let kernels = registry::load(&gpu).unwrap();
            (gpu, kernels)
        })
        .clone()
}

struct Shared(CudaDevice, #[allow(dead_code)] RwLockReadGuard<'static, ()>);

fn shared(precision: Precision) -> Shared {
    let guard = DRIVER.read().unwrap_or_else(|e| e.into_inner());
    let (gpu, kernels) = open();
    Shared(CudaDevice { gpu, kernels, precision }, guard)
}

impl Shared {
    fn engine(&self, model: &Model<f32>) -> Engine {
        self.0.engine(model).unwrap()
    }

    fn device(&self) -> Device {
        Device::Cuda(self.0.clone())
    }
}

const WANT: Want =
    Want { attention: true, translation: true, counts: false, nodes: false, decisions: true, cis: false };

fn all(g: &Golden) -> Vec<usize> {
    (0..g.usize("data.label").len()).collect()
}

/// The oracle's decisions.
fn decisions(g: &Golden) -> Decisions<f64> {
    let model = g.model::<f64>();
    let (batch, _) = g.batch(&model, &all(g));
    let mut grads = vec![0.0; model.params.layout().len()];
    model
        .run(&batch, PassOptions { want: WANT, grads: Some(&mut grads), ..PassOptions::default() })
        .unwrap()
        .decisions
        .unwrap()
}

fn golden_on(d: &Shared, g: &Golden) -> Pass<f32> {
    let model = g.model::<f32>();
    let (batch, orders) = g.batch(&model, &all(g));
    let mut engine = d.engine(&model);
    let output = engine.gradients(&batch, None, WANT).unwrap();
    Pass { output, grads: engine.grads().unwrap(), orders }
}

#[test]
fn golden_files() {
    let d = shared(Precision::F32);
    for g in vectors() {
        let pass = golden_on(&d, &g);
        let differing = deciding(&g, &decisions(&g), pass.output.decisions.as_ref().unwrap());
        assert_eq!(differing, 0, "{}: decisions near a limit fell otherwise", g.name);
        let mut worst = 0.0;
        check(&g, &pass, 1e-4, &mut worst);
        println!("{:<22} device f32 worst {worst:.1e}, decisions that differ: 0", g.name);
    }
}

#[test]
fn golden_thirty_adam_steps() {
    let d = shared(Precision::F32);
    let runs: Vec<Golden> = golden::all().into_iter().filter(|g| g.has("out.losses")).collect();
    assert!(!runs.is_empty());
    for g in runs {
        let model = g.model::<f32>();
        let mut engine = d.engine(&model);
        let number = |k: &str| g.config[k].as_f64().unwrap();
        engine.set_adam(AdamConfig {
            lr: number("lr"),
            beta1: number("beta1"),
            beta2: number("beta2"),
            eps: number("eps"),
            weight_decay: number("weight_decay"),
        });
        let size = g.shape("data.batches")[1];
        let mut losses = Vec::new();
        for which in g.usize("data.batches").chunks_exact(size) {
            let (batch, _) = g.batch(&model, which);
            let record = engine.train_step(&batch, None).unwrap();
            assert_eq!((record.finite, record.applied), (1, 1));
            losses.push(f64::from(record.loss));
        }
        let off = error(&losses, &g.f64("out.losses"));
        assert!(off <= 1e-4, "{}: losses off by {off:.1e}", g.name);
        let params = engine.params().unwrap();
        let mut worst = 0.0f64;
        for e in model.params.layout().entries() {
            let off = error(&f64s(&params[e.range.clone()]), &g.f64(&format!("final.{}", e.name)));
            assert!(off <= 1e-3, "{}: {} off by {off:.1e} after 30 steps", g.name, e.name);
            worst = worst.max(off);
        }
        println!("{:<22} losses {off:.1e}, parameters {worst:.1e}", g.name);
    }
}

/// bf16 rounds its operands to eight bits: near the f32 results, and most decisions are the same.
#[test]
fn golden_files_in_bf16_are_near() {
    let d = shared(Precision::Bf16);
    for g in vectors().iter().filter(|g| ["counts", "two_heads", "wide"].contains(&g.name.as_str())) {
        let p = golden_on(&d, g);
        let off = error(&f64s(&p.output.logits), &g.f64("out.logits"));
        assert!(off < 0.1, "{}: logits off by {off:.1e}", g.name);
        let (own, oracle) = (p.output.decisions.unwrap().translate, decisions(g).translate);
        let same = own.iter().zip(&oracle).filter(|(a, b)| a == b).count() as f64 / own.len() as f64;
        assert!(same > 0.97, "{}: only {same:.4} of the predictions agree", g.name);
        println!("{:<22} device bf16: logits off by {off:.1e}, predictions that agree {same:.4}", g.name);
    }
}

/// Counts, embeddings and attention of a forward pass are the CPU's.
#[test]
fn forward_equals_the_cpu() {
    let d = shared(Precision::F32);
    for heads in [1, 2] {
        let (model, batch) = random(heads, 5, 3);
        let want = Want { counts: true, ..WANT };
        let cpu = model.forward(&batch, want).unwrap();
        let mut engine = d.engine(&model);
        let gpu = engine.forward(&batch, want).unwrap();
        assert_eq!(cpu.counts, gpu.counts);
        assert_eq!(cpu.translation, gpu.translation);
        assert!(error(&f64s(&gpu.embedding), &f64s(&cpu.embedding)) < 1e-5);
        assert!((gpu.translation_loss - cpu.translation_loss).abs() <= 1e-5 * cpu.translation_loss);
        let key = |o: &sccrossrec::model::output::Output<f32>| {
            let order = |n| (0..n).collect::<Vec<_>>();
            let orders = (0..batch.len()).map(|b| [order(batch.rna.row(b).0.len()), order(batch.atac.row(b).0.len())]);
            attention(&Pass { output: o.clone(), grads: vec![], orders: orders.collect() })
        };
        let (a, b) = (key(&cpu), key(&gpu));
        assert!(!a.is_empty() && a.keys().eq(b.keys()), "heads {heads}: other pairs");
        // Without translation the gene table has the batch's genes only.
        let bare = engine.forward(&batch, Want::default()).unwrap();
        assert!(error(&f64s(&bare.logits), &f64s(&cpu.logits)) < 1e-5 && bare.translation_loss == 0.0);
    }
}

/// A model and a batch with awkward cells: one gene, one peak, a chromosome without peaks, accessibilities above 1.
fn random(heads: usize, samples: usize, stream: u64) -> (Model<f32>, Batch<f32>) {
    let model =
        model_of(ModelConfig { hidden: 20, heads, embedding_dim: 12, chromosomes: 4, ..ModelConfig::default() });
    let batch = cells(&model, samples, stream);
    (model, batch)
}

/// A model of 70 genes and 300 peaks with features and DNA.
fn model_of(config: ModelConfig) -> Model<f32> {
    let mut r = Rng::new(11, 4);
    let (genes, peaks, chromosomes) = (70, 300, config.chromosomes);
    let features = Features::<f32> {
        gene_chrom: (0..genes).map(|_| r.below(chromosomes) as u32).collect(),
        peak_chrom: (0..peaks).map(|_| r.below((chromosomes - 1).max(1)) as u32).collect(),
        chromosomes,
        unknown: None,
        gene_extra: (0..genes * 2).map(|_| r.normal() as f32).collect(),
        peak_dna: (0..peaks * 20).map(|_| r.below(5) as u8).collect(),
    };
    let config = ModelConfig { genes, peaks, gene_extra: 2, dna_length: 20, ..config };
    Model::new(config, Arc::new(features), Init::PyTorch { embedding_std: 1.0 }, 3).unwrap()
}

/// The model with places for its genes and peaks, some genes without, and all terms of the loss.
fn with_terms(config: ModelConfig, cis: CisConfig) -> Model<f32> {
    let window = cis.window;
    let published = model_of(ModelConfig { contrast: 0.6, match_weight: 1.4, ..config });
    let mut r = Rng::new(31, 7);
    let f = published.features();
    let gene = |(i, &chrom): (usize, &u32)| Gene {
        name: String::new(),
        chrom,
        tss: (i % 5 != 0).then(|| r.below(60_000) as i64),
    };
    let genes = f.gene_chrom.iter().enumerate().map(gene).collect();
    let peak = |&chrom: &u32| {
        let start = r.below(60_000) as i64;
        Peak { name: String::new(), chrom, start, end: start + 100 }
    };
    let peaks = f.peak_chrom.iter().map(peak).collect();
    let chromosomes = (0..f.chromosomes).map(|c| format!("chr{}", c + 1)).collect();
    let graph = CisGraph::new(&Vocabulary { chromosomes, genes, peaks, ..Vocabulary::default() }, window);
    assert!(!graph.is_empty() && graph.whole.contains(&true));
    let config = ModelConfig { cis: Some(cis), ..published.config().clone() };
    let init = Init::PyTorch { embedding_std: 1.0 };
    let mut model = Model::with_cis(config, f.clone(), Arc::new(graph), init, 3).unwrap();
    let layout = model.params.layout().clone();
    for e in layout.entries().iter().filter(|e| e.name.starts_with("cis.")) {
        model.params.as_mut_slice()[e.range.clone()].iter_mut().for_each(|x| *x = 0.3 * r.normal() as f32);
    }
    model
}

/// The cis term, the contrastive one and weights of the others: predictions, losses and every gradient as on the CPU.
#[test]
fn terms_equal_the_cpu() {
    let d = shared(Precision::F32);
    let cis = CisConfig {
        weight: 0.3,
        window: 9_000,
        components: 5,
        target: CisTarget::Detection,
        sparsity: 0.7,
        depth: [[3.0, 0.5], [5.0, 0.4]],
    };
    let level = CisConfig { target: CisTarget::Level, components: 0, sparsity: 0.0, ..cis.clone() };
    for (cis, alpha, heads, samples) in
        [(cis.clone(), 0.0, 1, 5), (cis.clone(), 0.8, 2, 70), (level.clone(), 0.0, 2, 3), (cis, 0.0, 1, 1)]
    {
        let base =
            ModelConfig { hidden: 20, heads, embedding_dim: 12, chromosomes: 4, alpha, ..ModelConfig::default() };
        let model = with_terms(base, cis);
        let batch = cells(&model, samples, 8);
        let want = Want { cis: true, ..WANT };
        let mut grads = vec![0.0; model.params.layout().len()];
        let cpu = model.run(&batch, PassOptions { want, grads: Some(&mut grads), ..PassOptions::default() }).unwrap();
        let mut engine = d.engine(&model);
        let gpu = engine.gradients(&batch, None, want).unwrap();
        assert_eq!(cpu.translation, gpu.translation);
        for (name, a, b) in [
            ("loss", cpu.loss, gpu.loss),
            ("matching", cpu.match_loss, gpu.match_loss),
            ("translation", cpu.translation_loss, gpu.translation_loss),
            ("cis", cpu.cis_loss, gpu.cis_loss),
            ("contrast", cpu.contrast_loss, gpu.contrast_loss),
        ] {
            assert!((a - b).abs() <= 1e-5 * a.abs().max(1e-2), "{samples} samples, {name}: {a} on the CPU, {b} here");
        }
        assert!(cpu.cis_loss > 0.0 && (samples == 1) == (cpu.contrast_loss == 0.0));
        for (a, b) in [(&cpu.cis, &gpu.cis), (&cpu.cis_blind, &gpu.cis_blind)] {
            let flat = |x: &Vec<Vec<f32>>| f64s(&x.concat());
            assert!(a.iter().map(Vec::len).eq(b.iter().map(Vec::len)) && error(&flat(b), &flat(a)) < 1e-5);
        }
        let got = engine.grads().unwrap();
        for e in model.params.layout().entries() {
            let off = error(&f64s(&got[e.range.clone()]), &f64s(&grads[e.range.clone()]));
            assert!(off <= 1e-4, "{samples} samples: gradient of {} off by {off:.1e}", e.name);
            let moved = grads[e.range.clone()].iter().any(|&g| g != 0.0);
            assert!(moved || samples == 1 || e.range.is_empty(), "{}: no gradient", e.name);
        }
        // Forward alone, and without being told to predict.
        let forward = model.forward(&batch, want).unwrap();
        let again = engine.forward(&batch, want).unwrap();
        assert_eq!(forward.translation, again.translation);
        assert!((forward.loss - again.loss).abs() <= 1e-5 * forward.loss);
        let bare = engine.forward(&batch, Want::default()).unwrap();
        assert!(bare.cis.is_empty() && bare.cis_loss == 0.0 && bare.translation.is_empty());
    }
}

/// Sizes that are no multiple of anything, and larger than what a kernel holds at a time.
#[test]
fn awkward_sizes() {
    let d = shared(Precision::F32);
    for (hidden, heads, embedding_dim, chromosomes, top_k) in
        [(264, 1, 5, 300, 10), (2, 1, 1, 1, 32), (6, 3, 3, 2, 1), (130, 1, 301, 40, 32), (600, 2, 16, 3, 3)]
    {
        let config = ModelConfig { hidden, heads, embedding_dim, chromosomes, top_k, ..ModelConfig::default() };
        let model = model_of(config);
        let batch = cells(&model, 5, 9);
        let mut want = vec![0.0; model.params.layout().len()];
        let cpu =
            model.run(&batch, PassOptions { want: WANT, grads: Some(&mut want), ..PassOptions::default() }).unwrap();
        let mut engine = d.engine(&model);
        let gpu = engine.gradients(&batch, None, WANT).unwrap();
        assert_eq!(cpu.translation, gpu.translation, "hidden {hidden}");
        let members = |o: &sccrossrec::model::output::Output<f32>| {
            let list = &o.decisions.as_ref().unwrap().attend;
            list.iter().map(|s| (s.rows.clone(), s.peak.clone(), s.kept.clone())).collect::<Vec<_>>()
        };
        assert_eq!(members(&cpu), members(&gpu), "hidden {hidden}");
        let got = engine.grads().unwrap();
        for e in model.params.layout().entries() {
            let off = error(&f64s(&got[e.range.clone()]), &f64s(&want[e.range.clone()]));
            assert!(off <= 1e-4, "hidden {hidden}: gradient of {} off by {off:.1e}", e.name);
        }
    }
}

fn cells(model: &Model<f32>, samples: usize, stream: u64) -> Batch<f32> {
    let mut r = Rng::new(12, stream);
    let (genes, peaks) = (model.config().genes, model.config().peaks);
    let mut batch = Batch::new();
    for i in 0..samples {
        let mut pick = |n: usize, p: f64, chrom: &[u32]| {
            let mut list: Vec<u32> = (0..n as u32).filter(|_| r.uniform() < p).collect();
            if list.is_empty() {
                list.push(r.below(n) as u32);
            }
            list.sort_by_key(|&i| (chrom[i as usize], i));
            list.into_iter().map(|i| (i, 1.0 + r.below(3) as f32)).collect::<Vec<_>>()
        };
        let f = model.features();
        let (pg, pp) = if i == 1 { (0.0, 0.0) } else { (0.3, 0.5) };
        batch.push(u8::from(i % 2 == 0), i as u64, pick(genes, pg, &f.gene_chrom), pick(peaks, pp, &f.peak_chrom));
    }
    batch
}

/// Cells of two published data sets, at the model's own sizes: losses, decisions and every gradient as on the CPU.
#[test]
fn real_cells_equal_the_cpu() {
    let Some(root) = std::env::var_os("SCCROSSREC_TEST_DATA").map(PathBuf::from) else {
        println!("SKIPPED: SCCROSSREC_TEST_DATA does not name the folder of the real data");
        return;
    };
    let d = shared(Precision::F32);
    let dir = tempfile::tempdir().unwrap();
    for (name, gtf, samples) in
        [("neurips2021_starter", "gencode.v43.genes.gtf.gz", 16), ("snare_cortex", "gencode.vM23.genes.gtf.gz", 6)]
    {
        let at = |file: &str| root.join(name).join(file);
        let config = PrepareConfig {
            gtf: Some(root.join("gtf").join(gtf)),
            ..PrepareConfig::new(at("rna.h5ad"), at("atac.h5ad"))
        };
        let out = dir.path().join(name);
        prepare(&config, &out, &()).unwrap();
        let data = DataSet::open(&out).unwrap();
        let set = data.samples("default").unwrap();
        for recipe in ["large-batch", "default"] {
            let model = train::recipe(recipe).unwrap().start(&data, &set).unwrap();
            let batch = data.batch(&set, &set.train[..samples]);
            let want_of = Want { cis: recipe == "default", ..WANT };
            let dropout = Some(Dropout { seed: 3, step: 8 });
            let mut want = vec![0.0; model.params.layout().len()];
            let cpu = model
                .run(&batch, PassOptions { dropout, want: want_of, grads: Some(&mut want), ..PassOptions::default() })
                .unwrap();
            let mut engine = d.engine(&model);
            let gpu = engine.gradients(&batch, dropout, want_of).unwrap();
            assert!(
                (gpu.loss - cpu.loss).abs() <= 1e-5 * cpu.loss,
                "{name}, {recipe}: {} against {}",
                gpu.loss,
                cpu.loss
            );
            for (a, b) in [(&cpu.cis, &gpu.cis), (&cpu.cis_blind, &gpu.cis_blind)] {
                let off = error(&f64s(&b.concat()), &f64s(&a.concat()));
                assert!(a.is_empty() != (recipe == "default") && off <= 1e-5, "{name}, {recipe}: cis off by {off:.1e}");
            }
            let (a, b) = (cpu.decisions.unwrap(), gpu.decisions.unwrap());
            assert!(a.translate == b.translate, "{name}, {recipe}: other predictions");
            for (x, y) in a.attend.iter().zip(&b.attend) {
                assert!(
                    !x.rows.is_empty() && (&x.rows, &x.peak, &x.kept) == (&y.rows, &y.peak, &y.kept),
                    "{name}, {recipe}: other members"
                );
            }
            let got = engine.grads().unwrap();
            let mut worst = 0.0f64;
            for e in model.params.layout().entries() {
                let off = error(&f64s(&got[e.range.clone()]), &f64s(&want[e.range.clone()]));
                assert!(off <= 1e-4, "{name}, {recipe}: gradient of {} off by {off:.1e}", e.name);
                worst = worst.max(off);
            }
            println!("{name}, {recipe}: {samples} samples, gradients off by {worst:.1e} of each tensor's largest");
        }
    }
}

/// Batches that take more than one of everything a kernel works on at a time: chunks of columns and of table rows, tiles
/// of genes and peaks, staged members, spans of positives.
#[test]
fn more_than_one_chunk_of_everything() {
    let d = shared(Precision::F32);
    // (genes, peaks, samples, genes and peaks a sample)
    for (genes, peaks, samples, own) in [(400, 9_500, 2, (300, 9_000)), (60, 300, 1_300, (4, 6))] {
        let mut r = Rng::new(21, genes as u64);
        let features = Features::<f32> {
            gene_chrom: vec![0; genes],
            peak_chrom: (0..peaks).map(|p| u32::from(p >= peaks - 100)).collect(),
            chromosomes: 2,
            unknown: None,
            gene_extra: vec![],
            peak_dna: (0..peaks * 8).map(|_| r.below(5) as u8).collect(),
        };
        let config = ModelConfig {
            genes,
            peaks,
            chromosomes: 2,
            dna_length: 8,
            embedding_dim: 8,
            hidden: 16,
            ..ModelConfig::default()
        };
        let model = Model::<f32>::new(config, Arc::new(features), Init::PyTorch { embedding_std: 1.0 }, 3).unwrap();
        let mut batch = Batch::new();
        for i in 0..samples {
            let mut pick = |n: usize, k: usize| {
                let mut all: Vec<u32> = (0..n as u32).collect();
                r.shuffle(&mut all);
                all.truncate(k);
                all.sort_unstable();
                all.into_iter().map(|i| (i, 1.0 + (i % 3) as f32)).collect::<Vec<_>>()
            };
            batch.push(u8::from(i % 2 == 0), i as u64, pick(genes, own.0), pick(peaks, own.1));
        }
        let mut want = vec![0.0; model.params.layout().len()];
        let cpu =
            model.run(&batch, PassOptions { want: WANT, grads: Some(&mut want), ..PassOptions::default() }).unwrap();
        let mut engine = d.engine(&model);
        let gpu = engine.gradients(&batch, None, WANT).unwrap();
        let (a, b) = (cpu.decisions.unwrap(), gpu.decisions.unwrap());
        assert!(a.translate == b.translate, "{genes}: other predictions");
        for (x, y) in a.attend.iter().zip(&b.attend) {
            assert!((&x.rows, &x.peak, &x.kept) == (&y.rows, &y.peak, &y.kept), "{genes}: other members");
        }
        assert!(a.attend.iter().any(|s| !s.rows.is_empty()));
        assert!((gpu.loss - cpu.loss).abs() <= 1e-5 * cpu.loss, "{genes}: {} against {}", gpu.loss, cpu.loss);
        let got = engine.grads().unwrap();
        for e in model.params.layout().entries() {
            let off = error(&f64s(&got[e.range.clone()]), &f64s(&want[e.range.clone()]));
            assert!(off <= 1e-4, "{genes}: gradient of {} off by {off:.1e}", e.name);
        }
    }
}

/// Losses of every step.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Progress for Losses {}

impl Observer for Losses {
    fn step(&mut self, s: &TrainingStep) {
        self.0.push(s.loss);
    }
}

fn config() -> TrainConfig {
    small("large-batch")
}

fn small(recipe: &str) -> TrainConfig {
    let recipe = train::recipe(recipe).unwrap();
    let model = ModelConfig { hidden: 16, embedding_dim: 12, heads: 2, ..recipe.model };
    TrainConfig { epochs: 2, batch_size: 8, eval_batch_size: 8, model, checkpoint_minutes: None, ..recipe }
}

/// The same training, with dropout, validation and checkpoints, step by step.
#[test]
fn training_equals_the_cpus() {
    let d = shared(Precision::F32);
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    for recipe in ["large-batch", "default"] {
        let (mut cpu, mut gpu) = (Losses::default(), Losses::default());
        let out = |what: &str| dir.path().join(format!("{recipe}-{what}"));
        let config = small(recipe);
        let a = train::train(&data, &set, &config, &out("cpu"), &mut cpu).unwrap();
        let b = train::train_on(&d.device(), &data, &set, &config, &out("gpu"), &mut gpu).unwrap();
        assert_eq!(cpu.0.len(), gpu.0.len());
        assert!(cpu.0.len() >= 20);
        for (i, (x, y)) in cpu.0.iter().zip(&gpu.0).enumerate() {
            assert!((x - y).abs() <= 1e-3 * x, "{recipe}, step {i}: {x} on the CPU, {y} on the device");
        }
        assert_eq!((a.epochs, a.steps), (b.epochs, b.steps));
        let (x, y) = (a.last.unwrap(), b.last.unwrap());
        assert_eq!(x.cis_loss.is_some(), recipe == "default");
        let near = |x: f64, y: f64| assert!((x - y).abs() <= 0.02 * x, "{recipe}: {x} on the CPU, {y} on the device");
        for (x, y) in [(x.val_loss, y.val_loss), (x.val_mae, y.val_mae), (x.val_accuracy, y.val_accuracy)] {
            near(x.unwrap(), y.unwrap());
        }
        for (x, y) in [(x.cis_loss, y.cis_loss), (x.contrast_loss, y.contrast_loss)] {
            assert_eq!(x.is_some(), y.is_some());
            x.into_iter().for_each(|x| near(x, y.unwrap_or(f64::NAN)));
        }
    }
}

/// Warm-up and decay reach the device through recorded programs: step by step as on the CPU, and, stopped and resumed
/// while the rate changes, the same bits.
#[test]
fn learning_rates_change_from_step_to_step() {
    let d = shared(Precision::F32);
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let schedule = Schedule { warmup_steps: 7, decay: Decay::Cosine, ..config().schedule };
    let changing = TrainConfig { schedule, ..config() };
    let params = |name: &str, config: &TrainConfig, device: &Device| {
        let out = dir.path().join(name);
        let mut losses = Losses::default();
        train::train_on(device, &data, &set, config, &out, &mut losses).unwrap();
        let model = train::Run::open(&out).unwrap().model(&data, Checkpoint::Last).unwrap();
        (losses.0, f64s(model.params.as_slice()))
    };
    let (cpu, gpu) = (params("cpu", &changing, &Device::Cpu), params("gpu", &changing, &d.device()));
    let flat = params("flat", &config(), &d.device());
    for (i, (x, y)) in cpu.0.iter().zip(&gpu.0).enumerate() {
        assert!((x - y).abs() <= 1e-3 * x, "step {i}: {x} on the CPU, {y} on the device");
    }
    // Parameters of gradient near 0 take steps of either sign: by the mean, not by the largest.
    let far = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64;
    let (near, other) = (far(&gpu.1, &cpu.1), far(&flat.1, &cpu.1));
    assert!(near < 0.01 * other, "the device is {near} from the CPU, a constant rate {other}");

    let want = files(&dir.path().join("gpu"));
    let out = dir.path().join("stopped");
    stopped_and_resumed(&d.device(), &data, &changing, &out, &[3, 7]);
    assert!(files(&out) == want, "stopped and resumed, other bits");
}

fn files(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(run.join("checkpoints")).unwrap();
    let paths = entries.map(|e| e.unwrap().path());
    paths.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&p).unwrap())).collect()
}

/// Whatever the schedule of threads, the number of packing threads, graphs or not, stopped and resumed or not: the same
/// bits.
#[test]
fn the_same_bits() {
    let d = shared(Precision::F32);
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let run_of = |recipe: &str, name: &str| {
        let out = dir.path().join(format!("{recipe} {name}"));
        train::train_on(&d.device(), &data, &set, &small(recipe), &out, &mut ()).unwrap();
        files(&out)
    };
    let run = |name: &str| run_of("large-batch", name);
    let want = run("straight");
    let terms = run_of("default", "straight");
    host::configure("SCX_HOST_SEED", Some("5"));
    assert!(run_of("default", "seed 5") == terms, "cis and contrast: another schedule of threads, other bits");
    let out = dir.path().join("default stopped");
    stopped_and_resumed(&d.device(), &data, &small("default"), &out, &[2, 9]);
    assert!(files(&out) == terms, "cis and contrast: stopped and resumed, other bits");
    assert!(want.contains_key("state.safetensors"));
    for seed in ["1", "77"] {
        host::configure("SCX_HOST_SEED", Some(seed));
        assert!(run(&format!("seed {seed}")) == want, "another schedule of threads (seed {seed}), other bits");
    }
    host::configure("SCX_HOST_SEED", None);
    for threads in [1, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| run(&format!("{threads} threads"))) == want, "{threads} packing threads, other bits");
    }
    let out = dir.path().join("stopped");
    stopped_and_resumed(&d.device(), &data, &config(), &out, &[3, 7]);
    assert!(files(&out) == want, "stopped and resumed, other bits");
}

#[test]
fn options_of_the_cpu_are_refused() {
    let d = shared(Precision::F32);
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let sampled = TrainConfig { translate_genes: Some(0.5), ..config() };
    let lazy = TrainConfig { lazy_adam: true, ..config() };
    for (flag, config) in [("--translate-genes", sampled), ("--lazy-adam", lazy)] {
        let out = dir.path().join("run");
        let e = train::train_on(&d.device(), &data, &set, &config, &out, &mut ()).unwrap_err();
        let text = e.to_string();
        assert!(e.exit_code() == 2 && text.contains(flag) && text.contains("--device cpu"), "{text}");
        assert!(!out.exists());
    }
}

#[test]
fn graphs_give_the_same_bits() {
    let d = shared(Precision::F32);
    let (model, batch) = random(2, 6, 4);
    let params = |graphs: bool| {
        let mut engine = d.engine(&model);
        engine.set_graphs(graphs);
        for step in 0..6 {
            engine.train_step(&batch, Some(Dropout { seed: 5, step })).unwrap();
        }
        engine.params().unwrap()
    };
    assert!(params(true) == params(false));
}

#[test]
fn not_finite_stops_and_can_be_skipped() {
    let d = shared(Precision::F32);
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let mut wild = TrainConfig { epochs: 1, ..config() };
    wild.adam.lr = 1e38;
    let out = dir.path().join("wild");
    let e = train::train_on(&d.device(), &data, &set, &wild, &out, &mut ()).unwrap_err();
    let text = e.to_string();
    assert!(e.exit_code() == 2 && text.contains("step 2") && text.contains("RNA of cell"), "{text}");
    let skip = TrainConfig { on_nan: OnNan::Skip, ..wild };
    let last = train::resume_on(&d.device(), &data, &set, &skip, &out, &mut ()).unwrap().last.unwrap();
    assert_eq!((last.samples, last.samples + last.skipped), (8, set.train.len() as u64));
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.into());
    }
}

impl Observer for Notes {}

/// A cell whose expression is beyond what a product of two f32 can hold: named with its op, and the last checkpoint's weights
/// and moments are the device's again.
#[test]
fn not_finite_goes_back_to_the_checkpoint() {
    let d = shared(Precision::F32);
    let dir = tempfile::tempdir().unwrap();
    let (rna, atac) = (dir.path().join("rna.h5ad"), dir.path().join("atac.h5ad"));
    let value = |cell: usize, _: usize, x: f32| if cell == 7 { 3e38 } else { x };
    tiny::matrix_with(&rna, "gene", tiny::GENES, 1000, tiny::Order::Plain, value);
    tiny::matrix(&atac, "peak", tiny::PEAKS, 2000, tiny::Order::Plain);
    prepare(&PrepareConfig::new(rna, atac), &dir.path().join("data"), &()).unwrap();
    let data = DataSet::open(&dir.path().join("data")).unwrap();
    let set = data.samples("default").unwrap();
    let base = TrainConfig { batch_size: 3, epochs: 1, checkpoint_steps: Some(5), ..config() };
    let bad = set.train.iter().filter(|&&n| set.samples[n as usize].rna == 7).count() as u64;
    assert!(bad > 0);
    let mut weights = Vec::new();
    for on_nan in [OnNan::Skip, OnNan::Rollback] {
        let out = dir.path().join(format!("{on_nan:?}"));
        let config = TrainConfig { on_nan, ..base.clone() };
        let mut notes = Notes::default();
        let last = train::train_on(&d.device(), &data, &set, &config, &out, &mut notes).unwrap().last.unwrap();
        assert_eq!(last.samples + last.skipped, set.train.len() as u64);
        // Whole batches are left out; going back takes the step that was under way with it.
        let most = if on_nan == OnNan::Skip { 3 * bad } else { 6 * bad };
        assert!((bad..=most).contains(&last.skipped) && last.loss.unwrap().is_finite(), "{on_nan:?}: {}", last.skipped);
        let notes = notes.0.into_inner().unwrap();
        let said: Vec<_> = notes.iter().filter(|n| n.contains("RNA of cell7,")).collect();
        assert!(!said.is_empty(), "{notes:?}");
        if on_nan == OnNan::Rollback {
            assert!(said.iter().all(|l| l.contains("op `") && l.contains("of the checkpoint of step")), "{said:?}");
        }
        let model = train::Run::open(&out).unwrap().model(&data, Checkpoint::Last).unwrap();
        assert!(model.params.as_slice().iter().all(|x| x.is_finite()));
        weights.push(model.params.as_slice().to_vec());
    }
    assert!(weights[0] != weights[1], "nothing was undone");
}

/// Once planned, steps allocate nothing, and the host waits only for the record of the step before.
#[test]
fn steps_allocate_nothing_and_do_not_wait() {
    let _alone = DRIVER.write().unwrap_or_else(|e| e.into_inner());
    let (gpu, kernels) = open();
    let (model, _) = random(1, 1, 5);
    let batches: Vec<Batch<f32>> = (0..40).map(|i| cells(&model, 6, i)).collect();
    let mut engine = Engine::new(gpu, kernels, &model, Precision::F32).unwrap();
    engine.reserve(&BatchSizes::bound(model.config(), 6, 70, 300, 3).unwrap(), |_, _| None).unwrap();
    engine.reserve_buffers().unwrap();
    let before = host::counters().unwrap();
    let mut seen = Vec::new();
    let told = |i: usize, r: &abi::StepRecord| {
        assert_eq!((i, r.applied), (seen.len(), 1));
        seen.push(r.loss);
        true
    };
    engine.train_batches(40, |i| batches[i].clone(), Dropout { seed: 1, step: 0 }, told).unwrap();
    let after = host::counters().unwrap();
    assert_eq!(seen.len(), 40);
    assert!(after.launches > before.launches + 40 * 40);
    assert_eq!(after.allocations, before.allocations, "device memory was allocated in a step");
    assert_eq!(after.host_allocations, before.host_allocations, "pinned memory was allocated in a step");
    let replayed = after.graph_launches - before.graph_launches;
    assert!(replayed >= 20, "40 batches of other sizes each, and only {replayed} of a bucket whose graph was there");
    let waits = after.synchronisations - before.synchronisations;
    assert!(waits <= 40, "the host waited {waits} times in 40 steps");
}

/// A batch that cannot be used ends the training with its error; the engine computes on as if nothing had been.
#[test]
fn a_bad_batch_leaves_the_engine_usable() {
    let d = shared(Precision::F32);
    let (model, good) = random(1, 4, 6);
    let mut engine = d.engine(&model);
    for _ in 0..20 {
        let make = |i: usize| {
            let mut batch = good.clone();
            if i == 5 {
                batch.rna.indices[0] = 70;
            }
            batch
        };
        engine.reserve(&BatchSizes::bound(model.config(), 4, 70, 300, 3).unwrap(), |_, _| None).unwrap();
        let e = engine.train_batches(9, make, Dropout { seed: 1, step: 0 }, |_, _| true).unwrap_err();
        assert!(e.to_string().contains("names gene 70 of 70"), "{e}");
    }
    engine.set_params(model.params.as_slice()).unwrap();
    let (a, b) = (engine.forward(&good, WANT).unwrap(), model.forward(&good, WANT).unwrap());
    assert!((a.loss - b.loss).abs() <= 1e-5 * b.loss);
}

/// Too little memory: what was asked for, and the batch size that would fit.
#[test]
fn out_of_memory_names_what_fits() {
    let _alone = DRIVER.write().unwrap_or_else(|e| e.into_inner());
    let (gpu, kernels) = open();
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let big = TrainConfig { batch_size: 64, epochs: 1, ..config() };
    let cuda = CudaDevice { gpu, kernels, precision: Precision::F32 };
    host::configure("SCX_HOST_MEMORY", Some("800000"));
    let e = train::train_on(&Device::Cuda(cuda), &data, &set, &big, &dir.path().join("run"), &mut ());
    host::configure("SCX_HOST_MEMORY", None);
    let e = e.unwrap_err();
    let text = e.to_string();
    assert_eq!(e.exit_code(), 2, "{text}");
    assert!(text.contains("workspace of a batch of 64") && text.contains("would fit"), "{text}");
    let n: usize = text.split("--batch-size ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(n > 0 && n < 64, "{text}");
    assert!(!dir.path().join("run").exists(), "nothing is written before the memory is there");
}

/// The structs of `abi.h` and of Rust: a kernel says what sizes and offsets it sees.
#[test]
fn the_launch_abi_is_mirrored() {
    let d = shared(Precision::F32);
    let mut expected = Vec::new();
    let mut source = String::from("#include \"common/abi.h\"\nstruct SizesArgs { uint64_t* out; };\n");
    source += "SCX_KERNEL(abi_sizes, SizesArgs, 32, 0, 1, 1) {\n  if (threadIdx.x) return;\n";
    for (name, size, fields) in abi::LAYOUTS {
        source += &format!("  a.out[{}] = sizeof({name});\n", expected.len());
        expected.push((name.to_string(), *size as u64));
        for (field, offset) in *fields {
            source += &format!("  a.out[{}] = __builtin_offsetof({name}, {field});\n", expected.len());
            expected.push((format!("{name}::{field}"), *offset as u64));
        }
    }
    source += "}\n";
    // Every struct of the header is there.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = std::fs::read_to_string(root.join("kernels/common/abi.h")).unwrap();
    let in_c = header.lines().filter_map(|l| l.strip_prefix("struct ")?.strip_suffix(" {"));
    let in_rust: Vec<&str> = abi::LAYOUTS.iter().map(|l| l.0).collect();
    assert_eq!(in_c.chain(["LaunchShape"]).collect::<Vec<_>>(), in_rust);
    assert!(in_rust.len() > 30 && expected.len() > 400);
    let gpu = &d.0.gpu;
    let module = gpu.module("abi_sizes.cu", &image::image(gpu, "abi_sizes.cu", &source).unwrap()).unwrap();
    let kernel = module.kernel("abi_sizes").unwrap().unwrap();
    assert_eq!((kernel.shape().threads, kernel.shape().tile_y), (32, 1));

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct SizesArgs(u64);
    // SAFETY: the argument struct of `abi_sizes`.
    unsafe impl abi::Args for SizesArgs {}
    let stream = gpu.compute();
    let out = stream.alloc_zeros::<u64>(expected.len()).unwrap();
    let address = cudarc::driver::DevicePtr::device_ptr(&out, stream).0;
    Launch::new(&kernel, [1, 1, 1], &SizesArgs(address)).run(stream).unwrap();
    for ((name, bytes), got) in expected.iter().zip(stream.clone_dtoh(&out).unwrap()) {
        assert_eq!(*bytes, got, "{name}");
    }
}

/// The program, with the stand-in driver where the loader finds it.
fn program(dir: &Path) -> Command {
    let driver = host::HostCompiler::find().unwrap().driver(&cache().join("host")).unwrap();
    let mut c = Command::new(env!("CARGO_BIN_EXE_sccrossrec"));
    c.current_dir(dir).env("LD_LIBRARY_PATH", driver.parent().unwrap()).env("SCCROSSREC_CACHE", cache());
    c
}

fn ok(out: &Output) -> serde_json::Value {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Every verb that computes, with `--device cuda`, beside the same on the CPU.
#[test]
fn the_program_on_a_device() {
    drop(shared(Precision::F32)); // kernels are compiled once
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::data(d);
    let run = |args: &[&str]| program(d).args(args).args(["--json", "--quiet"]).output().unwrap();
    let small =
        ["--recipe", "large-batch", "--hidden", "16", "--embedding-dim", "12", "--batch-size", "16", "--epochs", "1"];
    ok(&run(&[&["train", "--data", "data", "--out", "run", "--device", "cuda"], &small[..]].concat()));
    // The default recipe, as well: its cis term predicts on both.
    ok(&run(&[&["train", "--data", "data", "--out", "cis", "--device", "cuda"], &small[2..]].concat()));
    for trained in ["run", "cis"] {
        let on = |device: &str| {
            let file = |name: &str| format!("{name}-{trained}-{}.h5ad", device.replace(':', ""));
            let e = ok(&run(&["evaluate", "--run", trained, "--device", device]));
            ok(&run(&["embed", "--run", trained, "--device", device, "--out", &file("z")]));
            ok(&run(&["translate", "--run", trained, "--device", device, "--out", &file("t")]));
            let links = ok(&run(&["discover", "--run", trained, "--device", device, "--out", &file("links")]));
            (e, links["attention"]["pairs"].clone())
        };
        let (cpu, gpu) = (on("cpu"), on("cuda:0"));
        for of in ["matching", "translation"] {
            let measure = if of == "matching" { "accuracy" } else { "mae" };
            assert_eq!(cpu.0[of]["model"][measure], gpu.0[of]["model"][measure], "{trained}");
        }
        let detected = |e: &serde_json::Value| e["detection"]["cis_and_depth"]["log_loss"].as_f64();
        let (a, b) = (detected(&cpu.0), detected(&gpu.0));
        assert!(a.is_some() == (trained == "cis") && a.zip(b).is_none_or(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
        assert_eq!(cpu.1, gpu.1);
        let read = |name: &str, device: &str, what: &str| {
            let file = hdf5::File::open(d.join(format!("{name}-{trained}-{device}.h5ad"))).unwrap();
            f64s(&file.dataset(what).unwrap().read_raw::<f32>().unwrap())
        };
        let layer = if trained == "cis" { "layers/probability/data" } else { "layers/count/data" };
        for (file, what) in [("t", layer), ("z", "obsm/X_sccrossrec")] {
            assert!(error(&read(file, "cuda0", what), &read(file, "cpu", what)) < 1e-5, "{trained}: {what}");
        }
    }
    // Only a device multiplies in bf16.
    let bf16 = [&["train", "--data", "data", "--precision", "bf16", "--out", "b"], &small[..]].concat();
    let out = run(&[&bf16[..], &["--device", "cpu"]].concat());
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("--device cuda"));
    ok(&run(&[&bf16[..], &["--device", "cuda"]].concat()));
    // A device number that is not there.
    let out = run(&[&["train", "--data", "data", "--out", "c", "--device", "cuda:7"], &small[..]].concat());
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(2) && text.contains("cuda:7") && text.contains("1 device"), "{text}");
}

/// A device that dies: exit code 1, one line with what failed and the checkpoint to go on from, which does go on.
#[test]
fn a_dead_device_names_the_last_checkpoint() {
    drop(shared(Precision::F32));
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::data(d);
    let small =
        ["--recipe", "large-batch", "--hidden", "16", "--embedding-dim", "12", "--batch-size", "16", "--epochs", "2"];
    let args =
        [&["train", "--data", "data", "--out", "run", "--device", "cuda", "--checkpoint-steps", "2"], &small[..]];
    let out = program(d).args(args.concat()).arg("--quiet").env("SCX_HOST_FAIL_LAUNCH", "500").output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    let line = text.lines().find(|l| l.starts_with("error: ")).unwrap();
    for part in ["the device failed to", "CUDA_ERROR_LAUNCH_FAILED", "state.safetensors", "is of step", "--resume"] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    let again = program(d).args(["train", "--resume", "--out", "run", "--device", "cuda", "--json"]).output().unwrap();
    assert_eq!(ok(&again)["epochs"], 2);
}

/// The golden files again, every kernel under AddressSanitizer and with a shuffled schedule.
#[test]
fn golden_files_under_the_address_sanitizer() {
    const CHILD: &str = "SCCROSSREC_HOST_SANITIZE";
    if std::env::var_os(CHILD).is_some() {
        return; // this is the child, which runs `golden_files`
    }
    let Some(library) = host::HostCompiler::find().unwrap().sanitizer() else {
        eprintln!("SKIPPED: the C++ compiler has no AddressSanitizer library");
        return;
    };
    let text = passed(
        one_test(module_path!(), "golden_files")
            .env(CHILD, "1")
            .env("SCX_HOST_SEED", "3")
            .env("LD_PRELOAD", library)
            .env("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=0"),
    );
    assert!(!text.contains("AddressSanitizer"), "{text}");
}
