//! Fragments of ATAC as 10x and others write them: chromosome, start, end, barcode, reads; compressed in blocks (bgzip), with
//! an index of tabix beside it, by which the part of a chromosome is read alone.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use noodles_bgzf::VirtualPosition;
use noodles_bgzf::io::Reader;
use noodles_core::Position;
use noodles_core::region::Interval;
use noodles_csi::binning_index::{BinningIndex, Index, index::reference_sequence::index as kinds};
use noodles_csi::io::Query;

use super::chromosomes::chrom_key;
use crate::error::{Error, Result};

/// Bytes of a line, beyond which it is no fragment.
const LINE: u64 = 4096;

/// The index beside a file of fragments.
enum Indexed {
    Tabix(Index<kinds::LinearIndex>),
    Csi(Index<kinds::BinnedIndex>),
}

impl Indexed {
    fn as_index(&self) -> &dyn BinningIndex {
        match self {
            Indexed::Tabix(i) => i,
            Indexed::Csi(i) => i,
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// In words how the index is made.
fn command(path: &Path) -> String {
    format!("make it with: tabix -p bed {}", path.display())
}

fn read_index(path: &Path) -> Result<Indexed> {
    let (tbi, csi) = (beside(path, ".tbi"), beside(path, ".csi"));
    let bad = |at: &Path, e: io::Error| Error::input(at, format!("is no index ({e})"), command(path));
    if tbi.exists() {
        return noodles_tabix::fs::read(&tbi).map(Indexed::Tabix).map_err(|e| bad(&tbi, e));
    }
    if csi.exists() {
        return noodles_csi::fs::read(&csi).map(Indexed::Csi).map_err(|e| bad(&csi, e));
    }
    Err(Error::input(path, "has no index (.tbi) beside it", command(path)))
}

/// Is there a block where an index says so, as long as it says? One of another file may lead anywhere.
fn check_block(file: &File, at: VirtualPosition) -> io::Result<()> {
    let (block, inside) = (at.compressed(), u32::from(at.uncompressed()));
    if file.metadata()?.len() == block && inside == 0 {
        return Ok(()); // the end
    }
    let mut head = [0u8; 18];
    file.read_exact_at(&mut head, block)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("no block at byte {block}"));
    if head[..4] != [0x1f, 0x8b, 8, 4] || head[12..14] != *b"BC" {
        return Err(bad());
    }
    let bytes = u64::from(u16::from_le_bytes([head[16], head[17]])) + 1;
    let mut length = [0u8; 4];
    file.read_exact_at(&mut length, (block + bytes).checked_sub(4).ok_or_else(bad)?)?;
    if inside <= u32::from_le_bytes(length) { Ok(()) } else { Err(bad()) }
}

/// Calls `each` with start, end (0-based, half-open) and barcode of every fragment that touches `start..end` of a
/// chromosome, which may be called with or without `chr`; none where the file knows no such chromosome.
///
/// # Errors
/// [`Error::Input`] where there is no index (the message names the command that makes it), where the file is not compressed
/// in blocks, or not of fragments; [`Error::Io`].
pub fn fragments_in(
    path: &Path,
    chrom: &str,
    (start, end): (i64, i64),
    each: &mut dyn FnMut(i64, i64, &str),
) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
    let index = read_index(path)?;
    let index = index.as_index();
    let names = index.header().map(|h| h.reference_sequence_names());
    let same = |name: &[u8]| std::str::from_utf8(name).is_ok_and(|n| chrom_key(n) == chrom_key(chrom));
    let Some(id) = names.and_then(|n| n.iter().position(|name| same(name.as_ref()))) else { return Ok(()) };
    let place = |x: i64| Position::try_from(usize::try_from(x).unwrap_or(0).max(1)).unwrap_or(Position::MIN);
    let interval = Interval::from(place(start + 1)..=place(end));
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => Error::input(
            path,
            format!("is not compressed in blocks, or its index is of another file ({e})"),
            "pack it with bgzip (not gzip), and index it with: tabix -p bed FILE",
        ),
        _ => Error::io(path, "read", e),
    };
    let chunks = index.query(id, interval).map_err(failed)?;
    chunks.iter().try_for_each(|c| check_block(&file, c.start())).map_err(failed)?;
    let mut reader = Reader::new(file);
    let mut query = Query::new(&mut reader, chunks);
    let mut line = Vec::new();
    loop {
        line.clear();
        if query.by_ref().take(LINE).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(());
        }
        let text = std::str::from_utf8(&line).unwrap_or("").trim_end();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let mut fields = text.split('\t');
        let fragment = (|| {
            let chrom = fields.next()?;
            let (from, to) = (fields.next()?.parse::<i64>().ok()?, fields.next()?.parse::<i64>().ok()?);
            Some((chrom, from, to, fields.next()?))
        })();
        let Some((name, from, to, barcode)) = fragment else {
            let what = format!("{text:.60?} is no fragment");
            return Err(Error::input(path, what, "give the fragments.tsv.gz of Cell Ranger: place, barcode, reads"));
        };
        if same(name.as_bytes()) && from < end && to > start {
            each(from, to, barcode);
        }
    }
}
