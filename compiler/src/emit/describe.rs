//! The bytes of `NAME_model`, as `lmc_runtime::abi` lays them out for a 64-bit machine.

use crate::base::abi;
use crate::plan::{Interface, Program};
use crate::target::Target;
use std::mem::{offset_of, size_of};

/// What a pointer of the description points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pointee {
    /// [`Description::plain`].
    Plain,
    /// [`Description::tables`].
    Tables,
    /// The function `run`.
    Run,
}

/// A pointer to be filled in by the linker.
pub(super) struct Pointer {
    /// Byte offset of the pointer.
    pub at: u64,
    pub to: Pointee,
    /// Byte offset in what it points into.
    pub offset: usize,
}

/// The description in three pieces.
#[derive(Default)]
pub(super) struct Description {
    /// Names and shapes.
    pub plain: Vec<u8>,
    /// The arrays of tensors and symbols.
    pub tables: Vec<u8>,
    pub table_pointers: Vec<Pointer>,
    /// `NAME_model` itself.
    pub model: Vec<u8>,
    pub model_pointers: Vec<Pointer>,
}

/// Describes a program that was compiled for `target`.
pub(super) fn describe(program: &Program, target: &Target, stack_bytes: usize) -> Description {
    let mut d = Description::default();
    // Shapes first: they are aligned to 8 bytes, names are not.
    let shapes: Vec<usize> = program.inputs.iter().chain(&program.outputs).map(|t| d.shape(t)).collect();
    let inputs = d.tensors(&program.inputs, &shapes);
    let outputs = d.tensors(&program.outputs, &shapes[program.inputs.len()..]);
    let symbols = d.tables.len();
    for symbol in &program.symbols {
        let start = d.tables.len();
        let mut bytes = [0; size_of::<abi::Symbol>()];
        put(&mut bytes, offset_of!(abi::Symbol, max), &(symbol.max as i64).to_le_bytes());
        d.tables.extend(bytes);
        if let Some(name) = &symbol.name {
            let offset = d.text(name);
            let at = (start + offset_of!(abi::Symbol, name)) as u64;
            d.table_pointers.push(Pointer { at, to: Pointee::Plain, offset });
        }
    }
    let name = d.text(&program.name);
    d.model = vec![0; size_of::<abi::Model>()];
    let numbers = [
        (offset_of!(abi::Model, abi_version), abi::VERSION),
        (offset_of!(abi::Model, input_count), program.inputs.len() as u32),
        (offset_of!(abi::Model, output_count), program.outputs.len() as u32),
        (offset_of!(abi::Model, symbol_count), program.symbols.len() as u32),
        (offset_of!(abi::Model, arena_align), program.arena_align.max(1) as u32),
        (offset_of!(abi::Model, features), target.features.iter().fold(0, |bits, f| bits | f.bit())),
    ];
    numbers.iter().for_each(|(at, value)| put(&mut d.model, *at, &value.to_le_bytes()));
    let sizes = [
        (offset_of!(abi::Model, arena_bytes), program.arena_bytes),
        (offset_of!(abi::Model, stack_bytes), stack_bytes),
    ];
    sizes.iter().for_each(|(at, value)| put(&mut d.model, *at, &(*value as u64).to_le_bytes()));
    let pointers = [
        (offset_of!(abi::Model, name), Pointee::Plain, name, true),
        (offset_of!(abi::Model, inputs), Pointee::Tables, inputs, !program.inputs.is_empty()),
        (offset_of!(abi::Model, outputs), Pointee::Tables, outputs, !program.outputs.is_empty()),
        (offset_of!(abi::Model, symbols), Pointee::Tables, symbols, !program.symbols.is_empty()),
        (offset_of!(abi::Model, run), Pointee::Run, 0, true),
    ];
    for (at, to, offset, _) in pointers.into_iter().filter(|p| p.3) {
        d.model_pointers.push(Pointer { at: at as u64, to, offset });
    }
    d
}

impl Description {
    /// Appends the extents of a tensor; gives their offset.
    fn shape(&mut self, tensor: &Interface) -> usize {
        let offset = self.plain.len();
        for (i, &extent) in tensor.ty.shape.iter().enumerate() {
            let symbol = tensor.symbolic.get(i).copied().flatten();
            let value = symbol.map_or(extent as i64, |s| -1 - i64::from(s));
            self.plain.extend(value.to_le_bytes());
        }
        offset
    }

    /// Appends a text that ends with a zero byte; gives its offset.
    fn text(&mut self, text: &str) -> usize {
        let offset = self.plain.len();
        self.plain.extend(text.bytes().filter(|&b| b != 0));
        self.plain.push(0);
        offset
    }

    /// Appends an array of tensors; gives its offset.
    fn tensors(&mut self, tensors: &[Interface], shapes: &[usize]) -> usize {
        let first = self.tables.len();
        for (tensor, &shape) in tensors.iter().zip(shapes) {
            let start = self.tables.len();
            let mut bytes = [0; size_of::<abi::Tensor>()];
            put(&mut bytes, offset_of!(abi::Tensor, dtype), &(tensor.ty.dtype as u32).to_le_bytes());
            put(&mut bytes, offset_of!(abi::Tensor, rank), &(tensor.ty.rank() as u32).to_le_bytes());
            put(&mut bytes, offset_of!(abi::Tensor, bytes), &(tensor.ty.bytes() as u64).to_le_bytes());
            self.tables.extend(bytes);
            let name = self.text(&tensor.name);
            let pointers = [(offset_of!(abi::Tensor, name), name), (offset_of!(abi::Tensor, dims), shape)];
            for (at, offset) in pointers {
                self.table_pointers.push(Pointer { at: (start + at) as u64, to: Pointee::Plain, offset });
            }
        }
        first
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

// The offsets are taken on the host, and must be those of every 64-bit target.
const _: () = assert!(size_of::<usize>() == 8, "lmc itself runs on 64-bit machines");
