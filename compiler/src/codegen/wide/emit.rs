//! Instructions with registers to bytes: choice of encodings, prologue and epilogue, constants
//! after the code.
//!
//! VEX is chosen over EVEX where it can say the same, as it is shorter, unless EVEX's compressed
//! displacement saves more.

use super::inst::{Arg, Base, Function, Inst, Mem};
use super::pool::Pool;
use super::rows::{Kind, Op};
use super::{Isa, Result};
use crate::codegen;
use crate::codegen::live::Instruction as _;
use iced_x86::{
    BlockEncoder, BlockEncoderOptions, Code, Instruction, InstructionBlock, MemoryOperand, OpKind, Register,
};

/// Instruction addresses that stand for labels begin here: far from any real address.
const LABELS: u64 = 1 << 40;

const CALLEE_SAVED: &[Register] =
    &[Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

/// Encodes a function whose registers have numbers.
pub fn emit(f: &Function, numbers: &[u8], isa: Isa) -> Result<codegen::Code> {
    let mut emitter = Emitter {
        numbers,
        isa,
        out: Vec::new(),
        pool: Pool::default(),
        slots: Vec::new(),
        frame: 0,
        aligned: false,
        label: None,
    };
    emitter.slots = emitter.place_slots(f);
    emitter.pool = Pool::place(&f.pool);
    let saved = emitter.saved(f);
    emitter.prologue(&saved);
    for inst in &f.insts {
        emitter.inst(inst, &saved)?;
    }
    let encode = |pool_at: u64| -> Result<Vec<u8>> {
        let mut out = emitter.out.clone();
        for instruction in out.iter_mut().filter(|i| i.memory_base() == Register::RIP) {
            instruction.set_memory_displacement64(instruction.memory_displacement64() + pool_at);
        }
        let block = InstructionBlock::new(&out, 0);
        BlockEncoder::encode(64, block, BlockEncoderOptions::NONE)
            .map(|r| r.code_buffer)
            .map_err(|e| e.to_string())
    };
    let align = emitter.pool.align;
    let code = encode(1 << 24)?.len();
    let pool_at = code.next_multiple_of(align);
    let mut bytes = encode(pool_at as u64)?;
    bytes.resize(pool_at, 0xcc);
    bytes.extend_from_slice(&emitter.pool.bytes);
    let padding = if emitter.aligned { 56 } else { 0 };
    let stack = emitter.frame + padding + 8 * saved.len() + 8;
    Ok(codegen::Code { bytes, align: align.max(16) as u64, relocs: Vec::new(), stack })
}

struct Emitter<'a> {
    numbers: &'a [u8],
    isa: Isa,
    out: Vec<Instruction>,
    pool: Pool,
    /// Offsets from the stack pointer.
    slots: Vec<i64>,
    frame: usize,
    /// Whether the frame is at a multiple of 64; rbp then has the stack pointer before it.
    aligned: bool,
    /// The label of the next instruction.
    label: Option<i64>,
}

impl Emitter<'_> {
    fn place_slots(&mut self, f: &Function) -> Vec<i64> {
        let mut offsets = vec![0; f.slots.len()];
        let mut order: Vec<usize> = (0..f.slots.len()).collect();
        // Pointers first: they need short displacements.
        order.sort_by_key(|&s| f.slots[s]);
        for slot in order {
            self.frame = self.frame.next_multiple_of(f.slots[slot]);
            offsets[slot] = self.frame as i64;
            self.frame += f.slots[slot];
        }
        self.aligned = f.aligned_stack();
        if self.aligned {
            self.frame = self.frame.next_multiple_of(64);
        }
        offsets
    }

    fn saved(&self, f: &Function) -> Vec<Register> {
        let used = |reg: &&Register| {
            let mut found = self.aligned && **reg == Register::RBP;
            for inst in &f.insts {
                inst.visit(|r, _, _| {
                    let gpr = f.regs[r as usize].class == super::inst::Class::General;
                    found |= gpr && Register::RAX + u32::from(self.numbers[r as usize]) == **reg;
                });
            }
            found
        };
        CALLEE_SAVED.iter().filter(used).copied().collect()
    }

    fn prologue(&mut self, saved: &[Register]) {
        saved.iter().for_each(|&r| self.registers(Code::Push_r64, &[r]));
        if self.aligned {
            self.registers(Code::Mov_r64_rm64, &[Register::RBP, Register::RSP]);
        }
        if self.frame > 0 {
            self.with_imm(Code::Sub_rm64_imm32, Register::RSP, self.frame as i64, OpKind::Immediate32to64);
        }
        if self.aligned {
            self.with_imm(Code::And_rm64_imm8, Register::RSP, -64, OpKind::Immediate8to64);
        }
    }

    fn push(&mut self, mut instruction: Instruction) {
        if let Some(label) = self.label.take() {
            instruction.set_ip(LABELS + label as u64);
        }
        self.out.push(instruction);
    }

    fn registers(&mut self, code: Code, registers: &[Register]) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        for (i, &r) in registers.iter().enumerate() {
            instruction.set_op_kind(i as u32, OpKind::Register);
            instruction.set_op_register(i as u32, r);
        }
        self.push(instruction);
    }

    fn with_imm(&mut self, code: Code, register: Register, imm: i64, kind: OpKind) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        instruction.set_op_kind(0, OpKind::Register);
        instruction.set_op_register(0, register);
        set_immediate(&mut instruction, 1, imm, kind);
        self.push(instruction);
    }

    fn number(&self, arg: &Arg) -> Option<u8> {
        match arg {
            Arg::Reg(r) => Some(self.numbers[*r as usize]),
            _ => None,
        }
    }

    fn inst(&mut self, inst: &Inst, saved: &[Register]) -> Result<()> {
        let same = inst.args.len() == 2
            && inst.mask.is_none()
            && self.number(&inst.args[0]) == self.number(&inst.args[1]);
        match inst.op {
            Op::Movaps | Op::KMove | Op::Mov if same && self.number(&inst.args[0]).is_some() => {}
            Op::Arguments => {}
            Op::Label => self.place_label(inst),
            Op::Fma16 | Op::Fma32 | Op::Fma64 => self.multiply_add(inst)?,
            Op::Zero => {
                let zero = inst.args[0];
                self.row(Op::Pxor, &Inst { args: vec![zero; 3], width: 16, ..inst.clone() })?;
            }
            Op::KZero | Op::KOnes => {
                let op = if inst.op == Op::KZero { Op::KXor } else { Op::KXnor };
                self.row(op, &Inst { args: vec![inst.args[0]; 3], ..inst.clone() })?;
            }
            Op::Ret => self.epilogue(inst, saved),
            _ => match inst.jump() {
                Some(label) => self.jump(inst.op, label)?,
                None if inst.op.codes().is_empty() => self.immediate(inst)?,
                None => self.row(inst.op, inst)?,
            },
        }
        Ok(())
    }

    fn place_label(&mut self, inst: &Inst) {
        if self.label.is_some() {
            self.registers(Code::Nopd, &[]);
        }
        if let Arg::Imm(label) = inst.args[0] {
            self.label = Some(label);
        }
    }

    fn jump(&mut self, op: Op, label: i64) -> Result<()> {
        let code = match op {
            Op::Je => Code::Je_rel32_64,
            Op::Jne => Code::Jne_rel32_64,
            Op::Jl => Code::Jl_rel32_64,
            Op::Jge => Code::Jge_rel32_64,
            Op::Jg => Code::Jg_rel32_64,
            Op::Js => Code::Js_rel32_64,
            _ => Code::Jmp_rel32_64,
        };
        let jump = Instruction::with_branch(code, LABELS + label as u64).map_err(|e| e.to_string())?;
        self.push(jump);
        Ok(())
    }

    fn epilogue(&mut self, inst: &Inst, saved: &[Register]) {
        if self.aligned {
            self.registers(Code::Mov_r64_rm64, &[Register::RSP, Register::RBP]);
        } else if self.frame > 0 {
            self.with_imm(Code::Add_rm64_imm32, Register::RSP, self.frame as i64, OpKind::Immediate32to64);
        }
        saved.iter().rev().for_each(|&r| self.registers(Code::Pop_r64, &[r]));
        self.registers(Code::VEX_Vzeroupper, &[]);
        match inst.args[0] {
            Arg::Imm(code) if code != 0 => {
                self.with_imm(Code::Mov_r32_imm32, Register::EAX, code, OpKind::Immediate32);
            }
            _ => self.registers(Code::Xor_r32_rm32, &[Register::EAX, Register::EAX]),
        }
        self.registers(Code::Retnq, &[]);
    }

    /// Instructions on a general register and a number, in their shortest form.
    fn immediate(&mut self, inst: &Inst) -> Result<()> {
        let [target, Arg::Imm(value)] = inst.args[..] else {
            return Err(format!("operands of {:?}", inst.op));
        };
        if inst.op == Op::MovImm {
            let number = u32::from(self.number(&target).unwrap_or(0));
            match u32::try_from(value) {
                Ok(0) => self.registers(Code::Xor_r32_rm32, &[Register::EAX + number; 2]),
                Ok(_) => {
                    self.with_imm(Code::Mov_r32_imm32, Register::EAX + number, value, OpKind::Immediate32)
                }
                Err(_) => {
                    self.with_imm(Code::Mov_r64_imm64, Register::RAX + number, value, OpKind::Immediate64)
                }
            }
            return Ok(());
        }
        let byte = i8::try_from(value).is_ok();
        let (code, value) = match (inst.op, byte) {
            (Op::AddImm, _) if value == 128 => (Code::Sub_rm64_imm8, -128),
            (Op::AddImm, true) => (Code::Add_rm64_imm8, value),
            (Op::AddImm, false) => (Code::Add_rm64_imm32, value),
            (Op::CmpImm, true) => (Code::Cmp_rm64_imm8, value),
            (Op::CmpImm, false) => (Code::Cmp_rm64_imm32, value),
            (Op::AndImm, _) => (Code::And_rm32_imm32, value),
            (Op::XorImm, _) => (Code::Xor_rm32_imm32, value),
            (Op::SubImm, _) => (Code::Sub_rm32_imm32, value),
            (Op::ShrImm, _) => (Code::Shr_rm32_imm8, value),
            (Op::TestImm, _) => (Code::Test_rm32_imm32, value),
            (op, _) => return Err(format!("{op:?} has no encoding")),
        };
        let kind = match (inst.op, i8::try_from(value)) {
            (Op::AddImm | Op::CmpImm, Ok(_)) => OpKind::Immediate8to64,
            (Op::AddImm | Op::CmpImm, _) => OpKind::Immediate32to64,
            (Op::ShrImm, _) => OpKind::Immediate8,
            _ => OpKind::Immediate32,
        };
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        self.operand(&mut instruction, 0, inst.op.operands()[0].kind, &target, inst.width)?;
        set_immediate(&mut instruction, 1, value, kind);
        self.push(instruction);
        Ok(())
    }

    /// `dst = acc + a * b`: the form that leaves the destination in place.
    fn multiply_add(&mut self, inst: &Inst) -> Result<()> {
        let [dst, acc, a, b] = inst.args[..] else { return Err("operands of a multiply-add".into()) };
        let n = |arg: &Arg| self.number(arg);
        let is = |arg: &Arg| n(arg).is_some() && n(arg) == n(&dst);
        let (f132, f213, f231) = match inst.op {
            Op::Fma16 => (Op::Fma132ph, Op::Fma213ph, Op::Fma231ph),
            Op::Fma32 => (Op::Fma132ps, Op::Fma213ps, Op::Fma231ps),
            _ => (Op::Fma132pd, Op::Fma213pd, Op::Fma231pd),
        };
        let memory = |arg: &Arg| matches!(arg, Arg::Mem(_));
        // Multiplication commutes: a memory operand, or the destination, where the form wants it.
        let (a, b) = if memory(&a) || is(&b) && !memory(&b) { (b, a) } else { (a, b) };
        let (op, args) = if is(&acc) {
            (f231, [dst, a, b])
        } else if is(&a) && memory(&b) {
            (f132, [dst, acc, b])
        } else if is(&a) {
            (f213, [dst, b, acc])
        } else if memory(&acc) {
            self.row(Op::Movaps, &Inst { args: vec![dst, a], ..inst.clone() })?;
            (f213, [dst, b, acc])
        } else {
            self.row(Op::Movaps, &Inst { args: vec![dst, acc], ..inst.clone() })?;
            (f231, [dst, a, b])
        };
        self.row(op, &Inst { args: args.to_vec(), ..inst.clone() })
    }

    fn row(&mut self, op: Op, inst: &Inst) -> Result<()> {
        let code = self.code(op, inst)?;
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        for (i, (arg, operand)) in inst.args.iter().zip(op.operands()).enumerate() {
            match (arg, operand.kind) {
                (Arg::Imm(imm), _) => {
                    let kind = if op == Op::ImulImm { OpKind::Immediate32to64 } else { OpKind::Immediate8 };
                    set_immediate(&mut instruction, i as u32, *imm, kind);
                }
                _ => self.operand(&mut instruction, i as u32, operand.kind, arg, inst.width)?,
            }
        }
        if let Some(mask) = inst.mask {
            instruction.set_op_mask(Register::K0 + u32::from(self.numbers[mask as usize]));
            let selects = matches!(op, Op::KBlend8 | Op::KBlend16 | Op::KBlend32 | Op::KBlend64);
            let zeroes = !inst.merge
                && !selects
                && !matches!(inst.args[0], Arg::Mem(_))
                && op.operands()[0].kind != Kind::Mask;
            instruction.set_zeroing_masking(zeroes);
        }
        self.push(instruction);
        Ok(())
    }

    fn code(&self, op: Op, inst: &Inst) -> Result<Code> {
        let codes = op.codes();
        if codes.len() == 1 {
            return Ok(codes[0]);
        }
        let column = match inst.width {
            16 => 0,
            32 => 1,
            _ => 2,
        };
        let vex = codes.get(column).copied().filter(|_| column < 2).unwrap_or(Code::INVALID);
        let evex = codes[2 + column];
        let high = |arg: &Arg| {
            let vector = |r: u32| self.numbers[r as usize] >= 16;
            matches!(arg, Arg::Reg(r) if vector(*r))
        };
        let needs_evex = inst.mask.is_some()
            || inst.args.iter().any(|a| high(a) || matches!(a, Arg::Mem(m) if m.broadcast))
            || (matches!(op, Op::Pdpbusd | Op::Pdpwssd) && !self.isa.vex_dot)
            || self.compresses(inst);
        let code = match (vex, evex) {
            (Code::INVALID, e) => e,
            (v, Code::INVALID) => v,
            (v, e) => {
                if needs_evex && self.isa.masks {
                    e
                } else {
                    v
                }
            }
        };
        if code == Code::INVALID || (!self.isa.masks && code != vex) {
            return Err(format!("{op:?} of {} bits has no encoding here", 8 * inst.width));
        }
        Ok(code)
    }

    /// Whether EVEX makes the displacement one byte where VEX does not.
    fn compresses(&self, inst: &Inst) -> bool {
        inst.args.iter().any(|a| match a {
            Arg::Mem(Mem { base: Base::Reg(_), disp, .. }) => {
                let width = inst.width as i64;
                i8::try_from(*disp).is_err() && disp % width == 0 && i8::try_from(disp / width).is_ok()
            }
            _ => false,
        })
    }

    fn register(&self, kind: Kind, r: u32, width: usize) -> Result<Register> {
        let number = u32::from(self.numbers[r as usize]);
        let vector = |bytes: usize| match bytes {
            64 => Register::ZMM0,
            32 => Register::YMM0,
            _ => Register::XMM0,
        };
        if number == u32::from(u8::MAX) {
            return Err("a register is read that nothing wrote".into());
        }
        if let Some(bytes) = kind.bytes(width) {
            return Ok(number + vector(bytes));
        }
        Ok(number
            + match kind {
                Kind::Mask => Register::K0,
                Kind::Gpr64 => Register::RAX,
                Kind::Gpr32 => Register::EAX,
                _ => return Err("a register in the place of memory".into()),
            })
    }

    fn operand(&self, to: &mut Instruction, i: u32, kind: Kind, arg: &Arg, width: usize) -> Result<()> {
        match arg {
            Arg::Reg(r) => {
                to.set_op_kind(i, OpKind::Register);
                to.set_op_register(i, self.register(kind, *r, width)?);
            }
            Arg::Mem(m) => {
                to.set_op_kind(i, OpKind::Memory);
                let memory = self.memory(m)?;
                to.set_memory_base(memory.base);
                to.set_memory_index(memory.index);
                to.set_memory_index_scale(memory.scale);
                to.set_memory_displacement64(memory.displacement as u64);
                to.set_memory_displ_size(memory.displ_size);
                to.set_is_broadcast(memory.is_broadcast);
            }
            Arg::Imm(_) => return Err("a number in the place of a register".into()),
        }
        Ok(())
    }

    fn memory(&self, m: &Mem) -> Result<MemoryOperand> {
        let gpr = |r: u32| Register::RAX + u32::from(self.numbers[r as usize]);
        let (base, disp, size) = match m.base {
            Base::Reg(r) => (gpr(r), m.disp, u32::from(m.disp != 0)),
            Base::Slot(s) => (Register::RSP, self.slots[s as usize] + m.disp, 1),
            Base::Pool(p) => (Register::RIP, self.pool.offsets[p as usize] as i64 + m.disp, 8),
        };
        if i32::try_from(disp).is_err() {
            return Err("a displacement over 2 GiB".into());
        }
        let (index, scale) = m.index.map_or((Register::None, 1), |(r, s)| (gpr(r), s));
        Ok(MemoryOperand::new(base, index, scale, disp, size, m.broadcast, Register::None))
    }
}

fn set_immediate(instruction: &mut Instruction, i: u32, value: i64, kind: OpKind) {
    instruction.set_op_kind(i, kind);
    match kind {
        OpKind::Immediate8 => instruction.set_immediate8(value as u8),
        OpKind::Immediate8to64 => instruction.set_immediate8to64(value),
        OpKind::Immediate32 => instruction.set_immediate32(value as u32),
        OpKind::Immediate32to64 => instruction.set_immediate32to64(value),
        _ => instruction.set_immediate64(value as u64),
    }
}
