//! Columns put into the frames of a file that is there: of a copy, never of an input.

use std::path::Path;
use std::str::FromStr;

use hdf5::types::{TypeDescriptor, VarLenUnicode};
use hdf5::{Container, File, Group, Location, LocationType};

use super::fields::Elements;
use super::reader::{AnnData, Axis, is_text, strings};
use super::writer::{check_name, column_order, write_column};
use super::{Column, H5Context};
use crate::error::{Error, Result};

/// Compression of the columns.
const GZIP: Option<u8> = Some(1);

/// Puts columns into `var` of the AnnData file at `path`, in the place of those of the same name, else behind the
/// others; all else stays as it is. An error leaves the file in a state that is of no use. `shown` is the name of the
/// file in messages.
///
/// # Errors
/// A `var` that is no group (anndata before 0.7), a column that is not as long as the index or is named as the index.
pub(crate) fn edit_var(path: &Path, shown: &Path, columns: &[(String, Column)]) -> Result<()> {
    let (rows, index) = {
        let data = AnnData::open(path)?;
        (data.rows(Axis::Var)?, data.index_of(Axis::Var)?)
    };
    let file = File::with_options()
        .with_fapl(|p| p.file_locking(false))
        .open_as(path, hdf5::OpenMode::ReadWrite)
        .at(shown, || "open the copy for writing".into())?;
    let var = file.group("var").at(shown, || "open `var`".into())?;
    let mut order = order(&var, shown, &index)?;
    for (name, column) in columns {
        check_name(shown, name)?;
        if column.len() != rows || *name == index {
            return Err(Error::input(
                shown,
                format!("`var/{name}` cannot be written: {} values for {rows} rows indexed by `{index}`", column.len()),
                "rename the index of `var`",
            ));
        }
        if var.link_exists(name) {
            var.unlink(name).at(shown, || format!("replace `var/{name}`"))?;
            // Layout 0.7 keeps categories apart.
            if let Ok(all) = var.group("__categories")
                && all.link_exists(name)
            {
                all.unlink(name).at(shown, || format!("replace `var/{name}`"))?;
            }
        }
        write_column(shown, &var, name, column, GZIP)?;
        if !order.contains(name) {
            order.push(name.clone());
        }
    }
    if var.attr("column-order").is_ok() {
        var.delete_attr("column-order").at(shown, || "replace the order of the columns".into())?;
    }
    column_order(shown, &var, &order)?;
    drop(var);
    let root = file.group("/").at(shown, || "open the root".into())?;
    if root.attr("encoding-type").is_err() {
        encode(&root, "", 0).at(shown, || "tell the encodings of its elements".into())?;
    }
    drop(root);
    file.close().at(shown, || "close the file".into())
}

/// Tells the encodings that layout 0.7 left to be guessed, which newer versions of anndata warn of; sparse matrices
/// and frames have theirs.
fn encode(group: &Group, path: &str, depth: usize) -> hdf5::Result<()> {
    let mark = |at: &Location, kind: &str, version: &str| -> hdf5::Result<()> {
        for (name, value) in [("encoding-type", kind), ("encoding-version", version)] {
            let text = VarLenUnicode::from_str(value).map_err(|e| hdf5::Error::Internal(e.to_string()))?;
            at.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&text)?;
        }
        Ok(())
    };
    let told = |at: &Location| ["encoding-type", "h5sparse_format"].iter().any(|a| at.attr(a).is_ok());
    if path.ends_with("/__categories") {
        // Read by way of the columns.
    } else if !told(group) {
        match path {
            "" => mark(group, "anndata", "0.1.0")?,
            "/raw" => mark(group, "raw", "0.1.0")?,
            _ => mark(group, "dict", "0.1.0")?,
        }
    } else if ["indptr", "codes", "mask"].iter().any(|part| group.link_exists(part)) {
        return Ok(()); // one element
    }
    for name in group.member_names()? {
        let below = format!("{path}/{name}");
        if depth > 16 {
            break; // links may run in circles
        }
        match group.loc_type_by_name(&name)? {
            LocationType::Group => encode(&group.group(&name)?, &below, depth + 1)?,
            LocationType::Dataset => {
                let set = group.dataset(&name)?;
                let kind = set.dtype()?.to_descriptor();
                match kind {
                    _ if told(&set) => {}
                    Ok(TypeDescriptor::Compound(_)) => mark(&set, "rec-array", "0.2.0")?,
                    Ok(kind) if is_text(&kind) && set.ndim() == 0 => mark(&set, "string", "0.2.0")?,
                    Ok(kind) if is_text(&kind) => mark(&set, "string-array", "0.2.0")?,
                    Ok(_) if set.ndim() == 0 => mark(&set, "numeric-scalar", "0.2.0")?,
                    Ok(_) => mark(&set, "array", "0.2.0")?,
                    Err(_) => {} // a type that is not known here
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names of the columns in their order: as the frame tells it, and those that it leaves out behind them.
fn order(var: &Group, shown: &Path, index: &str) -> Result<Vec<String>> {
    let mut members = var.member_names().at(shown, || "list `var`".into())?;
    members.retain(|m| m != index && m != "__categories");
    let mut out: Vec<String> = match var.attr("column-order") {
        Ok(attr) => {
            let attr: &Container = &attr;
            let kind =
                attr.dtype().and_then(|t| t.to_descriptor()).at(shown, || "read the order of the columns".into())?;
            // The order of no columns may be an array of numbers.
            if is_text(&kind) { strings(shown, Elements::Whole(attr), &kind, "column-order")? } else { Vec::new() }
        }
        Err(_) => Vec::new(),
    };
    out.retain(|name| members.contains(name));
    members.retain(|name| !out.contains(name));
    out.extend(members);
    Ok(out)
}
