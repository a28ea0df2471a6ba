//! The wide x86 encoder against the interpreter, with guard pages beside every buffer; goldens of its
//! machine code (`tests/golden/wide`).

mod across;
mod ahead;
mod alike;
mod execute;
mod longs;
mod once;
mod spread;
mod table;
mod together;

use crate::golden::check_folder;
use crate::machine::{Case, quantization};
use crate::nest::to_one_channel;
use execute::Side;
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter, Mnemonic};
use lmc::base::DType;
use lmc::codegen::wide::{encode, share, supports};
use lmc::error::Error;
use lmc::nest::nest;
use lmc::schedule::choose::choose;
use lmc::target::{Target, resolve};
use lmc::tile::random::{self, Vocabulary, differences, shrink};
use lmc::tile::{Bin, Dot, Kernel, RegType, Stmt, Value, interpret, parse, verify};

/// The targets this machine can run.
fn targets() -> Vec<Target> {
    let native = resolve("x86_64", "native").expect("a host");
    let all = ["x86-64-v3", "x86-64-v4", "znver4", "sapphirerapids"];
    let all = all.into_iter().map(|cpu| resolve("x86_64", cpu).expect("a known processor"));
    let (can, cannot): (Vec<Target>, Vec<Target>) =
        all.partition(|t| t.features.iter().all(|f| native.has(*f)));
    cannot.iter().for_each(|t| eprintln!("skipped: this machine cannot run {}", t.cpu));
    can
}

/// What is wrong with a kernel's code, if anything.
fn failure(kernel: &Kernel, target: &Target, seed: u64) -> Option<String> {
    match encode(kernel, target) {
        Ok(code) => wrong(kernel, &code.bytes, None, seed),
        Err(reason) => Some(reason),
    }
}

/// What code for a kernel does wrong, if anything; buffers at both ends of their pages, behind them the numbers
/// that it reads.
fn wrong(kernel: &Kernel, code: &[u8], numbers: Option<Vec<u8>>, seed: u64) -> Option<String> {
    let buffers = random::buffers(kernel, seed);
    let mut expected = buffers.clone();
    let want = interpret(kernel, &mut expected).expect("the kernel can be interpreted");
    [Side::Low, Side::High].iter().find_map(|&side| {
        let mut got = buffers.clone();
        got.extend(numbers.clone());
        let result = execute::run(code, &mut got, side);
        got.truncate(buffers.len());
        let wrong = (result != want).then(|| format!("returned {result}, not {want}"));
        wrong.or_else(|| differences(kernel, &expected, &got))
    })
}

fn check(kernel: &Kernel, target: &Target) {
    verify(kernel).unwrap_or_else(|e| panic!("{e}"));
    if let Some(reason) = failure(kernel, target, 1) {
        panic!("{} on {}: {reason}", kernel.name, target.cpu);
    }
}

/// Compares each store of some kernels alone, as far as the encoder takes what it stores.
pub fn stores_agree(name: &str, cases: &[Case], target: &Target) {
    let mut taken = Vec::new();
    for case in cases {
        let alone = stores(&case.kernel).into_iter().filter(|k| supports(k, target).is_ok());
        taken.extend(alone.map(|kernel| Case { kernel, inputs: case.inputs.clone() }));
    }
    if !taken.is_empty() {
        crate::machine::check(name, &taken, target, &|kernel| encode(kernel, target).map_err(Error::bug));
    }
}

/// One kernel per store of a straight kernel: the store, and what it needs.
fn stores(kernel: &Kernel) -> Vec<Kernel> {
    let text = kernel.to_string();
    let lines: Vec<&str> = text.lines().collect();
    let lines = &lines[lines.len() - 1 - kernel.body.len()..];
    let registers = |text: &str| -> Vec<String> {
        let names = text.split('%').skip(1);
        names.map(|t| t.chars().take_while(char::is_ascii_digit).collect()).collect()
    };
    let is_store = |i: &usize| matches!(kernel.body[*i], Stmt::Store { .. });
    let alone = |store: usize| {
        let mut needed = registers(lines[store]);
        let mut body = vec![kernel.body[store].clone()];
        for i in (0..store).rev().filter(|i| !is_store(i)) {
            let assigned = registers(lines[i]);
            if let Some(value) = lines[i].split_once('=').filter(|_| needed.contains(&assigned[0])) {
                needed.retain(|n| *n != assigned[0]);
                needed.extend(registers(value.1));
                body.insert(0, kernel.body[i].clone());
            }
        }
        Kernel { body, ..kernel.clone() }
    };
    let straight = kernel.vars.is_empty();
    (0..kernel.body.len()).filter(|i| straight && is_store(i)).map(alone).collect()
}

/// A register tile of a matrix product over packed operands: `c[m, n] += a[k, m] * b[k, n]`, with
/// `rows` rows and `vectors` vectors of `lanes` lanes.
fn gemm(rows: usize, vectors: usize, lanes: usize, depth: usize) -> Kernel {
    let (tile, width) = (rows * vectors, vectors * lanes);
    let mut text = format!(
        "kernel gemm fused {{ read a: f32[{}] read b: f32[{}] write c: f32[{}] vars k\n",
        rows * depth,
        width * depth,
        rows * width
    );
    (0..tile).for_each(|i| text += &format!("%{i}: f32x{lanes} = const 0.0\n"));
    text += &format!("for k in 0..{depth} {{\n");
    for v in 0..vectors {
        text += &format!("%{}: f32x{lanes} = load b[{width}*k + {}]\n", tile + v, v * lanes);
    }
    for r in 0..rows {
        let a = tile + vectors + r;
        text += &format!("%{a}: f32x{lanes} = load a[{rows}*k + {r}] stride 0\n");
        for v in 0..vectors {
            let acc = r * vectors + v;
            text += &format!("%{acc}: f32x{lanes} = mla %{acc}, %{a}, %{}\n", tile + v);
        }
    }
    text += "}\n";
    (0..tile).for_each(|i| text += &format!("store c[{}] = %{i}\n", lanes * i));
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn register_tiles() {
    for target in targets() {
        let lanes = target.lanes();
        let rows = if lanes == 16 { 14 } else { 6 };
        for rows in 1..=rows {
            (1..=2).for_each(|vectors| check(&gemm(rows, vectors, lanes, 5), &target));
        }
    }
}

/// The largest tiles keep every accumulator in a register, and a loop has nothing but its work: rows are broadcast by
/// the multiply-adds themselves where one of 512 bits begins each cycle, once for both vectors where two do.
#[test]
fn register_tiles_have_no_overhead() {
    let (twice, once) = (("skylake-avx512", 14, 28 + 14 + 2 + 4), ("x86-64-v4", 14, 28 + 2 + 4));
    for (cpu, rows, instructions) in [("x86-64-v3", 6, 12 + 6 + 2 + 4), once, twice] {
        let target = resolve("x86_64", cpu).expect("a known processor");
        let text = disassembly(&gemm(rows, 2, target.lanes(), 64), &target);
        let body: Vec<&str> = text.lines().skip_while(|l| !l.contains("[r")).collect();
        let first = body.iter().position(|l| l.contains("mm") && l.contains("[r")).expect("a load");
        let end = body.iter().position(|l| l.contains("jne")).expect("a loop");
        assert_eq!(end + 1 - first, instructions, "{text}");
        assert!(!text.contains("rsp"), "{text}");
    }
}

/// A register tile of couples: bytes are widened ahead to a copy, or as they are loaded.
fn couples(rows: usize, vectors: usize, lanes: usize, depth: usize) -> Kernel {
    let (tile, width, bytes) = (rows * vectors, vectors * lanes, 2 * lanes);
    let mut text = format!(
        "kernel couples fused {{ read a: u8[{}] read b: i8[{}] readwrite p: i32[{}] write c: i32[{}] vars r, k\n",
        rows * bytes,
        2 * width * depth,
        rows * lanes,
        rows * width
    );
    text += &format!("for r in 0..{rows} {{\n%0: i32x{lanes} = couples a[{bytes}*r]\n");
    text += &format!("store p[{lanes}*r] = %0\n}}\n");
    (1..=tile).for_each(|i| text += &format!("%{i}: i32x{lanes} = const 0\n"));
    text += &format!("for k in 0..{depth} {{\n");
    for v in 0..vectors {
        let b = tile + 1 + v;
        text += &format!("%{b}: i32x{lanes} = couples b[{}*k + {}]\n", 2 * width, v * bytes);
    }
    for r in 0..rows {
        let a = tile + vectors + 1 + r;
        text += &format!("%{a}: i32x{lanes} = load p[k + {}] stride 0\n", r * lanes);
        for v in 0..vectors {
            let acc = r * vectors + v + 1;
            text += &format!("%{acc}: i32x{lanes} = dot_couples %{acc}, %{a}, %{}\n", tile + 1 + v);
        }
    }
    text += "}\n";
    (0..tile).for_each(|i| text += &format!("store c[{}] = %{}\n", lanes * i, i + 1));
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

/// Each couple of a vector is a widening load for all rows, each row two instructions, in registers; one where
/// it adds the products too.
#[test]
fn tiles_of_couples() {
    for target in targets() {
        let (dot, rows) = match &*target.cpu {
            "x86-64-v3" => ("vpmaddwd", 6),
            "x86-64-v4" => ("vpmaddwd", 14),
            _ => ("vpdpwssd", 14),
        };
        let lanes = target.lanes();
        (1..=rows)
            .for_each(|rows| (1..=2).for_each(|vectors| check(&couples(rows, vectors, lanes, 5), &target)));
        let text = disassembly(&couples(rows, 2, lanes, 8), &target);
        assert_eq!(text.matches(dot).count(), 2 * rows, "{text}");
        assert_eq!(text.matches("vpaddd").count(), if dot == "vpdpwssd" { 0 } else { 2 * rows }, "{text}");
        assert_eq!(text.matches("vpmovsxbw").count(), 2, "{text}");
        assert!(!text.contains("rsp"), "{text}");
    }
}

/// A vector of bytes or words is one or two instructions after its conversion, but for the sign of those
/// that AVX-512 narrows by unsigned saturation.
#[test]
fn words_over_lanes() {
    for (target, types) in targets().iter().flat_map(|t| [(t, DType::U8), (t, DType::I8)]) {
        let linear = to_one_channel(36, [types, DType::I8]);
        let kernel = nest(&linear, &choose(&linear, target), target.fma, 1).expect("a kernel").kernel;
        check(&kernel, target);
    }
}

#[test]
fn quantization_narrows_and_clamps_at_once() {
    for target in targets() {
        let kernel = quantization(target.lanes());
        check(&kernel, &target);
        let text = disassembly(&kernel, &target);
        assert!(text.contains("cvtps2dq") && !text.contains("vpminsd"), "{text}");
        assert_eq!(text.contains("vpmovusdb"), target.lanes() == 16, "{text}");
    }
}

/// Polynomials of four vectors at a time, in loops one after the other, with the same coefficients:
/// more of these than there are registers.
fn polynomials(loops: usize, coefficients: usize, lanes: usize) -> Kernel {
    let elems = 64 * lanes;
    let mut text = format!(
        "kernel polynomials {{ read x: f32[{elems}] write y: f32[{}] vars {}\n",
        elems * loops,
        (0..loops).map(|l| format!("i{l}")).collect::<Vec<_>>().join(", ")
    );
    let mut next = 0;
    let mut value = |text: &mut String, what: &str| {
        *text += &format!("%{next}: f32x{lanes} = {what}\n");
        next += 1;
        next - 1
    };
    for l in 0..loops {
        text += &format!("for i{l} in 0..{elems} step {} {{\n", 4 * lanes);
        let x: Vec<usize> =
            (0..4).map(|v| value(&mut text, &format!("load x[i{l} + {}]", v * lanes))).collect();
        let mut sums = x.clone();
        for c in 0..coefficients {
            let c = value(&mut text, &format!("const {}.5", c + 1));
            for (sum, x) in sums.iter_mut().zip(&x) {
                let product = value(&mut text, &format!("mul %{sum}, %{x}"));
                *sum = value(&mut text, &format!("add %{product}, %{c}"));
            }
        }
        for (v, sum) in sums.iter().enumerate() {
            text += &format!("store y[i{l} + {}] = %{sum}\n", l * elems + v * lanes);
        }
        text += "}\n";
    }
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

/// A constant is read from memory by the instruction that needs it; a value would be stored first.
#[test]
fn constants_of_all_loops_leave_registers_before_values_of_one() {
    for cpu in ["x86-64-v3", "x86-64-v4"] {
        let target = resolve("x86_64", cpu).expect("a known processor");
        let kernel = polynomials(3, 26, target.lanes());
        if targets().iter().any(|t| t.cpu == cpu) {
            check(&kernel, &target);
        }
        let text = disassembly(&kernel, &target);
        assert!(!text.contains("[rsp"), "{text}");
    }
}

/// The instructions up to the return.
fn disassembly(kernel: &Kernel, target: &Target) -> String {
    let code = encode(kernel, target).unwrap_or_else(|e| panic!("{e}"));
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    for instruction in &mut Decoder::new(64, &code.bytes, DecoderOptions::NONE) {
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        text.push_str(&format!("{:4x}  {line}\n", instruction.ip()));
        if instruction.mnemonic() == Mnemonic::Ret {
            break;
        }
    }
    text
}

/// The machine code of a kernel for the processor named in the first line, `// cpu`.
#[test]
fn machine_code() {
    check_folder("wide", |text| {
        let cpu = text.lines().next().and_then(|l| l.strip_prefix("// ")).expect("a processor");
        let target = resolve("x86_64", cpu).expect("a known processor");
        let kernel = parse(text).unwrap_or_else(|e| panic!("{e}"));
        verify(&kernel).unwrap_or_else(|e| panic!("{e}"));
        if targets().iter().any(|t| t.cpu == cpu) {
            check(&kernel, &target);
        }
        disassembly(&kernel, &target)
    });
}

/// Lanes of two vectors are computed one by one.
fn taken_of_two(ty: RegType, value: &Value) -> bool {
    let across =
        matches!(value, Value::Reduce(..) | Value::Broadcast(..) | Value::Lookup(..) | Value::Dot(..));
    taken(ty, value) && !across && !matches!(value, Value::LoadWords(..) | Value::LoadCouples(_))
}

/// Random kernels with half floats as such, beside lanes of 32 bits that take two vectors.
#[test]
fn random_kernels_of_half_floats() {
    let count = std::env::var("LMC_RANDOM_KERNELS").ok().and_then(|n| n.parse().ok());
    for target in targets().iter().filter(|t| t.multiplies_halves()) {
        let words = Vocabulary { accept: &taken_of_two, half_lanes: true, ..Vocabulary::vectors(32) };
        for seed in 0..count.unwrap_or(100) {
            let kernel = random::kernel(seed, &words);
            supports(&kernel, target).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            agrees(&kernel, target, seed);
        }
    }
}

/// Integer division, fixed-point factors and products of rows by columns are left to others.
fn taken(_: RegType, value: &Value) -> bool {
    let divides = |op: &Bin| matches!(op, Bin::DivS | Bin::DivU | Bin::RemS | Bin::RemU);
    let fixed = |op: &Bin| matches!(op, Bin::MulHigh | Bin::ShrRound);
    match value {
        Value::Bin(op, ..) => !divides(op) && !fixed(op),
        Value::Dot(Dot::Squares(_) | Dot::HalfPairs | Dot::CoupleHalves, ..) | Value::Pairs(_) => false,
        _ => true,
    }
}

/// Random kernels of vectors, all of which are taken; `LMC_RANDOM_KERNELS` says how many.
#[test]
fn random_kernels() {
    let count = std::env::var("LMC_RANDOM_KERNELS").ok().and_then(|n| n.parse().ok());
    for target in targets() {
        let words = Vocabulary { accept: &taken, ..Vocabulary::vectors(target.lanes() as u8) };
        for seed in 0..count.unwrap_or(100) {
            let kernel = random::kernel(seed, &words);
            supports(&kernel, &target).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            agrees(&kernel, &target, seed);
        }
    }
}

/// Random kernels with branches, endless loops, errors, computed addresses and 64-bit lanes, as far as
/// they are taken.
#[test]
fn random_kernels_with_control_flow() {
    let count = std::env::var("LMC_RANDOM_KERNELS").ok().and_then(|n| n.parse().ok());
    for target in targets() {
        let words = Vocabulary { accept: &taken, ..Vocabulary::scalars() };
        let kernels = (0..2 * count.unwrap_or(100)).map(|seed| (seed, random::kernel(seed, &words)));
        let kernels: Vec<_> = kernels.filter(|(_, k)| supports(k, &target).is_ok()).collect();
        assert!(!kernels.is_empty());
        kernels.iter().for_each(|(seed, kernel)| agrees(kernel, &target, *seed));
    }
}

/// Fails with a small kernel where the code and the interpreter differ.
fn agrees(kernel: &Kernel, target: &Target, seed: u64) {
    if let Some(reason) = failure(kernel, target, seed) {
        let small = shrink(kernel, &|k| failure(k, target, seed).is_some());
        let smaller = failure(&small, target, seed);
        panic!("seed {seed} on {}: {reason}; shrunk: {smaller:?}\n{small}", target.cpu);
    }
}

/// The kernel with other distances and numbers of iterations, where that stays inside its buffers.
fn with_other_numbers(kernel: &Kernel, seed: u64) -> Kernel {
    fn change(body: &mut [Stmt], next: &mut impl FnMut(u64) -> i64) {
        for stmt in body {
            match stmt {
                Stmt::Let(_, Value::Load(addr, _) | Value::LoadWords(addr, _) | Value::LoadCouples(addr))
                | Stmt::Store { addr, .. } => addr.index.base += next(40),
                Stmt::For { hi, step, body, .. } => {
                    if let [bound] = &mut hi.0[..] {
                        bound.base += if bound.is_constant() { *step * next(3) } else { 0 };
                    }
                    change(body, next);
                }
                Stmt::If { then, otherwise, .. } => {
                    change(then, next);
                    change(otherwise, next);
                }
                Stmt::Loop { body } | Stmt::Size { body, .. } => change(body, next),
                Stmt::Let(..) | Stmt::Break { .. } | Stmt::Fail { .. } => {}
            }
        }
    }
    let mut state = seed;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) % below) as i64
    };
    let mut other = kernel.clone();
    other.params.iter_mut().for_each(|p| p.elems += 400);
    change(&mut other.body, &mut next);
    match verify(&other) {
        Ok(()) => other,
        Err(_) => kernel.clone(),
    }
}

/// Kernels that differ in numbers alone are one function, which does for each what its own would.
#[test]
fn kernels_that_differ_in_numbers_are_one_function() {
    for target in targets() {
        let lanes = target.lanes() as u8;
        let mut kernels: Vec<Kernel> = Vec::new();
        for seed in 0..40 {
            let first = random::kernel(seed, &Vocabulary::vectors(lanes));
            kernels.extend((1..4).map(|variant| with_other_numbers(&first, 8 * seed + variant)));
            kernels.push(first);
        }
        kernels.extend([3, 5, 40].map(|depth| gemm(4, 2, lanes as usize, depth)));
        kernels.extend((1..4).map(|variant| with_other_numbers(&gemm(5, 2, lanes as usize, 6), variant)));
        kernels.retain(|k| supports(k, &target).is_ok());
        let own: Vec<_> = kernels.iter().map(|k| encode(k, &target).expect("taken")).collect();
        let shared = share(&kernels, &own, &target);
        let bytes: usize = shared.iter().map(|s| s.code.bytes.len()).sum();
        let members = || shared.iter().flat_map(|s| s.members.iter().map(move |m| (s, m)));
        let separate: usize = members().map(|(_, m)| own[m.0].bytes.len()).sum();
        let reading = shared.iter().filter(|s| s.members[0].1.len() > 2).count();
        assert!(reading > 10 && bytes < separate / 2, "{}: {reading}, {bytes} for {separate}", target.cpu);
        for (shared, (kernel, numbers)) in members() {
            let kernel = &kernels[*kernel];
            let table: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            if let Some(reason) = wrong(kernel, &shared.code.bytes, Some(table), 1) {
                panic!("{} on {}: {reason}\n{kernel}", kernel.name, target.cpu);
            }
        }
    }
}
