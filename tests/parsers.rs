//! The program's own parsers against damaged files: never a panic, never long, never much memory, always a line that names
//! the file. Changes are drawn from a seed; those that once did harm lie in `tests/malformed`.
//!
//! `SCCROSSREC_LONG=1` draws twenty-five times as many, `SCCROSSREC_SEED=N` others.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use common::parsers::{Files, PARSERS, Parser, change};
use flate2::Compression;
use flate2::write::GzEncoder;
use sccrossrec::rng::Rng;

/// The system's memory, counted.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn add(n: usize) {
    MOST.fetch_max(NOW.fetch_add(n, Ordering::Relaxed) + n, Ordering::Relaxed);
}

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Most bytes that a parser may have at a time, whatever a file of a few kilobytes says.
const MEMORY: usize = 32 << 20;
/// Longest that it may take.
const TIME: Duration = Duration::from_secs(10);

/// One at a time: memory is counted for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|e| e.into_inner())
}

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(Files::new)
}

/// Ends the process where a parser does not come back.
fn watch() -> &'static AtomicU64 {
    static SINCE: AtomicU64 = AtomicU64::new(0);
    static STARTED: OnceLock<Instant> = OnceLock::new();
    STARTED.get_or_init(|| {
        std::thread::spawn(|| {
            let mut last = (0, Instant::now());
            loop {
                std::thread::sleep(Duration::from_millis(200));
                let now = SINCE.load(Ordering::Relaxed);
                if now != last.0 {
                    last = (now, Instant::now());
                } else if now % 2 == 1 && last.1.elapsed() > TIME {
                    eprintln!("a parser does not come back; what it reads lies at {}", kept().display());
                    std::process::abort();
                }
            }
        });
        Instant::now()
    });
    &SINCE
}

/// Where an input is kept that a parser does not survive.
fn kept() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("sccrossrec-parser-{}", std::process::id()))
}

/// Feeds one input under both limits. Was it read?
fn feed(p: &Parser, bytes: &[u8]) -> bool {
    let ticks = watch();
    ticks.fetch_add(1, Ordering::Relaxed); // odd: at work
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let began = Instant::now();
    let result = std::panic::catch_unwind(|| files().feed(p, bytes).is_ok());
    let (took, most) = (began.elapsed(), MOST.load(Ordering::Relaxed).saturating_sub(before));
    ticks.fetch_add(1, Ordering::Relaxed);
    let keep = || {
        std::fs::write(kept(), bytes).unwrap();
        format!("{}, {} bytes kept at {}", p.name, bytes.len(), kept().display())
    };
    let Ok(read) = result else { panic!("{}", keep()) };
    // What has checksums is read as it was written, or not at all.
    let sealed = ["manifest", "samples", "shard"].contains(&p.name);
    assert!(!(read && sealed) || bytes == files().good(p), "read in spite of a change: {}", keep());
    assert!(took < TIME, "{took:?}: {}", keep());
    assert!(most < MEMORY, "{most} bytes at a time: {}", keep());
    read
}

fn long() -> bool {
    std::env::var_os("SCCROSSREC_LONG").is_some()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn good_files_are_read() {
    let _one = alone();
    for p in PARSERS {
        assert!(feed(p, &files().good(p)), "{}", p.name);
    }
}

#[test]
fn changed_files_are_read_or_refused() {
    let _one = alone();
    let seed = std::env::var("SCCROSSREC_SEED").ok().map_or(8, |s| s.parse().unwrap());
    let n = if long() { 100_000 } else { 4000 };
    for (k, p) in PARSERS.iter().enumerate() {
        let good = files().good(p);
        let began = Instant::now();
        let (mut read, mut refused) = (0, 0);
        for i in 0..n {
            let mut r = Rng::new(seed, (k * n + i) as u64);
            let mut bytes = change(&good, &mut r);
            // Text readers take gzip as well; damage then lies inside of what is unpacked.
            if r.below(10) == 0 {
                bytes = gzip(&bytes);
            }
            if feed(p, &bytes) { read += 1 } else { refused += 1 }
        }
        eprintln!("{}: {read} read, {refused} refused in {:.1} s", p.name, began.elapsed().as_secs_f64());
        assert!(refused > n / 50 || p.name == "region" || p.name == "fai", "{}: {refused} refused", p.name);
        assert!(feed(p, &good), "{}", p.name);
    }
}

/// Every cut of a small file, and every bit of it turned (the first kilobytes of a longer one, then spread).
#[test]
fn cut_files_and_turned_bits_are_read_or_refused() {
    let _one = alone();
    for p in PARSERS {
        let good = files().good(p);
        let spread = |most: usize| {
            let step = (good.len() / most).max(1);
            (0..good.len().min(most)).chain((0..good.len()).step_by(step)).collect::<Vec<_>>()
        };
        let (cuts, bits) = if long() { (2000, 2000) } else { (300, 300) };
        for at in spread(cuts) {
            feed(p, &good[..at]);
        }
        for at in spread(bits) {
            for bit in 0..8 {
                if long() || bit == at % 8 {
                    let mut bytes = good.clone();
                    bytes[at] ^= 1 << bit;
                    feed(p, &bytes);
                }
            }
        }
        assert!(feed(p, &good), "{}", p.name);
    }
}

/// Files of another kind in the place of each.
#[test]
fn files_of_another_kind_are_refused() {
    let _one = alone();
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
    let hdf5 = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0\x04\0\x10\0";
    for p in PARSERS {
        for bytes in [&b""[..], b"\0", b"\n\n\n", b"\0\0\0\0\0\0\0\0\0\0\0\0", png, hdf5, &gzip(b""), &gzip(b"x")] {
            let read = feed(p, bytes);
            let may = match p.name {
                "region" | "row" => true, // a name that is no region, and a row too short to have a head
                "fai" => true,            // made anew
                "run-log" => bytes.trim_ascii().is_empty(), // no epoch yet
                _ => false,
            };
            assert!(!read || may, "{}: {bytes:?} was read", p.name);
        }
        assert!(feed(p, &files().good(p)), "{}", p.name);
    }
}

/// A few kilobytes that unpack to one endless line, or to more lines than there can be, are refused before they fill the
/// memory.
#[test]
fn what_unpacks_to_a_line_without_end_is_refused() {
    let _one = alone();
    let mut endless = GzEncoder::new(Vec::new(), Compression::fast());
    let piece = vec![b'A'; 1 << 20];
    for _ in 0..64 {
        endless.write_all(&piece).unwrap();
    }
    let endless = endless.finish().unwrap();
    assert!(endless.len() < 1 << 20);
    let tabs = gzip(&vec![b'\t'; 64 << 20]);
    for p in PARSERS {
        for (bytes, what) in [(&endless, "letters"), (&tabs, "tabs")] {
            let read = feed(p, bytes);
            assert!(!read || ["region", "fai", "row"].contains(&p.name), "{}: {what} were read", p.name);
        }
        // One sequence may be as long as it likes.
        if p.name == "fasta" {
            let good = files().good(p);
            let first = good.iter().position(|&b| b == b'\n').unwrap();
            let mut text = good[..=first].to_vec();
            text.resize(40 << 20, b'A');
            assert!(feed(p, &gzip(&text)), "a long sequence");
        }
        if ["features", "barcodes"].contains(&p.name) {
            assert!(!feed(p, &gzip(&b"a\tb\n".repeat(10 << 20))), "{}: more lines than the matrix has", p.name);
        }
        assert!(feed(p, &files().good(p)), "{}", p.name);
    }
}

/// What once did harm.
#[test]
fn found_cases_stay_found() {
    let _one = alone();
    files(); // made before what is measured
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/malformed");
    let mut n = 0;
    for entry in std::fs::read_dir(&root).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_str().unwrap().to_string();
        let p = PARSERS.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("{name} is no parser"));
        for case in std::fs::read_dir(&dir).unwrap() {
            feed(p, &std::fs::read(case.unwrap().path()).unwrap());
            n += 1;
        }
    }
    assert!(n > 0, "no case in {}", root.display());
}
