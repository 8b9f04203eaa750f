//! A step run op by op, with the device's memory to look at.

use super::Engine;
use super::pack::Arranged;
use super::slots::Key;
use crate::device::BatchSizes;
use crate::device::abi::{Control, StepRecord};
use crate::device::program::{Pass, Program, Step};
use crate::device::region::Extent;
use crate::device::view::{Area, Image, Moment};
use crate::error::Result;
use crate::model::terms::Terms;
use crate::model::{Batch, Dropout};

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
    pub fn areas(&self) -> Result<Vec<Area>> {
        let s = &self.engine.state;
        let work = self.engine.workspace()?.plan.places.iter().map(|p| (p.name, p.offset, 4 * p.len));
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
        let area = |in_work| move |(name, offset, bytes)| Area { name, in_work, offset, bytes };
        Ok(work.map(area(true)).chain(outlives.map(area(false))).collect())
    }

    /// What lengths of regions are made of, for this very batch.
    pub fn extent(&self) -> Extent<'_> {
        self.engine.extent(self.arranged.sizes)
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

impl Engine {
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
            let same = |t: &&Step| (t.op, t.turn, t.pass) == (s.op, s.turn, s.pass);
            let last = first + steps[first..].iter().take_while(same).count();
            let moment = |after| Moment { op: s.op, turn: s.turn, pass: s.pass, after, steps: &steps[first..last] };
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
    pub(crate) fn rehearse(
        &mut self,
        batch: &Batch<f32>,
        dropout: Option<Dropout>,
    ) -> Result<(Program, BatchSizes, u64)> {
        let mut sizes = BatchSizes::default();
        self.probe(batch, dropout, false, false, |probe, _| {
            sizes = probe.arranged.sizes;
            Ok(true)
        })?;
        let work = self.workspace()?;
        let active = if sizes.positives == 0 || !self.training().translate {
            0
        } else {
            let all = work.read::<u32>("n_active", self.config().heads)?;
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
}
