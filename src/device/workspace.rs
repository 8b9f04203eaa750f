//! What a step computes in: two slots for batches, and every value and gradient between the parameters. Planned for
//! given sizes before the first step; nothing is allocated in a step.

use std::sync::Arc;

use super::abi::Ptr;
use super::arena::{Arena, ArenaPlan, Span};
use super::gpu::Gpu;
use super::region::{Extent, Number, Region, RegionPlaces};
use super::slot::{BatchPtrs, BatchSizes, SlotLayout};
use crate::error::Result;

/// Slots for batches: one is computed with while the other is filled.
pub(crate) const SLOTS: usize = 2;

/// The plan of a workspace.
#[derive(Debug, Clone)]
pub(crate) struct WorkPlan {
    pub room: BatchSizes,
    pub slot: SlotLayout,
    pub layout: ArenaPlan,
    pub places: RegionPlaces,
    slots: [Span<u8>; SLOTS],
}

impl WorkPlan {
    /// A workspace with these regions for batches of up to the sizes of `room`.
    pub fn new(room: &Extent<'_>, regions: &[&'static [Region]]) -> Result<Self> {
        let lengths = room.lengths(regions)?;
        let room = room.sizes;
        let slot = SlotLayout::new(&room);
        let mut layout = ArenaPlan::default();
        let slots = std::array::from_fn(|_| layout.add::<u8>("batch", slot.layout.bytes()));
        let places = RegionPlaces::plan(&mut layout, &lengths);
        Ok(WorkPlan { room, slot, layout, places, slots })
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.layout.bytes()
    }
}

/// An allocated workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub plan: WorkPlan,
    pub arena: Arena,
}

impl Workspace {
    pub fn new(gpu: &Arc<Gpu>, plan: WorkPlan, what: &str) -> Result<Self> {
        let arena = Arena::new(gpu, &plan.layout, what)?;
        Ok(Workspace { plan, arena })
    }

    /// Where the region of that name and kind starts on the device.
    pub fn ptr<T: Number>(&self, name: &str) -> Result<Ptr<T>> {
        Ok(self.arena.ptr(self.plan.places.span::<T>(name)?))
    }

    /// The first `len` numbers of a region. Waits for the device.
    pub fn read<T: Number>(&self, name: &str, len: usize) -> Result<Vec<T>> {
        self.arena.read(self.plan.places.span(name)?, len)
    }

    /// Where slot `slot` starts in the arena.
    pub fn slot_offset(&self, slot: usize) -> usize {
        self.plan.slots[slot].offset
    }

    /// The parts of the batch in slot `slot`.
    pub fn batch(&self, slot: usize) -> BatchPtrs {
        BatchPtrs::new(&self.plan.slot, self.arena.memory().address() + self.slot_offset(slot) as u64)
    }
}
