//! How a data set is read, and what memory work on it may plan with.

use serde::{Deserialize, Serialize};

/// How shards are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// Mapped into memory: fastest. A file that is cut short while it is read can end the program (with an error, where
    /// that is the program `sccrossrec`).
    #[default]
    Mmap,
    /// Read cell by cell, for network file systems: a file that is cut short is an error.
    Pread,
}

/// How a data set is opened. The default: mapped, and no limit of memory but the machine's own.
///
/// ```no_run
/// use sccrossrec::{Access, DataSet, Io};
/// let access = Access { io: Io::Pread, memory_limit: Some(8 << 30) };
/// let data = DataSet::open_with("DATA".as_ref(), access)?;
/// assert_eq!(data.access(), access);
/// # Ok::<(), sccrossrec::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// How shards are read.
    pub io: Io,
    /// Bytes of memory that training and passes over the data set may plan with: what takes more is refused before it
    /// starts. `None`: what the machine, or the control group of the process, has.
    pub memory_limit: Option<u64>,
}
