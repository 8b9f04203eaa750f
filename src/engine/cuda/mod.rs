//! The model on a device: parameters, gradients, moments and features live there; batches are uploaded while the one
//! before is computed; a step is a recorded program, replayed or launched as a CUDA graph.

pub(crate) mod feed;
pub(crate) mod output;
pub(crate) mod pack;
pub(crate) mod probe;
pub(crate) mod profile;
pub(crate) mod slots;
pub(crate) mod state;
pub(crate) mod tensors;

use std::collections::HashMap;
use std::sync::Arc;

use crate::device::abi::{Ptr, StepRecord};
use crate::device::arena::{Arena, Span};
use crate::device::frame::{Arenas, Constants, Frame};
use crate::device::gpu::{Kernels, Pinned, capture, driver};
use crate::device::op::program;
use crate::device::program::{Pass, Program};
use crate::device::region::Extent;
use crate::device::workspace::{SLOTS, WorkPlan, Workspace};
use crate::device::{BatchSizes, Gpu, abi};
use crate::error::{Error, Result};
use crate::model::output::{Output, Want};
use crate::model::terms::Terms;
use crate::model::{Batch, CisGraph, Dropout, Model, ModelConfig, ParamLayout, Precision};
use crate::ops;
use crate::ops::adam::{AdamConfig, Rates};
use pack::{Arranged, Packer};
use slots::{Key, Recorded, Slot, Spent};
use state::State;

/// Programs kept, with their graphs; the one that was not used for longest makes room.
const PROGRAMS: usize = 128;

/// Threads that pack batches, at most.
const PACKERS: usize = 16;

/// Bytes of pinned host memory, at most, unless three buffers are larger.
const PINNED: usize = 8 << 30;

/// A model on a device.
pub struct Engine {
    gpu: Arc<Gpu>,
    kernels: Kernels,
    precision: Precision,
    layout: Arc<ParamLayout>,
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

    /// Bytes of a workspace for batches of these sizes.
    pub fn workspace_bytes(&self, room: &BatchSizes) -> Result<usize> {
        Ok(self.plan(*room)?.bytes())
    }

    /// What lengths of regions are made of, for these sizes.
    pub(crate) fn extent(&self, sizes: BatchSizes) -> Extent<'_> {
        Extent::new(self.config(), self.cis.as_deref(), &self.kernels, sizes)
    }

    fn plan(&self, room: BatchSizes) -> Result<WorkPlan> {
        WorkPlan::new(&self.extent(room), &ops::regions())
    }

    /// Plans and allocates the workspace, so that batches of up to these sizes take no further allocation. A workspace
    /// that is large enough already stays. `fits` names, for the message, the flags that would fit into so many bytes.
    pub fn reserve(&mut self, room: &BatchSizes, fits: impl Fn(&Engine, u64) -> Option<String>) -> Result<()> {
        if self.work.as_ref().is_some_and(|w| w.plan.room.holds(room)) {
            return Ok(());
        }
        let room = self.work.as_ref().map_or(*room, |w| w.plan.room.max(room));
        let plan = self.plan(room)?;
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
        let arenas = Arenas {
            p: state.arena.ptr(state.p),
            g: state.arena.ptr(state.g),
            m: state.arena.ptr(state.m),
            v: state.arena.ptr(state.v),
            n: state.len,
            part: state.arena.ptr(state.norm_part),
            control: state.arena.ptr(state.control),
        };
        let AdamConfig { beta1, beta2, eps, weight_decay, .. } = self.adam;
        let frame = Frame {
            kernels: &self.kernels,
            config,
            suffix: self.precision.suffix(),
            sizes: key.sizes,
            batch: work.batch(key.slot),
            work,
            gene_side: side(state.gene_chrom, dense, Ptr::NULL, f.genes(), config.gene_extra),
            peak_side: side(state.peak_chrom, Ptr::NULL, bases, f.peaks(), config.dna_length),
            param: &|name| param(state.p, name),
            grad: &|name| param(state.g, name),
            record: state.arena.ptr(state.records).add(key.slot),
            arenas,
            constants: Constants { beta1, beta2, eps, weight_decay },
            dropout: key.dropout,
            graph: state.cis.map(|g| g.args(&state.arena, config)),
            terms: key.terms,
            training: key.last >= Pass::Backward,
        };
        program(ops::ALL, &frame, key.last)
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

    /// What a training step computes.
    fn training(&self) -> Terms {
        Terms::of(self.config(), Want::default(), true)
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
        let terms = Terms::of(self.config(), want, false);
        let (record, arranged) = self.once(batch, terms, Pass::Forward, None)?;
        self.output(&record, &arranged, want, terms)
    }

    /// A forward and backward pass; gradients are added to the device's ([`Engine::grads`], [`Engine::zero_grads`]).
    pub fn gradients(&mut self, batch: &Batch<f32>, dropout: Option<Dropout>, want: Want) -> Result<Output<f32>> {
        let terms = Terms::of(self.config(), want, true);
        let (record, arranged) = self.once(batch, terms, Pass::Backward, dropout)?;
        self.output(&record, &arranged, want, terms)
    }

    /// A whole step: forward, backward, and the parameters moved. Losses of the batch before the move.
    pub fn train_step(&mut self, batch: &Batch<f32>, dropout: Option<Dropout>) -> Result<StepRecord> {
        Ok(self.once(batch, self.training(), Pass::Update, dropout)?.0)
    }
}
