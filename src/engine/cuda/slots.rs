//! What an engine keeps from step to step: programs, slots for batches, and where the host's time went.

use cudarc::driver::CudaGraph;

use super::pack::Packed;
use crate::device::BatchSizes;
use crate::device::gpu::{Event, Pinned};
use crate::device::program::{Pass, Program};
use crate::model::terms::Terms;

/// Which program: how far it goes, and what it is made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub last: Pass,
    pub sizes: BatchSizes,
    pub slot: usize,
    pub dropout: Option<u64>,
    pub terms: Terms,
}

/// A program, and the graph it was captured into.
pub(crate) struct Recorded {
    pub program: Program,
    pub graph: Option<CudaGraph>,
    pub met: bool,
    /// Number of the run that used it last.
    pub used: u64,
}

/// One of the two slots: its events and where its record lands.
#[derive(Debug)]
pub(crate) struct Slot {
    pub uploaded: Event,
    pub computed: Event,
    pub record: Pinned,
    /// The batch under way.
    pub flight: Option<Packed>,
}

/// Where the host's time went in all training of an engine, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// Making and packing batches, summed over the threads that do so.
    pub pack: f64,
    /// The training thread, waiting for a packed batch.
    pub wait_batch: f64,
    /// The training thread, giving uploads and launches to the device.
    pub submit: f64,
    /// The training thread, waiting for the device.
    pub wait_device: f64,
}
