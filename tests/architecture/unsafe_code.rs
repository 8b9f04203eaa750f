//! Where the library has `unsafe` code, and that every piece of it says why it is sound. The compiler forbids it everywhere
//! else; this list is what a change of that has to get past.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files with `unsafe` code, below `src`, and what they need it for.
const NEEDED: &[(&str, &str)] = &[
    ("data/anndata/chunks.rs", "H5Dwrite_chunk, which the bindings lack"),
    ("data/anndata/fields.rs", "H5Dread of one field of a compound, which the bindings cannot name"),
    ("data/anndata/filters.rs", "filters of HDF5, which calls them back with buffers of its own"),
    ("device/abi.rs", "addresses on the device as kernel arguments"),
    ("parity/bench.rs", "kernel launches"),
    ("device/cust.rs", "the cust crate's driver calls"),
    ("engine/cuda/mod.rs", "kernel launches"),
    ("device/gpu.rs", "driver calls, pinned memory, launches"),
    ("device/host.rs", "the driver of the tests, loaded at run time"),
    ("device/nvrtc.rs", "the compiler library, loaded at run time"),
    ("dataset/mmap.rs", "memory maps"),
    ("ops/translate/kernel.rs", "vector instructions"),
    ("simd.rs", "calls of functions compiled for instructions that were found at run time"),
];

/// Modules under which some file has it, or expands a macro that has: no `forbid` at their declaration.
const ABOVE: &[(&str, &[&str])] = &[
    ("lib.rs", &["data", "dataset", "device", "engine", "ops", "parity", "simd"]),
    ("data/mod.rs", &["anndata"]),
    ("data/anndata/mod.rs", &["chunks", "fields", "filters"]),
    ("dataset/mod.rs", &["mmap"]),
    ("engine/mod.rs", &["cuda"]),
    ("parity/mod.rs", &["bench"]),
    ("ops/mod.rs", &["adam", "pool", "project", "translate"]),
];

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// A line without its strings (of one line) and comments.
fn code(line: &str) -> String {
    let mut out = String::new();
    let (mut quoted, mut chars) = (false, line.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if quoted => {}
            _ => out.push(c),
        }
    }
    out
}

/// Does a line begin unsafe code? (Types of functions and lints only have the word in them.)
fn is_unsafe(code: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices("unsafe").any(|(i, word)| {
        let (before, after) = (&code[..i], &code[i + word.len()..]);
        let type_of_function = after.trim_start().strip_prefix("extern  fn(").is_some();
        !before.ends_with(is_word) && !after.starts_with(is_word) && !type_of_function
    })
}

/// Numbers (from 1) of the lines of unsafe code, and those among them that do not say why it is sound.
fn look(text: &str) -> (Vec<usize>, Vec<usize>) {
    let lines: Vec<&str> = text.lines().collect();
    let (mut all, mut silent) = (Vec::new(), Vec::new());
    for (i, line) in lines.iter().enumerate() {
        if !is_unsafe(&code(line)) {
            continue;
        }
        all.push(i + 1);
        let above = lines[..i].iter().rev().take_while(|l| {
            let l = l.trim_start();
            l.starts_with("//") || l.starts_with("#[")
        });
        if !above
            .chain([line])
            .any(|l| l.contains("// SAFETY: ") || l.contains("// SAFETY (") || l.contains("# Safety"))
        {
            silent.push(i + 1);
        }
    }
    (all, silent)
}

#[test]
fn unsafe_code_is_where_it_is_needed_and_says_why_it_is_sound() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 100);
    let mut with = BTreeSet::new();
    for path in files {
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        let (all, silent) = look(&std::fs::read_to_string(&path).unwrap());
        assert!(silent.is_empty(), "src/{name}: no `// SAFETY:` above the unsafe code of lines {silent:?}");
        if !all.is_empty() {
            with.insert(name);
        }
    }
    let needed: BTreeSet<String> = NEEDED.iter().map(|n| n.0.to_string()).collect();
    assert_eq!(with, needed, "the files with unsafe code have changed");
}

#[test]
fn it_is_forbidden_everywhere_else() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (file, above) in ABOVE {
        let text = std::fs::read_to_string(src.join(file)).unwrap();
        let (mut before, mut free) = ("", Vec::new());
        for line in text.lines() {
            let declared = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if let Some(name) = declared.strip_prefix("mod ").and_then(|m| m.strip_suffix(';')) {
                match before {
                    "#[forbid(unsafe_code)]" => {}
                    _ => free.push(name),
                }
            }
            before = line;
        }
        assert_eq!(free, *above, "src/{file}: modules without `#[forbid(unsafe_code)]`");
        // Each of these is needed: some file below has unsafe code, or expands a macro of `simd` that has.
        for name in free {
            let module = src.join(file).with_file_name(name);
            let mut files = vec![module.with_extension("rs")];
            if module.is_dir() {
                rust_files(&module, &mut files);
            }
            let text: String = files.iter().filter_map(|f| std::fs::read_to_string(f).ok()).collect();
            assert!(!look(&text).0.is_empty() || text.contains("vectorized! {"), "{file}: {name} could forbid it");
        }
    }
    assert!(std::fs::read_to_string(src.join("lib.rs")).unwrap().contains("\n#![deny(unsafe_code)]\n"));
    assert!(!std::fs::read_to_string(src.join("main.rs")).unwrap().contains("unsafe"));
}

#[test]
fn what_is_unsafe_is_recognised() {
    for (text, all, silent) in [
        ("unsafe { f() }", 1, 1),
        ("// SAFETY: it is.\nunsafe { f() }", 1, 0),
        ("// SAFETY: it is,\n// really.\n#[inline]\nlet x = unsafe { f() };", 1, 0),
        ("// SAFETY: that one.\nlet y = 1;\nunsafe { f() }", 1, 1),
        ("/// # Safety\n/// Do not.\npub unsafe fn f() {}", 1, 0),
        ("unsafe impl Send for X {}", 1, 1),
        ("#![allow(unsafe_code)]", 0, 0),
        ("let s = \"unsafe\"; // unsafe", 0, 0),
        ("f::<unsafe extern \"C\" fn(*mut u8)>()", 0, 0),
    ] {
        let found = look(text);
        assert_eq!((found.0.len(), found.1.len()), (all, silent), "{text}");
    }
}
