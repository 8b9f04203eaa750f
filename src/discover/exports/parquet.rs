//! Link tables as Parquet.

use std::io::Error as IoError;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::export::{Export, check};
use crate::discover::maps::{LINK_COLUMNS, LinkStat, TypeMap};
use crate::error::{Error, Result};
use crate::files::atomic::write_atomic;
use crate::vocabulary::{Vocabulary, distance};

/// Rows of a row group.
const ROWS: usize = 1 << 18;

/// Columns of whole numbers and of text; the others are numbers.
const INTEGERS: [&str; 4] = ["start", "end", "tss", "n_cells"];
const TEXT: [&str; 4] = ["chrom", "gene", "cell_type", "peak"];
/// Columns that are known of every link.
const REQUIRED: [&str; 4] = ["gene", "n_cells", "cell_type", "peak"];

fn schema() -> Result<TypePtr, ParquetError> {
    let columns = LINK_COLUMNS.iter().map(|name| {
        let repetition = if REQUIRED.contains(name) { Repetition::REQUIRED } else { Repetition::OPTIONAL };
        let column = match name {
            n if TEXT.contains(n) => {
                Type::primitive_type_builder(name, Physical::BYTE_ARRAY).with_logical_type(Some(LogicalType::String))
            }
            n if INTEGERS.contains(n) => Type::primitive_type_builder(name, Physical::INT64),
            _ => Type::primitive_type_builder(name, Physical::DOUBLE),
        };
        column.with_repetition(repetition).build().map(Arc::new)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Type::group_type_builder("links").with_fields(columns).build().map(Arc::new)
}

/// Writes the next column of a row group: required where every value is there by the schema, else with nulls.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl std::io::Write + Send>,
    required: bool,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let (mut there, mut levels) = (Vec::new(), Vec::new());
    for value in values {
        levels.push(i16::from(value.is_some()));
        there.extend(value);
    }
    let mut writer = group.next_column()?.ok_or_else(|| ParquetError::General("one column too many".into()))?;
    writer.typed::<T>().write_batch(&there, (!required).then_some(levels.as_slice()), None)?;
    writer.close()
}

/// Writes the links of these maps, one after the other, each by falling score, with the columns of [`LINK_COLUMNS`]:
/// start, end, tss and n_cells are 64-bit integers; chrom, gene, cell_type and peak UTF-8; the others doubles. distance
/// is |TSS − peak midpoint|, mean is score over the cells of the type. Null: a coordinate that is unknown, a statistic
/// that is NaN. Compressed with Snappy; memory: a row group of 2^18 links.
///
/// # Errors
/// A file that cannot be written.
pub fn write_parquet(path: &Path, v: &Vocabulary, maps: &[&TypeMap]) -> Result<Export> {
    maps.iter().try_for_each(|m| check(v, m))?;
    let internal = |e: ParquetError| Error::Internal(format!("Parquet: {e}"));
    let schema = schema().map_err(internal)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("sccrossrec version ", env!("CARGO_PKG_VERSION")).into())
        .build();
    write_atomic(path, |out| {
        let mut file = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(io)?;
        for map in maps {
            for links in map.links.chunks(ROWS) {
                rows(&mut file, v, map, links).map_err(io)?;
            }
        }
        file.close().map(|_| ()).map_err(io)
    })?;
    Ok(Export { file: path.to_path_buf(), written: maps.iter().map(|m| m.links.len() as u64).sum(), left_out: 0 })
}

/// The system's own word where it was the system that failed.
fn io(e: ParquetError) -> IoError {
    match e {
        ParquetError::External(inner) => match inner.downcast::<IoError>() {
            Ok(io) => *io,
            Err(other) => IoError::other(other),
        },
        other => IoError::other(other),
    }
}

/// One row group.
fn rows(
    file: &mut SerializedFileWriter<impl std::io::Write + Send>,
    v: &Vocabulary,
    map: &TypeMap,
    links: &[LinkStat],
) -> Result<(), ParquetError> {
    let mut group = file.next_row_group()?;
    let gene = |l: &LinkStat| &v.genes[l.gene as usize];
    let peak = |l: &LinkStat| &v.peaks[l.peak as usize];
    let number = |x: f64| Some(x).filter(|x| !x.is_nan());
    for name in LINK_COLUMNS {
        let required = REQUIRED.contains(&name);
        if TEXT.contains(&name) {
            // Copies share the memory of the first.
            let shared = ByteArray::from(map.name.as_str());
            let text = |l: &LinkStat| match name {
                "chrom" => Some(peak(l).chrom)
                    .filter(|&c| Some(c) != v.unknown)
                    .and_then(|c| v.chromosomes.get(c as usize))
                    .map(|c| ByteArray::from(c.as_str())),
                "gene" => Some(gene(l).name.as_str().into()),
                "cell_type" => Some(shared.clone()),
                _ => Some(peak(l).name.as_str().into()),
            };
            column::<ByteArrayType>(&mut group, required, links.iter().map(text))?;
        } else if INTEGERS.contains(&name) {
            let integer = |l: &LinkStat| match name {
                "start" => Some(peak(l).start).filter(|&x| x >= 0),
                "end" => Some(peak(l).end).filter(|&x| x >= 0),
                "tss" => gene(l).tss,
                _ => Some(i64::from(l.cells)),
            };
            column::<Int64Type>(&mut group, required, links.iter().map(integer))?;
        } else {
            let double = |l: &LinkStat| match name {
                "distance" => distance(v, l.gene, l.peak),
                "score" => number(l.score),
                "zscore" => number(l.zscore),
                "pvalue" => number(l.pvalue),
                "qvalue" => number(l.qvalue),
                _ => number(l.score / map.cells.max(1) as f64),
            };
            column::<DoubleType>(&mut group, required, links.iter().map(double))?;
        }
    }
    group.close().map(|_| ())
}
