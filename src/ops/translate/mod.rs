//! `translate`: from a cell's peaks to the expression of every gene (docs/model.md, section 4.6, section 7.4).
//!
//! `n_i = Σ_j [sigmoid(q_i·k_j) > tau]` over the cell's peaks; `predicted = [n_i > min_peaks]`. A column of the score
//! matrix depends only on (peak, accessibility), so scores are computed for the *distinct* columns of a batch, in
//! tiles that end as bit masks over genes; counting is bit-sliced: a word adds 64 genes at once. Both indicators are
//! straight-through: backward dlogit_ij = g_i s_ij (1 − s_ij) for every pair, recomputed tile by tile, skipping genes
//! whose g is exactly 0, over the distinct columns or cell by cell, whichever costs less. A sample alone computes no
//! further scores of a gene that is decided.

mod backward;
#[forbid(unsafe_code)]
pub(crate) mod check;
pub(crate) mod columns;
mod counters;
pub(crate) mod cuda;
pub(crate) mod kernel;
pub(crate) mod scores;

use std::sync::Arc;

use crate::profile::{span, work};
use crate::real::Real;
use crate::tape::{Tape, Var};
use backward::{Added, Backward};
use counters::{BLOCK, Counters};
use scores::{decide_alone, for_blocks};

pub use backward::BackwardPlan;
pub use columns::PeakColumns;
pub(crate) use columns::{add_key_gradients, effective, keys};
pub(crate) use scores::logit_limit;
pub use scores::{Tables, TranslateSpec, counts};

/// Predicted expression of every gene: `[n × heads, G]` of 0 and 1, row `sample × heads + head`.
///
/// `q` `[G, H]` (all genes), `uq` `[1, H]`, `k` `[R, H]`, `uk` `[1, H]` from `project`. `given` replaces the decisions
/// (`[n × heads, G]` of 0/1), for comparisons of two precisions.
pub fn translate<'p, T: Real>(
    tape: &mut Tape<'p, T>,
    spec: TranslateSpec,
    cols: Arc<PeakColumns<T>>,
    (q, uq): (Var, Var),
    (k, uk): (Var, Var),
    given: Option<&[u8]>,
) -> Var {
    let _span = span("translate", "forward");
    let [genes, h] = tape.shape(q);
    let n = cols.samples();
    let counted = |scores: u64| {
        let numbers = h * (genes + cols.len()) + n * spec.heads * genes;
        work(|| (2.0 * (scores * h as u64 / spec.heads as u64) as f64, (size_of::<T>() * numbers) as f64));
    };
    let mut pred = vec![T::of(0.0); n * spec.heads * genes];
    if let Some(given) = given {
        pred.iter_mut().zip(given).for_each(|(p, &g)| *p = T::of(f64::from(g)));
    } else if n == 1 {
        let (on, scores) = decide_alone(spec, Tables::of(tape, (q, uq), (k, uk)), &cols);
        pred.iter_mut().zip(on).for_each(|(p, on)| *p = T::of(f64::from(u8::from(on))));
        counted(scores);
    } else {
        counted((genes * cols.len() * spec.heads) as u64);
        let tables = Tables::of(tape, (q, uq), (k, uk));
        let blocks = for_blocks(spec, tables, &cols, |_| Counters::threshold(spec.min_peaks), |_, _, _, c| c.over);
        for (block, results) in blocks.iter().enumerate() {
            for (i, over) in results.iter().enumerate() {
                let (head, s) = (i / n, i % n);
                let c = Counters::only_over(*over);
                let from = block * BLOCK;
                for g in from..(from + BLOCK).min(genes) {
                    pred[(s * spec.heads + head) * genes + g] = T::of(f64::from(u8::from(c.is_over(g - from))));
                }
            }
        }
    }
    let pred = tape.value(pred, [n * spec.heads, genes]);
    tape.record("translate", &[pred], move |s| {
        let g = s.take(pred);
        let (mut dq, mut dk) = (s.take(q), s.take(k));
        let (mut duq, mut duk) = (s.take(uq), s.take(uk));
        {
            let (qv, kv, uqv, ukv) = (s.value(q), s.value(k), s.value(uq), s.value(uk));
            let ke = keys(kv, ukv, &cols);
            let mut dke = vec![T::of(0.0); ke.len()];
            for head in 0..spec.heads {
                let rows = |i: usize| &g[(i * spec.heads + head) * genes..][..genes];
                let task = Backward { q: qv, uq: uqv, ke: &ke, h, head, slice: h / spec.heads };
                task.run(&cols, n, rows, &mut Added { dq: &mut dq, duq: &mut duq, dke: &mut dke });
            }
            add_key_gradients(&dke, &cols, &mut dk, &mut duk);
        }
        s.put(q, dq);
        s.put(k, dk);
        s.put(uq, duq);
        s.put(uk, duk);
    });
    pred
}
