//! The command line: one file a verb. Each turns what was typed into a checked plan and calls the library.
//!
//! A verb is a file `cli/VERB.rs` with `pub struct Args` (clap) and `pub fn run(&Args, &Context) -> Result<()>`, and a
//! line in each of the two places marked "verbs" below.

// verbs: modules
pub mod annotate;
pub mod config;
pub mod console;
pub mod datasets;
pub mod demo;
pub mod discover;
pub mod doctor;
pub mod embed;
pub mod evaluate;
pub mod inspect;
pub mod kernels;
pub mod match_cells;
pub mod plot;
pub mod prepare;
pub mod recipes;
pub mod report;
pub mod samples;
pub mod simulate;
pub mod train;
pub mod translate;
pub mod weights;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::{Error, Result};
use crate::files::atomic::temporary_of;
use crate::model::Precision;
use crate::rng::DEFAULT_SEED;
use crate::train::{Checkpoint, Run};

#[derive(Parser)]
#[command(name = "sccrossrec", version, about, max_term_width = 100, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// Flags of every verb.
#[derive(Args)]
struct Common {
    /// Worker threads, at most 1024 [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Seed of everything random [default: 906]
    #[arg(long, global = true, value_name = "N")]
    seed: Option<u64>,
    /// Flags from a file: common ones at the top, the verb's in a table of its name; what is typed wins
    #[arg(long, global = true, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Memory to plan with, such as 24G; what takes more is refused before it starts [default: what there is]
    #[arg(long, global = true, value_name = "SIZE", value_parser = crate::memory::parse_size)]
    memory_limit: Option<u64>,
    /// How data sets are read: mapped into memory, or piece by piece, for network file systems [default: mmap]
    #[arg(long, global = true, value_enum)]
    io: Option<crate::dataset::Io>,
    /// Say nothing but errors and results
    #[arg(long, global = true)]
    quiet: bool,
    /// The result as one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
}

// verbs: one line here, one in `dispatch`.
#[derive(Subcommand)]
enum Verb {
    /// Everything on simulated data, with a closing table
    Demo(demo::Args),
    /// A small data set with planted regulation
    Simulate(simulate::Args),
    /// Fill gaps: places of genes and peaks, variable genes, peak sequences; writes .h5ad
    Annotate(Box<annotate::Args>),
    /// RNA and ATAC (.h5ad, .h5mu, 10x) become a data set: shards, vocabularies, a sample set
    Prepare(Box<prepare::Args>),
    /// Draws another sample set of a data set
    Samples(samples::Args),
    /// Train a model on a prepared data set
    Train(Box<train::Args>),
    /// How well a run matches and translates, beside trivial baselines
    Evaluate(evaluate::Args),
    /// Write the joint embedding of every cell as .h5ad
    Embed(embed::Args),
    /// Write the RNA predicted from ATAC as .h5ad
    Translate(embed::Args),
    /// Rank the partners of cells: for RNA of some cells the ATAC of others, or the other way round
    #[command(name = "match")]
    Match(match_cells::Args),
    /// Regulation read back: attention of every cell, links of every cell type
    Discover(discover::Args),
    /// One picture as PNG or SVG: training curves, embedding, heat map, arcs, tracks
    Plot(plot::Args),
    /// A run and a discovery as one HTML page that works offline
    Report(report::Args),
    /// Checkpoints to and from safetensors with the published names
    Weights(weights::Args),
    /// What is in a file of any form, a data folder, a run or a checkpoint
    Inspect(inspect::Args),
    /// The published data sets that `prepare --dataset` knows: sizes, features, files
    Datasets(datasets::Args),
    /// The named ways to train, with their settings
    Recipes(recipes::Args),
    /// The GPU kernels: list them, check one against the CPU, measure one
    Kernels(kernels::Args),
    /// What this machine can compute with, and what `--device auto` takes
    Doctor(doctor::Args),
}

fn dispatch(verb: &Verb, ctx: &Context) -> Result<()> {
    match verb {
        Verb::Demo(args) => demo::run(args, ctx),
        Verb::Simulate(args) => simulate::run(args, ctx),
        Verb::Annotate(args) => annotate::run(args, ctx),
        Verb::Prepare(args) => prepare::run(args, ctx),
        Verb::Samples(args) => samples::run(args, ctx),
        Verb::Train(args) => train::run(args, ctx),
        Verb::Evaluate(args) => evaluate::run(args, ctx),
        Verb::Embed(args) => embed::run(args, ctx),
        Verb::Translate(args) => translate::run(args, ctx),
        Verb::Match(args) => match_cells::run(args, ctx),
        Verb::Discover(args) => discover::run(args, ctx),
        Verb::Plot(args) => plot::run(args, ctx),
        Verb::Report(args) => report::run(args, ctx),
        Verb::Weights(args) => weights::run(args, ctx),
        Verb::Inspect(args) => inspect::run(args, ctx),
        Verb::Datasets(args) => datasets::run(args, ctx),
        Verb::Recipes(args) => recipes::run(args, ctx),
        Verb::Kernels(args) => kernels::run(args, ctx),
        Verb::Doctor(args) => doctor::run(args, ctx),
    }
}

/// Which parameters of a run, and what data they may meet.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// The parameters to use
    #[arg(long, value_enum, default_value_t = Checkpoint::Best)]
    pub checkpoint: Checkpoint,
    /// Accept data whose gene or peak names differ from the run's
    #[arg(long)]
    pub allow_missing: bool,
}

impl Which {
    /// Opens the run, to meet such data.
    pub fn open(&self, run: &Path) -> Result<Run> {
        let mut run = Run::open(run)?;
        run.allow_missing = self.allow_missing;
        Ok(run)
    }
}

/// Where a verb computes; flatten it into the `Args` of every verb that does, and call [`Device::choose`] first.
#[derive(Debug, Clone, Args)]
pub struct Device {
    /// Where to compute: `auto`, `cpu` or `cuda[:N]`.
    #[arg(long, value_name = "DEVICE", default_value = "auto", help = "Where to compute: auto, cpu or cuda[:N]")]
    pub device: String,
}

impl Device {
    /// Opens the device, for f32 and with the kernels that come with the program.
    pub fn choose(&self) -> Result<crate::engine::Device> {
        crate::engine::Device::choose(&self.device, Precision::F32, &[])
    }
}

/// What all verbs share: verbosity, JSON, seed, threads.
#[derive(Debug, Clone)]
pub struct Context {
    /// Worker threads (rayon's pool has this size).
    pub threads: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Was the seed given, or is it the default?
    pub seed_given: bool,
    /// Say nothing but errors and results.
    pub quiet: bool,
    /// Result as one JSON document on stdout.
    pub json: bool,
}

impl Default for Context {
    /// One that says nothing: for the library's own calls and for tests.
    fn default() -> Self {
        Context {
            threads: rayon::current_num_threads(),
            seed: DEFAULT_SEED,
            seed_given: false,
            quiet: true,
            json: false,
        }
    }
}

impl Context {
    /// A line of news for the user, on stderr.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            // stderr that is closed is nobody's loss
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// A progress bar of `len` steps on stderr; hidden with `--quiet` and when stderr is not a terminal.
    pub fn progress(&self, len: u64, what: &str) -> ProgressBar {
        let hidden = self.quiet || !std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(len),
            if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() },
        );
        let style = ProgressStyle::with_template("{prefix:>12} [{bar:32}] {pos}/{len} {elapsed}<{eta} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix(what.to_string());
        bar
    }

    /// The result: `table` for people, or `json` with `--json`. Both go to stdout.
    pub fn result(&self, table: &str, json: &serde_json::Value) {
        let text = if self.json { json.to_string() } else { table.trim_end().to_string() };
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Ok(()) => {}
            // The reader has gone (`| head`): what it wanted, it has.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(e) => {
                let e = Error::io("standard output", "write", e);
                let _ = writeln!(std::io::stderr(), "error: {e}");
                std::process::exit(e.exit_code());
            }
        }
    }
}

/// A folder for results: made where it is not there, accepted where it is empty, refused where it holds anything,
/// unless with `force`; then files of the same name are replaced and the others stay. Call it once all inputs are
/// checked, and keep what it returns until the results are written: what was made and is still empty then goes again.
pub fn output_dir(path: &Path, force: bool) -> Result<MadeFolders> {
    check_output_dir(path, force)?;
    let missing = |p: &&Path| !p.as_os_str().is_empty() && !p.exists();
    let made = MadeFolders(path.ancestors().take_while(missing).map(Path::to_path_buf).collect());
    std::fs::create_dir_all(path).map_err(|e| Error::io(path, "create", e))?;
    Ok(made)
}

/// Folders that [`output_dir`] made, the innermost first; those that are still empty are removed when this goes.
#[derive(Debug)]
#[must_use = "the folders go again with this while they are empty"]
pub struct MadeFolders(Vec<PathBuf>);

impl Drop for MadeFolders {
    fn drop(&mut self) {
        for folder in &self.0 {
            // Fails for a folder that holds something, which is to stay.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// [`output_dir`] without making the folder: for a verb that has more to check, or whose library call makes it.
pub fn check_output_dir(path: &Path, force: bool) -> Result<()> {
    match std::fs::read_dir(path) {
        Ok(entries) => {
            // What a killed program has left on the way to a result goes once that is written again.
            let left = |name: &std::ffi::OsStr| name.to_str().and_then(temporary_of).is_some();
            let empty = entries.flatten().all(|e| left(&e.file_name()));
            if empty || force { Ok(()) } else { Err(exists(path, "the folder is not empty")) }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            Err(Error::input(path, "is a file, not a folder", "choose another --out"))
        }
        Err(e) => Err(Error::io(path, "read", e)),
    }
}

/// A file for a result: refused where it exists, unless with `force`, and where its folder does not. Creates nothing.
pub fn output_file(path: &Path, force: bool) -> Result<()> {
    if path.is_dir() {
        return Err(Error::input(path, "is a folder, not a file", "give --out a file name in it"));
    }
    if let Ok(there) = path.symlink_metadata() {
        // A rename would put a file in the place of a device or a pipe.
        if !there.is_file() && !there.is_symlink() || path.metadata().is_ok_and(|m| !m.is_file()) {
            return Err(Error::input(path, "is no regular file", "give --out the name of a file"));
        }
        if !force {
            return Err(exists(path, "the file exists"));
        }
    }
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() && !p.is_dir() => {
            Err(Error::input(path, format!("there is no folder {}", p.display()), "make it or choose another --out"))
        }
        _ => Ok(()),
    }
}

fn exists(path: &Path, what: &str) -> Error {
    Error::input(path, what, "choose another --out, or add --force to replace")
}

/// The whole program: reads `argv`, runs the verb, reports errors on stderr; returns the exit code.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> i32 {
    quiet_panics();
    crate::interrupt::install();
    crate::dataset::mmap::expect_loss();
    let argv: Vec<_> = argv.into_iter().collect();
    exit_code(std::panic::catch_unwind(|| start(argv)))
}

/// The exit code of what `start` came to; an error is told here, a panic has been told by the hook.
fn exit_code(ended: std::thread::Result<Result<()>>) -> i32 {
    match ended {
        Ok(Ok(())) => 0,
        Ok(Err(e)) => {
            let _ = writeln!(std::io::stderr(), "error: {}", one_line(&e.to_string()));
            e.exit_code()
        }
        Err(payload) => i32::from(!is_broken_pipe(&*payload)),
    }
}

fn start(argv: Vec<OsString>) -> Result<()> {
    let command = negative_values(Cli::command());
    let argv = config::expand(argv, &command)?;
    let cli = match command.try_get_matches_from(argv).and_then(|m| Cli::from_arg_matches(&m)) {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let threads = match cli.common.threads {
        Some(n) => usize::from(n),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|e| {
        Error::usage(format!("--threads {threads}: the system does not start so many ({e}); take fewer"))
    })?;
    if let Some(bytes) = cli.common.memory_limit {
        crate::memory::set_limit(bytes);
    }
    if let Some(io) = cli.common.io {
        io.choose();
    }
    let ctx = Context {
        threads,
        seed: cli.common.seed.unwrap_or(DEFAULT_SEED),
        seed_given: cli.common.seed.is_some(),
        quiet: cli.common.quiet,
        json: cli.common.json,
    };
    dispatch(&cli.verb, &ctx)
}

/// `-1` after a flag that takes a value is its value, so that the message names the flag.
fn negative_values(command: clap::Command) -> clap::Command {
    command
        .mut_args(
            |a| if a.get_action().takes_values() && !a.is_positional() { a.allow_negative_numbers(true) } else { a },
        )
        .mut_subcommands(negative_values)
}

/// Help and version are printed; anything else becomes one line.
fn usage(e: &clap::Error) -> Result<()> {
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            match write!(std::io::stdout(), "{e}").and_then(|()| std::io::stdout().flush()) {
                Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output", "write", e)),
                _ => Ok(()),
            }
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = write!(std::io::stderr(), "{e}");
            Err(Error::usage("no verb was given; see the list above"))
        }
        _ => {
            let text = e.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let end = text.find("\nUsage:").or_else(|| text.find("\nFor more information")).unwrap_or(text.len());
            Err(Error::usage(format!("{}; see --help", one_line(&text[..end]))))
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(s), _) => s,
        (_, Some(s)) => s,
        _ => "no message",
    }
}

fn is_broken_pipe(payload: &(dyn std::any::Any + Send)) -> bool {
    let text = panic_text(payload);
    text.starts_with("failed printing to std") && text.contains("Broken pipe")
}

/// A panic is one line, the first only; a closed pipe is none.
fn quiet_panics() {
    static SAID: AtomicBool = AtomicBool::new(false);
    std::panic::set_hook(Box::new(|info| {
        if is_broken_pipe(info.payload()) || SAID.swap(true, Ordering::SeqCst) {
            return;
        }
        let place = info.location().map_or(String::new(), |l| format!(" at {}:{}", l.file(), l.line()));
        let text = one_line(panic_text(info.payload()));
        let _ = writeln!(std::io::stderr(), "error: internal failure: {text}{place}; please report this");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let panics = |text: &'static str| exit_code(std::panic::catch_unwind(|| panic!("{text}")));
        assert_eq!(exit_code(Ok(Ok(()))), 0);
        assert_eq!(exit_code(Ok(Err(Error::Internal("x".into())))), 1);
        assert_eq!(panics("index out of bounds"), 1);
        assert_eq!(exit_code(Ok(Err(Error::usage("x")))), 2);
        assert_eq!(exit_code(Ok(Err(Error::Interrupted { code: 143, saved: String::new() }))), 143);
        assert_eq!(panics("failed printing to stdout: Broken pipe (os error 32)"), 0);
    }

    #[test]
    fn flags_are_consistent() {
        negative_values(Cli::command()).debug_assert();
    }
}
