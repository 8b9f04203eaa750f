//! Where genes lie: annotations of every dialect, and the places that have peaks.

use crate::base::{Base, CELLS, GENES, PEAKS, folder, gene_place, peak_place};
use crate::common::program::{refused, run, text};

const FILES: &str = "--rna rna.h5ad --atac atac.h5ad";

#[test]
fn gff3_of_gencode_ensembl_and_refseq() {
    let base = Base::new();
    let lines = |of: &dyn Fn(usize) -> String, on: &dyn Fn(&str) -> String, kind: &str| -> String {
        let line = |i| {
            let (chrom, start, end, strand) = gene_place(i);
            format!("{}\tx\t{kind}\t{start}\t{end}\t.\t{strand}\t.\t{}\n", on(chrom), of(i))
        };
        (0..GENES).map(line).collect()
    };
    let (ids, names) = (&base.ids, &base.genes);
    let gencode = |i: usize| format!("ID={0}.3;gene_id={0}.3;gene_name={1}", ids[i], names[i]);
    let ensembl = |i: usize| format!("ID=gene:{};Name={};version=3", ids[i], names[i]);
    let refseq = |i: usize| format!("ID=gene-{0};Dbxref=GeneID:{i};Name={0};gene={0}", names[i]);
    let head = "##gff-version 3\n1\tx\tchromosome\t1\t9000000\t.\t.\t.\tID=chromosome:1\n###\n";
    base.put("gencode.gff3", format!("{head}{}", lines(&gencode, &|c| c.to_string(), "gene")));
    base.put("ensembl.gff3", format!("{head}{}", lines(&ensembl, &|c| c[3..].to_string(), "ncRNA_gene")));
    base.put("refseq.gff3", format!("{head}{}", lines(&refseq, &|c| format!("NC_00000{}.11", &c[3..]), "gene")));
    for file in ["gencode.gff3", "ensembl.gff3", "refseq.gff3"] {
        let (hash, said) = base.prepare(&file.replace('.', "_"), &format!("{FILES} --gtf {file}"));
        assert!(said.contains("genes in the GTF: 20 of 20"), "{file}: {said}");
        assert_eq!(hash, base.hash, "{file}");
    }
}

#[test]
fn a_place_with_peaks_wins() {
    let base = Base::new();
    let elsewhere = |chrom: &str, i: usize, from: usize| {
        let name = &base.genes[i];
        format!("{chrom}\tx\tgene\t{from}\t{}\t.\t+\t.\tgene_id \"OTHER{i}\"; gene_name \"{name}\";\n", from + 400)
    };
    let alt: String = (0..2).map(|i| elsewhere("CHR_HSCHR6_MHC_APD_CTG1", i, 100)).collect();
    base.put("alt.gtf", alt + &base.gtf(|c| c.to_string()).replace("ENSG", "ID"));
    let (hash, said) = base.prepare("out", &format!("{FILES} --gtf alt.gtf"));
    assert_eq!(hash, base.hash);
    assert!(said.contains("2 names are at several places of the GTF, such as GENE0, GENE1"), "{said}");
    let genes = base.table("out", "genes.tsv");
    assert_eq!(genes[0][1..], ["chr1", "1000000"]);
    assert_eq!(genes[1][1..], ["chr1", "1219999"]);
}

#[test]
fn records_far_apart_are_no_one_gene() {
    let base = Base::new();
    let exon = |chrom: &str, start: usize, end: usize, strand: char, name: &str, transcript: &str| {
        let attributes = format!("gene_id \"{name}\"; transcript_id \"{transcript}\";");
        format!("{chrom}\tx\texon\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n")
    };
    let mut gtf = exon("chr1", 201, 400, '+', "GENE2", "t2_dup1");
    for i in 0..GENES {
        let (chrom, start, end, strand) = gene_place(i);
        let (name, transcript) = (&base.genes[i], format!("t{i}"));
        gtf += &exon(chrom, start, start + 99, strand, name, &transcript);
        gtf += &exon(chrom, end - 99, end, strand, name, &transcript);
    }
    gtf += &exon("chr1", 90_000_001, 90_000_500, '+', "GENE0", "t0_dup1");
    base.put("two.gtf", gtf);
    let (hash, said) = base.prepare("out", &format!("{FILES} --gtf two.gtf"));
    assert_eq!(hash, base.hash, "{said}");
    assert!(said.contains("2 names are at several places"), "{said}");
    let genes = base.table("out", "genes.tsv");
    assert_eq!((genes[0][2].as_str(), genes[2][2].as_str()), ("1000000", "1400000"));
}

#[test]
fn chromosomes_by_refseq_and_by_a_table() {
    let base = Base::new();
    base.put("refseq.gtf", base.gtf(|c| format!("NC_00000{}.11", &c[3..])));
    assert_eq!(base.prepare("refseq", &format!("{FILES} --gtf refseq.gtf")).0, base.hash);
    base.put("ctg.gtf", base.gtf(|c| format!("contig{}", &c[3..])));
    base.put("alias.txt", "chr1\tcontig1\nchr2\tcontig2\n");
    refused(&base.try_prepare("no", &format!("{FILES} --gtf ctg.gtf --quiet")), &["contig1", "--aliases"]);
    assert_eq!(base.prepare("alias", &format!("{FILES} --gtf ctg.gtf --aliases alias.txt")).0, base.hash);
    // A table that tells nothing new does no harm.
    base.put("known.txt", "chr1\tNC_000001.11\nchr2\tNC_000002.12\n");
    assert_eq!(base.prepare("known", &format!("{FILES} --gtf refseq.gtf --aliases known.txt")).0, base.hash);
}

#[test]
fn an_annotation_of_another_species_is_refused() {
    let base = Base::new();
    let mouse: String = (0..40)
        .map(|i| {
            format!("1\tx\tgene\t{}\t{}\t.\t+\t.\tgene_id \"ENSMUSG{i:011}\"; gene_name \"Gene{i}x\";\n", i + 1, i + 9)
        })
        .collect();
    let one = base.gtf(|c| c.to_string()).lines().take(2).collect::<Vec<_>>().join("\n");
    base.put("mouse.gtf", format!("{mouse}{one}\n"));
    let words = format!("{FILES} --gtf mouse.gtf");
    refused(
        &base.try_prepare("out", &words),
        &["only 2 of the 20 genes", "look human", "looks mouse", "--force-annotation"],
    );
    let (_, said) = base.prepare("forced", &format!("{words} --force-annotation"));
    assert!(said.contains("genes in the GTF: 2 of 20"), "{said}");
}

/// Peaks of one build, an annotation of another: starts are moved by some hundred kb, as they are between builds.
#[test]
fn an_annotation_of_another_build_is_warned_of() {
    const N: usize = 200;
    let mut base = Base::new();
    base.genes = (0..N).map(|i| format!("GENE{i}")).collect();
    base.ids = (0..N).map(|i| format!("ENSG{:011}", i + 1)).collect();
    let tss = |i: usize| 1_000_000 + 300_000 * i;
    // Half of the peaks are at promoters, half anywhere.
    let at = |i: usize| if i < N { tss(i) - 200 } else { 900_000 + 137_000 * (i - N) };
    base.peaks = (0..2 * N).map(|i| format!("chr1:{}-{}", at(i), at(i) + 400)).collect();
    let open = |cols: usize, by: usize| -> Vec<Vec<f32>> {
        (0..CELLS).map(|c| (0..cols).map(|j| f32::from(u8::from((c * by + j) % 7 < 2))).collect()).collect()
    };
    (base.rna, base.atac) = (open(N, 3), open(2 * N, 5));
    base.write_rna("rna.h5ad", &base.barcodes, true);
    base.write_atac("atac.h5ad", &base.barcodes, &base.peaks);
    let gtf = |moved: &dyn Fn(usize) -> usize| -> String {
        let line = |i: usize| {
            let start = tss(i) + moved(i) + 1;
            let (id, name) = (&base.ids[i], &base.genes[i]);
            format!("chr1\tx\tgene\t{start}\t{}\t.\t+\t.\tgene_id \"{id}\"; gene_name \"{name}\";\n", start + 5000)
        };
        (0..N).map(line).collect()
    };
    base.put("same.gtf", gtf(&|_| 0));
    base.put("other.gtf", gtf(&|i| 40_000 + 13_000 * (i / 20)));
    let share = |name: &str| {
        let text = std::fs::read_to_string(base.at(name).join("dataset.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["origin"]["promoters"]["near"].as_f64().unwrap()
    };
    let (_, said) = base.prepare("same", &format!("{FILES} --gtf same.gtf"));
    assert!(!said.contains("one build") && said.contains("TSS with a peak within 1 kb: 1.000 of 200"), "{said}");
    assert_eq!(share("same"), 1.0);
    let (_, said) = base.prepare("other", &format!("{FILES} --gtf other.gtf"));
    assert!(said.contains("warning: peaks are near") && said.contains("one build of the genome"), "{said}");
    assert!(share("other") < 0.05, "{}", share("other"));
}

#[test]
fn intervals_of_10x_stand_for_starts_where_they_are_narrow() {
    let base = Base::new();
    let features = |width: usize| -> String {
        let gene = |i: usize| {
            let (chrom, start, end, strand) = gene_place(i);
            let tss = if strand == '+' { start - 1 } else { end - 1 };
            let (id, name) = (&base.ids[i], &base.genes[i]);
            format!("{id}\t{name}\tGene Expression\t{chrom}\t{tss}\t{}\n", tss + width)
        };
        let peak = |i: usize| {
            let (chrom, start, end) = peak_place(i);
            let name = &base.peaks[i];
            format!("{name}\t{name}\tPeaks\t{chrom}\t{start}\t{end}\n")
        };
        (0..GENES).map(gene).chain((0..PEAKS).map(peak)).collect()
    };
    let barcodes = base.barcodes.join("\n");
    for (dir, width) in [("narrow", 1), ("wide", 20_000)] {
        let names = (("features.tsv.gz", features(width)), ("barcodes.tsv.gz", barcodes.clone()));
        folder(&base, dir, ("matrix.mtx.gz", base.mtx("integer")), names.0, names.1);
    }
    assert_eq!(base.prepare("n", "--tenx narrow --obs cells.csv").0, base.hash);
    // Pairs of one chromosome within 500 kb, counted one by one.
    let mut pairs = 0;
    for g in 0..GENES {
        let (chrom, start, end, strand) = gene_place(g);
        let tss = if strand == '+' { start - 1 } else { end - 1 } as f64;
        let near = |p: &(&str, usize, usize)| p.0 == chrom && ((p.1 + p.2) as f64 / 2.0 - tss).abs() <= 500_000.0;
        pairs += (0..PEAKS).map(peak_place).filter(near).count();
    }
    let out = run(base.dir.path(), &["discover", "--data", "n", "--out", "l", "--window", "500kb", "--json"]);
    assert!(out.status.success(), "{}", text(&out));
    let rows = |file: &str| std::fs::read_to_string(base.at("l").join(file)).map_or(0, |t| t.lines().count() - 1);
    assert_eq!(rows("links.tsv") + rows("links-untested.tsv"), pairs);
    // Too wide to tell: no link can come of it, and that is said before anything is begun.
    base.prepare("w", "--tenx wide --obs cells.csv");
    let out = run(base.dir.path(), &["discover", "--data", "w", "--out", "none"]);
    refused(&out, &["there can be no links", "no gene has a TSS", "--gtf"]);
    assert!(!base.at("none").exists());
}
