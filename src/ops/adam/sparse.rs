//! Adam where a step has a gradient in few rows: of an arena that begins with tables of rows (the id embeddings), each step
//! names the rows that it reads and writes.
//!
//! See docs/model.md, section 5.6.

use rayon::prelude::*;

use super::{AdamConfig, Constants, FLOPS, chunk, replay, step};
use crate::model::nodes::split_rows;
use crate::profile::{span, work};
use crate::real::Real;

/// What becomes of the rows that a step does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nothing, ever: their moments do not decay, and they get no weight decay. Not the Adam of [`step`].
    Left,
    /// What [`step`] does to them, with their gradient of 0, but later: when a step names them, or by [`RowAdam::flush`].
    /// The same operations in the same order, so the same bits; a row is then in the cache while it makes up for many
    /// steps, where [`step`] streams all rows through memory in each.
    Later,
}

/// Steps that a row may be behind, at most.
const BEHIND: usize = 64;

/// Rows of one task.
const ROWS: usize = 64;

/// What a step moves: arenas of one layout.
#[derive(Debug)]
pub struct Stepped<'a, T> {
    /// Parameters.
    pub p: &'a mut [T],
    /// Gradients; set to 0.
    pub g: &'a mut [T],
    /// First moments.
    pub m: &'a mut [T],
    /// Second moments.
    pub v: &'a mut [T],
}

/// Adam by rows. See [`Others`]; what is no row of the tables is stepped by every step.
///
/// A step is [`RowAdam::catch_up`] with the rows that it will read, the passes over the batch, and [`RowAdam::step`]. Between
/// [`RowAdam::flush`] and the next step, all rows are as they should be. Results do not depend on the number of threads.
#[derive(Debug)]
pub struct RowAdam<T> {
    width: usize,
    others: Others,
    /// What each step since the last flush took.
    past: Vec<Constants<T>>,
    /// How many of those each row has had.
    had: Vec<u8>,
}

impl<T: Real> RowAdam<T> {
    /// For an arena whose first `rows × width` numbers are the tables.
    pub fn new(rows: usize, width: usize, others: Others) -> Self {
        RowAdam { width, others, past: Vec::new(), had: vec![0; rows] }
    }

    /// Numbers of the tables, and of a row of them.
    pub fn tables(&self) -> (usize, usize) {
        (self.had.len() * self.width, self.width)
    }

    /// Does a step that names so many rows go by rows? Where the others are left alone, any does; else where it is worth while.
    pub fn by_rows(&self, named: usize) -> bool {
        self.others == Others::Left || named < self.had.len() / 2
    }

    /// Brings the named rows (ascending) of parameters and moments up to date.
    pub fn catch_up(&mut self, p: &mut [T], m: &mut [T], v: &mut [T], named: &[u32]) {
        if !self.by_rows(named.len()) {
            return self.flush(p, m, v);
        }
        if self.past.is_empty() || named.is_empty() {
            return;
        }
        let _span = span("adam", "");
        let (width, past, had) = (self.width, &self.past, &self.had);
        work(|| {
            let missed: usize = named.iter().map(|&row| past.len() - usize::from(had[row as usize])).sum();
            (FLOPS * (width * missed) as f64, (6 * size_of::<T>() * width * named.len()) as f64)
        });
        let pieces = split_rows(p, named, width, ROWS).into_par_iter();
        let moments = split_rows(m, named, width, ROWS).into_par_iter().zip(split_rows(v, named, width, ROWS));
        pieces.zip(moments).for_each(|((start, first, p), ((_, _, m), (_, _, v)))| {
            for &row in &named[start..named.len().min(start + ROWS)] {
                let at = (row as usize - first) * width;
                let missed = &past[usize::from(had[row as usize])..];
                replay(&mut p[at..at + width], &mut m[at..at + width], &mut v[at..at + width], missed);
            }
        });
        self.had_all(named);
    }

    fn had_all(&mut self, named: &[u32]) {
        let all = self.past.len() as u8; // at most BEHIND
        named.iter().for_each(|&row| self.had[row as usize] = all);
    }

    /// Step `t` (from 1), as [`step`]; the gradient is 0 but in the rows that were named to [`RowAdam::catch_up`], and
    /// behind the tables. It is set to 0.
    pub fn step(&mut self, of: Stepped<'_, T>, c: &AdamConfig, t: u64, named: &[u32]) {
        let Stepped { p, g, m, v } = of;
        if !self.by_rows(named.len()) {
            return step(p, g, m, v, c, t); // caught up: all rows are
        }
        let constants = Constants::new(c, t);
        let (width, tables) = (self.width, self.had.len() * self.width);
        let (rows_p, rest_p) = p.split_at_mut(tables);
        let (rows_g, rest_g) = g.split_at_mut(tables);
        let (rows_m, rest_m) = m.split_at_mut(tables);
        let (rows_v, rest_v) = v.split_at_mut(tables);
        step(rest_p, rest_g, rest_m, rest_v, c, t);
        if !named.is_empty() {
            let _span = span("adam", "");
            let n = named.len() * width;
            work(|| (FLOPS * n as f64, (8 * size_of::<T>() * n) as f64));
            let split = |x| split_rows(x, named, width, ROWS).into_par_iter();
            let (pg, mv) = (split(rows_p).zip(split(rows_g)), split(rows_m).zip(split(rows_v)));
            pg.zip(mv).for_each(|(((start, first, p), (_, _, g)), ((_, _, m), (_, _, v)))| {
                for &row in &named[start..named.len().min(start + ROWS)] {
                    let at = (row as usize - first) * width;
                    let row = at..at + width;
                    chunk(&mut p[row.clone()], &mut g[row.clone()], &mut m[row.clone()], &mut v[row], constants);
                }
            });
        }
        if self.others == Others::Left {
            return;
        }
        self.past.push(constants);
        self.had_all(named);
        if self.past.len() == BEHIND {
            self.flush(p, m, v);
        }
    }

    /// Brings all rows up to date.
    pub fn flush(&mut self, p: &mut [T], m: &mut [T], v: &mut [T]) {
        if self.past.is_empty() {
            return;
        }
        let _span = span("adam", "");
        let (width, past) = (self.width, &self.past);
        let tables = self.had.len() * width;
        work(|| {
            let missed: usize = self.had.iter().map(|&had| past.len() - usize::from(had)).sum();
            (FLOPS * (width * missed) as f64, (6 * size_of::<T>() * tables) as f64)
        });
        let parts = |x| <[T]>::par_chunks_mut(x, ROWS * width);
        let (p, m, v) = (parts(&mut p[..tables]), parts(&mut m[..tables]), parts(&mut v[..tables]));
        p.zip(m.zip(v)).zip(self.had.par_chunks_mut(ROWS)).for_each(|((p, (m, v)), had)| {
            let rows = p.chunks_exact_mut(width).zip(m.chunks_exact_mut(width).zip(v.chunks_exact_mut(width)));
            for ((p, (m, v)), had) in rows.zip(had) {
                replay(p, m, v, &past[usize::from(*had)..]);
                *had = 0;
            }
        });
        self.past.clear();
    }
}
