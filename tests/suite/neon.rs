//! The aarch64 encoder against the interpreter, under emulation, on processors that have no more
//! than the target.

use crate::machine::{Case, check, count, disassemble};
use lmc::codegen::neon::{encode, supports};
use lmc::error::Error;
use lmc::target::{Target, resolve};
use lmc::tile::random::{self, Vocabulary};
use lmc::tile::{Access, Kernel, Lane, RegType, Value, parse};

/// Without dot products, with those of equal signs, with those of unequal signs.
pub fn targets() -> Vec<Target> {
    ["cortex-a53", "neoverse-n1", "neoverse-n2"].map(|cpu| resolve("aarch64", cpu).expect("known")).into()
}

/// Runs the kernels of some cases that the encoder takes; gives how many.
pub fn check_supported(name: &str, cases: &[Case], target: &Target) -> usize {
    let taken: Vec<Case> = cases.iter().filter(|c| supports(&c.kernel, target).is_ok()).cloned().collect();
    if !taken.is_empty() {
        check(name, &taken, target, &|kernel| encode(kernel, target).map_err(Error::bug));
    }
    taken.len()
}

fn case(kernel: Kernel, seed: u64) -> Case {
    let buffers = random::buffers(&kernel, seed);
    let read = kernel.params.iter().zip(buffers).filter(|(p, _)| p.access == Access::Read);
    let inputs = read.map(|(_, buffer)| buffer).collect();
    Case { kernel, inputs }
}

/// Integer division is left to others; which of two equal zeros is the smaller is not specified.
fn taken(ty: RegType, value: &Value) -> bool {
    use lmc::scalar::Fold;
    use lmc::tile::Bin::*;
    let float = ty.lane == Lane::F32;
    !match value {
        Value::Bin(DivS | DivU | RemS | RemU, ..) => true,
        Value::Bin(Min | Max | MinNan | MaxNan, ..) | Value::Reduce(Fold::Min | Fold::Max, _) => float,
        _ => false,
    }
}

/// Random kernels; `LMC_RANDOM_KERNELS` says how many.
#[test]
fn random_kernels() {
    let count = std::env::var("LMC_RANDOM_KERNELS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    for target in targets() {
        for lanes in [4, 16] {
            let words = Vocabulary { accept: &taken, ..Vocabulary::vectors(lanes) };
            let cases: Vec<Case> = (0..count).map(|seed| case(random::kernel(seed, &words), seed)).collect();
            let run = check_supported(&format!("neon_random_{lanes}"), &cases, &target);
            assert!(run * 10 >= cases.len() * 9, "only {run} of {} are taken", cases.len());
        }
    }
}

/// A tile of a matrix product over packed operands, the rows' factor by lane.
fn tile(rows: usize, columns: usize, depth: usize) -> Kernel {
    let (tile, width) = (rows * columns, 4 * columns);
    let (b, a) = (tile, tile + columns);
    let mut text = format!(
        "kernel gemm fused {{ read a: f32[{}] read b: f32[{}] write c: f32[{}] vars k\n",
        rows * depth,
        width * depth,
        rows * width
    );
    (0..tile).for_each(|i| text += &format!("%{i}: f32x4 = const 0.0\n"));
    text += &format!("for k in 0..{depth} {{\n");
    (0..columns).for_each(|c| text += &format!("%{}: f32x4 = load b[{width}*k + {}]\n", b + c, 4 * c));
    for r in 0..rows {
        if r % 4 == 0 {
            text += &format!("%{}: f32x4 = load a[{rows}*k + {r}]\n", a + rows + r / 4);
        }
        text += &format!("%{}: f32x4 = broadcast %{}[{}]\n", a + r, a + rows + r / 4, r % 4);
        for c in 0..columns {
            text += &format!("%{i}: f32x4 = mla %{i}, %{}, %{}\n", a + r, b + c, i = r * columns + c);
        }
    }
    text += "}\n";
    (0..tile).for_each(|i| text += &format!("store c[{}] = %{i}\n", 4 * i));
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

fn text(name: &str, kernel: &Kernel, target: &Target) -> String {
    disassemble(name, kernel, target, &|kernel| encode(kernel, target).map_err(Error::bug))
}

/// A loop has nothing but its work: two iterations at once, ten vectors in six loads, two pointers,
/// one test.
#[test]
fn matrix_tiles_have_no_overhead() {
    let a53 = resolve("aarch64", "cortex-a53").expect("known");
    let kernel = tile(8, 3, 64);
    let text = text("neon_gemm", &kernel, &a53);
    assert_eq!(count(&text, "fmla\tv"), 48, "{text}");
    assert_eq!(count(&text, ".s["), 48, "by element: {text}");
    assert!(count(&text, "[sp") <= 8, "only the saved registers on the stack: {text}");
    let loads = |l: &&str| !l.contains("ldp\tq") && !l.contains("ldr\tq");
    let body: Vec<&str> = text.lines().skip_while(loads).collect();
    let end = body.iter().position(|l| l.contains("b.ne")).expect("a loop");
    assert_eq!(end + 1, 48 + 6 + 2 + 2, "{text}");
    assert_eq!(check_supported("neon_gemm_runs", &[case(kernel, 1)], &a53), 1);
}

/// Four rows by 16 columns of bytes: 64 products of four bytes in 16 instructions, by element, and
/// no widening of what is stored.
#[test]
fn products_of_bytes_by_element() {
    let mut kernel = String::from(
        "kernel dots { read a: i8[256] read b: i8[1024] write c: i8[64] vars k\n\
         %17: i32x16 = const -128\n%18: i32x16 = const 127\n",
    );
    (0..4).for_each(|r| kernel += &format!("%{r}: i32x16 = const 0\n"));
    kernel += "for k in 0..64 step 4 {\n%4: i32x16 = words b[16*k]\n";
    for r in 0..4 {
        kernel += &format!("%{}: i32x16 = words a[k + {}] stride 0\n", 5 + r, 64 * r);
        kernel += &format!("%{r}: i32x16 = dot_ss %{r}, %{}, %4\n", 5 + r);
    }
    kernel += "}\n";
    for r in 0..4 {
        kernel +=
            &format!("%{}: i32x16 = add %{r}, %17\n%{}: i32x16 = max %17, %{}\n", 19 + r, 9 + r, 19 + r);
        kernel += &format!("%{}: i32x16 = min %18, %{}\nstore c[{}] = %{}\n", 13 + r, 9 + r, 16 * r, 13 + r);
    }
    let kernel = parse(&(kernel + "}")).unwrap_or_else(|e| panic!("{e}"));
    for target in &targets() {
        let text = text("neon_dots", &kernel, target);
        match target.cpu == "cortex-a53" {
            true => assert_eq!((count(&text, "smull"), count(&text, "sadalp")), (32, 32), "{text}"),
            false => assert_eq!((count(&text, "sdot"), count(&text, ".4b[")), (32, 32), "{text}"),
        }
        assert_eq!(count(&text, "sqxtn"), 4 * 6, "{text}");
        assert_eq!(check_supported("neon_dots_run", &[case(kernel.clone(), 1)], target), 1);
    }
}
