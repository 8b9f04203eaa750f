//! Tables of known links as they are found: tested negatives, ids, peaks by place, columns and separators of many kinds.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use sccrossrec::discover::{ByDistance, NEAR, PairScorer, Truth, recover};
use sccrossrec::vocabulary::{Gene, Peak, Vocabulary, distance};

/// Four genes on chr1 and one on chr2; peaks of 100 bases every kb of chr1, five, and one on chr2.
fn small() -> Vocabulary {
    let gene = |name: &str, chrom, tss| Gene { name: name.into(), chrom, tss: Some(tss) };
    let peak = |chrom: u32, i: i64| Peak {
        name: format!("chr{}-{}-{}", chrom + 1, 1000 * i, 1000 * i + 100),
        chrom,
        start: 1000 * i,
        end: 1000 * i + 100,
    };
    Vocabulary {
        chromosomes: vec!["chr1".into(), "chr2".into()],
        genes: vec![
            gene("Gad1", 0, 1000),
            gene("GAD2", 0, 700_000),
            gene("ENSG00000000001.4", 0, 3000),
            gene("ENSG00000000002", 0, 4000),
            gene("Actb", 1, 500),
        ],
        peaks: (0..5).map(|i| peak(0, i)).chain([peak(1, 0)]).collect(),
        ..Vocabulary::default()
    }
}

fn read(text: &str, v: &Vocabulary) -> sccrossrec::error::Result<Truth> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("truth");
    std::fs::write(&path, text).unwrap();
    Truth::read(&path, v)
}

/// The share of (link, negative) that a score puts in the right order, ties one half, spelt out.
fn auroc(pairs: &[(u32, u32)], links: &[(u32, u32)], score: impl Fn(u32, u32) -> f64) -> Option<f64> {
    let (of_links, others): (Vec<_>, Vec<_>) = pairs.iter().partition(|p| links.contains(p));
    let order = |a: f64, b: f64| if a > b { 1.0 } else { f64::from(u8::from(a == b)) / 2.0 };
    let value = |p: &(u32, u32)| score(p.0, p.1);
    let sum: f64 = of_links.iter().flat_map(|l| others.iter().map(move |o| order(value(l), value(o)))).sum();
    (!of_links.is_empty() && !others.is_empty()).then(|| sum / (of_links.len() * others.len()) as f64)
}

fn close(a: Option<f64>, b: Option<f64>) -> bool {
    a.is_some() == b.is_some() && a.zip(b).is_none_or(|(a, b)| (a - b).abs() < 1e-12)
}

/// Another order than distance has.
struct Mixed;

impl PairScorer for Mixed {
    fn name(&self) -> &'static str {
        "mixed"
    }

    fn block(&self, genes: &[u32], peaks: &[u32], out: &mut [f64]) {
        for (&g, row) in genes.iter().zip(out.chunks_mut(peaks.len())) {
            peaks.iter().zip(row).for_each(|(&p, x)| *x = mixed(g, p));
        }
    }
}

fn mixed(gene: u32, peak: u32) -> f64 {
    f64::from((gene * 7 + peak * 5) % 11)
}

#[test]
fn negatives_are_those_tested() {
    let v = small();
    let t = read(
        "gene\tchrom\tstart\tend\tRegulated\n\
         Gad1\tchr1\t0\t100\tTRUE\n\
         Gad1\tchr1\t0\t2050\tFALSE\n\
         Gad1\tchr1\t3000\t3100\tNA\n\
         GAD2\t1\t4000\t4100\tfalse\n\
         GAD2\t1\t3000\t3100\tYes\n\
         GAD2\t1\t2000\t2100\t\n\
         Actb\tchr2\t0\t100\t0\n\
         Actb\tchr1\t0\t100\t0\n\
         Who\tchr1\t0\t100\t0\n\
         Who\tchr1\t0\t100\t1\n",
        &v,
    )
    .unwrap();
    assert_eq!(t.links, [(0, 0), (1, 3)]);
    let tested = vec![(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (4, 5)];
    assert_eq!((t.tested.as_ref(), t.missing, t.off_chromosome, t.untested), (Some(&tested), 1, 1, 2));
    let far = ByDistance(&v);
    let found = recover(&v, &t, &[&far, &Mixed], &()).unwrap();
    assert_eq!((found.tested, found.pairs, found.links, found.chance), (true, 6, 2, Some(2.0 / 6.0)));
    assert_eq!((found.links_missing, found.links_off_chromosome, found.untested), (1, 1, 2));
    let nearer = |g, p| -distance(&v, g, p).unwrap();
    assert!(close(found.scores[0].auroc, auroc(&tested, &t.links, nearer)), "{found:?}");
    assert!(close(found.scores[1].auroc, auroc(&tested, &t.links, mixed)), "{found:?}");
    let close_by: Vec<(u32, u32)> = tested.iter().copied().filter(|p| distance(&v, p.0, p.1).unwrap() < NEAR).collect();
    let near = found.near.as_ref().unwrap();
    assert_eq!((near.pairs, near.links), (4, 1));
    assert!(close(near.scores[1].auroc, auroc(&close_by, &t.links, mixed)));
    let bins: Vec<(&str, u64, u64)> =
        found.bins.iter().filter(|b| b.pairs > 0).map(|b| (b.distance.as_str(), b.pairs, b.links)).collect();
    assert_eq!(bins, [("0-10kb", 4, 1), ("500kb-1Mb", 2, 1)]);
    // The same file without its column: all pairs of equal chromosome.
    let all = recover(&v, &Truth { tested: None, ..t }, &[&far], &()).unwrap();
    assert_eq!((all.tested, all.pairs), (false, 4 * 5 + 1));
}

#[test]
fn columns_of_negatives() {
    let v = small();
    for column in ["Regulated", "label", "is_positive", "IsPositive", "positive", "significant", "TRUTH"] {
        for [yes, no] in [["TRUE", "FALSE"], ["1", "0"], ["yes", "No"], ["positive", "negative"], ["t", "f"]] {
            let text = format!("gene\tpeak\t{column}\nGad1\tchr1-0-100\t{yes}\nGad1\tchr1-1000-1100\t{no}\n");
            let t = read(&text, &v).unwrap();
            assert_eq!((t.links, t.tested), (vec![(0, 0)], Some(vec![(0, 0), (0, 1)])), "{text}");
        }
    }
    // The first of the names counts, wherever it stands.
    let t =
        read("Significant\tgene\tpeak\tRegulated\nx\tGad1\tchr1-0-100\t1\nx\tGad1\tchr1-1000-1100\t0\n", &v).unwrap();
    assert_eq!(t.tested.map(|t| t.len()), Some(2));
    // Without a negative line there are no tested negatives.
    assert_eq!(read("gene\tpeak\tlabel\nGad1\tchr1-0-100\t1\n", &v).unwrap().tested, None);
    // BEDPE with a header: the gene by name, the peak at the other end.
    for hash in ["", "#"] {
        let t = read(
            &format!(
                "{hash}chrom1\tstart1\tend1\tchrom2\tstart2\tend2\tname\tlabel\n\
                 chr1\t3000\t3001\tchr1\t1000\t1001\tGad1\t1\n\
                 chr1\t4000\t4001\tchr1\t1000\t1001\tGad1\t0\n"
            ),
            &v,
        )
        .unwrap();
        assert_eq!((t.links, t.tested), (vec![(0, 3)], Some(vec![(0, 3), (0, 4)])));
    }
}

#[test]
fn genes_by_id_version_and_case() {
    let v = small();
    for (name, want) in [
        ("Gad1", Some(0)),
        ("GAD1", Some(0)),
        ("gad2", Some(1)),
        ("ENSG00000000001.4", Some(2)),
        ("ENSG00000000001", Some(2)),
        ("ENSG00000000001.17", Some(2)),
        ("ENSG00000000002.3", Some(3)),
        ("ENSG00000000002", Some(3)),
        ("ENSG00000000003", None),
        ("Gad1.1", None),
    ] {
        // A second line that is found, so that one which is not is counted and no error.
        let t = read(&format!("gene\tpeak\n{name}\tchr1-0-100\nGad1\tchr1-4000-4100\n"), &v).unwrap();
        let links: Vec<(u32, u32)> = want.map(|g| (g, 0)).into_iter().chain([(0, 4)]).collect();
        let mut sorted = links.clone();
        sorted.sort_unstable();
        assert_eq!((t.links, t.missing), (sorted, u64::from(want.is_none())), "{name}");
    }
    // Case and version decide nothing where they leave two.
    let mut two = v.clone();
    two.genes[1].name = "GAD1".into();
    two.genes[3].name = "ENSG00000000001.5".into();
    let t = read("gene\tpeak\ngad1\tchr1-0-100\nENSG00000000001\tchr1-0-100\nGAD1\tchr1-0-100\n", &two).unwrap();
    assert_eq!((t.links, t.missing), (vec![(1, 0)], 2));
    // Either column may match.
    for head in ["gene_name\tgene_id", "measuredGeneSymbol\tmeasuredGeneEnsemblId", "TargetGene\tTargetGeneEnsemblID"] {
        let t =
            read(&format!("{head}\tpeak\nGad1\tENSG00000000009\tchr1-0-100\nSym\tENSG00000000002.1\tchr1-0-100\n"), &v)
                .unwrap();
        assert_eq!((t.links, t.missing), (vec![(0, 0), (3, 0)], 0), "{head}");
    }
    // Nothing matches: which form each has, and the way out.
    let mut symbols = v.clone();
    symbols.genes.truncate(2);
    let e = read("gene_id\tpeak\nENSG00000000007\tchr1-0-100\n", &symbols).unwrap_err().to_string();
    for words in ["it names Ensembl ids (ENSG00000000007)", "the data symbols (Gad1, GAD2)", "column gene_symbol"] {
        assert!(e.contains(words), "{e}");
    }
    // No advice to add what is there.
    let both = "gene_symbol\tgene_id\tpeak\nSAMD11\tENSG00000000007\tchr1-0-100\n";
    let e = read(both, &symbols).unwrap_err().to_string();
    assert!(
        e.contains("(ENSG00000000007, SAMD11)") && e.contains("as in the var_names") && !e.contains("add a"),
        "{e}"
    );
    let mut ids = v.clone();
    ids.genes.drain(..2);
    ids.genes.truncate(2);
    let e = read("gene\tpeak\nGad1\tchr1-0-100\n", &ids).unwrap_err().to_string();
    for words in ["it names symbols (Gad1)", "the data Ensembl ids (ENSG00000000001.4, ", "column gene_id"] {
        assert!(e.contains(words), "{e}");
    }
}

#[test]
fn peaks_by_name_or_place() {
    let mut v = small();
    v.peaks[1].name = "peak_1_2".into();
    for (peak, want) in [
        ("chr1-0-100", vec![0]),
        ("chr1:0-100", vec![0]),
        ("chr1_50_1001", vec![0, 1]),
        ("1:1099-2001", vec![1, 2]),
        ("peak_1_2", vec![1]),
        ("chr1:100-1000", vec![]),
        ("chr7:0-100", vec![]),
        ("enhancer", vec![]),
    ] {
        let t = read(&format!("gene\telement\nGad1\t{peak}\nGad1\tchr1-4000-4100\n"), &v).unwrap();
        let links: Vec<(u32, u32)> = want.iter().chain([&4]).map(|&p| (0, p)).collect();
        assert_eq!((t.links, t.missing), (links, u64::from(want.is_empty())), "{peak}");
    }
    // A name that the data lack and that is no place: the columns of the place, if there are such.
    let t = read("gene\tregion\tseqnames\tchromStart\tchromEnd\nGad1\tpromoter\t1\t0\t2001\n", &v).unwrap();
    assert_eq!(t.links, [(0, 0), (0, 1), (0, 2)]);
    let e = read("gene\tpeak\nGad1\tchr7:0-100\n", &v).unwrap_err().to_string();
    assert!(e.contains("it names chr7, the data chr1, chr2"), "{e}");
}

#[test]
fn separators() {
    let v = small();
    let want = (vec![(0, 0)], Some(vec![(0, 0), (0, 1)]));
    for text in [
        "gene,peak,label\nGad1,chr1-0-100,1\nGad1,chr1-1000-1100,0\n",
        "gene;peak;label\r\nGad1;chr1-0-100;1\r\nGad1;chr1-1000-1100;0\r\n",
        "gene peak label\nGad1  chr1-0-100 1\nGad1 chr1-1000-1100 0\n",
        "#gene,peak,label\nGad1,chr1-0-100,1\nGad1,chr1-1000-1100,0\n",
        "\"\",\"note, if any\",\"gene\",\"peak\",\"label\"\n\"1\",\"a, b\",\"Gad1\",\"chr1-0-100\",\"TRUE\"\n\
         \"2\",\"\",\"Gad1\",\"chr1-1000-1100\",\"FALSE\"\n",
        "\"gene\"\t\"peak\"\t\"label\"\n\"Gad1\"\t\"chr1-0-100\"\tTRUE\n\"Gad1\"\t\"chr1-1000-1100\"\tFALSE\n",
    ] {
        let t = read(text, &v).unwrap();
        assert_eq!((t.links, t.tested), want, "{text}");
    }
    let t = read("chr1,999,1001,chr1,3000,3001,Gad1\n", &v).unwrap();
    assert_eq!(t.links, [(0, 3)]);
}

#[test]
fn tables_that_are_refused() {
    let v = small();
    for (text, words) in [
        (
            "gene\tpeak\tlabel\nGad1\tchr1-0-100\t1\nGad1\tchr1-0-100\tmaybe\n",
            "line 3 has \"maybe\" in the column `label`",
        ),
        ("gene,peak,Regulated\n\nGad1,chr1-0-100,-1\n", "line 3 has \"-1\" in the column `Regulated`"),
        ("gene\tpeak\tlabel\nGad1\tchr1-0-100\n", "line 2 has 2 columns of 3"),
        ("gene\tpeak\tlabel\nGad1\tchr1-0-100\t0\nGad1\tchr1-1000-1100\tno\n", "all of its 2 pairs are negatives"),
        ("gene\tpeak\tlabel\nGad1\tchr1-0-100\tNA\n", "`label` has no value"),
        ("gene\tpeak\tlabel\nGad1\tchr1-0-100\t1\nGad1\tnone\t0\n", "none of its tested negatives can be used"),
        ("gene\tpeak\tlabel\nGad1\tchr1-0-100\t1\nGad1\tchr1-0-100\t0\n", "none of its tested negatives can be used"),
        ("gene\tpeak\tlabel\nGad1\tnone\t1\nGad1\tchr1-0-100\t0\n", "none of its links can be used"),
        ("gene,chrom,start,end,label\nGad1,chr1,5,5,1\n", "line 2 has the start 5"),
        ("gene,chrom,start\n", "no column `peak`"),
    ] {
        let e = read(text, &v).unwrap_err();
        let said = e.to_string();
        assert!(said.contains(words) && !said.contains('\n') && e.exit_code() == 2, "{text:?}: {e}");
    }
}

/// Lines of the CRISPRi table: chromosome, start, end, symbol, id, TSS, regulated.
fn crispr(root: &Path) -> Vec<(String, i64, i64, [String; 2], i64, bool)> {
    let file = std::fs::File::open(root.join("gold/crispr_k562/training_K562.GRCh38.tsv.gz")).unwrap();
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    let field = |l: &str| {
        let f: Vec<&str> = l.split('\t').collect();
        let number = |i: usize| f[i].parse().unwrap();
        (f[0].into(), number(1), number(2), [f[8].into(), f[9].into()], number(6), f[20] == "TRUE")
    };
    assert_eq!(text.lines().next().unwrap().split('\t').nth(20), Some("Regulated"));
    text.lines().skip(1).map(field).collect()
}

#[test]
fn crispri_of_k562() {
    let Some(root) = std::env::var_os("SCCROSSREC_TEST_DATA").map(PathBuf::from) else {
        println!("skipped: SCCROSSREC_TEST_DATA does not name the folder of the real data");
        return;
    };
    let path = root.join("gold/crispr_k562/training_K562.GRCh38.tsv.gz");
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let lines = crispr(&root);
    assert_eq!((lines.len(), lines.iter().filter(|l| l.5).count()), (10_356, 471));
    let mut v = Vocabulary::default();
    let mut genes: BTreeMap<[String; 2], u32> = BTreeMap::new();
    for (chrom, start, end, names, tss, _) in &lines {
        let known = v.chromosomes.iter().position(|c| c == chrom);
        let chrom_at = known.unwrap_or_else(|| {
            v.chromosomes.push(chrom.clone());
            v.chromosomes.len() - 1
        }) as u32;
        let next = v.genes.len() as u32;
        genes.entry(names.clone()).or_insert_with(|| {
            v.genes.push(Gene { name: names[0].clone(), chrom: chrom_at, tss: Some(*tss) });
            next
        });
        if !v.peaks.iter().any(|p| (p.chrom, p.start, p.end) == (chrom_at, *start, *end)) {
            v.peaks.push(Peak { name: format!("{chrom}-{start}-{end}"), chrom: chrom_at, start: *start, end: *end });
        }
    }
    // Every pair of a line's gene and a peak that overlaps its element: a link if any line says so.
    let mut pairs: BTreeMap<(u32, u32), bool> = BTreeMap::new();
    for (chrom, start, end, names, _, link) in &lines {
        for (p, peak) in v.peaks.iter().enumerate() {
            if v.chromosomes[peak.chrom as usize] == *chrom && peak.start < *end && peak.end > *start {
                *pairs.entry((genes[names], p as u32)).or_default() |= link;
            }
        }
    }
    let tested: Vec<(u32, u32)> = pairs.keys().copied().collect();
    let links: Vec<(u32, u32)> = pairs.iter().filter(|p| *p.1).map(|p| *p.0).collect();
    let begun = std::time::Instant::now();
    let t = Truth::read(&path, &v).unwrap();
    println!("{} tested pairs, {} of them links, read in {:?}", tested.len(), links.len(), begun.elapsed());
    assert_eq!((&t.links, t.tested.as_ref()), (&links, Some(&tested)));
    assert_eq!((t.missing, t.off_chromosome, t.untested), (0, 0, 0));
    // The same of data that know the genes by id, with and without version, and chromosomes as Ensembl does.
    for version in ["", ".7"] {
        let mut by_id = v.clone();
        genes.iter().for_each(|(names, &g)| by_id.genes[g as usize].name = format!("{}{version}", names[1]));
        by_id.chromosomes.iter_mut().for_each(|c| *c = c.trim_start_matches("chr").to_string());
        assert_eq!(Truth::read(&path, &by_id).unwrap(), t, "{version}");
    }
    let far = ByDistance(&v);
    let found = recover(&v, &t, &[&far, &Mixed], &()).unwrap();
    assert_eq!((found.tested, found.pairs, found.links), (true, tested.len() as u64, links.len() as u64));
    assert!(close(found.scores[0].auroc, auroc(&tested, &links, |g, p| -distance(&v, g, p).unwrap())));
    assert!(close(found.scores[1].auroc, auroc(&tested, &links, mixed)));
    println!("AUROC of distance {:?}", found.scores[0].auroc);
    assert_eq!(found.bins.iter().map(|b| b.pairs).sum::<u64>(), found.pairs);
    // Half of the elements: the rest is counted.
    let mut half = v.clone();
    half.peaks.truncate(v.peaks.len() / 2);
    let t = Truth::read(&path, &half).unwrap();
    assert!(t.missing > 1000 && !t.links.is_empty() && t.tested.is_some_and(|p| p.len() > 1000));
}
