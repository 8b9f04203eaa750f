//! A throw-away Python environment with the real `anndata`, for the tests that let Python read our files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The packages, pinned: what these versions open without a warning is what we promise.
const PACKAGES: &[&str] = &[
    "anndata==0.11.4",
    "numpy==2.2.6",
    "pandas==2.3.3",
    "scipy==1.15.3",
    "h5py==3.14.0",
    "mudata==0.3.2",
    "scanpy==1.11.5",
    "scikit-misc==0.5.1",
];

/// Readers of tables and of genome tracks, in an environment of their own.
const FORMATS: &[&str] = &["numpy==2.2.6", "pandas==2.3.3", "pyarrow==21.0.0", "pyBigWig==0.3.24"];

/// Python of an environment that has `anndata`.
pub fn python_with_anndata() -> Option<PathBuf> {
    environment("anndata-venv", PACKAGES)
}

/// Python of an environment that has `pyarrow` and `pyBigWig`.
pub fn python_with_formats() -> Option<PathBuf> {
    environment("formats-venv", FORMATS)
}

/// Python of an environment with these packages; made once under `target/` and shared by all test programs.
/// `None` (with a message) only where there is no `python3` at all; anything else that fails panics with the reason,
/// because a check that is skipped in silence is no check.
fn environment(name: &str, packages: &[&str]) -> Option<PathBuf> {
    let found = Command::new("python3").args(["-c", "import sys; print(sys.version_info >= (3, 10))"]).output();
    match &found {
        Err(_) => {
            eprintln!("SKIPPED: no python3 here, so the files are not opened with Python");
            return None;
        }
        Ok(out) => assert!(
            out.status.success() && String::from_utf8_lossy(&out.stdout).trim() == "True",
            "python3 must be 3.10 or newer and must run: {}",
            String::from_utf8_lossy(&out.stderr)
        ),
    }
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(base).expect("create target/tmp");
    // Test programs run side by side; one of them makes the environment while the others wait for the lock.
    let lock = File::create(base.join(format!("{name}.lock"))).expect("create the lock file");
    lock.lock().expect("lock the environment");
    let dir = base.join(name);
    let python = dir.join("bin/python");
    let stamp = dir.join("packages.txt");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&stamp).ok().as_deref() != Some(wanted.as_str()) {
        let _ = std::fs::remove_dir_all(&dir);
        must("python3 -m venv (Debian: install python3-venv)", Command::new("python3").arg("-m").arg("venv").arg(&dir));
        must(
            "pip install",
            Command::new(&python).args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]).args(packages),
        );
        std::fs::write(&stamp, wanted).expect("write the stamp of the environment");
    }
    lock.unlock().expect("unlock the environment");
    Some(python)
}

/// Runs a Python script with these arguments; every warning is an error. Returns what it printed.
pub fn run_python(python: &Path, script: &str, args: &[&Path]) -> String {
    let out = must("python", Command::new(python).args(["-W", "error", "-c", script]).args(args));
    String::from_utf8(out.stdout).expect("python prints UTF-8")
}

fn must(what: &str, command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|e| panic!("{what}: cannot start: {e}"));
    assert!(
        out.status.success(),
        "{what} failed ({}):\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    out
}
