//! `plot region` and `plot dotplot`: what is drawn, and the numbers behind it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use noodles_bgzf::io::Writer;
use noodles_core::Position;
use noodles_csi::binning_index::index::header::Builder;
use noodles_csi::binning_index::index::reference_sequence::bin::Chunk;
use noodles_tabix::index::Indexer;
use tiny_skia::Pixmap;

use crate::common::program::{ok, refused, run};
use sccrossrec::DataSet;
use sccrossrec::data::exons::GeneModel;
use sccrossrec::region::{Known, Region, RegionOptions, Regions, dots};

struct Made {
    dir: tempfile::TempDir,
    data: DataSet,
    /// A gene with links, and how the annotation tells it.
    gene: String,
    model: GeneModel,
}

/// The counts of both modalities.
const COUNTS: [&str; 8] =
    ["--rna", "sim/rna.h5ad", "--rna-layer", "counts", "--atac", "sim/atac.h5ad", "--atac-layer", "counts"];

/// A small data set with an annotation whose first gene has exons, and its links, made once.
fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        let sizes = ["--cells", "240", "--genes", "30", "--peaks", "120", "--cell-types", "3", "--chromosomes", "2"];
        ok(d, &[&["simulate", "--out", "sim"], &sizes[..]].concat());
        let gtf = std::fs::read_to_string(d.join("sim/genes.gtf")).unwrap();
        let line: Vec<&str> = gtf.lines().find(|l| !l.starts_with('#')).unwrap().split('\t').collect();
        let (start, end): (i64, i64) = (line[3].parse().unwrap(), line[4].parse().unwrap());
        let name = line[8].split("gene_name \"").nth(1).unwrap().split('"').next().unwrap().to_string();
        let part = |kind: &str, from: i64, to: i64| {
            format!("{}\ts\t{kind}\t{from}\t{to}\t.\t{}\t.\t{} transcript_id \"T\";\n", line[0], line[6], line[8])
        };
        let whole = "\ts\texon\t1\t500\t.\t+\t.\tgene_id \"X\"; transcript_id \"U\";\n";
        let near = "\ts\tgene\t1\t500\t.\t+\t.\tgene_id \"X\"; gene_name \"Unmeasured\";\n";
        let more = part("exon", start, start + 999)
            + &part("exon", end - 499, end)
            + &part("CDS", start + 500, start + 999)
            + &format!("{0}{near}{0}{whole}chrElsewhere{near}", line[0]);
        std::fs::write(d.join("genes.gtf"), gtf.clone() + &more).unwrap();
        let both = [&["prepare"], &COUNTS[..]].concat();
        ok(d, &[&both[..], &["--gtf", "genes.gtf", "--out", "data"]].concat());
        ok(d, &[&both[..], &["--out", "plain"]].concat());
        ok(d, &["discover", "--data", "data", "--out", "found", "--max-q", "1"]);
        let data = DataSet::open(&d.join("data")).unwrap();
        let model = GeneModel {
            name: name.clone(),
            chrom: line[0].into(),
            forward: Some(line[6] == "+"),
            start: start - 1,
            end,
            coding: Some([start + 499, start + 999]),
            exons: vec![[start - 1, start + 999], [end - 500, end]],
        };
        Made { data, gene: name, model, dir }
    })
}

fn dir() -> &'static Path {
    made().dir.path()
}

/// Draws in both forms, and gives the SVG.
fn drawn(args: &[&str], name: &str) -> String {
    let (png, svg) = (format!("{name}.png"), format!("{name}.svg"));
    ok(dir(), &[&["plot"], args, &["--scale", "1", "--force", "--out", &png]].concat());
    ok(dir(), &[&["plot"], args, &["--force", "--out", &svg]].concat());
    let p = Pixmap::load_png(dir().join(png)).unwrap();
    assert!(p.width() >= 1200 && p.height() > 250, "{} × {}", p.width(), p.height());
    let svg = std::fs::read_to_string(dir().join(svg)).unwrap();
    assert!(svg.contains(&format!("viewBox=\"0 0 {} ", p.width())), "the two forms are of one width");
    svg
}

#[test]
fn gene_models_are_kept() {
    let m = made();
    let models = m.data.gene_models().unwrap().unwrap();
    assert_eq!(models.iter().find(|g| g.name == m.gene), Some(&m.model));
    let unmeasured =
        models.iter().find(|g| g.name == "Unmeasured").expect("a gene near peaks that the data do not measure");
    assert_eq!(unmeasured.exons, [[0, 500]]);
    assert!(models.iter().all(|g| g.chrom != "chrElsewhere"));
    // The hash does not know of them.
    let plain = DataSet::open(&dir().join("plain")).unwrap();
    assert_eq!((plain.gene_models().unwrap(), plain.hash()), (None, m.data.hash()));
    assert!(!dir().join("plain/gene-models.tsv.gz").exists() && plain.origin()["gene-models.tsv.gz"].is_null());
    // Data like these keep them; a damaged table is found.
    ok(dir(), &[&["prepare", "--like", "data", "--out", "like"], &COUNTS[..]].concat());
    let like = DataSet::open(&dir().join("like")).unwrap();
    assert_eq!(like.gene_models().unwrap().unwrap(), models);
    let table = dir().join("like/gene-models.tsv.gz");
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    let e = DataSet::open(&dir().join("like")).unwrap_err().to_string();
    assert!(e.contains("gene-models.tsv.gz"), "{e}");
}

/// `[T][P]` counts of each peak by type, scaled as the picture says, and the median depth: computed from the cells one by one.
fn by_hand(data: &DataSet) -> (Vec<Vec<f64>>, f64) {
    let v = data.vocabulary();
    let depth = |c: usize| data.cell(c).atac().map(|(_, x)| f64::from(x)).sum::<f64>();
    let mut depths: Vec<f64> = (0..data.n_cells()).map(depth).collect();
    let mut sums = vec![vec![0.0; v.peaks.len()]; v.cell_types.len()];
    let mut of_type = vec![0.0; v.cell_types.len()];
    for (c, depth) in depths.iter().enumerate() {
        let t = v.cell_type[c] as usize;
        of_type[t] += depth;
        data.cell(c).atac().for_each(|(p, x)| sums[t][p as usize] += f64::from(x));
    }
    depths.sort_by(f64::total_cmp);
    let n = depths.len();
    let median = (depths[(n - 1) / 2] + depths[n / 2]) / 2.0;
    for (row, all) in sums.iter_mut().zip(of_type) {
        row.iter_mut().for_each(|x| *x *= median / all);
    }
    (sums, median)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * (1.0 + b.abs())
}

#[test]
fn coverage_is_that_of_the_cells() {
    let m = made();
    let (v, (scaled, median)) = (m.data.vocabulary(), by_hand(&m.data));
    let regions = Regions::open(&m.data, Some(&dir().join("found")), None, &()).unwrap();
    let r = regions.region(&m.gene, &RegionOptions { top: Some(5), ..RegionOptions::default() }).unwrap();
    let chrom = v.chromosomes.iter().position(|c| *c == r.chrom).unwrap() as u32;
    let mut inside: Vec<usize> = (0..v.peaks.len())
        .filter(|&p| v.peaks[p].chrom == chrom && v.peaks[p].start < r.end && v.peaks[p].end > r.start)
        .collect();
    inside.sort_by_key(|&p| v.peaks[p].start);
    assert!(inside.len() > 2 && r.start <= m.model.start && r.end >= m.model.end);
    assert!(r.unit.contains(&format!("({median:.0} counts")), "{}", r.unit);
    assert_eq!(r.peaks, inside.iter().map(|&p| [v.peaks[p].start, v.peaks[p].end]).collect::<Vec<_>>());
    let mut some = 0;
    for (t, row) in r.types.iter().enumerate() {
        assert_eq!((&row.name, row.heights.len()), (&v.cell_types[t], inside.len()));
        assert_eq!(row.cells, v.cell_type.iter().filter(|&&c| c as usize == t).count());
        for (&p, &height) in inside.iter().zip(&row.heights) {
            let want = scaled[t][p] * 1000.0 / (v.peaks[p].end - v.peaks[p].start) as f64;
            assert!(close(height.into(), want), "type {t}, peak {p}: {height} for {want}");
            some += usize::from(want > 0.0);
        }
    }
    assert!(some > 5, "{some} heights above 0");
    // The RNA of the gene, the same way.
    let g = v.genes.iter().position(|g| g.name == m.gene).unwrap() as u32;
    for (t, row) in r.types.iter().enumerate() {
        let cells: Vec<_> = (0..m.data.n_cells()).filter(|&c| v.cell_type[c] as usize == t).collect();
        let (mut share, mut mean) = (0.0, 0.0);
        for &c in &cells {
            let cell = m.data.cell(c);
            let total: f64 = cell.rna().map(|(_, x)| f64::from(x)).sum();
            let x = cell.rna().find(|(i, _)| *i == g).map_or(0.0, |(_, x)| f64::from(x));
            share += f64::from(u8::from(x > 0.0)) / cells.len() as f64;
            mean += (1e4 * x / total).ln_1p() / cells.len() as f64;
        }
        assert!(close(row.share.unwrap().into(), share) && close(row.mean.unwrap().into(), mean));
    }
    let all = dots(&m.data, std::slice::from_ref(&m.gene), &[], &()).unwrap();
    assert_eq!(all.dots.iter().map(|d| Some(d[0].mean)).collect::<Vec<_>>(), {
        r.types.iter().map(|t| t.mean).collect::<Vec<_>>()
    });
    // Links: of this gene, the likeliest, in the window.
    let links = r.links.as_ref().unwrap();
    assert_eq!((links.shown.len(), r.known), (5.min(links.of), Known::Exons));
    assert!(links.shown.windows(2).all(|w| w[0].probability >= w[1].probability));
    assert!(links.shown.iter().all(|l| l.gene == m.gene && r.peaks.contains(&l.peak)));
    assert_eq!(r.genes.iter().find(|g| g.name == m.gene), Some(&m.model));
    // What a page would hold comes back.
    let text = serde_json::to_string(&r).unwrap();
    assert_eq!(serde_json::from_str::<Region>(&text).unwrap(), r);
    assert!(text.len() < 20_000, "{} bytes", text.len());
}

#[test]
fn a_region_in_both_forms() {
    let m = made();
    let with = ["--data", "data", "--discovery", "found", "--max-q", "1"];
    let svg = drawn(&[&["region", m.gene.as_str()], &with[..]].concat(), "gene");
    for text in
        ["type1", "type2", "type3", ">peaks<", ">genes<", ">links<", "all pairs", "cells<", "position on", " kb"]
    {
        assert!(svg.contains(text), "{text}");
    }
    for text in [">probability of a link<", ">0.5<", "ATAC counts per kb", &format!(">RNA of {}<", m.gene), " %<"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(svg.contains(&format!(">{}<", m.gene)) && !svg.contains("has no exons"));
    // A region: no gene stands out, no RNA; types as they are named.
    let place = format!("{}:{}-{}", m.model.chrom, m.model.start - 20_000, m.model.end + 20_000);
    let svg = drawn(&["region", &place, "--data", "data", "--cell-types", "type3,type1"], "region");
    let at = |text: &str| svg.find(text);
    assert!(at(">type3<").unwrap() < at(">type1<").unwrap() && at(">type2<").is_none() && at("RNA of").is_none());
    assert!(at(">links<").is_none(), "no discovery, no links");
    // Without an annotation the starts of the genes of the data, and a word on that; with one at hand, that.
    let svg = drawn(&["region", &m.gene, "--data", "plain", "--around", "30000"], "plain");
    assert!(svg.contains("by their starts alone") && svg.contains(&format!(">{}<", m.gene)));
    let svg = drawn(&["region", &m.gene, "--data", "plain", "--gtf", "genes.gtf"], "gtf");
    assert!(!svg.contains("by their starts alone"));
    // A gene that only the annotation knows.
    let svg = drawn(&["region", "Unmeasured", "--data", "data"], "unmeasured");
    assert!(svg.contains(">Unmeasured<") && !svg.contains("RNA of"));
}

#[test]
fn genes_by_type_in_both_forms() {
    let m = made();
    let genes: Vec<&str> = m.data.vocabulary().genes.iter().take(7).map(|g| g.name.as_str()).collect();
    let list = genes.join(",");
    let svg = drawn(&["dotplot", "--data", "data", "--genes", &list], "dots");
    for text in genes.iter().chain(&["type1", "type2", "type3", "cells with the gene", "mean expression", ">50 %<"]) {
        assert!(svg.contains(text), "{text}");
    }
    let scaled = drawn(&["dotplot", "--data", "data", "--genes", &list, "--scale-genes"], "scaled");
    assert!(scaled.contains(">least<") && !svg.contains(">least<"));
    let none = run(dir(), &["plot", "dotplot", "--data", "data", "--genes", "SIM00001x", "--out", "no.png"]);
    refused(&none, &["--genes SIM00001x", "did you mean SIM00001"]);
}

/// A line of fragments: chromosome, start, end, barcode.
type Line = (String, i64, i64, String);

/// Writes fragments as `bgzip` and `tabix -p bed` would.
fn write_fragments(path: &Path, mut lines: Vec<Line>) {
    lines.sort();
    let mut out = Writer::new(File::create(path).unwrap());
    let mut index = Indexer::default();
    index.set_header(Builder::bed().build());
    writeln!(out, "# a comment").unwrap();
    let mut from = out.virtual_position();
    for (i, (chrom, start, end, barcode)) in lines.iter().enumerate() {
        writeln!(out, "{chrom}\t{start}\t{end}\t{barcode}\t1").unwrap();
        if i % 50 == 0 {
            out.flush().unwrap(); // several blocks
        }
        let to = out.virtual_position();
        let at = |x: i64| Position::try_from(x as usize).unwrap();
        index.add_record(chrom, at(start + 1), at(*end), Chunk::new(from, to)).unwrap();
        from = to;
    }
    out.finish().unwrap();
    let tbi = PathBuf::from(format!("{}.tbi", path.display()));
    noodles_tabix::fs::write(tbi, &index.build()).unwrap();
}

/// One fragment of one base in the middle of a peak for each count of a cell: two cuts a count.
fn fragments_of(data: &DataSet, barcode: impl Fn(&str) -> String) -> Vec<Line> {
    let v = data.vocabulary();
    let mut lines = Vec::new();
    for c in 0..data.n_cells() {
        for (p, x) in data.cell(c).atac() {
            let p = &v.peaks[p as usize];
            let middle = (p.start + p.end) / 2;
            let chrom = v.chromosomes[p.chrom as usize].trim_start_matches("chr").to_string();
            let line = (chrom, middle, middle + 1, barcode(&v.cells[c]));
            lines.extend(vec![line; x as usize]);
        }
    }
    // Of no cell of these.
    let strange = lines.iter().take(300).map(|l| (l.0.clone(), l.1, l.2, "nobody".to_string())).collect::<Vec<_>>();
    lines.extend(strange);
    lines
}

#[test]
fn fragments_tell_what_the_peaks_tell() {
    let m = made();
    let regions = Regions::open(&m.data, None, None, &()).unwrap();
    let of_peaks = regions.region(&m.gene, &RegionOptions::default()).unwrap();
    let exact = dir().join("exact.tsv.gz");
    write_fragments(&exact, fragments_of(&m.data, str::to_string));
    let mut r = of_peaks.clone();
    assert_eq!(regions.cover(&mut r, &exact).unwrap(), None);
    let step = r.step.unwrap();
    assert!(r.unit.starts_with("cut sites per kb"), "{}", r.unit);
    let counted = |p: &[i64; 2], height: f32| f64::from(height) * (p[1] - p[0]) as f64 / 1000.0;
    for (row, peaks) in r.types.iter().zip(&of_peaks.types) {
        let middle = |p: &[i64; 2]| (p[0] + p[1]) / 2;
        let inside: Vec<_> =
            of_peaks.peaks.iter().zip(&peaks.heights).filter(|(p, _)| (r.start..r.end).contains(&middle(p))).collect();
        let all: f64 = row.heights.iter().map(|&h| f64::from(h) * step as f64 / 1000.0).sum();
        let want: f64 = inside.iter().map(|(p, h)| 2.0 * counted(p, **h)).sum();
        assert!((all - want).abs() < 0.02 * want && want > 0.0, "{}: {all} for {want}", row.name);
        // And each where its peak is.
        for (p, &h) in inside {
            let near = (0..row.heights.len()).filter(|&k| {
                let from = r.start + step * k as i64;
                from < p[1].max(middle(p) + 60) && from + step > p[0].min(middle(p) - 60)
            });
            let found: f64 = near.map(|k| f64::from(row.heights[k]) * step as f64 / 1000.0).sum();
            assert!((found - 2.0 * counted(p, h)).abs() < 1e-4 * (1.0 + found), "{p:?}: {found}");
        }
    }
    // Barcodes with an ending: the same, and it is told.
    let ending = dir().join("ending.tsv.gz");
    write_fragments(&ending, fragments_of(&m.data, |c| format!("{c}-1")));
    let mut s = of_peaks.clone();
    let once = regions.cover(&mut s, &ending).unwrap();
    assert!(once.is_some_and(|o| o.contains("-1")));
    assert_eq!(s.types, r.types);
    let svg = drawn(&["region", &m.gene, "--data", "data", "--fragments", "exact.tsv.gz"], "cuts");
    assert!(svg.contains("cut sites per kb") && !svg.contains("told by peaks alone"));
}

#[test]
fn what_cannot_be_drawn_is_said_in_one_line() {
    let m = made();
    let plot = |what: &str, more: &[&str]| {
        run(dir(), &[&["plot", "region", what, "--data", "data", "--out", "no.png"], more].concat())
    };
    let close = format!("{}x", m.gene.to_lowercase());
    refused(&plot(&close, &[]), &["no such gene", "did you mean", &m.gene]);
    refused(&plot("chr1:900-200", &[]), &["chr1:900-200 is no region", "chr1:1000000-1200000"]);
    refused(&plot("chr77:100-200", &[]), &["no chromosome chr77", "chr1"]);
    refused(&plot(&m.gene, &["--cell-types", "typ2"]), &["--cell-types typ2", "type2"]);
    refused(&plot(&m.gene, &["--max-q", "0.1"]), &["--discovery"]);
    // No index; not in blocks.
    std::fs::write(dir().join("bare.tsv.gz"), b"").unwrap();
    refused(&plot(&m.gene, &["--fragments", "bare.tsv.gz"]), &["bare.tsv.gz", "tabix -p bed bare.tsv.gz"]);
    let packed = dir().join("packed.tsv.gz");
    write_fragments(&packed, fragments_of(&m.data, str::to_string));
    let mut gz = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::default());
    writeln!(gz, "chr1\t1\t2\tA\t1").unwrap();
    gz.finish().unwrap();
    refused(&plot(&m.gene, &["--fragments", "packed.tsv.gz"]), &["packed.tsv.gz", "bgzip"]);
    // Of other cells.
    let other = dir().join("other.tsv.gz");
    write_fragments(&other, fragments_of(&m.data, |_| "ACGTACGTAAAA".into()));
    refused(&plot(&m.gene, &["--fragments", "other.tsv.gz"]), &["other.tsv.gz", "no barcode of these cells"]);
    // A discovery of other data.
    refused(&plot(&m.gene, &["--discovery", "sim"]), &["not a discovery"]);
    assert!(!dir().join("no.png").exists());
}
