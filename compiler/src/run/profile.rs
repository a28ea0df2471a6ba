//! The time of each kernel within a model.
//!
//! The program is compiled once more with a clock behind each call, a function that adds the ticks since its
//! last call to those of the kernel before it. Its numbers are one more output of the model, so that this works
//! wherever objects run. What a call of the clock itself takes is measured too, and taken off.

use super::executor::Executor;
use crate::base::{DType, Tensor, TensorType};
use crate::codegen::{self, Code};
use crate::emit;
use crate::error::{Error, Result};
use crate::plan::{Arg, Base, Interface, Program, Step};
use crate::target::{Arch, Target};
use crate::tile;
use std::time::{Duration, Instant};

/// Inferences at least.
const LEAST: usize = 3;
/// What comes before the kernels in the list of times: what has passed before the first call of the clock,
/// and what lies between two of its calls.
const BEFORE: usize = 2;

/// A kernel's share of an inference.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// Its name: the nodes that it computes.
    pub name: String,
    /// Calls per inference.
    pub calls: u64,
    /// Nanoseconds of all of them, the median over inferences.
    pub nanoseconds: f64,
}

/// The kernels of a program in the order of their first calls, measured for about the given time.
pub fn profile(
    program: &Program,
    target: &Target,
    runner: Option<&str>,
    inputs: &[Tensor],
    budget: Duration,
) -> Result<Vec<KernelTime>> {
    let (clocked, order) = with_clock(program)?;
    let clock = clocked.kernels.len() - 1;
    let encode = |kernel: &tile::Kernel| match std::ptr::eq(kernel, &raw const clocked.kernels[clock]) {
        true => Ok(clock_code(target.arch)),
        false => codegen::encode(kernel, target),
    };
    let compiled = codegen::compile_shared(&clocked, target, &encode)?;
    let object = emit::emit(&clocked, &compiled, target)?;
    let mut executor = Executor::new(&clocked, &object.bytes, target, runner)?;
    let start = Instant::now();
    let mut rounds: Vec<Vec<(u64, f64)>> = Vec::new();
    executor.run(inputs)?;
    while rounds.len() < LEAST || start.elapsed() < budget {
        let (outputs, nanoseconds) = executor.run_timed(inputs)?;
        let times = outputs.last().and_then(Tensor::to_i64s);
        let times = times.ok_or_else(|| Error::bug("the clock's numbers are no output"))?;
        rounds.push(kernel_times(&times, nanoseconds));
    }
    let time = |(i, &kernel): (usize, &u32)| KernelTime {
        name: program.kernels[kernel as usize].name.clone(),
        calls: rounds[0][i].0,
        nanoseconds: median(rounds.iter().map(|r| r[i].1).collect()),
    };
    Ok(order.iter().enumerate().map(time).collect())
}

/// Calls and nanoseconds of each kernel, of an inference that took so many: the time that the clock saw is
/// about all of it.
fn kernel_times(times: &[i64], nanoseconds: u64) -> Vec<(u64, f64)> {
    // The first two numbers are the clock's own.
    let slots: Vec<(i64, i64)> = times[2..].chunks_exact(2).map(|s| (s[0], s[1])).collect();
    let ticks: i64 = slots[1..].iter().map(|s| s.0).sum();
    let (scale, own) = (nanoseconds as f64 / ticks.max(1) as f64, slots[1].0);
    let time = |&(ticks, calls): &(i64, i64)| (calls as u64, (ticks - own * calls).max(0) as f64 * scale);
    slots[BEFORE..].iter().map(time).collect()
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

/// The program with a clock behind each call, and which kernel each of the clock's entries is of.
fn with_clock(program: &Program) -> Result<(Program, Vec<u32>)> {
    let mut clocked = program.clone();
    let mut order = Vec::new();
    called(&program.steps, &mut order);
    let words = 2 * (1 + BEFORE + order.len());
    let (clear, clock) = (program.kernels.len() as u32, program.kernels.len() as u32 + 1);
    let halves = 2 * words;
    // The code of the clock is no kernel's: only its parameters count.
    let texts = [
        format!(
            "kernel clear {{ write times: f32[{halves}] vars i\n%0: f32 = const 0.0\n\
             for i in 0..{halves} {{ store times[i] = %0 }} }}"
        ),
        "kernel clock { readwrite last: i64[1] readwrite entry: i64[2] }".to_string(),
    ];
    for text in texts {
        clocked.kernels.push(tile::parse(&text)?);
    }
    let output = Base::Output(program.outputs.len() as u32);
    let at = |word: usize| Arg { base: output, offset: 8 * word, strides: Vec::new() };
    let tick = |entry: usize| Step::Call { kernel: clock, args: vec![at(0), at(2 + 2 * entry)] };
    let entry = |kernel: u32| order.iter().position(|k| *k == kernel).map(|i| tick(BEFORE + i));
    clocked.steps = vec![Step::Call { kernel: clear, args: vec![at(0)] }, tick(0), tick(1)];
    clocked.steps.extend(ticking(&program.steps, &entry));
    clocked.outputs.push(Interface {
        name: "times".to_string(),
        ty: TensorType::new(DType::I64, [words]),
        symbolic: vec![None],
    });
    Ok((clocked, order))
}

/// The kernels that are called, in the order of their first calls.
fn called(steps: &[Step], found: &mut Vec<u32>) {
    for step in steps {
        match step {
            Step::Call { kernel, .. } if found.contains(kernel) => {}
            Step::Call { kernel, .. } => found.push(*kernel),
            Step::Repeat { body, .. } => called(body, found),
            Step::If { then, otherwise, .. } => {
                called(then, found);
                called(otherwise, found);
            }
        }
    }
}

/// Steps with a call of the clock behind each of their calls.
fn ticking(steps: &[Step], entry: &impl Fn(u32) -> Option<Step>) -> Vec<Step> {
    let mut list = Vec::new();
    for step in steps {
        match step {
            Step::Call { kernel, .. } => list.extend([step.clone()].into_iter().chain(entry(*kernel))),
            Step::Repeat { count, trip, cond, body } => list.push(Step::Repeat {
                count: *count,
                trip: trip.clone(),
                cond: cond.clone(),
                body: ticking(body, entry),
            }),
            Step::If { cond, then, otherwise } => list.push(Step::If {
                cond: cond.clone(),
                then: ticking(then, entry),
                otherwise: ticking(otherwise, entry),
            }),
        }
    }
    list
}

/// `entry[0] += now - last; entry[1] += 1; last = now`, where `args` are the addresses of both.
fn clock_code(arch: Arch) -> Code {
    let bytes = match arch {
        Arch::X86_64 => X86_CLOCK.to_vec(),
        Arch::Aarch64 => A64_CLOCK.iter().flat_map(|word| word.to_le_bytes()).collect(),
    };
    Code { bytes, align: 16, relocs: Vec::new(), stack: 8 }
}

#[rustfmt::skip]
const X86_CLOCK: &[u8] = &[
    0x48, 0x8b, 0x37,       // mov rsi, [rdi]
    0x0f, 0xae, 0xe8,       // lfence
    0x0f, 0x31,             // rdtsc
    0x48, 0xc1, 0xe2, 0x20, // shl rdx, 32
    0x48, 0x09, 0xd0,       // or rax, rdx
    0x48, 0x8b, 0x4f, 0x08, // mov rcx, [rdi + 8]
    0x48, 0x89, 0xc2,       // mov rdx, rax
    0x48, 0x2b, 0x16,       // sub rdx, [rsi]
    0x48, 0x01, 0x11,       // add [rcx], rdx
    0x48, 0xff, 0x41, 0x08, // inc qword [rcx + 8]
    0x48, 0x89, 0x06,       // mov [rsi], rax
    0x31, 0xc0,             // xor eax, eax
    0xc3,                   // ret
];

const A64_CLOCK: &[u32] = &[
    0xa940_0801, // ldp x1, x2, [x0]
    0xd503_3fdf, // isb
    0xd53b_e043, // mrs x3, cntvct_el0
    0xf940_0024, // ldr x4, [x1]
    0xcb04_0064, // sub x4, x3, x4
    0xa940_1845, // ldp x5, x6, [x2]
    0x8b04_00a5, // add x5, x5, x4
    0x9100_04c6, // add x6, x6, #1
    0xa900_1845, // stp x5, x6, [x2]
    0xf900_0023, // str x3, [x1]
    0x5280_0000, // mov w0, #0
    0xd65f_03c0, // ret
];

#[cfg(test)]
mod tests {
    use super::kernel_times;

    #[test]
    fn what_the_clock_takes_is_taken_off() {
        // 500 ticks in 1000 nanoseconds, the clock takes 20.
        let times = [9999, 0, 77, 1, 20, 1, 120, 1, 360, 3];
        assert_eq!(kernel_times(&times, 1000), [(1, 200.0), (3, 600.0)]);
    }
}
