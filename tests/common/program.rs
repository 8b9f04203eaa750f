//! The program as a child process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sccrossrec::rng::Rng;

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sccrossrec"))
}

pub fn run(dir: &Path, args: &[&str]) -> Output {
    program().current_dir(dir).args(args).output().unwrap()
}

/// What it has written to stderr.
pub fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Runs to the end without an error; what it has written to stderr.
pub fn ok(dir: &Path, args: &[&str]) -> String {
    let out = run(dir, args);
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    text(&out)
}

/// [`ok`] of words parted by blanks.
pub fn ok_words(dir: &Path, words: &str) -> String {
    ok(dir, &words.split_whitespace().collect::<Vec<_>>())
}

/// Exit code 2 and one line of error with all of `parts`.
pub fn refused(out: &Output, parts: &[&str]) {
    let text = text(out);
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.lines().count() == 1 && text.starts_with("error: "), "{text}");
    parts.iter().for_each(|p| assert!(text.contains(p), "no {p:?} in: {text}"));
}

/// Runs one test of this test program once more, in a process of its own. `module` is the caller's `module_path!()`.
pub fn one_test(module: &str, test: &str) -> Command {
    let path = match module.split_once("::") {
        Some((_, inside)) => format!("{inside}::{test}"),
        None => test.to_string(),
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &path, "--nocapture", "--test-threads", "1"]);
    command
}

/// All that [`one_test`] has said, once it has passed.
pub fn passed(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &text(&out);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
    said
}

/// For a test that changes what belongs to the whole process. Is it alone in its process? If not, it is run in one of its
/// own, and there is nothing left to do.
pub fn alone(module: &str, test: &str) -> bool {
    const CHILD: &str = "SCCROSSREC_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    print!("{}", passed(one_test(module, test).env(CHILD, "1")));
    false
}

/// Is it the long tier?
pub fn long() -> bool {
    std::env::var_os("SCCROSSREC_LONG").is_some()
}

/// Every file and folder below, sorted.
pub fn all(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// Contents of all files below.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = all(dir).into_iter().filter(|p| p.is_file());
    paths.map(|p| (p.strip_prefix(dir).unwrap().to_path_buf(), std::fs::read(&p).unwrap())).collect()
}

/// A file system of this size, unmounted when this goes; `None` where the test may not mount.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn new(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).stderr(Stdio::null());
        mount.status().is_ok_and(|s| s.success()).then(|| Mounted(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Waits until it is so. Where that takes minutes something hangs; nothing else hangs on the time it takes.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(300), "{what} did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The state of a child that was not waited for, and the seconds of processor time that all its threads have used. It says how
/// far it is whatever else the machine does.
pub fn at_work(child: &Child) -> (char, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 1..].split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<f64>().unwrap();
    // Of 1/100 s each, for every program on Linux.
    (fields[0].chars().next().unwrap(), (ticks(11) + ticks(12)) / 100.0)
}

/// Has it ended? It can still be asked and waited for.
pub fn has_ended(child: &Child) -> bool {
    at_work(child).0 == 'Z'
}

/// Sends a signal (`INT`, `TERM`). The program may have ended by itself.
pub fn send(child: &Child, signal: &str) {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{signal}"), &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// Random moments of a program's life. How long that is has been measured once and is learned again with every round, so that
/// rounds under another load than the measurement still meet all of it.
pub struct Moments {
    rng: Rng,
    whole: f64,
}

impl Moments {
    /// Moments of a work, which is done once.
    pub fn of(stream: u64, work: impl FnOnce()) -> Self {
        let began = Instant::now();
        work();
        Moments { rng: Rng::new(906, stream), whole: began.elapsed().as_secs_f64() }
    }

    /// Waits for the next moment; has the program ended by itself before?
    pub fn wait(&mut self, child: &mut Child) -> bool {
        let wait = Duration::from_secs_f64(self.whole * self.rng.uniform());
        let began = Instant::now();
        while began.elapsed() < wait {
            if child.try_wait().unwrap().is_some() {
                self.whole = began.elapsed().as_secs_f64();
                return true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        self.whole *= 1.05;
        false
    }
}
