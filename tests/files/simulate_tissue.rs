//! `--difficulty tissue`: what its plan promises, its files, and that the other difficulties are drawn as they were.

use std::fmt::Write;

use sccrossrec::dataset::DataSet;
use sccrossrec::discover::Truth;
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::simulate::{Difficulty, SimulateConfig, Simulation, Tissue};

fn tissue() -> Simulation {
    Simulation::new(Difficulty::Tissue.apply(SimulateConfig { cell_types: 12, ..Default::default() })).unwrap()
}

fn distance(s: &Simulation, gene: usize, peak: usize) -> i64 {
    let (g, p) = (&s.genes()[gene], &s.peaks()[peak]);
    (g.tss - (p.start + p.end) / 2).abs()
}

/// FNV-1a of everything that a user can see of a plan and of its first cells.
fn checksum(s: &Simulation) -> u64 {
    let mut text = s.truth_tsv() + &s.gtf() + &s.motifs().join(" ");
    for p in s.peaks() {
        writeln!(text, "{p:?}").unwrap();
    }
    for i in 0..100 {
        writeln!(text, "{:?}", s.cell(i)).unwrap();
    }
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Published figures rest on them. Taken when all files of each were the same, byte for byte, as those of the program before
/// there was a tissue.
#[test]
fn the_other_difficulties_are_as_they_were() {
    let base = SimulateConfig::default;
    let of = |c: SimulateConfig| format!("{:#018x}", checksum(&Simulation::new(c).unwrap()));
    let found = [
        of(base()),
        of(Difficulty::Independent.apply(base())),
        of(Difficulty::Programs.apply(base())),
        of(Difficulty::Distance.apply(base())),
    ];
    assert_eq!(found, ["0x29cfb17045ac728a", "0x6d0a4748d26700cf", "0x0c674d5b9d8fd66c", "0x0c3fb940ffc9b172"]);
    let again = Difficulty::Programs.apply(Difficulty::Tissue.apply(base()));
    assert_eq!(again.tissue, None);
}

#[test]
fn same_seed_same_tissue() {
    let small = |seed| SimulateConfig { cells: 200, genes: 60, peaks: 240, chromosomes: 3, seed, ..Default::default() };
    let make = |seed| Simulation::new(Difficulty::Tissue.apply(small(seed))).unwrap();
    assert!(make(1) == make(1) && checksum(&make(1)) == checksum(&make(1)));
    assert_ne!(checksum(&make(1)), checksum(&make(2)));
}

#[test]
fn links_act_where_their_peaks_open_and_get_rarer_with_distance() {
    let s = tissue();
    let types = s.config().cell_types;
    let mut some = 0;
    let mut far: Vec<i64> = Vec::new();
    let mut per_gene = vec![0; s.genes().len()];
    for (i, l) in s.links().iter().enumerate() {
        assert_eq!(s.genes()[l.gene].chrom, s.peaks()[l.peak].chrom);
        assert!((0.5..=1.5).contains(&l.effect) && s.promoter_of(l.peak).is_none());
        let [acts, not]: [Vec<usize>; 2] =
            [true, false].map(|a| (0..types).filter(|&t| s.acts_in(i, t) == a).collect());
        assert!(!acts.is_empty(), "link {i} acts nowhere");
        let open = |of: &[usize]| -> Vec<f64> { of.iter().map(|&t| s.chance_open(t, l.peak)).collect() };
        let least = open(&acts).into_iter().fold(1.0, f64::min);
        if !not.is_empty() {
            assert!(open(&not).iter().all(|&o| o < least), "link {i} acts where its peak is open less often");
            some += 1;
        }
        far.push(distance(&s, l.gene, l.peak));
        per_gene[l.gene] += 1;
    }
    let n = s.links().len();
    assert!(n > 500 && (0.5..0.85).contains(&(f64::from(some) / n as f64)), "{some} of {n} links act in some types");
    assert!(per_gene.iter().all(|k| *k <= 4) && per_gene.contains(&4));
    far.sort_unstable();
    assert!((20_000..45_000).contains(&far[n / 2]) && far[n - 1] > 200_000 && far[n - 1] < 502_000, "{}", far[n / 2]);
    let density =
        |low: i64, high: i64| far.iter().filter(|d| (low..high).contains(*d)).count() as f64 / (high - low) as f64;
    let bins = [density(2_000, 10_000), density(10_000, 50_000), density(50_000, 200_000), density(200_000, 500_000)];
    assert!(bins.windows(2).all(|b| b[0] > 1.5 * b[1]), "{bins:?}");
}

#[test]
fn promoters_are_at_their_genes_open_widely_and_coupled_weakly() {
    let s = tissue();
    let types = s.config().cell_types;
    let promoters: Vec<usize> = (0..s.peaks().len()).filter(|&p| s.promoter_of(p).is_some()).collect();
    assert_eq!(promoters.len(), 400);
    let near = promoters.iter().filter(|&&p| distance(&s, s.promoter_of(p).unwrap(), p) <= 1_000).count();
    assert!(near >= 390, "{near} within 1 kb");
    let open = |p: usize| (0..types).map(|t| s.chance_open(t, p)).sum::<f64>() / types as f64;
    let mean = |of: &dyn Fn(usize) -> bool| {
        let of: Vec<f64> = (0..s.peaks().len()).filter(|&p| of(p)).map(open).collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    let (promoter, other) = (mean(&|p| s.promoter_of(p).is_some()), mean(&|p| s.promoter_of(p).is_none()));
    assert!(promoter > 1.8 * other, "{promoter} {other}");
    let varies = |p: usize| (1..types).any(|t| s.chance_open(t, p) != s.chance_open(0, p));
    assert!(promoters.iter().filter(|&&p| varies(p)).count() > 390);
}

/// Lineages are of types that follow each other; types of one open peaks more alike than types of two.
#[test]
fn types_of_a_lineage_are_alike() {
    let s = tissue();
    let types = s.config().cell_types;
    let lineage: Vec<usize> = (0..types).map(|t| s.lineage(t).unwrap()).collect();
    assert_eq!(lineage, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    let apart = |a: usize, b: usize| {
        (0..s.peaks().len()).map(|p| (s.chance_open(a, p) - s.chance_open(b, p)).powi(2)).sum::<f64>()
    };
    let mut sums = [(0.0, 0); 2];
    for a in 0..types {
        for b in 0..a {
            let sum = &mut sums[usize::from(lineage[a] == lineage[b])];
            *sum = (sum.0 + apart(a, b), sum.1 + 1);
        }
    }
    let [between, within] = sums.map(|(x, n)| x / f64::from(n));
    assert!(between > 1.15 * within, "{between} {within}");
}

/// As sparse as SNARE-seq cortex (0.18 counts a gene and cell, 0.0039 a peak and cell, 94 % and 99.6 % zeros); a data set
/// keeps its own sparsity.
#[test]
fn counts_are_sparse() {
    let s = tissue();
    let cells: Vec<_> = (0..1_000).map(|i| s.cell(i)).collect();
    let mean = |of: &dyn Fn(&sccrossrec::simulate::SimulatedCell) -> u32, n: usize| {
        cells.iter().map(of).map(f64::from).sum::<f64>() / (1_000 * n) as f64
    };
    let rna = mean(&|c| c.rna.iter().map(|x| x.1).sum(), s.genes().len());
    let atac = mean(&|c| c.atac.iter().map(|x| x.1).sum(), s.peaks().len());
    assert!((0.13..0.24).contains(&rna) && (0.0025..0.006).contains(&atac), "{rna} {atac}");
    let kept = Difficulty::Tissue.apply(SimulateConfig::neurips2021());
    assert_eq!((kept.rna_depth, kept.atac_rate), (1_150.0, 0.5));
    assert!(kept.tissue.is_some());
}

/// The truth names types, its readers take it, and the lineage is a column of the cells; others stay as they are.
#[test]
fn files_are_prepared_and_truth_is_read() {
    let base = SimulateConfig { cells: 400, genes: 60, peaks: 240, chromosomes: 3, ..Default::default() };
    let s = Simulation::new(Difficulty::Tissue.apply(base.clone())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let made = s.write(dir.path(), &()).unwrap();
    let truth = std::fs::read_to_string(&made.truth).unwrap();
    assert!(truth.lines().next().unwrap().ends_with("\teffect\ttypes"));
    for (i, line) in truth.lines().skip(1).enumerate() {
        let named: Vec<&str> = line.split('\t').nth(8).unwrap().split(',').collect();
        let acts: Vec<String> =
            (0..base.cell_types).filter(|&t| s.acts_in(i, t)).map(|t| format!("type{}", t + 1)).collect();
        assert_eq!(named, acts);
    }
    let data = dir.path().join("data");
    prepare(&PrepareConfig::new(&made.rna, &made.atac), &data, &()).unwrap();
    let data = DataSet::open(&data).unwrap();
    assert!(data.vocabulary().obs.iter().any(|c| c.name == "lineage"));
    let read = Truth::read(&made.truth, data.vocabulary()).unwrap();
    assert_eq!(read.links.len() as u64 + read.missing, s.links().len() as u64);
    assert!(!read.links.is_empty());
    let plain = Simulation::new(base).unwrap();
    assert!(plain.truth_tsv().lines().next().unwrap().ends_with("\teffect"));
    assert_eq!((plain.lineage(0), plain.promoter_of(0), plain.acts_in(0, 0)), (None, None, true));
}

#[test]
fn bad_numbers_of_tissue_are_named() {
    for (tissue, word) in [
        (Tissue { lineages: 0, ..Default::default() }, "`tissue.lineages`"),
        (Tissue { regulators: 0, ..Default::default() }, "`tissue.regulators`"),
        (Tissue { promoters: 1.5, ..Default::default() }, "`tissue.promoters`"),
        (Tissue { distance: [f64::NAN, 1.0], ..Default::default() }, "`tissue.distance[0]`"),
        (Tissue { domain: [0.5, 0.0], ..Default::default() }, "`tissue.domain[1]`"),
    ] {
        let e = Simulation::new(SimulateConfig { tissue: Some(tissue), ..Default::default() }).unwrap_err();
        assert!(e.to_string().contains(word) && e.exit_code() == 2, "{e}");
    }
    // Extremes that are allowed can be drawn.
    let one = SimulateConfig { cells: 3, genes: 1, peaks: 1, chromosomes: 1, cell_types: 1, ..Default::default() };
    for (regulators, continuous) in [(1, 1.0), (3, 0.0)] {
        let tissue = Tissue { regulators, continuous, ..Default::default() };
        let s = Simulation::new(SimulateConfig { tissue: Some(tissue), ..one.clone() }).unwrap();
        (0..3).for_each(|i| drop(s.cell(i)));
    }
}
