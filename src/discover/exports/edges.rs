//! Links as an edge list.

use std::io::Write;
use std::path::Path;

use super::export::Export;
use super::fields::number;
use crate::discover::maps::{TypeMap, field};
use crate::error::Result;
use crate::files::atomic::write_atomic;
use crate::vocabulary::Vocabulary;

/// Writes an edge list for Cytoscape: a table parted by tabs, a line a link, by falling score, with the columns source
/// (peak), target (gene), interaction (`peak-gene`), score, zscore, pvalue, qvalue, n_cells, distance, chrom, cell_type.
/// What is unknown is empty.
///
/// # Errors
/// A file that cannot be written.
pub fn write_edges(path: &Path, v: &Vocabulary, map: &TypeMap) -> Result<Export> {
    let optional = |x: f64| if x.is_nan() { String::new() } else { number(x) };
    write_atomic(path, |out| {
        writeln!(
            out,
            "source\ttarget\tinteraction\tscore\tzscore\tpvalue\tqvalue\tn_cells\tdistance\tchrom\tcell_type"
        )?;
        for l in &map.links {
            let (g, p) = (&v.genes[l.gene as usize], &v.peaks[l.peak as usize]);
            let [score, z, pvalue, q] = [l.score, l.zscore, l.pvalue, l.qvalue].map(optional);
            let distance = crate::vocabulary::distance(v, l.gene, l.peak).map_or(String::new(), number);
            writeln!(
                out,
                "{}\t{}\tpeak-gene\t{score}\t{z}\t{pvalue}\t{q}\t{}\t{distance}\t{}\t{}",
                field(&p.name),
                field(&g.name),
                l.cells,
                v.chromosomes.get(p.chrom as usize).map_or(Default::default(), |c| field(c)),
                field(&map.name)
            )?;
        }
        Ok(())
    })?;
    Ok(Export { file: path.to_path_buf(), written: map.links.len() as u64, left_out: 0 })
}
