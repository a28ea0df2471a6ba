//! Reads the text form of definitions and lowerings (grammar in `docs/ir.md`).

use super::types::type_of;
use super::{
    Carry, Definition, Expr, ExprId, Index, LoweredValue, Lowering, Operand, Reduction, Repeat, Routine,
    Size, Slice, Stage, Strips, ValueId, Var, View,
};
use crate::base::lex::Cursor;
use crate::base::{Affine, DType, TensorType, elements};
use crate::error::Result;
use crate::scalar::{Fold, Op, Scalar};
use crate::tile;

/// Reads one definition. Errors name the line. What the grammar allows need not be valid: that is for
/// [`super::explain`] and [`super::verify`].
pub fn parse_definition(text: &str) -> Result<Definition> {
    let mut cursor = Cursor::new(text)?;
    let definition = definition(&mut cursor)?;
    cursor.end()?;
    Ok(definition)
}

/// Reads a lowering, whose long constants must have been printed in full.
pub fn parse(text: &str) -> Result<Lowering> {
    let mut cursor = Cursor::new(text)?;
    cursor.expect("lowering")?;
    cursor.expect("{")?;
    let mut lowering = Lowering::default();
    while let Some(id) = value_ahead(&cursor) {
        if id as usize != lowering.values.len() {
            return Err(cursor.expected(&format!("v{}", lowering.values.len())));
        }
        value(&mut cursor)?;
        let name = cursor.name("a name")?;
        cursor.expect(":")?;
        let ty = tensor_type(&mut cursor)?;
        let constant = if cursor.eat("=") { Some(elements::read(&mut cursor, &ty)?) } else { None };
        lowering.values.push(LoweredValue { name, ty, constant });
    }
    while cursor.eat("size") {
        lowering.sizes.push(declared_size(&mut cursor)?);
    }
    while cursor.eat("dims") {
        let value = value(&mut cursor)?;
        cursor.expect("[")?;
        let mut dims = vec![cursor.affine(&|_| None)?];
        while cursor.eat(",") {
            dims.push(cursor.affine(&|_| None)?);
        }
        cursor.expect("]")?;
        lowering.dims.insert(value, dims);
    }
    lowering.stages = stages(&mut cursor)?;
    cursor.end()?;
    Ok(lowering)
}

/// `3 { view v9 of v2 dim 2 from 0 step 4 ... }`, behind the first word.
fn strips(cursor: &mut Cursor) -> Result<Strips> {
    let count = cursor.int()?;
    cursor.expect("{")?;
    let mut views = Vec::new();
    while cursor.eat("view") {
        let part = value(cursor)?;
        cursor.expect("of")?;
        let whole = value(cursor)?;
        let mut number = |word: &str| {
            cursor.expect(word)?;
            cursor.int::<usize>()
        };
        let (dim, start, step) = (number("dim")?, number("from")?, number("step")?);
        views.push(View { whole, part, dim, start, step });
    }
    Ok(Strips { count, views, body: stages(cursor)? })
}

/// `?0 seq = v3 <= 128`, behind the first word.
fn declared_size(cursor: &mut Cursor) -> Result<Size> {
    cursor.expect("?")?;
    cursor.int::<usize>()?;
    let name = if cursor.is("=") { None } else { Some(cursor.name("a name")?) };
    cursor.expect("=")?;
    let value = value(cursor)?;
    cursor.expect("<=")?;
    let max = cursor.int()?;
    Ok(Size { name, value, max, sample: max, least: 1, sum: None, step: (1, 0) })
}

fn number_of(name: &str) -> Option<ValueId> {
    name.strip_prefix('v')?.parse().ok()
}

/// The number of the value that is next, if one is.
fn value_ahead(cursor: &Cursor) -> Option<ValueId> {
    number_of(cursor.peek_name()?)
}

fn value(cursor: &mut Cursor) -> Result<ValueId> {
    let name = cursor.name("a value")?;
    number_of(&name).ok_or_else(|| cursor.error(format!("'{name}' is no value: those are v0, v1, ...")))
}

fn element_type(cursor: &mut Cursor) -> Result<DType> {
    let name = cursor.name("an element type")?;
    DType::from_name(&name).ok_or_else(|| cursor.error(format!("no element type '{name}'")))
}

fn tensor_type(cursor: &mut Cursor) -> Result<TensorType> {
    let dtype = element_type(cursor)?;
    cursor.expect("[")?;
    let mut shape: Vec<usize> = Vec::new();
    while !cursor.eat("]") {
        shape.push(cursor.int()?);
        if !cursor.is("]") {
            cursor.expect(",")?;
        }
    }
    let bytes = shape.iter().try_fold(dtype.size(), |n, d| n.checked_mul(*d));
    if bytes.is_none_or(|b| b > isize::MAX as usize) {
        return Err(cursor.error("the tensor is too large"));
    }
    Ok(TensorType { dtype, shape })
}

fn operand(cursor: &mut Cursor) -> Result<Operand> {
    let value = value(cursor)?;
    cursor.expect(":")?;
    Ok(Operand { value, ty: tensor_type(cursor)? })
}

/// Stages up to the closing brace, which is taken.
fn stages(cursor: &mut Cursor) -> Result<Vec<Stage>> {
    let mut stages = Vec::new();
    while !cursor.eat("}") {
        stages.push(stage(cursor)?);
    }
    Ok(stages)
}

fn stage(cursor: &mut Cursor) -> Result<Stage> {
    if cursor.is("define") {
        return definition(cursor).map(Stage::Define);
    }
    if cursor.eat("routine") {
        let mut operands = Vec::new();
        while !cursor.is("kernel") {
            operands.push(operand(cursor)?);
            if !cursor.is("kernel") {
                cursor.expect(",")?;
            }
        }
        return Ok(Stage::Routine(Routine { operands, kernel: tile::read(cursor)? }));
    }
    if cursor.eat("reshape") {
        let to = value(cursor)?;
        cursor.expect("=")?;
        return Ok(Stage::Reshape { from: value(cursor)?, to });
    }
    if cursor.eat("strips") {
        return strips(cursor).map(Stage::Strips);
    }
    cursor.expect("repeat")?;
    let (count, size) = (cursor.int()?, size(cursor)?);
    let condition = if cursor.eat("while") { Some(value(cursor)?) } else { None };
    let (slices, carries, body) = (Vec::new(), Vec::new(), Vec::new());
    let mut repeat = Repeat { count, size, condition, slices, carries, body };
    cursor.expect("{")?;
    while cursor.eat("slice") {
        let written = cursor.eat("write");
        if !written {
            cursor.expect("read")?;
        }
        let part = value(cursor)?;
        cursor.expect("of")?;
        let whole = value(cursor)?;
        repeat.slices.push(Slice { whole, part, reversed: cursor.eat("reversed"), written });
    }
    while cursor.eat("carry") {
        let state = value(cursor)?;
        cursor.expect("from")?;
        let initial = value(cursor)?;
        cursor.expect("next")?;
        let next = value(cursor)?;
        cursor.expect("last")?;
        repeat.carries.push(Carry { initial, state, next, last: value(cursor)? });
    }
    repeat.body = stages(cursor)?;
    Ok(Stage::Repeat(repeat))
}

fn definition(cursor: &mut Cursor) -> Result<Definition> {
    cursor.expect("define")?;
    let name = cursor.name("a name")?;
    cursor.expect("{")?;
    let mut vars = Vec::new();
    let axes = if cursor.eat("axes") { variables(cursor, &mut vars)? } else { 0 };
    if cursor.eat("over") {
        variables(cursor, &mut vars)?;
    }
    let mut operands = Vec::new();
    while cursor.eat("read") {
        operands.push(operand(cursor)?);
    }
    cursor.expect("write")?;
    let output = operand(cursor)?;
    let d = Definition {
        name,
        vars,
        axes,
        operands,
        output,
        store: Vec::new(),
        exprs: Vec::new(),
        fold: None,
        finish: 0,
    };
    let mut body = Body { cursor, d, types: Vec::new() };
    body.read()?;
    Ok(body.d)
}

/// A size known only at run time, `size ?0:128 + 5`, where one stands.
fn size(cursor: &mut Cursor) -> Result<Option<Affine>> {
    Ok(if cursor.eat("size") { Some(cursor.affine(&|_| None)?) } else { None })
}

/// Reads `n < 1, oc < 64`; returns how many variables are known then.
fn variables(cursor: &mut Cursor, vars: &mut Vec<Var>) -> Result<usize> {
    loop {
        let name = cursor.name("a variable")?;
        cursor.expect("<")?;
        let extent = cursor.int()?;
        vars.push(Var { name, extent, size: size(cursor)? });
        if !cursor.eat(",") {
            return Ok(vars.len());
        }
    }
}

/// The part of a definition behind its operands.
struct Body<'a> {
    cursor: &'a mut Cursor,
    d: Definition,
    /// Types of the expressions, as their arguments say.
    types: Vec<Option<DType>>,
}

impl Body<'_> {
    fn read(&mut self) -> Result<()> {
        loop {
            if self.cursor.is("%") {
                self.expression()?;
            } else if self.cursor.eat("fold") {
                let name = self.cursor.name("a fold")?;
                let op =
                    Fold::from_name(&name).ok_or_else(|| self.cursor.error(format!("no fold '{name}'")))?;
                let dtype = element_type(self.cursor)?;
                self.d.fold = Some(Reduction { op, dtype, body: self.id()? });
            } else {
                self.cursor.expect("store")?;
                let stored = value(self.cursor)?;
                if stored != self.d.output.value {
                    return Err(self.cursor.error("not the value that is declared as written"));
                }
                self.d.store = self.list("[", "]", |b| b.affine())?;
                self.cursor.expect("=")?;
                self.d.finish = self.id()?;
                return self.cursor.expect("}");
            }
        }
    }

    fn list<T>(&mut self, open: &str, close: &str, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        self.cursor.expect(open)?;
        while !self.cursor.eat(close) {
            items.push(item(self)?);
            if !self.cursor.is(close) {
                self.cursor.expect(",")?;
            }
        }
        Ok(items)
    }

    fn id(&mut self) -> Result<ExprId> {
        self.cursor.expect("%")?;
        self.cursor.int()
    }

    fn affine(&mut self) -> Result<Affine> {
        let vars = &self.d.vars;
        self.cursor.affine(&|n| vars.iter().position(|v| v.name == n).map(|i| i as u32))
    }

    /// `%2: f32 = mul %0, %1`; expressions are numbered in order, and typed as their arguments say.
    fn expression(&mut self) -> Result<()> {
        let id = self.id()?;
        if id as usize != self.d.exprs.len() {
            return Err(self.cursor.error(format!("the next expression is %{}", self.d.exprs.len())));
        }
        self.cursor.expect(":")?;
        let dtype = element_type(self.cursor)?;
        self.cursor.expect("=")?;
        let expr = self.operation(dtype)?;
        let ty = type_of(&self.d, &self.types, &expr);
        if let Some(ty) = ty.filter(|ty| *ty != dtype) {
            return Err(self.cursor.error(format!("%{id} is {ty}, not {dtype}")));
        }
        self.types.push(ty);
        self.d.exprs.push(expr);
        Ok(())
    }

    fn operation(&mut self, dtype: DType) -> Result<Expr> {
        let here = self.cursor.expected("an operation");
        let name = self.cursor.name("an operation")?;
        if let Some(op) = Op::from_name(&name) {
            let mut args = vec![self.id()?];
            while self.cursor.eat(",") {
                args.push(self.id()?);
            }
            return Ok(Expr::Op(op, args));
        }
        match name.as_str() {
            "const" => self.scalar(dtype).map(Expr::Const),
            "index" => self.affine().map(Expr::Index),
            "acc" => Ok(Expr::Acc),
            "load" => {
                let value = value(self.cursor)?;
                let operand = self.d.operands.iter().position(|o| o.value == value);
                let operand =
                    operand.ok_or_else(|| self.cursor.error(format!("v{value} is not read")))? as u32;
                let index = self.list("[", "]", |b| match b.cursor.is("%") {
                    true => b.id().map(Index::Dynamic),
                    false => b.affine().map(Index::Affine),
                })?;
                let fill = if self.cursor.eat("else") { Some(self.scalar(dtype)?) } else { None };
                Ok(Expr::Load { operand, index, fill })
            }
            "cast" => {
                let to = element_type(self.cursor)?;
                let saturate = !self.cursor.eat("overflow");
                Ok(Expr::Cast { to, saturate, arg: self.id()? })
            }
            "bitcast" => Ok(Expr::Bitcast { to: element_type(self.cursor)?, arg: self.id()? }),
            _ => Err(here),
        }
    }

    fn scalar(&mut self, dtype: DType) -> Result<Scalar> {
        Ok(Scalar { dtype, bits: elements::read_element(self.cursor, dtype)? })
    }
}
