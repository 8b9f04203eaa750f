//! The command line: exit codes, one-line errors, configuration files, signals, files that Python opens.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::program::{send, wait_for};
use crate::common::python;
use crate::common::tiny::{self, Order};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sccrossrec"))
}

fn run(dir: &Path, args: &[&str]) -> Output {
    program().current_dir(dir).args(args).output().unwrap()
}

fn ok(dir: &Path, args: &[&str]) -> String {
    let out = run(dir, args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Exit code 2 and one line of error with all of `parts`.
fn refused(dir: &Path, args: &[&str], parts: &[&str]) {
    let out = run(dir, args);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
    assert!(out.stdout.is_empty(), "{args:?}: something on stdout");
    let errors: Vec<_> = text.lines().filter(|l| !l.is_empty()).collect();
    assert!(errors.len() == 1 && errors[0].starts_with("error: "), "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: no {part:?} in: {text}");
    }
}

/// Small and quick.
const SMALL: [&str; 6] = ["--hidden", "16", "--embedding-dim", "12", "--batch-size", "8"];

fn train<'a>(out: &'a str, epochs: &'a str) -> Vec<&'a str> {
    [&["train", "--data", "data", "--out", out, "--epochs", epochs, "--quiet"], &SMALL[..]].concat()
}

#[test]
fn wrong_usage_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    refused(d, &["train", "--data", "data", "--out", "run", "--ephocs", "3"], &["--ephocs", "--epochs"]);
    refused(d, &["train", "--out", "run"], &["--data"]);
    refused(d, &["trian"], &["trian", "train"]);
    refused(d, &["train", "--data", "nowhere", "--out", "run"], &["nowhere"]);
    if !sccrossrec::device::gpu::driver_present() {
        let parts = ["--device cuda", "no NVIDIA driver", "libcuda.so.1", "--device cpu"];
        refused(d, &["train", "--data", "d", "--out", "r", "--device", "cuda:0", "--recipe", "large-batch"], &parts);
    }
    refused(d, &["train", "--data", "d", "--out", "r", "--device", "tpu"], &["tpu", "auto, cpu or cuda"]);
    refused(d, &["train", "--data", "d", "--out", "r", "--recipe", "magic"], &["magic", "default", "published"]);
    refused(d, &["train", "--data", "d", "--out", "r", "--lr", "-1"], &["--lr"]);
    refused(d, &["train", "--data", "d", "--out", "r", "--hidden", "9"], &["--hidden 9", "even"]);
    refused(d, &["train", "--data", "d", "--out", "r", "--seed", "-1"], &["--seed"]);
    refused(d, &["simulate", "--out", "s", "--cells", "-5"], &["--cells"]);
    refused(d, &["train", "--data", "d", "--out", "r", "--hidden", "2000000000"], &["--hidden 2000000000", "at most"]);
    refused(d, &["train", "--data", "d", "--out", "r", "--embedding-dim", "99999999999"], &["--embedding-dim"]);
    refused(d, &["recipes", "--threads", "0"], &["--threads"]);
    refused(d, &["recipes", "--threads", "60000"], &["--threads", "1024"]);
    refused(d, &["inspect", "nowhere"], &["nowhere", "check the path"]);
    refused(d, &["embed", "--run", ".", "--out", "e.h5ad"], &["run.json", "train"]);
    assert!(std::fs::read_dir(d).unwrap().next().is_none(), "something was left behind");
    assert_eq!(run(d, &[]).status.code(), Some(2));
    assert!(ok(d, &["--help"]).contains("translate"));
    assert!(ok(d, &["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn existing_outputs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    ok(d, &train("run", "1"));
    let before = std::fs::read(d.join("run/run.json")).unwrap();
    refused(d, &train("run", "2"), &["run", "--force"]);
    assert_eq!(std::fs::read(d.join("run/run.json")).unwrap(), before);
    ok(d, &[train("run", "2"), vec!["--force"]].concat());
    ok(d, &["embed", "--run", "run", "--out", "e.h5ad"]);
    refused(d, &["embed", "--run", "run", "--out", "e.h5ad"], &["e.h5ad", "--force"]);
    refused(d, &["embed", "--run", "run", "--out", "no/e.h5ad"], &["no"]);
    refused(d, &["weights", "export", "--run", "run", "--out", "e.h5ad"], &["e.h5ad", "--force"]);
    refused(d, &["embed", "--run", "run", "--out", "n.h5ad", "--nodes", "--cells", "cell1,who"], &["who"]);
    refused(d, &["train", "--resume", "--out", "data"], &["run.json"]);
    refused(d, &["train", "--resume", "--out", "run", "--lr", "0.1"], &["other settings", "--epochs"]);
    assert!(!d.join("n.h5ad").exists());
}

/// More parameters than any memory holds: said before they are asked for.
#[cfg(target_os = "linux")]
#[test]
fn models_beyond_the_memory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    let size = (1 << 20).to_string();
    let args = ["train", "--data", "data", "--out", "run", "--hidden", &size, "--embedding-dim", &size];
    refused(d, &args, &["--embedding-dim", "--hidden", "memory", "smaller"]);
    assert!(!d.join("run").exists());
}

/// A socket, a pipe or a device is not replaced by a file of results, --force or not.
#[test]
fn only_files_are_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    ok(d, &train("run", "1"));
    let _socket = std::os::unix::net::UnixListener::bind(d.join("s")).unwrap();
    std::os::unix::fs::symlink("s", d.join("link")).unwrap();
    for out in ["s", "link"] {
        for verb in ["embed", "translate", "evaluate"] {
            refused(d, &[verb, "--run", "run", "--out", out, "--force"], &[out, "no regular file"]);
        }
    }
    assert!(d.join("s").symlink_metadata().unwrap().file_type().is_socket());
}

#[test]
fn configuration_files() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    let config = |text: &str| std::fs::write(d.join("c.toml"), text).unwrap();
    config(
        "seed = 5\nquiet = true\n[train]\ndata = \"data\"\nout = \"run\"\nepochs = 2\nhidden = 16\nembedding-dim = 12\n\
         lr = 0.001\n[embed]\nbatch-size = 3\n",
    );
    ok(d, &["train", "--config", "c.toml", "--epochs", "1", "--dropout=0.2"]);
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(d.join("run/run.json")).unwrap()).unwrap();
    assert_eq!(run["config"]["epochs"], 1, "what is typed wins");
    assert_eq!(run["config"]["seed"], 5);
    assert_eq!(run["config"]["adam"]["lr"], 0.001);
    assert_eq!(run["config"]["dropout"], 0.2);
    assert_eq!(run["program"], env!("CARGO_PKG_VERSION"));
    let with = |text: &str, parts: &[&str]| {
        config(text);
        refused(
            d,
            &["train", "--config", "c.toml", "--data", "data", "--out", "other"],
            &[&["c.toml"], parts].concat(),
        );
    };
    with("[train]\nephocs = 3\n", &["train.ephocs"]);
    with("ephocs = 3\n", &["`ephocs`"]);
    with("[trian]\nepochs = 3\n", &["[trian]"]);
    with("[embed]\nnodez = true\n", &["embed.nodez"]);
    with("[train]\nforce = 1\n", &["train.force", "true or false"]);
    with("[train\n", &["line 1"]);
    refused(d, &["train", "--config", "none.toml"], &["none.toml"]);
}

#[test]
fn a_closed_pipe_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["recipes"][..], &["recipes", "--json"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = program().current_dir(dir.path()).args(args).stdout(writer).output().unwrap();
        assert!(out.stderr.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.status.code(), Some(0), "{args:?}");
    }
}

/// A result that could not be written is no success.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["recipes"][..], &["recipes", "--json"], &["--help"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let out = program().current_dir(dir.path()).args(args).stdout(full).output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.starts_with("error: standard output: cannot write: No space"), "{args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    }
}

#[test]
fn results_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    let json = |args: &[&str]| -> serde_json::Value {
        let text = ok(d, &[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    };
    assert_eq!(json(&train("run", "2"))["epochs"], 2);
    assert_eq!(json(&["inspect", "run"])["epochs"], "2 of 2");
    assert_eq!(json(&["inspect", "data", "--verify"])["genes"], tiny::GENES);
    assert_eq!(json(&["weights", "export", "--run", "run", "--out", "w.safetensors"])["out"], "w.safetensors");
    assert_eq!(json(&["inspect", "w.safetensors"])["fc3.bias"], "[2]");
    assert_eq!(json(&["weights", "import", "w.safetensors", "--data", "data", "--out", "back"])["unused_gene_rows"], 0);
    assert_eq!(json(&["recipes"])[0]["name"], "default");
    assert_eq!(json(&["embed", "--run", "back", "--out", "e.h5ad"])["cells"], tiny::CELLS);
}

/// The published recipe on a data set whose samples are split by cell draws a set of its own.
#[test]
fn published_draws_its_samples() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    let args = ["train", "--data", "data", "--recipe", "published", "--epochs", "1", "--quiet", "--hidden", "16"];
    refused(d, &[&args[..], &["--out", "run", "--samples", "default"]].concat(), &["default", "cell", "pair"]);
    assert!(!d.join("run").exists(), "an empty folder was left behind");
    ok(d, &[&args[..], &["--out", "run"]].concat());
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(d.join("run/run.json")).unwrap()).unwrap();
    assert_eq!(run["config"]["samples"], "published");
    assert_eq!(run["config"]["batch_size"], 1);
    let data = sccrossrec::dataset::DataSet::open(&d.join("data")).unwrap();
    assert_eq!(data.samples("published").unwrap().recipe["split"], "sample");
    ok(d, &[&args[..], &["--out", "again"]].concat());
    // What an earlier run drew never stands in for what this one asks for.
    ok(d, &[&args[..], &["--out", "seeded", "--seed", "7"]].concat());
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(d.join("seeded/run.json")).unwrap()).unwrap();
    assert_eq!(run["config"]["samples"], "published-7");
    assert_ne!(data.samples("published-7").unwrap().samples, data.samples("published").unwrap().samples);
    ok(d, &["samples", "--data", "data", "--name", "default", "--negative-ratio", "2", "--force"]);
    refused(d, &[&args[..], &["--out", "ratio"]].concat(), &["`published`", "like `default`", "--force"]);
    assert!(!d.join("ratio").exists());
}

fn no_temporary_files(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        assert!(!path.to_string_lossy().ends_with(".tmp"), "{} was left", path.display());
        if path.is_dir() {
            no_temporary_files(&path);
        }
    }
}

#[test]
fn signals_save_and_resume() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let name = format!("run-{signal}");
        let mut child = program()
            .current_dir(d)
            .args(train(&name, "100000"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = d.join(&name).join("log.jsonl");
        wait_for("the first epoch", || std::fs::read_to_string(&log).is_ok_and(|t| !t.is_empty()));
        send(&child, signal);
        wait_for("the end", || child.try_wait().unwrap().is_some());
        let out = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("error: interrupted; saved") && last.contains(&format!("--resume --out {name}")),
            "{text}"
        );
        no_temporary_files(d);
        // Goes on, and ends as if nothing had happened.
        let done = std::fs::read_to_string(&log).unwrap().lines().count();
        let epochs = (done + 1).to_string();
        ok(d, &["train", "--resume", "--out", &name, "--epochs", &epochs, "--quiet"]);
        let straight = format!("straight-{signal}");
        ok(d, &train(&straight, &epochs));
        for file in [
            "run.json",
            "checkpoints/best.safetensors",
            "checkpoints/last.safetensors",
            "checkpoints/state.safetensors",
        ] {
            assert!(
                std::fs::read(d.join(&name).join(file)).unwrap()
                    == std::fs::read(d.join(&straight).join(file)).unwrap(),
                "{file} differs after {signal}"
            );
        }
    }
}

/// Nothing is left of what had only begun, not even its folders, and there is one line.
#[test]
fn signals_leave_nothing_begun() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for (verb, watched, signal, code) in
        [("simulate", "deep/out", "INT", 130), ("demo", "deep/out/simulated", "TERM", 143)]
    {
        let args = [verb, "--out", "deep/out", "--cells", "500000", "--genes", "50", "--peaks", "50", "--quiet"];
        let mut child = program().current_dir(d).args(args).stderr(Stdio::piped()).spawn().unwrap();
        let begun = || std::fs::read_dir(d.join(watched)).is_ok_and(|mut e| e.next().is_some());
        wait_for("the first file", begun);
        send(&child, signal);
        wait_for("the end", || child.try_wait().unwrap().is_some());
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{verb}");
        assert_eq!(String::from_utf8_lossy(&out.stderr), "error: interrupted; nothing was written\n", "{verb}");
        assert!(!d.join("deep").exists(), "{verb} left a folder");
    }
}

const READ_EMBEDDING: &str = r#"
import sys, json, numpy as np, anndata
e = anndata.read_h5ad(sys.argv[1])
assert e.shape == (60, 0), e.shape
z = e.obsm["X_sccrossrec_attention"]
assert z.shape == (60, 32) and z.dtype == np.float32 and np.isfinite(z).all()
for name in ("", "_rna", "_atac"):
    u = e.obsm["X_sccrossrec" + name]
    assert u.shape == (60, 64) and np.allclose(np.linalg.norm(u, axis=1), 1, atol=1e-4), name
assert set(e.obs["part"]) == {"train", "val", "test"}
assert list(e.obs["cell_type"].cat.categories) == ["A", "B", "C"]
u = e.uns["sccrossrec"]
assert json.loads(u["config"])["hidden"] == 16 and len(u["data_hash"]) > 8 and u["version"]
n = u["nodes"]
cells = n["cells"]
assert [e.obs_names[c] for c in cells] == ["cell4", "cell0"], cells
for side, total, half in (("rna", 30, 0), ("atac", 80, 16)):
    s = n[side]
    assert len(s["names"]) == total
    assert s["indptr"][0] == 0 and s["indptr"][-1] == len(s["indices"]) == len(s["values"]) and s["values"].shape[1] == 16
    # z is the mean over the nodes
    for i, c in enumerate(cells):
        rows = s["values"][s["indptr"][i]:s["indptr"][i + 1]]
        assert len(rows) > 0 and np.allclose(rows.mean(0), z[c, half:half + 16], atol=1e-5), (side, c)
"#;

const READ_TRANSLATION: &str = r#"
import sys, numpy as np, anndata, scipy.sparse as sp
t = anndata.read_h5ad(sys.argv[1])
assert t.shape == (60, 30), t.shape
layer, limit = sys.argv[2], float(sys.argv[3])
assert sp.issparse(t.X) and sp.issparse(t.layers[layer])
x, n = t.X.toarray(), t.layers[layer].toarray()
assert set(np.unique(x)) <= {0.0, 1.0} and ((n > limit) == (x == 1)).all()
assert 0 < x.sum() < x.size, x.sum()
assert layer != "probability" or (n.max() < 1 and ((n == 0) | (n >= 0.01)).all() and (n > 0).mean() > 0.9)
assert (t.var["chrom"].iloc[1] == "chr2") and t.var_names[1] == "G1"
assert "nodes" not in t.uns["sccrossrec"]
print(int(x.sum()))
"#;

const READ_EXPRESSION: &str = r#"
import sys, numpy as np, anndata
t = anndata.read_h5ad(sys.argv[1])
assert t.shape == (60, 30), t.shape
x, c, p, d = (m.toarray() for m in (t.X, t.layers["counts"], t.layers["probability"], t.layers["detected"]))
assert (x >= 0).all() and t.uns["log1p"]["base"] == "e" and "median of the training cells" in t.uns["sccrossrec"]["scale"]
there = (c > 0) & (p > 0)
assert there.mean() > 0.5 and np.allclose(p[there], 1 - np.exp(-c[there]), atol=1e-5) and ((p > 0.5) == (d == 1)).all()
"#;

#[test]
fn python_opens_embeddings_and_translations() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    ok(d, &train("run", "1"));
    ok(d, &["embed", "--run", "run", "--out", "e.h5ad", "--attention", "--nodes", "--cells", "cell4,cell0"]);
    ok(d, &["translate", "--run", "run", "--translation", "published", "--out", "t.h5ad"]);
    ok(d, &["translate", "--run", "run", "--out", "x.h5ad"]);
    ok(d, &[&train("published-losses", "1")[..], &["--recipe", "large-batch"]].concat());
    ok(d, &["translate", "--run", "published-losses", "--out", "n.h5ad"]);
    no_temporary_files(d);
    let Some(python) = python::python_with_anndata() else { return };
    python::run_python(&python, READ_EMBEDDING, &[&d.join("e.h5ad")]);
    python::run_python(&python, READ_EXPRESSION, &[&d.join("x.h5ad")]);
    for (file, layer, limit) in [("t.h5ad", "probability", "0.5"), ("n.h5ad", "count", "9")] {
        let file = d.join(file);
        let args = [file.as_path(), Path::new(layer), Path::new(limit)];
        let ones: usize = python::run_python(&python, READ_TRANSLATION, &args).trim().parse().unwrap();
        assert!(ones > 0);
    }
}

/// Every verb on a small data set, in an order in which each finds what it needs.
const VERBS: [&[&str]; 29] = [
    &["simulate", "--out", "sim", "--cells", "120", "--genes", "30", "--peaks", "80"],
    &["annotate", "--rna", "sim/rna.h5ad", "--atac", "sim/atac.h5ad", "--gtf", "sim/genes.gtf", "--out", "full"],
    &["prepare", "--rna", "full/rna.h5ad", "--atac", "full/atac.h5ad", "--out", "data"],
    &["check", "data"],
    &["pairs", "--data", "data", "--name", "more"],
    &["samples", "--data", "data", "--name", "others"],
    &["train", "--data", "data", "--out", "run", "--epochs", "1", "--hidden", "16", "--embedding-dim", "12"],
    &["train", "--resume", "--out", "run"],
    &["evaluate", "--run", "run"],
    &["embed", "--run", "run", "--out", "e.h5ad"],
    &["translate", "--run", "run", "--out", "t.h5ad"],
    &["match", "--run", "run", "--rna", "data", "--atac", "data", "--out", "m.tsv"],
    &["discover", "--run", "run", "--out", "found"],
    &["discover", "--data", "data", "--out", "links"],
    &["report", "links", "--out", "l.html"],
    &["plot", "curves", "--run", "run", "--out", "c.png"],
    &["plot", "region", "SIM00001", "--data", "data", "--discovery", "links", "--out", "g.svg"],
    &["plot", "dotplot", "--data", "data", "--genes", "SIM00001,SIM00002", "--out", "d.svg"],
    &["report", "run", "--discovery", "found", "--out", "r.html"],
    &["weights", "export", "--run", "run", "--out", "w.safetensors"],
    &["weights", "import", "w.safetensors", "--data", "data", "--out", "imported"],
    &["inspect", "data", "--verify"],
    &["datasets"],
    &["recipes"],
    &["kernels", "list"],
    &["doctor"],
    &["completions", "bash"],
    &["man", "--out", "man"],
    &["demo", "--out", "demo", "--cells", "120", "--genes", "30", "--peaks", "80", "--epochs", "1"],
];

/// With --json stdout is one JSON document and nothing else, whatever is said on stderr; with --quiet nothing is said.
#[test]
fn every_verb_speaks_only_json() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    // No verb is forgotten.
    let help = ok(d, &["--help"]);
    let commands = help.split("\nCommon:").next().unwrap();
    let indented = commands.lines().filter_map(|l| l.strip_prefix("  ")).filter(|l| !l.starts_with(' '));
    let named: Vec<&str> = indented.filter_map(|l| l.split_whitespace().next()).collect();
    assert!(named.len() > 20, "{named:?}");
    for verb in named {
        assert!(VERBS.iter().any(|args| args[0] == verb), "{verb} is not tried");
    }
    for quiet in [&[][..], &["--quiet"]] {
        for args in VERBS {
            let force = [
                "simulate",
                "annotate",
                "prepare",
                "samples",
                "pairs",
                "man",
                "embed",
                "translate",
                "match",
                "discover",
                "plot",
                "report",
                "weights",
                "demo",
            ];
            let mut all = [args, &["--json"], quiet].concat();
            if !quiet.is_empty() && (force.contains(&args[0]) || args.starts_with(&["train", "--data"])) {
                all.push("--force");
            }
            let out = run(d, &all);
            let (said, text) = (String::from_utf8_lossy(&out.stderr), String::from_utf8_lossy(&out.stdout));
            assert_eq!(out.status.code(), Some(0), "{all:?}: {said}");
            let json: Result<serde_json::Value, _> = serde_json::from_str(&text);
            assert!(json.is_ok_and(|j| j.is_object() || j.is_array()) && !text.contains("NaN"), "{all:?}: {text}");
            assert!(quiet.is_empty() || said.is_empty(), "{all:?} is not quiet: {said}");
        }
    }
}

/// What is wrong is one line on stderr, and stdout stays empty, for every verb that takes something.
#[test]
fn every_verb_refuses_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for args in VERBS {
        let missing = match args[0] {
            "simulate" | "demo" => [args, &["--genes", "0"][..]].concat(),
            "datasets" | "recipes" | "doctor" | "kernels" | "completions" | "man" => {
                [args, &["--nonsense"][..]].concat()
            }
            _ => args.to_vec(), // its inputs are not there
        };
        refused(d, &missing, &[]);
        refused(d, &[&missing[..], &["--json"]].concat(), &[]);
        assert!(std::fs::read_dir(d).unwrap().next().is_none(), "{missing:?} left something behind");
    }
}

/// Exit code 1 is for what is no fault of what was typed: parameters that are no numbers, met in the midst of the work.
#[test]
fn an_internal_failure_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    ok(d, &train("run", "1"));
    let best = d.join("run/checkpoints/best.safetensors");
    let mut bytes = std::fs::read(&best).unwrap();
    let name = b"\"xxh3\"";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
    bytes[at + 4] = b'0'; // no checksum any more
    let begin = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for number in bytes[begin..].chunks_exact_mut(4) {
        number.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    std::fs::write(&best, &bytes).unwrap();
    let out = run(d, &["evaluate", "--run", "run", "--json", "--quiet"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: internal failure: the model's logits") && said.lines().count() == 1, "{said}");
    assert!(out.stdout.is_empty());
}
