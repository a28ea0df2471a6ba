//! The manifest: what the header says, as JSON, for tools.

use super::{Compiled, Param, What, params};
use crate::plan::Interface;
use serde::Serialize;

/// One inference model, described.
#[derive(Serialize)]
pub struct Manifest {
    /// Name: the prefix of its symbols.
    pub name: String,
    /// The version of lmc.
    pub lmc: &'static str,
    /// The version of the object's interface.
    pub abi_version: u32,
    /// The target's triple.
    pub target: String,
    /// The processor compiled for.
    pub cpu: String,
    /// What it must have, as `lmc cpus` names it.
    pub features: Vec<&'static str>,
    /// The inputs, in order.
    pub inputs: Vec<TensorEntry>,
    /// The outputs, in order.
    pub outputs: Vec<TensorEntry>,
    /// The dimensions known only at run time, in order.
    pub symbols: Vec<SymbolEntry>,
    /// The strings that numbers in inputs and outputs of words stand for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// Bytes of read-only data.
    pub constant_bytes: usize,
    /// Bytes of both.
    pub flash_bytes: usize,
    /// Bytes of scratch memory.
    pub arena_bytes: usize,
    /// Its alignment.
    pub arena_align: usize,
    /// The largest sum of tensors live at once: no arena can be smaller.
    pub arena_bound: usize,
    /// Bytes of stack at most.
    pub stack_bytes: usize,
    /// Multiply-adds of one inference.
    pub macs: u64,
    /// Different kernels.
    pub kernels: usize,
}

/// An input or output.
#[derive(Serialize)]
pub struct TensorEntry {
    /// Name, as in the ONNX graph.
    pub name: String,
    /// Its parameter in the generated functions.
    pub parameter: String,
    /// Element type, as lmc names it.
    pub dtype: &'static str,
    /// Element type, as an ONNX number.
    pub onnx_dtype: u32,
    /// Extents; bounds, for dimensions known only at run time.
    pub shape: Vec<usize>,
    /// For each dimension, the number of its symbol; empty where every dimension is fixed.
    pub symbolic: Vec<Option<u32>>,
    /// Bytes, at the bounds.
    pub bytes: usize,
    /// Whether the elements are numbers of words.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub words: bool,
}

/// A dimension known only at run time.
#[derive(Serialize)]
pub struct SymbolEntry {
    /// The ONNX name; null for a size that depends on the data.
    pub name: Option<String>,
    /// Its parameter in the generated functions.
    pub parameter: String,
    /// The smallest size.
    pub min: usize,
    /// The largest.
    pub max: usize,
    /// How far apart neighbouring sizes are.
    pub step: usize,
}

/// Describes a compiled model.
pub fn manifest(c: &Compiled) -> Manifest {
    let p = c.program;
    let params = params(c);
    let entries = |pick: fn(&Param) -> Option<TensorEntry>| params.iter().filter_map(pick).collect();
    Manifest {
        name: p.name.clone(),
        lmc: env!("CARGO_PKG_VERSION"),
        abi_version: lmc_runtime::abi::VERSION,
        target: c.target.triple.to_string(),
        cpu: c.target.cpu.clone(),
        features: c.target.features.iter().filter(|f| f.bit() != 0).map(|f| f.name()).collect(),
        inputs: entries(|p| match p.what {
            What::Input(t, words) => Some(entry(t, &p.name, words)),
            _ => None,
        }),
        outputs: entries(|p| match p.what {
            What::Output(t, words) => Some(entry(t, &p.name, words)),
            _ => None,
        }),
        symbols: params.iter().filter_map(symbol).collect(),
        words: c.strings.words.clone(),
        code_bytes: c.code_bytes,
        constant_bytes: c.constant_bytes,
        flash_bytes: c.code_bytes + c.constant_bytes,
        arena_bytes: p.arena_bytes,
        arena_align: p.arena_align,
        arena_bound: p.arena_bound,
        stack_bytes: c.stack_bytes,
        macs: p.macs,
        kernels: p.kernels.len(),
    }
}

fn entry(tensor: &Interface, parameter: &str, words: bool) -> TensorEntry {
    TensorEntry {
        name: tensor.name.clone(),
        parameter: parameter.to_owned(),
        dtype: tensor.ty.dtype.name(),
        onnx_dtype: tensor.ty.dtype as u32,
        shape: tensor.ty.shape.clone(),
        symbolic: tensor.symbolic.clone(),
        bytes: tensor.ty.bytes(),
        words,
    }
}

fn symbol(param: &Param) -> Option<SymbolEntry> {
    let symbol = param.size()?;
    let (name, parameter) = (symbol.name.clone(), param.name.clone());
    Some(SymbolEntry { name, parameter, min: symbol.least, max: symbol.max, step: symbol.step })
}
