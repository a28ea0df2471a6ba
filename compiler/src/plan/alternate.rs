//! Loops over time read large constants from both ends in turn.
//!
//! Each step of an LSTM multiplies its state by all recurrent weights. Where these are more than a cache keeps, a step
//! that reads them in the same order as the one before finds none there: what it reads next is what was pushed out
//! first. Backwards in every other iteration it begins with what was read last.
//! ```text
//! repeat 40 {                                   repeat 40 {
//!     call product(state, weights, next)            if turns[i] { call product(state, weights, next) }
//! }                                                 else { call product_turned(state, weights, next) }
//!                                               }
//! ```
//! Results are the same to the bit, since each is the same sum. Constants that a call reads several times (for many
//! rows) are left alone: there products take the time.

use super::{Arg, Base, Constant, Program, Step};
use crate::target::Target;
use crate::tile::visit::each_addr;
use crate::tile::{Access, Kernel, LoopVar, Param, Stmt, backwards};
use std::collections::HashMap;

/// Bytes of a constant that count.
const LARGE: usize = 1 << 14;
/// Quarters of the second-level cache from which on a loop's constants push each other out (measured on Golden Cove:
/// of two quarters all are found there, of three half), and of the first-level cache.
const QUARTERS: [usize; 2] = [3, 5];
/// How many times the first-level cache they may be, for what is found there again to be worth a kernel.
const MOST: usize = 3;
/// How many times what else a call reads and writes they are, for its time to be that of reading them.
const SHARE: usize = 16;
/// Bytes of constants for which an iteration's byte in a table is little.
const PER_ITERATION: usize = 64;

/// Lets loops of a program read what is too large for the target's caches from both ends in turn.
pub(super) fn alternate(program: &mut Program, target: &Target) {
    let mut steps = std::mem::take(&mut program.steps);
    let mut turned = HashMap::new();
    Alternate { program, target, turned: &mut turned }.steps(&mut steps, &mut Vec::new());
    program.steps = steps;
}

struct Alternate<'a> {
    program: &'a mut Program,
    target: &'a Target,
    /// The numbers of kernels that run backwards, by those that they are of; none where their order matters.
    turned: &'a mut HashMap<u32, Option<u32>>,
}

impl Alternate<'_> {
    /// `counts`: how often the loops around run, outermost first.
    fn steps(&mut self, steps: &mut [Step], counts: &mut Vec<u64>) {
        for step in steps {
            match step {
                Step::Repeat { count, body, .. } => {
                    counts.push(*count);
                    self.steps(body, counts);
                    self.body(body, counts);
                    counts.pop();
                }
                Step::If { then, otherwise, .. } => {
                    self.steps(then, counts);
                    self.steps(otherwise, counts);
                }
                Step::Call { .. } => {}
            }
        }
    }

    /// The steps of the innermost of some loops.
    fn body(&mut self, body: &mut [Step], counts: &[u64]) {
        let bytes: Vec<usize> = body.iter().map(|step| self.again(step, counts.len())).collect();
        let (all, count) = (bytes.iter().sum::<usize>(), counts[counts.len() - 1] as usize);
        let Target { l1, l2, .. } = *self.target;
        let near = 4 * all >= QUARTERS[1] * l1 && all <= MOST * l1;
        let pushed_out = near || 4 * all >= QUARTERS[0] * l2;
        if !pushed_out || count < 2 || count.saturating_mul(PER_ITERATION) > all {
            return;
        }
        for (step, bytes) in body.iter_mut().zip(bytes) {
            let Step::Call { kernel, args } = &*step else { continue };
            if bytes < LARGE || overlaps(&self.program.kernels[*kernel as usize], args, counts) {
                continue;
            }
            let Some(other) = self.turned(*kernel) else { continue };
            let mut strides = vec![0; counts.len()];
            strides[counts.len() - 1] = 1;
            let cond = Arg { base: self.turns(count), offset: 0, strides };
            let otherwise = vec![Step::Call { kernel: other, args: args.clone() }];
            *step = Step::If { cond, then: vec![step.clone()], otherwise };
        }
    }

    /// Bytes of large constants that a call reads in each iteration of the innermost loop around it, once; none where
    /// they are not most of what it reads.
    fn again(&self, step: &Step, depth: usize) -> usize {
        let Step::Call { kernel, args } = step else { return 0 };
        let kernel = &self.program.kernels[*kernel as usize];
        let fixed = |arg: &Arg| arg.strides.get(depth - 1).is_none_or(|s| *s == 0);
        let again = |i: usize| {
            let constant = matches!(args[i].base, Base::Constant(_)) && fixed(&args[i]);
            let large = constant && bytes(&kernel.params[i]) >= LARGE;
            large && read_once(&kernel.body, i as u32, &mut Vec::new())
        };
        let sum = |wanted: bool| {
            let params = (0..args.len()).filter(|&i| again(i) == wanted);
            params.map(|i| bytes(&kernel.params[i])).sum::<usize>()
        };
        Some(sum(true)).filter(|constants| *constants >= SHARE * sum(false)).unwrap_or(0)
    }

    /// The kernel that does the same from its end to its beginning.
    fn turned(&mut self, kernel: u32) -> Option<u32> {
        if let Some(known) = self.turned.get(&kernel) {
            return *known;
        }
        let kernels = &mut self.program.kernels;
        let other = backwards(&kernels[kernel as usize]).map(|other| {
            kernels.push(Kernel { name: format!("{}_turned", other.name), ..other });
            kernels.len() as u32 - 1
        });
        self.turned.insert(kernel, other);
        other
    }

    /// A table that is true for every other iteration.
    fn turns(&mut self, count: usize) -> Base {
        let constants = &mut self.program.constants;
        let bytes: Vec<u8> = [1, 0].into_iter().cycle().take(count).collect();
        let known = constants.iter().position(|c| c.bytes == bytes).unwrap_or(constants.len());
        if known == constants.len() {
            constants.push(Constant { name: "turns".to_string(), bytes, align: 1 });
        }
        Base::Constant(known as u32)
    }
}

fn bytes(param: &Param) -> usize {
    param.elems * param.dtype.size()
}

/// Whether all loops around what reads a parameter move on in it.
fn read_once(body: &[Stmt], param: u32, around: &mut Vec<LoopVar>) -> bool {
    body.iter().all(|stmt| match stmt {
        Stmt::For { var, lo, hi, step, body } => {
            let once = lo.as_constant().zip(hi.as_constant()).is_some_and(|(lo, hi)| hi - lo <= *step);
            let loops = around.len();
            around.extend((!once).then_some(*var));
            let once = read_once(body, param, around);
            around.truncate(loops);
            once
        }
        Stmt::If { then, otherwise, .. } => {
            read_once(then, param, around) && read_once(otherwise, param, around)
        }
        Stmt::Size { body, .. } => read_once(body, param, around),
        Stmt::Loop { .. } => false,
        Stmt::Let(..) | Stmt::Store { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => {
            let mut once = true;
            each_addr(&mut [stmt.clone()], &mut |addr| {
                let moves = |var: &LoopVar| addr.index.coefficient(*var) != 0;
                once &= addr.param != param || addr.dynamic.is_none() && around.iter().all(moves);
            });
            once
        }
    })
}

/// Whether a call may write what it reads.
fn overlaps(kernel: &Kernel, args: &[Arg], counts: &[u64]) -> bool {
    let range = |arg: &Arg, param: &Param| {
        let moves = arg.strides.iter().zip(counts).map(|(s, &n)| s.saturating_mul(n as i64 - 1));
        let (low, high) = moves.fold((0, 0), |(low, high), m: i64| (low + m.min(0), high + m.max(0)));
        let from = arg.offset as i64;
        (arg.base, from + low, from + high + bytes(param) as i64)
    };
    let ranges: Vec<(Base, i64, i64)> = args.iter().zip(&kernel.params).map(|(a, p)| range(a, p)).collect();
    let written = |i: usize| kernel.params[i].access != Access::Read;
    (0..ranges.len()).any(|i| {
        let meets = |j: usize| {
            let (a, b) = (ranges[i], ranges[j]);
            i != j && a.0 == b.0 && a.1 < b.2 && b.1 < a.2
        };
        written(i) && (0..ranges.len()).any(meets)
    })
}

#[cfg(test)]
mod tests {
    use super::alternate;
    use crate::plan::{Program, interpret, parse, verify};
    use crate::target::{Target, resolve};

    /// A target with a second-level cache of so many bytes.
    fn target(l2: usize) -> Target {
        Target { l1: 1 << 13, l2, ..resolve("x86_64", "x86-64-v3").unwrap() }
    }

    const L2: usize = 1 << 16;

    /// A loop that calls a kernel with a state, which is `to` where it is written, that adds up rows of a constant as
    /// often as `rows` says.
    fn program(rows: usize, to: &str) -> Program {
        let text = format!(
            "program p {{
  input x: f32[16]
  output y: f32[3,64]
  arena 320 align 64 bound 320
  macs 0
  const w: u8[65536] align 64 = all 1
  kernel fill {{
    read x: f32[16]
    write y: f32[16]
    %0: f32x16 = load x[0]
    store y[0] = %0
  }}
  kernel k {{
    read w: f32[16384]
    read x: f32[16]
    write y: f32[64]
    vars m, n, i
    for m in 0..{rows} {{
      for n in 0..64 step 16 {{
        %0: f32x16 = load x[0]
        for i in 0..4096 step 16 {{
          %1: f32x16 = load w[256*n + i]
          %0: f32x16 = add %0, %1
        }}
        store y[n] = %0
      }}
    }}
  }}
  call fill(input0[0], arena[0])
  repeat 3 {{
    call k(const0[0], arena[0], {to})
  }}
}}
"
        );
        let mut program = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let numbers = (0..1 << 14).flat_map(|i| ((i % 1000) as f32).to_le_bytes());
        program.constants[0].bytes = numbers.collect();
        program
    }

    fn result(program: &Program) -> Vec<Vec<u8>> {
        verify(program).unwrap();
        let x = (0..16).flat_map(|i| (0.5 * i as f32).to_le_bytes()).collect();
        interpret(program, &[x], &mut []).unwrap().unwrap()
    }

    #[test]
    fn every_other_iteration_runs_backwards() {
        let before = program(1, "output0[256*i0]");
        let mut after = before.clone();
        alternate(&mut after, &target(L2));
        let text = after.to_string();
        let expected = "repeat 3 {\n    if const1[i0] {\n      call k(const0[0], arena[0], output0[256*i0])\n    } \
                        else {\n      call k_turned(";
        assert!(text.contains(expected), "{text}");
        assert_eq!(after.constants[1].bytes, [1, 0, 1]);
        assert_eq!(result(&after), result(&before));
        let near = Target { l1: 1 << 15, ..target(4 * L2) };
        let mut again = before.clone();
        alternate(&mut again, &near);
        assert_eq!(again.steps, after.steps);
    }

    /// What the caches keep, what is read for each of some rows, and what is written over what is read.
    #[test]
    fn other_loops_stay() {
        for (rows, to, l2) in
            [(1, "output0[256*i0]", 4 * L2), (2, "output0[256*i0]", L2), (1, "arena[32]", L2)]
        {
            let before = program(rows, to);
            let mut after = before.clone();
            alternate(&mut after, &target(l2));
            assert_eq!(after.steps, before.steps, "{rows} {to}");
        }
    }
}
