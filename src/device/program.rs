//! The program of a step: each op records the launches of its forward and of its backward pass; the program is all forward
//! passes in order, all backward passes in reverse, and what updates the parameters.
//!
//! All addresses are known when launches are recorded and counts are read from device memory, so a program can be repeated
//! for other batches of the same bucket, profiled op by op, or captured into a CUDA graph.

use super::gpu::{Gpu, Launch};
use crate::error::Result;

/// Which way an op runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pass {
    /// Values.
    Forward,
    /// Gradients.
    Backward,
    /// Parameters.
    Update,
}

/// The launches of one pass of one op.
#[derive(Debug, Clone)]
pub struct Step {
    /// The op.
    pub op: &'static str,
    /// Its turn: where it comes in the forward pass.
    pub turn: u32,
    /// The pass.
    pub pass: Pass,
    /// Its launches, in order.
    pub launches: Vec<Launch>,
}

/// A program in the making.
#[derive(Debug, Default)]
pub struct Recorder {
    op: &'static str,
    turn: u32,
    forward: Vec<Step>,
    backward: Vec<Step>,
    update: Vec<Step>,
}

impl Recorder {
    /// What is recorded from here on belongs to this turn of this op.
    pub fn begin(&mut self, op: &'static str, turn: u32) {
        (self.op, self.turn) = (op, turn);
    }

    /// How the op computes, and how its gradients go back.
    pub fn add(&mut self, forward: Vec<Launch>, backward: Vec<Launch>) {
        let (op, turn) = (self.op, self.turn);
        for (list, pass, launches) in
            [(&mut self.forward, Pass::Forward, forward), (&mut self.backward, Pass::Backward, backward)]
        {
            if !launches.is_empty() {
                list.push(Step { op, turn, pass, launches });
            }
        }
    }

    /// What happens to the parameters once all gradients are there.
    pub fn update(&mut self, launches: Vec<Launch>) {
        self.update.push(Step { op: self.op, turn: self.turn, pass: Pass::Update, launches });
    }

    /// The program up to and including `last`.
    pub fn program(self, last: Pass) -> Program {
        let mut steps = self.forward;
        if last >= Pass::Backward {
            steps.extend(self.backward.into_iter().rev());
        }
        if last >= Pass::Update {
            steps.extend(self.update);
        }
        Program { steps }
    }
}

/// Launches in the order in which they run.
#[derive(Debug, Clone)]
pub struct Program {
    steps: Vec<Step>,
}

impl Program {
    /// The passes of the ops, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Gives all launches to the compute stream.
    pub fn run(&self, gpu: &Gpu) -> Result<()> {
        self.steps.iter().try_for_each(|s| s.run(gpu))
    }
}

impl Step {
    /// Gives the launches to the compute stream.
    pub fn run(&self, gpu: &Gpu) -> Result<()> {
        self.launches.iter().try_for_each(|l| l.run(gpu.compute()))
    }
}
