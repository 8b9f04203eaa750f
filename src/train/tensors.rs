//! Checkpoints: safetensors under the published names.
//!
//! Metadata: `format` is `pt`, `sccrossrec` holds the program's version, `config` the [`ModelConfig`] as JSON; a state
//! file has `state` besides. `xxh3` is the XXH3-64 of all that follows the header, as the file has it: with it a file
//! tells damage that its lengths do not. Bytes depend on nothing but the contents: no order of a hash map, no time.
//!
//! See docs/model.md, section 9.1.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::files::atomic::{Temporary, verified};
use crate::model::{ModelConfig, ParamLayout, Params};

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
pub struct TensorFile {
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

/// Key of the checksum in the metadata.
const CHECKSUM: &str = "xxh3";

/// Writes tensors, in this order, whole or not at all, and reads them back before what was there goes.
pub(crate) fn write(path: &Path, tensors: &[Out<'_>], metadata: BTreeMap<&str, String>) -> Result<()> {
    prepared(path, tensors, metadata)?.keep()
}

/// [`write`] but for its last step, which puts the file in its place.
pub(crate) fn prepared(path: &Path, tensors: &[Out<'_>], mut metadata: BTreeMap<&str, String>) -> Result<Temporary> {
    use std::fmt::Write as _;
    let mut sum = Xxh3::new();
    tensors.iter().for_each(|t| sum.update(bytemuck::cast_slice(t.values)));
    metadata.insert(CHECKSUM, format!("{:016x}", sum.digest()));
    let mut header = String::from("{\"__metadata__\":");
    header += &serde_json::to_string(&metadata).map_err(|e| Error::Internal(format!("checkpoint metadata: {e}")))?;
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
    // Little-endian, as shards are: see dataset/shard.rs.
    let length = (header.len() as u64).to_le_bytes();
    let mut parts: Vec<&[u8]> = vec![&length, header.as_bytes()];
    parts.extend(tensors.iter().map(|t| bytemuck::cast_slice::<f32, u8>(t.values)));
    verified(path, &parts)
}

/// Writes parameters under their published names.
pub fn save(path: &Path, params: &Params<f32>, config: &ModelConfig) -> Result<()> {
    let tensors: Vec<_> = params
        .layout()
        .entries()
        .iter()
        .map(|e| Out { name: &e.name, shape: e.shape.clone(), values: &params.as_slice()[e.range.clone()] })
        .collect();
    write(path, &tensors, metadata(config)?)
}

pub(crate) fn metadata(config: &ModelConfig) -> Result<BTreeMap<&'static str, String>> {
    let config = serde_json::to_string(config).map_err(|e| Error::Internal(format!("model configuration: {e}")))?;
    Ok(BTreeMap::from([
        ("config", config),
        ("format", "pt".to_string()),
        ("sccrossrec", env!("CARGO_PKG_VERSION").to_string()),
    ]))
}

impl TensorFile {
    /// Reads a safetensors file with f32, f64, f16 or bf16 tensors. Lengths in the header are checked against the file
    /// before anything is made of them, and all tensors against the checksum where there is one.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
        let bad = |e: safetensors::SafeTensorError| Error::input(path, format!("not a safetensors file ({e})"), AGAIN);
        let (header_bytes, header) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
        let file = SafeTensors::deserialize(&bytes).map_err(bad)?;
        let metadata: BTreeMap<String, String> =
            header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        if let Some(sum) = metadata.get(CHECKSUM) {
            let mut found = Xxh3::new();
            found.update(bytes.get(8 + header_bytes..).unwrap_or(&[]));
            if *sum != format!("{:016x}", found.digest()) {
                let fix =
                    "the file is damaged: make or fetch it again; or it was edited: leave `xxh3` out of its metadata";
                return Err(Error::input(path, "its tensors do not have the checksum in its metadata", fix));
            }
        }
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
        Ok(TensorFile { tensors, metadata })
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
        let layout = std::sync::Arc::new(ParamLayout::new(config));
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
