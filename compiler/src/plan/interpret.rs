//! Runs a program in the interpreter of tile kernels: what the object must compute.

use super::{Arg, Base, Program, Step};
use crate::error::Result;
use crate::tile;

/// The memory of a run.
struct Memory<'a> {
    inputs: &'a [Vec<u8>],
    outputs: Vec<Vec<u8>>,
    arena: Vec<u8>,
    symbols: Vec<u8>,
    program: &'a Program,
}

/// The outputs for the given inputs (dense, little-endian), or the error code of the run. Where sizes are
/// known only at run time, tensors have the bytes of their bounds, and `symbols` is one size each,
/// replaced by what comes out.
pub fn interpret(
    program: &Program,
    inputs: &[Vec<u8>],
    symbols: &mut [i64],
) -> Result<std::result::Result<Vec<Vec<u8>>, i32>> {
    let mut memory = Memory {
        inputs,
        outputs: program.outputs.iter().map(|o| vec![0; o.ty.bytes()]).collect(),
        arena: vec![0; program.arena_bytes],
        symbols: symbols.iter().flat_map(|s| s.to_le_bytes()).collect(),
        program,
    };
    let code = steps(&mut memory, &program.steps, &mut Vec::new())?;
    for (symbol, bytes) in symbols.iter_mut().zip(memory.symbols.chunks_exact(8)) {
        *symbol = bytes.iter().rev().fold(0, |n, &b| n << 8 | i64::from(b));
    }
    Ok(if code == 0 { Ok(memory.outputs) } else { Err(code) })
}

fn steps(memory: &mut Memory, list: &[Step], iterations: &mut Vec<i64>) -> Result<i32> {
    for step in list {
        let code = match step {
            Step::Call { kernel, args } => call(memory, *kernel, args, iterations)?,
            Step::Repeat { count, trip, cond, body } => {
                let trips = trip.as_ref().map(|t| number(memory, t, iterations, 8));
                let count = trips.map_or(*count as i64, |t| t.min(*count as i64));
                let mut code = 0;
                for i in 0..count {
                    if code != 0 || cond.as_ref().is_some_and(|c| number(memory, c, iterations, 1) == 0) {
                        break;
                    }
                    iterations.push(i);
                    code = steps(memory, body, iterations)?;
                    iterations.pop();
                }
                code
            }
            Step::If { cond, then, otherwise } => {
                let chosen = if number(memory, cond, iterations, 1) != 0 { then } else { otherwise };
                steps(memory, chosen, iterations)?
            }
        };
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

fn call(memory: &mut Memory, kernel: u32, args: &[Arg], iterations: &[i64]) -> Result<i32> {
    let kernel = &memory.program.kernels[kernel as usize];
    let ranges: Vec<(usize, usize)> = (args.iter().zip(&kernel.params))
        .map(|(a, p)| (offset(a, iterations), p.elems * p.dtype.size()))
        .collect();
    let mut buffers: Vec<Vec<u8>> = (args.iter().zip(&ranges))
        .map(|(a, &(at, bytes))| memory.bytes(a.base)[at..at + bytes].to_vec())
        .collect();
    let code = tile::interpret(kernel, &mut buffers)?;
    for ((arg, param), (&(at, bytes), buffer)) in
        args.iter().zip(&kernel.params).zip(ranges.iter().zip(&buffers))
    {
        if param.access != tile::Access::Read {
            if let Some(memory) = memory.bytes_mut(arg.base) {
                memory[at..at + bytes].copy_from_slice(buffer);
            }
        }
    }
    Ok(code)
}

fn offset(arg: &Arg, iterations: &[i64]) -> usize {
    let moved: i64 = arg.strides.iter().zip(iterations).map(|(s, i)| s * i).sum();
    (arg.offset as i64 + moved) as usize
}

/// A little-endian number in memory.
fn number(memory: &Memory, arg: &Arg, iterations: &[i64], bytes: usize) -> i64 {
    let at = offset(arg, iterations);
    let data = &memory.bytes(arg.base)[at..at + bytes];
    data.iter().rev().fold(0, |n, &b| n << 8 | i64::from(b))
}

impl Memory<'_> {
    fn bytes(&self, base: Base) -> &[u8] {
        match base {
            Base::Input(i) => &self.inputs[i as usize],
            Base::Output(i) => &self.outputs[i as usize],
            Base::Arena => &self.arena,
            Base::Constant(i) => &self.program.constants[i as usize].bytes,
            Base::Symbols => &self.symbols,
        }
    }

    fn bytes_mut(&mut self, base: Base) -> Option<&mut [u8]> {
        match base {
            Base::Output(i) => Some(&mut self.outputs[i as usize]),
            Base::Arena => Some(&mut self.arena),
            Base::Symbols => Some(&mut self.symbols),
            Base::Input(_) | Base::Constant(_) => None,
        }
    }
}
