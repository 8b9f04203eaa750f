//! `simulate --dataset neurips2021`: the shape and statistics of the real data set, files that a preset finds, planted
//! links and motifs that are there.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::LazyLock;

use assert_cmd::Command;
use sccrossrec::dataset::DataSet;
use sccrossrec::simulate::{SimulateConfig, Simulation};
use serde_json::Value;

const CELLS: usize = 300;

struct Made {
    dir: tempfile::TempDir,
    plan: Simulation,
    json: Value,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let plan = Simulation::new(SimulateConfig { cells: CELLS, ..SimulateConfig::neurips2021() }).unwrap();
    let json = simulate(dir.path(), 2);
    Made { dir, plan, json }
});

fn program() -> Command {
    Command::cargo_bin("sccrossrec").unwrap()
}

fn simulate(out: &Path, threads: usize) -> Value {
    let ran = program()
        .args(["--json", "simulate", "--dataset", "neurips2021", "--cells", &CELLS.to_string(), "--force", "--out"])
        .arg(out)
        .env("RAYON_NUM_THREADS", threads.to_string())
        .assert()
        .success();
    serde_json::from_slice(&ran.get_output().stdout).unwrap()
}

fn file(name: &str) -> hdf5::File {
    hdf5::File::open(MADE.dir.path().join(name)).unwrap()
}

const RNA: &str = "neurips2021_multiome_scRNA.h5ad";
const ATAC: &str = "neurips2021_multiome_scATAC.h5ad";
const FASTA: &str = "NeurIPS2021_peak_output.fa";

fn read<T: hdf5::H5Type>(name: &str, at: &str) -> Vec<T> {
    file(name).dataset(at).unwrap().read_raw().unwrap()
}

fn text(name: &str) -> String {
    std::fs::read_to_string(MADE.dir.path().join(name)).unwrap()
}

#[test]
fn shape_sparsity_and_layers() {
    let full = SimulateConfig::neurips2021();
    assert_eq!((full.cells, full.genes, full.peaks, full.cell_types, full.batches), (69_249, 13_431, 116_490, 22, 24));
    for (name, cols, least, most) in [(RNA, 13_431, 800.0, 1_250.0), (ATAC, 116_490, 3_200.0, 4_800.0)] {
        let shape: Vec<i64> = file(name).group("X").unwrap().attr("shape").unwrap().read_raw().unwrap();
        assert_eq!(shape, [CELLS as i64, cols]);
        let (x, counts) = (read::<f32>(name, "X/data"), read::<f32>(name, "layers/counts/data"));
        for part in ["indices", "indptr"] {
            let of = |at: &str| read::<i64>(name, &format!("{at}/{part}"));
            assert_eq!(of("X"), of("layers/counts"));
        }
        let mean = x.len() as f64 / CELLS as f64;
        assert!((least..most).contains(&mean), "{name}: {mean} entries a cell");
        assert!(counts.iter().all(|&k| k >= 1.0 && k.fract() == 0.0));
        let indptr = read::<i64>(name, "X/indptr");
        let rows = || indptr.windows(2).map(|w| w[0] as usize..w[1] as usize);
        if name == ATAC {
            assert!(x.iter().all(|&a| a == 1.0), "binary");
            let twos = counts.iter().filter(|&&k| k >= 2.0).count() as f64 / counts.len() as f64;
            assert!((0.02..0.4).contains(&twos), "some counts are above 1: {twos}");
        } else {
            let depth = MADE.plan.config().rna_depth as f32;
            for row in rows() {
                let total: f32 = counts[row.clone()].iter().sum();
                for i in row {
                    let want = (counts[i] * depth / total).ln_1p();
                    assert!((x[i] - want).abs() < 1e-5 * want, "{} instead of {want}", x[i]);
                }
            }
        }
        // Depth differs from cell to cell, frequency from column to column, by orders of magnitude.
        let mut sizes: Vec<usize> = rows().map(|r| r.len()).collect();
        sizes.sort_unstable();
        assert!(sizes[CELLS * 9 / 10] > 2 * sizes[CELLS / 10], "{name}: {} {}", sizes[30], sizes[270]);
        let mut seen = vec![0u32; cols as usize];
        read::<i32>(name, "X/indices").iter().for_each(|&j| seen[j as usize] += 1);
        seen.sort_unstable();
        let (median, top) = (seen[seen.len() / 2], seen[seen.len() * 99 / 100]);
        assert!(top > 10 * median.max(1), "{name}: columns are skewed: {median} {top}");
    }
}

#[test]
fn labels() {
    let obs = file(RNA).group("obs").unwrap();
    for (column, n) in [("cell_type", 22), ("batch", 24), ("site", 4), ("donor", 6)] {
        let group = obs.group(column).unwrap();
        let codes: Vec<i32> = group.dataset("codes").unwrap().read_raw().unwrap();
        assert_eq!(group.dataset("categories").unwrap().size(), n, "{column}");
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), n, "{column}: every one is used");
    }
    for name in [RNA, ATAC] {
        assert_eq!(
            read::<i32>(name, "obs/batch/codes"),
            (0..CELLS).map(|i| MADE.plan.label(i).1 as i32).collect::<Vec<_>>()
        );
    }
}

#[test]
fn same_for_any_number_of_threads() {
    let again = tempfile::tempdir().unwrap();
    simulate(again.path(), 1);
    for name in [RNA, ATAC] {
        let other = hdf5::File::open(again.path().join(name)).unwrap();
        for at in ["X/data", "X/indices", "layers/counts/data"] {
            let values: Vec<f32> = other.dataset(at).unwrap().read_raw().unwrap();
            assert!(values == read::<f32>(name, at), "{name} {at}");
        }
    }
    for name in [FASTA, "genes.gtf", "truth.tsv", "motifs.tsv", "motifs.bed"] {
        assert!(std::fs::read(again.path().join(name)).unwrap() == text(name).as_bytes(), "{name}");
    }
}

/// Peaks that a type opens carry its motif far more often than others.
#[test]
fn motifs_are_where_they_should_be() {
    let plan = &MADE.plan;
    let fasta = text(FASTA);
    let mut lines = fasta.lines();
    let reverse = |m: &str| -> String {
        m.chars()
            .rev()
            .map(|b| match b {
                'A' => 'T',
                'C' => 'G',
                'G' => 'C',
                _ => 'A',
            })
            .collect()
    };
    let both: Vec<[String; 2]> = plan.motifs().iter().map(|m| [m.clone(), reverse(m)]).collect();
    let (mut own, mut other, mut bases) = ([0usize; 2], [0usize; 2], HashMap::new());
    for peak in plan.peaks() {
        let header = lines.next().unwrap();
        assert_eq!(header, format!(">{}:{}-{}", plan.chromosome(peak.chrom), peak.start, peak.end));
        let sequence = lines.next().unwrap();
        assert_eq!(sequence.len() as i64, peak.end - peak.start);
        sequence.bytes().for_each(|b| *bases.entry(b).or_insert(0usize) += 1);
        let read = &sequence[..256];
        for (t, motif) in both.iter().enumerate().take(4) {
            let found = usize::from(motif.iter().any(|m| read.contains(m.as_str())));
            let to = if peak.opened_by == Some(t) { &mut own } else { &mut other };
            *to = [to[0] + found, to[1] + 1];
        }
    }
    assert_eq!(lines.next(), None);
    assert_eq!(bases.keys().copied().collect::<HashSet<_>>(), HashSet::from(*b"ACGT"));
    let share = |x: [usize; 2]| x[0] as f64 / x[1] as f64;
    assert!(share(own) > 0.25 && share(other) < 0.01, "{} {}", share(own), share(other));
    assert_eq!(text("motifs.bed").lines().count() as u64, MADE.json["planted_motifs"].as_u64().unwrap());
    // A site of the table has its motif, up to mutations.
    let sites: Vec<usize> = (0..2_000).filter(|&j| plan.sequence(j).1.is_some()).collect();
    let whole = sites.iter().filter(|&&j| {
        let (bases, site) = plan.sequence(j);
        let site = site.unwrap();
        let there = std::str::from_utf8(&bases[site.at..site.at + site.length]).unwrap();
        there == both[site.cell_type][usize::from(!site.forward)]
    });
    let (whole, all) = (whole.count(), sites.len());
    assert!(all > 500 && whole * 2 > all && whole < all, "{whole} of {all} without a mutation");
}

/// Expression is higher where a linked peak was caught, within a cell type; of other pairs as far apart it is not.
#[test]
fn links_show_in_the_data() {
    let plan = &MADE.plan;
    let cells: Vec<_> = (0..CELLS).map(|i| plan.cell(i)).collect();
    let dense: Vec<(usize, Vec<f32>, Vec<bool>)> = cells
        .iter()
        .map(|c| {
            let (mut rna, mut atac) = (vec![0.0; plan.genes().len()], vec![false; plan.peaks().len()]);
            let total = c.rna.iter().map(|x| x.1).sum::<u32>() as f32;
            c.rna.iter().for_each(|x| rna[x.0 as usize] = x.1 as f32 / total);
            c.atac.iter().for_each(|x| atac[x.0 as usize] = true);
            (c.cell_type, rna, atac)
        })
        .collect();
    // Ratio of expression with and without the peak, summed over pairs and the larger types.
    let ratio = |pairs: &mut dyn Iterator<Item = (usize, usize)>| {
        let mut sums = [0.0f64; 2];
        for (gene, peak) in pairs {
            for t in 0..4 {
                let (mut sum, mut n) = ([0.0f64; 2], [0.0f64; 2]);
                for (_, rna, atac) in dense.iter().filter(|c| c.0 == t) {
                    let on = usize::from(atac[peak]);
                    sum[on] += f64::from(rna[gene]);
                    n[on] += 1.0;
                }
                if n[0] > 2.0 && n[1] > 2.0 {
                    (0..2).for_each(|k| sums[k] += sum[k] / n[k]);
                }
            }
        }
        sums[1] / sums[0]
    };
    let linked = ratio(&mut plan.links().iter().map(|l| (l.gene, l.peak)));
    let others: HashSet<usize> = plan.links().iter().map(|l| l.peak).collect();
    let beside = |p: usize| (p + 1..plan.peaks().len()).find(|q| !others.contains(q)).unwrap_or(p);
    let control = ratio(&mut plan.links().iter().map(|l| (l.gene, beside(l.peak))));
    assert!(linked > 1.3, "linked: {linked}");
    assert!((0.85..1.15).contains(&control), "not linked: {control}");
    assert_eq!(text("truth.tsv").lines().count(), plan.links().len() + 1);
}

#[test]
fn the_preset_prepares_it() {
    let data = tempfile::tempdir().unwrap();
    let ran = program()
        .args(["--json", "prepare", "--dataset", "neurips2021", "--from"])
        .arg(MADE.dir.path())
        .arg("--gtf")
        .arg(MADE.dir.path().join("genes.gtf"))
        .arg("--out")
        .arg(data.path().join("DATA"))
        .assert()
        .success();
    let made: Value = serde_json::from_slice(&ran.get_output().stdout).unwrap();
    let data = DataSet::open(&data.path().join("DATA")).unwrap();
    let names = data.vocabulary();
    assert_eq!((data.n_cells(), names.genes.len(), names.peaks.len()), (CELLS, 13_431, 116_490), "{made}");
    assert_eq!(names.chromosomes.len(), 23);
    for i in [0, CELLS - 1] {
        let (cell, drawn) = (data.cell(i), MADE.plan.cell(i));
        let of = |nodes: &mut dyn Iterator<Item = (u32, f32)>| nodes.map(|n| n.0).collect::<HashSet<_>>();
        assert_eq!(of(&mut cell.rna()), drawn.rna.iter().map(|x| x.0).collect());
        assert_eq!(of(&mut cell.atac()), drawn.atac.iter().map(|x| x.0).collect());
    }
}

#[test]
fn refused() {
    let dir = tempfile::tempdir().unwrap();
    for (args, word) in [
        (&["--dataset", "pbmc"][..], "cannot be simulated"),
        (&["--dataset", "neurips"][..], "neurips2021"),
        (&["--dataset", "neurips2021", "--genes", "20"][..], "cannot be used with"),
        (&["--dataset", "neurips2021", "--cells", "23"][..], "`batches`"),
    ] {
        let ran = program().arg("simulate").arg("--out").arg(dir.path()).args(args).assert().code(2);
        let said = String::from_utf8_lossy(&ran.get_output().stderr).into_owned();
        assert!(said.contains(word), "{args:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was left");
}
