//! In what order a kernel reaches its parameters: its work in pieces, one after the other.
//!
//! Where the walk over one buffer stays ahead of the walk over another, the two may share memory
//! ([`crate::plan`]). A piece is what encoders may list in any order: statements between two loops that store,
//! or one iteration of the innermost loop around a store. They do up to two iterations of such a loop at once,
//! so that neighbouring pieces may be mixed; further apart, loads come no later and stores no earlier than here.

use super::visit::any;
use super::{Addr, Kernel, Stmt, TABLE, Value, words_span};
use crate::base::{Affine, Bound};
use std::ops::Range;

/// Iterations of nested loops at most; those beyond that are taken together.
const MOST: i64 = 1024;

/// Of one piece the bytes reached of each parameter, from the pointer passed; empty where none is.
pub type Piece = Vec<Range<i64>>;

/// The pieces in the order of execution. Those that run only sometimes are among them.
pub fn pieces(kernel: &Kernel) -> Vec<Piece> {
    let mut walk = Walk::new(kernel);
    walk.list(&kernel.body, MOST);
    walk.end();
    walk.pieces
}

pub(super) struct Walk<'a> {
    kernel: &'a Kernel,
    /// The smallest and the largest value of each variable.
    vars: Vec<(i64, i64)>,
    pieces: Vec<Piece>,
    /// The piece that goes on.
    open: Piece,
    /// One that reaches nothing.
    none: Piece,
}

impl<'a> Walk<'a> {
    pub(super) fn new(kernel: &'a Kernel) -> Walk<'a> {
        let none = vec![0..0; kernel.params.len()];
        let vars = vec![(0, 0); kernel.vars.len()];
        Walk { kernel, vars, pieces: Vec::new(), open: none.clone(), none }
    }

    /// The pieces of statements, in which each loop may have so many iterations.
    fn list(&mut self, body: &[Stmt], most: i64) {
        for stmt in body {
            match is_walk(stmt) {
                true => self.walk(stmt, most),
                false => self.reach(std::slice::from_ref(stmt)),
            }
        }
    }

    fn end(&mut self) {
        if self.open != self.none {
            self.pieces.push(std::mem::replace(&mut self.open, self.none.clone()));
        }
    }

    fn walk(&mut self, stmt: &Stmt, most: i64) {
        match stmt {
            Stmt::For { var, lo, hi, step, body } => {
                let (lo, hi) = (self.bound(lo, true), self.bound(hi, false));
                let count = (hi.1 - lo.0 + step - 1).div_euclid(*step).max(0);
                if lo.0 != lo.1 {
                    return self.reach(std::slice::from_ref(stmt));
                }
                if count == 1 {
                    // Encoders know no such loop.
                    self.vars[*var as usize] = (lo.0, lo.0);
                    return self.list(body, most);
                }
                self.end();
                let together = (count + most - 1) / most;
                for first in (0..count).step_by(together.max(1) as usize) {
                    let last = (first + together).min(count) - 1;
                    self.vars[*var as usize] = (lo.0 + first * step, lo.0 + last * step);
                    match first == last {
                        true => self.list(body, (most / count).max(1)),
                        false => self.reach(body),
                    }
                    self.end();
                }
            }
            Stmt::Size { var, from, max, body } => {
                self.access(from, 0, 1);
                self.vars[*var as usize] = (0, *max);
                self.list(body, most);
            }
            Stmt::If { then, otherwise, .. } => {
                for body in [then, otherwise] {
                    self.end();
                    self.list(body, most);
                }
                self.end();
            }
            _ => self.reach(std::slice::from_ref(stmt)),
        }
    }

    /// Adds what statements reach to the piece.
    fn reach(&mut self, body: &[Stmt]) {
        self.each(body, &mut |walk, addr, along, span| walk.access(addr, along, span));
    }

    /// Every access of statements, with the variables' ranges there: [`accessed`].
    pub(super) fn each(&mut self, body: &[Stmt], f: &mut impl FnMut(&mut Self, &Addr, i64, i64)) {
        for stmt in body {
            if let Some((addr, along, span)) = accessed(self.kernel, stmt) {
                f(self, addr, along, span);
            }
            match stmt {
                Stmt::For { var, lo, hi, step, body } => {
                    let (lo, hi) = (self.bound(lo, true), self.bound(hi, false));
                    let exact = if lo.0 == lo.1 { *step } else { 1 };
                    let last = lo.0 + (hi.1 - 1 - lo.0).div_euclid(exact) * exact;
                    if last >= lo.0 {
                        self.vars[*var as usize] = (lo.0, last);
                        self.each(body, f);
                    }
                }
                Stmt::Size { var, max, body, .. } => {
                    self.vars[*var as usize] = (0, *max);
                    self.each(body, f);
                }
                Stmt::If { then, otherwise, .. } => {
                    self.each(then, f);
                    self.each(otherwise, f);
                }
                Stmt::Loop { body } => self.each(body, f),
                Stmt::Let(..) | Stmt::Store { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => {}
            }
        }
    }

    /// Adds `span` elements at an address, and as many `along` elements from there.
    fn access(&mut self, addr: &Addr, along: i64, span: i64) {
        let param = &self.kernel.params[addr.param as usize];
        let (lo, hi) = self.range(&addr.index);
        let hi = hi + addr.dynamic.map_or(0, |(_, limit)| limit as i64);
        let (lo, hi) = (lo + along.min(0), hi + along.max(0) + span);
        let size = param.dtype.size() as i64;
        self.grow(addr.param, size * lo.max(0)..size * hi.min(param.elems as i64));
    }

    fn grow(&mut self, param: u32, by: Range<i64>) {
        let range = &mut self.open[param as usize];
        *range = hull(range, &by);
    }

    /// The smallest and the largest value of a form.
    pub(super) fn range(&self, form: &Affine) -> (i64, i64) {
        form.terms.iter().fold((form.base, form.base), |(lo, hi), &(var, c)| {
            let (a, b) = self.vars[var as usize];
            (lo + (c * a).min(c * b), hi + (c * a).max(c * b))
        })
    }

    fn bound(&self, bound: &Bound, largest: bool) -> (i64, i64) {
        let ranges = bound.0.iter().map(|form| self.range(form));
        let join = |a: (i64, i64), b: (i64, i64)| match largest {
            true => (a.0.max(b.0), a.1.max(b.1)),
            false => (a.0.min(b.0), a.1.min(b.1)),
        };
        ranges.reduce(join).unwrap_or((0, 0))
    }
}

/// What a statement itself reaches: from an address on so many elements, and a span at the last of them.
fn accessed<'a>(kernel: &Kernel, stmt: &'a Stmt) -> Option<(&'a Addr, i64, i64)> {
    let lanes = |reg: u32| i64::from(kernel.regs[reg as usize].lanes);
    match stmt {
        Stmt::Let(reg, Value::Load(addr, stride)) => Some((addr, stride * (lanes(*reg) - 1), 1)),
        Stmt::Let(reg, Value::LoadWords(addr, stride)) => {
            let (lanes, size) = (lanes(*reg), kernel.params[addr.param as usize].dtype.size());
            let (step, span) = words_span(lanes as usize, *stride, size);
            Some((addr, step * (lanes - 1), span))
        }
        Stmt::Let(reg, Value::LoadCouples(addr)) => Some((addr, 2 * (lanes(*reg) - 1), 2)),
        Stmt::Let(_, Value::Lookup(addr, _)) => Some((addr, 0, TABLE as i64)),
        Stmt::Let(_, Value::Const(_) | Value::Index(..) | Value::Copy(_) | Value::Splat(_)) => None,
        Stmt::Let(_, Value::Un(..) | Value::Bin(..) | Value::Cmp(..) | Value::Convert(..)) => None,
        Stmt::Let(_, Value::Mla(..) | Value::Dot(..) | Value::Select(..)) => None,
        Stmt::Let(_, Value::Broadcast(..) | Value::Pairs(_) | Value::Reduce(..)) => None,
        Stmt::Store { addr, stride, src } => Some((addr, stride * (lanes(*src) - 1), 1)),
        Stmt::Size { from, .. } => Some((from, 0, 1)),
        Stmt::For { .. } | Stmt::If { .. } | Stmt::Loop { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => {
            None
        }
    }
}

/// Whether a statement consists of several pieces: loops that store, or something with such a loop in it.
pub(super) fn is_walk(stmt: &Stmt) -> bool {
    match stmt {
        Stmt::For { body, .. } => stores(body),
        Stmt::Size { body, .. } => body.iter().any(is_walk),
        Stmt::If { then, otherwise, .. } => then.iter().chain(otherwise).any(is_walk),
        Stmt::Let(..) | Stmt::Store { .. } | Stmt::Loop { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => {
            false
        }
    }
}

/// Whether statements store anything.
pub(super) fn stores(body: &[Stmt]) -> bool {
    any(body, &mut |stmt| matches!(stmt, Stmt::Store { .. }))
}

/// The smallest range with both in it.
pub fn hull(a: &Range<i64>, b: &Range<i64>) -> Range<i64> {
    match (a.is_empty(), b.is_empty()) {
        (_, true) => a.clone(),
        (true, _) => b.clone(),
        _ => a.start.min(b.start)..a.end.max(b.end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::{backwards, parse};

    const WINDOW: &str = "kernel k {
  read in: f32[64]
  write out: f32[31]
  vars y, i
  for y in 0..28 step 4 {
    %0: f32x4 = load in[2*y] stride 2
    for i in 1..3 {
      %1: f32x4 = load in[2*y + i] stride 2
      %0: f32x4 = add %0, %1
    }
    store out[y] = %0
  }
  %0: f32x4 = load in[54] stride 2
  store out[27] = %0
}";

    #[test]
    fn each_iteration_of_a_loop_that_stores_is_a_piece() {
        let kernel = parse(WINDOW).unwrap();
        let pieces = pieces(&kernel);
        let expected = (0..7).map(|i| vec![32 * i..32 * i + 36, 16 * i..16 * i + 16]);
        assert_eq!(pieces[..7], expected.collect::<Vec<_>>());
        assert_eq!(pieces[7..], [vec![216..244, 108..124]]);
    }

    #[test]
    fn backwards_the_last_piece_comes_first() {
        // The tail shares registers with the loop.
        assert_eq!(backwards(&parse(WINDOW).unwrap()), None);
        let (head, _) = WINDOW.split_once("  %0: f32x4 = load in[54]").unwrap();
        let kernel = parse(&format!("{head}}}")).unwrap();
        let mut turned = pieces(&backwards(&kernel).unwrap());
        turned.reverse();
        assert_eq!(turned, pieces(&kernel));
    }

    #[test]
    fn what_an_iteration_leaves_for_the_next_keeps_its_order() {
        let carried = WINDOW.replace("%0: f32x4 = load in[2*y] stride 2", "%0: f32x4 = add %0, %0");
        let (head, _) = carried.split_once("  %0: f32x4 = load in[54]").unwrap();
        assert_eq!(backwards(&parse(&format!("{head}}}")).unwrap()), None);
    }
}
