//! Strips within strips: a chain is cut into pieces, and each piece strip by strip along another axis.
//!
//! ```text
//! for each head                       scores of 1500 queries by 1500 keys: strips of all heads fit no near cache,
//!     for each strip of its queries   the keys and values of one head and some of its rows do
//!         scores; softmax; product
//! ```
//! No piece reads what another makes, nor factors that another reads.

use super::chain::{Chain, Link, Part, move_load};
use super::emit::Emit;
use super::rates::Rates;
use crate::definition::{Definition, Operand, Stage, Strips, View};
use crate::schedule::linear::Layout;
use std::rc::Rc;

/// How a chain is cut.
#[derive(Clone)]
pub struct Cut<'a> {
    /// The whole chain, along the axis that makes pieces of it, where they are cut further.
    pub around: Option<Rc<Chain<'a>>>,
    /// What is computed strip by strip.
    pub chain: Rc<Chain<'a>>,
    pub rates: Rates,
}

impl<'a> Cut<'a> {
    /// How many pieces there are.
    pub fn pieces(&self) -> i64 {
        self.around.as_ref().and_then(|c| c.links.last()).map_or(1, Link::rows)
    }

    /// The chain as a whole.
    pub fn whole(&self) -> &Chain<'a> {
        self.around.as_ref().unwrap_or(&self.chain)
    }
}

/// What the definitions of a chain compute of the first of its rows, with operands that are as long as what they read;
/// `None` where rows depend on each other, or share factors, which register tiles of several rows read once.
fn piece(chain: &Chain) -> Option<Vec<Definition>> {
    let apart = |link: &Link| {
        let moves = |e| link.def.walks(e, |v| v == link.row);
        link.def.factors().is_none_or(|factors| factors.into_iter().all(moves))
    };
    let pieces = chain.by_rows() && chain.links.iter().all(apart);
    pieces.then(|| chain.links.iter().map(first_row).collect())
}

fn first_row(link: &Link) -> Definition {
    let mut def = link.def.clone().into_owned();
    def.vars[link.row as usize].extent = 1;
    for read in &link.reads {
        move_load(&mut def, read, -read.low);
        def.operands[read.operand].ty.shape[read.dim] = (read.high - read.low + 1) as usize;
    }
    def.store[link.dim].base -= link.low;
    def.output.ty.shape[link.dim] = (link.high - link.low + 1) as usize;
    def
}

/// The chains of the piece of a chain along each of its axes.
pub fn within(chain: &Chain, layouts: &[Layout]) -> Vec<Chain<'static>> {
    let Some(piece) = piece(chain) else { return Vec::new() };
    let parts: Vec<Part> = piece.iter().map(|def| Part { def, frame: None }).collect();
    let axes = piece.last().map_or(0, |last| last.axes as u32);
    (0..axes).filter_map(|axis| Chain::of(&parts, axis, layouts)).map(Chain::owned).collect()
}

/// The stages of a chain, cut so.
pub fn stages(emit: &mut Emit, cut: &Cut) -> Vec<Stage> {
    let Some(around) = &cut.around else { return emit.chain(&cut.chain, &cut.rates) };
    let mut views = Vec::new();
    let mut chain = Chain::clone(&cut.chain);
    let mut part = |operand: &mut Operand, dim: usize, (start, step): (i64, i64)| {
        let part = emit.part(operand.value, dim, operand.ty.shape[dim] as i64);
        views.push(View { whole: operand.value, part, dim, start: start as usize, step: step as usize });
        operand.value = part;
    };
    for (link, inner) in around.links.iter().zip(&mut chain.links) {
        let def = inner.def.to_mut();
        for read in link.reads.iter().filter(|r| r.from.is_none()) {
            part(&mut def.operands[read.operand], read.dim, (read.low, read.step));
        }
    }
    if let (Some(link), Some(inner)) = (around.links.last(), chain.links.last_mut()) {
        part(&mut inner.def.to_mut().output, link.dim, (link.low, link.step));
    }
    let body = emit.chain(&chain, &cut.rates);
    vec![Stage::Strips(Strips { count: cut.pieces() as usize, views, body })]
}
