//! One error type for the whole crate. Every message names the file, field or flag, says what was found and what to do.

use std::path::{Path, PathBuf};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, sorted by who can mend it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file (or a field of it) is not what is needed. Exit code 2.
    #[error("{}: {found}; {fix}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// The field and what was found there.
        found: String,
        /// What to do about it.
        fix: String,
    },
    /// A flag or a combination of flags that cannot work. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused. Exit code 2 where the path was the user's to give, which is always.
    #[error("{}: cannot {doing}: {source}{}", path.display(), advice(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The verb, as in "cannot read".
        doing: &'static str,
        /// The system's own word.
        source: std::io::Error,
    },
    /// A CUDA kernel source that does not compile. Exit code 2.
    #[error("{name}: {found}; mend the kernel source")]
    Kernel {
        /// The source file.
        name: String,
        /// The compiler's first error line.
        found: String,
        /// All that the compiler said.
        log: String,
    },
    /// Ctrl-C or SIGTERM; the code is 130 or 143 and `saved` says what was kept.
    #[error("interrupted; {saved}")]
    Interrupted {
        /// The process exit code.
        code: i32,
        /// What is on disk now.
        saved: String,
    },
    /// The device has not so much memory. Exit code 2.
    #[error(
        "out of device memory: {:.1} MiB for {what}, and {:.1} MiB are free; {fix}",
        *bytes as f64 / 1048576.0, *free as f64 / 1048576.0
    )]
    OutOfMemory {
        /// What the memory was for.
        what: String,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes free.
        free: u64,
        /// What would fit, where that can be told.
        fix: String,
    },
    /// The driver or the device failed. Exit code 1.
    #[error("the device failed to {doing}: {name} ({text}); {saved}")]
    Device {
        /// What was asked of it.
        doing: String,
        /// The driver's number of the error.
        code: u32,
        /// The driver's name of the error.
        name: String,
        /// The driver's text.
        text: String,
        /// What can be gone on from, or what to try.
        saved: String,
    },
    /// A bug of ours. Exit code 1.
    #[error("internal failure: {0}")]
    Internal(String),
}

/// What to do about an error of the system, where that can be told.
fn advice(e: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{
        FileTooLarge, InvalidData, IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, StorageFull,
    };
    match e.kind() {
        NotFound => "; check the path",
        NotADirectory => "; check the path: a part of it is a file",
        IsADirectory => "; give a file, not a folder",
        PermissionDenied => "; change its permissions or choose another place",
        ReadOnlyFilesystem => "; choose a place that can be written to",
        FileTooLarge => "; raise the limit of file sizes (ulimit -f) or choose another place",
        StorageFull | QuotaExceeded => "; free some space or choose another place",
        InvalidData => "; give a text file in UTF-8",
        _ => "",
    }
}

/// Most characters that a message quotes of a file.
const QUOTED: usize = 2000;

/// What was found may be quoted from a file: it must not break the line, move the cursor or go on for a megabyte.
fn one_line(text: String) -> String {
    if text.len() <= QUOTED && !text.contains(char::is_control) {
        return text;
    }
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == QUOTED {
            out.push('…');
            break;
        }
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// A path as a shell takes it: in quotes where it holds blanks or other letters that a shell reads.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%~".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

impl Error {
    /// A file or field that is not what is needed.
    pub fn input(path: impl AsRef<Path>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Error::Input { path: path.as_ref().to_path_buf(), found: one_line(found.into()), fix: fix.into() }
    }

    /// A flag or a combination of flags that cannot work.
    pub fn usage(message: impl Into<String>) -> Self {
        Error::Usage(message.into())
    }

    /// An operating-system error on `path` while `doing` (a verb: "read", "create", "rename").
    pub fn io(path: impl AsRef<Path>, doing: &'static str, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), doing, source }
    }

    /// Did the device have too little memory?
    pub fn is_out_of_memory(&self) -> bool {
        const CUDA_ERROR_OUT_OF_MEMORY: u32 = 2;
        match self {
            Error::OutOfMemory { .. } => true,
            Error::Device { code, .. } => *code == CUDA_ERROR_OUT_OF_MEMORY,
            _ => false,
        }
    }

    /// The process exit code: 1 internal failure, 2 wrong usage or bad input, 130/143 interrupted.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Input { .. }
            | Error::Usage(_)
            | Error::Io { .. }
            | Error::OutOfMemory { .. }
            | Error::Kernel { .. } => 2,
            Error::Interrupted { code, .. } => *code,
            Error::Internal(_) | Error::Device { .. } => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_a_shell_takes_them() {
        for (path, want) in
            [("a/b-1.h5ad", "a/b-1.h5ad"), ("my data/x", "'my data/x'"), ("it's", "'it'\\''s'"), ("", "''")]
        {
            assert_eq!(quoted(Path::new(path)), want);
        }
    }

    #[test]
    fn what_is_quoted_stays_on_one_line() {
        let e = Error::input("a.gtf", "line 3 has \u{1b}[2J\r\n\"é\"", "mend it").to_string();
        assert_eq!(e, "a.gtf: line 3 has \\u{1b}[2J\\r\\n\"é\"; mend it");
        let e = Error::input("a.gtf", "é".repeat(1 << 20), "mend it").to_string();
        assert_eq!(e.chars().count(), "a.gtf: …; mend it".chars().count() + QUOTED);
    }
}
