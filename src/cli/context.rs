//! What all verbs share: verbosity, seed, folders and files for results, where to compute.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::caller::Caller;
use super::terminal::{colour_of_stderr, coloured, width_of_stderr};
use crate::data::source::Held;
use crate::dataset::{Access, DataSet};
use crate::error::{Error, Result};
use crate::files::atomic::temporary_of;
use crate::model::Precision;
use crate::progress::Progress;
use crate::rng::DEFAULT_SEED;
use crate::train::{Checkpoint, Run};

/// Tables of more bytes than this are compressed unless plain ones are asked for.
pub const LARGE_TABLE: u64 = 50_000_000;

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
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn open(&self, run: &Path) -> Result<Run> {
        let mut run = Run::open(run)?;
        run.allow_missing = self.allow_missing;
        Ok(run)
    }
}

/// Where a verb computes; flatten it into the `Args` of every verb that does, and call [`DeviceArg::choose`] first.
#[derive(Debug, Clone, Args)]
pub struct DeviceArg {
    /// Where to compute: `auto`, `cpu` or `cuda[:N]`.
    #[arg(long, value_name = "DEVICE", default_value = "auto", help = "Where to compute: auto, cpu or cuda[:N]")]
    pub device: String,
}

impl DeviceArg {
    /// Opens the device, for f32 and with the kernels that come with the program.
    ///
    /// # Errors
    /// As [`crate::engine::Device::choose`].
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
    /// How data sets are opened, and the memory that work on them may plan with.
    pub access: Access,
    /// Who called the verb from inside a process, in the place of the terminal.
    pub(super) caller: Option<Arc<dyn Caller>>,
    /// Data in memory, by their names.
    pub(super) held: Vec<Held>,
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
            access: Access::default(),
            caller: None,
            held: Vec::new(),
        }
    }
}

impl Context {
    /// A line of news for the user, on stderr.
    pub fn say(&self, line: &str) {
        if let Some(caller) = &self.caller {
            line.lines().for_each(|l| caller.say(l));
        } else if !self.quiet {
            complain(line);
        }
    }

    /// The last words of a verb: what was found, and the command to go on with. Nothing with `--quiet` or `--json`.
    pub fn next(&self, found: &str, command: &str) {
        if !self.json {
            let gap = if found.is_empty() { "" } else { "\n" };
            self.say(&format!("{found}{gap}next: {command}"));
        }
    }

    /// Opens a data set as the command line says.
    ///
    /// # Errors
    /// As [`DataSet::open`].
    pub fn open_data(&self, dir: &Path) -> Result<DataSet> {
        self.busy("open data", || DataSet::open_with(dir, self.access))
    }

    /// A progress bar of `len` steps on stderr, as wide as the terminal; hidden with `--quiet` and when stderr is not a terminal.
    pub fn progress(&self, len: u64, what: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(len), self.target());
        let width = width_of_stderr();
        // `wide_…` takes what the others leave, so that a line never breaks.
        let template = match width {
            ..45 => "{prefix} {percent}% {eta}",
            45..100 => "{prefix:>12} [{wide_bar}] {pos}/{len} {eta}",
            _ => "{prefix:>12} [{bar:32}] {pos}/{len} {elapsed}<{eta} {wide_msg}",
        };
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix(what.to_string());
        bar
    }

    /// As [`Context::progress`], of work that nobody knows the length of: it turns by itself.
    pub fn spinner(&self, what: &str, doing: &'static str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        let template =
            if width_of_stderr() < 45 { "{prefix} {spinner}" } else { "{prefix:>12} {spinner} {elapsed} {wide_msg}" };
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(what.to_string());
        bar.set_message(doing);
        if !bar.is_hidden() {
            bar.enable_steady_tick(std::time::Duration::from_millis(150));
        }
        bar
    }

    fn target(&self) -> ProgressDrawTarget {
        match self.quiet || self.caller.is_some() || !std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        }
    }

    /// Does `work` under a turning sign with a name.
    pub fn busy<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let bar = self.spinner(what, "");
        let done = work();
        bar.finish_and_clear();
        done
    }

    /// Follows work: news on stderr, a bar for the stage it is in, a stop where a signal came.
    pub fn follow(&self) -> Following<'_> {
        Following { ctx: self, now: Mutex::new(None) }
    }

    /// The result: `table` for people, or `json` with `--json`. Both go to stdout.
    pub fn result(&self, table: &str, json: &serde_json::Value) {
        if let Some(caller) = &self.caller {
            return caller.result(json);
        }
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

/// Lines on stderr, the first words of warnings and errors in colour where it takes colours.
pub fn complain(text: &str) {
    let text = match colour_of_stderr() {
        true => text.lines().map(coloured).collect::<Vec<_>>().join("\n"),
        false => text.to_string(),
    };
    // stderr that is closed is nobody's loss
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A folder for results: made where it is not there, accepted where it is empty, refused where it holds anything,
/// unless with `force`; then files of the same name are replaced and the others stay. Call it once all inputs are
/// checked, and keep what it returns until the results are written: what was made and is still empty then goes again.
///
/// # Errors
/// As [`check_output_dir`]; [`Error::Io`].
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
///
/// # Errors
/// [`Error::Input`] where the folder is taken; [`Error::Io`].
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
///
/// # Errors
/// [`Error::Input`] where the file is there, or its folder is not.
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

/// What follows the work of a verb ([`Context::follow`]). Its bar goes with it.
#[derive(Debug)]
pub struct Following<'a> {
    ctx: &'a Context,
    now: Mutex<Option<Stage>>,
}

/// The stage that work is in.
#[derive(Debug)]
struct Stage {
    name: &'static str,
    /// All of it is done, and the work goes on with something that has no name.
    done: bool,
    bar: ProgressBar,
}

impl Following<'_> {
    fn now(&self) -> MutexGuard<'_, Option<Stage>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Some(stage) = self.now().take() {
            stage.bar.finish_and_clear();
        }
    }
}

impl Progress for Following<'_> {
    fn note(&self, line: &str) {
        match &*self.now() {
            Some(stage) if !stage.bar.is_hidden() => stage.bar.suspend(|| self.ctx.say(line)),
            _ => self.ctx.say(line),
        }
    }

    fn at(&self, name: &'static str, done: u64, of: u64) {
        if let Some(caller) = &self.ctx.caller {
            return caller.at(name, done, of);
        }
        let mut now = self.now();
        let all = of > 0 && done >= of;
        if !now.as_ref().is_some_and(|s| s.name == name && (!s.done || all)) {
            if let Some(old) = now.take() {
                old.bar.finish_and_clear();
            }
            let bar = if of == 0 { self.ctx.spinner(name, "") } else { self.ctx.progress(of, name) };
            *now = Some(Stage { name, done: false, bar });
        }
        let Some(stage) = now.as_mut() else { return };
        if of > 0 && !stage.done {
            stage.bar.set_length(of);
            stage.bar.set_position(done);
        }
        if all && !stage.done {
            // A full bar says no more: until the next stage begins, something turns.
            stage.bar.finish_and_clear();
            *stage = Stage { name, done: true, bar: self.ctx.spinner(name, "finishing") };
        }
    }

    fn stop(&self) -> Option<i32> {
        match &self.ctx.caller {
            Some(caller) => caller.stop().then_some(130),
            None => crate::interrupt::requested().then(crate::interrupt::code),
        }
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}
