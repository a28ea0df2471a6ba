//! Tables of which rows are picked lie as the product that multiplies by them packs them.
//!
//! A language model's embedding is its last product's weights as well, and mostly the largest tensor of all. The
//! product reads tiles of rows; what picks single rows finds their elements a tile's width apart: some
//! cache lines more for each token, and the table is in flash once.
//!
//! Before: `e[i, k] = T[row, k]`. After: `e[i, k] = P[row / width, k / group, row % width, k % group]`, where `P` is `T`
//! packed: words of bytes hold a group of neighbours, elsewhere there is one.

use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{
    DefBuilder, Definition, Expr, ExprId, Index, LoweredValue, Lowering, ValueId, definitions,
    each_definition,
};
use crate::error::Result;
use crate::group::{TABLE, plain_var, replace_loads, row_tables, split_vars, with_vars};
use crate::nest::PackedRows;
use crate::scalar::{Op, Scalar};
use crate::schedule::linear::Layout;
use std::collections::HashSet;

/// Stages in which rows are picked of packed tables.
pub(super) struct Laid {
    pub lowering: Lowering,
    pub layouts: Vec<Layout>,
    /// The tables that were packed so.
    pub tables: HashSet<ValueId>,
}

/// Gives where the rows of a definition's operand are as it packs them, and what it reads then.
pub(super) type Rows<'a> = dyn Fn(&Definition, u32) -> Result<Option<(PackedRows, Vec<u8>)>> + 'a;

/// Packs the tables that a product reads as well; `None` where there are none.
pub(super) fn lay(lowering: &Lowering, layouts: &[Layout], rows: &Rows) -> Result<Option<Laid>> {
    let definitions = definitions(&lowering.stages);
    let mut laid = Laid { lowering: Lowering::default(), layouts: Vec::new(), tables: HashSet::new() };
    for table in tables(lowering, &definitions) {
        let Some((packed, tensor)) = packed(lowering, &definitions, table, rows)? else { continue };
        if laid.tables.is_empty() {
            (laid.lowering, laid.layouts) = (lowering.clone(), layouts.to_vec());
        }
        let Laid { lowering: Lowering { values, stages, .. }, layouts, .. } = &mut laid;
        let name = format!("{}.tiles", values[table as usize].name);
        let tiles = Tiles { table, value: values.len() as ValueId, rows: packed, ty: tensor.ty.clone() };
        if !definitions.iter().all(|def| tiles.splits(def)) {
            continue;
        }
        layouts.push(Layout::dense(&tensor.ty.shape));
        values.push(LoweredValue { name, ty: tensor.ty.clone(), constant: Some(tensor) });
        each_definition(stages, &mut |def| {
            if let Some(picked) = tiles.picked(def) {
                *def = picked;
            }
        });
        laid.tables.insert(table);
    }
    Ok((!laid.tables.is_empty()).then_some(laid))
}

/// A table as the first of the products that pack it by rows has it.
fn packed(
    lowering: &Lowering,
    definitions: &[&Definition],
    table: ValueId,
    rows: &Rows,
) -> Result<Option<(PackedRows, Tensor)>> {
    let ty = &lowering.values[table as usize].ty;
    for def in definitions.iter().filter(|def| def.fold.is_some()) {
        let Some(operand) = def.operands.iter().position(|o| o.value == table) else { continue };
        let Some((packed, bytes)) = rows(def, operand as u32)? else { continue };
        let tiles = bytes.len() / (packed.width * packed.depth * ty.dtype.size());
        let PackedRows { width, depth, group } = packed;
        let shape = TensorType::new(ty.dtype, [tiles, depth / group, width, group]);
        if packed.depth == ty.shape[1]
            && let Some(tensor) = Tensor::from_bytes(shape, bytes)
        {
            return Ok(Some((packed, tensor)));
        }
    }
    Ok(None)
}

/// The large constant matrices of which definitions pick rows.
fn tables(lowering: &Lowering, definitions: &[&Definition]) -> Vec<ValueId> {
    let large = |v: &ValueId| {
        let constant = lowering.values[*v as usize].constant.as_ref();
        constant.is_some_and(|t| t.ty.shape.len() == 2 && t.data.len() >= TABLE && t.ty.dtype.bits() >= 8)
    };
    let mut tables: Vec<ValueId> = definitions.iter().flat_map(|def| row_tables(def)).filter(large).collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}

/// The computed row and the column of an index.
fn picked(index: &[Index]) -> Option<(ExprId, &Affine)> {
    match index {
        [Index::Dynamic(row), Index::Affine(column)] => Some((*row, column)),
        _ => None,
    }
}

/// A table as tiles of rows.
struct Tiles {
    table: ValueId,
    value: ValueId,
    rows: PackedRows,
    ty: TensorType,
}

impl Tiles {
    /// The forms of the columns that a definition reads of picked rows.
    fn columns<'a>(&self, def: &'a Definition) -> impl Iterator<Item = &'a Affine> {
        let table = self.table;
        def.exprs.iter().filter_map(move |e| match e {
            Expr::Load { operand, index, .. } if def.operands[*operand as usize].value == table => {
                Some(picked(index)?.1)
            }
            _ => None,
        })
    }

    /// Whether all columns that a definition reads of picked rows can be told apart by their place in a group: each is
    /// an axis of whole groups.
    fn splits(&self, def: &Definition) -> bool {
        let whole = |form: &Affine| {
            plain_var(form).is_some_and(|v| {
                let var = &def.vars[v as usize];
                (v as usize) < def.axes && var.size.is_none() && var.extent.is_multiple_of(self.rows.group)
            })
        };
        self.rows.group == 1 || self.columns(def).all(whole)
    }

    /// A definition with the rows that it picks from the tiles in the place of the table's; `None` where it picks none.
    fn picked(&self, def: &Definition) -> Option<Definition> {
        let mut parts = vec![None; def.vars.len()];
        let group = self.rows.group;
        for v in self.columns(def).filter(|_| group > 1).filter_map(plain_var) {
            let groups = def.vars[v as usize].extent / group;
            parts[v as usize] = Some(vec![(0, group as i64, groups), (1, 1, group)]);
        }
        let split = if group > 1 { Some(with_vars(def, &split_vars(def, &parts))?) } else { None };
        let def = split.as_ref().unwrap_or(def);
        let replaced = replace_loads(def, &mut |b, operand, index, fill| {
            let operand = &def.operands[operand as usize];
            let (row, column) = picked(index).filter(|_| operand.value == self.table)?;
            Some(self.load(b, (row, column), operand.ty.shape[0], fill))
        })?;
        replaced.operands.iter().any(|o| o.value == self.value).then_some(replaced)
    }

    /// An element of a row, of so many. The number of the tile lies outside where that of the row does.
    fn load(
        &self,
        b: &mut DefBuilder,
        (row, column): (ExprId, &Affine),
        rows: usize,
        fill: Option<Scalar>,
    ) -> ExprId {
        let mut number = |n: usize| b.constant(Scalar::from_i64(DType::I64, n as i64));
        let [none, rows, width, outside] = [0, rows, self.rows.width, self.ty.shape[0]].map(&mut number);
        let tile = b.op(Op::Div, &[row, width]);
        let before = b.op(Op::Mul, &[tile, width]);
        let lane = b.op(Op::Sub, &[row, before]);
        let inside = b.op(Op::Lt, &[row, rows]);
        let tile = b.op(Op::Select, &[inside, tile, outside]);
        let negative = b.op(Op::Lt, &[row, none]);
        let tile = b.op(Op::Select, &[negative, outside, tile]);
        let [group, beside] = self.grouped(column).map(Index::Affine);
        b.load_at(self.value, &self.ty, vec![Index::Dynamic(tile), group, Index::Dynamic(lane), beside], fill)
    }

    /// The number of a column's group, and its place there.
    fn grouped(&self, column: &Affine) -> [Affine; 2] {
        let size = self.rows.group as i64;
        let (whole, beside) = column.terms.iter().partition(|t| t.1 % size == 0);
        let group = |terms: Vec<(u32, i64)>| terms.into_iter().map(|(v, by)| (v, by / size)).collect();
        [
            Affine { base: column.base / size, terms: group(whole) },
            Affine { base: column.base % size, terms: beside },
        ]
    }
}
