//! A signal in the middle of the library's long work. The flag of a signal stays, so this program holds one test.

#[path = "common/tiny.rs"]
mod tiny;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sccrossrec::data::simulate::{SimulateConfig, Simulation};
use sccrossrec::error::Error;
use sccrossrec::graph::{Hooks, PrepareConfig, prepare};
use sccrossrec::interrupt;
use tiny::Order;

fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names
}

/// Ctrl-C once shards are on the disk: the folder in the making goes, what was to be replaced and the inputs stay.
#[test]
fn prepare_leaves_nothing() {
    interrupt::install();
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let (rna, atac, out) = (d.join("rna.h5ad"), d.join("atac.h5ad"), d.join("data"));
    tiny::matrix(&rna, "gene", tiny::GENES, 0, Order::Plain);
    tiny::matrix(&atac, "peak", tiny::PEAKS, 1000, Order::Plain);
    let mut config = PrepareConfig::new(&rna, &atac);
    config.force = true;
    prepare(&config, &out, Hooks::default()).unwrap();
    let read = |paths: &[PathBuf]| paths.iter().map(|p| std::fs::read(p).unwrap()).collect::<Vec<_>>();
    let inputs = [rna, atac, out.join("dataset.json"), out.join("shards/00000.shard")];
    let before = (read(&inputs), names(d));

    let in_the_making = AtomicUsize::new(0);
    let step = |stage: &'static str, done: u64, _: u64| {
        if stage == "shards" && done > 0 && !interrupt::requested() {
            in_the_making.store(names(d).len() - before.1.len(), Ordering::SeqCst);
            let pid = std::process::id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
            let began = Instant::now();
            while !interrupt::requested() {
                assert!(began.elapsed() < Duration::from_secs(60), "the signal did not come");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    let error = prepare(&config, &out, Hooks { say: &|_| {}, step: &step }).unwrap_err();
    assert!(matches!(&error, Error::Interrupted { code: 130, .. }), "{error}");
    assert_eq!(error.to_string(), "interrupted; nothing was written");
    assert_eq!(in_the_making.load(Ordering::SeqCst), 1, "the folder in the making was not there yet");
    assert_eq!((read(&inputs), names(d)), before);

    // The flag is up: other work stops at its first look at it.
    let simulation = Simulation::new(SimulateConfig { cells: 50, ..SimulateConfig::default() }).unwrap();
    let error = simulation.write(d, &|_| {}).unwrap_err();
    assert_eq!(error.exit_code(), 130, "{error}");
    assert_eq!(names(d), before.1);
}
