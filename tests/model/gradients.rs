//! Every op's backward pass against central differences, in f64, at points where no choice switches. Straight-through
//! ops are checked against the surrogate that defines their gradient.

use std::sync::Arc;

use sccrossrec::csr::Csr;
use sccrossrec::engine::PassOptions;
use sccrossrec::model::nodes::NodeSet;
use sccrossrec::model::output::{Selection, Want};
use sccrossrec::model::{BINS, Batch, CisConfig, CisGraph, CisTarget, Features, Init, Model, ModelConfig};
use sccrossrec::ops::attend::{AttendSpec, attend};
use sccrossrec::ops::cis::{Places, cis};
use sccrossrec::ops::contrast::contrast;
use sccrossrec::ops::head::{add, concat, dropout, dropout_mask, linear, pooled, relu};
use sccrossrec::ops::losses::{cross_entropy, detection, level, mean_abs, mse, weighted_sum};
use sccrossrec::ops::pool::{Weights, pool};
use sccrossrec::ops::project::{Extra, Side, project};
use sccrossrec::ops::rows::rows;
use sccrossrec::ops::translate::{PeakColumns, TranslateSpec, translate};
use sccrossrec::rng::Rng;
use sccrossrec::tape::{Grads, Tape, Var};
use sccrossrec::vocabulary::{Gene, Peak, Vocabulary};

type Input = (Vec<f64>, [usize; 2]);

fn random(rng: &mut Rng, rows: usize, cols: usize) -> Input {
    ((0..rows * cols).map(|_| rng.normal()).collect(), [rows, cols])
}

/// Joins values into one row, so that an op with several outputs has one to weigh.
fn join<'p>(tape: &mut Tape<'p, f64>, parts: &[Var]) -> Var {
    let data: Vec<f64> = parts.iter().flat_map(|&v| tape.get(v).to_vec()).collect();
    let n = data.len();
    let out = tape.value(data, [1, n]);
    let parts = parts.to_vec();
    tape.record("join", &[out], move |s| {
        let g = s.take(out);
        let mut at = 0;
        for &p in &parts {
            let mut d = s.take(p);
            d.iter_mut().enumerate().for_each(|(i, d)| *d += g[at + i]);
            at += d.len();
            s.put(p, d);
        }
    });
    out
}

fn weights(n: usize) -> Vec<f64> {
    let mut rng = Rng::new(77, 1);
    (0..n).map(|_| rng.normal()).collect()
}

/// Gradients of Σ weight × output with respect to all inputs, by the tape.
fn analytic(inputs: &[Input], build: &impl Fn(&mut Tape<'_, f64>, &[Var]) -> Var) -> Vec<Vec<f64>> {
    let mut tape = Tape::recording();
    let vars: Vec<Var> = inputs.iter().enumerate().map(|(i, (d, s))| tape.param(i, d, *s)).collect();
    let out = build(&mut tape, &vars);
    let seed = weights(tape.get(out).len());
    let mut grads: Vec<Vec<f64>> = inputs.iter().map(|i| vec![0.0; i.0.len()]).collect();
    tape.backward(out, &seed, Grads::new(grads.iter_mut().map(|g| &mut g[..]).collect())).unwrap();
    grads
}

/// Central differences of `f` against `grads`, number by number.
fn compare(name: &str, inputs: &[Input], grads: &[Vec<f64>], f: impl Fn(&[Input]) -> f64) {
    const STEP: f64 = 1e-5;
    let mut inputs = inputs.to_vec();
    let mut nonzero = 0;
    for (i, grads) in grads.iter().enumerate() {
        let scale = grads.iter().fold(1.0f64, |m, g| m.max(g.abs()));
        for (j, &got) in grads.iter().enumerate() {
            let x = inputs[i].0[j];
            inputs[i].0[j] = x + STEP;
            let up = f(&inputs);
            inputs[i].0[j] = x - STEP;
            let down = f(&inputs);
            inputs[i].0[j] = x;
            let want = (up - down) / (2.0 * STEP);
            assert!((want - got).abs() <= 2e-7 * scale.max(want.abs()), "{name}: input {i}[{j}]: {got} against {want}");
            nonzero += usize::from(got != 0.0);
        }
    }
    assert!(nonzero > 0, "{name}: all gradients are 0; the check says nothing");
}

/// Checks an op against its own forward pass.
fn check(name: &str, inputs: Vec<Input>, build: impl Fn(&mut Tape<'_, f64>, &[Var]) -> Var) {
    let grads = analytic(&inputs, &build);
    compare(name, &inputs, &grads, |x| {
        let mut tape = Tape::inference();
        let vars: Vec<Var> = x.iter().enumerate().map(|(i, (d, s))| tape.param(i, d, *s)).collect();
        let out = build(&mut tape, &vars);
        let w = weights(tape.get(out).len());
        tape.get(out).iter().zip(w).map(|(&o, w)| o * w).sum()
    });
}

#[test]
fn small_maps() {
    let mut r = Rng::new(1, 0);
    let x = random(&mut r, 5, 7);
    let (w, b) = (random(&mut r, 6, 7), random(&mut r, 1, 6));
    check("linear", vec![x.clone(), w, b], |t, v| linear(t, v[0], v[1], v[2]));
    check("relu", vec![x.clone()], |t, v| relu(t, v[0]));
    check("concat", vec![x.clone(), random(&mut r, 5, 3)], |t, v| concat(t, v[0], v[1]));
    check("rows", vec![x.clone()], |t, v| rows(t, v[0], Arc::new(vec![1, 2, 4])));
    check("dropout", vec![x.clone()], |t, v| {
        let mask = dropout_mask(0.4, 906, 3, &[1, 2, 3, 4, 9], 0, 7);
        dropout(t, v[0], mask)
    });
    check("cross_entropy", vec![random(&mut r, 5, 2)], |t, v| cross_entropy(t, v[0], &[0, 1, 1, 0, 1]));
    check("mse", vec![x], |t, v| mse(t, v[0], 0.3, |row, out: &mut [f64]| out[row] = 1.5));
    let (a, b) = (random(&mut r, 1, 1), random(&mut r, 1, 1));
    check("weighted_sum", vec![a, b], |t, v| weighted_sum(t, v[0], v[1], 0.7));
    for heads in [1, 2] {
        let bag = random(&mut r, heads * 3, 6);
        let (w, b) = (random(&mut r, 4, 5), random(&mut r, 1, 4));
        check("pooled", vec![bag, w, b], move |t, v| pooled(t, v[0], v[1], v[2], heads, vec![0.5, 1.0, 2.0]));
    }
}

const CHROM: [u32; 9] = [0, 1, 1, 2, 0, 2, 1, 0, 2];

fn nodes(all: bool) -> Arc<NodeSet<f64>> {
    let mut csr = Csr::new();
    // Sorted by (chromosome, index); indices repeat over samples.
    csr.push_row([(0, 1.5), (4, 0.5), (1, 2.0), (3, 1.0)]);
    csr.push_row([(7, 1.0), (2, 3.0), (6, 0.7)]);
    csr.push_row([(0, 0.2), (5, 1.1), (8, 0.4)]);
    Arc::new(NodeSet::new(&csr, &CHROM, all))
}

/// Constants that live as long as the program, so that one closure serves every tape.
fn leak<T>(v: Vec<T>) -> &'static [T] {
    Box::leak(v.into_boxed_slice())
}

fn sides(r: &mut Rng) -> [Side<'static, f64>; 2] {
    let extra = leak((0..18).map(|_| r.normal()).collect());
    let dna = leak((0..9 * 5).map(|i| (i * 7 % 5) as u8).collect());
    let side = |extra, extra_width| Side { chrom: leak(CHROM.to_vec()), chromosomes: 3, extra, extra_width, dim: 4 };
    [side(Extra::Dense(extra), 2), side(Extra::Dna(dna), 5)]
}

#[test]
fn project_dense_and_dna() {
    let mut r = Rng::new(2, 0);
    for all in [false, true] {
        let rows = Arc::new(nodes(all).rows.clone());
        for side in sides(&mut r) {
            let inputs = vec![random(&mut r, 9, 4), random(&mut r, 6, side.width()), random(&mut r, 1, 6)];
            let rows = rows.clone();
            check("project", inputs, move |t, v| {
                let (table, u) = project(t, side, rows.clone(), v[0], v[1], v[2]);
                join(t, &[table, u])
            });
        }
    }
}

#[test]
fn pool_means_and_bags() {
    let mut r = Rng::new(3, 0);
    for side in sides(&mut r) {
        for all in [false, true] {
            let set = nodes(all);
            let emb = random(&mut r, 9, 4);
            let s = set.clone();
            check("pool mean", vec![emb.clone()], move |t, v| pool(t, side, s.clone(), v[0], Weights::Mean));
            for heads in [1, 2] {
                let w = random(&mut r, heads, set.nnz());
                let s = set.clone();
                check("pool bag", vec![emb.clone(), w], move |t, v| {
                    pool(t, side, s.clone(), v[0], Weights::Var { var: v[1], heads })
                });
            }
        }
    }
}

type Choice = (Vec<(u8, u32)>, Vec<u32>, Vec<bool>);

fn members(s: &[Selection<f64>]) -> Vec<Choice> {
    s.iter().map(|s| (s.rows.clone(), s.peak.clone(), s.kept.clone())).collect()
}

#[test]
fn attend_sums() {
    let mut r = Rng::new(4, 0);
    // Peaks: 24 of them on two of the three chromosomes, genes as above.
    let chrom: Vec<u32> = (0..24).map(|i| [0, 2][i % 2]).collect();
    let mut csr = Csr::new();
    for b in 0..3u32 {
        let mut row: Vec<(u32, f64)> =
            (0..24).filter(|i| (i + b) % 3 != 0).map(|i| (i, 1.0 + f64::from(i % 2))).collect();
        row.sort_by_key(|x| (chrom[x.0 as usize], x.0));
        csr.push_row(row);
    }
    let peaks = Arc::new(NodeSet::new(&csr, &chrom, false));
    let mut below = 0;
    for (heads, top_k, unknown) in [(1, 3, None), (2, 3, None), (2, 10, None), (1, 3, Some(2))] {
        let spec = AttendSpec { heads, top_k, tau: 0.9, unknown };
        let genes = nodes(heads == 1);
        let inputs = vec![
            random(&mut r, genes.rows.len(), 4),
            random(&mut r, 1, 4),
            random(&mut r, peaks.rows.len(), 4),
            random(&mut r, 1, 4),
        ];
        let run = |t: &mut Tape<'_, f64>, v: &[Var]| {
            attend(t, spec, genes.clone(), peaks.clone(), (v[0], v[1]), (v[2], v[3]), None)
        };
        // No choice may switch within the step of the differences: every single nudge keeps all members.
        let choose = |x: &[Input]| {
            let mut t = Tape::inference();
            let v: Vec<Var> = x.iter().enumerate().map(|(i, (d, s))| t.param(i, d, *s)).collect();
            members(&run(&mut t, &v).selections)
        };
        let here = choose(&inputs);
        assert!(here.iter().any(|s| s.2.contains(&true)), "no pair passes: the case is too easy");
        below += here.iter().flat_map(|s| &s.2).filter(|&&kept| !kept).count();
        let mut near = inputs.clone();
        for i in 0..near.len() {
            for j in 0..near[i].0.len() {
                for step in [2e-5, -4e-5] {
                    near[i].0[j] += step;
                    assert_eq!(choose(&near), here, "a choice switches near this point; take another seed");
                }
                near[i].0[j] = inputs[i].0[j];
            }
        }
        check("attend", inputs, |t, v| {
            let a = run(t, v);
            join(t, &[a.row_sums, a.col_sums])
        });
    }
    assert!(below > 0, "no member below the threshold: the softmax over all members goes untested");
}

/// dL/dlogit of `translate` is that of Σ g Σ_j sigmoid(q·k): identity through both indicators.
#[test]
fn translate_against_its_surrogate() {
    let mut r = Rng::new(5, 0);
    let genes = 70;
    let chrom = vec![0u32; 30];
    // One case that is cheaper over distinct columns (the same peaks in all samples, all g alive), one that is cheaper
    // cell by cell (disjoint peaks, disjoint genes with a gradient).
    for (shared, heads) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
        let mut csr = Csr::new();
        for b in 0..3u32 {
            let range = if shared { 0..10 } else { 10 * b..10 * b + 10 };
            csr.push_row(range.map(|i| (i, if shared && i == 3 { 1.0 + f64::from(b % 2) } else { 1.0 })));
        }
        let peaks = NodeSet::new(&csr, &chrom, false);
        let cols = Arc::new(PeakColumns::new(&peaks, &[0, 1, 2]));
        assert_eq!(cols.len(), if shared { 11 } else { 30 });
        let spec = TranslateSpec { heads, tau: 0.55, min_peaks: 4 };
        let inputs = vec![
            random(&mut r, genes, 4),
            random(&mut r, 1, 4),
            random(&mut r, peaks.rows.len(), 4),
            random(&mut r, 1, 4),
        ];
        let mut g = vec![0.0; 3 * heads * genes];
        for (row, g) in g.chunks_mut(genes).enumerate() {
            let range = if shared { 0..genes } else { 20 * (row / heads)..20 * (row / heads) + 20 };
            g[range].iter_mut().for_each(|g| *g = r.normal());
        }
        let mut grads: Vec<Vec<f64>> = inputs.iter().map(|i| vec![0.0; i.0.len()]).collect();
        let mut tape = Tape::recording();
        let v: Vec<Var> = inputs.iter().enumerate().map(|(i, (d, s))| tape.param(i, d, *s)).collect();
        let pred = translate(&mut tape, spec, cols.clone(), (v[0], v[1]), (v[2], v[3]), None);
        let on = tape.get(pred).iter().filter(|&&p| p == 1.0).count();
        assert!(on > 0 && on < tape.get(pred).len(), "all or none predicted on: the case is too easy");
        tape.backward(pred, &g, Grads::new(grads.iter_mut().map(|g| &mut g[..]).collect())).unwrap();
        compare("translate", &inputs, &grads, |x| {
            let slice = 4 / heads;
            let mut sum = 0.0;
            for s in 0..3 {
                for &c in &cols.col[cols.indptr[s]..cols.indptr[s + 1]] {
                    let (row, a) = (cols.row[c as usize] as usize, cols.value[c as usize]);
                    for head in 0..heads {
                        for i in 0..genes {
                            let w = g[(s * heads + head) * genes + i];
                            let logit: f64 = (head * slice..(head + 1) * slice)
                                .map(|t| (x[0].0[i * 4 + t] + x[1].0[t]) * (x[2].0[row * 4 + t] + a * x[3].0[t]))
                                .sum();
                            sum += w / (1.0 + (-logit).exp());
                        }
                    }
                }
            }
            sum
        });
    }
}

/// `cis` with genes that have edges in several bins, genes that take their whole chromosome, peaks without a place, and
/// columns of one peak with several accessibilities; forward against the sum over pairs.
#[test]
fn cis_sums_over_the_open_peaks_near_a_gene() {
    let mut r = Rng::new(6, 0);
    let (genes, n_peaks, h) = (9, 14, 20);
    let chrom = |i: usize| (i % 3) as u32;
    let gene = |i: usize| Gene { name: String::new(), chrom: chrom(i), tss: (i != 4).then_some(700 * i as i64) };
    // The third chromosome has no peak with a place.
    let start = |j: usize| if j % 3 == 2 || j == 6 { -1 } else { 4_000 * j as i64 % 17_000 };
    let peak = |j: usize| Peak { name: String::new(), chrom: chrom(j), start: start(j), end: start(j) + 20 };
    let v = Vocabulary {
        chromosomes: ["chr1", "chr2", "chr3"].map(String::from).to_vec(),
        genes: (0..genes).map(gene).collect(),
        peaks: (0..n_peaks).map(peak).collect(),
        ..Vocabulary::default()
    };
    let graph = CisGraph::new(&v, 9_000);
    let bins: std::collections::BTreeSet<u8> = graph.bin.iter().copied().collect();
    assert!(bins.len() > 2 && graph.whole.iter().filter(|&&w| w).count() > 2, "{bins:?}: too easy");
    let gene_chrom: Vec<u32> = (0..genes).map(chrom).collect();
    let peak_chrom: Vec<u32> = (0..n_peaks).map(chrom).collect();
    let mut csr = Csr::new();
    let mut order: Vec<u32> = (0..n_peaks as u32).collect();
    order.sort_by_key(|&j| (chrom(j as usize), j));
    for b in 0..4u32 {
        let open =
            order.iter().filter(|&&j| (j + b) % 4 != 0).map(|&j| (j, if j == 3 { f64::from(1 + b % 2) } else { 1.0 }));
        csr.push_row(open.collect::<Vec<_>>());
    }
    let peaks = NodeSet::new(&csr, &peak_chrom, false);
    let cols = Arc::new(PeakColumns::new(&peaks, &[0, 2, 3]));
    assert!(cols.len() > peaks.rows.len());
    let inputs = vec![
        random(&mut r, genes, h),
        random(&mut r, 1, h),
        random(&mut r, peaks.rows.len(), h),
        random(&mut r, 1, h),
        random(&mut r, 1, BINS),
    ];
    let at = Places { graph: &graph, rows: &peaks.rows, gene_chrom: &gene_chrom, peak_chrom: &peak_chrom };
    let both = |t: &mut Tape<'_, f64>, v: &[Var]| cis(t, at, cols.clone(), (v[0], v[1]), (v[2], v[3]), v[4]);
    let op = |t: &mut Tape<'_, f64>, v: &[Var]| both(t, v).0;
    {
        let mut tape = Tape::inference();
        let vars: Vec<Var> = inputs.iter().enumerate().map(|(i, (d, s))| tape.param(i, d, *s)).collect();
        let y = op(&mut tape, &vars);
        let x = |i: usize| &inputs[i].0;
        for (s, b) in [0usize, 2, 3].into_iter().enumerate() {
            for (g, &own) in gene_chrom.iter().enumerate() {
                let mut want = 0.0;
                let (index, value) = csr.row(b);
                for (&j, &a) in index.iter().zip(value) {
                    let (j, row) = (j as usize, peaks.rows.iter().position(|&p| p == j).unwrap());
                    let edge = graph.of_peak(j).0.iter().position(|&e| e as usize == g).map(|e| graph.of_peak(j).1[e]);
                    let whole = graph.whole[g] && own == peak_chrom[j];
                    assert!(edge.is_none() || !whole);
                    if let Some(bin) = edge.map(usize::from).or(whole.then_some(BINS - 1)) {
                        let dot: f64 =
                            (0..h).map(|t| (x(0)[g * h + t] + x(1)[t]) * (x(2)[row * h + t] + a * x(3)[t])).sum();
                        want += x(4)[bin].exp() * dot / (h as f64).sqrt();
                    }
                }
                let got = tape.get(y)[s * genes + g];
                assert!((got - want).abs() < 1e-12 * want.abs().max(1.0), "sample {b}, gene {g}: {got}, not {want}");
            }
        }
    }
    check("cis", inputs.clone(), op);
    check("cis, weights of its edges", inputs.clone(), |t, v| both(t, v).1);
    check("cis, both", inputs, |t, v| {
        let (y, w) = both(t, v);
        join(t, &[y, w])
    });
}

#[test]
fn level_contrast_and_sizes() {
    let mut r = Rng::new(8, 0);
    let x = random(&mut r, 4, 6);
    let target = |row: usize, t: &mut [f64]| t.iter_mut().enumerate().for_each(|(i, t)| *t = (i + row) as f64 * 0.3);
    check("level", vec![x.clone()], |t, v| level(t, v[0], 0.3, target));
    check("mean_abs", vec![x.clone()], |t, v| mean_abs(t, v[0]));
    let other = random(&mut r, 4, 6);
    check("add", vec![x.clone(), other.clone()], |t, v| add(t, v[0], v[1]));
    check("contrast", vec![x.clone(), other.clone()], |t, v| contrast(t, v[0], v[1]));
    let mut tape = Tape::inference();
    let (a, b) = (tape.param(0, &x.0, x.1), tape.param(1, &other.0, other.1));
    let got = contrast(&mut tape, a, b);
    let dot = |i: usize, j: usize| (0..6).map(|k| x.0[i * 6 + k] * other.0[j * 6 + k]).sum::<f64>() / 6f64.sqrt();
    let sum = |f: &dyn Fn(usize) -> f64| (0..4).map(|j| f(j).exp()).sum::<f64>().ln();
    let of = |i: usize| 0.5 * (sum(&|j| dot(i, j)) + sum(&|j| dot(j, i))) - dot(i, i);
    let want = (0..4).map(of).sum::<f64>() / 4.0;
    assert!((tape.get(got)[0] - want).abs() < 1e-12, "{} against {want}", tape.get(got)[0]);
}

/// A whole model with every term that has a gradient of its own: the loss is the weighted sum of its named parts, and its
/// gradient that of central differences.
#[test]
fn a_model_with_all_terms() {
    let (genes, n_peaks) = (11, 17);
    let gene = |i: usize| Gene { name: String::new(), chrom: (i % 2) as u32, tss: (i != 4).then_some(900 * i as i64) };
    let peak =
        |j: usize| Peak { name: String::new(), chrom: (j % 2) as u32, start: 600 * j as i64, end: 600 * j as i64 + 20 };
    let v = Vocabulary {
        chromosomes: ["chr1", "chr2"].map(String::from).to_vec(),
        genes: (0..genes).map(gene).collect(),
        peaks: (0..n_peaks).map(peak).collect(),
        ..Vocabulary::default()
    };
    let features = Features::<f64> {
        gene_chrom: v.genes.iter().map(|g| g.chrom).collect(),
        peak_chrom: v.peaks.iter().map(|p| p.chrom).collect(),
        chromosomes: 2,
        unknown: None,
        gene_extra: vec![],
        peak_dna: vec![],
    };
    let mut r = Rng::new(9, 0);
    let mut batch = Batch::new();
    for (i, label) in [1u8, 0, 1, 1].into_iter().enumerate() {
        let mut some = |n: usize| {
            let mut all: Vec<u32> = (0..n as u32).filter(|_| r.uniform() < 0.7).collect();
            all.sort_by_key(|&k| (k % 2, k));
            all.into_iter().map(|k| (k, 0.5 + r.uniform())).collect::<Vec<_>>()
        };
        batch.push(label, i as u64, some(genes), some(n_peaks));
    }
    for target in [CisTarget::Detection, CisTarget::Level] {
        let cis = CisConfig {
            weight: 0.3,
            window: 4_000,
            components: 3,
            target,
            sparsity: 0.7,
            depth: [[2.0, 0.5], [2.5, 0.4]],
        };
        let config = ModelConfig {
            genes,
            peaks: n_peaks,
            chromosomes: 2,
            embedding_dim: 5,
            hidden: 6,
            top_k: 3,
            alpha: 0.0,
            cis: Some(cis.clone()),
            contrast: 0.6,
            match_weight: 1.4,
            ..ModelConfig::default()
        };
        let graph = Arc::new(CisGraph::new(&v, cis.window));
        assert!(graph.len() > 20 && graph.whole[4]);
        let init = Init::PyTorch { embedding_std: 1.0 };
        let mut model = Model::with_cis(config, Arc::new(features.clone()), graph, init, 5).unwrap();
        let layout = model.params.layout().clone();
        // The gene part and the decay start at 0: give them numbers.
        let moved = layout.entries().iter().filter(|e| e.name.starts_with("cis."));
        for range in moved.map(|e| e.range.clone()) {
            model.params.as_mut_slice()[range].iter_mut().for_each(|x| *x = 0.3 * r.normal());
        }
        let mut grads = vec![0.0; layout.len()];
        let want = Want { cis: true, ..Want::default() };
        let loss = |model: &Model<f64>, grads: Option<&mut [f64]>| {
            let mut unused = vec![0.0; layout.len()];
            let grads = Some(grads.unwrap_or(&mut unused));
            model.run(&batch, PassOptions { grads, want, ..PassOptions::default() }).unwrap()
        };
        let out = loss(&model, Some(&mut grads));
        assert!(out.translation_loss == 0.0 && out.cis_loss > 0.0 && out.contrast_loss > 0.0);
        let parts = 1.4 * out.match_loss + 0.3 * out.cis_loss + 0.6 * out.contrast_loss;
        assert!(out.loss > parts && out.loss < parts + 5.0, "{} is not {parts} and what is sparse", out.loss);
        let lengths: Vec<usize> = out.cis.iter().map(Vec::len).collect();
        assert_eq!(lengths, [genes, 0, genes, genes]);
        // Told the depth and not: apart by the depth's weight.
        let weights = model.params.get("cis.gene.weight").unwrap();
        for i in [0, 2, 3] {
            let depth = cis.depths(batch.rna.row(i).0.len(), batch.atac.row(i).0.len())[0];
            for (g, (y, blind)) in out.cis[i].iter().zip(&out.cis_blind[i]).enumerate() {
                assert!((y - blind - depth * weights[g * 5 + 3]).abs() < 1e-12);
            }
        }
        let translated = model.forward(&batch, Want { translation: true, cis: true, ..Want::default() }).unwrap();
        if target == CisTarget::Detection {
            let by_cis = |y: &f64| u8::from(*y > 0.0);
            assert_eq!(translated.translation[3], translated.cis_blind[3].iter().map(by_cis).collect::<Vec<_>>());
            assert_eq!(translated.translation_loss, 0.0);
        }
        for e in layout.entries() {
            let scale = grads[e.range.clone()].iter().fold(1e-3f64, |m, g| m.max(g.abs()));
            let (mut largest, step) = (0.0f64, 1e-5);
            for i in e.range.clone() {
                let x = model.params.as_slice()[i];
                let mut at = |x: f64| {
                    model.params.as_mut_slice()[i] = x;
                    loss(&model, None).loss
                };
                let slope = (at(x + step) - at(x - step)) / (2.0 * step);
                at(x);
                assert!((slope - grads[i]).abs() < 1e-6 * scale.max(1.0), "{} {i}: {slope}, {}", e.name, grads[i]);
                largest = largest.max(grads[i].abs());
            }
            assert!(largest > 1e-6, "{}: no gradient", e.name);
        }
    }
}

#[test]
fn detection_is_a_binary_cross_entropy() {
    let mut r = Rng::new(7, 0);
    let logits = random(&mut r, 4, 6);
    let target = |row: usize, t: &mut [f64]| (0..6).filter(|i| (i + row).is_multiple_of(3)).for_each(|i| t[i] = 1.0);
    check("detection", vec![logits.clone()], |t, v| detection(t, v[0], 0.3, target));
    let mut tape = Tape::inference();
    let x = tape.param(0, &logits.0, logits.1);
    let y = detection(&mut tape, x, 0.3, target);
    let mut want = 0.0;
    for (i, x) in logits.0.iter().enumerate() {
        let p = 1.0 / (1.0 + (-x).exp());
        want -= 0.3 * if (i % 6 + i / 6).is_multiple_of(3) { p.ln() } else { (1.0 - p).ln() };
    }
    assert!((tape.get(y)[0] - want).abs() < 1e-12);
}

/// Dropout masks: right rate, and a function of (seed, step, sample, layer) alone.
#[test]
fn dropout_masks_are_keyed() {
    let samples: Vec<u64> = (0..500).collect();
    let mask = |seed, step, layer| dropout_mask::<f64>(0.1, seed, step, &samples, layer, 128);
    let a = mask(906, 1, 0);
    let dropped = a.iter().filter(|&&m| m == 0.0).count() as f64 / a.len() as f64;
    assert!((dropped - 0.1).abs() < 0.004, "{dropped}");
    assert!(a.iter().all(|&m| m == 0.0 || (m - 1.0 / 0.9).abs() < 1e-15));
    let alone = dropout_mask::<f64>(0.1, 906, 1, &[7], 0, 128);
    assert_eq!(alone, a[7 * 128..8 * 128], "a sample's mask does not depend on its batch");
    for other in [mask(907, 1, 0), mask(906, 2, 0), mask(906, 1, 1)] {
        assert_ne!(a, other);
    }
}
