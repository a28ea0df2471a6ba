//! Bytes that are only moved or compared, four to a lane of 32 bits.
//!
//! Lanes of 32 bits hold a byte each otherwise: each is extended when it is loaded, and narrowed on its way back, which
//! takes longer than the maximum of a window, or all that a copy does. Where bytes lie in whole words, a word is one
//! element, and comparisons are those of its four bytes ([`crate::tile::Bin::MaxBytes`]). The nest is that of words;
//! what an expression gives are numbers of one byte still, four of them.

use super::linear::{Linear, Node};
use crate::base::{Affine, DType};
use crate::scalar::{Fold, Op};

/// Bytes of a word.
pub const QUAD: usize = 4;

/// Makes words the elements of a definition that only moves or compares bytes, where they lie in whole ones.
pub fn in_quads(linear: &mut Linear) {
    let Some(var) = axis_of_words(linear).filter(|_| only_bytes(linear)) else { return };
    let words = |form: &Affine| Affine {
        base: form.base / QUAD as i64,
        terms: form.terms.iter().map(|&(v, s)| (v, if v == var { s } else { s / QUAD as i64 })).collect(),
    };
    linear.store = words(&linear.store);
    for node in &mut linear.nodes {
        if let Node::Load { addr, .. } = node {
            *addr = words(addr);
        }
    }
    for buffer in linear.buffers.iter_mut().chain([&mut linear.output]) {
        (buffer.dtype, buffer.elems) = (DType::I32, buffer.elems / QUAD);
    }
    linear.vars[var as usize].extent /= QUAD;
    linear.facts.quads = true;
}

/// Whether nothing but bytes of one type is computed, from memory and constants, by comparisons alone.
fn only_bytes(linear: &Linear) -> bool {
    let dtype = linear.output.dtype;
    let loaded = |operand: u32| &linear.buffers[operand as usize];
    let plain = |node: &Node| match node {
        Node::Const(_) | Node::Acc | Node::Op(Op::Max | Op::Min, _) => true,
        Node::Load { operand, dynamic, .. } => {
            dynamic.is_empty() && loaded(*operand).dtype == dtype && !loaded(*operand).constant
        }
        _ => false,
    };
    let folds = linear.fold.is_none_or(|(fold, of, _)| matches!(fold, Fold::Max | Fold::Min) && of == dtype);
    let read = linear.buffers.iter().all(|b| b.dtype == dtype && !b.constant);
    matches!(dtype, DType::I8 | DType::U8)
        && folds
        && read
        && linear.types.iter().all(|t| *t == dtype)
        && linear.nodes.iter().all(plain)
}

/// The axis along which bytes are neighbours, whole words of them in whatever is read and written.
fn axis_of_words(linear: &Linear) -> Option<u32> {
    let var = linear.axes().find(|&v| linear.store.coefficient(v) == 1)?;
    let whole = |n: i64| n % QUAD as i64 == 0;
    let lies = |form: &Affine| {
        form.coefficient(var) == 1
            && whole(form.base)
            && form.terms.iter().all(|&(v, step)| v == var || whole(step))
    };
    let fits = |node: &Node| match node {
        Node::Load { addr, guards, .. } => lies(addr) && guards.iter().all(|g| g.form.coefficient(var) == 0),
        _ => true,
    };
    let margins = linear.margins.iter().all(|g| g.form.coefficient(var) == 0);
    let along = &linear.vars[var as usize];
    (along.size.is_none() && whole(along.extent as i64) && margins && lies(&linear.store))
        .then_some(var)
        .filter(|_| linear.nodes.iter().all(fits))
}
