//! The engine's side of the comparison with `benches/baseline`: `benches/compare.sh` is the command that uses it.
//!
//! * `cargo bench --bench against -- write --data DATA --out DIR` writes `inputs.safetensors` (features and samples, as
//!   they are in DATA), `weights.safetensors`, and `engine.safetensors`: losses and gradients without dropout.
//! * `… -- samples --data DATA --out F.tsv`: barcodes, label and part of each sample.
//! * `… -- serve --data DATA`: trains and looks by request. A line on standard input is `step I J …` or `look I J …`,
//!   numbers of samples among those that `write` wrote; the answer is a line of JSON with seconds.
//! * `… -- plot --out DIR F.csv …`: the pictures.

#[path = "common/chart.rs"]
mod chart;
#[path = "common/pairs.rs"]
mod pairs;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Parser, Subcommand};
use pairs::{Given, Side, write};
use sccrossrec::dataset::DataSet;
use sccrossrec::engine::PassOptions;
use sccrossrec::model::Dropout;
use sccrossrec::model::output::Want;
use sccrossrec::ops::adam::{Others, RowAdam, Stepped};
use sccrossrec::train::recipe;
use sccrossrec::{Error, Result};
use serde_json::json;

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    what: What,
    /// What cargo adds
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Inputs, weights, losses and gradients, for Python
    Write {
        #[command(flatten)]
        given: Given,
        #[arg(long)]
        out: PathBuf,
    },
    /// The sample set as a table
    Samples {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        out: PathBuf,
    },
    /// Steps and forward passes by request
    Serve {
        #[command(flatten)]
        given: Given,
    },
    /// Pictures of measurements
    Plot {
        #[arg(long)]
        out: PathBuf,
        /// Tables of `compare.sh`
        #[arg(required = true)]
        csv: Vec<PathBuf>,
    },
}

fn samples(data: &Path, out: &Path) -> Result<()> {
    let data = DataSet::open(data)?;
    let set = data.samples("default")?;
    let cells = &data.vocabulary().cells;
    let mut text = String::from("rna\tatac\tlabel\tpart\n");
    for (part, numbers) in [("train", &set.train), ("val", &set.val), ("test", &set.test)] {
        for &i in numbers {
            let s = set.samples[i as usize];
            text += &format!("{}\t{}\t{}\t{part}\n", cells[s.rna as usize], cells[s.atac as usize], s.label);
        }
    }
    std::fs::write(out, text).map_err(|e| Error::Internal(format!("{}: {e}", out.display())))
}

/// A training by request, with the optimiser as `train` has it.
fn serve(given: &Given) -> Result<()> {
    let Side { data, set, pool, mut model } = given.open()?;
    let n = model.params.layout().len();
    let (mut grads, mut m, mut v) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let config = recipe("published")?.adam;
    let mut adam =
        RowAdam::new(model.config().genes + model.config().peaks, model.config().embedding_dim, Others::Later);
    let mut step = 0;
    println!("{}", json!({ "samples": pool.len(), "threads": rayon::current_num_threads(), "parameters": n }));
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Error::Internal(e.to_string()))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers: Option<Vec<u32>> =
            words.iter().skip(1).map(|w| w.parse::<usize>().ok().and_then(|i| pool.get(i).copied())).collect();
        let (Some(&what), Some(numbers)) = (words.first(), numbers.filter(|n| !n.is_empty())) else {
            return Err(Error::usage(format!("{line:?}: is no request")));
        };
        let began = Instant::now();
        let batch = data.batch(&set, &numbers);
        let reading = began.elapsed().as_secs_f64();
        if what == "look" {
            adam.flush(model.params.as_mut_slice(), &mut m, &mut v);
        }
        let began = Instant::now();
        let loss = match what {
            "step" => {
                step += 1;
                let rows = model.table_rows(&batch, None);
                adam.catch_up(model.params.as_mut_slice(), &mut m, &mut v, &rows);
                let dropout = Some(Dropout { seed: 906, step });
                let out =
                    model.run(&batch, PassOptions { dropout, grads: Some(&mut grads), ..PassOptions::default() })?;
                let of = Stepped { p: model.params.as_mut_slice(), g: &mut grads, m: &mut m, v: &mut v };
                adam.step(of, &config, step, &rows);
                out.loss
            }
            "look" => model.forward(&batch, Want { translation: true, ..Want::default() })?.loss,
            other => return Err(Error::usage(format!("{other:?}: is no request"))),
        };
        answer(&json!({ "reading": reading, "seconds": began.elapsed().as_secs_f64(), "loss": loss }))?;
    }
    Ok(())
}

fn answer(line: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| Error::Internal(e.to_string()))
}

fn main() {
    let done = match Options::parse().what {
        What::Write { given, out } => write(&given, &out),
        What::Samples { data, out } => samples(&data, &out),
        What::Serve { given } => serve(&given),
        What::Plot { out, csv } => chart::plot(&out, &csv),
    };
    if let Err(e) = done {
        eprintln!("{e}");
        std::process::exit(e.exit_code());
    }
}
