//! Numbers as functions of sizes: what a number is in each sample decides which function it is.
//!
//! Affine functions are forms; others (a size divided by a stride, padded to a multiple, the product of
//! two sizes, the smaller of a size and a number) become a size of their own, computed at run time.

use super::unlike;
use crate::base::affine::{MAX_SIZE, MAX_SIZES, size_var};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering, Size, Stage};
use crate::error::Result;
use crate::scalar::Op;
use std::collections::HashMap;

/// Divisors that are tried.
const MAX_DIVISOR: i64 = 64;

/// Values of a size up to which rules are compared.
const MAX_COMPARED: i64 = 1 << 14;

/// A size and its value in each sample.
struct Fact {
    var: Option<u32>,
    values: Vec<i64>,
    /// Whether the run-time value is there already.
    available: bool,
    /// What computes it from other sizes, where a rule does.
    rule: Option<Derived>,
    /// Its values have this distance, or a multiple.
    step: i64,
}

impl Fact {
    /// Whether it may have a value.
    fn may_be(&self, value: i64) -> bool {
        (value - self.values[0]) % self.step.max(1) == 0
    }
}

impl Derived {
    /// The number, where sizes have the given values.
    fn of(self, at: impl Fn(usize) -> i64) -> i64 {
        match self {
            Derived::Divided { size, factor, offset, divisor } => {
                (factor * at(size) + offset).div_euclid(divisor)
            }
            Derived::Product { a, b, factor, offset } => (factor * at(a) + offset) * at(b),
            Derived::Limited { size, offset, limit, op: Op::Min } => (at(size) + offset).min(limit),
            Derived::Limited { size, offset, limit, .. } => (at(size) + offset).max(limit),
        }
    }
}

/// What is known of all sizes.
pub struct Facts {
    samples: usize,
    sizes: Vec<Fact>,
    /// Forms of numbers that are known otherwise than by comparing.
    known: HashMap<Vec<i64>, Affine>,
    /// A size, and values of it where rules that hold in all samples differ.
    open: Vec<(usize, i64)>,
}

/// A function that is not affine.
#[derive(Clone, Copy)]
enum Derived {
    /// `floor((factor * size + offset) / divisor)`.
    Divided { size: usize, factor: i64, offset: i64, divisor: i64 },
    /// `(factor * a + offset) * b`.
    Product { a: usize, b: usize, factor: i64, offset: i64 },
    /// The smaller or larger of `size + offset` and a number.
    Limited { size: usize, offset: i64, limit: i64, op: Op },
}

impl Facts {
    /// Nothing known, of so many samples.
    pub fn new(samples: usize) -> Self {
        Facts { samples, sizes: Vec::new(), known: HashMap::new(), open: Vec::new() }
    }

    /// Adds the next size of the lowering.
    pub fn declare(&mut self, size: &Size, values: Vec<i64>) {
        let (var, step) = (size_var(self.sizes.len(), size.max), size.step.0 as i64);
        self.sizes.push(Fact { var, values, available: size.name.is_some(), rule: None, step });
    }

    /// From here on a size's value is there.
    pub fn available(&mut self, size: usize) {
        self.sizes[size].available = true;
    }

    /// Numbers and their form.
    pub fn remember(&mut self, numbers: Vec<i64>, form: Affine) {
        self.known.insert(numbers, form);
    }

    fn usable(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.sizes.len()).filter(|&i| self.sizes[i].available && self.sizes[i].var.is_some())
    }

    fn form(&self, size: usize, factor: i64, base: i64) -> Affine {
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
        let known = self.known.get(numbers).cloned();
        let (sum, other) = match known.or_else(|| self.line_or_same(numbers)) {
            Some(form) => return Ok(form),
            None => self.planes(numbers),
        };
        // A difference of two sizes may be a quotient of one: its range is that of the sizes apart.
        if let Some(form) = sum {
            return Ok(form);
        }
        if let Some(derived) = self.derived(numbers) {
            return self.add(derived, numbers, low, before);
        }
        if let Some(form) = other {
            return Ok(form);
        }
        // A multiple of a number, such as a size that is padded: how many times, then a form.
        let step = numbers.iter().fold(0, |step, n| gcd(step, n - numbers[0]));
        let times: Vec<i64> = numbers.iter().map(|n| n.div_euclid(step)).collect();
        if let (2.., Some(derived)) = (step, self.derived(&times)) {
            let times = self.add(derived, &times, low, before)?;
            return Ok(times.scaled(step).offset(numbers[0].rem_euclid(step)));
        }
        let list: Vec<String> = numbers.iter().take(6).map(i64::to_string).collect();
        let list = list.join(", ");
        Err(unlike(&format!("no rule was found for a number that depends on the sizes ({list}, ...)")))
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
        self.push(b, value, &numbers, low, before)
    }

    fn line_or_same(&self, numbers: &[i64]) -> Option<Affine> {
        let same = self.usable().find(|&s| self.sizes[s].values == numbers);
        same.map(|same| self.form(same, 1, 0)).or_else(|| self.usable().find_map(|s| self.line(s, numbers)))
    }

    /// Forms of two sizes: the first one in which both grow, and the first other one.
    fn planes(&self, numbers: &[i64]) -> (Option<Affine>, Option<Affine>) {
        let usable: Vec<usize> = self.usable().collect();
        let pairs = usable.iter().enumerate().flat_map(|(i, &s)| usable[..i].iter().map(move |&t| (t, s)));
        let mut other = None;
        for form in pairs.filter_map(|(s, t)| self.plane(s, t, numbers)) {
            if form.terms.iter().all(|t| t.1 > 0) {
                return (Some(form), None);
            }
            other = other.or(Some(form));
        }
        (None, other)
    }

    /// `a * size + b`.
    fn line(&self, size: usize, numbers: &[i64]) -> Option<Affine> {
        let s = &self.sizes[size].values;
        let other = s.iter().position(|v| *v != s[0])?;
        let (dx, ds) = (numbers[other] - numbers[0], s[other] - s[0]);
        if dx % ds != 0 {
            return None;
        }
        let (a, b) = (dx / ds, numbers[0] - dx / ds * s[0]);
        s.iter().zip(numbers).all(|(s, n)| a * s + b == *n).then(|| self.form(size, a, b))
    }

    /// `a * s + b * t + c`.
    fn plane(&self, s: usize, t: usize, numbers: &[i64]) -> Option<Affine> {
        let (x, y) = (&self.sizes[s].values, &self.sizes[t].values);
        let row = |k: usize| (x[k] - x[0], y[k] - y[0], numbers[k] - numbers[0]);
        for k in 1..self.samples {
            for l in k + 1..self.samples {
                let ((x1, y1, n1), (x2, y2, n2)) = (row(k), row(l));
                let det = x1 * y2 - x2 * y1;
                if det == 0 {
                    continue;
                }
                let (a, b) = (n1 * y2 - n2 * y1, x1 * n2 - x2 * n1);
                if a % det != 0 || b % det != 0 {
                    return None;
                }
                let (a, b) = (a / det, b / det);
                let c = numbers[0] - a * x[0] - b * y[0];
                let holds = (0..self.samples).all(|k| a * x[k] + b * y[k] + c == numbers[k]);
                return holds.then(|| self.form(s, a, c).plus(&self.form(t, b, 0)));
            }
        }
        None
    }

    fn rule(&self, numbers: &[i64]) -> Option<(Derived, Option<(usize, i64)>)> {
        let usable: Vec<usize> = self.usable().collect();
        let holds = |d: &Derived| (0..self.samples).all(|k| self.value(d, k) == numbers[k]);
        let limited = usable.iter().flat_map(|&size| {
            let s = &self.sizes[size].values;
            [(Op::Min, numbers.iter().max()), (Op::Max, numbers.iter().min())].into_iter().flat_map(
                move |(op, limit)| {
                    let limit = limit.copied().unwrap_or(0);
                    let free = numbers.iter().zip(s).find(|(n, _)| **n != limit);
                    free.map(|(n, s)| Derived::Limited { size, offset: n - s, limit, op })
                },
            )
        });
        let products = usable.iter().flat_map(|&a| {
            usable.iter().filter_map(move |&b| {
                let (factor, offset) = self.quotient(a, b, numbers)?;
                Some(Derived::Product { a, b, factor, offset })
            })
        });
        if let Some(found) = limited.chain(products).find(|d| holds(d)) {
            return Some((found, None));
        }
        usable.iter().find_map(|&size| self.quotients(size, numbers))
    }

    fn derived(&mut self, numbers: &[i64]) -> Option<Derived> {
        let (rule, open) = self.rule(numbers)?;
        self.open.extend(open);
        Some(rule)
    }

    /// The first quotient of a size that holds in all samples; and a value of the size for which another
    /// one that holds too gives something else.
    fn quotients(&self, size: usize, numbers: &[i64]) -> Option<(Derived, Option<(usize, i64)>)> {
        let values = &self.sizes[size].values;
        let candidates = (2..=MAX_DIVISOR).flat_map(|divisor| {
            (1..=3).flat_map(move |factor| {
                (0..divisor).map(move |rest| {
                    let first = (factor * values[0] + rest).div_euclid(divisor);
                    (factor, rest + divisor * (numbers[0] - first), divisor)
                })
            })
        });
        let at =
            |(factor, offset, divisor): (i64, i64, i64), v: i64| (factor * v + offset).div_euclid(divisor);
        let mut holding = candidates.filter(|&c| values.iter().zip(numbers).all(|(&v, &n)| at(c, v) == n));
        let first = holding.next()?;
        let most = values.iter().copied().max().unwrap_or(0).min(MAX_COMPARED);
        let differ = |c| (1..=most).find(|&v| self.sizes[size].may_be(v) && at(c, v) != at(first, v));
        let open = holding.find_map(differ);
        let (factor, offset, divisor) = first;
        Some((Derived::Divided { size, factor, offset, divisor }, open.map(|v| (size, v))))
    }

    /// Values of sizes that must be looked at: what they make of the numbers is not decided yet. For each
    /// the size that the caller chooses, and its value, the other sizes being at their bounds.
    pub fn undecided(&self) -> Vec<(usize, usize)> {
        let chosen = |open: &(usize, i64)| {
            let roots = (0..self.sizes.len()).filter(|&s| self.sizes[s].rule.is_none());
            roots.into_iter().find_map(|root| {
                let most = self.sizes[root].values[0].min(MAX_COMPARED);
                let may_be = |v: &i64| self.sizes[root].may_be(*v) && self.with(open.0, root, *v) == open.1;
                let value = (1..=most).find(may_be)?;
                Some((root, value as usize))
            })
        };
        let mut all: Vec<_> = self.open.iter().filter_map(chosen).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The value of a size where another has the given one, and all others are at their bounds.
    fn with(&self, size: usize, root: usize, value: i64) -> i64 {
        match (size == root, self.sizes[size].rule) {
            (true, _) => value,
            (_, None) => self.sizes[size].values[0],
            (_, Some(rule)) => rule.of(|s| self.with(s, root, value)),
        }
    }

    /// Factor and offset in `(factor * a + offset) * b`.
    fn quotient(&self, a: usize, b: usize, numbers: &[i64]) -> Option<(i64, i64)> {
        let by = &self.sizes[b].values;
        let whole = by.iter().zip(numbers).all(|(b, n)| *b != 0 && n % b == 0);
        let quotients: Vec<i64> = by.iter().zip(numbers).filter(|_| whole).map(|(b, n)| n / b).collect();
        let form = if whole { self.line(a, &quotients)? } else { return None };
        Some((form.terms.first()?.1, form.base))
    }

    fn value(&self, derived: &Derived, sample: usize) -> i64 {
        derived.of(|size| self.sizes[size].values[sample])
    }

    fn add(
        &mut self,
        derived: Derived,
        numbers: &[i64],
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
            Derived::Product { a, b: other, factor, offset } => {
                let (x, y) = (b.index(self.form(a, factor, offset)), b.index(self.form(other, 1, 0)));
                b.op(Op::Mul, &[x, y])
            }
            Derived::Limited { size, offset, limit, op } => {
                let (x, limit) = (b.index(self.form(size, 1, offset)), b.number(DType::I64, limit as f64));
                b.op(op, &[x, limit])
            }
        };
        let form = self.push(b, value, numbers, low, before)?;
        if let Some(size) = self.sizes.last_mut() {
            size.rule = Some(derived);
        }
        Ok(form)
    }

    /// Adds a size that an expression computes.
    fn push(
        &mut self,
        mut b: DefBuilder,
        value: ExprId,
        numbers: &[i64],
        low: &mut Lowering,
        before: &mut Vec<Stage>,
    ) -> Result<Affine> {
        let max = numbers[0].max(0) as usize;
        // Whatever the samples have not shown, the bound holds.
        let (zero, most) = (b.number(DType::I64, 0.0), b.number(DType::I64, max as f64));
        let value = b.op(Op::Max, &[value, zero]);
        let value = b.op(Op::Min, &[value, most]);
        let number = self.sizes.len();
        let Some(var) = size_var(number, max) else {
            return Err(unlike(&format!("sizes beyond {MAX_SIZE}, or more than {MAX_SIZES} of them")));
        };
        let ty = TensorType::new(DType::I64, []);
        let to = low.temporary(format!("size{number}"), ty.clone());
        low.sizes.push(Size { name: None, value: to, max, sample: max, least: 1, sum: None, step: (1, 0) });
        self.sizes.push(Fact {
            var: Some(var),
            values: numbers.to_vec(),
            available: true,
            rule: None,
            step: 1,
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
        let (a, b) = (builder.index(a.clone()), builder.index(b.clone()));
        let product = builder.op(Op::Mul, &[a, b]);
        self.push(builder, product, numbers, low, before)
    }

    /// The value of a form in a sample.
    pub fn at(&self, form: &Affine, sample: usize) -> i64 {
        form.with_sizes(|n| self.sizes[n].values[sample]).base
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}
