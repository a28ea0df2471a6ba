//! A safe view of a compiled model: what it takes and gives, and how to run it on bytes.
//!
//! The binding that lmc generates has a typed `run` and needs this only inside; programs that
//! take any model (test drivers, benches) use it directly.

use crate::{Error, abi};
use core::ffi::{CStr, c_char, c_void};
use core::mem::MaybeUninit;

/// A model whose interface version has been checked.
#[derive(Clone, Copy)]
pub struct Model<'a>(&'a abi::Model);

impl<'a> Model<'a> {
    /// Wraps what an object exports. Fails with [`Error::Version`] for another version of the ABI.
    ///
    /// # Safety
    /// `raw` must be a `NAME_model` that lmc wrote, or behave like one.
    pub unsafe fn from_raw(raw: &'a abi::Model) -> Result<Self, Error> {
        if raw.abi_version == abi::VERSION { Ok(Model(raw)) } else { Err(Error::Version) }
    }

    /// Whether this processor has what the model was compiled for, else [`Error::Cpu`]; asks [`crate::features`].
    pub fn check_processor(self) -> Result<(), Error> {
        if self.0.features & !crate::features() == 0 { Ok(()) } else { Err(Error::Cpu) }
    }

    /// The structure itself.
    pub fn as_raw(self) -> &'a abi::Model {
        self.0
    }

    /// The model's name.
    pub fn name(self) -> &'a str {
        // SAFETY: `from_raw` promises a valid model.
        unsafe { text(self.0.name) }
    }

    /// The inputs, in the order in which they are passed.
    pub fn inputs(self) -> impl ExactSizeIterator<Item = TensorInfo<'a>> {
        // SAFETY: `from_raw` promises a valid model.
        unsafe { array(self.0.inputs, self.0.input_count) }.iter().map(TensorInfo)
    }

    /// The outputs, in the order in which they are passed.
    pub fn outputs(self) -> impl ExactSizeIterator<Item = TensorInfo<'a>> {
        // SAFETY: `from_raw` promises a valid model.
        unsafe { array(self.0.outputs, self.0.output_count) }.iter().map(TensorInfo)
    }

    /// The dimensions known only at run time.
    pub fn symbols(self) -> impl ExactSizeIterator<Item = SymbolInfo<'a>> {
        // SAFETY: `from_raw` promises a valid model.
        unsafe { array(self.0.symbols, self.0.symbol_count) }.iter().map(SymbolInfo)
    }

    /// Bytes of scratch memory needed.
    pub fn arena_bytes(self) -> usize {
        self.0.arena_bytes as usize
    }

    /// Alignment of the scratch memory.
    pub fn arena_align(self) -> usize {
        self.0.arena_align as usize
    }

    /// Bytes of stack needed at most.
    pub fn stack_bytes(self) -> usize {
        self.0.stack_bytes as usize
    }

    /// Runs one inference on the tensors' bytes, each exactly as large as [`TensorInfo::bytes`]
    /// and aligned for its element. `symbols`: in, the sizes of the named symbols; out, those that
    /// depend on the data. `arena`: at least [`Model::arena_bytes`], aligned.
    pub fn run<const I: usize, const O: usize>(
        self,
        inputs: [&[u8]; I],
        outputs: [&mut [u8]; O],
        symbols: &mut [i64],
        arena: &mut [MaybeUninit<u8>],
    ) -> Result<(), Error> {
        let fits = |info: TensorInfo, ptr: *const u8, len: usize| {
            len == info.bytes() && (ptr as usize).is_multiple_of(info.dtype().align())
        };
        let counts = [I, O, symbols.len()];
        let expected = [self.0.input_count, self.0.output_count, self.0.symbol_count];
        if counts != expected.map(|n| n as usize)
            || !self.inputs().zip(&inputs).all(|(info, t)| fits(info, t.as_ptr(), t.len()))
            || !self.outputs().zip(&outputs).all(|(info, t)| fits(info, t.as_ptr(), t.len()))
        {
            return Err(Error::Tensor);
        }
        let start = arena.as_mut_ptr().cast::<c_void>();
        if arena.len() < self.arena_bytes() || !(start as usize).is_multiple_of(self.arena_align()) {
            return Err(Error::Arena);
        }
        let inputs = inputs.map(|t| t.as_ptr().cast::<c_void>());
        let outputs = outputs.map(|t| t.as_mut_ptr().cast::<c_void>());
        // SAFETY: a valid model, and every buffer has the size and alignment that it states.
        Error::check(unsafe { (self.0.run)(inputs.as_ptr(), outputs.as_ptr(), symbols.as_mut_ptr(), start) })
    }
}

/// What is known of an input or output.
#[derive(Clone, Copy)]
pub struct TensorInfo<'a>(&'a abi::Tensor);

impl<'a> TensorInfo<'a> {
    /// Name, as in the ONNX graph.
    pub fn name(self) -> &'a str {
        // SAFETY: part of a valid model.
        unsafe { text(self.0.name) }
    }

    /// The element type.
    pub fn dtype(self) -> DType {
        DType(self.0.dtype)
    }

    /// The extents: `d >= 0` is fixed, `d < 0` the symbol number `-1 - d`.
    pub fn dims(self) -> &'a [i64] {
        // SAFETY: part of a valid model.
        unsafe { array(self.0.dims, self.0.rank) }
    }

    /// Bytes; with symbols, at their bounds.
    pub fn bytes(self) -> usize {
        self.0.bytes as usize
    }
}

/// What is known of a dimension that only run time fixes.
#[derive(Clone, Copy)]
pub struct SymbolInfo<'a>(&'a abi::Symbol);

impl<'a> SymbolInfo<'a> {
    /// The ONNX name of the dimension; `None` for a size that depends on the data.
    pub fn name(self) -> Option<&'a str> {
        // SAFETY: part of a valid model.
        (!self.0.name.is_null()).then(|| unsafe { text(self.0.name) })
    }

    /// The largest size.
    pub fn max(self) -> usize {
        self.0.max as usize
    }
}

/// An element type, as an ONNX `TensorProto.DataType` number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DType(pub u32);

impl DType {
    /// Bytes of an element; types under 8 bits take one.
    pub fn size(self) -> usize {
        /// By number, up to bfloat16.
        const SIZES: [u8; 17] = [1, 4, 1, 1, 2, 2, 4, 8, 1, 1, 2, 8, 4, 8, 1, 1, 2];
        SIZES.get(self.0 as usize).copied().unwrap_or(1).into()
    }

    /// Alignment of an element, in bytes.
    pub fn align(self) -> usize {
        self.size()
    }
}

/// # Safety
/// Null, or a string that ends with a zero byte.
unsafe fn text<'a>(chars: *const c_char) -> &'a str {
    if chars.is_null() {
        return "";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(chars) }.to_str().unwrap_or("")
}

/// # Safety
/// `count` elements at `first`, or `count` 0.
unsafe fn array<'a, T>(first: *const T, count: u32) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(first, count as usize) }
}
