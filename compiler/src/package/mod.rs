//! What goes beside the object: a C header, a Rust binding, and a manifest for tools.
//!
//! All three say the same: one typed parameter per tensor and per run-time dimension, the memory
//! the model needs, and where it runs. Goldens: `tests/golden/package`.

pub mod names;
mod binding;
mod header;
mod manifest;

pub use binding::binding;
pub use header::header;
pub use manifest::{Manifest, TensorEntry, manifest};

use crate::base::DType;
use crate::plan::{Interface, Program, Symbol};
use crate::target::Target;
use names::Scope;

/// A compiled model, as far as its package tells.
pub struct Compiled<'a> {
    /// The program; its name is an identifier already (see [`names::identifier`]).
    pub program: &'a Program,
    /// What it was compiled for.
    pub target: &'a Target,
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// Bytes of read-only data.
    pub constant_bytes: usize,
    /// Bytes of stack that one inference needs at most.
    pub stack_bytes: usize,
    /// What inputs and outputs of strings are numbers of.
    pub strings: &'a Strings,
}

/// Inputs and outputs that are strings in the model are numbers: of the words in this list.
#[derive(Clone, Debug, Default)]
pub struct Strings {
    /// The words; empty where neither has any.
    pub words: Vec<String>,
    /// Which inputs.
    pub inputs: Vec<bool>,
    /// Which outputs.
    pub outputs: Vec<bool>,
}

/// A parameter of the typed `run`.
struct Param<'a> {
    /// Its identifier.
    name: String,
    what: What<'a>,
}

#[derive(Clone, Copy)]
enum What<'a> {
    /// An input, and whether its elements are numbers of words.
    Input(&'a Interface, bool),
    /// An output, and whether its elements are numbers of words.
    Output(&'a Interface, bool),
    /// A size that the caller chooses.
    SizeIn(&'a Symbol),
    /// A size that depends on the data.
    SizeOut(&'a Symbol),
}

impl Param<'_> {
    /// The symbol, where it is one's size.
    fn size(&self) -> Option<&Symbol> {
        match self.what {
            What::SizeIn(symbol) | What::SizeOut(symbol) => Some(symbol),
            What::Input(..) | What::Output(..) => None,
        }
    }
}

/// Names that the generated functions use themselves, in C or in Rust.
const OWN: &[&str] = &[
    "arena",
    "inputs",
    "outputs",
    "symbols",
    "status",
    "run",
    "model",
    "Arena",
    "ARENA_BYTES",
    "ARENA_ALIGN",
    "STACK_BYTES",
    "WORDS",
    "word_number",
];

/// The parameters in order: inputs, outputs, then one per symbol, in the symbols' order.
fn params<'a>(c: &Compiled<'a>) -> Vec<Param<'a>> {
    let program = c.program;
    let mut scope = Scope::new(OWN);
    scope.unique(&format!("{}_model", program.name));
    scope.unique(&format!("{}_run", program.name));
    scope.unique(&format!("{}_word", program.name));
    scope.unique(&format!("{}_word_number", program.name));
    let mut params = Vec::new();
    let mut add = |text: &str, what| params.push(Param { name: scope.unique(text), what });
    let is_words = |list: &[bool], number: usize| list.get(number).copied().unwrap_or(false);
    for (number, t) in program.inputs.iter().enumerate() {
        add(&t.name, What::Input(t, is_words(&c.strings.inputs, number)));
    }
    for (number, t) in program.outputs.iter().enumerate() {
        add(&t.name, What::Output(t, is_words(&c.strings.outputs, number)));
    }
    for (number, symbol) in program.symbols.iter().enumerate() {
        match &symbol.name {
            Some(name) => add(name, What::SizeIn(symbol)),
            None => add(&size_name(program, number as u32), What::SizeOut(symbol)),
        }
    }
    params
}

/// A name for a data-dependent size: the output and dimension it is the size of.
fn size_name(program: &Program, symbol: u32) -> String {
    let of = |t: &Interface| {
        let axis = t.symbolic.iter().position(|s| *s == Some(symbol))?;
        Some(format!("{}_dim{axis}", t.name))
    };
    program.outputs.iter().find_map(of).unwrap_or_else(|| format!("size{symbol}"))
}

/// The shape for a comment: `[1,seq,384]`.
fn shape_text(tensor: &Interface, params: &[Param]) -> String {
    let sizes: Vec<&str> = params
        .iter()
        .filter(|p| !matches!(p.what, What::Input(..) | What::Output(..)))
        .map(|p| p.name.as_str())
        .collect();
    let dims: Vec<String> = tensor
        .ty
        .shape
        .iter()
        .enumerate()
        .map(|(axis, extent)| {
            let symbol = tensor.symbolic.get(axis).copied().flatten();
            symbol.and_then(|s| sizes.get(s as usize)).map_or(extent.to_string(), |name| name.to_string())
        })
        .collect();
    format!("[{}]", dims.join(","))
}

/// Element types in C and Rust. Half types and types under 8 bits are passed as their bits.
fn element(dtype: DType) -> (&'static str, &'static str) {
    match dtype {
        DType::F32 => ("float", "f32"),
        DType::F64 => ("double", "f64"),
        DType::I8 | DType::I4 | DType::I2 => ("int8_t", "i8"),
        DType::I16 => ("int16_t", "i16"),
        DType::I32 => ("int32_t", "i32"),
        DType::I64 => ("int64_t", "i64"),
        DType::U16 | DType::F16 | DType::BF16 => ("uint16_t", "u16"),
        DType::U32 => ("uint32_t", "u32"),
        DType::U64 => ("uint64_t", "u64"),
        DType::Bool => ("uint8_t", "bool"),
        DType::U8 | DType::U4 | DType::U2 => ("uint8_t", "u8"),
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => ("uint8_t", "u8"),
        DType::F4E2M1 | DType::F8E8M0 => ("uint8_t", "u8"),
    }
}

/// One line per parameter for a comment, without the comment's own signs.
fn describe(param: &Param, params: &[Param]) -> String {
    let tensor = |word: &str, t: &Interface| {
        let shape = shape_text(t, params);
        names::comment(&format!("{}: {word} \"{}\", {}{shape}", param.name, t.name, t.ty.dtype))
    };
    match param.what {
        What::Input(t, false) => tensor("input", t),
        What::Input(t, true) => tensor("input of words, by number,", t),
        What::Output(t, false) => tensor("output", t),
        What::Output(t, true) => tensor("output of words, by number,", t),
        What::SizeIn(symbol) => {
            let name = symbol.name.as_deref().unwrap_or_default();
            names::comment(&format!("{}: dimension \"{name}\", {}", param.name, range_text(symbol, params)))
        }
        What::SizeOut(symbol) => {
            format!("{}: a size that depends on the data, at most {}", param.name, symbol.max)
        }
    }
}

/// What a size may be: `64 to 640 in steps of 32`, `past + 1, 2 to 17`.
fn range_text(symbol: &Symbol, params: &[Param]) -> String {
    let Symbol { least, max, step, sum, .. } = symbol;
    let range = format!("{least} to {max}");
    match sum {
        Some((terms, number)) => {
            let sizes: Vec<&Param> = params.iter().filter(|p| p.size().is_some()).collect();
            let name = |of: usize| sizes.get(of).map_or("?", |p| p.name.as_str());
            let term = |&(of, times): &(usize, usize)| match times {
                1 => name(of).to_string(),
                _ => format!("{times} * {}", name(of)),
            };
            let mut terms: Vec<String> = terms.iter().map(term).collect();
            terms.extend((*number > 0).then(|| number.to_string()));
            format!("{}, {range}", terms.join(" + "))
        }
        None if *step > 1 => format!("{range} in steps of {step}"),
        None => range,
    }
}

/// The numbers that a program needs to know of each size: the name of a constant for each, and what it says.
fn limits(params: &[Param]) -> Vec<(String, usize, String)> {
    let mut scope = Scope::new(OWN);
    let mut all = Vec::new();
    for param in params {
        let Some(symbol) = param.size() else { continue };
        let (name, upper) = (&param.name, scope.unique(&param.name.to_ascii_uppercase()));
        let mut add = |what: &str, value, text: String| all.push((format!("{upper}_{what}"), value, text));
        if symbol.name.is_some() {
            add("MIN", symbol.least, format!("The smallest `{name}`."));
            add("STEP", symbol.step, format!("`{name}` is a multiple of this more than the smallest."));
        }
        add("MAX", symbol.max, format!("The largest `{name}`."));
    }
    all
}

/// What the model is and what it costs, for the top of both files.
fn title(c: &Compiled) -> [String; 2] {
    let p = c.program;
    [
        format!(
            "Model {}, compiled by lmc {} for {} ({}).",
            p.name,
            env!("CARGO_PKG_VERSION"),
            c.target.triple,
            c.target.cpu
        ),
        format!(
            "Code {} bytes, constants {}, arena {}, stack {}; {} multiply-adds an inference.",
            c.code_bytes, c.constant_bytes, p.arena_bytes, c.stack_bytes, p.macs
        ),
    ]
}
