//! The factors of a sum of products: which loads they are, what they are computed from, what of them is
//! packed.

use super::linear::{Linear, Node};
use super::loads::loads;
use crate::base::DType;
use crate::scalar::{Fold, Op};

/// Constants that stand in both factors stay as they are: each would be packed for one of them.
pub(super) fn drop_squares(pack: &mut Vec<u32>) {
    let all = pack.clone();
    pack.retain(|operand| all.iter().filter(|&o| o == operand).count() == 1);
}

/// The two factors of a sum of products.
pub(super) fn factors(linear: &Linear) -> Option<(&Node, &Node)> {
    let (fold, _, body) = linear.fold?;
    let strip = |e: u32| &linear.nodes[linear.without_casts(e) as usize];
    match &linear.nodes[body as usize] {
        Node::Op(Op::Mul, args) if fold == Fold::Sum => Some((strip(args[0]), strip(args[1]))),
        _ => None,
    }
}

/// The loads that the two factors of a sum of products are made of: a factor that is computed from
/// constants alone (weights that are dequantized where they are read) counts as its largest one.
pub(super) fn factor_loads(linear: &Linear) -> Option<(&Node, &Node)> {
    let (a, b) = factors(linear)?;
    let (_, _, body) = linear.fold?;
    let Node::Op(_, args) = &linear.nodes[body as usize] else { return None };
    let load = |factor, e| if matches!(factor, &Node::Load { .. }) { None } else { dequantized(linear, e) };
    Some((load(a, args[0]).unwrap_or(a), load(b, args[1]).unwrap_or(b)))
}

/// The largest load of an expression over constants alone.
fn dequantized(linear: &Linear, e: u32) -> Option<&Node> {
    let elems = |n: &&Node| match n {
        Node::Load { operand, guards, dynamic, .. } => {
            let buffer = &linear.buffers[*operand as usize];
            (buffer.constant && guards.is_empty() && dynamic.is_empty()).then_some(buffer.elems)
        }
        _ => None,
    };
    let loads = loads(linear, e);
    loads.iter().all(|n| elems(n).is_some()).then(|| loads.into_iter().max_by_key(elems))?
}

/// The constants that are packed for a factor which follows the vector axis: the factor itself, and of
/// what it is computed from (scales) all whose neighbours are no neighbours in memory.
pub(super) fn packed_for(linear: &Linear, factor: u32, var: u32) -> Vec<u32> {
    let direct = loads(linear, factor).len() == 1;
    let largest = dequantized(linear, factor);
    let packs = |n: &Node| match n {
        Node::Load { operand, addr, .. } if linear.buffers[*operand as usize].constant => {
            let step = addr.coefficient(var);
            let apart = direct || step != 1 || largest == Some(n);
            (step != 0 && apart).then_some(*operand)
        }
        _ => None,
    };
    loads(linear, factor).into_iter().filter_map(packs).collect()
}

/// Registers for each vector of a factor beside the vector itself: scales, and the bytes that hold
/// elements of four bits.
pub(super) fn beside(linear: &Linear, factor: &Node) -> usize {
    let computed = factors(linear).is_some_and(|(a, b)| a != factor && b != factor);
    match factor {
        Node::Load { operand, .. } if computed => 1 + usize::from(four_bits(linear, *operand)),
        _ => 0,
    }
}

pub(super) fn four_bits(linear: &Linear, operand: u32) -> bool {
    matches!(linear.buffers[operand as usize].dtype, DType::I4 | DType::U4)
}

pub(super) fn walks(node: &Node, var: u32) -> bool {
    matches!(node, Node::Load { addr, .. } if addr.coefficient(var) != 0)
}

/// Whether the broadcast factor walks some reduction axis by 1, at least so long.
pub(super) fn lane_factor(linear: &Linear, product: Option<(&Node, &Node)>, var: u32, least: usize) -> bool {
    let Some((a, b)) = product else { return false };
    let unit = |n: &Node| match n {
        Node::Load { addr, guards, .. } => linear.reductions().any(|r| {
            let padded = guards.iter().any(|g| g.form.coefficient(r) != 0);
            addr.coefficient(r) == 1 && linear.extent(r) >= least && !padded
        }),
        _ => false,
    };
    [a, b].iter().any(|f| !walks(f, var) && unit(f))
}

/// Where the folded value of a sum is used once, in a sum with a plain load (a bias), converted or not: that sum and
/// the load.
pub fn added_first(linear: &Linear) -> Option<(u32, u32)> {
    if linear.fold?.0 != Fold::Sum {
        return None;
    }
    let finish = linear.reachable(linear.finish);
    let is_acc = |e: u32| matches!(linear.nodes[e as usize], Node::Acc);
    let mut users = finish.into_iter().filter(|&e| {
        let node = &linear.nodes[e as usize];
        node.args().into_iter().any(is_acc) || matches!(node, Node::Acc) && e == linear.finish
    });
    let (sum, None) = (users.next()?, users.next()) else { return None };
    let Node::Op(Op::Add, args) = &linear.nodes[sum as usize] else { return None };
    let addend = if is_acc(args[0]) { args[1] } else { args[0] };
    match &linear.nodes[linear.without_casts(addend) as usize] {
        Node::Load { dynamic, guards, .. } if dynamic.is_empty() && guards.is_empty() => Some((sum, addend)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::drop_squares;

    #[test]
    fn what_both_factors_hold_is_not_packed() {
        for (found, packed) in
            [(vec![0, 1], vec![0, 1]), (vec![2, 2], vec![]), (vec![0, 1, 0, 3], vec![1, 3])]
        {
            let mut pack = found;
            drop_squares(&mut pack);
            assert_eq!(pack, packed);
        }
    }
}
