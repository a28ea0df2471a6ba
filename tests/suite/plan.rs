//! Programs: text forms read, printed, verified; those of small graphs; the arenas of real models.

use crate::golden::{check_folder, tests_folder};
use crate::support::models::{Entry, all, named};
use lmc::build::{Build, Built, Prefer, Silent};
use lmc::error::Result;
use lmc::graph;
use lmc::plan::{Program, parse, program, verify};
use lmc::run::executor::Executor;
use lmc::target::{Target, resolve};

fn read_and_verify(program: &Program) -> String {
    match verify(program) {
        Ok(()) => format!("{program}valid\n"),
        Err(error) => format!("{program}invalid: {}\n", error.reason),
    }
}

/// Of a program what the verifier says; of a graph its program.
fn answer(text: &str) -> String {
    if text.lines().any(|l| l.starts_with("program")) {
        return match parse(text) {
            Ok(program) => read_and_verify(&program),
            Err(error) => format!("{error}\n"),
        };
    }
    let graph = graph::parse(text, lmc::ops::find).expect("a graph");
    graph::verify(&graph).expect("a valid graph");
    let target = resolve("x86_64", "x86-64-v3").expect("a known processor");
    let program = program(&graph, "g", &target).expect("a program");
    let printed = format!("{program:#}");
    let read = parse(&printed).expect("printed text is read back");
    assert_eq!(format!("{read:#}"), printed);
    read_and_verify(&program)
}

#[test]
fn programs() {
    check_folder("plan", answer);
}

/// The arena is the largest sum of tensors live at once, less what they share, or the least that some of them need:
/// nothing, or little, is lost between them.
#[test]
fn arenas_of_models_are_at_their_bounds() {
    let target = resolve("x86_64", "x86-64-v3").expect("a known processor");
    let own = tests_folder().join("models");
    let (mut floats, mut exact) = (0, 0);
    for entry in all().0 {
        let (bytes, bound) = match arena(&entry, &target) {
            Ok(program) => (program.arena_bytes, program.arena_bound),
            Err(error) => {
                println!("{}: {error}", entry.name);
                assert!(!entry.folder.starts_with(&own), "{}: {error}", entry.name);
                continue;
            }
        };
        println!("{}: {bytes} bytes, bound {bound}", entry.name);
        if entry.folder.starts_with(&own) && entry.dtype.starts_with("fp32") {
            (floats, exact) = (floats + 1, exact + usize::from(bytes == bound));
        }
        assert!(bytes * 100 <= bound * 103, "{}: {bytes} bytes, bound {bound}", entry.name);
    }
    assert!(floats > 1, "no models in {}", own.display());
    assert!(exact + 1 >= floats, "{exact} of {floats} models at their bounds");
}

fn arena(entry: &Entry, target: &Target) -> Result<Program> {
    let model = lmc::import::read(&entry.folder.join("model.onnx"))?;
    let (types, _) = entry.bindings(0).resolve(&model.body)?;
    let (mut graph, _) = lmc::passes::infer(&model, &types).into_result()?;
    lmc::passes::run_passes(&mut graph, lmc::passes::Around::new(target), &mut |_, _, _| {})?;
    program(&graph, "model", target)
}

/// Where bytes are preferred, strips may cost time.
#[test]
fn strips_take_less_memory_where_size_is_preferred() {
    let model = tests_folder().join("models/kws_dscnn_int8_qdq/model.onnx");
    let build = |prefer| Build::new(&model).target("aarch64").cpu("generic").prefer(prefer).build(&Silent);
    let arena = |prefer| build(prefer).expect("a build").program.arena_bytes;
    let (fast, small) = (arena(Prefer::Speed), arena(Prefer::Size));
    assert!(4 * small < 3 * fast, "{small} and {fast} bytes");
}

/// Where bytes are preferred, tiles are those of less code, sums of bytes have no offsets behind their scales, and filters
/// no zeros.
#[test]
fn code_and_constants_are_smaller_where_size_is_preferred() {
    let entry = named("kws_dscnn_int8_qdq");
    let (inputs, wanted) = entry.data(0);
    let bytes = |arch, cpu, prefer| {
        let target = resolve(arch, cpu).expect("known");
        let build = Build::new(entry.folder.join("model.onnx")).target(arch).cpu(cpu).prefer(prefer);
        let built = build.build(&Silent).expect("a build");
        if arch == "aarch64" {
            let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
            let got = executor.and_then(|mut e| e.run(&inputs)).expect("a result");
            entry.compare(0, &got[0], &wanted[0]).unwrap_or_else(|why| panic!("{cpu}: {why}"));
        }
        (built.object.code_bytes, built.object.constant_bytes)
    };
    let [fast, small] = [Prefer::Speed, Prefer::Size].map(|p| bytes("aarch64", "generic", p));
    assert!(5 * small.0 < 4 * fast.0, "{small:?} and {fast:?} bytes");
    let [fast, small] = [Prefer::Speed, Prefer::Size].map(|p| bytes("x86_64", "icelake-server", p));
    assert!(small.1 + 2000 < fast.1, "{small:?} and {fast:?} bytes");
    let [fast, small] = [Prefer::Speed, Prefer::Size].map(|p| bytes("aarch64", "neoverse-n1", p));
    assert!(small.1 + 300 < fast.1, "{small:?} and {fast:?} bytes");
}

/// The search for strips is no complete one, and small schedules may take more memory in between: the plan for size is
/// the smaller one all the same, a byte of memory counted as four of flash. Code for it may take more flash, but never
/// more than that saves of the arena.
#[test]
fn size_takes_fewer_bytes_than_speed() {
    let own = tests_folder().join("models");
    for (target, cpu) in [("x86_64", "icelake-server"), ("x86_64", "x86-64-v3"), ("aarch64", "generic")] {
        // Others take long.
        for entry in all().0.iter().filter(|e| e.folder.starts_with(&own) || e.dtype.starts_with("int8 QDQ"))
        {
            let bytes = |prefer| {
                let build = Build::new(entry.folder.join("model.onnx")).bindings(entry.bindings(0));
                let built = build.target(target).cpu(cpu).prefer(prefer).build(&Silent).expect("a build");
                (built.program.arena_bytes, built.object.code_bytes + built.object.constant_bytes)
            };
            let (fast, small) = (bytes(Prefer::Speed), bytes(Prefer::Size));
            let less = 4 * small.0 + small.1 <= 4 * fast.0 + fast.1;
            assert!(less, "{} for {cpu}: {small:?} and {fast:?} bytes", entry.name);
        }
    }
}

/// Strips are formed where most is live when results follow what they are computed from: a depthwise filter's take
/// hardly more than its operand, and the layers behind it would then take most. On AVX2 person detection's are a chain,
/// whose result lies over what its strips have read. Without that the four take 591,168, 466,112, 147,392 and 29,760.
#[test]
fn strips_know_what_follows_what_is_read() {
    let cores = [
        ("blaze_face", "x86_64", "x86-64-v4", 490_000),
        ("blaze_face", "aarch64", "generic", 463_000),
        ("vww_mobilenetv1", "x86_64", "x86-64-v3", 93_000),
        ("vww_mobilenetv1_int8_tfl", "x86_64", "x86-64-v4", 22_000),
    ];
    for (model, target, cpu, most) in cores {
        let file = tests_folder().join("models").join(model).join("model.onnx");
        let built = Build::new(&file).target(target).cpu(cpu).build(&Silent).expect("a build");
        let bytes = built.program.arena_bytes;
        assert!(bytes <= most, "{model}: {bytes} bytes for {cpu}");
    }
}

/// Rows over an edge are copied as far as they are read: what stands beside them may be the part of a concatenation
/// that is made of them.
#[test]
fn rows_over_an_edge_are_copied_as_far_as_they_are_read() {
    let text = "graph g {
  input x: f32[1,32,28,28]
  const w0: f32[96,32,1,1] = random 1
  const w1: f32[96,1,5,5] = random 2
  const w2: f32[96,16,1,1] = random 3
  const w3: f32[32,192,1,1] = random 4
  q: f32[1,96,28,28] = Conv(x, w0)
  a: f32[1,96,28,28] = Conv(q, w1) { group = 96, pads = [2, 2, 2, 2] }
  b: f32[1,96,28,28] = Conv(a, w2) { group = 6 }
  c: f32[1,192,28,28] = Concat(q, b) { axis = 1 }
  y: f32[1,32,28,28] = Conv(c, w3)
  output y
}
";
    let graph = graph::parse(text, lmc::ops::find).expect("a graph");
    for (arch, cpu) in [("x86_64", "x86-64-v3"), ("x86_64", "znver4"), ("aarch64", "generic")] {
        let target = resolve(arch, cpu).expect("a known processor");
        program(&graph, "g", &target).unwrap_or_else(|e| panic!("{cpu}: {e}"));
    }
}

/// Where words of bytes are multiplied by an instruction, no padding beside rows lies in memory, and strips may lose
/// some of the time that is won.
#[test]
fn bytes_take_hardly_more_than_a_quarter_of_the_memory_of_floats() {
    let arena = |name: &str| {
        let model = tests_folder().join("models").join(name).join("model.onnx");
        let build = Build::new(model).target("x86_64").cpu("icelake-server");
        build.build(&Silent).expect("a build").program.arena_bytes
    };
    // Strips do for person detection's first layers, and parts of rows for filtered convolutions.
    let models = [
        ("kws_dscnn", "kws_dscnn_int8_qdq"),
        ("vww_mobilenetv1", "vww_mobilenetv1_int8_tfl"),
        ("ic_resnet8", "ic_resnet8_int8_qdq"),
    ];
    for (floats, bytes) in models {
        let (floats, bytes) = (arena(floats), arena(bytes));
        assert!(bytes * 10_000 <= floats * 2625, "{bytes} and {floats} bytes");
    }
}

/// What exceeds a budget is compiled with fewer filtered convolutions, or for size, where that keeps to it.
#[test]
fn budgets_choose_the_smaller_form() {
    let model = tests_folder().join("models/ic_resnet8");
    for (target, cpu) in [("x86_64", "x86-64-v3"), ("aarch64", "generic")] {
        let build = || Build::new(model.join("model.onnx")).target(target).cpu(cpu);
        let fast = build().build(&Silent).expect("a build");
        let small = build().prefer(Prefer::Size).build(&Silent).expect("a build");
        let says = |built: &Built, what: &str| built.notes.iter().any(|n| n.contains(what));
        assert!(2 * small.flash_bytes() < fast.flash_bytes());
        assert!(small.program.arena_bytes <= fast.program.arena_bytes);
        let grown = "bytes more than the model's";
        assert!(says(&fast, grown) && !says(&small, grown), "{:?} {:?}", fast.notes, small.notes);

        let kept = build().max_flash(small.flash_bytes()).build(&Silent).expect("a build within its budget");
        assert_eq!(kept.object.bytes, small.object.bytes);
        assert!(says(&kept, "--prefer size"), "{:?}", kept.notes);
        // Between the two are forms that lose less.
        let limit = (fast.flash_bytes() + small.flash_bytes()) / 2;
        let between = build().max_flash(limit).build(&Silent).expect("a build within its budget");
        assert!(between.flash_bytes() <= limit && between.flash_bytes() > small.flash_bytes() * 11 / 10);
        assert!(
            says(&between, "are not filtered") && !says(&between, "--prefer size"),
            "{:?}",
            between.notes
        );
        let limit = (fast.program.arena_bytes + small.program.arena_bytes) * 6 / 10;
        let between = build().max_ram(limit).build(&Silent).expect("a build within its budget");
        assert!(between.program.arena_bytes <= limit && between.flash_bytes() > small.flash_bytes());
        assert!(says(&between, "--max-ram"), "{:?}", between.notes);
        let error = build().max_flash(small.flash_bytes() - 1).build(&Silent).err().expect("an error");
        assert!(error.to_string().contains("1 more than allowed"), "{error}");
    }
}
