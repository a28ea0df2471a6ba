//! The function `run`: performs the steps of a program.
//!
//! `int32_t run(const void *const *inputs, void *const *outputs, int64_t *symbols, void *arena)` in
//! the platform's convention. Each call fills one table of pointers on the stack; a result other
//! than 0 ends the run and is its result.

use super::{Code, cranelift};
use crate::error::{Error, Result};
use crate::plan::{Arg, Base, Program, Step};
use crate::target::{Arch, Target};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, ExtFuncData, ExternalName, FuncRef, Function, GlobalValue, GlobalValueData,
    InstBuilder, MemFlagsData, Signature, StackSlot, StackSlotData, StackSlotKind, UserExternalName,
    UserFuncName, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use std::collections::HashMap;

/// Encodes the function `run` of a program.
pub(super) fn encode(program: &Program, target: &Target) -> Result<Code> {
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
    let widest = program.kernels.iter().map(|k| k.params.len()).max().unwrap_or(0).max(1);
    let table =
        b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * widest as u32, 3));
    let failed = b.create_block();
    b.append_block_param(failed, types::I32);
    b.set_cold_block(failed);
    let (kernels, constants, counters) = (HashMap::new(), HashMap::new(), Vec::new());
    let mut driver =
        Driver { program, b, inputs, outputs, symbols, arena, table, failed, kernels, constants, counters };
    driver.steps(&program.steps)?;
    driver.finish();
    driver.b.finalize(isa.frontend_config());
    cranelift::finish(function, &*isa)
}

fn signature(target: &Target) -> Signature {
    use target_lexicon::OperatingSystem::{Uefi, Windows};
    let windows = matches!(target.triple.operating_system, Windows | Uefi);
    let convention = match target.arch {
        Arch::X86_64 if windows => CallConv::WindowsFastcall,
        _ => CallConv::SystemV,
    };
    let mut signature = Signature::new(convention);
    signature.params = vec![AbiParam::new(types::I64); 4];
    signature.returns.push(AbiParam::new(types::I32));
    signature
}

struct Driver<'a> {
    program: &'a Program,
    b: FunctionBuilder<'a>,
    inputs: Value,
    outputs: Value,
    symbols: Value,
    arena: Value,
    /// The table of pointers.
    table: StackSlot,
    /// Returns its parameter.
    failed: Block,
    kernels: HashMap<u32, FuncRef>,
    constants: HashMap<u32, GlobalValue>,
    /// The iteration numbers of the repetitions around, outermost first.
    counters: Vec<Variable>,
}

impl Driver<'_> {
    fn steps(&mut self, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| match step {
            Step::Call { kernel, args } => self.call(*kernel, args),
            Step::Repeat { count, trip, cond, body } => {
                self.repeat(*count, trip.as_ref(), cond.as_ref(), body)
            }
            Step::If { cond, then, otherwise } => self.branch(cond, then, otherwise),
        })
    }

    fn call(&mut self, kernel: u32, args: &[Arg]) -> Result<()> {
        let params = self.program.kernels.get(kernel as usize).map(|k| k.params.len());
        if params != Some(args.len()) {
            return Err(Error::bug(format!("the call of kernel {kernel} does not fit its parameters")));
        }
        for (i, arg) in args.iter().enumerate() {
            let pointer = self.pointer(arg)?;
            self.b.ins().stack_store(types::I64, pointer, self.table, 8 * i as i32);
        }
        let function = self.kernel(kernel);
        let table = self.b.ins().stack_addr(types::I64, self.table, 0);
        let call = self.b.ins().call(function, &[table]);
        if !self.program.kernels[kernel as usize].can_fail() {
            return Ok(());
        }
        let code = self.b.inst_results(call)[0];
        let next = self.b.create_block();
        self.b.ins().brif(code, self.failed, &[BlockArg::Value(code)], next, &[]);
        self.b.switch_to_block(next);
        Ok(())
    }

    fn repeat(&mut self, count: u64, trip: Option<&Arg>, cond: Option<&Arg>, body: &[Step]) -> Result<()> {
        let mut limit = self.b.ins().iconst(types::I64, count.min(i64::MAX as u64) as i64);
        if let Some(trip) = trip {
            let pointer = self.pointer(trip)?;
            let trip = self.b.ins().load(types::I64, MemFlagsData::new().with_notrap(), pointer, 0);
            let fewer = self.b.ins().icmp(IntCC::SignedLessThan, trip, limit);
            limit = self.b.ins().select(fewer, trip, limit);
        }
        let counter = self.b.declare_var(types::I64);
        let zero = self.b.ins().iconst(types::I64, 0);
        self.b.def_var(counter, zero);
        let (header, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().jump(header, &[]);
        self.b.switch_to_block(header);
        let at = self.b.use_var(counter);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, at, limit);
        self.b.ins().brif(more, inside, &[], exit, &[]);
        self.b.switch_to_block(inside);
        self.counters.push(counter);
        if let Some(cond) = cond {
            let truth = self.truth(cond)?;
            let go = self.b.create_block();
            self.b.ins().brif(truth, go, &[], exit, &[]);
            self.b.switch_to_block(go);
        }
        self.steps(body)?;
        self.counters.pop();
        let at = self.b.use_var(counter);
        let next = self.b.ins().iadd_imm_s(at, 1);
        self.b.def_var(counter, next);
        self.b.ins().jump(header, &[]);
        self.b.switch_to_block(exit);
        Ok(())
    }

    fn branch(&mut self, cond: &Arg, then: &[Step], otherwise: &[Step]) -> Result<()> {
        let truth = self.truth(cond)?;
        let (yes, no, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(truth, yes, &[], no, &[]);
        for (block, steps) in [(yes, then), (no, otherwise)] {
            self.b.switch_to_block(block);
            self.steps(steps)?;
            self.b.ins().jump(join, &[]);
        }
        self.b.switch_to_block(join);
        Ok(())
    }

    fn finish(&mut self) {
        let ok = self.b.ins().iconst(types::I32, 0);
        self.b.ins().return_(&[ok]);
        self.b.switch_to_block(self.failed);
        let code = self.b.block_params(self.failed)[0];
        self.b.ins().return_(&[code]);
        self.b.seal_all_blocks();
    }

    /// The boolean an argument points to.
    fn truth(&mut self, arg: &Arg) -> Result<Value> {
        let pointer = self.pointer(arg)?;
        Ok(self.b.ins().load(types::I8, MemFlagsData::new().with_notrap(), pointer, 0))
    }

    fn pointer(&mut self, arg: &Arg) -> Result<Value> {
        let mut pointer = match arg.base {
            Base::Input(i) => self.entry(self.inputs, i),
            Base::Output(i) => self.entry(self.outputs, i),
            Base::Arena => self.arena,
            Base::Symbols => self.symbols,
            Base::Constant(i) => {
                let constant = self.constant(i);
                self.b.ins().symbol_value(types::I64, constant)
            }
        };
        if arg.offset != 0 {
            pointer = self.b.ins().iadd_imm_s(pointer, arg.offset as i64);
        }
        if arg.strides.len() > self.counters.len() {
            return Err(Error::bug("an argument moves with more repetitions than surround it"));
        }
        for (i, &stride) in arg.strides.iter().enumerate().filter(|(_, s)| **s != 0) {
            let at = self.b.use_var(self.counters[i]);
            let moved = self.b.ins().imul_imm_s(at, stride);
            pointer = self.b.ins().iadd(pointer, moved);
        }
        Ok(pointer)
    }

    /// An entry of the caller's table of inputs or outputs.
    fn entry(&mut self, table: Value, index: u32) -> Value {
        self.b.ins().load(types::I64, MemFlagsData::trusted(), table, 8 * index as i32)
    }

    fn kernel(&mut self, index: u32) -> FuncRef {
        if let Some(&known) = self.kernels.get(&index) {
            return known;
        }
        let name = self.external(0, index);
        let signature = self.b.import_signature(cranelift::kernel_signature());
        let function =
            self.b.import_function(ExtFuncData { name, signature, colocated: true, patchable: false });
        self.kernels.insert(index, function);
        function
    }

    fn constant(&mut self, index: u32) -> GlobalValue {
        if let Some(&known) = self.constants.get(&index) {
            return known;
        }
        let name = self.external(1, index);
        let data = GlobalValueData::Symbol { name, offset: 0.into(), colocated: true, tls: false };
        let value = self.b.create_global_value(data);
        self.constants.insert(index, value);
        value
    }

    fn external(&mut self, namespace: u32, index: u32) -> ExternalName {
        let name = self.b.func.declare_imported_user_function(UserExternalName { namespace, index });
        ExternalName::user(name)
    }
}
