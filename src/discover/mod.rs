//! Regulation read back: the attention of every cell, its sums over cell types, and how well it finds known links.
//!
//! See docs/model.md, sections 8.4 to 8.6.

pub(crate) mod attention;
pub(crate) mod details;
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
use crate::memory::size;
use crate::progress::Progress;
use evidence::{Cells, Evidence};
use parts::KEPT;
use record::{AttentionSummary, Discovery, SCORE, earlier, remove_earlier};
use stages::{Attended, Inputs, OfModel, attend, clear, compare_sites, export, recover_known, sum};

pub use attention::{AttentionWriter, Pair, VERSION as ATTENTION_VERSION};
pub use details::LinkDetail;
pub use links::{Link, LinkTable};
pub use open::{DiscoveryFolder, Source};
pub use options::DiscoverOptions;
pub(crate) use parts::PARTS;
pub use recovery::{NEAR, Recovered, Recovery, recover};
pub use scores::{ByChance, ByCorrelation, ByDistance, ByEvidence, ByProduct, BySum, ByTable, PairScorer};
pub use truth::Truth;

/// Finds links, and reads the attention of a model back, into the folder `out`, which must exist:
/// * `links.tsv`, the pairs of genes and peaks within the window by how likely they are links ([`evidence`]), and
///   `links-untested.tsv`; `links/TYPE.tsv`, in which types; `replicates.tsv`; `peaks.tsv` and `genes.tsv`, the links
///   expected along these (formats: [`maps`], [`evidence::table`]);
/// * `attention.h5`, the attention of every cell (its format: `discover::attention`); `attention.tsv` and
///   `attention/TYPE.tsv`, its sums over cells, with statistics against `options.null`;
/// * with known links `recovery.tsv`, how well they are found by each score; with binding sites
///   `tf.tsv`, how links and attention compare with them, and `tf-peaks.tsv`, their scores peak by peak; `exports`, other forms;
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
    with(Some(model.into()), data, options, out, progress)
}

/// As [`discover`], without a model: links, but no attention.
///
/// # Errors
/// As [`discover`].
pub fn discover_links(
    data: &DataSet,
    options: &DiscoverOptions,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Discovery> {
    with(None, data, options, out, progress)
}

fn with(
    mut runner: Option<Runner<'_>>,
    data: &DataSet,
    options: &DiscoverOptions,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Discovery> {
    let inputs = Inputs::read(runner.as_ref(), data, options)?;
    let _lock = Lock::take(out, "discovers")?;
    let (parts, old) = (out.join(PARTS), earlier(out));
    clear(out, &parts, options.resume)?;
    let attended = runner.as_mut().map(|r| attend(&inputs, r, &parts, progress)).transpose()?;
    let made = tables(&inputs, attended.as_ref(), runner.as_mut(), out, progress).map_err(|e| match e {
        // Whichever table it was at: what is kept is the attention.
        Error::Interrupted { code, .. } => {
            let saved =
                if attended.is_some() { KEPT } else { "links are not kept half done; run it again with --force" };
            Error::Interrupted { code, saved: saved.into() }
        }
        e => e,
    })?;
    record::write(out, &made, &options.about)?;
    if let Some(old) = old {
        remove_earlier(out, &old, &made)?;
    }
    parts::remove(&parts)?;
    Ok(made)
}

/// Makes all tables and files, but for the record.
fn tables(
    inputs: &Inputs<'_>,
    attended: Option<&Attended>,
    runner: Option<&mut Runner<'_>>,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Discovery> {
    let Inputs { data, v, options, .. } = inputs;
    let mut writer = attended.map(|_| AttentionWriter::create(&out.join("attention.h5"))).transpose()?;
    let summed = match (attended, &mut writer) {
        (Some(attended), Some(writer)) => Some(sum(inputs, attended, writer, out, progress)?),
        _ => None,
    };
    progress.begin("links");
    let read = |c: u32, cell: &mut Cell| data.cell_into(c as usize, cell);
    let cells = Cells { numbers: &inputs.cells, read: &read, progress };
    let evidence = Evidence::new(v, cells, &options.evidence(), options.selection)?;
    evidence.notes.iter().for_each(|n| progress.note(n));
    let of_model = runner.as_ref().zip(summed.as_ref());
    let of_model = of_model.map(|(r, s)| OfModel::new(r.model(), &s.detected, inputs.cells.len()));
    let with_model = summed.as_ref().map(|s| s.links.as_slice()).zip(of_model.as_ref());
    let columns = with_model.map(|(links, m)| m.columns(links)).unwrap_or_default();
    progress.begin("write links");
    let large = options.gzip_above.is_some_and(|most| evidence.bytes() > most);
    if large && !options.gzip {
        progress.note(&format!("tables of links would take about {}: they are compressed", size(evidence.bytes())));
    }
    let links = evidence.write_all(out, v, &columns, options.selection, options.gzip || large)?;
    let maps = evidence.maps(v, inputs.cells.len() as u64, options.selection);
    maps.write_tracks(out, ["peaks.tsv", "genes.tsv"], v)?;
    progress.begin("compare");
    let tf = compare_sites(inputs, summed.as_ref(), &maps, out, progress)?;
    let recovery = recover_known(inputs, with_model, &evidence, cells, out)?;
    progress.check(KEPT)?;
    let exports = export(inputs, runner, &maps, summed.as_ref().map(|s| &s.maps), out, progress)?;
    // Cells are read again for the tables.
    data.check()?;
    let pairs = writer.as_ref().map_or(0, AttentionWriter::pairs);
    writer.map(|w| w.finish(v)).transpose()?;
    let attention = attended.zip(summed).map(|(attended, summed)| AttentionSummary {
        score: SCORE.into(),
        null: options.null,
        resumed: attended.resumed,
        pairs,
        file: "attention.h5".into(),
        all: summed.all,
        cell_types: summed.cell_types,
    });
    Ok(Discovery { window: options.window, cells: inputs.cells.len() as u64, links, attention, recovery, tf, exports })
}
