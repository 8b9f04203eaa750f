//! Batches on their way: packed by threads, uploaded, computed, collected.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Engine;
use super::pack::Packed;
use super::slots::Key;
use crate::device::abi::StepRecord;
use crate::device::gpu::{Pinned, driver};
use crate::device::program::Pass;
use crate::device::workspace::SLOTS;
use crate::error::{Error, Result};
use crate::model::terms::Terms;
use crate::model::{Batch, Dropout};

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

impl Engine {
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
    pub(crate) fn start(&mut self, packed: Packed, last: Pass, dropout: Option<u64>, terms: Terms) -> Result<usize> {
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
    pub(crate) fn collect(&mut self, slot: usize) -> Result<(StepRecord, Pinned)> {
        let s = &mut self.slots[slot];
        let Some(packed) = s.flight.take() else {
            return Err(Error::Internal("nothing is under way in this slot".into()));
        };
        s.computed.synchronize()?;
        let record = bytemuck::pod_read_unaligned(&s.record.bytes()[..size_of::<StepRecord>()]);
        Ok((record, packed.pinned))
    }
}
