//! Sums of products of bytes, or of numbers of 16 bits by bytes, several neighbours of a reduction axis at a time.

use super::ReduceStep;
use super::chains::WORD;
use super::cores::core;
use super::cost::UNROLLED_WORDS;
use super::factors::{factors, walks};
use super::guards::decided;
use super::instructions::{couples, multiplies_words, weaves_couples, word};
use super::linear::{Linear, Node};
use super::loads::overlap_along;
use super::reduction::{SLIDING, whole_steps};
use crate::base::{Affine, DType};
use crate::target::{Arch, Target};

/// Products of groups of neighbours unrolled in a window at most (measured on Zen 4: with 24 EfficientNet-Lite0 is
/// 1 % slower, with 48 no faster).
pub(super) const UNROLLED: usize = 36;

/// Couples of a filter that are woven, at most: they are unrolled.
const WOVEN: usize = 48;

/// What the magnitudes of four weights may add up to for their products by signed bytes to fit 16 bits.
pub const FOUR_WEIGHTS: u32 = (i16::MAX as u32) / (i8::MIN.unsigned_abs() as u32);

/// Neighbours that are loaded together where a word of them is multiplied by lane.
const BY_LANE: usize = 16;

/// A product of bytes: the factor that fills lanes, and the other one.
#[derive(Clone)]
pub struct Bytes<'a> {
    /// The factor that fills lanes: a constant, which is packed, or words in memory.
    pub vectors: &'a Node,
    /// The other one.
    pub rows: &'a Node,
    /// The other factor fills lanes too (each channel has a filter of its own): its words are put
    /// together from neighbours along the reduction.
    pub woven: bool,
    /// The reduction axis along which the first factor lies in words as it is.
    pub in_place: Option<u32>,
    /// The other factor's elements have 16 bits: two of them are a couple in memory.
    pub sixteen: bool,
    /// The constants have 16 bits, beside bytes that are woven: weights less a zero point.
    pub nine: bool,
}

impl Bytes<'_> {
    /// The factors of a product, where both are bytes in memory, and one is constant or lies in words.
    pub fn of(linear: &Linear, var: u32) -> Option<Bytes<'_>> {
        let (a, b) = factors(linear)?;
        let constant =
            |n: &Node| matches!(n, Node::Load { operand, .. } if linear.buffers[*operand as usize].constant);
        let (vectors, rows, woven) = match (walks(a, var), walks(b, var)) {
            (true, false) => (a, b, false),
            (false, true) => (b, a, false),
            (true, true) if constant(a) => (a, b, true),
            (true, true) => (b, a, true),
            (false, false) => return None,
        };
        let (
            Node::Load { operand: v, guards, dynamic, .. },
            Node::Load { operand: r, dynamic: computed, guards: padding, .. },
        ) = (vectors, rows)
        else {
            return None;
        };
        let dtype = |o: u32| linear.buffers[o as usize].dtype;
        let byte = |o: u32| matches!(dtype(o), DType::I8 | DType::U8);
        let sixteen = dtype(*r) == DType::I16 && constant(vectors) && !woven;
        let sums = linear.fold.is_some_and(|f| f.1 == DType::I32);
        let in_place = word_axis(linear, vectors, var).filter(|&k| {
            let words = linear.extent(k) == 4 || counts_couples(linear, rows, k);
            !constant(vectors) && !woven && words && byte(*r)
        });
        let known = constant(vectors) || in_place.is_some();
        let plain = known && guards.is_empty() && dynamic.is_empty() && computed.is_empty();
        // What lies outside is left out tile by tile, before anything is loaded as words.
        let plain = plain && (padding.is_empty() || decided(linear).is_some());
        let nine = dtype(*v) == DType::I16 && constant(vectors) && woven && byte(*r);
        let multiplied = byte(*v) && (byte(*r) || sixteen) || nine;
        (sums && plain && multiplied).then_some(Bytes { vectors, rows, woven, in_place, sixteen, nine })
    }

    /// Neighbours along an axis whose products are summed at a time: four where bytes can be multiplied,
    /// two of 16 bits where the broadcast factor can be widened ahead, or couples are woven.
    pub fn neighbours(&self, linear: &Linear, target: &Target) -> usize {
        if let Some(along) = self.in_place {
            return linear.extent(along);
        }
        if self.sixteen || couples(target) && (self.woven || self.can_widen(linear)) { 2 } else { 4 }
    }

    /// Unrolls what is around the words of a tile of `m` rows and so many sums.
    pub(super) fn unroll_outside(
        &self,
        linear: &Linear,
        target: &Target,
        reduce: &mut Vec<ReduceStep>,
        (rows, m, sums): (Option<u32>, usize, usize),
    ) {
        let core = core(target);
        // Where a vector of constants serves each row once, words take as long to load as to multiply.
        let waits = sums == m && core.loads <= core.fma && !core.by_lane;
        let words = multiplies_words(target) && !self.woven && !self.sixteen;
        match (self.rows, rows) {
            _ if self.in_place.is_some() => unroll_around(linear, reduce, sums),
            (Node::Load { addr, .. }, Some(axis)) if waits && words => {
                unroll_shared(linear, reduce, addr, (axis, m));
            }
            _ => {}
        }
    }

    /// Whether what a tile reads of the broadcast factor are bytes that are widened ahead, to couples.
    pub fn widened(&self, neighbours: usize) -> bool {
        neighbours == 2 && !self.woven && !self.sixteen
    }

    /// Whether what a tile reads of the broadcast factor can be copied ahead: nothing of it is padding.
    pub fn can_widen(&self, linear: &Linear) -> bool {
        let fixed = linear.reductions().all(|r| linear.vars[r as usize].size.is_none());
        fixed
            && !self.woven
            && !self.sixteen
            && matches!(self.rows, Node::Load { guards, .. } if guards.is_empty())
    }

    /// Whether products of two rows by two channels are possible, with the rows' factor along `k`.
    pub fn in_squares(&self, linear: &Linear, var: u32, k: u32) -> bool {
        let signed = |n: &Node| match n {
            Node::Load { operand, .. } => linear.buffers[*operand as usize].dtype == DType::I8,
            _ => false,
        };
        let signs = signed(self.vectors) || !signed(self.rows);
        // Where the axis ends within eight neighbours, one word holds what is left.
        let ends = linear.extent(k) >= 8 && matches!(linear.extent(k) % 8, 0..=4);
        let known = self.in_place.is_none() && !self.woven && linear.vars[k as usize].size.is_none();
        signs && ends && known && !self.sixteen && linear.extent(var).is_multiple_of(2)
    }

    /// Whether the first factor's words can lie in halves: products of two of its bytes fit 16 bits.
    pub fn in_halves(&self, linear: &Linear) -> bool {
        let buffer = |n: &Node| match n {
            Node::Load { operand, .. } => Some(&linear.buffers[*operand as usize]),
            _ => None,
        };
        let signed = |n: &Node| buffer(n).is_some_and(|b| b.dtype == DType::I8);
        let symmetric = buffer(self.vectors).is_some_and(|b| b.symmetric);
        symmetric && signed(self.vectors) && signed(self.rows) && !self.woven && self.in_place.is_none()
    }

    /// Registers that a target without the instruction needs for what it derives from the factors.
    pub fn derived(&self, linear: &Linear, target: &Target) -> usize {
        let symmetric = match self.vectors {
            Node::Load { operand, .. } => linear.buffers[*operand as usize].symmetric,
            _ => false,
        };
        match (target.has_vnni() || target.arch != Arch::X86_64 || self.woven || self.sixteen, symmetric) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 4,
        }
    }

    /// Whether so many neighbours along a reduction axis make a word of each factor. Woven couples walk over their
    /// window themselves, so that nothing of it is padding.
    pub fn lie_along(&self, var: u32, (k, neighbours): (u32, usize)) -> bool {
        let Node::Load { addr, guards, .. } = self.rows else { return false };
        let couples = self.woven && neighbours == 2;
        let padded = guards.iter().any(|g| couples || g.form.coefficient(k) != 0);
        let fits = if self.woven { addr.coefficient(var) == 1 } else { addr.coefficient(k) == 1 };
        fits && walks(self.rows, k) && walks(self.vectors, k) && !padded
    }

    /// The reduction axis along which bytes are multiplied: the broadcast factor lies along it in
    /// memory. Words are woven along the axis with the longest strides, since windows slide along the
    /// others, and only where an instruction multiplies them or their halves.
    pub fn along(&self, linear: &Linear, target: &Target, var: u32) -> Option<u32> {
        let neighbours = self.neighbours(linear, target);
        let lie = |k: u32| self.lie_along(var, (k, neighbours));
        let fits = |k: &u32| linear.vars[*k as usize].size.is_none() && linear.extent(*k) > 2 && lie(*k);
        if let Some(k) = self.in_place {
            let fits = lie(k) && word(target) == Some(linear.extent(k));
            return fits.then_some(k);
        }
        if !self.woven {
            return linear.reductions().find(fits);
        }
        let stride = |k: &u32| match self.rows {
            Node::Load { addr, .. } => addr.coefficient(*k).abs(),
            _ => 0,
        };
        let woven = linear.reductions().filter(fits).max_by_key(stride)?;
        let couples = weaves_couples(target) && words(linear, (woven, 2)) <= WOVEN;
        (multiplies_words(target) && !self.nine || couples).then_some(woven)
    }
}

/// The reduction axis whose points stand between the lanes along `var` of a load: four bytes, or two.
pub fn word_axis(linear: &Linear, load: &Node, var: u32) -> Option<u32> {
    let Node::Load { addr, .. } = load else { return None };
    let word = |&r: &u32| {
        let bytes = linear.extent(r);
        matches!(bytes, 2 | 4) && addr.coefficient(r) == 1 && addr.coefficient(var) == bytes as i64
    };
    linear.reductions().find(word)
}

/// Whether the one reduction axis around the halves of couples counts those of the broadcast factor.
fn counts_couples(linear: &Linear, rows: &Node, half: u32) -> bool {
    let others: Vec<u32> = linear.reductions().filter(|&r| r != half).collect();
    matches!((rows, &others[..]), (Node::Load { addr, .. }, [around]) if addr.coefficient(*around) == 2)
}

/// What a point's sum reads of the broadcast factor: runs, and bytes of each.
pub(super) fn runs(linear: &Linear, bytes: &Bytes) -> (usize, usize) {
    let Node::Load { addr, .. } = bytes.rows else { return (0, 0) };
    let (mut around, mut length): (Vec<u32>, usize) = (linear.reductions().collect(), 1);
    while let Some(at) = around.iter().position(|&v| addr.coefficient(v) == length as i64) {
        length *= linear.extent(around.remove(at));
    }
    (around.iter().map(|&v| linear.extent(v)).product(), length)
}

/// Words of so many neighbours along an axis that a point's sum takes.
pub(super) fn words(linear: &Linear, (along, neighbours): (u32, usize)) -> usize {
    let others = linear.reductions().filter(|&r| r != along).map(|r| linear.extent(r));
    others.product::<usize>() * linear.extent(along).div_ceil(neighbours)
}

/// Puts a reduction axis innermost, in steps of whole groups of neighbours.
pub(super) fn innermost(
    linear: &Linear,
    target: &Target,
    reduce: &mut Vec<ReduceStep>,
    (along, neighbours): (u32, usize),
    tile: usize,
    (by_lane, woven, sixteen): (bool, bool, bool),
) {
    reduce.retain(|r| r.var != along);
    let groups = linear.extent(along).div_ceil(neighbours);
    let mut unrolled = (core(target).grouped / tile).clamp(1, groups).min(4);
    if sixteen {
        unrolled = whole_steps(unrolled, groups);
    }
    let unroll = match (by_lane, sixteen) {
        (true, true) => BY_LANE / 2,
        (true, false) => BY_LANE,
        _ => unrolled * neighbours,
    };
    let looped = unroll < linear.extent(along);
    let known = reduce.iter().all(|r| linear.vars[r.var as usize].size.is_none());
    // Words are woven once for all points of the tile whose windows hold them.
    let most = if core(target).relists { UNROLLED_WORDS } else { SLIDING };
    let whole = woven && !looped && known && tile * words(linear, (along, neighbours)) <= most;
    if looped || whole {
        reduce.iter_mut().for_each(|r| r.unroll = if whole { linear.extent(r.var) } else { 1 });
    }
    reduce.push(ReduceStep { var: along, unroll });
}

/// Unrolls the axis around words that lie in place, as one of words along it would be.
fn unroll_around(linear: &Linear, reduce: &mut [ReduceStep], tile: usize) {
    if let [.., around, _] = reduce {
        let extent = linear.extent(around.var);
        let most = (UNROLLED / tile).clamp(1, extent).min(4);
        around.unroll = around.unroll.max(whole_steps(most, extent));
    }
}

/// Unrolls the window that slides along a tile's rows, of which there are `m`, so that words that these share are
/// loaded once; two thirds of a window that are not shared take longer (person detection's first convolution).
fn unroll_shared(linear: &Linear, reduce: &mut Vec<ReduceStep>, rows: &Affine, (axis, m): (u32, usize)) {
    let Some((words, around)) = reduce.split_last() else { return };
    let shared = |(step, extent): (usize, usize)| 2 * step <= extent;
    let window = |r: &ReduceStep| overlap_along(linear, rows, axis, r.var).is_some_and(shared);
    let Some(at) = around.iter().position(window) else { return };
    let (length, extent) = (linear.extent(words.var), linear.extent(around[at].var));
    if words.unroll >= length && m * length.div_ceil(WORD) * extent <= UNROLLED_WORDS {
        let window = ReduceStep { unroll: extent, ..reduce.remove(at) };
        reduce.insert(reduce.len() - 1, window);
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{DType, TensorType};
    use crate::definition::{DefBuilder, Definition};
    use crate::scalar::{Fold, Op};
    use crate::schedule::choose::choose;
    use crate::schedule::linear::Layout;
    use crate::schedule::{Linear, verify};
    use crate::target::resolve;

    /// `y[h, w, c] = sum(i, j) x[h + i, w + j, c] * f[i, j, c]`.
    fn depthwise() -> Definition {
        let (x, f) = (TensorType::new(DType::U8, [16, 16, 64]), TensorType::new(DType::I8, [3, 3, 64]));
        let y = TensorType::new(DType::I32, [14, 14, 64]);
        let mut b = DefBuilder::new(&y.shape);
        let (i, j) = (b.reduce("i", 3), b.reduce("j", 3));
        let at = vec![b.var(0).plus(&i), b.var(1).plus(&j), b.var(2)];
        let (v, w) = (b.load(0, &x, at), vec![i, j, b.var(2)]);
        let w = b.load(1, &f, w);
        let (v, w) = (b.cast(DType::I32, v), b.cast(DType::I32, w));
        let product = b.op(Op::Mul, &[v, w]);
        let sum = b.fold(Fold::Sum, product);
        b.finish("depthwise", 2, &y, sum)
    }

    #[test]
    fn words_in_place_fill_lanes_where_an_instruction_multiplies_them() {
        let (x, t) = (TensorType::new(DType::U8, [28, 32]), TensorType::new(DType::I8, [8, 64, 4]));
        let y = TensorType::new(DType::I32, [28, 64]);
        let mut b = DefBuilder::new(&y.shape);
        let (word, byte) = (b.reduce("word", 8), b.reduce("byte", 4));
        let row = vec![b.var(0), word.scaled(4).plus(&byte)];
        let (row, lanes) = (b.load(0, &x, row), vec![word, b.var(1), byte]);
        let lanes = b.load(1, &t, lanes);
        let (row, lanes) = (b.cast(DType::I32, row), b.cast(DType::I32, lanes));
        let product = b.op(Op::Mul, &[row, lanes]);
        let sum = b.fold(Fold::Sum, product);
        let def = b.finish("scores", 2, &y, sum);
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        let linear = Linear::new(&def, &layouts, &[false, false], &Layout::dense(&y.shape));
        for (triple, cpu) in [("x86_64", "icelake-server"), ("aarch64", "neoverse-n1")] {
            let schedule = choose(&linear, &resolve(triple, cpu).unwrap());
            verify(&schedule, &linear).unwrap();
            assert_eq!((schedule.dot, schedule.pack.len()), (4, 0), "{}", schedule.display(&linear));
        }
        assert_eq!(choose(&linear, &resolve("x86_64", "x86-64-v3").unwrap()).dot, 1);
    }

    #[test]
    fn words_are_woven_along_rows_where_an_instruction_multiplies_them() {
        let def = depthwise();
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        let linear = Linear::new(&def, &layouts, &[false, true], &Layout::dense(&def.output.ty.shape));
        let vnni = choose(&linear, &resolve("x86_64", "icelake-server").unwrap());
        verify(&vnni, &linear).unwrap();
        assert_eq!(vnni.dot, 4);
        let along = vnni.reduce.last().unwrap().var;
        assert_eq!(linear.vars[along as usize].name, "i");
        let avx2 = choose(&linear, &resolve("x86_64", "x86-64-v3").unwrap());
        verify(&avx2, &linear).unwrap();
        assert_eq!((avx2.dot, avx2.reduce.last().unwrap().var), (2, along));
        assert_eq!(choose(&linear, &resolve("x86_64", "x86-64-v2").unwrap()).dot, 1);
    }
}
