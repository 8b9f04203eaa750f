//! Device memory, planned: regions are laid out first, by name and length, then allocated at once.

use std::marker::PhantomData;
use std::sync::Arc;

use super::abi::Ptr;
use super::gpu::{Gpu, Memory};
use crate::error::Result;

/// Regions start at multiples of this many bytes.
const ALIGN: usize = 256;

/// A region of numbers of type `T` in an arena.
pub(crate) struct Span<T> {
    pub offset: usize,
    pub len: usize,
    kind: PhantomData<T>,
}

impl<T> Span<T> {
    /// `len` numbers from byte `offset` on.
    pub fn new(offset: usize, len: usize) -> Self {
        Span { offset, len, kind: PhantomData }
    }
}

impl<T> Clone for Span<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Span<T> {}

impl<T> std::fmt::Debug for Span<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.offset, self.len)
    }
}

/// Where regions are to lie in an arena, in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct ArenaPlan {
    regions: Vec<(&'static str, usize)>,
    bytes: usize,
}

impl ArenaPlan {
    /// Room for `len` numbers.
    pub fn add<T>(&mut self, name: &'static str, len: usize) -> Span<T> {
        let offset = self.bytes;
        let bytes = (len * size_of::<T>()).next_multiple_of(ALIGN);
        self.regions.push((name, bytes));
        self.bytes += bytes;
        Span::new(offset, len)
    }

    /// Bytes of all regions.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Regions and their bytes, the largest first.
    pub fn largest(&self) -> Vec<(&'static str, usize)> {
        let mut all = self.regions.clone();
        all.sort_by_key(|r| std::cmp::Reverse(r.1));
        all
    }
}

/// An allocated plan.
#[derive(Debug)]
pub(crate) struct Arena {
    memory: Memory,
}

impl Arena {
    pub fn new(gpu: &Arc<Gpu>, plan: &ArenaPlan, what: &str) -> Result<Self> {
        Ok(Arena { memory: Memory::new(gpu, plan.bytes(), what)? })
    }

    pub fn ptr<T>(&self, span: Span<T>) -> Ptr<T> {
        Ptr::new(self.memory.address() + span.offset as u64)
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The first `len` numbers of a region. Waits for the device.
    pub fn read<T: bytemuck::Pod>(&self, span: Span<T>, len: usize) -> Result<Vec<T>> {
        let mut out = vec![T::zeroed(); len.min(span.len)];
        self.memory.read(span.offset, &mut out)?;
        Ok(out)
    }

    /// All bytes. Waits for the device.
    pub fn image(&self) -> Result<Vec<u8>> {
        let mut out = vec![0u8; self.memory.bytes()];
        self.memory.read(0, &mut out)?;
        Ok(out)
    }

    /// Writes numbers at the start of a region. Waits for the device.
    pub fn write<T: bytemuck::Pod>(&self, span: Span<T>, data: &[T]) -> Result<()> {
        debug_assert!(data.len() <= span.len);
        self.memory.write(span.offset, data)
    }

    /// Sets a region to zero bytes.
    pub fn zero<T>(&self, span: Span<T>) -> Result<()> {
        self.memory.fill(span.offset, span.len * size_of::<T>(), 0)
    }
}
