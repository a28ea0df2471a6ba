//! Numbers as functions of sizes: what a number is in each sample decides which function it is.
//!
//! Affine functions are forms; others (a size divided by a stride, padded to a multiple, the product of
//! two sizes, the smaller of a size and a number) become a size of their own, computed at run time. How the
//! functions are found: [`super::rules`].

use super::derived::Derived;
use super::unlike;
use crate::base::affine::{MAX_SIZE, MAX_SIZES, as_size, size_var};
use crate::base::{Affine, DType, TensorType, gcd};
use crate::definition::{DefBuilder, ExprId, Lowering, Size, Stage};
use crate::error::Result;
use crate::scalar::Op;
use std::collections::{BTreeSet, HashMap, HashSet};

/// No number beyond is a form in sizes; products of those up to it with sizes are no overflow.
const LARGEST: u64 = 1 << 36;

/// Sizes up to which all are tried.
pub(super) const MAX_TRIED: i64 = 1 << 16;

/// Sizes that the caller may choose, by number; the others are at their bounds.
pub(super) type Point = Vec<(usize, i64)>;

/// Whether one of some numbers lies beyond.
pub(super) fn too_large(numbers: &[i64]) -> bool {
    numbers.iter().any(|n| n.unsigned_abs() > LARGEST)
}

/// A size and its value in each sample.
pub(super) struct Fact {
    pub(super) var: Option<u32>,
    pub(super) values: Vec<i64>,
    /// The largest value it has.
    pub(super) most: i64,
    /// Whether the run-time value is there already.
    pub(super) available: bool,
    /// What computes it from other sizes, where a rule does.
    pub(super) rule: Option<Derived>,
    /// Its values have this distance, or a multiple.
    pub(super) step: i64,
    /// What it is the sum of, where it is one (see [`Size::sum`]).
    pub(super) sum: Option<(Vec<(usize, usize)>, usize)>,
    /// The forms that it is the product of, where these are known.
    pub(super) factors: Vec<Affine>,
}

impl Fact {
    /// Whether it may have a value.
    pub(super) fn may_be(&self, value: i64) -> bool {
        (value - self.values[0]) % self.step.max(1) == 0
    }
}

/// What is known of all sizes.
pub struct Facts {
    pub(super) samples: usize,
    pub(super) sizes: Vec<Fact>,
    /// Forms of numbers that are known otherwise than by comparing.
    known: HashMap<Vec<i64>, Affine>,
    /// Sizes for which rules that hold in all samples differ.
    pub(super) open: Vec<Point>,
    /// Such for which the model is not defined.
    pub(super) undefined: HashSet<Point>,
    /// Whether no more samples will be made: then rules must not differ.
    pub(super) last: bool,
    /// Limits that too few samples have shown to tell whose they are.
    pub(super) limits: BTreeSet<usize>,
}

impl Facts {
    /// Nothing known, of so many samples.
    pub fn new(samples: usize) -> Self {
        let (sizes, known, open, undefined, limits) = Default::default();
        Facts { samples, sizes, known, open, undefined, last: false, limits }
    }

    /// Adds the next size of the lowering.
    pub fn declare(&mut self, size: &Size, values: Vec<i64>) {
        let (var, step) = (size_var(self.sizes.len(), size.max), size.step.0 as i64);
        let (available, sum) = (size.name.is_some(), size.sum.clone());
        let most = size.max as i64;
        self.sizes.push(Fact { var, values, most, available, rule: None, step, sum, factors: Vec::new() });
    }

    /// From here on a size's value is there.
    pub fn available(&mut self, size: usize) {
        self.sizes[size].available = true;
    }

    /// Numbers and their form.
    pub fn remember(&mut self, numbers: Vec<i64>, form: Affine) {
        self.known.insert(numbers, form);
    }

    pub(super) fn usable(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.sizes.len()).filter(|&i| self.sizes[i].available && self.sizes[i].var.is_some())
    }

    pub(super) fn form(&self, size: usize, factor: i64, base: i64) -> Affine {
        let mut form = Affine::constant(base);
        if let Some(var) = self.sizes[size].var {
            form.add_term(var, factor);
        }
        form
    }

    /// One number per sample as a form; a size that is needed for it is added to the lowering, and what
    /// computes it to `before`.
    pub fn fit(&mut self, numbers: &[i64], low: &mut Lowering, before: &mut Vec<Stage>) -> Result<Affine> {
        if numbers.iter().all(|n| *n == numbers[0]) {
            return Ok(Affine::constant(numbers[0]));
        }
        let none = || {
            let list: Vec<String> = numbers.iter().take(6).map(i64::to_string).collect();
            let list = list.join(", ");
            unlike(&format!("no rule was found for a number that depends on the sizes ({list}, ...)"))
        };
        if too_large(numbers) {
            return Err(none());
        }
        let (sum, other) = self.form_found(numbers);
        // A difference of two sizes may be a quotient of one: its range is that of the sizes apart.
        if let Some(form) = sum {
            return Ok(form);
        }
        if let Some(derived) = self.derived(numbers)? {
            return self.add(derived, (numbers, numbers[0]), low, before);
        }
        if let Some(form) = other {
            return Ok(form);
        }
        // A multiple of a number, such as a size that is padded: how many times, then a form.
        let step = numbers.iter().fold(0, |step, n| gcd(step, n - numbers[0])).abs();
        let times: Vec<i64> = numbers.iter().map(|n| n.div_euclid(step)).collect();
        if step > 1
            && let Some(derived) = self.derived(&times)?
        {
            let times = self.add(derived, (&times, times[0]), low, before)?;
            return Ok(times.scaled(step).offset(numbers[0].rem_euclid(step)));
        }
        if let Some(form) = self.half(numbers, low, before)? {
            return Ok(form);
        }
        match self.of_dimension(numbers, low, before)? {
            Some(form) => Ok(form),
            None => self.times_dimensions(numbers, 2, low, before)?.ok_or_else(none),
        }
    }

    /// The form that holds in all samples, and one that holds too but stands back behind rules.
    pub(super) fn form_found(&self, numbers: &[i64]) -> (Option<Affine>, Option<Affine>) {
        if too_large(numbers) {
            return (None, None);
        }
        match self.known.get(numbers).cloned().or_else(|| self.line_or_same(numbers)) {
            Some(form) => (Some(form), None),
            None => self.planes(numbers),
        }
    }

    /// The same as one size: for what must be read as it is.
    pub fn plain(&mut self, form: &Affine, low: &mut Lowering, before: &mut Vec<Stage>) -> Result<Affine> {
        if let [(_, 1)] = form.terms.as_slice()
            && form.base == 0
        {
            return Ok(form.clone());
        }
        let numbers: Vec<i64> =
            (0..self.samples).map(|k| form.with_sizes(|n| self.sizes[n].values[k]).base).collect();
        let mut b = DefBuilder::new(&[]);
        let value = b.index(form.clone());
        let most = self.most(form);
        self.push(b, value, (&numbers, most), vec![form.clone()], low, before)
    }

    pub(super) fn add(
        &mut self,
        derived: Derived,
        (numbers, most): (&[i64], i64),
        low: &mut Lowering,
        before: &mut Vec<Stage>,
    ) -> Result<Affine> {
        let mut b = DefBuilder::new(&[]);
        let value = match derived {
            Derived::Divided { size, factor, offset, divisor } => {
                // Division is towards zero: the sum is raised to be positive before it.
                let shift = (-offset).max(0).div_euclid(divisor) + 1;
                let raised = b.index(self.form(size, factor, offset + shift * divisor));
                let divisor = b.number(DType::I64, divisor as f64);
                let quotient = b.op(Op::Div, &[raised, divisor]);
                let shift = b.number(DType::I64, shift as f64);
                let value = b.op(Op::Sub, &[quotient, shift]);
                let zero = b.number(DType::I64, 0.0);
                b.op(Op::Max, &[value, zero])
            }
            Derived::Product { a, b: other, factor, offset, by } => {
                let (x, y) = (b.index(self.form(a, factor, offset)), b.index(self.form(other, by.0, by.1)));
                b.op(Op::Mul, &[x, y])
            }
            Derived::Limited { size, offset, limit, op } => {
                let (x, limit) = (b.index(self.form(size, 1, offset)), b.number(DType::I64, limit as f64));
                b.op(op, &[x, limit])
            }
            Derived::Half { a, b: other, factors, offset } => {
                let sum = self.form(a, factors.0, offset).plus(&self.form(other, factors.1, 0));
                let (sum, two) = (b.index(sum), b.number(DType::I64, 2.0));
                b.op(Op::Div, &[sum, two])
            }
        };
        let form = self.push(b, value, (numbers, most), Vec::new(), low, before)?;
        if let Some(size) = self.sizes.last_mut() {
            size.rule = Some(derived);
        }
        Ok(form)
    }

    /// Adds a size that an expression computes, and that is never larger than `most`; `factors` are the forms that it is
    /// the product of, where these are known.
    fn push(
        &mut self,
        mut b: DefBuilder,
        value: ExprId,
        (numbers, most): (&[i64], i64),
        factors: Vec<Affine>,
        low: &mut Lowering,
        before: &mut Vec<Stage>,
    ) -> Result<Affine> {
        let max = most.max(0) as usize;
        // Whatever the samples have not shown, the bound holds.
        let (zero, most) = (b.number(DType::I64, 0.0), b.number(DType::I64, max as f64));
        let value = b.op(Op::Max, &[value, zero]);
        let value = b.op(Op::Min, &[value, most]);
        let number = self.sizes.len();
        let Some(var) = size_var(number, max) else {
            let limits =
                format!("sizes beyond {MAX_SIZE}, more than {MAX_SIZES} of them, or many large ones");
            return Err(unlike(&limits));
        };
        let ty = TensorType::new(DType::I64, []);
        let to = low.temporary(format!("size{number}"), ty.clone());
        low.sizes.push(Size { name: None, value: to, max, sample: max, least: 1, sum: None, step: (1, 0) });
        self.sizes.push(Fact {
            var: Some(var),
            values: numbers.to_vec(),
            most: max as i64,
            available: true,
            rule: None,
            step: 1,
            sum: None,
            factors,
        });
        before.push(Stage::Define(b.finish(&format!("size{number}"), to, &ty, value)));
        Ok(Affine::var(var))
    }

    /// The product of two forms as a size.
    pub fn product(
        &mut self,
        a: &Affine,
        b: &Affine,
        numbers: &[i64],
        low: &mut Lowering,
        before: &mut Vec<Stage>,
    ) -> Result<Affine> {
        let mut builder = DefBuilder::new(&[]);
        let factors = vec![a.clone(), b.clone()];
        let (a, b) = (builder.index(a.clone()), builder.index(b.clone()));
        let product = builder.op(Op::Mul, &[a, b]);
        self.push(builder, product, (numbers, numbers[0]), factors, low, before)
    }

    /// The largest value that a form has, where it is found; not less than that otherwise.
    pub(super) fn most(&self, form: &Affine) -> i64 {
        let largest = form.range(|_| 1).1;
        let mut roots: Vec<usize> =
            form.terms.iter().filter_map(|t| as_size(t.0)).flat_map(|size| self.roots(size.0)).collect();
        roots.sort_unstable();
        roots.dedup();
        let (true, &[root]) = (form.terms.iter().any(|t| t.1 < 0), roots.as_slice()) else { return largest };
        let bound = self.sizes[root].most;
        if bound > MAX_TRIED {
            return largest;
        }
        let at = |value: i64| {
            let point = vec![(root, value)];
            self.formed(form, &|size| Some(self.with(size, &point)))
        };
        (0..=bound).filter(|&value| self.sizes[root].may_be(value)).filter_map(at).max().unwrap_or(largest)
    }

    /// The value of a form in a sample.
    pub fn at(&self, form: &Affine, sample: usize) -> i64 {
        form.with_sizes(|n| self.sizes[n].values[sample]).base
    }
}
