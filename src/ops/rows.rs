//! `rows`: some rows of a table.

use std::sync::Arc;

use crate::real::Real;
use crate::tape::{Tape, Var};

/// Rows `rows` (distinct) of `table` `[R, H]` → `[rows, H]`.
pub fn rows<'p, T: Real>(tape: &mut Tape<'p, T>, table: Var, rows: Arc<Vec<u32>>) -> Var {
    let [_, h] = tape.shape(table);
    let mut out = Vec::with_capacity(rows.len() * h);
    let all = tape.get(table);
    for &r in rows.iter() {
        out.extend_from_slice(&all[r as usize * h..(r as usize + 1) * h]);
    }
    let out = tape.value(out, [rows.len(), h]);
    tape.record("rows", &[out], move |s| {
        let (g, mut d) = (s.take(out), s.take(table));
        for (&r, g) in rows.iter().zip(g.chunks_exact(h)) {
            d[r as usize * h..(r as usize + 1) * h].iter_mut().zip(g).for_each(|(d, &g)| *d += g);
        }
        s.put(table, d);
    });
    out
}
