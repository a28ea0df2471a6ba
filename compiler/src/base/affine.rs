//! Affine forms over numbered variables: `3 + 2*v0 - v4`.
//!
//! Indices, addresses and loop bounds are affine, so that they can be composed, and proved in
//! bounds, without a simplifier. Kept canonical: terms sorted by variable, no zero coefficient.
//!
//! Variables from [`SIZE`] on are sizes known only at run time. Such a variable's number carries which
//! size it is and the largest value, so that the range of a form is known wherever it goes, and
//! renaming the other variables leaves it alone.

/// The first variable that is a size.
pub const SIZE: u32 = 1 << 31;

/// How many bits of such a variable's lower 30 are the bound, below the number: sizes are many, or few and large. The
/// bit above says which.
const BOUND_BITS: [u32; 2] = [21, 24];

/// The bits of number and bound.
const BITS: u32 = 30;

/// How many sizes there may be.
pub const MAX_SIZES: usize = 1 << (BITS - BOUND_BITS[0]);
/// The largest bound of a size.
pub const MAX_SIZE: usize = (1 << BOUND_BITS[1]) - 1;

/// The variable of a size that lies in `0..=max`; `None` beyond [`MAX_SIZE`] or [`MAX_SIZES`], and where it is both
/// large and one of many.
pub fn size_var(number: usize, max: usize) -> Option<u32> {
    let fits = |bits: u32| max >> bits == 0 && number >> (BITS - bits) == 0;
    let form = BOUND_BITS.iter().position(|&bits| fits(bits))?;
    Some(SIZE | (form as u32) << BITS | (number as u32) << BOUND_BITS[form] | max as u32)
}

/// Number and bound of the size that a variable is; `None` for other variables.
pub fn as_size(var: u32) -> Option<(usize, usize)> {
    let bits = BOUND_BITS[(var >> BITS & 1) as usize];
    let (number, max) = ((var & ((1 << BITS) - 1)) >> bits, var & ((1 << bits) - 1));
    (var >= SIZE).then_some((number as usize, max as usize))
}

/// `base + sum(coefficient * variable)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Affine {
    /// The constant part.
    pub base: i64,
    /// `(variable, coefficient)`, sorted by variable, no coefficient zero.
    pub terms: Vec<(u32, i64)>,
}

impl Affine {
    /// A constant.
    pub fn constant(base: i64) -> Self {
        Affine { base, terms: Vec::new() }
    }

    /// One variable.
    pub fn var(var: u32) -> Self {
        Affine { base: 0, terms: vec![(var, 1)] }
    }

    /// Adds `coefficient * var`.
    pub fn add_term(&mut self, var: u32, coefficient: i64) {
        match self.terms.binary_search_by_key(&var, |t| t.0) {
            Ok(i) => {
                self.terms[i].1 += coefficient;
                if self.terms[i].1 == 0 {
                    self.terms.remove(i);
                }
            }
            Err(_) if coefficient == 0 => {}
            Err(i) => self.terms.insert(i, (var, coefficient)),
        }
    }

    /// The sum of two forms.
    pub fn plus(&self, other: &Affine) -> Affine {
        self.plus_scaled(other, 1)
    }

    /// `self + factor * other`.
    pub fn plus_scaled(&self, other: &Affine, factor: i64) -> Affine {
        let mut sum = self.clone();
        sum.base += factor * other.base;
        other.terms.iter().for_each(|&(v, c)| sum.add_term(v, factor * c));
        sum
    }

    /// `factor * self`.
    pub fn scaled(&self, factor: i64) -> Affine {
        Affine::default().plus_scaled(self, factor)
    }

    /// `self + offset`.
    pub fn offset(&self, offset: i64) -> Affine {
        Affine { base: self.base + offset, terms: self.terms.clone() }
    }

    /// The coefficient of a variable; 0 where it does not occur.
    pub fn coefficient(&self, var: u32) -> i64 {
        self.terms.iter().find(|t| t.0 == var).map_or(0, |t| t.1)
    }

    /// Replaces a variable by an affine form.
    pub fn substitute(&self, var: u32, by: &Affine) -> Affine {
        let factor = self.coefficient(var);
        if factor == 0 {
            return self.clone();
        }
        let mut rest = self.clone();
        rest.add_term(var, -factor);
        rest.plus_scaled(by, factor)
    }

    /// Replaces every variable at once, but sizes.
    pub fn map_vars(&self, by: impl Fn(u32) -> Affine) -> Affine {
        self.terms.iter().fold(Affine::constant(self.base), |mut sum, &(v, c)| match v {
            SIZE.. => {
                sum.add_term(v, c);
                sum
            }
            _ => sum.plus_scaled(&by(v), c),
        })
    }

    /// Replaces the sizes by numbers.
    pub fn with_sizes(&self, value: impl Fn(usize) -> i64) -> Affine {
        self.terms.iter().fold(Affine::constant(self.base), |mut sum, &(v, c)| {
            match as_size(v) {
                Some((number, _)) => sum.base += c * value(number),
                None => sum.add_term(v, c),
            }
            sum
        })
    }

    /// Whether a size occurs.
    pub fn has_size(&self) -> bool {
        self.terms.last().is_some_and(|t| t.0 >= SIZE)
    }

    /// The value under an assignment of the variables.
    pub fn eval(&self, value: impl Fn(u32) -> i64) -> i64 {
        self.terms.iter().fold(self.base, |sum, &(v, c)| sum + c * value(v))
    }

    /// True where no variable occurs.
    pub fn is_constant(&self) -> bool {
        self.terms.is_empty()
    }

    /// The smallest and the largest value when each variable `v` lies in `0..extent(v)`, and sizes
    /// in their bounds.
    pub fn range(&self, extent: impl Fn(u32) -> usize) -> (i64, i64) {
        self.terms.iter().fold((self.base, self.base), |(lo, hi), &(v, c)| {
            let extent = as_size(v).map_or_else(|| extent(v), |(_, max)| max + 1);
            let most = c * (extent as i64 - 1).max(0);
            (lo + most.min(0), hi + most.max(0))
        })
    }

    /// Text form with the given names of variables: `2*oh + kh - 1`.
    pub fn display(&self, name: impl Fn(u32) -> String) -> String {
        let mut text = String::new();
        for &(v, c) in &self.terms {
            let sign = if c < 0 { "-" } else { "+" };
            match (text.is_empty(), c < 0) {
                (true, true) => text.push('-'),
                (true, false) => {}
                _ => text.push_str(&format!(" {sign} ")),
            }
            if c.abs() != 1 {
                text.push_str(&format!("{}*", c.abs()));
            }
            match as_size(v) {
                Some((number, max)) => text.push_str(&format!("?{number}:{max}")),
                None => text.push_str(&name(v)),
            }
        }
        if text.is_empty() {
            return self.base.to_string();
        }
        match self.base {
            0 => {}
            b if b < 0 => text.push_str(&format!(" - {}", -b)),
            b => text.push_str(&format!(" + {b}")),
        }
        text
    }
}

/// A loop bound: the largest (for a lower bound) or smallest (for an upper bound) of affine forms.
/// One form almost always; two where a padded border shortens a reduction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bound(pub Vec<Affine>);

impl Bound {
    /// A constant bound.
    pub fn constant(value: i64) -> Self {
        Bound(vec![Affine::constant(value)])
    }

    /// The value, where it is one constant.
    pub fn as_constant(&self) -> Option<i64> {
        match self.0.as_slice() {
            [one] if one.is_constant() => Some(one.base),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SIZE, MAX_SIZES, as_size, size_var};

    #[test]
    fn sizes_are_many_or_large() {
        let many = [(0, 0), (0, MAX_SIZE), (63, MAX_SIZE), (64, 1 << 20), (MAX_SIZES - 1, (1 << 21) - 1)];
        for size in many {
            assert_eq!(size_var(size.0, size.1).and_then(as_size), Some(size));
        }
        let none = [(0, MAX_SIZE + 1), (64, 1 << 21), (MAX_SIZES, 1)];
        assert!(none.iter().all(|&(number, max)| size_var(number, max).is_none()));
        assert_eq!(as_size(7), None);
    }
}
