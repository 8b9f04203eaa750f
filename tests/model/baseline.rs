//! The baseline in PyTorch computes what the engine computes: on the golden files in float64, and on simulated cells, samples
//! and weights of the engine's. Needs the environment that `benches/baseline/setup.sh` makes, or a python that
//! `SCCROSSREC_BASELINE_PYTHON` names; skips otherwise, and says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn python() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SCCROSSREC_BASELINE_PYTHON") {
        let out = Command::new(&named).args(["-c", "import torch, torch_geometric, h5py, safetensors"]).output();
        let out = out.unwrap_or_else(|e| panic!("SCCROSSREC_BASELINE_PYTHON {}: {e}", named.display()));
        assert!(out.status.success(), "SCCROSSREC_BASELINE_PYTHON: {}", String::from_utf8_lossy(&out.stderr));
        return Some(named.into());
    }
    let made = root().join(".tools/baseline");
    if made.join("made").exists() {
        return Some(made.join("bin/python"));
    }
    println!("SKIPPED: no baseline here; benches/baseline/setup.sh makes it, SCCROSSREC_BASELINE_PYTHON names another");
    None
}

fn agree(python: &Path, args: &[&str], dir: &Path) -> Output {
    let script = root().join("benches/baseline/agree.py");
    // One thread: small matrices on shared cores wait for each other longer than they compute.
    Command::new(python).arg(script).args(args).env("OMP_NUM_THREADS", "1").current_dir(dir).output().unwrap()
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// How many comparisons it made, of which how many disagree.
fn verdict(out: &Output) -> (usize, usize) {
    let text = text(out);
    let last = String::from_utf8_lossy(&out.stdout).lines().last().unwrap_or_default().to_string();
    let mut numbers = last.split(' ').filter_map(|w| w.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(compared), Some(disagree)) => (compared, disagree),
        _ => panic!("no verdict:\n{text}"),
    }
}

#[test]
fn golden_files() {
    let Some(python) = python() else { return };
    let golden = root().join("tests/golden");
    let files = std::fs::read_dir(&golden).unwrap().filter(|f| {
        let name = f.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".safetensors")
    });
    let out = agree(&python, &["--golden", golden.to_str().unwrap()], root());
    assert!(out.status.success(), "{}", text(&out));
    // Loss (or thirty losses) and gradients (or parameters) of four models.
    assert_eq!(verdict(&out), (8 * files.count(), 0), "{}", text(&out));
}

/// The engine's side of it is the bench `against`.
#[path = "../../benches/common/pairs.rs"]
mod pairs;

#[test]
fn simulated_cells() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let run = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_sccrossrec")).args(args).current_dir(dir.path()).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", text(&out));
    };
    let sizes = ["--cells", "60", "--genes", "90", "--peaks", "400", "--chromosomes", "4", "--cell-types", "3"];
    run(&[&["simulate", "--out", "raw"][..], &sizes].concat());
    let fasta: &[&str] = if at("raw/peaks.fa").exists() { &["--fasta", "raw/peaks.fa"] } else { &[] };
    run(&[&["prepare", "--rna", "raw/rna.h5ad", "--atac", "raw/atac.h5ad", "--out", "data"][..], fasta].concat());
    let given = pairs::Given { data: at("data"), run: None, pool: 16 };
    pairs::write(&given, &at("inputs")).unwrap();
    let out = agree(&python, &["--inputs", "inputs", "--data", "raw"], dir.path());
    assert!(out.status.success(), "{}", text(&out));
    // The samples; then loss and gradients of two models on three batches.
    assert_eq!(verdict(&out), (13, 0), "{}", text(&out));

    // It can tell: weights other than those that the engine computed with.
    let path = at("inputs/weights.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let n = bytes.len();
    bytes[n - 4..].copy_from_slice(&1f32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let out = agree(&python, &["--inputs", "inputs"], dir.path());
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    let (compared, disagree) = verdict(&out);
    assert!(compared == 12 && disagree >= 6, "{}", text(&out));
}
