//! The verbs `kernels` and `doctor`, and training with replaced kernels, on the host-run device: every entry point of the
//! registry is checked against the CPU, kernels with mistakes are refused by name.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::common::tiny::{self, Order};
use sccrossrec::device::host::HostCompiler;
use sccrossrec::device::kernels;
use sccrossrec::ops::registry;
use serde_json::Value;

/// Compiled kernels and records of passes, shared by the tests here and by the next run.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels-cache")
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sccrossrec"));
    command.env("SCCROSSREC_CACHE", cache()).env_remove("LD_LIBRARY_PATH");
    command
}

/// The program once all built-in kernels are compiled, so that tests side by side do not compile the same ones.
fn warm() -> Command {
    static WARM: OnceLock<()> = OnceLock::new();
    WARM.get_or_init(|| {
        let out = program().args(["kernels", "check", "--on", "host", "--op", "adam", "--precision", "f32"]).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{}", text(&out));
    });
    program()
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn json(args: &[&str]) -> Value {
    let out = warm().args(args).arg("--json").output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn source(name: &str) -> String {
    kernels::embedded().iter().find(|k| k.name == name).unwrap().source.to_string()
}

/// Exit code 2, and one line of error that holds all of `parts`.
fn refused(out: &Output, parts: &[&str]) {
    let all = text(out);
    assert_eq!(out.status.code(), Some(2), "{all}");
    let errors: Vec<&str> = all.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{all}");
    for part in parts {
        assert!(errors[0].contains(part), "no {part:?} in {}\n{all}", errors[0]);
    }
}

/// Checks a kernel source with something replaced; it must be refused with `parts`.
fn broken(op: &str, text: &str, from: &str, to: &str, parts: &[&str]) {
    assert!(text.contains(from), "{from:?} is not in the source");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.cu");
    std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
    let args = ["kernels", "check", "mine.cu", "--op", op, "--on", "host"];
    refused(&warm().current_dir(dir.path()).args(args).output().unwrap(), &[&["mine.cu"], parts].concat());
}

#[test]
fn list_names_every_entry_point() {
    let table = text(&program().args(["kernels", "list"]).output().unwrap());
    let found = json(&["kernels", "list"]);
    let found = found["kernels"].as_array().unwrap();
    for name in registry::entries().iter().flat_map(|e| e.names()) {
        assert!(table.contains(&name), "{name} is not in\n{table}");
        assert!(found.iter().any(|k| k["entry"] == name.as_str() && k["variant"] == "built-in"), "{name}");
    }
    assert!(found.iter().any(|k| k["variant"] == "plain" && k["op"] == "attend" && k["entry"] == "attend_forward_f32"));
}

#[test]
fn every_built_in_kernel_is_right() {
    let found = json(&["kernels", "check", "--on", "host"]);
    assert_eq!(found["passed"], true);
    let reports = found["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 2, "f32 and bf16");
    for r in reports {
        assert_eq!(r["deterministic"], true);
        for op in registry::names() {
            let rows = r["rows"].as_array().unwrap().iter().filter(|row| row["op"] == op);
            let worst = rows.clone().filter_map(|row| row["error"].as_f64()).fold(0.0, f64::max);
            println!("{:<5} {op:<10} {:>3} rows, worst {worst:.1e}", r["precision"].as_str().unwrap(), rows.count());
        }
    }
    let launched = |name: &String| {
        reports.iter().any(|r| r["launched"].as_array().unwrap().iter().any(|l| l.as_str() == Some(name)))
    };
    let missed: Vec<String> = registry::entries().iter().flat_map(|e| e.names()).filter(|n| !launched(n)).collect();
    assert!(missed.is_empty(), "never launched by a check: {missed:?}");
}

#[test]
fn variants_pass_and_are_remembered() {
    for v in registry::variants().iter().filter(|v| !v.built_in) {
        let found = json(&["kernels", "check", v.name, "--op", v.op, "--on", "host"]);
        assert_eq!(found["passed"], true, "{}: {found}", v.name);
        assert!(!found["replaces"].as_array().unwrap().is_empty());
    }
    let records: Vec<_> = std::fs::read_dir(cache().join("passed")).unwrap().collect();
    assert!(!records.is_empty());
}

#[test]
fn attention_with_mistakes_is_refused() {
    let plain = source("attend_plain");
    broken("attend", &plain, "p.index < q", "p.index > q", &["attend", "best places", "ties"]);
    broken("attend", &plain, "s > a.tau) kept", "s >= 0.0f) kept", &["row_sums"]);
    broken(
        "attend",
        &plain,
        "a.row_sums[at] = kept",
        "a.row_sums[at + a.heads * *a.genes.n_entries] = kept",
        &["attend", "all other memory", "row_sums"],
    );
    broken("attend", &plain, "a.row_sums[at] = kept;", "", &["row_sums", "NaN"]);
}

#[test]
fn other_kernels_with_mistakes_are_refused() {
    let adam = source("adam");
    broken("adam", &adam, "if (at >= a.n) break;", "if (at + 1 >= a.n) break;", &["adam", "p", "nothing was added"]);
    broken("adam", &adam, "c.apply = is_finite && c.halted == 0;", "c.apply = 1;", &["adam", "number"]);
    broken("adam", &adam, "sum = block_sum(sum, sums);\n  if (threadIdx.x != 0)", "if (threadIdx.x != 0)", &["adam"]);
    broken("adam", &adam, "*a.rate /", "5e-4 /", &["adam", "p"]);
    let (cis, contrast) = (source("cis"), source("contrast"));
    broken("cis", &cis, "(score + a.columns.value[u] * t)", "(score + t)", &["cis", "cis_near"]);
    broken(
        "cis",
        &cis,
        "if (positive < positives && gene < a.graph.genes)",
        "if (gene < a.graph.genes)",
        &["was written"],
    );
    broken("cis", &cis, "if (lane == bin) decay += w * d;", "", &["cis", "cis.decay"]);
    broken("contrast", &contrast, "to[h] = 0.0f;", "", &["contrast", "d_x_r", "NaN"]);
    broken("pool", &source("pool"), "entry < chunk.last", "entry + 1 < chunk.last", &["pool", "mean_a"]);
}

#[test]
fn files_that_are_no_kernels_are_refused() {
    let adam = source("adam");
    broken("adam", &adam, "float sum = 0.0f;", "float sum = nought;", &["nought", "mend"]);
    let none = "#include \"common/abi.h\"\nSCX_KERNEL(mine, AdamNormArgs, 32, 0, 1, 1) {}\n";
    broken("adam", none, "mine", "mine", &["no entry point of `adam`", "adam_step"]);
    let shapeless = "#include \"common/abi.h\"\n\
                     extern \"C\" __global__ void adam_norm(const __grid_constant__ AdamNormArgs a) {}\n\
                     SCX_HOST_EXPORT(adam_norm, AdamNormArgs)\n";
    broken("adam", shapeless, "adam_norm", "adam_norm", &["launch shape", "adam_norm_shape"]);
    let wrong = "#include \"common/abi.h\"\nSCX_KERNEL(adam_norm, AdamNormArgs, 1024, 1000000, 1, 1) {}\n";
    broken("adam", wrong, "adam_norm", "adam_norm", &["1000000 bytes"]);
    for bare in
        ["// nothing", "#include \"common/abi.h\"\nextern \"C\" __global__ void adam_norm(const AdamNormArgs a) {}\n"]
    {
        broken("adam", bare, "", "", &["defines no kernel", "SCX_KERNEL"]);
    }
    let run = |args: &[&str]| program().args(args).output().unwrap();
    refused(&run(&["kernels", "check", "nowhere.cu", "--op", "adam", "--on", "host"]), &["nowhere.cu", "no file"]);
    refused(&run(&["kernels", "check", "--op", "magic", "--on", "host"]), &["magic", "attend"]);
    refused(&run(&["kernels", "check", "--on", "tpu"]), &["tpu", "host, auto or cuda"]);
    refused(&run(&["kernels", "bench", "--op", "adam"]), &["no GPU", "--on host"]);
}

#[test]
fn a_bench_on_the_host_says_that_it_means_nothing() {
    let args = ["kernels", "bench", "plain", "--op", "attend", "--on", "host", "--batch", "2", "--repeats", "1"];
    let out = warm().args(args).output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
    for part in ["mean nothing", "forward", "backward", "replaced", "ceilings: copy", "attend_forward_f32"] {
        assert!(text(&out).contains(part), "no {part} in {}", text(&out));
    }
}

#[test]
fn doctor_tells_what_there_is() {
    let found = json(&["doctor"]);
    assert!(found["auto"]["device"].is_string() && found["auto"]["why"].is_string());
    assert!(found["kernels"]["files"].as_array().unwrap().iter().any(|f| f == "attend"));
    assert!(found["cxx"].is_string());
    let out = program().arg("doctor").output().unwrap();
    for part in ["driver", "nvcc", "NVRTC", "--device auto"] {
        assert!(text(&out).contains(part), "{}", text(&out));
    }
}

/// Through the driver that the system finds, as on a machine with a GPU.
#[test]
fn training_takes_checked_kernels_only() {
    warm();
    let library = HostCompiler::find().unwrap().driver(&cache().join("host")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    tiny::prepared(dir.path(), "data", Order::Plain);
    let wrong = source("attend_plain").replacen("p.index < q", "p.index > q", 1);
    std::fs::write(dir.path().join("broken.cu"), wrong).unwrap();
    let train = |kernel: &str, out: &str| {
        let small = ["--hidden", "16", "--embedding-dim", "12", "--batch-size", "16", "--epochs", "1"];
        let small = [&["--recipe", "large-batch"], &small[..]].concat();
        let mut command = program();
        command.current_dir(dir.path()).env("LD_LIBRARY_PATH", library.parent().unwrap());
        command.args(["train", "--data", "data", "--out", out, "--device", "cuda", "--kernel", kernel]).args(small);
        command.output().unwrap()
    };
    let out = train("attend=broken.cu", "run");
    refused(&out, &["attend=broken.cu", "best places", "kernels check broken.cu --op attend"]);
    assert!(!dir.path().join("run").exists());
    let out = train("attend=plain", "run");
    assert!(out.status.success(), "{}", text(&out));
    assert!(text(&out).contains("passed"), "{}", text(&out));
    let again = train("attend=plain", "again");
    assert!(text(&again).contains("has passed `kernels check` before"), "{}", text(&again));
    assert!(dir.path().join("again/run.json").exists());
}
