//! Reads the text form of kernels (grammar in `docs/ir.md`): the inverse of [`super::text`].

use super::text::{ACCESSES, BINS, CMPS, CONVERTS, DOTS, LANES, UNS, constant_bits};
use super::{Addr, Convert, Kernel, Param, Reg, RegType, Stmt, Value};
use crate::base::lex::Cursor;
use crate::base::{Affine, DType};
use crate::error::Result;
use crate::scalar::Fold;

/// Reads one kernel. Errors name the line. What the grammar allows need not be a valid kernel:
/// that is for [`super::verify`].
pub fn parse(text: &str) -> Result<Kernel> {
    let mut cursor = Cursor::new(text)?;
    let kernel = read(&mut cursor)?;
    cursor.end()?;
    Ok(kernel)
}

/// Reads the kernel that is next in a longer text.
pub fn read(cursor: &mut Cursor) -> Result<Kernel> {
    let mut parser = Parser { cursor, kernel: empty(), types: Vec::new() };
    parser.kernel()?;
    let missing = parser.types.iter().position(Option::is_none);
    if let Some(reg) = missing {
        return Err(parser.cursor.error(format!("the type of %{reg} is said nowhere")));
    }
    parser.kernel.regs = parser.types.into_iter().flatten().collect();
    Ok(parser.kernel)
}

fn empty() -> Kernel {
    Kernel {
        name: String::new(),
        params: Vec::new(),
        vars: Vec::new(),
        regs: Vec::new(),
        fused: false,
        body: Vec::new(),
    }
}

/// A register number past this is a mistake of writing, not a kernel.
const MAX_REGS: u32 = 1 << 20;

struct Parser<'a> {
    cursor: &'a mut Cursor,
    kernel: Kernel,
    /// Types of the registers, as far as said.
    types: Vec<Option<RegType>>,
}

fn find<T: Copy>(table: &[(T, &str)], name: &str) -> Option<T> {
    table.iter().find(|r| r.1 == name).map(|r| r.0)
}

impl Parser<'_> {
    fn kernel(&mut self) -> Result<()> {
        self.cursor.expect("kernel")?;
        self.kernel.name = self.cursor.name("the kernel's name")?;
        self.kernel.fused = self.cursor.eat("fused");
        self.cursor.expect("{")?;
        while let Some((access, word)) = ACCESSES.iter().find(|r| self.cursor.is(r.1)) {
            self.cursor.expect(word)?;
            let name = self.cursor.name("a parameter")?;
            self.cursor.expect(":")?;
            let dtype = self.cursor.name("an element type")?;
            let dtype = DType::from_name(&dtype)
                .ok_or_else(|| self.cursor.error(format!("no element type '{dtype}'")))?;
            self.cursor.expect("[")?;
            let elems = self.cursor.int()?;
            self.cursor.expect("]")?;
            self.kernel.params.push(Param { name, dtype, elems, access: *access });
        }
        if self.cursor.eat("vars") {
            self.kernel.vars.push(self.cursor.name("a variable")?);
            while self.cursor.eat(",") {
                self.kernel.vars.push(self.cursor.name("a variable")?);
            }
        }
        while self.cursor.eat("reg") {
            self.typed_reg()?;
        }
        self.kernel.body = self.block()?;
        Ok(())
    }

    /// Statements up to the closing brace, which is taken.
    fn block(&mut self) -> Result<Vec<Stmt>> {
        let mut body = Vec::new();
        while !self.cursor.eat("}") {
            body.push(self.stmt()?);
        }
        Ok(body)
    }

    fn stmt(&mut self) -> Result<Stmt> {
        if self.cursor.is("%") {
            let dst = self.typed_reg()?;
            self.cursor.expect("=")?;
            return Ok(Stmt::Let(dst, self.value(dst)?));
        }
        if self.cursor.eat("store") {
            let (addr, stride) = self.place(1)?;
            self.cursor.expect("=")?;
            return Ok(Stmt::Store { addr, stride, src: self.reg()? });
        }
        if self.cursor.eat("for") {
            return self.for_loop();
        }
        if self.cursor.eat("size") {
            return self.size();
        }
        if self.cursor.eat("if") {
            let cond = self.reg()?;
            self.cursor.expect("{")?;
            let then = self.block()?;
            let otherwise = if self.cursor.eat("else") {
                self.cursor.expect("{")?;
                self.block()?
            } else {
                Vec::new()
            };
            return Ok(Stmt::If { cond, then, otherwise });
        }
        if self.cursor.eat("loop") {
            self.cursor.expect("{")?;
            return Ok(Stmt::Loop { body: self.block()? });
        }
        if self.cursor.eat("break") {
            self.cursor.expect("if")?;
            return Ok(Stmt::Break { cond: self.reg()? });
        }
        if self.cursor.eat("fail") {
            let code = self.cursor.int()?;
            self.cursor.expect("if")?;
            return Ok(Stmt::Fail { cond: self.reg()?, code });
        }
        Err(self.cursor.expected("a statement"))
    }

    fn size(&mut self) -> Result<Stmt> {
        let name = self.cursor.name("a variable")?;
        let var = self.kernel.vars.iter().position(|v| *v == name);
        let var = var.ok_or_else(|| self.cursor.error(format!("no variable '{name}'")))? as u32;
        self.cursor.expect("=")?;
        let from = self.place(1)?.0;
        self.cursor.expect("<=")?;
        let max = self.cursor.int()?;
        self.cursor.expect("{")?;
        Ok(Stmt::Size { var, from, max, body: self.block()? })
    }

    fn for_loop(&mut self) -> Result<Stmt> {
        let name = self.cursor.name("a variable")?;
        let find = |n: &str| self.kernel.vars.iter().position(|v| v == n).map(|i| i as u32);
        let var = find(&name).ok_or_else(|| self.cursor.error(format!("no variable '{name}'")))?;
        self.cursor.expect("in")?;
        let lo = self.cursor.bound("max", &find)?;
        self.cursor.expect("..")?;
        let hi = self.cursor.bound("min", &find)?;
        let step = if self.cursor.eat("step") { self.cursor.int()? } else { 1 };
        self.cursor.expect("{")?;
        Ok(Stmt::For { var, lo, hi, step, body: self.block()? })
    }

    fn value(&mut self, dst: Reg) -> Result<Value> {
        if self.cursor.is("%") {
            return Ok(Value::Copy(self.reg()?));
        }
        let here = self.cursor.expected("an operation");
        let op = self.cursor.name("an operation")?;
        if let Some(un) = find(UNS, &op) {
            return Ok(Value::Un(un, self.reg()?));
        }
        if let Some(kind) = find(CONVERTS, &op) {
            return Ok(Value::Convert(kind, self.reg()?));
        }
        if let Some(bin) = find(BINS, &op) {
            let [a, b] = self.regs()?;
            return Ok(Value::Bin(bin, a, b));
        }
        if let Some(cmp) = find(CMPS, &op) {
            let [a, b] = self.regs()?;
            return Ok(Value::Cmp(cmp, a, b));
        }
        if let Some(kind) = find(DOTS, &op) {
            let [c, a, b] = self.regs()?;
            return Ok(Value::Dot(kind, c, a, b));
        }
        match op.as_str() {
            "const" => self.constant(dst),
            "index" => {
                let form = self.affine()?;
                let step = if self.cursor.eat("step") { self.cursor.int()? } else { 0 };
                Ok(Value::Index(form, step))
            }
            "load" | "words" | "couples" | "lookup" => self.loaded(&op),
            "mla" => self.regs().map(|[c, a, b]| Value::Mla(c, a, b)),
            "select" => self.regs().map(|[m, a, b]| Value::Select(m, a, b)),
            "sext_low" | "zext_low" => {
                let bits = self.cursor.int()?;
                self.cursor.expect(",")?;
                let kind = if op == "sext_low" { Convert::SextLow(bits) } else { Convert::ZextLow(bits) };
                Ok(Value::Convert(kind, self.reg()?))
            }
            "splat" | "broadcast" | "pairs" | "reduce" => self.across(&op),
            _ => Err(here),
        }
    }

    /// What is read from memory.
    fn loaded(&mut self, op: &str) -> Result<Value> {
        let (addr, stride) = self.place(if op == "words" { 4 } else { 1 })?;
        match op {
            "load" => Ok(Value::Load(addr, stride)),
            "words" => Ok(Value::LoadWords(addr, stride)),
            "couples" if stride == 1 => Ok(Value::LoadCouples(addr)),
            "couples" => Err(self.cursor.error("couples lie side by side".to_string())),
            _ if stride == 1 => {
                self.cursor.expect(",")?;
                Ok(Value::Lookup(addr, self.reg()?))
            }
            _ => Err(self.cursor.error("the entries of a table lie side by side".to_string())),
        }
    }

    /// Lanes that come from other lanes.
    fn across(&mut self, op: &str) -> Result<Value> {
        match op {
            "splat" => self.reg().map(Value::Splat),
            "broadcast" => self.lane().map(|(reg, lane)| Value::Broadcast(reg, lane)),
            "pairs" => {
                let mut pairs = vec![self.lane()?];
                while self.cursor.eat(",") {
                    pairs.push(self.lane()?);
                }
                Ok(Value::Pairs(pairs))
            }
            _ => {
                let name = self.cursor.name("a fold")?;
                let fold = Fold::from_name(&name);
                let fold = fold.ok_or_else(|| self.cursor.error(format!("no fold '{name}'")))?;
                Ok(Value::Reduce(fold, self.reg()?))
            }
        }
    }

    fn constant(&mut self, dst: Reg) -> Result<Value> {
        let text = match () {
            _ if self.cursor.eat("true") => "true".to_string(),
            _ if self.cursor.eat("false") => "false".to_string(),
            _ => self.cursor.number()?,
        };
        let bits = self.types[dst as usize].and_then(|ty| constant_bits(ty.lane, &text));
        bits.map(Value::Const).ok_or_else(|| self.cursor.error(format!("'{text}' is no constant of %{dst}")))
    }

    fn affine(&mut self) -> Result<Affine> {
        let vars = &self.kernel.vars;
        self.cursor.affine(&|n| vars.iter().position(|v| v == n).map(|i| i as u32))
    }

    /// `x[2*oh + 1; %3 <= 15] stride 4`.
    fn place(&mut self, usual: i64) -> Result<(Addr, i64)> {
        let name = self.cursor.name("a parameter")?;
        let param = self.kernel.params.iter().position(|p| p.name == name);
        let param = param.ok_or_else(|| self.cursor.error(format!("no parameter '{name}'")))? as u32;
        self.cursor.expect("[")?;
        let index = self.affine()?;
        let mut dynamic = None;
        if self.cursor.eat(";") {
            let reg = self.reg()?;
            self.cursor.expect("<=")?;
            dynamic = Some((reg, self.cursor.int()?));
        }
        self.cursor.expect("]")?;
        let stride = if self.cursor.eat("stride") { self.cursor.int()? } else { usual };
        Ok((Addr { param, index, dynamic }, stride))
    }

    fn reg(&mut self) -> Result<Reg> {
        self.cursor.expect("%")?;
        let reg: Reg = self.cursor.int()?;
        if reg >= MAX_REGS {
            return Err(self.cursor.error(format!("%{reg} is too large a register number")));
        }
        if self.types.len() <= reg as usize {
            self.types.resize(reg as usize + 1, None);
        }
        Ok(reg)
    }

    /// `%1[2]`.
    fn lane(&mut self) -> Result<(Reg, u8)> {
        let reg = self.reg()?;
        self.cursor.expect("[")?;
        let lane = self.cursor.int()?;
        self.cursor.expect("]")?;
        Ok((reg, lane))
    }

    fn regs<const N: usize>(&mut self) -> Result<[Reg; N]> {
        let mut regs = [0; N];
        for (i, reg) in regs.iter_mut().enumerate() {
            if i > 0 {
                self.cursor.expect(",")?;
            }
            *reg = self.reg()?;
        }
        Ok(regs)
    }

    /// `%3: f32x8`: a register and its type, the same wherever it is said.
    fn typed_reg(&mut self) -> Result<Reg> {
        let reg = self.reg()?;
        self.cursor.expect(":")?;
        let text = self.cursor.name("a register type")?;
        let ty = reg_type(&text).ok_or_else(|| self.cursor.error(format!("no register type '{text}'")))?;
        match self.types[reg as usize].replace(ty) {
            Some(before) if before != ty => {
                Err(self.cursor.error(format!("%{reg} is {ty} here and {before} before")))
            }
            _ => Ok(reg),
        }
    }
}

fn reg_type(text: &str) -> Option<RegType> {
    let (lane, lanes) = text.split_once('x').unwrap_or((text, "1"));
    Some(RegType { lane: find(LANES, lane)?, lanes: lanes.parse().ok()? })
}
