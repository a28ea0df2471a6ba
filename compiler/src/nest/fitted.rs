//! Constants of one or two operations that give the same integers as several.
//!
//! What follows from the exact numbers rounds otherwise than the definition here and there, where these lie near a
//! half; constants a few units in their last places away may not. Each is tried with every byte.

use std::ops::Range;

/// How many units in the last place constants are moved.
const TRIED: i32 = 3;
/// Numbers this near to a half may be rounded otherwise.
const DOUBTFUL: f64 = 1.0 / 1024.0;

/// What takes the place of a chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// `x * a`.
    Product,
    /// `x + a`.
    Sum,
    /// `x * a + b`.
    Both,
    /// `x * (x < 0 ? a : b)`.
    Sides,
}

impl Form {
    /// The cheapest ones first.
    pub const ALL: [Form; 4] = [Form::Product, Form::Sum, Form::Both, Form::Sides];

    /// How many constants it has.
    pub fn constants(self) -> usize {
        if matches!(self, Form::Product | Form::Sum) { 1 } else { 2 }
    }

    /// Its operations.
    pub fn cost(self) -> usize {
        match self {
            Form::Product | Form::Sum => 1,
            Form::Both => 2,
            Form::Sides => 3,
        }
    }

    fn of(self, x: f32, [a, b]: [f32; 2]) -> f32 {
        match self {
            Form::Product => x * a,
            Form::Sum => x + a,
            Form::Both => x * a + b,
            Form::Sides => x * if x < 0.0 { a } else { b },
        }
    }
}

fn nearest(v: f64, steps: &Range<i64>) -> i64 {
    (v.round_ties_even() as i64).clamp(steps.start, steps.end)
}

fn is_doubtful(v: f64) -> bool {
    (v - v.floor() - 0.5).abs() < DOUBTFUL
}

/// What bytes become in a channel.
pub struct Points {
    from: Vec<f64>,
    exact: Vec<f64>,
    wanted: Vec<i64>,
    /// Where the result may depend on how numbers are rounded.
    doubtful: Vec<usize>,
    steps: Range<i64>,
}

impl Points {
    /// Of numbers that bytes are, what the definition makes of them, and what it would without rounding; results
    /// are only told apart between `steps`.
    pub fn new(from: Vec<f64>, rounded: &[f64], exact: Vec<f64>, steps: Range<i64>) -> Points {
        let wanted = rounded.iter().map(|&v| nearest(v, &steps)).collect();
        let doubtful = (0..exact.len()).filter(|&i| is_doubtful(exact[i])).collect();
        Points { from, exact, wanted, doubtful, steps }
    }

    /// Constants that the exact numbers follow, where they follow the form at all.
    fn exact(&self, form: Form) -> [f32; 2] {
        let (first, last) = (0, self.from.len() - 1);
        let ratio = |i: usize| if self.from[i] == 0.0 { 1.0 } else { self.exact[i] / self.from[i] };
        let largest = if self.from[first].abs() > self.from[last].abs() { first } else { last };
        let slope = (self.exact[last] - self.exact[first]) / (self.from[last] - self.from[first]);
        let numbers = match form {
            Form::Product => [ratio(largest), 0.0],
            Form::Sum => [self.exact[first] - self.from[first], 0.0],
            Form::Both => [slope, self.exact[first] - slope * self.from[first]],
            Form::Sides => [ratio(first), ratio(last)],
        };
        numbers.map(|n| n as f32)
    }

    fn fit(&self, form: Form, constants: [f32; 2]) -> bool {
        let same = |i: usize| {
            let result = f64::from(form.of(self.from[i] as f32, constants));
            nearest(result, &self.steps) == self.wanted[i]
        };
        self.doubtful.iter().all(|&i| same(i)) && (0..self.from.len()).all(same)
    }
}

/// Constants of each channel; those `shared` are the same in all.
pub fn found(form: Form, points: &[Points], shared: Option<usize>) -> Option<Vec<[f32; 2]>> {
    let near = |at: f32| {
        let turns = (0..=TRIED).flat_map(|i| [i, -i]).skip(1);
        let moved = turns.filter_map(move |by| at.to_bits().checked_add_signed(by).map(f32::from_bits));
        moved.filter(|n| n.is_finite())
    };
    let one = form.constants() == 1;
    let of_channel = |p: &Points, fixed: Option<(usize, f32)>| {
        let start = p.exact(form);
        let tried = |i: usize| match fixed {
            Some((at, number)) if at == i => vec![number],
            _ if one && i == 1 => vec![0.0],
            _ => near(start[i]).collect(),
        };
        let (first, second) = (tried(0), tried(1));
        let all = first.iter().flat_map(|&a| second.iter().map(move |&b| [a, b]));
        all.into_iter().find(|&constants| p.fit(form, constants))
    };
    let of_all = |fixed: Option<(usize, f32)>| points.iter().map(|p| of_channel(p, fixed)).collect();
    match shared {
        Some(at) => near(points.first()?.exact(form)[at]).find_map(|n| of_all(Some((at, n)))),
        None => of_all(None),
    }
}
