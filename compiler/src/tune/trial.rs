//! One candidate, compiled alone and run in this process.

use crate::base::{Tensor, TensorType, abi};
use crate::error::{Error, Result};
use crate::nest::{nest, thin};
use crate::plan::{Arg, Base, Program, Step};
use crate::run::compare::{Tolerance, compare, numbers};
use crate::run::load::{Arena, Loaded};
use crate::run::reference::seeded;
use crate::schedule::{Linear, Schedule, verify};
use crate::target::Target;
use crate::{codegen, emit, tile};
use std::time::Instant;

/// Nanoseconds that one sample should take at least, so that the clock does not matter.
const SAMPLE: u64 = 20_000;
/// Bytes that buffers begin at multiples of.
const ALIGN: usize = 64;

/// What a definition is run on.
pub struct Data {
    buffers: Vec<Tensor>,
}

impl Data {
    /// The same contents on every run; `zeros`: nothing but zeros, for definitions that refuse others.
    pub fn new(linear: &Linear, zeros: bool) -> Data {
        let types: Vec<TensorType> =
            linear.buffers.iter().map(|b| TensorType::new(b.dtype, [b.elems])).collect();
        let buffers = match zeros {
            true => {
                types.iter().filter_map(|ty| Tensor::from_bytes(ty.clone(), vec![0; ty.bytes()])).collect()
            }
            false => {
                let thinned = |(i, mut tensor): (usize, Tensor)| {
                    thin(linear, i as u32, std::sync::Arc::make_mut(&mut tensor.data));
                    tensor
                };
                seeded(&types).into_iter().enumerate().map(thinned).collect()
            }
        };
        Data { buffers }
    }
}

/// A compiled candidate with its data.
pub struct Trial {
    loaded: Loaded,
    /// The operands, then the output, each at the alignment that they have in a model.
    arena: Arena,
    output: std::ops::Range<usize>,
    /// Runs per sample.
    runs: u32,
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// The least nanoseconds of one run so far.
    pub best: f64,
}

impl Trial {
    /// Compiles a definition under a schedule.
    pub fn new(linear: &Linear, schedule: &Schedule, target: &Target, data: &Data) -> Result<Trial> {
        verify(schedule, linear)?;
        let nested = nest(linear, schedule, target.fma, abi::ERR_INDEX)?;
        tile::verify(&nested.kernel)?;
        let packed = |(i, tensor): (usize, &Tensor)| {
            nested.packed(linear, i as u32, &tensor.data).unwrap_or_else(|| tensor.data.to_vec())
        };
        let operands: Vec<Vec<u8>> = data.buffers.iter().enumerate().map(packed).collect();
        let output = linear.output.elems * linear.output.dtype.size();
        if !nested.sizes.is_empty() {
            return Err(Error::options("sizes known only at run time are not tuned")
                .advise("Bind free dimensions to the sizes that matter most"));
        }
        let between = nested.between * size_of::<f32>();
        let sizes = operands.iter().map(Vec::len).chain([output]).chain((between > 0).then_some(between));
        let starts: Vec<usize> = sizes
            .scan(0usize, |end, size| {
                let start = usize::next_multiple_of(*end, ALIGN);
                *end = start + size;
                Some(start)
            })
            .collect();
        let output = starts[operands.len()]..starts[operands.len()] + output;
        let end = starts[starts.len() - 1] + between.max(output.len());
        let program = alone(nested.kernel, &starts, end);
        let compiled = codegen::compile(&program, target, &|| ())?;
        let code_bytes = compiled.kernels.iter().map(|k| k.bytes.len()).sum();
        let object = emit::emit(&program, &compiled, target)?;
        let loaded = Loaded::load(&object.bytes, &program.name)?;
        let mut arena = Arena::new(loaded.model())?;
        for (&start, bytes) in starts.iter().zip(&operands) {
            arena.contents()[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Ok(Trial { loaded, arena, output, runs: 1, code_bytes, best: f64::INFINITY })
    }

    fn run(&mut self) -> Result<i32> {
        self.loaded.run_in(&mut self.arena, &[], &mut [], &mut Vec::new())
    }

    /// The result of one run; an error with the code that the kernel returns.
    pub fn result(&mut self, linear: &Linear) -> Result<Tensor> {
        let start = Instant::now();
        let status = self.run()?;
        let nanoseconds = start.elapsed().as_nanos().max(1) as u64;
        self.runs = (SAMPLE / nanoseconds + 1) as u32;
        if status != 0 {
            return Err(Error::model(format!("run-time error {status}")));
        }
        let ty = TensorType::new(linear.output.dtype, [linear.output.elems]);
        let bytes = &self.arena.contents()[self.output.clone()];
        Tensor::from_bytes(ty, bytes).ok_or_else(|| Error::bug("the output has another size"))
    }

    /// Measures once more.
    pub fn sample(&mut self) -> Result<()> {
        let start = Instant::now();
        for _ in 0..self.runs {
            self.run()?;
        }
        self.best = self.best.min(start.elapsed().as_nanos() as f64 / f64::from(self.runs));
        Ok(())
    }
}

/// A program of one call, on buffers at these places of the arena.
fn alone(kernel: tile::Kernel, starts: &[usize], bytes: usize) -> Program {
    let arg = |&offset: &usize| Arg { base: Base::Arena, offset, strides: Vec::new() };
    let args = starts.iter().map(arg).collect();
    Program {
        name: "trial".to_string(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        symbols: Vec::new(),
        arena_bytes: bytes,
        arena_align: ALIGN,
        arena_bound: bytes,
        constants: Vec::new(),
        kernels: vec![kernel],
        steps: vec![Step::Call { kernel: 0, args }],
        macs: 0,
    }
}

/// Whether a candidate's result is that of the naive loops: the same, or, where floats are summed in
/// another order, within what rounding explains.
pub fn agrees(result: &Tensor, naive: &Tensor, reorders: bool) -> bool {
    let largest = numbers(naive).into_iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
    let (rtol, atol) = if reorders { (1e-4, 1e-4 * largest) } else { (0.0, 0.0) };
    compare(result, naive, Tolerance { rtol, atol }).is_within()
}
