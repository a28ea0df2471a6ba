//! Factors with which one multiply-add scales and rounds as products of floats do.
//!
//! Between `2^23` and `2^24` floats are the integers, and an integer that is added to the bits of one is added to
//! its number. A sum that begins with the bits of such a float `N` is a float without a conversion, and
//! `(N + sum) * scale + offset`, where that lies between them again, is rounded to an integer, halves to even, whose
//! low bits the result holds. `N * scale` has a fraction, which no offset takes off exactly. So `N` is one of the
//! millions with which that fraction is small enough to move no sum over the half between two integers: the
//! integers are those of the product of floats, for every sum. Where sums leave the range of these floats, beyond
//! the least and the greatest integer that counts, further ones still are further away.

use super::fixed::first_above;
use std::ops::{Range, RangeInclusive};

/// The first float of which the next one is 1 more.
const FIRST: i64 = 1 << 23;
/// Its bits.
const BITS: i32 = 0x4b00_0000;
/// What results are moved by: their low 16 bits are those of the integer.
pub const PLACE: i64 = 3 << 22;
/// Integers that 16 bits hold.
const MOST: i64 = i16::MAX as i64;
/// Sums up to here end at no infinity.
const SUMS: i64 = 1 << 27;
/// Floats that are tried on each side of a scale.
const TRIED: i32 = 8;

/// What takes the place of a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// What sums begin with.
    pub begin: i32,
    /// What they are multiplied by as floats.
    pub scale: f32,
    /// What is added.
    pub offset: f32,
}

impl Factors {
    /// The integer of a sum, as kernels compute it, less [`PLACE`].
    pub fn rounded(&self, sum: i64) -> i64 {
        let float = f32::from_bits((self.begin as u32).wrapping_add(sum as u32));
        float.mul_add(self.scale, self.offset) as i64 - PLACE
    }
}

/// Factors with which `sums` round to more than each of `steps` where their products with the scales do; `zero` is
/// added to the integers.
pub fn factors(scales: &[f32], sums: &RangeInclusive<i64>, steps: Range<i64>, zero: i64) -> Option<Factors> {
    let scale: f64 = scales.iter().map(|&s| f64::from(s)).product();
    if *sums.start() < -SUMS || *sums.end() > SUMS {
        return None;
    }
    if scale == 0.0 {
        return Some(Factors { begin: BITS, scale: 0.0, offset: (PLACE + zero) as f32 });
    }
    if !(scale as f32).is_normal() || scale <= 0.0 {
        return None;
    }
    // Of each step the first sum above it.
    let near = |step: i64| ((step as f64 + 0.5) / scale).clamp(-1e15, 1e15).round() as i64;
    let firsts: Vec<(i64, i64)> =
        steps.map(|step| (step, first_above(scales, step, sums, near(step)))).collect();
    let floats = (0..=TRIED).flat_map(|by| [by, -by]).skip(1);
    let floats = floats.filter_map(|by| (scale as f32).to_bits().checked_add_signed(by));
    let fits = |f: &Factors| {
        let beside = |&(step, first): &(i64, i64)| {
            (first > *sums.end() || f.rounded(first) - zero > step)
                && (first <= *sums.start() || f.rounded(first - 1) - zero <= step)
        };
        [*sums.start(), *sums.end()].iter().all(|&s| f.rounded(s).abs() <= MOST) && firsts.iter().all(beside)
    };
    floats.filter_map(|bits| of_scale(f32::from_bits(bits), sums, &firsts, zero)).find(fits)
}

/// The factors with one scale; `firsts` are steps with the first sum above each.
fn of_scale(scale: f32, sums: &RangeInclusive<i64>, firsts: &[(i64, i64)], zero: i64) -> Option<Factors> {
    // The scale as `times / 2^bits`; all that follows is counted in those parts.
    let bits = 150 - (scale.to_bits() >> 23) as i32;
    if !(1..=62).contains(&bits) {
        return None;
    }
    let times = i128::from(scale.to_bits() & 0x7f_ffff | 0x80_0000);
    let whole = 1i128 << bits;
    // What the fraction lies between, without both, and the sums that count.
    let (mut least, mut most) = (-whole / 2, whole / 2);
    let beside = |&(_, first): &(i64, i64)| [first - 1, first].into_iter().filter(move |s| sums.contains(s));
    let (low, high) = firsts.iter().flat_map(beside).fold((0, 0), |(l, h), s| (s.min(l), s.max(h)));
    for &(step, first) in firsts {
        let half = i128::from(2 * step + 1) << (bits - 1);
        if first <= *sums.end() {
            least = least.max(half - i128::from(first) * times);
        }
        if first > *sums.start() {
            most = most.min(half - i128::from(first - 1) * times);
        }
    }
    (least, most) = (least + 1, most - 1);
    if least > most {
        return None;
    }
    let from = FIRST - low;
    let place = (least - i128::from(from) * times).rem_euclid(whole);
    let further = match place + (most - least) {
        last if last >= whole => 0,
        last => first_between(times % whole, whole, place, last)?,
    };
    let number = i64::try_from(further).ok()?.checked_add(from)?;
    if number + high >= 2 * FIRST {
        return None;
    }
    let product = i128::from(number) * times;
    let fraction = least + (product - least).rem_euclid(whole);
    let offset = PLACE + zero - i64::try_from((product - fraction) / whole).ok()?;
    // Floats hold integers up to here.
    let exact = offset.abs() <= 2 * FIRST;
    exact.then(|| Factors { begin: BITS.wrapping_add((number - FIRST) as i32), scale, offset: offset as f32 })
}

/// The least `x >= 0` with which `step * x` lies between `least` and `most`, both taken in, modulo `whole`.
fn first_between(step: i128, whole: i128, least: i128, most: i128) -> Option<i128> {
    if least == 0 {
        return Some(0);
    }
    if step == 0 {
        return None;
    }
    let x = (least + step - 1) / step;
    if x * step <= most {
        return Some(x);
    }
    // `step * x - whole * y` lies there: `whole * y` does between their negatives modulo the step.
    let y = first_between(whole % step, step, (-most).rem_euclid(step), (-least).rem_euclid(step))?;
    Some((least + whole * y + step - 1) / step)
}

#[cfg(test)]
mod tests {
    use super::super::fixed::scaled;
    use super::*;

    /// The integer of a product of floats.
    fn wanted(sum: i64, scales: &[f32]) -> i64 {
        scaled(sum, scales).round_ties_even() as i64
    }

    #[test]
    fn the_first_multiple_between_two_numbers_is_found() {
        for whole in 1..40 {
            for step in 0..whole {
                for least in 0..whole {
                    for most in least..whole {
                        let naive = (0..whole).find(|x| (least..=most).contains(&(step * x % whole)));
                        assert_eq!(first_between(step, whole, least, most), naive);
                    }
                }
            }
        }
    }

    #[test]
    fn multiply_adds_round_as_floats_do() {
        let mut found = 0;
        for i in 0..300i64 {
            let sums = -29_000 - 90 * i..=30_000 + 77 * i;
            let scales = [
                (0.0001 + 0.00037 * (i * i % 397) as f32) * 0.83,
                if i % 3 == 0 { 1.0 } else { 0.3 + 0.001 * i as f32 },
            ];
            let zero = i * 7 % 256 - 128;
            let steps = -129 - zero..128 - zero;
            let limited = |integer: i64| integer.clamp(steps.start, steps.end);
            let Some(factors) = factors(&scales, &sums, steps.clone(), zero) else { continue };
            found += 1;
            for sum in sums.clone() {
                let got = factors.rounded(sum) - zero;
                assert_eq!(limited(got), limited(wanted(sum, &scales)), "{sum} * {scales:?}");
                assert!(i16::try_from(got + zero).is_ok());
            }
        }
        assert!(found > 290, "{found} of 300");
    }

    #[test]
    fn sums_may_leave_the_range_of_floats() {
        let sums = -1 << 23..=(1 << 23) + 5;
        for scale in [0.00117, 0.000_913_47, 0.00123] {
            let factors = factors(&[scale], &sums, -129..128, 3).unwrap();
            for sum in sums.clone().step_by(7).chain(-300_000..300_000) {
                let got = (factors.rounded(sum) - 3).clamp(-129, 128);
                assert_eq!(got, wanted(sum, &[scale]).clamp(-129, 128), "{sum} * {scale}");
            }
        }
    }

    #[test]
    fn halves_are_rounded_to_even_or_have_no_factors() {
        // 1 / 4: 2 rounds down, 6 up.
        let sums = -1000..=1000;
        if let Some(factors) = factors(&[0.25], &sums, -129..128, 0) {
            let same = |s| factors.rounded(s).clamp(-129, 128) == wanted(s, &[0.25]).clamp(-129, 128);
            assert!(sums.clone().all(same));
        }
        assert_eq!(factors(&[f32::NAN], &sums, -129..128, 0), None);
        assert!(sums.clone().all(|s| factors(&[0.0], &sums, -129..128, 3).unwrap().rounded(s) == 3));
        assert_eq!(factors(&[0.1], &(-1 << 23..=1 << 23), -129..128, 0), None, "more than 16 bits");
    }
}
