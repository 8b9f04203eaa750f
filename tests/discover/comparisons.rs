//! Maps against TF binding sites and known links: readers, measures and background against brute force; real ChIP-seq.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use sccrossrec::data::anndata::{AnnData, Axis};
use sccrossrec::data::region::parse_region;
use sccrossrec::discover::maps::{LinkStat, Maps, TypeMap};
use sccrossrec::discover::recovery::{RECOVERY_BINS, recovery_bin, write_recovery};
use sccrossrec::discover::tf::{
    MEASURES, PeakStrata, TfComparison, TfFile, TfRow, TfSummary, TfTrack, compare, write_tracks,
};
use sccrossrec::discover::truth::sums;
use sccrossrec::discover::{ByChance, ByDistance, BySum, NEAR, PairScorer, Truth, recover};
use sccrossrec::evaluate::ranking;
use sccrossrec::rng::Rng;
use sccrossrec::vocabulary::{Gene, Peak, Vocabulary, distance};

fn vocabulary(chromosomes: &[&str], unknown: Option<u32>, peaks: &[(u32, i64, i64)]) -> Vocabulary {
    Vocabulary {
        chromosomes: chromosomes.iter().map(|c| c.to_string()).collect(),
        unknown,
        peaks: (0..)
            .zip(peaks)
            .map(|(i, &(chrom, start, end))| Peak { name: format!("p{i}"), chrom, start, end })
            .collect(),
        ..Vocabulary::default()
    }
}

/// Six peaks: two on chr1 that overlap, one that touches the second, one on chrM, one of unknown place, one on `2`.
fn six() -> Vocabulary {
    vocabulary(
        &["chr1", "chrUnknown", "MT", "2"],
        Some(1),
        &[(0, 100, 200), (0, 150, 300), (0, 300, 400), (2, 10, 20), (1, -1, -1), (3, 0, 50)],
    )
}

fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn tf(path: &Path, column: Option<usize>) -> TfFile {
    TfFile { path: path.to_path_buf(), column }
}

#[test]
fn files_and_columns_are_told_apart() {
    let parse = |s: &str| s.parse::<TfFile>();
    assert_eq!(parse("a/b.bed").unwrap(), tf(Path::new("a/b.bed"), None));
    assert_eq!(parse("a/b.bed:7").unwrap(), tf(Path::new("a/b.bed"), Some(7)));
    assert_eq!(parse("a:b").unwrap(), tf(Path::new("a:b"), None));
    for wrong in ["x.bed:0", "x.bed:3", "x.bed:99999999999999999999", ""] {
        let e = parse(wrong).unwrap_err();
        assert!(e.exit_code() == 2 && !e.to_string().contains('\n'), "{e}");
    }
    // A file may be called so.
    let dir = tempfile::tempdir().unwrap();
    let odd = file(dir.path(), "odd:7", "");
    assert_eq!(parse(odd.to_str().unwrap()).unwrap(), tf(&odd, None));
}

#[test]
fn binding_sites_of_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let v = six();
    let narrow = "# comment\ntrack name=x\nbrowser position chr1\n\n\
                  chr2\t49\t60\t.\t9\t.\t5.5\t-1\t-1\t3\n\
                  chr1\t299\t301\t.\t9\t.\t1e1\t-1\t-1\t1\r\n\
                  1\t120\t121\t.\t9\t.\t2\t-1\t-1\t0\n\
                  chr1\t160\t170\t.\t9\t.\t3\t-1\t-1\t0\n\
                  chrM\t20\t30\t.\t9\t.\t8\t-1\t-1\t0\n\
                  chr77\t1\t30\t.\t9\t.\t80\t-1\t-1\t0\n\
                  chrUnknown\t0\t9\t.\t9\t.\t70\t-1\t-1\t0\n";
    let path = file(dir.path(), "CTCF.narrowPeak", narrow);
    let t = TfTrack::read(&tf(&path, None), &v).unwrap();
    // Half-open: 299–301 touches peaks 1 and 2, 20–30 does not touch 10–20.
    assert_eq!(t.scores, [3.0, 10.0, 10.0, 0.0, 0.0, 5.5]);
    let s = &t.summary;
    assert_eq!((s.column, s.intervals, s.unknown_chromosome, s.overlapped, s.bound), (Some(7), 7, 2, 4, 4));
    assert_eq!(t.name, "CTCF");
    assert_eq!(TfTrack::read(&tf(&path, Some(5)), &v).unwrap().scores, [9.0, 9.0, 9.0, 0.0, 0.0, 9.0]);
    // gzip, and two of one name.
    let packed = dir.path().join("CTCF.narrowPeak.gz");
    let mut gz = flate2::write::GzEncoder::new(std::fs::File::create(&packed).unwrap(), Default::default());
    gz.write_all(narrow.as_bytes()).unwrap();
    gz.finish().unwrap();
    let both = TfTrack::read_all(&[tf(&path, None), tf(&packed, None)], &v).unwrap();
    assert_eq!((both[1].name.as_str(), both[1].summary.name.as_str()), ("CTCF_2", "CTCF_2"));
    assert_eq!(both[0].scores, both[1].scores);
    // Plain BED: column 5, parted by blanks; without scores each counts 1; broadPeak has its own.
    for (name, text, column, want) in [
        ("a.bed", "chr1 0 101 x 4\nchr1 0 101 y 2\n", Some(5), 4.0),
        ("b.bed", "chr1\t0\t101\n", None, 1.0),
        ("c.bed", "chr1\t0\t101\tname\n", None, 1.0),
        ("d.bed", "chr1\t0\t101\tx\t4\t+\t0\t9\t0,0,0\n", Some(5), 4.0),
        ("d.broadPeak", "chr1\t0\t101\tx\t4\t+\t6\t9\t0\n", Some(7), 6.0),
        ("e.bed", "chr1\t0\t101\tx\t-4\nchr1\t0\t9\tx\t4\n", Some(5), -4.0),
    ] {
        let t = TfTrack::read(&tf(&file(dir.path(), name, text), None), &v).unwrap();
        assert_eq!((t.summary.column, t.scores[0]), (column, want), "{name}");
        assert_eq!((t.summary.overlapped, t.summary.bound), (1, u64::from(want > 0.0)), "{name}");
    }
    let out = dir.path().join("tracks.tsv");
    write_tracks(&out, &v, &both).unwrap();
    let text = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "chrom\tstart\tend\tpeak\tCTCF\tCTCF_2");
    assert_eq!(lines[2], "chr1\t150\t300\tp1\t10\t10");
    assert_eq!((lines[5], lines.len()), ("chrUnknown\t.\t.\tp4\t0\t0", 7));
}

#[test]
fn binding_sites_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let v = six();
    for (text, column, words) in [
        ("chr1\t5\t5\n", None, "line 1 has the start 5 at or after the end 5"),
        ("#x\nchr1\t1\t2\nchr1\t9\t5\n", None, "line 3 has the start 9"),
        ("chr1\t-1\t5\n", None, "\"-1\" to \"5\""),
        ("chr1\tx\t5\n", None, "\"x\""),
        ("chr1\t1\t99999999999999999999\n", None, "line 1"),
        ("chr1\t1\n", None, "line 1 has 2 columns"),
        ("chr1\t1\t2\ta\tb\n", None, "line 1 has \"b\" for a score in column 5"),
        ("chr1\t1\t2\ta\tNaN\n", None, "\"NaN\""),
        ("chr1\t1\t2\ta\tinf\n", None, "\"inf\""),
        ("chr1\t1\t2\ta\t0\nchr1\t1\t2\ta\t-3\n", None, "no score above 0 in column 5"),
        ("chr1\t1\t2\ta\n", Some(6), "line 1 has 4 columns, so none numbered 6"),
        ("chr1\t1\t2\ta\t7\nchr1\t1\t2\n", None, "line 2 has 3 columns"),
        ("", None, "no interval"),
        ("# only\ntrack x\n", None, "no interval"),
        ("chr5\t1\t2\nchr6\t1\t2\nchr7\t1\t2\nchr8\t1\t2\n", None, "it names chr5, chr6, chr7, the data chr1, MT, 2;"),
        ("chr1\t1\t\0\n", None, "line 1 is not text"),
    ] {
        let e = TfTrack::read(&tf(&file(dir.path(), "x.bed", text), column), &v).unwrap_err();
        let e = (e.to_string(), e.exit_code());
        assert!(e.0.contains(words) && e.0.contains("x.bed") && !e.0.contains('\n') && e.1 == 2, "{text:?}: {}", e.0);
    }
    assert_eq!(TfTrack::read(&tf(&dir.path().join("none.bed"), None), &v).unwrap_err().exit_code(), 2);
    let broken = file(dir.path(), "x.bed.gz", "");
    std::fs::write(&broken, [0x1f, 0x8b, 8, 0, 0]).unwrap();
    assert_eq!(TfTrack::read(&tf(&broken, None), &v).unwrap_err().exit_code(), 2);
}

fn map(name: &str, peaks: Vec<f64>) -> TypeMap {
    TypeMap { name: name.into(), file_stem: name.into(), cells: 7, links: vec![], peaks, genes: vec![] }
}

fn track(name: &str, scores: Vec<f64>) -> TfTrack {
    let bound = scores.iter().filter(|&&x| x > 0.0).count() as u64;
    let summary = TfSummary {
        name: name.into(),
        file: "x".into(),
        column: None,
        intervals: 0,
        unknown_chromosome: 0,
        overlapped: bound,
        bound,
    };
    TfTrack { name: name.into(), summary, scores }
}

/// Peaks of widths and places of no account.
fn peaks(n: usize) -> Vocabulary {
    let all: Vec<(u32, i64, i64)> = (0..n as i64).map(|i| (0, 1000 * i, 1000 * i + 100 + 7 * (i / 10 % 3))).collect();
    vocabulary(&["chr1"], None, &all)
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mx, my) = (mean(x), mean(y));
    let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(&a, &b)| f(a - mx, b - my)).sum::<f64>();
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

fn average_ranks(x: &[f64]) -> Vec<f64> {
    let count = |f: &dyn Fn(f64) -> bool| x.iter().filter(|&&y| f(y)).count() as f64;
    x.iter().map(|&a| count(&|y| y < a) + (count(&|y| y == a) + 1.0) / 2.0).collect()
}

/// Peaks above 0 that fewer than N are better than, of equal ones those of lower index.
fn brute_top(x: &[f64]) -> BTreeSet<usize> {
    let better = |i: usize| (0..x.len()).filter(|&j| x[j] > x[i] || (x[j] == x[i] && j < i)).count();
    (0..x.len()).filter(|&i| x[i] > 0.0 && better(i) < x.len() / 10).collect()
}

fn value(row: &TfRow, measure: &str) -> Option<f64> {
    row.measures.iter().find(|m| m.measure == measure).unwrap().value
}

#[test]
fn measures_equal_brute_force() {
    let mut rng = Rng::new(11, 0);
    for (n, zeros) in [(12, 0.3), (57, 0.9), (200, 0.6), (200, 0.99)] {
        // Few distinct values, so that ties are everywhere; one track with negative scores.
        let mut draw = |levels: usize, zeros: f64, less: f64| -> Vec<f64> {
            let mut x: Vec<f64> = (0..n)
                .map(|_| if rng.uniform() < zeros { 0.0 } else { rng.below(levels) as f64 + 1.0 - less })
                .collect();
            x[3] = 2.0;
            x
        };
        let tracks = vec![track("a", draw(3, zeros, 0.0)), track("b", draw(5, zeros, 2.0))];
        let maps = Maps {
            all: map("all", draw(9, 0.1, 0.0)),
            types: (0..4).map(|i| map(&format!("t{i}"), draw(2 + 40 * i, 0.5, 0.0))).collect(),
        };
        let strata = PeakStrata::new(&peaks(n), &vec![1; n], &vec![None; n]).unwrap();
        let found = compare(&tracks, &maps, &strata, 20, 906, &()).unwrap();
        assert_eq!((found.rows.len(), found.top, found.permutations), (10, n as u64 / 10, 20));
        for (row, (t, m)) in found
            .rows
            .iter()
            .zip(tracks.iter().flat_map(|t| std::iter::once(&maps.all).chain(&maps.types).map(move |m| (t, m))))
        {
            assert_eq!((&row.tf, &row.cell_type, row.cells), (&t.name, &m.name, 7));
            let (x, y) = (&t.scores, &m.peaks);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (tops, labels) =
                ((brute_top(x), brute_top(y)), x.iter().map(|&s| u8::from(s > 0.0)).collect::<Vec<_>>());
            let ranked = ranking(y, &labels);
            let want = [
                dot(x, y) / (dot(x, x) * dot(y, y)).sqrt(),
                pearson(x, y),
                pearson(&average_ranks(x), &average_ranks(y)),
                tops.0.intersection(&tops.1).count() as f64 / tops.0.union(&tops.1).count() as f64,
                ranked.auroc.unwrap(),
                ranked.auprc.unwrap(),
            ];
            for (name, want) in MEASURES.iter().zip(want) {
                let got = value(row, name).unwrap_or(f64::NAN);
                assert!((got - want).abs() < 1e-12 || (got.is_nan() && want.is_nan()), "{n} {name}: {got} {want}");
            }
            assert_eq!(row.measures[5].chance, ranked.chance());
            assert_eq!((row.measures[4].chance, row.measures[0].chance), (Some(0.5), None));
            // Place among the types.
            for (k, m) in row.measures.iter().enumerate() {
                let others = found.rows.iter().filter(|r| r.tf == row.tf && r.cell_type != "all");
                let above = others.filter(|r| r.measures[k].value > m.value).count() as u32;
                assert_eq!(m.rank, (row.cell_type != "all" && m.value.is_some()).then_some(1 + above));
            }
        }
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| compare(&tracks, &maps, &strata, 20, 906, &()).unwrap()), found);
        let other = compare(&tracks, &maps, &strata, 20, 907, &()).unwrap();
        assert_ne!(other, found, "another seed draws another background");
    }
}

#[test]
fn undefined_measures_are_none() {
    let n = 30;
    let strata = PeakStrata::new(&peaks(n), &vec![1; n], &vec![None; n]).unwrap();
    let rising: Vec<f64> = (0..n).map(|i| i as f64).collect();
    let odd: Vec<f64> = (0..n).map(|i| if i == 4 { f64::NAN } else { i as f64 }).collect();
    let maps = Maps { all: map("all", vec![0.0; n]), types: vec![map("flat", vec![2.0; n]), map("odd", odd)] };
    let tracks = [track("none", vec![0.0; n]), track("some", rising)];
    let found = compare(&tracks, &maps, &strata, 5, 1, &()).unwrap();
    let all = |row: usize| found.rows[row].measures.iter().map(|m| m.value).collect::<Vec<_>>();
    assert_eq!(all(0), [None; 6]); // nothing bound, no attention
    let some = all(3); // no attention at all: every order is a tie
    assert_eq!((some[0], some[1], some[3], some[4]), (None, None, Some(0.0), Some(0.5)));
    assert!((some[5].unwrap() - 29.0 / 30.0).abs() < 1e-12);
    let flat = &found.rows[4];
    assert_eq!((value(flat, "pearson"), value(flat, "auroc")), (None, Some(0.5)));
    assert_eq!((flat.measures[4].zscore, flat.measures[4].pvalue), (None, Some(1.0)), "a background without spread");
    assert!(value(&found.rows[5], "cosine").unwrap().is_finite(), "what is no number counts as no attention");
    // Fewer than ten peaks have no top; no peaks have nothing.
    for n in [0, 9] {
        let strata = PeakStrata::new(&peaks(n), &vec![1; n], &vec![None; n]).unwrap();
        let maps = Maps { all: map("all", vec![1.0; n]), types: vec![] };
        let found = compare(&[track("t", vec![1.0; n])], &maps, &strata, 3, 1, &()).unwrap();
        assert_eq!((found.top, value(&found.rows[0], "jaccard")), (0, None));
    }
    // Without permutations there is no background.
    let found = compare(&tracks, &maps, &strata, 0, 1, &()).unwrap();
    assert!(found.rows.iter().flat_map(|r| &r.measures).all(|m| m.pvalue.is_none() && m.background_mean.is_none()));
    // What does not belong together is refused.
    let e = compare(&[track("t", vec![1.0; 3])], &maps, &strata, 3, 1, &()).unwrap_err();
    assert_eq!(e.exit_code(), 1);
    assert!(
        PeakStrata::new(&peaks(4), &[1; 3], &[None; 4]).is_err() && PeakStrata::new(&peaks(4), &[1; 4], &[]).is_err()
    );
    // The table.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tf.tsv");
    found.write(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!((rows.len(), rows[0][0], rows[0][11]), (1 + 6 * 6, "tf", "types"));
    assert!(rows.iter().all(|r| r.len() == 12));
    assert_eq!(rows[29][..5], ["some", "flat", "7", "auroc", "5.000000e-1"]);
    assert_eq!(rows[29][10..], ["2", "2"]);
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<TfComparison>(&json).unwrap(), found);
}

#[test]
fn the_background_knows_what_is_alike() {
    let n = 3000;
    let mut rng = Rng::new(21, 0);
    let mut noise = || -> Vec<f64> { (0..n).map(|_| rng.uniform()).collect() };
    let v = peaks(n);
    let open: Vec<u32> = (0..n as u32).map(|i| 1 + i % 10).collect();
    // Binding and attention both follow accessibility and nothing else; then attention follows binding as well.
    let chosen = noise();
    let bound: Vec<f64> = (0..n).map(|i| f64::from(u8::from(chosen[i] * f64::from(open[i]) > 6.0))).collect();
    let confounded: Vec<f64> = noise().iter().zip(&open).map(|(x, &o)| x + f64::from(o)).collect();
    let linked: Vec<f64> = confounded.iter().zip(&bound).map(|(x, b)| x + b).collect();
    let maps = Maps { all: map("all", confounded.clone()), types: vec![map("no", confounded), map("yes", linked)] };
    let compared = |open: &[u32], gc: &[Option<f64>]| {
        let strata = PeakStrata::new(&v, open, gc).unwrap();
        compare(&[track("tf", bound.clone())], &maps, &strata, 200, 3, &()).unwrap()
    };
    let matched = compared(&open, &vec![None; n]);
    assert_eq!((matched.strata, matched.alone), (30, 0), "ten of accessibility, three of width");
    let unmatched = compared(&vec![1; n], &vec![None; n]);
    for k in [1, 2, 4, 5] {
        let name = MEASURES[k];
        let z = |c: &TfComparison, row: usize| c.rows[row].measures[k].zscore.unwrap();
        assert!(z(&matched, 1).abs() < 4.0, "{name}: {}", z(&matched, 1));
        assert!(z(&unmatched, 1) > 8.0, "{name}: {}", z(&unmatched, 1));
        assert!(z(&matched, 2) > 8.0, "{name}: {}", z(&matched, 2));
        let p = |row: usize| matched.rows[row].measures[k].pvalue.unwrap();
        assert!(p(1) > 0.01 && (p(2) - 1.0 / 201.0).abs() < 1e-12, "{name}: {} {}", p(1), p(2));
        assert_eq!((matched.rows[1].measures[k].rank, matched.rows[2].measures[k].rank), (Some(2), Some(1)));
    }
    // GC parts the strata; where it tells bound from unbound apart, nothing is left to permute.
    let gc: Vec<Option<f64>> = bound.iter().map(|&b| Some(b)).collect();
    let by_gc = compared(&open, &gc);
    assert!(by_gc.strata > matched.strata && by_gc.rows[2].measures[4].pvalue.unwrap() > 0.99);
    // Each alone: no permutation moves anything.
    let alone = PeakStrata::new(&peaks(1), &[5], &[None]).unwrap();
    let one = Maps { all: map("all", vec![1.0]), types: vec![] };
    assert_eq!(compare(&[track("t", vec![1.0])], &one, &alone, 4, 1, &()).unwrap().alone, 1);
}

#[test]
fn p_values_are_even_where_nothing_is_there() {
    let n = 1000;
    let mut rng = Rng::new(31, 0);
    let mut noise =
        |zeros: f64| -> Vec<f64> { (0..n).map(|_| if rng.uniform() < zeros { 0.0 } else { rng.uniform() }).collect() };
    let tracks: Vec<TfTrack> = (0..10).map(|i| track(&format!("t{i}"), noise(0.8))).collect();
    let maps = Maps { all: map("all", noise(0.2)), types: (0..9).map(|i| map(&format!("m{i}"), noise(0.2))).collect() };
    let strata = PeakStrata::new(&peaks(n), &vec![1; n], &vec![None; n]).unwrap();
    let found = compare(&tracks, &maps, &strata, 99, 5, &()).unwrap();
    for (k, name) in MEASURES.iter().enumerate() {
        let p: Vec<f64> = found.rows.iter().map(|r| r.measures[k].pvalue.unwrap()).collect();
        let mean = p.iter().sum::<f64>() / p.len() as f64;
        let low = p.iter().filter(|&&p| p <= 0.1).count();
        assert!((0.4..0.62).contains(&mean) && low <= 22, "{name}: mean {mean}, {low} of 100 at most 0.1");
    }
}

#[test]
fn encode_peaks_overlap_as_known() {
    let Some(root) = std::env::var_os("SCCROSSREC_TEST_DATA").map(PathBuf::from) else {
        println!("skipped: SCCROSSREC_TEST_DATA does not name the folder of the real data");
        return;
    };
    let atac = AnnData::open(&root.join("snare_cortex/atac.h5ad")).unwrap();
    let names = atac.names(Axis::Var).unwrap();
    let mut v = Vocabulary::default();
    for name in names {
        let r = parse_region(&name).unwrap();
        let known = v.chromosomes.iter().position(|c| *c == r.chrom);
        let chrom = known.unwrap_or_else(|| {
            v.chromosomes.push(r.chrom);
            v.chromosomes.len() - 1
        });
        v.peaks.push(Peak { name, chrom: chrom as u32, start: r.start, end: r.end });
    }
    assert_eq!(v.peaks.len(), 25_734);
    let read = |v: &Vocabulary, name: &str| TfTrack::read(&tf(&root.join("tf").join(name), None), v).unwrap();
    let start = std::time::Instant::now();
    let (first, second) = (read(&v, "ENCFF092NMJ.bed"), read(&v, "ENCFF099QNE.bed"));
    println!("two tracks read in {:?}", start.elapsed());
    let of = |t: &TfTrack| (t.summary.column, t.summary.intervals, t.summary.overlapped, t.summary.bound);
    assert_eq!(of(&first), (Some(7), 62_597, 2_738, 2_738));
    assert_eq!(of(&second), (Some(7), 50_827, 2_356, 2_356));
    // The same under Ensembl's names.
    let mut ensembl = v.clone();
    ensembl.chromosomes.iter_mut().for_each(|c| *c = c.trim_start_matches("chr").to_string());
    assert_eq!(read(&ensembl, "ENCFF092NMJ.bed").scores, first.scores);

    // As attention, one track finds the other in matched peaks; noise does not.
    let n = v.peaks.len();
    let mut rng = Rng::new(41, 0);
    let noise: Vec<f64> = (0..n).map(|_| rng.uniform()).collect();
    let maps = Maps { all: map("all", noise), types: vec![map("other", second.scores.clone())] };
    let strata = PeakStrata::new(&v, &vec![1; n], &vec![None; n]).unwrap();
    let start = std::time::Instant::now();
    let found = compare(&[first], &maps, &strata, 200, 906, &()).unwrap();
    println!("200 permutations, two maps: {:?}", start.elapsed());
    assert_eq!(found.top, 2_573);
    for k in 0..6 {
        let (noise, other) = (&found.rows[0].measures[k], &found.rows[1].measures[k]);
        assert!(noise.zscore.unwrap().abs() < 5.0 && other.zscore.unwrap() > 5.0, "{noise:?} {other:?}");
    }
}

/// Genes every 400 kb, peaks every 30 kb of two chromosomes, some of unknown place.
fn wide() -> Vocabulary {
    let mut all = Vec::new();
    for chrom in 0..2 {
        all.extend((0..60).map(|i| (chrom, 30_000 * i + 500, 30_000 * i + 1000)));
    }
    all.extend([(0, -1, -1), (2, -1, -1)]);
    let mut v = vocabulary(&["chr1", "chr2", "chrUnknown"], Some(2), &all);
    for chrom in 0..2 {
        let gene =
            |i: i64| Gene { name: format!("g{chrom}_{i}"), chrom, tss: (i != 3).then_some(400_000 * i + 10_750) };
        v.genes.extend((0..5).map(gene));
    }
    v.genes.push(Gene { name: "lost".into(), chrom: 2, tss: None });
    v
}

#[test]
fn recovery_by_distance_equals_brute_force() {
    let v = wide();
    let pairs: Vec<(u32, u32)> = (0..v.genes.len() as u32)
        .flat_map(|g| (0..v.peaks.len() as u32).map(move |p| (g, p)))
        .filter(|&(g, p)| v.genes[g as usize].chrom == v.peaks[p as usize].chrom && v.genes[g as usize].chrom != 2)
        .collect();
    let mut rng = Rng::new(51, 0);
    let links: Vec<(u32, u32)> = pairs.iter().copied().filter(|&p| p == (2, 27) || rng.uniform() < 0.15).collect();
    let truth = Truth { links: links.clone(), ..Truth::default() };
    let stat = |(gene, peak): (u32, u32), score: f64| LinkStat {
        gene,
        peak,
        score,
        cells: 3,
        zscore: f64::NAN,
        pvalue: f64::NAN,
        qvalue: f64::NAN,
    };
    let mut m = map("all", vec![]);
    m.links = pairs.iter().filter(|p| p.1 % 3 > 0).map(|&p| stat(p, rng.below(6) as f64)).collect();
    m.links.sort_by(|a, b| b.score.total_cmp(&a.score));
    let table = sums(&m);
    assert!(table.is_sorted_by_key(|l| (l.gene, l.peak)) && table.len() == m.links.len());
    let (sum, far, chance) = (BySum(&table), ByDistance(&v), ByChance { seed: 4 });
    let scorers: [&dyn PairScorer; 3] = [&sum, &far, &chance];
    let found = recover(&v, &truth, &scorers, &()).unwrap();
    assert_eq!(found.bins.iter().map(|b| b.distance.as_str()).collect::<Vec<_>>(), RECOVERY_BINS.map(|b| b.0));
    assert_eq!(found.bins.iter().map(|b| b.pairs).sum::<u64>(), found.pairs);
    assert_eq!(found.bins.iter().map(|b| b.links).sum::<u64>(), found.links);
    // Bin by bin, then all within 500 kb.
    for (i, b) in found.bins.iter().chain(&found.near).enumerate() {
        let within = |d: Option<f64>| match d {
            _ if i == RECOVERY_BINS.len() => d.is_some_and(|d| d < NEAR),
            None => i == 7,
            Some(d) => d >= RECOVERY_BINS[i].1 && d < RECOVERY_BINS[i].2,
        };
        let of_bin: Vec<(u32, u32)> = pairs.iter().copied().filter(|p| within(distance(&v, p.0, p.1))).collect();
        assert!(i == RECOVERY_BINS.len() || of_bin.iter().all(|p| recovery_bin(distance(&v, p.0, p.1)) == i));
        let labels: Vec<u8> = of_bin.iter().map(|p| u8::from(links.contains(p))).collect();
        assert!(labels.iter().any(|&l| l > 0), "a bin without links tests nothing: {}", b.distance);
        let summed = |p: &(u32, u32)| table.iter().find(|l| (l.gene, l.peak) == *p).map_or(0.0, |l| l.weight);
        let near = |p: &(u32, u32)| distance(&v, p.0, p.1).map_or(f64::NEG_INFINITY, |d| -d);
        for (k, scores) in
            [of_bin.iter().map(summed).collect::<Vec<_>>(), of_bin.iter().map(near).collect()].iter().enumerate()
        {
            let want = ranking(scores, &labels);
            let got = &b.scores[k];
            assert_eq!((b.pairs, b.links, b.chance), (labels.len() as u64, want.positives, want.chance()));
            assert_eq!((got.auroc, got.auprc, got.auprc_over_chance), (want.auroc, want.auprc, want.lift()));
        }
    }
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| recover(&v, &truth, &scorers, &()).unwrap()), found);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recovery.tsv");
    write_recovery(&path, &found).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
    assert!(rows.len() == 1 + 10 * 3 && rows.iter().all(|r| r.len() == 8));
    let firsts = (rows[1][0], rows[1][4], rows[4][0], rows[7][0], rows[30][0]);
    assert_eq!(firsts, ("all", "attention", "0-500kb", "0-10kb", "unknown"));
    assert_eq!(rows[1][1], found.pairs.to_string());
}

#[test]
fn known_links_of_every_form() {
    let v = wide();
    let dir = tempfile::tempdir().unwrap();
    let read = |text: &str| Truth::read(&file(dir.path(), "truth", text), &v);
    let gene = |name: &str| v.genes.iter().position(|g| g.name == name).unwrap() as u32;
    let links = |t: &Truth| t.links.clone();
    // Places: each peak that shares a base; another chromosome counts, so does what no peak overlaps.
    let t = read(
        "gene\tchrom\tstart\tend\tscore\n\
         g0_0\tchr1\t500\t501\t9\n\
         g0_1\t1\t999\t30501\t9\n\
         g0_1\tchr1\t999\t30501\t9\n\
         g0_0\tchr2\t500\t501\t9\n\
         g0_0\tchr1\t1000\t1100\t9\n\
         who\tchr1\t500\t501\t9\n\
         g0_0\tchr9\t500\t501\t9\n",
    )
    .unwrap();
    assert_eq!(links(&t), [(gene("g0_0"), 0), (gene("g0_1"), 0), (gene("g0_1"), 1)]);
    assert_eq!((t.missing, t.off_chromosome), (3, 1));
    // Names, the header a comment or in capitals, gzip.
    for head in ["gene\tpeak\n", "#gene\tpeak\n", "Gene\tPeak\n", "\n# links of gene and peak\ngene\tpeak\n"] {
        assert_eq!(links(&read(&format!("{head}g0_2\tp5\n")).unwrap()), [(gene("g0_2"), 5)], "{head}");
    }
    let packed = dir.path().join("truth.gz");
    let mut gz = flate2::write::GzEncoder::new(std::fs::File::create(&packed).unwrap(), Default::default());
    gz.write_all(b"gene\tpeak\ng0_2\tp5\n").unwrap();
    gz.finish().unwrap();
    assert_eq!(links(&Truth::read(&packed, &v).unwrap()), [(gene("g0_2"), 5)]);
    // BEDPE: g0_1 lies at 410,750, its window of 1 kb is 409,750 to 411,751; peak 13 is 390,500 to 391,000.
    for (line, want) in [
        ("chr1\t390000\t390501\tchr1\t411750\t412000", vec![("g0_1", 13)]),
        ("chr1\t411750\t412000\t1\t390000\t390501", vec![("g0_1", 13)]),
        ("chr1\t409000\t409751\tchr1\t390999\t391000\tx\t5", vec![("g0_1", 13)]),
        // By name, whichever end is at the gene; with neither at it, the peaks of both.
        ("chr1\t410750\t410751\tchr1\t390000\t390501\tg0_1", vec![("g0_1", 13)]),
        ("chr1\t500\t501\tchr1\t390000\t390501\tg0_1", vec![("g0_1", 0), ("g0_1", 13)]),
        // The end at the gene holds a peak (14 is 420,500 to 421,000), which is no link; of both ends at it, all.
        ("chr1\t410000\t420501\tchr1\t390000\t390501\tg0_1", vec![("g0_1", 13)]),
        ("chr1\t410000\t420501\tchr1\t390000\t410501\tg0_1", vec![("g0_1", 13), ("g0_1", 14)]),
        // A gene of unknown TSS, an end of unknown place.
        ("chr1\t1\t2\tchr1\t390000\t390501\tg0_3", vec![("g0_3", 13)]),
        (".\t-1\t-1\tchr1\t390000\t390501\tg0_1", vec![("g0_1", 13)]),
    ] {
        let want: Vec<(u32, u32)> = want.into_iter().map(|(g, p)| (gene(g), p)).collect();
        for head in
            ["", "#chrom1\tstart1\tend1\tchrom2\tstart2\tend2\n", "chrom1\tstart1\tend1\tchrom2\tstart2\tend2\n"]
        {
            assert_eq!(links(&read(&format!("{head}{line}\n")).unwrap()), want, "{head}{line}");
        }
    }
    let path = file(dir.path(), "truth", "chr1\t390000\t390501\tchr1\t411751\t412000\n");
    assert!(Truth::read(&path, &v).is_err(), "one base beyond the window");
    assert_eq!(links(&Truth::read_with(&path, &v, 1001).unwrap()), [(gene("g0_1"), 13)]);
    let t = read(
        "chr1\t390000\t390501\tchr1\t411750\t412000\nchr1\t390000\t390501\tchr1\t411750\t412000\n\
         chr2\t390000\t390501\tchr1\t411750\t412000\nchr1\t1\t2\tchr1\t3\t4\n",
    )
    .unwrap();
    assert_eq!((t.links.len(), t.missing, t.off_chromosome), (1, 1, 1));
}

#[test]
fn lines_that_cannot_be_read_are_counted() {
    let v = wide();
    let dir = tempfile::tempdir().unwrap();
    let path =
        file(dir.path(), "truth.tsv", "gene\tchrom\tstart\tend\ng0_0\tchr1\tNA\tNA\nshort\ng0_0\tchr1\t0\t100000\n");
    let t = Truth::read(&path, &v).unwrap();
    assert!(!t.links.is_empty());
    assert_eq!((t.unread, t.missing), (2, 0));
}

#[test]
fn known_links_that_are_none() {
    let v = wide();
    let dir = tempfile::tempdir().unwrap();
    for (text, words) in [
        ("gene\tchrom\tstart\n", "no column `peak`"),
        ("", "no column `gene`"),
        ("# comment\n", "no column `gene`"),
        ("a\tb\n1\t2\n", "no column `gene`"),
        ("gene\tpeak\ng0_0\n", "line 2 has 1 columns of 2"),
        ("gene\tchrom\tstart\tend\ng0_0\tchr1\t5\n", "line 2 has 3 columns of 4"),
        ("gene\tchrom\tstart\tend\ng0_0\tchr1\t5\t5\n", "line 2 has the start 5"),
        ("gene\tchrom\tstart\tend\ng0_0\tchr1\tx\t5\n", "\"x\""),
        ("gene\tchrom\tstart\tend\ng0_0\tchrA\t1\t5\ng0_0\tchrB\t1\t5\n", "it names chrA, chrB, the data chr1, chr2;"),
        ("chr1\t1\t2\tchr1\t3\t4\nchr1\t1\t2\tchr1\t3\n", "line 2 has 5 columns of 6"),
        ("chr1\t1\t2\tchr1\t3\t4\nchr1\t9\t2\tchr1\t3\t4\n", "line 2 has the start 9"),
        ("chr1\t1\t2\tchr1\t3\t4\n", "none of its 1 links"),
        ("gene\tpeak\ng0_0\tnone\ng0_0\tp61\ng1_0\tp0\n", "none of its 3 links can be used (1 name"),
        ("gene\tpeak\nlost\tp121\n", "1 are between chromosomes"),
        ("gene\tpeak\n\0\n", "line 2 is not text"),
    ] {
        let path = file(dir.path(), "truth.tsv", text);
        let e = Truth::read(&path, &v).unwrap_err();
        let text_of = e.to_string();
        assert!(text_of.contains(words) && !text_of.contains('\n') && e.exit_code() == 2, "{text:?}: {e}");
    }
}
