//! The program's own parsers, each fed with whatever bytes one likes: shared by a test that changes good files at random and
//! by the targets in `fuzz/`.
#![allow(dead_code)] // each program uses its own part

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sccrossrec::data::anndata::{Axis, Streaming};
use sccrossrec::data::cells::CellTable;
use sccrossrec::data::chromosomes::Aliases;
use sccrossrec::data::fasta::read_peak_sequences;
use sccrossrec::data::genome::Genome;
use sccrossrec::data::gtf::Gtf;
use sccrossrec::data::region::{Region, parse_region};
use sccrossrec::data::source;
use sccrossrec::dataset::{DataSet, decode_row};
use sccrossrec::discover::tf::{TfFile, TfTrack};
use sccrossrec::discover::{DiscoverOptions, DiscoveryFolder, Source, Truth, discover};
use sccrossrec::model::ModelConfig;
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::rng::Rng;
use sccrossrec::simulate::{SimulateConfig, Simulation};
use sccrossrec::train::weights::{Constants, Imported};
use sccrossrec::train::{Checkpoint, Run, TrainConfig, recipe, tensors as checkpoint, train};
use sccrossrec::vocabulary::Vocabulary;
use sccrossrec::{Error, Result};

/// A parser and the file it is given.
pub struct Parser {
    pub name: &'static str,
    /// The file, in the parser's own folder.
    pub file: &'static str,
    /// Other files count as well, so that a message may name the folder or one of those.
    group: bool,
    read: fn(&Files, &Path) -> Result<()>,
}

const fn alone(name: &'static str, file: &'static str, read: fn(&Files, &Path) -> Result<()>) -> Parser {
    Parser { name, file, group: false, read }
}

const fn of_a_group(name: &'static str, file: &'static str, read: fn(&Files, &Path) -> Result<()>) -> Parser {
    Parser { name, file, group: true, read }
}

pub const PARSERS: &[Parser] = &[
    alone("gtf", "genes.gtf", |_, p| Gtf::read(p).map(|g| assert!(!g.is_empty()))),
    alone("fasta", "peaks.fa", |f, p| {
        read_peak_sequences(p, &f.peaks, BASES).map(|s| assert_eq!(s.codes.len(), f.peaks.len() * BASES))
    }),
    of_a_group("genome", "genome.fa", genome),
    of_a_group("genome-bgzip", "genome.fa.gz", genome),
    of_a_group("fai", "genome.fa.fai", |f, p| genome(f, &p.with_extension(""))),
    alone("aliases", "aliases.tsv", |_, p| Aliases::read(p).map(|a| drop(a.key("chr1").into_owned()))),
    alone("cells", "cells.csv", |_, p| CellTable::read(p).map(|t| assert!(!t.columns().is_empty()))),
    of_a_group("matrix", "matrix.mtx", matrix_market),
    of_a_group("features", "features.tsv", matrix_market),
    of_a_group("barcodes", "barcodes.tsv", matrix_market),
    alone("links", "links.tsv", |f, p| {
        let found = Truth::read(p, &f.vocabulary)?;
        let (genes, peaks) = (f.vocabulary.genes.len(), f.vocabulary.peaks.len());
        let pairs = found.links.iter().chain(found.tested.iter().flatten());
        assert!(pairs.into_iter().all(|&(g, p)| (g as usize) < genes && (p as usize) < peaks));
        Ok(())
    }),
    alone("bed", "motif.bed", binding),
    alone("narrow-peak", "motif.narrowPeak", binding),
    alone("region", "name.txt", |_, p| {
        if let Some(r) = parse_region(&String::from_utf8_lossy(&std::fs::read(p).unwrap())) {
            assert!(0 <= r.start && r.start < r.end && !r.chrom.is_empty());
        }
        Ok(())
    }),
    alone("row", "row.bin", row),
    of_a_group("manifest", "dataset.json", data_set),
    of_a_group("samples", "samples/default", data_set),
    of_a_group("shard", "shards/00000.shard", data_set),
    alone("checkpoint", "a.safetensors", |_, p| {
        checkpoint::TensorFile::read(p)
            .map(|c| assert!(c.tensors.values().all(|t| t.values.len() == t.shape.iter().product::<usize>())))
    }),
    alone("weights", "a.safetensors", |f, p| {
        Imported::read(p, &f.data, &Constants::default()).map(|w| assert!(w.config().hidden > 0))
    }),
    of_a_group("run", "run.json", run),
    of_a_group("run-names", "genes.txt", run),
    of_a_group("run-log", "log.jsonl", |_, p| sccrossrec::train::log::log(&Run::open(folder(p))?).map(drop)),
    of_a_group("run-weights", "checkpoints/best.safetensors", run),
    of_a_group("discovery", "discover.json", found),
    of_a_group("discovery-genes", "genes.tsv", found),
    of_a_group("discovery-links", "links.tsv", found),
    of_a_group("discovery-type", "links/type1.tsv", found),
    of_a_group("discovery-attention", "attention.tsv", found),
    of_a_group("discovery-tracks", "attention-peaks.tsv", found),
];

/// Name of a folder with the number of its process.
const PREFIX: &str = "sccrossrec-parsers-";

/// Bases of a peak that are read.
const BASES: usize = 20;

fn folder(file: &Path) -> &Path {
    file.parent().unwrap()
}

fn genome(f: &Files, path: &Path) -> Result<()> {
    let mut genome = Genome::open(path, Aliases::default(), &())?;
    genome.peak_sequences(&f.places, BASES, &()).map(|s| assert_eq!(s.bases.len(), f.places.len() * BASES))
}

fn matrix_market(f: &Files, path: &Path) -> Result<()> {
    let all = source::everything(folder(path), &())?;
    let (obs, var) = (all.names(Axis::Obs)?, all.names(Axis::Var)?);
    for name in all.columns(Axis::Var)? {
        assert_eq!(all.column(Axis::Var, &name)?.unwrap().len(), var.len());
    }
    all.matrix(None, "--layer")?.for_each_block(Streaming::default(), &f.scratch, &obs, &var, |block| {
        assert!(block.values.iter().all(|v| v.is_finite() && *v > 0.0));
        Ok(())
    })
}

fn binding(f: &Files, path: &Path) -> Result<()> {
    let track = TfTrack::read(&TfFile { path: path.into(), column: None }, &f.vocabulary)?;
    assert!(track.scores.len() == f.vocabulary.peaks.len() && track.scores.iter().all(|x| x.is_finite()));
    Ok(())
}

/// Number of entries, size of the vocabulary and whether values are stored; then a row.
fn row(_: &Files, path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).unwrap();
    let Some((head, row)) = bytes.split_first_chunk::<5>() else { return Ok(()) };
    let (n, size) = (u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
    let (n, stored) = (usize::from(n), head[4] & 1 == 1);
    let (index, values) =
        decode_row(row, n, size.into(), stored).map_err(|e| Error::input(path, e, "make it again"))?;
    assert!(index.len() == n && values.len() == if stored { n } else { 0 });
    assert!(index.is_sorted_by(|a, b| a < b) && index.last().is_none_or(|&k| k < size.into()));
    assert!(values.iter().all(|v| v.is_finite() && *v > 0.0));
    Ok(())
}

fn data_set(_: &Files, path: &Path) -> Result<()> {
    let dir = path.ancestors().find(|d| d.join("dataset.json").exists()).unwrap();
    let data = DataSet::open(dir)?;
    let set = data.samples("default")?;
    data.batch(&set, &set.train).validate(&data.features())
}

fn run(f: &Files, path: &Path) -> Result<()> {
    let dir = path.ancestors().find(|d| d.join("run.json").exists()).unwrap();
    Run::open(dir)?.model(&f.data, Checkpoint::Best).map(drop)
}

fn found(_: &Files, path: &Path) -> Result<()> {
    let dir = path.ancestors().find(|d| d.join("discover.json").exists()).unwrap();
    let found = DiscoveryFolder::open(dir)?;
    let of_attention = found.made.attention.iter().map(|_| Source::Attention);
    for source in [Source::Links].into_iter().chain(of_attention) {
        for i in 0..found.maps_of(source)?.len() {
            found.links(source, i)?;
            assert_eq!(found.peak_track(source, i)?.len(), found.vocabulary.peaks.len());
        }
    }
    assert_eq!(found.peak_places().len(), found.vocabulary.peaks.len());
    Ok(())
}

/// Good files for all of them, made once.
pub struct Files {
    dir: tempfile::TempDir,
    scratch: PathBuf,
    vocabulary: Vocabulary,
    peaks: Vec<Option<Region>>,
    /// Places near the starts of chromosomes, where the genome of these tests has bases.
    places: Vec<Option<Region>>,
    data: DataSet,
    good: HashMap<&'static str, Vec<u8>>,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { std::fs::copy(&path, &target).map(drop).unwrap() }
    }
}

impl Files {
    pub fn new() -> Files {
        // In memory where that can be: each file is written thousands of times.
        let shm = Path::new("/dev/shm");
        let root = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
        // What lives as long as a process is never dropped: the folders of those that have ended go here.
        for entry in std::fs::read_dir(&root).unwrap().flatten() {
            let name = entry.file_name();
            let process = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.split('-').next());
            if process.is_some_and(|p| Path::new("/proc/self").exists() && !Path::new("/proc").join(p).exists()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(root).unwrap();
        let d = dir.path();
        let config =
            SimulateConfig { cells: 90, genes: 8, peaks: 24, chromosomes: 2, cell_types: 3, ..Default::default() };
        let made = Simulation::new(config).unwrap().write(d, &()).unwrap();
        prepare(&PrepareConfig::new(&made.rna, &made.atac), &d.join("data"), &()).unwrap();
        let data = DataSet::open(&d.join("data")).unwrap();
        let base = recipe("default").unwrap();
        let model = ModelConfig { hidden: 8, embedding_dim: 4, ..base.model };
        let small = TrainConfig { epochs: 1, model, batch_size: 32, ..base };
        train(&data, &data.samples("default").unwrap(), &small, &d.join("run"), &mut ()).unwrap();
        let model = Run::open(&d.join("run")).unwrap().model(&data, Checkpoint::Best).unwrap();
        std::fs::create_dir(d.join("found")).unwrap();
        let options = DiscoverOptions { min_type_cells: 15, ..DiscoverOptions::default() };
        discover(&model, &data, &options, &d.join("found"), &()).unwrap();
        let vocabulary = data.vocabulary().clone();
        let peaks: Vec<_> = vocabulary.peaks.iter().map(|p| parse_region(&p.name)).collect();
        let scratch = d.join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let at = |chrom: &String, start: i64| Some(Region { chrom: chrom.clone(), start, end: start + 30 });
        let places = vocabulary.chromosomes.iter().flat_map(|c| [at(c, 0), at(c, 55), at(c, 280)]).collect();
        let mut files = Files { dir, scratch, vocabulary, peaks, places, data, good: HashMap::new() };
        for p in PARSERS {
            files.fill(p);
            files.good.insert(p.name, std::fs::read(files.path(p)).unwrap());
        }
        files
    }

    /// The file that a parser reads.
    pub fn path(&self, p: &Parser) -> PathBuf {
        self.folder(p).join(p.file)
    }

    /// The folder of a parser.
    fn folder(&self, p: &Parser) -> PathBuf {
        self.dir.path().join("parsers").join(p.name)
    }

    /// Makes the folder of a parser.
    fn fill(&self, p: &Parser) {
        let d = self.dir.path();
        let path = self.path(p);
        std::fs::create_dir_all(folder(&path)).unwrap();
        let put = |name: &str, text: &str| std::fs::write(path.with_file_name(name), text).unwrap();
        let take = |from: &str| std::fs::copy(d.join(from), &path).map(drop).unwrap();
        let chromosomes = &self.vocabulary.chromosomes;
        match p.name {
            "gtf" => take("genes.gtf"),
            "fasta" => take("peaks.fa"),
            "genome" | "fai" | "genome-bgzip" => {
                let bases = |k: usize| "ACGTTGCANN".repeat(30 + 7 * k);
                let line = |text: String| {
                    text.as_bytes().chunks(60).map(|l| format!("{}\n", str::from_utf8(l).unwrap())).collect::<String>()
                };
                let text: String =
                    chromosomes.iter().enumerate().map(|(k, c)| format!(">{c} x\n{}", line(bases(k)))).collect();
                if p.name == "genome-bgzip" {
                    let mut out = noodles_bgzf::io::Writer::new(Vec::new());
                    std::io::Write::write_all(&mut out, text.as_bytes()).unwrap();
                    std::fs::write(&path, out.finish().unwrap()).unwrap();
                } else {
                    put("genome.fa", &text);
                    if p.name == "fai" {
                        Genome::open(&path.with_file_name("genome.fa"), Aliases::default(), &()).unwrap();
                        assert!(path.exists(), "an index was made");
                    }
                }
            }
            "aliases" => put(p.file, "# UCSC\tRefSeq\nchr1\tNC_000001.11\nchr2\tNC_000002.12,2\tensembl\nx\ty\tz\tw\n"),
            "cells" => put(p.file, "barcode,cell_type,donor\na-1,\"T, naive\",d1\nb-1,B,\"d \"\"2\"\"\"\nc-1,,d3\n"),
            "matrix" | "features" | "barcodes" => {
                let head = "%%MatrixMarket matrix coordinate real general\n% x\n3 2 4\n";
                put("matrix.mtx", &format!("{head}1 1 3\n3 1 2.5\n2 2 1e0\n1 2 7\n"));
                put(
                    "features.tsv",
                    "E1\tA\tGene Expression\tchr1\t5\t9\nE2\tB\tGene Expression\t\t\t\nchr1:5-9\tchr1:5-9\tPeaks\tchr1\t5\t9\n",
                );
                put("barcodes.tsv", "AAAC-1\nAAAG-1\n");
            }
            "links" => take("truth.tsv"),
            // Without its column of scores, which are all 0.
            "bed" => {
                let text = std::fs::read_to_string(d.join("motifs.bed")).unwrap();
                let short = |l: &str| l.split('\t').take(4).collect::<Vec<_>>().join("\t") + "\n";
                put(p.file, &text.lines().map(short).collect::<String>());
            }
            "narrow-peak" => {
                let row = |p: &sccrossrec::vocabulary::Peak| {
                    let chrom = &chromosomes[p.chrom as usize];
                    format!("{chrom}\t{}\t{}\tx\t500\t.\t{}.5\t-1\t3.2\t10\n", p.start, p.end, p.start % 7)
                };
                put(p.file, &self.vocabulary.peaks.iter().map(row).collect::<String>());
            }
            "region" => put(p.file, "chr1_KI270706v1_random:100-2000"),
            // Three gaps of 9 bits and three whole numbers of 2 bits, by hand.
            "row" => std::fs::write(&path, [3, 0, 0, 4, 1, 9, 5, 16, 64, 1, 0, 2, 0x27]).unwrap(),
            "manifest" | "samples" | "shard" => {
                copy(&d.join("data"), &self.folder(p));
            }
            "checkpoint" | "weights" => take("run/checkpoints/best.safetensors"),
            "run" | "run-names" | "run-log" | "run-weights" => {
                copy(&d.join("run"), &self.folder(p));
            }
            name if name.starts_with("discovery") => {
                copy(&d.join("found"), &self.folder(p));
                let record = std::fs::read_to_string(self.folder(p).join("discover.json")).unwrap();
                let record: serde_json::Value = serde_json::from_str(&record).unwrap();
                let at = match name {
                    "discovery-links" => &record["links"]["file"],
                    "discovery-type" => &record["links"]["cell_types"][0]["file"],
                    "discovery-attention" => &record["attention"]["all"]["file"],
                    _ => return,
                };
                assert!(at == p.file, "{} lies in {at}", p.file);
            }
            other => panic!("no files for {other}"),
        }
    }

    /// What the parser reads when nothing was changed.
    pub fn good(&self, p: &Parser) -> Vec<u8> {
        self.good[p.name].clone()
    }

    /// Gives these bytes to a parser, and checks what it says of them. Was anything wrong with them?
    pub fn feed(&self, p: &Parser, bytes: &[u8]) -> Result<()> {
        let path = self.path(p);
        std::fs::write(&path, bytes).unwrap();
        if p.name.starts_with("genome") {
            // Made by the run before, for other bytes.
            let mut index = path.clone().into_os_string();
            index.push(".fai");
            let _ = std::fs::remove_file(index);
        }
        let result = (p.read)(self, &path);
        if let Err(e) = &result {
            let text = e.to_string();
            let mut named = text.contains(if p.group { self.folder(p) } else { path }.to_str().unwrap());
            // Names of a run that are not those of the data: either may be at fault.
            named |= p.name.starts_with("run") && text.contains(self.data.dir().to_str().unwrap());
            assert!(e.exit_code() == 2 && named && text.lines().count() == 1, "{}: {text}", p.name);
        }
        result
    }
}

/// What is put in the place of text: numbers at the ends of what numbers can be, and what is no number and no text.
const WORDS: &[&[u8]] = &[
    b"-1",
    b"0",
    b"1",
    b"65536",
    b"2147483648",
    b"4294967295",
    b"9223372036854775807",
    b"18446744073709551615",
    b"99999999999999999999999",
    b"1e400",
    b"-0.0",
    b"nan",
    b"inf",
    b"\t",
    b"\n",
    b"\r\n",
    b"\0",
    b",",
    b"\"",
    b">",
    b"#",
    b"[[[[[[[[",
    b"{}",
    b"null",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    "é".as_bytes(),
];

/// One to four changes of `bytes`, each of a kind that damage and mistakes have: bits, cuts, repetitions, other numbers.
pub fn change(bytes: &[u8], r: &mut Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..1 + r.below(4) {
        let n = out.len();
        let at = r.below(n + 1);
        let some = |r: &mut Rng| at + r.below((n - at).min(40) + 1);
        match r.below(10) {
            0 => out.truncate(at),
            1 if at < n => out[at] ^= 1 << r.below(8),
            2 if at < n => out[at] = r.below(256) as u8,
            3 => drop(out.drain(at..some(r))),
            4 => {
                let again = out[at..some(r)].to_vec();
                out.splice(at..at, again);
            }
            5 => {
                let end = some(r);
                out.splice(at..end, WORDS[r.below(WORDS.len())].iter().copied());
            }
            6 => {
                // The whole of a word, or of a field.
                let apart = |b: u8| b.is_ascii_whitespace() || b",:\"-_".contains(&b);
                let start = out[..at].iter().rposition(|&b| apart(b)).map_or(0, |i| i + 1);
                let end = out[at..].iter().position(|&b| apart(b)).map_or(n, |i| at + i);
                out.splice(start..end, WORDS[r.below(WORDS.len())].iter().copied());
            }
            7 if n >= 8 => {
                let number = [0, 1, 1 << 31, u64::from(u32::MAX), 1 << 40, 1 << 63, u64::MAX, n as u64][r.below(8)];
                let width = [2, 4, 8][r.below(3)];
                let at = r.below(n - width + 1);
                out[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
            8 => {
                let line: Vec<u8> = out[at..].iter().copied().take_while(|&b| b != b'\n').chain([b'\n']).collect();
                out.splice(at..at, line);
            }
            _ => {
                let (a, b) = (r.below(n + 1), r.below(n + 1));
                let piece = out[a.min(b)..a.max(b)].to_vec();
                out.splice(at..at, piece.into_iter().take(300));
            }
        }
    }
    out
}
