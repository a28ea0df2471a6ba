//! Runs a program in the interpreter of tile kernels: what the object must compute.

use super::{Arg, Base, Program, Step};
use crate::error::Result;
use crate::tile;

/// What memory holds before a run.
const GARBAGE: u8 = 0xa5;

/// The memory of a run: arena, symbols, inputs, outputs, constants.
struct Memory<'a> {
    parts: Vec<Vec<u8>>,
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
    let mut parts = vec![vec![GARBAGE; program.arena_bytes]];
    parts.push(symbols.iter().flat_map(|s| s.to_le_bytes()).collect());
    parts.extend_from_slice(inputs);
    parts.extend(program.outputs.iter().map(|o| vec![0; o.ty.bytes()]));
    parts.extend(program.constants.iter().map(|c| c.bytes.clone()));
    let mut memory = Memory { parts, program };
    let code = steps(&mut memory, &program.steps, &mut Vec::new())?;
    let sizes = &memory.parts[memory.part(Base::Symbols)];
    for (symbol, bytes) in symbols.iter_mut().zip(sizes.chunks_exact(8)) {
        *symbol = bytes.iter().rev().fold(0, |n, &b| n << 8 | i64::from(b));
    }
    let outputs = memory.part(Base::Output(0));
    let outputs = memory.parts.drain(outputs..).take(program.outputs.len()).collect();
    Ok(if code == 0 { Ok(outputs) } else { Err(code) })
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
    let places: Vec<(usize, usize)> =
        args.iter().map(|a| (memory.part(a.base), offset(a, iterations))).collect();
    tile::interpret_in(kernel, &mut memory.parts, &places)
}

fn offset(arg: &Arg, iterations: &[i64]) -> usize {
    let moved: i64 = arg.strides.iter().zip(iterations).map(|(s, i)| s * i).sum();
    (arg.offset as i64 + moved) as usize
}

/// A little-endian number in memory.
fn number(memory: &Memory, arg: &Arg, iterations: &[i64], bytes: usize) -> i64 {
    let at = offset(arg, iterations);
    let data = &memory.parts[memory.part(arg.base)][at..at + bytes];
    data.iter().rev().fold(0, |n, &b| n << 8 | i64::from(b))
}

impl Memory<'_> {
    /// The number of a part.
    fn part(&self, base: Base) -> usize {
        let outputs = 2 + self.program.inputs.len();
        match base {
            Base::Arena => 0,
            Base::Symbols => 1,
            Base::Input(i) => 2 + i as usize,
            Base::Output(i) => outputs + i as usize,
            Base::Constant(i) => outputs + self.program.outputs.len() + i as usize,
        }
    }
}
