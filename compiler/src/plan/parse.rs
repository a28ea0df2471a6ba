//! Reads the text form of programs (grammar in `docs/ir.md`).

use super::{Arg, Base, Constant, Interface, Program, Step, Symbol};
use crate::base::lex::Cursor;
use crate::base::{DType, TensorType, elements};
use crate::error::Result;
use crate::tile;

/// Reads a program, whose long constants must have been printed in full. Errors name the line. What
/// the grammar allows need not be valid: that is for [`super::verify`].
pub fn parse(text: &str) -> Result<Program> {
    let mut cursor = Cursor::new(text)?;
    cursor.expect("program")?;
    let mut program = Program {
        name: cursor.name("a name")?,
        inputs: Vec::new(),
        outputs: Vec::new(),
        symbols: Vec::new(),
        arena_bytes: 0,
        arena_align: 1,
        arena_bound: 0,
        constants: Vec::new(),
        kernels: Vec::new(),
        steps: Vec::new(),
        macs: 0,
    };
    cursor.expect("{")?;
    head(&mut cursor, &mut program)?;
    while cursor.is("kernel") {
        program.kernels.push(tile::read(&mut cursor)?);
    }
    program.steps = steps(&mut cursor, &program)?;
    cursor.end()?;
    Ok(program)
}

fn head(cursor: &mut Cursor, program: &mut Program) -> Result<()> {
    while cursor.eat("symbol") {
        program.symbols.push(symbol(cursor)?);
    }
    while cursor.eat("input") {
        program.inputs.push(interface(cursor, &program.symbols)?);
    }
    while cursor.eat("output") {
        program.outputs.push(interface(cursor, &program.symbols)?);
    }
    cursor.expect("arena")?;
    program.arena_bytes = cursor.int()?;
    cursor.expect("align")?;
    program.arena_align = cursor.int()?;
    cursor.expect("bound")?;
    program.arena_bound = cursor.int()?;
    cursor.expect("macs")?;
    program.macs = cursor.int()?;
    while cursor.eat("const") {
        let name = cursor.name("a name")?;
        cursor.expect(":")?;
        cursor.expect("u8")?;
        cursor.expect("[")?;
        let ty = TensorType::new(DType::U8, [cursor.int::<u32>()? as usize]);
        cursor.expect("]")?;
        cursor.expect("align")?;
        let align = cursor.int()?;
        cursor.expect("=")?;
        let bytes = elements::read(cursor, &ty)?.data.to_vec();
        program.constants.push(Constant { name, bytes, align });
    }
    Ok(())
}

fn symbol(cursor: &mut Cursor) -> Result<Symbol> {
    let name = if cursor.is("<=") { None } else { Some(cursor.name("a name")?) };
    cursor.expect("<=")?;
    let max = cursor.int()?;
    let Some(name) = name else { return Ok(Symbol::computed(max)) };
    let mut symbol = Symbol::given(&name, max);
    if cursor.eat("from") {
        symbol.least = cursor.int()?;
        cursor.expect("step")?;
        symbol.step = cursor.int()?;
    }
    if cursor.eat("is") {
        let (mut terms, mut number) = (Vec::new(), cursor.int()?);
        while cursor.eat("*") {
            cursor.expect("?")?;
            terms.push((cursor.int()?, number));
            cursor.expect("+")?;
            number = cursor.int()?;
        }
        symbol.sum = Some((terms, number));
    }
    Ok(symbol)
}

fn interface(cursor: &mut Cursor, symbols: &[Symbol]) -> Result<Interface> {
    let name = cursor.name("a name")?;
    cursor.expect(":")?;
    let dtype = cursor.name("an element type")?;
    let dtype = DType::from_name(&dtype).ok_or_else(|| cursor.error(format!("no element type '{dtype}'")))?;
    cursor.expect("[")?;
    let (mut shape, mut symbolic) = (Vec::new(), Vec::new());
    while !cursor.eat("]") {
        if cursor.eat("?") {
            let number: u32 = cursor.int()?;
            let symbol = symbols.get(number as usize);
            shape.push(symbol.ok_or_else(|| cursor.error(format!("no symbol {number}")))?.max);
            symbolic.push(Some(number));
        } else {
            shape.push(cursor.int::<u32>()? as usize);
            symbolic.push(None);
        }
        if !cursor.is("]") {
            cursor.expect(",")?;
        }
    }
    Ok(Interface { name, ty: TensorType { dtype, shape }, symbolic })
}

/// Steps up to the closing brace, which is taken.
fn steps(cursor: &mut Cursor, program: &Program) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    while !cursor.eat("}") {
        steps.push(step(cursor, program)?);
    }
    Ok(steps)
}

fn step(cursor: &mut Cursor, program: &Program) -> Result<Step> {
    if cursor.eat("call") {
        let name = cursor.name("a kernel")?;
        let found = program.kernels.iter().position(|k| k.name == name);
        let kernel = found.ok_or_else(|| cursor.error(format!("no kernel '{name}'")))? as u32;
        cursor.expect("(")?;
        let mut args = Vec::new();
        while !cursor.eat(")") {
            args.push(argument(cursor)?);
            if !cursor.is(")") {
                cursor.expect(",")?;
            }
        }
        return Ok(Step::Call { kernel, args });
    }
    if cursor.eat("if") {
        let cond = argument(cursor)?;
        cursor.expect("{")?;
        let then = steps(cursor, program)?;
        cursor.expect("else")?;
        cursor.expect("{")?;
        return Ok(Step::If { cond, then, otherwise: steps(cursor, program)? });
    }
    cursor.expect("repeat")?;
    let count = cursor.int()?;
    let trip = if cursor.eat("trip") { Some(argument(cursor)?) } else { None };
    let cond = if cursor.eat("while") { Some(argument(cursor)?) } else { None };
    cursor.expect("{")?;
    Ok(Step::Repeat { count, trip, cond, body: steps(cursor, program)? })
}

fn argument(cursor: &mut Cursor) -> Result<Arg> {
    let name = cursor.name("a buffer")?;
    let numbered = |word: &str| name.strip_prefix(word).and_then(|n| n.parse().ok());
    let base = match name.as_str() {
        "arena" => Some(Base::Arena),
        "symbols" => Some(Base::Symbols),
        _ => (numbered("input").map(Base::Input))
            .or_else(|| numbered("output").map(Base::Output))
            .or_else(|| numbered("const").map(Base::Constant)),
    };
    let base = base.ok_or_else(|| cursor.error(format!("no buffer '{name}'")))?;
    cursor.expect("[")?;
    let form = cursor.affine(&|name| name.strip_prefix('i')?.parse().ok().filter(|&v: &u32| v < 64))?;
    cursor.expect("]")?;
    let offset = usize::try_from(form.base).map_err(|_| cursor.error("the offset is negative"))?;
    let depth = form.terms.last().map_or(0, |t| t.0 + 1);
    Ok(Arg { base, offset, strides: (0..depth).map(|v| form.coefficient(v)).collect() })
}
