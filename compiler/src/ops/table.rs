//! The table of operators: one row each.

use super::{
    Operator, cast, chosen, compositions, control, elementwise, ml, movement, nn, random, reduce, require,
    scan, scatter, sized, structure, suppress, top_k,
};

/// All families of operators, each a list of rows.
const FAMILIES: &[&[Operator]] = &[
    structure::ROWS,
    control::ROWS,
    cast::ROWS,
    random::ROWS,
    reduce::ROWS,
    scan::ROWS,
    scatter::ROWS,
    top_k::ROWS,
    chosen::ROWS,
    require::ROWS,
    sized::ROWS,
    suppress::ROWS,
];

/// All rows.
pub fn rows() -> impl Iterator<Item = &'static Operator> {
    FAMILIES
        .iter()
        .chain(compositions::FAMILIES)
        .chain(elementwise::FAMILIES)
        .chain(movement::FAMILIES)
        .chain(nn::FAMILIES)
        .chain(ml::FAMILIES)
        .flat_map(|f| f.iter())
}

/// The row of an operator.
pub fn find(domain: &str, name: &str) -> Option<&'static Operator> {
    rows().find(|r| r.domain == domain && r.name == name)
}
