//! The towers on the CPU: a training step, and what they say of cells.
//!
//! See docs/model.md, sections 4.10 and 5.9.

use std::sync::Arc;

use crate::csr::Csr;
use crate::error::Result;
use crate::model::params::LinearAt;
use crate::model::towers::{TowerAt, Towers};
use crate::ops::head::{concat, dropout, dropout_mask, linear, relu};
use crate::ops::losses::{detection, mse, weighted_sum};
use crate::ops::tower::{Bag, bag, contrast_scaled, gelu, layer_norm, poisson, scaled, unit};
use crate::real::{Real, sigmoid};
use crate::tape::{Grads, Tape, Var};

/// Layers of dropout in the key of its random numbers: genes, peaks, and behind the activation of each tower.
const LAYERS: [u32; 4] = [0x101, 0x102, 0x103, 0x104];

/// What is left out in a training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TowerDropout {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the step.
    pub step: u64,
    /// Share of a cell's genes, of its peaks, and of the numbers of a tower.
    pub share: [f64; 3],
}

/// Weights of the losses of a training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TowerWeights {
    /// Of the prediction beside the contrast of RNA and ATAC.
    pub predict: f64,
    /// Variance of levels, summed over genes, of the training cells: the loss of the gene means.
    pub level: f64,
    /// What the loss of counts, or of detection, is divided by.
    pub rate: f64,
}

/// Losses of a step, each the mean over its cells.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TowerLosses {
    /// Of all, weighted.
    pub loss: f64,
    /// Contrast of RNA and ATAC, docs/model.md, eq. 85.
    pub contrast: f64,
    /// Squared error of levels over that of the gene means.
    pub level: f64,
}

/// RNA and ATAC of the same cells.
#[derive(Debug, Clone, Copy)]
pub struct PairedCells<'a, T> {
    /// `[B]` numbers of the cells: keys of their dropout.
    pub numbers: &'a [u64],
    /// `[B, G]` values as stored.
    pub rna: &'a Csr<T>,
    /// `[B, P]`.
    pub atac: &'a Csr<T>,
}

/// What is predicted of cells, `[B, G]` each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expression {
    /// Expected level: log1p of counts scaled to the median cell, or the value as stored. At least 0 where values are counts.
    pub level: Vec<f32>,
    /// Expected count in a median cell; empty where values are no counts.
    pub count: Vec<f32>,
    /// Probability that the gene is detected in a median cell.
    pub probability: Vec<f32>,
}

/// Parameters on a tape.
struct Pass<'p, T> {
    tape: Tape<'p, T>,
    vars: Vec<Var>,
}

/// One side of a pass.
struct Side<T> {
    at: TowerAt,
    /// 0: RNA, 1: ATAC.
    number: usize,
    rows: usize,
    weights: Csr<T>,
    depths: Vec<T>,
}

impl<'p, T: Real> Pass<'p, T> {
    fn new(towers: &'p Towers<T>, mut tape: Tape<'p, T>) -> Self {
        let matrix = |shape: &[usize]| match shape {
            [rows, columns] => [*rows, *columns],
            other => [1, other.iter().product()],
        };
        let entries = towers.layout().entries().iter().enumerate();
        let vars = entries.map(|(i, e)| tape.param(i, &towers.as_slice()[e.range.clone()], matrix(&e.shape))).collect();
        Pass { tape, vars }
    }

    fn linear(&mut self, x: Var, at: LinearAt) -> Var {
        linear(&mut self.tape, x, self.vars[at.weight], self.vars[at.bias])
    }

    /// What a tower says of cells: vectors `[B, size + depth_size]`, and its last layer `[B, width]`.
    fn tower(&mut self, side: Side<T>, length: usize, drop: Option<(&TowerDropout, &[u64])>) -> (Var, Var) {
        let Side { at, number, rows, mut weights, depths } = side;
        let n = depths.len();
        if let Some((d, cells)) = drop
            && d.share[number] > 0.0
        {
            for (b, cell) in cells.iter().enumerate() {
                let range = weights.indptr[b]..weights.indptr[b + 1];
                let mask: Vec<T> = dropout_mask(d.share[number], d.seed, d.step, &[*cell], LAYERS[number], range.len());
                weights.values[range].iter_mut().zip(mask).for_each(|(w, m)| *w *= m);
            }
        }
        let x = bag(&mut self.tape, Arc::new(Bag::new(&weights, rows)), self.vars[at.table]);
        let x = layer_norm(&mut self.tape, x, self.vars[at.norm.weight], self.vars[at.norm.bias]);
        let mut x = gelu(&mut self.tape, x);
        if let Some((d, cells)) = drop
            && d.share[2] > 0.0
        {
            let width = self.tape.shape(x)[1];
            let mask = dropout_mask(d.share[2], d.seed, d.step, cells, LAYERS[2 + number], width);
            x = dropout(&mut self.tape, x, mask);
        }
        let u = self.linear(x, at.out);
        let u = unit(&mut self.tape, u);
        let depth = self.tape.value(depths, [n, 1]);
        let depth = self.linear(depth, at.depth[0]);
        let depth = gelu(&mut self.tape, depth);
        let depth = self.linear(depth, at.depth[1]);
        let depth = unit(&mut self.tape, depth);
        let depth = scaled(&mut self.tape, depth, self.vars[length]);
        (concat(&mut self.tape, u, depth), x)
    }
}

impl<T: Real> Towers<T> {
    fn side(&self, cells: &Csr<T>, number: usize) -> Side<T> {
        let at = self.layout().at();
        let depths = self.depths(cells, number);
        match number {
            0 => Side { at: at.rna, number, rows: self.config.genes, weights: self.weigh_rna(cells), depths },
            _ => Side { at: at.atac, number, rows: self.config.peaks, weights: self.weigh_atac(cells), depths },
        }
    }

    /// Forward and backward over cells; gradients of the loss are added to `grads` (`[layout.len()]`).
    ///
    /// # Errors
    /// An op that did not give back a gradient: a fault of the program.
    pub(crate) fn train_step(
        &self,
        cells: PairedCells<'_, T>,
        drop: &TowerDropout,
        weights: TowerWeights,
        grads: &mut [T],
    ) -> Result<TowerLosses> {
        let at = *self.layout().at();
        let mut pass = Pass::new(self, Tape::recording());
        let dropped = Some((drop, cells.numbers));
        let (rna, _) = pass.tower(self.side(cells.rna, 0), at.length, dropped);
        let (atac, last) = pass.tower(self.side(cells.atac, 1), at.length, dropped);
        let scale = pass.vars[at.scale];
        let mut loss = contrast_scaled(&mut pass.tape, rna, atac, scale);
        let mut losses = TowerLosses { contrast: pass.tape.get(loss)[0].f64(), ..TowerLosses::default() };
        if at.decoder.is_some() && weights.predict > 0.0 {
            let depths = self.depths(cells.atac, 1);
            let (level, rate) = self.decode(&mut pass, last, depths);
            let n = cells.rna.rows() as f64;
            let levels = self.weigh_rna(cells.rna);
            let genes = self.config.genes as f64;
            let fill = move |row: usize, out: &mut [T]| {
                let (index, value) = levels.row(row);
                index.iter().zip(value).for_each(|(&g, &v)| out[g as usize] = v);
            };
            let squares = mse(&mut pass.tape, level, genes / (n * weights.level), fill);
            losses.level = pass.tape.get(squares)[0].f64();
            loss = weighted_sum(&mut pass.tape, loss, squares, weights.predict);
            let stored = cells.rna.clone();
            let counts = self.config.counts;
            let fill = move |row: usize, out: &mut [T]| {
                let (index, value) = stored.row(row);
                let of = |&v: &T| if counts { v } else { T::of(f64::from(u8::from(v > T::of(0.0)))) };
                index.iter().zip(value).for_each(|(&g, v)| out[g as usize] = of(v));
            };
            let by = 1.0 / (n * weights.rate);
            let other = if counts {
                let total = |i: usize| cells.rna.row(i).1.iter().map(|v| v.f64()).sum::<f64>().max(1.0);
                let depth = (0..cells.rna.rows()).map(|i| T::of(total(i) / self.config.median)).collect();
                poisson(&mut pass.tape, rate, by, depth, fill)
            } else {
                detection(&mut pass.tape, rate, by, fill)
            };
            loss = weighted_sum(&mut pass.tape, loss, other, 0.5 * weights.predict);
        }
        losses.loss = pass.tape.get(loss)[0].f64();
        let mut rest = grads;
        let mut slices = Vec::new();
        for e in self.layout().entries() {
            let (one, tail) = rest.split_at_mut(e.range.len());
            slices.push(one);
            rest = tail;
        }
        pass.tape.backward(loss, &[T::of(1.0)], Grads::new(slices))?;
        Ok(losses)
    }

    /// Levels and log rates (or logits) `[B, G]` from the last layer of the ATAC tower.
    fn decode<'p>(&'p self, pass: &mut Pass<'p, T>, last: Var, depths: Vec<T>) -> (Var, Var) {
        let Some(at) = self.layout().at().decoder else { return (last, last) };
        let n = depths.len();
        let x = pass.linear(last, at.factors);
        let x = relu(&mut pass.tape, x);
        let depth = pass.tape.value(depths, [n, 1]);
        let x = concat(&mut pass.tape, x, depth);
        (pass.linear(x, at.level), pass.linear(x, at.rate))
    }

    /// Vectors of cells told from their RNA, `[B, size + depth_size]`: the first `size` at length 1.
    pub fn of_rna(&self, rna: &Csr<T>) -> Vec<T> {
        self.vectors(rna, 0)
    }

    /// The same from their ATAC.
    pub fn of_atac(&self, atac: &Csr<T>) -> Vec<T> {
        self.vectors(atac, 1)
    }

    fn vectors(&self, cells: &Csr<T>, side: usize) -> Vec<T> {
        let mut pass = Pass::new(self, Tape::inference());
        let (u, _) = pass.tower(self.side(cells, side), self.layout().at().length, None);
        pass.tape.get(u).to_vec()
    }

    /// Does it predict expression?
    pub fn predicts(&self) -> bool {
        self.config.factors > 0
    }

    /// Expression of cells from their ATAC; nothing for towers that do not predict.
    pub fn expression(&self, atac: &Csr<T>) -> Expression {
        if !self.predicts() {
            return Expression::default();
        }
        let mut pass = Pass::new(self, Tape::inference());
        let (_, last) = pass.tower(self.side(atac, 1), self.layout().at().length, None);
        let depths = self.depths(atac, 1);
        let (level, rate) = self.decode(&mut pass, last, depths);
        let counts = self.config.counts;
        let narrow = |v: Var, f: &dyn Fn(f64) -> f64| pass.tape.get(v).iter().map(|x| f(x.f64()) as f32).collect();
        Expression {
            level: narrow(level, &|x| if counts { x.max(0.0) } else { x }),
            count: if counts { narrow(rate, &|x| x.min(12.0).exp()) } else { Vec::new() },
            probability: narrow(rate, &|x| if counts { -(-x.min(12.0).exp()).exp_m1() } else { sigmoid(x) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::towers::{GeneStart, TowerConfig};

    fn towers(counts: bool) -> Towers<f64> {
        let depth = [[1.0, 0.5], [1.2, 0.4]];
        let (width, size, depth_size, factors, median) = (6, 4, 2, 3, 8.0);
        let c = TowerConfig { genes: 4, peaks: 7, width, size, depth_size, factors, counts, median, depth };
        let start = GeneStart { level: &[0.1; 4], rate: &[0.3; 4] };
        Towers::new(c, (0..7).map(|i| 1.0 + f64::from(i)).collect(), start, 3).unwrap()
    }

    fn cells() -> (Csr<f64>, Csr<f64>) {
        let (mut rna, mut atac) = (Csr::new(), Csr::new());
        for i in 0..3u32 {
            rna.push_row([(i, 2.0), (3, 1.0 + f64::from(i))]);
            atac.push_row([(i, 1.0), (i + 2, 1.0), (6, 1.0)]);
        }
        (rna, atac)
    }

    /// The whole step against differences, with dropout, for counts and for values.
    #[test]
    fn the_gradient_of_a_step_is_that_of_its_loss() {
        for counts in [true, false] {
            let t = towers(counts);
            let (rna, atac) = cells();
            let numbers = [5u64, 6, 9];
            let drop = TowerDropout { seed: 1, step: 4, share: [0.3, 0.3, 0.2] };
            let w = TowerWeights { predict: 0.7, level: 2.0, rate: 3.0 };
            let step = |t: &Towers<f64>, g: &mut [f64]| {
                let cells = PairedCells { numbers: &numbers, rna: &rna, atac: &atac };
                t.train_step(cells, &drop, w, g).unwrap()
            };
            let n = t.layout().len();
            let mut grads = vec![0.0; n];
            step(&t, &mut grads);
            let mut moved = t.clone();
            let mut nothing = vec![0.0; n];
            for (i, &g) in grads.iter().enumerate() {
                let x = t.as_slice()[i];
                let mut at = |by: f64| {
                    moved.as_mut_slice()[i] = x + by;
                    let loss = step(&moved, &mut nothing).loss;
                    moved.as_mut_slice()[i] = x;
                    loss
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((slope - g).abs() < 1e-6 * (1.0 + slope.abs()), "{counts} {i}: {slope} {g}");
            }
            assert!(grads.iter().filter(|g| g.abs() > 1e-9).count() > n / 2);
        }
    }

    #[test]
    fn cells_are_told_one_by_one() {
        let t = towers(true);
        let (rna, atac) = cells();
        let (all, of_atac, told) = (t.of_rna(&rna), t.of_atac(&atac), t.expression(&atac));
        assert_eq!((all.len(), of_atac.len(), told.level.len()), (18, 18, 12));
        for i in 0..3 {
            let mut one = Csr::new();
            let (index, value) = rna.row(i);
            one.push_row(index.iter().copied().zip(value.iter().copied()));
            let alone = t.of_rna(&one);
            assert!(alone.iter().zip(&all[6 * i..]).all(|(a, b)| (a - b).abs() < 1e-12));
            let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
            assert!((length(&alone[..4]) - 1.0).abs() < 1e-9 && (length(&alone[4..]) - 0.25).abs() < 1e-9);
        }
        assert!(told.level.iter().all(|&x| x >= 0.0) && told.probability.iter().all(|&p| (0.0..=1.0).contains(&p)));
        assert!(told.count.iter().zip(&told.probability).all(|(&c, &p)| (p - (1.0 - (-c).exp())).abs() < 1e-6));
        assert!(towers(false).expression(&atac).count.is_empty());
    }
}
