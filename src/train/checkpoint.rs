//! Checkpoints: safetensors under the published names.
//!
//! Metadata: `format` is `pt`, `sccrossrec` holds the program's version, `config` the [`ModelConfig`] as JSON; a state
//! file has `state` besides. Bytes depend on nothing but the contents: no order of a hash map, no time.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::files::write_atomic;
use crate::error::{Error, Result};
use crate::model::{Layout, ModelConfig, Params};

const AGAIN: &str = "the file may be truncated or damaged; make or fetch it again";

/// A tensor read from a file, widened or rounded to f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// The numbers.
    pub values: Vec<f32>,
}

/// A safetensors file in memory.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The file's own metadata.
    pub metadata: BTreeMap<String, String>,
}

/// One tensor on its way to a file.
pub(crate) struct Out<'a> {
    pub name: &'a str,
    pub shape: Vec<usize>,
    pub values: &'a [f32],
}

/// Writes tensors, in this order, whole or not at all.
pub(crate) fn write(path: &Path, tensors: &[Out<'_>], metadata: &BTreeMap<&str, String>) -> Result<()> {
    use std::fmt::Write as _;
    let mut header = String::from("{\"__metadata__\":");
    header += &serde_json::to_string(metadata).map_err(|e| Error::Internal(format!("checkpoint metadata: {e}")))?;
    let mut at = 0usize;
    for t in tensors {
        let n: usize = t.shape.iter().product();
        if n != t.values.len() {
            return Err(Error::Internal(format!("{}: {:?} with {} numbers", t.name, t.shape, t.values.len())));
        }
        let end = at + 4 * n;
        let name = serde_json::Value::from(t.name);
        write!(header, ",{name}:{{\"dtype\":\"F32\",\"shape\":{:?},\"data_offsets\":[{at},{end}]}}", t.shape)
            .map_err(|e| Error::Internal(e.to_string()))?;
        at = end;
    }
    header.push('}');
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    write_atomic(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for t in tensors {
            if cfg!(target_endian = "little") {
                out.write_all(bytemuck::cast_slice(t.values))?;
            } else {
                for x in t.values {
                    out.write_all(&x.to_le_bytes())?;
                }
            }
        }
        Ok(())
    })
}

/// Writes parameters under their published names.
pub fn save(path: &Path, params: &Params<f32>, config: &ModelConfig) -> Result<()> {
    let tensors: Vec<_> = params
        .layout()
        .entries()
        .iter()
        .map(|e| Out { name: &e.name, shape: e.shape.clone(), values: &params.as_slice()[e.range.clone()] })
        .collect();
    write(path, &tensors, &metadata(config)?)
}

pub(crate) fn metadata(config: &ModelConfig) -> Result<BTreeMap<&'static str, String>> {
    let config = serde_json::to_string(config).map_err(|e| Error::Internal(format!("model configuration: {e}")))?;
    Ok(BTreeMap::from([
        ("config", config),
        ("format", "pt".to_string()),
        ("sccrossrec", env!("CARGO_PKG_VERSION").to_string()),
    ]))
}

impl Checkpoint {
    /// Reads a safetensors file with f32, f64, f16 or bf16 tensors. Lengths in the header are checked against the file
    /// before anything is made of them.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
        let bad = |e: safetensors::SafeTensorError| Error::input(path, format!("not a safetensors file ({e})"), AGAIN);
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
        let file = SafeTensors::deserialize(&bytes).map_err(bad)?;
        let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let d = view.data();
            let values = match view.dtype() {
                Dtype::F32 => d.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                Dtype::F64 => d
                    .chunks_exact(8)
                    .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
                    .collect(),
                Dtype::F16 => d.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                Dtype::BF16 => d.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                // Buffers such as counters are no parameters; whoever needs the tensor will miss it by name.
                _ => continue,
            };
            tensors.insert(name.to_string(), Tensor { shape: view.shape().to_vec(), values });
        }
        Ok(Checkpoint { tensors, metadata })
    }

    /// The model configuration in the metadata, where there is a whole one.
    pub fn config(&self) -> Option<ModelConfig> {
        serde_json::from_str(self.metadata.get("config")?).ok()
    }

    /// The tensor of that name and shape, taken out.
    pub fn take(&mut self, path: &Path, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(t) = self.tensors.remove(name) else {
            return Err(Error::input(
                path,
                format!("tensor `{name}` {shape:?} is missing"),
                "give a checkpoint with the published names",
            ));
        };
        if t.shape != shape {
            return Err(Error::input(
                path,
                format!("tensor `{name}` has shape {:?} where {shape:?} is expected", t.shape),
                "use a checkpoint made with these sizes",
            ));
        }
        Ok(t)
    }

    /// All tensors of `config`, as parameters. Names and shapes must agree; other tensors are let be.
    pub fn params(mut self, path: &Path, config: &ModelConfig) -> Result<Params<f32>> {
        let layout = std::sync::Arc::new(Layout::new(config));
        // Before the arena is allocated: sizes come from a file.
        for e in layout.entries() {
            if let Some(t) = self.tensors.get(&e.name)
                && t.shape == e.shape
            {
                continue;
            }
            self.take(path, &e.name, &e.shape)?;
        }
        let mut params = Params::zeros(layout.clone());
        for e in layout.entries() {
            let t = self.take(path, &e.name, &e.shape)?;
            params.as_mut_slice()[e.range.clone()].copy_from_slice(&t.values);
        }
        Ok(params)
    }
}
