//! Regulation read back: the attention of every cell, its sums over cell types, and how well it finds known links.
//!
//! See docs/model.md, sections 8.4 to 8.6.

pub(crate) mod attention;
pub mod evidence;
pub mod exports;
pub(crate) mod groups;
pub(crate) mod links;
pub mod maps;
pub mod null;
pub(crate) mod open;
pub(crate) mod options;
pub(crate) mod parts;
pub(crate) mod places;
pub(crate) mod record;
pub mod recovery;
pub(crate) mod scores;
pub(crate) mod stages;
pub mod tf;
pub mod truth;

use std::path::Path;

use crate::dataset::{Cell, DataSet};
use crate::engine::Runner;
use crate::error::{Error, Result};
use crate::files::atomic::Lock;
use crate::progress::Progress;
use evidence::{Cells, Evidence};
use parts::KEPT;
use record::{Discovery, SCORE, earlier, remove_earlier};
use stages::{Attended, Inputs, OfModel, attend, clear, compare_sites, export, recover_known, sum};

pub use attention::{AttentionWriter, Pair, VERSION as ATTENTION_VERSION};
pub use links::{Link, LinkTable};
pub use open::DiscoveryFolder;
pub use options::DiscoverOptions;
pub(crate) use parts::PARTS;
pub use recovery::{NEAR, Recovered, Recovery, recover};
pub use scores::{ByChance, ByCorrelation, ByDistance, ByProduct, BySum, ByTable, Measure, PairScorer};
pub use truth::Truth;

/// Reads the attention of a model back, into the folder `out`, which must exist:
/// * `attention.h5`, the attention of every cell (its format: `discover::attention`);
/// * `links.tsv`, sums over all cells looked at, and `links/TYPE.tsv`, sums over the cells of a type, with statistics
///   against `options.null`; `peaks.tsv` and `genes.tsv`, the tracks of each type (formats: [`maps`]);
/// * `evidence.tsv`, the pairs within the window with the probability that expression and accessibility say ([`evidence`]);
/// * with known links `recovery.tsv`, how well they are found by each score; with binding sites
///   `tf.tsv`, how attention compares with them, and `tf-peaks.tsv`, their scores peak by peak; `exports`, other forms;
/// * `discover.json`, what is returned.
///
/// Attention is computed in parts that are kept until the end, in the folder `.attention` of `out`: what was stopped goes
/// on with `options.resume`. `progress` is told the cells done, of [`DiscoverOptions::work`], as stage `discover`. Memory:
/// a part, the links of one cell type and those of all together, and the tracks. What is written does not depend on the
/// number of threads or on stops; another `batch_size` may change the last bits of a score.
///
/// # Errors
/// Data without RNA or without ATAC, or too large for the memory; cell types that the data lack; known links of which
/// none can be used; a folder that another discovery is at work in; files that cannot be written; [`Error::Interrupted`],
/// which says how to go on.
pub fn discover<'m>(
    model: impl Into<Runner<'m>>,
    data: &DataSet,
    options: &DiscoverOptions,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Discovery> {
    let mut runner = model.into();
    let inputs = Inputs::read(&runner, data, options)?;
    let _lock = Lock::take(out, "discovers")?;
    let (parts, old) = (out.join(PARTS), earlier(out));
    clear(out, &parts, options.resume)?;
    let attended = attend(&inputs, &mut runner, &parts, progress)?;
    let made = tables(&inputs, &attended, &mut runner, out, progress).map_err(|e| match e {
        // Whichever table it was at: what is kept is the attention.
        Error::Interrupted { code, .. } => Error::Interrupted { code, saved: KEPT.into() },
        e => e,
    })?;
    record::write(out, &made, &options.about)?;
    if let Some(old) = old {
        remove_earlier(out, &old, &made)?;
    }
    parts::remove(&parts)?;
    Ok(made)
}

/// Makes all tables and files of the attention, but for the record.
fn tables(
    inputs: &Inputs<'_>,
    attended: &Attended,
    runner: &mut Runner<'_>,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Discovery> {
    let Inputs { data, v, options, .. } = inputs;
    let mut writer = AttentionWriter::create(&out.join("attention.h5"))?;
    let summed = sum(inputs, attended, &mut writer, out, progress)?;
    let read = |c: u32, cell: &mut Cell| data.cell_into(c as usize, cell);
    let cells = Cells { numbers: &inputs.cells, read: &read, progress };
    let evidence = Evidence::new(v, cells, options.window as i64, options.components, options.seed)?;
    let tf = compare_sites(inputs, &summed, &evidence, out, progress)?;
    let exports = export(inputs, runner, &summed.maps, out, progress)?;
    progress.check(KEPT)?;
    let of_model = OfModel::new(runner.model(), &summed.detected, inputs.cells.len());
    evidence.write(&out.join("evidence.tsv"), v, &of_model.columns(&summed.links))?;
    let recovery = recover_known(inputs, &summed.links, &of_model, &evidence, cells, out)?;
    // Cells are read again for the tables.
    data.check()?;
    let pairs = writer.pairs();
    writer.finish(v)?;
    Ok(Discovery {
        score: SCORE.into(),
        null: options.null,
        window: options.window,
        cells: inputs.cells.len() as u64,
        resumed: attended.resumed,
        pairs,
        attention: "attention.h5".into(),
        all: summed.all,
        cell_types: summed.cell_types,
        evidence: Some(evidence.summary(Path::new("evidence.tsv"))),
        recovery,
        tf,
        exports,
    })
}
