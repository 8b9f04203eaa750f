//! Properties of the model on random cells: what must not matter does not, and the fast path equals the reference path.

use std::sync::Arc;

use proptest::prelude::*;
use sccrossrec::engine::PassOptions;
use sccrossrec::model::output::{Output, Want};
use sccrossrec::model::{Batch, Features, Init, Model, ModelConfig};
use sccrossrec::rng::Rng;

const WANT: Want = Want { attention: true, translation: true, counts: true, nodes: true, decisions: false, cis: false };

/// A random problem; `kind` picks the awkward ones.
#[derive(Debug, Clone)]
struct Problem {
    seed: u64,
    kind: Kind,
    heads: usize,
    samples: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    NoLinkedPair,
    OnePeak,
    FewPeaks,
    Ties,
    OneChromosome,
    Unknown,
    Zeros,
}

fn problem() -> impl Strategy<Value = Problem> {
    use Kind::*;
    let kind = prop::sample::select(vec![Plain, NoLinkedPair, OnePeak, FewPeaks, Ties, OneChromosome, Unknown, Zeros]);
    (any::<u64>(), kind, prop::sample::select(vec![1usize, 2, 4]), 1usize..6)
        .prop_map(|(seed, kind, heads, samples)| Problem { seed, kind, heads, samples })
}

fn build(p: &Problem) -> (Model<f64>, Batch<f64>) {
    let mut r = Rng::new(p.seed, 0);
    let (genes, peaks) = (20 + r.below(60), 30 + r.below(120));
    let chromosomes = if p.kind == Kind::OneChromosome { 1 } else { 2 + r.below(5) };
    let mut gene_chrom: Vec<u32> = (0..genes).map(|_| r.below(chromosomes) as u32).collect();
    let mut peak_chrom: Vec<u32> = (0..peaks).map(|_| r.below(chromosomes) as u32).collect();
    if p.kind == Kind::NoLinkedPair {
        gene_chrom.fill(0);
        peak_chrom.iter_mut().for_each(|c| *c = 1 + *c % (chromosomes as u32 - 1));
    }
    if p.kind == Kind::Ties {
        for i in (1..peaks).step_by(2) {
            peak_chrom[i] = peak_chrom[i - 1];
        }
    }
    let (extra, dna) = (r.below(4), r.below(9));
    let mut peak_dna: Vec<u8> = (0..peaks * dna).map(|_| r.below(5) as u8).collect();
    if p.kind == Kind::Ties {
        for i in (1..peaks).step_by(2) {
            peak_dna.copy_within((i - 1) * dna..i * dna, i * dna);
        }
    }
    let features = Features {
        gene_chrom,
        peak_chrom,
        chromosomes,
        unknown: (p.kind == Kind::Unknown).then_some(0),
        gene_extra: (0..genes * extra).map(|_| r.normal()).collect(),
        peak_dna,
    };
    let config = ModelConfig {
        genes,
        peaks,
        chromosomes,
        gene_extra: extra,
        dna_length: dna,
        embedding_dim: 5 + r.below(8),
        hidden: 16,
        heads: p.heads,
        top_k: [1, 3, 10][r.below(3)],
        tau: [0.5, 0.7, 0.8][r.below(3)],
        min_peaks: [0, 2, 9][r.below(3)],
        dropout: 0.0,
        alpha: 0.7,
        ..ModelConfig::default()
    };
    let mut model = Model::new(config, Arc::new(features), Init::PyTorch { embedding_std: 1.0 }, p.seed).unwrap();
    let d = model.config().embedding_dim;
    if p.kind == Kind::Ties {
        let table = model.params.get_mut("atac_idembedding.weight").unwrap();
        for i in (1..peaks).step_by(2) {
            table.copy_within((i - 1) * d..i * d, i * d);
        }
    }
    if p.kind == Kind::Zeros {
        // All logits exactly 0: real and masked pairs tie everywhere.
        for part in ["rna_query.weight", "rna_query.bias"] {
            model.params.get_mut(&format!("cross_attention_layer.{part}")).unwrap().fill(0.0);
        }
    }
    let mut batch = Batch::new();
    for s in 0..p.samples {
        let pick = |n: usize, want: usize, chrom: &[u32], r: &mut Rng| {
            let mut all: Vec<u32> = (0..n as u32).collect();
            r.shuffle(&mut all);
            all.truncate(want.clamp(1, n));
            all.sort_by_key(|&i| (chrom[i as usize], i));
            all
        };
        let want = match p.kind {
            Kind::OnePeak => 1,
            Kind::FewPeaks => 2 + r.below(7),
            _ => 10 + r.below(peaks),
        };
        let g = pick(genes, 1 + r.below(genes), &model.features().gene_chrom, &mut r);
        let a = pick(peaks, want, &model.features().peak_chrom, &mut r);
        let binary = p.kind == Kind::Ties || r.below(2) == 0;
        let g: Vec<(u32, f64)> = g.into_iter().map(|i| (i, 0.1 + 3.0 * r.uniform())).collect();
        let a: Vec<(u32, f64)> =
            a.into_iter().map(|i| (i, if binary { 1.0 } else { (1 + r.below(3)) as f64 })).collect();
        batch.push((r.below(2)) as u8, s as u64, g, a);
    }
    (model, batch)
}

fn pass(model: &Model<f64>, batch: &Batch<f64>) -> (Output<f64>, Vec<f64>) {
    let mut grads = vec![0.0; model.params.layout().len()];
    let run = PassOptions { grads: Some(&mut grads), want: WANT, ..PassOptions::default() };
    let out = model.run(batch, run).unwrap();
    (out, grads)
}

fn close(what: &str, a: &[f64], b: &[f64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.len(), b.len(), "{}: lengths", what);
    let scale = b.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    for (x, y) in a.iter().zip(b) {
        prop_assert!((x - y).abs() <= 1e-9 * scale, "{}: {} against {}", what, x, y);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fast_path_equals_reference_path(p in problem()) {
        let (model, batch) = build(&p);
        let (out, grads) = pass(&model, &batch);
        let want = model.reference(&batch).unwrap();
        // `out` takes its predictions from the counts; without them, the saturating counters decide.
        let plain = model.forward(&batch, Want { translation: true, ..Want::default() }).unwrap();
        prop_assert_eq!(&plain.translation, &out.translation);
        close("loss", &[out.loss], &[want.loss])?;
        close("gradients", &grads, &want.grads)?;
        let c = model.config();
        for (b, s) in want.samples.iter().enumerate() {
            close("logits", &out.logits[2 * b..2 * b + 2], &s.logits)?;
            close("embedding", &out.embedding[2 * b * c.hidden..2 * (b + 1) * c.hidden], &s.embedding)?;
            close("gene nodes", &out.nodes[b].gene, &s.gene.data)?;
            close("peak nodes", &out.nodes[b].peak, &s.peak.data)?;
            let a = &out.attention[b];
            let mut dense: Vec<Vec<f64>> = s.attention.iter().map(|m| vec![0.0; m.data.len()]).collect();
            for n in 0..a.weight.len() {
                let at = a.gene_row[n] as usize * s.attention[0].cols + a.peak_row[n] as usize;
                dense[usize::from(a.head[n])][at] = a.weight[n];
                let l = s.logit[usize::from(a.head[n])].data[at];
                prop_assert!((a.score[n] - 1.0 / (1.0 + (-l).exp())).abs() < 1e-12);
            }
            for (got, want) in dense.iter().zip(&s.attention) {
                close("attention", got, &want.data)?;
            }
            let predicted: Vec<f64> = out.translation[b].iter().map(|&x| f64::from(x)).collect();
            prop_assert_eq!(predicted, s.translation.clone());
            for (head, m) in s.translation_logit.iter().enumerate() {
                for g in 0..c.genes {
                    let count = m.row(g).iter().filter(|&&l| 1.0 / (1.0 + (-l).exp()) > c.tau).count();
                    prop_assert_eq!(out.counts[b][head * c.genes + g] as usize, count);
                }
            }
        }
    }

    #[test]
    fn a_batch_is_the_mean_of_its_singles(p in problem()) {
        let (model, batch) = build(&p);
        let (out, grads) = pass(&model, &batch);
        let n = batch.len() as f64;
        let (mut loss, mut sum) = (0.0, vec![0.0; grads.len()]);
        for b in 0..batch.len() {
            let mut one = Batch::new();
            let row = |csr: &sccrossrec::csr::Csr<f64>| {
                let (i, v) = csr.row(b);
                i.iter().copied().zip(v.iter().copied()).collect::<Vec<_>>()
            };
            one.push(batch.label[b], batch.sample[b], row(&batch.rna), row(&batch.atac));
            let (o, g) = pass(&model, &one);
            loss += o.loss / n;
            sum.iter_mut().zip(&g).for_each(|(s, g)| *s += g / n);
            prop_assert_eq!(&o.translation[0], &out.translation[b], "cells see each other");
            close("attention", &o.attention[0].weight, &out.attention[b].weight)?;
        }
        close("loss", &[out.loss], &[loss])?;
        close("gradients", &grads, &sum)?;
    }

    /// Renaming peaks (data, features and id table together) changes nothing but the names.
    #[test]
    fn permuting_peaks_changes_nothing(p in problem()) {
        prop_assume!(!matches!(p.kind, Kind::Ties | Kind::Zeros)); // ties are broken by name, on purpose
        let (model, batch) = build(&p);
        let n = model.config().peaks;
        let mut to: Vec<u32> = (0..n as u32).collect();
        Rng::new(p.seed, 9).shuffle(&mut to);
        let (d, dna) = (model.config().embedding_dim, model.config().dna_length);
        let mut f = (**model.features()).clone();
        let mut renamed = model.clone();
        for (i, &t) in to.iter().enumerate() {
            let t = t as usize;
            f.peak_chrom[t] = model.features().peak_chrom[i];
            f.peak_dna[t * dna..(t + 1) * dna].copy_from_slice(&model.features().peak_dna[i * dna..(i + 1) * dna]);
            let row = model.params.get("atac_idembedding.weight").unwrap()[i * d..(i + 1) * d].to_vec();
            renamed.params.get_mut("atac_idembedding.weight").unwrap()[t * d..(t + 1) * d].copy_from_slice(&row);
        }
        let mut other = Batch::new();
        for b in 0..batch.len() {
            let (gi, gv) = batch.rna.row(b);
            let (pi, pv) = batch.atac.row(b);
            let mut peaks: Vec<(u32, f64)> = pi.iter().map(|&i| to[i as usize]).zip(pv.iter().copied()).collect();
            peaks.sort_by_key(|x| (f.peak_chrom[x.0 as usize], x.0));
            other.push(batch.label[b], batch.sample[b], gi.iter().copied().zip(gv.iter().copied()), peaks);
        }
        let renamed = Model::of_params(model.config().clone(), Arc::new(f), None, renamed.params).unwrap();
        let (a, ga) = pass(&model, &batch);
        let (b, gb) = pass(&renamed, &other);
        close("loss", &[b.loss], &[a.loss])?;
        close("embedding", &b.embedding, &a.embedding)?;
        prop_assert_eq!(&a.translation, &b.translation);
        let table = model.params.layout().find("atac_idembedding.weight").unwrap().range.clone();
        for (i, &t) in to.iter().enumerate() {
            let (x, y) = (table.start + i * d, table.start + t as usize * d);
            close("id gradient", &gb[y..y + d], &ga[x..x + d])?;
        }
    }

    /// A peak on another chromosome cannot take part in a gene's attention once ten masked pairs are there already.
    #[test]
    fn an_off_chromosome_peak_changes_no_attention(seed in any::<u64>(), heads in prop::sample::select(vec![1usize, 2])) {
        let p = Problem { seed, kind: Kind::Plain, heads, samples: 1 };
        let (model, batch) = build(&p);
        let f = model.features();
        let (peaks, values) = batch.atac.row(0);
        let Some(new) = (0..model.config().peaks as u32).find(|i| !peaks.contains(i)) else { return Ok(()) };
        let chrom = f.peak_chrom[new as usize];
        let (genes, expr) = batch.rna.row(0);
        let mut more: Vec<(u32, f64)> = peaks.iter().copied().zip(values.iter().copied()).chain([(new, 1.0)]).collect();
        more.sort_by_key(|x| (f.peak_chrom[x.0 as usize], x.0));
        let mut grown = Batch::new();
        grown.push(batch.label[0], 0, genes.iter().copied().zip(expr.iter().copied()), more.clone());
        let (a, _) = pass(&model, &batch);
        let (b, _) = pass(&model, &grown);
        let pairs = |o: &Output<f64>, names: &[u32]| -> Vec<(u8, u32, u32, f64)> {
            let x = &o.attention[0];
            let filter = |g: u32| {
                let c = f.gene_chrom[g as usize];
                let off = peaks.iter().filter(|&&k| f.peak_chrom[k as usize] != c).count();
                c != chrom && off >= model.config().top_k
            };
            (0..x.weight.len())
                .map(|n| (x.head[n], genes[x.gene_row[n] as usize], names[x.peak_row[n] as usize], x.weight[n]))
                .filter(|x| filter(x.1))
                .collect()
        };
        let names: Vec<u32> = more.iter().map(|x| x.0).collect();
        prop_assert_eq!(pairs(&a, peaks), pairs(&b, &names));
    }
}
