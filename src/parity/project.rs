//! `project` against the CPU.

use std::sync::Arc;

use super::sink::{Sink, backward, rounded, seed};
use super::view::{F32, View};
use crate::model::PREFIX;
use crate::model::Precision;
use crate::ops::project::project;
use crate::tape::Tape;

impl<'a> View<'a> {
    // ------------------------------------------------------------------------------------------ project

    pub(crate) fn project_forward(&self, out: &mut Sink<'_>) {
        let h = self.config.hidden;
        for t in self.tables() {
            let run = |emb: &[f64], w: &[f64]| {
                let b = self.param(&format!("{PREFIX}{}.bias", t.layer));
                let mut tape = Tape::inference();
                let e = tape.param(0, emb, [emb.len() / t.side.dim, t.side.dim]);
                let w = tape.param(1, w, [h, w.len() / h]);
                let b = tape.param(2, &b, [1, h]);
                let (table, u) = project(&mut tape, t.side, Arc::new(t.nodes.rows.clone()), e, w, b);
                (tape.get(table).to_vec(), tape.get(u).to_vec())
            };
            let (emb, w) = (self.param(t.embedding), self.param(&format!("{PREFIX}{}.weight", t.layer)));
            let (table, u) = run(&emb, &w);
            let limit = self.allow(2.0, &table, || run(&rounded(&emb), &rounded(&w)).0);
            out.tensor(t.name, &self.get(t.name, table.len()), &table, limit);
            out.tensor(t.u_name, &self.get(t.u_name, u.len()), &u, F32);
        }
    }

    pub(crate) fn project_backward(&self, out: &mut Sink<'_>) {
        let h = self.config.hidden;
        let mut tables = Vec::new();
        for t in self.tables() {
            let d_table = self.numbers(self.before, &format!("d_{}", t.name), t.nodes.rows.len() * h);
            let d_u = self.numbers(self.before, &format!("d_{}", t.u_name), h);
            let b = self.param(&format!("{PREFIX}{}.bias", t.layer));
            let run = |emb: &[f64], w: &[f64], d_table: Vec<f64>| {
                let mut tape = Tape::recording();
                let lengths = [emb.len(), w.len(), b.len()];
                let e = tape.param(0, emb, [emb.len() / t.side.dim, t.side.dim]);
                let w = tape.param(1, w, [h, w.len() / h]);
                let b = tape.param(2, &b, [1, h]);
                let (table, u) = project(&mut tape, t.side, Arc::new(t.nodes.rows.clone()), e, w, b);
                let root = seed(&mut tape, vec![(table, d_table), (u, d_u.clone())]);
                backward(tape, root, &lengths)
            };
            let weight = format!("{PREFIX}{}.weight", t.layer);
            let (emb, w) = (self.param(t.embedding), self.param(&weight));
            let exact = run(&emb, &w, d_table.clone());
            let near =
                (self.precision == Precision::Bf16).then(|| run(&rounded(&emb), &rounded(&w), rounded(&d_table)));
            let limit = |i: usize| self.allow(3.0, &exact[i], || near.as_ref().map_or(Vec::new(), |n| n[i].clone()));
            self.gradient(out, t.embedding, &exact[0], limit(0));
            self.gradient(out, &weight, &exact[1], limit(1));
            self.gradient(out, &format!("{PREFIX}{}.bias", t.layer), &exact[2], F32);
            tables.push(t.name);
        }
    }
}
