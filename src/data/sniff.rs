//! What a file is that cannot be read, by its first bytes or, of HDF5, by what is in its root: its name and the way out.

use crate::data::table::Separator;
use crate::files::text::decoded;

/// Bytes that are looked at.
pub(crate) const HEAD: usize = 4096;

/// What was found, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub what: &'static str,
    pub fix: &'static str,
}

const SEURAT: &str = "write it as .h5ad in R, as with zellkonverter::writeH5AD(Seurat::as.SingleCellExperiment(x), \"x.h5ad\"), \
                      or export the counts with DropletUtils::write10xCounts";
const AS_CSV: &str = "make an AnnData file of it in Python: anndata.io.read_csv(FILE).write_h5ad(\"x.h5ad\") (cells in rows; \
                      for genes in rows put .T before .write_h5ad; before anndata 0.11: anndata.read_csv)";
const AS_TABLE: &str = "make an AnnData file of it in Python: anndata.io.read_text(FILE, delimiter=\"\\t\")\
                        .write_h5ad(\"x.h5ad\") (cells in rows; for genes in rows put .T before .write_h5ad; before anndata 0.11: \
                        anndata.read_text)";
const UNPACK: &str = "unpack it first and give what is in it";

/// Files that cannot be opened, by what they begin with.
const STARTS: [(&[u8], &str, &str); 30] = [
    (b"RDX2\n", "is an R workspace (.RData)", SEURAT),
    (b"RDX3\n", "is an R workspace (.RData)", SEURAT),
    (b"RDA3\n", "is an R workspace (.RData)", SEURAT),
    (b"X\n\0\0", "is an R object (.rds)", SEURAT),
    (b"A\n2\n", "is an R object (.rds)", SEURAT),
    (b"A\n3\n", "is an R object (.rds)", SEURAT),
    (b"BZh", "is compressed with bzip2", "unpack it first, with bunzip2"),
    (b"\xfd7zXZ\0", "is compressed with xz", "unpack it first, with unxz"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it first, with unzstd"),
    (b"\x04\x22\x4d\x18", "is compressed with lz4", "unpack it first, with unlz4"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", UNPACK),
    (b"Rar!", "is a RAR archive", UNPACK),
    (b"%PDF", "is a PDF", "give the data, not their description"),
    (b"PAR1", "is a Parquet table", "make an AnnData file (.h5ad) of it in Python"),
    (b"ARROW1", "is an Arrow table", "make an AnnData file (.h5ad) of it in Python"),
    (b"FEA1", "is a Feather table", "make an AnnData file (.h5ad) of it in Python"),
    (b"\x93NUMPY", "is a NumPy array without names", "make an AnnData file (.h5ad) of it in Python"),
    (b"BAM\x01", "is BAM: reads, not counts", "give the matrix that was counted of them"),
    (b"CRAM", "is CRAM: reads, not counts", "give the matrix that was counted of them"),
    (b"@HD\t", "is SAM: reads, not counts", "give the matrix that was counted of them"),
    (b"MATLAB 5", "is a MATLAB file", "make an AnnData file (.h5ad) of it in Python, with scipy.io.loadmat"),
    (b"SQLite format 3", "is an SQLite data base", "give an .h5ad, .h5mu or 10x .h5 file"),
    (b"CDF\x01", "is NetCDF", "make an AnnData file (.h5ad) of it in Python"),
    (b"\x80\x04\x95", "is a Python pickle", "write the object with .write_h5ad(\"x.h5ad\") in Python"),
    (b"\x80\x05\x95", "is a Python pickle", "write the object with .write_h5ad(\"x.h5ad\") in Python"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook", "save the table as CSV, or give the matrix as .h5ad"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself", "fetch the file with git lfs pull"),
    (
        b"%%MatrixMarket",
        "is a Matrix Market file without names",
        "give it with features and barcodes beside it, named .mtx",
    ),
    (b"<?xml", "is XML, such as the message of a server that refused", "fetch the file again and look at what is sent"),
    (b"{\"", "is JSON", "give an .h5ad, .h5mu or 10x .h5 file"),
];

const HTML: Found = Found {
    what: "is a web page (HTML)",
    fix: "fetch the file itself: the address gave a page, such as a login or a notice, in its place",
};

/// What a file is that begins so; `None` where that does not tell.
pub(crate) fn of_bytes(head: &[u8]) -> Option<Found> {
    let found = |what, fix| Some(Found { what, fix });
    if let Some((_, what, fix)) = STARTS.iter().find(|s| head.starts_with(s.0)) {
        return found(what, fix);
    }
    if head.starts_with(b"PK\x03\x04") {
        let has = |part: &[u8]| memchr::memmem::find(head, part).is_some();
        return match () {
            () if has(b"xl/") || has(b"[Content_Types].xml") => {
                found("is an Excel workbook", "save the table as CSV, or give the matrix as .h5ad")
            }
            () if has(b".npy") => found("is a NumPy archive (.npz)", "make an AnnData file (.h5ad) of it in Python"),
            () if has(b".zarray") || has(b".zgroup") || has(b"zarr.json") => {
                found("is a zipped Zarr store", "write it as .h5ad in Python: anndata.read_zarr(…).write_h5ad(…)")
            }
            () => found("is a zip archive", UNPACK),
        };
    }
    if head.get(257..262) == Some(b"ustar") {
        return found("is a tar archive", "unpack it first, with tar -xf, and give the file or folder in it");
    }
    let text = decoded(head).filter(|t| !t.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')))?;
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let lower: String = start.chars().take(200).collect::<String>().to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") || lower.contains("<head") {
        return Some(HTML);
    }
    let lines: Vec<&str> = start.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()).take(20).collect();
    let by = Separator::of(&lines);
    let width = lines.first().map_or(0, |l| by.split(l).len());
    let is_place = |line: &&str| {
        let f: Vec<&str> = line.split('\t').collect();
        f.len() >= 3 && f[1].parse::<u64>().is_ok() && f[2].parse::<u64>().is_ok()
    };
    let is_gene =
        |line: &&str| line.split('\t').count() == 9 && ["gene_id", "ID="].iter().any(|key| line.contains(key));
    match () {
        () if lines.first().is_some_and(is_gene) => found("is a gene annotation (GTF or GFF3)", "give it to --gtf"),
        () if lines.len() > 1 && lines.iter().all(is_place) => match lines[0].split('\t').count() {
            5 => found(
                "is a table of fragments",
                "count them in peaks first, as with Signac::FeatureMatrix or snapatac2.pp.make_peak_matrix",
            ),
            _ => found("is a table of places (BED)", "give the matrix, cells × peaks"),
        },
        () if width > 1 => match by {
            Separator::Char(',') => found("is a table as text (CSV)", AS_CSV),
            Separator::Blanks if lines.len() < 2 => found("is text", "give an .h5ad, .h5mu or 10x .h5 file"),
            _ => found("is a table as text", AS_TABLE),
        },
        () => found("is text", "give an .h5ad, .h5mu or 10x .h5 file"),
    }
}

/// What an HDF5 file is that has these members in its root, and cannot be read; `None` where they do not tell.
pub(crate) fn of_members(members: &[String]) -> Option<Found> {
    let has = |names: &[&str]| names.iter().all(|n| members.iter().any(|m| m == n));
    let found = |what, fix| Some(Found { what, fix });
    match () {
        () if has(&["matrix", "row_attrs"]) || has(&["matrix", "col_attrs"]) => found(
            "is a loom file",
            "write it as .h5ad in Python: anndata.io.read_loom(FILE).write_h5ad(\"x.h5ad\") (before anndata 0.11: \
             anndata.read_loom)",
        ),
        () if has(&["assays", "cell.names"]) || has(&["assays", "meta.data"]) => {
            found("is an h5Seurat file", "write it as .h5ad in R: SeuratDisk::Convert(FILE, dest = \"h5ad\")")
        }
        () if has(&["Fragments", "Metadata"]) || has(&["ArchRVersion"]) => found(
            "is an Arrow file of ArchR",
            "export its peak matrix in R: getMatrixFromProject(…, \"PeakMatrix\"), then zellkonverter::writeH5AD",
        ),
        () if has(&["BD", "FM"]) => {
            found("is a snap file", "export its peak matrix and write it as .h5ad, with SnapATAC2")
        }
        () if has(&["barcode_idx"]) || has(&["molecule_info"]) || has(&["barcode_info", "umi"]) => {
            found("is molecule_info.h5 of Cell Ranger", "give filtered_feature_bc_matrix.h5 from the same folder")
        }
        () if has(&["bins", "pixels", "chroms"]) => found("is a cooler file (Hi-C)", "give the counts of RNA and ATAC"),
        () if has(&["model_weights"]) || has(&["layer_names"]) => {
            found("holds the weights of a neural network", "give the data it was trained on")
        }
        () if has(&["spatialdata_attrs"]) => found("is SpatialData", "write its table as .h5ad in Python"),
        () => None,
    }
}

/// Name of an HDF5 filter and of what may have used it; `None` for one that is not known.
pub(crate) fn filter_name(id: i32) -> Option<&'static str> {
    Some(match id {
        4 => "szip",
        307 => "bzip2",
        32_000 => "lzf",
        32_001 => "blosc",
        32_004 => "lz4",
        32_008 => "bitshuffle",
        32_013 => "zfp",
        32_015 => "zstd",
        32_017 => "sz",
        32_024 => "sz3",
        32_026 => "blosc2",
        32_028 => "sperr",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_by_their_first_bytes() {
        for (head, what) in [
            (&b"X\n\0\0\0\x03\0\x04"[..], "R object"),
            (b"RDX3\nX\n", "R workspace"),
            (b"<!DOCTYPE html>\n<html>", "web page"),
            (b"\n  <HTML><body>", "web page"),
            (b"PK\x03\x04....xl/workbook.xml", "Excel"),
            (b"PK\x03\x04....a.txt", "zip"),
            (b"gene,c1,c2\nA,1,2\nB,0,1\n", "CSV"),
            (b"gene\tc1\tc2\nA\t1\t2\nB\t0\t1\n", "table as text"),
            (b"# x\nchr1\t1\t20\tAAAC-1\t2\nchr1\t5\t30\tAAAC-1\t1\n", "fragments"),
            (b"chr1\t1\t20\nchr1\t5\t30\n", "BED"),
            (b"hello world\n", "is text"),
            (b"#!x\nchr1\tx\tgene\t1\t9\t.\t+\t.\tgene_id \"a\";\n", "gene annotation"),
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
            (b"\x28\xb5\x2f\xfd\0", "zstd"),
        ] {
            let found = of_bytes(head).unwrap_or_else(|| panic!("{what}"));
            assert!(found.what.contains(what), "{what}: {found:?}");
        }
        assert_eq!((of_bytes(b"\0\x01\x02\x03"), of_bytes(&[0x89, 3, 7, 1])), (None, None));
    }
}
