//! Damaged files and the program as a whole, in child processes under limits of memory and time: what goes through the HDF5
//! library may do harm that no test can catch from inside.
//!
//! `SCCROSSREC_LONG=1` tries every form with thousands of cuts and flips.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::forms::{self, Case};
use crate::common::parsers;
use crate::common::toy::{Store, Toy};
use sccrossrec::data::source::{Form, Select};
use sccrossrec::rng::Rng;

/// Address space of a child in KiB: the program itself takes about 220,000, the toy files some 60.
const SPACE: u32 = 400_000;
/// Seconds of a processor; of the clock it may take a dozen times as many, for other work on the machine.
const SECONDS: u32 = 10;

fn long() -> bool {
    std::env::var_os("SCCROSSREC_LONG").is_some()
}

/// How a child ended: its code, or a signal (that of a limit, too); and what it said on stderr.
#[derive(Debug)]
struct End {
    code: Option<i32>,
    text: String,
}

/// Runs the program in the folder `dir`, which is its folder for temporary files as well.
fn child(dir: &Path, args: &[&std::ffi::OsStr]) -> End {
    let limits = format!(
        "ulimit -c 0 && ulimit -v {SPACE} && ulimit -t {SECONDS} && exec timeout -s KILL {} \"$0\" \"$@\"",
        12 * SECONDS
    );
    let done = Command::new("sh")
        .args(["-c", &limits, env!("CARGO_BIN_EXE_sccrossrec")])
        .args(args)
        .args(["--threads", "1", "--quiet"])
        .env("TMPDIR", dir)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    End { code: done.status.code(), text: String::from_utf8_lossy(&done.stderr).into_owned() }
}

/// Neither a signal nor a panic: read, or refused with one line that names the file.
fn sound(end: &End, file: &Path) -> std::result::Result<bool, String> {
    let lines: Vec<&str> = end.text.lines().filter(|l| !l.starts_with("warning: ")).collect();
    match end.code {
        Some(0) => Ok(true),
        Some(2) if lines.len() == 1 && lines[0].contains(file.to_str().unwrap()) => Ok(false),
        _ => Err(format!("{:?}: {}", end.code, end.text)),
    }
}

/// Calls `f` with the numbers below `n`, on two threads, each with a folder of its own.
fn each(n: usize, f: impl Fn(usize, &Path) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                let dir = tempfile::tempdir().unwrap();
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= n {
                        break;
                    }
                    f(i, dir.path());
                    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
                    assert!(left.is_empty(), "left behind: {left:?}");
                }
            });
        }
    });
}

/// The flags that choose what of a case is used.
fn flags(case: &Case, rna: &Path, atac: &Path) -> Vec<std::ffi::OsString> {
    let mut args: Vec<std::ffi::OsString> =
        vec!["prepare".into(), "--rna".into(), rna.into(), "--atac".into(), atac.into()];
    let mut add = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            args.push(format!("--{name}={value}").into());
        }
    };
    let (r, a): (&Select, &Select) = (&case.rna_select, &case.atac_select);
    add("rna-layer", &r.layer);
    add("atac-layer", &a.layer);
    add("rna-modality", &r.modality);
    add("atac-modality", &a.modality);
    add("tenx-genome", &r.genome);
    args.extend(["--negative-ratio=0", "--out=out"].map(Into::into));
    args
}

/// A file in the place of the RNA (and of the ATAC, where both are in it), given to `inspect` and to `prepare`.
fn try_both(case: &Case, bytes: &[u8], dir: &Path, preparing: bool) -> std::result::Result<[Option<bool>; 2], String> {
    let file = dir.join("file.h5");
    std::fs::write(&file, bytes).unwrap();
    let read = sound(&child(dir, &["inspect".as_ref(), file.as_ref()]), &file)?;
    let mut prepared = None;
    if preparing {
        let atac = if case.rna == case.atac { &file } else { &case.atac };
        let args = flags(case, &file, atac);
        let args: Vec<_> = args.iter().map(|a| a.as_os_str()).collect();
        prepared = Some(sound(&child(dir, &args), &file)?);
        let _ = std::fs::remove_dir_all(dir.join("out"));
    }
    let unchanged = std::fs::read(&file).unwrap() == bytes;
    std::fs::remove_file(&file).unwrap();
    if unchanged { Ok([Some(read), prepared]) } else { Err("the file was changed".into()) }
}

/// The toy pair in every form that is a single HDF5 file, and in every way a matrix is stored.
fn cases(dir: &Path) -> Vec<Case> {
    let toy = Toy::new();
    let mut all = forms::all(dir, &toy);
    all.retain(|c| c.form != Form::MatrixMarket);
    for store in [Store::Csc, Store::Dense, Store::OldCsr] {
        let dir = dir.join(format!("{store:?}"));
        std::fs::create_dir(&dir).unwrap();
        let (rna, atac) = toy.write_as(&dir, store);
        all.push(Case {
            name: match store {
                Store::Csc => "CSC",
                Store::Dense => "dense",
                _ => "CSR of anndata before 0.7",
            },
            rna,
            atac,
            rna_select: Select::default(),
            atac_select: Select::default(),
            form: Form::AnnData,
            typed: true,
            placed: true,
        });
    }
    all
}

#[test]
fn cut_and_flipped_hdf5_files_are_read_or_refused() {
    let made = tempfile::tempdir().unwrap();
    for (k, case) in cases(made.path()).iter().enumerate() {
        let whole = std::fs::read(&case.rna).unwrap();
        // Most of such a file is room that is not used; half of the flips are where something is.
        let used: Vec<usize> = (0..whole.len()).filter(|&i| whole[i] != 0).collect();
        let (cuts, flips, every) = if long() { (2000, 4000, 2) } else { (30, 60, 6) };
        let counts = Mutex::new([[0usize; 2]; 2]);
        let bad = Mutex::new(Vec::new());
        each(cuts + flips, |i, dir| {
            let mut r = Rng::new(21, ((k << 32) + i) as u64);
            let (bytes, what) = if i < cuts {
                let n = i * whole.len() / cuts;
                (whole[..n].to_vec(), format!("cut to {n}"))
            } else {
                let at = if i % 2 == 0 { used[r.below(used.len())] } else { r.below(whole.len()) };
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << r.below(8);
                let what = format!("byte {at} is {} instead of {}", bytes[at], whole[at]);
                (bytes, what)
            };
            match try_both(case, &bytes, dir, i % every == 0) {
                Ok(results) => {
                    for (count, read) in counts.lock().unwrap().iter_mut().zip(results) {
                        if let Some(read) = read {
                            count[usize::from(read)] += 1;
                        }
                    }
                    if i < cuts && results.contains(&Some(true)) {
                        bad.lock().unwrap().push(format!("{what}: was read"));
                    }
                }
                Err(e) => bad.lock().unwrap().push(format!("{what}: {e}")),
            }
        });
        let ([inspected, prepared], bad) = (counts.into_inner().unwrap(), bad.into_inner().unwrap());
        eprintln!(
            "{}: {} bytes, {cuts} cuts and {flips} flips: `inspect` refused {} and read {}, `prepare` {} and {}, {} did harm",
            case.name,
            whole.len(),
            inspected[0],
            inspected[1],
            prepared[0],
            prepared[1],
            bad.len()
        );
        assert!(bad.is_empty(), "{}: {bad:#?}", case.name);
        assert!(inspected[0] >= cuts && inspected[1] > 0, "{}: {inspected:?}", case.name);
        // What was not changed is read by both (but some forms say nothing of where genes are, and `prepare` asks).
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(try_both(case, &whole, dir.path(), true), Ok([true, case.placed].map(Some)), "{}", case.name);
    }
}

/// Objects of the heaps of text: place of the head of each, by the chain that the library follows.
fn objects(bytes: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    for heap in (0..bytes.len().saturating_sub(16)).filter(|&i| bytes[i..].starts_with(b"GCOL\x01\0\0\0")) {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let (end, mut at) = (heap + word(heap + 8), heap + 16);
        while at + 16 <= end {
            found.push(at);
            let number = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            at += if number == 0 { word(at + 8) } else { 16 + word(at + 8).next_multiple_of(8) };
        }
    }
    found
}

/// The one damage of which the HDF5 library does not come back: an object that is as long as nothing, and so is its own
/// successor. A flip of one bit is enough.
#[test]
fn a_heap_without_end_is_refused_and_its_remains_are_not() {
    let made = tempfile::tempdir().unwrap();
    let (rna, _) = Toy::new().write(made.path());
    let whole = std::fs::read(&rna).unwrap();
    let all = objects(&whole);
    assert!(all.len() > 100, "{} texts", all.len());
    let refused = AtomicUsize::new(0);
    let n = if long() { all.len() } else { 40 };
    each(n, |i, dir| {
        let at = all[i * all.len() / n];
        let mut bytes = whole.clone();
        bytes[at..at + 2].fill(0);
        bytes[at + 8..at + 16].fill(0);
        let file = dir.join("file.h5ad");
        std::fs::write(&file, &bytes).unwrap();
        let end = child(dir, &["inspect".as_ref(), file.as_ref()]);
        match sound(&end, &file) {
            Ok(read) => refused.fetch_add(usize::from(!read), Ordering::Relaxed),
            Err(e) => panic!("object at byte {at}: {e}"),
        };
        assert!(std::fs::read(&file).unwrap() == bytes, "the file was changed");
        std::fs::remove_file(&file).unwrap();
    });
    let refused = refused.into_inner();
    assert!(refused * 2 > n, "{refused} of {n} were refused: most texts are names and kinds of what is read");

    // The same behind the end of the file, where nothing refers to it.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file.h5ad");
    let remains = [&b"GCOL\x01\0\0\0\0\x10\0\0\0\0\0\0"[..], &[0; 4080]].concat();
    std::fs::write(&file, [whole, remains].concat()).unwrap();
    let end = child(dir.path(), &["inspect".as_ref(), file.as_ref()]);
    assert_eq!(sound(&end, &file), Ok(true), "{end:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no copy stays");
}

/// Every flag that takes a file, given what is none of its kind.
#[test]
fn wrong_things_in_the_place_of_a_file_are_refused() {
    let made = tempfile::tempdir().unwrap();
    let m = made.path();
    let (rna, atac) = Toy::new().write(m);
    let (rna, atac) = (rna.to_str().unwrap().to_string(), atac.to_str().unwrap().to_string());
    let pair = ["--rna".into(), rna.clone(), "--atac".into(), atac.clone(), "--out=out".into()];
    let run = m.join("run");
    std::fs::create_dir(&run).unwrap();
    let verbs: Vec<(&str, Vec<String>)> = vec![
        ("inspect", vec![]),
        ("prepare --atac ATAC --out out --rna", vec![]),
        ("prepare --rna RNA --out out --atac", vec![]),
        ("prepare --out out --h5mu", vec![]),
        ("prepare --out out --tenx", vec![]),
        ("prepare --like", pair.to_vec()),
        ("prepare --gtf", pair.to_vec()),
        ("prepare --fasta", pair.to_vec()),
        ("prepare --obs", pair.to_vec()),
        ("annotate --gtf", pair.to_vec()),
        ("annotate --genome", pair.to_vec()),
        ("annotate --fasta", pair.to_vec()),
        ("annotate --aliases", pair.to_vec()),
        ("prepare --config", pair.to_vec()),
        ("train --out out --data", vec![]),
        ("samples --name x --data", vec![]),
        ("evaluate --run", vec![]),
        ("discover --out out --run", vec![]),
        ("discover --out out --data", vec![]),
        ("embed --out out.h5ad --run", vec![]),
        ("report --out out.html", vec![]),
        ("weights export --out out.safetensors --run", vec![]),
    ];
    let things: [(&str, Option<&[u8]>); 6] = [
        ("nothing", None),
        ("folder", None),
        ("empty", Some(b"")),
        ("picture.png", Some(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01")),
        ("zeros", Some(&[0; 5000])),
        ("signature.h5", Some(b"\x89HDF\r\n\x1a\n")),
    ];
    std::fs::create_dir(m.join("folder")).unwrap();
    for (name, bytes) in &things {
        if let Some(bytes) = bytes {
            std::fs::write(m.join(name), bytes).unwrap();
        }
    }
    each(verbs.len() * things.len(), |i, dir| {
        let ((verb, more), (thing, _)) = (&verbs[i / things.len()], &things[i % things.len()]);
        // An empty file sets no flags, and is a fine configuration.
        if *thing == "empty" && verb.ends_with("--config") {
            return;
        }
        let path = m.join(thing);
        let mut args: Vec<String> = verb.split(' ').map(|w| w.replace("ATAC", &atac).replace("RNA", &rna)).collect();
        args.push(path.to_str().unwrap().into());
        args.extend(more.iter().cloned());
        let args: Vec<&std::ffi::OsStr> = args.iter().map(|a| a.as_ref()).collect();
        let end = child(dir, &args);
        // What a picture is `inspect` tells: the program writes some.
        let told = *verb == "inspect" && *thing == "picture.png";
        assert_eq!(sound(&end, &path), Ok(told), "{verb} {thing}");
    });
}

/// A configuration cut at every byte, and with each of its bytes turned into others.
#[test]
fn damaged_configurations_are_read_or_refused() {
    let text = "threads = 1\n[prepare]\nrna = \"a.h5ad\"\natac = \"b.h5ad\"\nout = \"out\"\nmin-common = 0.25\n\
                cell-types = [\"T\", \"B\"]\nforce = true\n[train]\nepochs = 3\n";
    let whole = text.as_bytes();
    let step = if long() { 1 } else { 7 };
    let refused = AtomicUsize::new(0);
    each(2 * whole.len() / step, |i, dir| {
        let at = i / 2 * step;
        let mut bytes = whole.to_vec();
        if i % 2 == 0 {
            bytes.truncate(at)
        } else {
            bytes[at] = b"\0\xff[{\"=\n9"[at % 8]
        }
        let file = dir.join("c.toml");
        std::fs::write(&file, &bytes).unwrap();
        let end = child(dir, &["datasets".as_ref(), "--config".as_ref(), file.as_ref()]);
        match sound(&end, &file) {
            Ok(read) => refused.fetch_add(usize::from(!read), Ordering::Relaxed),
            // A value that a flag refuses is told as if it had been typed.
            Err(e) => panic!("{:?}: {e}", String::from_utf8_lossy(&bytes)),
        };
        std::fs::remove_file(&file).unwrap();
    });
    assert!(refused.into_inner() > 20);
}

/// Real files of many programs, cut and flipped.
#[test]
fn damaged_real_files_are_read_or_refused() {
    let Some(root) = std::env::var_os("SCCROSSREC_TEST_DATA").map(PathBuf::from) else {
        eprintln!("SKIPPED: SCCROSSREC_TEST_DATA is not set, so no real data are read");
        return;
    };
    let mut files = Vec::new();
    for folder in ["h5ad_layouts", "tenx", "muon"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let small = path.metadata().unwrap().len() < if long() { 3 << 20 } else { 300 << 10 };
            if small && path.extension().is_some_and(|e| ["h5ad", "h5", "h5mu"].iter().any(|x| e == *x)) {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    let n = if long() { 2000 } else { 60 };
    for (k, path) in files.iter().enumerate() {
        let whole = std::fs::read(path).unwrap();
        let (refused, bad) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        each(n, |i, dir| {
            let mut r = Rng::new(22, ((k << 32) + i) as u64);
            let mut bytes = whole.clone();
            // What describes the rest lies mostly at the front.
            let at = r.below(if i % 2 == 0 { whole.len().min(1 << 16) } else { whole.len() });
            if i % 5 == 4 {
                bytes.truncate(at)
            } else {
                bytes[at] ^= 1 << r.below(8)
            }
            let file = dir.join("file.h5");
            std::fs::write(&file, &bytes).unwrap();
            match sound(&child(dir, &["inspect".as_ref(), file.as_ref()]), &file) {
                Ok(read) => drop(refused.fetch_add(usize::from(!read), Ordering::Relaxed)),
                Err(e) => bad.lock().unwrap().push(format!("byte {at}, change {}: {e}", i % 5)),
            }
            std::fs::remove_file(&file).unwrap();
        });
        let (refused, bad) = (refused.into_inner(), bad.into_inner().unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        eprintln!("{name}: {n} changes, {refused} refused, {} read, {} did harm", n - refused - bad.len(), bad.len());
        assert!(bad.is_empty(), "{name}: {bad:#?}");
    }
}

/// The attention of every cell, which `plot` reads back: cut, flipped, and with lengths that no file of its size has.
#[test]
fn damaged_attention_is_read_or_refused() {
    let files = parsers::Files::new();
    let found = files.path(parsers::PARSERS.iter().find(|p| p.name == "discovery").unwrap());
    let found = found.parent().unwrap();
    let whole = std::fs::read(found.join("attention.h5")).unwrap();
    let cell: String = {
        let file = hdf5::File::open(found.join("attention.h5")).unwrap();
        let cells = file.dataset("cells").unwrap().read_raw::<hdf5::types::VarLenUnicode>().unwrap();
        cells[3].as_str().into()
    };
    let plot = |dir: &Path, folder: &Path| {
        let (from, cell) = (format!("--discovery={}", folder.display()), format!("--cell={cell}"));
        let end = child(dir, &["plot", "heatmap", &from, &cell, "--out=out.svg"].map(|a| a.as_ref()));
        let _ = std::fs::remove_file(dir.join("out.svg"));
        end
    };
    let lies: [fn(&hdf5::File); 5] = [
        |f| {
            f.unlink("cells").unwrap();
            f.new_dataset::<hdf5::types::VarLenUnicode>().chunk(1000).shape(1usize << 40).create("cells").unwrap();
        },
        |f| {
            f.unlink("indptr").unwrap();
            f.new_dataset::<u64>().chunk(1000).shape(1usize << 40).create("indptr").unwrap();
        },
        |f| {
            for name in ["gene", "peak", "weight", "score"] {
                f.unlink(name).unwrap();
                f.new_dataset::<u32>().chunk(1000).shape(1usize << 40).create(name).unwrap();
            }
            let mut all = f.dataset("indptr").unwrap().read_raw::<u64>().unwrap();
            all[4] = 1 << 40;
            f.dataset("indptr").unwrap().write_raw(&all).unwrap();
        },
        |f| {
            let mut all = f.dataset("indptr").unwrap().read_raw::<u64>().unwrap();
            all[4] = u64::MAX;
            f.dataset("indptr").unwrap().write_raw(&all).unwrap();
        },
        |f| {
            for name in ["gene", "peak", "weight", "score"] {
                f.unlink(name).unwrap();
                f.new_dataset::<u32>().shape(1).create(name).unwrap().write_raw(&[u32::MAX]).unwrap();
            }
            let mut all = f.dataset("indptr").unwrap().read_raw::<u64>().unwrap();
            all[..4].fill(0);
            all[4..].fill(1);
            f.dataset("indptr").unwrap().write_raw(&all).unwrap();
        },
    ];
    let n = if long() { 4000 } else { 60 };
    let refused = AtomicUsize::new(0);
    each(lies.len() + n, |i, dir| {
        let folder = dir.join("found");
        std::fs::create_dir(&folder).unwrap();
        for file in ["discover.json", "genes.tsv", "peaks.tsv", "links.tsv"] {
            std::fs::copy(found.join(file), folder.join(file)).unwrap();
        }
        let path = folder.join("attention.h5");
        let mut bytes = whole.clone();
        if let Some(j) = i.checked_sub(lies.len()) {
            let mut r = Rng::new(23, i as u64);
            let at = r.below(bytes.len());
            if j % 3 == 2 { bytes.truncate(at) } else { bytes[at] ^= 1 << r.below(8) }
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Some(lie) = lies.get(i) {
            lie(&crate::common::toy::append(&path));
        }
        match sound(&plot(dir, &folder), &path) {
            Ok(read) => {
                assert!(i >= lies.len() || !read, "lie {i} was believed");
                refused.fetch_add(usize::from(!read), Ordering::Relaxed);
            }
            // A flip in the names of cells: there is no such cell.
            Err(e) if e.contains("there is no such cell") => {}
            Err(e) => panic!("change {i}: {e}"),
        }
        std::fs::remove_dir_all(&folder).unwrap();
    });
    assert!(refused.into_inner() > n / 3);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(plot(dir.path(), found).code, Some(0));
}
