//! Global heaps of an HDF5 file, in which its text of variable length lies, looked at before the HDF5 library does.
//!
//! A heap is a chain of objects, each of which tells how far it is to the next. The library follows it without asking
//! whether it moves on: one damaged byte, and it never comes back. A file is therefore scanned once, as a stream, for
//! heaps of that kind. They may also be the remains of deleted text, which nothing refers to, so that such a file is
//! not refused: it is opened as a copy in which these heaps are marked, and whoever follows a reference into one gets
//! an error.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::progress::Progress;

/// Signature and version of a heap.
const MARK: &[u8; 8] = b"GCOL\x01\0\0\0";
/// Bytes of the head of a heap, and of an object.
const HEAD: u64 = 16;
/// Bytes read at a time.
const BLOCK: usize = 1 << 20;

/// Places of the heaps in a file of `length` bytes whose chain of objects stands still.
pub(super) fn endless(path: &Path, file: &mut File, length: u64, progress: &dyn Progress) -> Result<Vec<u64>> {
    let io = |e| Error::io(path, "read", e);
    let mut found = Vec::new();
    let mut block = vec![0; BLOCK.min(length as usize)];
    // Bytes at the front of `block` that the block before ended in, and the place of the first of them.
    let (mut kept, mut at) = (0, 0u64);
    loop {
        progress.check("nothing was written")?;
        let n = match file.read(&mut block[kept..]) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(io(e)),
        };
        let there = kept + n;
        if n == 0 {
            break;
        }
        found.extend(memchr::memmem::find_iter(&block[..there], MARK).map(|i| at + i as u64));
        kept = there.min(MARK.len() - 1);
        block.copy_within(there - kept..there, 0);
        at += (there - kept) as u64;
    }
    let mut still = Vec::new();
    for heap in found {
        if stands_still(file, heap, length).map_err(io)? {
            still.push(heap);
        }
    }
    Ok(still)
}

/// Follows the chain as the library does. What it refuses by itself is left to it.
fn stands_still(file: &mut File, heap: u64, length: u64) -> std::io::Result<bool> {
    let mut word = [0; 8];
    if heap + HEAD > length {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(heap + 8))?;
    file.read_exact(&mut word)?;
    let size = u64::from_le_bytes(word);
    if size > length - heap {
        return Ok(false);
    }
    // Almost all heaps have 4 KiB; the chain of a long one is read object by object.
    let mut bytes = Vec::new();
    if size <= BLOCK as u64 {
        file.seek(SeekFrom::Start(heap))?;
        Read::by_ref(file).take(size).read_to_end(&mut bytes)?;
    }
    let mut at = HEAD;
    while at + HEAD <= size {
        let mut head = [0; HEAD as usize];
        match bytes.get(at as usize..(at + HEAD) as usize) {
            Some(there) => head.copy_from_slice(there),
            None => {
                file.seek(SeekFrom::Start(heap + at))?;
                file.read_exact(&mut head)?;
            }
        }
        word.copy_from_slice(&head[8..]);
        let long = u64::from_le_bytes(word);
        // Object 0 is the free space: its length counts its own head and is not rounded.
        let step = match u16::from_le_bytes([head[0], head[1]]) {
            0 => long,
            _ => (long.wrapping_add(7) & !7).wrapping_add(HEAD),
        };
        if step == 0 {
            return Ok(true);
        }
        if step > size - at {
            return Ok(false);
        }
        at += step;
    }
    Ok(false)
}

/// A copy of a file that goes when this goes.
pub(super) struct MarkedCopy(PathBuf);

impl MarkedCopy {
    /// The copy, the `heaps` in it marked as of an unknown version. It lies where temporary files do.
    pub(super) fn new(path: &Path, file: &mut File, heaps: &[u64]) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let at = std::env::temp_dir().join(format!("sccrossrec-{}-{number}.h5", std::process::id()));
        let failed = |e: std::io::Error| {
            Error::input(
                path,
                format!(
                    "the heap of text at byte {} is damaged, and no copy to read the rest from could be made ({e})",
                    heaps.first().copied().unwrap_or(0)
                ),
                "make or fetch it again",
            )
        };
        let mut out = File::options().write(true).create_new(true).open(&at).map_err(failed)?;
        let copy = MarkedCopy(at);
        file.seek(SeekFrom::Start(0)).and_then(|_| std::io::copy(file, &mut out)).map_err(failed)?;
        for heap in heaps {
            out.seek(SeekFrom::Start(heap + 4)).and_then(|_| out.write_all(&[u8::MAX])).map_err(failed)?;
        }
        Ok(copy)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MarkedCopy {
    fn drop(&mut self) {
        // HDF5 holds it open; and nothing can be done about one that does not go away.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A heap of `size` bytes with these objects: number, length.
    fn heap(size: u64, objects: &[(u16, u64)]) -> Vec<u8> {
        let mut bytes = MARK.to_vec();
        bytes.extend(size.to_le_bytes());
        for &(number, long) in objects {
            bytes.extend(number.to_le_bytes());
            bytes.extend([1, 0, 0, 0, 0, 0]);
            bytes.extend(long.to_le_bytes());
            if number > 0 && long < size {
                bytes.resize(bytes.len() + long.next_multiple_of(8) as usize, b'x');
            }
        }
        bytes.resize(bytes.len().max(size as usize), 0);
        bytes
    }

    fn scan(bytes: &[u8]) -> Vec<u64> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.h5");
        std::fs::write(&path, bytes).unwrap();
        endless(&path, &mut File::open(&path).unwrap(), bytes.len() as u64, &()).unwrap()
    }

    #[test]
    fn a_chain_that_stands_still_is_found_wherever_it_lies() {
        let good = heap(4096, &[(1, 5), (2, 16), (0, 4096 - 16 - 24 - 32)]);
        assert_eq!(scan(&good), [0; 0]);
        let free = heap(4096, &[(1, 5), (0, 0)]);
        let wraps = heap(4096, &[(1, u64::MAX - 15)]); // 16 more is 0
        for bad in [&free, &wraps] {
            // On both sides of the end of a block, too, and in one that is longer than a block.
            for before in [0, 3, BLOCK - 4096, BLOCK - 7, BLOCK - 4, BLOCK, 2 * BLOCK - 5] {
                let bytes = [vec![7; before], bad.clone(), good.clone()].concat();
                assert_eq!(scan(&bytes), [before as u64]);
            }
        }
        let long = 3 * BLOCK as u64;
        assert_eq!(scan(&heap(long, &[(1, 2 * BLOCK as u64), (0, 0)])), [0]);
        assert_eq!(scan(&heap(long, &[(1, 2 * BLOCK as u64), (0, long - 32 - 2 * BLOCK as u64)])), [0; 0]);
    }

    #[test]
    fn what_the_library_refuses_is_left_to_it() {
        for bytes in [
            vec![],
            MARK.to_vec(),
            [MARK.as_slice(), &[u8::MAX; 8]].concat(),
            heap(4096, &[(1, 5), (0, 0)])[..4000].to_vec(), // cut off
            heap(4096, &[(1, 5000)]),
            heap(4096, &[(0, u64::MAX)]),
            heap(16, &[]),
            heap(0, &[(0, 0)]),
        ] {
            assert_eq!(scan(&bytes), [0; 0]);
        }
    }
}
