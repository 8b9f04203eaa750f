//! Passes over cells.

use rayon::prelude::*;

use crate::dataset::{Cell, ReadCell};
use crate::error::Result;
use crate::progress::Progress;

/// Portions of the cells whose sums are kept apart and added in order, so that threads do not change the result.
const PORTIONS: usize = 8;
/// What an interruption leaves.
const NOTHING: &str = "nothing was written";

/// Cells, how each is read, and what follows the passes over them.
#[derive(Clone, Copy)]
pub struct Cells<'a> {
    /// Numbers of the cells.
    pub numbers: &'a [u32],
    /// Reads one.
    pub read: &'a ReadCell<'a>,
    /// Asked whether to go on.
    pub progress: &'a dyn Progress,
}

impl Cells<'_> {
    /// Adds up over the cells: `add(sums, place among the cells, cell)`, portion by portion.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub(super) fn sum<A: Send>(
        &self,
        zero: impl Fn() -> A + Sync,
        add: impl Fn(&mut A, usize, &Cell) + Sync,
        merge: impl Fn(&mut A, A),
    ) -> Result<A> {
        let size = self.numbers.len().div_ceil(PORTIONS).max(1);
        let portions: Vec<A> = self
            .numbers
            .par_chunks(size)
            .enumerate()
            .map(|(i, some)| {
                let (mut sums, mut cell) = (zero(), Cell::default());
                for (j, &c) in some.iter().enumerate() {
                    if self.progress.stop().is_some() {
                        break; // the sums are not used
                    }
                    (self.read)(c, &mut cell);
                    add(&mut sums, i * size + j, &cell);
                }
                sums
            })
            .collect();
        self.go_on()?;
        let mut portions = portions.into_iter();
        let mut total = portions.next().unwrap_or_else(&zero);
        portions.for_each(|p| merge(&mut total, p));
        Ok(total)
    }

    /// Leaves where work is to stop.
    pub(super) fn go_on(&self) -> Result<()> {
        self.progress.check(NOTHING)
    }
}

pub(super) fn plus(a: &mut [f64], b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}
