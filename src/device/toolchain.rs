//! What the build script and the run-time compiler share: where nvcc is looked for, the flags, which headers a source
//! includes, and the reader of ptxas' report. Included by `build.rs`, so it uses nothing but std.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Every kernel is compiled for these: `-gencode` virtual and real architecture. The last one is PTX, for devices newer
/// than all of them.
pub const TARGETS: [(&str, &str); 4] =
    [("compute_80", "sm_80"), ("compute_89", "sm_89"), ("compute_90a", "sm_90a"), ("compute_90", "compute_90")];

/// Flags of every compilation with nvcc.
pub const NVCC_FLAGS: [&str; 2] = ["-std=c++17", "-lineinfo"];

/// What one kernel, compiled for one target, takes of a multiprocessor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The kernel, or a device function that was not inlined into one (which then has no registers of its own).
    pub kernel: Cow<'static, str>,
    /// The real architecture, as in `sm_90a`.
    pub target: Cow<'static, str>,
    /// Registers a thread.
    pub registers: u32,
    /// Bytes of static shared memory a block.
    pub shared: u32,
    /// Bytes of stack frame a thread.
    pub stack: u32,
    /// Bytes of registers spilled to local memory.
    pub spill_stores: u32,
    /// Bytes of registers read back from local memory.
    pub spill_loads: u32,
}

/// What `ptxas -v` said, sorted by kernel and target, and its remarks on performance.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A row for each kernel and target.
    pub resources: Vec<Resource>,
    /// Remarks like serialised `wgmma`, as ptxas words them.
    pub notes: Vec<String>,
}

/// Reads the log of `nvcc -Xptxas -v`. Lines that are not ptxas' own are passed over.
pub fn parse_ptxas(log: &str) -> Report {
    let mut report = Report::default();
    let mut target = String::new();
    let mut entry = None; // the row "Used … registers" belongs to
    let mut function = None; // the row the stack frame and spills belong to
    for line in log.lines() {
        let Some(info) = line.strip_prefix("ptxas info").and_then(|l| l.split_once(':')).map(|(_, l)| l.trim()) else {
            if let (Some(row), true) = (function, line.contains("bytes stack frame")) {
                let row: &mut Resource = &mut report.resources[row];
                row.stack = row.stack.max(number_before(line, "bytes stack frame"));
                row.spill_stores = row.spill_stores.max(number_before(line, "bytes spill stores"));
                row.spill_loads = row.spill_loads.max(number_before(line, "bytes spill loads"));
            }
            continue;
        };
        if let Some(rest) = info.strip_prefix("Compiling entry function '") {
            let mut parts = rest.split('\'');
            let name = parts.next().unwrap_or_default().to_string();
            target = parts.nth(1).unwrap_or_default().to_string();
            entry = Some(row_of(&mut report.resources, &name, &target));
            function = entry;
        } else if let Some(name) = info.strip_prefix("Function properties for ") {
            function = Some(row_of(&mut report.resources, name.trim(), &target));
        } else if info.starts_with("Used ")
            && let Some(row) = entry
        {
            report.resources[row].registers = number_before(info, "registers");
            report.resources[row].shared = number_before(info, "bytes smem");
        } else if info.contains("Performance Loss") {
            report.notes.push(info.to_string());
        }
    }
    report.resources.sort_by(|a, b| (&a.kernel, &a.target).cmp(&(&b.kernel, &b.target)));
    report.notes.sort();
    report.notes.dedup();
    report
}

fn row_of(rows: &mut Vec<Resource>, kernel: &str, target: &str) -> usize {
    rows.iter().position(|r| r.kernel == kernel && r.target == target).unwrap_or_else(|| {
        rows.push(Resource {
            kernel: Cow::Owned(kernel.to_string()),
            target: Cow::Owned(target.to_string()),
            registers: 0,
            shared: 0,
            stack: 0,
            spill_stores: 0,
            spill_loads: 0,
        });
        rows.len() - 1
    })
}

/// The number right before `unit` in `text`; 0 where the unit is not named.
fn number_before(text: &str, unit: &str) -> u32 {
    let Some(end) = text.find(unit) else { return 0 };
    text[..end].split_whitespace().next_back().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The files a source includes in quotes, as written, in order. Comments are passed over; conditions are not evaluated.
pub fn quoted_includes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_comment = false;
    for line in text.lines() {
        let code = strip_comments(line, &mut in_comment);
        let Some(directive) = code.trim_start().strip_prefix('#') else { continue };
        let Some(argument) = directive.trim_start().strip_prefix("include") else { continue };
        let Some((name, _)) = argument.trim_start().strip_prefix('"').and_then(|a| a.split_once('"')) else { continue };
        found.push(name.to_string());
    }
    found
}

/// A line without its comments. Strings are kept whole.
fn strip_comments(line: &str, in_comment: &mut bool) -> String {
    let mut code = String::new();
    let mut rest = line;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        if *in_comment {
            let Some(end) = rest.find("*/") else { return code };
            (*in_comment, rest) = (false, &rest[end + 2..]);
            code.push(' ');
        } else if !in_string && rest.starts_with("//") {
            return code;
        } else if !in_string && rest.starts_with("/*") {
            (*in_comment, rest) = (true, &rest[2..]);
        } else {
            let escaped = in_string && c == '\\';
            in_string ^= c == '"';
            code.push(c);
            rest = &rest[c.len_utf8()..];
            if let Some(next) = rest.chars().next().filter(|_| escaped) {
                code.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    code
}

/// All files that `path` (with `/`, relative to the kernel folder) includes, directly or not, in the order they are met.
/// `read` gives a file's text; a file it does not know is the compiler's business and is left out.
pub fn include_closure(path: &str, text: &str, read: &mut dyn FnMut(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(path.to_string(), text.to_string())];
    while let Some((from, text)) = open.pop() {
        let mut below = Vec::new();
        for name in quoted_includes(&text) {
            let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
            // As the compiler does: beside the including file, then from the root.
            for candidate in [normalise(&format!("{folder}/{name}")), normalise(&name)] {
                if found.contains(&candidate) || candidate == path {
                    break;
                }
                if let Some(text) = read(&candidate) {
                    found.push(candidate.clone());
                    below.push((candidate, text));
                    break;
                }
            }
        }
        open.extend(below.into_iter().rev());
    }
    found
}

/// `a/./b/../c` → `a/c`.
fn normalise(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Where nvcc may be, in order, each with the words a message names it by. `NVCC` set to nothing means: do without.
pub fn nvcc_candidates(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    match env("NVCC") {
        Some(path) if path.is_empty() => return found,
        Some(path) => found.push((format!("NVCC={}", Path::new(&path).display()), PathBuf::from(path))),
        None => {}
    }
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        if let Some(root) = env(name).filter(|root| !root.is_empty()) {
            let root = PathBuf::from(root);
            found.push((format!("{name}={}", root.display()), root.join("bin").join("nvcc")));
        }
    }
    if let Some(path) = env("PATH") {
        found.extend(std::env::split_paths(&path).map(|dir| ("PATH".to_string(), dir.join("nvcc"))));
    }
    found.push(("/usr/local/cuda".to_string(), PathBuf::from("/usr/local/cuda/bin/nvcc")));
    found
}

/// The first line of a compiler's log that says what is wrong; the first line at all where none does.
pub fn first_error(log: &str) -> &str {
    let says = |line: &&str| ["error", "fatal", "Error"].iter().any(|word| line.contains(word));
    log.lines().find(says).or_else(|| log.lines().find(|l| !l.trim().is_empty())).unwrap_or("no message").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
ptxas info    : 0 bytes gmem, 32 bytes cmem[3]
ptxas info    : Compiling entry function 'wide' for 'sm_80'
ptxas info    : Function properties for wide
    256 bytes stack frame, 532 bytes spill stores, 576 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 256 bytes cumulative stack size, 376 bytes cmem[0]
ptxas info    : Compile time = 79.276 ms
ptxas info    : Function properties for _Z5twicef
    8 bytes stack frame, 4 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'sum' for 'sm_80'
ptxas info    : Function properties for sum
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 22 registers, used 1 barriers, 512 bytes smem, 376 bytes cmem[0]
sum.cu(3): something else
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized in 'sum'
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'sum' for 'sm_90a'
ptxas info    : Function properties for sum
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers
";

    #[test]
    fn ptxas_report_is_read() {
        let report = parse_ptxas(LOG);
        let short: Vec<_> = report
            .resources
            .iter()
            .map(|r| (&*r.kernel, &*r.target, r.registers, r.shared, r.stack, r.spill_stores, r.spill_loads))
            .collect();
        let expected = [
            ("_Z5twicef", "sm_80", 0, 0, 8, 4, 0),
            ("sum", "sm_80", 22, 512, 0, 0, 0),
            ("sum", "sm_90a", 24, 0, 0, 0, 0),
            ("wide", "sm_80", 64, 0, 256, 532, 576),
        ];
        assert_eq!(short, expected);
        assert_eq!(report.notes.len(), 1);
        assert!(report.notes[0].contains("serialized in 'sum'"));
        assert_eq!(parse_ptxas("garbage\nptxas info\nptxas info : Used 3 registers"), Report::default());
    }

    #[test]
    fn includes_are_found() {
        let text = "#include \"a.h\"\n  #  include\t\"b/c.h\" // \"d.h\"\n// #include \"no.h\"\n/* x\n#include \"no.h\"\n\
                    */ #include \"e.h\"\n#include <sys.h>\nauto s = \"// \\\" /*\";\n#include \"f.h\"\n#define include \"g\"\n";
        assert_eq!(quoted_includes(text), ["a.h", "b/c.h", "e.h", "f.h"]);
    }

    #[test]
    fn closure_follows_relative_names_once() {
        let files = [
            ("common/cuda.h", "#include \"../host/cuda_host.h\"\n#include \"tensor.h\""),
            ("common/tensor.h", "#include \"cuda.h\"\n#include \"common/abi.h\"\n#include \"../x.cu\""),
            ("common/abi.h", ""),
            ("last.h", ""),
        ];
        let mut read = |path: &str| files.iter().find(|(p, _)| *p == path).map(|(_, text)| text.to_string());
        let found = include_closure("x.cu", "#include \"./common/cuda.h\"\n#include \"last.h\"", &mut read);
        assert_eq!(found, ["common/cuda.h", "last.h", "common/tensor.h", "common/abi.h"]);
    }

    #[test]
    fn nvcc_is_looked_for_in_order() {
        let env = |name: &str| match name {
            "NVCC" => Some(OsString::from("/n/nvcc")),
            "CUDA_PATH" => Some(OsString::from("/c")),
            "PATH" => Some(OsString::from("/p:/q")),
            _ => None,
        };
        let paths: Vec<_> = nvcc_candidates(&env).into_iter().map(|(_, path)| path.display().to_string()).collect();
        assert_eq!(paths, ["/n/nvcc", "/c/bin/nvcc", "/p/nvcc", "/q/nvcc", "/usr/local/cuda/bin/nvcc"]);
        assert!(nvcc_candidates(&|_| Some(OsString::new())).is_empty());
    }

    #[test]
    fn the_first_error_is_named() {
        let log = "warning: x\nk.cu(3): error: identifier \"y\" is undefined\n1 error detected";
        assert_eq!(first_error(log), "k.cu(3): error: identifier \"y\" is undefined");
        assert_eq!(first_error("\n odd \n"), "odd");
    }
}
