//! What this core can do, and what kernels reach of it.
//!
//! `cargo bench --profile dev --bench peak` prints the f32 multiply-add peak at 128, 256 and 512 bits
//! and the rate of the largest register tiles. `-- FILE CPU` adds one line for each kernel in a file
//! that `lmc build --dump-after nest` printed: encoder, bytes of code, microseconds, GFLOP/s.
//! The shortest of many runs counts, so that other load on the machine shows little.

use lmc::base::Bound;
use lmc::codegen::{self, Code, wide};
use lmc::target::{Target, resolve};
use lmc::tile::{Kernel, Stmt, Value, parse, random};
use std::time::{Duration, Instant};

fn main() {
    let target = resolve("x86_64", "native").expect("an x86_64 host");
    for lanes in [4, 8, 16].into_iter().filter(|l| 4 * l <= target.vector_bytes) {
        let peak = rate(&chains(lanes), &target);
        println!("peak {:3} bits  {peak:6.1} GFLOP/s", 32 * lanes);
    }
    for cpu in ["x86-64-v3", "x86-64-v4"] {
        let level = resolve("x86_64", cpu).expect("a known processor");
        if level.features.iter().all(|f| target.has(*f)) {
            let rows = if level.lanes() == 16 { 14 } else { 6 };
            let tile = rate(&gemm(rows, level.lanes(), 512), &level);
            println!("tile {rows:2}x{}     {tile:6.1} GFLOP/s  ({cpu})", 2 * level.lanes());
        }
    }
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    if let (Some(file), Some(cpu)) = (args.next(), args.next()) {
        dumped(&file, &cpu);
    }
}

/// A line per kernel of a dump.
fn dumped(file: &str, cpu: &str) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let target = resolve("x86_64", cpu).unwrap_or_else(|e| panic!("{e}"));
    let mut total = Duration::ZERO;
    for part in format!("\n{text}").split("\nkernel ").skip(1) {
        let end = part.find("\n}\n").map_or(part.len(), |i| i + 3);
        let kernel = parse(&format!("kernel {}", &part[..end])).unwrap_or_else(|e| panic!("{e}"));
        let (encoder, code) = match wide::encode(&kernel, &target) {
            Ok(code) => (String::new(), code),
            Err(reason) => (
                format!("cranelift: {reason}"),
                codegen::encode(&kernel, &target).unwrap_or_else(|e| panic!("{e}")),
            ),
        };
        let time = shortest(&kernel, &code);
        total += time;
        let rate = flops(&kernel.body, &kernel, &mut vec![0; kernel.vars.len()]) / time.as_secs_f64() * 1e-9;
        println!(
            "{:40} {:6} B {:9.1} us {rate:6.1} GFLOP/s {encoder}",
            kernel.name,
            code.bytes.len(),
            time.as_secs_f64() * 1e6
        );
    }
    println!("sum {:.1} us", total.as_secs_f64() * 1e6);
}

/// Sixteen accumulators, each multiplied and added to itself without a load.
fn chains(lanes: usize) -> Kernel {
    let mut text = format!("kernel peak fused {{ read x: f32[{lanes}] write y: f32[{lanes}] vars i\n");
    text += &format!("%16: f32x{lanes} = load x[0]\n");
    (0..16).for_each(|r| text += &format!("%{r}: f32x{lanes} = %16\n"));
    text += "for i in 0..10000 {\n";
    (0..13).for_each(|r| text += &format!("%{r}: f32x{lanes} = mla %{r}, %16, %16\n"));
    text += "}\n";
    (0..13).for_each(|r| text += &format!("store y[0] = %{r}\n"));
    parse(&(text + "}")).expect("a kernel")
}

/// A tile of `rows` by two vectors over packed operands.
fn gemm(rows: usize, lanes: usize, depth: usize) -> Kernel {
    let (tile, width) = (2 * rows, 2 * lanes);
    let (a, b, c) = (rows * depth, width * depth, rows * width);
    let mut text =
        format!("kernel gemm fused {{ read a: f32[{a}] read b: f32[{b}] write c: f32[{c}] vars k\n");
    (0..tile).for_each(|i| text += &format!("%{i}: f32x{lanes} = const 0.0\n"));
    text += &format!("for k in 0..{depth} {{\n");
    for v in 0..2 {
        text += &format!("%{}: f32x{lanes} = load b[{width}*k + {}]\n", tile + v, v * lanes);
    }
    for r in 0..rows {
        let row = tile + 2 + r;
        text += &format!("%{row}: f32x{lanes} = load a[{rows}*k + {r}] stride 0\n");
        for v in 0..2 {
            let acc = 2 * r + v;
            text += &format!("%{acc}: f32x{lanes} = mla %{acc}, %{row}, %{}\n", tile + v);
        }
    }
    text += "}\n";
    (0..tile).for_each(|i| text += &format!("store c[{}] = %{i}\n", lanes * i));
    parse(&(text + "}")).expect("a kernel")
}

/// GFLOP/s of a kernel's multiply-adds.
fn rate(kernel: &Kernel, target: &Target) -> f64 {
    let code = wide::encode(kernel, target).unwrap_or_else(|e| panic!("{e}"));
    let flops = flops(&kernel.body, kernel, &mut vec![0; kernel.vars.len()]);
    flops / shortest(kernel, &code).as_secs_f64() * 1e-9
}

/// Floating-point operations of the multiply-adds and dot products of some statements.
fn flops(body: &[Stmt], kernel: &Kernel, vars: &mut Vec<i64>) -> f64 {
    let lanes = |r: u32| f64::from(kernel.regs[r as usize].lanes);
    let mut sum = 0.0;
    for stmt in body {
        sum += match stmt {
            Stmt::Let(r, Value::Mla(..)) => 2.0 * lanes(*r),
            Stmt::Let(r, Value::Dot(..)) => 8.0 * lanes(*r),
            Stmt::For { var, lo, hi, step, body } => {
                let values = |b: &Bound| b.0.iter().map(|f| f.eval(|v| vars[v as usize])).collect::<Vec<_>>();
                let low = values(lo).into_iter().max().unwrap_or(0);
                let high = values(hi).into_iter().min().unwrap_or(0);
                let mut inner = 0.0;
                let mut at = low;
                while at < high {
                    vars[*var as usize] = at;
                    inner += flops(body, kernel, vars);
                    at += step;
                }
                inner
            }
            _ => 0.0,
        };
    }
    sum
}

/// The shortest run among many.
fn shortest(kernel: &Kernel, code: &Code) -> Duration {
    let mut buffers = random::buffers(kernel, 1);
    // Cache lines and more: as in the arena.
    buffers.iter_mut().for_each(|b| b.reserve(64));
    let mut aligned: Vec<Vec<Line>> = buffers.iter().map(|b| vec![Line([0; 64]); b.len() / 64 + 1]).collect();
    let pointers: Vec<*mut u8> = aligned.iter_mut().map(|a| a.as_mut_ptr().cast()).collect();
    let mut map = memmap2::MmapMut::map_anon(code.bytes.len()).expect("memory for code");
    map.copy_from_slice(&code.bytes);
    let map = map.make_exec().expect("executable memory");
    // SAFETY: the code is a kernel with one pointer per parameter, each to a buffer of its size.
    let run: extern "sysv64" fn(*const *mut u8) -> i32 = unsafe {
        buffers.iter().zip(&pointers).for_each(|(b, p)| p.copy_from_nonoverlapping(b.as_ptr(), b.len()));
        std::mem::transmute(map.as_ptr())
    };
    let begin = Instant::now();
    let mut best = Duration::MAX;
    let mut repeat = 1u32;
    while begin.elapsed() < Duration::from_millis(60) || best == Duration::MAX {
        let start = Instant::now();
        // An index that is random may end the kernel early, with an error code.
        (0..repeat).for_each(|_| {
            std::hint::black_box(run(pointers.as_ptr()));
        });
        let time = start.elapsed();
        match time < Duration::from_micros(20) && repeat < 1000 {
            true => repeat *= 2,
            false => best = best.min(time / repeat),
        }
    }
    best
}

/// A cache line.
#[derive(Clone)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "written through pointers")] [u8; 64]);
