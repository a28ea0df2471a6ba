//! Products of four bytes summed into 32-bit lanes.
//!
//! With the instruction, one of the factors may be a lane. Where the processor has it for equal
//! signs only, the top bits of the unsigned factor are flipped, which changes it by 128, and 128
//! times the sum of the other is given back. Without it, products of bytes are made in 16 bits, and
//! sums of neighbouring products are added to two vectors of an accumulator that is `split`; these
//! are joined when the sum is read.

use super::Result;
use super::couple::Couple;
use super::flip::ONES;
use super::inst::{Kind, VReg, read, update};
use super::select::{Derived, Form, Select};
use super::words;
use crate::tile::{Dot, EACH, Reg, Signs};

/// Products of 16 bits that are made side by side.
const SIDE_BY_SIDE: usize = 4;

/// A factor: a vector, or a lane of it.
#[derive(Clone, Copy)]
enum Factor {
    Vector(VReg),
    Lane(VReg, usize),
}

impl Select<'_> {
    /// Translates a sum of products.
    pub(super) fn dot(&mut self, r: Reg, kind: Dot, acc: Reg, a: Reg, b: Reg) -> Result<()> {
        if kind == Dot::Couples && self.constant_reg(b) == Some(EACH) {
            return self.sum_of_pairs(r, acc, a);
        }
        if kind == Dot::Couples {
            return self.couples_dot(r, acc, a, b);
        }
        if kind == Dot::Pairs {
            return Err("sums of 16 bits that saturate".into());
        }
        if kind == Dot::HalfPairs {
            return self.half_pairs_dot(r, acc, a, b);
        }
        if let Dot::Squares(signs) = kind {
            return self.squares(r, signs, acc, a, b);
        }
        if kind == Dot::Halves {
            return self.halves_dot(r, acc, a, b);
        }
        if kind == Dot::CoupleHalves {
            return self.couple_halves_dot(r, acc, a, b);
        }
        if self.split[r as usize] {
            return self.widening_dot(r, kind, a, b);
        }
        let to = self.accumulator(r, acc, &[a, b])?;
        for (part, &to) in to.iter().enumerate() {
            let (x, y) = (self.factor(a, part)?, self.factor(b, part)?);
            match self.isa.dot {
                true => self.dot_part(kind, to, x, y),
                false if kind == Dot::Ss && self.constant_reg(b) == Some(ONES) => {
                    let bytes = self.whole(x);
                    let pairs = self.new1(words::addlp(1, true), bytes);
                    self.push(words::adalp(true), vec![update(to, 0), read(pairs, 5)], Kind::Plain);
                }
                false => {
                    let sums: Vec<VReg> = (self.products(kind, x, y).into_iter())
                        .map(|products| self.new1(words::addlp(2, kind != Dot::Uu), products))
                        .collect();
                    let sum = self.joined(&sums)[0];
                    self.op2(words::ADD_V, to, to, sum);
                }
            }
        }
        self.accumulated(r, &to);
        Ok(())
    }

    /// Of eight words at a time, products of the lower halves and then of the upper ones in 16 bits.
    fn halves_dot(&mut self, r: Reg, acc: Reg, a: Reg, b: Reg) -> Result<()> {
        let ys = self.words(b)?;
        let xs = self.halves_of(a, ys.len())?;
        let to = self.accumulator(r, acc, &[a, b])?;
        // Each step waits for the one before: those of all words are made side by side.
        for (first, (xs, ys)) in xs.chunks(SIDE_BY_SIDE).zip(ys.chunks(SIDE_BY_SIDE)).enumerate() {
            let words = || xs.chunks(2).zip(ys.chunks(2)).flat_map(|word| [(word, false), (word, true)]);
            let sums: Vec<VReg> =
                words().map(|((x, y), high)| self.new2(words::mull(1, true, high), x[0], y[0])).collect();
            for (((x, y), high), &sum) in words().zip(&sums) {
                self.op3(words::mlal(1, true, high), sum, x[1], y[1]);
            }
            for (sum, &to) in sums.into_iter().zip(&to[SIDE_BY_SIDE * first..]) {
                self.push(words::adalp(true), vec![update(to, 0), read(sum, 5)], Kind::Plain);
            }
        }
        self.accumulated(r, &to);
        Ok(())
    }

    /// Of eight words at a time, products of the lower halves and then of the upper ones, added in 16 bits.
    fn half_pairs_dot(&mut self, r: Reg, acc: Reg, a: Reg, b: Reg) -> Result<()> {
        let ys = self.words(b)?;
        let xs = self.halves_of(a, ys.len())?;
        let begins = self.constant_reg(acc) == Some(0);
        let to = match [a, b].contains(&r) {
            true if begins => (0..ys.len()).map(|_| self.vector()).collect(),
            true if r == acc => self.words(acc)?.into_iter().map(|sum| self.copied(sum)).collect(),
            false if begins => self.target(r),
            _ => self.accumulator(r, acc, &[a, b])?,
        };
        for half in 0..2 {
            for (i, &to) in to.iter().enumerate() {
                let factor = i / 2 * 2 + half;
                match begins && half == 0 {
                    true => self.op2(words::mull(1, true, i % 2 == 1), to, xs[factor], ys[factor]),
                    false => self.op3(words::mlal(1, true, i % 2 == 1), to, xs[factor], ys[factor]),
                }
            }
        }
        if begins && self.single(r).is_some() && ![a, b].contains(&r) {
            return Ok(());
        }
        self.accumulated(r, &to);
        Ok(())
    }

    /// Sums of two numbers of 16 bits each, added to those of 32.
    fn sum_of_pairs(&mut self, r: Reg, acc: Reg, pairs: Reg) -> Result<()> {
        let pairs_of = self.words(pairs)?;
        let to = self.accumulator(r, acc, &[pairs])?;
        for (&to, pairs) in to.iter().zip(pairs_of) {
            self.push(words::adalp(true), vec![update(to, 0), read(pairs, 5)], Kind::Plain);
        }
        self.accumulated(r, &to);
        Ok(())
    }

    /// Products of couples in 32 bits, whose neighbours are added.
    fn couples_dot(&mut self, r: Reg, acc: Reg, a: Reg, b: Reg) -> Result<()> {
        let (xs, ys) = (self.words(a)?, self.words(b)?);
        let to = self.accumulator(r, acc, &[a, b])?;
        for ((&to, x), y) in to.iter().zip(xs).zip(ys) {
            let products = [false, true].map(|high| self.new2(words::mull(2, true, high), x, y));
            let sum = self.new2(words::ADDP, products[0], products[1]);
            self.op2(words::ADD_V, to, to, sum);
        }
        self.accumulated(r, &to);
        Ok(())
    }

    /// Of eight words at a time, products of the lower halves and then of the upper ones in 32 bits.
    fn couple_halves_dot(&mut self, r: Reg, acc: Reg, a: Reg, b: Reg) -> Result<()> {
        let ys = self.words(b)?;
        if let Some((x, lane)) = self.lane(a).filter(|_| r == acc && ![a, b].contains(&r)) {
            let to = self.accumulator(r, acc, &[a, b])?;
            for half in 0..2 {
                for (i, &to) in to.iter().enumerate() {
                    let word = words::mlal_lane(i % 2 == 1, 2 * lane + half);
                    self.op3(word, to, ys[i / 2 * 2 + half], x);
                }
            }
            self.accumulated(r, &to);
            return Ok(());
        }
        let xs = self.halves_of(a, ys.len())?;
        // The first products must not be added to what the second ones are made of.
        let to = match r == acc && [a, b].contains(&r) {
            true => self.words(acc)?.into_iter().map(|sum| self.copied(sum)).collect(),
            false => self.accumulator(r, acc, &[a, b])?,
        };
        for half in 0..2 {
            for (i, &to) in to.iter().enumerate() {
                let factor = i / 2 * 2 + half;
                self.op3(words::mlal(2, true, i % 2 == 1), to, ys[factor], xs[factor]);
            }
        }
        self.accumulated(r, &to);
        Ok(())
    }

    /// Words in halves: of each eight, a vector of the lower halves and one of the upper ones.
    fn halves_of(&mut self, r: Reg, count: usize) -> Result<Vec<VReg>> {
        if let Some((v, lane)) = self.lane(r) {
            let halves = [2 * lane, 2 * lane + 1].map(|half| self.copies(v, 2, half));
            return Ok((0..count).map(|i| halves[i % 2]).collect());
        }
        let words = self.words(r)?;
        let each = words.chunks_exact(2);
        Ok(each
            .flat_map(|w| [words::uzp1(2), words::uzp2(2)].map(|word| self.new2(word, w[0], w[1])))
            .collect())
    }

    /// Two rows by two columns in each vector.
    fn squares(&mut self, r: Reg, signs: Signs, acc: Reg, a: Reg, b: Reg) -> Result<()> {
        if !self.isa.mixed {
            return Err("products of two rows by two columns".into());
        }
        let (xs, ys) = (self.words(a)?, self.words(b)?);
        let to = self.accumulator(r, acc, &[a, b])?;
        for ((&to, x), y) in to.iter().zip(xs).zip(ys) {
            self.op3(words::squares(signs), to, x, y);
        }
        self.accumulated(r, &to);
        Ok(())
    }

    fn factor(&mut self, r: Reg, part: usize) -> Result<Factor> {
        Ok(match self.lane(r) {
            Some((v, lane)) => Factor::Lane(v, lane),
            None => Factor::Vector(self.words(r)?[part]),
        })
    }

    fn whole(&mut self, factor: Factor) -> VReg {
        match factor {
            Factor::Vector(v) => v,
            Factor::Lane(v, lane) => self.copies(v, 4, lane),
        }
    }

    fn dot_part(&mut self, kind: Dot, to: VReg, x: Factor, y: Factor) {
        match kind {
            Dot::Ss
            | Dot::Sn
            | Dot::Uu
            | Dot::Bytes
            | Dot::Couples
            | Dot::Pairs
            | Dot::Halves
            | Dot::HalfPairs
            | Dot::CoupleHalves
            | Dot::Squares(_) => self.equal_dot(kind != Dot::Uu, to, x, y),
            Dot::Us if self.isa.mixed => match (x, y) {
                (Factor::Lane(x, lane), y) => {
                    let y = self.whole(y);
                    self.op3(words::mixed_dot_lane(true, lane), to, y, x);
                }
                (Factor::Vector(x), Factor::Lane(y, lane)) => {
                    self.op3(words::mixed_dot_lane(false, lane), to, x, y);
                }
                (Factor::Vector(x), Factor::Vector(y)) => self.op3(words::USDOT, to, x, y),
            },
            Dot::Us => {
                let lowered = match x {
                    Factor::Vector(v) => Factor::Vector(self.flipped(v)),
                    Factor::Lane(v, lane) => Factor::Lane(self.flipped(v), lane),
                };
                let signed = self.whole(y);
                let excess = self.excess(signed);
                self.equal_dot(true, to, lowered, Factor::Vector(signed));
                self.op2(words::ADD_V, to, to, excess);
            }
        }
    }

    /// Both signed or both unsigned: factors can change places.
    fn equal_dot(&mut self, signed: bool, to: VReg, x: Factor, y: Factor) {
        match (x, y) {
            (Factor::Lane(v, lane), other) | (other, Factor::Lane(v, lane)) => {
                let other = self.whole(other);
                self.op3(words::dot_lane(signed, lane), to, other, v);
            }
            (Factor::Vector(x), Factor::Vector(y)) => self.op3(words::dot(signed), to, x, y),
        }
    }

    /// Unsigned bytes minus 128, as signed ones.
    pub(super) fn flipped(&mut self, v: VReg) -> VReg {
        if let Some(known) = self.derived.get(&Derived::Flipped(v)) {
            return known[0];
        }
        let top = self.splat(0x8080_8080);
        let flipped = self.new2(words::EOR, v, top);
        self.derived.insert(Derived::Flipped(v), vec![flipped]);
        flipped
    }

    /// 128 times the sum of the signed bytes of each lane.
    fn excess(&mut self, v: VReg) -> VReg {
        if let Some(known) = self.derived.get(&Derived::Excess(v)) {
            return known[0];
        }
        let half = self.splat(0x4040_4040);
        let zero = self.splat(0);
        let sum = self.vector();
        self.copy(sum, zero);
        self.op3(words::dot(true), sum, v, half);
        self.op3(words::dot(true), sum, v, half);
        self.derived.insert(Derived::Excess(v), vec![sum]);
        sum
    }

    fn widening_dot(&mut self, r: Reg, kind: Dot, a: Reg, b: Reg) -> Result<()> {
        for part in 0..self.count(r) {
            let (x, y) = (self.factor(a, part)?, self.factor(b, part)?);
            let to = self.target(r);
            for (half, products) in self.products(kind, x, y).into_iter().enumerate() {
                let fields = vec![update(to[2 * part + half], 0), read(products, 5)];
                self.push(words::adalp(kind != Dot::Uu), fields, Kind::Plain);
            }
        }
        Ok(())
    }

    /// Sums of two products of bytes in lanes of their own, made in 16 bits and widened as they are added: how many of
    /// the couples, none where the factors were not loaded as bytes.
    pub(super) fn coupled_bytes(&mut self, couples: &[Couple]) -> Result<usize> {
        let mut some = Vec::new();
        for &(r, factors) in couples.iter().take(SIDE_BY_SIDE / 2) {
            let raw = factors.map(|(a, b)| Some((self.bytes_of(a)?, self.bytes_of(b)?)));
            let [Some(first), Some(second)] = raw else { break };
            some.push((self.target(r), first, second));
        }
        let mut sums = Vec::new();
        for (to, (xs, ys), second) in &some {
            for (half, to) in to.chunks(2).enumerate() {
                let products = self.new2(words::mull(1, true, half % 2 == 1), xs[half / 2], ys[half / 2]);
                sums.push((products, half, second, to));
            }
        }
        for &(products, half, (xs, ys), _) in &sums {
            self.op3(words::mlal(1, true, half % 2 == 1), products, xs[half / 2], ys[half / 2]);
        }
        for (products, _, _, to) in sums {
            for (i, &to) in to.iter().enumerate() {
                self.op2(words::add_wide(i == 1), to, to, products);
            }
        }
        Ok(some.len())
    }

    /// A register's signed bytes as they were loaded.
    fn bytes_of(&self, r: Reg) -> Option<Vec<VReg>> {
        match self.form(r) {
            Some(Form::Narrow { raw, bytes: 1, signed: true }) => Some(raw.clone()),
            _ => None,
        }
    }

    /// Sums of two products each that fit 16 bits, all with the same second factors; how many. Some are made side by
    /// side, since each step waits for the one before.
    pub(super) fn coupled_dots(&mut self, couples: &[Couple]) -> Result<usize> {
        // Registers with a factor in common have as many lanes.
        for part in 0..couples.first().map_or(0, |c| self.count(c.0)) {
            for some in couples.chunks(SIDE_BY_SIDE / 2) {
                let mut sums = Vec::new();
                for &(r, factors) in some {
                    let mut vectors = Vec::new();
                    for (a, b) in factors {
                        let (x, y) = (self.factor(a, part)?, self.factor(b, part)?);
                        vectors.push((self.whole(x), self.whole(y)));
                    }
                    let to = self.target(r);
                    for high in [false, true] {
                        let products = self.new2(words::mull(1, true, high), vectors[0].0, vectors[0].1);
                        sums.push((high, products, vectors[1], to[2 * part + usize::from(high)]));
                    }
                }
                for &(high, products, (x, y), _) in &sums {
                    self.op3(words::mlal(1, true, high), products, x, y);
                }
                for (_, products, _, to) in sums {
                    let fields = vec![update(to, 0), read(products, 5)];
                    self.push(words::adalp(true), fields, Kind::Plain);
                }
            }
        }
        Ok(couples.len())
    }

    /// The vectors of a sum as those of an accumulator that is `split`.
    pub(super) fn apart(&mut self, parts: &[VReg]) -> Vec<VReg> {
        parts
            .iter()
            .flat_map(|&v| [false, true].map(|high| self.new1(words::widen(4, false, high), v)))
            .collect()
    }

    /// Products of bytes in 16 bits: of the lower and of the upper halves.
    fn products(&mut self, kind: Dot, x: Factor, y: Factor) -> [VReg; 2] {
        let (x, y) = (self.whole(x), self.whole(y));
        let x = if kind == Dot::Us { self.flipped(x) } else { x };
        [false, true].map(|high| match kind {
            // 128 y + (x - 128) y, which fits 16 bits.
            Dot::Us => {
                let products = self.new1(words::widen(1, true, high) | 7 << 16, y);
                self.op3(words::mlal(1, true, high), products, x, y);
                products
            }
            _ => self.new2(words::mull(1, kind != Dot::Uu, high), x, y),
        })
    }

    /// The sums of pairs of an accumulator, joined.
    pub(super) fn joined(&mut self, parts: &[VReg]) -> Vec<VReg> {
        parts.chunks(2).map(|pair| self.new2(words::ADDP, pair[0], pair[1])).collect()
    }
}
