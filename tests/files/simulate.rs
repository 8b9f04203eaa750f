//! The simulation: deterministic, consistent with its truth, and shaped like data.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use sccrossrec::simulate::{Difficulty, SimulateConfig, Simulation};

fn small() -> SimulateConfig {
    SimulateConfig { cells: 700, genes: 60, peaks: 240, chromosomes: 3, cell_types: 3, ..Default::default() }
}

fn with_threads<R: Send>(n: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(f)
}

fn read<T: hdf5::H5Type>(file: &Path, name: &str) -> Vec<T> {
    hdf5::File::open(file).unwrap().dataset(name).unwrap().read_raw().unwrap()
}

#[test]
fn independent_of_threads() {
    let make = |threads: usize| {
        let dir = tempfile::tempdir().unwrap();
        let made = with_threads(threads, || Simulation::new(small()).unwrap().write(dir.path(), &()).unwrap());
        let mut all: Vec<(Vec<f32>, Vec<i32>, Vec<i64>)> = vec![];
        for file in [&made.rna, &made.atac] {
            for at in ["X", "layers/counts"] {
                let part = |what: &str| format!("{at}/{what}");
                all.push((read(file, &part("data")), read(file, &part("indices")), read(file, &part("indptr"))));
            }
        }
        (all, std::fs::read(&made.truth).unwrap())
    };
    let (one, four) = (make(1), make(4));
    assert!(one == four, "files differ between 1 and 4 threads");
    assert_ne!(
        Simulation::new(small()).unwrap().cell(5),
        Simulation::new(SimulateConfig { seed: 907, ..small() }).unwrap().cell(5)
    );
}

#[test]
fn truth_agrees_with_the_plan() {
    let s = Simulation::new(SimulateConfig::default()).unwrap();
    assert_eq!((s.genes().len(), s.peaks().len()), (500, 2500));
    assert_eq!(s.genes().iter().map(|g| g.chrom).collect::<HashSet<_>>().len(), 8);
    assert_eq!(s.peaks().iter().map(|p| &p.name).collect::<HashSet<_>>().len(), 2500);
    assert!(s.genes().is_sorted_by_key(|g| (g.chrom, g.tss)));
    for g in s.genes() {
        let [start, end] = g.body();
        assert!(start >= 0 && end - start == g.length && g.tss == if g.forward { start } else { end - 1 });
    }
    assert!(s.peaks().windows(2).all(|w| w[0].chrom < w[1].chrom || w[0].end < w[1].start));
    assert!(s.peaks().iter().all(|p| p.start >= 0 && p.name == format!("chr{}-{}-{}", p.chrom + 1, p.start, p.end)));

    let gene: HashMap<&str, usize> = s.genes().iter().enumerate().map(|(i, g)| (g.name.as_str(), i)).collect();
    let peak: HashMap<&str, usize> = s.peaks().iter().enumerate().map(|(i, p)| (p.name.as_str(), i)).collect();
    let tsv = s.truth_tsv();
    let mut lines = tsv.lines();
    assert_eq!(lines.next(), Some("gene\tpeak\tchrom\tstart\tend\ttss\tdistance\teffect"));
    let (mut per_gene, mut far, mut n, mut seen) = (HashMap::new(), 0, 0, HashSet::new());
    for line in lines {
        let f: Vec<&str> = line.split('\t').collect();
        let (g, p) = (&s.genes()[gene[f[0]]], &s.peaks()[peak[f[1]]]);
        assert_eq!(g.chrom, p.chrom);
        assert_eq!(
            f[2..6],
            [&format!("chr{}", p.chrom + 1), &p.start.to_string(), &p.end.to_string(), &g.tss.to_string()]
        );
        let distance: i64 = f[6].parse().unwrap();
        assert_eq!(distance, (g.tss - (p.start + p.end) / 2).abs());
        assert!((0.5..=1.5).contains(&f[7].parse::<f64>().unwrap()));
        assert!(seen.insert(f[1].to_string()), "a peak is linked once");
        *per_gene.entry(f[0].to_string()).or_insert(0) += 1;
        far += usize::from(distance > 100_000);
        n += 1;
    }
    assert_eq!((n, per_gene.len()), (s.links().len(), 300));
    assert!(per_gene.values().all(|k| (1..=3).contains(k)));
    let share = far as f64 / n as f64;
    assert!((0.1..0.3).contains(&share), "a minority is far: {share}");
}

/// Within a type, expression is higher where a linked peak is open; depth, sparsity and skew are as promised.
#[test]
fn cells_are_shaped_like_data() {
    let s = Simulation::new(SimulateConfig { cells: 600, ..Default::default() }).unwrap();
    let cells: Vec<_> = (0..600).map(|i| s.cell(i)).collect();
    let (g, p) = (s.genes().len() as f64, s.peaks().len() as f64);
    let rna = cells.iter().map(|c| c.rna.len()).sum::<usize>() as f64 / (600.0 * g);
    let atac = cells.iter().map(|c| c.atac.len()).sum::<usize>() as f64 / (600.0 * p);
    assert!((0.1..0.4).contains(&rna) && (0.02..0.15).contains(&atac), "density {rna} {atac}");
    for t in 0..6 {
        assert!(cells.iter().any(|c| c.cell_type == t));
    }
    let mut depth: Vec<u32> = cells.iter().map(|c| c.rna.iter().map(|x| x.1).sum()).collect();
    depth.sort_unstable();
    assert!(
        (200..300).contains(&depth[300]) && depth[570] > depth[30] * 2,
        "{} {} {}",
        depth[30],
        depth[300],
        depth[570]
    );
    let mut seen = vec![0; 2500];
    cells.iter().flat_map(|c| &c.atac).for_each(|x| seen[x.0 as usize] += 1);
    seen.sort_unstable();
    assert!(seen[2375] > 6 * seen[625], "peak frequencies are skewed: {} {}", seen[625], seen[2375]);

    // Per type, mean expression of a gene in cells with and without a fragment in its linked peak.
    let (mut with, mut without) = (0.0, 0.0);
    for l in s.links() {
        for t in 0..6 {
            let (mut sum, mut n) = ([0.0; 2], [0.0; 2]);
            for c in cells.iter().filter(|c| c.cell_type == t) {
                let on = usize::from(c.atac.iter().any(|x| x.0 as usize == l.peak));
                let depth: u32 = c.rna.iter().map(|x| x.1).sum();
                let e = c.rna.iter().find(|x| x.0 as usize == l.gene).map_or(0, |x| x.1);
                sum[on] += f64::from(e) / f64::from(depth);
                n[on] += 1.0;
            }
            if n[0] > 0.0 && n[1] > 0.0 {
                without += sum[0] / n[0];
                with += sum[1] / n[1];
            }
        }
    }
    assert!(with > 1.3 * without, "planted links show within types: {with} against {without}");
}

#[test]
fn bad_numbers_are_named() {
    for (config, word) in [
        (SimulateConfig { cells: 0, ..small() }, "`cells`"),
        (SimulateConfig { genes: 2, ..small() }, "`genes`"),
        (SimulateConfig { cell_types: 701, ..small() }, "`cell_types`"),
        (SimulateConfig { rna_depth: f64::NAN, ..small() }, "`rna_depth`"),
        (SimulateConfig { effect: [2.0, 1.0], ..small() }, "`effect`"),
    ] {
        let e = Simulation::new(config).unwrap_err();
        assert!(e.to_string().contains(word) && e.exit_code() == 2, "{e}");
    }
}

/// Where links lie, whether cell types open peaks, and whether peaks open together within a type.
#[test]
fn difficulties_differ_in_what_they_say() {
    let of = |difficulty: Difficulty| {
        let base = SimulateConfig { cells: 300, depth_sd: 0.0, ..SimulateConfig::default() };
        let s = Simulation::new(difficulty.apply(base)).unwrap();
        let mut far: Vec<i64> = s
            .links()
            .iter()
            .map(|l| {
                let (gene, peak) = (&s.genes()[l.gene], &s.peaks()[l.peak]);
                (gene.tss - (peak.start + peak.end) / 2).abs()
            })
            .collect();
        far.sort_unstable();
        let by_type = (0..s.peaks().len()).any(|p| s.chance_open(0, p) != s.chance_open(1, p));
        // Open peaks of the cells of one type: variance over mean.
        let cells: Vec<f64> =
            (0..300).map(|i| s.cell(i)).filter(|c| c.cell_type == 0).map(|c| c.atac.len() as f64).collect();
        let n = cells.len() as f64;
        let mean = cells.iter().sum::<f64>() / n;
        let spread = cells.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / mean;
        (far[far.len() / 2], by_type, spread)
    };
    let [independent, programs, distance] =
        [Difficulty::Independent, Difficulty::Programs, Difficulty::Distance].map(of);
    for (median, ..) in [independent, programs] {
        assert!((200_000..300_000).contains(&median), "{median}");
    }
    assert!(distance.0 < 50_000, "{}", distance.0);
    assert_eq!([independent.1, programs.1, distance.1], [false, true, true]);
    assert!(independent.2 < 1.3, "{independent:?}: peaks do not open independently");
    assert!(programs.2 > 2.0 * independent.2 && distance.2 > 2.0 * independent.2, "{independent:?} {programs:?}");
}
