//! The model on a device: parameters, gradients, moments and features live there; batches are uploaded while the one
//! before is computed; a step is a recorded program, replayed or launched as a CUDA graph.

mod profile;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cudarc::driver::CudaGraph;

use super::abi::{self, Control, NORM_PARTS, Ptr, StepRecord};
use super::arena::{Arena, Layout as Plan, Span};
use super::gpu::{Event, Gpu, Kernels, Pinned, capture, driver};
use super::pack::{Arranged, Packed, Packer, Sizes};
use super::tape::{Pass, Program, Step, Tape};
use super::workspace::{Frame, SLOTS, Terms, WorkPlan, Workspace, mask_words};
use crate::error::{Error, Result};
use crate::graph::CisGraph;
use crate::model::{Batch, Decisions, Dropout, Layout, Model, ModelConfig, Output, Want, sparse, spread};
use crate::ops::adam::{AdamConfig, Rates};
use crate::ops::attend::Selection;
use crate::ops::nodes::group;
use crate::ops::{adam, attend, cis, linear, pool, project, translate};

pub use profile::{OpTime, Profile, Spent, Staged};

/// How matrices are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As accurate as f32 (three TF32 products on tensor cores).
    #[default]
    F32,
    /// bf16 products, f32 sums. Devices only.
    Bf16,
}

impl Precision {
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Precision::F32 => "_f32",
            Precision::Bf16 => "_bf16",
        }
    }

    /// `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        &self.suffix()[1..]
    }
}

/// Numbers between the starts of two tensors on the device are a multiple of this: 256 bytes.
const TENSOR_ALIGN: usize = 64;

/// Programs kept, with their graphs; the one that was not used for longest makes room.
const PROGRAMS: usize = 128;

/// Threads that pack batches, at most.
const PACKERS: usize = 16;

/// Bytes of pinned host memory, at most, unless three buffers are larger.
const PINNED: usize = 8 << 30;

/// Parameters, gradients, moments, features and records: what outlives a step.
#[derive(Debug)]
struct State {
    arena: Arena,
    /// Arena numbers where each tensor of the layout starts, in its order.
    starts: Vec<usize>,
    /// Numbers in each of the four arenas.
    len: usize,
    p: Span<f32>,
    g: Span<f32>,
    m: Span<f32>,
    v: Span<f32>,
    gene_chrom: Span<u32>,
    peak_chrom: Span<u32>,
    gene_extra: Span<f32>,
    peak_dna: Span<u8>,
    norm_part: Span<f32>,
    control: Span<Control>,
    records: Span<StepRecord>,
    cis: Option<Graph>,
}

/// The cis graph on the device.
#[derive(Debug, Clone, Copy)]
struct Graph {
    peak_ptr: Span<u32>,
    gene: Span<u32>,
    peak: Span<u32>,
    bin: Span<u32>,
    gene_ptr: Span<u32>,
    by_gene: Span<u32>,
    whole_ptr: Span<u32>,
    whole: Span<u32>,
}

impl Graph {
    fn plan(l: &mut Plan, config: &ModelConfig, graph: &CisGraph) -> Self {
        let edges = graph.len();
        Graph {
            peak_ptr: l.add("cis graph", config.peaks + 1),
            gene: l.add("cis graph, genes", edges),
            peak: l.add("cis graph, peaks", edges),
            bin: l.add("cis graph, distances", edges),
            gene_ptr: l.add("cis graph, of genes", config.genes + 1),
            by_gene: l.add("cis graph, by gene", edges),
            whole_ptr: l.add("cis graph, chromosomes", config.chromosomes + 1),
            whole: l.add("cis graph, genes without edges", graph.whole.iter().filter(|w| **w).count()),
        }
    }

    fn write(&self, arena: &Arena, config: &ModelConfig, graph: &CisGraph, gene_chrom: &[u32]) -> Result<()> {
        let small = |x: &[usize]| x.iter().map(|&x| x as u32).collect::<Vec<u32>>();
        let peak: Vec<u32> = (0..)
            .zip(graph.peak_ptr.windows(2))
            .flat_map(|(p, ends)| std::iter::repeat_n(p, ends[1] - ends[0]))
            .collect();
        let (gene_ptr, by_gene) = group(&graph.gene, config.genes);
        let whole: Vec<u32> = (0..).zip(&graph.whole).filter(|x| *x.1).map(|x| x.0).collect();
        let chrom: Vec<u32> = whole.iter().map(|&g| gene_chrom[g as usize]).collect();
        let (whole_ptr, order) = group(&chrom, config.chromosomes);
        arena.write(self.peak_ptr, &small(&graph.peak_ptr))?;
        arena.write(self.gene, &graph.gene)?;
        arena.write(self.peak, &peak)?;
        arena.write(self.bin, &graph.bin.iter().map(|&b| u32::from(b)).collect::<Vec<u32>>())?;
        arena.write(self.gene_ptr, &small(&gene_ptr))?;
        arena.write(self.by_gene, &by_gene)?;
        arena.write(self.whole_ptr, &small(&whole_ptr))?;
        arena.write(self.whole, &order.iter().map(|&i| whole[i as usize]).collect::<Vec<u32>>())
    }

    fn args(&self, arena: &Arena, config: &ModelConfig) -> abi::CisGraph {
        abi::CisGraph {
            peak_ptr: arena.ptr(self.peak_ptr),
            gene: arena.ptr(self.gene),
            peak: arena.ptr(self.peak),
            bin: arena.ptr(self.bin),
            gene_ptr: arena.ptr(self.gene_ptr),
            by_gene: arena.ptr(self.by_gene),
            whole_ptr: arena.ptr(self.whole_ptr),
            whole: arena.ptr(self.whole),
            genes: config.genes as u32,
            peaks: config.peaks as u32,
            chromosomes: config.chromosomes as u32,
            n_whole: self.whole.len as u32,
        }
    }
}

impl State {
    fn plan(
        config: &ModelConfig,
        layout: &Layout,
        graph: Option<&CisGraph>,
    ) -> (Plan, impl FnOnce(Arena) -> State + use<>) {
        let mut starts = Vec::new();
        let mut len = 0usize;
        for e in layout.entries() {
            starts.push(len);
            len += e.range.len().next_multiple_of(TENSOR_ALIGN);
        }
        let mut l = Plan::default();
        let (p, g) = (l.add("parameters", len), l.add("gradients", len));
        let (m, v) = (l.add("first moments", len), l.add("second moments", len));
        let gene_chrom = l.add("gene chromosomes", config.genes);
        let peak_chrom = l.add("peak chromosomes", config.peaks);
        let gene_extra = l.add("gene features", config.genes * config.gene_extra);
        let peak_dna = l.add("sequences", config.peaks * config.dna_length);
        let norm_part = l.add("norm", NORM_PARTS as usize);
        let control = l.add("control", 1);
        let records = l.add("records", SLOTS);
        let cis = graph.map(|g| Graph::plan(&mut l, config, g));
        let build = move |arena| State {
            arena,
            starts,
            len,
            p,
            g,
            m,
            v,
            gene_chrom,
            peak_chrom,
            gene_extra,
            peak_dna,
            norm_part,
            control,
            records,
            cis,
        };
        (l, build)
    }
}

/// Which program: how far it goes, and what it is made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    last: Pass,
    sizes: Sizes,
    slot: usize,
    dropout: Option<u64>,
    terms: Terms,
}

/// Packed batches, in order, and the way back for their buffers.
pub(crate) struct Feed {
    receive: Receiver<(usize, Result<Packed>)>,
    /// Those that came before their turn.
    waiting: BTreeMap<usize, Result<Packed>>,
    next: usize,
    give: Sender<Pinned>,
    /// Seconds for which batches were waited for.
    waited: f64,
}

impl Feed {
    /// The next batch.
    pub fn next(&mut self) -> Result<Packed> {
        loop {
            if let Some(packed) = self.waiting.remove(&self.next) {
                self.next += 1;
                return packed;
            }
            let began = Instant::now();
            let received = self.receive.recv();
            self.waited += began.elapsed().as_secs_f64();
            let Ok((i, packed)) = received else {
                return Err(Error::Internal("the threads that read batches have stopped".into()));
            };
            self.waiting.insert(i, packed);
        }
    }

    /// Gives a buffer back to the threads that pack.
    pub fn free(&self, buffer: Pinned) {
        // They may have stopped; then nobody needs it.
        let _ = self.give.send(buffer);
    }
}

/// A program, and the graph it was captured into.
struct Recorded {
    program: Program,
    graph: Option<CudaGraph>,
    met: bool,
    /// Number of the run that used it last.
    used: u64,
}

/// One of the two slots: its events and where its record lands.
#[derive(Debug)]
struct Slot {
    uploaded: Event,
    computed: Event,
    record: Pinned,
    /// The batch under way.
    flight: Option<Packed>,
}

/// Where a [`Engine::probe`] is in its program: passes of one op that follow each other count as one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub op: &'a str,
    pub pass: Pass,
    /// Behind the pass, or before it?
    pub after: bool,
    pub steps: &'a [Step],
}

/// A region that can be looked at by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub name: &'static str,
    /// Of the workspace, or of what outlives a step (parameters `p`, gradients `g`, moments `m` and `v`, `norm_part`,
    /// `control` and `record`)?
    pub in_work: bool,
    pub offset: usize,
    pub bytes: usize,
}

/// All that lies on the device at one time.
#[derive(Debug)]
pub(crate) struct Image {
    pub work: Vec<u8>,
    pub state: Vec<u8>,
}

/// The engine, held still between two passes.
pub(crate) struct Probe<'e> {
    engine: &'e Engine,
    pub arranged: &'e Arranged,
}

impl Probe<'_> {
    /// Copies everything.
    pub fn image(&self) -> Result<Image> {
        Ok(Image { work: self.engine.workspace()?.arena.image()?, state: self.engine.state.arena.image()? })
    }

    /// All regions, those of the batch left out.
    pub fn regions(&self) -> Result<Vec<Region>> {
        let s = &self.engine.state;
        let work = self.engine.workspace()?.plan.spans.named();
        let record = s.records.offset; // slot 0
        let outlives = [
            ("p", s.p.offset, s.len * 4),
            ("g", s.g.offset, s.len * 4),
            ("m", s.m.offset, s.len * 4),
            ("v", s.v.offset, s.len * 4),
            ("norm_part", s.norm_part.offset, s.norm_part.len * 4),
            ("control", s.control.offset, size_of::<Control>()),
            ("record", record, size_of::<StepRecord>()),
        ];
        let region = |in_work| move |(name, offset, bytes)| Region { name, in_work, offset, bytes };
        Ok(work.into_iter().map(region(true)).chain(outlives.map(region(false))).collect())
    }

    /// Arena numbers where each tensor of the model's layout starts.
    pub fn starts(&self) -> &[usize] {
        &self.engine.state.starts
    }

    /// Numbers in each of the arenas `p`, `g`, `m` and `v`.
    pub fn numbers(&self) -> usize {
        self.engine.state.len
    }

    /// Writes numbers `at` numbers into the gradients.
    pub fn write_gradient(&self, at: usize, data: &[f32]) -> Result<()> {
        let s = &self.engine.state;
        s.arena.memory().write(s.g.offset + at * 4, data)
    }
}

/// A model on a device.
pub struct Engine {
    gpu: Arc<Gpu>,
    kernels: Kernels,
    precision: Precision,
    layout: Arc<Layout>,
    packer: Packer,
    cis: Option<Arc<CisGraph>>,
    adam: AdamConfig,
    rates: Rates,
    state: State,
    work: Option<Workspace>,
    programs: HashMap<Key, Recorded>,
    /// Programs run so far.
    runs: u64,
    use_graphs: bool,
    slots: [Slot; SLOTS],
    /// The slot of the next step.
    next: usize,
    buffers: Vec<Pinned>,
    spent: Spent,
}

// SAFETY: a graph is used by the engine alone, which is not shared (`&mut self`), so that moving it to another thread is
// all that can happen; the driver allows that.
#[allow(unsafe_code)]
unsafe impl Send for Engine {}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine on {} ({:?})", self.gpu.name(), self.precision)
    }
}

impl Engine {
    /// Puts a model on a device, with streams of its own. Moments start at zero.
    ///
    /// # Errors
    /// A model that the kernels do not take (more than 32 places a gene), or whose cis term has no graph; too little device
    /// memory.
    pub fn new(gpu: Arc<Gpu>, kernels: Kernels, model: &Model<f32>, precision: Precision) -> Result<Self> {
        let gpu = gpu.fork()?;
        let config = &model.config;
        if config.top_k > abi::MAX_TOP_K as usize {
            return Err(Error::usage(format!(
                "--device cuda: the model gives a gene {} places (top_k); kernels have {}; use --device cpu",
                config.top_k,
                abi::MAX_TOP_K
            )));
        }
        let layout = model.params.layout().clone();
        let cis = model.cis.clone().filter(|_| config.cis.is_some());
        if config.cis.is_some() && cis.is_none() {
            return Err(Error::Internal("the model has a cis term and no cis graph".into()));
        }
        let (plan, build) = State::plan(config, &layout, cis.as_deref());
        if plan.bytes() / 4 > u32::MAX as usize * 16 {
            return Err(Error::usage("--device cuda: the model has too many parameters; use --device cpu"));
        }
        let state = build(Arena::new(&gpu, &plan, "the parameters, gradients and moments of the model")?);
        let f = &model.features;
        state.arena.write(state.gene_chrom, &f.gene_chrom)?;
        state.arena.write(state.peak_chrom, &f.peak_chrom)?;
        state.arena.write(state.gene_extra, &f.gene_extra)?;
        state.arena.write(state.peak_dna, &f.peak_dna)?;
        if let (Some(on_device), Some(graph)) = (state.cis, &cis) {
            on_device.write(&state.arena, config, graph, &f.gene_chrom)?;
        }
        let slot = || {
            Ok::<_, Error>(Slot {
                uploaded: gpu.event(false)?,
                computed: gpu.event(false)?,
                record: Pinned::new(&gpu, size_of::<StepRecord>())?,
                flight: None,
            })
        };
        let slots = [slot()?, slot()?];
        let packer = Packer { config: config.clone(), features: model.features.clone() };
        let adam = AdamConfig::default();
        let mut engine = Engine {
            gpu,
            kernels,
            precision,
            layout,
            packer,
            cis,
            adam,
            rates: Rates::constant(adam.lr),
            state,
            work: None,
            programs: HashMap::new(),
            runs: 0,
            use_graphs: true,
            slots,
            next: 0,
            buffers: Vec::new(),
            spent: Spent::default(),
        };
        for span in [engine.state.p, engine.state.g, engine.state.m, engine.state.v] {
            engine.state.arena.zero(span)?;
        }
        engine.state.arena.zero(engine.state.records)?;
        engine.set_control(0, false)?;
        engine.set_params(model.params.as_slice())?;
        Ok(engine)
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Sizes and constants of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.packer.config
    }

    /// How matrices are multiplied.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Constants of the optimiser of later steps, which all have its learning rate.
    pub fn set_adam(&mut self, adam: AdamConfig) {
        if self.adam != adam {
            self.forget_programs();
            self.adam = adam;
        }
        self.rates = Rates::constant(adam.lr);
    }

    /// Learning rates of later steps. They travel with the batch, so that recorded programs serve all of them.
    pub fn set_rates(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// Capture programs into CUDA graphs (on at first)?
    pub fn set_graphs(&mut self, on: bool) {
        self.use_graphs = on;
    }

    fn forget_programs(&mut self) {
        self.programs.clear();
    }

    fn scatter(&self, span: Span<f32>, data: &[f32]) -> Result<()> {
        let mut all = vec![0f32; self.state.len];
        for (e, &at) in self.layout.entries().iter().zip(&self.state.starts) {
            all[at..at + e.range.len()].copy_from_slice(&data[e.range.clone()]);
        }
        self.state.arena.write(span, &all)
    }

    fn gather(&self, span: Span<f32>) -> Result<Vec<f32>> {
        let all = self.state.arena.read(span, self.state.len)?;
        let mut out = vec![0f32; self.layout.len()];
        for (e, &at) in self.layout.entries().iter().zip(&self.state.starts) {
            out[e.range.clone()].copy_from_slice(&all[at..at + e.range.len()]);
        }
        Ok(out)
    }

    /// Replaces the parameters: an arena of the model's layout.
    pub fn set_params(&mut self, params: &[f32]) -> Result<()> {
        self.scatter(self.state.p, params)
    }

    /// The parameters, as an arena of the model's layout.
    pub fn params(&self) -> Result<Vec<f32>> {
        self.gather(self.state.p)
    }

    /// The gradients, as an arena of the model's layout.
    pub fn grads(&self) -> Result<Vec<f32>> {
        self.gather(self.state.g)
    }

    /// Replaces the gradients: an arena of the model's layout.
    pub(crate) fn set_grads(&mut self, grads: &[f32]) -> Result<()> {
        self.scatter(self.state.g, grads)
    }

    /// Sets all gradients to zero.
    pub fn zero_grads(&mut self) -> Result<()> {
        self.state.arena.zero(self.state.g)
    }

    /// Replaces the moments, arenas of the model's layout, and the number of steps they are the result of.
    pub fn set_moments(&mut self, m: &[f32], v: &[f32], updates: u64, stop_on_nan: bool) -> Result<()> {
        self.scatter(self.state.m, m)?;
        self.scatter(self.state.v, v)?;
        self.set_control(updates, stop_on_nan)
    }

    /// The moments, arenas of the model's layout.
    pub fn moments(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((self.gather(self.state.m)?, self.gather(self.state.v)?))
    }

    /// Sets the number of optimiser steps taken; lets them be taken again after one that was not finite.
    pub(crate) fn set_control(&mut self, updates: u64, stop_on_nan: bool) -> Result<()> {
        let updates = u32::try_from(updates).map_err(|_| Error::usage("more than four thousand million steps"))?;
        let control = Control { updates, stop_on_nan: u32::from(stop_on_nan), ..Control::default() };
        self.state.arena.write(self.state.control, &[control])
    }

    /// Bytes of a workspace for batches of these sizes.
    pub fn workspace_bytes(&self, room: &Sizes) -> Result<usize> {
        Ok(WorkPlan::new(self.config(), self.cis.as_deref(), &self.kernels, *room)?.bytes())
    }

    /// Plans and allocates the workspace, so that batches of up to these sizes take no further allocation. A workspace
    /// that is large enough already stays. `fits` names, for the message, the flags that would fit into so many bytes.
    pub fn reserve(&mut self, room: &Sizes, fits: impl Fn(&Engine, u64) -> Option<String>) -> Result<()> {
        if self.work.as_ref().is_some_and(|w| w.plan.room.holds(room)) {
            return Ok(());
        }
        let room = self.work.as_ref().map_or(*room, |w| w.plan.room.max(room));
        let plan = WorkPlan::new(self.config(), self.cis.as_deref(), &self.kernels, room)?;
        self.gpu.synchronize()?;
        self.forget_programs();
        self.work = None;
        self.buffers.clear();
        let work = Workspace::new(&self.gpu, plan, "").map_err(|e| match e {
            Error::OutOfMemory { bytes, free, .. } => {
                let fix = fits(self, free).map_or_else(
                    || "take a smaller --batch-size, or --device cpu".into(),
                    |f| format!("{f} would fit"),
                );
                Error::OutOfMemory { what: format!("the workspace of a batch of {}", room.samples), bytes, free, fix }
            }
            e => e,
        })?;
        self.work = Some(work);
        Ok(())
    }

    /// Pinned buffers for training: one a thread that packs and one a step under way, fewer where they would take more than
    /// `PINNED` bytes or the system does not give so many. Training makes them where this was not called.
    pub fn reserve_buffers(&mut self) -> Result<()> {
        let bytes = self.workspace()?.plan.slot.layout.bytes();
        let few = SLOTS + 1;
        let most = (rayon::current_num_threads().clamp(1, PACKERS) + SLOTS).min((PINNED / bytes.max(1)).max(few));
        while self.buffers.len() < most {
            match Pinned::new(&self.gpu, bytes) {
                Ok(buffer) => self.buffers.push(buffer),
                Err(_) if self.buffers.len() >= few => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Bytes of pinned host memory that batches are packed into.
    pub fn pinned_bytes(&self) -> usize {
        self.buffers.iter().map(|b| b.bytes().len()).sum()
    }

    /// What the plan gives memory to, the largest parts first, and the sum: bytes.
    pub fn memory_plan(&self) -> (Vec<(&'static str, usize)>, usize) {
        let state = State::plan(self.config(), &self.layout, self.cis.as_deref()).0;
        let mut parts = state.largest();
        let mut total = state.bytes();
        if let Some(w) = &self.work {
            parts.extend(w.plan.layout.largest());
            total += w.plan.bytes();
        }
        parts.sort_by_key(|p| std::cmp::Reverse(p.1));
        (parts, total)
    }

    fn workspace(&self) -> Result<&Workspace> {
        self.work.as_ref().ok_or_else(|| Error::Internal("no workspace was reserved".into()))
    }

    /// The recorded program for a bucket.
    fn record(&self, key: &Key) -> Result<Program> {
        let work = self.workspace()?;
        let (config, state, f) = (self.config(), &self.state, &self.packer.features);
        let param = |arena: Span<f32>, name: &str| {
            let at = self.layout.entries().iter().position(|e| e.name == name);
            let at = at.ok_or_else(|| Error::Internal(format!("no parameter {name}")))?;
            Ok(state.arena.ptr(arena).add(state.starts[at]))
        };
        let side = |chrom, dense, bases, count: usize, extra: usize| abi::Side {
            chrom: state.arena.ptr(chrom),
            dense,
            bases,
            count: count as u32,
            chromosomes: config.chromosomes as u32,
            extra: extra as u32,
            dim: config.embedding_dim as u32,
        };
        let dense = if config.gene_extra > 0 { state.arena.ptr(state.gene_extra) } else { Ptr::NULL };
        let bases = if config.dna_length > 0 { state.arena.ptr(state.peak_dna) } else { Ptr::NULL };
        let frame = Frame {
            kernels: &self.kernels,
            config,
            suffix: self.precision.suffix(),
            sizes: key.sizes,
            batch: work.batch(key.slot),
            w: work.ptrs,
            gene_side: side(state.gene_chrom, dense, Ptr::NULL, f.genes(), config.gene_extra),
            peak_side: side(state.peak_chrom, Ptr::NULL, bases, f.peaks(), config.dna_length),
            param: &|name| param(state.p, name),
            grad: &|name| param(state.g, name),
            record: state.arena.ptr(state.records).add(key.slot),
            dropout: key.dropout,
            graph: state.cis.map(|g| g.args(&state.arena, config)),
            terms: key.terms,
            training: key.last >= Pass::Backward,
        };
        let mut tape = Tape::default();
        project::cuda::record(&mut tape, &frame)?;
        cis::cuda::record_tables(&mut tape, &frame)?;
        translate::cuda::record(&mut tape, &frame)?;
        attend::cuda::record(&mut tape, &frame)?;
        pool::cuda::record(&mut tape, &frame)?;
        linear::cuda::record(&mut tape, &frame)?;
        linear::cuda::record_contrast(&mut tape, &frame)?;
        cis::cuda::record(&mut tape, &frame)?;
        let arenas = adam::cuda::Arenas {
            p: state.arena.ptr(state.p),
            g: state.arena.ptr(state.g),
            m: state.arena.ptr(state.m),
            v: state.arena.ptr(state.v),
            n: state.len,
            part: state.arena.ptr(state.norm_part),
            control: state.arena.ptr(state.control),
        };
        adam::cuda::record(&mut tape, &frame, &arenas, &self.adam)?;
        Ok(tape.program(key.last))
    }

    /// Runs the program of `key`. The first run of a bucket is launched kernel by kernel, the second is captured into a
    /// graph, so that a bucket that is met once costs no capture.
    fn execute(&mut self, key: &Key) -> Result<()> {
        if !self.programs.contains_key(key) {
            if self.programs.len() >= PROGRAMS {
                let oldest = self.programs.iter().min_by_key(|p| p.1.used).map(|p| p.0.clone());
                oldest.and_then(|key| self.programs.remove(&key));
            }
            let program = self.record(key)?;
            self.programs.insert(key.clone(), Recorded { program, graph: None, met: false, used: 0 });
        }
        self.runs += 1;
        let Some(r) = self.programs.get_mut(key) else {
            return Err(Error::Internal("a program was not kept".into()));
        };
        r.used = self.runs;
        if self.use_graphs && r.met && r.graph.is_none() {
            match capture(&self.gpu, || r.program.run(&self.gpu)) {
                Ok(graph) => r.graph = Some(graph),
                // Graphs take device memory; without any left, steps are launched kernel by kernel.
                Err(e) if e.is_out_of_memory() => self.use_graphs = false,
                Err(e) => return Err(e),
            }
        }
        r.met = true;
        match &r.graph {
            Some(graph) if self.use_graphs => graph.launch().map_err(driver("launch a captured step")),
            _ => r.program.run(&self.gpu),
        }
    }

    /// Runs `body` with the batches `0..count` packed ahead by several threads and handed out in order, whatever the number
    /// of threads. Batch `i` is `make(i)`; its dropout is keyed by step `first_step + i`.
    pub(crate) fn with_feed<R>(
        &mut self,
        count: usize,
        make: impl Fn(usize) -> Batch<f32> + Sync,
        first_step: u64,
        body: impl FnOnce(&mut Engine, &mut Feed) -> Result<R>,
    ) -> Result<R> {
        self.reserve_buffers()?;
        let slot = self.workspace()?.plan.slot.clone();
        let (packer, rates, terms) = (self.packer.clone(), self.rates, self.training());
        let (give, take) = channel::<Pinned>();
        let workers = self.buffers.len().saturating_sub(SLOTS).max(1).min(count.max(1));
        for buffer in self.buffers.drain(..) {
            let _ = give.send(buffer);
        }
        let (send, receive) = channel();
        let (take, next, packing) = (Mutex::new(take), AtomicUsize::new(0), AtomicU64::new(0));
        let work = |send: Sender<(usize, Result<Packed>)>| {
            // A buffer first, then a number: the lowest number under way always has its buffer, so nothing waits for
            // ever.
            let mut left = Vec::new();
            loop {
                let Ok(buffer) = take.lock().unwrap_or_else(PoisonError::into_inner).recv() else { return left };
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    left.push(buffer);
                    return left;
                }
                let pack = || {
                    let arranged = packer.arrange(&make(i), terms)?;
                    let step = first_step + i as u64;
                    Ok(arranged.pack(&slot, packer.config.genes, step, rates.at(step), buffer))
                };
                let began = Instant::now();
                // A panic has been told by its hook; whoever waits for this batch is not to wait for ever.
                let packed = std::panic::catch_unwind(AssertUnwindSafe(pack)).unwrap_or_else(|_| {
                    Err(Error::Internal("reading a batch failed; check the data with `inspect`".into()))
                });
                packing.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
                if let Err(lost) = send.send((i, packed)) {
                    left.extend(lost.0.1.ok().map(|p| p.pinned));
                    return left;
                }
            }
        };
        let mut feed = Feed { receive, waiting: BTreeMap::new(), next: 0, give, waited: 0.0 };
        let (result, left) = std::thread::scope(|scope| {
            let work = &work;
            let senders = vec![send; workers];
            let threads: Vec<_> = senders.into_iter().map(|send| scope.spawn(move || work(send))).collect();
            let result = body(self, &mut feed);
            let Feed { receive, waiting, give, waited, .. } = feed;
            self.spent.wait_batch += waited;
            drop(give);
            let mut left: Vec<Pinned> = waiting.into_values().filter_map(|p| p.ok().map(|p| p.pinned)).collect();
            for t in threads {
                left.extend(t.join().unwrap_or_default());
            }
            left.extend(receive.try_iter().filter_map(|(_, p)| p.ok().map(|p| p.pinned)));
            (result, left)
        });
        self.spent.pack += packing.into_inner() as f64 * 1e-9;
        // A body that failed has left steps under way.
        while self.under_way() > 0 {
            if let Ok((_, buffer)) = self.settle() {
                self.buffers.push(buffer);
            }
        }
        self.buffers.extend(left);
        self.buffers.extend(take.into_inner().unwrap_or_else(PoisonError::into_inner).try_iter());
        result
    }

    /// Trains on the batches `make(0..count)`, which the workspace has room for ([`Engine::reserve`]): packed ahead by
    /// several threads, uploaded while the one before is computed. `told` hears of every step, in order; it stops the
    /// training by `false`.
    pub fn train_batches(
        &mut self,
        count: usize,
        make: impl Fn(usize) -> Batch<f32> + Sync,
        dropout: Dropout,
        mut told: impl FnMut(usize, &StepRecord) -> bool,
    ) -> Result<()> {
        self.with_feed(count, make, dropout.step, |engine, feed| {
            let mut done = 0;
            let mut go = true;
            for i in 0..=count {
                if i < count && go {
                    engine.submit(feed.next()?, dropout.seed)?;
                }
                while engine.under_way() == SLOTS || (engine.under_way() > 0 && (i == count || !go)) {
                    let (record, buffer) = engine.settle()?;
                    feed.free(buffer);
                    go &= told(done, &record);
                    done += 1;
                }
            }
            Ok(())
        })
    }

    /// Steps under way.
    pub(crate) fn under_way(&self) -> usize {
        self.slots.iter().filter(|s| s.flight.is_some()).count()
    }

    /// Gives a training step to the device and does not wait for it; at most [`SLOTS`] are under way.
    pub(crate) fn submit(&mut self, packed: Packed, seed: u64) -> Result<()> {
        let began = Instant::now();
        let started = self.start(packed, Pass::Update, Some(seed), self.training());
        self.spent.submit += began.elapsed().as_secs_f64();
        started.map(|_| ())
    }

    /// Waits for the oldest step under way: its record, and the pinned buffer, free again.
    pub(crate) fn settle(&mut self) -> Result<(StepRecord, Pinned)> {
        let oldest = if self.slots[self.next].flight.is_some() { self.next } else { (self.next + SLOTS - 1) % SLOTS };
        let began = Instant::now();
        let collected = self.collect(oldest);
        self.spent.wait_device += began.elapsed().as_secs_f64();
        collected
    }

    /// Gives a packed batch to the device: upload on the copy stream, the program behind it on the compute stream. Waits
    /// only where both slots are under way.
    fn start(&mut self, packed: Packed, last: Pass, dropout: Option<u64>, terms: Terms) -> Result<usize> {
        let slot = self.next;
        if self.slots[slot].flight.is_some() {
            return Err(Error::Internal("a slot was used before its step was collected".into()));
        }
        if let Err(e) = self.launch(slot, &packed, last, dropout, terms) {
            // Its uploads may be under way: the buffer is free again only behind them.
            let _ = self.gpu.synchronize();
            self.buffers.push(packed.pinned);
            return Err(e);
        }
        self.slots[slot].flight = Some(packed);
        self.next = (slot + 1) % SLOTS;
        Ok(slot)
    }

    fn launch(&mut self, slot: usize, packed: &Packed, last: Pass, dropout: Option<u64>, terms: Terms) -> Result<()> {
        let work = self.workspace()?;
        let room = work.plan.room;
        if !room.holds(&packed.sizes) {
            return Err(Error::Internal("a batch that is larger than the workspace".into()));
        }
        self.gpu.context().bind_to_thread().map_err(driver("take the context"))?;
        let copy = self.gpu.copy().clone();
        let base = work.slot_offset(slot);
        self.slots[slot].computed.hold(&copy)?;
        for &(at, bytes) in &packed.ranges {
            work.arena.memory().upload(base + at, &packed.pinned, at, bytes, &copy)?;
        }
        self.slots[slot].uploaded.record(&copy)?;
        self.slots[slot].uploaded.hold(self.gpu.compute())?;
        let key = Key { last, sizes: packed.sizes.bucket(&self.packer.config, &room), slot, dropout, terms };
        self.execute(&key)?;
        let offset = self.state.records.offset + slot * size_of::<StepRecord>();
        let (gpu, state) = (&self.gpu, &self.state);
        let s = &mut self.slots[slot];
        state.arena.memory().download(offset, &mut s.record, 0, size_of::<StepRecord>(), gpu.compute())?;
        s.computed.record(gpu.compute())
    }

    /// Waits for the step in `slot` and takes its record; the pinned buffer goes back to the pool.
    fn collect(&mut self, slot: usize) -> Result<(StepRecord, Pinned)> {
        let s = &mut self.slots[slot];
        let Some(packed) = s.flight.take() else {
            return Err(Error::Internal("nothing is under way in this slot".into()));
        };
        s.computed.synchronize()?;
        let record = bytemuck::pod_read_unaligned(&s.record.bytes()[..size_of::<StepRecord>()]);
        Ok((record, packed.pinned))
    }

    /// What a training step computes.
    fn training(&self) -> Terms {
        let c = self.config();
        Terms {
            translate: c.alpha != 0.0,
            counts: false,
            cis: self.cis.is_some(),
            blind: false,
            contrast: c.contrast > 0.0,
        }
    }

    /// What a forward pass computes: as [`Model::run`].
    fn wanted(&self, want: Want) -> Terms {
        let (c, cis) = (self.config(), self.cis.is_some());
        let by_cis = want.translation && c.translates_by_cis();
        Terms {
            translate: want.translation && (!by_cis || c.alpha != 0.0) || want.counts,
            counts: want.counts,
            cis: cis && (want.cis || by_cis),
            blind: cis && (want.cis || by_cis),
            contrast: false,
        }
    }

    /// Arranges a batch and makes room for it.
    fn arrange(&mut self, batch: &Batch<f32>, terms: Terms) -> Result<(Arranged, Pinned)> {
        let arranged = self.packer.arrange(batch, terms)?;
        if !self.work.as_ref().is_some_and(|w| w.plan.room.holds(&arranged.sizes)) {
            // With a quarter over, so that batches that grow little by little do not end in a new plan each.
            match self.reserve(&arranged.sizes.with_slack(self.config()), |_, _| None) {
                Err(Error::OutOfMemory { .. }) => self.reserve(&arranged.sizes, |_, _| None)?,
                done => done?,
            }
        }
        let buffer = match self.buffers.pop() {
            Some(buffer) => buffer,
            None => Pinned::new(&self.gpu, self.workspace()?.plan.slot.layout.bytes())?,
        };
        Ok((arranged, buffer))
    }

    /// Runs one batch up to `last` and waits for it.
    fn once(
        &mut self,
        batch: &Batch<f32>,
        terms: Terms,
        last: Pass,
        dropout: Option<Dropout>,
    ) -> Result<(StepRecord, Arranged)> {
        let (arranged, buffer) = self.arrange(batch, terms)?;
        let genes = self.config().genes;
        let slot_layout = &self.workspace()?.plan.slot;
        let step = dropout.map_or(0, |d| d.step);
        let packed = arranged.pack(slot_layout, genes, step, self.rates.at(step), buffer);
        let slot = self.start(packed, last, dropout.map(|d| d.seed), terms)?;
        let (record, buffer) = self.collect(slot)?;
        self.buffers.push(buffer);
        Ok((record, arranged))
    }

    /// A forward pass without dropout, as [`Model::forward`]. Node-level outputs are the CPU's to compute.
    pub fn forward(&mut self, batch: &Batch<f32>, want: Want) -> Result<Output<f32>> {
        let terms = self.wanted(want);
        let (record, arranged) = self.once(batch, terms, Pass::Forward, None)?;
        self.output(&record, &arranged, want, terms)
    }

    /// A forward and backward pass; gradients are added to the device's ([`Engine::grads`], [`Engine::zero_grads`]).
    pub fn gradients(&mut self, batch: &Batch<f32>, dropout: Option<Dropout>, want: Want) -> Result<Output<f32>> {
        let (wanted, training) = (self.wanted(want), self.training());
        let terms = Terms {
            translate: wanted.translate || training.translate,
            counts: wanted.counts,
            cis: training.cis,
            blind: wanted.blind,
            contrast: training.contrast,
        };
        let (record, arranged) = self.once(batch, terms, Pass::Backward, dropout)?;
        self.output(&record, &arranged, want, terms)
    }

    /// A whole step: forward, backward, and the parameters moved. Losses of the batch before the move.
    pub fn train_step(&mut self, batch: &Batch<f32>, dropout: Option<Dropout>) -> Result<StepRecord> {
        Ok(self.once(batch, self.training(), Pass::Update, dropout)?.0)
    }

    /// Runs a training step op by op and lets `hook` look at the device's memory before and after each pass of each op,
    /// for as long as it returns true.
    /// Graphs are not used. Before the first pass all of the workspace that holds no batch is set to bytes of 0xff, which
    /// are NaN; with `roomy`, grids and regions are made for a larger batch, as they are for most batches of a training.
    /// `counts`: let the translation count exactly, too.
    pub(crate) fn probe(
        &mut self,
        batch: &Batch<f32>,
        dropout: Option<Dropout>,
        roomy: bool,
        counts: bool,
        mut hook: impl FnMut(&Probe<'_>, Moment<'_>) -> Result<bool>,
    ) -> Result<()> {
        if roomy {
            let need = self.packer.arrange(batch, self.training())?.sizes;
            self.reserve(&need.more(self.config()), |_, _| None)?;
        }
        let terms = self.training();
        let terms = Terms { counts: counts && terms.translate, ..terms };
        let (arranged, buffer) = self.arrange(batch, terms)?;
        let genes = self.config().genes;
        let step = dropout.map_or(0, |d| d.step);
        let work = self.workspace()?;
        let packed = arranged.pack(&work.plan.slot, genes, step, self.rates.at(step), buffer);
        let memory = work.arena.memory();
        memory.fill(0, memory.bytes(), 0xff)?;
        for &(at, bytes) in &packed.ranges {
            memory.upload(work.slot_offset(0) + at, &packed.pinned, at, bytes, self.gpu.compute())?;
        }
        self.gpu.synchronize()?;
        let sizes = packed.sizes.bucket(&self.packer.config, &work.plan.room);
        let key = Key { last: Pass::Update, sizes, slot: 0, dropout: dropout.map(|d| d.seed), terms };
        let program = self.record(&key)?;
        let probe = Probe { engine: self, arranged: &arranged };
        let (mut first, steps) = (0, program.steps());
        while let Some(s) = steps.get(first) {
            let same = |t: &&Step| t.op == s.op && t.pass == s.pass;
            let last = first + steps[first..].iter().take_while(same).count();
            let moment = |after| Moment { op: s.op, pass: s.pass, after, steps: &steps[first..last] };
            let mut go_on = hook(&probe, moment(false))?;
            if go_on {
                steps[first..last].iter().try_for_each(|s| s.run(&self.gpu))?;
                self.gpu.synchronize()?;
                go_on = hook(&probe, moment(true))?;
            }
            if !go_on {
                break;
            }
            first = last;
        }
        self.buffers.push(packed.pinned);
        Ok(())
    }

    /// Runs a training step and leaves everything where it is: its program, which can be run again in parts, the sizes of
    /// the batch, and how many genes (over all heads) have a gradient of the translation.
    pub(crate) fn rehearse(&mut self, batch: &Batch<f32>, dropout: Option<Dropout>) -> Result<(Program, Sizes, u64)> {
        let mut sizes = Sizes::default();
        self.probe(batch, dropout, false, false, |probe, _| {
            sizes = probe.arranged.sizes;
            Ok(true)
        })?;
        let work = self.workspace()?;
        let active = if sizes.positives == 0 || !self.training().translate {
            0
        } else {
            let all = work.arena.read(work.plan.spans.n_active, self.config().heads)?;
            all.iter().map(|&n| u64::from(n)).sum()
        };
        let bucket = sizes.bucket(&self.packer.config, &work.plan.room);
        let key = Key {
            last: Pass::Update,
            sizes: bucket,
            slot: 0,
            dropout: dropout.map(|d| d.seed),
            terms: self.training(),
        };
        Ok((self.record(&key)?, sizes, active))
    }

    /// What a pass brings back, read from the workspace.
    fn output(&self, record: &StepRecord, a: &Arranged, want: Want, terms: Terms) -> Result<Output<f32>> {
        let c = self.config();
        let work = self.workspace()?;
        let (n, spans) = (a.sizes.samples as usize, &work.plan.spans);
        let mut out = Output {
            loss: record.loss,
            match_loss: record.match_loss,
            translation_loss: record.translation_loss,
            cis_loss: record.cis_loss,
            contrast_loss: record.contrast_loss,
            cis: Vec::new(),
            cis_blind: Vec::new(),
            logits: work.arena.read(spans.logits, 2 * n)?,
            embedding: work.arena.read(spans.z, 2 * c.hidden * n)?,
            attention: Vec::new(),
            translation: Vec::new(),
            counts: Vec::new(),
            nodes: Vec::new(),
            decisions: None,
        };
        let predicted = if terms.translate && !a.positives.is_empty() { self.predicted(a)? } else { Vec::new() };
        let per = c.heads * c.genes;
        let by_cis = want.translation && c.translates_by_cis();
        let predictions = |span: Span<f32>| -> Result<Vec<Vec<f32>>> {
            let all = work.arena.read(span, a.positives.len() * c.genes)?;
            Ok(all.chunks_exact(c.genes).map(<[f32]>::to_vec).collect())
        };
        if terms.blind && !a.positives.is_empty() {
            let blind = predictions(spans.cis_blind)?;
            if by_cis {
                let decide = |row: &Vec<f32>| row.iter().map(|&y| u8::from(y > 0.0)).collect();
                out.translation = spread(&a.positives, n, blind.iter().map(decide).collect());
            }
            if want.cis {
                out.cis = spread(&a.positives, n, predictions(spans.cis_y)?);
                out.cis_blind = spread(&a.positives, n, blind);
            }
        }
        if (want.translation || want.counts) && !by_cis {
            out.translation = spread(&a.positives, n, predicted.chunks_exact(per).map(<[u8]>::to_vec).collect());
        }
        if want.counts {
            let counts = work.arena.read(spans.count, a.positives.len() * per)?;
            out.counts = spread(&a.positives, n, counts.chunks_exact(per).map(<[u32]>::to_vec).collect());
        }
        if want.attention || want.decisions {
            let selections = self.selections(a)?;
            if want.attention {
                out.attention = (0..n).map(|b| sparse(&selections[b], a.genes.indptr[b], a.peaks.indptr[b])).collect();
            }
            if want.decisions {
                out.decisions = Some(Decisions { attend: selections, translate: predicted });
            }
        }
        Ok(out)
    }

    /// `[positives × heads × G]` of 0 and 1.
    fn predicted(&self, a: &Arranged) -> Result<Vec<u8>> {
        let c = self.config();
        let work = self.workspace()?;
        let words = mask_words(c.genes);
        let bits = work.arena.read(work.plan.spans.predicted, a.positives.len() * c.heads * words)?;
        let mut out = Vec::with_capacity(a.positives.len() * c.heads * c.genes);
        for row in bits.chunks_exact(words) {
            out.extend((0..c.genes).map(|g| (row[g / 32] >> (g % 32) & 1) as u8));
        }
        Ok(out)
    }

    /// The members that the attention chose, sample by sample.
    fn selections(&self, a: &Arranged) -> Result<Vec<Selection<f32>>> {
        let c = self.config();
        let work = self.workspace()?;
        let (spans, k) = (&work.plan.spans, c.top_k);
        let len = a.sizes.gene_entries as usize * c.heads * k;
        let member = work.arena.read(spans.member, len)?;
        let weight = work.arena.read(spans.weight, len)?;
        let score = work.arena.read(spans.score, len)?;
        let tau = c.tau as f32;
        let one = |b: usize| {
            let mut s = Selection { start: vec![0], ..Selection::default() };
            for e in a.genes.indptr[b]..a.genes.indptr[b + 1] {
                for head in 0..c.heads {
                    let slots = (e * c.heads + head) * k..(e * c.heads + head + 1) * k;
                    let there = slots.clone().take_while(|&m| member[m] != abi::NONE).count();
                    if there == 0 {
                        continue;
                    }
                    for m in slots.take(there) {
                        s.peak.push(member[m]);
                        s.weight.push(weight[m]);
                        s.score.push(score[m]);
                        s.kept.push(score[m] > tau);
                    }
                    s.rows.push((head as u8, e as u32));
                    s.start.push(s.peak.len() as u32);
                }
            }
            s
        };
        Ok((0..a.genes.samples()).map(one).collect())
    }
}
