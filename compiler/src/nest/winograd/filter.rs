//! The transforms of minimal filtering, as matrices: of inputs, of weights, of products.
//!
//! For `m` outputs of a window of `r` points: `y = A ((G w) * (B x))` with `m + r - 1` products. The points of
//! interpolation are 0, 1, -1 and infinity; 2 and -2 as well for six products (Lavin and Gray,
//! arXiv:1509.09308). So 4 outputs of 3 points, 3 of 4, and 2 of 5 have the same inputs.
//!
//! Integers have whole matrices: the rows of `G` are scaled up, those of `A` make what comes out a multiple
//! of the outputs, by [`Filter::multiple`] along each axis ([`quotient`]). An odd part of it is divided by as a product
//! with its inverse modulo 2^32, so that sums may wrap on their way.

use crate::nest::emit::Emitter;
use crate::tile::{Bin, Lane, Reg, RegType, Value};

/// The matrices for one number of outputs.
pub struct Filter {
    /// Inputs to factors, by matrices one after the other, of which the last has `m + r - 1` rows.
    pub inputs: &'static [&'static [&'static [f64]]],
    /// Weights to factors: `m + r - 1` rows.
    pub weights: &'static [&'static [f64]],
    /// Products to outputs: `m` rows.
    pub outputs: &'static [&'static [f64]],
    /// What the outputs are multiplied by.
    pub multiple: i64,
}

const INPUTS_OF_FOUR: &[&[f64]] = &[
    &[4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    &[0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    &[0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    &[0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    &[0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    &[0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
];

/// The same in two steps, which need fewer additions where factors are made of them.
const PARTS_OF_FOUR: &[&[f64]] = &[
    &[0.0, 0.0, -1.0, 0.0, 1.0, 0.0],
    &[0.0, -1.0, 0.0, 1.0, 0.0, 0.0],
    &[0.0, 0.0, -4.0, 0.0, 1.0, 0.0],
    &[0.0, -4.0, 0.0, 1.0, 0.0, 0.0],
    &[1.0, 0.0, -1.0, 0.0, 0.0, 0.0],
    &[0.0, 0.0, 0.0, -1.0, 0.0, 1.0],
];
const JOINED_OF_FOUR: &[&[f64]] = &[
    &[1.0, 0.0, 0.0, 0.0, 4.0, 0.0],
    &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0],
    &[0.0, 0.0, 1.0, -1.0, 0.0, 0.0],
    &[1.0, 2.0, 0.0, 0.0, 0.0, 0.0],
    &[1.0, -2.0, 0.0, 0.0, 0.0, 0.0],
    &[0.0, -4.0, 0.0, 0.0, 0.0, 1.0],
];

const FOUR: Filter = Filter {
    inputs: &[INPUTS_OF_FOUR],
    weights: &[
        &[1.0 / 4.0, 0.0, 0.0],
        &[-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        &[-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        &[1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        &[1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        &[0.0, 0.0, 1.0],
    ],
    outputs: &[
        &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        &[0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        &[0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        &[0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
    ],
    multiple: 1,
};

/// Three outputs of four points.
const THREE: Filter = Filter {
    inputs: &[INPUTS_OF_FOUR],
    weights: &[
        &[1.0 / 4.0, 0.0, 0.0, 0.0],
        &[-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        &[-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0, 1.0 / 6.0],
        &[1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0, 1.0 / 3.0],
        &[1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0, -1.0 / 3.0],
        &[0.0, 0.0, 0.0, 1.0],
    ],
    outputs: &[
        &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        &[0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        &[0.0, 1.0, 1.0, 4.0, 4.0, 1.0],
    ],
    multiple: 1,
};

/// Two outputs of five points.
const TWO_OF_FIVE: Filter = Filter {
    inputs: &[INPUTS_OF_FOUR],
    weights: &[
        &[1.0 / 4.0, 0.0, 0.0, 0.0, 0.0],
        &[-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        &[-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        &[1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0, 1.0 / 3.0, 2.0 / 3.0],
        &[1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0, -1.0 / 3.0, 2.0 / 3.0],
        &[0.0, 0.0, 0.0, 0.0, 1.0],
    ],
    outputs: &[&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, 2.0, -2.0, 1.0]],
    multiple: 1,
};

/// Two signed bytes' worth of weights are 144 times as large at most, of inputs 100 times: 16 bits hold both.
const WHOLE_FOUR: Filter = Filter {
    inputs: &[PARTS_OF_FOUR, JOINED_OF_FOUR],
    weights: &[
        &[6.0, 0.0, 0.0],
        &[-4.0, -4.0, -4.0],
        &[-4.0, 4.0, -4.0],
        &[1.0, 2.0, 4.0],
        &[1.0, -2.0, 4.0],
        &[0.0, 0.0, 12.0],
    ],
    outputs: &[
        &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        &[0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        &[0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        &[0.0, 1.0, -1.0, 8.0, -8.0, 2.0],
    ],
    multiple: 24,
};

const INPUTS_OF_TWO: &[&[f64]] =
    &[&[1.0, 0.0, -1.0, 0.0], &[0.0, 1.0, 1.0, 0.0], &[0.0, -1.0, 1.0, 0.0], &[0.0, -1.0, 0.0, 1.0]];
const OUTPUTS_OF_TWO: &[&[f64]] = &[&[1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, 1.0]];

const TWO: Filter = Filter {
    inputs: &[INPUTS_OF_TWO],
    weights: &[&[1.0, 0.0, 0.0], &[0.5, 0.5, 0.5], &[0.5, -0.5, 0.5], &[0.0, 0.0, 1.0]],
    outputs: OUTPUTS_OF_TWO,
    multiple: 1,
};

const WHOLE_TWO: Filter = Filter {
    inputs: &[INPUTS_OF_TWO],
    weights: &[&[2.0, 0.0, 0.0], &[1.0, 1.0, 1.0], &[1.0, -1.0, 1.0], &[0.0, 0.0, 2.0]],
    outputs: OUTPUTS_OF_TWO,
    multiple: 2,
};

/// Along rows over which no window moves.
pub const SINGLE: Filter =
    Filter { inputs: &[&[&[1.0]]], weights: &[&[1.0]], outputs: &[&[1.0]], multiple: 1 };

/// The matrices for tiles of so many outputs of parts of so many points, of integers or of floats.
pub fn filter(size: (usize, usize), whole: bool) -> &'static Filter {
    match (size, whole) {
        ((2, 5), _) => &TWO_OF_FIVE,
        ((2, _), false) => &TWO,
        ((2, _), true) => &WHOLE_TWO,
        ((3, _), _) => &THREE,
        (_, false) => &FOUR,
        (_, true) => &WHOLE_FOUR,
    }
}

/// The outputs are what comes out, filtered down and across, times an odd number modulo 2^32, over so many powers of two.
pub fn quotient(filters: [&Filter; 2]) -> (u32, u32) {
    let multiple = filters.iter().map(|f| f.multiple as u32).product::<u32>();
    let powers = multiple.trailing_zeros();
    let odd = multiple >> powers;
    // Each step doubles the bits that are right, of which an odd number is three to begin with.
    let inverse = (0..4).fold(odd, |x, _| x.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(x))));
    (inverse, powers)
}

/// What is transformed: the type of the registers, and how they are added and subtracted.
#[derive(Clone, Copy)]
pub struct Numbers {
    /// The registers' type.
    pub ty: RegType,
    /// The sum of two.
    pub add: Bin,
    /// Their difference.
    pub sub: Bin,
}

/// Matrices one after the other times a vector of registers, of which those that are `None` are zero.
pub fn transform(e: &mut Emitter, ty: Numbers, matrices: &[&[&[f64]]], x: &[Option<Reg>]) -> Vec<Reg> {
    let Some((matrix, after)) = matrices.split_first() else { return Vec::new() };
    let rows = 0..matrix.len();
    if after.is_empty() {
        return rows.map(|row| row_of(e, ty, matrix, row, x)).collect();
    }
    let zero = |row: usize| matrix[row].iter().zip(x).all(|(&factor, x)| factor == 0.0 || x.is_none());
    let parts: Vec<Option<Reg>> =
        rows.map(|row| (!zero(row)).then(|| row_of(e, ty, matrix, row, x))).collect();
    transform(e, ty, after, &parts)
}

fn row_of(e: &mut Emitter, ty: Numbers, matrix: &[&[f64]], row: usize, x: &[Option<Reg>]) -> Reg {
    let Some(twin) = twin(matrix, row) else {
        let terms = paired(e, ty, matrix, row, x);
        return sum(e, ty, terms);
    };
    // Two rows that differ in signs alone share their parts: what both have, and what changes sign.
    let (first, second) = (matrix[row.min(twin)], matrix[row.max(twin)]);
    let part = |same: bool| -> Vec<(f64, Reg)> {
        (0..x.len())
            .filter(|&i| first[i] != 0.0 && (first[i] == second[i]) == same)
            .filter_map(|i| Some((first[i], x[i]?)))
            .collect()
    };
    let (both, mut changing) = (part(true), part(false));
    let scale = changing.iter().map(|t| t.0.abs()).fold(f64::INFINITY, f64::min);
    changing.iter_mut().for_each(|t| t.0 /= scale);
    let sign = if row < twin { 1.0 } else { -1.0 };
    match (both.is_empty(), changing.is_empty()) {
        (_, true) => sum(e, ty, both),
        (true, false) => {
            let changing = sum(e, ty, changing);
            sum(e, ty, vec![(sign * scale, changing)])
        }
        (false, false) => {
            let (both, changing) = (sum(e, ty, both), sum(e, ty, changing));
            sum(e, ty, vec![(1.0, both), (sign * scale, changing)])
        }
    }
}

/// The neighbouring row that differs in signs alone.
fn twin(matrix: &[&[f64]], row: usize) -> Option<usize> {
    let alike = |other: usize| {
        let pairs = || matrix[row].iter().zip(matrix[other]);
        pairs().all(|(a, b)| a.abs() == b.abs()) && pairs().any(|(a, b)| *a != 0.0 && a == b)
    };
    let pair = if row % 2 == 1 { row + 1 } else { row.checked_sub(1)? };
    (row > 0 && pair < matrix.len() && alike(pair)).then_some(pair)
}

/// The terms of a row; two neighbours with one factor are added, or subtracted, first: other rows
/// have the same sums.
fn paired(e: &mut Emitter, ty: Numbers, matrix: &[&[f64]], row: usize, x: &[Option<Reg>]) -> Vec<(f64, Reg)> {
    let row = matrix[row];
    let pair = |i: usize| {
        let together = |m: &&[f64]| m[i].abs() == m[i + 1].abs();
        i % 2 == 1 && i + 1 < row.len() && matrix.iter().all(together)
    };
    let (mut terms, mut i) = (Vec::new(), 0);
    while i < row.len() {
        let factor = row[i];
        match (factor != 0.0 && pair(i), x[i]) {
            (true, Some(a)) if x[i + 1].is_some() => {
                let bin = if row[i + 1] == factor { ty.add } else { ty.sub };
                terms.push((factor, e.value(ty.ty, Value::Bin(bin, a, x[i + 1].unwrap_or(a)))));
                i += 1;
            }
            (_, Some(a)) if factor != 0.0 => terms.push((factor, a)),
            _ => {}
        }
        i += 1;
    }
    terms
}

/// A sum of registers with factors.
fn sum(e: &mut Emitter, numbers: Numbers, mut terms: Vec<(f64, Reg)>) -> Reg {
    let ty = numbers.ty;
    let unit = terms.iter().position(|t| t.0 == 1.0).unwrap_or(0);
    let constant = |e: &mut Emitter, f: f64| e.value(ty, Value::Const(u64::from((f as f32).to_bits())));
    if terms.is_empty() {
        return constant(e, 0.0);
    }
    if ty.lane == Lane::I32 {
        return whole_sum(e, numbers, terms, unit);
    }
    let (factor, first) = terms.remove(unit);
    let mut total = match factor {
        1.0 => first,
        _ => {
            let factor = constant(e, factor);
            e.value(ty, Value::Bin(Bin::Mul, first, factor))
        }
    };
    for (factor, reg) in terms {
        let value = match factor {
            1.0 => Value::Bin(numbers.add, total, reg),
            -1.0 => Value::Bin(numbers.sub, total, reg),
            _ => Value::Mla(total, reg, constant(e, factor)),
        };
        total = e.value(ty, value);
    }
    total
}

/// The same of integers, whose factors are made of additions, beginning with a term.
fn whole_sum(e: &mut Emitter, numbers: Numbers, mut terms: Vec<(f64, Reg)>, first: usize) -> Reg {
    let ty = numbers.ty;
    let (factor, reg) = terms.remove(first);
    let mut total = repeated(e, numbers, reg, factor.abs() as u32);
    if factor < 0.0 {
        let zero = e.value(ty, Value::Const(0));
        total = e.value(ty, Value::Bin(numbers.sub, zero, total));
    }
    for (factor, reg) in terms {
        let term = repeated(e, numbers, reg, factor.abs() as u32);
        let bin = if factor > 0.0 { numbers.add } else { numbers.sub };
        total = e.value(ty, Value::Bin(bin, total, term));
    }
    total
}

/// So many times a register, by doubling, or by a shift.
fn repeated(e: &mut Emitter, numbers: Numbers, reg: Reg, times: u32) -> Reg {
    if times.is_power_of_two() && times > 2 && numbers.add == Bin::Add {
        let powers = e.value(numbers.ty, Value::Const(u64::from(times.trailing_zeros())));
        return e.value(numbers.ty, Value::Bin(Bin::Shl, reg, powers));
    }
    let add = |e: &mut Emitter, a: Reg, b: Reg| e.value(numbers.ty, Value::Bin(numbers.add, a, b));
    match times {
        0 | 1 => reg,
        _ => {
            let half = repeated(e, numbers, reg, times / 2);
            let even = add(e, half, half);
            if times.is_multiple_of(2) { even } else { add(e, even, reg) }
        }
    }
}
