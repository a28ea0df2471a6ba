//! Loop nests: the kernels of small definitions, and random definitions whose every chosen schedule
//! computes what the naive loops compute.

use crate::golden::check_folder;
use crate::schedule::read_linear;
use lmc::base::{Affine, DType, Tensor, TensorType};
use lmc::definition::interpret as interpret_lowering;
use lmc::definition::{DefBuilder, Definition, Env, ExprId, Stage, verify_definition};
use lmc::nest::nest;
use lmc::scalar::{Fold, Op, Scalar, cast};
use lmc::schedule::choose::choose;
use lmc::schedule::linear::{Layout, Linear};
use lmc::schedule::winograd::{Conv, Tiles, Winograd, product};
use lmc::schedule::{Schedule, Vector, in_phases, verify};
use lmc::target::{Target, resolve};
use lmc::tile::random::Rng;
use lmc::tile::{backwards, interpret};

fn targets() -> Vec<Target> {
    let list = [
        ("x86_64", "x86-64-v4"),
        ("x86_64", "x86-64-v3"),
        ("x86_64", "x86-64"),
        ("aarch64", "cortex-a53"),
        ("aarch64", "neoverse-n2"),
    ];
    list.iter().map(|(triple, cpu)| resolve(triple, cpu).expect("a known processor")).collect()
}

/// The schedule and the kernel for 256-bit vectors.
fn kernel(text: &str) -> String {
    let linear = read_linear(text);
    let target = resolve("x86_64", "x86-64-v3").expect("a known processor");
    let schedule = choose(&linear, &target);
    let nested = nest(&linear, &schedule, target.fma, 1).expect("a kernel");
    lmc::tile::verify(&nested.kernel).expect("a valid kernel");
    format!("{}{}", schedule.display(&linear), nested.kernel)
}

#[test]
fn kernels_of_small_definitions() {
    check_folder("nest", kernel);
}

/// An index into one dimension: an axis and a reduction axis with a step each, shifted; and the
/// dimension's extent. A padded one may reach outside on both sides.
fn index(
    rng: &mut Rng,
    axis: Option<(u32, usize)>,
    over: Option<(u32, usize)>,
    padded: bool,
) -> (Affine, usize) {
    let mut form = Affine::default();
    let mut last = 0;
    for (var, extent) in axis.into_iter().chain(over) {
        let step = rng.pick(&[1, 1, 1, 2, 3]);
        form.add_term(var, step);
        last += step * (extent as i64 - 1);
    }
    match padded {
        true => {
            let before = rng.between(0, 2);
            (form.offset(-before), (last + 1 - before - rng.between(0, 2)).max(1) as usize)
        }
        false => {
            let before = rng.between(0, 1);
            (form.offset(before), (last + 1 + before + rng.between(0, 1)) as usize)
        }
    }
}

/// A load of a tensor whose dimensions are indexed by some of the axes and reductions, alone or added.
fn factor(
    rng: &mut Rng,
    b: &mut DefBuilder,
    value: u32,
    (axes, reductions): (&[(u32, usize)], &[(u32, usize)]),
    bytes: bool,
    fill: impl Fn(&mut Rng, DType) -> Scalar,
) -> ExprId {
    let padded = rng.chance(30);
    let dtype = if bytes { rng.pick(&[DType::I8, DType::U8]) } else { DType::F32 };
    let mut left = axes.to_vec();
    left.retain(|_| rng.chance(70));
    let mut over = reductions.to_vec();
    over.retain(|_| rng.chance(85));
    let (mut form, mut shape) = (Vec::new(), Vec::new());
    while !left.is_empty() || !over.is_empty() {
        let joined = padded || rng.chance(20);
        let axis = if left.is_empty() || (!joined && rng.chance(50) && !over.is_empty()) {
            None
        } else {
            Some(left.remove(rng.below(left.len())))
        };
        let r = if over.is_empty() || (axis.is_some() && !joined) {
            None
        } else {
            Some(over.remove(rng.below(over.len())))
        };
        let (f, d) = index(rng, axis, r, padded && axis.is_some());
        form.push(f);
        shape.push(d);
    }
    let ty = TensorType::new(dtype, shape);
    let fill = fill(rng, dtype);
    if padded { b.load_padded(value, &ty, form, fill) } else { b.load(value, &ty, form) }
}

/// A random definition and which of its operands are constant.
fn definition(seed: u64) -> (Definition, Vec<bool>) {
    let mut rng = Rng(seed);
    let axes = 1 + rng.below(4);
    let mut extents: Vec<usize> = (0..axes).map(|_| 1 + rng.below(6)).collect();
    let long = rng.below(axes);
    extents[long] = rng.pick(&[1, 7, 16, 19, 40]);
    let mut b = DefBuilder::new(&extents);
    let reductions: Vec<(u32, usize)> = (0..rng.below(4))
        .map(|i| {
            let extent = rng.pick(&[1, 2, 3, 4, 5, 18]);
            b.reduce(&format!("k{i}"), extent);
            ((axes + i) as u32, extent)
        })
        .collect();
    let all_axes: Vec<(u32, usize)> = extents.iter().enumerate().map(|(i, &d)| (i as u32, d)).collect();
    let bytes = !reductions.is_empty() && rng.chance(30);
    let fold = rng.pick(&[Fold::Sum, Fold::Sum, Fold::Max, Fold::Min]);
    let mut constant = Vec::new();
    let factors = 1 + rng.below(2);
    let mut values = Vec::new();
    for value in 0..factors as u32 {
        constant.push(rng.chance(50));
        let fill = |rng: &mut Rng, dtype: DType| match rng.below(3) {
            0 => Scalar::from_f64(dtype, 3.0),
            1 if !bytes => fold.identity(dtype),
            _ => Scalar::from_f64(dtype, 0.0),
        };
        let element = factor(&mut rng, &mut b, value, (&all_axes, &reductions), bytes, fill);
        values.push(if bytes { b.cast(DType::I32, element) } else { element });
    }
    let mut result = match values[..] {
        [one] => one,
        _ => {
            let op = if fold == Fold::Sum { Op::Mul } else { rng.pick(&[Op::Add, Op::Max]) };
            b.op(op, &values)
        }
    };
    if !reductions.is_empty() {
        result = b.fold(fold, result);
    }
    let dtype = if bytes { DType::I32 } else { DType::F32 };
    if rng.chance(50) {
        let axis = rng.pick(&all_axes);
        constant.push(rng.chance(50));
        let bias = b.load(factors as u32, &TensorType::new(dtype, [axis.1]), vec![Affine::var(axis.0)]);
        result = b.op(Op::Add, &[result, bias]);
    }
    let mut store = b.axes();
    let (i, j) = (rng.below(axes), rng.below(axes));
    store.swap(i, j);
    let shape: Vec<usize> = store.iter().map(|f| extents[f.terms[0].0 as usize]).collect();
    (b.finish_at("random", 9, &TensorType::new(dtype, shape), store, result), constant)
}

/// Runs a schedule in the interpreter on small whole numbers, whose sums are exact in any order.
fn run(linear: &Linear, schedule: &Schedule, constant: &[bool]) -> Vec<u8> {
    let nested = nest(linear, schedule, true, 1).expect("a kernel");
    lmc::tile::verify(&nested.kernel).unwrap_or_else(|e| panic!("{e}\n{linear}{}", schedule.display(linear)));
    let mut buffers: Vec<Vec<u8>> = Vec::new();
    for (i, buffer) in linear.buffers.iter().enumerate() {
        let number = |j: usize| ((j * 7 + j / 11 * 5 + i * 3) % 11) as f64 - 5.0;
        let number = |j: usize| if buffer.dtype == DType::U8 { number(j).abs() * 40.0 } else { number(j) };
        let element = |j: usize| Scalar::from_f64(buffer.dtype, number(j)).bits.to_le_bytes();
        let data: Vec<u8> =
            (0..buffer.elems).flat_map(|j| element(j)[..buffer.dtype.size()].to_vec()).collect();
        let packed = constant[i].then(|| nested.packed(linear, i as u32, &data)).flatten();
        buffers.push(packed.unwrap_or(data));
    }
    buffers.push(vec![0; linear.output.elems * linear.output.dtype.size()]);
    if nested.between > 0 {
        // No number: what is read here must have been written before.
        buffers.push(vec![0xff; 4 * nested.between]);
    }
    let mut again = buffers.clone();
    let code = interpret(&nested.kernel, &mut buffers).expect("a kernel that runs");
    assert_eq!(code, 0);
    if let Some(turned) = backwards(&nested.kernel) {
        lmc::tile::verify(&turned).unwrap_or_else(|e| panic!("{e}\n{turned}"));
        assert_eq!(interpret(&turned, &mut again).expect("a kernel that runs"), 0);
        assert!(again == buffers, "backwards it is something else: {turned}");
    }
    buffers.swap_remove(linear.buffers.len())
}

/// A convolution of 3x3 points with a bias, channels last: its elements, images, channels in and out, extents, and
/// the padding before and after.
fn convolution(
    dtype: DType,
    n: usize,
    c: usize,
    o: usize,
    (h, w): (usize, usize),
    pad: (i64, i64),
) -> Linear {
    dilated(dtype, (n, c, o), (h, w), pad, [1; 2])
}

/// The same with points that lie so many apart, in both directions, and as often as much padding.
fn dilated(
    dtype: DType,
    (n, c, o): (usize, usize, usize),
    (h, w): (usize, usize),
    pad: (i64, i64),
    apart: [i64; 2],
) -> Linear {
    let out = |extent: usize, apart: i64| (extent as i64 + (pad.0 + pad.1 - 2) * apart) as usize;
    let (oh, ow) = (out(h, apart[0]), out(w, apart[1]));
    let tensor = |shape: &[usize]| TensorType::new(dtype, shape);
    let (x, weights, y) = (tensor(&[n, c, h, w]), tensor(&[o, c, 3, 3]), tensor(&[n, o, oh, ow]));
    let mut b = DefBuilder::new(&y.shape);
    let (ic, kh, kw) = (b.reduce("c", c), b.reduce("kh", 3), b.reduce("kw", 3));
    let at = |axis: Affine, point: &Affine, apart: i64| axis.plus_scaled(&point.offset(-pad.0), apart);
    let (down, across) = (at(b.var(2), &kh, apart[0]), at(b.var(3), &kw, apart[1]));
    let index = vec![b.var(0), ic.clone(), down, across];
    let data = b.load_padded(0, &x, index, Scalar::from_f64(dtype, 0.0));
    let index = vec![b.var(1), ic, kh, kw];
    let weight = b.load(1, &weights, index);
    let [data, weight] = [data, weight].map(|e| b.cast(DType::F32, e));
    let product = b.op(Op::Mul, &[data, weight]);
    let acc = b.fold(Fold::Sum, product);
    let channel = vec![b.var(1)];
    let bias = b.load(2, &tensor(&[o]), channel);
    let bias = b.cast(DType::F32, bias);
    let result = b.op(Op::Add, &[acc, bias]);
    let result = b.cast(dtype, result);
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    let layouts = [last(&x), Layout::dense(&weights.shape), Layout::dense(&[o])];
    Linear::new(&b.finish("conv", 3, &y, result), &layouts, &[false, true, true], &last(&y))
}

#[test]
fn minimal_filtering_agrees_with_the_naive_loops() {
    let cases = [
        (1, 4, 8, (8, 8), (1, 1)),
        (1, 5, 20, (9, 11), (1, 1)),
        (2, 16, 3, (7, 10), (0, 0)),
        (1, 3, 17, (6, 5), (2, 1)),
        (3, 2, 2, (4, 4), (0, 1)),
    ];
    let halves = cases.map(|case| (DType::F16, case));
    for (dtype, (n, c, o, size, pad)) in cases.map(|case| (DType::F32, case)).into_iter().chain(halves) {
        let linear = convolution(dtype, n, c, o, size, pad);
        let conv = Conv::of(&linear).expect("a convolution that can be filtered");
        let constant = [false, true, true];
        let expected = run(&linear, &Schedule::naive(&linear), &[false; 3]);
        let sizes = || conv.sizes(&linear).iter();
        for (target, &(outputs, part)) in targets().iter().flat_map(|t| sizes().map(move |size| (t, size))) {
            let [down, most] = [0, 1].map(|way| conv.tiles(&linear, way, outputs));
            let rows = (1..=down).filter(|r| down.is_multiple_of(*r));
            let blocks =
                rows.flat_map(|rows| (1..=most).map(move |across| Tiles { outputs, part, rows, across }));
            for (tiles, columns) in blocks.flat_map(|tiles| [0, 1, 3].map(|columns| (tiles, columns))) {
                let products = Box::new(choose(&product(&conv, &linear, tiles), target));
                let schedule = Schedule {
                    vector: Vector::Axis { var: conv.outer, lanes: target.lanes() },
                    pack: vec![conv.weights],
                    winograd: Some(Winograd {
                        tiles,
                        halves: false,
                        columns,
                        each: columns == 1,
                        product: products,
                    }),
                    ..Schedule::naive(&linear)
                };
                verify(&schedule, &linear).expect("a valid schedule");
                let got = run(&linear, &schedule, &constant);
                let floats = |bytes: &[u8]| -> Vec<f64> {
                    bytes.chunks(dtype.size()).map(|b| Scalar::from_le(dtype, b).to_f64()).collect()
                };
                // A sum of halves may be rounded to the next one.
                let last = if dtype == DType::F16 { 1e-3 } else { 0.0 };
                let near = |(a, b): (&f64, &f64)| (a - b).abs() < 2e-3 + last * b.abs();
                let all = floats(&got).iter().zip(&floats(&expected)).all(near);
                assert!(all, "{}:\n{linear}{}", target.cpu, schedule.display(&linear));
            }
        }
    }
}

#[test]
fn windows_in_phases_agree_with_the_naive_loops() {
    let cases = [
        ((1, 4, 8), (8, 12), (1, 1), [2, 3]),
        ((2, 5, 3), (12, 8), (0, 0), [2, 2]),
        ((1, 3, 20), (16, 8), (1, 0), [4, 2]),
        ((1, 16, 16), (28, 28), (1, 1), [2, 2]),
        ((1, 4, 8), (7, 8), (1, 1), [1, 2]),
    ];
    for (channels, size, pad, apart) in cases {
        let linear = dilated(DType::F32, channels, size, pad, apart);
        let phases = in_phases(&linear).expect("windows of phases");
        let split = apart.iter().filter(|&&a| a > 1).count();
        assert_eq!(phases.vars.len(), linear.vars.len() + split);
        let naive = |linear: &Linear| run(linear, &Schedule::naive(linear), &[false; 3]);
        let expected = naive(&linear);
        assert!(naive(&phases) == expected, "{phases}");
        let filtered = Conv::of(&phases).is_some();
        assert!(filtered && Conv::of(&linear).is_none(), "{phases}");
        for target in targets() {
            let schedule = choose(&phases, &target);
            verify(&schedule, &phases).expect("a valid schedule");
            let got = run(&phases, &schedule, &[false, true, true]);
            let near = |(a, b): (f32, f32)| (a - b).abs() < 2e-3;
            assert!(floats(&got).zip(floats(&expected)).all(near), "{}:\n{phases}", target.cpu);
        }
    }
    for (size, pad, apart) in [((9, 8), (1, 1), [2, 2]), ((8, 8), (1, 1), [1, 1]), ((8, 9), (1, 1), [1, 2])] {
        assert_eq!(in_phases(&dilated(DType::F32, (1, 4, 8), size, pad, apart)), None, "{size:?} {apart:?}");
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|b| f32::from_bits(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
}

#[test]
fn schedules_of_random_definitions_agree_with_the_naive_loops() {
    let targets = targets();
    for seed in 0..200 {
        let (def, constant) = definition(seed);
        verify_definition(&def).expect("a valid definition");
        let mut rng = Rng(seed ^ 0x1a);
        let mut layout = |ty: &TensorType, constant: bool| {
            let mut order: Vec<usize> = (0..ty.rank()).collect();
            if !constant && rng.chance(50) && ty.rank() > 1 {
                let inner = order.remove(rng.below(ty.rank()));
                order.push(inner);
            }
            Layout::permuted(&ty.shape, &order)
        };
        let layouts: Vec<Layout> =
            def.operands.iter().zip(&constant).map(|(o, &c)| layout(&o.ty, c)).collect();
        let linear = Linear::new(&def, &layouts, &constant, &layout(&def.output.ty, false));
        let expected = run(&linear, &Schedule::naive(&linear), &vec![false; constant.len()]);
        for target in &targets {
            let schedule = choose(&linear, target);
            verify(&schedule, &linear).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let got = run(&linear, &schedule, &constant);
            assert!(got == expected, "seed {seed}, {}:\n{linear}{}", target.cpu, schedule.display(&linear));
        }
    }
}

/// A padded convolution of `c` channels of bytes to one.
pub fn to_one_channel(c: usize, types: [DType; 2]) -> Linear {
    let (x, weights) = (TensorType::new(types[0], [7, 9, c]), TensorType::new(types[1], [c, 3, 3]));
    let y = TensorType::new(DType::I32, [5, 9]);
    let mut b = DefBuilder::new(&y.shape);
    let (ic, kh, kw) = (b.reduce("c", c), b.reduce("kh", 3), b.reduce("kw", 3));
    let index = vec![b.var(0).plus(&kh), b.var(1).plus(&kw).offset(-1), ic.clone()];
    let data = b.load_padded(0, &x, index, Scalar::from_f64(types[0], 5.0));
    let weight = b.load(1, &weights, vec![ic, kh, kw]);
    let [data, weight] = [data, weight].map(|e| b.cast(DType::I32, e));
    let product = b.op(Op::Mul, &[data, weight]);
    let acc = b.fold(Fold::Sum, product);
    let layouts = [Layout::dense(&x.shape), Layout::dense(&weights.shape)];
    Linear::new(&b.finish("conv", 2, &y, acc), &layouts, &[false, true], &Layout::dense(&y.shape))
}

#[test]
fn words_over_lanes_agree_with_the_naive_loops() {
    let types = [DType::U8, DType::I8].into_iter().flat_map(|a| [[a, DType::U8], [a, DType::I8]]);
    for (c, types) in types.flat_map(|types| [8, 12, 20, 32, 72, 140].map(|c| (c, types))) {
        let linear = to_one_channel(c, types);
        let expected = run(&linear, &Schedule::naive(&linear), &[false; 2]);
        for target in targets() {
            let schedule = choose(&linear, &target);
            verify(&schedule, &linear).expect("a valid schedule");
            let over_lanes = matches!(schedule.vector, Vector::Reduction { .. });
            assert_eq!((over_lanes, schedule.dot), (true, 4), "{}", schedule.display(&linear));
            let got = run(&linear, &schedule, &[false, true]);
            assert!(got == expected, "{}:\n{linear}{}", target.cpu, schedule.display(&linear));
        }
    }
}

/// Sums and products rounded to half floats in the middle of one definition.
const ROUNDED: &str = "lowering {
  v0 x: f16[203]
  v1 y: f32[203]
  v2 z: f16[203]
  define scale {
    axes i < 203
    read v0: f16[203]
    read v1: f32[203]
    write v2: f16[203]
    %0: f16 = load v0[i]
    %1: f32 = cast f32 %0
    %2: f32 = load v1[i]
    %3: f32 = add %1, %2
    %4: f16 = cast f16 %3
    %5: f32 = cast f32 %4
    %6: f32 = const 0.0
    %7: f32 = max %5, %6
    %8: f16 = cast f16 %7
    %9: f16 = mul %8, %0
    %10: f32 = cast f32 %9
    %11: f32 = mul %10, %2
    %12: bf16 = cast bf16 %11
    %13: f32 = cast f32 %12
    %14: f32 = add %13, %1
    %15: f16 = cast f16 %14
    store v2[i] = %15
  }
}";

#[test]
fn roundings_to_half_floats_are_kept() {
    let lowering = lmc::definition::parse(ROUNDED).expect("a lowering");
    let Stage::Define(def) = &lowering.stages[0] else { panic!("a definition") };
    let number = |i: usize| Scalar::from_f64(DType::F32, (i as f64 * 0.618).fract() * 6.0 - 2.0);
    let y: Vec<u8> = (0..203).flat_map(|i| (number(i).bits as u32).to_le_bytes()).collect();
    let half = |i: usize| cast(number(i + 500), DType::F16, true).bits as u16;
    let x: Vec<u8> = (0..203).flat_map(|i| half(i).to_le_bytes()).collect();
    let mut env = Env::new(&lowering);
    for (v, data) in [(0, &x), (1, &y)] {
        let ty = lowering.values[v as usize].ty.clone();
        env.set(v, &Tensor::from_bytes(ty, data.clone()).expect("as many bytes as elements"));
    }
    interpret_lowering(&lowering, &mut env).expect("a lowering that runs");
    let wanted = env.get(2, &def.output.ty).expect("the output");
    let dense = Layout::dense(&[203]);
    let linear = Linear::new(def, &[dense.clone(), dense.clone()], &[false; 2], &dense);
    for target in &targets() {
        let nested = nest(&linear, &choose(&linear, target), target.fma, 1).expect("a kernel");
        let mut buffers = vec![x.clone(), y.clone(), vec![0; 406]];
        assert_eq!(interpret(&nested.kernel, &mut buffers).expect("a kernel that runs"), 0);
        assert!(buffers[2] == wanted.data[..], "{}: {}", target.cpu, nested.kernel);
    }
}
