//! Where a step's time goes: packing, upload, each launch between events, and the whole step launched and replayed.

use std::time::Instant;

use super::Engine;
use super::slots::{Key, Spent};
use crate::device::gpu::{Event, capture, driver};
use crate::device::program::{Pass, Program, Step};
use crate::device::workspace::SLOTS;
use crate::error::Result;
use crate::model::{Batch, Dropout};

/// A step that was taken once and whose parts can be repeated: the batch stays on the device, and so does all that the
/// step computed. Repeating backward or update passes changes gradients and parameters, so the engine that lent itself
/// computes on with other numbers than it would have.
#[derive(Debug)]
pub struct Staged<'e> {
    engine: &'e Engine,
    program: Program,
}

impl Staged<'_> {
    /// The passes of the ops, in the order in which they run.
    pub fn steps(&self) -> &[Step] {
        self.program.steps()
    }

    /// Seconds of `rounds` runs of the steps that `which` names, one behind the other, between two events.
    pub fn seconds(&self, which: impl Fn(&Step) -> bool, rounds: u64) -> Result<f64> {
        let gpu = self.engine.gpu();
        let steps: Vec<&Step> = self.steps().iter().filter(|s| which(s)).collect();
        self.between(|| {
            for _ in 0..rounds {
                steps.iter().try_for_each(|s| s.run(gpu))?;
            }
            Ok(())
        })
    }

    /// Seconds that the device is at what `body` gives it.
    fn between(&self, body: impl FnOnce() -> Result<()>) -> Result<f64> {
        let gpu = self.engine.gpu();
        gpu.context().bind_to_thread().map_err(driver("take the context"))?;
        let (start, end) = (gpu.event(true)?, gpu.event(true)?);
        start.record(gpu.compute())?;
        body()?;
        end.record(gpu.compute())?;
        end.synchronize()?;
        end.since(&start)
    }
}

/// The time of one pass of one op.
#[derive(Debug, Clone, PartialEq)]
pub struct OpTime {
    /// The op.
    pub op: &'static str,
    /// The pass.
    pub pass: Pass,
    /// Seconds of all its launches.
    pub seconds: f64,
    /// Entry point and seconds of each launch, in order.
    pub launches: Vec<(String, f64)>,
}

/// Where a step's time goes: medians, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Arranging the batch and writing it to pinned memory, on the host.
    pub pack: f64,
    /// Copying it to the device.
    pub upload: f64,
    /// Bytes copied.
    pub upload_bytes: usize,
    /// The step, launched kernel by kernel.
    pub launched: f64,
    /// The step, replayed as a graph.
    pub replayed: f64,
    /// Each op, with events between its launches.
    pub ops: Vec<OpTime>,
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x.get(x.len() / 2).copied().unwrap_or(0.0)
}

impl Engine {
    /// Where the host's time went in training so far.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Takes a training step on a batch, then holds the engine so that parts of the step can be repeated and timed.
    pub fn stage(&mut self, batch: &Batch<f32>, dropout: Option<Dropout>) -> Result<Staged<'_>> {
        let (_, arranged) = self.once(batch, self.training(), Pass::Update, dropout)?;
        let slot = (self.next + SLOTS - 1) % SLOTS;
        let room = self.workspace()?.plan.room;
        let sizes = arranged.sizes.bucket(&self.packer.config, &room);
        let key = Key { last: Pass::Update, sizes, slot, dropout: dropout.map(|d| d.seed), terms: self.training() };
        let program = self.record(&key)?;
        Ok(Staged { engine: self, program })
    }

    /// Takes a training step on a batch and measures its parts `rounds` times. The parameters move.
    pub fn profile(&mut self, batch: &Batch<f32>, dropout: Option<Dropout>, rounds: usize) -> Result<Profile> {
        let (mut pack, mut upload, mut upload_bytes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds.max(1) {
            let began = Instant::now();
            let (arranged, buffer) = self.arrange(batch, self.training())?;
            let genes = self.config().genes;
            let packed = arranged.pack(&self.workspace()?.plan.slot, genes, 0, self.rates.at(0), buffer);
            pack.push(began.elapsed().as_secs_f64());
            upload_bytes = packed.ranges.iter().map(|r| r.1).sum();
            let (work, copy) = (self.workspace()?, self.gpu.copy().clone());
            let (start, end) = (self.gpu.event(true)?, self.gpu.event(true)?);
            start.record(&copy)?;
            for &(at, bytes) in &packed.ranges {
                work.arena.memory().upload(work.slot_offset(self.next) + at, &packed.pinned, at, bytes, &copy)?;
            }
            end.record(&copy)?;
            end.synchronize()?;
            upload.push(end.since(&start)?);
            self.buffers.push(packed.pinned);
        }
        let staged = self.stage(batch, dropout)?;
        let gpu = staged.engine.gpu().clone();
        let launches: usize = staged.steps().iter().map(|s| s.launches.len()).sum();
        let events = (0..=launches).map(|_| gpu.event(true)).collect::<Result<Vec<Event>>>()?;
        let mut each = vec![Vec::new(); launches];
        let (mut launched, mut replayed) = (Vec::new(), Vec::new());
        let graph = capture(&gpu, || staged.program.run(&gpu))?;
        for _ in 0..rounds.max(1) {
            launched.push(staged.between(|| staged.program.run(&gpu))?);
            replayed.push(staged.between(|| graph.launch().map_err(driver("launch a captured step")))?);
            events[0].record(gpu.compute())?;
            for (launch, event) in staged.steps().iter().flat_map(|s| &s.launches).zip(&events[1..]) {
                launch.run(gpu.compute())?;
                event.record(gpu.compute())?;
            }
            gpu.synchronize()?;
            for (times, pair) in each.iter_mut().zip(events.windows(2)) {
                times.push(pair[1].since(&pair[0])?);
            }
        }
        let mut times = each.into_iter().map(median);
        let op = |s: &Step| {
            let launches: Vec<(String, f64)> =
                s.launches.iter().map(|l| l.name().to_string()).zip(times.by_ref()).collect();
            OpTime { op: s.op, pass: s.pass, seconds: launches.iter().map(|l| l.1).sum(), launches }
        };
        let ops = staged.steps().iter().map(op).collect();
        Ok(Profile {
            pack: median(pack),
            upload: median(upload),
            upload_bytes,
            launched: median(launched),
            replayed: median(replayed),
            ops,
        })
    }
}
