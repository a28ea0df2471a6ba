//! Runs tile kernels as machine code and compares them with the interpreter, bit for bit.
//!
//! Many kernels go into one object, so that linking and starting an emulator is paid once.

use crate::support;
use lmc::base::{DType, TensorType};
use lmc::codegen::{Code, compile_with};
use lmc::emit::emit;
use lmc::error::Result;
use lmc::plan::{Arg, Base, Interface, Program, Step};
use lmc::run::foreign::Foreign;
use lmc::run::load::Loaded;
use lmc::target::{Arch, Target};
use lmc::tile::random::is_nan;
use lmc::tile::{Access, Kernel, interpret, parse, verify};

/// An encoder under test.
pub type Encode<'a> = &'a (dyn Fn(&Kernel) -> Result<Code> + Sync);

/// What every byte of an output is before the run.
const UNWRITTEN: u8 = 0xa5;

/// A kernel, and the bytes of each parameter that is read. What is written begins as [`UNWRITTEN`].
#[derive(Clone)]
pub struct Case {
    pub kernel: Kernel,
    pub inputs: Vec<Vec<u8>>,
}

impl Case {
    /// A case whose inputs are made by `fill(parameter number, parameter)`.
    pub fn new(kernel: Kernel, mut fill: impl FnMut(usize, &lmc::tile::Param) -> Vec<u8>) -> Case {
        verify(&kernel).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
        let read = kernel.params.iter().enumerate().filter(|(_, p)| p.access == Access::Read);
        let inputs = read.map(|(i, p)| fill(i, p)).collect();
        Case { kernel, inputs }
    }

    /// What the interpreter returns and writes, one buffer per parameter that is written.
    pub fn expected(&self) -> (i32, Vec<Vec<u8>>) {
        let mut given = self.inputs.iter();
        let mut buffers: Vec<Vec<u8>> = Vec::new();
        for param in &self.kernel.params {
            buffers.push(match param.access {
                Access::Read => given.next().expect("one per parameter").clone(),
                _ => vec![UNWRITTEN; param.elems * param.dtype.size()],
            });
        }
        let code = interpret(&self.kernel, &mut buffers).unwrap_or_else(|e| panic!("{e}\n{}", self.kernel));
        let written = self.kernel.params.iter().zip(buffers).filter(|(p, _)| p.access != Access::Read);
        (code, written.map(|(_, buffer)| buffer).collect())
    }
}

/// A program that calls each kernel once, on inputs and outputs of its own.
pub fn program(cases: &[Case]) -> Program {
    let mut program = Program {
        name: "cases".into(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        symbols: Vec::new(),
        arena_bytes: 0,
        arena_align: 64,
        arena_bound: 0,
        constants: Vec::new(),
        kernels: Vec::new(),
        steps: Vec::new(),
        macs: 0,
    };
    for (number, case) in cases.iter().enumerate() {
        let mut args = Vec::new();
        for param in &case.kernel.params {
            let (list, base): (_, fn(u32) -> Base) = match param.access {
                Access::Read => (&mut program.inputs, Base::Input),
                _ => (&mut program.outputs, Base::Output),
            };
            args.push(Arg { base: base(list.len() as u32), offset: 0, strides: Vec::new() });
            let ty = TensorType::new(param.dtype, [param.elems]);
            list.push(Interface { name: format!("{number}.{}", param.name), ty, symbolic: vec![None] });
        }
        program.kernels.push(case.kernel.clone());
        program.steps.push(Step::Call { kernel: number as u32, args });
    }
    program
}

/// The object of a program.
pub fn object(program: &Program, target: &Target, encode: Encode) -> Vec<u8> {
    let compiled = compile_with(program, target, encode).unwrap_or_else(|e| panic!("{e}"));
    emit(program, &compiled, target).unwrap_or_else(|e| panic!("{e}")).bytes
}

/// Runs all cases on a target (the host's, or under emulation) and compares with the interpreter.
/// Those that return an error code run alone, and on the host only. `name` is that of the test, for
/// the folder of its files.
pub fn check(name: &str, cases: &[Case], target: &Target, encode: Encode) {
    let answers: Vec<_> = cases.iter().map(Case::expected).collect();
    let all = cases.iter().cloned().zip(answers);
    let (good, failing): (Vec<_>, Vec<_>) = all.partition(|(_, (code, _))| *code == 0);
    check_together(name, &good, target, encode);
    if is_host(target) {
        failing.into_iter().for_each(|case| check_together(name, &[case], target, encode));
    }
}

type Answer = (i32, Vec<Vec<u8>>);

/// Quantization of products by a constant: to the nearest integer, clamped to the range of each narrow type
/// and stored, a full and a partial vector.
pub fn quantization(lanes: usize) -> Kernel {
    let types = [("u8", 0, 255), ("i8", -128, 127), ("u16", 0, 65535), ("i16", -32768, 32767)];
    let mut text = String::from("kernel quantize { read x: i16[32] ");
    types.iter().for_each(|t| text += &format!("write {0}: {0}[32] ", t.0));
    let mut next = 0;
    let mut line = |lanes: usize, ty: &str, value: String| {
        next += 1;
        (next - 1, format!("%{}: {ty}x{lanes} = {value}\n", next - 1))
    };
    for (start, lanes) in [(0, lanes), (lanes, 3)] {
        let (x, load) = line(lanes, "i32", format!("load x[{start}]"));
        let (float, convert) = line(lanes, "f32", format!("int_to_float %{x}"));
        text += &(load + &convert);
        for (ty, lo, hi) in types {
            let (factor, first) =
                line(lanes, "f32", format!("const {}", if hi > 255 { "2.75" } else { "0.0107" }));
            let (product, second) = line(lanes, "f32", format!("mul %{float}, %{factor}"));
            let (nearest, third) = line(lanes, "i32", format!("nearest %{product}"));
            let (least, fourth) = line(lanes, "i32", format!("const {lo}"));
            let (above, fifth) = line(lanes, "i32", format!("max %{least}, %{nearest}"));
            let (most, sixth) = line(lanes, "i32", format!("const {hi}"));
            let (inside, seventh) = line(lanes, "i32", format!("min %{most}, %{above}"));
            text += &[first, second, third, fourth, fifth, sixth, seventh].concat();
            text += &format!("store {ty}[{start}] = %{inside}\n");
        }
    }
    lmc::tile::parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

fn is_host(target: &Target) -> bool {
    match target.arch {
        Arch::X86_64 => cfg!(target_arch = "x86_64"),
        Arch::Aarch64 => cfg!(target_arch = "aarch64"),
    }
}

fn check_together(name: &str, cases: &[(Case, Answer)], target: &Target, encode: Encode) {
    let plain: Vec<Case> = cases.iter().map(|(case, _)| case.clone()).collect();
    let program = program(&plain);
    let object = object(&program, target, encode);
    let inputs: Vec<&[u8]> = plain.iter().flat_map(|c| c.inputs.iter().map(Vec::as_slice)).collect();
    let (code, outputs) = match is_host(target) {
        true => run_here(&program, &object, &inputs),
        false => run_there(name, &program, &object, &inputs, target),
    };
    assert_eq!(code, cases.first().map_or(0, |c| c.1.0), "{} on {}", cases[0].0.kernel, target.cpu);
    let mut outputs = outputs.iter();
    for (case, (_, answer)) in cases {
        let written = case.kernel.params.iter().filter(|p| p.access != Access::Read);
        for ((param, expected), got) in written.zip(answer).zip(&mut outputs) {
            if let Some(element) = difference(param.dtype, got, expected) {
                let size = param.dtype.size();
                let bytes = element * size..(element + 1) * size;
                panic!(
                    "{} on {} {}: {}[{element}] is {:02x?}, not {:02x?}\n{}",
                    case.kernel.name,
                    target.triple,
                    target.cpu,
                    param.name,
                    &got[bytes.clone()],
                    &expected[bytes],
                    case.kernel
                );
            }
        }
    }
}

/// The instructions of a kernel.
pub fn disassemble(name: &str, kernel: &Kernel, target: &Target, encode: Encode) -> String {
    let case = Case::new(kernel.clone(), |_, p| vec![0; p.elems * p.dtype.size()]);
    let program = program(&[case]);
    let object = object(&program, target, encode);
    let folder = support::scratch(name);
    let file = support::write(&folder, "cases.o", object);
    let tool = match target.arch {
        Arch::Aarch64 => "aarch64-linux-gnu-objdump",
        Arch::X86_64 => "objdump",
    };
    let all = support::run(std::process::Command::new(tool).arg("-d").arg(file));
    let kernel = all.split_once(">:\n").expect("the kernel").1;
    kernel.split("<cases_run>:").next().unwrap_or(kernel).to_string()
}

/// Lines with a word in them.
pub fn count(text: &str, word: &str) -> usize {
    text.lines().filter(|line| line.contains(word)).count()
}

fn run_here(program: &Program, object: &[u8], inputs: &[&[u8]]) -> Answer {
    let loaded = Loaded::load(object, "cases").unwrap_or_else(|e| panic!("{e}"));
    let guarded: Vec<Guarded> = inputs.iter().map(|bytes| Guarded::new(bytes)).collect();
    let inputs: Vec<&[u8]> = guarded.iter().map(Guarded::bytes).collect();
    let mut outputs: Vec<Vec<u8>> = program.outputs.iter().map(|o| vec![UNWRITTEN; o.ty.bytes()]).collect();
    let code = loaded.run(&inputs, &mut [], &mut outputs).unwrap_or_else(|e| panic!("{e}"));
    (code, outputs)
}

fn run_there(name: &str, program: &Program, object: &[u8], inputs: &[&[u8]], target: &Target) -> Answer {
    let folder = support::scratch(name);
    let file = support::write(&folder, "cases.o", object);
    let foreign = Foreign::link(&file, "cases", target, None, &folder).unwrap_or_else(|e| panic!("{e}"));
    let outcome = foreign.run(inputs, &[], program.outputs.len(), 1).unwrap_or_else(|e| panic!("{e}"));
    (outcome.status, outcome.outputs)
}

/// The first element that differs: in its bits, but any NaN is as good as another.
fn difference(dtype: DType, got: &[u8], expected: &[u8]) -> Option<usize> {
    assert_eq!(got.len(), expected.len());
    let size = dtype.size();
    let mut elements = got.chunks(size).zip(expected.chunks(size));
    elements.position(|(a, b)| a != b && !(is_nan(dtype, a) && is_nan(dtype, b)))
}

/// Bytes that end where memory ends: reading past them kills the test. A mapping may be longer than
/// its file, and the pages past the file's end cannot be read.
pub struct Guarded {
    map: memmap2::Mmap,
    start: usize,
    len: usize,
}

impl Guarded {
    pub fn new(bytes: &[u8]) -> Guarded {
        use std::io::{Seek, Write};
        const PAGE: usize = 4096;
        let pages = bytes.len().div_ceil(PAGE).max(1) * PAGE;
        let start = pages - bytes.len();
        let mut file = tempfile();
        file.set_len(pages as u64).expect("a file");
        file.seek(std::io::SeekFrom::Start(start as u64)).expect("a file");
        file.write_all(bytes).expect("a file");
        // SAFETY: the file is private to this process and not changed any more.
        let map = unsafe { memmap2::MmapOptions::new().len(pages + PAGE).map(&file) };
        Guarded { map: map.expect("a mapping"), start, len: bytes.len() }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map[self.start..self.start + self.len]
    }
}

/// A file without a name.
fn tempfile() -> std::fs::File {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("lmc-test-{}-{number}", std::process::id()));
    let options = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = options.expect("a temporary file");
    std::fs::remove_file(&path).expect("a temporary file");
    file
}

/// Clamped numbers looked up in a table, `rows` vectors of them; the last one's entries are stored as integers, too.
pub fn lookups(index: &str, entry: &str, rows: usize, lanes: usize) -> Kernel {
    let (lo, hi) = if index == "u8" { (0, 255) } else { (-128, 127) };
    let ty = if lanes == 1 { "i32".to_string() } else { format!("i32x{lanes}") };
    let elems = rows * lanes;
    let mut text = format!(
        "kernel lookups {{ read x: i32[{elems}] read t: {entry}[256] write y: {entry}[{elems}] write z: i32[{lanes}]\n\
         %0: {ty} = const 5\n%1: {ty} = const {lo}\n%2: {ty} = const {hi}\n%3: {ty} = const 23\n"
    );
    for row in 0..rows {
        let [x, small, moved, above, byte, found] = std::array::from_fn(|i| 4 + 6 * row + i);
        text += &format!(
            "%{x}: {ty} = load x[{at}]\n%{small}: {ty} = shr_s %{x}, %3\n%{moved}: {ty} = add %{small}, %0\n\
             %{above}: {ty} = max %1, %{moved}\n%{byte}: {ty} = min %2, %{above}\n\
             %{found}: {ty} = lookup t[0], %{byte}\nstore y[{at}] = %{found}\n",
            at = row * lanes
        );
    }
    text += &format!("store z[0] = %{}\n}}", 4 + 6 * (rows - 1) + 5);
    parse(&text).unwrap_or_else(|e| panic!("{e}"))
}

/// Points of so many channels, stored as planes `stride` elements apart; `from` is the plane's element of each. One
/// register holds all points in turn where it is `shared`; what was stored third is `read` again.
pub fn planes(lanes: usize, stride: i64, from: &[usize], shared: bool, read: bool) -> Kernel {
    let points = from.len();
    let last = from.iter().max().map_or(0, |&most| most as i64);
    let elems = last + 1 + stride.abs() * (lanes as i64 - 1);
    let first = if stride < 0 { -stride * (lanes as i64 - 1) } else { 0 };
    let mut text = format!(
        "kernel planes {{ read x: f32[{}] readwrite y: f32[{elems}] write z: f32[{lanes}]\n%0: f32x{lanes} = const 0.5\n",
        points * lanes
    );
    for (i, &at) in from.iter().enumerate() {
        let [x, sum] = match shared {
            true => [if i == 0 { 1 } else { 2 + i }, 2],
            false => [1 + 2 * i, 2 + 2 * i],
        };
        text += &format!("%{x}: f32x{lanes} = load x[{}]\n", i * lanes);
        text += &format!("%{sum}: f32x{lanes} = add %0, %{x}\n");
        text += &format!("store y[{}] stride {stride} = %{sum}\n", first + at as i64);
        if read && i == 2 {
            let again = 1 + 2 * points;
            text +=
                &format!("%{again}: f32x{lanes} = load y[{first}] stride {stride}\nstore z[0] = %{again}\n");
        }
    }
    text += "}";
    parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
}
