//! The function `run`: performs the steps of a program.
//!
//! `int32_t run(const void *const *inputs, void *const *outputs, int64_t *symbols, void *arena)` in
//! the platform's convention reads the words that [`super::steps`] makes. Each operation's arguments are
//! put in one table of pointers on the stack; a kernel's result other than 0 ends the run and is its
//! result. What no step needs is not there.

use super::cranelift;
use super::steps::{OPERATION, Operation, Segment, Steps};
use super::{Code, Symbol};
use crate::error::{Error, Result};
use crate::plan::{Base, Program};
use crate::target::{Arch, Target};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, ExternalName, Function, GlobalValueData, InstBuilder, MemFlagsData, Signature,
    StackSlot, StackSlotData, StackSlotKind, UserExternalName, UserFuncName, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

/// Bytes of what is kept of a repetition: the iteration's number, and how many there are.
const LEVEL: i64 = 16;

/// Encodes the function `run` of a program with the given steps.
pub(super) fn encode(program: &Program, steps: &Steps, target: &Target) -> Result<Code> {
    let isa = cranelift::isa(target)?;
    let mut function = Function::with_name_signature(UserFuncName::default(), signature(target));
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut function, &mut context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let [inputs, outputs, symbols, arena] = *b.block_params(entry) else {
        return Err(Error::bug("`run` has four parameters"));
    };
    let widest = program.kernels.iter().map(|k| k.params.len()).max().unwrap_or(0) + 1;
    let mut slot = |bytes: usize| {
        b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 3))
    };
    let (table, starts) = (slot(8 * widest), slot(8 * steps.segments.len().max(1)));
    let levels = slot((LEVEL as usize * steps.depth).max(8));
    let (next, failed) = (b.create_block(), b.create_block());
    b.append_block_param(failed, types::I32);
    let (at, level) = (b.declare_var(types::I64), b.declare_var(types::I64));
    let mut driver = Driver { steps, b, table, starts, levels, next, failed, at, level };
    for (i, segment) in steps.segments.iter().enumerate() {
        let start = driver.start(segment, [inputs, outputs, symbols, arena]);
        driver.b.ins().stack_store(types::I64, start, starts, 8 * i as i32);
    }
    driver.operations();
    driver.b.finalize(isa.frontend_config());
    cranelift::finish(function, &*isa)
}

/// Whether functions are called as Microsoft's compilers do.
pub(super) fn windows(target: &Target) -> bool {
    use target_lexicon::OperatingSystem::{Uefi, Windows};
    matches!(target.triple.operating_system, Windows | Uefi)
}

fn signature(target: &Target) -> Signature {
    let convention = match target.arch {
        Arch::X86_64 if windows(target) => CallConv::WindowsFastcall,
        _ => CallConv::SystemV,
    };
    let mut signature = Signature::new(convention);
    signature.params = vec![AbiParam::new(types::I64); 4];
    signature.returns.push(AbiParam::new(types::I32));
    signature
}

struct Driver<'a> {
    steps: &'a Steps,
    b: FunctionBuilder<'a>,
    /// An operation's arguments.
    table: StackSlot,
    /// Where the segments begin.
    starts: StackSlot,
    /// The repetitions around, outermost first.
    levels: StackSlot,
    /// Performs the next operation.
    next: Block,
    /// Returns its parameter.
    failed: Block,
    /// The next word.
    at: Variable,
    /// Bytes of [`Driver::levels`] in use.
    level: Variable,
}

impl Driver<'_> {
    /// Where a segment begins.
    fn start(&mut self, segment: &Segment, [inputs, outputs, symbols, arena]: [Value; 4]) -> Value {
        let mut entry =
            |table, i: u32| self.b.ins().load(types::I64, MemFlagsData::trusted(), table, 8 * i as i32);
        let start = match segment.base {
            Some(Base::Input(i)) => entry(inputs, i),
            Some(Base::Output(i)) => entry(outputs, i),
            Some(Base::Arena) => arena,
            Some(Base::Symbols) => symbols,
            Some(Base::Constant(_)) => self.symbol(Symbol::Constants),
            None => self.symbol(Symbol::Numbers),
        };
        match segment.offset {
            0 => start,
            offset => self.b.ins().iadd_imm_s(start, offset),
        }
    }

    /// The loop over the operations.
    fn operations(&mut self) {
        let (first, none) = (self.symbol(Symbol::Steps), self.b.ins().iconst(types::I64, 0));
        self.b.def_var(self.at, first);
        self.b.def_var(self.level, none);
        self.go_on();
        self.b.switch_to_block(self.next);
        let word = self.word();
        let count = self.b.ins().band_imm_u(word, (1 << OPERATION) - 1);
        self.arguments(count);
        let operation = self.b.ins().ushr_imm_u(word, i64::from(OPERATION));
        let used: Vec<Operation> =
            Operation::ALL.into_iter().filter(|o| self.steps.used.contains(o)).collect();
        let mut other = self.b.create_block();
        self.b.ins().jump(other, &[]);
        for (i, one) in used.iter().enumerate() {
            self.b.switch_to_block(other);
            if i + 1 < used.len() {
                let this = self.b.create_block();
                other = self.b.create_block();
                let is = self.b.ins().icmp_imm_u(IntCC::Equal, operation, *one as i64);
                self.b.ins().brif(is, this, &[], other, &[]);
                self.b.switch_to_block(this);
            }
            self.perform(*one, count);
        }
        self.b.switch_to_block(self.failed);
        let code = self.b.block_params(self.failed)[0];
        self.b.ins().return_(&[code]);
        self.b.seal_all_blocks();
    }

    /// Puts the arguments in the table.
    fn arguments(&mut self, count: Value) {
        let (head, one, done) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let (left, to) = (self.b.declare_var(types::I64), self.b.declare_var(types::I64));
        let table = self.b.ins().stack_addr(types::I64, self.table, 0);
        self.b.def_var(left, count);
        self.b.def_var(to, table);
        self.b.ins().jump(head, &[]);
        self.b.switch_to_block(head);
        let some = self.b.use_var(left);
        self.b.ins().brif(some, one, &[], done, &[]);
        self.b.switch_to_block(one);
        let pointer = self.argument();
        let place = self.b.use_var(to);
        self.b.ins().store(MemFlagsData::trusted(), pointer, place, 0);
        self.add(to, 8);
        self.add(left, -1);
        self.b.ins().jump(head, &[]);
        self.b.switch_to_block(done);
    }

    fn argument(&mut self) -> Value {
        let word = self.word();
        let shift = self.steps.shift;
        let offset = self.b.ins().band_imm_u(word, (1 << shift) - 1);
        let number = match self.steps.moving {
            true => self.b.ins().band_imm_u(word, (1 << 31) - 1),
            false => word,
        };
        let number = self.b.ins().ushr_imm_u(number, i64::from(shift));
        let bytes = self.b.ins().ishl_imm_u(number, 3);
        let starts = self.b.ins().stack_addr(types::I64, self.starts, 0);
        let start = self.b.ins().iadd(starts, bytes);
        let start = self.b.ins().load(types::I64, MemFlagsData::trusted(), start, 0);
        let pointer = self.b.ins().iadd(start, offset);
        match self.steps.moving {
            true => self.moved(word, pointer),
            false => pointer,
        }
    }

    /// A pointer moved by the iterations around where a word says so.
    fn moved(&mut self, word: Value, pointer: Value) -> Value {
        let (head, one, done) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let (result, up) = (self.b.declare_var(types::I64), self.b.declare_var(types::I64));
        self.b.def_var(result, pointer);
        let none = self.b.ins().iconst(types::I64, 0);
        self.b.def_var(up, none);
        let moves = self.b.ins().ushr_imm_u(word, 31);
        self.b.ins().brif(moves, head, &[], done, &[]);
        self.b.switch_to_block(head);
        let (level, end) = (self.b.use_var(up), self.b.use_var(self.level));
        let more = self.b.ins().icmp(IntCC::SignedLessThan, level, end);
        self.b.ins().brif(more, one, &[], done, &[]);
        self.b.switch_to_block(one);
        let stride = self.signed();
        let iteration = self.level(level);
        let iteration = self.b.ins().load(types::I64, MemFlagsData::trusted(), iteration, 0);
        let moved = self.b.ins().imul(stride, iteration);
        let pointer = self.b.use_var(result);
        let pointer = self.b.ins().iadd(pointer, moved);
        self.b.def_var(result, pointer);
        self.add(up, LEVEL);
        self.b.ins().jump(head, &[]);
        self.b.switch_to_block(done);
        self.b.use_var(result)
    }

    fn call(&mut self) {
        let distance = self.signed();
        let kernels = self.symbol(Symbol::Kernels);
        let kernel = self.b.ins().iadd(kernels, distance);
        let table = self.b.ins().stack_addr(types::I64, self.table, 0);
        let signature = self.b.import_signature(cranelift::kernel_signature());
        let call = self.b.ins().call_indirect(signature, kernel, &[table]);
        let code = self.b.inst_results(call)[0];
        self.b.ins().brif(code, self.failed, &[BlockArg::Value(code)], self.next, &[]);
    }

    /// What an operation does whose arguments are in the table.
    fn perform(&mut self, operation: Operation, count: Value) {
        match operation {
            Operation::Call => self.call(),
            Operation::Begin => self.begin(count),
            Operation::Next => self.next_iteration(),
            Operation::End => {
                self.add(self.level, -LEVEL);
                self.go_on();
            }
            Operation::Go => self.go(),
            Operation::GoUnless => {
                let pointer = self.b.ins().stack_load(types::I64, types::I64, self.table, 0);
                let truth = self.b.ins().load(types::I8, MemFlagsData::new().with_notrap(), pointer, 0);
                self.go_unless(truth);
            }
            Operation::Done => {
                let ok = self.b.ins().iconst(types::I32, 0);
                self.b.ins().return_(&[ok]);
            }
        }
    }

    fn begin(&mut self, count: Value) {
        let (low, high) = (self.word(), self.word());
        let high = self.b.ins().ishl_imm_u(high, 32);
        let limit = self.b.declare_var(types::I64);
        let most = self.b.ins().bor(low, high);
        self.b.def_var(limit, most);
        let (fewer, ready) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(count, fewer, &[], ready, &[]);
        self.b.switch_to_block(fewer);
        let pointer = self.b.ins().stack_load(types::I64, types::I64, self.table, 0);
        let trip = self.b.ins().load(types::I64, MemFlagsData::new().with_notrap(), pointer, 0);
        let is_less = self.b.ins().icmp(IntCC::SignedLessThan, trip, most);
        let least = self.b.ins().select(is_less, trip, most);
        self.b.def_var(limit, least);
        self.b.ins().jump(ready, &[]);
        self.b.switch_to_block(ready);
        let level = self.b.use_var(self.level);
        let level = self.level(level);
        let (before, limit) = (self.b.ins().iconst(types::I64, -1), self.b.use_var(limit));
        self.b.ins().store(MemFlagsData::trusted(), before, level, 0);
        self.b.ins().store(MemFlagsData::trusted(), limit, level, 8);
        self.add(self.level, LEVEL);
        self.go_on();
    }

    fn next_iteration(&mut self) {
        let level = self.b.use_var(self.level);
        let level = self.level(level);
        let flags = MemFlagsData::trusted();
        let iteration = self.b.ins().load(types::I64, flags, level, -LEVEL as i32);
        let iteration = self.b.ins().iadd_imm_s(iteration, 1);
        self.b.ins().store(flags, iteration, level, -LEVEL as i32);
        let limit = self.b.ins().load(types::I64, flags, level, 8 - LEVEL as i32);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, iteration, limit);
        self.go_unless(more);
    }

    /// Goes on at the distance that follows, or behind it.
    fn go_unless(&mut self, truth: Value) {
        let (stay, leave) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(truth, stay, &[], leave, &[]);
        self.b.switch_to_block(leave);
        self.go();
        self.b.switch_to_block(stay);
        self.add(self.at, 4);
        self.go_on();
    }

    fn go(&mut self) {
        let distance = self.signed();
        let at = self.b.use_var(self.at);
        let at = self.b.ins().iadd(at, distance);
        self.b.def_var(self.at, at);
        self.go_on();
    }

    fn go_on(&mut self) {
        self.b.ins().jump(self.next, &[]);
    }

    /// The address of a level of repetition.
    fn level(&mut self, level: Value) -> Value {
        let levels = self.b.ins().stack_addr(types::I64, self.levels, 0);
        self.b.ins().iadd(levels, level)
    }

    /// The next word.
    fn word(&mut self) -> Value {
        let at = self.b.use_var(self.at);
        let word = self.b.ins().uload32(MemFlagsData::trusted(), at, 0);
        self.add(self.at, 4);
        word
    }

    /// The next word as a signed number.
    fn signed(&mut self) -> Value {
        let at = self.b.use_var(self.at);
        let word = self.b.ins().sload32(MemFlagsData::trusted(), at, 0);
        self.add(self.at, 4);
        word
    }

    fn add(&mut self, var: Variable, number: i64) {
        let value = self.b.use_var(var);
        let sum = self.b.ins().iadd_imm_s(value, number);
        self.b.def_var(var, sum);
    }

    /// The address of a thing outside.
    fn symbol(&mut self, symbol: Symbol) -> Value {
        let name = UserExternalName { namespace: 0, index: symbol as u32 };
        let name = ExternalName::user(self.b.func.declare_imported_user_function(name));
        let data = GlobalValueData::Symbol { name, offset: 0.into(), colocated: true, tls: false };
        let value = self.b.create_global_value(data);
        self.b.ins().symbol_value(types::I64, value)
    }
}
