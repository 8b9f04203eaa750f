//! The program as a child process.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sccrossrec"))
}

pub fn run(dir: &Path, args: &[&str]) -> Output {
    program().current_dir(dir).args(args).output().unwrap()
}

/// What it has written to stderr.
pub fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Runs to the end without an error; what it has written to stderr.
pub fn ok(dir: &Path, args: &[&str]) -> String {
    let out = run(dir, args);
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    text(&out)
}

/// [`ok`] of words parted by blanks.
pub fn ok_words(dir: &Path, words: &str) -> String {
    ok(dir, &words.split_whitespace().collect::<Vec<_>>())
}

/// Exit code 2 and one line of error with all of `parts`.
pub fn refused(out: &Output, parts: &[&str]) {
    let text = text(out);
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.lines().count() == 1 && text.starts_with("error: "), "{text}");
    parts.iter().for_each(|p| assert!(text.contains(p), "no {p:?} in: {text}"));
}

/// Is it the long tier?
pub fn long() -> bool {
    std::env::var_os("SCCROSSREC_LONG").is_some()
}

/// Every file and folder below, sorted.
pub fn all(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// Contents of all files below.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = all(dir).into_iter().filter(|p| p.is_file());
    paths.map(|p| (p.strip_prefix(dir).unwrap().to_path_buf(), std::fs::read(&p).unwrap())).collect()
}

/// A file system of this size, unmounted when this goes; `None` where the test may not mount.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn new(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).stderr(Stdio::null());
        mount.status().is_ok_and(|s| s.success()).then(|| Mounted(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
