//! Object files: what `run` does with a program's steps, and that every linker can take the result.

use crate::support::onnx::{model, node};
use crate::{sizes, support};
use lmc::base::{DType, Tensor, TensorType};
use lmc::codegen::compile;
use lmc::emit::{Emitted, emit};
use lmc::import::Bindings;
use lmc::plan::{Arg, Base, Constant, Interface, Program, Step, Symbol};
use lmc::run::executor::Executor;
use lmc::run::foreign::Foreign;
use lmc::run::load::Loaded;
use lmc::target::{Arch, Target, resolve};
use lmc::tile::parse;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
use std::process::Command;

fn interface(name: &str, dtype: DType, shape: &[usize]) -> Interface {
    Interface { name: name.into(), ty: TensorType::new(dtype, shape), symbolic: vec![None; shape.len()] }
}

fn at(base: Base, offset: usize) -> Arg {
    Arg { base, offset, strides: Vec::new() }
}

fn moving(base: Base, strides: &[i64]) -> Arg {
    Arg { base, offset: 0, strides: strides.into() }
}

/// `y[i] = sum over j of x[i] * (c[j] + 1)` for the first `n` of four `i`, where `n` is a run-time
/// size, and `y[3]` doubled where `flag` is true. Uses a constant, the arena, nested repetitions, a
/// run-time count and a condition.
fn program() -> Program {
    let kernels = [
        // The constant plus one, into the arena.
        "kernel inc { read c: f32[3] write t: f32[3]
         %0: f32x3 = load c[0] %1: f32x3 = const 1.0 %0: f32x3 = add %0, %1 store t[0] = %0 }",
        "kernel zero { write y: f32[1] %0: f32 = const 0.0 store y[0] = %0 }",
        "kernel mac { read x: f32[1] read t: f32[1] readwrite y: f32[1] %0: f32 = load x[0]
         %1: f32 = load t[0] %2: f32 = load y[0] %0: f32 = mul %0, %1 %2: f32 = add %2, %0 store y[0] = %2 }",
        "kernel twice { readwrite y: f32[1] %0: f32 = load y[0] %0: f32 = add %0, %0 store y[0] = %0 }",
        "kernel positive { read x: f32[4] %0: f32x4 = load x[0] %1: f32 = reduce min %0 %2: f32 = const 0.0
         %3: m32 = lt %1, %2 fail 7 if %3 }",
    ];
    let repeat = |count, trip, body| Step::Repeat { count, trip, cond: None, body };
    let mac = Step::Call {
        kernel: 2,
        args: vec![moving(Base::Input(0), &[4]), moving(Base::Arena, &[0, 4]), moving(Base::Output(0), &[4])],
    };
    let constant = [0, 0, 0, 0].into_iter().chain([1f32, 2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()));
    let steps = vec![
        Step::Call { kernel: 4, args: vec![at(Base::Input(0), 0)] },
        Step::Call { kernel: 0, args: vec![at(Base::Constant(0), 4), at(Base::Arena, 0)] },
        repeat(4, None, vec![Step::Call { kernel: 1, args: vec![moving(Base::Output(0), &[4])] }]),
        repeat(4, Some(at(Base::Symbols, 0)), vec![repeat(3, None, vec![mac])]),
        Step::If {
            cond: at(Base::Input(1), 0),
            then: vec![Step::Call { kernel: 3, args: vec![at(Base::Output(0), 12)] }],
            otherwise: Vec::new(),
        },
    ];
    Program {
        name: "steps".into(),
        inputs: vec![interface("x", DType::F32, &[4]), interface("flag", DType::Bool, &[])],
        outputs: vec![interface("y", DType::F32, &[2, 2])],
        symbols: vec![Symbol::given("n", 4)],
        arena_bytes: 12,
        arena_align: 64,
        arena_bound: 12,
        constants: vec![Constant { name: "c".into(), bytes: constant.collect(), align: 64 }],
        kernels: kernels.iter().map(|text| parse(text).expect("a kernel")).collect(),
        steps,
        macs: 12,
    }
}

fn build(target: &Target) -> Emitted {
    let program = program();
    let compiled = compile(&program, target, &|| ()).expect("compiles");
    assert!((16..512).contains(&compiled.stack_bytes), "{}", compiled.stack_bytes);
    emit(&program, &compiled, target).expect("an object")
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn steps_are_performed() {
    let x = floats(&[1.0, 2.0, 3.0, 4.0]);
    // The three constants plus one add up to 9.
    let cases = [(4, 1, [9.0, 18.0, 27.0, 72.0]), (2, 0, [9.0, 18.0, 0.0, 0.0]), (0, 1, [0.0; 4])];
    let host = resolve("native", "generic").expect("a host");
    let loaded = Loaded::load(&build(&host).bytes, "steps").expect("a host object");
    let a64 = resolve("aarch64", "cortex-a53").expect("known");
    let folder = support::scratch("objects_steps");
    let file = support::write(&folder, "steps.o", build(&a64).bytes);
    let foreign = Foreign::link(&file, "steps", &a64, None, &folder).expect("links");
    for (n, flag, y) in cases {
        let mut outputs = Vec::new();
        let code = loaded.run(&[&x, &[flag]], &mut [n], &mut outputs).expect("fits");
        assert_eq!((code, &outputs[0]), (0, &floats(&y)), "{n} {flag}");
        let outcome = foreign.run(&[&x, &[flag]], &[n], 1, 1).expect("runs");
        assert_eq!((outcome.status, &outcome.outputs[0]), (0, &floats(&y)), "{n} {flag}");
    }
    let bad = floats(&[1.0, -1.0, 1.0, 1.0]);
    assert_eq!(loaded.run(&[&bad, &[0]], &mut [4], &mut Vec::new()).expect("fits"), 7);
    assert_eq!(foreign.run(&[&bad, &[0]], &[4], 1, 1).expect("runs").status, 7);
    assert!(loaded.run(&[&bad], &mut [4], &mut Vec::new()).is_err(), "an input is missing");
    assert!(Loaded::load(&build(&host).bytes, "other").is_err(), "no such model");
    assert!(Loaded::load(&build(&host).bytes[..900], "steps").is_err(), "cut off");
}

/// Results below the normal floats are zeros on x86_64; the caller's own are not, whether a run succeeds or fails.
#[test]
fn results_below_the_normal_floats_are_flushed() {
    let host = resolve("x86_64", "generic").expect("known");
    if host.arch != resolve("native", "generic").expect("a host").arch {
        return;
    }
    let loaded = Loaded::load(&build(&host).bytes, "steps").expect("a host object");
    let doubled = || std::hint::black_box(1e-40f32) * std::hint::black_box(2.0);
    let (tiny, bad) = (floats(&[1e-40, 1e-30, 2e-40, 1.0]), floats(&[1e-40, -1.0, 1.0, 1.0]));
    let mut outputs = Vec::new();
    let code = loaded.run(&[&tiny, &[0]], &mut [4], &mut outputs).expect("fits");
    assert_eq!((code, &outputs[0]), (0, &floats(&[0.0, 9e-30, 0.0, 9.0])));
    assert!(doubled() > 0.0);
    assert_eq!(loaded.run(&[&bad, &[0]], &mut [4], &mut Vec::new()).expect("fits"), 7);
    assert!(doubled() > 0.0);
}

/// What lies behind a size is of any kind: sums of products up to one take denormal operands for zeros on x86_64, those
/// of known sizes multiply them.
#[test]
fn what_lies_behind_sizes_does_not_slow_sums_down() {
    let nodes = vec![node("MatMul", &["x", "w"], "y")];
    let weights = Tensor::new([4, 3], &[1e20f32; 12]);
    let model = sizes::decode(&model(nodes, &[-1, 4], &[-1, 3], &[("w", weights)]));
    let tiny = Tensor::new([2, 4], &[1e-40f32; 8]);
    let sum = 4.0 * (1e-40f32 * 1e20);
    let free = sizes::bounded(&[("length", 9)]);
    let known = Bindings { dims: [("length".to_string(), 2)].into(), ..Bindings::default() };
    for (arch, cpu, bindings, wanted) in [
        ("native", "native", &free, 0.0),
        ("x86_64", "generic", &free, 0.0),
        ("x86_64", "generic", &known, sum),
        ("aarch64", "cortex-a53", &free, sum),
    ] {
        let target = resolve(arch, cpu).expect("known");
        let wanted = if target.arch == Arch::X86_64 { wanted } else { sum };
        let built = sizes::built_as(&model, bindings, &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        let outputs = executor.run(std::slice::from_ref(&tiny)).expect("it succeeds");
        let got = outputs[0].to_vec::<f32>().expect("floats");
        assert!(
            got.len() == 6 && got.iter().all(|y| (y - wanted).abs() < 1e-5 * sum),
            "{arch} {cpu}: {got:?}"
        );
    }
}

/// The model says what the program says.
#[test]
fn the_description_is_complete() {
    let host = resolve("native", "generic").expect("a host");
    let loaded = Loaded::load(&build(&host).bytes, "steps").expect("a host object");
    let model = loaded.model();
    assert_eq!((model.abi_version, model.input_count, model.output_count), (lmc::base::abi::VERSION, 2, 1));
    assert_eq!((model.symbol_count, model.arena_align, model.arena_bytes), (1, 64, 12));
    assert_eq!(loaded.sizes(), (vec![16, 1], vec![16]));
    let text = |pointer: *const std::ffi::c_char| {
        // SAFETY: a name of the description ends with a zero byte and lives as long as `loaded`.
        unsafe { std::ffi::CStr::from_ptr(pointer) }.to_str().expect("UTF-8").to_owned()
    };
    // SAFETY: the counts were checked above.
    let (flag, y, n) = unsafe { (&*model.inputs.add(1), &*model.outputs, &*model.symbols) };
    assert_eq!(
        (text(model.name), text(flag.name), text(y.name), text(n.name)),
        ("steps".into(), "flag".into(), "y".into(), "n".into())
    );
    assert_eq!((flag.rank, flag.dtype, y.rank, y.dtype, n.max), (0, 9, 2, 1, 4));
    // SAFETY: `y` has two dimensions.
    assert_eq!(unsafe { std::slice::from_raw_parts(y.dims, 2) }, [2, 2]);
}

const TRIPLES: &[&str] = &[
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "x86_64-unknown-none",
    "x86_64-apple-darwin",
    "x86_64-pc-windows-msvc",
    "aarch64-unknown-linux-gnu",
    "aarch64-linux-android",
    "aarch64-unknown-none",
    "aarch64-apple-darwin",
    "aarch64-apple-ios",
    "aarch64-pc-windows-msvc",
];

/// In every format: nothing undefined, one visible symbol, nothing writable, the same bytes twice.
#[test]
fn objects_of_all_formats() {
    for triple in TRIPLES {
        let target = resolve(triple, "generic").expect("known");
        let emitted = build(&target);
        assert_eq!(emitted, build(&target), "{triple}");
        let file = object::File::parse(emitted.bytes.as_slice()).expect("an object");
        let mut visible = Vec::new();
        for symbol in file.symbols() {
            assert!(!symbol.is_undefined() || symbol.name() == Ok(""), "{triple}: {:?}", symbol.name());
            if symbol.is_global() {
                visible.push(symbol.name().expect("a name").trim_start_matches('_').to_owned());
            }
        }
        assert_eq!(visible, ["steps_model"], "{triple}");
        for section in file.sections().filter(|s| s.size() > 0) {
            let name = section.name().expect("a name");
            let apart = section.segment_name().ok().flatten() == Some("__DATA") || name == ".data.rel.ro";
            let known = match section.kind() {
                SectionKind::Text => name.ends_with("text"),
                SectionKind::ReadOnlyData => name.ends_with("const") || [".rodata", ".rdata"].contains(&name),
                SectionKind::Metadata | SectionKind::Other | SectionKind::Linker => true,
                _ => apart,
            };
            assert!(known, "{triple}: section {name} of kind {:?}", section.kind());
            // Only the tables hold addresses, and ELF and Mach-O have a section of their own for such.
            let free = section.kind() == SectionKind::Text || apart || name == ".rdata";
            assert!(free || section.relocations().count() == 0, "{triple}: {name}");
        }
        assert!(emitted.code_bytes > 0 && emitted.constant_bytes > 12, "{triple}");
    }
}

/// Position independent: it goes into a shared library without text relocations, on both
/// architectures, and nothing is left to be found elsewhere.
#[test]
fn objects_link_into_shared_libraries() {
    for (target, gcc, nm) in
        [("x86_64", "gcc", "nm"), ("aarch64", support::aarch64_gcc(), "aarch64-linux-gnu-nm")]
    {
        let folder = support::scratch(&format!("objects_shared_{target}"));
        let object = build(&resolve(target, "generic").expect("known")).bytes;
        let file = support::write(&folder, "steps.o", object);
        assert_eq!(support::run(Command::new(nm).arg("-u").arg(&file)), "");
        let library = folder.join("steps.so");
        let mut link = Command::new(gcc);
        link.args(["-shared", "-nostdlib", "-Wl,-z,text,-z,defs,--fatal-warnings", "-o"])
            .arg(&library)
            .arg(&file);
        support::run(&mut link);
    }
}
