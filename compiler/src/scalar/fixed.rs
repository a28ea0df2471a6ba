//! Fixed-point factors that round as products of floats do.
//!
//! Quantization scales an exact sum in floats and rounds it, halves to even. Integer instructions compute
//! `(sum * factor / 2^(31 + shift))` to nearest, halves up, which is another number where the float product is
//! rounded to a half. The least sum above each integer sets bounds to a factor that gives the same integers;
//! where two such halves contradict each other there is none, and a scale a few units in its last place away
//! has one.

use std::ops::{Range, RangeInclusive};

/// How much the factor differs from the scale at most, in parts.
const NEAR: f64 = 1.0 / (1 << 24) as f64;
/// How near to a sum its product is rounded otherwise, by conversions, products and the factor.
const DOUBTFUL: f64 = 1.0 / (1 << 21) as f64;
/// Floats that are tried on each side of a scale.
const TRIED: u32 = 16;

/// A sum as a float, times some factors one after the other.
pub fn scaled(sum: i64, scales: &[f32]) -> f32 {
    scales.iter().fold(sum as f32, |product, scale| product * scale)
}

/// The most bits to shift by with which factors for scales up to this one are below 1: one of few, so that
/// kernels are alike.
pub fn shift(most: f64) -> Option<u32> {
    (1..=16).rev().step_by(3).find(|&shift| most * f64::from(1 << shift) < 1.0)
}

/// The factor, over `2^(31 + shift)`, with which `sums` round to more than each of `steps` where their
/// products with the scales do.
pub fn factor(scales: &[f32], shift: u32, sums: &RangeInclusive<i64>, steps: Range<i64>) -> Option<i32> {
    let scale: f64 = scales.iter().map(|&s| f64::from(s)).product();
    if !scale.is_normal() || scale <= 0.0 {
        return (scale == 0.0).then_some(0);
    }
    let near = scale * 2f64.powi(31 + shift as i32);
    let doubtful = DOUBTFUL + 1.0 / near.max(1.0);
    let mut least = (near * (1.0 - NEAR)).floor() as i64;
    let mut greatest = ((near * (1.0 + NEAR)).ceil() as i64).min(i64::from(i32::MAX));
    for step in steps {
        let place = (step as f64 + 0.5) / scale;
        let nearest = place.round();
        let apart = (place - nearest).abs() > place.abs() * doubtful;
        if apart || nearest < *sums.start() as f64 - 1.0 || nearest > *sums.end() as f64 + 1.0 {
            continue;
        }
        let first = first_above(scales, step, sums, nearest as i64);
        let half = (2 * step + 1) << (30 + shift);
        // `first * factor >= half`, and of the sum below it not.
        match first {
            _ if first > *sums.end() => {}
            0 if half > 0 => return None,
            0 => {}
            1.. => least = least.max(-(-half).div_euclid(first)),
            _ => greatest = greatest.min((-half).div_euclid(-first)),
        }
        match first - 1 {
            last if last < *sums.start() => {}
            0 if half <= 0 => return None,
            0 => {}
            last @ 1.. => greatest = greatest.min((half - 1).div_euclid(last)),
            last => least = least.max((-half).div_euclid(-last) + 1),
        }
    }
    (least <= greatest).then(|| (near.round() as i64).clamp(least, greatest) as i32)
}

/// The float nearest to one of which scales are made that have a factor; itself where none is near, or where
/// sums are scaled to halves exactly: those are meant.
pub fn settled(
    float: f32,
    scales: impl Fn(f32) -> Vec<f32>,
    shift: u32,
    sums: &RangeInclusive<i64>,
    steps: Range<i64>,
) -> f32 {
    let has = |float: &f32| factor(&scales(*float), shift, sums, steps.clone()).is_some();
    if has(&float) || has_halves(&scales(float), sums, steps.clone()) {
        return float;
    }
    let bits = |by: u32| [float.to_bits().checked_add(by), float.to_bits().checked_sub(by)];
    let near = (1..=TRIED).flat_map(bits).flatten().map(f32::from_bits);
    near.into_iter().find(has).unwrap_or(float)
}

/// Whether some sum lies between two integers exactly.
fn has_halves(scales: &[f32], sums: &RangeInclusive<i64>, mut steps: Range<i64>) -> bool {
    let scale: f64 = scales.iter().map(|&s| f64::from(s)).product();
    steps.any(|step| {
        let place = (step as f64 + 0.5) / scale;
        place.fract() == 0.0 && sums.contains(&(place as i64))
    })
}

/// The least sum that is scaled to what rounds to more than an integer; past the largest where none is.
pub(super) fn first_above(scales: &[f32], step: i64, sums: &RangeInclusive<i64>, near: i64) -> i64 {
    let above = |sum: i64| scaled(sum, scales).round_ties_even() as i64 > step;
    let mut first = near.clamp(*sums.start(), sums.end() + 1);
    while first > *sums.start() && above(first - 1) {
        first -= 1;
    }
    while first <= *sums.end() && !above(first) {
        first += 1;
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kernels compute it.
    fn rounded(sum: i64, factor: i32, shift: u32) -> i64 {
        (((sum * i64::from(factor)) >> 31) + (1 << (shift - 1))) >> shift
    }

    #[test]
    fn factors_round_as_floats_do() {
        let (mut fixed, mut settling) = (0, 0);
        let sums = -29_000..=30_000;
        for i in 0..300u32 {
            let first = (0.0001 + 0.00037 * (i * i % 397) as f32) * 0.83;
            let others: &[f32] = if i % 3 == 0 { &[] } else { &[0.3 + 0.001 * i as f32] };
            let settle = settled(first, |s| [&[s], others].concat(), 2, &sums, -129..128);
            settling += u32::from(settle != first);
            let scales = [&[settle], others].concat();
            let shift = shift(0.2).unwrap();
            let Some(factor) = factor(&scales, shift, &sums, -129..128) else { continue };
            fixed += 1;
            for sum in sums.clone() {
                let want = scaled(sum, &scales).round_ties_even() as i64;
                let got = rounded(sum, factor, shift);
                assert_eq!(got.clamp(-129, 128), want.clamp(-129, 128), "{sum} * {scales:?}");
            }
        }
        assert!(fixed > 290 && settling < 60, "{fixed} of 300, {settling} elsewhere");
    }

    #[test]
    fn halves_to_even_have_no_factor() {
        // 1 / 4: 2 rounds down, 6 up.
        assert_eq!(factor(&[0.25], 1, &(-1000..=1000), -129..128), None);
        assert!(factor(&[0.25], 1, &(-3..=3), -129..128).is_some(), "one of them alone has");
        assert_eq!(settled(0.25, |s| vec![s], 1, &(-1000..=1000), -129..128), 0.25);
        assert_eq!(shift(0.5), None);
        assert_eq!(factor(&[f32::NAN], 1, &(-3..=3), -129..128), None);
    }
}
