//! Links of data alone, from files to files: what each table holds, against the data and against each other; replicates, types,
//! cells and coordinates that are not there; the same bytes whatever the number of threads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use sccrossrec::data::anndata::{AnnData, AnnDataWriter, Axis, Column, Frame, Streaming};
use sccrossrec::dataset::{Cell, DataSet};
use sccrossrec::discover::evidence::ReplicateColumn;
use sccrossrec::discover::evidence::table::{COLUMNS, TYPE_COLUMNS};
use sccrossrec::discover::maps::Maps;
use sccrossrec::discover::{DiscoverOptions, DiscoveryFolder, Source, discover_links};
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::progress::Progress;
use sccrossrec::simulate::{Difficulty, SimulateConfig, Simulation};
use sccrossrec::vocabulary::{distance, signed_distance};
use serde_json::Value;

/// Upper ends of the distance bins of the mixture: docs/model.md, section 8.5.
const ENDS: [f64; 11] = [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 3.5e5, 5e5, 1e6];

/// Cells, of four batches, that a table besides gives columns of one value, of a value two cells and of one a cell.
const CELLS: usize = 1200;

struct Tissue {
    dir: tempfile::TempDir,
    data: DataSet,
}

/// Tissue of four batches and five types, made once.
fn tissue() -> &'static Tissue {
    static MADE: OnceLock<Tissue> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let config = SimulateConfig {
            cells: CELLS,
            genes: 160,
            peaks: 800,
            chromosomes: 4,
            cell_types: 7,
            batches: 4,
            rna_depth: 400.0, // denser than the tissue of `simulate`, of which so few cells show nothing
            ..Default::default()
        };
        let files = Simulation::new(Difficulty::Tissue.apply(config)).unwrap().write(dir.path(), &()).unwrap();
        let rows = (0..CELLS).map(|i| format!("cell{:06},one,pair{},own{i},{}\n", i + 1, i / 2, i % 9 / 8));
        let obs = dir.path().join("cells.csv");
        std::fs::write(&obs, format!("barcode,lane,pair,own,ninth\n{}", rows.collect::<String>())).unwrap();
        let config = PrepareConfig { obs: Some(obs), ..PrepareConfig::new(&files.rna, &files.atac) };
        prepare(&config, &dir.path().join("data"), &()).unwrap();
        let data = DataSet::open(&dir.path().join("data")).unwrap();
        Tissue { dir, data }
    })
}

/// Keeps what is noted.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_string());
    }
}

/// Five cells with both and a hundred of a type, so that some pairs and some types have fewer.
fn options() -> DiscoverOptions {
    DiscoverOptions { min_cells: 5, min_type_cells: 100, ..DiscoverOptions::default() }
}

/// Discovers into `out`; the record, whose notes were told.
fn discovered(data: &DataSet, out: &Path, options: &DiscoverOptions) -> Value {
    std::fs::create_dir_all(out).unwrap();
    let told = Notes::default();
    let made = discover_links(data, options, out, &told).unwrap();
    let record: Value = serde_json::from_str(&std::fs::read_to_string(out.join("discover.json")).unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&made).unwrap(), record);
    assert!(record["attention"].is_null());
    assert_eq!(notes(&record), *told.0.lock().unwrap());
    record
}

fn notes(record: &Value) -> Vec<String> {
    record["links"]["notes"].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_string()).collect()
}

/// Files below a folder, by their place in it.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(found.insert(path.strip_prefix(dir).unwrap().into(), std::fs::read(&path).unwrap())),
            }
        }
    }
    found
}

struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read(path: &Path) -> Table {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n') && !text.contains('\r'));
        let mut lines = text.lines().map(|l| l.split('\t').map(String::from).collect::<Vec<_>>());
        let head = lines.next().unwrap();
        let rows: Vec<_> = lines.collect();
        assert!(rows.iter().all(|r| r.len() == head.len()), "{}", path.display());
        Table { head, rows }
    }

    fn at(&self, column: &str) -> usize {
        self.head.iter().position(|c| c == column).unwrap_or_else(|| panic!("no column {column}"))
    }

    fn text<'t>(&self, row: &'t [String], column: &str) -> &'t str {
        &row[self.at(column)]
    }

    fn number(&self, row: &[String], column: &str) -> f64 {
        self.text(row, column).parse().unwrap_or_else(|_| panic!("{column}: {row:?}"))
    }

    /// Gene and peak of each row, by their numbers.
    fn pairs(&self, data: &DataSet) -> Vec<(u32, u32)> {
        let v = data.vocabulary();
        let genes: HashMap<&str, u32> = (0..).zip(&v.genes).map(|(i, g)| (g.name.as_str(), i)).collect();
        let peaks: HashMap<&str, u32> = (0..).zip(&v.peaks).map(|(i, p)| (p.name.as_str(), i)).collect();
        self.rows.iter().map(|r| (genes[self.text(r, "gene")], peaks[self.text(r, "peak")])).collect()
    }
}

/// Four digits are written.
fn close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a - b).abs() <= 6e-3 * b.abs().max(1e-6)
}

fn within_0_1(x: f64) -> bool {
    (0.0..=1.0).contains(&x)
}

/// Cells that have both, of all pairs that any cell has both of.
fn both(data: &DataSet) -> HashMap<(u32, u32), u32> {
    let v = data.vocabulary();
    let mut counts = HashMap::new();
    let mut cell = Cell::default();
    for c in 0..data.n_cells() {
        data.cell_into(c, &mut cell);
        for &g in &cell.genes {
            for &p in cell.peaks.iter().filter(|&&p| v.peaks[p as usize].chrom == v.genes[g as usize].chrom) {
                *counts.entry((g, p)).or_insert(0) += 1;
            }
        }
    }
    counts
}

/// The place of a pair in its row.
fn check_place(t: &Table, row: &[String], data: &DataSet, (g, p): (u32, u32)) {
    let v = data.vocabulary();
    let peak = &v.peaks[p as usize];
    let want = [v.chromosomes[peak.chrom as usize].clone(), peak.start.to_string(), peak.end.to_string()];
    assert_eq!(["chrom", "start", "end"].map(|c| t.text(row, c).to_string()), want);
    assert!((t.number(row, "distance") - signed_distance(v, g, p).unwrap()).abs() <= 0.5, "{row:?}");
}

#[test]
fn tables_hold_what_they_say() {
    let (data, dir) = (&tissue().data, tempfile::tempdir().unwrap());
    let v = data.vocabulary();
    let record = discovered(data, dir.path(), &options());
    let l = &record["links"];
    let count = |name: &str| l[name].as_u64().unwrap() as usize;

    // The files that there should be, and no other.
    let batches: Vec<&str> = l["replicates"]["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    assert_eq!((&l["replicates"]["column"], &l["replicates"]["automatic"]), (&"batch".into(), &true.into()));
    assert_eq!(batches, ["s1d1", "s2d1", "s3d1", "s4d1"]);
    let types = l["cell_types"].as_array().unwrap();
    let sizes: HashMap<&str, usize> = v
        .cell_types
        .iter()
        .zip(0..)
        .map(|(t, i)| (t.as_str(), v.cell_type.iter().filter(|c| **c == i).count()))
        .collect();
    let mut want: HashSet<PathBuf> =
        ["discover.json", "links.tsv", "links-untested.tsv", "replicates.tsv", "peaks.tsv", "genes.tsv"]
            .map(PathBuf::from)
            .into();
    want.extend(sizes.iter().filter(|s| *s.1 >= 100).map(|s| PathBuf::from(format!("links/{}.tsv", s.0))));
    assert_eq!(files(dir.path()).into_keys().collect::<HashSet<_>>(), want);
    let small: Vec<&String> = v.cell_types.iter().filter(|t| sizes[t.as_str()] < 100).collect();
    assert!(!small.is_empty() && types.len() >= 3 && l["small_types"] == serde_json::json!(small), "{sizes:?}");
    assert!(l["typed"] == true && l["kinds"].as_array().unwrap().len() >= types.len());

    // Every pair within the window is in one of both tables, by the cells that have both.
    let (links, untested) =
        (Table::read(&dir.path().join("links.tsv")), Table::read(&dir.path().join("links-untested.tsv")));
    assert_eq!(links.head, COLUMNS);
    assert_eq!(untested.head.join(" "), "chrom start end gene peak prior_probability prior_log_odds distance n_cells");
    assert_eq!((links.rows.len(), untested.rows.len()), (count("pairs"), count("untested")));
    let both = both(data);
    let (tested_pairs, untested_pairs) = (links.pairs(data), untested.pairs(data));
    let mut near: Vec<(u32, u32)> = (0..v.genes.len() as u32)
        .flat_map(|g| (0..v.peaks.len() as u32).map(move |p| (g, p)))
        .filter(|&(g, p)| v.genes[g as usize].chrom == v.peaks[p as usize].chrom)
        .filter(|&(g, p)| distance(v, g, p).is_some_and(|d| d <= 500_000.0))
        .collect();
    let mut listed = [&tested_pairs[..], &untested_pairs].concat();
    near.sort_unstable();
    listed.sort_unstable();
    assert!(listed == near && untested_pairs.is_sorted() && untested_pairs.len() > 20);

    // Rows of links.tsv.
    let n = |r: &[String], c: &str| links.number(r, c);
    for (r, &pair) in links.rows.iter().zip(&tested_pairs) {
        check_place(&links, r, data, pair);
        assert_eq!(n(r, "tss"), v.genes[pair.0 as usize].tss.unwrap() as f64);
        assert!(n(r, "n_cells") == f64::from(both[&pair]) && n(r, "n_cells") >= 5.0);
        assert!(["qvalue", "lfdr", "q_within", "pvalue", "probability"].iter().all(|c| within_0_1(n(r, c))), "{r:?}");
        assert!(n(r, "lfdr") >= n(r, "qvalue") * (1.0 - 1e-3) - 1e-12, "{r:?}");
        assert!((n(r, "probability") - 1.0 / (1.0 + (-n(r, "log_odds")).exp())).abs() < 2e-4, "{r:?}");
        assert!((-1.0..=1.0).contains(&n(r, "score")), "{r:?}");
        let (effect, error) = (n(r, "effect"), n(r, "error"));
        let half = 1.96 * error;
        let digits = 2e-3 * (effect.abs() + half);
        assert!(error > 0.0 && (n(r, "effect_low") - (effect - half)).abs() <= digits, "{r:?}");
        assert!((n(r, "effect_high") - (effect + half)).abs() <= digits, "{r:?}");
        let (replicates, agree) = (n(r, "replicates"), n(r, "replicates_agree"));
        assert!((0.0..=4.0).contains(&replicates) && (0.0..=replicates).contains(&agree), "{r:?}");
        let i2 = n(r, "heterogeneity");
        assert!(if replicates < 2.0 { i2.is_nan() } else { within_0_1(i2) }, "{r:?}");
    }
    let falling = |c: &str| links.rows.is_sorted_by(|a, b| n(a, c) >= n(b, c));
    assert!(falling("log_odds") && falling("probability"));
    assert!(links.rows.is_sorted_by(|a, b| n(a, "qvalue") <= n(b, "qvalue")), "q rises down the table");
    assert!(links.rows.is_sorted_by(|a, b| n(a, "lfdr") <= n(b, "lfdr")), "so does the local rate");
    let selected = links.rows.iter().filter(|r| n(r, "qvalue") <= 0.1).count();
    assert_eq!(selected, count("selected"));
    assert_eq!(links.rows.iter().filter(|r| n(r, "log_odds") > 0.0).count(), count("likely"));
    let expected: f64 = links.rows.iter().map(|r| n(r, "probability")).sum();
    assert!(close(expected, l["expected"].as_f64().unwrap()), "{expected}");
    // Planted links are what is found.
    let planted = sccrossrec::discover::Truth::read(&tissue().dir.path().join("truth.tsv"), v).unwrap().links;
    let right = tested_pairs[..selected].iter().filter(|p| planted.binary_search(p).is_ok()).count();
    let all = tested_pairs.iter().filter(|p| planted.binary_search(p).is_ok()).count();
    let lift = right as f64 / selected as f64 / (all as f64 / tested_pairs.len() as f64);
    println!("{selected} links, {right} of them planted; {all} planted ones in {} pairs", tested_pairs.len());
    assert!(selected > 20 && lift > 3.0, "{right} of {selected} links were planted, {all} among all pairs");

    // Untested ones: few cells, and no more than what distance and the starts nearer to the peak let expect.
    let shares = |name: &str| -> Vec<f64> {
        l["mixture"][name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let (of_bin, of_nearer) = (shares("shares"), shares("nearer"));
    for (r, &(g, p)) in untested.rows.iter().zip(&untested_pairs) {
        check_place(&untested, r, data, (g, p));
        assert_eq!(untested.number(r, "n_cells"), f64::from(both.get(&(g, p)).copied().unwrap_or(0)));
        assert!(untested.number(r, "n_cells") < 5.0);
        let far = distance(v, g, p).unwrap();
        let nearer = |h: &u32| {
            distance(v, *h, p).is_some_and(|d| d < far) && v.genes[*h as usize].chrom == v.genes[g as usize].chrom
        };
        let nearer = (0..v.genes.len() as u32).filter(nearer).count().min(8);
        let prior = (of_bin[ENDS.partition_point(|&end| end < far)] * of_nearer[nearer]).clamp(1e-3, 0.9);
        assert!(close(untested.number(r, "prior_probability"), prior), "{r:?}: {prior}");
        let odds = (prior / (1.0 - prior)).ln();
        assert!((untested.number(r, "prior_log_odds") - odds).abs() <= 1e-3 * odds.abs().max(1.0), "{r:?}: {odds}");
    }

    // Replicates, pair by pair in the order of the links.
    let replicates = Table::read(&dir.path().join("replicates.tsv"));
    assert_eq!(replicates.head, [&["gene", "peak"][..], &batches].concat());
    assert!(replicates.pairs(data) == tested_pairs);
    let mut seen = 0;
    for (r, link) in replicates.rows.iter().zip(&links.rows) {
        let effects: Vec<f64> = batches.iter().map(|b| replicates.number(r, b)).filter(|x| !x.is_nan()).collect();
        seen += effects.len();
        assert!(effects.len() as f64 >= n(link, "replicates"), "{r:?}: {link:?}");
        if effects.len() as f64 == n(link, "replicates") && n(link, "effect").abs() > 1e-3 {
            let agree = effects.iter().filter(|x| **x * n(link, "effect") > 0.0).count();
            assert_eq!(agree as f64, n(link, "replicates_agree"), "{r:?}: {link:?}");
        }
    }
    assert!(seen > 2 * tested_pairs.len(), "{seen} effects in replicates");
    let agreement = &l["agreement"];
    assert_eq!(agreement["by"], "batch");
    let cells: Vec<u64> = agreement["cells"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert!(cells.iter().sum::<u64>() == data.n_cells() as u64 && cells[0].abs_diff(cells[1]) < 60, "{cells:?}");

    check_types(dir.path(), data, &links, types, &sizes);
}

/// Tables of types, against that of all cells; tracks, against both.
fn check_types(dir: &Path, data: &DataSet, links: &Table, types: &[Value], sizes: &HashMap<&str, usize>) {
    let v = data.vocabulary();
    let row_of: HashMap<(u32, u32), &Vec<String>> = links.pairs(data).into_iter().zip(&links.rows).collect();
    let mut active_in: HashMap<(u32, u32), Vec<String>> = HashMap::new();
    let mut tracks: Vec<Vec<f64>> = vec![vec![0.0; v.peaks.len()]];
    row_of.iter().for_each(|(k, r)| tracks[0][k.1 as usize] += links.number(r, "probability"));
    for of in types {
        let name = of["cell_type"].as_str().unwrap();
        assert_eq!(of["cells"], sizes[name]);
        let t = Table::read(&dir.join(of["file"].as_str().unwrap()));
        assert_eq!(t.head, TYPE_COLUMNS);
        let mut track = vec![0.0; v.peaks.len()];
        let mut active = 0;
        for (r, pair) in t.rows.iter().zip(t.pairs(data)) {
            check_place(&t, r, data, pair);
            let link = row_of[&pair];
            for (own, all) in [("probability", "probability"), ("link_qvalue", "qvalue"), ("score", "score")] {
                assert_eq!(t.text(r, own), links.text(link, all), "{name}: {r:?}");
            }
            assert!(links.number(link, "lfdr") <= 0.5 || links.number(link, "qvalue") <= 0.1, "{name}: {r:?}");
            assert!(
                within_0_1(t.number(r, "pvalue")) && t.number(r, "qvalue") >= t.number(r, "pvalue") * 0.99,
                "{r:?}"
            );
            assert!(within_0_1(t.number(r, "peak_open")) && t.number(r, "gene_cp10k") >= 0.0, "{r:?}");
            assert!(t.number(r, "n_cells") <= links.number(link, "n_cells") && t.text(r, "cell_type") == name);
            let on = t.number(r, "qvalue") <= 0.1 && t.number(r, "activity") > 0.0;
            assert_eq!(t.text(r, "active"), if on { "1" } else { "0" }, "{name}: {r:?}");
            if on {
                active += 1;
                active_in.entry(pair).or_default().push(name.into());
                if links.number(link, "qvalue") <= 0.1 {
                    track[pair.1 as usize] += links.number(link, "probability");
                }
            }
        }
        assert!(t.rows.is_sorted_by(|a, b| t.number(a, "zscore") >= t.number(b, "zscore")), "{name}");
        assert_eq!((of["links"].as_u64(), of["active"].as_u64()), (Some(t.rows.len() as u64), Some(active)));
        tracks.push(track);
    }
    assert!(active_in.len() > 5, "{active_in:?}");
    for (pair, row) in &row_of {
        let want = active_in.get(pair).map_or(".".into(), |types| types.join(","));
        assert_eq!(links.text(row, "cell_types"), want, "{row:?}");
    }
    // Tracks along peaks; and all of it as a folder reads it.
    let folder = DiscoveryFolder::open(dir).unwrap();
    let maps = Maps::read(dir, v, Source::Links).unwrap();
    for (i, want) in tracks.iter().enumerate() {
        let got = folder.peak_track(Source::Links, i).unwrap();
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() <= 2e-3 * b + 1e-3), "map {i}");
        assert_eq!(maps.iter().nth(i).unwrap().links, folder.links(Source::Links, i).unwrap());
    }
    assert_eq!(folder.links(Source::Links, 0).unwrap().len(), links.rows.len());
    for wrong in [folder.links(Source::Attention, 0).map(drop), folder.map(Source::Attention, None).map(drop)] {
        if let Err(e) = wrong {
            assert!(e.exit_code() == 2 && e.to_string().contains("--run"), "{e}");
        }
    }
    assert!(folder.maps_of(Source::Attention).is_err() && folder.links(Source::Attention, 0).is_err());
}

#[test]
fn tables_read_back_compressed() {
    let (data, dir) = (&tissue().data, tempfile::tempdir().unwrap());
    let (plain, packed) = (dir.path().join("plain"), dir.path().join("packed"));
    let want = discovered(data, &plain, &options());
    let record = discovered(data, &packed, &DiscoverOptions { gzip: true, ..options() });
    let (plain_files, packed_files) = (files(&plain), files(&packed));
    let mut compressed = 0;
    for (name, bytes) in &packed_files {
        let text = match name.extension().is_some_and(|e| e == "gz") {
            false => bytes.clone(),
            true => {
                compressed += 1;
                let mut text = Vec::new();
                flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
                text
            }
        };
        if name != Path::new("discover.json") {
            let name = name.to_str().unwrap().trim_end_matches(".gz");
            assert!(plain_files[Path::new(name)] == text, "{name}");
        }
    }
    assert_eq!(
        (compressed, packed_files.len()),
        (3 + want["links"]["cell_types"].as_array().unwrap().len(), plain_files.len())
    );
    assert_eq!(record["links"]["file"], "links.tsv.gz");
    let v = data.vocabulary();
    assert_eq!(Maps::read(&packed, v, Source::Links).unwrap(), Maps::read(&plain, v, Source::Links).unwrap());
    // Plain tables go where compressed ones come.
    discovered(data, &plain, &DiscoverOptions { gzip: true, ..options() });
    assert!(files(&plain) == packed_files);
}

#[test]
fn the_same_bytes_with_any_threads() {
    let (data, dir) = (&tissue().data, tempfile::tempdir().unwrap());
    let with = |n: usize| {
        let out = dir.path().join(n.to_string());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| discovered(data, &out, &options()));
        files(&out)
    };
    let (one, two) = (with(1), with(2));
    assert!(one.len() > 8 && one.keys().eq(two.keys()));
    for (name, bytes) in &one {
        assert!(two[name] == *bytes, "{} depends on the number of threads", name.display());
    }
}

#[test]
fn replicates_are_chosen() {
    let (data, dir) = (&tissue().data, tempfile::tempdir().unwrap());
    let named = |name: &str| DiscoverOptions { replicates: ReplicateColumn::Named(name.into()), ..options() };
    // No such column, one of a value a cell, one of two cells a value: told before anything is written.
    for (name, words) in [
        ("bacth", &["--replicates bacth", "batch", "no such column"][..]),
        ("own", &["--replicates own", "a column of distinct values is not kept"]),
        ("pair", &["--replicates pair", "a replicate needs 30 cells"]),
    ] {
        let out = dir.path().join(name);
        std::fs::create_dir(&out).unwrap();
        let before = named(name).check(data).unwrap_err();
        let e = discover_links(data, &named(name), &out, &()).unwrap_err();
        for e in [&before, &e] {
            let said = e.to_string();
            assert!(e.exit_code() == 2 && words.iter().all(|w| said.contains(w)) && !said.contains('\n'), "{said}");
        }
        assert!(!out.join("links.tsv").exists() && !out.join("discover.json").exists());
    }
    // One value: noted, and halves of the cells at random.
    for (name, note) in [(Some("lane"), "--replicates lane tells 1 of at least 30 cells"), (None, "")] {
        let replicates = name.map_or(ReplicateColumn::None, |n| ReplicateColumn::Named(n.into()));
        let out = dir.path().join(name.unwrap_or("none"));
        let record = discovered(data, &out, &DiscoverOptions { replicates, ..options() });
        let l = &record["links"];
        assert!(l["replicates"].is_null() && l["replicates_file"].is_null() && !out.join("replicates.tsv").exists());
        assert_eq!(l["agreement"]["by"], "random halves");
        let n = data.n_cells();
        assert_eq!(l["agreement"]["cells"], serde_json::json!([n - n / 2, n / 2]));
        let found: Vec<String> = notes(&record).into_iter().filter(|n| n.starts_with("replicates: ")).collect();
        assert_eq!(found.len(), usize::from(name.is_some()), "{found:?}");
        assert!(found.iter().all(|n| n.contains(note) && n.contains("at random")), "{found:?}");
        let links = Table::read(&out.join("links.tsv"));
        for r in &links.rows {
            assert!(links.number(r, "replicates") == 0.0 && links.number(r, "heterogeneity").is_nan(), "{r:?}");
        }
    }
    // Another column than the usual one.
    let out = dir.path().join("ninth");
    let record = discovered(data, &out, &named("ninth"));
    let r = &record["links"]["replicates"];
    assert_eq!((&r["column"], &r["automatic"]), (&"ninth".into(), &false.into()));
    assert_eq!(Table::read(&out.join("replicates.tsv")).head, ["gene", "peak", "0", "1"]);
}

/// Of `files` of a simulation, some of their cells, columns and names.
struct Part {
    cells: usize,
    /// All columns of cells; all of features, or their chromosomes alone.
    obs: bool,
    var: bool,
}

/// Writes a part of an AnnData; without all columns of features these have names that tell no place.
fn copied(from: &Path, to: &Path, part: &Part) {
    let file = AnnData::open(from).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (mut obs, mut var) = (file.names(Axis::Obs).unwrap(), file.names(Axis::Var).unwrap());
    let mut kept = sccrossrec::csr::Csr::<f32>::new();
    let matrix = file.matrix(None, "--layer").unwrap();
    let each = |b: sccrossrec::csr::Csr<f32>| {
        for i in (0..b.rows()).take(part.cells.saturating_sub(kept.rows())) {
            kept.push_row(b.row(i).0.iter().copied().zip(b.row(i).1.iter().copied()));
        }
        Ok(())
    };
    matrix.for_each_block(Streaming::default(), scratch.path(), &obs, &var, each).unwrap();
    obs.truncate(part.cells);
    let columns = |axis: Axis, n: usize, wanted: bool| -> Vec<(String, Column)> {
        let mut names = file.columns(axis).unwrap();
        names.retain(|name| wanted || (axis == Axis::Var && name == "chrom"));
        let cut = |c: Column| match c {
            Column::Strings(x) => Column::Strings(x[..n].to_vec()),
            Column::Ints(x) => Column::Ints(x[..n].to_vec()),
            Column::Floats(x) => Column::Floats(x[..n].to_vec()),
            Column::Categorical { codes, categories } => Column::Categorical { codes: codes[..n].to_vec(), categories },
            other => other,
        };
        names.into_iter().map(|name| (name.clone(), cut(file.column(axis, &name).unwrap().unwrap()))).collect()
    };
    let frames = [columns(Axis::Obs, obs.len(), part.obs), columns(Axis::Var, var.len(), part.var)];
    if !part.var {
        let kind = if from.ends_with("atac.h5ad") { "element" } else { "gene" };
        var = (0..var.len()).map(|i| format!("{kind}{i}")).collect();
    }
    let [of_obs, of_var] = frames;
    let n = var.len();
    let frame = |index, columns| Frame { index, columns };
    let mut w = AnnDataWriter::create(to, &frame(obs, of_obs), &frame(var, of_var)).unwrap();
    let mut x = w.csr("X", n).unwrap();
    x.append(&kept).unwrap();
    x.finish().unwrap();
    w.finish().unwrap();
}

/// The tissue, in part; its links, and where they are.
fn links_of(part: Part) -> (tempfile::TempDir, DataSet, Value) {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for name in ["rna.h5ad", "atac.h5ad"] {
        copied(&tissue().dir.path().join(name), &d.join(name), &part);
    }
    prepare(&PrepareConfig::new(d.join("rna.h5ad"), d.join("atac.h5ad")), &d.join("data"), &()).unwrap();
    let data = DataSet::open(&d.join("data")).unwrap();
    // Empty cells are dropped.
    assert!(data.n_cells() <= part.cells && data.n_cells() > part.cells * 4 / 5);
    let record = discovered(&data, &d.join("out"), &DiscoverOptions::default());
    let folder = DiscoveryFolder::open(&d.join("out")).unwrap();
    assert_eq!(folder.links(Source::Links, 0).unwrap().len() as u64, record["links"]["pairs"].as_u64().unwrap());
    (dir, data, record)
}

fn noted(record: &Value, words: &[&str]) {
    let found = notes(record);
    assert!(found.iter().any(|n| words.iter().all(|w| n.contains(w))), "{words:?}: {found:?}");
}

#[test]
fn without_types_neighbourhoods_are_compared() {
    let (dir, data, record) = links_of(Part { cells: CELLS, obs: false, var: true });
    assert!(data.vocabulary().cell_types.is_empty());
    let l = &record["links"];
    noted(&record, &["no cell types", "neighbourhoods of cells alike in RNA"]);
    noted(&record, &["replicates: no column such as batch", "at random"]);
    let kinds = l["kinds"].as_array().unwrap();
    let cells: u64 = kinds.iter().map(|k| k[1].as_u64().unwrap()).sum();
    assert!(
        l["typed"] == false
            && kinds.len() >= 5
            && cells <= data.n_cells() as u64
            && cells > 9 * data.n_cells() as u64 / 10
    );
    assert!(kinds.iter().all(|k| k[0].as_str().unwrap().starts_with("neighbourhood ")), "{kinds:?}");
    assert!(l["cell_types"].as_array().unwrap().is_empty() && !dir.path().join("out/links").exists());
    assert_eq!(l["agreement"]["by"], "random halves");
    let links = Table::read(&dir.path().join("out/links.tsv"));
    assert!(links.rows.len() > 500 && links.rows.iter().all(|r| links.text(r, "cell_types") == "."));
    assert!(links.rows.iter().all(|r| links.number(r, "z_between").is_finite() && links.number(r, "error") > 0.0));
}

#[test]
fn few_cells_are_told_apart_within_them() {
    let (dir, data, record) = links_of(Part { cells: 40, obs: true, var: true });
    noted(&record, &[&format!("{} cells: too few to compare kinds of cells (50)", data.n_cells())]);
    let l = &record["links"];
    assert!(l["kinds"].as_array().unwrap().is_empty() && l["agreement"].is_null());
    assert!(l["cell_types"].as_array().unwrap().is_empty());
    let links = Table::read(&dir.path().join("out/links.tsv"));
    assert!(links.rows.len() > 50);
    for r in &links.rows {
        assert!(links.number(r, "score").is_nan() && links.number(r, "effect").is_nan(), "{r:?}");
        assert!(links.number(r, "z_within").is_finite() && within_0_1(links.number(r, "qvalue")), "{r:?}");
        assert!(within_0_1(links.number(r, "probability")) && links.text(r, "cell_types") == ".", "{r:?}");
    }
}

#[test]
fn without_coordinates_there_are_no_pairs() {
    let (dir, _, record) = links_of(Part { cells: 300, obs: true, var: false });
    noted(&record, &["no pair of a gene and a peak lies within --window", "prepare --gtf"]);
    let l = &record["links"];
    assert_eq!((&l["pairs"], &l["untested"], &l["selected"]), (&0.into(), &0.into(), &0.into()));
    assert!(l["mixture"].is_null() && l["choice"].is_null());
    for (file, head) in [("links.tsv", COLUMNS.join("\t")), ("links-untested.tsv", "chrom".into())] {
        let text = std::fs::read_to_string(dir.path().join("out").join(file)).unwrap();
        assert!(text.starts_with(&head) && text.lines().count() == 1, "{text}");
    }
}
