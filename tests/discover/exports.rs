//! Every export, read by a program that is not ours: pandas and pyarrow, pyBigWig, anndata, and checks of the documented
//! rules of each form written in Python. What they should hold is worked out in Python from the maps themselves.

use std::path::{Path, PathBuf};

use crate::common::python::{python_with_anndata, python_with_formats, run_python};
use clap::ValueEnum;
use sccrossrec::discover::exports::{
    ChromNames, Embedding, Export, Format, write_bedgraph, write_bedpe, write_chrom_sizes, write_edges, write_h5ad,
    write_interact, write_longrange, write_maps, write_parquet,
};
use sccrossrec::discover::maps::{LINK_COLUMNS, LinkStat, Maps, TypeMap};
use sccrossrec::rng::Rng;
use sccrossrec::vocabulary::{Gene, ObsColumn, Peak, Vocabulary};
use serde_json::{Value, json};

/// Chromosomes out of order, one of them `chrUnknown`; names with tabs, blanks and quotes; peaks that overlap and touch.
fn vocabulary() -> Vocabulary {
    let mut rng = Rng::new(61, 0);
    let mut v = Vocabulary {
        chromosomes: ["chr2", "chrUnknown", "chr10", "chrM", "chr1_KI270706v1_random"].map(String::from).to_vec(),
        unknown: Some(1),
        cells: (0..6).map(|c| format!("CELL{c}-1")).collect(),
        cell_types: vec!["B cell".into(), "NK/T \"x\"".into()],
        cell_type: vec![0, 1, 1, 0, 0, 1],
        obs: vec![
            ObsColumn {
                name: "batch/site".into(),
                categories: vec!["s1".into(), "s2".into()],
                codes: vec![0, 1, ObsColumn::MISSING, 0, 0, 1],
            },
            ObsColumn { name: "cell_type".into(), categories: vec!["z".into()], codes: vec![0; 6] },
        ],
        ..Vocabulary::default()
    };
    for i in 0..25u32 {
        let tss = (i % 8 != 3).then(|| rng.below(20_000) as i64);
        v.genes.push(Gene { name: format!("gene{i}"), chrom: i % 5, tss });
    }
    for i in 0..80u32 {
        let start = 250 * i64::from(i / 5) + 7 * i64::from(i % 3);
        let (start, end) = if i % 11 == 6 { (-1, -1) } else { (start, start + [100, 243, 700][(i % 3) as usize]) };
        v.peaks.push(Peak { name: format!("peak{i}"), chrom: i % 5, start, end });
    }
    v.genes[0].name = "tab\tgene".into();
    v.genes[2].name = "gap gene\n".into();
    v.genes[5].tss = Some(0);
    v.peaks[0].name = "tab\tpeak".into();
    v.peaks[5].name = "é peak".into();
    v
}

fn map(v: &Vocabulary, name: &str, stem: &str, seed: u64) -> TypeMap {
    let mut rng = Rng::new(62, seed);
    let mut links: Vec<LinkStat> = Vec::new();
    for gene in 0..v.genes.len() as u32 {
        for peak in 0..v.peaks.len() as u32 {
            if v.genes[gene as usize].chrom == v.peaks[peak as usize].chrom && rng.uniform() < 0.3 {
                let score = rng.uniform() * 10f64.powi(rng.below(12) as i32 - 8);
                let some = rng.uniform() < 0.8;
                let or_nan = |x: f64| if some { x } else { f64::NAN };
                let (zscore, pvalue, qvalue) =
                    (or_nan(score - 1.0), or_nan(0.01), or_nan(if peak % 2 == 0 { 0.04 } else { 0.4 }));
                links.push(LinkStat { gene, peak, score, cells: 1 + peak % 4, zscore, pvalue, qvalue });
            }
        }
    }
    links[7].score = 0.0;
    links[8].score = f64::NAN;
    links[9].score = f64::INFINITY;
    links.sort_by(|a, b| b.score.total_cmp(&a.score));
    let track = |n: usize, rng: &mut Rng| -> Vec<f64> {
        (0..n).map(|i| if i % 4 == 0 { 0.0 } else { rng.uniform() * 9.0 }).collect()
    };
    let (mut peaks, genes) = (track(v.peaks.len(), &mut rng), track(v.genes.len(), &mut rng));
    peaks[10] = f64::NAN;
    TypeMap { name: name.into(), file_stem: stem.into(), cells: 3, links, peaks, genes }
}

fn maps(v: &Vocabulary) -> Maps {
    let empty =
        TypeMap { links: vec![], peaks: vec![0.0; 80], genes: vec![0.0; 25], ..map(v, "NK/T \"x\"", "NK_T__x_", 3) };
    Maps { all: map(v, "all", "all", 1), types: vec![map(v, "B cell", "B_cell", 2), empty] }
}

/// The maps as they are, for Python; `null` is NaN, text marks infinity.
fn facts(v: &Vocabulary, maps: &[&TypeMap]) -> Value {
    let number = |x: f64| if x.is_infinite() { json!("inf") } else { json!(x) };
    let links = |m: &&TypeMap| -> Vec<Value> {
        m.links
            .iter()
            .map(|l| json!([l.gene, l.peak, number(l.score), l.cells, l.zscore, l.pvalue, l.qvalue]))
            .collect()
    };
    let of_map =
        |m: &&TypeMap| json!({"name": m.name, "cells": m.cells, "links": links(m), "peaks": m.peaks, "genes": m.genes});
    json!({
        "chromosomes": v.chromosomes, "unknown": v.unknown,
        "genes": v.genes.iter().map(|g| json!([g.name, g.chrom, g.tss])).collect::<Vec<_>>(),
        "peaks": v.peaks.iter().map(|p| json!([p.name, p.chrom, p.start, p.end])).collect::<Vec<_>>(),
        "maps": maps.iter().map(of_map).collect::<Vec<_>>(),
        "columns": LINK_COLUMNS,
    })
}

fn json_file(dir: &Path, value: &Value) -> PathBuf {
    let path = dir.join("facts.json");
    std::fs::write(&path, value.to_string()).unwrap();
    path
}

/// What the scripts share: the maps, and each link that can be drawn.
const COMMON: &str = r#"
import json, math, sys
with open(sys.argv[1], encoding="utf-8") as f:
    facts = json.load(f)
genes, peaks, chromosomes, unknown = (facts[k] for k in ("genes", "peaks", "chromosomes", "unknown"))

def blank(name):
    return "".join("_" if c.isspace() or ord(c) < 32 else c for c in name)

def drawn(m, names):
    out = []
    for g, p, score, cells, z, pv, q in m["links"]:
        name, c, tss = genes[g]
        peak, cp, start, end = peaks[p]
        if score in (None, "inf") or tss is None or start < 0 or c == unknown:
            continue
        out.append(dict(gene=blank(name), peak=blank(peak), chrom=names[c], tss=tss, start=start, end=end, score=score, q=q))
    return out

def lines(path):
    with open(path, encoding="utf-8", newline="") as f:
        text = f.read()
    assert text == "" or text.endswith("\n")
    assert "\r" not in text
    return text.split("\n")[:-1]

def whole(s):
    assert s.isascii() and s.isdigit() and (s == "0" or s[0] != "0"), s
    return int(s)

def in_order(rows):
    keys = [(r[0].encode(), r[1], r[2]) for r in rows]
    assert keys == sorted(keys)
"#;

fn check(python: &Path, script: &str, args: &[&Path]) -> String {
    run_python(python, &format!("{COMMON}{script}"), args)
}

#[test]
fn pandas_reads_the_parquet_links() {
    let Some(python) = python_with_formats() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (v, path) = (vocabulary(), dir.path().join("links.parquet"));
    let maps = maps(&v);
    let all = [&maps.all, &maps.types[0], &maps.types[1]];
    let written = write_parquet(&path, &v, &all).unwrap();
    assert_eq!((written.written, written.left_out), ((maps.all.links.len() + maps.types[0].links.len()) as u64, 0));
    let script = r#"
import pandas as pd, pyarrow as pa, pyarrow.parquet as pq
path = sys.argv[2]
# pyarrow's threads now and then abort Python as it ends, on a busy machine.
alone = dict(use_threads=False, pre_buffer=False)
schema = pq.read_schema(path)
assert schema.names == facts["columns"], schema.names
want = {n: pa.float64() for n in schema.names}
want.update({n: pa.int64() for n in ("start", "end", "tss", "n_cells")})
want.update({n: pa.string() for n in ("chrom", "gene", "cell_type", "peak")})
assert {f.name: f.type for f in schema} == want, schema
assert {f.name for f in schema if not f.nullable} == {"gene", "n_cells", "cell_type", "peak"}
rows = []
for m in facts["maps"]:
    for g, p, score, cells, z, pv, q in m["links"]:
        name, c, tss = genes[g]
        peak, cp, start, end = peaks[p]
        score = math.inf if score == "inf" else score
        rows.append(dict(
            chrom=None if cp == unknown else chromosomes[cp], start=None if start < 0 else start,
            end=None if end < 0 else end, gene=name, tss=tss,
            distance=None if tss is None or start < 0 else abs(tss - (start + end) / 2),
            score=score, zscore=z, pvalue=pv, qvalue=q, n_cells=cells,
            mean=None if score is None else score / m["cells"], cell_type=m["name"], peak=peak))
table = pq.read_table(path, **alone)
assert table.to_pylist() == rows
assert any(r["score"] is None for r in rows) and any(r["tss"] is None for r in rows) and any(r["qvalue"] is None for r in rows)
frame = pd.read_parquet(path, **alone)
assert list(frame.columns) == facts["columns"] and len(frame) == len(rows)
assert frame["score"].isna().sum() == sum(r["score"] is None for r in rows)
assert frame["tss"].isna().sum() == sum(r["tss"] is None for r in rows)
meta = pq.read_metadata(path)
assert meta.created_by.startswith("sccrossrec version ")
assert {meta.row_group(i).column(0).compression for i in range(meta.num_row_groups)} == {"SNAPPY"}
print("ok")
"#;
    assert_eq!(check(&python, script, &[&json_file(dir.path(), &facts(&v, &all)), &path]).trim(), "ok");

    // More than a row group; none at all.
    let link = |i: u32| LinkStat {
        gene: i % 25,
        peak: i % 80,
        score: f64::from(i) / 8.0,
        cells: i,
        zscore: 1.0,
        pvalue: f64::NAN,
        qvalue: 0.5,
    };
    let many = TypeMap { links: (0..300_000).map(link).collect(), ..maps.all.clone() };
    let (big, none) = (dir.path().join("big.parquet"), dir.path().join("none.parquet"));
    write_parquet(&big, &v, &[&many]).unwrap();
    write_parquet(&none, &v, &[&maps.types[1]]).unwrap();
    let script = r#"
import numpy as np, pandas as pd, pyarrow.parquet as pq
alone = dict(use_threads=False, pre_buffer=False)
big = pd.read_parquet(sys.argv[2], **alone)
assert pq.read_metadata(sys.argv[2]).num_row_groups == 2
assert (big["score"] == np.arange(300000) / 8).all() and (big["n_cells"] == np.arange(300000)).all()
assert big["pvalue"].isna().all() and (big["gene"] == [genes[i % 25][0] for i in range(300000)]).all()
none = pd.read_parquet(sys.argv[3], **alone)
assert list(none.columns) == facts["columns"] and len(none) == 0
print("ok")
"#;
    assert_eq!(check(&python, script, &[&json_file(dir.path(), &facts(&v, &[])), &big, &none]).trim(), "ok");
}

/// Names of the chromosomes of [`vocabulary`] in each style.
const STYLES: [(ChromNames, [&str; 5]); 3] = [
    (ChromNames::Data, ["chr2", "", "chr10", "chrM", "chr1_KI270706v1_random"]),
    (ChromNames::Ucsc, ["chr2", "", "chr10", "chrM", "chr1_KI270706v1_random"]),
    (ChromNames::Ensembl, ["2", "", "10", "MT", "KI270706.1"]),
];

/// Writes the first map and the empty one, and lets Python check both against the maps, in each style.
fn browser(
    ending: &str,
    write: impl Fn(&Path, &Vocabulary, &TypeMap, ChromNames) -> sccrossrec::Result<Export>,
    script: &str,
) {
    let Some(python) = python_with_formats() else { return };
    let dir = tempfile::tempdir().unwrap();
    let v = vocabulary();
    let maps = maps(&v);
    for (style, names) in STYLES {
        for (m, empty) in [(&maps.all, false), (&maps.types[0], false), (&maps.types[1], true)] {
            let path = dir.path().join(format!("{}.{ending}", m.file_stem));
            let made = write(&path, &v, m, style).unwrap();
            assert_eq!(made.file, path);
            if !empty && ending != "bedgraph" {
                assert_eq!(made.written + made.left_out, m.links.len() as u64);
                assert!(made.written > 20 && made.left_out > 20, "{made:?}");
            }
            let mut facts = facts(&v, &[m]);
            facts["names"] = json!(names);
            facts["written"] = json!(made.written);
            assert_eq!(check(&python, script, &[&json_file(dir.path(), &facts), &path]).trim(), "ok", "{made:?}");
        }
        // No peak, no gene, no link.
        let (nothing, path) = (Vocabulary::default(), dir.path().join("nothing"));
        let none = TypeMap { links: vec![], peaks: vec![], genes: vec![], ..maps.all.clone() };
        assert_eq!(write(&path, &nothing, &none, style).unwrap().written, 0);
        assert!(path.exists());
    }
}

#[test]
fn bedpe_holds_every_link_with_a_place() {
    let script = r#"
import pandas as pd
m, names = facts["maps"][0], facts["names"]
head, *body = lines(sys.argv[2])
assert head == '#chrom1\tstart1\tend1\tchrom2\tstart2\tend2\tname\tscore'
rows = []
for line in body:
    f = line.split("\t")
    assert len(f) == 8 and not any(c.isspace() for x in f for c in x), f
    a, b = whole(f[1]), whole(f[2])
    c, d = whole(f[4]), whole(f[5])
    assert a < b and c < d and f[0] and f[3]
    rows.append((f[0], a, b, f[3], c, d, f[6], float(f[7])))
in_order(rows)
want = [(l["chrom"], l["start"], l["end"], l["chrom"], l["tss"], l["tss"] + 1, l["gene"], l["score"]) for l in drawn(m, names)]
assert sorted(rows) == sorted(want) and len(want) == facts["written"]
frame = pd.read_csv(sys.argv[2], sep="\t", float_precision="round_trip")
assert len(frame) == len(want) and frame["score"].tolist() == [r[7] for r in rows]
print("ok")
"#;
    browser("bedpe", write_bedpe, script);
}

#[test]
fn interact_follows_the_rules_of_bed5_13() {
    let script = r#"
import re, shlex
m, names = facts["maps"][0], facts["names"]
head, *body = lines(sys.argv[2])
words = shlex.split(head)
assert words[0] == "track"
settings = dict(w.split("=", 1) for w in words[1:])
assert settings["type"] == "interact" and settings["visibility"] == "full" and settings["interactDirectional"] == "true"
assert re.fullmatch(r"\d+:\d+:\d+", settings["maxHeightPixels"])
assert settings["name"].startswith("sccrossrec ") and "description" in settings
want = drawn(m, names)
highest = max((l["score"] for l in want), default=0)
rows, seen = [], []
for line in body:
    f = line.split("\t")
    assert len(f) == 18 and not any(c.isspace() for x in f for c in x) and all(f), f
    start, end, score = whole(f[1]), whole(f[2]), whole(f[4])
    s, t = (f[8], whole(f[9]), whole(f[10])), (f[13], whole(f[14]), whole(f[15]))
    assert 0 <= score <= 1000 and start < end
    assert s[1] < s[2] and t[1] < t[2] and s[0] == t[0] == f[0]
    assert start == min(s[1], t[1]) and end == max(s[2], t[2])
    assert f[12] in "+-." and f[17] in "+-." and len(f[3]) <= 255
    rgb = [whole(x) for x in f[7].split(",")]
    assert len(rgb) == 3 and all(0 <= x <= 255 for x in rgb)
    assert f[3] == f[11] + "/" + f[16] and f[6] == blank(m["name"])
    rows.append((f[0], start, end))
    seen.append((s, t, f[11], f[16], float(f[5]), score, len(set(rgb)) == 1))
in_order(rows)
expected = [((l["chrom"], l["start"], l["end"]), (l["chrom"], l["tss"], l["tss"] + 1), l["peak"], l["gene"], l["score"],
             round(1000 * l["score"] / highest) if highest else 0, l["q"] is not None and l["q"] > 0.1) for l in want]
assert sorted(seen) == sorted(expected) and len(want) == facts["written"]
assert not want or max(x[5] for x in seen) == 1000
print("ok")
"#;
    browser("interact", write_interact, script);
}

#[test]
fn longrange_has_each_link_both_ways() {
    let script = r#"
import re
m, names = facts["maps"][0], facts["names"]
rows, ways = [], []
for line in lines(sys.argv[2]):
    f = line.split("\t")
    assert len(f) == 4, f
    other = re.fullmatch(r"(\S+):(\d+)-(\d+),(-?\d+(?:\.\d+)?(?:e-?\d+)?)", f[3])
    assert other, f[3]
    a = (f[0], whole(f[1]), whole(f[2]))
    b = (other[1], whole(other[2]), whole(other[3]))
    assert a[1] < a[2] and b[1] < b[2]
    rows.append(a)
    ways.append((a, b, float(other[4])))
in_order(rows)
want = []
for l in drawn(m, names):
    a, b = (l["chrom"], l["start"], l["end"]), (l["chrom"], l["tss"], l["tss"] + 1)
    want += [(a, b, l["score"]), (b, a, l["score"])]
assert sorted(ways) == sorted(want) and len(want) == 2 * facts["written"]
print("ok")
"#;
    browser("longrange", write_longrange, script);
}

#[test]
fn bedgraph_becomes_a_bigwig() {
    let script = r#"
import os, numpy as np, pyBigWig
m, names = facts["maps"][0], facts["names"]
rows = []
for line in lines(sys.argv[2]):
    f = line.split("\t")
    assert len(f) == 4
    rows.append((f[0], whole(f[1]), whole(f[2]), float(f[3])))
in_order(rows)
assert all(r[1] < r[2] for r in rows)
assert all(a[0] != b[0] or a[2] <= b[1] for a, b in zip(rows, rows[1:])), "overlap"
sizes = {}
for line in lines(os.path.join(os.path.dirname(sys.argv[2]), "chrom.sizes")):
    name, size = line.split("\t")
    assert name not in sizes
    sizes[name] = whole(size)
# Base by base: the largest value of the peaks over it.
want = {n: np.full(sizes[n], np.nan) for n in sizes}
count = 0
for (name, c, start, end), x in zip(peaks, m["peaks"]):
    if c != unknown and start >= 0 and x is not None:
        want[names[c]][start:end] = np.fmax(want[names[c]][start:end], x)
        count += 1
assert count == facts["written"] and any(np.isfinite(w).any() for w in want.values())
assert set(sizes) == set(names) - {""}
for n in sizes:
    ends = [p[3] for p in peaks if names[p[1]] == n] + [g[2] + 1 for g in genes if names[g[1]] == n and g[2] is not None]
    assert sizes[n] == max(ends)
got = {n: np.full(sizes[n], np.nan) for n in sizes}
for n, s, e, x in rows:
    assert e <= sizes[n]
    got[n][s:e] = x
for n in sizes:
    assert np.array_equal(got[n], want[n], equal_nan=True), n
big = pyBigWig.open(sys.argv[2] + ".bw", "w")
big.addHeader([(n, sizes[n]) for n in sizes])
big.addEntries([r[0] for r in rows], [r[1] for r in rows], ends=[r[2] for r in rows], values=[r[3] for r in rows])
big.close()
big = pyBigWig.open(sys.argv[2] + ".bw")
for n in sizes:
    back = np.array(big.values(n, 0, sizes[n]))
    assert np.allclose(back, want[n], rtol=1e-6, equal_nan=True), n
print("ok")
"#;
    let write = |path: &Path, v: &Vocabulary, m: &TypeMap, names: ChromNames| {
        write_chrom_sizes(&path.with_file_name("chrom.sizes"), v, names)?;
        write_bedgraph(path, v, &m.peaks, names)
    };
    browser("bedgraph", write, script);
}

#[test]
fn the_edge_list_is_a_table() {
    let script = r#"
import csv, pandas as pd
m = facts["maps"][0]
plain = lambda s: s.replace("\t", " ").replace("\n", " ").replace("\r", " ")
rows = list(csv.reader(lines(sys.argv[2]), delimiter="\t", quoting=csv.QUOTE_NONE))
head = "source target interaction score zscore pvalue qvalue n_cells distance chrom cell_type".split()
assert rows[0] == head and all(len(r) == len(head) for r in rows)
number = lambda x: None if x == "" else float(x)
got = [(r[0], r[1], r[2], *map(number, r[3:7]), int(r[7]), number(r[8]), r[9], r[10]) for r in rows[1:]]
want = []
for g, p, score, cells, z, pv, q in m["links"]:
    name, c, tss = genes[g]
    peak, cp, start, end = peaks[p]
    d = None if tss is None or start < 0 else abs(tss - (start + end) / 2)
    want.append((plain(peak), plain(name), "peak-gene", math.inf if score == "inf" else score, z, pv, q, cells, d,
                 chromosomes[cp], plain(m["name"])))
assert got == want
frame = pd.read_csv(sys.argv[2], sep="\t", quoting=csv.QUOTE_NONE)
assert list(frame.columns) == head and len(frame) == len(want)
print("ok")
"#;
    let Some(python) = python_with_formats() else { return };
    let dir = tempfile::tempdir().unwrap();
    let v = vocabulary();
    let maps = maps(&v);
    for m in [&maps.all, &maps.types[0], &maps.types[1]] {
        let path = dir.path().join("edges.tsv");
        assert_eq!(write_edges(&path, &v, m).unwrap().written, m.links.len() as u64);
        assert_eq!(check(&python, script, &[&json_file(dir.path(), &facts(&v, &[m])), &path]).trim(), "ok");
    }
}

#[test]
fn anndata_opens_the_discovery() {
    let Some(python) = python_with_anndata() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (v, path, bare) = (vocabulary(), dir.path().join("discovery.h5ad"), dir.path().join("bare.h5ad"));
    let maps = maps(&v);
    // Links of other numbers, of one type alone.
    let links = Maps { all: map(&v, "all", "links", 4), types: vec![map(&v, "B cell", "B_cell", 5)] };
    let values: Vec<f32> = (0..18).map(|i| i as f32 / 4.0).collect();
    let meta = [("version", "0.1.0"), ("config", "{\"seed\": 906}"), ("data_hash", "abc")];
    let made =
        write_h5ad(&path, &v, &links, Some(&maps), Some(Embedding { width: 3, values: &values }), &meta).unwrap();
    assert_eq!(made.written, 6);
    write_h5ad(&bare, &v, &links, None, None, &[]).unwrap();
    let script = r#"
import anndata, numpy as np
a = anndata.read_h5ad(sys.argv[2])
assert a.shape == (6, 25) and a.X is None
assert list(a.obs_names) == [f"CELL{i}-1" for i in range(6)]
assert list(a.var_names) == [g[0] for g in genes]
assert list(a.obs.columns) == ["cell_type", "batch_site"]
assert list(a.obs["cell_type"]) == [facts["types"][t] for t in [0, 1, 1, 0, 0, 1]]
assert a.obs["batch_site"].isna().tolist() == [False, False, True, False, False, False]
assert list(a.var["chrom"]) == [chromosomes[g[1]] for g in genes]
assert np.array_equal(a.var["tss"], [np.nan if g[2] is None else g[2] for g in genes], equal_nan=True)
assert np.array_equal(a.obsm["X_sccrossrec"], np.arange(18, dtype=np.float32).reshape(6, 3) / 4)
u = a.uns["sccrossrec"]
assert (u["version"], json.loads(u["config"])["seed"], u["data_hash"]) == ("0.1.0", 906, "abc")
ms = facts["maps"]
assert list(u["maps"]) == [m["name"] for m in ms] and list(u["map_cells"]) == [3, 3, 3]
nan = lambda rows: np.array([[np.nan if x is None else x for x in r] for r in rows], dtype=np.float32).T
assert np.array_equal(a.varm["sccrossrec_attention"], nan([m["genes"] for m in ms]))
assert list(u["peaks"]) == [p[0] for p in peaks]
assert np.array_equal(u["peak_attention"], nan([m["peaks"] for m in ms]), equal_nan=True)
ls = facts["links"]
assert list(a.varm) == ["sccrossrec_attention", "sccrossrec_links"]
b = anndata.read_h5ad(sys.argv[3])
for x in (a, b):
    u = x.uns["sccrossrec"]
    assert list(u["link_maps"]) == [m["name"] for m in ls] == ["all", "B cell"]
    assert np.array_equal(x.varm["sccrossrec_links"], nan([m["genes"] for m in ls]))
    assert list(u["peaks"]) == [p[0] for p in peaks]
    assert np.array_equal(u["peak_links"], nan([m["peaks"] for m in ls]), equal_nan=True)
assert list(b.obsm) == [] and list(b.varm) == ["sccrossrec_links"] and b.varm["sccrossrec_links"].shape == (25, 2)
assert sorted(b.uns["sccrossrec"]) == ["link_maps", "peak_links", "peaks"]
a[a.obs["cell_type"] == "B cell"].copy().write_h5ad(sys.argv[3] + ".again")
print("ok")
"#;
    let mut facts = facts(&v, &[&maps.all, &maps.types[0], &maps.types[1]]);
    facts["types"] = json!(v.cell_types);
    facts["links"] = self::facts(&v, &[&links.all, &links.types[0]])["maps"].clone();
    assert_eq!(check(&python, script, &[&json_file(dir.path(), &facts), &path, &bare]).trim(), "ok");
    // What does not fit, or is taken.
    let short = Embedding { width: 4, values: &values };
    assert_eq!(write_h5ad(&bare, &v, &links, Some(&maps), Some(short), &[]).unwrap_err().exit_code(), 2);
    for taken in ["maps", "link_maps", "map_cells", "peaks", "peak_attention", "peak_links"] {
        assert!(write_h5ad(&bare, &v, &links, Some(&maps), None, &[(taken, "x")]).is_err(), "{taken}");
    }
}

#[test]
fn all_forms_lie_where_the_module_says() {
    let dir = tempfile::tempdir().unwrap();
    let v = vocabulary();
    let maps = maps(&v);
    let made = write_maps(dir.path(), &v, &maps, Format::value_variants(), ChromNames::Ucsc, &()).unwrap();
    let mut found: Vec<String> = made
        .iter()
        .map(|e| {
            assert!(e.file.is_file());
            e.file.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_string()
        })
        .collect();
    found.sort();
    let mut want = vec!["links.parquet".to_string()];
    for (folder, ending) in [
        ("bedpe", "bedpe"),
        ("interact", "interact"),
        ("longrange", "longrange"),
        ("bedgraph", "bedgraph"),
        ("edges", "tsv"),
    ] {
        want.extend(["all", "B_cell", "NK_T__x_"].map(|stem| format!("{folder}/{stem}.{ending}")));
    }
    want.sort();
    assert_eq!(found, want);
    assert!(dir.path().join("bedgraph/chrom.sizes").is_file());
    // Nothing half-written is left, and a second time gives the same bytes.
    let bytes = |e: &Export| std::fs::read(&e.file).unwrap();
    let first: Vec<Vec<u8>> = made.iter().map(bytes).collect();
    let again = write_maps(dir.path(), &v, &maps, Format::value_variants(), ChromNames::Ucsc, &()).unwrap();
    assert_eq!(again.iter().map(bytes).collect::<Vec<_>>(), first);
    let hidden = |d: &Path| {
        std::fs::read_dir(d)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.'))
            .count()
    };
    assert_eq!(hidden(dir.path()) + hidden(&dir.path().join("bedpe")), 0);

    // A map of other genes is a fault of ours; a folder that is not there the user's.
    let foreign = Maps { all: TypeMap { peaks: vec![0.0; 3], ..maps.all.clone() }, types: vec![] };
    assert_eq!(
        write_maps(dir.path(), &v, &foreign, &[Format::Bedpe], ChromNames::Data, &()).unwrap_err().exit_code(),
        1
    );
    let missing = dir.path().join("no/folder");
    let e = write_maps(&missing, &v, &maps, &[Format::Parquet], ChromNames::Data, &()).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("links.parquet"), "{e}");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert_eq!(write_maps(&file, &v, &maps, &[Format::Edges], ChromNames::Data, &()).unwrap_err().exit_code(), 2);
}

#[test]
fn links_read_back_as_known_links() {
    // Our BEDPE names the gene: as a file of known links it comes to the peaks that overlap each peak of it.
    let dir = tempfile::tempdir().unwrap();
    let v = vocabulary();
    let m = map(&v, "all", "all", 1);
    let path = dir.path().join("links.bedpe");
    let made = write_bedpe(&path, &v, &m, ChromNames::Ensembl).unwrap();
    let truth = sccrossrec::discover::Truth::read_with(&path, &v, 0).unwrap();
    let plain = |g: u32| !v.genes[g as usize].name.contains(char::is_whitespace);
    let drawn: Vec<(u32, u32)> = m
        .links
        .iter()
        .filter(|l| l.score.is_finite() && plain(l.gene) && v.genes[l.gene as usize].tss.is_some())
        .filter(|l| v.peaks[l.peak as usize].start >= 0 && v.peaks[l.peak as usize].chrom != 1)
        .map(|l| (l.gene, l.peak))
        .collect();
    assert!(drawn.len() as u64 <= made.written && drawn.len() > 20);
    let lost: Vec<_> = drawn.iter().filter(|l| truth.links.binary_search(l).is_err()).collect();
    // Lost are those whose own peak lies over the TSS.
    assert!(
        lost.iter().all(|&&(g, p)| {
            let (tss, p) = (v.genes[g as usize].tss.unwrap(), &v.peaks[p as usize]);
            p.start <= tss && tss < p.end
        }),
        "{lost:?}"
    );
}
