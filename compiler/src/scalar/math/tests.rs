//! The expansions against `f64` standard functions, over sweeps of all magnitudes.

use super::expand;
use crate::base::DType;
use crate::scalar::eval::Numbers;
use crate::scalar::{Op, Scalar, eval};

/// With products that are rounded apart from sums, and fused with them.
fn both(op: Op, args: &[Scalar]) -> [Scalar; 2] {
    [expand(&mut Numbers { fused: false }, op, args[0].dtype, args), eval(op, args)]
}

fn scalars32(args: &[f32]) -> Vec<Scalar> {
    args.iter().map(|&a| Scalar { dtype: DType::F32, bits: a.to_bits().into() }).collect()
}

fn scalars64(args: &[f64]) -> Vec<Scalar> {
    args.iter().map(|&a| Scalar { dtype: DType::F64, bits: a.to_bits() }).collect()
}

fn eval32(op: Op, args: &[f32]) -> f32 {
    f32::from_bits(eval(op, &scalars32(args)).bits as u32)
}

fn eval64(op: Op, args: &[f64]) -> f64 {
    f64::from_bits(eval(op, &scalars64(args)).bits)
}

/// Distance in units of the last place of `f32` at the true value.
fn ulps32(got: f32, want: f64) -> f64 {
    let near = want as f32;
    if near.is_nan() || got.is_nan() {
        return if near.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if near.is_infinite() || got.is_infinite() {
        return if near == got { 0.0 } else { f64::INFINITY };
    }
    let ulp = f64::from(near.abs().next_up()) - f64::from(near.abs());
    (f64::from(got) - want).abs() / ulp
}

fn ulps64(got: f64, want: f64) -> f64 {
    if want.is_nan() || want.is_infinite() || got.is_nan() {
        let same = want == got || (want.is_nan() && got.is_nan());
        return if same { 0.0 } else { f64::INFINITY };
    }
    (got - want).abs() / (want.abs().next_up() - want.abs())
}

/// Numbers of every magnitude and sign within `limit`, and the special ones.
fn sweep32(limit: f32) -> impl Iterator<Item = f32> {
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0, -1.0, 0.5, 2.0, 1e-40, -1e-45];
    let all = (0..=u32::MAX).step_by(64_007).map(f32::from_bits);
    let dense = (-6000..6000).map(|i| i as f32 * 0.002_1);
    all.chain(dense).filter(move |x| x.abs() <= limit).chain(special)
}

fn worst32(op: Op, limit: f32, want: impl Fn(f64) -> f64, skip: impl Fn(f64) -> bool) -> (f64, f32) {
    let errors = sweep32(limit).filter(|&x| !skip(want(x.into()))).flat_map(|x| {
        both(op, &scalars32(&[x])).map(|y| (ulps32(f32::from_bits(y.bits as u32), want(x.into())), x))
    });
    errors.fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
}

fn worst64(op: Op, limit: f64, want: impl Fn(f64) -> f64, skip: impl Fn(f64) -> bool) -> (f64, f64) {
    let all = (0..=u64::MAX).step_by(360_287_970_189_641).map(f64::from_bits);
    let dense = (-5000..5000).map(|i| f64::from(i) * 0.002_1);
    let special = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.0, -1.0, 5e-324];
    let points = all.chain(dense).filter(|x| x.abs() <= limit).chain(special);
    let errors = points
        .filter(|&x| !skip(want(x)))
        .flat_map(|x| both(op, &scalars64(&[x])).map(|y| (ulps64(f64::from_bits(y.bits), want(x)), x)));
    errors.fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
}

type Case = (Op, fn(f64) -> f64, f64, f64);

const CASES: &[Case] = &[
    (Op::Exp, f64::exp, 1.5, 2.0),
    (Op::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 2.5, 3.0),
    (Op::Tanh, f64::tanh, 6.0, 3.0),
    (Op::Sinh, f64::sinh, 3.0, 3.5),
    (Op::Cosh, f64::cosh, 2.5, 2.5),
    (Op::Log, f64::ln, 1.0, 1.5),
    (Op::Asinh, |x| if x.abs() > 1e9 { (x.abs().ln() + 2f64.ln()).copysign(x) } else { x.asinh() }, 4.0, 4.0),
    (
        Op::Acosh,
        |x| {
            if x < 1.0 {
                f64::NAN
            } else if x > 1e9 {
                x.ln() + 2f64.ln()
            } else {
                (x - 1.0 + ((x - 1.0) * (x + 1.0)).sqrt()).ln_1p()
            }
        },
        4.0,
        4.0,
    ),
    (Op::Atanh, |x| (0.5 * (2.0 * x.abs() / (1.0 - x.abs())).ln_1p()).copysign(x), 4.0, 4.0),
    (Op::Asin, f64::asin, 2.5, 2.5),
    (Op::Acos, f64::acos, 2.5, 2.5),
    (Op::Atan, f64::atan, 2.5, 2.5),
];

/// Results below the smallest normal number may be flushed to 0.
#[test]
fn errors_stay_within_the_stated_bounds() {
    let mut report = Vec::new();
    for &(op, want, single, double) in CASES {
        let flushed = matches!(op, Op::Exp | Op::Sigmoid);
        let (e, x) = worst32(op, f32::MAX, want, |w| flushed && w != 0.0 && w.abs() < 1.7e-38);
        if e > single {
            report.push(format!("{} f32: {e} ulp at {x:e}, bound {single}", op.name()));
        }
        let (e, x) = worst64(op, f64::MAX, want, |w| flushed && w != 0.0 && w.abs() < 3.2e-308);
        if e > double {
            report.push(format!("{} f64: {e} ulp at {x:e}, bound {double}", op.name()));
        }
    }
    for (op, want, bound) in
        [(Op::Sin, f64::sin as fn(f64) -> f64, 2.0), (Op::Cos, f64::cos, 2.5), (Op::Tan, f64::tan, 4.0)]
    {
        let (e, x) = worst32(op, 1e5, want, |_| false);
        if e > bound {
            report.push(format!("{} f32: {e} ulp at {x:e}, bound {bound}", op.name()));
        }
        let (e, x) = worst64(op, 1e9, want, |_| false);
        if e > bound {
            report.push(format!("{} f64: {e} ulp at {x:e}, bound {bound}", op.name()));
        }
    }
    let erf = |x| eval64(Op::Erf, &[x]);
    let (e, x) = worst32(Op::Erf, f32::MAX, erf, |_| false);
    if e > 6.0 {
        report.push(format!("erf f32: {e} ulp at {x:e}"));
    }
    assert!(report.is_empty(), "{}", report.join("\n"));
}

/// Where their curves are flat, rounding must not lead past the limits.
#[test]
fn tanh_and_erf_stay_within_their_limits() {
    for op in [Op::Tanh, Op::Erf] {
        let beyond = (0x3f80_0000..0x4140_0000).step_by(101).map(f32::from_bits).find(|&x| {
            let [y, negative] = [x, -x].map(|x| both(op, &scalars32(&[x])).map(|y| y.to_f64()));
            y.iter().zip(negative).any(|(&y, negative)| y > 1.0 || negative != -y || (x > 9.1 && y != 1.0))
        });
        assert_eq!(beyond, None, "{}", op.name());
    }
}

/// Values from a computation with 40 digits.
#[test]
fn erf_of_double_matches_known_values() {
    for (x, want) in [
        (0.0, 0.0),
        (1e-9, 1.128_379_167_095_512_6e-9),
        (0.1, 0.112_462_916_018_284_9),
        (0.5, 0.520_499_877_813_046_5),
        (0.85, 0.770_668_057_608_352_6),
        (1.2, 0.910_313_978_229_635_4),
        (1.3, 0.934_007_944_940_652_4),
        (2.0, 0.995_322_265_018_952_7),
        (2.9, 0.999_958_902_121_900_5),
        (4.0, 0.999_999_984_582_742_1),
        (7.0, 1.0),
    ] {
        assert!(ulps64(eval64(Op::Erf, &[x]), want) <= 1.5, "erf({x}) = {}", eval64(Op::Erf, &[x]));
        assert!(ulps64(eval64(Op::Erf, &[-x]), -want) <= 1.5, "erf(-{x})");
    }
}

#[test]
fn large_angles_stay_within_one() {
    for x in [1e6f32, 3e9, 1e20, f32::MAX] {
        assert!(eval32(Op::Sin, &[x]).abs() <= 1.0 && eval32(Op::Cos, &[x]).abs() <= 1.0);
    }
    assert!(eval32(Op::Sin, &[f32::INFINITY]).is_nan());
}

#[test]
fn pow_is_that_of_c() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        0.5,
        -0.5,
        2.0,
        -2.0,
        3.0,
        -3.0,
        1e-40,
        1e38,
    ];
    for x in special {
        for y in special {
            let want = (f64::from(x as f32)).powf(f64::from(y as f32));
            for got in both(Op::Pow, &scalars32(&[x as f32, y as f32])).map(|y| y.to_f64() as f32) {
                assert!(ulps32(got, want) <= 1.0, "pow({x}, {y}) f32: {got}, not {want}");
            }
            let want = x.powf(y);
            for got in both(Op::Pow, &scalars64(&[x, y])).map(|y| y.to_f64()) {
                assert!(ulps64(got, want) <= 1.0, "pow({x}, {y}) f64: {got}, not {want}");
            }
        }
    }
    let mut worst = 0f64;
    for i in 0..300 {
        for j in 0..300 {
            let (x, y) = (1.02f32.powi(i * 3 - 450) * 1.003, (j as f32 - 150.0) * 0.137);
            let want = f64::from(x).powf(f64::from(y));
            for got in both(Op::Pow, &scalars32(&[x, y])) {
                worst = worst.max(ulps32(got.to_f64() as f32, want));
            }
            let (x, y) = (f64::from(x), f64::from(y));
            for got in both(Op::Pow, &scalars64(&[x, y])) {
                worst = worst.max(ulps64(got.to_f64(), x.powf(y)));
            }
        }
    }
    assert!(worst <= 1.0, "{worst}");
}

#[test]
fn remainders_are_exact() {
    for (a, b) in [
        (5.5f32, 2.0),
        (-5.5, 2.0),
        (5.5, -2.0),
        (-4.3, 2.1),
        (1e10, 3.7),
        (1e-3, 7.0),
        (6.0, 3.0),
        (123_456.7, 0.1),
    ] {
        assert_eq!(eval32(Op::Rem, &[a, b]), a % b, "{a} rem {b}");
        let want = if (a % b) != 0.0 && ((a % b) < 0.0) != (b < 0.0) { a % b + b } else { a % b };
        assert_eq!(eval32(Op::Mod, &[a, b]), want, "{a} mod {b}");
    }
    let int = |op, a: i64, b: i64| {
        eval(op, &[Scalar::from_i64(DType::I32, a), Scalar::from_i64(DType::I32, b)]).to_i64()
    };
    assert_eq!((int(Op::Mod, -7, 3), int(Op::Rem, -7, 3), int(Op::Mod, 7, 0)), (2, -1, 0));
    assert_eq!((int(Op::Pow, -3, 3), int(Op::Pow, 2, -1), int(Op::Pow, -1, -3)), (-27, 0, -1));
    assert_eq!(int(Op::Div, i64::from(i32::MIN), -1), i64::from(i32::MIN));
}
