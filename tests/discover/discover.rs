//! Link sums and link recovery against brute force; the attention file; known links that cannot be used.

use std::collections::BTreeMap;

use sccrossrec::dataset::{Cell, Values};
use sccrossrec::discover::{
    AttentionWriter, ByChance, ByCorrelation, ByDistance, BySum, Link, LinkTable, Pair, PairScorer, Truth, recover,
};
use sccrossrec::evaluate::ranking;
use sccrossrec::rng::Rng;
use sccrossrec::vocabulary::{Gene, Peak, Vocabulary};

const GENES: usize = 23;
const PEAKS: usize = 61;
const CELLS: usize = 40;

/// Chromosomes in no order; chromosome 3 is the unknown one.
fn vocabulary() -> Vocabulary {
    let mut rng = Rng::new(5, 0);
    let mut v = Vocabulary {
        chromosomes: ["chr2", "chr1", "chrX", "chrUnknown"].map(String::from).to_vec(),
        unknown: Some(3),
        ..Default::default()
    };
    for i in 0..GENES {
        let tss = (i % 7 != 0).then(|| rng.below(10_000) as i64);
        v.genes.push(Gene { name: format!("g{i}"), chrom: rng.below(4) as u32, tss });
    }
    for i in 0..PEAKS {
        let start = if i % 9 == 0 { -1 } else { rng.below(10_000) as i64 };
        let end = if start < 0 { -1 } else { start + 101 };
        v.peaks.push(Peak { name: format!("p{i}"), chrom: rng.below(4) as u32, start, end });
    }
    v.cells = (0..CELLS).map(|c| format!("c{c}")).collect();
    v
}

/// (index, value) lists of each cell, genes and peaks sorted by (chromosome, index).
type Lists = Vec<(Vec<u32>, Vec<f32>)>;

fn cells(v: &Vocabulary) -> (Lists, Lists) {
    let mut rng = Rng::new(6, 0);
    let mut draw = |chrom: Vec<u32>| -> Lists {
        (0..CELLS)
            .map(|_| {
                let mut index: Vec<u32> = (0..chrom.len() as u32).filter(|&i| i == 4 || rng.uniform() < 0.4).collect();
                index.sort_by_key(|&i| (chrom[i as usize], i));
                // Number 4 is constant: its correlation is undefined.
                let values = index.iter().map(|&i| if i == 4 { 2.0 } else { 1.0 + rng.below(3) as f32 }).collect();
                (index, values)
            })
            .collect()
    };
    let genes = draw(v.genes.iter().map(|g| g.chrom).collect());
    (genes, draw(v.peaks.iter().map(|p| p.chrom).collect()))
}

fn dense(list: &Lists, n: usize) -> Vec<Vec<f64>> {
    let mut out = vec![vec![0.0; list.len()]; n];
    for (c, (index, values)) in list.iter().enumerate() {
        index.iter().zip(values).for_each(|(&i, &x)| out[i as usize][c] = f64::from(x));
    }
    out
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mx, my) = (mean(x), mean(y));
    let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(&a, &b)| f(a - mx, b - my)).sum::<f64>();
    let (xx, yy, xy) = (sum(&|a, _| a * a), sum(&|_, b| b * b), sum(&|a, b| a * b));
    if xx < 1e-9 || yy < 1e-9 { 0.0 } else { xy / (xx * yy).sqrt() }
}

#[test]
fn recovery_equals_brute_force() {
    let v = vocabulary();
    let (genes, peaks) = cells(&v);
    let read = |c: u32, cell: &mut Cell| {
        let (g, p) = (genes[c as usize].clone(), peaks[c as usize].clone());
        *cell = Cell { genes: g.0, expr: Values::F32(g.1), peaks: p.0, acc: Values::F32(p.1) };
    };
    // All pairs of equal, known chromosome, spelt out.
    let pairs: Vec<(u32, u32)> = (0..GENES as u32)
        .flat_map(|g| (0..PEAKS as u32).map(move |p| (g, p)))
        .filter(|&(g, p)| v.genes[g as usize].chrom == v.peaks[p as usize].chrom && v.genes[g as usize].chrom != 3)
        .collect();
    let mut rng = Rng::new(7, 0);
    let links: Vec<(u32, u32)> = pairs.iter().copied().filter(|_| rng.uniform() < 0.06).collect();
    assert!(links.len() > 5);
    let table: Vec<Link> = pairs
        .iter()
        .filter(|(g, p)| (g * 7 + p) % 2 == 0)
        .map(|&(gene, peak)| Link { gene, peak, weight: rng.below(5) as f64 + 1.0, cells: 1 })
        .collect();
    let truth = Truth { links: links.clone(), missing: 2, off_chromosome: 1, ..Truth::default() };

    let some: Vec<u32> = (0..CELLS as u32).filter(|c| c % 3 != 1).collect();
    let correlation = ByCorrelation::new(&v, &some, &read);
    let (sum, distance, chance) = (BySum(&table), ByDistance(&v), ByChance { seed: 906 });
    let scorers: [&dyn PairScorer; 4] = [&sum, &correlation, &distance, &chance];
    let found = recover(&v, &truth, &scorers, &()).unwrap();
    assert_eq!((found.pairs, found.links), (pairs.len() as u64, links.len() as u64));
    assert_eq!((found.links_missing, found.links_off_chromosome), (2, 1));
    let share = links.len() as f64 / pairs.len() as f64;
    assert!((found.chance.unwrap() - share).abs() < 1e-15);

    let (e, a) = (dense(&genes, GENES), dense(&peaks, PEAKS));
    let pick = |x: &[f64]| some.iter().map(|&c| x[c as usize]).collect::<Vec<_>>();
    let labels: Vec<u8> = pairs.iter().map(|p| u8::from(links.contains(p))).collect();
    let expected: [(&str, Vec<f64>); 3] = [
        (
            "attention",
            pairs
                .iter()
                .map(|&(g, p)| table.iter().find(|l| (l.gene, l.peak) == (g, p)).map_or(0.0, |l| l.weight))
                .collect(),
        ),
        // Rounded, so that exact ties stay ties under another order of summation.
        ("correlation", pairs.iter().map(|&(g, p)| pearson(&pick(&e[g as usize]), &pick(&a[p as usize]))).collect()),
        (
            "distance",
            pairs
                .iter()
                .map(|&(g, p)| {
                    let (g, p) = (&v.genes[g as usize], &v.peaks[p as usize]);
                    match g.tss {
                        Some(t) if p.start >= 0 => -((t as f64) - (p.start + p.end) as f64 / 2.0).abs(),
                        _ => f64::NEG_INFINITY,
                    }
                })
                .collect(),
        ),
    ];
    for ((name, scores), got) in expected.iter().zip(&found.scores) {
        let want = ranking(scores, &labels);
        assert_eq!(&got.score, name);
        for (got, want) in [(got.auroc, want.auroc), (got.auprc, want.auprc)] {
            assert!((got.unwrap() - want.unwrap()).abs() < 1e-9, "{name}: {got:?} {want:?}");
        }
        assert!((got.auprc_over_chance.unwrap() - got.auprc.unwrap() / share).abs() < 1e-9);
    }
    let random = found.scores[3].auroc.unwrap();
    assert!((0.2..0.8).contains(&random), "random: {random}");

    // Every correlation, not only their ranks.
    for c in 0..3 {
        let of = |chrom: Vec<u32>| (0..chrom.len() as u32).filter(|&i| chrom[i as usize] == c).collect::<Vec<_>>();
        let (gs, ps) = (of(v.genes.iter().map(|g| g.chrom).collect()), of(v.peaks.iter().map(|p| p.chrom).collect()));
        let mut out = vec![f64::NAN; gs.len() * ps.len()];
        correlation.block(&gs, &ps, &mut out);
        for (i, &g) in gs.iter().enumerate() {
            for (j, &p) in ps.iter().enumerate() {
                let want = pearson(&pick(&e[g as usize]), &pick(&a[p as usize]));
                assert!((out[i * ps.len() + j] - want).abs() < 1e-9);
            }
        }
        // A block that begins in the middle of the chromosome.
        let half = gs.len() / 2;
        let mut tail = vec![0.0; (gs.len() - half) * ps.len()];
        correlation.block(&gs[half..], &ps, &mut tail);
        assert_eq!(tail, out[half * ps.len()..]);
    }

    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| recover(&v, &truth, &scorers, &()).unwrap()), found);
}

#[test]
fn link_sums_equal_a_map() {
    let mut rng = Rng::new(8, 0);
    let (mut table, mut other) = (LinkTable::new(), LinkTable::new());
    let mut map: BTreeMap<(u32, u32), (f64, u32)> = BTreeMap::new();
    for i in 0..200_000 {
        let (g, p) = (rng.below(40) as u32, rng.below(90) as u32);
        let x = f64::from(rng.below(16) as u32) / 8.0; // sums of these are exact
        if i % 3 == 0 {
            other.add(g, p, x)
        } else {
            table.add(g, p, x)
        }
        let e = map.entry((g, p)).or_default();
        e.0 += x;
        e.1 += 1;
    }
    table.merge(&mut other);
    let got: Vec<_> = table.links().iter().map(|l| ((l.gene, l.peak), (l.weight, l.cells))).collect();
    assert_eq!(got, map.into_iter().collect::<Vec<_>>());
    let ranked = table.ranked();
    assert!(
        ranked.is_sorted_by(|a, b| {
            a.weight > b.weight || (a.weight == b.weight && (a.gene, a.peak) < (b.gene, b.peak))
        })
    );
}

#[test]
fn attention_file_is_whole_or_absent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("attention.h5");
    let v = Vocabulary { cell_types: vec!["a".into(), "b".into()], cell_type: vec![1; CELLS], ..vocabulary() };
    let pair = |gene, peak| Pair { gene, peak, weight: 0.5, score: 0.9 };
    let mut w = AttentionWriter::create(&path).unwrap();
    w.push(3, &[pair(1, 2), pair(1, 5)]).unwrap();
    drop(w);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "an unfinished file is removed");

    let mut w = AttentionWriter::create(&path).unwrap();
    let many: Vec<Pair> = (0..70_000).map(|i| pair(i / 1000, i % 1000)).collect(); // more than a chunk
    w.push(3, &[pair(1, 2), pair(1, 5)]).unwrap();
    w.push(0, &[]).unwrap();
    w.push(39, &many).unwrap();
    assert_eq!(w.pairs(), 70_002);
    w.finish(&v).unwrap();
    let f = hdf5::File::open(&path).unwrap();
    let raw = |name: &str| f.dataset(name).unwrap().read_raw::<u32>().unwrap();
    assert_eq!(f.dataset("indptr").unwrap().read_raw::<u64>().unwrap(), [0, 2, 2, 70_002]);
    assert_eq!(raw("cell"), [3, 0, 39]);
    assert_eq!(raw("peak")[..3], [2, 5, 0]);
    assert_eq!(raw("gene").len(), 70_002);
    assert_eq!(f.dataset("weight").unwrap().read_raw::<f32>().unwrap()[70_001], 0.5);
    assert_eq!(f.dataset("cell_type").unwrap().read_raw::<i32>().unwrap(), [1, 1, 1]);
    let names = f.dataset("cells").unwrap().read_raw::<hdf5::types::VarLenUnicode>().unwrap();
    assert_eq!(names.iter().map(|s| s.as_str()).collect::<Vec<_>>(), ["c3", "c0", "c39"]);
    assert_eq!(f.attr("version").unwrap().read_scalar::<u32>().unwrap(), 1);
}

#[test]
fn known_links_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("truth.tsv");
    let v = vocabulary();
    let same = (0..PEAKS).find(|&p| v.peaks[p].chrom == v.genes[1].chrom).unwrap();
    let off = (0..PEAKS).find(|&p| v.peaks[p].chrom != v.genes[1].chrom).unwrap();
    std::fs::write(&path, format!("peak\tx\tgene\np{same}\t1\tg1\np{off}\t1\tg1\np{same}\t2\tg1\nq\t1\tg1\n")).unwrap();
    let t = Truth::read(&path, &v).unwrap();
    assert_eq!((t.links.as_slice(), t.missing, t.off_chromosome), (&[(1, same as u32)][..], 1, 1));
    for (text, word) in [
        ("gene\tpaek\n", "`peak`"),
        ("", "`gene`"),
        ("gene\tpeak\ng1\n", "line 2"),
        ("gene\tpeak\ng1\tnone\n", "none of its 1 links"),
    ] {
        std::fs::write(&path, text).unwrap();
        let e = Truth::read(&path, &v).unwrap_err();
        assert!(e.to_string().contains(word) && e.exit_code() == 2, "{e}");
    }
    assert_eq!(Truth::read(&dir.path().join("no.tsv"), &v).unwrap_err().exit_code(), 2);
}
