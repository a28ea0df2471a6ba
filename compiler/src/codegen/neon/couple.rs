//! Brings products of bytes together that can be added in 16 bits.
//!
//! Without an instruction for it, a sum of products of bytes costs a multiplication and an addition
//! to the 32-bit sums. Of bytes among which one factor is never -128, two products fit 16 bits: the
//! second multiplication adds to the first, and one addition serves both. A nest lists one step of the
//! reduction for all points of a tile, then the next; here the first of two sums of products in one
//! register waits for the second, and such couples that share their second factors for each other, so
//! that a vector of these is needed for a short time only. Each goes as far as nothing in between
//! touches what it reads and writes.

use super::lives::{reads, writes};
use crate::tile::{Dot, Reg, Stmt, Value};
use std::collections::HashMap;
use std::hash::Hash;

/// Two sums of products that are computed as one: the register, and the factors of each.
pub type Couple = (Reg, [(Reg, Reg); 2]);

/// Couples with the same second factors at the start of a list of statements: of words ([`Dot::Sn`]), or of bytes in
/// lanes of their own ([`Dot::Bytes`]).
pub fn couples(body: &[Stmt], kind: Dot) -> Vec<Couple> {
    let mut found: Vec<Couple> = Vec::new();
    for pair in body.chunks_exact(2) {
        let [first, second] = pair else { break };
        let Some((r, a)) = short_sum(first, kind) else { break };
        let Some((s, b)) = short_sum(second, kind) else { break };
        let own = |c: &Couple| c.0 != r && c.1.map(|f| f.1) == [a.1, b.1];
        if r != s || !found.iter().all(own) {
            break;
        }
        found.push((r, [a, b]));
    }
    found
}

/// A sum of products in its own register of which two fit 16 bits.
fn short_sum(stmt: &Stmt, of: Dot) -> Option<(Reg, (Reg, Reg))> {
    match stmt {
        Stmt::Let(r, Value::Dot(kind, acc, a, b)) if *kind == of && r == acc && a != r && b != r => {
            Some((*r, (*a, *b)))
        }
        _ => None,
    }
}

/// Couples the sums of all straight runs.
pub fn couple(body: &mut Vec<Stmt>) {
    let mut done: Vec<Stmt> = Vec::with_capacity(body.len());
    let mut run: Vec<Vec<Stmt>> = Vec::new();
    for mut stmt in body.drain(..) {
        match &mut stmt {
            Stmt::Let(..) | Stmt::Store { .. } => {
                run.push(vec![stmt]);
                continue;
            }
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => couple(body),
            Stmt::If { then, otherwise, .. } => {
                couple(then);
                couple(otherwise);
            }
            Stmt::Break { .. } | Stmt::Fail { .. } => {}
        }
        done.extend(coupled(std::mem::take(&mut run)));
        done.push(stmt);
    }
    done.extend(coupled(run));
    *body = done;
}

/// Whether any products of a kernel are added in 16 bits: of two sums computed as one, or of two halves.
pub fn has_chains(body: &[Stmt]) -> bool {
    any(body, &|rest| is_of_halves(&rest[0]) || !couples(rest, Dot::Sn).is_empty())
}

/// Whether words whose halves lie apart are multiplied.
pub fn has_halves(body: &[Stmt]) -> bool {
    any(body, &|rest| is_of_halves(&rest[0]))
}

fn is_of_halves(stmt: &Stmt) -> bool {
    matches!(stmt, Stmt::Let(_, Value::Dot(Dot::Halves | Dot::HalfPairs, ..)))
}

/// Whether something holds from some statement on.
fn any(body: &[Stmt], holds: &dyn Fn(&[Stmt]) -> bool) -> bool {
    let inside = |stmt: &Stmt| match stmt {
        Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => any(body, holds),
        Stmt::If { then, otherwise, .. } => any(then, holds) || any(otherwise, holds),
        _ => false,
    };
    (0..body.len()).any(|i| holds(&body[i..]) || inside(&body[i]))
}

fn coupled(mut run: Vec<Vec<Stmt>>) -> impl Iterator<Item = Stmt> {
    for kind in [Dot::Sn, Dot::Bytes] {
        gather(&mut run, |unit| match unit {
            [one] => short_sum(one, kind).map(|sum| sum.0),
            _ => None,
        });
        run.retain(|unit| !unit.is_empty());
        gather(&mut run, |unit| match couples(unit, kind)[..] {
            [(_, [a, b]), ..] => Some((a.1, b.1)),
            [] => None,
        });
    }
    run.into_iter().flatten()
}

/// Moves units down to the next with the same key, as far as nothing in between is touched.
fn gather<K: Hash + Eq>(run: &mut [Vec<Stmt>], key: impl Fn(&[Stmt]) -> Option<K>) {
    let mut waiting: HashMap<K, usize> = HashMap::new();
    for i in 0..run.len() {
        let partner = key(&run[i]).and_then(|key| waiting.remove(&key));
        waiting.retain(|_, &mut other| !touches(&run[i], &run[other]));
        if let Some(partner) = partner {
            let earlier = std::mem::take(&mut run[partner]);
            run[i].splice(0..0, earlier);
        }
        if let Some(key) = key(&run[i]) {
            waiting.insert(key, i);
        }
    }
}

/// Whether statements read what others write, or write what these read or write.
fn touches(these: &[Stmt], others: &[Stmt]) -> bool {
    let read: Vec<Reg> = others.iter().flat_map(reads).collect();
    let written: Vec<Reg> = others.iter().filter_map(writes).collect();
    these.iter().any(|stmt| {
        reads(stmt).iter().any(|r| written.contains(r))
            || writes(stmt).is_some_and(|w| read.contains(&w) || written.contains(&w))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::{Kernel, parse};

    /// Sums of two rows, each over two steps: `(row, step)` in this order.
    fn sums(order: [(usize, usize); 4], after_first: &str) -> Kernel {
        let mut text = String::from("kernel sums { read a: i8[64] read b: i8[64] write c: i32[8]\n");
        (0..2).for_each(|i| text += &format!("%{i}: i32x4 = const 0\n"));
        for i in 0..4 {
            let from = if i < 2 { "a" } else { "b" };
            text += &format!("%{}: i32x4 = words {from}[{}]\n", 2 + i, 16 * (i % 2));
        }
        for (i, (row, step)) in order.into_iter().enumerate() {
            text += &format!("%{row}: i32x4 = dot_sn %{row}, %{}, %{}\n", 2 + step, 4 + step);
            text += if i == 0 { after_first } else { "" };
        }
        (0..2).for_each(|i| text += &format!("store c[{}] = %{i}\n", 4 * i));
        parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn the_first_sum_waits_for_the_second() {
        let mut apart = sums([(0, 0), (1, 0), (0, 1), (1, 1)], "");
        couple(&mut apart.body);
        assert_eq!(apart, sums([(0, 0), (0, 1), (1, 0), (1, 1)], ""));
        assert_eq!(couples(&apart.body[6..], Dot::Sn).len(), 2);
    }

    #[test]
    fn what_is_read_in_between_is_not_moved() {
        let order = [(0, 0), (1, 0), (0, 1), (1, 1)];
        for between in ["store c[0] = %0\n", "%4: i32x4 = const 1\n"] {
            let mut apart = sums(order, between);
            let before = apart.clone();
            couple(&mut apart.body);
            let first = |k: &Kernel| k.body.iter().position(|s| short_sum(s, Dot::Sn).is_some());
            assert_eq!(first(&apart), first(&before), "{apart}");
        }
    }
}
