//! What is promised of files: inputs are never touched; the same seed makes the same bytes, whatever the number of threads and
//! whenever; what does not fit is refused; shards that are cut short under a running program end in an error; no cell of one
//! part of a sample set is in another. SCCROSSREC_LONG=1 repeats more often.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::program::{Mounted, all, files, long, ok, program, refused, run, text, wait_for};
use crate::common::runs;
use crate::common::tiny::{self, Order};

use sccrossrec::dataset::{Access, DataSet, Io};
use sccrossrec::evaluate::{Part, evaluate};
use sccrossrec::prepare::PrepareConfig;
use sccrossrec::progress::Progress;
use sccrossrec::train;

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

const SMALL: [&str; 8] = ["--hidden", "16", "--embedding-dim", "12", "--batch-size", "8", "--quiet", "--device=cpu"];

/// Every verb, over inputs in folders that nobody may write to: bytes and times of all of them stay.
#[test]
fn inputs_are_never_modified() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    set_mode(d, 0o755);
    let (inputs, out) = (d.join("in"), d.join("out"));
    std::fs::create_dir(&inputs).unwrap();
    std::fs::create_dir(&out).unwrap();
    ok(&inputs, &["simulate", "--out", "sim", "--cells", "120", "--genes", "30", "--peaks", "80", "--quiet"]);
    let prepare = ["--gtf", "sim/genes.gtf", "--fasta", "sim/peaks.fa", "--quiet"];
    let from = ["prepare", "--rna", "sim/rna.h5ad", "--atac", "sim/atac.h5ad", "--out", "data"];
    ok(&inputs, &[&from[..], &prepare].concat());
    ok(&inputs, &[&["train", "--data", "data", "--out", "run", "--epochs", "1"][..], &SMALL].concat());
    ok(&inputs, &["weights", "export", "--run", "run", "--out", "w.safetensors", "--quiet"]);
    std::fs::write(inputs.join("sites.bed"), "chr1\t100\t5000\tsite\t7\n").unwrap();
    std::fs::write(inputs.join("config.toml"), "quiet = true\n").unwrap();
    std::fs::write(inputs.join("obs.tsv"), "barcode\tplace\n").unwrap();
    let root = std::fs::metadata(d).unwrap().uid() == 0;
    if root {
        std::os::unix::fs::chown(&out, Some(65534), Some(65534)).unwrap();
    }
    for path in all(&inputs).into_iter().chain([inputs.clone()]) {
        set_mode(&path, if path.is_dir() { 0o555 } else { 0o444 });
    }
    let state = || -> Vec<(PathBuf, i64, i64, u64, Vec<u8>)> {
        let of = |p: PathBuf| {
            let m = std::fs::metadata(&p).unwrap();
            let bytes = if p.is_file() { std::fs::read(&p).unwrap() } else { Vec::new() };
            (p, m.mtime(), m.mtime_nsec(), m.len(), bytes)
        };
        all(&inputs).into_iter().chain([inputs.clone()]).map(of).collect()
    };
    let before = state();
    let verbs: [&[&str]; 18] = [
        &["inspect", "../in/sim/rna.h5ad"],
        &["inspect", "../in/data", "--verify"],
        &["inspect", "../in/run"],
        &[
            "annotate",
            "--rna",
            "../in/sim/rna.h5ad",
            "--atac",
            "../in/sim/atac.h5ad",
            "--gtf",
            "../in/sim/genes.gtf",
            "--out",
            "full",
        ],
        &[
            "prepare",
            "--rna",
            "../in/sim/rna.h5ad",
            "--atac",
            "../in/sim/atac.h5ad",
            "--gtf",
            "../in/sim/genes.gtf",
            "--fasta",
            "../in/sim/peaks.fa",
            "--out",
            "data",
        ],
        &[
            "prepare",
            "--rna",
            "../in/sim/rna.h5ad",
            "--atac",
            "../in/sim/atac.h5ad",
            "--like",
            "../in/data",
            "--out",
            "like",
        ],
        &[
            "train",
            "--data",
            "../in/data",
            "--out",
            "run",
            "--epochs",
            "2",
            "--hidden",
            "16",
            "--embedding-dim",
            "12",
            "--config",
            "../in/config.toml",
        ],
        &["evaluate", "--run", "../in/run"],
        &["embed", "--run", "../in/run", "--out", "e.h5ad", "--nodes"],
        &["translate", "--run", "../in/run", "--out", "t.h5ad"],
        &["match", "--run", "../in/run", "--rna", "../in/data", "--atac", "../in/data", "--out", "m.tsv"],
        &[
            "discover",
            "--run",
            "../in/run",
            "--out",
            "found",
            "--truth",
            "../in/sim/truth.tsv",
            "--tf",
            "../in/sites.bed:5",
        ],
        &["discover", "--data", "../in/data", "--out", "alone"],
        &["report", "../in/run", "--out", "r.html"],
        &["plot", "curves", "--run", "../in/run", "--out", "c.png"],
        &["weights", "export", "--run", "../in/run", "--out", "w.safetensors"],
        &["weights", "import", "../in/w.safetensors", "--data", "../in/data", "--out", "imported"],
        &["train", "--data", "../in/data", "--out", "pread", "--epochs", "1", "--hidden", "16", "--io", "pread"],
    ];
    let mut failed = Vec::new();
    for args in verbs {
        let mut command = program();
        command.current_dir(&out).args(args).arg("--quiet");
        if root {
            command.uid(65534).gid(65534); // root may write anywhere
        }
        let Ok(done) = command.output() else {
            println!("skipped: nobody may not run the program where it lies");
            return;
        };
        if !done.status.success() {
            failed.push(format!("{args:?}: {}", text(&done)));
        }
        assert!(state() == before, "{args:?} has touched its inputs");
    }
    assert!(failed.is_empty(), "{failed:#?}");
    for path in all(&inputs).into_iter().filter(|p| p.is_dir()).chain([inputs.clone()]) {
        set_mode(&path, 0o755);
    }
}

/// Files of a folder, without what tells times or places.
fn timeless(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let drop_times = |text: &[u8]| -> Vec<u8> {
        let records = String::from_utf8(text.to_vec()).unwrap();
        let record = |line: &str| {
            let mut r: serde_json::Value = serde_json::from_str(line).unwrap();
            for time in ["seconds", "samples_per_second"] {
                r.as_object_mut().unwrap().remove(time);
            }
            r.to_string()
        };
        records.lines().map(record).collect::<Vec<_>>().join("\n").into_bytes()
    };
    let mut found = files(dir);
    for (name, bytes) in &mut found {
        let name = name.to_string_lossy();
        if name.ends_with("log.jsonl") || name.ends_with("towers.jsonl") {
            *bytes = drop_times(bytes);
        } else if name.ends_with("log.csv") {
            // the table of the records above
            bytes.clear();
        }
    }
    found
}

/// The whole way, with one, two and four threads, again and again and at other times: the same bytes in every file.
#[test]
fn same_seed_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let steps: [&[&str]; 9] = [
        &["simulate", "--out", "sim", "--cells", "150", "--genes", "40", "--peaks", "120"],
        &["annotate", "--rna", "sim/rna.h5ad", "--atac", "sim/atac.h5ad", "--gtf", "sim/genes.gtf", "--out", "full"],
        &["prepare", "--rna", "full/rna.h5ad", "--atac", "full/atac.h5ad", "--fasta", "sim/peaks.fa", "--out", "data"],
        &[
            "train",
            "--data",
            "data",
            "--out",
            "run",
            "--epochs",
            "2",
            "--hidden",
            "16",
            "--embedding-dim",
            "12",
            "--batch-size",
            "16",
        ],
        &["embed", "--run", "run", "--out", "e.h5ad", "--nodes"],
        &["translate", "--run", "run", "--out", "t.h5ad"],
        &["match", "--run", "run", "--rna", "data", "--atac", "data", "--out", "m.tsv"],
        &["discover", "--run", "run", "--out", "found", "--truth", "sim/truth.tsv", "--export", "h5ad,parquet,bedpe"],
        &["discover", "--data", "data", "--out", "alone", "--max-q", "1", "--export", "h5ad,parquet,bedpe", "--gzip"],
    ];
    let mut before = 0;
    let mut once = |threads: &str| {
        // HDF5 would tell seconds: each begins in one of its own.
        let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        wait_for("the next second", || second() > before);
        before = second();
        // The same place each time: files name the places of others.
        let at = d.join("at");
        let _ = std::fs::remove_dir_all(&at);
        std::fs::create_dir(&at).unwrap();
        for step in steps {
            ok(&at, &[step, &["--threads", threads, "--quiet", "--seed", "7"]].concat());
        }
        timeless(&at)
    };
    let mut want = None;
    for repeat in 0..if long() { 10 } else { 1 } {
        for threads in ["1", "2", "4"] {
            let got = once(threads);
            let Some(want) = &want else {
                assert!(got.len() > 30 && got.contains_key(Path::new("found/attention.h5")), "{:?}", got.keys());
                want = Some(got);
                continue;
            };
            assert!(got.keys().eq(want.keys()));
            for (name, bytes) in want {
                assert!(bytes == &got[name], "{} differs: repeat {repeat}, {threads} threads", name.display());
            }
        }
    }
}

/// Ten steps and ten more are twenty: weights, moments and log.
#[test]
fn ten_and_ten_are_twenty() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let config = train::TrainConfig { batch_size: set.train.len().div_ceil(10), epochs: 2, ..runs::config() };
    assert_eq!(set.train.len().div_ceil(config.batch_size), 10);
    let straight = dir.path().join("straight");
    assert_eq!(train::train(&data, &set, &config, &straight, &mut ()).unwrap().steps, 20);
    let resumed = dir.path().join("resumed");
    runs::stopped_and_resumed(&sccrossrec::engine::Device::Cpu, &data, &config, &resumed, &[10]);
    let (a, b) = (runs::contents(&straight), runs::contents(&resumed));
    let wanted = ["best.safetensors", "last.safetensors", "state.safetensors", "log 0", "log 1", "run.json"];
    assert!(wanted.iter().all(|f| a.contains_key(*f)), "{:?}", a.keys());
    runs::assert_same(&a, &b, "10 + 10 steps");
}

/// A sample set that says its cells were dealt out, and shares one, is refused wherever it is read or used.
#[test]
fn no_test_cell_is_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let good = data.samples("default").unwrap();
    assert_eq!(good.recipe["split"], "cell");
    let cells = |part: &[u32]| -> Vec<u32> {
        part.iter().flat_map(|&n| [good.samples[n as usize].rna, good.samples[n as usize].atac]).collect()
    };
    let (train_cells, test_cells) = (cells(&good.train), cells(&good.test));
    assert!(!test_cells.is_empty() && test_cells.iter().all(|c| !train_cells.contains(c)));
    let model =
        sccrossrec::model::Model::new(runs::config().model_for(&data), data.features(), runs::config().init(), 1);
    let model = model.unwrap();
    for (name, doctor) in [
        ("moved", (|s| s.train.push(s.test.pop().unwrap())) as fn(&mut sccrossrec::dataset::SampleSet)),
        ("negative", |s| s.samples[s.train[0] as usize].atac = s.samples[s.test[0] as usize].atac),
        ("validation", |s| s.samples[s.val[0] as usize].rna = s.samples[s.test[0] as usize].rna),
    ] {
        let mut set = good.clone();
        doctor(&mut set);
        if name == "moved" {
            // A whole sample in another part leaks where a cell of it stays behind.
            assert!(cells(&set.test).iter().any(|c| cells(&set.train).contains(c)), "choose another sample");
        }
        let out = dir.path().join("run");
        let errors = [
            train::train(&data, &set, &runs::config(), &out, &mut ()).unwrap_err(),
            evaluate(&model, &data, &set, Part::Test, 8, &()).unwrap_err(),
        ];
        data.save_samples(name, &set, false).unwrap();
        let stored = data.samples(name).unwrap_err();
        for e in errors.into_iter().chain([stored]) {
            let text = e.to_string();
            assert!(
                e.exit_code() == 2 && text.contains("split by cell") && text.contains("cell cell"),
                "{name}: {text}"
            );
        }
        let got =
            run(dir.path(), &[&["train", "--data", "data", "--out", "run", "--samples", name][..], &SMALL].concat());
        refused(&got, &[name, "split by cell", "pairs --force"]);
        assert!(!out.exists());
        // A set that was dealt out by sample promises nothing of the kind.
        set.recipe["split"] = "sample".into();
        set.check(data.vocabulary()).unwrap();
    }
}

/// What takes more than the limit is refused before anything is written, with what takes less.
#[test]
fn what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    let big = [
        "train",
        "--data",
        "data",
        "--out",
        "run",
        "--hidden",
        "4096",
        "--embedding-dim",
        "4096",
        "--epochs",
        "1",
        "--device",
        "cpu",
    ];
    let limited = |args: &[&str], limit: &str| run(d, &[args, &["--memory-limit", limit, "--quiet"]].concat());
    refused(
        &limited(&big, "1GiB"),
        &["training takes about", "parameters", "1024 MiB of --memory-limit", "--embedding-dim"],
    );
    assert!(!d.join("run").exists());
    let small = ["train", "--data", "data", "--out", "run", "--epochs", "1", "--batch-size", "64", "--device", "cpu"];
    let wide =
        ["train", "--data", "data", "--out", "run", "--epochs", "1", "--tower-width", "60000", "--device", "cpu"];
    refused(&limited(&wide, "100M"), &["training takes about", "towers", "100 MiB of --memory-limit", "--tower-width"]);
    assert!(!d.join("run").exists());
    ok(d, &small.map(|a| if a == "run" { "with-towers" } else { a }));
    for verb in ["embed", "translate"] {
        refused(&limited(&[verb, "--run", "with-towers", "--out", "o"], "64K"), &["takes about", "towers"]);
    }
    let small = [&small[..], &["--tower-epochs", "0"]].concat();
    // Between the plan of a batch and that of a smaller one: the message names the one that fits.
    let plan = ok(d, &[&small[..], &["--memory-limit", "1GiB"]].concat());
    let line = plan.lines().find(|l| l.starts_with("memory: ")).unwrap_or_else(|| panic!("no plan: {plan}"));
    let total: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    std::fs::remove_dir_all(d.join("run")).unwrap();
    let limit = format!("{}K", ((total - 0.1) * 1024.0) as u64);
    let out = limited(&small, &limit);
    refused(&out, &["training takes about", "of --memory-limit; --batch-size "]);
    assert!(!d.join("run").exists());
    let said = text(&out);
    let fits = said.split("--batch-size ").nth(1).unwrap().split_whitespace().next().unwrap();
    let fitting: Vec<&str> = small.iter().map(|a| if *a == "64" { fits } else { a }).collect();
    assert!(limited(&fitting, &limit).status.success(), "--batch-size {fits} was said to fit into {limit}");
    for verb in ["embed", "translate", "evaluate", "discover"] {
        let out = if verb == "discover" { "found" } else { "o" };
        refused(&limited(&[verb, "--run", "run", "--out", out], "64K"), &["takes about", "64", "--batch-size"]);
        assert!(!d.join(out).exists());
    }
    refused(&limited(&small, "much"), &["--memory-limit", "24G"]);
}

/// Shards that do not fit on the disk: said before any is written; on one that fills up in the midst of it nothing is left.
/// Takes all that is left of a disk, once the first of several shards is on it.
struct Filling<'a> {
    file: &'a Path,
    taken: AtomicBool,
}

impl Progress for Filling<'_> {
    fn at(&self, stage: &'static str, done: u64, of: u64) {
        if stage == "shards" && 0 < done && done < of && !self.taken.swap(true, Ordering::SeqCst) {
            let mut fill = std::fs::File::create(self.file).unwrap();
            while std::io::Write::write_all(&mut fill, &[1; 1 << 12]).is_ok() {}
        }
    }
}

#[test]
fn shards_on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    ok(d, &["simulate", "--out", "sim", "--cells", "2000", "--genes", "200", "--peaks", "800", "--quiet"]);
    let small = d.join("small");
    let Some(_small) = Mounted::new(&small, "64k") else {
        println!("skipped: a file system of limited size cannot be mounted here (it takes root)");
        return;
    };
    let prepare = ["prepare", "--rna", "sim/rna.h5ad", "--atac", "sim/atac.h5ad", "--out", "small/data", "--quiet"];
    refused(&run(d, &prepare), &["small/data", "MiB are needed", "are free", "free some space"]);
    assert!(all(&small).is_empty());
    let remount = |limits: &str| {
        let status = Command::new("mount").args(["-o", &format!("remount,{limits}")]).arg(&small).status();
        assert!(status.unwrap().success());
    };
    // Taken by somebody else once the first shard is written: the work stands still until all is taken.
    remount("size=64m");
    let filler = small.join("filler");
    let fills = Filling { file: &filler, taken: AtomicBool::new(false) };
    let config =
        PrepareConfig { shard_cells: 500, ..PrepareConfig::new(d.join("sim/rna.h5ad"), d.join("sim/atac.h5ad")) };
    let error = sccrossrec::prepare::prepare(&config, &small.join("data"), &fills).unwrap_err();
    let said = error.to_string();
    assert!(fills.taken.into_inner() && error.exit_code() == 2 && said.lines().count() == 1, "{said}");
    assert!(said.contains("No space left") && said.contains("free some space"), "{said}");
    assert_eq!(all(&small), std::slice::from_ref(&filler));
    std::fs::remove_file(&filler).unwrap();
    // Room for bytes, and none for one more file: at each file that it makes.
    ok(d, &prepare);
    let made = all(&small).len();
    std::fs::remove_dir_all(small.join("data")).unwrap();
    assert!(made > 5);
    // The root of the file system is one, too.
    for files in 2..=made {
        remount(&format!("size=64m,nr_inodes={files}"));
        refused(&run(d, &prepare), &["No space left", "free some space"]);
        assert!(all(&small).is_empty(), "room for {files} files");
    }
}

/// The shards of a data set are cut short under a program at work: it ends with one line and not by a signal, and what it
/// had saved is whole.
#[test]
fn shards_cut_short_end_in_an_error() {
    for io in ["mmap", "pread"] {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        tiny::prepared(d, "data", Order::Plain);
        let shard = d.join("data/shards/00000.shard");
        let whole = std::fs::read(&shard).unwrap();
        for (round, keep) in
            (0..if long() { 40 } else { 4 }).zip([0, 300, whole.len() / 2, whole.len() - 64].into_iter().cycle())
        {
            let name = format!("run-{io}-{round}");
            let args = ["train", "--data", "data", "--out", &name, "--epochs", "100000", "--io", io];
            let mut child = program();
            child.current_dir(d).args(args).args(SMALL).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = child.spawn().unwrap();
            let log = d.join(&name).join("log.jsonl");
            wait_for("the first epoch", || std::fs::read_to_string(&log).is_ok_and(|t| !t.is_empty()));
            std::fs::OpenOptions::new().write(true).open(&shard).unwrap().set_len(keep as u64).unwrap();
            wait_for(&format!("the end ({io}, {keep} bytes)"), || child.try_wait().unwrap().is_some());
            let out = child.wait_with_output().unwrap();
            let said = text(&out);
            assert!(said.lines().count() == 1 && said.starts_with("error: "), "{io}, {keep} bytes: {said}");
            if io == "pread" || out.status.code() != Some(1) {
                refused(&out, &["00000.shard", "has changed while it was read", &format!("{keep} bytes long")]);
            } else {
                assert!(said.contains("cut short") && said.contains("--io pread"), "{said}");
            }
            std::fs::write(&shard, &whole).unwrap();
            let done = std::fs::read_to_string(&log).unwrap().lines().count() + 1;
            ok(d, &["train", "--resume", "--out", &name, "--epochs", &done.to_string(), "--quiet"]);
        }
    }
}

/// Read piece by piece or mapped: the same cells, the same damage told.
#[test]
fn both_ways_of_reading_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = tiny::prepared(dir.path(), "data", Order::Plain);
    let access = |io| Access { io, ..Access::default() };
    let open = |io| DataSet::open_with(&path, access(io)).unwrap();
    let (mapped, read) = (open(Io::Mmap), open(Io::Pread));
    for c in 0..mapped.n_cells() {
        assert_eq!(mapped.cell(c), read.cell(c));
        assert_eq!(mapped.cell_sizes(c), read.cell_sizes(c));
    }
    mapped.verify().unwrap();
    read.verify().unwrap();
    let shard = path.join("shards/00000.shard");
    let whole = std::fs::read(&shard).unwrap();
    for cut in [0, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&shard, &whole[..cut]).unwrap();
        let errors = [Io::Mmap, Io::Pread].map(|io| DataSet::open_with(&path, access(io)).unwrap_err().to_string());
        assert!(errors[0] == errors[1] && errors[0].contains("bytes long"), "{errors:?}");
    }
    // Cut short and restored in place: the cells read meanwhile are empty, and that is told for good.
    std::fs::write(&shard, &whole).unwrap();
    let data = open(Io::Pread);
    data.check().unwrap();
    std::fs::OpenOptions::new().write(true).open(&shard).unwrap().set_len(200).unwrap();
    assert!(data.cell(7).genes.is_empty());
    std::fs::write(&shard, &whole).unwrap();
    assert!(!data.cell(7).genes.is_empty());
    let e = data.check().unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("has changed while it was read"), "{e}");
}
