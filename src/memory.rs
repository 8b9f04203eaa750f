//! What this process may use of memory and disk, so that work that does not fit is refused before it starts.

use std::path::Path;

use crate::error::{Error, Result};

/// Memory that can be planned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// What sets it.
    pub by: &'static str,
}

/// The least of what was `given` (bytes), of what the control group of this process may take, and of what the machine
/// has; `None` where the system does not say.
pub fn limit(given: Option<u64>) -> Option<Limit> {
    let all = [
        (given, "--memory-limit"),
        (control_group(), "the control group of this process"),
        (meminfo("MemTotal:"), "the memory of this machine"),
    ];
    all.into_iter().filter_map(|(bytes, by)| bytes.map(|bytes| Limit { bytes, by })).min_by_key(|l| l.bytes)
}

/// Bytes that can be had without swapping, where the system says.
pub fn available() -> Option<u64> {
    meminfo("MemAvailable:")
}

fn meminfo(what: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(what))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limit of the innermost control group that has one, of either version.
fn control_group() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let of = |(root, file): (&str, &str), group: &str| {
        let groups = Path::new(group).ancestors().map(|g| g.strip_prefix("/").unwrap_or(g));
        let limits = groups.filter_map(|g| {
            let text = std::fs::read_to_string(Path::new(root).join(g).join(file)).ok()?;
            text.trim().parse::<u64>().ok()
        });
        limits.min()
    };
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            match (fields.next()?, fields.next()?) {
                ("", group) => of(("/sys/fs/cgroup", "memory.max"), group),
                (v1, group) if v1.split(',').any(|c| c == "memory") => {
                    of(("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), group)
                }
                _ => None,
            }
        })
        .min()
}

/// Refuses work that needs more than the [`limit`] where `given` was given. `parts` are what needs how many bytes; `fix` says
/// what takes less than so many bytes.
///
/// # Errors
/// [`Error::Usage`] with the parts, the sum, the limit and what sets it.
pub(crate) fn check(
    what: &str,
    parts: &[(&str, u64)],
    given: Option<u64>,
    fix: impl FnOnce(u64) -> String,
) -> Result<()> {
    let total = parts.iter().fold(0u64, |sum, p| sum.saturating_add(p.1));
    match limit(given) {
        Some(l) if total > l.bytes => Err(Error::usage(format!(
            "{what} takes about {} of memory ({}), more than the {} of {}; {}",
            size(total),
            parts.iter().map(|(name, bytes)| format!("{name} {}", size(*bytes))).collect::<Vec<_>>().join(", "),
            size(l.bytes),
            l.by,
            fix(l.bytes)
        ))),
        _ => Ok(()),
    }
}

/// Refuses to begin what needs more than is free on the file system of `folder` (or of the innermost of the folders above
/// it that is there).
///
/// # Errors
/// [`Error::Input`] that names the folder, what is needed and what is free.
pub(crate) fn check_disk(folder: &Path, needed: u64) -> Result<()> {
    match free_disk(folder) {
        Some(free) if needed > free => Err(Error::input(
            folder,
            format!(
                "about {} are needed on its file system while this is made, and {} are free",
                size(needed),
                size(free)
            ),
            "free some space or choose another --out",
        )),
        _ => Ok(()),
    }
}

/// Bytes that this user may still write on the file system of `folder`; `None` where the system does not say.
pub fn free_disk(folder: &Path) -> Option<u64> {
    let there = |p: &&Path| p.exists();
    let folder = std::path::absolute(folder).ok()?;
    let found = rustix::fs::statvfs(folder.ancestors().find(there)?).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Bytes in words.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 10 << 30 => format!("{} GiB", b >> 30),
        b if b >= 10 << 20 => format!("{} MiB", b >> 20),
        b if b >= 1 << 20 => format!("{:.1} MiB", b as f64 / 1048576.0),
        b => format!("{} KiB", b.div_ceil(1024)),
    }
}

/// Bytes as typed: a number, alone or with k, M, G or T (of 1024), and B or iB behind that.
///
/// # Errors
/// What is wrong with the text, in words.
pub(crate) fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let bad = || format!("{text:?} is no size; give bytes, or a number with K, M, G or T such as 24G");
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[number.len()..].to_ascii_lowercase();
    let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(bad()),
    };
    let number: f64 = number.trim().parse().map_err(|_| bad())?;
    let bytes = number * f64::from(1u32 << (shift % 30)) * f64::from(1u32 << (shift / 30 * 30));
    if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good =
            [("1", 1), ("1024", 1024), ("1K", 1 << 10), ("1.5GiB", 3 << 29), ("24g", 24 << 30), ("2TB", 2 << 40)];
        for (text, bytes) in good.into_iter().chain([("3 M", 3 << 20)]) {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "0", "1X", "nan", "1e30T", "inf"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_that_was_given_holds() {
        let parts = [("a", 3 << 20), ("b", 2 << 20)];
        let given = Some(4 << 20);
        let e = check("this", &parts, given, |bytes| format!("try {bytes}")).unwrap_err().to_string();
        assert!(
            e.contains("5.0 MiB") && e.contains("the 4.0 MiB of --memory-limit") && e.contains("try 4194304"),
            "{e}"
        );
        check("this", &parts, Some(5 << 20), |_| String::new()).unwrap();
    }

    #[test]
    fn this_machine_has_memory_and_disk() {
        assert!(limit(None).is_none_or(|l| l.bytes > 1 << 26));
        let there = free_disk(&std::env::temp_dir()).unwrap();
        assert!(there > 0);
        // Of a folder that is not there yet: of the one it will be in.
        assert!(free_disk(&std::env::temp_dir().join("not/there/yet")).is_some());
        let e = check_disk(&std::env::temp_dir(), u64::MAX).unwrap_err().to_string();
        assert!(e.contains("GiB are needed") && e.contains("are free"), "{e}");
    }
}
