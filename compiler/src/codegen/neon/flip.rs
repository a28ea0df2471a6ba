//! Sums of unsigned by signed bytes as sums of signed ones, for processors that multiply only equal
//! signs.
//!
//! `x y = (x - 128) y + 128 y`, and `x - 128` as a signed byte is `x` with its top bit flipped. What is
//! given back depends on the second factors alone: accumulators that take the same ones in the same
//! order share one sum of them, and get it once, after the last product.

use super::lives::reads;
use crate::tile::{Bin, Dot, Kernel, Reg, RegType, Stmt, Value};
use std::collections::HashMap;

/// Four bytes that are 1: a product with them is the sum of the other four.
pub const ONES: u32 = 0x0101_0101;

/// Where a statement is: lists of statements by number, and the place in each, outermost first.
type Path = Vec<(usize, usize)>;

/// What is known of a register.
#[derive(Clone, Default)]
struct Seen {
    /// Assignments that are not products added to the register itself.
    starts: Vec<Path>,
    /// Products added to it, with their factors.
    products: Vec<(Path, Reg, Reg)>,
    /// The last of them.
    value: Option<Value>,
    /// Other reads.
    reads: Vec<Path>,
}

/// Accumulators that take the same second factors.
struct Group {
    list: usize,
    accumulators: Vec<Reg>,
    /// Where the last product is, in the list that the sums begin in.
    last: usize,
}

/// Changes the sums of a kernel.
pub fn flip(kernel: &mut Kernel) {
    let mut seen = vec![Seen::default(); kernel.regs.len()];
    see(&kernel.body, &mut Vec::new(), &mut 0, &mut seen);
    let groups = groups(kernel, &seen);
    let mut edit = Edit {
        flipped: HashMap::new(),
        before: HashMap::new(),
        instead: HashMap::new(),
        after: HashMap::new(),
    };
    for group in groups {
        edit.group(kernel, &seen, &group);
    }
    if !edit.instead.is_empty() {
        let body = std::mem::take(&mut kernel.body);
        kernel.body = edit.apply(body, &mut 0);
    }
}

fn see(body: &[Stmt], path: &mut Path, next: &mut usize, seen: &mut [Seen]) {
    let list = *next;
    *next += 1;
    for (i, stmt) in body.iter().enumerate() {
        path.push((list, i));
        match stmt {
            Stmt::Let(r, Value::Dot(Dot::Us, acc, a, b)) if r == acc && a != r && b != r => {
                seen[*r as usize].products.push((path.clone(), *a, *b));
                [a, b].iter().for_each(|x| seen[**x as usize].reads.push(path.clone()));
            }
            _ => {
                reads(stmt).into_iter().for_each(|r| seen[r as usize].reads.push(path.clone()));
                if let Stmt::Let(r, value) = stmt {
                    seen[*r as usize].starts.push(path.clone());
                    seen[*r as usize].value = Some(value.clone());
                }
            }
        }
        match stmt {
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                see(body, path, next, seen)
            }
            Stmt::If { then, otherwise, .. } => {
                see(then, path, next, seen);
                see(otherwise, path, next, seen);
            }
            _ => {}
        }
        path.pop();
    }
}

fn groups(kernel: &Kernel, seen: &[Seen]) -> Vec<Group> {
    let once = |r: Reg| seen[r as usize].starts.len() == 1 && seen[r as usize].products.is_empty();
    let mut groups: Vec<Group> = Vec::new();
    for (r, s) in seen.iter().enumerate() {
        let ([start], [_, ..]) = (&s.starts[..], &s.products[..]) else { continue };
        let Some(&(list, begin)) = start.last() else { continue };
        // The places of the products in the list that the sum begins in.
        let places: Option<Vec<usize>> = (s.products.iter())
            .map(|p| p.0.iter().find(|at| at.0 == list).map(|at| at.1).filter(|&at| at > begin))
            .collect();
        let Some(last) = places.and_then(|p| p.into_iter().max()) else { continue };
        if !s.products.iter().all(|p| once(p.1) && once(p.2)) {
            continue;
        }
        let same = |g: &&mut Group| {
            let first = g.accumulators[0] as usize;
            let factors = |s: &Seen| -> Vec<(usize, Reg)> {
                s.products.iter().map(|p| (p.0.last().map_or(0, |at| at.0), p.2)).collect()
            };
            g.list == list && kernel.regs[first] == kernel.regs[r] && factors(&seen[first]) == factors(s)
        };
        match groups.iter_mut().find(same) {
            Some(group) => {
                group.accumulators.push(r as Reg);
                group.last = group.last.max(last);
            }
            None => groups.push(Group { list, accumulators: vec![r as Reg], last }),
        }
    }
    // None may be read before all have got what is given back.
    groups.retain(|g| {
        let early = |path: &Path, begin: usize| {
            path.iter().any(|at| at.0 == g.list && at.1 > begin && at.1 <= g.last)
        };
        g.accumulators.iter().map(|&r| &seen[r as usize]).all(|s| {
            let begin = s.starts[0].last().map_or(0, |at| at.1);
            !s.reads.iter().any(|path| early(path, begin))
        })
    });
    groups
}

/// Statements to be put around others, by list and place.
struct Edit {
    /// The factor with its top bits flipped, of each that was.
    flipped: HashMap<Reg, Reg>,
    before: HashMap<(usize, usize), Vec<Stmt>>,
    instead: HashMap<(usize, usize), Stmt>,
    after: HashMap<(usize, usize), Vec<Stmt>>,
}

fn register(kernel: &mut Kernel, ty: RegType) -> Reg {
    kernel.regs.push(ty);
    (kernel.regs.len() - 1) as Reg
}

impl Edit {
    fn group(&mut self, kernel: &mut Kernel, seen: &[Seen], group: &Group) {
        let leader = &seen[group.accumulators[0] as usize];
        let (Some(&start), ty) = (leader.starts[0].last(), kernel.regs[group.accumulators[0] as usize])
        else {
            return;
        };
        let [sum, ones, times, back] = [0; 4].map(|_| register(kernel, ty));
        let begin = [Stmt::Let(sum, Value::Const(0)), Stmt::Let(ones, Value::Const(ONES.into()))];
        self.before.entry(start).or_default().extend(begin);
        for (path, _, y) in &leader.products {
            let Some(&at) = path.last() else { continue };
            self.after.entry(at).or_default().push(Stmt::Let(sum, Value::Dot(Dot::Ss, sum, *y, ones)));
        }
        let end = self.after.entry((group.list, group.last)).or_default();
        end.push(Stmt::Let(times, Value::Const(7)));
        end.push(Stmt::Let(back, Value::Bin(Bin::Shl, sum, times)));
        for &acc in &group.accumulators {
            end.push(Stmt::Let(acc, Value::Bin(Bin::Add, acc, back)));
        }
        for &acc in &group.accumulators {
            for (path, x, y) in &seen[acc as usize].products {
                let Some(&at) = path.last() else { continue };
                let x = self.flipped(kernel, seen, *x);
                self.instead.insert(at, Stmt::Let(acc, Value::Dot(Dot::Ss, acc, x, *y)));
            }
        }
    }

    /// The register with a factor whose top bits are flipped, made where the factor is; a lane of a
    /// register is one of its flipped lanes.
    fn flipped(&mut self, kernel: &mut Kernel, seen: &[Seen], x: Reg) -> Reg {
        if let Some(&known) = self.flipped.get(&x) {
            return known;
        }
        let once = |r: Reg| seen[r as usize].starts.len() == 1 && seen[r as usize].products.is_empty();
        let flipped = register(kernel, kernel.regs[x as usize]);
        let made = match &seen[x as usize].value {
            Some(Value::Broadcast(from, lane)) if once(*from) => {
                vec![Stmt::Let(flipped, Value::Broadcast(self.flipped(kernel, seen, *from), *lane))]
            }
            _ => {
                let top = register(kernel, kernel.regs[x as usize]);
                let made = Stmt::Let(flipped, Value::Bin(Bin::Xor, x, top));
                vec![Stmt::Let(top, Value::Const(0x8080_8080)), made]
            }
        };
        if let Some(&at) = seen[x as usize].starts[0].last() {
            self.after.entry(at).or_default().extend(made);
        }
        self.flipped.insert(x, flipped);
        flipped
    }

    fn apply(&mut self, body: Vec<Stmt>, next: &mut usize) -> Vec<Stmt> {
        let list = *next;
        *next += 1;
        let mut made = Vec::with_capacity(body.len());
        for (i, mut stmt) in body.into_iter().enumerate() {
            made.extend(self.before.remove(&(list, i)).unwrap_or_default());
            match &mut stmt {
                Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                    *body = self.apply(std::mem::take(body), next);
                }
                Stmt::If { then, otherwise, .. } => {
                    *then = self.apply(std::mem::take(then), next);
                    *otherwise = self.apply(std::mem::take(otherwise), next);
                }
                _ => {}
            }
            made.push(self.instead.remove(&(list, i)).unwrap_or(stmt));
            made.extend(self.after.remove(&(list, i)).unwrap_or_default());
        }
        made
    }
}
