//! The command line: one file a verb. Each turns what was typed into a checked plan and calls the library.
//!
//! A verb is a file `cli/VERB.rs` with `pub struct Args` (clap) and `pub fn run(&Args, &Context) -> Result<()>`, and a
//! line in each of the two places marked "verbs" below.

// verbs: modules
pub(crate) mod annotate;
mod call;
mod caller;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod console;
pub(crate) mod context;
pub(crate) mod datasets;
pub(crate) mod demo;
pub(crate) mod discover;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod evaluate;
mod findings;
mod help;
pub(crate) mod inspect;
mod inspect_own;
pub(crate) mod kernels;
pub(crate) mod man;
pub(crate) mod match_cells;
pub(crate) mod pairs;
pub(crate) mod picture;
pub(crate) mod plot;
pub(crate) mod plot_region;
mod plot_umap;
pub(crate) mod prepare;
pub(crate) mod recipes;
mod reference;
mod repeats;
pub(crate) mod report;
pub(crate) mod simulate;
mod terminal;
pub(crate) mod train;
pub(crate) mod translate;
pub(crate) mod weights;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::dataset::{Access, Io};
use crate::error::{Error, Result};
use crate::rng::DEFAULT_SEED;
use context::Context;

pub use call::{Flag, call, flags};
pub use caller::Caller;

#[derive(Parser)]
#[command(
    name = "sccrossrec",
    version,
    about = "Links of genes and peaks, partners, expression and embeddings of cells whose RNA and ATAC were measured together",
    subcommand_required = true
)]
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
    io: Option<Io>,
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
    /// RNA and ATAC (.h5ad, .h5mu, 10x) become a data set to train on
    Prepare(Box<prepare::Args>),
    /// Are the data good enough? Traffic lights for a data set, in words
    Check(check::Args),
    /// Draw other pairs of RNA and ATAC from a data set, to train and to test on
    #[command(alias = "samples")]
    Pairs(pairs::Args),
    /// Train a model on a prepared data set
    Train(Box<train::Args>),
    /// How well a run matches and translates, beside trivial baselines
    Evaluate(evaluate::Args),
    /// Write the joint embedding of every cell as .h5ad
    Embed(embed::EmbedArgs),
    /// Write the RNA predicted from ATAC as .h5ad
    Translate(translate::TranslateArgs),
    /// Rank the partners of cells: for RNA of some cells the ATAC of others, or the other way round
    #[command(name = "match")]
    Match(match_cells::Args),
    /// Links of genes and peaks with false discovery rates, of all cells and by type; and what attention says
    Discover(discover::Args),
    /// One picture as PNG or SVG: region, umap, dotplot, arcs, curves, heatmap, tracks
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
    /// Completions for bash, zsh, fish, elvish or PowerShell
    Completions(completions::Args),
    /// Manual pages
    Man(man::Args),
}

fn dispatch(verb: &Verb, ctx: &Context) -> Result<()> {
    match verb {
        Verb::Demo(args) => demo::run(args, ctx),
        Verb::Simulate(args) => simulate::run(args, ctx),
        Verb::Annotate(args) => annotate::run(args, ctx),
        Verb::Prepare(args) => prepare::run(args, ctx),
        Verb::Check(args) => check::run(args, ctx),
        Verb::Pairs(args) => pairs::run(args, ctx),
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
        Verb::Completions(args) => completions::run(args, ctx),
        Verb::Man(args) => man::run(args, ctx),
    }
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
            context::complain(&format!("error: {}", one_line(&e.to_string())));
            e.exit_code()
        }
        Err(payload) => i32::from(!is_broken_pipe(&*payload)),
    }
}

fn start(argv: Vec<OsString>) -> Result<()> {
    let command = command();
    let argv = config::expand(argv, &command)?;
    let read = |command: clap::Command| command.try_get_matches_from(&argv).and_then(|m| Cli::from_arg_matches(&m));
    let cli = match read(command.clone()) {
        Ok(cli) => cli,
        // Pages are made only where one is shown.
        Err(e) if shows_page(e.kind()) => return usage(&read(help::with_pages(command)).err().unwrap_or(e)),
        Err(e) => return usage(&e),
    };
    let ctx = Context::of(&cli.common);
    let threads = ctx.threads;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|e| {
        Error::usage(format!("--threads {threads}: the system does not start so many ({e}); take fewer"))
    })?;
    dispatch(&cli.verb, &ctx)
}

impl Context {
    /// As the flags of all verbs say.
    fn of(common: &Common) -> Context {
        Context {
            threads: match common.threads {
                Some(n) => usize::from(n),
                None => std::thread::available_parallelism().map_or(1, usize::from),
            },
            seed: common.seed.unwrap_or(DEFAULT_SEED),
            seed_given: common.seed.is_some(),
            quiet: common.quiet,
            json: common.json,
            access: Access { io: common.io.unwrap_or_default(), memory_limit: common.memory_limit },
            caller: None,
            held: Vec::new(),
        }
    }
}

fn command() -> clap::Command {
    help::arranged(negative_values(Cli::command()))
}

fn shows_page(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
}

/// The page `docs/cli.md`: all verbs and flags.
#[doc(hidden)]
pub fn reference() -> String {
    reference::page(&command())
}

/// Are these the words of a command that the program takes? It is not run.
///
/// # Errors
/// What the program would say.
#[doc(hidden)]
pub fn reads(words: &[&str]) -> std::result::Result<(), String> {
    command().try_get_matches_from(words).map(|_| ()).map_err(|e| e.to_string())
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
            match writeln!(std::io::stdout(), "{}", e.to_string().trim_end()).and_then(|()| std::io::stdout().flush()) {
                Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output", "write", e)),
                _ => Ok(()),
            }
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = writeln!(std::io::stderr(), "{}", e.to_string().trim_end());
            Err(Error::usage("no verb was given; see the list above"))
        }
        _ => Err(Error::usage(format!("{}; see --help", said(e)))),
    }
}

/// What is wrong with the words, in a line.
fn said(e: &clap::Error) -> String {
    let text = e.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = text.find("\nUsage:").or_else(|| text.find("\nFor more information")).unwrap_or(text.len());
    // A value is seldom meant where a flag is misspelt.
    let end = text.find("\n  tip: to pass '").map_or(end, |at| at.min(end));
    one_line(&text[..end]).replace(" tip: ", "; tip: ")
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
        context::complain(&format!("error: internal failure: {text}{place}; please report this"));
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
        command().debug_assert();
    }
}
