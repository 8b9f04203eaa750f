//! Programs that are killed, run out of disk, or may not write: what is on the disk is whole, nothing is left over once the
//! command is run again, and training goes on from the last checkpoint to what it would have come to. SCCROSSREC_LONG=1
//! kills more often.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::program::{self, Moments, Mounted, all, files, ok, program, refused, run, text, wait_for};
use crate::common::runs;
use crate::common::tiny::{self, Order};
use sccrossrec::dataset::DataSet;
use sccrossrec::train::tensors::TensorFile;

fn rounds(gate: usize, long: usize) -> usize {
    if program::long() { long } else { gate }
}

fn spawn(dir: &Path, args: &[&str]) -> Child {
    program().current_dir(dir).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs the command and kills it at one of its moments; was it killed before it ended by itself?
fn killed(dir: &Path, args: &[&str], moments: &mut Moments) -> bool {
    let mut child = spawn(dir, args);
    if !moments.wait(&mut child) {
        let _ = child.kill();
    }
    child.wait().unwrap().code().is_none()
}

fn no_temporaries(dir: &Path) {
    for path in all(dir) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.ends_with(".tmp") && !name.ends_with(".old"), "{} was left", path.display());
    }
}

/// The step of a state on the disk, which is whole: `None` where there is none.
fn step_of(run: &Path) -> Option<u64> {
    let path = run.join("checkpoints/state.safetensors");
    if !path.exists() {
        return None;
    }
    let file = TensorFile::read(&path).unwrap_or_else(|e| panic!("after a kill: {e}"));
    let state: serde_json::Value = serde_json::from_str(&file.metadata["state"]).unwrap();
    Some(state["step"].as_u64().unwrap())
}

const TRAIN: [&str; 14] = [
    "train",
    "--data",
    "data",
    "--epochs",
    "4",
    "--hidden",
    "16",
    "--embedding-dim",
    "12",
    "--batch-size",
    "8",
    "--checkpoint-steps",
    "2",
    "--quiet",
];

fn train(out: &str) -> Vec<&str> {
    [&TRAIN[..], &["--out", out]].concat()
}

/// `kill -9` at random moments of a run and of its resumptions.
#[test]
fn training_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    let mut moments = Moments::of(77, || drop(ok(d, &train("straight"))));
    let want = runs::contents(&d.join("straight"));
    let (mut kills, mut begun, mut lost) = (0, 0, 0);
    for round in 0.. {
        if kills >= rounds(10, 50) && begun >= kills / 4 {
            break;
        }
        assert!(round < 400, "only {kills} of {round} rounds were killed, {begun} with a state");
        let name = format!("run-{round}");
        let out = d.join(&name);
        let resume = ["train", "--resume", "--out", &name, "--quiet"];
        let mut args = train(&name);
        for _ in 0..3 {
            // A state that was on the disk before the kill is the least that is there after it.
            let before = step_of_if_whole(&out);
            if !killed(d, &args, &mut moments) {
                args = resume.to_vec(); // it has ended: nothing is left to do
                break;
            }
            kills += 1;
            for file in ["best.safetensors", "last.safetensors", "before.safetensors"] {
                let path = out.join("checkpoints").join(file);
                assert!(!path.exists() || TensorFile::read(&path).is_ok(), "{} is not whole", path.display());
            }
            let after = step_of(&out);
            assert!(after >= before, "step {before:?} was on the disk, {after:?} is after the kill");
            match std::fs::read_to_string(out.join("log.jsonl")) {
                Ok(log) => log.lines().for_each(|l| drop(serde_json::from_str::<serde_json::Value>(l).unwrap())),
                Err(_) => assert!(after.is_none(), "a state and no log"),
            }
            args = match after {
                Some(_) => resume.to_vec(),
                // Killed before the first state: the same command again, in the place of what there is.
                None => [train(&name), vec!["--force"]].concat(),
            };
            begun += usize::from(after.is_some());
            lost += usize::from(after.is_none());
        }
        ok(d, &args);
        runs::assert_same(&want, &runs::contents(&out), &format!("round {round}"));
        no_temporaries(d);
        std::fs::remove_dir_all(&out).unwrap();
    }
    println!("{kills} kills, {begun} with a state to go on from, {lost} before the first");
}

fn step_of_if_whole(run: &Path) -> Option<u64> {
    run.exists().then(|| step_of(run)).flatten()
}

/// No more is lost than the steps since the last checkpoint: a state that was seen while the program ran is there, or a
/// later one, once it is killed.
#[test]
fn what_was_saved_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    for round in 0..rounds(3, 20) {
        let name = format!("run-{round}");
        let mut args = train(&name);
        args[4] = "100000";
        let mut child = spawn(d, &args);
        let mut seen = None;
        // Read while it is replaced again and again: whole every time.
        wait_for("a checkpoint", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            let now = step_of(&d.join(&name));
            assert!(now >= seen, "from {seen:?} to {now:?}");
            seen = now;
            seen >= Some(20 + 7 * round as u64)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(step_of(&d.join(&name)) >= seen);
        std::fs::remove_dir_all(d.join(&name)).unwrap();
    }
}

/// A state that the disk has damaged is told from a whole one; the one before it is taken, and that is said.
#[test]
fn the_newest_state_that_is_whole_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    ok(d, &train("straight"));
    let want = runs::contents(&d.join("straight"));
    let state = d.join("straight/checkpoints/state.safetensors");
    let good = std::fs::read(&state).unwrap();
    let before = d.join("straight/checkpoints/before.safetensors");
    let good_before = std::fs::read(&before).unwrap();
    let resume = ["train", "--resume", "--out", "straight"];
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let last = bytes.len() - 5;
        bytes[last] ^= 0x10;
        bytes
    };
    for (damage, says) in [
        (good[..good.len() / 2].to_vec(), "not a safetensors file"),
        (Vec::new(), "not a safetensors file"),
        (flipped(&good), "checksum"),
    ] {
        std::fs::write(&state, &damage).unwrap();
        let said = ok(d, &resume);
        let line = said.lines().find(|l| l.contains("skipped")).unwrap_or_else(|| panic!("nothing skipped: {said}"));
        assert!(
            line.contains("state.safetensors") && line.contains(says) && line.contains("before.safetensors"),
            "{line}"
        );
        runs::assert_same(&want, &runs::contents(&d.join("straight")), says);
        // The first checkpoint of the resumption has put the damaged state aside.
        std::fs::write(&before, &good_before).unwrap();
    }
    std::fs::remove_file(&state).unwrap();
    ok(d, &resume);
    runs::assert_same(&want, &runs::contents(&d.join("straight")), "no state but the one before");
    std::fs::write(&state, flipped(&good)).unwrap();
    std::fs::write(&before, flipped(&good_before)).unwrap();
    refused(&run(d, &resume), &["state.safetensors", "checksum", "make or fetch it again"]);
    // Weights that are read for results tell their damage, too.
    let best = d.join("straight/checkpoints/best.safetensors");
    std::fs::write(&best, flipped(&std::fs::read(&best).unwrap())).unwrap();
    refused(&run(d, &["embed", "--run", "straight", "--out", "e.h5ad"]), &["best.safetensors", "checksum"]);
}

/// `prepare` killed at random moments: there is no data set, or a whole one, and the next `prepare` takes away what was left.
#[test]
fn preparing_begins_again_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    ok(d, &["simulate", "--out", "in", "--cells", "400", "--genes", "60", "--peaks", "200", "--quiet"]);
    let prepare = |out| ["prepare", "--rna", "in/rna.h5ad", "--atac", "in/atac.h5ad", "--out", out, "--quiet"];
    let mut moments = Moments::of(78, || drop(ok(d, &prepare("want"))));
    let want = files(&d.join("want"));
    let (mut kills, mut left) = (0, 0);
    for round in 0.. {
        if kills >= rounds(10, 50) && left > 0 {
            break;
        }
        assert!(round < 400, "only {kills} of {round} rounds were killed, {left} left something");
        let replace = round % 2 == 1;
        let args = if replace { [&prepare("data")[..], &["--force"]].concat() } else { prepare("data").to_vec() };
        if replace {
            ok(d, &prepare("data"));
        }
        let was = killed(d, &args, &mut moments);
        kills += usize::from(was);
        left += usize::from(all(d).iter().any(|p| p.is_dir() && p.extension().is_some_and(|e| e == "tmp")));
        if d.join("data").exists() {
            DataSet::open(&d.join("data")).and_then(|data| data.verify()).unwrap();
        }
        ok(d, &[&prepare("data")[..], &["--force"]].concat());
        assert!(files(&d.join("data")) == want, "round {round}");
        no_temporaries(d);
        std::fs::remove_dir_all(d.join("data")).unwrap();
    }
    println!("{kills} kills, {left} of them left a folder in the making");
}

/// Between the two renames of a replacement the old data set has another name: it comes back.
#[test]
fn a_replaced_data_set_is_never_lost() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    let was = files(&d.join("data"));
    let prepare = ["prepare", "--rna", "data-rna.h5ad", "--atac", "data-atac.h5ad", "--out", "data", "--quiet"];
    std::fs::rename(d.join("data"), d.join(".data.4711.old")).unwrap();
    refused(&run(d, &prepare), &["data", "--force"]);
    assert!(files(&d.join("data")) == was);
    // Killed after both renames: what was put aside is done with.
    std::fs::create_dir_all(d.join(".data.4711.old/shards")).unwrap();
    ok(d, &[&prepare[..], &["--force"]].concat());
    no_temporaries(d);
}

fn discover(out: &str) -> Vec<&str> {
    vec!["discover", "--run", "run", "--out", out, "--quiet", "--null", "shuffled", "--batch-size", "4"]
}

/// `discover` killed at random moments, gone on with, comes to what it would have come to.
#[test]
fn discovery_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    ok(d, &train("run"));
    let mut moments = Moments::of(79, || drop(ok(d, &discover("want"))));
    let tables = |dir: &Path| {
        let mut found = files(dir);
        let mut made: serde_json::Value =
            serde_json::from_slice(&found.remove(Path::new("discover.json")).unwrap()).unwrap();
        let resumed = made["attention"]["resumed"].take();
        made["out"].take();
        (found, made, resumed)
    };
    let want = tables(&d.join("want"));
    let mut kills = 0;
    for round in 0.. {
        if kills >= rounds(8, 50) {
            break;
        }
        assert!(round < 400, "only {kills} of {round} rounds were killed");
        let name = format!("out-{round}");
        kills += usize::from(killed(d, &discover(&name), &mut moments));
        let out = run(d, &[discover(&name), vec!["--resume"]].concat());
        // Killed after all was there: that is said.
        let finished = text(&out).contains("holds a finished discovery");
        assert!(out.status.success() || finished, "round {round}: {}", text(&out));
        let got = tables(&d.join(&name));
        assert!(got.0 == want.0 && got.1 == want.1, "round {round} differs");
        no_temporaries(d);
        std::fs::remove_dir_all(d.join(&name)).unwrap();
    }
}

/// Verbs of one file or a few: the file is whole or not there, and the same command makes it.
#[test]
fn files_are_whole_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    ok(d, &train("run"));
    let verbs: [&[&str]; 5] = [
        &["embed", "--run", "run", "--out", "out/e.h5ad", "--nodes"],
        &["translate", "--run", "run", "--out", "out/t.h5ad"],
        &["match", "--run", "run", "--rna", "data", "--atac", "data", "--out", "out/m.tsv"],
        &["simulate", "--out", "out", "--cells", "600", "--genes", "60", "--peaks", "300"],
        &["annotate", "--rna", "data-rna.h5ad", "--atac", "data-atac.h5ad", "--out", "out"],
    ];
    for (stream, verb) in (80..).zip(verbs) {
        let args = [verb, &["--quiet"]].concat();
        let fresh = || {
            let _ = std::fs::remove_dir_all(d.join("out"));
            std::fs::create_dir(d.join("out")).unwrap();
        };
        fresh();
        let mut moments = Moments::of(stream, || drop(ok(d, &args)));
        let want = files(&d.join("out"));
        assert!(!want.is_empty());
        let mut kills = 0;
        for round in 0.. {
            if kills >= rounds(3, 50) {
                break;
            }
            assert!(round < 400, "{args:?}: only {kills} of {round} rounds were killed");
            fresh();
            kills += usize::from(killed(d, &args, &mut moments));
            let there = files(&d.join("out"));
            for (name, bytes) in &there {
                let hidden = name.components().any(|c| c.as_os_str().to_string_lossy().starts_with('.'));
                assert!(hidden || want.get(name) == Some(bytes), "{args:?}: {} is not whole", name.display());
            }
            // What is there is the result, or is in the way of nothing.
            let visible = there.keys().any(|n| !n.to_string_lossy().starts_with('.'));
            ok(d, &if visible { [&args[..], &["--force"]].concat() } else { args.clone() });
            assert!(files(&d.join("out")) == want, "{args:?}, round {round}");
        }
    }
}

/// A lock in the hands of a process of its own, until this goes. (One of this process would for an instant be in those of every
/// child, too, that another test is just starting.)
struct Held(Child);

impl Held {
    fn new(path: &Path) -> Self {
        let script = "exec 9<\"$0\" && flock 9 && echo held && read -r _";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n", "`flock` of util-linux is needed");
        Held(holder)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Two programs in one folder: the second says so and leaves it alone.
#[test]
fn one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    ok(d, &train("run"));
    let discover = ["discover", "--run", "run", "--out", "out", "--quiet"];
    std::fs::create_dir(d.join("out")).unwrap();
    let held = Held::new(&d.join("out"));
    refused(&run(d, &discover), &["out", "another process discovers"]);
    assert!(all(&d.join("out")).is_empty());
    drop(held);
    ok(d, &discover);
    let held = Held::new(&d.join("run"));
    let before = files(&d.join("run"));
    refused(&run(d, &["train", "--resume", "--out", "run", "--quiet"]), &["run", "another process trains"]);
    refused(&run(d, &[train("run"), vec!["--force"]].concat()), &["run", "another process trains"]);
    assert!(files(&d.join("run")) == before);
    drop(held);
    // What a program at work is writing stays; what nobody has locked goes.
    std::fs::write(d.join(".e.h5ad.4711.tmp"), "at work").unwrap();
    std::fs::write(d.join(".e.h5ad.4712.tmp"), "left").unwrap();
    std::fs::write(d.join(".e.h5ad.mine.tmp"), "of somebody else").unwrap();
    let held = Held::new(&d.join(".e.h5ad.4711.tmp"));
    ok(d, &["embed", "--run", "run", "--out", "e.h5ad", "--quiet"]);
    let there = |name: &str| d.join(name).exists();
    assert!(there(".e.h5ad.4711.tmp") && !there(".e.h5ad.4712.tmp") && there(".e.h5ad.mine.tmp"));
    drop(held);
}

/// Commands that write, each with its output, made again and again.
const WRITERS: [(&str, &[&str]); 7] = [
    ("data2", &["prepare", "--rna", "data-rna.h5ad", "--atac", "data-atac.h5ad"]),
    (
        "run2",
        &["train", "--data", "data", "--epochs", "1", "--hidden", "16", "--embedding-dim", "12", "--batch-size", "8"],
    ),
    ("e.h5ad", &["embed", "--run", "run"]),
    ("found", &["discover", "--run", "run"]),
    ("links", &["discover", "--data", "placed", "--gzip"]),
    ("sim", &["simulate", "--cells", "100", "--genes", "30", "--peaks", "80"]),
    ("full", &["annotate", "--rna", "data-rna.h5ad", "--atac", "data-atac.h5ad"]),
];

fn remove(path: &Path) {
    let _ = std::fs::remove_dir_all(path);
    let _ = std::fs::remove_file(path);
}

/// Data in which genes have places, without which there are no links to look for.
fn placed(d: &Path) {
    let sizes = ["--cells", "60", "--genes", "20", "--peaks", "60", "--quiet"];
    ok(d, &[&["simulate", "--out", "of-places"], &sizes[..]].concat());
    let files =
        ["prepare", "--rna", "of-places/rna.h5ad", "--atac", "of-places/atac.h5ad", "--gtf", "of-places/genes.gtf"];
    ok(d, &[&files[..], &["--out", "placed", "--quiet"]].concat());
}

/// Every write that is too long for a limit, as on a disk that fills up in the midst of it: one line of error, exit code 2,
/// no file in the making left, no file of a result that is not whole.
#[test]
fn no_room_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    placed(d);
    ok(d, &train("run"));
    for (out, args) in WRITERS {
        let args = [args, &["--out", out, "--quiet"]].concat();
        ok(d, &args);
        let want = if out == "run2" { BTreeMap::new() } else { outputs(&d.join(out)) };
        let (mut failed, mut done) = (0, false);
        for kib in [0, 1, 2, 4, 8, 16, 64, 1 << 14] {
            remove(&d.join(out));
            // `ulimit -f` counts 1024 bytes in bash.
            let script = format!("ulimit -f {kib}; exec \"$0\" \"$@\"");
            let mut limited = Command::new("bash");
            limited.current_dir(d).args(["-c", &script, env!("CARGO_BIN_EXE_sccrossrec")]).args(&args);
            let got = limited.output().unwrap();
            no_temporaries(d);
            if got.status.success() {
                done = true;
                continue;
            }
            failed += 1;
            refused(&got, &["cannot write", "too large", "ulimit"]);
            if d.join(out).exists() && out != "run2" {
                for (name, bytes) in outputs(&d.join(out)) {
                    let parts = name.starts_with(".attention");
                    assert!(parts || want.get(&name) == Some(&bytes), "{args:?}: {} is not whole", name.display());
                }
            }
        }
        assert!(failed >= 2 && done, "{args:?}: {failed} failed");
    }
}

fn outputs(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    if path.is_dir() { files(path) } else { BTreeMap::from([(PathBuf::new(), std::fs::read(path).unwrap())]) }
}

/// A disk that is full when a checkpoint is due: the last one stays whole, and with room again the run goes on.
#[test]
fn a_full_disk_costs_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let Some(_small) = Mounted::new(&d.join("small"), "8m") else {
        println!("skipped: a file system of limited size cannot be mounted here (it takes root)");
        return;
    };
    tiny::prepared(d, "data", Order::Plain);
    ok(d, &train("straight"));
    let short = TRAIN.map(|a| if a == "4" { "1" } else { a });
    ok(d, &[&short[..], &["--out", "small/run"]].concat());
    let resume = ["train", "--resume", "--out", "small/run", "--epochs", "4", "--quiet"];
    for room in [0usize, 3, 30, 300] {
        let before = step_of(&d.join("small/run"));
        // All room but some KiB is taken.
        let filler = d.join("small/filler");
        let mut fill = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut fill, &[1; 1 << 10]).is_ok() {}
        drop(fill);
        let taken = std::fs::metadata(&filler).unwrap().len();
        std::fs::OpenOptions::new().write(true).open(&filler).unwrap().set_len(taken - (room << 10) as u64).unwrap();
        let out = run(d, &resume);
        if out.status.success() {
            assert!(room == 300, "{room} KiB were enough");
        } else {
            refused(&out, &["No space left", "free some space"]);
        }
        std::fs::remove_file(&filler).unwrap();
        no_temporaries(&d.join("small"));
        assert!(step_of(&d.join("small/run")) >= before);
    }
    ok(d, &resume);
    runs::assert_same(&runs::contents(&d.join("straight")), &runs::contents(&d.join("small/run")), "after a full disk");
}

/// Folders that may not be written to: said in a line, and nothing is changed.
#[test]
fn no_permission_is_an_error() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let mode = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(d, 0o755);
    tiny::prepared(d, "data", Order::Plain);
    placed(d);
    ok(d, &train("run"));
    // Root may write anywhere: the program is then run as nobody.
    let root = std::fs::metadata(d).unwrap().uid() == 0;
    let as_user = |args: &[&str]| {
        let mut command = program();
        command.current_dir(d).args(args);
        if root {
            command.uid(65534).gid(65534);
        }
        command.output()
    };
    if !as_user(&["recipes"]).is_ok_and(|o| o.status.success()) {
        println!("skipped: nobody may not run the program where it lies");
        return;
    }
    for folder in all(d).into_iter().filter(|p| p.is_dir()).chain([d.to_path_buf()]) {
        mode(&folder, 0o555);
    }
    let before = files(d);
    for (out, args) in WRITERS {
        let got = as_user(&[args, &["--out", out, "--quiet"]].concat()).unwrap();
        refused(&got, &[out, "ermission"]);
    }
    refused(
        &as_user(&["train", "--resume", "--out", "run", "--epochs", "9", "--quiet"]).unwrap(),
        &["run", "ermission"],
    );
    refused(&as_user(&["samples", "--data", "data", "--name", "more", "--quiet"]).unwrap(), &["more", "ermission"]);
    assert!(files(d) == before);
    for folder in all(d).into_iter().filter(|p| p.is_dir()).chain([d.to_path_buf()]) {
        mode(&folder, 0o755);
    }
}
