//! The Cranelift encoder against the interpreter, on every level of both architectures.

use crate::machine::{Case, check, count, quantization};
use lmc::base::DType;
use lmc::codegen::cranelift::encode;
use lmc::target::{Target, resolve};
use lmc::tile::{Kernel, Param, parse, verify};

/// The levels of x86_64 that this machine can execute.
fn host_targets() -> Vec<Target> {
    let native = resolve("x86_64", "native").expect("a host");
    let levels = ["generic", "x86-64-v2", "x86-64-v3", "x86-64-v4", "znver4,vector=128"];
    let all = levels.into_iter().map(|cpu| resolve("x86_64", cpu).expect("a known processor"));
    all.filter(|t| t.features.iter().all(|f| native.has(*f))).collect()
}

/// Levels of aarch64, each of which the emulator runs on a processor that has no more.
fn foreign_targets() -> Vec<Target> {
    ["cortex-a53", "neoverse-n1", "neoverse-n2"].map(|cpu| resolve("aarch64", cpu).expect("known")).into()
}

/// Runs kernels everywhere. Kernels that fuse are left out where the target cannot.
fn everywhere(name: &str, kernels: &[Kernel], fill: impl Fn(usize, &Param) -> Vec<u8>) {
    for target in host_targets().into_iter().chain(foreign_targets()) {
        let fits = kernels.iter().filter(|k| target.fma || !k.fused);
        let cases: Vec<Case> = fits.map(|k| Case::new(k.clone(), &fill)).collect();
        check(name, &cases, &target, &|kernel| encode(kernel, &target));
        if target.arch == lmc::target::Arch::X86_64 {
            crate::wide::stores_agree(name, &cases, &target);
        } else {
            crate::neon::check_supported(&format!("cranelift_neon_{name}"), &cases, &target);
        }
    }
}

/// Small integers of both signs, exact in every type.
fn small(number: usize, param: &Param) -> Vec<u8> {
    let element = |i: usize| {
        let value = ((i * 7 + number * 3) % 13) as f64 - 6.0;
        let value = if param.dtype.is_float() { value * 0.5 } else { value };
        lmc::scalar::Scalar::from_f64(param.dtype, value).bits.to_le_bytes()
    };
    (0..param.elems).flat_map(|i| element(i)[..param.dtype.size()].to_vec()).collect()
}

/// The kernels of the interpreter's goldens, but those that end with an error code.
#[test]
fn golden_kernels() {
    let folder = crate::support::repository().join("tests/golden/tile_run");
    let mut kernels = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a text");
        let (kernel, result) = text.split_once("----").expect("a golden");
        if result.contains("returns 0") {
            kernels.push(parse(kernel).expect("a kernel"));
        }
    }
    assert!(kernels.len() >= 3);
    everywhere("cranelift_golden", &kernels, small);
}

const WIDTHS: &[usize] = &[1, 2, 3, 4, 5, 7, 8, 13, 16];

/// A small generator of numbers (xorshift).
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Corner values of a type and random ones; no negative zero, since which of two equal zeros is the
/// smaller is not specified.
fn corners(number: usize, param: &Param) -> Vec<u8> {
    let mut next = random(number as u64 + 11);
    let size = param.dtype.size();
    let element = |_| {
        let (pick, bits) = (next() % 24, next());
        let float = match pick {
            0 => 0.0,
            1 => 0.5,
            2 => -0.5,
            3 => 2.5,
            4 => -1.5,
            5 => f64::INFINITY,
            6 => f64::NEG_INFINITY,
            7 => f64::NAN,
            8 => 2147483647.0,
            9 => -2147483649.0,
            10 => 4294967296.5,
            11 => 9.3e18,
            12 => -9.3e18,
            13 => 8388609.5,
            14 => 65519.9,
            15 => 6e-8,
            16 => 1e-40,
            _ => (bits as i64 >> (bits % 60)) as f64 / 64.0,
        };
        let int = match pick {
            0 | 1 => 0,
            2 => -1,
            3 => i64::MIN,
            4 => i64::MAX,
            5 => i64::from(i32::MIN),
            6 => i64::from(i32::MAX),
            7 => 1,
            8 => 2,
            _ => bits as i64 >> (bits % 60),
        };
        let bits = match param.dtype {
            DType::F32 => u64::from((float as f32).to_bits()),
            DType::F64 => float.to_bits(),
            DType::I32 if pick == 3 => u64::from(i32::MIN as u32),
            _ if param.dtype.is_float() => bits,
            _ => int as u64,
        };
        // Zeros are positive.
        let zero = param.dtype.is_float() && bits.trailing_zeros() >= 8 * size as u32 - 1;
        (if zero { 0 } else { bits }).to_le_bytes()[..size].to_vec()
    };
    (0..param.elems).flat_map(element).collect()
}

/// A kernel that applies each of some operations to the same registers. `ops` are values whose
/// operands are `%0`, `%1`, `%2` of type `from` (parameters `a`, `b`, `c`); the results are of type
/// `to`. Operations that the verifier refuses for the type are left out.
fn apply(name: &str, from: &str, to: &str, lanes: usize, ops: &[String]) -> Option<Kernel> {
    let typed = |ty: &str| if lanes == 1 { ty.to_string() } else { format!("{ty}x{lanes}") };
    let build = |ops: &[&String]| {
        let mut text = format!("kernel {name} {{\n");
        for param in ["a", "b", "c"] {
            text += &format!("read {param}: {from}[{lanes}]\n");
        }
        text += &format!("write y: {to}[{}]\n", lanes * ops.len());
        for (i, param) in ["a", "b", "c"].iter().enumerate() {
            text += &format!("%{i}: {} = load {param}[0]\n", typed(from));
        }
        for (i, op) in ops.iter().enumerate() {
            text += &format!("%3: {} = {op}\nstore y[{}] = %3\n", typed(to), i * lanes);
        }
        parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
    };
    let valid: Vec<&String> = ops.iter().filter(|op| verify(&build(&[op])).is_ok()).collect();
    (!valid.is_empty()).then(|| build(&valid))
}

fn texts(ops: &[&str]) -> Vec<String> {
    ops.iter().map(|op| op.to_string()).collect()
}

#[test]
fn arithmetic() {
    let mut ops = Vec::new();
    for op in ["neg", "abs", "sqrt", "floor", "ceil", "trunc", "round", "not"] {
        ops.push(format!("{op} %0"));
    }
    let binary = "add sub mul div div_s div_u rem_s rem_u min max min_nan max_nan min_u max_u and or xor shl \
                  shr_s shr_u";
    for op in binary.split(' ') {
        ops.push(format!("{op} %0, %1"));
    }
    ops.extend(texts(&["mla %0, %1, %2", "sext_low 5, %0", "zext_low 9, %0", "sext_low 32, %0", "%0"]));
    let mut kernels = Vec::new();
    for lane in ["f32", "f64", "i32", "i64"] {
        let widths = WIDTHS.iter().filter(|w| **w <= 8 || lane.ends_with("32"));
        kernels.extend(widths.filter_map(|&w| apply(&format!("{lane}x{w}"), lane, lane, w, &ops)));
    }
    everywhere("cranelift_arithmetic", &kernels, corners);
}

/// Shifts by counts within and past the width, known and unknown at compile time.
#[test]
fn shifts() {
    let mut kernels = Vec::new();
    for (lane, width) in [("i32", 32), ("i64", 64)] {
        for lanes in [1, 3, 4, 8] {
            let ty = if lanes == 1 { lane.to_string() } else { format!("{lane}x{lanes}") };
            let mut text = format!(
                "kernel shift_{lane}_{lanes} {{ read a: {lane}[{lanes}] read c: u8[{lanes}] write y: {lane}[{}]\n",
                12 * 3 * lanes
            );
            text += &format!("%0: {ty} = load a[0]\n");
            let counts = [0, 1, 7, 8, 16, 31, 32, 33, 63, 64, 65];
            let mut at = 0;
            for (i, count) in counts.iter().enumerate() {
                let reg = 4 + i;
                text += &format!("%{reg}: {ty} = const {count}\n");
                for op in ["shl", "shr_s", "shr_u"] {
                    text += &format!("%1: {ty} = {op} %0, %{reg}\nstore y[{at}] = %1\n");
                    at += lanes;
                }
            }
            let narrow = ty.replace("i64", "i32");
            text += &format!("%2: {narrow} = load c[0]\n");
            text += &match width {
                32 => format!("%3: {ty} = %2\n"),
                _ => format!("%3: {ty} = int %2\n"),
            };
            for op in ["shl", "shr_s", "shr_u"] {
                text += &format!("%1: {ty} = {op} %0, %3\nstore y[{at}] = %1\n");
                at += lanes;
            }
            kernels.push(parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}")));
        }
    }
    let fill = |number: usize, param: &Param| match param.dtype {
        DType::U8 => (0..param.elems).map(|i| [3, 40, 31, 65, 0, 12, 32, 99][(i + number) % 8]).collect(),
        _ => corners(number, param),
    };
    everywhere("cranelift_shifts", &kernels, fill);
}

#[test]
fn comparisons_and_masks() {
    let mut kernels = Vec::new();
    for lane in ["f32", "f64", "i32", "i64"] {
        let mask = if lane.ends_with("32") { "m32" } else { "m64" };
        for &lanes in WIDTHS.iter().filter(|w| **w <= 8) {
            let suffix = if lanes == 1 { String::new() } else { format!("x{lanes}") };
            let mut at = 0;
            let mut text = String::new();
            for op in ["eq", "ne", "lt", "le", "gt", "ge", "lt_u", "le_u"] {
                if lane.starts_with('f') && op.ends_with("_u") {
                    continue;
                }
                text += &format!("%3: {mask}{suffix} = {op} %0, %1\n%4: {mask}{suffix} = eq %1, %2\n");
                for value in ["and %3, %4", "or %3, %4", "xor %3, %4", "not %3", "%3", "const true"] {
                    text +=
                        &format!("%5: {mask}{suffix} = {value}\n%6: {lane}{suffix} = select %5, %0, %1\n");
                    text += &format!("store y[{at}] = %6\n");
                    at += lanes;
                }
                let other = if mask == "m32" { "m64" } else { "m32" };
                text += &format!("%11: {other}{suffix} = int %3\n%12: {mask}{suffix} = int %11\n");
                text += &format!("%6: {lane}{suffix} = select %12, %2, %1\nstore y[{at}] = %6\n");
                at += lanes;
                for fold in ["and", "or"] {
                    text += &format!("%7: {mask} = reduce {fold} %3\n%8: {mask}{suffix} = splat %7\n");
                    text += &format!("%9: {mask}{suffix} = broadcast %3[{}]\n", lanes - 1);
                    text += &format!(
                        "%10: {mask}{suffix} = xor %8, %9\n%6: {lane}{suffix} = select %10, %0, %1\n"
                    );
                    text += &format!("store y[{at}] = %6\n");
                    at += lanes;
                }
            }
            let head = format!(
                "kernel compare_{lane}_{lanes} {{ read a: {lane}[{lanes}] read b: {lane}[{lanes}] \
                 read c: {lane}[{lanes}] write y: {lane}[{at}]\n%0: {lane}{suffix} = load a[0]\n\
                 %1: {lane}{suffix} = load b[0]\n%2: {lane}{suffix} = load c[0]\n"
            );
            kernels.push(parse(&(head + &text + "}")).unwrap_or_else(|e| panic!("{e}")));
        }
    }
    let equal_often = |number: usize, param: &Param| {
        let (a, b) = (corners(number, param), corners(1, param));
        let size = param.dtype.size();
        let chosen = a.chunks(size).zip(b.chunks(size)).enumerate();
        chosen.flat_map(|(i, (a, b))| if i % 3 == 0 { b } else { a }.to_vec()).collect()
    };
    everywhere("cranelift_compare", &kernels, equal_often);
}

#[test]
fn conversions() {
    let kinds = [
        "float_to_int",
        "float_to_uint",
        "int_to_float",
        "uint_to_float",
        "float",
        "int",
        "zext",
        "bits",
        "round_f16",
        "round_bf16",
    ];
    let ops: Vec<String> = kinds.iter().map(|kind| format!("{kind} %0")).collect();
    let mut kernels = Vec::new();
    for from in ["f32", "f64", "i32", "i64"] {
        for to in ["f32", "f64", "i32", "i64"] {
            for &lanes in WIDTHS.iter().filter(|w| **w <= 8) {
                kernels.extend(apply(&format!("{from}_to_{to}_{lanes}"), from, to, lanes, &ops));
            }
        }
    }
    everywhere("cranelift_conversions", &kernels, corners);
}

#[test]
fn lanes_meet() {
    let mut kernels = Vec::new();
    for lane in ["f32", "f64", "i32", "i64"] {
        for &lanes in WIDTHS.iter().filter(|w| **w > 1 && (**w <= 8 || lane.ends_with("32"))) {
            let mut text = format!("%0: {lane}x{lanes} = load x[0]\n");
            let mut at = 0;
            let folds = ["sum", "prod", "max", "min", "and", "or"];
            for fold in folds.iter().filter(|f| !lane.starts_with('f') || !matches!(**f, "and" | "or")) {
                text += &format!("%1: {lane} = reduce {fold} %0\nstore y[{at}] = %1\n");
                at += 1;
            }
            for value in [format!("broadcast %0[{}]", lanes - 1), "broadcast %0[0]".into(), "splat %1".into()]
            {
                text += &format!("%2: {lane}x{lanes} = {value}\nstore y[{at}] = %2\n");
                at += lanes;
            }
            let head =
                format!("kernel lanes_{lane}_{lanes} {{ read x: {lane}[{lanes}] write y: {lane}[{at}]\n");
            kernels.push(parse(&(head + &text + "}")).unwrap_or_else(|e| panic!("{e}")));
        }
    }
    everywhere("cranelift_lanes", &kernels, small);
}

/// Loads and stores of every memory type, contiguous, repeated, strided and backwards, from whole
/// and partial vectors, at places that are aligned to nothing but the element.
#[test]
fn memory() {
    let mut kernels = Vec::new();
    for dtype in DType::all() {
        let lane = match lmc::tile::Lane::of(dtype).dtype() {
            Some(lane) => lane.name(),
            None => continue,
        };
        for &lanes in WIDTHS.iter().filter(|w| **w <= 8 || dtype.size() <= 4) {
            let ty = if lanes == 1 { lane.to_string() } else { format!("{lane}x{lanes}") };
            let (mut text, mut at) = (String::new(), 0);
            let strides = [(1, 3), (0, 2), (3, 1), (-1, lanes as i64), (2, 0)];
            for (stride, first) in strides {
                let wide = 3 * lanes;
                text += &format!("%0: {ty} = load x[{first}] stride {stride}\n");
                text += &format!("store y[{}] = %0\n", at + 1);
                text += &format!("store y[{}] stride 2 = %0\n", at + lanes + 2);
                at += lanes + 2 + wide;
            }
            let head = format!(
                "kernel memory_{dtype}_{lanes} {{ read x: {dtype}[{}] write y: {dtype}[{at}]\n",
                3 * lanes + 3
            );
            kernels.push(parse(&(head + &text + "}")).unwrap_or_else(|e| panic!("{e}")));
        }
    }
    for lanes in [1, 2, 3, 4, 6, 16] {
        let ty = if lanes == 1 { "i32".to_string() } else { format!("i32x{lanes}") };
        let mut text =
            format!("kernel words_{lanes} {{ read x: u8[{}] write y: i32[{}]\n", 8 * lanes, 3 * lanes);
        for (i, (stride, first)) in [(1, 3), (0, 1), (2, 0)].into_iter().enumerate() {
            text += &format!("%0: {ty} = words x[{first}] stride {stride}\nstore y[{}] = %0\n", i * lanes);
        }
        kernels.push(parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}")));
    }
    everywhere("cranelift_memory", &kernels, bytes);
}

/// Random bytes.
fn bytes(number: usize, param: &Param) -> Vec<u8> {
    let mut next = random(number as u64 + 5);
    (0..param.elems * param.dtype.size()).map(|_| next() as u8).collect()
}

#[test]
fn dots() {
    let ops = [
        "dot_us %0, %1, %2",
        "dot_ss %0, %1, %2",
        "dot_uu %0, %1, %2",
        "dot_halves %0, %1, %2",
        "dot_half_pairs %0, %1, %2",
    ];
    let of = |lanes: &usize| texts(if lanes.is_multiple_of(8) { &ops } else { &ops[..3] });
    let kernels: Vec<Kernel> =
        WIDTHS.iter().filter_map(|w| apply(&format!("dot_{w}"), "i32", "i32", *w, &of(w))).collect();
    assert_eq!(kernels.len(), WIDTHS.len());
    let extremes = |number: usize, param: &Param| {
        let mut next = random(number as u64 + 3);
        let byte = |_| [0, 0x80, 0xff, 0x7f, next() as u8][(next() % 5) as usize];
        (0..param.elems * 4).map(byte).collect()
    };
    everywhere("cranelift_dots", &kernels, extremes);
}

/// A register tile of a matrix multiplication: `rows` rows of A (packed, `rows` per step) times
/// `columns` vectors of B. By element on aarch64, from repeated loads on x86_64.
fn gemm(rows: usize, columns: usize, depth: usize, by_element: bool, unroll: usize) -> Kernel {
    let width = 4 * columns;
    let mut text = format!(
        "kernel gemm fused {{ read a: f32[{}] read b: f32[{}] write c: f32[{}] vars k\n",
        rows * depth,
        width * depth,
        rows * width
    );
    let acc = |r: usize, c: usize| r * columns + c;
    let (a, b) = (rows * columns, rows * columns + rows);
    for i in 0..rows * columns {
        text += &format!("%{i}: f32x4 = const 0.0\n");
    }
    text += &format!("for k in 0..{depth} step {unroll} {{\n");
    for u in 0..unroll {
        for c in 0..columns {
            text += &format!("%{}: f32x4 = load b[{width}*k + {}]\n", b + c, u * width + 4 * c);
        }
        for r in 0..rows {
            if by_element && r % 4 == 0 {
                text += &format!("%{}: f32x4 = load a[{rows}*k + {}]\n", b + columns + r / 4, u * rows + r);
            }
            text += &match by_element {
                true => format!("%{}: f32x4 = broadcast %{}[{}]\n", a + r, b + columns + r / 4, r % 4),
                false => format!("%{}: f32x4 = load a[{rows}*k + {}] stride 0\n", a + r, u * rows + r),
            };
            for c in 0..columns {
                text += &format!("%{i}: f32x4 = mla %{i}, %{}, %{}\n", a + r, b + c, i = acc(r, c));
            }
        }
    }
    text += "}\n";
    for i in 0..rows * columns {
        text += &format!("store c[{}] = %{i}\n", 4 * i);
    }
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

fn disassemble(name: &str, kernel: &Kernel, target: &Target) -> String {
    crate::machine::disassemble(name, kernel, target, &|kernel| encode(kernel, target))
}

/// Brittle patterns of Cranelift: a new version that loses one is slower, not wrong.
#[test]
fn matrix_tiles_keep_the_multiply_add_units_busy() {
    let zen = resolve("x86_64", "znver4,vector=128").expect("known");
    let tile = gemm(8, 1, 64, false, 4);
    let text = disassemble("cranelift_gemm_x86", &tile, &zen);
    assert_eq!(count(&text, "vfmadd"), 32, "{text}");
    assert_eq!(count(&text, "(%rsp)"), 0, "no spills: {text}");
    everywhere("cranelift_gemm", &[tile], small);
}

#[test]
fn dot_products_use_the_instruction() {
    let kernel = apply("dot", "i32", "i32", 4, &texts(&["dot_ss %0, %1, %2"])).expect("valid");
    let n1 = resolve("aarch64", "neoverse-n1").expect("known");
    assert_eq!(count(&disassemble("cranelift_sdot", &kernel, &n1), "sdot"), 1);
    let kernel = apply("dot", "i32", "i32", 4, &texts(&["dot_us %0, %1, %2"])).expect("valid");
    let n2 = resolve("aarch64", "neoverse-n2").expect("known");
    assert_eq!(count(&disassemble("cranelift_usdot", &kernel, &n2), "usdot"), 1);
    let ice = resolve("x86_64", "icelake-server").expect("known");
    assert_eq!(count(&disassemble("cranelift_vnni", &kernel, &ice), "vpdpbusd"), 1);
}

/// Random kernels: loops, addresses, control flow. Which of two equal zeros is the smaller is not
/// specified, and aarch64 decides differently.
#[test]
fn random_kernels() {
    use lmc::scalar::Fold;
    use lmc::tile::random::{Vocabulary, buffers, kernel};
    use lmc::tile::{Bin, Lane, RegType, Value};
    let no_extremes = |ty: RegType, value: &Value| {
        let extreme = match value {
            Value::Bin(op, ..) => matches!(op, Bin::Min | Bin::Max | Bin::MinNan | Bin::MaxNan),
            Value::Reduce(fold, _) => matches!(fold, Fold::Min | Fold::Max),
            _ => false,
        };
        !extreme || !matches!(ty.lane, Lane::F32 | Lane::F64)
    };
    for (number, target) in host_targets().into_iter().chain(foreign_targets()).enumerate() {
        let host = target.arch == lmc::target::Arch::X86_64;
        let mut cases = Vec::new();
        for seed in 0..50u64 {
            let seed = 1000 * number as u64 + seed;
            for vocabulary in [Vocabulary::vectors(4), Vocabulary::vectors(16), Vocabulary::scalars()] {
                let accept: &dyn Fn(RegType, &Value) -> bool = if host { &|_, _| true } else { &no_extremes };
                let mut kernel = kernel(seed, &Vocabulary { accept, ..vocabulary });
                kernel.fused &= target.fma;
                let mut given = buffers(&kernel, seed);
                cases.push(Case::new(kernel, |i, _| std::mem::take(&mut given[i])));
            }
        }
        check("cranelift_random", &cases, &target, &|kernel| encode(kernel, &target));
    }
}

#[test]
fn quantization_of_integers() {
    everywhere("quantize", &[quantization(4)], bytes);
}
