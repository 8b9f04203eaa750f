//! Signals in the middle of long work. The flag of a signal stays, so the one test of the library has a process of its own; all
//! others are of child processes. SCCROSSREC_LONG=1 sends more of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::program::{
    Moments, alone, at_work, files, has_ended, long, ok, ok_words, program, send, text, wait_for,
};
use crate::common::tiny::{self, Order};
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::progress::Progress;
use sccrossrec::simulate::{SimulateConfig, Simulation};
use sccrossrec::train::tensors::TensorFile;
use sccrossrec::{Error, interrupt};

fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names
}

/// Sends this process a Ctrl-C once shards are on the disk, and stops at signals as the program does.
struct OneSignal<'a> {
    dir: &'a Path,
    /// Names that were in `dir` before.
    before: usize,
    /// How many more there were when the signal was sent.
    in_the_making: AtomicUsize,
}

impl Progress for OneSignal<'_> {
    fn at(&self, stage: &'static str, done: u64, _: u64) {
        if stage == "shards" && done > 0 && !interrupt::requested() {
            self.in_the_making.store(names(self.dir).len() - self.before, Ordering::SeqCst);
            let pid = std::process::id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
            wait_for("the signal", interrupt::requested);
        }
    }

    fn stop(&self) -> Option<i32> {
        interrupt::requested().then(interrupt::code)
    }
}

/// Ctrl-C once shards are on the disk: the folder in the making goes, what was to be replaced and the inputs stay.
#[test]
fn prepare_leaves_nothing() {
    if !alone(module_path!(), "prepare_leaves_nothing") {
        return;
    }
    interrupt::install();
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let (rna, atac, out) = (d.join("rna.h5ad"), d.join("atac.h5ad"), d.join("data"));
    tiny::matrix(&rna, "gene", tiny::GENES, 0, Order::Plain);
    tiny::matrix(&atac, "peak", tiny::PEAKS, 1000, Order::Plain);
    let mut config = PrepareConfig::new(&rna, &atac);
    config.force = true;
    prepare(&config, &out, &()).unwrap();
    let read = |paths: &[PathBuf]| paths.iter().map(|p| std::fs::read(p).unwrap()).collect::<Vec<_>>();
    let inputs = [rna, atac, out.join("dataset.json"), out.join("shards/00000.shard")];
    let before = (read(&inputs), names(d));

    let step = OneSignal { dir: d, before: before.1.len(), in_the_making: AtomicUsize::new(0) };
    let error = prepare(&config, &out, &step).unwrap_err();
    assert!(matches!(&error, Error::Interrupted { code: 130, .. }), "{error}");
    assert_eq!(error.to_string(), "interrupted; nothing was written");
    assert_eq!(step.in_the_making.load(Ordering::SeqCst), 1, "the folder in the making was not there yet");
    assert_eq!((read(&inputs), names(d)), before);

    // The flag is up: other work stops at its first look at it.
    let simulation = Simulation::new(SimulateConfig { cells: 50, ..SimulateConfig::default() }).unwrap();
    let error = simulation.write(d, &step).unwrap_err();
    assert_eq!(error.exit_code(), 130, "{error}");
    assert_eq!(names(d), before.1);
}

fn spawn(dir: &Path, args: &[&str]) -> Child {
    program().current_dir(dir).args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until it has ended; how many seconds of processor time that took.
fn end(child: &Child) -> f64 {
    let before = at_work(child).1;
    wait_for("the end", || has_ended(child));
    at_work(child).1 - before
}

/// Waits until it has used so many more seconds of processor time; has it ended before?
fn ends_within(child: &Child, seconds: f64) -> bool {
    let before = at_work(child).1;
    wait_for("the moment", || has_ended(child) || at_work(child).1 >= before + seconds);
    has_ended(child)
}

/// What must be the same again: not times, not how much was taken over, not the state before the last.
fn lasting(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = files(dir);
    found.retain(|name, _| {
        !name.ends_with("log.csv")
            && !name.ends_with("log.jsonl")
            && !name.ends_with("towers.jsonl")
            && !name.ends_with("before.safetensors")
    });
    if let Some(bytes) = found.get_mut(Path::new("discover.json")) {
        let mut made: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        made["attention"]["resumed"].take();
        *bytes = made.to_string().into_bytes();
    }
    found
}

fn no_temporaries(dir: &Path, what: &str) {
    for name in files(dir).keys() {
        let hidden = name.components().any(|c| c.as_os_str().to_string_lossy().ends_with(".tmp"));
        assert!(!hidden, "{what} has left {}", name.display());
    }
}

/// Data of some size, prepared, and a run.
fn ground(d: &Path) {
    ok_words(d, "simulate --out sim --cells 400 --genes 120 --peaks 600 --quiet");
    ok_words(d, "prepare --rna sim/rna.h5ad --atac sim/atac.h5ad --gtf sim/genes.gtf --out data --quiet");
    ok_words(d, "train --data data --out run --epochs 1 --hidden 16 --embedding-dim 12 --quiet");
}

/// Ctrl-C and SIGTERM at random moments of every long verb: exit code 130 or 143, one line, nothing half-done, no temporary
/// file; and the same command (with --resume where it says so) comes to what it would have come to.
#[test]
fn every_long_verb_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    ground(d);
    let verbs: [&[&str]; 9] = [
        &["simulate", "--cells", "2000", "--genes", "100", "--peaks", "400"],
        &["annotate", "--rna", "sim/rna.h5ad", "--atac", "sim/atac.h5ad", "--gtf", "sim/genes.gtf"],
        &["prepare", "--rna", "sim/rna.h5ad", "--atac", "sim/atac.h5ad", "--gtf", "sim/genes.gtf"],
        &["train", "--data", "data", "--epochs", "2", "--hidden", "16", "--embedding-dim", "12", "--batch-size", "16"],
        &["evaluate", "--run", "run", "--part", "all"],
        &["embed", "--run", "run", "--nodes"],
        &["translate", "--run", "run"],
        &["match", "--run", "run", "--rna", "data", "--atac", "data"],
        &["discover", "--run", "run", "--truth", "sim/truth.tsv", "--export", "h5ad,parquet"],
    ];
    for (stream, verb) in (81..).zip(verbs) {
        let name = verb[0];
        // Into a folder of its own, in which the result is a folder or a file.
        let out = if matches!(name, "evaluate" | "embed" | "translate" | "match") { "out/file" } else { "out/folder" };
        let args = [verb, &["--out", out, "--quiet"]].concat();
        let fresh = || {
            let _ = std::fs::remove_dir_all(d.join("out"));
            std::fs::create_dir(d.join("out")).unwrap();
        };
        fresh();
        let mut moments = Moments::of(stream, || drop(ok(d, &args)));
        let folder = d.join(if out == "out/file" { "out" } else { out });
        let want = lasting(&folder);
        assert!(!want.is_empty());
        let (mut stopped, wanted) = (0, if long() { 30 } else { 3 });
        for round in 0.. {
            if stopped >= wanted {
                break;
            }
            assert!(round < 300, "{args:?}: only {stopped} of {round} were stopped");
            fresh();
            let (signal, code) = if round % 2 == 0 { ("INT", 130) } else { ("TERM", 143) };
            let mut child = spawn(d, &args);
            let mut took = 0.0;
            if !moments.wait(&mut child) {
                send(&child, signal);
                took = end(&child);
            }
            let done = child.wait_with_output().unwrap();
            let said = text(&done);
            match done.status.code() {
                Some(0) => continue, // ended before the signal came
                None => continue,    // or the signal before the program had begun
                Some(c) => assert_eq!(c, code, "{args:?}: {said}"),
            }
            stopped += 1;
            assert!(said.starts_with("error: interrupted; ") && said.lines().count() == 1, "{args:?}: {said}");
            assert!(took < 10.0, "{args:?}: {took} s of work after the signal");
            no_temporaries(d, name);
            let again = if said.contains("--resume") { Some("--resume") } else { None };
            if again.is_none() {
                let there = files(&d.join("out"));
                // Files that a verb writes one after another are whole, each.
                assert!(
                    there.iter().all(|(n, b)| lasting_file(&want, &folder, d, n) == Some(b)),
                    "{args:?}: {:?}",
                    there.keys()
                );
                let nothing = ["nothing was written", "nothing is"].iter().any(|n| said.contains(n));
                assert!(nothing == there.is_empty(), "{args:?}: {said}, {:?}", there.keys());
            }
            let resumed: Vec<&str> = match (name, again) {
                ("train", Some(_)) => vec!["train", "--resume", "--out", out, "--quiet"],
                (_, Some(flag)) => [&args[..], &[flag]].concat(),
                _ => [&args[..], if name == "evaluate" || d.join(out).exists() { &["--force"][..] } else { &[] }]
                    .concat(),
            };
            ok(d, &resumed);
            assert!(lasting(&folder) == want, "{args:?}: round {round} differs");
        }
    }
}

/// Of a file below `out`, what it is in the end.
fn lasting_file<'w>(want: &'w BTreeMap<PathBuf, Vec<u8>>, folder: &Path, d: &Path, name: &Path) -> Option<&'w Vec<u8>> {
    let path = d.join("out").join(name);
    want.get(path.strip_prefix(folder).ok()?)
}

/// A second Ctrl-C does not wait for the step under way.
#[test]
fn a_second_signal_leaves_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    ok_words(d, "simulate --out sim --cells 2000 --genes 400 --peaks 2000 --quiet");
    ok_words(d, "prepare --rna sim/rna.h5ad --atac sim/atac.h5ad --gtf sim/genes.gtf --out data --quiet");
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        // All of the data in one step of seconds; a longer one where it is over before the second signal has come.
        let left = ["256", "512", "1024", "2048"].into_iter().any(|size| {
            let out = format!("run-{signal}-{size}");
            let args =
                ["train", "--data", "data", "--out", &out, "--batch-size", "100000", "--device", "cpu", "--quiet"];
            let args = [&args[..], &["--tower-epochs", "0"]].concat();
            let child = spawn(d, &[&args[..], &["--hidden", size, "--embedding-dim", size]].concat());
            wait_for("the begin", || d.join(&out).join("checkpoints/last.safetensors").exists() || has_ended(&child));
            let mut ended = ends_within(&child, 0.2);
            for _ in 0..2 {
                send(&child, signal);
                ended = ended || ends_within(&child, 0.3);
            }
            let took = end(&child);
            let done = child.wait_with_output().unwrap();
            assert_eq!(done.status.code(), Some(code));
            // The state before the step is whole.
            TensorFile::read(&d.join(&out).join("checkpoints/state.safetensors")).unwrap();
            // Whoever comes to the end of a step saves, and says so.
            let said = text(&done);
            assert!(said.is_empty() || said.starts_with("error: interrupted; saved"), "{said}");
            assert!(!said.is_empty() || took < 0.5, "{took} s of work after the second {signal}");
            said.is_empty()
        });
        assert!(left, "every step was over before the second {signal}");
    }
}

/// A discovery whose attention is done stops in the midst of its evidence, links and recovery, soon, and goes on.
#[test]
fn the_tables_of_a_discovery_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    ok_words(d, "simulate --out sim --cells 800 --genes 400 --peaks 6000 --quiet");
    ok_words(d, "prepare --rna sim/rna.h5ad --atac sim/atac.h5ad --gtf sim/genes.gtf --out data --quiet");
    ok_words(
        d,
        "train --data data --out run --recipe large-batch --alpha 0 --epochs 1 --hidden 16 --embedding-dim 12 --quiet",
    );
    let args = ["discover", "--run", "run", "--out", "found", "--truth", "sim/truth.tsv", "--quiet"];
    // The last table before evidence.
    let tables = |child: &Child| {
        wait_for("the first tables", || d.join("found/attention-peaks.tsv").exists() || has_ended(child));
    };
    let mut child = spawn(d, &args);
    tables(&child);
    let evidence = end(&child);
    assert!(evidence > 0.3, "the rest takes {evidence} s only: take more cells");
    assert!(child.wait().unwrap().success());
    let want = lasting(&d.join("found"));
    let (mut slowest, mut stopped) = (0f64, 0);
    for (round, share) in [0.0, 0.2, 0.4, 0.6, 0.8].into_iter().cycle().enumerate() {
        if round >= 5 && stopped >= 3 {
            break;
        }
        assert!(round < 50, "stopped {stopped} times of {round} only");
        std::fs::remove_dir_all(d.join("found")).unwrap();
        let child = spawn(d, &args);
        tables(&child);
        ends_within(&child, evidence * share);
        send(&child, "INT");
        slowest = slowest.max(end(&child));
        let out = child.wait_with_output().unwrap();
        if out.status.code() == Some(0) {
            continue;
        }
        let said = text(&out);
        assert!(out.status.code() == Some(130) && said.contains("all attention is there"), "{share}: {said}");
        stopped += 1;
        no_temporaries(d, "discover");
        ok(d, &[&args[..], &["--resume"]].concat());
        assert!(lasting(&d.join("found")) == want, "stopped after {share} of the tables");
    }
    println!("tables take {evidence:.2} s of processor time; the slowest end was {slowest:.2} s after the signal");
    assert!(slowest < evidence / 2.0 + 0.3, "{slowest} of {evidence} s");
}

/// On a terminal each long verb shows how far it is and how long it will take; elsewhere, and with --quiet, nothing.
#[test]
fn progress_is_shown_on_a_terminal() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED: no `script` (util-linux), which lends a terminal");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    ground(d);
    let bin = env!("CARGO_BIN_EXE_sccrossrec");
    for (verb, words) in [
        ("simulate", "simulate --out again --cells 600 --genes 40 --peaks 90"),
        ("prepare", "prepare --rna sim/rna.h5ad --atac sim/atac.h5ad --out more"),
        ("train", "train --data data --out fresh --epochs 1 --hidden 16 --embedding-dim 12"),
        ("evaluate", "evaluate --run run"),
        ("discover", "discover --run run --out links"),
        ("embed", "embed --run run --out z.h5ad"),
        ("translate", "translate --run run --out t.h5ad"),
        ("match", "match --run run --rna data --atac data --out partners.tsv"),
    ] {
        let shown = |more: &str| {
            let command = format!("{bin} {words} {more}");
            let out = Command::new("script").args(["-qec", &command, "/dev/null"]).current_dir(d).output().unwrap();
            assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stdout));
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        let bars: Vec<String> =
            shown("").split('\r').filter(|l| l.contains(" [") && l.contains('<')).map(String::from).collect();
        assert!(!bars.is_empty(), "{verb}: no bar with the time left");
        let quiet = shown(if verb == "evaluate" { "--quiet" } else { "--quiet --force" });
        assert!(!quiet.contains("s<"), "{verb} --quiet: {quiet}");
    }
    let out = program().current_dir(d).args(["evaluate", "--run", "run"]).output().unwrap();
    assert!(!text(&out).contains('['), "no terminal, and a bar: {}", text(&out));
}
