//! Random access to a genome FASTA, plain or compressed with bgzip, by its index (`.fai`), which is made where it is
//! not there.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use noodles_bgzf::gzi;
use noodles_bgzf::io::{IndexedReader, Reader};
use noodles_fasta::fai;
use noodles_fasta::io::Indexer;

use super::chromosomes::Aliases;
use super::region::Region;
use crate::error::{Error, Result};
use crate::files::atomic::write_atomic;
use crate::progress::Progress;

/// Bytes up to which it is quicker to read on than to seek.
const READ_ON: u64 = 1 << 16;

/// Text that is read from wherever it is wanted.
trait SeekRead: BufRead + Seek + Send {}
impl<T: BufRead + Seek + Send> SeekRead for T {}

/// A genome FASTA, opened.
pub struct Genome {
    path: PathBuf,
    bytes: Box<dyn SeekRead>,
    /// Place of `bytes`.
    at: u64,
    contigs: Vec<Contig>,
    by_name: HashMap<String, usize>,
    by_key: HashMap<String, usize>,
    aliases: Aliases,
}

/// A record of the FASTA.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contig {
    name: String,
    length: u64,
    position: u64,
    line_bases: u64,
    line_width: u64,
}

impl Contig {
    fn place(&self, base: u64) -> u64 {
        self.position + base / self.line_bases * self.line_width + base % self.line_bases
    }

    /// One past the last base.
    fn end(&self) -> u64 {
        self.length.checked_sub(1).map_or(self.position, |last| self.place(last) + 1)
    }
}

/// Sequences of `P` peaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenomeSequences {
    /// `[P, length]` bases in upper case: the first of each peak, `N` after its end and wherever nothing is known.
    pub bases: Vec<u8>,
    /// Peaks that lie within their chromosome.
    pub whole: usize,
    /// Peaks that reach beyond the end of their chromosome; the rest is `N`.
    pub beyond: usize,
    /// Peaks on a chromosome that the FASTA lacks; all `N`.
    pub no_chromosome: usize,
    /// Peaks without coordinates; all `N`.
    pub no_region: usize,
    /// The chromosomes that the FASTA lacks, in order of appearance.
    pub lacking: Vec<String>,
}

impl Genome {
    /// Opens a FASTA, plain or compressed with bgzip. `PATH.fai` is used where it is there and fits, and written where
    /// it is not there; in a folder that cannot be written to, and beside an index that does not fit, the index is
    /// kept in memory. `progress` gets a line where that happens, and is asked whether to stop while an index is made.
    ///
    /// # Errors
    /// What is no FASTA, is cut short, has records with lines of several lengths, or is compressed with plain gzip;
    /// [`Error::Interrupted`].
    pub fn open(path: &Path, aliases: Aliases, progress: &dyn Progress) -> Result<Self> {
        let read = |e| Error::io(path, "read", e);
        let mut file = File::open(path).map_err(read)?;
        let mut head = Vec::new();
        file.by_ref().take(18).read_to_end(&mut head).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let (blocks, total) = if head.starts_with(&[0x1f, 0x8b]) {
            let (blocks, total) = blocks(path, file)?;
            (Some(blocks), total)
        } else {
            (None, length)
        };
        let open = || -> Result<Box<dyn SeekRead>> {
            let file = BufReader::with_capacity(READ_ON as usize, File::open(path).map_err(read)?);
            Ok(match &blocks {
                None => Box::new(file),
                Some(blocks) => Box::new(IndexedReader::new(file, gzi::Index::from(blocks.clone()))),
            })
        };
        let mut bytes = open()?;
        let mut first = Vec::new();
        bytes.by_ref().take(1 << 16).read_until(b'\n', &mut first).map_err(|e| damage(path, e))?;
        let Some(first) = first.strip_prefix(b">") else {
            return Err(Error::input(path, "the first line is no `>` header", "give the genome as FASTA"));
        };
        let first = String::from_utf8_lossy(first.split(u8::is_ascii_whitespace).next().unwrap_or(&[])).into_owned();
        let contigs = contigs(path, total, &first, blocks.is_some(), progress)?;
        let (mut by_name, mut by_key) = (HashMap::new(), HashMap::new());
        for (i, contig) in contigs.iter().enumerate() {
            by_name.entry(contig.name.clone()).or_insert(i);
            by_key.entry(aliases.key(&contig.name).into_owned()).or_insert(i);
        }
        Ok(Genome { path: path.to_path_buf(), bytes: open()?, at: 0, contigs, by_name, by_key, aliases })
    }

    /// Names of its records, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.contigs.iter().map(|c| c.name.as_str())
    }

    /// The first `length` bases of each peak, read chromosome by chromosome. Chromosomes are found by name, else by
    /// [`Aliases::key`]. `progress` is asked meanwhile whether to stop.
    ///
    /// # Errors
    /// No peak found at all (with three names of each side); an index that does not fit the file; [`Error::Interrupted`].
    pub fn peak_sequences(
        &mut self,
        peaks: &[Option<Region>],
        length: usize,
        progress: &dyn Progress,
    ) -> Result<GenomeSequences> {
        let mut out = GenomeSequences {
            bases: vec![b'N'; peaks.len() * length],
            whole: 0,
            beyond: 0,
            no_chromosome: 0,
            no_region: 0,
            lacking: Vec::new(),
        };
        let mut lacking = HashSet::new();
        let mut order: Vec<(usize, u64, usize)> = Vec::new();
        for (i, peak) in peaks.iter().enumerate() {
            let Some(r) = peak else {
                out.no_region += 1;
                continue;
            };
            match self.contig(&r.chrom) {
                Some(c) => order.push((c, u64::try_from(r.start).unwrap_or(0), i)),
                None => {
                    out.no_chromosome += 1;
                    if lacking.insert(r.chrom.as_str()) {
                        out.lacking.push(r.chrom.clone());
                    }
                }
            }
        }
        order.sort_unstable();
        let mut buffer = Vec::new();
        let mut within = 0;
        for (done, &(c, start, i)) in order.iter().enumerate() {
            if done % 1024 == 0 {
                progress.check("nothing was written")?;
            }
            let last = self.contigs[c].length;
            let end = peaks[i].as_ref().map_or(0, |r| u64::try_from(r.end).unwrap_or(0));
            match end <= last {
                true => out.whole += 1,
                false => out.beyond += 1,
            }
            let end = end.min(last).min(start.saturating_add(length as u64));
            if start < end {
                within += 1;
                self.bases(c, start, end, &mut buffer)?;
                out.bases[i * length..][..buffer.len()].copy_from_slice(&buffer);
            }
        }
        if within == 0 && !peaks.is_empty() {
            let shown = |names: &mut dyn Iterator<Item = &str>| {
                let names: Vec<&str> = names.take(3).collect();
                if names.is_empty() { "no coordinates".to_string() } else { names.join(", ") }
            };
            let found = if order.is_empty() {
                format!(
                    "none of the chromosomes of the {} peaks ({}) is in it; it has {}",
                    peaks.len(),
                    shown(&mut out.lacking.iter().map(String::as_str)),
                    shown(&mut self.names())
                )
            } else {
                let places = order.iter().take(3).filter_map(|o| peaks[o.2].as_ref());
                let places: Vec<String> = places.map(|r| format!("{}:{}-{}", r.chrom, r.start, r.end)).collect();
                let mut records: Vec<usize> = order.iter().map(|o| o.0).collect();
                records.dedup(); // sorted
                let ends = records.iter().take(3).map(|&c| &self.contigs[c]);
                let ends: Vec<String> = ends.map(|c| format!("{} has {} bases", c.name, c.length)).collect();
                format!(
                    "none of the {} peaks lies within its records: {} are beyond their ends ({}; {}), {} on others",
                    peaks.len(),
                    order.len(),
                    places.join(", "),
                    ends.join(", "),
                    out.no_chromosome
                )
            };
            return Err(Error::input(&self.path, found, "give the genome on which the peaks were called"));
        }
        Ok(out)
    }

    fn contig(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).or_else(|| self.by_key.get(self.aliases.key(name).as_ref())).copied()
    }

    /// Bases `start..end` of a record, not beyond its end, in upper case.
    fn bases(&mut self, contig: usize, start: u64, end: u64, out: &mut Vec<u8>) -> Result<()> {
        let c = &self.contigs[contig];
        let (from, to) = (c.place(start), c.place(end - 1) + 1);
        let read = |e| damage(&self.path, e);
        if from < self.at || from - self.at > READ_ON {
            self.bytes.seek(SeekFrom::Start(from)).map_err(read)?;
            self.at = from;
        }
        while self.at < from {
            let there = self.bytes.fill_buf().map_err(read)?.len();
            if there == 0 {
                break;
            }
            let step = there.min((from - self.at) as usize);
            self.bytes.consume(step);
            self.at += step as u64;
        }
        out.clear();
        out.resize((to - from) as usize, 0);
        self.bytes.read_exact(out).map_err(read)?;
        self.at = to;
        out.retain(|b| !matches!(b, b'\n' | b'\r'));
        out.make_ascii_uppercase();
        if out.len() as u64 != end - start || !out.iter().all(|b| b.is_ascii_alphabetic() || matches!(b, b'*' | b'-')) {
            return Err(Error::input(
                index_path(&self.path),
                format!("does not fit the FASTA: there are no bases at {}:{start}-{end}", c.name),
                "remove it, and it is made anew",
            ));
        }
        Ok(())
    }
}

/// What went wrong in the sequences: blocks that cannot be unpacked, or the system's own word.
fn damage(path: &Path, e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput | std::io::ErrorKind::UnexpectedEof => {
            Error::input(
                path,
                format!("its sequences cannot be read ({e})"),
                "fetch it, or compress it with bgzip, again",
            )
        }
        _ => Error::io(path, "read", e),
    }
}

/// The path with something appended.
fn index_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".fai");
    PathBuf::from(name)
}

/// The records by `PATH.fai`, which is made where it is not there.
fn contigs(path: &Path, total: u64, first: &str, packed: bool, progress: &dyn Progress) -> Result<Vec<Contig>> {
    let beside = index_path(path);
    let modified = |p: &Path| std::fs::metadata(p).and_then(|m| m.modified()).ok();
    let there = beside.exists();
    if there {
        let why = match fai::fs::read(&beside) {
            Ok(index) => {
                let contigs = checked(&index, total, first);
                match contigs {
                    _ if modified(&beside) < modified(path) => "is older than the FASTA",
                    Some(contigs) => return Ok(contigs),
                    None => "does not fit the FASTA",
                }
            }
            Err(_) => "cannot be read as an index",
        };
        progress.note(&format!(
            "warning: {}: {why}; it is left as it is, and the index is made anew in memory",
            beside.display()
        ));
    }
    let file = BufReader::with_capacity(1 << 20, File::open(path).map_err(|e| Error::io(path, "read", e))?);
    let index = if packed { index(path, Reader::new(file), progress) } else { index(path, file, progress) }?;
    let contigs = checked(&index, total, first).ok_or_else(|| {
        Error::input(path, "has changed while its index was made", "try again when nothing writes to it")
    })?;
    if !there {
        match write_atomic(&beside, |out| fai::io::Writer::new(out).write_index(&index)) {
            Ok(()) => progress.note(&format!("{}: made", beside.display())),
            Err(e) => progress.note(&format!("the index of the genome is kept in memory and not written ({e})")),
        }
    }
    Ok(contigs)
}

/// The records of an index, where it fits a file of `total` bytes that begins with the record `first`.
fn checked(index: &fai::Index, total: u64, first: &str) -> Option<Vec<Contig>> {
    let contigs: Vec<Contig> = index
        .as_ref()
        .iter()
        .map(|r| Contig {
            name: r.name().to_string(),
            length: r.length(),
            position: r.position(),
            line_bases: r.line_base_count().get(),
            line_width: r.line_width().get(),
        })
        .collect();
    let fits = |c: &Contig| {
        let breaks = c.line_width.checked_sub(c.line_bases);
        breaks.is_some_and(|b| b <= 2) && c.length <= total && c.position <= total && c.end() <= total
    };
    let last = contigs.iter().max_by_key(|c| c.position)?;
    let head = contigs.iter().min_by_key(|c| c.position)?;
    // After the last base come the end of the line and perhaps some blank lines.
    let whole = contigs.iter().all(fits) && total - last.end() <= 8 && head.name == first;
    whole.then_some(contigs)
}

fn index(path: &Path, text: impl BufRead, progress: &dyn Progress) -> Result<fai::Index> {
    let mut indexer = Indexer::new(text);
    let mut records = Vec::new();
    loop {
        progress.check("nothing was written")?;
        match indexer.index_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return Ok(fai::Index::from(records)),
            Err(e) => {
                let after =
                    records.last().map_or("its first record".into(), |r| format!("the record after {}", r.name()));
                return Err(Error::input(
                    path,
                    format!("{after} cannot be indexed: {e}"),
                    "all lines of a record but the last must have one length, and no record may be empty",
                ));
            }
        }
    }
}

/// Starts of the blocks of a bgzip file, packed and unpacked, without the first, and its length when unpacked.
fn blocks(path: &Path, mut file: File) -> Result<(Vec<(u64, u64)>, u64)> {
    let io = |e| Error::io(path, "read", e);
    let length = file.metadata().map_err(io)?.len();
    let cut = || Error::input(path, "is cut short or damaged", "fetch it, or compress it with bgzip, again");
    let (mut at, mut total, mut starts) = (0u64, 0u64, Vec::new());
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    file.by_ref().take(18).read_to_end(&mut head).map_err(io)?;
    loop {
        let Some(size) = block_size(&head) else {
            return Err(match at {
                0 => Error::input(
                    path,
                    "is compressed with plain gzip, in which no place can be found",
                    "unpack it (gunzip), or compress it with bgzip",
                ),
                _ => cut(),
            });
        };
        at += size;
        if size < 4 || at > length {
            return Err(cut());
        }
        // The end of this block and the head of the next.
        let mut both = Vec::new();
        file.seek(SeekFrom::Start(at - 4)).map_err(io)?;
        file.by_ref().take(22).read_to_end(&mut both).map_err(io)?;
        let unpacked = both.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or_else(cut)?;
        total += u64::from(unpacked);
        if at == length {
            // bgzip ends a file with an empty block.
            return if unpacked == 0 { Ok((starts, total)) } else { Err(cut()) };
        }
        starts.push((at, total));
        head = both.split_off(4);
    }
}

/// Size of a block by its header; `None` where that is no header of bgzip.
fn block_size(head: &[u8]) -> Option<u64> {
    match head {
        [0x1f, 0x8b, 8, 4, _, _, _, _, _, _, 6, 0, b'B', b'C', 2, 0, low, high] => {
            Some(u64::from(u16::from_le_bytes([*low, *high])) + 1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::region::parse_region;
    use std::io::Write;
    use std::sync::Mutex;

    const TEXT: &str = ">9 dna\nacgtNacgta\nCCCCCGGGGG\nTTT\n>chrUn_KI270706v1\nACGTACGT\n>MT\nAAAA\nCC\n";

    fn peaks(names: &[&str]) -> Vec<Option<Region>> {
        names.iter().map(|n| parse_region(n)).collect()
    }

    /// Keeps the lines of news.
    #[derive(Default)]
    struct Said(Mutex<String>);

    impl Progress for Said {
        fn note(&self, line: &str) {
            *self.0.lock().unwrap() += &format!("{line}\n");
        }
    }

    fn open(path: &Path) -> (Result<Genome>, String) {
        let said = Said::default();
        let genome = Genome::open(path, Aliases::default(), &said);
        (genome, said.0.into_inner().unwrap())
    }

    fn bgzip(path: &Path, text: &str, block: usize) {
        let mut writer = noodles_bgzf::io::Writer::new(File::create(path).unwrap());
        for part in text.as_bytes().chunks(block) {
            writer.write_all(part).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn bases_plain_and_packed() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, packed) = (dir.path().join("a.fa"), dir.path().join("b.fa.gz"));
        std::fs::write(&plain, TEXT).unwrap();
        bgzip(&packed, TEXT, 7);
        let names = ["chr9-8-12", "KI270706.1:0-4", "chrM-3-5", "peak", "9-20-30", "chr9:23-24", "chrX-1-2", "9:0-23"];
        for path in [&plain, &packed] {
            for again in [false, true] {
                let (genome, said) = open(path);
                assert_eq!(said.contains(".fai: made"), !again, "{said}");
                let s = genome.unwrap().peak_sequences(&peaks(&names), 6, &()).unwrap();
                let got: Vec<&str> = s.bases.chunks(6).map(|b| std::str::from_utf8(b).unwrap()).collect();
                let want = ["TACCNN", "ACGTNN", "ACNNNN", "NNNNNN", "TTTNNN", "NNNNNN", "NNNNNN", "ACGTNA"];
                assert_eq!(got, want);
                assert_eq!((s.whole, s.beyond, s.no_chromosome, s.no_region), (4, 2, 1, 1));
                assert_eq!(s.lacking, ["chrX"]);
            }
        }
        let index = std::fs::read_to_string(dir.path().join("a.fa.fai")).unwrap();
        assert_eq!(index, "9\t23\t7\t10\t11\nchrUn_KI270706v1\t8\t51\t8\t9\nMT\t6\t64\t4\t5\n");
        assert_eq!(index, std::fs::read_to_string(dir.path().join("b.fa.gz.fai")).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "nothing else is written");
    }

    #[test]
    fn an_index_that_does_not_fit_is_left_and_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let (path, index) = (dir.path().join("a.fa"), dir.path().join("a.fa.fai"));
        std::fs::write(&path, TEXT).unwrap();
        for (text, why) in [
            ("9\t23\t7\t10\t11\n", "does not fit"),
            ("8\t23\t7\t10\t11\nchrUn_KI270706v1\t8\t51\t8\t9\nMT\t6\t64\t4\t5\n", "does not fit"),
            ("9\t23\t7\t10\t11\nMT\t60\t64\t4\t5\n", "does not fit"),
            ("9\t23\t7\t18446744073709551615\t18446744073709551615\nMT\t6\t64\t4\t9\n", "does not fit"),
            ("9 23\n", "cannot be read"),
        ] {
            std::fs::write(&index, text).unwrap();
            let (genome, said) = open(&path);
            assert!(said.contains(why), "{text}: {said}");
            assert_eq!(std::fs::read_to_string(&index).unwrap(), text);
            let s = genome.unwrap().peak_sequences(&peaks(&["MT-0-6"]), 6, &()).unwrap();
            assert_eq!(s.bases, b"AAAACC");
        }
        // Right in length, wrong inside.
        std::fs::write(&index, "9\t22\t8\t10\t11\nMT\t6\t64\t4\t5\n").unwrap();
        let e = open(&path).0.unwrap().peak_sequences(&peaks(&["9-5-20"]), 20, &()).unwrap_err().to_string();
        assert!(e.contains("a.fa.fai: does not fit") && e.contains("remove it"), "{e}");
        let old = std::time::SystemTime::UNIX_EPOCH;
        File::options().write(true).open(&index).unwrap().set_modified(old).unwrap();
        assert!(open(&path).1.contains("older than the FASTA"));
    }

    #[test]
    fn none_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.fa");
        std::fs::write(&path, TEXT).unwrap();
        let mut genome = open(&path).0.unwrap();
        let e = genome.peak_sequences(&peaks(&["chrA-1-2", "chrB-1-2", "chrA-5-6"]), 4, &()).unwrap_err().to_string();
        assert!(e.contains("3 peaks (chrA, chrB)") && e.contains("9, chrUn_KI270706v1, MT"), "{e}");
        let e = genome.peak_sequences(&peaks(&["chr9-23-25"]), 4, &()).unwrap_err().to_string();
        assert!(e.contains("chr9:23-25") && e.contains("9 has 23 bases"), "{e}");
        assert_eq!(genome.peak_sequences(&[], 4, &()).unwrap().bases, b"");
    }

    #[test]
    fn what_is_no_genome_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.fa");
        let gzip = {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(TEXT.as_bytes()).unwrap();
            out.finish().unwrap()
        };
        bgzip(&path, TEXT, 7);
        let packed = std::fs::read(&path).unwrap();
        let cases: [(&[u8], &str); 8] = [
            (b"", "no `>` header"),
            (b"ACGT\n", "no `>` header"),
            (b">a\nAC\nACG\nA\n", "its first record cannot be indexed"),
            (b">a\nAC\n>b\n>c\nA\n", "the record after a cannot be indexed"),
            (&gzip, "plain gzip"),
            (&packed[..packed.len() - 28], "cut short"),
            (&packed[..100], "cut short"),
            (&[&packed[..], b"tail"].concat(), "cut short"),
        ];
        for (bytes, part) in cases {
            std::fs::write(&path, bytes).unwrap();
            let e = open(&path).0.err().expect(part).to_string();
            assert!(e.contains(part) && e.contains("a.fa") && e.lines().count() == 1, "{part}: {e}");
        }
    }
}
