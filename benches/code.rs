//! Bytes of code beside what the cost model expects of them, and what a byte costs.
//!
//! `cargo bench --profile dev --bench code -- MODEL.onnx ...` chooses tiles for the sums of floats in the models
//! on each kind of core, encodes them, and prints the numbers of `schedule/cores.rs` that fit best. Without a
//! model it prints the cycles that a byte takes from each cache of this machine.

use lmc::base::{DType, abi};
use lmc::build::{Build, Silent};
use lmc::schedule::choose::choose;
use lmc::schedule::{Code, Linear, Unrolled, key, tile_code};
use lmc::target::{Target, resolve};
use lmc::tile::parse;
use lmc::{codegen, nest};
use std::collections::BTreeMap;

/// One processor per kind of core.
const PROCESSORS: [(&str, &str); 4] =
    [("x86_64", "x86-64-v4"), ("x86_64", "x86-64-v3"), ("x86_64", "x86-64"), ("aarch64", "generic")];
/// Copies of a kernel of a kilobyte.
const COPIES: [usize; 7] = [1, 16, 64, 256, 1024, 4096, 16384];

fn main() {
    let models: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if models.is_empty() {
        return fetch();
    }
    for (arch, cpu) in PROCESSORS {
        let target = resolve(arch, cpu).unwrap_or_else(|e| panic!("{e}"));
        let mut seen: BTreeMap<u64, (Unrolled, f64)> = BTreeMap::new();
        let mut now = None;
        for model in &models {
            // Models with free dimensions are left out.
            let build = Build::new(model).target(arch).cpu(cpu);
            let definitions = build.definitions(&Silent).unwrap_or_default();
            for linear in definitions.iter().filter(|l| l.fold.is_some_and(|f| f.1 == DType::F32)) {
                let Some((unrolled, code)) = tile_code(linear, &target) else { continue };
                now = Some(code);
                if let Some(bytes) = bytes(linear, &target) {
                    seen.insert(key(linear), (unrolled, bytes));
                }
            }
        }
        if let Some(code) = now {
            line(cpu, &seen.into_values().collect::<Vec<_>>(), code);
        }
    }
}

/// The bytes of a definition's kernel; none where it is filtered.
fn bytes(linear: &Linear, target: &Target) -> Option<f64> {
    let schedule = choose(linear, target);
    let nested = nest::nest(linear, &schedule, target.fma, abi::ERR_INDEX).ok()?;
    let code = codegen::encode(&nested.kernel, target).ok()?;
    schedule.winograd.is_none().then_some(code.bytes.len() as f64)
}

/// The least squares of `bytes = step * steps + vector * sums`, relative to the bytes.
fn line(cpu: &str, kernels: &[(Unrolled, f64)], code: &Code) {
    let (mut aa, mut ab, mut bb, mut a1, mut b1) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (unrolled, bytes) in kernels {
        let (a, b) = (unrolled.steps / bytes, unrolled.sums / bytes);
        (aa, ab, bb) = (aa + a * a, ab + a * b, bb + b * b);
        (a1, b1) = (a1 + a, b1 + b);
    }
    let determinant = aa * bb - ab * ab;
    let (step, vector) = ((a1 * bb - b1 * ab) / determinant, (b1 * aa - a1 * ab) / determinant);
    let off = |step: f64, vector: f64| {
        let one = |(u, bytes): &(Unrolled, f64)| ((step * u.steps + vector * u.sums) / bytes - 1.0).abs();
        100.0 * kernels.iter().map(one).sum::<f64>() / kernels.len() as f64
    };
    println!(
        "{cpu:10} {} kernels: step {step:.1}, vector {vector:.1}, {:.0} % off; now {} and {}, {:.0} % off",
        kernels.len(),
        off(step, vector),
        code.step,
        code.vector,
        off(code.step, code.vector)
    );
}

/// Copies of one kernel are called in turn, more or fewer of them.
fn fetch() {
    let target = resolve("x86_64", "native").expect("an x86_64 host");
    let mut text = "kernel copy fused { readwrite x: f32[56]\n".to_string();
    (0..14).for_each(|r| text += &format!("%{r}: f32x4 = load x[{}]\n", 4 * r));
    (0..240).for_each(|i| text += &format!("%{0}: f32x4 = mla %{0}, %{0}, %{0}\n", i % 14));
    (0..14).for_each(|r| text += &format!("store x[{}] = %{r}\n", 4 * r));
    let kernel = parse(&(text + "}")).expect("a kernel");
    let code = codegen::encode(&kernel, &target).expect("a kernel that is encoded");
    let place = code.bytes.len().next_multiple_of(64);
    let mut data = [0f32; 56];
    let args = [data.as_mut_ptr()];
    let mut few = 0.0;
    for copies in COPIES {
        let mut map = memmap2::MmapMut::map_anon(copies * place).expect("memory for code");
        map.chunks_mut(place).for_each(|copy| copy[..code.bytes.len()].copy_from_slice(&code.bytes));
        let map = map.make_exec().expect("executable memory");
        let call = |copy: usize| {
            // SAFETY: the code is a kernel of one parameter, a buffer of its size.
            let run: extern "sysv64" fn(*const *mut f32) -> i32 =
                unsafe { std::mem::transmute(map.as_ptr().add(copy * place)) };
            std::hint::black_box(run(args.as_ptr()));
        };
        let calls = copies.max(256);
        let mut best = f64::INFINITY;
        for _ in 0..(200_000 / copies).clamp(10, 200) {
            let start = ticks();
            (0..calls).for_each(|i| call(i % copies));
            best = best.min((ticks() - start) as f64 / calls as f64);
        }
        few = if copies == 1 { best } else { few };
        let more = (best - few) / place as f64;
        println!("{:6} KB: {best:.0} cycles a call, {more:.3} a byte more", copies * place / 1024);
    }
}

fn ticks() -> u64 {
    // SAFETY: every x86_64 processor has the counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}
